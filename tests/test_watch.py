"""``tactic compress --watch``, as a process: what comes, what grows, full disks, starting again."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT
from test_cli_process import ENVIRONMENT, folder, tactic
from test_streaming import picture, started, wait_for

__all__ = ["folder", "started"]

Start = Callable[[str], "subprocess.Popen[bytes]"]
WATCH = "exec tactic compress -m tiny --json --watch incoming coded"


@pytest.fixture
def incoming(folder: Path) -> Path:
    (folder / "incoming").mkdir()
    (folder / "incoming" / "first.jpg").write_bytes(picture(1))
    return folder / "incoming"


@pytest.fixture
def coded(incoming: Path) -> Path:
    return incoming.parent / "coded"


def names(coded: Path) -> list[str]:
    return sorted(path.relative_to(coded).as_posix() for path in coded.rglob("*.tac"))


def end(process: "subprocess.Popen[bytes]", number: int = signal.SIGTERM) -> list[str]:
    """End the command as a service does; return the lines of its complaints."""
    assert process.poll() is None
    process.send_signal(number)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 128 + number, stderr
    return stderr.decode().splitlines()


@pytest.mark.slow
def test_what_is_there_and_what_comes_is_coded(started: Start, incoming: Path, coded: Path) -> None:
    process = started(WATCH)
    wait_for(lambda: names(coded) == ["first.tac"])
    (incoming / "second.jpg").write_bytes(picture(2))
    wait_for(lambda: len(names(coded)) == 2)
    (incoming / "notes.txt").write_text("no picture")
    (incoming / ".hidden.jpg").write_bytes(picture(3))
    elsewhere = incoming.parent / "elsewhere" / "deep"  # comes as a whole, without an event a file
    elsewhere.mkdir(parents=True)
    (elsewhere / "third.jpg").write_bytes(picture(3))
    elsewhere.parent.rename(incoming / "day")
    wait_for(lambda: len(names(coded)) == 3)
    (incoming / "day" / "deep" / "fourth.jpg").write_bytes(picture(4))
    wait_for(lambda: len(names(coded)) == 4)
    assert names(coded) == ["day/deep/fourth.tac", "day/deep/third.tac", "first.tac", "second.tac"]
    assert tactic("test", "-r", "coded").returncode == 0
    assert end(process, signal.SIGINT) == ["tactic: interrupted"]


@pytest.mark.slow
def test_a_file_that_grows_is_taken_when_it_is_closed(
    started: Start, incoming: Path, coded: Path
) -> None:
    process = started(WATCH)
    data = picture(2, width=400, height=300)
    with open(incoming / "slow.jpg", "wb", buffering=0) as stream:
        stream.write(data[:-200])
        wait_for(lambda: names(coded) == ["first.tac"])
        # Longer than a file rests of which nobody knows whether it is open.
        time.sleep(4)
        assert names(coded) == ["first.tac"]
        stream.write(data[-200:])
    closed = time.monotonic()
    wait_for(lambda: len(names(coded)) == 2)
    assert time.monotonic() - closed < 2.5
    whole = tactic("compress", "-m", "tiny", "incoming/slow.jpg", "-").stdout
    assert (coded / "slow.tac").read_bytes() == whole
    assert end(process) == []


@pytest.mark.slow
def test_where_nobody_knows_who_writes_a_file_counts_that_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tactic_codec.cli import watching

    assert watching._rest(str(tmp_path / "gone")) == watching.SETTLED
    monkeypatch.setattr(watching, "_LEASE", None)
    monkeypatch.setattr(watching, "SETTLED", 1.0)
    path = tmp_path / "a.jpg"
    path.write_bytes(b"half")
    watch = watching.Watch.__new__(watching.Watch)
    watch._waiting, watch._taken = {str(path): (None, 0)}, {}
    assert not watch._is_ready(str(path))
    time.sleep(0.6)
    path.write_bytes(b"whole")
    assert not watch._is_ready(str(path))  # it has changed, and rests anew
    time.sleep(0.6)
    assert not watch._is_ready(str(path))
    time.sleep(0.6)
    assert watch._is_ready(str(path)) and not watch._waiting


def test_a_pipe_that_takes_the_name_of_a_file_is_not_read(incoming: Path) -> None:
    from tactic_codec.cli import watching

    path = incoming / "x.jpg"
    os.mkfifo(path)
    watch = watching.Watch.__new__(watching.Watch)
    watch._waiting, watch._taken = {str(path): (None, 0)}, {}
    assert not watch._is_ready(str(path)) and not watch._waiting


@pytest.mark.slow
def test_pipes_and_names_that_are_no_text_hold_nothing_up(
    started: Start, incoming: Path, coded: Path
) -> None:
    os.mkfifo(incoming / "before.jpg")
    process = started(WATCH)
    wait_for(lambda: names(coded) == ["first.tac"])
    os.mkfifo(incoming / "pipe.jpg")
    (incoming / os.fsdecode(b"\xff.jpg")).write_bytes(picture(2))  # events do not tell of it
    wait_for(lambda: len(names(coded)) == 2)
    (incoming / "day.jpg").mkdir()
    (incoming / "day.jpg" / "last.jpg").write_bytes(picture(3))
    wait_for(lambda: len(names(coded)) == 3)
    assert names(coded) == ["day.jpg/last.tac", "first.tac", "\udcff.tac"]
    assert end(process) == []


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True])
def test_a_folder_that_goes_ends_it(
    started: Start, incoming: Path, coded: Path, again: bool
) -> None:
    process = started(WATCH)
    wait_for(lambda: names(coded) == ["first.tac"])
    incoming.rename(incoming.with_name("gone"))
    if again:
        incoming.mkdir()
    shutil.rmtree(incoming.with_name("gone"))
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    assert stderr.decode().startswith("tactic: ") and b": incoming\n" in stderr


@pytest.mark.slow
def test_two_that_watch_one_folder_share_it(started: Start, incoming: Path, coded: Path) -> None:
    both = [started(WATCH), started(WATCH)]
    for number in range(2, 30):
        (incoming / f"{number}.jpg").write_bytes(picture(number))
    wait_for(lambda: len(names(coded)) == 29)
    assert [end(process) for process in both] == [[], []]


@pytest.mark.slow
def test_a_bad_file_is_reported_once_and_taken_again_when_it_changes(
    started: Start, incoming: Path, coded: Path
) -> None:
    (incoming / "bad.jpg").write_bytes(picture(2)[:-300])
    process = started(WATCH)
    wait_for(lambda: names(coded) == ["first.tac"])
    (incoming / "first.jpg").write_bytes(picture(5))
    (incoming / "last.jpg").write_bytes(picture(3))
    wait_for(lambda: len(names(coded)) == 2)
    (incoming / "bad.jpg").write_bytes(picture(2))
    wait_for(lambda: len(names(coded)) == 3)
    complaints = end(process)
    assert sorted(line.split(": ")[1] for line in complaints) == [
        "incoming/bad.jpg",
        "incoming/first.jpg",
    ]
    assert any("coded/first.tac exists and is older than its input" in line for line in complaints)


@pytest.mark.slow
def test_it_goes_on_where_it_stopped_even_when_it_was_killed(
    started: Start, incoming: Path, coded: Path
) -> None:
    process = started(WATCH)
    wait_for(lambda: names(coded) == ["first.tac"])
    process.kill()
    process.wait()
    before = (coded / "first.tac").stat()
    (coded / ".tactic-0123456789abcdef.tmp").write_bytes(b"half a frame")
    for number in range(2, 30):
        (incoming / f"{number}.jpg").write_bytes(picture(number))
    process = started(WATCH + " -j 2")
    wait_for(lambda: len(names(coded)) == 29)
    assert (coded / "first.tac").stat() == before
    assert not any(name.startswith(".tactic") for name in os.listdir(coded))
    process.send_signal(signal.SIGTERM)
    stdout, _ = process.communicate(timeout=20)
    done = [json.loads(line)["file"] for line in stdout.splitlines()]
    assert len(done) == len(set(done)) == 28 and "incoming/first.jpg" not in done


HAS_NAMESPACES = not subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode


@pytest.mark.slow
@pytest.mark.parametrize(
    "full",
    [
        "by a limit",
        pytest.param(
            "a disk",
            marks=pytest.mark.skipif(not HAS_NAMESPACES, reason="no disk can be mounted here"),
        ),
    ],
)
def test_a_full_disk_is_waited_for_and_nothing_is_lost(
    started: Start, incoming: Path, coded: Path, full: str
) -> None:
    coded.mkdir()
    if full == "a disk":
        fill = "head -c 1m /dev/zero > coded/filler 2>/dev/null"
        disk_of_64k = "mount -t tmpfs -o size=64k none coded"
        process = started(f"exec unshare -rm sh -c '{disk_of_64k}; {fill}; {WATCH}'")
        disk = Path(f"/proc/{process.pid}/root{coded}")
    else:
        process, disk = started(f"ulimit -S -f 0; {WATCH}"), coded
    for number in (2, 3, 4):
        (incoming / f"{number}.jpg").write_bytes(picture(number))
    assert process.stderr
    said = process.stderr.readline().decode()
    assert said.startswith("tactic: ") and "the pictures stay where they are" in said
    assert not list(disk.glob("*.tac"))
    if full == "a disk":
        (disk / "filler").unlink()
    else:
        unlimited = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
    wait_for(lambda: len(list(disk.glob("*.tac"))) == 4)
    written = {path.name: path.read_bytes() for path in disk.glob("*.tac")}
    assert end(process) == []  # it was said once
    assert tactic("compress", "-m", "tiny", "-r", "incoming", "plain").returncode == 0
    assert written == {path.name: path.read_bytes() for path in Path("plain").iterdir()}


@pytest.mark.slow
def test_a_signal_ends_it_while_the_disk_is_full(started: Start, incoming: Path) -> None:
    process = started(f"ulimit -S -f 0; {WATCH}")
    assert process.stderr and process.stderr.readline()
    start = time.monotonic()
    (complaint,) = end(process)
    assert complaint.startswith("tactic: incoming/first.jpg: ") and time.monotonic() - start < 2


def test_what_has_gone_is_forgotten(
    incoming: Path, coded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tactic_codec.cli.console import Console
    from tactic_codec.cli.files import Destination
    from tactic_codec.cli.watching import Watch

    before = signal.getsignal(signal.SIGIO)
    destination = Destination("folder", str(coded), False, skip=True)
    watch = Watch(Console(quiet=False, verbose=False, debug=False), str(incoming), destination)
    try:
        found = watch.sources()
        (incoming / "b.jpg").write_bytes(b"b")
        for source in (next(found), next(found)):
            destination.place(source, source.stem((".jpg",)) + ".tac")
        assert len(watch._taken) == len(destination._claimed) == 2
        (incoming / "b.jpg").unlink()
        assert list(watch._listed()) == []
        assert len(watch._taken) == 1 and not destination._claimed
    finally:
        watch._signal = signal.SIGTERM
        signal.signal(signal.SIGIO, before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.png", "coded"), "--watch takes one folder"),
        (("gone", "coded"), "--watch takes one folder"),
        (("incoming", "incoming", "coded"), "--watch takes one folder"),
        (("-", "coded"), "--watch takes one folder"),
        (("incoming", "-"), "--watch writes to a folder"),
        (("incoming",), "there is no output"),
        (("--drop", "incoming", "coded"), "--watch does not go with"),
        (("--stream", "incoming", "coded"), "--watch does not go with"),
    ],
)
def test_command_lines_that_are_refused(
    incoming: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = tactic("compress", "-m", "tiny", "--watch", *arguments)
    assert result.returncode == 2 and message in result.stderr.decode()


@pytest.mark.slow
def test_what_it_needs_is_named(incoming: Path, coded: Path) -> None:
    code = "import sys; sys.modules['watchfiles'] = None; from tactic_codec.cli import main; main()"
    arguments = ["compress", "-m", "tiny", "--watch", "incoming", "coded"]
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, env=ENVIRONMENT
    )
    assert result.returncode == 1 and b"run: pip install watchfiles" in result.stderr
    shutil.rmtree(coded, ignore_errors=True)


# --- What docs/cameras.md says of services --------------------------------------------------------

PAGE = (ROOT / "docs" / "cameras.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.mark.slow
def test_the_unit_starts_it_and_takes_its_end_for_a_good_one(
    started: Start, incoming: Path, coded: Path
) -> None:
    unit = dict(re.findall(r"^(\w+)=(.*)$", block("ini"), flags=re.MULTILINE))
    assert Path(unit["ReadWritePaths"]).name == coded.name
    command = unit["ExecStart"].replace("/srv/camera", str(incoming.parent))
    command = command.replace("/opt/tactic/bin/tactic", "exec tactic")
    coded.mkdir()
    process = started(command.replace(" compress ", " compress -m tiny "))
    wait_for(lambda: names(coded) == ["first.tac"])
    assert end(process) == []
    assert str(process.returncode) == unit["SuccessExitStatus"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
def test_systemd_understands_the_unit(folder: Path) -> None:
    unit = folder / "tactic-watch.service"
    unit.write_text(block("ini").replace("/opt/tactic/bin/tactic", "/bin/true"))
    result = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert result.returncode == 0 and unit.name not in result.stderr, result.stderr


@pytest.mark.lane
def test_the_container_s_steps_run_in_a_clean_folder(
    folder: Path,
) -> None:
    """Its base is an empty environment of Python here, its root a folder."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder / "dist"]
    subprocess.run(build, check=True, capture_output=True, cwd=ROOT)
    place = folder / "place"
    place.mkdir()
    environment = {name: os.environ[name] for name in os.environ if name.startswith("PIP_")}
    environment |= {"PATH": f"{folder}/base/bin:/usr/bin:/bin", "HOME": str(folder / "home")}
    environment["PIP_CONSTRAINT"] = str(ROOT / "constraints.txt")
    for step, arguments in re.findall(r"^(\w+) (.*)$", block("dockerfile"), flags=re.MULTILINE):
        if step == "FROM":
            subprocess.run([sys.executable, "-m", "venv", folder / "base"], check=True)
        elif step in ("COPY", "RUN"):
            copy = f"cd '{place}' && cp '{folder}'/{arguments}"
            command = copy if step == "COPY" else arguments
            result = subprocess.run(
                ["sh", "-c", command], cwd=place, env=environment, capture_output=True, text=True
            )
            assert result.returncode == 0, result.stderr
        elif step == "ENTRYPOINT":
            entry = json.loads(arguments)
    assert os.listdir(place) == []
    incoming, coded = place / "incoming", place / "coded"
    incoming.mkdir()
    shutil.copy(ROOT / "examples" / "cat.jpg", incoming)
    process = subprocess.Popen(entry, cwd=place, env=environment, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: names(coded) == ["cat.tac"])
        assert end(process) == []
    finally:
        process.kill()
