"""What every evaluation does: code pictures, unless the cache knows already what came of them.

pictures ─ those not on the shelf ─ code, measure ─▶ shelf ─▶ facts of all
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from tactic_codec.codec import Codec
from tactic_codec.evaluation.cache import Cache
from tactic_codec.evaluation.coders import Coded, Coder, Identity
from tactic_codec.evaluation.keeper import Keeper
from tactic_codec.evaluation.pictures import Folder, Picture
from tactic_codec.rivals import Setting
from tactic_codec.tasks import CLASSIFY, Facts, Question, Scores

MAX_BPP = 1.2
"""Above it a codec's own grid of qualities is left: the next point would not matter to anybody."""

Advance = Callable[[int], None]


class Heads(Protocol):
    """Trains task networks, see `tactic_codec.evaluation.retrain`."""

    @property
    def steps(self) -> int:
        """Steps for each point."""

    def scores(
        self, folder: Folder, coder: Coder, setting: Setting, before: Sequence[Facts]
    ) -> Scores:
        """Train a head on what a coder gives back, and ask it about a folder's pictures."""


def work_at(folder: Folder, heads: Heads | None) -> int:
    """Return the work of one coder at one setting: pictures to measure, steps of a head."""
    return len(folder.pictures) + (heads.steps if heads else 0)


def work_of(folders: Sequence[Folder], coders: Sequence[Coder], heads: Heads | None = None) -> int:
    """Return the most work that an evaluation may do: pictures to measure and steps of heads."""
    settings = 1 + sum(len(coder.grid) for coder in coders)
    return settings * sum(work_at(folder, heads) for folder in folders)


@dataclass(frozen=True)
class Bench:
    """Who answers, what is known already, and how the work is done: whatever is evaluated.

    Attributes:
        reference: its task network answers.
        cache: of earlier measurements.
        device: that the reference's runtime was opened for.
        jobs: pictures to work on at once.
        advance: is told how much of `work_at` was done.
        keeper: keeps what coders give back.
        task: what is asked.
    """

    reference: Codec
    cache: Cache
    device: str = "auto"
    jobs: int = 1
    advance: Advance = lambda work: None
    keeper: Keeper | None = None
    task: Question[Any, Any] = CLASSIFY

    def facts(
        self,
        pictures: Sequence[Picture],
        coder: Coder,
        setting: Setting,
        answers: Identity,
        measure: Callable[[Picture, Coded], Facts],
    ) -> list[Facts]:
        """Return the facts of all pictures, from the cache where it has them.

        Args:
            pictures: what is coded.
            coder: by this,
            setting: at this setting.
            answers: what facts depend on beside coder and picture: who answers what.
            measure: compares a picture with what came back of it.

        Raises:
            TacError: the coder cannot code a picture.
            OSError: the cache cannot be read or written.
        """
        shelf = self.cache.shelf({"coder": coder.identity(setting), **answers})
        keeper = self.keeper
        missing = [
            picture
            for picture in pictures
            if picture.hash not in shelf or (keeper and keeper.lacks(coder, setting, picture))
        ]

        def attempt(picture: Picture) -> Facts:
            coded = coder.code(picture.pixels, setting)
            if keeper:
                keeper.keep(coder, setting, picture, coded.decoded)
            return measure(picture, coded)

        self.advance(len(pictures) - len(missing))
        with _mapped(attempt, missing, self.jobs) as results:
            for picture, facts in zip(missing, results, strict=True):
                shelf.put(picture.hash, facts)
                self.advance(1)
        return [shelf[picture.hash] for picture in pictures]


@contextmanager
def _mapped(
    function: Callable[[Picture], Facts], pictures: Sequence[Picture], jobs: int
) -> Iterator[Iterator[Facts]]:
    """Call a function with every picture, in threads where several jobs are wanted, in order."""
    if jobs == 1:
        yield map(function, pictures)
        return
    executor = ThreadPoolExecutor(jobs, thread_name_prefix="tactic")
    try:
        yield executor.map(function, pictures)
    finally:
        executor.shutdown(cancel_futures=True)
