"""``tactic compress`` of streams, as processes: live, held up, interrupted, started again."""

import builtins
import contextlib
import io
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import tactic as in_process
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image
from test_cli_process import ENVIRONMENT, TACTIC, TIMEOUT, folder, on_terminal, shell, tactic

from tactic_codec.cli import coding
from tactic_codec.cli.files import Source
from tactic_codec.picture import WHOLE

__all__ = ["folder"]


def picture(number: int, kind: str = "JPEG", width: int = 40, height: int = 24) -> bytes:
    random = np.random.default_rng(number)
    coarse = random.integers(0, 256, (3, 5, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((width, height)).save(buffer, kind)
    return buffer.getvalue()


STREAM = b"".join(map(picture, (1, 2, 3)))


def frames(source: bytes | Path) -> int:
    """The number of whole frames, of a stream without any other bytes."""
    if isinstance(source, Path):
        source = source.read_bytes()
    return int(json.loads(in_process("test", "--json", "-", input=source).stdout)["frames"])


@pytest.fixture
def started() -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    processes: list[subprocess.Popen[bytes]] = []

    def start(command: str) -> "subprocess.Popen[bytes]":
        command = command.replace("tactic", " ".join(TACTIC))
        pipe = subprocess.PIPE
        # Whoever starts the tests in the background may have them ignore SIGINT.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(
            ["bash", "-c", command],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=ENVIRONMENT,
            bufsize=0,
        )
        signal.signal(signal.SIGINT, before)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream
            stream.close()


def send(process: "subprocess.Popen[bytes]", data: bytes) -> None:
    assert process.stdin
    process.stdin.write(data)


def receive(process: "subprocess.Popen[bytes]") -> bytes:
    """The next that comes out; an empty reply after too long a time fails."""
    assert process.stdout
    ready, _, _ = select.select([process.stdout], [], [], TIMEOUT)
    assert ready, "nothing came out"
    return os.read(process.stdout.fileno(), 1 << 20)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- Live -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "PPM"])
def test_each_picture_is_classified_before_the_next_one_comes(
    folder: Path, started: Callable[..., "subprocess.Popen[bytes]"], jobs: int, kind: str
) -> None:
    process = started(f"tactic compress -j {jobs} -m tiny - - | tactic classify -j {jobs} - --json")
    for number in (1, 2, 3):
        send(process, picture(number, kind))
        assert json.loads(receive(process))["frame"] == number


@pytest.mark.slow
def test_a_stream_to_standard_output(folder: Path) -> None:
    result = tactic("compress", "-m", "tiny", "-v", "-", "-", input=STREAM)
    assert result.returncode == 0 and frames(result.stdout) == 3
    assert b"standard input: picture 3 -> standard output" in result.stderr
    single = in_process("compress", "-m", "tiny", "-", "-", input=picture(2)).stdout_bytes
    assert single in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("options", [("-j", "4"), ("--max-bytes", "150"), ("--keep-label",)])
def test_options_of_pictures_are_those_of_streams(folder: Path, options: tuple[str, ...]) -> None:
    pictures = [picture(number) for number in range(12)]
    command = ("compress", "-m", "tiny", *options, "-", "-")
    result = tactic(*command, input=b"".join(pictures))
    assert result.returncode == 0, result.stderr
    each = b"".join(in_process(*command, input=data).stdout_bytes for data in pictures)
    assert result.stdout == each
    assert frames(result.stdout) == 12


@pytest.mark.slow
def test_json_has_a_line_a_frame(folder: Path) -> None:
    result = tactic("compress", "-m", "tiny", "--json", "-", "out/", input=STREAM)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["picture"], line["output"], line["dropped"]) for line in lines] == [
        (number, f"out/stdin-00000{number}.tac", 0) for number in (1, 2, 3)
    ]


@pytest.mark.slow
def test_what_is_wrong_costs_no_other_picture(folder: Path) -> None:
    data = picture(1) + b"%PDF-1.4 " + picture(2) + picture(3)[:-300]
    result = tactic("compress", "-m", "tiny", "-", "s.tac", input=data)
    assert result.returncode == 1 and frames(folder / "s.tac") == 2
    first, second = result.stderr.splitlines()
    assert first.startswith(b"tactic: standard input: picture 2: this is a PDF document")
    assert second.startswith(b"tactic: standard input: picture 4: the stream ends within this JPEG")


