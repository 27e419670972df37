"""The learned factorized density of the latents (Ballé et al., ICLR 2018, appendix 6.1).

Every channel has its own univariate density. Its cumulative is a small monotone network: a chain
of matrices with positive entries and the non-linearity x + tanh(a)·tanh(x), ended by a sigmoid.
The likelihood of a latent is the mass of the unit interval around it, which is the density
convolved with U(-½, ½): exact for the noisy latents of training (equation 5) and for the integers
of coding (equation 6).

The prior serves training and the smoothing of tables at export; the runtime sees integers only.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tactic_codec.networks.contexts import ContextNetwork

BROAD, BROAD_SHARE = 2.0, 1e-4
"""Scale in symbols, and share, of the logistic that is mixed into densities in training."""

LIKELIHOOD_FLOOR = 2.0**-24
"""The rarest symbol that a 24-bit table can hold; less would promise bits nobody pays."""


class FactorizedPrior(nn.Module):
    """One learned univariate density a channel."""

    def __init__(
        self, channels: int, *, widths: tuple[int, ...] = (3, 3, 3), scale: float = 2.0
    ) -> None:
        """Start as a broad density.

        Args:
            channels: channels of the latent.
            widths: units of the hidden layers of each channel's cumulative.
            scale: half-width of the initial density, in symbols.
        """
        super().__init__()
        sizes = (1, *widths, 1)
        step = scale ** (1 / (len(widths) + 1))
        self.matrices = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.factors = nn.ParameterList(torch.zeros(channels, width, 1) for width in widths)
        for fan_in, fan_out in itertools.pairwise(sizes):
            start = torch.log(torch.expm1(torch.tensor(1 / (step * fan_out))))
            self.matrices.append(nn.Parameter(start.expand(channels, fan_out, fan_in).clone()))
            self.biases.append(nn.Parameter(torch.rand(channels, fan_out, 1) - 0.5))

    def _logits_of_cumulative(self, values_C1N: Tensor) -> Tensor:
        logits = values_C1N
        for i, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            logits = F.softplus(matrix) @ logits + bias
            if i < len(self.factors):
                logits = logits + torch.tanh(self.factors[i]) * torch.tanh(logits)
        return logits

    def likelihood(self, y_BCHW: Tensor, shrink_BCHW: Tensor | None = None) -> Tensor:
        """Return the probability of each latent's unit interval, in [2⁻²⁴, 1], same shape.

        Args:
            y_BCHW: latents in units of their quantisation.
            shrink_BCHW: what takes the interval to the density's own units; 1 by default.
        """
        batch, channels, height, width = y_BCHW.shape
        below, above = y_BCHW.float() - 0.5, y_BCHW.float() + 0.5
        if shrink_BCHW is not None:
            below, above = below * shrink_BCHW, above * shrink_BCHW
        # The probability is a difference of two numbers that bfloat16 would round to the same.
        with torch.autocast(y_BCHW.device.type, enabled=False):
            lower = self._logits_of_cumulative(below.transpose(0, 1).reshape(channels, 1, -1))
            upper = self._logits_of_cumulative(above.transpose(0, 1).reshape(channels, 1, -1))
        # Far right both sigmoids round to one and their difference to zero; mirrored to the left
        # tail the difference keeps its digits.
        sign = -torch.sign(lower + upper).detach()
        mass = (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()
        mass_BCHW = mass.reshape(channels, batch, height, width).transpose(0, 1)
        return mass_BCHW.clamp_min(LIKELIHOOD_FLOOR)

    def bits(self, y_BCHW: Tensor) -> Tensor:
        """Return the information of each image's latents, in bits [B], see `broadened`."""
        return -broadened(self.likelihood(y_BCHW), y_BCHW).log2().sum(dim=(1, 2, 3))


