"""A training run as a record, and what is made of it.

Plan ─ scan ─▶ Run ─ train ─▶ networks ─ candidate ─▶ Model ─ figures ─▶ its place

runs/<name>/run.json        the plan, so that export needs no other, and a digest of which images
                            its folders held
runs/<name>/checkpoint.pt   see `tactic_codec.training.loop`
runs/<name>/log.jsonl
runs/<name>/learning.png    the log as a picture
runs/<name>/candidate/      the model folder of the newest evaluation, where it gets its figures
"""

import json
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from tactic_codec import picture as image
from tactic_codec.codec import load_model
from tactic_codec.errors import ConfigError
from tactic_codec.model import HELD_OUT, Model
from tactic_codec.networks.codec import TacticNetwork
from tactic_codec.networks.heads import KINDS, build_head, kind_of
from tactic_codec.training import eight_bits, points
from tactic_codec.training.checkpoint import LOG
from tactic_codec.training.config import TrainingConfig, parse_config
from tactic_codec.training.data import Example, ImageFolders, scan
from tactic_codec.training.evaluate import evaluate
from tactic_codec.training.export import About, add_head, add_metrics, export, levels_of
from tactic_codec.training.onnx_files import HeadExport
from tactic_codec.training.placing import install
from tactic_codec.training.points import PICTURES
from tactic_codec.training.tasks import CLASSES, task_of
from tactic_codec.training.teacher import Teachers

RUN = "run.json"
CANDIDATE = "candidate"

FOLDERS = ("folders", "unlabelled", "tests")
"""Kinds of folders that a plan names."""

CALIBRATION_IMAGES = 500
"""Images that tables are counted on, at most: 400,000 symbols a channel at 224×224."""

LEARNING_IMAGES = 1500
"""Other images, at most, that contexts are learned from."""

