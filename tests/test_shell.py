"""What belongs to a shell: completion, man pages, what file(1) says, and the environment."""

import importlib.util
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import PHOTOGRAPHS, TINY, tactic

from tactic_codec import __version__, container
from tactic_codec.cli import completion, main
from tactic_codec.codec import Codec

ROOT = Path(__file__).parent.parent
VECTORS = Path(__file__).parent / "vectors"


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tactic_on_path: None, tiny_installed: None
) -> Path:
    """A folder with files to complete, where the command ``tactic`` is found."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a photograph.jpg").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- Completion -----------------------------------------------------------------------------------

START = {
    "bash": ("bash --norc --noprofile -i", "bind 'set enable-bracketed-paste off'; . ./script"),
    "zsh": ("zsh -f -i", "autoload -Uz compinit; compinit -u -D; . ./script"),
    "fish": ("fish --no-config -i", "source script"),
}
TYPED = {
    "tactic compre": "tactic compress ",
    "tactic compress --keep-meta": "--keep-metadata ",
    "tactic compress --device torch": "torch-cpu ",
    "tactic compress -m ti": "-m tiny ",
    "tactic compress a": r"a\ photograph.jpg ",
}


@pytest.mark.slow
@pytest.mark.parametrize("shell", START)
def test_a_shell_completes_commands_options_models_and_files(shell: str, place: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    (place / "script").write_text(completion(shell))
    command, setup = START[shell]
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="dumb", PS1="> ", COLUMNS="200")
        os.execvp(command.split()[0], command.split())
    try:
        heard(terminal, " ")  # its prompt
        os.write(terminal, f"{setup}; echo is''ready\n".encode())
        heard(terminal, "isready")
        for typed, expected in TYPED.items():
            os.write(terminal, b"\x15" + typed.encode() + b"\t")  # first the line is emptied
            heard(terminal, expected)
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def heard(terminal: int, expected: str) -> None:
    """Wait until a terminal has shown something."""
    said, end = b"", time.monotonic() + 60
    while expected.encode() not in re.sub(rb"\x1b\[[\d;?]*[A-Za-z]|\x07", b"", said):
        ready, _, _ = select.select([terminal], [], [], max(0, end - time.monotonic()))
        assert ready, f"{expected!r} did not come; there was {said!r}"
        said += os.read(terminal, 4096)


def test_a_shell_that_is_not_known_is_a_wrong_command_line() -> None:
    result = CliRunner().invoke(main, ["--completion", "csh"])
    assert result.exit_code == 2 and "'bash', 'zsh', 'fish'" in result.output


@pytest.mark.parametrize("shell", START)
def test_the_option_prints_the_script_that_completes_files_too(shell: str) -> None:
    from click.shell_completion import get_completion_class

    result = CliRunner().invoke(main, ["--completion", shell])
    assert result.exit_code == 0 and result.output == completion(shell) + "\n"
    made = get_completion_class(shell)
    assert made
    assert completion(shell) != made(main, {}, "tactic", "_TACTIC_COMPLETE").source()


# --- Man pages ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The pages that a wheel gets, by their names."""
    spec = importlib.util.spec_from_file_location("manual", ROOT / "packaging" / "manual.py")
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    folder = tmp_path_factory.mktemp("wheel")
    made.write(folder)
    return {path.name: path.read_text() for path in (folder / "share/man/man1").iterdir()}


def test_the_pages_are_written_by_hand_without_hatchling(tmp_path: Path) -> None:
    """As in a checkout after bin/setup."""
    code = "import runpy, sys; sys.modules['hatchling'] = None; del sys.argv[0]; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    script = ROOT / "packaging" / "manual.py"
    subprocess.run([sys.executable, "-c", code, script, tmp_path], check=True)
    assert (tmp_path / "share/man/man1/tactic-compress.1").exists()


