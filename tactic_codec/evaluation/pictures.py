"""The pictures of a folder that are evaluated: which, how they are cut, and what they show.

DIR/any/where/name.jpg         squares; the first folder may be the class that they show
DIR/images/name.jpg            whole pictures, each with its label map, an 8-bit PNG of its
DIR/labels/name.png            size, whose values are classes; other values are void

Pictures are turned upright as their EXIF data say, and label maps are expected so, as annotation
tools make them: those of a picture as it is stored on its side have another size, and are refused.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple, TypeVar

import numpy as np

from tactic_codec import picture as image
from tactic_codec.errors import ConfigError, DataError
from tactic_codec.evaluation.cache import picture_hash
from tactic_codec.metrics import LabelMap
from tactic_codec.model import HELD_OUT, Model
from tactic_codec.picture import Pixels

IMAGES, LABELS = "images", "labels"
"""Of a folder with label maps. Training has the same two names: neither room may know the other,
and no room below both reads folders of pictures."""

TRAINING_PICTURES = 2000
"""150 kB each in memory at 224×224, 7 bytes a pixel where they are whole with their label maps and
as decoded; and all are coded for every point."""

T = TypeVar("T")


class Picture(NamedTuple):
    """A square that is coded.

    Attributes:
        name: path below its folder.
        pixels: uint8 [size, size, 3].
        hash: of the pixels.
    """

    name: str
    pixels: Pixels
    hash: str

    @property
    def content(self) -> str:
        """Hash of the pixels, see `MaskPicture`."""
        return self.hash


@dataclass(frozen=True)
class Folder:
    """The pictures of one folder.

    Attributes:
        name: the folder, as it was given.
        pictures: in the order of their names, at least one.
        labels: the class of each in the reference network's logits; None where that is not known.
    """

    name: str
    pictures: tuple[Picture, ...]
    labels: tuple[int, ...] | None


def picture(name: str, pixels: Pixels, size: int) -> Picture:
    """Scale and cut a picture, uint8 [H, W, 3], to the square that is coded."""
    square = image.square(pixels, size)
    return Picture(name, square, picture_hash(square))


def folder(name: str, pictures: Sequence[Picture], classes: Sequence[str]) -> Folder:
    """Put the pictures of a folder together.

    Each picture's class is the first folder of its path. Only if every one of these is a class of
    the reference network, the pictures count as labelled.

    Args:
        name: of the folder.
        pictures: any order.
        classes: the reference network's, in the order of its logits.

    Raises:
        DataError: there are no pictures.
    """
    _require_pictures(name, pictures)
    ordered = tuple(sorted(pictures, key=lambda picture: picture.name))
    known = {name: index for index, name in enumerate(classes)}
    labels = tuple(known.get(class_folder(p.name), -1) for p in ordered)
    return Folder(name, ordered, None if -1 in labels else labels)


def class_folder(name: str) -> str:
    """Return the first folder of a picture's path, or "" where it lies in none."""
    parts = PurePath(name).parts
    return parts[0] if len(parts) > 1 else ""


# --- With label maps ------------------------------------------------------------------------------


class MaskPicture(NamedTuple):
    """A whole picture that is coded, with its label map.

    Attributes:
        name: path below its folder.
        pixels: uint8 [H, W, 3].
        labels: uint8 [H, W]; values that are no class are void.
        content: hash of the pixels.
        hash: of pixels and label map.
    """

    name: str
    pixels: Pixels
    labels: LabelMap
    content: str
    hash: str


@dataclass(frozen=True)
class MaskFolder:
    """The pictures of one folder with label maps.

    Attributes:
        name: the folder, as it was given.
        pictures: in the order of their names, at least one.
        counts: pixels of each class over all pictures, at least one in all.
    """

    name: str
    pictures: tuple[MaskPicture, ...]
    counts: tuple[int, ...]


def has_masks(folder: Path) -> bool:
    """Tell whether a folder is laid out for segmentation."""
    return (folder / IMAGES).is_dir() and (folder / LABELS).is_dir()


