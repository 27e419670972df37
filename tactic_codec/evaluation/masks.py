"""Measure coders on pictures with label maps: what a segmentation network makes of what comes back.

whole picture ─ code, decode ─▶ bytes, PSNR, MS-SSIM, segmentation ─ label map ─▶ confusion
confusions of all pictures ─ sum ─▶ mean IoU, with its interval from resampled pictures

Scores are of all pixels of all pictures together, from one confusion matrix; void never counts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np

from tactic_codec import metrics, tasks
from tactic_codec.evaluation.bench import Bench, Budget, sweep, work_at
from tactic_codec.evaluation.cache import Facts
from tactic_codec.evaluation.coders import Coded, Coder, Uncompressed, head_identity
from tactic_codec.evaluation.comparisons import Comparison, comparisons
from tactic_codec.evaluation.curves import AnyPoint, Curve, Setting, Share
from tactic_codec.evaluation.pictures import MaskFolder, MaskPicture
from tactic_codec.metrics import Confusion, LabelMap

RESAMPLES = 1000
"""Draws of as many pictures as there are, with replacement, for an interval (Efron, 1979)."""

SEED = 1
"""Of the draws: all points of a folder see the same ones."""


class MaskMeasurement(NamedTuple):
    """One picture, coded and decoded.

    Attributes:
        bytes: of its file.
        psnr: dB, at most 100.
        ms_ssim: 0 to 1.
        agreed: how many of its pixels the reference network gives the class that it gives them in
            the uncompressed picture; void has one, too.
        confusion: int64 [classes, classes], see `metrics.confusion`.
    """

    bytes: int
    psnr: float
    ms_ssim: float
    agreed: int
    confusion: Confusion

    def as_facts(self) -> Facts:
        """Return what the cache keeps."""
        return {**self._asdict(), "confusion": self.confusion.ravel().tolist()}

    @classmethod
    def of_facts(cls, facts: Facts) -> "MaskMeasurement":
        """Return what the cache has kept."""
        confusion = square_of(facts["confusion"])
        return cls(facts["bytes"], facts["psnr"], facts["ms_ssim"], facts["agreed"], confusion)


def square_of(counts: Sequence[int]) -> Confusion:
    """Return the confusion matrix of which a shelf has the rows, one behind the other."""
    flat = np.array(counts, np.int64)
    side = math.isqrt(flat.size)
    return flat.reshape(side, side)


class MaskScores(NamedTuple):
    """How well the pixels of some pictures were labelled.

    Attributes:
        mean_iou: over the classes that occur; the interval is of the mean over draws of pictures.
        pixel_accuracy: share of the pixels that have the right class.
        iou: of each class; None for one that neither occurs nor was found.
    """

    mean_iou: Share
    pixel_accuracy: float
    iou: tuple[float | None, ...]


@dataclass(frozen=True)
class MaskPoint(AnyPoint):
    """A coder at one setting on a folder of pictures that are segmented.

    Attributes:
        agreement: share of all pixels, void among them, that have the class that the reference
            network gives them in the uncompressed picture.
        scores: of the reference network.
        retrained: of a retrained head; None where that was not asked for.
    """

    agreement: float
    scores: MaskScores
    retrained: MaskScores | None = None

    def shares(self) -> dict[str, Share]:
        """Return mean IoUs, see `AnyPoint`."""
        known = {"mean IoU": self.scores.mean_iou}
        return known | ({"retrained mean IoU": self.retrained.mean_iou} if self.retrained else {})


@dataclass(frozen=True)
class MaskResult:
    """All that was measured on a folder with label maps.

    Attributes:
        folder: its name.
        images: how many.
        classes: names, in the order of the IoUs.
        uncompressed: the pictures themselves.
        curves: of models and codecs, in the order of the coders.
        comparisons: of every model with every other curve.
    """

    folder: str
    images: int
    classes: tuple[str, ...]
    uncompressed: MaskPoint
    curves: tuple[Curve[MaskPoint], ...]
    comparisons: tuple[Comparison, ...]


class MaskHeads(Budget, Protocol):
    """Trains segmentation networks, see `tactic_codec.evaluation.retrain_masks`."""

    def scores(self, folder: MaskFolder, coder: Coder, setting: Setting) -> MaskScores:
        """Train a head on what a coder gives back, and ask it about a folder's pictures."""


