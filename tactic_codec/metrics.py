"""Measures of what coding costs: PSNR and MS-SSIM of a picture, accuracies of labels and masks.

All of them are numbers for reports; nothing here touches a file or a network. Pictures of different
shapes and other dtypes than uint8 are refused with a ValueError, because a silent broadcast or
rescale would make a plausible number out of a mistake.
"""

import math
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float64]
LabelMap = npt.NDArray[np.uint8]
Confusion = npt.NDArray[np.int64]

_PEAK = 255.0

RESAMPLES = 1000
"""Draws of as many pictures as there are, with replacement, for an interval (Efron, 1979)."""

_SEED = 1

LOSSLESS_PSNR = 100.0
"""dB that stand for infinity where means have to stay finite: of two pictures of 224×224 pixels
that differ by one in one value, the PSNR is 99.9."""


def psnr(a: Pixels, b: Pixels) -> float:
    """Peak signal-to-noise ratio of two pictures over all pixels and channels.

    Args:
        a: uint8 [height, width, 3].
        b: the same.

    Returns:
        Decibels with a peak of 255; ``math.inf`` for equal pictures.

    Raises:
        ValueError: the arrays are not two such pictures of one size.
    """
    _check_pair(a, b)
    difference = a.astype(np.int32) - b
    # int64: the squares of a large picture add up beyond 32 bits.
    squares = int(np.sum(difference * difference, dtype=np.int64))
    return math.inf if squares == 0 else 10 * math.log10(_PEAK**2 * a.size / squares)


def finite_psnr(a: Pixels, b: Pixels) -> float:
    """Return `psnr`, at most `LOSSLESS_PSNR`.

    Raises:
        ValueError: see `psnr`.
    """
    return min(psnr(a, b), LOSSLESS_PSNR)


# --- MS-SSIM --------------------------------------------------------------------------------------

_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW = 11
_SIGMA = 1.5
_C1 = (0.01 * _PEAK) ** 2
_C2 = (0.03 * _PEAK) ** 2


def ms_ssim(a: Pixels, b: Pixels) -> float:
    """Multi-scale structural similarity (Wang, Simoncelli and Bovik, 2003) of two pictures.

    Five scales with the published weights; a Gaussian window of 11 x 11 and sigma 1.5, without
    padding; a mean over 2 x 2 pixels between scales, the last row or column of an odd size being
    repeated. Computed for R, G and B apart, then averaged. A scale at which the structures oppose
    each other counts as 0.

    Small pictures: a scale needs 11 pixels on the shorter side. Below 161 pixels fewer scales are
    used, their weights divided by their sum; such values compare only with others of the same
    size. Below 11 pixels there is one scale, whose window is cut to the largest odd size that fits.

    Args:
        a: uint8 [height, width, 3].
        b: the same.

    Returns:
        0.0 to 1.0; 1.0 for equal pictures.

    Raises:
        ValueError: the arrays are not two such pictures of one size.
    """
    _check_pair(a, b)
    channels = [_ms_ssim_of_plane(a[..., c], b[..., c]) for c in range(a.shape[2])]
    return float(np.mean(channels))


def _ms_ssim_of_plane(a: Pixels, b: Pixels) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    weights = _weights(min(x.shape))
    result = 1.0
    for weight in weights[:-1]:
        _, structure = _similarities(x, y)
        result *= _mean_above_zero(structure) ** weight
        x, y = _halve(x), _halve(y)
    # The last scale is SSIM itself: the mean of the product, not the product of the means.
    luminance, structure = _similarities(x, y)
    return float(result * _mean_above_zero(luminance * structure) ** weights[-1])


def _mean_above_zero(similarity: Plane) -> float:
    return max(float(np.mean(similarity)), 0.0)


