"""Which class a picture shows.

frame ─ codec ─▶ pixels ─ square of the network's size ─ task network ─▶ predictions

A picture's truth is the folder that it lies in.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tactic_codec import picture
from tactic_codec.codec import Codec, Coded, opened
from tactic_codec.errors import whole_number
from tactic_codec.metrics import resamples, wilson_interval
from tactic_codec.model import Model
from tactic_codec.picture import Pixels
from tactic_codec.tasks.protocol import Facts, Scores, Share, Summary, Task, Told, Verdict


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class that a picture may show.

    Attributes:
        index: of the class in the network's logits.
        label: the class's name.
        probability: by the network's softmax, 0 to 1.
    """

    index: int
    label: str
    probability: float


def classify_pixels(codec: Codec, pixels: Pixels, top_k: int | None = 5) -> list[Prediction]:
    """Classify a picture, uint8 [H, W, 3], with the model's task network; most likely first.

    Raises:
        UnknownTask: the model has no classifier.
        DamagedModel: its network does not have a finite logit for each label.
        ValueError: ``top_k`` is below 1.
    """
    if top_k is not None:
        top_k = whole_number("top_k", top_k, 1)
    labels = codec.model.head(CLASSIFY.name).labels
    logits = codec.class_logits(pixels)
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    best = np.argsort(-probabilities, kind="stable")[:top_k]
    return [Prediction(int(i), labels[i], float(probabilities[i])) for i in best]


def classify(
    data: Coded,
    top_k: int = 5,
    *,
    codec: Codec | None = None,
    device: str = "auto",
    max_pixels: int | None = None,
) -> list[Prediction]:
    """Classify a coded picture; most likely class first.

    Args:
        data: one frame, in any form that `Codec.decompress` takes.
        top_k: how many classes to return, at most as many as there are.
        codec: decodes and classifies; by default the installed model that the frame names.
        device: where ``codec`` is not given.
        max_pixels: the largest picture that is read, see `Codec.decompress`.

    Raises:
        FormatError: the bytes are not one frame.
        LimitExceeded: the picture is too large.
        UnknownModel: the model is not installed, or ``codec`` is of another.
        UnknownTask: the model has no classifier.
        TypeError: ``data`` is no frame, or ``top_k`` no whole number.
        ValueError: ``top_k`` is below 1.
    """
    frame, codec = opened(data, codec, device, max_pixels)
    return classify_pixels(codec, codec.look(frame, "classify"), top_k)


