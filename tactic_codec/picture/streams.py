"""Pictures out of a stream that holds many, each as soon as its last byte has come.

    stream ─ lines of multipart, padding, trailers ─ kind by its first bytes ─ length ─▶ Found…

JPEG, PNG, PNM, BMP, WebP and TIFF tell where they end, and so do the frames of YUV4MPEG2. AVIF,
GIF, JPEG 2000 and QOI are read up to the next of their kind, others up to the end of the stream.

Of multipart/x-mixed-replace the pictures matter: the lines between them are passed over, the
lengths that they name are used for formats that do not tell their own, and may be wrong elsewhere.

Text before the first picture is left out with a warning: servers and cameras print some there.
What is damaged is told, and the next picture is looked for behind it. What a JPEG's own index
counts as its parts (depth, gain map, preview) is no picture of its own; other bytes behind a JPEG,
where phones leave films and notes, are passed over with a warning.

No more is held than one picture, at most ``max_bytes``, and what was read ahead of the next. No
byte is looked at more than a few times, whatever the stream holds.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from tactic_codec.errors import DamagedImage, LimitExceeded, TacError, UnsupportedImage
from tactic_codec.picture import lengths, y4m
from tactic_codec.picture.forms import DEFAULT_MAX_PIXELS, WHITE, Colour, Scaled
from tactic_codec.picture.kinds import HEAD_BYTES, find_reader, kind_of
from tactic_codec.picture.lengths import Broken, Walk
from tactic_codec.picture.reading import bytes_of, read
from tactic_codec.picture.scaling import WHOLE, Shrink

DEFAULT_MAX_BYTES = 1 << 28
"""Of a picture's file: 256 MiB."""

SEARCHED_BYTES = 1 << 26
"""Without a picture in so many bytes a stream is given up."""

_PASSED_LIMITS = 4  # of a picture that is too large so many times the limit may follow

_CRUMB_BYTES = 32  # behind a damaged start there is no other picture so soon
_HEADER_BYTES = 1 << 14  # of the lines before a part of multipart
_PIECE_BYTES = 1 << 18


def max_bytes(max_pixels: int | None) -> int:
    """The limit for a picture's file where one of so many pixels is allowed."""
    return DEFAULT_MAX_BYTES if max_pixels is None else bytes_of(max_pixels)


@dataclass(frozen=True, slots=True)
class Found:
    """A picture of a stream, or what is to be said of one.

    Attributes:
        number: of the picture, from 1; what is no picture but stands in the place of one counts.
            0 where the stream holds none.
        data: the picture's file, or the planes of a frame.
        header: of the film that the frame belongs to.
        problem: why there is no picture, or, with ``data``, what is wrong if it cannot be read.
        warning: what was passed over behind the picture, with the number 0 before the first one;
            then there is nothing else.
    """

    number: int
    data: bytes | bytearray = b""
    header: y4m.Header | None = None
    problem: TacError | None = None
    warning: str = ""

    def read(
        self,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        background: str | Colour = WHITE,
        shrink: Shrink = WHOLE,
    ) -> Scaled:
        """Decode it; arguments, result and errors are those of `reading.read`."""
        if self.problem and not self.data:
            raise self.problem
        if self.header:
            if self.header.width * self.header.height > max_pixels:
                raise LimitExceeded(
                    f"the frame has {self.header.width} x {self.header.height} pixels, more than "
                    f"the limit of {max_pixels}: scale it down or raise the limit"
                )
            pixels = self.header.pixels(self.data)
            return shrink.of(Scaled(pixels, self.header.width, self.header.height))
        try:
            return read(
                bytes(self.data), max_pixels=max_pixels, background=background, shrink=shrink
            )
        except DamagedImage as error:
            raise self.problem or error from error


def pictures(stream: BinaryIO, *, max_bytes: int = DEFAULT_MAX_BYTES) -> Iterator[Found]:
    """Find the pictures of a stream.

    Args:
        stream: nothing behind the end of a picture is waited for.
        max_bytes: of one picture; a larger one is an error, and the next is looked for.

    Yields:
        Pictures, errors and warnings in the order of the stream; at least one.

    Raises:
        OSError: reading fails.
    """
    return _Splitter(stream, max_bytes).run()


def several(stream: BinaryIO) -> bool:
    """Whether a second picture follows the first one, which tells its own end."""
    found = pictures(stream)
    first = next(found)
    if first.problem or _kind(bytes(first.data[:64])) not in _FORMATS:
        return False
    return any(not other.problem and other.data for other in found)


