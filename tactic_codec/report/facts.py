"""Facts about frames, about pictures as they come back, and their totals."""

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tactic_codec import entropy, metrics
from tactic_codec.container import Frame
from tactic_codec.errors import ImageError, UnsupportedImage
from tactic_codec.model import Model

if TYPE_CHECKING:
    from tactic_codec.codec import Codec

Pixels = NDArray[np.uint8]


# --- Sizes ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SizeFacts:
    """What a frame costs.

    Attributes:
        bytes: of the frame, header and checksum among them.
        payload_bytes: of the coded symbols alone.
        width: of the original, in pixels.
        height: of the original, in pixels.
        level: the quality level.
        ideal_bits: what the model's tables say that the symbols cost; None without the model.
    """

    bytes: int
    payload_bytes: int
    width: int
    height: int
    level: int
    ideal_bits: float | None

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height

    @property
    def bpp(self) -> float:
        """Bits of the frame a pixel."""
        return 8 * self.bytes / self.pixels

    @property
    def payload_bpp(self) -> float:
        """Bits of the payload a pixel."""
        return 8 * self.payload_bytes / self.pixels

    @property
    def ideal_bpp(self) -> float | None:
        """Ideal bits a pixel, or None without the model."""
        return None if self.ideal_bits is None else self.ideal_bits / self.pixels


def size_facts(frame: Frame, model: Model | None) -> SizeFacts:
    """Return what a frame costs, decoding its symbols if its model is given.

    Raises:
        UnknownLevel: the model does not have the frame's level.
        Corrupt: no encoder writes this payload.
        DamagedModel: the tables are damaged.
    """
    ideal = None
    if model is not None:
        ideal = entropy.ideal_bits(model.decode_symbols(frame), model.tables(frame.level))
    return SizeFacts(frame.size, len(frame.payload), frame.width, frame.height, frame.level, ideal)


# --- Fidelity, ours and that of others at the same bytes ------------------------------------------


class Fidelity(NamedTuple):
    """How near a picture is to its original: PSNR in dB, and MS-SSIM, 0 to 1."""

    psnr: float
    ms_ssim: float


class Rival(NamedTuple):
    """What another codec does with the bytes that a frame has.

    Attributes:
        codec: ``jpeg`` or ``webp``.
        quality: the highest whose file is no larger than the frame, or else the lowest there is.
        bytes: of that file.
        fits: whether it is no larger than the frame; False shows the other codec's floor.
        fidelity: of that file's picture.
    """

    codec: str
    quality: int
    bytes: int
    fits: bool
    fidelity: Fidelity


class _RivalCodec(NamedTuple):
    """Pillow's name, the range of qualities, and options that are worth their time."""

    pillow_name: str
    lowest: int
    highest: int
    options: dict[str, int | bool]


RIVALS = {
    "jpeg": _RivalCodec("JPEG", 1, 100, {"optimize": True}),
    "webp": _RivalCodec("WEBP", 0, 100, {"method": 6}),
}


def fidelity(original: Pixels, decoded: Pixels) -> Fidelity:
    """Compare two pictures, uint8 [H, W, 3].

    Raises:
        ImageError: they differ in size.
    """
    if original.shape != decoded.shape:
        sizes = [f"{pixels.shape[1]} x {pixels.shape[0]}" for pixels in (original, decoded)]
        raise ImageError(
            f"the original has {sizes[0]} pixels, the frame {sizes[1]}; it is another picture"
        )
    return Fidelity(metrics.psnr(original, decoded), metrics.ms_ssim(original, decoded))


def rival(codec: str, original: Pixels, budget: int) -> Rival:
    """Find what another codec reaches with as many bytes.

    Args:
        codec: one of ``RIVALS``.
        original: uint8 [H, W, 3].
        budget: bytes that its file may have.

    Raises:
        UnsupportedImage: the codec cannot hold so large a picture.
    """
    from tactic_codec import picture as image

    chosen = RIVALS[codec]
    picture = image.to_pillow(original)

    def encode(quality: int) -> bytes:
        buffer = io.BytesIO()
        try:
            picture.save(buffer, chosen.pillow_name, quality=quality, **chosen.options)
        except (OSError, ValueError) as exc:
            raise UnsupportedImage(f"{codec} cannot hold the original: {exc}") from exc
        return buffer.getvalue()

    quality, data = largest_within(encode, chosen.lowest, chosen.highest, budget)
    decoded = image.load(data, max_pixels=original.size)
    return Rival(codec, quality, len(data), len(data) <= budget, fidelity(original, decoded))


