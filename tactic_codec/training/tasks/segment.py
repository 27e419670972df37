"""How a segmentation network learns: see `tactic_codec.tasks.segment` for what it is asked."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from tactic_codec import picture
from tactic_codec.codec import Codec
from tactic_codec.errors import DataError
from tactic_codec.networks.heads import Logits, classify
from tactic_codec.networks.measures import class_weights, dice, pixel_cross_entropy
from tactic_codec.picture import LabelMap, Pixels
from tactic_codec.tasks import SEGMENT
from tactic_codec.tasks.segment import IMAGES, LABELS, map_of, read_map
from tactic_codec.training.config import DataConfig, StageConfig
from tactic_codec.training.loss import UNLABELLED
from tactic_codec.training.tasks.protocol import Box, Cut, Lesson, TrainingTask

BATCH = 8
CROP = 256
"""Side of the crops as the network sees them, in pixels."""

LEARNING_RATE = 5e-4
"""The highest, after the warm-up; it falls to zero along a half cosine. A decoder at random needs
more than the classifier, which is only tuned."""

CLIP = 1.0
"""Largest norm of a gradient: without normalisations, the trunk must not jump."""

DICE = 0.5
"""Weight of the Dice loss beside the cross-entropy, the gamma of equation 10."""

ZOOM = (0.75, 1.6)
"""How much larger than in evaluation a run's crop shows what it shows."""


@final
class SegmentTraining(TrainingTask[Path, LabelMap]):
    """See `TrainingTask`; what is kept is the path of the label map.

    A folder is laid out as CamVid is in SegNet: ``images/<name>.jpg`` and ``labels/<name>.png``.
    What a label map has beside the classes is void: no loss, never counted.
    """

    task = SEGMENT

    def images(self, folder: Path) -> list[Path]:
        """List what lies in ``images``, see `TrainingTask`."""
        if not SEGMENT.claims(folder):
            raise DataError(
                f"{folder} has no label maps; expected {IMAGES}/NAME.jpg and {LABELS}/NAME.png in "
                "it"
            )
        found = (folder / IMAGES).rglob("*")
        paths = sorted(path for path in found if path.suffix.lower() in picture.SUFFIXES)
        if not paths:
            raise DataError(f"{folder / IMAGES} holds no images")
        return paths

    def classes(self, folder: Path, images: Sequence[Path]) -> set[str]:
        """Return none: the configuration names them, see `TrainingTask`."""
        return set()

    def kept(self, folder: Path, path: Path, classes: Sequence[str]) -> Path:
        """Return where the label map lies, see `TrainingTask`."""
        return map_of(folder, path.relative_to(folder).as_posix())

    def truth(self, kept: Path, pixels: Pixels) -> LabelMap | None:
        """Read the label map, see `TrainingTask`."""
        return read_map(kept, pixels)

    def counts(self, truth: LabelMap | None, classes: int) -> NDArray[np.int64]:
        """Count the pixels of each class, see `TrainingTask`."""
        assert truth is not None
        return np.bincount(truth.ravel(), minlength=256)[:classes]

    def box(
        self, random: np.random.Generator, width: int, height: int, size: int, config: DataConfig
    ) -> Box:
        """Draw a square that is shown near the scale at which pictures are segmented."""
        shown = config.size / max(width, height)
        zoom = math.exp(random.uniform(math.log(ZOOM[0]), math.log(ZOOM[1])))
        side = min(size / (shown * zoom), width, height)
        left, top = random.uniform(0, width - side), random.uniform(0, height - side)
        return left, top, left + side, top + side

    def target(self, kept: Path, cut: Cut, classes: int) -> Tensor:
        """Return the class of each pixel; void is `UNLABELLED`."""
        mask = Image.fromarray(picture.load_labels(kept))
        labels = np.array(cut(mask, Image.Resampling.NEAREST), dtype=np.int64)
        labels[labels >= classes] = UNLABELLED
        return torch.from_numpy(labels)

    def loss(
        self,
        logits: Logits,
        said: Tensor,
        labels: Tensor,
        stage: StageConfig,
        class_weights: Tensor | None,
    ) -> Tensor:
        """Return the cross-entropy of pixels and the Dice loss (equation 10)."""
        assert class_weights is not None
        loss_B = stage.label * pixel_cross_entropy(said, labels, class_weights)
        if stage.dice > 0:
            loss_B = loss_B + stage.dice * dice(said, labels)
        return loss_B


