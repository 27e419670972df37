"""From a model that exists: the configurations behind ``tactic train --from``.

    codec, shown to teachers ─▶ synthesis on rounded latents       for networks that somebody runs

And for the classes of a folder:

    head on images ─▶ teacher ─▶ codec and head together ─▶ synthesis and head on rounded latents

The task network learns the folder's classes first, on images that are not coded. What it then says
of an image is what codec and head, trained together, have to keep.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tactic_codec.errors import ConfigError
from tactic_codec.model import DEFAULT_MODEL, Model
from tactic_codec.networks.folder import transforms_of
from tactic_codec.networks.residual import ResidualConfig
from tactic_codec.training.config import (
    DataConfig,
    EvaluationConfig,
    LevelsConfig,
    NetworkConfig,
    StageConfig,
    TaskConfig,
    TeacherConfig,
    TrainingConfig,
    check,
    parse_config,
)

TASK = "classify"

PUPIL_CROP = 192
"""Side of the crops for networks that take any sides, in pixels."""

SIDES = 32
"""Of which all sides of crops are multiples."""

TEACHER_ALPHA = 16.0
"""Weight of a teacher's distance. Where it is 0.25, that weighs as much as a picture of 14 dB."""


def specialist_config(model: Model, name: str) -> TrainingConfig:
    """Return the configuration that makes a specialist of a model with quality levels.

    Args:
        model: with residual transforms and a classifier.
        name: of the specialist.

    Raises:
        ConfigError: the model has other transforms, no classifier, or a manifest that does not
            tell how it was trained; or the name is none.
    """
    # Few bytes are what specialists are made for, and what is hardest.
    begun = _begun(model, name, draw_power=2.0)
    if TASK not in model.heads:
        raise ConfigError(
            f"model {model.name} has no classifier to start from; start from {DEFAULT_MODEL}, or "
            "give a configuration file"
        )
    network = model.heads[TASK].network
    features = network == "efficientnet_lite0"
    joint = replace(
        begun.stage[0],
        steps=600,
        batch=16,
        size=192,
        alpha=2.0,
        # The gradient of the answers is a hundred times that of the picture, and mostly noise. From
        # where the generalist ended, with a head that knows the classes, codecs bear half of it.
        label=0.5,
        distill=0.5 if features else 1.0,
        features=3.0 if features else 0.0,
        # At higher rates what the start has learned is lost faster than the classes are learned.
        learning_rate=2e-4,
    )
    head = replace(
        joint, name="head", steps=250, label=1.0, learning_rate=4e-4, quantisation="none"
    )
    rounded = replace(
        _rounded(joint, model), steps=400, label=0.3, distill=0.6, learning_rate=1.5e-4
    )
    config = replace(
        begun,
        description=f"Made from {model.name} for the classes of its own folder.",
        # The last layer starts from nothing. What is below it knows pictures already, and a rate
        # at which the one learns would make the other forget.
        task=TaskConfig(network, speed=0.3, last_speed=25.0),
        data=DataConfig(colour=0.2),
        stage=(head, joint, rounded),
    )
    return check(config, f"a specialist of {model.name}")


def pupil_config(model: Model, name: str, teachers: Sequence[TeacherConfig]) -> TrainingConfig:
    """Return the configuration that makes a codec for networks that somebody runs.

    Args:
        model: with residual transforms, whose weights it starts from.
        name: of the codec.
        teachers: those networks.

    Raises:
        ConfigError: as `specialist_config`; a classifier is not needed.
    """
    begun = _begun(model, name, draw_power=1.3)
    # What a network reads at a size of its own is coded at that size, and shown as large.
    fixed = [max(teacher.size) for teacher in teachers if any(teacher.size)]
    size = -(-max(fixed, default=PUPIL_CROP) // SIDES) * SIDES
    joint = replace(
        begun.stage[0],
        steps=700,
        batch=max(2, round(8 * PUPIL_CROP**2 / size**2)),
        size=size,
        alpha=TEACHER_ALPHA,
        label=1.0,
        distill=0.0,
        features=0.0,
        # At higher rates what the start has learned is lost faster than the network is learned.
        learning_rate=6e-5,
    )
    rounded = replace(
        _rounded(joint, model), steps=200, learning_rate=3e-5, final_learning_rate=5e-6
    )
    named = ", ".join(Path(teacher.network).name for teacher in teachers)
    config = replace(
        begun,
        description=f"Made from {model.name} for {named}.",
        teacher=tuple(teachers),
        data=DataConfig(colour=0.1, size=max(256, size), zoom=(0.6, 1.0)),
        stage=(joint, rounded),
    )
    return check(config, f"a codec from {model.name}")


def _begun(model: Model, name: str, draw_power: float) -> TrainingConfig:
    """Return what configurations from a model share, with the last stage that moved latents.

    Args:
        model: its own configuration has these.
        name: of what is made.
        draw_power: see `LevelsConfig`.

    Raises:
        ConfigError: it does not tell them, or has no quality levels.
    """
    try:
        transforms = transforms_of(model)
        made = parse_config(dict(model.manifest["training"]["config"]), str(model.path))
    except (KeyError, TypeError, ValueError) as exc:
        raise ConfigError(f"{model.path} does not say how the model was trained: {exc}") from exc
    # As it stood when latents still moved: what comes behind only settles the synthesis.
    moving = [stage for stage in made.stage if stage.quantisation not in ("none", "rounded")]
    if not isinstance(transforms, ResidualConfig) or not moving:
        raise ConfigError(
            f"model {model.name} has no quality levels to start from; start from {DEFAULT_MODEL}, "
            "or give a configuration file"
        )
    return TrainingConfig(
        name=name,
        stage=(replace(moving[-1], name="joint", final_learning_rate=1e-5, warmup=20),),
        seed=made.seed,
        checkpoint_every=50,
        ema=0.98,
        residual=transforms,
        levels=replace(
            made.levels or LevelsConfig(), count=len(model.levels), draw_power=draw_power
        ),
        entropy=made.entropy,
        evaluation=EvaluationConfig(every=10**6, images=10, final=50),
    )


def _rounded(joint: StageConfig, model: Model) -> StageConfig:
    """Return a last stage, on latents as files have them."""
    # The dead zone comes when latents have settled. Earlier they would grow to escape it, and
    # files with them; never, and what reads the files would not know what is in them.
    offset = min(level.offset for level in model.levels)
    return replace(joint, name="rounded", warmup=0, quantisation="rounded", offset=offset)


def head_only_config(model: Model, config: TrainingConfig) -> TrainingConfig:
    """Return a configuration that trains a task network on what a model's codec decodes.

    Args:
        model: whose codec stays as it is.
        config: of the task network and its stages; what it says of the codec is replaced.

    Raises:
        ConfigError: the model's manifest does not describe its transforms, or a stage of the
            configuration would not work.
    """
    try:
        transforms = transforms_of(model)
    except (KeyError, TypeError, ValueError) as exc:
        raise ConfigError(f"{model.path} does not describe its networks: {exc}") from exc
    # The pictures that it will see are those of files, which each level's own offset rounds.
    config = replace(config, head_only=True, offsets=tuple(level.offset for level in model.levels))
    if isinstance(transforms, ResidualConfig):
        levels = replace(config.levels or LevelsConfig(), count=len(model.levels))
        config = replace(config, residual=transforms, levels=levels)
    else:
        network = NetworkConfig(*transforms)
        config = replace(config, residual=None, levels=None, network=network)
    return check(config, f"a task network for {model.name}")
