"""Curves as pictures.

Report ─ draw ─▶ agreement or mean IoU, and PSNR, over bits a pixel; a column a folder
"""

import io
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from tactic_codec import plotting
from tactic_codec.evaluation.formats import title
from tactic_codec.evaluation.results import FolderResult, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Models are drawn strongly and first in the legend; codecs thinner, in colours that people with
# the common kinds of colour blindness tell apart (Okabe and Ito, 2008), and with other markers.
MODELS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7")
CODECS = ("#7f7f7f", "#56b4e9", "#e69f00", "#8c6bb1", "#4d9a3f", "#b15928")
MARKERS = ("s", "^", "D", "v", "P", "X")
DARK = "#404040"
"""Colour of pictures that are not coded."""

_TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_LEGEND_INCHES = 1.5
"""Room for a name of the legend."""

_STYLES: dict[str, dict[str, Any]] = {
    "model": {"marker": "o", "markersize": 5, "linewidth": 2.2, "zorder": 3},
    "codec": {"markersize": 3.5, "linewidth": 1.1},
}


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
    every = [p for result in report.folders for curve in result.curves for p in curve.points]
    scaled = "; small numbers: scale" if any(point.scale != 1 for point in every) else ""
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
        rate = [point.bpp for point in every]
        panels[0][0].set_xlim(min(rate) / 1.15, max(rate) * 1.15)  # of all, which share this axis
        for axes in panels[-1]:
            axes.set_xlabel("bits a pixel, of whole files" + scaled)
        handles, names = panels[0][0].get_legend_handles_labels()
        figure.legend(
            *(handles, names),
            loc="outside lower center",
            ncols=min(len(names), int(width / _LEGEND_INCHES)),
            frameon=False,
        )
        return saved(figure, formats)


def _label(report: Report, quality: str) -> str:
    return "PSNR, dB" if quality == "psnr" else f"{title(report, quality)}, %"


def _draw_panel(axes: "Axes", result: FolderResult, quality: str) -> None:
    axes.set_xscale("log")
    itself = result.uncompressed.shares().get(quality)
    if itself and itself.share < 1:  # what the pictures themselves reach is as much as there is
        height = 100 * itself.share
        axes.axhline(height, color=DARK, linestyle="--", linewidth=1, label="uncompressed")
    for kind, style in _STYLES.items():
        for number, curve in enumerate(c for c in result.curves if c.kind == kind):
            curve = curve.at_best(quality)
            colours = MODELS if kind == "model" else CODECS
            marker: dict[str, Any] = (
                {} if kind == "model" else {"marker": MARKERS[number % len(MARKERS)]}
            )
            colour = colours[number % len(colours)]
            x = [point.bpp for point in curve.points]
            y, low, high = zip(*(point.shown(quality) for point in curve.points), strict=True)
            own = {"color": colour, "label": curve.name, **style, **marker}
            axes.plot(x, y, **own)
            for point, place in zip(curve.points, zip(x, y, strict=True), strict=True):
                if point.scale != 1:
                    name = f"{point.scale:g}"
                    axes.annotate(name, place, (3, -7), textcoords="offset points", fontsize=5)
            if kind == "codec" or quality == "psnr":
                continue
            axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
            if len(x) == 1:  # there is nothing between one point and the next
                axes.vlines(x, low, high, color=colour, alpha=0.5)
    tidy(axes)


def tidy(axes: "Axes") -> None:
    """Give axes a logarithmic rate's ticks, a grid, and no frame."""
    axes.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
    axes.minorticks_off()
    axes.grid(color="#e3e3e3", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def saved(figure: "Figure", formats: Sequence[str]) -> dict[str, bytes]:
    """Return a figure's files, by their formats; of SVG always the same one."""
    files = {}
    for form in formats:
        stream = io.BytesIO()
        metadata = {"Date": None} if form == "svg" else None
        figure.savefig(stream, format=form, dpi=160, metadata=metadata)
        files[form] = stream.getvalue()
    return files
