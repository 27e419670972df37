"""How a decoded picture differs from its original, and a segmentation from its label map.

Training minimises these terms over pictures, an encoder with effort over one picture's symbols, and
evaluation where it trains heads of its own. Each is one value an image.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

UNLABELLED = -1
"""Label of an image, or of a pixel, whose class nobody knows; it has no cross-entropy."""


def distortion(x_hat_BCHW: Tensor, x_BCHW: Tensor, pixel_scale: float) -> Tensor:
    """Return L_D (equation 1) of images in [0, 1], measured on the scale [0, pixel_scale]."""
    error_BCHW = (x_hat_BCHW.float() - x_BCHW.float()) * pixel_scale
    return error_BCHW.square().mean(dim=(1, 2, 3))


def divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """Return the Kullback–Leibler divergence from the teacher's prediction, in nats, [B].

    Logits are [B, classes], or [B, classes, h, w] of places, over which the mean is taken.

    What the teacher says of the uncompressed image is a label with all its doubts (Hinton et al.,
    2015), and one that every image has.
    """
    log_p, log_q = F.log_softmax(logits.float(), 1), F.log_softmax(teacher.float(), 1)
    nats = F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(dim=1)
    return nats if nats.ndim == 1 else nats.flatten(1).mean(dim=1)


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


# --- Of label maps --------------------------------------------------------------------------------


def class_weights(pixels_K: NDArray[np.int64]) -> Tensor:
    """Return what a pixel of each class weighs in the cross-entropy, float32 [K].

    The root of the median share over its own, and 1 for the mean pixel: between all pixels alike,
    which loses pedestrians, and all classes alike (Eigen & Fergus, ICCV 2015), which loses roads.
    A class that never occurs weighs as the rarest.
    """
    known = pixels_K[pixels_K > 0]
    weights = np.sqrt(np.median(known) / np.maximum(pixels_K, known.min()))
    mean = (weights * pixels_K).sum() / pixels_K.sum()
    return torch.from_numpy((weights / mean).astype(np.float32))


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
