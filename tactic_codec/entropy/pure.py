"""The range coder of the ``.tac`` format in plain integers, one symbol at a time.

    (left, size) of 2^24 ─ RangeEncoder.encode … seal ─▶ bytes ─ RangeDecoder.decode ─▶ symbol index

A range coder narrows an interval ``[lower, lower + range)`` with every symbol and sends a number
that lies in the last one (G. N. N. Martin, 1979). Here ``range`` has 64 bits, probabilities have
24, and 32-bit words leave at the top, most significant byte first. This is what constriction 0.5
computes, bit for bit; it stands in where constriction has no build, and it is the coder to read.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from tactic_codec.errors import Corrupt

PRECISION = 24
TOTAL = 1 << PRECISION

WORD_BITS = 32
WORD_BYTES = 4
STATE_BITS = 64
_WORD_MASK = (1 << WORD_BITS) - 1
_STATE_MASK = (1 << STATE_BITS) - 1
_LEAST_RANGE = 1 << (STATE_BITS - WORD_BITS)


class RangeEncoder:
    """Turns intervals of [0, 2^24) into bytes."""

    def __init__(self) -> None:
        self._words: list[int] = []
        self._lower = 0
        self._range = _STATE_MASK

    def encode(self, left: Iterable[int], size: Iterable[int]) -> None:
        """Code symbols that own ``[left, left + size)`` of 2^24, with ``size`` at least 1."""
        lower, range_ = self._lower, self._range
        for start, width in zip(left, size, strict=True):
            scale = range_ >> PRECISION
            lower += scale * start
            range_ = scale * width
            if range_ < _LEAST_RANGE:
                if lower > _STATE_MASK:
                    lower &= _STATE_MASK
                    self._carry()
                self._words.append(lower >> WORD_BITS)
                lower = lower << WORD_BITS & _STATE_MASK
                range_ <<= WORD_BITS
        if lower > _STATE_MASK:
            lower &= _STATE_MASK
            self._carry()
        self._lower, self._range = lower, range_

    def seal(self) -> bytes:
        """Return the shortest bytes from which a decoder reads all symbols."""
        words = b"".join(word.to_bytes(WORD_BYTES, "big") for word in self._words)
        return seal(int.from_bytes(words, "big"), len(words), self._lower, self._range)

    def _carry(self) -> None:
        # The interval lies below 1, so a word that can take the carry exists.
        place = len(self._words) - 1
        while self._words[place] == _WORD_MASK:
            self._words[place] = 0
            place -= 1
        self._words[place] += 1


class RangeDecoder:
    """Turns bytes back into symbol indices; past their end it reads zeros."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._place = 0
        self._range = _STATE_MASK
        # The point that was sent, counted from the lower end of the interval.
        self._offset = self._next_word() << WORD_BITS | self._next_word()

    def decode(self, cumulative: Sequence[int]) -> int:
        """Return the index of the next symbol.

        Args:
            cumulative: N + 1 ascending integers from 0 to 2^24; symbol i owns
                ``[cumulative[i], cumulative[i + 1])``.

        Raises:
            Corrupt: no encoder writes these bytes.
        """
        scale = self._range >> PRECISION
        quantile = self._offset // scale
        if quantile >= TOTAL:
            raise impossible()
        index = bisect_right(cumulative, quantile) - 1
        left = cumulative[index]
        self._offset -= scale * left
        self._range = scale * (cumulative[index + 1] - left)
        if self._range < _LEAST_RANGE:
            self._offset = self._offset << WORD_BITS | self._next_word()
            self._range <<= WORD_BITS
        return index

    def skip(self, intervals: Iterator[tuple[int, int, int]]) -> int | None:
        """Read symbols as long as each is the one that is expected.

        Args:
            intervals: a number of each symbol, and left end and size of what it owns.

        Returns:
            The number of the first one that is another, which `decode` reads; None if none is.
        """
        offset, range_, other = self._offset, self._range, None
        for number, left, size in intervals:
            scale = range_ >> PRECISION
            inside, width = offset - scale * left, scale * size
            if not 0 <= inside < width:
                other = number
                break
            offset, range_ = inside, width
            if range_ < _LEAST_RANGE:
                offset = offset << WORD_BITS | self._next_word()
                range_ <<= WORD_BITS
        self._offset, self._range = offset, range_
        return other

    def _next_word(self) -> int:
        word = self._payload[self._place : self._place + WORD_BYTES]
        self._place += WORD_BYTES
        return int.from_bytes(word.ljust(WORD_BYTES, b"\0"), "big")


def impossible() -> Corrupt:
    """Return what is wrong with a payload that no encoder writes."""
    return Corrupt("the payload holds a number outside every symbol's interval")


def seal(prefix: int, prefix_bytes: int, lower: int, range_: int) -> bytes:
    """Return the shortest bytes that name a point of the encoder's last interval.

    A decoder reads zeros past the end of its bytes, so the best point is the one with most zero
    bytes behind it, and those are not written.

    Args:
        prefix: the words that left the encoder, read as one big-endian integer.
        prefix_bytes: their length.
        lower, range_: the interval ``[lower, lower + range_)`` behind them, in units of 2^-64.
    """
    for zeros in range(STATE_BITS, -1, -8):
        point = -(-lower >> zeros) << zeros  # lower, rounded up to end in this many zero bits
        if point < lower + range_:
            break
    total = (prefix << STATE_BITS) + point  # the point may carry into the prefix
    return total.to_bytes(prefix_bytes + STATE_BITS // 8, "big").rstrip(b"\0")
