"""The configuration of a training run: a TOML file read into frozen dataclasses.

    name = "mine"            the model's name
    seed = 1                 of the split, the augmentation, the noise and the initial weights

    [network]                widths of the paper's transforms, in channels
    [residual]               or: the residual transforms with several quality levels
    [task]                   which task network, and whether it learns
    [[teacher]]              networks that are to see no difference, in place of a task network
    [masks]                  the classes of label maps, where the task is segmentation
    [data]                   the split and how often each folder is drawn
    [entropy]                contexts of the tables
    [evaluation]             how often, on how many images
    [[stage]]                one or more, run in order; each is eq 9 with its own weights

Whatever a file leaves out takes the default below. Unknown keys are refused: a misspelt setting
that is silently ignored costs a day of training.
"""

import dataclasses
import math
import re
import tomllib
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from tactic_codec.entropy import ContextModel
from tactic_codec.errors import ConfigError, DamagedModel
from tactic_codec.model import (
    MAX_LEVELS,
    MAX_SEGMENT_CLASSES,
    PLAIN_OFFSET,
    WHOLE_SIDES,
    Objective,
)
from tactic_codec.networks.codec import Quantisation
from tactic_codec.networks.residual import ResidualConfig

T = TypeVar("T")

Uncoded = Literal["none"]
"""The task network learns alone, on images that are not coded. It then is the teacher."""

FEATURE_NETWORKS = ("efficientnet_lite0", "efficientnet_lite0_pyramid")
"""Task networks whose features can be distilled."""

Precision = Literal["float32", "bfloat16", "auto"]
"""``auto`` is bfloat16 on CUDA and on CPUs with AMX, which multiply matrices of it faster."""


@dataclass(frozen=True)
class NetworkConfig:
    """Widths of the paper's transforms, in channels."""

    latent: int = 64
    analysis: int = 64
    synthesis: tuple[int, int] = (64, 48)


@dataclass(frozen=True)
class LevelsConfig:
    """Quality levels of one network."""

    count: int = 8
    first_gain: float = 0.1  # what level 1 starts to multiply latents by
    last_gain: float = 2.0  # the same of the last level; those between in equal ratios
    draw_power: float = 1.0  # 1: all come as often; 2: half of the images get the lowest quarter


@dataclass(frozen=True)
class TaskConfig:
    """The task network T of equation 3."""

    network: str = "efficientnet_lite0"
    weights: Literal["published", "random"] = "random"
    learn: bool = True  # False keeps it as it starts; gradients still pass through to the codec
    speed: float = 1.0  # its learning rate over the codec's
    last_speed: float | None = None  # likewise of the layer that names the classes; None: as speed
    input_size: int | None = None  # side of the images it reads, in pixels; None: the network's own


@dataclass(frozen=True)
class MasksConfig:
    """The classes of label maps, where the task network segments."""

    labels: tuple[str, ...]  # a name for each of the values 0, 1, …; other values are void
    colours: tuple[str, ...]  # of each class, such as "#804080"


@dataclass(frozen=True)
class DataConfig:
    """How folders of images become training, calibration and test sets."""

    test: float = 0.2  # share of each folder that training never sees and results are given on
    calibration: float = 0.05  # share that training never sees and tables are counted on
    draw: tuple[float, ...] = ()  # how often each folder is drawn; empty: by number of images
    test_shares: tuple[float, ...] = ()  # a test share for each folder, where they differ
    scale: tuple[float, float] = (0.35, 1.0)  # share of the image's area that a crop covers
    colour: float = 0.0  # brightness, contrast and saturation vary by up to this share
    size: int = 224  # side of images in evaluation; of pictures with label maps the longer side
    workers: int = 0  # processes that read images; 0 reads in the training process


@dataclass(frozen=True)
class EntropyConfig:
    """How coded neighbours choose a symbol's table, see `entropy.ContextModel`."""

    own: tuple[int, ...] = ()
    shared: tuple[int, ...] = ()
    linear: bool = False  # at the end contexts are learned instead, see `entropy.LinearContexts`


@dataclass(frozen=True)
class EvaluationConfig:
    """Evaluation on real bitstreams while training."""

    every: int = 500  # steps
    images: int = 200  # test images of each folder
    final: int | None = None  # likewise of each level when training has ended; None: all


