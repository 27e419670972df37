"""The light task network for segmentation: images to logits of classes at every place.

A feature pyramid (Lin et al., CVPR 2017) on EfficientNet-Lite0's trunk:

    1/4 ── 1×1 ─ + ─ refine ─ 1×1 ─▶ logits at 1/4
    1/8 ── 1×1 ─ + ─ refine ─┘ ×2
    1/16 ─ 1×1 ─ + ─ refine ─┘ ×2
    1/32 ─ 1×1 ──────────────┘ ×2
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tactic_codec.networks.efficientnet_lite import SameConv2d, Trunk

WIDTH = 64
"""Channels of the pyramid: with them the decoder is an eighth of the trunk's work."""


class Refine(nn.Module):
    """A depthwise 5×5 and a 1×1 beside the identity: mixes what two scales have added up."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = SameConv2d(channels, channels, 5, groups=channels)
        self.pointwise = SameConv2d(channels, channels, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Apply the block."""
        return x_BCHW + F.relu(self.pointwise(F.relu(self.depthwise(x_BCHW))))


class PyramidSegmenter(Trunk):
    """EfficientNet-Lite0's trunk under a light decoder."""

    def __init__(self, classes: int) -> None:
        """Build it with random weights; ``classes`` is the number of the logits' channels."""
        super().__init__()
        self.lateral = nn.ModuleList(SameConv2d(c, WIDTH, 1) for c in self.feature_channels)
        self.refine = nn.ModuleList(Refine(WIDTH) for _ in self.feature_channels[1:])
        self.classifier = SameConv2d(WIDTH, classes, 1)

    def with_features(self, x_BCHW: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Map images to logits [B, classes, H / 4, W / 4] and features, see `Trunk.features`."""
        taps = self.features(x_BCHW)
        seen: Tensor = self.lateral[-1](taps[-1])
        # What the whole picture shows says much about its parts.
        seen = seen + seen.mean(dim=(2, 3), keepdim=True)
        finer = zip(taps[-2::-1], self.lateral[-2::-1], self.refine, strict=True)
        for tap, lateral, refine in finer:
            seen = F.interpolate(seen, scale_factor=2, mode="bilinear", align_corners=False)
            seen = refine(seen + lateral(tap))
        logits: Tensor = self.classifier(seen)
        return logits, taps
