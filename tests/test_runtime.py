"""ONNX Runtime, torch, one thread or two: the same symbols, and pictures that look the same."""

import itertools
import math
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from conftest import PHOTOGRAPHS, TINY, Spoilt
from onnx import helper

from tactic_codec import codec as codec_room
from tactic_codec import container, tasks
from tactic_codec import picture as image
from tactic_codec.codec import Codec, load_model
from tactic_codec.errors import BackendUnavailable, DamagedModel, TacError, UnknownTask
from tactic_codec.model import Model
from tactic_codec.networks.folder import load_network, load_start
from tactic_codec.runtime import DEVICES, open_runtime
from tactic_codec.runtime.fusing import fused
from tactic_codec.runtime.narrowing import narrowed
from tactic_codec.runtime.onnx import ort

pytestmark = pytest.mark.usefixtures("one_torch_thread", "tiny_head")

OTHERS = [("cpu", 2), ("cpu", None), ("auto", 1), ("torch-cpu", 1), ("torch-cpu", 2)]


# --- The same result everywhere -------------------------------------------------------------------


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_room, "TILE", 16 * 20)
    monkeypatch.setattr(codec_room, "HALOS_PER_TILE", {"analysis": 1, "synthesis": 1})


def watched(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Return a list to which the shapes are added that networks give from now on."""
    shapes: list[tuple[int, ...]] = []
    run = codec.runtime.run

    def spy(network: str, array: np.ndarray[Any, Any], **options: Any) -> Any:
        result = run(network, array, **options)
        shapes.append(result.shape)
        return result

    monkeypatch.setattr(codec.runtime, "run", spy)
    return shapes


@pytest.mark.parametrize("device", ["cpu", "fast"])
def test_strips_of_tiles_are_the_whole_picture_to_the_bit(
    device: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """With the default model, whose synthesis leaves out of each tile what its core needs not."""
    codec = load_model(device=device, threads=1)
    shape = (codec.model.channels, 70, 70)
    symbols = np.random.default_rng(1).integers(-4, 5, shape).astype(np.int8)
    frame = container.Frame(codec.model.fingerprint, 4, 16 * 70 - 5, 16 * 70 - 9, b"")
    monkeypatch.setitem(codec_room.WITH_HALOS, "synthesis", 4096)
    monkeypatch.setattr(codec_room, "TILE", 4096)
    whole = codec.synthesise(symbols, frame)
    request.getfixturevalue("small_tiles")
    shapes = watched(codec, monkeypatch)
    strips = codec.strips(symbols, frame)
    assert strips[:2] == (frame.width, frame.height)
    found = list(strips.rows)
    assert [len(rows) for rows in found] == [560, 551]
    np.testing.assert_array_equal(np.concatenate(found), whole)
    assert len(shapes) == 6
    assert sum(math.prod(shape) for shape in shapes) == 3 * 16**2 * 70 * 70  # cores alone
    monkeypatch.setattr(codec_room, "TILE", 4096)
    again = codec.synthesise(symbols, frame)  # by the network for tiles, which is loaded by now
    np.testing.assert_array_equal(again, whole)
    assert len(shapes) == 7


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(("device", "error"), [("cpu", 1e-5), ("auto", 0.03)])
def test_a_latent_of_tiles_is_that_of_the_whole_picture(
    device: str, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the default model, which leaves out of each tile what its core needs not.

    Sums have another order, and in 8 bits their last digit decides how some are rounded.
    """
    codec = load_model(device=device, threads=1)
    pixels = np.random.default_rng(1).integers(0, 256, (16 * 44 - 5, 16 * 64 - 9, 3), np.uint8)
    shapes = watched(codec, monkeypatch)
    found = codec.analyse(pixels)
    cores = [math.prod(shape) for shape in shapes]
    assert len(cores) > 1
    assert sum(cores) == found.size
    monkeypatch.setattr(codec_room, "TILE", 4096)
    np.testing.assert_allclose(found, codec.analyse(pixels), rtol=0, atol=error)


def test_a_synthesis_whose_sums_are_fused_makes_the_same_picture(tmp_path: Path) -> None:
    """But for the order of sums. In tiles and as a whole, all but the last two are fused."""
    model = load_model().model
    data = model.read_file("synthesis.onnx")
    y_hat = np.random.default_rng(1).normal(size=(1, model.channels, 6, 5)).astype(np.float32)
    found, kinds = [], []
    networks = {"plain": data, "fused": fused(data), "in tiles": narrowed(fused(data)).data}
    for name, network in networks.items():
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / name)
        options.log_severity_level = 4
        session = ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        cuts = {cut.name: np.zeros(8, np.int64) for cut in session.get_inputs()[1:]}
        found.append(session.run(None, {session.get_inputs()[0].name: y_hat, **cuts})[0])
        kinds.append(Counter(node.op_type for node in onnx.load(tmp_path / name).graph.node))
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found[1], found[2])
    if kinds[0]["ReorderInput"]:  # ONNX Runtime keeps channels in blocks
        assert [found["Add"] for found in kinds] == [14, 2, 2]


