"""``tactic train --from``: a generalist of two levels, and a specialist that is made of it."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from test_teacher import detector
from torch import nn

from tactic_codec import cli, codec, model
from tactic_codec.entropy import LearnedContexts
from tactic_codec.errors import ConfigError
from tactic_codec.model import HELD_OUT, Model
from tactic_codec.networks import heads
from tactic_codec.networks.folder import load_start
from tactic_codec.networks.residual import ResidualConfig
from tactic_codec.picture import Pixels
from tactic_codec.training import command, contexts, specialise
from tactic_codec.training import run as run_room
from tactic_codec.training.checkpoint import CHECKPOINT, LOG
from tactic_codec.training.command import train_command
from tactic_codec.training.config import TeacherConfig, TrainingConfig
from tactic_codec.training.data import Example
from tactic_codec.training.run import RUN, Run

pytestmark = pytest.mark.usefixtures("one_torch_thread", "quick_exports")

GENERALIST = """
name = "generalist"
seed = 3
ema = 0.5
[residual]
latent = 12
sixteenth = 8
eighth = 6
quarter = 4
analysis_blocks = [1, 1]
synthesis_blocks = [1, 1, 1]
[levels]
count = 2
first_gain = 1
last_gain = 4
[task]
network = "small"
[data]
test = 0.25
calibration = 0.2
test_shares = [0.25, 0.4]
size = 32
[entropy]
own = [1, 2]
[[stage]]
steps = 3
beta = 2
beta_ratio = 0.5
alpha_ratio = 0.25
batch = 4
size = 32
pixel_scale = 10
distill = 1
quantisation = "straight"
"""

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


def small_head(classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, classes),
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _small_head_is_known() -> Iterator[None]:
    heads.KINDS["small"] = heads.HeadKind(small_head, 32)
    yield
    del heads.KINDS["small"]


def photographs(folder: Path, names: tuple[str, ...], count: int) -> Path:
    random = np.random.default_rng(len(names))
    for name in names:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(-30, 31, (40, 48, 3)) + COLOURS[name]
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def generalist(tmp_path_factory: pytest.TempPathFactory) -> Model:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("generalist")
    (folder / "generalist.toml").write_text(GENERALIST)
    made = train_command(
        folder / "generalist.toml",
        [photographs(folder / "known", ("red", "green"), 5)],
        folder / "generalist",
        unlabelled=[photographs(folder / "unknown", ("blue",), 5)],
        run=folder / "run",
        say=lambda _: None,
    )
    assert made is not None
    return made


@pytest.mark.slow
def test_a_model_of_several_levels_codes_at_each(generalist: Model) -> None:
    generalist.verify()
    assert [len(level.gain) for level in generalist.levels] == [generalist.channels] * 2
    loaded = codec.load_model(generalist.path, device="cpu")
    pixels = np.random.default_rng(1).integers(0, 256, (45, 70, 3), np.uint8)
    sizes = []
    for quality in (1, 2):
        data = loaded.compress(pixels, quality).data
        assert np.asarray(loaded.decompress(data)).shape == pixels.shape
        sizes.append(len(data))
    assert sizes[0] < sizes[1]


@pytest.mark.slow
def test_figures_are_given_for_every_folder_and_level(generalist: Model) -> None:
    figures = generalist.manifest["metrics"]
    assert set(figures) == {"known", "unknown"}
    for name, rows in figures.items():
        assert [row["level"] for row in rows] == [1, 2]
        assert rows[0]["bpp"] < rows[1]["bpp"]
        # Where nobody knows the classes there is no accuracy, but agreement there is.
        assert all((row["accuracy"] is None) == (name == "unknown") for row in rows)
        assert all(0 <= row["agreement"] <= 1 for row in rows)


@pytest.mark.slow
def test_what_training_kept_out_is_written_down(generalist: Model) -> None:
    lines = generalist.read_file(HELD_OUT).decode().splitlines()
    named = [line for line in lines if not line.startswith("#")]
    assert [line for line in lines[1:] if line.startswith("#")] == ["# known", "# unknown"]
    # A quarter of ten, and two fifths of each kind without a label.
    assert (len(named), sum(name.startswith("blue/") for name in named)) == (4, 2)


@pytest.mark.slow
def test_a_folder_holds_what_training_goes_on_from(generalist: Model) -> None:
    start = load_start(generalist, "classify")
    for name in ("analysis.linear.weight", "prior.scale", "gains.log_gain", "head.0.weight"):
        assert start[name].dtype == torch.float32


@pytest.mark.slow
def test_training_ends_with_learned_contexts_where_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Learned from training pictures of all folders, coded with, and passed on to specialists."""
    monkeypatch.setattr(run_room, "CALIBRATION_IMAGES", 4)
    monkeypatch.setattr(run_room, "LEARNING_IMAGES", 4)
    monkeypatch.setattr(contexts, "TRAINING_STEPS", 20)
    asked_for: list[list[Path]] = []

    def pictures(
        run: Run, examples: list[Example], *how: int, pieces: bool = False
    ) -> list[Pixels]:
        asked_for.append([example.path for example in examples])
        return real(run, examples, *how, pieces=pieces)

    real = Run.pictures
    monkeypatch.setattr(Run, "pictures", pictures)
    text = GENERALIST.replace("own = [1, 2]", "own = [1, 2]\nlinear = true")
    (tmp_path / "linear.toml").write_text(text.replace("[data]", "[data]\ndraw = [0.75, 0.25]"))
    known = photographs(tmp_path / "known", ("red", "green"), 5)
    unknown = photographs(tmp_path / "unknown", ("blue",), 5)
    made = train_command(
        tmp_path / "linear.toml",
        [known],
        tmp_path / "linear",
        unlabelled=[unknown],
        run=tmp_path / "run",
        say=lambda _: None,
    )
    assert made is not None
    counted_on, learned_from = asked_for[-3:-1]  # before the ranges of 8 bits are seen
    assert not {*learned_from} & {*counted_on}
    kept_out = made.read_file(HELD_OUT).decode().splitlines()
    assert [sum(path.is_relative_to(f) for path in learned_from) for f in (known, unknown)] == [
        3,
        1,
    ]
    for path in learned_from:
        assert path.relative_to(tmp_path).as_posix().partition("/")[2] not in kept_out
    loaded = codec.load_model(made.path, device="cpu")
    for level in (1, 2):
        assert isinstance(made.tables(level).contexts, LearnedContexts)
        data = loaded.compress(np.full((33, 40, 3), 90, np.uint8), level).data
        assert loaded.decompress(data).size == (40, 33)
    assert specialise.specialist_config(made, "mine").entropy.linear


