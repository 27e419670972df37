"""The training loop: stages of equation 9, checkpoints, a log line a step.

Step n is a pure function of the state before it and of (seed, n): images, crops and noise are drawn
from generators seeded by both. A run that is killed and started again therefore ends with the same
weights as one that was left alone (on the same machine, with as many threads).

Under ``torchrun`` every process takes its share of each batch, and gradients are averaged; the
first process keeps log and checkpoint.
"""

import copy
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Adam
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tactic_codec.errors import ConfigError
from tactic_codec.networks.codec import TacticNetwork
from tactic_codec.networks.heads import LAST_LAYER, build_head
from tactic_codec.networks.transforms import TransformConfig
from tactic_codec.training import checkpoint, loss, parallel
from tactic_codec.training.checkpoint import LOG, Learner
from tactic_codec.training.config import StageConfig, TrainingConfig
from tactic_codec.training.data import Crops, ImageFolders, batches
from tactic_codec.training.objective import TrainingLoss
from tactic_codec.training.tasks import task_of
from tactic_codec.training.teacher import Teachers

FAST = 10
"""Density and gains learn this many times faster than the rest. A prior that lags behind latents
charges bits that no file will hold, and gains that lag behind keep levels from their rates."""


class Step(NamedTuple):
    """What one step did; the fields of a line of the log, of the first process's share."""

    step: int  # counted over all stages, from 1
    stage: str
    loss: float
    distortion: float  # L_D
    task: float | None  # L_T: nats, or a distance
    rate: float  # L_R, bits a pixel, mean over the batch's levels
    psnr: float  # dB, mean over the batch
    accuracy: float | None  # top-1 share of the labelled images, or pixels, of this batch
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
    network = TacticNetwork(transforms, head, gains=config.gains)
    if config.head_only:
        for part in (network.analysis, network.gains, network.prior, network.synthesis):
            if part is not None:
                part.requires_grad_(False)
    return network


