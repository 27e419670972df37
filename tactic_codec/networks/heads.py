"""Task networks, by name.

Each takes images in [0, 1] and does its own normalisation, so the codec and the training loop need
not know which network they feed. Classifiers want squares of their ``input_size``; segmentation
networks and detectors take any sides that are multiples of 32. Those of torchvision start from
random weights, since nothing is downloaded; what stands on EfficientNet-Lite0 can start from its
published ones.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from tactic_codec.errors import ConfigError
from tactic_codec.networks import efficientnet_lite, nanodet
from tactic_codec.networks.depthwise import adopt_depthwise
from tactic_codec.networks.efficientnet_lite import EfficientNetLite0, Trunk
from tactic_codec.networks.segmentation import PyramidSegmenter

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

LAST_LAYER = "head.classifier."
"""Prefix, in a `TacticNetwork`, of the layer of networks on EfficientNet-Lite0 that knows the
classes."""

Task = Literal["classify", "segment", "detect"]


class Logits(NamedTuple):
    """What a task network says, and what an auxiliary branch of it says in training.

    Logits are [B, classes] of a classifier and [B, classes, h, w] of a segmentation network; a
    detector says [B, positions, 4 + classes], see `nanodet.NanoDet`.
    """

    main: Tensor
    auxiliary: Tensor | None = None


class TorchvisionClassifier(nn.Module):
    """A classifier of torchvision behind the ImageNet normalisation."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        adopt_depthwise(network)
        self.network = network
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def forward(self, x_BCHW: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map images in [0, 1] to logits; Inception v3 in training to (logits, auxiliary)."""
        output: Tensor | tuple[Tensor, Tensor] = self.network((x_BCHW - self.mean) / self.std)
        return output


class TorchvisionSegmenter(TorchvisionClassifier):
    """A segmentation network of torchvision behind the same normalisation."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map images in [0, 1] to logits [B, classes, H, W]."""
        logits: Tensor = self.network((x_BCHW - self.mean) / self.std)["out"]
        return logits


class HeadKind(NamedTuple):
    """How a task network is built and fed."""

    build: Callable[[int], nn.Module]
    input_size: int | None  # None: any; then a run's own pictures give the size
    task: Task = "classify"


def _torchvision(
    name: str,
    wrapper: type[TorchvisionClassifier] = TorchvisionClassifier,
    **options: bool | None,
) -> Callable[[int], nn.Module]:
    def build(classes: int) -> nn.Module:
        from tactic_codec.networks.torchvision_shim import torchvision

        network = torchvision.models.get_model(name, weights=None, num_classes=classes, **options)
        return wrapper(network)

    return build


def _segmenter(name: str) -> HeadKind:
    build = _torchvision(name, TorchvisionSegmenter, weights_backbone=None)
    return HeadKind(build, None, "segment")


KINDS: dict[str, HeadKind] = {
    "efficientnet_lite0": HeadKind(EfficientNetLite0, efficientnet_lite.INPUT_SIZE),
    # torchvision's slow truncated-normal start is what init_weights=True asks for.
    "inception_v3": HeadKind(_torchvision("inception_v3", aux_logits=True, init_weights=True), 299),
    "mobilenet_v3_small": HeadKind(_torchvision("mobilenet_v3_small"), 224),
    "resnet18": HeadKind(_torchvision("resnet18"), 224),
    "efficientnet_lite0_pyramid": HeadKind(PyramidSegmenter, None, "segment"),
    "fcn_resnet101": _segmenter("fcn_resnet101"),
    "lraspp_mobilenet_v3_large": _segmenter("lraspp_mobilenet_v3_large"),
    "nanodet_g": HeadKind(nanodet.NanoDet, nanodet.INPUT_SIZE, "detect"),
}


def kind_of(name: str) -> HeadKind:
    """Return how a task network is built; ConfigError where none is called so."""
    if name not in KINDS:
        raise ConfigError(f"no task network is called {name!r}; there are: {', '.join(KINDS)}")
    return KINDS[name]


def build_head(name: str, classes: int, *, published: bool = False) -> nn.Module:
    """Build a task network.

    Args:
        name: one of ``KINDS``.
        classes: how many it tells apart.
        published: start from published weights, which those on EfficientNet-Lite0 have. What they
            do not cover, such as a last layer for other than 1,000 classes, starts at random.

    Raises:
        ConfigError: no such network, or it has no published weights.
        BackendUnavailable: the package that carries the weights is missing.
    """
    head = kind_of(name).build(classes)
    if published:
        if not isinstance(head, Trunk):
            raise ConfigError(
                f"{name} has no published weights that install offline; "
                'use weights = "random", or network = "efficientnet_lite0"'
            )
        own = head.state_dict()
        weights = efficientnet_lite.published_weights()
        fitting = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
        head.load_state_dict(own | fitting)
    return head


def look(head: nn.Module, x_BCHW: Tensor) -> tuple[Logits, list[Tensor]]:
    """Run a task network.

    Returns:
        Logits, in one shape with or without an auxiliary branch; and the features that can be
        distilled, where the network gives them.
    """
    if isinstance(head, Trunk):
        main, features = head.with_features(x_BCHW)
        return Logits(main), features
    output = head(x_BCHW)
    return (Logits(*output) if isinstance(output, tuple) else Logits(output)), []


def classify(head: nn.Module, x_BCHW: Tensor) -> Logits:
    """Run a task network for its logits alone."""
    return look(head, x_BCHW)[0]
