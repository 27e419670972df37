"""The time of commands as whole processes, and of each stage of coding within one process.

    python benchmarks/speed.py [--runs 15] [--against CHECKOUT]

Whole processes are started cold, one after the other in turns, and timed from outside. Pillow's
WebP and AVIF take part in the same turns, each in a Python process of its own. Results are medians,
and the highest resident memory of any run as the operating system counts it. Run it on an idle
machine. Writes benchmarks/results/speed.json.

With --against, this checkout and another one take turns instead, as whole processes: what counts
are ratios of processor time and of memory, which a busy machine spoils least. That writes
benchmarks/results/speed-against.json, or with --only PATTERN what the names of commands match into
the one that is there.

With --bulk N, folders of N crops of the examples are coded by one job and by two, and the memory of
all their processes is sampled. That writes benchmarks/results/bulk.json.
"""

import argparse
import io
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from tactic_codec import container, entropy
from tactic_codec import picture as image
from tactic_codec.codec import load_model

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "speed.json"
PHOTOGRAPH = ROOT / "examples" / "cat.jpg"
PILLOW = "from PIL import Image; Image.open({0!r}).save({1!r}, quality={2})"


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


def told(command: list[str], checkout: Path | None = None) -> tuple[float, float, float]:
    """Run a command; return wall time in ms, highest resident memory in MB, processor's ms."""
    launch = [sys.executable, "-I", "-S", "-c", LAUNCHER, *command]
    # Python's -m looks into the folder where it runs first.
    done = subprocess.run(launch, check=True, stdout=subprocess.PIPE, text=True, cwd=checkout)
    status, wall, memory, cpu = done.stdout.split()
    if status != "0":
        raise SystemExit(f"{command} ended with {status}")
    return float(wall), int(memory) / 1024, float(cpu)


def run(command: list[str]) -> tuple[float, float]:
    """Run a command and return its wall time in ms and its highest resident memory in MB."""
    return told(command)[:2]


