"""What the encoder and the decoder of a level share: the coding order, the contexts, the tables.

    symbols [C, h, w] ─ board ─▶ [positions, C] ─ capped ─▶ contexts of the next wavefront
    FrequencyTables [T, K, N] ─ cumulative ─▶ interval [left, left + size) of 2^24 of every symbol

The positions of a latent are coded in wavefronts of equal ``t = x + 2 y``. West, north, north-west
and north-east of a position all have a smaller t, so a whole wavefront is decoded at once:

    t   x=0 1 2 3 4        NW  N  NE
    y=0   0 1 2 3 4         W  ·
    y=1   2 3 4 5 6
    y=2   4 5 6 7 8

Positions are held on a *board*: rows of the latent behind each other, channels last, with one row
of zeros above and one column of zeros on the left. A position's neighbours are then at fixed
distances from its index, and those outside the latent are zeros (the column on the left of a row
also stands on the right of the row above it).

Contexts count the magnitudes of neighbours (`ContextModel`), or weigh everything that a decoder
knows (`LinearContexts`):

    seen ─ magnitudes of W + N, NW + NE, and of earlier channels ─ weights ─▶ A ─ thresholds ─┐
         ─ values of W, N, and of earlier channels ─ weights ─▶ S ─ thresholds ───────────────┴▶ k

A says how likely a symbol is not zero, S which sign it has. Both are linear in what is known, as
the logits of a logistic regression, and so whole numbers if the weights are. The channels are coded
in *groups*, one after the other: a channel looks at those of earlier groups at its own position
(channel-conditional coding, Minnen & Singh, ICIP 2020, with a table in place of each density).

The sums are computed in single precision, for speed, and are exact all the same: their terms are
integers whose magnitudes add up to less than 2^24, in whatever order. So every machine finds the
same contexts.

Tables are integers, fixed when a model is exported. The decoder computes no probability, so every
machine reads the same symbols (Ballé, Johnston, Minnen: Integer Networks for Data Compression with
Latent-Variable Models, ICLR 2019, on what happens otherwise).
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tactic_codec.entropy.pure import TOTAL
from tactic_codec.errors import DamagedModel

Found = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int32]]
"""Symbols that are not zero: their positions among P, their channels among G, their values."""

Read = Callable[[NDArray[np.intp], slice, NDArray[np.integer[Any]]], Found]
"""Reads the symbols of a wavefront's group of channels.

