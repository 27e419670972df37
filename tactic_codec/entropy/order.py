"""The coding order of a latent, and the neighbours of what is coded.

    latent [C, h, w] ─ parts, one after the other ─ `Seen` [h + 2, w + 2, C] ─▶ neighbours of each

Symbols are held on a *board*: channels last, with a frame of zeros, so that every position has
eight neighbours. What can be coded at once is a *part*: some positions, and a group of channels.

Parts of the first group of channels are wavefronts of equal ``t = x + 2 y``. West, north,
north-west and north-east of a position all have a smaller t:

    t   x=0 1 2 3 4        NW  N  NE
    y=0   0 1 2 3 4         W  ·
    y=1   2 3 4 5 6
    y=2   4 5 6 7 8

Those of other groups are rows of one of four steps, see `tactic_codec.entropy.learned`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer[Any]]
"""Of any width."""

Floats = NDArray[np.float32]
Places = NDArray[np.intp]

Symbols = NDArray[np.int32]
"""Values of a latent, [C, h, w], or of a part of one."""

CAP = 15  # larger magnitudes tell a context no more, and sums of capped ones fit into a byte

PART_SYMBOLS = 1 << 16
"""Most symbols of a part of whole rows, unless it is one row. It bounds memory, and is a rule of
the format: escapes follow their part."""

_TURNED = 1 << 16
"""Symbols that `Seen.fill` looks at at once."""

_ORIGINS = ((0, 0), (1, 1), (0, 1), (1, 0))
"""First row and column of each step."""


class Part(NamedTuple):
    """P positions and G channels that are coded at once, position by position.

    Attributes:
        number: of the group of channels, from 0.
        group: these channels.
        step: of four, from 0; 0 in a wavefront.
        where: [P] positions on a board of h + 2 rows and w + 2 columns, numbered row by row.
        ends: how many positions are coded when each wavefront is done; only an encoder takes
            several at once. Escapes follow each.
        block: rows and columns on the board; None of wavefronts.
    """

    number: int
    group: slice
    step: int
    where: Places
    ends: list[int]
    block: tuple[slice, slice] | None


def fronts(height: int, width: int, number: int, group: slice) -> Iterator[Part]:
    """Yield the wavefronts of a latent of ``height`` x ``width`` positions; y ascends in each."""
    pitch = width + 2
    down = np.arange(height) * (pitch - 2)  # y grows by 1 and x falls by 2
    for t in range(width + 2 * (height - 1)):
        first, last = max(0, (t - width + 2) // 2), min(height - 1, t // 2)
        if first <= last:  # a latent of one column has no position in every second wavefront
            where = down[first : last + 1] + (pitch + 1 + t)
            yield Part(number, group, 0, where, [where.size], None)


def steps(height: int, width: int, number: int, group: slice) -> Iterator[Part]:
    """Yield the parts of a group's four steps, as many whole rows as `PART_SYMBOLS` allows."""
    pitch, size = width + 2, group.stop - group.start
    for step, (y, x) in enumerate(_ORIGINS):
        columns = np.arange(x + 1, width + 1, 2)
        rows = max(1, PART_SYMBOLS // max(1, columns.size * size))
        for top in range(y + 1, height + 1, 2 * rows) if columns.size else ():
            bottom = min(top + 2 * rows, height + 1)
            where = (np.arange(top, bottom, 2)[:, np.newaxis] * pitch + columns).reshape(-1)
            block = slice(top, bottom, 2), slice(x + 1, width + 1, 2)
            yield Part(number, group, step, where, [where.size], block)


def parts(height: int, width: int, number: int, group: slice) -> Iterator[Part]:
    """Yield what is coded at once of a group of channels of a latent, one after the other."""
    return (steps if number else fronts)(height, width, number, group)


def merged(found: Iterable[Part]) -> Iterator[Part]:
    """Yield a group's parts for who knows its symbols: as many wavefronts together as are few."""
    waiting, size = list[Part](), 0
    for part in found:
        if part.block:
            yield part
            continue
        more = part.where.size * (part.group.stop - part.group.start)
        if waiting and size + more > PART_SYMBOLS:
            yield _together(waiting)
            waiting, size = [], 0
        waiting.append(part)
        size += more
    if waiting:
        yield _together(waiting)


def _together(several: list[Part]) -> Part:
    where = np.concatenate([part.where for part in several])
    return several[0]._replace(
        where=where, ends=np.cumsum([p.where.size for p in several]).tolist()
    )


class Seen:
    """What is known of a latent while it is coded: its symbols, capped, on a board.

    Channels that are zero everywhere are not kept: they tell nothing, and are many at low rates.

    Attributes:
        board: [h + 2, w + 2, C], of which the first columns are in use.
        before: [n], the channels in the first columns, all of earlier groups.
        units: for `LearnedContexts` to keep: a group's number, and weights for what is seen.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        channels, self.height, self.width = shape
        self.board = np.zeros((self.height + 2, self.width + 2, channels), np.int8)
        self.before = np.arange(0)
        self.units: tuple[int, list[Floats]] | None = None

    def fill(self, symbols: Integers) -> None:
        """Note all symbols of the next group, [G, h, w]."""
        first = self.before.size
        latent = self.board[1:-1, 1:-1, first : first + len(symbols)]
        # Some rows at once, because they change their order in memory within the caches.
        step = max(1, _TURNED // symbols[:, 0].size)
        for top in range(0, self.height, step):
            rows = slice(top, top + step)
            latent[rows] = capped(symbols[:, rows]).transpose(1, 2, 0)

    def put(self, part: Part, positions: Places, channels: Places, values: Integers) -> None:
        """Note symbols [m] of a part, by their positions and by their channels in its group."""
        columns = channels + self.before.size
        self.board.reshape(-1, self.board.shape[2])[part.where[positions], columns] = capped(values)

    def settle(self, group: slice) -> None:
        """Note that a group is coded as a whole."""
        if group.stop == self.board.shape[2]:
            return  # nothing looks at the last one
        first, size = self.before.size, group.stop - group.start
        own = self.board[..., first : first + size]
        awake = np.flatnonzero(own.any(axis=(0, 1)))
        if awake.size < size:
            own[..., : awake.size] = own[..., awake]
            own[..., awake.size :] = 0
        self.before = np.concatenate([self.before, awake + group.start])

    def before_front(self, part: Part) -> NDArray[np.int8]:
        """Return of a wavefront's positions the symbols W, NW, N and NE, [P, 4, n].

        They are of the n channels before and then those of the group.
        """
        pitch, flat = self.width + 2, self.board.reshape(-1, self.board.shape[2])
        places = part.where[:, np.newaxis] - (1, pitch + 1, pitch, pitch - 1)
        found: NDArray[np.int8] = flat[places, : self._stop(part)]
        return found

    def around(self, part: Part) -> Callable[[int, int], NDArray[np.int8]]:
        """Return what gives the symbols so many rows down and columns to the right of a block's.

        Its results are [rows, columns, n], of channels as in `before_front`.
        """
        assert part.block
        (rows, columns), board = part.block, self.board[..., : self._stop(part)]
        return lambda down, right: board[
            rows.start + down : rows.stop + down : 2,
            columns.start + right : columns.stop + right : 2,
        ]

    def _stop(self, part: Part) -> int:
        return self.before.size + int(part.group.stop - part.group.start)


def capped(symbols: Integers) -> NDArray[np.int8]:
    """Return symbols of any shape as bytes, those beyond ±15 as ±15."""
    small: NDArray[np.int8] = np.clip(symbols, -CAP, CAP).astype(np.int8, copy=False)
    return small
