"""The ``.tac`` frame, version 1: fields, limits and checksum around an opaque payload.

    Frame ─ pack ─▶ bytes ─ parse ─▶ Frame          one frame, nothing before or behind it
                    bytes ─ read_head ─▶ Frame      its size, without sections and payload
                    bytes ─ read_frame ─▶ Frame…    frames that follow each other in a stream,
                                                    `StreamBudget` bounds them together

    magic │ version, flags │ fingerprint │ level │ width │ height │ length │ payload │ CRC-32
      3   │       1        │      4      │   1   │ 1…3   │  1…3   │  1…5   │  length │   4
                                                            └ coded width, coded height, sections

``docs/format.md`` specifies the frame; this file holds no rule that is not written there.
Every field is checked as soon as it is read and before anything is allocated for it. What is
refused is refused with a subclass of `FormatError`, or with `LimitExceeded`. Standard library only.
"""

import io
import zlib
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from tactic_codec.errors import (
    ChecksumMismatch,
    Corrupt,
    LimitExceeded,
    NotATacFile,
    ReservedFlags,
    Truncated,
    UnknownSection,
    UnsupportedVersion,
)

MAGIC = b"\x89TA"  # outside ASCII at the front, so that no text file begins like this
VERSION = 1
SCALED, SECTIONS = 1, 2  # flags
FINGERPRINT_BYTES = 4
CHECKSUM_BYTES = 4
MAX_LEVEL = 255
MAX_SIDE = 65_535  # pixels
MAX_PAYLOAD = 2**32 - 1  # bytes
MAX_SECTIONS = 2**24 - 1  # bytes
ANCILLARY = 128  # types of sections from here on may be skipped
METADATA = {130: "exif", 131: "xmp", 132: "icc"}  # types of sections, and names of their data
DEFAULT_MAX_PIXELS = 1 << 28  # 268 megapixels: 0.8 GB once decoded to RGB

# A payload may be empty, whatever the picture's size. So that a few bytes cannot cost minutes,
# pictures of up to 64 KiB are limited to what decodes in seconds; larger ones earn more.
SMALL_PAYLOAD = 1 << 16  # bytes
SMALL_MAX_PIXELS = 1 << 22  # 4.2 megapixels
OWN_PIXELS_PER_COUNTED = 8  # of a scaled picture, brought to its own size by a filter
PIXELS_PER_BYTE = 1 << 10  # of the payload beyond 64 KiB: 24 megapixels at 0.03 bits a pixel

# A frame may have 16 bytes, so that a short stream of them could cost hours. What a stream's frames
# have earned together grows so fast that frames of up to 256 x 256 pixels never run out of it.
STREAM_MAX_PIXELS = 1 << 26  # 67 megapixels: sixteen of the largest that need no payload
STREAM_PIXELS_PER_BYTE = 1 << 12  # of the frames read, headers included

# A hostile length must not be allocated before the bytes are there.
_READ_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Frame:
    """One coded image.

    Attributes:
        fingerprint: the 4 bytes that name the model which decodes the payload.
        level: the quality level, 1 to 255, an index into the model's tables.
        width: of the original image in pixels, 1 to 65535.
        height: of the original image in pixels, 1 to 65535.
        payload: the range-coded symbols; never ends in a zero byte.
        scaled_to: width and height at which it was coded, where they are not its own.
        sections: type and data of each, by ascending types; all of them may be skipped.
    """

    fingerprint: bytes
    level: int
    width: int
    height: int
    payload: bytes = field(repr=False)
    scaled_to: tuple[int, int] | None = None
    sections: tuple[tuple[int, bytes], ...] = field(default=(), repr=False)

    @property
    def coded_width(self) -> int:
        """Of what was coded, in pixels."""
        return self.scaled_to[0] if self.scaled_to else self.width

    @property
    def coded_height(self) -> int:
        """Of what was coded, in pixels."""
        return self.scaled_to[1] if self.scaled_to else self.height

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the picture a coded pixel: what x and y in the coded size are multiplied by."""
        return self.width / self.coded_width, self.height / self.coded_height

    @property
    def counted_pixels(self) -> int:
        """What limits are compared with: what decoding costs, in pixels that a network made."""
        if not self.scaled_to:
            return self.pixels
        return self.coded_width * self.coded_height - -self.pixels // OWN_PIXELS_PER_COUNTED

    @property
    def pixels(self) -> int:
        """Number of pixels of the original image, the denominator of bits per pixel."""
        return self.width * self.height

    @property
    def metadata(self) -> dict[str, bytes]:
        """What the picture's file said beside its pixels, by its kind, as it stands there."""
        return {METADATA[kind]: data for kind, data in self.sections if kind in METADATA}

    @property
    def header_bytes(self) -> int:
        """Number of bytes of the frame that are not payload, the checksum among them."""
        return len(_pack_head(self)) + CHECKSUM_BYTES

    @property
    def size(self) -> int:
        """Number of bytes of the whole frame."""
        return self.header_bytes + len(self.payload)

    @property
    def bpp(self) -> float:
        """Bits of the whole frame a pixel."""
        return 8 * self.size / self.pixels


