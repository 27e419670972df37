"""Networks that compute with 8-bit integers, beside those of a model folder that do not.

    ONNX file ─ run on pictures ─▶ ranges of what flows through it ─▶ the same network in 8 bits

As a program it makes them anew, outside of what the fingerprint covers:
``python -m tactic_codec.training.eight_bits MODEL PICTURE…``
"""

import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tactic_codec import picture as image
from tactic_codec.codec import Codec, load_model, pad
from tactic_codec.model import EIGHT_BITS
from tactic_codec.picture import Pixels
from tactic_codec.runtime.onnx import ForeignNetwork  # before what imports ONNX Runtime itself
from tactic_codec.tasks import TASKS
from tactic_codec.training.export import changing_manifest, describe_files
from tactic_codec.training.onnx_files import store_half

PICTURES = 24
"""Enough to see the ranges."""

MOVED = 0.05
"""Symbols, RMS at any level, by which an analysis may differ; one that does more is not kept."""

_WEIGHED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def in_eight_bits(data: bytes, shown: Sequence[NDArray[np.float32]]) -> bytes:
    """Return a network with 8-bit weights and activations, by the ranges of what it is shown.

    What reads the input and what adds up to the output stays in single precision: 256 steps from a
    latent's smallest value to its largest are coarser than symbols.

    Args:
        data: its ONNX file.
        shown: arrays that it takes, [1, C, H, W], one picture each.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Shown(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            self._left = iter([{name: array} for array in shown])

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return next(self._left, None)

    logging.getLogger().addFilter(_is_no_advice)
    try:
        with tempfile.TemporaryDirectory() as folder:
            folded, made = Path(folder, "folded.onnx"), Path(folder, "made.onnx")
            ForeignNetwork(data, folded=str(folded))
            graph = onnx.load(folded).graph
            quantize_static(
                folded,
                made,
                Shown(graph.input[0].name),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                nodes_to_exclude=_ends(graph),
            )
            proto = onnx.load(made)
    finally:
        logging.getLogger().removeFilter(_is_no_advice)
    store_half(proto.graph)
    result: bytes = proto.SerializeToString()
    return result


def _is_no_advice(record: logging.LogRecord) -> bool:
    return "pre-processing" not in record.getMessage()


def _ends(graph: Any) -> list[str]:
    """Return the names of the nodes that read the input, and of those that add up to the output."""
    made_by = {output: node for node in graph.node for output in node.output}
    found = {node.name for node in graph.node if graph.input[0].name in node.input}
    left = [output.name for output in graph.output]
    while left:
        node = made_by.get(left.pop())
        if node is not None:
            found.add(node.name)
            left += () if node.op_type in _WEIGHED else node.input
    return sorted(found)


def add(folder: Path, pictures: Sequence[Pixels]) -> None:
    """Make a model's networks in 8 bits and write them into its folder; its fingerprint stays.

    Args:
        folder: of the model; networks in 8 bits that it has are replaced.
        pictures: uint8 [H, W, 3].
    """
    codec = load_model(folder, device="cpu")
    model, files = codec.model, {}
    for name in ("analysis", "synthesis", *model.heads):
        file = model.network_file(name)
        shown = [_shown(codec, name, pixels, number) for number, pixels in enumerate(pictures)]
        data = in_eight_bits(model.read_file(file), shown)
        if name != "analysis" or _moved(codec, data, shown[0]) <= MOVED:
            files[file.removesuffix(".onnx") + EIGHT_BITS] = data
    with changing_manifest(folder) as manifest:
        kept = {k: v for k, v in manifest["files"].items() if not k.endswith(EIGHT_BITS)}
        for name in manifest["files"].keys() - kept.keys() - files.keys():
            (folder / name).unlink()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        manifest["files"] = kept | describe_files(files)


def _shown(codec: Codec, network: str, pixels: Pixels, number: int) -> NDArray[np.float32]:
    """Return what a network reads of a picture; levels take turns by its number."""
    model = codec.model
    if network == "analysis":
        return image.network_input(pad(pixels, model.stride))
    if network != "synthesis":
        return TASKS[network].prepare(pixels, model.head(network).input_size)
    level = 1 + number % len(model.levels)
    symbols = model.decode_symbols(codec.compress(pixels, level).frame).astype(np.float32)
    return (symbols * model.level(level).inverse_gain[:, np.newaxis, np.newaxis])[np.newaxis]


def _moved(codec: Codec, data: bytes, x: NDArray[np.float32]) -> float:
    """Return by how many symbols, RMS, an analysis in 8 bits differs at the level of most."""
    error = ForeignNetwork(data).run(x)[0] - codec.runtime.run("analysis", x)
    gains = np.stack([level.gain for level in codec.model.levels])[:, :, np.newaxis, np.newaxis]
    return float(np.sqrt(np.square(error * gains).mean((1, 2, 3)).max()))


if __name__ == "__main__":
    place, *names = map(Path, sys.argv[1:])
    add(place, [image.load(name) for name in names])