def _weights(side: int) -> tuple[float, ...]:
    """The weights of the scales that a shorter side of ``side`` pixels allows, at least one."""
    count = 1
    while count < len(_SCALE_WEIGHTS) and (side := -(-side // 2)) >= _WINDOW:
        count += 1
    if count == len(_SCALE_WEIGHTS):
        return _SCALE_WEIGHTS  # as published: they add up to 1.0001
    total = sum(_SCALE_WEIGHTS[:count])
    return tuple(weight / total for weight in _SCALE_WEIGHTS[:count])


def _similarities(x: Plane, y: Plane) -> tuple[Plane, Plane]:
    """The luminance term and the contrast-structure term of SSIM at every place of the window."""
    side = min(x.shape)
    window = _gaussian(min(_WINDOW, side - 1 + side % 2))
    mean_x, mean_y = _blur(x, window), _blur(y, window)
    variances = _blur(x * x + y * y, window) - mean_x**2 - mean_y**2
    covariance = _blur(x * y, window) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return luminance, (2 * covariance + _C2) / (variances + _C2)


def _gaussian(size: int) -> Plane:
    offsets = np.arange(size) - size // 2
    window = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    return np.asarray(window / window.sum())


def _blur(plane: Plane, window: Plane) -> Plane:
    """Filter rows, then columns, tap by tap, keeping only places where the window fits."""
    height, width = plane.shape[0] - len(window) + 1, plane.shape[1] - len(window) + 1
    rows = np.zeros((height, plane.shape[1]))
    for tap, weight in enumerate(window):
        rows += weight * plane[tap : tap + height]
    both = np.zeros((height, width))
    for tap, weight in enumerate(window):
        both += weight * rows[:, tap : tap + width]
    return both


def _halve(plane: Plane) -> Plane:
    height, width = plane.shape
    if height % 2 or width % 2:
        plane = np.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge")
    return (plane[::2, ::2] + plane[1::2, ::2] + plane[::2, 1::2] + plane[1::2, 1::2]) / 4


def _check_pair(a: Pixels, b: Pixels) -> None:
    for pixels in (a, b):
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise ValueError(
                f"{pixels.dtype} {list(pixels.shape)} is no picture:"
                " uint8 [height, width, 3] expected"
            )
    if a.shape != b.shape:
        raise ValueError(f"pictures of one size expected, not {list(a.shape)} and {list(b.shape)}")


# --- Intervals ------------------------------------------------------------------------------------


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval (Wilson, 1927) of a proportion, such as an accuracy.

    Unlike the normal approximation it stays within 0 and 1 and is honest for few trials.

    Args:
        successes: how many of the trials succeeded, 0 to ``n``.
        n: how many trials there were, at least 1.
        confidence: the share of intervals that hold the true proportion, between 0 and 1.

    Returns:
        The lower and the upper end, 0.0 to 1.0.

    Raises:
        ValueError: an argument is outside its range.
    """
    if n < 1 or not 0 <= successes <= n or not 0 < confidence < 1:
        raise ValueError(
            f"{successes} successes of {n} at confidence {confidence}: 0 <= successes <= n,"
            " n >= 1 and 0 < confidence < 1 expected"
        )
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and n the formula gives exactly 0 and 1, but for rounding.
    low = 0.0 if successes == 0 else max(centre - half, 0.0)
    high = 1.0 if successes == n else min(centre + half, 1.0)
    return low, high


@lru_cache(maxsize=1)  # every point of a curve is of the same pictures
def resamples(count: int) -> npt.NDArray[np.int64]:
    """Return how often each of ``count`` pictures is drawn, [1 + `RESAMPLES`, count].

    The first row has each once; the others draw as many with replacement, always the same ones.
    """
    drawn = np.random.default_rng(_SEED).multinomial(count, [1 / count] * count, size=RESAMPLES)
    found = np.concatenate((np.ones((1, count), np.int64), drawn))
    found.flags.writeable = False
    return found


def with_interval(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Return a figure and the ends of its 95 % interval, of what it is in `resamples`; no NaN."""
    low, high = np.percentile(values[1:][~np.isnan(values[1:])], (2.5, 97.5))
    return float(values[0]), float(low), float(high)


# --- Label maps -----------------------------------------------------------------------------------


def confusion(expected: LabelMap, found: LabelMap, classes: int) -> Confusion:
    """Count the pixels of each expected class that were taken for each class.

    Args:
        expected: uint8 [height, width]; pixels whose value is no class are void, never counted.
        found: the same of a segmentation; every value is a class.
        classes: how many classes there are.

    Returns:
        int64 [classes, classes]: row expected, column found. Those of several pictures add up.

    Raises:
        ValueError: the maps are not two such arrays of one size, or ``found`` has a value that is
            no class.
    """
    for labels in (expected, found):
        if labels.dtype != np.uint8 or labels.ndim != 2:
            raise ValueError(f"{labels.dtype} {list(labels.shape)} is no label map")
    if expected.shape != found.shape:
        raise ValueError(
            f"label maps of one size expected, not {list(expected.shape)} and {list(found.shape)}"
        )
    counted = expected < classes
    if (found[counted] >= classes).any():
        raise ValueError(f"a segmentation into {classes} classes has other values")
    pairs = expected[counted].astype(np.int64) * classes + found[counted]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


class SegmentationScores(NamedTuple):
    """How well pixels were labelled.

    Attributes:
        pixel_accuracy: share of the counted pixels that have the right class.
        mean_iou: mean over the classes that occur.
        iou: of each class, its right pixels over those that have or were given it; None where
            there are none.
    """

    pixel_accuracy: float
    mean_iou: float
    iou: tuple[float | None, ...]


def segmentation_scores(counts: Confusion) -> SegmentationScores:
    """Return accuracy and intersections over unions of a confusion matrix, over all its pixels.

    Raises:
        ValueError: nothing was counted.
    """
    total = int(counts.sum())
    if not total:
        raise ValueError("no pixel was counted: all of them are void")
    right = counts.diagonal()
    union = counts.sum(axis=0) + counts.sum(axis=1) - right
    iou = tuple(int(r) / int(u) if u else None for r, u in zip(right, union, strict=True))
    known = [value for value in iou if value is not None]
    return SegmentationScores(int(right.sum()) / total, sum(known) / len(known), iou)
