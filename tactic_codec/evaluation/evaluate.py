"""Measure coders on folders, and compare the curves that come out.

Folder, Coder… ─ every setting, every picture ─▶ Curve… ─ every model against all others ─▶ BdRate
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from tactic_codec.evaluation.bdrate import BdRate, RatePoint, bd_rate
from tactic_codec.evaluation.bench import Bench, Budget, Pictures, sweep, work_at
from tactic_codec.evaluation.cache import Facts
from tactic_codec.evaluation.coders import Coded, Coder, Uncompressed, head_identity
from tactic_codec.evaluation.curves import AnyPoint, Curve, Point, Retrained, Setting, point
from tactic_codec.evaluation.measure import Measurement, measure
from tactic_codec.evaluation.pictures import Folder, Picture

BEST_CODEC = "best codec"
"""Name of the curve that takes the points of all codecs but the models together."""


class Heads(Budget, Protocol):
    """Fine-tunes task networks, see `tactic_codec.evaluation.retrain`."""

    def shares(
        self, folder: Folder, coder: Coder, setting: Setting, before: Sequence[int]
    ) -> Retrained:
        """Fine-tune a head on what a coder gives back, and ask it about a folder's pictures."""


@dataclass(frozen=True)
class Comparison:
    """How much less rate a model needs than another curve for the same quality.

    Attributes:
        test: name of the model's curve.
        anchor: name of the other.
        quality: ``psnr``, or the name of a share, see `AnyPoint.shares`.
        bd_rate: None where the curves share no quality.
    """

    test: str
    anchor: str
    quality: str
    bd_rate: BdRate | None


@dataclass(frozen=True)
class FolderResult:
    """All that was measured on a folder.

    Attributes:
        folder: its name.
        images: how many.
        labelled: whether accuracy is known.
        uncompressed: the pictures themselves.
        curves: of models and codecs, in the order of the coders.
        comparisons: of every model with every other curve.
    """

    folder: str
    images: int
    labelled: bool
    uncompressed: Point
    curves: tuple[Curve[Point], ...]
    comparisons: tuple[Comparison, ...]


def evaluate(
    folders: Sequence[Folder],
    coders: Sequence[Coder],
    bench: Bench,
    *,
    within: tuple[float, float] = (0.0, 1.0),
    heads: Heads | None = None,
    compare: bool = True,
) -> list[FolderResult]:
    """Measure every coder at each of its settings on every folder.

    Args:
        folders: their pictures.
        coders: what is measured.
        bench: whose reference's classifier answers.
        within: the agreements over which its BD-rate is taken.
        heads: retrains heads for every point, where that is wanted.
        compare: whether to compute BD-rates.

    Raises:
        TacError: a coder cannot code a picture; a curve without it would be another curve.
        UnknownTask: the reference has no classifier.
        BackendUnavailable: ``compare`` is true and SciPy is missing.
    """
    classifier = _Classifier(bench, heads)
    results = []
    for folder in folders:
        itself = Uncompressed()
        measurements = classifier.measured(folder, itself, 0)
        before = [m.answer for m in measurements]
        uncompressed = classifier.point(folder, itself, 0, measurements, before)
        curves = tuple(classifier.curve(folder, coder, before) for coder in coders)
        results.append(
            FolderResult(
                folder=folder.name,
                images=len(folder.pictures),
                labelled=folder.labels is not None,
                uncompressed=uncompressed,
                curves=curves,
                comparisons=tuple(comparisons(curves, within)) if compare else (),
            )
        )
    return results


def work_of(
    folders: Sequence[Pictures], coders: Sequence[Coder], heads: Budget | None = None
) -> int:
    """Return the most work that an evaluation may do: pictures to measure and steps of heads."""
    settings = 1 + sum(len(coder.grid) for coder in coders)
    return settings * sum(work_at(folder, heads) for folder in folders)


class _Classifier:
    """Measures coders on folders, by what a classifier says."""

    def __init__(self, bench: Bench, heads: Heads | None) -> None:
        self._bench = bench
        self._heads = heads
        self._answers = {"reference": head_identity(bench.reference, bench.device)}

    def curve(self, folder: Folder, coder: Coder, before: Sequence[int]) -> Curve[Point]:
        """Measure a coder at its settings."""

        def at(setting: Setting) -> Point:
            measurements = self.measured(folder, coder, setting)
            return self.point(folder, coder, setting, measurements, before)

        work = work_at(folder, self._heads)
        return sweep(coder, at, lambda left: self._bench.advance(left * work))

    def point(
        self,
        folder: Folder,
        coder: Coder,
        setting: Setting,
        measurements: Sequence[Measurement],
        before: Sequence[int],
    ) -> Point:
        """Average measurements, and retrain a head where that is wanted."""
        height, width, _ = folder.pictures[0].pixels.shape
        found = point(setting, measurements, height * width, before=before, labels=folder.labels)
        if self._heads:
            shares = self._heads.shares(folder, coder, setting, before)
            found = replace(found, retrained=shares)
            self._bench.advance(self._heads.steps)
        return found

    def measured(self, folder: Folder, coder: Coder, setting: Setting) -> list[Measurement]:
        """Return the measurements of all pictures."""

        def facts(picture: Picture, coded: Coded) -> Facts:
            return measure(self._bench.reference, picture.pixels, *coded).as_facts()

        found = self._bench.facts(folder.pictures, coder, setting, self._answers, facts)
        return list(map(Measurement.of_facts, found))


# --- Comparisons ----------------------------------------------------------------------------------


def comparisons(
    curves: Sequence[Curve[AnyPoint]], within: tuple[float, float] = (0.0, 1.0)
) -> Iterator[Comparison]:
    """Compare every model with every other curve, and with all codecs taken together.

    Args:
        curves: of one folder.
        within: the shares over which their BD-rates are taken.

    Raises:
        BackendUnavailable: SciPy is missing.
    """
    rivals = [curve for curve in curves if curve.kind == "codec"]
    anchors = list(curves)
    if len(rivals) > 1:
        pooled = tuple(point for curve in rivals for point in curve.points)
        anchors.append(Curve(BEST_CODEC, "codec", "the cheapest of all codecs", pooled))
    if not curves:
        return
    # Every point of an evaluation has the same shares: heads are retrained for all or for none.
    first, *others = curves[0].points[0].shares()
    qualities = [first, "psnr", *others]
    for test in curves:
        for anchor in anchors:
            if test.kind != "model" or anchor is test:
                continue
            for quality in qualities:
                limits = (-math.inf, math.inf) if quality == "psnr" else within
                found = bd_rate(rates(anchor, quality), rates(test, quality), limits)
                yield Comparison(test.name, anchor.name, quality, found)


def rates(curve: Curve[AnyPoint], quality: str) -> list[RatePoint]:
    """Return bpp and a quality of every point: ``psnr``, or a share by its name."""
    return [
        (point.bpp, point.psnr if quality == "psnr" else point.shares()[quality].share)
        for point in curve.points
    ]
