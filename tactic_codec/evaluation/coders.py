"""Whatever turns a picture into bytes and back: models, and the codecs that people use instead.

    Coder ─ code(square, setting) ─▶ bytes of the file, decoded square

Each conventional codec is counted in its smallest honest file: without metadata and colour profile,
at the most effort that is affordable for thousands of pictures, the smallest of several ways to
write the same pixels where there are such. What was chosen stands in ``settings`` and so in every
result. The qualities cover about 0.04 to 1.2 bpp on photographs of 224×224, as far as the codec
goes down.
"""

import hashlib
import importlib
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, features

from tactic_codec import __version__
from tactic_codec import picture as image
from tactic_codec.codec import Codec
from tactic_codec.errors import BackendUnavailable, ConfigError, UnsupportedImage
from tactic_codec.evaluation.curves import Setting
from tactic_codec.picture import Pixels

Identity = dict[str, Any]
"""What a measurement depends on beside the picture, as JSON."""


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
    """

    name: str
    kind: str
    settings: str
    grid: tuple[Setting, ...]
    open_ended: bool

    @abstractmethod
    def code(self, pixels: Pixels, setting: Setting) -> Coded:
        """Code a picture, uint8 [H, W, 3], and decode its file.

        Raises:
            TacError: this coder cannot code it.
        """

    @abstractmethod
    def identity(self, setting: Setting) -> Identity:
        """Return all that decides about the bytes and the decoded pixels of a picture."""

    def describe(self) -> str:
        """Return how files are made and by which versions, for people."""
        facts = self.identity(self.grid[0])
        names = [name for name in facts if name in _LIBRARIES]
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
            codec: the model with its runtime.
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
        other = ModelCoder(self.codec, self.device, name=self.name, effort=self.effort)
        other.grid = tuple(int(level) for level in levels)
        return other

    def code(self, pixels: Pixels, setting: Setting) -> Coded:
        """Code a picture as one frame, see `Coder`."""
        frame = self.codec.compress(pixels, int(setting), effort=self.effort).frame
        return Coded(frame.size, self.codec.decode(frame))

    def identity(self, setting: Setting) -> Identity:
        """Return level, fingerprint, the encoder and what runs it, see `Coder`."""
        manifest = self.codec.model.manifest
        identity = {
            "coder": "tactic",
            "level": int(setting),
            "fingerprint": self.codec.model.fingerprint.hex(),
            # The fingerprint leaves the encoder out, so that it can improve: here it counts.
            "encoder": _digest(manifest["encoder"]),
            "analysis": manifest["files"]["analysis.onnx"]["sha256"],
            **runtime_identity(self.device),
        }
        if self.effort:
            # It asks the networks as torch knows them, the classifier among them.
            weights = manifest["files"]["weights.safetensors"]["sha256"]
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


def head_identity(codec: Codec, device: str = "auto", task: str = "classify") -> Identity:
    """Return all that decides about the answers of a model's task network.

    Raises:
        UnknownTask: the model has none for this task.
    """
    head = codec.model.head(task)
    return {
        "head": codec.model.manifest["files"][head.file]["sha256"],
        "input_size": head.input_size,
        **runtime_identity(device),
    }


def runtime_identity(device: str) -> Identity:
    """Return what runs the networks of a device, with its version."""
    library = "onnxruntime" if device in ("auto", "cpu") else "torch"
    kind = "cpu" if device == "auto" else device
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


@dataclass(frozen=True)
class Conventional(Coder):
    """A codec of Pillow or of one of its plugins, at a grid of qualities.

    Attributes:
        name: for the command line: ``jpeg``.
        settings: how files are made, for people.
        grid: qualities, or compression ratios, by rising rate.
        open_ended: see `Coder`; false where the caller chose the grid.
        bounds: the lowest and highest setting that the codec takes.
        whole: whether settings are whole numbers.
        pillow_name: of the format.
        plugin: the module that brings it to Pillow, None where Pillow has it itself.
        package: the distribution of that module.
        options: what to hand to Pillow for a setting; of several ways the smallest file counts.
    """

    name: str
    settings: str
    grid: tuple[Setting, ...]
    bounds: tuple[float, float]
    pillow_name: str
    options: Callable[[Setting], tuple[Mapping[str, Any], ...]]
    plugin: str | None = None
    package: str | None = None
    whole: bool = True
    open_ended: bool = True
    kind: str = "codec"

    def at(self, grid: tuple[Setting, ...]) -> "Conventional":
        """Return the same codec at settings of the caller's choice.

        Raises:
            ConfigError: one of them is none of the codec's.
        """
        low, high = self.bounds
        for setting in grid:
            if not low <= setting <= high or (self.whole and setting != int(setting)):
                kind = "whole numbers" if self.whole else "numbers"
                raise ConfigError(
                    f"{self.name} takes {kind} of {low:g} to {high:g}, not {setting:g}"
                )
        chosen = tuple(int(setting) if self.whole else setting for setting in grid)
        return replace(self, grid=chosen, open_ended=False)

    def check(self) -> None:
        """Make sure that the codec can be used here.

        Raises:
            BackendUnavailable: its plugin, or Pillow's support for it, is missing.
        """
        if self.plugin is not None:
            _register(
                self.plugin, f"{self.name} needs {self.package}; run: pip install {self.package}"
            )
        elif not features.check(_FEATURES[self.pillow_name]):
            raise BackendUnavailable(
                f"this Pillow was built without {self.name}; run: pip install --upgrade pillow"
            )

    def code(self, pixels: Pixels, setting: Setting) -> Coded:
        """Code a picture in each of the ways and keep the smallest file, see `Coder`."""
        data = self.encode(pixels, setting)
        with Image.open(io.BytesIO(data), formats=[self.pillow_name]) as decoded:
            return Coded(len(data), np.asarray(decoded.convert("RGB")))

    def encode(self, pixels: Pixels, setting: Setting) -> bytes:
        """Return the file of a picture.

        Raises:
            BackendUnavailable: as `check`.
            UnsupportedImage: the codec cannot hold it.
        """
        self.check()
        picture = image.to_pillow(pixels)
        files = []
        for options in self.options(setting):
            stream = io.BytesIO()
            try:
                picture.save(stream, self.pillow_name, **options)
            except (OSError, ValueError, RuntimeError) as exc:
                raise UnsupportedImage(
                    f"{self.name} at {setting:g} cannot hold a picture of {picture.width} x "
                    f"{picture.height} pixels: {exc}"
                ) from exc
            files.append(stream.getvalue())
        return min(files, key=len)

    def identity(self, setting: Setting) -> Identity:
        """Return the options and the versions of what codes, see `Coder`."""
        versions = {"pillow": metadata.version("pillow")}
        if self.package is None:
            library = _FEATURES[self.pillow_name]
            versions[library] = str(features.version(library))
        else:
            versions[self.package] = metadata.version(self.package)
            if self.plugin == "pillow_heif":
                import pillow_heif

                versions["libheif"] = pillow_heif.libheif_version()
        options = [dict(sorted(option.items())) for option in self.options(setting)]
        return {"coder": self.name, "options": options, **versions}


_FEATURES = {"JPEG": "jpg", "WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}
"""Pillow's names of the libraries that it was built with."""

