"""Run a model's networks on arrays: by ONNX Runtime, or by torch where that is asked for.

    Model ─ open_runtime(device) ─▶ Runtime ─ run("synthesis", array) ─▶ array

Networks are named ``analysis``, ``synthesis`` or by their task (``classify``, ``segment``). Each
takes and returns one float32 array [1, C, H, W] or, for classifiers, returns logits [1, classes].

Devices: ``cpu`` is ONNX Runtime in single precision. ``auto`` runs analysis and task networks in
8-bit integers where the model has them so and the processor gains by it, ``fast`` the synthesis,
too. ``cuda`` and ``torch-cpu`` are torch, which is imported for them only.

A runtime outlives fork: the child opens its networks anew, and never touches those of its parent.
"""

import os
import platform
import re
import sys
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tactic_codec.errors import whole_number
from tactic_codec.model import Model

Inner = tuple[slice, slice] | None
"""Rows and columns of a block."""

DEVICES = ("auto", "fast", "cpu", "cuda", "torch-cpu")


class Runtime(Protocol):
    """Runs the networks of one model; may be used from several threads at once.

    Attributes:
        device: that it was opened for, one of ``DEVICES``.
        torch_device: where torch runs, for what needs it whatever the runtime: ``cpu``, ``cuda``.
        threads: how many one network may use.
        eight_bits: the files of networks that it runs in 8-bit integers, by the network's name.
    """

    device: str
    torch_device: str
    threads: int
    eight_bits: Mapping[str, str]

    def run(
        self, network: str, array: NDArray[np.float32], *, inner: Inner = None, last: bool = False
    ) -> NDArray[np.float32]:
        """Run a network, loading it when it is first asked for.

        Args:
            network: its name.
            array: what it reads.
            inner: of a tile: the rows and columns whose result is wanted. Where that saves work the
                network gives no other; else it gives all.
            last: whether to give back the memory that earlier runs left for this one.

        Raises:
            UnknownTask: the model has no such network.
            DamagedModel: its file is damaged or is not a network.
            OutOfMemory: it does not fit into memory.
            OutOfThreads: the system allows no further thread.
        """

    def halo(self, network: str) -> int:
        """Return on how many latent positions around a tile its result depends.

        Args:
            network: analysis or synthesis.

        Raises:
            TacError: as `run`.
        """

    def open_ahead(self, network: str) -> None:
        """Begin to load a network, in a thread; what is wrong with it is told when it is run."""

    def begin_anew(self) -> None:
        """Make good, in a child of fork, what the parent's other threads held or were to do."""


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
    runtime: Runtime
    if device in ("auto", "fast", "cpu"):
        from tactic_codec.runtime import onnx

        eight_bits = {}
        if device != "cpu" and multiplies_eight_bits():
            wanted = ["analysis", *model.heads, *(["synthesis"] if device == "fast" else [])]
            eight_bits = {name: file for name in wanted if (file := model.eight_bit_file(name))}
        runtime = onnx.OnnxRuntime(model, device, threads or processors(), eight_bits)
    else:
        from tactic_codec.runtime import torch

        runtime = torch.TorchRuntime(model, device, threads)
    _opened.add(runtime)
    return runtime


_opened: weakref.WeakSet[Runtime] = weakref.WeakSet()


def _begin_anew() -> None:
    for runtime in list(_opened):
        runtime.begin_anew()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_begin_anew)


# --- Processors ---

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def processors(wanted: int | None = None) -> int:
    """Return how many threads to work with, at least 1.

    Args:
        wanted: what the user asked for, of which the machine's processors are the limit; by default
            as many as the affinity (``taskset``, cpusets) and the quota of the cgroup (a
            container's ``--cpus``) leave to this process.
    """
    machine = os.cpu_count() or 1
    if wanted is not None:
        return min(wanted, machine)
    # macOS and Windows have no affinity that Python can ask for.
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine
    # Half a processor more than the quota is a thread that waits half the time, and all for it.
    return max(1, min(machine, allowed, *map(int, _quotas())))


_PROCESSOR = Path("/proc/cpuinfo")
_PRODUCTS = {"avx512_vnni", "avx_vnni", "asimddp"}
"""Instructions of x86-64 and 64-bit ARM, as Linux calls them, that multiply four bytes at once."""


def multiplies_eight_bits() -> bool:
    """Tell whether this processor is known to run networks faster in 8-bit integers.

    Others are not only slower at it: sums may overflow in 16 bits.
    """
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    told = re.search(r"^(?:flags|Features)\s*:(.*)$", _text(_PROCESSOR), re.MULTILINE)
    return bool(told and _PRODUCTS.intersection(told[1].split()))


