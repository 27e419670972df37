r"""Bytes at which codecs keep what a network says, at each codec's best scale, with intervals.

    python benchmarks/teacher.py NET.onnx PICTURES WORK.json --input range=255 --model models/ours \
        --scale 0.65 --limit 40

Pictures are shown at --scale, coded whole by the models and by AVIF at --scales of that, and
scaled back. The distance is that of `tactic_codec.training.teacher`, its spreads those of these
pictures. At each of some distances there are the mean bytes of each model and of AVIF, by
interpolation over Pareto fronts, and what the model needs more, with the 95 % interval of draws of
the pictures, of those draws in which both reach the distance. Writes
benchmarks/results/teacher.json (--out). What was measured stays in WORK.json, where an interrupted
run of the same options goes on.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from kept_out import below
from PIL import Image
from rows import write

from tactic_codec import metrics, picture
from tactic_codec.codec import load_model
from tactic_codec.evaluation.judge import Judge
from tactic_codec.rivals import rival
from tactic_codec.training.config import parse_teacher

OUT = Path(__file__).parent / "results" / "teacher.json"
DISTANCES = (0.7, 0.6, 0.5, 0.42, 0.35, 0.3, 0.25)


def scaled(pixels, height, width, filter):
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), filter))


def measure(judge, pictures, before, code, scale):
    """Return bytes, moments and errors of each picture."""
    rows = []
    for pixels, wanted in zip(pictures, before, strict=True):
        height, width = pixels.shape[:2]
        small = scaled(pixels, round(height * scale), round(width * scale), Image.LANCZOS)
        size, decoded = code(small)
        answer = judge.ask(None, scaled(decoded, height, width, Image.BICUBIC))
        rows.append({"bytes": size, **judge.facts(None, answer, lambda wanted=wanted: wanted)})
    return rows


def curve(points, weights, spread_K):
    """Return the Pareto front of mean bytes and distance, by rising bytes."""
    found, kept = [], []
    for rows in points:
        size = weights @ [row["bytes"] for row in rows] / weights.sum()
        errors = np.array([row["errors"] for row in rows]) / spread_K
        found.append((size, float(weights @ errors.mean(1) / weights.sum())))
    for size, distance in sorted(found):
        if not kept or distance < kept[-1][1]:
            kept.append((size, distance))
    return kept


def bytes_at(points, distance):
    """Interpolate the logarithm of bytes; NaN beyond the curve."""
    sizes, distances = np.log([p[0] for p in points]), [p[1] for p in points]
    found = np.interp(-distance, np.negative(distances), sizes, np.nan, np.nan)
    return float(np.exp(found))


def numbers(text):
    return [float(part) for part in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("network")
    parser.add_argument("pictures", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--input", action="append", default=[])
    parser.add_argument("--output", action="append", default=[])
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--scales", type=numbers, default=[1.0, 0.75, 0.5])
    parser.add_argument("--levels", type=numbers, help="of the models; by default all")
    parser.add_argument("--qualities", type=numbers, default=[0, 4, 9, 14, 20, 26, 33, 40, 50])
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    names = below(asked.pictures, asked.limit)
    judge = Judge(parse_teacher(asked.network, asked.input, asked.output), print)
    pictures = []
    for name in names:
        pixels = picture.load(asked.pictures / name)
        sides = (round(side * asked.scale) for side in pixels.shape[:2])
        pictures.append(scaled(pixels, *sides, Image.LANCZOS))
    before = [judge.ask(None, pixels) for pixels in pictures]
    coders = {}
    for name in asked.model:
        codec = load_model(name, device="cpu", threads=1)
        coders[Path(name).name] = [
            lambda p, q=level, codec=codec: (lambda frame: (frame.size, codec.decode(frame)))(
                codec.compress(p, q).frame
            )
            for level in map(int, asked.levels or range(1, len(codec.model.levels) + 1))
        ]
    avif = rival("avif")
    coders["avif"] = [
        lambda p, q=quality: (lambda data: (len(data), avif.decode(data)))(avif.encode(p, q))
        for quality in map(int, asked.qualities)
    ]
    known = json.loads(asked.work.read_text()) if asked.work.exists() else {}
    for name, settings in coders.items():
        for scale in asked.scales:
            for number, code in enumerate(settings):
                key = f"{name} {scale:g} {number}"
                if key not in known:
                    known[key] = measure(judge, pictures, before, code, scale)
                    asked.work.write_text(json.dumps(known))
                    print(key, round(np.mean([row["bytes"] for row in known[key]])), flush=True)
    moments = [judge.facts(None, answer)["moments"] for answer in before]
    mean_K, square_K = np.mean(moments, axis=0).T
    spread_K = square_K - mean_K**2
    points = {n: [v for k, v in known.items() if k.startswith(f"{n} ")] for n in coders}
    draws = metrics.resamples(len(pictures))
    curves = {n: [curve(p, w, spread_K) for w in draws] for n, p in points.items()}
    rows = []
    for level in DISTANCES:
        sizes = {n: np.array([bytes_at(c, level) for c in found]) for n, found in curves.items()}
        for name in [name for name in coders if name != "avif"]:
            ratio = sizes[name] / sizes["avif"]
            drawn = ratio[np.isfinite(ratio)]
            if np.isfinite(ratio[0]) and len(drawn) > 0.9 * len(ratio):
                more = [round(value, 3) for value in metrics.with_interval(drawn - 1)]
                both = {"bytes": round(sizes[name][0]), "avif": round(sizes["avif"][0])}
                rows.append({"distance": level, "model": name, **both, "more": more})
                print(rows[-1])
    names = ("input", "scale", "scales", "levels", "qualities")
    told = {name: getattr(asked, name) for name in names}
    write(
        asked.out,
        {"network": Path(asked.network).name, "images": len(pictures), **told, "rows": rows},
    )


if __name__ == "__main__":
    main()
