"""``tactic compress`` and ``tactic decompress``."""

import io
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import click

from tactic_codec.cli import decoding, files, options
from tactic_codec.cli.console import Console, collect_warnings, opened
from tactic_codec.cli.decoding import FORMATS, FrameItem
from tactic_codec.cli.files import FRAMES, TAC, Asked, Destination, Source, UpToDate
from tactic_codec.container import default_max_pixels
from tactic_codec.errors import TacError, display

if TYPE_CHECKING:
    from tactic_codec.cli.streaming import Sink, Streams
    from tactic_codec.codec import Codec, Compressed
    from tactic_codec.picture import Colour, Scaled, Shrink
    from tactic_codec.picture.streams import Found

_LOST = {
    "label_kept": "classifier finds another class",
    "boxes_kept": "detector finds other boxes",
}

_FACTS = ("bytes", "width", "height", "coded_width", "coded_height", "bpp", "level", "model")
"""Of a frame, in the order in which --json has them."""

_JPEG = b"\xff\xd8\xff"
_ONE_JPEG = 1 << 26  # bytes that are looked through at once; a JPEG has fewer


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to be compressed, and where to; or why it cannot be.

    Attributes:
        source: its file, or the stream that it is of.
        out: path of its frame, where the source is no stream; None for standard output.
        problem: why the source cannot be read.
        found: the picture of a stream, or the error in its place.
        dropped: how many pictures of the stream before it were not taken.
        sink: where frames of the stream go.
    """

    source: Source
    out: str | None = None
    problem: TacError | OSError | None = None
    found: "Found | None" = None
    dropped: int = 0
    sink: "Sink | None" = None
    weight: ClassVar[int] = 1

    @property
    def title(self) -> str:
        """Its name in messages."""
        number = self.found.number if self.found else 0
        return f"{self.source.title}: picture {number}" if number else self.source.title

    def read(self, max_pixels: int, background: "Colour", shrink: "Shrink") -> "Scaled":
        """Decode it; errors as `picture.read`."""
        if self.problem:
            raise copy(self.problem)  # as `decoding.FrameItem.frame` does, and for its reason
        if self.found:
            return self.found.read(max_pixels, background, shrink)
        from tactic_codec.picture import read

        given = _warned_of_more(Path(self.source.path))
        return read(given, max_pixels=max_pixels, background=background, shrink=shrink)


# Generic since click 8.4, and older ones will do.
class _Colour(click.ParamType):  # type: ignore[type-arg]
    """A colour as in CSS: a name, #rrggbb and so on."""

    name = "colour"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> "Colour":
        from tactic_codec.picture import colour_of

        try:
            return colour_of(value)
        except ValueError:
            self.fail(f"{value!r} is no opaque colour, such as black or '#ff8000'", param, ctx)


class _Scale(options.Share):
    """A scale, or the word that leaves it to a target."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "auto" else super().convert(value, param, ctx)


_LARGE = 1 << 20
"""Bytes of a picture file that takes longer to read than a network to load, and memory for two of
it, beside which the network's is saved."""


# --- compress -------------------------------------------------------------------------------------


class _Wanted(NamedTuple):
    """What the level and the size of every picture follow from, as `Codec.compress` takes it."""

    max_bytes: int | None
    keep_label: bool
    keep_boxes: bool
    effort: int
    max_side: int | None
    scale: "float | Literal['auto']"


_targets = options.gathered(
    "wanted",
    _Wanted,
    click.option(
        "--max-bytes",
        type=click.IntRange(1),
        metavar="N",
        help="For each picture, take the highest level whose file has at most N bytes.",
    ),
    click.option(
        "--keep-label",
        is_flag=True,
        help="For each picture, take the lowest level at which the model's classifier finds the "
        "same class in the file as in the picture.",
    ),
    click.option(
        "--keep-boxes",
        is_flag=True,
        help="For each picture, take the lowest level at which the model's detector finds the same "
        "objects in the file as in the picture.",
    ),
    options.effort,
    click.option(
        "--max-side",
        type=click.IntRange(1),
        metavar="N",
        help="Code a picture whose longer side has more than N pixels at that size. It is decoded "
        "to its own size.",
    ),
    click.option(
        "--scale",
        type=_Scale(0, 1, min_open=True),
        default=1,
        metavar="F",
        help="Code pictures at F times their width and height, above 0 and at most 1. 'auto' lets "
        "--max-bytes, --keep-label or --keep-boxes choose the scale, too.",
    ),
)
"""Gives a command these options as ``wanted``."""


