"""A file looks here as it looks elsewhere: damage beside the pixels, depth, colours, edges."""

import io
import struct
import sys
import tracemalloc
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image
from test_picture import NOISE, PICTURE, UPRIGHT, encode, exif, largest_error, png_chunk

from tactic_codec.errors import DamagedImage, LimitExceeded, TacError, UnsupportedImage
from tactic_codec.picture import ImageWarning, Pixels, load, load_labels, profiles

pytestmark = pytest.mark.filterwarnings("error")

LEFT_OUT = "damaged where its pixels are not"


def load_with(match: str, data: bytes) -> Pixels:
    with pytest.warns(ImageWarning, match=match):
        return load(data)


def png(depth: int, colour: int, row: bytes, *chunks: tuple[bytes, bytes], width: int = 2) -> bytes:
    """A PNG of one row."""
    header = struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


# --- Damage that does not touch the pixels --------------------------------------------------------


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("tail", [b"", b"\xff"])
def test_a_jpeg_without_its_end_marker(progressive: bool, tail: bytes) -> None:
    data = encode(NOISE, "JPEG", progressive=progressive)
    assert data.endswith(b"\xff\xd9")
    np.testing.assert_array_equal(load_with(LEFT_OUT, data[:-2] + tail), load(data))


def test_a_progressive_jpeg_cut_between_its_scans_is_damaged() -> None:
    data = encode(NOISE, "JPEG", progressive=True)
    scans = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    assert len(scans) > 3
    for at in scans:
        with pytest.raises(DamagedImage):
            load(data[:at])


def test_libtiff_prints_nothing_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(encode(NOISE, "TIFF", compression="tiff_adobe_deflate"))
    data[200:260] = bytes(60)
    with pytest.raises(DamagedImage):
        load(bytes(data))
    assert capfd.readouterr() == ("", "")


def closed_too_soon() -> dict[str, bytes]:
    end = b"\xff\xd9"
    plain = encode(NOISE, "JPEG")
    header = plain.index(b"\xff\xc0") + 5
    height = int.from_bytes(plain[header : header + 2])
    fine = encode(NOISE, "JPEG", progressive=True)
    scans = [at for at in range(len(fine)) if fine[at : at + 2] == b"\xff\xda"]
    rows = encode(NOISE, "JPEG", restart_marker_rows=1)
    marks = [at for at in range(len(rows)) if rows[at] == 0xFF and 0xD0 <= rows[at + 1] <= 0xD7]
    return {
        "its last pixels": plain[: len(plain) // 2] + end,
        "its last pixels ": plain[:header] + (2 * height).to_bytes(2) + plain[header + 2 :],
        "its last pixels  ": rows[: marks[-1]] + end,
        "its last pixels   ": fine[:-200] + end,
        "a scan": fine[: scans[-1]] + end,
        "a scan ": fine[: scans[3]] + fine[scans[4] :],
        "a part between two restart markers": rows[: marks[0]] + rows[marks[1] :],
    }


@pytest.mark.parametrize("what", closed_too_soon())
def test_a_jpeg_that_was_closed_although_something_is_missing(what: str) -> None:
    data = closed_too_soon()[what]
    pixels = load_with(f"lacks {what.strip()}, although", data)
    np.testing.assert_array_equal(pixels, load_with("lacks", data + data))  # as in an album
    with pytest.warns(ImageWarning, match="lacks"):
        load(data, max_pixels=sys.maxsize)


def test_a_jpeg_that_ends_flat_is_looked_at_twice_in_little_memory() -> None:
    """What Pillow keeps of both is not counted here; arrays of them are."""
    data = encode(np.zeros((2000, 3000, 3), np.uint8), "JPEG")
    tracemalloc.start()
    try:
        pixels = load(data)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1.9 * pixels.nbytes


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_whole_jpeg_lacks_nothing_however_flat_it_is(mode: str) -> None:
    for size in ((1, 1), (8, 8), (33, 17), (64, 40)):
        for image in (Image.new("RGB", size, "white"), Image.fromarray(NOISE).resize(size)):
            for options in ({}, {"progressive": True}, {"restart_marker_blocks": 1}):
                for subsampling in (0, 2):
                    load(encode(image.convert(mode), "JPEG", subsampling=subsampling, **options))


def test_no_pixel_is_made_up_for_a_jpeg_that_is_cut() -> None:
    data = encode(PICTURE, "JPEG", quality=95)
    whole = load(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageWarning)
        for cut in range(len(data) - 200, len(data)):
            try:
                pixels = load(data[:cut])
            except TacError:
                continue
            np.testing.assert_array_equal(pixels, whole)


ANCILLARY = {
    b"tEXt": b"Comment\0hello",
    b"iTXt": b"XML:com.adobe.xmp\0\0\0\0\0<x/>",
    b"zTXt": b"z\0\0" + zlib.compress(b"z" * 99),
    b"iCCP": b"x\0\0" + zlib.compress(b"profile" * 9),
    b"eXIf": exif(6)[6:],
    b"pHYs": bytes(9),
    b"gAMA": struct.pack(">I", 45455),
    b"tIME": bytes(7),
    b"ruBB": b"private",
}


@pytest.mark.parametrize("kind", ANCILLARY)
def test_png_ancillary_chunks_with_a_wrong_checksum(kind: bytes) -> None:
    data = png(8, 2, bytes(range(6)), (kind, ANCILLARY[kind]))
    at = data.index(kind) + 4 + len(ANCILLARY[kind])
    broken = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    assert load_with(LEFT_OUT, broken).tolist() == [[[0, 1, 2], [3, 4, 5]]]


@pytest.mark.parametrize(
    ("kind", "body"), [(b"iCCP", b"x\0\3zzzz"), (b"gAMA", b"\0"), (b"cHRM", b""), (b"pHYs", b"")]
)
def test_png_ancillary_chunks_that_nobody_understands(kind: bytes, body: bytes) -> None:
    data = png(8, 2, bytes(range(6)), (kind, body))
    assert load_with(LEFT_OUT, data).tolist() == [[[0, 1, 2], [3, 4, 5]]]


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"IDAT"])
def test_png_critical_chunks_with_a_wrong_checksum(kind: bytes) -> None:
    data = bytearray(png(8, 3, b"\0\1", (b"PLTE", bytes(6)), (b"tEXt", b"k\0v")))
    at = data.index(kind) + 4
    length = int.from_bytes(data[at - 8 : at - 4], "big")
    data[at + length // 2] ^= 0x40
    with pytest.raises(TacError):
        load(bytes(data))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("kind", "bits"), [(0, 1), (0, 16), (2, 8), (4, 8), (6, 16)])
