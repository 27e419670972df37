"""Bjøntegaard's delta rate: how much less or more rate one curve needs for the same quality."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tactic_codec.errors import BackendUnavailable

RatePoint = tuple[float, float]
"""Rate in bits a pixel or in bytes, above 0, and a quality: dB, or a share of pictures."""


class BdRate(NamedTuple):
    """Mean difference in rate at equal quality.

    Attributes:
        change: of the rate; -0.5 stands for half of it.
        low: lower end of the qualities over which the mean was taken.
        high: their upper end.
    """

    change: float
    low: float
    high: float


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
        BackendUnavailable: SciPy is not installed.
        ValueError: a rate is not above 0.
    """
    try:
        from scipy.interpolate import PchipInterpolator
    except ModuleNotFoundError as exc:
        raise BackendUnavailable("BD-rates need scipy; run: pip install scipy") from exc
    curves = [envelope(anchor), envelope(test)]
    if min(map(len, curves)) < 2:
        return None
    low = max(within[0], *(curve[0][1] for curve in curves))
    high = min(within[1], *(curve[-1][1] for curve in curves))
    if low >= high:
        return None
    means = [
        float(
            PchipInterpolator(
                [quality for _, quality in curve], [math.log(rate) for rate, _ in curve]
            ).integrate(low, high)
        )
        / (high - low)
        for curve in curves
    ]
    return BdRate(math.expm1(means[1] - means[0]), low, high)


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
