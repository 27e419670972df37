"""YUV4MPEG2: uncompressed films, as ``ffmpeg -f yuv4mpegpipe`` writes them.

A header line, then frames: a line that begins with FRAME, and the planes Y, Cb, Cr. The header says
nothing of the colour matrix: that of BT.601 is taken, as ffmpeg does. Interlaced frames are read as
they are stored, both fields woven.
"""

import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from tactic_codec.errors import DamagedImage, LimitExceeded, UnsupportedImage
from tactic_codec.picture.forms import Pixels

MAGIC = b"YUV4MPEG2"
LINE_BYTES = 4096
"""A header line has fewer."""

MAX_SIDE = 9_999_999
"""Of a frame, in pixels."""

_KINDS = {"420": (2, 2), "422": (2, 1), "411": (4, 1), "444": (1, 1), "mono": (0, 0)}
_COLOURS = re.compile(r"(420|422|411|444|mono)(?:(jpeg|mpeg2|paldv)|p?(9|10|12|14|16))?")


class Header(NamedTuple):
    """What all frames of a film have in common.

    Attributes:
        width: of a frame, in pixels.
        height: likewise.
        step: pixels from one value of Cb and Cr to the next, across and down; 0 where none are.
        left: whether these values lie on the first of the pixels they are of, not between them.
        top: likewise, of rows.
        depth: bits of a value.
        full: whether values use their whole range; else 16 to 235, and 16 to 240, of 256.
    """

    width: int
    height: int
    step: tuple[int, int]
    left: bool
    top: bool
    depth: int
    full: bool

    @property
    def _shapes(self) -> list[tuple[int, int]]:
        across, down = self.step
        chroma = (-(-self.height // down), -(-self.width // across)) if across else None
        return [(self.height, self.width), *([chroma] * 2 if chroma else [])]

    @property
    def frame_bytes(self) -> int:
        """Of a frame's planes."""
        values = sum(height * width for height, width in self._shapes)
        return values * (2 if self.depth > 8 else 1)

    def pixels(self, planes: bytes | bytearray) -> Pixels:
        """Turn the planes of a frame, `frame_bytes` long, into sRGB."""
        values = np.frombuffer(planes, "<u2" if self.depth > 8 else np.uint8)
        luma, chroma = _tables(self.depth, self.full)
        bands, at = list[Image.Image](), 0
        for height, width in self._shapes:
            plane = values[at : at + height * width].reshape(height, width)
            at += plane.size
            # A value may have more bits than its depth allows.
            table = chroma if bands else luma
            bands.append(Image.fromarray(table[np.minimum(plane, len(table) - 1)]))
        if len(bands) == 1:
            return np.array(bands[0].convert("RGB"))
        bands[1:] = [self._spread(band) for band in bands[1:]]
        return np.array(Image.merge("YCbCr", bands).convert("RGB"))

    def _spread(self, band: Image.Image) -> Image.Image:
        """Scale a plane of Cb or Cr to the size of the frame, its values where they belong."""
        across, down = self.step
        if self.step == (1, 1):
            return band
        # Pillow takes a value for the middle of its pixels.
        x, y = (across - 1) / 2 / across * self.left, (down - 1) / 2 / down * self.top
        padded = Image.fromarray(np.pad(np.asarray(band), ((0, 1), (0, 1)), mode="edge"))
        box = (x, y, x + self.width / across, y + self.height / down)
        return padded.resize((self.width, self.height), Image.Resampling.BILINEAR, box=box)


def parse(line: bytes) -> Header:
    """Read a film's header line, without its end.

    Raises:
        DamagedImage: it names no size.
        LimitExceeded: it names a side of more than ``MAX_SIDE`` pixels.
        UnsupportedImage: colours of a kind that is not read.
    """
    fields = line.decode("latin-1").split(" ")[1:]
    named = {field[:1]: field[1:] for field in fields if field[:1] != "X"}
    size = re.fullmatch(r"(\d+)x(\d+)", f"{named.get('W')}x{named.get('H')}")
    width, height = map(int, size.groups()) if size else (0, 0)
    if not width or not height:
        raise DamagedImage("the YUV4MPEG2 header names no width and height: send the film again")
    if max(width, height) > MAX_SIDE:
        raise LimitExceeded(
            f"the YUV4MPEG2 header names a side of more than {MAX_SIDE} pixels: scale the film down"
        )
    colours = named.get("C", "420jpeg")
    found = _COLOURS.fullmatch(colours)
    if not found or (found[2] and found[1] != "420"):
        known = "420jpeg, 420mpeg2, 420paldv, 411, 422, 444, mono, and 420p10 and its like"
        raise UnsupportedImage(
            f"this YUV4MPEG2 film has colours {colours[:40]!r}, expected one of {known}:"
            " convert it, as ffmpeg does with -pix_fmt yuv420p"
        )
    between = found[1] == "420" and found[2] in (None, "jpeg") and not found[3]
    full = "XCOLORRANGE=FULL" in fields
    step, top, depth = _KINDS[found[1]], found[2] == "paldv", int(found[3] or 8)
    return Header(width, height, step, not between, top, depth, full)


def _tables(depth: int, full: bool) -> list[npt.NDArray[np.uint8]]:
    """What a value of Y, and of Cb or Cr, is on the scale 0 to 255, whose middle is 128."""
    values = np.arange(1 << depth, dtype=np.float32)
    if full:
        scale = 255 / ((1 << depth) - 1)
        luma, chroma = values * scale, (values - (1 << depth - 1)) * scale + 128
    else:
        values /= 1 << depth - 8
        luma, chroma = (values - 16) * (255 / 219), (values - 128) * (255 / 224) + 128
    return [np.rint(table).clip(0, 255).astype(np.uint8) for table in (luma, chroma)]
