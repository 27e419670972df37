"""From symbols of training images to the network of learned contexts.

    symbols of all levels ─ a network in single precision ─ whole numbers ─▶ LearnedContexts

A symbol is coded, in thought, as a coder of bits would: is it zero, which sign has it, is it larger
than 1, and so on. The logits of the first two decisions are what A and S are made of (see
`tactic_codec.entropy.LearnedContexts`). The tables that are counted afterwards know the rest, and
how wrong this is.

One network serves all levels: a level scales the sums and has biases of its own.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tactic_codec.entropy import TOTAL, Layers, LearnedContexts
from tactic_codec.entropy.learned import EXACT, KINDS, LARGEST_UNIT
from tactic_codec.networks.contexts import LARGEST, UNITS, ContextNetwork

MAGNITUDE_LOGITS = tuple(np.arange(-8.0, 3.0, 0.35))
"""Thresholds of A, as logits of a symbol that is not zero."""

SIGN_LOGITS = (-2.0, -0.8, -0.25, 0.25, 0.8, 2.0)
"""Thresholds of S, as logits of a positive sign."""

SURE = TOTAL - TOTAL // 10_000
"""Frequency of zero from which on a table is sure of it: higher, and fewer symbols are left out;
lower, and more parts hold one that is not zero."""

TRAINING_STEPS = 3000
"""At most, and no more than take `PASSES` over all symbols."""

PASSES = 100
BATCH = 2048
"""Positions of a step, and at least one image's."""
LEARNING_RATE = 0.015

PENALTY = 2.0
"""Bits that all weights of units together cost for each 1 of their magnitudes: with few symbols to
learn from, units learn these by heart."""

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


class _Network(ContextNetwork):
    """The logits of each symbol's decisions, given what a decoder knows."""

    def __init__(self, levels: Sequence[Tensor]) -> None:
        channels = levels[0].shape[3]
        super().__init__(len(levels), channels)
        zero = torch.stack([(y == 0).float().mean((0, 1, 2)) for y in levels])
        zero = zero.clamp(1e-4, 1 - 1e-4)
        self.magnitude_bias = nn.Parameter(torch.log((1 - zero) / zero))
        self.sign_bias = nn.Parameter(torch.zeros(channels))
        # Whether a magnitude is above 1, and then whether it is above the next, by A's logit.
        self.tail = nn.Parameter(torch.tensor([[-1.0], [0.5], [-1.0], [0.3]]).repeat(1, channels))
        self.agreement = nn.Parameter(torch.zeros(2, channels))

    def magnitudes(self) -> Tensor:
        """Return the sum of the magnitudes of all units' weights."""
        return torch.stack([kind.abs().sum() for kind in self.units]).sum()

    def bits(self, v_BHWC: Tensor, level: int) -> Tensor:
        """Return the information of a batch's symbols, in bits."""
        v = v_BHWC.flatten(0, 2)
        sums = self(v_BHWC, torch.full((len(v_BHWC),), level))
        a, s = (of_kind.flatten(0, 2) for of_kind in sums)
        s = s + self.sign_bias
        # A value that is foretold far from zero is rarely zero, and large where its sign fits.
        a = a + self.agreement[0] * s.abs()
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
            units = self.units[kind].double().numpy()[: len(self.spans)]
            for number, (_, stop) in enumerate(self.spans):
                units[number, ..., stop:] = 0
            units *= source * unit * KINDS[kind].divisor
            # A unit's sum stays exact, and its weights fit into 16 bits.
            sums = KINDS[kind].largest * np.abs(units).sum(axis=(2, 3))
            most = np.abs(units).max(axis=(2, 3))
            shrink = np.minimum(1, np.minimum(EXACT / 2 / (sums + 1), (2**15 - 1) / (most + 1)))
            units *= shrink[..., np.newaxis, np.newaxis]
            unit_bias = self.unit_bias[kind].double().numpy()[:, : len(self.spans)]
            unit_bias *= unit * KINDS[kind].divisor * shrink[:, np.newaxis]
            weights = self.weights[kind].double().numpy()
            weights = weights / np.array([unit] * UNITS[kind] + [1 / source] * 2)
            sizes = [stop - start for start, stop in self.spans]
            weights[:, :-2] /= np.repeat(shrink, sizes, axis=0)
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
                tuple(start for start, _ in self.spans[1:]),
                _whole(np.array(MAGNITUDE_LOGITS) / scales[0][level] * found[0][4]),
                _whole(np.array(SIGN_LOGITS) / scales[1][level] * found[1][4]),
                SURE,
                (whole(0, level), whole(1, level)),
            )
            for level in range(len(scales[0]))
        ]


def _whole(values: NDArray[np.float64]) -> tuple[int, ...]:
    """Return the different integers next to ascending values."""
    return tuple(np.unique(np.rint(values).astype(np.int64)).tolist())
