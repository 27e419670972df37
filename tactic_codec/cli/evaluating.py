"""``tactic eval``."""

import json
import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tactic_codec.cli import files, listing, options
from tactic_codec.cli.console import Console, collect_warnings, opened, table
from tactic_codec.errors import (
    BackendUnavailable,
    ConfigError,
    OutputExists,
    UnknownLevel,
    display,
    needed,
)

if TYPE_CHECKING:
    from tactic_codec.evaluation.coders import Coder, ModelCoder
    from tactic_codec.evaluation.pictures import Folder
    from tactic_codec.evaluation.results import Report
    from tactic_codec.rivals import Setting
    from tactic_codec.tasks import Question

_CACHE = "cache"
_POOLED = "--train-data"
"""Name of the folder that all training pictures together stand for."""

Grids = dict[str, "tuple[Setting, ...]"]


def _grids(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> Grids:
    """Read ``CODER=1,2,3``, each."""
    grids: Grids = {}
    for value in values:
        coder, _, numbers = value.partition("=")
        try:
            settings = map(float, numbers.split(","))
            grids[coder] = tuple(dict.fromkeys(int(s) if s == int(s) else s for s in settings))
        except (ValueError, OverflowError):  # int of NaN, of infinity
            raise click.BadParameter(f"{value!r} is not of the form avif=10,20,35") from None
    return grids


def _scales(ctx: click.Context, param: click.Parameter, value: str) -> tuple[float, ...]:
    """Read ``1,0.5``."""
    try:
        scales = tuple(dict.fromkeys(map(float, value.split(","))))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not of the form 1,0.75,0.5") from None
    if not all(0 < scale <= 1 for scale in scales):
        raise click.BadParameter(f"scales above 0 and at most 1 are expected, not {value}")
    return scales


def _range(ctx: click.Context, param: click.Parameter, value: str) -> tuple[float, float]:
    """Read ``LOW:HIGH``, two shares."""
    try:
        low, high = map(float, value.split(":"))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not of the form 0.5:0.85") from None
    if not 0 <= low < high <= 1:
        raise click.BadParameter(f"0 <= LOW < HIGH <= 1 is expected, not {value}")
    return low, high


@click.command(
    "eval",
    short_help="Measure models against other codecs on your pictures.",
    epilog=options.examples(
        "tactic eval -m general --data photos/ --out report/",
        "tactic eval -m mine -m general --data a/ --data b/ --codec webp --out report/",
        "tactic eval -m mine --data train/ --held-out --range 0.5:0.85 --out report/",
        "tactic eval -m mine --data train/ --held-out --retrain-head 300 --out report/",
        "tactic eval -m streets --data val/ --retrain-head 300 --train-data train/ --out report/",
    ),
)
@options.several(
    "-m",
    "--model",
    "models",
    metavar="NAME|FOLDER",
    required=True,
    help="A model to measure at each of its levels. The classifier or "
    "segmentation network of the first one is the reference network for all.",
)
@click.option(
    "--data",
    "data",
    metavar="DIR",
    multiple=True,
    required=True,
    help="A folder of pictures at any depth, or of images/ and labels/. May be given several "
    "times: each folder has a table of its own.",
)
@click.option(
    "--out",
    metavar="DIR",
    required=True,
    type=click.Path(file_okay=False),
    help="Folder for the results. It also keeps what was measured for the next time.",
)
@click.option(
    "--codec",
    "codecs",
    metavar="NAME",
    multiple=True,
    help="A codec to compare with: jpeg, webp, avif, heic, jpeg2000 or jpegxl. May be given "
    "several times. By default all that are installed.",
)
@options.several(
    "--qualities",
    "grids",
    callback=_grids,
    metavar="CODER=Q,Q...",
    help="Measure a codec at these qualities (jpeg2000: compression ratios), or a model at these "
    "levels.",
)
@click.option(
    "--effort",
    "efforts",
    type=click.IntRange(0, options.MAX_EFFORT),
    default=(0,),
    metavar="N",
    multiple=True,
    help="Compress with the models at this effort. By default 0. If it is given several times, "
    "each effort is a curve of its own.",
)
@click.option(
    "--size",
    type=click.IntRange(16, 4096),
    default=224,
    show_default=True,
    metavar="PIXELS",
    help="Side of the square that pictures are scaled and cut to before they are coded. Pictures "
    "with label maps stay whole.",
)
@click.option(
    "--scales",
    callback=_scales,
    default="1",
    show_default=True,
    metavar="F,F...",
    help="Code pictures at these scales, above 0 and at most 1, and enlarge them again: each coder "
    "at each of its settings. BD-rates then compare each coder's best scale for a rate.",
)
@click.option(
    "--task",
    "asked",
    type=click.Choice(["classify", "detect"]),
    help="What to ask of pictures that have no ground truth: a label (by default), or objects. "
    "With detect pictures stay whole, and their boxes are compared with those of the uncompressed "
    "picture.",
)
@click.option(
    "--held-out",
    is_flag=True,
    help="Take only the pictures that the training of the first model kept out.",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help="Take N pictures of each folder, spread evenly over it.",
)
@click.option(
    "--range",
    "within",
    callback=_range,
    default="0:1",
    metavar="LOW:HIGH",
    help="Take BD-rates over agreements, or mean IoUs, from LOW to HIGH, as in 0.5:0.85. By "
    "default over all that both curves reach.",
)
@click.option(
    "--retrain-head",
    "steps",
    type=click.IntRange(1),
    metavar="STEPS",
    help="Also train a task network on the output of each coder at each setting, for STEPS steps "
    "of 16 pictures, or of 8 crops with label maps. It needs --held-out or --train-data, and "
    "torch.",
)
@options.several(
    "--train-data",
    metavar="DIR",
    help="Folder of pictures for --retrain-head. By default those of each --data folder that are "
    "not held out.",
)
@click.option(
    "--judge",
    metavar="NET.onnx",
    help="Let this network answer in place of the first model's: how much of its outputs each "
    "coder keeps, and how often its class stays. Pictures are coded whole. It needs torch and "
    "onnx.",
)
@options.reading("judge")
@click.option(
    "--keep-decoded",
    metavar="DIR",
    help="Leave what each coder gives back in DIR/CODER/SETTING/NAME.png, for tools of your own.",
)
@options.html
@options.force
@options.running
@options.talking
def eval(
    models: tuple[str, ...],
    data: tuple[str, ...],
    out: str,
    codecs: tuple[str, ...],
    grids: Grids,
    efforts: tuple[int, ...],
    size: int,
    scales: tuple[float, ...],
    asked: str | None,
    held_out: bool,
    limit: int | None,
    within: tuple[float, float],
    steps: int | None,
    train_data: tuple[str, ...],
    judge: str | None,
    judge_input: tuple[str, ...],
    judge_output: tuple[str, ...],
    keep_decoded: str | None,
    html: str | None,
    force: bool,
    running: options.Running,
    talking: options.Talking,
) -> None:
    """Measure models against JPEG, WebP, AVIF, HEIC, JPEG 2000 and JPEG XL, from real files.

    Each picture is cut to a square, coded by each coder at each setting, and decoded. The table has
    a row for each setting: mean bytes, bpp, PSNR, MS-SSIM, and the agreement. That is the share of
    pictures in which the reference network finds the same class as in the uncompressed picture. If
    all folders of DIR are named after classes of that network, there is the top-1 accuracy, too.
    BD-rates say how much less (-) or more (+) rate each model needs than each other coder, with a
    95 % interval: the pictures are drawn anew 1000 times, the same for both coders.

    --judge NET.onnx asks a network of yours instead. Outputs kept: 1 - the mean squared difference
    of its outputs, for the picture and for the decoded one, over their variance. An ONNX file from
    a stranger is to be trusted as a program is.

    A DIR that holds images/ and labels/ is segmented, if the first model can do that. Its pictures
    are coded whole. What the network finds is compared with labels/NAME.png, an 8-bit PNG whose
    values are the network's classes. Other values do not count. The table then has the mean IoU,
    the IoU of each class, the pixel accuracy, and the agreement of pixels.

    A DIR that holds boxes is looked at for objects: images/ and labels/NAME.txt (YOLO),
    annotations/FILE.json (COCO), or Annotations/NAME.xml (Pascal VOC). Its pictures are coded
    whole. The table has mAP50 and mAP50:95, and F1 against what is found in the uncompressed
    picture. With --task detect pictures without boxes have F1. It needs pycocotools.

    Each codec writes its smallest files, without metadata. The settings for that stand below the
    table. --out gets results.json, results.csv, results.md, curves.png and curves.svg. Give the
    same command again to go on after an interruption. Only what is new is measured.

    --html also writes a page for a browser. It is one file and loads nothing from the network. It
    has plots, and tables that sort and filter. It shows the worst pictures at the default level of
    the first model: the original, the decoded picture with what the model's networks see in it, and
    a map of where the bits went.

    Codecs beyond JPEG, WebP, AVIF and JPEG 2000, plots and mean average precisions need:
    pip install pillow-heif pillow-jxl-plugin matplotlib pycocotools
    """
    if steps and not (held_out or train_data):
        raise click.UsageError(
            "--retrain-head needs other pictures than those that are evaluated: give --held-out "
            "or --train-data DIR"
        )
    if asked == "detect" and steps:
        raise click.UsageError("detectors are not trained here; leave --retrain-head out")
    if judge and steps:
        raise click.UsageError("--judge is not trained; leave --retrain-head out")
    if keep_decoded and len(set(data)) > 1:
        raise click.UsageError("--keep-decoded takes one --data folder: names may occur twice")
    options.refuse_page(html, force, out)
    with opened(quiet=talking.quiet, verbose=talking.verbose) as console:
        from tactic_codec import picture as image
        from tactic_codec.codec import load_model
        from tactic_codec.evaluation import formats, pictures
        from tactic_codec.evaluation.cache import Cache
        from tactic_codec.evaluation.coders import models_at
        from tactic_codec.evaluation.evaluate import Evaluation
        from tactic_codec.evaluation.keeper import Keeper

        _check_out(out, force)
        failures = console.failures = []
        collect_warnings(image.ImageWarning)
        device, threads = running.device, running.threads
        names = dict.fromkeys(models)
        loaded = {name: load_model(name, device=device, threads=threads) for name in names}
        reference = loaded[models[0]]
        task = _judge(console, judge, judge_input, judge_output) if judge else None
        with options.refused(ConfigError):
            task = task or pictures.task_of(reference.model, (*data, *train_data), asked)
        witness = task.witness(reference)
        notes = [formats.EFFORT_NOTE] if any(efforts) else []
        coders = _coders(console, models_at(loaded, device, efforts), codecs, grids, notes)
        kept_out = pictures.held_out(reference.model) if held_out else None

        def read(path: str, found: Sequence[listing.Listed]) -> "Folder":
            read = listing.load(console, task, found, witness.classes, size, running)
            return pictures.folder(task, path, read, witness.labels)

        def in_folders(paths: Sequence[str]) -> dict[str, list[listing.Listed]]:
            return {p: listing.list_folder(console, task, p) for p in dict.fromkeys(paths)}

        listed = in_folders(data)
        folders = []
        for path, found in listed.items():
            chosen = [item.name for item in found]
            if kept_out is not None:
                chosen = pictures.keep_held_out(display(path), chosen, kept_out)
            chosen = pictures.spread(chosen, limit)
            folders.append(read(path, [listing.Listed(path, name) for name in chosen]))
        os.makedirs(out, exist_ok=True)
        cache = Cache(Path(out, _CACHE))
        heads = None
        if steps:
            if train_data:
                pool = list(chain(*in_folders(train_data).values()))
                training = dict.fromkeys(listed, read(_POOLED, pictures.thinned(pool)))
            else:
                seen = kept_out or frozenset()
                training = {
                    path: read(path, pictures.thinned([i for i in found if i.name not in seen]))
                    for path, found in listed.items()
                }
            with options.torch_for("--retrain-head"):
                from tactic_codec.evaluation.retrain import Retrainer
            heads = Retrainer(task, reference, training, cache, steps, device)
        evaluation = Evaluation(
            reference,
            cache,
            task,
            device,
            running.jobs,
            console.advance,
            keeper=Keeper(Path(keep_decoded)) if keep_decoded else None,
            heads=heads,
            within=within,
            size=size,
            held_out=held_out,
            limit=limit,
            scales=scales,
            notes=tuple(notes),
        )
        console.progress(evaluation.work_of(folders, coders))
        report = evaluation.run(folders, coders)
        console.close()
        _write(console, out, report)
        if html:
            from tactic_codec.evaluation.page import page_of, rows_of
            from tactic_codec.report.page import render

            made = render(page_of(report, rows_of(evaluation, folders), failures))
            files.write(html, made, force=force)
        if talking.as_json:
            console.json(formats.as_json(report))
        else:
            for line in formats.as_text(report, table).splitlines():
                console.line(line)


def _check_out(out: str, force: bool) -> None:
    """Refuse a folder that holds other things than an earlier evaluation."""
    ours = os.path.isdir(os.path.join(out, _CACHE))
    if not force and not ours and os.path.isdir(out) and os.listdir(out):
        raise OutputExists(
            f"{display(out)} holds other files than those of tactic eval; choose another folder, "
            "or use it with -f"
        )


def _judge(
    console: Console, network: str, settings: Sequence[str], outputs: Sequence[str]
) -> "Question[Any, Any]":
    """Open the network that is to answer."""
    with needed("--judge needs {}; run: pip install torch onnx"):
        from tactic_codec.evaluation.judge import Judge
    from tactic_codec.training.config import parse_teacher

    return Judge(parse_teacher(network, settings, outputs), console.say)


def _write(console: Console, out: str, report: "Report") -> None:
    """Write a report into its folder, in every form that there is."""
    from tactic_codec.evaluation import formats, plot

    written = {
        "results.json": json.dumps(formats.as_json(report), indent=1).encode() + b"\n",
        "results.csv": formats.as_csv(report).encode("utf-8", "surrogateescape"),
        "results.md": formats.as_markdown(report).encode(),
    }
    try:
        written |= {f"curves.{form}": drawn for form, drawn in plot.draw(report).items()}
    except BackendUnavailable as exc:
        console.warn("curves.png", f"not drawn: {exc}")
    for name, content in written.items():
        files.write(os.path.join(out, name), content, force=True)


# --- Coders ---------------------------------------------------------------------------------------


def _coders(
    console: Console,
    models: Sequence["ModelCoder"],
    codecs: Sequence[str],
    grids: Grids,
    notes: list[str],
) -> list["Coder"]:
    """Return the coders that were asked for, models first.

    Raises:
        click.BadParameter: ``--qualities`` names no coder, or has a setting that it does not take.
        TacError: a codec that was asked for is not there.
    """
    from tactic_codec.evaluation.coders import RivalCoder
    from tactic_codec.rivals import RIVALS, rival

    found: list[ModelCoder | RivalCoder] = list(models)
    for name in dict.fromkeys(codecs) or RIVALS:
        with options.refused(ConfigError, hint="'--codec'"):
            try:
                found.append(RivalCoder(rival(name)))
            except BackendUnavailable as exc:
                if codecs:
                    raise
                notes.append(f"{name} is left out: {exc}")
                console.warn(name, f"left out: {exc}")
    with options.refused(ConfigError, UnknownLevel, hint="'--qualities'"):
        unknown = grids.keys() - {coder.name for coder in found}
        if unknown:
            known = ", ".join(coder.name for coder in found)
            raise ConfigError(f"there is no coder {min(unknown)!r} here; there are: {known}")
        return [coder.at(grids[coder.name]) if coder.name in grids else coder for coder in found]
