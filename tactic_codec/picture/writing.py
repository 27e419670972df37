"""Write pictures and label maps as files, and hand pictures to Pillow."""

import importlib
import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tactic_codec.errors import UnsupportedImage
from tactic_codec.picture import metadata
from tactic_codec.picture.forms import NO_METADATA, Colour, LabelMap, Metadata, Pixels, warn

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

_SEGMENTS = {"exif": (1 << 16) - 3, "xmp": (1 << 16) - 3 - len(b"http://ns.adobe.com/xap/1.0/\0")}
"""Bytes that fit into a segment of a JPEG, whose length has 16 bits and counts itself."""


def to_pillow(pixels: Pixels) -> Image.Image:
    """The array uint8 [height, width, 3] as a Pillow image of mode RGB; ValueError for others."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(
            f"{pixels.dtype} {list(pixels.shape)} is no picture: uint8 [height, width, 3] expected"
        )
    return Image.fromarray(pixels)


def save(pixels: Pixels, format: str, given: Metadata = NO_METADATA) -> bytes:
    """Encode a picture: "jpeg" at quality 95 without chroma subsampling, all others losslessly.

    Args:
        pixels: uint8 [height, width, 3], sRGB.
        format: "png", "jpeg", "webp", "ppm", "bmp" or "tiff", see `format_of`.
        given: is written with it, mended; the pixels are converted to its profile.

    Returns:
        The bytes of the picture file.

    Raises:
        UnsupportedImage: another format, or a picture with too many pixels for this one.
        ValueError: ``pixels`` is not such an array.

    Warns:
        ImageWarning: metadata that cannot be used, or that the format does not hold, is left out.
    """
    if format not in _WRITERS:
        raise UnsupportedImage(
            f"pictures are not written as {format!r}: choose one of {', '.join(_WRITERS)}"
        )
    image, options = to_pillow(pixels), dict[str, Any]()
    if any(given):
        image, options = _described(image, format, metadata.mended(given))
    try:
        return _encoded(image, format, options)
    except (OSError, ValueError, OverflowError) as error:
        raise UnsupportedImage(
            f"{format.upper()} cannot hold this picture of {image.width} x {image.height}"
            f" pixels ({error}): choose png"
        ) from error


def _described(
    image: Image.Image, format: str, kept: Metadata
) -> tuple[Image.Image, dict[str, Any]]:
    """Return the picture in the colours of its profile, and Pillow's options for metadata."""
    if format not in ("png", "jpeg", "webp"):
        warn(f"metadata is not written as {format}: it is left out; choose png, jpeg or webp")
        return image, {}
    options: dict[Any, Any] = dict(metadata.shown(kept))
    for name, most in _SEGMENTS.items() if format == "jpeg" else ():
        if len(options.get(name, b"")) > most:
            del options[name]
            title = name.upper()
            warn(f"a JPEG cannot hold {title} beyond 64 KiB: it is left out; choose png or webp")
    if kept.icc:
        from tactic_codec.picture.modes import in_profile  # which imports this

        try:
            image = in_profile(image, kept.icc)
            options["icc_profile"] = kept.icc
        except (OSError, ValueError) as error:
            warn(f"the colour profile cannot be used ({error}): the picture is written as sRGB")
    if format == "png" and kept.xmp:
        from PIL.PngImagePlugin import PngInfo

        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", options.pop("xmp"))
    return image, options


class _File(io.BytesIO):
    """A file whose name tells Pillow the format; told otherwise, it imports those of five."""

    name: str


def _encoded(image: Image.Image, format: str, described: dict[str, Any] | None = None) -> bytes:
    module, (suffix, *_), options = _WRITERS[format]
    importlib.import_module(f"PIL.{module}")  # else Pillow imports every plugin to find this one
    buffer = _File()
    buffer.name = f"picture{suffix}"
    image.save(buffer, **(options | (described or {})))
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
