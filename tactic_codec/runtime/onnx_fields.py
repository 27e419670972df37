"""The fields of an ONNX file, which is a message of Protocol Buffers.

Numbers of fields are those of onnx.proto. To read and write these few takes no package.
"""

import itertools
from collections.abc import Iterator
from typing import Any

MOST = 1 << 12
"""Fields of a message, such as nodes and weights of a graph: a hostile file takes no more time."""


def read(message: memoryview) -> Iterator[tuple[int, Any, memoryview]]:
    """Yield the fields of a message: number, value as an integer or bytes, and all of its bytes.

    Raises:
        ValueError, LookupError: it is no such message, or has more than `MOST` fields.
    """
    at = 0
    for count in itertools.count():
        if at >= len(message):
            return
        if count == MOST:
            raise ValueError(f"a message of more than {MOST} fields")
        start = at
        key, at = _read_integer(message, at)
        value: int | memoryview
        if key & 7 == 0:
            value, at = _read_integer(message, at)
        else:
            size, at = _read_integer(message, at) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7], at)
            value, at = message[at : at + size], at + size
        if at > len(message):
            raise ValueError("a message that is cut")
        yield key >> 3, value, message[start:at]


def values(message: memoryview) -> dict[int, list[Any]]:
    """Return the values of a message's fields by their numbers."""
    found: dict[int, list[Any]] = {}
    for number, value, _ in read(message):
        found.setdefault(number, []).append(value if isinstance(value, int) else value.tobytes())
    return found


def _read_integer(message: memoryview, at: int) -> tuple[int, int]:
    """Return the integer at a place, and where it ends."""
    value = 0
    for shift in range(0, 64, 7):
        value |= (message[at] & 127) << shift
        at += 1
        if message[at - 1] < 128:
            return value, at
    raise ValueError("an integer goes on behind 64 bits")


def field(number: int, data: bytes) -> bytes:
    """Return a field whose value is bytes."""
    return _written(number << 3 | 2) + _written(len(data)) + data


def integer(number: int, value: int) -> bytes:
    """Return a field whose value is an integer of 0 or more."""
    return _written(number << 3) + _written(value)


def _written(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])
