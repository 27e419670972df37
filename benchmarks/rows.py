"""Rows of figures in a file, with which an interrupted benchmark continues, and what curves say.

Benchmarks import this module; by itself it does nothing.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tactic_codec import atomic, metrics
from tactic_codec.evaluation.bdrate import COMMON, envelope, paired

Row = dict[str, Any]

Curve = NDArray[np.float64]
"""A figure in each draw of the pictures; the first is of all of them."""

Front = list[dict[str, Any]]
"""Points of one coder: curves of bytes and of other figures, by their names."""


def earlier(path: Path, result: Row) -> list[Row]:
    """Return the rows of an earlier run of the same model on the same pictures."""
    if not path.exists():
        return []
    known = json.loads(path.read_text(encoding="utf-8"))
    same = all(known.get(key) == value for key, value in result.items())
    rows: list[Row] = known["rows"]
    return rows if same else []


def write(path: Path, result: Row | list[Row]) -> None:
    """Write a result with its rows, or rows alone, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # As a whole: a killed run must not damage the rows of hours.
    atomic.write(path, json.dumps(result, indent=1).encode() + b"\n")


def bd_rate(
    test: Front,
    anchor: Front,
    quality: str,
    within: tuple[float, float] = (-math.inf, math.inf),
    rate: str = "bytes",
) -> Row | None:
    """Return the BD-rate of a front against another, below 0 if it needs less; see `paired`.

    Args:
        test: the front that is judged.
        anchor: what it is compared with.
        quality: name of the figure that is to be equal.
        within: its range; by default the range that both reach.
        rate: name of the figure that is compared.
    """
    # One figure, not a curve, where nothing is drawn.
    curves = (
        np.array([[p[rate], p[quality]] for p in front]).reshape(len(front), 2, -1)
        for front in (anchor, test)
    )
    if (found := paired(*curves, within)) is None:
        return None
    change, low, high, ends, _ = found
    change, low, high, *ends = (round(value, 4) for value in (change, low, high, *(ends or ())))
    return {"change": change, "interval": ends or None, "from": low, "to": high}


def reach(front: Front, answer: str, wanted: float) -> Curve:
    """Return the bytes with which a Pareto front has an answer, in each draw; NaN beyond it."""
    found = []
    for curve in np.array([[p["bytes"], p[answer]] for p in front]).transpose(2, 0, 1).tolist():
        sizes, answers = np.array(envelope(curve)).T
        found.append(np.interp(wanted, answers, np.log(sizes), np.nan, np.nan))
    return np.exp(found)


def interval(values: Curve) -> list[float] | None:
    """Return a figure with the ends of its interval; None where too many draws have none."""
    if np.isnan(values[0]) or np.isfinite(values).mean() < COMMON:
        return None
    return [round(value, 4) for value in metrics.with_interval(values)]