From [P] board indices, the group's G channels, and the contexts [P, G] of its symbols.
"""


class Front(NamedTuple):
    """A wavefront of P positions.

    Attributes:
        where: [P] board indices.
        own: [P, C], its capped symbols.
        around: those of the neighbours W, NW, N and NE, likewise.
    """

    where: NDArray[np.intp]
    own: NDArray[np.int8]
    around: tuple[NDArray[np.int8], ...]


CAP = 15  # larger magnitudes tell a context no more, and sums of capped ones fit into a byte
_LARGEST_OWN = 6 * CAP

_TURNED = 1 << 16
"""Symbols that `board_of` looks at at once."""


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

    @property
    def passes(self) -> tuple[slice, ...]:
        """The channels of a position in the groups in which they are coded: all at once."""
        return (slice(0, None),)

    def contexts(
        self, seen: NDArray[np.int8], where: NDArray[np.intp], pitch: int
    ) -> NDArray[np.integer[Any]]:
        """Return the contexts of all symbols at the positions ``where``.

        Args:
            seen: [board, C] capped symbols; all neighbours must be known.
            where: [P] board indices of positions.
            pitch: board indices from a row to the next.

        Returns:
            [P, C], from 0 to ``count - 1``.
        """
        return self._of(seen.take(where - _neighbours(pitch), axis=0))

    def decode(self, fronts: Iterable[Front], read: Read) -> None:
        """Have the symbols of all wavefronts read, in coding order.

        Args:
            fronts: the wavefronts, see `wavefronts`.
            read: reads the symbols of a wavefront's group.
        """
        for where, own, around in fronts:
            positions, channels, values = read(where, self.passes[0], self._of(around))
            own[positions, channels] = capped(values)

    def _of(self, around: Iterable[NDArray[np.int8]]) -> NDArray[np.integer[Any]]:
        """Return the contexts of symbols with the neighbours W, NW, N and NE, each [P, C]."""
        west, north_west, north, north_east = map(np.abs, around)
        if self.count == 1:
            return np.zeros(west.shape, np.intp)
        near = west + north
        own = near + near
        own += north_west
        own += north_east
        context: NDArray[np.integer[Any]] = self._own_part.take(own)
        if self.shared:
            total = near.sum(axis=1, dtype=np.int64)
            context += np.searchsorted(self.shared, total, side="right")[:, np.newaxis]
        return context

    @cached_property
    def _own_part(self) -> NDArray[np.intp]:
        rank = np.searchsorted(self.own, np.arange(_LARGEST_OWN + 1), side="right")
        return rank * (len(self.shared) + 1)


class Scan(NamedTuple):
    """The coding order of the positions of a latent.

    Attributes:
        order: [h * w] board indices, in coding order.
        ends: for each wavefront, how many positions are coded when it is done.
        pitch: board indices from a row to the next.
    """

    order: NDArray[np.intp]
    ends: list[int]
    pitch: int


def scan(height: int, width: int) -> Scan:
    """Return the coding order of a latent of ``height`` x ``width`` positions."""
    pitch = width + 1
    y, x = np.divmod(np.arange(height * width), width)
    wavefront = x + 2 * y
    # Stable, so that y ascends within a wavefront as it does in the array.
    order = np.argsort(wavefront, kind="stable")
    board_index = (y + 1) * pitch + x + 1
    sizes = np.bincount(wavefront)
    return Scan(board_index[order], np.cumsum(sizes[sizes > 0]).tolist(), pitch)


def wavefronts(height: int, width: int, channels: int) -> Iterator[Front]:
    """Yield the wavefronts, the same ones as in `scan`; their symbols are for the taker to fill in.

    From a position of a wavefront to the next, y grows by 1 and x falls by 2. Neighbours lie at
    most three wavefronts back, so that four are kept, by their y.
    """
    pitch = width + 1
    steps = np.arange(height) * (pitch - 2)
    kept = np.zeros((4, height + 1, channels), np.int8)
    for t in range(width + 2 * (height - 1)):
        now, west, north, north_west = (kept[(t - back) % 4] for back in range(4))
        now[...] = 0
        first, last = max(0, (t - width + 2) // 2), min(height - 1, t // 2)
        if first <= last:  # a latent of one column has no position in every second wavefront
            here, above = slice(first + 1, last + 2), slice(first, last + 1)
            around = west[here], north_west[above], north[above], west[above]
            yield Front(steps[above] + (pitch + t + 1), now[here], around)


def empty_board(
    shape: tuple[int, int, int], dtype: type[np.integer[Any]]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a board of zeros for a latent of shape (C, h, w), and its view as that latent.

    Returns:
        board [(h + 1) * (w + 1), C], and [C, h, w], two views of the same memory.
    """
    channels, height, width = shape
    board = np.zeros((height + 1, width + 1, channels), dtype)
    return board.reshape((height + 1) * (width + 1), channels), board[1:, 1:].transpose(2, 0, 1)


