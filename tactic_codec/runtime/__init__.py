"""Run a model's networks on arrays: by ONNX Runtime, or by torch where that is asked for.

    Model ─ open_runtime(device) ─▶ Runtime ─ run("synthesis", array) ─▶ array

Networks are named ``analysis``, ``synthesis`` or by their task (``classify``, ``segment``). Each
takes and returns one float32 array [1, C, H, W] or, for classifiers, returns logits [1, classes].

Devices: ``cpu`` and ``auto`` are ONNX Runtime on the CPU; ``cuda`` and ``torch-cpu`` are torch,
which is imported for them only.

A runtime outlives fork: the child opens its networks anew, and never touches those of its parent.
"""

import os
import weakref
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from tactic_codec.errors import whole_number
from tactic_codec.model import Model
from tactic_codec.runtime.machine import processors

if TYPE_CHECKING:
    from tactic_codec.runtime.onnx import OnnxRuntime
    from tactic_codec.runtime.torch import TorchRuntime

DEVICES = ("auto", "cpu", "cuda", "torch-cpu")


class Runtime(Protocol):
    """Runs the networks of one model; may be used from several threads at once.

    Attributes:
        device: that it was opened for, one of ``DEVICES``.
        torch_device: where torch runs, for what needs it whatever the runtime: ``cpu``, ``cuda``.
        threads: how many one network may use.
    """

    device: str
    torch_device: str
    threads: int

    def run(self, network: str, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run a network, loading it when it is first asked for.

        Raises:
            UnknownTask: the model has no such network.
            DamagedModel: its file is damaged or is not a network.
            OutOfMemory: it does not fit into memory.
            OutOfThreads: the system allows no further thread.
        """


def open_runtime(model: Model, device: str = "auto", *, threads: int | None = None) -> Runtime:
    """Return the runtime of a device; networks are loaded later, when they are first run.

    Args:
        model: whose networks are run.
        device: one of ``DEVICES``.
        threads: how many one network may use, at most as many as the machine has processors; by
            default as many as this process may use, see `processors`.

    Raises:
        BackendUnavailable: torch or CUDA was asked for and is not there.
        ValueError: there is no such device, or ``threads`` is below 1.
    """
    if device not in DEVICES:
        raise ValueError(f"unknown device {device!r}; expected one of {', '.join(DEVICES)}")
    if threads is not None:
        threads = processors(whole_number("threads", threads, 1))
    runtime: OnnxRuntime | TorchRuntime
    if device in ("auto", "cpu"):
        from tactic_codec.runtime import onnx

        runtime = onnx.OnnxRuntime(model, device, threads or processors())
    else:
        from tactic_codec.runtime import torch

        runtime = torch.TorchRuntime(model, device, threads)
    _opened.add(runtime)
    return runtime


_opened: "weakref.WeakSet[OnnxRuntime | TorchRuntime]" = weakref.WeakSet()


def _begin_anew() -> None:
    """Make good, in a child of fork, what the parent's other threads held or were to do."""
    for runtime in list(_opened):
        runtime.begin_anew()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_begin_anew)
