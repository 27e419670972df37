"""The training loop: stages of equation 9, checkpoints, a log line a step.

A run lives in a folder of its own::

    run/checkpoint.pt    everything that the next step depends on, replaced as a whole
    run/log.jsonl        one JSON object a step, and one an evaluation

Step n is a pure function of the state before it and of (seed, n): images, crops and noise are drawn
from generators seeded by both. A run that is killed and started again therefore ends with the same
weights as one that was left alone (on the same machine, with as many threads).
"""

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import torch
from torch import Tensor, nn
from torch.optim import Adam

from tactic_codec.errors import ConfigError
from tactic_codec.networks.codec import TacticNetwork
from tactic_codec.networks.heads import KINDS, build_head, classify
from tactic_codec.networks.transforms import TransformConfig
from tactic_codec.training import loss
from tactic_codec.training.config import StageConfig, TrainingConfig
from tactic_codec.training.data import Crops, ImageFolders, batches

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"

PRIOR_SPEED = 10
"""The density learns this many times faster than the rest: a prior that lags behind the latents
charges them bits that no file will hold, and the codec is then trained on a wrong rate."""


class Step(NamedTuple):
    """What one step did; the fields of a line of the log."""

    step: int  # counted over all stages, from 1
    stage: str
    loss: float
    distortion: float  # L_D
    task: float | None  # L_T, nats
    rate: float  # L_R, bits a pixel
    psnr: float  # dB, of this batch
    accuracy: float | None  # top-1 share of this batch
    learning_rate: float
    seconds: float


def build_network(config: TrainingConfig, classes: int) -> TacticNetwork:
    """Build the networks of a run with weights that follow from its seed."""
    torch.manual_seed(config.seed)
    task = config.task
    head = None
    if config.uses_task:
        head = build_head(task.network, classes, published=task.weights == "published")
        head.requires_grad_(task.learn)
    return TacticNetwork(TransformConfig(*asdict(config.network).values()), head)


def train(
    config: TrainingConfig,
    data: ImageFolders,
    run: Path,
    *,
    device: str = "cpu",
    on_start: Callable[[], None] | None = None,
    on_step: Callable[[Step], None] | None = None,
    evaluate: Callable[[TacticNetwork], dict[str, Any]] | None = None,
) -> TacticNetwork:
    """Train, or go on with a run that was interrupted, and return the trained networks.

    Args:
        config: the run.
        data: scanned folders.
        run: folder of checkpoint and log; made if it is missing.
        device: ``cpu`` or ``cuda``.
        on_start: called once the run folder is known to belong to this configuration.
        on_step: called after every step.
        evaluate: called every ``config.evaluation.every`` steps and at the end; what it returns
            goes to the log.

    Raises:
        ConfigError: the folder holds a run of another configuration.
    """
    run.mkdir(parents=True, exist_ok=True)
    network = build_network(config, len(data.classes)).to(device)
    # Channels last is what convolutions are fastest in, on CPUs as on CUDA.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = _build_optimizer(network)
    done = _resume(run, config, network, optimizer, device)
    if on_start:
        on_start()

    first = 0  # step of the run that the stage starts after
    crop = 0  # number of the crop that the stage starts with
    with (run / LOG).open("a", encoding="utf-8") as log:
        for stage in config.stage:
            last = first + stage.steps
            if done < last:
                crops = Crops(data.parts, config.data, stage.size, config.seed)
                start = max(done, first)
                images = batches(
                    crops,
                    batch=stage.batch,
                    first=crop + (start - first) * stage.batch,
                    last=crop + stage.steps * stage.batch,
                    workers=config.data.workers,
                )
                for step, batch in enumerate(images, start + 1):
                    report = _step(config, stage, network, optimizer, step, first, batch, device)
                    log.write(json.dumps(report._asdict()) + "\n")
                    if on_step:
                        on_step(report)
                    ends = step == config.steps
                    if ends or step % config.checkpoint_every == 0:
                        _save(run, config, network, optimizer, step, log)
                    if evaluate and (ends or step % config.evaluation.every == 0):
                        network.eval()
                        figures = evaluate(network)
                        log.write(json.dumps({"step": step, "evaluation": figures}) + "\n")
                        # Again: a run that is resumed does not evaluate this step a second time.
                        _save(run, config, network, optimizer, step, log)
            first = last
            crop += stage.steps * stage.batch
    network.eval()
    return network


def _build_optimizer(network: TacticNetwork) -> Adam:
    density = list(network.prior.parameters())
    theirs = {id(p) for p in density}
    others = [p for p in network.parameters() if p.requires_grad and id(p) not in theirs]
    return Adam([{"params": others}, {"params": density}])