def brief(source: Model, name: str) -> TrainingConfig:
    """The real configuration, for pictures of 32 pixels and a few steps."""
    config = specialise.specialist_config(source, name)
    return replace(
        config,
        data=replace(config.data, size=32, calibration=0.2),
        stage=tuple(replace(stage, steps=2, batch=4, size=32, warmup=0) for stage in config.stage),
    )


@pytest.mark.slow
def test_a_specialist_learns_head_then_both_then_what_decodes(
    generalist: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = specialise.specialist_config(generalist, "mine")
    assert [stage.quantisation for stage in config.stage] == ["none", "straight", "rounded"]
    # The rate weighs what it weighed for the generalist; its levels are kept.
    assert {(stage.beta, stage.beta_ratio) for stage in config.stage} == {(2.0, 0.5)}
    # So does the task; the objective has no levels where nothing is coded.
    assert [stage.alpha_ratio for stage in config.stage] == [0.25] * 3
    assert config.residual == ResidualConfig(
        generalist.channels, 8, 6, 4, analysis_blocks=(1, 1), synthesis_blocks=(1, 1, 1)
    )
    assert config.levels is not None
    assert config.levels.count == 2

    monkeypatch.setattr(command, "specialist_config", brief)
    folder = photographs(tmp_path / "mine", ("red", "green", "blue"), 6)
    made = train_command(
        None,
        [folder],
        tmp_path / "special",
        start=generalist.path,
        run=tmp_path / "run",
        say=lambda _: None,
    )
    assert made is not None
    made.verify()
    assert made.heads["classify"].classes == ("blue", "green", "red")
    assert made.manifest["training"]["start"] == {
        "name": "generalist",
        "fingerprint": generalist.fingerprint.hex(),
    }
    assert made.fingerprint != generalist.fingerprint
    described = json.loads((tmp_path / "run" / RUN).read_text())
    assert set(described["kept_out"]) == generalist.held_out()
    lines = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["stage"] for line in steps] == ["head"] * 2 + ["joint"] * 2 + ["rounded"] * 2
    # Without coding there is no rate, and the head is nobody's pupil.
    assert [line["rate"] == 0 for line in steps] == [True, True, False, False, False, False]
    assert [line["agreement"] is None for line in steps] == [True, True] + [False] * 4

    # The codec starts where the generalist ended; the head's last layer starts anew.
    start, end = (load_start(m, "classify") for m in (generalist, made))
    same = start["analysis.layers.0.weight"] - end["analysis.layers.0.weight"]
    assert 0 < same.abs().max() < 0.01
    stored = torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)
    assert stored["teacher"]["4.weight"].shape == (3, 4)


