"""Every kind of picture, and every kind of non-picture, that people hand over.

All files are made in memory. Wherever a test does not expect an `ImageWarning`, warnings are
errors, so that one which Pillow leaks fails it.
"""

import contextlib
import io
import os
import stat
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from tactic_codec.errors import DamagedImage, LimitExceeded, TacError, UnsupportedImage
from tactic_codec.picture import (
    ImageWarning,
    Strips,
    format_of,
    load,
    load_labels,
    pieces,
    save,
    save_labels,
    to_pillow,
)

Pixels = npt.NDArray[np.uint8]

pytestmark = pytest.mark.filterwarnings("error")


def make_picture(height: int = 20, width: int = 30) -> Pixels:
    """Smooth, without symmetry, every channel different."""
    y, x = np.mgrid[:height, :width]
    channels = (200 * x // width + 20, 200 * y // height + 20, 100 * (x + y) // (height + width))
    return np.stack(channels, axis=-1).astype(np.uint8)


PICTURE = make_picture()


def encode(image: Image.Image | Pixels, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def largest_error(a: Pixels, b: Pixels) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b).max())


def one_pixel(mode: str, value: Any, **info: Any) -> Image.Image:
    image = Image.new(mode, (1, 1), value)
    image.info.update(info)
    return image


# --- Formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("JPEG", {"quality": 95, "subsampling": 0}, 6),
        ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}, 6),
        ("WEBP", {"lossless": True}, 0),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}, 6),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("TIFF", {"big_tiff": True}, 0),
        ("BMP", {}, 0),
        ("PPM", {}, 0),
        ("JPEG2000", {}, 0),
        ("JPEG2000", {"no_jp2": True}, 0),
        ("QOI", {}, 0),
    ],
)
def test_formats(format: str, options: dict[str, Any], tolerance: int) -> None:
    pixels = load(encode(PICTURE, format, **options))
    assert pixels.dtype == np.uint8 and pixels.flags.writeable and pixels.flags.c_contiguous
    assert largest_error(pixels, PICTURE) <= tolerance


def test_path_and_bytes_agree(tmp_path: Path) -> None:
    path = tmp_path / "wrongly named.gif"  # what counts is what is inside
    path.write_bytes(encode(PICTURE, "PNG"))
    np.testing.assert_array_equal(load(path), PICTURE)


def test_named_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(encode(PICTURE, "PNG"),))
    writer.start()
    np.testing.assert_array_equal(load(pipe), PICTURE)
    writer.join()


def test_a_stream_is_read_as_far_as_a_picture_may_go() -> None:
    data = encode(PICTURE, "PNG")
    np.testing.assert_array_equal(load(io.BytesIO(data)), PICTURE)

    class Endless(io.RawIOBase):
        taken = 0

        def read(self, size: int = -1) -> bytes:
            assert 0 <= size <= 1 << 20, "room for more is taken than there may be data"
            self.taken += size
            return (data + bytes(size))[:size]

    endless = Endless()
    with pytest.raises(LimitExceeded, match="more than 67109504 bytes, the most that a picture of"):
        load(endless, max_pixels=40)
    assert 67109505 <= endless.taken < 67109505 + (1 << 20)
    stranger = Endless()
    data = b"%PDF-1.4"
    with pytest.raises(UnsupportedImage, match="a PDF document"):
        load(stranger)
    assert stranger.taken == 256


def test_a_named_pipe_that_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), pipe.open("wb") as stream:
            while True:
                stream.write(b"y\n" * 4096)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    with pytest.raises(UnsupportedImage, match="this is text"):
        load(pipe)
    writer.join(10)
    assert not writer.is_alive()


def test_of_a_phones_multi_picture_file_the_first_is_read_without_a_warning() -> None:
    second = Image.fromarray(PICTURE[:8, :8])
    pixels = load(encode(PICTURE, "MPO", save_all=True, append_images=[second], quality=95))
    assert pixels.shape == PICTURE.shape


# --- Modes ----------------------------------------------------------------------------------------

PALETTE = [255, 0, 0, 0, 0, 255]


def paletted(**info: Any) -> Image.Image:
    image = one_pixel("P", 1, **info)
    image.putpalette(PALETTE)
    return image