@click.command(
    short_help="Compress pictures to .tac files.",
    epilog=options.examples(
        "tactic compress photo.jpg                 writes photo.tac",
        "tactic compress *.jpg -o coded/           writes coded/NAME.tac",
        "tactic compress -r photos -o coded/       photos/a/b.jpg to coded/a/b.tac",
        "tactic compress --max-bytes 1000 *.jpg -o coded/",
        "find photos -mtime -1 -name '*.jpg' -print0 | tactic compress -0 --files-from - -o new/",
        "tactic compress --roi boxes.json --max-bytes 3000 photo.jpg",
        "cat photo.jpg | tactic compress --keep-label - - > photo.tac",
        "rpicam-vid -t 0 --codec mjpeg -o - | tactic compress --drop - frames/",
        "tactic compress --watch incoming coded/   goes on until a signal ends it",
    ),
)
@options.inputs_and_output
@options.quality
@_targets
@options.roi("Put more of the bits")
@options.coding_model
@click.option(
    "--background",
    type=_Colour(),
    default="white",
    show_default=True,
    metavar="COLOUR",
    help="The colour behind transparent parts: a name, '#rrggbb' or 'rgb(R, G, B)'.",
)
@click.option(
    "--keep-metadata",
    is_flag=True,
    help="Keep EXIF, XMP and the colour profile in the file. They often have more bytes than the "
    "picture.",
)
@click.option(
    "--stream",
    is_flag=True,
    help="Read all pictures of a named file or pipe, as of standard input.",
)
@click.option(
    "--drop",
    is_flag=True,
    help="If pictures come faster than they are coded, code the newest and leave out the others.",
)
@click.option(
    "--watch",
    is_flag=True,
    help="Compress the pictures of a folder, and go on with every new one. Outputs that are up to "
    "date are left alone.",
)
@options.running
@options.talking
def compress(
    asked: Asked,
    quality: int | None,
    wanted: _Wanted,
    roi: str | None,
    model: str | None,
    stream: bool,
    drop: bool,
    watch: bool,
    recursive: bool,
    background: "Colour",
    keep_metadata: bool,
    running: options.Running,
    talking: options.Talking,
) -> None:
    """Compress pictures to .tac files.

    Without OUT, photo.jpg becomes photo.tac beside it. Several inputs, or a folder, need a folder
    as OUT. OUT is a folder if it exists as one or ends in "/". Below a folder that is an input,
    files with a picture's suffix are taken; the others are counted. Hidden files are left alone.

    Standard input is one picture or many: JPEG, PNG, PNM, BMP, WebP or TIFF one behind the other,
    multipart as web cameras send it, or YUV4MPEG2. Each becomes a frame as soon as it is there. In
    a folder the frames become stdin-000001.tac and so on, behind those that are there. In a file
    or on standard output they form a stream, which the other commands read. Of a named file the
    first picture is taken, or with --stream all of them.

    --watch compresses the pictures in a folder and below it, as with --skip-existing, and then
    every new one, until SIGINT, SIGTERM or SIGHUP ends it. A picture is taken when its file has
    been closed, or has not changed for three seconds if the system does not say so. While the disk
    is full, it waits for room. With -f a picture that changed is compressed again.

    The .tac file of a named file gets its modification time and permissions. Metadata, which may
    say where a photograph was taken, is dropped unless --keep-metadata is given. What is kept says
    that the picture is upright.

    JPEG, PNG, WebP, AVIF, GIF, TIFF, BMP, PNM, PAM, JPEG 2000 and QOI are read, and HEIC and
    JPEG XL with the packages pillow-heif and pillow-jxl-plugin. Pictures are turned upright and
    converted to sRGB.

    --max-bytes and --keep-label choose a level for each picture. Each level that they try takes as
    long as decompressing and classifying. If no level makes the file small enough, that picture
    is an error. If no level keeps the label, the highest level is taken, with a warning. With
    both options the lowest level that keeps the label is taken, among those that are small enough.
    The label is what the model's own classifier says. Other networks may see something else.
    --keep-boxes does the same for the objects that the model's own detector finds with a score of
    at least 0.4: their F1 is at least 0.9 (same class, overlap of at least a half).

    --max-side and --scale code a smaller picture, for small files and for tasks that look at few
    pixels. The .tac file keeps the picture's own size, to which decompress brings it, and by which
    bpp is counted. With --scale auto and a target, scales and levels are tried together, those that
    were best when the model was exported: --max-bytes takes the best that is small enough,
    --keep-label and --keep-boxes the smallest that keeps what they ask for.

    --roi leaves out detail outside of a region that is not worth its bits. At a level the file gets
    smaller; with --max-bytes the inside gets a higher level. Every decoder reads the result.
    'tactic explain --roi' counts the bits inside. If FILE lists a picture without boxes, all of it
    is outside.

    --effort searches for symbols that cost fewer bits, or that help the picture and the model's
    own task network more, in 8, 16 or 96 steps. Each step takes longer than decoding the picture
    and running that network. Every decoder reads the result. Other networks gain less from it. For
    pictures of more than 1024 pixels a side the task network is not asked.
    """
    keep = "detect" if wanted.keep_boxes else "classify" if wanted.keep_label else None
    to_target = wanted.max_bytes is not None or keep is not None
    if to_target and quality is not None:
        raise click.UsageError(
            "-q does not go with --max-bytes, --keep-label and --keep-boxes, which choose the level"
        )
    if wanted.scale == "auto" and not to_target:
        raise click.UsageError("--scale auto goes with --max-bytes, --keep-label or --keep-boxes")
    with opened(quiet=talking.quiet, verbose=talking.verbose) as console:
        from tactic_codec import picture as image
        from tactic_codec.codec import load_model

        ends, as_json = image.SUFFIXES, talking.as_json
        inputs, destination = files.destination(asked, TAC, ends, as_json=as_json)
        if watch:
            _refuse_to_watch(asked, inputs, destination, stream or drop)
            destination = replace(destination, skip=True, sync=True)
        sources: Iterable[Source] = (
            () if watch else files.expand(console, inputs, recursive=recursive, suffixes=ends)
        )
        collect_warnings(image.ImageWarning)
        codec = load_model(model, device=running.device, threads=running.threads)
        console.detail(f"{codec.model.name}: networks {codec.arithmetic}")
        level = None if quality is None else options.level_of(codec, quality)
        if to_target or wanted.effort:
            _refuse(codec, wanted, keep)
        # A JPEG need not be decoded to more pixels than are coded.
        whole = keep or wanted.scale == "auto"
        early = image.WHOLE if whole else image.Shrink(wanted.max_side, float(wanted.scale))
        region_of = options.regions(roi, running.read_limit)

        def code(picture: Picture) -> "Compressed":
            like = None if picture.sink else picture.source.stat()
            if not like or like.st_size < _LARGE:
                codec.runtime.open_ahead("analysis")
            pixels = picture.read(running.read_limit, background, early)
            inside = region_of(picture.source.stem(ends) + TAC, pixels.width, pixels.height)
            how = {"keep_metadata": keep_metadata, "roi": inside, **wanted._asdict()}
            coded = codec.compress(pixels, level, **how)
            write = partial(destination.write, picture.out, coded.data, like)
            watched.patiently(write) if watched else write()
            _warn(coded, image.ImageWarning)
            return coded

        watched = flow = None
        if watch:
            from tactic_codec.cli.watching import Watch

            watched = Watch(console, inputs[0], destination)
            sources = watched.sources()
        elif stream or any(source.is_stdin for source in sources):
            from tactic_codec.cli.streaming import Streams

            flow = Streams(console, drop=drop, limit=running.max_pixels)
        elif drop:
            raise click.UsageError("--drop is for streams: standard input, or files with --stream")
        pictures: Iterable[Picture] = _pictures(console, flow, stream, sources, destination)
        endless = watched or flow
        pictures = pictures if endless else list(pictures)
        with endless.ended_by_signals() if endless else nullcontext():
            ahead = running.jobs if drop else 0
            # Streams share what they know of their signals; torch was loaded here.
            prepare = None if endless or wanted.effort else running.forks(lambda picture: codec)
            done = console.each(code, pictures, jobs=running.jobs, ahead=ahead, prepare=prepare)
            for picture, coded, seconds in done:
                _deliver(console, picture, coded, coded.data, seconds, as_json)
        destination.tell(console)


