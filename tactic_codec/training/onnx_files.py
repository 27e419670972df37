"""Trained networks as files: ONNX, checked against torch, and weights in half precision."""

import copy
import logging
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from tactic_codec import codec
from tactic_codec.errors import TacError
from tactic_codec.model import SYNTHESIS, WHOLE_SIDES, Model
from tactic_codec.networks.codec import TacticNetwork
from tactic_codec.networks.folder import HALF, weights_in_onnx
from tactic_codec.networks.heads import Task
from tactic_codec.picture import Pixels, network_input
from tactic_codec.tasks import TASKS

TOLERANCE = 1e-3
"""Largest difference between ONNX Runtime and torch, relative to the largest value."""


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


def network_files(
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
        files[head.file], own = head_files(head)
        weights |= own
    return files, {k: v.contiguous() for k, v in weights.items()}


def head_files(head: HeadExport) -> tuple[bytes, dict[str, Tensor]]:
    """Return a task network's ONNX file, and its named weights where that has them not."""
    module = copy.deepcopy(head.module).cpu().float().eval()
    half = round_to_half(module)
    data = _onnx(module, *_example(head))
    stored = weights_in_onnx(data)
    if all(k in stored and _same(stored[k], v) for k, v in half.items()):
        half = {}
    return data, {f"{head.task}.{k}": v.contiguous() for k, v in half.items()}


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def _example(head: HeadExport) -> tuple[Tensor, tuple[Any, ...] | None]:
    """Return an image to export a network with, and what other sides it takes, if any."""
    if not TASKS[head.task].whole:
        return torch.rand(1, 3, head.input_size, head.input_size), None
    sides = {
        2: WHOLE_SIDES * torch.export.Dim("height"),
        3: WHOLE_SIDES * torch.export.Dim("width"),
    }
    return torch.rand(1, 3, 3 * WHOLE_SIDES, 2 * WHOLE_SIDES), (sides,)


def round_to_half(module: nn.Module) -> dict[str, Tensor]:
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
    store_half(proto.graph)
    onnx.checker.check_model(proto)
    data: bytes = proto.SerializeToString()
    return data


def _forget_origin(proto: Any) -> None:
    """Drop the exporter's notes on source lines: they tell of a machine, not of the network."""
    del proto.metadata_props[:]
    for part in (proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]


def store_half(graph: Any) -> None:
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
        weight.CopyFrom(numpy_helper.from_array(half, f"{name}{HALF}"))
        casts.append(helper.make_node("Cast", [f"{name}{HALF}"], [name], to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend(casts + nodes)


def check_runtimes(model: Model, pixels: Pixels) -> None:
    """Run every network by ONNX Runtime and by torch on a real picture and compare."""
    from tactic_codec.runtime import open_runtime

    reference, exported = open_runtime(model, "torch-cpu"), open_runtime(model, "cpu")
    x = network_input(codec.pad(pixels, model.stride))
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
