"""What several test files share: the tiny model, photographs, and copies of the model to spoil."""

import functools
import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from detector import DETECT_FILE, colour_boxes, detect_head
from segmenter import SEGMENT_FILE, SEGMENT_LABELS, brightest_channel, segment_head

from tactic_codec.cli import main
from tactic_codec.codec import Codec, load_model
from tactic_codec.evaluation.evaluate import Evaluation
from tactic_codec.evaluation.pictures import Folder
from tactic_codec.evaluation.results import FolderResult
from tactic_codec.model import Model
from tactic_codec.runtime import onnx as _quiet  # noqa: F401, before a test imports ONNX Runtime

# Under nohup SIGHUP is ignored, and the commands that tests start would inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

ROOT = Path(__file__).parent.parent
TINY = ROOT / "tests" / "models" / "tiny"
TINY_FINGERPRINT = bytes.fromhex("a292e80f")
PHOTOGRAPHS = sorted((ROOT / "examples").glob("*.jpg"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what runs in lanes of their own, unless that was asked for."""
    for lane in ("lane", "browser"):
        if lane not in config.option.markexpr:
            items[:] = [item for item in items if not item.get_closest_marker(lane)]


class Spoilt:
    """A copy of the tiny model whose files can be changed, with or without the manifest knowing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        shutil.copytree(TINY, path)

    @property
    def manifest(self) -> dict[str, Any]:
        return json.loads((self.path / "model.json").read_text(encoding="utf-8"))

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        manifest = self.manifest
        change(manifest)
        (self.path / "model.json").write_text(json.dumps(manifest), encoding="utf-8")

    def set(self, *keys: str | int, to: Any) -> None:
        """Set the manifest's value at a path of keys, or delete it where the value is ``...``."""

        def change(manifest: Any) -> None:
            for key in keys[:-1]:
                manifest = manifest[key]
            if to is ...:
                del manifest[keys[-1]]
            else:
                manifest[keys[-1]] = to

        self.edit(change)

    def put(self, name: str, data: bytes) -> None:
        """Replace a file, and its size and hashes in the manifest with it."""
        digest = hashlib.sha256(data).hexdigest()
        (self.path / name).write_bytes(data)

        def change(manifest: dict[str, Any]) -> None:
            manifest["files"][name] = {"bytes": len(data), "sha256": digest}
            if name in manifest["normative"]["files"]:
                manifest["normative"]["files"][name] = digest

        self.edit(change)

    @property
    def model(self) -> Model:
        return Model(self.path)


def tactic(*args: object, code: int = 0, input: bytes | None = None) -> Result:
    """Run the command in this process; it has to end with an exit status, and no traceback."""
    result = CliRunner().invoke(main, [str(arg) for arg in args], input=input)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def evaluate(
    folders: list[Folder],
    found: list[Any],
    how: Evaluation,
    *,
    heads: Any | None = None,
    compare: bool = True,
) -> list[FolderResult]:
    """Measure pictures with coders; see `Evaluation`."""
    return list(replace(how, heads=heads, compare=compare).run(folders, found).folders)


def teach_to_segment(
    spoilt: Spoilt,
    stride: int = 4,
    *,
    labels: Sequence[str] = SEGMENT_LABELS,
    network: str = "brightest",
) -> None:
    """Give a copy of the tiny model a segmentation network: a pixel's class is its main colour."""
    spoilt.put(SEGMENT_FILE, brightest_channel(stride))
    spoilt.set("heads", "segment", to=segment_head(labels, network))


def teach_to_detect(spoilt: Spoilt) -> None:
    """Give a copy of the tiny model a detector: three boxes as certain as colours are strong."""
    spoilt.put(DETECT_FILE, colour_boxes())
    spoilt.set("heads", "detect", to=detect_head())


@pytest.fixture
def segmenter(spoilt: Spoilt) -> Spoilt:
    """A copy of the tiny model that can segment, see `teach_to_segment`."""
    teach_to_segment(spoilt)
    return spoilt


@pytest.fixture(scope="session")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a newer tiny model, which can segment; for tests that leave it as it is."""
    newer = Spoilt(tmp_path_factory.mktemp("models") / "eyes")
    teach_to_segment(newer)
    return newer.path


@pytest.fixture(scope="session")
def tiny() -> Codec:
    """The tiny model on ONNX Runtime with one thread."""
    return load_model(TINY, device="cpu", threads=1)


@pytest.fixture
def spoilt(tmp_path: Path) -> Spoilt:
    return Spoilt(tmp_path / "spoilt")


@pytest.fixture
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A world in which no model is installed; returns the user's data folder, which is empty."""
    monkeypatch.delenv("TACTIC_MODELS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr("tactic_codec.model._BUNDLED", tmp_path / "bundled")
    monkeypatch.setattr("tactic_codec.model._CHECKOUT", tmp_path / "checkout")
    return tmp_path / "data"


@pytest.fixture
def tiny_installed(nothing_installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A world in which the tiny model is the only one installed."""
    monkeypatch.setenv("TACTIC_MODELS", str(TINY.parent))


@pytest.fixture
def tiny_head(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Any]:
    """The network of the tiny model's classifier, known to torch by the name ``tiny``."""
    from torch import nn

    from tactic_codec.networks import heads

    def build(classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=4, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, classes),
        )

    monkeypatch.setitem(heads.KINDS, "tiny", heads.HeadKind(build, 64))
    return build


@pytest.fixture(scope="session")
def quick_exports() -> None:
    """Torch's exporter reads the source of its operators once, not at every export."""
    import onnxscript

    read = onnxscript.TracedOnnxFunction.function_ir.fget
    assert read
    onnxscript.TracedOnnxFunction.function_ir = property(functools.cache(read))


@pytest.fixture
def one_torch_thread() -> Iterator[None]:
    """Torch on one thread during a test, as before afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def checkout_on_path() -> dict[str, str]:
    """The environment of a subprocess that imports the package from the checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def tactic_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A world in which the shell finds the command ``tactic``, which runs the checkout."""
    command = tmp_path / "path" / "tactic"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m tactic_codec "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def drawing() -> None:
    """For the test that sees the plots: in others they would take most of the time."""


@pytest.fixture
def evaluating(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Work in an empty folder, where the tiny model is found; draw only for `drawing`."""
    if "drawing" not in request.fixturenames:
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setenv("TACTIC_MODELS", str(TINY.parent))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
