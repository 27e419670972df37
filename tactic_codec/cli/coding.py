"""``tactic compress`` and ``tactic decompress``."""

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import click

from tactic_codec.cli import decoding, files, options, outputs, work
from tactic_codec.cli.console import Console, display, opened
from tactic_codec.cli.decoding import FORMATS, Decoding
from tactic_codec.cli.files import FRAMES, TAC, Source
from tactic_codec.cli.outputs import Destination
from tactic_codec.container import Frame, default_max_pixels, parse
from tactic_codec.errors import TacError

_LOST = (
    "the model's classifier sees something else in the file than in the picture, at every level "
    "that was allowed; it has the highest"
)


class _Coded(NamedTuple):
    """What became of an item: the bytes for standard output, and facts."""

    data: bytes
    tac_bytes: int
    width: int
    height: int
    level: int
    model: str
    label_kept: bool | None = None

    @property
    def bpp(self) -> float:
        return 8 * self.tac_bytes / (self.width * self.height)


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture to be compressed, and where to; or why it cannot be."""

    source: Source
    out: str | None
    problem: TacError | OSError | None
    weight: int = 1

    @property
    def title(self) -> str:
        return self.source.title


# --- compress -------------------------------------------------------------------------------------


@click.command(
    short_help="Compress pictures to .tac files.",
    epilog=options.examples(
        "tactic compress photo.jpg photo.tac      one picture, one file",
        "tactic compress *.jpg coded/             several: coded/NAME.tac",
        "tactic compress -r photos coded/         photos/a/b.jpg to coded/a/b.tac",
        "tactic compress --max-bytes 1000 *.jpg coded/",
        "cat photo.jpg | tactic compress --keep-label - - > photo.tac",
    ),
)
@options.inputs_and_output
@options.quality
@click.option(
    "--max-bytes",
    type=click.IntRange(1),
    metavar="N",
    help="Of each picture, take the highest level whose file has at most N bytes.",
)
@click.option(
    "--keep-label",
    is_flag=True,
    help="Of each picture, take the lowest level at which the model's classifier still sees in the "
    "file what it sees in the picture.",
)
@options.effort
@options.model
@options.recursive
@options.force
@options.running
@options.talking
def compress(
    paths: tuple[str, ...],
    quality: int | None,
    max_bytes: int | None,
    keep_label: bool,
    effort: int,
    model: str | None,
    recursive: bool,
    force: bool,
    running: options.Running,
    talking: options.Talking,
) -> None:
    """Compress pictures to .tac files.

    OUT is a folder if it is there and is one, if it ends in "/", or if there are several inputs or
    a folder among them. Folders are searched for the usual suffixes of pictures; hidden files are
    left alone. From standard input one picture is read; to standard output the frames of several
    pictures go as a stream, which the other commands read.

    JPEG, PNG, WebP, AVIF, GIF, TIFF, BMP, PNM, JPEG 2000 and QOI are read. Pictures are turned
    upright and to sRGB; transparent parts become white.

    --max-bytes and --keep-label choose a level for every picture. A picture that no level makes
    small enough is an error, one whose label no level keeps gets the highest level and a warning.
    The label is that of the model's own network, which what is written then flatters; each level
    that is tried takes as long as decompressing and classifying. Both together: the lowest level
    that keeps the label, of those that are small enough.

    With --effort above 0 each picture's symbols are chosen by their bits, by the decoded picture,
    and by what the model's own task network makes of it, in 8, 16 or 96 steps, each of which takes
    longer than decoding the picture and asking that network. Every decoder reads the result. Other
    networks gain less from it than the one that was asked. Pictures above 1024 pixels a side are
    searched without asking it.
    """
    to_target = max_bytes is not None or keep_label
    if to_target and quality is not None:
        raise click.UsageError("give a level with -q, or let --max-bytes or --keep-label choose it")
    inputs, out = outputs.split(paths)
    destination = outputs.destination(inputs, out, force=force, as_json=talking.as_json)
    with opened(quiet=talking.quiet, verbose=talking.verbose) as console:
        from tactic_codec import picture as image
        from tactic_codec.codec import load_model
        from tactic_codec.targets import Aimed, compress_to

        sources = files.expand(inputs, recursive=recursive, suffixes=image.SUFFIXES)
        work.collect_warnings(image.ImageWarning)
        codec = load_model(model, device=running.device, threads=running.threads)
        level = options.level_of(codec, quality)
        if keep_label:
            codec.model.head("classify")  # what is missing is said once, not for every picture
        if effort:
            _ = codec.refiner  # likewise

        def code(picture: _Picture) -> _Coded:
            if picture.problem:
                raise picture.problem
            limit = running.max_pixels or image.DEFAULT_MAX_PIXELS
            pixels = files.picture(picture.source, limit)
            if to_target:
                aimed = compress_to(
                    codec, pixels, max_bytes=max_bytes, keep_label=keep_label, effort=effort
                )
            else:
                aimed = Aimed(codec.compress(pixels, level, effort), level, None)
            data = aimed.data
            if picture.out is not None:
                destination.write(picture.out, data)
            height, width, _ = pixels.shape
            _warn_of_limit(parse(data, max_pixels=height * width), image.ImageWarning)
            if aimed.label_kept is False:
                warnings.warn(_LOST, image.ImageWarning, stacklevel=2)
            kept = aimed.label_kept
            return _Coded(data, len(data), width, height, aimed.level, codec.model.name, kept)

        pictures = [_place(source, destination) for source in sources]
        for picture, coded, seconds in console.each(
            code, pictures, jobs=running.jobs, total=len(pictures)
        ):
            _deliver(console, picture, coded, seconds, talking.as_json)


def _warn_of_limit(frame: Frame, category: type[Warning]) -> None:
    """Warn of a picture so plain that its readers will take it for an attack."""
    limit = default_max_pixels(len(frame.payload))
    if frame.pixels > limit:
        warnings.warn(
            f"{frame.pixels} pixels in so few bytes are more than readers take unasked ({limit}): "
            f"they need --max-pixels {frame.pixels}",
            category,
            stacklevel=2,
        )


def _place(source: Source, destination: Destination) -> _Picture:
    from tactic_codec.picture import SUFFIXES

    if source.problem:
        return _Picture(source, None, source.problem)
    try:
        return _Picture(source, destination.place(source, source.stem(SUFFIXES) + TAC), None)
    except (TacError, OSError) as exc:
        return _Picture(source, None, exc)


# --- decompress -----------------------------------------------------------------------------------


@click.command(
    short_help="Turn .tac files into pictures.",
    epilog=options.examples(
        "tactic decompress photo.tac photo.png",
        "tactic decompress *.tac pictures/        several: pictures/NAME.png",
        "tactic decompress -r --format webp coded pictures/",
        "cat photo.tac | tactic decompress - - > photo.png",
    ),
)
@options.inputs_and_output
@click.option(
    "--format",
    "picture_format",
    type=click.Choice(list(FORMATS)),
    help="Of the pictures; by default what OUT's suffix says, or png. All but jpeg are lossless.",
)
@options.model
@options.recursive
@options.force
@options.running
@options.talking
def decompress(
    paths: tuple[str, ...],
    picture_format: str | None,
    model: str | None,
    recursive: bool,
    force: bool,
    running: options.Running,
    talking: options.Talking,
) -> None:
    """Turn .tac files into pictures.

    OUT is a folder as for compress. In a folder the frames of a file that holds several become
    NAME-0001.png, NAME-0002.png and so on, those of standard input stdin-0001.png and so on. To
    standard output several pictures go one behind the other. One output file takes one frame.

    A damaged frame is reported, no picture is written for it, and those behind it are still
    decoded. The model is found by the fingerprint in the frame.
    """
    inputs, out = outputs.split(paths)
    destination = outputs.destination(inputs, out, force=force, as_json=talking.as_json)
    sources = files.expand(inputs, recursive=recursive, suffixes=FRAMES)
    with opened(quiet=talking.quiet, verbose=talking.verbose) as console:
        from tactic_codec import picture as image

        chosen = picture_format or decoding.format_of(destination, "give --format")
        decoders = options.Decoders(model, running.device, running.threads)

        def decode(item: Decoding) -> _Coded:
            frame = item.frame
            codec = decoders.of(frame)
            data = image.save(codec.decode(frame), chosen)
            if item.out is not None:
                destination.write(item.out, data)
                data = b""  # results wait for their turn; pictures on disk need not
            size = (frame.size, frame.width, frame.height)
            return _Coded(data, *size, frame.level, codec.model.name)

        items = decoding.placed(sources, destination, FORMATS[chosen], running.max_pixels)
        total = files.total_bytes(sources)
        for item, coded, seconds in console.each(decode, items, jobs=running.jobs, total=total):
            _deliver(console, item, coded, seconds, talking.as_json)


# --- Both -----------------------------------------------------------------------------------------


def _deliver(
    console: Console, item: _Picture | Decoding, coded: _Coded, seconds: float, as_json: bool
) -> None:
    """Write to standard output what belongs there, and say what was done."""
    milliseconds = 1000 * seconds
    if item.out is None:
        console.data(coded.data)
    if as_json:
        facts = {
            "file": item.source.path,
            "output": item.out,
            "bytes": coded.tac_bytes,
            "width": coded.width,
            "height": coded.height,
            "bpp": round(coded.bpp, 6),
            "level": coded.level,
            "model": coded.model,
            "ms": round(milliseconds, 1),
        }
        if coded.label_kept is not None:
            facts["label_kept"] = coded.label_kept
        console.json(facts)
    where = "standard output" if item.out is None else display(item.out)
    console.detail(
        f"{item.title} -> {where}: {coded.tac_bytes} bytes, {coded.bpp:.4f} bpp, "
        f"{milliseconds:.0f} ms"
    )
