"""``tactic eval``."""

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tactic_codec.cli import listing, options, outputs, work
from tactic_codec.cli.console import Console, display, opened, table
from tactic_codec.errors import BackendUnavailable, ConfigError, OutputExists, UnknownLevel

if TYPE_CHECKING:
    from tactic_codec.evaluation.coders import Coder, ModelCoder
    from tactic_codec.evaluation.formats import Report
    from tactic_codec.evaluation.pictures import Folder
    from tactic_codec.model import Model
    from tactic_codec.rivals import Setting
    from tactic_codec.tasks import Question, Task

_CACHE = "cache"

Grids = dict[str, "tuple[Setting, ...]"]


# Generic since click 8.4, and older ones will do.
class _Grids(click.ParamType):  # type: ignore[type-arg]
    """``CODER=1,2,3``."""

    name = "grid"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> "tuple[str, tuple[Setting, ...]]":
        coder, _, numbers = value.partition("=")
        try:
            return coder, tuple(dict.fromkeys(_number(text) for text in numbers.split(",")))
        except ValueError:
            self.fail(f"{value!r} is not of the form avif=10,20,35", param, ctx)


class _Range(click.ParamType):  # type: ignore[type-arg]
    """``LOW:HIGH``, two shares."""

    name = "range"

    def convert(
        self,
        value: str | tuple[float, float],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        try:
            low, high = (float(text) for text in value.split(":"))
        except ValueError:
            self.fail(f"{value!r} is not of the form 0.5:0.85", param, ctx)
        if not 0 <= low < high <= 1:
            self.fail(f"0 <= LOW < HIGH <= 1 is expected, not {value}", param, ctx)
        return low, high


def _number(text: str) -> "Setting":
    value = float(text)
    return int(value) if value.is_integer() else value


@click.command(
    "eval",
    short_help="Measure models against other codecs on your pictures.",
    epilog=options.examples(
        "tactic eval -m imagenet --data photos/ --out report/",
        "tactic eval -m mine -m imagenet --data a/ --data b/ --codec webp --out report/",
        "tactic eval -m mine --data train/ --held-out --range 0.5:0.85 --out report/",
        "tactic eval -m mine --data train/ --held-out --retrain-head 300 --out report/",
        "tactic eval -m streets --data val/ --retrain-head 300 --train-data train/ --out report/",
    ),
)
@click.option(
    "-m",
    "--model",
    "models",
    metavar="NAME|FOLDER",
    multiple=True,
    required=True,
    help="A model to measure at each of its levels. May be given several times. The classifier or "
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
@click.option(
    "--qualities",
    "grids",
    type=_Grids(),
    metavar="CODER=Q,Q...",
    multiple=True,
    help="Measure a codec at these qualities (jpeg2000: compression ratios), or a model at these "
    "levels. May be given several times.",
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
    type=_Range(),
    default=(0.0, 1.0),
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
@click.option(
    "--train-data",
    metavar="DIR",
    multiple=True,
    help="Folder of pictures for --retrain-head. By default those of each --data folder that are "
    "not held out. May be given several times.",
)
@click.option(
    "--judge",
    metavar="NET.onnx",
    help="Let this network answer in place of the first model's: how much of its outputs each "
    "coder keeps, and how often its class stays. Pictures are coded whole. It needs onnx.",
)
@options.reading("judge")
@click.option(
    "--keep-decoded",
    metavar="DIR",
    help="Leave what each coder gives back in DIR/CODER/SETTING/NAME.png, for tools of your own.",
)
@options.force
@options.running
@options.talking
def eval(
    models: tuple[str, ...],
    data: tuple[str, ...],
    out: str,
    codecs: tuple[str, ...],
    grids: "tuple[tuple[str, tuple[Setting, ...]], ...]",
    efforts: tuple[int, ...],
    size: int,
    held_out: bool,
    limit: int | None,
    within: tuple[float, float],
    steps: int | None,
    train_data: tuple[str, ...],
    judge: str | None,
    judge_input: tuple[str, ...],
    judge_output: tuple[str, ...],
    keep_decoded: str | None,
    force: bool,
    running: options.Running,
    talking: options.Talking,
) -> None:
    """Measure models against JPEG, WebP, AVIF, HEIC, JPEG 2000 and JPEG XL, from real files.

    Each picture is cut to a square, coded by each coder at each setting, and decoded. The table has
    a row for each setting: mean bytes, bpp, PSNR, MS-SSIM, and the agreement. That is the share of
    pictures in which the reference network finds the same class as in the uncompressed picture. If
    all folders of DIR are named after classes of that network, there is the top-1 accuracy, too.
    BD-rates say how much less (-) or more (+) rate each model needs than each other coder.

    --judge NET.onnx asks a network of yours instead. Outputs kept: 1 - the mean squared difference
    of its outputs, for the picture and for the decoded one, over their variance. An ONNX file from
    a stranger is to be trusted as a program is.

    A DIR that holds images/ and labels/ is segmented, if the first model can do that. Its pictures
    are coded whole. What the network finds is compared with labels/NAME.png, an 8-bit PNG whose
    values are the network's classes. Other values do not count. The table then has the mean IoU,
    the IoU of each class, the pixel accuracy, and the agreement of pixels.

    Each codec writes its smallest files, without metadata. The settings for that stand below the
    table. --out gets results.json, results.csv, results.md, curves.png and curves.svg. Give the
    same command again to go on after an interruption. Only what is new is measured.

    Codecs beyond JPEG, WebP, AVIF and JPEG 2000, BD-rates and plots need:
    pip install pillow-heif pillow-jxl-plugin scipy matplotlib
    """
    if steps and not (held_out or train_data):
        raise click.UsageError(
            "--retrain-head needs other pictures than those that are evaluated: give --held-out "
            "or --train-data DIR"
        )
    if judge and steps:
        raise click.UsageError("--judge is not trained; leave --retrain-head out")
    if keep_decoded and len(set(data)) > 1:
        raise click.UsageError("--keep-decoded takes one --data folder: names may occur twice")
    with opened(quiet=talking.quiet, verbose=talking.verbose) as console:
        from tactic_codec import picture as image
        from tactic_codec.codec import load_model
        from tactic_codec.evaluation import formats, pictures, run
        from tactic_codec.evaluation.bench import Bench, work_of
        from tactic_codec.evaluation.cache import Cache
        from tactic_codec.evaluation.coders import models_at
        from tactic_codec.evaluation.keeper import Keeper

        _check_out(out, force)
        work.collect_warnings(image.ImageWarning)
        models = tuple(dict.fromkeys(models))
        loaded = [
            load_model(name, device=running.device, threads=running.threads) for name in models
        ]
        reference = loaded[0]
        task = _judge(console, judge, judge_input, judge_output) if judge else None
        task = task or _task(reference.model, (*data, *train_data))
        witness = task.witness(reference.model)
        notes = [formats.EFFORT_NOTE] if any(efforts) else []
        own = models_at(dict(zip(models, loaded, strict=True)), running.device, efforts)
        coders = _coders(console, own, codecs, dict(grids), notes)
        compare = _has_scipy(console, notes)
        kept_out = pictures.held_out(reference.model) if held_out else None

        def folder(path: str, found: Sequence[listing.Listed]) -> "Folder":
            limits: dict[str, Any] = {"jobs": running.jobs, "max_pixels": running.max_pixels}
            read = listing.load(console, task, found, witness.classes, size, **limits)
            return pictures.folder(task, path, read, witness.labels)

        list_one = partial(listing.list_folder, console, task)
        listed = {path: list_one(path) for path in dict.fromkeys(data)}
        chosen = {p: listing.choose(p, found, kept_out, limit) for p, found in listed.items()}
        folders = [folder(path, found) for path, found in chosen.items()]
        os.makedirs(out, exist_ok=True)
        cache = Cache(Path(out, _CACHE))
        keeper = Keeper(Path(keep_decoded)) if keep_decoded else None
        heads = None
        if steps:
            to_train_on = listing.to_train_on(listed, kept_out, train_data, list_one)
            training = {path: folder(path, found) for path, found in to_train_on.items()}
            by_folder = {p: training[p if p in training else listing.POOLED] for p in listed}
            with options.torch_for("--retrain-head"):
                from tactic_codec.evaluation.retrain import Retrainer
            heads = Retrainer(task, reference, by_folder, cache, steps, running.device)
        advance = console.progress(work_of(folders, coders, heads))
        report = run.run(
            folders,
            coders,
            Bench(reference, cache, running.device, running.jobs, advance, keeper, task),
            size=size,
            held_out=held_out,
            limit=limit,
            within=within,
            heads=heads,
            compare=compare,
            notes=notes,
        )
        console.close()
        _write(console, out, report)
        if talking.as_json:
            console.json(formats.as_json(report))
        else:
            for line in formats.as_text(report, table).splitlines():
                console.line(display(line))


def _check_out(out: str, force: bool) -> None:
    """Refuse a folder that holds other things than an earlier evaluation."""
    ours = os.path.isdir(os.path.join(out, _CACHE))
    if not force and not ours and os.path.isdir(out) and os.listdir(out):
        raise OutputExists(
            f"{display(out)} holds other files than those of tactic eval; choose another folder, "
            "or use it with -f"
        )


def _task(model: "Model", folders: Sequence[str]) -> "Task[Any, Any]":
    """Return the task that folders are for; what does not go together is a wrong command line."""
    from tactic_codec.evaluation import pictures

    try:
        return pictures.task_of(model, folders)
    except ConfigError as exc:
        raise click.UsageError(display(str(exc))) from exc


def _judge(
    console: Console, network: str, settings: Sequence[str], outputs: Sequence[str]
) -> "Question[Any, Any]":
    """Open the network that is to answer."""
    try:
        from tactic_codec.evaluation.judge import Judge
    except ImportError as exc:
        raise BackendUnavailable("--judge needs onnx; run: pip install onnx") from exc
    from tactic_codec.training.config import parse_teacher

    return Judge(parse_teacher(network, settings, outputs), console.say)


def _write(console: Console, out: str, report: "Report") -> None:
    """Write a report into its folder, in every form that there is."""
    from tactic_codec.evaluation import formats, plot

    written = {
        "results.json": json.dumps(formats.as_json(report), indent=1).encode() + b"\n",
        "results.csv": formats.as_csv(report).encode("utf-8", "surrogateescape"),
        "results.md": formats.as_markdown(report).encode("utf-8", "surrogateescape"),
    }
    try:
        written |= {f"curves.{form}": drawn for form, drawn in plot.draw(report).items()}
    except BackendUnavailable as exc:
        console.warn("curves.png", f"not drawn: {exc}")
    for name, content in written.items():
        outputs.write(os.path.join(out, name), content, force=True)


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
    from tactic_codec.evaluation import coders
    from tactic_codec.rivals import RIVALS, rival

    found: list[coders.ModelCoder | coders.RivalCoder] = list(models)
    for name in dict.fromkeys(codecs) or RIVALS:
        try:
            found.append(coders.RivalCoder(rival(name)))
        except BackendUnavailable as exc:
            if codecs:
                raise
            notes.append(f"{name} is left out: {exc}")
            console.warn(name, f"left out: {exc}")
        except ConfigError as exc:
            raise click.BadParameter(str(exc), param_hint="'--codec'") from exc
    unknown = grids.keys() - {coder.name for coder in found}
    if unknown:
        known = ", ".join(coder.name for coder in found)
        raise click.BadParameter(
            f"there is no coder {min(unknown)!r} here; there are: {known}",
            param_hint="'--qualities'",
        )
    try:
        return [coder.at(grids[coder.name]) if coder.name in grids else coder for coder in found]
    except (ConfigError, UnknownLevel) as exc:
        raise click.BadParameter(str(exc), param_hint="'--qualities'") from exc


def _has_scipy(console: Console, notes: list[str]) -> bool:
    """Find out before hours of work, and not behind them, whether curves can be compared."""
    from tactic_codec.evaluation.bdrate import bd_rate

    try:
        bd_rate([], [])
    except BackendUnavailable as exc:
        notes.append(f"There are no BD-rates: {exc}")
        console.warn("BD-rates", str(exc))
        return False
    return True
