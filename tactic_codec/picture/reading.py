"""Read one picture from a file, a stream or bytes, within bounds."""

import io
import math
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from tactic_codec.errors import DamagedImage, LimitExceeded, UnsupportedImage
from tactic_codec.picture.boxes import idat_is_whole, jxl_size, png_has_all_rows, told
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
from tactic_codec.picture.kinds import HEAD_BYTES, Reader, find_reader
from tactic_codec.picture.modes import OWN_SIZE, from_pillow, refuse_empty
from tactic_codec.picture.plugins import begin, translated
from tactic_codec.picture.scaling import SHRINKING_GAP, WHOLE, Shrink

_BYTES_A_PIXEL = 16
"""Of four channels of 32 bits, uncompressed: the most that a picture read here has."""

_BYTES_BESIDE = 1 << 26
"""Room for metadata and previews."""

_TIFF_BITS, _TIFF_COMPRESSION, _TIFF_PLANES = 258, 259, 284
_SEPARATE_PLANES, _PACKBITS = 2, 32773
_IN_NATIVE_ORDER = {
    f"{kind}{order}{form}": f"{kind}N{form}"
    for kind, form in (("F;32", "F"), ("I;32", "S"), ("I;16", "S"))
    for order in ("B", "")
}
"""Pillow's names of samples that are floats or signed, of either order of bytes."""

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
        image = decoded(find_reader(stream.read(HEAD_BYTES)), stream, max_pixels, shrink)
        found = from_pillow(image, background=background, shrink=shrink)
        if image.mode.startswith("RGB") and _is_deep(image):
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


def decoded(
    reader: Reader, stream: BinaryIO, max_pixels: int, shrink: Shrink = WHOLE
) -> Image.Image:
    """Read a picture, and one whose file is damaged where its pixels are not; errors as `read`."""
    try:
        image = _decoded(reader, stream, max_pixels, shrink)
    except DamagedImage:
        mended = _mended(reader, stream, max_pixels, shrink)
        if mended is None:
            raise
        return mended
    if reader.name == "JPEG":
        _warn_of_lacking(image, stream, max_pixels, shrink)
    return image


def _decoded(reader: Reader, stream: BinaryIO, max_pixels: int, shrink: Shrink) -> Image.Image:
    """Read a picture's pixels, and what its file says of them."""
    if reader.name == "JPEG XL":  # decoded as soon as it is opened
        with translated("the JPEG XL picture"):
            refuse_size(max_pixels, *jxl_size(stream))
    stream.seek(0)
    image = begin(reader, stream)
    refuse_size(max_pixels, *image.size)
    with translated(f"the {reader.name} picture"):
        _refuse_camera_raw(image)
        if reader.name == "TIFF":
            _mend_reading_of_tiff(image)
        if reader.name == "JPEG":
            own = image.size
            width, height = (math.ceil(SHRINKING_GAP * side) for side in shrink.size(*own))
            image.draft(None, (width, height))  # an eighth at least, and no less than that
            image.info[OWN_SIZE] = own
        _refuse_silent_damage(reader, stream)
        several = getattr(image, "is_animated", False)
        said = told(reader.name, stream)
        stream.seek(0)
        image.load()
        image.info.update(said)
        if reader.name == "PNG":
            _refuse_missing_rows(image, stream)
            if "cicp" in said:  # goes before a profile, in PNG alone
                image.info.pop("icc_profile", None)
            _scale_transparency(image.info, said["bits"])
        if reader.name == "JPEG XL" and not getattr(image, "jpeg", False):
            image.info.pop("exif", None)  # it is upright already, whatever its EXIF says
        if "clap" in said:
            image = _cropped(image, said["clap"])
    if several:
        warnings.warn(
            f"the {reader.name} picture has several frames or pages: only the first is read",
            ImageWarning,
            stacklevel=3,
        )
    return image


def _refuse_silent_damage(reader: Reader, stream: BinaryIO) -> None:
    """Refuse what Pillow decodes to other pixels without a word.

    A JPEG 2000 without its last marker, cut behind its header, becomes one grey. And the checksums
    of a PNG's pixels are not looked at.
    """
    stream.seek(0)
    if reader.name == "JPEG 2000" and b"\xff\xd9" not in stream.read():
        raise DamagedImage("the JPEG 2000 picture is cut: fetch it again")
    if reader.name == "PNG" and not idat_is_whole(stream):
        raise DamagedImage("a checksum of the PNG's pixels is wrong: fetch it again")


