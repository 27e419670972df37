"""Run a model's networks on arrays: by ONNX Runtime, or by torch where that is asked for.

    Model ─ open_runtime(device) ─▶ Runtime ─ run("synthesis", array) ─▶ array

Networks are named ``analysis``, ``synthesis`` or by their task (``classify``, ``segment``). Each
takes and returns one float32 array [1, C, H, W] or, for classifiers, returns logits [1, classes].

Devices: ``cpu`` and ``auto`` are ONNX Runtime on the CPU; ``cuda`` and ``torch-cpu`` are torch,
which is imported for them only.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tactic_codec.model import Model

DEVICES = ("auto", "cpu", "cuda", "torch-cpu")


class Runtime(Protocol):
    """Runs the networks of one model; may be used from several threads at once.

    Attributes:
        torch_device: where torch runs, for what needs it whatever the runtime: ``cpu``, ``cuda``.
        threads: how many one network may use; None for as many as there are processors.
    """

    torch_device: str
    threads: int | None

    def run(self, network: str, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run a network, loading it when it is first asked for.

        Raises:
            UnknownTask: the model has no such network.
            DamagedModel: its file is damaged or is not a network.
            MemoryError: it does not fit into memory.
        """


def open_runtime(model: Model, device: str = "auto", *, threads: int | None = None) -> Runtime:
    """Return the runtime of a device; networks are loaded later, when they are first run.

    Args:
        model: whose networks are run.
        device: one of ``DEVICES``.
        threads: how many one network may use; by default as many as there are processors.

    Raises:
        BackendUnavailable: torch or CUDA was asked for and is not there.
    """
    if device in ("auto", "cpu"):
        from tactic_codec.runtime.onnx import OnnxRuntime

        return OnnxRuntime(model, threads)
    if device in ("cuda", "torch-cpu"):
        from tactic_codec.runtime.torch import TorchRuntime

        return TorchRuntime(model, device.removeprefix("torch-"), threads)
    raise ValueError(f"unknown device {device!r}; expected one of {', '.join(DEVICES)}")
