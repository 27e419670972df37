"""The objective of the paper, equations 1 to 10, and distillation as a further task loss.

Every term is one value an image, so that a batch may mix quality levels, each with its own α and β.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from tactic_codec.networks.heads import Logits
from tactic_codec.networks.measures import UNLABELLED as UNLABELLED

AUXILIARY_WEIGHT = 0.4
"""Weight of Inception v3's auxiliary classifier (Szegedy et al., CVPR 2015)."""


class Terms(NamedTuple):
    """The terms of equation 9, [B]; ``task_B`` is zero where no task network ran."""

    distortion_B: Tensor  # L_D, in squared units of the pixel scale
    task_B: Tensor  # L_T, in nats
    rate_B: Tensor  # L_R, in bits a pixel

    def total(self, alpha_B: Tensor, beta_B: Tensor) -> Tensor:
        """Return L = L_D + alpha · L_T + beta · L_R (equation 9) of each image, [B]."""
        return self.distortion_B + alpha_B * self.task_B + beta_B * self.rate_B


def rate(bits_B: Tensor, x_BCHW: Tensor) -> Tensor:
    """Return L_R (equations 7 and 8): the bits of each image over its pixels."""
    return bits_B / (x_BCHW.shape[-2] * x_BCHW.shape[-1])


def cross_entropy(logits: Logits, labels_B: Tensor) -> Tensor:
    """Return L_T (equation 3) of a classifier: cross-entropy with the true labels."""

    def missed(said: Tensor) -> Tensor:
        return F.cross_entropy(said.float(), labels_B, reduction="none", ignore_index=UNLABELLED)

    if logits.auxiliary is None:
        return missed(logits.main)
    return missed(logits.main) + AUXILIARY_WEIGHT * missed(logits.auxiliary)
