"""A run's log as a picture: how loss, rate, distortion and task went, stage by stage."""

import io
import json
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tactic_codec import plotting

PANELS = (
    ("loss", "loss (eq 9)", "log"),
    ("rate", "rate, bits a pixel", "log"),
    ("psnr", "PSNR, dB", "linear"),
    ("task", "task loss", "linear"),
    ("agreement", "agreement", "linear"),
)
"""Fields of a log line, what they are, and the scale of their axis."""

WINDOW = 25
"""Steps that one point of a line is the mean of."""


def draw_curve(log: Path) -> bytes:
    """Return the learning curve of a run's log as a PNG.

    Raises:
        BackendUnavailable: matplotlib is not installed.
    """
    plotting.check()
    from matplotlib.figure import Figure

    steps = [line for line in map(json.loads, log.read_text().splitlines()) if "loss" in line]
    begins = {next(own)["step"]: name for name, own in groupby(steps, itemgetter("stage"))}
    for step in steps:
        if not step["rate"]:  # nothing was coded, so that nothing was lost
            step["psnr"] = None
    panels = [panel for panel in PANELS if any(_shows(s[panel[0]], panel[2]) for s in steps)]
    figure = Figure(figsize=(8, 1.8 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (field, label, scale) in zip(axes, panels, strict=True):
        known = [s for s in steps if _shows(s[field], scale)]
        x = np.array([s["step"] for s in known])
        y = np.array([s[field] for s in known], dtype=float)
        axis.plot(x, y, color="0.85", linewidth=0.5)
        axis.plot(*_smooth(x, y), color="C0", linewidth=1.5)
        axis.set(ylabel=label, yscale=scale)
        axis.grid(alpha=0.3)
        for begin in begins:
            axis.axvline(begin, color="0.5", linestyle=":", linewidth=1)
    for number, (begin, name) in enumerate(begins.items()):
        # In two rows, since a short stage is narrower than its name.
        place = (begin, 1.02 + 0.1 * (number % 2))
        axes[0].annotate(name, place, xycoords=("data", "axes fraction"), fontsize=8)
    axes[-1].set_xlabel("step")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return stream.getvalue()


def _shows(value: float | None, scale: str) -> bool:
    """Tell whether a value has a place on an axis; stages without coding have a rate of 0."""
    return value is not None and (value > 0 or scale != "log")


def _smooth(
    x: NDArray[np.int64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return means over windows."""
    starts = np.arange(0, len(x), WINDOW)
    counts = np.diff(np.append(starts, len(x)))
    return np.add.reduceat(x, starts) / counts, np.add.reduceat(y, starts) / counts
