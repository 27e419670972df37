"""Small task networks for the tables at desk size: plain convolutions from random weights."""

from torch import nn

from tactic_codec.networks import heads

CLASSIFIER = ((3, 32, 5), (32, 64, 3), (64, 128, 3), (128, 256, 3))
SEGMENTER = ((3, 32, 5), (32, 64, 3), (64, 128, 3))


def _layers(shapes: tuple[tuple[int, int, int], ...], first: int) -> list[nn.Module]:
    """Return convolutions that halve each side; the first one divides it by ``first``."""
    layers: list[nn.Module] = []
    for number, (read, made, kernel) in enumerate(shapes):
        stride = 2 if number else first
        layers += [
            nn.Conv2d(read, made, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(made),
            nn.ReLU(),
        ]
    return layers


def classifier(classes: int, first: int) -> nn.Module:
    """Return four convolutions and a mean over places: [B, 3, H, W] to logits [B, classes]."""
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, classes))
    return nn.Sequential(*_layers(CLASSIFIER, first), *pooled)


def segmenter(classes: int) -> nn.Module:
    """Return four convolutions, the last one dilated: [B, 3, H, W] to logits at 1/8."""
    wide = nn.Conv2d(128, 128, 3, padding=4, dilation=4, bias=False)
    last = (wide, nn.BatchNorm2d(128), nn.ReLU(), nn.Conv2d(128, classes, 1))
    return nn.Sequential(*_layers(SEGMENTER, 2), *last)


heads.KINDS |= {
    "convolutions_64": heads.HeadKind(lambda classes: classifier(classes, 2), 64),
    "convolutions_128": heads.HeadKind(lambda classes: classifier(classes, 4), 128),
    "convolutions_masks": heads.HeadKind(segmenter, None, "segment"),
}
