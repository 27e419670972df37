"""Make the files of ``valid/`` beside this script, see README.md.

They were made once and are committed: what a release wrote, every later one decodes to the same
symbols. No test runs this script. It refuses to replace a vector; remove one by hand only where no
release has been made with it.

    python tests/vectors/make_vectors.py
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from tactic_codec import container, entropy, image, metrics
from tactic_codec.codec import Codec, load_model
from tactic_codec.container import Frame

HERE = Path(__file__).parent
VALID = HERE / "valid"
MODEL = HERE.parent / "models" / "tiny"
PHOTOGRAPH = HERE.parents[1] / "examples" / "cat.jpg"


def vectors(codec: Codec) -> dict[str, bytes]:
    """Return the frames by name."""
    pixels = image.load(PHOTOGRAPH)
    frames = {f"tiny-level{level}": codec.compress(pixels, level) for level in (1, 2, 3)}
    frames["tiny-1x1"] = codec.compress(pixels[:1, :1])
    # Symbols that no network gives: outside the tables, up to the limit, next to empty channels.
    random = np.random.default_rng(1)
    symbols = random.integers(-2, 30, (8, 5, 7)) * random.integers(0, 2, (8, 5, 7))
    symbols[0, 0, 0], symbols[7, 4, 6], symbols[3] = entropy.SYMBOL_LIMIT, -entropy.SYMBOL_LIMIT, 0
    payload = entropy.encode(symbols, codec.model.tables(2))
    frames["tiny-escapes"] = container.pack(
        Frame(codec.model.fingerprint, 2, width=7 * 8 - 3, height=5 * 8, payload=payload)
    )
    return frames


def describe(codec: Codec, name: str, data: bytes) -> dict[str, object]:
    """Return what a reader must find in a frame."""
    frame = container.parse(data)
    symbols = codec.symbols(frame)
    facts: dict[str, object] = {
        "model": codec.model.name,
        "fingerprint": frame.fingerprint.hex(),
        "level": frame.level,
        "width": frame.width,
        "height": frame.height,
        "symbols": list(symbols.shape),
        "symbols_sha256": hashlib.sha256(symbols.astype("<i4").tobytes()).hexdigest(),
    }
    if name.startswith("tiny-level"):
        decoded = codec.synthesise(symbols, frame)
        facts["psnr"] = round(metrics.psnr(image.load(PHOTOGRAPH), decoded), 2)
    return facts


def main() -> None:
    """Write the vectors and ``expected.json``."""
    codec = load_model(MODEL, threads=1)
    VALID.mkdir(exist_ok=True)
    expected = {}
    for name, data in vectors(codec).items():
        with (VALID / f"{name}.tac").open("xb") as stream:
            stream.write(data)
        expected[f"{name}.tac"] = describe(codec, name, data)
        print(f"{name}.tac: {len(data)} bytes")
    text = json.dumps(expected, indent=1) + "\n"
    (VALID / "expected.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
