"""What a head learns from in a few hundred steps, see `tactic_codec.evaluation.retrain`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from tactic_codec.codec import Codec
from tactic_codec.picture import Pixels


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
        self,
        head: nn.Module,
        decoded: Callable[[int], Pixels],
        random: np.random.Generator,
    ) -> Tensor:
        """Return the loss of a batch, a scalar.

        Args:
            head: what learns.
            decoded: returns a picture, by its number, as a coder gives it back.
            random: draws the batch; the same one whatever the coder.
        """
