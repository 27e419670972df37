"""Where the bits of a frame went, and regions that people and detectors mark."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Spoilt, tactic, teach_to_detect
from PIL import Image

from tactic_codec import entropy
from tactic_codec import picture as image
from tactic_codec.codec import Codec
from tactic_codec.errors import DataError
from tactic_codec.picture.drawing import draw_heat
from tactic_codec.report import spent
from tactic_codec.tasks.regions import regions_in

MODELS = Path(__file__).parent / "models"


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TACTIC_MODELS", str(MODELS))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)


def half_busy(height: int = 48, width: int = 96) -> image.Pixels:
    """A picture that is plain on its left half and noise on its right one."""
    pixels = np.full((height, width, 3), 120, np.uint8)
    noise = np.random.default_rng(1).integers(0, 255, (height, width - width // 2, 3))
    pixels[:, width // 2 :] = noise
    return pixels


def save(path: str, pixels: image.Pixels | None = None) -> Path:
    Path(path).write_bytes(image.save(half_busy() if pixels is None else pixels, "png"))
    return Path(path)


# --- Bits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(48, 96), (5, 7), (33, 130)])
def test_bits_of_blocks_add_up_however_they_are_cut(
    tiny: Codec, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = tiny.compress(half_busy(*size), 2).frame
    symbols, tables = tiny.model.decode_symbols(frame), tiny.model.tables(2)
    whole = spent.bits_of_blocks(symbols, tables)
    assert whole.shape == symbols.shape[1:]
    ideal = entropy.ideal_bits(symbols, tables)
    assert whole.sum() == pytest.approx(ideal, rel=1e-5)
    monkeypatch.setattr(spent, "_BAND", 1)
    np.testing.assert_array_equal(spent.bits_of_blocks(symbols, tables), whole)


@pytest.mark.parametrize("scale", [1, 0.5, 0.3])
def test_bits_are_counted_inside_of_what_the_picture_shows(tiny: Codec, scale: float) -> None:
    frame = tiny.compress(half_busy(), 3, scale=scale).frame
    blocks = spent.bits_of_blocks(tiny.model.decode_symbols(frame), tiny.model.tables(3))
    right = np.zeros((48, 96), np.bool_)
    right[:, 48:] = True
    there, here, all_of_it = (
        spent.facts_of(frame, tiny.model, blocks, inside)
        for inside in (right, ~right, right | True)
    )
    assert there["inside_bits"] + here["inside_bits"] == pytest.approx(blocks.sum(), abs=0.2)
    assert there["inside_share"] > 0.55 and there["inside_area"] == 0.5
    assert (all_of_it["inside_share"], all_of_it["inside_area"]) == (1, 1)
    assert there["bits"] == 8 * frame.size == there["header_bits"] + there["payload_bits"]
    assert there["block"][0] == pytest.approx(tiny.model.stride / scale, rel=0.05)


def test_shares_of_blocks_that_lie_in_a_region() -> None:
    inside = np.zeros((5, 10), np.bool_)
    inside[1:3, 2:9] = True
    found = image.covered(inside, (2, 3), (4, 4))
    expected = [[4 / 16, 8 / 16, 2 / 8], [0, 0, 0]]
    np.testing.assert_allclose(found, expected)


def test_facts_are_printed_and_the_map_is_as_large_as_the_picture() -> None:
    save("a.png", half_busy(120, 240))
    tactic("compress", "-m", "tiny", "a.png")
    tactic("compress", "-m", "tiny", "--scale", "0.5", "a.png", "small.tac")
    for name in ("a", "small"):
        told = tactic("explain", f"{name}.tac", f"{name}.map.png", "--json").stdout
        facts = json.loads(told)
        assert facts["output"] == f"{name}.map.png" and facts["model"] == "tiny"
        assert np.sum(facts["blocks"]) == pytest.approx(facts["ideal_bits"], rel=0.01)
        with Image.open(f"{name}.map.png") as drawn:
            assert (drawn.size, drawn.mode) == ((240, 120), "RGB")
    result = tactic("explain", "a.tac", "small.tac")
    assert len(result.stdout.splitlines()) == 2 and "bits, " in result.stdout
    assert sorted(path.name for path in Path().iterdir() if path.suffix == ".png") == [
        *("a.map.png", "a.png", "small.map.png")
    ]


def test_much_is_warm_and_bright_on_any_picture() -> None:
    plane = np.linspace(0, 7, 300, dtype=np.float32)[np.newaxis].repeat(200, 0)
    for grey in (0, 128, 255):
        pixels = np.full((200, 300, 3), grey, np.uint8)
        drawn = draw_heat(pixels, plane, 7, "bits")[:150].astype(int)
        warmth = (drawn[..., 0] - drawn[..., 2]).mean(axis=0)
        assert (warmth[-1], drawn[:, -1].mean()) > (warmth[0] + 60, drawn[:, 0].mean())
        assert (pixels == grey).all()
    nothing = draw_heat(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.float32), 0, "bits")
    assert nothing.shape == (8, 8, 3) and np.ptp(nothing, axis=(0, 1)).max() == 0


def test_maps_go_to_a_folder_or_to_standard_output() -> None:
    save("a.png")
    Path("in").mkdir()
    tactic("compress", "-m", "tiny", "a.png", "in/a.tac")
    tactic("explain", "-r", "in", "-o", "maps/")
    assert [path.name for path in Path("maps").iterdir()] == ["a.png"]
    tactic("explain", "-r", "in", "-o", "maps/", code=1)
    piped = tactic("explain", "-", "-", input=Path("in/a.tac").read_bytes())
    assert piped.stdout_bytes == Path("maps/a.png").read_bytes()
    assert " bits, " in piped.stderr
    assert "there is no input" in tactic("explain", code=2).stderr
    damaged = bytearray(Path("in/a.tac").read_bytes())
    damaged[-1] ^= 1
    Path("in/a.tac").write_bytes(damaged)
    assert "checksum" in tactic("explain", "in/a.tac", "m.png", code=1).stderr
    assert not Path("m.png").exists()


def test_a_heat_map_of_a_large_picture_takes_little_more_than_it() -> None:
    pixels, plane = np.zeros((1500, 2000, 3), np.uint8), np.ones((1500, 2000), np.float32)
    tracemalloc.start()
    draw_heat(pixels, plane, 2.0, "bits")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * pixels.nbytes


# --- Regions --------------------------------------------------------------------------------------


def region(content: Any, name: str = "x/a", size: tuple[int, int] = (8, 6)) -> np.ndarray:
    text = content if isinstance(content, str) else json.dumps(content)
    Path("boxes.json").write_text(text)
    return regions_in(Path("boxes.json"))(name, *size)


LINE = {"file": "coded/x/a.tac", "width": 8, "height": 6, "detections": [{"box": [1, 2, 4.5, 5]}]}


def test_boxes_are_read_in_the_forms_in_which_they_come() -> None:
    expected = np.zeros((6, 8), np.bool_)
    expected[2:5, 1:5] = True
    other = LINE | {"file": "coded/y/a.tac", "detections": []}
    coco = {
        "categories": [{"id": 7, "name": "nobody knows it"}],
        "images": [{"id": 1, "file_name": "x/a.jpg", "width": 8, "height": 6}],
        "annotations": [{"image_id": 1, "category_id": 7, "bbox": [1, 2, 3.5, 3]}],
    }
    lines = f"{json.dumps(LINE)}\n{json.dumps(other)}\n"
    for content in ([[1, 2, 4.5, 5]], LINE, [LINE, other], lines, coco):
        np.testing.assert_array_equal(region(content), expected)
    assert not region(lines, "y/a").any()
    assert region(lines, "a").sum() == expected.sum()  # of both
    assert not region([]).any()
    dots = LINE | {"file": "coded/x/2024.06.a.tac"}  # is not a.tac with another suffix
    np.testing.assert_array_equal(region([dots, other], "x/2024.06.a.tac"), expected)


def test_each_frame_has_its_own_boxes() -> None:
    lines = [LINE | {"frame": 1}, LINE | {"frame": 2, "detections": [{"box": [0, 0, 1, 1]}]}]
    assert [region(lines, f"x/a-000{n}.tac").sum() for n in (1, 2)] == [12, 1]
    assert region([line | {"file": "-"} for line in lines], "stdin-0002.tac").sum() == 1
    with pytest.raises(DataError, match="lists no picture of this name"):
        region(lines, "x/a-0003.tac")


def test_what_detect_prints_is_a_region_for_explain_and_compress(spoilt: Spoilt) -> None:
    """For a file whose name has dots, for several frames, and for standard input."""
    teach_to_detect(spoilt)
    save("a.1.png")
    model = ("-m", str(spoilt.path))
    tactic("compress", *model, "a.1.png")
    frame = Path("a.1.tac").read_bytes()
    Path("two.tac").write_bytes(frame * 2)
    for name, data in (("a.1.tac", b""), ("two.tac", b""), ("-", frame)):
        found = tactic("detect", *model, "--json", name, input=data).stdout
        Path("found.json").write_text(found)
        told = tactic("explain", *model, "--roi", "found.json", "--json", name, input=data).stdout
        assert all("inside_bits" in json.loads(line) for line in told.splitlines())
        assert len(told.splitlines()) == len(found.splitlines()) > 0
    Path("found.json").write_text(tactic("detect", *model, "--json", "a.1.tac").stdout)
    tactic("compress", *model, "-f", "--roi", "found.json", "a.1.png")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty: a list of no boxes is"),
        (" \n", "is empty"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("7", "something else than boxes"),
        ({"a": 1}, "something else than boxes"),
        ([[1, 2, 3]], "something else than boxes .a box has 4 numbers, not 3."),
        ([1, 2, 3, 4], "something else than boxes: expected"),
        ([["a", 2, 3, 4]], "something else than boxes"),
        ([LINE | {"detections": [{}]}], "something else than boxes"),
        ([[9, 9, 12, 12]], "lies outside of 8 x 6 pixels"),
        ([[float("nan"), 0, 1, 1]], "no finite number"),
        ([[4, 3, 2, 1]], "is empty: left and top come first"),
        (LINE | {"file": "b.tac"}, "lists no picture of this name"),
        (LINE | {"width": 9}, "is of 9 x 6 pixels"),
        (LINE | {"width": None}, "something else than boxes"),
        ({"annotations": 1}, "is no file of COCO"),
    ],
)
def test_boxes_that_cannot_be_believed_are_refused(content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        region(content)


def test_masks_are_black_outside_in_whatever_form_they_are_drawn(tmp_path: Path) -> None:
    expected = np.zeros((6, 8), np.bool_)
    expected[:3] = True
    drawn = {
        "labels": Image.fromarray(expected.astype(np.uint8)),
        "one-bit": Image.fromarray(expected),
        "colour": Image.fromarray(np.repeat(expected[..., None] * np.uint8(9), 3, axis=2)),
        "hole": Image.fromarray(np.repeat(expected[..., None] * np.uint8(255), 4, axis=2), "RGBA"),
    }
    for name, picture in drawn.items():
        picture.save(tmp_path / f"{name}.png")
        found = regions_in(tmp_path / f"{name}.png")("a", 8, 6)
        np.testing.assert_array_equal(found, expected, name)
        with pytest.raises(DataError, match="has 8 x 6 pixels, the upright picture 6 x 8"):
            regions_in(tmp_path / f"{name}.png")("a", 6, 8)


def test_regions_that_cannot_be_read_are_a_wrong_command_line() -> None:
    save("a.png")
    tactic("compress", "-m", "tiny", "a.png")
    Path("bad.json").write_text("{")
    Path("bad.png").write_text("{")
    for bad in ("bad.json", "bad.png", "none.png"):
        assert "'--roi'" in tactic("explain", "a.tac", "--roi", bad, code=2).stderr
    save("wrong.png", half_busy(10, 10))
    result = tactic("explain", "a.tac", "--roi", "wrong.png", code=1)
    assert "wrong.png has 10 x 10 pixels, the upright picture 96 x 48" in result.stderr
    Path("right.json").write_text("[[48, 0, 96, 48]]")
    told = tactic("explain", "a.tac", "--roi", "right.json").stdout
    assert "% of the bits on 50.0 % of the pixels" in told
