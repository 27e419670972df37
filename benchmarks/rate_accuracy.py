r"""What a task network recognises after each codec, at the same mean bytes an image.

    python benchmarks/rate_accuracy.py --model models/paper \
        --data DATA/imagenette/train --data DATA/imagenet-samples

For every folder its test set is coded by each model, as real frames, and by JPEG (optimised),
WebP (method 6) and AVIF (Pillow's defaults) at the lowest quality whose mean size is at least the
first model's: other codecs are given the benefit of the step. Every picture then goes, through
8-bit pixels, to the first model's task network. Writes benchmarks/results/rate_accuracy.json.
"""

import argparse
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tactic_codec import container, image, metrics, tasks
from tactic_codec.codec import Codec, load_model
from tactic_codec.image import Pixels
from tactic_codec.training.config import DataConfig
from tactic_codec.training.data import scan

RESULTS = Path(__file__).parent / "results" / "rate_accuracy.json"
OPTIONS: dict[str, dict[str, bool | int]] = {
    "JPEG": {"optimize": True},
    "WEBP": {"method": 6},
    "AVIF": {},
}
SAMPLE = 100
"""Images on which a quality is looked for, before it is settled on all of them."""

Coder = Callable[[Pixels], tuple[int, Pixels]]


def pillow_coder(name: str, quality: int) -> Coder:
    """Return a function that codes a picture and returns its bytes and what comes back."""

    def code(pixels: Pixels) -> tuple[int, Pixels]:
        stream = io.BytesIO()
        image.to_pillow(pixels).save(stream, name, quality=quality, **OPTIONS[name])
        return stream.tell(), np.asarray(Image.open(stream).convert("RGB"))

    return code


def tactic_coder(codec: Codec) -> Coder:
    """Likewise by a model."""

    def code(pixels: Pixels) -> tuple[int, Pixels]:
        data = codec.compress(pixels)
        return len(data), codec.decode(container.parse(data))

    return code


def find_quality(name: str, pictures: Sequence[Pixels], target: float) -> int:
    """Return the lowest quality whose mean bytes reach the target."""
    low, high = 0, 100
    while low < high:
        middle = (low + high) // 2
        if mean_bytes(name, middle, pictures[:SAMPLE]) < target:
            low = middle + 1
        else:
            high = middle
    while mean_bytes(name, low, pictures) < target:
        low += 1
    return low


def mean_bytes(name: str, quality: int, pictures: Sequence[Pixels]) -> float:
    code = pillow_coder(name, quality)
    return float(np.mean([code(picture)[0] for picture in pictures]))


def measure(
    code: Coder,
    pictures: Sequence[Pixels],
    labels: Sequence[int],
    clean: Sequence[int],
    head: Codec,
) -> dict[str, object]:
    """Code all pictures and return the figures of a row."""
    sizes, psnrs, answers = [], [], []
    for picture in pictures:
        size, decoded = code(picture)
        sizes.append(size)
        psnrs.append(metrics.psnr(picture, decoded))
        answers.append(tasks.classify_pixels(head, decoded, 1)[0].index)
    right = int(np.sum(np.array(answers) == np.array(labels)))
    low, high = metrics.wilson_interval(right, len(pictures))
    return {
        "bytes": round(float(np.mean(sizes)), 1),
        "bpp": round(8 * float(np.mean(sizes)) / (pictures[0].shape[0] * pictures[0].shape[1]), 4),
        "psnr": round(float(np.mean(psnrs)), 2),
        "accuracy": round(right / len(pictures), 4),
        "interval": [round(low, 4), round(high, 4)],
        "agreement": round(float(np.mean(np.array(answers) == np.array(clean))), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", type=Path, action="append", required=True)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--limit", type=int, help="test images of each folder; all by default")
    arguments = parser.parse_args()

    codecs = [load_model(path) for path in arguments.model]
    head = codecs[0]
    training = head.model.manifest["training"]
    split = DataConfig(
        test=training["config"]["data"]["test"],
        calibration=training["config"]["data"]["calibration"],
    )
    size = training["config"]["data"]["size"]
    classes = head.model.heads["classify"].classes
    data = scan(arguments.data, split, training["seed"], classes=classes)
    report: dict[str, object] = {}
    for part in data.parts:
        examples = part.test[: arguments.limit]
        pictures = [image.square(image.load(example.path), size) for example in examples]
        labels = [example.label for example in examples]
        clean = [tasks.classify_pixels(head, p, 1)[0].index for p in pictures]
        rows: dict[str, object] = {}
        name = part.folder.resolve().parent.name + "/" + part.folder.name
        rows["uncompressed"] = {
            "images": len(pictures),
            "accuracy": round(float(np.mean(np.array(clean) == np.array(labels))), 4),
        }
        for codec in codecs:
            rows[codec.model.name] = measure(tactic_coder(codec), pictures, labels, clean, head)
        first = rows[head.model.name]
        assert isinstance(first, dict)
        for codec_name in OPTIONS:
            quality = find_quality(codec_name, pictures, first["bytes"])
            row = measure(pillow_coder(codec_name, quality), pictures, labels, clean, head)
            rows[f"{codec_name} q{quality}"] = row
        report[name] = rows
        print(name)
        for row_name, row in rows.items():
            print(f"  {row_name:16} {row}", flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
