"""``tactic train`` and ``tactic export``: the command line of the training room."""

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tactic_codec.cli import files, listing, options
from tactic_codec.cli.console import Console, opened, table
from tactic_codec.errors import BackendUnavailable, display

if TYPE_CHECKING:
    from tactic_codec.model import Model
    from tactic_codec.training.loop import Step

_FOLDER = click.Path(path_type=Path, file_okay=False)
_LINES_EVERY = 100  # steps beside the first one, where there is no terminal for a bar


@click.command(
    short_help="Train a model on your own pictures.",
    epilog=options.examples(
        "tactic train --from general --data photos --out models/mine",
        "tactic train my.toml --data photos/train --out models/mine",
        "tactic compress -m models/mine photo.jpg photo.tac",
        "tactic train --from general --teacher net.onnx --data frames --out models/ours",
    ),
)
@click.argument(
    "config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="[CONFIG.toml]",
    required=False,
)
@click.option(
    "--from",
    "start",
    metavar="MODEL",
    help="Start from this model. Without CONFIG.toml a specialist is made of it.",
)
@options.several(
    "--data",
    "folders",
    type=_FOLDER,
    help="Folder with one folder of pictures for each class, or with images/ and labels/ if the "
    "configuration has [masks].",
)
@options.several(
    "--unlabelled",
    type=_FOLDER,
    help="Folder of pictures without classes. They are trained on with what the teacher finds in "
    "them. Or what experiments/photographs.py made.",
)
@options.several(
    "--test",
    "tests",
    type=_FOLDER,
    help="Folder to test on, laid out as --data is. By default a share of each --data folder is "
    "kept out.",
)
@options.several(
    "--teacher",
    "networks",
    metavar="NET.onnx",
    help="Make a codec for this network, from pictures without classes: what it says of a decoded "
    "picture is to stay what it says of the picture.",
)
@options.reading("teacher")
@click.option(
    "--head-only",
    is_flag=True,
    help="Keep the codec of --from as it is, and train a task network for it.",
)
@click.option("--out", type=_FOLDER, required=True, help="The model folder to make.")
@click.option(
    "--run", type=_FOLDER, help="Folder of the checkpoint and the log. By default runs/NAME."
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where to train.",
)
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Processors to use.")
@options.force
@options.quiet
def train(
    config: Path | None,
    start: str | None,
    folders: tuple[Path, ...],
    unlabelled: tuple[Path, ...],
    tests: tuple[Path, ...],
    networks: tuple[str, ...],
    teacher_input: tuple[str, ...],
    teacher_output: tuple[str, ...],
    head_only: bool,
    out: Path,
    run: Path | None,
    device: str,
    threads: int | None,
    force: bool,
    quiet: bool,
) -> None:
    """Train a model on your own pictures and write its model folder.

    --from general without CONFIG.toml makes a specialist for the classes of your folder. With
    --teacher NET.onnx it makes a codec for that network from pictures without classes. An ONNX file
    from a stranger is to be trusted as a program is. For all else CONFIG.toml says what is trained
    and for how long: experiments/ has examples with comments. Give the same command again to go on
    with a run that was interrupted.

    At the end the model is exported and evaluated on real files. A specialist is also compared with
    JPEG, WebP and AVIF at equal bytes, in a table and a plot.

    This needs: pip install torch torchvision safetensors onnx onnxscript onnx2pytorch
    """
    if not folders and not (unlabelled and (config or networks)):
        raise click.UsageError("name the pictures to train on with --data or --unlabelled")
    with opened(quiet=quiet) as console:
        with options.torch_for("training"):
            from tactic_codec.training import command
            from tactic_codec.training.config import parse_teacher
        teachers = [parse_teacher(net, teacher_input, teacher_output) for net in networks]
        model = command.train_command(
            config,
            folders,
            out,
            unlabelled=unlabelled,
            tests=tests,
            head_only=head_only,
            start=start,
            teachers=teachers,
            run=run,
            device=device,
            threads=threads,
            command=shlex.join(["tactic", *sys.argv[1:]]),
            force=force,
            progress=_shown(console),
            say=console.say,
        )
        if model is not None and config is None and not teachers:
            run = run or command.default_run(model.name)
            _compare(console, model, tests or folders, run)
        if model is not None:
            console.line(display(str(out)))


@click.command(
    short_help="Write the model folder of a training run.",
    epilog=options.examples("tactic export runs/mine --out models/mine"),
)
@click.argument("run", type=_FOLDER)
@click.option("--out", type=_FOLDER, required=True, help="The model folder to make.")
@options.force
@options.quiet
def export(run: Path, out: Path, force: bool, quiet: bool) -> None:
    """Write the model folder of a training run as it stands at its newest checkpoint.

    Tables are counted on pictures that training kept out. Networks are written for ONNX Runtime
    and compared with torch. This needs what tactic train needs.
    """
    with opened(quiet=quiet) as console:
        with options.torch_for("training"):
            from tactic_codec.training import command
        command.export_command(run, out, force=force, say=console.say)
        console.line(display(str(out)))


def _compare(console: Console, model: "Model", folders: Sequence[Path], run: Path) -> None:
    """Show a specialist beside other codecs at equal bytes, on pictures that training kept out."""
    from tactic_codec.codec import load_model
    from tactic_codec.evaluation import equal, formats, pictures, plot
    from tactic_codec.tasks import CLASSIFY

    head = model.head(CLASSIFY.name)
    size = int(model.manifest["training"]["config"]["data"]["size"])
    chosen = []
    for folder in map(str, folders):
        listed = [listing.Listed(folder, n) for n in equal.kept_out(model, Path(folder))]
        found = listing.load(console, CLASSIFY, listed, head.classes, size, options.Running())
        chosen.append(pictures.folder(CLASSIFY, folder, found, head.labels))
    report = equal.compare(load_model(model.path), chosen)
    written = {"comparison.md": formats.as_markdown(report).encode()}
    try:
        written["comparison.png"] = plot.draw(report, ["png"])["png"]
    except BackendUnavailable as exc:
        console.say(f"comparison.png is not drawn: {exc}")
    for name, content in written.items():
        files.write(str(run / name), content, force=True)
    for line in formats.as_text(report, table).splitlines():
        console.say(line)
    console.say(f"{', '.join(written)} are in {run}")


def _shown(console: Console) -> "Callable[[Step, int], None]":
    """Return what shows steps: a bar on a terminal, a line now and then elsewhere."""
    done = 0

    def show(step: "Step", steps: int) -> None:
        nonlocal done
        first = not done
        if first:
            console.progress(steps)
        text = f"step {step.step} of {steps}: {_figures(step)}"
        console.advance(step.step - done, text)
        done = step.step
        if not console.has_bar and (first or done % _LINES_EVERY == 0 or done == steps):
            console.say(text)

    return show


def _figures(step: "Step") -> str:
    accuracy = "" if step.accuracy is None else f", accuracy {100 * step.accuracy:.1f} %"
    # Without labels, what L_T comes to is all that tells how the task fares.
    task = f", L_T {step.task:.3f}" if step.accuracy is None and step.task is not None else ""
    return f"{step.stage}: {step.rate:.4f} bpp, {step.psnr:.2f} dB{accuracy}{task}"
