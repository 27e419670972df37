"""Many pictures in one stream: where each ends, what lies between them, and what is wrong."""

import io
import re
import time
import tracemalloc
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from tactic_codec.errors import DamagedImage, LimitExceeded, TacError, UnsupportedImage
from tactic_codec.picture import load, streams
from tactic_codec.picture.streams import Found, pictures, several


def pixels(number: int, width: int = 24, height: int = 17) -> Image.Image:
    random = np.random.default_rng(number)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))


def encoded(number: int, kind: str, width: int = 24, height: int = 17, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pixels(number, width, height).save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(number: int, width: int = 24, **options: Any) -> bytes:
    return encoded(number, "JPEG", width, **options)


def plain(number: int) -> bytes:
    values = np.asarray(pixels(number, 5, 3)).reshape(-1)
    return b"P3\n5 3\n255\n" + b" ".join(b"%d" % value for value in values) + b"\n"


KINDS: dict[str, Callable[[int], bytes]] = {
    "JPEG": jpeg,
    "progressive JPEG": lambda n: jpeg(n, progressive=True),
    "PNG": lambda n: encoded(n, "PNG"),
    "WebP": lambda n: encoded(n, "WEBP", lossless=True),
    "BMP": lambda n: encoded(n, "BMP"),
    "PPM": lambda n: encoded(n, "PPM"),
    "PGM": lambda n: b"P5 # a comment\n3 2\n255\n" + bytes(range(6 * n, 6 * n + 6)),
    "PGM of 16 bits": lambda n: b"P5 3 2 65535\n" + bytes(range(99 + n, 111 + n)),
    "PBM": lambda n: b"P4\n9 2\n" + bytes([n, 0, n, 0]),
    "PAM": lambda n: (
        b"P7\nWIDTH 2\nHEIGHT 3\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n"
        + bytes(range(n, n + 24))
    ),
    "PAM of 16 bits": lambda n: (
        b"P7\n# a comment\nWIDTH 2\nHEIGHT 1\nDEPTH 1\nMAXVAL 65535\nENDHDR\n" + bytes([255, n] * 2)
    ),
    "TIFF": lambda n: encoded(n, "TIFF"),
    "TIFF whose directory stands at its end": lambda n: encoded(n, "TIFF", compression="tiff_lzw"),
    "BigTIFF": lambda n: encoded(n, "TIFF", big_tiff=True),
    "one pixel": lambda n: b"P5 1 1 9\n%d" % n,
}
SOON = list(KINDS)
KINDS |= {
    "plain PPM": plain,
    "plain PPM with comments": lambda n: plain(n).replace(b"255\n", b"255\n1 # is red\n#2\n", 1)[
        :-3
    ],
    "GIF": lambda n: encoded(n, "GIF"),
    "QOI": lambda n: encoded(n, "QOI"),
    "JPEG 2000": lambda n: encoded(n, "JPEG2000"),
}
if features.check("avif"):
    KINDS["AVIF"] = lambda n: encoded(n, "AVIF")


class Pieces(io.RawIOBase):
    """A stream that hands over what it is made of, piece by piece, and counts."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        if self.given == len(self.pieces):
            return b""
        self.given += 1
        return self.pieces[self.given - 1]


def found(data: bytes, **options: Any) -> list[Found]:
    """All that is found, which must not depend on how the bytes come."""
    whole = list(pictures(io.BytesIO(data), **options))
    for step in (1, 61):
        pieces = [data[at : at + step] for at in range(0, len(data), step)]
        again = list(pictures(Pieces(pieces), **options))
        assert list(map(told, again)) == list(map(told, whole))
    return whole


def told(item: Found) -> tuple[Any, ...]:
    return item.number, bytes(item.data), item.header, repr(item.problem), item.warning


def good(items: list[Found]) -> list[bytes]:
    return [bytes(item.data) for item in items if item.data and not item.problem]


def errors(items: list[Found]) -> dict[int, str]:
    """What `pixels` raises, by number."""
    raised = {}
    for item in items:
        if not item.warning:
            try:
                item.read()
            except TacError as error:
                raised[item.number] = str(error)
    return raised


# --- Where pictures end ---------------------------------------------------------------------------


def test_a_header_is_damaged_or_cut_off_however_much_has_come() -> None:
    """The next picture begins before so many bytes have come that this can be no header."""
    good_one = b"P3 1 1 255\n1 2 3\n"
    items = found(b"P3 1 1 255" + 83 * b"3" + 3 * good_one)
    assert good(items) == 3 * [good_one]
    assert "cut off after 93 bytes" in repr(items[0].problem)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_one_behind_the_other(kind: str) -> None:
    files = [KINDS[kind](number) for number in (1, 2, 3)]
    items = found(b"".join(files))
    assert [item.number for item in items] == [1, 2, 3]
    assert good(items) == files
    for item, file in zip(items, files, strict=True):
        assert np.array_equal(item.read().pixels, load(file))


@pytest.mark.parametrize("kind", SOON)
def test_a_picture_is_found_when_its_last_byte_has_come(kind: str) -> None:
    files = [KINDS[kind](number) for number in (1, 2, 3)]
    stream = Pieces(files)
    for number, item in enumerate(pictures(stream), start=1):
        assert (item.number, bytes(item.data), stream.given) == (number, files[number - 1], number)


def test_kinds_may_change() -> None:
    files = [KINDS[kind](1) for kind in SOON]
    assert good(found(b"\r\n".join(files))) == files


def test_a_thumbnail_s_end_is_not_the_picture_s() -> None:
    thumbnail = jpeg(7, 16)
    file = jpeg(1)
    segment = b"Exif\0\0" + thumbnail
    with_one = file[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2) + segment + file[2:]
    assert good(found(with_one + jpeg(2))) == [with_one, jpeg(2)]


def test_markers_that_have_no_length_and_fill_bytes() -> None:
    file = jpeg(1, restart_marker_blocks=1)
    filled = file[:2] + b"\xff\xff\xff\x01\xff" + file[2:-2] + b"\xff\xff" + file[-2:]
    assert good(found(filled + jpeg(2))) == [filled, jpeg(2)]


@pytest.mark.parametrize("padding", [b"\0" * 3, b"\0" * 700, b"\xff" * 9, b"\r\n", b"\n" * 300])
def test_padding_is_passed_over_in_silence(padding: bytes) -> None:
    items = found(jpeg(1) + padding + encoded(2, "PNG") + padding + jpeg(3) + padding)
    assert [(item.number, item.warning) for item in items] == [(1, ""), (2, ""), (3, "")]
    assert not errors(items)


def test_no_more_is_held_than_a_picture() -> None:
    file = b"P6 600 600 255\n" + bytes(600 * 600 * 3)
    tracemalloc.start()
    try:
        count = sum(1 for _ in pictures(Pieces([file] * 50)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 50 and peak < 5 * len(file)


@pytest.mark.slow
def test_the_limit_is_of_a_picture_and_the_next_is_found() -> None:
    large, small = encoded(1, "BMP", 90, 90), encoded(2, "BMP")
    items = found(small + large + small, max_bytes=2000)
    assert good(items) == [small, small]
    assert isinstance(items[1].problem, LimitExceeded) and "2000 bytes" in errors(items)[2]
    endless = b"\xff\xd8\xff\xda\0\2" + bytes(50_000)
    (item,) = found(endless, max_bytes=2000)
    assert isinstance(item.problem, LimitExceeded)


def test_behind_a_picture_that_is_larger_than_what_is_searched_the_next_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "SEARCHED_BYTES", 1000)
    large = jpeg(1)[: jpeg(1).index(b"\xff\xda") + 14] + b"\x11" * 5000 + b"\xff\xd9"
    for file in (
        large,
        encoded(2, "BMP", 60, 30),
        encoded(3, "PNG", 60, 30),
        plain(4) * 9 + b"1 " * 3000,
    ):
        items = found(jpeg(5) + file + jpeg(6) + jpeg(7), max_bytes=3000)
        assert good(items)[-2:] == [jpeg(6), jpeg(7)]
        assert any(isinstance(item.problem, LimitExceeded) for item in items)


def test_a_stream_s_bytes_are_looked_at_a_few_times_and_held_once() -> None:
    """Of starts that may be long there are many: none is searched to its end for each of them."""
    header = jpeg(1)[: jpeg(1).index(b"\xff\xda") + 14]
    for data, problem in (
        (header + b"\0\1\1\1ftypavif\x11\x11\x11\x11" * 200_000, LimitExceeded),
        (b"\xff\xd8" + b"\xff" * 3_000_000, LimitExceeded),
        (encoded(1, "GIF") + b"\x11" * 3_000_000, LimitExceeded),
        (b"P3\n2 1\n255\n" + b"1 " * 1_500_000, LimitExceeded),
    ):
        stream = Pieces([data[at : at + 65536] for at in range(0, len(data), 65536)])
        tracemalloc.start()
        begun = time.process_time()
        try:
            items = list(pictures(stream, max_bytes=1_000_000))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert isinstance(items[0].problem, problem) and len(items) < 8
        assert peak < 2_500_000 and time.process_time() - begun < 5


def test_a_header_that_promises_too_much_is_refused_at_once() -> None:
    stream = Pieces([b"P6 999999999 999999999 255\n", jpeg(2)])
    first = next(pictures(stream))
    assert stream.given == 1 and isinstance(first.problem, LimitExceeded)


# --- What phones put behind a JPEG ----------------------------------------------------------------


def several_pictures() -> bytes:
    buffer = io.BytesIO()
    pixels(1).save(buffer, "MPO", save_all=True, append_images=[pixels(2, 16), pixels(3, 8)])
    return buffer.getvalue()


def test_what_a_jpeg_s_index_lists_is_no_picture_of_its_own() -> None:
    file = several_pictures()
    assert file.count(b"\xff\xd8\xff") == 3
    items = found(file + jpeg(4) + file)
    assert [item.number for item in items] == [1, 2, 3]
    assert not any(item.warning or item.problem for item in items)
    assert items[1].data == jpeg(4)


def test_an_index_whose_parts_were_cut_off_hides_no_picture() -> None:
    file = several_pictures()
    first = file[: file.index(b"\xff\xd9") + 2]
    assert len(good(found(first + jpeg(4, 64) + jpeg(5)))) == 3


def with_xmp(file: bytes, *lengths: int) -> bytes:
    items = "".join(f'<Container:Item Item:Length="{length}"/>' for length in (0, *lengths))
    segment = b"http://ns.adobe.com/xap/1.0/\0" + items.encode()
    return file[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2) + segment + file[2:]


def box(kind: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4) + kind + content


def film() -> bytes:
    """Of a moving photograph; a picture lies in it."""
    return box(b"ftyp", b"mp42\0\0\0\0isommp42") + box(b"mdat", jpeg(9)) + box(b"moov", bytes(40))


def test_gain_maps_and_films_of_android() -> None:
    gain = jpeg(8, 16)
    file = with_xmp(jpeg(1), len(gain), len(film())) + gain + film()
    items = found(file + jpeg(2))
    assert [item.number for item in items] == [1, 2]
    assert not any(item.warning or item.problem for item in items)


@pytest.mark.parametrize(
    "trailer",
    [
        film(),
        b"\0\0\x30\x0a\x10\0\0\0MotionPhoto_Data" + film() + b"SEFHk\0\0\0SEFT",
        b"\0\0\x01\x0a\x0e\0\0\0Image_UTC_Data1600000000SEFHk\0\0\0\1\0\0\0SEFT",
    ],
    ids=["film", "Samsung's film", "Samsung's notes"],
)
def test_usual_trailers_are_passed_over_in_silence(trailer: bytes) -> None:
    items = found(jpeg(1) + trailer + jpeg(2) + trailer)
    assert good(items) == [jpeg(1), jpeg(2)]
    assert not any(item.warning or item.problem for item in items)


def test_other_bytes_behind_a_jpeg_are_passed_over_with_a_warning() -> None:
    items = found(jpeg(1) + b"\x07junk\x08" * 100 + jpeg(2) + b"\x07junk")
    assert [(item.number, bool(item.warning)) for item in items] == [
        *((1, False), (1, True), (2, False), (2, True))
    ]
    assert "600 bytes" in items[1].warning and "5 bytes" in items[3].warning


# --- TIFF -----------------------------------------------------------------------------------------


def test_a_tiff_of_several_pages_is_one_picture() -> None:
    pages = encoded(1, "TIFF", save_all=True, append_images=[pixels(2), pixels(3)])
    items = found(pages + jpeg(2) + pages)
    unpadded = pages[: len(items[0].data)]
    assert not pages[len(unpadded) :].strip(b"\0")
    assert good(items) == [unpadded, jpeg(2), unpadded] and not any(x.warning for x in items)


def test_where_a_tiff_does_not_tell_its_end_that_is_said() -> None:
    file = encoded(1, "TIFF")
    entry = file.index(b"\x17\x01\x04\0")  # StripByteCounts
    told = int.from_bytes(file[entry + 8 : entry + 12], "little")
    short = file[: entry + 8] + (told - 1).to_bytes(4, "little") + file[entry + 12 :]
    beyond = file[: entry + 8] + (told + 9999).to_bytes(4, "little") + file[entry + 12 :]
    for file in (short, beyond):
        items = found(jpeg(1) + file + jpeg(3))
        assert [(item.number, bool(item.warning)) for item in items] == [
            *((1, False), (2, False), (2, True))
        ]
        assert np.array_equal(items[1].read().pixels, load(encoded(1, "TIFF")))
        assert f"all {len(file + jpeg(3))} bytes" in items[2].warning


def test_a_tiff_that_is_cut_off_is_an_error_with_its_number() -> None:
    items = found(jpeg(1) + encoded(2, "TIFF")[:-9])
    assert [item.number for item in items] == [1, 2, 2]
    assert "the stream ends within this TIFF" in errors(items)[2]


def test_directories_that_lie_one_over_the_other_cost_no_time() -> None:
    directory = b"\xff\xff" + b"\x11\x01\x04\0\xff\0\0\0\x08\0\0\0" * 0xFFFF + b"\x0a\0\0\0"
    start = time.monotonic()
    items = list(pictures(io.BytesIO(b"II*\0\x80\x3e\0\0" * 2000 + directory + jpeg(2))))
    assert time.monotonic() - start < 9
    assert good(items) == [jpeg(2)] and "one over the other" in errors(items)[1]


# --- What is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in SOON[:-1] if "TIFF" not in kind])
def test_a_picture_that_is_cut_off_at_the_end_is_an_error_with_its_number(kind: str) -> None:
    file = KINDS[kind](2)
    items = found(KINDS[kind](1) + file[: -max(3, len(file) // 9)])
    assert [item.number for item in items] == [1, 2]
    assert isinstance(items[1].problem, DamagedImage)
    assert list(errors(items)) == [2] and "the stream ends within this" in errors(items)[2]


def test_of_a_jpeg_the_end_marker_may_be_missing() -> None:
    items = found(jpeg(1)[:-2] + jpeg(2) + jpeg(3)[:-2])
    assert [item.number for item in items] == [1, 2, 3]
    for item, whole in zip(items, (jpeg(1), jpeg(2), jpeg(3)), strict=True):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert np.array_equal(item.read().pixels, load(whole))
        assert bool(said) == (item.number != 2)


@pytest.mark.parametrize("notes", [b"", b"the maker's notes"])
def test_a_damaged_segment_makes_no_picture_of_the_thumbnail(notes: bytes) -> None:
    thumbnail, file = jpeg(7, 16), jpeg(2)
    segment = b"Exif\0\0II*\0\x08\0\0\0" + bytes(18) + thumbnail + notes
    for length in (*range(0, 100, 7), *range(100, len(segment) + 3000, 61)):
        data = file[:2] + b"\xff\xe1" + length.to_bytes(2) + segment + file[2:]
        items = list(pictures(io.BytesIO(jpeg(1) + data + jpeg(3))))
        assert good(items) == [jpeg(1), jpeg(3)], length
        assert list(errors(items)) == [2], length


@pytest.mark.parametrize(
    "before", [b"Exif\0\0", b"eXIf", b"EXIF\x10\0\0\0", b"MPF\0", b"Nikon\0\x02\x10\0\0"]
)
def test_what_tells_notes_from_a_tiff_may_have_come_long_before(before: bytes) -> None:
    """Bytes that were searched in vain are dropped, but not what stands before the next start."""
    for count in (0, 90, *range((1 << 18) - 100, (1 << 18) - 70, 3)):
        notes = b"\x01" * count + before + encoded(1, "TIFF") + b"notes"
        damaged = b"\xff\xd8\xff\xe0\0\x01" + notes
        items = found(damaged) if count < 100 else list(pictures(io.BytesIO(damaged)))
        assert [bool(item.problem) for item in items] == [True], count


def test_a_thumbnail_that_was_taken_for_its_picture_is_an_error() -> None:
    thumbnail, file = jpeg(7, 16), jpeg(2)
    # The segment's length leads into the thumbnail, behind its first marker.
    data = file[:2] + b"\xff\xe1" + (10).to_bytes(2) + b"Exif\0\0II" + thumbnail[2:] + file[2:]
    items = found(jpeg(1) + data + jpeg(3))
    assert [item.number for item in items] == [1, 2, 2, 3]
    assert "segments of a JPEG" in str(items[2].problem) and items[3].data == jpeg(3)


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)


def test_a_png_within_a_png_s_metadata_is_no_picture_of_the_stream() -> None:
    file = encoded(1, "PNG")
    for inner in (encoded(2, "PNG"), encoded(2, "PNG") * 2, encoded(2, "PNG")[:50]):
        whole = file[:33] + chunk(b"prVw", inner) + file[33:]
        assert good(found(whole + file)) == [whole, file]
        damaged = whole.replace(b"prVw", b"prVx")
        items = found(jpeg(1) + damaged + jpeg(3) + file)
        assert good(items)[-2:] == [jpeg(3), file] and 2 in errors(items)
    lost = file[:33] + chunk(b"tEXt", bytes(99))[:50]
    assert good(found(lost + file + file)) == [file, file]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "BMP", "PPM"])
def test_a_picture_that_is_cut_off_in_the_middle_costs_no_other(kind: str) -> None:
    files = [KINDS[kind](number) for number in range(1, 6)]
    cut = files[1][: len(files[1]) * 2 // 3]
    items = found(files[0] + cut + b"".join(files[2:]))
    assert [item.number for item in items] == [1, 2, 3, 4, 5]
    assert good(items) == [files[0], *files[2:]]
    assert list(errors(items)) == [2]


@pytest.mark.parametrize(
    ("kind", "at", "to"),
    [
        ("PNG", 40, b"\x7f"),
        ("PNG", 44, b"\0"),
        ("JPEG", 2, b"\0"),
        ("JPEG", 3, b"\0"),
        ("JPEG", 4, b"\0\0"),
        ("WebP", 4, b"\xff\xff"),
        ("BMP", 2, b"\xff\xff\xff\x0f"),
        ("PPM", 3, b"x"),
    ],
)
def test_behind_a_damaged_header_the_next_is_found(kind: str, at: int, to: bytes) -> None:
    files = [KINDS[kind](number) for number in (1, 2, 3)]
    if kind == "PNG":
        at += files[1].index(b"IDAT") - 44
    spoilt = files[1][:at] + to + files[1][at + len(to) :]
    items = found(files[0] + spoilt + files[2])
    assert good(items) == [files[0], files[2]]
    assert list(errors(items)) == [2]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "PPM"])
def test_what_is_no_picture_is_named_and_the_next_is_found(kind: str) -> None:
    file = KINDS[kind]
    items = found(file(1) + b"%PDF-1.7\n" + bytes(range(1, 200)) * 3 + file(2) + b"PK\3\4rest")
    assert good(items) == [file(1), file(2)]
    assert "PDF document" in errors(items)[2] and "ZIP archive" in errors(items)[4]


def test_unknown_bytes_behind_a_png_are_an_error() -> None:
    items = found(encoded(1, "PNG") + b"\x07junk" + encoded(2, "PNG"))
    assert len(good(items)) == 2 and "unknown kind of file" in errors(items)[2]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b" \n", "holds no picture|text"),
        (b"%PDF-1.7\n" + bytes(99) + jpeg(1), "PDF document"),
        (film(), "film"),
        (b"\x89TAC" + bytes(99), ".tac file"),
        (b"hello " * 99, "text"),
        (bytes(5000), "nothing but zero bytes"),
        (b"--frame\r\nContent-Type: image/jpeg\r\n", "holds no picture"),
    ],
)
def test_a_stream_that_is_something_else_ends_at_once(data: bytes, words: str) -> None:
    (item,) = found(data)
    assert item.number == 0 and isinstance(item.problem, UnsupportedImage)
    assert any(word in str(item.problem) for word in words.split("|"))


def test_a_stream_that_is_joined_in_the_middle() -> None:
    items = found(jpeg(1, 200)[300:] + jpeg(2) + jpeg(3))
    assert good(items) == [jpeg(2), jpeg(3)] and list(errors(items)) == [1]


@pytest.mark.parametrize(
    "padding", [b"\r\n", b"\n", bytes(4), bytes(5000), *(b"\xff" * n for n in (1, 2, 3, 7))]
)
def test_padding_may_stand_before_the_first_picture(padding: bytes) -> None:
    items = found(padding + jpeg(1) + jpeg(2))
    assert good(items) == [jpeg(1), jpeg(2)] and len(items) == 2
    assert not several(io.BytesIO(padding))
    (nothing,) = found(padding)
    assert nothing.number == 0 and isinstance(nothing.problem, UnsupportedImage)


@pytest.mark.parametrize("text", [b"Starting camera...\n", b"A MIME preamble.\r\n" * 40])
@pytest.mark.parametrize("parts", [False, True])
def test_text_before_the_first_picture_costs_a_warning(text: bytes, parts: bool) -> None:
    files = [jpeg(1), jpeg(2)]
    items = found(text + b"".join(part(file, None) if parts else file for file in files))
    assert good(items) == files and [item.number for item in items] == [0, 1, 2]
    count = re.search(r"the (\d+) bytes before", items[0].warning)
    assert count and len(text.rstrip()) <= int(count[1]) <= len(text)


def test_parts_that_begin_with_an_empty_line() -> None:
    files = [jpeg(1), encoded(2, "PNG"), jpeg(3)]
    items = found(b"".join(b"\r\n" + part(file, len(file))[:-2] for file in files))
    assert good(items) == files and len(items) == 3


def test_what_holds_no_picture_for_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SEARCHED_BYTES", 5000)

    def endless() -> Iterator[bytes]:
        yield encoded(1, "PNG")
        while True:
            yield b"\x07junk" * 50

    class Endless(io.RawIOBase):
        pieces = endless()

        def read(self, size: int = -1) -> bytes:
            return next(self.pieces)

    items = list(pictures(Endless()))
    assert [item.number for item in items] == [1, 2, 3]
    assert "given up" in str(items[-1].problem)


def test_several() -> None:
    assert several(io.BytesIO(jpeg(1) + jpeg(2)))
    for data in (jpeg(1), several_pictures(), jpeg(1) + film(), jpeg(1) + b"junk", b"", b"text"):
        assert not several(io.BytesIO(data))


# --- multipart ------------------------------------------------------------------------------------


def part(file: bytes, length: int | None, end: bytes = b"\r\n", kind: str = "image/jpeg") -> bytes:
    lines = [b"--frame", b"Content-Type: " + kind.encode()]
    if length is not None:
        lines.append(b"Content-Length: %d" % length)
    return end.join([*lines, b"", file, b""])


HTTP = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=frame\r\n\r\n"


@pytest.mark.parametrize("http", [b"", HTTP])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("length", [lambda n: n, lambda n: None, lambda n: n - 9, lambda n: n + 99])
def test_multipart_whatever_its_lengths(
    http: bytes, end: bytes, length: Callable[[int], int | None]
) -> None:
    files = [jpeg(1), jpeg(2), encoded(3, "PNG")]
    data = http + b"".join(part(file, length(len(file)), end) for file in files)
    items = found(data + b"--frame--" + end)
    assert good(items) == files and not errors(items)
    assert not any(item.warning for item in items)


def test_multipart_is_live() -> None:
    parts = [part(jpeg(number), len(jpeg(number))) for number in (1, 2, 3)]
    stream = Pieces(parts)
    for number, item in enumerate(pictures(stream), start=1):
        assert (item.number, stream.given) == (number, number)


def test_multipart_of_what_does_not_tell_its_end() -> None:
    files = [encoded(number, "GIF") for number in (1, 2)]
    data = b"".join(part(file, len(file), kind="image/gif") for file in files)
    assert good(found(data + b"--frame--\r\n")) == files


def test_multipart_with_a_part_that_is_no_picture() -> None:
    note = b"the camera rests"
    data = part(jpeg(1), None) + part(note, len(note), kind="text/plain") + part(jpeg(2), None)
    items = found(data)
    assert good(items) == [jpeg(1), jpeg(2)] and len(errors(items)) <= 1


@pytest.mark.slow
def test_multipart_headers_without_end() -> None:
    for line in (b"X-Filler: " + b"x" * 30_000, b"X-Filler: y\r\n" * 3000):
        data = part(jpeg(1), None) + b"--frame\r\n" + line + b"\r\n\r\n" + jpeg(2)
        items = found(data)
        assert good(items) == [jpeg(1), jpeg(2)]
        assert "16384 bytes" in errors(items)[2]


def test_http_in_chunks_is_one_clear_error() -> None:
    header = HTTP.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    body = part(jpeg(1), None) + part(jpeg(2), None)
    sent = b"".join(b"%x\r\n%b\r\n" % (99, body[at : at + 99]) for at in range(0, len(body), 99))
    (item,) = found(header + sent)
    assert "HTTP in chunks" in str(item.problem) and "--raw" in str(item.problem)


def test_what_begins_like_multipart_and_is_not() -> None:
    for kind in ("JPEG", "PNG"):
        items = found(KINDS[kind](1) + b"--\x80\x81" + bytes(range(128, 200)) + KINDS[kind](2))
        assert good(items) == [KINDS[kind](1), KINDS[kind](2)]
    assert len(found(b"--\x80" * 9)) == 1


def test_multipart_with_a_picture_that_is_cut_off() -> None:
    data = part(jpeg(1), None) + part(jpeg(2)[:-200], None) + part(jpeg(3), None)
    items = found(data)
    assert good(items) == [jpeg(1), jpeg(3)] and list(errors(items)) == [2]


# --- YUV4MPEG2 ------------------------------------------------------------------------------------

RED = {False: (81, 90, 240), True: (76, 85, 255)}  # in BT.601, by whether the range is full
STEPS = {"420": (2, 2), "422": (2, 1), "411": (4, 1), "444": (1, 1)}


def y4m(colours: str, width: int, height: int, frames: int = 2, extra: str = "") -> bytes:
    """A film of red; grey where there are no colours."""
    full = "FULL" in extra
    name = colours.removeprefix("C")
    digits = re.search(r"(?<=p|o)\d+$", name)
    depth = int(digits[0]) if digits else 8
    across, down = STEPS.get(name[:3], (0, 0)) if name else (2, 2)
    scale = ((1 << depth) - 1) / 255 if full else 1 << depth - 8
    kind = "<u2" if depth > 8 else "u1"
    shapes = [(height, width)]
    if across:
        shapes += [(-(-height // down), -(-width // across))] * 2
    planes = b"".join(
        np.full(shape, round(value * scale), kind).tobytes()
        for shape, value in zip(shapes, RED[full], strict=False)
    )
    header = f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 {colours} {extra}".strip()
    return header.encode() + b"\n" + (b"FRAME\n" + planes) * frames


@pytest.mark.parametrize("extra", ["", "XYSCSS=X", "XCOLORRANGE=FULL", "XCOLORRANGE=LIMITED"])
@pytest.mark.parametrize(("width", "height"), [(16, 8), (17, 9), (1, 1), (5, 2)])
@pytest.mark.parametrize(
    "colours",
    [
        *("", "C420", "C420jpeg", "C420mpeg2", "C420paldv", "C411", "C422", "C444"),
        *("C420p10", "C422p12", "C444p16", "C420p14", "Cmono", "Cmono10", "Cmono16"),
    ],
)
def test_y4m(colours: str, width: int, height: int, extra: str) -> None:
    items = list(pictures(io.BytesIO(y4m(colours, width, height, 3, extra))))
    assert [item.number for item in items] == [1, 2, 3]
    expected = (76, 76, 76) if "mono" in colours else (255, 0, 0)
    for item in items:
        frame = item.read().pixels
        assert frame.shape == (height, width, 3)
        assert np.abs(frame.astype(int) - expected).max() <= 3


@pytest.mark.parametrize("colours", ["C420jpeg", "C420mpeg2", "C422", "C411"])
def test_y4m_has_its_colours_where_they_belong(colours: str) -> None:
    """A ramp of colour stays straight above the ramp of pixels that it was taken from."""
    across, down = STEPS[colours[1:4]]
    centre = (across - 1) / 2 if colours == "C420jpeg" else 0
    luma = np.full((4, 64), 128, np.uint8)
    chroma = np.rint(64 + 2 * (np.arange(64 // across) * across + centre)).astype(np.uint8)
    plane = np.tile(chroma, (4 // down, 1)).tobytes()
    header = f"YUV4MPEG2 W64 H4 {colours} XCOLORRANGE=FULL\nFRAME\n".encode()
    (item,) = pictures(io.BytesIO(header + luma.tobytes() + plane + bytes(plane)))
    blue = item.read().pixels[1, 8:-8, 2].astype(float)
    ideal = 128 + 1.772 * (64 + 2 * np.arange(8, 56) - 128)
    inside = (ideal > 8) & (ideal < 247)
    assert np.abs(blue - ideal)[inside].max() < 2.5


def test_y4m_whose_header_ends_as_on_windows() -> None:
    items = found(y4m("C444", 8, 8).replace(b"\n", b"\r\n", 1))
    assert len(good(items)) == 2 == len(items)


def test_a_frame_of_y4m_that_lost_bytes_costs_no_other() -> None:
    film = y4m("C444", 8, 8, 4)
    at = film.index(b"FRAME", film.index(b"FRAME") + 1) + 50
    items = found(film[:at] + film[at + 20 :])
    assert len(good(items)) == 3 and list(errors(items)) == [2]


def test_y4m_interlaced_frames_with_parameters_and_films_in_a_row() -> None:
    film = y4m("C420mpeg2", 8, 4).replace(b" Ip ", b" Im ").replace(b"FRAME\n", b"FRAME Itp\n")
    items = found(film + y4m("C444", 6, 6) + jpeg(1) + jpeg(2))
    assert [item.read().pixels.shape[1] for item in items] == [8, 8, 6, 6, 24, 24]


@pytest.mark.parametrize("header", ["C410", "C444alpha", "C420p11", "Cmonojpeg", "C"])
def test_y4m_of_other_colours_is_refused_by_name(header: str) -> None:
    items = found(f"YUV4MPEG2 W8 H4 {header}\n".encode() + b"FRAME\n" + bytes(48) + jpeg(1))
    assert isinstance(items[0].problem, UnsupportedImage)
    assert header[1:] in errors(items)[1] and "-pix_fmt" in errors(items)[1]
    assert good(items) == [jpeg(1)]


@pytest.mark.parametrize("header", ["W8", "W0 H4", "W-8 H4", "Wx Hy", "W8 H4" + " Xcomment" * 1000])
def test_y4m_headers_that_are_damaged(header: str) -> None:
    items = found(f"YUV4MPEG2 {header}\n".encode() + b"FRAME\n" + bytes(48) + jpeg(1))
    assert isinstance(items[0].problem, DamagedImage)
    assert good(items) == [jpeg(1)]


@pytest.mark.parametrize("size", ["W99999999 H1", "W1 H10000000", f"W8 H{'9' * 3000}"])
def test_y4m_of_sides_that_are_too_long(size: str) -> None:
    items = found(f"YUV4MPEG2 {size}\n".encode() + b"FRAME\n" + bytes(48) + jpeg(1))
    assert isinstance(items[0].problem, LimitExceeded)
    assert "a side of more than 9999999 pixels" in errors(items)[1]
    assert good(items) == [jpeg(1)]


def test_y4m_that_is_damaged_or_cut_off() -> None:
    film = y4m("C444", 8, 8, 4)
    frame = 6 + 192
    cut = film[: -4 * frame + 100] + film[-3 * frame :]
    items = found(cut)
    assert len(good(items)) >= 2 and list(errors(items))
    (*whole, last) = found(film[:-1])
    assert len(whole) == 3 and "the stream ends within this YUV4MPEG2 frame" in errors([last])[4]
    (item,) = found(b"YUV4MPEG2 W9999999 H9999999\nFRAME\n" + bytes(99))
    assert isinstance(item.problem, LimitExceeded)
    with pytest.raises(LimitExceeded, match="8 x 8 = 64 pixels"):
        found(film)[0].read(63)
