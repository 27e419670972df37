"""Symbols to payload and back.

    y_hat [C, h, w] ─ coding order ─▶ contexts ─▶ tables ─▶ intervals of 2^24 ─ coder ─▶ payload
    payload ─ decoder ─▶ indices of a wavefront ─▶ values ─▶ contexts of the next … ─▶ y_hat

The encoder knows all symbols and so takes many wavefronts at once; the decoder needs a wavefront's
neighbours first, and of each position the groups of channels before. `ideal_bits` adds up the very
intervals that `encode` codes.
"""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tactic_codec.entropy.coders import Coder, default_coder
from tactic_codec.entropy.pure import PRECISION
from tactic_codec.entropy.tables import (
    SYMBOL_LIMIT,
    Contexts,
    Found,
    FrequencyTables,
    LinearContexts,
    board_of,
    capped,
    empty_board,
    scan,
    wavefronts,
)
from tactic_codec.errors import Corrupt

# Bounds the memory of the encoder; larger chunks gain little.
_CHUNK_SYMBOLS = 1 << 16
_CHUNK_ESCAPES = 1 << 12

_Coded = tuple[NDArray[np.int32], NDArray[np.intp], NDArray[np.integer[Any]], NDArray[np.int32]]
"""Rows [m] of a run of coded symbols, places and indices of those that are not the usual one, and
the bits of escapes behind them."""


def encode(
    symbols: NDArray[np.integer[Any]], tables: FrequencyTables, coder: Coder | None = None
) -> bytes:
    """Code a latent.

    Args:
        symbols: integers [C, h, w]; values beyond ±2^20 are coded as ±2^20.
        tables: of the quality level, for C channels.
        coder: `default_coder` if None; all coders write the same bytes.

    Returns:
        the payload; it never ends in a zero byte and may be empty.

    Raises:
        ValueError: the array is empty, not of integers, or does not have the tables' channels.
    """
    encoder = (coder or default_coder()).encoder(tables)
    for rows, places, indices, bits in _coded(symbols, tables):
        encoder.put(rows, places, indices)
        encoder.bits(bits)
    return encoder.seal()


def decode(
    payload: bytes,
    shape: tuple[int, int, int],
    tables: FrequencyTables,
    coder: Coder | None = None,
    *,
    narrow: bool = False,
) -> NDArray[Any]:
    """Decode a latent.

    Args:
        payload: as `encode` returned it.
        shape: (C, h, w) of the latent.
        tables: those it was encoded with; others give other symbols, or an error.
        coder: `default_coder` if None; all coders read the same symbols.
        narrow: whether to save memory, where all symbols fit into a byte.

    Returns:
        int32 [C, h, w], or int8 if that was asked for and they fit; channels lie next to each
        other in memory, not rows.

    Raises:
        Corrupt: no encoder writes this payload. Most damage is not seen here but by the
            checksum of the container.
        ValueError: the shape is empty or does not have the tables' channels.
    """
    _check_shape(shape, tables)
    decoder = (coder or default_coder()).decoder(payload, tables)
    fits = narrow and tables.minimum >= -128 and tables.maximum <= 127
    board, latent = empty_board(shape, np.int8 if fits else np.int32)
    otherwise = tables.usual + tables.minimum  # 0, if the tables have it

    def read(where: NDArray[np.intp], group: slice, contexts: NDArray[np.integer[Any]]) -> Found:
        nonlocal board, latent
        rows = contexts + tables.first_rows[group]
        places, indices = decoder.take(rows.reshape(-1))
        values = indices + np.int32(tables.minimum)
        if values.size:
            for place in (indices == tables.escape).nonzero()[0]:
                values[place] = value = unfold(read_code(decoder.bit), tables)
                if board.dtype == np.int8 and not -128 <= value <= 127:
                    (board, latent), narrow = empty_board(shape, np.int32), board
                    board[...] = narrow
        if otherwise:
            every = np.full(rows.size, otherwise, np.int32)
            every[places] = values
            places, values = np.arange(rows.size), every
        positions, channels = np.divmod(places, rows.shape[1])
        board[where[positions], channels + group.start] = values
        return positions, channels, values

    channels, height, width = shape
    tables.contexts.decode(wavefronts(height, width, channels), read)
    return latent


