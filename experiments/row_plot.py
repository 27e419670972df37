"""The rows of a table as a picture.

Line… ─ draw_rows ─▶ rows over bits a pixel, means over seeds, with the paper's behind
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tactic_codec import plotting
from tactic_codec.evaluation.plot import CODECS, DARK, MARKERS, MODELS, saved, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAPER = "#aaaaaa"
"""Colour of figures that are the paper's."""

IN_PAPER = "{}, the paper"


class Spread(NamedTuple):
    """A figure over seeds: mean, least and most."""

    mean: float
    low: float
    high: float


class Line(NamedTuple):
    """The rows of a table that are joined by a line.

    Attributes:
        name: for the legend.
        family: lines of one codec have one colour and one marker.
        kind: ``own``; ``variant``, of the same codec trained otherwise; or ``paper``, in grey.
        points: mean rate in bits a pixel, and what it buys, by rising rate.
    """

    name: str
    family: str
    kind: str
    points: Sequence[tuple[float, Spread]]


def draw_rows(
    lines: Sequence[Line],
    uncompressed: Spread | None,
    paper_uncompressed: float | None,
    *,
    label: str,
) -> dict[str, bytes]:
    """Draw the rows of a table over their rate, the paper's behind them.

    Args:
        lines: those of our codec first; lines without points are left out, and one has some.
        uncompressed: what pictures that are not coded reach.
        paper_uncompressed: likewise in the paper.
        label: of what the rate buys, with its unit.

    Returns:
        The files ``png`` and ``svg``; the same rows give the same SVG.

    Raises:
        BackendUnavailable: matplotlib is missing.
    """
    plotting.check()
    import matplotlib as mpl
    from matplotlib.figure import Figure

    families = list(dict.fromkeys(line.family for line in lines))
    with mpl.rc_context({"svg.hashsalt": "tactic", "font.size": 9}):
        figure = Figure(figsize=(7.6, 4.6), layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log")
        across: dict[str, Any] = {"linestyle": (0, (5, 3)), "linewidth": 1.1}
        if uncompressed:
            axes.axhspan(uncompressed.low, uncompressed.high, color=DARK, alpha=0.1, linewidth=0)
            axes.axhline(uncompressed.mean, color=DARK, label="uncompressed", **across)
        if paper_uncompressed is not None:
            name = IN_PAPER.format("uncompressed")
            axes.axhline(paper_uncompressed, color=PAPER, label=name, zorder=1, **across)
        drawn = [line for line in lines if line.points]
        for line in drawn:
            _draw_line(axes, line, families.index(line.family))
        tidy(axes)
        rates = [rate for line in drawn for rate, _ in line.points]
        axes.set_xlim(min(rates) / 1.2, max(rates) * 1.2)
        axes.set_xlabel("bits a pixel, of whole files")
        axes.set_ylabel(label)
        named = sorted(
            zip(*axes.get_legend_handles_labels(), strict=True),
            key=lambda item: item[1].endswith(IN_PAPER.format("")),  # the paper's come last
        )
        figure.legend(
            *zip(*named, strict=True),
            loc="outside right center",
            frameon=False,
            labelspacing=0.9,
        )
        return saved(figure, ("png", "svg"))


def _draw_line(axes: "Axes", line: Line, family: int) -> None:
    ours, variant, paper = family == 0, line.kind == "variant", line.kind == "paper"
    # The first colour of codecs is grey, which is the paper's here.
    colour = PAPER if paper else (MODELS[0], *CODECS[1:])[family]
    rates, bought = zip(*line.points, strict=True)
    axes.errorbar(
        *(rates, [spread.mean for spread in bought]),
        yerr=None if paper else _bars(bought),
        color=colour,
        marker=("o", *MARKERS)[family],
        markersize=5 if ours else 4,
        markerfacecolor="white" if variant else colour,
        linestyle="--" if variant else "-",
        linewidth=2.2 if ours and not paper else 1.2,
        elinewidth=1,
        capsize=2.5,
        label=IN_PAPER.format(line.name) if paper else line.name,
        zorder=1 if paper else 4 if ours else 3,
    )


def _bars(spreads: Sequence[Spread]) -> list[list[float]]:
    """Return how far the bars of points reach down, and how far up."""
    below = [spread.mean - spread.low for spread in spreads]
    return [below, [spread.high - spread.mean for spread in spreads]]
