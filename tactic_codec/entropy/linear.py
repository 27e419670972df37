"""Contexts that weigh everything a decoder knows: neighbours, and channels of the same position.

    seen ─ magnitudes of W + N, NW + NE, and of earlier channels ─ weights ─▶ A ─ thresholds ─┐
         ─ values of W, N, and of earlier channels ─ weights ─▶ S ─ thresholds ───────────────┴▶ k

A says how likely a symbol is not zero, S which sign it has. Both are linear in what is known, as
the logits of a logistic regression, and so whole numbers if the weights are. The channels are coded
in *groups*, one after the other: a channel looks at those of earlier groups at its own position
(channel-conditional coding, Minnen & Singh, ICIP 2020, with a table in place of each density).

The sums are computed in single precision, for speed, and are exact all the same: their terms are
integers whose magnitudes add up to less than 2^24, in whatever order. So every machine finds the
same contexts.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tactic_codec.entropy.contexts import CAP
from tactic_codec.errors import DamagedModel

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
        first, parts = self._magnitude_parts
        context = parts.take(a.astype(np.int32) - first, mode="clip")
        first, parts = self._sign_parts
        context += parts.take(s.astype(np.int32) - first, mode="clip")
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
    def _magnitude_parts(self) -> tuple[np.int32, NDArray[np.intp]]:
        return _parts(self.magnitude, len(self.sign) + 1)

    @cached_property
    def _sign_parts(self) -> tuple[np.int32, NDArray[np.intp]]:
        return _parts(self.sign, 1)


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
