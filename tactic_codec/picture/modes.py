"""A Pillow image of any mode as the one array that the codec knows."""

import io
import struct
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from PIL import Image

from tactic_codec.errors import UnsupportedImage
from tactic_codec.picture import forms, metadata, tiff
from tactic_codec.picture.forms import Colour, Pixels, Scaled
from tactic_codec.picture.plugins import translated
from tactic_codec.picture.scaling import WHOLE, Shrink, bands, resized

OWN_SIZE = (-1, -1)
"""Of an image that was read at a fraction of its size, in its info; no file has such a key."""


def from_pillow(
    image: Image.Image, *, background: str | Colour = "white", shrink: Shrink = WHOLE
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
    behind = forms.colour_of(background)
    forms.refuse_size(*image.size)
    with translated("the picture"):
        image.load()
        width, height = image.info.get(OWN_SIZE, image.size)
        size = shrink.size(width, height)
        colours, alpha = _split(image)
        to_srgb = _to_srgb(colours.mode, _colour_info(image))
        if alpha is None:  # else colours would mix with those that nobody sees
            colours = resized(colours, size)
        else:
            canvas = Image.new("RGB", colours.size, behind)
            canvas.paste(to_srgb(colours), mask=alpha)
            colours, to_srgb = resized(canvas, size), _as_rgb
        orientation = _orientation(image)
        if orientation in _SIDEWAYS:
            width, height = height, width
        pixels = _array_of(colours, to_srgb, orientation)
        return Scaled(pixels, width, height, metadata.found_in(image.info))


def _array_of(
    picture: Image.Image, to_srgb: Callable[[Image.Image], Image.Image], orientation: int
) -> Pixels:
    """The pixels of an image, converted and upright; some rows at once, so all is held once."""
    width, height = picture.size
    sideways = orientation in _SIDEWAYS
    pixels = np.empty((width, height, 3) if sideways else (height, width, 3), np.uint8)
    as_stored = pixels[:: -1 if orientation in _UPSIDE_DOWN else 1]
    as_stored = as_stored[:, :: -1 if orientation in _MIRRORED else 1]
    if sideways:
        as_stored = as_stored.swapaxes(0, 1)
    top = 0
    for band in bands(picture):
        as_stored[top : top + band.height] = np.asarray(to_srgb(band))
        top += band.height
    return pixels


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
        forms.warn_of_darkness(int(top - lowest if white_is_zero else highest), top)
        light = values.astype(np.uint32)
        if white_is_zero:
            light = top - light
        grey = ((510 * light + top) // (2 * top)).astype(np.uint8)
    transparent = image.info.get("transparency")
    if transparent is None:
        return Image.fromarray(grey), None
    opaque = np.where(values == transparent, 0, 255).astype(np.uint8)
    return Image.fromarray(grey), Image.fromarray(opaque)


_UNCALIBRATED, _INTEROPERABILITY_INDEX = 0xFFFF, 1


def _colour_info(image: Image.Image) -> dict[Any, Any]:
    """What an image says of its colours, DCF's way of saying Adobe RGB (EXIF 2.32, 4.6.8) too."""
    info = dict(image.info)
    if b"R03" in (info.get("exif") or b""):
        exif = image.getexif()
        space = exif.get_ifd(metadata.EXIF_IFD).get(metadata.COLOUR_SPACE)
        index = exif.get_ifd(metadata.INTEROPERABILITY_IFD).get(_INTEROPERABILITY_INDEX)
        info["adobe_rgb"] = space in (None, _UNCALIBRATED) and str(index)[:3] == "R03"
    return info


_SIDEWAYS, _UPSIDE_DOWN, _MIRRORED = (5, 6, 7, 8), (3, 4, 7, 8), (2, 3, 6, 7)
"""Orientations (EXIF 2.32, 4.6.4) whose rows stand upright, go upwards, or to the left."""


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, or 1, upright, where there is none to be read."""
    try:
        orientation = image.getexif().get(metadata.ORIENTATION)
    # Like the plugins, the EXIF parser raises anything; metadata must not cost us the picture.
    except Exception:
        forms.warn("the EXIF data is damaged: the picture is taken as upright")
        return 1
    return orientation if isinstance(orientation, int) else 1


# --- To sRGB --------------------------------------------------------------------------------------

# The names under which plain sRGB is embedded. Whole names: "sRGB linear" and "scRGB" are others.
_SRGB_NAMES = frozenset(
    ("sRGB", "sRGB IEC61966-2.1", "sRGB built-in", "sRGB2014", "c2")  # c2: the one on Facebook
)

_MODE_OF_SPACE = {b"GRAY": "L", b"RGB ": "RGB", b"CMYK": "CMYK"}


def _to_srgb(mode: str, info: Mapping[Any, Any]) -> Callable[[Image.Image], Image.Image]:
    """What makes sRGB of colours of mode L, RGB, CMYK or LAB, by what their file says of them.

    What counts first is an embedded profile, then numbers that stand for colours ("cicp", or what
    pillow-heif calls "nclx_profile"), then PNG's sRGB, then its gAMA and cHRM. Only in PNG do
    numbers count before a profile (PNG 3rd edition, 4.3): `reading` leaves that profile out.

    Args:
        mode: of the colours, as `_split` returns them.
        info: of the Pillow image; an "icc_profile" that is None was damaged.
    """
    try:
        profile = None if mode == "LAB" else _profile_of(info)
        return _by_profile(mode, profile) if profile or mode == "LAB" else _as_rgb
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        forms.warn(f"the colour profile cannot be used ({reason}): the colours are taken as sRGB")
        return _as_rgb


def _as_rgb(colours: Image.Image) -> Image.Image:
    return colours if colours.mode == "RGB" else colours.convert("RGB")


def _profile_of(info: Mapping[Any, Any]) -> bytes | None:
    """The profile to convert by, or None for sRGB; ValueError for colours that nobody knows."""
    if "icc_profile" in info and info["icc_profile"] != b"":
        profile = info["icc_profile"]
        if profile is None:
            raise ValueError("the embedded profile is damaged")
        return None if _profile_name(profile) in _SRGB_NAMES else profile
    numbers = info.get("cicp") or info.get("nclx_profile")
    by_gamma = "srgb" not in info and bool(info.keys() & {"gamma", "chromaticity"})
    adobe = info.get("adobe_rgb", False)
    if not (numbers or adobe or by_gamma):
        return None

    from tactic_codec.picture import profiles  # few pictures need it

    if isinstance(numbers, dict):
        numbers = (numbers["color_primaries"], numbers["transfer_characteristics"])
    if numbers:
        return profiles.of_cicp(*numbers[:2])
    if adobe:
        return profiles.of_gamma(profiles.ADOBE_GAMMA, profiles.ADOBE_RGB)
    return profiles.of_gamma(info.get("gamma"), info.get("chromaticity"))


def _by_profile(own: str, profile: bytes | None) -> Callable[[Image.Image], Image.Image]:
    """What converts colours of a mode by a profile, which Lab needs not."""
    mode = _MODE_OF_SPACE.get(profile[16:20], "no known mode") if profile else "LAB"
    # Grey pictures often carry the RGB profile of the program that saved them.
    if own != mode and (own, mode) != ("L", "RGB"):
        raise ValueError(f"they are for {mode}, the picture is {own}")
    apply = _transform(mode, profile or "LAB", "sRGB")
    return apply if own == mode else lambda colours: apply(_as_rgb(colours))


def in_profile(picture: Image.Image, profile: bytes) -> Image.Image:
    """Return an sRGB picture in the colours of a profile for RGB; ValueError if it gives none."""
    is_srgb = _profile_name(profile) in _SRGB_NAMES
    return picture if is_srgb else _transform("RGB", "sRGB", profile)(picture)


def _transform(mode: str, *profiles: str | bytes) -> Callable[[Image.Image], Image.Image]:
    """What converts colours of a mode from one profile to another, of RGB, in bytes or by name."""
    from PIL import ImageCms  # few pictures need it

    try:
        source, target = (
            ImageCms.createProfile(cast(Any, profile))
            if isinstance(profile, str)
            else io.BytesIO(profile)
            for profile in profiles
        )
        return ImageCms.buildTransform(source, target, mode, "RGB").apply
    except ImageCms.PyCMSError as error:
        raise ValueError(error) from error


def _profile_name(profile: bytes) -> str:
    """The description inside an ICC profile, or "" if there is none to be found.

    Reading it by hand (ICC.1:2022, 7.3 and 10.15; ICC.1:2001, 6.5.17) spares most pictures the
    import of ImageCms and a conversion from sRGB to sRGB.
    """
    count = int.from_bytes(profile[128:132], "big")
    for entry in range(132, min(132 + 12 * count, len(profile) - 11), 12):
        kind, offset, size = struct.unpack_from(">4sII", profile, entry)
        tag = profile[offset : offset + size] if kind == b"desc" else b""
        if tag[:4] == b"desc":
            length = int.from_bytes(tag[8:12], "big")
            return tag[12 : 12 + length].decode("ascii", "replace").rstrip("\0")
        if tag[:4] == b"mluc":
            length, start = int.from_bytes(tag[20:24], "big"), int.from_bytes(tag[24:28], "big")
            return tag[start : start + length].decode("utf-16-be", "replace").rstrip("\0")
    return ""
