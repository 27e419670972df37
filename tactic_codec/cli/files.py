"""Inputs: files, folders, lists, standard input, and the frames in them.

    IN…, --files-from ─ expand ─▶ Source… ─ frames ─▶ FrameItem…

What cannot be read travels on as an item that holds its error, so that it is reported in its turn
and the rest goes on.
"""

import codecs
import errno
import io
import os
import shlex
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from tactic_codec.cli.console import Console, display
from tactic_codec.container import Frame, StreamBudget, read_frame
from tactic_codec.errors import (
    ChecksumMismatch,
    FormatError,
    LimitExceeded,
    NotATacFile,
    TacError,
    Truncated,
    UnknownSection,
)

if TYPE_CHECKING:
    from tactic_codec.picture import Colour, Pixels

STDIN = "-"
TAC = ".tac"
FRAMES = (TAC,)


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One input; a file that is named twice is two.

    Attributes:
        path: of the file, as it was given or found; ``-`` for standard input.
        relative: where it lies below the folder that was given, or its bare name.
        problem: why it cannot be read, where that is known already.
    """

    path: str
    relative: str
    problem: OSError | None = None

    @property
    def is_stdin(self) -> bool:
        """Whether it is standard input."""
        return self.path == STDIN

    @property
    def title(self) -> str:
        """Its name in messages."""
        return "standard input" if self.is_stdin else display(self.path)

    def stem(self, suffixes: Sequence[str]) -> str:
        """Return ``relative`` without its suffix, if that is one of those given."""
        stem, suffix = os.path.splitext(self.relative)
        return stem if suffix.lower() in suffixes else self.relative

    def stat(self) -> os.stat_result | None:
        """Return the facts of a regular file, or None for all else."""
        with suppress(OSError):  # reported when its turn comes
            found = None if self.is_stdin else os.stat(self.path)
            return found if found and stat.S_ISREG(found.st_mode) else None
        return None


def names_from(path: str, *, null: bool) -> list[str]:
    """Read the names of a list: one a line, or with a zero byte behind each.

    Raises:
        click.UsageError: the list is a terminal, or its names end otherwise.
        click.BadParameter: it cannot be read.
    """
    name = "on standard input" if path == STDIN else repr(display(path))
    try:
        if path == STDIN:
            check_stdin()
        with opened(Source(path, path)) as stream:
            content = stream.read()
    except OSError as exc:
        raise click.BadParameter(
            f"the list {name} cannot be read: {exc.strerror}",
            param_hint="'--files-from'",
        ) from exc
    if b"\0" in content and not null:
        raise click.UsageError(
            f"the list {name} holds zero bytes; if its names end in them, as 'find -print0' writes "
            "them, use -0"
        )
    if null and b"\n" in content and b"\0" not in content:
        raise click.UsageError(
            f"the list {name} holds lines and no zero byte; for one name a line, leave out -0"
        )
    # A list may have been made on Windows. A name that ends so in earnest can be given with -0.
    text = content.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    lines = content.split(b"\0") if null else text.split(b"\n")
    return [os.fsdecode(line) for line in lines if line]


def expand(
    console: Console, paths: Sequence[str], *, recursive: bool, suffixes: Sequence[str]
) -> list[Source]:
    """List the inputs that the arguments of a command stand for, folders in sorted order.

    What folders hold and is not taken is counted, on a line for people.

    Args:
        console: of the command.
        paths: files, folders and ``-``.
        recursive: whether folders are allowed.
        suffixes: of the files to take from folders; hidden files are left alone.

    Raises:
        click.UsageError: standard input is named twice, or is a terminal.
    """
    if paths.count(STDIN) > 1:
        raise click.UsageError("standard input, '-', can be read only once")
    if STDIN in paths:
        check_stdin()
    passed = Counter[str]()
    found = [source for path in paths for source in _expand(path, recursive, suffixes, passed)]
    if passed.total():
        console.say(f"passed over: {_counted(passed)}")
    return found


def check_stdin() -> None:
    """Refuse to wait for what somebody types.

    Raises:
        click.UsageError: standard input is a terminal.
    """
    if sys.stdin is not None and sys.stdin.isatty():
        raise click.UsageError(
            "standard input is a terminal; name a file in place of '-', or send data with "
            "'< FILE' or 'COMMAND |'"
        )


def _expand(
    path: str, recursive: bool, suffixes: Sequence[str], passed: Counter[str]
) -> Iterator[Source]:
    if path == STDIN:
        yield Source(path, "stdin")
    elif problem := _address(path):
        yield Source(path, "", problem)
    elif not os.path.isdir(path):
        yield Source(path, os.path.basename(path))
    elif not recursive:
        reason = "this is a folder; with -r the files below it are taken"
        yield Source(path, "", IsADirectoryError(errno.EISDIR, reason))
    else:
        yield from _below(path, suffixes, passed)


def _address(path: str) -> OSError | None:
    """Return what is wrong with an address in place of a path."""
    if ":/" in path:
        from tactic_codec.picture import path_of

        try:
            path_of(path)
        except OSError as exc:
            return exc
    return None


def _below(folder: str, suffixes: Sequence[str], passed: Counter[str]) -> Iterator[Source]:
    problems: list[OSError] = []
    found = False
    for where, folders, names in os.walk(folder, onerror=problems.append):
        passed[_HIDDEN_FOLDER] += sum(name.startswith(".") for name in folders)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        passed[_LINK] += sum(os.path.islink(os.path.join(where, name)) for name in folders)
        for name in sorted(names):
            suffix = os.path.splitext(name)[1]
            if name.startswith("."):
                passed[_HIDDEN] += suffix.lower() in suffixes  # others are nobody's pictures
            elif suffix.lower() in suffixes:
                found = True
                path = os.path.join(where, name)
                yield Source(path, os.path.relpath(path, folder))
            else:
                passed[suffix or _BARE] += 1
    for problem in problems:
        yield Source(os.fsdecode(problem.filename), "", problem)
    if not found and not problems:
        wanted = ", ".join(suffixes)
        problem = FileNotFoundError(errno.ENOENT, f"no file below this folder ends in {wanted}")
        yield Source(folder, "", problem)


_HIDDEN, _HIDDEN_FOLDER = "hidden file", "hidden folder"
_LINK, _BARE = "link to a folder", "file without a suffix"
_PLURALS = {
    _HIDDEN: "hidden files",
    _HIDDEN_FOLDER: "hidden folders",
    _LINK: "links to folders",
    _BARE: "files without a suffix",
}
_NAMED = 12  # kinds on the line that counts what is passed over


def _counted(passed: Counter[str]) -> str:
    kinds = [(kind, count) for kind, count in passed.most_common() if count]
    kinds.sort(key=lambda kind: kind[0] in _PLURALS)  # stable: suffixes first, most files first
    texts = [f"{n} {kind if n == 1 else _PLURALS.get(kind, kind)}" for kind, n in kinds[:_NAMED]]
    others = sum(count for _, count in kinds[_NAMED:])
    return ", ".join([*texts, f"{others} others"] if others else texts)


def total_bytes(sources: Iterable[Source]) -> int | None:
    """Return the size of all inputs, or None where that is not known before they are read."""
    total = 0
    for source in sources:
        if source.is_stdin:
            return None
        with suppress(OSError):  # reported when its turn comes
            total += os.stat(source.path).st_size
    return total


@contextmanager
def opened(source: Source) -> Iterator[BinaryIO]:
    """Open an input for reading.

    Raises:
        OSError: it cannot be opened, or standard input is closed.
    """
    if source.problem:
        raise source.problem
    if source.is_stdin:
        if sys.stdin is None:
            raise OSError(errno.EBADF, "is closed")
        try:
            descriptor = os.dup(sys.stdin.fileno())
        except io.UnsupportedOperation:  # where Python has put something else in its place
            yield sys.stdin.buffer
            return
        # A reader of its own: a thread that waits in sys.stdin when Python ends would crash it.
        with open(descriptor, "rb") as stream:
            yield stream
    else:
        with open(source.path, "rb") as stream:
            yield stream


def picture(source: Source, max_pixels: int, background: "Colour" = (255, 255, 255)) -> "Pixels":
    """Read a picture from a file or from standard input; errors as `picture.load`."""
    from tactic_codec import picture as image

    if not source.is_stdin:
        return image.load(Path(source.path), max_pixels=max_pixels, background=background)
    with opened(source) as stream:
        return image.load(stream, max_pixels=max_pixels, background=background)


# --- Frames ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FrameItem:
    """A frame of an input, or what was found in its place.

    Attributes:
        source: the input.
        number: of the frame in it, from 1.
        several: whether the number tells anything: the input has others, or is a stream.
        found: the frame, or the error: of the frame, or of where its result goes.
        out: path of the result; None for standard output.
        like: facts of the input's file, from before it was read, for the result's.
    """

    source: Source
    number: int
    several: bool
    found: Frame | TacError | OSError
    out: str | None = None
    like: os.stat_result | None = None

    @property
    def title(self) -> str:
        """Its name in messages."""
        return f"{self.source.title}: frame {self.number}" if self.several else self.source.title

    @property
    def stem(self) -> str:
        """Its input's name below the folder that was given, without suffix, and its number."""
        return self.source.stem(FRAMES) + (f"-{self.number:04}" if self.several else "")

    @property
    def weight(self) -> int:
        """Its bytes."""
        return self.found.size if isinstance(self.found, Frame) else 0

    @property
    def frame(self) -> Frame:
        """The frame; raises the error where there is none."""
        if isinstance(self.found, Frame):
            return self.found
        raise self.found


