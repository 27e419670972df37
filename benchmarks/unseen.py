r"""Models and other codecs on pictures that none was trained with, by networks that taught or not.

    python benchmarks/unseen.py --kept PHOTOGRAPHS --street PHOTOGRAPHS --work unseen-work \
        --model general [--model FOLDER] [--limit kept-256=120]

benchmarks/judges.py says how to install the judges. Sets of pictures,
in the order in which they are measured: `kept-256`, those of --kept with a short side of 256;
`street`, those of --street; `kept`, those of --kept at their own size. Of each the first so many
are taken, of one folder in the order of a hash of their names, then of the next. Pictures are coded
whole, by each coder at the scales and settings of POINTS, and brought to their size again; all
networks look at the result.

Classifiers see the square in the middle, 224/256 of the short side; counted is agreement with what
they say of the uncoded picture, and, as `sure`, of those pictures alone of which they are sure: of
the others a change that nobody sees moves the answer. Detectors see the picture; counted is F1
against their boxes in the uncoded one, as in benchmarks/objects.py. Of each network and each wanted
answer there are the mean bytes of each coder, by interpolation over its Pareto front over scales
and settings, and the ratio of a model to the best of the other codecs, and to each model named
before it, with the 95 % interval of draws of the pictures. There are BD-rates against AVIF from 50
to 85 %, as far as both reach. PSNR is compared with AVIF's over scale 1: BD-rate from 0.08 to 1 bpp
of AVIF, and dB at 0.5 bpp. Networks run in single precision.

Writes benchmarks/results/unseen.json (--out). What was measured of a picture stays in the work
folder: a run that was interrupted, has more pictures or one model more goes on. `--report` measures
nothing, and takes the pictures that all coders have.
"""

import argparse
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from judges import LITES, classifier, coco_ssd, f1
from numpy.typing import NDArray
from rows import Curve, Front, bd_rate, interval, reach, write

from tactic_codec import metrics
from tactic_codec import picture as image
from tactic_codec.codec import load_model
from tactic_codec.evaluation.coders import Coder, ModelCoder, RivalCoder, Uncompressed
from tactic_codec.picture import Pixels
from tactic_codec.rivals import rival

HERE = Path(__file__).parent
OWN = "general"
"""The model whose detector is asked."""

POINTS = {
    "kept-256": {
        "model": "1:1,2,4,5,6,7,8 0.75:4,6,8 0.5:8",
        "avif": "1:2,10,20,32,46,62,78 0.75:12,26,42,60 0.5:45",
        "webp": "1:0,8,25,50,75,88 0.75:0,15,45,75",
    },
    "street": {
        "model": "0.5:2,4,6,7,8 0.25:2,4,6,8",
        "avif": "0.5:2,10,20,35,50 0.25:4,15,30,50",
        "webp": "0.5:0,12,40 0.25:0,12,40",
    },
    "kept": {
        "model": "1:2,4,6,7,8 0.75:5,7,8 0.5:7,8",
        "avif": "1:2,20,32,46,60 0.75:25,42,60 0.5:45,65",
        "webp": "1:8,50,75 0.75:15,45,75 0.5:45,75",
    },
}
"""Scales, and levels or qualities, for answers of 50 to 85 % where coders reach them. Not measured:
0.25 at a short side of 256, where 0.5 lies above the fronts already; 1 and 0.75 at 1920×1080."""

LEAST = {"NanoDet": 0.4, "COCO-SSD": 0.5}
"""Score of boxes that count."""

SURE = 0.3
"""Probability of the class of an uncoded picture that a classifier is sure of."""

TAUGHT = ("Lite0", "Lite0 sure", "NanoDet")
"""Judges that taught the bundled model."""

WANTED = (0.5, 0.6, 0.7, 0.85)
CHUNK = 5
"""Pictures that all coders code before the next ones."""

LIMITS = {"kept-256": 120, "street": 40, "kept": 60}
SHORTS = {"kept-256": 256}

Point = tuple[Coder, float, float]
"""With scale and setting."""


def judge(name: str, work: Path) -> Callable[[Pixels], Any]:
    """Return what asks a network of this name about a picture."""
    if name in LITES:
        return classifier(name, work)
    if name == "COCO-SSD":
        return coco_ssd(LEAST[name])
    return load_model(OWN, device="cpu", threads=1).boxes


def drawn(folder: Path) -> list[tuple[str, Path]]:
    """Return the pictures below a folder and their names, in an order that says nothing of them."""
    every = [path for path in folder.rglob("*") if path.suffix.lower() in image.SUFFIXES]
    named = [(path.relative_to(folder).as_posix(), path) for path in every]
    return sorted(named, key=lambda pair: hashlib.sha256(pair[0].encode()).digest())


