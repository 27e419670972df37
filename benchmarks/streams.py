"""How long after a picture's last byte its frame is there, and what a long stream takes in memory.

    python benchmarks/streams.py [--runs 100] [--pictures 1000]

A photograph at three sizes, as JPEG. In turns it is compressed by itself, sent to ``tactic compress
- -``, and sent to ``tactic compress - FOLDER``; each turn waits for the whole frame. What a command
takes beyond the first is what the pipe, the thread and the disk add: "of_alone" is the median of
the ratios within a round, which depends less on what else runs than the milliseconds do. The first
five rounds are left out: they load the model. Then many pictures without a pause, and the resident
memory on the way. Writes benchmarks/results/streams.json.
"""

import argparse
import io
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image
from rows import write

from tactic_codec.codec import load_model
from tactic_codec.container import read_frame
from tactic_codec.picture import load

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "streams.json"
PHOTOGRAPH = ROOT / "examples" / "palace.jpg"
SIZES = ((224, 224), (640, 480), (1920, 1080))
COLD = 5
COMMAND = [sys.executable, "-m", "tactic_codec", "compress", "--quiet", "-"]


def picture(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    with Image.open(PHOTOGRAPH) as photograph:
        photograph.convert("RGB").resize(size).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def started(output: str) -> tuple["subprocess.Popen[bytes]", BinaryIO, BinaryIO]:
    pipe = subprocess.PIPE
    command = [*COMMAND, output] if output == "-" else [*COMMAND, "--json", output]
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, bufsize=0)
    assert process.stdin and process.stdout
    return process, process.stdin, process.stdout  # type: ignore[return-value]


@contextmanager
def ready(data: bytes, output: str) -> Iterator[Callable[[], object]]:
    """A running command, as a function that sends a picture and waits for its frame's last byte."""
    process, into, out = started(output)
    stream = io.BufferedReader(out)  # type: ignore[arg-type]

    def code() -> None:
        into.write(data)
        # A line of --json says that the frame is on the disk; to poll would take the coder's time.
        if not (read_frame(stream) if output == "-" else stream.readline()):
            raise SystemExit("tactic compress ended early")

    yield code
    into.close()
    if process.wait():
        raise SystemExit("tactic compress failed")


def latency(data: bytes, runs: int) -> dict[str, Any]:
    """Milliseconds from a picture's last byte to its frame's, and those of coding it alone."""
    codec = load_model()
    with (
        tempfile.TemporaryDirectory() as folder,
        ready(data, "-") as to_stdout,
        ready(data, folder) as to_folder,
    ):
        ways = {
            "alone": lambda: codec.compress(load(data)),
            "to_stdout": to_stdout,
            "to_folder": to_folder,
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(COLD + runs):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                times[name].append(1000 * (time.perf_counter() - start))
    warm = {name: found[COLD:] for name, found in times.items()}
    table: dict[str, Any] = {"jpeg_bytes": len(data)}
    for name, found in warm.items():
        ratios = [one / base for one, base in zip(found, warm["alone"], strict=True)]
        table[name] = {
            "median": round(statistics.median(found), 1),
            "least": round(min(found), 1),
            "of_alone": round(statistics.median(ratios), 2),
        }
    return table


def memory(data: bytes, pictures: int, at: Callable[[int], bool]) -> dict[str, float]:
    """Megabytes resident after so many frames, and the most of all."""
    process, into, out = started("-")

    def send() -> None:
        for _ in range(pictures):
            into.write(data)
        into.close()

    threading.Thread(target=send, daemon=True).start()
    stream, found = io.BufferedReader(out), {}  # type: ignore[arg-type]
    for count in range(1, pictures + 1):
        read_frame(stream)
        if at(count) and count < pictures:
            found[str(count)] = resident(process.pid, "VmRSS")
            found["most"] = resident(process.pid, "VmHWM")
    if process.wait():
        raise SystemExit("tactic compress failed")
    return found


def resident(process: int, field: str) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(field))
    return round(int(line.split()[1]) / 1024, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--pictures", type=int, default=1000)
    arguments = parser.parse_args()
    results: dict[str, Any] = {
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} processors for this run",
        "load_average": round(os.getloadavg()[0], 1),
        "runs": arguments.runs,
        "latency_ms": {},
    }
    for size in SIZES:
        row = latency(picture(size), arguments.runs)
        results["latency_ms"]["{} x {}".format(*size)] = row
        print(size, row, flush=True)
    marks = (10, 100, arguments.pictures // 2, arguments.pictures - 1)
    results["memory_mb_640x480"] = memory(
        picture((640, 480)), arguments.pictures, marks.__contains__
    )
    print(results["memory_mb_640x480"])
    write(RESULTS, results)


if __name__ == "__main__":
    main()
