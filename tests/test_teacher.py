"""Networks as ONNX files that teach: read with care, turned into torch, compared."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from conftest import ROOT
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from tactic_codec import cli, picture
from tactic_codec.errors import ConfigError, UnsupportedNetwork
from tactic_codec.runtime import folding
from tactic_codec.training import foreign, teacher
from tactic_codec.training.config import TeacherConfig, load_config, parse_config, parse_teacher

pytestmark = pytest.mark.usefixtures("one_torch_thread")

RANDOM = np.random.default_rng(3)
PICTURE = RANDOM.integers(0, 256, (64, 96, 3), np.uint8)
CROPS = torch.from_numpy(RANDOM.integers(0, 256, (4, 3, 64, 96), np.uint8))


def weight(name: str, *shape: int) -> Any:
    return numpy_helper.from_array(RANDOM.normal(0, 0.3, shape).astype(np.float32), name)


def values(name: str, *numbers: float, kind: Any = np.float32) -> Any:
    return numpy_helper.from_array(np.array(numbers, kind), name)


def network(
    nodes: list[Any], weights: list[Any], *, outputs: tuple[str, ...] = ("scores",), **more: Any
) -> Any:
    shape = more.get("shape", [1, 3, "h", "w"])
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(more.get("input", "x"), more.get("kind", 1), shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        weights,
    )
    opset = [helper.make_opsetid("", 17), *more.get("opset", [])]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def detector(**more: Any) -> Any:
    """Two convolutions, and outputs of two kinds behind them."""
    return network(
        [
            helper.make_node("Conv", ["x", "w1"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["features"]),
            helper.make_node("Conv", ["features", "w2"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["scores"]),
            helper.make_node("Conv", ["features", "w3"], ["boxes"]),
        ],
        [weight("w1", 8, 3, 3, 3), weight("w2", 2, 8, 1, 1), weight("w3", 4, 8, 1, 1)],
        outputs=more.pop("outputs", ("scores", "boxes")),
        **more,
    )


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Any], str]:
    def save(proto: Any) -> str:
        path = tmp_path / "nets" / "net.onnx"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
        return str(path)

    return save


def load(path: str, *settings: str, outputs: tuple[str, ...] = ()) -> teacher.Teacher:
    reading = parse_teacher(path, settings, outputs)
    (made,) = teacher.load([reading], PICTURE, CROPS, lambda line: None).teachers
    assert isinstance(made, teacher.Teacher)
    return made


# --- What it says ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_distance_is_the_formula_by_onnx_runtime(saved: Callable[[Any], str]) -> None:
    """Each output's squared difference over its variance, by the other runtime's own numbers."""
    path = saved(detector())
    made = load(path, "range=255", "mean=100", "std=50", "order=bgr")
    other = RANDOM.integers(0, 256, PICTURE.shape, np.uint8)
    network = foreign.read(made.reading)
    session = network.open()

    def ask(pixels: NDArray[np.uint8]) -> list[NDArray[Any]]:
        return session.run(network.array(pixels))

    crops = [ask(crop) for crop in CROPS.permute(0, 2, 3, 1).numpy()]
    spreads = [np.std([crop[k] for crop in crops]) for k in range(2)]
    pairs = zip(ask(PICTURE), ask(other), spreads, strict=True)
    expected = np.mean([((a - b) ** 2).mean() / spread**2 for a, b, spread in pairs])
    x, y = (torch.from_numpy(p / np.float32(255)).permute(2, 0, 1)[None] for p in (PICTURE, other))
    assert made.distance(y, x).item() == pytest.approx(expected, rel=1e-3)
    # Of noise one picture is as far from the other as it can be.
    assert 1 < expected < 3
    assert made.distance(x, x).item() == 0


def test_a_gradient_reaches_the_decoded_picture(saved: Callable[[Any], str]) -> None:
    made = load(saved(detector()), "range=255", "std=60")
    x = CROPS.float() / 255
    x_hat = (x + 0.05).requires_grad_()
    made.distance(x_hat, x).sum().backward()
    assert x_hat.grad is not None
    assert x_hat.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in made.parameters())


def test_one_picture_at_a_time_where_a_graph_knows_no_more(saved: Callable[[Any], str]) -> None:
    flat = helper.make_node("Reshape", ["boxes", "flat"], ["rows"])
    proto = detector(outputs=("rows",), shape=[1, 3, 64, 96])
    proto.graph.node.append(flat)
    proto.graph.initializer.append(values("flat", 1, 4, 32 * 48, kind=np.int64))
    made = load(saved(proto), "range=1")
    assert isinstance(made.network, teacher._Each)
    assert not isinstance(made.network, teacher._Together)
    assert made.reading.size == (64, 96)
    x = CROPS.float() / 255
    alone = [made.distance(a[None], b[None]).item() for a, b in zip(x.flip(0), x, strict=True)]
    assert made.distance(x.flip(0), x).tolist() == pytest.approx(alone, rel=1e-5)


def test_what_nobody_says_is_guessed_and_told(saved: Callable[[Any], str]) -> None:
    told: list[str] = []
    path = saved(detector(shape=[1, 3, 320, 256]))
    reading = teacher.completed(TeacherConfig(path), told.append)
    assert teacher.completed(reading, told.append) == reading
    teacher.load([reading], PICTURE, CROPS, told.append)
    assert len(told) == 2
    assert "layout=nchw size=320,256 order=rgb range=1 mean=0.485,0.456,0.406" in told[0]
    assert "outputs=scores,boxes" in told[0]
    assert "teaches by scores ±" in told[1]
    # A size below what any network reads is only what the file was exported with.
    assert foreign.read(TeacherConfig(saved(detector(shape=[9, 3, 32, 32])))).reading.size == (0,)
    last = [
        helper.make_node("Transpose", ["bgr_image"], ["x"], perm=[0, 3, 1, 2]),
        *detector().graph.node,
    ]
    proto = network(
        last, list(detector().graph.initializer), shape=[1, 64, 64, 3], input="bgr_image"
    )
    reading = foreign.read(TeacherConfig(saved(proto))).reading
    assert (reading.layout, reading.order, reading.range) == ("nhwc", "bgr", 255)
    assert (reading.mean, reading.std) == ((127.5,), (127.5,))
    cast = helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT)
    proto = network(
        [cast, *detector().graph.node], list(detector().graph.initializer),
        input="pixels", kind=TensorProto.UINT8,
    )  # fmt: skip
    reading = foreign.read(TeacherConfig(saved(proto))).reading
    assert (reading.range, reading.mean) == (255, (0,))


def test_distances_of_a_picture_are_those_of_training(saved: Callable[[Any], str]) -> None:
    reading = teacher.completed(TeacherConfig(saved(detector())), lambda _: None)
    made = teacher.load([reading], PICTURE, CROPS, lambda _: None)
    other = np.clip(PICTURE + RANDOM.normal(0, 20, PICTURE.shape), 0, 255).astype(np.uint8)
    x_hat, x = (torch.from_numpy(p).permute(2, 0, 1)[None] / 255 for p in (other, PICTURE))
    assert made.mean_distance(other, PICTURE) == pytest.approx(float(made(x_hat, x)), rel=1e-4)
    assert 0 == made.mean_distance(PICTURE, PICTURE) < made.mean_distance(other, PICTURE)


def test_settings_of_a_command_line_are_checked(saved: Callable[[Any], str]) -> None:
    made = parse_teacher("net.onnx", ["size=320,256", "mean=1,2,3", "range=255"], ["boxes"])
    assert made == TeacherConfig(
        "net.onnx", size=(320, 256), mean=(1.0, 2.0, 3.0), range=255.0, outputs=("boxes",)
    )
    for setting in ("sise=3", "range=many", "layout=chw", "mean", "network=other.onnx", "weight=2"):
        with pytest.raises(ConfigError, match=r"net\.onnx"):
            parse_teacher("net.onnx", [setting], [])
    stage = {"steps": 1, "beta": 1.0}
    for wrong in ({"scale": [0.0, 1.0]}, {"std": [0.0]}, {"weight": 0.0}, {"size": [1, 2, 3]}):
        with pytest.raises(ConfigError, match="teacher"):
            parse_config({"name": "a", "stage": [stage], "teacher": [{"network": "n", **wrong}]})


@pytest.mark.slow
def test_of_several_one_is_drawn_a_batch(saved: Callable[[Any], str]) -> None:
    """A built-in network teaches as an ONNX file does, at scales of its own."""
    readings = [
        TeacherConfig(saved(detector()), weight=100.0),
        TeacherConfig("efficientnet_lite0", draw=3.0, scale=(0.5, 1.0)),
    ]
    both = teacher.load(readings, PICTURE, CROPS, lambda line: None)
    asked: list[int] = []
    for number, one in enumerate(both.teachers):
        one.register_forward_pre_hook(lambda *_, number=number: asked.append(number))
    x = CROPS[:1].float() / 255
    torch.manual_seed(1)
    for _ in range(12):
        both((x + 0.1).clamp(0, 1), x)
    # Each is asked about picture and decoded picture.
    drawn = asked[::2]
    assert drawn == asked[1::2]
    assert 0 < drawn.count(0) < drawn.count(1)


# --- What it refuses ------------------------------------------------------------------------------


def refused(path: str, match: str, *settings: str, outputs: tuple[str, ...] = ()) -> None:
    with pytest.raises(UnsupportedNetwork, match=match):
        load(path, *settings, outputs=outputs)


def boxes_selected() -> Any:
    proto = detector(outputs=("chosen",), shape=[1, 3, 64, 96])
    proto.graph.node.extend(
        [
            helper.make_node("Reshape", ["boxes", "to4"], ["rows"]),
            helper.make_node("Reshape", ["scores", "to1"], ["flat"]),
            helper.make_node("NonMaxSuppression", ["rows", "flat"], ["found"]),
            helper.make_node("Cast", ["found"], ["chosen"], to=TensorProto.FLOAT),
        ]
    )
    proto.graph.initializer.extend(
        [
            values("to4", 1, -1, 4, kind=np.int64),
            values("to1", 1, 2, -1, kind=np.int64),
        ]
    )
    return proto


@pytest.mark.slow
def test_what_selects_boxes_is_refused_by_name_and_outputs_before_it_teach(
    saved: Callable[[Any], str],
) -> None:
    path = saved(boxes_selected())
    refused(
        path, "operator NonMaxSuppression gives depends on the picture.*such as rows", "range=1"
    )
    assert load(path, "range=1", outputs=("rows",)).reading.outputs == ("rows",)
    refused(path, "has no output nowhere; it has: chosen", outputs=("nowhere",))


@pytest.mark.slow
def test_what_teaches_nothing_is_refused(saved: Callable[[Any], str]) -> None:
    rounded = helper.make_node("Round", ["boxes"], ["scores_"])
    proto = detector(outputs=("scores_",))
    proto.graph.node.append(rounded)
    refused(saved(proto), "passes no gradient", "range=255")
    proto = detector(outputs=("none",))
    proto.graph.node.append(helper.make_node("Mul", ["boxes", "zero"], ["none"]))
    proto.graph.initializer.append(values("zero", 0))
    refused(saved(proto), "output none is the same for all pictures")
    proto = detector(outputs=("log",))
    proto.graph.node.append(helper.make_node("Log", ["boxes"], ["log"]))
    refused(saved(proto), "output log is the same for all pictures, or no number")


@pytest.mark.parametrize("by", ["scales", "sizes"])
def test_what_enlarges_from_the_corner_teaches_as_it_runs(
    saved: Callable[[Any], str], by: str
) -> None:
    """Networks that come from TensorFlow 1; loading compares the numbers with ONNX Runtime's."""
    proto = detector(outputs=("large",))
    told = {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}
    inputs = ["boxes", "", "scales"] if by == "scales" else ["boxes", "", "", "sizes"]
    proto.graph.node.append(helper.make_node("Resize", inputs, ["large"], **told))
    proto.graph.initializer.append(values("scales", 1, 1, 2, 4))
    proto.graph.initializer.append(values("sizes", 1, 4, 64, 192, kind=np.int64))
    load(saved(proto), "range=255", "size=64,96")


