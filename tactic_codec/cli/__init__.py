"""The command ``tactic``: parse, call, print.

    main ─ one module a group of commands ─ files, console ─▶ codec, tasks, report, training …

    coding      compress, decompress          console   what is printed; items, worked on in threads
    classifying classify                      files     inputs, and where results go
    detecting   detect                        decoding  frames of inputs, and a file of each
    segmenting  segment                       asking    what these three share: ask, print, draw
    explaining  explain
    inspecting  info, test                    streaming pictures that come one after the other
    reporting   bpp-report                    watching  pictures that come into folders later
    models      models list, show, verify     listing   folders of pictures for training, eval
    learning    train, export                 options   options that several commands share
    evaluating  eval
    benching    bench

Commands are imported when they are run, and import what they need when they need it, so that
``tactic --help`` loads neither NumPy nor any room but this one. No rule of the codec lives here.
"""

import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import click

from tactic_codec import __version__
from tactic_codec.cli import console, options
from tactic_codec.errors import TacError

__all__ = ["main"]

_COMMANDS = {
    "compress": "coding",
    "decompress": "coding",
    "classify": "classifying",
    "detect": "detecting",
    "segment": "segmenting",
    "explain": "explaining",
    "info": "inspecting",
    "test": "inspecting",
    "bpp-report": "reporting",
    "models": "models",
    "train": "learning",
    "eval": "evaluating",
    "export": "learning",
    "bench": "benching",
}

# Its matrices are small, and where others work on the processors, threads that wait for each other
# take ten times as long; where none is allowed they stop it. NumPy reads it as it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

_INTERRUPTED = 128 + signal.SIGINT  # what shells report of a command that Ctrl-C ended


class _Tactic(click.Group):
    """A group that imports a command when it is asked for, and that turns errors into lines."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"{__name__}.{_COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def invoke(self, ctx: click.Context) -> Any:
        console.never_fail_to_print()
        with _ends_on_terminate() as came:
            try:
                return super().invoke(ctx)
            except (click.ClickException, click.exceptions.Exit, click.Abort):
                raise
            except console.OutputClosed:
                ctx.exit(1)
            except (KeyboardInterrupt, Exception) as exc:
                # NumPy says another thing if a signal comes while it is imported.
                if isinstance(exc, KeyboardInterrupt) or signal.SIGINT in came:
                    console.complain("interrupted")
                    ctx.exit(_INTERRUPTED)
                if came:
                    ctx.exit(128 + came[0])
                _give_up(ctx, exc)


def _give_up(ctx: click.Context, exc: Exception) -> NoReturn:
    """Print one line about an error that ends the whole command, and exit with 1."""
    if ctx.params.get("debug"):
        raise exc
    if isinstance(exc, ImportError) and "failed to map segment" in str(exc):
        exc = MemoryError()  # the system's way to say that a library does not fit
    if isinstance(exc, TacError | OSError | MemoryError):
        console.complain(console.reason(exc))
    else:
        console.complain(
            f"{type(exc).__name__}: {exc}. This is a bug in tactic-codec {__version__}: please "
            "report it, with what `tactic --debug` prints when the same command follows it"
        )
    ctx.exit(1)


@contextmanager
def _ends_on_terminate() -> Iterator[list[int]]:
    """Let SIGTERM and SIGHUP unwind like Ctrl-C does, so that no temporary file stays behind.

    Ctrl-C itself does so from here on: `tactic_codec.__main__` let it end the process at once.

    Yields:
        The numbers of the signals that came.
    """
    came: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # only it may set handlers
        yield came
        return
    before = {number: signal.signal(number, stop) for number in console.ending_signals()}
    if signal.getsignal(signal.SIGINT) in (signal.SIG_DFL, signal.default_int_handler):
        signal.signal(signal.SIGINT, stop)
        before[signal.SIGINT] = signal.default_int_handler
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_FILES_TOO = {
    "bash": ("complete -o nosort", "complete -o default -o nosort"),
    "zsh": (
        '    if [ -n "$completions" ]; then',
        "    (( $#completions + $#completions_with_descriptions )) || _files\n"
        '    if [ -n "$completions" ]; then',
    ),
    "fish": (
        "    for completion in $response;",
        '    test -z "$response"; and __fish_complete_path (commandline -ct);\n'
        "    for completion in $response;",
    ),
}
"""Of click's script for a shell, what is replaced so that files complete where click is silent."""


def completion(shell: str) -> str:
    """Return the script that completes this command's words in bash, zsh or fish."""
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made
    script = made(main, {}, "tactic", "_TACTIC_COMPLETE").source()
    return script.replace(*_FILES_TOO[shell])


def _complete(ctx: click.Context, param: click.Parameter, shell: str | None) -> None:
    if shell:
        click.echo(completion(shell))
        ctx.exit()


@click.group(
    cls=_Tactic,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=options.examples(
        "tactic compress photo.jpg",
        "tactic classify photo.tac",
        "tactic decompress photo.tac -o photo.png",
        "cat photo.jpg | tactic compress - - | tactic classify - --json",
    ),
)
@click.version_option(__version__, "-V", "--version", prog_name="tactic")
@click.option(
    "--completion",
    type=click.Choice(list(_FILES_TOO)),
    is_eager=True,
    expose_value=False,
    callback=_complete,
    help="Print what completes commands, options and models in a shell, for its start file.",
)
@click.option("--debug", is_flag=True, help="Show a Python traceback with every error.")
def main(debug: bool) -> None:
    """Compress photographs for machines that look at them, and for people too.

    A learned codec writes small .tac files. Pictures and labels are read from them.

    "-" is standard input or standard output. The exit status is 0 if all went well, 1 if an input
    failed while the others were still done, and 2 if the command line is wrong.
    """
