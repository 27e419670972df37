"""More of the bits for a region of interest, by what the encoder is free to do."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY, tactic
from PIL import Image

from tactic_codec import entropy, metrics
from tactic_codec import picture as image
from tactic_codec.codec import Codec, load_model
from tactic_codec.entropy import Prices, moves
from tactic_codec.report import spent

CUP = (175, 15, 415, 240)
"""Of examples/coffee.jpg."""


def picture(height: int = 96, width: int = 128) -> image.Pixels:
    noise = np.random.default_rng(3).normal(0, 25, (height, width, 3))
    y, x = np.mgrid[:height, :width]
    ground = np.stack([x % 97, y % 83, (x + y) % 71], -1) * 2
    return (ground + noise).clip(0, 255).astype(np.uint8)


def left(height: int = 96, width: int = 128) -> np.ndarray:
    region = np.zeros((height, width), np.bool_)
    region[:, : width // 2] = True
    return region


@pytest.mark.slow
@pytest.mark.parametrize("band", [1, 1 << 20])
@pytest.mark.parametrize("model", [TINY, None])
def test_outside_symbols_go_where_they_cost_more_than_they_show(
    model: Path | None, band: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For contexts of both kinds, and however the latent is cut."""
    monkeypatch.setattr(moves, "_BAND", band)
    codec = load_model(model, threads=1)
    latent = codec.analyse(picture())
    level = len(codec.model.levels)
    inside = image.covered(left(), latent.shape[1:], (codec.model.stride,) * 2) > 0
    plain, thin = codec.quantise(latent, level), codec.quantise(latent, level, inside)
    np.testing.assert_array_equal(plain[:, inside], thin[:, inside])
    assert (np.abs(thin) <= np.abs(plain)).all() and (thin * plain >= 0).all()
    values = latent * codec.model.level(level).gain[:, None, None]
    prices = Prices(codec.model.tables(level))
    bits, lost = (
        [float(f(s)) for s in (plain, thin)]
        for f in (lambda s: prices.symbols(s).sum(), lambda s: np.square(values - s).sum())
    )
    assert bits[1] < 0.9 * bits[0] and bits[0] - bits[1] > lost[1] - lost[0]


def test_the_file_is_smaller_and_decodes_to_the_same_symbols(tiny: Codec) -> None:
    pixels = picture()
    plain, thin = tiny.compress(pixels, 3), tiny.compress(pixels, 3, roi=left())
    assert len(thin.data) < len(plain.data)
    latent = tiny.analyse(pixels)
    inside = image.covered(left(), latent.shape[1:], (tiny.model.stride,) * 2) > 0
    chosen = tiny.quantise(latent, 3, inside)
    for coder in (entropy.CONSTRICTION, entropy.PURE):
        read = entropy.decode(thin.frame.payload, chosen.shape, tiny.model.tables(3), coder)
        np.testing.assert_array_equal(read, chosen)
    everything = tiny.compress(pixels, 3, roi=np.ones(pixels.shape[:2], np.uint8))
    assert everything.data == plain.data
    nothing = tiny.compress(pixels, 3, roi=np.zeros(pixels.shape[:2], np.uint8))
    assert len(nothing.data) < len(thin.data)
    scaled = tiny.compress(pixels, 3, roi=left(), scale=0.5)
    assert len(scaled.data) < len(tiny.compress(pixels, 3, scale=0.5).data)


@pytest.mark.parametrize(
    "roi", [np.ones((96, 127), bool), np.ones((96, 128, 3), bool), np.ones((96, 128)), True]
)
def test_regions_of_other_pictures_are_refused(tiny: Codec, roi: object) -> None:
    with pytest.raises(ValueError, match=r"roi must be bool \[96, 128\]"):
        tiny.compress(picture(), 2, roi=roi)


@pytest.mark.slow
def test_effort_knows_the_region(one_torch_thread: None) -> None:
    codec = load_model(threads=1)
    pixels, region = picture(), left()
    found = [codec.compress(pixels, 4, roi=roi, effort=2).frame for roi in (None, region)]
    shares = []
    for frame in found:
        symbols = codec.model.decode_symbols(frame)
        blocks = spent.bits_of_blocks(symbols, codec.model.tables(frame.level))
        shares.append(spent.facts_of(frame, codec.model, blocks, region)["inside_share"])
    assert shares[1] > shares[0] + 0.1 and found[1].size < found[0].size


@pytest.mark.slow
def test_the_cup_gets_more_bits_of_as_many_and_is_found_in_them(tmp_path: Path) -> None:
    """By the command, with the default model: measured by explain and detect."""
    photo = ROOT / "examples" / "coffee.jpg"
    (tmp_path / "cup.json").write_text(json.dumps([CUP]))

    def told(*args: str | Path) -> list[dict]:
        return [json.loads(line) for line in tactic(*args, "--json").stdout.splitlines()]

    cup = ("--roi", tmp_path / "cup.json")
    plain, aimed = tmp_path / "plain.tac", tmp_path / "aimed.tac"
    tactic("compress", photo, plain, "--max-bytes", "1900")
    tactic("compress", photo, aimed, "--max-bytes", "1900", *cup)
    assert os.path.getsize(aimed) <= 1900
    (before,), (after,) = (told("explain", path, *cup) for path in (plain, aimed))
    assert after["level"] > before["level"]
    assert after["inside_bits"] > 1.5 * before["inside_bits"]
    original = image.load(photo)
    across, down = slice(CUP[0], CUP[2]), slice(CUP[1], CUP[3])
    quality = []
    for path in (plain, aimed):
        tactic("decompress", path, "-f", tmp_path / "x.png")
        with Image.open(tmp_path / "x.png") as decoded:
            quality.append(metrics.psnr(original[down, across], np.asarray(decoded)[down, across]))
    assert quality[1] > quality[0] + 1
    (found,) = told("detect", aimed)
    assert any(one["label"] == "cup" and one["score"] >= 0.4 for one in found["detections"])


def test_files_of_boxes_belong_to_pictures_by_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        Path("in", name).mkdir(parents=True)
        Path("in", name, "1.png").write_bytes(image.save(picture(), "png"))
    line = {"width": 128, "height": 96}
    Path("boxes.json").write_text(
        "".join(
            json.dumps(line | {"file": f"old/{name}/1.tac", "detections": boxes}) + "\n"
            for name, boxes in (("a", [{"box": [0, 0, 128, 96]}]), ("b", []))
        )
    )
    args = ["compress", "-m", str(TINY), "-r", "in", "-o", "out/", "--roi", "boxes.json"]
    tactic(*args)
    sizes = [os.path.getsize(f"out/{name}/1.tac") for name in "ab"]
    assert sizes[1] < sizes[0]
    Path("in/c.png").write_bytes(image.save(picture(), "png"))
    result = tactic(*args, "-f", code=1)
    assert "tactic: in/c.png: boxes.json lists no picture of this name\n" in result.stderr
    Path("boxes.json").write_text(json.dumps(line | {"file": "-", "detections": []}))
    result = tactic(*args, "-f", code=1)
    assert (
        "lists no picture of this name; give detect the file, not standard input" in result.stderr
    )
