"""torch's ways to say that memory is short, as the one that Python has."""

from collections.abc import Iterator
from contextlib import contextmanager

_SIGNS = ("out of memory", "can't allocate memory", "not enough memory")
"""In the messages of RuntimeErrors: CUDA's, the CPU allocator's on Linux, and on Windows."""


@contextmanager
def shortage_is_named() -> Iterator[None]:
    """Turn torch's errors for want of memory into MemoryError."""
    try:
        yield
    except RuntimeError as exc:
        if any(sign in str(exc) for sign in _SIGNS):
            raise MemoryError(str(exc)) from exc
        raise
