"""ONNX Runtime on the CPU, the runtime of the edge. The only file that imports ONNX Runtime."""

import ctypes
import os
import sys
import threading
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tactic_codec.errors import (
    DamagedModel,
    OutOfMemory,
    OutOfThreads,
    TacError,
    UnsupportedNetwork,
)
from tactic_codec.model import Model
from tactic_codec.runtime import Inner
from tactic_codec.runtime.fusing import fused
from tactic_codec.runtime.narrowing import Cut, narrowed

# From 1.29 on it writes a device's number into the home, and sends statistics to its makers. Only
# what the environment says before the import stops that; whoever set it to 0 wants it so.
if not os.environ.get("ORT_DISABLE_TELEMETRY"):
    if "onnxruntime" in sys.modules:
        warnings.warn(
            "onnxruntime was imported before tactic-codec could turn its telemetry off: set "
            "ORT_DISABLE_TELEMETRY=1 in the environment, or open the model first",
            RuntimeWarning,
            stacklevel=1,
        )
    else:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"

try:
    import onnxruntime as ort
except ImportError as exc:
    if "failed to map segment" not in str(exc):
        raise
    raise OutOfMemory(
        "memory does not suffice to load ONNX Runtime; free some, or raise the limit (ulimit -v)"
    ) from exc

# ONNX Runtime's highest severity. Errors come as exceptions too, and what it warns of, on standard
# error, users cannot mend.
_FATAL = 4

_NOTHING_OUTSIDE = ("session.model_external_initializers_file_folder_path", os.devnull)
"""Weights outside the file would be read from the folder the command runs in, unhashed."""

_MEMORY_SIGNS = ("Failed to allocate memory", "bad_alloc", "bad allocation")
"""In messages of sessions that memory did not suffice for."""

_THREAD_SIGNS = ("pthread_create", "Resource temporarily unavailable")
"""In messages of sessions that got no thread."""


_LAST = ort.RunOptions()
_LAST.log_severity_level = _FATAL
_LAST.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")


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


def _options(threads: int) -> ort.SessionOptions:
    """Return what all sessions have in common."""
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = threads
    options.add_session_config_entry(*_NOTHING_OUTSIDE)
    return options


class ForeignNetwork:
    """A network that no model holds, of one input and any outputs; threads may share it."""

    def __init__(self, data: bytes, *, folded: str | None = None) -> None:
        """Open an ONNX file with weights inside.

        Args:
            data: the file.
            folded: where to write the network with its constants computed; then nothing else of it
                is changed.

        Raises:
            UnsupportedNetwork: ONNX Runtime does not read it.
        """
        options = _options(threads=1)
        if folded:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
            options.optimized_model_filepath = folded
        try:
            self._session = _Session(data, options, providers=["CPUExecutionProvider"])
        # Its exception classes share no base below Exception.
        except Exception as exc:
            raise UnsupportedNetwork(
                f"ONNX Runtime does not read the network: {' '.join(str(exc).split())}"
            ) from exc

    def run(self, array: NDArray[Any]) -> list[NDArray[Any]]:
        """Run the network on one array.

        Raises:
            UnsupportedNetwork: it cannot be run on such an array.
        """
        try:
            given = {self._session.get_inputs()[0].name: np.ascontiguousarray(array)}
            outputs: list[NDArray[Any]] = self._session.run(None, given)
        except Exception as exc:
            raise UnsupportedNetwork(
                f"the network does not run on an input of {array.shape}: "
                f"{' '.join(str(exc).split())}"
            ) from exc
        return outputs


class _Opened(NamedTuple):
    """A network that is ready to run, what it can leave out of tiles, and how far it looks."""

    session: ort.InferenceSession
    cuts: list[Cut]
    halo: int