@pytest.mark.slow
def test_the_last_stage_rounds_as_the_coder_will(generalist: Model, tmp_path: Path) -> None:
    """Synthesis and head would otherwise meet the dead zone of low levels in files alone."""
    shutil.copytree(generalist.path, tmp_path / "zoned")
    manifest = json.loads((generalist.path / "model.json").read_text())
    manifest["encoder"]["offset"] = [0.35, 0.4]
    (tmp_path / "zoned" / "model.json").write_text(json.dumps(manifest))
    config = specialise.specialist_config(model.find(tmp_path / "zoned"), "mine")
    assert [stage.offset for stage in config.stage] == [0.5, 0.5, 0.35]
    assert config.offset == 0.35
    assert config.levels is not None
    assert config.levels.draw_power > 1


@pytest.mark.slow
def test_a_codec_of_other_widths_is_no_start(generalist: Model, tmp_path: Path) -> None:
    """It would train from random weights, and nobody would be told."""
    (tmp_path / "wide.toml").write_text(GENERALIST.replace("eighth = 6", "eighth = 8"))
    known, unknown = (generalist.path.parent / name for name in ("known", "unknown"))
    with pytest.raises(ConfigError, match="does not fit; take widths and levels"):
        train_command(
            tmp_path / "wide.toml",
            [known],
            tmp_path / "out",
            unlabelled=[unknown],
            start=generalist.path,
            run=tmp_path / "run",
            say=lambda _: None,
        )


