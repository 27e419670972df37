"""What symbols cost, and what moving one of them by a step would change.

    symbols [C, h, w] ─ contexts ─▶ rows of tables ─▶ bits of each symbol
                      └ for each symbol, up and down by 1: its own bits, and those of the
                        symbols whose contexts look at it

An encoder that weighs bits against what they show asks this of every symbol, many times. Contexts
are those of the symbols as they stand. With thresholds on sums of neighbours a change is exact for
one move alone, and of two moves at neighbouring positions an estimate. Under learned contexts every
symbol is seen by hundreds of others, by each a little: there what they would cost is taken from the
slopes of their bits over A and S, and of these over what they see.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tactic_codec.entropy.learned import (
    CORNERS,
    EXACT,
    SCALE,
    SIDES,
    LearnedContexts,
    step_table,
    stepped,
)
from tactic_codec.entropy.order import CAP, Floats, Integers, Seen, Symbols, capped
from tactic_codec.entropy.pure import PRECISION
from tactic_codec.entropy.symbols import code_lengths, fold, indices_of, known_parts, shape_of
from tactic_codec.entropy.tables import FrequencyTables

Bits = Floats

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

    def symbols(self, symbols: Symbols) -> Bits:
        """Return the bits of each symbol of a latent, both [C, h, w], escapes included."""
        contexts, seen = self.tables.contexts, Seen(shape_of(symbols))
        found = np.empty(symbols.shape, np.float32)
        for part, values in known_parts(symbols, contexts, seen):
            rows = contexts.of(seen, part) + self.tables.first_rows[part.group]
            y, x = np.divmod(part.where, seen.width + 2)
            found[part.group, y - 1, x - 1] = self._bits_in(rows, values, self._bits).T
        return found

    def moves(self, symbols: Symbols) -> Moves:
        """Return what each symbol of a latent [C, h, w] would change if it alone were moved."""
        steps = [np.full_like(symbols, step) for step in (-1, 1)]
        return Moves(*self._moved(symbols, steps, slice(None)))

    def _moved(self, symbols: Symbols, steps: list[Symbols], some: Any) -> Iterator[Bits]:
        """Yield what each symbol of some channels would change by each of some steps."""
        contexts = self.tables.contexts
        if isinstance(contexts, LearnedContexts):
            yield from self._learned_moves(symbols, contexts, steps, some)
            return
        own, shared = _sums(symbols)

        def bits(values: Symbols, own_change: int, shared_change: int) -> Bits:
            rows = np.searchsorted(contexts.own, own + own_change, side="right")
            rows *= len(contexts.shared) + 1
            rows += np.searchsorted(contexts.shared, shared + shared_change, side="right")
            rows += self.tables.first_rows[:, np.newaxis, np.newaxis]
            return self._bits_in(rows, values, self._bits)

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
            near, far = (np.pad(more, ((0, 0), (0, 1), (1, 1))) for more in (near, far))
            seen[change] = near[:, :-1, 2:] + near[:, 1:, 1:-1]
            seen[change] += far[:, 1:, 2:] + far[:, 1:, :-2]
        for step in steps:
            values = symbols + step
            grown = _grown(symbols, values)
            more = bits(values, 0, 0) - now
            more += np.where(grown > 0, seen[1], np.where(grown < 0, seen[-1], np.float32(0)))
            yield more[some]

    def thinned(self, symbols: Symbols, values: Floats, price: Floats) -> Symbols:
        """Return symbols that were moved towards zero where the bits are worth the error.

        Args:
            symbols: int32 [C, h, w].
            values: what they were rounded from, [C, h, w].
            price: of a bit at each position, [h, w], as a squared error of symbols; 0 keeps them.
        """
        found = symbols.copy()
        channels, height, width = symbols.shape
        rows = max(2, _BAND // (channels * width) // 2 * 2)
        bands = [slice(top, top + rows) for top in range(0, height, rows)]
        for band in [band for band in bands if price[band].any()] * _PASSES:
            # Contexts look one row up and down; steps are told by even rows.
            first = max(0, band.start - 2)
            around = found[:, first : band.stop + 1]
            own = slice(band.start - first, band.stop - first)
            some = np.flatnonzero(found[:, band].any(axis=(1, 2)))  # nearly all symbols are 0
            step = -np.sign(around)
            (bits,) = self._moved(around, [step], some)
            here, step = found[some, band], step[some, own]
            # (e - step)² - e², where the step is one.
            more = 1 - 2 * (values[some, band] - here) * step + price[band] * bits[:, own]
            found[some, band] += step * ((more < 0) & (price[band] > 0))
        return found

    @cached_property
    def _slopes(self) -> tuple[list[tuple[int, NDArray[np.intp]]], list[Bits]]:
        """What A and S add to rows of tables that are finer than contexts, and these tables.

        Of each symbol they have the bits, and how these change with A and with S, taken two
        thresholds apart, which smooths what is a stair.
        """
        contexts = self.tables.contexts
        assert isinstance(contexts, LearnedContexts)
        sides = contexts.magnitude, contexts.sign
        reaches = [max(1, (t[-1] - t[0]) // len(t)) if t else 1 for t in sides]
        shifts = [(-reach, 0, reach) for reach in reaches]
        cuts = [
            tuple(sorted({t + to for t in side for to in shift}))
            for side, shift in zip(sides, shifts, strict=True)
        ]
        ranks = [
            [np.searchsorted(side, np.array([-EXACT, *cut]) + to, side="right") for to in shift]
            for side, cut, shift in zip(sides, cuts, shifts, strict=True)
        ]
        bits = self._bits.reshape(-1, len(sides[0]) + 1, len(sides[1]) + 1, self._bits.shape[1])

        def table(of_a: int, of_s: int) -> Bits:
            found: Bits = bits[:, ranks[0][of_a]][:, :, ranks[1][of_s]]
            return found

        by_a = (table(2, 1) - table(0, 1)) / np.float32(2 * reaches[0])
        by_s = (table(1, 2) - table(1, 0)) / np.float32(2 * reaches[1])
        adds = [step_table(cuts[0], len(cuts[1]) + 1), step_table(cuts[1], 1)]
        return adds, [found.reshape(-1, bits.shape[-1]) for found in (table(1, 1), by_a, by_s)]

    def _learned_moves(
        self, symbols: Symbols, contexts: LearnedContexts, steps: list[Symbols], some: Any
    ) -> Iterator[Bits]:
        adds, (bits, *slopes) = self._slopes
        assert self.tables.sets is not None
        first_rows = self.tables.sets * (len(bits) // len(self.tables.frequencies))
        shape = shape_of(symbols)
        known, rows = Seen(shape), np.empty(shape, np.intp)
        first = contexts.groups(shape[0])[0]
        # What bits change by with the two numbers of each channel, for A and S: where they are of
        # an earlier group, of the same, and of the first, whose wavefronts know less.
        framed = (shape[1] + 2, shape[2] + 2)
        earlier, own = np.zeros((2, 2, 2, shape[0], *framed), np.float32)
        of_fronts = np.zeros((2, 2, first.stop, *framed), np.float32)
        for part, values in known_parts(symbols, contexts, known):
            layers = contexts.sums(known, part)
            of_part = stepped([sums for _, sums in layers], adds) + first_rows[part.group]
            y, x = np.divmod(part.where, framed[1])
            rows[part.group, y - 1, x - 1] = of_part.T
            indices = indices_of(values, self.tables.minimum, self.tables.escape)
            flat = of_part * bits.shape[1] + indices
            by_sums = [slope.take(flat) for slope in slopes]
            blame = contexts.blame(known, part, by_sums, [units for units, _ in layers])
            for kind, (of_earlier, of_own) in enumerate(
                np.split(found, [known.before.size], axis=2) for found in blame
            ):
                total = own if part.block else of_fronts
                for number in (0, 1):
                    plane = earlier[kind, number]
                    plane[known.before[:, np.newaxis], y, x] += of_earlier[:, number].T
                    plane = total[kind, number]
                    plane[part.group, y, x] = of_own[:, number].T
        effect = _effect(symbols, earlier, own, of_fronts)
        symbols, rows = symbols[some], rows[some]
        now = self._bits_in(rows, symbols, bits)
        for step in steps:
            values = symbols + step[some]
            grown = _grown(symbols, values)
            more = self._bits_in(rows, values, bits) - now
            for change in (-1, 1):
                np.add(more, effect[change][some], out=more, where=grown == change)
            more += np.where(grown != 0, step[some] * effect[0][some], np.float32(0))
            yield more

    def _bits_in(self, rows: Integers, values: Symbols, bits: Bits) -> Bits:
        """Return the bits of values by rows of a table, all of one shape."""
        indices = indices_of(values, self.tables.minimum, self.tables.escape)
        found: Bits = bits.take(rows * bits.shape[1] + indices)
        escapes = indices == self.tables.escape
        if escapes.any():
            found[escapes] += code_lengths(fold(values[escapes], self.tables))
        return found


def _grown(symbols: Symbols, values: Symbols) -> Symbols:
    """Return by how much the magnitudes of values, as contexts see them, are above symbols'."""
    grown: Symbols = np.minimum(np.abs(values), CAP) - np.minimum(np.abs(symbols), CAP)
    return grown


