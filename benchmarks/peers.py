"""tactic beside others that engineers install: time and memory in one run, in turns.

    python benchmarks/peers.py [--compressai PYTHON] [--runs 9] [--picture photo.jpg]

Warm is one process with everything loaded, from and to pixels in memory; cold is a whole process
that reads a picture file and writes the coded one, or the other way round. Files of about 0.2 bpp
are made of a picture of 768×512, as Kodak's are: here a photograph of the examples, enlarged.
Pillow's codecs run as Pillow does unasked. CompressAI pins an old NumPy, so it runs in an
environment of its own: PYTHON is its interpreter. Its weights are random, which changes what its
files hold, and not what its networks compute. Each codec uses as many threads as it does by itself.
Run it on an idle machine: the load before it is in the result. Writes
benchmarks/results/peers.json.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from rows import write
from speed import ROOT, run

from tactic_codec import picture as image
from tactic_codec.codec import load_model
from tactic_codec.rivals import rival

RESULTS = Path(__file__).parent / "results" / "peers.json"
WIDTH, HEIGHT = 768, 512
QUALITY = {"jpeg": 10, "webp": 10, "avif": 30, "jpegxl": 30}
"""Of Pillow, for files of about 0.2 bpp; AVIF and JPEG XL at the speeds that Pillow chooses."""
SUFFIX = {"jpeg": "jpg", "jpegxl": "jxl"}

PILLOW = """
import sys
{plugin}from PIL import Image
Image.open(sys.argv[1]).convert("RGB").save(sys.argv[2]{options})
"""

COMPRESSAI = """
import struct, sys, time
import numpy as np, torch
from PIL import Image
from compressai.models import FactorizedPrior, MeanScaleHyperprior

torch.manual_seed(0)
net = {"bmshj2018_factorized": FactorizedPrior, "mbt2018_mean": MeanScaleHyperprior}[sys.argv[1]]
net = net(128, 192).eval()
net.update()


def read(path):
    pixels = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
    return torch.from_numpy(pixels.transpose(2, 0, 1)[None])


@torch.inference_mode()
def encode(x):
    return net.compress(x)


@torch.inference_mode()
def decode(coded):
    return net.decompress(**coded)["x_hat"]


if sys.argv[2] == "compress":
    torch.save(encode(read(sys.argv[3])), sys.argv[4])
elif sys.argv[2] == "decompress":
    x_hat = decode(torch.load(sys.argv[3]))[0].mul(255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(x_hat).save(sys.argv[4])
else:  # serve: a line for each step that is asked for, with its milliseconds
    x = read(sys.argv[3])
    coded = encode(x)
    steps = {"encode": lambda: encode(x), "decode": lambda: decode(coded)}
    for line in sys.stdin:
        began = time.perf_counter()
        steps[line.strip()]()
        print(1000 * (time.perf_counter() - began), flush=True)
"""
NETWORKS = ("bmshj2018_factorized", "mbt2018_mean")

Step = Callable[[], float]
"""Does a step and returns its milliseconds."""


def timed(step: Callable[[], object]) -> Step:
    def call() -> float:
        began = time.perf_counter()
        step()
        return 1000 * (time.perf_counter() - began)

    return call


def warm(source: Path, served: dict[str, subprocess.Popen[str]]) -> Iterator[tuple[str, str, Step]]:
    """Yield codec, direction, and the step."""
    pixels = image.load(source)
    codec = load_model()
    frame = codec.compress(pixels).frame
    yield "tactic", "encode", timed(lambda: codec.compress(pixels).data)
    yield "tactic", "decode", timed(lambda: codec.decode(frame))
    fast = load_model(device="fast")
    yield "tactic --fast", "decode", timed(lambda: fast.decode(frame))
    for name, quality in QUALITY.items():
        other = rival(name).unasked()
        data = other.encode(pixels, quality)
        yield name, "encode", timed(lambda o=other, q=quality: o.encode(pixels, q))
        yield name, "decode", timed(lambda o=other, d=data: o.decode(d))

    def ask(process: subprocess.Popen[str], step: str) -> float:
        assert process.stdin and process.stdout
        print(step, file=process.stdin, flush=True)
        return float(process.stdout.readline())

    for name, process in served.items():
        for step in ("encode", "decode"):
            yield name, step, lambda p=process, s=step: ask(p, s)


def cold(source: Path, folder: Path, python: str | None) -> Iterator[tuple[str, str, list[str]]]:
    """Yield codec, direction, and the command of a whole process; files to decode are made."""
    made: list[tuple[str, list[str], list[str]]] = []
    tactic, tac = [sys.executable, "-m", "tactic_codec"], str(folder / "a.tac")
    back = str(folder / "a.png")
    compress = [*tactic, "compress", "-f", "--quiet", str(source), tac]
    made.append(("tactic", compress, [*tactic, "decompress", "-f", "--quiet", tac, back]))
    for name, quality in QUALITY.items():
        plugin = "import pillow_jxl\n" if name == "jpegxl" else ""
        coded = str(folder / f"b.{SUFFIX.get(name, name)}")
        encode = PILLOW.format(plugin=plugin, options=f", quality={quality}")
        decode = PILLOW.format(plugin=plugin, options="")
        made.append(
            (
                name,
                [sys.executable, "-c", encode, str(source), coded],
                [sys.executable, "-c", decode, coded, back],
            )
        )
    for name in NETWORKS if python else ():
        assert python
        call, coded = [python, "-c", COMPRESSAI, name], str(folder / f"{name}.pt")
        made.append(
            (name, [*call, "compress", str(source), coded], [*call, "decompress", coded, back])
        )
    for name, encode, decode in made:
        run(encode)
        run(decode)  # the first run reads from disk what later ones find in memory
        yield name, "encode", encode
        yield name, "decode", decode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--compressai", metavar="PYTHON")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--picture", type=Path, default=ROOT / "examples" / "coffee.jpg")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "picture.png"
        Image.open(arguments.picture).convert("RGB").resize((WIDTH, HEIGHT)).save(source)
        served = {
            network: subprocess.Popen(
                [arguments.compressai, "-c", COMPRESSAI, network, "serve", str(source)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for network in (NETWORKS if arguments.compressai else ())
        }
        steps = list(warm(source, served))
        times: dict[tuple[str, str], list[float]] = {(c, s): [] for c, s, _ in steps}
        for _ in range(arguments.runs + 1):
            for codec, step, call in steps:
                times[codec, step].append(call())
        for process in served.values():
            process.communicate()
        commands = list(cold(source, folder, arguments.compressai))
        cold_times: dict[tuple[str, str], list[tuple[float, float, float]]] = {
            (c, s): [] for c, s, _ in commands
        }
        for _ in range(arguments.runs):
            for codec, step, command in commands:
                cold_times[codec, step].append(run(command))
    median = {key: statistics.median(found[1:]) for key, found in times.items()}
    rows: list[dict[str, Any]] = []
    for (codec, step), ms in median.items():
        row = {
            "codec": codec,
            "step": step,
            "ms": round(ms, 2),
            "of_avif_encode": round(ms / median["avif", "encode"], 3),
            "megapixels_per_second": round(WIDTH * HEIGHT / ms / 1000, 2),
        }
        if whole := cold_times.get((codec, step)):
            row["cold_ms"] = round(statistics.median(wall for wall, *_ in whole), 1)
            row["cold_mb"] = round(max(memory for _, memory, _ in whole), 1)
        rows.append(row)
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "load_before": round(load, 2),
        "runs": arguments.runs,
        "picture": f"{WIDTH}x{HEIGHT}",
        "rows": rows,
    }
    write(RESULTS, report)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
