"""``tactic bpp-report``: rows and totals as a table, as CSV or as JSON lines."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tactic_codec.cli import decoding, files, options
from tactic_codec.cli.console import collect_warnings, opened, table
from tactic_codec.cli.decoding import FrameItem
from tactic_codec.cli.files import FRAMES
from tactic_codec.errors import ConfigError, DataError, UnknownModel, display

if TYPE_CHECKING:
    from tactic_codec.picture import LabelMap
    from tactic_codec.report import Row
    from tactic_codec.tasks.annotations import Maker


@click.command(
    "bpp-report",
    short_help="Report bits a pixel, fidelity and accuracy.",
    epilog=options.examples(
        "tactic bpp-report coded/",
        "tactic bpp-report coded/ --originals photos/ --format csv > report.csv",
        "tactic bpp-report coded/ --masks masks/",
        "tactic bpp-report coded/ --originals photos/ --html report.html",
        "cat photo.tac | tactic bpp-report -",
    ),
)
@click.argument("paths", nargs=-1, required=True, metavar="DIR...")
@click.option(
    "--originals",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="Folder of the pictures that were compressed, with the same subfolders and names.",
)
@click.option(
    "--with",
    "rivals",
    default="jpeg,webp",
    show_default=True,
    metavar="CODEC,...",
    help="Other codecs to show beside the originals: jpeg, webp, avif, heic, jpeg2000, jpegxl.",
)
@click.option(
    "--masks",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="Folder of the pictures' label maps, with the same subfolders and names, as .png.",
)
@click.option(
    "--boxes",
    metavar="DIR|FILE",
    type=click.Path(exists=True),
    help="Boxes of the pictures: a folder with a .txt (YOLO) or .xml (Pascal VOC) for each, with "
    "the same subfolders and names, or a .json of COCO.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="json prints one object a line; the last has the totals.",
)
@options.html
@options.force
@options.model
@options.decoding
@options.talking
def bpp_report(
    paths: tuple[str, ...],
    originals: str | None,
    rivals: str,
    masks: str | None,
    boxes: str | None,
    form: str,
    html: str | None,
    force: bool,
    model: str | None,
    running: options.Running,
    talking: options.Talking,
) -> None:
    """Report the size and the quality of .tac files: one row for each frame, and totals.

    DIR is searched for .tac files at any depth. A file or "-" is read as it is. bpp is 8 x bytes of
    the frame / (width x height). payload_bpp leaves out the header and the checksum. ideal_bpp is
    the cost of the symbols by the model's tables.

    With --originals each row also has the PSNR and MS-SSIM of the decoded picture. Beside them are
    the codecs of --with, each at its best and at the highest quality whose file is not larger. A
    ">" means that the file is larger even at the lowest quality. The mean PSNR leaves out pictures
    that did not change.

    A picture is classified if its file lies in a folder that is named after a class of the model.
    The totals then have the top-1 accuracy with its 95 % interval.

    With --masks the decoded pictures are segmented, if their model can do that. The result is
    compared with label maps: PNG of 8-bit grey or with a palette, whose values are classes. Each
    row has the pixel accuracy and the mean intersection over union of the classes (mIoU). The row
    of sums has both over all pixels. Values that are no class of the model do not count.

    With --boxes objects are looked for, if the model can do that. Each row has how many boxes there
    are, how many were found with a score of at least 0.4, and how many of these are right. The
    totals have mAP50 with its 95 % interval, and mAP50:95. It needs pycocotools.

    --html also writes a page for a browser. It is one file and loads nothing from the network. It
    has totals, plots, and a table that sorts and filters. It shows the worst pictures: the
    original, the decoded picture with what networks see in it, and a map of where the bits went.
    Files that failed are listed with the reasons.
    """
    form = "json" if talking.as_json else form
    with opened(quiet=talking.quiet, verbose=talking.verbose) as console:
        failures = console.failures = []
        sources = files.expand(console, paths, recursive=True, suffixes=FRAMES)
        options.refuse_page(html, force, sources=sources)
        from tactic_codec import picture as image
        from tactic_codec import report
        from tactic_codec.report import page

        collect_warnings(image.ImageWarning)
        codec_of = options.codec_of(model, running, console)
        names = _codecs(rivals) if originals is not None else ()
        limit, marked = running.read_limit, _marked(boxes)

        def assess(item: FrameItem) -> "tuple[Row, str]":
            """Return a frame's row, and why its model is missing where it may be."""
            codec, missing = None, ""
            try:
                codec = codec_of(item.frame)
            except UnknownModel as exc:
                if originals or masks or boxes:
                    raise
                missing = str(exc)
            heads = codec.model.heads if codec else {}
            original = find_original(originals, item) if originals else None
            row = report.row_of(
                item.frame,
                codec,
                file=item.source.path,
                number=item.number,
                original=image.load(Path(original), max_pixels=limit) if original else None,
                rivals=names,
                given={
                    "classify": _folder_name(item),
                    "detect": (marked, item.stem + ".tac")
                    if marked and "detect" in heads
                    else None,
                    "segment": _label_map(masks, item, limit)
                    if masks and "segment" in heads
                    else None,
                },
                look=html is not None,
            )
            return row, missing

        items = decoding.frames(sources, max_pixels=running.max_pixels)
        total = files.total_bytes(sources)
        rows: list[Row] = []
        for item, (row, missing), _ in console.each(assess, items, jobs=running.jobs, total=total):
            rows.append(row)
            if missing:
                console.warn(item.title, f"no ideal_bpp: {missing}")
            if form == "json":
                console.json(report.row_as_json(row))
            if html:
                page.forget(rows)
        sums = report.totals(rows)
        for path, task, what in ((masks, "segment", "label maps"), (boxes, "detect", "boxes")):
            if path is not None and sums and task not in sums.summaries:
                console.warn(display(path), _why_no_totals(rows, task, what))
        if sums is None:
            pass
        elif form == "json":
            console.json({"totals": report.totals_as_json(sums)})
        elif form == "csv":
            console.text(report.as_csv(rows, sums))
        else:
            cells = [[display(cell) for cell in row] for row in report.as_table(rows, sums)]
            for line in (*table(cells, left=(-1,)), *map(display, report.notes(sums))):
                console.line(line)
        if html:  # last, since the disk may be full
            shown = page.of_rows(f"bpp-report {' '.join(paths)}", rows, sums, failures)
            files.write(html, page.render(shown), force=force)


