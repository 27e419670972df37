"""Folders of images with label maps: found, checked, split, and how rare their classes are.

    <folder>/images/<name>.jpg     any format that the image room reads
    <folder>/labels/<name>.png     8-bit grey or palette, same size; values are class indices

Label maps are of the image as it is shown, turned upright as its EXIF data say.
What a label map has beside the classes is void: no loss, never counted.
"""

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tactic_codec import picture as image
from tactic_codec.errors import DataError, ImageError, LimitExceeded
from tactic_codec.networks.measures import class_weights
from tactic_codec.training.config import DataConfig, MasksConfig
from tactic_codec.training.data import (
    Example,
    ImageFolders,
    Part,
    Skipped,
    split,
    tested,
)

IMAGES, LABELS = "images", "labels"


def has_masks(folder: Path) -> bool:
    """Tell whether a folder is laid out for segmentation."""
    return (folder / IMAGES).is_dir() and (folder / LABELS).is_dir()


def scan_masks(
    folders: Sequence[Path],
    masks: MasksConfig,
    config: DataConfig,
    seed: int,
    *,
    tests: Sequence[Path] = (),
    kept_out: Collection[str] = (),
) -> ImageFolders:
    """Find, read once and split the images of some folders, with their label maps.

    Args:
        folders: each holds ``images`` and ``labels``.
        masks: the classes.
        config: shares of the split.
        seed: of the split.
        tests: folders that are tested on and nothing else, see `data.scan`.
        kept_out: likewise.

    Raises:
        DataError: a folder is laid out otherwise, holds no pair that can be read, or no pixel of
            any class.
    """
    skipped: list[Skipped] = []
    parts: list[Part] = []
    counts = np.zeros(len(masks.labels), np.int64)
    found_in: dict[Path, NDArray[np.int64]] = {}
    with ThreadPoolExecutor() as pool:
        for number, folder in enumerate((*folders, *tests)):
            good = []
            pairs = _list_pairs(folder)
            for example, found in zip(pairs, pool.map(_read, pairs), strict=True):
                if isinstance(found, str):
                    skipped.append(Skipped(example.path, found))
                    continue
                good.append(example)
                found_in[example.path] = found[: len(counts)]
            random = np.random.default_rng(seed)
            if number >= len(folders):
                parts.append(tested(folder, good, random))
                continue
            share = config.test_shares[number] if config.test_shares else config.test
            shares = (None if tests else share, config.calibration)
            parts.append(split(folder, good, shares, random, True, set(kept_out)))
    for part in parts:
        for name, examples in (("trained", part.train), ("tested", part.test)):
            pixels = sum((found_in[e.path] for e in examples), np.zeros_like(counts))
            if examples and not pixels.any():
                raise DataError(
                    f"{part.folder}: no label map that is {name} on has a value below "
                    f"{len(counts)}, which are the classes"
                )
            if name == "trained":
                counts += pixels
    return ImageFolders(masks.labels, tuple(parts), tuple(skipped), class_weights(counts))


def _list_pairs(folder: Path) -> list[Example]:
    if not has_masks(folder):
        raise DataError(
            f"{folder} has no label maps; expected {IMAGES}/NAME.jpg and {LABELS}/NAME.png in it"
        )
    paths = sorted(p for p in (folder / IMAGES).iterdir() if p.suffix.lower() in image.SUFFIXES)
    if not paths:
        raise DataError(f"{folder / IMAGES} holds no images")
    return [Example(path, mask=folder / LABELS / f"{path.stem}.png") for path in paths]


def _read(example: Example) -> NDArray[np.int64] | str:
    """Count the values of an image's label map, or return why the pair cannot be used."""
    assert example.mask is not None
    try:
        pixels, labels = image.load(example.path), image.load_labels(example.mask)
    except (ImageError, LimitExceeded, OSError) as exc:
        return str(exc)
    if pixels.shape[:2] != labels.shape:
        sizes = [f"{shape[1]} x {shape[0]}" for shape in (pixels.shape, labels.shape)]
        return f"the upright image has {sizes[0]} pixels, its label map {sizes[1]}"
    return np.bincount(labels.ravel(), minlength=256)
