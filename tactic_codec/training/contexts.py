"""From symbols of training images to the network of learned contexts.

    symbols of all levels ─ a network in single precision ─ whole numbers ─▶ LearnedContexts

A symbol is coded, in thought, as a coder of bits would: is it zero, which sign has it, is it larger
than 1, and so on. The logits of the first two decisions are what A and S are made of (see
`tactic_codec.entropy.LearnedContexts`). The tables that are counted afterwards know the rest, and
how wrong this is.

One network serves all levels: a level scales the sums and has biases of its own.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tactic_codec.entropy import Layers, LearnedContexts
from tactic_codec.entropy.learned import EXACT, KINDS, LARGEST_UNIT, STEPS, UNIT
from tactic_codec.entropy.order import steps

GROUPS = (8, 16, 32, 64, 96, 160)
"""First channels of all groups but the first; channels are sorted by falling magnitude."""

UNITS = (48, 16)
"""Units of A and of S."""

MAGNITUDE_LOGITS = tuple(np.arange(-8.0, 3.0, 0.35))
"""Thresholds of A, as logits of a symbol that is not zero."""

SIGN_LOGITS = (-2.0, -0.8, -0.25, 0.25, 0.8, 2.0)
"""Thresholds of S, as logits of a positive sign."""

TRAINING_STEPS = 3000
"""At most, and no more than take `PASSES` over all symbols."""

PASSES = 100
BATCH = 2048
"""Positions of a step, and at least one image's."""
LEARNING_RATE = 0.015

PENALTY = 2.0
"""Bits that all weights of units together cost for each 1 of their magnitudes: with few symbols to
learn from, units learn these by heart."""

LARGEST = 8.0
"""What the largest value of a unit is in training."""

FINE = 2**14
"""What a logit of 1 is in A and S, unless sums would become too large."""


