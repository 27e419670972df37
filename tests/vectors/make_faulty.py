"""Make the files of ``unusual/`` and ``faulty/`` beside this script, see README.md.

They were made once and are committed; no test runs this script. It replaces no file: it refuses
where a file that it would make is there with other bytes, and leaves the rest alone.

    python tests/vectors/make_faulty.py
"""

import hashlib
import io
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from tactic_codec import container, entropy
from tactic_codec.container import Frame, pack
from tactic_codec.entropy import TOTAL, ContextModel, FrequencyTables
from tactic_codec.entropy import symbols as coding
from tactic_codec.errors import ChecksumMismatch, Corrupt, UnknownSection
from tactic_codec.model import Model

HERE = Path(__file__).parent
TINY = Model(HERE.parent / "models" / "tiny")
JPEG = bytes.fromhex("ffd8ffe000104a464946000101000001")  # how a JPEG file begins

Symbols = NDArray[np.int32]


# --- Models that exist for these vectors only -----------------------------------------------------


def laplace(count: int, minimum: int, scale: float) -> list[int]:
    """Return a table of ``count`` indices, peaked at the value 0."""
    weights = np.exp(-np.abs(np.arange(count) + minimum) / scale)
    frequencies = np.floor(weights / weights.sum() * (TOTAL - count)).astype(int) + 1
    frequencies[-minimum] += TOTAL - frequencies.sum()
    return [int(frequency) for frequency in frequencies]


def contextual(own: list[int], shared: list[int]) -> dict[str, Any]:
    """Return a level of three channels whose tables widen from context to context."""
    count = (len(own) + 1) * (len(shared) + 1)
    tables = [[laplace(9, -3, 0.4 + 0.3 * c + 0.5 * k) for k in range(count)] for c in range(3)]
    return {"minimum": -3, "own": own, "shared": shared, "frequencies": tables}


def fixed(minimum: int, table: list[int]) -> dict[str, Any]:
    """Return a level of one channel and one table."""
    return {"minimum": minimum, "own": [], "shared": [], "frequencies": [[table]]}


