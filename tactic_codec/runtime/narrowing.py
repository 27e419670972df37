"""Spare the later layers of a network the halo of a tile, which only the earlier ones need.

    block ─ layers ─ x ─────── layers …     every layer works on the padded block
    block ─ layers ─ x ─ Pad ─ layers …     pads below 0 leave ever less of it

How far a layer reaches beyond what is wanted of it follows from the layers behind. What a synthesis
makes stays as it is, to the bit; an analysis's sums may be taken in another order.

An ONNX file is a message of Protocol Buffers; the numbers of fields are those of onnx.proto.
"""

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_MOST = 1 << 12
"""Nodes and weights of a graph, and rows that come of one: a hostile file takes no more time."""

_NODE_BYTES = 1 << 16
"""Of a node, likewise."""

_POINTWISE = {b"Relu", b"Add", b"Sub", b"QuantizeLinear", b"DequantizeLinear"}


class Cut(NamedTuple):
    """A place in a network where what nothing behind it needs is left out.

    Attributes:
        name: of the input that says how much that is.
        scale: rows and columns there for one that the network reads.
        kept: how many around the core earlier cuts have left.
        reach: how many are needed.
    """

    name: str
    scale: Fraction
    kept: int
    reach: int

    def pads(self, around: tuple[int, int, int, int]) -> NDArray[np.int64]:
        """Return what Pad adds, to a block with so many above the core, left, below and right."""
        more = [min(0, self.reach - min(int(side * self.scale), self.kept)) for side in around]
        return np.array([0, 0, *more[:2], 0, 0, *more[2:]], np.int64)


class Narrowed(NamedTuple):
    """A network with its cuts.

    Attributes:
        data: an ONNX file.
        cuts: those.
        reach: rows that it reads around those whose result is wanted; None where that is not known,
            and nothing is cut.
    """

    data: bytes
    cuts: list[Cut]
    reach: int | None


def narrowed(data: bytes) -> Narrowed:
    """Return a network with its cuts; as it is and without any, where it has layers of other kinds.

    Args:
        data: an ONNX file.
    """
    try:
        parts = list(_read(memoryview(data)))  # weights are not copied
        (graph,) = (value for number, value, _ in parts if number == 7)
        made, cuts, reach = _graph(graph)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return Narrowed(data, [], None)
    whole = b"".join(_field(7, made) if number == 7 else raw for number, _, raw in parts)
    return Narrowed(whole, cuts, reach)


def _graph(graph: memoryview) -> tuple[bytes, list[Cut], int]:
    parts = list(_read(graph))
    if len(parts) > _MOST or any(k == 1 and len(node) > _NODE_BYTES for k, node, _ in parts):
        raise ValueError("no such network is known")
    (source,) = (_values(value)[1][0] for k, value, _ in parts if k == 11)
    (target,) = (_values(value)[1][0] for k, value, _ in parts if k == 12)
    nodes = [_values(node) if k == 1 else {} for k, node, _ in parts]
    needed, layers = {target: 0}, list[_Layer | None]()
    for node in reversed(nodes):
        layer = _layer(node) if node and node[2][0] in needed else None
        layers.append(layer)
        if layer:
            for name in layer.inputs:
                needed[name] = max(layer.needs(needed), needed.get(name, 0))

    scales = {source: Fraction(1)}
    for layer in reversed(layers):
        if layer:
            scales[layer.output] = scale = scales[layer.inputs[0]] * layer.step
            if not 1 / _MOST <= scale <= _MOST:
                raise ValueError("no such network is known")
    coarsest = min(scales.values())
    reach = math.ceil(needed[source] * coarsest) / coarsest  # whole rows of all layers

    kept, cuts = {source: int(reach)}, list[Cut]()  # of a block: rows around its core
    made, added = list[memoryview](), list[bytes]()
    for (k, node, raw), layer in zip(parts, reversed(layers), strict=True):
        if layer:
            blocks = [name for name in layer.inputs if name in kept]  # the others are constants
            # What is added up has one size. A layer that changes it reads no more than it has to.
            least = min(kept[name] for name in blocks)
            least = least if layer.step == 1 else layer.needs(needed)
            changed = bytes(node)
            for name in blocks:
                if kept[name] > least:
                    cut = Cut(f"cut {len(cuts)}", scales[name], kept[name], least)
                    cuts.append(cut)
                    added += _padded(name, cut)
                    changed = changed.replace(_field(1, name), _field(1, _left(cut)), 1)
                    raw = memoryview(_field(1, changed))
            kept[layer.output] = int(least * layer.step)
        if k != 13:  # shapes as they were
            made.append(raw)
    if kept[target]:
        raise ValueError("more than the core would be left")
    return b"".join([*made, *added]), cuts, int(reach)