@pytest.mark.slow
def test_what_a_stream_repeats_is_said_a_few_times_and_counted(folder: Path) -> None:
    broken = b"RIFF\0\0\0\0WEBPVP8 " * 1234
    result = tactic("compress", "-m", "tiny", "-", "s.tac", input=picture(1) + broken + picture(2))
    assert result.returncode == 1 and frames(folder / "s.tac") == 2
    lines = result.stderr.splitlines()
    assert len(lines) < 16 and b"1234 messages in all" in lines[-1] + lines[-2]
    assert sum(b"picture 2:" in line for line in lines) == 1
    junk = b"".join(picture(number) + b"\7junk" for number in range(5))
    result = tactic("compress", "-m", "tiny", "-", "j.tac", input=junk)
    assert result.returncode == 0 and frames(folder / "j.tac") == 5
    *lines, last = result.stderr.splitlines()
    assert len(lines) == 3 and b"standard input: 5 messages in all" in last


@pytest.mark.slow
def test_bad_input_makes_no_file(folder: Path) -> None:
    result = tactic("compress", "-m", "tiny", "-", "s.tac", input=picture(3)[:-300])
    assert result.returncode == 1 and not (folder / "s.tac").exists()


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_it_quietly(folder: Path) -> None:
    (folder / "s.mjpg").write_bytes(STREAM * 50)
    result = shell("tactic compress -m tiny - - < s.mjpg | head -c 10; exit ${PIPESTATUS[0]}")
    assert len(result.stdout) == 10 and result.stderr == b"" and result.returncode in (0, 1)


@pytest.mark.slow
def test_named_files_give_their_first_picture_and_with_stream_all(folder: Path) -> None:
    (folder / "s.mjpg").write_bytes(STREAM)
    first = in_process("compress", "-m", "tiny", "s.mjpg", "s.tac")
    assert frames(folder / "s.tac") == 1
    assert "several pictures" in first.stderr and "--stream" in first.stderr
    every = in_process("compress", "-f", "-m", "tiny", "--stream", "s.mjpg", "s.tac")
    assert every.stderr == "" and frames(folder / "s.tac") == 3
    in_process("compress", "-m", "tiny", "--stream", "s.mjpg", "a.png", "out/")
    names = ["a-000001.tac", *(f"s.mjpg-00000{number}.tac" for number in (1, 2, 3))]
    assert sorted(os.listdir(folder / "out")) == names


@pytest.mark.parametrize("more", [b"", b"\xff\xd8\xff in its notes"])
def test_a_jpeg_is_read_from_the_disk_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: bytes
) -> None:
    pixels, file = np.zeros((8, 8, 3), np.uint8), tmp_path / "a.jpg"
    Image.fromarray(pixels).save(file, "JPEG", comment=more)
    opened, usual = [], io.open

    def noted(path: Any, *args: Any, **named: Any) -> Any:
        opened.append(Path(path))
        return usual(path, *args, **named)

    for module in (builtins, io):
        monkeypatch.setattr(module, "open", noted)
    found = coding.Picture(Source(str(file), "a.jpg")).read(64, (0, 0, 0), WHOLE)
    assert opened.count(file) == 1 and np.array_equal(found.pixels, pixels)


@pytest.mark.slow
def test_a_named_pipe_is_a_stream_where_that_is_asked_for(folder: Path) -> None:
    os.mkfifo(folder / "camera")
    (folder / "s.mjpg").write_bytes(STREAM)
    assert (
        shell("cat s.mjpg > camera & tactic compress -m tiny --stream camera s.tac").stderr == b""
    )
    assert frames(folder / "s.tac") == 3


# --- Faster than the coder ------------------------------------------------------------------------


@pytest.mark.slow
def test_drop_codes_the_newest_and_counts_the_others(folder: Path) -> None:
    pictures = b"".join(map(picture, range(40)))
    result = tactic("compress", "-m", "tiny", "--drop", "--json", "-", "s.tac", input=pictures)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    dropped = sum(line["dropped"] for line in lines)
    assert result.returncode == 0 and dropped and len(lines) + dropped == 40
    assert lines[-1]["picture"] == 40 and frames(folder / "s.tac") == len(lines)
    (said,) = result.stderr.splitlines()
    assert said.startswith(f"tactic: {dropped} pictures were left out".encode())
    assert tactic("compress", "-m", "tiny", "--drop", "a.png", "a.tac").returncode == 2


