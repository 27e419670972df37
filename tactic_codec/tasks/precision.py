"""How well boxes are found: COCO's mean average precision, over draws of the pictures.

    things, boxes ─ pycocotools ─▶ pairs at ten overlaps ─ draws ─▶ curves of precision and recall

pycocotools pairs boxes with things. The sums are done here, because a draw only weighs pictures
anew: one in which each picture counts once gives what pycocotools itself would.
"""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tactic_codec.boxes import Box
from tactic_codec.errors import needed
from tactic_codec.tasks.annotations import Thing

OVERLAPS = np.linspace(0.5, 0.95, 10)
"""Intersections over union from which on a box counts as found."""

_RECALLS = np.linspace(0, 1, 101)


def mean_precisions(
    things: Sequence[Sequence[Thing]],
    found: Sequence[Sequence[Box]],
    draws: NDArray[np.integer[Any]],
) -> NDArray[np.float64]:
    """Return the mean average precision of the classes that occur.

    Args:
        things: of each picture.
        found: boxes of each.
        draws: [R, pictures], how often each picture counts.

    Returns:
        [overlaps, R]; NaN for draws without anything that counts.

    Raises:
        BackendUnavailable: pycocotools is missing.
    """
    precisions = [
        _precisions(pairs, draws)
        for pairs in _paired(things, found)
        if sum(int((~image["gtIgnore"].astype(bool)).sum()) for image in pairs if image)
    ]
    if not precisions:
        return np.full((len(OVERLAPS), len(draws)), np.nan)
    stacked = np.stack(precisions)
    known = ~np.isnan(stacked)
    counts = known.sum(axis=0)
    sums = np.where(known, stacked, 0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _paired(
    things: Sequence[Sequence[Thing]], found: Sequence[Sequence[Box]]
) -> list[list[dict[str, Any] | None]]:
    """Return pycocotools' pairs by class and picture."""
    with needed("mean average precision needs pycocotools; run: pip install pycocotools"):
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

    truth = [
        {**_record(number, thing.box), "iscrowd": int(not thing.counts)}
        for number, own in enumerate(things)
        for thing in own
    ]
    said = [_record(number, box) for number, own in enumerate(found) for box in own]
    for records in (truth, said):
        for number, record in enumerate(records, start=1):  # 0 stands for no match
            record["id"] = number
    classes = sorted({record["category_id"] for record in truth})
    dataset = {
        "images": [{"id": number} for number in range(len(things))],
        "categories": [{"id": index} for index in classes],
    }
    with contextlib.redirect_stdout(io.StringIO()):  # it tells of its progress
        pair = []
        for records in (truth, said):
            coco = COCO()
            coco.dataset = {**dataset, "annotations": records}
            coco.createIndex()
            pair.append(coco)
        judge = COCOeval(*pair, "bbox")
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.params.iouThrs = OVERLAPS
        judge.evaluate()
    pictures = len(things)
    return [judge.evalImgs[k * pictures : (k + 1) * pictures] for k in range(len(classes))]


def _record(picture: int, box: Box) -> dict[str, Any]:
    width, height = box.right - box.left, box.bottom - box.top
    return {
        "image_id": picture,
        "category_id": box.kind,
        "bbox": [box.left, box.top, width, height],
        "area": width * height,
        "score": box.score,
        "iscrowd": 0,
    }


def _precisions(
    images: Sequence[dict[str, Any] | None], draws: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Return a class's average precision, [overlaps, R]; NaN where a draw has nothing of it."""
    present = [(number, image) for number, image in enumerate(images) if image]
    counted = np.zeros(len(images))
    for number, image in present:
        counted[number] = (~image["gtIgnore"].astype(bool)).sum()
    expected = draws @ counted
    scores = np.concatenate([image["dtScores"] for _, image in present])
    order = np.argsort(-scores, kind="stable")
    owner = np.concatenate([np.full(len(i["dtScores"]), n) for n, i in present])[order]
    matched = np.concatenate([image["dtMatches"] for _, image in present], axis=1)[:, order] > 0
    ignored = np.concatenate([i["dtIgnore"] for _, i in present], axis=1)[:, order].astype(bool)
    weights = draws[:, owner.astype(int)]
    results = []
    for hits, left_out in zip(matched, ignored, strict=True):
        true = hits & ~left_out
        # Precision falls between two hits, so that only hits matter.
        right = (weights * true).cumsum(axis=1)[:, true]
        wrong = (weights * (~hits & ~left_out)).cumsum(axis=1)[:, true]
        precision = right / np.maximum(right + wrong, 1)
        reached = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        recall = right / np.maximum(expected, 1)[:, None]
        passed = np.searchsorted(_RECALLS, recall, side="right")
        steps = np.diff(passed, axis=1, prepend=0)
        results.append((reached * steps).sum(axis=1) / len(_RECALLS))
    return np.where(expected > 0, np.stack(results), np.nan)
