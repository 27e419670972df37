"""The objective of the paper, equations 1 to 9, and distillation as a further task loss.

Every term is one value an image, so that a batch may mix quality levels, each with its own β.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tactic_codec.networks.heads import Logits

AUXILIARY_WEIGHT = 0.4
"""Weight of Inception v3's auxiliary classifier (Szegedy et al., CVPR 2015)."""

UNLABELLED = -1
"""Label of an image whose class nobody knows; it has no cross-entropy."""


class Terms(NamedTuple):
    """The terms of equation 9, [B]; ``task_B`` is zero where no task network ran."""

    distortion_B: Tensor  # L_D, in squared units of the pixel scale
    task_B: Tensor  # L_T, in nats
    rate_B: Tensor  # L_R, in bits a pixel

    def total(self, alpha: float, beta_B: Tensor) -> Tensor:
        """Return L = L_D + alpha · L_T + beta · L_R (equation 9) of each image, [B]."""
        return self.distortion_B + alpha * self.task_B + beta_B * self.rate_B


def distortion(x_hat_BCHW: Tensor, x_BCHW: Tensor, pixel_scale: float) -> Tensor:
    """Return L_D (equation 1) of images in [0, 1], measured on the scale [0, pixel_scale]."""
    error_BCHW = (x_hat_BCHW.float() - x_BCHW.float()) * pixel_scale
    return error_BCHW.square().mean(dim=(1, 2, 3))


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


def divergence(logits_BK: Tensor, teacher_BK: Tensor) -> Tensor:
    """Return the Kullback–Leibler divergence from the teacher's prediction, in nats, [B].

    What the teacher says of the uncompressed image is a label with all its doubts (Hinton et al.,
    2015), and one that every image has.
    """
    log_p, log_q = F.log_softmax(logits_BK.float(), 1), F.log_softmax(teacher_BK.float(), 1)
    return F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(dim=1)


def feature_error(found: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Return the mean over stages of the squared error over the teacher's energy, [B].

    0 where the task network sees in the decoded image what it saw in the original, 1 where it sees
    nothing of it. It holds for parts of images and for what no class names.
    """
    errors = [
        (f.float() - t.float()).square().mean(dim=(1, 2, 3))
        / t.float().square().mean(dim=(1, 2, 3)).clamp_min(1e-6)
        for f, t in zip(found, teacher, strict=True)
    ]
    return torch.stack(errors).mean(dim=0)
