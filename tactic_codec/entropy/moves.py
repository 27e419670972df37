"""What symbols cost, and what moving one of them by a step would change.

    symbols [C, h, w] ─ contexts ─▶ rows of tables ─▶ bits of each symbol
                      └ for each symbol, up and down by 1: its own bits, and those of the
                        neighbours whose contexts look at it

An encoder that weighs bits against what they show asks this of every symbol, many times. Contexts
are those of the symbols as they stand, so a change is exact for one move alone; of two moves at
neighbouring positions it is an estimate.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tactic_codec.entropy.contexts import CAP, capped_magnitudes
from tactic_codec.entropy.escapes import code_lengths, fold
from tactic_codec.entropy.pure import PRECISION
from tactic_codec.entropy.tables import FrequencyTables

Bits = NDArray[np.float32]


class Moves(NamedTuple):
    """Bits that a latent gains, or loses where negative, if one symbol alone is moved.

    Attributes:
        down: [C, h, w], by moving it to the next lower integer.
        up: [C, h, w], by moving it to the next higher one.
    """

    down: Bits
    up: Bits


class Prices:
    """The cost in bits of every symbol of some tables, ready to be looked up."""

    def __init__(self, tables: FrequencyTables) -> None:
        self.tables = tables
        frequencies = tables.frequencies.reshape(-1, tables.escape + 1)
        self._bits = (PRECISION - np.log2(frequencies)).astype(np.float32)

    def symbols(self, symbols: NDArray[np.int32]) -> Bits:
        """Return the bits of each symbol of a latent, both [C, h, w], escapes included."""
        own, shared = self._sums(symbols)
        return self._look_up(symbols, own, shared)

    def moves(self, symbols: NDArray[np.int32]) -> Moves:
        """Return what each symbol of a latent [C, h, w] would change if it alone were moved."""
        own, shared = self._sums(symbols)
        now = self._look_up(symbols, own, shared)
        # A magnitude that grows or shrinks by 1 is seen by neighbours on the east and south (with
        # weight 2, and by their sum over channels) and on the south-east and south-west.
        seen = {}
        for change in (-1, 1):
            # The sum over channels changes for all channels of the position that looks …
            others = self._look_up(symbols, own, shared + change) - now
            # … and the channel's own sum for this channel too.
            near = self._look_up(symbols, own + 2 * change, shared + change) - now - others
            near += others.sum(axis=0)
            far = self._look_up(symbols, own + change, shared) - now
            seen[change] = _from_east(near) + _from_south(near) + _from_corners(far)
        magnitudes = np.abs(symbols)

        def moved(step: int) -> Bits:
            values = symbols + np.int32(step)
            change = np.minimum(np.abs(values), CAP) - np.minimum(magnitudes, CAP)
            bits = self._look_up(values, own, shared) - now
            bits += np.where(change > 0, seen[1], np.where(change < 0, seen[-1], np.float32(0)))
            return bits

        return Moves(moved(-1), moved(1))

    def _sums(self, symbols: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the sums that choose contexts: own [C, h, w] and shared [h, w]."""
        m = np.pad(capped_magnitudes(symbols).astype(np.int32), ((0, 0), (1, 0), (1, 1)))
        near = m[:, 1:, :-2] + m[:, :-1, 1:-1]
        return 2 * near + m[:, :-1, :-2] + m[:, :-1, 2:], near.sum(axis=0, dtype=np.int32)

    def _look_up(
        self, values: NDArray[np.int32], own: NDArray[np.int32], shared: NDArray[np.int32]
    ) -> Bits:
        """Return the bits of values [C, h, w] in the contexts that sums choose."""
        tables = self.tables
        model = tables.contexts
        rows = np.searchsorted(model.own, own, side="right") * (len(model.shared) + 1)
        rows += np.searchsorted(model.shared, shared, side="right")
        rows += tables.first_rows[:, np.newaxis, np.newaxis]
        offsets = (values - np.int32(tables.minimum)).view(np.uint32)
        indices = np.minimum(offsets, np.uint32(tables.escape))
        bits: Bits = self._bits.take(rows * self._bits.shape[1] + indices)
        escapes = indices == tables.escape
        if escapes.any():
            bits[escapes] += code_lengths(fold(values[escapes], tables))
        return bits


def _from_east(change: Bits) -> Bits:
    """Give each position what its neighbour on the east changes by."""
    return np.pad(change[:, :, 1:], ((0, 0), (0, 0), (0, 1)))


def _from_south(change: Bits) -> Bits:
    return np.pad(change[:, 1:], ((0, 0), (0, 1), (0, 0)))


def _from_corners(change: Bits) -> Bits:
    """Give each position what its neighbours on the south-east and south-west change by."""
    south = _from_south(change)
    return _from_east(south) + np.pad(south[:, :, :-1], ((0, 0), (0, 0), (1, 0)))
