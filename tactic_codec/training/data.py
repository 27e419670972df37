"""Folders of labelled images as training, calibration and test sets.

How a folder is laid out, its task says: `tactic_codec.training.tasks`. Several folders may be
given; classes that their places name are put together, so folders that share names share labels.

Every draw is a pure function of the seed and its number: a run that is killed and resumed sees the
same images, crops and flips as one that was not.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tactic_codec import picture as image
from tactic_codec.errors import DataError, ImageError, LimitExceeded, display
from tactic_codec.networks.measures import class_weights
from tactic_codec.picture import Pixels
from tactic_codec.training.config import DataConfig
from tactic_codec.training.loss import UNLABELLED
from tactic_codec.training.parallel import Share
from tactic_codec.training.shards import INDEX, Photograph, Shard, crop, square_at
from tactic_codec.training.tasks import CLASSES, TrainingTask
from tactic_codec.training.tasks.protocol import Box

TRAIN, KEPT = "train", "kept"
"""The shard to train on, and the other files, of what ``experiments/photographs.py`` made."""

KEPT_SEED = 3
"""Of the split of these others, the same for all runs: a model that starts from another's weights,
and two that are compared, are tested on pictures that neither has counted tables on."""

ALL = Share()
"""Of a batch."""


class Example(NamedTuple):
    """An image on disk, and what its task keeps of its truth."""

    path: Path
    kept: Any = UNLABELLED  # `UNLABELLED` where only its looks are of use
    photograph: Photograph | None = None  # the decoded image, where it lies in a shard

    def below(self, folder: Path) -> str:
        """Return the image's path below its folder, with slashes."""
        return self.path.relative_to(folder).as_posix()

    def pixels(self) -> Pixels:
        """Return the image, uint8 [H, W, 3]; errors as `image.load`."""
        return image.load(self.path) if self.photograph is None else self.photograph.pixels


class Part(NamedTuple):
    """One folder's share of each set."""

    folder: Path
    labelled: bool
    train: tuple[Example, ...]
    calibration: tuple[Example, ...]
    test: tuple[Example, ...]


class Skipped(NamedTuple):
    """A file that looked like an image and could not be read."""

    path: Path
    reason: str


@dataclass(frozen=True)
class ImageFolders:
    """The data of a run: class names, one part a folder, and what had to be left out."""

    classes: tuple[str, ...]
    parts: tuple[Part, ...]
    skipped: tuple[Skipped, ...]
    class_weights: Tensor | None = None  # of the cross-entropy of label maps

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the classes and of the images' names in each set of each folder.

        Where the folders lie does not count: a data set may move while it is trained on.
        """
        sets = [
            sorted(e.below(part.folder) for e in examples)
            for part in self.parts
            for examples in (part.train, part.calibration, part.test)
        ]
        return hashlib.sha256(json.dumps([self.classes, sets]).encode()).hexdigest()

    def tested(self, count: int) -> list[Example]:
        """Return the first few examples to test on, of all folders alike."""
        turns = zip_longest(*(part.test for part in self.parts))
        return [example for turn in turns for example in turn if example][:count]


def scan(
    folders: Sequence[Path],
    config: DataConfig,
    seed: int,
    *,
    task: TrainingTask[Any, Any] = CLASSES,
    unlabelled: Sequence[Path] = (),
    tests: Sequence[Path] = (),
    classes: Sequence[str] | None = None,
    kept_out: Collection[str] = (),
) -> ImageFolders:
    """Find, read once and split the images of some folders.

    Args:
        folders: laid out for the task.
        config: shares of the split.
        seed: of the split: the same seed and files give the same sets.
        task: that is trained.
        unlabelled: folders of images whose class folders name no classes, in the same layout; they
            come behind the others, and each of their class folders is split by itself. Or what
            ``experiments/photographs.py`` made, which is split already.
        tests: folders in the layout of ``folders`` that are tested on and nothing else; of the
            others then nothing is, but for what ``kept_out`` names.
        classes: the class names in the order of their labels; by default the sorted union.
        kept_out: paths below their folders, of images that are never trained on: what the model to
            start from never saw. Of a folder that holds some, nothing else is tested on.

    Raises:
        DataError: a folder is laid out otherwise or holds no images, a class of its is not among
            ``classes``, or of a part's truths none is of any class.
    """
    shards = {f: _shard(f) for f in unlabelled if f.joinpath(TRAIN).with_suffix(INDEX).exists()}
    files = {folder: task.images(folder) for folder in folders}
    for folder in unlabelled:
        files[folder] = _pictures(folder / KEPT if folder in shards else folder)
    files |= {folder: task.images(folder) for folder in tests}
    found = {folder: task.classes(folder, files[folder]) for folder in (*folders, *tests)}
    names = tuple(classes or sorted(set().union(*found.values())))
    for folder, own in found.items():
        strangers = sorted(own - set(names))
        if strangers:
            raise DataError(
                f"{folder}: class folder {strangers[0]!r} is not among the model's "
                f"{len(names)} classes"
            )
    # A model says what it learned from, in UTF-8.
    for place in (*map(str, files), *names):
        if not _is_text(place):
            raise DataError(f"the name {display(place)} is not UTF-8: rename that folder")
    skipped: list[Skipped] = []
    parts: list[Part] = []
    counts: dict[Path, NDArray[np.int64]] = {}
    with ThreadPoolExecutor() as pool:
        for number, (folder, images) in enumerate(files.items()):
            has_labels = folder not in unlabelled
            examples = [
                Example(path, task.kept(folder, path, names) if has_labels else UNLABELLED)
                for path in images
            ]
            read = partial(_read, task, len(names), folder)
            good = []
            for example, counted in zip(examples, pool.map(read, examples), strict=True):
                if isinstance(counted, str):
                    skipped.append(Skipped(example.path, counted))
                else:
                    good.append(example)
                    counts[example.path] = counted
            random = np.random.default_rng(KEPT_SEED if folder in shards else seed)
            if folder in tests:
                parts.append(tested(folder, good, random))
                continue
            test = config.test_shares[number] if config.test_shares else config.test
            shares = (None if tests else test, config.calibration)
            if folder in shards:
                kept = split(folder / KEPT, good, (None, 0.5), random, False, set())
                parts.append(Part(folder, False, shards[folder], kept.calibration, kept.train))
                continue
            parts.append(split(folder, good, shares, random, has_labels, set(kept_out)))
    return ImageFolders(names, tuple(parts), tuple(skipped), _class_weights(parts, counts))


def _pictures(folder: Path) -> list[Path]:
    """List the pictures of a folder without labels, at any depth."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; expected one that holds pictures")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in image.SUFFIXES)
    if not paths:
        raise DataError(f"{folder} holds no pictures")
    return paths