def test_a_network_of_other_layers_is_not_fused(tiny: Codec) -> None:
    """And neither is what is no network, or has too many fields."""
    model = load_model().model
    others = [tiny.model.read_file("synthesis.onnx"), model.read_file("synthesis.8bit.onnx")]
    for data in (*others, b"", b"\x3a", b"\x0f" * 9, b"\xff" * 10**6, b"\x08\x01" * 10**6):
        assert fused(data) == data
    data = model.read_file("synthesis.onnx")
    assert all(fused(data[:cut]) == data[:cut] for cut in range(0, len(data), 50_000))


@pytest.mark.parametrize("channels", [0, 2**40, -1])
def test_a_network_that_claims_too_many_channels_is_not_fused(channels: int) -> None:
    weights = helper.make_tensor("weights", onnx.TensorProto.FLOAT, [1, 4, 1, 1], [1.0] * 4)
    nodes = [
        helper.make_node("DepthToSpace", ["x"], ["wide"], blocksize=2),
        helper.make_node("Conv", ["wide", "weights"], ["y"], kernel_shape=[1, 1]),
    ]
    x, y, wide = (
        helper.make_tensor_value_info(name, 1, [1, count, "h", "w"])
        for name, count in (("x", 16), ("y", 1), ("wide", 4))
    )
    graph = helper.make_graph(nodes, "net", [x], [y], [weights], value_info=[wide])
    proto = helper.make_model(graph)
    assert len(fused(proto.SerializeToString())) > proto.ByteSize()
    proto.graph.value_info[0].type.tensor_type.shape.dim[1].dim_value = channels
    data = proto.SerializeToString()
    assert fused(data) == data


def test_a_network_of_other_layers_is_not_narrowed(tiny: Codec) -> None:
    """And neither is what is no network; what is, says so when it is loaded."""
    for data in (
        tiny.model.read_file("synthesis.onnx"),
        b"",
        b"\x3a",
        b"\x0f" * 9,
        b"\xff" * 10**6,
    ):
        assert narrowed(data) == (data, [], None)
    data = load_model().model.read_file("synthesis.onnx")
    for cut in range(0, len(data), 50_000):
        assert narrowed(data[:cut]) == (data[:cut], [], None)


@pytest.mark.parametrize(
    ("blocksize", "count", "inputs"), [(2**62, 9, 1), (1, 5000, 1), (1, 1, 50_000)]
)
def test_a_network_that_takes_too_much_is_not_narrowed(
    blocksize: int, count: int, inputs: int
) -> None:
    """Enlarged without end, of too many layers, or with a layer of too many inputs."""
    names = ["x", *(f"y{number}" for number in range(count))]
    nodes = [
        helper.make_node("DepthToSpace", [a] * inputs, [b], blocksize=blocksize)
        for a, b in itertools.pairwise(names)
    ]
    ends = [helper.make_tensor_value_info(n, 1, [1, 4, "h", "w"]) for n in (names[0], names[-1])]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:])
    data = helper.make_model(graph).SerializeToString()
    assert narrowed(data) == (data, [], None)


