"""A detector for tests that nobody has to train: a box for each colour, as certain as it is strong.

Wherever it looks it means three boxes, at fixed places of what it sees; the score of each is the
mean of red, green or blue over the whole picture.
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DETECT_FILE = "detect.onnx"
DETECT_LABELS = ["red thing", "green thing", "blue thing"]
DETECT_SIZE = 64
PLACES = ((8, 4, 40, 24), (16, 8, 32, 16), (0, 0, 64, 64))
"""Left, top, right, bottom of the boxes, where the longer side has 64 pixels."""


def colour_boxes() -> bytes:
    """The ONNX network: float32 [1, 3, h, w] to [1, 3, 4 + 3]."""
    constants = {
        "places": np.array([PLACES], np.float32),
        "shape": np.array([1, 1, 3], np.int64),
        "diagonal": np.eye(3, dtype=np.float32)[None],
    }
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["x"], ["means"]),
            helper.make_node("Reshape", ["means", "shape"], ["row"]),
            helper.make_node("Mul", ["row", "diagonal"], ["scores"]),
            helper.make_node("Concat", ["places", "scores"], ["z"], axis=2),
        ],
        "detect",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 3, 7])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def detect_head() -> dict[str, Any]:
    """What a manifest says of that network; the caller's own, to be changed at will."""
    return {
        "file": DETECT_FILE,
        "network": "colours",
        "input_size": DETECT_SIZE,
        "labels": list(DETECT_LABELS),
        "classes": list(DETECT_LABELS),
    }