class Classify(Task[int, list[Prediction]]):
    """See `Task`; the truth is the class's index, the answer has the most likely class first."""

    name = "classify"
    network = "classifier"
    truth = "class folders"
    layout = "CLASS/NAME.jpg"
    pictures = ""
    whole = False
    titles: ClassVar[Mapping[str, str]] = {"agreement": "agreement", "accuracy": "top-1"}
    headline: ClassVar[Mapping[str, str]] = {"accuracy": "accuracy", "agreement": "agreement"}
    figured = ("accuracy", "accuracy_interval", "uncompressed_accuracy", "agreement")

    def prepare(self, pixels: Pixels, input_size: int) -> NDArray[np.float32]:
        """Scale the square in the middle, see `Task`."""
        return picture.network_input(picture.square(pixels, input_size))

    def ask(self, codec: Codec, pixels: Pixels) -> list[Prediction]:
        """Return all classes, see `classify_pixels`."""
        return classify_pixels(codec, pixels, None)

    def alike(self, before: list[Prediction], after: list[Prediction]) -> float:
        """Return what both say of a class, summed up, see `Task`.

        Of a few pictures that tells more than how often their first answers are the same.
        """
        probable = {guess.index: guess.probability for guess in before}
        return sum(min(guess.probability, probable[guess.index]) for guess in after)

    def as_json(self, answer: list[Prediction]) -> Facts:
        """Return each prediction, see `Task`."""
        return {
            "predictions": [
                {"index": p.index, "label": p.label, "probability": round(p.probability, 6)}
                for p in answer
            ]
        }

    def told(self, answer: list[Prediction]) -> Told:
        """Return label, index and probability, see `Task`."""
        return [(f"{p.label} ({p.index})", p.probability) for p in answer]

    def reader(self, folder: Path, classes: Sequence[str]) -> Callable[[str, Pixels], int | None]:
        """Take the first folder of a picture's path for its class, see `Task`."""
        known = {name: index for index, name in enumerate(classes)}

        def read(name: str, pixels: Pixels) -> int | None:
            parts = PurePath(name).parts
            return known.get(parts[0]) if len(parts) > 1 else None

        return read

    def facts(
        self,
        truth: int | None,
        answer: list[Prediction],
        before: Callable[[], list[Prediction]] | None = None,
    ) -> Facts:
        """Keep the most likely class, see `Task`."""
        return {"answer": answer[0].index}

    def scores(
        self, found: Sequence[Facts], before: Sequence[Facts], truths: Sequence[int | None]
    ) -> Scores:
        """Return agreement with the uncompressed pictures, and accuracy if all have a class."""
        answers = [int(facts["answer"]) for facts in found]
        return {
            "agreement": share(answers, (int(facts["answer"]) for facts in before)),
            "accuracy": None if None in truths else share(answers, truths),
        }

    def expected(self, model: Model, given: str) -> tuple[str, frozenset[int]] | None:
        """Return a folder's name and the classes that it stands for; None if it is no class.

        A class is meant by the name of its folder in training or by its label, in either case of
        letters and with "_" for a space. Labels may occur twice; either class counts then.
        """
        head = model.heads.get(self.name)
        indices = frozenset(
            index
            for names in ((head.classes, head.labels) if head else ())
            for index, name in enumerate(names)
            if _simple(name) == _simple(given)
        )
        return (given, indices) if indices else None

    def verdict(self, answer: list[Prediction], expected: tuple[str, frozenset[int]]) -> Verdict:
        """Tell whether the most likely class is expected, see `Task`."""
        folder, indices = expected
        best = answer[0]
        correct = best.index in indices
        facts = {"expected": folder, "predicted": best.label, "correct": correct}
        return Verdict(facts, {"top-1": "yes" if correct else "no"}, correct, float(correct))

    def summary(self, verdicts: Sequence[Verdict]) -> Summary:
        """Return the top-1 accuracy with its 95 % interval, see `Task`."""
        count = len(verdicts)
        found = share((verdict.counted for verdict in verdicts), [True] * count)
        value, low, high = (round(part, 6) for part in found)
        shown, least, most = (f"{100 * part:.1f}" for part in found)
        return Summary(
            name="accuracy",
            facts={"pictures": count, "share": value, "low": low, "high": high},
            means={"correct": value, "correct_low": low, "correct_high": high},
            mean_cells={"top-1": f"{shown} %"},
            notes=[
                f"top-1 accuracy: {shown} % of {count} pictures, 95 % interval {least} to {most} %"
            ],
            headline=("top-1 accuracy", found),
        )

    def footnote(self, network: str, size: int | None) -> str:
        """Say what agreement is, see `Task`."""
        assert size is not None
        return (
            f"Agreement: the same most likely class as for the uncompressed picture, by the "
            f"{network}. In brackets 95 % Wilson intervals. bpp: 8 × mean bytes of a file / "
            f"{size * size} pixels."
        )


def share(answers: Iterable[int], expected: Iterable[int | None]) -> Share:
    """Count answers that are as expected, at least one being given; the interval is Wilson's."""
    hits = [a == b for a, b in zip(answers, expected, strict=True)]
    found = Share(sum(hits) / len(hits), *wilson_interval(sum(hits), len(hits)))
    found.drawn = lambda: resamples(len(hits)) @ np.array(hits) / len(hits)
    return found


def _simple(name: str) -> str:
    return name.replace("_", " ").casefold()


CLASSIFY = Classify()