@pytest.mark.slow
def test_what_is_dropped_is_told_on_the_way_and_when_a_signal_ends_it(
    folder: Path, started: Callable[..., "subprocess.Popen[bytes]"]
) -> None:
    (folder / "s.mjpg").write_bytes(b"".join(map(picture, range(40))))
    args = ("compress", "-m", "tiny", "--drop", "--stream", "s.mjpg", "s.tac")
    status, shown = on_terminal(*args, streams="err")
    assert status == 0
    said = re.findall(rb"\r\x1b\[K(?:tactic: )?\d+ pictures (?:were )?left out", shown)
    assert len(said) >= 2, shown
    for number, end in ((signal.SIGINT, b"tactic: interrupted\n"), (signal.SIGTERM, b"")):
        process = started("exec tactic compress -m tiny --drop - out/")
        send(process, (folder / "s.mjpg").read_bytes())
        wait_for(lambda: (folder / "out").exists() and os.listdir(folder / "out"))
        process.send_signal(number)
        process.wait(TIMEOUT)
        assert process.stderr
        said = process.stderr.read()
        assert re.fullmatch(rb"tactic: \d+ pictures were left out: [^\n]*\n" + end, said)
        shutil.rmtree(folder / "out")


@pytest.mark.slow
def test_by_default_the_camera_is_held_up(folder: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, bytes(4096)):
            pass
    os.set_blocking(writer, True)  # nobody reads: the first frame has to wait
    command = [*TACTIC, "compress", "-m", "tiny", "-", "-"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=writer, env=ENVIRONMENT)
    try:
        assert process.stdin
        into, large = process.stdin.fileno(), picture(1, "PPM", 400, 300)
        os.set_blocking(into, False)
        stream, taken, since = large * 40, 0, time.monotonic()
        while time.monotonic() < since + 2 and taken < len(stream):
            try:
                taken += os.write(into, stream[taken : taken + 65536])
                since = time.monotonic()
            except BlockingIOError:
                # The command may take a while to start, and the machine may be busy.
                since = since if taken > len(large) else time.monotonic()
                time.sleep(0.02)
        assert len(large) < taken < 6 * len(large)
    finally:
        process.kill()
        process.communicate()
        os.close(reader)
        os.close(writer)


# --- Ended from outside ---------------------------------------------------------------------------


LATE = """
import signal, sys, threading
from tactic_codec.cli import main

wait = threading.Condition.wait

def late(self, timeout=None):
    caller = sys._getframe(1).f_code.co_name
    if caller == "wait_for" and threading.current_thread() is threading.main_thread():
        threading.Condition.wait = wait
        signal.raise_signal(signal.SIGTERM)
    return wait(self, timeout)

threading.Condition.wait = late
main(["compress", "-m", sys.argv[1], "-", "s.tac"])
"""


def test_a_signal_between_a_look_and_the_wait_behind_it_ends_the_stream(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LATE, str(Path(__file__).parent / "models" / "tiny")]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE) as process:
        try:
            assert process.wait(20) in (-signal.SIGTERM, 143)
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)],
)
def test_frames_that_are_complete_survive_signals(
    folder: Path,
    started: Callable[..., "subprocess.Popen[bytes]"],
    number: signal.Signals,
    status: int,
    jobs: int,
) -> None:
    process = started(f"exec tactic compress -j {jobs} -m tiny - s.tac")
    send(process, STREAM)
    wait_for(lambda: (folder / "s.tac").exists() and frames(folder / "s.tac") == 3)
    send(process, picture(4)[:200])
    process.send_signal(number)
    assert process.wait(TIMEOUT) == status
    assert process.stderr and process.stderr.read() == (
        b"tactic: interrupted\n" if number == signal.SIGINT else b""
    )
    assert frames(folder / "s.tac") == 3
    assert sorted(os.listdir(folder)) == ["a.png", "s.tac"]


