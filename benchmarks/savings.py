"""What each part of the coder saves, one after the other, and what it takes.

    python benchmarks/savings.py FOLDER [--model imagenet] [--levels 1,4,8] [--limit 100]

Pictures are taken evenly from those below the folder that training kept out, scaled to 224×224 and
coded in five ways, each on top of the one before:

    one table a channel    latents rounded to nearest, one probability table for each channel
    contexts               the same symbols, tables chosen by neighbours that are decoded already
    offset                 latents rounded with the level's offset: what `tactic compress` does
    effort 1, effort 2     symbols moved by gradients: what `tactic compress --effort` does

The tables of the first two are counted here, on pictures below the folder that training did not
keep out; the others use the model's own. Whole frames are counted, with their header and checksum.
Agreement is with what the model's classifier says of the picture before coding. An effort asks that
very classifier: benchmarks/effort.py has another's view. Seconds are medians of coding one picture
with loaded networks; for them to mean anything nothing else should be running. Writes
benchmarks/results/savings.json.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tactic_codec import container, entropy, image, metrics, tasks
from tactic_codec.codec import Codec, load_model, quantise
from tactic_codec.container import Frame
from tactic_codec.entropy import ContextModel, FrequencyTables
from tactic_codec.evaluation.pictures import held_out, spread
from tactic_codec.image import Pixels
from tactic_codec.model import PLAIN_OFFSET
from tactic_codec.training.tables import fit_tables

RESULTS = Path(__file__).parent / "results" / "savings.json"
SIZE = 224
CALIBRATION = 500
EFFORTS = (1, 2)

Code = Callable[[Pixels], tuple[int, Pixels]]
"""From a picture to how many bytes its frame has, and to what that decodes to. Both are uint8
[224, 224, 3]."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", help="a name or a model folder; the default model")
    parser.add_argument("--levels", default="1,4,8")
    parser.add_argument("--limit", type=int, default=100, help="how many pictures are coded")
    arguments = parser.parse_args()

    codec = load_model(arguments.model)
    calibration, test = pictures(codec, arguments.folder, arguments.limit)
    latents = [codec.analyse(pixels) for pixels in calibration]
    labels = [label(codec, pixels) for pixels in test]
    rows = []
    for level in map(int, arguments.levels.split(",")):
        for name, code in ways(codec, level, latents).items():
            code(test[0])  # whatever is loaded late is loaded before any time is taken
            row = {"level": level, "coder": name, **measure(codec, code, test, labels)}
            print(row, flush=True)
            rows.append(row)
    result = {
        "model": codec.model.name,
        "fingerprint": codec.model.fingerprint.hex(),
        "images": len(test),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def pictures(codec: Codec, folder: Path, limit: int) -> tuple[list[Pixels], list[Pixels]]:
    """Return pictures to count on, and those that are coded."""
    kept_out = held_out(codec.model)
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in image.SUFFIXES
    )
    test = spread([name for name in names if name in kept_out], limit)
    if not test:
        raise SystemExit(f"none of the pictures below {folder} was kept out of training")
    calibration = spread([name for name in names if name not in kept_out], CALIBRATION)

    def load(chosen: Sequence[str]) -> list[Pixels]:
        return [image.square(image.load(folder / name), SIZE) for name in chosen]

    return load(calibration), load(test)


def ways(
    codec: Codec, level: int, latents: Sequence[np.ndarray[Any, np.dtype[np.float32]]]
) -> dict[str, Code]:
    """Return the ways to code a picture at a level; latents [C, h, w] are what to count on."""
    coded = codec.model.level(level)
    plain = [quantise(latent, coded.gain, PLAIN_OFFSET) for latent in latents]
    static = fit_tables(plain, ContextModel(), evenly)
    contextual = fit_tables(plain, coded.contexts, evenly)

    def rounded(tables: FrequencyTables, offset: float) -> Code:
        def code(pixels: Pixels) -> tuple[int, Pixels]:
            symbols = quantise(codec.analyse(pixels), coded.gain, offset)
            frame = Frame(
                codec.model.fingerprint, level, SIZE, SIZE, entropy.encode(symbols, tables)
            )
            return len(container.pack(frame)), codec.synthesise(symbols, frame)

        return code

    def searched(effort: int) -> Code:
        def code(pixels: Pixels) -> tuple[int, Pixels]:
            data = codec.compress(pixels, level, effort)
            return len(data), codec.decode(container.parse(data))

        return code

    return {
        "one table a channel": rounded(static, PLAIN_OFFSET),
        "contexts": rounded(contextual, PLAIN_OFFSET),
        "offset": rounded(codec.model.tables(level), coded.offset),
        **{f"effort {effort}": searched(effort) for effort in EFFORTS},
    }


def evenly(symbols: Tensor) -> Tensor:
    """Return the same probability for every symbol: what tables lean on where counts are few."""
    return torch.full_like(symbols, 1 / symbols.shape[-1])


def label(codec: Codec, pixels: Pixels) -> int:
    """Return the class that the model's classifier finds most likely."""
    return tasks.classify_pixels(codec, pixels, 1)[0].index


def measure(
    codec: Codec, code: Code, pictures: Sequence[Pixels], labels: Sequence[int]
) -> dict[str, Any]:
    """Code all pictures and return means, and the median of the seconds."""
    found, seconds = [], []
    for pixels, expected in zip(pictures, labels, strict=True):
        began = time.perf_counter()
        size, decoded = code(pixels)
        seconds.append(time.perf_counter() - began)
        found.append((size, metrics.psnr(pixels, decoded), label(codec, decoded) == expected))
    size, psnr, agreement = np.mean(found, axis=0).tolist()
    return {
        "bytes": round(size, 1),
        "bpp": round(8 * size / SIZE**2, 4),
        "psnr": round(psnr, 3),
        "agreement": round(agreement, 4),
        "seconds": round(statistics.median(seconds), 4),
    }


if __name__ == "__main__":
    main()