@dataclass(frozen=True)
class StageConfig:
    """A stretch of training with one objective: L = L_D + alpha · L_T + beta · L_R (eq 9)."""

    steps: int
    beta: float  # weight of the rate, per bit a pixel, at level 1
    beta_ratio: float = 1.0  # a level's beta over that of the level below it
    alpha: float = 1.0  # weight of the task loss, at level 1; 0 trains without the task network
    alpha_ratio: float = 1.0  # a level's alpha over that of the level below it
    label: float = 1.0  # weight in the task loss of the cross-entropy with the true label
    dice: float = 0.0  # of the Dice loss of masks, the gamma of equation 10
    distill: float = 0.0  # of the divergence from the teacher's prediction
    features: float = 0.0  # of the error of the teacher's features
    name: str = "joint"
    batch: int = 32
    size: int = 224  # side of the training crops, in pixels; a multiple of 8
    learning_rate: float = 1e-3
    warmup: int = 0  # steps in which the learning rate rises to its first value
    final_learning_rate: float | None = None  # reached along a half cosine; None: constant
    pixel_scale: float = 1.0  # L_D is the mean squared error of pixels in [0, pixel_scale]
    quantisation: Quantisation | Uncoded = "noise"  # see TacticNetwork.forward
    offset: float = 0.5  # latents are rounded to nearest, or below 0.5 with a dead zone
    precision: Precision = "float32"  # of convolutions; losses keep float32
    clip: float | None = None  # longest gradient; None: any


@dataclass(frozen=True)
class TeacherConfig:
    """A network whose outputs for picture and decoded picture are to stay alike.

    How it reads pictures: pixels of 0 to ``range``, minus ``mean``, over ``std``. An ONNX file's
    open settings are guessed, see `foreign`; a task network knows its own.
    """

    network: str  # an ONNX file, or the name of a task network with published weights
    weight: float = 1.0  # of its distance in the task loss
    draw: float = 1.0  # how often a batch is shown to it, over how often to the others
    scale: tuple[float, float] = (1.0, 1.0)  # it sees crops at scales drawn from this range
    size: tuple[int, ...] = ()  # side, or height and width, that it reads; 0: any
    outputs: tuple[str, ...] = ()  # that count; any tensors of the graph
    layout: Literal["nchw", "nhwc", None] = None
    order: Literal["rgb", "bgr", None] = None
    range: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True)
