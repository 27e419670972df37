"""Measure coders on pictures: what a classifier makes of what comes back.

square ─ code, decode ─▶ bytes, PSNR, MS-SSIM, class ─ all pictures ─▶ Point… ─▶ Curve of a coder
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from tactic_codec.evaluation.bench import Bench, Budget, sweep, work_at
from tactic_codec.evaluation.cache import Facts
from tactic_codec.evaluation.coders import Coded, Coder, Uncompressed, head_identity
from tactic_codec.evaluation.comparisons import Comparison, comparisons
from tactic_codec.evaluation.curves import Curve, Point, Retrained, Setting, point
from tactic_codec.evaluation.measure import Measurement, measure
from tactic_codec.evaluation.pictures import Folder, Picture


class Heads(Budget, Protocol):
    """Fine-tunes task networks, see `tactic_codec.evaluation.retrain`."""

    def shares(
        self, folder: Folder, coder: Coder, setting: Setting, before: Sequence[int]
    ) -> Retrained:
        """Fine-tune a head on what a coder gives back, and ask it about a folder's pictures."""


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
