"""Models against every other curve of a folder.

Curve… ─ every model with all others, and with the best of all codecs ─▶ Comparison…
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tactic_codec.evaluation.bdrate import BdRate, RatePoint, bd_rate
from tactic_codec.evaluation.curves import Curve

BEST_CODEC = "best codec"
"""Name of the curve that takes the points of all codecs but the models together."""


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


def comparisons(
    curves: Sequence[Curve], within: tuple[float, float] = (0.0, 1.0)
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


def rates(curve: Curve, quality: str) -> list[RatePoint]:
    """Return bpp and a quality of every point: ``psnr``, or a share by its name."""
    return [
        (point.bpp, point.psnr if quality == "psnr" else point.shares()[quality].share)
        for point in curve.points
    ]
