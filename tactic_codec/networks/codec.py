"""The networks that are trained together: analysis, prior, synthesis and the task network."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from tactic_codec.networks.prior import FactorizedPrior
from tactic_codec.networks.transforms import Analysis, Synthesis, TransformConfig

Quantisation = Literal["noise", "mixed", "rounded"]


class Coded(NamedTuple):
    """One pass through the codec."""

    x_hat_BCHW: Tensor
    bits: Tensor  # of the whole batch, as the prior estimates them


class TacticNetwork(nn.Module):
    """The TACTIC autoencoder with its learned density, and optionally a task network.

    x ─ analysis ─ y ─ noise or rounding ─ ŷ ─ synthesis ─ x̂ ─ head ─ logits
                                           └─ prior ─ bits
    """

    def __init__(self, transforms: TransformConfig, head: nn.Module | None = None) -> None:
        super().__init__()
        self.transforms = transforms
        self.analysis = Analysis(transforms)
        self.prior = FactorizedPrior(transforms.latent)
        self.synthesis = Synthesis(transforms)
        self.head = head

    def forward(self, x_BCHW: Tensor, quantisation: Quantisation = "noise") -> Coded:
        """Code a batch of images in [0, 1] as training sees it.

        Latents are quantised in one of three ways:

        - ``noise``: ŷ = y + U(-½, ½) for rate and reconstruction (equation 5);
        - ``mixed``: noise for the rate, for the reconstruction rounding whose gradient is passed
          through (Minnen & Singh, ICIP 2020), so that the synthesis sees what it will be given;
        - ``rounded``: ŷ = round(y) for both (equation 6); no gradient reaches the analysis.
        """
        y_BCHW = self.analysis(x_BCHW).float()
        if quantisation == "rounded":
            # Detached: a gradient of zeros would let Adam's momentum move the analysis on.
            y_hat_BCHW = y_BCHW.detach().round()
            return Coded(self.synthesis(y_hat_BCHW), self.prior.bits(y_hat_BCHW))
        noisy_BCHW = y_BCHW + torch.rand_like(y_BCHW) - 0.5
        y_hat_BCHW = noisy_BCHW
        if quantisation == "mixed":
            y_hat_BCHW = y_BCHW + (y_BCHW.round() - y_BCHW).detach()
        return Coded(self.synthesis(y_hat_BCHW), self.prior.bits(noisy_BCHW))

    def pruned(self, keep: Sequence[int]) -> "TacticNetwork":
        """Return a copy whose latent has only some of the channels, in the order given.

        Where the channels left out are zero, the copy computes what this network does. The task
        network is shared, not copied.
        """
        index = torch.tensor(keep)
        copy = TacticNetwork(self.transforms._replace(latent=len(keep)), self.head)
        state = self.state_dict()
        for name, wanted in copy.state_dict().items():
            # A parameter has the latent's channels along the first axis or does not know them.
            if state[name].shape != wanted.shape:
                state[name] = state[name][index]
        copy.load_state_dict(state)
        return copy
