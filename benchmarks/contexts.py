"""What contexts save on a model's own latents, and what they cost in time.

    python benchmarks/contexts.py FOLDER [--model paper] [--level 1] [--limit 200]

Tables of every context model below are counted here, on pictures below the folder that training did
not keep out; then pictures that it kept out are coded with them. All are scaled to 224×224, and
rounded as `tactic compress` does at the level. Rates are the tables' ideal; times are medians of
one picture, for all its symbols; for them to mean anything nothing else should be running. Writes
benchmarks/results/contexts.json.

The committed results were made with the checkpoint that `paper` was exported from: all 64 channels
of its latent, of which the model has the 10 that are used, and pictures of both of its folders.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from kept_out import SIZE, kept_out, squares
from savings import CALIBRATION, evenly

from tactic_codec import entropy
from tactic_codec.codec import Symbols, load_model
from tactic_codec.entropy import ContextModel, FrequencyTables
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", help="a name or a model folder; the default model")
    parser.add_argument("--level", type=int, help="the model's own level")
    parser.add_argument("--limit", type=int, default=200, help="how many pictures are coded")
    arguments = parser.parse_args()

    codec = load_model(arguments.model)
    level = codec.model.default_level if arguments.level is None else arguments.level
    test, seen = kept_out(codec.model, arguments.folder)

    def symbols(names: Sequence[str], limit: int) -> list[Symbols]:
        pictures = squares(arguments.folder, names, limit)
        return [codec.quantise(codec.analyse(pixels), level) for pixels in pictures]

    counted, coded = symbols(seen, CALIBRATION), symbols(test, arguments.limit)
    rows: dict[str, dict[str, float]] = {}
    for name, contexts in MODELS.items():
        rows[name] = measure(coded, fit_tables(counted, contexts, evenly))
        rows[name]["saving"] = round(1 - rows[name]["bpp"] / rows["static"]["bpp"], 4)
        print(f"{name:22} {rows[name]}", flush=True)
    result = {
        "model": codec.model.name,
        "fingerprint": codec.model.fingerprint.hex(),
        "level": level,
        "images": len(coded),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def measure(coded: Sequence[Symbols], tables: FrequencyTables) -> dict[str, float]:
    """Code the symbols of pictures, each [C, h, w], and return their rate and the medians."""
    bits = sum(entropy.ideal_bits(symbols, tables) for symbols in coded)
    encode_ms, decode_ms = [], []
    for symbols in coded:
        began = time.perf_counter()
        payload = entropy.encode(symbols, tables)
        middle = time.perf_counter()
        entropy.decode(payload, symbols.shape, tables)
        encode_ms.append(1000 * (middle - began))
        decode_ms.append(1000 * (time.perf_counter() - middle))
    return {
        "tables_a_channel": tables.contexts.count,
        "bpp": round(bits / len(coded) / SIZE**2, 5),
        "encode_ms": round(statistics.median(encode_ms), 2),
        "decode_ms": round(statistics.median(decode_ms), 2),
    }


if __name__ == "__main__":
    main()
