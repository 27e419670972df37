"""``tactic explain``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from tactic_codec.cli import decoding, files, options
from tactic_codec.cli.console import opened
from tactic_codec.cli.decoding import FORMATS, FrameItem
from tactic_codec.cli.files import FRAMES, TAC, Asked

if TYPE_CHECKING:
    from tactic_codec.report.spent import Facts


@click.command(
    short_help="Show where the bits of .tac files went.",
    epilog=options.examples(
        "tactic explain photo.tac map.png          a heat map over the picture",
        "tactic explain photo.tac --json",
        "tactic explain photo.tac --roi door.png   how many bits went to the door",
        "tactic explain -r coded -o maps/",
    ),
)
@options.inputs_and_output
@options.roi("Count the bits")
@options.model
@options.decoding
@options.talking
def explain(
    asked: Asked,
    roi: str | None,
    model: str | None,
    recursive: bool,
    running: options.Running,
    talking: options.Talking,
) -> None:
    """Show where the bits of .tac files went: in figures, and as a heat map over the picture.

    The map is written to OUT, in the format of its suffix or else as PNG. Without OUT there are the
    figures alone, and no network runs. OUT is a folder in the same cases as for compress.

    With --json each frame is one line. "bits" is the sum of "header_bits", which include metadata
    and checksum, and "payload_bits". "ideal_bits" is what the symbols cost by the model's tables.
    "blocks" divides them among the blocks of the picture, row by row; "block" is the width and
    height of a block in pixels. With --roi "inside_bits" are the ideal bits of the region,
    "inside_share" is their share of all, and "inside_area" the region's share of the pixels.
    """
    drawn = asked.output is not None or (
        len(asked.paths) + (asked.listed is not None) > 1
        and not asked.paths[-1].lower().endswith(TAC)
    )
    inputs: Sequence[str] = [*asked.paths, *(asked.listed or ())]
    destination = files.NOWHERE
    if drawn or not inputs:
        inputs, destination = files.destination(asked, ".png", FRAMES, as_json=talking.as_json)
    chosen = decoding.format_of(destination, "name a .png file")
    with opened(quiet=talking.quiet, verbose=talking.verbose) as console:
        from tactic_codec import picture
        from tactic_codec.report import spent

        sources = files.expand(console, inputs, recursive=recursive, suffixes=FRAMES)
        codec_of = options.codec_of(model, running, console)
        region_of = options.regions(roi, running.read_limit)

        def find(item: FrameItem) -> "tuple[bytes, Facts]":
            frame, codec = item.frame, codec_of(item.frame)
            inside = region_of(item.stem + TAC, frame.width, frame.height)
            symbols = codec.model.decode_symbols(frame)
            blocks = spent.bits_of_blocks(symbols, codec.model.tables(frame.level))
            facts = spent.facts_of(frame, codec.model, blocks, inside)
            data = b""
            if drawn:
                pixels = codec.decode(frame, symbols)
                looked = spent.heat_map(pixels, blocks, frame, codec.model)
                data = destination.write(item.out, picture.save(looked, chosen), item.like)
            return data, {"model": codec.model.name, "level": frame.level, **facts}

        items = decoding.frames(
            sources, destination, FORMATS[chosen], max_pixels=running.max_pixels
        )
        total = files.total_bytes(sources)
        for item, (data, facts), _ in console.each(find, items, jobs=running.jobs, total=total):
            if data:
                console.data(data)
            if talking.as_json:
                own = {"file": item.source.path, "frame": item.number, "output": item.out}
                console.json(own | facts)
            else:  # standard output may have the map
                (console.say if data else console.line)(f"{item.title}: {_told(facts)}")
        destination.tell(console)


def _told(facts: dict[str, Any]) -> str:
    width, height = facts["block"]
    dearest = max(map(max, facts["blocks"]))
    told = (
        f"{facts['bits']} bits, {facts['header_bits']} of them header, metadata and checksum; "
        f"at most {dearest:.0f} for a block of {width:g} x {height:g} pixels"
    )
    if "inside_bits" in facts:
        told += (
            f"; inside {facts['inside_bits']:.0f}, {100 * facts['inside_share']:.1f} % of the bits "
            f"on {100 * facts['inside_area']:.1f} % of the pixels"
        )
    return told