class TrainingConfig:
    """A whole run."""

    name: str
    stage: tuple[StageConfig, ...]
    description: str = ""  # a sentence on what the model is for
    seed: int = 1
    checkpoint_every: int = 200  # steps
    head_only: bool = False  # the codec stays as it is; a task network learns on what it decodes
    offsets: tuple[float, ...] = ()  # that codec rounds each level with; its model says which
    ema: float = 0.0  # decay of the moving average of weights that is exported; 0: the weights
    network: NetworkConfig = field(default_factory=NetworkConfig)
    residual: ResidualConfig | None = None
    levels: LevelsConfig | None = None
    task: TaskConfig = field(default_factory=TaskConfig)
    teacher: tuple[TeacherConfig, ...] = ()  # in place of the task network, they make L_T
    masks: MasksConfig | None = None
    data: DataConfig = field(default_factory=DataConfig)
    entropy: EntropyConfig = field(default_factory=EntropyConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    @property
    def steps(self) -> int:
        """Steps of all stages together."""
        return sum(stage.steps for stage in self.stage)

    @property
    def gains(self) -> tuple[float, ...]:
        """What the gains of the quality levels start with."""
        if self.levels is None:
            return (1.0,)
        first, last, count = self.levels.first_gain, self.levels.last_gain, self.levels.count
        return tuple(first * (last / first) ** (i / max(count - 1, 1)) for i in range(count))

    @property
    def segments(self) -> bool:
        """Whether the task is segmentation."""
        return self.masks is not None

    @property
    def objectives(self) -> list[Objective] | None:
        """What the last stage that codes makes small at each level; None where none codes.

        An encoder knows no labels: what the task network says of the original stands for them.
        """
        stage = self._last_coding
        if stage is None:
            return None
        alphas = [stage.alpha * stage.alpha_ratio**level for level in range(len(self.gains))]
        return [
            Objective(
                pixel_scale=stage.pixel_scale,
                alpha=alpha * (stage.label + stage.dice + stage.distill),
                features=alpha * stage.features,
                beta=stage.beta * stage.beta_ratio**level,
            )
            for level, alpha in enumerate(alphas)
        ]

    @property
    def offset(self) -> float:
        """What the last stage that codes rounds with; to nearest where none codes."""
        return self._last_coding.offset if self._last_coding else PLAIN_OFFSET

    @property
    def _last_coding(self) -> StageConfig | None:
        coding = [stage for stage in self.stage if stage.quantisation != "none"]
        return coding[-1] if coding else None

    @property
    def uses_teacher(self) -> bool:
        """Whether any stage distils."""
        return self.uses_task and any(
            stage.alpha * (stage.distill + stage.features) > 0 for stage in self.stage
        )

    @property
    def uses_task(self) -> bool:
        """Whether any stage has the loss of a task network that is built with the codec."""
        return not self.teacher and any(stage.alpha > 0 for stage in self.stage)


def load_config(path: Path) -> TrainingConfig:
    """Read and check a configuration file.

    Raises:
        ConfigError: it cannot be read, is not TOML, has an unknown key, a value of a wrong type
            or one out of range.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot read the configuration {path}: {exc}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{path} is not TOML: {exc}") from exc
    return parse_config(raw, str(path))


def parse_teacher(network: str, settings: Sequence[str], outputs: Sequence[str]) -> TeacherConfig:
    """Read what a command line says of a network.

    Args:
        network: an ONNX file, or the name of a task network.
        settings: ``KEY=VALUE``, each of a field of `TeacherConfig`; lists have commas.
        outputs: names of those that count.

    Raises:
        ConfigError: there is no such setting, or it has no such value.
    """
    hints = typing.get_type_hints(TeacherConfig)
    raw: dict[str, Any] = {"network": network, "outputs": list(outputs)}
    for setting in settings:
        key, _, text = setting.partition("=")
        values = [_value(part) for part in text.split(",")]
        raw[key] = values if typing.get_origin(hints.get(key)) is tuple else values[0]
    return _build(TeacherConfig, raw, network)


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def parse_config(raw: dict[str, Any], where: str = "the configuration") -> TrainingConfig:
    """Check a configuration that is already a dictionary; errors as ``load_config``."""
    config = _build(TrainingConfig, raw, where)
    check(config, where)
    return config


def _build(cls: type[T], raw: Any, where: str) -> T:
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: expected a table of settings, found {raw!r}")
    assert dataclasses.is_dataclass(cls)
    hints = typing.get_type_hints(cls)
    unknown = raw.keys() - hints.keys()
    if unknown:
        raise ConfigError(
            f"{where}: unknown setting {', '.join(sorted(unknown))}; known: {', '.join(hints)}"
        )
    fields = dataclasses.fields(cls)
    required = [
        f.name
        for f in fields
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in raw]
    if missing:
        raise ConfigError(f"{where}: {', '.join(missing)} must be set")
    values = {k: _convert(hints[k], v, f"{where}, {k}") for k, v in raw.items()}
    return typing.cast(T, cls(**values))


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Turn a TOML value into the annotated type, or refuse it."""
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type[Any], hint), value, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union and all(typing.get_origin(a) is Literal for a in arguments):
        origin, arguments = Literal, tuple(v for a in arguments for v in typing.get_args(a))
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where}: expected a list, found {value!r}")
        kinds = (
            [arguments[0]] * len(value)
            if len(arguments) == 2 and arguments[1] is ...
            else arguments
        )
        if len(kinds) != len(value):
            raise ConfigError(f"{where}: expected {len(kinds)} values, found {len(value)}")
        return tuple(
            _convert(kind, v, f"{where} {i + 1}")
            for i, (kind, v) in enumerate(zip(kinds, value, strict=True))
        )
    if origin is typing.Literal:
        if value not in arguments:
            choices = ", ".join(repr(a) for a in arguments)
            raise ConfigError(f"{where}: expected one of {choices}, found {value!r}")
        return value
    if origin is types.UnionType:
        if value is None:  # TOML has no such value, but a run's own record is JSON
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    # bool is an int to isinstance, but seed = true is a mistake.
    if type(value) is not hint:
        raise ConfigError(f"{where}: expected {hint.__name__}, found {value!r}")
    return value


