"""The objective of the paper, equations 1 to 10, and distillation as a further task loss.

Every term is one value an image, so that a batch may mix quality levels, each with its own β.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tactic_codec.networks.heads import Logits
from tactic_codec.networks.measures import distortion, divergence, feature_error

__all__ = [
    "AUXILIARY_WEIGHT",
    "UNLABELLED",
    "Terms",
    "cross_entropy",
    "dice",
    "distortion",
    "divergence",
    "feature_error",
    "pixel_cross_entropy",
    "rate",
]

AUXILIARY_WEIGHT = 0.4
"""Weight of Inception v3's auxiliary classifier (Szegedy et al., CVPR 2015)."""

UNLABELLED = -1
"""Label of an image, or of a pixel, whose class nobody knows; it has no cross-entropy."""


class Terms(NamedTuple):
    """The terms of equation 9, [B]; ``task_B`` is zero where no task network ran."""

    distortion_B: Tensor  # L_D, in squared units of the pixel scale
    task_B: Tensor  # L_T, in nats
    rate_B: Tensor  # L_R, in bits a pixel

    def total(self, alpha: float, beta_B: Tensor) -> Tensor:
        """Return L = L_D + alpha · L_T + beta · L_R (equation 9) of each image, [B]."""
        return self.distortion_B + alpha * self.task_B + beta_B * self.rate_B


def rate(bits_B: Tensor, x_BCHW: Tensor) -> Tensor:
    """Return L_R (equations 7 and 8): the bits of each image over its pixels."""
    return bits_B / (x_BCHW.shape[-2] * x_BCHW.shape[-1])


def cross_entropy(logits: Logits, labels_B: Tensor) -> Tensor:
    """Return L_T (equation 3) of a classifier: cross-entropy with the true labels."""
    loss_B = F.cross_entropy(
        logits.main.float(), labels_B, reduction="none", ignore_index=UNLABELLED
    )
    if logits.auxiliary is not None:
        loss_B = loss_B + AUXILIARY_WEIGHT * F.cross_entropy(
            logits.auxiliary.float(), labels_B, reduction="none", ignore_index=UNLABELLED
        )
    return loss_B


def pixel_cross_entropy(logits_BKHW: Tensor, labels_BHW: Tensor, weights_K: Tensor) -> Tensor:
    """Return the cross-entropy of a segmentation: the weighted mean over an image's known pixels.

    Args:
        logits_BKHW: of every pixel.
        labels_BHW: class indices, or `UNLABELLED`.
        weights_K: of the classes.
    """
    losses_BHW = F.cross_entropy(
        logits_BKHW.float(),
        labels_BHW,
        weights_K.to(logits_BKHW.device),
        reduction="none",
        ignore_index=UNLABELLED,
    )
    known_BHW = labels_BHW != UNLABELLED
    weights_BHW = weights_K.to(labels_BHW.device)[labels_BHW.clamp_min(0)] * known_BHW
    return losses_BHW.sum(dim=(1, 2)) / weights_BHW.sum(dim=(1, 2)).clamp_min(1e-6)


def dice(logits_BKHW: Tensor, labels_BHW: Tensor) -> Tensor:
    """Return 1 - the Dice coefficient (Milletari et al., V-Net, 2016; the Dice of equation 10).

    The mean over the classes that an image shows, of probabilities against labels; pixels that are
    `UNLABELLED` count nowhere. An image without any known pixel has no loss.
    """
    known_BHW = labels_BHW != UNLABELLED
    p_BKHW = logits_BKHW.float().softmax(dim=1) * known_BHW[:, None]
    truth_BHWK = F.one_hot(labels_BHW.clamp_min(0), p_BKHW.shape[1])
    truth_BKHW = truth_BHWK.permute(0, 3, 1, 2) * known_BHW[:, None]
    both_BK = (p_BKHW * truth_BKHW).sum(dim=(2, 3))
    shown_BK = truth_BKHW.sum(dim=(2, 3))
    dice_BK = 2 * both_BK / (p_BKHW.sum(dim=(2, 3)) + shown_BK).clamp_min(1e-6)
    counted_BK = (shown_BK > 0).float()
    classes_B = counted_BK.sum(dim=1)
    missed_B = (counted_BK * (1 - dice_BK)).sum(dim=1)
    return missed_B / torch.clamp_min(classes_B, 1)
