"""Many items, worked on in threads, with their results in the order of the items.

    items ─ a window of at most 2 × jobs ─ threads ─ Outcome, Outcome … in order

An item that fails with `TacError`, OSError or MemoryError becomes a `Failure`; any other exception
is a bug and ends everything. Warnings about a picture are kept with the item that caused them:
Python's own `warnings.catch_warnings` belongs to the process and would mix the threads up.
"""

import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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


def in_order(function: Callable[[T], R], items: Iterable[T], jobs: int) -> Iterator[Outcome[T, R]]:
    """Call a function with every item, in ``jobs`` threads, and yield the outcomes in order."""
    if jobs == 1:
        for item in items:
            yield _attempt(function, item)
        return
    window: deque[Future[Outcome[T, R]]] = deque()
    executor = ThreadPoolExecutor(jobs, thread_name_prefix="tactic")
    try:
        for item in items:
            window.append(executor.submit(_attempt, function, item))
            # What is ready does not wait for the next item, which a camera may be long about.
            while window and (window[0].done() or len(window) == 2 * jobs):
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
    finally:
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
