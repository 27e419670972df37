"""Evaluation on real bitstreams: every figure comes from frames that were packed and parsed again.

test images ─ square ─ compress ─▶ bytes ─ decode ─▶ PSNR, task network ─▶ accuracy
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tactic_codec import container, entropy, image, metrics, tasks
from tactic_codec.codec import Codec
from tactic_codec.training.data import Example
from tactic_codec.training.loss import UNLABELLED

LOSSLESS_PSNR = 100.0
"""dB that stand for infinity; one value of a 224×224 picture that is off by one makes 99.9."""


@dataclass(frozen=True)
class Figures:
    """Means over a set of images.

    Attributes:
        images: how many.
        bytes: of a file.
        bpp: bits of a file over the pixels of its image.
        payload_bpp: likewise of the payload alone.
        ideal_bpp: what the tables say that the symbols cost.
        psnr: dB, the mean of the images' own; 100 for one that came back exactly.
        accuracy: share of the labelled images whose most likely class is right; None where there
            is none, or no task network.
        accuracy_interval: its 95 % Wilson interval.
        uncompressed_accuracy: of the same network on the images themselves.
        agreement: share with the same most likely class as the uncompressed image.
    """

    images: int
    bytes: float
    bpp: float
    payload_bpp: float
    ideal_bpp: float
    psnr: float
    accuracy: float | None
    accuracy_interval: tuple[float, float] | None
    uncompressed_accuracy: float | None
    agreement: float | None

    def as_json(self) -> dict[str, Any]:
        """Return the figures with as many digits as their precision deserves."""
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}


def evaluate(
    codec: Codec,
    examples: Sequence[Example],
    size: int,
    *,
    quality: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Figures:
    """Code images and measure what comes back.

    Args:
        codec: a model folder with its runtime.
        examples: labelled images; labels count in the order of the head's classes.
        size: side of the square that each is scaled and cut to before coding, in pixels.
        quality: level of the model; by default its own.
        progress: called with (images done, images in all).
    """
    has_head = "classify" in codec.model.heads
    sizes, payloads, ideals, psnrs = [], [], [], []
    labelled = right = right_before = agreed = 0
    for done, example in enumerate(examples, 1):
        pixels = image.square(image.load(example.path), size)
        data = codec.compress(pixels, quality)
        frame = container.parse(data)
        symbols = codec.symbols(frame)
        decoded = codec.synthesise(symbols, frame)
        sizes.append(len(data))
        payloads.append(len(frame.payload))
        ideals.append(entropy.ideal_bits(symbols, codec.model.tables(frame.level)))
        psnrs.append(min(metrics.psnr(pixels, decoded), LOSSLESS_PSNR))
        if has_head:
            before = tasks.classify_pixels(codec, pixels, 1)[0].index
            after = tasks.classify_pixels(codec, decoded, 1)[0].index
            labelled += example.label != UNLABELLED
            right_before += before == example.label
            right += after == example.label
            agreed += after == before
        if progress:
            progress(done, len(examples))
    count = len(examples)
    area = size * size
    return Figures(
        images=count,
        bytes=float(np.mean(sizes)),
        bpp=8 * float(np.mean(sizes)) / area,
        payload_bpp=8 * float(np.mean(payloads)) / area,
        ideal_bpp=float(np.mean(ideals)) / area,
        psnr=float(np.mean(psnrs)),
        accuracy=right / labelled if labelled else None,
        accuracy_interval=metrics.wilson_interval(right, labelled) if labelled else None,
        uncompressed_accuracy=right_before / labelled if labelled else None,
        agreement=agreed / count if has_head else None,
    )