def board_of(symbols: NDArray[np.integer[Any]], some: NDArray[np.intp]) -> NDArray[np.int8]:
    """Return the board of some channels of a latent [C, h, w], its symbols capped."""
    _, height, width = symbols.shape
    board, latent = empty_board((some.size, height, width), np.int8)
    # Some rows at once, because they change their order in memory within the caches.
    step = max(1, _TURNED // max(1, some.size * width))
    for top in range(0, height, step):
        rows = slice(top, top + step)
        latent[:, rows] = capped(symbols[some, rows].astype(np.int32, copy=False))
    return board


def capped(symbols: NDArray[np.int32]) -> NDArray[np.int8]:
    """Return symbols of any shape as bytes, those beyond ±15 as ±15."""
    return np.minimum(np.maximum(symbols, -CAP), CAP).astype(np.int8)


# --- Linear contexts ---

EXACT = 2**24
"""Sums of integers below it are exact in single precision."""

SCALE = np.array(
    [0, 16, 25, 32, 37, 41, 45, 48, 51, 53, 55, 57, 59, 61, 63, 64, 65, 67, 68, 69, 70, 71, 72, 73,
     74, 75, 76, 77, 78, 79, 79], np.float32,
)  # fmt: skip
"""What a magnitude, or the sum of two, counts for: 16 · log₂(1 + n), rounded."""


@dataclass(frozen=True)
class LinearThresholds:
    """What of linear contexts is known without their weights.

    Attributes:
        groups: the first channels of all groups but the first, strictly increasing, from 1 to
            C - 1.
        magnitude: strictly increasing thresholds below ±2^24; may be empty.
        sign: likewise.
    """

    groups: tuple[int, ...]
    magnitude: tuple[int, ...]
    sign: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of contexts."""
        return (len(self.magnitude) + 1) * (len(self.sign) + 1)


@dataclass(frozen=True, eq=False)
class LinearContexts(LinearThresholds):
    """How weighted sums of coded symbols choose one of ``count`` tables.

    With v capped at ±15, and 0 outside the latent, c a symbol's channel and j every channel::

        A = bias + sum of w[c, j] f(|W_j| + |N_j|) + w[c, C + j] f(|NW_j| + |NE_j|)
                        + w[c, 2C + j] f(|v_j|), the last for channels j of earlier groups alone
        S = bias + sum of u[c, j] W_j + u[c, C + j] N_j + u[c, 2C + j] v_j, likewise
        context = (thresholds of magnitude <= A) * (len(sign) + 1) + (thresholds of sign <= S)

    Attributes:
        magnitude_weights: integers w [C, 3C].
        sign_weights: integers u [C, 3C].
        magnitude_bias: integers [C].
        sign_bias: integers [C].

    Raises:
        DamagedModel: attributes that break these rules, weights of a channel that is not of an
            earlier group, or sums that may reach 2^24.
    """

    magnitude_weights: NDArray[np.integer[Any]] = field(repr=False)
    sign_weights: NDArray[np.integer[Any]] = field(repr=False)
    magnitude_bias: NDArray[np.integer[Any]] = field(repr=False)
    sign_bias: NDArray[np.integer[Any]] = field(repr=False)

    def __post_init__(self) -> None:
        channels = self.channels
        starts = (0, *self.groups, channels)
        if any(high <= low for low, high in itertools.pairwise(starts)):
            raise DamagedModel(
                f"groups begin at the channels {list(self.groups)}; expected strictly increasing "
                f"ones from 1 to {channels - 1}"
            )
        for name, largest in (("magnitude", float(SCALE.max())), ("sign", float(CAP))):
            thresholds = (-EXACT, *getattr(self, name), EXACT)
            if any(high <= low for low, high in itertools.pairwise(thresholds)):
                raise DamagedModel(
                    f"the {name} context thresholds are {list(getattr(self, name))}; expected "
                    "strictly increasing integers below ±2^24"
                )
            weights = np.asarray(getattr(self, f"{name}_weights"))
            bias = np.asarray(getattr(self, f"{name}_bias"))
            if (
                weights.dtype.kind not in "iu"
                or bias.dtype.kind not in "iu"
                or weights.shape != (channels, 3 * channels)
                or bias.shape != (channels,)
            ):
                raise DamagedModel(
                    f"{name} weights {weights.dtype} {weights.shape} and bias {bias.dtype} "
                    f"{bias.shape}; expected integers [C, 3C] and [C]"
                )
            sums = largest * np.abs(weights.astype(np.float64)).sum(axis=1)
            sums += np.abs(bias.astype(np.float64))
            if sums.max() >= EXACT:
                raise DamagedModel(f"{name} sums may reach {sums.max():.0f}; expected below 2^24")
            if weights[:, 2 * channels :][~self._earlier].any():
                raise DamagedModel(f"{name} weights look at channels that are not yet decoded")

    @property
    def channels(self) -> int:
        """C, the number of channels."""
        return len(np.asarray(self.magnitude_bias))

    @cached_property
    def passes(self) -> tuple[slice, ...]:
        """The channels of each group."""
        starts = (0, *self.groups, self.channels)
        return tuple(slice(a, b) for a, b in itertools.pairwise(starts))

    def contexts(
        self,
        seen: NDArray[np.int8],
        where: NDArray[np.intp],
        pitch: int,
        matrix: NDArray[np.float32] | None = None,
    ) -> NDArray[np.integer[Any]]:
        """Return the contexts of all symbols at the positions ``where``.

        Args:
            seen: [board, n] capped symbols; the positions' own must be known too.
            where: [P] board indices of positions.
            pitch: board indices from a row to the next.
            matrix: of the channels on the board, all but those that are zero everywhere, [3, 2, n,
                C] of `matrix`; by default it has all.

        Returns:
            [P, C], from 0 to ``count - 1``.
        """
        return self.ranked(self.sums(seen, where, pitch, matrix))

    def sums(
        self,
        seen: NDArray[np.int8],
        where: NDArray[np.intp],
        pitch: int,
        matrix: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Return A and S of all symbols at some positions, [2, P, C], see `contexts`."""
        own = seen.take(where, axis=0)
        around = seen.take(where - _neighbours(pitch), axis=0)
        matrix = self.matrix if matrix is None else matrix
        with _no_flags():
            sums = self._near(around, matrix[:2])
            sums += np.stack([SCALE.take(np.abs(own)), own]) @ matrix[2]
        return sums

    def decode(self, fronts: Iterable[Front], read: Read) -> None:
        """Have the symbols of all wavefronts read, see `ContextModel.decode`."""
        # Channels are kept in the order in which they first have a symbol that is not zero, and
        # only those that have had one are looked at.
        column = np.full(self.channels, -1)
        known, matrix = 0, np.empty_like(self.matrix[:2])
        with _no_flags():
            for where, seen, around in fronts:
                near = np.stack([symbols[:, :known] for symbols in around])
                sums = self._near(near, matrix[:, :, :known])
                for group in self.passes:
                    positions, channels, values = read(where, group, self.ranked(sums[:, :, group]))
                    if not values.size:
                        continue
                    small = capped(values)
                    of_all = channels + group.start
                    for new in set(of_all[column[of_all] < 0].tolist()):
                        column[new], matrix[:, :, known] = known, self.matrix[:2, :, new]
                        known += 1
                    seen[positions, column[of_all]] = small
                    if group.stop < self.channels:
                        own = np.zeros((2, where.size, group.stop - group.start), np.float32)
                        own[:, positions, channels] = SCALE.take(np.abs(small)), small
                        sums[:, :, group.stop :] += own @ self.matrix[2, :, group, group.stop :]

    def ranked(self, sums: NDArray[np.float32]) -> NDArray[np.integer[Any]]:
        """Return the contexts that sums A and S, [2, …], choose."""
        return stepped(sums, self._steps)

    def _near(self, around: NDArray[np.int8], matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what A and S have of neighbours, with their bias.

        Args:
            around: [4, P, n], the symbols W, NW, N, NE of some channels.
            matrix: [2, 2, n, C], their weights, see `matrix`.

        Returns:
            [2, P, C].
        """
        source = np.empty((2, 2, *around.shape[1:]), np.float32)
        magnitudes = np.abs(around)
        source[:, 0] = SCALE.take(magnitudes[:2] + magnitudes[2:])
        source[:, 1] = around[::2]
        found: NDArray[np.float32]
        found, far = source @ matrix
        found += far
        found += self._bias
        return found

    @cached_property
    def _earlier(self) -> NDArray[np.bool_]:
        """[C, C], whether the channel of a column is of an earlier group than that of a row."""
        group = np.searchsorted(self.groups, np.arange(self.channels), side="right")
        earlier: NDArray[np.bool_] = group[:, np.newaxis] > group
        return earlier

    @cached_property
    def matrix(self) -> NDArray[np.float32]:
        """[3, 2, C, C], the weights as they are multiplied with: source, of A or S, from, to."""
        parts = [
            np.ascontiguousarray(weights.T, np.float32).reshape(3, self.channels, self.channels)
            for weights in (self.magnitude_weights, self.sign_weights)
        ]
        return np.stack(parts, axis=1)

    @cached_property
    def _bias(self) -> NDArray[np.float32]:
        """[2, 1, C]."""
        return np.stack([self.magnitude_bias, self.sign_bias]).astype(np.float32)[:, np.newaxis]

    @cached_property
    def _steps(self) -> tuple[tuple[int, NDArray[np.integer[Any]]], ...]:
        small = np.min_scalar_type(self.count)  # what is looked up most stays in the caches
        parts = step_table(self.magnitude, len(self.sign) + 1), step_table(self.sign, 1)
        return tuple((low, adds.astype(small)) for low, adds in parts)


def _neighbours(pitch: int) -> NDArray[np.intp]:
    """[4, 1], how far W, NW, N and NE lie before a position."""
    return np.array([[1], [pitch + 1], [pitch], [pitch - 1]])


def _no_flags() -> np.errstate:
    """Be silent about floating-point flags, which matrix products of exact sums do not mean.

    BLAS kernels may leave them behind from lanes that they do not use.
    """
    return np.errstate(all="ignore")


def stepped(
    sums: NDArray[np.float32], steps: Sequence[tuple[int, NDArray[np.integer[Any]]]]
) -> NDArray[Any]:
    """Return what sums A and S, [2, …], add up to, see `step_table`."""
    (low_a, of_a), (low_s, of_s) = steps
    a, s = sums.astype(np.int32)
    a -= low_a
    s -= low_s
    context: NDArray[np.integer[Any]] = of_a.take(a, mode="clip")
    context += of_s.take(s, mode="clip")
    return context


def step_table(thresholds: tuple[int, ...], step: int) -> tuple[int, NDArray[np.intp]]:
    """Return what every sum adds to a context, ``step`` for each threshold that it reaches.

    Looking sums up takes a quarter of the time that searching the thresholds does.

    Returns:
        A sum, and what it and those that follow add; smaller sums add as much as the first, larger
        ones as much as the last.
    """
    ends = (thresholds[0] - 1, *thresholds, thresholds[-1] + 1) if thresholds else (0, 1)
    runs = np.diff(ends)
    return ends[0], np.repeat(np.arange(runs.size) * step, runs)


# --- Tables ---

Contexts = ContextModel | LinearContexts
"""What chooses among the tables of a channel."""

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
    frequencies: NDArray[np.integer[Any]]
    contexts: Contexts = field(default_factory=ContextModel)
    sets: NDArray[np.integer[Any]] | None = None

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
        if isinstance(self.contexts, LinearContexts) and self.contexts.channels != sets.size:
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
    def usual(self) -> int:
        """The index of zero, which nearly all symbols have; the first if zero has none."""
        return -self.minimum if 0 <= -self.minimum < self.escape else 0

    @cached_property
    def usual_intervals(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Left end and size of the usual symbol's interval in each table, both [T * K]."""
        return self.intervals(np.arange(len(self.cumulative)), self.usual)

    def intervals(
        self, rows: NDArray[np.integer[Any]], indices: NDArray[np.integer[Any]] | int
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Return left end and size of the intervals of [m] symbols, by their rows and indices."""
        flat = rows * self.cumulative.shape[1] + indices
        left = self.cumulative.take(flat)
        return left, self.cumulative.take(flat + 1) - left
