"""Write pictures and label maps as files."""

import importlib
import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tactic_codec.errors import UnsupportedImage
from tactic_codec.picture import metadata, png
from tactic_codec.picture.forms import (
    NO_METADATA,
    Colour,
    LabelMap,
    Metadata,
    Pixels,
    Strips,
    to_pillow,
    warn,
)
from tactic_codec.picture.modes import in_profile

_WRITERS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "png": ("PngImagePlugin", (".png",), {"compress_type": zlib.Z_RLE}),
    "jpeg": ("JpegImagePlugin", (".jpg", ".jpeg"), {"quality": 95, "subsampling": 0}),
    "webp": ("WebPImagePlugin", (".webp",), {"lossless": True}),
    "ppm": ("PpmImagePlugin", (".ppm", ".pnm"), {}),
    "bmp": ("BmpImagePlugin", (".bmp",), {}),
    "tiff": ("TiffImagePlugin", (".tif", ".tiff"), {"compression": "tiff_adobe_deflate"}),
}
"""Of each format: Pillow's plugin, suffixes, and options that keep the pixels.

Decoded photographs repeat next to nothing: to look for runs alone takes a third of the time, and
files are 0 to 12 % larger.
"""

_AVERAGE = 3
"""PNG's number of the filter that takes from a value the mean of those left and above."""

_FILTERED = 16
"""Rows that are filtered at once: what is in between then fits into the caches."""

_HEADERS = {"exif": metadata.EXIF_PREFIX, "xmp": b"http://ns.adobe.com/xap/1.0/\0"}
_SEGMENTS = {name: (1 << 16) - 3 - len(header) for name, header in _HEADERS.items()}
"""Bytes that fit into a segment of a JPEG, whose length has 16 bits and counts itself."""


def save(pixels: Pixels, format: str, given: Metadata = NO_METADATA) -> bytes:
    """Encode a picture, uint8 [height, width, 3], see `pieces`; ValueError if it is none."""
    to_pillow(pixels[:1])
    return b"".join(pieces(Strips.of(pixels), format, given))


def pieces(strips: Strips, format: str, given: Metadata = NO_METADATA) -> Iterator[bytes]:
    """Encode a picture: "jpeg" at quality 95 without chroma subsampling, all others losslessly.

    PNG and PPM are written as rows come. Other formats, and the colours of a profile, take the
    whole picture.

    Args:
        strips: the picture, sRGB.
        format: "png", "jpeg", "webp", "ppm", "bmp" or "tiff", see `format_of`.
        given: is written with it, mended; the pixels are converted to its profile.

    Yields:
        The bytes of the picture file.

    Raises:
        UnsupportedImage: another format, or a picture with too many pixels for this one.

    Warns:
        ImageWarning: metadata that cannot be used, or that the format does not hold, is left out.
    """
    if format not in _WRITERS:
        raise UnsupportedImage(
            f"pictures are not written as {format!r}: choose one of {', '.join(_WRITERS)}"
        )
    kept = _kept(format, metadata.mended(given)) if any(given) else given
    if kept.icc:
        strips = Strips.of(strips.whole())
        try:
            image = in_profile(to_pillow(strips.whole()), kept.icc)
            strips = Strips.of(np.asarray(image))
        except (OSError, ValueError) as error:
            warn(f"the colour profile cannot be used ({error}): the picture is written as sRGB")
            kept = kept._replace(icc=b"")
    if format == "png":
        yield from _png(strips, kept)
    elif format == "ppm":
        yield b"P6\n%d %d\n255\n" % strips[:2]
        yield from (rows.tobytes() for rows in strips.rows)
    else:
        options: dict[Any, Any] = {**metadata.shown(kept)}
        if kept.icc:
            options["icc_profile"] = kept.icc
        image = to_pillow(strips.whole())
        try:
            yield _encoded(image, format, options)
        except (OSError, ValueError, OverflowError) as error:
            raise UnsupportedImage(
                f"{format.upper()} cannot hold this picture of {strips.width} x {strips.height}"
                f" pixels ({error}): choose png"
            ) from error


