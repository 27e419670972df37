"""Outputs: where a result goes, and how it gets there whole or not at all.

    destination(IN…, OUT) ─ place(source) ─▶ path ─ write ─▶ temporary sibling ─ rename ─▶ path

Refused: overwriting without leave, writing over the input, two results in one file.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

import click

from tactic_codec.cli import console
from tactic_codec.cli.console import display
from tactic_codec.cli.files import Source
from tactic_codec.errors import OutputExists

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

STDOUT = "-"


@dataclass(frozen=True)
class Destination:
    """Where the results of a command go.

    Attributes:
        kind: standard output, one file, or a folder that mirrors the inputs.
        path: of the file or folder.
        force: whether files may be overwritten.
    """

    kind: Literal["stdout", "file", "folder"]
    path: str
    force: bool
    _claimed: dict[str, str] = field(default_factory=dict)

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

    def write(self, path: str, data: bytes) -> None:
        """Write a result, making the folders above it where the destination is a folder.

        Raises:
            OutputExists: the file has appeared meanwhile.
            OSError: it cannot be written; nothing is left of it.
        """
        if self.kind == "folder":
            os.makedirs(os.path.dirname(path), exist_ok=True)
        write(path, data, force=self.force)

    def _check_free(self, path: str, source: Source) -> None:
        if not os.path.exists(path) or _is_special(path):
            return
        if _same_file(path, source):
            raise OutputExists("input and output are the same file; choose another name")
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, "a folder stands where the output goes", path)
        if not self.force:
            raise _exists(path)


def split(paths: Sequence[str]) -> tuple[Sequence[str], str]:
    """Split the arguments ``IN… OUT``.

    Raises:
        click.UsageError: there is only one.
    """
    if len(paths) < 2:
        raise click.UsageError(
            f"an input and an output are needed, found only {display(paths[0])!r}; the output "
            "is a file, a folder or '-' for standard output"
        )
    return paths[:-1], paths[-1]


def destination(inputs: Sequence[str], out: str, *, force: bool, as_json: bool) -> Destination:
    """Decide what OUT is, as ``cp`` does.

    A folder if it is there and is one, if it ends in a slash, or if there are several inputs or a
    folder among them; otherwise a file.

    Raises:
        click.UsageError: a folder is needed and OUT is a file, or OUT is a terminal, or standard
            output, where ``as_json`` has facts printed.
    """
    if out == STDOUT:
        console.refuse_terminal()
        if as_json:
            raise click.UsageError("--json and the output '-' would share standard output")
        return Destination("stdout", out, force)
    ends_as_folder = out.endswith(os.sep) or (os.altsep is not None and out.endswith(os.altsep))
    many = len(inputs) > 1 or any(os.path.isdir(path) for path in inputs)
    if not (os.path.isdir(out) or ends_as_folder or many):
        return Destination("file", out, force)
    if os.path.exists(out) and not os.path.isdir(out):
        raise click.UsageError(f"the output {display(out)!r} is a file; a folder is needed here")
    return Destination("folder", out, force)


def write(path: str, data: bytes, *, force: bool) -> None:
    """Write a file whole or not at all; devices and pipes are written to directly.

    Raises:
        OutputExists: it is there and ``force`` is false.
        OSError: it cannot be written; the error names ``path``, and nothing is left of it.
    """
    try:
        if _is_special(path):
            with open(path, "wb") as stream:
                stream.write(data)
            return
        _write_whole(os.path.realpath(path), data, force)
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror or str(exc), path) from exc


def _write_whole(path: str, data: bytes, force: bool) -> None:
    folder = os.path.dirname(path)
    _remove_remains(folder)
    sibling, descriptor = _new_sibling(folder)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            if fcntl is None:
                stream.close()  # Windows renames no open file; elsewhere the lock is still needed
            if force:
                os.replace(sibling, path)
            else:
                _put_where_nothing_is(sibling, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(sibling)
        raise


def _new_sibling(folder: str) -> tuple[str, int]:
    """Create a temporary file; it is locked until it is closed, or until this process dies."""
    while True:
        sibling = os.path.join(folder, f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}")
        # os.open, not tempfile: the mode is what the umask leaves of 666, as of any new file.
        descriptor = os.open(sibling, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _O_BINARY, 0o666)
        # Before it is locked another process may take it for remains: then make another.
        if _is_locked(descriptor) and os.fstat(descriptor).st_nlink:
            return sibling, descriptor
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    """Lock a file for this process; false if another one holds it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _put_where_nothing_is(sibling: str, path: str) -> None:
    """Rename a file, but never over another, not even one that has just appeared."""
    try:
        os.link(sibling, path)
    except FileExistsError:
        raise _exists(path) from None
    except OSError:  # a file system without hard links: look, then rename
        if os.path.exists(path):
            raise _exists(path) from None
        os.replace(sibling, path)
    else:
        os.unlink(sibling)


@cache
def _remove_remains(folder: str) -> None:
    """Remove what killed runs left in a folder: temporary files that nobody holds locked."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX):
                with contextlib.suppress(OSError), open(entry.path, "rb") as stream:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(entry.path)


_PREFIX, _SUFFIX = ".tactic-", ".tmp"
_O_BINARY = getattr(os, "O_BINARY", 0)  # Windows only


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


def _exists(path: str) -> OutputExists:
    return OutputExists(f"{display(path)} exists; choose another name, or overwrite it with -f")
