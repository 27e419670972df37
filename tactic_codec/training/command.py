"""A whole training run: scan, train, export, evaluate; and export of a run that exists.

runs/<name>/run.json        the configuration and the folders, so that export needs no others, and a
                            digest of which images they held
runs/<name>/checkpoint.pt   see `tactic_codec.training.loop`
runs/<name>/log.jsonl
runs/<name>/learning.png    the log as a picture
runs/<name>/candidate/      the model folder of the newest evaluation, where it gets its figures
"""

import json
import platform
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tactic_codec.entropy import ContextModel
from tactic_codec.errors import BackendUnavailable, ConfigError
from tactic_codec.model import Model, find
from tactic_codec.networks.codec import TacticNetwork
from tactic_codec.networks.folder import load_start
from tactic_codec.networks.heads import KINDS, LAST_LAYER, build_head
from tactic_codec.picture import Pixels
from tactic_codec.training import parallel
from tactic_codec.training.calibration import calibration, learning
from tactic_codec.training.checkpoint import CHECKPOINT, LOG
from tactic_codec.training.config import (
    TeacherConfig,
    TrainingConfig,
    check,
    load_config,
    parse_config,
)
from tactic_codec.training.curve import draw_curve
from tactic_codec.training.data import Crops, ImageFolders, scan
from tactic_codec.training.described import (
    describe_part,
    documents_of,
    is_imagenet,
    labels_of,
    names_of,
)
from tactic_codec.training.export import add_head, export, levels_of
from tactic_codec.training.figures import figures_of
from tactic_codec.training.loop import Step, load_trained, train
from tactic_codec.training.manifest import add_metrics
from tactic_codec.training.parts import HeadExport
from tactic_codec.training.placing import check_place, install
from tactic_codec.training.specialise import head_only_config, pupil_config, specialist_config
from tactic_codec.training.tasks import task_of
from tactic_codec.training.teacher import identity
from tactic_codec.training.teacher import load as load_teachers

RUN = "run.json"
CURVE = "learning.png"
CANDIDATE = "candidate"


Say = Callable[[str], None]
Progress = Callable[[Step, int], None]


def train_command(
    config: Path | TrainingConfig | None,
    folders: Sequence[Path],
    out: Path,
    *,
    unlabelled: Sequence[Path] = (),
    tests: Sequence[Path] = (),
    head_only: bool = False,
    start: str | Path | None = None,
    teachers: Sequence[TeacherConfig] = (),
    run: Path | None = None,
    device: str = "cpu",
    threads: int | None = None,
    command: str = "",
    force: bool = False,
    progress: Progress | None = None,
    say: Say = print,
) -> Model | None:
    """Train a model from a configuration and folders, or go on with an interrupted run.

    Args:
        config: a configuration or the TOML file of one, see `tactic_codec.training.config`; it may
            be left out where there is a model to start from.
        folders: each holds one folder of images a class, or images and label maps where the
            configuration has [masks].
        unlabelled: likewise, where the folders name no classes.
        tests: laid out as the folders; tested on and nothing else, in place of a share of them.
        head_only: keep the codec of ``start`` and add a task network to it.
        out: the model folder to make.
        start: name or folder of the model whose weights a new run starts from.
        teachers: networks that are to see no difference, in place of the configuration's. Then
            folders hold pictures at any depth, and nothing is asked of their names.
        run: folder of checkpoint and log; ``runs/<name>`` by default.
        device: ``cpu`` or ``cuda``.
        threads: of torch; its own choice by default.
        command: the command line, for the manifest.
        force: replace ``out`` if it is there.
        progress: called with each step and the number of all steps.
        say: receives lines for people.

    Returns:
        The model; None in all processes but the first where ``torchrun`` started several.

    Raises:
        ConfigError: the configuration cannot be run, a folder is given twice, or the run folder
            belongs to another configuration, another start or other images.
        DataError: the folders hold no images in class folders.
        OutputExists: ``out`` is there, or is no model; found out before training, not after.
        UnknownModel: ``start`` is no model.
        DamagedModel: its files contradict its manifest or the rules.
        BackendUnavailable: the package that carries a task network's published weights is missing.
        UnsupportedNetwork: a teacher cannot teach, see `teacher.load`.
        TacError: what was trained cannot be exported, see `training.export.export`.
    """
    model = None if start is None else find(start)
    config = _config(config, model, out.name, head_only, teachers)
    if config.teacher:
        folders, unlabelled = (), (*folders, *unlabelled)
    check_place(out, overwrite=force)
    if threads is not None:
        torch.set_num_threads(threads)
    parallel.join(device)
    origin: dict[str, Any] = {
        "command": command,
        "start": None if model is None else _identify(model),
    }
    if config.teacher:
        origin["teachers"] = [identity(teacher) for teacher in config.teacher]
    run = run or default_run(config.name)
    _check_folders(config, [*folders, *unlabelled], tests)
    # Of what the start knows, what it never saw is tested on: a model that goes on from it is to be
    # judged on images that neither of them was trained on.
    kept_out = sorted((model and model.held_out()) or ())
    data = _scan(config, folders, unlabelled, tests, kept_out, say)
    _check_task(config, data)
    run.mkdir(parents=True, exist_ok=True)
    _check_run(run, origin, data)
    described = {
        "config": asdict(config),
        "folders": [str(folder.resolve()) for folder in folders],
        "unlabelled": [str(folder.resolve()) for folder in unlabelled],
        "tests": [str(folder.resolve()) for folder in tests],
        "kept_out": kept_out,
        "data": data.digest,
        "start": None if model is None else str(model.path.resolve()),
        "origin": origin,
    }

    kept = model if config.head_only else None
    taught = load_teachers(config.teacher, *_shown(config, data), say) if config.teacher else None

    def assess(network: TacticNetwork) -> dict[str, Any]:
        candidate = _export(config, data, network, run, origin, codec=kept)
        return figures_of(config, data, candidate, limit=config.evaluation.images, say=say)

    first = parallel.share().first
    network = train(
        config,
        data,
        run,
        device=device,
        start=_start(model, config, data),
        teachers=taught,
        on_start=lambda: _write_json(run / RUN, described),
        on_step=(lambda step: progress(step, config.steps)) if progress else None,
        evaluate=assess,
    )
    parallel.leave()
    if not first:  # of several processes one writes the folder
        return None
    _draw_curve(run, say)
    return _finish(config, data, network, out, run, origin, codec=kept, force=force, say=say)


