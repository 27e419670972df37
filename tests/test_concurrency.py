"""Threads and workers change nothing: the same bytes, the same pictures, whatever runs beside."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from tactic_codec import entropy
from tactic_codec import picture as image
from tactic_codec.cli import main
from tactic_codec.codec import Codec
from tactic_codec.container import Frame, parse
from tactic_codec.errors import Corrupt
from tactic_codec.model import Model
from tactic_codec.runtime import open_runtime

TINY = Path(__file__).parent / "models" / "tiny"
THREADS = 8

Pixels = NDArray[np.uint8]


def picture(seed: int) -> Pixels:
    """Noise over a slope; each seed has a size of its own."""
    rng = np.random.default_rng(seed)
    height, width = 9 + 7 * seed % 60, 5 + 11 * seed % 70
    slope = np.linspace(0, 200, width, dtype=np.float64)[np.newaxis, :, np.newaxis]
    return (slope + rng.integers(0, 50, (height, width, 3))).astype(np.uint8)


def together(work: Callable[[int], object], repeats: int) -> list[object]:
    """Call work(0), work(1) … in eight threads that begin at once; the results in order."""
    barrier = threading.Barrier(THREADS)

    def begin(index: int) -> object:
        if index < THREADS:
            barrier.wait()
        return work(index)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begin, range(repeats)))


@pytest.fixture
def fresh() -> Codec:
    """The tiny model with nothing loaded yet, so that threads race to load it."""
    model = Model(TINY)
    return Codec(model, open_runtime(model, "cpu", threads=1))


def test_one_model_in_eight_threads_writes_the_same_bytes(fresh: Codec, tiny: Codec) -> None:
    alone = [tiny.compress(picture(seed), 1 + seed % 3).data for seed in range(40)]
    assert together(lambda seed: fresh.compress(picture(seed), 1 + seed % 3).data, 40) == alone


def test_one_model_in_eight_threads_reads_the_same_pictures(fresh: Codec, tiny: Codec) -> None:
    frames = [tiny.compress(picture(seed), 1 + seed % 3).data for seed in range(40)]
    alone = [tiny.decompress(frame).tobytes() for frame in frames]
    assert together(lambda seed: fresh.decompress(frames[seed]).tobytes(), 40) == alone


@pytest.mark.parametrize("coder", [entropy.CONSTRICTION, entropy.PURE], ids=lambda c: c.name)
def test_the_entropy_coder_in_eight_threads(coder: entropy.Coder, fresh: Codec) -> None:
    tables = fresh.model.tables(2)

    def work(seed: int) -> bytes:
        symbols = np.random.default_rng(seed).geometric(0.4, (8, 5, 6)).astype(np.int32) - 1
        payload = entropy.encode(symbols, tables, coder)
        assert np.array_equal(entropy.decode(payload, symbols.shape, tables, coder), symbols)
        return payload

    assert together(work, 24) == [work(seed) for seed in range(24)]


def test_a_thread_that_fails_disturbs_no_other(fresh: Codec) -> None:
    good = fresh.compress(picture(3)).data
    whole = fresh.decompress(good).tobytes()
    frame = parse(good)
    bad = Frame(frame.fingerprint, frame.level, frame.width, frame.height, b"\xff" * 9)

    def work(index: int) -> object:
        if index % 2:
            return fresh.decompress(good).tobytes() == whole
        with pytest.raises(Corrupt):
            fresh.decompress(bad)
        return True

    assert all(together(work, 64))


def test_pictures_load_in_eight_threads() -> None:
    files = [image.save(picture(seed), "png") for seed in range(40)]
    loaded = together(lambda seed: np.array_equal(image.load(files[seed]), picture(seed)), 40)
    assert all(loaded)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [2, 8])
@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_workers_write_the_same_files_in_any_order(
    command: str, jobs: int, tmp_path: Path, tiny: Codec
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for seed in range(24):
        pixels = picture(seed)
        if command == "compress":
            (source / f"{seed}.png").write_bytes(image.save(pixels, "png"))
        else:
            (source / f"{seed}.tac").write_bytes(tiny.compress(pixels).data)
    names = [str(path) for path in source.iterdir()]
    written = []
    for workers, seed in ((1, 0), (jobs, 1), (jobs, 2)):
        random.Random(seed).shuffle(names)
        out = tmp_path / f"out-{workers}-{seed}"
        out.mkdir()
        arguments = [command, "-m", str(TINY), "-j", str(workers), *names, str(out)]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        written.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert len(written[0]) == 24
    assert written[0] == written[1] == written[2]


def test_workers_print_in_the_order_of_the_inputs(tmp_path: Path, tiny: Codec) -> None:
    names = []
    for seed in range(20):
        path = tmp_path / f"{seed}.tac"
        path.write_bytes(tiny.compress(picture(seed)).data)
        names.append(str(path))
    random.Random(4).shuffle(names)

    def printed(jobs: int) -> list[str]:
        arguments = ["decompress", "-v", "-m", str(TINY), "-j", str(jobs), *names]
        result = CliRunner().invoke(main, [*arguments, str(tmp_path / f"out{jobs}/")])
        assert result.exit_code == 0, result.output
        first, *lines = result.stderr.splitlines()
        assert first == "tiny: networks all in single precision"
        return [line.split(" -> ")[0] for line in lines]

    assert printed(1) == printed(4) == names
