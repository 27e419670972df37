"""What a task is: see the package's text."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tactic_codec import metrics
from tactic_codec.codec import Codec, whole_input
from tactic_codec.container import Frame
from tactic_codec.model import Model
from tactic_codec.picture import Pixels

Truth = TypeVar("Truth")
"""What is known of a picture: its class, the class of each of its pixels."""

Answer = TypeVar("Answer")
"""What the network says of a picture."""

Facts = dict[str, Any]
"""What is kept of an answer to score it by: numbers or lists of them, by name, as in JSON."""


class _Interval(NamedTuple):
    share: float
    low: float
    high: float


class Share(_Interval):
    """A share, 0 to 1, with the ends of its 95 % interval.

    Attributes:
        drawn: returns the share in draws of the pictures, [1 + draws], see `metrics.resamples`;
            None where it is compared with no other.
    """

    drawn: Callable[[], NDArray[np.float64]] | None = None

    @classmethod
    def of(cls, drawn: NDArray[np.float64]) -> "Share":
        """Return a share and its interval by its draws."""
        share = cls(*metrics.with_interval(drawn))
        share.drawn = lambda: drawn
        return share


Score = Share | float | tuple[float | None, ...] | None
"""A share with or without its interval, or one of each class; None where the truth is not known."""

Scores = Mapping[str, Score]
"""By name, as in results.json; the first is a `Share`, and what curves show over the rate."""

Told = list[tuple[str, float]]
"""What was found, for people: a name, and its probability or its share of the picture."""


class Verdict(NamedTuple):
    """What a network says of a coded picture, beside what was expected; for ``bpp-report``.

    Attributes:
        facts: of a row, in JSON and CSV.
        cells: of a row of the table, by the names of the columns.
        counted: what `Task.summary` adds up.
        score: how good the answer is, 0 to 1; None where nothing can be said.
    """

    facts: Facts
    cells: dict[str, str]
    counted: Any
    score: float | None = None


class Summary(NamedTuple):
    """What several verdicts come to.

    Attributes:
        name: of its facts among the totals.
        facts: in JSON.
        notes: lines below the table.
        means: cells of CSV's line of means.
        sums: cells of CSV's line of sums.
        mean_cells: of the table's row of means.
        sum_cells: of the table's row of sums.
        headline: what is plotted over the rate: a title, and a share with its interval.
    """

    name: str
    facts: Facts
    notes: list[str]
    means: Mapping[str, Any] = {}
    sums: Mapping[str, Any] = {}
    mean_cells: Mapping[str, str] = {}
    sum_cells: Mapping[str, str] = {}
    headline: tuple[str, Share] | None = None


class Witness(NamedTuple):
    """Who answers a question.

    Attributes:
        title: for people.
        network: its kind.
        labels: of its classes, if it has some.
        classes: the same as the folders of its training named them.
        identity: all that decides about its answers, as JSON.
    """

    title: str
    network: str
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    identity: Facts


class Question(ABC, Generic[Truth, Answer]):
    """What decoded pictures are asked in an evaluation; threads may share its instances.

    Attributes:
        name: of the task, its command and its network in model folders: ``classify``.
        pictures: the folder below a folder of pictures that holds them; "" for the whole of it.
        whole: whether pictures are coded whole; otherwise as squares.
        titles: of the scores that have one figure, in the order of the tables' columns.
        each_class: name and title of the score that has a figure for each class, if there is one.
    """

    name: ClassVar[str]
    pictures: ClassVar[str]
    whole: ClassVar[bool]
    titles: ClassVar[Mapping[str, str]]
    each_class: ClassVar[tuple[str, str] | None] = None

    # --- The network ---

    def witness(self, codec: Codec) -> Witness:
        """Return who answers: a network of the model as it is run, if nothing else is said.

        Raises:
            UnknownTask: it has none for this task.
        """
        model = codec.model
        head = model.head(self.name)
        file = codec.runtime.eight_bits.get(self.name, head.file)
        identity = {
            "head": model.manifest["files"][file]["sha256"],
            "input_size": head.input_size,
        }
        title = f"{head.network} of {model.name} ({model.fingerprint.hex()})"
        return Witness(title, head.network, head.labels, head.classes, identity)

    @abstractmethod
    def ask(self, codec: Codec, pixels: Pixels) -> Answer:
        """Ask a model's network about a picture, uint8 [H, W, 3].

        Raises:
            UnknownTask: the model has none for this task.
            DamagedModel: what it says is not what the manifest says of it.
        """

    # --- Ground truth ---

    @abstractmethod
    def reader(self, folder: Path, classes: Sequence[str]) -> Callable[[str, Pixels], Truth | None]:
        """Return what reads the truth of a folder's pictures.

        Args:
            folder: laid out as `layout` says.
            classes: of the network, in the order of its answers, as its training named them.

        Returns:
            From a picture's path below the folder, with "/", and its pixels to its truth; None
            where nobody knows it. It raises TacError or OSError for a truth that cannot be used.
        """

    def key(self, truth: Truth | None) -> bytes:
        """Return what of a truth `facts` depend on, for the cache; nothing by default."""
        return b""

    def complaint(self, truths: Sequence[Truth | None], labels: Sequence[str]) -> str | None:
        """Return why truths are of no use to a network of some classes, if they are of none."""
        return None

    # --- Scores ---

    @abstractmethod
    def facts(
        self, truth: Truth | None, answer: Answer, before: Callable[[], Answer] | None = None
    ) -> Facts:
        """Return what scores are computed of.

        Args:
            truth: of the picture.
            answer: for the decoded picture.
            before: asks about the picture itself; None where agreement with that does not count.
        """

    @abstractmethod
    def scores(
        self, found: Sequence[Facts], before: Sequence[Facts], truths: Sequence[Truth | None]
    ) -> Scores:
        """Return how well pictures were answered for.

        Args:
            found: of the decoded pictures, at least one.
            before: of the pictures themselves.
            truths: of each.

        Raises:
            ValueError: there is nothing that could be scored.
        """

    @abstractmethod
    def footnote(self, network: str, size: int | None) -> str:
        """Return what the scores' columns mean, and bpp.

        Args:
            network: which network answered, for people.
            size: side of the squares that were coded, in pixels; None for whole pictures.
        """


class Task(Question[Truth, Answer]):
    """A task; its instances hold nothing.

    Attributes:
        network: what the network is called in messages: ``classifier``.
        truth: what a folder holds beside its pictures, in messages: ``label maps``.
        layout: where pictures and truth lie in such a folder, in messages.
        headline: the manifest's figures that training prints, with their titles.
        figured: names of those figures: of scores, of their intervals, of the uncompressed ones.
    """

    network: ClassVar[str]
    truth: ClassVar[str]
    layout: ClassVar[str]
    headline: ClassVar[Mapping[str, str]]
    figured: ClassVar[tuple[str, ...]]

    def prepare(self, pixels: Pixels, input_size: int) -> NDArray[np.float32]:
        """Make of a picture uint8 [H, W, 3] what the network reads, [1, 3, h, w], 0 to 1.

        By default all of it, see `whole_input`.
        """
        return whole_input(pixels, input_size)

    def in_picture(self, answer: Answer, frame: Frame) -> Answer:
        """Bring an answer about what was coded to the coordinates of the picture itself.

        Args:
            answer: about `Codec.decode` with ``coded_size``.
            frame: `Frame.scale` has what x and y are multiplied by, ``width`` and ``height`` the
                picture's size.

        Returns:
            The answer itself, where it has no place in the picture.
        """
        return answer

    @abstractmethod
    def alike(self, before: Answer, after: Answer) -> float:
        """Return how far two answers about a picture agree, 0 to 1, for `Point.agreement`."""

    def ask_frame(self, codec: Codec, frame: Frame) -> Answer:
        """Decode a frame and ask about it, see `Codec.look` and `in_picture`."""
        return self.in_picture(self.ask(codec, codec.look(frame, self.name)), frame)

    # --- Answers for people and programs ---

    @abstractmethod
    def as_json(self, answer: Answer) -> Facts:
        """Return what the task's command prints with --json."""

    @abstractmethod
    def told(self, answer: Answer) -> Told:
        """Return what was found, the most telling first."""

    def certain(self, answer: Answer) -> Answer:
        """Return what of an answer is worth telling people: all of it by default."""
        return answer

    def drawn(self, answer: Answer, pixels: Pixels) -> Pixels:
        """Draw an answer into a copy of its picture, uint8 [H, W, 3] of any size, if it can be."""
        return pixels

    def claims(self, folder: Path) -> bool:
        """Tell whether a folder holds this task's truth; pictures alone are for classifiers."""
        return False

    def figures(self, scores: Scores | None, uncompressed: Scores | None) -> Facts:
        """Return what a model's manifest says of scores; None for both without a network."""
        figures: Facts = {}
        for name in self.figured:
            known = uncompressed if name.startswith("uncompressed_") else scores
            score = name.removeprefix("uncompressed_").removesuffix("_interval")
            found = known[score] if known else None
            if isinstance(found, Share):
                figures[name] = found[1:] if name.endswith("_interval") else found.share
            else:
                figures[name] = found
        return figures

    # --- Reports of coded files ---

    def expected(self, model: Model, given: Any) -> Any:
        """Return what is expected of a file by what was given with it; None for nothing."""
        return given

    @abstractmethod
    def verdict(self, answer: Answer, expected: Any) -> Verdict:
        """Compare what a network says of a frame with what is expected of it.

        Raises:
            ImageError: what is expected belongs to another picture.
        """

    @abstractmethod
    def summary(self, verdicts: Sequence[Verdict]) -> Summary | None:
        """Add up verdicts, at least one; None where they are of different classes."""
