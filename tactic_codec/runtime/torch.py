"""torch on the CPU or on CUDA, for machines that have the extra ``[torch]``."""

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tactic_codec.errors import BackendUnavailable, needed
from tactic_codec.model import Model
from tactic_codec.runtime import processors

if TYPE_CHECKING:
    from torch import nn

with needed("this device needs torch; run: pip install torch torchvision safetensors onnx"):
    import torch

    from tactic_codec.networks import folder, memory


class TorchRuntime:
    """Networks as torch modules, see `networks.folder`."""

    eight_bits: Mapping[str, str] = {}

    def __init__(
        self,
        model: Model,
        device: str,
        threads: int | None,
        networks: "Mapping[str, nn.Module] | None" = None,
    ) -> None:
        """Run ``networks`` in the place of the model's own of these names."""
        if device == "cuda" and not torch.cuda.is_available():
            raise BackendUnavailable("torch finds no CUDA device here; use --device cpu")
        # torch has one number for the process; without one here the host's own stays, if it is
        # not more than this process may use, which torch does not know of a cgroup's quota.
        self.threads = threads or min(torch.get_num_threads(), processors())
        torch.set_num_threads(self.threads)
        self._model = model
        self.device = device
        self.torch_device = device.removeprefix("torch-")
        self._networks = dict(networks or {})
        self._lock = threading.Lock()

    @memory.shortage_is_named()
    def run(self, network: str, array: NDArray[np.float32], **_: Any) -> NDArray[np.float32]:
        """Run a network on one array, see `Runtime`."""
        try:
            module = self._network(network)
            with torch.inference_mode():
                result: NDArray[np.float32] = (
                    module(torch.from_numpy(array).to(self.torch_device)).cpu().numpy()
                )
        except RuntimeError as exc:
            if "forked subprocess" in str(exc):
                raise BackendUnavailable(
                    "CUDA does not outlive fork; start the workers with spawn or forkserver, or "
                    "open the model after the fork"
                ) from exc
            raise
        return result

    def halo(self, network: str) -> int:
        """Return what the manifest says of both networks, see `Runtime`."""
        return self._model.halo

    def open_ahead(self, network: str) -> None:
        """Load it when it is run."""

    def _network(self, network: str) -> "nn.Module":
        with self._lock:
            if network not in self._networks:
                self._networks[network] = folder.load_network(self._model, network).to(
                    self.torch_device
                )
            return self._networks[network]

    def begin_anew(self) -> None:
        """Do without OpenMP's threads, which stay with the parent."""
        self._lock = threading.Lock()
        torch.set_num_threads(1)
