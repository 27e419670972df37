"""Pictures a second on one computer: `tactic_codec.ray` beside ``tactic compress -r -j``, in turns.

    python benchmarks/cluster.py WORK --pictures 2000 --side 224 --workers 2 --runs 3

WORK gets the pictures, squares cut from the examples, and the results, which must be the same.
A run's seconds are those of a process, its start and Ray's included; the rate is that between the
first result and the last, as the disk has them. Writes benchmarks/results/cluster.json.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image
from rows import write

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "cluster.json"
EXAMPLES = sorted((ROOT / "examples").glob("*.jpg"))


def make(folder: Path, count: int, side: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    photographs = [Image.open(path).convert("RGB") for path in EXAMPLES]
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        left = 7 * number % (photograph.width - side)
        top = 11 * number % (photograph.height - side)
        square = photograph.crop((left, top, left + side, top + side))
        square.save(folder / f"{number:05}.jpg", quality=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    photos = asked.work / "photos"
    make(photos, asked.pictures, asked.side)
    workers = str(asked.workers)
    call = "import sys, tactic_codec.ray as r; r.compress(*sys.argv[1:3], workers=int(sys.argv[3]))"
    plain = [sys.executable, "-m", "tactic_codec", "compress", "-r", "--quiet", "-j", workers]
    taken: dict[str, list[float]] = {"plain": [], "ray": []}
    rates: dict[str, list[float]] = {"plain": [], "ray": []}
    for _ in range(asked.runs):
        for name in taken:
            out = asked.work / name
            shutil.rmtree(out, ignore_errors=True)
            cluster = [sys.executable, "-c", call, str(photos), str(out), workers]
            command = [*plain, str(photos), str(out)] if name == "plain" else cluster
            start = time.monotonic()
            alike = {**os.environ, "RAY_worker_niceness": "0"}  # Ray's default is 15
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL, env=alike)
            taken[name].append(time.monotonic() - start)
            times = [path.stat().st_ctime for path in out.glob("*.tac")]
            rates[name].append(len(times) / (max(times) - min(times)))
    same = all(
        path.read_bytes() == (asked.work / "ray" / path.name).read_bytes()
        for path in (asked.work / "plain").glob("*.tac")
    )
    median = statistics.median
    facts = {
        "pictures": asked.pictures,
        "side": asked.side,
        "workers": asked.workers,
        "processors": len(os.sched_getaffinity(0)),
        "same_bytes": same,
        "seconds": {name: [round(s, 1) for s in each] for name, each in taken.items()},
        "pictures_a_second": {name: [round(r, 1) for r in each] for name, each in rates.items()},
        "rate_of_ray_over_plain": round(median(rates["ray"]) / median(rates["plain"]), 3),
        "load": [round(figure, 1) for figure in os.getloadavg()],
    }
    print(json.dumps(facts, indent=1))
    write(RESULTS, facts)


if __name__ == "__main__":
    main()