def test_a_png_whose_rows_end_early(kind: int, bits: int, interlaced: bool) -> None:
    """All checksums are right: whoever wrote it was stopped and closed it."""
    pixel_bits = bits * {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    passes = (
        # Of 8 x 8 pixels: columns and rows of the seven passes.
        [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)] if interlaced else [(8, 8)]
    )
    rows = b"".join(
        (b"\0" + b"\0" * -(-columns * pixel_bits // 8)) * count for columns, count in passes
    )
    head = struct.pack(">IIBBBBB", 8, 8, bits, kind, 0, 0, interlaced)

    def png_of(rows: bytes) -> bytes:
        chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)

    assert load(png_of(rows)).shape == load(png_of(rows + b"more")).shape == (8, 8, 3)
    last_row = 1 + pixel_bits
    for missing, found in ((1, "truncated|early"), (last_row, "early"), (3 * last_row, "early")):
        with pytest.raises(DamagedImage, match=found):
            load(png_of(rows[:-missing]))


def test_the_profile_of_a_png_survives_a_damaged_comment() -> None:
    profile = profiles.of_cicp(12, 13)
    data = encode(Image.new("RGB", (4, 4), (200, 60, 60)), "PNG", icc_profile=profile)
    at = data.index(b"IDAT") - 4
    text = bytearray(png_chunk(b"tEXt", b"Comment\0hello"))
    text[-1] ^= 1
    pixels = load_with(LEFT_OUT, data[:at] + bytes(text) + data[at:])
    assert largest_error(pixels, load(data)) == 0 and pixels[0, 0, 0] > 210


def test_a_label_map_with_a_damaged_comment_is_read_as_well(tmp_path: Path) -> None:
    text = bytearray(png_chunk(b"tEXt", b"Comment\0hello"))
    text[-1] ^= 1
    data = png(8, 0, b"\1\2")
    (tmp_path / "labels.png").write_bytes(data[:33] + bytes(text) + data[33:])
    with pytest.warns(ImageWarning, match=LEFT_OUT):
        assert load_labels(tmp_path / "labels.png").tolist() == [[1, 2]]


def test_a_webp_that_is_cut_in_its_metadata() -> None:
    data = encode(PICTURE, "WEBP", lossless=True, exif=exif(1), xmp=b"<x/>" * 50)
    for cut in range(1, 150, 7):
        np.testing.assert_array_equal(load_with(LEFT_OUT, data[:-cut]), PICTURE)


def test_an_avif_whose_exif_is_no_exif() -> None:
    tags = Image.Exif()
    tags[0x010F] = "maker"
    data = encode(PICTURE, "AVIF", exif=tags.tobytes())
    at = data.index(tags.tobytes()[6:10])
    assert load_with(LEFT_OUT, data[:at] + b"xxxx" + data[at + 4 :]).shape == PICTURE.shape


@pytest.mark.parametrize("no_jp2", [False, True])
def test_a_jpeg_2000_that_is_cut_behind_its_header_is_damaged(no_jp2: bool) -> None:
    data = encode(NOISE, "JPEG2000", no_jp2=no_jp2)
    for cut in range(60, 400):
        with pytest.raises(TacError):
            load(data[:cut])


# --- Depth ----------------------------------------------------------------------------------------

RAMP = np.linspace(0, 1, 256)[np.newaxis].repeat(2, 0)
GREY_RAMP = np.rint(RAMP * 255).astype(np.uint8)[..., np.newaxis].repeat(3, 2)


def tiff(values: npt.NDArray[Any], photometric: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric=photometric, metadata=None, **options)
    return buffer.getvalue()


def tiff_of_12_bits() -> bytes:
    values = np.rint(RAMP[0] * 4095).astype(int)
    row = b"".join(
        bytes((a >> 4, (a & 15) << 4 | b >> 8, b & 255))
        for a, b in zip(values[::2].tolist(), values[1::2].tolist(), strict=True)
    )
    tags = ((256, 256), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1),
            (279, len(row)))  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(row)) + row + directory


