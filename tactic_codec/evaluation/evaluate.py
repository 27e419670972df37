"""Measure coders on folders, and compare the curves that come out.

Folder, Coder… ─ every setting, every picture ─▶ Curve… ─ every model against all others ─▶ BdRate
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from tactic_codec.codec import Codec
from tactic_codec.evaluation.bdrate import BdRate, RatePoint, bd_rate
from tactic_codec.evaluation.cache import Cache
from tactic_codec.evaluation.coders import Coder, Uncompressed, head_identity
from tactic_codec.evaluation.curves import Curve, Point, Retrained, Setting, point
from tactic_codec.evaluation.measure import Measurement, measure
from tactic_codec.evaluation.pictures import Folder, Picture

MAX_BPP = 1.2
"""Above it a codec's own grid of qualities is left: the next point would not matter to anybody."""

BEST_CODEC = "best codec"
"""Name of the curve that takes the points of all codecs but the models together."""

Advance = Callable[[int], None]


class Heads(Protocol):
    """Fine-tunes task networks, see `tactic_codec.evaluation.retrain`."""

    @property
    def steps(self) -> int:
        """Steps for each point."""

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
        quality: ``agreement``, ``psnr`` or ``retrained agreement``.
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
    curves: tuple[Curve, ...]
    comparisons: tuple[Comparison, ...]


def evaluate(
    folders: Sequence[Folder],
    coders: Sequence[Coder],
    reference: Codec,
    cache: Cache,
    *,
    device: str = "auto",
    jobs: int = 1,
    within: tuple[float, float] = (0.0, 1.0),
    heads: Heads | None = None,
    compare: bool = True,
    advance: Advance = lambda work: None,
) -> list[FolderResult]:
    """Measure every coder at each of its settings on every folder.

    Args:
        folders: their pictures.
        coders: what is measured.
        reference: whose classifier answers.
        cache: of earlier measurements.
        device: that the reference's runtime was opened for.
        jobs: pictures to work on at once.
        within: the agreements over which its BD-rate is taken.
        heads: retrains heads for every point, where that is wanted.
        compare: whether to compute BD-rates.
        advance: is told how much of `work_of` was done.

    Raises:
        TacError: a coder cannot code a picture; a curve without it would be another curve.
        BackendUnavailable: ``compare`` is true and SciPy is missing.
    """
    bench = _Bench(reference, cache, device, jobs, heads, advance)
    results = []
    for folder in folders:
        itself = Uncompressed()
        measurements = bench.measured(folder, itself, 0)
        before = [m.answer for m in measurements]
        uncompressed = bench.point(folder, itself, 0, measurements, before)
        curves = tuple(bench.curve(folder, coder, before) for coder in coders)
        results.append(
            FolderResult(
                folder=folder.name,
                images=len(folder.pictures),
                labelled=folder.labels is not None,
                uncompressed=uncompressed,
                curves=curves,
                comparisons=tuple(_comparisons(curves, within)) if compare else (),
            )
        )
    return results


def work_of(folders: Sequence[Folder], coders: Sequence[Coder], heads: Heads | None = None) -> int:
    """Return the most work that `evaluate` may do: pictures to measure and steps of heads."""
    settings = 1 + sum(len(coder.grid) for coder in coders)
    return settings * sum(_work(folder, heads) for folder in folders)


class _Bench:
    """Measures coders on folders."""

    def __init__(
        self,
        reference: Codec,
        cache: Cache,
        device: str,
        jobs: int,
        heads: Heads | None,
        advance: Advance,
    ) -> None:
        self._reference = reference
        self._head = head_identity(reference, device)
        self._cache = cache
        self._jobs = jobs
        self._heads = heads
        self._advance = advance

    def curve(self, folder: Folder, coder: Coder, before: Sequence[int]) -> Curve:
        """Measure a coder at its settings, until its files are larger than anybody asked for."""
        points = []
        for number, setting in enumerate(coder.grid, start=1):
            measurements = self.measured(folder, coder, setting)
            points.append(self.point(folder, coder, setting, measurements, before))
            if coder.open_ended and points[-1].bpp > MAX_BPP:
                self._advance((len(coder.grid) - number) * _work(folder, self._heads))
                break
        points.sort(key=lambda point: point.bpp)
        return Curve(coder.name, coder.kind, coder.describe(), tuple(points))

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
            self._advance(self._heads.steps)
        return found

    def measured(self, folder: Folder, coder: Coder, setting: Setting) -> list[Measurement]:
        """Return the measurements of all pictures, from the cache where it has them."""
        shelf = self._cache.shelf({"coder": coder.identity(setting), "reference": self._head})
        missing = [picture for picture in folder.pictures if picture.hash not in shelf]

        def attempt(picture: Picture) -> Measurement:
            coded = coder.code(picture.pixels, setting)
            return measure(self._reference, picture.pixels, coded.bytes, coded.decoded)

        self._advance(len(folder.pictures) - len(missing))
        with _mapped(attempt, missing, self._jobs) as results:
            for picture, result in zip(missing, results, strict=True):
                shelf.put(picture.hash, result.as_facts())
                self._advance(1)
        return [Measurement.of_facts(shelf[picture.hash]) for picture in folder.pictures]


def _work(folder: Folder, heads: Heads | None) -> int:
    """Return the work of one coder at one setting on a folder."""
    return len(folder.pictures) + (heads.steps if heads else 0)


@contextmanager
def _mapped(
    function: Callable[[Picture], Measurement], pictures: Sequence[Picture], jobs: int
) -> Iterator[Iterator[Measurement]]:
    """Call a function with every picture, in threads where several jobs are wanted, in order."""
    if jobs == 1:
        yield map(function, pictures)
        return
    executor = ThreadPoolExecutor(jobs, thread_name_prefix="tactic")
    try:
        yield executor.map(function, pictures)
    finally:
        executor.shutdown(cancel_futures=True)


# --- Comparisons ----------------------------------------------------------------------------------


def _comparisons(curves: Sequence[Curve], within: tuple[float, float]) -> Iterator[Comparison]:
    rivals = [curve for curve in curves if curve.kind == "codec"]
    anchors = list(curves)
    if len(rivals) > 1:
        pooled = tuple(point for curve in rivals for point in curve.points)
        anchors.append(Curve(BEST_CODEC, "codec", "the cheapest of all codecs", pooled))
    qualities = ["agreement", "psnr"]
    if all(point.retrained for curve in curves for point in curve.points):
        qualities.append("retrained agreement")
    for test in curves:
        for anchor in anchors:
            if test.kind != "model" or anchor is test:
                continue
            for quality in qualities:
                limits = (-math.inf, math.inf) if quality == "psnr" else within
                found = bd_rate(rates(anchor, quality), rates(test, quality), limits)
                yield Comparison(test.name, anchor.name, quality, found)


def rates(curve: Curve, quality: str) -> list[RatePoint]:
    """Return bpp and a quality of every point: ``agreement``, ``psnr``, ``retrained agreement``."""
    return [(point.bpp, _quality(point, quality)) for point in curve.points]


def _quality(point: Point, quality: str) -> float:
    if quality == "psnr":
        return point.psnr
    if quality == "retrained agreement" and point.retrained:
        return point.retrained.agreement.share
    return point.agreement.share
