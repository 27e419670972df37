"""The networks of a model folder as torch modules.

Their weights are those of its safetensors file. A task network of which that has none keeps them in
its ONNX file alone.
"""

import dataclasses
from typing import Any

import onnx
import safetensors.torch
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from tactic_codec.errors import ConfigError, DamagedModel, TacError
from tactic_codec.model import MANIFEST, Model
from tactic_codec.networks.heads import build_head
from tactic_codec.networks.residual import ResidualAnalysis, ResidualConfig, ResidualSynthesis
from tactic_codec.networks.transforms import Analysis, Synthesis, TransformConfig

WEIGHTS = "weights.safetensors"
HALF = ".half"
"""How the names of weights end that an ONNX file stores in half precision and widens on loading."""


def load_network(model: Model, network: str) -> nn.Module:
    """Build a network of a model and load its weights.

    Args:
        model: the folder.
        network: ``analysis``, ``synthesis`` or a task.

    Returns:
        The network in evaluation mode, on the CPU, in float32.

    Raises:
        UnknownTask: the model has no such network.
        DamagedModel: the weights are damaged or do not fit the networks that the manifest names.
    """
    try:
        module = _build(model, network)
    except (ConfigError, KeyError, TypeError, ValueError, RuntimeError) as exc:
        raise DamagedModel(
            f"{model.path / MANIFEST} describes no {network} that can be built: {exc}"
        ) from exc
    weights, file = _weights(model, network, set(module.state_dict()))
    prefix = f"{network}."
    own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    try:
        module.load_state_dict(own)
    except RuntimeError as exc:
        raise DamagedModel(f"{model.path / file} does not fit the manifest: {exc}") from exc
    return module.eval()


def load_start(model: Model, task: str) -> dict[str, Tensor]:
    """Return all weights of a model by the names of `TacticNetwork`, to train on from there.

    Args:
        model: the folder.
        task: the task whose network becomes the head; the networks of others are left out.

    Raises:
        DamagedModel: the weights are damaged.
    """
    start = {}
    for name, weight in _weights(model, task)[0].items():
        part, _, rest = name.partition(".")
        if part == task:
            start[f"head.{rest}"] = weight
        elif part not in model.heads:
            start[name] = weight
    return start


def _weights(
    model: Model, network: str, known: set[str] | None = None
) -> tuple[dict[str, Tensor], str]:
    """Return all weights, and the file that has the network's: its ONNX file, if need be.

    Args:
        model: the folder.
        network: the task network; where it is none, nothing more is read.
        known: names of its weights; the exporter has constants of its own besides.
    """
    file = WEIGHTS
    try:
        weights = safetensors.torch.load(model.read_file(file))
        if network in model.heads and not any(k.startswith(f"{network}.") for k in weights):
            file = model.network_file(network)
            found = weights_in_onnx(model.read_file(file))
            weights |= {f"{network}.{k}": v for k, v in found.items() if not known or k in known}
    except TacError:
        raise
    except Exception as exc:  # those of protobuf share no base below it
        raise DamagedModel(f"{model.path / file} does not fit the manifest: {exc}") from exc
    # Networks are stored in half precision, and computed with in single.
    halves = {k: v.float() for k, v in weights.items() if v.dtype == torch.float16}
    return weights | halves, file


def weights_in_onnx(data: bytes) -> dict[str, Tensor]:
    """Return what an ONNX file stores, by the names of the module that it was exported from."""
    return {
        tensor.name.removesuffix(HALF): torch.tensor(numpy_helper.to_array(tensor))
        for tensor in onnx.load_model_from_string(data).graph.initializer
        if tensor.data_location != TensorProto.EXTERNAL  # any file of the disk
    }


def _build(model: Model, network: str) -> nn.Module:
    if network not in ("analysis", "synthesis"):
        head = model.head(network)
        return build_head(head.network, len(head.labels))
    transforms = transforms_of(model)
    if isinstance(transforms, ResidualConfig):
        return (ResidualAnalysis if network == "analysis" else ResidualSynthesis)(transforms)
    return (Analysis if network == "analysis" else Synthesis)(transforms)


def describe(transforms: TransformConfig | ResidualConfig) -> dict[str, Any]:
    """Return the manifest's description of transforms."""
    if isinstance(transforms, ResidualConfig):
        return {"kind": "residual", **dataclasses.asdict(transforms)}
    return {"kind": "paper", **transforms._asdict()}


def transforms_of(model: Model) -> TransformConfig | ResidualConfig:
    """Read the manifest's description of a model's transforms.

    Raises:
        KeyError, TypeError, ValueError: it describes none.
    """
    given = model.manifest["network"]
    if not isinstance(given, dict):
        raise TypeError(f"expected an object, found {given!r}")
    # The first models were written before there was a second kind.
    kind = given.get("kind", "paper")
    widths: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if k != "kind"
    }
    if kind not in ("paper", "residual"):
        raise ValueError(f"expected paper or residual transforms, found {kind!r}")
    config = TransformConfig if kind == "paper" else ResidualConfig
    missing = describe(config()).keys() - widths.keys() - {"kind"}
    if missing:  # defaults are for whoever trains
        raise KeyError(", ".join(sorted(missing)))
    return config(**widths)
