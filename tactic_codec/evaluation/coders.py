"""Whatever turns a picture into bytes and back: models, and the codecs that people use instead.

Coder ─ code(square, setting) ─▶ bytes of the file, decoded square
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from importlib import metadata
from typing import Any, NamedTuple, Self

from tactic_codec import __version__
from tactic_codec import picture as image
from tactic_codec.codec import Codec
from tactic_codec.errors import ConfigError
from tactic_codec.picture import Pixels
from tactic_codec.rivals import LIBRARIES, Rival, Setting
from tactic_codec.tasks import Question

Identity = dict[str, Any]
"""What a measurement depends on beside the picture, as JSON."""


_OWN_LIBRARIES = frozenset(("onnxruntime", "torch", "tactic-codec"))
"""Of what models run on; versions of them, too, are told."""


class Coded(NamedTuple):
    """A picture's way through a coder: bytes of its file, and what comes back, uint8 [H, W, 3]."""

    bytes: int
    decoded: Pixels


class Coder(ABC):
    """Codes pictures at several settings; several threads may use one at once.

    Attributes:
        name: unique within an evaluation.
        kind: ``model``, ``codec`` or ``uncompressed``.
        settings: how files are made, for people.
        grid: the settings to measure, by rising rate.
        open_ended: whether to stop where files have become larger than anybody asked for.
        scale: what both sides of pictures are multiplied by before they are coded.
    """

    name: str
    kind: str
    settings: str
    grid: tuple[Setting, ...]
    open_ended: bool
    scale: float = 1

    @abstractmethod
    def code(self, pixels: Pixels, setting: Setting) -> Coded:
        """Code a picture, uint8 [H, W, 3], and decode its file.

        Raises:
            TacError: this coder cannot code it.
        """

    def at_scale(self, scale: float) -> Self:
        """Return the same coder for pictures of ``scale`` times their sides, above 0, at most 1."""
        other = copy(self)
        other.scale = scale
        return other

    @abstractmethod
    def identity(self, setting: Setting) -> Identity:
        """Return all that decides about the bytes and the decoded pixels of a picture."""

    def _scale_identity(self) -> Identity:
        return {} if self.scale == 1 else {"scale": self.scale}

    def describe(self) -> str:
        """Return how files are made and by which versions, for people."""
        facts = self.identity(self.grid[0])
        names = [name for name in facts if name in LIBRARIES | _OWN_LIBRARIES]
        return "; ".join([self.settings, *(f"{name} {facts[name]}" for name in sorted(names))])


# --- Models ---------------------------------------------------------------------------------------


class ModelCoder(Coder):
    """A model at its quality levels, as real frames."""

    kind = "model"
    open_ended = False

    def __init__(
        self, codec: Codec, device: str = "auto", *, name: str | None = None, effort: int = 0
    ) -> None:
        """Take every level of a model.

        Args:
            device: that the runtime was opened for; pixels may differ by a rounding between two.
            name: the model's own by default.
            effort: see `Codec.compress`.

        Raises:
            BackendUnavailable: effort above 0 needs torch, which is not installed.
        """
        if effort:
            _ = codec.refiner  # what is missing is said at once, not hours later
        self.codec = codec
        self.device = device
        self.effort = effort
        self.name = name or codec.model.name
        told = f"fingerprint {codec.model.fingerprint.hex()}, setting = quality level"
        self.settings = f"{told}, effort {effort}" if effort else told
        self.grid = tuple(range(1, len(codec.model.levels) + 1))

    def at(self, levels: tuple[Setting, ...]) -> "ModelCoder":
        """Return the same coder at other levels.

        Raises:
            ConfigError: a level is no whole number.
            UnknownLevel: the model does not have it.
        """
        for level in levels:
            if not isinstance(level, int):
                raise ConfigError(f"{self.name} has whole numbers as levels, not {level:g}")
            self.codec.model.level(level)
        other = copy(self)
        other.grid = tuple(int(level) for level in levels)
        return other

    def code(self, pixels: Pixels, setting: Setting) -> Coded:
        """Code a picture as one frame that keeps its size, see `Coder`."""
        effort, scale = self.effort, self.scale
        frame = self.codec.compress(pixels, int(setting), effort=effort, scale=scale).frame
        return Coded(frame.size, self.codec.decode(frame))

    def identity(self, setting: Setting) -> Identity:
        """Return level, fingerprint, the encoder and what runs it, see `Coder`."""
        manifest = self.codec.model.manifest
        analysis = self.codec.runtime.eight_bits.get("analysis", "analysis.onnx")
        identity = {
            "coder": "tactic",
            "level": int(setting),
            "fingerprint": self.codec.model.fingerprint.hex(),
            # The fingerprint leaves the encoder out, so that it can improve: here it counts.
            "encoder": _digest(manifest["encoder"]),
            "analysis": manifest["files"][analysis]["sha256"],
            **runtime_identity(self.device),
            **self._scale_identity(),
        }
        if self.effort:
            # It asks the networks as torch knows them, the classifier among them.
            weights = _digest(manifest["files"])
            torch = metadata.version("torch")
            identity |= {"effort": self.effort, "weights": weights, "torch": torch}
        return identity


