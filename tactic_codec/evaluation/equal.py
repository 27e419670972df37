"""A model beside the codecs that people use instead, at the same mean bytes.

level ─ mean bytes ─▶ the lowest quality of another codec that needs as many ─▶ a point of each
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tactic_codec.codec import Codec
from tactic_codec.errors import BackendUnavailable
from tactic_codec.evaluation.coders import Coder, ModelCoder, RivalCoder, Uncompressed
from tactic_codec.evaluation.curves import Curve, Point
from tactic_codec.evaluation.evaluate import FolderResult, measure, point
from tactic_codec.evaluation.formats import Report
from tactic_codec.evaluation.pictures import Folder, Picture, held_out, keep_held_out, spread
from tactic_codec.evaluation.pictures import folder as folder_of
from tactic_codec.picture import Pixels
from tactic_codec.rivals import USUAL, Rival, Setting, rival
from tactic_codec.tasks import CLASSIFY, Facts

COMPARED = 60
"""Most pictures of a folder: AVIF takes a tenth of a second for each, at some 20 settings."""

SAMPLE = 24
"""Pictures on which a quality is looked for, before it is settled on all of them."""


class Row(NamedTuple):
    """A line of a table.

    Attributes:
        name: of the coder.
        point: what it reaches.
        beside: the model's level whose bytes it was given; None for the uncompressed pictures.
    """

    name: str
    point: Point
    beside: int | None


Read = Callable[[Path, Sequence[str], int], list[Picture]]
"""Reads pictures of a folder, by their names below it, as squares of so many pixels a side."""


def compare_kept_out(codec: Codec, folders: Sequence[Path], read: Read) -> Report:
    """Compare a model as `compare` does, on squares of what its training kept out, as it saw them.

    Args:
        codec: the model.
        folders: that it was trained from or tested on, at least one.
        read: may leave out what cannot be read.

    Raises:
        DataError: the model does not say what was kept out, nothing of a folder was, or none of
            that can be read.
        TacError: a picture cannot be coded.
        UnknownTask: the model has no classifier.
    """
    model = codec.model
    kept_out = held_out(model)
    size = int(model.manifest["training"]["config"]["data"]["size"])
    chosen = []
    for path in folders:
        files = (file for file in path.rglob("*") if file.is_file())
        names = sorted(file.relative_to(path).as_posix() for file in files)
        names = spread(keep_held_out(str(path), names, kept_out), COMPARED)
        found = read(path, names, size)
        chosen.append(folder_of(CLASSIFY, str(path), found, model.head(CLASSIFY.name).labels))
    return compare(codec, chosen, COMPARED)


def compare(codec: Codec, folders: Sequence[Folder], limit: int) -> Report:
    """Compare a model at every other level with JPEG, WebP and AVIF on pictures it never saw.

    Args:
        codec: the model; its own classifier judges all.
        folders: at least one, of squares of one size.
        limit: most pictures of a folder that were chosen, for the report.

    Raises:
        TacError: a picture cannot be coded.
        UnknownTask: the model has no classifier.
    """
    every = ModelCoder(codec)
    coder = every.at(every.grid[::2])
    notes = [
        "Other codecs stand at the lowest quality with at least as many bytes.",
        "One classifier judges all, and it learned on this model's pictures. To give every codec "
        "a classifier of its own: tactic eval --held-out --retrain-head 300.",
    ]
    others = []
    for name in USUAL:
        try:
            others.append(RivalCoder(rival(name)))
        except BackendUnavailable as exc:
            notes.append(f"{name} is left out: {exc}")
    results = []
    for folder in folders:
        rows = beside_others(coder, codec, folder.pictures, others)
        results.append(_as_result(folder.name, rows, coder, others))
    model = codec.model
    return Report(
        task=CLASSIFY,
        size=len(folders[0].pictures[0].pixels),
        reference=(model.name, model.fingerprint.hex()),
        witness=CLASSIFY.witness(model),
        held_out=True,
        limit=limit,
        within=(0.0, 1.0),
        retrained_steps=None,
        notes=tuple(notes),
        folders=tuple(results),
    )


def beside_others(
    model: ModelCoder,
    reference: Codec,
    pictures: Sequence[Picture],
    others: Sequence[RivalCoder],
) -> list[Row]:
    """Compare a model at each of its levels with other codecs at equal bytes.

    Another codec stands at the lowest quality whose mean size is at least the model's: it is given
    the benefit of the step. Where even its lowest quality needs more, that one stands there.

    Args:
        model: at the levels that are compared.
        reference: whose classifier answers.
        pictures: all of one size, at least one.
        others: codecs, whatever their grids are.

    Returns:
        The uncompressed pictures, then of each level the model and the others.

    Raises:
        TacError: a picture cannot be coded.
    """

    def measured(coder: Coder, setting: Setting) -> list[Facts]:
        return [
            measure(CLASSIFY, reference, picture, coder.code(picture.pixels, setting))
            for picture in pictures
        ]

    def reached(setting: Setting, found: Sequence[Facts]) -> Point:
        return point(CLASSIFY, setting, found, before, pictures)

    before = measured(Uncompressed(), 0)
    rows = [Row("uncompressed", reached(0, before), None)]
    squares = [picture.pixels for picture in pictures]
    searches = [quality_search(codec.rival, squares) for codec in others]
    for level in model.grid:
        own = reached(level, measured(model, level))
        rows.append(Row(model.name, own, int(level)))
        for codec, search in zip(others, searches, strict=True):
            quality = search(own.bytes)
            rows.append(Row(codec.name, reached(quality, measured(codec, quality)), int(level)))
    return rows


def _as_result(
    folder: str, rows: Sequence[Row], model: ModelCoder, others: Sequence[RivalCoder]
) -> FolderResult:
    """Turn the rows of `beside_others` into curves, for tables and plots."""
    curves = []
    for coder in (model, *others):
        # Where a codec needs more at its lowest quality, several levels met the same point.
        points = {row.point.setting: row.point for row in rows if row.name == coder.name}
        ordered = sorted(points.values(), key=lambda point: point.bpp)
        curves.append(Curve(coder.name, coder.kind, coder.describe(), tuple(ordered)))
    uncompressed = rows[0].point
    return FolderResult(
        folder=folder,
        images=uncompressed.images,
        labelled=uncompressed.scores["accuracy"] is not None,
        uncompressed=uncompressed,
        curves=tuple(curves),
        comparisons=(),
    )


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
