"""What symbols cost, and what moving one of them by a step would change.

    symbols [C, h, w] ─ contexts ─▶ rows of tables ─▶ bits of each symbol
                      └ for each symbol, up and down by 1: its own bits, and those of the
                        symbols whose contexts look at it

An encoder that weighs bits against what they show asks this of every symbol, many times. Contexts
are those of the symbols as they stand. With thresholds on sums of neighbours a change is exact for
one move alone, and of two moves at neighbouring positions an estimate. Under linear contexts every
symbol is seen by hundreds of others, by each a little: there what they would cost is taken from the
slopes of their bits over A and S.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tactic_codec.entropy.pure import PRECISION
from tactic_codec.entropy.symbols import code_lengths, fold
from tactic_codec.entropy.tables import (
    CAP,
    SCALE,
    ContextModel,
    FrequencyTables,
    LinearContexts,
    capped,
    empty_board,
)

Bits = NDArray[np.float32]


_PASSES = 2
"""Over a latent that is thinned; each takes as long and changes less."""

_BAND = 1 << 20
"""Symbols whose moves are priced at once there, which bounds the memory for it."""


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
        contexts = self.tables.contexts
        if isinstance(contexts, LinearContexts):
            return self._look_up(symbols, contexts.ranked(_linear_sums(symbols, contexts)))
        return self._look_up(symbols, _chosen(contexts, *_sums(symbols)))

    def moves(self, symbols: NDArray[np.int32]) -> Moves:
        """Return what each symbol of a latent [C, h, w] would change if it alone were moved."""
        contexts = self.tables.contexts
        if isinstance(contexts, LinearContexts):
            return self._linear_moves(symbols, contexts)
        own, shared = _sums(symbols)

        def bits(values: NDArray[np.int32], own_change: int, shared_change: int) -> Bits:
            chosen = _chosen(contexts, own + own_change, shared + shared_change)
            return self._look_up(values, chosen)

        now = bits(symbols, 0, 0)
        # A magnitude that grows or shrinks by 1 is seen by neighbours on the east and south (with
        # weight 2, and by their sum over channels) and on the south-east and south-west.
        seen = {}
        for change in (-1, 1):
            # The sum over channels changes for all channels of the position that looks …
            others = bits(symbols, 0, change) - now
            # … and the channel's own sum for this channel too.
            near = bits(symbols, 2 * change, change) - now - others
            near += others.sum(axis=0)
            far = bits(symbols, change, 0) - now
            seen[change] = _from_east(near) + _from_south(near) + _from_corners(far)
        magnitudes = np.abs(symbols)

        def moved(step: int) -> Bits:
            values = symbols + np.int32(step)
            change = np.minimum(np.abs(values), CAP) - np.minimum(magnitudes, CAP)
            more = bits(values, 0, 0) - now
            more += np.where(change > 0, seen[1], np.where(change < 0, seen[-1], np.float32(0)))
            return more

        return Moves(moved(-1), moved(1))

    def thinned(
        self, symbols: NDArray[np.int32], values: NDArray[np.float32], price: NDArray[np.float32]
    ) -> NDArray[np.int32]:
        """Return symbols that were moved towards zero where the bits are worth the error.

        Args:
            symbols: int32 [C, h, w].
            values: what they were rounded from, [C, h, w].
            price: of a bit at each position, [h, w], as a squared error of symbols; 0 keeps them.
        """
        found = symbols.copy()
        channels, height, width = symbols.shape
        rows = max(1, _BAND // (channels * width))
        bands = [slice(top, top + rows) for top in range(0, height, rows)]
        for band in [band for band in bands if price[band].any()] * _PASSES:
            first = max(0, band.start - 1)  # contexts look one row up
            moves = self.moves(found[:, first : band.stop + 1])
            own = slice(band.start - first, band.stop - first)
            here = found[:, band]
            step = -np.sign(here)
            bits = np.where(step < 0, moves.down[:, own], moves.up[:, own])
            # (e - step)² - e², where the step is one.
            more = 1 - 2 * (values[:, band] - here) * step + price[band] * bits
            here += step * ((more < 0) & (price[band] > 0))
        return found

    def _linear_moves(self, symbols: NDArray[np.int32], contexts: LinearContexts) -> Moves:
        sums = a, s = _linear_sums(symbols, contexts)
        chosen = contexts.ranked(sums)
        now = self._look_up(symbols, chosen)

        def slope(sums: NDArray[np.float32], thresholds: tuple[int, ...], *, of_a: bool) -> Bits:
            """Return how the bits of each symbol change with A, or with S."""
            if not thresholds:
                return np.zeros_like(now)
            # Two thresholds apart, which smooths what is a stair.
            reach = np.float32(max(1, (thresholds[-1] - thresholds[0]) // len(thresholds)))
            low, high = (
                self._look_up(symbols, contexts.ranked(np.stack((to, s) if of_a else (a, to))))
                for to in (sums - reach, sums + reach)
            )
            return (high - low) / (2 * reach)

        by_a = slope(a, contexts.magnitude, of_a=True)
        by_s = slope(s, contexts.sign, of_a=False)
        near_a, far_a, here_a = _blamed(by_a, contexts.matrix[:, 0])
        west_s, north_s, here_s = _blamed(by_s, contexts.matrix[:, 1])
        here = np.abs(capped(symbols))
        m = np.pad(here, ((0, 0), (1, 0), (1, 1)))
        beside, corners = m[:, 1:, :-2] + m[:, :-1, 1:-1], m[:, :-1, :-2] + m[:, :-1, 2:]
        magnitudes = np.abs(symbols)
        signs = _from_east(west_s) + _from_south(north_s) + here_s
        seen = {}
        for change in (-1, 1):
            near = near_a * _scaled(beside, change)
            far = far_a * _scaled(corners, change)
            seen[change] = _from_east(near) + _from_south(near) + _from_corners(far)
            seen[change] += here_a * _scaled(here, change)

        def moved(step: int) -> Bits:
            values = symbols + np.int32(step)
            change = np.minimum(np.abs(values), CAP) - np.minimum(magnitudes, CAP)
            more = self._look_up(values, chosen) - now
            more += np.where(change > 0, seen[1], np.where(change < 0, seen[-1], np.float32(0)))
            more += np.where(change != 0, step * signs, np.float32(0))
            return more

        return Moves(moved(-1), moved(1))

    def _look_up(self, values: NDArray[np.int32], contexts: NDArray[np.integer[Any]]) -> Bits:
        """Return the bits of values in their contexts, all [C, h, w]."""
        tables = self.tables
        rows = contexts + tables.first_rows[:, np.newaxis, np.newaxis]
        offsets = (values - np.int32(tables.minimum)).view(np.uint32)
        indices = np.minimum(offsets, np.uint32(tables.escape))
        bits: Bits = self._bits.take(rows * self._bits.shape[1] + indices)
        escapes = indices == tables.escape
        if escapes.any():
            bits[escapes] += code_lengths(fold(values[escapes], tables))
        return bits


def _sums(symbols: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the sums that choose contexts: own [C, h, w] and shared [h, w]."""
    m = np.pad(np.abs(capped(symbols)).astype(np.int32), ((0, 0), (1, 0), (1, 1)))
    near = m[:, 1:, :-2] + m[:, :-1, 1:-1]
    return 2 * near + m[:, :-1, :-2] + m[:, :-1, 2:], near.sum(axis=0, dtype=np.int32)


