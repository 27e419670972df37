"""A training configuration is taken as written, or refused before a day is lost."""

import json
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from tactic_codec.errors import ConfigError
from tactic_codec.model import Objective
from tactic_codec.networks.residual import ResidualConfig
from tactic_codec.training.config import (
    DataConfig,
    EntropyConfig,
    EvaluationConfig,
    LevelsConfig,
    NetworkConfig,
    StageConfig,
    TaskConfig,
    TrainingConfig,
    load_config,
    parse_config,
)

STAGE = {"steps": 10, "beta": 1.0}
LEAST: dict[str, Any] = {"name": "mine", "stage": [STAGE]}
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.toml"))


def with_setting(*keys: str, to: Any) -> dict[str, Any]:
    """The smallest configuration with one more setting; the stage's under the key ``stage``."""
    if keys[0] == "stage" and len(keys) == 2:
        return LEAST | {"stage": [STAGE | {keys[1]: to}]}
    if len(keys) == 2:
        return LEAST | {keys[0]: {keys[1]: to}}
    return LEAST | {keys[0]: to}


def test_the_least_is_a_name_and_a_stage() -> None:
    assert parse_config(LEAST) == TrainingConfig("mine", (StageConfig(steps=10, beta=1.0),))


def test_defaults_are_the_paper_s() -> None:
    config = parse_config(LEAST)
    assert config.seed == 1
    assert config.network == NetworkConfig(latent=64, analysis=64, synthesis=(64, 48))
    assert config.task == TaskConfig("efficientnet_lite0", "random", learn=True)
    assert config.data == DataConfig(test=0.2, calibration=0.05, size=224)
    assert config.entropy == EntropyConfig((), ())
    assert config.evaluation == EvaluationConfig(every=500, images=200)
    (stage,) = config.stage
    assert (stage.alpha, stage.batch, stage.learning_rate) == (1.0, 32, 1e-3)
    assert (stage.quantisation, stage.precision, stage.size) == ("noise", "float32", 224)
    assert stage.final_learning_rate is None


def test_every_setting_can_be_set() -> None:
    text = """
        name = "all-of_them2"
        description = "Sets everything."
        seed = 7
        checkpoint_every = 3
        network = {latent = 4, analysis = 5, synthesis = [6, 7]}
        ema = 0.5
        residual = {latent = 4, sixteenth = 5, eighth = 6, quarter = 7, analysis_blocks = [1, 2]}
        levels = {count = 3, first_gain = 1, last_gain = 4, draw_power = 2}
        task.network = "efficientnet_lite0"
        task.weights = "published"
        task.learn = true
        task.speed = 0.5
        task.last_speed = 5
        evaluation = {every = 2, images = 3}
        entropy = {own = [1, 4], shared = [3]}
        [data]
        test = 0.3
        calibration = 0.1
        draw = [1, 2.5]
        test_shares = [0.2, 0.3]
        scale = [0.5, 1]
        zoom = [0.6, 1]
        colour = 0.1
        size = 64
        workers = 2
        [[stage]]
        steps = 5
        beta = 2
        beta_ratio = 0.5
        alpha = 0
        alpha_ratio = 0.25
        label = 0
        distill = 1
        features = 2
        name = "first"
        batch = 4
        size = 32
        learning_rate = 1
        warmup = 2
        final_learning_rate = 0
        pixel_scale = 10
        quantisation = "mixed"
        offset = 0.25
        precision = "auto"
        clip = 1
        [[stage]]
        steps = 6
        beta = 0.5
    """
    config = parse_config(tomllib.loads(text))
    assert config == TrainingConfig(
        name="all-of_them2",
        description="Sets everything.",
        seed=7,
        checkpoint_every=3,
        network=NetworkConfig(4, 5, (6, 7)),
        ema=0.5,
        residual=ResidualConfig(4, 5, 6, 7, analysis_blocks=(1, 2)),
        levels=LevelsConfig(3, 1.0, 4.0, 2.0),
        task=TaskConfig("efficientnet_lite0", "published", True, 0.5, 5.0),
        evaluation=EvaluationConfig(2, 3),
        entropy=EntropyConfig((1, 4), (3,)),
        data=DataConfig(0.3, 0.1, (1.0, 2.5), (0.2, 0.3), (0.5, 1.0), (0.6, 1.0), 0.1, 64, 2),
        stage=(
            StageConfig(
                *(5, 2.0, 0.5, 0.0, 0.25, 0.0, 0.0, 1.0, 2.0, "first", 4, 32, 1.0, 2, 0.0),
                *(10.0, "mixed", 0.25, "auto", 1.0),
            ),
            StageConfig(6, 0.5),
        ),
    )
    assert config.steps == 11
    assert config.uses_task
    assert config.gains == (1.0, 2.0, 4.0)
    # Integers where numbers are meant become floats, so that both spellings are one configuration.
    stage = config.stage[0]
    assert {type(v) for v in (stage.beta, stage.alpha, stage.final_learning_rate)} == {float}
    assert {type(weight) for weight in config.data.draw} == {float}
    assert type(stage.steps) is int


