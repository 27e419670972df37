"""What detectors find after coding, each codec at its best scale.

    python benchmarks/objects.py FOLDER [--scales 1,0.75,0.5,0.25] [--limit 40] [--levels 2,4,6,8]
        [--qualities avif=12,28,43,62] [--work work/]

Every coder codes every picture of FOLDER at every scale and setting; the file is decoded and
brought to the picture's size. Networks look at the result: COCO-SSD, which benchmarks/judges.py
says how to install, and the model's own detector if it has one. For each there is F1 against what
the network finds in the uncoded picture (scores of at least 0.5 and 0.4, same class, overlap at
least a half), and for the model's own mAP50 against the boxes of the folder, see `tactic eval`.
Networks run in single precision. BD-rates compare Pareto fronts over scales and settings, over what
both reach of the range from 0.5 to 0.85 for F1, for mAP50 over all that both reach, with the paired
intervals of `tactic eval`. Writes
benchmarks/results/objects.json (--out). What was found stays in the work folder, where an
interrupted run of the same options goes on.
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from judges import Detector, coco_ssd, f1
from kept_out import below
from numpy.typing import NDArray
from rows import Curve, Front, bd_rate, interval, write

from tactic_codec import metrics
from tactic_codec import picture as image
from tactic_codec.boxes import Box
from tactic_codec.codec import load_model
from tactic_codec.evaluation.coders import Coder, ModelCoder, RivalCoder, Uncompressed
from tactic_codec.picture import Pixels
from tactic_codec.rivals import rival
from tactic_codec.tasks import DETECT
from tactic_codec.tasks.precision import mean_precisions

OUT = Path(__file__).parent / "results" / "objects.json"
QUALITIES = ("jpeg=2,6,13,30", "webp=0,7,20,45", "avif=8,22,35,52")
LEAST = {"own": 0.4, "COCO-SSD": 0.5}
F1_RANGE = 0.5, 0.85
"""Of BD-rates: below, a detector misses more than it finds."""


def looked_at(
    coder: Coder, setting: float, pictures: Sequence[Pixels], judges: dict[str, Detector]
) -> dict[str, Any]:
    """Code all pictures, and return bits a pixel and the boxes that each network finds."""
    coded = [coder.code(pixels, setting) for pixels in pictures]
    decoded = [one.decoded for one in coded]
    return {
        "bytes": [one.bytes for one in coded],
        "bpp": [8 * one.bytes / (one.decoded.size // 3) for one in coded],
        "boxes": {name: [ask(one) for one in decoded] for name, ask in judges.items()},
    }


def curves(
    found: dict[str, Any], before: dict[str, Any], things: Any, draws: NDArray[np.int64]
) -> dict[str, Curve]:
    """Return bpp, F1 by each network, and mAP50 by the model's own, in each draw."""
    result = {"bpp": draws @ np.array(found["bpp"]) / draws.sum(axis=1)}
    for name, boxes in found["boxes"].items():
        boxes = [[Box(int(b[0]), *b[1:]) for b in own] for own in boxes]
        if name == "own":
            result[f"mAP50 {name}"] = mean_precisions(things, boxes, draws)[0]
        result[f"F1 {name}"] = f1(before["boxes"][name], boxes, LEAST[name], draws)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", help="a name or a model folder; the default model")
    parser.add_argument("--scales", default="1,0.75,0.5,0.25")
    parser.add_argument("--levels", default="2,4,6,8")
    parser.add_argument("--qualities", action="append", help="such as avif=8,22")
    parser.add_argument("--limit", type=int, default=40, help="how many pictures")
    parser.add_argument("--work", type=Path, default=Path("objects-work"))
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()

    codec = load_model(args.model, device="cpu", threads=1)
    names = below(args.folder, args.limit)
    pictures = [image.load(args.folder / name) for name in names]
    judges: dict[str, Detector] = {"COCO-SSD": coco_ssd(LEAST["COCO-SSD"])}
    things: list[Any] = []
    if detector := codec.model.heads.get("detect"):
        judges = {"own": codec.boxes, **judges}
        reader = DETECT.reader(args.folder, detector.labels)
        things = [reader(name, pixels) for name, pixels in zip(names, pictures, strict=True)]
    levels = tuple(int(level) for level in args.levels.split(","))
    coders: list[Coder] = [ModelCoder(codec).at(levels)]
    for text in args.qualities or QUALITIES:
        name, _, numbers = text.partition("=")
        coders.append(RivalCoder(rival(name)).at(tuple(int(n) for n in numbers.split(","))))

    def known(coder: Coder, scale: float, setting: float) -> dict[str, Any]:
        path = args.work / f"{coder.name}-{scale:g}-{setting:g}-{len(names)}.json"
        if not path.exists():
            found = looked_at(coder.at_scale(scale), setting, pictures, judges)
            write(path, found)
            print(path.name, np.mean(found["bytes"]), flush=True)
        result: dict[str, Any] = json.loads(path.read_text())
        return result

    before = known(Uncompressed(), 1, 0)
    draws = metrics.resamples(len(names))
    rows = [row("uncompressed", 1, 0, before, curves(before, before, things, draws))]
    fronts: dict[str, Front] = {}
    # Scales of one setting beside each other: an interrupted run has all coders at some settings.
    for coder in coders:
        for scale in map(float, args.scales.split(",")):
            for setting in coder.grid:
                found = known(coder, scale, setting)
                reached = curves(found, before, things, draws)
                rows.append(row(coder.name, scale, setting, found, reached))
                fronts.setdefault(coder.name, []).append(reached)
    own, *others = fronts
    write(
        args.out,
        {
            "model": codec.model.name,
            "fingerprint": codec.model.fingerprint.hex(),
            "images": len(names),
            "scales": args.scales,
            "rows": rows,
            "bd_rates": [
                {"anchor": other, "quality": quality}
                | {"bd_rate": bd_rate(fronts[own], fronts[other], quality, within, rate="bpp")}
                for other in others
                for quality in fronts[own][0]
                if quality != "bpp"
                for within in [F1_RANGE if quality.startswith("F1") else (-math.inf, math.inf)]
            ],
        },
    )


def row(
    coder: str, scale: float, setting: float, found: dict[str, Any], reached: dict[str, Any]
) -> dict[str, Any]:
    """Return a row: means, and each figure with its interval."""
    shares = {name: interval(values) for name, values in reached.items() if name != "bpp"}
    size, bpp = round(float(np.mean(found["bytes"])), 1), round(float(reached["bpp"][0]), 4)
    return {"coder": coder, "scale": scale, "setting": setting, "bytes": size, "bpp": bpp, **shares}


if __name__ == "__main__":
    main()
