"""A Pillow image of any mode as the one array that the codec knows."""

import warnings

import numpy as np
from PIL import Image

from tactic_codec.errors import UnsupportedImage
from tactic_codec.picture.colour import to_srgb
from tactic_codec.picture.forms import WHITE, Colour, ImageWarning, Pixels
from tactic_codec.picture.plugins import translated


def refuse_empty(image: Image.Image) -> None:
    """Raise UnsupportedImage for an image without pixels."""
    if 0 in image.size:
        raise UnsupportedImage(
            f"the picture has {image.width} x {image.height} pixels: at least 1 x 1 was expected"
        )


def from_pillow(image: Image.Image, *, background: Colour = WHITE) -> Pixels:
    """Turn a Pillow image of any mode into the codec's array.

    Orientation, transparency and an embedded colour profile are applied, as in `load`. Modes of
    deeper grey: ``I;16`` and ``I`` are read on the scale 0 to 65535, rounded to 8 bits; ``F`` on
    the scale 0 to 1 if nothing exceeds 1, else on Pillow's own, 0 to 255.

    Args:
        image: its present frame is read; the limit on pixels is the caller's affair.
        background: the colour behind transparent pixels.

    Returns:
        uint8 [height, width, 3], sRGB, upright, opaque, writable, a copy.

    Raises:
        UnsupportedImage: no pixels, a mode that is not known, or values outside its scale.
        DamagedImage: the image was opened lazily and its file is cut or damaged.

    Warns:
        ImageWarning: the colour profile or the EXIF data cannot be used.
    """
    refuse_empty(image)
    with translated("the picture"):
        image.load()
        colours, alpha = _split(image)
        picture = to_srgb(colours, image.info.get("icc_profile"))
        if alpha is not None:
            canvas = Image.new("RGB", picture.size, background)
            canvas.paste(picture, mask=alpha)
            picture = canvas
        turn = _TURNS.get(_orientation(image))
        return np.array(picture if turn is None else picture.transpose(turn))


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours, of mode L, RGB, CMYK or LAB, and the alpha, of mode L, where there is one."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
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
    """`_split` for grey of 16 or 32 bits, which Pillow itself would clip instead of scale."""
    values = np.asarray(image)
    lowest, highest = values.min(), values.max()
    top = 255 if image.mode == "F" else 65535
    if not (lowest >= 0 and highest <= top):  # so written, it catches NaN
        raise UnsupportedImage(
            f"the grey values run from {lowest} to {highest}: 0 to {top} was expected;"
            " scale them first"
        )
    if image.mode == "F":
        grey = np.rint(values * 255 if highest <= 1 else values).astype(np.uint8)
    else:
        # 65535 / 255 = 257 is odd: adding its half, rounded down, rounds to the nearest, no ties.
        grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    transparent = image.info.get("transparency")
    if transparent is None:
        return Image.fromarray(grey), None
    opaque = np.where(values == transparent, 0, 255).astype(np.uint8)
    return Image.fromarray(grey), Image.fromarray(opaque)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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
