"""What people and programs read: data on standard output, all else on standard error.

A command opens one `Console`, which prints results and complaints, remembers whether anything
failed, and keeps the progress bar out of their way. Leaving it ends the command with exit status 1
if something failed.

Printing never fails for what is printed: characters that a terminal could not show, or would obey,
appear as backslash escapes. It fails for where it goes: `OutputClosed` when the reader has gone,
OSError when the disk is full.
"""

import contextlib
import errno
import io
import json
import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Protocol, TextIO, TypeVar

import click

from tactic_codec.errors import OutOfMemory, TacError, display

if TYPE_CHECKING:
    from concurrent.futures import Executor

_PART = re.compile(r": (?:picture|frame) \d+$")
"""How the title of one of a stream's many items ends."""

_REPEATED = 3  # times that a stream's items may say the same; then each tenth, hundredth, and so on

_TERMINATED = 128 + signal.SIGTERM  # exit status of a worker, which nobody sees

BAR_DELAY = 1.0
"""Seconds of work before a progress bar appears."""


class OutputClosed(Exception):
    """Whoever read standard output has gone, as in ``tactic … | head``: end quietly."""


class Item(Protocol):
    """Something to be worked on."""

    @property
    def title(self) -> str:
        """Its name in messages."""

    @property
    def weight(self) -> int:
        """Its share of the progress bar."""


T = TypeVar("T")
Task = TypeVar("Task", bound=Item)
R = TypeVar("R")


# --- Text that can always be printed --------------------------------------------------------------


def never_fail_to_print() -> None:
    """Let the standard streams escape what their encoding lacks instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def reason(exc: BaseException, name: str = "") -> str:
    """Return an error's message for people, without the file name that stands before it."""
    if isinstance(exc, OSError) and exc.strerror:
        file = os.fsdecode(exc.filename) if isinstance(exc.filename, str | bytes) else ""
        return exc.strerror if file in ("", name) else f"{exc.strerror}: {display(file)}"
    if isinstance(exc, MemoryError) and not isinstance(exc, TacError):
        return "out of memory; scale the picture down, or use a smaller -j"
    return str(exc)


def table(
    rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,), least: Sequence[int] = ()
) -> list[str]:
    """Lay out rows of cells in columns; the first row has the headings.

    Args:
        rows: of equal length.
        left: numbers of the columns of names, which stand to the left; figures stand to the right.
        least: widths of the columns, where rows that are not known yet have to fit below.
    """
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    widths = [max(pair) for pair in zip_longest(widths, least, fillvalue=0)]
    lefts = [n in left or n - len(columns) in left for n in range(len(columns))]
    return [
        "  ".join(
            cell.ljust(width) if to_left else cell.rjust(width)
            for cell, width, to_left in zip(row, widths, lefts, strict=True)
        ).rstrip()
        for row in rows
    ]


def complain(message: str) -> None:
    """Print a line of ours on standard error; it may quote what files and models say."""
    click.echo(f"tactic: {display(message)}", err=True)


def ending_signals() -> list[signal.Signals]:
    """Signals by which others end a command, but for those that its parent has it ignore."""
    wanted = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    return [number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN]


def clear_line() -> None:
    """Erase the progress bar that stands on the terminal's last line."""
    click.echo("\r\x1b[K", err=True, nl=False)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a standard stream is a terminal; a closed one is None."""
    return stream is not None and stream.isatty()


# --- Standard output ------------------------------------------------------------------------------


def refuse_terminal() -> None:
    """Refuse to write binary data to a terminal.

    Raises:
        click.UsageError: standard output is one.
    """
    if is_terminal(sys.stdout):
        raise click.UsageError(
            "binary data is not written to a terminal; name a file in place of '-', or send it "
            "on with '> FILE' or '| COMMAND'"
        )


def _write(data: str | bytes) -> None:
    if sys.stdout is None:
        raise OSError(errno.EBADF, "standard output is closed")
    try:
        if isinstance(data, bytes):
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
        else:
            sys.stdout.write(data)
        sys.stdout.flush()
    except OSError as exc:
        _abandon_stdout()
        if isinstance(exc, BrokenPipeError):
            raise OutputClosed from exc
        raise OSError(exc.errno, f"standard output: {exc.strerror}") from exc


def _abandon_stdout() -> None:
    """Send what is still buffered nowhere, or Python would complain about it when it exits."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


