"""The pictures of folders for the evaluation room: listed, chosen, read.

folder ─ list ─▶ Listed… ─ choose ─▶ Listed… ─ load ─▶ Picture…
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from tactic_codec.cli import files
from tactic_codec.cli.console import Console, display
from tactic_codec.cli.files import Source

if TYPE_CHECKING:
    from tactic_codec.evaluation.pictures import Picture
    from tactic_codec.tasks import Question

POOLED = "--train-data"
"""Name of the folder that all training pictures together stand for."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A picture below a folder; or why that cannot be read."""

    source: Source
    folder: str
    weight: int = 1

    @property
    def title(self) -> str:
        """What messages call it."""
        return self.source.title

    @property
    def name(self) -> str:
        """Its path below the folder, with "/" between the parts."""
        return PurePath(self.source.relative).as_posix()


def list_folder(console: Console, task: "Question[Any, Any]", folder: str) -> list[Listed]:
    """Return a folder's pictures for a task, at any depth, by their names below it."""
    from tactic_codec.picture import SUFFIXES

    found = []
    below = os.path.join(folder, task.pictures)
    for source in files.expand(console, [below], recursive=True, suffixes=SUFFIXES):
        # Training's list of what it kept out has names below the folder, too.
        relative = os.path.join(task.pictures, source.relative)
        found.append(Listed(replace(source, relative=relative), folder))
    return sorted(found, key=lambda listed: listed.name)


def named(folder: str, names: Sequence[str]) -> list[Listed]:
    """Return pictures of a folder by their names below it, with "/" between the parts."""
    return [Listed(Source(os.path.join(folder, name), name), folder) for name in names]


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
        list_one: lists one of these, see `list_folder`.
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
    task: "Question[Any, Any]",
    listed: Sequence[Listed],
    classes: Sequence[str],
    size: int,
    *,
    jobs: int = 1,
    max_pixels: int | None = None,
) -> list["Picture"]:
    """Read pictures as they are coded, with their truths; report those that cannot be read.

    Args:
        console: reports.
        task: that they are for.
        listed: the pictures.
        classes: of the network, as its training named them.
        size: side of squares, in pixels.
        jobs: pictures at once.
        max_pixels: of a picture.
    """
    from tactic_codec import picture
    from tactic_codec.evaluation import pictures

    limit = max_pixels or picture.DEFAULT_MAX_PIXELS
    folders = dict.fromkeys(item.folder for item in listed)
    readers = {folder: task.reader(Path(folder), classes) for folder in folders}

    def read(item: Listed) -> "Picture":
        if item.source.problem:
            raise item.source.problem
        pixels = picture.load(Path(item.source.path), max_pixels=limit)
        truth = readers[item.folder](item.name, pixels)
        return pictures.picture(task, item.name, pictures.cut(task, pixels, size), truth)

    found = [picture for _, picture, _ in console.each(read, listed, jobs=jobs, total=len(listed))]
    console.close()
    return found
