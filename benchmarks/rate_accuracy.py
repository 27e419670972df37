r"""The top-1 accuracy of a task network after each codec, at the same mean bytes of an image.

    python benchmarks/rate_accuracy.py --model models/paper \
        --data DATA/imagenette/train --data DATA/imagenet-samples

The test set of a folder is what the held-out.txt of the first model names; for a model without such
a list it is drawn again from the seed. It is coded by each model, as real frames, and by JPEG, WebP
and AVIF at the lowest quality whose mean size is at least the first model's. The first model's task
network then classifies the decoded 8-bit pixels. For whole curves there is `tactic eval
--held-out`. Writes benchmarks/results/rate_accuracy.json.

The committed results were made with AVIF at Pillow's default speed; slower ones gain 0.3 dB.
"""

import argparse
from pathlib import Path

from rows import write

from tactic_codec import picture as image
from tactic_codec.codec import load_model
from tactic_codec.evaluation.cache import Cache
from tactic_codec.evaluation.coders import ModelCoder
from tactic_codec.evaluation.equal import beside
from tactic_codec.evaluation.evaluate import Evaluation
from tactic_codec.evaluation.pictures import folder, picture
from tactic_codec.evaluation.results import Point
from tactic_codec.rivals import USUAL, rival
from tactic_codec.tasks import CLASSIFY, Share
from tactic_codec.training.config import DataConfig
from tactic_codec.training.data import scan

RESULTS = Path(__file__).parent / "results" / "rate_accuracy.json"


def described(coder: str, kind: str, point: Point) -> tuple[str, dict[str, object]]:
    """Return a row's name and its figures."""
    accuracy = point.scores["accuracy"]
    assert isinstance(accuracy, Share)  # the split is of labelled images
    if kind == "uncompressed":
        return coder, {"images": point.images, "accuracy": round(accuracy.share, 4)}
    agreement = point.scores["agreement"]
    assert isinstance(agreement, Share)
    name = f"{coder.upper()} q{point.setting}" if kind == "codec" else coder
    return name, {
        "bytes": round(point.bytes, 1),
        "bpp": round(point.bpp, 4),
        "psnr": round(point.psnr, 2),
        "accuracy": round(accuracy.share, 4),
        "interval": [round(accuracy.low, 4), round(accuracy.high, 4)],
        "agreement": round(agreement.share, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", type=Path, action="append", required=True)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--limit", type=int, help="test images of each folder; all by default")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    codecs = [load_model(path) for path in arguments.model]
    head = codecs[0]
    training = head.model.manifest["training"]
    shares = training["config"]["data"]
    kept_out = head.model.held_out()
    split = DataConfig(
        test=shares["test"] if kept_out is None else 0.0,  # beside those that the list names
        calibration=shares["calibration"],
    )
    size = shares["size"]
    classes = head.model.heads["classify"].classes
    data = scan(arguments.data, split, training["seed"], classes=classes, kept_out=kept_out or ())
    others = [rival(name) for name in USUAL]
    evaluation = Evaluation(head, Cache(None), compare=False)
    report: dict[str, object] = {}
    for part in data.parts:
        examples = part.test[: arguments.limit]
        pictures = [
            picture(CLASSIFY, e.path.name, image.square(image.load(e.path), size), e.kept)
            for e in examples
        ]
        name = part.folder.resolve().parent.name + "/" + part.folder.name
        chosen = folder(CLASSIFY, name, pictures, classes)
        first, *more = (ModelCoder(c).at((c.model.default_level,)) for c in codecs)
        found = beside(evaluation, chosen, first, others)
        rows = [described(*row) for row in found.points()]
        rows += [described(*row) for row in list(evaluation.on_folder(chosen, more).points())[1:]]
        report[name] = dict(rows)
        print(name)
        for row_name, row in rows:
            print(f"  {row_name:16} {row}", flush=True)
    write(arguments.out, report)


if __name__ == "__main__":
    main()