def _refuse_to_watch(
    asked: Asked, inputs: Sequence[str], destination: Destination, streams: bool
) -> None:
    """Raise what is wrong with a command line that has --watch."""
    if streams:
        raise click.UsageError(
            "--watch does not go with --stream and --drop, which are for streams"
        )
    if asked.listed is not None or len(inputs) != 1 or not os.path.isdir(inputs[0]):
        raise click.UsageError(
            "--watch takes one folder, which must be there, and an output folder"
        )
    if destination.kind != "folder":
        raise click.UsageError("--watch writes to a folder; name one behind the folder to watch")


def _refuse(codec: "Codec", wanted: _Wanted, keep: str | None) -> None:
    """Raise once, not for every picture, the error of what the model or torch lacks."""
    for task, asked in (("classify", wanted.keep_label), ("detect", wanted.keep_boxes)):
        if asked:
            codec.model.head(task)
    if wanted.scale == "auto":
        codec.model.front(keep)
    if wanted.effort:
        _ = codec.refiner


def _pictures(
    console: Console,
    flow: "Streams | None",
    every: bool,
    sources: Iterable[Source],
    destination: Destination,
) -> Iterator[Picture]:
    """The pictures of all sources in their order, of those that are streams as they come."""
    from tactic_codec.picture import SUFFIXES

    for source in sources:
        stem = source.stem(SUFFIXES)
        try:
            if source.problem:
                raise source.problem
            if flow and (every or source.is_stdin):
                from tactic_codec.cli.streaming import Sink

                sink = Sink(destination, source, stem)
                for found, dropped in flow.pictures(source):
                    item = Picture(source, found=found, dropped=dropped, sink=sink)
                    if found.warning:
                        console.warn(item.title, found.warning)
                    else:
                        yield item
            else:
                yield Picture(source, destination.place(source, stem + TAC))
        except UpToDate:
            continue
        except (TacError, OSError) as exc:
            yield Picture(source, problem=exc.with_traceback(None))  # which holds all of this


