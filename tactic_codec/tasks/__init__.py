"""Tasks on decoded pictures: what a network says of them, and how well that is told.

    frame ─ codec ─▶ pixels ─ prepare ─ task network ─▶ answer ─┬─▶ JSON, text, drawing
                                     truth of the picture ──────┴─▶ facts ─ of all ─▶ scores

A task is a file here, without torch, and one in `tactic_codec.training.tasks`, which says how its
network learns. `Task` is what the first one implements, `TASKS` the table of them.
"""

from typing import Any

from tactic_codec.tasks.classify import CLASSIFY as CLASSIFY
from tactic_codec.tasks.classify import Prediction as Prediction
from tactic_codec.tasks.classify import classify as classify
from tactic_codec.tasks.classify import classify_pixels as classify_pixels
from tactic_codec.tasks.detect import DETECT as DETECT
from tactic_codec.tasks.detect import Detection as Detection
from tactic_codec.tasks.detect import Detections as Detections
from tactic_codec.tasks.detect import detect as detect
from tactic_codec.tasks.detect import detect_pixels as detect_pixels
from tactic_codec.tasks.protocol import Facts as Facts
from tactic_codec.tasks.protocol import Question as Question
from tactic_codec.tasks.protocol import Score as Score
from tactic_codec.tasks.protocol import Scores as Scores
from tactic_codec.tasks.protocol import Share as Share
from tactic_codec.tasks.protocol import Summary as Summary
from tactic_codec.tasks.protocol import Task as Task
from tactic_codec.tasks.protocol import Verdict as Verdict
from tactic_codec.tasks.protocol import Witness as Witness
from tactic_codec.tasks.segment import SEGMENT as SEGMENT
from tactic_codec.tasks.segment import Segmentation as Segmentation
from tactic_codec.tasks.segment import segment as segment
from tactic_codec.tasks.segment import segment_pixels as segment_pixels

TASKS: dict[str, Task[Any, Any]] = {task.name: task for task in (CLASSIFY, DETECT, SEGMENT)}
"""All tasks by name. The first one takes the folders that no other claims."""
