"""Colours to sRGB, by what the file says of them."""

import io
import warnings

from PIL import Image

from tactic_codec.picture.forms import Colour, ImageWarning

# The names under which plain sRGB is embedded. Whole names: "sRGB linear" and "scRGB" are others.
_SRGB_NAMES = frozenset(
    ("sRGB", "sRGB IEC61966-2.1", "sRGB built-in", "sRGB2014", "c2")  # c2: the one on Facebook
)

_MODE_OF_SPACE = {b"GRAY": "L", b"RGB ": "RGB", b"CMYK": "CMYK"}


def colour_of(text: str) -> Colour:
    """Return the colour that a text names, as in CSS: ``black``, ``#ff8000``, ``rgb(255,128,0)``.

    Raises:
        ValueError: it names none, or one that is not opaque.
    """
    from PIL import ImageColor

    found = ImageColor.getrgb(text)
    if len(found) != 3:
        raise ValueError(f"{text!r} is not opaque")
    return found


def to_srgb(colours: Image.Image, profile: bytes | None) -> Image.Image:
    """Colours of mode L, RGB, CMYK or LAB as sRGB, by their embedded profile if it can be used."""
    if colours.mode == "LAB":
        return _lab_to_srgb(colours)
    if not profile or _profile_name(profile) in _SRGB_NAMES:
        return colours.convert("RGB")

    from PIL import ImageCms  # few pictures need it

    mode = _MODE_OF_SPACE.get(profile[16:20], "no mode that is known here")
    # Grey pictures often carry the RGB profile of the program that saved them.
    fitting = colours.convert("RGB") if (colours.mode, mode) == ("L", "RGB") else colours
    try:
        if fitting.mode != mode:
            raise ValueError(f"it is for {mode}, the picture is {fitting.mode}")
        source, target = io.BytesIO(profile), ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(source, target, mode, "RGB").apply(fitting)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        warnings.warn(
            f"the embedded colour profile cannot be used ({error}): the colours are taken as sRGB",
            ImageWarning,
            stacklevel=3,
        )
        return colours.convert("RGB")


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
