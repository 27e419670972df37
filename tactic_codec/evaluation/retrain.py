"""Task networks trained on what a coder gives back, so that none is judged by a stranger's eye.

    training pictures ─ coder ─▶ decoded ─ lesson, Adam ─▶ head ─ decoded pictures ─▶ facts, kept

Every row of a table, the uncompressed one among them, gets the same budget: the same start, the
same pictures in the same order, cut and flipped alike, steps and learning rates. Only what the
coder makes of the pictures differs. What a step is, the task says: `tactic_codec.training.tasks`.

The start is the published network where the reference network is one of its kind, whatever it
learned since, so that no coder's own head has an advantage. Other networks start from the model's
weights.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from tactic_codec.codec import Codec
from tactic_codec.errors import DataError
from tactic_codec.evaluation.cache import Cache
from tactic_codec.evaluation.coders import Coder, answers_identity
from tactic_codec.evaluation.pictures import Folder
from tactic_codec.networks.folder import load_network
from tactic_codec.networks.heads import build_head
from tactic_codec.picture import Pixels
from tactic_codec.rivals import Setting
from tactic_codec.runtime.torch import TorchRuntime
from tactic_codec.tasks import Facts, Question, Scores
from tactic_codec.training.tasks import TRAINING, Lesson

SEED = 1
"""Of the start, and of what each step sees."""

WARMUP = 20
"""Steps in which the learning rate rises: Adam makes as long a step of its first gradients as of
any later ones, and they say little where a head agrees with its teacher already."""


class Retrainer:
    """Trains and asks heads; for one thread.

    Attributes:
        steps: for each head.
    """

    def __init__(
        self,
        task: Question[Any, Any],
        reference: Codec,
        training: Mapping[str, Folder],
        cache: Cache,
        steps: int,
        device: str = "auto",
    ) -> None:
        """Prepare for some folders.

        Args:
            reference: says what kind of network is trained, and how large pictures it reads.
            training: the pictures to learn from, by the name of the folder that is evaluated.
            cache: keeps the answers of heads that were trained before.
            steps: at least 1.
            device: ``cuda`` trains there, anything else on the CPU.

        Raises:
            UnknownTask: the reference has no head of this task.
        """
        self.steps = steps
        self._task = task
        self._reference = reference
        self._head = reference.model.head(task.name)
        self._identity = answers_identity(task, reference, device)
        self._training = training
        self._cache = cache
        self._device = "cuda" if device == "cuda" else "cpu"
        self._lessons: dict[str, Lesson] = {}

    def scores(
        self, folder: Folder, coder: Coder, setting: Setting, before: Sequence[Facts]
    ) -> Scores:
        """Train a head on what a coder gives back, and ask it about a folder's pictures.

        Args:
            folder: the pictures that it is asked about.
            coder: gives back both these and the training pictures.
            before: what the reference network says of the uncompressed pictures.

        Raises:
            DataError: a picture is among those to learn from.
            TacError: a picture cannot be coded.
        """
        training = self._training[folder.name]
        _check_apart(folder, training)
        lesson = self._lesson(training)
        shelf = self._cache.shelf(
            {
                "coder": coder.identity(setting),
                "torch": torch.__version__,
                "reference": self._identity,
                "trained": [self.steps, WARMUP, SEED, self._device, *lesson.recipe],
                "pictures": self._digest(training),
            }
        )
        if any(picture.hash not in shelf for picture in folder.pictures):

            @cache  # few steps do not see all of them
            def decoded(number: int) -> Pixels:
                return coder.code(training.pictures[number].pixels, setting).decoded

            head = self._trained(lesson, decoded)
            # The way in which the model's own head is asked.
            model, threads = self._reference.model, torch.get_num_threads()
            asked = Codec(
                model, TorchRuntime(model, self._device, threads, {self._task.name: head})
            )
            for picture in folder.pictures:
                answer = self._task.ask(asked, coder.code(picture.pixels, setting).decoded)
                shelf.put(picture.hash, self._task.facts(picture.truth, answer))
        found = [shelf[picture.hash] for picture in folder.pictures]
        return self._task.scores(found, before, [picture.truth for picture in folder.pictures])

    def _lesson(self, training: Folder) -> Lesson:
        if training.name not in self._lessons:
            self._lessons[training.name] = TRAINING[self._task.name].lesson(
                self._reference,
                [picture.pixels for picture in training.pictures],
                [picture.truth for picture in training.pictures],
                self._device,
            )
        return self._lessons[training.name]

    def _digest(self, folder: Folder) -> str:
        """Name all pictures with their truths, which are in the hash of some tasks' pictures."""
        lines = (f"{p.hash} {'' if self._task.key(p.truth) else p.truth}" for p in folder.pictures)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def _trained(self, lesson: Lesson, decoded: Callable[[int], Pixels]) -> nn.Module:
        """Train a head on decoded pictures."""
        head = self.start()
        optimizer = torch.optim.Adam(lesson.groups(head))
        random = np.random.default_rng(SEED)
        for step in range(self.steps):
            for group in optimizer.param_groups:
                group["lr"] = group["highest"] * share_of_rate(step, self.steps)
            loss = lesson.loss(head, decoded, random)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if lesson.clip is not None:
                nn.utils.clip_grad_norm_(head.parameters(), lesson.clip)
            optimizer.step()
        return head

    def start(self) -> nn.Module:
        """Return the head that every row starts from."""
        torch.manual_seed(SEED)  # for what starts at random: a last layer, a decoder
        if self._head.network == TRAINING[self._task.name].lesson.neutral_start:
            head = build_head(self._head.network, len(self._head.labels), published=True)
        else:
            head = load_network(self._reference.model, self._task.name)
        # Evaluation mode throughout: statistics of normalisations stay, and nothing drops out.
        return head.eval().to(self._device)


def share_of_rate(step: int, steps: int) -> float:
    """Return the share of the learning rate in a step, counted from 0.

    It rises over the warm-up, and falls along a half cosine from 1 down to almost 0.
    """
    return min(1, (step + 1) / WARMUP) * (1 + math.cos(math.pi * step / steps)) / 2


def _check_apart(evaluated: Folder, training: Folder) -> None:
    """Make sure that no head is asked about what it was trained on."""
    known = {picture.content: picture.name for picture in training.pictures}
    for picture in evaluated.pictures:
        if picture.content in known:
            raise DataError(
                f"{evaluated.name}: {picture.name} is evaluated and also among the pictures that "
                f"heads are trained on, as {known[picture.content]}; keep the two apart"
            )
