"""Walk the parts of picture files: what Pillow's plugins do not tell, read from the bytes.

Nothing here trusts a length: whatever points beyond the data ends a walk.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from tactic_codec.picture.kinds import HEAD_BYTES, PNG_DEPTH

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_LARGEST_PART = 1 << 24
"""No colour description and no list of properties has more bytes; larger parts are passed over."""

_INFLATED_AT_ONCE = 1 << 20

_JPEG_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")  # one that ends entropy-coded data


def told(name: str, stream: BinaryIO) -> dict[str | tuple[int, int], Any]:
    """What a file says of its colours and its edge and Pillow keeps to itself.

    Args:
        name: of the format, as in `kinds`.
        stream: at any position; it is left at the start.

    Returns:
        Entries for Pillow's ``info``: "cicp", four numbers of ITU-T H.273; "icc_profile", bytes;
        "bits" of each channel of a PNG; "clap", the payload of a clean aperture.
    """
    stream.seek(0)
    found: dict[str | tuple[int, int], Any] = {}
    if name == "PNG":
        found["bits"] = stream.read(HEAD_BYTES)[PNG_DEPTH]
        for kind, at, length in png_chunks(stream):
            if kind == b"IDAT":
                break
            if kind == b"cICP" and length == 4:
                stream.seek(at)
                found["cicp"] = tuple(stream.read(4))
    elif name == "AVIF":
        found = _of_primary_item(_top_box(stream, b"meta")[1])
    elif name == "JPEG 2000":
        for kind, body in boxes(_top_box(stream, b"jp2h")[1]):
            if kind == b"colr" and body[:1] == b"\2":
                found["icc_profile"] = body[3:]
    stream.seek(0)
    return found


def png_chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, offset and length of the data of each chunk of a PNG."""
    at = len(PNG_SIGNATURE)
    while True:
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8:
            return
        length = int.from_bytes(head[:4], "big")
        yield head[4:], at + 8, length
        at += 12 + length


def idat_is_whole(stream: BinaryIO) -> bool:
    """Whether the checksums of a PNG's pixels are right, as far as they are there."""
    for kind, at, length in png_chunks(stream):
        if kind == b"IDAT":
            stream.seek(at)
            data = stream.read(length)
            checksum = stream.read(4)
            if len(checksum) == 4 and zlib.crc32(data, zlib.crc32(kind)) != int.from_bytes(
                checksum, "big"
            ):
                return False
    return True


_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2))  # fmt: skip
"""First column and row, and steps, of each pass of an interlaced PNG (PNG 3rd edition, 8.1)."""