def palette_with_alpha() -> Image.Image:
    image = Image.new("PA", (1, 1))
    image.putpalette(PALETTE)
    image.putpixel((0, 0), (1, 0))
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        pytest.param(one_pixel("1", 1), (255, 255, 255), id="1"),
        pytest.param(one_pixel("1", 0, transparency=0), (255, 255, 255), id="1, tRNS"),
        pytest.param(one_pixel("L", 77), (77, 77, 77), id="L"),
        pytest.param(one_pixel("L", 77, transparency=77), (255, 255, 255), id="L, tRNS"),
        pytest.param(one_pixel("L", 77, transparency=78), (77, 77, 77), id="L, tRNS elsewhere"),
        pytest.param(one_pixel("LA", (0, 128)), (127, 127, 127), id="LA"),
        pytest.param(one_pixel("La", (0, 128)), (127, 127, 127), id="La"),
        pytest.param(one_pixel("RGB", (1, 2, 3)), (1, 2, 3), id="RGB"),
        pytest.param(
            one_pixel("RGB", (1, 2, 3), transparency=(1, 2, 3)), (255, 255, 255), id="RGB, tRNS"
        ),
        pytest.param(one_pixel("RGBX", (1, 2, 3, 0)), (1, 2, 3), id="RGBX"),
        pytest.param(one_pixel("RGBA", (1, 2, 3, 255)), (1, 2, 3), id="RGBA, opaque"),
        pytest.param(one_pixel("RGBA", (1, 2, 3, 0)), (255, 255, 255), id="RGBA, clear"),
        pytest.param(one_pixel("RGBA", (0, 255, 0, 51)), (204, 255, 204), id="RGBA, a fifth"),
        pytest.param(one_pixel("RGBa", (0, 51, 0, 51)), (204, 255, 204), id="RGBa, a fifth"),
        pytest.param(paletted(), (0, 0, 255), id="P"),
        pytest.param(paletted(transparency=1), (255, 255, 255), id="P, tRNS index"),
        pytest.param(paletted(transparency=b"\xff\x00"), (255, 255, 255), id="P, tRNS bytes"),
        pytest.param(paletted(transparency=b"\x00"), (0, 0, 255), id="P, short tRNS bytes"),
        pytest.param(palette_with_alpha(), (255, 255, 255), id="PA"),
        pytest.param(one_pixel("CMYK", (0, 255, 255, 0)), (255, 0, 0), id="CMYK"),
        pytest.param(one_pixel("YCbCr", (128, 128, 128)), (128, 128, 128), id="YCbCr"),
        pytest.param(one_pixel("HSV", (0, 255, 255)), (255, 0, 0), id="HSV"),
        pytest.param(one_pixel("LAB", (255, 128, 128)), (255, 255, 255), id="LAB, white"),
        pytest.param(one_pixel("LAB", (138, 209, 198)), (255, 0, 0), id="LAB, red"),
        pytest.param(one_pixel("I", 65535), (255, 255, 255), id="I"),
        pytest.param(one_pixel("I;16", 0x8000), (128, 128, 128), id="I;16"),
        pytest.param(one_pixel("I;16B", 0x8000), (128, 128, 128), id="I;16B"),
        pytest.param(one_pixel("I;16L", 0x8000), (128, 128, 128), id="I;16L"),
        pytest.param(
            one_pixel("I;16", 51400, transparency=51400), (255, 255, 255), id="I;16, tRNS"
        ),
        pytest.param(
            one_pixel("I;16", 51400, transparency=51401), (200, 200, 200), id="I;16, tRNS no"
        ),
        pytest.param(one_pixel("F", 0.6), (153, 153, 153), id="F, unit"),
        pytest.param(one_pixel("F", 200.4), (200, 200, 200), id="F, 255"),
    ],
)
def test_modes(image: Image.Image, expected: tuple[int, int, int]) -> None:
    pixels = load(image)
    assert pixels.dtype == np.uint8 and pixels.shape == (1, 1, 3)
    # Lab in 8 bits comes near to red and not onto it, the dark channels being stretched most.
    tolerance = 6 if image.mode == "LAB" else 0
    assert largest_error(pixels, np.array([[expected]], np.uint8)) <= tolerance


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0), (128, 0), (129, 1), (257, 1), (385, 1), (386, 2), (65406, 254), (65407, 255)],
)
@pytest.mark.parametrize("format", ["PNG", "TIFF", "PGM"])
def test_16_bits_are_scaled_and_rounded(format: str, value: int, expected: int) -> None:
    grey = np.array([[0, value, 65535]], np.uint16)
    plain_pgm = b"P5 3 1 65535\n" + grey.astype(">u2").tobytes()
    data = plain_pgm if format == "PGM" else encode(Image.fromarray(grey), format)
    assert load(data)[0, :, 0].tolist() == [0, expected, 255]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (np.array([[0, 70000]], np.int32), "0 to 70000"),
        (np.array([[-5, 7]], np.int32), "-5 to 7"),
        (np.array([[0, 255.5]], np.float32), "255.5"),
        (np.array([[-0.5, 1]], np.float32), "-0.5"),
        (np.array([[0, np.nan]], np.float32), "nan"),
        (np.array([[0, np.inf]], np.float32), "inf"),
    ],
)
def test_deep_grey_outside_its_scale(values: npt.NDArray[Any], found: str) -> None:
    with pytest.raises(UnsupportedImage, match=found):
        load(encode(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("format", ["PNG", "GIF", "WEBP", "TIFF"])
def test_transparency_survives_the_file(format: str) -> None:
    # The hidden colour is red, the visible one blue; GIF keeps both in its palette.
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2] = (255, 0, 0, 0)
    rgba[2:] = (0, 0, 255, 255)
    options = {"lossless": True} if format == "WEBP" else {}
    pixels = load(encode(rgba, format, **options), background=(9, 8, 7))
    assert (pixels[:2] == (9, 8, 7)).all() and (pixels[2:] == (0, 0, 255)).all()


def test_paletted_png_with_trns_bytes() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette(PALETTE)
    image.putdata([0, 1])
    data = encode(image, "PNG", transparency=bytes([255, 51]))
    assert load(data).tolist() == [[[255, 0, 0], [204, 204, 255]]]


def test_cmyk_jpeg() -> None:
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert largest_error(load(encode(cmyk, "JPEG")), np.full((16, 16, 3), (255, 0, 0), "u1")) <= 2


def test_lab_tiff() -> None:
    lab = Image.new("LAB", (3, 2), (255, 128, 128))
    assert (load(encode(lab, "TIFF")) >= 253).all()


def test_a_pillow_image_is_copied() -> None:
    image = Image.fromarray(PICTURE)
    load(image)[:] = 0
    np.testing.assert_array_equal(load(image), PICTURE)


# --- Orientation ----------------------------------------------------------------------------------

# What a viewer does to the stored picture, by EXIF 2.32, written without Pillow.
UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored.swapaxes(0, 1)[:, ::-1],
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: stored.swapaxes(0, 1)[::-1],
}


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(
    ("format", "options", "tolerance"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}, 6),
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}, 6),
    ],
)
def test_orientation(
    orientation: int, format: str, options: dict[str, Any], tolerance: int
) -> None:
    data = encode(PICTURE, format, exif=exif(orientation), **options)
    assert largest_error(load(data), UPRIGHT[orientation](PICTURE)) <= tolerance