class Crop(NamedTuple):
    """What a head sees of a picture in one place of a batch.

    Attributes:
        picture: its number among those to learn from.
        box: left, top, right and bottom in it, in pixels.
        flip: whether left and right change places.
    """

    picture: int
    box: tuple[float, float, float, float]
    flip: bool


class SegmentLesson(Lesson):
    """Against label maps; the published trunk stands under a decoder that starts at random."""

    neutral_start = "efficientnet_lite0_pyramid"
    clip = CLIP

    def __init__(
        self, reference: Codec, pictures: Sequence[Pixels], truths: Sequence[Any], device: str
    ) -> None:
        """Prepare a lesson, see `Lesson`."""
        self._head = reference.model.head(SEGMENT.name)
        self._maps: Sequence[LabelMap] = truths
        counts = sum(np.bincount(labels.ravel(), minlength=256) for labels in self._maps)
        self._weights_K = class_weights(np.asarray(counts)[: len(self._head.labels)])
        self._device = device
        self.recipe = [BATCH, CROP, LEARNING_RATE, CLIP, DICE]

    def groups(self, head: nn.Module) -> list[dict[str, Any]]:
        """Return all weights, see `Lesson`."""
        return [{"params": list(head.parameters()), "highest": LEARNING_RATE}]

    def loss(
        self, head: nn.Module, decoded: Callable[[int], Pixels], random: np.random.Generator
    ) -> Tensor:
        """Look at 8 crops, see `Lesson`."""
        crops = draw_crops(random, self._maps, self._head.input_size)
        x_BCHW, labels_BHW = self._batch(crops, decoded)
        logits_BKHW = F.interpolate(
            classify(head, x_BCHW).main.float(),
            size=(CROP, CROP),
            mode="bilinear",
            align_corners=False,
        )
        loss_B = pixel_cross_entropy(logits_BKHW, labels_BHW, self._weights_K)
        return (loss_B + DICE * dice(logits_BKHW, labels_BHW)).mean()

    def _batch(
        self, crops: Sequence[Crop], decoded: Callable[[int], Pixels]
    ) -> tuple[Tensor, Tensor]:
        """Cut crops: float [B, 3, 256, 256] in 0 to 1, and int64 [B, 256, 256] of classes."""
        squares = []
        maps = []
        for crop in crops:
            pixels = picture.to_pillow(decoded(crop.picture))
            labels = Image.fromarray(self._maps[crop.picture])
            squares.append(cut(pixels, crop, Image.Resampling.BICUBIC))
            maps.append(cut(labels, crop, Image.Resampling.NEAREST).astype(np.int64))
        labels_BHW = torch.from_numpy(np.stack(maps))
        labels_BHW[labels_BHW >= len(self._head.labels)] = UNLABELLED
        x_BCHW = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
        return x_BCHW.to(self._device).float() / 255, labels_BHW.to(self._device)


def draw_crops(
    random: np.random.Generator, maps: Sequence[LabelMap], input_size: int
) -> list[Crop]:
    """Draw a batch of crops, each anywhere in any picture, whose label maps are given.

    A crop shows things at the size at which the network sees them in a whole picture, whose longer
    side is scaled to ``input_size``; it is smaller only where the picture is.
    """
    crops = []
    for _ in range(BATCH):
        number = int(random.integers(len(maps)))
        height, width = maps[number].shape
        side = min(CROP * max(height, width) / input_size, height, width)
        # Whole pixels: where the scale is 1 already, nothing is interpolated.
        left, top = (int(random.integers(int(length - side) + 1)) for length in (width, height))
        flip = bool(random.random() < 0.5)
        crops.append(Crop(number, (left, top, left + side, top + side), flip))
    return crops


def cut(pixels: Image.Image, crop: Crop, method: Image.Resampling) -> NDArray[np.uint8]:
    """Cut a crop out of a picture or a label map and scale it to 256 × 256."""
    found = np.asarray(pixels.resize((CROP, CROP), method, box=crop.box))
    return found[:, ::-1] if crop.flip else found


SegmentTraining.lesson = SegmentLesson
