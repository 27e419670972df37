"""``tactic classify``."""

from functools import partial

import click

from tactic_codec.cli import asking, files, options
from tactic_codec.cli.console import Console, opened
from tactic_codec.cli.files import FRAMES
from tactic_codec.errors import display


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
@options.decoding
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

    Each frame of a file or of standard input is classified. With --json each frame is one line:
    {"file", "frame", "model", "predictions": [{"index", "label", "probability"}]}.
    """
    with opened(quiet=talking.quiet, verbose=talking.verbose) as console:
        from tactic_codec.tasks import CLASSIFY
        from tactic_codec.tasks.classify import classify_pixels

        sources = files.expand(console, paths, recursive=recursive, suffixes=FRAMES)
        codec_of = options.codec_of(model, running, console)
        ask = partial(classify_pixels, top_k=top)
        for answered in asking.each(console, CLASSIFY, sources, codec_of, running, ask=ask):
            if talking.as_json:
                console.json(answered.facts)
            else:
                _print_lines(console, answered)
            title, size = answered.item.title, answered.item.weight
            console.detail(f"{title}: {size} bytes, {answered.milliseconds:.0f} ms")


def _print_lines(console: Console, answered: asking.Answered) -> None:
    names = [display(name) for name, _ in answered.told]
    width = max(map(len, names))
    for name, (_, probability) in zip(names, answered.told, strict=True):
        console.line(f"{answered.item.title}: {name:{width}} {100 * probability:5.1f} %")
