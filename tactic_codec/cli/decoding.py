"""What commands that make a file of each frame share: names, numbers and formats of the results.

IN… ─ frames ─ number them ─ place them in OUT ─▶ FrameItem… ─ decode ─ save ─▶ files
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
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
) -> Iterator[FrameItem]:
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
) -> FrameItem:
    if not isinstance(item.found, Frame):
        return item
    try:
        out = destination.place(item.source, item.stem + suffix)
    except (TacError, OSError) as exc:
        return replace(item, found=exc)
    return replace(item, out=out, like=like)


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
