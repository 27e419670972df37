"""The tables of a level, and how coded neighbours choose one of them.

    board ─ neighbours of a part ─▶ contexts ─▶ rows of the tables
    FrequencyTables [T, K, N] ─ cumulative ─▶ interval [left, left + size) of 2^24 of every symbol

Contexts count the magnitudes of neighbours (`ContextModel`), or are learned (`LearnedContexts`).

Tables are integers, fixed when a model is exported. The decoder computes no probability, so every
machine reads the same symbols (Ballé, Johnston, Minnen: Integer Networks for Data Compression with
Latent-Variable Models, ICLR 2019, on what happens otherwise).
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tactic_codec.entropy.learned import LearnedContexts
from tactic_codec.entropy.order import CAP, Integers, Part, Seen
from tactic_codec.entropy.pure import TOTAL
from tactic_codec.errors import DamagedModel

_LARGEST_OWN = 6 * CAP


@dataclass(frozen=True)
class ContextModel:
    """How the magnitudes of coded neighbours choose one of ``count`` tables.

    With |v| capped at 15, and 0 outside the latent::

        o = 2|W| + 2|N| + |NW| + |NE|     in the symbol's channel
        s = sum of |W| + |N|              over all channels
        context = (thresholds of own <= o) * (len(shared) + 1) + (thresholds of shared <= s)

    Attributes:
        own: strictly increasing thresholds, each at least 1; may be empty.
        shared: likewise.

    Raises:
        DamagedModel: thresholds that break this rule.
    """

    own: tuple[int, ...] = ()
    shared: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, thresholds in (("own", self.own), ("shared", self.shared)):
            lower = (0, *thresholds)
            if any(high <= low for low, high in zip(lower, thresholds, strict=False)):
                raise DamagedModel(
                    f"the {name} context thresholds are {list(thresholds)}; expected strictly "
                    "increasing integers from 1"
                )

    @property
    def count(self) -> int:
        """Number of contexts."""
        return (len(self.own) + 1) * (len(self.shared) + 1)

    def groups(self, channels: int) -> tuple[slice, ...]:
        """Return the groups in which so many channels are coded: all at once."""
        return (slice(0, channels),)

    def of(self, seen: Seen, part: Part) -> Integers:
        """Return the contexts [P, C] of a wavefront; all before it must be seen."""
        west, north_west, north, north_east = np.abs(seen.before_front(part)).swapaxes(0, 1)
        if self.count == 1:
            return np.zeros(west.shape, np.intp)
        near = west + north
        own = near + near
        own += north_west
        own += north_east
        context: Integers = self._own_part.take(own)
        if self.shared:
            total = near.sum(axis=1, dtype=np.int64)
            context += np.searchsorted(self.shared, total, side="right")[:, np.newaxis]
        return context

    @cached_property
    def _own_part(self) -> NDArray[np.intp]:
        rank = np.searchsorted(self.own, np.arange(_LARGEST_OWN + 1), side="right")
        return rank * (len(self.shared) + 1)


# --- Tables ---

Contexts = ContextModel | LearnedContexts
"""What chooses among the tables of a channel."""

Intervals = tuple[NDArray[np.uint32], NDArray[np.uint32]]
"""Left ends and sizes, of 2^24."""

SYMBOL_LIMIT = 2**20  # the encoder clamps symbols to it; a trained latent stays far below


@dataclass(frozen=True, eq=False)
class FrequencyTables:
    """One table per set and context, where each channel has a set of its own or shares one.

    Attributes:
        minimum: the value of index 0; index i < N - 1 is the value ``minimum + i``, and the last
            index is the escape, which announces a value outside the table.
        frequencies: uint32 [T, K, N], N at least 3, each at least 1, each table's sum 2^24.
            Any integer array is accepted, checked and kept as a read-only copy.
        contexts: chooses among the K tables of a set; ``contexts.count`` is K.
        sets: integers [C], the set of each channel, from 0 to T - 1; by default channel c has
            set c.

    Raises:
        DamagedModel: the attributes break these rules.
    """

    minimum: int
    frequencies: Integers
    contexts: Contexts = field(default_factory=ContextModel)
    sets: Integers | None = None

    def __post_init__(self) -> None:
        given = np.asarray(self.frequencies)
        if given.ndim != 3 or given.dtype.kind not in "iu" or 0 in given.shape:
            raise DamagedModel(
                f"frequency tables of shape {given.shape} and type {given.dtype}; "
                "expected integers [sets, contexts, symbols]"
            )
        if given.shape[1] != self.contexts.count:
            raise DamagedModel(
                f"{given.shape[1]} tables per channel for {self.contexts.count} contexts"
            )
        sets = np.arange(given.shape[0]) if self.sets is None else np.asarray(self.sets)
        if sets.ndim != 1 or sets.dtype.kind not in "iu" or sets.size == 0:
            raise DamagedModel(f"sets of tables {sets.dtype} {sets.shape}; expected integers [C]")
        if sets.min() < 0 or sets.max() >= given.shape[0]:
            raise DamagedModel(
                f"channels with the sets {sets.min()} to {sets.max()} of {given.shape[0]}"
            )
        if isinstance(self.contexts, LearnedContexts) and self.contexts.channels != sets.size:
            raise DamagedModel(
                f"contexts of {self.contexts.channels} channels for tables of {sets.size}"
            )
        object.__setattr__(self, "sets", sets.astype(np.intp))
        if given.shape[2] < 3:
            raise DamagedModel(f"tables of {given.shape[2]} symbols; expected at least 3")
        if given.min() < 1 or given.max() >= TOTAL:
            raise DamagedModel(
                f"frequencies from {given.min()} to {given.max()}; expected 1 to {TOTAL - 1}"
            )
        sums = given.sum(axis=2, dtype=np.int64)
        if (sums != TOTAL).any():
            channel, context = np.argwhere(sums != TOTAL)[0]
            raise DamagedModel(
                f"the table of set {channel}, context {context} sums to "
                f"{sums[channel, context]}; expected {TOTAL}"
            )
        frequencies = given.astype(np.uint32, order="C")
        frequencies.setflags(write=False)
        object.__setattr__(self, "frequencies", frequencies)
        if self.minimum < -SYMBOL_LIMIT or self.maximum > SYMBOL_LIMIT:
            raise DamagedModel(
                f"table values from {self.minimum} to {self.maximum}; "
                f"expected {-SYMBOL_LIMIT} to {SYMBOL_LIMIT}"
            )

    @property
    def channels(self) -> int:
        """C, the number of channels."""
        assert self.sets is not None
        return int(self.sets.size)

    @property
    def escape(self) -> int:
        """N - 1, the index of the escape symbol."""
        return int(self.frequencies.shape[2]) - 1

    @property
    def maximum(self) -> int:
        """The largest value that needs no escape."""
        return self.minimum + self.escape - 1

    @cached_property
    def first_rows(self) -> NDArray[np.intp]:
        """[C], the row of each channel's context 0 where tables are numbered ``set * K + k``."""
        assert self.sets is not None
        return self.sets.astype(np.intp, copy=False) * self.contexts.count

    @cached_property
    def cumulative(self) -> NDArray[np.uint32]:
        """[T * K, N + 1], from 0 to 2^24: symbol i owns ``[cumulative[i], cumulative[i + 1])``."""
        rows = self.frequencies.reshape(-1, self.escape + 1)
        cumulative = np.zeros((rows.shape[0], rows.shape[1] + 1), np.uint32)
        np.cumsum(rows, axis=1, out=cumulative[:, 1:])
        return cumulative

    @cached_property
    def sure(self) -> NDArray[np.bool_]:
        """[T * K], which tables are sure of zero: of learned contexts alone, see `symbols`."""
        frequencies, zero = self.frequencies.reshape(-1, self.escape + 1), -self.minimum
        if not isinstance(self.contexts, LearnedContexts) or not 0 <= zero < self.escape:
            return np.zeros(len(frequencies), bool)
        return frequencies[:, zero] >= self.contexts.sure

    @cached_property
    def usual(self) -> int:
        """The index of zero, which nearly all symbols have; the first if zero has none."""
        return -self.minimum if 0 <= -self.minimum < self.escape else 0

    @cached_property
    def usual_intervals(self) -> Intervals:
        """Left end and size of the usual symbol's interval in each table, both [T * K]."""
        return self.intervals(np.arange(len(self.cumulative)), self.usual)

    def intervals(self, rows: Integers, indices: Integers | int) -> Intervals:
        """Return left end and size of the intervals of [m] symbols, by their rows and indices."""
        flat = rows * self.cumulative.shape[1] + indices
        left = self.cumulative.take(flat)
        return left, self.cumulative.take(flat + 1) - left
