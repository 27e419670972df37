"""Cut a plane into tiles, so that a large picture is coded in bounded memory and without seams.

A convolutional network's output at one place depends on its input within some distance, the halo.
Each tile therefore has a *core*, its share of the plane, and a *padded* block, the core with the
halo around it. Run on the padded block and cropped to the core, the network gives exactly what it
would give on the whole plane, as long as the halo is no smaller than that distance:

    whole plane ─ padded block ─ network ─ crop to the core ─ whole plane

At the border of the plane the padded block ends with the plane, so the network pads there as it
would for the whole. The cores cover the plane exactly once. This module knows only coordinates.
"""

from typing import NamedTuple


class Tile(NamedTuple):
    """One tile: rows ``y0:y1`` and columns ``x0:x1`` of the core, and with p those of the block."""

    y0: int
    y1: int
    x0: int
    x1: int
    py0: int
    py1: int
    px0: int
    px1: int

    @property
    def core(self) -> tuple[slice, slice]:
        """The core within the plane: ``plane[..., *tile.core]``."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @property
    def padded(self) -> tuple[slice, slice]:
        """The padded block within the plane: ``plane[..., *tile.padded]``."""
        return slice(self.py0, self.py1), slice(self.px0, self.px1)

    @property
    def inner(self) -> tuple[slice, slice]:
        """The core within the padded block: ``block[..., *tile.inner]``."""
        return (
            slice(self.y0 - self.py0, self.y1 - self.py0),
            slice(self.x0 - self.px0, self.x1 - self.px0),
        )


def tiles(height: int, width: int, *, size: int, halo: int) -> list[Tile]:
    """Cut a plane into tiles of nearly equal size, row by row.

    Args:
        height: rows of the plane, at least 1.
        width: columns of the plane, at least 1.
        size: the largest height and width of a core, at least 1.
        halo: rows and columns around the core.

    Returns:
        At least one tile. A plane that fits into one tile has exactly that one, without a halo.

    Raises:
        ValueError: an argument breaks the rules above.
    """
    if height < 1 or width < 1:
        raise ValueError(f"a plane of {height} x {width} cannot be cut: at least 1 x 1 expected")
    if size < 1 or halo < 0:
        raise ValueError(f"tiles of size {size} with a halo of {halo}: 1 and 0 at least expected")
    return [
        Tile(
            *(y0, y1, x0, x1),
            *(max(y0 - halo, 0), min(y1 + halo, height)),
            *(max(x0 - halo, 0), min(x1 + halo, width)),
        )
        for y0, y1 in _spans(height, size)
        for x0, x1 in _spans(width, size)
    ]


def _spans(length: int, size: int) -> list[tuple[int, int]]:
    """Spans that cover ``length``, as few as ``size`` allows, evened out: no slivers at the end."""
    count = -(-length // size)
    step = -(-length // count)
    return [(start, min(start + step, length)) for start in range(0, length, step)]
