"""An evaluation as a page to look at, see `tactic_codec.report.page`.

Report ─ curves, tables ─────────────────────────────┬─▶ Page
pictures ─ coded by the reference, row_of ─▶ Row… ───┘
"""

from collections.abc import Sequence
from pathlib import Path, PurePath

from tactic_codec import report as rows_room
from tactic_codec.evaluation import formats
from tactic_codec.evaluation.evaluate import Evaluation
from tactic_codec.evaluation.pictures import Folder, Picture
from tactic_codec.evaluation.results import Report
from tactic_codec.report import Row, page
from tactic_codec.report.page import Page, Plot, Point, Table
from tactic_codec.tasks.annotations import found_in


def rows_of(evaluation: Evaluation, folders: Sequence[Folder]) -> list[Row]:
    """Return a row of each picture, coded by the reference at its default level, and looked at."""
    codec, task = evaluation.reference, evaluation.task.name
    rows: list[Row] = []
    for folder in folders:
        boxes = found_in(Path(folder.name)) if task == "detect" else None

        def look(picture: Picture, folder: Folder = folder, boxes: object = boxes) -> Row:
            given = {
                "classify": PurePath(picture.name).parts[0],
                "detect": (boxes, picture.name),
                "segment": picture.truth,
            }
            return rows_room.row_of(
                codec.compress(picture.pixels).frame,
                codec,
                file=str(PurePath(folder.name, picture.name)),
                number=1,
                original=picture.pixels,
                given={task: given[task]} if task in given and picture.truth is not None else {},
                look=True,
            )

        for row in evaluation.each(look, folder.pictures):
            rows.append(row)
            page.forget(rows)
    return rows


def page_of(report: Report, rows: Sequence[Row], failures: Sequence[tuple[str, str]]) -> Page:
    """Return the page of an evaluation, of its pictures, and of those that could not be read."""
    sums = rows_room.totals(rows)
    assert sums  # an evaluation has pictures
    made = page.of_rows(f"Evaluation of {report.reference[0]}", rows, sums, failures)
    plots, tables = [], []
    for result in report.folders:
        for quality in (*result.uncompressed.shares(), "psnr"):
            title = formats.title(report, quality) if quality != "psnr" else "mean PSNR"
            unit = "dB" if quality == "psnr" else "%"
            curves = {
                curve.name: [Point(p.bpp, *p.shown(quality)) for p in curve.at_best(quality).points]
                for curve in result.curves
            }
            plots.append(Plot(f"{result.folder}: {title}, {unit}", curves))
        head, *lines = formats.point_table(report, result)
        tables.append(Table(f"{result.folder}: each coder at each setting", head, lines))
        for head, *lines in formats.comparison_tables(report, result):
            tables.append(Table(f"{result.folder}: {head[0]}", head, lines))
    *failed, files = made.tables
    level = f"level {rows[0].facts['level']} of {rows[0].facts['model']}"
    files = files._replace(title=f"All pictures at {level}")
    return made._replace(
        facts={"all at": level, **made.facts},
        plots=plots,
        notes=[*formats.footnotes(report), *made.notes],
        tables=[*tables, *failed, files],
    )