def test_tiff_of_12_bits() -> None:
    assert largest_error(load(tiff_of_12_bits()), GREY_RAMP[:1]) == 0


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<i4", ">i4", ">u2", "<f4", ">f4"])
def test_tiff_of_either_order_of_bytes(dtype: str, compression: str | None) -> None:
    top = 1 if dtype[1:] == "f4" else 32767 if dtype[1:] == "i2" else 65535
    values = RAMP * top if dtype[1:] == "f4" else np.rint(RAMP * top)
    data = tiff(values.astype(dtype), "minisblack", byteorder=dtype[0], compression=compression)
    assert largest_error(load(data), GREY_RAMP) <= 1


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_tiff_of_every_depth_and_either_zero(
    photometric: str, dtype: str, compression: str | None
) -> None:
    top = {"u1": 255, "u2": 65535, "f4": 1}[dtype]
    values = RAMP if photometric == "minisblack" else 1 - RAMP
    stored = values * top if dtype == "f4" else np.rint(values * top)
    data = tiff(stored.astype(dtype), photometric, compression=compression)
    assert largest_error(load(data), GREY_RAMP) <= 1


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize(("photometric", "channels"), [("rgb", 3), ("rgb", 4), ("separated", 4)])
def test_tiff_in_planes(
    photometric: str, channels: int, dtype: str, tile: tuple[int, int] | None, order: str
) -> None:
    factors = np.array([1, 0.5, 0.25, 0.75])[:channels, np.newaxis, np.newaxis]
    planes = np.rint(RAMP * factors * np.iinfo(dtype).max).astype(dtype)
    options: dict[str, Any] = {"tile": tile, "byteorder": order}
    if (photometric, channels) == ("rgb", 4):
        options["extrasamples"] = ["unassalpha"]
    found, expected = (
        load(tiff(values, photometric, planarconfig=config, **options))
        for values, config in ((planes, "separate"), (planes.transpose(1, 2, 0), "contig"))
    )
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_tiff_in_one_plane(photometric: str, dtype: str, order: str) -> None:
    top = 1 if dtype == "f4" else np.iinfo(dtype).max
    values = RAMP if photometric == "minisblack" else 1 - RAMP
    stored = (values * top if dtype == "f4" else np.rint(values * top)).astype(dtype)
    data = tiff(stored, photometric, byteorder=order, extratags=[(285, "H", 1, 2, True)])
    given, wanted = (struct.pack(f"{order}HH", tag, 3) for tag in (285, 284))
    data = data.replace(given, wanted)  # which tifffile does not write itself
    if (photometric, dtype, order) == ("miniswhite", "u2", ">"):
        with pytest.raises(UnsupportedImage, match="of a kind that is not read"):
            load(data)
        return
    assert largest_error(load(data), GREY_RAMP) <= 1