def test_a_run_s_own_record_is_a_configuration_again() -> None:
    """What is written as JSON, lists for tuples and null for None, is read back."""
    config = parse_config(LEAST | {"entropy": {"own": [1, 2]}, "data": {"draw": [1.0]}})
    again = json.loads(json.dumps(asdict(config)))
    assert parse_config(again) == config


def test_the_last_stage_that_codes_says_what_levels_are_for() -> None:
    joint = STAGE | {
        "beta": 8.0,
        "beta_ratio": 0.5,
        "alpha": 2.0,
        "alpha_ratio": 0.25,
        "label": 0.5,
        "distill": 1.0,
        "features": 3.0,
        "pixel_scale": 10.0,
    }
    head = STAGE | {"quantisation": "none"}
    levels = {"residual": {}, "levels": {"count": 3}}
    raw = LEAST | levels | {"stage": [STAGE, joint, head]}
    assert parse_config(raw).objectives == [
        Objective(pixel_scale=10.0, alpha=3.0 * share, features=6.0 * share, beta=beta)
        for share, beta in ((1.0, 8.0), (0.25, 4.0), (0.0625, 2.0))
    ]
    assert parse_config(LEAST).objectives == [Objective(1.0, 1.0, 0.0, 1.0)]
    assert parse_config(LEAST | {"stage": [head]}).objectives is None


def test_a_run_without_a_task_loss_uses_no_task_network() -> None:
    assert not parse_config(with_setting("stage", "alpha", to=0)).uses_task
    stages = [STAGE | {"alpha": 0.0}, STAGE]
    assert parse_config(LEAST | {"stage": stages}).uses_task