def _sums(symbols: Symbols) -> tuple[Symbols, Symbols]:
    """Return the sums that choose contexts: own [C, h, w] and shared [h, w]."""
    m = np.pad(np.abs(capped(symbols)).astype(np.int32), ((0, 0), (1, 0), (1, 1)))
    near = m[:, 1:, :-2] + m[:, :-1, 1:-1]
    return 2 * near + m[:, :-1, :-2] + m[:, :-1, 2:], near.sum(axis=0, dtype=np.int32)


def _effect(symbols: Symbols, earlier: Bits, own: Bits, of_fronts: Bits) -> dict[int, Bits]:
    """Return what a move of each symbol would change in the bits of all that see it.

    Args:
        symbols: [C, h, w].
        earlier: [2, 2, C, h + 2, w + 2], what these bits change by with both numbers of a channel
            of an earlier group, of A and of S, see `LearnedContexts`.
        own: likewise of the same group.
        of_fronts: likewise of the first group in its wavefronts, [2, 2, G, h + 2, w + 2].

    Returns:
        [C, h, w] for a magnitude that falls by 1, for one that grows by 1, and under 0 what is
        added to either for a value that grows by 1.
    """
    m = np.pad(np.abs(capped(symbols)).astype(np.int32), ((0, 0), (1, 1), (1, 1)))
    first = slice(0, of_fronts.shape[2])
    (here, near), (value, around) = earlier
    (beside, corners), (across, along) = own
    (near_front, far_front), (west, north) = of_fronts
    found = {0: value + _sum_at(around, SIDES)}
    found[0] += _sum_at(across, SIDES[:2]) + _sum_at(along, SIDES[2:])
    found[0][first] += _sum_at(west, SIDES[1:2]) + _sum_at(north, SIDES[3:])
    for change in (-1, 1):
        scaled = partial(_scaled, change)
        found[change] = here * scaled(m)
        found[change] += _sum_at((near + beside) * scaled(_sum_at(m, SIDES)), SIDES)
        found[change] += _sum_at(corners * scaled(_sum_at(m, CORNERS)), CORNERS)
        front = near_front * scaled(_sum_at(m[first], SIDES[::2]))
        found[change][first] += _sum_at(front, SIDES[1::2])
        front = far_front * scaled(_sum_at(m[first], CORNERS[:2]))
        found[change][first] += _sum_at(front, CORNERS[2:])
    return {change: of_change[:, 1:-1, 1:-1] for change, of_change in found.items()}


def _sum_at(planes: NDArray[Any], places: Sequence[tuple[int, int]]) -> NDArray[Any]:
    """Return the sum of the neighbours of each position, of planes [n, h + 2, w + 2]."""
    found, (height, width) = np.zeros_like(planes), planes.shape[1:]
    for down, right in places:
        rows, columns = (slice(1 + d, side - 1 + d) for d, side in ((down, height), (right, width)))
        found[:, 1:-1, 1:-1] += planes[:, rows, columns]
    return found


def _scaled(change: int, magnitudes: Symbols) -> Bits:
    """Return what a change by 1 makes of the scaled magnitudes, or sums of several of them."""
    moved = np.clip(magnitudes + change, 0, len(SCALE) - 1)
    scale = SCALE.astype(np.float32)
    found: Bits = scale.take(moved) - scale.take(magnitudes)
    return found