def fit_contexts(symbols: Iterable[Sequence[NDArray[np.int32]]]) -> list[LearnedContexts]:
    """Return the contexts of each level, the same on every run on one machine.

    Args:
        symbols: of each level, those of the same images [C, h, w], with channels sorted by falling
            magnitude. Of images of different sizes the part that all of them have is used.
    """
    levels = [_stacked(level) for level in symbols]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = _Network(levels)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE, (0.9, 0.99))
    generator = torch.Generator().manual_seed(1)
    learned_from = sum(int(level.count_nonzero()) for level in levels) / len(levels)
    positions = sum(level[..., 0].numel() for level in levels)
    count = min(TRAINING_STEPS, -(-PASSES * positions // BATCH))
    for step in range(count):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 20) * (1.01 - step / count)
        level = int(torch.randint(len(levels), (1,), generator=generator))
        of_all, height, width, _ = levels[level].shape
        images = max(1, BATCH // (height * width))
        chosen = torch.randint(of_all, (images,), generator=generator)
        batch = levels[level][chosen].float()
        # Of a symbol that is not zero, so that levels count alike.
        loss = network.bits(batch, level) / batch.count_nonzero().clamp_min(1)
        optimizer.zero_grad()
        torch.autograd.backward(loss + PENALTY / max(1, learned_from) * network.magnitudes())
        optimizer.step()
    return network.contexts()


def _stacked(images: Sequence[NDArray[np.int32]]) -> Tensor:
    """Return the symbols of one level as bytes, channels last, [images, h, w, C]."""
    rows, columns = (min(y.shape[axis] for y in images) for axis in (1, 2))
    parts = [y[:, :rows, :columns].clip(-127, 127).astype(np.int8) for y in images]
    return torch.from_numpy(np.stack(parts).transpose(0, 2, 3, 1).copy())


class _Network(nn.Module):
    """The logits of each symbol's decisions, given what a decoder knows."""

    def __init__(self, levels: Sequence[Tensor]) -> None:
        super().__init__()
        channels, count = levels[0].shape[3], len(levels)
        self.groups = tuple(start for start in GROUPS if start < channels)
        self.spans = list(itertools.pairwise((0, *self.groups, channels)))
        zero = torch.stack([(y == 0).float().mean((0, 1, 2)) for y in levels])
        zero = zero.clamp(1e-4, 1 - 1e-4)
        # Of A and of S: of each group, what its units see of earlier channels and of its own.
        self.units = [
            nn.ParameterList(
                torch.randn(units, seen) * 0.5 / math.sqrt(seen)
                for seen in (2 * stop for _, stop in self.spans)
            )
            for units in UNITS
        ]
        self.of_magnitude, self.of_sign = self.units  # a plain list would not be trained
        self.unit_bias = nn.ParameterList(
            torch.zeros(count, len(self.spans), STEPS, units) for units in UNITS
        )
        self.weights = nn.ParameterList(torch.zeros(channels, units + 2) for units in UNITS)
        self.magnitude_bias = nn.Parameter(torch.log((1 - zero) / zero))
        self.sign_bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(2, count))
        # Whether a magnitude is above 1, and then whether it is above the next, by A's logit.
        self.tail = nn.Parameter(torch.tensor([[-1.0], [0.5], [-1.0], [0.3]]).repeat(1, channels))
        self.agreement = nn.Parameter(torch.zeros(2, channels))

    def magnitudes(self) -> Tensor:
        """Return the sum of the magnitudes of all units' weights."""
        return torch.stack([w.abs().sum() for kind in self.units for w in kind]).sum()

    def bits(self, v_BHWC: Tensor, level: int) -> Tensor:
        """Return the information of a batch's symbols, in bits."""
        v = v_BHWC.flatten(0, 2)
        a, s = (sums.flatten(0, 2) for sums in self.sums(v_BHWC, level))
        scale_a, scale_s = self.log_scale[:, level].exp()
        s = scale_s * s + self.sign_bias
        # A value that is foretold far from zero is rarely zero, and large where its sign fits.
        a = scale_a * a + self.agreement[0] * s.abs()
        fits = self.agreement[1] * s * v.sign()
        above, further = (self.tail[i] + self.tail[i + 1] * a + fits for i in (0, 2))
        a = a + self.magnitude_bias[level]

        magnitude = v.abs()
        there, large = magnitude > 0, magnitude > 1
        nothing = torch.zeros(())
        nats = F.logsigmoid(torch.where(there, a, -a))
        nats = nats + torch.where(there, F.logsigmoid(s * v.sign()), nothing)
        nats = nats + torch.where(there, F.logsigmoid(torch.where(large, above, -above)), nothing)
        tail = (magnitude - 2) * F.logsigmoid(further) + F.logsigmoid(-further)
        nats = nats + torch.where(large, tail, nothing)
        total: Tensor = -nats.sum() / math.log(2)
        return total

    def sums(self, v_BHWC: Tensor, level: int) -> Iterator[Tensor]:
        """Yield A and S without their scale and bias, [B, h, w, C]."""
        step = _steps(*v_BHWC.shape[1:3])
        for kind, (known, own) in enumerate(_known(v_BHWC, step, self.spans[0][1])):
            parts = []
            for number, (start, stop) in enumerate(self.spans):
                near = own[..., start:stop]
                seen = torch.cat([known[..., :start], near], dim=4).flatten(3)
                unit = seen @ self.units[kind][number].T
                unit = unit + self.unit_bias[kind][level, number][step * bool(number)]
                unit = unit.clamp(-LARGEST if KINDS[kind].least else 0, LARGEST)
                weights = self.weights[kind][start:stop]
                parts.append(unit @ weights[:, :-2].T + (near * weights[:, -2:].T).sum(3))
            yield torch.cat(parts, dim=3)

    @torch.no_grad()
    def contexts(self) -> list[LearnedContexts]:
        """Return the network in whole numbers, for each level."""
        scales = self.log_scale.double().exp().numpy()
        biases = self.magnitude_bias.double().numpy(), self.sign_bias.double().numpy()[np.newaxis]
        found = []
        for kind, logits in enumerate((MAGNITUDE_LOGITS, SIGN_LOGITS)):
            # SCALE is 16 · log₂(1 + n) where training has log(1 + n).
            source = 1.0 if KINDS[kind].least else math.log(2) / 16
            unit = LARGEST_UNIT / LARGEST
            units = np.zeros((len(self.spans), UNITS[kind], 2, self.spans[-1][1]))
            for number, (_, stop) in enumerate(self.spans):
                learned = self.units[kind][number].double().numpy()
                units[number, ..., :stop] = learned.reshape(-1, 2, stop)
            units *= source * unit * UNIT
            # A unit's sum stays exact, and its weights fit into 16 bits.
            sums = KINDS[kind].largest * np.abs(units).sum(axis=(2, 3), keepdims=True)
            most = np.abs(units).max(axis=(2, 3), keepdims=True)
            units *= np.minimum(1, np.minimum(EXACT / 2 / (sums + 1), (2**15 - 1) / (most + 1)))
            unit_bias = self.unit_bias[kind].double().numpy() * unit * UNIT
            weights = self.weights[kind].double().numpy()
            weights = weights / np.array([unit] * UNITS[kind] + [1 / source] * 2)
            bias = biases[kind] / scales[kind][:, np.newaxis]
            terms = np.array([LARGEST_UNIT] * UNITS[kind] + [KINDS[kind].largest] * 2)
            sums = (np.abs(weights) * terms).sum(axis=1) + np.abs(bias).max(axis=0)
            furthest = max(sums.max(), max(map(abs, logits)) / scales[kind].min())
            fine = min(FINE, EXACT / 2 / furthest, (2**15 - 1) / max(np.abs(weights).max(), 1e-9))
            found.append((units, unit_bias, weights * fine, bias * fine, fine))

        def whole(kind: int, level: int) -> Layers:
            units, unit_bias, weights, bias, _ = found[kind]
            return Layers(
                np.rint(units).astype(np.int16),
                np.rint(unit_bias[level]).astype(np.int32),
                np.rint(weights).astype(np.int16),
                np.rint(bias[level]).astype(np.int32),
            )

        return [
            LearnedContexts(
                self.groups,
                _whole(np.array(MAGNITUDE_LOGITS) / scales[0][level] * found[0][4]),
                _whole(np.array(SIGN_LOGITS) / scales[1][level] * found[1][4]),
                (whole(0, level), whole(1, level)),
            )
            for level in range(len(scales[0]))
        ]


def _steps(height: int, width: int) -> Tensor:
    """Return the step of each position, [h, w], in groups that are not coded in wavefronts."""
    found = np.zeros((height, width), np.int64)
    for part in steps(height, width, 1, slice(0, 1)):
        assert part.block
        rows, columns = (slice(side.start - 1, side.stop - 1, 2) for side in part.block)
        found[rows, columns] = part.step
    return torch.from_numpy(found)


def _known(v_BHWC: Tensor, step: Tensor, first: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield of A and of S what symbols know of each channel.

    Args:
        v_BHWC: symbols.
        step: of each position, [h, w].
        first: so many channels are coded in wavefronts.

    Yields:
        [B, h, w, 2, C], the two numbers of each channel for symbols of later groups, and those for
        symbols of its own group, see `LearnedContexts`.
    """
    sides_known, corners_known = (known.float()[..., None] for known in (step >= 2, step % 2 == 1))

    def at(of: Tensor, down: int, right: int) -> Tensor:
        _, height, width, _ = of.shape
        padded = F.pad(of, (0, 0, 1, 1, 1, 1))
        return padded[:, 1 + down :, 1 + right :][:, :height, :width]

    m, v = v_BHWC.abs(), v_BHWC
    sides = _sum_of([at(m, *place) for place in ((0, -1), (0, 1), (-1, 0), (1, 0))]).log1p()
    own = m[..., first:]
    corners = _sum_of([at(own, down, right) for down in (-1, 1) for right in (-1, 1)]).log1p()
    front = m[..., :first]
    near = (at(front, 0, -1) + at(front, -1, 0)).log1p()
    far = (at(front, -1, -1) + at(front, -1, 1)).log1p()
    beside = torch.cat([near, sides_known * sides[..., first:]], dim=3)
    further = torch.cat([far, corners_known * corners], dim=3)
    yield torch.stack([m.log1p(), sides], dim=3), torch.stack([beside, further], dim=3)
    across, along = at(v, 0, -1) + at(v, 0, 1), at(v, -1, 0) + at(v, 1, 0)
    front = v[..., :first]
    beside = torch.cat([at(front, 0, -1), sides_known * across[..., first:]], dim=3)
    further = torch.cat([at(front, -1, 0), sides_known * along[..., first:]], dim=3)
    yield torch.stack([v, across + along], dim=3), torch.stack([beside, further], dim=3)


def _sum_of(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(parts)).sum(0)


def _whole(values: NDArray[np.float64]) -> tuple[int, ...]:
    """Return the different integers next to ascending values."""
    return tuple(np.unique(np.rint(values).astype(np.int64)).tolist())
