"""Netpbm's binary rasters: PGM (P5), PPM (P6) and PAM (P7), of 8 and 16 bits.

Pillow knows no PAM, and of the other two it decodes all but 8 bits value by value, in Python.
"""

import re
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from tactic_codec.errors import UnsupportedImage
from tactic_codec.picture.forms import warn_of_darkness

_MODES = {
    (b"", 1): "L",
    (b"", 2): "LA",
    (b"", 3): "RGB",
    (b"", 4): "RGBA",
    (b"BLACKANDWHITE", 1): "L",
    (b"GRAYSCALE", 1): "L",
    (b"BLACKANDWHITE_ALPHA", 2): "LA",
    (b"GRAYSCALE_ALPHA", 2): "LA",
    (b"RGB", 3): "RGB",
    (b"RGB_ALPHA", 4): "RGBA",
    (b"CMYK", 4): "CMYK",
}
"""By tuple type, which may be missing, and depth."""

_LONGEST_LINE = 1 << 12
_MOST_LINES = 1 << 8
"""Of a header, comments included."""


class NetpbmFile(ImageFile.ImageFile):
    """A picture whose header is read and whose pixels are not yet."""

    format = "PNM"

    def _open(self) -> None:
        assert self.fp is not None
        magic = self.fp.read(2)
        fields = self._pam_fields() if magic == b"P7" else self._pnm_fields()
        depth = {b"P5": 1, b"P6": 3}.get(magic) or int(fields.get(b"DEPTH", 0))
        self._size = int(fields[b"WIDTH"]), int(fields[b"HEIGHT"])
        self._maxval = int(fields[b"MAXVAL"])
        kind = (fields.get(b"TUPLTYPE", b""), depth)
        if not 0 < self._maxval < 65536:
            raise SyntaxError(f"its largest value is {self._maxval}, not 1 to 65535")
        if min(self._size) < 0:
            raise SyntaxError("its size is negative")
        if kind not in _MODES:
            name = kind[0].decode("ascii", "replace")
            raise UnsupportedImage(
                f"the PAM picture has tuples of type {name!r} and depth {depth}: grey, RGB or CMYK"
                " was expected, of depth 1 to 4"
            )
        self._mode = _MODES[kind]
        # The first is for Pillow, which takes an image without tiles for one without a file.
        self.tile = [ImageFile._Tile("raw", (0, 0, *self.size), self.fp.tell(), None)]

    def _line(self) -> bytes:
        assert self.fp is not None
        line = self.fp.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise SyntaxError("its header is cut")
        return line

    def _pam_fields(self) -> dict[bytes, bytes]:
        fields: dict[bytes, bytes] = {}
        for _ in range(_MOST_LINES):
            words = self._line().split(None, 1)
            if words[:1] == [b"ENDHDR"]:
                return fields
            if len(words) == 2 and not words[0].startswith(b"#"):
                fields[words[0]] = words[1].strip()
        raise SyntaxError("its header does not end")

    def _pnm_fields(self) -> dict[bytes, bytes]:
        """Three numbers between white space and comments, then one white space."""
        assert self.fp is not None
        start = self.fp.tell()
        head = self.fp.read(_LONGEST_LINE)
        found = re.match(rb"(?:\s|#[^\r\n]*+)++(\d{1,10})" * 3 + rb"\s", head)
        if found is None:
            raise SyntaxError("its header is cut or has no three numbers")
        self.fp.seek(start + found.end())
        return dict(zip((b"WIDTH", b"HEIGHT", b"MAXVAL"), found.groups(), strict=True))

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