# --- A command's console --------------------------------------------------------------------------


@dataclass(eq=False, kw_only=True)
class Console:
    """Prints for one command; see the module's text."""

    quiet: bool
    verbose: bool
    debug: bool
    failed: bool = False
    failures: list[tuple[str, str]] | None = None  # names and reasons, where a command lists them
    _bar: "_Bar | None" = None
    _status_at: float = 0
    _has_status: bool = False
    _said: Counter[tuple[str, str]] = field(default_factory=Counter)

    def line(self, text: str) -> None:
        """Print a line of data."""
        self._clear()
        _write(text + "\n")

    def json(self, value: dict[str, Any]) -> None:
        """Print an object on a line, in ASCII, so that every name survives."""
        self.line(json.dumps(value, allow_nan=False))

    def data(self, data: bytes) -> None:
        """Write binary data."""
        _write(data)

    def text(self, data: bytes) -> None:
        """Write a text file: as it is, but on a terminal, which might obey what it says."""
        if is_terminal(sys.stdout):
            for line in data.decode("utf-8", "surrogateescape").rstrip("\n").split("\n"):
                self.line(display(line))
        else:
            self.data(data)

    def say(self, text: str) -> None:
        """Say something on standard error, unless ``--quiet``."""
        if not self.quiet:
            self._clear()
            click.echo(display(text), err=True)

    def detail(self, text: str) -> None:
        """Say on standard error what only ``-v`` wants to know, once for all processes."""
        if self.verbose and not _function:
            self._clear()
            click.echo(text, err=True)

    def warn(self, name: str, message: str) -> None:
        """Report what does not stop an input from being used, unless ``--quiet``."""
        if not self.quiet:
            self._clear()
            self._complain(name, f"warning: {message}")

    def fail(self, name: str, exc: BaseException) -> None:
        """Report an input that failed; the exit status will be 1."""
        self.failed = True
        if self.failures is not None:
            self.failures.append((name, reason(exc, name)))
        self._clear()
        if self._complain(name, reason(exc, name)) and self.debug:
            click.echo("".join(traceback.format_exception(exc)), err=True, nl=False)

    def _complain(self, name: str, message: str) -> bool:
        """Complain, but not of each of a stream's items in the same words; whether it was said."""
        stream, parts = _PART.subn("", name)
        if parts:
            same = (stream, re.sub(r"\d+", "N", message)[:24])
            self._said[same] += 1
            count = self._said[same]
            if count > _REPEATED:
                if str(count).strip("0") != "1":
                    return False
                message += f" ({count} messages of this kind)"
        complain(f"{name}: {message}")
        return True

    def each(
        self,
        function: Callable[[Task], R],
        items: Iterable[Task],
        *,
        jobs: int = 1,
        total: int | None = None,
        ahead: int = 0,
        prepare: Callable[[Task], object] | None = None,
    ) -> Iterator[tuple[Task, R, float]]:
        """Work on items side by side; report those that fail, yield the others in order.

        Args:
            function: raises TacError or OSError for an item that fails; anything else ends all.
            items: read as they are needed.
            jobs: how many at once.
            total: sum of the weights of all items, where these are no list; None where nobody
                knows.
            ahead, prepare: see `in_order`.

        Yields:
            An item, what the function returned, and the seconds it took.
        """
        self.progress(sum(i.weight for i in items) if isinstance(items, list) else total)
        for outcome in in_order(function, items, jobs, ahead, prepare):
            for message in outcome.warnings:
                self.warn(outcome.item.title, message)
            if isinstance(outcome.result, Failure):
                self.fail(outcome.item.title, outcome.result.error)
            else:
                yield outcome.item, outcome.result, outcome.seconds
            self.advance(outcome.item.weight)

    @property
    def has_bar(self) -> bool:
        """Whether somebody sees a progress bar."""
        return self._bar is not None

    def progress(self, total: int | None) -> None:
        """Prepare a progress bar where one is wanted and can be seen.

        Args:
            total: all the work, or None where nobody knows.
        """
        if total is not None and not self.quiet and is_terminal(sys.stderr):
            self._bar = _Bar(total)

    def advance(self, work: int, note: str = "") -> None:
        """Tell the bar, if there is one, how much more was done, and what to show beside it."""
        if self._bar:
            self._bar.advance(work, note)

    def status(self, text: str) -> None:
        """Show what goes on, on a terminal's last line, once a second at most."""
        now = time.monotonic()
        if not self.quiet and is_terminal(sys.stderr) and now >= self._status_at + 1:
            self._status_at, self._has_status = now, True
            click.echo(f"\r\x1b[K{text}", err=True, nl=False)

    def close(self) -> None:
        """Take the progress bar away, and count what was not said each time."""
        self._clear()
        self._bar = None
        for (stream, message), count in self._said.items():
            if count > _REPEATED:
                complain(f"{stream}: {count} messages in all that begin: {message}")
        self._said.clear()

    def _clear(self) -> None:
        if self._bar:
            self._bar.clear()
        elif self._has_status:
            clear_line()
        self._has_status = False


