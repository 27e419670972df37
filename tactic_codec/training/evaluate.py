"""Evaluation on real bitstreams: every figure comes from frames that were packed and parsed again.

test images ─ square ─ compress ─▶ bytes ─ decode ─▶ PSNR, classifier ─▶ accuracy
test images ─ whole ── compress ─▶ bytes ─ decode ─▶ PSNR, segmenter ──▶ mean IoU
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

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
    """

    images: int
    bytes: float
    bpp: float
    payload_bpp: float
    ideal_bpp: float
    psnr: float

    def as_json(self) -> dict[str, Any]:
        """Return the figures with as many digits as their precision deserves."""
        return {k: _rounded(v) for k, v in asdict(self).items()}


@dataclass(frozen=True)
class ClassificationFigures(Figures):
    """With what a classifier, if the model has one, makes of the images.

    Attributes:
        accuracy: share of the labelled images whose most likely class is right; None where there
            is none, or no classifier.
        accuracy_interval: its 95 % Wilson interval.
        uncompressed_accuracy: of the same network on the images themselves.
        agreement: share with the same most likely class as the uncompressed image.
    """

    accuracy: float | None
    accuracy_interval: tuple[float, float] | None
    uncompressed_accuracy: float | None
    agreement: float | None


@dataclass(frozen=True)
class SegmentationFigures(Figures):
    """With what a segmentation network makes of the images, over all their pixels together.

    Attributes:
        pixel_accuracy: share of the pixels that have their class.
        mean_iou: see `metrics.segmentation_scores`.
        iou: of each class; None for one that does not occur.
        uncompressed_pixel_accuracy: of the same network on the images themselves.
        uncompressed_mean_iou: likewise.
    """

    pixel_accuracy: float
    mean_iou: float
    iou: tuple[float | None, ...]
    uncompressed_pixel_accuracy: float
    uncompressed_mean_iou: float


def evaluate(
    codec: Codec,
    examples: Sequence[Example],
    size: int,
    *,
    quality: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ClassificationFigures:
    """Code images and measure what comes back.

    Args:
        codec: a model folder with its runtime.
        examples: labelled images; labels count in the order of the head's classes.
        size: side of the square that each is scaled and cut to before coding, in pixels.
        quality: level of the model; by default its own.
        progress: called with (images done, images in all).
    """
    has_head = "classify" in codec.model.heads
    coded = []
    labelled = right = right_before = agreed = 0
    for done, example in enumerate(examples, 1):
        pixels = image.square(image.load(example.path), size)
        decoded = _code(codec, pixels, quality)
        coded.append(decoded)
        if has_head:
            before = tasks.classify_pixels(codec, pixels, 1)[0].index
            after = tasks.classify_pixels(codec, decoded.pixels, 1)[0].index
            labelled += example.label != UNLABELLED
            right_before += before == example.label
            right += after == example.label
            agreed += after == before
        if progress:
            progress(done, len(examples))
    return ClassificationFigures(
        **_means(coded),
        accuracy=right / labelled if labelled else None,
        accuracy_interval=metrics.wilson_interval(right, labelled) if labelled else None,
        uncompressed_accuracy=right_before / labelled if labelled else None,
        agreement=agreed / len(examples) if has_head else None,
    )


def evaluate_masks(
    codec: Codec,
    examples: Sequence[Example],
    *,
    quality: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SegmentationFigures:
    """Code whole images, segment what comes back, and compare with their label maps.

    Args:
        codec: a model folder with its runtime and a segmentation network.
        examples: images with label maps.
        quality: level of the model; by default its own.
        progress: called with (images done, images in all).

    Raises:
        ValueError: no pixel has a class.
    """
    classes = len(codec.model.head("segment").labels)
    coded = []
    before, after = np.zeros((2, classes, classes), np.int64)
    for done, example in enumerate(examples, 1):
        assert example.mask is not None
        pixels, expected = image.load(example.path), image.load_labels(example.mask)
        decoded = _code(codec, pixels, quality)
        coded.append(decoded)
        for counts, seen in ((before, pixels), (after, decoded.pixels)):
            counts += metrics.confusion(expected, tasks.segment_pixels(codec, seen).labels, classes)
        if progress:
            progress(done, len(examples))
    uncompressed, scores = map(metrics.segmentation_scores, (before, after))
    return SegmentationFigures(
        **_means(coded),
        **scores._asdict(),
        uncompressed_pixel_accuracy=uncompressed.pixel_accuracy,
        uncompressed_mean_iou=uncompressed.mean_iou,
    )


class _Coded(NamedTuple):
    """An image that went through a real bitstream."""

    pixels: image.Pixels
    bytes: int
    payload: int
    ideal_bits: float
    psnr: float


def _code(codec: Codec, pixels: image.Pixels, quality: int | None) -> _Coded:
    data = codec.compress(pixels, quality)
    frame = container.parse(data)
    symbols = codec.symbols(frame)
    decoded = codec.synthesise(symbols, frame)
    ideal = entropy.ideal_bits(symbols, codec.model.tables(frame.level))
    psnr = min(metrics.psnr(pixels, decoded), LOSSLESS_PSNR)
    return _Coded(decoded, len(data), len(frame.payload), ideal, psnr)


def _means(coded: Sequence[_Coded]) -> dict[str, Any]:
    """Return the fields of `Figures`."""

    def bpp(bits: Callable[[_Coded], float]) -> float:
        return float(np.mean([bits(c) / (c.pixels.shape[0] * c.pixels.shape[1]) for c in coded]))

    return {
        "images": len(coded),
        "bytes": float(np.mean([c.bytes for c in coded])),
        "bpp": bpp(lambda c: 8 * c.bytes),
        "payload_bpp": bpp(lambda c: 8 * c.payload),
        "ideal_bpp": bpp(lambda c: c.ideal_bits),
        "psnr": float(np.mean([c.psnr for c in coded])),
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_rounded(v) for v in value]
    return round(value, 4) if isinstance(value, float) else value
