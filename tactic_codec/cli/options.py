"""Options that several commands share, and what they open."""

import os
import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from tactic_codec.cli import files, outputs
from tactic_codec.container import DEFAULT_MAX_PIXELS
from tactic_codec.errors import UnknownLevel

if TYPE_CHECKING:
    from tactic_codec.codec import Codec
    from tactic_codec.container import Frame

F = TypeVar("F", bound=Callable[..., Any])

# As in the runtime room, which would bring NumPy into --help; a test compares the two.
DEVICES = ("auto", "cpu", "cuda", "torch-cpu")

# Likewise of the codec room.
MAX_EFFORT = 3


def compose(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Return one decorator that applies several, the first one's option shown first."""

    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def examples(*lines: str) -> str:
    """Return the end of a command's help; the mark keeps click from wrapping the lines."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


files_from = click.option(
    "--files-from",
    metavar="FILE",
    help="Also take the inputs that FILE names, one on each line; '-' is standard input.",
)
null = click.option(
    "-0",
    "--null",
    is_flag=True,
    help="In the list, a zero byte ends each name, as in find -print0.",
)
output = click.option(
    "-o", "--output", metavar="OUT", help="The output; then all arguments are inputs."
)
skip_existing = click.option(
    "--skip-existing",
    is_flag=True,
    help="Leave outputs alone that are there and are not older than their input.",
)

model = click.option(
    "-m", "--model", metavar="NAME|FOLDER", help="The model to use: a name or a model folder."
)
quality = click.option(
    "-q",
    "--quality",
    type=click.IntRange(1, 255),
    metavar="LEVEL",
    help="Quality level of the model; 1 gives the smallest files. By default the model's own.",
)
effort = click.option(
    "--effort",
    type=click.IntRange(0, MAX_EFFORT),
    default=0,
    show_default=True,
    metavar="N",
    help="Search for smaller and better files, from 0, not at all, to 3; needs torch.",
)
device = click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    show_default=True,
    help="Where networks run. auto and cpu need no torch; cuda and torch-cpu do.",
)
jobs = click.option(
    "-j",
    "--jobs",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    metavar="N",
    help="Work on N pictures at once; 0 means one for each processor.",
)
max_pixels = click.option(
    "--max-pixels",
    type=click.IntRange(1),
    metavar="N",
    help=f"Refuse pictures with more pixels.  [default: {DEFAULT_MAX_PIXELS}; where .tac files are "
    "decoded, 4.2 million of one below 64 KiB, more of larger ones, and a total of each stream]",
)
recursive = click.option("-r", "--recursive", is_flag=True, help="Take all files below folders.")
force = click.option("-f", "--force", is_flag=True, help="Overwrite files that are there.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print facts as JSON, one a line.")
quiet = click.option("--quiet", is_flag=True, help="No warnings and no progress bar; errors stay.")
verbose = click.option("-v", "--verbose", is_flag=True, help="Say more on standard error.")


def inputs(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command its inputs as the argument ``paths``: those it names, and those of a list."""

    @wraps(command)
    def call(
        *args: Any, paths: tuple[str, ...], files_from: str | None, null: bool, **named: Any
    ) -> None:
        listed = _listed(files_from, null)
        if not paths and listed is None:
            raise click.UsageError("there is no input; name a file, a folder, or '-'")
        command(*args, paths=[*paths, *(listed or ())], **named)

    argument = click.argument("paths", nargs=-1, metavar="IN...")
    return compose(argument, files_from, null, recursive)(call)


def inputs_and_output(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command what the command line says of files, as its argument ``asked``."""

    @wraps(command)
    def call(
        *args: Any,
        paths: tuple[str, ...],
        files_from: str | None,
        null: bool,
        output: str | None,
        force: bool,
        skip_existing: bool,
        **named: Any,
    ) -> None:
        asked = outputs.Asked(paths, _listed(files_from, null), output, force, skip_existing)
        command(*args, asked=asked, **named)

    argument = click.argument("paths", nargs=-1, metavar="IN... [OUT]")
    return compose(argument, output, files_from, null, recursive, force, skip_existing)(call)


def _listed(path: str | None, null: bool) -> list[str] | None:
    """Return the names of a list, or None where there is no list."""
    if path is not None:
        return files.names_from(path, null=null)
    if null:
        raise click.UsageError("-0 is for --files-from: it says how the names of the list end")
    return None


class Running(NamedTuple):
    """How pictures are worked on, by the options of `running`.

    Attributes:
        device: see the runtime room.
        jobs: pictures at once, at least 1.
        threads: of each one's networks; None for all processors.
        max_pixels: of a picture; None where nothing was said.
    """

    device: str
    jobs: int
    threads: int | None
    max_pixels: int | None


class Talking(NamedTuple):
    """What a command says, by the options of `talking`."""

    as_json: bool
    quiet: bool
    verbose: bool


def running(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --device, --jobs and --max-pixels as its argument ``running``."""

    @wraps(command)
    def call(*args: Any, device: str, jobs: int, max_pixels: int | None, **named: Any) -> None:
        jobs = jobs or os.cpu_count() or 1
        threads = 1 if jobs > 1 else None
        command(*args, running=Running(device, jobs, threads, max_pixels), **named)

    return compose(device, jobs, max_pixels)(call)


def talking(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --json, --quiet and --verbose as its argument ``talking``."""

    @wraps(command)
    def call(*args: Any, as_json: bool, quiet: bool, verbose: bool, **named: Any) -> None:
        command(*args, talking=Talking(as_json, quiet, verbose), **named)

    return compose(as_json, quiet, verbose)(call)


def level_of(codec: "Codec", quality: int | None) -> int:
    """Return the quality level to use; one that the model does not have is a wrong command line."""
    level = codec.model.default_level if quality is None else quality
    try:
        codec.model.level(level)
    except UnknownLevel as exc:
        raise click.BadParameter(str(exc), param_hint="'-q'") from exc
    return level


class Decoders:
    """The codecs that frames ask for, each loaded once; for several threads.

    Args:
        model: decodes all frames, by name or folder; by default each frame's own model does.
        device: see the runtime room.
        threads: of each network; None for all processors.
    """

    def __init__(self, model: str | None, device: str, threads: int | None) -> None:
        from tactic_codec.codec import load_model

        def load(name: str | Path) -> "Codec":
            return load_model(name, device=device, threads=threads)

        self._load = load
        self._only = None if model is None else load(model)
        self._loaded: dict[bytes, Codec] = {}
        self._lock = threading.Lock()

    def of(self, frame: "Frame") -> "Codec":
        """Return the codec for a frame.

        Raises:
            UnknownModel: the frame's model is not installed.
            BackendUnavailable: the device is not there.
        """
        from tactic_codec.model import find_fingerprint

        if self._only:
            return self._only
        with self._lock:
            if frame.fingerprint not in self._loaded:
                folder = find_fingerprint(frame.fingerprint).path
                self._loaded[frame.fingerprint] = self._load(folder)
            return self._loaded[frame.fingerprint]
