"""The results of an evaluation as JSON, CSV, Markdown and text."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tactic_codec.evaluation.comparisons import Comparison
from tactic_codec.evaluation.curves import RETRAINED, Point
from tactic_codec.evaluation.evaluate import FolderResult
from tactic_codec.report.formats import csv_of
from tactic_codec.tasks import Question, Score, Share, Witness

Cell = str | int | float | None

EFFORT_NOTE = (
    "Effort above 0 asks the model's own task network: where that is the reference network, its "
    "figures are better than another network's would be."
)
"""What to know where models were measured at efforts above 0."""


@dataclass(frozen=True)
class Report:
    """An evaluation: how it was made, and what came out.

    Attributes:
        task: what the reference was asked.
        size: side of the squares that were coded, in pixels; None for whole pictures.
        reference: name and fingerprint of the model whose task network answered.
        witness: who that was.
        held_out: whether only images were taken that training had kept out.
        limit: most images of a folder; None for all.
        within: the shares over which BD-rates were taken.
        retrained_steps: of each retrained head; None where there was none.
        notes: what was left out, and why.
        folders: the results.
    """

    task: Question[Any, Any]
    size: int | None
    reference: tuple[str, str]
    witness: Witness
    held_out: bool
    limit: int | None
    within: tuple[float, float]
    retrained_steps: int | None
    notes: tuple[str, ...]
    folders: tuple[FolderResult, ...]

    def title(self, quality: str) -> str:
        """Return the name for people of a quality: ``psnr``, or the name of a score."""
        name = quality.removeprefix(RETRAINED)
        retrained = "retrained " if name != quality else ""
        return retrained + self.task.titles.get(name, name)


# --- JSON and CSV ---------------------------------------------------------------------------------


def as_json(report: Report) -> dict[str, Any]:
    """Return everything, with as many digits as its precision deserves."""
    return {
        "size": report.size,
        "reference": {
            "model": report.reference[0],
            "fingerprint": report.reference[1],
            "network": report.witness.network,
        },
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
    return {
        "setting": point.setting,
        "images": point.images,
        "bytes": round(point.bytes, 2),
        "bpp": round(point.bpp, 5),
        "psnr": round(point.psnr, 3),
        "ms_ssim": round(point.ms_ssim, 5),
        **{name: _json_score(score) for name, score in point.all_scores().items()},
    }


def _json_score(score: Score) -> Any:
    if isinstance(score, Share):
        return {name: round(value, 5) for name, value in score._asdict().items()}
    if isinstance(score, tuple):
        return [None if value is None else round(value, 5) for value in score]
    return None if score is None else round(score, 5)


def _json_comparison(report: Report, comparison: Comparison) -> dict[str, Any]:
    found = comparison.bd_rate
    return {
        "test": comparison.test,
        "anchor": comparison.anchor,
        "quality": report.title(comparison.quality),
        "bd_rate": found and round(found.change, 5),
        "range": found and [round(found.low, 5), round(found.high, 5)],
    }


def as_csv(report: Report) -> str:
    """Return the points, a line each; the uncompressed pictures come first in each folder."""
    lines = [
        {
            "folder": result.folder,
            "coder": name,
            "kind": kind,
            **_flat(_json_point(point), report.witness.labels),
        }
        for result in report.folders
        for name, kind, point in _all_points(result)
    ]
    return csv_of(lines)


def _all_points(result: FolderResult) -> Iterator[tuple[str, str, Point]]:
    yield "uncompressed", "uncompressed", result.uncompressed
    for curve in result.curves:
        for point in curve.points:
            yield curve.name, curve.kind, point


def _flat(facts: dict[str, Any], labels: Sequence[str]) -> dict[str, Cell]:
    """Turn ``{"accuracy": {"share": 1, "low": 0}}`` into ``{"accuracy": 1, "accuracy_low": 0}``.

    A list has a value for each class, and becomes a column each: ``iou_0_road``. The index keeps
    classes of one name apart.
    """
    cells: dict[str, Cell] = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            cells[name] = value["share"]
            cells |= {f"{name}_{end}": value[end] for end in ("low", "high")}
        elif isinstance(value, list):
            columns = [f"{name}_{index}_{label}" for index, label in enumerate(labels)]
            cells |= dict(zip(columns, value, strict=True))
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
    return "\n".join(_document(report, layout, heading="{}"))


def as_markdown(report: Report) -> str:
    """Return the tables in Markdown."""
    return "\n".join(_document(report, _pipes, heading="## {}\n"))


def _document(report: Report, layout: Layout, *, heading: str) -> Iterator[str]:
    what = "whole pictures" if report.size is None else f"pictures of {report.size} × {report.size}"
    for number, result in enumerate(report.folders):
        if number:
            yield ""
        yield heading.format(f"{result.folder}: {result.images} {what}")
        yield from layout(point_table(report, result))
        if report.task.each_class:
            yield ""
            yield from layout(class_table(report, result))
        for table in comparison_tables(report, result):
            yield ""
            yield from layout(table)
    yield ""
    yield from _footnotes(report)


def point_table(report: Report, result: FolderResult) -> Table:
    """Return a folder's points: one row a coder and setting, by coder and rising rate."""
    known = {name for name, s in result.uncompressed.all_scores().items() if s is not None}
    shown = [prefix + name for prefix in ("", RETRAINED) for name in report.task.titles]
    shown = [name for name in shown if name in known]
    titles = [
        report.task.titles[name.removeprefix(RETRAINED)]
        + (", retrained" if name.startswith(RETRAINED) else "")
        for name in shown
    ]
    table = [[*_COSTS, *titles]]
    for name, kind, point in _all_points(result):
        scores = point.all_scores()
        table.append([*_costs(name, kind, point), *(percent(scores.get(n)) for n in shown)])
    return table


