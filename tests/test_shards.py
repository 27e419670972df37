"""Decoded photographs: the shard, its crops, and a run that trains on nothing else."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.optim import Adam

from tactic_codec.errors import ConfigError, DataError
from tactic_codec.networks.measures import UNLABELLED
from tactic_codec.training import checkpoint
from tactic_codec.training.checkpoint import CARRIED, CHECKPOINT, LOG, Learner
from tactic_codec.training.command import train_command
from tactic_codec.training.config import (
    DataConfig,
    NetworkConfig,
    StageConfig,
    TrainingConfig,
    load_config,
    parse_config,
)
from tactic_codec.training.data import Crops, scan
from tactic_codec.training.loop import Step, build_network, train
from tactic_codec.training.shards import Photograph, Shard, ShardWriter, crop

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder as experiments/photographs.py makes it: three to train on, four kept."""
    folder = tmp_path / "photographs"
    random = np.random.default_rng(1)
    (folder / "kept" / "source").mkdir(parents=True)
    with ShardWriter(folder / "train") as shard:
        for i, (height, width) in enumerate([(60, 80), (50, 50), (90, 70)]):
            row = np.linspace(0, 255, width, dtype=np.uint8)
            shard.add(f"source {i}.jpg", np.tile(row[:, None], (height, 1, 3)), (0.5, 0.8))
    for i in range(4):
        noise = random.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "kept" / "source" / f"{i}.png")
    return folder


