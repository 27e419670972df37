"""The codec as a whole: sizes, rate, tiles, refusals, and files that were written long ago."""

import hashlib
import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference_decoder
from conftest import PHOTOGRAPHS, TINY, TINY_FINGERPRINT, Spoilt
from PIL import Image
from plain_tables import plain_levels

import tactic_codec
from tactic_codec import codec as codec_room
from tactic_codec import container, entropy, metrics
from tactic_codec import picture as image
from tactic_codec.codec import Codec, load_model
from tactic_codec.container import Frame
from tactic_codec.errors import (
    Corrupt,
    LimitExceeded,
    TacError,
    Truncated,
    UnknownLevel,
    UnknownModel,
    UnsupportedImage,
)
from tactic_codec.model import Model, latent_size
from tactic_codec.picture import profiles
from tactic_codec.runtime import open_runtime

Pixels = npt.NDArray[np.uint8]

VECTORS = Path(__file__).parent / "vectors" / "valid"
EXPECTED: dict[str, Any] = json.loads((VECTORS / "expected.json").read_text(encoding="utf-8"))
BUNDLED = Path(__file__).parents[1] / "models"
OF_TINY = [name for name, facts in EXPECTED.items() if facts["model"] == "tiny"]
LEVELS = (1, 2, 3)
CODERS = (entropy.CONSTRICTION, entropy.PURE)


def cat() -> Pixels:
    return image.load(PHOTOGRAPHS[0].with_name("cat.jpg"))


def picture(height: int, width: int) -> Pixels:
    """A picture of any size, with detail: the cat, repeated."""
    pixels = cat()
    rows, columns = np.arange(height) % pixels.shape[0], np.arange(width) % pixels.shape[1]
    return np.ascontiguousarray(pixels[rows][:, columns])


def largest_difference(a: Pixels, b: Pixels) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b).max())


# --- Sizes and rate -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width"),
    [(1, 1), (1, 4000), (4000, 1), (31, 33), (8, 8), (9, 8), (224, 224), (375, 500), (500, 375)],
)
def test_a_picture_comes_back_in_its_size(tiny: Codec, height: int, width: int) -> None:
    data = tiny.compress(picture(height, width)).data
    frame = container.parse(data)
    assert (frame.width, frame.height) == (width, height)
    assert (frame.fingerprint, frame.level) == (TINY_FINGERPRINT, 2)
    assert tiny.model.decode_symbols(frame).shape == (8, *latent_size(height, width, 8))
    decoded = tiny.decompress(data)
    assert decoded.mode == "RGB"
    assert decoded.size == (width, height)


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda p: p.stem)
def test_a_higher_level_costs_more_and_shows_more(tiny: Codec, path: Path) -> None:
    pixels = image.load(path)
    files = [tiny.compress(pixels, level).data for level in LEVELS]
    psnrs = [metrics.psnr(pixels, np.asarray(tiny.decompress(data))) for data in files]
    assert sorted({len(data) for data in files}) == [len(data) for data in files]
    assert psnrs == sorted(psnrs)
    flat = np.broadcast_to(pixels.mean(axis=(0, 1)).astype(np.uint8), pixels.shape)
    assert psnrs[0] > metrics.psnr(pixels, flat) + 3  # a picture of this scene
    assert [container.parse(data).level for data in files] == list(LEVELS)


def test_the_default_level_is_the_model_s(tiny: Codec) -> None:
    assert tiny.compress(cat()).data == tiny.compress(cat(), tiny.model.default_level).data


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda p: p.stem)
def test_files_cost_what_the_tables_say(tiny: Codec, path: Path, level: int) -> None:
    data = tiny.compress(path, level).data
    frame = container.parse(data)
    ideal = entropy.ideal_bits(tiny.model.decode_symbols(frame), tiny.model.tables(level))
    assert ideal - 8 <= 8 * len(frame.payload) <= 1.005 * ideal + 64
    assert len(data) == len(frame.payload) + frame.header_bytes
    assert frame.header_bytes <= 20


