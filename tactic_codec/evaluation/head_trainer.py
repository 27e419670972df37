"""What training heads on what coders give back is whatever their task: `retrain`, `retrain_masks`.

training pictures ─ coder ─▶ a head from the same start for every row ─▶ its answers, kept
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Generic, TypeVar

import torch
from torch import nn

from tactic_codec.codec import Codec
from tactic_codec.errors import DataError
from tactic_codec.evaluation.cache import Cache, Facts
from tactic_codec.evaluation.coders import Coder, Identity, head_identity
from tactic_codec.evaluation.curves import Setting
from tactic_codec.evaluation.pictures import Folder, MaskFolder, MaskPicture, Picture
from tactic_codec.networks.folder import load_network
from tactic_codec.networks.heads import build_head
from tactic_codec.picture import Pixels

SEED = 1
"""Of the start, and of what each step sees."""

WARMUP = 20
"""Steps in which the learning rate rises: Adam makes as long a step of its first gradients as of
any later ones, and they say little where a head agrees with its teacher already."""

F = TypeVar("F", Folder, MaskFolder)


class HeadTrainer(ABC, Generic[F]):
    """Trains and asks heads; for one thread.

    Attributes:
        task: of the heads.
        neutral_start: the kind of network that starts as it was published.
        steps: for each head.
    """

    task: ClassVar[str]
    neutral_start: ClassVar[str]

    def __init__(
        self,
        reference: Codec,
        training: Mapping[str, F],
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
        self._reference = reference
        self._head = reference.model.head(self.task)
        self._identity = head_identity(reference, device, self.task)
        self._training: Mapping[str, F] = training
        self._cache = cache
        self._device = "cuda" if device == "cuda" else "cpu"

    def _answers(self, folder: F, coder: Coder, setting: Setting) -> list[Facts]:
        """Return what a head that was trained for it says of each picture, as it was kept or anew.

        What the public methods take goes here, and what they raise comes from here.
        """
        training = self._training[folder.name]
        _check_apart(folder, training)
        key = {"coder": coder.identity(setting), "torch": torch.__version__}
        shelf = self._cache.shelf(key | self._budget(training))
        if any(picture.hash not in shelf for picture in folder.pictures):
            head = self._trained(training, coder, setting)
            asked = self._asked(head, folder, coder, setting)
            for picture, facts in zip(folder.pictures, asked, strict=True):
                shelf.put(picture.hash, facts)
        return [shelf[picture.hash] for picture in folder.pictures]

    @abstractmethod
    def _budget(self, training: F) -> Identity:
        """Return what a head depends on beside its coder."""

    @abstractmethod
    def _trained(self, training: F, coder: Coder, setting: Setting) -> nn.Module:
        """Train a head on decoded pictures."""

    @abstractmethod
    def _asked(self, head: nn.Module, folder: F, coder: Coder, setting: Setting) -> Iterator[Facts]:
        """Yield what a head says of each decoded picture of a folder."""

    def _start(self) -> nn.Module:
        """Return the head that every row starts from."""
        torch.manual_seed(SEED)  # for what starts at random: a last layer, a decoder
        if self._head.network == self.neutral_start:
            head = build_head(self._head.network, len(self._head.labels), published=True)
        else:
            head = load_network(self._reference.model, self.task)
        # Evaluation mode throughout: statistics of normalisations stay, and nothing drops out.
        return head.eval().to(self._device)


class Decoded:
    """Pictures by their number as a coder gives them back, each coded when it is first looked at.

    Args:
        pictures: to learn from; few steps do not see all of them.
        coder: gives them back,
        setting: at this setting.
    """

    def __init__(
        self, pictures: Sequence[Picture | MaskPicture], coder: Coder, setting: Setting
    ) -> None:
        self._pictures = pictures
        self._coder = coder
        self._setting = setting
        self._known: dict[int, Pixels] = {}

    def __getitem__(self, number: int) -> Pixels:
        """Return a picture, uint8 [H, W, 3].

        Raises:
            TacError: it cannot be coded.
        """
        if number not in self._known:
            pixels = self._pictures[number].pixels
            self._known[number] = self._coder.code(pixels, self._setting).decoded
        return self._known[number]


def share_of_rate(step: int, steps: int) -> float:
    """Return the share of the learning rate in a step, counted from 0.

    It rises over the warm-up, and falls along a half cosine from 1 down to almost 0.
    """
    return min(1, (step + 1) / WARMUP) * (1 + math.cos(math.pi * step / steps)) / 2


def _check_apart(evaluated: F, training: F) -> None:
    """Make sure that no head is asked about what it was trained on."""
    known = {picture.content: picture.name for picture in training.pictures}
    for picture in evaluated.pictures:
        if picture.content in known:
            raise DataError(
                f"{evaluated.name}: {picture.name} is evaluated and also among the pictures that "
                f"heads are trained on, as {known[picture.content]}; keep the two apart"
            )