@contextmanager
def opened(*, quiet: bool = False, verbose: bool = False) -> Iterator[Console]:
    """Give a command its console; afterwards exit with 1 if something failed."""
    root = click.get_current_context().find_root()
    console = Console(quiet=quiet, verbose=verbose, debug=bool(root.params.get("debug")))
    with warnings.catch_warnings():
        try:
            yield console
        finally:
            console.close()
    if console.failed:
        raise click.exceptions.Exit(1)


class _Bar:
    """A progress bar on standard error that appears after a second of work."""

    def __init__(self, total: int) -> None:
        self._start = time.monotonic()
        self._pending = 0
        self._bar = click.progressbar(
            length=total, file=sys.stderr, update_min_steps=1, item_show_func=lambda note: note
        )
        self._shown = False

    def advance(self, weight: int, note: str) -> None:
        self._pending += weight
        if time.monotonic() - self._start >= BAR_DELAY:
            self._shown = True
            self._bar.update(self._pending, note or None)
            self._pending = 0

    def clear(self) -> None:
        if self._shown:
            clear_line()


# --- Many items side by side ---
#
# Many items, worked on in threads or processes, with their results in the order of the items.
#
#     items ─ a window of at most 2 × jobs ─ workers ─ Outcome, Outcome … in order
#
# An item that fails with `TacError`, OSError or MemoryError becomes a `Failure`; any other
# exception is a bug and ends everything. Warnings about a picture are kept with the item that
# caused them: Python's own `warnings.catch_warnings` belongs to the process and would mix the
# threads up.
#
# Half of coding a picture is Python and NumPy on small arrays, of which one thread of a process
# runs at a time. Processes share nothing: each opens networks of its own.


class Failure(NamedTuple):
    """What an item ended in."""

    error: TacError | OSError | MemoryError


class Outcome(NamedTuple, Generic[T, R]):
    """An item, what became of it, what was warned of meanwhile, and how long it took."""

    item: T
    result: R | Failure
    warnings: list[str]
    seconds: float


class _Heard(threading.local):
    """The warnings of the item that this thread works on."""

    messages: list[str] | None = None


_heard = _Heard()


def collect_warnings(category: type[Warning]) -> None:
    """From now on, keep every warning of a category with the item that caused it.

    Call it once a command, within ``warnings.catch_warnings()``, which puts things back.
    """
    elsewhere = warnings.showwarning

    def show(message: Warning | str, *args: Any, **kwargs: Any) -> None:
        if _heard.messages is not None and isinstance(message, category):
            _heard.messages.append(str(message))
        else:
            elsewhere(message, *args, **kwargs)

    warnings.simplefilter("always", category)
    warnings.showwarning = show


