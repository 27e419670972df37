"""The time of a training step on this processor in bfloat16 and in float32.

    python benchmarks/precision.py [--steps 5] [--threads 1]

A step is forward and backward on 16 squares of 224×224 in the joint stage of a specialist of the
default model, whose task network learns. It is timed in float32; in bfloat16 as
training does it, with the gradients of depthwise convolutions in float32; and in bfloat16
throughout. The three take turns, and medians are compared. Writes
benchmarks/results/precision.json.
"""

import argparse
import copy
import json
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from rows import write
from torch import nn

from tactic_codec.model import DEFAULT_MODEL, find
from tactic_codec.networks.depthwise import DepthwiseConv2d
from tactic_codec.training.config import Precision
from tactic_codec.training.loop import build_network
from tactic_codec.training.objective import TrainingLoss
from tactic_codec.training.specialise import specialist_config

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "precision.json"
BATCH, SIZE, CLASSES = 16, 224, 1000


WAYS: dict[str, tuple[Precision, Callable[[], AbstractContextManager[Any]]]] = {
    "float32": ("float32", nullcontext),
    "bfloat16": ("bfloat16", nullcontext),
    "bfloat16, all gradients by torch": (
        "bfloat16",
        lambda: mock.patch.object(DepthwiseConv2d, "forward", nn.Conv2d.forward),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    step = stepper()
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for turn in range(arguments.steps + 1):
        for name, (precision, way) in WAYS.items():
            with way():
                began = time.perf_counter()
                step(precision)
                if turn:  # in the first one torch has chosen its kernels
                    seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(own) for name, own in seconds.items()}
    result = {
        "step": f"joint stage of a specialist, {BATCH} squares of {SIZE} pixels",
        "machine": f"{platform.machine()}, {arguments.threads} threads",
        "torch": torch.__version__,
        "steps": arguments.steps,
        "seconds": {name: round(median, 3) for name, median in medians.items()},
        "ratio": {name: round(median / medians["float32"], 3) for name, median in medians.items()},
    }
    print(json.dumps(result, indent=1))
    write(RESULTS, result)


def stepper() -> Callable[[Precision], None]:
    """Return what takes a step, forward and backward, in a precision."""
    config = specialist_config(find(DEFAULT_MODEL), "precision")
    torch.manual_seed(config.seed)
    network = build_network(config, CLASSES)
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert network.head is not None
    network.head.requires_grad_()
    teacher = copy.deepcopy(network.head).eval().requires_grad_(False)
    objective = TrainingLoss(network, teacher, config.task)
    x_BCHW = torch.rand(BATCH, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    labels_B = torch.randint(CLASSES, (BATCH,))

    def step(precision: Precision) -> None:
        level_B = torch.randint(network.levels, (BATCH,))
        stage = replace(config.stage[1], precision=precision)
        objective(x_BCHW, labels_B, level_B, stage).total.backward()
        network.zero_grad(set_to_none=True)

    return step


if __name__ == "__main__":
    main()