def train(
    config: TrainingConfig,
    data: ImageFolders,
    run: Path,
    *,
    device: str = "cpu",
    start: Mapping[str, Tensor] | None = None,
    teachers: Teachers | None = None,
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
        teachers: of the configuration, where it has some.
        on_start: called once the run folder is known to belong to this configuration.
        on_step: called after every step, by the first process.
        evaluate: called every ``config.evaluation.every`` steps but for the last one, by the first
            process; what it returns goes to the log.

    Raises:
        ConfigError: the folder holds a run of another configuration, ``start`` does not fit, or a
            batch has fewer images than there are processes.
    """
    share = parallel.share()
    smallest = min(stage.batch for stage in config.stage)
    if smallest < share.of:
        raise ConfigError(
            f"a batch of {smallest} leaves nothing to some of {share.of} processes; "
            "start fewer, or enlarge batch"
        )
    run.mkdir(parents=True, exist_ok=True)
    task, classes = task_of(config), len(data.classes)
    learner = _build_learner(config, classes, device, start or {})
    objective: nn.Module = TrainingLoss(
        *(learner.network, learner.teacher, config.task, data.class_weights, config.offsets),
        None if teachers is None else teachers.to(device),
    )
    done, anew = checkpoint.resume(run, learner)
    parallel.wait()  # for all to have read what the first one will change
    if share.first:
        checkpoint.cut_log(run)
        if on_start:
            on_start()
    if share.of > 1:
        objective = DistributedDataParallel(objective, find_unused_parameters=True)

    # The step of the run that a stage starts after, and the number of the crop that it starts with.
    firsts = accumulate((stage.steps for stage in config.stage), initial=0)
    crops = accumulate((stage.steps * stage.batch for stage in config.stage), initial=0)
    for stage, first, crop in zip(config.stage, firsts, crops, strict=False):
        if done >= first + stage.steps:
            continue
        begin = max(done, first)
        if begin == first:
            # Another objective has gradients of another size: with the moments of the last one,
            # Adam's first steps would be as many times too long.
            learner.optimizer.state.clear()
            anew = first
        images = batches(
            Crops(*(data.parts, config.data, stage.size, config.seed), task=task, classes=classes),
            batch=stage.batch,
            first=crop + (begin - first) * stage.batch,
            last=crop + stage.steps * stage.batch,
            share=share,
            workers=config.data.workers,
        )
        for step, batch in enumerate(images, begin + 1):
            rate = _learning_rate(stage, step - first - 1, step - anew - 1)
            report = _step(learner, stage, objective, step, rate, batch, share)
            if not share.first:
                continue
            _write_line(run, report._asdict())
            if on_step:
                on_step(report)
            ends = step == config.steps
            if ends or step % config.checkpoint_every == 0:
                checkpoint.save(run, learner, step, anew)
            # The last step is evaluated when it is exported, by whoever does that.
            if evaluate and not ends and step % config.evaluation.every == 0:
                _write_line(run, {"step": step, "evaluation": evaluate(learner.trained)})
                # Again: a run that is resumed does not evaluate this step a second time.
                checkpoint.save(run, learner, step, anew)
    return learner.trained


def _write_line(run: Path, line: Mapping[str, Any]) -> None:
    """Append to the log."""
    with (run / LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


def _build_learner(
    config: TrainingConfig, classes: int, device: str, start: Mapping[str, Tensor]
) -> Learner:
    network = build_network(config, classes)
    shapes = {name: weight.shape for name, weight in network.state_dict().items()}
    fitting = {k: v for k, v in start.items() if shapes.get(k) == v.shape}
    # A head for other classes has another last layer, which starts anew, as does a density of an
    # older kind; the codec is one or not.
    strangers = [k for k in start if k not in fitting and not k.startswith(("head.", "prior."))]
    if strangers:
        raise ConfigError(
            f"the model to start from has other networks than the configuration describes: "
            f"{strangers[0]} does not fit; take widths and levels from its model.json"
        )
    network.load_state_dict(fitting, strict=False)
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
    return Learner(config, device, network, _build_optimizer(network, config), average, teacher)


def _build_optimizer(network: TacticNetwork, config: TrainingConfig) -> Adam:
    """Group what learns at a speed of its own, in the order of checkpoints; `_step` sets rates."""
    learning = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    fast = [p for part in ("prior.", "gains.") for n, p in learning if n.startswith(part)]
    last = [p for n, p in learning if n.startswith(LAST_LAYER)]
    head = [p for n, p in learning if n.startswith("head.") and not n.startswith(LAST_LAYER)]
    others = [p for n, p in learning if not n.startswith(("prior.", "gains.", "head."))]
    task = config.task
    groups = [
        {"params": others, "speed": 1.0},
        {"params": fast, "speed": FAST},
        {"params": head, "speed": task.speed},
        {"params": last, "speed": task.speed if task.last_speed is None else task.last_speed},
    ]
    return Adam([group for group in groups if group["params"]])


def _step(
    learner: Learner,
    stage: StageConfig,
    objective: nn.Module,
    step: int,
    learning_rate: float,
    batch: tuple[Tensor, Tensor],
    share: parallel.Share,
) -> Step:
    """Take one step of the optimizer."""
    began = time.perf_counter()
    config, network, optimizer = learner.config, learner.network, learner.optimizer
    # The levels, the noise of equation 5, and dropout.
    torch.manual_seed(config.seed * 1_000_003 + step)
    power = config.levels.draw_power if config.levels else 1.0
    level_B = draw_levels(network.levels, power, stage.batch)[share.slice].to(learner.device)
    if not share.first:
        torch.manual_seed((config.seed * 1_000_003 + step) * share.of + share.rank)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["speed"]

    images, labels = (part.to(learner.device) for part in batch)
    x_BCHW = (images.float() / 255).contiguous(memory_format=torch.channels_last)
    network.train()
    if network.head is not None and not config.task.learn:
        # A head kept as it is keeps its statistics too, and drops nothing out.
        network.head.eval()
    outcome = objective(x_BCHW, labels, level_B, stage)
    optimizer.zero_grad(set_to_none=True)
    outcome.total.backward()
    if stage.clip is not None:
        torch.nn.utils.clip_grad_norm_(network.parameters(), stage.clip)
    optimizer.step()
    if learner.average:
        learner.average.update_parameters(network)
    if stage.quantisation == "none" and learner.teacher:
        assert network.head is not None
        learner.teacher.load_state_dict(network.head.state_dict())

    terms = outcome.terms
    mse_B = terms.distortion_B.detach() / stage.pixel_scale**2
    sees = outcome.answer is not None or bool(config.teacher)
    return Step(
        step=step,
        stage=stage.name,
        loss=outcome.total.item(),
        distortion=terms.distortion_B.mean().item(),
        task=terms.task_B.mean().item() if sees else None,
        rate=terms.rate_B.mean().item(),
        psnr=(-10 * torch.log10(mse_B.clamp_min(1e-10))).mean().item(),
        accuracy=_share_of(outcome.answer, labels),
        agreement=_share_of(outcome.answer, outcome.teacher_answer),
        learning_rate=learning_rate,
        seconds=time.perf_counter() - began,
    )


def draw_levels(count: int, power: float, batch: int) -> Tensor:
    """Draw a quality level, counted from 0, for each image of a batch: int64 [batch].

    Args:
        count: how many there are.
        power: at least 1. With power p, the lowest share s of the levels is drawn with a
            probability of s ** (1 / p).
        batch: how many to draw.
    """
    return (torch.rand(batch) ** power * count).long()


def _share_of(answer: Tensor | None, expected: Tensor | None) -> float | None:
    """Return the share of expected answers among those of which anything is expected."""
    if answer is None or expected is None:
        return None
    known = expected != loss.UNLABELLED
    if not known.any():
        return None
    return (answer == expected)[known].float().mean().item()


def _learning_rate(stage: StageConfig, taken: int, moments: int) -> float:
    """Go from the first to the final learning rate along a half cosine, after ``taken`` steps.

    It rises while the optimizer's moments, of so many steps, are young.
    """
    rise = min(1.0, (moments + 1) / (stage.warmup + 1))
    if stage.final_learning_rate is None:
        return stage.learning_rate * rise
    fall = (1 - math.cos(math.pi * taken / stage.steps)) / 2
    return rise * (stage.learning_rate + fall * (stage.final_learning_rate - stage.learning_rate))