def picture(path: Path, short: int | None) -> Pixels:
    """Read a picture, and scale it down so that its short side is as asked."""
    pixels = image.load(path)
    if short is None:
        return pixels
    height, width, _ = pixels.shape
    shrink = image.Shrink(scale=short / min(height, width))
    return shrink.of(image.Scaled(pixels, width, height)).pixels


def compared(
    fronts: dict[str, Front], models: Sequence[str], network: str, wanted: float
) -> dict[str, Any]:
    """Return the bytes of each coder for a wanted answer, and the ratios of the models."""
    sizes = {name: reach(front, network, wanted) for name, front in fronts.items()}
    best = np.fmin.reduce([size for name, size in sizes.items() if name not in models])
    ratios = {}
    for i, name in enumerate(models):
        anchors = {"best rival": best} | {other: sizes[other] for other in models[:i]}
        ratios[name] = {other: interval(sizes[name] / size) for other, size in anchors.items()}
    means = {name: None if np.isnan(s[0]) else round(float(s[0])) for name, s in sizes.items()}
    return {"bytes": means, "ratio": ratios}


def psnr_at(front: Front, bpp: float) -> Curve:
    """Return the PSNR at a rate, in each draw; beyond the ends of the front that of the end."""
    curves = np.array([[np.log(p["bpp"]), p["psnr"]] for p in front]).transpose(2, 1, 0)
    return np.array([np.interp(math.log(bpp), *curve) for curve in curves])


def fidelity(test: Front, anchor: Front) -> dict[str, Any]:
    """Return the BD-rate from 0.08 to 1 bpp of the anchor, and how many dB more at 0.5 bpp."""
    within = (float(psnr_at(anchor, 0.08)[0]), float(psnr_at(anchor, 1)[0]))
    bpp = min(0.5, *(float(front[-1]["bpp"][0]) for front in (test, anchor)))
    more = interval(psnr_at(test, bpp) - psnr_at(anchor, bpp))
    return {"bd_rate": bd_rate(test, anchor, "psnr", within), "bpp": round(bpp, 3), "dB": more}


def points_of(name: str, coders: Sequence[Coder], work: Path) -> dict[Path, Point]:
    """Return the points of all coders on a set, by the files that keep what was measured."""
    found = {}
    for coder in coders:
        parts = POINTS[name].get(coder.name if coder.kind == "codec" else coder.kind, "1:0")
        for part in parts.split():
            scale, _, settings = part.partition(":")
            for setting in map(int, settings.split(",")):
                told = json.dumps(coder.identity(setting), sort_keys=True).encode()
                digest = hashlib.sha256(told).hexdigest()[:8]
                file = f"{coder.name}-{digest}-{scale}-{setting}.json"
                found[work / name / file] = coder, float(scale), setting
    return found


