"""Symbols to payload and back.

    y_hat [C, h, w] ─ parts ─ contexts ─▶ tables ─▶ intervals of 2^24 ─ coder ─▶ payload
    payload ─ decoder ─▶ indices of a part ─▶ values ─▶ contexts of the next … ─▶ y_hat

The encoder knows all symbols and so takes many wavefronts at once; the decoder needs what is before
a part first. `ideal_bits` adds up the very intervals that `encode` codes.

Most symbols of small files are zeros that their tables are sure of. Ahead of a part of four steps
one bit tells whether one of these is something else. If none is, nothing else is coded for them
(as in the skip mode of AlphaVC, Shi et al., ECCV 2022, which loses what is not zero).
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tactic_codec.entropy.coders import Coder, default_coder
from tactic_codec.entropy.order import Integers, Part, Places, Seen, merged, parts
from tactic_codec.entropy.pure import PRECISION, TOTAL
from tactic_codec.entropy.tables import SYMBOL_LIMIT, Contexts, FrequencyTables
from tactic_codec.errors import Corrupt

_CHUNK_ESCAPES = 1 << 12

_HALF = TOTAL // 2
_AS_EXPECTED = TOTAL - TOTAL // 8
"""Frequency of a part in which all symbols are zero whose tables are sure of it."""


class _Coded(NamedTuple):
    """A run of coded symbols, and bits behind them: of escapes, or the one ahead of a part.

    Attributes:
        rows: [m], of the symbols' tables.
        places: of those that are not the usual one.
        indices: of these.
        bits: [b].
        zero: frequency of a bit that is 0.
    """

    rows: Integers
    places: Places
    indices: Integers
    bits: NDArray[np.int32]
    zero: int = _HALF


def encode(symbols: Integers, tables: FrequencyTables, coder: Coder | None = None) -> bytes:
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
    for rows, places, indices, bits, zero in _coded(symbols, tables):
        encoder.put(rows, places, indices)
        encoder.bits(bits, zero)
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
        int32 [C, h, w], or int8 if that was asked for and they fit.

    Raises:
        Corrupt: no encoder writes this payload. Most damage is not seen here but by the
            checksum of the container.
        ValueError: the shape is empty or does not have the tables' channels.
    """
    _check_shape(shape, tables)
    decoder = (coder or default_coder()).decoder(payload, tables)
    fits = narrow and tables.minimum >= -128 and tables.maximum <= 127
    latent, seen = np.zeros(shape, np.int8 if fits else np.int32), Seen(shape)
    otherwise = tables.usual + tables.minimum  # 0, if the tables have it
    for part in _parts_of(tables, seen):
        rows = (tables.contexts.of(seen, part) + tables.first_rows[part.group]).reshape(-1)
        unsure = _unsure(rows, part, tables)
        if unsure is None or decoder.bit(_AS_EXPECTED):
            places, indices = decoder.take(rows)
        else:
            places, indices = decoder.take(rows[unsure])
            places = unsure[places]
        values = indices + np.int32(tables.minimum)
        for place in (indices == tables.escape).nonzero()[0]:
            values[place] = value = unfold(read_code(lambda: decoder.bit(_HALF)), tables)
            if latent.dtype == np.int8 and not -128 <= value <= 127:
                latent = latent.astype(np.int32)
        if otherwise:
            every = np.full(rows.size, otherwise, np.int32)
            every[places] = values
            places, values = np.arange(rows.size), every
        positions, channels = np.divmod(places, rows.size // part.where.size)
        seen.put(part, positions, channels, values)
        y, x = np.divmod(part.where[positions], shape[2] + 2)
        latent[channels + part.group.start, y - 1, x - 1] = values
    return latent


def ideal_bits(symbols: Integers, tables: FrequencyTables) -> float:
    """Return what the tables say that a latent costs, in bits, escapes included.

    A payload is little longer: the coder's rounding adds about 0.0001 bits to each symbol, and
    the last byte is not full.

    Raises:
        ValueError: as `encode`.
    """
    found = 0.0
    for rows, places, indices, bits, zero in _coded(symbols, tables):
        sizes = tables.usual_intervals[1].take(rows)
        sizes[places] = tables.intervals(rows[places], indices)[1]
        of_bits = np.where(bits, TOTAL - zero, zero)
        sizes = np.concatenate([sizes, of_bits])
        found += PRECISION * sizes.size - float(np.log2(sizes).sum())
    return found


def _unsure(rows: Integers, part: Part, tables: FrequencyTables) -> Places | None:
    """Return the places in a part of symbols whose tables are not sure of zero; None if all."""
    if not part.block:
        return None  # one bit for each of many wavefronts costs more than their symbols
    sure = tables.sure.take(rows)
    return np.flatnonzero(~sure) if sure.any() else None


def _coded(symbols: Integers, tables: FrequencyTables) -> Iterator[_Coded]:
    """Yield all that is coded, in order and in runs."""
    symbols = _clamped(symbols, tables)
    usual, seen = tables.usual + tables.minimum, Seen(shape_of(symbols))
    for part, coded in known_parts(symbols, tables.contexts, seen):
        rows = (tables.contexts.of(seen, part) + tables.first_rows[part.group]).reshape(-1)
        coded = coded.reshape(-1)
        places = np.flatnonzero(coded != usual)
        unsure = _unsure(rows, part, tables)
        if unsure is not None:
            surprise = bool(tables.sure.take(rows[places]).any())
            none = places[:0]
            yield _Coded(none, none, none, np.array([surprise], np.int32), _AS_EXPECTED)
            if not surprise:
                rows, coded = rows[unsure], coded[unsure]
                places = np.flatnonzero(coded != usual)
        values = coded[places]
        indices = indices_of(values, tables.minimum, tables.escape)

        # The codes of a wavefront's escapes follow its last symbol.
        stops = np.array(part.ends) * rows.size // part.where.size
        escapes = np.flatnonzero(indices == tables.escape)
        of_escapes = np.searchsorted(stops, places[escapes], side="right")
        found = sorted(set(of_escapes.tolist()))  # np.unique would import all of numpy.ma
        runs = [(stops[number], values[escapes[of_escapes == number]]) for number in found]
        done = 0
        for stop, escaped in (*runs, (rows.size, values[:0])):
            first, last = np.searchsorted(places, (done, stop))
            codes = fold(escaped, tables)
            for begin in range(0, max(1, codes.size), _CHUNK_ESCAPES):
                bits = code_bits(codes[begin : begin + _CHUNK_ESCAPES])
                run = rows[done:stop], places[first:last] - done, indices[first:last]
                yield _Coded(*run, bits)
                done, first = stop, last


def _clamped(symbols: Integers, tables: FrequencyTables) -> Integers:
    """Return the symbols within their limit, [C, h, w]."""
    if symbols.ndim != 3 or symbols.dtype.kind not in "iu":
        raise ValueError(f"expected integers [C, h, w], found {symbols.dtype} {symbols.shape}")
    _check_shape(shape_of(symbols), tables)
    if symbols.min() < -SYMBOL_LIMIT or symbols.max() > SYMBOL_LIMIT:
        # In the caller's type, which may be wider than int32 or have no sign.
        lowest = max(-SYMBOL_LIMIT, np.iinfo(symbols.dtype).min)
        symbols = np.clip(symbols, lowest, SYMBOL_LIMIT)
    return symbols.astype(np.int32) if symbols.dtype.kind == "u" else symbols


def shape_of(symbols: Integers) -> tuple[int, int, int]:
    """Return (C, h, w) of a latent."""
    channels, height, width = symbols.shape
    return channels, height, width


def _check_shape(shape: tuple[int, int, int], tables: FrequencyTables) -> None:
    if shape[0] != tables.channels or min(shape) < 1:
        raise ValueError(f"latent of shape {shape} for tables of {tables.channels} channels")


def indices_of(values: NDArray[np.int32], minimum: int, escape: int) -> NDArray[np.uint32]:
    """Return the indices of values of any shape in a table, by its first value and its escape."""
    # As unsigned integers, values below the table are large too: one comparison for both.
    offsets = (values - np.int32(minimum)).view(np.uint32)
    return np.minimum(offsets, np.uint32(escape))


def count_symbols(
    symbols: Integers, contexts: Contexts, minimum: int, escape: int
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
    counts = np.zeros((symbols.shape[0], contexts.count, escape + 1), np.int64)
    seen = Seen(shape_of(symbols))
    for part, values in known_parts(symbols, contexts, seen):
        chosen, of_group = contexts.of(seen, part), counts[part.group]
        places = (np.arange(len(of_group)) * contexts.count + chosen) * (escape + 1)
        places += indices_of(values, minimum, escape)
        of_group += np.bincount(places.reshape(-1), minlength=of_group.size).reshape(of_group.shape)
    return counts


def known_parts(
    symbols: Integers, contexts: Contexts, seen: Seen
) -> Iterator[tuple[Part, NDArray[np.int32]]]:
    """Yield the parts of a latent [C, h, w] in coding order, each with its symbols [P, G]."""
    channels, height, width = symbols.shape
    for number, group in enumerate(contexts.groups(channels)):
        seen.fill(symbols[group])
        for part in merged(parts(height, width, number, group)):
            if part.block:
                rows, columns = (slice(s.start - 1, s.stop - 1, 2) for s in part.block)
                of_part = symbols[group, rows, columns].transpose(1, 2, 0)
            else:
                y, x = np.divmod(part.where, width + 2)
                of_part = symbols[group, y - 1, x - 1].T
            yield part, of_part.reshape(part.where.size, -1).astype(np.int32, copy=False)
        seen.settle(group)


def _parts_of(tables: FrequencyTables, seen: Seen) -> Iterator[Part]:
    """Yield the parts of a latent that is decoded."""
    for number, group in enumerate(tables.contexts.groups(tables.channels)):
        yield from parts(seen.height, seen.width, number, group)
        seen.settle(group)


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