class ContextPrior(nn.Module):
    """A learned density of the symbols of several levels, given what their decoder knows.

    The shape of a channel's density is one for all levels; a level scales it. `ContextNetwork`
    scales it for each symbol, by A, and says which sign is likelier, by S::

        p(q) = (m(q) + m(-q)) / 2,  times 2 σ(S) where q > 0, and 2 σ(-S) where q < 0
        m(q) = F((q + ½) / s) - F((q - ½) / s),    log s = a + A

    Training thus pays nearly what files will, where a density of neighbours' magnitudes alone
    promises a tenth to a fifth more.
    """

    def __init__(self, start: Tensor, channels: int) -> None:
        """Start as wide as the levels' gains make the symbols.

        Args:
            start: [levels], the gain that each level's symbols start with.
            channels: channels of the latent.
        """
        super().__init__()
        self.channels = channels
        self.density = FactorizedPrior(channels, widths=(3,))
        self.scale = nn.Parameter(torch.log(start)[:, None].repeat(1, channels))  # a
        self.contexts = ContextNetwork(start.shape[0], channels)

    def bits(self, y_BCHW: Tensor, symbols_BCHW: Tensor, level_B: Tensor) -> Tensor:
        """Return the information of each image's symbols, in bits [B].

        Latents learn from what a whole step costs: the gradient of one between n and n + 1 is what
        n + 1 costs more than n. The slope of the density at a symbol would say nothing to all that
        round to zero, and too little to those that could.

        Args:
            y_BCHW: latents in units of their quantisation, not rounded, with noise or without.
            symbols_BCHW: what will be coded, integers. No gradient reaches them through contexts:
                with it the first 250 steps of a trial went the same way.
            level_B: each image's level, counted from 0.
        """
        sums = self.contexts(symbols_BCHW.permute(0, 2, 3, 1), level_B)
        a_BCHW, s_BCHW = (of_kind.permute(0, 3, 1, 2) for of_kind in sums)
        log_scale_BCHW = self.scale[level_B, :, None, None] + a_BCHW

        def cost(magnitude_BCHW: Tensor, sign_BCHW: Tensor) -> Tensor:
            nats_BCHW = self._mass(magnitude_BCHW, log_scale_BCHW).log()
            of_sign_BCHW = F.logsigmoid(sign_BCHW * s_BCHW) + math.log(2)
            return -nats_BCHW - (magnitude_BCHW > 0) * of_sign_BCHW

        size_BCHW = y_BCHW.abs()
        with torch.no_grad():
            less_BCHW, sign_BCHW = size_BCHW.floor(), y_BCHW.sign()
            step_BCHW = cost(less_BCHW + 1, sign_BCHW) - cost(less_BCHW, sign_BCHW)
        nats_BCHW = cost(symbols_BCHW.abs(), symbols_BCHW.sign())
        nats_BCHW = nats_BCHW + step_BCHW * (size_BCHW - size_BCHW.detach())
        return nats_BCHW.sum(dim=(1, 2, 3)) / math.log(2)

    def likelihood(self, y_BCHW: Tensor, level: int) -> Tensor:
        """Return the probability of each symbol at a level, counted from 0, beside zeros.

        Of both signs alike; on the CPU.
        """
        zeros_BHWC = torch.zeros(1, 1, 1, self.channels)
        a_BHWC, _ = self.contexts(zeros_BHWC, torch.tensor([level]))
        log_scale_BCHW = (self.scale[level] + a_BHWC).permute(0, 3, 1, 2)
        return self._mass(y_BCHW, log_scale_BCHW.expand_as(y_BCHW))

    def _mass(self, y_BCHW: Tensor, log_scale_BCHW: Tensor) -> Tensor:
        both = torch.cat([y_BCHW, -y_BCHW])
        mass = self.density.likelihood(both, torch.exp(-log_scale_BCHW).repeat(2, 1, 1, 1))
        there, opposite = mass.chunk(2)
        return broadened((there + opposite) / 2, y_BCHW)


def broadened(mass_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    """Mix the masses of latents with those of a broad density around zero.

    A channel that is constant for long would otherwise narrow its density until whatever comes next
    has no probability, and no gradient.
    """
    magnitude = y_BCHW.abs()
    broad = torch.sigmoid((0.5 - magnitude) / BROAD) - torch.sigmoid((-0.5 - magnitude) / BROAD)
    return (1 - BROAD_SHARE) * mass_BCHW + BROAD_SHARE * broad
