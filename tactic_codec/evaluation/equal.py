"""A model beside the codecs that people use instead, at the same mean bytes.

level ─ mean bytes ─▶ the lowest quality of another codec that needs as many ─▶ a point of each
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tactic_codec.codec import Codec
from tactic_codec.errors import BackendUnavailable
from tactic_codec.evaluation.coders import (
    Coder,
    Conventional,
    ModelCoder,
    Uncompressed,
    conventional,
)
from tactic_codec.evaluation.curves import Curve, Point, Setting
from tactic_codec.evaluation.evaluate import FolderResult, measure, point
from tactic_codec.evaluation.formats import Report
from tactic_codec.evaluation.pictures import Folder, Picture, held_out, keep_held_out, spread
from tactic_codec.evaluation.pictures import folder as folder_of
from tactic_codec.picture import Pixels
from tactic_codec.tasks import CLASSIFY, Facts

RIVALS = ("jpeg", "webp", "avif")

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
    for name in RIVALS:
        try:
            others.append(conventional(name))
        except BackendUnavailable as exc:
            notes.append(f"{name} is left out: {exc}")
    results = []
    for folder in folders:
        rows = beside_others(coder, codec, folder.pictures, others)
        results.append(_as_result(folder.name, rows, coder, others))
    model = codec.model
    head = model.head(CLASSIFY.name)
    return Report(
        task=CLASSIFY,
        size=len(folders[0].pictures[0].pixels),
        reference=(model.name, model.fingerprint.hex()),
        network=head.network,
        labels=head.labels,
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
    others: Sequence[Conventional],
) -> list[Row]:
    """Compare a model at each of its levels with other codecs at equal bytes.

    Another codec stands at the lowest quality whose mean size is at least the model's: it is given
    the benefit of the step. Where even its lowest quality needs more, that one stands there.

    Args:
        model: at the levels that are compared.
        reference: whose classifier answers.
        pictures: all of one size, at least one.
        others: codecs whose settings are whole numbers that rise with the rate.

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
    searches = [quality_search(codec, squares) for codec in others]
    for level in model.grid:
        own = reached(level, measured(model, level))
        rows.append(Row(model.name, own, int(level)))
        for codec, search in zip(others, searches, strict=True):
            quality = search(own.bytes)
            rows.append(Row(codec.name, reached(quality, measured(codec, quality)), int(level)))
    return rows


def _as_result(
    folder: str, rows: Sequence[Row], model: ModelCoder, others: Sequence[Conventional]
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


def quality_search(codec: Conventional, pictures: Sequence[Pixels]) -> Callable[[float], int]:
    """Return what finds the lowest quality whose mean bytes reach a target, the highest if none.

    What it coded for one target it does not code again for another.
    """
    low, high = (int(bound) for bound in codec.bounds)
    every = -(-len(pictures) // SAMPLE)

    @cache
    def mean_bytes(quality: int, every: int) -> float:
        return float(np.mean([len(codec.encode(p, quality)) for p in pictures[::every]]))

    def search(target: float) -> int:
        found = first_that(lambda q: mean_bytes(q, every) >= target, low, high)
        # The sample's mean is near that of all, not equal to it.
        while found < high and mean_bytes(found, 1) < target:
            found += 1
        while found > low and mean_bytes(found - 1, 1) >= target:
            found -= 1
        return found

    return search


def first_that(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Return by bisection the lowest number at which something begins to hold; high if nowhere."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
