"""Code one picture and measure what comes back."""

from typing import NamedTuple

from tactic_codec import metrics, tasks
from tactic_codec.codec import Codec
from tactic_codec.evaluation.cache import Facts
from tactic_codec.picture import Pixels


class Measurement(NamedTuple):
    """One picture, coded and decoded.

    Attributes:
        bytes: of its file.
        psnr: dB, at most 100.
        ms_ssim: 0 to 1.
        answer: the class that the reference network finds most likely in the decoded picture.
    """

    bytes: int
    psnr: float
    ms_ssim: float
    answer: int

    def as_facts(self) -> Facts:
        """Return what the cache keeps."""
        return self._asdict()

    @classmethod
    def of_facts(cls, facts: Facts) -> "Measurement":
        """Return what the cache has kept."""
        return cls(int(facts["bytes"]), facts["psnr"], facts["ms_ssim"], int(facts["answer"]))


def measure(reference: Codec, pixels: Pixels, size: int, decoded: Pixels) -> Measurement:
    """Compare a decoded picture with its original.

    Args:
        reference: its task network answers.
        pixels: the original, uint8 [H, W, 3].
        size: bytes of the file between the two.
        decoded: what came back, of the same shape.

    Raises:
        UnknownTask: the reference has no classifier.
        ValueError: the shapes differ.
    """
    return Measurement(
        bytes=size,
        psnr=metrics.finite_psnr(pixels, decoded),
        ms_ssim=metrics.ms_ssim(pixels, decoded),
        answer=tasks.classify_pixels(reference, decoded, 1)[0].index,
    )
