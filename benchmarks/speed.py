"""The time and memory of commands as whole processes: against another checkout, and in bulk.

    python benchmarks/speed.py --against CHECKOUT [--runs 15] [--only PATTERN]
    python benchmarks/speed.py --bulk N [--side 400] [--runs 15]

With --against, this checkout and another one take turns. Results are medians, and ratios of
processor time and of memory, which a busy machine spoils least. Writes
benchmarks/results/speed-against.json, or with --only PATTERN what the names of commands match into
the one that is there.

With --bulk, a folder of N crops of the examples is coded by one job and by two, and the memory of
all their processes is sampled. Writes benchmarks/results/bulk.json.
"""

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image
from rows import write

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
PHOTOGRAPH = ROOT / "examples" / "cat.jpg"

LAUNCHER = """
import os, resource, sys, time
began = time.perf_counter()
child = os.fork()
if not child:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.execv(sys.argv[1], sys.argv[1:])
_, status = os.waitpid(child, 0)
wall = 1000 * (time.perf_counter() - began)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
cpu = 1000 * (usage.ru_utime + usage.ru_stime)
print(os.waitstatus_to_exitcode(status), wall, usage.ru_maxrss, cpu)
"""
"""Runs a command from a process that has hardly any memory: what its parent had when it was forked
counts as a process's own."""


def run(command: list[str], checkout: Path | None = None) -> tuple[float, float, float]:
    """Run a command; return wall time in ms, highest resident memory in MB, processor's ms."""
    launch = [sys.executable, "-I", "-S", "-c", LAUNCHER, *command]
    # Python's -m looks into the folder where it runs first.
    done = subprocess.run(launch, check=True, stdout=subprocess.PIPE, text=True, cwd=checkout)
    status, wall, memory, cpu = done.stdout.split()
    if status != "0":
        raise SystemExit(f"{command} ended with {status}")
    return float(wall), int(memory) / 1024, float(cpu)


LARGE = """
import sys
import numpy as np
from PIL import Image
picture = Image.open(sys.argv[1]).resize((6000, 4000), Image.Resampling.BICUBIC)
grain = np.random.default_rng(1).integers(-8, 9, (4000, 6000, 3), np.int16)
noisy = (np.asarray(picture) + grain).clip(0, 255).astype(np.uint8)
Image.fromarray(noisy).save(sys.argv[2], quality=92)
"""


IMPORTS = "import numpy, PIL, click, constriction, onnxruntime"


def against(other: Path, photograph: Path, folder: Path, runs: int, only: str) -> dict[str, Any]:
    """Run commands of another checkout and of this one in turns; ratios are this ÷ other.

    Each decodes its own files, since the default models may differ.
    """
    source = str(folder / "large.jpg")
    subprocess.run([sys.executable, "-c", LARGE, str(PHOTOGRAPH), source], check=True)
    few = min(runs, 3)

    def commands(own: Path) -> dict[str, tuple[list[str], int]]:
        tactic, quiet = [sys.executable, "-m", "tactic_codec"], ["-f", "--quiet"]
        small, large = str(own / "a.tac"), str(own / "large.tac")
        return {
            "imports alone": ([sys.executable, "-c", IMPORTS], runs),
            "compress": ([*tactic, "compress", *quiet, str(photograph), small], runs),
            "decompress": ([*tactic, "decompress", *quiet, small, str(own / "a.png")], runs),
            "compress, 24 MP": ([*tactic, "compress", *quiet, source, large], few),
            "decompress, 24 MP, PNG": ([*tactic, "decompress", *quiet, large, f"{large}.png"], few),
            "decompress, 24 MP, PPM": ([*tactic, "decompress", *quiet, large, f"{large}.ppm"], few),
            "classify, 24 MP": ([*tactic, "classify", large], few),
            "detect, 24 MP": ([*tactic, "detect", large], few),
        }

    of = {checkout: commands(folder / checkout.name) for checkout in (other, ROOT)}
    for checkout, own in of.items():
        (folder / checkout.name).mkdir()
        for name in ("compress", "compress, 24 MP"):
            run(own[name][0], checkout)
    report: dict[str, Any] = {}
    for name, (_, count) in of[ROOT].items():
        if not re.search(only, name):
            continue
        found: dict[Path, list[tuple[float, ...]]] = {other: [], ROOT: []}
        for turn in range(count == 1, count + 1):
            for checkout, times in found.items():
                times.append(run(of[checkout][name][0], checkout))
                if not turn:  # the first run reads from disk what later ones find in memory
                    times.clear()
        before, after = (
            [statistics.median(column) for column in zip(*times, strict=True)]
            for times in found.values()
        )
        report[name] = {
            "cpu_ms": [round(before[2]), round(after[2])],
            "cpu_ratio": round(after[2] / before[2], 2),
            "wall_ratio": round(after[0] / before[0], 2),
            "mb": [round(before[1]), round(after[1])],
            "load": round(os.getloadavg()[0], 1),
        }
        print(name, report[name], flush=True)
    return report


