"""WebP: its end, and metadata that are cut."""

import struct
from collections.abc import Iterator

from tactic_codec.picture.window import Window

_OF_PIXELS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP")


def end(window: Window) -> int:
    """Read the size that RIFF has in its header; sizes are even."""
    window.need(8)
    (size,) = struct.unpack_from("<I", window.data, 4)
    length: int = 8 + size + size % 2
    window.need(length)
    return length


def mended(data: bytes) -> Iterator[tuple[bytes, ...]]:
    """Leave out the metadata behind and before the pixels."""
    kept, at = b"WEBP", 12
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        to = at + 8 + size + size % 2
        kept += data[at:to] if kind in _OF_PIXELS else b""
        at = to
    yield (b"RIFF" + struct.pack("<I", len(kept)) + kept,)
