"""Facts about frames, about pictures as they come back, and their totals."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tactic_codec import entropy, metrics
from tactic_codec.container import Frame
from tactic_codec.errors import ImageError
from tactic_codec.model import Model

if TYPE_CHECKING:
    from tactic_codec.codec import Codec
    from tactic_codec.tasks import Summary, Verdict

Pixels = NDArray[np.uint8]

NOTHING: Mapping[str, Any] = MappingProxyType({})


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


class RivalFacts(NamedTuple):
    """What another codec does with the bytes that a frame has.

    Attributes:
        codec: its name, such as ``jpeg``.
        quality: the highest whose file is no larger than the frame, or else the lowest there is.
        bytes: of that file.
        fits: whether it is no larger than the frame; False shows the other codec's floor.
        fidelity: of that file's picture.
    """

    codec: str
    quality: int | float
    bytes: int
    fits: bool
    fidelity: Fidelity


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


def rival_facts(codec: str, original: Pixels, budget: int) -> RivalFacts:
    """Find what another codec reaches with as many bytes.

    Args:
        codec: its name, see `tactic_codec.rivals`.
        original: uint8 [H, W, 3].
        budget: bytes that its file may have.

    Raises:
        ConfigError: there is no such codec.
        BackendUnavailable: it is not there.
        UnsupportedImage: it cannot hold so large a picture.
    """
    from tactic_codec.rivals import rival

    chosen = rival(codec)
    quality, data = chosen.within(original, budget)
    fidelity_of = fidelity(original, chosen.decode(data))
    return RivalFacts(codec, quality, len(data), len(data) <= budget, fidelity_of)


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
        verdicts: by task, where it is known what to expect.
    """

    file: str
    frame: int
    model: str
    size: SizeFacts
    fidelity: Fidelity | None = None
    rivals: tuple[RivalFacts, ...] = ()
    verdicts: Mapping[str, "Verdict"] = NOTHING


def row_of(
    frame: Frame,
    codec: "Codec | None",
    *,
    file: str,
    number: int,
    original: Pixels | None = None,
    rivals: Sequence[str] = (),
    given: Mapping[str, Any] = NOTHING,
) -> Row:
    """Find out all that can be known of a frame; it is decoded only where that tells more.

    Args:
        frame: the frame.
        codec: decodes it; None where its model is not installed.
        file: where it was found,
        number: and where in there, from 1.
        original: the picture that it was made from, uint8 [H, W, 3].
        rivals: names of codecs to compare with where there is an original.
        given: by task, what came with the file, see `Task.expected`.

    Raises:
        UnknownLevel: the model does not have the frame's level.
        Corrupt: no encoder writes this payload.
        DamagedModel: a file of the model is damaged.
        ImageError: the original, or what is expected, is of another picture.
        UnsupportedImage: another codec cannot hold the original.
        UnknownTask: something is expected of a network that the model does not have.
    """
    model = codec.model if codec else None
    name = model.name if model else frame.fingerprint.hex()
    row = Row(file, number, name, size_facts(frame, model))
    if codec is None:
        return row
    from tactic_codec.picture import enlarged
    from tactic_codec.tasks import TASKS

    expected = {name: TASKS[name].expected(codec.model, given[name]) for name in given}
    expected = {name: value for name, value in expected.items() if value is not None}
    if original is None and not expected:
        return row
    decoded = codec.decode(frame, coded_size=True)
    if original is not None:
        # First of all it is made sure that this is the original.
        own = fidelity(original, enlarged(decoded, frame.width, frame.height))
        others = tuple(rival_facts(name, original, frame.size) for name in rivals)
        row = row._replace(fidelity=own, rivals=others)
    verdicts = {}
    for name, value in expected.items():
        task = TASKS[name]
        answer = task.in_picture(task.ask(codec, decoded), frame)
        verdicts[name] = task.verdict(answer, value)
    return row._replace(verdicts=verdicts)


class RivalTotals(NamedTuple):
    """Means over all files of another codec; ``over`` of them are larger than our frames."""

    codec: str
    bytes: float
    over: int
    fidelity: Fidelity


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
        summaries: by task, of the verdicts, where they are of the same classes.
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
    summaries: Mapping[str, "Summary"]


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
        summaries=_summaries(rows),
    )


def _rival_totals(rivals: Sequence[RivalFacts]) -> tuple[RivalTotals, ...]:
    results = []
    for codec in dict.fromkeys(rival.codec for rival in rivals):
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


def _summaries(rows: Sequence[Row]) -> dict[str, "Summary"]:
    verdicts: dict[str, list[Verdict]] = {}
    for row in rows:
        for name, verdict in row.verdicts.items():
            verdicts.setdefault(name, []).append(verdict)
    if not verdicts:
        return {}
    from tactic_codec.tasks import TASKS

    found = {name: task.summary(verdicts[name]) for name, task in TASKS.items() if name in verdicts}
    return {name: summary for name, summary in found.items() if summary}


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
