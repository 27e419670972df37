"""A run's checkpoint: everything that the next step depends on, written as a whole or not at all.

run/checkpoint.pt         networks, optimizer, moving average, teacher, the step, the configuration
run/weights.safetensors   beside it: what would be exported, the step, the configuration
run/log.jsonl             cut back to where it was when the checkpoint was written

The weights, in half precision, are small enough to be carried elsewhere. Where they are all that is
left of a run it goes on from them: the optimizer's moments and the moving average start anew.
"""

import errno
import json
import os
import pickle
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.swa_utils import AveragedModel

from tactic_codec.errors import ConfigError
from tactic_codec.networks.codec import TacticNetwork
from tactic_codec.training.config import TrainingConfig, parse_config

CHECKPOINT = "checkpoint.pt"
CARRIED = "weights.safetensors"
LOG = "log.jsonl"

_STATE = {"config", "step", "network", "optimizer", "log_bytes"}
"""What every checkpoint holds."""


class Learner(NamedTuple):
    """What a run consists of while it trains."""

    config: TrainingConfig
    device: str
    network: TacticNetwork
    optimizer: Adam
    average: AveragedModel | None  # of the network's weights
    teacher: nn.Module | None  # sees the uncompressed images; learns in stages without coding only

    @property
    def trained(self) -> TacticNetwork:
        """The networks as they are exported: the average, where one is kept."""
        network = self.average.module if self.average else self.network
        assert isinstance(network, TacticNetwork)
        return network.eval()


def save(run: Path, learner: Learner, step: int, anew: int) -> None:
    """Replace the run's checkpoint; its log must have been flushed.

    Args:
        run: the folder.
        learner: what is saved.
        step: how many steps are behind it.
        anew: step at which the optimizer's moments started.
    """
    state = {
        "config": json.dumps(asdict(learner.config)),
        "step": step,
        "anew": anew,
        "network": _learned_state(learner.network),
        "optimizer": learner.optimizer.state_dict(),
        "log_bytes": (run / LOG).stat().st_size,
    }
    if learner.average:
        state["average"] = _learned_state(learner.trained)
        state["averaged"] = int(learner.average.n_averaged)
    if learner.teacher and learner.config.task.learn:
        state["teacher"] = learner.teacher.state_dict()
    weights = {k: halved(v) for k, v in _learned_state(learner.trained).items()}
    about = {"config": str(state["config"]), "step": str(step)}
    torch.save(state, run / f"{CHECKPOINT}.new")
    safetensors.torch.save_file(weights, run / f"{CARRIED}.new", about)
    for name in (CHECKPOINT, CARRIED):
        os.replace(run / f"{name}.new", run / name)


def halved(weight: Tensor) -> Tensor:
    """Return a weight in half precision on the CPU; integers stay."""
    return (weight.half() if weight.is_floating_point() else weight).cpu().contiguous()


class Resumed(NamedTuple):
    """Where a run goes on."""

    step: int  # that it has behind it
    anew: int  # step at which the optimizer's moments started


def resume(run: Path, learner: Learner) -> Resumed:
    """Load the checkpoint, or the weights where there is none, and say where the run goes on.

    Raises:
        ConfigError: they belong to another configuration, or are damaged.
    """
    path, config = run / CHECKPOINT, learner.config
    if not path.exists():
        return _resume_weights(run / CARRIED, learner)
    state = _load(path, learner.device)
    step: int = state["step"]
    _check_continues(state["config"], config, step, path)
    _load_state(learner.network, state["network"], path)
    learner.optimizer.load_state_dict(state["optimizer"])
    if learner.average:
        _load_state(learner.trained, state["average"], path)
        learner.average.n_averaged.fill_(state["averaged"])
    if learner.teacher and config.task.learn:
        learner.teacher.load_state_dict(state["teacher"])
    return Resumed(step, state.get("anew", 0))


