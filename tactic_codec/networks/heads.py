"""Task networks for classification, by name.

Each takes images in [0, 1] at its own ``input_size`` and does its own normalisation, so the codec
and the training loop need not know which network they feed. Those of torchvision start from random
weights, since nothing is downloaded; EfficientNet-Lite0 can start from its published ones.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tactic_codec.errors import ConfigError
from tactic_codec.networks import efficientnet_lite
from tactic_codec.networks.efficientnet_lite import EfficientNetLite0

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


LAST_LAYER = "head.classifier."
"""Prefix, in a `TacticNetwork`, of the layer of efficientnet_lite0 that knows the classes."""


class Logits(NamedTuple):
    """What a classifier says: logits [B, classes], and an auxiliary branch's in training."""

    main: Tensor
    auxiliary: Tensor | None = None


class TorchvisionClassifier(nn.Module):
    """A classifier of torchvision behind the ImageNet normalisation."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def forward(self, x_BCHW: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map images in [0, 1] to logits; Inception v3 in training to (logits, auxiliary)."""
        output = self.network((x_BCHW - self.mean) / self.std)
        if isinstance(output, tuple):
            return output[0], output[1]
        logits: Tensor = output
        return logits


class HeadKind(NamedTuple):
    """How a task network is built and fed."""

    build: Callable[[int], nn.Module]
    input_size: int


def _torchvision(name: str, **options: bool) -> Callable[[int], nn.Module]:
    def build(classes: int) -> nn.Module:
        from tactic_codec.networks.torchvision_shim import torchvision

        constructor = getattr(torchvision.models, name)
        return TorchvisionClassifier(constructor(weights=None, num_classes=classes, **options))

    return build


KINDS: dict[str, HeadKind] = {
    "efficientnet_lite0": HeadKind(EfficientNetLite0, efficientnet_lite.INPUT_SIZE),
    # torchvision's slow truncated-normal start is what init_weights=True asks for.
    "inception_v3": HeadKind(_torchvision("inception_v3", aux_logits=True, init_weights=True), 299),
    "mobilenet_v3_small": HeadKind(_torchvision("mobilenet_v3_small"), 224),
    "resnet18": HeadKind(_torchvision("resnet18"), 224),
}


def build_head(name: str, classes: int, *, published: bool = False) -> nn.Module:
    """Build a task network.

    Args:
        name: one of ``KINDS``.
        classes: length of its logits.
        published: start from published weights; only ``efficientnet_lite0`` has them. With other
            than 1,000 classes its last layer starts anew.

    Raises:
        ConfigError: no such network, or it has no published weights.
        BackendUnavailable: the package that carries the weights is missing.
    """
    if name not in KINDS:
        raise ConfigError(f"no task network is called {name!r}; there are: {', '.join(KINDS)}")
    head = KINDS[name].build(classes)
    if published:
        if not isinstance(head, EfficientNetLite0):
            raise ConfigError(
                f"{name} has no published weights that install offline; "
                'use weights = "random", or network = "efficientnet_lite0"'
            )
        weights = efficientnet_lite.published_weights()
        if classes != len(weights["classifier.bias"]):
            weights |= {f"classifier.{k}": v for k, v in head.classifier.state_dict().items()}
        head.load_state_dict(weights)
    return head


def classify(head: nn.Module, x_BCHW: Tensor) -> Logits:
    """Run a classifier and give its result one shape, with or without an auxiliary branch."""
    output = head(x_BCHW)
    return Logits(*output) if isinstance(output, tuple) else Logits(output)