def _left(cut: Cut) -> bytes:
    """Return the name of what a cut leaves."""
    return b"left by " + cut.name.encode()


def _padded(name: bytes, cut: Cut) -> list[bytes]:
    """Return the fields of a graph that make a cut: its input, and the node that pads."""
    amount = cut.name.encode()
    eight = _field(1, b"\x08\x07" + _field(2, _field(1, b"\x08\x08")))  # int64 [8]
    pad = _field(1, name) + _field(1, amount) + _field(2, _left(cut)) + _field(4, b"Pad")
    return [_field(11, _field(1, amount) + _field(2, eight)), _field(1, pad)]


class _Layer(NamedTuple):
    """A layer: what it reads but for weights, and makes, and how large a part of that.

    Attributes:
        inputs: names.
        output: name.
        reach: rows that it looks at beyond its own.
        step: how many it makes of one.
    """

    inputs: list[bytes]
    output: bytes
    reach: int = 0
    step: Fraction = Fraction(1)

    def needs(self, needed: Mapping[bytes, int]) -> int:
        """Return how many rows around the core it has to read."""
        return math.ceil(needed[self.output] / self.step) + self.reach


def _layer(node: dict[int, list[Any]]) -> _Layer:
    """Return a layer by the fields of its node; KeyError or ValueError where it is not known."""
    (kind,), (output,) = node[4], node[2]
    attributes = [_values(memoryview(attribute)) for attribute in node.get(5, [])]
    given = {found[1][0]: found.get(3, []) + found.get(8, []) for found in attributes}
    layer = _Layer(node[1][: 2 if kind == b"Add" else 1], output)
    if kind in _POINTWISE:
        return layer
    if kind == b"DepthToSpace":
        return layer._replace(step=Fraction(given[b"blocksize"][0]))
    side, stride = given[b"kernel_shape"][0], given[b"strides"][0]
    # A kernel looks at its neighbours, or at blocks that lie side by side.
    reach = 0 if kind == b"ConvTranspose" or stride == side else side // 2
    plain = {b"kernel_shape": [side] * 2, b"pads": [reach] * 4, b"strides": [stride] * 2}
    plain |= {b"dilations": [1, 1], b"output_padding": [0, 0]}
    if {b"output_padding": [0, 0]} | given != given | plain or stride not in (1, side):
        raise ValueError("no such layer is known")
    step = {b"Conv": Fraction(1, stride), b"ConvTranspose": Fraction(stride)}[kind]
    return layer._replace(reach=reach, step=step)


# --- Protocol Buffers ---


def _read(message: memoryview) -> Iterator[tuple[int, Any, memoryview]]:
    """Yield the fields of a message: number, value as an integer or bytes, and all of its bytes."""
    at = 0
    while at < len(message):
        start = at
        key, at = _integer(message, at)
        value: int | memoryview
        if key & 7 == 0:
            value, at = _integer(message, at)
        else:
            size, at = _integer(message, at) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7], at)
            value, at = message[at : at + size], at + size
        yield key >> 3, value, message[start:at]


def _values(message: memoryview) -> dict[int, list[Any]]:
    """Return the values of a message's fields by their numbers."""
    found: dict[int, list[Any]] = {}
    for number, value, _ in _read(message):
        found.setdefault(number, []).append(value if isinstance(value, int) else value.tobytes())
    return found


def _integer(message: memoryview, at: int) -> tuple[int, int]:
    """Return the integer at a place, and where it ends."""
    value = 0
    for shift in range(0, 64, 7):
        value |= (message[at] & 127) << shift
        at += 1
        if message[at - 1] < 128:
            return value, at
    raise ValueError("an integer goes on behind 64 bits")


def _field(number: int, data: bytes) -> bytes:
    """Return a field whose value is bytes."""
    size, written = len(data), bytearray([number << 3 | 2])
    while size > 127:
        written.append(size & 127 | 128)
        size >>= 7
    return bytes(written) + bytes([size]) + data
