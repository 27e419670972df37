"""What coding at each scale and level comes to, for `Codec.compress` to choose by.

As a program it measures a model folder anew and writes that into its manifest, outside of what the
fingerprint covers: ``python -m tactic_codec.training.points MODEL PICTURE…``
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tactic_codec import metrics
from tactic_codec import picture as image
from tactic_codec.codec import Codec, load_model
from tactic_codec.model import Point
from tactic_codec.picture import Pixels
from tactic_codec.tasks import TASKS
from tactic_codec.training.export import changing_manifest

SCALES = (1.0, 0.75, 0.5, 0.35, 0.25, 0.18)
PICTURES = 24
"""Whole photographs of the test part; at 500 pixels a side that is 5 minutes on one core."""


def measured(codec: Codec, pictures: Sequence[Pixels]) -> list[Point]:
    """Code pictures, uint8 [H, W, 3], at each scale and level, and return the means."""
    tasks = [TASKS[name] for name in codec.model.heads]
    found: dict[tuple[float, int], list[Point]] = {}
    for pixels in pictures:
        height, width, _ = pixels.shape
        before = {task.name: task.ask(codec, pixels) for task in tasks}
        for scale in SCALES:
            shrunk = image.Shrink(scale=scale).of(image.Scaled(pixels, width, height))
            latent = codec.analyse(shrunk.pixels)
            for level in range(1, len(codec.model.levels) + 1):
                frame, _ = codec.code(shrunk, latent, level)
                coded = codec.decode(frame, coded_size=True)
                psnr = metrics.finite_psnr(pixels, image.enlarged(coded, width, height))
                agreement = {
                    task.name: task.alike(
                        before[task.name], task.in_picture(task.ask(codec, coded), frame)
                    )
                    for task in tasks
                }
                point = Point(scale, level, frame.bpp, psnr, agreement)
                found.setdefault((scale, level), []).append(point)
    return [_mean(points) for points in found.values()]


def _mean(points: Sequence[Point]) -> Point:
    def mean(values: Sequence[float], digits: int) -> float:
        return round(float(np.mean(values)), digits)

    return points[0]._replace(
        bpp=mean([point.bpp for point in points], 5),
        psnr=mean([point.psnr for point in points], 2),
        agreement={
            task: mean([point.agreement[task] for point in points], 4)
            for task in points[0].agreement
        },
    )


def add(folder: Path, pictures: Sequence[Pixels]) -> None:
    """Measure a model folder and write its points into its manifest; its fingerprint stays."""
    found = measured(load_model(folder, device="cpu"), pictures)  # the same on every machine
    with changing_manifest(folder) as manifest:
        manifest["encoder"]["points"] = [point._asdict() for point in found]


if __name__ == "__main__":
    model, *names = map(Path, sys.argv[1:])
    add(model, [image.load(name) for name in names])
