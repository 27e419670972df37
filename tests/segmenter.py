"""A segmentation network for tests that nobody has to train: a pixel's class is its main colour."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SEGMENT_FILE = "segment.onnx"
SEGMENT_LABELS = ["red thing", "green thing", "blue thing"]
SEGMENT_COLOURS = ["#c00000", "#00c000", "#0000c1"]
SEGMENT_SIZE = 64


def brightest_channel(stride: int = 4) -> bytes:
    """An ONNX network whose logits are the means of each channel of ``stride`` squared pixels."""
    proto = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "weight"], ["y"]),
            helper.make_node(
                "AveragePool", ["y"], ["z"], kernel_shape=[stride] * 2, strides=[stride] * 2
            ),
        ],
        "segment",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 3, "rows", "columns"])],
        [numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), "weight")],
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def segment_head(
    labels: Sequence[str] = SEGMENT_LABELS, network: str = "brightest"
) -> dict[str, Any]:
    """What a manifest says of that network; the caller's own, to be changed at will."""
    return {
        "file": SEGMENT_FILE,
        "network": network,
        "input_size": SEGMENT_SIZE,
        "labels": list(labels),
        "classes": list(labels),
        "colours": list(SEGMENT_COLOURS),
    }
