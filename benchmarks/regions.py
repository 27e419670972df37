"""Pictures of as many bytes with and without ``--roi``: the bits and the PSNR inside, and F1.

    python benchmarks/regions.py PHOTOS --count 24

The regions are the boxes that the model's detector finds in the pictures themselves, where these
cover 3 to 50 % of them. F1 is of the detector's boxes in the file against those. Intervals are
of the mean difference, from draws of the pictures.
"""

import argparse
from pathlib import Path

import numpy as np

from tactic_codec import boxes, metrics
from tactic_codec import picture as image
from tactic_codec.codec import load_model
from tactic_codec.report.spent import bits_of_blocks, facts_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=24, help="pictures")
    parser.add_argument("--level", type=int, default=4, help="whose bytes both may have")
    given = parser.parse_args()
    count, level = given.count, given.level
    codec = load_model(threads=1)
    rows = []
    for path in sorted(given.folder.rglob("*.jp*g"), key=lambda path: path.name):
        pixels = image.load(path)
        before = boxes.certain(codec.boxes(pixels))
        inside = np.zeros(pixels.shape[:2], np.bool_)
        for box in before:
            inside[int(box.top) : int(box.bottom) + 1, int(box.left) : int(box.right) + 1] = True
        if not 0.03 < inside.mean() < 0.5:
            continue
        plain = codec.compress(pixels, level)
        aimed = codec.compress(pixels, max_bytes=len(plain.data), roi=inside)
        row = [inside.mean(), len(plain.data), len(aimed.data)]
        for coded in (plain, aimed):
            symbols = codec.model.decode_symbols(coded.frame)
            blocks = bits_of_blocks(symbols, codec.model.tables(coded.level))
            decoded = codec.decode(coded.frame)
            error = np.square(pixels.astype(np.float64) - decoded).mean(axis=2)
            row += [
                facts_of(coded.frame, codec.model, blocks, inside)["inside_bits"],
                *(10 * np.log10(255**2 / error[part].mean()) for part in (inside, ~inside)),
                boxes.shared(before, boxes.certain(codec.boxes(decoded))).f1,
            ]
        rows.append(row)
        if len(rows) == count:
            break
    if not rows:
        raise SystemExit(f"no JPEG below {given.folder} shows objects on 3 to 50 % of its pixels")
    table = np.array(rows)
    area, size, aimed_size = table[:, :3].mean(axis=0)
    print(f"{len(rows)} pictures, {100 * area:.0f} % inside; bytes {size:.0f}, {aimed_size:.0f}")
    draws = metrics.resamples(len(rows))
    for place, name in enumerate(("bits inside", "PSNR inside", "PSNR outside", "F1")):
        plain, aimed = table[:, 3 + place], table[:, 7 + place]
        mean, low, high = metrics.with_interval(draws @ (aimed - plain) / len(rows))
        told = f"{plain.mean():.3f} -> {aimed.mean():.3f}"
        print(f"{name}: {told}, difference {mean:+.3f} ({low:+.3f} to {high:+.3f})")


if __name__ == "__main__":
    main()
