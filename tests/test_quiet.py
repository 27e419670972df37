"""No file that nobody asked for, no telemetry, no word where the home cannot be written.

That training leaves the home empty, the tutorial's commands show in `test_project.py`.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PHOTOGRAPHS, ROOT, TINY

TACTIC = (sys.executable, "-m", "tactic_codec")


HIDDEN = ("CI", "ORT_DISABLE_TELEMETRY", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
"""CI would stop telemetry, and hide whether we do."""


def environment(home: Path, **more: str) -> dict[str, str]:
    """That of a user with this home."""
    kept = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    return kept | {"HOME": str(home), "PYTHONPATH": str(ROOT)} | more


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def contents(home: Path) -> list[Path]:
    return sorted(home.rglob("*"))


def test_a_dependency_that_writes_into_the_home_is_seen(home: Path) -> None:
    """What the next tests guard against is real: ONNX Runtime by itself does it from 1.29 on."""
    code = "import onnxruntime as o; print(*o.__version__.split('.')[:2])"
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment(home), capture_output=True, text=True
    )
    version = tuple(map(int, run.stdout.split()))
    telemetry = version >= (1, 29) and sys.platform == "linux"
    assert bool(contents(home)) == telemetry


@pytest.mark.slow
def test_coding_leaves_the_home_empty(home: Path, tmp_path: Path) -> None:
    coded = tmp_path / "a.tac"
    for arguments in (
        ("compress", "-m", TINY, PHOTOGRAPHS[0], coded),
        ("decompress", "-m", TINY, coded, tmp_path / "a.png"),
        ("classify", "-m", TINY, coded),
    ):
        run = subprocess.run([*TACTIC, *arguments], env=environment(home), capture_output=True)
        assert run.returncode == 0 and run.stderr == b"", run
    assert contents(home) == []


LIBRARY = """
import sys
from pathlib import Path
import tactic_codec
codec = tactic_codec.load_model(sys.argv[1])
tactic_codec.classify(codec.compress(Path(sys.argv[2])), codec=codec)
"""


@pytest.mark.slow
def test_the_library_leaves_the_home_empty(home: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", LIBRARY, str(TINY), str(PHOTOGRAPHS[0])]
    run = subprocess.run(command, env=environment(home), capture_output=True)
    assert run.returncode == 0 and run.stderr == b"", run
    assert contents(home) == []


@pytest.mark.slow
def test_a_home_that_cannot_be_written_is_no_news(tmp_path: Path) -> None:
    for home in ("/proc/nobody", "/dev/null", ""):  # for root, too
        command = [*TACTIC, "compress", "-m", str(TINY), str(PHOTOGRAPHS[0]), "-f", "a.tac"]
        run = subprocess.run(
            command, env=environment(Path(home), HOME=home), capture_output=True, cwd=tmp_path
        )
        assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tac"]


@pytest.mark.slow
def test_evaluation_with_plots_leaves_the_home_empty(home: Path, tmp_path: Path) -> None:
    pictures, temporary = tmp_path / "data" / "cat", tmp_path / "temporary"
    pictures.mkdir(parents=True)
    temporary.mkdir()
    (pictures / "a.jpg").write_bytes(PHOTOGRAPHS[0].read_bytes())
    command = [*TACTIC, "eval", "-m", str(TINY), "--data", str(tmp_path / "data"), "--size", "32"]
    command += ["--codec", "jpeg", "--qualities", "jpeg=50", "--out", str(tmp_path / "out")]
    run = subprocess.run(
        command, env=environment(home, TMPDIR=str(temporary)), capture_output=True, text=True
    )
    assert run.returncode == 0, run
    assert list((tmp_path / "out").glob("*.png"))
    assert contents(home) == contents(temporary) == []


@pytest.mark.slow
def test_one_file_imports_onnx_runtime_first() -> None:
    """So that nothing of ours comes before what turns its telemetry off."""
    importers = set()
    folders = ("tactic_codec", "benchmarks", "experiments")
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] == "onnxruntime" for name in names):
                importers.add(path.relative_to(ROOT).as_posix())
    # The quantizer is imported in a function, of a file that has imported the other one.
    assert importers == {"tactic_codec/runtime/onnx.py", "tactic_codec/training/eight_bits.py"}


HOST = """
import sys, onnxruntime, tactic_codec
for device in ("cpu", "auto"):
    tactic_codec.load_model(sys.argv[1], device=device)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("setting", "warnings"), [("", 1), ("1", 0), ("0", 0)])
def test_a_host_that_imported_onnx_runtime_first_is_warned_once(
    home: Path, setting: str, warnings: int
) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "always", "-c", HOST, str(TINY)],
        env=environment(home, ORT_DISABLE_TELEMETRY=setting),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run
    assert run.stderr.count("set ORT_DISABLE_TELEMETRY=1 in the environment") == warnings, run
