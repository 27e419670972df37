"""NanoDet-g, a detector of 80 kinds of objects: images to boxes.

    1/8 ─── 1×1 ─ + ─────────────── tower ─▶ classes, distances at 1/8
    1/16 ── 1×1 ─ + ┘×2 ── + ┘÷2 ── tower ─▶ at 1/16
    1/32 ── 1×1 ──┘×2 ──── + ┘÷2 ── tower ─▶ at 1/32

Three stages of cross-stage partial blocks (Wang et al., CVPRW 2020), a path aggregation without
convolutions, and a head as in generalised focal loss (Li et al., NeurIPS 2020): a side's distance
is the mean of a distribution over eleven lengths. The architecture is RangiLyu's, batch
normalisations folded; `experiments/heads.py` makes the weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INPUT_SIZE = 480
"""Longer side of the images, in pixels. The weights were trained on squares of 416, and find more
in as many pixels of undistorted pictures: models/README.md has the figures."""

STRIDES = (8, 16, 32)
"""Pixels a position of each output."""

WIDTH = 128
"""Channels of the pyramid and of the towers."""

LENGTHS = 11
"""Of which a side's distance from a position's centre is a mean: 0 to 10 strides."""

LEAK = 0.1
"""Slope of the activations below zero."""

# Of blue, green and red, 0 to 255.
MEAN = (103.53, 116.28, 123.675)
SPREAD = (57.375, 57.12, 58.395)


class Conv(nn.Conv2d):
    """A biased convolution that keeps sides or halves them, and its activation."""

    def __init__(self, fan_in: int, fan_out: int, stride: int = 1) -> None:
        super().__init__(fan_in, fan_out, 3, stride, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Apply both."""
        return F.leaky_relu(super().forward(x_BCHW), LEAK)


class Partial(nn.Module):
    """A block whose result stands beside what it was made of: twice the channels."""

    def __init__(self, channels: int, repeats: int) -> None:
        super().__init__()
        half = channels // 2
        # Each of the inner blocks takes all channels to half, and gives them back as two halves.
        pairs = [nn.ModuleList([Conv(channels, half), Conv(half, half)]) for _ in range(repeats)]
        self.pairs = nn.ModuleList(pairs)
        self.last = Conv(channels, channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Apply the block."""
        y_BCHW = x_BCHW
        for pair in self.pairs:
            first, second = pair.children()
            y_BCHW = first(y_BCHW)
            y_BCHW = torch.cat((second(y_BCHW), y_BCHW), dim=1)
        return torch.cat((self.last(y_BCHW), x_BCHW), dim=1)


class NanoDet(nn.Module):
    """Images to boxes and scores."""

    mean: Tensor
    spread: Tensor

    def __init__(self, classes: int) -> None:
        """Build it with random weights; ``classes`` is how many kinds of objects there are."""
        super().__init__()
        self.classes = classes
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None] / 255, persistent=False)
        self.register_buffer("spread", torch.tensor(SPREAD)[:, None, None] / 255, persistent=False)
        self.stem = Conv(3, 32, stride=2)
        self.enter = Conv(32, 32)
        self.first = Partial(32, 1)
        widths, repeats = (64, 128, 256), (2, 2, 3)
        self.down = nn.ModuleList(Conv(width, width, stride=2) for width in widths)
        self.blocks = nn.ModuleList(map(Partial, widths, repeats))
        self.lateral = nn.ModuleList(nn.Conv2d(2 * width, WIDTH, 1) for width in widths)
        self.tower = nn.ModuleList(Conv(WIDTH, WIDTH) for _ in STRIDES)
        self.said = nn.ModuleList(nn.Conv2d(WIDTH, classes + 4 * LENGTHS, 1) for _ in STRIDES)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map images in [0, 1], sides multiples of 32, to [B, positions, 4 + classes].

        The first four are a box's left, top, right and bottom in pixels of the image, the others
        the score of each class, 0 to 1.
        """
        found = []
        for seen_BKHW, stride in zip(self.planes(x_BCHW), STRIDES, strict=True):
            rows, columns = (
                (torch.arange(side, device=seen_BKHW.device) + 0.5) * stride
                for side in seen_BKHW.shape[2:]
            )
            scores, sides = (seen_BKHW[:, : self.classes], seen_BKHW[:, self.classes :])
            lengths = torch.arange(LENGTHS, device=seen_BKHW.device, dtype=torch.float32)
            chances = torch.unflatten(sides, 1, (4, LENGTHS)).softmax(dim=2)
            reach = stride * (chances * lengths[:, None, None]).sum(dim=2)
            left, top, right, bottom = reach.unbind(dim=1)
            rows = rows[:, None]
            box = torch.stack((columns - left, rows - top, columns + right, rows + bottom), dim=1)
            found.append(torch.cat((box, scores.sigmoid()), dim=1).flatten(2))
        return torch.cat(found, dim=2).transpose(1, 2)

    def planes(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return logits of classes and of lengths at each stride, [B, classes + 44, h, w]."""
        taps = self.features(x_BCHW)
        levels = [lateral(tap) for lateral, tap in zip(self.lateral, taps, strict=True)]
        for fine in reversed(range(len(levels) - 1)):
            levels[fine] = levels[fine] + _resized(levels[fine + 1], 2)
        for fine in range(len(levels) - 1):
            levels[fine + 1] = levels[fine + 1] + _resized(levels[fine], 0.5)
        parts = zip(self.said, self.tower, levels, strict=True)
        return [said(tower(level)) for said, tower, level in parts]

    def features(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return what the backbone sees: 128, 256, 512 channels at 1/8, 1/16, 1/32."""
        x_BCHW = self.stem((x_BCHW.flip(1) - self.mean) / self.spread)
        x_BCHW = self.first(self.enter(F.max_pool2d(x_BCHW, 3, 2, 1)))
        taps = []
        for down, block in zip(self.down, self.blocks, strict=True):
            x_BCHW = block(down(x_BCHW))
            taps.append(x_BCHW)
        return taps


def _resized(x_BCHW: Tensor, scale: float) -> Tensor:
    return F.interpolate(x_BCHW, scale_factor=scale, mode="bilinear", align_corners=False)
