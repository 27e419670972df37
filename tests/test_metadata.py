"""EXIF, XMP and colour profiles: kept in frames, given back, and never believed twice."""

import io
import json
import struct
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PHOTOGRAPHS, TINY, tactic
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from tactic_codec import container
from tactic_codec import picture as image
from tactic_codec.codec import Codec
from tactic_codec.errors import TargetMissed
from tactic_codec.picture import ImageWarning, Metadata, profiles

VECTORS = Path(__file__).parent / "vectors"
ORIENTATION, MAKER, EXIF_IFD, INTEROPERABILITY = 0x0112, 0x010F, 0x8769, 0xA005
P3 = profiles.of_cicp(12, 13) or b""
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="%d"/></x:xmpmeta>'


def exif_of(orientation: int, order: str = "<") -> Image.Exif:
    exif = Image.Exif()
    exif.endian = order
    exif[MAKER], exif[ORIENTATION] = "a maker", orientation
    return exif


def photograph() -> Image.Image:
    with Image.open(PHOTOGRAPHS[0]) as picture:
        return picture.resize((48, 32))


def file_of(format: str, orientation: int, **options: Any) -> bytes:
    """A photograph that says how it lies."""
    stream, xmp = io.BytesIO(), XMP % orientation
    if format == "PNG":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    else:
        options["xmp"] = xmp
    photograph().save(stream, format, exif=exif_of(orientation), icc_profile=P3, **options)
    return stream.getvalue()


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


# --- Kept and given back --------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_orientation_is_applied_once(format: str, orientation: int, tiny: Codec) -> None:
    given = file_of(format, orientation)
    coded = tiny.compress(given, keep_metadata=True)
    size = (32, 48) if orientation == 6 else (48, 32)
    assert (coded.width, coded.height) == size
    plain = tiny.compress(given)
    assert plain.frame.sections == () and plain.frame.payload == coded.frame.payload
    pixels = tiny.decode(coded.frame)
    for out in ("png", "jpeg", "webp"):
        written = image.save(pixels, out, Metadata(**coded.frame.metadata))
        shown = opened(written)
        assert shown.size == size
        assert shown.getexif()[MAKER] == "a maker"
        assert shown.getexif()[ORIENTATION] == 1
        assert shown.info["xmp"] == XMP % 1
        assert shown.info["icc_profile"] == P3
        # The profile's colours are sRGB's again when they are read.
        near = np.abs(image.load(written).astype(int) - pixels)
        assert near.mean() < (3 if out == "jpeg" else 0.5)
        again = tiny.compress(written, keep_metadata=True)
        assert again.frame.metadata == coded.frame.metadata
        assert (again.width, again.height) == size


def test_all_else_of_the_exif_data_stays_where_it_is() -> None:
    for order in "<>":
        data = exif_of(8, order).tobytes()[6:] + b"\0a thumbnail and a maker's note"
        kept = image.mended(Metadata(exif=data)).exif
        (place,) = [at for at in range(len(data)) if data[at] != kept[at]]
        assert (data[place], kept[place]) == (8, 1) and len(kept) == len(data)
    upright = exif_of(1).tobytes()[6:]
    assert image.mended(Metadata(exif=upright)).exif == upright


def test_xmp_alone_says_upright_too(tiny: Codec) -> None:
    for said in (b'tiff:Orientation="6"', b"<tiff:Orientation>6</tiff:Orientation>"):
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", said.decode())
        stream = io.BytesIO()
        photograph().save(stream, "PNG", pnginfo=text)
        coded = tiny.compress(stream.getvalue(), keep_metadata=True)
        assert coded.width == 32  # Pillow believes it
        assert coded.frame.metadata == {"xmp": said.replace(b"6", b"1")}
        written = image.save(tiny.decode(coded.frame), "png", Metadata(**coded.frame.metadata))
        assert image.load(written).shape == (48, 32, 3)