def test_orientation_of_a_picture_opened_elsewhere() -> None:
    with Image.open(io.BytesIO(encode(PICTURE, "PNG", exif=exif(6)))) as image:
        np.testing.assert_array_equal(load(image), UPRIGHT[6](PICTURE))


def test_a_picture_opened_elsewhere_stays_as_it_was() -> None:
    opened = Image.open(io.BytesIO(encode(PICTURE, "PNG", exif=exif(6))))
    opened.load()
    before = opened.tobytes(), opened.size, dict(opened.info)
    pixels = load(opened)
    pixels[...] = 0
    assert (opened.tobytes(), opened.size, dict(opened.info)) == before


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_unknown_orientation_is_upright(orientation: int) -> None:
    data = encode(PICTURE, "PNG", exif=exif(orientation))
    np.testing.assert_array_equal(load(data), PICTURE)


def test_damaged_exif_costs_a_warning_and_not_the_picture() -> None:
    data = encode(PICTURE, "WEBP", lossless=True, exif=b"Exif\0\0no TIFF header")
    with pytest.warns(ImageWarning, match="EXIF data is damaged"):
        pixels = load(data)
    np.testing.assert_array_equal(pixels, PICTURE)


# --- Frames ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "options"),
    [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("AVIF", {})],
)
def test_animated(format: str, options: dict[str, Any]) -> None:
    frames = [Image.new("RGB", (32, 24), colour) for colour in ("red", "lime", "blue")]
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], **options)
    with pytest.warns(ImageWarning, match="only the first is read"):
        pixels = load(data)
    assert largest_error(pixels, np.full((24, 32, 3), (255, 0, 0), np.uint8)) <= 4


