"""``tactic bench``: how fast this machine codes."""

from typing import TYPE_CHECKING

import click

from tactic_codec.cli import files, options
from tactic_codec.cli.console import Console, display, opened, table
from tactic_codec.errors import TacError

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
@options.model
@options.device
@options.max_pixels
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
    and AVIF are timed in turns with the model, at quality 75 and Pillow's default speed. The last
    column is the ratio to AVIF's time for the same step. Nothing else should run meanwhile.

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
        if not as_json:
            console.line(f"{source.title}: {width}x{height}, {codec.model.name} -q {level}")
        _print(console, timings, width * height, as_json)


def _print(console: Console, timings: "list[Timing]", pixels: int, as_json: bool) -> None:
    peers = {t.step: t.milliseconds for t in timings if t.coder == _PEER}
    rows = [["coder", "step", "bytes", "ms", "slowest", "MP/s", f"x {_PEER}"]]
    for timing in timings:
        speed = pixels / timing.milliseconds / 1000
        ratio = timing.milliseconds / peers[timing.step] if timing.step in peers else None
        if as_json:
            console.json(
                {
                    "coder": timing.coder,
                    "step": timing.step,
                    "bytes": timing.bytes,
                    "ms": round(timing.milliseconds, 3),
                    "slowest_ms": round(timing.slowest, 3),
                    f"of_{_PEER}": ratio and round(ratio, 3),
                    "megapixels_per_second": round(speed, 3),
                }
            )
        shown = "" if ratio is None else f"{ratio:.2f}"
        figures = [f"{timing.milliseconds:.1f}", f"{timing.slowest:.1f}", f"{speed:.2f}", shown]
        rows.append([display(timing.coder), timing.step, str(timing.bytes), *figures])
    if not as_json:
        for line in table(rows, left=(0, 1)):
            console.line(line)
