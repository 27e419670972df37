"""``tactic segment``."""

import click

from tactic_codec.cli import asking, decoding, files, options
from tactic_codec.cli.console import opened
from tactic_codec.cli.decoding import FORMATS
from tactic_codec.cli.files import FRAMES, Asked, Destination
from tactic_codec.errors import display

_TOLD = 3  # classes that -v names of a picture


@click.command(
    short_help="Say what each pixel of .tac files shows.",
    epilog=options.examples(
        "tactic segment street.tac street.png",
        "tactic segment --overlay street.tac look.jpg    to look at",
        "tactic segment -r --json coded -o masks/        coded/a/b.tac to masks/a/b.png",
        "cat street.tac | tactic segment - - > street.png",
    ),
)
@options.inputs_and_output
@click.option(
    "--overlay",
    is_flag=True,
    help="Write the picture with the classes' colours laid over it, not the label map.",
)
@options.model
@options.decoding
@options.talking
def segment(
    asked: Asked,
    overlay: bool,
    model: str | None,
    recursive: bool,
    running: options.Running,
    talking: options.Talking,
) -> None:
    """Say what each pixel of .tac files shows: label maps, as PNG with a palette.

    A pixel's value is the index of its class. The palette has the classes' colours. 'tactic models
    show' lists both. With --overlay the picture itself is written with the colours mixed in, in the
    format of OUT's suffix, or else as PNG.

    OUT is a folder in the same cases as for compress. Frames in it are numbered as by decompress.
    The fingerprint in a frame says which model decodes it. --model names another folder of the
    same model, such as a newer one that has learned to segment.

    With --json each frame is one line. It has the classes that occur, the largest first:
    {"file", "frame", "output", "model", "classes": [{"index", "label", "share"}]}.
    """
    inputs, destination = files.destination(
        asked, ".png", FRAMES, beside=False, as_json=talking.as_json
    )
    chosen = _format_of(destination, overlay)
    with opened(quiet=talking.quiet, verbose=talking.verbose) as console:
        from tactic_codec import picture
        from tactic_codec.tasks import SEGMENT, Segmentation

        sources = files.expand(console, inputs, recursive=recursive, suffixes=FRAMES)

        def draw(found: Segmentation, pixels: picture.Pixels) -> bytes:
            return picture.save(found.overlay(pixels), chosen) if overlay else found.to_png()

        for answered in asking.each(
            console,
            SEGMENT,
            sources,
            options.codec_of(model, running, console),
            running,
            ask=SEGMENT.ask,
            destination=destination,
            suffix=FORMATS[chosen],
            draw=draw,
        ):
            if talking.as_json:
                console.json(answered.facts)
            path = answered.item.out
            where = "standard output" if path is None else display(path)
            most = [f"{display(name)} {100 * share:.1f} %" for name, share in answered.told[:_TOLD]]
            most += ["…"] if len(answered.told) > _TOLD else []
            detail = f"{', '.join(most)}, {answered.milliseconds:.0f} ms"
            console.detail(f"{answered.item.title} -> {where}: {detail}")
        destination.tell(console)


def _format_of(destination: Destination, overlay: bool) -> str:
    """Return the format of the results; label maps have but one."""
    if overlay:
        return decoding.format_of(destination, "leave --overlay out and get a .png")
    chosen = decoding.format_of(destination, "ask for --overlay")
    if chosen != "png":
        raise click.BadParameter(
            "label maps are PNG, which keeps the classes: name a .png file, or ask for --overlay",
            param_hint="'OUT'",
        )
    return chosen
