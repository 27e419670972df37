"""Scale and cut pictures and planes, for the networks that read them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from tactic_codec.picture.forms import LabelMap, Pixels, Plane, Scaled, Strips, to_pillow

SHRINKING_GAP = 2.0
"""What is cheaper than a filter leaves a picture so many times as large as it is to be."""

_ROWS = 32
"""Of a band."""


def network_input(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Return what networks read of a picture, uint8 [H, W, 3]: float32 [1, 3, H, W], 0 to 1."""
    return np.divide(pixels.transpose(2, 0, 1)[np.newaxis], 255, dtype=np.float32, order="C")


def square(pixels: Pixels, size: int) -> Pixels:
    """Scale a picture's short side to ``size`` and cut the square in its middle.

    Args:
        pixels: uint8 [height, width, 3].
        size: side of the result, in pixels.

    Returns:
        uint8 [size, size, 3]; the picture itself where it has this size already.
    """
    height, width, _ = pixels.shape
    short = min(height, width)
    left, top = (width - short) / 2, (height - short) / 2
    box = (left, top, left + short, top + short)
    return _resized(pixels, size, size, Image.Resampling.BICUBIC, box)


def scaled_size(height: int, width: int, longer: int) -> tuple[int, int]:
    """Height and width of what `scaled` makes, rounded, at least 1."""
    largest = max(height, width)
    return max(1, round(height * longer / largest)), max(1, round(width * longer / largest))


def scaled(pixels: Pixels, longer: int) -> Pixels:
    """Scale a picture up or down, as a whole, until its longer side has ``longer`` pixels.

    Args:
        pixels: uint8 [height, width, 3].
        longer: of the result's sides, in pixels.

    Returns:
        uint8 of the size that `scaled_size` names; the picture itself where it has this size.
    """
    height, width, _ = pixels.shape
    rows, columns = scaled_size(height, width, longer)
    return _resized(pixels, columns, rows, Image.Resampling.BICUBIC)


class Shrink(NamedTuple):
    """How small pictures are coded; never larger than they are.

    Attributes:
        max_side: of the longer side, in pixels; None for any.
        scale: of both sides, above 0, at most 1.
    """

    max_side: int | None = None
    scale: float = 1

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height at which a picture of this size is coded."""
        factor = min(self.scale, (self.max_side or width + height) / max(width, height))
        return max(1, round(width * factor)), max(1, round(height * factor))

    def of(self, picture: Scaled) -> Scaled:
        """Shrink a picture, which may have been shrunk on the way to this size."""
        width, height = self.size(picture.width, picture.height)
        if picture.pixels.shape[:2] == (height, width):
            return picture
        pixels = np.asarray(resized(to_pillow(picture.pixels), (width, height)))
        return picture._replace(pixels=pixels)


WHOLE = Shrink()


def resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Shrink a Pillow image to width and height; the image itself where it has this size."""
    if picture.size == size:
        return picture
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=SHRINKING_GAP)


def enlarged(pixels: Pixels, width: int, height: int) -> Pixels:
    """Bring what was coded to the picture's own size, as docs/format.md says: bilinearly.

    Args:
        pixels: uint8 [h, w, 3].
        width: of the result, at least w.
        height: of the result, at least h.

    Returns:
        uint8 [height, width, 3]; the picture itself where it has this size.
    """
    return enlarging(Strips.of(pixels), width, height).whole()


def enlarging(strips: Strips, width: int, height: int) -> Strips:
    """Do the same as rows are asked for, with those that come until then."""

    def enlarged_rows() -> Iterator[Pixels]:
        wide, first = np.empty((0, width, 3), np.uint8), 0
        coming = (s[top : top + _ROWS] for s in strips.rows for top in range(0, len(s), _ROWS))
        for top in range(0, height, _ROWS):
            # As Pillow does it, which holds all: the mean of two rows, by weights of 22 bits.
            rows = np.arange(top, min(top + _ROWS, height))
            places = (rows + 0.5) * (strips.height / height) - 0.5
            above = np.floor(places).astype(np.intp)
            share = ((places - above) * 2**22 + 0.5).astype(np.uint32)[:, np.newaxis, np.newaxis]
            above, below = (np.clip(above + step, 0, strips.height - 1) for step in (0, 1))
            while first + len(wide) <= below[-1]:
                more = next(coming)
                more = _resized(more, width, len(more), Image.Resampling.BILINEAR)
                wide, first = np.concatenate([wide[above[0] - first :], more]), int(above[0])
            mixed = wide[above - first] * (2**22 - share) + wide[below - first] * share
            yield ((mixed + 2**21) >> 22).astype(np.uint8)

    return strips if strips[:2] == (width, height) else Strips(width, height, enlarged_rows())


def bands(picture: Image.Image) -> Iterator[Image.Image]:
    """Cut an image into bands: NumPy would hold two copies of it beside its array for a while."""
    for top in range(0, picture.height, _ROWS):
        yield picture.crop((0, top, picture.width, min(top + _ROWS, picture.height)))


def nearest(labels: LabelMap, width: int, height: int) -> LabelMap:
    """Bring a label map to a size: each pixel gets the value of the nearest one."""
    return _resized(labels, width, height, Image.Resampling.NEAREST)


def resize_plane(plane: Plane, height: int, width: int, box: tuple[float, float]) -> Plane:
    """Scale a network's plane to a picture's size, bilinearly.

    Args:
        plane: float32 [h, w].
        height: of the result.
        width: of the result.
        box: rows and columns of the plane, from its top left, that the picture covers; what lies
            beyond them is padding. Fractions count.

    Returns:
        float32 [height, width], not to be written to; the plane itself where it has this size.
    """
    rows, columns = box
    return _resized(plane, width, height, Image.Resampling.BILINEAR, (0, 0, columns, rows))


def covered(
    inside: npt.NDArray[np.bool_], blocks: tuple[int, int], sides: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """Return what share of each block of a picture lies in a region, 0 to 1, [rows, columns].

    Args:
        inside: the region, bool [height, width].
        blocks: rows and columns of blocks, from the top left; the last ones may go beyond it.
        sides: width and height of a block, in pixels of the picture, at least 1.
    """
    found = inside.astype(np.float64)
    for axis, (count, side) in enumerate(zip(blocks, sides[::-1], strict=True)):
        starts = np.minimum(np.rint(np.arange(count) * side), inside.shape[axis] - 1).astype(
            np.intp
        )
        sizes = np.diff(starts, append=inside.shape[axis])
        sums = np.add.reduceat(found, starts, axis)
        found = sums / np.expand_dims(sizes, 1 - axis)
    return found


def _resized(
    array: npt.NDArray[Any],
    width: int,
    height: int,
    method: Image.Resampling,
    box: tuple[float, float, float, float] | None = None,
) -> npt.NDArray[Any]:
    """Scale what lies in a box, by default all; the array itself where nothing changes."""
    if array.shape[:2] == (height, width) and box in (None, (0, 0, width, height)):
        return array
    return np.asarray(Image.fromarray(array).resize((width, height), method, box=box))