class OnnxRuntime:
    """Networks as ONNX Runtime sessions, made when they are first run."""

    torch_device = "cpu"

    def __init__(
        self, model: Model, device: str, threads: int, eight_bits: Mapping[str, str]
    ) -> None:
        self._model = model
        self.eight_bits = eight_bits
        self.device = device
        self.threads = threads
        # With all processors of the machine, 0 leaves it to ONNX Runtime, which then counts cores
        # and keeps each thread on its own. Within fewer it would try to keep them on others.
        self._options = _options(0 if threads == os.cpu_count() else threads)
        # The arena keeps the memory of a run for the next one: asking the system for it anew each
        # time, page by page, takes as long as the network itself. Tiles bound what it grows to.
        self._options.enable_cpu_mem_arena = True
        # To plan all of it beforehand, for each size of tiles, takes more memory and no less time.
        self._options.enable_mem_pattern = False
        self._opened: dict[tuple[str, bool], _Opened] = {}
        self._begun = set[str]()
        self._lock = threading.Lock()

    def run(
        self, network: str, array: NDArray[np.float32], *, inner: Inner = None, last: bool = False
    ) -> NDArray[np.float32]:
        """Run a network on one array, see `Runtime`."""
        session, cuts, _ = self._open(network, tiled=inner is not None)
        try:
            # It would copy the array itself, and call one that it has no memory for not contiguous.
            given: dict[str, NDArray[Any]]
            given = {session.get_inputs()[0].name: np.ascontiguousarray(array)}
            around = 0, 0, 0, 0
            if inner:
                (height, width), (rows, columns) = array.shape[2:], inner
                around = rows.start, columns.start, height - rows.stop, width - columns.stop
            given |= {cut.name: cut.pads(around) for cut in cuts}
            result: NDArray[np.float32] = session.run(None, given, _LAST if last else None)[0]
        # Its exception classes share no base below Exception.
        except Exception as exc:
            raise _named(
                exc, f"{self._model.path}: the network {network} does not fit the manifest"
            ) from exc
        if not isinstance(result, np.ndarray) or result.dtype != np.float32:
            raise DamagedModel(
                f"{self._model.path}: the network {network} gives no float32 numbers"
            )
        return result

    def halo(self, network: str) -> int:
        """Return how far the network looks, see `Runtime`."""
        return self._open(network, tiled=True).halo

    def open_ahead(self, network: str) -> None:
        """Begin to load a network, in a thread, once; see `Runtime`."""

        def load() -> None:
            with suppress(TacError):
                self._open(network)

        if network not in self._begun:
            self._begun.add(network)
            with suppress(RuntimeError):  # no further thread: then it is loaded when it is run
                threading.Thread(target=load).start()

    def _open(self, network: str, tiled: bool = False) -> _Opened:
        """Return a network's session; ``tiled`` is that which leaves out what a core needs not."""
        with self._lock:
            if (network, tiled) not in self._opened:
                self._opened[network, tiled] = self._load(network, tiled)
                if tiled and network == "synthesis":
                    # With nothing to leave out it makes the same pixels, so that one is enough. An
                    # analysis's symbols could differ: files would depend on what came before.
                    self._opened[network, False] = self._opened[network, True]
            return self._opened[network, tiled]

    def _load(self, network: str, tiled: bool) -> _Opened:
        file = self.eight_bits.get(network) or self._model.network_file(network)
        data, cuts, halo = self._model.read_file(file), list[Cut](), self._model.halo
        try:
            if network == "synthesis" and network not in self.eight_bits:
                data = fused(data)
            if tiled:
                data, cuts, reach = narrowed(data)
                rows = self._model.stride if network == "analysis" else 1  # of a latent position
                halo = halo if reach is None else -(-reach // rows)
            session = _Session(data, self._options, providers=["CPUExecutionProvider"])
        # Its exception classes share no base below Exception.
        except Exception as exc:
            raise _named(
                exc, f"{self._model.path / file} is not a network that ONNX Runtime reads"
            ) from exc
        return _Opened(session, cuts, halo)

    def begin_anew(self) -> None:
        """Leave the sessions so far to the parent, whose threads they count on."""
        self._lock = threading.Lock()
        for opened in self._opened.values():
            # Whatever ends a session waits for its threads, at the child's exit, too, and for ever.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(opened.session))
        self._opened, self._begun = {}, set()


def _named(exc: Exception, otherwise: str) -> TacError:
    """Return what an exception of a session means: want of threads or memory, or a damaged model.

    Args:
        exc: of whatever class, its message alone tells.
        otherwise: what is wrong where nothing was wanting.
    """
    message = " ".join(str(exc).split())
    if any(sign in message for sign in _THREAD_SIGNS):
        return OutOfThreads(
            "the system gives no further thread to run networks with; use fewer (--threads 1, "
            "threads=1), or raise the limit of processes (ulimit -u) or of memory (ulimit -v)"
        )
    if isinstance(exc, MemoryError) or any(sign in message for sign in _MEMORY_SIGNS):
        return OutOfMemory(
            "memory does not suffice to run the network; scale the picture down, work on fewer at "
            "once (-j 1, --threads 1), or raise the limit (ulimit -v)"
        )
    return DamagedModel(f"{otherwise}: {message}")
