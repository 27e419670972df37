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
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from typing import BinaryIO

from tactic_codec.errors import DamagedImage, LimitExceeded, TacError, UnsupportedImage
from tactic_codec.picture import isobmff, jpeg, y4m
from tactic_codec.picture.formats import HEAD_BYTES, Format, find_format, format_at, kind_of
from tactic_codec.picture.forms import DEFAULT_MAX_PIXELS, Colour, Scaled, refuse_size
from tactic_codec.picture.reading import bytes_of, read
from tactic_codec.picture.scaling import WHOLE, Shrink
from tactic_codec.picture.window import START_BYTES, Begins, Broken, Window

DEFAULT_MAX_BYTES = 1 << 28
"""Of a picture's file: 256 MiB."""

SEARCHED_BYTES = 1 << 26
"""Without a picture in so many bytes a stream is given up."""

_PASSED_LIMITS = 4  # of a picture that is too large so many times the limit may follow

_CRUMB_BYTES = 32  # behind a damaged start there is no other picture so soon
_HEADER_BYTES = 1 << 14  # of the lines before a part of multipart
_SEARCHED_AT_ONCE = 1 << 18


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
        background: str | Colour = "white",
        shrink: Shrink = WHOLE,
    ) -> Scaled:
        """Decode it; arguments, result and errors are those of `reading.read`."""
        if self.problem and not self.data:
            raise copy(self.problem)  # which holds all that see it, this picture too
        if self.header:
            refuse_size(self.header.width, self.header.height, max_pixels)
            pixels = self.header.pixels(self.data)
            return shrink.of(Scaled(pixels, self.header.width, self.header.height))
        try:
            return read(self.data, max_pixels=max_pixels, background=background, shrink=shrink)
        except DamagedImage as error:
            raise copy(self.problem or error) from error


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
    if first.problem or not (form := format_at(bytes(first.data[:HEAD_BYTES]))) or not form.end:
        return False
    return any(not other.problem and other.data for other in found)


# --- What begins here -----------------------------------------------------------------------------

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
_BEFORE_BYTES = 10  # of what stands before the start of a TIFF that is no picture of its own
_PADDING = b"\0\xff \t\r\n"
_PAD = re.compile(rb"\s+|\0+(?=\0{4})|\xff+(?=\xff)")
_LINE = re.compile(rb"[\t\x20-\x7e]*\r?\n")
_NO_TEXT = re.compile(rb"[^\t\r\n\x20-\x7e]")
_CHUNKED = re.compile(rb"^transfer-encoding:[^\n]*\bchunked\b", re.IGNORECASE | re.MULTILINE)
_LENGTH = re.compile(rb"^content-length:\s*(\d{1,12})\s*$", re.IGNORECASE | re.MULTILINE)


class _GivenUp(Exception):
    """The rest of the stream is not looked at; the argument says why."""


