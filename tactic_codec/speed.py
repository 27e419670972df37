"""How long coding takes on this machine, beside the codecs that people use instead.

    picture ─ every step in turns, networks loaded ─▶ medians

Steps take turns, so that whatever else the machine does meets all of them alike. Other codecs write
at one quality, and else as Pillow does unasked: at their best they take several times as long.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from tactic_codec.codec import Codec, Compressed
from tactic_codec.errors import BackendUnavailable
from tactic_codec.picture import Pixels
from tactic_codec.rivals import USUAL, rival
from tactic_codec.tasks import TASKS

QUALITY = 75
"""Of other codecs' files, as Pillow counts it, from 0 to 100."""


class Timing(NamedTuple):
    """A step and how long it took.

    Attributes:
        coder: the model's name, or another codec's.
        step: ``compress`` and ``decompress``, from and to pixels in memory; tasks, by their
            names, are of a file's bytes, and so decode them, too.
        bytes: of the file.
        milliseconds: median of all times.
        slowest: the longest of them, in milliseconds.
    """

    coder: str
    step: str
    bytes: int
    milliseconds: float
    slowest: float


class _Step(NamedTuple):
    coder: str
    name: str
    bytes: int
    run: Callable[[], object]


def measure(
    codec: Codec, pixels: Pixels, level: int, *, effort: int = 0, repeats: int = 10
) -> list[Timing]:
    """Time a model's steps and other codecs' on one picture.

    Args:
        codec: the model with its runtime.
        pixels: uint8 [H, W, 3].
        level: quality level.
        effort: see `Codec.compress`.
        repeats: of every step, beside one that is not counted, in which networks are loaded.

    Raises:
        UnknownLevel: the model has no such level.
        BackendUnavailable: effort above 0 needs torch, which is not installed.
    """
    steps = [*_of_model(codec, pixels, level, effort), *_of_others(pixels)]
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(repeats + 1):
        for step, found in zip(steps, times, strict=True):
            began = time.perf_counter()
            step.run()
            found.append(1000 * (time.perf_counter() - began))
    return [
        Timing(step.coder, step.name, step.bytes, statistics.median(found[1:]), max(found[1:]))
        for step, found in zip(steps, times, strict=True)
    ]


def _of_model(codec: Codec, pixels: Pixels, level: int, effort: int) -> Iterator[_Step]:
    def compress() -> Compressed:
        return codec.compress(pixels, level, effort=effort)

    frame = compress().frame
    name = codec.model.name
    yield _Step(name, "compress", frame.size, lambda: compress().data)
    yield _Step(name, "decompress", frame.size, lambda: codec.decode(frame))
    for task in TASKS.values():
        if task.name in codec.model.heads:
            yield _Step(name, task.name, frame.size, partial(task.ask_frame, codec, frame))


def _of_others(pixels: Pixels) -> Iterator[_Step]:
    for name in USUAL:
        try:
            other = rival(name).unasked()
        except BackendUnavailable:
            continue
        data = other.encode(pixels, QUALITY)
        size = len(data)
        yield _Step(name, "compress", size, partial(other.encode, pixels, QUALITY))
        yield _Step(name, "decompress", size, partial(other.decode, data))
