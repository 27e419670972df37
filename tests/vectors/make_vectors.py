"""Make the files of ``valid/`` beside this script, see README.md.

They were made once and are committed: what a release wrote, every later one decodes to the same
symbols. No test runs this script. It makes the vectors that are missing and leaves the others as
they are; remove one by hand only where no release has been made with it.

    python tests/vectors/make_vectors.py
"""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from tactic_codec import container, entropy, metrics
from tactic_codec import picture as image
from tactic_codec.codec import Codec, load_model
from tactic_codec.container import Frame
from tactic_codec.model import MANIFEST
from tactic_codec.picture import profiles

HERE = Path(__file__).parent
VALID = HERE / "valid"
MODEL = HERE.parent / "models" / "tiny"
BUNDLED = HERE.parents[1] / "models"
PHOTOGRAPH = HERE.parents[1] / "examples" / "cat.jpg"


def photographs(codec: Codec) -> dict[str, bytes]:
    """Return a photograph at every level of a model, by name."""
    pixels = image.load(PHOTOGRAPH)
    levels = range(1, len(codec.model.levels) + 1)
    return {f"{codec.model.name}-level{n}": codec.compress(pixels, n).data for n in levels}


def rarities(codec: Codec) -> dict[str, bytes]:
    """Return what photographs do not show, by name."""
    pixels = image.load(PHOTOGRAPH)
    frames = {}
    frames["tiny-1x1"] = codec.compress(pixels[:1, :1]).data
    frames["tiny-half"] = codec.compress(pixels, 2, scale=0.5).data
    frames["tiny-max-side-100"] = codec.compress(pixels, 3, max_side=100).data
    # A photograph that lies on its side, in the colours of Display P3, as a telephone writes it.
    lying, exif = io.BytesIO(), Image.Exif()
    exif[0x010F], exif[0x0112] = "a maker", 6
    profile = profiles.of_cicp(12, 13)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6"/></x:xmpmeta>'
    small = Image.open(PHOTOGRAPH).resize((48, 32))
    small.save(lying, "WEBP", exif=exif, xmp=xmp, icc_profile=profile, lossless=True)
    frames["tiny-metadata"] = codec.compress(lying.getvalue(), 2, keep_metadata=True).data
    # Symbols that no network gives: outside the tables, up to the limit, next to empty channels.
    random = np.random.default_rng(1)
    symbols = random.integers(-2, 30, (8, 5, 7)) * random.integers(0, 2, (8, 5, 7))
    symbols[0, 0, 0], symbols[7, 4, 6], symbols[3] = entropy.SYMBOL_LIMIT, -entropy.SYMBOL_LIMIT, 0
    payload = entropy.encode(symbols, codec.model.tables(2))
    frames["tiny-escapes"] = container.pack(
        Frame(codec.model.fingerprint, 2, width=7 * 8 - 3, height=5 * 8, payload=payload)
    )
    return frames


def patterns(codec: Codec) -> dict[str, bytes]:
    """Return pictures of every awkward size, and those that no camera takes, by name; level 2."""
    pixels = image.load(PHOTOGRAPH)
    y, x = np.mgrid[:24, :40]
    colours = {
        "black": np.zeros((24, 40, 3), np.uint8),
        "white": np.full((24, 40, 3), 255, np.uint8),
        "checkerboard": np.repeat(255 * ((x + y) % 2)[..., np.newaxis], 3, 2).astype(np.uint8),
        "noise": np.random.default_rng(2).integers(0, 256, (24, 40, 3), np.uint8),
        "8x8": pixels[100:108, 200:208],  # exactly one latent position
        "9x8": pixels[100:108, 200:209],
        "8x9": pixels[100:109, 200:208],
        "9x9": pixels[100:109, 200:209],
    }
    frames = {f"tiny-{name}": codec.compress(picture, 2).data for name, picture in colours.items()}
    photograph = Image.open(PHOTOGRAPH).resize((48, 32))
    frames["tiny-grey"] = codec.compress(photograph.convert("L"), 2).data
    lying = io.BytesIO()  # to be turned by a quarter, says its EXIF data
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph.save(lying, "PNG", exif=exif)
    frames["tiny-oriented"] = codec.compress(lying.getvalue(), 2).data
    return frames


def describe(codec: Codec, name: str, data: bytes) -> dict[str, object]:
    """Return what a reader must find in a frame."""
    frame = container.parse(data)
    symbols = codec.model.decode_symbols(frame)
    facts: dict[str, object] = {
        "model": codec.model.name,
        "fingerprint": frame.fingerprint.hex(),
        "level": frame.level,
        "width": frame.width,
        "height": frame.height,
        "symbols": list(symbols.shape),
        "symbols_sha256": hashlib.sha256(symbols.astype("<i4").tobytes()).hexdigest(),
    }
    if frame.scaled_to:
        facts["coded"] = list(frame.scaled_to)
    if frame.sections:
        facts["sections"] = {kind: len(data) for kind, data in frame.sections}
    if "-level" in name:
        decoded = codec.synthesise(symbols, frame)
        facts["psnr"] = round(metrics.psnr(image.load(PHOTOGRAPH), decoded), 2)
    return facts


def main() -> None:
    """Write the vectors that are missing, and what is expected of them."""
    VALID.mkdir(exist_ok=True)
    known = VALID / "expected.json"
    expected = json.loads(known.read_text(encoding="utf-8")) if known.exists() else {}
    bundled = sorted(path.parent for path in BUNDLED.glob(f"*/{MANIFEST}"))
    for folder in [MODEL, *bundled]:
        codec = load_model(folder, threads=1)
        frames = photographs(codec)
        if folder == MODEL:
            frames |= rarities(codec) | patterns(codec)
        for name, data in frames.items():
            if f"{name}.tac" in expected:
                continue
            with (VALID / f"{name}.tac").open("xb") as stream:
                stream.write(data)
            expected[f"{name}.tac"] = describe(codec, name, data)
            print(f"{name}.tac: {len(data)} bytes")
    known.write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
