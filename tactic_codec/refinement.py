"""Compress with effort: choose symbols by what they cost and by what they show.

    pixels ─ latent v ─ round ─▶ ŷ ─ inverse gain ─ synthesis ─ x̂ ─┬─ L_D
                                 │                                 └─ task network ─ L_T
                                 └─ tables, contexts ─ bits          J = L_D + L_T + beta · bpp

Rounding to nearest asks neither what a symbol costs nor what a picture loses by it. Here one
picture's own J is made small, with the decoder as it is: streams stay what every decoder reads.

Adam moves the latent, with the gradient of L_D + L_T passed through rounding and the bits taken as
linear between neighbouring integers (in place of the annealing of Yang, Bamler & Mandt, NeurIPS
2020, which was slower to arrive). Efforts differ in the number of its steps. One step alone, rate–
distortion optimised quantisation with the task's loss in it, gains nothing that lasts: the task's
gradient at plainly rounded symbols holds for a few moves, and it is the following ones that find
their way.

Every candidate is judged by its true J: really rounded symbols, the bits of the integer tables, the
picture in 8 bits. The plain result is always among them, so that effort is never worse in J.

The task network that J asks is the one that will judge the file where this model classifies. Its
agreement therefore rises by more than another network's would: part of the gain is the picture,
part is this network's taste. Nothing is random: one machine with one number of threads always
writes the same file; other machines and other numbers of threads add up floats in another order and
may choose other symbols.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tactic_codec import picture as image
from tactic_codec.entropy import SYMBOL_LIMIT, Prices, Symbols
from tactic_codec.errors import needed
from tactic_codec.model import WHOLE_SIDES, Level, Model, Objective, latent_size
from tactic_codec.runtime import Tile, tiles

with needed("effort above 0 needs torch; run: pip install torch torchvision safetensors onnx"):
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    from tactic_codec.networks import measures, memory
    from tactic_codec.networks.folder import load_network
    from tactic_codec.networks.heads import look

SEARCH_TILE = 1024
"""Side in pixels of the blocks that a gradient is taken of, which bounds its memory. The task
network looks at whole pictures, and so only at those that fit into one block; of larger ones J is
distortion and rate alone."""

STEPS = {1: 8, 2: 16, 3: 96}
"""Steps of Adam by effort."""

LEARNING_RATE = 0.05
"""Length of a first step of Adam, where 1 lies between neighbouring symbols."""

FINAL_LEARNING_RATE = 0.02
"""Length of the last one; those between follow half a cosine."""

OUTSIDE = 8.0
"""How many times a bit outside of a region of interest counts, as in `codec.OUTSIDE_PRICE`."""

BETAS = (0.8, 0.99)
"""How fast Adam forgets: faster than in training, since all is over after a few steps."""

UNKNOWN_OBJECTIVE = Objective(pixel_scale=10.0, alpha=1.0, features=0.0, beta=0.0)
"""What J is where the model does not tell; `rate_weight` then finds beta."""


class Networks(NamedTuple):
    """What turns symbols into a picture, and what looks at it; frozen, on one device.

    Attributes:
        synthesis: latent to image.
        head: the task network, if there is one.
        input_size: side of the square that a classifier reads, or the longer side of what a
            segmentation network reads, in pixels.
        stride: pixels a latent position.
        halo: latent positions around a tile that its result depends on.
        segments: whether the task is segmentation.
    """

    synthesis: nn.Module
    head: nn.Module | None
    input_size: int
    stride: int
    halo: int
    segments: bool = False


class Loss(NamedTuple):
    """What a picture lost by some symbols.

    Attributes:
        distortion: L_D, on the objective's pixel scale.
        task: L_T with its weights; 0 where no task network looked.
        gradient: of their sum by each symbol, [C, h, w], or None where it was not asked for.
    """

    distortion: float
    task: float
    gradient: Tensor | None

    @property
    def total(self) -> float:
        """All of J but the rate."""
        return self.distortion + self.task


class Judge:
    """Tells what one picture loses by any symbols, and the gradient of that."""

    def __init__(
        self,
        networks: Networks,
        pixels: NDArray[np.uint8],
        inverse_gain: NDArray[np.float32],
        objective: Objective,
    ) -> None:
        """Look at the original.

        Args:
            networks: decode and classify.
            pixels: the picture, uint8 [H, W, 3].
            inverse_gain: [C], what symbols are multiplied by.
            objective: weighs the terms; its beta plays no part.
        """
        self._networks = networks
        self._objective = objective
        parameter = next(networks.synthesis.parameters())
        self._device = parameter.device
        self._inverse_gain_C11 = self._on_device(inverse_gain)[:, None, None]
        x_HWC = self._on_device(np.ascontiguousarray(pixels))
        self._x_BCHW = x_HWC.permute(2, 0, 1)[None].float() / 255
        self.height, self.width = pixels.shape[:2]
        stride = networks.stride
        self._tiles = tiles(
            *latent_size(self.height, self.width, stride),
            side=SEARCH_TILE // stride + 2 * networks.halo,
            halo=networks.halo,
        )
        weighs_task = objective.alpha + objective.features > 0
        self._original: tuple[Tensor, list[Tensor]] | None = None
        if networks.head is not None and weighs_task and len(self._tiles) == 1:
            with torch.no_grad():
                self._original = self._see(networks.head, self._x_BCHW)

    def loss(self, symbols_CHW: Tensor, *, gradient: bool = False) -> Loss:
        """Decode symbols, float [C, h, w] on any device, and compare with the original."""
        distortion = task = 0.0
        slopes = torch.zeros_like(symbols_CHW, device=self._device) if gradient else None
        for tile in self._tiles:
            part = symbols_CHW[:, *tile.padded].detach().to(self._device).requires_grad_(gradient)
            with torch.set_grad_enabled(gradient):
                x_hat_BCHW, x_BCHW = self._decode(part, tile)
                share = x_BCHW.numel() / self._x_BCHW.numel()
                error = measures.distortion(x_hat_BCHW, x_BCHW, self._objective.pixel_scale)[0]
                error = share * error
                total = error
                if self._original:
                    missed = self._task(x_hat_BCHW, *self._original)
                    task += missed.item()
                    total = error + missed
            distortion += error.item()
            if slopes is not None:
                slopes[:, *tile.padded] += torch.autograd.grad(total, part)[0]
        if slopes is not None:
            # Where a network overflows there is nothing to follow.
            slopes = slopes.nan_to_num(0, 0, 0).to(symbols_CHW.device)
        return Loss(distortion, task, slopes)

    def _decode(self, part_CHW: Tensor, tile: Tile) -> tuple[Tensor, Tensor]:
        """Return a tile's core as it is decoded, and the original's same part, [1, 3, H, W]."""
        stride = self._networks.stride
        x_hat_BCHW: Tensor = self._networks.synthesis((part_CHW * self._inverse_gain_C11)[None])
        # Columns and rows beyond the picture are cut off by every decoder.
        ends = (self.height, self.width)
        rows, columns = (
            slice(s.start * stride, min(s.stop * stride, end))
            for s, end in zip(tile.core, ends, strict=True)
        )
        top, left = (s.start * stride for s in tile.inner)
        inner = x_hat_BCHW[
            ...,
            top : top + rows.stop - rows.start,
            left : left + columns.stop - columns.start,
        ].clamp(0, 1)
        # A decoded picture has 8 bits; the gradient passes through as if it had more.
        rounded = inner + ((inner * 255).round() / 255 - inner).detach()
        return rounded, self._x_BCHW[..., rows, columns]

    def _task(self, x_hat_BCHW: Tensor, wanted: Tensor, wanted_features: list[Tensor]) -> Tensor:
        assert self._networks.head is not None
        logits, features = self._see(self._networks.head, x_hat_BCHW)
        loss = self._objective.alpha * measures.divergence(logits, wanted)[0]
        if self._objective.features > 0 and features:
            error = measures.feature_error(features, wanted_features)[0]
            loss = loss + self._objective.features * error
        return loss

    def _see(self, head: nn.Module, x_BCHW: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return logits and features of a picture that is prepared as the task prepares it."""
        size = self._networks.input_size
        prepared = (
            self._whole(x_BCHW, size) if self._networks.segments else self._square(x_BCHW, size)
        )
        logits, features = look(head, prepared)
        return logits.main, features

    def _square(self, x_BCHW: Tensor, size: int) -> Tensor:
        """Scale a picture as `tactic_codec.picture.square` does.

        The same bicubic filter on the square in the middle, up to half a pixel beside it where the
        sides differ by an odd number, and without a step of 8 bits.
        """
        short = min(self.height, self.width)
        top, left = (self.height - short) // 2, (self.width - short) // 2
        x_BCHW = x_BCHW[..., top : top + short, left : left + short]
        return _resized(x_BCHW, (size, size))

    def _whole(self, x_BCHW: Tensor, size: int) -> Tensor:
        """Scale and pad a picture as `tactic_codec.tasks.segment` does."""
        height, width = image.scaled_size(self.height, self.width, size)
        x_BCHW = _resized(x_BCHW, (height, width))
        return F.pad(x_BCHW, (0, -width % WHOLE_SIDES, 0, -height % WHOLE_SIDES), mode="replicate")

    def _on_device(self, array: NDArray[np.uint8] | NDArray[np.float32]) -> Tensor:
        # A copy: what came from a file may be read-only, which torch warns of.
        return torch.from_numpy(array.copy()).to(self._device)


