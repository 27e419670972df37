"""Boxes around objects: those that a network means, and how alike two lists of them are.

output [N, 4 + classes] ─ scores, overlaps ─▶ Box… ─┬─ another size of the picture
Box… of another ───┴─▶ how many are the same
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEAST_SCORE = 0.05
"""Boxes below it are not worth a thought: curves of precision and recall change little by them."""

MIN_SCORE = 0.4
"""From which on boxes are told, and compared with those of an uncoded picture."""

MOST = 100
"""Boxes of a picture, as in COCO's measure."""

KEPT = 0.9
"""F1 of a coded picture's boxes against the picture's own from which on they count as kept. Of up
to four none may be lost or new, of twenty three may be lost or four be new."""

SAME = 0.5
"""Intersection over union from which on boxes of one class stand for the same object."""

_CANDIDATES = 1000
_OVERLAP = 0.6
"""Of boxes of one class that overlap more only the most certain is meant."""


class Box(NamedTuple):
    """An object, and where it is, in pixels of a picture from its top left corner.

    Attributes:
        kind: index of its class.
        score: how certain the network is, 0 to 1.
        left: of its edges,
        top: likewise,
        right: likewise,
        bottom: likewise.
    """

    kind: int
    score: float
    left: float
    top: float
    right: float
    bottom: float


class Shared(NamedTuple):
    """How many boxes there were before, are now, and of these how many are the same."""

    before: int
    after: int
    same: int

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 1 where there is no box in either."""
        return 2 * self.same / total if (total := self.before + self.after) else 1.0


def meant(
    said: NDArray[np.float32], scale: tuple[float, float], size: tuple[int, int]
) -> list[Box]:
    """Return the boxes that a network means, the most certain first, at most `MOST`.

    Args:
        said: float32 [N, 4 + classes]: left, top, right, bottom, and the score of each class.
        scale: pixels of the picture for one across and one down of what the network saw.
        size: width and height of the picture; boxes end there.
    """
    rows, classes = np.nonzero(said[:, 4:] >= LEAST_SCORE)
    scores = said[rows, 4 + classes]
    order = np.argsort(-scores, kind="stable")[:_CANDIDATES]
    rows, classes, scores = rows[order], classes[order], scores[order]
    limits = np.tile(np.array(size, np.float64), 2)
    edges = np.clip(said[rows, :4].astype(np.float64) * np.tile(scale, 2), 0, limits)
    alive = ((edges[:, 2] > edges[:, 0]) & (edges[:, 3] > edges[:, 1])).nonzero()[0]
    found: list[Box] = []
    while len(alive) and len(found) < MOST:
        best, others = alive[0], alive[1:]
        found.append(Box(int(classes[best]), float(scores[best]), *edges[best].tolist()))
        apart = _overlaps(edges[best], edges[others]) <= _OVERLAP
        alive = others[apart | (classes[others] != classes[best])]
    return found


def certain(boxes: Iterable[Box]) -> list[Box]:
    """Return the boxes that are worth telling."""
    return [box for box in boxes if box.score >= MIN_SCORE]


def resized(boxes: Iterable[Box], across: float, down: float) -> list[Box]:
    """Return boxes in another size of their picture, so many times as wide and as high."""
    return [
        Box(b.kind, b.score, b.left * across, b.top * down, b.right * across, b.bottom * down)
        for b in boxes
    ]


def shared(before: Sequence[Box], after: Sequence[Box]) -> Shared:
    """Pair boxes of one class, the most certain one of ``after`` first, each with the nearest."""
    left = list(before)
    for box in sorted(after, key=lambda box: -box.score):
        alike = [other for other in left if other.kind == box.kind]
        if not alike:
            continue
        overlaps = _overlaps(np.array(box[2:]), np.array([other[2:] for other in alike]))
        if overlaps.max() >= SAME:
            left.remove(alike[int(overlaps.argmax())])
    return Shared(len(before), len(after), len(before) - len(left))


def _overlaps(one: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return intersection over union of a box [4] with others [N, 4]."""
    sides = np.minimum(one[2:], others[:, 2:]) - np.maximum(one[:2], others[:, :2])
    common = sides.clip(0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (one[2:] - one[:2]).prod()
    overlaps: NDArray[np.float64] = common / (areas - common)
    return overlaps
