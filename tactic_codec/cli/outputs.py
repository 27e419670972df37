"""Outputs: where a result goes, and how it gets there whole or not at all.

    destination(IN…, OUT) ─ place(source) ─▶ path ─ write ─▶ temporary sibling ─ rename ─▶ path

Refused: overwriting without leave, writing over the input, two results in one file. A result has
the modification time and the permission bits of the file that it was made from.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import click

from tactic_codec import atomic
from tactic_codec.cli import console
from tactic_codec.cli.console import Console, display
from tactic_codec.cli.files import STDIN, TAC, Source
from tactic_codec.container import MAGIC
from tactic_codec.errors import OutputExists

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
    """

    kind: Literal["stdout", "file", "folder"]
    path: str
    force: bool
    skip: bool = False
    _claimed: dict[str, str] = field(default_factory=dict)
    _skipped: list[str] = field(default_factory=list)

    @property
    def is_special(self) -> bool:
        """Whether it is a device or a pipe, which has no suffix that means anything."""
        return self.kind == "file" and _is_special(self.path)

    def place(self, source: Source, name: str) -> str | None:
        """Return the path for a result, or None for standard output; nothing is written yet.

        Args:
            source: the input.
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

    def write(self, path: str | None, data: bytes, like: os.stat_result | None = None) -> bytes:
        """Write a result, making the folders above it where the destination is a folder.

        Args:
            path: as `place` returned it.
            data: the result.
            like: facts of the file that it was made from, from before that was read.

        Returns:
            What is for standard output. Results wait for their turn; those on disk need not.

        Raises:
            OutputExists: the file has appeared meanwhile.
            OSError: it cannot be written; nothing is left of it.
        """
        if path is None:
            return data
        if self.kind == "folder":
            os.makedirs(os.path.dirname(path), exist_ok=True)
        write(path, data, force=self.force, like=like)
        return b""

    def tell(self, console: Console) -> None:
        """Say how many results were left alone."""
        if self._skipped:
            console.say(f"skipped, because they are up to date: {len(self._skipped)}")

    def _check_free(self, path: str, source: Source) -> None:
        if not os.path.exists(path) or _is_special(path):
            return
        if _same_file(path, source):
            raise OutputExists("input and output are the same file; choose another name")
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, "a folder stands where the output goes", path)
        found = source.stat() if self.skip else None
        current = found is not None and _is_current(os.stat(path), found)
        if current:
            self._skipped.append(path)
            raise UpToDate
        if not self.force:
            raise _exists(path, " and is older than its input" if found else "")


def _is_current(output: os.stat_result, source: os.stat_result) -> bool:
    """Whether an output is not older than its source."""
    # A disk may keep times in whole seconds, and FAT in even ones, rounded down.
    rounded = (source.st_mtime_ns // grain * grain for grain in (10**9, 2 * 10**9))
    return output.st_mtime_ns >= source.st_mtime_ns or output.st_mtime_ns in rounded


def destination(
    asked: Asked, *, suffix: str, inputs_end_in: Sequence[str], beside: bool, as_json: bool
) -> tuple[Sequence[str], Destination]:
    """Return the inputs, and where their results go. What OUT is, is decided as ``cp`` does.

    It is a folder if it is there and is one, if it ends in a slash, or if there are several inputs,
    a list of them, or a folder among them; otherwise it is a file. Where no OUT is given, standard
    input goes to standard output, and with ``beside`` a file's result goes beside it.

    Args:
        asked: the command line.
        suffix: of results.
        inputs_end_in: suffixes that are of inputs, and never of OUT.
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
            path = Source(inputs[0], inputs[0]).stem(inputs_end_in) + suffix
            return inputs, Destination("file", path, asked.force, asked.skip)
        out = STDOUT
    if out is None:
        needed = "a folder" if several else "a file, a folder or '-'"
        raise click.UsageError(f"there is no output; name {needed} behind the input, or with -o")
    if out == STDOUT:
        console.refuse_terminal()
        if as_json:
            raise click.UsageError("--json and the output '-' would share standard output")
        return inputs, Destination("stdout", out, asked.force)
    return inputs, _named(out, several, suffix, inputs_end_in, asked)


def _named(
    out: str, several: bool, suffix: str, inputs_end_in: Sequence[str], asked: Asked
) -> Destination:
    ends_as_folder = out.endswith(os.sep) or (os.altsep is not None and out.endswith(os.altsep))
    if os.path.isdir(out) or ends_as_folder:
        kind: Literal["file", "folder"] = "folder"
    elif os.path.splitext(out)[1].lower() in inputs_end_in or _is_foreign(out, suffix):
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
    with contextlib.suppress(OSError), open(path, "rb") as stream:
        return stream.read(len(MAGIC)) not in (b"", MAGIC)
    return False


def write(path: str, data: bytes, *, force: bool, like: os.stat_result | None = None) -> None:
    """Write a file whole or not at all; devices and pipes are written to directly.

    Args:
        path: of the file.
        data: all of it.
        force: whether it may be overwritten.
        like: facts of another file, whose modification time and permission bits it gets.

    Raises:
        OutputExists: it is there and ``force`` is false.
        OSError: it cannot be written; the error names ``path``, and nothing is left of it.
    """
    try:
        atomic.write(path, data, force=force, like=like)
    except FileExistsError as exc:
        raise _exists(exc.filename) from None


def _same_file(path: str, source: Source) -> bool:
    return (
        not source.is_stdin and os.path.exists(source.path) and os.path.samefile(path, source.path)
    )


def _is_special(path: str) -> bool:
    """Whether a path is a device, a pipe or a socket, such as /dev/null."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _exists(path: str, more: str = "") -> OutputExists:
    return OutputExists(
        f"{display(path)} exists{more}; choose another name, or overwrite it with -f"
    )
