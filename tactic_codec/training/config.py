"""The configuration of a training run: a TOML file read into frozen dataclasses.

    extends = "other.toml"   the configuration that has what this one does not name
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

A field's type says what it may be, its rules which range it has; what several fields have to agree
on stands in `agreements`. Whatever a file leaves out takes the default below. Unknown keys are
refused: a misspelt setting that is silently ignored costs a day of training.
"""

import dataclasses
import math
import re
import tomllib
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np

from tactic_codec.container import MAX_LEVEL
from tactic_codec.entropy import ContextModel
from tactic_codec.errors import ConfigError, DamagedModel
from tactic_codec.model import MAX_SEGMENT_CLASSES, PLAIN_OFFSET, WHOLE_SIDES, Objective
from tactic_codec.networks.codec import Quantisation
from tactic_codec.networks.residual import ResidualConfig

Uncoded = Literal["none"]
"""The task network learns alone, on images that are not coded. It then is the teacher."""

FEATURE_NETWORKS = ("efficientnet_lite0", "efficientnet_lite0_pyramid")
"""Task networks whose features can be distilled."""

Precision = Literal["float32", "bfloat16", "auto"]
"""``auto`` is bfloat16 on CUDA and on CPUs with AMX, which multiply matrices of it faster."""


class Rule(NamedTuple):
    """What holds for a field's value, and how to say so."""

    holds: Callable[[Any], bool]
    said: str


POSITIVE = Rule(lambda value: 0 < value < math.inf, "must be positive")
NOT_NEGATIVE = Rule(lambda value: 0 <= value < math.inf, "must not be negative")
BY_EIGHT = Rule(lambda value: value % 8 == 0, "must be a multiple of 8")
BELOW_ONE = Rule(lambda value: 0 <= value < 1, "must be 0 or more and below 1")
AN_OFFSET = Rule(lambda value: value <= PLAIN_OFFSET, f"must be at most {PLAIN_OFFSET}")
FROM_ONE = Rule(lambda value: 1 <= value < math.inf, "must be at least 1 and finite")
A_RANGE = Rule(lambda ends: 0 < ends[0] <= ends[1] <= 1, "must be a range within 0 to 1")
A_SEED = Rule(lambda value: 0 <= value < 2**32, f"must be 0 to {2**32 - 1}")
A_SCALE = Rule(lambda ends: 0 < ends[0] <= ends[1] <= 4, "must be a range above 0, to 4 at most")
A_SIDE = Rule(lambda side: 0 <= side <= 4096, "must be 0 to 4096")
TWO = Rule(lambda sides: len(sides) <= 2, "is one side, or height and width")
COLOURS = Rule(lambda values: len(values) in (0, 1, 3), "has one value, or one for each colour")
FINITE = Rule(math.isfinite, "must be finite")
SOME = Rule(lambda values: len(values) > 0, "needs at least one: write [[stage]]")
A_LEVEL = Rule(lambda count: 1 <= count <= MAX_LEVEL, f"must be 1 to {MAX_LEVEL}")
A_COLOUR = Rule(lambda text: bool(re.fullmatch("#[0-9a-f]{6}", text)), "must be as #804080")
A_NAME = Rule(
    lambda name: name.replace("-", "").replace("_", "").isalnum(),
    "must be letters, digits, - and _",
)

Count = Annotated[int, POSITIVE]
Positive = Annotated[float, POSITIVE]
Weight = Annotated[float, NOT_NEGATIVE]
Share = Annotated[float, BELOW_ONE]
Side = Annotated[int, POSITIVE, BY_EIGHT]
Offset = Annotated[float, POSITIVE, AN_OFFSET]


@dataclass(frozen=True)
class NetworkConfig:
    """Widths of the paper's transforms, in channels."""

    latent: Count = 64
    analysis: Count = 64
    synthesis: tuple[Count, Count] = (64, 48)


@dataclass(frozen=True)
class LevelsConfig:
    """Quality levels of one network."""

    count: Annotated[int, A_LEVEL] = 8
    first_gain: Positive = 0.1  # what level 1 starts to multiply latents by
    last_gain: Positive = 2.0  # the same of the last level; those between in equal ratios
    # 1: all come as often; 2: half of the images get the lowest quarter.
    draw_power: Annotated[float, FROM_ONE] = 1.0


@dataclass(frozen=True)
class TaskConfig:
    """The task network T of equation 3."""

    network: str = "efficientnet_lite0"
    weights: Literal["published", "random"] = "random"
    learn: bool = True  # False keeps it as it starts; gradients still pass through to the codec
    speed: Positive = 1.0  # its learning rate over the codec's
    last_speed: Positive | None = None  # likewise of the layer that names the classes; None: speed
    input_size: Count | None = None  # side of the images it reads, in pixels; None: its own