def _codecs(names: str) -> list[str]:
    """Return the codecs of --with, each of which can be used here; see `rivals.rival`."""
    from tactic_codec.rivals import rival

    with options.refused(ConfigError, hint="'--with'"):
        return [rival(name).name for name in dict.fromkeys(filter(None, names.split(",")))]


def _marked(path: str | None) -> "Maker | None":
    """Return what reads the boxes of --boxes."""
    from tactic_codec.tasks.annotations import found_in

    if path is None:
        return None
    maker = found_in(Path(path), loose=True)
    if maker is None:
        raise click.BadParameter(
            f"{display(path)} holds no .txt, .xml or .json", param_hint="'--boxes'"
        )
    return maker


def _why_no_totals(rows: Sequence["Row"], task: str, what: str) -> str:
    if any(task in row.verdicts for row in rows):
        return (
            f"no totals of {what}: none counts, or the models of these files have different classes"
        )
    return f"{what} are of no use here: no model of these files can {task}; see --model"


def _label_map(folder: str, item: FrameItem, limit: int) -> "LabelMap":
    from tactic_codec.picture import load_labels

    path = os.path.join(folder, item.stem + ".png")
    if not os.path.isfile(path):
        raise DataError(f"there is no label map {display(path)}")
    return load_labels(Path(path), max_pixels=limit)


def _folder_name(item: FrameItem) -> str:
    """Return the name of the folder that a file lies in, "" for standard input."""
    if item.source.is_stdin:
        return ""
    return os.path.basename(os.path.dirname(os.path.abspath(item.source.path)))


def find_original(folder: str, item: FrameItem) -> str:
    """Return the path of the picture that a frame was made from.

    Raises:
        DataError: there is none, or there are several.
    """
    from tactic_codec.picture import SUFFIXES

    where, stem = os.path.split(os.path.join(folder, item.stem))
    try:
        names = sorted(os.listdir(where))
    except OSError:
        names = []
    found = [
        name
        for name in names
        if os.path.splitext(name)[0] == stem and os.path.splitext(name)[1].lower() in SUFFIXES
    ]
    if len(found) == 1:
        return os.path.join(where, found[0])
    wanted = display(os.path.join(where, stem))
    if not found:
        raise DataError(f"there is no original {wanted} with a suffix of pictures, such as .jpg")
    several = ", ".join(map(display, found))
    raise DataError(f"there are several originals {wanted}: {several}; keep one of them")
