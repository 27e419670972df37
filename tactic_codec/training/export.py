"""From trained networks to a model folder.

    networks ─ symbols of calibration images ─ tables ─┐
             ─ ONNX, checked against torch ────────────┼─▶ folder with its manifest
             ─ safetensors ────────────────────────────┘

The folder is written beside its place and moved there when it is complete. Nothing in it names the
machine it was made on.
"""

import copy
import hashlib
import io
import json
import logging
import shutil
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import safetensors.torch
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from tactic_codec import codec
from tactic_codec.entropy import ContextModel, Contexts, FrequencyTables, LinearContexts
from tactic_codec.errors import OutputExists, TacError
from tactic_codec.model import (
    MANIFEST,
    MANIFEST_VERSION,
    PLAIN_OFFSET,
    SYNTHESIS,
    TABLES,
    Model,
    Objective,
)
from tactic_codec.networks.codec import TacticNetwork
from tactic_codec.networks.folder import WEIGHTS, describe
from tactic_codec.networks.heads import Task
from tactic_codec.networks.transforms import macs_per_pixel
from tactic_codec.picture import Pixels
from tactic_codec.refinement import Networks
from tactic_codec.tasks import TASKS
from tactic_codec.training.contexts import fit_contexts
from tactic_codec.training.offsets import tune_offset
from tactic_codec.training.tables import Likelihood, fit_shared_tables, fit_tables
from tactic_codec.training.tasks import TRAINING

TOLERANCE = 1e-3
"""Largest difference between ONNX Runtime and torch, relative to the largest value."""


WIDTH_UNIT = 16
"""Convolutions of widths that are no multiple of it take much longer: to train on from a latent of
255 channels took 2.6 s a step, from 256 1.1."""


class LevelExport(NamedTuple):
    """A quality level to be written into the folder.

    Attributes:
        gain: [C], what the encoder multiplies latents by before it rounds.
        inverse_gain: [C], what the decoder multiplies symbols by.
        likelihood: the density of the level's symbols.
    """

    gain: NDArray[np.float32]
    inverse_gain: NDArray[np.float32]
    likelihood: Likelihood


class HeadExport(NamedTuple):
    """A task network to be written into the folder.

    Attributes:
        network: the architecture's name.
        module: the trained network.
        input_size: side of the images it reads, or the longer one, in pixels: see `model.Head`.
        labels: a name for each class.
        classes: the folder name of each class in the training data.
        task: what it does.
        colours: of each class of a segmentation, such as "#804080".
    """

    network: str
    module: nn.Module
    input_size: int
    labels: Sequence[str]
    classes: Sequence[str]
    task: Task = "classify"
    colours: Sequence[str] = ()

    @property
    def file(self) -> str:
        """Its ONNX file in the folder."""
        return f"{self.task}.onnx"


def export(
    network: TacticNetwork,
    out: Path,
    *,
    name: str,
    description: str,
    levels: Sequence[LevelExport],
    calibration: Sequence[Pixels],
    contexts: ContextModel,
    learning: Sequence[Pixels] = (),
    head: HeadExport | None,
    training: Mapping[str, Any],
    objectives: Sequence[Objective] | None = None,
    offset: float = PLAIN_OFFSET,
    documents: Mapping[str, bytes] | None = None,
    overwrite: bool = False,
) -> Model:
    """Write a model folder.

    Args:
        network: the trained networks, on any device; they stay as they are.
        out: the folder to make.
        name: the model's name.
        description: one sentence for people.
        levels: quality levels, the smallest files first.
        calibration: pictures uint8 [H, W, 3] that tables are counted on.
        contexts: how neighbours choose a table.
        learning: other pictures that linear contexts are learned from, which then take the place of
            ``contexts``; offsets are still tuned by those.
        head: the task network, if the model has one.
        training: what the model was made from, for the manifest.
        objectives: of each level, what it was trained for; rounding offsets are tuned to it, and
            without it they stay as they were trained.
        offset: that the last stage of training rounded with.
        documents: further files for people, such as the configuration and the log.
        overwrite: replace a folder that is there.

    Returns:
        The model, read back from its folder and verified.

    Raises:
        OutputExists: see `check_place`.
        TacError: ONNX Runtime does not compute what torch does, or a weight is beyond what half
            precision holds.
    """
    check_place(out, overwrite=overwrite)
    # A copy: the run that this is an evaluation of goes on with its networks as they are.
    network = copy.deepcopy(network).cpu().float().eval()
    for part in (network.analysis, network.synthesis):
        _round_to_half(part)
    latents = [latent_of(network, pixels) for pixels in calibration]
    offsets = [offset] * len(levels)
    if objectives:
        offsets = _tune_offsets(
            network,
            head,
            levels,
            objectives,
            calibration,
            latents,
            contexts=contexts,
            trained=offset,
        )
    keep = kept_channels(_symbols(latents, levels, offsets), by_magnitude=bool(learning))
    network = network.pruned(keep).eval()
    kept = [
        level._replace(gain=level.gain[keep], inverse_gain=level.inverse_gain[keep])
        for level in levels
    ]
    coded = _symbols(latents, levels, offsets)
    if learning:
        seen = [latent_of(network, pixels) for pixels in learning]
        tables = _linear_tables(coded, keep, _symbols(seen, kept, offsets))
    else:
        tables = _plain_tables(coded, keep, contexts, levels)
    levels = kept
    files, weights = _networks(network, head)
    files[TABLES] = _npz(_table_arrays(tables))
    files[WEIGHTS] = safetensors.torch.save(weights)
    files |= documents or {}
    manifest = _manifest(network, name, description, levels, tables, head, files, training)
    manifest["encoder"]["offset"] = offsets
    if objectives:
        manifest["encoder"]["objective"] = [objective._asdict() for objective in objectives]
    files[MANIFEST] = json.dumps(manifest, indent=1, ensure_ascii=False).encode() + b"\n"

    return _write(out, files, calibration[0])