@pytest.mark.slow
def test_a_signal_ends_what_waits_for_a_camera(
    folder: Path, started: Callable[..., "subprocess.Popen[bytes]"]
) -> None:
    process = started("exec tactic compress -m tiny -v - out/")
    send(process, picture(1))
    wait_for(lambda: (folder / "out" / "stdin-000001.tac").exists())
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT) == 143
    assert os.listdir(folder / "out") == ["stdin-000001.tac"]


def test_nohup_keeps_a_stream_alive(
    folder: Path, started: Callable[..., "subprocess.Popen[bytes]"]
) -> None:
    process = started("trap '' HUP; exec tactic compress -m tiny - out/")
    send(process, picture(1))
    wait_for((folder / "out" / "stdin-000001.tac").exists)
    process.send_signal(signal.SIGHUP)
    send(process, picture(2))
    wait_for((folder / "out" / "stdin-000002.tac").exists)


@pytest.mark.slow
def test_a_disk_that_is_full_leaves_whole_frames(folder: Path) -> None:
    script = "ulimit -f 1; trap '' XFSZ; cat s.mjpg | tactic compress -m tiny - s.tac"
    (folder / "s.mjpg").write_bytes(b"".join(map(picture, range(40))))
    result = shell(script)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert b"s.tac" in result.stderr
    assert 0 < frames(folder / "s.tac") < 40


# --- Started again --------------------------------------------------------------------------------


@pytest.mark.slow
def test_numbers_in_a_folder_go_on(folder: Path) -> None:
    for options in ((), ("-f",), ("-j", "3")):
        in_process("compress", *options, "-m", "tiny", "-", "out/", input=STREAM)
    names = [f"stdin-{number:06}.tac" for number in range(1, 10)]
    assert sorted(os.listdir(folder / "out")) == names
    contents = [(folder / "out" / name).read_bytes() for name in names]
    assert contents[:3] == contents[3:6] == contents[6:]
    (folder / "out" / "stdin-999999.tac").write_bytes(b"somebody's")
    in_process("compress", "-m", "tiny", "-", "out/", input=STREAM)
    assert (folder / "out" / "stdin-1000002.tac").exists()
    assert (folder / "out" / "stdin-999999.tac").read_bytes() == b"somebody's"


@pytest.mark.slow
def test_two_cameras_share_a_folder(folder: Path) -> None:
    (folder / "s.mjpg").write_bytes(STREAM * 5)
    one = "tactic compress -m tiny - out/ < s.mjpg"
    result = shell(f"{one} & {one}; a=$?; wait $!; exit $((a + $?))")
    assert result.returncode == 0, result.stderr
    assert len(os.listdir(folder / "out")) == 30


@pytest.mark.slow
def test_a_file_that_is_there_is_kept(folder: Path) -> None:
    before = in_process("compress", "-m", "tiny", "-", "-", input=STREAM).stdout_bytes
    (folder / "s.tac").write_bytes(before)
    refused = in_process("compress", "-m", "tiny", "-", "s.tac", input=STREAM, code=1)
    assert (folder / "s.tac").read_bytes() == before
    assert "exists" in refused.stderr
    in_process("compress", "-f", "-m", "tiny", "-", "s.tac", input=picture(1))
    assert frames(folder / "s.tac") == 1
    assert shell("cat a.png a.png | tactic compress -m tiny - - >> s.tac").returncode == 0
    assert frames(folder / "s.tac") == 3


# --- The real thing -------------------------------------------------------------------------------

FILM = "-v error -f lavfi -i testsrc=size=96x64:rate=5 -frames:v 3"


@pytest.mark.slow
@pytest.mark.parametrize(
    "output",
    [
        *(f"-c:v {codec} -f image2pipe -" for codec in ("mjpeg", "png", "ppm", "bmp", "libwebp")),
        "-f mpjpeg -",
        "-pix_fmt yuv420p -f yuv4mpegpipe -",
        "-pix_fmt yuv422p10 -strict -1 -f yuv4mpegpipe -",
    ],
)
def test_ffmpeg(folder: Path, output: str) -> None:
    result = shell(f"{get_ffmpeg_exe()} {FILM} {output} | tactic compress -m tiny - -")
    assert result.returncode == 0 and result.stderr == b""
    assert frames(result.stdout) == 3
