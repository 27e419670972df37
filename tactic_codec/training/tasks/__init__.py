"""How the networks of tasks learn; what they are asked stands in `tactic_codec.tasks`.

folders ─ images, kept ─▶ examples ─ box, target ─▶ crops ─ loss ─▶ L_T of a run
pictures as coders give them back ─ Lesson ─▶ a head for a row of a table
"""

from typing import Any

from tactic_codec.training.config import TrainingConfig
from tactic_codec.training.tasks.classify import ClassifyTraining
from tactic_codec.training.tasks.protocol import Lesson, TrainingTask
from tactic_codec.training.tasks.segment import SegmentTraining

TRAINING: dict[str, TrainingTask[Any, Any]] = {
    training.task.name: training for training in (ClassifyTraining(), SegmentTraining())
}
"""By task, as `tactic_codec.tasks.TASKS` has them."""

CLASSES = TRAINING["classify"]
"""What folders are trained for that are laid out for no other task."""


def task_of(config: TrainingConfig) -> TrainingTask[Any, Any]:
    """Return what a configuration trains a network for."""
    return TRAINING["segment" if config.segments else "classify"]


__all__ = ["CLASSES", "TRAINING", "Lesson", "TrainingTask", "task_of"]
