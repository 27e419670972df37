"""Segmentation networks trained on what a coder gives back, see `tactic_codec.evaluation.retrain`.

    training pictures ─ coder ─▶ decoded ─ crops, flips ─ steps of Adam ─▶ head ─▶ scores

Every row of a table, the uncompressed one among them, gets the same budget: the same start, the
same crops of the same pictures in the same order, the same flips, steps and learning rates.

The start is EfficientNet-Lite0 as published under a decoder at random where the reference network
is one of this kind, whatever it learned since; other networks start from the model's weights.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from tactic_codec import metrics, tasks
from tactic_codec import picture as image
from tactic_codec.codec import Codec
from tactic_codec.evaluation.cache import Facts
from tactic_codec.evaluation.coders import Coder, Identity
from tactic_codec.evaluation.curves import Setting
from tactic_codec.evaluation.head_trainer import SEED, WARMUP, Decoded, HeadTrainer, share_of_rate
from tactic_codec.evaluation.masks import MaskScores, scores_of, square_of
from tactic_codec.evaluation.pictures import MaskFolder, MaskPicture
from tactic_codec.networks.heads import classify
from tactic_codec.networks.measures import UNLABELLED, class_weights, dice, pixel_cross_entropy

BATCH = 8
CROP = 256
"""Side of the crops as the network sees them, in pixels."""

LEARNING_RATE = 5e-4
"""The highest, after the warm-up; it falls to zero along a half cosine. A decoder at random needs
more than the classifier, which is only tuned."""

CLIP = 1.0
"""Largest norm of a gradient: without normalisations, the trunk must not jump."""

DICE = 0.5
"""Weight of the Dice loss beside the cross-entropy, the gamma of equation 10."""


class Crop(NamedTuple):
    """What a head sees of a picture in one place of a batch.

    Attributes:
        picture: its number among those to learn from.
        box: left, top, right and bottom in it, in pixels.
        flip: whether left and right change places.
    """

    picture: int
    box: tuple[float, float, float, float]
    flip: bool


class MaskRetrainer(HeadTrainer[MaskFolder]):
    """Trains segmentation networks, by 8 crops a step."""

    task = "segment"
    neutral_start = "efficientnet_lite0_pyramid"

    def scores(self, folder: MaskFolder, coder: Coder, setting: Setting) -> MaskScores:
        """Train a head on what a coder gives back, and ask it about a folder's pictures.

        Args:
            folder: the pictures that it is asked about.
            coder: gives back both these and the training pictures.
            setting: of the coder.

        Raises:
            DataError: a picture is among those to learn from.
            TacError: a picture cannot be coded.
        """
        answers = self._answers(folder, coder, setting)
        return scores_of([square_of(facts["confusion"]) for facts in answers])

    def _budget(self, training: MaskFolder) -> Identity:
        return {
            "kind": self._identity,
            "trained": [self.steps, BATCH, CROP, LEARNING_RATE, WARMUP, CLIP, DICE, SEED],
            "on": self._device,
            "pictures": _digest(training),
        }

    def _asked(
        self, head: nn.Module, folder: MaskFolder, coder: Coder, setting: Setting
    ) -> Iterator[Facts]:
        # The way in which the model's own head is asked.
        asked = Codec(self._reference.model, _HeadRuntime(head, self._device))
        for picture in folder.pictures:
            decoded = coder.code(picture.pixels, setting).decoded
            found = tasks.segment_pixels(asked, decoded).labels
            counts = metrics.confusion(picture.labels, found, len(self._head.labels))
            yield {"confusion": counts.ravel().tolist()}

    def _trained(self, training: MaskFolder, coder: Coder, setting: Setting) -> nn.Module:
        """Train a head on decoded pictures against their label maps."""
        head = self._start()
        optimizer = torch.optim.Adam(head.parameters(), LEARNING_RATE)
        weights_K = class_weights(np.array(training.counts, np.int64))
        random = np.random.default_rng(SEED)
        decoded = Decoded(training.pictures, coder, setting)
        for step in range(self.steps):
            crops = draw_crops(random, training.pictures, self._head.input_size)
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * share_of_rate(step, self.steps)
            x_BCHW, labels_BHW = self._batch(crops, decoded, training)
            logits_BKHW = F.interpolate(
                classify(head, x_BCHW).main.float(),
                size=(CROP, CROP),
                mode="bilinear",
                align_corners=False,
            )
            loss_B = pixel_cross_entropy(logits_BKHW, labels_BHW, weights_K)
            loss_B = loss_B + DICE * dice(logits_BKHW, labels_BHW)
            optimizer.zero_grad(set_to_none=True)
            loss_B.mean().backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(head.parameters(), CLIP)
            optimizer.step()
        return head

    def _batch(
        self, crops: Sequence[Crop], decoded: Decoded, training: MaskFolder
    ) -> tuple[Tensor, Tensor]:
        """Cut crops: float [B, 3, 256, 256] in 0 to 1, and int64 [B, 256, 256] of classes."""
        squares = []
        maps = []
        for crop in crops:
            labels = training.pictures[crop.picture].labels
            squares.append(
                cut(image.to_pillow(decoded[crop.picture]), crop, Image.Resampling.BICUBIC)
            )
            maps.append(
                cut(Image.fromarray(labels), crop, Image.Resampling.NEAREST).astype(np.int64)
            )
        labels_BHW = torch.from_numpy(np.stack(maps))
        labels_BHW[labels_BHW >= len(self._head.labels)] = UNLABELLED
        x_BCHW = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
        return x_BCHW.to(self._device).float() / 255, labels_BHW.to(self._device)


def draw_crops(
    random: np.random.Generator, pictures: Sequence[MaskPicture], input_size: int
) -> list[Crop]:
    """Draw a batch of crops, each anywhere in any picture.

    A crop shows things at the size at which the network sees them in a whole picture, whose longer
    side is scaled to ``input_size``; it is smaller only where the picture is.
    """
    crops = []
    for _ in range(BATCH):
        picture = int(random.integers(len(pictures)))
        height, width = pictures[picture].labels.shape
        side = min(CROP * max(height, width) / input_size, height, width)
        # Whole pixels: where the scale is 1 already, nothing is interpolated.
        left, top = (int(random.integers(int(length - side) + 1)) for length in (width, height))
        flip = bool(random.random() < 0.5)
        crops.append(Crop(picture, (left, top, left + side, top + side), flip))
    return crops


def cut(picture: Image.Image, crop: Crop, method: Image.Resampling) -> NDArray[np.uint8]:
    """Cut a crop out of a picture or a label map and scale it to 256 × 256."""
    pixels = np.asarray(picture.resize((CROP, CROP), method, box=crop.box))
    return pixels[:, ::-1] if crop.flip else pixels


class _HeadRuntime:
    """Runs a head that was trained here in the place of a model's own, see `Runtime`."""

    threads: int | None = None

    def __init__(self, head: nn.Module, device: str) -> None:
        self._head = head
        self.torch_device = device

    def run(self, network: str, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the head, whatever the name."""
        with torch.inference_mode():
            logits = classify(self._head, torch.from_numpy(array).to(self.torch_device)).main
        result: NDArray[np.float32] = logits.float().cpu().numpy()
        return result


def _digest(folder: MaskFolder) -> str:
    return hashlib.sha256("\n".join(p.hash for p in folder.pictures).encode()).hexdigest()
