"""What people who mean harm, and machines that fail, do to the codec; and what it then does.

Nothing here may end in another exception than the one that names the cause, in a file half
written, in a file lost, or in more memory and time than the caller allowed.
"""

import gc
import hashlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from detector import detect_head
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from segmenter import SEGMENT_SIZE, segment_head

from tactic_codec import container, entropy, tasks
from tactic_codec.cli import coding, files, main
from tactic_codec.cli.console import Console, Failure, in_order
from tactic_codec.cli.files import NOWHERE
from tactic_codec.codec import Codec, load_model
from tactic_codec.container import Frame
from tactic_codec.entropy.order import parts
from tactic_codec.errors import (
    Corrupt,
    DamagedImage,
    DamagedModel,
    LimitExceeded,
    OutputExists,
    TacError,
    Truncated,
)
from tactic_codec.model import Model, latent_size
from tactic_codec.picture import WHOLE
from tactic_codec.picture.streams import Found

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "tests" / "models"
TINY = MODELS / "tiny"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "TACTIC_MODELS": str(MODELS),
    "OMP_NUM_THREADS": "1",
}
TIMEOUT = 600  # seconds, after which a hang is called a hang, on a busy machine too


def tactic(*args: str | Path, cwd: Path, **options: Any) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "tactic_codec", *args],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        timeout=TIMEOUT,
        **options,
    )


def python(code: str, *args: str, cwd: Path | None = None) -> str:
    """Run code in a fresh interpreter and return what it printed."""
    run = subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def picture(seed: int = 1, side: int = 24) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    return Image.fromarray(pixels)


# --- Sizes that are declared ----------------------------------------------------------------------

# Prints seconds of computing, megabytes beyond the idle process, and what became of it.
MEASURED = """
import sys, time
from tactic_codec import container, picture as image, tasks
from tactic_codec.codec import load_model
from tactic_codec.errors import TacError

def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))

def use(frame):
    pixels = codec.decode(frame)
    image.save(pixels, "png")
    if "segment" in codec.model.heads:
        tasks.segment_pixels(codec, pixels).to_png()

codec = load_model(sys.argv[1], device="cpu", threads=1)
for level in range(1, len(codec.model.levels) + 1):
    use(container.Frame(codec.model.fingerprint, level, 8, 8, b""))
idle = status("VmRSS")
data = open(sys.argv[2], "rb").read()
start = time.process_time()
try:
    use(container.parse(data))
    ending = "a picture"
except TacError as error:
    ending = type(error).__name__
print(time.process_time() - start, status("VmHWM") - idle, ending)
"""


def measured(data: bytes, tmp_path: Path, model: Path = TINY) -> tuple[float, float, str]:
    (tmp_path / "hostile.tac").write_bytes(data)
    file = str(tmp_path / "hostile.tac")
    seconds, megabytes, ending = python(MEASURED, str(model), file).split(" ", 2)
    return float(seconds), float(megabytes), ending.strip()


HEAD = bytes.fromhex("89 54 41 10 a2 92 e8 0f 02")

DECLARED = {
    "a payload of four gigabytes": (HEAD + b"\x01\x01\xfb\xff\xff\xff\xff" + b"z" * 60_000),
    "four billion pixels": HEAD + b"\xf9\xf7\x0f\xf9\xf7\x0f\x00" + bytes(4),
    "a width of 32 bits": HEAD + b"\xfb\xff\xff\xff\xff\x01\x00" + bytes(4),
    "268 megapixels in no bytes": HEAD + b"\xf9\x37\x10\xf9\x37\x10\x00" + bytes(4),
    "4.2 megapixels, then damage": HEAD + b"\xf8\x10" * 2 + b"\x00" + bytes(4),
}


@pytest.mark.slow
@pytest.mark.parametrize("data", DECLARED.values(), ids=DECLARED.keys())
def test_what_is_declared_is_not_allocated(data: bytes, tmp_path: Path) -> None:
    seconds, megabytes, ending = measured(data, tmp_path)
    assert ending in ("Truncated", "LimitExceeded", "Corrupt", "ChecksumMismatch")
    assert seconds < 0.1
    assert megabytes < 5


def lavish(size: int) -> bytes:
    """A payload of about ``size`` bytes that holds the dearest symbols from the first on."""
    tables = load_model(TINY).model.tables(3)
    side = 1
    payload = b""
    while len(payload) < size:
        side *= 2
        symbols = np.full((8, side, side), tables.maximum + 1, np.int32)
        payload = entropy.encode(symbols, tables)
    return payload[:size]