@dataclass(frozen=True)
class MasksConfig:
    """The classes of label maps, where the task network segments."""

    labels: tuple[str, ...]  # a name for each of the values 0, 1, …; other values are void
    colours: tuple[Annotated[str, A_COLOUR], ...]  # of each class, such as "#804080"


@dataclass(frozen=True)
class DataConfig:
    """How folders of images become training, calibration and test sets."""

    test: float = 0.2  # share of each folder that training never sees and results are given on
    calibration: float = 0.05  # share that training never sees and tables are counted on
    draw: tuple[Positive, ...] = ()  # how often each folder is drawn; empty: by number of images
    test_shares: tuple[float, ...] = ()  # a test share for each folder, where they differ
    scale: Annotated[tuple[float, float], A_RANGE] = (0.35, 1.0)  # of the area that a crop covers
    zoom: Annotated[tuple[float, float], A_RANGE] | None = None  # or: scales of crops, to 1
    colour: Share = 0.0  # brightness, contrast and saturation vary by up to this share
    size: Side = 224  # side of images in evaluation; of pictures with label maps the longer side
    workers: Annotated[int, NOT_NEGATIVE] = 0  # processes that read images; 0: the training one


@dataclass(frozen=True)
class EntropyConfig:
    """How coded neighbours choose a symbol's table, see `entropy.ContextModel`."""

    own: tuple[int, ...] = ()
    shared: tuple[int, ...] = ()
    linear: bool = False  # learn contexts at the end, see `entropy.LearnedContexts`; once linear

    def __post_init__(self) -> None:
        _ = self.contexts

    @property
    def contexts(self) -> ContextModel:
        """The contexts of ``own`` and ``shared``."""
        return ContextModel(self.own, self.shared)


@dataclass(frozen=True)
class EvaluationConfig:
    """Evaluation on real bitstreams while training."""

    every: Count = 500  # steps
    images: Count = 200  # test images of each folder
    final: int | None = None  # likewise of each level when training has ended; None: all


@dataclass(frozen=True)
class StageConfig:
    """A stretch of training with one objective: L = L_D + alpha · L_T + beta · L_R (eq 9)."""

    steps: Count
    beta: Weight  # weight of the rate, per bit a pixel, at level 1
    beta_ratio: Positive = 1.0  # a level's beta over that of the level below it
    alpha: Weight = 1.0  # of the task loss, at level 1; 0 trains without the task network
    alpha_ratio: Positive = 1.0  # a level's alpha over that of the level below it
    label: Weight = 1.0  # weight in the task loss of the cross-entropy with the true label
    dice: Weight = 0.0  # of the Dice loss of masks, the gamma of equation 10
    distill: Weight = 0.0  # of the divergence from the teacher's prediction
    features: Weight = 0.0  # of the error of the teacher's features
    name: str = "joint"
    batch: Count = 32
    size: Side = 224  # side of the training crops, in pixels
    learning_rate: Positive = 1e-3
    warmup: Annotated[int, NOT_NEGATIVE] = 0  # steps in which the learning rate rises to that
    final_learning_rate: Weight | None = None  # reached along a half cosine; None: constant
    pixel_scale: Positive = 1.0  # L_D is the mean squared error of pixels in [0, pixel_scale]
    quantisation: Quantisation | Uncoded = "noise"  # see TacticNetwork.forward
    offset: Offset = 0.5  # latents are rounded to nearest, or below 0.5 with a dead zone
    precision: Precision = "float32"  # of convolutions; losses keep float32
    clip: Positive | None = None  # longest gradient; None: any
    frozen: bool = False  # the codec stays; the task network learns on what it decodes


@dataclass(frozen=True)
class TeacherConfig:
    """A network whose outputs for picture and decoded picture are to stay alike.

    How it reads pictures: pixels of 0 to ``range``, minus ``mean``, over ``std``. An ONNX file's
    open settings are guessed, see `foreign`; a task network knows its own.
    """

    network: str  # an ONNX file, or the name of a task network with published weights
    weight: Positive = 1.0  # of its distance in the task loss
    draw: Positive = 1.0  # how often a batch is shown to it, over how often to the others
    scale: Annotated[tuple[float, float], A_SCALE] = (1.0, 1.0)  # that it sees crops at
    size: Annotated[tuple[Annotated[int, A_SIDE], ...], TWO] = ()  # that it reads; 0: any
    outputs: tuple[str, ...] = ()  # that count; any tensors of the graph
    layout: Literal["nchw", "nhwc", None] = None
    order: Literal["rgb", "bgr", None] = None
    range: Positive | None = None
    mean: Annotated[tuple[Annotated[float, FINITE], ...], COLOURS] = ()
    std: Annotated[tuple[Positive, ...], COLOURS] = ()


