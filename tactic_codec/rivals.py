"""Other codecs, each at its best: the one table of them, whoever compares.

    picture ─ Rival.encode at a quality ─▶ file ─ Rival.decode ─▶ picture
    picture, bytes ─ Rival.within ─▶ the highest quality whose file is no larger

Each is counted in its smallest honest file: without metadata and colour profile, at the most effort
that is affordable for thousands of pictures, the smallest of several ways to write the same pixels
where there are such. What was chosen stands in ``settings`` and so in every result;
docs/decisions.md has the reasons. The grids cover about 0.04 to 1.2 bpp on photographs of 224×224,
as far as the codec goes down.
"""

import importlib
import io
import sys
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np
from PIL import Image, features

from tactic_codec import picture as image
from tactic_codec.errors import BackendUnavailable, ConfigError, UnsupportedImage, needed
from tactic_codec.picture import Pixels

Setting = int | float
"""What a coder is turned by: a model's level, another codec's quality or compression ratio."""

USUAL = ("jpeg", "webp", "avif")
"""Those that every browser shows and Pillow has itself; their qualities are whole numbers."""


@dataclass(frozen=True)
class Rival:
    """A codec of Pillow or of one of its plugins.

    Attributes:
        name: for the command line: ``jpeg``.
        settings: how files are made, for people.
        grid: qualities, or compression ratios, that a curve is made of, by rising rate.
        bounds: the lowest and highest setting that the codec takes.
        pillow_name: of the format.
        options: what to hand to Pillow for a setting; of several ways the smallest file counts.
        plugin: the module that brings it to Pillow, None where Pillow has it itself.
        package: the distribution of that module.
        whole: whether settings are whole numbers, which then rise with the rate.
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

    @property
    def qualities(self) -> Sequence[Setting]:
        """All settings by rising rate; those of the grid where they are no whole numbers."""
        low, high = (int(bound) for bound in self.bounds)
        return range(low, high + 1) if self.whole else self.grid

    def unasked(self) -> "Rival":
        """Return the codec as Pillow writes it where only a quality is given: faster, larger."""
        return replace(
            self, settings="Pillow's own", options=lambda setting: ({"quality": setting},)
        )

    def check(self) -> None:
        """Make sure that the codec can be used here.

        Raises:
            BackendUnavailable: its plugin, or Pillow's support for it, is missing.
        """
        if self.plugin is not None:
            with needed(f"{self.name} needs {self.package}; run: pip install {self.package}"):
                module = importlib.import_module(self.plugin)
            register = getattr(module, "register_heif_opener", None)
            if register:  # other plugins do it when they are imported
                register()
        elif not features.check(_FEATURES[self.pillow_name]):
            raise BackendUnavailable(
                f"this Pillow was built without {self.name}; run: pip install --upgrade pillow"
            )

    def encode(self, pixels: Pixels, setting: Setting) -> bytes:
        """Return the file of a picture, uint8 [H, W, 3].

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

    def decode(self, data: bytes) -> Pixels:
        """Return the picture of a file that `encode` made, uint8 [H, W, 3]."""
        self.check()
        if self.plugin is None:
            return image.load(data, max_pixels=sys.maxsize)
        with Image.open(io.BytesIO(data), formats=[self.pillow_name]) as decoded:
            return np.asarray(decoded.convert("RGB"))

    def within(self, pixels: Pixels, budget: int) -> tuple[Setting, bytes]:
        """Return the highest quality whose file has at most so many bytes, and that file.

        Where even the lowest has more, those are the lowest and its file. Raises as `encode`.
        """

        @cache
        def file(setting: Setting) -> bytes:
            return self.encode(pixels, setting)

        fitting = bisect_right(self.qualities, budget, key=lambda setting: len(file(setting)))
        setting = self.qualities[max(fitting, 1) - 1]
        return setting, file(setting)

    def identity(self, setting: Setting) -> dict[str, Any]:
        """Return all that decides about a file and its pixels, as JSON: options and versions."""
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

LIBRARIES = frozenset(
    ("pillow", "pillow-heif", "pillow-jxl-plugin", "libheif", *_FEATURES.values())
)
"""What `Rival.identity` tells the versions of."""


_AVIF_LOW = 5
"""Qualities below this are tuned for SSIM, because otherwise libavif ends at 0.14 bpp."""


def _jpeg(quality: Setting) -> tuple[Mapping[str, Any], ...]:
    baseline = {"quality": quality, "optimize": True}
    return baseline, {**baseline, "progressive": True}


def _avif(quality: Setting) -> tuple[Mapping[str, Any], ...]:
    # One thread: bytes then do not depend on the machine, and pictures are coded side by side.
    options = {"quality": quality, "speed": 4, "max_threads": 1, "autotiling": False}
    return ({**options, "advanced": {"tune": "ssim"}} if quality < _AVIF_LOW else options,)


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


RIVALS = {
    codec.name: codec
    for codec in (
        Rival(
            name="jpeg",
            settings="4:2:0, optimised Huffman tables, baseline or progressive, the smaller",
            grid=(1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 30, 40, 55),
            bounds=(1, 100),
            pillow_name="JPEG",
            options=_jpeg,
        ),
        Rival(
            name="webp",
            settings="method 6",
            grid=(0, 1, 2, 4, 7, 12, 20, 32, 45, 60, 75),
            bounds=(0, 100),
            pillow_name="WEBP",
            options=lambda quality: ({"quality": quality, "method": 6},),
        ),
        Rival(
            name="avif",
            # Speed 4 against 0, 10 photographs of 224×224 at quality 20: 0.26 dB less at 1.4 %
            # fewer bytes, in a fifth of the time.
            settings=f"4:2:0, speed 4, libavif's own tuning, below quality {_AVIF_LOW} tune=ssim",
            grid=(0, 2, 4, 5, 8, 12, 17, 22, 28, 35, 43, 52, 62),
            bounds=(0, 100),
            pillow_name="AVIF",
            options=_avif,
        ),
        Rival(
            name="heic",
            settings="x265 by libheif, 4:2:0, its preset and tuning, no colour profile",
            grid=(0, 4, 8, 12, 16, 20, 25, 30, 36, 42, 48),
            bounds=(0, 100),
            pillow_name="HEIF",
            plugin="pillow_heif",
            package="pillow-heif",
            options=lambda quality: ({"quality": quality, "save_nclx_profile": False},),
        ),
        Rival(
            name="jpeg2000",
            settings="bare codestream, 9/7 wavelet, 5 resolutions; setting = compression ratio",
            grid=(480, 340, 250, 185, 140, 105, 80, 60, 45, 34, 26, 20),
            bounds=(1, 10_000),
            pillow_name="JPEG2000",
            whole=False,
            options=_jpeg_2000,
        ),
        Rival(
            name="jpegxl",
            settings="bare codestream, effort 9",
            grid=(0, 3, 6, 10, 15, 22, 30, 40, 50, 62, 75),
            bounds=(0, 99),
            pillow_name="JXL",
            plugin="pillow_jxl",
            package="pillow-jxl-plugin",
            options=lambda quality: ({"quality": quality, "effort": 9, "num_threads": 1},),
        ),
    )
}
"""The codecs that people use instead, by name."""


def rival(name: str) -> Rival:
    """Return a codec by its name.

    Raises:
        ConfigError: there is none of this name.
        BackendUnavailable: its plugin is missing.
    """
    if name not in RIVALS:
        raise ConfigError(f"no codec is called {name!r}; there are: {', '.join(RIVALS)}")
    RIVALS[name].check()
    return RIVALS[name]
