"""Bjøntegaard's delta rate: how much less or more rate one curve needs for the same quality."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tactic_codec import metrics

RatePoint = tuple[float, float]
"""Rate in bits a pixel or in bytes, above 0, and a quality: dB, or a share of pictures."""

COMMON = 0.9
"""Least share of the draws in which both curves reach a common quality, for an interval."""


class BdRate(NamedTuple):
    """Mean difference in rate at equal quality.

    Attributes:
        change: of the rate; -0.5 stands for half of it.
        low: lower end of the qualities over which the mean was taken.
        high: their upper end.
        interval: ends of the 95 % interval of the change, see `paired`; None where there is none.
        draws: how many draws of the pictures it is from.
    """

    change: float
    low: float
    high: float
    interval: tuple[float, float] | None = None
    draws: int = 0


def paired(
    anchor: NDArray[np.float64],
    test: NDArray[np.float64],
    within: tuple[float, float] = (-math.inf, math.inf),
) -> BdRate | None:
    """Compare two curves, with the interval over draws of the pictures, the same for both.

    Each draw is compared as all pictures are: it has Pareto fronts and a common range of its own.
    One in which both curves reach no common quality is left out. Where that is more than a tenth of
    the draws, there is no interval, because those that are left are not like the others. Nor is
    there one where all draws are the same, as those of a single picture are.

    Args:
        anchor: rate and quality in each draw, [points, 2, 1 + draws], see `metrics.resamples`.
        test: the same of the curve that is compared.
        within: qualities outside this range do not count.

    Returns:
        None where the curves of all pictures cannot be compared, see `bd_rate`.
    """
    anchors, tests = (np.moveaxis(curve, -1, 0).tolist() for curve in (anchor, test))
    first, *others = (bd_rate(*pair, within) for pair in zip(anchors, tests, strict=True))
    if first is None:
        return None
    drawn = np.array([first.change, *(found.change for found in others if found)])
    interval = None
    differ = any((curve != curve[..., :1]).any() for curve in (anchor, test))
    if differ and len(drawn) > 1 and len(drawn) - 1 >= COMMON * len(others):
        interval = metrics.with_interval(drawn)[1:]
    return first._replace(interval=interval, draws=len(drawn) - 1)


def bd_rate(
    anchor: Sequence[RatePoint],
    test: Sequence[RatePoint],
    within: tuple[float, float] = (-math.inf, math.inf),
) -> BdRate | None:
    """Compare two curves by Bjøntegaard's method (VCEG-M33, 2001), with piecewise cubics.

    The logarithm of the rate is interpolated over the quality by PCHIP (Fritsch and Carlson, 1980),
    which unlike the polynomial of the first proposal does not swing between points, and its
    difference is averaged over the qualities that both curves reach. Nothing is extrapolated.

    That needs a quality that rises with the rate. An agreement measured on some hundred pictures
    does not always, so that each curve is replaced by its monotone envelope, see `envelope`.

    Args:
        anchor: the curve to compare with, in any order.
        test: the curve that is compared.
        within: qualities outside this range do not count.

    Returns:
        None where fewer than two points of a curve are left or no quality is reached by both.

    Raises:
        ValueError: a rate is not above 0.
    """
    curves = [envelope(anchor), envelope(test)]
    if min(map(len, curves)) < 2:
        return None
    low = max(within[0], *(curve[0][1] for curve in curves))
    high = min(within[1], *(curve[-1][1] for curve in curves))
    if low >= high:
        return None
    ours, theirs = (_mean_log_rate(curve, low, high) for curve in reversed(curves))
    return BdRate(math.expm1(ours - theirs), low, high)


def _mean_log_rate(curve: Sequence[RatePoint], low: float, high: float) -> float:
    """Return the mean of a rising curve's interpolated logarithm of the rate over qualities."""
    qualities = [quality for _, quality in curve]
    logs = [math.log(rate) for rate, _ in curve]
    steps = [b - a for a, b in pairwise(qualities)]
    slopes = [(b - a) / step for (a, b), step in zip(pairwise(logs), steps, strict=True)]
    # At a point, the slopes' harmonic mean, which counts the longer step for less.
    inner = [
        3 * (h + k) / ((h + 2 * k) / m + (2 * h + k) / n)
        for (h, k), (m, n) in zip(pairwise(steps), pairwise(slopes), strict=True)
    ]
    tangents = [_at_end(steps, slopes), *inner, _at_end(steps[::-1], slopes[::-1])]
    area = 0.0
    for i, (step, slope) in enumerate(zip(steps, slopes, strict=True)):
        a, b = tangents[i], tangents[i + 1]
        square, cube = (3 * slope - 2 * a - b) / step, (a + b - 2 * slope) / step**2
        left, right = (min(max(end - qualities[i], 0), step) for end in (low, high))
        for sign, t in ((-1, left), (1, right)):
            area += sign * t * (logs[i] + t * (a / 2 + t * (square / 3 + t * cube / 4)))
    return area / (high - low)


def _at_end(steps: Sequence[float], slopes: Sequence[float]) -> float:
    """Return the tangent at the first point: of the parabola through three, but not falling."""
    if len(steps) == 1:
        return slopes[0]
    h, k = steps[:2]
    return max(0.0, ((2 * h + k) * slopes[0] - h * slopes[1]) / (h + k))


def envelope(curve: Iterable[RatePoint]) -> list[RatePoint]:
    """Return the points that no cheaper or equally cheap one reaches in quality, by rising rate.

    This is what somebody gets who always takes the cheapest setting for a quality. Of noisy
    qualities it keeps the lucky ones; it does so for every curve.

    Raises:
        ValueError: a rate is not above 0.
    """
    kept: list[RatePoint] = []
    # Of equal rates the best quality comes first and hides the others.
    for rate, quality in sorted(curve, key=lambda point: (point[0], -point[1])):
        if not rate > 0:
            raise ValueError(f"a rate above 0 was expected, not {rate}")
        if not kept or quality > kept[-1][1]:
            kept.append((rate, quality))
    return kept