REFUSED: list[tuple[dict[str, Any], str]] = [
    # Unknown and missing settings.
    (LEAST | {"sed": 1}, r"unknown setting sed; known: name, stage, .*seed"),
    (LEAST | {"b": 1, "a": 2}, "unknown setting a, b"),
    (with_setting("network", "laten", to=1), "network: unknown setting laten; known: latent"),
    (with_setting("stage", "betta", to=1), "stage 1: unknown setting betta"),
    ({"stage": [STAGE]}, "name must be set"),
    ({"name": "mine"}, "stage must be set"),
    ({}, "name, stage must be set"),
    (LEAST | {"stage": [{"steps": 1}]}, "stage 1: beta must be set"),
    (LEAST | {"stage": [STAGE, {"beta": 1}]}, "stage 2: steps must be set"),
    (LEAST | {"stage": []}, r"stage: needs at least one: write \[\[stage\]\]"),
    # Wrong types.
    (LEAST | {"stage": STAGE}, r"stage: expected a list"),
    (LEAST | {"stage": [5]}, "stage 1: expected a table of settings, found 5"),
    (LEAST | {"network": 5}, "network: expected a table of settings, found 5"),
    (LEAST | {"name": 5}, "name: expected str, found 5"),
    (LEAST | {"seed": "1"}, "seed: expected int, found '1'"),
    (LEAST | {"seed": True}, "seed: expected int, found True"),
    (LEAST | {"seed": 1.0}, "seed: expected int, found 1.0"),
    (with_setting("task", "learn", to=1), "learn: expected bool, found 1"),
    (with_setting("stage", "beta", to="1"), "beta: expected float, found '1'"),
    (with_setting("stage", "beta", to=True), "beta: expected float, found True"),
    (with_setting("stage", "steps", to=1.5), "steps: expected int, found 1.5"),
    (with_setting("stage", "final_learning_rate", to="0"), "expected float, found '0'"),
    (with_setting("entropy", "own", to=5), "own: expected a list, found 5"),
    (with_setting("entropy", "own", to=[1, 2.5]), "own 2: expected int, found 2.5"),
    (with_setting("data", "draw", to=["much"]), "draw 1: expected float, found 'much'"),
    # Lengths of lists, and words.
    (with_setting("network", "synthesis", to=[8]), "synthesis: expected 2 values, found 1"),
    (with_setting("network", "synthesis", to=[8, 8, 8]), "expected 2 values, found 3"),
    (with_setting("data", "scale", to=[]), "scale: expected 2 values, found 0"),
    (with_setting("task", "weights", to="best"), "one of 'published', 'random', found 'best'"),
    (with_setting("stage", "quantisation", to="round"), "one of 'noise', 'mixed', "),
    (with_setting("stage", "precision", to="float16"), "one of 'float32', 'bfloat16'"),
    (with_setting("stage", "precision", to=["float32"]), "one of 'float32', 'bfloat16'"),
    # Ranges.
    (with_setting("stage", "clip", to=0.0), "clip: must be positive, found 0.0"),
    (with_setting("task", "last_speed", to=0.0), "task, last_speed: must be positive"),
    (with_setting("task", "input_size", to=0), "task, input_size: must be positive"),
    (LEAST | {"offsets": [0.3]}, "offsets are those of each level of a codec that stays"),
    (LEAST | {"name": ""}, "name: must be letters"),
    (LEAST | {"name": "../up"}, r"name: must be letters, digits, - and _, found '\.\./up'"),
    (LEAST | {"name": "a b"}, "name: must be letters"),
    (LEAST | {"name": "---"}, "name: must be letters"),
    (LEAST | {"checkpoint_every": 0}, "checkpoint_every: must be positive"),
    (with_setting("network", "latent", to=0), "network, latent: must be positive, found 0"),
    (with_setting("network", "synthesis", to=[8, -1]), "network, synthesis 2: must be positive"),
    (with_setting("data", "test", to=0.0), "shares above 0"),
    (with_setting("data", "test", to=0.95), "leave some to train on"),
    (with_setting("data", "calibration", to=-0.1), "shares above 0"),
    (with_setting("data", "calibration", to=float("nan")), "shares above 0"),
    (with_setting("data", "draw", to=[1.0, 0.0]), "draw 2: must be positive, found 0.0"),
    (with_setting("data", "draw", to=[float("nan")]), "draw 1: must be positive, found nan"),
    (with_setting("data", "scale", to=[0.0, 1.0]), "scale: must be a range within 0 to 1"),
    (with_setting("data", "scale", to=[0.9, 0.5]), "scale: must be a range"),
    (with_setting("data", "scale", to=[0.5, 1.1]), "scale: must be a range"),
    (with_setting("data", "size", to=0), "data, size: must be positive"),
    (with_setting("data", "size", to=-8), "data, size: must be positive"),
    (with_setting("data", "size", to=30), "data, size: must be a multiple of 8, found 30"),
    (with_setting("data", "workers", to=-1), "workers: must not be negative"),
    (with_setting("evaluation", "every", to=0), "evaluation, every: must be positive"),
    (with_setting("evaluation", "images", to=-1), "evaluation, images: must be positive"),
    (LEAST | {"residual": {}, "levels": {"draw_power": 0.5}}, "draw_power: must be at least 1"),
    (LEAST | {"residual": {}, "levels": {"draw_power": float("nan")}}, "must be at least 1"),
    (LEAST | {"residual": {}, "levels": {"draw_power": float("inf")}}, "at least 1 and finite"),
    (with_setting("entropy", "own", to=[2, 1]), r"own context thresholds are \[2, 1\].*increasing"),
    (with_setting("entropy", "own", to=[0, 1]), "strictly increasing integers from 1"),
    (with_setting("entropy", "shared", to=[3, 3]), "shared context thresholds"),
    (with_setting("stage", "steps", to=0), r"stage 1, steps: must be positive, found 0"),
    (with_setting("stage", "batch", to=0), "batch: must be positive"),
    (with_setting("stage", "offset", to=0), "offset: must be positive"),
    (with_setting("stage", "offset", to=0.6), "offset: must be at most 0.5, found 0.6"),
    (with_setting("stage", "alpha_ratio", to=-1), "alpha_ratio: must be positive"),
    (with_setting("stage", "size", to=0), "size: must be positive"),
    (with_setting("stage", "size", to=-8), "size: must be positive"),
    (with_setting("stage", "size", to=36), "size: must be a multiple of 8, found 36"),
    (with_setting("stage", "learning_rate", to=0), "learning_rate: must be positive"),
    (with_setting("stage", "learning_rate", to=float("nan")), "learning_rate: must be positive"),
    (with_setting("stage", "pixel_scale", to=0), "pixel_scale: must be positive"),
    (with_setting("stage", "alpha", to=-1), "alpha: must not be negative, found -1.0"),
    (with_setting("stage", "beta", to=-0.5), "beta: must not be negative"),
    (with_setting("stage", "beta", to=float("nan")), "beta: must not be negative, found nan"),
    (with_setting("stage", "final_learning_rate", to=-1e-3), "must not be negative"),
    (with_setting("stage", "learning_rate", to=float("inf")), "learning_rate: must be positive"),
    (with_setting("stage", "beta", to=float("inf")), "beta: must not be negative"),
    (LEAST | {"seed": -1}, "seed: must be 0 to 4294967295, found -1"),
    (LEAST | {"seed": 1 << 32}, "seed: must be 0 to"),
]