def largest_within(
    encode: Callable[[int], bytes], lowest: int, highest: int, budget: int
) -> tuple[int, bytes]:
    """Find by bisection the highest quality whose file has at most ``budget`` bytes.

    Returns:
        The quality and its file; those of ``lowest`` where even they are too large.
    """
    quality, data = lowest, encode(lowest)
    if len(data) > budget:
        return quality, data
    while lowest < highest:
        middle = (lowest + highest + 1) // 2
        candidate = encode(middle)
        if len(candidate) <= budget:
            lowest = quality = middle
            data = candidate
        else:
            highest = middle - 1
    return quality, data


# --- Accuracy -------------------------------------------------------------------------------------


class Verdict(NamedTuple):
    """What the task network says of a picture whose class is known."""

    expected: str
    predicted: str
    correct: bool


def expected_classes(model: Model, folder: str) -> frozenset[int]:
    """Return the classes that a folder's name stands for; none if it is not a class.

    A class is meant by the name of its folder in training or by its label, in either case of
    letters and with "_" for a space. Labels may occur twice; either class counts then.
    """
    head = model.heads.get("classify")
    if head is None:
        return frozenset()
    return frozenset(
        index
        for names in (head.classes, head.labels)
        for index, name in enumerate(names)
        if _simple(name) == _simple(folder)
    )


def _simple(name: str) -> str:
    return name.replace("_", " ").casefold()


def verdict(codec: "Codec", decoded: Pixels, folder: str) -> Verdict | None:
    """Ask the model's task network what a decoded picture shows; None if ``folder`` is no class."""
    expected = expected_classes(codec.model, folder)
    if not expected:
        return None
    from tactic_codec import tasks

    best = tasks.classify_pixels(codec, decoded, top_k=1)[0]
    return Verdict(folder, best.label, best.index in expected)


class Segmented(NamedTuple):
    """What the segmentation network says of a picture whose label map is known.

    Attributes:
        names: of the classes.
        counts: int64 [classes, classes], pixels by expected and found class; void ones left out.
    """

    names: tuple[str, ...]
    counts: metrics.Confusion

    @property
    def pixels(self) -> int:
        """How many were counted."""
        return int(self.counts.sum())

    @property
    def scores(self) -> metrics.SegmentationScores | None:
        """Accuracy and intersections over unions; None where all pixels are void."""
        return metrics.segmentation_scores(self.counts) if self.pixels else None

    @property
    def classes(self) -> list[tuple[int, str, float | None]]:
        """Index, name and intersection over union of each class; None where it is nowhere."""
        scores = self.scores
        found = scores.iou if scores else (None,) * len(self.names)
        return list(zip(range(len(found)), self.names, found, strict=True))


def segmented(codec: "Codec", decoded: Pixels, expected: metrics.LabelMap) -> Segmented:
    """Compare a decoded picture's label map, by the model, with the one expected, uint8 [H, W].

    Raises:
        UnknownTask: the model has no segmentation network.
        ImageError: the label map has another size.
    """
    if expected.shape != decoded.shape[:2]:
        sizes = [f"{array.shape[1]} x {array.shape[0]}" for array in (expected, decoded)]
        raise ImageError(
            f"the label map has {sizes[0]} pixels, the frame {sizes[1]}; it is of another picture, "
            "or of this one before it was turned upright"
        )
    from tactic_codec import tasks

    found = tasks.segment_pixels(codec, decoded)
    counts = metrics.confusion(expected, found.labels, len(found.names))
    return Segmented(found.names, counts)


# --- Rows and totals ------------------------------------------------------------------------------


class Row(NamedTuple):
    """All that is known of one frame.

    Attributes:
        file: as it was found.
        frame: its number in the file, from 1.
        model: its name, or the fingerprint where it is not installed.
        size: what it costs.
        fidelity: to the original, where there is one.
        rivals: other codecs at the same bytes, where there is an original.
        verdict: where the folder's name is a class.
        segmented: where there is a label map and the model can segment.
    """

    file: str
    frame: int
    model: str
    size: SizeFacts
    fidelity: Fidelity | None = None
    rivals: tuple[Rival, ...] = ()
    verdict: Verdict | None = None
    segmented: Segmented | None = None


