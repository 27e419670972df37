"""The tables of the TACTIC paper: train every row, measure it on real files, print the table.

    python experiments/reproduce.py table1 --size desk --data imagenette/train
    python experiments/reproduce.py table3 --size paper --data camvid/train --test camvid/val \
        --device cuda

``experiments/tables/<table>-<size>.toml`` describes a table: a configuration that all rows share,
and the stages and the paper's figures of each row. ``desk`` is for two cores and some hours,
``paper`` for a GPU; the code is the same. Every row is trained for each seed of the split, and its
result is a file below ``--results``. Existing results are not made again, and an interrupted
training continues, so the same command resumes a table. Without ``--data`` nothing is trained, and
the existing results are shown. Results that were made from another description of the table are
named, left out, and made anew. Results whose numbers of pictures differ from the others' are named
but shown, because nothing tells which of them are of the intended data.

    <results>/<table>-<size>/<row>-seed<n>.json     a result, with its configuration
                             README.md              the table, as it is printed
                             figure2.png, .svg      table 2: accuracy over bits a pixel

A row is one of three kinds:

    stage              the task network alone (quantisation "none"), or codec and network together
    codec, stage       the codec by itself; then it is frozen, and the network learns on its output;
                       with frozen = false both go on together from there, where the stages of
                       the codec may end with one of the task network on what it decodes
    recode, stage      the network alone, on pictures that another codec has coded, at their bytes
"""

import argparse
import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from paper_tables import (
    HERE,
    Recode,
    Result,
    Row,
    Table,
    as_markdown,
    described,
    draw_figure,
    load_table,
    missing,
    of_other_data,
    read_results,
    result_path,
)

from tactic_codec import picture as image
from tactic_codec.errors import (
    BackendUnavailable,
    DataError,
    ImageError,
    LimitExceeded,
    TacError,
)
from tactic_codec.model import Model
from tactic_codec.rivals import RIVALS, rival
from tactic_codec.training.checkpoint import LOG
from tactic_codec.training.command import train_command
from tactic_codec.training.config import parse_config

SUFFIX_OF = {"jpeg": ".jpg", "webp": ".webp", "avif": ".avif"}
STANDARD_JPEG = RIVALS["jpeg"].unasked()
"""The paper's JPEG, as Pillow writes it unasked: the pixels of ours, in more bytes, since its
Huffman tables are those of the standard."""


class Data(NamedTuple):
    """The folders of a table, and where its work and its results go."""

    folders: tuple[Path, ...]
    tests: tuple[Path, ...]
    work: Path
    results: Path
    device: str
    threads: int | None


# --- A row ----------------------------------------------------------------------------------------


def run_row(table: Table, row: Row, seed: int, data: Data) -> dict[str, Any]:
    """Train a row for a seed, unless that was done, and return its result."""
    folders, tests = data.folders, data.tests
    squares: tuple[Path, ...] = ()
    if any(other.recode for other in table.rows):
        # All rows start from the same squares, so that only the codec differs.
        side = int(table.base["data"]["size"])
        squares = tuple(recoded(folder, None, side, data.work) for folder in tests or folders)
        folders = tuple(recoded(folder, row.recode, side, data.work) for folder in folders)
        tests = tuple(recoded(folder, row.recode, side, data.work) for folder in tests)
    start = None
    codec_seconds = 0.0
    if row.codec:
        alone = {**table.base, "seed": seed, "stage": row.codec}
        start, codec_seconds = _trained(alone, folders, tests, data)
    origin = described(table, row, seed)
    config = origin["config"]
    frozen = start is not None and row.frozen
    if start is not None and not row.frozen:
        # Its folder lacks the channels that it left unused; they stay away.
        widths = {k: v for k, v in start.manifest["network"].items() if k != "kind"}
        config = {**config, "network": widths}
    model, took = _trained(config, folders, tests, data, start=start, frozen=frozen)
    figures = _figures(model, row, folders, tests, squares)
    return {
        "row": row.name,
        "seed": seed,
        **figures,
        "seconds": round(took),
        "codec_seconds": round(codec_seconds),
        "threads": data.threads or torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, {data.device}",
        "torch": torch.__version__,
        **origin,
        "data": model.manifest["heads_training"][_task(model)]["data"]
        if frozen
        else model.manifest["training"]["data"],
    }


def _task(model: Model) -> str:
    return "segment" if "segment" in model.heads else "classify"


