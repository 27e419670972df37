"""The tables of the paper: every row can be configured; a small one runs, resumes and prints."""

import importlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
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

pytestmark = pytest.mark.usefixtures("one_torch_thread", "quick_exports")


@pytest.fixture(scope="module")
def reproduce() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "experiments")  # as where it is run
        yield importlib.import_module("reproduce")


@pytest.mark.slow
@pytest.mark.parametrize(("table", "size"), TABLES)
def test_every_row_can_be_trained(reproduce: ModuleType, table: str, size: str) -> None:
    described = reproduce.load_table(table, size)
    names = [row.name for row in described.rows]
    assert names[0] == "uncompressed"
    assert len(set(names)) == len(names)
    assert all(set(pair) <= set(names) for pair in described.pairs)
    for row in described.rows:
        config = parse_config({**described.base, "seed": 1, "stage": row.stage})
        assert config.task.network in heads.KINDS
        assert row.estimate() > row.estimate(100) > row.overhead


@pytest.mark.slow
@pytest.mark.parametrize(("table", "size"), TABLES)
def test_rows_that_are_compared_have_the_same_steps_network_and_start(
    reproduce: ModuleType, table: str, size: str
) -> None:
    described = reproduce.load_table(table, size)
    assert described.base["network"]["latent"] == 4
    for row in described.rows:
        stages = parse_config({**described.base, "seed": 1, "stage": row.stage}).stage
        lengths = {s.name: s.steps for s in stages}
        learned = sum(s.steps for s in stages if s.alpha)
        codec = sum(s.steps for s in stages if s.quantisation != "none" and not s.frozen)
        every = described.rows[0].stage[0]["steps"]
        assert learned == every
        if row.name.startswith(("TACTIC", "task-agnostic")):
            assert codec == every + (lengths["joint"] if row.name.endswith("in stages") else 0)
        # What is called a task network's stage trains nothing else.
        for stage in stages:
            assert (stage.frozen or stage.quantisation == "none") == stage.name.startswith("task")


def test_what_a_size_says_is_laid_over_what_both_share(reproduce: ModuleType) -> None:
    desk, paper = (reproduce.load_table("table2", size) for size in ("desk", "paper"))
    assert (desk.squares, paper.squares) == (128, 304)
    assert desk.base["evaluation"] == paper.base["evaluation"]
    papers = {row.name: (row.paper, row.recode) for row in paper.rows}
    assert {row.name: (row.paper, row.recode) for row in desk.rows}.items() <= papers.items()


@pytest.mark.parametrize("folder", sorted((ROOT / "experiments" / "results").iterdir()))
def test_published_results_are_of_the_tables_as_they_are_described(
    reproduce: ModuleType, folder: Path
) -> None:
    table = reproduce.load_table(*folder.name.split("-"))
    found, others = reproduce.read_results(table, folder)
    shown = (folder / "README.md").read_text(encoding="utf-8")
    assert shown.startswith(reproduce.OLDER) == (not any(found.values()))
    if shown.startswith(reproduce.OLDER):
        return
    assert not others
    assert shown.startswith(reproduce.as_markdown(table, folder))


def test_the_paper_s_betas_and_qualities_are_there(reproduce: ModuleType) -> None:
    rows = reproduce.load_table("table2", "paper").rows
    betas = [row.stage[-1]["beta"] for row in rows if row.name.startswith("TACTIC")]
    assert betas == [4, 2, 1, 1 / 32, 1 / 128, 1 / 128]
    jpeg = [row.recode.quality for row in rows if row.recode and row.recode.codec == "jpeg"]
    assert jpeg == [2, 5, 10, 15, 25, 50]


def test_an_unknown_table_names_those_that_there_are(reproduce: ModuleType) -> None:
    with pytest.raises(ConfigError, match="table1, table2, table3, as desk and paper"):
        reproduce.load_table("table4", "desk")


