"""The results of an evaluation as JSON, CSV, Markdown and text."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from tactic_codec.evaluation.comparisons import Comparison
from tactic_codec.evaluation.curves import AnyPoint, Curve, Point, Share
from tactic_codec.evaluation.evaluate import FolderResult
from tactic_codec.evaluation.masks import RESAMPLES, MaskPoint, MaskResult, MaskScores

Cell = str | int | float | None

EFFORT_NOTES = {
    "classify": "Effort above 0 asks the model's own classifier: where that is the reference "
    "network, its agreement and accuracy are better than another classifier's would be.",
    "segment": "Effort above 0 asks the model's own task network: where that is the reference "
    "network, its figures are better than another network's would be.",
}
"""What to know where models were measured at efforts above 0, by the task of the reference."""

P = TypeVar("P", bound=AnyPoint)


@dataclass(frozen=True)
class Report:
    """An evaluation: how it was made, and what came out.

    Attributes:
        size: side of the squares that were coded, in pixels; None for whole pictures.
        reference: name and fingerprint of the model whose task network answered.
        network: kind of that task network.
        held_out: whether only images were taken that training had kept out.
        limit: most images of a folder; None for all.
        within: agreements, or mean IoUs, over which their BD-rate was taken.
        retrained_steps: of each retrained head; None where there was none.
        notes: what was left out, and why.
        folders: the results, all of one kind.
    """

    size: int | None
    reference: tuple[str, str]
    network: str
    held_out: bool
    limit: int | None
    within: tuple[float, float]
    retrained_steps: int | None
    notes: tuple[str, ...]
    folders: tuple[FolderResult | MaskResult, ...]


# --- JSON and CSV ---------------------------------------------------------------------------------


def as_json(report: Report) -> dict[str, Any]:
    """Return everything, with as many digits as its precision deserves."""
    return {
        "size": report.size,
        "reference": {
            "model": report.reference[0],
            "fingerprint": report.reference[1],
            "network": report.network,
        },
        "held_out": report.held_out,
        "limit": report.limit,
        _RANGES[type(report.folders[0])]: list(report.within),
        "retrained_steps": report.retrained_steps,
        "notes": list(report.notes),
        "folders": [_json_folder(folder) for folder in report.folders],
    }


_RANGES = {FolderResult: "agreement_range", MaskResult: "mean_iou_range"}


def _json_folder(result: FolderResult | MaskResult) -> dict[str, Any]:
    if isinstance(result, MaskResult):
        shown: dict[str, Any] = {"classes": list(result.classes)}
    else:
        shown = {"labelled": result.labelled}
    return {
        "folder": result.folder,
        "images": result.images,
        **shown,
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
        "bd_rates": [_json_comparison(comparison) for comparison in result.comparisons],
    }


def _json_point(point: Point | MaskPoint) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "setting": point.setting,
        "images": point.images,
        "bytes": round(point.bytes, 2),
        "bpp": round(point.bpp, 5),
        "psnr": round(point.psnr, 3),
        "ms_ssim": round(point.ms_ssim, 5),
    }
    if isinstance(point, MaskPoint):
        facts |= _json_scores(point.scores)
        facts["agreement"] = round(point.agreement, 5)
        if point.retrained:
            known = _json_scores(point.retrained)
            facts |= {f"retrained_{name}": value for name, value in known.items()}
        return facts
    facts["agreement"] = _json_share(point.agreement)
    facts["accuracy"] = _json_share(point.accuracy)
    if point.retrained:
        facts["retrained_agreement"] = _json_share(point.retrained.agreement)
        facts["retrained_accuracy"] = _json_share(point.retrained.accuracy)
    return facts


def _json_scores(scores: MaskScores) -> dict[str, Any]:
    return {
        "mean_iou": _json_share(scores.mean_iou),
        "pixel_accuracy": round(scores.pixel_accuracy, 5),
        "iou": [None if iou is None else round(iou, 5) for iou in scores.iou],
    }


def _json_share(share: Share | None) -> dict[str, float] | None:
    return share and {name: round(value, 5) for name, value in share._asdict().items()}


def _json_comparison(comparison: Comparison) -> dict[str, Any]:
    found = comparison.bd_rate
    return {
        "test": comparison.test,
        "anchor": comparison.anchor,
        "quality": comparison.quality,
        "bd_rate": found and round(found.change, 5),
        "range": found and [round(found.low, 5), round(found.high, 5)],
    }


def as_csv(report: Report) -> str:
    """Return the points, a line each; the uncompressed pictures come first in each folder."""
    lines = [
        {"folder": result.folder, "coder": name, "kind": kind, **_flat(_json_point(point), result)}
        for result in report.folders
        for name, kind, point in _all_points(result.uncompressed, result.curves)
    ]
    columns = list(dict.fromkeys(name for line in lines for name in line))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _all_points(uncompressed: P, curves: Sequence[Curve[P]]) -> Iterator[tuple[str, str, P]]:
    yield "uncompressed", "uncompressed", uncompressed
    for curve in curves:
        for point in curve.points:
            yield curve.name, curve.kind, point


def _flat(facts: dict[str, Any], result: FolderResult | MaskResult) -> dict[str, Cell]:
    """Turn ``{"accuracy": {"share": 1, "low": 0}}`` into ``{"accuracy": 1, "accuracy_low": 0}``.

    A list has a value for each class, and becomes a column each: ``iou_0_road``. The index keeps
    classes of one name apart.
    """
    cells: dict[str, Cell] = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            cells[name] = value["share"]
            cells |= {f"{name}_{end}": value[end] for end in ("low", "high")}
        elif isinstance(value, list) and isinstance(result, MaskResult):
            columns = [f"{name}_{index}_{label}" for index, label in enumerate(result.classes)]
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
    for number, result in enumerate(report.folders):
        if number:
            yield ""
        if isinstance(result, MaskResult):
            yield heading.format(f"{result.folder}: {result.images} whole pictures")
            yield from layout(mask_table(result))
            yield ""
            yield from layout(iou_table(result))
        else:
            yield heading.format(
                f"{result.folder}: {result.images} pictures of {report.size} × {report.size}"
            )
            yield from layout(point_table(result))
        for table in comparison_tables(result):
            yield ""
            yield from layout(table)
    yield ""
    yield from _footnotes(report)


def point_table(result: FolderResult) -> Table:
    """Return a folder's points: one row a coder and setting, by coder and rising rate."""
    labelled, retrained = result.labelled, result.uncompressed.retrained is not None
    header = [*_COSTS, "agreement"]
    header += ["top-1"] if labelled else []
    header += ["agreement, retrained"] if retrained else []
    header += ["top-1, retrained"] if labelled and retrained else []
    table = [header]
    for name, kind, point in _all_points(result.uncompressed, result.curves):
        row = [*_costs(name, kind, point), percent(point.agreement)]
        if labelled:
            row.append(percent(point.accuracy))
        if retrained:
            row.append(percent(point.retrained and point.retrained.agreement))
        if labelled and retrained:
            row.append(percent(point.retrained and point.retrained.accuracy))
        table.append(row)
    return table


