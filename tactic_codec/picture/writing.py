"""Write pictures as files, and hand them to Pillow."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tactic_codec.errors import UnsupportedImage
from tactic_codec.picture.forms import Pixels
from tactic_codec.picture.plugins import plugin


class _Writer(NamedTuple):
    """One format to save in: Pillow's names for it and the options that keep the pixels."""

    pillow_name: str
    module: str
    suffixes: tuple[str, ...]
    options: dict[str, Any]


_WRITERS = {
    "png": _Writer("PNG", "PngImagePlugin", (".png",), {}),
    "jpeg": _Writer(
        "JPEG", "JpegImagePlugin", (".jpg", ".jpeg"), {"quality": 95, "subsampling": 0}
    ),
    "webp": _Writer("WEBP", "WebPImagePlugin", (".webp",), {"lossless": True}),
    "ppm": _Writer("PPM", "PpmImagePlugin", (".ppm", ".pnm"), {}),
    "bmp": _Writer("BMP", "BmpImagePlugin", (".bmp",), {}),
    "tiff": _Writer(
        "TIFF", "TiffImagePlugin", (".tif", ".tiff"), {"compression": "tiff_adobe_deflate"}
    ),
}


def to_pillow(pixels: Pixels) -> Image.Image:
    """The array uint8 [height, width, 3] as a Pillow image of mode RGB; ValueError for others."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(
            f"{pixels.dtype} {list(pixels.shape)} is no picture: uint8 [height, width, 3] expected"
        )
    return Image.fromarray(pixels)


def save(pixels: Pixels, format: str) -> bytes:
    """Encode a picture: "jpeg" at quality 95 without chroma subsampling, all others losslessly.

    Args:
        pixels: uint8 [height, width, 3], sRGB.
        format: "png", "jpeg", "webp", "ppm", "bmp" or "tiff", see `format_of`.

    Returns:
        The bytes of the picture file.

    Raises:
        UnsupportedImage: another format, or a picture with too many pixels for this one.
        ValueError: ``pixels`` is not such an array.
    """
    if format not in _WRITERS:
        raise UnsupportedImage(
            f"pictures are not written as {format!r}: choose one of {', '.join(_WRITERS)}"
        )
    image = to_pillow(pixels)
    writer = _WRITERS[format]
    plugin(f"PIL.{writer.module}")  # else Pillow imports every plugin to find this one
    buffer = io.BytesIO()
    try:
        image.save(buffer, writer.pillow_name, **writer.options)
    except (OSError, ValueError, OverflowError) as error:
        raise UnsupportedImage(
            f"{writer.pillow_name} cannot hold this picture of {image.width} x {image.height}"
            f" pixels ({error}): choose png"
        ) from error
    return buffer.getvalue()


def format_of(path: Path) -> str:
    """The format for `save` that the suffix of ``path`` stands for, in either case of letters.

    Raises:
        UnsupportedImage: the suffix is missing or stands for no format; the text lists those known.
    """
    suffix = path.suffix.lower()
    for name, writer in _WRITERS.items():
        if suffix in writer.suffixes:
            return name
    known = ", ".join(suffix for writer in _WRITERS.values() for suffix in writer.suffixes)
    raise UnsupportedImage(
        f"the suffix {path.suffix!r} names no picture format: choose one of {known}"
    )