@pytest.mark.parametrize("level", LEVELS)
def test_a_small_picture_s_header_is_small(tiny: Codec, level: int) -> None:
    for pixels in (picture(224, 224), np.zeros((224, 224, 3), np.uint8)):
        assert container.parse(tiny.compress(pixels, level).data).header_bytes <= 18
    noise = np.random.default_rng(1).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    assert container.parse(tiny.compress(noise, level).data).header_bytes <= 18


def test_the_decoder_gives_the_symbols_that_the_encoder_rounded(tiny: Codec) -> None:
    pixels = picture(100, 130)
    symbols = tiny.quantise(tiny.analyse(pixels), 3)
    frame = container.parse(tiny.compress(pixels, 3).data)
    np.testing.assert_array_equal(tiny.model.decode_symbols(frame), symbols)
    np.testing.assert_array_equal(np.asarray(tiny.decompress(frame)), tiny.decode(frame))


# --- What is taken --------------------------------------------------------------------------------


def test_every_form_of_a_picture_gives_the_same_bytes(tiny: Codec, tmp_path: Path) -> None:
    pixels = picture(40, 56)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    (tmp_path / "picture.png").write_bytes(buffer.getvalue())
    forms: list[Any] = [
        *(pixels, Image.fromarray(pixels), buffer.getvalue(), tmp_path / "picture.png"),
        *(np.asfortranarray(pixels), pixels[::-1, ::-1][::-1, ::-1]),
        Image.fromarray(pixels).convert("RGBA"),
    ]
    pixels.setflags(write=False)
    assert len({tiny.compress(form).data for form in [*forms, pixels]}) == 1


def test_the_picture_is_not_changed(tiny: Codec) -> None:
    pixels = picture(31, 33)
    before = pixels.copy()
    tiny.compress(pixels)
    np.testing.assert_array_equal(pixels, before)


def test_what_is_no_picture_is_refused(tiny: Codec) -> None:
    with pytest.raises(UnsupportedImage):
        tiny.compress(b"%PDF-1.4")
    with pytest.raises(UnsupportedImage, match="compressed already"):
        tiny.compress(tiny.compress(picture(8, 8)).data)


@pytest.mark.parametrize("level", [0, -1, 4, 256])
def test_a_level_that_the_model_lacks_is_refused(tiny: Codec, level: int) -> None:
    with pytest.raises(UnknownLevel, match="quality levels 1 to 3"):
        tiny.compress(picture(8, 8), level)


def test_a_frame_of_a_level_that_the_model_lacks_is_refused(tiny: Codec) -> None:
    data = container.pack(Frame(TINY_FINGERPRINT, 4, 8, 8, b""))
    with pytest.raises(UnknownLevel, match="not 4"):
        tiny.decompress(data)


@pytest.mark.parametrize("shape", [(1, 65_536), (65_536, 1)])
def test_a_side_that_a_frame_cannot_state_is_refused(tiny: Codec, shape: tuple[int, int]) -> None:
    with pytest.raises(LimitExceeded, match="at most 65535 pixels a side"):
        tiny.compress(np.zeros((*shape, 3), np.uint8))


def test_the_longest_side_is_coded(tiny: Codec) -> None:
    assert tiny.decompress(tiny.compress(picture(1, 65_535)).data).size == (65_535, 1)


def test_a_frame_of_another_model_is_refused(tiny: Codec) -> None:
    data = container.pack(Frame(b"\xde\xad\xbe\xef", 1, 8, 8, b""))
    with pytest.raises(UnknownModel, match=r"fingerprint deadbeef; tiny is a292e80f"):
        tiny.decompress(data)


def test_frames_and_bytes_decode_alike(tiny: Codec) -> None:
    data = tiny.compress(picture(16, 24)).data
    assert tiny.decompress(data) == tiny.decompress(container.parse(data))
    with pytest.raises(Corrupt, match="follow the frame"):
        tiny.decompress(data + data)
    with pytest.raises(Truncated):
        tiny.decompress(b"")


def test_a_frame_finds_its_model(tiny: Codec, tiny_installed: None) -> None:
    data = tiny.compress(picture(31, 33)).data
    assert tactic_codec.decompress(data).size == (33, 31)
    assert tactic_codec.decompress(data) == tiny.decompress(data)