@pytest.mark.parametrize("quality", [2, 5, 10, 15, 25, 50])
def test_standard_jpeg_has_the_pixels_of_the_optimised(quality: int) -> None:
    pixels = image.square(image.load(PHOTOGRAPHS[0]), 128)
    unasked = io.BytesIO()
    image.to_pillow(pixels).save(unasked, "JPEG", quality=quality)
    assert rival("jpeg").unasked().encode(pixels, quality) == unasked.getvalue()
    baseline, progressive = rival("jpeg").options(quality)
    assert progressive["progressive"]
    for way in (baseline, progressive):  # whichever is the smaller
        optimised = replace(rival("jpeg"), options=lambda _, way=way: (way,))
        data = optimised.encode(pixels, quality)
        assert np.array_equal(optimised.decode(data), image.load(unasked.getvalue()))
        assert len(data) < len(unasked.getvalue())


def test_a_flat_picture_takes_what_it_takes_in_the_paper() -> None:
    grey = np.full((299, 299, 3), 128, np.uint8)
    sizes = [len(c.encode(grey, 2)) for c in (rival("jpeg").unasked(), rival("jpeg"))]
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
                "psnr": 20.0 + number,
                "commit": f"c0ffee{seed}",
                "date": f"2026-11-2{seed}",
                **({} if row.name == "uncompressed" else {"bpp": 0.1 + number / 10}),
                "seconds": 1,
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
    table = reproduce.load_table("table2", "paper")
    results = tmp_path / "table2-paper"
    made_up(reproduce, table, results, [1, 2, 3])
    monkeypatch.setattr(reproduce, "train_command", never)
    shown = []
    for more in ([], ["--data", str(tmp_path / "nowhere")]):  # which is not read
        monkeypatch.setattr(
            "sys.argv",
            [
                "x",
                "table2",
                "--size",
                "paper",
                "--results",
                str(tmp_path),
                "--seeds",
                "1",
                "2",
                "3",
                *more,
            ],
        )
        reproduce.main()
        shown.append(capsys.readouterr())
    assert shown[0].out == shown[1].out
    assert not shown[0].err
    assert not shown[1].err
    text = (results / "README.md").read_text(encoding="utf-8")
    assert text == shown[0].out + f"![{table.title}](figure2.png)\n"
    assert "Means over seeds 1, 2, 3 " in text
    with Image.open(results / "figure2.png") as drawn:
        assert drawn.size == (1216, 736)
    assert b"<svg" in (results / "figure2.svg").read_bytes()


@pytest.mark.slow
def test_without_data_what_there_is_is_shown_and_what_is_missing_is_said(
    reproduce: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["x", "table2", "--size", "paper", "--results", str(tmp_path)])
    reproduce.main()
    shown = capsys.readouterr()
    assert not shown.out
    assert f"there is nothing in {tmp_path / 'table2-paper'} to show" in shown.err
    table = reproduce.load_table("table2", "paper")
    made_up(reproduce, table, tmp_path / "table2-paper", [4])
    (tmp_path / "table2-paper" / "AVIF-q-5-seed4.json").unlink()
    reproduce.main()
    shown = capsys.readouterr()
    assert "| AVIF q 15 |" in shown.out
    assert "| AVIF q 5 |" not in shown.out
    assert "lacks AVIF q 5 with seed 4, and 90 others; --data DIR, and --masks" in shown.err


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
    changes = {"TACTIC-seed3": {"recode": ["jpeg", 5]}, "task-agnostic-seed3": {"squares": 1}}
    for name, change in changes.items():
        path = results / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    lost = json.loads((results / "uncompressed-seed3.json").read_text())
    del lost["config"]  # as a result that does not say what made it
    (results / "uncompressed-seed3.json").write_text(json.dumps(lost))
    (results / "TACTIC-seed1.json").rename(results / "renamed-seed1.json")
    (results / "TACTIC-in-stages-seed3.json").unlink()
    (results / "JPEG-q-5-seed4.json").write_text('{"row": "JP')  # as where it was cut off

    reproduce.main()
    shown = capsys.readouterr()
    assert "lacks TACTIC with seed 1, and 0 others; --data DIR" in shown.err
    named = (
        *("JPEG-q-5-seed4", "TACTIC-seed3", "renamed-seed1"),
        *("task-agnostic-seed3", "uncompressed-seed3"),
    )
    assert f"table: {', '.join(f'{results / name}.json' for name in named)}; make" in shown.err
    assert (
        "make them anew with --data or --masks DIR and --seeds 1 3 4, or delete them" in shown.err
    )
    assert "Means over seeds 1 of" in shown.out
    assert "| TACTIC |" not in shown.out

    for path in results.glob("*-seed1.json"):
        path.unlink()
    text = (results / "README.md").read_text(encoding="utf-8")
    for _ in range(2):  # it is marked once
        reproduce.main()
        assert "there is nothing in" in capsys.readouterr().err
        assert (results / "README.md").read_text(encoding="utf-8") == reproduce.OLDER + text


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
    assert (
        "no row 'tactic'; there are: uncompressed, task-agnostic, TACTIC, TACTIC in stages"
        in shown.err
    )


