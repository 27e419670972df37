"""The pictures of a folder that are evaluated: which, how they are cut, what is true of them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tactic_codec import picture as image
from tactic_codec.errors import ConfigError, DataError
from tactic_codec.evaluation.cache import digest, picture_hash
from tactic_codec.model import HELD_OUT, Model
from tactic_codec.picture import Pixels
from tactic_codec.tasks import CLASSIFY, TASKS, Question, Task

TRAINING_PICTURES = 2000
"""150 kB each in memory at 224×224, 7 bytes a pixel where they are whole with their label maps and
as decoded; and all are coded for every point."""

T = TypeVar("T")


class Picture(NamedTuple):
    """A picture that is coded.

    Attributes:
        name: path below its folder.
        pixels: uint8 [H, W, 3], a square or whole.
        truth: what the task knows of it; None where nobody does.
        content: hash of the pixels.
        hash: of the pixels, and of the truth where facts depend on it.
    """

    name: str
    pixels: Pixels
    truth: Any
    content: str
    hash: str


@dataclass(frozen=True)
class Folder:
    """The pictures of one folder.

    Attributes:
        name: the folder, as it was given.
        pictures: in the order of their names, at least one.
    """

    name: str
    pictures: tuple[Picture, ...]

    @property
    def labelled(self) -> bool:
        """Whether the truth of all pictures is known."""
        return all(picture.truth is not None for picture in self.pictures)


def cut(task: Question[Any, Any], pixels: Pixels, size: int) -> Pixels:
    """Return what is coded of a picture uint8 [H, W, 3]: all, or a square of so many pixels."""
    return pixels if task.whole else image.square(pixels, size)


def picture(task: Question[Any, Any], name: str, pixels: Pixels, truth: Any) -> Picture:
    """Name a picture, uint8 [H, W, 3] as it is coded, for the cache."""
    content = picture_hash(pixels)
    key = task.key(truth)
    more = f" {digest(key)}" if key else ""
    return Picture(name, pixels, truth, content, content + more)


def folder(
    task: Question[Any, Any], name: str, pictures: Sequence[Picture], labels: Sequence[str]
) -> Folder:
    """Put the pictures of a folder together.

    Args:
        pictures: any order.
        labels: the reference network's.

    Raises:
        DataError: there are no pictures, or their truths are of no use to the network.
    """
    if not pictures:
        raise DataError(f"{name}: no picture is left to evaluate; give other pictures")
    complaint = task.complaint([picture.truth for picture in pictures], labels)
    if complaint:
        raise DataError(f"{name}: {complaint}")
    return Folder(name, tuple(sorted(pictures, key=lambda picture: picture.name)))


def task_of(model: Model, folders: Sequence[str], asked: str | None = None) -> Task[Any, Any]:
    """Return the task that folders are for, of those that a model has a network for.

    Raises:
        ConfigError: they are for several, or for one that the model has no network for.
    """
    found = {folder: _claimant(Path(folder)) for folder in folders}
    if asked and all(task is CLASSIFY for task in found.values()):
        model.head(asked)
        return TASKS[asked]
    for folder, task in found.items():
        if task is not CLASSIFY and task.name not in model.heads:
            raise ConfigError(
                f"{folder} holds {task.truth}, and model {model.name} does not {task.name}; "
                f"name a model that does first, or give the folder {task.pictures}/ alone"
            )
    special = next((task for task in found.values() if task is not CLASSIFY), CLASSIFY)
    for folder, task in found.items():
        if task is not special:
            raise ConfigError(
                f"{folder} does not hold {special.layout}, as other folders here do; "
                f"evaluate pictures with {special.truth} and those without by two commands"
            )
    if special is CLASSIFY and CLASSIFY.name not in model.heads and model.heads:
        other = TASKS[next(iter(model.heads))]
        raise ConfigError(
            f"{folders[0]} does not hold {other.layout}, and model {model.name} "
            f"has no {CLASSIFY.network} for pictures without {other.truth}"
        )
    return special


def _claimant(folder: Path) -> Task[Any, Any]:
    return next((task for task in TASKS.values() if task.claims(folder)), CLASSIFY)


# --- Which ----------------------------------------------------------------------------------------


def held_out(model: Model) -> frozenset[str]:
    """Return the paths of the images that a model's training kept out.

    Raises:
        DataError: the model does not say.
        DamagedModel: its list differs from its manifest, or is not text.
    """
    kept_out = model.held_out()
    if kept_out is None:
        raise DataError(
            f"model {model.name} has no {HELD_OUT} that says which images its training kept out; "
            "leave --held-out away, and give images that it never saw"
        )
    return kept_out


def keep_held_out(folder: str, names: Sequence[str], kept_out: Collection[str]) -> list[str]:
    """Return the names that training kept out, in their order.

    Args:
        folder: for the message.
        names: paths below it, with "/" between their parts.
        kept_out: see `held_out`.

    Raises:
        DataError: there are none.
    """
    chosen = [name for name in names if name in kept_out]
    if not chosen:
        found = f"found {names[0]}" if names else "found no pictures"
        listed = f"the list has {min(kept_out)}" if kept_out else "the list is empty"
        raise DataError(
            f"{folder}: none of its {len(names)} pictures is among the {len(kept_out)} that the "
            f"model's training kept out ({found}, {listed}); give the folder that the model was "
            "trained from, or leave --held-out away if it saw none of these pictures"
        )
    return chosen


def spread(items: Sequence[T], limit: int | None) -> list[T]:
    """Return at most ``limit`` items, spread evenly over them in their order."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]


def thinned(pictures: Sequence[T]) -> list[T]:
    """Return every nth picture to train heads on, so that at most `TRAINING_PICTURES` are left."""
    every = -(-len(pictures) // TRAINING_PICTURES) or 1
    return list(pictures[::every])
