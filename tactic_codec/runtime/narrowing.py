"""Spare the later layers of a synthesis the halo of a tile, which only the earlier ones need.

    y_hat ─ layers ─ x ─────── DepthToSpace ─ layers …     every layer works on the padded block
    y_hat ─ layers ─ x ─ Pad ─ DepthToSpace ─ layers …     pads below 0 leave ever less of it

A synthesis enlarges in steps. It works most on the largest ones, which reach the fewest positions
beyond the core; how many follows from the layers. Arithmetic stays as it is, and so does every bit.

An ONNX file is a message of Protocol Buffers; the numbers of fields are those of onnx.proto.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_POINTWISE = {b"Relu", b"Add", b"QuantizeLinear", b"DequantizeLinear"}


class Cut(NamedTuple):
    """A place in a network where what nothing behind it needs is left out.

    Attributes:
        name: of the input that says how much that is.
        scale: rows and columns there for one that the network reads.
        kept: how many around the core earlier cuts have left, at most.
        reach: how many are needed.
    """

    name: str
    scale: int
    kept: int
    reach: int

    def pads(self, around: tuple[int, int, int, int]) -> NDArray[np.int64]:
        """Return what Pad adds, to a block with so many above the core, left, below and right."""
        more = [min(0, self.reach - min(side * self.scale, self.kept)) for side in around]
        return np.array([0, 0, *more[:2], 0, 0, *more[2:]], np.int64)


def narrowed(data: bytes) -> tuple[bytes, list[Cut]]:
    """Return a network with its cuts; as it is and without any, where it has layers of other kinds.

    Args:
        data: an ONNX file.
    """
    cuts: list[Cut] = []
    try:
        parts = list(_read(memoryview(data)))  # weights are not copied
        made = [_field(7, _graph(value, cuts)) if k == 7 else raw for k, value, raw in parts]
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return data, []
    return b"".join(made), cuts


def _graph(graph: memoryview, cuts: list[Cut]) -> bytes:
    parts = list(_read(graph))
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

    known = {source: (1, 1 << 30)}  # of a block: its scale, and how much cuts have left
    made, added = list[memoryview](), list[bytes]()
    for (k, node, raw), layer in zip(parts, reversed(layers), strict=True):
        here = {known[name] for name in layer.inputs if name in known} if layer else None
        if layer and here:
            ((scale, kept),) = here
            if layer.step > 1:
                cut = Cut(f"cut {len(cuts)}", scale, kept, layer.needs(needed))
                cuts.append(cut)
                name, amount = layer.inputs[0], cut.name.encode()
                left = b"left by " + amount
                eight = _field(1, b"\x08\x07" + _field(2, _field(1, b"\x08\x08")))  # int64 [8]
                pad = _field(1, name) + _field(1, amount) + _field(2, left) + _field(4, b"Pad")
                added += [_field(11, _field(1, amount) + _field(2, eight)), _field(1, pad)]
                raw = memoryview(
                    _field(1, bytes(node).replace(_field(1, name), _field(1, left), 1))
                )
                kept = min(kept, cut.reach)
            known[layer.output] = scale * layer.step, kept * layer.step
        if k != 13:  # shapes as they were
            made.append(raw)
    if known[target][1]:
        raise ValueError("more than the core would be left")
    return b"".join([*made, *added])


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
    reach: int
    step: int

    def needs(self, needed: dict[bytes, int]) -> int:
        """Return how many rows around the core it has to read."""
        return -(-needed[self.output] // self.step) + self.reach


def _layer(node: dict[int, list[Any]]) -> _Layer:
    """Return a layer by the fields of its node; KeyError or ValueError where it is not known."""
    (kind,), (output,) = node[4], node[2]
    attributes = [_values(memoryview(attribute)) for attribute in node.get(5, [])]
    given = {found[1][0]: found.get(3, []) + found.get(8, []) for found in attributes}
    inputs = node[1][: 2 if kind == b"Add" else 1]
    if kind in _POINTWISE:
        return _Layer(inputs, output, 0, 1)
    if kind == b"DepthToSpace":
        return _Layer(inputs, output, 0, given[b"blocksize"][0])
    side = given[b"kernel_shape"][0]
    reach, step = {b"Conv": (side // 2, 1), b"ConvTranspose": (0, side)}[kind]
    plain = {b"kernel_shape": [side] * 2, b"pads": [reach] * 4, b"strides": [step] * 2}
    plain |= {b"dilations": [1, 1], b"output_padding": [0, 0]}
    if {b"output_padding": [0, 0]} | given != given | plain:
        raise ValueError("no such layer is known")
    return _Layer(inputs, output, reach, step)


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