def test_tiff_of_grey_and_alpha_in_planes_is_refused() -> None:
    planes = np.full((2, 4, 4), 200, "u1")
    data = tiff(planes, "minisblack", planarconfig="separate", extrasamples=["unassalpha"])
    with pytest.raises(UnsupportedImage, match="in separate planes"):
        load(data)


@pytest.mark.parametrize(
    ("dtype", "channels"), [("f2", 1), ("f8", 1), ("f4", 3), ("u2", 2), ("u4", 3), ("c8", 1)]
)
def test_tiff_of_rare_kinds_is_not_called_damaged(dtype: str, channels: int) -> None:
    values = np.ones((4, 4, channels), dtype).squeeze()
    with pytest.raises(UnsupportedImage, match="of a kind that is not read: convert it"):
        load(tiff(values, "rgb" if channels == 3 else "minisblack", planarconfig="contig"))


@pytest.mark.parametrize("dtype", ["i1", "i2"])
def test_signed_samples_have_no_agreed_scale(dtype: str) -> None:
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    values = np.rint(low + RAMP * (high - low)).astype(dtype)
    with pytest.raises(UnsupportedImage, match=f"run from {low} to {high}: .* scale them first"):
        load(tiff(values, "minisblack"))


def test_signed_samples_that_are_not_negative_have_one() -> None:
    data = tiff(np.array([[0, 127]], "i1"), "minisblack")
    assert load(data)[0, :, 0].tolist() == [0, 255]


def test_large_samples_are_told_as_they_are() -> None:
    with pytest.raises(UnsupportedImage, match="run from 3000000000 to 3000000000"):
        load(tiff(np.full((2, 2), 3_000_000_000, "u4"), "minisblack"))


def pgm(top: int, *values: int, magic: str = "P5") -> bytes:
    head = f"{magic} {len(values)} 1 {top}\n".encode()
    return head + np.array(values, ">u2").tobytes()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png(16, 0, struct.pack(">2H", 0, 1023)), id="PNG, grey"),
        pytest.param(png(16, 2, struct.pack(">6H", *[8190] * 6)), id="PNG"),
        pytest.param(png(16, 6, struct.pack(">8H", *[255, 255, 255, 65535] * 2)), id="PNG, alpha"),
        pytest.param(tiff(np.full((2, 2), 1023, "u2"), "minisblack"), id="TIFF, grey"),
        pytest.param(tiff(np.full((2, 2), 65000, "u2"), "miniswhite"), id="TIFF, white is 0"),
        pytest.param(tiff(np.full((2, 2, 3), 4095, "u2"), "rgb"), id="TIFF"),
        pytest.param(pgm(65535, 0, 4095), id="PGM, 12 bits"),
        pytest.param(b"P2 2 1 65535\n0 1023", id="PGM, plain"),
        pytest.param(b"P6 1 1 65535\n" + struct.pack(">3H", 9, 99, 999), id="PPM"),
    ],
)
def test_16_bits_of_which_few_are_used(data: bytes) -> None:
    assert load_with("looks black or very dark; scale", data).max() < 33


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png(16, 0, struct.pack(">2H", 0, 8500)), id="dark, but to be seen"),
        pytest.param(png(16, 0, bytes(4)), id="black"),
        pytest.param(pgm(1023, 0, 1023), id="PGM that says so"),
    ],
)
def test_16_bits_that_are_used_or_black(data: bytes) -> None:
    load(data)


# --- Netpbm ---------------------------------------------------------------------------------------