def frames(sources: Iterable[Source], *, max_pixels: int | None) -> Iterator[FrameItem]:
    """Read the frames of all inputs, one behind the other.

    Behind a frame whose only fault is its checksum or an unknown section reading goes on; any other
    fault ends its input.

    Args:
        sources: the inputs.
        max_pixels: of a frame; by default its bytes and those of its input's frames together set
            the limits, see the container room.
    """
    for source in sources:
        yield from frames_of(source, max_pixels=max_pixels)


def frames_of(source: Source, *, max_pixels: int | None) -> Iterator[FrameItem]:
    """Read the frames of one input; there is at least one item."""
    found = _read(source, max_pixels)
    ahead = [next(found)]
    if source.is_stdin:
        # Looking further ahead would hold back the frames of a camera.
        several = isinstance(ahead[0], Frame | ChecksumMismatch | UnknownSection)
    else:
        ahead += islice(found, 1)
        several = len(ahead) > 1
    for number, item in enumerate(chain(ahead, found), start=1):
        yield FrameItem(source, number, several, item)


def _read(source: Source, max_pixels: int | None) -> Iterator[Frame | TacError | OSError]:
    empty = True
    budget = StreamBudget() if max_pixels is None else None
    try:
        with opened(source) as stream:
            # Without taking it: the bytes behind a frame are a camera's next ones.
            head = stream.peek(_HEAD_BYTES) if isinstance(stream, io.BufferedReader) else b""
            while True:
                try:
                    frame = read_frame(stream, max_pixels=max_pixels)
                except (ChecksumMismatch, UnknownSection) as exc:
                    empty = False
                    yield exc
                    continue
                except NotATacFile as exc:
                    raise _stranger(source, head, exc) if empty else exc from None
                if frame is None:
                    break
                empty = False
                if budget:
                    budget.spend(frame)
                yield frame
        if empty:
            yield Truncated("empty (0 bytes); a .tac frame was expected")
    except (FormatError, LimitExceeded, OSError) as exc:
        yield exc


_HEAD_BYTES = 256


def _stranger(source: Source, head: bytes, error: NotATacFile) -> NotATacFile:
    """Return the error that says what an input is instead, and how to go on with a picture."""
    from tactic_codec.picture import not_a_tac

    error = not_a_tac(head, error)
    if " picture" not in str(error):
        return error
    names = "- -" if source.is_stdin else shlex.quote(source.title)
    return NotATacFile(f'{error}; make one with "tactic compress {names}"')
