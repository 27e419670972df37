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
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tactic_codec.entropy.pure import TOTAL
from tactic_codec.errors import DamagedModel

CAP = 15  # larger magnitudes tell a context no more, and sums of capped ones fit into a byte
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

    @property
    def passes(self) -> tuple[slice, ...]:
        """The channels of a position in the groups in which they are coded: all at once."""
        return (slice(None),)

    def contexts(
        self, seen: NDArray[np.int8], where: NDArray[np.intp], pitch: int
    ) -> NDArray[np.intp]:
        """Return the contexts of all symbols at the positions ``where``.

        Args:
            seen: [board, C] capped symbols; all neighbours must be known.
            where: [P] board indices of positions.
            pitch: board indices from a row to the next.

        Returns:
            [P, C], from 0 to ``count - 1``.
        """
        if self.count == 1:
            return np.zeros((where.size, seen.shape[1]), np.intp)
        near = np.abs(seen.take(where - 1, axis=0))
        near += np.abs(seen.take(where - pitch, axis=0))
        own = near + near
        own += np.abs(seen.take(where - pitch - 1, axis=0))
        own += np.abs(seen.take(where - pitch + 1, axis=0))
        context = self._own_part.take(own)
        if self.shared:
            total = near.sum(axis=1, dtype=np.int64)
            context += np.searchsorted(self.shared, total, side="right")[:, np.newaxis]
        return context

    def decoding(
        self, seen: NDArray[np.int8], where: NDArray[np.intp], pitch: int
    ) -> Iterator[tuple[slice, NDArray[np.intp]]]:
        """Yield the channels of each pass with their contexts, see `contexts`: one pass."""
        yield slice(None), self.contexts(seen, where, pitch)

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