# --- What begins here -----------------------------------------------------------------------------


class _Format(NamedTuple):
    """A format that tells its end."""

    length: Callable[[bytearray], Walk]
    again: Callable[[bytes], bytes] | None
    """What begins the next picture for certain where it comes within this one, as a pattern."""


_FORMATS = {
    "JPEG": _Format(lengths.jpeg, None),
    "PNG": _Format(lengths.png, lambda data: re.escape(data[:8])),
    "WebP": _Format(lengths.webp, lambda _: rb"RIFF....WEBPVP8"),
    "BMP": _Format(lengths.bmp, lambda data: rb"BM.{4}" + re.escape(data[6:26])),
    "PNM": _Format(lengths.pnm, lambda data: re.escape(data[:8])),
    "TIFF": _Format(lengths.tiff, None),
}
# Of formats that do not tell it; those that are not here are read up to the end of the stream.
_NEXT = {
    "AVIF": re.compile(rb"\0\0.{2}ftyp(?=avi[fs])", re.DOTALL),
    "GIF": re.compile(rb"GIF8[79]a"),
    "JPEG 2000": re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n"),
    "QOI": re.compile(rb"qoif.{8}[\3\4][\0\1]", re.DOTALL),
}
_FILM, _FRAME, _LINES, _MP4 = "YUV4MPEG2 film", "YUV4MPEG2 frame", "multipart", "MP4"

# Starts that are so long that they hardly come by chance.
_STARTS = (
    rb"\xff\xd8\xff[\xc0-\xfe]|\x89PNG\r\n\x1a\n|RIFF....WEBPVP8|\0.{3}ftyp|YUV4MPEG2 |"
    rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0|P[4-6]\s\d{1,6}\s\d{1,6}\s|P7\nWIDTH |"
    rb"\n--[!-~]{1,70}\r?\n|"
    # EXIF, and what makers note in it, begins so, too.
    rb"(?:II\*\0.{4}|MM\0\*.{4}|II\+\0\x08\0\0\0|MM\0\+\0\x08\0\0)"
    rb"(?<!Exif\0\0.{8})(?<!eXIf.{8})(?<!EXIF.{12})(?<!MPF\0.{8})(?<!Nikon\0.{12})"
)
_START = re.compile(_STARTS, re.DOTALL)
_START_OR_FRAME = re.compile(_STARTS + rb"|FRAME[ \n]", re.DOTALL)
_START_BYTES = 80  # the longest has fewer

_PADDING = b"\0\xff \t\r\n"
_PAD = re.compile(rb"\s+|\0+(?=\0{4})|\xff+(?=\xff)")
_LINE = re.compile(rb"[\t\x20-\x7e]*\r?\n")
_NO_TEXT = re.compile(rb"[^\t\r\n\x20-\x7e]")
_CHUNKED = re.compile(rb"^transfer-encoding:[^\n]*\bchunked\b", re.IGNORECASE | re.MULTILINE)
_LENGTH = re.compile(rb"^content-length:\s*(\d{1,12})\s*$", re.IGNORECASE | re.MULTILINE)


def _kind(head: bytes) -> str:
    """The format that some bytes begin, or what else stands there; "" for what is not known."""
    if head.startswith((b"--", b"HTTP/")):
        return _LINES
    if head.startswith(y4m.MAGIC + b" "):
        return _FILM
    try:
        return find_reader(head).name
    except UnsupportedImage:
        return _MP4 if head[4:8] == b"ftyp" else ""


class _Lost(Exception):
    """There was no picture for too long."""


