"""Curves as pictures.

Report ─ draw ─▶ agreement or mean IoU, and PSNR, over bits a pixel; a column a folder
Line…  ─ draw_rows ─▶ a table's rows over bits a pixel, means over seeds, with the paper's behind
"""

import io
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from tactic_codec import plotting
from tactic_codec.evaluation.comparisons import rates
from tactic_codec.evaluation.curves import RETRAINED, Curve
from tactic_codec.evaluation.evaluate import FolderResult
from tactic_codec.evaluation.formats import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Models are drawn strongly and first in the legend; codecs thinner, in colours that people with
# the common kinds of colour blindness tell apart (Okabe and Ito, 2008), and with other markers.
_MODELS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7")
_CODECS = ("#7f7f7f", "#56b4e9", "#e69f00", "#8c6bb1", "#4d9a3f", "#b15928")
_MARKERS = ("s", "^", "D", "v", "P", "X")
_TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)

_DARK, _PAPER = "#404040", "#aaaaaa"
"""Colours of pictures that are not coded, and of figures that are the paper's."""

_IN_PAPER = "{}, the paper"

_LEGEND_INCHES = 1.5
"""Room for a name of the legend."""


def draw(report: Report, formats: Sequence[str] = ("png", "svg")) -> dict[str, bytes]:
    """Draw all folders of a report.

    Args:
        report: with at least one folder.
        formats: of the files: ``png``, ``svg``.

    Returns:
        A file for each format; the same report and formats give the same SVG.

    Raises:
        BackendUnavailable: matplotlib is missing.
    """
    plotting.check()
    import matplotlib as mpl
    from matplotlib.figure import Figure

    qualities = [*report.folders[0].uncompressed.shares(), "psnr"]
    columns = len(report.folders)
    with mpl.rc_context({"svg.hashsalt": "tactic", "font.size": 9}):
        width = max(6.4, 4.6 * columns)
        figure = Figure(figsize=(width, 3.2 * len(qualities) + 0.8), layout="constrained")
        panels = figure.subplots(len(qualities), columns, squeeze=False, sharex=True, sharey="row")
        for row, quality in zip(panels, qualities, strict=True):
            for axes, result in zip(row, report.folders, strict=True):
                _draw_panel(axes, result, quality)
            row[0].set_ylabel(_label(report, quality))
        for axes, result in zip(panels[0], report.folders, strict=True):
            # Many folders are called train or val: the one above tells them apart.
            name = "/".join(PurePath(result.folder).parts[-2:])
            axes.set_title(f"{name}: {result.images} pictures")
        rate = [p.bpp for result in report.folders for c in result.curves for p in c.points]
        panels[0][0].set_xlim(min(rate) / 1.15, max(rate) * 1.15)  # of all, which share this axis
        for axes in panels[-1]:
            axes.set_xlabel("bits a pixel, of whole files")
        handles, names = panels[0][0].get_legend_handles_labels()
        figure.legend(
            *(handles, names),
            loc="outside lower center",
            ncols=min(len(names), int(width / _LEGEND_INCHES)),
            frameon=False,
        )
        return _saved(figure, formats)


def _label(report: Report, quality: str) -> str:
    if quality == "psnr":
        return "PSNR, dB"
    full, short = report.task.axes
    return f"{short}, head retrained, %" if quality.startswith(RETRAINED) else f"{full}, %"


def _draw_panel(axes: "Axes", result: FolderResult, quality: str) -> None:
    axes.set_xscale("log")
    itself = result.uncompressed.shares().get(quality)
    if itself and itself.share < 1:  # what the pictures themselves reach is as much as there is
        height = 100 * itself.share
        axes.axhline(height, color=_DARK, linestyle="--", linewidth=1, label="uncompressed")
    models = [curve for curve in result.curves if curve.kind == "model"]
    codecs = [curve for curve in result.curves if curve.kind == "codec"]
    scale = 1 if quality == "psnr" else 100
    for number, curve in enumerate(models):
        colour = _MODELS[number % len(_MODELS)]
        x, y = zip(*rates(curve, quality), strict=True)
        axes.plot(
            *(x, [scale * value for value in y]),
            color=colour,
            marker="o",
            markersize=5,
            linewidth=2.2,
            label=curve.name,
            zorder=3,
        )
        if quality != "psnr":
            low, high = _interval(curve, quality)
            axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
            if len(x) == 1:  # there is nothing between one point and the next
                axes.vlines(x, low, high, color=colour, alpha=0.5)
    for number, curve in enumerate(codecs):
        x, y = zip(*rates(curve, quality), strict=True)
        axes.plot(
            *(x, [scale * value for value in y]),
            color=_CODECS[number % len(_CODECS)],
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=3.5,
            linewidth=1.1,
            label=curve.name,
        )
    _tidy(axes)