def test_adobe_rgb_that_only_exif_tells_of_is_converted_once(tiny: Codec) -> None:
    exif = exif_of(1)
    exif.get_ifd(EXIF_IFD)[0xA001] = 0xFFFF
    exif.get_ifd(EXIF_IFD)[INTEROPERABILITY] = {1: "R03"}
    stream = io.BytesIO()
    Image.new("RGB", (40, 24), (60, 200, 60)).save(stream, "PNG", exif=exif)
    assert opened(stream.getvalue()).getexif().get_ifd(INTEROPERABILITY)[1] == "R03"
    coded = tiny.compress(stream.getvalue(), 3, keep_metadata=True)
    pixels = tiny.decode(coded.frame)
    written = image.save(pixels, "png", Metadata(**coded.frame.metadata))
    kept = opened(written).getexif()
    assert kept.get_ifd(INTEROPERABILITY)[1] == "R98"
    assert kept.get_ifd(EXIF_IFD)[0xA001] == 1
    assert np.array_equal(image.load(written), pixels)


def test_a_profile_that_is_not_for_rgb_is_left_out(tiny: Codec) -> None:
    grey = bytearray(P3)
    grey[16:20] = b"GRAY"
    stream = io.BytesIO()
    photograph().convert("L").save(stream, "JPEG", icc_profile=bytes(grey))
    with pytest.warns(ImageWarning) as caught:
        coded = tiny.compress(stream.getvalue(), keep_metadata=True)
    assert "not for RGB" in str(caught[-1].message)
    assert coded.frame.sections == ()


def test_srgb_by_name_is_not_converted() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = np.asarray(photograph())
    written = image.save(pixels, "png", Metadata(icc=profile))
    assert np.array_equal(np.asarray(opened(written)), pixels)
    assert opened(written).info["icc_profile"] == profile


def test_exif_of_jpeg_xl_and_heif_is_kept(tiny: Codec) -> None:
    pytest.importorskip("pillow_jxl")
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    for format in ("JXL", "HEIF"):
        stream = io.BytesIO()
        photograph().save(stream, format, exif=exif_of(1).tobytes())
        coded = tiny.compress(stream.getvalue(), keep_metadata=True)
        assert b"a maker" in coded.frame.metadata["exif"]


def test_max_bytes_counts_metadata(tiny: Codec) -> None:
    given = file_of("JPEG", 6)
    free = tiny.compress(given, 1, keep_metadata=True)
    found = tiny.compress(given, max_bytes=free.frame.size, keep_metadata=True)
    assert len(found.data) <= free.frame.size == len(free.data)
    assert found.bpp == 8 * len(found.data) / (32 * 48)
    with pytest.raises(TargetMissed):
        most = sum(map(len, free.frame.metadata.values()))
        tiny.compress(given, max_bytes=most, keep_metadata=True)


def test_python_and_pillow_tell_of_it(tiny: Codec, tiny_installed: None) -> None:
    import tactic_codec.pillow  # noqa: F401

    picture = opened(file_of("JPEG", 6))
    stream = io.BytesIO()
    picture.save(stream, "TAC", model="tiny", keep_metadata=True)
    with Image.open(stream) as lazy:
        assert "exif" not in lazy.info  # it is behind the checksum
        assert lazy.getexif()[MAKER] == "a maker" and lazy.getexif()[ORIENTATION] == 1
        assert lazy.info["xmp"] == XMP % 1
        assert lazy.size == (32, 48)
    decoded = tiny.decompress(stream.getvalue())
    assert decoded.info.keys() == {"exif", "xmp"}  # its pixels are sRGB
    with pytest.raises(TypeError, match="keep_metadata"):
        tiny.compress(picture, keep_metadata="no")  # type: ignore[arg-type]


# --- The commands ---------------------------------------------------------------------------------


