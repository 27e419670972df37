"""Decoded photographs in one file each part, memory-mapped, so that a training step never waits.

NAME.u8     pixels of all photographs, one behind the other, uint8 RGB in rows
NAME.json   of each photograph its name, height, width, and the range of scales of its crops
"""

import json
import math
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from PIL import Image

from tactic_codec.errors import DataError
from tactic_codec.picture import Pixels

PIXELS, INDEX = ".u8", ".json"


class Entry(NamedTuple):
    """One photograph of a shard."""

    name: str
    height: int
    width: int
    scales: tuple[float, float]  # that its crops may be scaled by

    @property
    def bytes(self) -> int:
        """Length of its pixels."""
        return 3 * self.height * self.width


class ShardWriter:
    """Writes a shard; the index comes last, so that a shard without one is not finished."""

    def __init__(self, stem: Path) -> None:
        self._stem = stem
        self._entries: list[Entry] = []

    def __enter__(self) -> "ShardWriter":
        self._stem.with_suffix(INDEX).unlink(missing_ok=True)
        self._file = self._stem.with_suffix(PIXELS).open("wb")
        return self

    def add(self, name: str, pixels: Pixels, scales: tuple[float, float]) -> None:
        """Append a photograph, uint8 [H, W, 3]."""
        height, width, _ = pixels.shape
        self._file.write(np.ascontiguousarray(pixels).data)
        self._entries.append(Entry(name, height, width, scales))

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        self._file.close()
        if exc is None:
            self._stem.with_suffix(INDEX).write_text(json.dumps(self._entries), encoding="utf-8")


class Shard:
    """The photographs of a shard.

    Raises:
        DataError: it is missing or unfinished, or its two files contradict each other.
    """

    def __init__(self, stem: Path) -> None:
        try:
            rows = json.loads(stem.with_suffix(INDEX).read_text(encoding="utf-8"))
            self.entries = [Entry(n, h, w, (low, high)) for n, h, w, (low, high) in rows]
            self._pixels = np.memmap(stem.with_suffix(PIXELS), np.uint8, mode="r")
        except (OSError, ValueError, TypeError) as exc:
            raise DataError(f"{stem} is no finished shard of photographs: {exc}") from exc
        ends = np.cumsum([entry.bytes for entry in self.entries], dtype=np.int64)
        if not len(ends) or ends[-1] != len(self._pixels):
            raise DataError(f"{stem}: index and pixels contradict each other; make it again")
        self._starts = np.concatenate([[0], ends[:-1]])

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, number: int) -> Pixels:
        """Return a photograph's pixels, a view of the file."""
        entry = self.entries[number]
        start = self._starts[number]
        pixels: Pixels = self._pixels[start : start + entry.bytes].reshape(
            entry.height, entry.width, 3
        )
        return pixels


class Photograph(NamedTuple):
    """One photograph of a shard."""

    shard: Shard
    number: int

    @property
    def pixels(self) -> Pixels:
        """Its pixels, uint8 [H, W, 3]."""
        return self.shard[self.number]


def crop(photograph: Photograph, size: int, random: np.random.Generator) -> Image.Image:
    """Return a square of a photograph at a scale that its entry allows, see `square_at`."""
    scales = photograph.shard.entries[photograph.number].scales
    return square_at(scales, photograph.pixels, size, random)


def square_at(
    scales: tuple[float, float], pixels: Pixels, size: int, random: np.random.Generator
) -> Image.Image:
    """Draw a scale and a place, and return a square of ``size`` pixels, flipped half of the time.

    Scales are drawn evenly in their logarithm from the range; a square that would not fit is taken
    at the smallest scale at which it does.
    """
    height, width, _ = pixels.shape
    low, high = (math.log(scale) for scale in scales)
    scale = max(math.exp(random.uniform(low, high)), size / min(height, width))
    side = min(size / scale, height, width)  # which rounding may have passed
    left = random.uniform(0, width - side)
    top = random.uniform(0, height - side)
    flip = random.random() < 0.5
    # Only what the filter reads is copied out of the file.
    rim = math.ceil(3 / min(scale, 1.0))
    x0, y0 = max(0, math.floor(left) - rim), max(0, math.floor(top) - rim)
    x1, y1 = math.ceil(left + side) + rim, math.ceil(top + side) + rim
    block = Image.fromarray(np.ascontiguousarray(pixels[y0:y1, x0:x1]))
    box = (left - x0, top - y0, left - x0 + side, top - y0 + side)
    square = block.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else square
