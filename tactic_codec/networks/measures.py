"""How a decoded picture differs from its original, for people and for a task network.

Training minimises these terms over pictures, an encoder with effort over one picture's symbols.
Each is one value an image.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


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
