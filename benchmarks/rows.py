"""Rows of figures in a file, with which an interrupted benchmark continues, and what curves say.

Benchmarks import this module; by itself it does nothing.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tactic_codec import metrics
from tactic_codec.evaluation.bdrate import COMMON, RatePoint, bd_rate, envelope

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


def write(path: Path, result: Row) -> None:
    """Write a result with its rows, as JSON."""
    path.parent.mkdir(exist_ok=True)
    # Replaced as a whole: a killed run must not damage the rows of hours.
    sibling = path.with_suffix(".new")
    sibling.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    sibling.replace(path)


def compared(
    curves: Mapping[str, Sequence[RatePoint]],
    test: str,
    anchor: str,
    within: tuple[float, float] = (0.0, 1.0),
) -> Row:
    """Return the BD-rate of a curve against another: below 0 if it needs less.

    Args:
        curves: points of bpp and a share, by the name of the curve.
        test: name of the curve that is judged.
        anchor: name of the curve that it is compared with.
        within: range of shares; by default the range that both reach.
    """
    rate = bd_rate(curves[anchor], curves[test], within)
    return {
        "test": test,
        "anchor": anchor,
        "bd_rate": rate and round(rate.change, 4),
        "range": rate and [round(rate.low, 4), round(rate.high, 4)],
    }


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