def evaluate_masks(
    folders: Sequence[MaskFolder],
    coders: Sequence[Coder],
    bench: Bench,
    *,
    within: tuple[float, float] = (0.0, 1.0),
    heads: MaskHeads | None = None,
    compare: bool = True,
) -> list[MaskResult]:
    """Measure every coder at each of its settings on every folder, as `evaluate.evaluate` does.

    Args:
        folders: their pictures.
        coders: what is measured.
        bench: whose reference's segmentation network answers.
        within: the mean IoUs over which its BD-rate is taken.
        heads: trains heads for every point, where that is wanted.
        compare: whether to compute BD-rates.

    Raises:
        TacError: a coder cannot code a picture; a curve without it would be another curve.
        UnknownTask: the reference has no segmentation network.
        BackendUnavailable: ``compare`` is true and SciPy is missing.
    """
    segmenter = _Segmenter(bench, heads)
    results = []
    for folder in folders:
        uncompressed = segmenter.point(folder, Uncompressed(), 0)
        curves = tuple(segmenter.curve(folder, coder) for coder in coders)
        results.append(
            MaskResult(
                folder=folder.name,
                images=len(folder.pictures),
                classes=bench.reference.model.head("segment").labels,
                uncompressed=uncompressed,
                curves=curves,
                comparisons=tuple(comparisons(curves, within)) if compare else (),
            )
        )
    return results


class _Segmenter:
    """Measures coders on folders, by what a segmentation network makes of the pictures."""

    def __init__(self, bench: Bench, heads: MaskHeads | None) -> None:
        self._bench = bench
        self._heads = heads
        self._answers = {"segmented by": head_identity(bench.reference, bench.device, "segment")}
        self._classes = len(bench.reference.model.head("segment").labels)
        self._before: dict[str, LabelMap] = {}

    def curve(self, folder: MaskFolder, coder: Coder) -> Curve[MaskPoint]:
        """Measure a coder at its settings."""
        work = work_at(folder, self._heads)
        return sweep(
            coder,
            lambda setting: self.point(folder, coder, setting),
            lambda left: self._bench.advance(left * work),
        )

    def point(self, folder: MaskFolder, coder: Coder, setting: Setting) -> MaskPoint:
        """Measure a coder at a setting, and train a head where that is wanted."""
        pictures = folder.pictures
        found = self._bench.facts(pictures, coder, setting, self._answers, self._facts)
        point = mask_point(setting, list(map(MaskMeasurement.of_facts, found)), pictures)
        if self._heads:
            point = replace(point, retrained=self._heads.scores(folder, coder, setting))
            self._bench.advance(self._heads.steps)
        return point

    def _facts(self, picture: MaskPicture, coded: Coded) -> Facts:
        """Compare a decoded picture with its original and with its label map."""
        after = tasks.segment_pixels(self._bench.reference, coded.decoded).labels
        if picture.hash not in self._before:
            before = tasks.segment_pixels(self._bench.reference, picture.pixels).labels
            self._before[picture.hash] = before
        return MaskMeasurement(
            bytes=coded.bytes,
            psnr=metrics.finite_psnr(picture.pixels, coded.decoded),
            ms_ssim=metrics.ms_ssim(picture.pixels, coded.decoded),
            agreed=int((after == self._before[picture.hash]).sum()),
            confusion=metrics.confusion(picture.labels, after, self._classes),
        ).as_facts()


def mask_point(
    setting: Setting, measurements: Sequence[MaskMeasurement], pictures: Sequence[MaskPicture]
) -> MaskPoint:
    """Put the measurements of pictures together.

    Args:
        setting: at which they were coded.
        measurements: one a picture, at least one.
        pictures: of which they are.

    Raises:
        ValueError: all pixels are void.
    """
    sizes = [picture.labels.size for picture in pictures]
    bits = [8 * m.bytes / size for m, size in zip(measurements, sizes, strict=True)]
    return MaskPoint(
        setting=setting,
        images=len(measurements),
        bytes=float(np.mean([m.bytes for m in measurements])),
        bpp=float(np.mean(bits)),
        psnr=float(np.mean([m.psnr for m in measurements])),
        ms_ssim=float(np.mean([m.ms_ssim for m in measurements])),
        agreement=sum(m.agreed for m in measurements) / sum(sizes),
        scores=scores_of([m.confusion for m in measurements]),
    )


def scores_of(confusions: Sequence[Confusion]) -> MaskScores:
    """Return the scores of pictures, each int64 [classes, classes], over their pixels together.

    Raises:
        ValueError: all pixels are void.
    """
    stacked = np.stack(confusions)
    scores = metrics.segmentation_scores(stacked.sum(axis=0))
    mean_iou = Share(scores.mean_iou, *_interval(stacked))
    return MaskScores(mean_iou, scores.pixel_accuracy, scores.iou)


def _interval(confusions: Confusion) -> tuple[float, float]:
    """Return the 2.5th and 97.5th percentile of the mean IoU over draws of the pictures.

    A draw without any picture of a class leaves that class out, as the mean IoU itself does, and
    one of void alone says nothing.
    """
    count = len(confusions)
    random = np.random.default_rng(SEED)
    draws = random.multinomial(count, [1 / count] * count, size=RESAMPLES)
    own = confusions.diagonal(axis1=1, axis2=2)
    either = confusions.sum(axis=1) + confusions.sum(axis=2) - own
    right, union = draws @ own, draws @ either
    known = (union > 0).sum(axis=1)
    sums = (right / np.maximum(union, 1)).sum(axis=1)
    low, high = np.percentile(sums[known > 0] / known[known > 0], (2.5, 97.5))
    return float(low), float(high)