def test_a_shard_gives_back_what_was_written(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    pictures = [random.integers(0, 255, size, dtype=np.uint8) for size in [(4, 6, 3), (5, 3, 3)]]
    with ShardWriter(tmp_path / "a") as writer:
        for i, pixels in enumerate(pictures):
            writer.add(f"{i}", pixels[:, ::-1][:, ::-1], (0.5, 1.0))
    shard = Shard(tmp_path / "a")
    assert len(shard) == 2
    assert [entry.name for entry in shard.entries] == ["0", "1"]
    for i, pixels in enumerate(pictures):
        np.testing.assert_array_equal(shard[i], pixels)


def test_an_unfinished_or_damaged_shard_is_refused(photographs: Path) -> None:
    with (photographs / "train.u8").open("ab") as pixels:
        pixels.write(b"x")
    with pytest.raises(DataError, match="contradict"):
        Shard(photographs / "train")
    (photographs / "train.json").write_text("[[1")
    with pytest.raises(DataError, match="no finished shard"):
        Shard(photographs / "train")
    with pytest.raises(RuntimeError, match="full"), ShardWriter(photographs / "train"):
        raise RuntimeError("the disk is full")
    with pytest.raises(DataError, match="no finished shard"):
        Shard(photographs / "train")


def test_crops_are_scaled_within_their_range_and_lie_inside(photographs: Path) -> None:
    shard = Shard(photographs / "train")
    widths = set()
    for number in range(50):
        square = np.asarray(crop(Photograph(shard, 0), 32, np.random.default_rng(number)), float)
        assert square.shape == (32, 32, 3)
        # The slope of the ramp, 255 over 80 pixels, tells the scale.
        slope = abs(square[16, 24, 0] - square[16, 8, 0]) / 16 / (255 / 79)
        assert 1 / 0.8 - 0.15 < slope < 1 / 0.5 + 0.15
        widths.add(round(slope, 1))
    assert len(widths) > 4
    # One that would not fit is taken at the smallest scale at which it does, however that rounds.
    for size in range(50, 90):
        assert crop(Photograph(shard, 1), size, np.random.default_rng(0)).size == (size, size)


def test_other_pictures_are_cut_at_scales_where_a_run_asks_for_them(photographs: Path) -> None:
    row = np.linspace(0, 255, 80, dtype=np.uint8)
    ramp = photographs.parent / "ramp"
    ramp.mkdir()
    for i in range(3):
        Image.fromarray(np.tile(row[:, None], (60, 1, 3))).save(ramp / f"{i}.png")
    config = DataConfig(zoom=(0.5, 0.8))
    crops = Crops(scan([], config, seed=1, unlabelled=[ramp]).parts, config, 32, seed=1)
    for number in range(20):
        square, label = crops[number]
        assert label == UNLABELLED
        slope = abs(float(square[0, 16, 24]) - float(square[0, 16, 8])) / 16 / (255 / 79)
        assert 1 / 0.8 - 0.15 < slope < 1 / 0.5 + 0.15


def test_scan_knows_such_a_folder(photographs: Path) -> None:
    data = scan([], DataConfig(), seed=1, unlabelled=[photographs])
    (part,) = data.parts
    assert len(part.train) == 3
    assert len(part.calibration) + len(part.test) == 4
    assert part.calibration and part.test
    np.testing.assert_array_equal(part.train[1].pixels(), Shard(photographs / "train")[1])
    crops = Crops(data.parts, DataConfig(colour=0.2), 32, seed=3)
    pixels, label = crops[5]
    assert pixels.shape == (3, 32, 32) and label < 0
    assert (crops[5][0] == pixels).all()


def test_all_runs_are_tested_on_the_same_of_the_other_pictures(photographs: Path) -> None:
    """Or a model that goes on from another's would count tables on what that one is tested on."""
    ((first,), (second,)) = (
        scan([], DataConfig(), seed=seed, unlabelled=[photographs]).parts for seed in (1, 2)
    )
    assert (first.calibration, first.test) == (second.calibration, second.test)


CONFIG = TrainingConfig(
    name="tiny",
    ema=0.5,
    checkpoint_every=2,
    network=NetworkConfig(latent=4, analysis=4, synthesis=(4, 4)),
    stage=(StageConfig(steps=6, beta=0.1, alpha=0.0, batch=2, size=16, warmup=2),),
)


def test_a_run_goes_on_from_its_weights_alone(photographs: Path, tmp_path: Path) -> None:
    data = scan([], CONFIG.data, seed=1, unlabelled=[photographs])
    seen: list[Step] = []

    class Pulled(Exception):
        pass

    def stop(step: Step) -> None:
        if step.step == 5:
            raise Pulled

    with pytest.raises(Pulled):
        train(CONFIG, data, tmp_path / "run", on_step=stop)
    carried = tmp_path / "carried"
    carried.mkdir()
    shutil.copy(tmp_path / "run" / CARRIED, carried)
    train(CONFIG, data, carried, on_step=seen.append)
    assert [step.step for step in seen] == [5, 6]
    assert {weight.dtype for weight in load_file(carried / CARRIED).values()} == {torch.float16}
    # The moments are new: the learning rate rises again.
    assert seen[0].learning_rate == pytest.approx(1e-3 / 3)
    assert seen[1].learning_rate == pytest.approx(2e-3 / 3)
    lines = [json.loads(line) for line in (carried / LOG).read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 6]
    # Where the checkpoint is there, it counts, and its moments are as old as they are.
    whole: list[Step] = []
    train(CONFIG, data, tmp_path / "run", on_step=whole.append)
    assert [step.step for step in whole] == [5, 6]
    assert whole[0].learning_rate == pytest.approx(1e-3)


def test_weights_of_the_last_step_are_exported(photographs: Path, tmp_path: Path) -> None:
    """Alone in a folder, without a log, as experiments/codec is in a fresh checkout."""
    data = scan([], CONFIG.data, seed=1, unlabelled=[photographs])
    train(CONFIG, data, tmp_path / "run")
    carried = tmp_path / "carried"
    carried.mkdir()
    shutil.copy(tmp_path / "run" / CARRIED, carried)
    model = train_command(
        CONFIG, [], tmp_path / "out", unlabelled=[photographs], run=carried, say=lambda _: None
    )
    assert model is not None and model.name == "tiny"
    assert not (carried / LOG).exists()


def test_carried_weights_of_another_run_are_refused(photographs: Path, tmp_path: Path) -> None:
    data = scan([], CONFIG.data, seed=1, unlabelled=[photographs])
    train(CONFIG, data, tmp_path)
    (tmp_path / CHECKPOINT).unlink()
    with pytest.raises(ConfigError, match="another configuration"):
        train(replace(CONFIG, seed=2), data, tmp_path)
    (tmp_path / CARRIED).write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="damaged"):
        train(CONFIG, data, tmp_path)
    assert checkpoint.CARRIED in {path.name for path in tmp_path.iterdir()}


