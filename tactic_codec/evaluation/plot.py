"""Curves as a picture: agreement or mean IoU, and PSNR, over bits a pixel; a column a folder."""

import io
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from tactic_codec.errors import BackendUnavailable
from tactic_codec.evaluation.curves import AnyPoint, Curve
from tactic_codec.evaluation.evaluate import FolderResult, rates
from tactic_codec.evaluation.masks import MaskResult
from tactic_codec.evaluation.tables import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Models are drawn strongly and first in the legend; codecs thinner, in colours that people with
# the common kinds of colour blindness tell apart (Okabe and Ito, 2008), and with other markers.
_MODELS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7")
_CODECS = ("#7f7f7f", "#56b4e9", "#e69f00", "#8c6bb1", "#4d9a3f", "#b15928")
_MARKERS = ("s", "^", "D", "v", "P", "X")
_TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)

_LEGEND_INCHES = 1.5
"""Room for a name of the legend."""

_LABELS = {
    "agreement": "same label as uncompressed, %",
    "retrained agreement": "same label, head retrained, %",
    "mean IoU": "mean IoU, %",
    "retrained mean IoU": "mean IoU, head retrained, %",
    "psnr": "PSNR, dB",
}


def check() -> None:
    """Make sure that plots can be drawn.

    Raises:
        BackendUnavailable: matplotlib is missing.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError as exc:
        raise BackendUnavailable(
            'plots need matplotlib; run: pip install "tactic-codec[eval]"'
        ) from exc


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
    check()
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
            row[0].set_ylabel(_LABELS[quality])
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
        files = {}
        for form in formats:
            stream = io.BytesIO()
            metadata = {"Date": None} if form == "svg" else None
            figure.savefig(stream, format=form, dpi=160, metadata=metadata)
            files[form] = stream.getvalue()
    return files


def _draw_panel(axes: "Axes", result: FolderResult | MaskResult, quality: str) -> None:
    axes.set_xscale("log")
    if isinstance(result, MaskResult) and quality != "psnr":
        # Agreement ends at 100 %; a mean IoU where that of the pictures themselves is.
        itself = result.uncompressed.shares()[quality]
        height = 100 * itself.share
        axes.axhline(height, color="#404040", linestyle="--", linewidth=1, label="uncompressed")
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
    axes.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
    axes.minorticks_off()
    axes.grid(color="#e3e3e3", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _interval(curve: Curve[AnyPoint], quality: str) -> tuple[list[float], list[float]]:
    shares = [point.shares()[quality] for point in curve.points]
    return [100 * share.low for share in shares], [100 * share.high for share in shares]
