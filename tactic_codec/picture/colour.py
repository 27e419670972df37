"""Colours to sRGB, by what the file says of them."""

import io
import warnings
from collections.abc import Mapping
from typing import Any

from PIL import Image

from tactic_codec.picture.forms import ImageWarning

# The names under which plain sRGB is embedded. Whole names: "sRGB linear" and "scRGB" are others.
_SRGB_NAMES = frozenset(
    ("sRGB", "sRGB IEC61966-2.1", "sRGB built-in", "sRGB2014", "c2")  # c2: the one on Facebook
)

_MODE_OF_SPACE = {b"GRAY": "L", b"RGB ": "RGB", b"CMYK": "CMYK"}


def to_srgb(colours: Image.Image, info: Mapping[Any, Any]) -> Image.Image:
    """Colours of mode L, RGB, CMYK or LAB as sRGB, by what their file says of them.

    What counts first is an embedded profile, then numbers that stand for colours ("cicp", or what
    pillow-heif calls "nclx_profile"), then PNG's sRGB, then its gAMA and cHRM. Only in PNG do
    numbers count before a profile (PNG 3rd edition, 4.3): `reading` leaves that profile out.

    Args:
        colours: as `modes` splits them.
        info: of the Pillow image; an "icc_profile" that is None was damaged.
    """
    if colours.mode == "LAB":
        return _lab_to_srgb(colours)
    try:
        profile = _profile_of(info)
        return colours.convert("RGB") if profile is None else _converted(colours, profile)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
    warnings.warn(
        f"the colour profile cannot be used ({reason}): the colours are taken as sRGB",
        ImageWarning,
        stacklevel=3,
    )
    return colours.convert("RGB")


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


def _converted(colours: Image.Image, profile: bytes) -> Image.Image:
    from PIL import ImageCms  # few pictures need it

    mode = _MODE_OF_SPACE.get(profile[16:20], "no mode that is known here")
    # Grey pictures often carry the RGB profile of the program that saved them.
    fitting = colours.convert("RGB") if (colours.mode, mode) == ("L", "RGB") else colours
    if fitting.mode != mode:
        raise ValueError(f"they are for {mode}, the picture is {fitting.mode}")
    source, target = io.BytesIO(profile), ImageCms.createProfile("sRGB")
    try:
        return ImageCms.buildTransform(source, target, mode, "RGB").apply(fitting)
    except ImageCms.PyCMSError as error:
        raise ValueError(error) from error


def _lab_to_srgb(colours: Image.Image) -> Image.Image:
    from PIL import ImageCms

    source, target = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(source, target, "LAB", "RGB").apply(colours)


def _profile_name(profile: bytes) -> str:
    """The description inside an ICC profile, or "" if there is none to be found.

    Reading it by hand (ICC.1:2022, 7.3 and 10.15; ICC.1:2001, 6.5.17) spares most pictures the
    import of ImageCms and a conversion from sRGB to sRGB.
    """
    count = int.from_bytes(profile[128:132], "big")
    for entry in range(132, min(132 + 12 * count, len(profile)), 12):
        if profile[entry : entry + 4] != b"desc":
            continue
        offset = int.from_bytes(profile[entry + 4 : entry + 8], "big")
        size = int.from_bytes(profile[entry + 8 : entry + 12], "big")
        tag = profile[offset : offset + size]
        if tag[:4] == b"desc":
            length = int.from_bytes(tag[8:12], "big")
            return tag[12 : 12 + length].decode("ascii", "replace").rstrip("\0")
        if tag[:4] == b"mluc":
            length = int.from_bytes(tag[20:24], "big")
            start = int.from_bytes(tag[24:28], "big")
            return tag[start : start + length].decode("utf-16-be", "replace").rstrip("\0")
    return ""