def _interval(curve: Curve, quality: str) -> tuple[list[float], list[float]]:
    shares = [point.shares()[quality] for point in curve.points]
    return [100 * share.low for share in shares], [100 * share.high for share in shares]


# --- The rows of a table --------------------------------------------------------------------------


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
        kind: ``own``; ``variant``, the same pictures in other files; or ``paper``, drawn in grey.
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
    formats: Sequence[str] = ("png", "svg"),
) -> dict[str, bytes]:
    """Draw the rows of a table over their rate, the paper's behind them.

    Args:
        lines: those of our codec first; lines without points are left out, and one has some.
        uncompressed: what pictures that are not coded reach.
        paper_uncompressed: likewise in the paper.
        label: of what the rate buys, with its unit.
        formats: of the files: ``png``, ``svg``.

    Returns:
        A file for each format; the same rows and formats give the same SVG.

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
            axes.axhspan(uncompressed.low, uncompressed.high, color=_DARK, alpha=0.1, linewidth=0)
            axes.axhline(uncompressed.mean, color=_DARK, label="uncompressed", **across)
        if paper_uncompressed is not None:
            name = _IN_PAPER.format("uncompressed")
            axes.axhline(paper_uncompressed, color=_PAPER, label=name, zorder=1, **across)
        drawn = [line for line in lines if line.points]
        for line in drawn:
            _draw_line(axes, line, families.index(line.family))
        _tidy(axes)
        rates = [rate for line in drawn for rate, _ in line.points]
        axes.set_xlim(min(rates) / 1.2, max(rates) * 1.2)
        axes.set_xlabel("bits a pixel, of whole files")
        axes.set_ylabel(label)
        named = sorted(
            zip(*axes.get_legend_handles_labels(), strict=True),
            key=lambda item: item[1].endswith(_IN_PAPER.format("")),  # the paper's come last
        )
        figure.legend(
            *zip(*named, strict=True),
            loc="outside right center",
            frameon=False,
            labelspacing=0.9,
        )
        return _saved(figure, formats)


def _draw_line(axes: "Axes", line: Line, family: int) -> None:
    ours, variant, paper = family == 0, line.kind == "variant", line.kind == "paper"
    # The first colour of codecs is grey, which is the paper's here.
    colour = _PAPER if paper else (_MODELS[0], *_CODECS[1:])[family]
    rates, bought = zip(*line.points, strict=True)
    axes.errorbar(
        *(rates, [spread.mean for spread in bought]),
        yerr=None if paper else _bars(bought),
        color=colour,
        marker=("o", *_MARKERS)[family],
        markersize=5 if ours else 4,
        markerfacecolor="white" if variant else colour,
        linestyle="--" if variant else "-",
        linewidth=2.2 if ours and not paper else 1.2,
        elinewidth=1,
        capsize=2.5,
        label=_IN_PAPER.format(line.name) if paper else line.name,
        zorder=1 if paper else 4 if ours else 3,
    )


def _bars(spreads: Sequence[Spread]) -> list[list[float]]:
    """Return how far the bars of points reach down, and how far up."""
    below = [spread.mean - spread.low for spread in spreads]
    return [below, [spread.high - spread.mean for spread in spreads]]


# --- Both -----------------------------------------------------------------------------------------


def _tidy(axes: "Axes") -> None:
    axes.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
    axes.minorticks_off()
    axes.grid(color="#e3e3e3", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _saved(figure: "Figure", formats: Sequence[str]) -> dict[str, bytes]:
    files = {}
    for form in formats:
        stream = io.BytesIO()
        metadata = {"Date": None} if form == "svg" else None
        figure.savefig(stream, format=form, dpi=160, metadata=metadata)
        files[form] = stream.getvalue()
    return files
