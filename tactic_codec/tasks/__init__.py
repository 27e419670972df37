"""Tasks on decoded pictures: what a network says of them, and how well that is told.

    frame ─ codec ─▶ pixels ─ prepare ─ task network ─▶ answer ─┬─▶ JSON, text, drawing
                                     truth of the picture ──────┴─▶ facts ─ of all ─▶ scores

A task is a file here, without torch, and one in `tactic_codec.training.tasks`, which says how its
network learns. `Task` is what the first one implements, `TASKS` the table of them.
"""

from typing import Any

from tactic_codec.tasks.classify import CLASSIFY, Prediction, classify, classify_pixels
from tactic_codec.tasks.detect import DETECT, Detection, Detections, detect, detect_pixels
from tactic_codec.tasks.protocol import (
    Facts,
    Question,
    Score,
    Scores,
    Share,
    Summary,
    Task,
    Verdict,
    Witness,
)
from tactic_codec.tasks.segment import SEGMENT, Segmentation, segment, segment_pixels

TASKS: dict[str, Task[Any, Any]] = {task.name: task for task in (CLASSIFY, DETECT, SEGMENT)}
"""All tasks by name. The first one takes the folders that no other claims."""

__all__ = [
    "CLASSIFY",
    "DETECT",
    "SEGMENT",
    "TASKS",
    "Detection",
    "Detections",
    "Facts",
    "Prediction",
    "Question",
    "Score",
    "Scores",
    "Segmentation",
    "Share",
    "Summary",
    "Task",
    "Verdict",
    "Witness",
    "classify",
    "classify_pixels",
    "detect",
    "detect_pixels",
    "segment",
    "segment_pixels",
]
