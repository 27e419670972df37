"""How long the picture at the start of some bytes is, told by its own format.

One function a format. It is given a buffer that begins with the picture and that grows while the
function waits: it yields how many bytes must be there before it can go on, and returns the length
of the picture. Nothing is decoded, and nothing behind the bytes that were asked for is looked at.
"""

import re
from collections.abc import Generator

from tactic_codec.picture import y4m
from tactic_codec.picture.boxes import jpeg_segments

Walk = Generator[int, None, int]


class Broken(Exception):
    """The bytes contradict their format.

    Attributes:
        at: from where the next picture may be looked for.
        begins: whether another picture begins there.
    """

    def __init__(self, why: str, at: int, *, begins: bool = False) -> None:
        super().__init__(why)
        self.at = at
        self.begins = begins


# --- JPEG -----------------------------------------------------------------------------------------

_SOI, _EOI, _SOS, _APP1, _APP2 = 0xD8, 0xD9, 0xDA, 0xE1, 0xE2

# In what follows SOS: not a stuffed byte, a restart or a fill byte.
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
_FILL = re.compile(rb"\xff+")


def jpeg(data: bytearray) -> Walk:
    """Go from segment to segment, so that a thumbnail's end is not taken for the picture's."""
    at = before = 2
    while True:
        yield at + 2
        if data[at] != 0xFF:
            raise Broken("a segment of this JPEG is damaged", before)
        marker = data[at + 1]
        if marker == _EOI:
            return at + 2
        if marker == _SOI:
            raise Broken("the next picture begins within this JPEG", at, begins=True)
        if fill := _FILL.match(data, at + 1):
            at = fill.end() - 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD7:
            at += 2
        else:
            yield at + 4
            before, at = at, at + 2 + int.from_bytes(data[at + 2 : at + 4])
            if at < before + 4 or marker < 0xC0:
                raise Broken("a segment of this JPEG is damaged", before)
            if marker == _SOS:
                yield at
                while not (found := _MARKER.search(data, at)):
                    at = max(at, len(data) - 1)  # whose last byte may be half a marker
                    yield len(data) + 1
                before = at = found.start()


def jpeg_parts(data: bytearray) -> list[tuple[int, int]]:
    """List what a JPEG file's own indices count as its parts: depth and gain maps, previews, films.

    Args:
        data: of a whole picture, up to its end marker.

    Returns:
        Offset from the picture's first byte, and size, of each part behind the picture; by the
        Multi-Picture Format (CIPA DC-007), and by the directory that Android's containers have.
    """
    parts = list[tuple[int, int]]()
    for marker, at, segment in jpeg_segments(data):
        if marker == _SOS:
            break
        if marker == _APP2 and segment.startswith(b"MPF\0"):
            parts += [(at + 8 + offset, size) for offset, size in _multi_picture(segment[4:])]
        elif marker == _APP1 and segment.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            place = len(data)
            for word, value in re.findall(rb'Item:(Length|Padding)="(\d{1,10})"', segment):
                if word == b"Length" and int(value):
                    parts.append((place, int(value)))
                place += int(value)
    return parts


def _multi_picture(index: bytes) -> list[tuple[int, int]]:
    """Offset from the index, and size, of all pictures but the first."""
    order = "little" if index.startswith(b"II") else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(index[at : at + size], order)  # type: ignore[arg-type]

    directory = number(4, 4)
    for field in range(number(directory, 2)):
        entry = directory + 2 + 12 * field
        if entry >= len(index):
            break
        if number(entry, 2) == 0xB002:  # MPEntry
            first, count = number(entry + 8, 4), min(number(entry + 4, 4), len(index)) // 16
            entries = range(first + 16, first + 16 * count, 16)
            return [(number(at + 8, 4), number(at + 4, 4)) for at in entries]
    return []


# --- PNG, WebP, BMP, PNM --------------------------------------------------------------------------


def png(data: bytearray) -> Walk:
    """Go from chunk to chunk up to IEND."""
    at = 8
    while True:
        yield at + 8
        length, kind = int.from_bytes(data[at : at + 4]), bytes(data[at + 4 : at + 8])
        if not (kind.isalpha() and kind.isascii()) or length >= 1 << 31:
            raise Broken("a chunk of this PNG is damaged", at)
        at += 12 + length
        yield at
        if kind == b"IEND":
            return at


def webp(data: bytearray) -> Walk:
    """Read the size that RIFF has in its header; sizes are even."""
    length = 8 + int.from_bytes(data[4:8], "little")
    length += length % 2
    yield length
    return length


