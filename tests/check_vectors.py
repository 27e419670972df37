"""Decode every vector on a machine that has Python and NumPy and nothing else, pytest included.

    python tests/check_vectors.py

The decoder written from the specification and the package's entropy room, with each coder that is
installed, read the symbols whose SHA-256 is recorded. Prints a line a decoder, with the frames of
each model; exits with 1 if one disagrees. ``aarch64.sh`` runs it under emulation.
"""

import hashlib
import json
import platform
import struct
import sys
from array import array
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
ROOT = TESTS.parent
sys.path[:0] = [str(ROOT), str(TESTS)]

import numpy as np  # noqa: E402
import reference_decoder  # noqa: E402
from plain_tables import plain_levels, tables_of  # noqa: E402

from tactic_codec import entropy  # noqa: E402
from tactic_codec.container import Frame, parse, read_frame  # noqa: E402
from tactic_codec.errors import (  # noqa: E402
    ChecksumMismatch,
    FormatError,
    LimitExceeded,
    UnknownSection,
)
from tactic_codec.model import Model  # noqa: E402

MAX_PIXELS = 1 << 28
VECTORS = TESTS / "vectors"


def models() -> dict[str, dict[str, Any]]:
    """Every model of the vectors as the reference decoder takes it, by name."""
    known: dict[str, dict[str, Any]] = json.loads((VECTORS / "unusual" / "tables.json").read_text())
    for folder in (TESTS / "models" / "tiny", *sorted((ROOT / "models").iterdir())):
        if (folder / "model.json").is_file():
            model = Model(folder)
            known[folder.name] = {
                "stride": model.stride,
                "levels": plain_levels(model),
            }
    return known


def expected() -> list[tuple[str, Path, list[dict[str, Any]]]]:
    """Model, file and facts of each frame, of all files that a reader must read."""
    files = []
    for kind in ("valid", "unusual"):
        facts = json.loads((VECTORS / kind / "expected.json").read_text())
        for name, fact in facts.items():
            files.append((fact["model"], VECTORS / kind / name, fact.get("frames", [fact])))
    return files


def by_reference(frame: Frame, rows: int, columns: int, level: dict[str, Any]) -> bytes:
    """Symbols as int32, little-endian, by the decoder that follows the page."""
    symbols = reference_decoder.decode_symbols(frame.payload, rows, columns, level)
    flat = array("i", chain.from_iterable(chain.from_iterable(symbols)))
    return struct.pack(f"<{len(flat)}i", *flat)


def by_package(coder: entropy.Coder) -> Callable[..., bytes]:
    """The same by the package's entropy room."""

    def decode(frame: Frame, rows: int, columns: int, level: dict[str, Any]) -> bytes:
        tables = tables_of(level)
        symbols = entropy.decode(frame.payload, (tables.channels, rows, columns), tables, coder)
        return symbols.astype("<i4").tobytes()

    return decode


def main() -> int:
    """Check all vectors with all decoders; return the exit status."""
    known = models()
    decoders: dict[str, Callable[..., bytes]] = {
        "reference decoder": by_reference,
        "package, plain Python": by_package(entropy.PURE),
    }
    if entropy.default_coder() is entropy.CONSTRICTION:
        decoders["package, constriction"] = by_package(entropy.CONSTRICTION)
    print(f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}")
    wrong = 0
    for name, decode in decoders.items():
        frames = Counter[str]()
        for model, path, facts in expected():
            with path.open("rb") as stream:
                for fact in facts:
                    try:
                        frame = read_frame(stream, max_pixels=MAX_PIXELS)
                    except (ChecksumMismatch, UnknownSection):
                        wrong += "error" not in fact
                        continue
                    assert frame is not None, path
                    stride = known[model]["stride"]
                    rows, columns = (
                        -(-side // stride) for side in (frame.coded_height, frame.coded_width)
                    )
                    data = decode(frame, rows, columns, known[model]["levels"][str(frame.level)])
                    frames[model] += 1
                    if hashlib.sha256(data).hexdigest() != fact.get("symbols_sha256"):
                        print(f"{name}: {path.name} differs")
                        wrong += 1
        by_model = ", ".join(f"{model} {count}" for model, count in sorted(frames.items()))
        print(f"{name}: {frames.total()} frames of {len(expected())} files: {by_model}")
    refused = 0
    for path in sorted((VECTORS / "faulty").iterdir()):
        for parser in (parse, reference_decoder.parse):
            try:
                parser(path.read_bytes())
            except (FormatError, LimitExceeded) as error:
                found = type(error).__name__
            except reference_decoder.Refused as error:
                found = str(error)
            else:
                continue  # its model or its payload is at fault, not its frame
            refused += 1
            if found != path.name.partition("-")[0]:
                print(f"{parser.__module__}: {path.name} is {found}")
                wrong += 1
    print(f"both parsers: {refused} refusals of faulty files")
    print(f"{wrong} wrong" if wrong else "all agree")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
