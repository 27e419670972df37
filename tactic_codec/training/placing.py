"""A model folder comes to its place whole or not at all.

The folder is written beside its place and moved there when it is complete.
"""

import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tactic_codec.errors import OutputExists
from tactic_codec.model import MANIFEST, Model
from tactic_codec.picture import Pixels
from tactic_codec.training.onnx_files import check_runtimes


def check_place(out: Path, *, overwrite: bool) -> None:
    """Refuse a place for a model folder where something would be lost.

    Args:
        out: the folder to be made.
        overwrite: whether a model folder that is there may be replaced.

    Raises:
        OutputExists: it is there and must not be replaced, or holds something other than a model.
    """
    if not out.exists() and not out.is_symlink():
        return
    if not overwrite:
        raise OutputExists(f"{out} exists; choose another name, or overwrite it with --force")
    if not (out / MANIFEST).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise OutputExists(f"{out} exists and is no model folder; choose another name")


def install(model: Model, out: Path, *, overwrite: bool) -> Model:
    """Copy a complete model folder to its place.

    Raises:
        OutputExists: see `check_place`.
    """
    check_place(out, overwrite=overwrite)
    with _beside(out) as new:
        shutil.copytree(model.path, new, dirs_exist_ok=True)
    return Model(out)


def write(out: Path, files: Mapping[str, bytes], example: Pixels) -> Model:
    """Write a folder beside its place, check it, and move it there."""
    with _beside(out) as new:
        for file, data in files.items():
            (new / file).write_bytes(data)
        model = Model(new)
        model.verify()
        check_runtimes(model, example)
    return Model(out)


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """Make a folder that takes the place of ``out`` when it is complete, and goes otherwise."""
    out = out.resolve()  # of a link, what it leads to is replaced
    # Names that nobody else has: what stands beside a model is not ours to remove.
    new, old = (out.with_name(f".{out.name}.{uuid.uuid4().hex}.{end}") for end in ("new", "old"))
    new.mkdir(parents=True)
    try:
        yield new
        if out.exists():
            out.rename(old)
        new.rename(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