def _warn_of_lacking(image: Image.Image, stream: BinaryIO, max_pixels: int, shrink: Shrink) -> None:
    """Warn of a JPEG that was closed with an end marker although pixels are missing.

    libjpeg shows grey or coarse blocks there. Whether the last ones are missing shows when there is
    more data before the marker: then they change.
    """
    width, height = image.size
    last = image.crop(((width - 1) // 8 * 8, (height - 1) // 8 * 8, width, height)).convert("L")
    doubtful = np.ptp(np.asarray(last)) <= _FLAT or "progressive" in image.info
    data = _whole(stream, max_pixels)
    if not doubtful and _RESTARTS not in data:
        return
    from tactic_codec.picture.mending import lacking

    what, other = lacking(data)
    if doubtful and other:
        reader = find_reader(other[:HEAD_BYTES])
        again = _decoded(reader, io.BytesIO(other), max_pixels, shrink)
        what = "" if np.array_equal(np.asarray(image), np.asarray(again)) else "its last pixels"
    if what:
        warnings.warn(
            f"the JPEG lacks {what}, although it has an end marker: what is missing there is"
            " grey or coarse",
            ImageWarning,
            stacklevel=4,
        )


def _refuse_missing_rows(image: Image.Image, stream: BinaryIO) -> None:
    """Refuse a PNG whose rows end early; Pillow leaves them at 0 without a word.

    Only then they are counted, because that means to inflate all of them once more.
    """
    last = image.crop((0, image.height - 1, image.width, image.height))
    seems_whole = np.asarray(last).any() and not image.info.get("interlace")
    if not seems_whole and not png_has_all_rows(stream):
        raise DamagedImage("the PNG's rows end early: fetch it again")


def _mend_reading_of_tiff(image: Any) -> None:
    """Have Pillow read planes and the order of bytes as the file has them.

    Of uncompressed planes Pillow's own reader takes each sample for 8 bits, black for 0 and the
    machine's order of bytes. libtiff reads them well, and looks up for itself how they are
    compressed; Pillow leaves them to it where the tag says so. But what libtiff has read has the
    machine's order of bytes, which Pillow knows of unsigned integers alone.
    """
    if image.tag_v2.get(_TIFF_PLANES) == _SEPARATE_PLANES:
        if image.mode in ("LA", "PA"):  # read wrongly by either way
            raise UnsupportedImage(
                "this TIFF has grey and alpha in separate planes: convert it to PNG first"
            )
        if image.tag_v2.get(_TIFF_COMPRESSION, 1) == 1:
            image.tag_v2[_TIFF_COMPRESSION] = _PACKBITS
            image._setup()
    image.tile = [
        tile._replace(args=(_IN_NATIVE_ORDER.get(tile.args[0], tile.args[0]), *tile.args[1:]))
        if tile.codec_name == "libtiff"
        else tile
        for tile in image.tile
    ]


def _scale_transparency(info: dict[Any, Any], bits: int) -> None:
    """Bring the transparent colour of a PNG to the scale of its pixels, where Pillow does not.

    Of colours of 16 bits Pillow keeps the upper 8, so no more can be compared.
    """
    transparent = info.get("transparency")
    if isinstance(transparent, int) and bits in (2, 4):
        info["transparency"] = transparent * 255 // ((1 << bits) - 1)
    elif isinstance(transparent, tuple) and bits == 16:
        info["transparency"] = tuple(value >> 8 for value in transparent)


def _mended(
    reader: Reader, stream: BinaryIO, max_pixels: int, shrink: Shrink
) -> Image.Image | None:
    """Read a picture whose file is damaged where its pixels are not, or return None."""
    from tactic_codec.picture.mending import mended  # few pictures need it

    for files in mended(reader.name, _whole(stream, max_pixels)):
        try:
            image, *others = (
                _decoded(reader, io.BytesIO(file), max_pixels, shrink) for file in files
            )
        except DamagedImage:
            continue
        if all(np.array_equal(np.asarray(image), np.asarray(other)) for other in others):
            warnings.warn(
                f"the {reader.name} file is damaged where its pixels are not, in its metadata or at"
                " its end: what is damaged is left out",
                ImageWarning,
                stacklevel=3,
            )
            return image
    return None


def _whole(stream: BinaryIO, max_pixels: int) -> bytes:
    """All of a file, but nothing of one that is too long for its pixels."""
    fits = stream.seek(0, io.SEEK_END) <= bytes_of(max_pixels)
    stream.seek(0)
    return stream.read() if fits else b""


def _cropped(image: Image.Image, aperture: bytes) -> Image.Image:
    """Cut out a clean aperture (ISO/IEC 14496-12, 12.1.4.1): outside it there is only padding."""
    try:
        w, w_per, h, h_per, x, x_per, y, y_per = struct.unpack(">IIIIiIiI", aperture)
        width, height = round(w / w_per), round(h / h_per)
        left = round((image.width - width) / 2 + x / x_per)
        top = round((image.height - height) / 2 + y / y_per)
    except (struct.error, ZeroDivisionError):
        width = height = left = top = 0
    inside = min(left, top) >= 0 and left + width <= image.width and top + height <= image.height
    if not (width and height and inside):
        warnings.warn(
            "the clean aperture cannot be used: the picture is read with its edges",
            ImageWarning,
            stacklevel=4,
        )
        return image
    return image.crop((left, top, left + width, top + height))


def _is_deep(image: Image.Image) -> bool:
    """Whether colours of 16 bits were read, of which Pillow keeps the upper 8."""
    bits = image.info.get("bits") or getattr(image, "tag_v2", {}).get(_TIFF_BITS, 8)
    return bits == 16 or (isinstance(bits, tuple) and set(bits) == {16})


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


def refuse_size(max_pixels: int, width: int, height: int) -> None:
    """Raise LimitExceeded for more than ``max_pixels``, UnsupportedImage for none at all."""
    refuse_empty(width, height)
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
