"""What an evaluation found, as data; the other rooms' files make tables and plots of it.

Point (a coder at a setting) … ─▶ Curve (of a coder) … ─▶ FolderResult … ─▶ Report
Curve… ─ every model with all others, and with the best of all codecs ─▶ Comparison…
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tactic_codec.evaluation.bdrate import BdRate, paired
from tactic_codec.rivals import Setting
from tactic_codec.tasks import Question, Scores, Share, Witness

RETRAINED = "retrained_"
"""What names of scores begin with that are of retrained heads."""

BEST_CODEC = "best codec"
"""Name of the curve that takes the points of all codecs but the models together."""


@dataclass(frozen=True)
class Point:
    """A coder at one setting on one folder.

    Attributes:
        setting: of the coder.
        images: how many were coded.
        bytes: mean of a file.
        bpp: bits of a file over the pixels that were coded, the mean of the pictures' own.
        psnr: dB, the mean of the pictures' own.
        ms_ssim: mean, 0 to 1.
        scores: of the reference network, see `Task.scores`.
        retrained: of a retrained head; None where that was not asked for.
        scale: what both sides of the pictures were multiplied by before they were coded.
        drawn: bpp and PSNR in draws of the pictures, [2, 1 + draws], see `metrics.resamples`; None
            where the point is compared with no other.
    """

    setting: Setting
    images: int
    bytes: float
    bpp: float
    psnr: float
    ms_ssim: float
    scores: Scores
    retrained: Scores | None = None
    scale: float = 1
    drawn: NDArray[np.float64] | None = field(default=None, compare=False, repr=False)

    def all_scores(self) -> Scores:
        """Return the scores of both networks by name."""
        retrained = self.retrained or {}
        return {**self.scores, **{RETRAINED + name: score for name, score in retrained.items()}}

    def shown(self, name: str) -> tuple[float, float, float]:
        """Return a figure and its interval: the PSNR, which has none, or a share in percent."""
        if name == "psnr":
            return self.psnr, self.psnr, self.psnr
        share, low, high = self.shares()[name]
        return 100 * share, 100 * low, 100 * high

    def in_draws(self, name: str) -> NDArray[np.float64]:
        """Return bpp and PSNR, or a share, in draws of the pictures, [2, 1 + draws]."""
        assert self.drawn is not None
        if name == "psnr":
            return self.drawn
        drawn = self.shares()[name].drawn
        assert drawn is not None
        return np.stack((self.drawn[0], drawn()))

    def shares(self) -> dict[str, Share]:
        """Return by name what curves show over the rate, the most telling first."""
        main = next(iter(self.scores))
        found = self.all_scores()
        shown = {name: found.get(name) for name in (main, RETRAINED + main)}
        return {name: share for name, share in shown.items() if isinstance(share, Share)}


@dataclass(frozen=True)
class Curve:
    """A coder on a folder.

    Attributes:
        name: of the coder.
        kind: ``model``, ``codec``, or ``uncompressed``.
        settings: how files were made, for people.
        points: by rising rate.
    """

    name: str
    kind: str
    settings: str
    points: tuple[Point, ...]

    def in_draws(self, quality: str) -> NDArray[np.float64]:
        """Return bpp and a quality in draws of the pictures, [points, 2, 1 + draws]."""
        return np.stack([point.in_draws(quality) for point in self.points])

    def at_best(self, quality: str) -> "Curve":
        """Return the points that no cheaper one reaches in a quality, where there are scales."""
        if len({point.scale for point in self.points}) == 1:
            return self
        kept: list[Point] = []
        for point in self.points:
            if not kept or point.shown(quality)[0] > kept[-1].shown(quality)[0]:
                kept.append(point)
        return replace(self, points=tuple(kept))


@dataclass(frozen=True)
class Comparison:
    """How much less rate a model needs than another curve for the same quality.

    Attributes:
        test: name of the model's curve.
        anchor: name of the other.
        quality: ``psnr``, or the name of a share, see `Point.shares`.
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

    def points(self) -> Iterator[tuple[str, str, Point]]:
        """Yield name and kind of a coder with each point, the uncompressed pictures first."""
        yield "uncompressed", "uncompressed", self.uncompressed
        for curve in self.curves:
            for point in curve.points:
                yield curve.name, curve.kind, point


@dataclass(frozen=True)
class Report:
    """An evaluation: how it was made, and what came out.

    Attributes:
        task: what the reference was asked.
        size: side of the squares that were coded, in pixels; None for whole pictures.
        reference: name and fingerprint of the model whose task network answered.
        witness: who that was.
        held_out: whether only images were taken that training had kept out.
        limit: most images of a folder; None for all.
        within: the shares over which BD-rates were taken.
        retrained_steps: of each retrained head; None where there was none.
        notes: what was left out, and why.
        folders: the results.
    """

    task: Question[Any, Any]
    size: int | None
    reference: tuple[str, str]
    witness: Witness
    held_out: bool
    limit: int | None
    within: tuple[float, float]
    retrained_steps: int | None
    notes: tuple[str, ...]
    folders: tuple[FolderResult, ...]


def comparisons(
    curves: Sequence[Curve], within: tuple[float, float] = (0.0, 1.0)
) -> Iterator[Comparison]:
    """Compare every model with every other curve, and with all codecs taken together.

    Args:
        curves: of one folder, their points with draws of its pictures.
        within: the shares over which their BD-rates are taken.
    """
    rivals = [curve for curve in curves if curve.kind == "codec"]
    anchors = list(curves)
    if len(rivals) > 1:
        pooled = tuple(point for curve in rivals for point in curve.points)
        anchors.append(Curve(BEST_CODEC, "codec", "the cheapest of all codecs", pooled))
    for test in (curve for curve in curves if curve.kind == "model"):
        # Every point of an evaluation has the same shares: heads are retrained for all or for none.
        first, *others = test.points[0].shares()
        for anchor in anchors:
            for quality in [first, "psnr", *others] if anchor is not test else ():
                limits = (-math.inf, math.inf) if quality == "psnr" else within
                found = paired(anchor.in_draws(quality), test.in_draws(quality), limits)
                yield Comparison(test.name, anchor.name, quality, found)
