"""The networks of a model folder as torch modules, with the weights of its safetensors file."""

import dataclasses
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from tactic_codec.errors import ConfigError, DamagedModel
from tactic_codec.model import MANIFEST, Model
from tactic_codec.networks.heads import build_head
from tactic_codec.networks.residual import ResidualAnalysis, ResidualConfig, ResidualSynthesis
from tactic_codec.networks.transforms import Analysis, Synthesis, TransformConfig

WEIGHTS = "weights.safetensors"


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
    try:
        weights = safetensors.torch.load(model.read_file(WEIGHTS))
        prefix = f"{network}."
        own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        # Networks are stored in half precision, and computed with in single.
        module.load_state_dict({k: v.to(_single(v.dtype)) for k, v in own.items()})
    except (safetensors.SafetensorError, RuntimeError) as exc:
        raise DamagedModel(f"{model.path / WEIGHTS} does not fit the manifest: {exc}") from exc
    return module.eval()


def load_start(model: Model, task: str) -> dict[str, Tensor]:
    """Return all weights of a model by the names of `TacticNetwork`, to train on from there.

    Args:
        model: the folder.
        task: the task whose network becomes the head; the networks of others are left out.

    Raises:
        DamagedModel: the weights are damaged.
    """
    try:
        weights = safetensors.torch.load(model.read_file(WEIGHTS))
    except safetensors.SafetensorError as exc:
        raise DamagedModel(f"{model.path / WEIGHTS} cannot be read: {exc}") from exc
    start = {}
    for name, weight in weights.items():
        part, _, rest = name.partition(".")
        if part == task:
            start[f"head.{rest}"] = weight.to(_single(weight.dtype))
        elif part not in model.heads:
            start[name] = weight.to(_single(weight.dtype))
    return start


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
    known = TransformConfig() if kind == "paper" else ResidualConfig()
    missing = describe(known).keys() - widths.keys() - {"kind"}
    if missing:  # defaults are for whoever trains
        raise KeyError(", ".join(sorted(missing)))
    return TransformConfig(**widths) if kind == "paper" else ResidualConfig(**widths)


def _single(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype == torch.float16 else dtype