def mask_table(result: MaskResult) -> Table:
    """Return a folder's points as `point_table` does, by their label maps."""
    retrained = result.uncompressed.retrained is not None
    header = [*_COSTS, "mean IoU", "pixel accuracy", "agreement"]
    header += ["mean IoU, retrained", "pixel accuracy, retrained"] if retrained else []
    table = [header]
    for name, kind, point in _all_points(result.uncompressed, result.curves):
        row = _costs(name, kind, point)
        row += [*_percents(point.scores), f"{100 * point.agreement:.1f} %"]
        row += _percents(point.retrained) if point.retrained else []
        table.append(row)
    return table


def iou_table(result: MaskResult) -> Table:
    """Return the IoU of each class, a column each, at a folder's points."""
    table = [["IoU in %", "setting", *result.classes]]
    for name, kind, point in _all_points(result.uncompressed, result.curves):
        shares = ["-" if iou is None else f"{100 * iou:.1f}" for iou in point.scores.iou]
        table.append([*_costs(name, kind, point)[:2], *shares])
    return table


_COSTS = ("coder", "setting", "bytes", "bpp", "PSNR", "MS-SSIM")


def _costs(name: str, kind: str, point: AnyPoint) -> list[str]:
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


def _percents(scores: MaskScores) -> list[str]:
    return [percent(scores.mean_iou), f"{100 * scores.pixel_accuracy:.1f} %"]


def percent(share: Share | None) -> str:
    """Return a share with its interval: ``81.5 % (75.6–86.3)``."""
    if share is None:
        return "-"
    value, low, high = (100 * part for part in share)
    return f"{value:.1f} % ({low:.1f}–{high:.1f})"


def comparison_tables(result: FolderResult | MaskResult) -> Iterator[Table]:
    """Yield a table a model: how its rate differs from that of each other curve."""
    for model in dict.fromkeys(comparison.test for comparison in result.comparisons):
        own = [comparison for comparison in result.comparisons if comparison.test == model]
        qualities = list(dict.fromkeys(comparison.quality for comparison in own))
        found = {(c.anchor, c.quality): c for c in own}
        names = {"psnr": "PSNR"}
        table = [
            [f"BD-rate of {model} against", *(f"at equal {names.get(q, q)}" for q in qualities)]
        ]
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
    name, fingerprint = report.reference
    if report.size is None:
        yield (
            f"Mean IoU: over the classes that occur, all pixels of all pictures together but void, "
            f"by the {report.network} of {name} ({fingerprint}). In brackets 95 % intervals from "
            f"{RESAMPLES} draws of the pictures. Agreement: pixels of the same class as in the "
            f"uncompressed picture. bpp: mean of 8 × bytes of a file / its pixels."
        )
    else:
        yield (
            f"Agreement: the same most likely class as for the uncompressed picture, by the "
            f"{report.network} of {name} ({fingerprint}). In brackets 95 % Wilson intervals. bpp: "
            f"8 × mean bytes of a file / {report.size * report.size} pixels."
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
