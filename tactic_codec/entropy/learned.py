"""Contexts by a small network of whole numbers that sees everything a decoder knows.

    magnitudes here and around ─ units, 0 to 127 ─ weights ─▶ A ─ thresholds ─┐
    values here and around ─ units, -127 to 127 ─ weights ─▶ S ─ thresholds ──┴▶ k

A says how likely a symbol is not zero, S which sign it has. Channels are coded in *groups*, one
after the other, each over the whole latent (channel-conditional coding, Minnen & Singh, ICIP 2020):
the first in wavefronts, the others in four *steps*, by whether the row and the column are even, so
that a group takes four passes of whatever size (checkerboard contexts, He et al., CVPR 2021, in
four steps as in DCVC-DC, Li, Li & Lu, CVPR 2023; both with a density, not tables):

    step  x=0 1 2 3      A channel of an earlier group is known everywhere. Of its own group a
    y=0     0 2 0 2      symbol of step 1 knows the corners, of step 2 the sides, of step 3 both,
    y=1     3 1 3 1      of step 0 nothing.

The sums are computed in single precision, for speed, and are exact all the same: their terms are
integers whose magnitudes add up to less than 2^24, in whatever order. So every machine finds the
same contexts.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tactic_codec.entropy.order import CAP, Floats, Integers, Part, Seen
from tactic_codec.errors import DamagedModel

EXACT = 2**24
"""Sums of integers below it are exact in single precision."""

SCALE = np.rint(16 * np.log2(1 + np.arange(4 * CAP + 1))).astype(np.uint8)
"""What a magnitude, or the sum of up to four, counts for: 16 · log₂(1 + n), rounded."""

LARGEST_UNIT = 127

STEPS = 4


@dataclass(frozen=True)
class LearnedThresholds:
    """What of learned contexts is known without their weights.

    Attributes:
        starts: the first channels of all groups but the first, strictly increasing, from 1 to
            C - 1.
        magnitude: strictly increasing thresholds below ±2^24; may be empty.
        sign: likewise.
        sure: the frequency of zero, of 2^24, from which on a table is *sure* of it.
    """

    starts: tuple[int, ...]
    magnitude: tuple[int, ...]
    sign: tuple[int, ...]
    sure: int

    @property
    def count(self) -> int:
        """Number of contexts."""
        return (len(self.magnitude) + 1) * (len(self.sign) + 1)


class Layers(NamedTuple):
    """The weights of A, or of S, all integers, with G groups and U units.

    Attributes:
        units: [G, U, 2, C], of the two numbers of each channel, see `LearnedContexts`.
        unit_bias: [G, 4, U], of each step.
        weights: [C, U + 2], of the units and of the two numbers of the same channel.
        bias: [C].
    """

    units: Integers
    unit_bias: Integers
    weights: Integers
    bias: Integers


class _Ready(NamedTuple):
    """Layers in single precision, those of units divided.

    Attributes:
        units: [G, 2, C, U].
        start: [G, 4, U], with half a step for rounding.
        weights: of units [U, C].
        near: of the two numbers of a channel itself [2, C].
        bias: [C].
    """

    units: Floats
    start: Floats
    weights: Floats
    near: Floats
    bias: Floats


class _Kind(NamedTuple):
    """What A and S differ in.

    Attributes:
        name: in model folders.
        least: value of a unit.
        largest: number that is summed.
        divisor: of a unit's sum. Values are smaller than scaled magnitudes, and signs weigh more.
    """

    name: str
    least: int
    largest: int
    divisor: int


KINDS = (
    _Kind("magnitude", 0, int(SCALE[-1]), 1024),
    _Kind("sign", -LARGEST_UNIT, 4 * CAP, 64),
)


@dataclass(frozen=True, eq=False)
class LearnedContexts(LearnedThresholds):
    """How a network of two layers chooses one of ``count`` tables.

    Of each channel j a symbol has two numbers, with v capped at ±15, and 0 outside the latent and
    where it is not decoded yet::

                channels of earlier groups                 channels of its own group
        for A   f(|v|), f(|W| + |E| + |N| + |S|)           f(|W| + |E| + |N| + |S|),
                                                           f(|NW| + |NE| + |SW| + |SE|)
        for S   v,      W + E + N + S                      W + E, N + S

        unit = clip(floor((unit_bias[step] + sum of units · numbers + d / 2) / d))
        sum  = bias + sum of weights[c, u] · unit + weights[c, U], weights[c, U + 1] · numbers of c
        context = (thresholds of magnitude <= A) * (len(sign) + 1) + (thresholds of sign <= S)

    Units of A are clipped to 0 … 127, those of S to ±127; d is 1024 for A and 64 for S.

    Attributes:
        layers: of A and of S.

    Raises:
        DamagedModel: attributes that break these rules, units that see channels of later groups,
            or sums that may reach 2^24.
    """

    layers: tuple[Layers, Layers]

    def __post_init__(self) -> None:
        channels = self.channels
        starts = (0, *self.starts, channels)
        if any(high <= low for low, high in itertools.pairwise(starts)):
            raise DamagedModel(
                f"groups begin at the channels {list(self.starts)}; expected strictly increasing "
                f"ones from 1 to {channels - 1}"
            )
        for kind, layers in zip(KINDS, self.layers, strict=True):
            thresholds = (-EXACT, *getattr(self, kind.name), EXACT)
            if any(high <= low for low, high in itertools.pairwise(thresholds)):
                raise DamagedModel(
                    f"the {kind.name} context thresholds are {list(getattr(self, kind.name))}; "
                    "expected strictly increasing integers below ±2^24"
                )
            units, *_ = layers
            count = units.shape[1] if units.ndim == 4 else 0
            shapes = [array.shape for array in layers]
            expected = [
                (len(self.starts) + 1, count, 2, channels),
                (len(self.starts) + 1, STEPS, count),
                (channels, count + 2),
                (channels,),
            ]
            if any(array.dtype.kind not in "iu" for array in layers) or shapes != expected:
                raise DamagedModel(
                    f"{kind.name} weights of types {[str(array.dtype) for array in layers]} and "
                    f"shapes {shapes}; expected integers [G, U, 2, C], [G, 4, U], [C, U + 2], [C]"
                )
            sizes = [np.abs(array.astype(np.float64)) for array in layers]
            of_units = kind.largest * sizes[0].sum(axis=(2, 3)) + sizes[1].max(axis=1)
            of_units += kind.divisor // 2
            terms = np.array([LARGEST_UNIT] * count + [kind.largest] * 2)
            largest = max(
                of_units.max(initial=0), ((sizes[2] * terms).sum(axis=1) + sizes[3]).max()
            )
            if largest >= EXACT:
                raise DamagedModel(f"{kind.name} sums may reach {largest:.0f}; expected below 2^24")
            for number, stop in enumerate(starts[1:]):
                if units[number, ..., stop:].any():
                    raise DamagedModel(f"{kind.name} units see channels that are not yet decoded")

    @property
    def channels(self) -> int:
        """C, the number of channels."""
        return int(np.asarray(self.layers[0].bias).size)

    def groups(self, channels: int) -> tuple[slice, ...]:
        """Return the groups in which its channels are coded."""
        starts = (0, *self.starts, channels)
        return tuple(slice(*span) for span in itertools.pairwise(starts))

    def of(self, seen: Seen, part: Part) -> Integers:
        """Return the contexts [P, G] of a part; all before it must be seen."""
        return stepped([sums for _, sums in self.sums(seen, part)], self._steps)

    def sums(self, seen: Seen, part: Part) -> list[tuple[Floats, Floats]]:
        """Return of A and of S the units [P, U] and the sums [P, G] of a part, see `of`."""
        found, group, own = [], part.group, slice(seen.before.size, None)
        matrices = self._units_of(seen, part)
        # Sums are exact. What BLAS kernels flag comes from lanes that they do not use.
        with np.errstate(all="ignore"):
            for kind, known, matrix, ready in zip(
                KINDS, _known(seen, part), matrices, self._ready, strict=True
            ):
                unit: Floats = known.reshape(len(known), -1) @ matrix
                unit += ready.start[part.number, part.step]
                np.floor(unit, out=unit)
                np.maximum(unit, kind.least, out=unit)
                np.minimum(unit, LARGEST_UNIT, out=unit)
                total: Floats = unit @ ready.weights[:, group]
                total += ready.bias[group]
                for number in _of_own(part, kind):
                    total += known[:, number, own] * ready.near[number, group]
                found.append((unit, total))
        return found

    def _units_of(self, seen: Seen, part: Part) -> list[Floats]:
        """Return the weights of a group's units for what is seen, of A and of S, [2n, U]."""
        if seen.units is None or seen.units[0] != part.number:
            columns = np.append(seen.before, np.arange(part.group.start, part.group.stop))
            found = [ready.units[part.number].take(columns, axis=1) for ready in self._ready]
            seen.units = part.number, [matrix.reshape(-1, matrix.shape[2]) for matrix in found]
        return seen.units[1]

    def blame(
        self, seen: Seen, part: Part, slopes: Sequence[Floats], units: Sequence[Floats]
    ) -> list[Floats]:
        """Return what something changes by with all that a part's symbols know.

        Args:
            seen: what it is made of.
            part: of the latent.
            slopes: what it changes by with A and with S, each [P, G].
            units: what `sums` returned.

        Returns:
            Of A and of S [P, 2, n]: with the two numbers of each channel that is seen, the group's
            last; 0 where they are not known.
        """
        found, own = [], slice(seen.before.size, None)
        for kind, by_sum, unit, matrix, ready in zip(
            KINDS, slopes, units, self._units_of(seen, part), self._ready, strict=True
        ):
            by_unit: Floats = by_sum @ ready.weights[:, part.group].T
            by_unit *= (kind.least < unit) & (unit < LARGEST_UNIT)
            known: Floats = (by_unit @ matrix.T).reshape(len(by_unit), 2, -1)
            known[..., own] += by_sum[:, np.newaxis] * ready.near[:, part.group]
            for number in {0, 1} - _of_own(part, kind):
                known[:, number, own] = 0
            found.append(known)
        return found

    @cached_property
    def _ready(self) -> list[_Ready]:
        """The weights as they are multiplied with."""
        found = []
        for kind, (units, unit_bias, weights, bias) in zip(KINDS, self.layers, strict=True):
            out, near = np.split(np.ascontiguousarray(weights.T, np.float32), [units.shape[1]])
            by_source = np.ascontiguousarray(units.transpose(0, 2, 3, 1), np.float32)
            start = unit_bias.astype(np.float32) + np.float32(kind.divisor // 2)
            scale = np.float32(1 / kind.divisor)  # exact: a power of two
            ready = _Ready(by_source * scale, start * scale, out, near, bias.astype(np.float32))
            found.append(ready)
        return found

    @cached_property
    def _steps(self) -> tuple[tuple[int, Integers], ...]:
        small = np.min_scalar_type(self.count)  # what is looked up most stays in the caches
        parts = step_table(self.magnitude, len(self.sign) + 1), step_table(self.sign, 1)
        return tuple((low, adds.astype(small)) for low, adds in parts)


def _known(seen: Seen, part: Part) -> tuple[Floats, Floats]:
    """Return a part's numbers for A and for S, each [P, 2, n], see `LearnedContexts.blame`."""
    if not part.block:
        front = seen.before_front(part)
        m = np.abs(front)
        return _SCALE.take(m[:, :2] + m[:, 2:]), front[:, ::2].astype(np.float32)
    at, first = seen.around(part), seen.before.size
    here, west, east, north, south = (at(*place) for place in ((0, 0), *SIDES))
    values = np.empty((*here.shape[:-1], 2, here.shape[-1]), np.int8)
    np.add(west, east, out=values[..., 0, :])
    np.add(north, south, out=values[..., 1, :])
    values[..., 1, :first] += values[..., 0, :first]
    values[..., 0, :first] = here[..., :first]
    sides = _magnitude(west, east, north, south)
    corners = _magnitude(*(at(*place)[..., first:] for place in CORNERS))
    magnitudes = np.empty_like(values)
    np.abs(here[..., :first], out=magnitudes[..., 0, :first])
    magnitudes[..., 1, :first] = sides[..., :first]
    magnitudes[..., 0, first:] = sides[..., first:]
    magnitudes[..., 1, first:] = corners
    for kind, made in zip(KINDS, (magnitudes, values), strict=True):
        for number in {0, 1} - _of_own(part, kind):
            made[..., number, first:] = 0
    # Several times as fast as to look up with NumPy, which makes indices of 8 bytes first.
    scaled = np.frombuffer(magnitudes.tobytes().translate(_SCALE_BYTES), np.uint8)
    shape = (-1, 2, here.shape[-1])
    return scaled.reshape(shape).astype(np.float32), values.reshape(shape).astype(np.float32)


def _magnitude(first: NDArray[np.int8], *others: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return the sum of magnitudes of up to four arrays."""
    total: NDArray[np.int8] = np.abs(first)
    for values in others:
        total += np.abs(values)
    return total


def _of_own(part: Part, kind: _Kind) -> set[int]:
    """Return which of the two numbers a part's symbols have of their own group."""
    sides, corners = (part.step >= 2, part.step % 2 == 1) if part.block else (True, True)
    known = sides, sides if kind.least else corners
    return {number for number in (0, 1) if known[number]}


SIDES = ((0, -1), (0, 1), (-1, 0), (1, 0))
"""West, east, north and south, as rows down and columns to the right."""

CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))

_SCALE = SCALE.astype(np.float32)
_SCALE_BYTES = SCALE.tobytes().ljust(256, b"\0")


def stepped(sums: Sequence[Floats], tables: Sequence[tuple[int, Integers]]) -> NDArray[Any]:
    """Return what sums A and S add up to, see `step_table`."""
    (low_a, of_a), (low_s, of_s) = tables
    a, s = (of_sum.astype(np.int32) for of_sum in sums)
    a -= low_a
    s -= low_s
    context: Integers = of_a.take(a, mode="clip")
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
