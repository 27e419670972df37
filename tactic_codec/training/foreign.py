"""A network that somebody runs, as an ONNX file: read with care, described, turned into torch.

    net.onnx ─ read ─▶ Foreign ─ outputs, size ─▶ fold ─ onnx2pytorch ─▶ module, compared ─▶ Teacher

A stranger's ONNX file is as trusted as a program. Even so: it is opened without weights outside its
folder, without operators of other domains, without loops; and constants are computed, and one
picture is looked at, in a process of its own whose time and memory are bounded.
"""

import dataclasses
import hashlib
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, external_data_helper
from PIL import Image

from tactic_codec.errors import UnsupportedNetwork
from tactic_codec.networks.heads import IMAGENET_MEAN, IMAGENET_STD
from tactic_codec.picture import Pixels, to_pillow
from tactic_codec.runtime.folding import fold
from tactic_codec.runtime.onnx import ForeignNetwork
from tactic_codec.training.config import TeacherConfig

MAX_BYTES = 1 << 29
"""Of the file with the weights beside it."""

MAX_VALUES = 1 << 27
"""Of one tensor: weights, and a picture on its way through the network."""

MULTIPLE = 32
"""Where the network takes any sides, pictures are scaled to the nearest multiples of this."""

SMALLEST = 64
"""A fixed side below this is what the file was exported with, and not what the network reads."""

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


