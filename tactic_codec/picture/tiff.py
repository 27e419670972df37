"""TIFF: its directories, its end, and what Pillow reads wrongly of it."""

import itertools
import struct
from collections.abc import Iterator
from typing import Any

from PIL import Image

from tactic_codec.errors import UnsupportedImage
from tactic_codec.picture.window import Broken, Window

_NEW_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PLANES = 254, 256, 257, 258, 259, 284
_PHOTOMETRIC, _SAMPLE_FORMAT, MP_ENTRIES = 262, 339, 0xB002

_MORE = (330, 34665, 34853, 40965)  # tags whose values are places of directories
_DATA = ((273, 279), (324, 325), (513, 514))  # places and sizes: strips, tiles, a thumbnail
_READ = {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, MP_ENTRIES, *_MORE, *itertools.chain(*_DATA)}

_FORMS = {1: "B", 2: "B", 3: "H", 4: "I", 6: "B", 7: "B", 8: "H", 9: "I", 13: "I", 16: "Q", 17: "Q",
          18: "Q"}  # fmt: skip
"""How a value of each type of whole numbers is unpacked."""
_BYTES = {5: 8, 10: 8, 11: 4, 12: 8}
"""Of a value of the other types."""


def directories(window: Window) -> Iterator[tuple[dict[int, tuple[int, ...]], int]]:
    """Follow the directories of a TIFF (TIFF 6.0, 2; BigTIFF, too), or of an index made like one.

    Yields:
        Of each directory the values that are of use here, by tag, and the end of the last byte
        that the directories up to this one name.
    """
    window.need(16)
    data, order = window.data, order_of(window.data)
    big = data[2:4].strip(b"\0") == b"+"
    word, word_form, count_form = (8, "Q", "Q") if big else (4, "I", "H")

    def number(at: int, form: str) -> int:
        window.need(at + struct.calcsize(form))
        return int(struct.unpack_from(order + form, data, at)[0])

    end, spent, seen, ahead = 16, 0, {0}, [number(word, word_form)]
    while ahead:
        if (at := ahead.pop()) in seen:
            continue
        seen.add(at)
        first, step = at + struct.calcsize(count_form), 4 + 2 * word
        stop = first + number(at, count_form) * step
        ahead.append(number(stop, word_form))
        end = max(end, stop + word)
        values = dict[int, tuple[int, ...]]()
        for entry in range(first, stop, step):
            tag, kind, count = struct.unpack_from(f"{order}HH{word_form}", data, entry)
            letter = _FORMS.get(kind)
            size = struct.calcsize(letter) if letter else _BYTES.get(kind, 0)
            place = entry + 4 + word
            if size * count > word:
                place = number(place, word_form)
                window.need(place + size * count)
                end = max(end, place + size * count)
            spent += count if tag in _READ else 1
            if spent > end:  # each takes a byte or more
                raise Broken("the directories of this TIFF lie one over the other", end)
            if tag in _READ and letter:
                values[tag] = struct.unpack_from(f"{order}{count}{letter}", data, place)
        for tag in _MORE:
            ahead += values.get(tag, ())
        for places, sizes in _DATA:
            spans = zip(values.get(places, ()), values.get(sizes, ()), strict=False)
            end = max([end, *map(sum, spans)])
        yield values, end


def order_of(data: bytes | bytearray) -> str:
    """The order of bytes of a TIFF, as `struct` has it."""
    return "<" if data[:1] == b"I" else ">"


def end(window: Window) -> int:
    """Find the last byte that the directories name.

    Where they do not name the bytes of all pixels, only the end of the stream can be the end.
    """
    end = 16
    for values, end in directories(window):
        held = sum(sum(values.get(sizes, ())) for _, sizes in _DATA)
        (width, *_), (height, *_) = values.get(_WIDTH) or (0,), values.get(_HEIGHT) or (0,)
        row = (width * sum(values.get(_BITS, (1,))) + 7) // 8
        plain = values.get(_COMPRESSION, (1,)) == (1,)
        while width and height and held < (row * height if plain else 1):
            window.need(len(window.data) + 1)
        window.need(end)
    return end


# --- What Pillow reads ----------------------------------------------------------------------------

_REDUCED, _SEPARATE_PLANES, _PACKBITS, _SIGNED = 1, 2, 32773, 2
_IN_NATIVE_ORDER = {
    f"{kind}{order}{form}": f"{kind}N{form}"
    for kind, form in (("F;32", "F"), ("I;32", "S"), ("I;16", "S"))
    for order in ("B", "")
}
"""Pillow's names of samples that are floats or signed, of either order of bytes."""


def tag(image: Image.Image, number: int) -> int | None:
    """A tag, that of the first channel, or None; images of other files have none."""
    value = getattr(image, "tag_v2", {}).get(number)
    first = value[0] if isinstance(value, tuple) and value else value
    return first if isinstance(first, int) else None


def bits(image: Image.Image) -> int | None:
    """Of a sample; None where it is no TIFF."""
    return tag(image, _BITS)


def is_signed(image: Image.Image) -> bool:
    """Whether samples may be negative."""
    return tag(image, _SAMPLE_FORMAT) == _SIGNED


def white_is_zero(image: Image.Image) -> bool:
    """Whether the samples are of grey that is the darker the larger they are."""
    return tag(image, _PHOTOMETRIC) == 0


def prepare(image: Any) -> None:
    """Have Pillow read planes and the order of bytes as the file has them.

    Of uncompressed planes Pillow's own reader takes each sample for 8 bits, black for 0 and the
    machine's order of bytes. libtiff reads them well, and looks up for itself how they are
    compressed; Pillow leaves them to it where the tag says so. But what libtiff has read has the
    machine's order of bytes, which Pillow knows of unsigned integers alone.

    Raises:
        UnsupportedImage: the first page is no picture, or is one that Pillow reads wrongly.
    """
    if (tag(image, _NEW_SUBFILE_TYPE) or 0) & _REDUCED:
        raise UnsupportedImage(
            "the first page of this TIFF is only a thumbnail, as in a camera's raw file: develop it"
            " to PNG or JPEG first"
        )
    if tag(image, _PLANES) == _SEPARATE_PLANES:
        if image.mode in ("LA", "PA"):  # read wrongly by either way
            raise UnsupportedImage(
                "this TIFF has grey and alpha in separate planes: convert it to PNG first"
            )
        if tag(image, _COMPRESSION) in (None, 1):
            image.tag_v2[_COMPRESSION] = _PACKBITS
            image._setup()
    image.tile = [
        tile._replace(args=(_IN_NATIVE_ORDER.get(tile.args[0], tile.args[0]), *tile.args[1:]))
        if tile.codec_name == "libtiff"
        else tile
        for tile in image.tile
    ]