def test_a_frame_whose_model_is_not_installed_says_so(tiny: Codec, nothing_installed: Path) -> None:
    with pytest.raises(UnknownModel, match=r"fingerprint a292e80f, .*installed: none"):
        tactic_codec.decompress(tiny.compress(picture(8, 8)).data)


# --- Networks that misbehave ----------------------------------------------------------------------


class Fake:
    """A runtime that answers with what it was given."""

    def __init__(self, halo: int = 4, **answers: Any) -> None:
        self.answers = answers
        self._halo = halo

    def halo(self, network: str) -> int:
        return self._halo

    def open_ahead(self, network: str) -> None:
        pass

    def run(
        self, network: str, array: npt.NDArray[np.float32], **_: Any
    ) -> npt.NDArray[np.float32]:
        result: npt.NDArray[np.float32] = self.answers[network](array)
        return result


@pytest.mark.parametrize("level", LEVELS)
def test_a_latent_that_overflowed_is_coded_at_its_limits(tiny: Codec, level: int) -> None:
    wild = [np.nan, np.inf, -np.inf, 3e38, -3e38, 2.0**21, 0.0, 1e-40]
    latent = np.array(wild, np.float32)[:, None, None] * np.ones((8, 2, 2), np.float32)
    fake = Codec(tiny.model, Fake(analysis=lambda _: latent[np.newaxis]))
    data = fake.compress(picture(16, 16), level).data
    limit = entropy.SYMBOL_LIMIT
    found = tiny.model.decode_symbols(container.parse(data))[:, 0, 0].tolist()
    assert found == [0, limit, -limit, limit, -limit, limit, 0, 0]
    assert tiny.decompress(data).size == (16, 16)


def test_halves_are_rounded_to_even(tiny: Codec) -> None:
    latent = np.array([-2.5, -0.5, 0.5, 1.5, 2.5, 2.4999, 3.5, 0], np.float32)[:, None, None]
    assert tiny.quantise(latent, 2)[:, 0, 0].tolist() == [-2, 0, 0, 2, 2, 2, 4, 0]


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (0.5, [0, 0, 0, 1, 1, 2, 2, 2, 3, -1, -2, -3]),
        (0.4, [0, 0, 0, 0, 1, 1, 2, 2, 3, 0, -1, -3]),
        (0.3, [0, 0, 0, 0, 0, 1, 1, 2, 3, 0, -1, -3]),
    ],
)
def test_an_offset_below_a_half_makes_a_dead_zone(offset: float, expected: list[int]) -> None:
    v = [0, 0.29, 0.49, 0.59, 0.61, 1.59, 1.65, 1.71, 3.0, -0.55, -1.55, -3.0]
    latent = np.array(v, np.float32)[:, None, None] / 2
    found = codec_room.quantise(latent, np.full(12, 2, np.float32), offset)
    assert found[:, 0, 0].tolist() == expected
    assert found.dtype == np.int32


