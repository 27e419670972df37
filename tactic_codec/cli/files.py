"""Files that a command reads and writes: inputs, and where results go, whole or not at all.

    IN…, --files-from ─ expand ─▶ Source…
    destination(IN…, OUT) ─ place(source) ─▶ path ─ write ─▶ temporary sibling ─ rename ─▶ path

What cannot be read travels on as an item that holds its error, so that it is reported in its turn
and the rest goes on. Refused are overwriting without leave, writing over the input, and two results
in one file. A result has the modification time and the permission bits of the file that it was made
from.
"""

import codecs
import errno
import io
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple

import click

from tactic_codec import atomic
from tactic_codec.cli.console import Console, is_terminal, refuse_terminal
from tactic_codec.container import MAGIC
from tactic_codec.errors import OutputExists, display

if TYPE_CHECKING:
    from tactic_codec.picture import Pixels

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
        if ".jpg" in suffixes:  # pictures are asked for
            from tactic_codec.picture import PACKAGES

            kinds = {kind.lower() for kind, count in passed.items() if count}
            for package in sorted({PACKAGES[kind] for kind in kinds & PACKAGES.keys()}):
                console.say(f"some of these are read with a package: pip install {package}")
    return found


def check_stdin() -> None:
    """Refuse to wait for what somebody types.

    Raises:
        click.UsageError: standard input is a terminal.
    """
    if is_terminal(sys.stdin):
        raise click.UsageError(
            "standard input is a terminal; name a file in place of '-', or send data with "
            "'< FILE' or 'COMMAND |'"
        )


def _expand(
    path: str, recursive: bool, suffixes: Sequence[str], passed: Counter[str]
) -> Iterator[Source]:
    if path == STDIN:
        yield Source(path, "stdin")
    elif ":/" in path and (problem := _address(path)):
        yield Source(path, "", problem)
    elif not os.path.isdir(path):
        yield Source(path, os.path.basename(path))
    elif not recursive:
        reason = "this is a folder; with -r the files below it are taken"
        yield Source(path, "", IsADirectoryError(errno.EISDIR, reason))
    else:
        yield from below(path, suffixes, passed)


def _address(path: str) -> OSError | None:
    """Return what is wrong with an address in place of a path."""
    from tactic_codec.picture import path_of

    try:
        path_of(path)
    except OSError as exc:
        return exc
    return None


def below(folder: str, suffixes: Sequence[str], passed: Counter[str]) -> Iterator[Source]:
    """Yield the files below a folder that have one of some suffixes; count the others.

    Where a part of it cannot be listed, or nothing is found, an item says why.
    """
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
            elif suffix.lower() not in suffixes:
                passed[suffix or _BARE] += 1
            elif is_special(path := os.path.join(where, name)):  # it may never begin, or end
                passed[_SPECIAL] += 1
            else:
                found = True
                yield Source(path, os.path.relpath(path, folder))
    for problem in problems:
        yield Source(os.fsdecode(problem.filename), "", problem)
    if not found and not problems:
        wanted = ", ".join(suffixes)
        problem = FileNotFoundError(errno.ENOENT, f"no file below this folder ends in {wanted}")
        yield Source(folder, "", problem)


