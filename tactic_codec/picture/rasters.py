"""Rasters: the ends of BMP and Netpbm's, and the pixels of PGM (P5), PPM (P6) and PAM (P7).

Pillow knows no PAM, and of the other two it decodes all but 8 bits value by value, in Python.
"""

import re
import struct
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from PIL import Image, ImageFile

from tactic_codec.errors import UnsupportedImage
from tactic_codec.picture.forms import warn_of_darkness
from tactic_codec.picture.window import Broken, Window

_MODES = {
    b"RGB": "RGB",
    b"RGB_ALPHA": "RGBA",
    b"CMYK": "CMYK",
    **{kind: "L" for kind in (b"GRAYSCALE", b"BLACKANDWHITE")},
    **{kind: "LA" for kind in (b"GRAYSCALE_ALPHA", b"BLACKANDWHITE_ALPHA")},
}
"""By tuple type."""
_MODES_OF_DEPTH = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""Where no tuple type is told."""

_HEADER_BYTES = 1 << 13
_HEADER_BYTES_WITHOUT_COMMENTS = 1 << 7
_BLANK = rb"(?:\s|#[^\r\n]*+)++"
_PNM = re.compile(
    rb"P(?:[14]|([2356f]))"
    + 2 * (_BLANK + rb"(\d{1,9})")
    + rb"(?(1)%b([-+.\deE]{1,40}))\s" % _BLANK
)
_PAM = re.compile(rb"P7\n(?:.*\n)*?ENDHDR.*\n")
_FIELD = re.compile(rb"^(WIDTH|HEIGHT|DEPTH|MAXVAL|TUPLTYPE)\s+(\S{1,40})\s*$", re.MULTILINE)

_PLAIN = (b"P1", b"P2", b"P3")
_NO_RASTER = re.compile(rb"[^\d\s]")
_LINE_END = re.compile(rb"\n")


def end_of_bmp(window: Window) -> int:
    """Take the larger of the size that the header tells and of what the pixels need."""
    window.need(26)
    told, pixels, header = struct.unpack_from("<I4xII", window.data, 2)
    packed = 0
    if header == 12:
        width, height, _, depth = struct.unpack_from("<HHHH", window.data, 18)
    else:
        window.need(34)
        width, height, _, depth, packed = struct.unpack_from("<iiHHI", window.data, 18)
    rows = abs(height) * ((abs(width) * depth + 31) // 32 * 4) if packed in (0, 3, 6) else 0
    length: int = max(told, pixels + rows, 26)
    window.need(length)
    return length


class Header(NamedTuple):
    """What stands before the pixels, of which there are ``depth`` values up to ``top`` each."""

    magic: bytes
    width: int
    height: int
    depth: int
    top: int
    kind: bytes
    start: int


def header(window: Window) -> Header:
    """Read a header; Broken for one that does not end or is none."""
    data = window.data
    window.need(2)
    pam = data.startswith(b"P7")
    while not (found := (_PAM if pam else _PNM).match(data, 0, _HEADER_BYTES)):
        free = pam or b"#" in data[:_HEADER_BYTES_WITHOUT_COMMENTS]
        most = _HEADER_BYTES if free else _HEADER_BYTES_WITHOUT_COMMENTS
        if len(data) >= most:
            window.need(most)  # another picture may begin among what is held
            raise Broken("the header of this PNM is damaged", 2)
        window.need(len(data) + 1)
    magic = bytes(data[:2])
    if not pam:
        top = int(found[4]) if found[4] and found[4].isdigit() else 1
        depth = 3 if magic in (b"P3", b"P6") else 1
        return Header(magic, int(found[2]), int(found[3]), depth, top, b"", found.end())
    fields = {key: value for key, value in _FIELD.findall(found[0])}
    sizes = (fields.get(key, b"") for key in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL"))
    width, height, depth, top = (int(s) if s.isdigit() and len(s) < 10 else 0 for s in sizes)
    kind = fields.get(b"TUPLTYPE", b"")
    return Header(magic, width, height, depth, top, kind, found.end())


def end(window: Window) -> int:
    """Compute the end from the header; plain text ends where something else begins."""
    head = header(window)
    at = head.start
    if head.magic in _PLAIN:
        ends = _NO_RASTER, _LINE_END
        while True:
            found = ends[0].search(window.data, at)
            if not found:
                at = max(at, len(window.data))
                try:
                    window.need(at + 1)
                except EOFError:
                    return at
            elif ends[0] is _NO_RASTER and found[0] != b"#":
                window.need(found.start())
                return found.start()
            else:  # a comment begins or ends
                at, ends = found.end(), ends[::-1]
    row = head.width * head.depth * (2 if head.top > 255 else 1)
    row = {b"P4": -(-head.width // 8), b"Pf": 4 * head.width}.get(head.magic, row)
    window.need(at + row * head.height)
    return at + row * head.height


class NetpbmFile(ImageFile.ImageFile):
    """A picture whose header is read and whose pixels are not yet."""

    format = "PNM"

    def _open(self) -> None:
        try:
            head = header(Window(cast(BinaryIO, self.fp)))
        except (Broken, EOFError) as error:
            raise SyntaxError(str(error) or "its header is cut") from None
        self._size, self._maxval = (head.width, head.height), head.top
        if not 0 < self._maxval < 65536:
            raise SyntaxError(f"its largest value is {self._maxval}, not 1 to 65535")
        mode = _MODES.get(head.kind) if head.kind else _MODES_OF_DEPTH.get(head.depth)
        if not mode or Image.getmodebands(mode) != head.depth:
            name = head.kind.decode("ascii", "replace")
            raise UnsupportedImage(
                f"the PAM picture has tuples of type {name!r} and depth {head.depth}: grey, RGB or"
                " CMYK was expected, of depth 1 to 4"
            )
        self._mode = mode
        # The first is for Pillow, which takes an image without tiles for one without a file.
        self.tile = [ImageFile._Tile("raw", (0, 0, *self.size), head.start, None)]

    def load(self) -> Any:
        """Read the pixels and bring them to 8 bits."""
        if self.tile:
            assert self.fp is not None
            self.fp.seek(self.tile[0].offset)
            kind = np.dtype("u1" if self._maxval < 256 else ">u2")
            bands = Image.getmodebands(self.mode)
            count = self.width * self.height * bands
            data = self.fp.read(count * kind.itemsize)
            if len(data) < count * kind.itemsize:
                raise OSError(f"{len(data)} bytes of pixels, not {count * kind.itemsize}")
            if self._maxval != 255:
                values = np.frombuffer(data, kind)
                if self._maxval > 255:
                    warn_of_darkness(int(values.max()), self._maxval)
                every = np.arange(256**kind.itemsize)
                levels = np.minimum((2 * 255 * every + self._maxval) // (2 * self._maxval), 255)
                data = np.take(levels.astype(np.uint8), values).tobytes()
            self.im = Image.frombytes(self.mode, self.size, data).im
            self.tile = []
        return super().load()