def bmp(data: bytearray) -> Walk:
    """Take the larger of the size that the header tells and of what the pixels need."""
    yield 26
    told, pixels, header = (int.from_bytes(data[at : at + 4], "little") for at in (2, 10, 14))
    packed, size = False, 2 if header == 12 else 4
    if header != 12:
        yield 34
        packed = int.from_bytes(data[30:34], "little") not in (0, 3, 6)
    width, height = (
        abs(int.from_bytes(data[at : at + size], "little", signed=size == 4))
        for at in (18, 18 + size)
    )
    depth = int.from_bytes(data[18 + 2 * size + 2 : 18 + 2 * size + 4], "little")
    rows = 0 if packed else height * ((width * depth + 31) // 32 * 4)
    length = max(told, pixels + rows, 26)
    yield length
    return length


_BLANK = rb"(?:\s|#[^\n]*\n)+"
_PNM = re.compile(
    rb"P(?:[14]|([2356f]))"
    + 2 * (_BLANK + rb"(\d{1,9})")
    + rb"(?(1)%b([-+.\deE]{1,40}))\s" % _BLANK
)
_NO_RASTER = re.compile(rb"[^\d\s]")
_LINE_END = re.compile(rb"\n")


_PAM_END = re.compile(rb"^ENDHDR[^\n]*\n", re.MULTILINE)
_PAM_FIELD = re.compile(rb"^(WIDTH|HEIGHT|DEPTH|MAXVAL)\s+(\d{1,9})\s*$", re.MULTILINE)


def _pam(data: bytearray) -> Walk:
    while not (end := _PAM_END.search(data, 0, 1 << 13)):
        if len(data) >= 1 << 13:
            raise Broken("the header of this PAM does not end", 2)
        yield len(data) + 1
    fields = {field[1]: int(field[2]) for field in _PAM_FIELD.finditer(data, 0, end.start())}
    values = fields.get(b"WIDTH", 0) * fields.get(b"HEIGHT", 0) * fields.get(b"DEPTH", 0)
    length = end.end() + values * (2 if fields.get(b"MAXVAL", 255) > 255 else 1)
    yield length
    return length


def pnm(data: bytearray) -> Walk:
    """Compute the length from the header; plain text ends where something else begins."""
    if data.startswith(b"P7"):
        return (yield from _pam(data))
    limit = 128
    while not (header := _PNM.match(data, 0, limit)):
        limit = 1 << 16 if b"#" in data[:128] else 128  # comments are free
        if len(data) >= limit:
            raise Broken("the header of this PNM is damaged", 2)
        yield len(data) + 1
    kind, width, height, at = data[1:2], int(header[2]), int(header[3]), header.end()
    if kind in b"123":
        ends = _NO_RASTER, _LINE_END
        while True:
            found = ends[0].search(data, at)
            if not found:
                at = max(at, len(data))
                yield at + 1
            elif ends[0] is _NO_RASTER and found[0] != b"#":
                return found.start()
            else:  # a comment begins or ends
                at, ends = found.end(), ends[::-1]
    row = -(-width // 8) if kind == b"4" else width * {b"5": 1, b"6": 3, b"f": 4}[bytes(kind)]
    if kind in b"56" and header[4].isdigit() and int(header[4]) > 255:
        row *= 2
    yield at + row * height
    return at + row * height


# --- Others ---------------------------------------------------------------------------------------


def frame(data: bytearray, header: y4m.Header) -> Walk:
    """A frame of YUV4MPEG2: a line and then as many bytes as the film's header says."""
    while (end := data.find(b"\n", 0, y4m.LINE_BYTES) + 1) == 0:
        if len(data) >= y4m.LINE_BYTES:
            raise Broken("the line before this frame does not end", 5)
        yield len(data) + 1
    yield end + header.frame_bytes
    return end + header.frame_bytes


def told(length: int) -> Walk:
    """Of a format that does not tell its end, where something else does."""
    yield length
    return length


def up_to(data: bytearray, next_one: re.Pattern[bytes] | None) -> Walk:
    """Of a format that does not tell its end: up to the next of its kind, if one comes at all."""
    at = 4
    while not (found := next_one and next_one.search(data, at)):
        at = max(at, len(data) - 32)
        yield len(data) + 1
    return found.start()


def film_box(head: bytes) -> int:
    """The length of the box of an MP4 film that 16 bytes begin; 0 where they begin none."""
    size, kind = int.from_bytes(head[:4]), head[4:8]
    if size == 1:
        size = int.from_bytes(head[8:16])
    return size if size >= 8 and kind in _BOXES else 0


_BOXES = frozenset(
    b"ftyp moov mdat free skip wide uuid moof mfra sidx styp meta pdin mpvd udta".split()
)
