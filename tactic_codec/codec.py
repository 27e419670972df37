"""Compress and decompress: the order of the stages, and the quality level that a picture needs.

pixels ─ (shrink) ─ pad ─ analysis, tile by tile ─ gain ─ round ─ (refine) ─ entropy coder ─▶ Frame
Frame ─ entropy decoder ─ inverse gain ─ synthesis, tile by tile ─ crop ─ (enlarge) ─▶ pixels

Where the level is to follow from the picture, analysis runs once and the rest once a level:

    level ─▶ frame ─ small enough?
      ▲        └ synthesis ─ classifier ─ the class of the picture itself?
      └──────── another level, where not ┘

Inside everything is a `Frame`. Bytes are made of it, and it is made of bytes, at the door alone:
`Compressed.data` and `as_frame`.
"""

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tactic_codec import atomic, boxes, container, entropy
from tactic_codec import model as models
from tactic_codec import picture as image
from tactic_codec.container import Frame
from tactic_codec.entropy import SYMBOL_LIMIT, Symbols
from tactic_codec.errors import (
    DamagedModel,
    LimitExceeded,
    NotATacFile,
    TargetMissed,
    Truncated,
    real_number,
    whole_number,
)
from tactic_codec.model import PLAIN_OFFSET, WHOLE_SIDES, Model, Point
from tactic_codec.picture import WHITE, WHOLE, Colour, Picture, Pixels, Scaled, Shrink, Strips
from tactic_codec.runtime import Runtime, Tile, open_runtime, tiles

if TYPE_CHECKING:
    from tactic_codec.refinement import Refiner

TILE = 384
"""Side of a tile's core in pixels: bounds the memory of networks, whatever the picture's size.

Larger tiles repeat fewer halos, smaller ones fit into caches: docs/decisions.md has the figures.
"""

HALOS_PER_TILE = {"analysis": 6, "synthesis": 5}
"""A core is at least so many halos wide, so that halos at most double the work: (8 / 6)² = 1.8. One
less for a synthesis, which takes more memory, and spares the halo most of the work."""

WITH_HALOS = {"analysis": 960, "synthesis": 896}
"""Side of a tile with its halos in pixels, at most, unless the core is `TILE`: memory goes before
work where the halos of a deep network are wide."""

_QUANTISED = 1 << 18
"""Numbers that are rounded at once."""

OUTSIDE_PRICE = 1.0
"""What a bit is worth outside of a region of interest, as a squared error of symbols. Levels round
as if it were worth ln 2 / 6 = 0.12 there: the slope of rate and distortion of fine, even steps."""

MAX_EFFORT = 3
"""What `Codec.compress` takes at most, see `tactic_codec.refinement`."""

Coded: TypeAlias = (
    "Compressed | Frame | bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO"
)
"""One coded picture: its frame, the bytes of that, the path of its file, or that file open for
reading in binary mode."""


