"""How the networks of tasks learn; what they are asked stands in `tactic_codec.tasks`."""

from tactic_codec.training.tasks.classify import ClassifyLesson
from tactic_codec.training.tasks.lesson import Lesson
from tactic_codec.training.tasks.segment import SegmentLesson

LESSONS: dict[str, type[Lesson]] = {"classify": ClassifyLesson, "segment": SegmentLesson}
"""How heads are trained on what coders give back, by task."""

__all__ = ["LESSONS", "Lesson"]