@pytest.mark.parametrize("table", ["table1", "table2"])
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
    table = reproduce.load_table("table2", "paper")
    made_up(reproduce, table, tmp_path, [1])
    names = ["uncompressed", "TACTIC", "JPEG", "WebP", "AVIF"]
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
    table = reproduce.load_table("table2", "paper")
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
    assert [rate for rate, _ in found["TACTIC", "paper"]] == [0.0694, 0.0936, 0.1278, 0.2159, 0.245]
    assert not found["AVIF", "paper"]
    staged = next(row for row in table.rows if row.name.endswith("in stages"))
    assert len(found["TACTIC in stages", "variant"]) == 1
    assert len(found["TACTIC", "own"]) == sum(
        row.name.startswith("TACTIC") and row is not staged for row in table.rows
    )


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


def small_table(reproduce: ModuleType) -> Any:
    stage = {"steps": 3, "batch": 4, "size": 32, "beta": 0.0}
    alone = {**stage, "steps": 60, "quantisation": "none", "learning_rate": 3e-2}
    agnostic = [
        {**stage, "alpha": 0.0},
        {**stage, "quantisation": "rounded", "frozen": True},
    ]
    jpeg = reproduce.Recode("jpeg", 5)
    return reproduce.Table(
        "small-desk",
        "A small table",
        ("accuracy",),
        {
            "name": "row",
            "network": {"latent": 6, "analysis": 4, "synthesis": [6, 4]},
            "task": {"network": "small"},
            "data": {"size": 32},
        },
        (
            reproduce.Row("uncompressed", {"accuracy": 63.7}, [alone], [0.001]),
            reproduce.Row("task-agnostic", {"accuracy": 53.8}, agnostic, [0.001, 0.001]),
            reproduce.Row("TACTIC", {"accuracy": 58.7}, [stage], [0.001]),
            reproduce.Row("JPEG q 5", {"bpp": 0.301}, [alone], [0.001], recode=jpeg),
        ),
        (("TACTIC", "task-agnostic"),),
        squares=32,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("small_head")
def test_a_table_is_run_and_resumed_and_printed(
    reproduce: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = small_table(reproduce)
    folder = pictures(tmp_path / "data")
    work, results = tmp_path / "work", tmp_path / "small-desk"
    setup = reproduce.Setup((folder,), (), None, work, tmp_path, threads=1)

    def run() -> None:
        left = [(table, row, seed) for row, seed in reproduce.missing(table, [1], results)]
        reproduce.run_tables(left, setup)

    monkeypatch.setattr(reproduce, "TIMED", 50)
    run()
    said = capsys.readouterr().out
    assert "4 rows to make, estimated at 0.0 hours" in said
    assert said.count(" hours left of this row, ") == 2  # those with more than 50 steps
    found = {}
    for path in results.glob("*.json"):
        result = json.loads(path.read_text())
        found[result["row"]] = result
    assert set(found) == {row.name for row in table.rows}
    for name, result in found.items():
        assert 0 <= result["accuracy"] <= 1, name
        assert result["images"] == 4
        assert str(tmp_path) not in json.dumps(result)
        assert re.fullmatch("[0-9a-f]{7,40}(-changed)?", result["commit"]), name
        assert date.fromisoformat(result["date"]) <= datetime.now(UTC).date()
        assert ("psnr" in result) == ("bpp" in result) == (name != "uncompressed")
    # Red and blue are told apart after 60 steps, as they are or as JPEG leaves them.
    assert found["uncompressed"]["accuracy"] == 1
    assert found["JPEG q 5"]["accuracy"] >= 0.75
    assert "bpp" not in found["uncompressed"]
    assert len(list(work.rglob("*.jpg"))) == 20
    jpeg = found["JPEG q 5"]
    assert jpeg["bytes"] == pytest.approx(jpeg["bpp"] * 32 * 32 / 8)

    text = reproduce.as_markdown(table, results)
    assert "| uncompressed |  |  |  | 100.0 % | 0.0 | 63.7 % | 0.0 |" in text
    assert f"| {jpeg['bpp']:.4f} | 0.3010 | {jpeg['psnr']:.1f}" in text
    agnostic, ours = (found[name] for name in ("task-agnostic", "TACTIC"))
    gain = f"{100 * (ours['accuracy'] - agnostic['accuracy']):+.1f} |  | +4.9 |  |"
    assert next(line for line in text.splitlines() if " − " in line).endswith(gain)
    row = next(line for line in text.splitlines() if line.startswith("| TACTIC |"))
    assert row.endswith("| 58.7 % | 5.0 |")

    monkeypatch.setattr(reproduce, "train_command", never)
    run()
    (results / "TACTIC-seed1.json").unlink()
    run()  # the trained model is still there
    assert json.loads((results / "TACTIC-seed1.json").read_text()) == found["TACTIC"]


# --- Differences, and data as they are downloaded -------------------------------------------------


def test_an_interval_of_few_seeds_is_student_s(
    reproduce: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By hand: the mean is 3, the deviation 1, the quantile of two degrees of freedom 4.303.
    half_interval = importlib.import_module("paper_tables").half_interval
    assert half_interval([2.0, 3.0, 4.0]) == pytest.approx(4.303 / 3**0.5, abs=1e-3)
    table = reproduce.load_table("table1", "desk")
    made_up(reproduce, table, tmp_path, [1, 2, 3])
    for seed, gain in ((1, 0.02), (2, 0.03), (3, 0.04)):
        ours, theirs = (
            reproduce.result_path(tmp_path, name, seed) for name in ("TACTIC", "task-agnostic")
        )
        accuracy = json.loads(theirs.read_text())["accuracy"] + gain
        ours.write_text(json.dumps(json.loads(ours.read_text()) | {"accuracy": accuracy}))
    text = reproduce.as_markdown(table, tmp_path)
    assert "| TACTIC − task-agnostic | +0.1000 |  | +1.0 | +3.0 ± 2.5 |  | +4.9 |  |" in text
    assert "Student's t" in text
    assert "Made from 2026-11-21 to 2026-11-23, at c0ffee1, c0ffee2, c0ffee3." in text


@pytest.mark.slow
@pytest.mark.usefixtures("small_head")
def test_the_first_class_folders_of_imagenet_s_layout_are_trained_on(
    reproduce: ModuleType, tmp_path: Path
) -> None:
    folder = tmp_path / "train"
    colours = ((200, 40, 40), (40, 40, 200), (40, 200, 40))
    for name, colour in zip(("n01440764", "n01443537", "n01484850"), colours, strict=True):
        (folder / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (40, 48), colour).save(folder / name / f"{name}_{i}.JPEG")
    (folder / "n00000000.txt").touch()
    small = replace(small_table(reproduce), squares=None)
    setup = reproduce.Setup((folder,), (), 2, tmp_path / "work", tmp_path, threads=1)
    for _ in range(2):  # its links are there the second time
        result = reproduce.run_row(small, small.rows[0], 1, setup)
        (data,) = result["data"]
        assert (data["train"], data["calibration"], data["test"]) == (15, 1, 4)
    (kept_out,) = (tmp_path / "work").glob("*/model/held-out.txt")
    assert "n01484850" not in kept_out.read_text()
    with pytest.raises(DataError, match="holds 3 class folders, and 50 are to be used"):
        reproduce.run_row(small, small.rows[0], 1, setup._replace(classes=50))


@pytest.fixture
def downloaded(tmp_path: Path) -> Path:
    """Cityscapes as it is downloaded, but of 64×32 pixels: six pictures of two cities."""
    for number in range(6):
        city = ("aachen", "ulm")[number % 2]
        name = f"{city}_{number:06}_000019"
        labels = np.full((32, 64), 3, np.uint8)  # out of the region of interest: void
        labels[:, 16:32], labels[:16, 32:] = 7, 33  # road and bicycle
        pixels = np.stack([labels * 7] * 3, axis=2)
        for place, array in (
            (f"leftImg8bit/train/{city}/{name}_leftImg8bit.png", pixels),
            (f"gtFine/train/{city}/{name}_gtFine_labelIds.png", labels),
            (f"gtFine/train/{city}/{name}_gtFine_instanceIds.png", labels),
        ):
            (tmp_path / "city" / place).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / "city" / place)
    return tmp_path / "city"


def test_cityscapes_is_cut_to_squares_of_its_19_classes(
    reproduce: ModuleType, downloaded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = sorted(downloaded.glob("gtFine/train/ulm/*labelIds.png"))[0]
    lost.unlink()
    out = reproduce.cityscapes(downloaded, 16, tmp_path / "work")
    assert str(lost) in capsys.readouterr().err
    found = sorted(out.glob("labels/*/*.png"))
    assert len(found) == len(list(out.glob("images/*/*.png"))) == 5
    labels = image.load_labels(found[0])
    # The middle half of the picture: road on the left, on the right bicycle above void.
    assert labels.shape == (16, 16)
    assert (labels[:, :8] == 0).all()
    assert (labels[:8, 8:] == 18).all()
    assert (labels[8:, 8:] == 255).all()
    assert image.load(out / "images" / found[0].relative_to(out / "labels")).shape == (16, 16, 3)
    with pytest.raises(DataError, match="leftImg8bit/train/<city>"):
        reproduce.cityscapes(tmp_path / "work", 16, tmp_path / "work")


@pytest.mark.slow
def test_a_row_of_table_3_is_trained_on_cityscapes_with_workers(
    reproduce: ModuleType, downloaded: Path, tmp_path: Path
) -> None:
    table = reproduce.load_table("table3", "paper")
    base = {
        **table.base,
        "task": {"network": "convolutions_masks"},
        "network": {"latent": 4, "analysis": 4, "synthesis": [4, 4]},
        "data": {"size": 32, "test": 0.34, "calibration": 0.1},
    }
    (row,) = (row for row in table.rows if row.name == "TACTIC XE + Dice")
    short = replace(row, stage=[{**row.stage[0], "steps": 2, "size": 32, "precision": "float32"}])
    setup = reproduce.Setup((), (downloaded,), None, tmp_path / "work", tmp_path, workers=1)
    result = reproduce.run_row(replace(table, base=base), short, 1, setup)
    assert result["images"] == 2
    assert 0 <= result["pixel_accuracy"] <= 1
    assert len(result["iou"]) == 19
    assert result["bpp"] > 0
    assert "workers" not in result["config"]["data"]