@dataclass(frozen=True, repr=False)
class Compressed:
    """A coded picture: its frame, the bytes of its ``.tac`` file, and what is known of it.

    Attributes:
        frame: what the file says.
        model: name of the model that made it and decodes it.
        label_kept: whether the model's classifier sees in the file what it sees in the picture;
            None where nobody asked.
        boxes_kept: likewise whether its detector finds the same boxes, see `Codec.compress`.
    """

    frame: Frame
    model: str
    label_kept: bool | None = None
    boxes_kept: bool | None = None

    @cached_property
    def data(self) -> bytes:
        """The content of the ``.tac`` file."""
        return container.pack(self.frame)

    @property
    def level(self) -> int:
        """The quality level, 1 for the smallest files."""
        return self.frame.level

    @property
    def width(self) -> int:
        """Of the picture, in pixels."""
        return self.frame.width

    @property
    def height(self) -> int:
        """Of the picture, in pixels."""
        return self.frame.height

    @property
    def coded_width(self) -> int:
        """Of what was coded, in pixels; smaller where the picture was scaled."""
        return self.frame.coded_width

    @property
    def coded_height(self) -> int:
        """Of what was coded, in pixels; smaller where the picture was scaled."""
        return self.frame.coded_height

    @property
    def bpp(self) -> float:
        """Bits a pixel: 8 × bytes of the file ÷ (width × height)."""
        return self.frame.bpp

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all; what is there is replaced.

        Raises:
            OSError: it cannot be written.
        """
        atomic.write(path, self.data)

    def __bytes__(self) -> bytes:
        """Return ``data``."""
        return self.data

    def __repr__(self) -> str:
        """Tell the facts, without the bytes."""
        told = {"label_kept": self.label_kept, "boxes_kept": self.boxes_kept}
        kept = "".join(f", {name}={kept}" for name, kept in told.items() if kept is not None)
        return (
            f"<Compressed {self.width} x {self.height}: {self.frame.size} bytes, {self.bpp:.4f} "
            f"bpp, level {self.level} of {self.model}{kept}>"
        )


class Codec:
    """A model with a runtime for its networks. Several threads may use one at once.

    It outlives fork. It is pickled and copied as what `load_model` was asked for: whoever unpickles
    it needs the model's folder at the same place.

    Attributes:
        model: the model folder.
        runtime: runs its networks.
    """

    def __init__(self, model: Model, runtime: Runtime) -> None:
        self.model = model
        self.runtime = runtime

    def __reduce__(self) -> "tuple[Callable[..., Codec], tuple[Path]]":
        load = partial(load_model, device=self.runtime.device, threads=self.runtime.threads)
        return load, (self.model.path,)

    def __repr__(self) -> str:
        """Tell the model's name, fingerprint, levels and tasks."""
        model = self.model
        facts = [f"fingerprint {model.fingerprint.hex()}", f"levels 1 to {len(model.levels)}"]
        return f"<Codec {model.name}: {', '.join([*facts, *model.heads])}>"

    def compress(
        self,
        picture: Picture,
        level: int | None = None,
        *,
        max_bytes: int | None = None,
        keep_label: bool = False,
        keep_boxes: bool = False,
        effort: int = 0,
        max_side: int | None = None,
        scale: float | Literal["auto"] = 1,
        background: str | Colour = WHITE,
        keep_metadata: bool = False,
        roi: NDArray[np.generic] | None = None,
    ) -> Compressed:
        """Code a picture as one frame, at a level or at the one that reaches a target.

        With ``max_bytes`` alone that is the highest level whose file is small enough, found by
        bisection. With ``keep_label`` it is the lowest level at which the model's own classifier
        finds the same class most likely as in the picture itself; from the first level on each is
        decoded and classified. Where none keeps it, the highest is taken. ``keep_boxes`` asks the
        model's own detector likewise: its boxes with a score of at least 0.4, in the file and in
        the picture itself, must have an F1 of at least 0.9 (same class, overlap at least a half).

        Args:
            picture: a Pillow image, an array, a picture file's path, its bytes, or the file itself,
                opened: see `tactic_codec.picture.read`.
            level: of the model, 1 for the smallest files; by default the model's own.
            max_bytes: of the whole file.
            keep_label: see above; with ``max_bytes`` of the levels that are small enough.
            keep_boxes: likewise; with ``keep_label`` both are kept.
            effort: 0 rounds latents; 1 to 3 search ever longer for symbols that cost fewer bits and
                show more, for people and for the model's own classifier, at each level that is
                tried: see `tactic_codec.refinement`, also on what another classifier sees of it.
            max_side: pixels of the longer side at which the picture is coded, where it has more.
                The frame keeps its own size, to which it is decoded.
            scale: likewise what both sides are multiplied by, above 0 and at most 1. With "auto"
                and a target, scales and levels are tried together: those that are better than all
                of fewer bits, as measured at the model's export. ``max_bytes`` takes the best
                one whose file is small enough, ``keep_label`` the first that keeps the label, and
                ``keep_boxes`` the first that keeps the boxes.
            background: the colour that transparent pixels are laid on, as "#808080" or (r, g, b).
            keep_metadata: whether the frame keeps EXIF, XMP and the colour profile of the picture,
                with their bytes, which count for ``max_bytes``. EXIF and XMP then say upright.
            roi: a region of interest, [height, width] of the picture turned upright, not 0 inside.
                Outside symbols are left out that show less than they cost, so that a level's file
                is smaller, and one of so many bytes has a higher level and more bits inside. Blocks
                that the region touches are inside.

        Raises:
            TypeError: what is given is no picture in any of these forms, no number, or neither True
                nor False.
            ImageError: the picture cannot be read.
            LimitExceeded: it is too large.
            UnknownLevel: the model has no such level.
            TargetMissed: no level's file is small enough.
            UnknownTask: the model has no classifier or detector, and a target needs it.
            UnmeasuredModel: ``scale`` is "auto", and the model has measured none.
            BackendUnavailable: effort above 0 needs torch, which is not installed.
            ValueError: effort is not 0 to 3, ``max_bytes`` or ``max_side`` is below 1, ``scale`` is
                not above 0 and at most 1, or "auto" without a target, there is a level and a
                target, ``background`` is no colour, or ``roi`` no region of this picture.
        """
        keep_label = _truth_value("keep_label", keep_label)
        keep_boxes = _truth_value("keep_boxes", keep_boxes)
        keep_metadata = _truth_value("keep_metadata", keep_metadata)
        effort = whole_number("effort", effort)
        if not 0 <= effort <= MAX_EFFORT:
            raise ValueError(f"effort must be 0 to {MAX_EFFORT}, not {effort}")
        kept = "detect" if keep_boxes else "classify" if keep_label else None
        targets = kept is not None or max_bytes is not None
        if level is not None and targets:
            raise ValueError("give a level, or let max_bytes, keep_label or keep_boxes choose it")
        level = self.model.default_level if level is None else whole_number("level", level)
        self.model.level(level)
        if max_bytes is not None:
            max_bytes = whole_number("max_bytes", max_bytes, 1)
        if max_side is not None:
            max_side = whole_number("max_side", max_side, 1)
        if isinstance(scale, str) and scale == "auto":
            if not targets:
                raise ValueError("scale 'auto' goes with max_bytes, keep_label or keep_boxes")
            points = self.model.front(kept)
        else:
            scale = real_number("scale", scale)
            if not 0 < scale <= 1:
                raise ValueError(f"scale must be above 0 and at most 1, or 'auto', not {scale}")
            levels = range(1, len(self.model.levels) + 1) if targets else (level,)
            points = [Point(scale, number) for number in levels]
        # Label and boxes are those of the whole picture.
        early = WHOLE if kept or scale == "auto" else Shrink(max_side, points[0].scale)
        given = image.read(picture, background=background, shrink=early)
        columns, rows = Shrink(max_side, points[0].scale).size(given.width, given.height)
        self._open_ahead("analysis", rows, columns)
        self.model.tables(level)  # meanwhile
        metadata = image.mended(given.metadata) if keep_metadata else image.Metadata()
        given = given._replace(metadata=metadata)
        if max(given.width, given.height) > container.MAX_SIDE:
            raise LimitExceeded(
                f"the picture is {given.width} x {given.height}; a .tac file holds at most "
                f"{container.MAX_SIDE} pixels a side: scale it down or cut it"
            )

        if roi is not None:
            roi = np.asarray(roi)
            if roi.shape != (given.height, given.width) or roi.dtype.kind not in "biu":
                raise ValueError(
                    f"roi must be bool [{given.height}, {given.width}], as high and wide as the "
                    f"upright picture, not {roi.dtype} {list(roi.shape)}"
                )

        if not targets:
            shrunk = Shrink(max_side, points[0].scale).of(given)
            latent = self.analyse(shrunk.pixels, None if effort or roi is not None else level)
            frame, _ = self.code(shrunk, latent, level, effort, roi)
            return Compressed(frame, self.model.name)

        @cache
        def analysed(scale: float) -> tuple[Scaled, NDArray[np.float32]]:
            shrunk = Shrink(max_side, scale).of(given)
            return shrunk, self.analyse(shrunk.pixels)

        @cache
        def coded(place: int) -> tuple[Frame, Symbols]:
            point = points[place]
            return self.code(*analysed(point.scale), point.level, effort, roi)

        # A file keeps what it shows for whoever reads it, in 8 bits or not.
        readers = [self, self.reference] if self.runtime.eight_bits else [self]
        keeps: dict[str, tuple[str, list[Callable[[Pixels], bool]]]] = {}
        if keep_label:
            keeps["label_kept"] = "classify", [reader._keeps_label(given) for reader in readers]
        if keep_boxes:
            keeps["boxes_kept"] = "detect", [reader._keeps_boxes(given) for reader in readers]
        last = self._last(lambda place: coded(place)[0], len(points), max_bytes)
        found: dict[str, bool] = {}
        for place in range(last + 1) if keeps else ():
            frame, symbols = coded(place)
            if max_bytes is not None and frame.size > max_bytes:
                continue
            decoded: dict[int, Pixels] | None = {} if len(keeps) > 1 else None
            for name, (task, tests) in keeps.items():
                seen = self.reference.look(frame, task, symbols, decoded)
                found[name] = all(kept(seen) for kept in tests)
            if all(found.values()):
                break
        else:
            frame = coded(last)[0]
        return Compressed(frame, self.model.name, **found)

    def _keeps_label(self, given: Scaled) -> Callable[[Pixels], bool]:
        """Return what tells whether a decoded picture has the class of a whole one."""
        label = self.most_likely(given.pixels)
        return lambda decoded: self.most_likely(decoded) == label

    def _keeps_boxes(self, given: Scaled) -> Callable[[Pixels], bool]:
        """Return what tells whether a decoded picture shows the boxes of a whole one."""
        before = boxes.certain(self.boxes(given.pixels))

        def kept(decoded: Pixels) -> bool:
            height, width, _ = decoded.shape
            after = boxes.resized(self.boxes(decoded), given.width / width, given.height / height)
            return boxes.shared(before, boxes.certain(after)).f1 >= boxes.KEPT

        return kept

    def _last(self, coded: Callable[[int], Frame], count: int, max_bytes: int | None) -> int:
        """Return the last of some points, of ever larger files, whose file is small enough."""
        if max_bytes is None:
            return count - 1
        # By bisection. Where one's file is not larger, the answer still is small enough.
        found = bisect_right(range(count), max_bytes, key=lambda place: coded(place).size)
        if not found:
            frame = coded(0)
            raise TargetMissed(
                f"this picture has {frame.size} bytes at level {frame.level} of model "
                f"{self.model.name}, expected at most {max_bytes}: allow more, or code it "
                "smaller, by a scale or by the longest side"
            )
        return found - 1

    def code(
        self,
        picture: Scaled,
        latent: NDArray[Any],
        level: int,
        effort: int = 0,
        roi: NDArray[np.generic] | None = None,
    ) -> tuple[Frame, Symbols]:
        """Code a picture whose latent is known, with its metadata; errors as `compress`.

        Args:
            picture: what is coded, and the size of the picture itself.
            latent: of it, see `analyse`; rounded at this level, if neither effort nor region is
                asked for.
            level: of the model.
            effort: see `compress`.
            roi: likewise.

        Returns:
            The frame, and the symbols that it holds, integers [C, h, w].
        """
        pixels, width, height, metadata = picture
        inside = None
        if roi is not None:
            stride, (rows, columns, _) = self.model.stride, pixels.shape
            sides = stride * width / columns, stride * height / rows
            inside = image.covered(roi != 0, (latent.shape[1], latent.shape[2]), sides) > 0
        rounded = latent.dtype.kind == "i"
        symbols = latent if rounded else self.quantise(latent, level, inside)
        if effort:
            symbols = self.refiner.refine(pixels, latent, symbols, level, effort, inside)
        payload = entropy.encode(symbols, self.model.tables(level))
        coded = pixels.shape[1], pixels.shape[0]
        scaled_to = None if coded == (width, height) else coded
        found = ((kind, getattr(metadata, name)) for kind, name in container.METADATA.items())
        sections = tuple((kind, data) for kind, data in found if data)
        frame = Frame(self.model.fingerprint, level, width, height, payload, scaled_to, sections)
        return frame, symbols

    @property
    def arithmetic(self) -> str:
        """What networks compute with here, for people."""
        eight_bits = ", ".join(self.runtime.eight_bits)
        return f"in 8-bit integers: {eight_bits}" if eight_bits else "all in single precision"

    @property
    def reference(self) -> "Codec":
        """The same model with all networks in single precision: what every reader has."""
        eight_bits = self.runtime.eight_bits
        return _codec(self.model, "cpu", self.runtime.threads) if eight_bits else self

    @cached_property
    def refiner(self) -> "Refiner":
        """What makes an effort, loaded when it is first asked for.

        Raises:
            BackendUnavailable: torch is not installed.
            DamagedModel: the networks cannot be built.
        """
        from tactic_codec.refinement import Refiner

        return Refiner(self.model, self.runtime.torch_device, self.runtime.threads)

    def decompress(
        self, data: Coded, *, max_pixels: int | None = None, coded_size: bool = False
    ) -> Image.Image:
        """Decode one frame to a Pillow image of mode RGB and of the original's size, in sRGB.

        Its ``info`` has the "exif" and "xmp" that the frame keeps.

        Args:
            data: the frame, its bytes (or a bytearray or memoryview), the path of its file, or the
                file, open for reading in binary mode.
            max_pixels: the largest picture that is read from bytes; by default 4.2 megapixels
                where the payload has up to 64 KiB, and 1024 more for each byte beyond; more where
                it was coded at a smaller size.
            coded_size: whether it stays at the size that was coded.

        Raises:
            FormatError: the bytes are not one frame.
            LimitExceeded: the picture is larger than that.
            UnknownModel: the frame names another model.
            UnknownLevel: the frame names a level that the model does not have.
            OutOfMemory, OutOfThreads: the network cannot run for want of them.
            OSError: the file cannot be read.
            TypeError: ``data`` is none of these, or ``coded_size`` neither True nor False.
        """
        frame = as_frame(data, max_pixels=max_pixels)
        picture = image.to_pillow(self.decode(frame, coded_size=coded_size))
        picture.info.update(image.shown(image.mended(image.Metadata(**frame.metadata))))
        return picture

    def decode(
        self, frame: Frame, symbols: Symbols | None = None, *, coded_size: bool = False
    ) -> Pixels:
        """Decode a frame, whose symbols may be known, to uint8 [H, W, 3]; see `decompress`."""
        return self.decode_strips(frame, symbols, coded_size=coded_size).whole()

    def decode_strips(
        self, frame: Frame, symbols: Symbols | None = None, *, coded_size: bool = False
    ) -> Strips:
        """Decode the symbols of a frame, and its picture as rows are asked for; see `decode`."""
        coded_size = _truth_value("coded_size", coded_size)
        symbols = self._symbols(frame) if symbols is None else symbols
        strips = self.strips(symbols, frame)
        return strips if coded_size else image.enlarging(strips, frame.width, frame.height)

    def analyse(self, pixels: Pixels, level: int | None = None) -> NDArray[Any]:
        """Return the latent of a picture (equation 2, E), float32 [C, h, w].

        Args:
            pixels: uint8 [H, W, 3].
            level: if given, the latent is rounded tile by tile, see `quantise`, to integers of as
                few bytes as hold all.
        """
        stride = self.model.stride
        height, width = models.latent_size(pixels.shape[0], pixels.shape[1], stride)
        kind = np.float32 if level is None else np.int8
        latent: NDArray[Any] = np.empty((self.model.channels, height, width), kind)
        cuts = self._tiles("analysis", height, width)

        def analysed(tile: Tile) -> NDArray[Any]:
            rows, columns = _times(tile.padded, stride)
            x = image.network_input(pad(pixels[rows, columns], stride))  # a copy of few pixels
            core = self._core("analysis", x, tile, cuts)
            return core if level is None else self.quantise(core, level)

        for tile in cuts:
            core = analysed(tile)
            if level is not None:
                lowest = np.min_scalar_type(min(int(core.min()), ~int(core.max())))
                latent = latent.astype(np.promote_types(latent.dtype, lowest), copy=False)
            latent[:, *tile.core] = core
        return latent

    def quantise(
        self, latent: NDArray[np.float32], level: int, inside: NDArray[np.bool_] | None = None
    ) -> Symbols:
        """Round a latent [C, h, w] to symbols, int32, at a quality level (equation 6).

        Where ``inside`` [h, w] is false, symbols move towards zero by one step or two where that
        saves bits that are worth more, at `OUTSIDE_PRICE` each, than the error that it adds.
        """
        coded = self.model.level(level)
        symbols = quantise(latent, coded.gain, coded.offset)
        if inside is None:
            return symbols
        price = np.where(inside, np.float32(0), np.float32(OUTSIDE_PRICE))
        prices = entropy.Prices(self.model.tables(level))
        return prices.thinned(symbols, gained(latent, coded.gain), price)

    def look(
        self,
        frame: Frame,
        task: str,
        symbols: Symbols | None = None,
        decoded: dict[int, Pixels] | None = None,
    ) -> Pixels:
        """Decode of a frame what one of the model's task networks looks at.

        Args:
            frame: the frame.
            task: of the network; for "segment", which gives each pixel a class, all is decoded.
            symbols: of the frame, where they are known.
            decoded: where several tasks look, what is already decoded, by what its sides were
                divided by; what is missing is added.

        Returns:
            uint8 [h, w, 3]: what was coded, or a half, a quarter … of its sides, as small as leaves
            at least twice what the network reads on a side. What lies far from a classifier's
            square may be black.

        Raises:
            UnknownTask: the model has no such network; others as `decompress`.
        """
        height, width = frame.coded_height, frame.coded_width
        size = self.model.head(task).input_size
        side = min(height, width) if task == "classify" else max(height, width)
        part = 1
        fewest = 2 * image.SHRINKING_GAP * size
        while task != "segment" and self.model.stride % (2 * part) == 0 and side >= fewest * part:
            part *= 2
        # Bicubic filters reach two pixels of the result beyond the square.
        reach = 3 * max(1, side // size)
        area = [
            slice((length - side) // 2 - reach, (length + side) // 2 + reach)
            for length in (height, width)
        ]
        symbols = self._symbols(frame) if symbols is None else symbols
        if decoded is None:
            return self.synthesise(symbols, frame, part, area)
        if part not in decoded:
            decoded[part] = self.synthesise(symbols, frame, part)
        return decoded[part]

    def _symbols(self, frame: Frame) -> Symbols:
        """Decode a frame's symbols, while the synthesis is loaded."""
        self._open_ahead("synthesis", frame.coded_height, frame.coded_width)
        return self.model.decode_symbols(frame, narrow=True)

    def synthesise(
        self, symbols: Symbols, frame: Frame, part: int = 1, area: Sequence[slice] | None = None
    ) -> Pixels:
        """Return what was coded, of a frame's symbols, uint8 [H, W, 3]; see `strips`."""
        return self.strips(symbols, frame, part, area).whole()

    def strips(
        self, symbols: Symbols, frame: Frame, part: int = 1, area: Sequence[slice] | None = None
    ) -> Strips:
        """Return what was coded, of a frame's symbols (equation 2, D), as rows are asked for.

        Args:
            symbols: integers [C, h, w].
            frame: whose they are.
            part: a divisor of the stride; both sides are divided by it, rounded up, and each pixel
                is the mean of those in its place.
            area: rows and columns that are wanted; elsewhere pixels may be black.
        """
        stride, step = self.model.stride, self.model.stride // part
        width, height = (-(-side // part) for side in (frame.coded_width, frame.coded_height))
        inverse_gain = self.model.level(frame.level).inverse_gain[:, np.newaxis, np.newaxis]
        plane = symbols.shape[1], symbols.shape[2]
        cuts = self._tiles("synthesis", *plane)

        def rows() -> Iterator[Pixels]:
            for down, row in groupby(cuts, key=lambda tile: tile.core[0]):
                # It ends with the picture, where the latent goes on.
                bottom = min(down.stop * step, height)
                pixels = np.zeros((bottom - down.start * step, width, 3), np.uint8)
                for tile in row:
                    if not area or all(
                        wanted.start < core.stop * stride and core.start * stride < wanted.stop
                        for core, wanted in zip(tile.core, area, strict=True)
                    ):
                        place = pixels[:, tile.core[1].start * step : tile.core[1].stop * step]
                        y_hat = symbols[np.newaxis, :, *tile.padded].astype(np.float32)
                        with np.errstate(over="ignore"):  # an escaped symbol times a large gain
                            y_hat *= inverse_gain
                        _show(self._core("synthesis", y_hat, tile, cuts), part, place)
                yield pixels

        found = rows()
        first = next(found)  # what is wrong with the network shows before anything is written
        return Strips(width, height, chain([first], found))

    def class_logits(self, pixels: Pixels) -> NDArray[np.float64]:
        """Ask the model's classifier about a picture, uint8 [H, W, 3].

        Returns:
            float64 [classes], all finite.

        Raises:
            UnknownTask: the model has no classifier.
            DamagedModel: its network does not have a finite logit for each label.
        """
        head = self.model.head("classify")
        x = image.network_input(image.square(pixels, head.input_size))
        result = answer(self, "classify", x, "classes", lambda s: s == (1, len(head.labels)))
        logits: NDArray[np.float64] = result[0].astype(np.float64)
        return logits

    def most_likely(self, pixels: Pixels) -> int:
        """Return the index of the class that the classifier finds most likely, see `class_logits`.

        Of equals it is the first.
        """
        return int(np.argmax(self.class_logits(pixels)))

    def boxes(self, pixels: Pixels) -> list[boxes.Box]:
        """Ask the model's detector about a picture, uint8 [H, W, 3]; the most certain box first.

        Raises:
            UnknownTask: the model has no detector.
            DamagedModel: its network does not have a finite score for each label and place.
        """
        head = self.model.head("detect")
        height, width, _ = pixels.shape
        x = whole_input(pixels, head.input_size)

        def fits(shape: tuple[int, ...]) -> bool:
            return len(shape) == 3 and shape[::2] == (1, 4 + len(head.labels))

        result = answer(self, "detect", x, "kinds of objects", fits)
        rows, columns = image.scaled_size(height, width, head.input_size)
        return boxes.meant(result[0], (width / columns, height / rows), (width, height))

    def _tiles(self, network: str, height: int, width: int) -> list[Tile]:
        """Cut a plane of latent positions for a network."""
        halo = self.model.halo
        if not self._is_one_tile(network, height, width):
            halo = self.runtime.halo(network)
        return tiles(height, width, side=self._side(network, halo), halo=halo)

    def _is_one_tile(self, network: str, height: int, width: int) -> bool:
        return height * width <= self._side(network, self.model.halo) ** 2

    def _side(self, network: str, halo: int) -> int:
        """Return the side of a tile with its halos that is a square, in latent positions."""
        stride = self.model.stride
        most = WITH_HALOS[network] // stride - 2 * halo
        return max(TILE // stride, min(HALOS_PER_TILE[network] * halo, most)) + 2 * halo

    def _open_ahead(self, network: str, height: int, width: int) -> None:
        """Begin to load a network, unless it takes far longer to run it on such a picture."""
        plane = models.latent_size(height, width, self.model.stride)
        if self._is_one_tile(network, *plane):
            self.runtime.open_ahead(network)

    def _core(
        self, network: str, array: NDArray[np.float32], tile: Tile, cuts: Sequence[Tile]
    ) -> NDArray[np.float32]:
        """Run a network on a tile and return of the result its core, float32 [C, h, w].

        Args:
            network: its name.
            array: the tile with its halo.
            tile: of the latent.
            cuts: all tiles.
        """
        stride, sides = self.model.stride, array.shape[2:]
        in_latent, in_pixels = tile.inner, _times(tile.inner, stride)
        if network == "analysis":
            given, made = in_pixels, in_latent
            whole = (1, self.model.channels, *(side // stride for side in sides))
        else:
            given, made = in_latent, in_pixels
            whole = (1, 3, *(side * stride for side in sides))
        several = len(cuts) > 1
        last = several and tile is cuts[-1]
        result = self.runtime.run(network, array, inner=given if several else None, last=last)
        expected = (*whole[:2], *(s.stop - s.start for s in made))
        if result.shape == whole:
            result = result[:, :, *made]
        if result.shape != expected:
            raise DamagedModel(
                f"the {network} network of {self.model.path} makes {list(result.shape)} of "
                f"{list(array.shape)}, expected {list(expected)}; install the model again"
            )
        core: NDArray[np.float32] = result[0]
        return core


def _times(part: tuple[slice, slice], factor: int) -> tuple[slice, slice]:
    """Return rows and columns of so many times as many."""
    rows, columns = (slice(s.start * factor, s.stop * factor) for s in part)
    return rows, columns


def _truth_value(name: str, value: object) -> bool:
    """Return an argument that must be True or False, NumPy's included; TypeError for others."""
    # "no" is true to Python.
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def _show(x_hat: NDArray[np.float32], part: int, pixels: Pixels) -> None:
    """Round what a synthesis makes, [3, h, w], to pixels, ``part`` × ``part`` of it to one.

    It may go on behind the last ones.
    """
    height, width = (side * part for side in pixels.shape[:2])
    # Limited before it is scaled, which might overflow. NaN is none of the 256 values, and casting
    # it would warn: fmax takes the other number, so it becomes black.
    levels = np.fmax(x_hat[:, :height, :width], 0)
    np.minimum(levels, 1, out=levels)
    if part > 1:
        levels = levels.reshape(3, height // part, part, -1, part).mean(axis=(2, 4))
    levels *= 255
    np.rint(levels, out=levels)
    for number, plane in enumerate(levels):  # faster than all at once, transposed
        pixels[..., number] = plane


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
    symbols: Symbols = np.empty(latent.shape, np.int32)
    # Some channels at once: what is in between then fits into the caches.
    step = max(1, _QUANTISED // latent[0].size)
    for first in range(0, len(latent), step):
        some = slice(first, first + step)
        scaled = gained(latent[some], gain[some])
        magnitudes = np.abs(scaled)
        magnitudes -= np.float32(PLAIN_OFFSET - offset)
        np.rint(magnitudes, out=magnitudes)
        symbols[some] = np.copysign(magnitudes, scaled, out=scaled)
    return symbols


def gained(latent: NDArray[np.float32], gain: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what is rounded to symbols, within ±2^20, of a latent [C, h, w] and a gain [C]."""
    # A network may overflow on a picture unlike any other; the coder takes integers only.
    with np.errstate(over="ignore"):
        scaled: NDArray[np.float32] = latent * gain[:, np.newaxis, np.newaxis]
    np.clip(scaled, -SYMBOL_LIMIT, SYMBOL_LIMIT, out=scaled)
    np.nan_to_num(scaled, copy=False)
    return scaled


def pad(pixels: Pixels, stride: int) -> Pixels:
    """Repeat a picture's right column and bottom row until the stride divides both sides."""
    height, width, _ = pixels.shape
    if height % stride == width % stride == 0:
        return pixels
    return np.pad(pixels, ((0, -height % stride), (0, -width % stride), (0, 0)), mode="edge")


def whole_input(pixels: Pixels, longer: int) -> NDArray[np.float32]:
    """Return what networks read that look at a whole picture, uint8 [H, W, 3].

    Its longer side gets ``longer`` pixels, because objects have to have the size that a network
    knows, and its right column and bottom row are repeated until both sides are multiples of 32.
    """
    return image.network_input(pad(image.scaled(pixels, longer), WHOLE_SIDES))


def answer(
    codec: Codec,
    task: str,
    x: NDArray[np.float32],
    named: str,
    fits: Callable[[tuple[int, ...]], bool],
) -> NDArray[np.float32]:
    """Return what a task network says, all finite.

    Args:
        codec: the model with its runtime.
        task: whose network is asked.
        x: what it reads.
        named: what its labels name, for the message.
        fits: tells whether an answer of this shape has something to say for each label.

    Raises:
        UnknownTask: the model has no such network.
        DamagedModel: the answer does not fit, or is not finite.
    """
    result, model = codec.runtime.run(task, x), codec.model
    if not fits(result.shape):
        raise DamagedModel(
            f"model {model.name} names {len(model.head(task).labels)} {named}, its network makes "
            f"{list(result.shape)} of {list(x.shape)}; install the model again"
        )
    if not np.isfinite(result).all():
        raise DamagedModel(
            f"the network {task} of model {model.name} returns infinities; install the model again"
        )
    return result


def as_frame(data: Coded, *, max_pixels: int | None = None) -> Frame:
    """Read what is exactly one frame, within a limit; pass a frame through.

    Raises:
        FormatError, LimitExceeded, OSError, TypeError: as `Codec.decompress`.
    """
    if isinstance(data, Compressed):
        return data.frame
    if isinstance(data, Frame):
        return data
    if isinstance(data, str | os.PathLike):
        data = image.path_of(data).read_bytes()
    elif isinstance(data, bytearray | memoryview):
        data = bytes(data)
    elif not isinstance(data, bytes):
        read = getattr(data, "read", None)
        found = read() if callable(read) else data
        if not isinstance(found, bytes):
            kind = "a file of text; open it in binary mode" if read else type(data).__name__
            raise TypeError(
                "expected a frame, its bytes, the path of a .tac file, or the file open in binary "
                f"mode; found {kind}"
            )
        if not found and (problem := image.at_end(data)):
            raise Truncated(problem)
        data = found
    try:
        return container.parse(data, max_pixels=max_pixels)
    except NotATacFile as exc:
        raise image.not_a_tac(data[:256], exc) from None


def load_model(
    name: str | Path | None = None, *, device: str = "auto", threads: int | None = None
) -> Codec:
    """Load a model by name or by the path of its folder; once a process, then it stays loaded.

    Args:
        name: the default model if None.
        device: ``auto``, ``fast``, ``cpu``, ``cuda`` or ``torch-cpu``, see `tactic_codec.runtime`.
        threads: how many one network may use, at most as many as the machine has processors; by
            default as many as this process may use, by its affinity and the quota of its cgroup.

    Raises:
        UnknownModel: no such model is installed.
        DamagedModel: its manifest breaks a rule.
        BackendUnavailable: the device is not there.
        TypeError: ``threads`` is no whole number, or ``name`` neither a name nor a path.
        ValueError: there is no such device, or ``threads`` is below 1.
    """
    return _codec(models.find(models.DEFAULT_MODEL if name is None else name), device, threads)


def load_model_of(fingerprint: bytes, *, device: str = "auto", threads: int | None = None) -> Codec:
    """Load the installed model that a frame names; the rest as `load_model`.

    Raises:
        UnknownModel: it is not installed.
    """
    return _codec(models.find_fingerprint(fingerprint), device, threads)


def opened(
    data: Coded, codec: Codec | None, device: str, max_pixels: int | None
) -> tuple[Frame, Codec]:
    """Return a frame, and ``codec`` or else the installed model that it names.

    Raises:
        FormatError: the bytes are not one frame.
        LimitExceeded: the picture is too large, see `Codec.decompress`.
        UnknownModel: the model is not installed.
    """
    frame = as_frame(data, max_pixels=max_pixels)
    return frame, codec or load_model_of(frame.fingerprint, device=device)


def _codec(model: Model, device: str, threads: int | None) -> Codec:
    if threads is not None:
        threads = whole_number("threads", threads, 1)
    load = partial(open_runtime, model, device, threads=threads)
    return model.keep(f"codec {device} {threads}", lambda: Codec(model, load()))


def compress(
    picture: Picture,
    level: int | None = None,
    *,
    max_bytes: int | None = None,
    keep_label: bool = False,
    keep_boxes: bool = False,
    effort: int = 0,
    max_side: int | None = None,
    scale: float | Literal["auto"] = 1,
    background: str | Colour = WHITE,
    keep_metadata: bool = False,
    roi: NDArray[np.generic] | None = None,
    model: str | Path | None = None,
    device: str = "auto",
) -> Compressed:
    """Code a picture with a model by its name or folder, which stays loaded; see `Codec.compress`.

    Raises:
        UnknownModel: no such model is installed.
    """
    return load_model(model, device=device).compress(
        picture,
        level,
        max_bytes=max_bytes,
        keep_label=keep_label,
        keep_boxes=keep_boxes,
        effort=effort,
        max_side=max_side,
        scale=scale,
        background=background,
        keep_metadata=keep_metadata,
        roi=roi,
    )


def decompress(
    data: Coded, *, device: str = "auto", max_pixels: int | None = None, coded_size: bool = False
) -> Image.Image:
    """Decode one frame with the installed model that it names; the rest as `Codec.decompress`."""
    frame, codec = opened(data, None, device, max_pixels)
    return codec.decompress(frame, coded_size=coded_size)
