"""PNG: its chunks, its end, and damage that Pillow does not see."""

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from tactic_codec.errors import DamagedImage
from tactic_codec.picture.window import Begins, Broken, Window, as_far_as_whole

SIGNATURE = b"\x89PNG\r\n\x1a\n"
DEPTH = 24
"""Where the bits a channel stand, in the header that begins every PNG."""

_OF_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_INFLATED_AT_ONCE = 1 << 20
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2))  # fmt: skip
"""First column and row, and steps, of each pass of an interlaced PNG (PNG 3rd edition, 8.1)."""


def chunks(window: Window) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the data of each chunk; these need not have come yet."""
    at, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        window.need(at + 8)
        length, kind = struct.unpack_from(">I4s", window.data, at)
        if not (kind.isalpha() and kind.isascii()) or length >= 1 << 31:
            raise Broken("a chunk of this PNG is damaged", at)
        yield kind, at + 8, at + 8 + length
        at += 12 + length


def end(window: Window) -> int:
    """Find the end of IEND.

    A PNG that begins within a chunk is the next one, unless the chunk is metadata and whole.
    """
    to = 0
    for kind, at, to in chunks(window):
        other = None
        while True:
            try:
                window.need(to + 4)
                break
            except Begins as error:
                if kind[:1].isupper():
                    raise
                other = other or error
            except EOFError:
                raise other or EOFError from None
        if other and not _is_right(window.data, at, to):
            raise other
    return to + 4


def examine(data: bytes) -> dict[Any, Any]:
    """Return what is to be known beside the pixels: "bits", and "cicp" where it is said.

    Raises:
        DamagedImage: a checksum of the pixels is wrong, which Pillow does not look at.
    """
    said: dict[Any, Any] = {"bits": data[DEPTH]}
    pixels = False
    for kind, at, to in as_far_as_whole(chunks, data):
        pixels |= kind == b"IDAT"
        if kind == b"IDAT" and to + 4 <= len(data) and not _is_right(data, at, to):
            raise DamagedImage("a checksum of the PNG's pixels is wrong: fetch it again")
        if kind == b"cICP" and to - at == 4 and not pixels:
            said["cicp"] = tuple(data[at:to])
    return said


def finish(image: Image.Image, data: bytes) -> None:
    """Refuse rows that end early, which Pillow leaves at 0 without a word, and mend ``info``.

    The rows are counted only where the last one is empty: that means to inflate all once more.
    """
    last = image.crop((0, image.height - 1, image.width, image.height))
    seems_whole = np.asarray(last).any() and not image.info.get("interlace")
    if not seems_whole and not _has_all_rows(data):
        raise DamagedImage("the PNG's rows end early: fetch it again")
    if "cicp" in image.info:  # goes before a profile, in PNG alone
        image.info.pop("icc_profile", None)
    # The transparent colour has not the scale of the pixels. Of colours of 16 bits Pillow keeps
    # the upper 8, so no more can be compared.
    bits, transparent = image.info["bits"], image.info.get("transparency")
    if isinstance(transparent, int) and bits in (2, 4):
        image.info["transparency"] = transparent * 255 // ((1 << bits) - 1)
    elif isinstance(transparent, tuple) and bits == 16:
        image.info["transparency"] = tuple(value >> 8 for value in transparent)


def mended(data: bytes) -> Iterator[tuple[bytes, ...]]:
    """Leave out ancillary chunks whose checksum is wrong, then all but those of the pixels."""
    found = [*as_far_as_whole(chunks, data)]
    for only_pixels in (False, True):
        kept = [
            data[at - 8 : to + 4]
            for kind, at, to in found
            if kind in _OF_PIXELS or (not only_pixels and _is_right(data, at, to))
        ]
        yield (SIGNATURE + b"".join(kept),)


def _is_right(data: bytes | bytearray, at: int, to: int) -> bool:
    """Whether a chunk has the checksum that stands behind it."""
    return zlib.crc32(data[at - 4 : to]).to_bytes(4, "big") == data[to : to + 4]


def _has_all_rows(data: bytes) -> bool:
    """Whether the zlib stream of the pixels is as long as the header says, or longer."""
    width, height, bits, colours, interlaced = struct.unpack_from(">IIBBxxB", data, 16)
    bits *= {2: 3, 4: 2, 6: 4}.get(colours, 1)
    missing = 0
    for x, y, step_x, step_y in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -((x - width) // step_x), -((y - height) // step_y)
        missing += rows * (1 + (columns * bits + 7) // 8) if columns > 0 < rows else 0
    inflate = zlib.decompressobj()
    for kind, at, to in as_far_as_whole(chunks, data):
        rest = data[at:to] if kind == b"IDAT" else b""
        while rest and missing > 0:
            missing -= len(inflate.decompress(rest, _INFLATED_AT_ONCE))
            rest = inflate.unconsumed_tail
    return missing - len(inflate.flush()) <= 0