def proportional(pid: int) -> float:
    """Return the memory of a process and its children in MB; what they share is counted once."""
    total = 0.0
    with suppress(OSError):  # it has ended
        total = sum(
            int(line.split()[1]) / 1024
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            if line.startswith("Pss:")
        )
        for task in Path(f"/proc/{pid}/task").iterdir():
            children = (task / "children").read_text().split()
            total += sum(proportional(int(child)) for child in children)
    return total


def watched(command: list[str]) -> tuple[float, list[float]]:
    """Run a command; return its seconds, and its memory in MB once in half a second."""
    samples = []
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            samples.append(proportional(process.pid))
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
        seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return seconds, samples


def bulk(folder: Path, count: int, side: int, runs: int) -> dict[str, Any]:
    """Code a folder of crops, ``side`` pixels wide and three quarters as high, by jobs in turns."""
    draw = random.Random(1)
    (folder / "in").mkdir()
    pictures = [Image.open(path) for path in sorted(PHOTOGRAPH.parent.glob("*.jpg"))]
    for number in range(count):
        picture, height = pictures[number % len(pictures)], side * 3 // 4
        left, top = draw.randint(0, picture.width - side), draw.randint(0, picture.height - height)
        crop = picture.crop((left, top, left + side, top + height))
        crop.save(folder / "in" / f"{number:05}.jpg", quality=90)
    tactic, quiet = [sys.executable, "-m", "tactic_codec"], ["-r", "-f", "--quiet"]
    report: dict[str, Any] = {"pictures": count, "size": [side, side * 3 // 4]}
    for command, source, target in (("compress", "in", "tac"), ("decompress", "tac", "png")):
        ends = [str(folder / source), "-o", str(folder / target)]
        found: dict[str, list[float]] = {"-j 1 --threads 1": [], "-j 1": [], "-j 2": []}
        memory: dict[str, list[int]] = {}
        for _ in range(runs):
            for way, times in found.items():
                seconds, mb = watched([*tactic, command, *quiet, *way.split(), *ends])
                times.append(seconds)
                at = [len(mb) * part // 10 for part in (1, 3, 5, 7, 9)]
                memory[way] = [round(mb[place]) for place in at]
        one, default, two = (statistics.median(times) for times in found.values())
        report[command] = {
            "s": {way: [round(seconds, 1) for seconds in times] for way, times in found.items()},
            "one_by_two": round(one / two, 2),
            "default_by_two": round(default / two, 2),
            "mb_over_time": memory,
        }
        print(command, report[command], "load", os.getloadavg(), flush=True)
    return report | {"load": os.getloadavg()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--against", type=Path, metavar="CHECKOUT")
    which.add_argument("--bulk", type=int, metavar="N")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--only", default="", metavar="PATTERN")
    parser.add_argument("--side", type=int, default=400, help="width of crops, in pixels")
    arguments = parser.parse_args()
    target = RESULTS / ("bulk.json" if arguments.bulk else "speed-against.json")
    known = target.exists() and (arguments.bulk or arguments.only)
    report = json.loads(target.read_text()) if known else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.bulk:
            found = bulk(folder, arguments.bulk, arguments.side, arguments.runs)
            report[str(arguments.bulk)] = found
        else:
            photograph = folder / "500x375.jpg"
            Image.open(PHOTOGRAPH).resize((500, 375)).save(photograph, quality=92)
            other = arguments.against.resolve()
            report |= against(other, photograph, folder, arguments.runs, arguments.only)
    write(target, report)


if __name__ == "__main__":
    main()
