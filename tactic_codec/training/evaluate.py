"""Evaluation on real bitstreams: every figure comes from frames whose payload was decoded.

test images ─ square ─ compress ─▶ frame ─ decode ─▶ PSNR, classifier ─▶ accuracy
test images ─ whole ── compress ─▶ frame ─ decode ─▶ PSNR, segmenter ──▶ mean IoU
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from tactic_codec import entropy, metrics, tasks
from tactic_codec import picture as image
from tactic_codec.codec import Codec
from tactic_codec.training.data import Example
from tactic_codec.training.loss import UNLABELLED


@dataclass(frozen=True)
class Figures(ABC):
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

    @abstractmethod
    def shares(self) -> dict[str, float | None]:
        """Return by name, for people, what the task network makes of the decoded images."""


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

    def shares(self) -> dict[str, float | None]:
        """Return accuracy and agreement, see `Figures`."""
        return {"accuracy": self.accuracy, "agreement": self.agreement}


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

    def shares(self) -> dict[str, float | None]:
        """Return pixel accuracy and mean IoU, see `Figures`."""
        return {"pixels": self.pixel_accuracy, "mean IoU": self.mean_iou}


def evaluate(codec: Codec, examples: Sequence[Example], size: int) -> list[ClassificationFigures]:
    """Code squares of images, classify what comes back, and compare with their labels.

    Args:
        codec: a model folder with its runtime; a classifier is asked where it has one.
        examples: at least one; labels count in the order of the classifier's classes.
        size: side of the square that each is scaled and cut to before coding, in pixels.

    Returns:
        The figures of each level of the model, level 1 first.

    Raises:
        TacError: an image cannot be read or coded.
    """
    asked = "classify" in codec.model.heads
    labels = [example.label for example in examples if asked]
    coded: list[list[_Costs]] = [[] for _ in codec.model.levels]
    before: list[int] = []
    after: list[list[int]] = [[] for _ in codec.model.levels]

    def answer(pixels: image.Pixels) -> int:
        return tasks.classify_pixels(codec, pixels, 1)[0].index

    for example in examples:
        pixels = image.square(example.pixels(), size)
        if asked:
            before.append(answer(pixels))
        for i, (decoded, costs) in enumerate(_at_each_level(codec, pixels)):
            coded[i].append(costs)
            if asked:
                after[i].append(answer(decoded))
    return [
        ClassificationFigures(**_means(costs), **_shares(labels, before, answers))
        for costs, answers in zip(coded, after, strict=True)
    ]


def evaluate_masks(codec: Codec, examples: Sequence[Example]) -> list[SegmentationFigures]:
    """Code whole images, segment what comes back, and compare with their label maps.

    Args:
        codec: a model folder with its runtime and a segmentation network.
        examples: images with label maps, at least one.

    Returns:
        The figures of each level of the model, level 1 first.

    Raises:
        TacError: an image or a label map cannot be read, or an image not coded.
        ValueError: no pixel has a class.
    """
    classes = len(codec.model.head("segment").labels)
    coded: list[list[_Costs]] = [[] for _ in codec.model.levels]
    before = np.zeros((classes, classes), np.int64)
    after = np.zeros((len(coded), classes, classes), np.int64)

    def confusion(expected: image.LabelMap, pixels: image.Pixels) -> metrics.Confusion:
        return metrics.confusion(expected, tasks.segment_pixels(codec, pixels).labels, classes)

    for example in examples:
        assert example.mask is not None
        pixels, expected = example.pixels(), image.load_labels(example.mask)
        before += confusion(expected, pixels)
        for i, (decoded, costs) in enumerate(_at_each_level(codec, pixels)):
            coded[i].append(costs)
            after[i] += confusion(expected, decoded)
    uncompressed = metrics.segmentation_scores(before)
    return [
        SegmentationFigures(
            **_means(costs),
            **metrics.segmentation_scores(counts)._asdict(),
            uncompressed_pixel_accuracy=uncompressed.pixel_accuracy,
            uncompressed_mean_iou=uncompressed.mean_iou,
        )
        for costs, counts in zip(coded, after, strict=True)
    ]


class _Costs(NamedTuple):
    """What an image cost on its way through a real bitstream."""

    area: int  # pixels
    bytes: int
    payload: int
    ideal_bits: float
    psnr: float


def _at_each_level(codec: Codec, pixels: image.Pixels) -> Iterator[tuple[image.Pixels, _Costs]]:
    """Yield what comes back of an image, and what that cost, level 1 first."""
    for level in range(1, len(codec.model.levels) + 1):
        frame = codec.compress(pixels, level).frame
        symbols = codec.symbols(frame)
        decoded = codec.synthesise(symbols, frame)
        ideal = entropy.ideal_bits(symbols, codec.model.tables(frame.level))
        psnr = metrics.finite_psnr(pixels, decoded)
        yield decoded, _Costs(frame.pixels, frame.size, len(frame.payload), ideal, psnr)


def _means(coded: Sequence[_Costs]) -> dict[str, Any]:
    """Return the fields of `Figures`."""

    def mean(fact: Callable[[_Costs], float]) -> float:
        return float(np.mean([fact(costs) for costs in coded]))

    return {
        "images": len(coded),
        "bytes": mean(lambda c: c.bytes),
        "bpp": mean(lambda c: 8 * c.bytes / c.area),
        "payload_bpp": mean(lambda c: 8 * c.payload / c.area),
        "ideal_bpp": mean(lambda c: c.ideal_bits / c.area),
        "psnr": mean(lambda c: c.psnr),
    }


def _shares(labels: Sequence[int], before: Sequence[int], after: Sequence[int]) -> dict[str, Any]:
    """Return what `ClassificationFigures` has beside `Figures`; nothing where none was asked."""
    labelled = sum(label != UNLABELLED for label in labels)

    def equal(answers: Sequence[int], expected: Sequence[int]) -> int:
        return sum(a == e for a, e in zip(answers, expected, strict=True))

    right = equal(after, labels)
    return {
        "accuracy": right / labelled if labelled else None,
        "accuracy_interval": metrics.wilson_interval(right, labelled) if labelled else None,
        "uncompressed_accuracy": equal(before, labels) / labelled if labelled else None,
        "agreement": equal(after, before) / len(before) if before else None,
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_rounded(v) for v in value]
    return round(value, 4) if isinstance(value, float) else value
