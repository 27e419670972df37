"""The pictures of a folder, those that a model's training kept out, and those that it saw.

Benchmarks import this module; by itself it does nothing.
"""

from collections.abc import Sequence
from pathlib import Path

from tactic_codec import picture as image
from tactic_codec.evaluation.pictures import spread
from tactic_codec.model import Model
from tactic_codec.picture import Pixels
from tactic_codec.training.config import DataConfig
from tactic_codec.training.data import scan

SIZE = 224
"""Side of the squares that are coded, in pixels."""


def below(folder: Path, limit: int | None = None) -> list[str]:
    """Return the names of the pictures below a folder, in their order; of more than a limit, some.

    Raises:
        SystemExit: there are none.
    """
    names = [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in image.SUFFIXES
    ]
    if not (found := spread(sorted(names), limit)):
        raise SystemExit(f"{folder} has no pictures in it: give a folder that has some")
    return found


def kept_out(model: Model, folder: Path) -> tuple[list[str], list[str]]:
    """Return the pictures below a folder that a model's training kept out, and the others.

    Both are names below the folder, in their order. Of a model that has no list of what it kept
    out they are drawn again from its seed.

    Raises:
        SystemExit: there are none, or it kept none of them out.
        DataError: they are to be drawn again, and the folder is not laid out as for training.
    """
    names = below(folder)
    listed = model.held_out()
    known = drawn_again(model, folder) if listed is None else listed
    chosen = [name for name in names if name in known]
    if not chosen:
        raise SystemExit(f"none of the pictures below {folder} was kept out of training")
    return chosen, [name for name in names if name not in known]


def drawn_again(model: Model, folder: Path) -> set[str]:
    """Return what training on a folder of class folders kept out by its seed and its shares."""
    training = model.manifest["training"]
    shares = training["config"]["data"]
    split = DataConfig(test=shares["test"], calibration=shares["calibration"])
    classes = model.head("classify").classes
    (part,) = scan([folder], split, training["seed"], classes=classes).parts
    return {example.below(folder) for example in part.test}


def squares(folder: Path, names: Sequence[str], limit: int) -> list[Pixels]:
    """Read at most so many pictures, spread evenly over the names, as uint8 [SIZE, SIZE, 3]."""
    return [image.square(image.load(folder / name), SIZE) for name in spread(names, limit)]
