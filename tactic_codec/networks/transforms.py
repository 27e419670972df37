"""The analysis and synthesis transforms of the TACTIC paper.

    x_BCHW in [0, 1] ─ analysis ─▶ y_BCHW at 1/8 ─ … ─▶ ŷ_BCHW ─ synthesis ─▶ x̂_BCHW

Analysis is two blocks of convolution, ReLU and max-pool; synthesis is three up-convolutions with
ReLU (Kubiak & Hadfield). The paper gives neither channels nor kernel sizes nor strides: here the
first convolution strides by two, so that the two pools end at 1/8 of the image, which is what
three doublings of the synthesis lead back from.

Letters of shape suffixes: B batch, C channels, H and W rows and columns.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

STRIDE = 8
"""Pixels of the image beside one latent position, in each direction."""

HALO = 4
"""Latent positions around a tile that reach its result: a bound on both transforms."""

FIRST_GAIN, LATENT_GAIN = 8.0, 8.0
"""Of the analysis's random weights, over what torch starts them with."""


class TransformConfig(NamedTuple):
    """Widths of the paper's transforms, in channels."""

    latent: int = 64
    analysis: int = 64
    synthesis: tuple[int, int] = (64, 48)

    @property
    def stride(self) -> int:
        """Pixels of the image beside one latent position, in each direction."""
        return STRIDE

    @property
    def halo(self) -> int:
        """Latent positions around a tile that reach its result: a bound on both transforms."""
        return HALO


class Analysis(nn.Module):
    """Image to latent (equation 2, E)."""

    def __init__(self, config: TransformConfig) -> None:
        super().__init__()
        first = nn.Conv2d(3, config.analysis, 5, stride=2, padding=2)
        to_latent = nn.Conv2d(config.analysis, config.latent, 5, padding=2)
        # Photographs then spread a channel's symbols by about 3 around 6 or more. Less drowns in
        # the noise of training, and rounding makes a single symbol of all of it. Around zero the
        # last ReLU would shut channels for good.
        with torch.no_grad():
            first.weight *= FIRST_GAIN
            to_latent.weight -= to_latent.weight.mean((1, 2, 3), keepdim=True)
            to_latent.weight *= LATENT_GAIN
        nn.init.zeros_(first.bias)  # type: ignore[arg-type]
        nn.init.constant_(to_latent.bias, 6.0)  # type: ignore[arg-type]
        self.layers = nn.Sequential(
            first,
            nn.ReLU(),
            nn.MaxPool2d(2),
            to_latent,
            nn.ReLU(),
            nn.MaxPool2d(2),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map images, float in [0, 1] with sides that 8 divides, to latents at 1/8, float ≥ 0."""
        y_BCHW: Tensor = self.layers(x_BCHW - 0.5)
        return y_BCHW


class Synthesis(nn.Module):
    """Latent to image (equation 2, D)."""

    def __init__(self, config: TransformConfig) -> None:
        super().__init__()
        first, second = config.synthesis
        to_pixels = nn.ConvTranspose2d(second, 3, 4, stride=2, padding=1)
        # The last ReLU would leave a picture that starts below black without any gradient.
        nn.init.constant_(to_pixels.bias, 0.5)  # type: ignore[arg-type]
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(config.latent, first, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(first, second, 4, stride=2, padding=1),
            nn.ReLU(),
            to_pixels,
            nn.ReLU(),
        )

    def forward(self, y_hat_BCHW: Tensor) -> Tensor:
        """Map latents at 1/8 to images, float ≥ 0 where 1 is white; brighter is possible."""
        x_hat_BCHW: Tensor = self.layers(y_hat_BCHW)
        return x_hat_BCHW


def macs_per_pixel(
    transform: nn.Module, *, latent: int | None = None, stride: int = STRIDE
) -> float:
    """Count the multiply–accumulates a transform spends on each pixel of the image.

    Args:
        transform: an analysis, or a synthesis together with ``latent``.
        latent: channels of the latent when the transform starts there, else ``None``.
        stride: pixels beside one latent position.
    """
    size = 8 * stride
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, Tensor)
        # A convolution meets every weight once at each output, a transposed one at each input.
        places = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        total += weight.numel() * places.shape[-2] * places.shape[-1]

    layers = [m for m in transform.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    shape = (1, 3, size, size) if latent is None else (1, latent, size // stride, size // stride)
    try:
        with torch.no_grad():
            transform(torch.zeros(shape))
    finally:
        for hook in hooks:
            hook.remove()
    return total / size**2