def _chosen(
    contexts: ContextModel, own: NDArray[np.int32], shared: NDArray[np.int32]
) -> NDArray[np.intp]:
    """Return the contexts [C, h, w] that sums choose, see `_sums`."""
    chosen = np.searchsorted(contexts.own, own, side="right") * (len(contexts.shared) + 1)
    chosen += np.searchsorted(contexts.shared, shared, side="right")
    return chosen


def _linear_sums(symbols: NDArray[np.int32], contexts: LinearContexts) -> NDArray[np.float32]:
    """Return the sums A and S of each symbol of a latent [C, h, w], [2, C, h, w]."""
    channels, height, width = symbols.shape
    board, latent = empty_board((channels, height, width), np.int8)
    latent[...] = capped(symbols)
    pitch = width + 1
    y, x = np.divmod(np.arange(height * width), width)
    sums = contexts.sums(board, (y + 1) * pitch + x + 1, pitch)
    return sums.transpose(0, 2, 1).reshape(2, *symbols.shape)


def _blamed(slopes: Bits, matrix: NDArray[np.float32]) -> tuple[Bits, Bits, Bits]:
    """Return what the bits of all channels change by with each of the three sources of a sum.

    Args:
        slopes: of bits over the sum, [C, h, w].
        matrix: the weights, [3, C, C].

    Returns:
        [C, h, w] of each source, by the channel that it is taken from, at the position that looks.
    """
    near, far, here = (weights @ slopes.reshape(len(slopes), -1) for weights in matrix)
    return near.reshape(slopes.shape), far.reshape(slopes.shape), here.reshape(slopes.shape)


def _scaled(magnitudes: NDArray[np.int8], change: int) -> Bits:
    """Return what a change by 1 makes of the scaled magnitudes, or sums of two of them."""
    moved = np.clip(magnitudes + change, 0, len(SCALE) - 1)
    return SCALE.take(moved) - SCALE.take(magnitudes)


def _from_east(change: Bits) -> Bits:
    """Give each position what its neighbour on the east changes by."""
    return np.pad(change[:, :, 1:], ((0, 0), (0, 0), (0, 1)))


def _from_south(change: Bits) -> Bits:
    return np.pad(change[:, 1:], ((0, 0), (0, 1), (0, 0)))


def _from_corners(change: Bits) -> Bits:
    """Give each position what its neighbours on the south-east and south-west change by."""
    south = _from_south(change)
    return _from_east(south) + np.pad(south[:, :, :-1], ((0, 0), (0, 0), (1, 0)))
