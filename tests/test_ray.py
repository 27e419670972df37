"""`tactic_codec.ray` on a cluster of two workers; a lane of its own, because Ray is large."""

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, TINY
from test_cli_process import tactic
from test_streaming import picture

pytestmark = [pytest.mark.lane, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """The module, with a cluster of two workers whose model is the tiny one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TACTIC_MODELS", str(TINY.parent))
        patch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")
        patch.setenv("RAY_worker_niceness", "0")  # or they would wait for all else that runs
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:5555")
        import tactic_codec.ray

        yield partial_of(tactic_codec.ray)
        tactic_codec.ray.ray.shutdown()


def partial_of(module: Any) -> Any:
    """The module, each of whose calls has two workers."""

    class Cluster:
        def __getattr__(self, name: str) -> Any:
            found = getattr(module, name)
            asked = name in ("compress", "classify", "detect", "transcode", "_run")
            return partial(found, workers=2) if asked else found

    return Cluster()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number in range(6):
        path = folder / ("day", "night")[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    return folder


def content(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_folders(cluster: Any, photos: Path, tmp_path: Path) -> None:
    (photos / "bad.jpg").write_bytes(b"no picture")
    (photos / "day" / "0.png").write_bytes(picture(7, "PNG"))
    (photos / ".hidden.jpg").write_bytes(picture(8))
    out = tmp_path / "coded"
    outcome = cluster.compress(str(photos), str(out), model="tiny", level=2)
    assert (outcome.done, outcome.skipped) == (6, 0)
    assert [failure.path for failure in outcome.failures] == ["day/0.png", "bad.jpg"]
    table = list(csv.DictReader(io.StringIO((out / "failures.csv").read_text())))
    assert [row["path"] for row in table] == ["day/0.png", "bad.jpg"]
    assert "would overwrite" in table[0]["error"]
    assert table[1]["error"].startswith("UnsupportedImage: this is text")

    # What the plain command writes, byte for byte.
    (photos / "bad.jpg").unlink()
    (photos / "day" / "0.png").unlink()
    result = tactic("compress", "-m", "tiny", "-q", "2", "-r", photos, tmp_path / "plain")
    assert result.returncode == 0, result.stderr
    made = content(out)
    assert made.pop("failures.csv") and made == content(tmp_path / "plain")

    # Again: only what is new, and the table tells of what fails now.
    (photos / "new.jpg").write_bytes(picture(9))
    before = (out / "day" / "0.tac").stat()
    outcome = cluster.compress(str(photos), str(out), model="tiny", level=2)
    assert (outcome.done, outcome.skipped, outcome.failures) == (1, 6, [])
    assert (out / "day" / "0.tac").stat() == before
    assert (out / "failures.csv").read_text().split() == ["path,error"]

    outcome = cluster.classify(str(out), str(tmp_path / "answers"), top_k=2)
    assert (outcome.done, outcome.failures) == (7, [])
    answer = json.loads((tmp_path / "answers" / "new.json").read_text())
    told = tactic("classify", "--json", "--top", "2", out / "new.tac").stdout
    assert answer["predictions"] == json.loads(told)["predictions"]

    outcome = cluster.detect(str(out), str(tmp_path / "objects"))
    assert outcome.done == 0 and len(outcome.failures) == 7  # the tiny model has no detector
    assert {failure.error.partition(":")[0] for failure in outcome.failures} == {"UnknownTask"}

    outcome = cluster.transcode(str(out), str(tmp_path / "png"))
    assert (outcome.done, outcome.failures) == (7, [])
    tactic("decompress", out / "new.tac", tmp_path / "new.png")
    assert (tmp_path / "png" / "new.png").read_bytes() == (tmp_path / "new.png").read_bytes()


def test_shards(cluster: Any, tmp_path: Path) -> None:
    for number in range(2):
        with tarfile.open(tmp_path / f"train-{number}.tar", "w") as shard:
            for key in range(3):
                bad = number == key == 1
                for suffix, data in ((".jpg", b"bad" if bad else picture(key)), (".cls", b"7")):
                    # A name that is not ASCII has a header of its own.
                    member = tarfile.TarInfo(f"{number}{'ö' if key == 2 else key}{suffix}")
                    member.size = len(data)
                    shard.addfile(member, io.BytesIO(data))
    out = tmp_path / "coded"
    outcome = cluster.compress(f"{tmp_path}/train-*.tar", str(out), model="tiny")
    assert outcome.done == 5
    assert [failure.path for failure in outcome.failures] == ["train-1.tar/11.jpg"]
    with tarfile.open(out / "train-1.tar") as shard:
        names = ["10.tac", "10.cls", "11.cls", "1ö.tac", "1ö.cls"]
        assert shard.getnames() == names
        coded = shard.extractfile("10.tac")
        assert coded
        (tmp_path / "0.jpg").write_bytes(picture(0))
        alone = tactic("compress", "-m", "tiny", tmp_path / "0.jpg", "-").stdout
        assert coded.read() == alone
    again = cluster.compress(f"{tmp_path}/train-*.tar", str(out), model="tiny")
    assert (again.done, again.skipped) == (0, 2)


@pytest.fixture
def store() -> Iterator[None]:
    """A store as Amazon's, on this computer."""
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=5555, verbose=False)
    server.start()
    yield
    server.stop()


