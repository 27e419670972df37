"""Two range coders behind one interface: constriction's, and the one in plain Python.

    intervals of 2^24 ─ Encoder.put … seal ─▶ payload ─ Decoder.take, bit ─▶ symbol indices, bits

Both write and read the same bytes. This file alone knows constriction and its habits:

- It takes tables of floats. Made from integer frequencies q as ``q - 1`` they are scaled by
  exactly 1 and coded with exactly q; float32 holds all of them.
- ``perfect=False`` is always given: without it a warning goes to standard output.
- It reports impossible data as ``AssertionError``, and does not notice most damage. The length
  and the checksum of the container do that.
- Its sealed words are up to two words longer than needed, so `pure.seal` seals instead.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tactic_codec.entropy import pure
from tactic_codec.entropy.tables import FrequencyTables
from tactic_codec.errors import Corrupt

# Bounds the float32 matrix of tables of one call to 8 MiB; larger calls gain little.
_MATRIX_ELEMENTS = 1 << 21

# What a symbol takes grows with its table. Of longer tables than this one …
_LONG = 40
# … those values are tried first that lie so near to zero, as nearly all do.
_NEAR = 8
# Every try copies the decoder with what is left of the payload.
_TRIED_BYTES = 1 << 16


class Encoder(Protocol):
    """Codes intervals in the order in which they are put."""

    def put(self, left: NDArray[np.uint32], size: NDArray[np.uint32]) -> None:
        """Code [m] symbols that own ``[left, left + size)`` of 2^24, none of them all of it."""

    def seal(self) -> bytes:
        """Return the payload, which never ends in a zero byte."""


class Decoder(Protocol):
    """Reads symbols in the order in which they were put."""

    def take(self, rows: NDArray[np.intp]) -> NDArray[np.int32]:
        """Read the indices of [m] symbols, each from the table in the given row."""

    def bit(self) -> int:
        """Read a symbol of the table [2^23, 2^23]."""


class Coder(NamedTuple):
    """A way to make encoders and decoders."""

    name: str
    encoder: Callable[[], Encoder]
    decoder: Callable[[bytes, FrequencyTables], Decoder]


class _ConstrictionEncoder:
    def __init__(self) -> None:
        constriction = _constriction()
        self._encoder = constriction.stream.queue.RangeEncoder()
        self._family = constriction.stream.model.Categorical(perfect=False)

    def put(self, left: NDArray[np.uint32], size: NDArray[np.uint32]) -> None:
        # The coder needs to know a symbol's interval and nothing of its neighbours, so tables of
        # three symbols, before | this one | after, do for tables of any size.
        left, size = left.astype(np.int32), size.astype(np.int32)
        right = pure.TOTAL - left - size
        # An empty part is no symbol to constriction; the other part, of at least 2, is split.
        first, last = left == 0, right == 0
        symbol = 1 - first.astype(np.int32) + last
        table = np.empty((left.size, 3), np.float32)
        table[:, 0] = np.where(first, size, left - last)
        table[:, 1] = np.where(first | last, 1, size)
        table[:, 2] = np.where(last, size, right - first)
        self._encoder.encode(symbol, self._family, table - 1)

    def seal(self) -> bytes:
        count, (lower, range_) = self._encoder.pos()
        words = self._encoder.get_compressed()[:count].astype(">u4").tobytes()
        prefix = int.from_bytes(words, "big")
        # get_compressed seals too: with the point lower + 2^32 - 1, whose carry is taken back.
        prefix -= (lower + (1 << pure.WORD_BITS) - 1) >> pure.STATE_BITS
        return pure.seal(prefix, len(words), lower, range_)


class _ConstrictionDecoder:
    def __init__(self, payload: bytes, tables: FrequencyTables) -> None:
        constriction = _constriction()
        padded = payload + bytes(-len(payload) % pure.WORD_BYTES)
        words = np.frombuffer(padded, ">u4").astype(np.uint32)
        self._decoder = constriction.stream.queue.RangeDecoder(words)
        categorical = constriction.stream.model.Categorical
        self._family = categorical(perfect=False)
        self._coin = categorical(np.ones(2, np.float32), perfect=False)
        symbols = tables.escape + 1
        frequencies = tables.frequencies.reshape(-1, symbols)
        self._tables = (frequencies - 1).astype(np.float32)
        self._rows_per_call = max(1, _MATRIX_ELEMENTS // symbols)
        self._short: NDArray[np.float32] | None = None
        if symbols > _LONG and len(payload) <= _TRIED_BYTES:
            first, last = (
                int(np.clip(v - tables.minimum, 1, symbols - 2)) for v in (-_NEAR, _NEAR)
            )
            # What lies below and above these values becomes one symbol each.
            sums = np.add.reduceat(frequencies, [0, *range(first, last + 2)], axis=1)
            self._short, self._first = (sums - 1).astype(np.float32), first

    def take(self, rows: NDArray[np.intp]) -> NDArray[np.int32]:
        step = self._rows_per_call
        if rows.size <= step:
            return self._take(rows)
        parts = [self._take(rows[i : i + step]) for i in range(0, rows.size, step)]
        return np.concatenate(parts)

    def _take(self, rows: NDArray[np.intp]) -> NDArray[np.int32]:
        near = self._take_near(rows)
        if near is not None:
            return near
        matrix = self._tables.take(rows, axis=0)
        try:
            indices: NDArray[np.int32] = self._decoder.decode(self._family, matrix)
        except AssertionError as error:
            raise _impossible() from error
        return indices

    def _take_near(self, rows: NDArray[np.intp]) -> NDArray[np.int32] | None:
        """Read symbols if all of them are near to zero; else leave the decoder as it was."""
        if self._short is None or rows.size == 0:
            return None
        before = self._decoder.clone()
        try:
            indices: NDArray[np.int32] = self._decoder.decode(
                self._family, self._short.take(rows, axis=0)
            )
        except AssertionError:  # behind a symbol that stood for several nothing needs to fit
            indices = np.zeros(1, np.int32)
        if indices.min() == 0 or indices.max() == self._short.shape[1] - 1:
            self._decoder = before
            return None
        return indices + np.int32(self._first - 1)

    def bit(self) -> int:
        try:
            return int(self._decoder.decode(self._coin))
        except AssertionError as error:
            raise _impossible() from error


class _PureEncoder:
    def __init__(self) -> None:
        self._encoder = pure.RangeEncoder()

    def put(self, left: NDArray[np.uint32], size: NDArray[np.uint32]) -> None:
        for start, width in zip(left.tolist(), size.tolist(), strict=True):
            self._encoder.encode(start, width)

    def seal(self) -> bytes:
        return self._encoder.seal()


class _PureDecoder:
    _COIN = (0, pure.TOTAL // 2, pure.TOTAL)

    def __init__(self, payload: bytes, tables: FrequencyTables) -> None:
        self._decoder = pure.RangeDecoder(payload)
        self._cumulative = tables.cumulative.tolist()

    def take(self, rows: NDArray[np.intp]) -> NDArray[np.int32]:
        decode, cumulative = self._decoder.decode, self._cumulative
        return np.array([decode(cumulative[row]) for row in rows.tolist()], np.int32)

    def bit(self) -> int:
        return self._decoder.decode(self._COIN)


CONSTRICTION = Coder("constriction", _ConstrictionEncoder, _ConstrictionDecoder)
PURE = Coder("pure", _PureEncoder, _PureDecoder)


@cache
def default_coder() -> Coder:
    """Return `CONSTRICTION` where it is installed and `PURE` elsewhere."""
    return CONSTRICTION if find_spec("constriction") else PURE


@cache
def _constriction() -> Any:
    # Imported at the first use, and by name: it ships no types to check against.
    return import_module("constriction")


def _impossible() -> Corrupt:
    return Corrupt("the payload holds a number outside every symbol's interval")