def noisy(model: Model, width: int, height: int) -> bytes:
    """A payload that an encoder might write: noise for 50 kB, then what costs nothing.

    Past the end of the payload those are symbols of index 0, and zeros that tables are sure of.
    """
    tables = model.tables(len(model.levels))
    rows, columns = latent_size(height, width, model.stride)
    source = np.random.default_rng(1)

    def noise(*shape: int) -> NDArray[np.int32]:
        shape = (model.channels, *shape)
        return source.integers(tables.minimum, tables.maximum + 2, shape, np.int32)

    noisy = 50_000 * 900 * model.channels // len(entropy.encode(noise(30, 30), tables))
    symbols = np.full((model.channels, rows, columns), tables.minimum)
    for number, group in enumerate(tables.contexts.groups(model.channels)):
        for part in parts(rows, columns, number, group):
            if noisy > 0:
                y, x = np.divmod(part.where, columns + 2)
                found = noise(1, part.where.size)[group, 0]
                symbols[group, y - 1, x - 1] = found
                noisy -= found.size
    whole = entropy.encode(symbols, tables)
    if len(whole) < 1 << 16:
        return whole
    for length in range(50_000, 50_100):  # where tables are sure, index 0 is not what costs least
        payload = whole[:length].rstrip(b"\0")
        with suppress(Corrupt):
            entropy.decode(payload, symbols.shape, tables)
            return payload
    raise AssertionError("no cut of it decodes")


PAYLOADS: dict[str, Callable[[int, int], bytes]] = {
    "nothing": lambda width, height: b"",
    "zeros, then one": lambda width, height: bytes(60_000) + b"\x01",
    "random bytes": lambda width, height: random.Random(1).randbytes(60_000) + b"\x01",
    "escapes": lambda width, height: lavish(60_000) + b"\x01",
    "the largest number": lambda width, height: b"\xff" * 60_000,
    "noise": lambda width, height: noisy(load_model(TINY).model, width, height),
}
SHAPES = [(2048, 2048), (65535, 64), (64, 65535)]  # as many pixels as small files may have
BUNDLED = sorted(path.parent for path in (ROOT / "models").glob("*/model.json"))


@pytest.mark.slow
@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
@pytest.mark.parametrize(
    "shape", [SHAPES[0], *(pytest.param(s, marks=pytest.mark.slow) for s in SHAPES[1:])], ids=str
)
def test_a_small_file_costs_five_seconds_and_300_megabytes_at_most(
    shape: tuple[int, int], payload: Callable[[int, int], bytes], tmp_path: Path
) -> None:
    """Unless more is asked for, whatever its payload is behind a checksum that is right."""
    width, height = shape
    assert width * height > 0.99 * container.SMALL_MAX_PIXELS
    frame = Frame(load_model(TINY).model.fingerprint, 3, width, height, payload(width, height))
    data = container.pack(frame)
    assert len(data) < 1 << 16
    seconds, megabytes, ending = measured(data, tmp_path)
    assert ending in ("a picture", "Corrupt")
    assert seconds < 5
    assert megabytes < 300


@pytest.mark.slow
@pytest.mark.parametrize("folder", BUNDLED, ids=lambda folder: folder.name)
def test_a_small_file_of_a_bundled_model_is_as_cheap(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder).model
    payload = noisy(model, *SHAPES[0])
    frame = Frame(model.fingerprint, len(model.levels), *SHAPES[0], payload)
    assert frame.size < 1 << 16
    seconds, megabytes, ending = measured(container.pack(frame), tmp_path, folder)
    assert ending == "a picture"
    # 2 s with paper and 5 with the default model, on one thread; the rest is for busy machines.
    assert seconds < 10
    assert megabytes < 300


def test_random_payloads_end_as_a_picture_or_as_corrupt(tiny: Codec) -> None:
    source = random.Random(2)
    endings = {"a picture": 0, "Corrupt": 0}
    for _ in range(300):
        payload = source.randbytes(source.randrange(200)).rstrip(b"\0")
        width, height = source.randrange(1, 150), source.randrange(1, 150)
        level = source.randrange(1, 4)
        frame = Frame(tiny.model.fingerprint, level, width, height, payload)
        try:
            size = tiny.decompress(container.pack(frame)).size
        except Corrupt:
            endings["Corrupt"] += 1
        else:
            assert size == (width, height)
            endings["a picture"] += 1
    assert min(endings.values()) > 5


@pytest.mark.slow
@pytest.mark.parametrize("command", ["test", "info", "decompress"])
@pytest.mark.parametrize("fault", ["checksum", "section"])
def test_damaged_frames_are_freed_as_they_pass(command: str, fault: str, tmp_path: Path) -> None:
    sections = ((5, bytes(1 << 20)),) if fault == "section" else ()
    data = bytearray(
        container.pack(Frame(b"tac!", 1, 64, 64, b"\1" * (1 << 20), sections=sections))
    )
    data[-1] ^= fault == "checksum"
    (tmp_path / "many.tac").write_bytes(data * 20)
    args = [command, str(tmp_path / "many.tac")]
    with freed_by_counting() as peak:
        run = CliRunner().invoke(
            main, [*args, f"{tmp_path}/out/"] if command == "decompress" else args
        )
    assert run.exit_code == 1
    assert "20 messages" in run.stderr
    assert peak() < 8 << 20


