"""The tables of the paper: every row can be configured; a small one runs, resumes and prints."""

import importlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import PHOTOGRAPHS
from PIL import Image
from torch import nn

from tactic_codec import picture as image
from tactic_codec.errors import ConfigError, DataError
from tactic_codec.networks import heads
from tactic_codec.rivals import rival
from tactic_codec.training.config import parse_config

ROOT = Path(__file__).parent.parent
TABLES = [(table, size) for table in ("table1", "table2", "table3") for size in ("desk", "paper")]

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def reproduce() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "experiments")  # as where it is run
        yield importlib.import_module("reproduce")


@pytest.mark.parametrize(("table", "size"), TABLES)
def test_every_row_can_be_trained(reproduce: ModuleType, table: str, size: str) -> None:
    described = reproduce.load_table(table, size)
    assert described.rows[0].name == "uncompressed"
    assert len({row.name for row in described.rows}) == len(described.rows)
    for row in described.rows:
        parse_config({**described.base, "seed": 1, "stage": row.stage})
        if row.codec:
            alone = parse_config({**described.base, "seed": 1, "stage": row.codec})
            assert not (row.frozen and alone.uses_task)
        if row.codec and row.frozen:
            added = {**described.base, "seed": 1, "stage": row.stage, "head_only": True}
            assert parse_config(added).head_only


@pytest.mark.parametrize("table", ["table1", "table2", "table3"])
def test_both_sizes_have_the_same_rows(reproduce: ModuleType, table: str) -> None:
    desk, paper = (reproduce.load_table(table, size).rows for size in ("desk", "paper"))
    assert [(row.name, row.paper, row.recode) for row in desk] == [
        (row.name, row.paper, row.recode) for row in paper
    ]


@pytest.mark.parametrize("folder", sorted((ROOT / "experiments" / "results").iterdir()))
def test_published_results_are_of_the_tables_as_they_are_described(
    reproduce: ModuleType, folder: Path
) -> None:
    table = reproduce.load_table(*folder.name.split("-"))
    found, others = reproduce.read_results(table, folder)
    assert not others
    assert any(found.values())
    shown = (folder / "README.md").read_text(encoding="utf-8")
    assert shown.startswith(reproduce.as_markdown(table, folder))


def test_the_paper_s_betas_and_qualities_are_there(reproduce: ModuleType) -> None:
    rows = reproduce.load_table("table2", "desk").rows
    betas = [row.stage[-1]["beta"] for row in rows if row.name.startswith("TACTIC")]
    assert betas == [4, 2, 1, 1 / 32, 1 / 128]
    jpeg = [row.recode.quality for row in rows if row.recode and row.recode.codec == "jpeg"]
    assert jpeg == [2, 5, 10, 15, 25, 50]


def test_an_unknown_table_names_those_that_there_are(reproduce: ModuleType) -> None:
    with pytest.raises(ConfigError, match="table1-desk"):
        reproduce.load_table("table4", "desk")


@pytest.mark.parametrize("quality", [2, 5, 10, 15, 25, 50])
def test_standard_jpeg_has_the_pixels_of_the_optimised(reproduce: ModuleType, quality: int) -> None:
    pixels = image.square(image.load(PHOTOGRAPHS[0]), 128)
    unasked = io.BytesIO()
    image.to_pillow(pixels).save(unasked, "JPEG", quality=quality)
    assert reproduce.STANDARD_JPEG.encode(pixels, quality) == unasked.getvalue()
    baseline, progressive = rival("jpeg").options(quality)
    assert progressive["progressive"]
    for way in (baseline, progressive):  # whichever is the smaller
        optimised = replace(rival("jpeg"), options=lambda _, way=way: (way,))
        data = optimised.encode(pixels, quality)
        assert np.array_equal(optimised.decode(data), image.load(unasked.getvalue()))
        assert len(data) < len(unasked.getvalue())


def test_a_flat_picture_takes_what_it_takes_in_the_paper(reproduce: ModuleType) -> None:
    grey = np.full((299, 299, 3), 128, np.uint8)
    sizes = [len(c.encode(grey, 2)) for c in (reproduce.STANDARD_JPEG, rival("jpeg"))]
    assert [round(8 * size / 299**2, 3) for size in sizes] == [0.185, 0.074]