def in_order(
    function: Callable[[T], R],
    items: Iterable[T],
    jobs: int,
    ahead: int = 0,
    prepare: Callable[[T], object] | None = None,
) -> Iterator[Outcome[T, R]]:
    """Call a function with every item, in threads or processes, and yield the outcomes in order.

    Args:
        function: see the module's text.
        items: with several jobs they are drawn in a thread of their own, so that what is ready does
            not wait for the next item, which a camera may be long about.
        jobs: number of workers.
        ahead: how many items are drawn before the first outcome is; by default 2 x ``jobs``.
        prepare: where it is given workers are processes, if the system forks them safely: items and
            results are then pickled. It is called first with each item, here, so that workers
            inherit what it opens; its errors are left to ``function``.

    Raises:
        OutOfMemory: a process was ended from outside.
    """
    if jobs == 1:
        for item in items:
            yield _attempt(function, item)
        return
    from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
    from queue import SimpleQueue

    window = SimpleQueue[Future[Outcome[T, R]] | None]()
    room = threading.Semaphore(ahead or 2 * jobs)
    # Frameworks of macOS do not outlive fork, and Windows has none.
    forks = prepare is not None and sys.platform == "linux"
    executor = _processes(function, jobs) if forks else ThreadPoolExecutor(jobs, "tactic")
    work: Callable[[T], Outcome[T, R]] = _inherited if forks else partial(_attempt, function)
    ended = whole = False

    def draw() -> None:
        try:
            for item in items:
                room.acquire()
                if ended:
                    return
                if prepare:
                    with contextlib.suppress(TacError, OSError):
                        prepare(item)
                window.put(executor.submit(work, item))
        except BaseException as exc:  # raised below, where the item would be
            broken = Future[Outcome[T, R]]()
            broken.set_exception(exc)
            window.put(broken)
        window.put(None)

    threading.Thread(target=draw, daemon=True, name="tactic-draw").start()
    try:
        while (future := window.get()) is not None:
            yield future.result()
            room.release()
        whole = True
    except BrokenExecutor as exc:
        raise OutOfMemory(
            "a process that worked on pictures was ended from outside, as the system does when "
            "memory runs out; work on fewer at once (-j)"
        ) from exc
    finally:
        ended = True
        room.release()
        if forks and not whole:
            _end_workers()
        executor.shutdown(cancel_futures=True)


def _processes(function: Callable[[T], R], jobs: int) -> "Executor":
    """Return an executor whose processes, forked with the first item, know a function."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    return ProcessPoolExecutor(jobs, get_context("fork"), _begin_worker, (function,))


def _end_workers() -> None:
    """End processes at once, which would finish what they have, and that may take long."""
    from multiprocessing import active_children

    # One that is about to wait, for a lock that another one took with it, sees a signal too late.
    while workers := active_children():
        for worker in workers:
            worker.terminate()
        workers[0].join(0.1)


_function: Callable[[Any], Any] | None = None
"""What this process calls with items, if it is a worker: of a function no pickle can be made."""


def _begin_worker(function: Callable[[Any], Any]) -> None:
    """Leave it to the parent when to end, unless that is gone; no half of a file is left then."""
    from multiprocessing import parent_process

    global _function
    _function = function
    parent = parent_process()
    assert parent

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


_state: Literal["idle", "busy", "leaving"] = "idle"
"""Of this process, if it is a worker."""


def _leave(*_: object) -> None:
    """End a worker, once it has removed what it has half written; of signals one will do."""
    global _state
    if _state == "idle":
        os._exit(_TERMINATED)
    if _state == "busy":
        _state = "leaving"
        sys.exit(_TERMINATED)


def _inherited(item: T) -> Outcome[T, Any]:
    global _state
    assert _function
    try:
        _state = "busy"
        outcome = _attempt(_function, item)
    except SystemExit:
        os._exit(_TERMINATED)  # the pool would take it for a result
    finally:
        _state = "idle"
    if isinstance(outcome.result, Failure):  # no pickle has its traceback
        error = outcome.result.error
        error.add_note("".join(traceback.format_exception(error)))
    return outcome


def _attempt(function: Callable[[T], R], item: T) -> Outcome[T, R]:
    start = time.perf_counter()
    heard: list[str] = []
    _heard.messages = heard
    try:
        result = function(item)
    except (TacError, OSError, MemoryError) as exc:
        # No name here may keep the error, which holds this frame, or a circle is freed late.
        return Outcome(item, Failure(exc), heard, time.perf_counter() - start)
    finally:
        _heard.messages = None
    return Outcome(item, result, heard, time.perf_counter() - start)