_HIDDEN, _HIDDEN_FOLDER = "hidden file", "hidden folder"
_LINK, _BARE = "link to a folder", "file without a suffix"
_SPECIAL = "pipe or device"
_PLURALS = {
    _HIDDEN: "hidden files",
    _HIDDEN_FOLDER: "hidden folders",
    _LINK: "links to folders",
    _BARE: "files without a suffix",
    _SPECIAL: "pipes and devices",
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
        raise copy(source.problem)  # what is raised holds all that saw it, the source too
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


def picture(source: Source, max_pixels: int) -> "Pixels":
    """Read a picture from a file or from standard input; errors as `picture.load`."""
    from tactic_codec import picture as image

    if not source.is_stdin:
        return image.load(Path(source.path), max_pixels=max_pixels)
    with opened(source) as stream:
        return image.load(stream, max_pixels=max_pixels)


# --- Outputs ---

STDOUT = "-"


class UpToDate(Exception):
    """With --skip-existing: the result is there, and it is not older than its input."""


class Asked(NamedTuple):
    """What a command line says of inputs and outputs.

    Attributes:
        paths: ``IN… [OUT]``.
        listed: names of inputs that --files-from gives; None without it.
        output: OUT, where -o gives it.
        force: whether files may be overwritten.
        skip: whether results that are up to date are left alone.
    """

    paths: Sequence[str]
    listed: Sequence[str] | None
    output: str | None
    force: bool
    skip: bool


@dataclass(frozen=True)
class Destination:
    """Where the results of a command go.

    Attributes:
        kind: standard output, one file, or a folder that mirrors the inputs.
        path: of the file or folder.
        force: whether files may be overwritten.
        skip: whether results that are up to date are left alone.
        sync: whether each result is on the disk before `write` returns.
    """

    kind: Literal["stdout", "file", "folder"]
    path: str
    force: bool
    skip: bool = False
    sync: bool = False
    _claimed: dict[str, str] = field(default_factory=dict)
    _skipped: list[str] = field(default_factory=list)

    @property
    def is_special(self) -> bool:
        """Whether it is a device or a pipe, which has no suffix that means anything."""
        return self.kind == "file" and is_special(self.path)

    def place(self, source: Source, name: str) -> str | None:
        """Return the path for a result, or None for standard output; nothing is written yet.

        Args:
            name: of the result below the folder, if this is one.

        Raises:
            UpToDate: there is nothing to do.
            OutputExists: it is there already, is the input, or is another input's result.
            OSError: its folder is not there.
        """
        if self.kind == "stdout":
            return None
        path = self.path if self.kind == "file" else os.path.join(self.path, name)
        other = self._claimed.setdefault(path, source.title)
        if other != source.title:
            raise OutputExists(
                f"its result would overwrite that of {other}, {display(path)}; use two folders"
            )
        if self.kind == "file":
            folder = os.path.dirname(path) or os.curdir
            if not os.path.isdir(folder):
                raise FileNotFoundError(errno.ENOENT, "there is no such folder", folder)
        self._check_free(path, source)
        return path

    def write(
        self,
        path: str | None,
        data: bytes | Iterable[bytes],
        like: os.stat_result | None = None,
    ) -> bytes:
        """Write a result, making the folders above it where the destination is a folder.

        Args:
            path: as `place` returned it.
            data: the result, or its pieces.
            like: facts of the file that it was made from, from before that was read.

        Returns:
            What is for standard output. Results wait for their turn; those on disk need not.

        Raises:
            OutputExists: the file has appeared meanwhile.
            OSError: it cannot be written; nothing is left of it.
        """
        if path is None:
            return data if isinstance(data, bytes) else b"".join(data)
        if not isinstance(data, bytes):  # what cannot be written shows before a folder is made
            pieces = iter(data)
            data = chain(list(islice(pieces, 1)), pieces)
        if self.kind == "folder":
            os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            write(path, data, force=self.force, like=like, sync=self.sync)
        except OutputExists:  # unless another process does the same, and was faster
            if not (self.skip and like and _is_current(os.stat(path), like)):
                raise
        return b""

    def forget(self) -> None:
        """Forget which input made which result; the inputs are about to come again."""
        self._claimed.clear()
        self._skipped.clear()

    def tell(self, console: Console) -> None:
        """Say how many results were left alone."""
        if self._skipped:
            console.say(f"skipped, because they are up to date: {len(self._skipped)}")

    def _check_free(self, path: str, source: Source) -> None:
        if not os.path.exists(path) or is_special(path):
            return
        given = not source.is_stdin and os.path.exists(source.path)
        if given and os.path.samefile(path, source.path):
            raise OutputExists("input and output are the same file; choose another name")
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, "a folder stands where the output goes", path)
        found = source.stat() if self.skip else None
        current = found is not None and _is_current(os.stat(path), found)
        if current:
            self._skipped.append(path)
            raise UpToDate
        if not self.force:
            raise existing(path, " and is older than its input" if found else "")


NOWHERE = Destination("stdout", STDOUT, False)
"""Where results go that are only printed."""


