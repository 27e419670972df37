"""Read one picture from a file, a stream or bytes, within bounds."""

import io
import math
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from tactic_codec.errors import DamagedImage, LimitExceeded, UnsupportedImage
from tactic_codec.picture import boxes, jpeg, png, tiff
from tactic_codec.picture.formats import HEAD_BYTES, Format, find_format
from tactic_codec.picture.forms import (
    DEFAULT_MAX_PIXELS,
    WHITE,
    Colour,
    ImageWarning,
    Pixels,
    Scaled,
    colour_of,
    warn_of_darkness,
)
from tactic_codec.picture.modes import OWN_SIZE, from_pillow, refuse_empty
from tactic_codec.picture.plugins import begin, translated
from tactic_codec.picture.scaling import SHRINKING_GAP, WHOLE, Shrink

_BYTES_A_PIXEL = 16
"""Of four channels of 32 bits, uncompressed: the most that a picture read here has."""

_BYTES_BESIDE = 1 << 26
"""Room for metadata and previews."""

_FLAT = 4
"""Levels of grey between which the last block of a JPEG has to lie where data may be missing."""

_RESTARTS = b"\xff\xdd\0\x04"
"""Begins the segment of a JPEG that tells of restart markers."""

_PIECE_BYTES = 1 << 20
"""Read at once of a stream whose length nobody knows."""


def read(
    source: bytes | Path | BinaryIO,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    background: str | Colour = WHITE,
    shrink: Shrink = WHOLE,
) -> Scaled:
    """Read a picture as it is meant to be seen.

    Args:
        source: the bytes of a picture file, the path of a file or named pipe, or a stream. Of pipes
            and streams no more is read than a picture of ``max_pixels`` may have, and only the
            first bytes where those are no picture's.
        max_pixels: the largest width x height that is decoded.
        background: the colour behind transparent pixels, see `colour_of`.
        shrink: to what size; a JPEG is then not decoded to more than twice as much.

    Returns:
        Pixels that are sRGB, upright, opaque, writable; and the size before they were shrunk.

    Raises:
        ValueError: ``background`` is no colour.
        UnsupportedImage: no picture, or one that has no pixels or no agreed scale.
        DamagedImage: the file is cut or damaged.
        LimitExceeded: more than ``max_pixels``, known from the header, before decoding; or a stream
            of more bytes than so many pixels have.
        OSError: the path cannot be opened.

    Warns:
        ImageWarning: something that the file holds is left out, see the package's text.
    """
    colour_of(background)  # before anything is read
    with opened(source, max_pixels) as stream:
        image = decoded(find_format(stream.read(HEAD_BYTES)), stream, max_pixels, shrink)
        found = from_pillow(image, background=background, shrink=shrink)
        # Of colours of 16 bits the upper 8 were read.
        if image.mode.startswith("RGB") and (image.info.get("bits") or tiff.bits(image)) == 16:
            warn_of_darkness(int(found.pixels.max()) or 1, 255)
        return found


def load(
    source: bytes | Path | BinaryIO,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    background: str | Colour = WHITE,
) -> Pixels:
    """Return the pixels of `read` at the picture's own size, uint8 [height, width, 3]."""
    return read(source, max_pixels=max_pixels, background=background).pixels


def decoded(form: Format, stream: BinaryIO, max_pixels: int, shrink: Shrink = WHOLE) -> Image.Image:
    """Read a picture, and one whose file is damaged where its pixels are not; errors as `read`."""
    try:
        image = _decoded(form, stream, max_pixels, shrink)
    except DamagedImage:
        for files in form.mended(_whole(stream, max_pixels)) if form.mended else ():
            with suppress(DamagedImage):
                image, *others = (
                    _decoded(form, io.BytesIO(file), max_pixels, shrink) for file in files
                )
                if all(_is_same(image, other) for other in others):
                    _warn(
                        f"the {form.name} file is damaged where its pixels are not, in its metadata"
                        " or at its end: what is damaged is left out"
                    )
                    return image
        raise
    if form.name == "JPEG" and (what := _lacking(form, image, stream, max_pixels, shrink)):
        _warn(
            f"the JPEG lacks {what}, although it has an end marker: what is missing there is"
            " grey or coarse"
        )
    return image


