"""JPEG: its segments, its end, what its own indices count as its parts, and what it lacks."""

import re
import struct
from collections import deque
from collections.abc import Iterator
from itertools import pairwise

from tactic_codec.picture import tiff
from tactic_codec.picture.window import Begins, Broken, Window, as_far_as_whole

_SOI, _EOI, _SOS, _APP1, _APP2 = 0xD8, 0xD9, 0xDA, 0xE1, 0xE2
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}

# In what follows SOS: not a stuffed byte, a restart or a fill byte.
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
_FILL = re.compile(rb"\xff+")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_OTHER_JPEG = re.compile(rb"\xff\xd9[\0\s]*(?:\xff\xd8\xff|--)")  # behind the end of one

_END = b"\xff\xd9"
# Where even one bit of the pixels is missing, these give different pictures.
_TAILS = (b"", bytes(256), b"\xfe" * 256)


def segments(window: Window) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment, up to the end marker.

    Going from one to the next, no thumbnail's end is taken for the picture's. The data of a scan
    lie between the end of its segment and the start of the next one.
    """
    data, at, before = window.data, 2, 2
    try:
        while True:
            window.need(at + 2)
            marker = data[at + 1]
            if data[at] != 0xFF:
                raise Broken("a segment of this JPEG is damaged", before)
            if marker == _SOI:
                raise Begins(at, own=0 if at == before else 1 << 16)
            if fill := _FILL.match(data, at + 1):
                at = fill.end() - 1
            elif marker == _EOI:
                yield marker, at, at + 2
                return
            elif marker == 0x01 or 0xD0 <= marker <= 0xD7:
                at += 2
            else:
                window.need(at + 4)
                before, at = at, at + 2 + int.from_bytes(data[at + 2 : at + 4])
                if at < before + 4 or marker < 0xC0:
                    raise Broken("a segment of this JPEG is damaged", before)
                window.need(at)
                yield marker, before, at
                if marker == _SOS:
                    while not (found := _MARKER.search(data, at)):
                        at = max(at, len(data) - 1)  # whose last byte may be half a marker
                        window.need(len(data) + 1)
                    before = at = found.start()
    except EOFError:
        if not _OTHER_JPEG.search(data, before):
            raise
        raise Broken("the stream ends within a segment of this JPEG", before) from None


def end(window: Window) -> int:
    """Find the end of the end marker."""
    return deque(segments(window), maxlen=1)[0][2]


def parts(window: Window, length: int) -> list[tuple[int, int]]:
    """List what a JPEG file's own indices count as its parts: depth and gain maps, previews, films.

    Args:
        window: holds the whole picture.
        length: of the picture, up to its end marker.

    Returns:
        Offset from the picture's first byte, and size, of each part behind the picture; by the
        Multi-Picture Format (CIPA DC-007), and by the directory that Android's containers have.
    """
    listed = list[tuple[int, int]]()
    for marker, at, to in segments(window):
        body = bytes(window.data[at + 4 : to])
        if marker == _SOS:
            break
        if marker == _APP2 and body.startswith(b"MPF\0"):
            form = tiff.order_of(body[4:]) + "IIIHH"
            for tags, _ in as_far_as_whole(tiff.directories, body[4:]):
                entries = bytes(value & 0xFF for value in tags.get(tiff.MP_ENTRIES, ()))
                others = entries[16 : len(entries) & ~15]  # the first is the picture's own
                for _, size, offset, *_ in struct.iter_unpack(form, others):
                    listed.append((at + 8 + offset, size))
        elif marker == _APP1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            place = length
            for word, value in re.findall(rb'Item:(Length|Padding)="(\d{1,10})"', body):
                if word == b"Length" and int(value):
                    listed.append((place, int(value)))
                place += int(value)
    return listed


def mended(data: bytes) -> Iterator[tuple[bytes, ...]]:
    """Close a file without an end marker; all of these show the same if only that is missing."""
    if _has_all_scans(data):
        cut = data.rstrip(b"\xff")  # half of the marker may be there
        yield tuple(cut + tail + _END for tail in _TAILS)


def lacking(data: bytes) -> tuple[str, bytes]:
    """What a JPEG lacks although it has its end marker.

    Returns:
        What is missing for certain, or "". And a file that shows something else than ``data`` if
        the last pixels are missing, or b"" where that is no question.
    """
    found = [*as_far_as_whole(segments, data)]
    if not found or found[-1][0] != _EOI:
        return "", b""
    restarts = list[int]()
    for (marker, _, at), (_, to, _) in pairwise(found):
        if marker == _SOS:
            restarts = [mark[0][1] & 7 for mark in _RESTART.finditer(data, at, to)]
            if restarts != [number % 8 for number in range(len(restarts))]:
                return "a part between two restart markers", b""
    if not _has_all_scans(data):
        return "a scan", b""
    more = _TAILS[-1] + bytes([0xFF, 0xD0 + len(restarts) % 8]) + _TAILS[-1]
    return "", data[: found[-1][1]] + more + _END


def _has_all_scans(data: bytes) -> bool:
    """Whether a JPEG has a scan for every bit of every coefficient of every component.

    One that is cut between two scans looks whole otherwise: what is missing is taken for zeros.
    """
    missing = dict[tuple[int, int], int]()
    for marker, at, to in as_far_as_whole(segments, data):
        body = data[at + 4 : to]
        if marker in _FRAMES:
            missing = {(component, k): 14 for component in body[6::3] for k in range(64)}
        elif marker == _SOS and len(body) >= 4:
            first, last, shifts = body[-3:]
            for component in body[1:-3:2]:
                for k in range(first, min(last, 63) + 1):
                    if missing.get((component, k)) != (shifts >> 4 or 14):  # one before is lost
                        return False
                    missing[component, k] = shifts & 15
    return bool(missing) and not any(missing.values())
