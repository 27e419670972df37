"""The one door for pictures: whatever a caller has in hand as the codec's array."""

import errno
import os
import re
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from tactic_codec.errors import UnsupportedImage
from tactic_codec.picture.forms import (
    DEFAULT_MAX_PIXELS,
    WHITE,
    Colour,
    Pixels,
    Scaled,
    warn_of_darkness,
)
from tactic_codec.picture.modes import from_pillow
from tactic_codec.picture.reading import read
from tactic_codec.picture.scaling import WHOLE, Shrink


class _Array(Protocol):
    def __array__(self) -> npt.NDArray[Any]: ...


Picture = (
    Image.Image
    | _Array
    | str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | BinaryIO
    | Scaled
)
"""What `as_pixels` takes."""


def as_scaled(
    picture: Picture,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    background: str | Colour = WHITE,
    shrink: Shrink = WHOLE,
) -> Scaled:
    """Turn a picture in any of its forms into the codec's array, shrunk, and its size.

    Args:
        picture: a Pillow image of any mode; the path of a picture file; its bytes; an open binary
            file, read from where it stands to its end; or an array [H, W], [H, W, 1], [H, W, 3] or
            [H, W, 4] of sRGB values and alpha, uint8, uint16 or floats of 0 to 1. What is `Scaled`
            already keeps its size.
        max_pixels: the largest picture that is read from a file; what is decoded has its size.
        background: the colour behind transparent pixels, see `colour_of`.
        shrink: to what size.

    Returns:
        Pixels uint8 [H, W, 3], sRGB, upright, opaque; an array of this kind is passed through.

    Raises:
        TypeError: something else, a file opened as text and arrays of another type included.
        ValueError: ``background`` is no colour.
        UnsupportedImage: an array of another shape or with values outside 0 to 1; and as `read`.
        DamagedImage, LimitExceeded, OSError: as `read`.

    Warns:
        ImageWarning: samples of 16 bits are so small that the picture is very dark; and as `read`.
    """
    if isinstance(picture, Scaled):
        return shrink.of(picture)
    if isinstance(picture, Image.Image):
        return from_pillow(picture, background=background, shrink=shrink)
    source: bytes | Path | BinaryIO
    if isinstance(picture, bytes | bytearray | memoryview):
        source = bytes(picture)
    elif isinstance(picture, str | os.PathLike):
        source = path_of(picture)
    elif hasattr(picture, "read"):
        if isinstance(picture.read(0), str):
            raise TypeError("the picture file is opened as text: open it with mode 'rb'")
        source = cast(BinaryIO, picture)
    elif hasattr(picture, "__array__"):
        # A tensor that is being learned with gives its values only when it is told to let go.
        detach = getattr(picture, "detach", None)
        values = detach() if callable(detach) else picture
        pixels = _of_array(np.asarray(values), background)
        return shrink.of(Scaled(pixels, pixels.shape[1], pixels.shape[0]))
    else:
        raise TypeError(
            f"a {type(picture).__name__} is no picture: a Pillow image, a path, bytes, a binary"
            " file or an array [H, W, 3] was expected"
        )
    return read(source, max_pixels=max_pixels, background=background, shrink=shrink)


def as_pixels(
    picture: Picture,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    background: str | Colour = WHITE,
) -> Pixels:
    """Return the pixels of `as_scaled` at the picture's own size."""
    return as_scaled(picture, max_pixels=max_pixels, background=background).pixels


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
        warn_of_darkness(int(values.max()), 65535)
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