def _linear_tables(
    coded: Iterable[Sequence[NDArray[np.int32]]],
    keep: list[int],
    learning: Iterable[Sequence[NDArray[np.int32]]],
) -> list[FrequencyTables]:
    """Return tables of each level's kept channels, with contexts learned from other symbols."""
    return [
        fit_shared_tables([y[keep] for y in symbols], of_level)
        for symbols, of_level in zip(coded, fit_contexts(learning), strict=True)
    ]


def _plain_tables(
    coded: Iterable[Sequence[NDArray[np.int32]]],
    keep: list[int],
    contexts: ContextModel,
    levels: Sequence[LevelExport],
) -> list[FrequencyTables]:
    """Likewise, where neighbours' magnitudes choose the table."""
    # Neither the density nor thresholds on sums over channels know of those that are left out.
    fitted = [
        fit_tables(symbols, contexts, level.likelihood)
        for symbols, level in zip(coded, levels, strict=True)
    ]
    return [FrequencyTables(table.minimum, table.frequencies[keep], contexts) for table in fitted]


def add_head(
    model: Model,
    out: Path,
    *,
    name: str,
    head: HeadExport,
    training: Mapping[str, Any],
    example: Pixels,
    documents: Mapping[str, bytes] | None = None,
    overwrite: bool = False,
) -> Model:
    """Write a model folder with the codec of another and one more task network.

    Its fingerprint is that of ``model``: streams that were written before are served by the new
    network. A network for the same task is replaced, and its figures go; those of the codec stay.

    Args:
        model: what to take everything else from.
        out: the folder to make.
        name: of the new model.
        head: the task network.
        training: how it was trained, for the manifest.
        example: a picture uint8 [H, W, 3] on which both runtimes are compared.
        documents: further files for people, that replace those of the same name.
        overwrite: replace a folder that is there.

    Raises:
        OutputExists, TacError: as `export`.
        DamagedModel: a file of ``model`` differs from its manifest.
    """
    check_place(out, overwrite=overwrite)
    manifest = copy.deepcopy(model.manifest)
    files = {file: model.read_file(file) for file in manifest["files"]}
    data, own = _head_files(head)
    weights = safetensors.torch.load(files[WEIGHTS])
    kept = {k: v for k, v in weights.items() if not k.startswith(f"{head.task}.")}
    files |= {head.file: data, WEIGHTS: safetensors.torch.save(kept | own), **(documents or {})}
    manifest["name"] = name
    manifest["heads"][head.task] = _describe_head(head)
    manifest["heads_training"] = {**manifest.get("heads_training", {}), head.task: dict(training)}
    if "metrics" in manifest:
        manifest["metrics"] = _without_task(manifest["metrics"], head.task)
    manifest["files"] = _describe_files(files)
    files[MANIFEST] = json.dumps(manifest, indent=1, ensure_ascii=False).encode() + b"\n"
    return _write(out, files, example)


