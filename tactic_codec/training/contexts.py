"""From symbols of training images to the weights of linear contexts.

    symbols of all levels ─ logistic regressions ─ whole numbers ─▶ LinearContexts of each level

A symbol is coded, in thought, as a coder of bits would: is it zero, which sign has it, is it larger
than 1, and so on. The logits of the first two decisions are linear in what a decoder knows by then;
their weights are what A and S are made of (see `tactic_codec.entropy.LinearContexts`). The tables
that are counted afterwards know the rest, and how wrong this is.

One set of weights serves all levels: a level scales the sums and has a bias of its own for each
channel.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tactic_codec.entropy import LinearContexts
from tactic_codec.entropy.tables import CAP, EXACT, SCALE

GROUPS = (8, 32, 96)
"""First channels of all groups but the first; channels are sorted by falling magnitude."""

MAGNITUDE_LOGITS = tuple(np.arange(-8.0, 3.0, 0.35))
"""Thresholds of A, as logits of a symbol that is not zero."""

SIGN_LOGITS = (-2.0, -0.8, -0.25, 0.25, 0.8, 2.0)
"""Thresholds of S, as logits of a positive sign."""

STEPS = 600
BATCH = 16
LEARNING_RATE = 0.015
LASSO = 6e-6
"""Weight of the sum of all weights' magnitudes, beside the bits of a symbol that is not zero."""

UNIT = 2**14
"""What a logit of 1 is in A and S, unless sums would become too large."""


def fit_contexts(symbols: Iterable[Sequence[NDArray[np.int32]]]) -> list[LinearContexts]:
    """Return the contexts of each level, the same on every run on one machine.

    Args:
        symbols: of each level, those of the same images [C, h, w], with channels sorted by falling
            magnitude. Of images of different sizes the part that all of them have is used.
    """
    levels = [_stacked(level) for level in symbols]
    logits = _Logits(levels)
    optimizer = torch.optim.Adam(logits.parameters(), LEARNING_RATE, (0.9, 0.99))
    generator = torch.Generator().manual_seed(1)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 20) * (1.01 - step / STEPS)
        level = int(torch.randint(len(levels), (1,), generator=generator))
        chosen = torch.randint(len(levels[level]), (BATCH,), generator=generator)
        batch = levels[level][chosen].float()
        # Of a symbol that is not zero, so that levels count alike.
        bits = logits.bits(batch, level) / batch.count_nonzero().clamp_min(1)
        optimizer.zero_grad()
        torch.autograd.backward(bits + LASSO * logits.weights_used())
        optimizer.step()
    return logits.contexts()


def _stacked(images: Sequence[NDArray[np.int32]]) -> Tensor:
    """Return the symbols of one level as bytes, [images, C, h, w]."""
    rows, columns = (min(y.shape[axis] for y in images) for axis in (1, 2))
    parts = [y[:, :rows, :columns].clip(-127, 127).astype(np.int8) for y in images]
    return torch.from_numpy(np.stack(parts))


