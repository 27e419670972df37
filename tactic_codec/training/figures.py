"""The figures of a run: of each folder that it is tested on."""

from collections.abc import Callable
from typing import Any

from tactic_codec.codec import load_model
from tactic_codec.model import Model
from tactic_codec.training.config import TrainingConfig
from tactic_codec.training.data import ImageFolders
from tactic_codec.training.described import names_of
from tactic_codec.training.evaluate import Figures, evaluate
from tactic_codec.training.tasks import CLASSES, TrainingTask, task_of

Say = Callable[[str], None]


def figures_of(
    config: TrainingConfig, data: ImageFolders, model: Model, *, limit: int | None, say: Say
) -> dict[str, Any]:
    """Return the figures of each folder: an object, or a list of one for each level."""
    codec = load_model(model.path)
    training = task_of(config)
    if training.task.name not in model.heads:  # bytes and PSNR are of squares then
        training = CLASSES
    found: dict[str, Any] = {}
    for part, name in zip(data.parts, names_of(data), strict=True):
        if not part.test:  # another folder is tested on
            continue
        examples = part.test[:limit]
        measured = evaluate(codec, examples, config.data.size, training)
        rows = []
        for level, figures in enumerate(measured, start=1):
            rows.append({"level": level, **figures.as_json()})
            where = f"{name} -q {level}" if len(measured) > 1 else name
            say(f"{where}: {_line(figures, training)} ({figures.images} images)")
        found[name] = rows if len(rows) > 1 else rows[0]
    return found


def _line(figures: Figures, training: TrainingTask[Any, Any]) -> str:
    """Return figures for people."""
    said = f"{figures.bpp:.4f} bpp, {figures.psnr:.2f} dB"
    told = {title: figures.seen[name] for name, title in training.task.headline.items()}
    known = {title: share for title, share in told.items() if share is not None}
    return said + "".join(f", {title} {100 * share:.1f} %" for title, share in known.items())
