"""Models are found once and kept; what is wanting is named; a frame comes in any usual form."""

import io
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, TINY, TINY_FINGERPRINT, Spoilt

import tactic_codec
from tactic_codec import container, model, runtime
from tactic_codec.codec import Codec, load_model, load_model_of
from tactic_codec.errors import FormatError, OutOfMemory, OutOfThreads, TacError
from tactic_codec.runtime import processors

# --- Kept -----------------------------------------------------------------------------------------


def reading(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list that gets the path of each manifest that is read from now on."""
    read: list[Path] = []
    real = Path.open

    def opening(path: Path, *args: Any, **named: Any) -> Any:
        if path.name == model.MANIFEST:
            read.append(path)
        return real(path, *args, **named)

    monkeypatch.setattr(Path, "open", opening)
    return read


def test_a_manifest_is_read_once_whoever_asks(
    spoilt: Spoilt, nothing_installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TACTIC_MODELS", str(spoilt.path.parent))
    read = reading(monkeypatch)
    asks: list[Callable[[], Codec]] = [
        lambda: load_model("spoilt", threads=1),
        lambda: load_model(spoilt.path, threads=1),
        lambda: load_model_of(TINY_FINGERPRINT, threads=1),
    ]
    with ThreadPoolExecutor(8) as pool:
        codecs = set(pool.map(lambda n: asks[n % 3](), range(48)))
    assert len(codecs) == 1
    assert list(model.installed()) == [codecs.pop().model]
    assert read == [spoilt.path / "model.json"]


def test_another_device_or_number_of_threads_is_another_codec_of_one_model() -> None:
    one = load_model(TINY, device="cpu", threads=1)
    for other in (load_model(TINY, device="auto", threads=1), load_model(TINY, device="cpu")):
        assert other is not one and other.model is one.model
    assert load_model(TINY, device="cpu", threads=1) is one


def test_a_manifest_that_changed_is_read_again(spoilt: Spoilt) -> None:
    before = load_model(spoilt.path, threads=1)
    spoilt.set("encoder", "default_level", to=1)
    after = load_model(spoilt.path, threads=1)
    assert (before.model.default_level, after.model.default_level) == (2, 1)


# --- Threads --------------------------------------------------------------------------------------


def cgroups(folder: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str]) -> None:
    """A machine of 64 processors on which this process is in these cgroups."""
    for name, text in files.items():
        (folder / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "fs" / name).write_text(text)
    (folder / "own").write_text(own)
    monkeypatch.setattr(runtime, "_CGROUPS", folder / "fs")
    monkeypatch.setattr(runtime, "_OWN_CGROUPS", folder / "own")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(48)))


V1 = "4:cpu,cpuacct:/docker/ab\n3:cpuset:/docker/ab\n"
QUOTA, PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {}, 48),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 48),
        ("0::/\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "9900000 100000\n"}, 48),
        ("0::/\n", {"cpu.max": "nonsense\n"}, 48),
        ("0::/\n", {"cpu.max": "0 0\n"}, 48),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
        ("0::/host/path\n", {"cpu.max": "200000 100000\n"}, 2),
        (V1, {f"cpu,cpuacct/{QUOTA}": "-1\n", f"cpu,cpuacct/{PERIOD}": "100000\n"}, 48),
        (V1, {f"cpu,cpuacct/{QUOTA}": "250000\n", f"cpu,cpuacct/{PERIOD}": "100000\n"}, 2),
        (
            V1,
            {
                f"cpu,cpuacct/docker/ab/{QUOTA}": "500000\n",
                f"cpu,cpuacct/docker/ab/{PERIOD}": "100000\n",
            },
            5,
        ),
        ("", {}, 48),
        ("gibberish", {}, 48),
    ],
)
def test_the_quota_of_a_cgroup_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str], expected: int
) -> None:
    cgroups(tmp_path, monkeypatch, own, files)
    assert processors() == expected
    assert processors(3) == 3
    assert processors(1000) == 64


def test_the_affinity_is_kept() -> None:
    """Of a real process, down to the session and the threads it starts."""
    code = f"""
import os
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
from tactic_codec import load_model
import numpy as np
codec = load_model({str(TINY)!r})
before = len(os.listdir("/proc/self/task"))
codec.compress(np.zeros((512, 512, 3), np.uint8))
print(codec.runtime.threads, len(os.listdir("/proc/self/task")) - before)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.split() == ["1", "0"], run


@pytest.mark.parametrize("threads", [0, -1])
def test_fewer_than_one_thread_is_refused(threads: int) -> None:
    with pytest.raises(ValueError, match=f"threads must be at least 1, not {threads}"):
        load_model(TINY, threads=threads)


@pytest.mark.parametrize("device", ["gpu", ["cpu"], None, 0])
def test_an_unknown_device_is_named_with_those_known(device: Any) -> None:
    asks: list[Callable[[], object]] = [
        lambda: load_model(TINY, device=device),
        lambda: tactic_codec.decompress(load_model(TINY).compress(BLACK).data, device=device),
    ]
    os.environ["TACTIC_MODELS"], before = str(TINY.parent), os.environ.get("TACTIC_MODELS", "")
    try:
        for ask in asks:
            with pytest.raises(
                ValueError, match="expected one of auto, fast, cpu, cuda, torch-cpu"
            ):
                ask()
    finally:
        os.environ["TACTIC_MODELS"] = before


@pytest.mark.parametrize(
    "command",
    ["compress", "decompress", "classify", "segment", "bpp-report", "eval", "bench", "train"],
)
def test_every_command_that_runs_networks_takes_threads(command: str) -> None:
    from click.testing import CliRunner

    from tactic_codec.cli import main

    assert "--threads N" in CliRunner().invoke(main, [command, "--help"]).output


def test_threads_are_kept_with_jobs() -> None:
    from tactic_codec.cli import options

    seen: list[options.Running] = []

    @options.running
    def command(running: options.Running) -> None:
        seen.append(running)

    for jobs, threads in ((1, None), (1, 2), (3, None), (3, 2), (0, 2)):
        command(device="cpu", jobs=jobs, threads=threads, max_pixels=None)
    wanted = [(1, None), (1, 2), (3, 1), (3, 2), (processors(), 2)]
    assert [(running.jobs, running.threads) for running in seen] == wanted


# --- What is wanting ------------------------------------------------------------------------------

WANTING = """
import os, resource, sys
import numpy as np
from tactic_codec import load_model
import tactic_codec.runtime.onnx
_, folder, threads, side, more = sys.argv
codec = load_model(folder, threads=int(threads))
if side != "opening":
    codec.compress(np.zeros((64, 64, 3), np.uint8))
side = 64 if side == "opening" else int(side)
array = np.zeros((1, side, side, 3), np.float32).transpose(0, 3, 1, 2)  # as pictures lie in memory
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(more),) * 2)
try:
    codec.runtime.run("analysis", array)
except Exception as exc:
    print(type(exc).__name__, exc)
"""


def wanting(threads: int, side: str, more: int, stack: int | None = None) -> str:
    def limit() -> None:
        if stack is not None:  # what each further thread asks of the memory
            _, hard = resource.getrlimit(resource.RLIMIT_STACK)
            resource.setrlimit(resource.RLIMIT_STACK, (stack, hard))

    run = subprocess.run(
        [sys.executable, "-c", WANTING, str(TINY), str(threads), side, str(more)],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 0 and run.stderr == "", run
    return run.stdout


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor needs no further thread")
def test_want_of_threads_is_not_blamed_on_the_model() -> None:
    found = wanting(threads=2, side="opening", more=500_000_000, stack=1 << 30)
    assert found.startswith("OutOfThreads the system gives no further thread")
    assert "--threads 1" in found and "ulimit -u" in found


@pytest.mark.slow
@pytest.mark.parametrize("more", [100_000, 400_000])
def test_want_of_memory_for_opening_is_not_blamed_on_the_model(more: int) -> None:
    found = wanting(threads=1, side="opening", more=more)
    assert found.startswith(("OutOfMemory memory does not suffice", "MemoryError"))


@pytest.mark.slow
@pytest.mark.parametrize("more", [1_000_000, 30_000_000, 100_000_000])
def test_want_of_memory_for_running_is_not_blamed_on_the_model(more: int) -> None:
    found = wanting(threads=1, side="3000", more=more)
    assert found.startswith("OutOfMemory memory does not suffice")
    assert "scale the picture down" in found and "install" not in found


@pytest.mark.slow
def test_want_of_memory_for_loading_a_library_is_no_bug_of_ours(tmp_path: Path) -> None:
    """Whatever the limit, the command works or says that memory is short, in one line."""
    code = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]) << 20,) * 2)