def check(config: TrainingConfig, where: str) -> None:
    """Refuse values that would only fail, or mislead, hours later.

    Raises:
        ConfigError: a value is out of range; the message begins with ``where``.
    """

    def require(condition: bool, message: str) -> None:
        if not condition:
            raise ConfigError(f"{where}: {message}")

    name = config.name
    require(
        name.replace("-", "").replace("_", "").isalnum(),
        f"name must be letters, digits, - and _, found {name!r}",
    )
    require(0 <= config.seed < 2**32, f"seed must be 0 to {2**32 - 1}, found {config.seed}")
    require(len(config.stage) > 0, "at least one [[stage]] is needed")
    require(config.checkpoint_every > 0, "checkpoint_every must be positive")
    require(0 <= config.ema < 1, "ema must be 0 or more and below 1")
    evaluation = (config.evaluation.every, config.evaluation.images)
    require(min(evaluation) > 0, "evaluation every and images must be positive")
    _check_task(config, require)
    for teacher in config.teacher:
        _check_teacher(teacher, require)
    require(
        not config.teacher
        or not (
            config.head_only
            or config.masks
            or any(stage.quantisation == "none" for stage in config.stage)
        ),
        "teachers teach codecs: leave head_only, [masks] and stages without coding out",
    )
    _check_data(config.data, require)
    _check_codec(config, require)
    _check_masks(config, require)
    _check_head_only(config, require)
    try:
        ContextModel(config.entropy.own, config.entropy.shared)
    except DamagedModel as exc:
        raise ConfigError(f"{where}: {exc}") from exc
    for i, stage in enumerate(config.stage, 1):
        _check_stage(stage, config.task.learn, f"{where}, stage {i} ({stage.name})")


_Require = Callable[[bool, str], None]


def _check_task(config: TrainingConfig, require: _Require) -> None:
    task = config.task
    require(task.speed > 0, "task speed must be positive")
    require(task.network != "nanodet_g", "nanodet_g is used as published: it has no training here")
    for name, value in (("last_speed", task.last_speed), ("input_size", task.input_size)):
        require(value is None or value > 0, f"task {name} must be positive")
    if any(stage.features for stage in config.stage):
        require(
            task.input_size is None,
            "features are compared at the size of the crops: leave task input_size out",
        )
        require(
            task.network in FEATURE_NETWORKS,
            f"features are distilled from {' and '.join(FEATURE_NETWORKS)} only",
        )


def _check_teacher(teacher: TeacherConfig, require: _Require) -> None:
    low, high = teacher.scale
    require(0 < low <= high <= 4, "teacher scale must be a range above 0, to 4 at most")
    require(0 < teacher.weight < math.inf, "teacher weight must be positive")
    require(0 < teacher.draw < math.inf, "teacher draw must be positive")
    require(len(teacher.size) <= 2, "teacher size is one side, or height and width")
    require(all(0 <= side <= 4096 for side in teacher.size), "teacher size must be 0 to 4096")
    require(teacher.range is None or 0 < teacher.range < math.inf, "teacher range must be positive")
    for name, values in (("mean", teacher.mean), ("std", teacher.std)):
        require(len(values) in (0, 1, 3), f"teacher {name} has one value, or one for each colour")
        require(all(map(math.isfinite, values)), f"teacher {name} must be finite")
    require(all(value > 0 for value in teacher.std), "teacher std must be positive")


def _check_data(data: DataConfig, require: _Require) -> None:
    require(
        all(
            min(share, data.calibration) > 0 and share + data.calibration < 1
            for share in (data.test, *data.test_shares)
        ),
        "data test and calibration must be shares above 0 that leave some to train on",
    )
    require(all(weight > 0 for weight in data.draw), "data draw must be positive weights")
    require(0 < data.scale[0] <= data.scale[1] <= 1, "data scale must be a range within 0 to 1")
    require(data.size > 0 and data.size % 8 == 0, "data size must be a multiple of 8")
    require(0 <= data.colour < 1, "data colour must be 0 or more and below 1")
    require(data.workers >= 0, "data workers must not be negative")


