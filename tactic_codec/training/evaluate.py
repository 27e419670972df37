"""Evaluation on real bitstreams: every figure comes from frames whose payload was decoded.

test images ─ compress ─▶ frame ─ decode ─▶ PSNR, task network ─▶ the task's figures
                                         └▶ teachers ─▶ share of their outputs that is kept
"""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from tactic_codec import entropy, metrics
from tactic_codec import picture as image
from tactic_codec.codec import Codec
from tactic_codec.tasks import Facts, Scores
from tactic_codec.training.data import Example
from tactic_codec.training.tasks import CLASSES, TrainingTask
from tactic_codec.training.teacher import Teachers

KEPT = "outputs_kept"


@dataclass(frozen=True)
class Figures:
    """Means over a set of images.

    Attributes:
        images: how many.
        bytes: of a file.
        bpp: bits of a file over the pixels of its image.
        payload_bpp: likewise of the payload alone.
        ideal_bpp: what the tables say that the symbols cost.
        psnr: dB, the mean of the images' own; 100 for one that came back exactly.
        seen: what the task network makes of the images, see `Task.figures`; where there are
            teachers, `KEPT` is the mean of 1 − distance, see `Teacher.distance`.
    """

    images: int
    bytes: float
    bpp: float
    payload_bpp: float
    ideal_bpp: float
    psnr: float
    _: KW_ONLY
    seen: Facts

    def as_json(self) -> Facts:
        """Return the figures with as many digits as their precision deserves."""
        figures = {k: v for k, v in vars(self).items() if k != "seen"} | self.seen
        return {k: _rounded(v) for k, v in figures.items()}

    def told(self, headline: Mapping[str, str]) -> str:
        """Return the figures for people: rate, PSNR, and shares with their titles."""
        said = f"{self.bpp:.4f} bpp, {self.psnr:.2f} dB"
        told = {**headline, KEPT: "outputs kept"}
        known = {title: self.seen.get(name) for name, title in told.items()}
        shares = {title: share for title, share in known.items() if share is not None}
        return said + "".join(f", {title} {100 * share:.1f} %" for title, share in shares.items())


def evaluate(
    codec: Codec,
    examples: Sequence[Example],
    size: int,
    training: TrainingTask[Any, Any] = CLASSES,
    teachers: Teachers | None = None,
) -> list[Figures]:
    """Code images, ask about what comes back, and compare with their truths.

    Args:
        codec: a model folder with its runtime; its task network is asked where it has one.
        examples: at least one; truths are in the order of the network's classes.
        size: side of the square that each is scaled and cut to before coding, in pixels, where the
            task is not asked about whole pictures.
        training: the task.
        teachers: networks that are asked, too, how differently they see what comes back.

    Returns:
        The figures of each level of the model, level 1 first.

    Raises:
        TacError: an image or its truth cannot be read, or an image not coded.
        ValueError: there is nothing that could be scored.
    """
    task = training.task
    asked = task.name in codec.model.heads
    costs: list[list[tuple[float, ...]]] = [[] for _ in codec.model.levels]
    after: list[list[Facts]] = [[] for _ in codec.model.levels]
    before: list[Facts] = []
    truths: list[Any] = []
    kept: list[list[float]] = [[] for _ in codec.model.levels]
    for example in examples:
        pixels = example.pixels()
        truth = training.truth(example.kept, pixels) if asked else None
        pixels = pixels if task.whole else image.square(pixels, size)
        if asked:
            truths.append(truth)
            before.append(task.facts(truth, task.ask(codec, pixels)))
        for level in range(1, len(costs) + 1):
            frame = codec.compress(pixels, level).frame
            symbols = codec.model.decode_symbols(frame)
            decoded = codec.synthesise(symbols, frame)
            bits = (
                8 * frame.size,
                8 * len(frame.payload),
                entropy.ideal_bits(symbols, codec.model.tables(level)),
            )
            psnr = metrics.finite_psnr(pixels, decoded)
            costs[level - 1].append((frame.size, *(b / frame.pixels for b in bits), psnr))
            if teachers:
                kept[level - 1].append(1 - teachers.mean_distance(decoded, pixels))
            if asked:
                after[level - 1].append(task.facts(truth, task.ask(codec, decoded)))

    def scores(found: Sequence[Facts]) -> Scores | None:
        return task.scores(found, before, truths) if asked else None

    means = [[float(mean) for mean in np.mean(found, axis=0)] for found in costs]
    seen = [task.figures(scores(facts), scores(before)) for facts in after]
    if teachers:
        seen = [dict(s) | {KEPT: float(np.mean(k))} for s, k in zip(seen, kept, strict=True)]
    return [
        Figures(len(examples), *mean, seen=said) for mean, said in zip(means, seen, strict=True)
    ]


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_rounded(v) for v in value]
    return round(value, 4) if isinstance(value, float) else value
