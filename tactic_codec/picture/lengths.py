"""How long the picture at the start of some bytes is, told by its own format.

One function a format. It is given a buffer that begins with the picture and that grows while the
function waits: it yields how many bytes must be there before it can go on, and returns the length
of the picture. Nothing is decoded, and nothing behind the bytes that were asked for is looked at.
"""

import itertools
import re
import zlib
from collections.abc import Generator
from typing import Literal

from tactic_codec.picture import y4m
from tactic_codec.picture.boxes import jpeg_segments

Walk = Generator[int, None, int]


class Broken(Exception):
    """The bytes contradict their format.

    Attributes:
        at: from where the next picture may be looked for.
        begins: whether another picture begins there.
        own: how many bytes from there may still be the damaged picture's, such as its thumbnail.
    """

    def __init__(self, why: str, at: int, *, begins: bool = False, own: int = 1 << 16) -> None:
        super().__init__(why)
        self.at = at
        self.begins = begins
        self.own = own


# --- JPEG -----------------------------------------------------------------------------------------

_SOI, _EOI, _SOS, _APP1, _APP2 = 0xD8, 0xD9, 0xDA, 0xE1, 0xE2

# In what follows SOS: not a stuffed byte, a restart or a fill byte.
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
_FILL = re.compile(rb"\xff+")
_OTHER_JPEG = re.compile(rb"\xff\xd9[\0\s]*(?:\xff\xd8\xff|--)")  # behind the end of one


def jpeg(data: bytearray) -> Walk:
    """Go from segment to segment, so that a thumbnail's end is not taken for the picture's."""
    at = before = 2
    while True:
        try:
            yield at + 2
        except EOFError:
            if not _OTHER_JPEG.search(data, before):
                raise
            raise Broken("the stream ends within a segment of this JPEG", before) from None
        if data[at] != 0xFF:
            raise Broken("a segment of this JPEG is damaged", before)
        marker = data[at + 1]
        if marker == _EOI:
            return at + 2
        if marker == _SOI:
            raise Broken("", at, begins=True, own=0 if at == before else 1 << 16)
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


# --- PNG, WebP, BMP, PNM, TIFF --------------------------------------------------------------------


def png(data: bytearray) -> Walk:
    """Go from chunk to chunk up to IEND.

    A PNG that begins within a chunk is the next one, unless the chunk is metadata and whole.
    """
    at = 8
    while True:
        yield at + 8
        length, kind = int.from_bytes(data[at : at + 4]), bytes(data[at + 4 : at + 8])
        if not (kind.isalpha() and kind.isascii()) or length >= 1 << 31:
            raise Broken("a chunk of this PNG is damaged", at)
        begun, at = at + 4, at + 12 + length
        other = None
        while True:
            try:
                yield at
                break
            except Broken as error:  # another one begins here
                if kind[:1].isupper():
                    raise
                other = other or error
            except EOFError:
                raise other or EOFError from None
        if other and zlib.crc32(data[begun : at - 4]) != int.from_bytes(data[at - 4 : at]):
            raise other
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


_PAM_FIELD = re.compile(rb"^(WIDTH|HEIGHT|DEPTH|MAXVAL)\s+(\d{1,9})\s*$", re.MULTILINE)


def _pam(data: bytearray) -> Walk:
    while (end := data.find(b"\nENDHDR", 0, 1 << 13)) < 0 or not (
        end := data.find(b"\n", end + 1) + 1
    ):
        if len(data) >= 1 << 13:
            raise Broken("the header of this PAM does not end", 2)
        yield len(data) + 1
    fields = {field[1]: int(field[2]) for field in _PAM_FIELD.finditer(data, 0, end)}
    values = fields.get(b"WIDTH", 0) * fields.get(b"HEIGHT", 0) * fields.get(b"DEPTH", 0)
    length = end + values * (2 if fields.get(b"MAXVAL", 255) > 255 else 1)
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


_TIFF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
               16: 8, 17: 8, 18: 8}  # fmt: skip
"""Of a value of each type."""
_TIFF_MORE = (330, 34665, 34853, 40965)  # tags whose values are places of directories
_TIFF_DATA = ((273, 279), (324, 325), (513, 514))  # places and sizes: strips, tiles, a thumbnail
_TIFF_TAGS = {256, 257, 258, 259, *_TIFF_MORE, *itertools.chain(*_TIFF_DATA)}


def tiff(data: bytearray) -> Walk:
    """Follow the directories (TIFF 6.0, 2; BigTIFF, too) to the last byte that they name.

    Where they do not name the bytes of all pixels, only the end of the stream can be the end.
    """
    yield 16
    order: Literal["little", "big"] = "little" if data[:1] == b"I" else "big"
    word, counted = (8, 8) if data[2:4].strip(b"\0") == b"+" else (4, 2)

    def number(at: int, size: int = word) -> int:
        return int.from_bytes(data[at : at + size], order)

    end, spent, seen = 16, 0, {0}
    ahead = [number(word)]
    while ahead:
        if (at := ahead.pop()) in seen:
            continue
        seen.add(at)
        yield at + counted
        first, step = at + counted, 4 + 2 * word
        entries = range(first, first + number(at, counted) * step, step)
        yield entries.stop + word
        end = max(end, entries.stop + word)
        values = dict[int, list[int]]()
        for entry in entries:
            tag, kind, count = number(entry, 2), number(entry + 2, 2), number(entry + 4)
            size, place = _TIFF_BYTES.get(kind, 0), entry + 4 + word
            if size * count > word:
                place = number(place)
                yield place + size * count
                end = max(end, place + size * count)
            spent += count if tag in _TIFF_TAGS else 1
            if spent > end:  # each takes a byte or more
                raise Broken("the directories of this TIFF lie one over the other", end)
            if tag in _TIFF_TAGS:
                values[tag] = [number(place + size * n, size) for n in range(count)]
        ahead += [number(entries.stop), *(at for tag in _TIFF_MORE for at in values.get(tag, ()))]
        held = 0
        for places, sizes in _TIFF_DATA:
            held += sum(values.get(sizes, ()))
            spans = zip(values.get(places, ()), values.get(sizes, ()), strict=False)
            end = max([end, *map(sum, spans)])
        if values.get(256) and values.get(257):
            row = (values[256][0] * sum(values.get(258, [1])) + 7) // 8
            if held < (row * values[257][0] if values.get(259, [1]) == [1] else 1):
                yield from up_to(data, None)
    yield end
    return end


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