def _step(
    config: TrainingConfig,
    stage: StageConfig,
    network: TacticNetwork,
    optimizer: Adam,
    step: int,
    first: int,
    batch: tuple[Tensor, Tensor],
    device: str,
) -> Step:
    """Take one step of the optimizer."""
    began = time.perf_counter()
    torch.manual_seed(config.seed * 1_000_003 + step)  # the noise of equation 5, and dropout
    learning_rate = _learning_rate(stage, (step - first - 1) / stage.steps)
    for group, speed in zip(optimizer.param_groups, (1, PRIOR_SPEED), strict=True):
        group["lr"] = learning_rate * speed

    images, labels_B = batch[0].to(device), batch[1].to(device)
    x_BCHW = (images.float() / 255).contiguous(memory_format=torch.channels_last)
    _set_mode(network, learn_head=config.task.learn)

    low = stage.precision == "bfloat16"
    with torch.autocast(device, torch.bfloat16, enabled=low):
        coded = network(x_BCHW, stage.quantisation)
        logits = None
        if network.head is not None and stage.alpha > 0:
            seen = _fit(coded.x_hat_BCHW.float(), KINDS[config.task.network].input_size)
            logits = classify(network.head, seen)

    x_hat_BCHW = coded.x_hat_BCHW
    terms = loss.Terms(
        distortion=loss.distortion(x_hat_BCHW, x_BCHW, stage.pixel_scale),
        task=loss.task(logits, labels_B) if logits else x_BCHW.new_zeros(()),
        rate=loss.rate(coded.bits, x_BCHW),
    )
    total = terms.total(stage.alpha, stage.beta)
    optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    optimizer.step()

    accuracy = None
    if logits:
        accuracy = (logits.main.argmax(1) == labels_B).float().mean().item()
    mse = terms.distortion.item() / stage.pixel_scale**2
    return Step(
        step=step,
        stage=stage.name,
        loss=total.item(),
        distortion=terms.distortion.item(),
        task=terms.task.item() if logits else None,
        rate=terms.rate.item(),
        psnr=-10 * math.log10(max(mse, 1e-10)),
        accuracy=accuracy,
        learning_rate=learning_rate,
        seconds=time.perf_counter() - began,
    )


def _set_mode(network: TacticNetwork, *, learn_head: bool) -> None:
    network.train()
    if network.head is not None and not learn_head:
        # A head kept as it is keeps its statistics too, and drops nothing out.
        network.head.eval()


def _fit(x_hat_BCHW: Tensor, size: int) -> Tensor:
    """Scale reconstructions to the size that the task network reads."""
    if x_hat_BCHW.shape[-1] == size:
        return x_hat_BCHW
    return nn.functional.interpolate(
        x_hat_BCHW, size=(size, size), mode="bilinear", antialias=True, align_corners=False
    )


def _learning_rate(stage: StageConfig, progress: float) -> float:
    """Go from the first to the final learning rate along a half cosine; progress in [0, 1)."""
    if stage.final_learning_rate is None:
        return stage.learning_rate
    fall = (1 - math.cos(math.pi * progress)) / 2
    return stage.learning_rate + fall * (stage.final_learning_rate - stage.learning_rate)


def _save(
    run: Path,
    config: TrainingConfig,
    network: TacticNetwork,
    optimizer: Adam,
    step: int,
    log: TextIO,
) -> None:
    log.flush()
    state = {
        "config": json.dumps(asdict(config)),
        "step": step,
        "network": _learned_state(network),
        "optimizer": optimizer.state_dict(),
        "log_bytes": (run / LOG).stat().st_size,
    }
    sibling = run / f"{CHECKPOINT}.new"
    torch.save(state, sibling)
    os.replace(sibling, run / CHECKPOINT)


def _learned_state(network: TacticNetwork) -> dict[str, Tensor]:
    """Leave out a task network that is kept as it starts: build_network makes it again."""
    kept = network.head is not None and not any(p.requires_grad for p in network.head.parameters())
    return {k: v for k, v in network.state_dict().items() if not (kept and k.startswith("head."))}


def _load_state(network: TacticNetwork, state: dict[str, Tensor], path: Path) -> None:
    if state.keys() != _learned_state(network).keys():
        raise ConfigError(f"{path} holds other networks than the configuration describes")
    network.load_state_dict(state, strict=False)


def load_trained(config: TrainingConfig, classes: int, run: Path) -> TacticNetwork:
    """Return the networks of a run's newest checkpoint, on the CPU, in evaluation mode.

    Raises:
        ConfigError: there is no checkpoint, or not one of this configuration.
    """
    path = run / CHECKPOINT
    if not path.exists():
        raise ConfigError(f"{run} has no checkpoint yet; train it first")
    network = build_network(config, classes)
    state = torch.load(path, map_location="cpu", weights_only=True)
    _load_state(network, state["network"], path)
    return network.eval()


def _resume(
    run: Path, config: TrainingConfig, network: TacticNetwork, optimizer: Adam, device: str
) -> int:
    """Load the checkpoint, if there is one, and return how many steps it has behind it."""
    path = run / CHECKPOINT
    if not path.exists():
        (run / LOG).unlink(missing_ok=True)
        return 0
    state = torch.load(path, map_location=device, weights_only=True)
    if state["config"] != json.dumps(asdict(config)):
        raise ConfigError(
            f"{run} holds a run of another configuration; "
            "give another --run folder, or the configuration that it began with"
        )
    _load_state(network, state["network"], path)
    optimizer.load_state_dict(state["optimizer"])
    # Lines after the checkpoint belong to steps that will be taken again.
    with (run / LOG).open("r+b") as log:
        log.truncate(state["log_bytes"])
    step: int = state["step"]
    return step