def _check_codec(config: TrainingConfig, require: _Require) -> None:
    network, residual, levels = config.network, config.residual, config.levels
    widths = (network.latent, network.analysis, *network.synthesis)
    require(min(widths) > 0, "network widths must be positive")
    if residual:
        blocks = (*residual.analysis_blocks, *residual.synthesis_blocks)
        wide = (residual.latent, residual.sixteenth, residual.eighth, residual.quarter)
        require(min(*blocks, *wide) > 0, "residual widths and blocks must be positive")
        require(
            config.data.size % residual.stride == 0,
            f"data size must be a multiple of {residual.stride}",
        )
    if levels:
        require(residual is not None, "levels need the residual transforms: add [residual]")
        require(1 <= levels.count <= MAX_LEVELS, f"levels count must be 1 to {MAX_LEVELS}")
        require(0 < levels.first_gain <= levels.last_gain, "levels gains must be positive and rise")
        require(
            1 <= levels.draw_power < math.inf, "levels draw_power must be at least 1 and finite"
        )


def _check_head_only(config: TrainingConfig, require: _Require) -> None:
    require(
        not config.head_only
        or all(stage.quantisation in ("none", "rounded") for stage in config.stage),
        'with head_only the codec stays as it is: set quantisation = "rounded" or "none"',
    )
    require(not config.head_only or config.task.learn, "with head_only learn = true is needed")
    require(
        len(config.offsets) in (0, len(config.gains))
        and (config.head_only or not config.offsets)
        and all(0 < offset <= PLAIN_OFFSET for offset in config.offsets),
        "offsets are those of each level of a codec that stays as it is: leave them to head_only",
    )


def _check_masks(config: TrainingConfig, require: _Require) -> None:
    masks, task = config.masks, config.task
    if masks is None:
        require(not any(stage.dice for stage in config.stage), "dice needs label maps: add [masks]")
        return
    count = len(masks.labels)
    require(0 < count <= MAX_SEGMENT_CLASSES, f"masks need 1 to {MAX_SEGMENT_CLASSES} labels")
    require(len(set(masks.labels)) == count, "masks labels must differ from each other")
    require(len(masks.colours) == count, f"masks need {count} colours, one for each label")
    for colour in masks.colours:
        require(
            re.fullmatch("#[0-9a-f]{6}", colour) is not None,
            f"masks colours are written such as #804080, found {colour!r}",
        )
    require(task.input_size is None, "with [masks] data size is what the task network reads")
    require(task.learn, "the published weights know no label maps: set learn = true under [task]")
    for size in (config.data.size, *(stage.size for stage in config.stage)):
        require(
            size % WHOLE_SIDES == 0,
            f"with [masks] sizes are multiples of {WHOLE_SIDES}, found {size}",
        )


def _check_stage(stage: StageConfig, learn: bool, where: str) -> None:
    positive = {
        "steps": stage.steps,
        "batch": stage.batch,
        "size": stage.size,
        "learning_rate": stage.learning_rate,
        "pixel_scale": stage.pixel_scale,
        "offset": stage.offset,
        "alpha_ratio": stage.alpha_ratio,
        "beta_ratio": stage.beta_ratio,
        "clip": 1.0 if stage.clip is None else stage.clip,
    }
    not_negative = {
        "alpha": stage.alpha,
        "beta": stage.beta,
        "label": stage.label,
        "dice": stage.dice,
        "distill": stage.distill,
        "features": stage.features,
        "warmup": stage.warmup,
        "final_learning_rate": stage.final_learning_rate or 0.0,
    }
    for name, value in positive.items():
        if not 0 < value < math.inf:
            raise ConfigError(f"{where}: {name} must be positive, found {value}")
    for name, value in not_negative.items():
        if not 0 <= value < math.inf:
            raise ConfigError(f"{where}: {name} must not be negative, found {value}")
    if stage.offset > 0.5:
        raise ConfigError(f"{where}: offset must be at most 0.5, found {stage.offset}")
    if stage.quantisation == "none" and not (learn and stage.alpha > 0):
        raise ConfigError(
            f"{where}: without coding only the task network can learn: set alpha above 0, and "
            "learn = true under [task]"
        )
    if stage.size % 8:
        raise ConfigError(f"{where}: size must be a multiple of 8, found {stage.size}")
