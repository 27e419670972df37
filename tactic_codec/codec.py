"""Compress and decompress: the order of the stages and nothing else.

pixels ─ pad ─ analysis, tile by tile ─ gain ─ round ─ (refine) ─ entropy coder ─ frame ─▶ bytes
bytes ─ frame ─ entropy decoder ─ inverse gain ─ synthesis, tile by tile ─ crop ─▶ pixels
"""

from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tactic_codec import container, entropy
from tactic_codec import model as models
from tactic_codec import picture as image
from tactic_codec.container import Frame
from tactic_codec.entropy import SYMBOL_LIMIT
from tactic_codec.errors import DamagedModel, LimitExceeded
from tactic_codec.model import PLAIN_OFFSET, Model
from tactic_codec.picture import Pixels
from tactic_codec.runtime import Runtime, open_runtime
from tactic_codec.tiling import tiles

if TYPE_CHECKING:
    from tactic_codec.refinement import Refiner

TILE = 384
"""Side of a tile's core in pixels: bounds the memory of networks, whatever the picture's size.

Larger tiles repeat fewer halos, smaller ones fit into caches: docs/decisions.md has the figures.
"""

HALOS_PER_TILE = 6
"""A core is at least so many halos wide, so that halos at most double the work: (8 / 6)² = 1.8."""

MAX_EFFORT = 3
"""What `Codec.compress` takes at most, see `tactic_codec.refinement`."""

Symbols = NDArray[np.int32]