def class_table(report: Report, result: FolderResult) -> Table:
    """Return the score of each class, a column each, at a folder's points."""
    assert report.task.each_class
    score, title = report.task.each_class
    table = [[title, "setting", *report.witness.labels]]
    for name, kind, point in _all_points(result):
        found = point.scores[score]
        assert isinstance(found, tuple)
        shares = ["-" if share is None else f"{100 * share:.1f}" for share in found]
        table.append([*_costs(name, kind, point)[:2], *shares])
    return table


_COSTS = ("coder", "setting", "bytes", "bpp", "PSNR", "MS-SSIM")


def _costs(name: str, kind: str, point: Point) -> list[str]:
    """Return what a row begins with: the coder, its rate, and what it leaves of the pictures."""
    coded = kind != "uncompressed"
    return [
        name,
        f"{point.setting:g}" if coded else "",
        f"{point.bytes:.0f}",
        f"{point.bpp:.4f}",
        f"{point.psnr:.2f}" if coded else "",
        f"{point.ms_ssim:.4f}" if coded else "",
    ]


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
        own = [comparison for comparison in result.comparisons if comparison.test == model]
        qualities = list(dict.fromkeys(comparison.quality for comparison in own))
        found = {(c.anchor, c.quality): c for c in own}
        names = ["PSNR" if quality == "psnr" else report.title(quality) for quality in qualities]
        table = [[f"BD-rate of {model} against", *(f"at equal {name}" for name in names)]]
        for anchor in dict.fromkeys(comparison.anchor for comparison in own):
            table.append([anchor, *(_change(found[anchor, quality]) for quality in qualities)])
        yield table


def _change(comparison: Comparison) -> str:
    found = comparison.bd_rate
    if found is None:
        return "no overlap"
    if comparison.quality == "psnr":
        ends = f"{found.low:.1f}–{found.high:.1f} dB"
    else:
        ends = f"{100 * found.low:.1f}–{100 * found.high:.1f} %"
    return f"{100 * found.change:+.1f} % over {ends}"


def _footnotes(report: Report) -> Iterator[str]:
    name, _ = report.reference
    yield report.task.footnote(report.witness.title, report.size)
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