@dataclasses.dataclass(frozen=True)
class Foreign:
    """A network that was read, with what a picture must be made into for it.

    Attributes:
        path: of its file.
        sha256: of it.
        proto: cut to the outputs that count; weights are inside.
        reading: how it reads pictures; nothing is left open.
        guessed: what of this nobody said, for people.
    """

    path: Path
    sha256: str
    proto: Any
    reading: TeacherConfig
    guessed: str

    def array(self, pixels: Pixels) -> NDArray[Any]:
        """Make of a picture, uint8 [H, W, 3], what the network reads."""
        reading = self.reading
        height, width = sides(reading, *pixels.shape[:2])
        picture = to_pillow(pixels)
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        values = np.asarray(picture, np.float32) / 255
        if reading.order == "bgr":
            values = values[..., ::-1]
        assert reading.range is not None
        mean, std = (np.asarray(row, np.float32) for row in (reading.mean, reading.std))
        values = (values * reading.range - mean) / std
        if reading.layout == "nchw":
            values = values.transpose(2, 0, 1)
        kind = onnx.helper.tensor_dtype_to_np_dtype(_type(self.proto.graph.input[0]).elem_type)
        return np.ascontiguousarray(values[np.newaxis]).astype(kind)

    @property
    def identity(self) -> dict[str, str]:
        """Which file it is, for a manifest and a cache."""
        return {"network": self.path.name, "sha256": self.sha256}

    def at(self, height: int, width: int) -> bytes:
        """Return the network for pictures of these sides, 0 for any; what follows is inferred."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        dims = _type(proto.graph.input[0]).shape
        del dims.dim[:]
        axes = [("batch", 1), ("colours", 3), ("height", height), ("width", width)]
        if self.reading.layout == "nhwc":
            axes.append(axes.pop(1))
        for name, length in axes:
            dims.dim.add(**({"dim_value": length} if length else {"dim_param": name}))
        data: bytes = proto.SerializeToString()
        return data

    def open(self) -> ForeignNetwork:
        """Open the network for all pictures that it reads."""
        fixed = sides(self.reading, 0, 0) if any(self.reading.size) else (0, 0)
        return ForeignNetwork(self.at(*fixed))

    def run_apart(self, pixels: Pixels) -> tuple[bytes, list[NDArray[Any]]]:
        """Show a picture to the network in a process whose time and memory are bounded.

        Returns:
            The network for pictures of its sides, with constants computed, and its outputs.

        Raises:
            UnsupportedNetwork: it cannot be run so.
        """
        data = self.at(*sides(self.reading, *pixels.shape[:2]))
        shaped(data, self.path)
        try:
            return fold(data, self.array(pixels))
        except UnsupportedNetwork as exc:
            raise UnsupportedNetwork(f"{self.path}: {exc}") from exc


def sides(reading: TeacherConfig, height: int, width: int) -> tuple[int, int]:
    """Return height and width that a picture is scaled to before a network reads it."""
    if any(reading.size):
        return reading.size[0], reading.size[-1]
    near = [max(1, round(side / MULTIPLE)) * MULTIPLE for side in (height, width)]
    return near[0], near[1]


# --- Reading --------------------------------------------------------------------------------------


def read(reading: TeacherConfig) -> Foreign:
    """Read an ONNX file, check it, and guess what nobody said of it.

    Raises:
        UnsupportedNetwork: it is missing, too large, or no ONNX file; it has weights outside its
            folder, operators that no standard describes, or loops; or it reads no picture, or an
            output that was named is not there.
    """
    path = Path(reading.network)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UnsupportedNetwork(f"{path} has more than {MAX_BYTES >> 20} MiB")
        data = path.read_bytes()
        proto = onnx.load_model_from_string(data)
        _check(proto, path)
        external_data_helper.load_external_data_for_model(proto, str(path.parent))
    except OSError as exc:
        raise UnsupportedNetwork(f"cannot read the network {path}: {exc}") from exc
    except UnsupportedNetwork:
        raise
    # Those of protobuf and of the checker share no base below Exception.
    except Exception as exc:
        reason = " ".join(str(exc).split()) or type(exc).__name__
        raise UnsupportedNetwork(f"{path} is no ONNX file that can be used: {reason}") from exc
    _cut(proto, reading.outputs, path)
    complete, guessed = _guess(proto, reading, path)
    return Foreign(path, hashlib.sha256(data).hexdigest(), proto, complete, guessed)


def _check(proto: Any, path: Path) -> None:
    """Refuse what a network of pictures does without, before anything of it is loaded."""

    def refuse(what: str) -> None:
        raise UnsupportedNetwork(f"{path}: {what}")

    if proto.functions:
        refuse(f"it defines an operator of its own, {proto.functions[0].name}")
    if proto.graph.sparse_initializer:
        refuse("sparse weights are not supported")
    for node in proto.graph.node:
        if node.domain not in ("", "ai.onnx"):
            refuse(f"operator {node.op_type} is of another domain than ONNX's: {node.domain}")
        if any(a.HasField("g") or a.graphs for a in node.attribute):
            refuse(f"operator {node.op_type} holds a graph, as loops do; such are not supported")
    folder = path.parent.resolve()
    beside = {folder / "": 0}
    for tensor in _tensors(proto):
        shape = math.prod(tensor.dims)
        if min(tensor.dims, default=0) < 0 or shape > MAX_VALUES:
            refuse(f"tensor {tensor.name} has {shape} values; at most {MAX_VALUES} are read")
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        location = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
        file = (folder / location).resolve()
        if not location or not file.is_relative_to(folder):
            refuse(f"its weights lie outside its folder: {location}")
        if not file.is_file():
            refuse(f"{file} with weights is missing")
        beside[file] = file.stat().st_size
    if sum(beside.values()) > MAX_BYTES:
        refuse(f"its weights have more than {MAX_BYTES >> 20} MiB")


def _tensors(proto: Any) -> Iterator[Any]:
    yield from proto.graph.initializer
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _type(value: Any) -> Any:
    return value.type.tensor_type


def _cut(proto: Any, outputs: Sequence[str], path: Path) -> None:
    """Leave one input, the outputs that count, and what lies between them."""
    graph = proto.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1 or len(_type(inputs[0]).shape.dim) != 4:
        found = ", ".join(f"{v.name} of {len(_type(v).shape.dim)} axes" for v in inputs)
        found = found or ("none" if graph.node else "an empty file")
        raise UnsupportedNetwork(
            f"{path}: one input of 4 axes, a picture, was expected, found {found}: export the "
            "network again, with the picture as its only input and all else as constants"
        )
    makers = {name: node for node in graph.node for name in node.output}
    kinds = {value.name: _type(value).elem_type for value in graph.output}
    chosen = list(outputs) or [n for n, kind in kinds.items() if kind in (*_FLOATS, 0)]
    strangers = [name for name in chosen if name not in makers]
    if strangers or not chosen:
        raise UnsupportedNetwork(
            f"{path} has no output {strangers[0] if strangers else 'of floats'}; "
            f"it has: {', '.join(kinds)}"
        )
    wanted, open_names = set[str](), list(chosen)
    while open_names:
        name = open_names.pop()
        if name not in wanted:
            wanted.add(name)
            open_names += makers[name].input if name in makers else ()
    nodes = [node for node in graph.node if wanted & set(node.output)]
    tensors = [tensor for tensor in graph.initializer if tensor.name in wanted]
    for field, kept in (
        (graph.input, inputs),
        (graph.node, nodes),
        (graph.initializer, tensors),
        (graph.output, [onnx.helper.make_empty_tensor_value_info(name) for name in chosen]),
        (graph.value_info, []),
    ):
        kept = [type(item).FromString(item.SerializeToString()) for item in kept]
        del field[:]
        field.extend(kept)


def _guess(proto: Any, reading: TeacherConfig, path: Path) -> tuple[TeacherConfig, str]:
    """Complete how pictures are read: by the input's shape and type, its name and the producer."""
    value = proto.graph.input[0]
    dims = [dim.dim_value for dim in _type(value).shape.dim]
    layout = reading.layout or ("nhwc" if dims[3] == 3 and dims[1] != 3 else "nchw")
    height, width = dims[2:] if layout == "nchw" else dims[1:3]
    channels = dims[1] if layout == "nchw" else dims[3]
    if channels not in (0, 3):
        raise UnsupportedNetwork(f"{path} reads {channels} channels in {layout}; 3 were expected")
    size = (height, width) if min(height, width) >= SMALLEST else (0,)
    first = next(node for node in proto.graph.node if value.name in node.input)
    integers = _type(value).elem_type not in _FLOATS
    # What a network does first shows whether it takes pixels as they are.
    plain = integers or first.op_type in ("Sub", "Div", "Mul", "BatchNormalization", "Cast")
    yolo = any(entry.key in ("imgsz", "stride") for entry in proto.metadata_props)
    if plain:
        numbers: dict[str, Any] = {"range": 255.0, "mean": (0.0,), "std": (1.0,)}
    elif yolo:
        numbers = {"range": 1.0, "mean": (0.0,), "std": (1.0,)}
    elif layout == "nhwc":
        numbers = {"range": 255.0, "mean": (127.5,), "std": (127.5,)}
    else:
        numbers = {"range": 1.0, "mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    if reading.range is not None:
        numbers |= {"mean": (0.0,), "std": (1.0,)}
    order = "bgr" if "bgr" in value.name.lower() else "rgb"
    guesses = {"layout": layout, "size": size, "order": order, **numbers}
    guesses["outputs"] = tuple(output.name for output in proto.graph.output)
    open_ones = {k: v for k, v in guesses.items() if getattr(reading, k) in (None, ())}
    told = [f"{key}={_told(value)}" for key, value in open_ones.items()]
    return dataclasses.replace(reading, **open_ones), " ".join(told)


def _told(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_told, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


# --- Turning into torch ---------------------------------------------------------------------------


def converted(foreign: Foreign, picture: Pixels) -> tuple[Any, list[NDArray[np.float32]]]:
    """Return a torch module for inputs as a picture makes them, and what ONNX Runtime says of it.

    Raises:
        UnsupportedNetwork: it cannot be run, is too large, or has an operator that torch lacks.
    """
    folded, said = foreign.run_apart(picture)
    proto = shaped(folded, foreign.path, all_known=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # It imports torchvision, and ONNX Runtime, which has to be kept quiet first.
        from tactic_codec.networks.resize import FromTheCorner
        from tactic_codec.networks.torchvision_shim import torchvision  # noqa: F401

        try:
            from onnx2pytorch import ConvertModel
        except ImportError as exc:
            raise UnsupportedNetwork(
                "networks as ONNX files need onnx2pytorch; run: pip install onnx2pytorch"
            ) from exc
        try:
            module = ConvertModel(proto, experimental=True)
            for node in proto.graph.node:
                if node.op_type == "Resize" and _enlarges_from_the_corner(node):
                    setattr(module, module.mapping[node.output[0]], FromTheCorner())
        # It refuses operators by several kinds of exceptions.
        except Exception as exc:
            raise UnsupportedNetwork(
                f"{foreign.path} cannot be turned into torch: {' '.join(str(exc).split())}; the "
                f"network has {', '.join(sorted({node.op_type for node in proto.graph.node}))}. "
                "Name outputs before the operator that is missing"
            ) from exc
    # Its operators would warn at every step, of what is compared with ONNX Runtime once.
    warnings.filterwarnings("ignore", module="onnx2pytorch")
    return module.eval().requires_grad_(False), said


def _enlarges_from_the_corner(node: Any) -> bool:
    told = {attribute.name: attribute.s for attribute in node.attribute}
    modes = told.get("mode"), told.get("coordinate_transformation_mode")
    return modes == (b"linear", b"asymmetric")


def shaped(data: bytes, path: Path, *, all_known: bool = False) -> Any:
    """Return a network with the shapes of its tensors, and refuse those beyond the limit.

    Args:
        data: an ONNX file.
        path: for messages.
        all_known: refuse those, too, whose size depends on what a picture shows.
    """
    try:
        proto = onnx.load_model_from_string(data)
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except onnx.shape_inference.InferenceError as exc:
        raise UnsupportedNetwork(f"{path}: {' '.join(str(exc).split())}") from exc
    known = {value.name: value for value in (*proto.graph.value_info, *proto.graph.output)}
    for node in proto.graph.node:
        for name in filter(None, node.output):
            told = name in known and _type(known[name]).HasField("shape")
            shape = _type(known[name]).shape.dim if told else [onnx.TensorShapeProto.Dimension()]
            dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in shape]
            if None in dims and all_known:
                raise UnsupportedNetwork(
                    f"{path}: how much operator {node.op_type} gives depends on the picture, as "
                    f"behind a selection of boxes; name outputs before it, such as {node.input[0]}"
                )
            if math.prod(dim or 1 for dim in dims) > MAX_VALUES:
                raise UnsupportedNetwork(
                    f"{path}: operator {node.op_type} gives more than {MAX_VALUES} values for one "
                    "picture; let the network read smaller ones"
                )
    return proto
