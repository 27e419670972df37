"""What a run says of its folders and its classes, for people."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tactic_codec.model import HELD_OUT
from tactic_codec.training.checkpoint import LOG
from tactic_codec.training.data import ImageFolders, Part


def documents_of(data: ImageFolders, run: Path) -> dict[str, bytes]:
    """Return the log, and a list of the images that training never saw."""
    lines = ["# Images that training kept out, by their place in their data folder."]
    # Names below different folders may be the same: those of images that were trained on, too, are
    # left out, so that nobody takes the one for the other.
    seen = {e.below(part.folder) for part in data.parts for e in (*part.train, *part.calibration)}
    for part, name in zip(data.parts, names_of(data), strict=True):
        lines.append(f"# {name}")
        lines += sorted({e.below(part.folder) for e in part.test} - seen)
    documents = {HELD_OUT: ("\n".join(lines) + "\n").encode()}
    if (run / LOG).exists():
        documents[LOG] = (run / LOG).read_bytes()
    return documents


def names_of(data: ImageFolders) -> list[str]:
    """Return a name for each folder, see `_name`."""
    paths = [part.folder.resolve() for part in data.parts]
    return [_name(path, [other for other in paths if other != path]) for path in paths]


def _name(path: Path, others: Sequence[Path]) -> str:
    """Return a folder's own name, and its parent's too where it is one part of a data set.

    Of further folders above it come as many as tell it from the others.
    """
    part_of_set = path.name in ("train", "training", "val", "validation", "test")
    count = 2 if part_of_set else 1
    while any(other.parts[-count:] == path.parts[-count:] for other in others):
        count += 1
    return Path(*path.parts[-count:]).as_posix()


def describe_part(part: Part, name: str) -> dict[str, Any]:
    """Return what a manifest says of a folder that was trained with."""
    return {
        "folder": name,
        "train": len(part.train),
        "calibration": len(part.calibration),
        "test": len(part.test),
    }


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