@pytest.mark.parametrize(
    ("largest", "kind"), [(127, np.int8), (128, np.int16), (32767, np.int16), (32768, np.int32)]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_symbols_of_tiles_get_the_bytes_that_they_need(
    largest: int, kind: type, sign: int, tiny: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a later tile needs more bytes, what is there gets them too."""
    monkeypatch.setattr(codec_room, "TILE", 64)
    monkeypatch.setattr(codec_room, "HALOS_PER_TILE", {"analysis": 1, "synthesis": 1})
    calls = iter(range(99))
    level = tiny.model.level(3)
    value = largest if sign > 0 else ~largest

    def analysis(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        shape = (1, len(level.gain), x.shape[2] // 8, x.shape[3] // 8)
        wanted = value if next(calls) == 2 else 5
        return np.full(shape, wanted, np.float32) / level.gain[:, np.newaxis, np.newaxis]

    codec = Codec(tiny.model, Fake(analysis=analysis))
    pixels = picture(400, 272)
    found = codec.analyse(pixels, 3)
    calls = iter(range(99))
    expected = codec.quantise(codec.analyse(pixels), 3)
    assert found.dtype == kind and {5, value} == set(found.ravel().tolist())
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("level", [1, 3])
def test_rounding_tiles_makes_the_same_file(
    level: int, tiny: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec_room, "TILE", 64)
    pixels = cat()
    shown = image.Scaled(pixels, pixels.shape[1], pixels.shape[0])
    known, symbols = tiny.code(shown, tiny.analyse(pixels), level)
    assert tiny.compress(pixels, level).data == container.pack(known)
    np.testing.assert_array_equal(tiny.analyse(pixels, level), symbols)


def test_an_offset_of_a_half_rounds_as_ieee_754_does_to_the_bit() -> None:
    random = np.random.default_rng(1)
    v = np.concatenate([random.normal(0, 3, 4000), np.arange(-9, 9.5, 0.5), [1e-40, -0.0, 2.0**20]])
    latent = v.astype(np.float32)[np.newaxis, np.newaxis]
    found = codec_room.quantise(latent, np.ones(1, np.float32), 0.5)
    np.testing.assert_array_equal(found, np.rint(latent).astype(np.int32))


def test_the_codec_rounds_with_its_levels_offset(spoilt: Spoilt, tiny: Codec) -> None:
    spoilt.set("encoder", "offset", to=[0.5, 0.35, 0.5])
    codec = Codec(spoilt.model, tiny.runtime)
    pixels = cat()
    latent = tiny.analyse(pixels)
    assert np.count_nonzero(codec.quantise(latent, 2)) < np.count_nonzero(tiny.quantise(latent, 2))
    np.testing.assert_array_equal(codec.quantise(latent, 3), tiny.quantise(latent, 3))
    data = codec.compress(pixels, 2).data
    assert len(data) < len(tiny.compress(pixels, 2).data)
    # The decoder is the same: files of either encoder are read by both.
    np.testing.assert_array_equal(
        tiny.model.decode_symbols(container.parse(data)), codec.quantise(latent, 2)
    )


def test_reconstructions_beyond_black_and_white_are_clipped(tiny: Codec) -> None:
    shades = np.array([-1e30, -0.1, 0.0, 0.5, 1.0, 1.1, 1e30, np.inf], np.float32)
    x_hat = np.broadcast_to(shades, (1, 3, 8, 8))
    fake = Codec(tiny.model, Fake(synthesis=lambda _: x_hat))
    decoded = fake.decode(container.parse(tiny.compress(picture(8, 8)).data))
    assert decoded[0, :, 0].tolist() == [0, 0, 0, 128, 255, 255, 255, 255]


def test_the_networks_get_float32_between_0_and_1(tiny: Codec) -> None:
    seen: dict[str, npt.NDArray[np.float32]] = {}

    def spy(network: str) -> Any:
        def run(array: npt.NDArray[np.float32]) -> Any:
            seen[network] = array
            return tiny.runtime.run(network, array)

        return run

    codec = Codec(tiny.model, Fake(analysis=spy("analysis"), synthesis=spy("synthesis")))
    pixels = picture(9, 17)
    codec.decompress(codec.compress(pixels, 1).data)
    assert {array.dtype for array in seen.values()} == {np.dtype(np.float32)}
    assert seen["analysis"].shape == (1, 3, 16, 24)
    np.testing.assert_allclose(seen["analysis"][0, :, :9, :17] * 255, pixels.transpose(2, 0, 1))
    # The last row and column are repeated, so that the padding costs few bits.
    np.testing.assert_allclose(seen["analysis"][0, :, 15, 23] * 255, pixels[-1, -1])
    assert seen["synthesis"].shape == (1, 8, 2, 3)
    np.testing.assert_array_equal(seen["synthesis"] % 2, 0)  # level 1: symbols times two


# --- Tiles ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("tile", [64, 128])
@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda p: p.stem)
def test_tiles_leave_no_seams(tiny: Codec, monkeypatch: Any, path: Path, tile: int) -> None:
    pixels = image.load(path)
    monkeypatch.setattr(codec_room, "TILE", 4096)
    whole = tiny.quantise(tiny.analyse(pixels), 3)
    frame = Frame(TINY_FINGERPRINT, 3, pixels.shape[1], pixels.shape[0], b"")
    decoded = tiny.synthesise(whole, frame)
    monkeypatch.setattr(codec_room, "TILE", tile)
    monkeypatch.setattr(codec_room, "HALOS_PER_TILE", {"analysis": 1, "synthesis": 1})
    tiled = tiny.quantise(tiny.analyse(pixels), 3)
    difference = np.abs(tiled - whole)
    # A sum taken in another order may fall on the other side of a half: one symbol in 10,000.
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= whole.size // 10_000
    assert largest_difference(tiny.synthesise(whole, frame), decoded) <= 1


def test_a_halo_too_small_would_be_seen(tiny: Codec, monkeypatch: Any) -> None:
    pixels = cat()
    monkeypatch.setattr(codec_room, "TILE", 4096)
    whole = tiny.quantise(tiny.analyse(pixels), 3)
    monkeypatch.setattr(codec_room, "TILE", 64)
    monkeypatch.setattr(codec_room, "HALOS_PER_TILE", {"analysis": 1, "synthesis": 1})
    monkeypatch.setattr(tiny.runtime, "halo", lambda network: 1)
    assert np.count_nonzero(tiny.quantise(tiny.analyse(pixels), 3) - whole) > 20


MEMORY_PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from tactic_codec.codec import load_model
from tactic_codec.picture import load

codec = load_model(Path(sys.argv[1]), threads=1)
pixels = np.tile(load(Path(sys.argv[2])), (10, 9, 1))[:3000, :4000]
picture = codec.decompress(codec.compress(np.ascontiguousarray(pixels)))
assert picture.size == (4000, 3000)
try:
    # The kernel's own count for this program; rusage counts what the parent had before the fork.
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
except OSError:
    import resource
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(kilobytes)
"""


MOST_PROGRAM = """
import sys
from pathlib import Path
from tactic_codec.cli import main

main([sys.argv[1], "--quiet", "--threads", "1", *sys.argv[2:]], standalone_mode=False)
lines = Path("/proc/self/status").read_text().splitlines()
print(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
"""


def most_bytes(environment: dict[str, str], *command: str | Path) -> int:
    """Run a command as a process, with the default model, and return the memory that it took."""
    program = [sys.executable, "-c", MOST_PROGRAM, *command]
    run = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=500)
    assert run.returncode == 0, run.stderr
    return 1024 * int(run.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux counts it")
@pytest.mark.parametrize("scaled_to", [None, (1501, 999)])
def test_24_megapixels_are_decompressed_in_150_megabytes_beyond_them(
    scaled_to: tuple[int, int] | None, checkout_on_path: dict[str, str], tmp_path: Path
) -> None:
    """Memory does not depend on what is shown."""
    frame = Frame(load_model().model.fingerprint, 4, 6000, 4000, b"", scaled_to)
    (tmp_path / "a.tac").write_bytes(container.pack(frame))
    command = "decompress", "--max-pixels", "24000000", tmp_path / "a.tac", tmp_path / "a.png"
    assert most_bytes(checkout_on_path, *command) < 150_000_000 + 3 * frame.pixels
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (6000, 4000)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux counts it")
@pytest.mark.parametrize("as_phones_write_it", [False, True])
def test_24_megapixels_are_compressed_in_170_megabytes_beyond_them(
    as_phones_write_it: bool, checkout_on_path: dict[str, str], tmp_path: Path
) -> None:
    """Stored sideways, and with a profile of other primaries, too."""
    said: dict[str, Any] = {}
    if as_phones_write_it:
        said["exif"] = Image.Exif()
        said["exif"][0x0112] = 6
        said["icc_profile"] = profiles.of_cicp(12, 13)
    Image.fromarray(picture(4000, 6000)).save(tmp_path / "a.jpg", **said)
    most = most_bytes(checkout_on_path, "compress", tmp_path / "a.jpg", tmp_path / "a.tac")
    frame = container.parse((tmp_path / "a.tac").read_bytes())
    assert (frame.width, frame.height) == ((4000, 6000) if as_phones_write_it else (6000, 4000))
    assert most < 170_000_000 + 3 * frame.pixels


@pytest.mark.slow
def test_twelve_megapixels_fit_into_240_megabytes(checkout_on_path: dict[str, str]) -> None:
    cat_path = PHOTOGRAPHS[0].with_name("cat.jpg")
    command = [sys.executable, "-c", MEMORY_PROGRAM, TINY, cat_path]
    run = subprocess.run(command, env=checkout_on_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert 36_000 < int(run.stdout) < 240_000


def test_a_wide_halo_makes_wide_tiles(tiny: Codec, spoilt: Spoilt) -> None:
    """Otherwise the network would spend most of its work on halos."""
    spoilt.set("halo", to=12)
    shapes: list[tuple[int, ...]] = []

    def synthesis(y_hat: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        shapes.append(y_hat.shape[2:])
        return np.zeros((1, 3, 8 * y_hat.shape[2], 8 * y_hat.shape[3]), np.float32)

    fake = Codec(spoilt.model, Fake(halo=12, synthesis=synthesis))
    fake.decode(Frame(spoilt.model.fingerprint, 1, 8 * 120, 8 * 60, b""))
    assert shapes == [(60, 60 + 12)] * 2


def test_the_limit_on_pixels_can_be_raised(tiny: Codec, monkeypatch: Any) -> None:
    data = tiny.compress(picture(24, 40)).data
    monkeypatch.setattr(container, "SMALL_MAX_PIXELS", 959)
    with pytest.raises(LimitExceeded, match="max_pixels=960"):
        tiny.decompress(data)
    assert tiny.decompress(data, max_pixels=960).size == (40, 24)
    assert tiny.decompress(container.parse(data, max_pixels=960)).size == (40, 24)


# --- Threads --------------------------------------------------------------------------------------


def test_threads_share_a_codec(tiny: Codec) -> None:
    pictures = [picture(60 + 8 * n, 90) for n in range(4)]
    alone = [tiny.compress(pixels).data for pixels in pictures]
    model = Model(TINY)  # nothing loaded yet
    fresh = Codec(model, open_runtime(model, "cpu", threads=1))

    def work(number: int) -> tuple[bytes, Pixels]:
        data = fresh.compress(pictures[number % 4]).data
        return data, np.asarray(fresh.decompress(data))

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(32)))
    for number, (data, decoded) in enumerate(results):
        assert data == alone[number % 4]
        np.testing.assert_array_equal(decoded, np.asarray(tiny.decompress(data)))


# --- Damage ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tiny: Codec) -> bytes:
    data = tiny.compress(Image.fromarray(cat()).resize((60, 40)), 3).data
    assert 50 < len(data) < 120
    return data


def test_every_truncation_is_noticed(tiny: Codec, small: bytes) -> None:
    assert tiny.decompress(small).size == (60, 40)
    for length in range(len(small)):
        with pytest.raises(Truncated):
            tiny.decompress(small[:length])


def test_every_flipped_bit_is_noticed(tiny: Codec, small: bytes) -> None:
    for position in range(8 * len(small)):
        damaged = bytearray(small)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(TacError):
            tiny.decompress(bytes(damaged))


def test_a_forged_payload_ends_in_a_picture_or_in_corrupt(tiny: Codec) -> None:
    random = np.random.default_rng(1)
    endings = {"picture": 0, "corrupt": 0}
    for _ in range(200):
        payload = random.bytes(int(random.integers(0, 60))).rstrip(b"\0")
        frame = Frame(TINY_FINGERPRINT, int(random.integers(1, 4)), 60, 40, payload)
        try:
            assert tiny.decompress(container.pack(frame)).size == (60, 40)
            endings["picture"] += 1
        except Corrupt:
            endings["corrupt"] += 1
    assert endings["picture"] > 100


# --- Vectors --------------------------------------------------------------------------------------


def sha256_of_symbols(symbols: npt.NDArray[np.int32]) -> str:
    return hashlib.sha256(symbols.astype("<i4").tobytes()).hexdigest()


def test_every_vector_is_expected_and_described() -> None:
    names = sorted(path.name for path in VECTORS.glob("*.tac"))
    assert names == sorted(EXPECTED)
    assert len(names) >= 5
    readme = (VECTORS.parent / "README.md").read_text(encoding="utf-8")
    for name in names:
        size = (VECTORS / name).stat().st_size
        assert f"| `valid/{name}` | {size} |" in readme


@pytest.mark.parametrize("name", EXPECTED)
def test_vectors_decode_to_the_same_symbols(tiny: Codec, name: str) -> None:
    expected = EXPECTED[name]
    codec = tiny if expected["model"] == "tiny" else load_model(BUNDLED / expected["model"])
    frame = container.parse((VECTORS / name).read_bytes())
    assert frame.fingerprint.hex() == expected["fingerprint"]
    assert (frame.level, frame.width, frame.height) == tuple(
        expected[key] for key in ("level", "width", "height")
    )
    symbols = codec.model.decode_symbols(frame)
    assert list(symbols.shape) == expected["symbols"]
    assert sha256_of_symbols(symbols) == expected["symbols_sha256"]
    picture = codec.decompress(frame)
    assert picture.size == (frame.width, frame.height)
    if "psnr" in expected:
        psnr = metrics.psnr(cat(), np.asarray(picture))
        assert psnr == pytest.approx(expected["psnr"], abs=0.02)


@pytest.mark.parametrize("coder", CODERS, ids=lambda coder: coder.name)
@pytest.mark.parametrize("name", OF_TINY)
def test_every_coder_reads_and_writes_the_vectors(
    tiny: Codec, name: str, coder: entropy.Coder
) -> None:
    frame = container.parse((VECTORS / name).read_bytes())
    tables = tiny.model.tables(frame.level)
    shape = (8, *latent_size(frame.coded_height, frame.coded_width, 8))
    symbols = entropy.decode(frame.payload, shape, tables, coder)
    assert sha256_of_symbols(symbols) == EXPECTED[name]["symbols_sha256"]
    assert entropy.encode(symbols, tables, coder) == frame.payload


@pytest.mark.parametrize("name", OF_TINY)
def test_the_second_decoder_reads_the_vectors(name: str) -> None:
    model = Model(TINY)
    described = {"stride": model.stride, "levels": plain_levels(model)}
    symbols = reference_decoder.decode((VECTORS / name).read_bytes(), described)
    assert sha256_of_symbols(np.array(symbols, np.int32)) == EXPECTED[name]["symbols_sha256"]


def test_the_pure_coder_stands_in_unseen(tiny: Codec, monkeypatch: Any) -> None:
    pixels = picture(60, 90)
    data = tiny.compress(pixels, 3).data
    frame = container.parse(data)
    symbols, decoded = tiny.model.decode_symbols(frame), tiny.decode(frame)
    monkeypatch.setattr("tactic_codec.entropy.symbols.default_coder", lambda: entropy.PURE)
    monkeypatch.setattr("tactic_codec.entropy.coders._constriction", pytest.fail)
    assert tiny.compress(pixels, 3).data == data
    np.testing.assert_array_equal(tiny.model.decode_symbols(frame), symbols)
    np.testing.assert_array_equal(tiny.decode(frame), decoded)


@pytest.mark.parametrize("name", [path.parent.name for path in BUNDLED.glob("*/model.json")])
def test_every_level_of_a_bundled_model_has_a_vector(name: str) -> None:
    model = Model(BUNDLED / name)
    names = {f"{model.name}-level{number}.tac" for number in range(1, len(model.levels) + 1)}
    assert names <= set(EXPECTED)


def test_a_task_reads_what_it_looks_at(tiny: Codec, monkeypatch: Any) -> None:
    monkeypatch.setattr(codec_room, "TILE", 8)
    frame = tiny.compress(picture(301, 1001)).frame
    whole, seen = tiny.decode(frame), tiny.look(frame, "classify")
    assert seen.shape == (151, 501, 3)
    halved = whole[:300, 350:650].reshape(150, 2, 150, 2, 3).mean(axis=(1, 3))
    assert np.abs(seen[:150, 175:325] - halved).max() <= 1
    assert not seen[:, :80].any() and not seen[:, 420:].any()  # nobody looks there
    # Twice what the network reads, or less, is read as it was coded.
    frame = tiny.compress(picture(250, 300)).frame
    np.testing.assert_array_equal(tiny.look(frame, "classify"), tiny.decode(frame))