def _config(
    given: Path | TrainingConfig | None,
    model: Model | None,
    name: str,
    head_only: bool,
    teachers: Sequence[TeacherConfig],
) -> TrainingConfig:
    """Return what is to be trained, from what was given and the model that it starts from.

    Raises:
        ConfigError: nothing was given, or a task network alone without a model to add it to.
    """
    if isinstance(given, Path):
        config = load_config(given)
    elif given is not None:
        config = given
    elif model is not None and teachers:
        config = pupil_config(model, name, teachers)
    elif model is not None:
        config = specialist_config(model, name)
    else:
        raise ConfigError("give a configuration file, a model to start from, or both")
    if teachers and config.teacher != tuple(teachers):
        config = replace(config, teacher=tuple(teachers))
        check(config, "the configuration with these teachers")
    if not (head_only or config.head_only):
        return config
    if model is None:
        raise ConfigError("a task network is added to a model: name it with --from")
    return head_only_config(model, config)


SHOWN, FAR = 32, 1 << 40
"""Crops over which the spread of a teacher's outputs is taken, and the first one's number, which no
run of steps reaches."""


def _shown(config: TrainingConfig, data: ImageFolders) -> tuple[Pixels, Tensor]:
    """Return a crop as training shows them, uint8 [H, W, 3], and some, uint8 [B, 3, H, W]."""
    crops = Crops(data.parts, config.data, config.stage[0].size, config.seed)
    shown = torch.stack([crops[FAR + number][0] for number in range(SHOWN)])
    return shown[0].permute(1, 2, 0).numpy(), shown


def _check_run(run: Path, origin: Mapping[str, Any], data: ImageFolders) -> None:
    """Refuse to go on with a run that started from another model, or learned from other images."""
    if not (run / CHECKPOINT).exists() or not (run / RUN).exists():
        return
    try:
        described = json.loads((run / RUN).read_text(encoding="utf-8"))
        before = described["origin"]["start"]
        teachers = described["origin"].get("teachers")
    except (ValueError, KeyError, TypeError) as exc:
        raise ConfigError(f"{run / RUN} is damaged; give another --run folder") from exc
    if before != origin["start"]:
        raise ConfigError(
            f"{run} holds a run that started from {before or 'no model'}, not from "
            f"{origin['start'] or 'none'}; give another --run folder, or the same --from"
        )
    if teachers != origin.get("teachers"):
        raise ConfigError(
            f"{run} holds a run with other teachers: give the files that it began with, or train "
            "into another --run folder"
        )
    _check_images(run, described, data)


