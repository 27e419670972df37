"""A second decoder for `.tac` frames, written from ``docs/format.md`` and sharing no code.

    frame bytes + model as plain JSON ─▶ symbols [C][h][w]

Standard library and integers only; made to be compared with the page, not to be fast. As a program:
``python tests/reference_decoder.py image.tac model.json`` prints the symbols as JSON. The model is
``{"stride": s, "levels": {"1": {"minimum": m, "own": […], "shared": […], "frequencies": […]}}}``;
with learned contexts a level has "starts", "magnitude", "sign", their "…_units", "…_unit_bias",
"…_weights" and "…_bias", "sure" and "sets" in place of "own" and "shared".
"""

import bisect
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Symbols = list[list[list[int]]]
METADATA = {130: "exif", 131: "xmp", 132: "icc"}


class Refused(Exception):
    """The page tells a reader to refuse this frame; the text names the error in brackets there."""


def decode(data: bytes, model: dict[str, Any], max_pixels: int | None = None) -> Symbols:
    """Return the symbols of the one frame in ``data``."""
    frame = parse(data, max_pixels)
    (width, height), stride = frame["coded"], model["stride"]
    if str(frame["level"]) not in model["levels"]:
        raise Refused("UnknownLevel")
    rows, columns = -(-height // stride), -(-width // stride)
    return decode_symbols(frame["payload"], rows, columns, model["levels"][str(frame["level"])])


def parse(data: bytes, max_pixels: int | None = None) -> dict[str, Any]:
    """Return the fields of the one frame in ``data``; by default the limit is the page's."""
    place = 0

    def take(count: int) -> bytes:
        nonlocal place
        if place + count > len(data):
            raise Refused("Truncated")
        place += count
        return data[place - count : place]

    def number(count: int) -> int:
        return int.from_bytes(take(count), "big")

    def varint() -> int:
        first = number(1)
        count = max(first - 247, first > 240) if first <= 251 else 0
        value, _ = varint_of(bytes([first]) + take(count))
        return value

    magic = data[:3]
    if magic != b"\x89\x54\x41"[: len(magic)]:
        raise Refused("NotATacFile")
    take(3)
    version_and_flags = number(1)
    if version_and_flags >> 4 != 1:
        raise Refused("UnsupportedVersion")
    if version_and_flags & 12:
        raise Refused("ReservedFlags")
    fingerprint = take(4)
    level = number(1)
    if level == 0:
        raise Refused("Corrupt")

    def size(most: tuple[int, int]) -> tuple[int, int]:
        sides = []
        for largest in most:
            side = varint()
            if not 1 <= side <= largest:
                raise Refused("Corrupt")
            sides.append(side)
        return sides[0], sides[1]

    whole = size((65535, 65535))
    pixels = whole[0] * whole[1]
    if pixels > (2**28 if max_pixels is None else max_pixels):
        raise Refused("LimitExceeded")
    coded = whole
    if version_and_flags & 1:
        coded = size(whole)
        if coded == whole:
            raise Refused("Corrupt")
        pixels = coded[0] * coded[1] + (pixels + 7) // 8
    sections = b""
    if version_and_flags & 2:
        length = varint()
        if not 2 <= length < 2**24:
            raise Refused("Corrupt")
        sections = take(length)
    length = varint()
    if max_pixels is None and pixels > 2**22 + 1024 * max(0, length - 2**16):
        raise Refused("LimitExceeded")
    payload = take(length)
    computed = crc32(data[:place])
    if int.from_bytes(take(4), "little") != computed:
        raise Refused("ChecksumMismatch")
    if payload[-1:] == b"\0":
        raise Refused("Corrupt")
    known = sections_of(sections)
    if any(kind < 128 for kind in known):
        raise Refused("UnknownSection")
    if place != len(data):
        raise Refused("Corrupt")
    return {
        "fingerprint": fingerprint,
        "level": level,
        "width": whole[0],
        "height": whole[1],
        "coded": coded,
        "sections": known,
        "metadata": {METADATA[kind]: known[kind] for kind in known if kind in METADATA},
        "payload": payload,
    }


def sections_of(data: bytes) -> dict[int, bytes]:
    """Return the data of each section by its type."""
    found: dict[int, bytes] = {}
    while data:
        kind, data = data[0], data[1:]
        length, data = varint_of(data)
        if kind <= max(found, default=0) or length > len(data):
            raise Refused("Corrupt")
        found[kind], data = data[:length], data[length:]
    return found


def varint_of(data: bytes) -> tuple[int, bytes]:
    """Return an integer and what follows it; where they end within it, it claims too much."""
    if not data or data[0] > 251:
        raise Refused("Corrupt")
    first, count = data[0], max(data[0] - 247, data[0] > 240)
    rest = int.from_bytes(data[1 : 1 + count], "big")
    value = first if first <= 240 else rest
    if 240 < first <= 248:
        value = 240 + 256 * (first - 241) + rest
    elif first == 249:
        value = 2288 + rest
    least = {1: 241, 2: 2288, 3: 2288 + 65536, 4: 2**24}.get(count, 0)
    if len(data) <= count or value < least:
        raise Refused("Corrupt")
    return value, data[1 + count :]


def crc32(data: bytes) -> int:
    """Return the CRC-32 by its definition, a bit at a time."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0xEDB88320 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def decode_symbols(payload: bytes, rows: int, columns: int, tables: dict[str, Any]) -> Symbols:
    """Return the symbols [C][rows][columns] of a payload."""
    frequencies = tables["frequencies"]
    minimum = tables["minimum"]
    sets: list[int] = tables.get("sets", list(range(len(frequencies))))
    channels, escape = len(sets), len(frequencies[0][0]) - 1
    maximum = minimum + escape - 1
    v: Symbols = [[[0] * columns for _ in range(rows)] for _ in range(channels)]
    coder = RangeDecoder(payload)
    learned = "starts" in tables
    starts = [0, *tables.get("starts", []), channels]
    make = learned_contexts if learned else neighbour_contexts
    context = make(v, tables)

    for number, (start, stop) in enumerate(itertools.pairwise(starts)):
        for part, step in parts_of(rows, columns, number, stop - start):
            escaped, used = [], []
            for y, x in part:
                of_channel = context(y, x, number, step)
                of_part = [frequencies[sets[c]][of_channel(c)] for c in range(start, stop)]
                used.append([(table, is_sure(table, tables)) for table in of_part])
            leave_out = number > 0 and any(sure for row in used for _, sure in row)
            if leave_out:
                leave_out = coder.decode([7 * 2**21, 2**21]) == 0
            for (y, x), row in zip(part, used, strict=True):
                for c, (table, sure) in zip(range(start, stop), row, strict=True):
                    if sure and leave_out:
                        continue
                    index = coder.decode(table)
                    if index == escape:
                        escaped.append((c, y, x))
                    else:
                        v[c][y][x] = minimum + index
            for c, y, x in escaped:
                e = coder.exp_golomb()
                v[c][y][x] = minimum - 1 - e // 2 if e % 2 else maximum + 1 + e // 2
    return v


def is_sure(table: list[int], tables: dict[str, Any]) -> bool:
    """Tell whether a table of learned contexts is sure of the value 0."""
    zero = -tables["minimum"]
    return "sure" in tables and 0 <= zero < len(table) - 1 and table[zero] >= tables["sure"]


Places = list[tuple[int, int]]

STEPS = ((0, 0), (1, 1), (0, 1), (1, 0))  # first row and column of each


def parts_of(rows: int, columns: int, number: int, channels: int) -> Iterator[tuple[Places, int]]:
    """Yield the positions (y, x) of each part of a group of channels, and its step."""
    if number == 0:
        for t in range(columns + 2 * (rows - 1)):
            part = [(y, t - 2 * y) for y in range(rows) if 0 <= t - 2 * y < columns]
            if part:
                yield part, 0
        return
    for step, (top, left) in enumerate(STEPS):
        across = list(range(left, columns, 2))
        down = list(range(top, rows, 2))
        if across:
            most = max(1, 65536 // (len(across) * channels))
            for first in range(0, len(down), most):
                yield [(y, x) for y in down[first : first + most] for x in across], step


Context = Callable[[int, int, int, int], Callable[[int], int]]
"""From y, x, a group's number and the step to what gives the context k of a channel there."""


def neighbour_contexts(v: Symbols, tables: dict[str, Any]) -> Context:
    """Contexts by thresholds on sums of neighbours' magnitudes."""
    channels, rows, columns = len(v), len(v[0]), len(v[0][0])
    own, shared = tables["own"], tables["shared"]

    def magnitude(c: int, y: int, x: int) -> int:
        inside = 0 <= y < rows and 0 <= x < columns
        return min(abs(v[c][y][x]), 15) if inside else 0

    def context(y: int, x: int, _number: int, _step: int) -> Callable[[int], int]:
        s = sum(magnitude(d, y, x - 1) + magnitude(d, y - 1, x) for d in range(channels))
        shared_part = sum(threshold <= s for threshold in shared)

        def of_channel(c: int) -> int:
            o = 2 * magnitude(c, y, x - 1) + 2 * magnitude(c, y - 1, x)
            o += magnitude(c, y - 1, x - 1) + magnitude(c, y - 1, x + 1)
            own_part = sum(threshold <= o for threshold in own) * (len(shared) + 1)
            return own_part + shared_part

        return of_channel

    return context


F = [0, 16, 25, 32, 37, 41, 45, 48, 51, 53, 55, 57, 59, 61, 63, 64, 65, 67, 68, 69, 70, 71, 72, 73,
     74, 75, 76, 77, 78, 79, 79, 80, 81, 81, 82, 83, 83, 84, 85, 85, 86, 86, 87, 87, 88, 88, 89,
     89, 90, 90, 91, 91, 92, 92, 93, 93, 93, 94, 94, 95, 95]  # fmt: skip


def learned_contexts(v: Symbols, tables: dict[str, Any]) -> Context:
    """Contexts by thresholds on sums of a small network over all that is known.

    Symbols that are not decoded yet are still 0, as those outside are.
    """
    channels, rows, columns = len(v), len(v[0]), len(v[0][0])
    starts = [0, *tables["starts"]]

    def capped(c: int, y: int, x: int) -> int:
        inside = 0 <= y < rows and 0 <= x < columns
        return max(-15, min(15, v[c][y][x])) if inside else 0

    def context(y: int, x: int, number: int, step: int) -> Callable[[int], int]:
        magnitudes, values = [], []
        for j in range(channels):
            here, west, east = capped(j, y, x), capped(j, y, x - 1), capped(j, y, x + 1)
            north, south = capped(j, y - 1, x), capped(j, y + 1, x)
            corners = sum(abs(capped(j, y + d, x + r)) for d in (-1, 1) for r in (-1, 1))
            sides = abs(west) + abs(east) + abs(north) + abs(south)
            if j < starts[number]:
                magnitudes.append((F[abs(here)], F[sides]))
                values.append((here, west + east + north + south))
            else:
                magnitudes.append((F[sides], F[corners]))
                values.append((west + east, north + south))

        def units_of(kind: str, least: int, d: int, known: list[tuple[int, int]]) -> list[int]:
            seen = [(k, j, known[j][k]) for j in range(channels) for k in (0, 1) if known[j][k]]
            biases = tables[f"{kind}_unit_bias"][number][step]
            found = []
            for bias, unit in zip(biases, tables[f"{kind}_units"][number], strict=True):
                total = bias + sum(unit[k][j] * value for k, j, value in seen)
                found.append(max(least, min(127, (total + d // 2) // d)))
            return found

        kinds = ("magnitude", 0, 1024, magnitudes), ("sign", -127, 64, values)
        units = [units_of(*kind) for kind in kinds]

        def of_channel(c: int) -> int:
            ranks = []
            for (kind, _, _, known), of_kind in zip(kinds, units, strict=True):
                terms = zip(tables[f"{kind}_weights"][c], [*of_kind, *known[c]], strict=True)
                total = tables[f"{kind}_bias"][c] + sum(w * value for w, value in terms)
                ranks.append(bisect.bisect_right(tables[kind], total))  # how many are not above it
            return ranks[0] * (len(tables["sign"]) + 1) + ranks[1]

        return of_channel

    return context


class RangeDecoder:
    """The range decoder of the page."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.range = 2**64 - 1
        self.point = self.word() * 2**32 + self.word()

    def word(self) -> int:
        four = (self.payload[:4] + bytes(4))[:4]
        self.payload = self.payload[4:]
        return int.from_bytes(four, "big")

    def decode(self, table: list[int]) -> int:
        scale = self.range // 2**24
        quantile = self.point // scale
        if quantile >= 2**24:
            raise Refused("Corrupt")
        i, left = 0, 0
        while quantile >= left + table[i]:
            left, i = left + table[i], i + 1
        self.point -= scale * left
        self.range = scale * table[i]
        if self.range < 2**32:
            self.point = self.point * 2**32 + self.word()
            self.range *= 2**32
        return i

    def exp_golomb(self) -> int:
        n = 0
        while self.decode([2**23, 2**23]) == 0:
            n += 1
            if n > 24:
                raise Refused("Corrupt")
        plus_one = 1
        for _ in range(n):
            plus_one = 2 * plus_one + self.decode([2**23, 2**23])
        return plus_one - 1


def interpolated(u: list[int], n: int) -> list[int]:
    """Return m values as n, n >= m, as a row or a column of a picture is brought to its size."""
    m = len(u)
    if m == n:
        return u
    row = []
    for i in range(n):
        j, r = divmod((2 * i + 1) * m - n, 2 * n)
        left, right = u[max(j, 0)], u[min(j + 1, m - 1)]
        row.append((2 * ((2 * n - r) * left + r * right) + 2 * n) // (4 * n))
    return row


def enlarged(plane: list[list[int]], width: int, height: int) -> list[list[int]]:
    """Return a channel [rows][columns] of the coded size in the picture's own."""
    rows = [interpolated(row, width) for row in plane]
    columns = [interpolated(list(column), height) for column in zip(*rows, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


if __name__ == "__main__":
    frame_path, model_path = map(Path, sys.argv[1:])
    print(json.dumps(decode(frame_path.read_bytes(), json.loads(model_path.read_text()))))
