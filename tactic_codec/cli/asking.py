"""What the commands share that ask a task network about frames.

IN… ─ frames ─ decode ─ ask ─▶ answer ─┬─ draw ─▶ OUT
                                       └─ JSON, or lines for people
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from tactic_codec.cli import decoding, files, options
from tactic_codec.cli.console import Console
from tactic_codec.cli.decoding import FrameItem
from tactic_codec.cli.files import NOWHERE, Destination, Source

if TYPE_CHECKING:
    from tactic_codec.codec import Codec
    from tactic_codec.container import Frame
    from tactic_codec.picture import Pixels
    from tactic_codec.tasks import Task

A = TypeVar("A")


class Answered(NamedTuple):
    """A frame that was answered for.

    Attributes:
        item: the frame.
        facts: of the answer, for --json.
        told: what was found, and its probability or share.
        milliseconds: that it took.
    """

    item: FrameItem
    facts: dict[str, Any]
    told: list[tuple[str, float]]
    milliseconds: float


def each(
    console: Console,
    task: "Task[Any, A]",
    sources: Sequence[Source],
    codec_of: "Callable[[Frame], Codec]",
    running: options.Running,
    *,
    ask: "Callable[[Codec, Pixels], A]",
    destination: Destination = NOWHERE,
    suffix: str = "",
    draw: "Callable[[A, Pixels], bytes] | None" = None,
) -> Iterator[Answered]:
    """Decode the frames of all inputs, ask about each, and put drawings in their places.

    Args:
        ask: a model about a decoded picture.
        destination: of drawings.
        suffix: of drawings in a folder.
        draw: makes the file of an answer and its picture; None where there is none to make.
    """
    from tactic_codec.picture import enlarged

    def answer(item: FrameItem) -> tuple[bytes, dict[str, Any], list[tuple[str, float]]]:
        codec = codec_of(item.frame)
        frame = item.frame
        pixels = codec.look(frame, task.name)
        found = task.in_picture(ask(codec, pixels), frame)
        facts: dict[str, Any] = {"file": item.source.path, "frame": item.number}
        data = b""
        if draw:
            facts["output"] = item.out
            if pixels.shape[:2] != (frame.coded_height, frame.coded_width):
                pixels = codec.decode(frame, coded_size=True)
            drawing = draw(found, enlarged(pixels, frame.width, frame.height))
            data = destination.write(item.out, drawing, item.like)
        facts |= {"model": codec.model.name, **task.as_json(found)}
        return data, facts, task.told(found)

    items = decoding.frames(sources, destination, suffix, max_pixels=running.max_pixels)
    total = files.total_bytes(sources)
    prepare = running.forks(lambda item: codec_of(item.frame))
    work = console.each(answer, items, jobs=running.jobs, total=total, prepare=prepare)
    for item, result, seconds in work:
        data, facts, told = result
        if data:
            console.data(data)
        yield Answered(item, facts, told, 1000 * seconds)