# --- What there is --------------------------------------------------------------------------------


def never(*args: object, **named: object) -> None:
    raise AssertionError("what is there is not trained again")


def made_up(reproduce: ModuleType, table: Any, results: Path, seeds: Sequence[int]) -> None:
    """Write results of a table as if it had been run."""
    results.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(table.rows):
        for seed in seeds:
            result = {
                "row": row.name,
                "seed": seed,
                "accuracy": 0.5 + number / 100 + seed / 1000,
                **({} if row.name == "uncompressed" else {"bpp": 0.1 + number / 10}),
                **({"standard_bpp": 0.5 + number / 10} if row.name.startswith("JPEG") else {}),
                "seconds": 1,
                "codec_seconds": 0,
                **reproduce.described(table, row, seed),
            }
            path = reproduce.result_path(results, row.name, seed)
            path.write_text(json.dumps(result), encoding="utf-8")


@pytest.mark.slow
def test_complete_results_are_shown_without_data_and_without_training(
    reproduce: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = reproduce.load_table("table2", "desk")
    results = tmp_path / "table2-desk"
    made_up(reproduce, table, results, [1, 2, 3])
    monkeypatch.setattr(reproduce, "train_command", never)
    shown = []
    for more in ([], ["--data", str(tmp_path / "nowhere")]):
        monkeypatch.setattr("sys.argv", ["x", "table2", "--results", str(tmp_path), *more])
        reproduce.main()
        shown.append(capsys.readouterr())
    assert shown[0].out == shown[1].out
    assert not shown[0].err
    assert shown[1].err == f"{results} lacks nothing: {tmp_path / 'nowhere'} was not read\n"
    text = (results / "README.md").read_text(encoding="utf-8")
    assert text == shown[0].out + f"![{table.title}](figure2.png)\n"
    assert "Means over seeds 1, 2, 3 " in text
    with Image.open(results / "figure2.png") as drawn:
        assert drawn.size == (1216, 736)
    assert b"<svg" in (results / "figure2.svg").read_bytes()


def test_without_data_what_there_is_is_shown_and_what_is_missing_is_said(
    reproduce: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["x", "table2", "--results", str(tmp_path)])
    with pytest.raises(SystemExit):
        reproduce.main()
    assert "give --data DIR" in capsys.readouterr().err
    table = reproduce.load_table("table2", "desk")
    made_up(reproduce, table, tmp_path / "table2-desk", [1])
    (tmp_path / "table2-desk" / "AVIF-q-5-seed1.json").unlink()
    reproduce.main()
    shown = capsys.readouterr()
    assert "| AVIF q 15 |" in shown.out
    assert "| AVIF q 5 |" not in shown.out
    assert "lacks AVIF q 5 with seed 1, and 34 others; --data DIR makes them" in shown.err


def test_results_of_another_description_are_not_shown(
    reproduce: ModuleType, tmp_path: Path
) -> None:
    """A table that was described anew does not mix seeds of both descriptions."""
    table = reproduce.load_table("table1", "desk")
    made_up(reproduce, table, tmp_path, [1])
    alone = reproduce.as_markdown(table, tmp_path)
    for path in tmp_path.glob("*-seed1.json"):
        result = json.loads(path.read_text())
        older = {**result["config"], "seed": 2, "name": "older"}
        changed = {**result, "seed": 2, "config": older, "accuracy": 0.9}
        path.with_name(path.name.replace("seed1", "seed2")).write_text(json.dumps(changed))
    assert reproduce.as_markdown(table, tmp_path) == alone
    assert len(list(reproduce.missing(table, [1, 2], tmp_path))) == len(table.rows)


def test_rows_with_fewer_seeds_are_named(reproduce: ModuleType, tmp_path: Path) -> None:
    table = reproduce.load_table("table1", "desk")
    made_up(reproduce, table, tmp_path, [1, 2, 3])
    assert "fewer seeds" not in reproduce.as_markdown(table, tmp_path)
    (tmp_path / "TACTIC-seed2.json").unlink()
    for path in tmp_path.glob("task-agnostic-seed*.json"):
        path.unlink()  # without any there is no row
    text = reproduce.as_markdown(table, tmp_path)
    assert "Means over seeds 1, 2, 3 of the split" in text
    assert "Rows with fewer seeds: TACTIC (1, 3).\n" in text


def test_results_of_another_description_are_named_with_the_remedy(
    reproduce: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["x", "table1", "--results", str(tmp_path), "--seeds", "1"])
    table = reproduce.load_table("table1", "desk")
    results = tmp_path / "table1-desk"
    made_up(reproduce, table, results, [1, 3])
    changes = {"TACTIC-seed3": {"recode": ["jpeg", 5]}, "task-agnostic-seed3": {"codec": []}}
    for name, change in changes.items():
        path = results / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    lost = json.loads((results / "uncompressed-seed3.json").read_text())
    del lost["config"]  # as a result that does not say what made it
    (results / "uncompressed-seed3.json").write_text(json.dumps(lost))
    (results / "TACTIC-seed1.json").rename(results / "renamed-seed1.json")
    (results / "JPEG-q-5-seed4.json").write_text('{"row": "JP')  # as where it was cut off

    reproduce.main()
    shown = capsys.readouterr()
    assert "lacks TACTIC with seed 1, and 0 others; --data DIR makes them" in shown.err
    named = (
        *("JPEG-q-5-seed4", "TACTIC-seed3", "renamed-seed1"),
        *("task-agnostic-seed3", "uncompressed-seed3"),
    )
    assert f"table: {', '.join(f'{results / name}.json' for name in named)}; make" in shown.err
    assert "make them anew with --data DIR --seeds 1 3 4, or delete them" in shown.err
    assert "Means over seeds 1 of" in shown.out
    assert "| TACTIC |" not in shown.out

    for path in results.glob("*-seed1.json"):
        path.unlink()
    (results / "README.md").unlink()
    with pytest.raises(SystemExit):
        reproduce.main()
    assert "there is nothing in" in capsys.readouterr().err
    assert not (results / "README.md").exists()


def test_results_of_other_data_are_named(
    reproduce: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["x", "table1", "--results", str(tmp_path)])
    results = tmp_path / "table1-desk"
    made_up(reproduce, reproduce.load_table("table1", "desk"), results, [1, 2, 3])
    for path in results.glob("*.json"):
        # Folders differ where pictures are recoded, which is no other data.
        data = {"folder": path.stem, "train": 70, "calibration": 5, "test": 20}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"data": [data]}))
    reproduce.main()
    assert not capsys.readouterr().err

    for name, change in (("TACTIC-seed2", {"test": 30}), ("uncompressed-seed3", {"train": 71})):
        path = results / f"{name}.json"
        result = json.loads(path.read_text())
        result["data"][0] |= change
        path.write_text(json.dumps(result))
    reproduce.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert "of other data" in line
    assert f": {results / 'uncompressed-seed3.json'}, {results / 'TACTIC-seed2.json'};" in line


