"""The door for pictures: whatever a caller has in hand, read within bounds."""

import errno
import io
import math
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from tactic_codec.errors import DamagedImage, LimitExceeded, UnsupportedImage
from tactic_codec.picture import forms, isobmff, jpeg, metadata, png, tiff
from tactic_codec.picture.formats import HEAD_BYTES, Format, find_format
from tactic_codec.picture.forms import DEFAULT_MAX_PIXELS, Colour, LabelMap, Pixels, Scaled
from tactic_codec.picture.modes import OWN_SIZE, from_pillow
from tactic_codec.picture.plugins import begin, translated
from tactic_codec.picture.scaling import SHRINKING_GAP, WHOLE, Shrink


class _Array(Protocol):
    def __array__(self) -> npt.NDArray[Any]: ...


_File = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
Picture = Image.Image | _Array | Scaled | _File
"""What `read` takes."""


_BYTES_A_PIXEL = 16
"""Of four channels of 32 bits, uncompressed: the most that a picture read here has."""

_BYTES_BESIDE = 1 << 26
"""Room for metadata and previews."""

_FLAT = 4
"""Levels of grey between which the last block of a JPEG has to lie where data may be missing."""

_RESTARTS = b"\xff\xdd\0\x04"
"""Begins the segment of a JPEG that tells of restart markers."""

_BAND = 1 << 20
"""Pixels of two pictures that are compared at once."""

_PIECE_BYTES = 1 << 20
"""Read at once of a stream whose length nobody knows."""


def read(
    picture: Picture,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    background: str | Colour = "white",
    shrink: Shrink = WHOLE,
) -> Scaled:
    """Turn a picture in any of its forms into the codec's array, as it is meant to be seen.

    Args:
        picture: a Pillow image of any mode; the path of a picture file or named pipe; its bytes; an
            open binary file, read from where it stands to its end; or an array [H, W], [H, W, 1],
            [H, W, 3] or [H, W, 4] of sRGB values and alpha, uint8, uint16 or floats of 0 to 1. What
            is `Scaled` already keeps its size. Of pipes and streams no more is read than a picture
            of ``max_pixels`` may have, and only the first bytes where those are no picture's.
        max_pixels: the largest width x height that is decoded; what is decoded has its size.
        background: the colour behind transparent pixels, see `colour_of`.
        shrink: to what size; a JPEG is then not decoded to more than twice as much.

    Returns:
        Pixels uint8 [H, W, 3] that are sRGB, upright and opaque, and the size before they were
        shrunk; an array of this kind is passed through, others are writable.

    Raises:
        TypeError: something else, a file opened as text and arrays of another type included.
        ValueError: ``background`` is no colour.
        UnsupportedImage: no picture, or one that has no pixels or no agreed scale; an array of
            another shape or with values outside 0 to 1.
        DamagedImage: the file is cut or damaged.
        LimitExceeded: more than ``max_pixels``, known from the header, before decoding; or a stream
            of more bytes than so many pixels have.
        OSError: the path cannot be opened.

    Warns:
        ImageWarning: something that the file holds is left out, see the package's text; samples of
            16 bits are so small that the picture is very dark.
    """
    forms.colour_of(background)  # before anything is read
    if isinstance(picture, Scaled):
        return shrink.of(picture)
    if isinstance(picture, Image.Image):
        return from_pillow(picture, background=background, shrink=shrink)
    if hasattr(picture, "__array__"):
        # A tensor that is being learned with gives its values only when it is told to let go.
        detach = getattr(picture, "detach", None)
        values = detach() if callable(detach) else picture
        pixels = _of_array(np.asarray(values), background)
        return shrink.of(Scaled(pixels, pixels.shape[1], pixels.shape[0]))
    with _opened(picture, max_pixels) as stream:
        image = _decoded(find_format(stream.read(HEAD_BYTES)), stream, max_pixels, shrink)
        found = from_pillow(image, background=background, shrink=shrink)
        # Of colours of 16 bits the upper 8 were read.
        if image.mode.startswith("RGB") and (image.info.get("bits") or tiff.bits(image)) == 16:
            forms.warn_of_darkness(int(found.pixels.max()) or 1, 255)
        return found


