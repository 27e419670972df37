"""The learned factorized density of the latents (Ballé et al., ICLR 2018, appendix 6.1).

Every channel has its own univariate density. Its cumulative is a small monotone network: a chain
of matrices with positive entries and the non-linearity x + tanh(a)·tanh(x), ended by a sigmoid.
The likelihood of a latent is the mass of the unit interval around it, which is the density
convolved with U(-½, ½): exact for the noisy latents of training (equation 5) and for the integers
of coding (equation 6).

The prior serves training and the smoothing of tables at export; the runtime sees integers only.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
        self.channels = channels
        sizes = (1, *widths, 1)
        step = scale ** (1 / (len(widths) + 1))
        self.matrices = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.factors = nn.ParameterList()
        for fan_in, fan_out in itertools.pairwise(sizes):
            start = torch.log(torch.expm1(torch.tensor(1 / (step * fan_out))))
            self.matrices.append(nn.Parameter(start.expand(channels, fan_out, fan_in).clone()))
            self.biases.append(nn.Parameter(torch.rand(channels, fan_out, 1) - 0.5))
        for width in widths:
            self.factors.append(nn.Parameter(torch.zeros(channels, width, 1)))

    def _logits_of_cumulative(self, values_C1N: Tensor) -> Tensor:
        logits = values_C1N
        for i, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            logits = F.softplus(matrix) @ logits + bias
            if i < len(self.factors):
                logits = logits + torch.tanh(self.factors[i]) * torch.tanh(logits)
        return logits

    def likelihood(self, y_BCHW: Tensor) -> Tensor:
        """Return the probability of each latent's unit interval, in [2⁻²⁴, 1], same shape."""
        batch, channels, height, width = y_BCHW.shape
        values_C1N = y_BCHW.float().transpose(0, 1).reshape(channels, 1, -1)
        lower = self._logits_of_cumulative(values_C1N - 0.5)
        upper = self._logits_of_cumulative(values_C1N + 0.5)
        # Far right both sigmoids round to one and their difference to zero; mirrored to the left
        # tail the difference keeps its digits.
        sign = -torch.sign(lower + upper).detach()
        mass = (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()
        mass_BCHW = mass.reshape(channels, batch, height, width).transpose(0, 1)
        return mass_BCHW.clamp_min(LIKELIHOOD_FLOOR)

    def bits(self, y_BCHW: Tensor) -> Tensor:
        """Return the information of all latents together, in bits (scalar)."""
        return -self.likelihood(y_BCHW).log2().sum()
