"""Tasks on a coded picture: decode it, prepare it, ask the task network.

frame ─ codec ─▶ pixels ─ square of the network's size ─ task network ─▶ predictions
frame ─ codec ─▶ pixels ─ scale, pad ─ task network ─ planes of classes ─ scale back ─▶ label map
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tactic_codec import picture as image
from tactic_codec.codec import Codec, as_frame, load_model_of, pad
from tactic_codec.container import Frame
from tactic_codec.errors import DamagedModel
from tactic_codec.model import SEGMENT_SIDES, Head
from tactic_codec.picture import Colour, LabelMap, Pixels

MAX_SEGMENT_STRIDE = 32
"""Pixels a position of a segmentation network's output, at most."""


# --- Which class a picture shows ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class that a picture may show.

    Attributes:
        index: of the class in the network's logits.
        label: the class's name.
        probability: by the network's softmax, 0 to 1.
    """

    index: int
    label: str
    probability: float


def classify_pixels(codec: Codec, pixels: Pixels, top_k: int = 5) -> list[Prediction]:
    """Classify a picture, uint8 [H, W, 3], with the model's task network; most likely first.

    Raises:
        UnknownTask: the model has no classifier.
        DamagedModel: its network does not have a finite logit for each label.
        ValueError: ``top_k`` is below 1.
    """
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, not {top_k}")
    head = codec.model.head("classify")
    square = image.square(pixels, head.input_size)
    x = np.divide(square.transpose(2, 0, 1)[np.newaxis], 255, dtype=np.float32)
    result = codec.runtime.run("classify", x)
    if result.shape != (1, len(head.labels)):
        raise DamagedModel(
            f"model {codec.model.name} names {len(head.labels)} classes, its network "
            f"returns {list(result.shape)}; install the model again"
        )
    logits = result[0].astype(np.float64)
    if not np.isfinite(logits).all():
        raise DamagedModel(
            f"the task network of model {codec.model.name} returns infinities; install the model "
            "again"
        )
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    best = np.argsort(-probabilities, kind="stable")[:top_k]
    return [Prediction(int(i), head.labels[i], float(probabilities[i])) for i in best]


def classify(
    data: bytes | Frame,
    top_k: int = 5,
    *,
    codec: Codec | None = None,
    device: str = "auto",
    max_pixels: int | None = None,
) -> list[Prediction]:
    """Classify a coded picture; most likely class first.

    Args:
        data: one frame.
        top_k: how many classes to return, at most as many as there are.
        codec: decodes and classifies; by default the installed model that the frame names.
        device: where ``codec`` is not given.
        max_pixels: the largest picture that is read, see `Codec.decompress`.

    Raises:
        FormatError: the bytes are not one frame.
        LimitExceeded: the picture is too large.
        UnknownModel: the model is not installed, or ``codec`` is of another.
        UnknownTask: the model has no classifier.
    """
    frame = as_frame(data, max_pixels=max_pixels)
    codec = codec or load_model_of(frame.fingerprint, device=device)
    return classify_pixels(codec, codec.decode(frame), top_k)


# --- Which class each pixel shows -----------------------------------------------------------------


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
        return image.save_labels(self.labels, self.colours)

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


def prepare_segmentation(pixels: Pixels, input_size: int) -> NDArray[np.float32]:
    """Make of a picture what segmentation networks read; training and export use it, too.

    The whole picture is scaled until its longer side has ``input_size`` pixels, because objects
    have to have the size that the network knows, and its right column and bottom row are repeated
    until both sides are multiples of 32.

    Args:
        pixels: uint8 [height, width, 3].
        input_size: the longer side, in pixels.

    Returns:
        float32 [1, 3, H, W], 0 to 1.
    """
    padded = pad(image.scaled(pixels, input_size), SEGMENT_SIDES)
    return np.divide(padded.transpose(2, 0, 1)[np.newaxis], 255, dtype=np.float32)


def segment_pixels(codec: Codec, pixels: Pixels) -> Segmentation:
    """Find the class of each pixel of a picture, uint8 [H, W, 3], with the model's task network.

    Memory beside the network's own is a few planes of the picture's size, however many classes.

    Raises:
        UnknownTask: the model has no segmentation network.
        DamagedModel: its network does not have a finite logit for each class at each place.
    """
    head = codec.model.head("segment")
    height, width, _ = pixels.shape
    x = prepare_segmentation(pixels, head.input_size)
    logits = codec.runtime.run("segment", x)
    stride = _segment_stride(codec, head, x, logits)
    rows, columns = (side / stride for side in image.scaled_size(height, width, head.input_size))
    # Places that lie wholly in the padding are left out, so that nothing of theirs is mixed in.
    planes = logits[0, :, : math.ceil(rows), : math.ceil(columns)]
    labels = _largest(planes, height, width, (rows, columns))
    counts = np.zeros(len(head.labels), np.int64)
    for row in labels:  # the whole at once would be widened to 64 bits a pixel
        counts += np.bincount(row, minlength=len(counts))
    shares = tuple(float(count) for count in counts / labels.size)
    return Segmentation(labels, head.labels, head.colours, shares)


def _segment_stride(
    codec: Codec, head: Head, x: NDArray[np.float32], logits: NDArray[np.float32]
) -> int:
    """Return the pixels a position of a segmentation network's output, which is checked."""
    _, _, height, width = x.shape
    strides = range(1, MAX_SEGMENT_STRIDE + 1)
    sizes = [(height / stride, width / stride) for stride in strides]
    found = logits.shape[2:]
    if logits.shape[:2] != (1, len(head.labels)) or found not in sizes:
        raise DamagedModel(
            f"model {codec.model.name} names {len(head.labels)} classes of a label map, its "
            f"network makes {list(logits.shape)} of {list(x.shape)}; install the model again"
        )
    if not np.isfinite(logits).all():
        raise DamagedModel(
            f"the segmentation network of model {codec.model.name} returns infinities; install "
            "the model again"
        )
    return strides[sizes.index(found)]


def _largest(
    planes: NDArray[np.float32], height: int, width: int, box: tuple[float, float]
) -> LabelMap:
    """Return the class whose plane, scaled to the picture, is largest; of equals the first."""
    labels = np.zeros((height, width), np.uint8)
    best = np.array(image.resize_plane(planes[0], height, width, box))
    for index, plane in enumerate(planes[1:], start=1):
        found = image.resize_plane(plane, height, width, box)
        np.copyto(labels, np.uint8(index), where=found > best)
        np.maximum(best, found, out=best)
    return labels


def segment(
    data: bytes | Frame,
    *,
    codec: Codec | None = None,
    device: str = "auto",
    max_pixels: int | None = None,
) -> Segmentation:
    """Find the class of each pixel of a coded picture.

    Args:
        data: one frame.
        codec: decodes and segments; by default the installed model that the frame names.
        device: where ``codec`` is not given.
        max_pixels: the largest picture that is read, see `Codec.decompress`.

    Raises:
        FormatError: the bytes are not one frame.
        LimitExceeded: the picture is too large.
        UnknownModel: the model is not installed, or ``codec`` is of another.
        UnknownTask: the model has no segmentation network.
    """
    frame = as_frame(data, max_pixels=max_pixels)
    codec = codec or load_model_of(frame.fingerprint, device=device)
    return segment_pixels(codec, codec.decode(frame))