@pytest.mark.slow
def test_damaged_pictures_of_a_stream_are_freed_as_they_pass() -> None:
    with freed_by_counting() as peak:
        for number in range(20):
            found = Found(
                number, b"\xff\xd8\xff" + bytes(1 << 20), problem=DamagedImage("it is cut")
            )
            with pytest.raises(DamagedImage, match="it is cut"):
                found.read()
            del found
    assert peak() < 8 << 20


@pytest.mark.slow
def test_what_cannot_be_read_is_freed_as_it_passes() -> None:
    class Problem(OSError):
        held = b""

    def fail(name: str) -> None:
        problem = Problem(5, "the disk is broken")
        problem.held = bytes(1 << 20)
        source = files.Source(name, name, problem)
        if name == "opened":
            with files.opened(source):
                pass
        picture = coding.Picture(source, problem=problem)
        if name == "read":
            picture.read(1, (0, 0, 0), WHOLE)
        (item,) = coding._pictures(console, None, False, [source], NOWHERE)
        assert isinstance(item.problem, OSError)
        if name == "passed on":
            item.read(1, (0, 0, 0), WHOLE)

    console = Console(quiet=True, verbose=False, debug=False)
    for name in ("opened", "read", "passed on", "listed"):
        with freed_by_counting() as peak:
            for _ in range(20):
                for outcome in in_order(fail, [name], 1):
                    assert isinstance(outcome.result, Failure) or name == "listed"
                del outcome
        assert peak() < 8 << 20, name


@contextmanager
def freed_by_counting() -> Iterator[Callable[[], int]]:
    """Give what tells the most bytes held within it, where no collector frees circles."""
    peaks = []
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        yield lambda: peaks[0]
        peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
        gc.enable()


def test_a_picture_larger_than_the_limit_is_refused_before_its_payload_is_read() -> None:
    class Endless(io.RawIOBase):
        taken = 0

        def read(self, size: int = -1) -> bytes:
            piece = (HEAD + b"\xf9\xf7\x0f" * 2 + b"\xfb\xff\xff\xff\xff")[
                self.taken : self.taken + size
            ]
            self.taken += len(piece)
            assert piece, "the payload was asked for"
            return piece

    with pytest.raises(LimitExceeded):
        container.read_frame(Endless())  # type: ignore[arg-type]


# --- Model folders --------------------------------------------------------------------------------


