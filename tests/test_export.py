"""Tables that are frozen, model folders that are written, and a whole run, end to end."""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import PHOTOGRAPHS, ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from torch import nn

from tactic_codec import container, entropy, metrics, tasks
from tactic_codec import picture as image
from tactic_codec.codec import Codec, load_model
from tactic_codec.entropy import TOTAL, ContextModel, LearnedContexts
from tactic_codec.errors import ConfigError, DamagedModel, DataError, OutputExists, TacError
from tactic_codec.model import EIGHT_BITS, Model, Objective
from tactic_codec.networks import heads
from tactic_codec.networks.codec import TacticNetwork
from tactic_codec.networks.folder import weights_in_onnx
from tactic_codec.networks.prior import FactorizedPrior
from tactic_codec.networks.transforms import TransformConfig
from tactic_codec.refinement import Networks
from tactic_codec.runtime import open_runtime
from tactic_codec.training import eight_bits, offsets
from tactic_codec.training.command import export_command, train_command
from tactic_codec.training.config import load_config, parse_config
from tactic_codec.training.data import Example, scan
from tactic_codec.training.export import (
    About,
    add_head,
    add_metrics,
    export,
    kept_channels,
    latent_of,
    levels_of,
)
from tactic_codec.training.offsets import tune_offset
from tactic_codec.training.onnx_files import HeadExport, head_files, round_to_half
from tactic_codec.training.placing import install
from tactic_codec.training.run import Plan, Run
from tactic_codec.training.tables import LevelExport, fit_tables, freeze, smooth, tables_file

pytestmark = pytest.mark.usefixtures("one_torch_thread", "quick_exports")

Symbols = npt.NDArray[np.int32]


# --- Freezing -------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    arrays.arrays(
        np.float64,
        arrays.array_shapes(min_dims=3, max_dims=3, max_side=6).map(lambda s: (*s[:2], s[2] + 2)),
        elements=st.one_of(st.just(0.0), st.floats(0, 1), st.floats(0, 1e-7)),
    )
)
def test_frozen_tables_are_integers_of_at_least_1_that_sum_to_2_24(
    weights: npt.NDArray[np.float64],
) -> None:
    sums = weights.sum(axis=-1, keepdims=True)
    uniform = np.full_like(weights, 1 / weights.shape[-1])
    probabilities = np.where(sums > 0, weights / np.where(sums > 0, sums, 1), uniform)
    frequencies = freeze(probabilities)
    assert frequencies.dtype == np.uint32
    assert frequencies.shape == weights.shape
    assert frequencies.min() >= 1
    assert (frequencies.sum(axis=-1, dtype=np.int64) == TOTAL).all()
    # Frozen, a probability moves by no more than a part in 2²⁴ for each symbol of the table.
    assert np.abs(frequencies / TOTAL - probabilities).max() <= 2 * weights.shape[-1] / TOTAL


@pytest.mark.parametrize("symbols", [3, 256, 4096])
def test_certainty_leaves_one_for_every_other_symbol(symbols: int) -> None:
    probabilities = np.zeros((1, 1, symbols))
    probabilities[0, 0, 1] = 1
    frequencies = freeze(probabilities)[0, 0].tolist()
    assert frequencies[1] == TOTAL - symbols + 1
    assert set(frequencies[:1] + frequencies[2:]) == {1}


def test_smoothing_leans_on_what_is_broader() -> None:
    density = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
    counts = np.zeros((2, 4, 3), np.int64)
    counts[1, 0] = (10**6, 0, 0)
    found = smooth(counts, density)
    assert found.shape == (2, 4, 3)
    np.testing.assert_allclose(found.sum(axis=2), 1)
    assert (found > 0).all()
    # Where nothing was counted, the density; where much was, the counts.
    np.testing.assert_allclose(found[0], np.tile(density[0], (4, 1)))
    np.testing.assert_allclose(found[1, 0], (1, 0, 0), atol=1e-4)
    # A context without counts takes its channel's distribution.
    np.testing.assert_allclose(found[1, 1], (1, 0, 0), atol=1e-4)