def pack(frame: Frame) -> bytes:
    """Write a frame.

    Raises:
        ValueError: a field is outside its range, or the payload ends in a zero byte.
    """
    _require(len(frame.fingerprint) == FINGERPRINT_BYTES, "the fingerprint has 4 bytes")
    _require(1 <= frame.level <= MAX_LEVEL, f"the level is 1 to {MAX_LEVEL}")
    _require(1 <= frame.width <= MAX_SIDE, f"the width is 1 to {MAX_SIDE}")
    _require(1 <= frame.height <= MAX_SIDE, f"the height is 1 to {MAX_SIDE}")
    _require(len(frame.payload) <= MAX_PAYLOAD, f"the payload has at most {MAX_PAYLOAD} bytes")
    _require(not frame.payload.endswith(b"\0"), "the payload does not end in a zero byte")
    if frame.scaled_to:
        within = 1 <= frame.coded_width <= frame.width and 1 <= frame.coded_height <= frame.height
        smaller = frame.scaled_to != (frame.width, frame.height)
        _require(within and smaller, "what is coded is smaller than the picture")
    kinds = [0, *(kind for kind, _ in frame.sections), ANCILLARY << 1]
    _require(kinds == sorted(set(kinds)), "types of sections ascend from 1 to 255")
    body = _pack_head(frame) + frame.payload
    return body + zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "little")


def _pack_head(frame: Frame) -> bytes:
    """Write everything before the payload."""
    sections = b"".join(
        bytes([kind]) + _pack_varint(len(data)) + data for kind, data in frame.sections
    )
    _require(len(sections) <= MAX_SECTIONS, f"sections have at most {MAX_SECTIONS} bytes")
    flags = SCALED * bool(frame.scaled_to) | SECTIONS * bool(sections)
    sides = map(_pack_varint, (frame.width, frame.height, *(frame.scaled_to or ())))
    head = MAGIC + bytes([VERSION << 4 | flags]) + frame.fingerprint + bytes([frame.level])
    head += b"".join(sides)
    if sections:
        head += _pack_varint(len(sections)) + sections
    return head + _pack_varint(len(frame.payload))


def default_max_pixels(payload_bytes: int) -> int:
    """Return how many counted pixels a frame may have by default, by the length of its payload.

    4.2 megapixels up to 64 KiB, 1024 pixels more for every byte beyond, 268 megapixels at most.
    """
    earned = PIXELS_PER_BYTE * max(0, payload_bytes - SMALL_PAYLOAD)
    return min(DEFAULT_MAX_PIXELS, SMALL_MAX_PIXELS + earned)


class StreamBudget:
    """What the frames of one stream may cost together, where no limit was asked for.

    67 megapixels, as they are counted, and 4096 more for every byte of the frames so far.
    """

    def __init__(self) -> None:
        self._bytes = 0
        self._pixels = 0
        self._largest = 0  # pixels of a frame

    def spend(self, frame: Frame) -> None:
        """Count the stream's next frame, before it is decoded.

        Raises:
            LimitExceeded: the frames have more pixels together than their bytes earn.
        """
        self._bytes += frame.size
        self._pixels += frame.counted_pixels
        self._largest = max(self._largest, frame.pixels)
        limit = STREAM_MAX_PIXELS + STREAM_PIXELS_PER_BYTE * self._bytes
        if self._pixels > limit:
            raise LimitExceeded(
                f"with it the stream has {self._pixels} pixels in {self._bytes} bytes; the limit "
                f"is {limit} for so few: if you trust the source, decode it with --max-pixels "
                f"{self._largest}, which then bounds single frames only"
            )