@pytest.mark.parametrize("more", [[], ["--data", "anywhere"]])
def test_a_row_that_the_table_has_not_is_refused_with_those_that_it_has(
    reproduce: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
) -> None:
    made_up(reproduce, reproduce.load_table("table1", "desk"), tmp_path / "table1-desk", [1])
    given = ["x", "table1", "--results", str(tmp_path), "--row", "tactic", *more]
    monkeypatch.setattr("sys.argv", given)
    with pytest.raises(SystemExit) as refusal:
        reproduce.main()
    assert refusal.value.code == 2
    shown = capsys.readouterr()
    assert not shown.out
    assert "no row 'tactic'; there are: uncompressed, task-agnostic, TACTIC" in shown.err


@pytest.mark.parametrize("table", ["table1", "table2"])  # the second one is of recoded pictures
def test_a_folder_that_cannot_be_used_is_named_without_a_traceback(
    reproduce: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    places = ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "flat" / "a.png")
    for folder, expected in (("nowhere", "is not a folder"), ("flat", "in class folders")):
        given = ["x", table, "--data", str(tmp_path / folder), *places]
        monkeypatch.setattr("sys.argv", given)
        with pytest.raises(SystemExit) as refusal:
            reproduce.main()
        assert str(refusal.value.code).startswith(f"x: {tmp_path / folder} ")
        assert expected in str(refusal.value.code)
    assert not list((tmp_path / "work").glob("*-lossless-*"))


