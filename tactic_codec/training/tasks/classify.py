"""How a classifier learns: see `tactic_codec.tasks.classify` for what it is asked."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tactic_codec import picture
from tactic_codec.codec import Codec
from tactic_codec.errors import DataError
from tactic_codec.networks.efficientnet_lite import PUBLISHED_CLASSES
from tactic_codec.networks.heads import LAST_LAYER, Logits, classify
from tactic_codec.picture import Pixels
from tactic_codec.tasks import CLASSIFY
from tactic_codec.training import loss
from tactic_codec.training.config import DataConfig, StageConfig
from tactic_codec.training.loss import UNLABELLED
from tactic_codec.training.tasks.protocol import Box, Cut, Lesson, TrainingTask

BATCH = 16
LEARNING_RATE = 3e-5
"""The highest; three times that costs a published head 19 points on pictures that are not coded."""

NEW_LEARNING_RATE = 1e-2
"""The highest of a last layer that starts anew: at the other it learns nothing in a few hundred
steps, as in `tactic_codec.training.specialise`."""


@final
class ClassifyTraining(TrainingTask[int, int]):
    """See `TrainingTask`; what is kept is the class's index, or `UNLABELLED`.

    A folder is laid out as torchvision's ImageFolder reads it: ``<class>/<anything>.jpg``.
    """

    task = CLASSIFY

    def images(self, folder: Path) -> list[Path]:
        """List what lies in class folders at any depth, see `TrainingTask`."""
        if not folder.is_dir():
            raise DataError(
                f"{folder} is not a folder; expected one that holds a folder for each class"
            )
        paths = sorted(p for p in folder.glob("*/**/*") if p.suffix.lower() in picture.SUFFIXES)
        if not paths:
            raise DataError(
                f"{folder} holds no images in class folders; expected <class>/<image>.jpg inside "
                "it, or for pictures without classes a network that they are for (--teacher)"
            )
        return paths

    def classes(self, folder: Path, images: Sequence[Path]) -> set[str]:
        """Return the names of class folders, see `TrainingTask`."""
        return {path.relative_to(folder).parts[0] for path in images}

    def kept(self, folder: Path, path: Path, classes: Sequence[str]) -> int:
        """Return the index of the class folder; `UNLABELLED` if that names no class."""
        name = path.relative_to(folder).parts[0]
        return classes.index(name) if name in classes else UNLABELLED

    def truth(self, kept: int, pixels: Pixels) -> int | None:
        """Return the class, see `TrainingTask`."""
        return None if kept == UNLABELLED else kept

    def counts(self, truth: int | None, classes: int) -> NDArray[np.int64]:
        """Return nothing: images of all classes weigh the same."""
        return np.zeros(0, np.int64)

    def box(
        self, random: np.random.Generator, width: int, height: int, size: int, config: DataConfig
    ) -> Box:
        """Draw a rectangle of random area, aspect (3:4 to 4:3) and place."""
        area = random.uniform(*config.scale) * width * height
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w = min(math.sqrt(area * aspect), width)
        h = min(math.sqrt(area / aspect), height)
        left, top = random.uniform(0, width - w), random.uniform(0, height - h)
        return left, top, left + w, top + h

    def target(self, kept: int, cut: Cut, classes: int) -> int:
        """Return the class, see `TrainingTask`."""
        return kept

    def loss(
        self,
        logits: Logits,
        said: Tensor,
        labels: Tensor,
        stage: StageConfig,
        class_weights: Tensor | None,
    ) -> Tensor:
        """Return the cross-entropy with the true labels (equation 3)."""
        return stage.label * loss.cross_entropy(logits, labels)


class ClassifyLesson(Lesson):
    """Against the reference's view of the originals, and the classes where all are known.

    Where the pictures are labelled, cross-entropy with the label is added to the divergence from
    that view, in equal parts. The last layer of a published network starts anew, and learns faster,
    where the classes are not ImageNet's.
    """

    neutral_start = "efficientnet_lite0"

    def __init__(
        self, reference: Codec, pictures: Sequence[Pixels], truths: Sequence[Any], device: str
    ) -> None:
        """Prepare a lesson, see `Lesson`."""
        self._reference = reference
        self._head = reference.model.head(CLASSIFY.name)
        self._pictures = pictures
        self._labels = None if None in truths else torch.tensor(truths)
        self._device = device
        # Whether the last layer is one for other classes than the published network's.
        self._anew = (
            self._head.network == self.neutral_start and len(self._head.labels) != PUBLISHED_CLASSES
        )
        self.recipe = [BATCH, LEARNING_RATE, NEW_LEARNING_RATE if self._anew else None]

    def groups(self, head: nn.Module) -> list[dict[str, Any]]:
        """Group a head's weights by the highest learning rate of each, see `Lesson`."""
        new: list[nn.Parameter] = []
        known: list[nn.Parameter] = []
        for name, weight in head.named_parameters(prefix="head"):
            (new if self._anew and name.startswith(LAST_LAYER) else known).append(weight)
        groups = ((known, LEARNING_RATE), (new, NEW_LEARNING_RATE))
        return [{"params": weights, "highest": rate} for weights, rate in groups if weights]

    def loss(
        self, head: nn.Module, decoded: Callable[[int], Pixels], random: np.random.Generator
    ) -> Tensor:
        """Look at 16 pictures, half of them flipped, see `Lesson`."""
        chosen = random.integers(len(self._pictures), size=BATCH)
        flips = random.random(BATCH) < 0.5
        batch = [
            decoded(index)[:, ::-1] if flip else decoded(index)
            for index, flip in zip(chosen.tolist(), flips, strict=True)
        ]
        log_p = F.log_softmax(classify(head, self._batch(batch)).main, dim=1)
        missed = F.kl_div(log_p, self._taught[chosen].to(self._device), reduction="batchmean")
        if self._labels is not None:
            missed = missed + F.nll_loss(log_p, self._labels[chosen].to(self._device))
        return missed

    @cached_property
    def _taught(self) -> Tensor:
        """The reference's probabilities of the uncompressed pictures, [N, classes]."""
        taught = torch.empty(len(self._pictures), len(self._head.labels))
        for row, pixels in zip(taught, self._pictures, strict=True):
            for guess in CLASSIFY.ask(self._reference, pixels):
                row[guess.index] = guess.probability
        return taught

    def _batch(self, pictures: Sequence[Pixels]) -> Tensor:
        """Turn pictures into float [B, 3, size, size] in 0 to 1, of the size that heads read."""
        squares = np.stack([picture.square(pixels, self._head.input_size) for pixels in pictures])
        return torch.from_numpy(squares).permute(0, 3, 1, 2).to(self._device).float() / 255


ClassifyTraining.lesson = ClassifyLesson
