"""A codec in other processes: pickled, copied, forked, in pools and in torch's workers."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from numpy.typing import NDArray

from tactic_codec.codec import Codec, load_model
from tactic_codec.errors import UnknownModel

PROGRAM = '''
import os, signal, sys, threading, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
import numpy as np
from tactic_codec import load_model

def pictures():
    return [np.random.default_rng(n).integers(0, 255, (200, 300, 3), np.uint8) for n in range(4)]

class Coded:
    """A data set that codes its pictures, as torch's DataLoader reads it."""
    def __init__(self, codec):
        self.codec = codec
    def __len__(self):
        return 4
    def __getitem__(self, number):
        return self.codec.compress(pictures()[number])

def pool(codec, method):
    with ProcessPoolExecutor(2, mp_context=get_context(method)) as pool:
        return list(pool.map(codec.compress, pictures()))

def loader(codec, method):
    from torch.utils.data import DataLoader
    return list(DataLoader(Coded(codec), None, num_workers=2, multiprocessing_context=method))

def fork(codec, leave):
    """Fork after use; the child codes, and ends by sys.exit. More than a second is too long."""
    start = time.monotonic()
    child = os.fork()
    if not child:
        sys.exit(0 if codec.compress(pictures()[0]) == expected[0] else 1)
    while time.monotonic() < start + LIMIT:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert status == 0, status
            return expected
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    sys.exit(f"the child had not ended after {LIMIT} s")

def busy(codec, leave):
    """Fork while other threads of the parent open networks and run them."""
    def work():
        while not done:
            # A model whose networks are not open yet, so that locks are held while this forks.
            fresh = Codec(codec.model, open_runtime(codec.model, codec.runtime.device, threads=2))
            fresh.compress(pictures()[1])
    from tactic_codec.codec import Codec
    from tactic_codec.runtime import open_runtime
    done = []
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            fork(codec, leave)
    finally:
        done.append(True)
    return expected

LIMIT = 30  # seconds: a child that waits for the parent's threads waits for ever
if __name__ == "__main__":
    _, folder, device, what, method = sys.argv
    codec = load_model(folder, device=device, threads=2)
    expected = [codec.compress(picture) for picture in pictures()]
    assert globals()[what](codec, method) == expected
'''


def run(folder: Path, *arguments: str) -> None:
    (folder / "program.py").write_text(PROGRAM)
    command = [sys.executable, "program.py", str(TINY), *arguments]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_of_processes(tmp_path: Path, method: str) -> None:
    run(tmp_path, "cpu", "pool", method)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_torch_s_loader(tmp_path: Path, method: str) -> None:
    run(tmp_path, "cpu", "loader", method)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["fork", "busy"])
@pytest.mark.parametrize("device", ["cpu", "torch-cpu"])
def test_a_child_that_was_forked_works_and_ends(tmp_path: Path, device: str, what: str) -> None:
    run(tmp_path, device, what, "")


def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)


@pytest.mark.parametrize(("device", "threads"), [("cpu", 1), ("auto", None), ("torch-cpu", 1)])
@pytest.mark.usefixtures("one_torch_thread", "tiny_head")
def test_a_codec_is_pickled_and_copied(device: str, threads: int | None) -> None:
    codec = load_model(TINY, device=device, threads=threads)
    data = codec.compress(picture())
    for other in (pickle.loads(pickle.dumps(codec)), copy.deepcopy(codec), copy.copy(codec)):
        assert isinstance(other, Codec)
        assert other.model.fingerprint == codec.model.fingerprint
        assert (other.runtime.device, other.runtime.threads) == (device, codec.runtime.threads)
        assert other.compress(picture()) == data


def test_a_codec_is_pickled_by_its_place_not_by_where_it_was_asked_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(TINY.parent)
    codec = load_model("./tiny", threads=1)
    pickled = pickle.dumps(codec)
    assert len(pickled) < 1000
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(pickled).model.path == TINY
    assert codec.compress(picture())  # its networks are found, though they were not yet open


def test_a_codec_whose_folder_is_gone_is_not_unpickled(tmp_path: Path) -> None:
    import shutil

    shutil.copytree(TINY, tmp_path / "gone")
    pickled = pickle.dumps(load_model(tmp_path / "gone", threads=1))
    shutil.rmtree(tmp_path / "gone")
    with pytest.raises(UnknownModel, match="there is no model"):
        pickle.loads(pickled)
