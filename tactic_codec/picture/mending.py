"""Files whose damage does not touch their pixels, made readable.

A wrong checksum on a comment, metadata that are cut, a missing end marker: whoever looks at the
picture sees no difference. Damage in what the pixels come from stays an error.
"""

import io
import re
import zlib
from collections.abc import Iterator
from itertools import pairwise

from tactic_codec.picture.boxes import PNG_SIGNATURE, jpeg_segments, png_chunks
from tactic_codec.picture.lengths import Broken, jpeg

_PIXELS_OF_PNG = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_PIXELS_OF_WEBP = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP")

_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_END_OF_JPEG = b"\xff\xd9"
# Where even one bit of the pixels is missing, these give different pictures.
_TAILS = (b"", bytes(256), b"\xfe" * 256)


def mended(name: str, data: bytes) -> Iterator[tuple[bytes, ...]]:
    """Yield files to read in place of one that cannot be read, the least changed first.

    Args:
        name: of the format, as in `kinds`.
        data: the file.

    Yields:
        One file, or several of which all must show the same pixels.
    """
    if name == "PNG":
        yield (_png(data, only_pixels=False),)
        yield (_png(data, only_pixels=True),)
    elif name == "JPEG" and _has_all_scans(data):
        cut = data.rstrip(b"\xff")  # half of the marker may be there
        yield tuple(cut + tail + _END_OF_JPEG for tail in _TAILS)
    elif name == "WebP":
        yield (_webp(data),)
    elif name == "AVIF":
        yield (data.replace(b"Exif", b"free", 1),)  # the kind of an item that nobody reads


def _png(data: bytes, *, only_pixels: bool) -> bytes:
    """A PNG without ancillary chunks whose checksum is wrong, or with hardly any."""
    kept = [PNG_SIGNATURE]
    for kind, at, length in png_chunks(io.BytesIO(data)):
        chunk = data[at - 4 : at + length]
        right = zlib.crc32(chunk).to_bytes(4, "big") == data[at + length : at + length + 4]
        if kind in _PIXELS_OF_PNG or (right and not only_pixels):
            kept.append(data[at - 8 : at + length + 4])
    return b"".join(kept)


def _webp(data: bytes) -> bytes:
    """A WebP without the metadata behind and before its pixels."""
    kept = []
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size + size % 2
        if data[at : at + 4] in _PIXELS_OF_WEBP:
            kept.append(data[at:end])
        at = end
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def lacking(data: bytes) -> tuple[str, bytes]:
    """What a JPEG lacks although it has its end marker.

    Returns:
        What is missing for certain, or "". And a file that shows something else than ``data`` if
        the last pixels are missing, or b"" where that is no question.
    """
    walk = jpeg(bytearray(data))
    try:
        while next(walk) <= len(data):
            pass
    except Broken:
        return "", b""
    except StopIteration as stop:
        data = data[: stop.value]
    if not data.endswith(_END_OF_JPEG):
        return "", b""
    segments = [*jpeg_segments(data), (0, len(data), b"")]
    restarts = list[int]()
    for (marker, at, _), (_, end, _) in pairwise(segments):
        if marker == 0xDA:
            restarts = [found[0][1] & 7 for found in _RESTART.finditer(data, at, end)]
            if restarts != [number % 8 for number in range(len(restarts))]:
                return "a part between two restart markers", b""
    if not _has_all_scans(data):
        return "a scan", b""
    more = _TAILS[-1] + bytes([0xFF, 0xD0 + len(restarts) % 8]) + _TAILS[-1]
    return "", data[:-2] + more + _END_OF_JPEG


def _has_all_scans(data: bytes) -> bool:
    """Whether a JPEG has a scan for every bit of every coefficient of every component.

    One that is cut between two scans looks whole otherwise: what is missing is taken for zeros.
    """
    components: list[int] = []
    missing: dict[tuple[int, int], int] = {}
    for marker, _, body in jpeg_segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            components = list(body[6::3])
            missing = {(component, k): 14 for component in components for k in range(64)}
        elif marker == 0xDA and len(body) >= 4:
            first, last, shifts = body[-3:]
            for component in body[1:-3:2]:
                for k in range(first, min(last, 63) + 1):
                    if missing.get((component, k)) != (shifts >> 4 or 14):  # one before is lost
                        return False
                    missing[component, k] = shifts & 15
    return bool(components) and not any(missing.values())