class Codec:
    """A model with a runtime for its networks. Several threads may use one at once.

    Attributes:
        model: the model folder.
        runtime: runs its networks.
    """

    def __init__(self, model: Model, runtime: Runtime) -> None:
        self.model = model
        self.runtime = runtime

    def compress(
        self,
        picture: Image.Image | Pixels | Path | bytes,
        quality: int | None = None,
        effort: int = 0,
    ) -> bytes:
        """Code a picture as one frame.

        Args:
            picture: a Pillow image, uint8 [H, W, 3] in sRGB, the path of a picture file, or its
                bytes.
            quality: level of the model, 1 for the smallest files; by default the model's own.
            effort: 0 rounds latents; 1 to 3 search ever longer for symbols that cost fewer bits and
                show more, for people and for the model's own classifier: see
                `tactic_codec.refinement`, also on what another classifier sees of it.

        Returns:
            The frame, the content of a ``.tac`` file.

        Raises:
            ImageError: the picture cannot be read.
            LimitExceeded: it is too large.
            UnknownLevel: the model has no such level.
            BackendUnavailable: effort above 0 needs torch, which is not installed.
            ValueError: effort is not 0 to 3.
        """
        if not 0 <= effort <= MAX_EFFORT:
            raise ValueError(f"effort must be 0 to {MAX_EFFORT}, not {effort}")
        pixels = as_pixels(picture)
        level = self.model.default_level if quality is None else quality
        return self.code(pixels, self.analyse(pixels), level, effort)

    def code(
        self, pixels: Pixels, latent: NDArray[np.float32], level: int, effort: int = 0
    ) -> bytes:
        """Code a picture, uint8 [H, W, 3], whose latent is known; the rest as `compress`."""
        height, width, _ = pixels.shape
        symbols = self.quantise(latent, level)
        if effort:
            symbols = self.refiner.refine(pixels, latent, symbols, level, effort)
        payload = entropy.encode(symbols, self.model.tables(level))
        return container.pack(Frame(self.model.fingerprint, level, width, height, payload))

    @cached_property
    def refiner(self) -> "Refiner":
        """What makes an effort, loaded when it is first asked for.

        Raises:
            BackendUnavailable: torch is not installed.
            DamagedModel: the networks cannot be built.
        """
        from tactic_codec.refinement import Refiner

        return Refiner(self.model, self.runtime.torch_device, self.runtime.threads)

    def decompress(self, data: bytes | Frame, *, max_pixels: int | None = None) -> Image.Image:
        """Decode one frame to a Pillow image of mode RGB and of the original's size.

        Args:
            data: the frame, or its bytes.
            max_pixels: the largest picture that is read from bytes; by default 4.2 megapixels
                where the payload has up to 64 KiB, and 1024 more for each byte beyond.

        Raises:
            FormatError: the bytes are not one frame.
            LimitExceeded: the picture is larger than that.
            UnknownModel: the frame names another model.
            UnknownLevel: the frame names a level that the model does not have.
        """
        return image.to_pillow(self.decode(as_frame(data, max_pixels=max_pixels)))

    def decode(self, frame: Frame) -> Pixels:
        """Decode a frame to uint8 [H, W, 3]; errors as `decompress`."""
        return self.synthesise(self.symbols(frame), frame)

    def symbols(self, frame: Frame) -> Symbols:
        """Decode a frame's symbols, int32 [C, h, w], without a network; errors as `decompress`."""
        return self.model.decode_symbols(frame)

    def analyse(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return the latent of a picture (equation 2, E), float32 [C, h, w].

        Args:
            pixels: uint8 [H, W, 3].

        Raises:
            LimitExceeded: the picture is too large for a frame.
        """
        height, width, _ = pixels.shape
        if max(height, width) > container.MAX_SIDE:
            raise LimitExceeded(
                f"the picture is {width} x {height}; a .tac file holds at most "
                f"{container.MAX_SIDE} pixels a side: scale it down or cut it"
            )
        stride = self.model.stride
        padded = pad(pixels, stride)
        latent_height, latent_width = (side // stride for side in padded.shape[:2])
        latent = np.empty((self.model.channels, latent_height, latent_width), np.float32)
        for tile in tiles(latent_height, latent_width, size=self._tile, halo=self.model.halo):
            rows, columns = (slice(s.start * stride, s.stop * stride) for s in tile.padded)
            block = padded[rows, columns].transpose(2, 0, 1)
            x = np.divide(block[np.newaxis], 255, dtype=np.float32)
            y = self.runtime.run("analysis", x)
            expected = (1, self.model.channels, x.shape[2] // stride, x.shape[3] // stride)
            self._check_shape("analysis", x, y, expected)
            latent[:, *tile.core] = y[0][:, *tile.inner]
        return latent

    def quantise(self, latent: NDArray[np.float32], level: int) -> Symbols:
        """Round a latent [C, h, w] to symbols at a quality level (equation 6)."""
        coded = self.model.level(level)
        return quantise(latent, coded.gain, coded.offset)

    def synthesise(self, symbols: Symbols, frame: Frame) -> Pixels:
        """Return the picture of a frame's symbols (equation 2, D), uint8 [H, W, 3]."""
        stride = self.model.stride
        inverse_gain = self.model.level(frame.level).inverse_gain[:, np.newaxis, np.newaxis]
        _, latent_height, latent_width = symbols.shape
        pixels = np.empty((frame.height, frame.width, 3), np.uint8)
        for tile in tiles(latent_height, latent_width, size=self._tile, halo=self.model.halo):
            with np.errstate(over="ignore"):  # an escaped symbol times a large gain
                y_hat = symbols[np.newaxis, :, *tile.padded].astype(np.float32) * inverse_gain
            x_hat = self.runtime.run("synthesis", y_hat)
            expected = (1, 3, y_hat.shape[2] * stride, y_hat.shape[3] * stride)
            self._check_shape("synthesis", y_hat, x_hat, expected)
            # Clipped before it is scaled, which might overflow. NaN is none of the 256 values, and
            # casting it would warn: it becomes black.
            levels = np.nan_to_num(np.clip(x_hat[0], 0, 1)) * 255
            block = np.rint(levels).astype(np.uint8).transpose(1, 2, 0)
            rows, columns = (slice(s.start * stride, s.stop * stride) for s in tile.core)
            core = pixels[rows, columns]  # ends with the picture, where the latent goes on
            top, left = (s.start * stride for s in tile.inner)
            core[...] = block[top : top + core.shape[0], left : left + core.shape[1]]
        return pixels

    @property
    def _tile(self) -> int:
        """Side of a tile's core in latent positions."""
        return max(TILE // self.model.stride, HALOS_PER_TILE * self.model.halo)

    def _check_shape(
        self,
        network: str,
        array: NDArray[np.float32],
        result: NDArray[np.float32],
        expected: tuple[int, ...],
    ) -> None:
        if result.shape != expected:
            raise DamagedModel(
                f"the {network} network of {self.model.path} makes {list(result.shape)} of "
                f"{list(array.shape)}, expected {list(expected)}; install the model again"
            )


def quantise(latent: NDArray[np.float32], gain: NDArray[np.float32], offset: float) -> Symbols:
    """Round a latent to symbols, with a dead zone around zero where the offset is below 0.5.

    Magnitudes are rounded down unless their fraction reaches 1 - ``offset``: sign(v) · ⌊|v| +
    offset⌋ for v = latent · gain. Where v lies on the threshold the even neighbour is taken, so
    that 0.5 is IEEE rounding to nearest (equation 6) to the bit.

    Args:
        latent: [C, h, w].
        gain: [C].
        offset: above 0, at most 0.5.

    Returns:
        int32 [C, h, w], within ±2^20.
    """
    # A network may overflow on a picture unlike any other; the coder takes integers only.
    with np.errstate(over="ignore"):
        scaled = latent * gain[:, np.newaxis, np.newaxis]
    np.nan_to_num(scaled, copy=False, nan=0, posinf=SYMBOL_LIMIT, neginf=-SYMBOL_LIMIT)
    np.clip(scaled, -SYMBOL_LIMIT, SYMBOL_LIMIT, out=scaled)
    magnitudes = np.abs(scaled)
    magnitudes -= np.float32(PLAIN_OFFSET - offset)
    np.rint(magnitudes, out=magnitudes)
    symbols: Symbols = np.copysign(magnitudes, scaled).astype(np.int32)
    return symbols


def pad(pixels: Pixels, stride: int) -> Pixels:
    """Repeat a picture's right column and bottom row until the stride divides both sides."""
    height, width, _ = pixels.shape
    return np.pad(pixels, ((0, -height % stride), (0, -width % stride), (0, 0)), mode="edge")


def as_pixels(picture: Image.Image | Pixels | Path | bytes) -> Pixels:
    """Turn any of the forms that `Codec.compress` takes into uint8 [H, W, 3]."""
    if isinstance(picture, Image.Image):
        return image.from_pillow(picture)
    if isinstance(picture, Path | bytes):
        return image.load(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise ValueError(f"expected uint8 [H, W, 3], found {picture.dtype} {picture.shape}")
    return picture


def as_frame(data: bytes | Frame, *, max_pixels: int | None = None) -> Frame:
    """Parse bytes that are exactly one frame, within a limit; pass a frame through."""
    return data if isinstance(data, Frame) else container.parse(data, max_pixels=max_pixels)


def load_model(
    name: str | Path | None = None, *, device: str = "auto", threads: int | None = None
) -> Codec:
    """Load a model by name or by the path of its folder.

    Args:
        name: the default model if None.
        device: ``auto``, ``cpu``, ``cuda`` or ``torch-cpu``, see `tactic_codec.runtime`.
        threads: how many one network may use; by default as many as there are processors.

    Raises:
        UnknownModel: no such model is installed.
        DamagedModel: its manifest breaks a rule.
        BackendUnavailable: the device is not there.
    """
    model = models.find(models.DEFAULT_MODEL if name is None else name)
    return Codec(model, open_runtime(model, device, threads=threads))


@lru_cache(maxsize=8)
def load_model_of(fingerprint: bytes, *, device: str = "auto") -> Codec:
    """Load the installed model that a frame names; the last few stay loaded.

    Raises:
        UnknownModel: it is not installed.
    """
    model = models.find_fingerprint(fingerprint)
    return Codec(model, open_runtime(model, device))


def decompress(
    data: bytes | Frame, *, device: str = "auto", max_pixels: int | None = None
) -> Image.Image:
    """Decode one frame with the installed model that it names; the rest as `Codec.decompress`."""
    frame = as_frame(data, max_pixels=max_pixels)
    return load_model_of(frame.fingerprint, device=device).decompress(frame)