from tactic_codec.cli import main
main(sys.argv[2:])
"""
    said = []
    for megabytes in (60, 80, 120, 150, 180):
        arguments = ("compress", "-m", str(TINY), str(ROOT / "examples" / "cat.jpg"), "-f", "a.tac")
        run = subprocess.run(
            [sys.executable, "-c", code, str(megabytes), *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        said.append(run.stderr)
        assert "bug in tactic-codec" not in run.stderr and "install" not in run.stderr, run
        assert len(run.stderr.splitlines()) <= 1, run
    assert any("memory" in line for line in said)


def test_a_shortage_is_a_named_error() -> None:
    assert issubclass(OutOfMemory, TacError) and issubclass(OutOfMemory, MemoryError)
    assert issubclass(OutOfThreads, TacError)


# --- Forms of a frame -----------------------------------------------------------------------------

BLACK = np.zeros((30, 40, 3), np.uint8)


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("coded") / "a.tac"
    path.write_bytes(load_model(TINY).compress(BLACK).data)
    return path


def test_a_frame_in_any_usual_form(coded: Path, tiny_installed: None) -> None:
    data = coded.read_bytes()
    expected = tactic_codec.decompress(data).tobytes()
    label = tactic_codec.classify(data)[0]
    with coded.open("rb") as stream, coded.open("rb", buffering=0) as raw:
        for form in (
            bytearray(data),
            memoryview(data),
            memoryview(np.frombuffer(data, np.uint8)),
            coded,
            str(coded),
            io.BytesIO(data),
            stream,
            raw,
            container.parse(data),
        ):
            assert tactic_codec.decompress(form).tobytes() == expected
            if isinstance(form, io.IOBase):
                form.seek(0)
            assert tactic_codec.classify(form)[0] == label


def test_segment_takes_any_usual_form(coded: Path, eyes: Path) -> None:
    codec = load_model(eyes, threads=1)
    data = codec.compress(BLACK).data
    expected = tactic_codec.segment(data, codec=codec).labels
    for form in (bytearray(data), memoryview(data), io.BytesIO(data)):
        assert np.array_equal(tactic_codec.segment(form, codec=codec).labels, expected)


@pytest.mark.parametrize("form", [None, 5, ["a.tac"], BLACK, io.StringIO("x"), object()])
def test_what_is_no_frame_is_a_type_error(form: Any) -> None:
    codec = load_model(TINY, threads=1)
    for ask in (
        codec.decompress,
        tactic_codec.decompress,
        tactic_codec.classify,
        tactic_codec.segment,
    ):
        with pytest.raises(TypeError, match=r"expected a frame, its bytes, the path of a \.tac"):
            ask(form)


def test_a_text_file_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.tac").write_text("x")
    with (
        (tmp_path / "a.tac").open() as stream,
        pytest.raises(TypeError, match="a file of text; open it in binary mode"),
    ):
        tactic_codec.decompress(stream)  # type: ignore[arg-type]


def test_a_path_to_nothing_and_to_no_frame(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tactic_codec.decompress(tmp_path / "nothing.tac")
    (tmp_path / "a.tac").write_text(json.dumps({}))
    with pytest.raises(FormatError):
        tactic_codec.decompress(str(tmp_path / "a.tac"))