def test_a_warning_made_an_error_stays_a_warning() -> None:
    frames = [Image.new("L", (4, 4), value) for value in (0, 255)]
    with pytest.raises(ImageWarning):
        load(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))


# --- Colour profiles ------------------------------------------------------------------------------


def icc_profile(space: bytes, name: str, tags: dict[bytes, bytes]) -> bytes:
    """A version 2 display profile from its parts (ICC.1:2001, section 6)."""
    text = name.encode() + b"\0"
    description = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
    parts = {b"desc": description, **tags}
    table, body = struct.pack(">I", len(parts)), b""
    for tag, part in parts.items():
        table += struct.pack(">4sII", tag, 132 + 12 * len(parts) + len(body), len(part))
        body += part + bytes(-len(part) % 4)
    size = 128 + len(table) + len(body)
    d50 = struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)
    header = struct.pack(">I4sI4s4s4s12x4s28x12s48x", size, b"", 0x02400000, b"mntr", space,
                         b"XYZ ", b"acsp", d50)  # fmt: skip
    return header + table + body


def xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">iii", *(round(v * 65536) for v in (x, y, z)))


LINEAR = b"curv" + bytes(8)
WHITE_POINT = xyz(0.9642, 1.0, 0.8249)
RED, GREEN, BLUE = (
    xyz(0.4361, 0.2225, 0.0139),
    xyz(0.3851, 0.7169, 0.0971),
    xyz(0.1431, 0.0606, 0.7141),
)
CURVES = {b"rTRC": LINEAR, b"gTRC": LINEAR, b"bTRC": LINEAR, b"wtpt": WHITE_POINT}
SWAPPED = {b"rXYZ": GREEN, b"gXYZ": RED, b"bXYZ": BLUE, **CURVES}


@pytest.mark.parametrize(
    ("image", "profile", "expected"),
    [
        pytest.param(
            one_pixel("RGB", (255, 0, 55)),
            icc_profile(b"RGB ", "red and green swapped, linear", SWAPPED),
            (0, 255, 128),
            id="RGB",
        ),
        pytest.param(
            one_pixel("RGBA", (255, 0, 55, 255)),
            icc_profile(b"RGB ", "sRGB swapped", SWAPPED),
            (0, 255, 128),
            id="RGBA, a name that only begins with sRGB",
        ),
        pytest.param(
            one_pixel("L", 55),
            icc_profile(b"GRAY", "linear grey", {b"kTRC": LINEAR, b"wtpt": WHITE_POINT}),
            (128, 128, 128),
            id="grey",
        ),
        pytest.param(
            one_pixel("I;16", 55 * 257),
            icc_profile(b"GRAY", "linear grey", {b"kTRC": LINEAR, b"wtpt": WHITE_POINT}),
            (128, 128, 128),
            id="grey of 16 bits",
        ),
        pytest.param(
            one_pixel("L", 55),
            icc_profile(b"RGB ", "linear", SWAPPED),
            (128, 128, 128),
            id="grey with a profile for RGB",
        ),
        pytest.param(
            one_pixel("RGB", (1, 2, 3)),
            icc_profile(b"RGB ", "sRGB IEC61966-2.1", {}),
            (1, 2, 3),
            id="sRGB, known by its name",
        ),
        pytest.param(
            one_pixel("RGB", (1, 2, 3)),
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
            (1, 2, 3),
            id="sRGB of version 4",
        ),
    ],
)
def test_profiles(image: Image.Image, profile: bytes, expected: tuple[int, int, int]) -> None:
    image.info["icc_profile"] = profile
    assert largest_error(load(image), np.array([[expected]], np.uint8)) <= 1


@pytest.mark.parametrize(
    ("mode", "profile"),
    [
        pytest.param("RGB", b"garbage", id="garbage"),
        pytest.param("RGB", b"\xff" * 200, id="garbage with a table"),
        pytest.param("RGB", icc_profile(b"RGB ", "no curves", {}), id="no curves"),
        pytest.param("RGB", icc_profile(b"CMYK", "for printers", {}), id="for CMYK"),
        pytest.param("CMYK", icc_profile(b"RGB ", "linear", SWAPPED), id="CMYK with RGB's"),
        pytest.param("RGB", icc_profile(b"RGB ", "linear", SWAPPED)[:300], id="cut"),
    ],
)
def test_unusable_profile_costs_a_warning_and_not_the_picture(mode: str, profile: bytes) -> None:
    image = Image.fromarray(PICTURE).convert(mode)
    plain = load(image)
    with pytest.warns(ImageWarning, match="colour profile cannot be used"):
        pixels = load(encode(image, "TIFF", icc_profile=profile))
    np.testing.assert_array_equal(pixels, plain)