class _Logits(nn.Module):
    """The logits of each symbol's decisions, given what a decoder knows."""

    def __init__(self, levels: Sequence[Tensor]) -> None:
        super().__init__()
        channels, count = levels[0].shape[1], len(levels)
        self.groups = tuple(start for start in GROUPS if start < channels)
        group = torch.bucketize(torch.arange(channels), torch.tensor(self.groups), right=True)
        earlier = (group[:, None] > group[None]).float()
        self.known = torch.cat([torch.ones(channels, 2 * channels), earlier], dim=1)
        zero = torch.stack([(y == 0).float().mean((0, 2, 3)) for y in levels])
        zero = zero.clamp(1e-4, 1 - 1e-4)
        self.magnitude = nn.Parameter(torch.zeros(channels, 3 * channels))
        self.sign = nn.Parameter(torch.zeros(channels, 3 * channels))
        # A channel's own neighbours tell most, and get weights that learn at once.
        self.own = nn.Parameter(torch.zeros(2, channels))
        self.magnitude_bias = nn.Parameter(torch.log((1 - zero) / zero))
        self.sign_bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(2, count))
        # Whether a magnitude is above 1, and then whether it is above the next, by A's logit.
        self.tail = nn.Parameter(torch.tensor([[-1.0], [0.5], [-1.0], [0.3]]).repeat(1, channels))
        self.agreement = nn.Parameter(torch.zeros(2, channels))

    def weights_used(self) -> Tensor:
        return self.magnitude.abs().sum() + self.sign.abs().sum()

    def bits(self, v_BCHW: Tensor, level: int) -> Tensor:
        """Return the information of a batch's symbols, in bits."""
        near = F.pad(v_BCHW, (1, 1, 1, 0))
        west, north = near[:, :, 1:, :-2], near[:, :, :-1, 1:-1]
        beside = torch.log1p(west.abs() + north.abs())
        corners = torch.log1p(near[:, :, :-1, :-2].abs() + near[:, :, :-1, 2:].abs())
        magnitude = v_BCHW.abs()
        scale_a, scale_s = self.log_scale[:, level].exp()

        def at_channels(values: Tensor) -> Tensor:
            return values[:, None, None]

        seen = torch.cat([beside, corners, torch.log1p(magnitude)], dim=1)
        a = torch.einsum("oc,bchw->bohw", self.magnitude * self.known, seen)
        a = a + at_channels(self.own[0]) * beside + at_channels(self.own[1]) * corners
        seen = torch.cat([west, north, v_BCHW], dim=1)
        s = torch.einsum("oc,bchw->bohw", self.sign * self.known, seen)
        s = scale_s * s + at_channels(self.sign_bias)
        # A value that is foretold far from zero is rarely zero, and large where its sign fits.
        a = scale_a * a + at_channels(self.agreement[0]) * s.abs()
        fits = at_channels(self.agreement[1]) * s * v_BCHW.sign()
        above, further = (
            at_channels(self.tail[i]) + at_channels(self.tail[i + 1]) * a + fits for i in (0, 2)
        )
        a = a + at_channels(self.magnitude_bias[level])

        there, large = magnitude > 0, magnitude > 1
        nothing = torch.zeros(())
        nats = F.logsigmoid(torch.where(there, a, -a))
        nats = nats + torch.where(there, F.logsigmoid(s * v_BCHW.sign()), nothing)
        nats = nats + torch.where(there, F.logsigmoid(torch.where(large, above, -above)), nothing)
        tail = (magnitude - 2) * F.logsigmoid(further) + F.logsigmoid(-further)
        nats = nats + torch.where(large, tail, nothing)
        total: Tensor = -nats.sum() / math.log(2)
        return total

    @torch.no_grad()
    def contexts(self) -> list[LinearContexts]:
        """Return the logits of the first two decisions in whole numbers, of each level."""
        channels = len(self.sign_bias)
        weights = (self.magnitude * self.known).double()
        diagonal = torch.arange(channels)
        weights[diagonal, diagonal] += self.own[0]
        weights[diagonal, channels + diagonal] += self.own[1]
        # SCALE is 16 · log₂(1 + n) where training had log(1 + n).
        a = weights.numpy() * math.log(2) / 16
        s = (self.sign * self.known).double().numpy()
        scale_a, scale_s = self.log_scale.double().exp().numpy()
        bias_a = self.magnitude_bias.double().numpy() / scale_a[:, np.newaxis]
        bias_s = self.sign_bias.double().numpy() / scale_s[:, np.newaxis]
        unit_a = _unit(a, bias_a, float(SCALE.max()), max(map(abs, MAGNITUDE_LOGITS)) / scale_a)
        unit_s = _unit(s, bias_s, float(CAP), max(SIGN_LOGITS) / scale_s)
        return [
            LinearContexts(
                self.groups,
                _whole(np.array(MAGNITUDE_LOGITS) / scale_a[level] * unit_a),
                _whole(np.array(SIGN_LOGITS) / scale_s[level] * unit_s),
                np.rint(a * unit_a).astype(np.int16),
                np.rint(s * unit_s).astype(np.int16),
                np.rint(bias_a[level] * unit_a).astype(np.int32),
                np.rint(bias_s[level] * unit_s).astype(np.int32),
            )
            for level in range(len(bias_a))
        ]


def _unit(
    weights: NDArray[np.float64],
    bias: NDArray[np.float64],
    largest: float,
    thresholds: NDArray[np.float64],
) -> float:
    """Return what weights are multiplied by, so that rounded sums and int16 hold them."""
    sums = largest * np.abs(weights).sum(axis=1) + np.abs(bias).max(axis=0)
    room = EXACT / 2 / max(sums.max(), thresholds.max())
    return float(min(UNIT, room, (2**15 - 1) / max(np.abs(weights).max(), 1e-9)))


def _whole(values: NDArray[np.float64]) -> tuple[int, ...]:
    """Return the different integers next to ascending values."""
    return tuple(np.unique(np.rint(values).astype(np.int64)).tolist())
