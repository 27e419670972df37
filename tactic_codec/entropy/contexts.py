"""The order in which symbols are coded, and the neighbours that choose a symbol's table.

    symbols [C, h, w] ─ board ─▶ [positions, C] ─ capped ─▶ contexts of the next wavefront

The positions of a latent are coded in wavefronts of equal ``t = x + 2 y``. West, north, north-west
and north-east of a position all have a smaller t, so a whole wavefront is decoded at once:

    t   x=0 1 2 3 4        NW  N  NE
    y=0   0 1 2 3 4         W  ·
    y=1   2 3 4 5 6
    y=2   4 5 6 7 8

Positions are held on a *board*: rows of the latent behind each other, channels last, with one row
of zeros above and one column of zeros on the left. A position's neighbours are then at fixed
distances from its index, and those outside the latent are zeros (the column on the left of a row
also stands on the right of the row above it).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tactic_codec.errors import DamagedModel

CAP = 15  # larger magnitudes tell a context no more, and sums of capped ones fit into a byte
_LARGEST_OWN = 6 * CAP


@dataclass(frozen=True)
class ContextModel:
    """How the magnitudes of coded neighbours choose one of ``count`` tables.

    With |v| capped at 15, and 0 outside the latent::

        o = 2|W| + 2|N| + |NW| + |NE|     in the symbol's channel
        s = sum of |W| + |N|              over all channels
        context = (thresholds of own <= o) * (len(shared) + 1) + (thresholds of shared <= s)

    Attributes:
        own: strictly increasing thresholds, each at least 1; may be empty.
        shared: likewise.

    Raises:
        DamagedModel: thresholds that break this rule.
    """

    own: tuple[int, ...] = ()
    shared: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, thresholds in (("own", self.own), ("shared", self.shared)):
            lower = (0, *thresholds)
            if any(high <= low for low, high in zip(lower, thresholds, strict=False)):
                raise DamagedModel(
                    f"the {name} context thresholds are {list(thresholds)}; expected strictly "
                    "increasing integers from 1"
                )

    @property
    def count(self) -> int:
        """Number of contexts."""
        return (len(self.own) + 1) * (len(self.shared) + 1)

    @property
    def passes(self) -> tuple[slice, ...]:
        """The channels of a position in the groups in which they are coded: all at once."""
        return (slice(None),)

    def contexts(
        self, seen: NDArray[np.int8], where: NDArray[np.intp], pitch: int
    ) -> NDArray[np.intp]:
        """Return the contexts of all symbols at the positions ``where``.

        Args:
            seen: [board, C] capped symbols; all neighbours must be known.
            where: [P] board indices of positions.
            pitch: board indices from a row to the next.

        Returns:
            [P, C], from 0 to ``count - 1``.
        """
        if self.count == 1:
            return np.zeros((where.size, seen.shape[1]), np.intp)
        near = np.abs(seen.take(where - 1, axis=0))
        near += np.abs(seen.take(where - pitch, axis=0))
        own = near + near
        own += np.abs(seen.take(where - pitch - 1, axis=0))
        own += np.abs(seen.take(where - pitch + 1, axis=0))
        context = self._own_part.take(own)
        if self.shared:
            total = near.sum(axis=1, dtype=np.int64)
            context += np.searchsorted(self.shared, total, side="right")[:, np.newaxis]
        return context

    def decoding(
        self, seen: NDArray[np.int8], where: NDArray[np.intp], pitch: int
    ) -> Iterator[tuple[slice, NDArray[np.intp]]]:
        """Yield the channels of each pass with their contexts, see `contexts`: one pass."""
        yield slice(None), self.contexts(seen, where, pitch)

    @cached_property
    def _own_part(self) -> NDArray[np.intp]:
        rank = np.searchsorted(self.own, np.arange(_LARGEST_OWN + 1), side="right")
        return rank * (len(self.shared) + 1)


class Scan(NamedTuple):
    """The coding order of the positions of a latent.

    Attributes:
        order: [h * w] board indices, in coding order.
        ends: for each wavefront, how many positions are coded when it is done.
        pitch: board indices from a row to the next.
    """

    order: NDArray[np.intp]
    ends: list[int]
    pitch: int


def scan(height: int, width: int) -> Scan:
    """Return the coding order of a latent of ``height`` x ``width`` positions."""
    pitch = width + 1
    y, x = np.divmod(np.arange(height * width), width)
    wavefront = x + 2 * y
    # Stable, so that y ascends within a wavefront as it does in the array.
    order = np.argsort(wavefront, kind="stable")
    board_index = (y + 1) * pitch + x + 1
    sizes = np.bincount(wavefront)
    return Scan(board_index[order], np.cumsum(sizes[sizes > 0]).tolist(), pitch)


def wavefronts(height: int, width: int) -> Iterator[NDArray[np.intp]]:
    """Yield the board indices of each wavefront, the same ones as in `scan`, and keep none.

    From a position of a wavefront to the next, y grows by 1 and x falls by 2.
    """
    pitch = width + 1
    steps = np.arange(height) * (pitch - 2)
    for t in range(width + 2 * (height - 1)):
        first, last = max(0, (t - width + 2) // 2), min(height - 1, t // 2)
        if first <= last:  # a latent of one column has no position in every second wavefront
            yield steps[first : last + 1] + (pitch + t + 1)


def empty_board(
    shape: tuple[int, int, int], dtype: type[np.integer[Any]]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a board of zeros for a latent of shape (C, h, w), and its view as that latent.

    Returns:
        board [(h + 1) * (w + 1), C], and [C, h, w], two views of the same memory.
    """
    channels, height, width = shape
    board = np.zeros((height + 1, width + 1, channels), dtype)
    return board.reshape(-1, channels), board[1:, 1:].transpose(2, 0, 1)


def capped(symbols: NDArray[np.int32]) -> NDArray[np.int8]:
    """Return symbols of any shape as bytes, those beyond ±15 as ±15."""
    return np.minimum(np.maximum(symbols, -CAP), CAP).astype(np.int8)