def measure(
    points: dict[Path, Point],
    paths: dict[str, Path],
    short: int | None,
    judges: dict[str, Callable[[Pixels], Any]],
) -> None:
    """Code pictures at all points, chunk by chunk, and keep what the networks say in the files."""
    known = {file: json.loads(file.read_text()) if file.exists() else {} for file in points}
    for start in range(0, len(paths), CHUNK):
        chunk = list(paths)[start : start + CHUNK]
        lacking = [n for n in chunk if any(n not in found for found in known.values())]
        pictures = {name: picture(paths[name], short) for name in lacking}
        for file, found in known.items():
            coder, scale, setting = points[file]
            new = [name for name in lacking if name not in found]
            for name in new:
                pixels = pictures[name]
                size, decoded = coder.at_scale(scale).code(pixels, setting)
                found[name] = {
                    "bytes": size,
                    "bpp": 8 * size / (pixels.size // 3),
                    "psnr": round(metrics.finite_psnr(pixels, decoded), 4),
                    **{judge: ask(decoded) for judge, ask in judges.items()},
                }
            if new:
                write(file, found)
        print(start + len(chunk), "pictures", flush=True)


def curves(
    found: Sequence[dict[str, Any]],
    before: Sequence[dict[str, Any]],
    networks: Sequence[str],
    draws: NDArray[np.int64],
) -> dict[str, Curve]:
    """Return mean bytes, bpp and PSNR, and each network's agreement or F1, in each draw."""
    count = len(found)
    result = {
        fact: draws @ np.array([one[fact] for one in found]) / count
        for fact in ("bytes", "bpp", "psnr")
    }
    for name in networks:
        after, uncoded = ([one[name] for one in side] for side in (found, before))
        if name in LITES:
            same = np.array(after)[:, 0] == np.array(uncoded)[:, 0]
            sure = np.array(uncoded)[:, 1] >= SURE
            result[name] = draws @ same / count
            result[f"{name} sure"] = draws @ (same & sure) / np.maximum(draws @ sure, 1)
        else:
            result[name] = f1(uncoded, after, LEAST[name], draws)
    return result


def report(
    points: dict[Path, Point], names: Sequence[str], networks: Sequence[str]
) -> dict[str, Any] | None:
    """Compare the coders, uncoded pictures first, by the pictures that have been through all."""
    if not all(file.exists() for file in points):
        return None
    known = [json.loads(file.read_text()) for file in points]
    names = [name for name in names if all(name in found for found in known)]
    if len(names) < 2:
        return None
    before, *rest = ([found[name] for name in names] for found in known)
    (_, *coded), draws = points.values(), metrics.resamples(len(names))
    fronts: dict[str, Front] = {}
    rows = []
    for (coder, scale, setting), found in zip(coded, rest, strict=True):
        curve = curves(found, before, networks, draws)
        fronts.setdefault(coder.name, []).append({"scale": scale, **curve})
        means = {name: round(float(values[0]), 4) for name, values in curve.items()}
        rows.append({"coder": coder.name, "scale": scale, "setting": setting, **means})
    asked = [name for name in rows[0] if name.split()[0] in networks]
    models = list(dict.fromkeys(coder.name for coder, *_ in coded if coder.kind == "model"))
    answers = [
        {"network": n, "taught": n in TAUGHT, "wanted": w, **compared(fronts, models, n, w)}
        for n in asked
        for w in WANTED
    ]
    whole = {name: [p for p in front if p["scale"] == 1] for name, front in fronts.items()}
    psnr = {model: fidelity(whole[model], whole["avif"]) for model in models if whole["avif"]}
    rates = {
        f"{model}, {n}": bd_rate(fronts[model], fronts["avif"], n, (WANTED[0], WANTED[-1]))
        for model in models
        for n in asked
    }
    found = {"answers": answers, "bd_rates": rates, "psnr": psnr, "rows": rows}
    return {"pictures": len(names), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    folder = {"action": "append", "type": Path, "default": []}
    parser.add_argument("--kept", **folder, help="photographs like those of the training")
    parser.add_argument("--street", **folder, help="photographs of streets, 1920×1080")
    parser.add_argument("--model", action="append", help="a name or a folder; general")
    parser.add_argument("--limit", action="append", default=[], help="such as street=40")
    parser.add_argument("--work", type=Path, default=Path("unseen-work"))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "unseen.json")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    args = parser.parse_args()
    limits = LIMITS | {k: int(n) for k, n in (text.split("=") for text in args.limit)}
    names = args.model or [OWN]
    codecs = {Path(name).name: load_model(name, device="cpu", threads=1) for name in names}
    models = [ModelCoder(codec, "cpu", name=name) for name, codec in codecs.items()]
    sets = {}
    for name, kinds in POINTS.items():
        folders = args.street if name == "street" else args.kept
        if not folders or not limits[name]:
            continue
        rivals = [RivalCoder(rival(kind)) for kind in kinds if kind != "model"]
        points = points_of(name, [Uncompressed(), *rivals, *models], args.work)
        paths = {name: path for folder in folders for name, path in drawn(folder)}
        chosen = list(paths)[: limits[name]]
        networks = list(LEAST if name == "street" else LITES)
        if not args.report:
            (args.work / name).mkdir(parents=True, exist_ok=True)
            judges = {network: judge(network, args.work) for network in networks}
            measure(points, {n: paths[n] for n in chosen}, SHORTS.get(name), judges)
        if result := report(points, chosen, networks):
            sets[name] = result
            show(name, result)
    fingerprints = {name: codec.model.fingerprint.hex() for name, codec in codecs.items()}
    write(args.out, {"models": fingerprints, "sets": sets})


def show(name: str, result: dict[str, Any]) -> None:
    """Print the tables of a set."""
    print(f"\n{name}: {result['pictures']} pictures")
    for row in result["answers"]:
        sizes = "  ".join(f"{coder} {size}" for coder, size in row["bytes"].items())
        print(f"{row['network']:11}{'taught' * row['taught']:7}{row['wanted']:5.0%}  {sizes}")
        for model, anchors in row["ratio"].items():
            told = (f"/ {a} {r[0]:.3f} ({r[1]:.3f} to {r[2]:.3f})" for a, r in anchors.items() if r)
            print(" " * 25, model, *told)
    for kind in ("bd_rates", "psnr"):
        for what, found in result[kind].items():
            print(kind, "against AVIF:", what, found)


if __name__ == "__main__":
    main()
