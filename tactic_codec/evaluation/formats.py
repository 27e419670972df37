"""The results of an evaluation as JSON, CSV, Markdown and text."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from tactic_codec import metrics
from tactic_codec.errors import display
from tactic_codec.evaluation.bdrate import COMMON
from tactic_codec.evaluation.results import RETRAINED, Comparison, FolderResult, Point, Report
from tactic_codec.report import csv_of
from tactic_codec.tasks import Score, Share

EFFORT_NOTE = (
    "Effort above 0 asks the model's own task network: where that is the reference network, its "
    "figures are better than another network's would be."
)
"""What to know where models were measured at efforts above 0."""

COSTS = (("bytes", 2, ".0f"), ("bpp", 5, ".4f"), ("psnr", 3, ".2f"), ("ms_ssim", 5, ".4f"))
"""Figures of a point beside its scores, their digits in JSON, and their format for people."""

_TITLES = ("coder", "setting", "bytes", "bpp", "PSNR", "MS-SSIM")


def title(report: Report, quality: str) -> str:
    """Return the name for people of a quality: ``psnr``, or the name of a score."""
    name = quality.removeprefix(RETRAINED)
    return "retrained " * (name != quality) + report.task.titles.get(name, name)


# --- JSON and CSV ---------------------------------------------------------------------------------


def as_json(report: Report) -> dict[str, Any]:
    """Return everything, with as many digits as its precision deserves."""
    name, fingerprint = report.reference
    return {
        "size": report.size,
        "reference": {"model": name, "fingerprint": fingerprint, "network": report.witness.network},
        "held_out": report.held_out,
        "limit": report.limit,
        f"{next(iter(report.task.titles))}_range": list(report.within),
        "retrained_steps": report.retrained_steps,
        "notes": list(report.notes),
        "folders": [_json_folder(report, folder) for folder in report.folders],
    }


def _json_folder(report: Report, result: FolderResult) -> dict[str, Any]:
    classes = {"classes": list(report.witness.labels)}
    return {
        "folder": result.folder,
        "images": result.images,
        **(classes if report.task.each_class else {"labelled": result.labelled}),
        "uncompressed": _json_point(result.uncompressed),
        "curves": [
            {
                "coder": curve.name,
                "kind": curve.kind,
                "settings": curve.settings,
                "points": [_json_point(point) for point in curve.points],
            }
            for curve in result.curves
        ],
        "bd_rates": [_json_comparison(report, comparison) for comparison in result.comparisons],
    }


def _json_point(point: Point) -> dict[str, Any]:
    costs = {name: round(getattr(point, name), digits) for name, digits, _ in COSTS}
    scores = {name: _json_score(score) for name, score in point.all_scores().items()}
    return {
        "setting": point.setting,
        "scale": point.scale,
        "images": point.images,
        **costs,
        **scores,
    }


def _json_score(score: Score) -> Any:
    if isinstance(score, Share):
        return {name: round(value, 5) for name, value in score._asdict().items()}
    if isinstance(score, tuple):
        return [_json_score(value) for value in score]
    return None if score is None else round(score, 5)


def _json_comparison(report: Report, comparison: Comparison) -> dict[str, Any]:
    found = comparison.bd_rate
    return {
        "test": comparison.test,
        "anchor": comparison.anchor,
        "quality": title(report, comparison.quality),
        "bd_rate": found and round(found.change, 5),
        "interval": found and found.interval and [round(end, 5) for end in found.interval],
        "draws": found and found.draws,
        "range": found and [round(found.low, 5), round(found.high, 5)],
    }


def as_csv(report: Report) -> str:
    """Return the points, a line each; the uncompressed pictures come first in each folder."""
    return csv_of(
        {"folder": result.folder, "coder": name, "kind": kind}
        | _flat(_json_point(point), report.witness.labels)
        for result in report.folders
        for name, kind, point in result.points()
    )


def _flat(facts: dict[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """Turn ``{"accuracy": {"share": 1, "low": 0}}`` into ``{"accuracy": 1, "accuracy_low": 0}``.

    A list has a value for each class, and becomes a column each: ``iou_0_road``. The index keeps
    classes of one name apart.
    """
    cells: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            cells |= {name if k == "share" else f"{name}_{k}": v for k, v in value.items()}
        elif isinstance(value, list):
            cells |= {f"{name}_{i}_{labels[i]}": part for i, part in enumerate(value)}
        else:
            cells[name] = value
    return cells


# --- For people -----------------------------------------------------------------------------------

Table = list[list[str]]
"""Rows of cells, the first with the names of the columns."""

Layout = Callable[[Table], Iterable[str]]
"""Makes lines of a table."""


def as_text(report: Report, layout: Layout) -> str:
    """Return the tables for a terminal, laid out in columns by ``layout``."""
    return "\n".join(map(display, _document(report, layout, "{}")))


def as_markdown(report: Report) -> str:
    """Return the tables in Markdown."""
    return "\n".join(map(display, _document(report, _pipes, "## {}", "")))


def _document(report: Report, layout: Layout, *heading: str) -> Iterator[str]:
    what = "whole pictures" if report.size is None else f"pictures of {report.size} × {report.size}"
    for result in report.folders:
        title = f"{result.folder}: {result.images} {what}"
        yield from (line.format(title) for line in heading)
        tables = [point_table(report, result), *comparison_tables(report, result)]
        if report.task.each_class:
            tables.insert(1, class_table(report, result))
        for table in tables:
            yield from layout(table)
            yield ""
    yield from footnotes(report)


def point_table(report: Report, result: FolderResult) -> Table:
    """Return a folder's points: one row a coder and setting, by coder and rising rate."""
    known = {name for name, s in result.uncompressed.all_scores().items() if s is not None}
    titles = {name: text for name, text in report.task.titles.items() if name in known}
    for name, text in report.task.titles.items():
        if RETRAINED + name in known:
            titles[RETRAINED + name] = f"{text}, retrained"
    table = [[*_TITLES, *titles.values()]]
    for name, kind, point in result.points():
        scores = point.all_scores()
        table.append([*_costs(name, kind, point), *(percent(scores.get(n)) for n in titles)])
    return table


