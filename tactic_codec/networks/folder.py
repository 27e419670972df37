"""The networks of a model folder as torch modules, with the weights of its safetensors file."""

import safetensors
import safetensors.torch
import torch
from torch import nn

from tactic_codec.errors import ConfigError, DamagedModel
from tactic_codec.model import MANIFEST, Model
from tactic_codec.networks.heads import build_head
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
        # Task networks are stored in half precision, and computed with in single.
        module.load_state_dict({k: v.to(_single(v.dtype)) for k, v in own.items()})
    except (safetensors.SafetensorError, RuntimeError) as exc:
        raise DamagedModel(f"{model.path / WEIGHTS} does not fit the manifest: {exc}") from exc
    return module.eval()


def _build(model: Model, network: str) -> nn.Module:
    if network not in ("analysis", "synthesis"):
        head = model.head(network)
        return build_head(head.network, len(head.labels))
    widths = model.manifest["network"]
    config = TransformConfig(widths["latent"], widths["analysis"], tuple(widths["synthesis"]))
    return (Analysis if network == "analysis" else Synthesis)(config)


def _single(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype == torch.float16 else dtype
