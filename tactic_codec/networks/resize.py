"""Images at the size that a network reads, and an enlargement that onnx2pytorch lacks."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


def scaled(x_BCHW: Tensor, height: int, width: int) -> Tensor:
    """Scale images to a size, so that each pixel is a mean of what it covers."""
    if x_BCHW.shape[-2:] == (height, width):
        return x_BCHW
    return F.interpolate(
        x_BCHW, (height, width), mode="bilinear", antialias=True, align_corners=False
    )


class FromTheCorner(nn.Module):
    """Linear enlargement by whole factors, with the first pixels of both in one place.

    Networks from TensorFlow 1 have it; torch puts either the corners or the middles of pixels in
    one place.
    """

    def forward(self, x: Tensor, roi: Any = None, scales: Any = None, sizes: Any = None) -> Tensor:
        """Enlarge [B, C, H, W] as the ONNX operator Resize does, by its scales or to its sizes."""
        by_sizes = scales is None or len(scales) == 0
        ends = (
            sizes[2:] if by_sizes else [n * s for n, s in zip(x.shape[2:], scales[2:], strict=True)]
        )
        height, width = (round(float(end)) for end in ends)
        # With a pixel more at the end, which counts for none of what is kept, the corners coincide.
        more = F.pad(x, (0, 1, 0, 1), "replicate")
        larger = F.interpolate(more, (height + 1, width + 1), mode="bilinear", align_corners=True)
        return larger[:, :, :height, :width]
