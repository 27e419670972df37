"""From measurements of pictures to points, and from points to curves."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from tactic_codec import metrics
from tactic_codec.evaluation.measure import Measurement

Setting = int | float
"""What a coder is turned by: a model's level, another codec's quality or compression ratio."""


class Share(NamedTuple):
    """A share, 0 to 1, with its 95 % interval: of pictures by Wilson, see `share`."""

    share: float
    low: float
    high: float


class Retrained(NamedTuple):
    """Shares of a task network that was fine-tuned on what the coder gives back.

    Attributes:
        agreement: with the reference network's label of the uncompressed picture.
        accuracy: where the pictures have labels.
    """

    agreement: Share
    accuracy: Share | None


@dataclass(frozen=True)
class AnyPoint(ABC):
    """A coder at one setting on one folder, whatever its pictures are used for.

    Attributes:
        setting: of the coder.
        images: how many were coded.
        bytes: mean of a file.
        bpp: bits of a file over the pixels that were coded, the mean of the pictures' own.
        psnr: dB, the mean of the pictures' own.
        ms_ssim: mean, 0 to 1.
    """

    setting: Setting
    images: int
    bytes: float
    bpp: float
    psnr: float
    ms_ssim: float

    @abstractmethod
    def shares(self) -> dict[str, Share]:
        """Return by name what curves show over the rate, the most telling first."""


@dataclass(frozen=True)
class Point(AnyPoint):
    """A coder at one setting on a folder of pictures that are classified.

    Attributes:
        agreement: share with the label that the uncompressed picture has.
        accuracy: share with the right label; None where the pictures have none.
        retrained: the same two of a retrained head; None where that was not asked for.
    """

    agreement: Share
    accuracy: Share | None
    retrained: Retrained | None = None

    def shares(self) -> dict[str, Share]:
        """Return agreements, see `AnyPoint`."""
        known = {"agreement": self.agreement}
        return known | ({"retrained agreement": self.retrained.agreement} if self.retrained else {})


P = TypeVar("P", bound=AnyPoint, covariant=True)


@dataclass(frozen=True)
class Curve(Generic[P]):
    """A coder on a folder.

    Attributes:
        name: of the coder.
        kind: ``model``, ``codec``, or ``uncompressed``.
        settings: how files were made, for people.
        points: by rising rate.
    """

    name: str
    kind: str
    settings: str
    points: tuple[P, ...] = field(default=())


def point(
    setting: Setting,
    measurements: Sequence[Measurement],
    pixels: int,
    *,
    before: Sequence[int],
    labels: Sequence[int] | None,
) -> Point:
    """Average the measurements of pictures.

    Args:
        setting: at which they were coded.
        measurements: one a picture, at least one.
        pixels: of each picture.
        before: the class that the reference network sees in each uncompressed picture.
        labels: the class that each shows, where that is known.
    """
    answers = [m.answer for m in measurements]
    size = float(np.mean([m.bytes for m in measurements]))
    return Point(
        setting=setting,
        images=len(measurements),
        bytes=size,
        bpp=8 * size / pixels,
        psnr=float(np.mean([m.psnr for m in measurements])),
        ms_ssim=float(np.mean([m.ms_ssim for m in measurements])),
        agreement=share(answers, before),
        accuracy=None if labels is None else share(answers, labels),
    )


def share(answers: Iterable[int], expected: Iterable[int]) -> Share:
    """Count answers that are as expected, at least one being given."""
    hits = [a == b for a, b in zip(answers, expected, strict=True)]
    return Share(sum(hits) / len(hits), *metrics.wilson_interval(sum(hits), len(hits)))