def _warned_of_more(path: Path) -> "bytes | Path":
    """Warn of a file that holds several pictures where only the first is read.

    Returns:
        The file's bytes where they had to be read for that, as of a JPEG, or else its path.
    """
    if not path.is_file():
        return path
    with path.open("rb") as stream:
        size = min(os.fstat(stream.fileno()).st_size, _ONE_JPEG)  # as much is allocated
        data = stream.read(size) if stream.peek(3).startswith(_JPEG) else b""
        whole = 0 < len(data) < _ONE_JPEG
        # What begins as a JPEG, ends as one and begins no other between is one, as most are.
        if whole and data.endswith(b"\xff\xd9") and data.find(_JPEG, 1) < 0:
            return data
        from tactic_codec.picture import ImageWarning
        from tactic_codec.picture.streams import several

        stream.seek(0)
        if several(io.BytesIO(data) if whole else stream):
            why = "the file holds several pictures: the first is read, with --stream all are"
            warnings.warn(why, ImageWarning, stacklevel=2)
    return data if whole else path


def _warn(coded: "Compressed", category: type[Warning]) -> None:
    """Warn of a lost label, and of a picture so plain that readers will take it for an attack."""
    frame = coded.frame
    limit = default_max_pixels(len(frame.payload))
    if frame.counted_pixels > limit:
        warnings.warn(
            f"{frame.counted_pixels} pixels in so few bytes are more than others read by "
            f"default ({limit}): they need --max-pixels {frame.pixels}",
            category,
            stacklevel=2,
        )
    for name, lost in _LOST.items():
        if getattr(coded, name) is False:
            warnings.warn(
                f"at every level that was allowed, the model's {lost} in the file than "
                "in the picture; the highest of them was taken",
                category,
                stacklevel=2,
            )


# --- decompress -----------------------------------------------------------------------------------


