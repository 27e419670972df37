"""A stranger's network, folded and run once, in a process of its own: memory and time are bounded.

    python -m tactic_codec.runtime.folding NETWORK.onnx INPUT.npy FOLDED.onnx OUTPUTS.npz

FOLDED.onnx is the same network, whose constants are computed; OUTPUTS.npz is what it says of INPUT.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tactic_codec.errors import UnsupportedNetwork

SECONDS = 120
"""For one look at one picture. A network that takes longer teaches nobody in hours."""

MEMORY = 8 << 30
"""Bytes of addresses that the process may use."""


def fold(data: bytes, array: NDArray[np.float32]) -> tuple[bytes, list[NDArray[np.float32]]]:
    """Compute a network's constants, and run it once.

    Args:
        data: an ONNX file with weights inside.
        array: what it reads.

    Returns:
        The folded network as an ONNX file, and its outputs.

    Raises:
        UnsupportedNetwork: it cannot be run, or within time and memory.
    """
    with tempfile.TemporaryDirectory(prefix="tactic-") as folder:
        given, read, folded, said = (
            Path(folder, name) for name in ("network.onnx", "input.npy", "folded.onnx", "said.npz")
        )
        given.write_bytes(data)
        np.save(read, array)
        # -P: or a module in the current folder would be run.
        command = [sys.executable, "-P", "-m", __name__, *map(str, (given, read, folded, said))]
        try:
            done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired as exc:
            raise UnsupportedNetwork(
                f"the network took more than {SECONDS} s for one picture; give a smaller one"
            ) from exc
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip().splitlines()
            raise UnsupportedNetwork(
                f"the network cannot be run: {reason[-1] if reason else 'it ended the process'}"
            )
        with np.load(said) as outputs:
            return folded.read_bytes(), [outputs[name] for name in outputs.files]


def _main(given: str, read: str, folded: str, said: str) -> None:
    try:
        import resource
    except ImportError:  # Windows bounds no process so
        pass
    else:
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        limit = MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    from tactic_codec.runtime.onnx import ForeignNetwork

    network = ForeignNetwork(Path(given).read_bytes(), folded=folded)
    np.savez(said, *network.run(np.load(read)))


if __name__ == "__main__":
    try:
        _main(*sys.argv[1:])
    except (UnsupportedNetwork, MemoryError) as error:
        sys.exit(str(error) or "memory does not suffice")
