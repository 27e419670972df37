"""What contexts save on a model's own latents, and what they cost in time.

    python benchmarks/contexts.py --run runs/paper

Tables are counted on calibration images for every context model below, then test images are coded.
Rates are the tables' ideal; times are medians of one image at 224×224, for all its symbols.
Writes benchmarks/results/contexts.json.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from tactic_codec import codec, entropy, image
from tactic_codec.entropy import ContextModel
from tactic_codec.model import PLAIN_OFFSET
from tactic_codec.training.command import RUN
from tactic_codec.training.config import parse_config
from tactic_codec.training.data import scan
from tactic_codec.training.export import latent_of
from tactic_codec.training.loop import load_trained
from tactic_codec.training.tables import fit_tables

RESULTS = Path(__file__).parent / "results" / "contexts.json"
MODELS = {
    "static": ContextModel(),
    "own, 3 tables": ContextModel((1, 4)),
    "own, 7 tables": ContextModel((1, 2, 3, 5, 8, 13)),
    "shared, 6 tables": ContextModel((), (4, 8, 16, 32, 64)),
    "own × shared, 7 × 3": ContextModel((1, 2, 3, 5, 8, 13), (12, 48)),
    "own × shared, 7 × 5": ContextModel((1, 2, 3, 5, 8, 13), (8, 16, 32, 64)),
    "own × shared, 8 × 8": ContextModel((1, 2, 3, 5, 8, 13, 21), (4, 8, 16, 32, 48, 64, 96)),
}
CALIBRATION, TEST = 500, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--run", type=Path, required=True)
    run = parser.parse_args().run
    described = json.loads((run / RUN).read_text())
    config = parse_config(described["config"])
    data = scan([Path(folder) for folder in described["folders"]], config.data, config.seed)
    network = load_trained(config, len(data.classes), run)
    unit = np.ones(config.network.latent, np.float32)

    def latents(paths: list[Path]) -> list[np.ndarray[tuple[int, ...], np.dtype[np.int32]]]:
        pictures = (image.square(image.load(path), config.data.size) for path in paths)
        return [codec.quantise(latent_of(network, p), unit, PLAIN_OFFSET) for p in pictures]

    calibration = [e.path for part in data.parts for e in part.calibration][:CALIBRATION]
    test = [e.path for part in data.parts for e in part.test[: TEST // len(data.parts)]]
    counted, coded = latents(calibration), latents(test)
    report: dict[str, dict[str, float]] = {}
    for name, contexts in MODELS.items():
        tables = fit_tables(counted, contexts, network.prior)
        bits = sum(entropy.ideal_bits(y, tables) for y in coded)
        encode_ms, decode_ms = [], []
        for y in coded:
            began = time.perf_counter()
            payload = entropy.encode(y, tables)
            middle = time.perf_counter()
            entropy.decode(payload, y.shape, tables)
            encode_ms.append(1000 * (middle - began))
            decode_ms.append(1000 * (time.perf_counter() - middle))
        report[name] = {
            "tables_a_channel": contexts.count,
            "bpp": round(bits / len(coded) / config.data.size**2, 5),
            "encode_ms": round(statistics.median(encode_ms), 2),
            "decode_ms": round(statistics.median(decode_ms), 2),
        }
        saving = 1 - report[name]["bpp"] / report["static"]["bpp"]
        report[name]["saving"] = round(saving, 4)
        print(f"{name:22} {report[name]}", flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
