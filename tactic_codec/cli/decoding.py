"""What commands that make a file of each frame share: names, numbers and formats of the results.

IN… ─ frames ─ number them ─ place them in OUT ─▶ Decoding… ─ decode ─ save ─▶ files
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from tactic_codec.cli import files
from tactic_codec.cli.files import FrameItem, Source
from tactic_codec.cli.outputs import Destination, UpToDate
from tactic_codec.container import Frame
from tactic_codec.errors import TacError, UnsupportedImage

# The formats that the image room writes, by the suffix a file gets; a test compares the two.
FORMATS = {
    "png": ".png",
    "jpeg": ".jpg",
    "webp": ".webp",
    "ppm": ".ppm",
    "bmp": ".bmp",
    "tiff": ".tif",
}


@dataclass(frozen=True, slots=True)
class Decoding:
    """A frame to be decoded, and where its result goes; or why it cannot be.

    Attributes:
        item: the frame, or what was found in its place.
        out: path of the result; None for standard output.
        problem: what is wrong with the frame or with the path.
        like: facts of the input's file, from before it was read.
    """

    item: FrameItem
    out: str | None
    problem: TacError | OSError | None
    like: os.stat_result | None = None

    @property
    def frame(self) -> Frame:
        """The frame; raises the problem where there is one."""
        if self.problem:
            raise self.problem
        return self.item.frame

    @property
    def source(self) -> Source:
        """The input that it comes from."""
        return self.item.source

    @property
    def title(self) -> str:
        """Its name in messages."""
        return self.item.title

    @property
    def weight(self) -> int:
        """Its bytes."""
        return self.item.weight


def format_of(destination: Destination, otherwise: str) -> str:
    """Return the picture format that OUT's suffix asks for; png where it has none to ask with.

    Args:
        destination: OUT.
        otherwise: what else a user could do, for the message.

    Raises:
        click.BadParameter: the suffix stands for no format.
    """
    from tactic_codec import picture as image

    if destination.kind != "file" or destination.is_special:
        return "png"
    try:
        return image.format_of(Path(destination.path))
    except UnsupportedImage as exc:
        raise click.BadParameter(f"{exc}; or {otherwise}", param_hint="'OUT'") from exc


def placed(
    sources: Sequence[Source], destination: Destination, suffix: str, max_pixels: int | None
) -> Iterator[Decoding]:
    """Read the frames of all inputs and say where the result of each goes.

    In a folder the frames of an input that has several, or is a stream, are numbered; one output
    file takes one frame. What --skip-existing leaves alone is left out.

    Args:
        sources: the inputs.
        destination: OUT.
        suffix: of the results in a folder.
        max_pixels: the largest picture that is read, see `files.frames`.
    """
    for source in sources:
        like = source.stat()
        items = files.frames_of(source, max_pixels=max_pixels)
        if destination.kind == "file":
            items = _only(items)
        for item in items:
            with suppress(UpToDate):
                yield _place(item, destination, suffix, like)


def _place(
    item: FrameItem, destination: Destination, suffix: str, like: os.stat_result | None
) -> Decoding:
    if isinstance(item.found, TacError | OSError):
        return Decoding(item, None, item.found)
    try:
        return Decoding(item, destination.place(item.source, item.stem + suffix), None, like)
    except (TacError, OSError) as exc:
        return Decoding(item, None, exc)


def _only(items: Iterator[FrameItem]) -> Iterator[FrameItem]:
    """Pass on the only frame of an input; of others, only what is wrong with them."""
    first, second = next(items), next(items, None)
    if second is None:
        yield first
        return
    wrong = [item for item in (first, second) if isinstance(item.found, TacError | OSError)]
    yield from wrong
    if not wrong:
        problem = TacError(
            "there are several frames, and one output file; give a folder ('OUT/') to get a "
            "picture of each, or '-' to get one behind the other"
        )
        yield FrameItem(first.source, first.number, False, problem)