def _resume_weights(path: Path, learner: Learner) -> Resumed:
    if not path.exists():
        return Resumed(0, 0)
    try:
        with safetensors.safe_open(path, "pt") as opened:
            about = opened.metadata() or {}
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        step = int(about["step"])
        _check_continues(about["config"], learner.config, step, path)
    except (safetensors.SafetensorError, KeyError, ValueError, OSError) as exc:
        raise ConfigError(f"{path} is damaged: {exc}; give another --run folder") from exc
    _load_state(learner.network, weights, path)
    if learner.average:
        _load_state(learner.trained, weights, path)
    return Resumed(step, step)


def _check_continues(described: str, config: TrainingConfig, step: int, path: Path) -> None:
    if not _continues(parse_config(json.loads(described), str(path)), config, step):
        raise ConfigError(
            f"{path.parent} holds a run of another configuration; give another --run folder, or "
            "the configuration that it began with: only what lies ahead of it may be changed"
        )


def cut_log(run: Path) -> None:
    """Drop the log's lines behind the checkpoint: their steps will be taken again.

    Raises:
        ConfigError: the checkpoint is damaged.
    """
    path = run / CHECKPOINT
    if not path.exists():
        if not (run / CARRIED).exists():
            (run / LOG).unlink(missing_ok=True)
        return
    state = _load(path, "cpu", mmap=True)
    with (run / LOG).open("r+b") as log:
        log.truncate(state["log_bytes"])


def load_trained(network: TacticNetwork, run: Path) -> TacticNetwork:
    """Load what a run's newest checkpoint would export into networks on the CPU.

    Raises:
        ConfigError: there is no checkpoint, or not one of such networks, or it is damaged.
    """
    path = run / CHECKPOINT
    if not path.exists():
        raise ConfigError(f"{run} has no checkpoint yet; train it first")
    state = _load(path, "cpu")
    _load_state(network, state.get("average", state["network"]), path)
    return network.eval()


def _load(path: Path, device: str, *, mmap: bool = False) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True, mmap=mmap)
        lacking = _STATE - state.keys() if isinstance(state, dict) else _STATE
        if lacking:
            raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
    except (RuntimeError, ValueError, EOFError, OSError, pickle.UnpicklingError) as exc:
        if isinstance(exc, OSError) and exc.errno != errno.EINVAL:  # torch's, of files cut short
            raise
        raise ConfigError(
            f"{path} is damaged: {str(exc).partition(chr(10))[0]}; delete it to start anew, or "
            "give another --run folder"
        ) from exc
    return state


def _learned_state(network: TacticNetwork) -> dict[str, Tensor]:
    """Leave out a task network that is kept as it starts: it is built again."""
    kept = network.head is not None and not any(p.requires_grad for p in network.head.parameters())
    return {k: v for k, v in network.state_dict().items() if not (kept and k.startswith("head."))}


def _load_state(network: TacticNetwork, state: dict[str, Tensor], path: Path) -> None:
    if state.keys() != _learned_state(network).keys():
        raise ConfigError(f"{path} holds other networks than the configuration describes")
    network.load_state_dict(state, strict=False)


def _continues(before: TrainingConfig, now: TrainingConfig, step: int) -> bool:
    """Tell whether a run may go on under another configuration.

    Stages that are not begun may change, and so may the length of the one under way where its
    learning rate is constant; of what was trained, everything has to be as it was.
    """
    begun, first = 1, 0
    while begun < len(before.stage) and first + before.stage[begun - 1].steps < step:
        first += before.stage[begun - 1].steps
        begun += 1
    if len(now.stage) < begun:
        return False
    then, today = before.stage[begun - 1], now.stage[begun - 1]
    if then.final_learning_rate is None and first + today.steps >= step:
        then = replace(then, steps=today.steps)
    return replace(before, stage=(*before.stage[: begun - 1], then)) == replace(
        now,
        stage=now.stage[:begun],
        description=before.description,
        checkpoint_every=before.checkpoint_every,
        evaluation=before.evaluation,
        entropy=before.entropy,
        data=replace(now.data, workers=before.data.workers),
    )
