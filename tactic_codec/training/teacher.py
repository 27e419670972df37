"""Networks that are to see no difference between picture and decoded picture: L_T without labels.

    x, x̂ ─ size, order, mean, std ─▶ network ─▶ outputs ─▶ distance

An ONNX file and a task network with published weights are the same thing here. Of several, one is
drawn for each batch, so that a step costs what it costs with one.
"""

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tactic_codec.errors import UnsupportedNetwork
from tactic_codec.networks.depthwise import adopt_depthwise
from tactic_codec.networks.efficientnet_lite import PUBLISHED_CLASSES
from tactic_codec.networks.heads import KINDS, build_head, look
from tactic_codec.networks.resize import scaled
from tactic_codec.picture import Pixels
from tactic_codec.training import foreign
from tactic_codec.training.config import TeacherConfig

TOLERANCE = 1e-2
"""Largest difference between torch and ONNX Runtime, relative to an output's spread."""

Outputs = list[Tensor]


class Teacher(nn.Module):
    """A frozen network with what it reads, and the spread of each of its outputs."""

    mean: Tensor
    std: Tensor

    def __init__(self, reading: TeacherConfig, network: nn.Module) -> None:
        """Take a network.

        Args:
            reading: how it reads pictures; nothing is left open.
            network: from what it reads to its outputs, each [B, …].
        """
        super().__init__()
        self.reading = reading
        self.network = network
        self.register_buffer("mean", torch.tensor(reading.mean or (0.0,)).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(reading.std or (1.0,)).view(-1, 1, 1))
        self.spreads: Sequence[float] = ()

    def forward(self, x_BCHW: Tensor) -> Outputs:
        """Show images in [0, 1] to the network."""
        x_BCHW = scaled(x_BCHW, *foreign.sides(self.reading, *x_BCHW.shape[-2:]))
        if self.reading.order == "bgr":
            x_BCHW = x_BCHW.flip(1)
        x_BCHW = (x_BCHW * (self.reading.range or 1.0) - self.mean) / self.std
        if self.reading.layout == "nhwc":
            x_BCHW = x_BCHW.permute(0, 2, 3, 1)
        return [output.float() for output in self.network(x_BCHW)]

    def measure(self, x_BCHW: Tensor) -> None:
        """Take the spread of each output over some images.

        Raises:
            UnsupportedNetwork: an output is the same everywhere in all of them, or no number.
        """
        with torch.no_grad():
            seen = [self(x_1CHW) for x_1CHW in torch.split(x_BCHW, 1)]
        # An output may have another size for each image, and none needs all at once in memory.
        spreads = []
        for number, outputs in enumerate(zip(*seen, strict=True)):
            values = torch.cat([output.flatten() for output in outputs]).double()
            spread = float(values.std())
            if not 0 < spread < math.inf:
                names = self.reading.outputs
                raise UnsupportedNetwork(
                    f"{self.reading.network}: output {names[number] if names else number} is the "
                    "same for all pictures, or no number; name the outputs that count"
                )
            spreads.append(spread)
        self.spreads = spreads

    def distance(self, x_hat_BCHW: Tensor, x_BCHW: Tensor) -> Tensor:
        """Return how differently the network sees decoded images, [B].

        L_T = 1/K Σ_k mean((T_k(x̂) − T_k(x))²) / s_k²

        T_k is one of K outputs, the mean is taken over its elements, and s_k is their standard
        deviation over the data. It is 0 where the network sees no difference, and 2 where it might
        as well have been shown another picture.
        """
        with torch.no_grad():
            wanted = self(x_BCHW)
        errors_B = [
            (found - expected).square().flatten(1).mean(1) / spread**2
            for found, expected, spread in zip(self(x_hat_BCHW), wanted, self.spreads, strict=True)
        ]
        return torch.stack(errors_B).mean(0)


class Teachers(nn.Module):
    """Several teachers, of whom each batch meets one."""

    def __init__(self, teachers: Sequence[Teacher]) -> None:
        super().__init__()
        self._each = teachers
        self.teachers = nn.ModuleList(teachers).eval().requires_grad_(False)
        self._draws = torch.tensor([teacher.reading.draw for teacher in teachers])

    def forward(self, x_hat_BCHW: Tensor, x_BCHW: Tensor) -> Tensor:
        """Draw a teacher and a scale, and return its weighted distance of images in [0, 1], [B]."""
        # One alone draws nothing.
        number = int(torch.multinomial(self._draws, 1)) if len(self._draws) > 1 else 0
        teacher = self._each[number]
        low, high = teacher.reading.scale
        if low < high or low != 1:
            scale = low + float(torch.rand(())) * (high - low)
            sides = [max(1, round(side * scale)) for side in x_BCHW.shape[-2:]]
            x_hat_BCHW, x_BCHW = scaled(x_hat_BCHW, *sides), scaled(x_BCHW, *sides)
        return teacher.reading.weight * teacher.distance(x_hat_BCHW, x_BCHW)

    def mean_distance(self, decoded: Pixels, pixels: Pixels) -> float:
        """Return the mean distance of all teachers for one picture, uint8 [H, W, 3]."""
        x_1CHW, x_hat_1CHW = (
            torch.tensor(image, device=self._each[0].mean.device).permute(2, 0, 1)[None]
            for image in (pixels, decoded)
        )
        with torch.no_grad():
            found = [t.distance(x_hat_1CHW / 255, x_1CHW / 255) for t in self._each]
        return float(torch.cat(found).mean())


