"""One batch through all networks to the terms of equation 9.

    x ─ codec ─ x̂ ─ task network ─▶ L_T ◀─ teacher ─ x
          └─ prior ─▶ L_R    └─▶ L_D ◀─ x

It is one module so that its forward pass is one call, which is what DistributedDataParallel wraps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tactic_codec.networks.codec import Coded, TacticNetwork
from tactic_codec.networks.heads import KINDS, look
from tactic_codec.networks.measures import distortion, divergence, feature_error
from tactic_codec.networks.resize import scaled
from tactic_codec.training import loss
from tactic_codec.training.config import StageConfig, TaskConfig
from tactic_codec.training.tasks import TRAINING
from tactic_codec.training.teacher import Teachers

LEVEL_BALANCE = 0.35
"""Power of 1/β that weighs the levels in a batch. Losses shrink as levels rise, in the end about as
√β: without weights the high levels would be lost beside the low ones."""


class Outcome(NamedTuple):
    """What a batch costs, and what task network and teacher take its images for."""

    total: Tensor  # scalar, to be minimised
    terms: loss.Terms
    answer: Tensor | None  # class indices, in the shape of the labels
    teacher_answer: Tensor | None


class TrainingLoss(nn.Module):
    """Equation 9 of a batch whose images may have different quality levels."""

    def __init__(
        self,
        network: TacticNetwork,
        teacher: nn.Module | None,
        task: TaskConfig,
        class_weights: Tensor | None = None,
        offsets: Sequence[float] = (),
        teachers: Teachers | None = None,
    ) -> None:
        """Take the networks.

        Args:
            network: what learns.
            teacher: sees the uncompressed images; it never learns here.
            task: describes both task networks.
            class_weights: of the cross-entropy of a segmentation.
            offsets: that each level rounds with; none where the stages say it.
            teachers: make L_T in place of the task network.
        """
        super().__init__()
        self.network = network
        self.teacher = teacher
        self.task = task
        self.class_weights = class_weights
        self.teachers = teachers
        self.offsets = torch.tensor(offsets) if offsets else None

    def forward(
        self, x_BCHW: Tensor, labels: Tensor, level_B: Tensor, stage: StageConfig
    ) -> Outcome:
        """Code images in [0, 1] at levels counted from 0 and weigh what comes of it.

        Labels are [B], or [B, H, W] of pixels.
        """
        device = x_BCHW.device.type
        if stage.quantisation == "none":
            # Nothing is coded, at no level: all images weigh the same.
            level_B = torch.zeros_like(level_B)
        alpha_B = stage.alpha * stage.alpha_ratio**level_B
        beta_B = stage.beta * stage.beta_ratio**level_B
        low = stage.precision == "bfloat16" or (stage.precision == "auto" and _fast_low(device))
        answer = teacher_answer = None
        with torch.autocast(device, torch.bfloat16, enabled=low):
            if stage.quantisation == "none":
                coded = Coded(x_BCHW, torch.zeros_like(beta_B))
            else:
                offset: float | Tensor = stage.offset
                if self.offsets is not None:
                    offset = self.offsets.to(level_B.device)[level_B]
                with torch.set_grad_enabled(torch.is_grad_enabled() and not stage.frozen):
                    coded = self.network(x_BCHW, stage.quantisation, level_B, offset)
            task_B = torch.zeros_like(beta_B)
            if self.network.head is not None and stage.alpha > 0:
                x_hat_BCHW = coded.x_hat_BCHW.float()
                task_B, answer, teacher_answer = self._see(x_hat_BCHW, x_BCHW, labels, stage)
            elif self.teachers is not None and stage.alpha > 0:
                task_B = self.teachers(coded.x_hat_BCHW.float().clamp(0, 1), x_BCHW)
        terms = loss.Terms(
            distortion_B=distortion(coded.x_hat_BCHW, x_BCHW, stage.pixel_scale),
            task_B=task_B,
            rate_B=loss.rate(coded.bits_B, x_BCHW),
        )
        # The weight is 1 at level 1, so a network with a single level has weight 1 throughout.
        weight_B = stage.beta_ratio ** (-LEVEL_BALANCE * level_B)
        total = (weight_B * terms.total(alpha_B, beta_B)).mean()
        return Outcome(total, terms, answer, teacher_answer)

    def _see(
        self, x_hat_BCHW: Tensor, x_BCHW: Tensor, labels: Tensor, stage: StageConfig
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return L_T of each image, what it is taken for, and what the teacher takes it for."""
        head = self.network.head
        assert head is not None
        size = self.task.input_size or KINDS[self.task.network].input_size
        if size is not None and stage.features == 0:
            x_BCHW, x_hat_BCHW = scaled(x_BCHW, size, size), scaled(x_hat_BCHW, size, size)
        # A picture file holds no more than black and white.
        logits, features = look(head, x_hat_BCHW.clamp(0, 1))
        said = _at_pixels(logits.main, labels)
        training = TRAINING[KINDS[self.task.network].task]
        loss_B = training.loss(logits, said, labels, stage, self.class_weights)
        answer = said.argmax(1)
        if self.teacher is None or stage.quantisation == "none":
            return loss_B, answer, None
        with torch.no_grad():
            target, wanted = look(self.teacher, x_BCHW)
        loss_B = loss_B + stage.distill * divergence(logits.main, target.main)
        if stage.features > 0:
            loss_B = loss_B + stage.features * feature_error(features, wanted)
        return loss_B, answer, _at_pixels(target.main, labels).argmax(1)


def _fast_low(device: str) -> bool:
    """Tell whether a kind of device multiplies matrices of bfloat16 faster than of float32."""
    if device == "cpu":
        # Older versions of torch do not say; then it is as if the processor could not.
        ask = getattr(torch.cpu, "get_capabilities", None)
        return ask is not None and bool(ask().get("amx_bf16"))
    return device == "cuda"


def _at_pixels(logits: Tensor, labels: Tensor) -> Tensor:
    """Scale logits of places to the pixels that are labelled; those of images stay."""
    if logits.ndim == 2 or logits.shape[-2:] == labels.shape[-2:]:
        return logits
    return nn.functional.interpolate(
        logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False
    )
