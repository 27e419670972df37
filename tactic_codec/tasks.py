"""Tasks on a coded picture: decode it, prepare it, ask the task network.

frame ─ codec ─▶ pixels ─ square of the network's size ─ task network ─▶ predictions
"""

from dataclasses import dataclass

import numpy as np

from tactic_codec import image
from tactic_codec.codec import Codec, as_frame, load_model_of
from tactic_codec.container import Frame
from tactic_codec.errors import DamagedModel
from tactic_codec.image import Pixels


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


def prepare_segmentation(pixels, input_size):
    import PIL.Image
    from tactic_codec.codec import pad

    h, w = pixels.shape[:2]
    k = input_size / max(h, w)
    p = pad(
        np.array(
            PIL.Image.fromarray(pixels).resize(
                (round(w * k), round(h * k)), PIL.Image.Resampling.BICUBIC
            )
        ),
        32,
    )
    return np.divide(p.transpose(2, 0, 1)[np.newaxis], 255, dtype=np.float32)


class _S:
    pass


def segment_pixels(codec, pixels):
    from PIL import Image

    x = prepare_segmentation(pixels, codec.model.head("segment").input_size)
    y = codec.runtime.run("segment", x)[0]
    h, w = pixels.shape[:2]
    s = x.shape[-1] / y.shape[-1]
    planes = np.stack(
        [
            np.array(
                Image.fromarray(p).resize(
                    (w, h), Image.Resampling.BILINEAR, box=(0, 0, w / s, h / s)
                )
            )
            for p in y
        ]
    )
    r = _S()
    r.labels = planes.argmax(0).astype(np.uint8)
    return r
