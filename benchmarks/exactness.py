"""Real bits against ideal bits, and every way to decode a file against each other, on test images.

    python benchmarks/exactness.py --model models/paper --data DATA/imagenette/train

Test images are taken evenly from those that training kept out. Every image is compressed by ONNX
Runtime, and its symbols are decoded by constriction and by the plain-Python coder; both must agree,
and both must write the same payload. The pixels of ONNX Runtime are compared with those of torch on
one and two threads. The analysis of torch may differ; how often it does is counted. Writes
benchmarks/results/exactness.json.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from kept_out import kept_out, squares
from rows import write

from tactic_codec import entropy
from tactic_codec.codec import load_model

RESULTS = Path(__file__).parent / "results" / "exactness.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=500)
    arguments = parser.parse_args()

    import torch

    codec = load_model(arguments.model)
    others = [load_model(arguments.model, device="torch-cpu")]
    if torch.cuda.is_available():
        others.append(load_model(arguments.model, device="cuda"))
    names, _ = kept_out(codec.model, arguments.data)
    excess, headers, peak, analysis_flips, symbols_seen = [], [], 0, 0, 0
    for pixels in squares(arguments.data, names, arguments.images):
        frame = codec.compress(pixels).frame
        tables = codec.model.tables(frame.level)
        symbols = codec.model.decode_symbols(frame)
        ideal = entropy.ideal_bits(symbols, tables)
        excess.append(8 * len(frame.payload) - ideal)
        if 8 * len(frame.payload) > 1.005 * ideal + 64:
            raise SystemExit(f"picture {len(excess)}: more than 1.005 times the ideal and 64 bits")
        headers.append(frame.header_bytes)
        again = entropy.decode(frame.payload, symbols.shape, tables, entropy.PURE)
        if not np.array_equal(again, symbols):
            raise SystemExit(f"picture {len(excess)}: the two coders decode different symbols")
        if entropy.encode(symbols, tables, entropy.PURE) != frame.payload:
            raise SystemExit(f"picture {len(excess)}: the two coders write different payloads")
        decoded = codec.decode(frame).astype(int)
        for other in others:
            for threads in (1, 2):
                torch.set_num_threads(threads)
                peak = max(peak, int(np.abs(other.decode(frame) - decoded).max()))
            theirs = other.quantise(other.analyse(pixels), frame.level)
            analysis_flips += int((theirs != symbols).sum())
            symbols_seen += symbols.size
    report = {
        "images": len(excess),
        "payload_bits_above_ideal": {
            "mean": round(float(np.mean(excess)), 2),
            "max": round(float(np.max(excess)), 2),
        },
        "header_bytes_max": max(headers),
        "coders_agree_on_symbols_and_bytes": True,
        "pixel_peak_difference_onnx_torch": peak,
        "analysis_symbols_that_differ_onnx_torch": analysis_flips,
        "of_symbols": symbols_seen,
    }
    write(RESULTS, report)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
