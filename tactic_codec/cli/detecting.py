"""``tactic detect``."""

from functools import partial

import click

from tactic_codec.cli import asking, decoding, files, options
from tactic_codec.cli.console import opened
from tactic_codec.cli.decoding import FORMATS
from tactic_codec.cli.files import FRAMES
from tactic_codec.errors import display


@click.command(
    short_help="Find objects in .tac files.",
    epilog=options.examples(
        "tactic detect street.tac",
        "tactic detect --overlay look.jpg street.tac       to look at",
        "tactic detect -r --json --min-score 0.3 coded/",
        "cat street.jpg | tactic compress - - | tactic detect - --json",
    ),
)
@options.inputs
@click.option(
    "--min-score",
    type=options.Share(0, 1),
    default=0.4,
    show_default=True,
    metavar="SCORE",
    help="Leave out objects of which the network is less certain, 0 to 1.",
)
@click.option(
    "--overlay",
    metavar="OUT",
    help="Also write the pictures with the boxes drawn into them: to a file, or to a folder.",
)
@options.force
@options.model
@options.decoding
@options.talking
def detect(
    paths: list[str],
    min_score: float,
    overlay: str | None,
    force: bool,
    model: str | None,
    recursive: bool,
    running: options.Running,
    talking: options.Talking,
) -> None:
    """Find objects in .tac files: a line for each, with label, box and score.

    A box is left, top, right and bottom in pixels of the picture, from its top left corner. 'tactic
    models show' lists the labels. The default model knows the 80 kinds of objects of COCO.

    Each frame of a file or of standard input is looked at. With --json each frame is one line:
    {"file", "frame", "model", "width", "height", "detections": [{"label", "index", "score",
    "box": [x0, y0, x1, y1]}]}. With --overlay it has "output", too.

    The pictures of --overlay have the format of OUT's suffix, or else PNG. OUT is a folder in the
    same cases as for decompress, and its files have the same names.
    """
    destination = files.NOWHERE
    if overlay == files.STDOUT:
        raise click.UsageError(
            "what is found goes to standard output, so --overlay cannot: name a file or a folder"
        )
    if overlay is not None:
        asked = files.Asked(paths, None, overlay, force, False)
        _, destination = files.destination(asked, ".png", FRAMES, beside=False, as_json=False)
    chosen = decoding.format_of(destination, "name a .png file")
    with opened(quiet=talking.quiet, verbose=talking.verbose) as console:
        from tactic_codec import picture
        from tactic_codec.tasks import DETECT, Detections
        from tactic_codec.tasks.detect import detect_pixels

        sources = files.expand(console, paths, recursive=recursive, suffixes=FRAMES)

        def draw(found: Detections, pixels: picture.Pixels) -> bytes:
            return picture.save(found.overlay(pixels), chosen)

        for answered in asking.each(
            console,
            DETECT,
            sources,
            options.codec_of(model, running, console),
            running,
            ask=partial(detect_pixels, min_score=min_score),
            destination=destination,
            suffix=FORMATS[chosen],
            draw=None if overlay is None else draw,
        ):
            if talking.as_json:
                console.json(answered.facts)
            else:
                for name, score in answered.told:
                    console.line(f"{answered.item.title}: {display(name)} {score:.2f}")
            detail = f"{len(answered.told)} objects, {answered.milliseconds:.0f} ms"
            console.detail(f"{answered.item.title}: {detail}")