def test_object_stores(cluster: Any, photos: Path, tmp_path: Path, store: None) -> None:
    import fsspec

    files = fsspec.filesystem("s3")
    files.mkdir("bucket")
    files.put(f"{photos}/", "bucket/photos/", recursive=True)
    outcome = cluster.compress("s3://bucket/photos", "s3://bucket/coded", model="tiny")
    assert (outcome.done, outcome.failures) == (6, [])
    again = cluster.compress("s3://bucket/photos", "s3://bucket/coded", model="tiny")
    assert (again.done, again.skipped) == (0, 6)
    tactic("compress", "-m", "tiny", photos / "day" / "0.jpg", tmp_path / "0.tac")
    assert files.cat_file("bucket/coded/day/0.tac") == (tmp_path / "0.tac").read_bytes()
    assert cluster.transcode("s3://bucket/coded", str(tmp_path / "png")).done == 6


def slowly(data: bytes, deadly: bytes) -> bytes:
    """Tell which process this is and which codec it has; die of some data."""
    from tactic_codec.codec import load_model

    if data == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    return f"{os.getpid()} {id(load_model(TINY, threads=1))} ".encode() + data


def run_slowly(cluster: Any, folder: Path, deadly: bytes = b"") -> Any:
    places = str(folder / "in"), str(folder / "out")
    return cluster._run(*places, (".txt",), ".out", partial(slowly, deadly=deadly))


def test_a_worker_that_is_killed_costs_nothing(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(200):
        (tmp_path / "in" / f"{number}.txt").write_text(str(number))
    killed: list[int] = []

    def kill() -> None:
        while not (found := list((tmp_path / "out").glob("1*.out"))):
            time.sleep(0.02)
        killed.append(int(found[0].read_text().split()[0]))
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    outcome = run_slowly(cluster, tmp_path)
    assert killed and (outcome.done, outcome.skipped, outcome.failures) == (200, 0, [])
    codecs = defaultdict[str, set[str]](set)
    done = Counter[str]()
    for path in (tmp_path / "out").glob("*.out"):
        process, codec, data = path.read_text().split()
        codecs[process].add(codec)
        done[process] += 1
        assert data == path.stem
    assert sum(done.values()) == 200
    assert len(codecs) == 3 or str(killed[0]) not in codecs  # the dead one's may be done again
    assert all(len(found) == 1 for found in codecs.values()), "a model was loaded twice"


def test_what_workers_die_of_is_a_failure(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(12):
        (tmp_path / "in" / f"{number}.txt").write_text(str(number))
    outcome = run_slowly(cluster, tmp_path, deadly=b"5")
    assert outcome.done == 11
    ((path, error),) = outcome.failures
    assert path == "5.txt" and "3 workers died of it" in error


def test_what_is_wrong_from_the_start(cluster: Any, photos: Path, tmp_path: Path) -> None:
    from tactic_codec.errors import DataError, UnknownModel, UnsupportedImage

    calls: list[tuple[type[Exception], Callable[[], Any]]] = [
        (DataError, lambda: cluster.compress(str(tmp_path / "none"), str(tmp_path / "out"))),
        (DataError, lambda: cluster.classify(str(photos), str(tmp_path / "out"))),
        (UnknownModel, lambda: cluster.compress(str(photos), "out", model="none")),
        (UnsupportedImage, lambda: cluster.transcode(str(photos), "out", format="gif89")),
    ]
    for error, call in calls:
        with pytest.raises(error):
            call()
    assert not (tmp_path / "out").exists()


def test_usage_statistics_are_off(cluster: Any) -> None:
    from ray._common.usage import usage_lib

    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert not usage_lib.usage_stats_enabled()


def test_what_it_needs_is_named() -> None:
    code = "import sys; sys.modules['ray'] = None; import tactic_codec.ray"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install fsspec 'ray[data]'" in result.stderr
    with contextlib.suppress(ImportError):
        import ray

        assert ray.__version__
