"""A whole training run: scan, train, export, evaluate; and export of a run that exists.

runs/<name>/run.json        the configuration and the folders, so that export needs no others
runs/<name>/checkpoint.pt   see `tactic_codec.training.loop`
runs/<name>/log.jsonl
runs/<name>/candidate/      the model folder of the newest evaluation
"""

import json
import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tactic_codec import image
from tactic_codec.codec import load_model
from tactic_codec.entropy import ContextModel
from tactic_codec.errors import ConfigError, DataError, OutputExists
from tactic_codec.model import Model
from tactic_codec.networks.codec import TacticNetwork
from tactic_codec.networks.heads import KINDS, build_head
from tactic_codec.training.config import TrainingConfig, load_config, parse_config
from tactic_codec.training.data import ImageFolders, Part, scan
from tactic_codec.training.evaluate import Figures, evaluate
from tactic_codec.training.export import HeadExport, add_metrics, export, levels_of
from tactic_codec.training.loop import LOG, Step, load_trained, train

RUN = "run.json"
HELD_OUT = "held-out.txt"
CALIBRATION_IMAGES = 500
"""Images that tables are counted on: 400,000 symbols a channel at 224×224."""

Say = Callable[[str], None]
Progress = Callable[[Step, int], None]


def train_command(
    config_path: Path,
    folders: Sequence[Path],
    out: Path,
    *,
    unlabelled: Sequence[Path] = (),
    run: Path | None = None,
    device: str = "cpu",
    threads: int | None = None,
    command: str = "",
    force: bool = False,
    progress: Progress | None = None,
    say: Say = print,
) -> Model:
    """Train a model from a configuration and folders, or go on with an interrupted run.

    Args:
        config_path: TOML file, see `tactic_codec.training.config`.
        folders: each holds one folder of images a class.
        unlabelled: likewise, where the folders name no classes.
        out: the model folder to make.
        run: folder of checkpoint and log; ``runs/<name>`` by default.
        device: ``cpu`` or ``cuda``.
        threads: of torch; its own choice by default.
        command: the command line, for the manifest.
        force: replace ``out`` if it is there.
        progress: called with each step and the number of all steps.
        say: receives lines for people.

    Raises:
        ConfigError: the configuration cannot be run, or the run folder belongs to another.
        DataError: the folders hold no images in class folders.
        OutputExists: ``out`` is there; found out before training, not after.
    """
    config = load_config(config_path)
    if out.exists() and not force:
        raise OutputExists(f"{out} exists; choose another name, or overwrite it with --force")
    if threads is not None:
        torch.set_num_threads(threads)
    run = run or Path("runs") / config.name
    _check_folders(config, [*folders, *unlabelled])
    data = _scan(config, folders, unlabelled, say)
    _check_task(config, data)
    run.mkdir(parents=True, exist_ok=True)
    described = {
        "config": asdict(config),
        "folders": [str(folder.resolve()) for folder in folders],
        "unlabelled": [str(folder.resolve()) for folder in unlabelled],
        "command": command,
    }

    def assess(network: TacticNetwork) -> dict[str, Any]:
        model = _export(config, data, network, run / "candidate", run, command, force=True)
        figures = _evaluate(config, data, model, limit=config.evaluation.images, say=say)
        return {name: f.as_json() for name, f in figures.items()}

    network = train(
        config,
        data,
        run,
        device=device,
        on_start=lambda: _write_json(run / RUN, described),
        on_step=(lambda step: progress(step, config.steps)) if progress else None,
        evaluate=assess,
    )
    return _finish(config, data, network, out, run, command, force=force, say=say)


def export_command(run: Path, out: Path, *, force: bool = False, say: Say = print) -> Model:
    """Write the model folder of a run as it stands at its newest checkpoint, and evaluate it.

    Raises:
        ConfigError: the folder holds no run, or no checkpoint yet.
        DataError: the run's image folders are gone.
        OutputExists: ``out`` is there and ``force`` is false.
    """
    try:
        described = json.loads((run / RUN).read_text(encoding="utf-8"))
        raw = described["config"]
        folders, unlabelled = (
            [Path(folder) for folder in described[key]] for key in ("folders", "unlabelled")
        )
    except (OSError, ValueError, KeyError, TypeError) as exc:
        reason = f"{type(exc).__name__} {exc}"
        raise ConfigError(f"{run} holds no training run: {reason}; train it first") from exc
    config = parse_config(raw, str(run / RUN))
    data = _scan(config, folders, unlabelled, say)
    network = load_trained(config, len(data.classes), run)
    return _finish(config, data, network, out, run, described["command"], force=force, say=say)


