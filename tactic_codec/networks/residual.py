"""The transforms of the default model: a block transform, and residual bottlenecks beside it.

    x_BCHW ─┬─ 16×16 block transform ────────────────────────────────── + ─▶ y_BCHW
            └─ 8×8 patches ─ blocks at 1/8 ─ step to 1/16 ─ blocks ─────┘
    ŷ_BCHW ─┬─ its transpose ────────────────────────────────────────────────── + ─▶ x̂_BCHW
            └─ blocks at 1/16 ─ shuffle to 1/8 ─ … to 1/4 ─ … to the image ─────┘

The linear path starts as the discrete cosine transform of luma and chroma, and the other at zero:
training begins as a codec like JPEG and learns what is better, where random networks spend most of
a short training on finding frequencies at all. Everything else runs at 1/8 of the image or less
until the last layers of the synthesis, so that an encoder at the edge spends a few thousand
operations a pixel (the shape of Duan & Zhu, PCS 2022; sub-pixel layers of Shi et al., CVPR 2016).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

STRIDE = 16
"""Pixels of the image beside one latent position, in each direction."""

OPPONENTS = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (-1.0, 2.0, -1.0))
"""Luma and two chromas over red, green and blue, orthogonal to each other."""

PATCH = 8
"""Side in pixels of the patches that the first layer reads."""


@dataclass(frozen=True)
class ResidualConfig:
    """Widths in channels, and how many blocks stand at each resolution."""

    latent: int = 256
    sixteenth: int = 192
    eighth: int = 128
    quarter: int = 64
    analysis_blocks: tuple[int, int] = (4, 4)  # at 1/8, 1/16
    synthesis_blocks: tuple[int, int, int] = (4, 4, 4)  # at 1/16, 1/8, 1/4

    @property
    def stride(self) -> int:
        """Pixels of the image beside one latent position, in each direction."""
        return STRIDE

    @property
    def halo(self) -> int:
        """Latent positions around a tile that reach its result: a bound on both transforms."""
        analysis = self.analysis_blocks[1] + self.analysis_blocks[0] / 2
        at_sixteenth, at_eighth, at_quarter = self.synthesis_blocks
        # A block reaches one position of its own resolution further, and so does the last layer.
        synthesis = at_sixteenth + at_eighth / 2 + (at_quarter + 1) / 4
        return math.ceil(max(analysis + 1, synthesis))


class Bottleneck(nn.Module):
    """Halve the channels, filter 3×3, restore the channels, add the input (He et al., CVPR 2016).

    Without normalisation: statistics of a batch have no place in a codec that must give one image
    the same latent in any company.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = channels // 2
        self.layers = nn.Sequential(
            nn.Conv2d(channels, narrow, 1),
            nn.ReLU(),
            nn.Conv2d(narrow, narrow, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(narrow, channels, 1),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map features to features of the same shape."""
        out: Tensor = x_BCHW + self.layers(x_BCHW)
        return out


def cosine_basis(channels: int) -> Tensor:
    """Return the first channels of the cosine transform of 16×16 blocks, [C, 3, 16, 16].

    Rows are orthonormal, by rising frequency; of the frequencies of chroma only the lower half
    take part until all of luma's do.
    """
    place = torch.arange(STRIDE) + 0.5
    frequency = torch.arange(STRIDE)[:, None]
    waves = torch.cos(math.pi / STRIDE * frequency * place) * math.sqrt(2 / STRIDE)
    waves[0] /= math.sqrt(2)
    red_green_blue = torch.tensor(OPPONENTS)
    opponents = red_green_blue / red_green_blue.norm(dim=1, keepdim=True)
    basis = torch.einsum("kc,uh,vw->kuvchw", opponents, waves, waves)
    radius = (frequency.square() + frequency.T.square()).sqrt()
    rank = torch.stack([radius, 2 * radius + 1, 2 * radius + 1])
    order = rank.flatten().argsort(stable=True)[:channels]
    return basis.reshape(-1, 3, STRIDE, STRIDE)[order]


def _blocks(count: int, channels: int) -> list[nn.Module]:
    return [Bottleneck(channels) for _ in range(count)]


def _silent(layer: nn.Conv2d) -> nn.Conv2d:
    """Let a path start at zero."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class ResidualAnalysis(nn.Module):
    """Image to latent (equation 2, E)."""

    def __init__(self, config: ResidualConfig) -> None:
        super().__init__()
        at_eighth, at_sixteenth = config.analysis_blocks
        self.layers = nn.Sequential(
            nn.Conv2d(3, config.eighth, PATCH, stride=PATCH),
            *_blocks(at_eighth, config.eighth),
            nn.Conv2d(config.eighth, config.sixteenth, 2, stride=2),
            *_blocks(at_sixteenth, config.sixteenth),
            _silent(nn.Conv2d(config.sixteenth, config.latent, 1)),
        )
        self.linear = nn.Conv2d(3, config.latent, STRIDE, stride=STRIDE, bias=False)
        self.linear.weight = nn.Parameter(cosine_basis(config.latent))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map images, float in [0, 1] with sides that 16 divides, to latents at 1/16."""
        centred_BCHW = x_BCHW - 0.5
        y_BCHW: Tensor = self.linear(centred_BCHW) + self.layers(centred_BCHW)
        return y_BCHW


class ResidualSynthesis(nn.Module):
    """Latent to image (equation 2, D)."""

    def __init__(self, config: ResidualConfig) -> None:
        super().__init__()
        at_sixteenth, at_eighth, at_quarter = config.synthesis_blocks
        self.layers = nn.Sequential(
            nn.Conv2d(config.latent, config.sixteenth, 1),
            *_blocks(at_sixteenth, config.sixteenth),
            nn.Conv2d(config.sixteenth, 4 * config.eighth, 1),
            nn.PixelShuffle(2),
            *_blocks(at_eighth, config.eighth),
            nn.Conv2d(config.eighth, 4 * config.quarter, 1),
            nn.PixelShuffle(2),
            *_blocks(at_quarter, config.quarter),
            _silent(nn.Conv2d(config.quarter, 4 * 4 * 3, 3, padding=1)),
            nn.PixelShuffle(4),
        )
        self.linear = nn.ConvTranspose2d(config.latent, 3, STRIDE, stride=STRIDE, bias=False)
        self.linear.weight = nn.Parameter(cosine_basis(config.latent))

    def forward(self, y_hat_BCHW: Tensor) -> Tensor:
        """Map latents at 1/16 to images, float around [0, 1] where 1 is white."""
        x_hat_BCHW: Tensor = self.linear(y_hat_BCHW) + self.layers(y_hat_BCHW) + 0.5
        return x_hat_BCHW
