"""Read one picture from a file, a stream or bytes, within bounds."""

import io
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from tactic_codec.errors import LimitExceeded, UnsupportedImage
from tactic_codec.picture.forms import (
    DEFAULT_MAX_PIXELS,
    WHITE,
    Colour,
    ImageWarning,
    Pixels,
)
from tactic_codec.picture.kinds import HEAD_BYTES, find_reader
from tactic_codec.picture.modes import from_pillow, refuse_empty
from tactic_codec.picture.plugins import begin, translated

_BYTES_A_PIXEL = 16
"""Of four channels of 32 bits, uncompressed: the most that a picture read here has."""

_BYTES_BESIDE = 1 << 26
"""Room for metadata and previews."""

_PIECE_BYTES = 1 << 20
"""Read at once of a stream whose length nobody knows."""


def load(
    source: bytes | Path | BinaryIO,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    background: Colour = WHITE,
) -> Pixels:
    """Read a picture as it is meant to be seen.

    Args:
        source: the bytes of a picture file, the path of a file or named pipe, or a stream. Of pipes
            and streams no more is read than a picture of ``max_pixels`` may have, and only the
            first bytes where those are no picture's.
        max_pixels: the largest width x height that is decoded.
        background: the colour behind transparent pixels.

    Returns:
        uint8 [height, width, 3], sRGB, upright, opaque, writable.

    Raises:
        UnsupportedImage: no picture, or one that has no pixels or no agreed scale.
        DamagedImage: the file is cut or damaged.
        LimitExceeded: more than ``max_pixels``, known from the header, before decoding; or a stream
            of more bytes than so many pixels have.
        OSError: the path cannot be opened.

    Warns:
        ImageWarning: something that the file holds is left out, see the module's text.
    """
    with opened(source, max_pixels) as stream:
        reader = find_reader(stream.read(HEAD_BYTES))
        stream.seek(0)
        image = begin(reader, stream)
        refuse_empty(image)
        refuse_above(max_pixels, image)
        with translated(f"the {reader.name} picture"):
            _refuse_camera_raw(image)
            several = getattr(image, "is_animated", False)
            image.load()
        if several:
            warnings.warn(
                f"the {reader.name} picture has several frames or pages: only the first is read",
                ImageWarning,
                stacklevel=2,
            )
        return from_pillow(image, background=background)


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


def bytes_of(max_pixels: int) -> int:
    """The most bytes that the file of a picture of so many pixels may have."""
    return max_pixels * _BYTES_A_PIXEL + _BYTES_BESIDE


def _bounded(stream: BinaryIO, max_pixels: int) -> BinaryIO:
    """Read a stream that may never end."""
    head = stream.read(HEAD_BYTES)
    find_reader(head)
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


def refuse_above(max_pixels: int, image: Image.Image) -> None:
    """Raise LimitExceeded for an image of more than ``max_pixels``."""
    width, height = image.size
    if width * height > max_pixels:
        raise LimitExceeded(
            f"the picture has {width} x {height} = {width * height} pixels, more than the limit of"
            f" {max_pixels}: scale it down or raise the limit"
        )


def _refuse_camera_raw(image: Image.Image) -> None:
    """Refuse a TIFF whose first page says that it is a thumbnail, as DNG, NEF and their kin do."""
    new_subfile_type, reduced_resolution = 254, 1
    if int(getattr(image, "tag_v2", {}).get(new_subfile_type, 0)) & reduced_resolution:
        raise UnsupportedImage(
            "the first page of this TIFF is only a thumbnail, as in a camera's raw file: develop it"
            " to PNG or JPEG first"
        )