def models_at(loaded: Mapping[str, Codec], device: str, efforts: Sequence[int]) -> list[ModelCoder]:
    """Return models at efforts, each a coder of its own.

    Args:
        loaded: by the name or folder that was given, which tells versions of one model apart.
        device: that their runtimes were opened for.
        efforts: see `Codec.compress`.

    Raises:
        BackendUnavailable: as `ModelCoder`.
    """
    titles = [codec.model.name for codec in loaded.values()]
    found = []
    for name, codec in loaded.items():
        own = codec.model.name
        title = own if titles.count(own) == 1 else f"{own} ({name})"
        for effort in dict.fromkeys(efforts):
            suffix = f" effort {effort}" if effort else ""
            found.append(ModelCoder(codec, device, name=title + suffix, effort=effort))
    return found


def answers_identity(task: Question[Any, Any], codec: Codec, device: str) -> Identity:
    """Return all that decides about the answers of who is asked, see `Question.witness`."""
    return {**task.witness(codec).identity, **runtime_identity(device)}


def runtime_identity(device: str) -> Identity:
    """Return what runs the networks of a device, with its version."""
    library = "torch" if device in ("cuda", "torch-cpu") else "onnxruntime"
    kind = "cpu" if device == "auto" else device  # but for 8-bit files, whose hashes count
    return {"device": kind, library: metadata.version(library), "tactic-codec": __version__}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class Uncompressed(Coder):
    """The picture itself, 24 bits a pixel: what every other row is measured against."""

    name = "uncompressed"
    kind = "uncompressed"
    settings = "8-bit RGB"
    grid = (0,)
    open_ended = False

    def code(self, pixels: Pixels, setting: Setting) -> Coded:
        """Give the picture back, see `Coder`."""
        return Coded(pixels.nbytes, pixels)

    def identity(self, setting: Setting) -> Identity:
        """Return the name, see `Coder`."""
        return {"coder": self.name}


# --- Other codecs ---------------------------------------------------------------------------------


class RivalCoder(Coder):
    """Another codec, at a grid of qualities; see `tactic_codec.rivals`."""

    kind = "codec"

    def __init__(self, rival: Rival, grid: tuple[Setting, ...] | None = None) -> None:
        """Take the codec's own grid, which is left where files become too large, or the caller's.

        Raises:
            ConfigError: one of the settings is none of the codec's.
        """
        low, high = rival.bounds
        for setting in grid or ():
            if not low <= setting <= high or (rival.whole and setting != int(setting)):
                kind = "whole numbers" if rival.whole else "numbers"
                raise ConfigError(
                    f"{rival.name} takes {kind} of {low:g} to {high:g}, not {setting:g}"
                )
        self.rival = rival
        self.name = rival.name
        self.settings = rival.settings
        self.open_ended = grid is None
        chosen = rival.grid if grid is None else grid
        self.grid = tuple(int(setting) if rival.whole else setting for setting in chosen)

    def at(self, grid: tuple[Setting, ...]) -> "RivalCoder":
        """Return the same codec at settings of the caller's choice; errors as `RivalCoder`."""
        return RivalCoder(self.rival, grid)

    def code(self, pixels: Pixels, setting: Setting) -> Coded:
        """Shrink as `Codec.compress` does, keep the smallest file, enlarge again, see `Coder`."""
        height, width, _ = pixels.shape
        shrunk = image.Shrink(scale=self.scale).of(image.Scaled(pixels, width, height)).pixels
        data = self.rival.encode(shrunk, setting)
        return Coded(len(data), image.enlarged(self.rival.decode(data), width, height))

    def identity(self, setting: Setting) -> Identity:
        """Return the options and the versions of what codes, see `Coder`."""
        return self.rival.identity(setting) | self._scale_identity()