@pytest.mark.slow
def test_a_network_that_somebody_runs_makes_a_codec_from_pictures_in_any_folders(
    generalist: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = specialise.pupil_config(generalist, "mine", [TeacherConfig("net.onnx")])
    assert [stage.quantisation for stage in config.stage] == ["straight", "rounded"]
    assert {(stage.beta, stage.alpha_ratio) for stage in config.stage} == {(2.0, 0.25)}
    assert {(stage.size, stage.batch) for stage in config.stage} == {(192, 8)}
    # What is read at a size of its own is coded at that size.
    squeezed = [TeacherConfig("net.onnx", size=(416,))]
    config = specialise.pupil_config(generalist, "mine", squeezed)
    assert {(stage.size, stage.batch) for stage in config.stage} == {(416, 2)}

    def brief(source: Model, name: str, teachers: Sequence[TeacherConfig]) -> TrainingConfig:
        config = real(source, name, teachers)
        short = [replace(stage, steps=2, batch=4, size=64, warmup=0) for stage in config.stage]
        data = replace(config.data, size=32, calibration=0.2)
        return replace(config, data=data, stage=tuple(short))

    real = specialise.pupil_config
    monkeypatch.setattr(command, "pupil_config", brief)
    monkeypatch.chdir(tmp_path)
    onnx.save(detector(), "net.onnx")
    frames = photographs(tmp_path / "frames", ("red", "green"), 4)
    for number, path in enumerate(sorted(frames.rglob("*.png"))[:4]):
        path.rename(frames / f"{number}.png")
    line = ["train", "--from", str(generalist.path), "--teacher", "net.onnx", "--data", "frames"]
    line += ["--teacher-input", "range=255", "--teacher-output", "boxes", "--out", "ours"]
    result = CliRunner().invoke(cli.main, line)
    assert result.exit_code == 0, result.output
    assert result.stdout == "ours\n"
    assert "guessed: layout=nchw size=0 order=rgb mean=0 std=1" in result.stderr
    made = model.find(tmp_path / "ours")
    made.verify()
    assert not made.heads
    described = made.manifest["training"]["config"]["teacher"]
    assert [(row["network"], row["outputs"]) for row in described] == [("net.onnx", ["boxes"])]
    start, end = (load_start(m, "classify") for m in (generalist, made))
    assert (start["analysis.layers.0.weight"] - end["analysis.layers.0.weight"]).abs().max() > 0
    lines = (tmp_path / "runs" / "ours" / LOG).read_text().splitlines()
    steps = [row for row in map(json.loads, lines) if "loss" in row]
    assert len(steps) == 4
    assert all(row["task"] > 0 for row in steps)
    assert "step 1 of 4: " in result.stderr
    (levels,) = made.manifest["metrics"].values()
    kept = [row["outputs_kept"] for row in levels]
    assert all(0 < share < 1 for share in kept)
    assert f"-q 1: {levels[0]['bpp']:.4f} bpp" in result.stderr
    assert f"outputs kept {100 * kept[0]:.1f} % (" in result.stderr
    data = codec.load_model(made.path, device="cpu").compress(np.zeros((33, 40, 3), np.uint8), 1)
    assert data.frame.width == 40

    # Another network under the same name would teach something else from the middle on.
    (tmp_path / "ours").rename(tmp_path / "before")
    onnx.save(detector(), "net.onnx")
    same = ["--unlabelled" if word == "--data" else word for word in line]
    result = CliRunner().invoke(cli.main, same)
    assert result.exit_code == 1
    assert "other teachers" in result.stderr


def test_a_folder_has_labels_or_none(tmp_path: Path) -> None:
    """Its images would be split twice: some would be trained on and tested on."""
    (tmp_path / "twice.toml").write_text(GENERALIST)
    folder = photographs(tmp_path / "known", ("red", "green"), 5)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(ConfigError, match="link is given twice"):
        train_command(
            tmp_path / "twice.toml",
            [folder],
            tmp_path / "out",
            unlabelled=[tmp_path / "link"],
            run=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_without_a_configuration_there_must_be_a_model_with_levels(
    generalist: Model, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="a configuration file, a model to start from, or both"):
        train_command(None, [tmp_path], tmp_path / "out")
    with pytest.raises(ConfigError, match="name: must be letters"):
        specialise.specialist_config(generalist, "two words")
    tiny = model.find(Path(__file__).parent / "models" / "tiny")
    with pytest.raises(ConfigError, match="does not say how the model was trained"):
        specialise.specialist_config(tiny, "mine")


@pytest.mark.slow
def test_the_command_ends_with_other_codecs_at_equal_bytes(
    generalist: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "specialist_config", brief)
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / "mine", ("red", "green", "blue"), 6)
    line = ["train", "--from", str(generalist.path), "--data", "mine", "--out", "special"]
    result = CliRunner().invoke(cli.main, line)
    assert result.exit_code == 0, result.output
    assert result.stdout == "special\n"
    table = (tmp_path / "runs" / "special" / "comparison.md").read_text()
    assert "## mine: 4 pictures of 32 × 32" in table  # those that training kept out
    assert "top-1" in table
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")][2:]
    sizes = {row[0].removeprefix("| "): int(row[2]) for row in rows}
    assert set(sizes) == {"uncompressed", "special", "jpeg", "webp", "avif"}
    # Of headers alone they are larger than these pictures, whatever their quality.
    assert all(sizes[name] >= sizes["special"] for name in ("jpeg", "webp", "avif"))
    picture = tmp_path / "runs" / "special" / "comparison.png"
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG"
    for name in ("comparison.md", "comparison.png"):
        assert name in result.stderr
    assert "| special" not in result.stderr  # columns for a terminal, not Markdown
    assert "special" in result.stderr