@pytest.mark.slow
@pytest.mark.parametrize(("device", "threads"), OTHERS)
@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda p: p.stem)
def test_a_file_decodes_alike_everywhere(
    tiny: Codec, path: Path, device: str, threads: int | None
) -> None:
    other = load_model(TINY, device=device, threads=threads)
    for level in (1, 3):
        frame = container.parse(tiny.compress(path, level).data)
        np.testing.assert_array_equal(
            other.model.decode_symbols(frame), tiny.model.decode_symbols(frame)
        )
        difference = other.decode(frame).astype(int) - tiny.decode(frame)
        assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(("device", "threads"), OTHERS)
def test_a_file_written_elsewhere_is_much_the_same(
    tiny: Codec, device: str, threads: int | None
) -> None:
    other = load_model(TINY, device=device, threads=threads)
    pixels = image.load(PHOTOGRAPHS[0])
    np.testing.assert_allclose(other.analyse(pixels), tiny.analyse(pixels), atol=1e-4)
    frame = container.parse(other.compress(pixels).data)
    ours = tiny.quantise(tiny.analyse(pixels), 2)
    # A latent that lies on a half may be rounded the other way: one symbol in 10,000.
    assert np.count_nonzero(other.model.decode_symbols(frame) - ours) <= ours.size // 10_000


@pytest.mark.slow
@pytest.mark.parametrize(("device", "threads"), OTHERS)
def test_a_file_is_classified_alike_everywhere(
    tiny: Codec, device: str, threads: int | None
) -> None:
    other = load_model(TINY, device=device, threads=threads)
    for path in PHOTOGRAPHS:
        data = tiny.compress(path).data
        expected, found = tasks.classify(data, codec=tiny), tasks.classify(data, codec=other)
        assert [p.index for p in found] == [p.index for p in expected]
        for one, two in zip(expected, found, strict=True):
            assert two.probability == pytest.approx(one.probability, abs=1e-3)


def test_networks_return_float32_of_the_stated_shapes() -> None:
    for device in ("cpu", "torch-cpu"):
        runtime = open_runtime(Model(TINY), device, threads=1)
        shapes = {
            "analysis": ((1, 3, 16, 40), (1, 8, 2, 5)),
            "synthesis": ((1, 8, 2, 5), (1, 3, 16, 40)),
            "classify": ((1, 3, 64, 64), (1, 5)),
        }
        for network, (given, expected) in shapes.items():
            result = runtime.run(network, np.zeros(given, np.float32))
            assert result.dtype == np.float32
            assert result.shape == expected


# --- What is not there ----------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["gpu", "", "CPU", "cuda:1", "torch"])
def test_an_unknown_device_is_refused_with_those_known(device: str) -> None:
    with pytest.raises(ValueError, match=f"unknown device '{device}'; expected one of") as caught:
        load_model(TINY, device=device)
    assert all(known in str(caught.value) for known in DEVICES)


@pytest.mark.parametrize("device", ["cpu", "torch-cpu"])
def test_a_task_that_the_model_lacks_is_refused(device: str) -> None:
    runtime = open_runtime(Model(TINY), device, threads=1)
    with pytest.raises(UnknownTask, match="tiny cannot segment"):
        runtime.run("segment", np.zeros((1, 3, 64, 64), np.float32))


def test_cuda_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendUnavailable, match="no CUDA device here; use --device cpu"):
        load_model(TINY, device="cuda")


