"""What a task has to say of training, see the package's text."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from tactic_codec.codec import Codec
from tactic_codec.networks.heads import Logits
from tactic_codec.picture import Pixels
from tactic_codec.tasks import Task
from tactic_codec.training.config import DataConfig, StageConfig

Kept = TypeVar("Kept")
Truth = TypeVar("Truth")


Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""

Cut = Callable[[Image.Image, Image.Resampling], Image.Image]
"""Cuts the same crop, flipped alike, out of a picture and out of a map of its size."""


class TrainingTask(ABC, Generic[Kept, Truth]):
    """How a network learns a task in a run; its instances hold nothing.

    Attributes:
        task: what the network is asked.
        lesson: what heads learn from, for an evaluation.
    """

    task: ClassVar[Task[Any, Any]]
    lesson: ClassVar[type["Lesson"]]

    # --- Data ---

    @abstractmethod
    def images(self, folder: Path) -> list[Path]:
        """Return a folder's pictures by name.

        Raises:
            DataError: it is laid out otherwise, or holds none.
        """

    @abstractmethod
    def classes(self, folder: Path, images: Sequence[Path]) -> set[str]:
        """Return the classes that the places of a folder's pictures name."""

    @abstractmethod
    def kept(self, folder: Path, path: Path, classes: Sequence[str]) -> Kept:
        """Return what is kept of a picture's truth while a run goes on: small, or where it is."""

    @abstractmethod
    def truth(self, kept: Kept, pixels: Pixels) -> Truth | None:
        """Return a picture's truth as the task knows it; None where nobody knows it.

        Raises:
            TacError, OSError: it is of no use for this picture.
        """

    @abstractmethod
    def counts(self, truth: Truth | None, classes: int) -> NDArray[np.int64]:
        """Return how often each class occurs in a truth, where rare ones are to weigh more."""

    @abstractmethod
    def box(
        self, random: np.random.Generator, width: int, height: int, size: int, config: DataConfig
    ) -> Box:
        """Draw what a crop of a picture shows, to be scaled to a square of ``size`` pixels."""

    @abstractmethod
    def target(self, kept: Kept, cut: Cut, classes: int) -> int | Tensor:
        """Return the labels of a crop: a class, or int64 [size, size] of pixels."""

    # --- Objective ---

    @abstractmethod
    def loss(
        self,
        logits: Logits,
        said: Tensor,
        labels: Tensor,
        stage: StageConfig,
        class_weights: Tensor | None,
    ) -> Tensor:
        """Return L_T without distillation, [B].

        Args:
            logits: of the task network.
            said: the main ones, at the places that have labels.
            labels: of a batch of crops, see `target`.
            stage: weighs the terms.
            class_weights: [classes], where they were counted.
        """


class Lesson(ABC):
    """Some pictures, their truths, and what a step makes of them.

    Attributes:
        neutral_start: the kind of network that starts as it was published.
        clip: largest norm of a gradient; None for any.
        recipe: all that decides about what is learned beside pictures and steps, as JSON.
    """

    neutral_start: ClassVar[str]
    clip: ClassVar[float | None] = None
    recipe: list[Any]

    @abstractmethod
    def __init__(
        self, reference: Codec, pictures: Sequence[Pixels], truths: Sequence[Any], device: str
    ) -> None:
        """Prepare a lesson.

        Args:
            reference: says what is learned, and may teach.
            pictures: that are not coded, uint8 [H, W, 3], at least one.
            truths: of each.
            device: of torch.
        """

    @abstractmethod
    def groups(self, head: nn.Module) -> list[dict[str, Any]]:
        """Return a head's weights as Adam takes them, each group with its ``highest`` rate."""

    @abstractmethod
    def loss(
        self, head: nn.Module, decoded: Callable[[int], Pixels], random: np.random.Generator
    ) -> Tensor:
        """Return the loss of a batch, a scalar.

        Args:
            head: what learns.
            decoded: returns a picture, by its number, as a coder gives it back.
            random: draws the batch; the same one whatever the coder.
        """