@click.command(
    short_help="Turn .tac files into pictures.",
    epilog=options.examples(
        "tactic decompress photo.tac               writes photo.png",
        "tactic decompress *.tac -o pictures/      writes pictures/NAME.png",
        "tactic decompress -r --format webp coded -o pictures/",
        "cat photo.tac | tactic decompress - - > photo.png",
    ),
)
@options.inputs_and_output
@click.option(
    "--format",
    "picture_format",
    type=click.Choice(list(FORMATS)),
    help="Format of the pictures. By default OUT's suffix says it, or else it is png. All formats "
    "but jpeg are lossless.",
)
@click.option(
    "--coded-size",
    is_flag=True,
    help="Write pictures at the size that was coded, where that is smaller than their own.",
)
@options.model
@options.decoding
@options.talking
def decompress(
    asked: Asked,
    picture_format: str | None,
    coded_size: bool,
    model: str | None,
    recursive: bool,
    running: options.Running,
    talking: options.Talking,
) -> None:
    """Turn .tac files into pictures.

    Without OUT, photo.tac becomes photo.png beside it. OUT is a folder in the same cases as for
    compress. A file may hold several frames: in a folder they become NAME-0001.png, NAME-0002.png
    and so on, and the frames of standard input stdin-0001.png and so on. An output that is a file
    takes one frame. Standard output gets the pictures one behind the other.

    A picture that was coded at a smaller size is brought to its own, or with --coded-size is not.

    EXIF, XMP and a colour profile that compress kept are given back in PNG, JPEG and WebP, and the
    pixels are converted to that profile. Without one they are sRGB.

    A damaged frame is reported and gets no picture. The frames behind it are still decoded. The
    fingerprint in a frame says which model decodes it.
    """
    suffix = FORMATS[picture_format or "png"]
    inputs, destination = files.destination(asked, suffix, FRAMES, as_json=talking.as_json)
    with opened(quiet=talking.quiet, verbose=talking.verbose) as console:
        from tactic_codec import picture as image
        from tactic_codec.codec import Compressed

        sources = files.expand(console, inputs, recursive=recursive, suffixes=FRAMES)
        chosen = picture_format or decoding.format_of(destination, "give --format")
        collect_warnings(image.ImageWarning)
        codec_of = options.codec_of(model, running, console)

        def decode(item: FrameItem) -> tuple[Compressed, bytes]:
            codec = codec_of(item.frame)
            strips = codec.decode_strips(item.frame, coded_size=coded_size)
            data = image.pieces(strips, chosen, image.Metadata(**item.frame.metadata))
            written = destination.write(item.out, data, item.like)
            return Compressed(item.frame, codec.model.name), written

        items = decoding.frames(
            sources, destination, FORMATS[chosen], max_pixels=running.max_pixels
        )
        total = files.total_bytes(sources)
        prepare = running.forks(lambda item: codec_of(item.frame))
        work = console.each(decode, items, jobs=running.jobs, total=total, prepare=prepare)
        for item, done, seconds in work:
            _deliver(console, item, *done, seconds, talking.as_json)
        destination.tell(console)


# --- Both -----------------------------------------------------------------------------------------


def _deliver(
    console: Console,
    item: Picture | FrameItem,
    coded: "Compressed",
    data: bytes,
    seconds: float,
    as_json: bool,
) -> None:
    """Write to standard output what belongs there, and say what was done."""
    frame, out = coded.frame, item.out
    if isinstance(item, Picture) and item.sink:
        out = item.sink.put(data)
    if out is None:
        console.data(data)
    if as_json:
        from tactic_codec.facts import info_of

        known = info_of(frame, coded.model)._asdict()
        facts: dict[str, Any] = {"file": item.source.path, "output": out}
        facts |= {name: known[name] for name in _FACTS} | {"ms": round(1000 * seconds, 1)}
        facts |= {name: kept for name in _LOST if (kept := getattr(coded, name)) is not None}
        if isinstance(item, Picture) and item.sink and item.found:
            facts |= {"picture": item.found.number, "dropped": item.dropped}
        console.json(facts)
    if console.verbose:
        where = "standard output" if out is None else display(out)
        smaller = f" at {frame.coded_width}x{frame.coded_height}" if frame.scaled_to else ""
        console.detail(
            f"{item.title} -> {where}: {frame.size} bytes, {frame.bpp:.4f} bpp, "
            f"level {frame.level}{smaller}, {1000 * seconds:.0f} ms"
        )
