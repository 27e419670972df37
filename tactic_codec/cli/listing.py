"""The pictures of folders for the evaluation room: listed, chosen, read.

folder ─ list ─▶ Listed… ─ choose ─▶ Listed… ─ load ─▶ Picture…
folder ─ list_masks ─▶ Listed… ─ choose ─▶ Listed… ─ load_masks ─▶ MaskPicture…
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, TypeVar

from tactic_codec.cli import files
from tactic_codec.cli.console import Console, display
from tactic_codec.cli.files import Source

if TYPE_CHECKING:
    from tactic_codec.evaluation.pictures import MaskPicture, Picture
    from tactic_codec.picture import Pixels

POOLED = "--train-data"
"""Name of the folder that all training pictures together stand for."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listed:
    """A picture of a folder, with its label map where it has one; or why that cannot be read."""

    source: Source
    weight: int = 1
    labels: Path | None = None

    @property
    def title(self) -> str:
        """What messages call it."""
        return self.source.title

    @property
    def name(self) -> str:
        """Its path below the folder, with "/" between the parts."""
        return PurePath(self.source.relative).as_posix()


def list_folder(console: Console, folder: str) -> list[Listed]:
    """Return the pictures at any depth of a folder, by name."""
    from tactic_codec.picture import SUFFIXES

    sources = files.expand(console, [folder], recursive=True, suffixes=SUFFIXES)
    return sorted(map(Listed, sources), key=lambda listed: listed.name)


def list_masks(console: Console, folder: str) -> list[Listed]:
    """Return the pictures of a folder with label maps, by name: ``images/NAME``."""
    from tactic_codec.evaluation.pictures import IMAGES, LABELS
    from tactic_codec.picture import SUFFIXES

    found = []
    images = os.path.join(folder, IMAGES)
    for source in files.expand(console, [images], recursive=True, suffixes=SUFFIXES):
        labels = Path(folder, LABELS, source.relative).with_suffix(".png")
        # Training's list of what it kept out has names below the folder, too.
        named = replace(source, relative=os.path.join(IMAGES, source.relative))
        found.append(Listed(named, labels=labels))
    return sorted(found, key=lambda listed: listed.name)


def named(folder: str, names: Sequence[str]) -> list[Listed]:
    """Return pictures of a folder by their names below it, with "/" between the parts."""
    return [Listed(Source(os.path.join(folder, name), name)) for name in names]


def choose(
    folder: str, listed: Sequence[Listed], kept_out: frozenset[str] | None, limit: int | None
) -> list[Listed]:
    """Return the pictures to evaluate; what cannot be read stays, to be reported.

    Args:
        folder: for messages.
        listed: its pictures.
        kept_out: names of those that training kept out; None takes all.
        limit: how many to take, spread evenly.

    Raises:
        DataError: training kept none of them out.
    """
    from tactic_codec.evaluation import pictures

    unreadable = [item for item in listed if item.source.problem]
    readable = {item.name: item for item in listed if not item.source.problem}
    names = list(readable)
    if kept_out is not None:
        names = pictures.keep_held_out(display(folder), names, kept_out)
    return unreadable + [readable[name] for name in pictures.spread(names, limit)]


def to_train_on(
    listed: Mapping[str, Sequence[Listed]],
    kept_out: frozenset[str] | None,
    train_data: Sequence[str],
    list_one: Callable[[str], list[Listed]],
) -> dict[str, list[Listed]]:
    """Return the pictures to retrain heads on: of each folder, or all of ``train_data``.

    Args:
        listed: the folders that are evaluated.
        kept_out: names of those that training kept out.
        train_data: other folders.
        list_one: lists one of these: `list_folder` or `list_masks`.
    """
    from tactic_codec.evaluation import pictures

    if train_data:
        pooled = [item for path in dict.fromkeys(train_data) for item in list_one(path)]
        return {POOLED: pictures.thinned(pooled)}
    kept_out = kept_out or frozenset()
    return {
        path: pictures.thinned([item for item in found if item.name not in kept_out])
        for path, found in listed.items()
    }


def load(
    console: Console,
    listed: Sequence[Listed],
    size: int,
    *,
    jobs: int = 1,
    max_pixels: int | None = None,
) -> list["Picture"]:
    """Read pictures and cut them to squares; report those that cannot be read."""
    from tactic_codec.evaluation import pictures

    def made(item: Listed, pixels: "Pixels") -> "Picture":
        return pictures.picture(item.name, pixels, size)

    return _load(console, listed, made, jobs=jobs, max_pixels=max_pixels)


def load_masks(
    console: Console,
    listed: Sequence[Listed],
    *,
    jobs: int = 1,
    max_pixels: int | None = None,
) -> list["MaskPicture"]:
    """Read whole pictures with their label maps; report those that cannot be read."""
    from tactic_codec import picture as image
    from tactic_codec.evaluation import pictures

    def made(item: Listed, pixels: "Pixels") -> "MaskPicture":
        assert item.labels is not None  # list_masks gives every picture one
        # Of the picture's size, or it will be refused.
        limit = max(image.DEFAULT_MAX_PIXELS, pixels.shape[0] * pixels.shape[1])
        labels = image.load_labels(item.labels, max_pixels=limit)
        return pictures.mask_picture(item.name, pixels, labels)

    return _load(console, listed, made, jobs=jobs, max_pixels=max_pixels)


def _load(
    console: Console,
    listed: Sequence[Listed],
    made: Callable[[Listed, "Pixels"], T],
    *,
    jobs: int,
    max_pixels: int | None,
) -> list[T]:
    """Read pictures and make something of each; report those that cannot be read."""
    from tactic_codec import picture as image

    limit = max_pixels or image.DEFAULT_MAX_PIXELS

    def read(item: Listed) -> T:
        if item.source.problem:
            raise item.source.problem
        return made(item, image.load(Path(item.source.path), max_pixels=limit))

    found = [picture for _, picture, _ in console.each(read, listed, jobs=jobs, total=len(listed))]
    console.close()
    return found