@pytest.mark.slow
def test_the_figure_has_a_line_for_each_codec_and_the_paper_s(
    reproduce: ModuleType, tmp_path: Path
) -> None:
    table = reproduce.load_table("table2", "desk")
    made_up(reproduce, table, tmp_path, [1])
    names = ["uncompressed", "TACTIC", "JPEG", "JPEG, standard tables", "WebP", "AVIF"]
    papers = [f"{name}, the paper" for name in ("uncompressed", "TACTIC", "JPEG")]
    drawing = reproduce.draw_figure(table, tmp_path)["svg"].decode()
    found = [drawing.index(f"<!-- {name} -->") for name in (*names, *papers)]
    assert found == sorted(found)
    assert reproduce.draw_figure(table, tmp_path)["svg"].decode() == drawing
    for path in tmp_path.iterdir():
        if not path.name.startswith("WebP-q-0"):
            path.unlink()
    drawing = reproduce.draw_figure(table, tmp_path)["svg"].decode()
    shown = [name for name in (*names, *papers) if f"<!-- {name} -->" in drawing]
    assert shown == ["WebP", *papers]


def test_points_are_means_over_seeds_by_rising_rate(
    reproduce: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = reproduce.load_table("table2", "desk")
    made_up(reproduce, table, tmp_path, [1, 3])
    drawn = []

    def draw_rows(lines: object, *others: object, label: str) -> None:
        drawn.extend([lines, *others, label])

    monkeypatch.setattr("paper_tables.plot.draw_rows", draw_rows)
    reproduce.draw_figure(table, tmp_path)
    lines, uncompressed, papers, label = drawn
    assert uncompressed == pytest.approx((50.2, 50.1, 50.3))
    assert (papers, label) == (63.7, "accuracy, %")
    found = {(line.name, line.kind): line.points for line in lines}
    rate, accuracy = found["JPEG", "own"][0]
    assert rate == pytest.approx(0.2)
    assert accuracy == pytest.approx((51.2, 51.1, 51.3))
    assert found["JPEG, standard tables", "variant"][0][0] == pytest.approx(0.6)
    assert [rate for rate, _ in found["TACTIC", "paper"]] == [0.0694, 0.0936, 0.1278, 0.2159, 0.245]
    assert not found["AVIF", "paper"]


# --- Pictures in another codec's files ------------------------------------------------------------


@pytest.mark.parametrize("quality", [None, 5])
def test_what_cannot_be_read_is_left_out_of_recoded_pictures_and_named(
    reproduce: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], quality: int | None
) -> None:
    folder = pictures(tmp_path / "data")
    damaged = folder / "blue" / "0.png"
    damaged.write_bytes(damaged.read_bytes()[:100])
    recode = None if quality is None else reproduce.Recode("jpeg", quality)
    out = reproduce.recoded(folder, recode, 32, tmp_path / "work")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"skipped {damaged}: ")
    suffix = ".png" if quality is None else ".jpg"
    found = {path.relative_to(out).as_posix() for path in out.glob("*/*")}
    expected = {f"{name}/{i}{suffix}" for name in ("blue", "red") for i in range(10)}
    assert found == expected - {f"blue/0{suffix}"}

    for path in folder.glob("*/*"):
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=f"{folder} .*can be read"):
        reproduce.recoded(folder, recode, 32, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_two_pictures_that_would_become_one_are_refused_by_name(
    reproduce: ModuleType, tmp_path: Path
) -> None:
    folder = pictures(tmp_path / "data")
    Image.new("RGB", (40, 48)).save(folder / "red" / "3.jpg")
    with pytest.raises(DataError, match=r"red/3\.jpg and red/3\.png would both .* red/3\.avif"):
        reproduce.recoded(folder, reproduce.Recode("avif", 5), 32, tmp_path / "work")
    assert not (tmp_path / "work").exists()


# --- A small table --------------------------------------------------------------------------------


@pytest.fixture
def small_head() -> Iterator[None]:
    def build(classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 4, 4, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(4, classes),
        )  # fmt: skip

    heads.KINDS["small"] = heads.HeadKind(build, 32)
    yield
    del heads.KINDS["small"]


def pictures(folder: Path) -> Path:
    random = np.random.default_rng(1)
    for name, colour in (("red", (200, 40, 40)), ("blue", (40, 40, 200))):
        (folder / name).mkdir(parents=True)
        for i in range(10):
            pixels = (random.integers(-30, 31, (40, 48, 3)) + colour).clip(0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


def small_table(reproduce: ModuleType) -> object:
    stage = {"steps": 3, "batch": 4, "size": 32, "beta": 0.0, "pixel_scale": 10.0}
    alone = {**stage, "steps": 60, "quantisation": "none", "learning_rate": 3e-2}
    return reproduce.Table(
        "A small table",
        ("accuracy",),
        {
            "name": "row",
            "network": {"latent": 6, "analysis": 4, "synthesis": [6, 4]},
            "task": {"network": "small"},
            "data": {"size": 32},
        },
        (
            reproduce.Row("uncompressed", {"accuracy": 63.7}, [alone]),
            reproduce.Row(
                "task-agnostic",
                {"accuracy": 53.8},
                [{**stage, "quantisation": "rounded"}],
                codec=[{**stage, "alpha": 0.0}],
            ),
            reproduce.Row(
                "TACTIC",
                {"accuracy": 58.7},
                [{**stage, "pixel_scale": 3.0}],
                codec=[{**stage, "alpha": 0.0}],
                frozen=False,
            ),
            reproduce.Row("JPEG q 5", {"bpp": 0.301}, [alone], recode=reproduce.Recode("jpeg", 5)),
        ),
    )


@pytest.mark.slow
@pytest.mark.usefixtures("small_head")
def test_a_table_is_run_and_resumed_and_printed(
    reproduce: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = small_table(reproduce)
    folder = pictures(tmp_path / "data")
    work, results = tmp_path / "work", tmp_path / "results"
    data = reproduce.Data((folder,), (), work, results, "cpu", 1)
    reproduce.run_table(table, [1], data)
    found = {}
    for path in results.glob("*.json"):
        result = json.loads(path.read_text())
        found[result["row"]] = result
    assert set(found) == {row.name for row in table.rows}  # type: ignore[attr-defined]
    for name, result in found.items():
        assert 0 <= result["accuracy"] <= 1, name
        assert result["images"] == 4
        assert str(tmp_path) not in json.dumps(result)
    # Red and blue are told apart after 60 steps, as they are or as JPEG leaves them.
    assert found["uncompressed"]["accuracy"] == 1
    assert found["JPEG q 5"]["accuracy"] >= 0.75
    assert "bpp" not in found["uncompressed"]
    assert len(list(work.rglob("*.jpg"))) == 20
    jpeg = found["JPEG q 5"]
    assert jpeg["bytes"] == pytest.approx(jpeg["bpp"] * 32 * 32 / 8)
    # The standard's Huffman tables alone take 432 bytes, beside some 200 for the rest.
    assert jpeg["bytes"] + 150 < jpeg["standard_bytes"] < 800
    assert jpeg["standard_bytes"] == pytest.approx(jpeg["standard_bpp"] * 32 * 32 / 8)
    assert "standard_bpp" not in found["TACTIC"]

    # The codec that two rows start from is trained once, and goes on only where it is not frozen.
    runs = [json.loads(path.read_text()) for path in work.glob("*/run/run.json")]
    assert len(runs) == 5
    assert sum(run["config"]["head_only"] for run in runs) == 1
    agnostic, ours = (found[name] for name in ("task-agnostic", "TACTIC"))
    assert agnostic["codec"] == ours["codec"]
    assert agnostic["psnr"] != ours["psnr"]

    text = reproduce.as_markdown(table, results)
    assert "| uncompressed |  |  |  | 100.0 % | 0.0 | 63.7 % | 0.0 |" in text
    assert f"| {jpeg['bpp']:.4f} | {jpeg['standard_bpp']:.4f} | 0.3010 |" in text
    row = next(line for line in text.splitlines() if line.startswith("| TACTIC"))
    assert row.endswith("| 58.7 % | 5.0 |")

    monkeypatch.setattr(reproduce, "train_command", never)
    reproduce.run_table(table, [1], data)
    (results / "TACTIC-seed1.json").unlink()
    reproduce.run_table(table, [1], data)  # the trained model is still there
    assert json.loads((results / "TACTIC-seed1.json").read_text()) == found["TACTIC"]