def test_every_command_has_a_page_with_all_its_options(manual: dict[str, str]) -> None:
    names = {f"tactic-{name}.1" for name in main.list_commands(None)}  # type: ignore[arg-type]
    below = {f"tactic-models-{name}.1" for name in ("list", "show", "verify")}
    assert set(manual) == names | below | {"tactic.1"}
    for name, text in manual.items():
        assert f"tactic\\-codec {__version__}" in text
        words = name.removesuffix(".1").replace("bpp-report", "bpp_report").split("-")[1:]
        words = [word.replace("_", "-") for word in words]
        told = CliRunner().invoke(main, [*words, "--help"]).output
        options = re.findall(r"^  .*?(--[a-z-]+)", told, re.MULTILINE)
        assert len(options) > 0
        for option in options:
            assert option.replace("-", "\\-") in text, option
    assert "tactic compress *.jpg \\-o coded/" in manual["tactic-compress.1"]


@pytest.mark.slow
def test_no_page_says_what_man_would_obey(manual: dict[str, str]) -> None:
    known = r"\.(TH|SH|TP|PP|B|nf|fi)( |$)"
    for text in manual.values():
        for line in text.splitlines():
            assert re.match(known, line) or line[:1] not in (".", "'"), line
    if groff := shutil.which("groff"):
        for text in manual.values():
            command = [groff, "-ww", "-man", "-Kutf8", "-Tutf8"]
            result = subprocess.run(command, input=text, capture_output=True, text=True)
            assert (result.returncode, result.stderr) == (0, "")


# --- file(1) --------------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("file"), reason="file(1) is not installed")
def test_file_says_what_a_tac_file_is(tmp_path: Path) -> None:
    files = [*(VECTORS / "valid").glob("*.tac"), *(VECTORS / "unusual").glob("*.tac")]
    sides = (1, 240, 241, 2287, 2288, 65535)
    for width in sides:
        for height in sides:
            path = tmp_path / f"{width}-{height}.tac"
            path.write_bytes(container.pack(container.Frame(b"abcd", 255, width, height, b"")))
            files.append(path)
    magic = str(ROOT / "packaging" / "tactic.magic")
    said = subprocess.check_output(["file", "-b", "-m", magic, *files], text=True).splitlines()
    for path, line in zip(files, said, strict=True):
        with path.open("rb") as stream:
            head = container.read_head(stream)
        size = f"{head.width} x {head.height}"
        assert line == f"TACTIC picture, version 1, level {head.level}, {size}"
    kinds = ["file", "-b", "--mime-type", "-m", magic, files[0]]
    assert subprocess.check_output(kinds, text=True) == "image/x-tac\n"


# --- The environment ------------------------------------------------------------------------------


def test_the_environment_names_model_and_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: Codec, tiny_installed: None
) -> None:
    out = tmp_path / "x.tac"
    monkeypatch.setenv("TACTIC_MODEL", "tiny")
    tactic("compress", PHOTOGRAPHS[0], out)
    assert container.parse(out.read_bytes()).fingerprint == tiny.model.fingerprint
    monkeypatch.setenv("TACTIC_MODEL", "none")
    assert "none" in tactic("compress", "-f", PHOTOGRAPHS[0], out, code=1).output
    tactic("decompress", out, tmp_path / "x.png")  # by the model that the frame names
    tactic("compress", "-f", "-m", TINY, PHOTOGRAPHS[0], out)  # what is said counts more
    monkeypatch.setenv("TACTIC_MODEL", "")
    monkeypatch.setenv("TACTIC_DEVICE", "tpu")
    said = tactic("decompress", "-f", out, tmp_path / "x.png", code=2).output
    assert "TACTIC_DEVICE" in said and "'tpu'" in said
    tactic("decompress", "-f", "--device", "cpu", out, tmp_path / "x.png")
    monkeypatch.setenv("TACTIC_DEVICE", "cpu")
    tactic("decompress", "-f", out, tmp_path / "x.png")
    assert "TACTIC_MODEL" in tactic("compress", "--help").output
    assert "TACTIC_MODEL" not in tactic("decompress", "--help").output


def test_no_colours_are_printed(place: Path) -> None:
    """So NO_COLOR needs nothing; nor does a terminal change that."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.pop("NO_COLOR", None)
        os.execvp("tactic", ["tactic", "info", str(VECTORS / "valid" / "tiny-1x1.tac"), "none"])
    said = b""
    try:
        while piece := os.read(terminal, 4096):
            said += piece
    except OSError:  # the other end was closed
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert b"a292e80f" in said and b"none" in said
    assert not re.search(rb"\x1b\[[\d;]*m", said)