WITHOUT = """
import sys
from pathlib import Path
sys.modules[sys.argv[2]] = None  # importing it then fails as where it is not installed
from tactic_codec.codec import load_model
from tactic_codec.errors import BackendUnavailable
codec = load_model(Path(sys.argv[1]), device="cpu")
for device in ("torch-cpu", "cuda"):
    try:
        load_model(Path(sys.argv[1]), device=device)
    except BackendUnavailable as error:
        print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("package", ["torch", "safetensors"])
def test_torch_that_is_not_installed_is_said(
    package: str, checkout_on_path: dict[str, str]
) -> None:
    command = [sys.executable, "-c", WITHOUT, TINY, package]
    run = subprocess.run(command, env=checkout_on_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    advice = "this device needs torch; run: pip install torch torchvision safetensors onnx\n"
    assert run.stdout == 2 * advice


# --- Damaged networks -----------------------------------------------------------------------------


def test_torch_s_want_of_memory_is_memory_s(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = open_runtime(Model(TINY), device="torch-cpu", threads=1)
    latent = np.zeros((1, 4, 2, 2), np.float32)
    for message in (
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 9007199254740992 bytes. Error code 12 (Cannot allocate memory)",
        "CUDA out of memory. Tried to allocate 2.00 GiB.",
    ):

        def short(*_: Any, message: str = message) -> None:
            raise RuntimeError(message)

        monkeypatch.setattr("torch.nn.Module.__call__", short)
        with pytest.raises(MemoryError):
            runtime.run("synthesis", latent)
    monkeypatch.setattr("torch.nn.Module.__call__", lambda *_: torch.zeros(1) @ torch.zeros(2, 1))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        runtime.run("synthesis", latent)
    with pytest.raises(RuntimeError, match="can't allocate memory"):  # as torch says it today
        torch.empty(1 << 50)


def test_onnx_runtime_s_want_of_memory_is_memory_s() -> None:
    """A real one, in a process that may not have the memory."""
    code = f"""
import resource, numpy as np
from pathlib import Path
from tactic_codec.model import Model
from tactic_codec.runtime import open_runtime
runtime = open_runtime(Model(Path({str(TINY)!r})), device="cpu", threads=1)
picture = np.zeros((1, 3, 4096, 4096), np.float32)
runtime.run("analysis", picture[..., :64, :64])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 1_000_000, used + 1_000_000))
try:
    runtime.run("analysis", picture)
except MemoryError as exc:
    print("short:", exc)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.startswith("short:"), run


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x08\x0a" * 50], ids=["empty", "text", "cut"])
@pytest.mark.parametrize("network", ["analysis", "synthesis", "classify"])
def test_what_is_no_onnx_network_is_refused(spoilt: Spoilt, network: str, data: bytes) -> None:
    spoilt.put(f"{network}.onnx", data)
    runtime = open_runtime(spoilt.model, "cpu", threads=1)
    with pytest.raises(DamagedModel, match=rf"{network}\.onnx is not a network") as caught:
        runtime.run(network, np.zeros((1, 3, 64, 64), np.float32))
    assert str(spoilt.path) in str(caught.value)


def test_a_network_that_differs_from_the_manifest_is_never_run(spoilt: Spoilt) -> None:
    for device, name in (("cpu", "analysis.onnx"), ("torch-cpu", "weights.safetensors")):
        data = bytearray((spoilt.path / name).read_bytes())
        data[-1] ^= 1
        (spoilt.path / name).write_bytes(data)
        runtime = open_runtime(spoilt.model, device, threads=1)
        with pytest.raises(DamagedModel, match=f"{name} differs from the manifest"):
            runtime.run("analysis", np.zeros((1, 3, 64, 64), np.float32))


def weights(change: Callable[[dict[str, Any]], None]) -> bytes:
    tensors = safetensors.torch.load_file(TINY / "weights.safetensors")
    change(tensors)
    return safetensors.torch.save(tensors)


WEIGHTS = {
    "no safetensors": b"garbage",
    "empty": b"",
    "missing": weights(lambda w: w.pop("analysis.layers.0.bias")),
    "unexpected": weights(lambda w: w.update({"analysis.other": torch.zeros(1)})),
    "shape": weights(lambda w: w.update({"analysis.layers.0.bias": torch.zeros(9)})),
}


