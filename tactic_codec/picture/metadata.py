"""What a file says of a picture beside its pixels: EXIF, XMP and its colour profile.

They are kept in their own bytes, and mended where they would have others do again what was done:
the pixels are upright and sRGB. Whoever wrote them is a stranger, whether they come out of a
picture or out of a frame.
"""

import re
import struct
from collections.abc import Mapping
from typing import Any

from tactic_codec.picture.forms import Metadata, warn

MOST_BYTES = 1 << 20
"""Of each of the three; Pillow reads no larger profile of a PNG."""

EXIF_PREFIX = b"Exif\0\0"

ASIDE = (-1, -2)
"""In an image's info: EXIF whose orientation does not count. No file has such a key."""

ORIENTATION, EXIF_IFD, COLOUR_SPACE, INTEROPERABILITY_IFD = 0x0112, 0x8769, 0xA001, 0xA005
_SHORT, _ASCII = 3, 2
_UPRIGHT = _SRGB = 1


def found_in(info: Mapping[Any, Any]) -> Metadata:
    """Return what Pillow found in a file, as it stands there."""
    exif, xmp, icc = (
        value if isinstance(value := info.get(name), bytes) else b""
        for name in ("exif" if "exif" in info else ASIDE, "xmp", "icc_profile")
    )
    return Metadata(exif.removeprefix(EXIF_PREFIX), xmp, icc)


def mended(given: Metadata) -> Metadata:
    """Return what of it is true of pixels that are upright and sRGB.

    EXIF and XMP say that the picture is upright, and EXIF no more that it is Adobe RGB. A profile
    is that of the file; who writes it converts to it, see `modes.in_profile`.

    Warns:
        ImageWarning: one of them is larger than ``MOST_BYTES`` or damaged, or a profile is not
            for RGB: it is left out.
    """
    kept = []
    for name, data, mend in zip(
        ("EXIF data", "XMP", "colour profile"), given, (_exif, _xmp, _icc), strict=True
    ):
        try:
            if len(data) > MOST_BYTES:
                raise ValueError(f"{len(data)} bytes, of which {MOST_BYTES} are kept at most")
            kept.append(mend(data) if data else b"")
        except ValueError as error:
            warn(f"the {name} cannot be kept ({error}): it is left out")
            kept.append(b"")
    return Metadata(*kept)


def shown(kept: Metadata) -> dict[str | tuple[int, int], bytes]:
    """Return what Pillow calls EXIF and XMP, of pixels that stay sRGB."""
    exif = EXIF_PREFIX + kept.exif if kept.exif else b""
    return {name: data for name, data in (("exif", exif), ("xmp", kept.xmp)) if data}


def _exif(data: bytes) -> bytes:
    """EXIF that says upright and, where it said Adobe RGB, sRGB; all else stays where it is."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        raise ValueError("it does not begin as EXIF does")
    found = bytearray(data)

    def directory(pointer: int) -> list[tuple[int, int]]:
        """Return tag and place of each entry of what is pointed to (TIFF 6.0)."""
        (at,) = struct.unpack_from(f"{order}I", found, pointer)
        (count,) = struct.unpack_from(f"{order}H", found, at)
        places = range(at + 2, at + 2 + 12 * count, 12)
        return [(struct.unpack_from(f"{order}H10x", found, place)[0], place) for place in places]

    def put(place: int, tag: int, value: int) -> None:
        struct.pack_into(f"{order}HHIHH", found, place, tag, _SHORT, 1, value, 0)

    try:
        first = directory(4)
        for tag, place in first:
            if tag == ORIENTATION:
                put(place, tag, _UPRIGHT)
        if b"R03" in data and EXIF_IFD in dict(first):
            own = dict(directory(dict(first)[EXIF_IFD] + 8))
            if COLOUR_SPACE in own:
                put(own[COLOUR_SPACE], COLOUR_SPACE, _SRGB)
            if INTEROPERABILITY_IFD in own:
                index = dict(directory(own[INTEROPERABILITY_IFD] + 8)).get(1)
                if index:
                    struct.pack_into(f"{order}HHI4s", found, index, 1, _ASCII, 4, b"R98")
    except struct.error as error:
        raise ValueError("a directory in it is cut") from error
    return bytes(found)


def _xmp(data: bytes) -> bytes:
    """XMP that says upright."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise ValueError("it is not in UTF-8") from error
    return re.sub(rb"""(:Orientation\s*(?:=\s*["']|>)\s*)\d+""", rb"\g<1>1", data)


def _icc(data: bytes) -> bytes:
    """A profile that describes RGB (ICC.1:2022, 7.2)."""
    if len(data) < 132 or data[36:40] != b"acsp":
        raise ValueError("it does not begin as a profile does")
    if data[16:20] != b"RGB ":
        raise ValueError("it is not for RGB, which is what pictures are decoded to")
    return data