@dataclass(frozen=True)
class TrainingConfig:
    """A whole run."""

    name: Annotated[str, A_NAME]
    stage: Annotated[tuple[StageConfig, ...], SOME]
    description: str = ""  # a sentence on what the model is for
    seed: Annotated[int, A_SEED] = 1
    checkpoint_every: Count = 200  # steps
    head_only: bool = False  # the codec stays as it is; a task network learns on what it decodes
    offsets: tuple[Offset, ...] = ()  # that codec rounds each level with; its model says which
    ema: Share = 0.0  # decay of the moving average of weights that is exported; 0: the weights
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
        """What the last stage that trains the codec makes small at each level; None without one.

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
        """What the last stage that trains the codec rounds with; to nearest where none does."""
        return self._last_coding.offset if self._last_coding else PLAIN_OFFSET

    @property
    def _last_coding(self) -> StageConfig | None:
        coding = [s for s in self.stage if s.quantisation != "none" and not s.frozen]
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


def agreements(c: TrainingConfig) -> Iterator[tuple[bool, str]]:
    """Yield what fields have to agree on: what would only fail, or mislead, hours later."""
    data, task, stages = c.data, c.task, c.stage
    shares = [(share, data.calibration) for share in (data.test, *data.test_shares)]
    yield task.network != "nanodet_g", "nanodet_g is used as published: it has no training here"
    yield (
        all(min(pair) > 0 and sum(pair) < 1 for pair in shares),
        "data test and calibration must be shares above 0 that leave some to train on",
    )
    if any(stage.features for stage in stages):
        fitting = task.network in FEATURE_NETWORKS
        yield fitting, f"features are distilled from {' and '.join(FEATURE_NETWORKS)} only"
        own = task.input_size is None
        yield own, "features are compared at the size of the crops: leave task input_size out"
    if c.residual:
        widths = [np.min(value) for value in vars(c.residual).values()]
        yield min(widths) > 0, "residual widths and blocks must be positive"
        stride = c.residual.stride
        yield data.size % stride == 0, f"data size must be a multiple of {stride}"
    if c.levels:
        yield c.residual is not None, "levels need the residual transforms: add [residual]"
        yield c.levels.first_gain <= c.levels.last_gain, "levels gains must rise"
    if c.masks:
        labels, count = set(c.masks.labels), len(c.masks.labels)
        most = MAX_SEGMENT_CLASSES
        yield 0 < count <= most, f"masks need 1 to {most} labels"
        yield len(labels) == count, "masks labels must differ from each other"
        yield len(c.masks.colours) == count, f"masks need {count} colours, one for each label"
        yield task.input_size is None, "with [masks] data size is what the task network reads"
        yield data.zoom is None, "with [masks] leave data zoom out"
        yield task.learn, "the published weights know no label maps: set learn = true under [task]"
        even = not any(size % WHOLE_SIDES for size in (data.size, *(s.size for s in stages)))
        yield even, f"with [masks] sizes are multiples of {WHOLE_SIDES}"
    else:
        yield not any(s.dice for s in stages), "dice needs label maps: add [masks]"
    if c.head_only:
        kept = all(stage.quantisation in ("none", "rounded") for stage in stages)
        yield kept, 'with head_only the codec stays: set quantisation = "rounded" or "none"'
        yield task.learn, "with head_only learn = true is needed"
    if c.teacher:
        coded = all(stage.quantisation != "none" for stage in stages)
        yield (
            coded and not c.head_only and not c.masks,
            "teachers teach codecs: leave head_only, [masks] and stages without coding out",
        )
    yield (
        not c.offsets or (c.head_only and len(c.offsets) == len(c.gains)),
        "offsets are those of each level of a codec that stays as it is: leave them to head_only",
    )
    for stage in stages:
        yield (
            (stage.quantisation != "none" and not stage.frozen)
            or (task.learn and stage.alpha > 0 and not c.teacher),
            f"stage {stage.name}: without coding, or with a frozen codec, only the task network "
            "can learn: set alpha above 0 and learn = true under [task], and leave teachers out",
        )


def load_config(path: Path) -> TrainingConfig:
    """Read and check a configuration file.

    Raises:
        ConfigError: it cannot be read, is not TOML, has an unknown key, a value of a wrong type
            or one out of range, or extends itself.
    """
    return parse_config(_settings(path), str(path))


def _settings(path: Path, extending: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return the settings of a file and of those that it extends, its own before theirs."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        path = path.resolve()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot read the configuration {path}: {exc}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{path} is not TOML: {exc}") from exc
    other = raw.pop("extends", None)
    if other is None:
        return raw
    if not isinstance(other, str):
        raise ConfigError(f"{path}, extends: expected the path of a file, found {other!r}")
    if path in extending:
        raise ConfigError(f"{path} extends itself")
    return _settings(path.parent / other, (*extending, path)) | raw


READING = ("size", "layout", "order", "range", "mean", "std")
"""Fields of `TeacherConfig` that say how a network reads pictures."""


def parse_teacher(network: str, settings: Sequence[str], outputs: Sequence[str]) -> TeacherConfig:
    """Read what a command line says of a network.

    Args:
        network: an ONNX file, or the name of a task network.
        settings: ``KEY=VALUE``, of `READING`; lists have commas.
        outputs: names of those that count.

    Raises:
        ConfigError: there is no such setting, or it has no such value.
    """
    hints = typing.get_type_hints(TeacherConfig)
    raw: dict[str, Any] = {"network": network, "outputs": list(outputs)}
    for setting in settings:
        key, _, text = setting.partition("=")
        if key not in READING:
            known = ", ".join(READING)
            raise ConfigError(f"{network}: unknown setting {key}; known: {known}")
        values = [_value(part) for part in text.split(",")]
        raw[key] = values if typing.get_origin(hints.get(key)) is tuple else values[0]
    found: TeacherConfig = _converted(TeacherConfig, raw, network)
    return found


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def parse_config(raw: dict[str, Any], where: str = "the configuration") -> TrainingConfig:
    """Check a configuration that is already a dictionary; errors as ``load_config``."""
    config: TrainingConfig = _converted(TrainingConfig, raw, where)
    for agreed, said in agreements(config):
        if not agreed:
            raise ConfigError(f"{where}: {said}")
    return config


def check(config: TrainingConfig, where: str) -> TrainingConfig:
    """Return a configuration that was put together, checked as ``load_config`` does."""
    return parse_config(asdict(config), where)


def _converted(hint: Any, value: Any, where: str) -> Any:
    """Turn a value of TOML, or of a run's own JSON, into the annotated type, or refuse it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        value = _converted(arguments[0], value, where)
        for rule in arguments[1:]:
            if not rule.holds(value):
                raise ConfigError(f"{where}: {rule.said}, found {value!r}")
        return value
    if dataclasses.is_dataclass(hint):
        return _table(hint, value, where)
    if origin in (typing.Union, UnionType):
        if value is None and type(None) in arguments:  # TOML has no such value, but JSON has
            return None
        known = [argument for argument in arguments if argument is not type(None)]
        if len(known) == 1:
            return _converted(known[0], value, where)
        origin, arguments = Literal, tuple(v for a in known for v in typing.get_args(a))
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: expected a list, found {value!r}")
        kinds = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        if len(kinds) != len(value):
            raise ConfigError(f"{where}: expected {len(kinds)} values, found {len(value)}")
        names = [f" ({v['name']})" if isinstance(v, dict) and "name" in v else "" for v in value]
        return tuple(
            _converted(kind, v, f"{where} {i}{name}")
            for i, (kind, v, name) in enumerate(zip(kinds, value, names, strict=True), 1)
        )
    if origin is Literal:
        if value not in arguments:
            choices = ", ".join(map(repr, arguments))
            raise ConfigError(f"{where}: expected one of {choices}, found {value!r}")
        return value
    if hint is float and type(value) is int:
        return float(value)
    # bool is an int to isinstance, but seed = true is a mistake.
    if type(value) is not hint:
        raise ConfigError(f"{where}: expected {hint.__name__}, found {value!r}")
    return value


def _table(cls: Any, raw: Any, where: str) -> Any:
    """Make a dataclass of a table of settings."""
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: expected a table of settings, found {raw!r}")
    hints = typing.get_type_hints(cls, include_extras=True)
    unknown = raw.keys() - hints.keys()
    if unknown:
        raise ConfigError(
            f"{where}: unknown setting {', '.join(sorted(unknown))}; known: {', '.join(hints)}"
        )
    absent = dataclasses.MISSING
    required = [f for f in dataclasses.fields(cls) if f.default is f.default_factory is absent]
    missing = [f.name for f in required if f.name not in raw]
    if missing:
        raise ConfigError(f"{where}: {', '.join(missing)} must be set")
    try:
        return cls(**{k: _converted(hints[k], v, f"{where}, {k}") for k, v in raw.items()})
    except DamagedModel as exc:  # thresholds of contexts
        raise ConfigError(f"{where}: {exc}") from exc