TABLES: dict[str, dict[str, Any]] = {
    "contexts": {
        "fingerprint": b"ctxs".hex(),
        "stride": 8,
        "levels": {
            "1": contextual([], []),
            "2": contextual([1, 3, 9], []),
            "3": contextual([], [2, 5]),
            "4": contextual([1, 3, 9], [2, 5]),
            "255": contextual([90], [90]),
        },
    },
    "extremes": {
        "fingerprint": b"extr".hex(),
        "stride": 8,
        "levels": {
            "1": fixed(-1, [1, TOTAL - 2, 1]),
            "2": fixed(-2048, [TOTAL // 4096] * 4096),
            "3": fixed(1000, [TOTAL // 4] * 4),
            "4": fixed(-(2**20), [TOTAL // 4] * 4),
            "5": fixed(2**20 - 2, [TOTAL // 4] * 4),
        },
    },
    "coarse": {
        "fingerprint": b"4096".hex(),
        "stride": 4096,
        "levels": {"1": fixed(-3, laplace(9, -3, 1.5))},
    },
}


def tables_of(name: str, level: int) -> FrequencyTables:
    """Return the tables of a level of a model."""
    if name == "tiny":
        return TINY.tables(level)
    plain = TABLES[name]["levels"][str(level)]
    contexts = ContextModel(tuple(plain["own"]), tuple(plain["shared"]))
    return FrequencyTables(plain["minimum"], np.array(plain["frequencies"]), contexts)


def stride_of(name: str) -> int:
    """Return the stride of a model."""
    return TINY.stride if name == "tiny" else int(TABLES[name]["stride"])


def fingerprint_of(name: str) -> bytes:
    """Return the fingerprint of a model."""
    return TINY.fingerprint if name == "tiny" else bytes.fromhex(TABLES[name]["fingerprint"])


# --- Frames ---------------------------------------------------------------------------------------


def coded(name: str, level: int, symbols: Symbols, *, limit: int = entropy.SYMBOL_LIMIT) -> bytes:
    """Return a frame of symbols, clamped at another limit than writers do if one is given."""
    with mock.patch.object(coding, "SYMBOL_LIMIT", limit):
        payload = entropy.encode(symbols, tables_of(name, level))
    _, rows, columns = symbols.shape
    stride = stride_of(name)
    width, height = min(columns * stride, 65535), min(rows * stride, 65535)
    return pack(Frame(fingerprint_of(name), level, width, height, payload))


def holding(payload: bytes, *, width: int = 40, height: int = 24, level: int = 2) -> bytes:
    """Return a frame of the tiny model that holds a payload, whatever it may be."""
    body = pack(Frame(TINY.fingerprint, level, width, height, payload + b"\1"))[:-5]
    return sealed(body[: len(body) - len(payload) - 1] + bytes([len(payload)]) + payload)


def sealed(body: bytes) -> bytes:
    """Return a body with its checksum."""
    return body + zlib.crc32(body).to_bytes(4, "little")


def drawn(seed: int, shape: tuple[int, int, int], scale: float) -> Symbols:
    """Return symbols drawn from a Laplace distribution."""
    random = np.random.default_rng(seed)
    return np.rint(random.laplace(0, scale, shape)).astype(np.int32)


def sides_of(channels: int, rows: int, columns: int, *values: int) -> Symbols:
    """Return symbols that repeat values."""
    return np.resize(np.array(values, np.int32), (channels, rows, columns))


def escapes(level: int, longest: int) -> Symbols:
    """Return symbols of the tiny model whose escape codes have 0 to ``longest`` zeros."""
    tables = TINY.tables(level)
    numbers = [2**n - 1 for n in range(longest + 1)] + [2 ** (n + 1) - 2 for n in range(longest)]
    values = [
        tables.minimum - 1 - e // 2 if e % 2 else tables.maximum + 1 + e // 2 for e in numbers
    ]
    return sides_of(TINY.channels, 3, 4, *values)


def damaged(data: bytes, place: int, flip: int = 1) -> bytes:
    """Return data with bits of one byte flipped; places count from the end where negative."""
    changed = bytearray(data)
    changed[place] ^= flip
    return bytes(changed)


def padded(level: int, symbols: Symbols, tail: bytes) -> bytes:
    """Return a frame whose payload goes on behind everything that its symbols need."""
    payload = entropy.encode(symbols, TINY.tables(level)) + bytes(12) + tail
    _, rows, columns = symbols.shape
    return pack(Frame(TINY.fingerprint, level, 8 * columns, 8 * rows, payload))


def surviving(length: int) -> bytes:
    """Return the first payload of random bytes, by their seed, that decodes."""
    for seed in range(1000):
        payload = np.random.default_rng(seed).bytes(length - 1) + b"\1"
        try:
            entropy.decode(payload, (TINY.channels, 3, 5), TINY.tables(2))
        except Corrupt:
            continue
        return payload
    raise RuntimeError("no random payload decodes")


def unusual() -> dict[str, tuple[str, bytes]]:
    """Return the frames that a reader must read though a writer may never make them."""
    some = drawn(1, (3, 6, 7), 2)
    whole = container.parse(coded("tiny", 2, np.abs(drawn(13, (8, 3, 5), 3))))  # 40 x 24
    scaled = replace(whole, width=97, height=60, scaled_to=(40, 24))
    words = (200, b"an ancillary section")
    # EXIF of one entry, a directory that is cut behind it, which says that the picture lies.
    lying = b"MM\0*\0\0\0\x08\0\2\1\x12\0\3\0\0\0\1\0\6\0\0"
    unknown = pack(replace(whole, sections=((1, b"critical"),)))
    last = np.zeros((8, 6, 6), np.int32)
    last[7, 5, 5] = 3
    one, two, three = (coded("tiny", 2, np.abs(drawn(n, (8, 2, 3), 3))) for n in (1, 2, 3))
    limit = entropy.SYMBOL_LIMIT
    return {
        "all-zero": ("tiny", coded("tiny", 1, np.zeros((8, 8, 8), np.int32))),
        "zeros-before-the-last-symbol": ("tiny", coded("tiny", 2, last)),
        "payload-of-one-byte": ("tiny", holding(b"\x80")),
        "payload-of-one-word": ("tiny", holding(b"\x80\0\0\1")),
        "payload-of-random-bytes": ("tiny", holding(surviving(40))),
        "payload-longer-than-needed": ("tiny", padded(2, np.abs(drawn(4, (8, 3, 5), 2)), JPEG)),
        "payload-length-in-two-bytes": ("tiny", padded(3, last, b"\xaa" * 300)),
        "payload-length-in-three-bytes": ("tiny", padded(3, last, b"\x55" * 2300)),
        "one-row": ("tiny", coded("tiny", 3, np.abs(drawn(5, (8, 1, 125), 2)))),
        "one-column": ("tiny", coded("tiny", 3, np.abs(drawn(6, (8, 125, 1), 2)))),
        "escapes-of-every-length": ("tiny", coded("tiny", 2, escapes(2, 20))),
        "escape-of-24-zeros": ("tiny", coded("tiny", 2, escapes(2, 24), limit=2**26)),
        "all-escaped": ("tiny", coded("tiny", 1, sides_of(8, 4, 4, -1, -2, -3, 900))),
        "symbols-at-the-limits": ("tiny", coded("tiny", 3, sides_of(8, 3, 3, limit, -limit))),
        "contexts-none": ("contexts", coded("contexts", 1, some)),
        "contexts-own": ("contexts", coded("contexts", 2, some)),
        "contexts-shared": ("contexts", coded("contexts", 3, some)),
        "contexts-both": ("contexts", coded("contexts", 4, some)),
        "contexts-at-their-largest-sums": ("contexts", coded("contexts", 255, 40 * some)),
        "frequency-1-only": ("extremes", coded("extremes", 1, sides_of(1, 6, 6, -1, 5, -9))),
        "frequency-nearly-all": ("extremes", coded("extremes", 1, np.zeros((1, 40, 40), np.int32))),
        "smallest-table": ("extremes", coded("extremes", 1, drawn(7, (1, 5, 5), 1))),
        "longest-table": ("extremes", coded("extremes", 2, drawn(8, (1, 8, 8), 900))),
        "table-without-zero": ("extremes", coded("extremes", 3, 1000 + drawn(9, (1, 5, 5), 2))),
        "table-at-the-lower-limit": (
            "extremes",
            coded("extremes", 4, sides_of(1, 3, 3, -limit, 2 - limit, limit)),
        ),
        "table-at-the-upper-limit": (
            "extremes",
            coded("extremes", 5, sides_of(1, 3, 3, limit, limit - 2, -limit)),
        ),
        "widest": ("coarse", coded("coarse", 1, drawn(10, (1, 1, 16), 2))),
        "tallest": ("coarse", coded("coarse", 1, drawn(11, (1, 16, 1), 2))),
        "largest": ("coarse", coded("coarse", 1, drawn(12, (1, 4, 4), 2))),
        "scaled": ("tiny", pack(scaled)),
        "scaled-in-one-direction": ("tiny", pack(replace(scaled, height=24))),
        "scaled-by-one-pixel": ("tiny", pack(replace(scaled, width=41, height=24))),
        "scaled-to-one-pixel": (
            "tiny",
            pack(Frame(TINY.fingerprint, 1, 2288, 500, b"", (1, 1))),
        ),
        "scaled-at-the-limit": (
            "tiny",
            pack(Frame(TINY.fingerprint, 1, 8192, 4094, b"", (64, 32))),
        ),
        "section": ("tiny", pack(replace(whole, sections=(words,)))),
        "sections-of-every-length": (
            "tiny",
            pack(replace(whole, sections=((128, b""), (129, bytes(300)), (255, b"x" * 2300)))),
        ),
        "metadata-that-cannot-be-used": (
            "tiny",
            pack(replace(whole, sections=((130, lying), (131, b"\xff"), (132, bytes(200))))),
        ),
        "section-of-a-scaled-frame": ("tiny", pack(replace(scaled, sections=(words,)))),
        "stream-with-an-unknown-section": ("tiny", one + unknown + three),
        "stream-of-three": ("tiny", one + two + three),
        "stream-with-a-damaged-frame": ("tiny", one + damaged(two, -6) + three),
        "stream-with-a-damaged-end": ("tiny", one + two + damaged(three, -1)),
    }


FLAGS = ("Corrupt-flag-1", "Truncated-flag-2", "ReservedFlags-4", "ReservedFlags-8")
"""By what a flag alone, without the fields that it announces, ends in."""


def faulty() -> dict[str, bytes]:
    """Return what a reader must refuse, named by the error and then by what is wrong."""
    good = coded("tiny", 2, np.abs(drawn(1, (8, 3, 5), 3)))  # 40 x 24
    head = good[:9]  # magic, version, fingerprint, level
    one = b"\x01"
    frame = container.parse(good)
    payload = frame.payload
    own = TINY.fingerprint
    scaled_head = good[:3] + b"\x11" + good[4:11]  # to the height
    sections_head = good[:3] + b"\x12" + good[4:9]  # to the level
    return {
        "Truncated-empty": b"",
        "Truncated-inside-magic": good[:2],
        "Truncated-behind-magic": good[:3],
        "Truncated-inside-fingerprint": good[:6],
        "Truncated-before-level": good[:8],
        "Truncated-before-width": good[:9],
        "Truncated-inside-width": head + b"\xf9\x01",
        "Truncated-before-height": good[:10],
        "Truncated-before-length": good[:11],
        "Truncated-inside-length": head + one + one + b"\xfb\x01\x02",
        "Truncated-inside-payload": good[: 12 + len(payload) // 2],
        "Truncated-before-checksum": good[:-4],
        "Truncated-inside-checksum": good[:-1],
        "Truncated-length-one-too-large": sealed(good[:11] + bytes([len(payload) + 1]) + payload),
        "Truncated-length-of-four-gigabytes": sealed(head + one + one + b"\xfb" + b"\xff" * 4),
        "NotATacFile-text": b"TAC, in plain text\n",
        "NotATacFile-png": b"\x89PNG\r\n\x1a\n" + good,
        "NotATacFile-jpeg": JPEG,
        "NotATacFile-zeros": bytes(64),
        "NotATacFile-eighth-bit-stripped": bytes(byte & 0x7F for byte in good),
        "NotATacFile-one-byte-before-it": b"\n" + good,
        "NotATacFile-one-foreign-byte": b"\x88",
        "UnsupportedVersion-0": sealed(good[:3] + b"\x00" + good[4:-4]),
        "UnsupportedVersion-2": sealed(good[:3] + b"\x20" + good[4:-4]),
        "UnsupportedVersion-15-with-flags": sealed(good[:3] + b"\xff" + good[4:-4]),
        **{name: sealed(good[:3] + bytes([0x10 | int(name[-1])]) + good[4:-4]) for name in FLAGS},
        "Truncated-before-coded-width": scaled_head,
        "Truncated-inside-coded-height": scaled_head + b"\x09\xf1",
        "Truncated-before-sections": sections_head + one + one,
        "Truncated-inside-sections": sections_head + one + one + b"\x09\x80\x07abc",
        "Truncated-sections-of-16-megabytes": sections_head + one + one + b"\xfa\xff\xff\xff",
        "Corrupt-coded-width-0": sealed(scaled_head + b"\0" + one + b"\0"),
        "Corrupt-coded-height-0": sealed(scaled_head + one + b"\0" + b"\0"),
        "Corrupt-coded-width-too-large": sealed(scaled_head + b"\x29\x18\0"),
        "Corrupt-coded-height-too-large": sealed(scaled_head + b"\x28\x19\0"),
        "Corrupt-coded-size-of-the-picture": sealed(scaled_head + b"\x28\x18\0"),
        "Corrupt-coded-width-in-two-bytes-for-one": sealed(scaled_head + b"\xf1\0" + one + b"\0"),
        "LimitExceeded-65535-x-65535-coded-as-one-pixel": sealed(
            good[:3] + b"\x11" + good[4:9] + b"\xf9\xf7\x0f" * 2 + one + one + b"\0"
        ),
        "LimitExceeded-33-megapixels-of-few-bytes": pack(Frame(own, 1, 8192, 4094, b"", (64, 33))),
        "Corrupt-sections-of-no-byte": sealed(sections_head + one + one + b"\0\0"),
        "Corrupt-sections-of-more-than-16-megabytes": sealed(
            sections_head + one + one + b"\xfb\1\0\0\0" + b"\0"
        ),
        "Corrupt-section-of-type-0": sealed(sections_head + one + one + b"\2\0\0\0"),
        "Corrupt-section-longer-than-all": sealed(sections_head + one + one + b"\3\x80\2x\0"),
        "Corrupt-section-without-length": sealed(sections_head + one + one + b"\3\x80\0\x81\0"),
        "Corrupt-section-length-in-two-bytes": sealed(
            sections_head + one + one + b"\x04\x80\xf1\0x\0"
        ),
        "Corrupt-section-twice": sealed(sections_head + one + one + b"\4\x80\0\x80\0\0"),
        "Corrupt-sections-descend": sealed(sections_head + one + one + b"\4\x81\0\x80\0\0"),
        "UnknownSection-1": pack(replace(frame, sections=((1, b""),))),
        "UnknownSection-127": pack(replace(frame, sections=((127, b"critical"), (128, b"not")))),
        "ChecksumMismatch-bit-makes-a-section-critical": damaged(
            pack(replace(frame, sections=((128, b"skip me"),))), 12, 0x81
        ),
        "ChecksumMismatch-bit-in-coded-width": damaged(
            pack(replace(frame, width=43, scaled_to=(40, 24))), 11
        ),
        "Corrupt-level-0": sealed(good[:8] + b"\0" + good[9:-4]),
        "Corrupt-width-0": sealed(head + b"\0" + one + b"\0"),
        "Corrupt-height-0": sealed(head + one + b"\0" + b"\0"),
        "Corrupt-width-65536": sealed(head + b"\xf9\xf7\x10" + one + b"\0"),
        "Corrupt-height-65536": sealed(head + one + b"\xf9\xf7\x10" + b"\0"),
        "Corrupt-width-of-32-bits": sealed(head + b"\xfb" + b"\xff" * 4 + one + b"\0"),
        "Corrupt-integer-begins-with-252": sealed(head + b"\xfc" + one + b"\0"),
        "Corrupt-integer-begins-with-255": sealed(head + one + b"\xff\0"),
        "Corrupt-width-in-two-bytes-for-one": sealed(head + b"\xf1\0" + one + b"\0"),
        "Corrupt-length-in-two-bytes-for-one": sealed(head + one + one + b"\xf1\0" + b"x" * 240),
        "Corrupt-width-in-four-bytes-for-one": sealed(head + b"\xfa\0\0\1" + one + b"\0"),
        "Corrupt-length-in-five-bytes-for-four": sealed(head + one + one + b"\xfb\0\1\x08\xf0"),
        "Corrupt-payload-ends-in-zero": sealed(head + one + one + b"\2\x80\0"),
        "Corrupt-payload-of-one-zero": sealed(head + one + one + b"\1\0"),
        "Corrupt-one-byte-behind-it": good + b"\0",
        "Corrupt-line-end-behind-it": good + b"\r\n",
        "Corrupt-second-frame-behind-it": good + good,
        "Corrupt-escape-of-25-zeros": coded(
            "tiny", 2, sides_of(8, 1, 1, *[0] * 7, 2**25), limit=2**26
        ),
        "Corrupt-escapes-without-end": holding(payload_of_escapes()),
        "Corrupt-number-outside-every-interval": holding(b"\xff" * 9),
        "LimitExceeded-65535-x-65535": sealed(head + b"\xf9\xf7\x0f" * 2 + b"\0"),
        "LimitExceeded-16385-x-16384": sealed(head + b"\xf9\x37\x11\xf9\x37\x10" + b"\0"),
        "ChecksumMismatch-bit-in-fingerprint": damaged(good, 4),
        "ChecksumMismatch-bit-in-level": damaged(good, 8, 3),
        "ChecksumMismatch-bit-in-width": damaged(good, 9),
        "ChecksumMismatch-bit-in-height": damaged(good, 10, 0x80),
        "ChecksumMismatch-bit-in-payload": damaged(good, 20),
        "ChecksumMismatch-bit-in-checksum": damaged(good, -1),
        "ChecksumMismatch-checksum-big-endian": good[:-4] + good[:-5:-1],
        "ChecksumMismatch-checksum-zero": good[:-4] + bytes(4),
        "ChecksumMismatch-length-one-too-small": good[:11] + bytes([len(payload) - 1]) + good[12:],
        "ChecksumMismatch-bytes-swapped": good[:20] + good[21:19:-1] + good[22:],
        "ChecksumMismatch-payload-becomes-zero": damaged(good, -5, good[-5]),
        "UnknownModel-fingerprint-of-no-model": sealed(good[:4] + b"none" + good[8:-4]),
        "UnknownModel-fingerprint-reversed": sealed(good[:4] + own[::-1] + good[8:-4]),
        "UnknownLevel-4": sealed(good[:8] + b"\x04" + good[9:-4]),
        "UnknownLevel-255": sealed(good[:8] + b"\xff" + good[9:-4]),
    }


def payload_of_escapes() -> bytes:
    """Return a payload that ends where it has announced an escape: what follows is zeros."""
    tables = TINY.tables(2)
    symbols = sides_of(8, 3, 5, tables.maximum + 1)
    whole = entropy.encode(symbols, tables)
    for length in range(len(whole)):
        payload = whole[:length].rstrip(b"\0")
        try:
            entropy.decode(payload, symbols.shape, tables)
        except Corrupt as error:
            if "zero bits" in str(error):
                return payload
    raise RuntimeError("no cut leaves an escape without its code")


# --- What is expected -----------------------------------------------------------------------------


def describe(name: str, data: bytes) -> list[dict[str, Any]]:
    """Return what a reader must find in a stream, frame by frame."""
    found: list[dict[str, Any]] = []
    stream = io.BytesIO(data)
    while True:
        try:
            frame = container.read_frame(stream, max_pixels=container.DEFAULT_MAX_PIXELS)
        except (ChecksumMismatch, UnknownSection) as error:
            found.append({"error": type(error).__name__})
            continue
        if frame is None:
            return found
        tables = tables_of(name, frame.level)
        stride = stride_of(name)
        shape = (
            tables.channels,
            -(-frame.coded_height // stride),
            -(-frame.coded_width // stride),
        )
        symbols = entropy.decode(frame.payload, shape, tables)
        found.append(
            {
                "fingerprint": frame.fingerprint.hex(),
                "level": frame.level,
                "width": frame.width,
                "height": frame.height,
                "payload": len(frame.payload),
                "symbols": list(shape),
                "symbols_sha256": hashlib.sha256(symbols.astype("<i4").tobytes()).hexdigest(),
            }
        )
        if frame.scaled_to:
            found[-1]["coded"] = list(frame.scaled_to)
        if frame.sections:
            found[-1]["sections"] = {kind: len(data) for kind, data in frame.sections}


def put(path: Path, data: bytes) -> None:
    """Write a file that is not there."""
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        if path.read_bytes() != data:
            raise SystemExit(f"{path} is there and differs: vectors are not replaced")
        return
    path.write_bytes(data)
    print(f"{path.relative_to(HERE)}: {len(data)} bytes")


def main() -> None:
    """Write both folders."""
    expected = {}
    for name, (model, data) in unusual().items():
        put(HERE / "unusual" / f"{name}.tac", data)
        expected[f"{name}.tac"] = {"model": model, "frames": describe(model, data)}
    for file, value in (("expected.json", expected), ("tables.json", TABLES)):
        put(HERE / "unusual" / file, (json.dumps(value, separators=(",", ":")) + "\n").encode())
    for name, data in faulty().items():
        put(HERE / "faulty" / f"{name}.tac", data)


if __name__ == "__main__":
    main()