# --- What is not a picture ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "empty \\(0 bytes\\)"),
        (b"%PDF-1.7\n%\xe2\xe3", "PDF"),
        (b"PK\x03\x04\x14\0\0\0", "ZIP"),
        (b"Caf\xc3\xa9, two sugars.\n", "this is text"),
        (b"a" * 255 + b"\xc3\xa9", "this is text"),
        (b"BMW and Porsche are cars, and this is a note about them.", "this is text"),
        (b"<!DOCTYPE html><title>404 Not Found</title>", "HTML"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"\x89TA\x10abcdefgh", "\\.tac file"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", "MP4"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "WAV"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
        (b"YUV4MPEG2 W8 H8 F1:1\nFRAME\n", "YUV4MPEG2, a stream: .* --stream"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "gzip"),
        (b"\0" * 4096, "zero bytes"),
        (b"\xde\xad\xbe\xef\0\1\2\3\4", "begins with de ad be ef"),
        (b"\xff", "begins with ff"),
        (b"\xde\xad\xbe\xef", "begins with de ad be ef"),
    ],
)
def test_strangers_are_named(data: bytes, found: str, tmp_path: Path) -> None:
    path = tmp_path / "holiday.jpg"
    path.write_bytes(data)
    for source in (data, path):
        with pytest.raises(UnsupportedImage, match=found):
            load(source)


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedImage, match="a directory"):
        load(tmp_path)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_device(device: str) -> None:
    path = Path(device)
    if not path.exists() or not stat.S_ISCHR(path.stat().st_mode):
        pytest.skip(f"{device} is no device here")
    with pytest.raises(UnsupportedImage, match="a device"):
        load(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        load(tmp_path / "absent.png")


def test_thumbnail_of_a_camera_raw_file() -> None:
    with pytest.raises(UnsupportedImage, match="thumbnail"):
        load(encode(PICTURE, "TIFF", tiffinfo={254: 1}))


# --- Limits ---------------------------------------------------------------------------------------


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(1000)))


def gif_header(width: int, height: int) -> bytes:
    frame = struct.pack("<BHHHHB", 0x2C, 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\0;"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + frame


def bmp_header(width: int, height: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 1000, 0, 0, 54) + info + bytes(946)


def webp_header(width: int, height: int) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    frame = encode(Image.new("RGB", (1, 1)), "WEBP", lossless=True)[12:]
    body = b"WEBPVP8X" + struct.pack("<II", 10, 0) + sides + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png_header(60000, 60000), id="PNG"),
        pytest.param(png_header(2**31 - 1, 2**31 - 1), id="PNG, absurd"),
        pytest.param(gif_header(65535, 65535), id="GIF"),
        pytest.param(bmp_header(60000, 60000), id="BMP"),
        pytest.param(webp_header(60000, 60000), id="WebP"),
        pytest.param(b"P6 60000 60000 255\n" + bytes(100), id="PPM"),
        pytest.param(b"qoif" + struct.pack(">IIBB", 60000, 60000, 3, 0), id="QOI"),
    ],
)
def test_bombs_are_refused_before_decoding(data: bytes) -> None:
    with pytest.raises(LimitExceeded, match="limit"):
        load(data)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "AVIF"])
def test_limit_to_the_pixel(format: str) -> None:
    data = encode(PICTURE, format)
    assert load(data, max_pixels=600).shape == (20, 30, 3)
    with pytest.raises(LimitExceeded, match="30 x 20 = 600 pixels, more than the limit of 599"):
        load(data, max_pixels=599)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "PPM", "AVIF"])
