"""What is held of a file or stream while its format is followed to its end.

The functions that follow a format, one file for each, take a window that begins with the picture.
They say how many bytes they need before they look at them, so that nothing behind the end of a
picture is waited for.
"""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO, TypeVar

from tactic_codec.errors import LimitExceeded

T = TypeVar("T")

START_BYTES = 80
"""What begins a picture has fewer."""

_PIECE_BYTES = 1 << 18


class Broken(Exception):
    """The bytes contradict their format.

    Attributes:
        at: from where the next picture may be looked for.
        own: how many bytes from there may still be the damaged picture's, such as its thumbnail.
    """

    def __init__(self, why: str, at: int, own: int = 1 << 16) -> None:
        super().__init__(why)
        self.at = at
        self.own = own


class Begins(Broken):
    """Another picture begins within this one."""

    def __init__(self, at: int, own: int = 0) -> None:
        super().__init__("", at, own)


class Window:
    """The bytes that were read and not yet given out.

    Attributes:
        data: these bytes; the first one begins what is looked at.
        position: of the first one, in the stream.
        asked: the most that was needed since `begin`.
    """

    def __init__(self, stream: BinaryIO, max_bytes: int | None = None) -> None:
        self._read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
        self._max_bytes = max_bytes
        self.data = bytearray()
        self.position = 0
        self.begin()

    def begin(self, next_one: bytes | None = None) -> None:
        """Say what begins the next picture for certain where it comes within this one."""
        self._next = re.compile(next_one, re.DOTALL) if next_one else None
        self._searched = 1
        self.asked = 0

    def more(self, count: int) -> bool:
        """Read until so many bytes are held; false if the stream ends before."""
        while len(self.data) < count:
            piece = self._read(_PIECE_BYTES)
            if not piece:
                return False
            self.data += piece
        return True

    def need(self, count: int) -> None:
        """Read until so many bytes are held.

        Raises:
            Begins: another picture begins among them; called again, it goes on behind that.
            LimitExceeded: these are more than a picture may have.
            EOFError: the stream ends before.
        """
        if self._max_bytes is not None and count > self._max_bytes:
            raise LimitExceeded(
                f"this picture has more than {self._max_bytes} bytes: send a smaller one, or raise "
                "the limit with --max-pixels"
            )
        self.asked = max(self.asked, count)
        while True:
            if self._next:
                if found := self._next.search(self.data, self._searched, count):
                    self._searched = found.start() + 1
                    raise Begins(found.start())
                reached = min(count, len(self.data)) - START_BYTES
                self._searched = max(self._searched, reached)
            if len(self.data) >= count:
                return
            if not self.more(len(self.data) + 1):
                raise EOFError

    def line(self, limit: int) -> int:
        """Return where the first line ends; Broken if it has ``limit`` bytes."""
        while not (end := self.data.find(b"\n", 0, limit) + 1):
            if len(self.data) >= limit:
                raise Broken(f"a line of its header has more than {limit} bytes", 2)
            self.need(len(self.data) + 1)
        return end

    def drop(self, count: int) -> None:
        """Leave bytes out that are held."""
        del self.data[:count]
        self.position += count

    def take(self, count: int) -> bytearray:
        """Take bytes out; what is copied is the shorter of them and of what stays."""
        if count <= len(self.data) // 2:
            data = self.data[:count]
            self.drop(count)
            return data
        data, self.data = self.data, self.data[count:]
        del data[count:]
        self.position += count
        return data


def as_far_as_whole(walk: Callable[[Window], Iterator[T]], data: bytes) -> Iterator[T]:
    """Follow a format as far as a file is neither cut nor damaged."""
    with suppress(EOFError, Broken):
        yield from walk(Window(io.BytesIO(data)))
