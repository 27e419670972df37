"""What a coder reaches at a setting, and at all of its settings."""

from dataclasses import dataclass, field

from tactic_codec.rivals import Setting
from tactic_codec.tasks import Scores, Share

RETRAINED = "retrained_"
"""What names of scores begin with that are of retrained heads."""


@dataclass(frozen=True)
class Point:
    """A coder at one setting on one folder.

    Attributes:
        setting: of the coder.
        images: how many were coded.
        bytes: mean of a file.
        bpp: bits of a file over the pixels that were coded, the mean of the pictures' own.
        psnr: dB, the mean of the pictures' own.
        ms_ssim: mean, 0 to 1.
        scores: of the reference network, see `Task.scores`.
        retrained: of a retrained head; None where that was not asked for.
    """

    setting: Setting
    images: int
    bytes: float
    bpp: float
    psnr: float
    ms_ssim: float
    scores: Scores
    retrained: Scores | None = None

    def all_scores(self) -> Scores:
        """Return the scores of both networks by name."""
        retrained = self.retrained or {}
        return {**self.scores, **{RETRAINED + name: score for name, score in retrained.items()}}

    def shares(self) -> dict[str, Share]:
        """Return by name what curves show over the rate, the most telling first."""
        main = next(iter(self.scores))
        found = self.all_scores()
        shown = {name: found.get(name) for name in (main, RETRAINED + main)}
        return {name: share for name, share in shown.items() if isinstance(share, Share)}


@dataclass(frozen=True)
class Curve:
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
    points: tuple[Point, ...] = field(default=())