class _Splitter:
    """Finds one picture after the other.

    What is reported is kept small: what comes behind something that was reported, and is no
    picture, belongs to it.
    """

    def __init__(self, stream: BinaryIO, max_bytes: int) -> None:
        self._window = Window(stream, max_bytes)
        self._max_bytes = max_bytes
        self._number = 0
        self._passed = 0  # bytes since the last picture
        self._nothing: TacError | None = None  # what the stream holds if it holds no picture
        self._silent = False  # what comes now belongs to what was reported already
        self._last = ""  # the format of the last picture
        self._failed_at = 0  # in the stream: the last thing that was reported
        self._damage_end = 0  # in the stream: up to there it may belong to a damaged picture
        self._parts: dict[int, int] = {}  # of the last JPEG: position and size
        self._film: y4m.Header | None = None  # the one at hand
        self._part_bytes: int | None = None  # that multipart promises

    def run(self) -> Iterator[Found]:
        """See `pictures`."""
        window = self._window
        try:
            while window.more(1):
                window.more({0: 5, 0xFF: 2}.get(window.data[0], 1))  # what the pattern looks at
                if pad := _PAD.match(window.data):
                    self._pass(pad.end())
                else:
                    yield from self._one()
        except _GivenUp as given_up:
            (self._nothing,) = given_up.args
            if self._number:
                yield from self._failed(given_up.args[0])
        if not self._number:
            count = window.position
            what = "is empty (0 bytes)" if not count else f"of {count} bytes holds no picture"
            problem = f"the stream {what}: a picture was expected"
            yield Found(0, problem=self._nothing or UnsupportedImage(problem))

    def _one(self) -> Iterator[Found]:
        """Find what begins here: a picture, a frame, what leads to one, or something else."""
        window = self._window
        # The least that tells, and no more than the smallest picture has.
        window.more({ord("B"): 26, ord("R"): 16, ord("Y"): 10, 0: 64}.get(window.data[0], 8))
        head = bytes(window.data[:64])
        if self._film and head.startswith(b"FRAME"):
            yield from self._picture(_frames_of(self._film))
        elif head.startswith(y4m.MAGIC + b" "):
            yield from self._film_header()
        elif head.startswith((b"--", b"HTTP/")):
            yield from self._lines()
        elif form := format_at(head):
            yield from self._picture(form)
        else:
            yield from self._stranger()

    # --- Passing over bytes ---

    def _skip(self, count: int) -> None:
        """Drop bytes, of which some may not have come yet."""
        while count and self._window.more(1):
            here = min(count, len(self._window.data))
            self._window.drop(here)
            count -= here

    def _pass(self, count: int) -> None:
        """Drop bytes that are no picture; of those there may not be too many in a row."""
        self._window.drop(count)
        self._passed += count
        if self._passed > SEARCHED_BYTES:
            why = f"{SEARCHED_BYTES} bytes hold no picture: the stream is given up"
            known = None if self._number else self._nothing
            raise _GivenUp(known or UnsupportedImage(why))

    def _search(self) -> bytes:
        """Pass over bytes up to what looks like a start; return the last few, without padding."""
        window, start = self._window, _START_OR_FRAME if self._film else _START
        tail, over, begin = b"", False, 0
        # Piece by piece, for much may be held; what a start is told by may stand before it.
        while not (found := start.search(window.data, begin, _SEARCHED_AT_ONCE)) and not over:
            begin = max(begin, min(_SEARCHED_AT_ONCE, len(window.data)) - START_BYTES)
            count = max(0, begin - _BEFORE_BYTES)
            begin -= count
            tail = bytes(window.data[:count]).strip(_PADDING)[-4:] or tail
            self._pass(count)
            over = not window.more(begin + START_BYTES + 1)
        count = found.start() if found else len(window.data)
        tail = (tail + bytes(window.data[:count]).strip(_PADDING))[-4:]
        self._pass(count)
        return tail

    # --- Pictures ---

    def _picture(self, form: Format) -> Iterator[Found]:
        window = self._window
        try:
            length = self._length(form)
        except Broken as error:
            self._damage_end = window.position + error.at + error.own
            if isinstance(error, Begins):
                why = (
                    f"this {form.name} is cut off after {error.at} bytes: another one begins there"
                )
                yield from self._cut(form, error.at, DamagedImage(why))
            else:
                yield from self._failed(DamagedImage(f"{error}: the next one is looked for"))
                window.drop(error.at)
                self._search()
        except LimitExceeded as error:
            yield from self._failed(error)
            # What was walked through is not walked through again.
            self._skip(max(1, window.asked - START_BYTES))
            self._passed = -_PASSED_LIMITS * self._max_bytes
            self._search()
        except EOFError:
            length = len(window.data)
            why = f"the stream ends within this {form.name}, after {length} bytes of it"
            yield from self._cut(form, length, DamagedImage(f"{why}: the rest is missing"))
            if form.name == "TIFF":
                why = f"where this TIFF ends is not told: all {length} bytes are taken for it"
                yield Found(self._number, warning=why)
        else:
            if form.name == "JPEG" and length <= self._parts.get(window.position, 0):
                window.drop(length)
            elif self._is_of_damaged(length):
                why = f"{length} bytes of {form.name} within the damaged picture are left out"
                yield Found(self._number, warning=f"{why}: they may be its thumbnail")
                window.drop(length)
            else:
                yield self._whole(form, length)
        self._part_bytes = None

    def _length(self, form: Format) -> int:
        """Find out how long the picture at hand is; raises what `Window.need` does, and Broken."""
        window = self._window
        if self._part_bytes and not form.end:
            window.begin()
            window.need(self._part_bytes)
            return self._part_bytes
        window.begin(form.again(bytes(window.data[:32])) if form.again else None)
        if form.end:
            return form.end(window)
        try:
            while True:
                window.need(len(window.data) + 1)
        except Begins as error:
            return error.at
        except EOFError:
            return len(window.data)

    def _is_of_damaged(self, length: int) -> bool:
        """Whether a picture lies close behind damage and is followed by no start of another one."""
        window = self._window
        if window.position + length > self._damage_end:
            return False
        window.more(length + 2 * START_BYTES)
        rest = bytes(window.data[length : length + 2 * START_BYTES])
        rest = re.sub(rb"^[\0\s]*(\xff+(?=\xff))?", b"", rest)[:64]
        return bool(rest) and not format_at(rest) and not _LEADS_TO_PICTURES.match(rest)

    def _whole(self, form: Format, length: int) -> Found:
        """Give out a picture."""
        window = self._window
        self._number += 1
        self._silent, self._last, self._passed = False, form.name, 0
        if form.name == "JPEG":
            parts = jpeg.parts(window, length)
            self._parts = {window.position + at: size for at, size in parts}
        data = window.take(length)
        if form.name != _FRAME or not self._film:
            return Found(self._number, data)
        del data[: length - self._film.frame_bytes]
        return Found(self._number, data, self._film)

    def _cut(self, form: Format, length: int, problem: TacError) -> Iterator[Found]:
        """Report a picture that is cut off.

        Of a JPEG only the end marker may be missing, and of a TIFF what nobody reads.
        """
        for found in self._failed(problem):
            data = self._window.take(length) if form.name in ("JPEG", "TIFF") else b""
            yield Found(found.number, data, problem=problem)
            length -= len(data)
        self._window.drop(length)

    def _failed(self, problem: TacError) -> Iterator[Found]:
        """Report what begins here, but not crumbs of what was reported already."""
        position = self._window.position
        crumb = self._silent and position < self._failed_at + _CRUMB_BYTES
        self._failed_at, self._silent = position, True
        if not crumb:
            self._number += 1
            yield Found(self._number, problem=problem.with_traceback(None))

    # --- What lies between pictures ---

    def _film_header(self) -> Iterator[Found]:
        """Read the line that begins a film."""
        window = self._window
        window.begin()
        self._film = None
        try:
            end = window.line(y4m.LINE_BYTES)
            self._film = y4m.parse(bytes(window.data[:end]).rstrip(b"\r\n"))
            self._silent, self._last = False, ""
            window.drop(end)
        except (Broken, EOFError, TacError) as error:  # then nobody knows how long the frames are
            endless = DamagedImage("the YUV4MPEG2 header does not end: send the film again")
            yield from self._failed(error if isinstance(error, TacError) else endless)
            window.drop(1)
            self._search()

    def _lines(self) -> Iterator[Found]:
        """Pass over the lines before a part of multipart: boundary and header."""
        window, at, line = self._window, 0, None
        while not line or line[0].strip():
            line = _LINE.match(window.data, at, at + _HEADER_BYTES)
            if line:
                at = line.end()
            elif _NO_TEXT.search(window.data, at, at + _HEADER_BYTES):
                break  # a picture without the blank line before it
            elif len(window.data) < at + _HEADER_BYTES and not window.more(len(window.data) + 1):
                at = len(window.data)
                break
            if at > _HEADER_BYTES or (not line and len(window.data) >= at + _HEADER_BYTES):
                why = f"the header before this picture has more than {_HEADER_BYTES} bytes"
                yield from self._failed(DamagedImage(f"{why}: the next one is looked for"))
                window.drop(2)
                self._search()
                return
        if not at:
            yield from self._stranger()
            return
        lines = bytes(window.data[:at])
        if _CHUNKED.search(lines):
            why = "this is HTTP in chunks, with their lengths between the bytes of the pictures"
            raise _GivenUp(UnsupportedImage(f"{why}: have curl, without --raw, take them out"))
        told = _LENGTH.search(lines)
        self._part_bytes = int(told[1]) if told else None
        self._pass(at)

    def _stranger(self) -> Iterator[Found]:
        """Say what stands where a picture should, and pass over it."""
        window = self._window
        window.more(HEAD_BYTES)
        start = _START.search(window.data, 1, HEAD_BYTES)
        head = bytes(window.data[: start.start() if start else HEAD_BYTES])
        problem, known = _named(head)
        begun, notes = window.position, head.strip(_PADDING)
        if known and not self._number:
            self._nothing = problem
            if known not in _BEFORE:  # all of the stream is something else
                raise _GivenUp(problem)
            self._search()
            if window.data and notes:
                why = f"the {window.position - begun} bytes before the first picture are left out"
                yield Found(0, warning=why)
            return
        film, damaged = head[4:8] == b"ftyp", head.startswith(b"\xff\xd8")  # a JPEG, once
        trailer = self._last in ("JPEG", "TIFF") and (film or not (known or damaged))
        report = notes and not self._silent
        if report and not trailer:
            yield from self._failed(problem)
        if self._part_bytes and self._part_bytes <= self._max_bytes:
            self._skip(self._part_bytes)
            self._part_bytes = None
            return
        while film and window.more(16):
            size = isobmff.film_box(bytes(window.data[:16]))
            if not 0 < size <= self._max_bytes:
                break
            self._skip(size)
        if window.position > begun:
            self._silent = True  # notes behind a film belong to it
            return
        window.drop(1)
        tail = self._search()
        usual = tail == b"SEFT" or window.data[4:8] == b"ftyp"  # Samsung's notes, or before a film
        if report and trailer and not usual:
            why = f"{window.position - begun} bytes behind this {self._last}"
            if _SEGMENTS.match(head):
                why += " are segments of a JPEG: it is damaged, or this was its thumbnail"
                yield Found(self._number, problem=DamagedImage(why))
            else:
                why = f"the {why} are no picture, nor listed in it: left out"
                yield Found(self._number, warning=why)