def png_has_all_rows(stream: BinaryIO) -> bool:
    """Whether the zlib stream of a PNG's pixels is as long as its header says, or longer."""
    missing = 1
    inflate = zlib.decompressobj()
    for kind, at, length in png_chunks(stream):
        stream.seek(at)
        if kind == b"IHDR":
            width, height, bits, colours, *_, interlaced = struct.unpack(
                ">IIBBBBB", stream.read(13)
            )
            bits *= {2: 3, 4: 2, 6: 4}.get(colours, 1)
            missing = 0
            for x, y, step_x, step_y in _ADAM7 if interlaced else ((0, 0, 1, 1),):
                columns, rows = -((x - width) // step_x), -((y - height) // step_y)
                missing += rows * (1 + (columns * bits + 7) // 8) if columns > 0 < rows else 0
        elif kind == b"IDAT":
            data = stream.read(length)
            while data and missing > 0:
                missing -= len(inflate.decompress(data, _INFLATED_AT_ONCE))
                data = inflate.unconsumed_tail
    return missing - len(inflate.flush()) <= 0


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and body of each box (ISO/IEC 14496-12, 4.2) that lies side by side in data."""
    at = 0
    while at + 8 <= len(data):
        size, start = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, start = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = len(data) - at
        if size < start:
            return
        yield data[at + 4 : at + 8], data[at + start : at + size]
        at += size


def _top_box(stream: BinaryIO, *wanted: bytes) -> tuple[bytes, bytes]:
    """Kind and body of the first box of these kinds at the top of a file, or nothing."""
    at = 0
    while True:
        stream.seek(at)
        head = stream.read(16)
        if len(head) < 8:
            return b"", b""
        size, start = int.from_bytes(head[:4], "big"), 8
        if size == 1:
            size, start = int.from_bytes(head[8:], "big"), 16
        if size and size < start:
            return b"", b""
        if head[4:8] in wanted:
            stream.seek(at + start)
            length = min(size - start, _LARGEST_PART) if size else _LARGEST_PART
            return head[4:8], stream.read(length)
        if not size:
            return b"", b""
        at += size


def _of_primary_item(meta: bytes) -> dict[str | tuple[int, int], Any]:
    """Colours and clean aperture of a HEIF file's primary item (ISO/IEC 23008-12, 6.5)."""
    parts = dict(boxes(meta[4:]))
    primary = parts.get(b"pitm", b"")
    item = int.from_bytes(primary[4:], "big")
    containers = dict(boxes(parts.get(b"iprp", b"")))
    properties = list(boxes(containers.get(b"ipco", b"")))
    found: dict[str | tuple[int, int], Any] = {}
    for index in _associated(containers.get(b"ipma", b""), item):
        if not 0 < index <= len(properties):
            continue
        kind, body = properties[index - 1]
        if kind == b"clap":
            found["clap"] = body
        elif kind == b"colr" and body[:4] == b"nclx" and len(body) >= 11:
            numbers = [int.from_bytes(body[at : at + 2], "big") for at in (4, 6, 8)]
            found["cicp"] = (*numbers, body[10] >> 7)
    return found


def _associated(table: bytes, item: int) -> Iterator[int]:
    """Yield the indices, from 1, of an item's properties."""
    id_bytes, index_bytes = (
        (4 if table[:1] > b"\0" else 2),
        (2 if table[3:4] and table[3] & 1 else 1),
    )
    at = 8
    while at + id_bytes < len(table):
        found = int.from_bytes(table[at : at + id_bytes], "big")
        at += id_bytes
        count = table[at]
        at += 1
        if found == item:
            for place in range(at, at + count * index_bytes, index_bytes):
                index = int.from_bytes(table[place : place + index_bytes], "big")
                yield index & (0x7FFF if index_bytes == 2 else 0x7F)
        at += count * index_bytes


def jxl_size(stream: BinaryIO) -> tuple[int, int]:
    """Width and height in the header of a JPEG XL (ISO/IEC 18181-1, 5.4); 0 x 0 if it is cut.

    The plugin decodes as soon as it opens: the limit has to be held before.
    """
    stream.seek(0)
    head = stream.read(16)
    if head[:2] != b"\xff\x0a":
        kind, body = _top_box(stream, b"jxlc", b"jxlp")
        head = body[4:20] if kind == b"jxlp" else body[:16]  # a part begins with its number
    stream.seek(0)
    bits = int.from_bytes(head[2:], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    def side(small: int) -> int:
        return 8 * (take(5) + 1) if small else 1 + take((9, 13, 18, 30)[take(2)])

    if len(head) < 3:
        return 0, 0
    small = take(1)
    height = side(small)
    ratio = take(3)
    if not ratio:
        return side(small), height
    over, under = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return height * over // under, height


def jpeg_segments(data: bytes | bytearray) -> Iterator[tuple[int, int, bytes]]:
    """Yield marker, offset and body of each segment of a JPEG that has a body."""
    at = 2
    while True:
        found = _JPEG_MARKER.search(data, at)
        if found is None:
            return
        marker = found[1][0]
        if marker in (0x01, 0xD8, 0xD9):
            at = found.end()
            continue
        length = int.from_bytes(data[found.end() : found.end() + 2], "big")
        at = found.end() + max(2, length)
        yield marker, found.start(), bytes(data[found.end() + 2 : at])
