"""Task networks fine-tuned on what a coder gives back, so that none is judged by a stranger's eye.

    training pictures ─ coder ─▶ decoded ─ steps of Adam ─▶ head ─ decoded pictures ─▶ shares

Every row of a table, the uncompressed one among them, gets the same budget: the same start, the
same pictures in the same order, the same flips, steps and learning rates. Only what the coder makes
of the pictures differs.

The start is EfficientNet-Lite0 with its published weights where the reference network is one of
its kind, whatever it learned since, so that no coder's own head has an advantage; its last layer
starts anew, and learns faster, where the classes are not ImageNet's. Other networks start from the
model's weights.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tactic_codec import picture as image
from tactic_codec import tasks
from tactic_codec.evaluation.cache import Facts
from tactic_codec.evaluation.coders import Coder, Identity
from tactic_codec.evaluation.curves import Retrained, Setting, share
from tactic_codec.evaluation.head_trainer import SEED, WARMUP, Decoded, HeadTrainer, share_of_rate
from tactic_codec.evaluation.pictures import Folder, Picture
from tactic_codec.networks.efficientnet_lite import PUBLISHED_CLASSES
from tactic_codec.networks.heads import LAST_LAYER, classify
from tactic_codec.picture import Pixels

BATCH = 16
LEARNING_RATE = 3e-5
"""The highest; three times that costs a published head 19 points on pictures that are not coded."""

NEW_LEARNING_RATE = 1e-2
"""The highest of a last layer that starts anew: at the other it learns nothing in a few hundred
steps, as in `tactic_codec.training.specialise`."""


class Retrainer(HeadTrainer[Folder]):
    """Fine-tunes classifiers, by 16 pictures a step; the reference's own teaches them."""

    task = "classify"
    neutral_start = "efficientnet_lite0"

    @cached_property
    def _taught(self) -> dict[str, Tensor]:
        """What the teacher said of pictures so far, by their digest."""
        return {}

    def shares(
        self, folder: Folder, coder: Coder, setting: Setting, before: Sequence[int]
    ) -> Retrained:
        """Fine-tune a head on what a coder gives back, and ask it about a folder's pictures.

        Args:
            folder: the pictures that it is asked about.
            coder: gives back both these and the training pictures.
            setting: of the coder.
            before: what the reference network says of the uncompressed pictures.

        Raises:
            DataError: a picture is among those to learn from.
            TacError: a picture cannot be coded.
        """
        answers = [int(facts["answer"]) for facts in self._answers(folder, coder, setting)]
        labels = folder.labels
        return Retrained(share(answers, before), None if labels is None else share(answers, labels))

    def _budget(self, training: Folder) -> Identity:
        return {
            "teacher": self._identity,
            "retrained": [self.steps, BATCH, LEARNING_RATE, WARMUP, SEED, self._device],
            "pictures": _digest(training),
            "labelled": training.labels is not None,
        } | ({"anew": NEW_LEARNING_RATE} if self._starts_anew else {})

    @property
    def _starts_anew(self) -> bool:
        """Whether the last layer is one for other classes than the published network's."""
        return (
            self._head.network == self.neutral_start and len(self._head.labels) != PUBLISHED_CLASSES
        )

    def _asked(
        self, head: nn.Module, folder: Folder, coder: Coder, setting: Setting
    ) -> Iterator[Facts]:
        for picture in folder.pictures:
            decoded = coder.code(picture.pixels, setting).decoded
            with torch.inference_mode():
                logits = classify(head, self._batch([decoded])).main
            yield {"answer": int(logits.argmax(1).item())}

    def _trained(self, training: Folder, coder: Coder, setting: Setting) -> nn.Module:
        """Train a head on decoded pictures against the reference's view of the originals.

        Where the pictures are labelled, cross-entropy with the label is added to the divergence
        from that view, in equal parts.
        """
        head = self._start()
        optimizer = torch.optim.Adam(self._groups(head))
        taught = self._teach(training)
        labels = None if training.labels is None else torch.tensor(training.labels)
        random = np.random.default_rng(SEED)
        decoded = Decoded(training.pictures, coder, setting)
        for step in range(self.steps):
            chosen = random.integers(len(training.pictures), size=BATCH)
            flips = random.random(BATCH) < 0.5
            batch = [
                decoded[index][:, ::-1] if flip else decoded[index]
                for index, flip in zip(chosen.tolist(), flips, strict=True)
            ]
            for group in optimizer.param_groups:
                group["lr"] = group["highest"] * share_of_rate(step, self.steps)
            log_p = F.log_softmax(classify(head, self._batch(batch)).main, dim=1)
            loss = F.kl_div(log_p, taught[chosen].to(self._device), reduction="batchmean")
            if labels is not None:
                loss = loss + F.nll_loss(log_p, labels[chosen].to(self._device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return head

    def _groups(self, head: nn.Module) -> list[dict[str, Any]]:
        """Group a head's weights by the highest learning rate of each."""
        new: list[nn.Parameter] = []
        known: list[nn.Parameter] = []
        for name, weight in head.named_parameters(prefix="head"):
            (new if self._starts_anew and name.startswith(LAST_LAYER) else known).append(weight)
        groups = ((known, LEARNING_RATE), (new, NEW_LEARNING_RATE))
        return [{"params": weights, "highest": rate} for weights, rate in groups if weights]

    def _teach(self, training: Folder) -> Tensor:
        """Return the reference's probabilities of the uncompressed pictures, [N, classes]."""
        key = _digest(training)
        if key not in self._taught:
            classes = len(self._head.labels)
            taught = torch.empty(len(training.pictures), classes)
            for row, picture in zip(taught, training.pictures, strict=True):
                for guess in tasks.classify_pixels(self._reference, picture.pixels, classes):
                    row[guess.index] = guess.probability
            self._taught[key] = taught
        return self._taught[key]

    def _batch(self, pictures: Sequence[Pixels]) -> Tensor:
        """Turn pictures into float [B, 3, size, size] in 0 to 1, of the size that heads read."""
        squares = np.stack([image.square(pixels, self._head.input_size) for pixels in pictures])
        return torch.from_numpy(squares).permute(0, 3, 1, 2).to(self._device).float() / 255


def _digest(folder: Folder) -> str:
    names = "".join(f"{picture.hash} {label}\n" for picture, label in _labelled(folder))
    return hashlib.sha256(names.encode()).hexdigest()


def _labelled(folder: Folder) -> list[tuple[Picture, int | None]]:
    labels = folder.labels or (None,) * len(folder.pictures)
    return list(zip(folder.pictures, labels, strict=True))
