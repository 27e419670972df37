"""PSNR, MS-SSIM, Wilson's interval and scores of label maps against independent values."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from tactic_codec.metrics import (
    LOSSLESS_PSNR,
    confusion,
    finite_psnr,
    ms_ssim,
    psnr,
    segmentation_scores,
    wilson_interval,
)

Pixels = npt.NDArray[np.uint8]


def noisy_pair(height: int, width: int, noise: int) -> tuple[Pixels, Pixels]:
    """Waves and squares, and the same with hashed noise of up to ``noise`` each way."""
    y, x, c = np.mgrid[:height, :width, :3]
    waves = 127.5 + 60 * np.sin(x / 7 + c) + 50 * np.cos(y / 11 - c)
    a = (waves + 10 * ((x // 16 + y // 16) % 2)).round().clip(0, 255)
    hashed = (np.arange(a.size) * 2654435761 % 2**32 >> 16) % (2 * noise + 1) - noise
    b = (a + hashed.reshape(a.shape)).clip(0, 255)
    return a.astype(np.uint8), b.astype(np.uint8)


def flat(value: int, height: int = 8, width: int = 8) -> Pixels:
    return np.full((height, width, 3), value, np.uint8)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        pytest.param(flat(7), flat(7), math.inf, id="equal"),
        pytest.param(flat(0), flat(255), 0.0, id="opposite"),
        pytest.param(flat(255), flat(0), 0.0, id="no unsigned wrap"),
        pytest.param(flat(100), flat(101), 20 * math.log10(255), id="off by one"),
    ],
)
def test_psnr(a: Pixels, b: Pixels, expected: float) -> None:
    assert psnr(a, b) == pytest.approx(expected, abs=1e-12)


def test_finite_psnr_of_equal_and_of_almost_equal_pictures() -> None:
    a = flat(100, 224, 224)
    assert finite_psnr(a, a) == LOSSLESS_PSNR
    b = a.copy()
    b[3, 4, 1] += 1
    assert finite_psnr(a, b) == psnr(a, b)
    assert 99.9 < psnr(a, b) < LOSSLESS_PSNR
    with pytest.raises(ValueError, match=r"shape|size"):
        finite_psnr(a, b[1:])


def test_psnr_of_a_large_picture_does_not_overflow() -> None:
    a, b = flat(0, 200, 200), flat(255, 200, 200)  # the squares add up to 7.8e9 > 2^32
    assert psnr(a, b) == pytest.approx(0.0, abs=1e-12)


# Computed with pytorch-msssim 1.0.0 in float64, its Gaussian window given in float64 too.
# Below five scales its loop was run over the shorter list of weights, divided by their sum.
@pytest.mark.parametrize(
    ("height", "width", "noise", "expected"),
    [
        pytest.param(176, 208, 10, 0.9910902665607125, id="five scales, little noise"),
        pytest.param(176, 208, 60, 0.7636409076026839, id="five scales, much noise"),
        pytest.param(192, 320, 30, 0.9385009173882309, id="five scales, oblong"),
        pytest.param(96, 128, 30, 0.9308551858900628, id="four scales"),
        pytest.param(16, 20, 30, 0.425033527223845, id="one scale: SSIM"),
    ],
)
def test_ms_ssim_against_pytorch_msssim(
    height: int, width: int, noise: int, expected: float
) -> None:
    assert ms_ssim(*noisy_pair(height, width, noise)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("side", [1, 2, 3, 10, 11, 20, 21, 22, 160, 161, 177])
def test_ms_ssim_at_every_size(side: int) -> None:
    a, b = noisy_pair(side, side + 3, 20)
    assert ms_ssim(a, a) == pytest.approx(1.0, abs=1e-12)
    assert 0 <= ms_ssim(a, b) < 1
    assert ms_ssim(a, b) == pytest.approx(ms_ssim(b, a), abs=1e-12)


def test_ms_ssim_of_a_negative_is_zero_and_no_nan() -> None:
    a, _ = noisy_pair(176, 176, 1)
    assert ms_ssim(a, 255 - a) == 0.0


@pytest.mark.parametrize("measure", [psnr, ms_ssim])
@pytest.mark.parametrize(
    ("a", "b"),
    [
        pytest.param(flat(0), flat(0, 9, 8), id="two sizes"),
        pytest.param(flat(0), flat(0, 1, 1), id="would broadcast"),
        pytest.param(flat(0), flat(0).astype(np.float32), id="float"),
        pytest.param(flat(0)[..., 0], flat(0)[..., 0], id="no channels"),
        pytest.param(flat(0, 0, 5), flat(0, 0, 5), id="no pixels"),
    ],
)
def test_what_is_no_pair_is_refused(measure: object, a: Pixels, b: Pixels) -> None:
    assert callable(measure)
    with pytest.raises(ValueError, match="expected"):
        measure(a, b)


# What defines the interval: its ends are the proportions from which the observed share is exactly
# z standard errors away. For n of n the lower end is n / (n + z^2).
@pytest.mark.parametrize(
    ("confidence", "z"), [(0.95, 1.959963984540054), (0.5, 0.6744897501960817)]
)
@pytest.mark.parametrize(
    ("successes", "n"), [(81, 263), (15, 148), (1, 29), (19, 20), (5000, 9999)]
)
def test_wilson(successes: int, n: int, confidence: float, z: float) -> None:
    low, high = wilson_interval(successes, n, confidence)
    assert 0 < low < successes / n < high < 1
    for end in (low, high):
        assert abs(successes / n - end) == pytest.approx(z * math.sqrt(end * (1 - end) / n))


@pytest.mark.parametrize("n", [1, 20, 1000])
def test_wilson_of_none_and_all(n: int) -> None:
    end = n / (n + 1.959963984540054**2)
    assert wilson_interval(n, n) == pytest.approx((end, 1.0))
    assert wilson_interval(0, n) == pytest.approx((0.0, 1 - end))


@pytest.mark.parametrize(
    ("successes", "n", "confidence"),
    [(0, 0, 0.95), (-1, 5, 0.95), (6, 5, 0.95), (1, 5, 0.0), (1, 5, 1.0), (1, 5, math.nan)],
)
def test_wilson_refuses(successes: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        wilson_interval(successes, n, confidence)


# --- Label maps -----------------------------------------------------------------------------------


def label_map(*rows: list[int]) -> npt.NDArray[np.uint8]:
    return np.array(rows, np.uint8)


def test_confusion_counts_pixels_by_expected_and_found_class() -> None:
    expected = label_map([0, 0, 1, 1], [2, 2, 2, 0])
    found = label_map([0, 1, 1, 1], [2, 0, 0, 0])
    counts = confusion(expected, found, 3)
    assert counts.dtype == np.int64
    assert counts.tolist() == [[2, 1, 0], [0, 2, 0], [2, 0, 1]]
    # Those of several pictures add up.
    both = confusion(np.vstack([expected, found]), np.vstack([found, found]), 3)
    assert (both == counts + confusion(found, found, 3)).all()


@pytest.mark.parametrize("void", [3, 4, 255])
def test_void_pixels_are_not_counted(void: int) -> None:
    expected, found = label_map([0, void, 1]), label_map([0, 2, 0])
    assert confusion(expected, found, 3).tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_confusion_of_many_classes_against_a_count_by_hand() -> None:
    random = np.random.default_rng(1)
    expected = random.integers(0, 256, (40, 50)).astype(np.uint8)
    found = random.integers(0, 150, (40, 50)).astype(np.uint8)
    counts = confusion(expected, found, 150)
    assert counts.sum() == (expected < 150).sum()
    for i, j in [(0, 0), (3, 149), (149, 3), (77, 78)]:
        assert counts[i, j] == ((expected == i) & (found == j)).sum()


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        pytest.param(label_map([0, 1]), label_map([0], [1]), id="two sizes"),
        pytest.param(label_map([0]), np.array([[0]]), id="int64"),
        pytest.param(np.array([0], np.uint8), np.array([0], np.uint8), id="a line"),
        pytest.param(label_map([0]), label_map([3]), id="no class was found"),
    ],
)
def test_what_are_no_two_label_maps_is_refused(
    expected: npt.NDArray[np.uint8], found: npt.NDArray[np.uint8]
) -> None:
    with pytest.raises(ValueError, match=r"label map|segmentation"):
        confusion(expected, found, 3)


def test_scores_of_a_confusion_matrix() -> None:
    scores = segmentation_scores(np.array([[2, 1, 0, 0], [0, 2, 0, 0], [2, 0, 1, 0], [0] * 4]))
    assert scores.pixel_accuracy == 5 / 8
    assert scores.iou == (2 / 5, 2 / 3, 1 / 3, None)  # the last class occurs nowhere
    assert scores.mean_iou == pytest.approx((2 / 5 + 2 / 3 + 1 / 3) / 3)


def test_a_class_that_is_found_where_it_is_not_counts_as_zero() -> None:
    assert segmentation_scores(np.array([[3, 1], [0, 0]])) == (3 / 4, 3 / 8, (3 / 4, 0.0))


def test_scores_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="all of them are void"):
        segmentation_scores(np.zeros((3, 3), np.int64))
