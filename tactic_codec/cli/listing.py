"""The pictures of folders for the evaluation room.

folder ─ list ─▶ Listed… ─ load ─▶ Picture…
"""

import os
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from tactic_codec.cli import files, options
from tactic_codec.cli.console import Console
from tactic_codec.errors import display

if TYPE_CHECKING:
    from tactic_codec.evaluation.pictures import Picture
    from tactic_codec.tasks import Question


class Listed(NamedTuple):
    """A picture: its folder, and its path below that, with "/" between the parts."""

    folder: str
    name: str

    @property
    def title(self) -> str:
        """What messages call it."""
        return display(os.path.join(self.folder, self.name))

    @property
    def weight(self) -> int:
        """Its share of the progress bar."""
        return 1


def list_folder(console: Console, task: "Question[Any, Any]", folder: str) -> list[Listed]:
    """Return a folder's pictures for a task, by name; report what cannot be read."""
    from tactic_codec.picture import SUFFIXES

    found = []
    below = os.path.join(folder, task.pictures)
    for source in files.expand(console, [below], recursive=True, suffixes=SUFFIXES):
        if source.problem:
            console.fail(source.title, source.problem)
            continue
        # Training's list of what it kept out has names below the folder, too.
        relative = os.path.join(task.pictures, source.relative)
        found.append(Listed(folder, PurePath(relative).as_posix()))
    return sorted(found)


def load(
    console: Console,
    task: "Question[Any, Any]",
    listed: Sequence[Listed],
    classes: Sequence[str],
    size: int,
    running: options.Running,
) -> list["Picture"]:
    """Read pictures as they are coded, with their truths; report those that cannot be read.

    Args:
        classes: of the network, as its training named them.
        size: side of squares, in pixels.
        running: how many at once, and how large they may be.
    """
    from tactic_codec import picture
    from tactic_codec.evaluation import pictures

    folders = dict.fromkeys(item.folder for item in listed)
    readers = {folder: task.reader(Path(folder), classes) for folder in folders}

    def read(item: Listed) -> "Picture":
        pixels = picture.load(Path(item.folder, item.name), max_pixels=running.read_limit)
        truth = readers[item.folder](item.name, pixels)
        return pictures.picture(task, item.name, pictures.cut(task, pixels, size), truth)

    found = [
        picture
        for _, picture, _ in console.each(read, listed, jobs=running.jobs, total=len(listed))
    ]
    console.close()
    return found