def _kept(format: str, given: Metadata) -> Metadata:
    """Return what of metadata a format holds."""
    if format not in ("png", "jpeg", "webp"):
        warn(f"metadata is not written as {format}: it is left out; choose png, jpeg or webp")
        return NO_METADATA
    for name, most in _SEGMENTS.items() if format == "jpeg" else ():
        if len(getattr(given, name)) > most:
            given = given._replace(**{name: b""})
            title = name.upper()
            warn(f"a JPEG cannot hold {title} beyond 64 KiB: it is left out; choose png or webp")
    return given


def _png(strips: Strips, kept: Metadata) -> Iterator[bytes]:
    """Encode a picture as PNG (W3C, third edition), each value less the mean of those left and up.

    Of Pillow's choice among other filters for each row, files are about as large, and it takes
    longer.
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(data, zlib.crc32(kind))
        return struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", checksum)

    yield png.SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", *strips[:2], 8, 2, 0, 0, 0))
    if kept.icc:
        yield chunk(b"iCCP", b"ICC\0\0" + zlib.compress(kept.icc))
    if kept.exif:
        yield chunk(b"eXIf", kept.exif)
    if kept.xmp:
        yield chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + kept.xmp)
    deflate = zlib.compressobj(strategy=zlib.Z_RLE)
    last = np.zeros((1, 3 * strips.width), np.uint8)
    for strip in strips.rows:
        for top in range(0, len(strip), _FILTERED):
            rows = strip[top : top + _FILTERED].reshape(-1, last.size)
            up, left = np.concatenate([last, rows[:-1]]), np.zeros_like(rows)
            left[:, 3:] = rows[:, :-3]
            filtered = np.full((len(rows), 1 + last.size), _AVERAGE, np.uint8)
            filtered[:, 1:] = rows - ((left & up) + ((left ^ up) >> 1))
            last = rows[-1:]
            yield chunk(b"IDAT", deflate.compress(filtered.data))
    yield chunk(b"IDAT", deflate.flush()) + chunk(b"IEND", b"")


class _File(io.BytesIO):
    """A file whose name tells Pillow the format; told otherwise, it imports those of five."""

    name: str


def _encoded(image: Image.Image, format: str, described: dict[str, Any]) -> bytes:
    module, (suffix, *_), options = _WRITERS[format]
    importlib.import_module(f"PIL.{module}")  # else Pillow imports every plugin to find this one
    buffer = _File()
    buffer.name = f"picture{suffix}"
    image.save(buffer, **(options | described))
    return buffer.getvalue()


def format_of(path: Path) -> str:
    """The format for `save` that the suffix of ``path`` stands for, in either case of letters.

    Raises:
        UnsupportedImage: the suffix is missing or stands for no format; the text lists those known.
    """
    suffix = path.suffix.lower()
    formats = {known: name for name, (_, suffixes, _) in _WRITERS.items() for known in suffixes}
    if suffix in formats:
        return formats[suffix]
    raise UnsupportedImage(
        f"the suffix {path.suffix!r} names no picture format: choose one of {', '.join(formats)}"
    )


def save_labels(labels: LabelMap, colours: Sequence[Colour]) -> bytes:
    """Encode a label map as a palette PNG of 8 bits, whose values are classes.

    Args:
        labels: uint8 [height, width].
        colours: of each class, 1 to 256.

    Raises:
        ValueError: ``labels`` is not such an array.
    """
    if labels.dtype != np.uint8 or labels.ndim != 2 or 0 in labels.shape:
        raise ValueError(
            f"{labels.dtype} {list(labels.shape)} is no label map: uint8 [height, width] expected"
        )
    image = Image.fromarray(labels)
    # A palette of more than 16 colours needs 8 bits; not every reader of label maps unpacks fewer.
    filled = [*colours, *[(0, 0, 0)] * (17 - len(colours))]
    image.putpalette([value for colour in filled for value in colour])
    return _encoded(image, "png", {"compress_type": zlib.Z_DEFAULT_STRATEGY})
