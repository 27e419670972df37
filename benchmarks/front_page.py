"""The picture at the top of README.md: a photograph, and what two .tac files give back of it.

    python benchmarks/front_page.py [--photograph examples/coffee.jpg] [--model MODEL]

The files are those of `tactic compress --keep-label` and of `tactic compress`. Under each picture
stand the bytes of its file and the class that the model's classifier finds most likely in it.
Pictures are drawn 480 pixels wide. Writes docs/front.jpg.
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import tactic_codec
from tactic_codec.codec import Codec
from tactic_codec.picture import load
from tactic_codec.tasks import classify_pixels

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "docs" / "front.jpg"

WIDTH, MARGIN, GAP, CAPTION, RADIUS = 480, 36, 24, 138, 14
PAPER, INK, FAINT = "#12161c", "#f2f4f7", "#9aa6b4"  # a dark card reads well on white and on black


def panels(photograph: Path, codec: Codec) -> list[tuple[Image.Image, str, str, int]]:
    """Return picture, title, what is seen in it, and bytes: of the photograph and of each file."""
    kept = codec.compress(photograph, keep_label=True).data
    with Image.open(photograph) as opened:
        found = [(opened.convert("RGB"), "photograph", photograph.stat().st_size)]
    for option, data in ((" --keep-label", kept), ("", codec.compress(photograph).data)):
        found.append((tactic_codec.decompress(data), f"tactic compress{option}", len(data)))
    shown = []
    for picture, title, size in found:
        best = classify_pixels(codec, load(picture), 1)[0]
        drawn = picture.resize((WIDTH, round(WIDTH * picture.height / picture.width)))
        shown.append((drawn, title, f"seen: {best.label}, {best.probability:.0%}", size))
    return shown


def draw(shown: list[tuple[Image.Image, str, str, int]]) -> Image.Image:
    """Return the panels side by side on a card."""
    width, height = shown[0][0].size
    card = Image.new(
        "RGB",
        (2 * MARGIN + len(shown) * width + (len(shown) - 1) * GAP, 2 * MARGIN + height + CAPTION),
        PAPER,
    )
    pen = ImageDraw.Draw(card)
    corners = Image.new("L", (width, height))
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, width - 1, height - 1), RADIUS, fill=255)
    for place, (picture, title, seen, size) in enumerate(shown):
        x, y = MARGIN + place * (width + GAP), MARGIN
        card.paste(picture, (x, y), corners)
        lines = ((f"{size:,} bytes", 44, INK, 18), (title, 26, FAINT, 78), (seen, 26, FAINT, 112))
        for text, points, colour, below in lines:
            font = ImageFont.load_default(points)
            pen.text((x + 2, y + height + below), text, colour, font)
    return card


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photograph", type=Path, default=ROOT / "examples" / "coffee.jpg")
    parser.add_argument("--model", help="a name or a model folder; the default model")
    arguments = parser.parse_args()
    codec = tactic_codec.load_model(arguments.model)
    draw(panels(arguments.photograph, codec)).save(OUTPUT, quality=88, optimize=True)
    print(OUTPUT)


if __name__ == "__main__":
    main()
