"""What a model folder is written from."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from tactic_codec.networks.heads import Task
from tactic_codec.training.tables import Likelihood


class LevelExport(NamedTuple):
    """A quality level to be written into the folder.

    Attributes:
        gain: [C], what the encoder multiplies latents by before it rounds.
        inverse_gain: [C], what the decoder multiplies symbols by.
        likelihood: the density of the level's symbols.
    """

    gain: NDArray[np.float32]
    inverse_gain: NDArray[np.float32]
    likelihood: Likelihood


class HeadExport(NamedTuple):
    """A task network to be written into the folder.

    Attributes:
        network: the architecture's name.
        module: the trained network.
        input_size: side of the images it reads, or the longer one, in pixels: see `model.Head`.
        labels: a name for each class.
        classes: the folder name of each class in the training data.
        task: what it does.
        colours: of each class of a segmentation, such as "#804080".
    """

    network: str
    module: nn.Module
    input_size: int
    labels: Sequence[str]
    classes: Sequence[str]
    task: Task = "classify"
    colours: Sequence[str] = ()

    @property
    def file(self) -> str:
        """Its ONNX file in the folder."""
        return f"{self.task}.onnx"
