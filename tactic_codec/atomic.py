"""Files that are written whole or not at all. Standard library only.

data ─▶ temporary sibling ─ rename ─▶ path
"""

import contextlib
import errno
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def write(
    path: str | Path,
    data: bytes | Iterable[bytes],
    *,
    force: bool = True,
    like: os.stat_result | None = None,
    sync: bool = False,
) -> None:
    """Write a file beside its place, then rename it there.

    Devices and pipes are written to: a rename would put a file in their place.

    Args:
        path: of the file.
        data: all of it, or piece by piece.
        force: whether what is there may be replaced.
        like: facts of another file, whose modification time and permission bits it gets.
        sync: whether it, and its name, are on the disk when this returns, so that a power cut
            costs neither.

    Raises:
        FileExistsError: it is there and ``force`` is false.
        OSError: it cannot be written; the error names ``path``, and nothing is left of it.
    """
    pieces = (data,) if isinstance(data, bytes) else data
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            whole = b"".join(pieces)
            with open(path, "wb") as stream:
                stream.write(whole)
        else:
            _write_whole(os.path.realpath(path), pieces, force, like, sync)
    except OSError as exc:  # may name the temporary sibling
        raise OSError(exc.errno, exc.strerror or str(exc), os.fspath(path)) from exc


def _write_whole(
    path: str, pieces: Iterable[bytes], force: bool, like: os.stat_result | None, sync: bool
) -> None:
    folder = os.path.dirname(path)
    _remove_remains(folder)
    sibling, descriptor = _new_sibling(folder)
    try:
        with open(descriptor, "wb") as stream:
            if like:  # before anybody could read what only the owner may
                with contextlib.suppress(OSError):  # some file systems keep neither mode nor times
                    os.chmod(sibling, like.st_mode & 0o777)
            stream.writelines(pieces)
            stream.flush()
            if sync:
                os.fsync(descriptor)
            if fcntl is None:
                stream.close()  # Windows renames no open file; elsewhere the lock is still needed
            if like:
                with contextlib.suppress(OSError):
                    os.utime(sibling, ns=(like.st_atime_ns, like.st_mtime_ns))
            if force:
                os.replace(sibling, path)
            else:
                _put_where_nothing_is(sibling, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(sibling)
        raise
    if sync:
        with contextlib.suppress(PermissionError):  # Windows opens no folders
            entry = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(entry)
            finally:
                os.close(entry)


def _new_sibling(folder: str) -> tuple[str, int]:
    """Create a temporary file; it is locked until it is closed, or until this process dies."""
    while True:
        sibling = os.path.join(folder, f"{_PREFIX}{os.urandom(8).hex()}{_SUFFIX}")
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
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from None
    except OSError:  # a file system without hard links: look, then rename
        if os.path.exists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from None
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
                if not entry.is_file(follow_symlinks=False):  # a pipe would be waited for
                    continue
                with contextlib.suppress(OSError), open(entry.path, "rb") as stream:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(entry.path)


_PREFIX, _SUFFIX = ".tactic-", ".tmp"
_O_BINARY = getattr(os, "O_BINARY", 0)  # Windows only