def test_what_slices_teaches_without_a_warning_a_step(
    saved: Callable[[Any], str], recwarn: pytest.WarningsRecorder
) -> None:
    """onnx2pytorch slices in a way that torch warns of; users of either cannot mend it."""
    proto = detector(outputs=("two",))
    proto.graph.node.append(helper.make_node("Slice", ["boxes", "from", "to", "axes"], ["two"]))
    for name, number in {"from": 1, "to": 3, "axes": 1}.items():
        proto.graph.initializer.append(values(name, number, kind=np.int64))
    made = load(saved(proto), "range=255", "size=64,96")
    x = CROPS.float() / 255
    recwarn.clear()
    made.distance(x, x)
    assert not recwarn.list


def test_other_numbers_in_torch_are_found(
    saved: Callable[[Any], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A converter that errs would teach the codec another network than the one that runs."""
    real = foreign.converted

    def wrong(*arguments: Any) -> Any:
        module, said = real(*arguments)
        return module, [said[0] * 1.05, *said[1:]]

    monkeypatch.setattr(foreign, "converted", wrong)
    refused(saved(detector()), "output scores differs by")


def test_files_that_are_no_networks_of_pictures(
    saved: Callable[[Any], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(str(tmp_path / "none.onnx"), "cannot read the network")
    refused(str(tmp_path), "cannot read the network")
    for data in (b"", b"\x00" * 99, os.urandom(999), detector().SerializeToString()[:-700]):
        refused(saved(data), "no ONNX file|one input|ONNX Runtime")
    refused(saved(b""), "one input .* found an empty file: export")
    refused(saved(detector(shape=[1, 1, 64, 64])), "reads 1 channels")
    refused(saved(detector(shape=[1, 3])), "one input of 4 axes")
    proto = detector()
    proto.graph.input.append(helper.make_tensor_value_info("more", 1, [1]))
    refused(saved(proto), "one input of 4 axes")
    monkeypatch.setattr(foreign, "MAX_BYTES", 1000)
    refused(saved(detector()), "has more than 0 MiB")


def outside(location: str) -> Any:
    proto = detector()
    tensor = proto.graph.initializer[0]
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(size))):
        tensor.external_data.add(key=key, value=value)
    return proto


def test_weights_outside_the_folder_are_not_read(
    saved: Callable[[Any], str], tmp_path: Path
) -> None:
    data = weight("w1", 8, 3, 3, 3).raw_data
    path = saved(outside("weights.bin"))
    (tmp_path / "secret.bin").write_bytes(data)
    refused(path, "weights is missing")
    (tmp_path / "nets" / "weights.bin").write_bytes(data)
    load(path, "range=1")
    (tmp_path / "nets" / "weights.bin").write_bytes(data[:-8])
    refused(path, "no ONNX file")
    link = tmp_path / "nets" / "link.bin"
    link.symlink_to(tmp_path / "secret.bin")
    for location in ("../secret.bin", str(tmp_path / "secret.bin"), "link.bin", "", "."):
        refused(saved(outside(location)), "outside its folder|weights is missing")


def test_operators_of_others_and_loops_are_refused(saved: Callable[[Any], str]) -> None:
    other = helper.make_node("Evil", ["boxes"], ["evil"], domain="com.example")
    proto = detector(outputs=("evil",), opset=[helper.make_opsetid("com.example", 1)])
    proto.graph.node.append(other)
    refused(saved(proto), "Evil is of another domain than ONNX's: com.example")
    # A name that torch has, and ONNX has not.
    proto = detector(outputs=("evil",))
    proto.graph.node.append(helper.make_node("Load", ["boxes"], ["evil"]))
    refused(saved(proto), "Load")
    body = helper.make_graph([], "body", [], [])
    loop = helper.make_node("Loop", ["", "", "boxes"], ["evil"], body=body)
    proto = detector(outputs=("evil",))
    proto.graph.node.append(loop)
    refused(saved(proto), "operator Loop holds a graph")
    proto = detector()
    proto.functions.append(
        helper.make_function("com.example", "Own", [], [], [], [helper.make_opsetid("", 17)])
    )
    refused(saved(proto), "defines an operator of its own, Own")


def test_what_takes_too_much_is_refused_in_bounded_time_and_memory(
    saved: Callable[[Any], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def grown(operator: str, *numbers: int) -> Any:
        proto = detector(outputs=("big",))
        proto.graph.initializer.append(values("to", *numbers, kind=np.int64))
        source = ["to"] if operator == "ConstantOfShape" else ["boxes", "to"]
        proto.graph.node.append(helper.make_node(operator, source, ["huge"]))
        proto.graph.node.append(helper.make_node("ReduceMean", ["huge"], ["mean"]))
        proto.graph.node.append(helper.make_node("Mul", ["mean", "boxes"], ["big"]))
        return proto

    began = time.monotonic()
    refused(saved(grown("ConstantOfShape", 1 << 40)), "ConstantOfShape gives more than")
    refused(saved(grown("Tile", 1 << 12, 1 << 12, 1, 1)), "Tile gives more than")
    proto = detector()
    proto.graph.initializer[0].dims[:] = [1 << 40, 3, 3, 3]
    refused(saved(proto), "tensor w1 has .* values")
    assert time.monotonic() - began < 60
    monkeypatch.setattr(folding, "SECONDS", 0.01)
    refused(saved(detector()), "took more than 0.01 s")


def test_modules_of_the_current_folder_are_not_run(
    saved: Callable[[Any], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(detector())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("numpy.py").write_text("open('ran', 'w')\nraise ImportError\n")
    load(path, "range=1")
    assert os.listdir() == ["numpy.py"]


def test_onnx_needs_no_writing_beside_the_file(saved: Callable[[Any], str], tmp_path: Path) -> None:
    path = saved(detector())
    load(path, "range=1")
    assert os.listdir(Path(path).parent) == ["net.onnx"]


# --- As a judge -----------------------------------------------------------------------------------


def evaluated(folder: Path, *more: str) -> dict[str, Any]:
    """Judge the tiny model and JPEG on a folder of pictures; no reference network is asked."""
    tiny = str(Path(__file__).parent / "models" / "tiny")
    line = ["eval", "-m", tiny, "--data", str(folder), "--out", str(folder.parent / "report")]
    line += ["--codec", "jpeg", "--qualities", "jpeg=10,90", *more]
    result = CliRunner().invoke(cli.main, line)
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads((folder.parent / "report" / "results.json").read_text())
    return report


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    for number in range(3):
        pixels = RANDOM.integers(0, 256, (5, 6, 3), np.uint8)
        (folder / "in").mkdir(parents=True, exist_ok=True)
        smooth = Image.fromarray(pixels).resize((96, 64 + 32 * number), Image.Resampling.BICUBIC)
        smooth.save(folder / "in" / f"{number}.png")
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("evaluating")
def test_a_judge_compares_all_coders_by_the_distance_that_is_taught(
    saved: Callable[[Any], str], pictures: Path, tmp_path: Path
) -> None:
    path = saved(detector())
    settings = ("--judge-input", "range=255", "--judge-input", "std=60")
    kept = tmp_path / "kept"
    report = evaluated(pictures, "--judge", path, *settings, "--keep-decoded", str(kept))
    (folder,) = report["folders"]
    assert report["reference"]["network"] == "net.onnx"
    assert folder["uncompressed"]["kept"] == {"share": 1, "low": 1, "high": 1}
    points = {
        p["setting"]: p for c in folder["curves"] if c["coder"] == "jpeg" for p in c["points"]
    }
    assert points[10]["kept"]["share"] < points[90]["kept"]["share"] < 1

    # By hand, of the pictures that were kept, and by torch.
    made = load(path, "range=255", "std=60")
    files = sorted(p.relative_to(pictures) for p in pictures.rglob("*.png"))
    decoded = [kept / "jpeg" / "10" / f"{file}.png" for file in files]
    x, x_hat = (
        [
            torch.from_numpy(np.array(Image.open(p)) / np.float32(255)).permute(2, 0, 1)[None]
            for p in ps
        ]
        for ps in ([pictures / file for file in files], decoded)
    )
    said = [made(picture) for picture in x]
    moments = [
        [(o.double().mean(), o.double().square().mean()) for o in outputs] for outputs in said
    ]
    mean, square = np.mean(moments, axis=0).T
    made.spreads = np.sqrt(square - mean**2)
    distances = [made.distance(b, a).item() for a, b in zip(x, x_hat, strict=True)]
    assert 1 - points[10]["kept"]["share"] == pytest.approx(np.mean(distances), abs=2e-3)

    evaluated(
        pictures, "--judge", path, *settings, "--keep-decoded", str(kept), "--scales", "1,0.5"
    )
    smaller = kept / "jpeg" / "10 at 0.5" / f"{files[0]}.png"
    assert picture.load(smaller).shape == picture.load(decoded[0]).shape
    assert smaller.read_bytes() != decoded[0].read_bytes()

    # What was deleted is made again, though its figures are known.
    decoded[0].unlink()
    assert evaluated(pictures, "--judge", path, *settings, "--keep-decoded", str(kept)) == report
    assert decoded[0].exists()


@pytest.mark.slow
@pytest.mark.usefixtures("evaluating")
def test_a_judge_of_classes_tells_their_agreement(
    saved: Callable[[Any], str], pictures: Path
) -> None:
    pooled = [
        helper.make_node("GlobalAveragePool", ["boxes"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["classes"]),
    ]
    proto = detector(outputs=("classes",))
    proto.graph.node.extend(pooled)
    report = evaluated(pictures, "--judge", saved(proto))
    assert report["folders"][0]["uncompressed"]["agreement"]["share"] == 1


def test_a_judge_that_cannot_judge_is_refused_before_it_fills_the_memory(
    saved: Callable[[Any], str], pictures: Path, tmp_path: Path
) -> None:
    tiny = str(Path(__file__).parent / "models" / "tiny")
    line = ["eval", "-m", tiny, "--data", str(pictures), "--out", str(tmp_path / "o"), "--judge"]
    proto = detector(outputs=("mean",))
    proto.graph.initializer.append(values("to", 1 << 12, 1 << 12, 1, 1, kind=np.int64))
    proto.graph.node.append(helper.make_node("Tile", ["boxes", "to"], ["huge"]))
    proto.graph.node.append(helper.make_node("ReduceMean", ["huge"], ["mean"]))
    for network, message in (
        (saved(proto), "operator Tile gives more than"),
        ("none.onnx", "cannot read the network"),
    ):
        result = CliRunner().invoke(cli.main, [*line, network])
        assert result.exit_code == 1
        assert message in result.stderr
    result = CliRunner().invoke(cli.main, [*line, "a.onnx", "--retrain-head", "3", "--held-out"])
    assert result.exit_code == 2


@pytest.mark.parametrize("name", ["taught", "general"])
def test_the_bundled_detector_has_what_the_experiments_ask_it_for(name: str) -> None:
    """Its tensors got other names once, and nobody could train the default model again."""
    teachers = load_config(ROOT / "experiments" / f"{name}.toml").teacher
    (wanted,) = (t.outputs for t in teachers if t.network == "detect.onnx")
    graph = onnx.load(ROOT / "models" / "general" / "detect.onnx").graph
    assert set(wanted) <= {output for node in graph.node for output in node.output}
