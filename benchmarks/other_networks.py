"""What segmentation networks that an effort did not ask make of decoded pictures.

    python benchmarks/other_networks.py FOLDER --judge MODEL --judge MODEL [--model camvid]
        [--effort 0=2,3,4] [--effort 2=2] [--codec avif=5,12] [--limit 50]

FOLDER holds images/ and labels/. Each judge is a model that segments into the same classes, such as
the one that `experiments/reproduce.py table3` leaves of a row "uncompressed" below `--work`, which
learned on pictures that were not coded. Pictures are taken evenly from the folder, coded whole by
the model at the levels of each effort and by other codecs at their qualities, and decoded. Mean IoU
is over all pixels of all pictures, by each judge's own network, first of the pictures before
coding. Writes benchmarks/results/other_networks.json row by row, and goes on with it where it was
interrupted.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rows import Row, earlier, write

from tactic_codec import metrics, tasks
from tactic_codec import picture as image
from tactic_codec.codec import Codec, load_model
from tactic_codec.evaluation.coders import Coder, ModelCoder, Uncompressed, conventional
from tactic_codec.evaluation.curves import Setting
from tactic_codec.evaluation.pictures import IMAGES, LABELS, spread
from tactic_codec.picture import LabelMap, Pixels

RESULTS = Path(__file__).parent / "results" / "other_networks.json"


def settings(text: str) -> tuple[str, tuple[int, ...]]:
    """Read ``NAME=1,2,3``."""
    name, _, numbers = text.partition("=")
    return name, tuple(int(number) for number in numbers.split(","))


def measure(
    coder: Coder,
    setting: Setting,
    pictures: Sequence[tuple[Pixels, LabelMap]],
    judges: Sequence[Codec],
) -> Row:
    """Code all pictures, uint8 [H, W, 3], and return a row of means and of each judge's score."""
    sizes, bpps = [], []
    classes = len(judges[0].model.head("segment").labels)
    counts = [np.zeros((classes, classes), np.int64) for _ in judges]
    for pixels, labels in pictures:
        size, decoded = coder.code(pixels, setting)
        sizes.append(size)
        bpps.append(8 * size / labels.size)
        for judge, count in zip(judges, counts, strict=True):
            found = tasks.segment_pixels(judge, decoded).labels
            count += metrics.confusion(labels, found, classes)
    row = {
        "coder": coder.name,
        "setting": setting,
        "bytes": round(float(np.mean(sizes)), 1),
        "bpp": round(float(np.mean(bpps)), 4),
        "mean_iou": [round(metrics.segmentation_scores(count).mean_iou, 4) for count in counts],
    }
    print(row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--judge", action="append", required=True, help="a name or a model folder")
    parser.add_argument("--model", default="camvid", help="a name or a model folder")
    parser.add_argument("--effort", action="append", type=settings, default=[])
    parser.add_argument("--codec", action="append", type=settings, default=[])
    parser.add_argument("--limit", type=int, default=50, help="how many pictures")
    args = parser.parse_args()

    codec = load_model(args.model)
    judges = [load_model(judge) for judge in args.judge]
    paths = [p for p in (args.folder / IMAGES).iterdir() if p.suffix.lower() in image.SUFFIXES]
    pictures = [
        (image.load(path), image.load_labels(args.folder / LABELS / f"{path.stem}.png"))
        for path in spread(sorted(paths), args.limit)
    ]
    result: dict[str, Any] = {
        "model": codec.model.name,
        "fingerprint": codec.model.fingerprint.hex(),
        "judges": [judge.model.name for judge in judges],
        "folder": args.folder.resolve().name,
        "images": len(pictures),
    }
    rows = earlier(RESULTS, result)
    coders: list[Coder] = [Uncompressed()]
    for effort, levels in args.effort:
        name = f"{codec.model.name} effort {effort}"
        coders.append(ModelCoder(codec, name=name, effort=int(effort)).at(levels))
    given = dict(args.codec)
    coders += [conventional(name) for name in given]
    for coder in coders:
        for setting in given.get(coder.name, coder.grid):
            if any((r["coder"], r["setting"]) == (coder.name, setting) for r in rows):
                continue
            rows.append(measure(coder, setting, pictures, judges))
            write(RESULTS, {**result, "rows": rows})


if __name__ == "__main__":
    main()
