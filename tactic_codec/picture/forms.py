"""The array forms of pictures, and the warning for what they cannot hold."""

import warnings
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from tactic_codec.errors import LimitExceeded, UnsupportedImage

Pixels = npt.NDArray[np.uint8]
"""A picture as the codec sees it: uint8 [height, width, 3], sRGB."""


class Strips(NamedTuple):
    """A picture whose rows come once and some at a time, from the top.

    ``rows`` are uint8 [rows, width, 3], ``height`` of them in all.
    """

    width: int
    height: int
    rows: Iterable[Pixels]

    @classmethod
    def of(cls, pixels: Pixels) -> "Strips":
        """Return a picture that is there as a whole, uint8 [height, width, 3]."""
        return cls(pixels.shape[1], pixels.shape[0], [pixels])

    def whole(self) -> Pixels:
        """Return the picture, uint8 [height, width, 3]."""
        pixels = np.empty((self.height, self.width, 3), np.uint8)
        top = 0
        for strip in self.rows:
            if len(strip) == self.height:
                return strip
            pixels[top : top + len(strip)] = strip
            top += len(strip)
        return pixels


def to_pillow(pixels: Pixels) -> Image.Image:
    """The array uint8 [height, width, 3] as a Pillow image of mode RGB; ValueError for others."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(
            f"{pixels.dtype} {list(pixels.shape)} is no picture: uint8 [height, width, 3] expected"
        )
    return Image.fromarray(pixels)


class Metadata(NamedTuple):
    """What a file says beside its pixels, each in its own bytes; empty where it says nothing.

    Attributes:
        exif: a TIFF structure, from its byte order on.
        xmp: a packet in UTF-8.
        icc: a colour profile.
    """

    exif: bytes = b""
    xmp: bytes = b""
    icc: bytes = b""


NO_METADATA = Metadata()


class Scaled(NamedTuple):
    """A picture as it is to be coded, and the size that it really has, in pixels.

    ``metadata`` are of its file, as they stand there.
    """

    pixels: Pixels
    width: int
    height: int
    metadata: Metadata = NO_METADATA


LabelMap = npt.NDArray[np.uint8]
"""The class of each pixel of a picture: uint8 [height, width]."""

Plane = npt.NDArray[np.float32]
"""What a network says of each place of a picture: float32 [height, width]."""

Colour = tuple[int, int, int]
"""One sRGB colour, three values of 0 to 255."""

DEFAULT_MAX_PIXELS = 1 << 28
"""268 megapixels: room for any camera, and under a gigabyte per decoded copy."""

WHITE: Colour = (255, 255, 255)


class ImageWarning(UserWarning):
    """The picture is read, but not everything that its file holds."""


def warn(what: str) -> None:
    """Warn of something that is said of a picture."""
    warnings.warn(what, ImageWarning, stacklevel=3)


def refuse_size(width: int, height: int, max_pixels: int | None = None) -> None:
    """Raise LimitExceeded for more than ``max_pixels``, UnsupportedImage for none at all."""
    if 0 in (width, height):
        raise UnsupportedImage(
            f"the picture has {width} x {height} pixels: at least 1 x 1 was expected"
        )
    if max_pixels is not None and width * height > max_pixels:
        raise LimitExceeded(
            f"the picture has {width} x {height} = {width * height} pixels, more than the limit of"
            f" {max_pixels}: scale it down or raise the limit"
        )


def warn_of_darkness(highest: int, top: int) -> None:
    """Warn of samples that use so little of the range of their type that nothing is to be seen.

    Cameras and instruments of 10 to 13 bits often store what they measure in 16.
    """
    if 0 < highest <= top // 8:
        warn(
            f"the brightest sample is {highest} of {top}: the picture looks black or very dark;"
            " scale its values to the whole range first"
        )


def colour_of(name: str | Colour) -> Colour:
    """The colour that Pillow's ImageColor knows by this name, as "#808080", "grey" or "hsl(...)".

    Raises:
        ValueError: no colour, or one that is not opaque; tuples are checked too.
    """
    channels: tuple[int, ...]
    if isinstance(name, str):
        from PIL import ImageColor

        try:
            channels = ImageColor.getrgb(name.strip())
        except ValueError:
            channels = ()
    else:
        channels = tuple(name) if isinstance(name, list | tuple) else ()
    if len(channels) != 3 or not all(isinstance(c, int) and 0 <= c <= 255 for c in channels):
        raise ValueError(
            f"{name!r} is no opaque colour: a name as 'grey', '#808080' or 'rgb(128, 128, 128)' was"
            " expected, or three whole numbers of 0 to 255"
        )
    red, green, blue = channels
    return red, green, blue
