"""Many items, worked on in threads, with their results in the order of the items.

    items ─ a window of at most 2 × jobs ─ threads ─ Outcome, Outcome … in order

An item that fails with `TacError`, OSError or MemoryError becomes a `Failure`; any other exception
is a bug and ends everything. Warnings about a picture are kept with the item that caused them:
Python's own `warnings.catch_warnings` belongs to the process and would mix the threads up.
"""

import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Generic, NamedTuple, TypeVar

from tactic_codec.errors import TacError

T = TypeVar("T")
R = TypeVar("R")


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
    function: Callable[[T], R], items: Iterable[T], jobs: int, ahead: int = 0
) -> Iterator[Outcome[T, R]]:
    """Call a function with every item, in threads, and yield the outcomes in order.

    Args:
        function: see the module's text.
        items: with several jobs they are drawn in a thread of their own, so that what is ready does
            not wait for the next item, which a camera may be long about.
        jobs: number of threads.
        ahead: how many items are drawn before the first outcome is; by default 2 x ``jobs``.
    """
    if jobs == 1:
        for item in items:
            yield _attempt(function, item)
        return
    window = SimpleQueue[Future[Outcome[T, R]] | None]()
    room = threading.Semaphore(ahead or 2 * jobs)
    executor = ThreadPoolExecutor(jobs, thread_name_prefix="tactic")
    ended = False

    def draw() -> None:
        try:
            for item in items:
                room.acquire()
                if ended:
                    return
                window.put(executor.submit(_attempt, function, item))
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
    finally:
        ended = True
        room.release()
        executor.shutdown(cancel_futures=True)


def _attempt(function: Callable[[T], R], item: T) -> Outcome[T, R]:
    start = time.perf_counter()
    heard: list[str] = []
    _heard.messages = heard
    result: R | Failure
    try:
        result = function(item)
    except (TacError, OSError, MemoryError) as exc:
        result = Failure(exc)
    finally:
        _heard.messages = None
    return Outcome(item, result, heard, time.perf_counter() - start)
