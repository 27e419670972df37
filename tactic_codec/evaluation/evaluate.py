"""Measure coders on pictures: what a task network makes of what comes back.

picture ─ code, decode ─▶ bytes, PSNR, MS-SSIM, facts ─ all pictures ─▶ Point… ─▶ Curve of a coder
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tactic_codec import metrics
from tactic_codec.codec import Codec
from tactic_codec.evaluation.bench import MAX_BPP, Bench, Heads, work_at
from tactic_codec.evaluation.coders import Coded, Coder, Uncompressed, runtime_identity
from tactic_codec.evaluation.comparisons import Comparison, comparisons
from tactic_codec.evaluation.curves import Curve, Point
from tactic_codec.evaluation.pictures import Folder, Picture
from tactic_codec.rivals import Setting
from tactic_codec.tasks import Facts, Question


@dataclass(frozen=True)
class FolderResult:
    """All that was measured on a folder.

    Attributes:
        folder: its name.
        images: how many.
        labelled: whether the truth of all of them is known.
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
        bench: whose reference's task network answers.
        within: the shares over which BD-rates are taken.
        heads: trains heads for every point, where that is wanted.
        compare: whether to compute BD-rates.

    Raises:
        TacError: a coder cannot code a picture; a curve without it would be another curve.
        UnknownTask: the reference has no network for the task.
        BackendUnavailable: ``compare`` is true and SciPy is missing.
    """
    examiner = _Examiner(bench, heads)
    results = []
    for folder in folders:
        before = examiner.measured(folder, Uncompressed(), 0)
        uncompressed = examiner.point(folder, Uncompressed(), 0, before, before)
        curves = tuple(examiner.curve(folder, coder, before) for coder in coders)
        compared = tuple(comparisons(curves, within)) if compare else ()
        results.append(
            FolderResult(
                folder.name, len(folder.pictures), folder.labelled, uncompressed, curves, compared
            )
        )
    return results


class _Examiner:
    """Measures coders on folders, and keeps what the reference says of the pictures themselves."""

    def __init__(self, bench: Bench, heads: Heads | None) -> None:
        self._bench = bench
        self._heads = heads
        witness = bench.task.witness(bench.reference.model)
        self._answers = {"reference": {**witness.identity, **runtime_identity(bench.device)}}
        self._before: dict[str, Any] = {}

    def curve(self, folder: Folder, coder: Coder, before: Sequence[Facts]) -> Curve:
        """Measure a coder at its settings, until its files are larger than anybody asked for."""
        points = []
        for number, setting in enumerate(coder.grid, start=1):
            found = self.measured(folder, coder, setting)
            points.append(self.point(folder, coder, setting, found, before))
            if coder.open_ended and points[-1].bpp > MAX_BPP:
                left = len(coder.grid) - number
                self._bench.advance(left * work_at(folder, self._heads))
                break
        points.sort(key=lambda point: point.bpp)
        return Curve(coder.name, coder.kind, coder.describe(), tuple(points))

    def point(
        self,
        folder: Folder,
        coder: Coder,
        setting: Setting,
        found: Sequence[Facts],
        before: Sequence[Facts],
    ) -> Point:
        """Put measurements together, and train a head where that is wanted."""
        reached = point(self._bench.task, setting, found, before, folder.pictures)
        if self._heads:
            scores = self._heads.scores(folder, coder, setting, before)
            reached = replace(reached, retrained=scores)
            self._bench.advance(self._heads.steps)
        return reached

    def measured(self, folder: Folder, coder: Coder, setting: Setting) -> list[Facts]:
        """Return the measurements of all pictures."""
        return self._bench.facts(folder.pictures, coder, setting, self._answers, self._measure)

    def _measure(self, picture: Picture, coded: Coded) -> Facts:
        def before() -> Any:
            if picture.content not in self._before:
                answer = self._bench.task.ask(self._bench.reference, picture.pixels)
                self._before[picture.content] = answer
            return self._before[picture.content]

        return measure(self._bench.task, self._bench.reference, picture, coded, before)


def measure(
    task: Question[Any, Any],
    reference: Codec,
    picture: Picture,
    coded: Coded,
    before: Callable[[], Any] | None = None,
) -> Facts:
    """Compare a decoded picture with its original.

    Args:
        task: what is asked.
        reference: its task network answers.
        picture: the original.
        coded: what came back of it.
        before: returns the answer for the original; None where agreement does not count.

    Returns:
        What the cache keeps: ``bytes`` of the file; ``psnr`` in dB, at most 100; ``ms_ssim``, 0 to
        1; and the task's own facts.

    Raises:
        UnknownTask: the reference has no network for the task.
    """
    return {
        "bytes": coded.bytes,
        "psnr": metrics.finite_psnr(picture.pixels, coded.decoded),
        "ms_ssim": metrics.ms_ssim(picture.pixels, coded.decoded),
        **task.facts(picture.truth, task.ask(reference, coded.decoded), before),
    }


def point(
    task: Question[Any, Any],
    setting: Setting,
    found: Sequence[Facts],
    before: Sequence[Facts],
    pictures: Sequence[Picture],
) -> Point:
    """Put the measurements of pictures together.

    Args:
        task: scores them.
        setting: at which they were coded.
        found: what was measured of each, at least one.
        before: the same of the pictures themselves.
        pictures: of which they are.
    """

    def mean(name: str) -> float:
        return float(np.mean([facts[name] for facts in found]))

    areas = [picture.pixels.size // 3 for picture in pictures]
    bits = [8 * facts["bytes"] / area for facts, area in zip(found, areas, strict=True)]
    return Point(
        setting=setting,
        images=len(found),
        bytes=mean("bytes"),
        bpp=float(np.mean(bits)),
        psnr=mean("psnr"),
        ms_ssim=mean("ms_ssim"),
        scores=task.scores(found, before, [picture.truth for picture in pictures]),
    )
