"""A Pillow image of any mode as the one array that the codec knows."""

import warnings
from typing import Any

import numpy as np
from PIL import Image

from tactic_codec.errors import UnsupportedImage
from tactic_codec.picture import tiff
from tactic_codec.picture.colour import to_srgb
from tactic_codec.picture.forms import (
    WHITE,
    Colour,
    ImageWarning,
    Scaled,
    colour_of,
    warn_of_darkness,
)
from tactic_codec.picture.plugins import translated
from tactic_codec.picture.scaling import WHOLE, Shrink, resized

OWN_SIZE = (-1, -1)
"""Of an image that was read at a fraction of its size, in its info; no file has such a key."""


def refuse_empty(width: int, height: int) -> None:
    """Raise UnsupportedImage for an image without pixels."""
    if 0 in (width, height):
        raise UnsupportedImage(
            f"the picture has {width} x {height} pixels: at least 1 x 1 was expected"
        )


def from_pillow(
    image: Image.Image, *, background: str | Colour = WHITE, shrink: Shrink = WHOLE
) -> Scaled:
    """Turn a Pillow image of any mode into the codec's array.

    Orientation, transparency and an embedded colour profile are applied, as in `load`. Modes of
    deeper grey: ``I;16`` and ``I`` are read on the scale 0 to 65535, rounded to 8 bits; ``F`` on
    the scale 0 to 1 if nothing exceeds 1, else on Pillow's own, 0 to 255. What a TIFF opened by
    Pillow says of 12 bits, of signed samples (0 to 127, or to 32767) and of white as 0 counts.

    Args:
        image: its present frame is read; the limit on pixels is the caller's affair.
        background: the colour behind transparent pixels, see `colour_of`.
        shrink: to what size.

    Returns:
        Pixels that are sRGB, upright, opaque, writable, a copy; and the size before it was shrunk.

    Raises:
        ValueError: ``background`` is no colour.
        UnsupportedImage: no pixels, a mode that is not known, or values outside its scale.
        DamagedImage: the image was opened lazily and its file is cut or damaged.

    Warns:
        ImageWarning: what is said of the colours or the EXIF data cannot be used; samples of 16
            bits are so small that the picture looks black.
    """
    behind = colour_of(background)
    refuse_empty(*image.size)
    with translated("the picture"):
        image.load()
        width, height = image.info.get(OWN_SIZE, image.size)
        size = shrink.size(width, height)
        colours, alpha = _split(image)
        if alpha is None:  # else colours would mix with those that nobody sees
            colours = resized(colours, size)
        picture = to_srgb(colours, _colour_info(image))
        if alpha is not None:
            canvas = Image.new("RGB", picture.size, behind)
            canvas.paste(picture, mask=alpha)
            picture = resized(canvas, size)
        turn = _TURNS.get(_orientation(image))
        if turn in _SIDEWAYS:
            width, height = height, width
        pixels = np.array(picture if turn is None else picture.transpose(turn))
        return Scaled(pixels, width, height)


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours, of mode L, RGB, CMYK or LAB, and the alpha, of mode L, where there is one."""
    if (
        image.mode in ("I", "F")
        or image.mode.startswith("I;16")
        or (image.mode == "L" and tiff.is_signed(image))
    ):
        return _split_deep_grey(image)
    if image.has_transparency_data:
        if image.mode in ("1", "L", "LA", "La"):
            grey, alpha = image.convert("LA").split()
            return grey, alpha
        coloured = image.convert("RGBA")
        return coloured.convert("RGB"), coloured.getchannel("A")
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image, None
    if image.mode == "1":
        return image.convert("L"), None
    if image.mode in ("P", "RGBX", "YCbCr", "HSV"):
        return image.convert("RGB"), None
    raise UnsupportedImage(f"the picture is of mode {image.mode}: convert it to RGB first")


def _split_deep_grey(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """`_split` for grey that Pillow would clip or wrap instead of scale."""
    values = np.asarray(image)
    bits, signed = tiff.bits(image), tiff.is_signed(image)
    top = 255 if image.mode in ("F", "L") else 4095 if bits == 12 else 65535
    if signed and bits in (8, 16):
        top //= 2  # what is below 0 has no agreed scale
    if image.mode == "L":
        values = values.view(np.int8)
    elif image.mode == "I" and bits == 32 and not signed:
        values = values.view(np.uint32)
    lowest, highest = values.min(), values.max()
    if not (lowest >= 0 and highest <= top):  # so written, it catches NaN
        raise UnsupportedImage(
            f"the grey values run from {lowest} to {highest}: 0 to {top} was expected;"
            " scale them first"
        )
    white_is_zero = tiff.white_is_zero(image)
    if image.mode == "F":
        scaled = values * 255 if highest <= 1 else values
        grey = np.rint(255 - scaled if white_is_zero else scaled).astype(np.uint8)
    else:
        warn_of_darkness(int(top - lowest if white_is_zero else highest), top)
        light = values.astype(np.uint32)
        if white_is_zero:
            light = top - light
        grey = ((510 * light + top) // (2 * top)).astype(np.uint8)
    transparent = image.info.get("transparency")
    if transparent is None:
        return Image.fromarray(grey), None
    opaque = np.where(values == transparent, 0, 255).astype(np.uint8)
    return Image.fromarray(grey), Image.fromarray(opaque)


_EXIF_IFD, _INTEROPERABILITY_IFD = 0x8769, 0xA005
_COLOUR_SPACE, _UNCALIBRATED, _INTEROPERABILITY_INDEX = 0xA001, 0xFFFF, 1


def _colour_info(image: Image.Image) -> dict[Any, Any]:
    """What an image says of its colours, DCF's way of saying Adobe RGB (EXIF 2.32, 4.6.8) too."""
    info = dict(image.info)
    if b"R03" in (info.get("exif") or b""):
        exif = image.getexif()
        space = exif.get_ifd(_EXIF_IFD).get(_COLOUR_SPACE)
        index = exif.get_ifd(_INTEROPERABILITY_IFD).get(_INTEROPERABILITY_INDEX)
        info["adobe_rgb"] = space in (None, _UNCALIBRATED) and str(index)[:3] == "R03"
    return info


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = [_TURNS[orientation] for orientation in (5, 6, 7, 8)]


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, or 1, upright, where there is none to be read."""
    try:
        orientation = image.getexif().get(0x0112)
    # Like the plugins, the EXIF parser raises anything; metadata must not cost us the picture.
    except Exception:
        warnings.warn(
            "the EXIF data is damaged: the picture is taken as upright", ImageWarning, stacklevel=3
        )
        return 1
    return orientation if isinstance(orientation, int) else 1
