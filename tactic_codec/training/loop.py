"""The training loop: stages of equation 9, checkpoints, a log line a step.

A run lives in a folder of its own::

    run/checkpoint.pt    everything that the next step depends on, replaced as a whole
    run/log.jsonl        one JSON object a step, and one an evaluation

Step n is a pure function of the state before it and of (seed, n): images, crops and noise are drawn
from generators seeded by both. A run that is killed and started again therefore ends with the same
weights as one that was left alone (on the same machine, with as many threads).
"""

import copy
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tactic_codec.errors import ConfigError
from tactic_codec.networks.codec import Coded, TacticNetwork
from tactic_codec.networks.efficientnet_lite import EfficientNetLite0
from tactic_codec.networks.heads import KINDS, Logits, build_head, classify
from tactic_codec.networks.transforms import TransformConfig
from tactic_codec.training import loss
from tactic_codec.training.config import StageConfig, TrainingConfig, parse_config
from tactic_codec.training.data import Crops, ImageFolders, batches

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"

LEVEL_BALANCE = 0.35
"""Power of 1/β that weighs the levels in a batch. Losses shrink as levels rise, in the end about as
√β: without weights the high levels would be lost beside the low ones."""

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
    rate: float  # L_R, bits a pixel, mean over the batch's levels
    psnr: float  # dB, of this batch
    accuracy: float | None  # top-1 share of the labelled images of this batch
    agreement: float | None  # share whose most likely class is the teacher's
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
    transforms = config.residual or TransformConfig(*asdict(config.network).values())
    return TacticNetwork(transforms, head, gains=config.gains)


class _Learner(NamedTuple):
    """What a run consists of while it trains."""

    network: TacticNetwork
    optimizer: Adam
    average: AveragedModel | None  # of the network's weights
    teacher: nn.Module | None  # sees the uncompressed images; learns in stages without coding only