def _decoded(form: Format, stream: BinaryIO, max_pixels: int, shrink: Shrink) -> Image.Image:
    """Read a picture's pixels, and what its file says of them."""
    with translated(f"the {form.name} picture"):
        data, said = b"", dict[Any, Any]()
        if form.examine:
            data = _whole(stream, max_pixels)
            said = form.examine(data)
            refuse_size(max_pixels, *said.pop("size", (1, 1)))
        stream.seek(0)
        image = begin(form, stream)
        refuse_size(max_pixels, *image.size)
        if form.name == "TIFF":
            tiff.prepare(image)
        if form.name == "JPEG":
            own = image.size
            width, height = (math.ceil(SHRINKING_GAP * side) for side in shrink.size(*own))
            image.draft(None, (width, height))  # an eighth at least, and no less than that
            image.info[OWN_SIZE] = own
        several = getattr(image, "is_animated", False)
        image.load()
        image.info.update(said)
        if form.name == "PNG":
            png.finish(image, data)
        if form.name == "JPEG XL" and not getattr(image, "jpeg", False):
            image.info.pop("exif", None)  # it is upright already, whatever its EXIF says
        image = boxes.crop(image)
    if several:
        _warn(f"the {form.name} picture has several frames or pages: only the first is read")
    return image


def _lacking(
    form: Format, image: Image.Image, stream: BinaryIO, max_pixels: int, shrink: Shrink
) -> str:
    """What is missing of a JPEG although it was closed with an end marker, or "".

    libjpeg shows grey or coarse blocks there. Whether the last ones are missing shows when there is
    more data before the marker: then they change.
    """
    width, height = image.size
    last = image.crop(((width - 1) // 8 * 8, (height - 1) // 8 * 8, width, height)).convert("L")
    doubtful = np.ptp(np.asarray(last)) <= _FLAT or "progressive" in image.info
    data = _whole(stream, max_pixels)
    if not doubtful and _RESTARTS not in data:
        return ""
    what, other = jpeg.lacking(data)
    if doubtful and other:
        again = _decoded(form, io.BytesIO(other), max_pixels, shrink)
        what = "" if _is_same(image, again) else "its last pixels"
    return what


def _is_same(image: Image.Image, other: Image.Image) -> bool:
    return np.array_equal(np.asarray(image), np.asarray(other))


def _warn(what: str) -> None:
    warnings.warn(what, ImageWarning, stacklevel=4)


def _whole(stream: BinaryIO, max_pixels: int) -> bytes:
    """All of a file, or of a longer one as much as its pixels may have."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    return stream.read(min(size, bytes_of(max_pixels)))


@contextmanager
def opened(source: bytes | Path | BinaryIO, max_pixels: int) -> Iterator[BinaryIO]:
    """The bytes of ``source`` as a stream that can seek."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    if not isinstance(source, Path):
        yield _bounded(source, max_pixels)
        return
    mode = source.stat().st_mode
    # A named pipe is a fair source, a shell makes them of `<(...)`; a device may never end.
    if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "a device or socket"
        raise UnsupportedImage(f"this is {kind}: a picture file was expected")
    with source.open("rb") as stream:
        yield stream if stream.seekable() else _bounded(stream, max_pixels)


def at_end(stream: BinaryIO) -> str | None:
    """Return what to say of a file that holds something and stands behind it; else None."""
    position = stream.tell() if hasattr(stream, "seekable") and stream.seekable() else 0
    return (
        f"the file stands at its end (position {position}): call its seek(0)" if position else None
    )


def bytes_of(max_pixels: int) -> int:
    """The most bytes that the file of a picture of so many pixels may have."""
    return max_pixels * _BYTES_A_PIXEL + _BYTES_BESIDE


def _bounded(stream: BinaryIO, max_pixels: int) -> BinaryIO:
    """Read a stream that may never end."""
    head = stream.read(HEAD_BYTES)
    if not head and (problem := at_end(stream)):
        raise UnsupportedImage(problem)
    find_format(head)
    limit = bytes_of(max_pixels)
    content = io.BytesIO()
    piece = head
    while piece:
        content.write(piece)
        if content.tell() > limit:
            raise LimitExceeded(
                f"the stream has more than {limit} bytes, the most that a picture of {max_pixels} "
                "pixels may have: send a smaller picture or raise the limit"
            )
        # Piece by piece: room for all that is asked for at once would be taken before it is there.
        piece = stream.read(_PIECE_BYTES)
    content.seek(0)
    return content


def refuse_size(max_pixels: int, width: int, height: int) -> None:
    """Raise LimitExceeded for more than ``max_pixels``, UnsupportedImage for none at all."""
    refuse_empty(width, height)
    if width * height > max_pixels:
        raise LimitExceeded(
            f"the picture has {width} x {height} = {width * height} pixels, more than the limit of"
            f" {max_pixels}: scale it down or raise the limit"
        )