def processes(photograph: Path, folder: Path, runs: int) -> dict[str, Any]:
    """Time whole processes in turns."""
    tactic = [sys.executable, "-m", "tactic_codec"]
    tac, quiet = str(folder / "a.tac"), "--quiet"
    subprocess.run([*tactic, "compress", "-f", quiet, str(photograph), tac], check=True)

    def pillow(suffix: str, quality: int) -> list[str]:
        output = str(folder / f"a.{suffix}")
        return [sys.executable, "-c", PILLOW.format(str(photograph), output, quality)]

    commands = {
        "tactic compress": [*tactic, "compress", "-f", quiet, str(photograph), tac],
        "tactic decompress": [*tactic, "decompress", "-f", quiet, tac, str(folder / "a.png")],
        "tactic classify": [*tactic, "classify", tac],
        "tactic --help": [*tactic, "--help"],
        "tactic info": [*tactic, "info", tac],
        "tactic test": [*tactic, "test", tac],
        "Pillow WebP q10": pillow("webp", 10),
        "Pillow AVIF q30": pillow("avif", 30),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for command in commands.values():
        run(command)  # the first run reads from disk what later ones find in memory
    for _ in range(runs):
        for name, command in commands.items():
            times[name].append(run(command))
    peer = statistics.median(wall for wall, _ in times["Pillow AVIF q30"])
    return {
        name: {
            "ms": round(statistics.median(wall for wall, _ in found), 1),
            "of_avif": round(statistics.median(wall for wall, _ in found) / peer, 2),
            "mb": round(max(memory for _, memory in found), 1),
        }
        for name, found in times.items()
    }


def stages(photograph: Path, runs: int) -> dict[str, Any]:
    """Time the stages of coding within one process, networks loaded."""
    codec = load_model()
    data = photograph.read_bytes()
    pixels = image.load(data)
    latent = codec.analyse(pixels)
    level = codec.model.default_level
    tables = codec.model.tables(level)
    symbols = codec.quantise(latent, level)
    payload = entropy.encode(symbols, tables)
    packed = codec.compress(pixels).data
    frame = container.parse(packed)

    def save_avif() -> None:
        Image.fromarray(pixels).save(io.BytesIO(), "AVIF", quality=30)

    steps: dict[str, Callable[[], Any]] = {
        "read the JPEG": lambda: image.load(data),
        "analysis": lambda: codec.analyse(pixels),
        "round": lambda: codec.quantise(latent, level),
        "entropy encode": lambda: entropy.encode(symbols, tables),
        "parse the frame": lambda: container.parse(packed),
        "entropy decode": lambda: entropy.decode(payload, symbols.shape, tables),
        "synthesis": lambda: codec.synthesise(symbols, frame),
        "compress": lambda: codec.compress(data).data,
        "decompress": lambda: codec.decompress(packed),
        "Pillow AVIF q30, encode": save_avif,
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(runs + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            times[name].append(1000 * (time.perf_counter() - began))
    medians = {name: statistics.median(found[1:]) for name, found in times.items()}
    return {
        "ms": {name: round(found, 2) for name, found in medians.items()},
        "entropy_share_of_compress": round(medians["entropy encode"] / medians["compress"], 3),
        "entropy_share_of_decompress": round(medians["entropy decode"] / medians["decompress"], 3),
    }


LARGE = """
import sys
import numpy as np
from PIL import Image
picture = Image.open(sys.argv[1]).resize((6000, 4000), Image.Resampling.BICUBIC)
grain = np.random.default_rng(1).integers(-8, 9, (4000, 6000, 3), np.int16)
noisy = (np.asarray(picture) + grain).clip(0, 255).astype(np.uint8)
Image.fromarray(noisy).save(sys.argv[2], quality=92)
"""


def large(folder: Path) -> dict[str, Any]:
    """Code 24 megapixels there and back."""
    source = str(folder / "large.jpg")
    subprocess.run([sys.executable, "-c", LARGE, str(PHOTOGRAPH), source], check=True)
    tactic = [sys.executable, "-m", "tactic_codec"]
    tac, png = str(folder / "large.tac"), str(folder / "large.png")
    found = {
        "compress": run([*tactic, "compress", "-f", "--quiet", source, tac]),
        "decompress": run([*tactic, "decompress", "-f", "--quiet", tac, png]),
    }
    return {name: {"s": round(ms / 1000, 2), "mb": round(mb)} for name, (ms, mb) in found.items()}


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
            told(own[name][0], checkout)
    report: dict[str, Any] = {}
    for name, (_, count) in of[ROOT].items():
        if not re.search(only, name):
            continue
        found: dict[Path, list[tuple[float, ...]]] = {other: [], ROOT: []}
        for turn in range(count == 1, count + 1):
            for checkout, times in found.items():
                times.append(told(of[checkout][name][0], checkout))
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
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    parser.add_argument("--only", default="", metavar="PATTERN")
    parser.add_argument("--bulk", type=int, metavar="N")
    parser.add_argument("--side", type=int, default=400, help="width of crops, in pixels")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.bulk:
            target = RESULTS.with_name("bulk.json")
            told = json.loads(target.read_text()) if target.exists() else {}
            told[str(arguments.bulk)] = bulk(folder, arguments.bulk, arguments.side, arguments.runs)
            target.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
            return
        photograph = folder / "500x375.jpg"
        Image.open(PHOTOGRAPH).resize((500, 375)).save(photograph, quality=92)
        if arguments.against:
            target, other = RESULTS.with_name("speed-against.json"), arguments.against.resolve()
            report = json.loads(target.read_text()) if arguments.only else {}
            report |= against(other, photograph, folder, arguments.runs, arguments.only)
            target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            return
        report = {
            "machine": f"{platform.machine()}, {os.cpu_count()} processors",
            "processes, 500x375": processes(photograph, folder, arguments.runs),
            "24 megapixels": large(folder),
            "stages, 500x375": stages(photograph, arguments.runs),
        }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
