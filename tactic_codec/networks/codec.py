"""The networks that are trained together: analysis, gains, prior, synthesis, task network."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from tactic_codec.networks.prior import ContextPrior, FactorizedPrior
from tactic_codec.networks.residual import ResidualAnalysis, ResidualConfig, ResidualSynthesis
from tactic_codec.networks.transforms import Analysis, Synthesis, TransformConfig

Quantisation = Literal["noise", "mixed", "straight", "rounded"]


class Coded(NamedTuple):
    """One pass through the codec."""

    x_hat_BCHW: Tensor
    bits_B: Tensor  # of each image, as the prior estimates them


class Gains(nn.Module):
    """What a quality level multiplies the latent's channels by, before rounding and after decoding.

    One network thus serves all rates (Cui et al., Asymmetric Gained Deep Image Compression,
    CVPR 2021); the decoder's gains are learned apart from the encoder's, not their inverses.
    """

    def __init__(self, start: Tensor, channels: int) -> None:
        """Start with the same gain in all channels of a level, ``start`` [levels]."""
        super().__init__()
        log_start = torch.log(start)[:, None].repeat(1, channels)
        self.log_gain = nn.Parameter(log_start.clone())
        self.log_inverse = nn.Parameter(-log_start)

    @property
    def gain(self) -> Tensor:
        """[levels, C], positive, of the encoder."""
        return self.log_gain.exp()

    @property
    def inverse_gain(self) -> Tensor:
        """[levels, C], positive, of the decoder."""
        return self.log_inverse.exp()


class TacticNetwork(nn.Module):
    """The TACTIC autoencoder with its learned density, and optionally a task network.

    x ─ analysis ─ y ─ gain ─ noise or rounding ─ ŷ ─ inverse gain ─ synthesis ─ x̂ ─ head ─ logits
                                                  └─ prior ─ bits

    The paper's transforms come with one level, without gains; the residual ones with several.
    """

    analysis: nn.Module
    synthesis: nn.Module

    def __init__(
        self,
        transforms: TransformConfig | ResidualConfig,
        head: nn.Module | None = None,
        *,
        gains: Sequence[float] = (1.0,),
    ) -> None:
        """Build networks with random weights.

        Args:
            transforms: kind and widths.
            head: the task network.
            gains: what the levels' gains start with; used by the residual transforms only.
        """
        super().__init__()
        self.transforms = transforms
        self.gains: Gains | None = None
        self.prior: FactorizedPrior | ContextPrior
        if isinstance(transforms, ResidualConfig):
            start = torch.tensor(gains)
            self.analysis = ResidualAnalysis(transforms)
            self.gains = Gains(start, transforms.latent)
            self.prior = ContextPrior(start, transforms.latent)
            self.synthesis = ResidualSynthesis(transforms)
        else:
            self.analysis = Analysis(transforms)
            self.prior = FactorizedPrior(transforms.latent)
            self.synthesis = Synthesis(transforms)
        self.head = head

    @property
    def levels(self) -> int:
        """Number of quality levels."""
        return self.gains.log_gain.shape[0] if self.gains else 1

    def forward(
        self,
        x_BCHW: Tensor,
        quantisation: Quantisation = "noise",
        level_B: Tensor | None = None,
        offset: float | Tensor = 0.5,
    ) -> Coded:
        """Code a batch of images in [0, 1] as training sees it, at levels counted from 0.

        Latents are quantised in one of four ways:

        - ``noise``: ŷ = y + U(-½, ½) for rate and reconstruction (equation 5);
        - ``mixed``: noise for the rate, for the reconstruction rounding whose gradient is passed
          through (Minnen & Singh, ICIP 2020), so that the synthesis sees what it will be given;
        - ``straight``: that rounding for the rate, too (He et al., CVPR 2022). Under noise a latent
          that will round to zero costs bits, at low rates as many again as the file has;
        - ``rounded``: ŷ = round(y) for both (equation 6); no gradient reaches the analysis.

        Rounding is that of `tactic_codec.codec.quantise`: to nearest at an offset of 0.5, with a
        dead zone around zero below it. There may be one for each image, [B].
        """
        if level_B is None:
            level_B = torch.zeros(x_BCHW.shape[0], dtype=torch.int64, device=x_BCHW.device)
        y_BCHW = self.analysis(x_BCHW).float()
        if self.gains:
            y_BCHW = y_BCHW * self.gains.gain[level_B, :, None, None]
        fixed_BCHW = y_BCHW.detach()
        dead = 0.5 - (offset[:, None, None, None] if isinstance(offset, Tensor) else offset)
        symbols_BCHW = torch.copysign((fixed_BCHW.abs() - dead).round(), fixed_BCHW)
        if quantisation == "rounded":
            # A gradient of zeros would let Adam's momentum move the analysis on.
            y_BCHW = fixed_BCHW
        noisy_BCHW = y_BCHW
        if quantisation in ("noise", "mixed"):
            noisy_BCHW = y_BCHW + torch.rand_like(y_BCHW) - 0.5
        y_hat_BCHW = y_BCHW + (symbols_BCHW - y_BCHW).detach()
        if quantisation == "noise":
            y_hat_BCHW = noisy_BCHW
        if isinstance(self.prior, ContextPrior):
            bits_B = self.prior.bits(noisy_BCHW, symbols_BCHW, level_B)
        else:
            bits_B = self.prior.bits(noisy_BCHW if quantisation == "mixed" else y_hat_BCHW)
        if self.gains:
            y_hat_BCHW = y_hat_BCHW * self.gains.inverse_gain[level_B, :, None, None]
        return Coded(self.synthesis(y_hat_BCHW), bits_B)

    def likelihood(self, y_BCHW: Tensor, level: int) -> Tensor:
        """Return the prior's probability of each symbol at a level, counted from 0."""
        if isinstance(self.prior, ContextPrior):
            return self.prior.likelihood(y_BCHW, level)
        return self.prior.likelihood(y_BCHW)

    def pruned(self, keep: Sequence[int]) -> "TacticNetwork":
        """Return a copy whose latent has only some of the channels, in the order given.

        Where the channels left out are zero, the copy computes what this network does. The task
        network is shared, not copied.
        """
        index = torch.tensor(keep)
        copy, wider = self._of_width(len(keep)), self._of_width(len(keep) + 1)
        other_shapes = {name: weight.shape for name, weight in wider.state_dict().items()}
        state = self.state_dict()
        for name, wanted in copy.state_dict().items():
            # The axes that count the latent's channels are those that a wider one has longer.
            for axis, (length, other) in enumerate(
                zip(wanted.shape, other_shapes[name], strict=True)
            ):
                if length != other:
                    state[name] = state[name].index_select(axis, index)
        copy.load_state_dict(state)
        return copy

    def _of_width(self, latent: int) -> "TacticNetwork":
        """Return such networks with another number of latent channels and the same task network."""
        if isinstance(self.transforms, ResidualConfig):
            narrow = dataclasses.replace(self.transforms, latent=latent)
            return TacticNetwork(narrow, self.head, gains=[1.0] * self.levels)
        return TacticNetwork(self.transforms._replace(latent=latent), self.head)
