"""Spare the later layers of a network the halo of a tile, which only the earlier ones need.

    block ─ layers ─ x ─────── layers …     every layer works on the padded block
    block ─ layers ─ x ─ Pad ─ layers …     pads below 0 leave ever less of it

How far a layer reaches beyond what is wanted of it follows from the layers behind. What a synthesis
makes stays as it is, to the bit; an analysis's sums may be taken in another order.
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tactic_codec.runtime.onnx_fields import MOST, field, read, values

_NODE_BYTES = 1 << 16
"""Of a node: a hostile file takes no more time."""

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
        parts = list(read(memoryview(data)))  # weights are not copied
        (graph,) = (value for number, value, _ in parts if number == 7)
        made, cuts, reach = _graph(graph)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return Narrowed(data, [], None)
    whole = b"".join(field(7, made) if number == 7 else raw for number, _, raw in parts)
    return Narrowed(whole, cuts, reach)


def _graph(graph: memoryview) -> tuple[bytes, list[Cut], int]:
    parts = list(read(graph))
    if any(k == 1 and len(node) > _NODE_BYTES for k, node, _ in parts):
        raise ValueError("no such network is known")
    (source,) = (values(value)[1][0] for k, value, _ in parts if k == 11)
    (target,) = (values(value)[1][0] for k, value, _ in parts if k == 12)
    nodes = [values(node) if k == 1 else {} for k, node, _ in parts]
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
            if not 1 / MOST <= scale <= MOST:  # rows that come of one
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
                    changed = changed.replace(field(1, name), field(1, _left(cut)), 1)
                    raw = memoryview(field(1, changed))
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
    eight = field(1, b"\x08\x07" + field(2, field(1, b"\x08\x08")))  # int64 [8]
    pad = field(1, name) + field(1, amount) + field(2, _left(cut)) + field(4, b"Pad")
    return [field(11, field(1, amount) + field(2, eight)), field(1, pad)]


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
    attributes = [values(memoryview(attribute)) for attribute in node.get(5, [])]
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
