"""Which objects a picture shows, and where.

frame ─ codec ─▶ pixels ─ scale, pad ─ task network ─ scores, overlaps ─▶ boxes in the picture

A picture's truth is the boxes that somebody drew, see `annotations`. Where nobody did, what was
found in the picture itself stands for it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from tactic_codec import metrics
from tactic_codec.boxes import LEAST_SCORE, MIN_SCORE, Box, Shared, certain, resized, shared
from tactic_codec.codec import Codec, Coded, opened
from tactic_codec.container import Frame
from tactic_codec.errors import real_number, whole_number
from tactic_codec.model import Model
from tactic_codec.picture import Pixels
from tactic_codec.tasks import annotations
from tactic_codec.tasks.annotations import Maker, Reader, Thing
from tactic_codec.tasks.precision import mean_precisions
from tactic_codec.tasks.protocol import Facts, Scores, Share, Summary, Task, Told, Verdict


@dataclass(frozen=True, slots=True)
class Detection:
    """An object in a picture.

    Attributes:
        label: name of its class.
        index: of the class.
        score: how certain the network is, 0 to 1.
        box: left, top, right and bottom, in pixels of the picture from its top left corner.
    """

    label: str
    index: int
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Detections:
    """What was found in a picture.

    Attributes:
        width: of the picture, in pixels.
        height: likewise.
        found: the most certain first.
    """

    width: int
    height: int
    found: tuple[Detection, ...]

    def __iter__(self) -> Iterator[Detection]:
        """Go through what was found."""
        return iter(self.found)

    def __len__(self) -> int:
        """Return how many objects were found."""
        return len(self.found)

    def __getitem__(self, index: int) -> Detection:
        """Return an object by its place, 0 for the most certain."""
        return self.found[index]

    def at_least(self, min_score: float) -> "Detections":
        """Return what has a score, 0 to 1; errors as `detect_pixels` for what is none."""
        min_score = _checked(min_score)
        return replace(self, found=tuple(one for one in self.found if one.score >= min_score))

    def at(self, width: int, height: int) -> "Detections":
        """Return the same in another size of the picture, at least 1 x 1 pixels."""
        width, height = whole_number("width", width, 1), whole_number("height", height, 1)
        if (width, height) == (self.width, self.height):
            return self
        moved = resized(self.boxes(), width / self.width, height / self.height)
        found = (replace(one, box=box[2:]) for one, box in zip(self.found, moved, strict=True))
        return Detections(width, height, tuple(found))

    def boxes(self) -> list[Box]:
        """Return what was found without the names of classes."""
        return [Box(one.index, one.score, *one.box) for one in self.found]

    def overlay(self, pixels: Pixels) -> Pixels:
        """Draw the boxes into a copy of the picture, uint8 [H, W, 3] of any size.

        Raises:
            ValueError: the array has another shape or type.
        """
        from tactic_codec.picture.drawing import Outline, draw_outlines

        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            found = f"{pixels.dtype} {list(pixels.shape)}"
            raise ValueError(f"pixels must be uint8 [height, width, 3], not {found}")
        height, width, _ = pixels.shape
        here = self.at(width, height).found[::-1]
        return draw_outlines(
            pixels, [Outline(one.box, f"{one.label} {one.score:.2f}", one.index) for one in here]
        )


def _checked(min_score: float) -> float:
    if not 0 <= (share := real_number("min_score", min_score)) <= 1:
        raise ValueError(f"min_score must be 0 to 1, not {share}")
    return share


def detect_pixels(codec: Codec, pixels: Pixels, min_score: float = MIN_SCORE) -> Detections:
    """Find objects in a picture, uint8 [H, W, 3], with the model's task network.

    Args:
        codec: the model with its runtime.
        pixels: the picture.
        min_score: of what is returned; below 0.05 nothing ever is.

    Raises:
        UnknownTask: the model has no detector.
        DamagedModel: its network does not say what the manifest says of it.
        TypeError: ``min_score`` is no number.
        ValueError: ``min_score`` is not 0 to 1.
    """
    min_score = _checked(min_score)
    labels = codec.model.head(DETECT.name).labels
    height, width, _ = pixels.shape
    found = (
        Detection(labels[box.kind], box.kind, box.score, box[2:]) for box in codec.boxes(pixels)
    )
    return Detections(width, height, tuple(found)).at_least(min_score)


def detect(
    data: Coded,
    min_score: float = MIN_SCORE,
    *,
    codec: Codec | None = None,
    device: str = "auto",
    max_pixels: int | None = None,
) -> Detections:
    """Find objects in a coded picture.

    Args:
        data: one frame, in any form that `Codec.decompress` takes.
        min_score: of what is returned, 0 to 1.
        codec: decodes and detects; by default the installed model that the frame names.
        device: where ``codec`` is not given.
        max_pixels: the largest picture that is read, see `Codec.decompress`.

    Raises:
        FormatError: the bytes are not one frame.
        LimitExceeded: the picture is too large.
        UnknownModel: the model is not installed, or ``codec`` is of another.
        UnknownTask: the model has no detector.
        ValueError: ``min_score`` is not 0 to 1.
    """
    frame, codec = opened(data, codec, device, max_pixels)
    found = detect_pixels(codec, codec.look(frame, "detect"), min_score)
    return DETECT.in_picture(found, frame)


class Detect(Task[list[Thing], Detections]):
    """See `Task`; the truth is what somebody marked."""

    name = "detect"
    network = "detector"
    truth = "boxes"
    layout = "images/ and labels/NAME.txt, annotations/FILE.json or Annotations/NAME.xml"
    pictures = ""
    whole = True
    titles: ClassVar[Mapping[str, str]] = {"mean_ap50": "mAP50", "mean_ap": "mAP50:95", "f1": "F1"}
    headline: ClassVar[Mapping[str, str]] = {"mean_ap50": "mAP50", "f1": "F1"}
    figured = ("mean_ap50", "f1", "uncompressed_mean_ap50", "uncompressed_f1")

    def ask(self, codec: Codec, pixels: Pixels) -> Detections:
        """Return all that was found, see `detect_pixels`."""
        return detect_pixels(codec, pixels, LEAST_SCORE)

    def in_picture(self, answer: Detections, frame: Frame) -> Detections:
        """Scale the boxes, see `Task`."""
        return answer.at(frame.width, frame.height)

    def alike(self, before: Detections, after: Detections) -> float:
        """Return F1 of the certain boxes, see `Task`."""
        return shared(certain(before.boxes()), certain(after.boxes())).f1

    def as_json(self, answer: Detections) -> Facts:
        """Return each object, see `Task`."""
        return {
            "width": answer.width,
            "height": answer.height,
            "detections": [
                {
                    "label": one.label,
                    "index": one.index,
                    "score": round(one.score, 4),
                    "box": [round(edge, 1) for edge in one.box],
                }
                for one in answer
            ],
        }

    def told(self, answer: Detections) -> Told:
        """Return label and box, and the score, see `Task`."""
        return [
            (f"{one.label} " + " ".join(f"{edge:.0f}" for edge in one.box), one.score)
            for one in answer
        ]

    def certain(self, answer: Detections) -> Detections:
        """Leave out what the network is not certain of, see `Task`."""
        return answer.at_least(MIN_SCORE)

    def drawn(self, answer: Detections, pixels: Pixels) -> Pixels:
        """Draw the boxes, see `Task`."""
        return answer.overlay(pixels)

    def claims(self, folder: Path) -> bool:
        """Claim folders with boxes, see `annotations.found_in`."""
        return annotations.found_in(folder) is not None

    def reader(
        self, folder: Path, classes: Sequence[str]
    ) -> Callable[[str, Pixels], list[Thing] | None]:
        """Read boxes where there are some, see `annotations`."""
        of_classes = annotations.found_in(folder)
        if of_classes is None:
            return lambda name, pixels: None
        read = of_classes(classes)
        return lambda name, pixels: read(name, pixels.shape[1], pixels.shape[0])

    def complaint(self, truths: Sequence[list[Thing] | None], labels: Sequence[str]) -> str | None:
        """Complain where nothing of the network's classes is marked."""
        if None in truths or any(thing.counts for things in truths for thing in things or ()):
            return None
        return (
            f"no box is of a class that the reference network knows: {', '.join(labels[:5])} …; "
            "'tactic models show' lists them"
        )

    def facts(
        self,
        truth: list[Thing] | None,
        answer: Detections,
        before: Callable[[], Detections] | None = None,
    ) -> Facts:
        """Keep the boxes, see `Task`."""
        return {
            "boxes": [
                [box.kind, round(box.score, 5), *(round(edge, 2) for edge in box[2:])]
                for box in answer.boxes()
            ]
        }

    def scores(
        self, found: Sequence[Facts], before: Sequence[Facts], truths: Sequence[list[Thing] | None]
    ) -> Scores:
        """Return mAP50 and mAP50:95 where all boxes are known, and F1 against those from before.

        Intervals are of draws of the pictures.
        """
        boxes, uncoded = ([_boxes_of(facts) for facts in both] for both in (found, before))
        alike = [shared(certain(a), certain(b)) for a, b in zip(uncoded, boxes, strict=True)]
        f1 = _f1(alike)
        if None in truths:
            return {"f1": f1, "mean_ap50": None, "mean_ap": None}
        half, every = _mean_precision([truth or [] for truth in truths], boxes)
        return {"mean_ap50": half, "mean_ap": every, "f1": f1}

    def expected(self, model: Model, given: tuple[Maker, str] | None) -> "_Expected | None":
        """Expect what a file marks under a picture's name, see `Task`."""
        if given is None:
            return None
        maker, name = given
        labels = model.head(self.name).labels
        return _Expected(labels, maker(labels), name)

    def verdict(self, answer: Detections, expected: "_Expected") -> Verdict:
        """Compare boxes, see `Task`."""
        things = expected.read(expected.name, answer.width, answer.height)
        wanted = [thing.box for thing in things if thing.counts]
        count = shared(wanted, certain(answer.boxes()))
        facts = dict(zip(("boxes", "found", "right"), count, strict=True))
        cells = {name: str(value) for name, value in facts.items()}
        return Verdict(facts, cells, (expected.labels, things, answer.boxes()), count.f1)

    def summary(self, verdicts: Sequence[Verdict]) -> Summary | None:
        """Return the mean average precision of all pictures, see `Task`."""
        if len({verdict.counted[0] for verdict in verdicts}) != 1:
            return None
        _, things, boxes = zip(*(verdict.counted for verdict in verdicts), strict=True)
        half, every = _mean_precision(things, boxes)
        if half is None or every is None:
            return None
        facts = {
            "mean_ap50": round(half.share, 6),
            "mean_ap50_low": round(half.low, 6),
            "mean_ap50_high": round(half.high, 6),
            "mean_ap": round(every.share, 6),
        }
        shown = [f"{100 * value:.1f}" for value in (*half, every.share)]
        return Summary(
            name="detection",
            facts={"pictures": len(verdicts), **facts},
            sums=facts,
            sum_cells={
                name: str(sum(verdict.facts[name] for verdict in verdicts))
                for name in ("boxes", "found", "right")
            },
            notes=[
                f"mAP50: {shown[0]} %, 95 % interval {shown[1]} to {shown[2]} %; "
                f"mAP50:95: {shown[3]} %, of {len(verdicts)} pictures"
            ],
            headline=("mAP50", half),
        )

    def footnote(self, network: str, size: int | None) -> str:
        """Say what a mean average precision is, see `Task`."""
        return (
            f"mAP50, mAP50:95: COCO's mean average precision, over the classes that occur, by the "
            f"{network}. F1: of boxes with a score of at least {MIN_SCORE}, against those of the "
            f"uncompressed picture; same class, intersection over union at least a half. In "
            f"brackets 95 % intervals from {metrics.RESAMPLES} draws of the pictures. bpp: mean of "
            f"8 × bytes of a file / its pixels."
        )


class _Expected(NamedTuple):
    labels: tuple[str, ...]
    read: Reader
    name: str


def _boxes_of(facts: Facts) -> list[Box]:
    return [Box(int(index), *rest) for index, *rest in facts["boxes"]]


def _f1(counts: Sequence[Shared]) -> Share:
    """Return F1 over the boxes of all pictures, with its interval over draws of the pictures."""
    sums = metrics.resamples(len(counts)) @ np.array(counts)
    boxes = sums[:, :2].sum(axis=1)
    return Share.of(np.where(boxes > 0, 2 * sums[:, 2] / np.maximum(boxes, 1), 1.0))


def _mean_precision(
    things: Sequence[Sequence[Thing]], boxes: Sequence[Sequence[Box]]
) -> tuple[Share | None, Share | None]:
    """Return mAP50 and mAP50:95; None where nothing counts."""
    found = mean_precisions(things, boxes, metrics.resamples(len(things)))
    if np.isnan(found[0, 0]):
        return None, None
    return Share.of(found[0]), Share.of(found.mean(0))


DETECT = Detect()