def _is_current(output: os.stat_result, source: os.stat_result) -> bool:
    """Whether an output is not older than its source."""
    # A disk may keep times in whole seconds, and FAT in even ones, rounded down.
    rounded = (source.st_mtime_ns // grain * grain for grain in (10**9, 2 * 10**9))
    return output.st_mtime_ns >= source.st_mtime_ns or output.st_mtime_ns in rounded


def destination(
    asked: Asked, suffix: str, ends: Sequence[str], *, beside: bool = True, as_json: bool
) -> tuple[Sequence[str], Destination]:
    """Return the inputs, and where their results go. What OUT is, is decided as ``cp`` does.

    It is a folder if it is there and is one, if it ends in a slash, or if there are several inputs,
    a list of them, or a folder among them; otherwise it is a file. Where no OUT is given, standard
    input goes to standard output, and with ``beside`` a file's result goes beside it.

    Args:
        suffix: of results.
        ends: suffixes that are of inputs, and never of OUT.
        beside: whether OUT may be left out.
        as_json: whether facts are printed on standard output.

    Raises:
        click.UsageError: no input; no OUT where one is needed; OUT is a file and must be a folder,
            has an input's suffix, is a terminal, or is standard output and facts go there, too.
    """
    paths, out = list(asked.paths), asked.output
    if out is None and (len(paths) > 1 or (paths and asked.listed is not None)):
        out = paths.pop()
    inputs = [*paths, *(asked.listed or ())]
    if not inputs and asked.listed is None:
        raise click.UsageError("there is no input; name a file, a folder, or '-'")
    several = len(inputs) != 1 or asked.listed is not None or os.path.isdir(inputs[0])
    if out is None and not several and beside:
        if inputs[0] != STDIN:
            path = Source(inputs[0], inputs[0]).stem(ends) + suffix
            return inputs, Destination("file", path, asked.force, asked.skip)
        out = STDOUT
    if out is None:
        needed = "a folder" if several else "a file, a folder or '-'"
        raise click.UsageError(f"there is no output; name {needed} behind the input, or with -o")
    if out == STDOUT:
        refuse_terminal()
        if as_json:
            raise click.UsageError("--json and the output '-' would share standard output")
        return inputs, Destination("stdout", out, asked.force)
    if len(inputs) > 1 and out.lower().endswith(suffix) and not os.path.exists(out):
        # A forgotten -o: the last of several inputs, or a file that is still to be made.
        raise click.UsageError(
            f"the output would be a folder {display(out)!r}, which is a file's name; several "
            "inputs go to a folder: -o OUT/"
        )
    return inputs, _named(out, several, suffix, ends, asked)


def _named(out: str, several: bool, suffix: str, ends: Sequence[str], asked: Asked) -> Destination:
    ends_as_folder = out.endswith(os.sep) or (os.altsep is not None and out.endswith(os.altsep))
    if os.path.isdir(out) or ends_as_folder:
        kind: Literal["file", "folder"] = "folder"
    elif os.path.splitext(out)[1].lower() in ends or _is_foreign(out, suffix):
        # A pattern such as *.jpg or IMG_1.* without an output: its last match is an input.
        raise click.UsageError(
            f"the output would be {display(out)!r}, which looks like an input; name an "
            f"output that ends in {suffix}, or a folder for several inputs: -o OUT/"
        )
    else:
        kind = "folder" if several else "file"
    if kind == "folder" and os.path.exists(out) and not os.path.isdir(out):
        raise click.UsageError(f"the output {display(out)!r} is a file; a folder is needed here")
    return Destination(kind, out, asked.force, asked.skip)


def _is_foreign(path: str, suffix: str) -> bool:
    """Whether a file holds what no command that writes .tac files can have put there."""
    if suffix != TAC or path.lower().endswith(TAC) or not os.path.isfile(path):
        return False
    with suppress(OSError), open(path, "rb") as stream:
        return stream.read(len(MAGIC)) not in (b"", MAGIC)
    return False


def write(
    path: str,
    data: bytes | Iterable[bytes],
    *,
    force: bool,
    like: os.stat_result | None = None,
    sync: bool = False,
) -> None:
    """Write a file whole or not at all; devices and pipes are written to directly.

    Args:
        path: of the file.
        data: all of it, or piece by piece.
        force: whether it may be overwritten.
        like: facts of another file, whose modification time and permission bits it gets.
        sync: whether it is on the disk when this returns.

    Raises:
        OutputExists: it is there and ``force`` is false.
        OSError: it cannot be written; the error names ``path``, and nothing is left of it.
    """
    try:
        atomic.write(path, data, force=force, like=like, sync=sync)
    except FileExistsError as exc:
        raise existing(exc.filename) from None


def is_special(path: str) -> bool:
    """Whether a path is a device, a pipe or a socket, such as /dev/null."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def existing(path: str, more: str = "") -> OutputExists:
    """Return the error of an output that is there, and of which there is ``more`` to say."""
    return OutputExists(
        f"{display(path)} exists{more}; choose another name, or overwrite it with -f"
    )