def _trained(
    config: Mapping[str, Any],
    folders: Sequence[Path],
    tests: Sequence[Path],
    data: Data,
    *,
    start: Model | None = None,
    frozen: bool = False,
) -> tuple[Model, float]:
    """Train a configuration, or find what it was trained to; and the seconds of its steps.

    Args:
        config: to train,
        folders: on these,
        tests: with these to be tested on.
        data: says where and how.
        start: what the weights start from.
        frozen: whether its codec stays as it is.

    Work is kept by what it follows from, so that rows share what they have in common.
    """
    origin = [start.fingerprint.hex(), frozen] if start else None
    named = [str(folder) for folder in (*folders, *tests)]
    key = json.dumps([config, named, origin], sort_keys=True)
    place = data.work / hashlib.sha256(key.encode()).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "model").exists():
        (place / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        train_command(
            parse_config(dict(config), str(place / "config.json")),
            list(folders),
            place / "model",
            tests=list(tests),
            head_only=frozen,
            start=start.path if start else None,
            run=place / "run",
            device=data.device,
            threads=data.threads,
            command=f"python experiments/reproduce.py, seed {config['seed']}",
            say=lambda line: print(f"  {line}", flush=True),
        )
    lines = [json.loads(line) for line in (place / "run" / LOG).read_text().splitlines()]
    return Model(place / "model"), sum(line.get("seconds", 0.0) for line in lines)


def _figures(
    model: Model,
    row: Row,
    folders: Sequence[Path],
    tests: Sequence[Path],
    squares: Sequence[Path],
) -> dict[str, Any]:
    """Return what a row reaches on its test images, from real files.

    ``squares`` are what the folders with the test images were coded from, where that was so.
    """
    (name,) = model.manifest["metrics"]
    figures = dict(model.manifest["metrics"][name])
    coded = any(stage.get("quantisation", "noise") != "none" for stage in row.stage)
    if coded:
        return figures
    # The network alone: what it says of the pictures themselves, whoever coded them.
    shares = {
        key.removeprefix("uncompressed_"): value
        for key, value in figures.items()
        if key.startswith("uncompressed_")
    }
    sizes = {}
    if row.recode:
        held_out = (model.held_out() or frozenset()) if not tests else None
        sizes = _file_sizes(row.recode, tests or folders, squares, held_out)
    return {"images": figures["images"], **sizes, **shares}


def _file_sizes(
    recode: Recode,
    folders: Sequence[Path],
    squares: Sequence[Path],
    names: frozenset[str] | None,
) -> dict[str, float]:
    """Return mean bytes and bpp of coded pictures on disk; of JPEG by its standard tables, too.

    Args:
        recode: by which they were coded.
        folders: that hold them,
        squares: and of each the folder that it was coded from.
        names: of those that count, below their folder; None for all.
    """
    sizes, standard, pixels = [], [], []
    for folder, origin in zip(folders, squares, strict=True):
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            known = names is None or name.as_posix() in names
            if path.suffix not in SUFFIX_OF.values() or not known:
                continue
            square = image.load((origin / name).with_suffix(".png"))
            pixels.append(square.shape[0] * square.shape[1])
            sizes.append(path.stat().st_size)
            if recode.codec == "jpeg":
                standard.append(len(STANDARD_JPEG.encode(square, recode.quality)))
    figures = _means("", sizes, pixels)
    return figures | _means("standard_", standard, pixels) if standard else figures


def _means(prefix: str, sizes: Sequence[int], pixels: Sequence[int]) -> dict[str, float]:
    bits = [8 * size / count for size, count in zip(sizes, pixels, strict=True)]
    return {f"{prefix}bytes": float(np.mean(sizes)), f"{prefix}bpp": float(np.mean(bits))}


def recoded(folder: Path, recode: Recode | None, side: int, work: Path) -> Path:
    """Return a folder with the squares of another's pictures, coded; made where it is missing.

    What cannot be read is left out, as training does, and named on standard error.

    Args:
        folder: of class folders.
        recode: by which codec; None keeps every pixel.
        side: of the squares, in pixels.
        work: where the folder goes.

    Raises:
        DataError: the folder is missing, holds no class folders, no picture that can be read, or
            two whose names differ in their suffix alone.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder; expected one that holds a folder for each class"
        )
    paths = sorted(p for p in folder.glob("*/**/*") if p.suffix.lower() in image.SUFFIXES)
    if not paths:
        raise DataError(
            f"{folder} holds no pictures in class folders; expected <class>/<picture>.jpg inside it"
        )
    names = [path.relative_to(folder) for path in paths]
    origins: dict[Path, Path] = {}  # by the name of what is coded
    for name in names:
        target = name.with_suffix(SUFFIX_OF[recode.codec] if recode else ".png")
        if target in origins:
            # A name of its own might sort otherwise for each codec, and the split goes by order.
            raise DataError(
                f"{folder}: {origins[target]} and {name} would both be coded as {target}; "
                "rename one of them"
            )
        origins[target] = name
    key = json.dumps([str(folder.resolve()), *(name.as_posix() for name in names)])
    how = f"{recode.codec}-{recode.quality}" if recode else "lossless"
    out = work / f"{folder.name}-{how}-{side}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    if (out / "complete").exists():
        return out
    skipped = 0
    for target, name in origins.items():
        try:
            pixels = image.load(folder / name)
        except (ImageError, LimitExceeded, OSError) as exc:
            print(f"skipped {folder / name}: {exc}", file=sys.stderr)
            skipped += 1
            continue
        square = image.square(pixels, side)
        data = (
            rival(recode.codec).encode(square, recode.quality)
            if recode
            else image.save(square, "png")
        )
        (out / target).parent.mkdir(parents=True, exist_ok=True)
        (out / target).write_bytes(data)
    if skipped == len(names):
        raise DataError(f"{folder} holds no picture that can be read")
    (out / "complete").touch()
    return out


# --- The table ------------------------------------------------------------------------------------


def run_table(table: Table, seeds: Sequence[int], data: Data, *, only: str | None = None) -> None:
    """Make every result that is missing."""
    data.results.mkdir(parents=True, exist_ok=True)
    for row, seed in missing(table, seeds, data.results, only=only):
        print(f"{row.name}, seed {seed}", flush=True)
        result = run_row(table, row, seed, data)
        path = result_path(data.results, row.name, seed)
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def say_what_is_left_out(others: Sequence[Path]) -> None:
    """Name on standard error results of another description, and what to do about them."""
    names = ", ".join(map(str, others))
    seeds = " ".join(sorted({path.stem.rpartition("-seed")[2] for path in others}))
    print(
        f"left out, as they were made from another description of the table: {names}; "
        f"make them anew with --data DIR --seeds {seeds}, or delete them",
        file=sys.stderr,
    )


def say_what_is_of_other_data(results: Path, strangers: Sequence[Result]) -> None:
    """Name on standard error results of other data than most, and what to do about them."""
    names = ", ".join(str(result_path(results, r["row"], r["seed"])) for r in strangers)
    print(
        f"shown, though by their numbers of pictures they are of other data than most: {names}; "
        "delete what is not to count, and make it anew with --data DIR",
        file=sys.stderr,
    )


def show_table(table: Table, results: Path) -> None:
    """Print what there is, and write it and its figure beside the results."""
    text = as_markdown(table, results)
    print(text)
    if table.figure:
        try:
            for form, drawn in draw_figure(table, results).items():
                (results / f"{table.figure}.{form}").write_bytes(drawn)
            text += f"\n![{table.title}]({table.figure}.png)\n"
        except BackendUnavailable as exc:
            print(f"{table.figure} is not drawn: {exc}", file=sys.stderr)
    (results / "README.md").write_text(text, encoding="utf-8")


def main() -> None:
    """Run a table from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=["table1", "table2", "table3"])
    parser.add_argument("--size", choices=["desk", "paper"], default="desk")
    parser.add_argument(
        "--data", type=Path, help="by default nothing is trained, and what there is is shown"
    )
    parser.add_argument("--test", type=Path, help="by default a fifth of --data is kept out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--row", help="only this row")
    parser.add_argument("--work", type=Path, default=Path("runs/tables"))
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    table = load_table(given.table, given.size)
    rows = [row.name for row in table.rows]
    if given.row is not None and given.row not in rows:
        parser.error(f"{given.table} has no row {given.row!r}; there are: {', '.join(rows)}")
    data = Data(
        (given.data,) if given.data else (),
        (given.test,) if given.test else (),
        given.work,
        given.results / f"{given.table}-{given.size}",
        given.device,
        given.threads,
    )
    left = [*missing(table, given.seeds, data.results, only=given.row)]
    if data.folders and not left:
        print(f"{data.results} lacks nothing: {given.data} was not read", file=sys.stderr)
    elif data.folders:
        try:
            run_table(table, given.seeds, data, only=given.row)
        except TacError as exc:
            sys.exit(f"{parser.prog}: {exc}")
    elif left:
        row, seed = left[0]
        message = f"{data.results} lacks {row.name} with seed {seed}, and {len(left) - 1} others"
        print(f"{message}; --data DIR makes them", file=sys.stderr)
    found, others = read_results(table, data.results)
    if others:
        say_what_is_left_out(others)
    if strangers := of_other_data(found):
        say_what_is_of_other_data(data.results, strangers)
    if not any(found.values()):
        parser.error(f"there is nothing in {data.results} to show; give --data DIR")
    show_table(table, data.results)


if __name__ == "__main__":
    main()
