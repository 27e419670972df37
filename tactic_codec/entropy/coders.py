"""Two range coders behind one interface: constriction's, and the one in plain Python.

    rows, indices ─ Encoder.put, bits … seal ─▶ payload ─ Decoder.take, bit ─▶ indices, bits

Both write and read the same bytes. Nearly all symbols are zero: that index of a table is the
*usual* one, which is looked up for all symbols at once, and others are put in its place. This file
alone knows constriction and its habits:

- It takes tables of floats. Made from integer frequencies q as ``q - 1`` they are scaled by
  exactly 1 and coded with exactly q; float32 holds all of them.
- ``perfect=False`` is always given: without it a warning goes to standard output.
- It reports impossible data as ``AssertionError``, and does not notice most damage. The length
  and the checksum of the container do that.
- Its sealed words are up to two words longer than needed, so `pure.seal` seals instead.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tactic_codec.entropy import pure
from tactic_codec.entropy.order import Floats, Integers, Places
from tactic_codec.entropy.tables import FrequencyTables
from tactic_codec.errors import Corrupt

# Bounds the float32 matrix of tables of one call to 1 MiB, which stays in the caches. Few symbols
# are more often all within a window.
_MATRIX_ELEMENTS = 1 << 18

# What a symbol takes grows with its table. At first only values within a range are told apart, and
# then all, where any lies outside. NumPy looks up tables of eight symbols, with one for each side,
# several times as fast as others of about that length.
_WINDOWS = ((-3, 2), (-8, 8))
# A window is tried where so many symbols are expected outside it, by their tables, or fewer.
_MOST_OUTSIDE = 0.5
# Every try copies the payload, which may have so many bytes for each symbol that is read.
_COPIED_BYTES = 200

_Found = tuple[Places, NDArray[np.int32]]


class Encoder(Protocol):
    """Codes symbols in the order in which they are put."""

    def put(self, rows: Integers, places: Places, indices: Integers) -> None:
        """Code [m] symbols, each by the table in the given row.

        All are the usual one but for those at some places, ascending, which have these indices.
        """

    def bits(self, bits: NDArray[np.int32], zero: int) -> None:
        """Code symbols of the table [zero, 2^24 - zero]."""

    def seal(self) -> bytes:
        """Return the payload, which never ends in a zero byte."""


class Decoder(Protocol):
    """Reads symbols in the order in which they were put."""

    def take(self, rows: Integers) -> _Found:
        """Read [m] symbols, each from the table in the given row.

        Returns:
            Places of those that are not the usual one, ascending, and their indices.
        """

    def bit(self, zero: int) -> int:
        """Read a symbol of the table [zero, 2^24 - zero]."""


class Coder(NamedTuple):
    """A way to make encoders and decoders."""

    name: str
    encoder: Callable[[FrequencyTables], Encoder]
    decoder: Callable[[bytes, FrequencyTables], Decoder]


class _ConstrictionEncoder:
    def __init__(self, tables: FrequencyTables) -> None:
        constriction = _constriction()
        self._encoder = constriction.stream.queue.RangeEncoder()
        self._family = constriction.stream.model.Categorical(perfect=False)
        self._tables = tables
        self._usual, self._thirds = _thirds(*tables.usual_intervals)

    def put(self, rows: Integers, places: Places, indices: Integers) -> None:
        table = self._thirds.take(rows, axis=0)
        symbol = np.full(rows.size, self._usual[0])
        intervals = self._tables.intervals(rows[places], indices)
        symbol[places], table[places] = _thirds(*intervals)
        self._encoder.encode(symbol, self._family, table)

    def bits(self, bits: NDArray[np.int32], zero: int) -> None:
        self._encoder.encode(bits, _coin(zero))

    def seal(self) -> bytes:
        count, (lower, range_) = self._encoder.pos()
        words = self._encoder.get_compressed()[:count].astype(">u4").tobytes()
        prefix = int.from_bytes(words, "big")
        # get_compressed seals too: with the point lower + 2^32 - 1, whose carry is taken back.
        prefix -= (lower + (1 << pure.WORD_BITS) - 1) >> pure.STATE_BITS
        return pure.seal(prefix, len(words), lower, range_)


def _thirds(left: NDArray[np.uint32], size: NDArray[np.uint32]) -> tuple[NDArray[np.int32], Floats]:
    """Return tables of three symbols, before | this one | after, for the intervals of [m] symbols.

    The coder needs to know a symbol's interval and nothing of its neighbours, so these do for
    tables of any size.

    Returns:
        [m], which of the three each symbol is, and [m, 3], as constriction takes them.
    """
    left, size = left.astype(np.int32), size.astype(np.int32)
    right = pure.TOTAL - left - size
    # An empty part is no symbol to constriction; the other part, of at least 2, is split.
    first, last = left == 0, right == 0
    table = np.empty((left.size, 3), np.float32)
    table[:, 0] = np.where(first, size, left - last)
    table[:, 1] = np.where(first | last, 1, size)
    table[:, 2] = np.where(last, size, right - first)
    return 1 - first.astype(np.int32) + last, table - 1


class _ConstrictionDecoder:
    def __init__(self, payload: bytes, tables: FrequencyTables) -> None:
        constriction = _constriction()
        padded = payload + bytes(-len(payload) % pure.WORD_BYTES)
        words = np.frombuffer(padded, ">u4").astype(np.uint32)
        self._decoder = constriction.stream.queue.RangeDecoder(words)
        self._family = constriction.stream.model.Categorical(perfect=False)
        self._usual, self._least_tried = tables.usual, len(payload) // _COPIED_BYTES
        frequencies = tables.frequencies.reshape(-1, tables.escape + 1)
        self._tables = (frequencies - 1).astype(np.float32)
        self._rows_per_call = max(1, _MATRIX_ELEMENTS // (tables.escape + 1))
        self._windows = [
            _window(tables, low, high)
            for low, high in _WINDOWS
            if -low < tables.usual < tables.escape - high
        ]

    def take(self, rows: Integers) -> _Found:
        step = self._rows_per_call
        if rows.size <= step:
            return self._take(rows)
        parts = [(i, *self._take(rows[i : i + step])) for i in range(0, rows.size, step)]
        return (
            np.concatenate([places + i for i, places, _ in parts]),
            np.concatenate([indices for *_, indices in parts]),
        )

    def _take(self, rows: Integers) -> _Found:
        for low, outside, short in self._windows:
            if rows.size < self._least_tried or np.add.reduce(outside.take(rows)) > _MOST_OUTSIDE:
                continue
            before = self._decoder.clone()
            # Behind a symbol that stood for several nothing needs to fit.
            with suppress(Corrupt):
                places, indices = self._read(rows, short, 1 - low)
                if {0, short.shape[1] - 1}.isdisjoint(indices.tolist()):
                    return places, indices + np.int32(self._usual + low - 1)
            self._decoder = before
        return self._read(rows, self._tables, self._usual)

    def _read(self, rows: Integers, tables: Floats, usual: int) -> _Found:
        try:
            found = self._decoder.decode(self._family, tables.take(rows, axis=0))
        except AssertionError as error:
            raise pure.impossible() from error
        (places,) = (found != usual).nonzero()
        return places, found[places]

    def bit(self, zero: int) -> int:
        try:
            return int(self._decoder.decode(_coin(zero)))
        except AssertionError as error:
            raise pure.impossible() from error


def _window(tables: FrequencyTables, low: int, high: int) -> tuple[int, Floats, Floats]:
    """Return tables in which values below ``low``, and above ``high``, are one symbol each.

    Returns:
        Low, the probability of both of these symbols in each row, and the tables as constriction
        takes them.
    """
    first, stop = tables.usual + low, tables.usual + high + 1
    ends = tables.cumulative[:, [0, *range(first, stop + 1), -1]]
    short = np.diff(ends.astype(np.int32), axis=1).astype(np.float32)
    return low, (short[:, 0] + short[:, -1]) / np.float32(pure.TOTAL), short - 1


class _PureEncoder:
    def __init__(self, tables: FrequencyTables) -> None:
        self._encoder = pure.RangeEncoder()
        self._tables = tables

    def put(self, rows: Integers, places: Places, indices: Integers) -> None:
        left, size = (part.take(rows) for part in self._tables.usual_intervals)
        left[places], size[places] = self._tables.intervals(rows[places], indices)
        self._encoder.encode(left.tolist(), size.tolist())

    def bits(self, bits: NDArray[np.int32], zero: int) -> None:
        sizes = np.array([zero, pure.TOTAL - zero])
        self._encoder.encode((bits * zero).tolist(), sizes[bits].tolist())

    def seal(self) -> bytes:
        return self._encoder.seal()


class _PureDecoder:
    def __init__(self, payload: bytes, tables: FrequencyTables) -> None:
        self._decoder = pure.RangeDecoder(payload)
        self._tables = tables

    def take(self, rows: Integers) -> _Found:
        left, size = (part.take(rows).tolist() for part in self._tables.usual_intervals)
        usual = zip(range(rows.size), left, size, strict=True)
        places, indices = [], []
        while (place := self._decoder.skip(usual)) is not None:
            places.append(place)
            indices.append(self._decoder.decode(self._tables.cumulative[rows[place]].tolist()))
        return np.array(places, np.intp), np.array(indices, np.int32)

    def bit(self, zero: int) -> int:
        return self._decoder.decode((0, zero, pure.TOTAL))


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


@cache
def _coin(zero: int) -> Any:
    table = np.array([zero - 1, pure.TOTAL - zero - 1], np.float32)
    return _constriction().stream.model.Categorical(table, perfect=False)