def test_the_twin_s_weights_fit_its_configuration(tmp_path: Path) -> None:
    """What lies in experiments, and one command exports."""
    config = load_config(ROOT / "experiments/codec.toml")
    shutil.copy(ROOT / "experiments/codec" / CARRIED, tmp_path)
    network = build_network(config, 0)
    learner = Learner(config, "cpu", network, Adam(network.parameters()), None, None)
    assert checkpoint.resume(tmp_path, learner).step == config.steps


TODAYS = """{"name": "old", "stage": [{"steps": 2, "beta": 0.5, "beta_ratio": 1.0, "alpha": 0.0,
"alpha_ratio": 1.0, "label": 1.0, "dice": 0.0, "distill": 0.0, "features": 0.0, "name": "joint",
"batch": 2, "size": 16, "learning_rate": 0.001, "warmup": 0, "final_learning_rate": null,
"pixel_scale": 1.0, "quantisation": "noise", "offset": 0.5, "precision": "float32", "clip": null}],
"description": "", "seed": 1, "checkpoint_every": 200, "head_only": false, "offsets": [],
"ema": 0.0, "network": {"latent": 2, "analysis": 4, "synthesis": [4, 4]}, "residual": null,
"levels": null, "task": {"network": "efficientnet_lite0", "weights": "random", "learn": true,
"speed": 1.0, "last_speed": null, "input_size": null}, "masks": null, "data": {"test": 0.2,
"calibration": 0.05, "draw": [], "test_shares": [], "scale": [0.35, 1.0], "colour": 0.0,
"size": 224, "workers": 0}, "entropy": {"own": [], "shared": [], "linear": false},
"evaluation": {"every": 500, "images": 200, "final": null}}"""


def test_weights_as_they_are_written_today_are_gone_on_from(
    photographs: Path, tmp_path: Path
) -> None:
    """A file made here by hand, whatever later versions write: its names, halves and text."""
    shapes = {
        "analysis.layers.0.weight": (4, 3, 5, 5),
        "analysis.layers.0.bias": (4,),
        "analysis.layers.3.weight": (2, 4, 5, 5),
        "analysis.layers.3.bias": (2,),
        "synthesis.layers.0.weight": (2, 4, 4, 4),
        "synthesis.layers.0.bias": (4,),
        "synthesis.layers.2.weight": (4, 4, 4, 4),
        "synthesis.layers.2.bias": (4,),
        "synthesis.layers.4.weight": (4, 3, 4, 4),
        "synthesis.layers.4.bias": (3,),
        **{f"prior.biases.{i}": (2, n, 1) for i, n in enumerate((3, 3, 3, 1))},
        **{f"prior.factors.{i}": (2, 3, 1) for i in range(3)},
        **{f"prior.matrices.{i}": (2, *n) for i, n in enumerate(((3, 1), (3, 3), (3, 3), (1, 3)))},
    }
    weights = {name: torch.full(shape, 0.125).half() for name, shape in shapes.items()}
    save_file(weights, tmp_path / CARRIED, {"config": TODAYS, "step": "1"})
    config = parse_config(json.loads(TODAYS))
    data = scan([], config.data, seed=1, unlabelled=[photographs])
    steps: list[Step] = []
    network = train(config, data, tmp_path, on_step=steps.append)
    assert [step.step for step in steps] == [2]
    weight = network.state_dict()["analysis.layers.0.weight"]
    assert 0 < (weight - 0.125).abs().max() < 0.01
