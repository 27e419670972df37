"""Tiles cover the plane once, keep to their bounds and leave no seams."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tactic_codec.runtime import Tile, tiles

Plane = npt.NDArray[np.int64]


def neighbour_sums(plane: Plane, reach: int) -> Plane:
    """A convolution that sees ``reach`` places each way and zeros beyond the border."""
    height, width = plane.shape
    padded = np.pad(plane, reach)
    result = np.zeros_like(plane)
    for i in range(2 * reach + 1):
        for j in range(2 * reach + 1):
            result += (5 * i + j + 1) * padded[i : i + height, j : j + width]
    return result


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    core=st.integers(1, 48),
    halo=st.integers(0, 24),
)
def test_cover_exactly_once_within_bounds(height: int, width: int, core: int, halo: int) -> None:
    covered = np.zeros((height, width), int)
    side = core + 2 * halo
    for tile in tiles(height, width, side=side, halo=halo):
        covered[tile.core] += 1
        assert covered[tile.padded].size <= side**2
        for core, padded, length in zip(tile.core, tile.padded, (height, width), strict=True):
            assert core.start < core.stop
            assert padded.start == max(core.start - halo, 0)
            assert padded.stop == min(core.stop + halo, length)
    assert (covered == 1).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 64), (64, 64), (512, 8)])
def test_what_fits_is_one_tile_without_halo(height: int, width: int) -> None:
    whole = slice(0, height), slice(0, width)
    assert tiles(height, width, side=64, halo=8) == [Tile(whole, whole, whole)]


def test_tiles_are_evened_out() -> None:
    cuts = [tile.core[1] for tile in tiles(512, 1025, side=512, halo=0)]
    assert {core.stop - core.start for core in cuts} == {342, 341}  # not 512, 512 and a sliver of 1


def test_cuts_are_those_of_the_least_work() -> None:
    """Of a picture of 1920×1080 full height at 16 pixels a position: no halo above and below."""
    found = tiles(68, 120, side=64, halo=10)
    assert [tile.core[0] for tile in found] == [slice(0, 68)] * 3
    assert sum(np.zeros((68, 120))[tile.padded].size for tile in found) == 68 * (120 + 4 * 10)


@pytest.mark.parametrize("size", [3, 7, 16, 100])
@pytest.mark.parametrize("reach", [0, 1, 2])
def test_seamless(size: int, reach: int) -> None:
    plane = np.random.default_rng(size).integers(-99, 99, (37, 41))
    result = np.full_like(plane, 10**9)
    for tile in tiles(*plane.shape, side=size + 2 * reach, halo=reach):
        block = neighbour_sums(plane[tile.padded], reach)
        result[tile.core] = block[tile.inner]
    np.testing.assert_array_equal(result, neighbour_sums(plane, reach))


@pytest.mark.parametrize(
    ("height", "width", "side", "halo"),
    [
        pytest.param(0, 5, 8, 0, id="no rows"),
        pytest.param(5, 0, 8, 0, id="no columns"),
        pytest.param(5, 5, 0, 0, id="side 0"),
        pytest.param(5, 5, 8, 4, id="all halo"),
        pytest.param(5, 5, 8, -1, id="negative halo"),
    ],
)
def test_misuse(height: int, width: int, side: int, halo: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        tiles(height, width, side=side, halo=halo)