def pam(kind: str, depth: int, top: int, values: npt.NDArray[Any]) -> bytes:
    height, width = values.shape[:2]
    head = f"P7\n# a comment\nWIDTH {width}\nHEIGHT {height}\nDEPTH {depth}\nMAXVAL {top}\n"
    head += f"TUPLTYPE {kind}\n" if kind else ""
    return head.encode() + b"ENDHDR\n" + values.astype("u1" if top < 256 else ">u2").tobytes()


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("top", [1, 3, 100, 255, 256, 1023, 65535])
@pytest.mark.parametrize(
    ("kind", "depth"),
    [("GRAYSCALE", 1), ("GRAYSCALE_ALPHA", 2), ("RGB", 3), ("RGB_ALPHA", 4)],
)
def test_pam(kind: str, depth: int, top: int, named: bool) -> None:
    share = np.random.default_rng(1).integers(0, top, (5, 7, depth), endpoint=True) / top
    data = pam(kind if named else "", depth, top, np.rint(share * top))
    colours = share[..., : 3 if depth > 2 else 1].repeat(3 if depth < 3 else 1, 2)
    alpha = share[..., -1:] if depth in (2, 4) else np.ones((5, 7, 1))
    expected = colours * alpha + 1 - alpha  # over white
    assert np.abs(load(data) - 255 * expected).max() <= 1.5


def test_pam_in_black_and_white() -> None:
    assert load(pam("BLACKANDWHITE", 1, 1, np.array([[0, 1]])))[0, :, 0].tolist() == [0, 255]


def test_pam_of_cmyk() -> None:
    ink = np.array([[[0, 255, 255, 0], [0, 0, 0, 255]]])
    assert load(pam("CMYK", 4, 255, ink)).tolist() == [[[255, 0, 0], [0, 0, 0]]]


@pytest.mark.parametrize("magic", ["P5", "P6"])
@pytest.mark.parametrize("top", [7, 255, 1000, 65535])
def test_pgm_and_ppm_of_any_depth(magic: str, top: int) -> None:
    bands = 1 if magic == "P5" else 3
    values = np.linspace(0, top, 60 * bands).round().astype("u1" if top < 256 else ">u2")
    head = f"{magic}\n# one\n60 #two\n 1\n{top}\n".encode()
    expected = np.rint(values.astype(float) * 255 / top).reshape(1, 60, bands)
    assert np.abs(load(head + values.tobytes()) - expected).max() <= 0.5


@pytest.mark.parametrize(
    ("data", "error", "found"),
    [
        (pam("VOXELS", 3, 255, PICTURE), UnsupportedImage, "'VOXELS' and depth 3"),
        (pam("", 5, 255, np.zeros((1, 1, 5))), UnsupportedImage, "depth 5"),
        (pam("RGB", 3, 70000, PICTURE), DamagedImage, "largest value is 70000"),
        (pam("RGB", 3, 255, PICTURE)[:-1], DamagedImage, "bytes of pixels"),
        (b"P7\nWIDTH 1\n", DamagedImage, "header is cut"),
        (b"P7\n" + b"#\n" * 9999, DamagedImage, "header of this PNM is damaged"),
        (b"P7\nWIDTH 99999\nHEIGHT 99999\nDEPTH 4\nMAXVAL 65535\nENDHDR\n", LimitExceeded, "limit"),
        (b"P6 " + b" " * 5000, DamagedImage, "header"),
    ],
)
def test_netpbm_that_is_refused(data: bytes, error: type[TacError], found: str) -> None:
    with pytest.raises(error, match=found):
        load(data)


# --- Colours --------------------------------------------------------------------------------------

REDDISH = bytes([200, 60, 60])
P3_SEEN = (217, 42, 52)  # what (200, 60, 60) of Display P3 is in sRGB
P3 = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)


def chrm(*values: float) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(v * 100000) for v in values))


def gama(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(value * 100000))