def test_the_commands_keep_show_and_give_back(tmp_path: Path, tiny_installed: None) -> None:
    (tmp_path / "a.jpg").write_bytes(file_of("JPEG", 6))
    kept, plain, out = tmp_path / "kept.tac", tmp_path / "plain.tac", tmp_path / "out.png"
    tactic("compress", "-m", "tiny", "--keep-metadata", tmp_path / "a.jpg", kept)
    tactic("compress", "-m", "tiny", tmp_path / "a.jpg", plain)
    assert container.parse(plain.read_bytes()).metadata == {}
    facts = [json.loads(line) for line in tactic("info", "--json", kept, plain).output.splitlines()]
    sizes = {kind: len(data) for kind, data in container.parse(kept.read_bytes()).metadata.items()}
    assert [found["metadata"] for found in facts] == [sizes, {}]
    assert sizes.keys() == {"exif", "xmp", "icc"}
    rows = tactic("info", kept, plain).output.splitlines()
    assert [row.split()[10] for row in rows[1:]] == ["exif+xmp+icc", "-"]
    tactic("decompress", kept, out)
    assert opened(out.read_bytes()).getexif()[MAKER] == "a maker"
    streamed = tmp_path / "stream.tac"
    given = file_of("JPEG", 6) + file_of("PNG", 3)
    tactic("compress", "-m", "tiny", "--keep-metadata", "-", streamed, input=given)
    for line in tactic("info", "--json", streamed).output.splitlines():
        assert json.loads(line)["metadata"].keys() == sizes.keys()
    said = tactic("decompress", kept, tmp_path / "out.ppm").output
    assert "choose png, jpeg or webp" in said


def test_metadata_that_cannot_be_used_costs_a_warning(tmp_path: Path) -> None:
    file = VECTORS / "unusual" / "metadata-that-cannot-be-used.tac"
    said = tactic("decompress", "-m", TINY, file, tmp_path / "x.png").output
    assert said.count("cannot be kept") == 3
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size == (40, 24)
        assert not picture.info.keys() & {"exif", "xmp", "icc_profile"}


# --- Strangers ------------------------------------------------------------------------------------


def frame_with(tiny: Codec, **metadata: bytes) -> container.Frame:
    """As a writer might make it who mends nothing."""
    kinds = {name: kind for kind, name in container.METADATA.items()}
    sections = tuple((kinds[name], data) for name, data in metadata.items())
    return container.Frame(tiny.model.fingerprint, 2, 40, 24, b"", None, sections)


def test_a_frame_that_says_lying_is_shown_upright(tiny: Codec) -> None:
    frame = frame_with(tiny, exif=exif_of(6).tobytes()[6:], xmp=XMP % 6)
    shown = tiny.decompress(frame)
    assert shown.size == (40, 24)
    assert shown.getexif()[ORIENTATION] == 1 and b'"6"' not in shown.info["xmp"]
    written = image.save(tiny.decode(frame), "jpeg", Metadata(**frame.metadata))
    assert image.load(written).shape == (24, 40, 3)


def directory(*entries: tuple[int, int, int, int], at: int = 8) -> bytes:
    return struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)


HEAD = b"II*\0\x08\0\0\0"
FAULTY_EXIF = {
    "nothing": b"II",
    "a word": b"EXIF data",
    "two prefixes": b"Exif\0\0" + HEAD + directory((ORIENTATION, 3, 1, 6)),
    "big TIFF": b"II+\0\x08\0\0\0" + bytes(40),
    "no directory": HEAD,
    "a directory far away": b"II*\0\xff\xff\xff\xff",
    "entries that are cut": HEAD + directory((ORIENTATION, 3, 1, 6))[:-1],
    "fewer entries than counted": HEAD + b"\xff\xff" + bytes(120),
    "R03 in a directory that is cut": HEAD + directory((EXIF_IFD, 4, 1, 99)) + b"R03",
}


