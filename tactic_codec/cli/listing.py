"""The pictures of folders for the evaluation room: listed, chosen, read.

folder ─ list ─▶ Listed… ─ choose ─▶ Listed… ─ load ─▶ Picture…
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from tactic_codec.cli import files
from tactic_codec.cli.console import Console, display
from tactic_codec.cli.files import PICTURES, Source

if TYPE_CHECKING:
    from tactic_codec.evaluation.pictures import Picture

POOLED = "--train-data"
"""Name of the folder that all training pictures together stand for."""

_TRAINING_PICTURES = 2000  # 150 kB each in memory at 224×224, and all are coded for every point


@dataclass(frozen=True, slots=True)
class Listed:
    """A picture of a folder; or why the folder cannot be read."""

    source: Source
    weight: int = 1

    @property
    def title(self) -> str:
        """What messages call it."""
        return self.source.title

    @property
    def name(self) -> str:
        """Its path below the folder, with "/" between the parts."""
        return PurePath(self.source.relative).as_posix()


def list_folder(folder: str) -> list[Listed]:
    """Return the pictures at any depth of a folder, by name."""
    sources = files.expand([folder], recursive=True, suffixes=PICTURES)
    return sorted(map(Listed, sources), key=lambda listed: listed.name)


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
) -> dict[str, list[Listed]]:
    """Return the pictures to retrain heads on: of each folder, or all of ``train_data``."""
    if train_data:
        pooled = [item for path in dict.fromkeys(train_data) for item in list_folder(path)]
        return {POOLED: _thinned(pooled)}
    kept_out = kept_out or frozenset()
    return {
        path: _thinned([item for item in found if item.name not in kept_out])
        for path, found in listed.items()
    }


def _thinned(listed: Sequence[Listed]) -> list[Listed]:
    every = -(-len(listed) // _TRAINING_PICTURES) or 1
    return list(listed[::every])


def load(
    console: Console,
    listed: Sequence[Listed],
    size: int,
    *,
    jobs: int = 1,
    max_pixels: int | None = None,
) -> list["Picture"]:
    """Read pictures and cut them to squares; report those that cannot be read."""
    from tactic_codec import image
    from tactic_codec.evaluation import pictures

    limit = max_pixels or image.DEFAULT_MAX_PIXELS

    def read(item: Listed) -> "Picture":
        if item.source.problem:
            raise item.source.problem
        pixels = image.load(Path(item.source.path), max_pixels=limit)
        return pictures.picture(item.name, pixels, size)

    found = [picture for _, picture, _ in console.each(read, listed, jobs=jobs, total=len(listed))]
    console.close()
    return found
