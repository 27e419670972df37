"""A sheet of ten pictures: their label maps, and what the model segments in the coded pictures.

    python benchmarks/segmentation_sheet.py DATA/camvid/val [--model camvid] [--levels 2,4,8]

Each row is one of ten pictures spread evenly over the folder: first its label map, then for each
level the classes that the network sees, laid over the decoded picture, with bpp and the share of
pixels that are right. Writes docs/segmentation.png.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tactic_codec import picture as image
from tactic_codec import tasks
from tactic_codec.codec import load_model
from tactic_codec.evaluation.pictures import spread
from tactic_codec.picture import Pixels

OUT = Path(__file__).parents[1] / "docs" / "segmentation.png"
PICTURES = 10
WIDTH = 240
CAPTION = 14


def tile(pixels: Pixels, caption: str) -> Image.Image:
    """Return a picture of WIDTH pixels with a line below it."""
    picture = image.to_pillow(pixels)
    height = round(WIDTH * picture.height / picture.width)
    result = Image.new("RGB", (WIDTH, height + CAPTION), "white")
    result.paste(picture.resize((WIDTH, height), Image.Resampling.LANCZOS))
    ImageDraw.Draw(result).text((2, height + 1), caption, "black")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="with images/ and labels/")
    parser.add_argument("--model", default="camvid")
    parser.add_argument("--levels", default="2,4,8")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()

    codec = load_model(args.model)
    head = codec.model.head("segment")
    black = (0, 0, 0)
    colours = np.array([*head.colours, *[black] * (256 - len(head.colours))], np.uint8)
    rows = []
    for path in spread(sorted((args.folder / "images").iterdir()), PICTURES):
        pixels = image.load(path)
        expected = image.load_labels(args.folder / "labels" / f"{path.stem}.png")
        row = [tile(colours[expected], f"{path.stem}: label map")]
        for level in map(int, args.levels.split(",")):
            frame = codec.compress(pixels, level).frame
            decoded = codec.decode(frame)
            found = tasks.segment_pixels(codec, decoded)
            known = expected < len(head.labels)
            right = 100 * (found.labels == expected)[known].mean()
            row.append(
                tile(found.overlay(decoded), f"-q {level}: {frame.bpp:.3f} bpp, {right:.0f} %")
            )
        rows.append(row)
    width, height = rows[0][0].size
    sheet = Image.new("RGB", (width * len(rows[0]), height * len(rows)), "white")
    for y, row in enumerate(rows):
        for x, part in enumerate(row):
            sheet.paste(part, (x * width, y * height))
    # Colours are few enough for a palette, which is a quarter of the bytes.
    sheet.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(args.out, optimize=True)


if __name__ == "__main__":
    main()