CICP_P3 = (b"cICP", bytes([12, 13, 0, 1]))
ICC_P3 = (b"iCCP", b"P3\0\0" + zlib.compress(profiles.of_cicp(12, 13) or b""))
ICC_LINEAR = (b"iCCP", b"linear\0\0" + zlib.compress(profiles.of_gamma(1, None) or b""))
SRGB = (b"sRGB", b"\0")


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param([], (200, 60, 60), id="nothing"),
        pytest.param([gama(1)], (229, 133, 133), id="gAMA, linear"),
        pytest.param([gama(0.45455)], (200, 60, 60), id="gAMA of sRGB"),
        pytest.param([gama(0)], (200, 60, 60), id="gAMA, absurd"),
        pytest.param([chrm(*P3)], P3_SEEN, id="cHRM"),
        pytest.param([gama(0.45455), chrm(*P3)], P3_SEEN, id="gAMA and cHRM"),
        pytest.param([gama(0.45455), chrm(*profiles.SRGB)], (200, 60, 60), id="both of sRGB"),
        pytest.param([gama(1), chrm(*P3), SRGB], (200, 60, 60), id="sRGB before gAMA and cHRM"),
        pytest.param([SRGB, ICC_P3], P3_SEEN, id="iCCP before sRGB"),
        pytest.param([gama(1), ICC_P3], P3_SEEN, id="iCCP before gAMA"),
        pytest.param([ICC_LINEAR, CICP_P3, gama(1)], P3_SEEN, id="cICP before iCCP and gAMA"),
        pytest.param([ICC_P3, (b"cICP", bytes([1, 13, 0, 1]))], (200, 60, 60), id="cICP of sRGB"),
        pytest.param([(b"cICP", bytes([1, 1, 0, 1]))], (200, 60, 60), id="cICP of television"),
        pytest.param([(b"cICP", bytes([1, 8, 0, 1]))], (229, 133, 133), id="cICP, linear"),
    ],
)
def test_colours_of_png(chunks: list[tuple[bytes, bytes]], expected: tuple[int, int, int]) -> None:
    pixels = load(png(8, 2, REDDISH * 2, *chunks))
    assert np.abs(pixels - np.array(expected)).max() <= 1


@pytest.mark.parametrize(
    "chunk",
    [chrm(*[0] * 8), chrm(*[0.3] * 8), (b"cICP", bytes([77, 13, 0, 1])), chrm(*[9, 1e-5] * 4)],
)
def test_colours_that_nobody_has_cost_a_warning(chunk: tuple[bytes, bytes]) -> None:
    pixels = load_with("colour profile cannot be used", png(8, 2, REDDISH * 2, chunk))
    assert pixels[0, 0].tolist() == [200, 60, 60]


@pytest.mark.parametrize(
    "row", [png(8, 0, b"\x37\x37", gama(1)), png(1, 3, b"\0", (b"PLTE", b"\x37" * 6), gama(1))]
)
def test_gama_of_grey_and_of_palettes(row: bytes) -> None:
    assert load(row)[0, 0].tolist() == [128, 128, 128]


def test_gama_of_a_picture_opened_elsewhere() -> None:
    with Image.open(io.BytesIO(png(8, 0, b"\x37\x37", gama(1)))) as image:
        assert load(image)[0, 0].tolist() == [128, 128, 128]


AVIF = encode(Image.new("RGB", (32, 32), (200, 60, 60)), "AVIF", quality=100, subsampling="4:4:4")


def avif(primaries: int, transfer: int) -> bytes:
    at = AVIF.index(b"nclx") + 4
    return AVIF[:at] + struct.pack(">HH", primaries, transfer) + AVIF[at + 4 :]


def test_colours_of_avif() -> None:
    assert np.abs(load(avif(1, 13))[5, 5].astype(int) - (200, 60, 60)).max() <= 1
    assert np.abs(load(avif(12, 13))[5, 5].astype(int) - P3_SEEN).max() <= 2
    assert np.abs(load(avif(2, 2))[5, 5].astype(int) - (200, 60, 60)).max() <= 1
    wide = load(avif(9, 13))[5, 5].astype(int)
    assert wide[0] > 225 and wide[1] < 30  # BT.2020 is wider than Display P3


def test_a_profile_goes_before_the_numbers_of_avif() -> None:
    linear = profiles.of_gamma(1, None)
    data = encode(
        Image.new("RGB", (32, 32), (200, 60, 60)), "AVIF", quality=100, icc_profile=linear
    )
    assert np.abs(load(data)[5, 5].astype(int) - (229, 133, 133)).max() <= 2