def _without_task(metrics: Any, task: Task) -> Any:
    """Drop what a task network made of the images of each folder, at each level."""
    gone = TASKS[task].figures(None, None).keys()

    def kept(value: Any) -> Any:
        if isinstance(value, list):
            return [kept(part) for part in value]
        if isinstance(value, dict):
            return {name: part for name, part in value.items() if name not in gone}
        return value

    return {folder: kept(figures) for folder, figures in metrics.items()}


def check_place(out: Path, *, overwrite: bool) -> None:
    """Refuse a place for a model folder where something would be lost.

    Args:
        out: the folder to be made.
        overwrite: whether a model folder that is there may be replaced.

    Raises:
        OutputExists: it is there and must not be replaced, or holds something other than a model.
    """
    if not out.exists() and not out.is_symlink():
        return
    if not overwrite:
        raise OutputExists(f"{out} exists; choose another name, or overwrite it with --force")
    if not (out / MANIFEST).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise OutputExists(f"{out} exists and is no model folder; choose another name")


def install(model: Model, out: Path, *, overwrite: bool) -> Model:
    """Copy a complete model folder to its place.

    Raises:
        OutputExists: see `check_place`.
    """
    check_place(out, overwrite=overwrite)
    with _beside(out) as new:
        shutil.copytree(model.path, new, dirs_exist_ok=True)
    return Model(out)


