"""What the wheel brings beside the package: man pages and completion, made from the commands.

Hatchling calls it when it builds a wheel. By hand:  python packaging/manual.py FOLDER
"""

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

COMPLETION = {
    "bash": "bash-completion/completions/tactic",
    "zsh": "zsh/site-functions/_tactic",
    "fish": "fish/vendor_completions.d/tactic.fish",
}
STATUS = """\
.SH EXIT STATUS
0 if all went well, 1 if an input failed, 2 if the command line is wrong.
.SH ENVIRONMENT
.TP
.B TACTIC_MODEL
The model that codes pictures, where \\-m names none.
.TP
.B TACTIC_MODELS
Folders of model folders, separated as in PATH.
.TP
.B TACTIC_DEVICE
Where networks run, where \\-\\-device does not say it.
.PP
No colours are printed, whether or not NO_COLOR is set.
"""


def roff(text: str) -> str:
    """Return text as it is to be shown, whatever man takes for a command."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return re.sub(r"^\.", r"\\&.", text, flags=re.MULTILINE)


def flowing(text: str) -> str:
    """Return the paragraphs of a help text; those that click does not wrap stay as they are."""
    made = []
    for paragraph in re.split(r"\n{2,}", text.strip()):
        lines = paragraph.split("\n")
        if lines[0].strip() == "\b":
            made.append(".nf\n" + roff("\n".join(lines[1:])) + "\n.fi")
        else:
            made.append(roff("\n".join(line.strip() for line in lines)))
    return "\n.PP\n".join(made)


def pages(
    command: click.Command, path: tuple[str, ...], parent: click.Context | None = None
) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of the page of a command, and of those below it."""
    from tactic_codec import __version__

    context = click.Context(command, parent, path[-1], **command.context_settings)
    below = []
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found
            below.append((name, found))
    name = "-".join(path)
    text = f'.TH {name.upper()} 1 "" "tactic\\-codec {__version__}" "tactic"\n'
    text += f".SH NAME\n{roff(name)} \\- {roff(command.get_short_help_str(200))}\n"
    usage = roff(" ".join(command.collect_usage_pieces(context)))
    text += f".SH SYNOPSIS\n.B {roff(' '.join(path))}\n{usage}\n"
    text += f".SH DESCRIPTION\n{flowing(command.help or '')}\n"
    options = [p for p in command.get_params(context) if isinstance(p, click.Option)]
    rows = [option.get_help_record(context) for option in options]
    for title, found in (
        ("COMMANDS", [(f"{' '.join(path)} {n}", c.get_short_help_str(200)) for n, c in below]),
        ("OPTIONS", [row for row in rows if row]),
    ):
        text += f".SH {title}\n" if found else ""
        for option, told in found:
            text += f".TP\n.B {roff(option)}\n{roff(told)}\n"
    if command.epilog:
        body = command.epilog.replace("\b\nExamples:\n", "\b\n")
        text += f".SH EXAMPLES\n{flowing(body)}\n"
    yield f"{name}.1", text + STATUS
    for each, found in below:
        yield from pages(found, (*path, each), context)


def write(folder: Path) -> dict[str, str]:
    """Write all files into a folder; return where each belongs below an environment's own."""
    from tactic_codec.cli import completion, main

    made = {f"share/man/man1/{name}": text for name, text in pages(main, ("tactic",))}
    made |= {f"share/{place}": completion(shell) for shell, place in COMPLETION.items()}
    for place, text in made.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return {str(folder / place): place for place in made}


if __name__ == "__main__":  # for which hatchling need not be there
    write(Path(sys.argv[1]))
else:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

    class Hook(BuildHookInterface[Any]):
        """Adds the files to a wheel."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Do so, unless what is installed is the checkout itself."""
            if version == "editable":
                return
            self._folder = tempfile.TemporaryDirectory()
            build_data["shared_data"].update(write(Path(self._folder.name)))

        def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
            """Remove what was written beside the wheel."""
            if version != "editable":
                self._folder.cleanup()
