"""``tactic classify``."""

from typing import TYPE_CHECKING

import click

from tactic_codec.cli import files, options
from tactic_codec.cli.console import Console, display, opened
from tactic_codec.cli.files import FRAMES, FrameItem

if TYPE_CHECKING:
    from tactic_codec.tasks import Prediction


@click.command(
    short_help="Say what .tac files show.",
    epilog=options.examples(
        "tactic classify photo.tac",
        "tactic classify -r --top 1 coded/",
        "cat photo.jpg | tactic compress - - | tactic classify - --json",
    ),
)
@options.inputs
@click.option(
    "-k",
    "--top",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    metavar="N",
    help="How many classes to print, the most likely first.",
)
@options.model
@options.running
@options.talking
def classify(
    paths: list[str],
    top: int,
    model: str | None,
    recursive: bool,
    running: options.Running,
    talking: options.Talking,
) -> None:
    """Say what .tac files show: label, class index and probability.

    Every frame of a file or of standard input is classified. With --json each is one line:
    {"file", "frame", "model", "predictions": [{"index", "label", "probability"}]}.
    """
    with opened(quiet=talking.quiet, verbose=talking.verbose) as console:
        from tactic_codec import tasks

        sources = files.expand(console, paths, recursive=recursive, suffixes=FRAMES)
        decoders = options.Decoders(model, running.device, running.threads)

        def predict(item: FrameItem) -> tuple[str, list["Prediction"]]:
            codec = decoders.of(item.frame)
            return codec.model.name, tasks.classify(item.frame, top, codec=codec)

        items = files.frames(sources, max_pixels=running.max_pixels)
        total = files.total_bytes(sources)
        for item, result, seconds in console.each(predict, items, jobs=running.jobs, total=total):
            name, predictions = result
            if talking.as_json:
                _print_json(console, item, name, predictions)
            else:
                _print_lines(console, item, predictions)
            console.detail(f"{item.title}: {item.weight} bytes, {1000 * seconds:.0f} ms")


def _print_json(
    console: Console, item: FrameItem, model: str, predictions: list["Prediction"]
) -> None:
    console.json(
        {
            "file": item.source.path,
            "frame": item.number,
            "model": model,
            "predictions": [
                {"index": p.index, "label": p.label, "probability": round(p.probability, 6)}
                for p in predictions
            ],
        }
    )


def _print_lines(console: Console, item: FrameItem, predictions: list["Prediction"]) -> None:
    names = [f"{display(p.label)} ({p.index})" for p in predictions]
    width = max(map(len, names))
    for name, prediction in zip(names, predictions, strict=True):
        console.line(f"{item.title}: {name:{width}} {100 * prediction.probability:5.1f} %")
