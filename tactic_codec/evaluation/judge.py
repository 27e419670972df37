"""A network that somebody runs, an ONNX file, as the one that answers: ``tactic eval --judge``.

picture, decoded picture ─ network ─▶ outputs ─▶ how much of them is kept, agreement of classes
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tactic_codec import metrics
from tactic_codec.codec import Codec
from tactic_codec.errors import UnsupportedNetwork
from tactic_codec.picture import Pixels
from tactic_codec.tasks import Facts, Question, Scores, Share, Witness
from tactic_codec.tasks.classify import share
from tactic_codec.training import foreign
from tactic_codec.training.config import TeacherConfig

Answer = list[NDArray[Any]]
"""The outputs."""


class Judge(Question[None, Answer]):
    """Asks an ONNX file; see `Question`. No truth is known."""

    name = "judge"
    whole = True
    pictures = ""
    titles: ClassVar[dict[str, str]] = {"kept": "outputs kept", "agreement": "agreement"}

    def __init__(self, reading: TeacherConfig, say: Callable[[str], None]) -> None:
        """Read the file, and say what is guessed of it.

        Raises:
            UnsupportedNetwork: see `foreign.read`.
        """
        self._foreign = foreign.read(reading)
        if self._foreign.guessed:
            say(f"{reading.network}, guessed: {self._foreign.guessed}")
        self._network = self._foreign.open()
        self._tried = False

    def witness(self, codec: Codec) -> Witness:
        """Return the file, whatever the model, see `Question`."""
        name = self._foreign.path.name
        identity = {**vars(self._foreign.reading), **self._foreign.identity}
        return Witness(name, name, (), (), identity)

    def ask(self, codec: Codec, pixels: Pixels) -> Answer:
        """Return the network's outputs for a picture, see `Question`.

        Raises:
            UnsupportedNetwork: it cannot be run.
        """
        if not self._tried:  # whether it can be run at all is not found out in this process
            self._foreign.run_apart(pixels)
            self._tried = True
        return self._network.run(self._foreign.array(pixels))

    def reader(self, folder: Path, classes: Sequence[str]) -> Callable[[str, Pixels], None]:
        """Read nothing, see `Question`."""
        return lambda name, pixels: None

    def facts(
        self,
        truth: None,
        answer: Answer,
        before: Callable[[], Answer] | None = None,
    ) -> Facts:
        """Keep of each output mean, mean square and mean squared difference, and the class.

        Raises:
            UnsupportedNetwork: outputs cannot be compared.
        """
        wanted = before() if before else answer
        for name, found, expected in zip(
            self._foreign.reading.outputs, answer, wanted, strict=True
        ):
            if found.shape != expected.shape:
                raise UnsupportedNetwork(
                    f"{self._foreign.path}: output {name} has another shape for the decoded picture"
                    "; name outputs before boxes are selected"
                )
        pairs = [(f.astype(np.float64), e) for f, e in zip(answer, wanted, strict=True)]
        facts: Facts = {
            "moments": [[float(f.mean()), float(np.square(f).mean())] for f, _ in pairs],
            "errors": [float(np.square(f - e).mean()) for f, e in pairs],
        }
        if len(answer) == 1 and answer[0].ndim == 2 and answer[0].shape[1] > 1:
            facts["class"] = int(answer[0].argmax())
        return facts

    def scores(
        self, found: Sequence[Facts], before: Sequence[Facts], truths: Sequence[None]
    ) -> Scores:
        """Return 1 - the distance of `Teacher.distance`, at least 0, and agreement of classes.

        The spread of an output is that over the pictures themselves.
        """
        mean_K, square_K = np.mean([facts["moments"] for facts in before], axis=0).T
        spread_K = square_K - mean_K**2
        if not (np.isfinite(spread_K).all() and spread_K.min() > 0):
            raise UnsupportedNetwork(
                f"{self._foreign.path}: an output is the same for all pictures, or no number; name "
                "the outputs that count"
            )
        errors_NK = np.array([facts["errors"] for facts in found]) / spread_K
        kept_N = 1 - errors_NK.mean(axis=1)
        drawn = metrics.resamples(len(found)) @ kept_N / len(found)
        scores = {"kept": Share.of(drawn.clip(0))}
        if "class" in found[0]:
            pairs = zip(found, before, strict=True)
            scores["agreement"] = share(
                (a["class"] for a, _ in pairs), [b["class"] for b in before]
            )
        return scores

    def footnote(self, network: str, size: int | None) -> str:
        """Say what is kept, see `Question`."""
        return (
            f"Outputs kept: 1 - the mean squared difference of the outputs of {network} for "
            "picture and decoded picture, each output over its variance, the mean over outputs "
            f"and pictures. In brackets 95 % intervals from {metrics.RESAMPLES} draws of the "
            "pictures. bpp: mean of 8 × bytes of a file / its pixels."
        )
