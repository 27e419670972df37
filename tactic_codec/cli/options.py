"""Options that several commands share, and what they open."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial, reduce, wraps
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from tactic_codec.cli import files
from tactic_codec.container import DEFAULT_MAX_PIXELS
from tactic_codec.errors import TacError, UnknownLevel, display, needed

if TYPE_CHECKING:
    from tactic_codec.cli.console import Console
    from tactic_codec.codec import Codec
    from tactic_codec.container import Frame
    from tactic_codec.tasks.regions import Region

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]

# As in the runtime room, which would bring NumPy into --help; a test compares the two.
DEVICES = ("auto", "cpu", "cuda", "torch-cpu")

# Likewise of the codec room.
MAX_EFFORT = 3


def compose(*decorators: Decorator) -> Decorator:
    """Return one decorator that applies several, the first one's option shown first."""
    return lambda command: reduce(lambda made, add: add(made), reversed(decorators), command)


def examples(*lines: str) -> str:
    """Return the end of a command's help; the mark keeps click from wrapping the lines."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def several(*names: str, help: str, **settings: Any) -> Decorator:
    """Return an option that may be given several times, and whose help says so."""
    told = f"{help} May be given several times."
    return click.option(*names, multiple=True, help=told, **settings)


def reading(role: str) -> Decorator:
    """Return the options that say how the ONNX file of a role reads pictures."""
    return compose(
        several(
            f"--{role}-input",
            metavar="KEY=VALUE",
            help="How it reads pictures: size=640 or size=HEIGHT,WIDTH (0: any), layout=nchw or "
            "nhwc, order=rgb or bgr, range=255 or 1, mean=M or M,M,M and std=S, in that range. "
            "What is not given is guessed, and printed.",
        ),
        several(
            f"--{role}-output",
            metavar="NAME",
            help="An output that counts, or any tensor inside, as those before boxes are selected. "
            "By default all.",
        ),
    )


files_from = click.option(
    "--files-from",
    metavar="FILE",
    help="Take the inputs that FILE lists, one on each line. '-' is standard input.",
)
null = click.option(
    "-0",
    "--null",
    is_flag=True,
    help="The names in the list end in a zero byte, as 'find -print0' writes them.",
)
output = click.option(
    "-o", "--output", metavar="OUT", help="The output. All arguments are then inputs."
)
skip_existing = click.option(
    "--skip-existing",
    is_flag=True,
    help="Skip inputs whose output exists and is not older. With -f older ones are overwritten.",
)


def _names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of installed models, for a shell that completes one."""
    from tactic_codec.model import Model, installed

    names = [model.name for model in installed() if isinstance(model, Model)]
    return [name for name in names if name.startswith(incomplete)]


_model = partial(
    click.option,
    *("-m", "--model"),
    metavar="NAME|FOLDER",
    shell_complete=_names,
    help="The model: an installed one, or its folder.",
)
model = _model()
coding_model = _model(envvar="TACTIC_MODEL", show_envvar=True)
"""Where it says what pictures are coded with; a frame says itself what decodes it."""

quality = click.option(
    "-q",
    "--quality",
    type=int,
    metavar="LEVEL",
    help="Quality level. 1 gives the smallest files. The model has the other levels and the "
    "default: see 'tactic models show'.",
)
effort = click.option(
    "--effort",
    type=click.IntRange(0, MAX_EFFORT),
    default=0,
    show_default=True,
    metavar="N",
    help="How long to search for a smaller and better file. 0 does not search; 3 takes longest. "
    "Above 0 it needs torch.",
)
device = click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    show_default=True,
    envvar="TACTIC_DEVICE",
    show_envvar=True,
    help="Where networks run. auto is the CPU, with 8-bit integers for all but decoding if model "
    "and processor can; cpu is the CPU in single precision. cuda and torch-cpu need torch.",
)
fast = click.option(
    "--fast",
    is_flag=True,
    help="Decode in 8-bit integers, if model and processor can. With general it takes about two "
    "thirds of the time, and pixels change by 1.1 to 1.4 of their 255 steps (RMS).",
)
jobs = click.option(
    "-j",
    "--jobs",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    metavar="N",
    help="Work on N pictures at once; 0 means one for each processor that this process may use. On "
    "Linux each has a process with networks of its own, of about 100 MB.",
)
threads = click.option(
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    help="Processors that one network may use. By default 1 where -j is above 1, else all that "
    "this process may use, by its affinity and its cgroup's quota.",
)