@pytest.mark.parametrize("data", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_that_do_not_fit_are_refused(spoilt: Spoilt, data: bytes) -> None:
    spoilt.put("weights.safetensors", data)
    runtime = open_runtime(spoilt.model, "torch-cpu", threads=1)
    with pytest.raises(DamagedModel, match=r"weights\.safetensors does not fit the manifest"):
        runtime.run("analysis", np.zeros((1, 3, 64, 64), np.float32))


@pytest.fixture
def once(spoilt: Spoilt, tiny_head: object) -> Spoilt:
    """A model whose classifier's weights stand in its ONNX file alone."""
    names = [f"classify.{layer}.{kind}" for layer in (0, 4) for kind in ("weight", "bias")]
    spoilt.put("weights.safetensors", weights(lambda w: [w.pop(name) for name in names]))
    return spoilt


def test_a_task_network_s_weights_may_stand_in_its_onnx_file_alone(once: Spoilt) -> None:
    picture = np.random.default_rng(1).random((1, 3, 64, 64), np.float32)
    found, expected = (
        open_runtime(once.model, device, threads=1).run("classify", picture)
        for device in ("torch-cpu", "cpu")
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    start = load_start(once.model, "classify")
    assert start["head.4.bias"].dtype == torch.float32
    assert {k for k in start if k.startswith("classify.")} == set()


@pytest.mark.parametrize(
    "data",
    [b"garbage", b"", (TINY / "analysis.onnx").read_bytes()],
    ids=("text", "nothing", "other"),
)
def test_weights_from_a_damaged_onnx_file_are_refused(once: Spoilt, data: bytes) -> None:
    once.put("classify.onnx", data)
    with pytest.raises(DamagedModel, match=r"classify\.onnx does not fit the manifest"):
        load_network(once.model, "classify")


def test_weights_outside_an_onnx_file_are_not_read(once: Spoilt, tmp_path: Path) -> None:
    network = onnx.load(once.path / "classify.onnx")
    (bias,) = (t for t in network.graph.initializer if t.name == "4.bias.half")
    (tmp_path / "secret").write_bytes(bias.raw_data)
    bias.ClearField("raw_data")
    bias.data_location = onnx.TensorProto.EXTERNAL
    bias.external_data.add(key="location", value=str(tmp_path / "secret"))
    once.put("classify.onnx", network.SerializeToString())
    with pytest.raises(DamagedModel, match="does not fit the manifest"):
        load_network(once.model, "classify")


@pytest.mark.parametrize(
    ("keys", "value", "network"),
    [
        (("network",), ..., "analysis"),
        (("network",), 5, "analysis"),
        (("network", "latent"), ..., "synthesis"),
        (("network", "latent"), "8", "synthesis"),
        (("network", "latent"), -8, "analysis"),
        (("network", "synthesis"), [8], "synthesis"),
        (("heads", "classify", "network"), "unheard-of", "classify"),
    ],
    ids=str,
)
def test_a_network_that_cannot_be_built_is_refused(
    spoilt: Spoilt, keys: tuple[str, ...], value: Any, network: str
) -> None:
    spoilt.set(*keys, to=value)
    runtime = open_runtime(spoilt.model, "torch-cpu", threads=1)
    with pytest.raises(DamagedModel, match=rf"model\.json describes no {network}"):
        runtime.run(network, np.zeros((1, 3, 64, 64), np.float32))


def test_only_what_is_run_is_read(spoilt: Spoilt) -> None:
    for name in ("analysis.onnx", "classify.onnx", "weights.safetensors"):
        (spoilt.path / name).unlink()
    codec = load_model(spoilt.path, device="cpu", threads=1)
    data = load_model(TINY, device="cpu", threads=1).compress(PHOTOGRAPHS[0]).data
    assert codec.decompress(data).size
    with pytest.raises(TacError, match=r"analysis\.onnx cannot be read"):
        codec.compress(PHOTOGRAPHS[0])


def test_a_network_is_loaded_ahead_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads a picture meanwhile asks for it, and then the codec does."""
    started: list[threading.Thread] = []
    monkeypatch.setattr(threading.Thread, "start", lambda thread: started.append(thread))
    runtime = open_runtime(Model(TINY), "cpu")
    for network in ("analysis", "synthesis", "analysis"):
        runtime.open_ahead(network)
    assert len(started) == 2