def parse(data: bytes, *, max_pixels: int | None = None) -> Frame:
    """Read bytes that are exactly one frame.

    Args:
        data: the bytes.
        max_pixels: the largest width x height that is read; by default `default_max_pixels`.

    Raises:
        FormatError: the subclass that names the cause; bytes behind the frame are `Corrupt`.
        LimitExceeded: the image has more pixels than that.
    """
    frame = read_frame(io.BytesIO(data), max_pixels=max_pixels)
    if frame is None:
        raise Truncated("the data is empty; a .tac frame was expected")
    if frame.size != len(data):
        extra = len(data) - frame.size
        raise Corrupt(f"{extra} bytes follow the frame; exactly one frame was expected")
    return frame


def read_frame(stream: BinaryIO, *, max_pixels: int | None = None) -> Frame | None:
    """Read the next frame of a stream, or None where the stream ends cleanly between frames.

    Takes no byte beyond the frame, and accepts short reads, so the stream may be a pipe.
    After `ChecksumMismatch` and `UnknownSection` the stream stands behind the frame and the next
    one can be read; after any other error the place of the next frame is not known.

    Args:
        stream: the bytes.
        max_pixels: the largest width x height that is read; by default `default_max_pixels`.

    Raises:
        FormatError: the subclass that names the cause.
        LimitExceeded: the image has more pixels than that.
    """
    source = _Source(stream)
    head = _read_head(source, DEFAULT_MAX_PIXELS if max_pixels is None else max_pixels)
    if head is None:
        return None
    frame, flags = head
    packed = b""
    if flags & SECTIONS:
        length = source.varint("length of the sections")
        if not 2 <= length <= MAX_SECTIONS:
            raise Corrupt(f"sections of {length} bytes; expected 2 to {MAX_SECTIONS}")
        packed = source.exactly(length, "sections")
    length = source.varint("payload length")
    if max_pixels is None:
        limit = default_max_pixels(length)
        _check_limit(frame, frame.counted_pixels, limit, f" for {length} bytes of payload")
    payload = source.exactly(length, "payload")

    expected = source.crc
    found = int.from_bytes(source.exactly(CHECKSUM_BYTES, "checksum"), "little")
    if found != expected:
        raise ChecksumMismatch(
            f"checksum {found:08x}, computed {expected:08x}: the frame was damaged on its way; "
            "fetch it again"
        )
    # Behind the checksum: a damaged byte that became zero is damage, not a writer's fault.
    if payload.endswith(b"\0"):
        raise Corrupt("the payload ends in a zero byte; writers drop those")
    return replace(frame, payload=payload, sections=_read_sections(packed))


def read_head(stream: BinaryIO) -> Frame:
    """Read a frame's first fields, up to its sizes: a frame without sections and payload.

    A caller who goes on compares the size with a limit.

    Raises:
        FormatError: as `read_frame`; an empty stream is `Truncated`.
    """
    head = _read_head(_Source(stream), MAX_SIDE * MAX_SIDE)
    if head is None:
        raise Truncated("the data is empty; a .tac frame was expected")
    return head[0]


def _read_head(source: "_Source", limit: int) -> tuple[Frame, int] | None:
    """Return a frame's first fields and its flags, or None where the stream ends before it."""
    magic = source.read(len(MAGIC))
    if not magic:
        return None
    if not MAGIC.startswith(magic):
        raise NotATacFile(f"begins with {magic.hex(' ')}; a .tac frame begins with 89 54 41")
    if len(magic) < len(MAGIC):
        raise Truncated(f"the data ends after {len(magic)} bytes, inside the magic")

    version, flags = divmod(source.byte("version"), 16)
    if version != VERSION:
        raise UnsupportedVersion(
            f"format version {version}; this reader knows version {VERSION}: update tactic-codec"
        )
    if flags & ~(SCALED | SECTIONS):
        raise ReservedFlags(
            f"flags are {flags:#x}; version {VERSION} reserves all but 0x1 and 0x2: update "
            "tactic-codec"
        )

    fingerprint = source.exactly(FINGERPRINT_BYTES, "fingerprint")
    level = source.byte("quality level")
    if level == 0:
        raise Corrupt(f"quality level 0; expected 1 to {MAX_LEVEL}")
    width = _read_side(source, "width", MAX_SIDE)
    height = _read_side(source, "height", MAX_SIDE)
    _check_limit(Frame(fingerprint, level, width, height, b""), width * height, limit, "")
    scaled_to = None
    if flags & SCALED:
        coded_width = _read_side(source, "coded width", width)
        coded_height = _read_side(source, "coded height", height)
        scaled_to = coded_width, coded_height
        if scaled_to == (width, height):
            raise Corrupt(f"the coded size {width} x {height} is the picture's: no flag says that")
    return Frame(fingerprint, level, width, height, b"", scaled_to), flags