class Refiner:
    """Refines the symbols of pictures for one model. Several threads may use one at once."""

    def __init__(self, model: Model, device: str = "cpu", threads: int | None = None) -> None:
        """Load the synthesis network and, if there is one, the classifier, or else the segmenter.

        Args:
            model: the model folder.
            device: of torch: ``cpu`` or ``cuda``.
            threads: of torch; None leaves them as they are.

        Raises:
            DamagedModel: the networks cannot be built.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        self._model = model
        task = next((task for task in ("classify", "segment") if task in model.heads), None)
        self.networks = Networks(
            synthesis=load_network(model, "synthesis").requires_grad_(False).to(device),
            head=load_network(model, task).requires_grad_(False).to(device) if task else None,
            input_size=model.heads[task].input_size if task else 0,
            stride=model.stride,
            halo=model.halo,
            segments=task == "segment",
        )

    @memory.shortage_is_named()
    def refine(
        self,
        pixels: NDArray[np.uint8],
        latent: NDArray[np.float32],
        symbols: Symbols,
        level: int,
        effort: int,
        inside: NDArray[np.bool_] | None = None,
    ) -> Symbols:
        """Return symbols whose J is not above that of the given ones.

        Args:
            pixels: the picture, uint8 [H, W, 3].
            latent: as the analysis gave it, before gains, [C, h, w].
            symbols: the plain result of rounding it, int32 [C, h, w].
            level: the quality level.
            effort: 1 to 3.
            inside: the latent's positions of a region of interest, [h, w]; bits outside of it count
                `OUTSIDE` times.

        Raises:
            UnknownLevel: the model has no such level.
            DamagedModel: its tables are damaged.
            MemoryError: the search does not fit into memory; plain coding takes less.
        """
        coded = self._model.level(level)
        search = _Search(
            Judge(self.networks, pixels, coded.inverse_gain, coded.objective or UNKNOWN_OBJECTIVE),
            Prices(self._model.tables(level)),
            coded,
            symbols,
            np.where(True if inside is None else inside, np.float32(1), np.float32(OUTSIDE)),
        )
        gain_C11 = torch.from_numpy(coded.gain)[:, None, None]
        v_CHW = torch.from_numpy(latent) * gain_C11
        v_CHW = v_CHW.nan_to_num(0).clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)
        if inside is not None:  # from where symbols were left out
            start = torch.from_numpy(symbols).float()
            v_CHW = torch.where((v_CHW - start).abs() > 1, start, v_CHW)
        search.descend(v_CHW, STEPS[effort])
        return search.best


def rate_weight(distortion: float, bpp: float) -> float:
    """Return beta for a model that does not tell: the slope of a usual picture's own curve.

    At the low rates of such codecs a doubling of the rate is worth about 2 dB, that is L_D falls
    as bpp^(-2/3), and -dL_D/dbpp is 2/3 · L_D / bpp.
    """
    return 2 / 3 * distortion / bpp if bpp > 0 else 0.0


class _Search:
    """The best symbols so far for one picture, and the way to better ones."""

    def __init__(
        self,
        judge: Judge,
        prices: Prices,
        level: Level,
        plain: Symbols,
        weight: NDArray[np.float32],
    ) -> None:
        self._judge = judge
        self._weight = weight
        self._prices = prices
        self._area = judge.height * judge.width
        self.best = plain
        loss = judge.loss(_floats(plain))
        bpp = self._bits(plain) / self._area
        known = level.objective
        beta = known.beta if known else rate_weight(loss.distortion, bpp)
        self._bit = beta / self._area  # what a bit counts for in J
        self._least = loss.total + beta * bpp

    def descend(self, v_CHW: Tensor, steps: int) -> None:
        """Let Adam move the latent, and keep the best symbols on the way."""
        v_CHW = v_CHW.clone().requires_grad_()
        optimizer = torch.optim.Adam([v_CHW], LEARNING_RATE, BETAS)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, FINAL_LEARNING_RATE)
        for step in range(steps + 1):
            at = v_CHW.detach().numpy()
            symbols = np.rint(at).astype(np.int32)
            loss = self._judge.loss(_floats(symbols), gradient=step < steps)
            objective = loss.total + self._bit * self._bits(symbols)
            if objective < self._least:  # so written, NaN is never the best
                self.best, self._least = symbols, objective
            if loss.gradient is None:
                break
            moves = self._prices.moves(symbols)
            # Bits between two integers are taken as linear: the latent's side chooses the slope.
            bits = self._weight * np.where(at >= symbols, moves.up, -moves.down)
            v_CHW.grad = loss.gradient + self._bit * torch.from_numpy(bits)
            optimizer.step()
            schedule.step()
            v_CHW.data.clamp_(-SYMBOL_LIMIT, SYMBOL_LIMIT)

    def _bits(self, symbols: Symbols) -> float:
        return float((self._weight * self._prices.symbols(symbols)).sum(dtype=np.float64))


def _resized(x_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
    if x_BCHW.shape[-2:] == size:
        return x_BCHW
    return F.interpolate(x_BCHW, size=size, mode="bicubic", antialias=True).clamp(0, 1)


def _floats(symbols: Symbols) -> Tensor:
    return torch.from_numpy(symbols.astype(np.float32))
