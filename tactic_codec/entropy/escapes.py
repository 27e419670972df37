"""Exp-Golomb codes of order 0 for values outside a table.

    value ─ fold ─▶ e >= 0 ─ code_bits ─▶ 0 … 0 1 x … x ─ read_code ─▶ e ─ unfold ─▶ value

Values above the table fold to even numbers and values below it to odd ones. A code is n zero bits
and then the n + 1 bits of e + 1, most significant first (Teuhola, 1978; as in H.264).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tactic_codec.entropy.tables import FrequencyTables
from tactic_codec.errors import Corrupt

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


def code_bits(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the codes of [E] numbers behind each other, one array element per bit."""
    plus_one = numbers + 1
    lengths = code_lengths(numbers)
    bits_left = np.repeat(np.cumsum(lengths), lengths) - 1 - np.arange(lengths.sum())
    return np.repeat(plus_one, lengths) >> bits_left & 1


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
