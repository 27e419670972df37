"""Let ONNX Runtime add residuals while it convolves.

    DepthToSpace ─ x ────────── layers ─ + x
    DepthToSpace ─ Conv 1 ─ x ─ layers ─ + x

On x86-64 its convolutions keep channels in blocks, and a sum of two such results costs nothing.
What DepthToSpace makes is not in blocks, and so neither is any sum behind it. A convolution that
multiplies each channel by 1 changes no number, and what it makes is in blocks. The sums are taken
in another order: of 8.3 million decoded numbers of photographs 13 changed by one of 255 steps.
"""

from tactic_codec.runtime.onnx_fields import MOST, field, integer, read, values

_PLAIN = {b"kernel_shape": (1, 1), b"strides": (1, 1), b"dilations": (1, 1), b"pads": (0,) * 4}


def fused(data: bytes) -> bytes:
    """Return a network with such convolutions; as it is where it has no place for them.

    Args:
        data: an ONNX file, or anything else.
    """
    try:
        parts = list(read(memoryview(data)))  # weights are not copied
        (graph,) = (value for number, value, _ in parts if number == 7)
        fields = list(read(graph))
        nodes = [values(value) if number == 1 else {} for number, value, _ in fields]
        convolved = {node[1][0] for node in nodes if node and node[4] == [b"Conv"]}
        infos = (values(value) for number, value, _ in fields if number == 13)
        types = {info[1][0]: info[2][0] for info in infos}
        made = list[memoryview | bytes]()
        for (_, value, raw), node in zip(fields, nodes, strict=True):
            if node and node[4] == [b"DepthToSpace"] and node[2][0] in convolved:
                (result,) = node[2]
                loose = result + b" loose"
                changed = bytes(value).replace(field(2, result), field(2, loose), 1)
                made += [field(1, changed), *_ones(loose, result, _channels(types.pop(result)))]
            else:
                made.append(raw)
    except (LookupError, TypeError, ValueError):
        return data
    if len(made) == len(fields):
        return data
    return b"".join(field(7, b"".join(made)) if k == 7 else raw for k, _, raw in parts)


def _channels(of_type: bytes) -> int:
    """Return how many channels a tensor of a type has."""
    found = of_type
    for number, place in ((1, 0), (2, 0), (1, 1), (1, 0)):  # its shape's second side, and its size
        found = values(memoryview(found))[number][place]
    return int(found)


def _ones(given: bytes, result: bytes, channels: int) -> list[bytes]:
    """Return the fields of a graph that multiply each channel by 1: a node, and its weights."""
    if not 0 < channels <= MOST:
        raise ValueError("no such network is known")
    weights = result + b" ones"
    node = field(1, given) + field(1, weights) + field(2, result) + field(4, b"Conv")
    group = field(1, b"group") + integer(3, channels) + integer(20, 2)
    lists = (
        field(1, name) + b"".join(integer(8, number) for number in numbers) + integer(20, 7)
        for name, numbers in _PLAIN.items()
    )
    node += b"".join(field(5, attribute) for attribute in (group, *lists))
    sides = b"".join(integer(1, side) for side in (channels, 1, 1, 1))
    tensor = sides + integer(2, 1) + field(8, weights) + field(9, b"\0\0\x80\x3f" * channels)
    return [field(1, node), field(5, tensor)]