_LIBRARIES = {
    *("onnxruntime", "torch", "tactic-codec", "pillow", "pillow-heif", "pillow-jxl-plugin"),
    *("libheif", *_FEATURES.values()),
}
"""What versions are told of."""


@cache
def _register(plugin: str, complaint: str) -> None:
    """Import a plugin of Pillow, once, which makes it known to Pillow."""
    try:
        module = importlib.import_module(plugin)
    except ImportError as exc:
        raise BackendUnavailable(complaint) from exc
    register = getattr(module, "register_heif_opener", None)
    if register:  # other plugins do it when they are imported
        register()


_AVIF_LOW = 5
"""Qualities below this are tuned for SSIM, because otherwise libavif ends at 0.14 bpp."""


def _jpeg(quality: Setting) -> tuple[Mapping[str, Any], ...]:
    baseline = {"quality": quality, "optimize": True}
    return baseline, {**baseline, "progressive": True}


def _webp(quality: Setting) -> tuple[Mapping[str, Any], ...]:
    return ({"quality": quality, "method": 6},)


def _avif(quality: Setting) -> tuple[Mapping[str, Any], ...]:
    # One thread: bytes then do not depend on the machine, and pictures are coded side by side.
    options = {"quality": quality, "speed": 4, "max_threads": 1, "autotiling": False}
    return ({**options, "advanced": {"tune": "ssim"}} if quality < _AVIF_LOW else options,)


