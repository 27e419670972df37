"""Files made of boxes: AVIF, HEIF, JPEG 2000, JPEG XL, MP4. What Pillow does not tell of them.

Nothing here trusts a length: whatever points beyond the data ends a walk.
"""

import struct
from collections.abc import Iterator
from typing import Any

from PIL import Image

from tactic_codec.errors import DamagedImage
from tactic_codec.picture.forms import warn

_OF_FILMS = frozenset(
    b"ftyp moov mdat free skip wide uuid moof mfra sidx styp meta pdin mpvd udta".split()
)


def boxes(data: bytes | memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield kind and body of each box (ISO/IEC 14496-12, 4.2) that lies side by side in data."""
    view, at = memoryview(data), 0
    while at + 8 <= len(view):
        kind, start, size = _head(view[at : at + 16])
        size = size or len(view) - at
        if size < start:
            return
        yield kind, view[at + start : at + size]
        at += size


def _head(head: bytes | memoryview) -> tuple[bytes, int, int]:
    """Kind of a box, where its body begins, and its size, which is 0 up to the end of the file."""
    size, kind = struct.unpack_from(">I4s", head)
    return (kind, 16, int.from_bytes(head[8:16])) if size == 1 else (kind, 8, size)


def film_box(head: bytes) -> int:
    """The length of the box of an MP4 film that 16 bytes begin; 0 where they begin none."""
    kind, start, size = _head(head)
    return size if size >= start and kind in _OF_FILMS else 0


def _first(data: bytes | memoryview, *kinds: bytes) -> tuple[bytes, bytes]:
    """Kind and body of the first box of these kinds, or nothing."""
    return next(((kind, bytes(body)) for kind, body in boxes(data) if kind in kinds), (b"", b""))


# --- AVIF -----------------------------------------------------------------------------------------


def of_avif(data: bytes) -> dict[Any, Any]:
    """Colours, "cicp", and clean aperture, "clap", of the primary item (ISO/IEC 23008-12, 6.5)."""
    parts = dict(boxes(_first(data, b"meta")[1][4:]))
    item = int.from_bytes(parts.get(b"pitm", b"")[4:], "big")
    containers = dict(boxes(parts.get(b"iprp", b"")))
    properties = list(boxes(containers.get(b"ipco", b"")))
    said: dict[Any, Any] = {}
    for index in _associated(bytes(containers.get(b"ipma", b"")), item):
        kind, body = properties[index - 1] if 0 < index <= len(properties) else (b"", b"")
        if kind == b"clap":
            said["clap"] = bytes(body)
        elif kind == b"colr" and bytes(body[:4]) == b"nclx" and len(body) >= 11:
            *numbers, full = struct.unpack_from(">HHHB", body, 4)
            said["cicp"] = (*numbers, full >> 7)
    return said


def _associated(table: bytes, item: int) -> Iterator[int]:
    """Yield the indices, from 1, of an item's properties."""
    id_bytes = 4 if table[:1] > b"\0" else 2
    form = "H" if table[3:4] and table[3] & 1 else "B"
    at = 8
    while at + id_bytes < len(table):
        found, count = int.from_bytes(table[at : at + id_bytes], "big"), table[at + id_bytes]
        first = at + id_bytes + 1
        at = first + count * struct.calcsize(form)
        if found == item and at <= len(table):
            for index in struct.unpack_from(f">{count}{form}", table, first):
                yield index & (0x7FFF if form == "H" else 0x7F)


def crop(image: Image.Image) -> Image.Image:
    """Cut out a clean aperture (ISO/IEC 14496-12, 12.1.4.1): outside it there is only padding."""
    if "clap" not in image.info:
        return image
    try:
        w, w_per, h, h_per, x, x_per, y, y_per = struct.unpack(">IIIIiIiI", image.info["clap"])
        width, height = round(w / w_per), round(h / h_per)
        left = round((image.width - width) / 2 + x / x_per)
        top = round((image.height - height) / 2 + y / y_per)
    except (struct.error, ZeroDivisionError):
        width = height = left = top = 0
    inside = min(left, top) >= 0 and left + width <= image.width and top + height <= image.height
    if width and height and inside:
        return image.crop((left, top, left + width, top + height))
    warn("the clean aperture cannot be used: the picture is read with its edges")
    return image


def mended_avif(data: bytes) -> Iterator[tuple[bytes, ...]]:
    """Leave out EXIF data that are none."""
    yield (data.replace(b"Exif", b"free", 1),)  # the kind of an item that nobody reads


# --- JPEG 2000 and JPEG XL ------------------------------------------------------------------------


def of_jpeg_2000(data: bytes) -> dict[Any, Any]:
    """Return the profile that stands in a box.

    Raises:
        DamagedImage: the last marker is missing; cut behind its header, Pillow makes one grey.
    """
    if b"\xff\xd9" not in data:
        raise DamagedImage("the JPEG 2000 picture is cut: fetch it again")
    said: dict[Any, Any] = {}
    for kind, body in boxes(_first(data, b"jp2h")[1]):
        if kind == b"colr" and bytes(body[:1]) == b"\2":
            said["icc_profile"] = bytes(body[3:])
    return said


_RATIOS = ((0, 0), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Of width to height, by their numbers; with 0 the width is told itself."""


def of_jpeg_xl(data: bytes) -> dict[Any, Any]:
    """Return the "size", width and height, that the header tells (ISO/IEC 18181-1, 5.4).

    The plugin decodes as soon as it opens: the limit has to be held before. 0 x 0 if it is cut.
    """
    head = data[:16]
    if head[:2] != b"\xff\x0a":
        kind, body = _first(data, b"jxlc", b"jxlp")
        head = body[4:20] if kind == b"jxlp" else body[:16]  # a part begins with its number
    bits = int.from_bytes(head[2:], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    def side(small: int) -> int:
        return 8 * (take(5) + 1) if small else 1 + take((9, 13, 18, 30)[take(2)])

    if len(head) < 3:
        return {"size": (0, 0)}
    small = take(1)
    height = side(small)
    ratio = take(3)
    over, under = _RATIOS[ratio]
    return {"size": (height * over // under if ratio else side(small), height)}