def _check_images(run: Path, described: Mapping[str, Any], data: ImageFolders) -> None:
    """Refuse images that a run would now test on and was trained on, or the other way round."""
    # The first runs did not say which images they had.
    if described.get("data", data.digest) != data.digest:
        raise ConfigError(
            f"{run} holds a run of other images: give the same folders with the files that they "
            "had, or train into another --run folder"
        )


def default_run(name: str) -> Path:
    """Return where the checkpoint and the log of a model go if nobody says otherwise."""
    return Path("runs") / name


def _draw_curve(run: Path, say: Say) -> None:
    """Leave a picture of the log in the run's folder, where there is something to draw with."""
    try:
        (run / CURVE).write_bytes(draw_curve(run / LOG))
    except BackendUnavailable as exc:
        say(str(exc))


def export_command(run: Path, out: Path, *, force: bool = False, say: Say = print) -> Model:
    """Write the model folder of a run as it stands at its newest checkpoint, and evaluate it.

    Raises:
        ConfigError: the folder holds no run, or no checkpoint yet, or the run's image folders hold
            other images than it was trained with.
        DataError: the run's image folders are gone.
        OutputExists: ``out`` is there and ``force`` is false, or it is no model.
        UnknownModel, DamagedModel: the model that a task network is added to is gone or damaged.
    """
    try:
        described = json.loads((run / RUN).read_text(encoding="utf-8"))
        raw, origin, kept_out = (described[key] for key in ("config", "origin", "kept_out"))
        start = described.get("start")  # the first runs did not say; none of them added a head
        folders, unlabelled, tests = (
            [Path(folder) for folder in described.get(key, [])]
            for key in ("folders", "unlabelled", "tests")
        )
    except (OSError, ValueError, KeyError, TypeError) as exc:
        reason = f"{type(exc).__name__} {exc}"
        raise ConfigError(f"{run} holds no training run: {reason}; train it first") from exc
    check_place(out, overwrite=force)
    config = parse_config(raw, str(run / RUN))
    kept = None
    if config.head_only:
        kept = find(start)
        if _identify(kept) != origin["start"]:
            raise ConfigError(
                f"{start} is not the model that the head was trained for: expected "
                f"{origin['start']}, found {_identify(kept)}"
            )
    data = _scan(config, folders, unlabelled, tests, kept_out, say)
    network = load_trained(config, len(data.classes), run)
    _check_images(run, described, data)
    return _finish(config, data, network, out, run, origin, codec=kept, force=force, say=say)


def _identify(model: Model) -> dict[str, str]:
    return {"name": model.name, "fingerprint": model.fingerprint.hex()}


def _start(model: Model | None, config: TrainingConfig, data: ImageFolders) -> dict[str, Tensor]:
    """Return the weights of a model, without what its task network knows of other classes."""
    if model is None:
        return {}
    task = KINDS[config.task.network].task
    start = load_start(model, task)
    if task in model.heads and model.heads[task].classes != data.classes:
        start = {k: v for k, v in start.items() if not k.startswith(LAST_LAYER)}
    return start


def _scan(
    config: TrainingConfig,
    folders: Sequence[Path],
    unlabelled: Sequence[Path],
    tests: Sequence[Path],
    kept_out: Collection[str],
    say: Say,
) -> ImageFolders:
    if config.masks and unlabelled:
        raise ConfigError("a segmentation learns from label maps; leave --unlabelled out")
    data = scan(
        folders,
        config.data,
        config.seed,
        task=task_of(config),
        unlabelled=unlabelled,
        tests=tests,
        classes=config.masks.labels if config.masks else None,
        kept_out=kept_out,
    )
    for path, reason in data.skipped:
        say(f"skipped {path}: {reason}")
    for part in data.parts:
        counts = f"{len(part.train)} to train, {len(part.calibration)} to calibrate"
        say(f"{part.folder}: {counts}, {len(part.test)} to test")
    if data.skipped:
        say(f"{len(data.skipped)} files skipped")
    return data