class Forger:
    """A copy of the tiny model whose files are replaced, with sizes and hashes to match."""

    def __init__(self, path: Path) -> None:
        self.path = path
        shutil.copytree(TINY, path)

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        manifest = json.loads((self.path / "model.json").read_text(encoding="utf-8"))
        change(manifest)
        (self.path / "model.json").write_text(json.dumps(manifest), encoding="utf-8")

    def put(self, name: str, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        (self.path / name).write_bytes(data)

        def change(manifest: dict[str, Any]) -> None:
            manifest["files"][name] = {"bytes": len(data), "sha256": digest}
            if name in manifest["normative"]["files"]:
                manifest["normative"]["files"][name] = digest

        self.edit(change)

    def decode(self) -> Image.Image:
        codec = load_model(self.path, device="cpu", threads=1)
        codec.model.verify()
        return codec.decompress(Frame(codec.model.fingerprint, 1, 9, 9, b""))


@pytest.fixture
def forger(tmp_path: Path) -> Forger:
    return Forger(tmp_path / "forged")


def archive(member: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive in which every level's tables are the same bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as members:
        for level in (1, 2, 3):
            members.writestr(f"level_{level}.npy", member)
    return stream.getvalue()


def array_file(header: str, body: bytes = b"") -> bytes:
    """A NumPy array file of any header."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + body


def shaped(shape: str) -> bytes:
    return array_file("{'descr':'<i8','fortran_order':False,'shape':%s}" % shape)  # noqa: UP031


def flipped(data: bytes, *places: tuple[int, int]) -> bytes:
    changed = bytearray(data)
    for place, value in places:
        changed[place] = value
    return bytes(changed)


def directory(data: bytes) -> int:
    """Where the first entry of an archive's directory begins."""
    return data.index(b"PK\1\2")


def tables_summing_to(total: int) -> bytes:
    stream = io.BytesIO()
    table = np.full((8, 8, 4), total // 4, np.int64)
    np.savez(stream, level_1=table, level_2=table, level_3=table)
    return stream.getvalue()


STORED = archive(b"\x93NUMPY" * 100)
LZMA = archive(b"\x93NUMPY" * 100, zipfile.ZIP_LZMA)
FORGED_TABLES = {
    "no archive": b"PK",
    "nothing": b"",
    "one array": array_file("{'descr':'<i8','fortran_order':False,'shape':(1,)}", bytes(8)),
    "pickled objects": archive(array_file("{'descr':'|O','fortran_order':False,'shape':(1,)}")),
    "sums that are one too small": tables_summing_to(entropy.TOTAL - 4),
    "sums that are too large": tables_summing_to(2 * entropy.TOTAL),
    "a shape of eight terabytes": archive(shaped("(1099511627776,)")),
    "a shape beyond all integers": archive(shaped("(9223372036854775807, 9)")),
    "a shape below zero": archive(shaped("(-8, 8, 7)")),
    "a header that is cut": archive(array_file("{'descr':'<i8'")),
    "a header of odd lines": archive(array_file("  x\n y")),
    "a header of brackets": archive(array_file("(" * 90 + ")" * 90)),
    "a compression that nobody knows": flipped(STORED, (8, 99), (directory(STORED) + 10, 99)),
    "a password": flipped(STORED, (6, 1), (directory(STORED) + 8, 1)),
    "damaged LZMA": flipped(LZMA, (60, LZMA[60] ^ 255)),
}


@pytest.mark.parametrize("data", FORGED_TABLES.values(), ids=FORGED_TABLES.keys())
def test_forged_tables_are_a_damaged_model(forger: Forger, data: bytes) -> None:
    forger.put("tables.npz", data)
    with pytest.raises(DamagedModel):
        forger.decode()


@pytest.mark.slow
def test_tables_that_unpack_to_a_gigabyte_cost_little(tmp_path: Path) -> None:
    forger = Forger(tmp_path / "forged")
    bomb = archive(shaped("(1, 1, 134217728)") + bytes(1 << 27), zipfile.ZIP_DEFLATED)
    assert len(bomb) < 1 << 20
    forger.put("tables.npz", bomb)
    code = """
import resource, sys
from tactic_codec.errors import DamagedModel
from tactic_codec.model import find
model = find(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    model.tables(1)
except DamagedModel:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    assert int(python(code, str(forger.path))) < 300


Keys = tuple[str | int, ...]
VALUES: list[tuple[Keys, list[Any]]] = [
    (("normative", "stride"), [0, -1, 7, 1024, 1025, 2**20, 2**40, 10**30, True, 8.0, "8"]),
    (("normative", "channels"), [0, 7, 2**31, None]),
    (("normative", "levels", 0, "minimum"), [2**31, -(10**30), 0.5]),
    (("normative", "levels", 0, "own"), [[0], [3, 1], [1, 1], "135", None, [10**30]]),
    (("normative", "levels", 0, "inverse_gain"), [[], [0.0] * 8, [1e400] * 8, ["1"] * 8]),
    (("normative", "levels"), [[], {}, None]),
    (("halo",), [0, -4, "4"]),
    (("encoder", "default_level"), [0, 4, 2**64]),
    (("encoder", "offset"), [[0] * 3, [1e400] * 3, [0.5]]),
    (("files", "tables.npz", "bytes"), [0, 2**62, -1]),
]
FORGED_VALUES = {
    f"{'.'.join(map(str, keys))} = {value}"[:60]: (keys, value)
    for keys, values in VALUES
    for value in values
}


@pytest.mark.parametrize(("keys", "value"), FORGED_VALUES.values(), ids=FORGED_VALUES.keys())
def test_a_forged_manifest_is_a_damaged_model(forger: Forger, keys: Keys, value: Any) -> None:
    def change(manifest: Any) -> None:
        for key in keys[:-1]:
            manifest = manifest[key]
        manifest[keys[-1]] = value

    forger.edit(change)
    with pytest.raises(DamagedModel):
        forger.decode()


def graph(
    nodes: list[Any], inputs: list[Any] | None = None, outputs: list[Any] | None = None
) -> bytes:
    """An ONNX file that turns x into y."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, "h", "w"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    proto = helper.make_graph(
        nodes, "g", [x] if inputs is None else inputs, [y] if outputs is None else outputs
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


def constant(array: Any, inputs: list[Any] | None = None) -> bytes:
    """An ONNX file whose y is always the same."""
    value = numpy_helper.from_array(array)
    return graph([helper.make_node("Constant", [], ["y"], value=value)], inputs=inputs)


def external(location: str) -> bytes:
    """An ONNX file whose weights lie in another file."""
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1, 3, 16, 16])
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "3072")):
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
    model = onnx.load_from_string(graph([helper.make_node("Identity", ["w"], ["y"])]))
    model.graph.initializer.append(weights)
    return bytes(model.SerializeToString())


IDENTITY = [helper.make_node("Identity", ["x"], ["y"])]
INTEGERS = helper.make_tensor_value_info("x", TensorProto.INT64, None)
COLOURS = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "h", "w"])
SECOND = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
FORGED_NETWORKS = {
    "nothing": b"",
    "text": b"not a network",
    "a cut network": (TINY / "synthesis.onnx").read_bytes()[:5000],
    "a shape of its own": graph(IDENTITY),
    "a picture of another size": constant(np.zeros((1, 3, 8, 8), np.float32)),
    "a number": graph([helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)]),
    "no input": graph([helper.make_node("Constant", [], ["y"], value_float=1.0)], inputs=[]),
    "two inputs": graph([helper.make_node("Add", ["x", "z"], ["y"])], inputs=[COLOURS, SECOND]),
    "integers as input": graph(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)], inputs=[INTEGERS]
    ),
    "another number of channels": graph(IDENTITY, inputs=[COLOURS]),
    "no output": graph(IDENTITY, outputs=[]),
    "a pipe as weights": external("/dev/stdin"),
    "weights in a folder above": external("../weights.bin"),
    "weights in the folder in which it runs": external("weights.bin"),
    # Reporting it, ONNX Runtime trips over the name, which is not UTF-8.
    "an operator without a name": graph(IDENTITY).replace(b"Identity", b"\xffdentity"),
}


