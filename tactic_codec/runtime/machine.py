"""How many processors this process may use: of the machine, its affinity and its cgroup's quota."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

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


def _quotas() -> Iterator[float]:
    """Yield the processors that each cgroup around this process grants, where there is a limit.

    A container sees its own cgroup at the root, whatever path ``/proc`` names: every folder from
    that path up to the root is asked, and those that are not there say nothing.
    """
    for line in _text(_OWN_CGROUPS).splitlines():
        _, _, rest = line.partition(":")
        kinds, _, path = rest.partition(":")
        if kinds and "cpu" not in kinds.split(","):
            continue
        own = PurePosixPath(path.strip("/"))
        for folder in (own, *own.parents):
            place = _CGROUPS / kinds / folder
            if kinds:  # version 1
                words = [_text(place / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
            else:
                words = _text(place / "cpu.max").split()
            quota, period = map(_number, words) if len(words) == 2 else (0, 0)
            if quota > 0 and period > 0:
                yield quota / period


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):  # not there, not ours to read, or a path that is not ASCII
        return ""


def _number(word: str) -> int:
    """Return a number of microseconds; 0 for ``max`` and -1 for -1, which are no limit."""
    try:
        return int(word)
    except ValueError:
        return 0