def coded_pq(nits: float) -> int:
    power = (nits / 10000) ** 0.1593017578125
    return round(255 * ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def test_high_dynamic_range_is_tone_mapped() -> None:
    """Dark and middle tones keep their light, highlights stay apart, all in order."""
    nits = [0, 1, 10, 40, 80, 203, 400, 600, 1000, 4000]
    row = bytes(coded_pq(n) for n in nits)
    levels = load(png(8, 0, row, (b"cICP", bytes([9, 16, 0, 1])), width=len(nits)))[0, :, 0]
    light = np.where(levels <= 10, levels / 255 / 12.92, ((levels / 255 + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(light[2:5] * 203, nits[2:5], rtol=0.06)
    assert (np.diff(levels.astype(int)) > 0)[:-1].all()
    assert levels[0] == 0 and levels[-2:].tolist() == [255, 255] and 200 < levels[5] < 245

    row = bytes(range(0, 256, 15))
    levels = load(png(8, 0, row, (b"cICP", bytes([9, 18, 0, 1])), width=len(row)))[0, :, 0]
    assert (np.diff(levels.astype(int)) >= 0).all() and levels[0] == 0 and levels[-1] == 255


def test_adobe_rgb_that_only_exif_tells_of() -> None:
    """As cameras write it (DCF): ColorSpace uncalibrated, interoperability index R03."""
    flat = Image.new("RGB", (16, 16), (60, 200, 60))
    tags = Image.Exif()
    tags[0x8769] = {0xA001: 0xFFFF, 0xA005: {1: "R03"}}
    told = load(encode(flat, "JPEG", quality=100, exif=tags.tobytes()))
    adobe = profiles.of_gamma(profiles.ADOBE_GAMMA, profiles.ADOBE_RGB)
    embedded = load(encode(flat, "JPEG", quality=100, icc_profile=adobe))
    plain = load(encode(flat, "JPEG", quality=100))
    np.testing.assert_array_equal(told, embedded)
    assert largest_error(told, plain) > 30
    tags[0x8769] = {0xA001: 1, 0xA005: {1: "R03"}}
    np.testing.assert_array_equal(
        load(encode(flat, "JPEG", quality=100, exif=tags.tobytes())), plain
    )


def test_the_profile_of_a_jpeg_2000() -> None:
    data = encode(Image.new("RGB", (16, 16), (200, 60, 60)), "JPEG2000")
    at = data.index(b"colr") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    profile = profiles.of_cicp(12, 13) or b""
    box = struct.pack(">I4sBBB", 11 + len(profile), b"colr", 2, 0, 0) + profile
    header = data.index(b"jp2h") - 4
    length = int.from_bytes(data[header : header + 4], "big") - size + len(box)
    told = (
        data[:header] + struct.pack(">I", length) + data[header + 4 : at] + box + data[at + size :]
    )
    assert np.abs(load(told)[5, 5].astype(int) - P3_SEEN).max() <= 1


# --- Transparency ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(1, 0, b"\x40", (b"tRNS", b"\0\1")), [0, 255]),
        (png(2, 0, b"\x60", (b"tRNS", b"\0\1")), [255, 170]),
        (png(4, 0, b"\x56", (b"tRNS", b"\0\5")), [255, 102]),
        (png(8, 0, b"\5\6", (b"tRNS", b"\0\5")), [255, 6]),
        (png(16, 0, b"\x55\5\x66\6", (b"tRNS", b"\x55\5")), [255, 102]),
        (png(8, 2, b"\5\5\5\6\6\6", (b"tRNS", b"\0\5" * 3)), [255, 6]),
        (png(16, 2, b"\x55\5" * 3 + b"\x66\6" * 3, (b"tRNS", b"\x55\5" * 3)), [255, 102]),
    ],
)
def test_one_transparent_colour_of_png_at_every_depth(data: bytes, expected: list[int]) -> None:
    assert load(data)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_associated_alpha_of_tiff(dtype: str) -> None:
    values = np.broadcast_to(np.array([100, 0, 0, 128]), (2, 2, 4)).astype(dtype)
    data = tiff(values * (257 if dtype == "u2" else 1), "rgb", extrasamples=["assocalpha"])
    assert np.abs(load(data)[0, 0] - np.array([227, 127, 127])).max() <= 1


# --- Edges and turns ------------------------------------------------------------------------------


def with_clean_aperture(data: bytes, *numbers: int) -> bytes:
    """Put a clean aperture among an AVIF's properties and make it the first item's."""
    box = struct.pack(">I4s4I", 40, b"clap", *numbers[:4]) + struct.pack(">iIiI", *numbers[4:])

    def grow(name: bytes, by: int) -> None:
        nonlocal data
        at = data.index(name) - 4
        data = (
            data[:at]
            + struct.pack(">I", int.from_bytes(data[at : at + 4], "big") + by)
            + data[at + 4 :]
        )

    table = data.index(b"ipma")
    count_at = table + 4 + 4 + 4 + 2
    count = data[count_at]
    container = data.index(b"ipco")
    size = int.from_bytes(data[container - 4 : container], "big")
    properties, at = 0, container + 4
    while at < container - 4 + size:
        at += int.from_bytes(data[at : at + 4], "big")
        properties += 1
    end = count_at + 1 + count
    data = (
        data[:count_at]
        + bytes([count + 1])
        + data[count_at + 1 : end]
        + bytes([0x80 | properties + 1])
        + data[end:]
    )
    data = data[:at] + box + data[at:]
    for name, by in ((b"ipma", 1), (b"ipco", 40), (b"iprp", 41), (b"meta", 41)):
        grow(name, by)
    offset = data.index(b"iloc") + 4 + 4 + 2 + 2 + 2 + 2 + 2
    start = int.from_bytes(data[offset : offset + 4], "big") + 41
    return data[:offset] + struct.pack(">I", start) + data[offset + 4 :]


def test_clean_aperture_of_avif() -> None:
    data = encode(PICTURE, "AVIF", quality=100, subsampling="4:4:4")
    whole = load(data)
    cut = load(with_clean_aperture(data, 20, 1, 10, 1, -4, 1, 2, 1))
    np.testing.assert_array_equal(cut, whole[7:17, 1:21])
    with pytest.warns(ImageWarning, match="clean aperture cannot be used"):
        assert load(with_clean_aperture(data, 90, 1, 10, 1, 0, 1, 0, 1)).shape == whole.shape
    with pytest.warns(ImageWarning, match="clean aperture cannot be used"):
        load(with_clean_aperture(data, 20, 0, 10, 1, 0, 1, 0, 1))


# --- What needs an extra --------------------------------------------------------------------------


def heic(image: Image.Image, **options: Any) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    return encode(image, "HEIF", quality=95, chroma=444, **options)


def jpeg_xl(image: Image.Image, **options: Any) -> bytes:
    pytest.importorskip("pillow_jxl")
    return encode(image, "JXL", lossless=True, **options)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_heic(orientation: int) -> None:
    pixels = load(heic(Image.fromarray(PICTURE), exif=exif(orientation)))
    assert largest_error(pixels, UPRIGHT[orientation](PICTURE)) < 16


def test_colours_of_heic() -> None:
    flat = Image.new("RGB", (64, 64), (200, 60, 60))
    numbers = {"save_nclx_profile": True, "color_primaries": 12, "transfer_characteristics": 13}
    assert np.abs(load(heic(flat, **numbers))[5, 5].astype(int) - P3_SEEN).max() <= 4


def test_jpeg_xl() -> None:
    """It is upright as it is: its standard says that EXIF's orientation counts for nothing."""
    for options in ({}, {"exif": exif(6)[6:]}, {"use_container": True}):
        np.testing.assert_array_equal(load(jpeg_xl(Image.fromarray(PICTURE), **options)), PICTURE)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (8, 16), (256, 256), (30, 20), (3000, 1), (1920, 1080)])
@pytest.mark.parametrize("container", [False, True])
def test_jpeg_xl_is_measured_before_it_is_decoded(
    size: tuple[int, int], container: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = jpeg_xl(Image.new("L", size), use_container=container)
    count = size[0] * size[1]
    assert load(data, max_pixels=count).shape == (size[1], size[0], 3)
    monkeypatch.setitem(sys.modules, "pillow_jxl.JpegXLImagePlugin", None)
    with pytest.raises(LimitExceeded, match=f"{size[0]} x {size[1]} = {count} pixels"):
        load(data, max_pixels=count - 1)


@pytest.mark.parametrize(
    ("module", "make", "name"),
    [
        ("pillow_heif", heic, "HEIF"),
        ("pillow_jxl.JpegXLImagePlugin", jpeg_xl, "JPEG XL"),
    ],
)
def test_without_the_extra_the_error_names_it(
    module: str, make: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make(Image.fromarray(PICTURE))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnsupportedImage, match=rf"{name} .*pip install pillow-"):
        load(data)