def class_table(report: Report, result: FolderResult) -> Table:
    """Return the score of each class, a column each, at a folder's points."""
    assert report.task.each_class
    score, name = report.task.each_class
    table = [[name, "setting", *report.witness.labels]]
    for coder, kind, point in result.points():
        found = point.scores[score]
        assert isinstance(found, tuple)
        shares = ["-" if share is None else f"{100 * share:.1f}" for share in found]
        table.append([*_costs(coder, kind, point)[:2], *shares])
    return table


def _costs(name: str, kind: str, point: Point) -> list[str]:
    """Return what a row begins with: the coder, its rate, and what it leaves of the pictures."""
    costs = [format(getattr(point, name), form) for name, _, form in COSTS]
    if kind == "uncompressed":
        return [name, "", *costs[:2], "", ""]
    scale = f" at {point.scale:g}" * (point.scale != 1)
    return [name, f"{point.setting:g}{scale}", *costs]


def percent(score: Score) -> str:
    """Return a share, with its interval where it has one: ``81.5 % (75.6–86.3)``."""
    if isinstance(score, Share):
        value, low, high = (100 * part for part in score)
        return f"{value:.1f} % ({low:.1f}–{high:.1f})"
    assert not isinstance(score, tuple)
    return "-" if score is None else f"{100 * score:.1f} %"


def comparison_tables(report: Report, result: FolderResult) -> Iterator[Table]:
    """Yield a table a model: how its rate differs from that of each other curve."""
    for model in dict.fromkeys(comparison.test for comparison in result.comparisons):
        rows: dict[str, dict[str, str]] = {}
        for comparison in result.comparisons:
            if comparison.test == model:
                quality = comparison.quality
                name = "PSNR" if quality == "psnr" else title(report, quality)
                rows.setdefault(comparison.anchor, {})[f"at equal {name}"] = _change(comparison)
        header = [f"BD-rate of {model} against", *next(iter(rows.values()))]
        yield [header, *([anchor, *cells.values()] for anchor, cells in rows.items())]


def _change(comparison: Comparison) -> str:
    found = comparison.bd_rate
    if found is None:
        return "no overlap"
    unit, scale = ("dB", 1) if comparison.quality == "psnr" else ("%", 100)
    ends = f"{scale * found.low:.1f}–{scale * found.high:.1f} {unit}"
    interval = ""
    if found.interval:
        interval = " ({:+.1f} to {:+.1f})".format(*(100 * end for end in found.interval))
    return f"{100 * found.change:+.1f} %{interval} over {ends}"


def footnotes(report: Report) -> Iterator[str]:
    """Yield what has to be known beside the tables."""
    name, _ = report.reference
    yield report.task.footnote(report.witness.title, report.size)
    if any(result.comparisons for result in report.folders):
        yield (
            f"BD-rate: the mean difference in rate at equal quality. In brackets paired 95 % "
            f"intervals from {metrics.RESAMPLES} draws of the pictures, the same for both coders. "
            f"Draws in which the two reach no common quality are left out; if they are more than "
            f"{100 * (1 - COMMON):.0f} %, there is no interval."
        )
    if report.held_out:
        yield f"Only pictures that the training of {name} kept out."
    if report.retrained_steps is not None:
        yield f"Retrained: the head after {report.retrained_steps} steps on each row's own output."
    settings = {curve.name: curve.settings for f in report.folders for curve in f.curves}
    yield from (f"{name}: {text}." for name, text in settings.items())
    yield from report.notes


def _pipes(table: Table) -> Iterator[str]:
    header, *rows = table
    for row in [header, ["---", *("---:" for _ in header[1:])], *rows]:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
