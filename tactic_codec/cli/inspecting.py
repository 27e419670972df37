"""``tactic info`` and ``tactic test``: what headers and checksums tell, without any network."""

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import TYPE_CHECKING

import click

from tactic_codec.cli import decoding, files, options
from tactic_codec.cli.console import Console, opened, reason, table
from tactic_codec.cli.decoding import FrameItem
from tactic_codec.cli.files import FRAMES, Source
from tactic_codec.container import DEFAULT_MAX_PIXELS, Frame
from tactic_codec.errors import TacError, display

if TYPE_CHECKING:
    from tactic_codec.facts import Info

_HEADINGS = ["frame", "version", "width", "height", "coded", "level", "model", "bytes", "payload"]
_HEADINGS += ["metadata", "bpp", "file"]
_WIDTHS = (5, 7, 5, 6, 9, 5, 20, 9, 9, 12, 8)  # rows are printed as frames come in


# --- info -----------------------------------------------------------------------------------------


@click.command(
    short_help="Show the headers of .tac files.",
    epilog=options.examples("tactic info photo.tac", "tactic info -r --json coded/"),
)
@options.inputs
@options.read_pixels
@options.talking
def info(
    paths: list[str], recursive: bool, max_pixels: int | None, talking: options.Talking
) -> None:
    """Show the headers of .tac files, one row for each frame. Nothing is decoded.

    bpp is 8 x bytes of the frame / (width x height). "coded" is the size that was
    coded. "metadata" is what the frame keeps of it; --json gives the bytes of each. A
    model is shown by its fingerprint, and by its name if it is installed.
    """
    with opened(quiet=talking.quiet, verbose=talking.verbose) as console:
        from tactic_codec.facts import info_of

        sources = files.expand(console, paths, recursive=recursive, suffixes=FRAMES)
        items = decoding.frames(sources, max_pixels=max_pixels or DEFAULT_MAX_PIXELS)
        total = files.total_bytes(sources)
        names: dict[bytes, str] | None = None
        rows = [_HEADINGS]
        for item, frame, _ in console.each(lambda item: item.frame, items, total=total):
            if names is None:
                names = _model_names()
            found = info_of(frame, names.get(frame.fingerprint))
            if talking.as_json:
                own = {"file": item.source.path, "frame": item.number}
                console.json(own | found._asdict())
                continue
            for line in table([*rows, _row(item, found)], left=(6, 11), least=_WIDTHS):
                console.line(line)
            rows = []


def _row(item: FrameItem, info: "Info") -> list[str]:
    model = f"{info.fingerprint} {display(info.model or '(not here)')}"
    numbers = map(str, (item.number, info.version, info.width, info.height))
    coded = f"{info.coded_width}x{info.coded_height}"
    kinds = "+".join(info.metadata) or "-"
    sizes = (str(info.bytes), str(info.payload_bytes), kinds, f"{info.bpp:.4f}")
    return [*numbers, coded, str(info.level), model, *sizes, item.source.title]


def _model_names() -> dict[bytes, str]:
    """Return the names of the installed models by fingerprint."""
    from tactic_codec.model import Model, installed

    found = [model for model in installed() if isinstance(model, Model)]
    return {model.fingerprint: model.name for model in reversed(found)}


# --- test -----------------------------------------------------------------------------------------


@click.command(
    short_help="Check .tac files for damage.",
    epilog=options.examples(
        "tactic test *.tac", "tactic test -r --symbols coded/", "cat stream | tactic test - --json"
    ),
)
@options.inputs
@click.option(
    "--symbols",
    is_flag=True,
    help="Also decode the symbols, with the tables of the installed model. No network runs.",
)
@options.model
@options.max_pixels("as info; with --symbols as decompress")
@options.talking
def test(
    paths: list[str],
    symbols: bool,
    model: str | None,
    recursive: bool,
    max_pixels: int | None,
    talking: options.Talking,
) -> None:
    """Check the headers and checksums of .tac files, and print OK or FAILED for each.

    Standard error says what is wrong with a file. With --quiet only files that failed are printed.
    With --json each file is one line: {"file", "ok", "frames", "errors"}.
    """
    if model and not symbols:
        raise click.UsageError("-m goes with --symbols only: headers and checksums need no model")
    with opened(quiet=talking.quiet, verbose=talking.verbose) as console:
        sources = files.expand(console, paths, recursive=recursive, suffixes=FRAMES)
        decode = _decodes(model) if symbols else None
        # Only decoding costs more than its bytes.
        limit = max_pixels if symbols else max_pixels or DEFAULT_MAX_PIXELS
        items = decoding.frames(sources, max_pixels=limit)
        console.progress(files.total_bytes(sources))
        for source, group in groupby(items, key=lambda item: item.source):
            _test_file(console, source, group, decode, talking.as_json)


def _decodes(name: str | None) -> Callable[[Frame], object]:
    """Return what decodes a frame's symbols, by the tables of a model or of each frame's own."""
    from tactic_codec import model

    only = None if name is None else model.find(name)
    return lambda frame: (only or model.find_fingerprint(frame.fingerprint)).decode_symbols(frame)


def _test_file(
    console: Console,
    source: Source,
    items: Iterable[FrameItem],
    decode: Callable[[Frame], object] | None,
    as_json: bool,
) -> None:
    frames, errors = 0, list[str]()
    for item in items:
        frames += 1
        try:
            frame = item.frame
            if decode:
                decode(frame)
        except (TacError, OSError) as exc:
            place = f"frame {item.number}: " if item.several else ""
            errors.append(place + reason(exc, source.path))
            console.fail(item.title, exc)
        console.advance(item.weight)
    if as_json:
        ok = not errors
        console.json({"file": source.path, "ok": ok, "frames": frames, "errors": errors})
    elif errors:
        console.line(f"{source.title}: FAILED")
    elif not console.quiet:
        count = f" ({frames} frames)" if frames > 1 else ""
        console.line(f"{source.title}: OK{count}")
