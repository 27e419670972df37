"""What a symbol's decoder knows, and a small network that makes two numbers of it.

    magnitudes here and around ─ units, 0 to 8 ─ weights ─▶ A, how large the symbol may be
    values here and around ─ units, -8 to 8 ─ weights ─▶ S, on which side of zero

It is `tactic_codec.entropy.LearnedContexts` in single precision, with the same groups of channels
and the same steps. In training the density of a symbol follows from A and S, so that the codec
learns at the price that files pay (Minnen, Ballé & Toderici, NeurIPS 2018). At export it is learned
once more, from symbols as files have them.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STARTS = (8, 16, 32, 64, 96, 160)
"""First channels of all groups but the first; channels are sorted by falling magnitude."""

UNITS = (48, 16)
"""Units of A and of S."""

LARGEST = 8.0
"""What the largest value of a unit is."""

CAP = 15.0
"""Where contexts cap values, as the format says."""

STEPS = 4


class ContextNetwork(nn.Module):
    """Units of each group of channels, and what they weigh for each channel.

    One network serves all levels: units have a bias of each level, and a level scales A and S.
    """

    def __init__(self, levels: int, channels: int) -> None:
        """Start with random units that weigh nothing."""
        super().__init__()
        starts = tuple(start for start in STARTS if start < channels)
        self.spans = list(itertools.pairwise((0, *starts, channels)))
        groups = len(STARTS) + 1
        # What units would see of channels after their group counts for nothing. It is there so that
        # channels can be left out, and weights go with those that stay.
        self.units = nn.ParameterList(
            torch.randn(groups, units, 2, channels) * 0.5 / math.sqrt(2 * channels)
            for units in UNITS
        )
        self.unit_bias = nn.ParameterList(
            torch.zeros(levels, groups, STEPS, units) for units in UNITS
        )
        self.weights = nn.ParameterList(torch.zeros(channels, units + 2) for units in UNITS)
        self.log_scale = nn.Parameter(torch.zeros(len(UNITS), levels))

    def forward(self, v_BHWC: Tensor, level_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return A and S of symbols, each [B, H, W, C]."""
        step_HW = _steps(*v_BHWC.shape[1:3])
        found = []
        for kind, (known, own) in enumerate(
            _known(v_BHWC.clamp(-CAP, CAP), step_HW, self.spans[0][1])
        ):
            parts = []
            for number, (start, stop) in enumerate(self.spans):
                near = own[..., start:stop]
                seen = torch.cat([known[..., :start], near], dim=4).flatten(3)
                unit = seen @ self.units[kind][number, ..., :stop].flatten(1).T
                unit = unit + self.unit_bias[kind][level_B, number][:, step_HW * bool(number)]
                unit = unit.clamp(-LARGEST if kind else 0, LARGEST)
                weights = self.weights[kind][start:stop]
                parts.append(unit @ weights[:, :-2].T + (near * weights[:, -2:].T).sum(3))
            scale = self.log_scale[kind, level_B].exp()
            found.append(torch.cat(parts, dim=3) * scale[:, None, None, None])
        a, s = found
        return a, s


def _steps(height: int, width: int) -> Tensor:
    """Return the step of each position, [H, W], in groups that are not coded in wavefronts."""
    y, x = torch.arange(height)[:, None] % 2, torch.arange(width) % 2
    return 2 * (y ^ x) + y


def _known(v_BHWC: Tensor, step_HW: Tensor, first: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield of A and of S what symbols know of each channel.

    Args:
        v_BHWC: symbols.
        step_HW: of each position.
        first: so many channels are coded in wavefronts.

    Yields:
        [B, H, W, 2, C], the two numbers of each channel for symbols of later groups, and those for
        symbols of its own group, see `tactic_codec.entropy.LearnedContexts`, with log(1 + n) for
        f(n).
    """
    step_HW = step_HW.to(v_BHWC.device)
    sides_known, corners_known = (
        known.float()[..., None] for known in (step_HW >= 2, step_HW % 2 == 1)
    )

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
