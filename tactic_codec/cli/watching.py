"""``tactic compress --watch``: what a camera drops into a folder, picture after picture.

    events ─┐
            ├─▶ waiting ─ closed, or not changed for a while ─▶ Source ─▶ code ─▶ OUT
    listing ┘

A listing at the start finds what came before, and one now and then what events did not tell: they
get lost where they are many, and for what other machines write to a shared folder there are none.
"""

import errno
import math
import os
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tactic_codec.cli import files
from tactic_codec.cli.console import Console, complain, reason
from tactic_codec.cli.files import Destination, Source
from tactic_codec.cli.streaming import UntilSignal
from tactic_codec.errors import needed
from tactic_codec.picture import SUFFIXES

try:
    import fcntl
    import signal

    _LEASE, _LEASE_BREAK = fcntl.F_SETLEASE, signal.SIGIO
except (ImportError, AttributeError):  # not Linux
    _LEASE = None  # type: ignore[assignment]

SETTLED = 3.0
"""Seconds without a change after which a file counts, where nobody can tell whether it is open."""

STALLED = 60.0
"""The same of a file that is known to be open: what fills it may be slow, or never close it."""

_LOOK = 0.2  # seconds between two looks at files that wait
_LIST = 60.0  # seconds between listings, at least; and twenty times as long as one takes
_RETRY = 2.0  # seconds between attempts to write to a full disk
_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE}
"""Errors of a disk, which somebody will mend; others are of one file."""


class _Facts(NamedTuple):
    """What changes with a file; its permissions too, which may be why it could not be read."""

    size: int
    modified: int
    changed: int


class Watch(UntilSignal):
    """The pictures of a folder, of those that are there and of those that come."""

    def __init__(self, console: Console, folder: str, destination: Destination) -> None:
        """Begin to listen; what comes from now on is not missed.

        Raises:
            BackendUnavailable: watchfiles is not installed.
            OSError: the folder has gone.
        """
        super().__init__(console)
        with needed("--watch needs watchfiles; run: pip install watchfiles"):
            from watchfiles import watch
        self._folder, self._destination = folder, destination
        self._found = os.stat(folder)
        self._waiting = dict[str, tuple[_Facts | None, float]]()  # by path, and since when
        self._taken = dict[str, _Facts | str]()  # what was taken up, or complained of, and how
        self._list_at = 0.0
        self._problem: BaseException | None = None
        if _LEASE is not None and threading.current_thread() is threading.main_thread():
            # Sent to who holds a lease when another wants to write; by default it would end us.
            signal.signal(_LEASE_BREAK, signal.SIG_IGN)

        def listen() -> None:
            settings = {"watch_filter": None, "step": 100, "ignore_permission_denied": True}
            while not self._signal and not self._problem:
                try:
                    for changes in watch(folder, stop_event=self, **settings):  # type: ignore[arg-type]
                        with self._changed:
                            for _, path in changes:
                                self._heard_of(path)
                            self._changed.notify_all()
                except BaseException as exc:
                    if "Unable to decode path" in str(exc):  # its own error for names not in UTF-8
                        self._list_at = time.monotonic() + _LOOK  # when it listens again
                    else:  # whoever waits for pictures raises it
                        self._problem = exc

        threading.Thread(target=listen, daemon=True, name="tactic-watch").start()

    def is_set(self) -> bool:
        """Whether to stop, as watchfiles asks."""
        return bool(self._signal)

    def sources(self) -> Iterator[Source]:
        """Yield each picture when it is whole, until a signal ends it.

        Raises:
            OSError: the system cannot tell of more files, or the folder has gone.
        """
        while not self._signal:
            if self._problem:
                raise self._problem
            if time.monotonic() >= self._list_at:
                yield from self._listed()
            with self._changed:
                ready = [path for path in [*self._waiting] if self._is_ready(path)]
                if not ready:
                    wait = _LOOK if self._waiting else self._list_at - time.monotonic()
                    self._changed.wait(max(0, min(wait, 1)))  # a problem is looked for, too
            for path in ready:
                if self._signal:
                    return
                yield Source(path, os.path.relpath(path, self._folder))

    def patiently(self, write: Callable[[], object]) -> None:
        """Write a result; while the disk is full, wait for room, and say so once.

        Raises:
            OSError: another error, or a signal came before there was room.
        """
        told = False
        while True:
            try:
                write()
                return
            except OSError as exc:
                if exc.errno not in _PASSING or self._signal:
                    raise
                if not told:
                    complain(
                        f"{reason(exc)}; the pictures stay where they are until it can be written"
                    )
                told = True
            with self._changed:
                self._changed.wait_for(lambda: self._signal, _RETRY)

    def _heard_of(self, path: str) -> None:
        name = os.path.relpath(path, self._folder)
        if name != os.curdir and any(part.startswith(".") for part in name.split(os.sep)):
            return
        if name == os.curdir or os.path.isdir(path):  # gone, or moved here with all that is in it
            self._list_at = 0
        elif os.path.splitext(name)[1].lower() in SUFFIXES and not files.is_special(path):
            self._waiting.setdefault(os.path.join(self._folder, name), (None, 0))

    def _listed(self) -> Iterator[Source]:
        """Have all files wait that are there and not taken up; yield what cannot be listed."""
        start = time.monotonic()
        self._list_at = math.inf
        if not os.path.samestat(self._found, os.stat(self._folder)):  # nobody would tell of that
            raise FileNotFoundError(
                errno.ENOENT, "another folder has taken its place", self._folder
            )
        # What has gone is forgotten, or this would grow for as long as a camera runs.
        self._destination.forget()
        before, self._taken = self._taken, {}
        for source in files.below(self._folder, SUFFIXES, Counter()):
            path = source.path
            if path in before:
                self._taken[path] = before[path]
            if not source.problem:
                with self._changed:
                    self._waiting.setdefault(path, (None, 0))
            elif source.problem.errno != errno.ENOENT:  # which an empty folder is, too
                self._taken[path] = str(source.problem)
                if before.get(path) != self._taken[path]:
                    yield source
        now = time.monotonic()
        # Unless something has come meanwhile that is to be listed.
        self._list_at = min(self._list_at, now + max(_LIST, 20 * (now - start)))

    def _is_ready(self, path: str) -> bool:
        """Whether a file that waits is whole; it then waits no longer."""
        try:
            found = os.stat(path)
        except OSError:
            found = None
        # It has gone, a pipe has its name now, or it comes up with the next listing.
        if found is None or not stat.S_ISREG(found.st_mode):
            del self._waiting[path]
            return False
        facts, now = _Facts(found.st_size, found.st_mtime_ns, found.st_ctime_ns), time.monotonic()
        if self._taken.get(path) == facts:
            del self._waiting[path]
            return False
        before, since = self._waiting[path]
        if facts != before:
            self._waiting[path] = facts, now
            since = now
        if now - since < (_rest(path) if facts.size else SETTLED):
            return False
        del self._waiting[path]
        self._taken[path] = facts
        return True


def _rest(path: str) -> float:
    """Return for how many seconds a file has to stay as it is, until it counts as whole."""
    if _LEASE is None or signal.getsignal(_LEASE_BREAK) is not signal.SIG_IGN:
        return SETTLED
    try:
        # Linux lends it to the file's owner, and only while nobody has it open for writing.
        with open(path, "rb") as stream:
            fcntl.fcntl(stream, _LEASE, fcntl.F_RDLCK)
            fcntl.fcntl(stream, _LEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return STALLED
    except OSError:
        return SETTLED
    return 0