def segmented(model: Model, folders: Sequence[str]) -> bool:
    """Tell whether folders are segmented, which only a model can that has a network for it.

    Raises:
        ConfigError: they are of two kinds, or of one that the model has no network for.
    """
    if "segment" not in model.heads:
        masked = [folder for folder in folders if has_masks(Path(folder))]
        if masked:
            raise ConfigError(
                f"{masked[0]} holds label maps, and model {model.name} does not segment; "
                f"name a model that does first, or give the folder {IMAGES}/ alone"
            )
        return False
    plain = [folder for folder in folders if not has_masks(Path(folder))]
    if plain and len(plain) < len(folders):
        raise ConfigError(
            f"{plain[0]} does not hold {IMAGES}/ and {LABELS}/, as other folders here do; "
            "evaluate pictures with label maps and those without by two commands"
        )
    if plain and "classify" not in model.heads:
        raise ConfigError(
            f"{plain[0]} does not hold {IMAGES}/ and {LABELS}/, and model {model.name} "
            "has no classifier for pictures without label maps"
        )
    return not plain


def mask_picture(name: str, pixels: Pixels, labels: LabelMap) -> MaskPicture:
    """Put a picture, uint8 [H, W, 3], and its label map, uint8 [H, W], together.

    Raises:
        DataError: their sizes differ.
    """
    if pixels.shape[:2] != labels.shape:
        sizes = [f"{shape[1]} x {shape[0]}" for shape in (pixels.shape, labels.shape)]
        raise DataError(f"the upright picture has {sizes[0]} pixels, its label map {sizes[1]}")
    content = picture_hash(pixels)
    return MaskPicture(name, pixels, labels, content, f"{content} {picture_hash(labels)}")


def mask_folder(name: str, pictures: Sequence[MaskPicture], classes: Sequence[str]) -> MaskFolder:
    """Put the pictures of a folder together.

    Args:
        name: of the folder.
        pictures: any order.
        classes: the reference network's, in the order of its logits.

    Raises:
        DataError: there are no pictures, or none has a pixel of any class.
    """
    _require_pictures(name, pictures)
    counts = np.zeros(256, np.int64)
    for picture in pictures:
        counts += np.bincount(picture.labels.ravel(), minlength=256)
    known = counts[: len(classes)]
    if not known.any():
        raise DataError(
            f"{name}: no label map has a value below {len(classes)}, which are the reference "
            f"network's classes ({', '.join(classes)}); give label maps of these"
        )
    ordered = tuple(sorted(pictures, key=lambda picture: picture.name))
    return MaskFolder(name, ordered, tuple(known.tolist()))


def _require_pictures(name: str, pictures: Sequence[object]) -> None:
    if not pictures:
        raise DataError(f"{name}: no picture is left to evaluate; give other pictures")


# --- Which ----------------------------------------------------------------------------------------


def held_out(model: Model) -> frozenset[str]:
    """Return the paths of the images that a model's training kept out.

    Raises:
        DataError: the model does not say.
        DamagedModel: its list differs from its manifest, or is not text.
    """
    kept_out = model.held_out()
    if kept_out is None:
        raise DataError(
            f"model {model.name} has no {HELD_OUT} that says which images its training kept out; "
            "leave --held-out away, and give images that it never saw"
        )
    return kept_out


def keep_held_out(folder: str, names: Sequence[str], kept_out: Collection[str]) -> list[str]:
    """Return the names that training kept out, in their order.

    Args:
        folder: for the message.
        names: paths below it, with "/" between their parts.
        kept_out: see `held_out`.

    Raises:
        DataError: there are none.
    """
    chosen = [name for name in names if name in kept_out]
    if not chosen:
        found = f"found {names[0]}" if names else "found no pictures"
        listed = f"the list has {min(kept_out)}" if kept_out else "the list is empty"
        raise DataError(
            f"{folder}: none of its {len(names)} pictures is among the {len(kept_out)} that the "
            f"model's training kept out ({found}, {listed}); give the folder that the model was "
            "trained from, or leave --held-out away if it saw none of these pictures"
        )
    return chosen


def spread(items: Sequence[T], limit: int | None) -> list[T]:
    """Return at most ``limit`` items, spread evenly over them in their order."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]


def thinned(pictures: Sequence[T]) -> list[T]:
    """Return every nth picture to train heads on, so that at most `TRAINING_PICTURES` are left."""
    every = -(-len(pictures) // TRAINING_PICTURES) or 1
    return list(pictures[::every])