def train(
    config: TrainingConfig,
    data: ImageFolders,
    run: Path,
    *,
    device: str = "cpu",
    start: Mapping[str, Tensor] | None = None,
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
        start: weights that a new run starts from, by name; the others start at random.
        on_start: called once the run folder is known to belong to this configuration.
        on_step: called after every step.
        evaluate: called every ``config.evaluation.every`` steps and at the end; what it returns
            goes to the log.

    Raises:
        ConfigError: the folder holds a run of another configuration.
    """
    run.mkdir(parents=True, exist_ok=True)
    learner = _build_learner(config, len(data.classes), device, start or {})
    done = _resume(run, config, learner, device)
    if on_start:
        on_start()

    first = 0  # step of the run that the stage starts after
    crop = 0  # number of the crop that the stage starts with
    with (run / LOG).open("a", encoding="utf-8") as log:
        for stage in config.stage:
            last = first + stage.steps
            if done < last:
                crops = Crops(data.parts, config.data, stage.size, config.seed)
                begin = max(done, first)
                if begin == first:
                    # Another objective has gradients of another size: with the moments of the last
                    # one, Adam's first steps would be as many times too long.
                    learner.optimizer.state.clear()
                images = batches(
                    crops,
                    batch=stage.batch,
                    first=crop + (begin - first) * stage.batch,
                    last=crop + stage.steps * stage.batch,
                    workers=config.data.workers,
                )
                for step, batch in enumerate(images, begin + 1):
                    report = _step(config, stage, learner, step, first, batch, device)
                    log.write(json.dumps(report._asdict()) + "\n")
                    if on_step:
                        on_step(report)
                    ends = step == config.steps
                    if ends or step % config.checkpoint_every == 0:
                        _save(run, config, learner, step, log)
                    if evaluate and (ends or step % config.evaluation.every == 0):
                        figures = evaluate(_trained(learner))
                        log.write(json.dumps({"step": step, "evaluation": figures}) + "\n")
                        # Again: a run that is resumed does not evaluate this step a second time.
                        _save(run, config, learner, step, log)
            first = last
            crop += stage.steps * stage.batch
    return _trained(learner)


def _build_learner(
    config: TrainingConfig, classes: int, device: str, start: Mapping[str, Tensor]
) -> _Learner:
    network = build_network(config, classes)
    network.load_state_dict(dict(start), strict=False)
    # Channels last is what convolutions are fastest in, on CPUs as on CUDA.
    network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    teacher = None
    if config.uses_teacher and network.head is not None:
        # A head that does not learn is its own teacher.
        teacher = copy.deepcopy(network.head) if config.task.learn else network.head
        teacher.eval().requires_grad_(False)
    average = None
    if config.ema:
        multi_avg_fn = get_ema_multi_avg_fn(config.ema)  # type: ignore[no-untyped-call]
        average = AveragedModel(network, multi_avg_fn=multi_avg_fn)
    return _Learner(network, _build_optimizer(network), average, teacher)


def _trained(learner: _Learner) -> TacticNetwork:
    """Return the networks as they are exported: the average, where one is kept."""
    network = learner.average.module if learner.average else learner.network
    assert isinstance(network, TacticNetwork)
    return network.eval()


def _build_optimizer(network: TacticNetwork) -> Adam:
    density = list(network.prior.parameters())
    theirs = {id(p) for p in density}
    head = [p for p in network.head.parameters() if p.requires_grad] if network.head else []
    theirs |= {id(p) for p in head}
    others = [p for p in network.parameters() if p.requires_grad and id(p) not in theirs]
    return Adam([{"params": others}, {"params": density}, {"params": head}])


def _step(
    config: TrainingConfig,
    stage: StageConfig,
    learner: _Learner,
    step: int,
    first: int,
    batch: tuple[Tensor, Tensor],
    device: str,
) -> Step:
    """Take one step of the optimizer."""
    began = time.perf_counter()
    network, optimizer = learner.network, learner.optimizer
    # The levels, the noise of equation 5, and dropout.
    torch.manual_seed(config.seed * 1_000_003 + step)
    learning_rate = _learning_rate(stage, step - first - 1)
    speeds = (1, PRIOR_SPEED, config.task.speed)
    for group, speed in zip(optimizer.param_groups, speeds, strict=True):
        group["lr"] = learning_rate * speed

    images, labels_B = batch[0].to(device), batch[1].to(device)
    level_B = torch.randint(network.levels, labels_B.shape).to(device)
    beta_B = stage.beta * stage.beta_ratio**level_B
    x_BCHW = (images.float() / 255).contiguous(memory_format=torch.channels_last)
    _set_mode(network, learn_head=config.task.learn)

    low = stage.precision == "bfloat16" or (stage.precision == "auto" and device == "cuda")
    with torch.autocast(device, torch.bfloat16, enabled=low):
        if stage.quantisation == "none":
            coded = Coded(x_BCHW, torch.zeros_like(beta_B))
        else:
            coded = network(x_BCHW, stage.quantisation, level_B)
        seen = None
        if network.head is not None and stage.alpha > 0:
            seen = _see(config, stage, learner, coded.x_hat_BCHW.float(), x_BCHW, labels_B)

    terms = loss.Terms(
        distortion_B=loss.distortion(coded.x_hat_BCHW, x_BCHW, stage.pixel_scale),
        task_B=seen.loss_B if seen else torch.zeros_like(coded.bits_B),
        rate_B=loss.rate(coded.bits_B, x_BCHW),
    )
    weight_B = (beta_B / stage.beta) ** -LEVEL_BALANCE
    total = (weight_B * terms.total(stage.alpha, beta_B)).mean()
    optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    if stage.clip is not None:
        torch.nn.utils.clip_grad_norm_(network.parameters(), stage.clip)
    optimizer.step()
    if learner.average:
        learner.average.update_parameters(network)
    if stage.quantisation == "none" and learner.teacher:
        assert network.head is not None
        learner.teacher.load_state_dict(network.head.state_dict())

    mse_B = terms.distortion_B.detach() / stage.pixel_scale**2
    return Step(
        step=step,
        stage=stage.name,
        loss=total.item(),
        distortion=terms.distortion_B.mean().item(),
        task=terms.task_B.mean().item() if seen else None,
        rate=terms.rate_B.mean().item(),
        psnr=(-10 * torch.log10(mse_B.clamp_min(1e-10))).mean().item(),
        accuracy=seen.accuracy if seen else None,
        agreement=seen.agreement if seen else None,
        learning_rate=learning_rate,
        seconds=time.perf_counter() - began,
    )


class _Seen(NamedTuple):
    """What the task network made of a batch."""

    loss_B: Tensor  # L_T
    accuracy: float | None
    agreement: float | None


def _see(
    config: TrainingConfig,
    stage: StageConfig,
    learner: _Learner,
    x_hat_BCHW: Tensor,
    x_BCHW: Tensor,
    labels_B: Tensor,
) -> _Seen:
    """Run the task network on reconstructions, and the teacher on the images."""
    head, teacher = learner.network.head, learner.teacher
    assert head is not None
    size = KINDS[config.task.network].input_size
    if stage.features == 0:
        x_BCHW, x_hat_BCHW = _fit(x_BCHW, size), _fit(x_hat_BCHW, size)
    # A picture file holds no more than black and white.
    x_hat_BCHW = x_hat_BCHW.clamp(0, 1)
    features: list[Tensor] = []
    if isinstance(head, EfficientNetLite0):
        main, features = head.with_features(x_hat_BCHW)
        logits = Logits(main)
    else:
        logits = classify(head, x_hat_BCHW)
    loss_B = stage.label * loss.cross_entropy(logits, labels_B)
    answer_B = logits.main.argmax(1)
    agreement = None
    if teacher is not None and stage.quantisation != "none":
        with torch.no_grad():
            if isinstance(teacher, EfficientNetLite0):
                target, wanted = teacher.with_features(x_BCHW)
            else:
                target, wanted = classify(teacher, x_BCHW).main, []
        loss_B = loss_B + stage.distill * loss.divergence(logits.main, target)
        if stage.features > 0:
            loss_B = loss_B + stage.features * loss.feature_error(features, wanted)
        agreement = (answer_B == target.argmax(1)).float().mean().item()
    labelled_B = labels_B != loss.UNLABELLED
    accuracy = None
    if labelled_B.any():
        accuracy = (answer_B == labels_B)[labelled_B].float().mean().item()
    return _Seen(loss_B, accuracy, agreement)


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


def _learning_rate(stage: StageConfig, taken: int) -> float:
    """Go from the first to the final learning rate along a half cosine, after ``taken`` steps."""
    rise = min(1.0, (taken + 1) / (stage.warmup + 1))
    if stage.final_learning_rate is None:
        return stage.learning_rate * rise
    fall = (1 - math.cos(math.pi * taken / stage.steps)) / 2
    return rise * (stage.learning_rate + fall * (stage.final_learning_rate - stage.learning_rate))


def _save(run: Path, config: TrainingConfig, learner: _Learner, step: int, log: TextIO) -> None:
    log.flush()
    state = {
        "config": json.dumps(asdict(config)),
        "step": step,
        "network": _learned_state(learner.network),
        "optimizer": learner.optimizer.state_dict(),
        "log_bytes": (run / LOG).stat().st_size,
    }
    if learner.average:
        state["average"] = _learned_state(_trained(learner))
        state["averaged"] = int(learner.average.n_averaged)
    if learner.teacher and config.task.learn:
        state["teacher"] = learner.teacher.state_dict()
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
    _load_state(network, state.get("average", state["network"]), path)
    return network.eval()


def _resume(run: Path, config: TrainingConfig, learner: _Learner, device: str) -> int:
    """Load the checkpoint, if there is one, and return how many steps it has behind it."""
    path = run / CHECKPOINT
    if not path.exists():
        (run / LOG).unlink(missing_ok=True)
        return 0
    state = torch.load(path, map_location=device, weights_only=True)
    step: int = state["step"]
    if not _continues(parse_config(json.loads(state["config"]), str(path)), config, step):
        raise ConfigError(
            f"{run} holds a run of another configuration; give another --run folder, or the "
            "configuration that it began with: only what lies ahead of it may be changed"
        )
    _load_state(learner.network, state["network"], path)
    learner.optimizer.load_state_dict(state["optimizer"])
    if learner.average:
        average = learner.average.module
        assert isinstance(average, TacticNetwork)
        _load_state(average, state["average"], path)
        learner.average.n_averaged.fill_(state["averaged"])
    if learner.teacher and config.task.learn:
        learner.teacher.load_state_dict(state["teacher"])
    # Lines after the checkpoint belong to steps that will be taken again.
    with (run / LOG).open("r+b") as log:
        log.truncate(state["log_bytes"])
    return step


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
    )