@pytest.mark.parametrize("data", FAULTY_EXIF.values(), ids=FAULTY_EXIF)
def test_exif_that_cannot_be_mended_is_left_out(data: bytes, tiny: Codec) -> None:
    with pytest.warns(ImageWarning, match="EXIF data cannot be kept"):
        assert image.mended(Metadata(exif=data)) == Metadata()
    with pytest.warns(ImageWarning):
        assert tiny.decompress(frame_with(tiny, exif=data)).info == {}


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 13])
def test_orientation_of_any_type_and_number_is_mended(kind: int) -> None:
    entries = [(ORIENTATION, kind, 1, 6), (MAKER, 2, 2, 65), (ORIENTATION, 3, 1, 8)]
    kept = image.mended(Metadata(exif=HEAD + directory(*entries) + bytes(4))).exif
    written = image.save(np.zeros((8, 4, 3), np.uint8), "png", Metadata(exif=kept))
    assert image.load(written).shape == (8, 4, 3)
    assert opened(written).getexif()[ORIENTATION] == 1


def test_directories_within_directories_cost_little() -> None:
    most = 20_000
    inner = directory(*[(INTEROPERABILITY, 4, 1, 8)] * most)
    outer = directory(*[(EXIF_IFD, 4, 1, 10 + 12 * most)] * most)
    start = time.perf_counter()
    image.mended(Metadata(exif=HEAD + outer + inner + b"R03"))
    image.mended(Metadata(xmp=b":Orientation=" * 70_000 + b" " * 100_000))
    assert time.perf_counter() - start < 5


def test_what_is_too_large_is_left_out() -> None:
    for field, data in (("exif", HEAD + directory() + bytes(1 << 20)), ("xmp", b" " * (1 << 21))):
        with pytest.warns(ImageWarning, match="1048576 are kept at most"):
            assert image.mended(Metadata(**{field: data})) == Metadata()


def test_what_a_jpeg_cannot_hold_costs_a_warning_and_not_the_picture(tmp_path: Path) -> None:
    """A segment has a length of 16 bits; PNG and WebP hold what is kept at most."""
    pixels = np.zeros((8, 4, 3), np.uint8)
    exif, xmp = HEAD + directory() + bytes(4), XMP % 1
    for name, least in (("exif", exif), ("xmp", xmp)):
        large = Metadata(exif, xmp, P3)._replace(**{name: least + bytes((1 << 20) - len(least))})
        for format in ("png", "webp"):
            shown = opened(image.save(pixels, format, large))
            assert shown.info[name].removeprefix(b"Exif\0\0") == getattr(large, name)
        with pytest.warns(ImageWarning, match=r"a JPEG cannot hold .*: it is left out; choose png"):
            written = image.save(pixels, "jpeg", large)
        kept = {"exif", "xmp", "icc_profile"} - {name}
        assert opened(written).info.keys() & {"exif", "xmp", "icc_profile"} == kept
    # To the byte, and a profile goes into as many segments as it needs.
    segment = (1 << 16) - 1 - 2
    for name, header, least in (("exif", 6, exif), ("xmp", 29, xmp)):
        for more in (0, 1):
            data = least + bytes(segment - header - len(least) + more)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                written = image.save(pixels, "jpeg", Metadata()._replace(**{name: data}))
            assert (len(caught), name in opened(written).info) == (more, not more)
    profile = P3 + bytes(200_000)
    profile = len(profile).to_bytes(4, "big") + profile[4:]
    assert opened(image.save(pixels, "jpeg", Metadata(icc=profile))).info["icc_profile"] == profile


def test_a_profile_that_converts_nothing_is_left_out() -> None:
    for data in (P3[:140], P3[:128] + b"\xff" * 8, P3.replace(b"rXYZ", b"xxxx")):
        with pytest.warns(ImageWarning, match="colour profile cannot be used"):
            written = image.save(np.full((8, 4, 3), 77, np.uint8), "png", Metadata(icc=data))
        assert "icc_profile" not in opened(written).info
        assert image.load(written)[0, 0].tolist() == [77, 77, 77]


def test_nothing_is_said_of_metadata_that_nobody_asked_for(tiny: Codec) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stream = io.BytesIO()
        photograph().save(stream, "JPEG", xmp=b"\xff", icc_profile=P3)
        tiny.compress(stream.getvalue())