def identity(reading: TeacherConfig) -> dict[str, str]:
    """Return which network a configuration means, for a manifest.

    Raises:
        UnsupportedNetwork: there is no such file, or it is refused, see `foreign.read`.
    """
    if reading.network in KINDS:
        return {"network": reading.network}
    return foreign.read(reading).identity


def completed(reading: TeacherConfig, say: Callable[[str], None]) -> TeacherConfig:
    """Return how a network reads pictures with nothing left open, and say what was guessed.

    Raises:
        UnsupportedNetwork: an ONNX file is refused, see `foreign.read`.
    """
    if reading.network in KINDS:
        return reading
    network = foreign.read(reading)
    if network.guessed:
        say(f"{reading.network}, guessed: {network.guessed}")
    return network.reading


# --- Making them ----------------------------------------------------------------------------------


def load(
    readings: Sequence[TeacherConfig], picture: Pixels, crops: Tensor, say: Callable[[str], None]
) -> Teachers:
    """Load the teachers of a run.

    Args:
        readings: what the configuration says of them.
        picture: a real square as training shows them, uint8 [H, W, 3], to compare ONNX files with
            ONNX Runtime on.
        crops: uint8 [B, 3, H, W], over which spreads are taken.
        say: receives lines for people.

    Raises:
        UnsupportedNetwork: a network cannot be read, run or turned into torch, or does not say in
            torch what it says in ONNX Runtime.
    """
    made = []
    for reading in readings:
        x_BCHW = crops.float() / 255
        if reading.network in KINDS:
            head = build_head(reading.network, PUBLISHED_CLASSES, published=True).eval()
            teacher = Teacher(reading, _Features(head))
            teacher.measure(x_BCHW)
        else:
            teacher = _foreign(reading, picture, x_BCHW)
        named = teacher.reading.outputs or [str(number) for number in range(len(teacher.spreads))]
        told = [f"{n} ±{s:.3g}" for n, s in zip(named, teacher.spreads, strict=True)]
        say(f"{reading.network} teaches by {', '.join(told)}")
        made.append(teacher)
    # Channels last is what convolutions are fastest in.
    taught = Teachers(made)
    taught.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return taught


class _Features(nn.Module):
    """The features and logits of a task network, as a teacher's outputs."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x_BCHW: Tensor) -> Outputs:
        logits, features = look(self.head, x_BCHW)
        return [*features, logits.main]


class _Each(nn.Module):
    """A network that was exported for one picture at a time, asked about each of a batch."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_BCHW: Tensor) -> Outputs:
        return [
            torch.cat(outputs)
            for outputs in zip(*map(self.one, torch.split(x_BCHW, 1)), strict=True)
        ]

    def one(self, x_BCHW: Tensor) -> Outputs:
        """Return the outputs for inputs that the network takes at once."""
        outputs = self.network(x_BCHW)
        return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


class _Together(_Each):
    """A network that takes a whole batch."""

    def forward(self, x_BCHW: Tensor) -> Outputs:
        return self.one(x_BCHW)


def _foreign(reading: TeacherConfig, picture: Pixels, crops_BCHW: Tensor) -> Teacher:
    """Turn an ONNX file into a teacher, and compare it with ONNX Runtime on a real picture."""
    network = foreign.read(reading)
    module, said = foreign.converted(network, picture)
    adopt_depthwise(module)
    x = torch.from_numpy(network.array(picture).astype(np.float32)).requires_grad_()
    with warnings.catch_warnings():
        # Its operators warn of what they do not do exactly; whether that matters, is compared here.
        warnings.simplefilter("ignore")
        try:
            outputs = _Each(module).one(x)
            loss = torch.stack([output.float().square().mean() for output in outputs]).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            teacher = Teacher(network.reading, _Each(module))
            teacher.measure(crops_BCHW)
            if _batches(module, x.detach()):
                teacher.network = _Together(module)
        except UnsupportedNetwork:
            raise
        # Whatever a foreign graph does wrong in torch.
        except Exception as exc:
            raise UnsupportedNetwork(
                f"{reading.network} does not run in torch: {' '.join(str(exc).split())[:300]}"
            ) from exc
    for name, found, expected, spread in zip(
        network.reading.outputs, outputs, said, teacher.spreads, strict=True
    ):
        same_shape = found.shape == expected.shape
        error = float(np.abs(found.detach().numpy() - expected).max()) if same_shape else math.inf
        if not error < TOLERANCE * spread:  # so written, it catches NaN
            raise UnsupportedNetwork(
                f"{reading.network} says in torch something else than in ONNX Runtime: output "
                f"{name} differs by {error:.1e}; its spread over pictures is {spread:.1e}"
            )
    if x.grad is None or not x.grad.isfinite().all() or not x.grad.any():
        raise UnsupportedNetwork(
            f"{reading.network} passes no gradient to its picture; name other outputs"
        )
    return teacher


def _batches(module: nn.Module, x: Tensor) -> bool:
    """Tell whether two pictures at once are seen as each alone is."""
    both = torch.cat([x, x.flip(-1)])
    with torch.no_grad():
        alone = _Each(module)(both)
        try:
            together = _Together(module)(both)
        # Sizes that were made constant fit one picture alone.
        except Exception:
            return False
    return all(
        a.shape == t.shape
        and torch.allclose(a, t, rtol=TOLERANCE, atol=TOLERANCE * float(a.abs().max()))
        for a, t in zip(alone, together, strict=True)
    )
