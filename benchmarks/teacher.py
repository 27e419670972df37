r"""Bytes at which codecs keep what a network says, at each codec's best scale, with intervals.

    python benchmarks/teacher.py NET.onnx PICTURES --work work --input range=255 \
        --model models/ours --limit 40 [--boxes]

Pictures are coded whole by the models and by AVIF at --scales, and scaled back. The distance is
that of `tactic_codec.training.teacher`, its spreads those of these pictures. With --boxes there is
also F1 of what COCO-SSD finds in the decoded picture against what it finds in the uncoded one, with
scores of at least 0.5; benchmarks/judges.py says how to install it. At each of some distances and
shares there are the mean bytes of each coder, by interpolation over its Pareto front, and how many
more a model needs than AVIF, with the 95 % interval of draws of the pictures; and the BD-rate over
F1 from 50 to 70 %. Writes benchmarks/results/teacher.json (--out). What was measured stays in the
work folder, where an interrupted run of the same options goes on.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from judges import coco_ssd, f1
from kept_out import below
from numpy.typing import NDArray
from rows import Curve, Front, bd_rate, interval, reach, write

from tactic_codec import metrics, picture
from tactic_codec.codec import load_model
from tactic_codec.evaluation.coders import Coder, ModelCoder, RivalCoder, Uncompressed
from tactic_codec.evaluation.judge import Judge
from tactic_codec.picture import Pixels
from tactic_codec.rivals import rival
from tactic_codec.training.config import parse_teacher

OUT = Path(__file__).parent / "results" / "teacher.json"

WANTED = {
    "distance": (0.7, 0.6, 0.5, 0.42, 0.35, 0.3, 0.25),
    "F1": (0.5, 0.6, 0.7, 0.75, 0.8, 0.85),
}

LEAST = 0.5
"""Score of boxes that count."""


def numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def measure(
    coder: Coder, scale: float, setting: float, pictures: Sequence[Pixels], judges: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return bytes, and what is said of each decoded picture."""
    rows = []
    for number, pixels in enumerate(pictures):
        size, decoded = coder.at_scale(scale).code(pixels, setting)
        said = {name: ask(number, decoded) for name, ask in judges.items()}
        rows.append({"bytes": size, **said})
    return rows


def curves(
    found: list[dict[str, Any]], before: list[dict[str, Any]], draws: NDArray[np.int64]
) -> dict[str, Curve]:
    """Return mean bytes, how near the outputs are, and F1, in each draw."""
    weights = draws / draws.sum(1, keepdims=True)
    mean_K, square_K = np.mean([row["distance"]["moments"] for row in before], axis=0).T
    errors = np.array([row["distance"]["errors"] for row in found]) / (square_K - mean_K**2)
    result = {
        "bytes": weights @ [row["bytes"] for row in found],
        "distance": weights @ -errors.mean(1),  # the nearer, the better
    }
    if "F1" in found[0]:
        sides = ([row["F1"] for row in side] for side in (before, found))
        result["F1"] = f1(*sides, LEAST, draws)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("network")
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--work", type=Path, default=Path("teacher-work"))
    parser.add_argument("--input", action="append", default=[])
    parser.add_argument("--output", action="append", default=[])
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--boxes", action="store_true")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--scales", type=numbers, default=[1.0, 0.75, 0.5])
    parser.add_argument("--levels", type=numbers, default=[1, 2, 3, 4, 5, 6, 7, 8])
    parser.add_argument("--qualities", type=numbers, default=[0, 4, 9, 14, 20, 26, 33, 40, 50])
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    pictures = [picture.load(args.pictures / name) for name in below(args.pictures, args.limit)]
    network = Judge(parse_teacher(args.network, args.input, args.output), print)
    codecs = {Path(name).name: load_model(name, device="cpu", threads=1) for name in args.model}
    any_codec = next(iter(codecs.values()))
    wanted = [network.ask(any_codec, pixels) for pixels in pictures]
    judges = {
        "distance": lambda i, pixels: network.facts(
            None, network.ask(any_codec, pixels), lambda: wanted[i]
        )
    }
    if args.boxes:
        detector = coco_ssd(LEAST)
        judges["F1"] = lambda i, pixels: detector(pixels)
    points: list[tuple[Coder, float, float]] = [(Uncompressed(), 1.0, 0)]
    for scale in args.scales:
        for name, codec in codecs.items():
            points += [(ModelCoder(codec, "cpu", name=name), scale, q) for q in args.levels]
        points += [(RivalCoder(rival("avif")), scale, q) for q in args.qualities]
    found = []
    for coder, scale, setting in points:
        path = args.work / f"{coder.name}-{scale:g}-{setting:g}.json"
        if not path.exists():
            write(path, measure(coder, scale, int(setting), pictures, judges))
        found.append(json.loads(path.read_text()))
        print(path.stem, round(np.mean([row["bytes"] for row in found[-1]])), flush=True)
    draws = metrics.resamples(len(pictures))
    fronts: dict[str, Front] = {}
    for (coder, *_), rows in zip(points[1:], found[1:], strict=True):
        fronts.setdefault(coder.name, []).append(curves(rows, found[0], draws))
    result = []
    for answer, levels in WANTED.items():
        if answer not in fronts["avif"][0]:
            continue
        for level in levels:
            sizes = {
                n: reach(f, answer, -level if answer == "distance" else level)
                for n, f in fronts.items()
            }
            for name in codecs:
                more = interval(sizes[name] / sizes["avif"] - 1)
                if more:
                    both = {n: round(float(sizes[n][0])) for n in (name, "avif")}
                    result.append({answer: level, "model": name, "bytes": both, "more": more})
                    print(result[-1])
    rates = []
    for name in codecs if args.boxes else ():
        if rate := bd_rate(fronts[name], fronts["avif"], "F1", (0.5, 0.7)):
            rates.append({"model": name, **rate})
            print(rates[-1])
    told = {
        name: getattr(args, name) for name in ("input", "output", "scales", "levels", "qualities")
    }
    head = {"network": Path(args.network).name, "images": len(pictures), **told}
    write(args.out, {**head, "rows": result, "bd_rates": rates})


if __name__ == "__main__":
    main()