def ideal_bits(symbols: NDArray[np.integer[Any]], tables: FrequencyTables) -> float:
    """Return what the tables say that a latent costs, in bits, escapes included.

    A payload is little longer: the coder's rounding adds about 0.0001 bits to each symbol, and
    the last byte is not full.

    Raises:
        ValueError: as `encode`.
    """
    found = 0.0
    for rows, places, indices, bits in _coded(symbols, tables):
        sizes = tables.usual_intervals[1].take(rows)
        sizes[places] = tables.intervals(rows[places], indices)[1]
        found += PRECISION * sizes.size - float(np.log2(sizes).sum()) + bits.size
    return found


def _coded(symbols: NDArray[np.integer[Any]], tables: FrequencyTables) -> Iterator[_Coded]:
    """Yield all symbols and escape bits, in coding order and in runs."""
    symbols = _clamped(symbols, tables)
    contexts, awake = tables.contexts, np.arange(tables.channels)
    choose = contexts.contexts
    usual = tables.usual + tables.minimum
    if isinstance(contexts, LinearContexts) and not usual:
        # At low rates few channels are not zero everywhere; others need not even be looked at.
        awake = np.flatnonzero(symbols.any(axis=(1, 2)))
        choose = partial(contexts.contexts, matrix=contexts.matrix.take(awake, axis=2))
    seen = board_of(symbols, awake)
    order, ends, pitch = scan(symbols.shape[1], symbols.shape[2])
    for start, chunk_ends in _chunks(ends, max(1, _CHUNK_SYMBOLS // tables.channels)):
        where = order[start : chunk_ends[-1]]
        coded = np.full((2, where.size, tables.channels), usual, np.int32)
        np.add(choose(seen, where, pitch), tables.first_rows, out=coded[0], casting="unsafe")
        shown = seen.take(where, axis=0)
        listed = np.arange(shown.size) if usual else np.flatnonzero(shown != 0)
        positions, columns = np.divmod(listed, awake.size)
        y, x = np.divmod(where[positions], pitch)
        channels = awake[columns]
        coded[1, positions, channels] = symbols[channels, y - 1, x - 1]
        (rows, values), stops = _in_passes(coded, [end - start for end in chunk_ends], tables)
        places = np.flatnonzero(values != usual)
        values = values[places]
        # As unsigned integers, values below the table are large too: one comparison for both.
        offsets = (values - np.int32(tables.minimum)).view(np.uint32)
        indices = np.minimum(offsets, np.uint32(tables.escape))

        # The codes of a pass's escapes follow its last symbol.
        escapes = np.flatnonzero(indices == tables.escape)
        passes = np.searchsorted(stops, places[escapes], side="right")
        found = sorted(set(passes.tolist()))  # np.unique would import all of numpy.ma
        runs = [(stops[number], values[escapes[passes == number]]) for number in found]
        done = 0
        for stop, escaped in (*runs, (rows.size, values[:0])):
            first, last = np.searchsorted(places, (done, stop))
            codes = fold(escaped, tables)
            for begin in range(0, max(1, codes.size), _CHUNK_ESCAPES):
                bits = code_bits(codes[begin : begin + _CHUNK_ESCAPES])
                yield rows[done:stop], places[first:last] - done, indices[first:last], bits
                done, first = stop, last


def _in_passes(
    coded: NDArray[np.int32], ends: list[int], tables: FrequencyTables
) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Put what some wavefronts have for each symbol into coding order, pass by pass.

    Args:
        coded: [2, P, C], position by position.
        ends: how many positions are coded when each wavefront is done.
        tables: of the level.

    Returns:
        [2, P * C] in order, and how many are coded when each pass is done.
    """
    parts = [
        coded[:, first:end, group].reshape(2, -1)
        for first, end in itertools.pairwise([0, *ends])
        for group in tables.contexts.passes
    ]
    return np.concatenate(parts, axis=1), np.cumsum([part.shape[1] for part in parts])


def _clamped(
    symbols: NDArray[np.integer[Any]], tables: FrequencyTables
) -> NDArray[np.integer[Any]]:
    """Return the symbols within their limit, [C, h, w]."""
    if symbols.ndim != 3 or symbols.dtype.kind not in "iu":
        raise ValueError(f"expected integers [C, h, w], found {symbols.dtype} {symbols.shape}")
    channels, height, width = symbols.shape
    _check_shape((channels, height, width), tables)
    if symbols.min() < -SYMBOL_LIMIT or symbols.max() > SYMBOL_LIMIT:
        # In the caller's type, which may be wider than int32 or have no sign.
        lowest = max(-SYMBOL_LIMIT, np.iinfo(symbols.dtype).min)
        symbols = np.clip(symbols, lowest, SYMBOL_LIMIT)
    return symbols


def _chunks(ends: list[int], limit: int) -> Iterator[tuple[int, list[int]]]:
    """Group wavefronts: yield a first position and the ends of the wavefronts behind it."""
    start, chunk = 0, list[int]()
    for end in ends:
        if chunk and end - start > limit:
            yield start, chunk
            start, chunk = chunk[-1], []
        chunk.append(end)
    yield start, chunk


def _check_shape(shape: tuple[int, int, int], tables: FrequencyTables) -> None:
    if shape[0] != tables.channels or min(shape) < 1:
        raise ValueError(f"latent of shape {shape} for tables of {tables.channels} channels")


def count_symbols(
    symbols: NDArray[np.integer[Any]], contexts: Contexts, minimum: int, escape: int
) -> NDArray[np.int64]:
    """Count how often each table of a context model would code each of its indices.

    Args:
        symbols: integers [C, h, w].
        contexts: chooses among K tables of each channel.
        minimum: value of index 0.
        escape: index of the escape; values below ``minimum`` and from ``minimum + escape`` on
            count for it.

    Returns:
        [C, K, escape + 1].
    """
    channels, height, width = symbols.shape
    board, latent = empty_board((channels, height, width), np.int32)
    latent[...] = symbols
    order, _, pitch = scan(height, width)
    rows = contexts.contexts(capped(board), order, pitch)
    rows = rows + np.arange(channels) * contexts.count
    offsets = board.take(order, axis=0) - np.int32(minimum)
    indices = np.minimum(offsets.view(np.uint32), np.uint32(escape))
    tables = channels * contexts.count
    counts = np.bincount(
        (rows * (escape + 1) + indices).reshape(-1), minlength=tables * (escape + 1)
    )
    return counts.reshape(channels, contexts.count, escape + 1)


# --- Escapes ---
#
# Exp-Golomb codes of order 0 for values outside a table.
#
#     value ─ fold ─▶ e >= 0 ─ code_bits ─▶ 0 … 0 1 x … x ─ read_code ─▶ e ─ unfold ─▶ value
#
# Values above the table fold to even numbers and values below it to odd ones. A code is n zero bits
# and then the n + 1 bits of e + 1, most significant first (Teuhola, 1978; as in H.264).

# Every symbol within SYMBOL_LIMIT folds below 2^23; more zeros can only be damage.
_MOST_ZEROS = 24


def fold(values: NDArray[np.int32], tables: FrequencyTables) -> NDArray[np.int64]:
    """Number the values outside the table from 0; [E] to [E]."""
    values = values.astype(np.int64)
    above = 2 * (values - tables.maximum - 1)
    below = 2 * (tables.minimum - 1 - values) + 1
    return np.where(values > tables.maximum, above, below)


def unfold(number: int, tables: FrequencyTables) -> int:
    """Return the value that `fold` numbered so."""
    distance, below = divmod(number, 2)
    return tables.minimum - 1 - distance if below else tables.maximum + 1 + distance


def code_bits(numbers: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the codes of [E] numbers behind each other, int32, one element for each bit."""
    plus_one = numbers + 1
    lengths = code_lengths(numbers)
    bits_left = np.repeat(np.cumsum(lengths), lengths) - 1 - np.arange(lengths.sum())
    return (np.repeat(plus_one, lengths) >> bits_left & 1).astype(np.int32)


def code_lengths(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many bits the code of each of [E] numbers has."""
    # Exact: float64 holds these integers, and frexp takes its exponent apart.
    zeros = np.frexp(numbers + 1)[1].astype(np.int64) - 1
    # n zeros and n + 1 bits are the same as the number written in 2n + 1 bits.
    return 2 * zeros + 1


def read_code(read_bit: Callable[[], int]) -> int:
    """Read one code from a source of bits.

    Raises:
        Corrupt: more than 24 zeros, which no encoder writes.
    """
    zeros = 0
    while not read_bit():
        zeros += 1
        if zeros > _MOST_ZEROS:
            raise Corrupt(f"an escaped symbol begins with more than {_MOST_ZEROS} zero bits")
    plus_one = 1
    for _ in range(zeros):
        plus_one = plus_one << 1 | read_bit()
    return plus_one - 1
