"""The commands as processes: pipes, terminals, closed streams, signals and odd file names."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tactic_codec.codec import Codec

MODELS = Path(__file__).parent / "models"
TACTIC = (sys.executable, "-m", "tactic_codec")
ENVIRONMENT = {
    **os.environ,
    "TACTIC_MODELS": str(MODELS),
    "PYTHONPATH": str(Path(__file__).parent.parent),
    "PYTHONDONTWRITEBYTECODE": "1",
}
TIMEOUT = 60


def png(width: int = 40, height: int = 24) -> bytes:
    y, x = np.mgrid[:height, :width]
    channels = [x * 5 % 256, y * 7 % 256, (x ^ y) % 256]
    buffer = io.BytesIO()
    Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def tactic(
    *args: str | bytes | Path, input: bytes | None = b"", **environment: str
) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [*TACTIC, *args],
        input=input,
        capture_output=True,
        env=ENVIRONMENT | environment,
        timeout=TIMEOUT,
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eyes: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TACTIC_MODELS", str(MODELS))  # for what runs in this process
    monkeypatch.setitem(ENVIRONMENT, "EYES", str(eyes))  # a model for segment
    (tmp_path / "a.png").write_bytes(png())
    return tmp_path


@pytest.fixture
def frame(folder: Path, tiny: Codec) -> bytes:
    data = tiny.compress(folder / "a.png").data
    (folder / "a.tac").write_bytes(data)
    return data


def shell(command: str) -> "subprocess.CompletedProcess[bytes]":
    command = command.replace("tactic", " ".join(TACTIC))
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, env=ENVIRONMENT, timeout=TIMEOUT
    )


def test_the_pipeline(folder: Path) -> None:
    result = shell("cat a.png | tactic compress -m tiny - - | tactic classify - --json")
    assert result.returncode == 0 and result.stderr == b""
    assert len(json.loads(result.stdout)["predictions"]) == 5


def slow(*commands: str) -> list[Any]:
    """Commands that take longer than those beside them, and show the same."""
    return [pytest.param(command, marks=pytest.mark.slow) for command in commands]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "info s.tac",
        *slow("compress -m tiny a.png -", "decompress s.tac -", "segment -m $EYES s.tac -"),
    ],
)
def test_a_reader_that_goes_away_ends_it_quietly(folder: Path, frame: bytes, command: str) -> None:
    # More than a pipe holds, so that the writer is still at it when the reader goes.
    (folder / "s.tac").write_bytes(frame * 2000)
    (folder / "a.png").write_bytes(png(2000, 1500))
    result = shell(f"tactic {command} | head -c 10; exit ${{PIPESTATUS[0]}}")
    assert len(result.stdout) == 10 and result.stderr == b""
    assert result.returncode in (0, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    ["info a.tac", *slow("compress -m tiny a.png -", "segment -m $EYES a.tac -", "models list")],
)
def test_stdout_that_is_closed_or_full(folder: Path, frame: bytes, command: str) -> None:
    for redirection, message in ((">&-", b"is closed"), (">/dev/full", b"No space left on device")):
        result = shell(f"tactic {command} {redirection}")
        assert result.returncode == 1
        assert result.stderr.startswith(b"tactic: standard output") and message in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_a_picture_in_place_of_a_stream_is_named(folder: Path) -> None:
    result = shell("cat a.png | tactic classify -")
    assert result.returncode == 1
    assert b"standard input: this is a PNG picture" in result.stderr
    assert b'"tactic compress - -"' in result.stderr


@pytest.mark.slow
def test_streams_that_are_closed(folder: Path, frame: bytes) -> None:
    assert shell("tactic info - <&-").stderr == b"tactic: standard input: is closed\n"
    assert shell("tactic info missing.tac 2>&-").returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "args",
    [
        ("train", "x.toml", "--data", ".", "--out", "model"),
        ("export", ".", "--out", "model"),
        ("compress", "--device", "torch-cpu", "-m", "tiny", "a.png", "b.tac"),
    ],
)
def test_what_needs_torch_says_how_to_get_it(folder: Path, args: tuple[str, ...]) -> None:
    code = "import sys; sys.modules['torch'] = None; from tactic_codec.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, env=ENVIRONMENT, timeout=TIMEOUT
    )
    assert result.returncode == 1
    assert b"pip install torch torchvision safetensors" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("package", ["torch", "onnx"])
def test_what_a_judge_lacks_is_named(folder: Path, package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from tactic_codec.cli import main; main()"
    args = ("eval", "-m", "tiny", "--data", ".", "--out", "out", "--judge", "net.onnx")
    result = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, env=ENVIRONMENT, timeout=TIMEOUT
    )
    assert result.returncode == 1
    said = f"tactic: --judge needs {package}; run: pip install torch onnx\n"
    assert result.stderr.decode() == said


# --- Terminals ------------------------------------------------------------------------------------


def on_terminal(*args: str, streams: str, code: str | None = None) -> tuple[int, bytes]:
    """Run with some of "in", "out" and "err" on a terminal; return status and what it shows."""
    command = TACTIC if code is None else (sys.executable, "-c", code)
    master, terminal = pty.openpty()
    process = subprocess.Popen(
        [*command, *args],
        stdin=terminal if "in" in streams else subprocess.DEVNULL,
        stdout=terminal if "out" in streams else subprocess.DEVNULL,
        stderr=terminal if "err" in streams else subprocess.DEVNULL,
        env=ENVIRONMENT | {"TERM": "xterm"},
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:  # Linux's way to say that the other side has closed
            break
        if not data:
            break
        shown += data
    os.close(master)
    return process.wait(TIMEOUT), shown


@pytest.mark.slow
def test_binary_data_is_not_written_to_a_terminal(folder: Path, frame: bytes) -> None:
    for args in (
        ("compress", "-m", "tiny", "a.png", "-"),
        ("decompress", "a.tac", "-"),
        ("segment", "-m", ENVIRONMENT["EYES"], "a.tac", "-"),
    ):
        status, shown = on_terminal(*args, streams="out err")
        assert status == 2
        assert b"not written to a terminal" in shown and b"\x89" not in shown


def test_a_terminal_is_not_read(folder: Path) -> None:
    status, shown = on_terminal("info", "-", streams="in err")
    assert status == 2 and b"standard input is a terminal" in shown


@pytest.mark.slow
def test_a_bar_appears_after_a_second(folder: Path) -> None:
    names = [f"{i}.png" for i in range(5)]
    for name in names:
        (folder / name).write_bytes(png())
    at_once = "from tactic_codec.cli import console, main; console.BAR_DELAY = 0; main()"
    args = ("compress", "-f", "-m", "tiny", *names)
    status, shown = on_terminal(*args, "missing.png", "out", streams="err", code=at_once)
    assert status == 1 and b"100%" in shown
    # The bar makes way for messages, and is gone at the end.
    assert b"\r\x1b[Ktactic: missing.png: No such file" in shown and shown.endswith(b"\x1b[K")
    status, shown = on_terminal(*args, "-v", "out", streams="err", code=at_once)
    assert status == 0 and b"%\r\x1b[K4.png -> out/4.tac" in shown and shown.endswith(b"\x1b[K")
    status, shown = on_terminal(*args, "--quiet", "out", streams="err", code=at_once)
    assert (status, shown) == (0, b"")
    assert on_terminal(*args, "out", streams="err") == (0, b"")
    for command in (("test", "out"), ("info", "out"), ("bpp-report", "out")):
        more = () if command[0] == "bpp-report" else ("-r",)
        status, shown = on_terminal(*command, *more, streams="err", code=at_once)
        assert status == 0 and b"100%" in shown, command


@pytest.mark.slow
def test_a_report_in_csv_escapes_what_a_terminal_would_obey(folder: Path, frame: bytes) -> None:
    name = "b\x1b[31mred.tac"
    (folder / name).write_bytes(frame)
    status, shown = on_terminal("bpp-report", "--format", "csv", name, streams="out")
    assert status == 0 and b"b\\x1b[31mred.tac," in shown and b"\x1b" not in shown
    # For a program the name is what it is.
    piped = tactic("bpp-report", "--format", "csv", name).stdout
    assert name.encode() in piped


@pytest.mark.slow
@pytest.mark.parametrize(
    ("endless", "message"),
    [
        ("/dev/zero", "67108864 bytes hold no picture"),
        pytest.param("yes", "this is text", marks=pytest.mark.slow),
    ],
)
def test_input_that_never_ends_is_refused(folder: Path, endless: str, message: str) -> None:
    source = f"cat {endless}" if endless.startswith("/") else endless
    command = f"{source} | {sys.executable} -m tactic_codec compress -m tiny - x.tac"
    result = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=TIMEOUT, env=ENVIRONMENT
    )
    assert result.returncode == 1
    assert f"standard input: {message}" in result.stderr
    assert not (folder / "x.tac").exists()


@pytest.mark.slow
def test_what_pillow_and_libtiff_say_stands_not_beside_our_errors(folder: Path) -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(buffer, "TIFF", compression="tiff_adobe_deflate")
    data = buffer.getvalue()
    samples = data.index(b"\x15\x01\x03\0") + 8
    (folder / "a.tif").write_bytes(data[:samples] + b"\xff" + data[samples + 1 :])
    (folder / "b.tif").write_bytes(data[:190] + bytes(40) + data[230:])
    result = tactic("compress", "-m", "tiny", "a.tif", "b.tif", "-o", "out/")
    assert result.returncode == 1
    assert re.fullmatch(rb"(tactic: [ab]\.tif: [^\n]*\n){2}", result.stderr)


# --- Signals --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("command", ["decompress", *slow("segment")])
@pytest.mark.parametrize(
    ("number", "status", "message"),
    [
        (signal.SIGINT, 130, b"tactic: interrupted\n"),
        (signal.SIGTERM, 143, b""),
        (signal.SIGHUP, 129, b""),
    ],
)
def test_signals_end_it_without_remains(
    folder: Path,
    frame: bytes,
    number: signal.Signals,
    status: int,
    message: bytes,
    command: str,
) -> None:
    # Whoever starts the tests in the background may have them ignore SIGINT, and so would children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _end_by(number, frame, folder, status, message, command)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("module", "status", "message"),
    [("click", -signal.SIGINT, b""), ("PIL", 130, b"tactic: interrupted\n")],
)
def test_an_interrupt_while_modules_are_imported_costs_no_traceback(
    folder: Path, module: str, status: int, message: bytes
) -> None:
    code = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport time\ntime.sleep(9)\n"
    (folder / "modules").mkdir()
    (folder / "modules" / f"{module}.py").write_text(code)
    path = os.pathsep.join([str(folder / "modules"), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [*TACTIC, "compress", "a.png"],
        env=os.environ | {"PYTHONPATH": path},
        cwd=folder,
        capture_output=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (result.returncode, result.stderr) == (status, message)


def _end_by(
    number: signal.Signals,
    frame: bytes,
    folder: Path,
    status: int,
    message: bytes,
    command: str,
) -> None:
    process = subprocess.Popen(
        [*TACTIC, command, "-m", ENVIRONMENT["EYES"], "-", "out/"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert process.stdin and process.stderr
    process.stdin.write(frame)
    process.stdin.flush()
    deadline = time.monotonic() + TIMEOUT
    # The frame is decoded while the stream stays open: a camera's pictures come one by one.
    while not (folder / "out" / "stdin-0001.png").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(TIMEOUT) == status
    assert process.stderr.read() == message
    assert os.listdir(folder / "out") == ["stdin-0001.png"]
    for stream in (process.stdin, process.stdout, process.stderr):
        assert stream
        stream.close()


# --- Names ----------------------------------------------------------------------------------------

ODD_NAMES = [
    b"with space",
    b"new\nline",
    b"-dash",
    b"not-utf8-\xff\xfe",
    "ümlaut-☃".encode(),
    b"q'\"",
]


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_odd_file_names(folder: Path, locale: str) -> None:
    env = {"LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    pictures = [name + b".png" for name in ODD_NAMES]
    frames = [name + b".tac" for name in ODD_NAMES]
    for name in pictures:
        (folder / os.fsdecode(name)).write_bytes(png())
    made = tactic("compress", "-v", "-m", "tiny", "--", *pictures, ".", **env)
    assert made.returncode == 0, made.stderr
    assert len(made.stderr.splitlines()) == 1 + len(ODD_NAMES)  # the first tells of networks
    assert set(os.listdir(os.fsencode(folder))) == {b"a.png", *pictures, *frames}
    for command in ("info", "test", "classify", "bpp-report"):
        result = tactic(command, "--", *frames, **env)
        assert result.returncode == 0, result.stderr
        assert b"\nline" not in result.stdout
    for command, model in (("decompress", "tiny"), ("segment", ENVIRONMENT["EYES"])):
        result = tactic(command, "-v", "-m", model, "--", *frames, f"{command}/", **env)
        assert result.returncode == 0, result.stderr
        assert len(result.stderr.splitlines()) == 1 + len(ODD_NAMES)
        assert set(os.listdir(os.fsencode(folder / command))) == set(pictures)
    failed = tactic("info", "--", *(b"missing" + name for name in ODD_NAMES), **env)
    assert failed.returncode == 1 and len(failed.stderr.splitlines()) == len(ODD_NAMES)


@pytest.mark.slow
def test_odd_file_names_survive_json(folder: Path) -> None:
    for name in ODD_NAMES:
        (folder / os.fsdecode(name + b".png")).write_bytes(png())
    assert tactic("compress", "-r", "-m", "tiny", ".", "out", LC_ALL="C.UTF-8").returncode == 0
    lines = tactic("info", "-r", "--json", "out", LC_ALL="C.UTF-8").stdout.splitlines()
    found = {os.fsencode(json.loads(line)["file"]) for line in lines}
    assert found == {b"out/" + name + b".tac" for name in [b"a", *ODD_NAMES]}
    args = ("segment", "-r", "--json", "-m", ENVIRONMENT["EYES"], "out", "masks")
    lines = tactic(*args, LC_ALL="C.UTF-8").stdout.splitlines()
    written = {os.fsencode(json.loads(line)["output"]) for line in lines}
    assert written == {b"masks/" + name + b".png" for name in [b"a", *ODD_NAMES]}
    assert all(os.path.isfile(path) for path in written)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "source", "name"),
    [
        ("compress", "a.png", "b.tac"),
        ("decompress", "a.tac", "b.png"),
        ("segment", "a.tac", "b.png"),
    ],
)
def test_a_folder_without_permission(
    folder: Path, frame: bytes, command: str, source: str, name: str
) -> None:
    where = "locked"
    (folder / where).mkdir(mode=0o500)
    if os.geteuid() == 0:  # root may write there, but nobody may here
        where = "/proc"
    result = tactic(command, "-m", ENVIRONMENT["EYES"], source, f"{where}/{name}")
    assert result.returncode == 1
    assert result.stderr.startswith(f"tactic: {source}: ".encode())
    assert len(result.stderr.splitlines()) == 1
    assert name.encode() in result.stderr and b".tmp" not in result.stderr


HIDING = """
import os, sys, time
from tactic_codec.cli import files, main

def expand(*given, **named):
    try:
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(60)
    except BaseException:
        raise ImportError("initialization failed") from None

files.expand = expand
main(["info", "x.tac"])
"""


@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGINT, "tactic: interrupted\n"), (signal.SIGTERM, ""), (signal.SIGHUP, "")],
)
def test_a_signal_that_a_library_hides_ends_it_all_the_same(number: int, said: str) -> None:
    """NumPy turns what a signal raises while it is imported into an ImportError."""
    command = [sys.executable, "-c", HIDING, str(int(number))]
    done = subprocess.run(
        command, capture_output=True, text=True, preexec_fn=lambda: signal.signal(2, signal.SIG_DFL)
    )
    assert (done.returncode, done.stderr) == (128 + number, said)