def row_of(
    frame: Frame,
    codec: "Codec | None",
    *,
    file: str,
    number: int,
    folder: str = "",
    original: Pixels | None = None,
    label_map: metrics.LabelMap | None = None,
) -> Row:
    """Find out all that can be known of a frame; it is decoded only where that tells more.

    Args:
        frame: the frame.
        codec: decodes it; None where its model is not installed.
        file: where it was found,
        number: and where in there, from 1.
        folder: name of the file's folder, which may be a class.
        original: the picture that it was made from, uint8 [H, W, 3].
        label_map: the classes of its pixels, uint8 [H, W].

    Raises:
        UnknownLevel: the model does not have the frame's level.
        Corrupt: no encoder writes this payload.
        DamagedModel: a file of the model is damaged.
        ImageError: the original or the label map has another size.
        UnsupportedImage: another codec cannot hold the original.
        UnknownTask: there is a label map, and the model cannot segment.
    """
    model = codec.model if codec else None
    name = model.name if model else frame.fingerprint.hex()
    row = Row(file, number, name, size_facts(frame, model))
    wanted = original is not None or label_map is not None
    if codec is None or not (wanted or expected_classes(codec.model, folder)):
        return row
    decoded = codec.decode(frame)
    if original is not None:
        # First of all it is made sure that this is the original.
        own = fidelity(original, decoded)
        rivals = tuple(rival(name, original, frame.size) for name in RIVALS)
        row = row._replace(fidelity=own, rivals=rivals)
    if label_map is not None:
        row = row._replace(segmented=segmented(codec, decoded, label_map))
    return row._replace(verdict=verdict(codec, decoded, folder))


class RivalTotals(NamedTuple):
    """Means over all files of another codec; ``over`` of them are larger than our frames."""

    codec: str
    bytes: float
    over: int
    fidelity: Fidelity


class Accuracy(NamedTuple):
    """Top-1 accuracy over a number of pictures, with its 95 % Wilson interval."""

    pictures: int
    share: float
    low: float
    high: float


class Totals(NamedTuple):
    """Sums and means over all frames.

    Attributes:
        frames: how many.
        bytes: sum.
        pixels: sum.
        mean_bytes: a frame.
        mean_bpp: mean of the frames' own.
        mean_payload_bpp: likewise.
        mean_ideal_bpp: likewise, over the frames whose model is installed.
        total_bpp: bits of all frames over pixels of all frames; large pictures weigh more.
        fidelity: mean over the frames that differ from their originals at all.
        rivals: other codecs.
        accuracy: over the frames whose class is known.
        segmented: all pixels of the label maps together; None where there are none, or where the
            frames' models have different classes.
    """

    frames: int
    bytes: int
    pixels: int
    mean_bytes: float
    mean_bpp: float
    mean_payload_bpp: float
    mean_ideal_bpp: float | None
    total_bpp: float
    fidelity: Fidelity | None
    rivals: tuple[RivalTotals, ...]
    accuracy: Accuracy | None
    segmented: Segmented | None


def totals(rows: Sequence[Row]) -> Totals | None:
    """Add rows up; None if there are none."""
    if not rows:
        return None
    sizes = [row.size for row in rows]
    size, pixels = sum(s.bytes for s in sizes), sum(s.pixels for s in sizes)
    ideal = [s.ideal_bpp for s in sizes if s.ideal_bpp is not None]
    return Totals(
        frames=len(rows),
        bytes=size,
        pixels=pixels,
        mean_bytes=size / len(rows),
        mean_bpp=_mean(s.bpp for s in sizes),
        mean_payload_bpp=_mean(s.payload_bpp for s in sizes),
        mean_ideal_bpp=_mean(ideal) if ideal else None,
        total_bpp=8 * size / pixels,
        fidelity=_mean_fidelity([row.fidelity for row in rows if row.fidelity]),
        rivals=_rival_totals([rival for row in rows for rival in row.rivals]),
        accuracy=_accuracy([row.verdict for row in rows if row.verdict]),
        segmented=_all_pixels([row.segmented for row in rows if row.segmented]),
    )


def _rival_totals(rivals: Sequence[Rival]) -> tuple[RivalTotals, ...]:
    results = []
    for codec in RIVALS:
        own = [rival for rival in rivals if rival.codec == codec]
        mean = _mean_fidelity([rival.fidelity for rival in own])
        if mean is not None:
            over = sum(not rival.fits for rival in own)
            results.append(RivalTotals(codec, _mean(r.bytes for r in own), over, mean))
    return tuple(results)


def _mean_fidelity(values: Sequence[Fidelity]) -> Fidelity | None:
    if not values:
        return None
    # The PSNR of equal pictures is infinite, and one of them would be all that a mean shows.
    finite = [value.psnr for value in values if np.isfinite(value.psnr)]
    psnr = _mean(finite) if finite else float("inf")
    return Fidelity(psnr, _mean(value.ms_ssim for value in values))


def _accuracy(verdicts: Sequence[Verdict]) -> Accuracy | None:
    if not verdicts:
        return None
    correct = sum(verdict.correct for verdict in verdicts)
    low, high = metrics.wilson_interval(correct, len(verdicts))
    return Accuracy(len(verdicts), correct / len(verdicts), low, high)


def _all_pixels(found: Sequence[Segmented]) -> Segmented | None:
    names = {one.names for one in found}
    if len(names) != 1:
        return None
    return Segmented(names.pop(), np.sum([one.counts for one in found], axis=0))


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
