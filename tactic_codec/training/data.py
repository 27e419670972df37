"""Folders of class folders as training, calibration and test sets.

A folder is laid out as torchvision's ImageFolder reads it: ``<class>/<anything>.jpg``. Several
folders may be given; their classes are the sorted union of the class names, so folders that share
names share labels.

Every draw is a pure function of the seed and its number: a run that is killed and resumed sees the
same images, crops and flips as one that was not.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tactic_codec import image
from tactic_codec.errors import DataError, ImageError, LimitExceeded
from tactic_codec.training.config import DataConfig
from tactic_codec.training.loss import UNLABELLED
from tactic_codec.training.parallel import Share

ALL = Share()
"""Of a batch."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff", ".gif"})


class Example(NamedTuple):
    """An image on disk; its label is `UNLABELLED` where only its looks are of use."""

    path: Path
    label: int


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


def scan(
    folders: Sequence[Path],
    config: DataConfig,
    seed: int,
    *,
    unlabelled: Sequence[Path] = (),
    classes: Sequence[str] | None = None,
    kept_out: Collection[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> ImageFolders:
    """Find, read once and split the images of some folders.

    Args:
        folders: each holds one folder a class.
        config: shares of the split.
        seed: of the split: the same seed and files give the same sets.
        unlabelled: folders of images whose class folders name no classes, in the same layout; they
            come behind the others, and each of their class folders is split by itself.
        classes: the class names in the order of their labels; by default the sorted union.
        kept_out: paths below their folders, of images that are tested on before others are: what
            the model to start from never saw.
        progress: called with (files read, files in all).

    Raises:
        DataError: a folder is missing, holds no class folders or images, or a class of its is
            not among ``classes``.
    """
    files = [(folder, *_list_images(folder)) for folder in (*folders, *unlabelled)]
    labelled = files[: len(folders)]
    names = tuple(classes or sorted({name for _, _, found in labelled for name in found}))
    for folder, _, found in labelled:
        strangers = sorted(set(found) - set(names))
        if strangers:
            raise DataError(
                f"{folder}: class folder {strangers[0]!r} is not among the model's "
                f"{len(names)} classes"
            )
    total = sum(len(paths) for _, paths, _ in files)
    done = 0
    skipped: list[Skipped] = []
    parts = []
    with ThreadPoolExecutor() as pool:
        for number, (folder, paths, _) in enumerate(files):
            has_labels = number < len(folders)
            good = []
            for path, reason in zip(paths, pool.map(_reason_to_skip, paths), strict=True):
                done += 1
                if progress and done % 100 == 0:
                    progress(done, total)
                if reason:
                    skipped.append(Skipped(path, reason))
                else:
                    name = path.relative_to(folder).parts[0]
                    good.append(Example(path, names.index(name) if has_labels else UNLABELLED))
            test = config.test_shares[number] if config.test_shares else config.test
            random = np.random.default_rng(seed)
            shares = (test, config.calibration)
            parts.append(_split(folder, good, shares, random, has_labels, set(kept_out)))
    return ImageFolders(names, tuple(parts), tuple(skipped))


def _list_images(folder: Path) -> tuple[list[Path], set[str]]:
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder; expected one that holds a folder for each class"
        )
    paths = sorted(p for p in folder.glob("*/**/*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise DataError(
            f"{folder} holds no images in class folders; expected <class>/<image>.jpg inside it"
        )
    return paths, {path.relative_to(folder).parts[0] for path in paths}


def _reason_to_skip(path: Path) -> str | None:
    try:
        image.load(path)
    except (ImageError, LimitExceeded, OSError) as exc:
        return str(exc)
    return None


def _split(
    folder: Path,
    examples: list[Example],
    shares: tuple[float, float],
    random: np.random.Generator,
    labelled: bool,
    kept_out: set[str],
) -> Part:
    """Split a folder by its shares of test and calibration."""
    test, calibration = shares
    groups = {"": examples}
    if not labelled:
        # Kinds of pictures that no class names are each held out in their share.
        groups = {}
        for example in examples:
            groups.setdefault(example.path.relative_to(folder).parts[0], []).append(example)
    sets: tuple[list[Example], list[Example], list[Example]] = ([], [], [])
    for group in groups.values():
        shuffled = [group[i] for i in random.permutation(len(group))]
        shuffled.sort(key=lambda e: e.path.relative_to(folder).as_posix() not in kept_out)
        first = round(test * len(group))
        second = first + max(1, round(calibration * len(group)))
        for part, share in zip(
            sets, (shuffled[second:], shuffled[first:second], shuffled[:first]), strict=True
        ):
            part.extend(share)
    if not labelled:
        # Whoever takes the first few is not to get one kind alone.
        sets[2][:] = [sets[2][i] for i in random.permutation(len(sets[2]))]
    split = Part(folder, labelled, *map(tuple, sets))
    if not split.test or not split.train:
        raise DataError(f"{folder}: {len(examples)} readable images are too few to split")
    return split


class Crops(Dataset[tuple[Tensor, int]]):
    """An endless, numbered list of augmented crops: uint8 [3, size, size] and their labels."""

    def __init__(self, parts: Sequence[Part], config: DataConfig, size: int, seed: int) -> None:
        if config.draw and len(config.draw) != len(parts):
            raise DataError(
                f"the configuration draws from {len(config.draw)} folders, {len(parts)} were given"
            )
        weights = np.array(config.draw or [len(part.train) for part in parts], dtype=np.float64)
        self.probabilities = weights / weights.sum()
        self.parts = parts
        self.scale = config.scale
        self.colour = config.colour
        self.size = size
        self.seed = seed

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        """Return crop ``number``, the same one every time."""
        random = np.random.default_rng((self.seed, number))
        part = self.parts[random.choice(len(self.parts), p=self.probabilities)]
        example = part.train[random.integers(len(part.train))]
        picture = image.to_pillow(image.load(example.path))
        box = self._box(random, picture.width, picture.height)
        crop = picture.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box)
        if random.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.colour:
            for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
                crop = change(crop).enhance(1 + random.uniform(-self.colour, self.colour))
        return torch.from_numpy(np.array(crop)).permute(2, 0, 1), example.label

    def _box(
        self, random: np.random.Generator, width: int, height: int
    ) -> tuple[float, float, float, float]:
        """Draw a rectangle of random area, aspect (3:4 to 4:3) and place."""
        area = random.uniform(*self.scale) * width * height
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w = min(math.sqrt(area * aspect), width)
        h = min(math.sqrt(area / aspect), height)
        left, top = random.uniform(0, width - w), random.uniform(0, height - h)
        return left, top, left + w, top + h


def batches(
    crops: Crops, *, batch: int, first: int, last: int, workers: int, share: Share = ALL
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of crops numbered from ``first`` up to ``last``, in order.

    Yields:
        Images as uint8 [batch, 3, size, size] and labels as int64 [batch], or a share of them.
    """
    numbers = [
        list(range(start, start + batch)[share.slice]) for start in range(first, last, batch)
    ]
    loader: DataLoader[tuple[Tensor, int]] = DataLoader(
        crops,
        batch_sampler=numbers,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )
    yield from loader