def _scan(
    config: TrainingConfig, folders: Sequence[Path], unlabelled: Sequence[Path], say: Say
) -> ImageFolders:
    data = scan(folders, config.data, config.seed, unlabelled=unlabelled)
    for path, reason in data.skipped:
        say(f"skipped {path}: {reason}")
    for part in data.parts:
        counts = f"{len(part.train)} to train, {len(part.calibration)} to calibrate"
        say(f"{part.folder}: {counts}, {len(part.test)} to test")
    if data.skipped:
        say(f"{len(data.skipped)} files skipped")
    return data


def _check_folders(config: TrainingConfig, folders: Sequence[Path]) -> None:
    """Refuse, before every image is read, what does not depend on them."""
    if config.task.network not in KINDS:
        raise ConfigError(
            f"no task network is called {config.task.network!r}; there are: {', '.join(KINDS)}"
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
    knows = config.task.weights == "published" and _is_imagenet(data.classes)
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
    command: str,
    *,
    force: bool,
    say: Say,
) -> Model:
    model = _export(config, data, network, out, run, command, force=force)
    figures = _evaluate(config, data, model, limit=None, say=say)
    add_metrics(out, {name: f.as_json() for name, f in figures.items()})
    return Model(out)


def _export(
    config: TrainingConfig,
    data: ImageFolders,
    network: TacticNetwork,
    out: Path,
    run: Path,
    command: str,
    *,
    force: bool,
) -> Model:
    paths = [example.path for part in data.parts for example in part.calibration]
    # Evenly over all folders, so that none of them is left out where there are more than enough.
    chosen = paths[:: max(1, -(-len(paths) // CALIBRATION_IMAGES))]
    return export(
        network,
        out,
        name=config.name,
        description=config.description,
        levels=levels_of(network),
        calibration=[image.square(image.load(path), config.data.size) for path in chosen],
        contexts=ContextModel(config.entropy.own, config.entropy.shared),
        head=_head(config, data, network),
        objectives=config.objectives,
        training={
            "config": asdict(config),
            "seed": config.seed,
            "command": command,
            "data": [_describe(part) for part in data.parts],
            "torch": torch.__version__,
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        },
        documents=_documents(data, run),
        overwrite=force,
    )


def _documents(data: ImageFolders, run: Path) -> dict[str, bytes]:
    """Return the log, and a list of the images that training never saw."""
    lines = ["# Images that training kept out, by their place in their data folder."]
    for part in data.parts:
        lines.append(f"# {_name(part.folder)}")
        lines += sorted(e.path.relative_to(part.folder).as_posix() for e in part.test)
    documents = {HELD_OUT: ("\n".join(lines) + "\n").encode()}
    if (run / LOG).exists():
        documents[LOG] = (run / LOG).read_bytes()
    return documents


def _head(config: TrainingConfig, data: ImageFolders, network: TacticNetwork) -> HeadExport | None:
    module = network.head
    if module is None:
        # Without a task loss the published network still says what the pictures are worth to it.
        if config.task.weights != "published" or not _is_imagenet(data.classes):
            return None
        module = build_head(config.task.network, len(data.classes), published=True)
    return HeadExport(
        config.task.network,
        module,
        KINDS[config.task.network].input_size,
        labels=_labels(data.classes),
        classes=data.classes,
    )


def _is_imagenet(classes: Sequence[str]) -> bool:
    return len(classes) == 1000 and all(re.fullmatch(r"n\d{8}", name) for name in classes)


def _labels(classes: Sequence[str]) -> Sequence[str]:
    """Return names for people: ImageNet's where folders carry WordNet numbers."""
    if not _is_imagenet(classes):
        return classes
    from tactic_codec.networks.torchvision_shim import torchvision

    names: list[str] = torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]
    return names


def _name(folder: Path) -> str:
    """Return a folder's own name, and its parent's too where it is one part of a data set."""
    path = folder.resolve()
    several = path.name in ("train", "training", "val", "validation", "test")
    return f"{path.parent.name}/{path.name}" if several else path.name


def _describe(part: Part) -> dict[str, Any]:
    return {
        "folder": _name(part.folder),
        "train": len(part.train),
        "calibration": len(part.calibration),
        "test": len(part.test),
    }


def _evaluate(
    config: TrainingConfig, data: ImageFolders, model: Model, *, limit: int | None, say: Say
) -> dict[str, Figures]:
    codec = load_model(model.path)
    figures = {}
    for part in data.parts:
        name = _name(part.folder)
        found = evaluate(codec, part.test[:limit], config.data.size)
        figures[name] = found
        accuracy = "" if found.accuracy is None else f", accuracy {100 * found.accuracy:.1f} %"
        say(f"{name}: {found.bpp:.4f} bpp, {found.psnr:.2f} dB{accuracy} ({found.images} images)")
    if not figures:
        raise DataError("no test images")
    return figures


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