def draw(*, channels: int, size: int, seed: int = 1, scale: float = 1.0) -> Symbols:
    """Symbols whose magnitude varies from place to place, as in a picture."""
    random = np.random.default_rng(seed)
    spread = np.repeat(
        np.repeat(random.gamma(1, scale, (channels, size // 8, size // 8)), 8, 1), 8, 2
    )
    return np.rint(random.laplace(0, spread)).astype(np.int32)


def entropy_of(symbols: Symbols) -> float:
    """Empirical entropy, channel by channel, in bits."""
    total = 0.0
    for channel in symbols:
        _, counts = np.unique(channel, return_counts=True)
        total -= (counts * np.log2(counts / counts.sum())).sum()
    return total


def test_tables_cost_what_the_symbols_entropy_says() -> None:
    symbols = draw(channels=4, size=64)
    tables = fit_tables([symbols], ContextModel(), FactorizedPrior(4).likelihood)
    ideal = entropy.ideal_bits(symbols, tables)
    assert entropy_of(symbols) <= ideal < 1.01 * entropy_of(symbols)


def test_contexts_save_bits_on_symbols_of_the_same_kind() -> None:
    calibration = [draw(channels=4, size=64, seed=seed) for seed in range(4)]
    fresh = draw(channels=4, size=64, seed=9)
    costs = [
        entropy.ideal_bits(fresh, fit_tables(calibration, contexts, FactorizedPrior(4).likelihood))
        for contexts in (ContextModel(), ContextModel(own=(1, 3, 6)))
    ]
    assert costs[1] < 0.97 * costs[0]


def test_latents_of_any_sizes_are_counted_together() -> None:
    whole = draw(channels=2, size=64)
    parts = [whole[:, :, :24], whole[:, :8, 24:]]
    tables = fit_tables(parts, ContextModel(), FactorizedPrior(2).likelihood)
    assert tables.channels == 2
    assert (tables.minimum, tables.maximum) == (
        min(int(part.min()) for part in parts),
        max(int(part.max()) for part in parts),
    )


@pytest.mark.parametrize(
    ("values", "minimum", "symbols"),
    [
        ([0, 0], 0, 3),
        ([0, 1], 0, 3),
        ([-3, 4], -3, 9),
        ([0, 100_000], 0, 256),
        ([-100_000, 0], -128, 130),
        ([-100_000, 100_000], -128, 256),
        ([500, 501], 500, 3),
        ([-500, -499], -128, 3),
    ],
)
def test_tables_stay_short_and_code_everything(
    values: list[int], minimum: int, symbols: int
) -> None:
    latent = np.array(values * 8, np.int32).reshape(1, 4, 4)
    tables = fit_tables([latent], ContextModel(), FactorizedPrior(1).likelihood)
    assert (tables.minimum, tables.frequencies.shape) == (minimum, (1, 1, symbols))
    payload = entropy.encode(latent, tables)
    np.testing.assert_array_equal(entropy.decode(payload, (1, 4, 4), tables), latent)


def test_tables_are_read_back_from_their_file() -> None:
    """Of two levels; that a whole folder is read back, the slower tests of export show."""
    prior = FactorizedPrior(2)
    levels = [draw(channels=2, size=16, scale=scale) for scale in (1.0, 3.0)]
    made = [fit_tables([y], ContextModel((1, 3)), prior.likelihood) for y in levels]
    with np.load(io.BytesIO(tables_file(made)), allow_pickle=False) as found:
        assert list(found) == ["level_1", "level_2"]
        for table, name in zip(made, found, strict=True):
            np.testing.assert_array_equal(found[name], table.frequencies)


def test_weights_that_half_precision_does_not_hold_are_refused() -> None:
    module = nn.Linear(2, 1)
    with torch.no_grad():
        module.weight[0, 1] = 1e6
    with pytest.raises(TacError, match=r"weight has weights beyond ±65,504.*train again"):
        round_to_half(module)
    with torch.no_grad():
        module.weight[0] = 1 / 3
    half = round_to_half(module)
    assert half["weight"].dtype == torch.float16 and module.weight.dtype == torch.float32
    assert (module.weight == half["weight"].float()).all()


# --- Exporting ------------------------------------------------------------------------------------

CLASSES = ("blue", "green", "red")


def small_head(classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=4, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, classes),
    )


@pytest.fixture(scope="module", autouse=True)
def small_head_is_known() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(heads.KINDS, "small", heads.HeadKind(small_head, 32))
        yield


class Made(NamedTuple):
    network: TacticNetwork
    model: Model
    export: Callable[..., Model]


def trained() -> TacticNetwork:
    torch.manual_seed(1)
    network = TacticNetwork(TransformConfig(4, 6, (6, 4)), small_head(len(CLASSES)))
    with torch.no_grad():
        for layer in (network.analysis.layers[0], network.analysis.layers[3]):  # type: ignore[index]
            layer.reset_parameters()
        network.analysis.layers[3].weight *= 8  # type: ignore[operator, index]
        # Where a picture is flat, latents are this bias: away from the edge between two symbols.
        network.analysis.layers[3].bias.fill_(1.3)  # type: ignore[operator, index]
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.train()


def export_of(network: TacticNetwork, out: Path, **changes: Any) -> Model:
    assert network.head is not None
    ones = np.ones(4, np.float32)
    arguments: dict[str, Any] = {
        "levels": [
            LevelExport(ones * gain, ones / gain, network.prior.likelihood) for gain in (0.5, 1, 2)
        ],
        "calibration": [image.load(path) for path in PHOTOGRAPHS[:2]],
        "contexts": ContextModel((1, 3), (4,)),
        "head": HeadExport("small", network.head, 32, ("Blue", "Green", "Red"), CLASSES),
    }
    about = About("exported", "A model for one test.", {"seed": 1}, {"log.jsonl": b"{}\n"})
    return export(network, out, about, **(arguments | changes))


def snapshot(module: nn.Module) -> list[tuple[str, str, bool, torch.Tensor]]:
    return [
        (name, f"{value.dtype} {value.device} {value.stride()}", module.training, value.clone())
        for name, value in module.state_dict(keep_vars=False).items()
    ]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, small_head_is_known: None) -> Model:
    return export_of(trained(), tmp_path_factory.mktemp("models") / "exported")


@pytest.mark.slow
def test_weights_that_stand_in_the_onnx_file_are_not_stored_twice(
    tiny_head: Callable[[int], nn.Module],
) -> None:
    plain = tiny_head(len(CLASSES))
    data, own = head_files(HeadExport("tiny", plain, 64, CLASSES, CLASSES))
    assert own == {}
    stored = weights_in_onnx(data)
    assert all(torch.equal(stored[k], v.half()) for k, v in plain.state_dict().items())


@pytest.mark.slow
def test_an_exported_model_is_whole(exported: Model) -> None:
    exported.verify()
    assert {path.name for path in exported.path.iterdir()} == {
        *("model.json", "tables.npz", "weights.safetensors", "log.jsonl"),
        *("analysis.onnx", "synthesis.onnx", "classify.onnx"),
    }
    assert (exported.name, exported.channels, exported.stride, exported.halo) == (
        *("exported", 4, 8),
        4,
    )
    assert len(exported.levels) == 3
    assert exported.default_level == 2
    assert exported.level(3).contexts == ContextModel((1, 3), (4,))
    head = exported.head("classify")
    assert (head.file, head.network, head.input_size) == ("classify.onnx", "small", 32)
    assert (head.labels, head.classes) == (("Blue", "Green", "Red"), CLASSES)
    manifest = exported.manifest
    assert manifest["network"] == {
        "kind": "paper",
        "latent": 4,
        "analysis": 6,
        "synthesis": [6, 4],
    }
    assert manifest["training"] == {"seed": 1}
    assert manifest["complexity"] == {
        # 5·5·3·6 weights at a quarter of the pixels, 5·5·6·4 at a sixteenth.
        "analysis_macs_per_pixel": 450 / 4 + 600 / 16,
        # 4·4·4·6 at a 64th, 4·4·6·4 at a sixteenth, 4·4·4·3 at a quarter.
        "synthesis_macs_per_pixel": 384 / 64 + 384 / 16 + 192 / 4,
    }


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(24, 40), (8, 8), (304, 136)])
def test_both_runtimes_of_an_exported_model_agree(exported: Model, shape: tuple[int, int]) -> None:
    onnx, other = (open_runtime(exported, device, threads=1) for device in ("cpu", "torch-cpu"))
    random = np.random.default_rng(1)
    rows, columns = shape
    for network, array in {
        "analysis": random.random((1, 3, rows, columns), np.float32),
        "synthesis": random.integers(0, 9, (1, 4, rows // 8, columns // 8)).astype(np.float32),
        "classify": random.random((1, 3, 32, 32), np.float32),
    }.items():
        expected = other.run(network, array)
        assert expected.any()
        np.testing.assert_allclose(
            onnx.run(network, array), expected, atol=1e-4 * np.abs(expected).max()
        )


@pytest.mark.slow
def test_what_the_exporter_folds_into_a_weight_is_not_rounded_again(
    exported: Model, tmp_path: Path
) -> None:
    torch.manual_seed(2)
    module = small_head(len(CLASSES))
    normalised: Any = module[1]  # type: ignore[index]
    with torch.no_grad():
        normalised.running_mean.normal_()
        normalised.running_var.uniform_(0.01, 4)
        normalised.weight.uniform_(0.5, 2)
    head, picture = HeadExport("small", module, 32, CLASSES, CLASSES), image.load(PHOTOGRAPHS[0])
    model = add_head(exported, tmp_path / "model", About("x", "", {}), head=head, example=picture)
    onnx, other = (open_runtime(model, device, threads=1) for device in ("cpu", "torch-cpu"))
    array = np.random.default_rng(1).random((1, 3, 32, 32), np.float32)
    expected = other.run("classify", array)
    found = onnx.run("classify", array)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_an_exported_model_codes_and_classifies(exported: Model) -> None:
    codec = load_model(exported.path, device="cpu", threads=1)
    for level in (1, 2, 3):
        data = codec.compress(PHOTOGRAPHS[0], level).data
        frame = container.parse(data)
        ideal = entropy.ideal_bits(codec.model.decode_symbols(frame), codec.model.tables(level))
        assert 8 * len(frame.payload) <= 1.005 * ideal + 64
        assert codec.model.decode_symbols(frame).any()
        assert codec.decode(frame).shape == image.load(PHOTOGRAPHS[0]).shape
        assert {p.label for p in tasks.classify(data, codec=codec)} == {"Blue", "Green", "Red"}


@pytest.mark.slow
def test_an_exported_folder_does_not_name_its_machine(exported: Model, tmp_path: Path) -> None:
    assert_no_traces(exported.path, tmp_path)


def assert_no_traces(folder: Path, *paths: Path) -> None:
    traces = [
        str(p) for p in (folder.parent, *paths, ROOT, Path.home(), Path(torch.__file__).parent)
    ]
    for path in folder.iterdir():
        data = path.read_bytes()
        for trace in [*traces, "site-packages", '.py"', "Traceback", "stack_trace", "namespace"]:
            assert trace.encode() not in data, (path.name, trace)


@pytest.fixture(scope="module")
def again(exported: Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same networks exported again with a changed analysis and head, over another folder."""
    network = trained()
    with torch.no_grad():
        for module in (network.analysis, network.head):
            assert module is not None
            for parameter in module.parameters():
                if module is network.head:
                    parameter += 1e-3 * parameter.abs().max()
                else:  # too little for any symbol, but a step of half precision
                    parameter[parameter.abs() == parameter.abs().min()] += 1e-6
    out = tmp_path_factory.mktemp("again") / "exported"
    out.mkdir()
    (out / "model.json").write_text("{}")
    (out / "stale.onnx").write_bytes(b"of the folder that was here")
    before = snapshot(network)
    model = export_of(network, out, overwrite=True)
    return {"model": model, "before": before, "after": snapshot(network), "network": network}


def hashes(model: Model) -> dict[str, str]:
    return {name: file["sha256"] for name, file in model.manifest["files"].items()}


@pytest.mark.slow
def test_the_fingerprint_leaves_the_encoder_and_the_heads_free(
    exported: Model, again: dict[str, Any]
) -> None:
    changed = {
        name for name, digest in hashes(again["model"]).items() if digest != hashes(exported)[name]
    }
    assert changed == {"analysis.onnx", "classify.onnx", "weights.safetensors"}
    assert again["model"].fingerprint == exported.fingerprint
    assert not (again["model"].path / "stale.onnx").exists()


@pytest.mark.slow
def test_exporting_leaves_the_networks_as_they_were(again: dict[str, Any]) -> None:
    for (name, form, training, value), after in zip(again["before"], again["after"], strict=True):
        assert after[:3] == (name, form, training)
        assert torch.equal(after[3], value), name
    assert again["network"].training


@pytest.mark.slow
def test_the_fingerprint_changes_with_the_synthesis(exported: Model, tmp_path: Path) -> None:
    network = trained()
    with torch.no_grad():
        network.synthesis.layers[0].bias[0] += 1e-3  # type: ignore[operator, index]
    # One level and no head: what most runs export.
    model = export_of(network, tmp_path / "other", levels=levels_of(network), head=None)
    changed = model.manifest["normative"]["files"]["synthesis.onnx"]
    assert changed != exported.manifest["normative"]["files"]["synthesis.onnx"]
    assert model.fingerprint != exported.fingerprint
    assert len(model.levels) == model.default_level == 1
    assert model.heads == {}
    np.testing.assert_array_equal(model.level(1).gain, 1)


def test_a_folder_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear")
    with pytest.raises(OutputExists, match="mine exists; choose another name, or overwrite"):
        export_of(trained(), tmp_path / "mine")
    with pytest.raises(OutputExists, match="mine exists and is no model folder; choose another"):
        export_of(trained(), tmp_path / "mine", overwrite=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "diary.txt"]


def test_what_stands_beside_a_model_stays(tiny: Codec, tmp_path: Path) -> None:
    for end in ("new", "old"):
        (tmp_path / f"mine.{end}").mkdir()
    (tmp_path / "mine").mkdir()  # an empty folder is nothing to lose
    install(tiny.model, tmp_path / "mine", overwrite=True).verify()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "mine.new", "mine.old"]
    with pytest.raises(OutputExists):
        install(tiny.model, tmp_path / "mine", overwrite=False)


def test_what_a_link_leads_to_is_replaced(tiny: Codec, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "model.json").write_text("old")
    (tmp_path / "link").symlink_to("real")
    install(tiny.model, tmp_path / "link", overwrite=True).verify()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
    assert (tmp_path / "link").is_symlink() and Model(tmp_path / "real").name == "tiny"


def test_the_old_model_stays_where_the_new_one_cannot_take_its_place(
    tiny: Codec, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.json").write_text("old")
    rename = Path.rename

    def full(self: Path, target: Path) -> Path:
        if self.name.endswith(".new"):
            raise OSError("no space left")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="no space left"):
        install(tiny.model, tmp_path / "mine", overwrite=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "model.json"]
    assert (tmp_path / "mine" / "model.json").read_text() == "old"


@pytest.mark.slow
def test_networks_that_onnx_computes_otherwise_are_not_written(
    tmp_path: Path, monkeypatch: Any
) -> None:
    from tactic_codec.runtime.onnx import OnnxRuntime

    run = OnnxRuntime.run
    monkeypatch.setattr(
        OnnxRuntime, "run", lambda self, network, array: run(self, network, array) * 1.01
    )
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("stays")
    network = trained()
    with pytest.raises(TacError, match="the exported analysis differs from torch's by"):
        export_of(network, tmp_path / "model", levels=levels_of(network), head=None, overwrite=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "model.json"]


def test_metrics_do_not_change_the_fingerprint(spoilt: Any) -> None:
    before = spoilt.model
    add_metrics(spoilt.path, {"photos": {"bpp": 0.25, "label": "é"}})
    after = spoilt.model
    after.verify()
    assert after.fingerprint == before.fingerprint
    assert after.manifest == before.manifest | {"metrics": {"photos": {"bpp": 0.25, "label": "é"}}}


@pytest.mark.slow
def test_what_was_made_of_a_task_network_goes_with_it(exported: Model, tmp_path: Path) -> None:
    shutil.copytree(exported.path, tmp_path / "before")
    coded = {"level": 1, "images": 3, "bpp": 0.25, "psnr": 30.0}
    said = {"accuracy": 0.9, "accuracy_interval": [0.8, 1], "uncompressed_accuracy": 1.0}
    streets = coded | {"mean_iou": 0.5, "pixel_accuracy": 0.8, "iou": [0.5, None]}
    figures = {"one": coded | said, "levels": [coded | said | {"agreement": 0.8}]}
    add_metrics(tmp_path / "before", figures | {"streets": streets})
    eight_bits.add(tmp_path / "before", [image.load(path)[:96, :96] for path in PHOTOGRAPHS[:2]])
    network = trained()
    assert network.head is not None
    after = add_head(
        Model(tmp_path / "before"),
        tmp_path / "after",
        About("after", "", {}),
        head=HeadExport("small", network.head, 32, CLASSES, CLASSES),
        example=image.load(PHOTOGRAPHS[0]),
    )
    # What the codec costs is as true as before; the segmentation network is another one.
    expected = {"one": coded, "levels": [coded], "streets": streets}
    assert after.manifest["metrics"] == expected
    made = {file for file in after.manifest["files"] if file.endswith(EIGHT_BITS)}
    assert made == {"analysis.8bit.onnx", "synthesis.8bit.onnx"}


# --- A whole run ----------------------------------------------------------------------------------

CONFIGURATION = """
name = "mine"
description = "Colours."
seed = 3
checkpoint_every = 2
network = {latent = 4, analysis = 6, synthesis = [6, 4]}
task = {network = "small"}
data = {size = 40, test = 0.25, calibration = 0.1}
entropy = {own = [1, 2]}
evaluation = {every = 2, images = 1}
[[stage]]
steps = 3
beta = 0.1
batch = 4
size = 32
learning_rate = 1e-2
pixel_scale = 10.0
"""


class WholeRun(NamedTuple):
    folder: Path  # holds everything
    model: Model
    said: list[str]
    steps: list[tuple[int, int]]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory, small_head_is_known: None) -> WholeRun:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    random = np.random.default_rng(1)
    for number, name in enumerate(CLASSES):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(5):
            pixels = random.integers(0, 80, (48, 56, 3), dtype=np.uint8)
            pixels[:, :, 2 - number] += 150
            Image.fromarray(pixels).save(folder / "photos" / name / f"{i}.png")
    (folder / "photos" / "red" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "mine.toml").write_text(CONFIGURATION)
    said: list[str] = []
    steps: list[tuple[int, int]] = []
    model = train_command(
        folder / "mine.toml",
        [folder / "photos"],
        folder / "mine",
        run=folder / "run",
        command="tactic train mine.toml --data photos --out mine",
        progress=lambda step, count: steps.append((step.step, count)),
        say=said.append,
    )
    return WholeRun(folder, model, said, steps)


def test_examples_of(run: WholeRun) -> tuple[Example, ...]:
    config = load_config(run.folder / "mine.toml")
    return scan([run.folder / "photos"], config.data, config.seed).parts[0].test


test_examples_of.__test__ = False  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_run_ends_with_a_model(whole_run: WholeRun) -> None:
    model = whole_run.model
    model.verify()
    assert model.path == whole_run.folder / "mine"
    assert (model.name, model.manifest["description"]) == ("mine", "Colours.")
    assert model.head("classify").labels == CLASSES
    assert model.level(1).contexts == ContextModel((1, 2))
    training = model.manifest["training"]
    assert training["command"] == "tactic train mine.toml --data photos --out mine"
    assert training["config"]["stage"][0]["learning_rate"] == 1e-2
    (described,) = training["data"]
    assert described["folder"] == "photos"
    assert [described[key] for key in ("train", "calibration", "test")] == [9, 2, 4]
    assert whole_run.steps == [(1, 3), (2, 3), (3, 3)]
    assert_no_traces(model.path, whole_run.folder)


@pytest.mark.slow
def test_a_run_says_what_it_left_out(whole_run: WholeRun) -> None:
    text = "\n".join(whole_run.said)
    broken = whole_run.folder / "photos" / "red" / "broken.png"
    assert f"skipped {broken}: " in text
    assert "1 files skipped" in text
    assert "9 to train, 2 to calibrate, 4 to test" in text


@pytest.mark.slow
def test_the_figures_of_a_run_are_those_of_its_files(whole_run: WholeRun) -> None:
    codec = load_model(whole_run.model.path, device="cpu")
    examples = test_examples_of(whole_run)
    assert len(examples) == 4
    ((name, figures),) = whole_run.model.manifest["metrics"].items()
    assert name == "photos"
    pictures = [image.square(image.load(example.path), 40) for example in examples]
    files = [codec.compress(picture).data for picture in pictures]
    right = [
        tasks.classify(file, 1, codec=codec)[0].index == example.kept
        for file, example in zip(files, examples, strict=True)
    ]
    psnrs = [
        metrics.psnr(picture, np.asarray(codec.decompress(file)))
        for picture, file in zip(pictures, files, strict=True)
    ]
    assert figures["images"] == 4
    bpp = np.mean([8 * len(file) / 1600 for file in files])
    assert figures["bpp"] == pytest.approx(bpp, abs=1e-4)
    assert figures["accuracy"] == np.mean(right)
    assert figures["psnr"] == pytest.approx(np.mean(psnrs), abs=1e-3)
    # The coder's last byte may be a few bits short or long.
    assert figures["payload_bpp"] == pytest.approx(figures["ideal_bpp"], abs=8 / 1600)
    assert figures["payload_bpp"] < figures["bpp"]
    assert f"{figures['bpp']:.4f} bpp" in whole_run.said[-1]


@pytest.mark.slow
def test_the_run_s_log_has_evaluations_on_files(whole_run: WholeRun) -> None:
    lines = [
        json.loads(line) for line in (whole_run.folder / "run/log.jsonl").read_text().splitlines()
    ]
    assert [line["step"] for line in lines] == [1, 2, 2, 3]
    (figures,) = lines[2]["evaluation"].values()
    assert figures["images"] == 1
    assert 0 < figures["bpp"] < 24
    terms = {"distortion", "task", "rate", "loss", "psnr", "accuracy", "learning_rate", "seconds"}
    assert all(terms <= set(lines[i]) for i in (0, 1, 3))


@pytest.mark.slow
def test_a_run_is_exported_again_to_the_same_model(whole_run: WholeRun) -> None:
    said: list[str] = []
    model = export_command(whole_run.folder / "run", whole_run.folder / "later", say=said.append)
    assert model.path == whole_run.folder / "later"
    assert model.fingerprint == whole_run.model.fingerprint
    assert hashes(model) == hashes(whole_run.model)
    assert model.manifest["metrics"] == whole_run.model.manifest["metrics"]
    assert model.manifest["training"]["command"] == whole_run.model.manifest["training"]["command"]
    with pytest.raises(OutputExists, match="later exists"):
        export_command(whole_run.folder / "run", whole_run.folder / "later", say=said.append)


@pytest.mark.slow
def test_a_model_that_is_there_stops_a_run_before_it_begins(whole_run: WholeRun) -> None:
    with pytest.raises(OutputExists, match="mine exists"):
        train_command(
            whole_run.folder / "mine.toml",
            [whole_run.folder / "photos"],
            whole_run.folder / "mine",
            run=whole_run.folder / "never",
            progress=lambda *_: pytest.fail("began"),
        )
    assert not (whole_run.folder / "never").exists()


BAD = [
    ('{network = "small"}', '{network = "vgg"}', ConfigError, "no task network is called 'vgg'"),
    ('"small"}', '"small", learn = false}', ConfigError, "set learn = true"),
    (
        '{network = "small"}',
        '{network = "small", weights = "published"}',
        ConfigError,
        "small has no published weights",
    ),
    ("size = 40,", "size = 40, draw = [1, 1],", ConfigError, "draw has 2 values for 1 folders"),
    ("steps = 3", "steps = 0", ConfigError, "steps: must be positive"),
    ("seed = 3", "sed = 3", ConfigError, "unknown setting sed"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new", "error", "reason"), BAD, ids=[case[3] for case in BAD])
def test_a_configuration_that_cannot_be_run_takes_no_step(
    whole_run: WholeRun, tmp_path: Path, old: str, new: str, error: type[TacError], reason: str
) -> None:
    assert old in CONFIGURATION
    (tmp_path / "bad.toml").write_text(CONFIGURATION.replace(old, new))
    with pytest.raises(error, match=reason):
        train_command(
            tmp_path / "bad.toml",
            [whole_run.folder / "photos"],
            tmp_path / "out",
            run=tmp_path / "run",
            progress=lambda *_: pytest.fail("began"),
            say=lambda _: None,
        )
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    "content", [None, b"", b"garbage", b"\xff", b"[]", b"{}", b'{"config": {}}']
)
def test_a_folder_that_holds_no_run_is_not_exported(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        export_command(tmp_path, tmp_path / "out", say=lambda _: None)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.slow
def test_a_run_whose_pictures_are_gone_says_so(whole_run: WholeRun, tmp_path: Path) -> None:
    described = json.loads((whole_run.folder / "run" / "run.json").read_text())
    described["folders"] = [str(tmp_path / "gone")]
    (tmp_path / "run.json").write_text(json.dumps(described))
    with pytest.raises(DataError, match="gone is not a folder"):
        export_command(tmp_path, tmp_path / "out", say=lambda _: None)


@pytest.mark.slow
def test_a_run_goes_on_with_its_own_images_alone(
    whole_run: WholeRun, tmp_path: Path, monkeypatch: Any
) -> None:
    photos = shutil.copytree(whole_run.folder / "photos", tmp_path / "elsewhere")
    run = shutil.copytree(whole_run.folder / "run", tmp_path / "run")
    finished: list[Path] = []
    monkeypatch.setattr(Run, "finish", lambda run, network, out, *, force: finished.append(out))

    def go_on() -> None:
        train_command(
            whole_run.folder / "mine.toml",
            [photos],
            tmp_path / "trained",
            run=run,
            say=lambda _: None,
        )

    def export_again() -> None:
        export_command(run, tmp_path / "exported", say=lambda _: None)

    go_on()  # the same images at another place, which the run takes down
    export_again()
    assert [out.name for out in finished] == ["trained", "exported"]
    described = (run / "run.json").read_text()

    shutil.copy(photos / "red" / "0.png", photos / "red" / "more.png")
    for command in (go_on, export_again):
        with pytest.raises(ConfigError, match="with the files that they had, or train into anoth"):
            command()
    assert (run / "run.json").read_text() == described
    assert len(finished) == 2

    # An earlier version did not write down which images they were.
    earlier = json.loads(described)
    del earlier["data"]
    (run / "run.json").write_text(json.dumps(earlier))
    for command in (export_again, go_on):
        command()
    assert len(finished) == 4


@pytest.mark.slow
def test_folders_of_one_name_have_figures_each(whole_run: WholeRun, tmp_path: Path) -> None:
    folders = [whole_run.folder / "photos", tmp_path / "other" / "photos", tmp_path / "third"]
    for folder in folders[1:]:
        shutil.copytree(folders[0], folder)
    config = load_config(whole_run.folder / "mine.toml")
    data = scan(folders, config.data, config.seed)
    run = Run(Plan(config), data, tmp_path, say=lambda _: None)
    found = run.figures(whole_run.model, limit=1)
    names = [f"{whole_run.folder.name}/photos", "other/photos", "third"]
    assert list(found) == names
    lists = run.documents()["held-out.txt"].decode().splitlines()
    assert [line for line in lists[1:] if line.startswith("#")] == [f"# {name}" for name in names]


@pytest.mark.slow
def test_a_run_with_a_stage_of_constant_learning_rate_is_read_back(whole_run: WholeRun) -> None:
    described = json.loads((whole_run.folder / "run" / "run.json").read_text())
    assert described["config"]["stage"][0]["final_learning_rate"] is None
    config = parse_config(described["config"])
    assert config == load_config(whole_run.folder / "mine.toml")
    assert replace(config, seed=4) != config


def test_pictures_that_are_read_only_are_analysed_without_a_warning() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)  # of whole strides: nothing is padded, and so copied
    pixels.setflags(write=False)
    assert latent_of(trained(), pixels).shape[1:] == (8, 8)


@pytest.mark.slow
def test_channels_without_a_use_are_left_out(tmp_path: Path, small_head_is_known: None) -> None:
    network = trained()
    dead = 1
    with torch.no_grad():
        network.analysis.layers[3].bias[dead] = -1e4  # type: ignore[index]
        for weight in (*network.analysis.parameters(), *network.synthesis.parameters()):
            weight.copy_(weight.half())  # as it will be stored
    model = export_of(network, tmp_path / "pruned", levels=levels_of(network), head=None)
    pixels = image.load(PHOTOGRAPHS[0])
    network = network.eval()
    whole = latent_of(network, pixels).round().astype(np.int32)
    assert not whole[dead].any()
    kept = np.delete(whole, dead, axis=0)
    assert model.channels == len(kept) == 3

    codec = load_model(model.path, device="cpu", threads=1)
    np.testing.assert_array_equal(codec.quantise(codec.analyse(pixels), 1), kept)
    with torch.inference_mode():
        expected = network.synthesis(torch.from_numpy(whole[np.newaxis]).float()).numpy()
    found = codec.runtime.run("synthesis", kept[np.newaxis].astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_offsets_and_objectives_are_written_where_a_model_is_trained_for_them(
    exported: Model, tmp_path: Path
) -> None:
    objectives = [Objective(10.0, 0.0, 0.0, beta) for beta in (4.0, 2.0, 1.0)]
    ones = np.ones(4, np.float32)
    network = trained()
    levels = [
        LevelExport(ones * gain, ones / gain, network.prior.likelihood, objective)
        for gain, objective in zip((0.5, 1, 2), objectives, strict=True)
    ]
    model = export_of(network, tmp_path / "tuned", levels=levels)
    assert [level.objective for level in model.levels] == objectives
    assert all(level.offset in offsets.CANDIDATES for level in model.levels)
    assert [(level.offset, level.objective) for level in exported.levels] == [(0.5, None)] * 3


@pytest.mark.parametrize(
    ("alpha", "beta", "expected"),
    [(0.0, 0.0, 0.5), (0.0, 1e6, offsets.CANDIDATES[-1]), (1.0, 1e6, 0.35)],
)
def test_the_offset_follows_the_price_of_a_bit(alpha: float, beta: float, expected: float) -> None:
    # A codec whose latent is the picture, so that what rounds best is known: without a price the
    # nearest, and where only bits count the widest dead zone. What a task known by its answers
    # alone would lose by that is not counted, and the offset stays.
    random = np.random.default_rng(1)
    shades = np.minimum(random.exponential(30, (3, 32, 32, 3)), 255).astype(np.uint8)
    latents = [(pixels.transpose(2, 0, 1) / 255).astype(np.float32) for pixels in shades]
    synthesis = nn.Conv2d(3, 3, 1, bias=False)
    with torch.no_grad():
        synthesis.weight.copy_(torch.eye(3)[:, :, None, None])
    found = tune_offset(
        Networks(synthesis, None, 0, stride=1, halo=1),
        list(shades),
        latents,
        LevelExport(
            np.full(3, 8, np.float32),
            np.full(3, 1 / 8, np.float32),
            FactorizedPrior(3).likelihood,
            Objective(10.0, alpha, 0.0, beta),
            offset=0.35,
        ),
        ContextModel((1, 3)),
    )
    assert found.offset == expected


def test_channels_are_kept_where_a_symbol_is_not_zero() -> None:
    nothing = np.zeros((4, 2, 2), np.int32)
    symbols = nothing.copy()
    symbols[1, 1, 1], symbols[2, 0, 1] = 1, -3
    assert kept_channels([[nothing, nothing]], by_magnitude=True) == [0]
    assert kept_channels([[nothing, symbols], [nothing]], by_magnitude=False) == [1, 2]
    assert kept_channels([[nothing, symbols], [nothing]], by_magnitude=True) == [2, 1]
    # A width of 17 would be slow: what fills it up to a multiple of 16 stays, as far as there is.
    many = np.pad(np.ones((17, 1, 1), np.int32), ((0, 23), (0, 0), (0, 0)))
    assert kept_channels([[many]], by_magnitude=False) == list(range(32))
    assert kept_channels([[many[:20]]], by_magnitude=False) == list(range(20))


@pytest.mark.slow
def test_one_channel_is_left_where_none_is_used(tmp_path: Path) -> None:
    network = trained()
    nothing = [
        LevelExport(np.full(4, 1e-6, np.float32), np.ones(4, np.float32), network.prior.likelihood)
    ]
    model = export_of(network, tmp_path / "grey", levels=nothing, head=None)
    assert model.channels == 1


@pytest.mark.slow
def test_a_folder_with_learned_contexts(tmp_path: Path, small_head_is_known: None) -> None:
    """Written, read, told of, and refused where an array is gone."""
    random = np.random.default_rng(1)
    learning = [random.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(4)]
    model = export_of(trained(), tmp_path / "linear", learning=learning, head=None)
    assert isinstance(model.tables(1).contexts, LearnedContexts)
    codec = load_model(tmp_path / "linear", threads=1)
    data = codec.compress(learning[0]).data
    assert codec.decompress(data).size == (32, 32)
    with np.load(tmp_path / "linear" / "tables.npz") as file:
        arrays = dict(file)
    for name in ("sets", "magnitude_units", "sign_bias_1"):
        spoilt = Model(tmp_path / "linear")
        spoilt.__dict__["_table_file"] = {k: v for k, v in arrays.items() if k != name}
        with pytest.raises(DamagedModel, match="has no tables of level 1"):
            spoilt.tables(1)
    for name, value in (("sets", arrays["sets"] + 99), ("sign_weights", arrays["sign_bias_1"])):
        spoilt = Model(tmp_path / "linear")
        spoilt.__dict__["_table_file"] = arrays | {name: value}
        with pytest.raises(DamagedModel, match=r"sets|sign weights"):
            spoilt.tables(1)