def _is_text(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _read(
    task: TrainingTask[Any, Any], classes: int, folder: Path, example: Example
) -> NDArray[np.int64] | str:
    """Count the classes of an example's truth, or return why the example cannot be used."""
    name = example.below(folder)
    # It may have to stand on a line of the list of what training kept out.
    if (
        not _is_text(name)
        or name.startswith("#")
        or [name] != [line.strip() for line in name.splitlines()]
    ):
        return (
            "its name cannot stand in a list: it begins with #, begins or ends with a space, has a "
            "line end, or is not UTF-8; rename it"
        )
    if not example.path.is_file():  # a pipe would be waited for
        return "this is no file"
    try:
        return task.counts(task.truth(example.kept, example.pixels()), classes)
    except (DataError, ImageError, LimitExceeded, OSError) as exc:
        return str(exc)


def _class_weights(
    parts: Sequence[Part], counts: Mapping[Path, NDArray[np.int64]]
) -> Tensor | None:
    """Weigh the classes by how rare they are in what is trained on; None where nothing counts."""
    if not any(counted.size for counted in counts.values()):
        return None
    classes = len(next(iter(counts.values())))
    trained = np.zeros(classes, np.int64)
    for part in parts:
        for name, examples in (("trained", part.train), ("tested", part.test)):
            found = sum((counts[example.path] for example in examples), np.zeros_like(trained))
            if examples and not found.any():
                raise DataError(
                    f"{part.folder}: no label map that is {name} on has a value below {classes}, "
                    "which are the classes"
                )
            if name == "trained":
                trained += found
    return class_weights(trained)


def _shard(folder: Path) -> tuple[Example, ...]:
    """List the photographs that were decoded to train on."""
    shard = Shard(folder / TRAIN)
    names = [entry.name for entry in shard.entries]
    return tuple(
        Example(folder / name, photograph=Photograph(shard, i)) for i, name in enumerate(names)
    )


def tested(folder: Path, examples: Sequence[Example], random: np.random.Generator) -> Part:
    """Return a folder that is tested on and nothing else, its images shuffled.

    Raises:
        DataError: it is empty.
    """
    if not examples:
        raise DataError(f"{folder} holds no image that can be read, and is to be tested on")
    # Whoever takes the first few is not to get one class alone.
    shuffled = tuple(examples[i] for i in random.permutation(len(examples)))
    return Part(folder, True, (), (), shuffled)


def split(
    folder: Path,
    examples: list[Example],
    shares: tuple[float | None, float],
    random: np.random.Generator,
    labelled: bool,
    kept_out: set[str],
) -> Part:
    """Split a folder by its shares of test and calibration; None tests on what is kept out.

    So does any share where the folder holds some of that: the start was trained on the rest.
    """
    test, calibration = shares

    def is_kept(example: Example) -> bool:
        return example.below(folder) in kept_out

    known = any(map(is_kept, examples))
    groups: dict[str, list[Example]] = {}
    for example in examples:
        # Kinds of pictures that no class names are each held out in their share. Those that lie in
        # no folder of their own are one kind.
        kind = "" if labelled else "".join(example.path.relative_to(folder).parts[:-1][:1])
        groups.setdefault(kind, []).append(example)
    trained: list[Example] = []
    counted: list[Example] = []
    held_out: list[Example] = []
    for group in groups.values():
        shuffled = [group[i] for i in random.permutation(len(group))]
        # Stable: what was kept out comes first, and both stay shuffled.
        shuffled.sort(key=is_kept, reverse=True)
        first = sum(map(is_kept, group)) if known else round((test or 0) * len(group))
        second = first + max(1, round(calibration * len(group)))
        trained += shuffled[second:]
        counted += shuffled[first:second]
        held_out += shuffled[:first]
    if not labelled:
        # Whoever takes the first few is not to get one kind alone.
        held_out = [held_out[i] for i in random.permutation(len(held_out))]
    if not trained or not (held_out or test is None):
        raise DataError(f"{folder}: {len(examples)} readable images are too few to split")
    return Part(folder, labelled, tuple(trained), tuple(counted), tuple(held_out))


class Crops(Dataset[tuple[Tensor, int | Tensor]]):
    """An endless, numbered list of augmented crops: uint8 [3, size, size] and their labels.

    Labels are class indices, or int64 [size, size] of pixels where images have label maps.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        config: DataConfig,
        size: int,
        seed: int,
        *,
        task: TrainingTask[Any, Any] = CLASSES,
        classes: int = 0,
    ) -> None:
        """Draw from the training sets.

        Args:
            parts: of which those that are only tested on are left alone.
            config: how often each is drawn, and how crops vary.
            size: side of the crops, in pixels.
            seed: of all draws.
            task: that is trained.
            classes: how many there are.
        """
        self.parts = [part for part in parts if part.train]
        if config.draw and len(config.draw) != len(self.parts):
            raise DataError(
                f"the configuration draws from {len(config.draw)} folders, {len(self.parts)} were "
                "given"
            )
        weights = np.array(config.draw or [len(p.train) for p in self.parts], dtype=np.float64)
        self.probabilities = weights / weights.sum()
        self.config = config
        self.size = size
        self.seed = seed
        self.task = task
        self.classes = classes

    def __getitem__(self, number: int) -> tuple[Tensor, int | Tensor]:
        """Return crop ``number``, the same one every time."""
        random = np.random.default_rng((self.seed, number))
        part = self.parts[random.choice(len(self.parts), p=self.probabilities)]
        example = part.train[random.integers(len(part.train))]
        if example.photograph is not None:
            square = crop(example.photograph, self.size, random)
            return self._coloured(square, random), int(example.kept)
        if self.config.zoom:
            square = square_at(self.config.zoom, example.pixels(), self.size, random)
            return self._coloured(square, random), int(example.kept)
        picture = image.to_pillow(example.pixels())
        box = self.task.box(random, picture.width, picture.height, self.size, self.config)
        cut = partial(_cut, size=self.size, box=box, flip=random.random() < 0.5)
        pixels = self._coloured(cut(picture, Image.Resampling.BICUBIC), random)
        return pixels, self.task.target(example.kept, cut, self.classes)

    def _coloured(self, square: Image.Image, random: np.random.Generator) -> Tensor:
        if most := self.config.colour:
            for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
                square = change(square).enhance(1 + random.uniform(-most, most))
        return torch.from_numpy(np.array(square)).permute(2, 0, 1)


def _cut(
    picture: Image.Image, method: Image.Resampling, *, size: int, box: Box, flip: bool
) -> Image.Image:
    crop = picture.resize((size, size), method, box=box)
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else crop


def batches(
    crops: Crops, *, batch: int, first: int, last: int, workers: int, share: Share = ALL
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of crops numbered from ``first`` up to ``last``, in order.

    Yields:
        Images as uint8 [batch, 3, size, size] and labels as int64 [batch], or [batch, size, size]
        of pixels; or a share of them.
    """
    numbers = [
        list(range(start, start + batch)[share.slice]) for start in range(first, last, batch)
    ]
    loader: DataLoader[tuple[Tensor, int | Tensor]] = DataLoader(
        crops, batch_sampler=numbers, num_workers=workers, pin_memory=torch.cuda.is_available()
    )
    yield from loader
