"""Measure coders on pictures: what a task network makes of what comes back.

picture ─ on the shelf? ─ else code, decode ─▶ bytes, PSNR, MS-SSIM, facts ─▶ shelf
facts of all pictures ─▶ Point… ─▶ Curve of a coder … ─▶ Report
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tactic_codec import metrics
from tactic_codec.codec import Codec
from tactic_codec.evaluation.cache import Cache
from tactic_codec.evaluation.coders import Coder, Identity, Uncompressed, answers_identity
from tactic_codec.evaluation.keeper import Keeper
from tactic_codec.evaluation.pictures import Folder, Picture
from tactic_codec.evaluation.results import Curve, FolderResult, Point, Report, comparisons
from tactic_codec.rivals import Setting
from tactic_codec.tasks import CLASSIFY, Facts, Question

if TYPE_CHECKING:
    from tactic_codec.evaluation.retrain import Retrainer

T = TypeVar("T")

MAX_BPP = 1.2
"""Above it a codec's own grid of qualities is left: the next point would not matter to anybody."""


@dataclass(frozen=True)
class Evaluation:
    """Who answers, what is known already, how the work is done, and what is said of it.

    Attributes:
        reference: its task network answers.
        cache: of earlier measurements.
        task: what is asked.
        device: that the reference's runtime was opened for.
        jobs: pictures to work on at once.
        advance: is told how much of `work_of` was done.
        keeper: keeps what coders give back.
        heads: trains heads for every point, where that is wanted.
        compare: whether to compute BD-rates.
        within: the shares over which BD-rates are taken.
        size: side of squares, in pixels, where the task is asked about such.
        held_out: whether only pictures were taken that training had kept out.
        limit: most pictures of a folder; None for all.
        scales: at which pictures are coded, at least one; 1 for their own size.
        notes: what was left out, and why.
    """

    reference: Codec
    cache: Cache
    task: Question[Any, Any] = CLASSIFY
    device: str = "auto"
    jobs: int = 1
    advance: Callable[[int], None] = lambda work: None
    keeper: Keeper | None = None
    heads: "Retrainer | None" = None
    compare: bool = True
    within: tuple[float, float] = (0.0, 1.0)
    size: int | None = None
    held_out: bool = False
    limit: int | None = None
    scales: tuple[float, ...] = (1,)
    notes: tuple[str, ...] = ()

    def run(self, folders: Sequence[Folder], coders: Sequence[Coder]) -> Report:
        """Measure every coder at each of its settings on every folder, at least one.

        Raises:
            TacError: a coder cannot code a picture; a curve without it would be another curve.
            UnknownTask: the reference has no network for the task.
            OSError: the cache cannot be read or written.
        """
        model = self.reference.model
        return Report(
            task=self.task,
            size=None if self.task.whole else self.size,
            reference=(model.name, model.fingerprint.hex()),
            witness=self.task.witness(self.reference),
            held_out=self.held_out,
            limit=self.limit,
            within=self.within,
            retrained_steps=self.heads.steps if self.heads else None,
            notes=self.notes,
            folders=tuple(self.on_folder(folder, coders) for folder in folders),
        )

    def work_of(self, folders: Sequence[Folder], coders: Sequence[Coder]) -> int:
        """Return the most work there may be: pictures to measure and steps of heads."""
        settings = 1 + len(self.scales) * sum(len(coder.grid) for coder in coders)
        return settings * sum(self._work_at(folder) for folder in folders)

    def _work_at(self, folder: Folder) -> int:
        return len(folder.pictures) + (self.heads.steps if self.heads else 0)

    def on_folder(self, folder: Folder, coders: Sequence[Coder]) -> FolderResult:
        """Measure coders on one folder; errors as `run`."""
        before = self._measured(folder, Uncompressed(), 0)
        uncompressed = self._point(folder, Uncompressed(), 0, before, before)
        curves = tuple(self._curve(folder, coder, before) for coder in coders)
        compared = tuple(comparisons(curves, self.within)) if self.compare else ()
        images = len(folder.pictures)
        return FolderResult(folder.name, images, folder.labelled, uncompressed, curves, compared)

    def _curve(self, folder: Folder, coder: Coder, before: Sequence[Facts]) -> Curve:
        """Measure a coder at its settings, until its files are larger than anybody asked for."""
        points = []
        for shrunk in map(coder.at_scale, self.scales):
            for number, setting in enumerate(coder.grid, start=1):
                found = self._measured(folder, shrunk, setting)
                points.append(self._point(folder, shrunk, setting, found, before))
                if coder.open_ended and points[-1].bpp > MAX_BPP:
                    self.advance((len(coder.grid) - number) * self._work_at(folder))
                    break
        points.sort(key=lambda point: point.bpp)
        return Curve(coder.name, coder.kind, coder.describe(), tuple(points))

    def _point(
        self,
        folder: Folder,
        coder: Coder,
        setting: Setting,
        found: Sequence[Facts],
        before: Sequence[Facts],
    ) -> Point:
        """Put measurements together, and train a head where that is wanted."""
        pictures = folder.pictures
        bits = [8 * f["bytes"] / (p.pixels.size // 3) for f, p in zip(found, pictures, strict=True)]
        size, psnr, ms_ssim = (
            float(np.mean([facts[name] for facts in found]))
            for name in ("bytes", "psnr", "ms_ssim")
        )
        scores = self.task.scores(found, before, [picture.truth for picture in pictures])
        bpp = float(np.mean(bits))
        costs = [bits, [facts["psnr"] for facts in found]]
        drawn = costs @ metrics.resamples(len(found)).T / len(found)
        point = Point(
            *(setting, len(found), size, bpp, psnr, ms_ssim, scores),
            scale=coder.scale,
            drawn=drawn,
        )
        if self.heads:
            point = replace(point, retrained=self.heads.scores(folder, coder, setting, before))
            self.advance(self.heads.steps)
        return point

    def _measured(self, folder: Folder, coder: Coder, setting: Setting) -> list[Facts]:
        """Return the facts of all pictures, from the cache where it has them."""
        shelf = self.cache.shelf({"coder": coder.identity(setting), "reference": self._answers})
        keeper = self.keeper
        missing = [
            picture
            for picture in folder.pictures
            if picture.hash not in shelf or (keeper and keeper.lacks(coder, setting, picture))
        ]
        self.advance(len(folder.pictures) - len(missing))

        def measure(picture: Picture) -> Facts:
            coded = coder.code(picture.pixels, setting)
            if keeper:
                keeper.keep(coder, setting, picture, coded.decoded)
            answer = self.task.ask(self.reference, coded.decoded)
            return {
                "bytes": coded.bytes,
                "psnr": metrics.finite_psnr(picture.pixels, coded.decoded),
                "ms_ssim": metrics.ms_ssim(picture.pixels, coded.decoded),
                **self.task.facts(picture.truth, answer, lambda: self._before(picture)),
            }

        for picture, facts in zip(missing, self.each(measure, missing), strict=True):
            shelf.put(picture.hash, facts)
            self.advance(1)
        return [shelf[picture.hash] for picture in folder.pictures]

    def each(self, function: Callable[[Picture], T], pictures: Sequence[Picture]) -> Iterator[T]:
        """Call a function with each picture, in threads, and yield what it returns in order."""
        executor = ThreadPoolExecutor(self.jobs, thread_name_prefix="tactic")
        try:
            yield from (map if self.jobs == 1 else executor.map)(function, pictures)
        finally:
            executor.shutdown(cancel_futures=True)

    @cached_property
    def _answers(self) -> Identity:
        return answers_identity(self.task, self.reference, self.device)

    @cached_property
    def _known(self) -> dict[str, Any]:
        """What the reference says of the pictures themselves, by their content."""
        return {}

    def _before(self, picture: Picture) -> Any:
        if picture.content not in self._known:
            self._known[picture.content] = self.task.ask(self.reference, picture.pixels)
        return self._known[picture.content]
