"""The frames of inputs, and what commands share that make a file of each: names, formats.

IN… ─ frames ─ number them ─ place them in OUT ─▶ FrameItem… ─ decode ─ save ─▶ files
"""

import io
import os
import shlex
from collections.abc import Iterable, Iterator
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import click

from tactic_codec.cli.files import FRAMES, NOWHERE, Destination, Source, UpToDate, opened
from tactic_codec.container import Frame, StreamBudget, read_frame
from tactic_codec.errors import (
    ChecksumMismatch,
    FormatError,
    LimitExceeded,
    NotATacFile,
    TacError,
    Truncated,
    UnknownSection,
    UnsupportedImage,
)

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
class FrameItem:
    """A frame of an input, or what was found in its place.

    Attributes:
        source: the input.
        number: of the frame in it, from 1.
        several: whether the number tells anything: the input has others, or is a stream.
        found: the frame, or the error: of the frame, or of where its result goes.
        out: path of the result; None for standard output.
        like: facts of the input's file, from before it was read, for the result's.
    """

    source: Source
    number: int
    several: bool
    found: Frame | TacError | OSError
    out: str | None = None
    like: os.stat_result | None = None

    @property
    def title(self) -> str:
        """Its name in messages."""
        return f"{self.source.title}: frame {self.number}" if self.several else self.source.title

    @property
    def stem(self) -> str:
        """Its input's name below the folder that was given, without suffix, and its number."""
        return self.source.stem(FRAMES) + (f"-{self.number:04}" if self.several else "")

    @property
    def weight(self) -> int:
        """Its bytes."""
        return self.found.size if isinstance(self.found, Frame) else 0

    @property
    def frame(self) -> Frame:
        """The frame; raises the error where there is none."""
        if isinstance(self.found, Frame):
            return self.found
        # A copy: what is raised holds all that saw it, this item too, and a circle is freed late.
        raise copy(self.found)


def frames(
    sources: Iterable[Source],
    destination: Destination = NOWHERE,
    suffix: str = "",
    *,
    max_pixels: int | None,
) -> Iterator[FrameItem]:
    """Read the frames of all inputs, one behind the other, and say where the result of each goes.

    In a folder the frames of an input that has several, or is a stream, are numbered; one output
    file takes one frame. What --skip-existing leaves alone is left out.

    Args:
        destination: OUT.
        suffix: of the results in a folder.
        max_pixels: see `frames_of`.
    """
    for source in sources:
        like = source.stat()
        items = frames_of(source, max_pixels=max_pixels)
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
        return replace(item, found=exc.with_traceback(None))
    return replace(item, out=out, like=like)


def _only(items: Iterator[FrameItem]) -> Iterator[FrameItem]:
    """Pass on the only frame of an input; of others, only what is wrong with them."""
    first, second = next(items), next(items, None)
    if second is None:
        yield first
        return
    wrong = [item for item in (first, second) if not isinstance(item.found, Frame)]
    yield from wrong
    if not wrong:
        problem = TacError(
            "there are several frames, and one output file; give a folder ('OUT/') to get a "
            "picture of each, or '-' to get one behind the other"
        )
        yield FrameItem(first.source, first.number, False, problem)


def frames_of(source: Source, *, max_pixels: int | None) -> Iterator[FrameItem]:
    """Read the frames of one input; there is at least one item.

    Behind a frame whose only fault is its checksum or an unknown section reading goes on; any other
    fault ends the input.

    Args:
        max_pixels: of a frame; by default its bytes and those of its input's frames together set
            the limits, see the container room.
    """
    found = _read(source, max_pixels)
    ahead = [next(found)]
    if source.is_stdin:
        # Looking further ahead would hold back the frames of a camera.
        several = isinstance(ahead[0], Frame | ChecksumMismatch | UnknownSection)
    else:
        ahead += islice(found, 1)
        several = len(ahead) > 1
    for number, item in enumerate(chain(ahead, found), start=1):
        yield FrameItem(source, number, several, item)


def _read(source: Source, max_pixels: int | None) -> Iterator[Frame | TacError | OSError]:
    empty = True
    budget = StreamBudget() if max_pixels is None else None
    try:
        with opened(source) as stream:
            # Without taking it: the bytes behind a frame are a camera's next ones.
            head = stream.peek(_HEAD_BYTES) if isinstance(stream, io.BufferedReader) else b""
            while True:
                try:
                    frame = read_frame(stream, max_pixels=max_pixels)
                except (ChecksumMismatch, UnknownSection) as exc:
                    empty = False
                    yield exc.with_traceback(None)  # which holds the frame's bytes
                    continue
                except NotATacFile as exc:
                    raise _stranger(source, head, exc) if empty else exc from None
                if frame is None:
                    break
                empty = False
                if budget:
                    budget.spend(frame)
                yield frame
        if empty:
            yield Truncated("empty (0 bytes); a .tac frame was expected")
    except (FormatError, LimitExceeded, OSError) as exc:
        yield exc.with_traceback(None)


_HEAD_BYTES = 256


def _stranger(source: Source, head: bytes, error: NotATacFile) -> NotATacFile:
    """Return the error that says what an input is instead, and how to go on with a picture."""
    from tactic_codec.picture import not_a_tac

    error = not_a_tac(head, error)
    if " picture" not in str(error):
        return error
    names = "- -" if source.is_stdin else shlex.quote(source.title)
    return NotATacFile(f'{error}; make one with "tactic compress {names}"')


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