def load(
    picture: Picture, *, max_pixels: int = DEFAULT_MAX_PIXELS, background: str | Colour = "white"
) -> Pixels:
    """Return the pixels of `read` at the picture's own size, uint8 [height, width, 3]."""
    return read(picture, max_pixels=max_pixels, background=background).pixels


def load_labels(path: Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> LabelMap:
    """Read a label map: a PNG of 8-bit grey or with a palette, whose values are classes.

    Args:
        path: of the file.
        max_pixels: the largest width x height that is decoded.

    Returns:
        uint8 [height, width], the values as they are stored, whatever colours they stand for.

    Raises:
        UnsupportedImage: another kind of picture, or none.
        DamagedImage: the file is cut or damaged.
        LimitExceeded: more than ``max_pixels``.
        OSError: the path cannot be opened.
    """
    with _opened(path, max_pixels) as stream:
        form = find_format(stream.read(HEAD_BYTES))
        if form.name != "PNG":
            raise UnsupportedImage(f"this is {form.name}: {_LABELS_EXPECTED}")
        image = _decoded(form, stream, max_pixels)
        # Pillow spreads grey of 2 and 4 bits over 0 to 255, which would make other classes of it.
        bits = image.info["bits"]
        spread_grey = image.mode == "L" and bits != 8
        if image.mode not in ("L", "P") or spread_grey:
            raise UnsupportedImage(
                f"this PNG has mode {image.mode} and {bits} bits: {_LABELS_EXPECTED}"
            )
        return np.array(image)


_LABELS_EXPECTED = (
    "a label map was expected, a PNG of 8-bit grey or with a palette whose values are classes"
)


# --- Files ----------------------------------------------------------------------------------------


def _decoded(
    form: Format, stream: BinaryIO, max_pixels: int, shrink: Shrink = WHOLE
) -> Image.Image:
    """Read a picture, and one whose file is damaged where its pixels are not; errors as `read`."""

    def show(file: bytes) -> Image.Image:
        return _shown(form, io.BytesIO(file), max_pixels, shrink)

    try:
        image = _shown(form, stream, max_pixels, shrink)
    except DamagedImage:
        for files in form.mended(_whole(stream, max_pixels)) if form.mended else ():
            with suppress(DamagedImage):
                image, *others = map(show, files)
                if all(_is_same(image, other) for other in others):
                    forms.warn(
                        f"the {form.name} file is damaged where its pixels are not, in its metadata"
                        " or at its end: what is damaged is left out"
                    )
                    return image
        raise
    if form.name == "JPEG" and (what := _lacking(image, _whole(stream, max_pixels), show)):
        forms.warn(
            f"the JPEG lacks {what}, although it has an end marker: what is missing there is"
            " grey or coarse"
        )
    return image


def _shown(form: Format, stream: BinaryIO, max_pixels: int, shrink: Shrink) -> Image.Image:
    """Read a picture's pixels, and what its file says of them."""
    with translated(f"the {form.name} picture"):
        data, said = b"", dict[Any, Any]()
        if form.examine:
            data = _whole(stream, max_pixels)
            said = form.examine(data)
            width, height = said.pop("size", (1, 1))
            forms.refuse_size(width, height, max_pixels)
        stream.seek(0)
        image = begin(form, stream)
        forms.refuse_size(*image.size, max_pixels)
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
            # It is upright already, whatever its EXIF says.
            image.info[metadata.ASIDE] = image.info.pop("exif", b"")
        image = isobmff.crop(image)
    if several:
        forms.warn(f"the {form.name} picture has several frames or pages: only the first is read")
    return image


def _lacking(image: Image.Image, data: bytes, show: Callable[[bytes], Image.Image]) -> str:
    """What is missing of a JPEG although it was closed with an end marker, or "".

    libjpeg shows grey or coarse blocks there. Whether the last ones are missing shows when there is
    more data before the marker: then they change.
    """
    width, height = image.size
    last = image.crop(((width - 1) // 8 * 8, (height - 1) // 8 * 8, width, height)).convert("L")
    doubtful = np.ptp(np.asarray(last)) <= _FLAT or "progressive" in image.info
    if not doubtful and _RESTARTS not in data:
        return ""
    what, other = jpeg.lacking(data)
    if doubtful and other:
        what = "" if _is_same(image, show(other)) else "its last pixels"
    return what


def _is_same(image: Image.Image, other: Image.Image) -> bool:
    """Compare two pictures of one size by bands: an array of either would be as large as it is."""
    width, height = image.size
    rows = max(1, _BAND // width)
    bands = [(0, top, width, min(top + rows, height)) for top in range(0, height, rows)]
    return image.size == other.size and all(
        np.array_equal(np.asarray(image.crop(band)), np.asarray(other.crop(band))) for band in bands
    )


def _whole(stream: BinaryIO, max_pixels: int) -> bytes:
    """All of a file, or of a longer one as much as its pixels may have."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    return stream.read(min(size, bytes_of(max_pixels)))


@contextmanager
def _opened(source: Any, max_pixels: int) -> Iterator[BinaryIO]:
    """The bytes of a file, or of what is like one, as a stream that can seek."""
    if isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        path = path_of(source)
        mode = path.stat().st_mode
        # A named pipe is a fair source, a shell makes them of `<(...)`; a device may never end.
        if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "a device or socket"
            raise UnsupportedImage(f"this is {kind}: a picture file was expected")
        with path.open("rb") as stream:
            yield stream if stream.seekable() else _bounded(stream, max_pixels)
    elif not hasattr(source, "read"):
        raise TypeError(
            f"a {type(source).__name__} is no picture: a Pillow image, a path, bytes, a binary"
            " file or an array [H, W, 3] was expected"
        )
    elif isinstance(source.read(0), str):
        raise TypeError("the picture file is opened as text: open it with mode 'rb'")
    else:
        yield _bounded(source, max_pixels)


def path_of(name: str | os.PathLike[str]) -> Path:
    """Return a path, unless it is an address, which nothing here opens.

    Raises:
        FileNotFoundError: it is an address.
    """
    text = os.fsdecode(name)
    path = Path(text)
    # A Path has made one slash of two. One letter is a drive of Windows.
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text) and not path.exists():
        raise FileNotFoundError(
            errno.ENOENT, "addresses are not opened; fetch the file and give its path", text
        )
    return path


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


# --- Arrays ---------------------------------------------------------------------------------------


def _of_array(values: npt.NDArray[Any], background: str | Colour) -> Pixels:
    shape = list(values.shape)
    if values.ndim == 3 and shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4):
        raise UnsupportedImage(
            f"the array has shape {shape}, channels first: [H, W, 3] was expected; move them with"
            " .transpose(1, 2, 0)"
        )
    if values.ndim not in (2, 3) or (values.ndim == 3 and shape[2] not in (1, 3, 4)):
        raise UnsupportedImage(
            f"the array has shape {shape}: [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] was expected,"
            " one picture at a time"
        )
    if 0 in shape:
        raise UnsupportedImage(f"the array has shape {shape}: at least 1 x 1 pixels were expected")
    levels = _to_8_bits(values)
    if levels.ndim == 2 or levels.shape[2] == 1:
        return np.repeat(levels.reshape(*shape[:2], 1), 3, axis=2)
    if shape[2] == 3:
        return levels
    return from_pillow(Image.fromarray(levels), background=background).pixels


def _to_8_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.uint16:
        forms.warn_of_darkness(int(values.max()), 65535)
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 257 = 65535 / 255
    if not np.issubdtype(values.dtype, np.floating):
        values_are, scale = (
            ("False and True", " * 255") if values.dtype == bool else ("0 to 255", "")
        )
        raise TypeError(
            f"the array is of {values.dtype}: uint8, uint16 or floats of 0 to 1 were expected; if"
            f" its values are {values_are}, use .astype(numpy.uint8){scale}"
        )
    lowest, highest = values.min(), values.max()
    if not (lowest >= 0 and highest <= 1):  # so written, it catches NaN
        raise UnsupportedImage(
            f"the floats run from {lowest} to {highest}: 0 to 1 was expected; scale or clip them"
        )
    levels: Pixels = np.rint(values * 255).astype(np.uint8)
    return levels
