"""Rows and totals as JSON and CSV."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from tactic_codec.report.facts import Fidelity, Row, Totals

Cells = dict[str, str | int | float | None]


def row_as_json(row: Row) -> dict[str, Any]:
    """Return what is known of a frame; null stands for the PSNR of equal pictures."""
    size = row.size
    facts: dict[str, Any] = {
        "file": row.file,
        "frame": row.frame,
        "bytes": size.bytes,
        "width": size.width,
        "height": size.height,
        "bpp": _rounded(size.bpp),
        "payload_bpp": _rounded(size.payload_bpp),
        "ideal_bpp": _rounded(size.ideal_bpp),
        "model": row.model,
        "level": size.level,
    }
    if row.fidelity:
        facts |= _json_fidelity(row.fidelity)
    for rival in row.rivals:
        facts[rival.codec] = {
            "quality": rival.quality,
            "bytes": rival.bytes,
            "fits": rival.fits,
            **_json_fidelity(rival.fidelity),
        }
    for verdict in row.verdicts.values():
        facts |= verdict.facts
    return facts


def totals_as_json(sums: Totals) -> dict[str, Any]:
    """Return what is known of all frames together."""
    facts: dict[str, Any] = {
        "frames": sums.frames,
        "bytes": sums.bytes,
        "pixels": sums.pixels,
        "mean_bytes": _rounded(sums.mean_bytes),
        "mean_bpp": _rounded(sums.mean_bpp),
        "mean_payload_bpp": _rounded(sums.mean_payload_bpp),
        "mean_ideal_bpp": _rounded(sums.mean_ideal_bpp),
        "total_bpp": _rounded(sums.total_bpp),
    }
    if sums.fidelity:
        facts |= _json_fidelity(sums.fidelity, "mean_")
    for rival in sums.rivals:
        facts[rival.codec] = {
            "mean_bytes": _rounded(rival.bytes),
            "over": rival.over,
            **_json_fidelity(rival.fidelity, "mean_"),
        }
    facts |= {summary.name: summary.facts for summary in sums.summaries.values()}
    return facts


def _json_fidelity(fidelity: Fidelity, prefix: str = "") -> Cells:
    # JSON knows no infinity: null stands for equal pictures.
    psnr = fidelity.psnr if math.isfinite(fidelity.psnr) else None
    return {f"{prefix}psnr": _rounded(psnr), f"{prefix}ms_ssim": _rounded(fidelity.ms_ssim)}


def _rounded(value: float | None) -> float | None:
    return value if value is None or isinstance(value, int) else round(value, 6)


def as_csv(rows: Sequence[Row], sums: Totals) -> bytes:
    """Return a line a frame, then their means and their sums."""
    lines = [_flat(row_as_json(row)) for row in rows]
    lines.append({"file": "MEAN", **_mean_cells(sums)})
    lines.append({"file": "SUM", **_sum_cells(sums)})
    return csv_of(lines).encode("utf-8", "surrogateescape")


def csv_of(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return lines below a header with the names of all that any of them has."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, dict.fromkeys(chain(*lines)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _flat(facts: Mapping[str, Any]) -> Cells:
    """Turn ``{"jpeg": {"bytes": 1}}`` into ``{"jpeg_bytes": 1}``."""
    cells: Cells = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            cells |= {f"{name}_{part}": inner for part, inner in _flat(value).items()}
        else:
            cells[name] = int(value) if isinstance(value, bool) else value
    return cells


def _mean_cells(sums: Totals) -> Cells:
    """Return the means under the names of the columns they are means of."""
    cells = _flat(totals_as_json(sums._replace(summaries={})))
    means = {name.replace("mean_", ""): value for name, value in cells.items() if "mean_" in name}
    for summary in sums.summaries.values():
        means |= summary.means
    return means


def _sum_cells(sums: Totals) -> Cells:
    """Return what was added up, under the names of the columns, and each class's own."""
    cells: Cells = {"bytes": sums.bytes, "bpp": _rounded(sums.total_bpp)}
    for summary in sums.summaries.values():
        cells |= summary.sums
    return cells