@pytest.mark.parametrize(("raw", "reason"), REFUSED, ids=lambda v: v if isinstance(v, str) else "")
def test_what_cannot_be_run_is_refused(raw: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        parse_config(raw, "mine.toml")
    assert str(caught.value).startswith("mine.toml")


def test_the_stage_at_fault_is_named() -> None:
    stages = [STAGE | {"name": "first"}, STAGE | {"name": "second", "steps": -1}]
    with pytest.raises(ConfigError, match=r"stage 2 \(second\), steps: must be positive"):
        parse_config(LEAST | {"stage": stages})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"name = ", "is not TOML"),
        (b"name = 'a'\nname = 'b'", "is not TOML"),
        (b"\xff\xfe", "cannot read the configuration"),
        (b"", "name, stage must be set"),
        (b'name = "mine"\nbatch = 3\n', "unknown setting batch"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=reason) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.toml", tmp_path):
        with pytest.raises(ConfigError, match="cannot read the configuration"):
            load_config(path)


def test_a_configuration_has_what_it_does_not_name_from_the_one_it_extends(tmp_path: Path) -> None:
    stage = '[[stage]]\nname = "{}"\nsteps = {}\nbeta = 1.0\n'
    (tmp_path / "first.toml").write_text(
        'name = "first"\nseed = 7\n[data]\nsize = 64\ncolour = 0.5\n'
        + stage.format("a", 1)
        + stage.format("b", 2)
    )
    second = tmp_path / "second.toml"
    second.write_text('extends = "first.toml"\nname = "second"\n[data]\nsize = 32\n')
    config = load_config(second)
    assert (config.name, config.seed, config.steps) == ("second", 7, 3)
    assert (config.data.size, config.data.colour) == (32, 0.0), "a table is taken as a whole"
    second.write_text('extends = "first.toml"\nname = "second"\n' + stage.format("c", 5))
    assert [s.name for s in load_config(second).stage] == ["c"]
    third = tmp_path / "there/third.toml"
    third.parent.mkdir()
    third.write_text('extends = "../second.toml"\nname = "third"\n')
    config = load_config(third)
    assert (config.name, config.seed, config.steps) == ("third", 7, 5), "of both, by a chain"


@pytest.mark.parametrize(
    ("extends", "reason"),
    [
        ("3", "extends: expected the path of a file, found 3"),
        ('"missing.toml"', "cannot read the configuration .*missing.toml"),
        ('"mine.toml"', "mine.toml extends itself"),
        ('"../there/mine.toml"', "mine.toml extends itself"),
    ],
)
def test_what_cannot_be_extended_is_refused(tmp_path: Path, extends: str, reason: str) -> None:
    path = tmp_path / "there/mine.toml"
    path.parent.mkdir()
    path.write_text(f'extends = {extends}\nname = "mine"\n')
    with pytest.raises(ConfigError, match=reason):
        load_config(path)


def test_there_are_experiments() -> None:
    assert "paper" in [path.stem for path in EXPERIMENTS]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_every_experiment_can_be_run(path: Path) -> None:
    config = load_config(path)
    assert config.steps > 0
    assert config.description
