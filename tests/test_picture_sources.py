"""The door for pictures: every form that a caller may have in hand, and the colour behind them."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_picture import NOISE, PICTURE, encode

from tactic_codec import load_model
from tactic_codec.container import parse
from tactic_codec.errors import NotATacFile, Truncated, UnsupportedImage
from tactic_codec.picture import (
    ImageWarning,
    colour_of,
    load,
    to_pillow,
)
from tactic_codec.picture.formats import kind_of

pytestmark = pytest.mark.filterwarnings("error")

TINY = Path(__file__).parent / "models" / "tiny"
PNG = encode(PICTURE, "PNG")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ä picture.png"
    path.write_bytes(PNG)
    return path


def test_files_in_every_form(path: Path) -> None:
    class Like(os.PathLike[str]):
        def __fspath__(self) -> str:
            return str(path)

    forms = [str(path), path, Like(), PNG, bytearray(PNG), memoryview(PNG), io.BytesIO(PNG)]
    for form in forms:
        np.testing.assert_array_equal(load(form), PICTURE)
    with path.open("rb") as file:
        np.testing.assert_array_equal(load(file), PICTURE)
    with path.open("rb", buffering=0) as file:
        np.testing.assert_array_equal(load(file), PICTURE)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
def test_pillow_images(mode: str) -> None:
    image = Image.new(mode, (3, 2))
    assert load(image).shape == (2, 3, 3)


def test_arrays() -> None:
    assert load(PICTURE) is PICTURE
    grey = PICTURE[..., 0]
    thrice = np.stack([grey] * 3, -1)
    np.testing.assert_array_equal(load(grey), thrice)
    np.testing.assert_array_equal(load(grey[..., np.newaxis]), thrice)
    np.testing.assert_array_equal(load(PICTURE.astype(np.uint16) * 257), PICTURE)
    for kind in (np.float16, np.float32, np.float64):
        np.testing.assert_array_equal(load((PICTURE / 255).astype(kind)), PICTURE)
    np.testing.assert_array_equal(load(PICTURE[::-1, ::2]), PICTURE[::-1, ::2])


def test_a_tensor_that_is_learned_with() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(PICTURE / np.float32(255)).requires_grad_()
    np.testing.assert_array_equal(load(tensor), PICTURE)


@pytest.mark.parametrize("highest", [100, 4095])
def test_an_array_of_16_bits_of_which_few_are_used(highest: int) -> None:
    with pytest.warns(ImageWarning, match=f"brightest sample is {highest} of 65535"):
        load(np.full((2, 2, 3), highest, np.uint16))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_alpha_of_arrays_is_laid_on_the_background(kind: Any) -> None:
    rgba = np.zeros((1, 2, 4), np.uint8)
    rgba[0, 1] = (1, 2, 3, 255)
    values = rgba / np.float32(255) if kind is np.float32 else rgba.astype(kind)
    values = values * 257 if kind is np.uint16 else values
    assert load(values).tolist() == [[[255] * 3, [1, 2, 3]]]
    assert load(values, background="#102030").tolist() == [[[16, 32, 48], [1, 2, 3]]]


def test_what_says_that_it_is_an_array() -> None:
    class Tensor:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return PICTURE

    np.testing.assert_array_equal(load(Tensor()), PICTURE)


@pytest.mark.parametrize(
    ("picture", "error", "found"),
    [
        (PICTURE.transpose(2, 0, 1), UnsupportedImage, r"channels first: .*\(1, 2, 0\)"),
        (PICTURE[np.newaxis], UnsupportedImage, "one picture at a time"),
        (np.zeros((4, 4, 2), np.uint8), UnsupportedImage, r"\[4, 4, 2\]"),
        (np.zeros((0, 4, 3), np.uint8), UnsupportedImage, "1 x 1"),
        (np.zeros(4, np.uint8), UnsupportedImage, r"\[4\]"),
        (PICTURE / 128, UnsupportedImage, "floats run from 0.0 to 1.6"),
        (PICTURE / 255 - 1, UnsupportedImage, "floats run from -1.0"),
        (np.full((2, 2), np.nan), UnsupportedImage, "floats run from nan"),
        (np.full((2, 2), np.inf), UnsupportedImage, "to inf"),
        (PICTURE.astype(int), TypeError, r"int64: .* \.astype\(numpy.uint8\)"),
        (PICTURE > 9, TypeError, "bool"),
        (np.array([["a"]]), TypeError, "<U1"),
        (None, TypeError, "a NoneType is no picture"),
        ([[1, 2], [3, 4]], TypeError, "a list is no picture"),
        (7, TypeError, "a int is no picture"),
        (io.StringIO("text"), TypeError, "opened as text: .* 'rb'"),
        (b"", UnsupportedImage, "empty"),
    ],
)  # fmt: skip
def test_what_is_not_taken(picture: Any, error: type[Exception], found: str) -> None:
    with pytest.raises(error, match=found):
        load(picture)


def test_the_codec_takes_them_all(path: Path) -> None:
    codec = load_model(TINY)
    codes = {
        bytes(parse(data).payload) if isinstance(data, bytes) else bytes(parse(bytes(data)).payload)
        for data in (codec.compress(form) for form in (str(path), PNG, to_pillow(PICTURE), PICTURE))
    }
    assert len(codes) == 1


# --- Background -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("#808080", (128, 128, 128)),
        ("#abc", (170, 187, 204)),
        (" grey ", (128, 128, 128)),
        ("rgb(1, 2, 3)", (1, 2, 3)),
        ("hsl(0, 100%, 50%)", (255, 0, 0)),
        ((1, 2, 3), (1, 2, 3)),
    ],
)
def test_colours(name: Any, expected: tuple[int, int, int]) -> None:
    assert colour_of(name) == expected
    logo = Image.new("RGBA", (1, 1), (255, 255, 255, 0))
    assert load(encode(logo, "PNG"), background=name).tolist() == [[list(expected)]]
    assert load(logo, background=name).tolist() == [[list(expected)]]


@pytest.mark.parametrize(
    "name",
    ["", "gray77", "#12345", "#11223344", (1, 2), (1, 2, 256), (0.5, 0.5, 0.5), (1, 2, 3, 4)],
)
def test_what_is_no_colour_is_refused_before_anything_is_read(name: Any) -> None:
    for read in (load, load):
        with pytest.raises(ValueError, match="is no opaque colour: a name as 'grey', '#808080'"):
            read(Path("/absent.png"), background=name)


def test_the_codec_lays_transparent_pixels_on_a_colour() -> None:
    codec = load_model(TINY)
    logo = Image.new("RGBA", (32, 32), (255, 255, 255, 0))
    assert codec.compress(logo) == codec.compress(Image.new("RGB", (32, 32), "white"))
    grey = codec.compress(Image.new("RGB", (32, 32), "#808080"))
    assert codec.compress(logo, background="#808080") == grey
    assert codec.compress(logo, background=(128, 128, 128)) == grey


# --- Kinds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (encode(PICTURE, "JPEG"), "a JPEG picture"),
        (PNG, "a PNG picture"),
        (encode(PICTURE, "AVIF"), "an AVIF picture"),
        (b"P7\nWIDTH 1\n", "a PNM picture"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIF picture"),
        (b"\xff\x0a\xfa\x1f", "a JPEG XL picture"),
        (b"\x89TA\x10", "a .tac file"),
        (b"%PDF-1.7", "a PDF document"),
        (b"hello", "text"),
        (b"\0\0\0\1\x67\x64\0\x28", "H.264 video"),
        (b"\0\0\1\x09\x10", "H.264 video"),
        (b"\0\0\0\1\x40\1\x0c\1", "H.265 video"),
        (b"\0\0\1\xba\x44", "MPEG video"),
        (b"G\x40\x11\x10" + bytes(184) + b"G\x40\0\x10" + bytes(64), "MPEG-TS video"),
        (b"G" * 256, "text"),
        (b"\xde\xad\xbe\xef\1", None),
        (b"", None),
    ],
)
def test_kinds(head: bytes, kind: str | None) -> None:
    assert kind_of(head[:256]) == kind


def test_a_tac_file_in_a_pictures_place_says_what_to_do() -> None:
    data = load_model(TINY).compress(NOISE)
    with pytest.raises(UnsupportedImage, match=r"a \.tac file, compressed already: .* decompress"):
        load(bytes(data))


def test_video_in_a_pictures_place_says_how_to_get_pictures() -> None:
    for head in (b"\0\0\0\1\x67\x64\0\x28", b"\0\0\0\x18ftypisom"):
        with pytest.raises(UnsupportedImage, match=r"-c:v mjpeg -f image2pipe.*--codec mjpeg"):
            load(head)


def test_a_file_that_stands_at_its_end_is_told_from_an_empty_one() -> None:
    stream = io.BytesIO(PNG)
    stream.read()
    with pytest.raises(UnsupportedImage, match=r"at its end .*seek\(0\)"):
        load(stream)
    with pytest.raises(Truncated, match=r"at its end .*seek\(0\)"):
        load_model(TINY).decompress(stream)
    with pytest.raises(UnsupportedImage, match="empty"):
        load(io.BytesIO())


def test_an_address_is_named_whole() -> None:
    for use in (load, load_model(TINY).decompress):
        with pytest.raises(FileNotFoundError, match="addresses are not opened") as caught:
            use("http://example.org/a.jpg")
        assert caught.value.filename == "http://example.org/a.jpg"


def test_a_mask_is_scaled_to_what_is_seen() -> None:
    with pytest.raises(TypeError, match=r"\.astype\(numpy\.uint8\) \* 255"):
        load(np.ones((4, 4), bool))


def test_what_is_no_frame_is_named() -> None:
    for data, kind in ((b"%PDF-1.7", "a PDF document"), (PNG, "a PNG picture"), (b"hi", "text")):
        with pytest.raises(NotATacFile, match=f"this is {kind}, and a .tac file was expected"):
            load_model(TINY).decompress(data)


def test_saving_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "none" / "x.tac"
    with pytest.raises(FileNotFoundError) as caught:
        load_model(TINY).compress(NOISE).save(path)
    assert caught.value.filename == str(path)