@pytest.mark.parametrize("data", FORGED_NETWORKS.values(), ids=FORGED_NETWORKS.keys())
def test_a_forged_network_is_a_damaged_model(
    forger: Forger,
    data: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for folder in (forger.path.parent, forger.path):
        (folder / "weights.bin").write_bytes(np.zeros(768, np.float32).tobytes())
    monkeypatch.chdir(forger.path)
    forger.put("synthesis.onnx", data)
    with pytest.raises(DamagedModel):
        forger.decode()
    # Standard output may be a picture on its way; nobody but the command line writes there.
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    "name", [name for name in FORGED_NETWORKS if name != "another number of channels"]
)
@pytest.mark.parametrize("task", ["segment", "detect"])
def test_a_forged_task_network_is_a_damaged_model(
    task: str, name: str, forger: Forger, capfd: pytest.CaptureFixture[str]
) -> None:
    """The codec beside it decodes as before."""
    head = segment_head() if task == "segment" else detect_head()
    forger.edit(lambda manifest: manifest["heads"].update({task: head}))
    forger.put(head["file"], FORGED_NETWORKS[name])
    codec = load_model(forger.path, device="cpu", threads=1)
    data = codec.compress(picture(side=SEGMENT_SIZE)).data
    assert codec.decompress(data).size == (SEGMENT_SIZE, SEGMENT_SIZE)
    with pytest.raises(DamagedModel):
        getattr(tasks, task)(data, codec=codec)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38], ids=str)
def test_a_network_of_no_numbers_gives_a_picture_and_no_warning(
    forger: Forger, value: float
) -> None:
    forger.put("synthesis.onnx", constant(np.full((1, 3, 16, 16), value, np.float32)))
    assert forger.decode().size == (9, 9)


def test_gains_that_overflow_give_a_picture_and_no_warning(forger: Forger) -> None:
    def change(manifest: Any) -> None:
        manifest["normative"]["levels"][0].update(minimum=1000, inverse_gain=[3e38] * 8)

    forger.edit(change)
    assert forger.decode().size == (9, 9)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38], ids=str)
def test_an_analysis_of_no_numbers_gives_a_frame_and_no_warning(
    forger: Forger, value: float
) -> None:
    latent = np.full((1, 8, 3, 3), value, np.float32)
    forger.put("analysis.onnx", constant(latent, [COLOURS]))
    codec = load_model(forger.path, device="cpu", threads=1)
    assert codec.model.decode_symbols(container.parse(codec.compress(picture()).data)).shape == (
        8,
        3,
        3,
    )


@pytest.mark.parametrize("shape", [(1, 3, 3, 3), (1, 8, 9, 9), (1, 8, 3), (8, 3, 3), ()], ids=str)
def test_an_analysis_of_another_shape_is_a_damaged_model(
    forger: Forger, shape: tuple[int, ...]
) -> None:
    forger.put("analysis.onnx", constant(np.zeros(shape, np.float32), [COLOURS]))
    with pytest.raises(DamagedModel):
        load_model(forger.path, device="cpu", threads=1).compress(picture())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_a_classifier_of_no_numbers_is_a_damaged_model(forger: Forger, value: float) -> None:
    """Its probabilities would be none, and no JSON could hold them."""
    codec = load_model(forger.path, device="cpu", threads=1)
    logits = np.zeros((1, len(codec.model.heads["classify"].labels)), np.float32)
    logits[0, 0] = value
    forger.put("classify.onnx", constant(logits, [COLOURS]))
    codec = load_model(forger.path, device="cpu", threads=1)
    with pytest.raises(DamagedModel):
        tasks.classify(codec.compress(picture()).data, codec=codec)


@pytest.mark.parametrize("shape", [(1,), (), (1, 4), (5,), (0, 5)], ids=str)
def test_a_classifier_of_another_shape_is_a_damaged_model(
    forger: Forger, shape: tuple[int, ...]
) -> None:
    forger.put("classify.onnx", constant(np.zeros(shape, np.float32), [COLOURS]))
    codec = load_model(forger.path, device="cpu", threads=1)
    with pytest.raises(DamagedModel):
        tasks.classify(codec.compress(picture()).data, codec=codec)