class Share(click.FloatRange):
    """A number within a range; click's own lets NaN through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse NaN, too."""
        found = super().convert(value, param, ctx)
        if found != found:
            self.fail(f"{value!r} is not a number", param, ctx)
        return found


def roi(what: str) -> Decorator:
    """Return the option for a region of interest, of which the command does something."""
    return click.option(
        "--roi",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False),
        help=f"{what} inside a region: a mask of the picture's size, which is black outside, or "
        "boxes as .json: [[left, top, right, bottom], ...] in pixels for every picture, or lines "
        "of 'tactic detect --json' or a file of COCO for those that it lists.",
    )


def max_pixels(default: str) -> Decorator:
    """Return the option that limits pictures, whether they are read, decoded or only named."""
    told = f"Refuse pictures with more than N pixels. By default {default}."
    return click.option("--max-pixels", type=click.IntRange(1), metavar="N", help=told)


read_pixels = max_pixels(f"{DEFAULT_MAX_PIXELS}")
_BY_SIZE = "4.2 million for a .tac file below 64 KiB and more for larger files"
decoded_pixels = max_pixels(f"{_BY_SIZE}; a stream also has a limit for its sum")
html = click.option(
    "--html", metavar="FILE", help="Also write a page for a browser, in one file; see above."
)
recursive = click.option("-r", "--recursive", is_flag=True, help="Take the files below folders.")
force = click.option("-f", "--force", is_flag=True, help="Overwrite existing files.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
quiet = click.option("--quiet", is_flag=True, help="Print errors only.")
verbose = click.option("-v", "--verbose", is_flag=True, help="Report each file on standard error.")


def gathered(name: str, make: Callable[..., Any], *decorators: Decorator) -> Decorator:
    """Give a command what is made of several options as one argument.

    Args:
        name: of the argument.
        make: called with the options that it has parameters for, by their names.
        decorators: that add these options, and others.
    """
    taken = tuple(signature(make).parameters)

    def decorate(command: Command) -> Command:
        @wraps(command)
        def call(*args: Any, **named: Any) -> None:
            made = make(**{option: named.pop(option) for option in taken})
            command(*args, **{name: made}, **named)

        return compose(*decorators)(call)

    return decorate


def _listed(path: str | None, null: bool) -> list[str] | None:
    """Return the names of a list, or None where there is no list."""
    if path is not None:
        return files.names_from(path, null=null)
    if null:
        raise click.UsageError("-0 is for --files-from: it says how the names of the list end")
    return None


def _inputs(paths: tuple[str, ...], files_from: str | None, null: bool) -> list[str]:
    listed = _listed(files_from, null)
    if not paths and listed is None:
        raise click.UsageError("there is no input; name a file, a folder, or '-'")
    return [*paths, *(listed or ())]


def _asked(
    paths: tuple[str, ...],
    files_from: str | None,
    null: bool,
    output: str | None,
    force: bool,
    skip_existing: bool,
) -> files.Asked:
    return files.Asked(paths, _listed(files_from, null), output, force, skip_existing)


class Running(NamedTuple):
    """How pictures are worked on, by the options of `running`.

    Attributes:
        device: see the runtime room.
        jobs: pictures at once, at least 1.
        threads: of each one's networks; None for as many as this process may use.
        max_pixels: of a picture; None where nothing was said.
    """

    device: str = "auto"
    jobs: int = 1
    threads: int | None = None
    max_pixels: int | None = None

    @property
    def read_limit(self) -> int:
        """The most pixels of a picture that is read, where its file's size does not limit it."""
        return self.max_pixels or DEFAULT_MAX_PIXELS

    def forks(self, prepare: Callable[[Any], object]) -> Callable[[Any], object] | None:
        """Return what a worker process inherits, see `console.in_order`; torch stays in threads."""
        return None if self.device in ("cuda", "torch-cpu") else prepare


def _running(device: str, jobs: int, threads: int | None, max_pixels: int | None) -> Running:
    if jobs == 0:
        from tactic_codec.runtime import processors

        jobs = processors()
    return Running(device, jobs, threads or (1 if jobs > 1 else None), max_pixels)


def _decoding(
    fast: bool, device: str, jobs: int, threads: int | None, max_pixels: int | None
) -> Running:
    if fast and device != "auto":
        raise click.UsageError(
            f"--fast is for --device auto; --device or TACTIC_DEVICE says {device}"
        )
    return _running("fast" if fast else device, jobs, threads, max_pixels)


class Talking(NamedTuple):
    """What a command says, by the options of `talking`."""

    as_json: bool
    quiet: bool
    verbose: bool


_many = (files_from, null, recursive)
inputs = gathered("paths", _inputs, click.argument("paths", nargs=-1, metavar="IN..."), *_many)
"""Gives a command its inputs as ``paths``, those of a list among them; and ``recursive``."""

inputs_and_output = gathered(
    "asked",
    _asked,
    *(click.argument("paths", nargs=-1, metavar="IN... [OUT]"), output, *_many),
    *(force, skip_existing),
)
"""Gives a command what the command line says of files, as ``asked``; and ``recursive``."""

running = gathered("running", _running, device, jobs, threads, read_pixels)
"""Gives a command --device, --jobs, --threads and --max-pixels as ``running``."""

decoding = gathered("running", _decoding, fast, device, jobs, threads, decoded_pixels)
"""The same and --fast, for commands that decode files, whose size limits pictures."""

talking = gathered("talking", Talking, as_json, quiet, verbose)
"""Gives a command --json, --quiet and --verbose as ``talking``."""


def torch_for(what: str) -> AbstractContextManager[None]:
    """Import within it what brings torch in, for what needs that; see `needed`."""
    return needed(
        f"{what} needs {{}}; run: "
        "pip install torch torchvision safetensors onnx onnxscript onnx2pytorch"
    )


@contextmanager
def refused(*errors: type[Exception], hint: str | None = None) -> Iterator[None]:
    """Turn what is refused within it into a wrong command line: of an option, or of all of it."""
    try:
        yield
    except errors as exc:
        message = display(str(exc))
        if hint is None:
            raise click.UsageError(message) from exc
        raise click.BadParameter(message, param_hint=hint) from exc


def refuse_page(
    path: str | None,
    force: bool,
    made: str = os.curdir,
    sources: Iterable[files.Source] = (),
) -> None:
    """Refuse what --html names before hours of work, and not behind them.

    Args:
        path: of the page, None where none is wanted.
        force: whether a file may be replaced.
        made: a folder that will be there.
        sources: inputs, which are never replaced.

    Raises:
        OutputExists, OSError: it cannot be written.
    """
    if path == files.STDOUT:
        raise click.UsageError("--html writes to a file; name one in place of '-'")
    folder = os.path.abspath(os.path.dirname(path or ""))
    if path is not None and (os.path.exists(path) or folder != os.path.abspath(made)):
        for source in (files.Source(files.STDIN, ""), *sources):
            files.Destination("file", path, force).place(source, "")


def level_of(codec: "Codec", quality: int | None) -> int:
    """Return the quality level to use; one that the model does not have is a wrong command line."""
    level = codec.model.default_level if quality is None else quality
    with refused(UnknownLevel, hint="'-q'"):
        codec.model.level(level)
    return level


def regions(path: str | None, max_pixels: int) -> "Callable[[str, int, int], Region | None]":
    """Return what finds the regions of --roi; what it cannot read is a wrong command line."""
    if path is None:
        return lambda name, width, height: None
    from tactic_codec.tasks.regions import regions_in

    with refused(TacError, OSError, hint="'--roi'"):
        return regions_in(Path(path), max_pixels=max_pixels)


def codec_of(model: str | None, running: Running, console: "Console") -> "Callable[[Frame], Codec]":
    """Return what finds the codec for a frame; for several threads.

    Args:
        model: decodes all frames, by name or folder; by default each frame's own model does.
        running: where, and in how many threads.
        console: is told once of each model what its networks compute with.
    """
    from tactic_codec.codec import load_model, load_model_of

    device, threads = running.device, running.threads
    only = None if model is None else load_model(model, device=device, threads=threads)
    told: set[bytes] = set()

    def found(frame: "Frame") -> "Codec":
        codec = only or load_model_of(frame.fingerprint, device=device, threads=threads)
        if codec.model.fingerprint not in told:
            told.add(codec.model.fingerprint)
            console.detail(f"{codec.model.name}: networks {codec.arithmetic}")
        return codec

    return found
