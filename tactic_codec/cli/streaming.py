"""``tactic compress`` of streams: each picture becomes a frame as soon as its last byte has come.

    stream ─ a thread that finds pictures ─ one that waits ─ code ─▶ Sink

While a picture waits, nothing is read, so that the pipe fills and the camera is held up; with
``--drop`` reading goes on, and a newer picture takes the place of the one that waits.

SIGINT, SIGTERM and SIGHUP end the stream behind the picture that is being coded; a second one ends
it at once. Frames that are complete stay in either case.
"""

import os
import re
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, BinaryIO

from tactic_codec.cli import files
from tactic_codec.cli.console import Console, OutputClosed, ending_signals
from tactic_codec.cli.files import TAC, Destination, Source
from tactic_codec.errors import OutputExists
from tactic_codec.picture.streams import Found, max_bytes, pictures

_WAITING = 16  # reports that wait; of pictures one does
_LOOK = 0.5
"""Seconds after which a signal is looked for: one that comes between a look and the wait behind it
wakes nobody."""


class UntilSignal:
    """What goes on until SIGINT, SIGTERM or SIGHUP ends it, behind the picture being coded."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._changed = threading.Condition()
        self._signal = 0

    @contextmanager
    def ended_by_signals(self) -> Iterator[None]:
        """Let signals end it; afterwards the command ends as they ask for."""

        def stop(number: int, frame: FrameType | None) -> None:
            signal.signal(number, before[number])
            with self._changed:
                self._signal = number
                self._changed.notify_all()

        before = dict[int, Any]()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *ending_signals()):
                # Whoever started this in the background may have it ignore SIGINT.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    before[number] = signal.signal(number, stop)
        try:
            yield
        finally:
            for which, handler in before.items():
                signal.signal(which, handler)
            self._tell()
        if self._signal:
            signal.raise_signal(self._signal)

    def _tell(self) -> None:
        """Say at the end what was left out."""


class Streams(UntilSignal):
    """The streams of one command, read one after the other."""

    def __init__(self, console: Console, *, drop: bool, limit: int | None) -> None:
        """Read nothing yet.

        Args:
            console: is told of what is passed over in a stream.
            drop: whether pictures may be left out for newer ones.
            limit: of pixels, which sets one of bytes.
        """
        super().__init__(console)
        self._drop, self._max_bytes = drop, max_bytes(limit)
        self._dropped = 0

    def pictures(self, source: Source) -> Iterator[tuple[Found, int]]:
        """Read a stream; there is at least one item, unless a signal ends it.

        Yields:
            A picture, or the error or warning in its place, and how many before it were left out.

        Raises:
            OSError: it cannot be opened or read.
        """
        inbox = deque[Found | BaseException | None]()
        before = self._dropped  # while nobody reads
        if not self._signal:
            arguments = (source, inbox)
            threading.Thread(target=self._read, args=arguments, daemon=True).start()
        while True:
            with self._changed:
                while not self._changed.wait_for(lambda: inbox or self._signal, _LOOK):
                    pass
                found = None if self._signal else inbox.popleft()
                dropped, before = self._dropped - before, self._dropped
                self._changed.notify_all()
            if found is None:
                return
            if isinstance(found, BaseException):
                raise found
            if self._dropped:
                self._console.status(f"{self._dropped} pictures left out so far")
            yield found, dropped

    def _read(self, source: Source, inbox: deque[Found | BaseException | None]) -> None:
        """Fill the inbox; runs in a thread of its own."""

        def put(found: Found | BaseException | None) -> None:
            with self._changed:
                if self._drop and inbox and _is_picture(inbox[-1]) and _is_picture(found):
                    inbox.pop()
                    self._dropped += 1
                room = _WAITING if self._drop else 1
                self._changed.wait_for(lambda: len(inbox) < room or self._signal)
                inbox.append(found)
                self._changed.notify_all()

        try:
            with files.opened(source) as stream:
                for found in pictures(stream, max_bytes=self._max_bytes):
                    put(found)
                    if self._signal:
                        return
        except BaseException as exc:  # whoever reads the inbox raises it
            put(exc)
        else:
            put(None)

    def _tell(self) -> None:
        if self._dropped:
            why = "they came faster than they were coded"
            self._console.say(f"tactic: {self._dropped} pictures were left out: {why}")


def _is_picture(found: Found | BaseException | None) -> bool:
    return isinstance(found, Found) and bool(found.data)


# --- Where frames go ------------------------------------------------------------------------------


class Sink:
    """Where the frames of a stream go: each is on the disk before the next one is written.

    In a folder they become NAME-000001.tac and so on, behind those that are there already. In a
    file the first one is written as any result is, the others are added to it as they come.

    Raises:
        OutputExists, OSError: as `Destination.place`.
    """

    def __init__(self, destination: Destination, source: Source, stem: str) -> None:
        self._destination = destination
        self._path: str | None = None
        self._special: BinaryIO | None = None
        self._put: Callable[[str, bytes], str] = self._first
        if destination.kind == "folder":
            self._path = os.path.join(destination.path, stem)
            self._number = _last_number(self._path)
            self._put = self._numbered
        else:
            self._path = destination.place(source, stem + TAC)

    def put(self, frame: bytes) -> str | None:
        """Write a frame; return the path of its file, None for standard output.

        Raises:
            OSError: it cannot be written; of the frames before it nothing is lost.
            OutputClosed: whoever read it has gone.
        """
        return self._put(self._path, frame) if self._path else None

    def _numbered(self, stem: str, frame: bytes) -> str:
        os.makedirs(os.path.dirname(stem), exist_ok=True)
        while True:
            self._number += 1
            path = f"{stem}-{self._number:06}{TAC}"
            try:
                files.write(path, frame, force=False, sync=True)
            except OutputExists:  # another process writes here, too
                continue
            return path

    def _first(self, path: str, frame: bytes) -> str:
        if self._destination.is_special:
            self._special = open(path, "wb", buffering=0)  # noqa: SIM115
            self._put = self._to_special
            return self._to_special(path, frame)
        files.write(path, frame, force=self._destination.force, sync=True)
        self._put = self._next
        return path

    def _next(self, path: str, frame: bytes) -> str:
        with open(path, "ab", buffering=0) as stream:
            size = stream.seek(0, os.SEEK_END)
            try:
                _write_all(stream, frame)
                os.fsync(stream.fileno())
            except BaseException as exc:
                stream.truncate(size)  # no half a frame stays
                if isinstance(exc, OSError):
                    raise OSError(exc.errno, exc.strerror, path) from exc
                raise
        return path

    def _to_special(self, path: str, frame: bytes) -> str:
        assert self._special
        try:
            _write_all(self._special, frame)
        except BrokenPipeError as exc:
            raise OutputClosed from exc
        return path


def _write_all(stream: BinaryIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]


def _last_number(path: str) -> int:
    """The highest number that files called ``path``-NUMBER.tac have; 0 where there is none."""
    folder, name = os.path.split(path)
    form = re.compile(re.escape(name) + r"-(\d{6,18})" + re.escape(TAC))
    try:
        names = os.listdir(folder or os.curdir)
    except OSError:  # said when the first frame is written
        return 0
    return max((int(found[1]) for name in names if (found := form.fullmatch(name))), default=0)