CALIBRATION_PIXELS = 1 << 26
"""Of these images together, at most: they are held in memory, 3 bytes a pixel, with latents and the
symbols of a level, about 4 bytes a pixel each."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is trained, from which folders and which model: what ``run.json`` says.

    Attributes:
        config: of the networks and their stages.
        folders: of images of classes.
        unlabelled: likewise, where the folders name no classes.
        tests: tested on and nothing else.
        kept_out: images that the model to start from never saw.
        start: folder of that model; None for a start at random.
        origin: command line, and name and fingerprint of that model, for the manifest.
    """

    config: TrainingConfig
    folders: tuple[Path, ...] = ()
    unlabelled: tuple[Path, ...] = ()
    tests: tuple[Path, ...] = ()
    kept_out: tuple[str, ...] = ()
    start: str | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse, before every image is read, what does not depend on them.

        Raises:
            ConfigError: a folder is given twice, or the configuration does not go with the folders
                or with its task network.
        """
        config, folders = self.config, (*self.folders, *self.unlabelled)
        known: set[Path] = set()
        for folder in (*folders, *self.tests):
            if folder.resolve() in known:
                both = folder in self.tests and folder.resolve() in [f.resolve() for f in folders]
                said = "to be trained on and tested on; give two folders"
                once = "given twice; give each folder once, to one option"
                raise ConfigError(f"{folder} is {said if both else once}")
            known.add(folder.resolve())
        network = config.task.network
        if (kind_of(network).task == "segment") != config.segments:
            does, remedy = "segments", "describe the classes in [masks]"
            if config.segments:
                does, remedy = "does not segment", "leave [masks] out"
            raise ConfigError(f"{network} {does}: {remedy}, or choose another network under [task]")
        if config.masks and self.unlabelled:
            raise ConfigError("a segmentation learns from label maps; leave --unlabelled out")
        for name in ("draw", "test_shares"):
            values = getattr(config.data, name)
            if values and len(values) != len(folders):
                raise ConfigError(
                    f"data {name} has {len(values)} values for {len(folders)} folders; "
                    "give one for each --data and --unlabelled"
                )

    def scan(self, say: Say = print) -> ImageFolders:
        """Read the images once, and tell what there is; errors as `data.scan`."""
        config = self.config
        data = scan(
            self.folders,
            config.data,
            config.seed,
            task=task_of(config),
            unlabelled=self.unlabelled,
            tests=self.tests,
            classes=config.masks.labels if config.masks else None,
            kept_out=self.kept_out,
        )
        for path, reason in data.skipped:
            say(f"skipped {path}: {reason}")
        for part in data.parts:
            counts = f"{len(part.train)} to train, {len(part.calibration)} to calibrate"
            say(f"{part.folder}: {counts}, {len(part.test)} to test")
        if data.skipped:
            say(f"{len(data.skipped)} files skipped")
        return data

    def write(self, folder: Path, data: ImageFolders) -> None:
        """Write ``run.json``."""
        described = {
            "config": asdict(self.config),
            **{kind: [str(path.resolve()) for path in getattr(self, kind)] for kind in FOLDERS},
            "kept_out": self.kept_out,
            "data": data.digest,
            "start": self.start,
            "origin": self.origin,
        }
        text = json.dumps(described, indent=1) + "\n"
        (folder / RUN).write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> tuple["Plan", str | None]:
        """Return the plan of a folder's run, and the digest of its images.

        Raises:
            ConfigError: the folder holds no run.
        """
        try:
            described = json.loads((folder / RUN).read_text(encoding="utf-8"))
            raw, origin, kept_out = (described[key] for key in ("config", "origin", "kept_out"))
            _ = origin["start"]
            folders, unlabelled, tests = (
                tuple(map(Path, described.get(kind, ()))) for kind in FOLDERS
            )
        except (OSError, ValueError, KeyError, TypeError) as exc:
            reason = f"{type(exc).__name__} {exc}"
            raise ConfigError(f"{folder} holds no training run: {reason}; train it first") from exc
        config = parse_config(raw, str(folder / RUN))
        # The first runs did not say what they started from, nor which images they had.
        start, digest = described.get("start"), described.get("data")
        plan = cls(config, folders, unlabelled, tests, tuple(kept_out), start, origin)
        return plan, digest


@dataclass(frozen=True)
class Run:
    """A training run whose images were found.

    Attributes:
        plan: see there.
        data: the images.
        folder: of checkpoint and log.
        codec: the model whose codec is kept, where a task network alone learns.
        say: receives lines for people.
        device: that it is evaluated on, as `load_model` has it.
        teachers: that are asked then.
    """

    plan: Plan
    data: ImageFolders
    folder: Path
    codec: Model | None = None
    say: Say = print
    device: str = "auto"
    teachers: Teachers | None = None

    @property
    def config(self) -> TrainingConfig:
        """What is trained."""
        return self.plan.config

    @cached_property
    def names(self) -> list[str]:
        """A name for each folder: its own, and those above it as far as they tell it apart.

        The parent's is there in any case where the folder is one part of a data set.
        """
        paths = [part.folder.resolve() for part in self.data.parts]

        def name(path: Path) -> str:
            others = [other for other in paths if other != path]
            part_of_set = path.name in ("train", "training", "val", "validation", "test")
            count = 2 if part_of_set else 1
            while any(other.parts[-count:] == path.parts[-count:] for other in others):
                count += 1
            return Path(*path.parts[-count:]).as_posix()

        return [name(path) for path in paths]

    # --- Its pictures ---

    def calibration(self) -> list[image.Pixels]:
        """Read pictures that tables are counted on."""
        return self.pictures([e for part in self.data.parts for e in part.calibration])

    def learning(self) -> list[image.Pixels]:
        """Read training pictures to learn contexts from, of each folder as many as are drawn.

        Where they are squares, every second is a piece of a picture at its own size.
        """
        chosen: list[Example] = []
        parts = self.data.parts
        shares = self.config.data.draw or [len(part.train) for part in parts]
        for part, share in zip(parts, shares, strict=True):
            count = max(1, round(LEARNING_IMAGES * share / sum(shares)))
            step = max(1, len(part.train) // count)
            chosen += part.train[::step][:count]
        return self.pictures(chosen, LEARNING_IMAGES, pieces=True)

    def pictures(
        self, examples: list[Example], most: int = CALIBRATION_IMAGES, *, pieces: bool = False
    ) -> list[image.Pixels]:
        """Read pictures as they are evaluated: whole where they are segmented, else as squares."""
        config = self.config
        # Evenly over all folders, so that none is left out where there are more than enough.
        examples = examples[:: max(1, -(-len(examples) // most))]
        found: dict[int, image.Pixels] = {}
        pixels = 0
        # However many there is room for, multiples of the golden ratio spread them evenly.
        for i in sorted(range(len(examples)), key=lambda i: i * (5**0.5 - 1) / 2 % 1):
            picture = examples[i].pixels()
            if not config.segments:
                size = config.data.size
                top, left = ((side - size) // 2 for side in picture.shape[:2])
                if pieces and i % 2 and min(top, left) >= 0:
                    picture = picture[top : top + size, left : left + size]
                else:
                    picture = image.square(picture, size)
            found[i] = picture
            pixels += found[i].size // 3
            if pixels > CALIBRATION_PIXELS:
                break
        return [found[i] for i in sorted(found)]

    # --- Its model ---

    def finish(self, network: TacticNetwork, out: Path, *, force: bool) -> Model:
        """Export and evaluate the trained networks; errors as `export`.

        The model goes to its place when its figures are known: where it is, nothing is missing, and
        a run that was killed before goes on by the same command.
        """
        model = self.candidate(network)
        add_metrics(model.path, self.figures(model, self.config.evaluation.final))
        tested = self.data.tested(min(PICTURES, self.config.evaluation.images or PICTURES))
        points.add(model.path, [example.pixels() for example in tested])
        # Last: figures are those of single precision, which every machine has.
        eight_bits.add(model.path, self.calibration()[: eight_bits.PICTURES])
        return install(model, out, overwrite=force)

    def assess(self, network: TacticNetwork) -> dict[str, Any]:
        """Return the figures of networks while they are trained."""
        return self.figures(self.candidate(network), self.config.evaluation.images)

    def candidate(self, network: TacticNetwork) -> Model:
        """Write the candidate; with the codec of a model that keeps it, only the head is new."""
        config, out = self.config, self.folder / CANDIDATE
        pictures, head = self.calibration(), self._head(network)
        training = {
            "config": asdict(config),
            "seed": config.seed,
            **self.plan.origin,
            "data": [
                {"folder": name}
                | {kind: len(getattr(part, kind)) for kind in ("train", "calibration", "test")}
                for name, part in zip(self.names, self.data.parts, strict=True)
            ],
            "torch": torch.__version__,
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        }
        about = About(config.name, config.description, training, self.documents())
        if self.codec:
            assert head is not None
            # Which images the codec never saw is the older list; the head's own stands beside it.
            own = {f"{head.task}-{name}": text for name, text in about.documents.items()}
            about = about._replace(documents=own)
            return add_head(self.codec, out, about, head=head, example=pictures[0], overwrite=True)
        return export(
            network,
            out,
            about,
            levels=levels_of(network, config.objectives, config.offset),
            calibration=pictures,
            contexts=config.entropy.contexts,
            learning=self.learning() if config.entropy.linear else (),
            head=head,
            overwrite=True,
        )

    def documents(self) -> dict[str, bytes]:
        """Return the log, and a list of the images that training never saw."""
        parts = self.data.parts
        lines = ["# Images that training kept out, by their place in their data folder."]
        # Names below different folders may be the same: those of images that were trained on, too,
        # are left out, so that nobody takes the one for the other.
        seen = {e.below(part.folder) for part in parts for e in (*part.train, *part.calibration)}
        for part, name in zip(parts, self.names, strict=True):
            lines.append(f"# {name}")
            lines += sorted({e.below(part.folder) for e in part.test} - seen)
        documents = {HELD_OUT: ("\n".join(lines) + "\n").encode()}
        if (self.folder / LOG).exists():
            documents[LOG] = (self.folder / LOG).read_bytes()
        return documents

    def _head(self, network: TacticNetwork) -> HeadExport | None:
        config, classes, module = self.config, self.data.classes, network.head
        if module is None:
            # Without a task loss the published network still says what pictures are worth to it.
            if config.task.weights != "published" or not is_imagenet(classes):
                return None
            module = build_head(config.task.network, len(classes), published=True)
        kind = KINDS[config.task.network]
        return HeadExport(
            config.task.network,
            module,
            config.task.input_size or kind.input_size or config.data.size,
            labels=classes if config.masks else labels_of(classes),
            classes=classes,
            task=kind.task,
            colours=config.masks.colours if config.masks else (),
        )

    def figures(self, model: Model, limit: int | None) -> dict[str, Any]:
        """Return the figures of each folder: an object, or a list of one for each level."""
        codec = load_model(model.path, device=self.device)
        training = task_of(self.config)
        if training.task.name not in model.heads:  # bytes and PSNR are of squares then
            training = CLASSES
        found: dict[str, Any] = {}
        for part, name in zip(self.data.parts, self.names, strict=True):
            if not part.test:  # another folder is tested on
                continue
            examples, size = part.test[:limit], self.config.data.size
            measured = evaluate(codec, examples, size, training, self.teachers)
            rows = []
            for level, figures in enumerate(measured, start=1):
                rows.append({"level": level, **figures.as_json()})
                where = f"{name} -q {level}" if len(measured) > 1 else name
                seen = figures.told(training.task.headline)
                self.say(f"{where}: {seen} ({figures.images} images)")
            found[name] = rows if len(rows) > 1 else rows[0]
        return found


def is_imagenet(classes: Sequence[str]) -> bool:
    """Tell whether folders are named as those of ImageNet-1k."""
    return len(classes) == 1000 and all(re.fullmatch(r"n\d{8}", name) for name in classes)


def labels_of(classes: Sequence[str]) -> Sequence[str]:
    """Return names for people: ImageNet's where folders carry WordNet numbers."""
    if not is_imagenet(classes):
        return classes
    from tactic_codec.networks.torchvision_shim import torchvision

    names: list[str] = torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]
    return names
