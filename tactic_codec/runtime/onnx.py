"""ONNX Runtime on the CPU, the runtime of the edge."""

import os
import threading

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tactic_codec.errors import DamagedModel
from tactic_codec.model import Model

# ONNX Runtime's highest severity. Errors come as exceptions too, and what it warns of, on standard
# error, users cannot mend.
_FATAL = 4

_MEMORY_SIGNS = ("Failed to allocate memory", "bad_alloc", "bad allocation")
"""In messages of runs that memory did not suffice for."""


class _Session(ort.InferenceSession):  # type: ignore[misc]
    """A session that fails where it cannot be made or run, and says so by its exception alone.

    Its base tries again with other providers, there is but one, and tells standard output of it,
    where a picture may be on its way. In 1.20, which is allowed, no argument turns that off.
    """

    @property
    def _enable_fallback(self) -> bool:
        return False

    @_enable_fallback.setter
    def _enable_fallback(self, wanted: bool) -> None:
        pass


class OnnxRuntime:
    """Networks as ONNX Runtime sessions, made when they are first run."""

    torch_device = "cpu"

    def __init__(self, model: Model, threads: int | None) -> None:
        self._model = model
        self.threads = threads
        self._options = ort.SessionOptions()
        self._options.log_severity_level = _FATAL
        if threads is not None:
            self._options.intra_op_num_threads = threads
        # The arena keeps the memory of a run for the next one: asking the system for it anew each
        # time, page by page, takes as long as the network itself. Tiles bound what it grows to.
        self._options.enable_cpu_mem_arena = True
        # Weights outside the file would be read from the folder the command runs in, unhashed.
        self._options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", os.devnull
        )
        self._sessions: dict[str, ort.InferenceSession] = {}
        self._lock = threading.Lock()

    def run(self, network: str, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run a network on one array, see `Runtime`."""
        session = self._session(network)
        try:
            result: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: array})[
                0
            ]
        # Its exception classes share no base below Exception.
        except Exception as exc:
            if any(sign in str(exc) for sign in _MEMORY_SIGNS):
                raise MemoryError(_line(exc)) from exc
            raise DamagedModel(
                f"{self._model.path}: the network {network} does not fit the manifest: {_line(exc)}"
            ) from exc
        if not isinstance(result, np.ndarray) or result.dtype != np.float32:
            raise DamagedModel(
                f"{self._model.path}: the network {network} gives no float32 numbers"
            )
        return result

    def _session(self, network: str) -> ort.InferenceSession:
        with self._lock:
            if network not in self._sessions:
                self._sessions[network] = self._open(network)
            return self._sessions[network]

    def _open(self, network: str) -> ort.InferenceSession:
        if network in ("analysis", "synthesis"):
            file = f"{network}.onnx"
        else:
            file = self._model.head(network).file
        data = self._model.read_file(file)
        try:
            return _Session(data, self._options, providers=["CPUExecutionProvider"])
        # Its exception classes share no base below Exception.
        except Exception as exc:
            raise DamagedModel(
                f"{self._model.path / file} is not a network that ONNX Runtime reads: {_line(exc)}"
            ) from exc


def _line(exc: Exception) -> str:
    return " ".join(str(exc).split())