def _check_folders(config: TrainingConfig, folders: Sequence[Path], tests: Sequence[Path]) -> None:
    """Refuse, before every image is read, what does not depend on them."""
    for folder in tests:
        if folder.resolve() in [other.resolve() for other in folders]:
            raise ConfigError(f"{folder} is to be trained on and tested on; give two folders")
    known: set[Path] = set()
    for folder in (*folders, *tests):
        if folder.resolve() in known:
            raise ConfigError(f"{folder} is given twice; give each folder once, to one option")
        known.add(folder.resolve())
    if config.task.network not in KINDS:
        raise ConfigError(
            f"no task network is called {config.task.network!r}; there are: {', '.join(KINDS)}"
        )
    if (KINDS[config.task.network].task == "segment") != config.segments:
        raise ConfigError(
            f"{config.task.network} {'does not segment' if config.segments else 'segments'}: "
            f"{'leave [masks] out' if config.segments else 'describe the classes in [masks]'}, or "
            "choose another network under [task]"
        )
    given = {"draw": config.data.draw, "test_shares": config.data.test_shares}
    for name, values in given.items():
        if values and len(values) != len(folders):
            raise ConfigError(
                f"data {name} has {len(values)} values for {len(folders)} folders; "
                "give one for each --data and --unlabelled"
            )


def _check_task(config: TrainingConfig, data: ImageFolders) -> None:
    """Refuse a task network that can neither learn nor know the classes."""
    knows = config.task.weights == "published" and is_imagenet(data.classes)
    if config.uses_task and not config.task.learn and not knows:
        raise ConfigError(
            "the task network is not to learn, but starts without knowing these classes: "
            "set learn = true"
        )


def _finish(
    config: TrainingConfig,
    data: ImageFolders,
    network: TacticNetwork,
    out: Path,
    run: Path,
    origin: Mapping[str, Any],
    *,
    codec: Model | None,
    force: bool,
    say: Say,
) -> Model:
    # The model goes to its place when its figures are known: where it is, nothing is missing, and
    # a run that was killed before goes on by the same command.
    model = _export(config, data, network, run, origin, codec=codec)
    figures = figures_of(config, data, model, limit=config.evaluation.final, say=say)
    add_metrics(model.path, figures)
    return install(model, out, overwrite=force)


def _export(
    config: TrainingConfig,
    data: ImageFolders,
    network: TacticNetwork,
    run: Path,
    origin: Mapping[str, Any],
    *,
    codec: Model | None,
) -> Model:
    """Write the candidate; with the codec of a model that keeps it, only the head is new."""
    out = run / CANDIDATE
    pictures = calibration(config, data)
    head = _head(config, data, network)
    training = {
        "config": asdict(config),
        "seed": config.seed,
        **origin,
        "data": [describe_part(*pair) for pair in zip(data.parts, names_of(data), strict=True)],
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
    documents = documents_of(data, run)
    if codec:
        assert head is not None
        # Which images the codec never saw is the older list; the head's own stands beside it.
        documents = {f"{head.task}-{name}": text for name, text in documents.items()}
        return add_head(
            codec,
            out,
            name=config.name,
            head=head,
            training=training,
            example=pictures[0],
            documents=documents,
            overwrite=True,
        )
    return export(
        network,
        out,
        name=config.name,
        description=config.description,
        levels=levels_of(network),
        calibration=pictures,
        contexts=ContextModel(config.entropy.own, config.entropy.shared),
        learning=learning(config, data) if config.entropy.linear else (),
        head=head,
        objectives=config.objectives,
        offset=config.offset,
        training=training,
        documents=documents,
        overwrite=True,
    )


def _head(config: TrainingConfig, data: ImageFolders, network: TacticNetwork) -> HeadExport | None:
    module = network.head
    if module is None:
        # Without a task loss the published network still says what the pictures are worth to it.
        if config.task.weights != "published" or not is_imagenet(data.classes):
            return None
        module = build_head(config.task.network, len(data.classes), published=True)
    kind = KINDS[config.task.network]
    return HeadExport(
        config.task.network,
        module,
        config.task.input_size or kind.input_size or config.data.size,
        labels=data.classes if config.masks else labels_of(data.classes),
        classes=data.classes,
        task=kind.task,
        colours=config.masks.colours if config.masks else (),
    )


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
