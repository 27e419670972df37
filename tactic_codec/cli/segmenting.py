"""``tactic segment``."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import click

from tactic_codec.cli import decoding, files, options, outputs
from tactic_codec.cli.console import Console, display, opened
from tactic_codec.cli.decoding import FORMATS, Decoding
from tactic_codec.cli.files import FRAMES
from tactic_codec.cli.outputs import Asked, Destination

if TYPE_CHECKING:
    from tactic_codec.tasks import Segmentation

_TOLD = 3  # classes that -v names of a picture


@dataclass(frozen=True, slots=True)
class _Share:
    """A class that occurs, and its share of the pixels."""

    index: int
    label: str
    share: float


class _Segmented(NamedTuple):
    """What became of a frame: the bytes for standard output, and facts."""

    data: bytes
    model: str
    shares: list[_Share]


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
    help="Write the picture with the classes' colours laid over it in place of the label map.",
)
@options.model
@options.running
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

    A pixel's value is the index of its class, and the palette has the classes' colours; `tactic
    models show` lists both. With --overlay the picture itself is written, half in the classes'
    colours, as PNG or in the format of OUT's suffix.

    OUT is a folder in the same cases as for compress. Frames in it are numbered as by decompress.
    The fingerprint in a frame says which model decodes it. --model names another folder of the
    same model, such as a newer one that has learned to segment.

    With --json each frame is one line. It has the classes that occur, the largest first:
    {"file", "frame", "output", "model", "classes": [{"index", "label", "share"}]}.
    """
    inputs, destination = outputs.destination(
        asked, suffix=".png", inputs_end_in=FRAMES, beside=False, as_json=talking.as_json
    )
    chosen = _format_of(destination, overlay)
    with opened(quiet=talking.quiet, verbose=talking.verbose) as console:
        from tactic_codec import picture as image
        from tactic_codec import tasks

        sources = files.expand(console, inputs, recursive=recursive, suffixes=FRAMES)
        decoders = options.Decoders(model, running.device, running.threads)

        def label(item: Decoding) -> _Segmented:
            codec = decoders.of(item.frame)
            pixels = codec.decode(item.frame)
            found = tasks.segment_pixels(codec, pixels)
            data = image.save(found.overlay(pixels), chosen) if overlay else found.to_png()
            if item.out is not None:
                destination.write(item.out, data, item.like)
                data = b""  # results wait for their turn; pictures on disk need not
            return _Segmented(data, codec.model.name, _shares(found))

        items = decoding.placed(sources, destination, FORMATS[chosen], running.max_pixels)
        total = files.total_bytes(sources)
        for item, segmented, seconds in console.each(label, items, jobs=running.jobs, total=total):
            _deliver(console, item, segmented, seconds, talking.as_json)
        destination.tell(console)


def _format_of(destination: Destination, overlay: bool) -> str:
    """Return the format of the results; label maps have but one."""
    if overlay:
        return decoding.format_of(destination, "leave --overlay out and get a .png")
    chosen = decoding.format_of(destination, "ask for --overlay")
    if chosen != "png":
        raise click.BadParameter(
            "label maps are PNG, which keeps the classes; let it end in .png, or ask for --overlay",
            param_hint="'OUT'",
        )
    return chosen


def _shares(found: "Segmentation") -> list[_Share]:
    """Return the classes that occur, those with most pixels first."""
    shares = map(_Share, range(len(found.names)), found.names, found.shares)
    occurring = [share for share in shares if share.share]
    return sorted(occurring, key=lambda share: share.share, reverse=True)


def _deliver(
    console: Console, item: Decoding, segmented: _Segmented, seconds: float, as_json: bool
) -> None:
    """Write to standard output what belongs there, and say what was found."""
    if item.out is None:
        console.data(segmented.data)
    if as_json:
        console.json(
            {
                "file": item.source.path,
                "frame": item.item.number,
                "output": item.out,
                "model": segmented.model,
                "classes": [
                    {"index": s.index, "label": s.label, "share": round(s.share, 6)}
                    for s in segmented.shares
                ],
            }
        )
    where = "standard output" if item.out is None else display(item.out)
    most = [f"{display(s.label)} {100 * s.share:.1f} %" for s in segmented.shares[:_TOLD]]
    more = ["…"] if len(segmented.shares) > _TOLD else []
    console.detail(f"{item.title} -> {where}: {', '.join(most + more)}, {1000 * seconds:.0f} ms")