def _heic(quality: Setting) -> tuple[Mapping[str, Any], ...]:
    return ({"quality": quality, "save_nclx_profile": False},)


def _jpeg_2000(ratio: Setting) -> tuple[Mapping[str, Any], ...]:
    options = {
        "quality_mode": "rates",
        "quality_layers": [ratio],
        "irreversible": True,
        # Pillow's default codes R, G and B apart, which costs 3 dB.
        "mct": 1,
        "no_jp2": True,
        "num_resolutions": 5,
        # Without one, OpenJPEG writes its name and version, 33 bytes.
        "comment": "\0",
    }
    return (options,)


def _jpeg_xl(quality: Setting) -> tuple[Mapping[str, Any], ...]:
    return ({"quality": quality, "effort": 9, "num_threads": 1},)


CONVENTIONAL = {
    codec.name: codec
    for codec in (
        Conventional(
            name="jpeg",
            settings="4:2:0, optimised Huffman tables, baseline or progressive, the smaller",
            grid=(1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 30, 40, 55),
            bounds=(1, 100),
            pillow_name="JPEG",
            options=_jpeg,
        ),
        Conventional(
            name="webp",
            settings="method 6",
            grid=(0, 1, 2, 4, 7, 12, 20, 32, 45, 60, 75),
            bounds=(0, 100),
            pillow_name="WEBP",
            options=_webp,
        ),
        Conventional(
            name="avif",
            # Speed 4 against 0, 10 photographs of 224×224 at quality 20: 0.26 dB less at 1.4 %
            # fewer bytes, in a fifth of the time.
            settings=f"4:2:0, speed 4, libavif's own tuning, below quality {_AVIF_LOW} tune=ssim",
            grid=(0, 2, 4, 5, 8, 12, 17, 22, 28, 35, 43, 52, 62),
            bounds=(0, 100),
            pillow_name="AVIF",
            options=_avif,
        ),
        Conventional(
            name="heic",
            settings="x265 by libheif, 4:2:0, its preset and tuning, no colour profile",
            grid=(0, 4, 8, 12, 16, 20, 25, 30, 36, 42, 48),
            bounds=(0, 100),
            pillow_name="HEIF",
            plugin="pillow_heif",
            package="pillow-heif",
            options=_heic,
        ),
        Conventional(
            name="jpeg2000",
            settings="bare codestream, 9/7 wavelet, 5 resolutions; setting = compression ratio",
            grid=(480, 340, 250, 185, 140, 105, 80, 60, 45, 34, 26, 20),
            bounds=(1, 10_000),
            pillow_name="JPEG2000",
            whole=False,
            options=_jpeg_2000,
        ),
        Conventional(
            name="jpegxl",
            settings="bare codestream, effort 9",
            grid=(0, 3, 6, 10, 15, 22, 30, 40, 50, 62, 75),
            bounds=(0, 99),
            pillow_name="JXL",
            plugin="pillow_jxl",
            package="pillow-jxl-plugin",
            options=_jpeg_xl,
        ),
    )
}
"""The codecs that people use instead, by name."""


def conventional(name: str) -> Conventional:
    """Return a codec by its name.

    Raises:
        ConfigError: there is none of this name.
        BackendUnavailable: its plugin is missing.
    """
    if name not in CONVENTIONAL:
        raise ConfigError(f"no codec is called {name!r}; there are: {', '.join(CONVENTIONAL)}")
    CONVENTIONAL[name].check()
    return CONVENTIONAL[name]