def test_the_limit_is_ours_and_not_pillows(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(PICTURE, format)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert load(data).shape == (20, 30, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("format", ["WEBP", "TIFF"])
def test_plugins_with_a_limit_of_their_own(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(PICTURE, format)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # between warning and error
    assert load(data).shape == (20, 30, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(LimitExceeded, match="larger than Pillow reads"):
        load(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png_header(0, 5), id="PNG"),
        pytest.param(gif_header(0, 0), id="GIF"),
        pytest.param(bmp_header(0, 5), id="BMP"),
        pytest.param(b"P6 0 5 255\n", id="PPM"),
    ],
)
def test_files_without_pixels(data: bytes) -> None:
    with pytest.raises((UnsupportedImage, DamagedImage), match=r"0 x|cannot be read"):
        load(data)


def test_image_without_pixels() -> None:
    with pytest.raises(UnsupportedImage, match="0 x 5 pixels: at least 1 x 1"):
        load(Image.new("RGB", (0, 5)))


# --- Damage ---------------------------------------------------------------------------------------

NOISE = np.random.default_rng(1).integers(0, 256, (70, 90, 3), dtype=np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("GIF", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("BMP", {}),
        ("PPM", {}),
        ("AVIF", {}),
    ],
)
def test_cut_files(format: str, options: dict[str, Any]) -> None:
    data = encode(NOISE, format, **options)
    whole = load(data)
    cuts = {*range(100), *range(100, len(data), max(1, len(data) // 100))}
    for cut in sorted(cuts | set(range(len(data) - 30, len(data)))):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ImageWarning)
                pixels = load(data[:cut])
        except TacError:
            continue
        # A missing end mark is forgiven, a missing pixel is not.
        assert len(data) - cut < 30
        np.testing.assert_array_equal(pixels, whole)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_half_a_file_is_called_damaged(format: str) -> None:
    data = encode(NOISE, format)
    with pytest.raises(DamagedImage, match=f"the {format} picture cannot be read .* fetch it"):
        load(data[: len(data) // 2])


def test_lazily_opened_damage_is_translated_too() -> None:
    with Image.open(io.BytesIO(encode(NOISE, "JPEG")[:3000])) as image, pytest.raises(DamagedImage):
        load(image)


@pytest.mark.parametrize(
    "error",
    [
        SyntaxError("s"), struct.error("s"), OverflowError("s"), ValueError("s"), zlib.error("s"),
        EOFError("s"), IndexError("s"), KeyError("s"), TypeError("s"), OSError("s"),
        AssertionError(),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_whatever_pillow_raises(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_it(image: Image.Image) -> None:
        raise error

    image = Image.new("RGB", (1, 1))
    monkeypatch.setattr(Image.Image, "load", raise_it)
    with pytest.raises(DamagedImage, match=type(error).__name__) as caught:
        load(image)
    assert caught.value.__cause__ is error


def test_out_of_memory_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_it(image: Image.Image) -> None:
        raise MemoryError

    image = Image.new("RGB", (1, 1))
    monkeypatch.setattr(Image.Image, "load", raise_it)
    with pytest.raises(LimitExceeded, match="memory"):
        load(image)


def jpeg_xl_and_heif() -> list[bytes]:
    """What the extra reads, where it is installed."""
    try:
        import pillow_heif
        import pillow_jxl  # noqa: F401 (it registers itself)
    except ImportError:
        return []
    pillow_heif.register_heif_opener()
    return [
        encode(PICTURE, "HEIF"),
        encode(PICTURE, "JXL", lossless=True),
        encode(PICTURE, "JXL", use_container=True),
    ]


SEEDS = [
    encode(PICTURE, "JPEG", exif=exif(6)),
    encode(PICTURE, "JPEG", progressive=True),
    encode(PICTURE, "PNG", icc_profile=icc_profile(b"RGB ", "linear", SWAPPED)),
    encode(PICTURE, "GIF"),
    encode(PICTURE, "WEBP", lossless=True, exif=exif(3)),
    encode(PICTURE, "TIFF", compression="tiff_lzw"),
    encode(PICTURE, "TIFF"),
    encode(PICTURE, "BMP"),
    encode(PICTURE, "PPM"),
    encode(PICTURE, "JPEG2000"),
    encode(PICTURE, "AVIF"),
    encode(PICTURE, "QOI"),
    b"P7\nWIDTH 30\nHEIGHT 20\nDEPTH 3\nMAXVAL 255\nENDHDR\n" + PICTURE.tobytes(),
    encode(PICTURE, "WEBP", lossless=True, icc_profile=b"x" * 50, xmp=b"<x/>" * 9),
    *jpeg_xl_and_heif(),
]


def load_or_refuse(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageWarning)
        try:
            pixels = load(data, max_pixels=1 << 16)
        except TacError:
            return
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=600)
@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6
    ),
    cut=st.integers(0, 40),
)
def test_altered_files(seed: bytes, changes: list[tuple[float, int]], cut: int) -> None:
    data = bytearray(seed)
    for place, value in changes:
        # Squared, so that headers are hit more often than pixels.
        data[int(place**2 * len(data))] = value
    load_or_refuse(bytes(data[: len(data) - cut]))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(head=st.sampled_from([b"", *(seed[:16] for seed in SEEDS)]), tail=st.binary(max_size=200))
def test_garbage(head: bytes, tail: bytes) -> None:
    load_or_refuse(head + tail)


# --- Manners --------------------------------------------------------------------------------------


def test_threads_leave_the_warning_filters_as_they_were() -> None:
    data = encode(PICTURE, "TIFF")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        for pixels in pool.map(load, [data] * 64):
            np.testing.assert_array_equal(pixels, PICTURE)
    assert list(warnings.filters) == before


def test_a_jpeg_imports_one_plugin_and_no_colour_management(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path.write_bytes(encode(PICTURE, "JPEG", icc_profile=srgb))
    program = (
        "import sys, pathlib; from tactic_codec.picture import load;"
        "load(pathlib.Path(sys.argv[1]));"
        "print(sorted(m for m in sys.modules if 'Plugin' in m or 'Cms' in m or 'profiles' in m"
        "  or m.partition('.')[0] in ('torch', 'pillow_heif', 'pillow_jxl')))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "['PIL.JpegImagePlugin']"


# --- Writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["png", "webp", "ppm", "bmp", "tiff"])
def test_lossless_formats(format: str) -> None:
    np.testing.assert_array_equal(load(save(NOISE, format)), NOISE)


def test_jpeg_is_close() -> None:
    assert largest_error(load(save(PICTURE, "jpeg")), PICTURE) <= 6


def test_to_pillow() -> None:
    image = to_pillow(PICTURE)
    assert (image.mode, image.size) == ("RGB", (30, 20))
    np.testing.assert_array_equal(load(image), PICTURE)


@pytest.mark.parametrize(
    "pixels",
    [PICTURE.astype(np.float32), PICTURE[..., 0], PICTURE[..., :2], PICTURE[:0]],
    ids=["float", "no channels", "two channels", "no rows"],
)
def test_to_pillow_refuses(pixels: Pixels) -> None:
    with pytest.raises(ValueError, match="is no picture"):
        to_pillow(pixels)


def test_save_refuses_an_unknown_format() -> None:
    with pytest.raises(UnsupportedImage, match=r"'gif': choose one of png, jpeg, .*tiff"):
        save(PICTURE, "gif")


@pytest.mark.parametrize(("format", "width"), [("webp", 16384), ("jpeg", 65536)])
def test_save_refuses_what_does_not_fit(format: str, width: int) -> None:
    wide = np.zeros((1, width, 3), np.uint8)
    with pytest.raises(UnsupportedImage, match=f"cannot hold this picture of {width} x 1"):
        save(wide, format)


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.png", "png"), ("a.JPG", "jpeg"), ("a.jpeg", "jpeg"), ("b/a.tac.webp", "webp"),
        ("a.ppm", "ppm"), ("a.pnm", "ppm"), ("a.bmp", "bmp"), ("a.tif", "tiff"), ("a.Tiff", "tiff"),
    ],
)  # fmt: skip
def test_format_of(name: str, format: str) -> None:
    assert format_of(Path(name)) == format


@pytest.mark.parametrize("name", ["a", "a.gif", "png", ".png", "a.png.tac"])
def test_format_of_refuses(name: str) -> None:
    with pytest.raises(UnsupportedImage, match=r"choose one of \.png, \.jpg"):
        format_of(Path(name))


@pytest.mark.parametrize("format", ["png", "ppm", "bmp"])
@pytest.mark.parametrize("heights", [[40], [1, 39], [17, 16, 7]])
def test_strips_are_written_as_the_whole_picture_is(format: str, heights: list[int]) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (40, 23, 3), np.uint8)
    rows = iter(np.split(pixels, np.cumsum(heights)[:-1]))
    written = b"".join(pieces(Strips(23, 40, rows), format))
    assert written == save(pixels, format) or format == "png"  # which may be in other chunks
    np.testing.assert_array_equal(load(written), pixels)
    with Image.open(io.BytesIO(written)) as picture:
        np.testing.assert_array_equal(np.asarray(picture), pixels)


def test_png_is_written_before_the_last_rows_are_there() -> None:
    def rows() -> Iterator[Pixels]:
        yield np.random.default_rng(3).integers(0, 256, (400, 500, 3), np.uint8)
        raise KeyboardInterrupt

    written = 0
    with pytest.raises(KeyboardInterrupt):
        for piece in pieces(Strips(500, 800, rows()), "png"):
            written += len(piece)
    assert written > 500_000


# --- Label maps -----------------------------------------------------------------------------------

LABELS = np.arange(600, dtype=np.uint32).astype(np.uint8).reshape(20, 30)  # all 256 values


def test_label_maps_come_back(tmp_path: Path) -> None:
    colours = [(i, 255 - i, 7) for i in range(256)]
    (tmp_path / "a.png").write_bytes(save_labels(LABELS, colours))
    found = load_labels(tmp_path / "a.png")
    assert found.dtype == np.uint8 and found.flags.writeable
    np.testing.assert_array_equal(found, LABELS)
    shown = load(tmp_path / "a.png")
    np.testing.assert_array_equal(shown, np.array(colours, np.uint8)[LABELS])


@pytest.mark.parametrize("count", [1, 2, 3, 5, 200])
def test_label_maps_have_8_bits_however_few_the_classes(count: int) -> None:
    data = save_labels(LABELS % count, [(i, i, i) for i in range(count)])
    assert data[24:26] == b"\x08\x03"  # the header's depth, and "palette"


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_label_maps_with_a_palette_of_any_depth_are_read(tmp_path: Path, bits: int) -> None:
    labels = LABELS & (2**bits - 1)
    picture = Image.fromarray(labels)
    picture.putpalette([0, 9, 200] * 2**bits)
    picture.save(tmp_path / "a.png", bits=bits)
    assert (tmp_path / "a.png").read_bytes()[24] == bits
    np.testing.assert_array_equal(load_labels(tmp_path / "a.png"), labels)


def test_label_maps_of_grey_are_read_as_they_are(tmp_path: Path) -> None:
    Image.fromarray(LABELS).save(tmp_path / "a.png", transparency=0)
    np.testing.assert_array_equal(load_labels(tmp_path / "a.png"), LABELS)


def grey_of_few_bits(bits: int) -> bytes:
    """A PNG of 8 x 1 grey pixels of less than 8 bits, which Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")
        )

    header = struct.pack(">IIBBBBB", 8, 1, bits, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" + b"\x1b" * bits)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encode(Image.new("RGB", (8, 5)), "png"), "mode RGB and 8 bits"),
        (encode(Image.new("RGBA", (8, 5)), "png"), "mode RGBA"),
        (encode(Image.new("LA", (8, 5)), "png"), "mode LA"),
        (encode(Image.new("1", (8, 5)), "png"), "mode 1 and 1 bits"),
        (encode(Image.new("I;16", (8, 5)), "png"), "mode I;16 and 16 bits"),
        (grey_of_few_bits(2), "mode L and 2 bits"),
        (grey_of_few_bits(4), "mode L and 4 bits"),
        (save(PICTURE, "jpeg"), "this is JPEG"),
        (b"%PDF-1.7", "a PDF document"),
        (b"", "empty"),
    ],
)
def test_what_is_no_label_map_says_what_was_expected(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(UnsupportedImage, match=f"{reason}.*expected"):
        load_labels(tmp_path / "a.png")


def test_label_maps_that_are_cut_or_too_large_are_refused(tmp_path: Path) -> None:
    data = save_labels(LABELS, [(0, 0, 0)])
    path = tmp_path / "a.png"
    for length in (20, 30, 60, len(data) // 2):
        path.write_bytes(data[:length])
        with pytest.raises(DamagedImage):
            load_labels(path)
    path.write_bytes(data)
    with pytest.raises(LimitExceeded, match="limit of 599"):
        load_labels(path, max_pixels=599)
    with pytest.raises(FileNotFoundError):
        load_labels(tmp_path / "missing.png")


@pytest.mark.parametrize("labels", [PICTURE, LABELS.astype(np.int64), LABELS[:0]])
def test_what_is_no_label_map_is_not_saved(labels: Any) -> None:
    with pytest.raises(ValueError, match="is no label map"):
        save_labels(labels, [(0, 0, 0)])
