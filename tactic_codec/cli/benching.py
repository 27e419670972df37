"""``tactic bench``: how fast this machine codes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from tactic_codec.cli import files, options
from tactic_codec.cli.console import opened, table
from tactic_codec.errors import TacError, display

if TYPE_CHECKING:
    from tactic_codec.speed import Timing

_PEER = "avif"
"""What ratios are of: of the codecs that people use, the one that makes files nearly as small."""


@click.command(
    short_help="Time coding on this machine.",
    epilog=options.examples(
        "tactic bench photo.jpg",
        "tactic bench -m camvid -q 2 --device cuda street.png",
        "tactic bench --threads 1 --json photo.jpg",
    ),
)
@click.argument("picture", metavar="PICTURE")
@options.quality
@options.effort
@click.option(
    "--repeat",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    metavar="N",
    help="How often each step is timed, after one run that does not count.",
)
@options.threads
@options.coding_model
@options.device
@options.read_pixels
@options.as_json
def bench(
    picture: str,
    quality: int | None,
    effort: int,
    repeat: int,
    threads: int | None,
    model: str | None,
    device: str,
    max_pixels: int | None,
    as_json: bool,
) -> None:
    """Time how long compressing, decompressing and the model's tasks take for PICTURE.

    The table has the median and the slowest time in milliseconds. The networks are loaded and the
    picture is in memory before the first step, so the start of a process is not counted. JPEG, WebP
    and AVIF take turns with the model, at quality 75 and Pillow's default speed. The last column
    is the ratio to AVIF's time for the same step. Nothing else should run meanwhile.

    With --json each step is one line: {"coder", "step", "bytes", "ms", "slowest_ms", "of_avif",
    "megapixels_per_second"}.
    """
    with opened() as console:
        from tactic_codec import picture as image
        from tactic_codec import speed
        from tactic_codec.codec import load_model

        (source,) = files.expand(console, [picture], recursive=False, suffixes=image.SUFFIXES)
        try:
            pixels = files.picture(source, max_pixels or image.DEFAULT_MAX_PIXELS)
        except (TacError, OSError) as exc:
            console.fail(source.title, exc)
            return
        codec = load_model(model, device=device, threads=threads)
        level = options.level_of(codec, quality)
        timings = speed.measure(codec, pixels, level, effort=effort, repeats=repeat)
        height, width, _ = pixels.shape
        rows = _rows(timings, width * height)
        if as_json:
            for row in rows:
                console.json(row)
            return
        head = f"{source.title}: {width}x{height}, {codec.model.name} -q {level}"
        console.line(f"{head}, networks {codec.arithmetic}")
        for line in table([_TITLES, *map(_cells, rows)], left=(0, 1)):
            console.line(line)


def _rows(timings: "list[Timing]", pixels: int) -> Iterator[dict[str, Any]]:
    """Yield the facts of each step, by the names of JSON."""
    # Ratios are of what is printed, so that whoever reads it finds the same.
    times = {(t.coder, t.step): round(t.milliseconds, 6) for t in timings}
    for timing in timings:
        own, peer = times[timing.coder, timing.step], times.get((_PEER, timing.step))
        yield {
            "coder": timing.coder,
            "step": timing.step,
            "bytes": timing.bytes,
            "ms": own,
            "slowest_ms": round(timing.slowest, 6),
            f"of_{_PEER}": peer and round(own / peer, 6),
            "megapixels_per_second": round(pixels / own / 1000, 6),
        }


_FORMATS = {"coder": "", "step": "", "bytes": "d", "ms": ".1f", "slowest_ms": ".1f"}
_FORMATS |= {"megapixels_per_second": ".2f", f"of_{_PEER}": ".2f"}
_TITLES = ["coder", "step", "bytes", "ms", "slowest", "MP/s", f"x {_PEER}"]


def _cells(row: dict[str, Any]) -> list[str]:
    return [display("" if row[n] is None else format(row[n], f)) for n, f in _FORMATS.items()]
