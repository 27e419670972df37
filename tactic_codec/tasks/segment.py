"""Which class each pixel of a picture shows.

frame ─ codec ─▶ pixels ─ scale, pad ─ task network ─ planes of classes ─ scale back ─▶ label map

A picture's truth is a label map, an 8-bit PNG of its size, whose values are classes; others are
void, and never count. Scores are of all pixels of all pictures together, from one confusion matrix.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tactic_codec import metrics, picture
from tactic_codec.codec import Codec, Coded, answer, opened
from tactic_codec.container import Frame
from tactic_codec.errors import DataError, ImageError
from tactic_codec.metrics import Confusion, SegmentationScores
from tactic_codec.picture import DEFAULT_MAX_PIXELS, Colour, LabelMap, Pixels
from tactic_codec.tasks.protocol import Facts, Score, Scores, Share, Summary, Task, Told, Verdict

MAX_SEGMENT_STRIDE = 32
"""Pixels a position of a segmentation network's output, at most."""

IMAGES, LABELS = "images", "labels"
"""Of a folder with label maps."""


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """The class of each pixel of a picture.

    Attributes:
        labels: uint8 [H, W] of the picture's size; values are indices of ``names``.
        names: of the classes.
        colours: red, green and blue of each class, 0 to 255.
        shares: of the pixels that each class has, 0 to 1; they sum to 1.
    """

    labels: LabelMap
    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    shares: tuple[float, ...]

    def to_png(self) -> bytes:
        """Encode the label map as a palette PNG: values are classes, shown in their colours."""
        return picture.save_labels(self.labels, self.colours)

    def overlay(self, pixels: Pixels) -> Pixels:
        """Lay the classes' colours over a picture: half picture, half colours.

        Args:
            pixels: uint8 [H, W, 3], of the label map's size.

        Returns:
            uint8 [H, W, 3].

        Raises:
            ValueError: the picture has another size.
        """
        if pixels.shape[:2] != self.labels.shape:
            raise ValueError(
                f"a picture of {list(self.labels.shape)} pixels expected, not "
                f"{list(pixels.shape[:2])}"
            )
        colours = np.array(self.colours, np.uint16)
        return ((pixels + colours[self.labels]) // 2).astype(np.uint8)


def segment_pixels(codec: Codec, pixels: Pixels) -> Segmentation:
    """Find the class of each pixel of a picture, uint8 [H, W, 3], with the model's task network.

    Memory beside the network's own is a few planes of the picture's size, however many classes.

    Raises:
        UnknownTask: the model has no segmentation network.
        DamagedModel: its network does not have a finite logit for each class at each place.
    """
    head = codec.model.head(SEGMENT.name)
    height, width, _ = pixels.shape
    x = SEGMENT.prepare(pixels, head.input_size)
    strides = {  # pixels a position, by the output's rows and columns
        (x.shape[2] / stride, x.shape[3] / stride): stride
        for stride in range(1, MAX_SEGMENT_STRIDE + 1)
    }

    def fits(shape: tuple[int, ...]) -> bool:
        return shape[:2] == (1, len(head.labels)) and shape[2:] in strides

    logits = answer(codec, SEGMENT.name, x, "classes of a label map", fits)
    stride = strides[logits.shape[2], logits.shape[3]]
    rows, columns = (side / stride for side in picture.scaled_size(height, width, head.input_size))
    # Places that lie wholly in the padding are left out, so that nothing of theirs is mixed in.
    planes = logits[0, :, : math.ceil(rows), : math.ceil(columns)]
    labels = _largest(planes, height, width, (rows, columns))
    counts = np.zeros(len(head.labels), np.int64)
    for row in labels:  # the whole at once would be widened to 64 bits a pixel
        counts += np.bincount(row, minlength=len(counts))
    shares = tuple(float(count) for count in counts / labels.size)
    return Segmentation(labels, head.labels, head.colours, shares)


def _largest(
    planes: NDArray[np.float32], height: int, width: int, box: tuple[float, float]
) -> LabelMap:
    """Return the class whose plane, scaled to the picture, is largest; of equals the first."""
    labels = np.zeros((height, width), np.uint8)
    best = np.array(picture.resize_plane(planes[0], height, width, box))
    for index, plane in enumerate(planes[1:], start=1):
        found = picture.resize_plane(plane, height, width, box)
        np.copyto(labels, np.uint8(index), where=found > best)
        np.maximum(best, found, out=best)
    return labels


def segment(
    data: Coded,
    *,
    codec: Codec | None = None,
    device: str = "auto",
    max_pixels: int | None = None,
) -> Segmentation:
    """Find the class of each pixel of a coded picture.

    Args:
        data: one frame, in any form that `Codec.decompress` takes.
        codec: decodes and segments; by default the installed model that the frame names.
        device: where ``codec`` is not given.
        max_pixels: the largest picture that is read, see `Codec.decompress`.

    Raises:
        FormatError: the bytes are not one frame.
        LimitExceeded: the picture is too large.
        UnknownModel: the model is not installed, or ``codec`` is of another.
        UnknownTask: the model has no segmentation network.
    """
    frame, codec = opened(data, codec, device, max_pixels)
    return SEGMENT.ask_frame(codec, frame)


class Segment(Task[LabelMap, Segmentation]):
    """See `Task`; the truth is a label map, uint8 [H, W]."""

    name = "segment"
    network = "segmentation network"
    truth = "label maps"
    layout = f"{IMAGES}/ and {LABELS}/"
    pictures = IMAGES
    whole = True
    titles: ClassVar[Mapping[str, str]] = {
        "mean_iou": "mean IoU",
        "pixel_accuracy": "pixel accuracy",
        "agreement": "agreement",
    }
    each_class = ("iou", "IoU in %")
    headline: ClassVar[Mapping[str, str]] = {"pixel_accuracy": "pixels", "mean_iou": "mean IoU"}
    figured = (
        *("pixel_accuracy", "mean_iou", "iou"),
        *("uncompressed_pixel_accuracy", "uncompressed_mean_iou"),
    )

    def ask(self, codec: Codec, pixels: Pixels) -> Segmentation:
        """Find the class of each pixel, see `segment_pixels`."""
        return segment_pixels(codec, pixels)

    def in_picture(self, answer: Segmentation, frame: Frame) -> Segmentation:
        """Give each pixel of the picture the class of the nearest one that was coded."""
        labels = picture.nearest(answer.labels, frame.width, frame.height)
        return replace(answer, labels=labels)

    def alike(self, before: Segmentation, after: Segmentation) -> float:
        """Return the share of the pixels that have the same class, see `Task`."""
        return float(np.mean(before.labels == after.labels))

    def as_json(self, answer: Segmentation) -> Facts:
        """Return the classes that occur, those with most pixels first, see `Task`."""
        return {
            "classes": [
                {"index": index, "label": answer.names[index], "share": round(share, 6)}
                for index, share in _occurring(answer)
            ]
        }

    def told(self, answer: Segmentation) -> Told:
        """Return the classes that occur, see `Task`."""
        return [(answer.names[index], share) for index, share in _occurring(answer)]

    def drawn(self, answer: Segmentation, pixels: Pixels) -> Pixels:
        """Lay the classes' colours over it, see `Task`."""
        height, width, _ = pixels.shape
        labels = picture.nearest(answer.labels, width, height)
        return replace(answer, labels=labels).overlay(pixels)

    def claims(self, folder: Path) -> bool:
        """Claim folders with images and label maps, see `Task`."""
        return (folder / IMAGES).is_dir() and (folder / LABELS).is_dir()

    def reader(
        self, folder: Path, classes: Sequence[str]
    ) -> Callable[[str, Pixels], LabelMap | None]:
        """Read ``labels/NAME.png`` for ``images/NAME.jpg``, see `Task`.

        Pictures are turned upright as their EXIF data say, and label maps are expected so, as
        annotation tools make them: those of a picture as it is stored on its side have another
        size, and are refused.
        """
        return lambda name, pixels: read_map(map_of(folder, name), pixels)

    def key(self, truth: LabelMap | None) -> bytes:
        """Return the whole label map, see `Task`."""
        return b"" if truth is None else f"{truth.shape}".encode() + truth.tobytes()

    def complaint(self, truths: Sequence[LabelMap | None], labels: Sequence[str]) -> str | None:
        """Complain of void alone, see `Task`."""
        if any((truth < len(labels)).any() for truth in truths if truth is not None):
            return None
        return (
            f"no label map has a value below {len(labels)}, which are the reference network's "
            f"classes ({', '.join(labels)}); give label maps of these"
        )

    def facts(
        self,
        truth: LabelMap | None,
        answer: Segmentation,
        before: Callable[[], Segmentation] | None = None,
    ) -> Facts:
        """Keep the confusion, and how many pixels, void or not, have the class from before."""
        assert truth is not None
        counts = metrics.confusion(truth, answer.labels, len(answer.names))
        agreed = {"agreed": int((answer.labels == before().labels).sum())} if before else {}
        return {**agreed, "confusion": counts.ravel().tolist()}

    def scores(
        self, found: Sequence[Facts], before: Sequence[Facts], truths: Sequence[LabelMap | None]
    ) -> Scores:
        """Return mean IoU, pixel accuracy, IoU of each class and agreement, see `Task`.

        The interval of the mean IoU is of its mean over draws of the pictures.
        """
        stacked = np.stack([_square_of(facts["confusion"]) for facts in found])
        summed = metrics.segmentation_scores(stacked.sum(axis=0))
        known: dict[str, Score] = {
            "mean_iou": _mean_iou(stacked),
            "pixel_accuracy": summed.pixel_accuracy,
            "iou": summed.iou,
        }
        if "agreed" in found[0]:
            pixels = sum(labels.size for labels in truths if labels is not None)
            known["agreement"] = sum(facts["agreed"] for facts in found) / pixels
        return known

    def verdict(self, answer: Segmentation, expected: LabelMap) -> Verdict:
        """Compare label maps, see `Task`."""
        if expected.shape != answer.labels.shape:
            sizes = [f"{array.shape[1]} x {array.shape[0]}" for array in (expected, answer.labels)]
            raise ImageError(
                f"the label map has {sizes[0]} pixels, the frame {sizes[1]}; it is of another "
                "picture, or of this one before it was turned upright"
            )
        counts = metrics.confusion(expected, answer.labels, len(answer.names))
        scores, facts, cells = _scored(counts)
        score = scores.mean_iou if scores else None
        return Verdict(facts, cells, (answer.names, counts), score)

    def summary(self, verdicts: Sequence[Verdict]) -> Summary | None:
        """Count the pixels of all label maps together, see `Task`."""
        several = {verdict.counted[0] for verdict in verdicts}
        if len(several) != 1:
            return None
        names: tuple[str, ...] = several.pop()
        stacked = np.stack([verdict.counted[1] for verdict in verdicts])
        counts = stacked.sum(axis=0)
        scores, facts, cells = _scored(counts)
        ious = scores.iou if scores else (None,) * len(names)
        pixels = int(counts.sum())
        classes = [
            {"index": index, "label": label, "iou": None if iou is None else round(iou, 6)}
            for index, (label, iou) in enumerate(zip(names, ious, strict=True))
        ]
        notes = ["pixel accuracy, mIoU: no pixel of the label maps has a class of the model"]
        if scores:
            notes = [
                f"pixel accuracy: {cells['pixel acc.']}, mIoU: {cells['mIoU']} of {pixels} pixels"
            ]
            notes += [
                f"IoU of {label} ({index}): {100 * iou:.1f} %"
                for index, (label, iou) in enumerate(zip(names, ious, strict=True))
                if iou is not None
            ]
        return Summary(
            name="segmentation",
            facts={"pixels": pixels, **facts, "classes": classes},
            # The index keeps apart what has one name.
            sums=facts | {f"iou_{c['index']}_{c['label']}": c["iou"] for c in classes},
            sum_cells=cells,
            notes=notes,
            headline=("mean IoU", _mean_iou(stacked)) if scores else None,
        )

    def footnote(self, network: str, size: int | None) -> str:
        """Say what a mean IoU is, see `Task`."""
        return (
            f"Mean IoU: over the classes that occur, all pixels of all pictures together but void, "
            f"by the {network}. In brackets 95 % intervals from {metrics.RESAMPLES} draws of the "
            f"pictures. Agreement: pixels of the same class as in the uncompressed picture. bpp: "
            f"mean of 8 × bytes of a file / its pixels."
        )


def _scored(counts: Confusion) -> tuple[SegmentationScores | None, Facts, dict[str, str]]:
    """Return scores, the facts and the cells of a table that tell them; None where none counts."""
    facts, cells = ("pixel_accuracy", "mean_iou"), ("pixel acc.", "mIoU")
    if not counts.any():
        return None, dict.fromkeys(facts), dict.fromkeys(cells, "")
    scores = metrics.segmentation_scores(counts)
    told = scores.pixel_accuracy, scores.mean_iou
    return (
        scores,
        {name: round(share, 6) for name, share in zip(facts, told, strict=True)},
        {name: f"{100 * share:.1f} %" for name, share in zip(cells, told, strict=True)},
    )


def _occurring(answer: Segmentation) -> list[tuple[int, float]]:
    """Return index and share of the classes that occur, those with most pixels first."""
    occurring = [(index, share) for index, share in enumerate(answer.shares) if share]
    return sorted(occurring, key=lambda item: item[1], reverse=True)


def map_of(folder: Path, name: str) -> Path:
    """Return where the label map of a picture lies, by its path below a folder."""
    return folder / LABELS / Path(name).relative_to(IMAGES).with_suffix(".png")


def read_map(path: Path, pixels: Pixels) -> LabelMap:
    """Read the label map of a picture, uint8 [H, W, 3].

    Raises:
        DataError: it has another size.
        ImageError, LimitExceeded, OSError: see `picture.load_labels`.
    """
    # Of the picture's size, or it will be refused.
    limit = max(DEFAULT_MAX_PIXELS, pixels.shape[0] * pixels.shape[1])
    labels = picture.load_labels(path, max_pixels=limit)
    if pixels.shape[:2] != labels.shape:
        sizes = [f"{shape[1]} x {shape[0]}" for shape in (pixels.shape, labels.shape)]
        raise DataError(f"the upright picture has {sizes[0]} pixels, its label map {sizes[1]}")
    return labels


def _square_of(counts: Sequence[int]) -> Confusion:
    """Return the confusion matrix that facts have the rows of, one behind the other."""
    flat = np.array(counts, np.int64)
    side = math.isqrt(flat.size)
    return flat.reshape(side, side)


def _mean_iou(confusions: Confusion) -> Share:
    """Return the mean IoU of all pictures, with its interval over draws of them.

    A draw without any picture of a class leaves that class out, as the mean IoU itself does, and
    one of void alone says nothing.
    """
    draws = metrics.resamples(len(confusions))
    own = confusions.diagonal(axis1=1, axis2=2)
    either = confusions.sum(axis=1) + confusions.sum(axis=2) - own
    right, union = draws @ own, draws @ either
    known = (union > 0).sum(axis=1)
    sums = (right / np.maximum(union, 1)).sum(axis=1)
    return Share.of(np.where(known, sums / np.maximum(known, 1), np.nan))


SEGMENT = Segment()
