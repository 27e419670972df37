"""Several processes at one run end where one process ends."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tactic_codec.errors import ConfigError
from tactic_codec.networks.residual import ResidualConfig
from tactic_codec.training import parallel
from tactic_codec.training.checkpoint import CHECKPOINT, LOG
from tactic_codec.training.config import (
    DataConfig,
    LevelsConfig,
    StageConfig,
    TrainingConfig,
)
from tactic_codec.training.data import Crops, batches, scan
from tactic_codec.training.loop import train

pytestmark = pytest.mark.usefixtures("one_torch_thread")

CONFIG = TrainingConfig(
    name="shared",
    # With seed 1 a sum of contexts cancels: a gradient is 0 in one process and in two what rounding
    # leaves, 1e-10, of which Adam makes a step.
    seed=2,
    # Without noise, which each process draws for itself, and without a task network.
    stage=(
        StageConfig(
            steps=3,
            beta=1.0,
            alpha=0.0,
            batch=4,
            size=32,
            pixel_scale=10.0,
            quantisation="straight",
        ),
    ),
    residual=ResidualConfig(6, 8, 6, 4, analysis_blocks=(1, 1), synthesis_blocks=(1, 1, 1)),
    levels=LevelsConfig(2, 1.0, 4.0),
    data=DataConfig(test=0.25, calibration=0.25, size=32),
    ema=0.5,
)

PROCESS = """
import sys
from pathlib import Path
import torch
from test_parallel import CONFIG
from tactic_codec.training import parallel
from tactic_codec.training.data import scan
from tactic_codec.training.loop import train

torch.set_num_threads(1)
parallel.join("cpu")
train(CONFIG, scan([Path(sys.argv[1])], CONFIG.data, CONFIG.seed), Path(sys.argv[2]))
parallel.leave()
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(1)
    for i in range(8):
        (folder / "things").mkdir(exist_ok=True)
        pixels = random.integers(0, 256, (4, 5, 3), np.uint8)
        Image.fromarray(pixels).resize((50, 40)).save(folder / "things" / f"{i}.png")
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_batch_is_shared_without_rest(pictures: Path) -> None:
    data = scan([pictures], CONFIG.data, 1)
    crops = Crops(data.parts, CONFIG.data, 32, 1)
    whole, *shares = (
        list(batches(crops, batch=4, first=8, last=16, workers=0, share=share))
        for share in (
            parallel.Share(),
            parallel.Share(0, 3),
            parallel.Share(1, 3),
            parallel.Share(2, 3),
        )
    )
    for number, (images, _) in enumerate(whole):
        assert len(images) == 4
        for index, share in enumerate(shares):
            assert torch.equal(share[number][0], images[index::3])


@pytest.mark.slow
def test_two_processes_train_as_one(pictures: Path, tmp_path: Path) -> None:
    alone = train(CONFIG, scan([pictures], CONFIG.data, CONFIG.seed), tmp_path / "alone")
    environment = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "2",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(pictures), str(tmp_path / "shared")],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said
    stored = torch.load(tmp_path / "shared" / CHECKPOINT, weights_only=True)
    assert stored["step"] == 3
    for name, weight in alone.state_dict().items():
        torch.testing.assert_close(stored["average"][name], weight, rtol=1e-3, atol=1e-5)
    # One of them keeps the log.
    assert len((tmp_path / "shared" / LOG).read_text().splitlines()) == 3


def test_a_batch_has_an_image_for_every_process(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process without an image would have a mean of nothing, and spoil the gradients of all."""
    monkeypatch.setattr(parallel, "share", lambda: parallel.Share(0, 64))
    data = scan([pictures], CONFIG.data, CONFIG.seed)
    with pytest.raises(ConfigError, match=r"leaves nothing to some of 64 processes"):
        train(CONFIG, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