def _read_sections(packed: bytes) -> tuple[tuple[int, bytes], ...]:
    """Read the sections of a frame, of which every critical one is unknown today."""
    source = _Source(io.BytesIO(packed))
    found = dict[int, bytes]()
    left = len(packed)
    try:
        while left:
            kind = source.byte("type")
            if kind == 0:
                raise Corrupt("a section of type 0: type 0 is reserved")
            if kind <= max(found, default=0):
                raise Corrupt(f"a section of type {kind} behind one of {max(found, default=0)}")
            length = source.varint("length of a section")
            found[kind] = source.exactly(length, "section")
            left -= 1 + len(_pack_varint(length)) + length
    except Truncated as exc:
        raise Corrupt(f"the sections are longer than their length says: {exc}") from exc
    for kind in found:
        if kind < ANCILLARY:
            raise UnknownSection(
                f"the frame has a section of type {kind}, without which it would be misread; this "
                "reader does not know it: update tactic-codec"
            )
    return tuple(found.items())


class _Source:
    """Reads fields from a stream and keeps the checksum of all that was read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.crc = 0

    def read(self, count: int) -> bytes:
        """Return ``count`` bytes, or fewer where the stream ends."""
        chunks = []
        while count > 0:
            chunk = self._stream.read(min(count, _READ_CHUNK))
            if not chunk:
                break
            self.crc = zlib.crc32(chunk, self.crc)
            chunks.append(chunk)
            count -= len(chunk)
        return b"".join(chunks)

    def exactly(self, count: int, field: str) -> bytes:
        """Return ``count`` bytes; `Truncated` if the stream has fewer."""
        data = self.read(count)
        if len(data) < count:
            raise Truncated(f"the data ends inside the {field}: {len(data)} of {count} bytes")
        return data

    def byte(self, field: str) -> int:
        return self.exactly(1, field)[0]

    def varint(self, field: str) -> int:
        """Read SQLite4's variable-length integer, in its shortest form and up to 32 bits."""
        first = self.byte(field)
        if first <= 240:
            return first
        if first > 251:
            raise Corrupt(f"the {field} begins with byte {first}; integers begin with 0 to 251")
        count = max(first - 247, 1)
        value = int.from_bytes(self.exactly(count, field), "big")
        if first <= 248:
            value += 240 + 256 * (first - 241)
        elif first == 249:
            value += 2288
        if len(_pack_varint(value)) != 1 + count:
            raise Corrupt(f"the {field} {value} is written in {1 + count} bytes; it needs fewer")
        return value


def _read_side(source: _Source, field: str, most: int) -> int:
    value = source.varint(field)
    if not 1 <= value <= most:
        raise Corrupt(f"{field} {value}; expected 1 to {most} pixels")
    return value


def _check_limit(frame: Frame, counted: int, limit: int, reason: str) -> None:
    if counted > limit:
        size, own = f"{frame.width} x {frame.height}", f"{frame.pixels} pixels"
        if frame.scaled_to:
            size += f", coded at {frame.coded_width} x {frame.coded_height},"
            own += f", counted as {counted}"
        raise LimitExceeded(
            f"{size} is {own}; the limit is {limit}{reason}: if you trust the source, raise it "
            f"with --max-pixels {frame.pixels}, in Python max_pixels={frame.pixels}"
        )


def _pack_varint(value: int) -> bytes:
    if value <= 240:
        return bytes([value])
    if value <= 2287:
        high, low = divmod(value - 240, 256)
        return bytes([241 + high, low])
    if value <= 67_823:
        return b"\xf9" + (value - 2288).to_bytes(2, "big")
    if value < 1 << 24:
        return b"\xfa" + value.to_bytes(3, "big")
    return b"\xfb" + value.to_bytes(4, "big")


def _require(condition: bool, rule: str) -> None:
    if not condition:
        raise ValueError(f"cannot pack the frame: {rule}")
