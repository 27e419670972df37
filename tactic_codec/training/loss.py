"""The objective of the paper, equations 1 to 9."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from tactic_codec.networks.heads import Logits

AUXILIARY_WEIGHT = 0.4
"""Weight of Inception v3's auxiliary classifier (Szegedy et al., CVPR 2015)."""


class Terms(NamedTuple):
    """The terms of equation 9 as scalars; ``task`` is zero where no task network ran."""

    distortion: Tensor  # L_D, in squared units of the pixel scale
    task: Tensor  # L_T, in nats
    rate: Tensor  # L_R, in bits a pixel

    def total(self, alpha: float, beta: float) -> Tensor:
        """Return L = L_D + alpha · L_T + beta · L_R (equation 9)."""
        return self.distortion + alpha * self.task + beta * self.rate


def distortion(x_hat_BCHW: Tensor, x_BCHW: Tensor, pixel_scale: float) -> Tensor:
    """Return L_D (equation 1) of images in [0, 1], measured on the scale [0, pixel_scale]."""
    return F.mse_loss(x_hat_BCHW.float(), x_BCHW.float()) * pixel_scale**2


def rate(bits: Tensor, x_BCHW: Tensor) -> Tensor:
    """Return L_R (equations 7 and 8): the bits of a batch over its pixels."""
    batch, _, height, width = x_BCHW.shape
    return bits / (batch * height * width)


def task(logits: Logits, labels_B: Tensor) -> Tensor:
    """Return L_T (equation 3) of a classifier: cross-entropy with the true labels."""
    loss = F.cross_entropy(logits.main.float(), labels_B)
    if logits.auxiliary is not None:
        loss = loss + AUXILIARY_WEIGHT * F.cross_entropy(logits.auxiliary.float(), labels_B)
    return loss
