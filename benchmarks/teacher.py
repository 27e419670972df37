r"""Bytes at which codecs keep what a network says, at each codec's best scale, with intervals.

    python benchmarks/teacher.py NET.onnx PICTURES OUT.json --input range=255 --model models/ours \
        --scale 0.65 --limit 40

Pictures are shown at --scale, coded whole by the models and by AVIF at --scales of that, and
scaled back. The distance is that of `tactic_codec.training.teacher`, its spreads those of these
pictures. At each of some distances the table has the mean bytes of each codec, by interpolation
over its Pareto front, and the ratio of the first model to each other, with the 95 % interval of
draws of the pictures. --faces adds F1 of CenterFace's boxes.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from tactic_codec import metrics, picture
from tactic_codec.codec import load_model
from tactic_codec.evaluation.judge import Judge
from tactic_codec.evaluation.pictures import spread
from tactic_codec.rivals import rival
from tactic_codec.training.config import parse_teacher

DISTANCES = (0.7, 0.6, 0.5, 0.45, 0.4, 0.35, 0.3, 0.25)
F1S = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85)


def scaled(pixels, height, width, filter):
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), filter))


def faces(outputs):
    """Return CenterFace's boxes with a score of at least 0.35, [N, 4], in its own pixels."""
    heat, scale, offset = (output[0] for output in outputs[:3])
    y, x = np.where(heat[0] >= 0.35)
    order = np.argsort(-heat[0, y, x])
    kept = []
    for row, column in zip(y[order], x[order], strict=True):
        height, width = np.exp(scale[:, row, column]) * 4
        middle_y, middle_x = 4 * (np.array([row, column]) + offset[:, row, column] + 0.5)
        box = np.array([middle_x - width / 2, middle_y - height / 2] * 2)
        box[2:] += (width, height)
        if all(overlap(box, other) < 0.3 for other in kept):
            kept.append(box)
    return kept


def overlap(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = sides.clip(0).prod()
    return both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both)


def hits(expected, found):
    """Return boxes before, after, and those that are the same."""
    left, same = list(found), 0
    for box in expected:
        best = max(left, key=lambda other: overlap(box, other), default=None)
        if best is not None and overlap(box, best) >= 0.5:
            left = [other for other in left if other is not best]
            same += 1
    return [len(expected), len(found), same]


def measure(judge, pictures, before, code, scale, with_faces):
    """Return bytes, moments and errors of each picture, and boxes."""
    rows = []
    for pixels, wanted in zip(pictures, before, strict=True):
        height, width = pixels.shape[:2]
        small = scaled(pixels, round(height * scale), round(width * scale), Image.LANCZOS)
        size, decoded = code(small)
        answer = judge.ask(None, scaled(decoded, height, width, Image.BICUBIC))
        rows.append({"bytes": size, **judge.facts(None, answer, lambda wanted=wanted: wanted)})
        if with_faces:
            rows[-1]["boxes"] = hits(faces(wanted), faces(answer))
    return rows


def curve(points, weights, spread_K):
    """Return the Pareto front of mean bytes and distance, by rising bytes."""
    found = []
    for rows in points:
        size = weights @ [row["bytes"] for row in rows] / weights.sum()
        errors = np.array([row["errors"] for row in rows]) / spread_K
        found.append((size, float(weights @ errors.mean(1) / weights.sum())))
    return front(found)


def curve_f1(points, weights, _):
    found = []
    for rows in points:
        size = weights @ [row["bytes"] for row in rows] / weights.sum()
        before, after, same = weights @ np.array([row["boxes"] for row in rows])
        found.append((size, 1 - 2 * same / max(before + after, 1)))
    return front(found)


def front(found):
    kept = []
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
    parser.add_argument("out", type=Path)
    parser.add_argument("--input", action="append", default=[])
    parser.add_argument("--output", action="append", default=[])
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--scales", type=numbers, default=[1.0, 0.75, 0.5])
    parser.add_argument("--levels", type=numbers, help="of the models; by default all")
    parser.add_argument("--qualities", type=numbers, default=[0, 4, 9, 14, 20, 26, 33, 40, 50])
    parser.add_argument("--faces", action="store_true")
    asked = parser.parse_args()
    judge = Judge(parse_teacher(asked.network, asked.input, asked.output), print)
    files = sorted(p for p in asked.pictures.rglob("*") if p.suffix.lower() in picture.SUFFIXES)
    pictures = []
    for path in spread(files, asked.limit):
        pixels = picture.load(path)
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
    known = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    for name, settings in coders.items():
        for scale in asked.scales:
            for number, code in enumerate(settings):
                key = f"{name} {scale:g} {number}"
                if key not in known:
                    known[key] = measure(judge, pictures, before, code, scale, asked.faces)
                    asked.out.write_text(json.dumps(known))
                    print(key, round(np.mean([row["bytes"] for row in known[key]])), flush=True)
    moments = [judge.facts(None, answer)["moments"] for answer in before]
    mean_K, square_K = np.mean(moments, axis=0).T
    spread_K = square_K - mean_K**2
    points = {n: [v for k, v in known.items() if k.startswith(f"{n} ")] for n in coders}
    draws = metrics.resamples(len(pictures))
    tables = [("distance", curve, DISTANCES)]
    if asked.faces:
        tables.append(("1 - F1", curve_f1, [1 - f1 for f1 in F1S]))
    for title, make, levels in tables:
        curves = {n: [make(p, w, spread_K) for w in draws] for n, p in points.items()}
        first, *others = coders
        for level in levels:
            sizes = {
                n: np.array([bytes_at(c, level) for c in found]) for n, found in curves.items()
            }
            line = [f"{title} {level:.2f}", f"{first} {sizes[first][0]:.0f}"]
            for other in others:
                ratio = sizes[first] / sizes[other]
                if np.isfinite(ratio[0]) and np.isfinite(ratio).mean() > 0.9:
                    value, low, high = metrics.with_interval(ratio - 1)
                    line.append(
                        f"{other} {sizes[other][0]:.0f}: {value:+.0%} ({low:+.0%} to {high:+.0%})"
                    )
            print("; ".join(line))


if __name__ == "__main__":
    main()
