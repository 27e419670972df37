"""A whole training run: scan, train, export, evaluate; and export of a run that exists."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tactic_codec.errors import BackendUnavailable, ConfigError
from tactic_codec.model import Model, find
from tactic_codec.networks.folder import load_start
from tactic_codec.networks.heads import KINDS, LAST_LAYER
from tactic_codec.picture import Pixels
from tactic_codec.training import parallel
from tactic_codec.training.checkpoint import CHECKPOINT, LOG, load_trained
from tactic_codec.training.config import TeacherConfig, TrainingConfig, check, load_config
from tactic_codec.training.curve import draw_curve
from tactic_codec.training.data import Crops, ImageFolders
from tactic_codec.training.loop import Step, build_network, train
from tactic_codec.training.placing import check_place
from tactic_codec.training.run import RUN, Plan, Run, Say, is_imagenet
from tactic_codec.training.specialise import head_only_config, pupil_config, specialist_config
from tactic_codec.training.teacher import completed, identity
from tactic_codec.training.teacher import load as load_teachers

CURVE = "learning.png"

SHOWN, FAR = 32, 1 << 40
"""Crops over which the spread of a teacher's outputs is taken, and the first one's number, which no
run of steps reaches."""


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
    progress: Callable[[Step, int], None] | None = None,
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
        device: ``cpu`` or ``cuda``, of training and evaluation.
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
    teachers = [completed(teacher, say) for teacher in teachers]
    config = _config(config, model, out.name, head_only, teachers)
    config = replace(config, teacher=tuple(completed(teacher, say) for teacher in config.teacher))
    if config.teacher:
        folders, unlabelled = (), (*folders, *unlabelled)
    check_place(out, overwrite=force)
    if threads is not None:
        torch.set_num_threads(threads)
    parallel.join(device)
    run = run or default_run(config.name)
    # Of what the start knows, what it never saw is tested on: a model that goes on from it is to be
    # judged on images that neither of them was trained on.
    kept_out = tuple(sorted((model and model.held_out()) or ()))
    origin: dict[str, Any] = {"command": command, "start": model and _identify(model)}
    if config.teacher:
        origin["teachers"] = [identity(teacher) for teacher in config.teacher]
    path = None if model is None else str(model.path.resolve())
    plan = Plan(config, tuple(folders), tuple(unlabelled), tuple(tests), kept_out, path, origin)
    plan.check()
    data = plan.scan(say)
    _check_task(config, data)
    run.mkdir(parents=True, exist_ok=True)
    _check_continues(run, plan, data)
    taught = load_teachers(config.teacher, *_shown(config, data), say) if config.teacher else None
    made = Run(plan, data, run, model if config.head_only else None, say, device, taught)
    first = parallel.share().first
    network = train(
        config,
        data,
        run,
        device=device,
        start=_start(model, config, data),
        teachers=taught,
        on_start=lambda: plan.write(run, data),
        on_step=(lambda step: progress(step, config.steps)) if progress else None,
        evaluate=made.assess,
    )
    parallel.leave()
    if not first:  # of several processes one writes the folder
        return None
    if (run / LOG).exists():  # weights of the last step leave nothing to train
        try:
            (run / CURVE).write_bytes(draw_curve(run / LOG))
        except BackendUnavailable as exc:
            say(str(exc))
    return made.finish(network, out, force=force)


def export_command(run: Path, out: Path, *, force: bool = False, say: Say = print) -> Model:
    """Write the model folder of a run as it stands at its newest checkpoint, and evaluate it.

    Raises:
        ConfigError: the folder holds no run, or no checkpoint yet, or the run's image folders hold
            other images than it was trained with.
        DataError: the run's image folders are gone.
        OutputExists: ``out`` is there and ``force`` is false, or it is no model.
        UnknownModel, DamagedModel: the model that a task network is added to is gone or damaged.
    """
    plan, digest = Plan.read(run)
    check_place(out, overwrite=force)
    codec = None
    if plan.config.head_only:
        codec = find(plan.start or "")
        expected, found = plan.origin["start"], _identify(codec)
        if found != expected:
            raise ConfigError(
                f"{plan.start} is not the model that the head was trained for: expected "
                f"{expected}, found {found}"
            )
    data = plan.scan(say)
    network = load_trained(build_network(plan.config, len(data.classes)), run)
    _check_images(run, digest, data)
    return Run(plan, data, run, codec, say).finish(network, out, force=force)


def default_run(name: str) -> Path:
    """Return where the checkpoint and the log of a model go if nobody says otherwise."""
    return Path("runs") / name


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
    if given is not None:
        config = load_config(given) if isinstance(given, Path) else given
    elif model is not None:
        pupil = pupil_config(model, name, teachers) if teachers else None
        config = pupil or specialist_config(model, name)
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


def _shown(config: TrainingConfig, data: ImageFolders) -> tuple[Pixels, Tensor]:
    """Return a crop as training shows them, uint8 [H, W, 3], and some, uint8 [B, 3, H, W]."""
    crops = Crops(data.parts, config.data, config.stage[0].size, config.seed)
    shown = torch.stack([crops[FAR + number][0] for number in range(SHOWN)])
    return shown[0].permute(1, 2, 0).numpy(), shown


def _check_task(config: TrainingConfig, data: ImageFolders) -> None:
    """Refuse a task network that can neither learn nor know the classes."""
    knows = config.task.weights == "published" and is_imagenet(data.classes)
    if config.uses_task and not config.task.learn and not knows:
        raise ConfigError(
            "the task network is not to learn, but starts without knowing these classes: "
            "set learn = true"
        )


def _check_continues(run: Path, plan: Plan, data: ImageFolders) -> None:
    """Refuse to go on with a run that started from another model, or learned from other images."""
    if not (run / CHECKPOINT).exists() or not (run / RUN).exists():
        return
    try:
        earlier, digest = Plan.read(run)
    except ConfigError as exc:
        raise ConfigError(f"{run / RUN} is damaged; give another --run folder") from exc
    before, now = earlier.origin["start"], plan.origin["start"]
    if before != now:
        raise ConfigError(
            f"{run} holds a run that started from {before or 'no model'}, not from "
            f"{now or 'none'}; give another --run folder, or the same --from"
        )
    if earlier.origin.get("teachers") != plan.origin.get("teachers"):
        raise ConfigError(
            f"{run} holds a run with other teachers: give the files that it began with, or train "
            "into another --run folder"
        )
    _check_images(run, digest, data)


def _check_images(run: Path, digest: str | None, data: ImageFolders) -> None:
    """Refuse images that a run would now test on and was trained on, or the other way round."""
    if digest not in (None, data.digest):
        raise ConfigError(
            f"{run} holds a run of other images: give the same folders with the files that they "
            "had, or train into another --run folder"
        )


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