def _quotas() -> Iterator[float]:
    """Yield the processors that each cgroup around this process grants, where there is a limit.

    A container sees its own cgroup at the root, whatever path ``/proc`` names: every folder from
    that path up to the root is asked, and those that are not there say nothing.
    """
    for kinds, path in re.findall(r"^[^:\n]*:([^:\n]*):(.*)$", _text(_OWN_CGROUPS), re.MULTILINE):
        if kinds and "cpu" not in kinds.split(","):
            continue
        own = PurePosixPath(path.strip("/"))
        for folder in (own, *own.parents):
            place = _CGROUPS / kinds / folder
            if kinds:  # version 1
                words = " ".join(
                    _text(place / f"cpu.cfs_{name}_us") for name in ("quota", "period")
                )
            else:
                words = _text(place / "cpu.max")
            # No limit is -1 or "max".
            if found := re.fullmatch(r"\s*([1-9]\d{,18})\s+([1-9]\d{,18})\s*", words):
                yield int(found[1]) / int(found[2])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):  # not there, not ours to read, or a path that is not ASCII
        return ""


# --- Tiles ---
#
# Cut a plane into tiles, so that a large picture is coded in bounded memory and without seams.
#
# A convolutional network's output at one place depends on its input within some distance, the halo.
# Each tile therefore has a *core*, its share of the plane, and a *padded* block, the core with the
# halo around it. Run on the padded block and cropped to the core, the network gives exactly what it
# would give on the whole plane, as long as the halo is no smaller than that distance:
#
#     whole plane ─ padded block ─ network ─ crop to the core ─ whole plane
#
# At the border of the plane the padded block ends with the plane, so the network pads there as it
# would for the whole. The cores cover the plane exactly once. This module knows only coordinates.


class Tile(NamedTuple):
    """One tile, each part as slices of rows and columns.

    Attributes:
        core: within the plane: ``plane[..., *tile.core]``.
        padded: the padded block within the plane.
        inner: the core within the padded block: ``block[..., *tile.inner]``.
    """

    core: tuple[slice, slice]
    padded: tuple[slice, slice]
    inner: tuple[slice, slice]


def tiles(height: int, width: int, *, side: int, halo: int) -> list[Tile]:
    """Cut a plane into tiles of nearly equal size, row by row: those of the least work.

    Args:
        height: rows of the plane, at least 1.
        width: columns of the plane, at least 1.
        side: of a square; no tile with its halos covers more than that does.
        halo: rows and columns around the core, at least 0, less than half of ``side``.

    Returns:
        At least one tile. A plane that the square covers has exactly that one, without a halo.

    Raises:
        ValueError: an argument breaks the rules above.
    """
    if height < 1 or width < 1:
        raise ValueError(f"a plane of {height} x {width} cannot be cut: at least 1 x 1 expected")
    if halo < 0 or side <= 2 * halo:
        raise ValueError(f"a tile of {side} with a halo of {halo}: 0 <= 2 * halo < side expected")
    found = []
    for down in range(1, height + 1):
        total = _together(height, down, halo)
        rows = -(-total // down)
        across = _count(width, side**2 // rows, halo)
        if across and (down == 1 or total // down > 2 * halo):
            found.append((total * _together(width, across, halo), down, across))
        if rows <= 2 * halo + 1:
            break
    _, down, across = min(found)
    columns = _cuts(width, across, halo)
    return [
        Tile(*zip(row, column, strict=True))
        for row in _cuts(height, down, halo)
        for column in columns
    ]


def _together(length: int, count: int, halo: int) -> int:
    """Return the length of so many parts of one side, with the halos between them."""
    return length + 2 * halo * (count - 1)


def _count(length: int, most: int, halo: int) -> int:
    """Return into how few parts a side is cut that are no longer than ``most``; 0 where none is."""
    if length <= most:
        return 1
    return max(2, -(-(length - 2 * halo) // (most - 2 * halo))) if most > 2 * halo else 0


def _cuts(length: int, count: int, halo: int) -> list[tuple[slice, slice, slice]]:
    """Cut one side into parts that are as long with their halos: no sliver at the end."""
    total = _together(length, count, halo)
    cuts, start = [], 0
    for part in range(count):
        first = part * total // count - 2 * halo * part
        last = (part + 1) * total // count - 2 * halo * part
        stop = length if part == count - 1 else last - halo
        cuts.append((slice(start, stop), slice(first, last), slice(start - first, stop - first)))
        start = stop
    return cuts