_FRAME = "YUV4MPEG2 frame"


def _frames_of(film: y4m.Header) -> Format:
    """Frames as if each were a file: a line, and as many bytes as the film's header says."""

    def end(window: Window) -> int:
        length = window.line(y4m.LINE_BYTES) + film.frame_bytes
        window.need(length)
        return length

    return Format(_FRAME, b"", "", "", "", end, lambda head: re.escape(y4m.MAGIC) + rb"|FRAME\n")


_SEGMENTS = re.compile(  # of a JPEG: some at the start, and tables or a frame's header behind notes
    rb"\xff[\xc0-\xd7\xda-\xef\xfe]|.*\xff(?:\xdb\0[\x43\x84]|[\xc0-\xc2]\0[\x0b\x11]\x08)",
    re.DOTALL,
)
_BEFORE = ("text", "nothing but zero bytes")  # what may stand before the first picture
_LEADS_TO_PICTURES = re.compile(rb"--|HTTP/|.{4}ftyp|%b " % y4m.MAGIC, re.DOTALL)


def _named(head: bytes) -> tuple[UnsupportedImage, str | None]:
    """The error for what is no picture, and what it is instead, if that is known."""
    try:
        find_format(head)
    except UnsupportedImage as error:
        return error, kind_of(head)
    why = "a picture was expected, and this is the start of one, cut"
    return UnsupportedImage(why), "a cut picture"