def wavefronts(height: int, width: int) -> Iterator[NDArray[np.intp]]:
    """Yield the board indices of each wavefront, the same ones as in `scan`, and keep none.

    From a position of a wavefront to the next, y grows by 1 and x falls by 2.
    """
    pitch = width + 1
    steps = np.arange(height) * (pitch - 2)
    for t in range(width + 2 * (height - 1)):
        first, last = max(0, (t - width + 2) // 2), min(height - 1, t // 2)
        if first <= last:  # a latent of one column has no position in every second wavefront
            yield steps[first : last + 1] + (pitch + t + 1)


def empty_board(
    shape: tuple[int, int, int], dtype: type[np.integer[Any]]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a board of zeros for a latent of shape (C, h, w), and its view as that latent.

    Returns:
        board [(h + 1) * (w + 1), C], and [C, h, w], two views of the same memory.
    """
    channels, height, width = shape
    board = np.zeros((height + 1, width + 1, channels), dtype)
    return board.reshape(-1, channels), board[1:, 1:].transpose(2, 0, 1)


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
        self, seen: NDArray[np.int8], where: NDArray[np.intp], pitch: int
    ) -> NDArray[np.intp]:
        """Return the contexts of all symbols at the positions ``where``.

        Args:
            seen: [board, C] capped symbols; the positions' own must be known too.
            where: [P] board indices of positions.
            pitch: board indices from a row to the next.

        Returns:
            [P, C], from 0 to ``count - 1``.
        """
        return self.ranked(*self.sums(seen, where, pitch))

    def sums(
        self, seen: NDArray[np.int8], where: NDArray[np.intp], pitch: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return A and S of all symbols at some positions, both [P, C], see `contexts`."""
        near, values = self._near(seen, where, pitch)
        self._add_own(near, values, seen.take(where, axis=0), slice(None))
        return near, values

    def decoding(
        self, seen: NDArray[np.int8], where: NDArray[np.intp], pitch: int
    ) -> Iterator[tuple[slice, NDArray[np.intp]]]:
        """Yield the channels of each group with their contexts [P, group's].

        Args:
            seen: as for `contexts`, but the caller writes a group's symbols before it takes the
                next.
            where: [P] board indices of the positions of one wavefront.
            pitch: board indices from a row to the next.
        """
        near, values = self._near(seen, where, pitch)
        for group in self.passes:
            a, s = near[:, group], values[:, group]
            if group.start:
                self._add_own(a, s, seen.take(where, axis=0)[:, : group.start], group)
            yield group, self.ranked(a, s)

    def ranked(self, a: NDArray[np.float32], s: NDArray[np.float32]) -> NDArray[np.intp]:
        """Return the contexts that sums A and S choose, of the same shape."""
        (low_a, of_a), (low_s, of_s) = self._steps
        context = of_a.take(a.astype(np.int32) - low_a, mode="clip")
        context += of_s.take(s.astype(np.int32) - low_s, mode="clip")
        return context

    def _near(
        self, seen: NDArray[np.int8], where: NDArray[np.intp], pitch: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what A and S have of neighbours, with their bias; both [P, C]."""
        around = seen.take(where - np.array([[1], [pitch], [pitch + 1], [pitch - 1]]), axis=0)
        channels = _not_zero(around)
        west, north, west_corner, east_corner = around.take(channels, axis=2)
        near, far = self.magnitude_matrix[:2].take(channels, axis=1)
        a = _product(SCALE.take(np.abs(west) + np.abs(north)), near)
        a += _product(SCALE.take(np.abs(west_corner) + np.abs(east_corner)), far)
        a += self._bias[0]
        near, far = self.sign_matrix[:2].take(channels, axis=1)
        s = _product(west.astype(np.float32), near)
        s += _product(north.astype(np.float32), far)
        s += self._bias[1]
        return a, s

    def _add_own(
        self,
        a: NDArray[np.float32],
        s: NDArray[np.float32],
        own: NDArray[np.int8],
        group: slice,
    ) -> None:
        """Add to A and S of a group's channels what earlier channels of their positions give.

        Args:
            a: [P, group's], as s.
            own: [P, channels that may be looked at], capped.
            group: the channels of a and s.
        """
        channels = _not_zero(own)
        own = own.take(channels, axis=1)
        a += _product(SCALE.take(np.abs(own)), self.magnitude_matrix[2, channels, group])
        s += _product(own.astype(np.float32), self.sign_matrix[2, channels, group])

    @cached_property
    def _earlier(self) -> NDArray[np.bool_]:
        """[C, C], whether the channel of a column is of an earlier group than that of a row."""
        group = np.searchsorted(self.groups, np.arange(self.channels), side="right")
        earlier: NDArray[np.bool_] = group[:, np.newaxis] > group
        return earlier

    @cached_property
    def magnitude_matrix(self) -> NDArray[np.float32]:
        """[3, C, C], the magnitude weights as they are multiplied with: source, from, to."""
        return _matrix(self.magnitude_weights)

    @cached_property
    def sign_matrix(self) -> NDArray[np.float32]:
        """[3, C, C], likewise the sign weights."""
        return _matrix(self.sign_weights)

    @cached_property
    def _bias(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.magnitude_bias.astype(np.float32), self.sign_bias.astype(np.float32)

    @cached_property
    def _steps(self) -> tuple[tuple[np.int32, NDArray[np.intp]], ...]:
        return _parts(self.magnitude, len(self.sign) + 1), _parts(self.sign, 1)


def _matrix(weights: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    channels = len(weights)
    return np.ascontiguousarray(weights.T, np.float32).reshape(3, channels, channels)


def _product(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply matrices of integers whose sums are exact.

    BLAS kernels may leave floating-point flags behind from lanes that they do not use, and NumPy
    would warn of them now and then.
    """
    with np.errstate(all="ignore"):
        product: NDArray[np.float32] = left @ right
    return product


def _not_zero(seen: NDArray[np.int8]) -> NDArray[np.intp]:
    """Return the channels, the last axis, that are not zero everywhere.

    At low rates these are few, and what the others would be multiplied with is not even read.
    """
    return np.flatnonzero(seen.reshape(-1, seen.shape[-1]).any(axis=0))


def _parts(thresholds: tuple[int, ...], step: int) -> tuple[np.int32, NDArray[np.intp]]:
    """Return what every sum adds to a context, ``step`` for each threshold that it reaches.

    Looking sums up takes a quarter of the time that searching the thresholds does.

    Returns:
        A sum, and what it and those that follow add; smaller sums add as much as the first, larger
        ones as much as the last.
    """
    ends = (thresholds[0] - 1, *thresholds, thresholds[-1] + 1) if thresholds else (0, 1)
    runs = np.diff(ends)
    return np.int32(ends[0]), np.repeat(np.arange(runs.size) * step, runs)


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
