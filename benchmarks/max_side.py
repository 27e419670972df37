"""What `max_side` costs beside Pillow's reading and shrinking and coding what that gives.

    python benchmarks/max_side.py PHOTO [SIDE]

Both ways by turns in one process; medians in milliseconds, and their ratio.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tactic_codec.codec import load_model

REPEATS = 15


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("side", type=int, nargs="?", default=640)
    given = parser.parse_args()
    path, side = given.photo, given.side
    codec = load_model(threads=1)

    def ours() -> None:
        codec.compress(path, max_side=side)

    def by_hand() -> None:
        with Image.open(path) as image:
            image.thumbnail((side, side), Image.Resampling.LANCZOS)
            codec.compress(np.asarray(image.convert("RGB")))

    def read_by_hand() -> None:
        with Image.open(path) as image:
            image.thumbnail((side, side), Image.Resampling.LANCZOS)

    ways = {"max_side": ours, "by hand": by_hand, "of that reading": read_by_hand}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(1000 * (time.perf_counter() - start))
    medians = {name: statistics.median(found[1:]) for name, found in times.items()}
    print(", ".join(f"{name} {median:.1f} ms" for name, median in medians.items()))
    print(f"ratio {medians['max_side'] / medians['by hand']:.2f}")


if __name__ == "__main__":
    main()
