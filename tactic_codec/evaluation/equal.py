"""A model beside the codecs that people use instead, at the same mean bytes.

level ─ mean bytes ─▶ the lowest quality of another codec that needs as many ─▶ a point of each
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from tactic_codec.codec import Codec
from tactic_codec.errors import BackendUnavailable
from tactic_codec.evaluation.cache import Cache
from tactic_codec.evaluation.coders import ModelCoder, RivalCoder
from tactic_codec.evaluation.evaluate import Evaluation
from tactic_codec.evaluation.pictures import Folder, held_out, keep_held_out, spread
from tactic_codec.evaluation.results import FolderResult, Report
from tactic_codec.model import Model
from tactic_codec.picture import Pixels
from tactic_codec.rivals import USUAL, Rival, Setting, rival

COMPARED = 60
"""Most pictures of a folder: AVIF takes a tenth of a second for each, at some 20 settings."""

SAMPLE = 24
"""Pictures on which a quality is looked for, before it is settled on all of them."""

NOTES = (
    "Other codecs stand at the lowest quality with at least as many bytes.",
    "One classifier judges all, and it learned on this model's pictures. To give every codec "
    "a classifier of its own: tactic eval --held-out --retrain-head 300.",
)


def kept_out(model: Model, folder: Path) -> list[str]:
    """Choose pictures of a folder that a model was trained from or tested on, by their names.

    Raises:
        DataError: the model does not say what its training kept out, or nothing of the folder was.
    """
    files = (file for file in folder.rglob("*") if file.is_file())
    names = sorted(file.relative_to(folder).as_posix() for file in files)
    return spread(keep_held_out(str(folder), names, held_out(model)), COMPARED)


def compare(codec: Codec, folders: Sequence[Folder]) -> Report:
    """Compare a model at every other level with JPEG, WebP and AVIF on pictures it never saw.

    Args:
        codec: the model; its own classifier judges all.
        folders: at least one, of squares of one size.

    Raises:
        TacError: a picture cannot be coded.
        UnknownTask: the model has no classifier.
    """
    notes, others = list(NOTES), []
    for name in USUAL:
        try:
            others.append(rival(name))
        except BackendUnavailable as exc:
            notes.append(f"{name} is left out: {exc}")
    every = ModelCoder(codec)
    evaluation = Evaluation(
        codec,
        Cache(None),
        compare=False,
        size=len(folders[0].pictures[0].pixels),
        held_out=True,
        limit=COMPARED,
        notes=tuple(notes),
    )
    results = [beside(evaluation, f, every.at(every.grid[::2]), others) for f in folders]
    return replace(evaluation.run([], []), folders=tuple(results))


def beside(
    evaluation: Evaluation, folder: Folder, model: ModelCoder, others: Sequence[Rival]
) -> FolderResult:
    """Measure a model at its levels, and other codecs at equal bytes.

    Another codec stands at the lowest quality whose mean size is at least the model's: it is given
    the benefit of the step. Where even its lowest quality needs more, that one stands there.

    Raises:
        TacError: a picture cannot be coded.
    """
    (own,) = evaluation.on_folder(folder, [model]).curves
    squares = [picture.pixels for picture in folder.pictures]
    coders = []
    for other in others:
        search = quality_search(other, squares)
        qualities = dict.fromkeys(search(point.bytes) for point in own.points)
        coders.append(RivalCoder(other, tuple(qualities)))
    return evaluation.on_folder(folder, [model, *coders])


def quality_search(codec: Rival, pictures: Sequence[Pixels]) -> Callable[[float], Setting]:
    """Return what finds the lowest quality whose mean bytes reach a target, the highest if none.

    What it coded for one target it does not code again for another.
    """
    qualities = codec.qualities
    last = len(qualities) - 1
    every = -(-len(pictures) // SAMPLE)

    @cache
    def mean_bytes(index: int, every: int) -> float:
        sizes = [len(codec.encode(p, qualities[index])) for p in pictures[::every]]
        return float(np.mean(sizes))

    def search(target: float) -> Setting:
        found = bisect_left(range(last), target, key=lambda index: mean_bytes(index, every))
        # The sample's mean is near that of all, not equal to it.
        while found < last and mean_bytes(found, 1) < target:
            found += 1
        while found > 0 and mean_bytes(found - 1, 1) >= target:
            found -= 1
        return qualities[found]

    return search