@pytest.mark.parametrize("name", ["tables.npz", "synthesis.onnx"])
@pytest.mark.parametrize("kind", ["folder", "link to a device", "pipe", "link to itself"])
def test_a_file_of_a_model_that_is_no_file(forger: Forger, name: str, kind: str) -> None:
    path = forger.path / name
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "link to itself":
        path.symlink_to(path)
    else:
        os.mkfifo(path)
    endings: list[str] = []

    def read() -> None:
        try:
            load_model(forger.path).model.read_file(name)
        except DamagedModel:
            endings.append("refused")

    # A pipe that nobody writes to would be waited for without end.
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(timeout=5)
    assert endings == ["refused"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["../tiny", "tiny/..", "..", "/", "a/../../b", "tiny\n", "\x1b[2J"]
)
def test_a_model_name_that_climbs_is_a_path_or_nothing(name: str, tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    result = tactic("compress", "-m", name, "a.png", "a.tac", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith(b"tactic: ")
    assert re.search(rb"[\x00-\x09\x0b-\x1f]", result.stderr) is None  # nothing a terminal obeys
    assert not (tmp_path / "a.tac").exists()


@pytest.mark.slow
def test_a_manifest_cannot_speak_to_the_terminal(forger: Forger, tmp_path: Path) -> None:
    forger.edit(lambda manifest: manifest.update(name="\x1b[2Jtiny\r\nOK"))
    picture().save(tmp_path / "a.png")
    model = load_model(forger.path).model
    (tmp_path / "a.tac").write_bytes(container.pack(Frame(model.fingerprint, 9, 8, 8, b"")))
    for args in (("decompress", "-m", forger.path, "a.tac", "b.png"), ("models", "list")):
        environment = ENVIRONMENT | {"TACTIC_MODELS": str(tmp_path)}
        run = subprocess.run(
            [sys.executable, "-m", "tactic_codec", *args],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            timeout=TIMEOUT,
        )
        assert re.search(rb"[\x00-\x09\x0b-\x1f]", run.stdout + run.stderr) is None
        assert b"tiny" in run.stdout + run.stderr


def test_a_network_cannot_speak_to_the_terminal(forger: Forger, tmp_path: Path) -> None:
    """What ONNX Runtime says of a network that fails holds the names of its nodes."""
    nodes = [
        helper.make_node("Constant", [], ["shape"], value_ints=[7]),
        helper.make_node("Reshape", ["x", "shape"], ["y"], name="\x1b[2J\r\nOK"),
    ]
    forger.put("synthesis.onnx", graph(nodes))
    frame = Frame(load_model(forger.path).model.fingerprint, 1, 8, 8, b"")
    (tmp_path / "a.tac").write_bytes(container.pack(frame))
    result = tactic("decompress", "-m", forger.path, "a.tac", "-", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stdout == b""
    assert re.fullmatch(rb"tactic: a\.tac: [\x20-\x7e]+\n", result.stderr), result.stderr


# --- Files that are none --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("command", ["info", "test", "segment"])
@pytest.mark.parametrize("target", ["/dev/zero", "/dev/urandom", "loop", "missing", "folder"])
def test_inputs_that_never_end_or_never_begin(
    command: str, target: str, tmp_path: Path, eyes: Path
) -> None:
    link = tmp_path / "link.tac"
    (tmp_path / "folder").mkdir()
    link.symlink_to("link.tac" if target == "loop" else target)
    more = ("out.png", "-m", eyes) if command == "segment" else ()
    result = tactic(command, "link.tac", *more, cwd=tmp_path)
    assert result.returncode == 1
    assert not (tmp_path / "out.png").exists()
    assert result.stderr.startswith(b"tactic: link.tac: ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("target", ["/dev/zero", "/dev/urandom", "loop", "missing"])
def test_pictures_that_are_devices(target: str, tmp_path: Path) -> None:
    link = tmp_path / "link.png"
    link.symlink_to("link.png" if target == "loop" else target)
    result = tactic("compress", "-m", "tiny", "link.png", "a.tac", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith(b"tactic: link.png: ")
    assert os.listdir(tmp_path) == ["link.png"]


def test_an_output_that_is_a_link_to_itself(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    (tmp_path / "a.tac").symlink_to("a.tac")
    result = tactic("compress", "-m", "tiny", "a.png", "a.tac", cwd=tmp_path)
    assert b"Traceback" not in result.stderr
    assert sorted(os.listdir(tmp_path)) == ["a.png", "a.tac"]
    if result.returncode == 0:  # the link was replaced
        assert container.parse((tmp_path / "a.tac").read_bytes()).width == 24


def test_folders_that_link_to_each_other_are_walked_once(tmp_path: Path, tiny: Codec) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "up").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "deep" / "a.tac").write_bytes(tiny.compress(picture()).data)
    result = tactic("decompress", "-r", "in", "out/", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()] == ["a.png"]


# --- Outputs that fail ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("command", ["decompress", "segment"])
def test_a_disk_that_is_full_leaves_nothing(command: str, tmp_path: Path, eyes: Path) -> None:
    """Files may have 64 bytes here, then writing fails as on a full disk."""
    (tmp_path / "a.tac").write_bytes(load_model(TINY).compress(picture(side=64)).data)
    result = on_a_full_disk(command, "-m", eyes, "a.tac", "b.png", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == b"tactic: a.tac: File too large: b.png\n"
    assert os.listdir(tmp_path) == ["a.tac"]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["decompress", "segment"])
def test_what_was_there_survives_a_disk_that_is_full(
    command: str, tmp_path: Path, eyes: Path
) -> None:
    (tmp_path / "a.tac").write_bytes(load_model(TINY).compress(picture(side=64)).data)
    (tmp_path / "b.png").write_bytes(b"precious")
    result = on_a_full_disk(command, "-f", "-m", eyes, "a.tac", "b.png", cwd=tmp_path)
    assert result.returncode == 1
    assert (tmp_path / "b.png").read_bytes() == b"precious"


def on_a_full_disk(*args: str | Path, cwd: Path) -> "subprocess.CompletedProcess[bytes]":
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))

    return tactic(*args, cwd=cwd, preexec_fn=limit)


# --- Killed ---------------------------------------------------------------------------------------

# Imports once, then for each line of its input forks a child that runs a command and prints its id.
# How the child ended is asked for by another line: until then its id stays its own, also where it
# has ended, and a signal finds no other process and not none.
# ONNX Runtime is left to the child, because its threads would not live through the fork.
SERVER = """
import os, sys
import numpy, PIL.PngImagePlugin
from tactic_codec import picture as image, model, tasks
from tactic_codec.cli import asking, coding, main, segmenting
for line in iter(sys.stdin.readline, ""):
    child = os.fork()
    if child == 0:
        os.close(0)
        main(line.split(), prog_name="tactic")
    print(child, flush=True)
    sys.stdin.readline()
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SERVER],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["decompress", "segment"])
def test_killed_at_any_moment(
    command: str, server: "subprocess.Popen[str]", tmp_path: Path, eyes: Path
) -> None:
    """Never half an output; what a killed run leaves behind is gone after the next one."""
    command = f"{command} -f -m {eyes}"
    codec = load_model(TINY, device="cpu", threads=1)
    frame = codec.compress(picture(side=200)).data
    (tmp_path / "in").mkdir()
    for number in range(6):
        (tmp_path / "in" / f"{number}.tac").write_bytes(frame)
    _start(server, f"{command} in/0.tac one.png")
    assert _status(server) == 0
    size = (tmp_path / "one.png").stat().st_size
    source = random.Random(3)
    endings = {"whole": 0, "killed": 0}
    duration = 0.1
    for _ in range(200):
        child = _start(server, f"{command} -r in out/")
        start = time.perf_counter()
        time.sleep(source.uniform(0, 1.1 * duration))
        os.kill(child, signal.SIGKILL)
        status = _status(server)
        endings["whole" if status == 0 else "killed"] += 1
        if status == 0:
            duration = min(duration, time.perf_counter() - start)
        for file in (tmp_path / "out").glob("*.png"):
            assert file.stat().st_size == size
    assert endings["killed"] > 20
    _start(server, f"{command} -r in out/")
    assert _status(server) == 0
    assert sorted(os.listdir(tmp_path / "out")) == [f"{number}.png" for number in range(6)]


def _start(server: "subprocess.Popen[str]", command: str) -> int:
    """Have a command run and return the id of its process."""
    assert server.stdin and server.stdout
    print(command, file=server.stdin, flush=True)
    return int(server.stdout.readline())


def _status(server: "subprocess.Popen[str]") -> int:
    """Wait for the command and return how it ended."""
    assert server.stdin and server.stdout
    print(file=server.stdin, flush=True)
    return int(server.stdout.readline())


# Kills itself at the given step of writing a file.
KILLED = """
import os, signal, sys
from tactic_codec.cli import files
step, path = sys.argv[1:]
def dying(name, before):
    real = getattr(os, name)
    def call(*args, **kwargs):
        if before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs)
        if not before:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(os, name, call)
if step != "none":
    name, _, when = step.partition(" ")
    dying(name, when == "before")
files.write(path, b"n" * 100_000, force=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("step", ["open before", "open after", "replace before", "replace after"])
def test_killed_at_each_step_of_writing(step: str, tmp_path: Path) -> None:
    path = tmp_path / "out.tac"
    path.write_bytes(b"old")
    command = [sys.executable, "-c", KILLED, step, str(path)]
    run = subprocess.run(command, env=ENVIRONMENT, timeout=TIMEOUT)
    assert run.returncode == -signal.SIGKILL
    assert path.read_bytes() == (b"n" * 100_000 if step == "replace after" else b"old")
    python(KILLED, "none", str(path))
    assert path.read_bytes() == b"n" * 100_000
    assert os.listdir(tmp_path) == ["out.tac"]


# --- Two at once ----------------------------------------------------------------------------------


def test_many_writers_of_one_file_leave_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.tac"
    contents = [bytes([number]) * 300_000 for number in range(8)]

    def write(content: bytes) -> None:
        for _ in range(20):
            files.write(str(path), content, force=True)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            assert path.read_bytes() in contents
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert os.listdir(tmp_path) == ["out.tac"]


@pytest.mark.slow
def test_of_two_processes_without_leave_to_overwrite_one_wins(tmp_path: Path) -> None:
    inputs = []
    for number in range(4):
        picture(number).save(tmp_path / f"{number}.png")
        command = [sys.executable, "-m", "tactic_codec", "compress", "-m", "tiny"]
        inputs.append([*command, f"{number}.png", "out.tac"])
    runs = [
        subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE)
        for command in inputs
    ]
    said = [run.communicate(timeout=TIMEOUT)[1] for run in runs]
    assert sorted(run.returncode for run in runs) == [0, 1, 1, 1], said
    winner = [run.returncode for run in runs].index(0)
    expected = load_model(TINY).compress(picture(winner)).data
    assert (tmp_path / "out.tac").read_bytes() == expected
    assert len(os.listdir(tmp_path)) == 5


def test_a_file_that_appears_at_the_last_moment_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking whether an output is there is not enough: another's may come behind the look."""
    path = tmp_path / "out.tac"
    path.write_bytes(b"another's")
    looked = os.path.exists
    too_early = lambda name: os.fspath(name) != str(path) and looked(name)  # noqa: E731
    monkeypatch.setattr(os.path, "exists", too_early)
    with pytest.raises(OutputExists):
        files.write(str(path), b"ours", force=False)
    monkeypatch.undo()
    assert path.read_bytes() == b"another's"
    assert os.listdir(tmp_path) == ["out.tac"]


# --- Many -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ten_thousand_files_of_which_a_hundred_are_damaged(tmp_path: Path) -> None:
    codec = load_model(TINY, device="cpu", threads=1)
    folder = tmp_path / "in"
    folder.mkdir()
    frames = [codec.compress(picture(seed, 8)).data for seed in range(97)]
    whole = {}
    for number in range(10_000):
        frame = frames[number % len(frames)]
        if number % 100 == 50:
            kind = number // 100 % 4
            data = [frame[:-1], b"", frame[:-5] + bytes([frame[-5] ^ 1]) + frame[-4:], b"x" + frame]
            frame = data[kind]
        else:
            whole[f"{number:05}.ppm"] = number % len(frames)
        (folder / f"{number:05}.tac").write_bytes(frame)

    result = tactic("decompress", "-r", "--format", "ppm", "in", "out/", cwd=tmp_path)
    assert result.returncode == 1
    complaints = result.stderr.decode().splitlines()
    named = [re.match(r"tactic: in/(\d+)\.tac: .+", line) for line in complaints]
    assert [int(match[1]) for match in named if match] == list(range(50, 10_000, 100))
    assert len(complaints) == 100
    pictures = [np.asarray(codec.decompress(frame)).tobytes() for frame in frames]
    assert sorted(os.listdir(tmp_path / "out")) == sorted(whole)
    for name, number in whole.items():
        assert (tmp_path / "out" / name).read_bytes().endswith(pictures[number])


@pytest.mark.slow
def test_a_thousand_frames_of_which_ten_are_damaged_are_segmented(
    tmp_path: Path, eyes: Path
) -> None:
    """As one stream and as files: every whole frame has its own label map, and no other has one."""
    codec = load_model(eyes, device="cpu", threads=1)
    (tmp_path / "in").mkdir()
    frames = [codec.compress(picture(seed, 8 + seed)).data for seed in range(7)]
    maps = [tasks.segment(frame, codec=codec).to_png() for frame in frames]
    whole, stream = {}, b""
    for number in range(1, 1001):
        frame = frames[number % len(frames)]
        if number % 100 == 50:
            frame = frame[:-5] + bytes([frame[-5] ^ 1]) + frame[-4:]
        else:
            whole[f"{number:04}"] = maps[number % len(frames)]
        (tmp_path / "in" / f"{number:04}.tac").write_bytes(frame)
        stream += frame
    (tmp_path / "s.tac").write_bytes(stream)
    result = tactic("segment", "-r", "-m", eyes, "in", "s.tac", "out/", cwd=tmp_path)
    assert result.returncode == 1
    complaints = result.stderr.decode().splitlines()
    wrong = range(50, 1001, 100)
    for line, title in zip(
        complaints,
        [f"in/{number:04}.tac" for number in wrong] + [f"s.tac: frame {n}" for n in wrong],
        strict=True,
    ):
        assert line.startswith(f"tactic: {title}: checksum ")
    found = {path.stem: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert found == whole | {f"s-{number}": data for number, data in whole.items()}


def test_errors_are_never_silent(tiny: Codec) -> None:
    """Every cut of a small file is told apart from a picture."""
    data = tiny.compress(picture(side=9)).data
    for length in range(len(data)):
        with pytest.raises(Truncated):
            tiny.decompress(data[:length])
    with pytest.raises(TacError):
        tiny.decompress(data + b"\0")