class _Splitter:
    """Holds what was read and not yet given out."""

    def __init__(self, stream: BinaryIO, max_bytes: int) -> None:
        self._read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
        self._max_bytes = max_bytes
        self._data = bytearray()
        self._position = 0  # in the stream, of the first byte that is held
        self._number = 0
        self._passed = 0  # bytes since the last picture
        self._nothing: TacError | None = None  # what the stream holds if it holds no picture
        self._over = False
        self._silent = False  # what comes now belongs to what was reported already
        self._last = ""  # the kind of the last picture
        self._failed_at = 0  # in the stream: the last thing that was reported
        self._damage_end = 0  # in the stream: up to there it may belong to a damaged picture
        self._walked = 0  # bytes of the picture at hand that its walk has asked for
        self._parts: dict[int, int] = {}  # of the last JPEG: position and size
        self._header: y4m.Header | None = None  # of the film at hand
        self._part_bytes: int | None = None  # that multipart promises

    def run(self) -> Iterator[Found]:
        """See `pictures`."""
        try:
            while not self._over and self._more(1):
                self._more({0: 5, 0xFF: 2}.get(self._data[0], 1))  # what the pattern looks at
                if pad := _PAD.match(self._data):
                    self._pass(pad.end())
                    continue
                # The least that tells, and no more than the smallest picture has.
                self._more({ord("B"): 26, ord("R"): 16, ord("Y"): 10, 0: 64}.get(self._data[0], 8))
                kind = _kind(bytes(self._data[:64]))
                if self._header and self._data.startswith(b"FRAME"):
                    kind = _FRAME
                if kind == _FILM:
                    yield from self._film()
                elif kind == _LINES:
                    yield from self._lines()
                elif kind in ("", _MP4):
                    yield from self._stranger(kind)
                else:
                    yield from self._picture(kind)
        except _Lost:
            problem = f"{SEARCHED_BYTES} bytes hold no picture: the stream is given up"
            if self._number:
                yield from self._failed(DamagedImage(problem))
            self._nothing = self._nothing or UnsupportedImage(problem)
        if not self._number:
            count = self._position
            what = "is empty (0 bytes)" if not count else f"of {count} bytes holds no picture"
            problem = f"the stream {what}: a picture was expected"
            yield Found(0, problem=self._nothing or UnsupportedImage(problem))

    # --- Reading ---

    def _more(self, count: int) -> bool:
        """Read until so many bytes are held; false if the stream ends before."""
        while len(self._data) < count:
            piece = self._read(_PIECE_BYTES)
            if not piece:
                return False
            self._data += piece
        return True

    def _drop(self, count: int) -> None:
        del self._data[:count]
        self._position += count

    def _skip(self, count: int) -> None:
        """Drop bytes, of which some may not have come yet."""
        while count and self._more(1):
            here = min(count, len(self._data))
            self._drop(here)
            count -= here

    def _pass(self, count: int) -> None:
        """Drop bytes that are no picture; of those there may not be too many in a row."""
        self._drop(count)
        self._passed += count
        if self._passed > SEARCHED_BYTES:
            raise _Lost

    def _search(self) -> bytes:
        """Pass over bytes up to what looks like a start; return the last few, without padding."""
        start = _START_OR_FRAME if self._header else _START
        tail, over = b"", False
        # Piece by piece, for much may be held.
        while not (found := start.search(self._data, 0, _PIECE_BYTES)) and not over:
            count = max(0, min(_PIECE_BYTES, len(self._data)) - _START_BYTES)
            tail = bytes(self._data[:count]).strip(_PADDING)[-4:] or tail
            self._pass(count)
            over = not self._more(_START_BYTES + 1)
        count = found.start() if found else len(self._data)
        tail = (tail + bytes(self._data[:count]).strip(_PADDING))[-4:]
        self._pass(count)
        return tail

    # --- Pictures ---

    def _picture(self, kind: str) -> Iterator[Found]:
        again = None
        open_ended = kind not in _FORMATS and kind != _FRAME and not self._part_bytes
        open_ended |= self._data[:2] in _PLAIN
        if kind == _FRAME and self._header:
            walk = lengths.frame(self._data, self._header)
            again = re.escape(y4m.MAGIC) + b"|FRAME\\n"
        elif kind in _FORMATS:
            walk = _FORMATS[kind].length(self._data)
            make = _FORMATS[kind].again
            again = make(bytes(self._data[:32])) if make else None
        elif self._part_bytes:
            walk = lengths.told(self._part_bytes)
        else:
            walk = lengths.up_to(self._data, _NEXT.get(kind))
        try:
            length = self._measured(walk, again)
        except Broken as error:
            at = error.at
            self._damage_end = self._position + at + error.own
            if error.begins:
                why = f"this {kind} is cut off after {at} bytes: another one begins there"
                yield from self._cut(kind, at, DamagedImage(why))
            else:
                yield from self._failed(DamagedImage(f"{error}: the next one is looked for"))
                self._drop(at)
                self._search()
        except LimitExceeded as error:
            yield from self._failed(error)
            # What was walked through is not walked through again.
            self._skip(max(1, self._walked - _START_BYTES))
            self._passed = -_PASSED_LIMITS * self._max_bytes
            self._search()
        except EOFError:
            length = len(self._data)
            if open_ended:
                yield self._whole(kind, length)
            else:
                why = f"the stream ends within this {kind}, after {length} bytes of it"
                yield from self._cut(kind, length, DamagedImage(f"{why}: the rest is missing"))
                if kind == "TIFF":
                    why = f"where this TIFF ends is not told: all {length} bytes are taken for it"
                    yield Found(self._number, warning=why)
        else:
            if kind == "JPEG" and length <= self._parts.get(self._position, 0):
                self._drop(length)
            elif self._is_of_damaged(length):
                why = f"{length} bytes of {kind} within the damaged picture are left out"
                yield Found(self._number, warning=f"{why}: they may be its thumbnail")
                self._drop(length)
            else:
                yield self._whole(kind, length)
        self._part_bytes = None

    def _is_of_damaged(self, length: int) -> bool:
        """Whether a picture lies close behind damage and is followed by no start of another one."""
        if self._position + length > self._damage_end:
            return False
        self._more(length + 2 * _START_BYTES)
        rest = bytes(self._data[length : length + 2 * _START_BYTES])
        rest = re.sub(rb"^[\0\s]*(\xff+(?=\xff))?", b"", rest)
        return bool(rest) and not _kind(rest[:64])

    def _whole(self, kind: str, length: int) -> Found:
        """Give out a picture."""
        self._number += 1
        self._silent, self._last, self._passed = False, kind, 0
        header = self._header if kind == _FRAME else None
        begun, data = self._position, self._taken(length)
        if kind == "JPEG":
            self._parts = {begun + at: size for at, size in lengths.jpeg_parts(data)}
        if header:
            del data[: length - header.frame_bytes]
        return Found(self._number, data, header)

    def _taken(self, length: int) -> bytearray:
        """Take bytes out; what is copied is the shorter of them and of what stays."""
        if length <= len(self._data) // 2:
            data = self._data[:length]
            self._drop(length)
            return data
        data, self._data = self._data, self._data[length:]
        del data[length:]
        self._position += length
        return data

    def _cut(self, kind: str, length: int, problem: TacError) -> Iterator[Found]:
        """Report a picture that is cut off.

        Of a JPEG only the end marker may be missing, and of a TIFF what nobody reads.
        """
        for found in self._failed(problem):
            data = self._taken(length) if kind in ("JPEG", "TIFF") else b""
            yield Found(found.number, data, problem=problem)
            length -= len(data)
        self._drop(length)

    def _failed(self, problem: TacError) -> Iterator[Found]:
        """Report what begins here, but not crumbs of what was reported already."""
        crumb = self._silent and self._position < self._failed_at + _CRUMB_BYTES
        self._failed_at, self._silent = self._position, True
        if not crumb:
            self._number += 1
            yield Found(self._number, problem=problem)

    def _measured(self, walk: Walk, again: bytes | None) -> int:
        """Let a format tell the length of the picture at hand.

        Raises:
            Broken: it is damaged, or another one begins within it.
            LimitExceeded: it is longer than allowed.
            EOFError: the stream ends before.
        """
        next_one = re.compile(again, re.DOTALL) if again else None
        seen, need = 1, 0
        self._walked = 0
        try:
            while True:
                if len(self._data) >= need:
                    need = self._allowed(next(walk))
                elif not self._more(len(self._data) + 1):
                    walk.throw(EOFError())
                if next_one:
                    while found := next_one.search(self._data, seen, need):
                        seen = found.start() + 1
                        broken = Broken("", found.start(), begins=True, own=0)
                        need = self._allowed(walk.throw(broken))
                    seen = max(seen, min(need, len(self._data)) - _START_BYTES)
        except StopIteration as stop:
            return self._allowed(stop.value)

    def _allowed(self, count: int) -> int:
        """What a walk asks for; raises LimitExceeded."""
        if count > self._max_bytes:
            raise LimitExceeded(
                f"this picture has more than {self._max_bytes} bytes: send a smaller one, or raise "
                "the limit with --max-pixels"
            )
        self._walked = max(self._walked, count)
        return count

    # --- What lies between pictures ---

    def _film(self) -> Iterator[Found]:
        """Read the line that begins a film."""
        while (end := self._data.find(b"\n", 0, y4m.LINE_BYTES)) < 0:
            if len(self._data) >= y4m.LINE_BYTES or not self._more(len(self._data) + 1):
                break
        try:
            self._header = None
            if end < 0:
                raise DamagedImage("the YUV4MPEG2 header does not end: send the film again")
            self._header = y4m.parse(bytes(self._data[:end]).rstrip(b"\r"))
            self._silent, self._last = False, _FILM
            self._drop(end + 1)
        except TacError as error:  # then nobody knows how long the frames are
            yield from self._failed(error)
            self._drop(1)
            self._search()

    def _lines(self) -> Iterator[Found]:
        """Pass over the lines before a part of multipart: boundary and header."""
        at = 0
        while not (line := _LINE.match(self._data, at, at + _HEADER_BYTES)) or line[0].strip():
            if line:
                at = line.end()
            elif _NO_TEXT.search(self._data, at, at + _HEADER_BYTES):
                break  # a picture without the blank line before it
            elif len(self._data) - at < _HEADER_BYTES and not self._more(len(self._data) + 1):
                at = len(self._data)
                break
            if at > _HEADER_BYTES or (not line and len(self._data) - at >= _HEADER_BYTES):
                why = f"the header before this picture has more than {_HEADER_BYTES} bytes"
                yield from self._failed(DamagedImage(f"{why}: the next one is looked for"))
                self._drop(2)
                self._search()
                return
        if not at and not line:  # no line at all
            yield from self._stranger("")
            return
        if _CHUNKED.search(self._data, 0, at):
            self._over = True
            why = "this is HTTP in chunks, with their lengths between the bytes of the pictures"
            yield from self._failed(
                UnsupportedImage(f"{why}: have curl, without --raw, take them out")
            )
            return
        told = _LENGTH.search(bytes(self._data[:at]))
        self._part_bytes = int(told[1]) if told else None
        self._pass(line.end() if line else at)

    def _stranger(self, kind: str) -> Iterator[Found]:
        """Say what stands where a picture should, and pass over it."""
        self._more(HEAD_BYTES)
        start = _START.search(self._data, 1, HEAD_BYTES)
        head = bytes(self._data[: start.start() if start else HEAD_BYTES])
        problem, known = _named(head)
        if known and not self._number:
            self._nothing = problem
            self._over = known not in _BEFORE  # all of the stream is something else
            if self._over:
                return
            begun = self._position
            self._search()
            if self._data and head.strip(_PADDING):
                count = self._position - begun
                yield Found(0, warning=f"the {count} bytes before the first picture are left out")
            return
        damaged = head.startswith(b"\xff\xd8")  # a JPEG, once
        trailer = self._last in ("JPEG", "TIFF") and (kind == _MP4 or not (known or damaged))
        report = not self._silent and head.strip(_PADDING)
        if report and not trailer:
            yield from self._failed(problem)
        begun = self._position
        if self._part_bytes and self._part_bytes <= self._max_bytes:
            self._skip(self._part_bytes)
            self._part_bytes = None
            return
        while kind == _MP4 and self._more(16):
            size = lengths.film_box(bytes(self._data[:16]))
            if not 0 < size <= self._max_bytes:
                break
            self._skip(size)
        if self._position > begun:
            self._silent = True  # notes behind a film belong to it
            return
        self._drop(1)
        tail = self._search()
        usual = tail == b"SEFT" or self._data[4:8] == b"ftyp"  # Samsung's notes, or before a film
        if report and trailer and not usual:
            why = f"{self._position - begun} bytes behind this {self._last}"
            if _SEGMENTS.match(head):
                why += " are segments of a JPEG: it is damaged, or this was its thumbnail"
                yield Found(self._number, problem=DamagedImage(why))
            else:
                why = f"the {why} are no picture, nor listed in it: left out"
                yield Found(self._number, warning=why)


_SEGMENTS = re.compile(  # of a JPEG: some at the start, and tables or a frame's header behind notes
    rb"\xff[\xc0-\xd7\xda-\xef\xfe]|.*\xff(?:\xdb\0[\x43\x84]|[\xc0-\xc2]\0[\x0b\x11]\x08)",
    re.DOTALL,
)
_PLAIN = (b"P1", b"P2", b"P3")
_BEFORE = ("text", "nothing but zero bytes")  # what may stand before the first picture


def _named(head: bytes) -> tuple[UnsupportedImage, str | None]:
    """The error for what is no picture, and what it is instead, if that is known."""
    try:
        find_reader(head)
    except UnsupportedImage as error:
        return error, kind_of(head)
    return UnsupportedImage(
        "a picture was expected, and this is the start of one, cut"
    ), "a cut picture"