def _write(out: Path, files: Mapping[str, bytes], example: Pixels) -> Model:
    """Write a folder beside its place, check it, and move it there."""
    with _beside(out) as new:
        for file, data in files.items():
            (new / file).write_bytes(data)
        model = Model(new)
        model.verify()
        _check_runtimes(model, example)
    return Model(out)


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """Make a folder that takes the place of ``out`` when it is complete, and goes otherwise."""
    out = out.resolve()  # of a link, what it leads to is replaced
    # Names that nobody else has: what stands beside a model is not ours to remove.
    new, old = (out.with_name(f".{out.name}.{uuid.uuid4().hex}.{end}") for end in ("new", "old"))
    new.mkdir(parents=True)
    try:
        yield new
        if out.exists():
            out.rename(old)
        new.rename(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def levels_of(network: TacticNetwork) -> list[LevelExport]:
    """Return the quality levels of a network, the smallest files first."""
    network = copy.deepcopy(network).cpu()
    ones = np.ones((1, network.transforms.latent), np.float32)
    gain = inverse = ones
    if network.gains:
        gain = network.gains.gain.detach().numpy()
        inverse = network.gains.inverse_gain.detach().numpy()
    return [
        LevelExport(gain[i], inverse[i], partial(network.likelihood, level=i))
        for i in range(network.levels)
    ]


def latent_of(network: TacticNetwork, pixels: Pixels) -> NDArray[np.float32]:
    """Return the latent [C, h, w] of a picture uint8 [H, W, 3], by torch."""
    x_HWC = codec.pad(pixels, network.transforms.stride)
    x_BCHW = torch.from_numpy(x_HWC).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        latent: NDArray[np.float32] = network.analysis(x_BCHW)[0].numpy()
    return latent


def _tune_offsets(
    network: TacticNetwork,
    head: HeadExport | None,
    levels: Sequence[LevelExport],
    objectives: Sequence[Objective],
    calibration: Sequence[Pixels],
    latents: Sequence[NDArray[np.float32]],
    *,
    contexts: ContextModel,
    trained: float,
) -> list[float]:
    networks = Networks(
        synthesis=network.synthesis,
        head=copy.deepcopy(head.module).cpu().float().eval() if head else None,
        input_size=head.input_size if head else 0,
        stride=network.transforms.stride,
        halo=network.transforms.halo,
        segments=head is not None and head.task == "segment",
    )
    return [
        tune_offset(
            networks,
            calibration,
            latents,
            gain=level.gain,
            inverse_gain=level.inverse_gain,
            likelihood=level.likelihood,
            contexts=contexts,
            objective=objective,
            trained=trained,
        )
        for level, objective in zip(levels, objectives, strict=True)
    ]


def _symbols(
    latents: Sequence[NDArray[np.float32]],
    levels: Sequence[LevelExport],
    offsets: Sequence[float],
) -> Iterator[list[NDArray[np.int32]]]:
    """Yield the symbols of latents at each level: one level's at a time are held in memory."""
    for level, offset in zip(levels, offsets, strict=True):
        yield [codec.quantise(y, level.gain, offset) for y in latents]


def kept_channels(
    symbols: Iterable[Sequence[NDArray[np.int32]]], *, by_magnitude: bool
) -> list[int]:
    """Return the channels that are not zero in all symbols [C, h, w] of all levels.

    Rate pressure early in training leaves some channels without a use. They cost no bits, but the
    time of coding their zeros and of computing them, which is most of it where few are used. Where
    many are, some of the others stay, so that the width is a multiple of `WIDTH_UNIT`.

    Args:
        symbols: of each level and calibration image.
        by_magnitude: sort channels by falling sum of magnitudes.
    """
    magnitudes = np.sum(
        [np.abs(y).sum(axis=(1, 2), dtype=np.int64) for level in symbols for y in level], axis=0
    )
    count = max(1, int(np.count_nonzero(magnitudes)))  # networks have one channel at least
    if count > WIDTH_UNIT:
        count = min(-(-count // WIDTH_UNIT) * WIDTH_UNIT, len(magnitudes))
    largest_first = np.argsort(-magnitudes, kind="stable")[:count]
    kept: list[int] = (largest_first if by_magnitude else np.sort(largest_first)).tolist()
    return kept


def _table_arrays(tables: Sequence[FrequencyTables]) -> dict[str, NDArray[Any]]:
    """Return the arrays of the tables' file."""
    arrays: dict[str, NDArray[Any]] = {}
    for number, table in enumerate(tables, 1):
        arrays[f"level_{number}"] = table.frequencies
        contexts = table.contexts
        if isinstance(contexts, LinearContexts):
            arrays["sets"] = np.asarray(table.sets, np.int32)
            for kind in ("magnitude", "sign"):
                # The weights of all levels are the same.
                arrays[f"{kind}_weights"] = getattr(contexts, f"{kind}_weights")
                arrays[f"{kind}_bias_{number}"] = getattr(contexts, f"{kind}_bias")
    return arrays


def _describe_contexts(contexts: Contexts) -> dict[str, list[int]]:
    names = (
        ("own", "shared") if isinstance(contexts, ContextModel) else ("groups", "magnitude", "sign")
    )
    return {name: list(getattr(contexts, name)) for name in names}


def add_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write measured figures into the manifest of a model folder; its fingerprint stays.

    Those of other image folders stay, too: a head that was added has its own.
    """
    path = folder / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["metrics"] = {**manifest.get("metrics", {}), **metrics}
    path.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _networks(
    network: TacticNetwork, head: HeadExport | None
) -> tuple[dict[str, bytes], dict[str, Tensor]]:
    """Return ONNX files and named weights."""
    any_size = ({2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},)
    latent, stride = network.transforms.latent, network.transforms.stride
    # Sides that differ from each other and from 1, so that none is taken for a constant.
    rows, columns = 6, 4
    x_BCHW = torch.rand(1, 3, rows * stride, columns * stride)
    y_BCHW = torch.rand(1, latent, rows, columns)
    files = {
        "analysis.onnx": _onnx(network.analysis, x_BCHW, any_size),
        SYNTHESIS: _onnx(network.synthesis, y_BCHW, any_size),
    }
    # Beside what coding runs, the learned density and the gains: whoever trains on starts there.
    weights = {
        name: weight.half() if name.startswith(("analysis.", "synthesis.")) else weight
        for name, weight in network.state_dict().items()
        if not name.startswith("head.")
    }
    if head:
        files[head.file], own = _head_files(head)
        weights |= own
    return files, {k: v.contiguous() for k, v in weights.items()}


def _head_files(head: HeadExport) -> tuple[bytes, dict[str, Tensor]]:
    """Return a task network's ONNX file, and its named weights."""
    module = copy.deepcopy(head.module).cpu().float().eval()
    half = _round_to_half(module)
    data = _onnx(module, *TRAINING[head.task].example(head.input_size))
    return data, {f"{head.task}.{k}": v.contiguous() for k, v in half.items()}


def _round_to_half(module: nn.Module) -> dict[str, Tensor]:
    """Round the weights of a network, which computes with them in single, to half precision.

    Returns them, to be stored: what is stored is then what is run, by either runtime.
    """
    half = {k: v.half() if v.is_floating_point() else v for k, v in module.state_dict().items()}
    for name, weight in half.items():
        if weight.is_floating_point() and not weight.isfinite().all():
            raise TacError(
                f"{name} has weights beyond ±65,504, which half precision does not hold; train "
                "again with a lower learning rate"
            )
    module.load_state_dict(half)
    return half


def _onnx(module: nn.Module, example: Tensor, any_size: tuple[Any, ...] | None) -> bytes:
    """Export a network whose weights are rounded to half precision."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # The exporter uses parts of torch that torch deprecates.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.to(memory_format=torch.contiguous_format),  # type: ignore[call-overload]
            (example,),
            dynamo=True,
            dynamic_shapes=any_size,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    _forget_origin(proto)
    _store_half(proto.graph)
    onnx.checker.check_model(proto)
    data: bytes = proto.SerializeToString()
    return data


def _forget_origin(proto: Any) -> None:
    """Drop the exporter's notes on source lines: they tell of a machine, not of the network."""
    del proto.metadata_props[:]
    for part in (proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]


def _store_half(graph: Any) -> None:
    """Store weights in half precision, where it holds them, and widen them on loading.

    Those it does not hold are the exporter's own, such as a convolution's with the scale of the
    batch normalisation behind it: rounded, they would no longer compute what torch does.
    """
    casts = []
    for weight in graph.initializer:
        if weight.data_type != TensorProto.FLOAT or len(weight.dims) == 0:
            continue
        name = weight.name
        values = numpy_helper.to_array(weight)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            continue
        weight.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend(casts + nodes)


def _npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def _manifest(
    network: TacticNetwork,
    name: str,
    description: str,
    levels: Sequence[LevelExport],
    tables: Sequence[FrequencyTables],
    head: HeadExport | None,
    files: Mapping[str, bytes],
    training: Mapping[str, Any],
) -> dict[str, Any]:
    described = _describe_files(files)
    transforms = network.transforms
    return {
        "manifest_version": MANIFEST_VERSION,
        "name": name,
        "description": description,
        "normative": {
            "stride": transforms.stride,
            "channels": transforms.latent,
            "levels": [
                {
                    "minimum": table.minimum,
                    **_describe_contexts(table.contexts),
                    "inverse_gain": level.inverse_gain.tolist(),
                }
                for level, table in zip(levels, tables, strict=True)
            ],
            "files": {file: described[file]["sha256"] for file in (TABLES, SYNTHESIS)},
        },
        "halo": transforms.halo,
        "encoder": {
            "default_level": (len(levels) + 1) // 2,
            "gain": [level.gain.tolist() for level in levels],
        },
        "network": describe(transforms),
        "complexity": {
            "analysis_macs_per_pixel": macs_per_pixel(network.analysis, stride=transforms.stride),
            "synthesis_macs_per_pixel": macs_per_pixel(
                network.synthesis, latent=transforms.latent, stride=transforms.stride
            ),
        },
        "heads": {head.task: _describe_head(head)} if head else {},
        "files": described,
        "training": dict(training),
    }


def _describe_head(head: HeadExport) -> dict[str, Any]:
    described = {
        "file": head.file,
        "network": head.network,
        "input_size": head.input_size,
        "labels": list(head.labels),
        "classes": list(head.classes),
    }
    return described | ({"colours": list(head.colours)} if head.colours else {})


def _describe_files(files: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        file: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for file, data in files.items()
    }


def _check_runtimes(model: Model, pixels: Pixels) -> None:
    """Run every network by ONNX Runtime and by torch on a real picture and compare."""
    from tactic_codec.runtime import open_runtime

    reference, exported = open_runtime(model, "torch-cpu"), open_runtime(model, "cpu")
    x_HWC = codec.pad(pixels, model.stride)
    x = np.divide(x_HWC.transpose(2, 0, 1)[np.newaxis], 255, dtype=np.float32)
    level = model.level(model.default_level)
    symbols = codec.quantise(reference.run("analysis", x)[0], level.gain, level.offset)
    y_hat = symbols.astype(np.float32) * level.inverse_gain[:, np.newaxis, np.newaxis]
    arrays = {"analysis": x, "synthesis": y_hat[np.newaxis]}
    arrays |= {
        name: TASKS[name].prepare(pixels, head.input_size) for name, head in model.heads.items()
    }
    for network, array in arrays.items():
        expected, found = reference.run(network, array), exported.run(network, array)
        error = float(np.abs(expected - found).max() / max(np.abs(expected).max(), 1e-6))
        if not error < TOLERANCE:  # so written, it catches NaN
            raise TacError(
                f"the exported {network} differs from torch's by {error:.1e} of its largest value; "
                f"at most {TOLERANCE:.0e} was expected"
            )
