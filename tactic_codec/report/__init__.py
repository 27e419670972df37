"""Facts about coded pictures, for ``tactic bpp-report``: bytes, bits a pixel, fidelity, accuracy.

    Frame, Model ─ sizes ─▶ facts                    the frame and its tables
    original, decoded ─ fidelity ─▶ facts            what it keeps
    original, bytes ─ rival_facts ─▶ facts           and what others keep in as many
    Codec, decoded, expected ─ Task.verdict ─▶ …     what a network still sees in it
    Frame, Codec ─ row_of ─▶ Row                     all of these
    Row… ─ totals ─▶ Totals                          means under ``mean_``, and sums
    Row…, Totals ─▶ JSON, CSV, cells of a table

Facts are a dictionary, named as in JSON; those of another codec are one in it, under its name. bpp
is 8 × bytes of the frame ÷ (width × height); what counts anything else is named otherwise. Networks
run only in the `Codec` that the caller hands in; without one neither Pillow nor a runtime is
imported. Refused with `ImageError`: an original or a label map whose size is not the frame's.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
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
Facts = dict[str, Any]

NOTHING: Mapping[str, Any] = MappingProxyType({})

THUMBNAIL = 320
"""Pixels of the longer side of the pictures that a page shows."""

TOLD = 3
"""Of what a network found, so many things stand beside a picture."""

FORMATS = {
    "bytes": "d",
    "bpp": ".4f",
    "payload_bpp": ".4f",
    "ideal_bpp": ".4f",
    "model": "",
    "level": "d",
    "psnr": ".2f",
    "ms_ssim": ".4f",
}
"""How facts are shown to people; of the others a table has none."""


class Row(NamedTuple):
    """All that is known of one frame.

    Attributes:
        facts: by the names of JSON; the PSNR of equal pictures is infinite, and of another codec's
            file ``fits`` tells whether it is no larger than the frame.
        verdicts: by task, where it is known what to expect.
        look: what a page shows of it, where one is made.
    """

    facts: Facts
    verdicts: Mapping[str, "Verdict"] = NOTHING
    look: "Look | None" = None


class Look(NamedTuple):
    """What people see of a frame.

    Attributes:
        pictures: small ones, as JPEG, by what they show.
        told: what networks found, the most certain first, and how certain they are.
    """

    pictures: Mapping[str, bytes]
    told: Sequence[tuple[str, float]]


class Totals(NamedTuple):
    """Sums and means over all frames.

    Attributes:
        facts: ``mean_bpp`` is the mean of the frames' own, ``total_bpp`` has large pictures weigh
            more. The mean PSNR leaves out pictures that did not change. ``over`` files of another
            codec are larger than our frames.
        summaries: by task, of the verdicts, where they are of the same classes.
    """

    facts: Facts
    summaries: Mapping[str, "Summary"]


# --- Facts ----------------------------------------------------------------------------------------


def sizes(
    frame: Frame, model: Model | None = None, symbols: NDArray[np.int32] | None = None
) -> Facts:
    """Return what a frame costs; by the tables, too, where its model and its symbols are given."""
    ideal = None
    if model is not None and symbols is not None:
        ideal = entropy.ideal_bits(symbols, model.tables(frame.level))
    return {
        "bytes": frame.size,
        "width": frame.width,
        "height": frame.height,
        "bpp": frame.bpp,
        "payload_bpp": 8 * len(frame.payload) / frame.pixels,
        "ideal_bpp": None if ideal is None else ideal / frame.pixels,
        "model": model.name if model else frame.fingerprint.hex(),
        "level": frame.level,
    }


def fidelity(original: Pixels, decoded: Pixels) -> Facts:
    """Compare two pictures, uint8 [H, W, 3]: PSNR in dB, and MS-SSIM, 0 to 1.

    Raises:
        ImageError: they differ in size.
    """
    if original.shape != decoded.shape:
        was, found = (f"{pixels.shape[1]} x {pixels.shape[0]}" for pixels in (original, decoded))
        raise ImageError(f"the original has {was} pixels, the frame {found}; it is another picture")
    psnr = metrics.psnr(original, decoded)
    return {"psnr": psnr, "ms_ssim": metrics.ms_ssim(original, decoded)}


def rival_facts(codec: str, original: Pixels, budget: int) -> Facts:
    """Find what another codec reaches with as many bytes, at its lowest quality if with none.

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
    size = {"quality": quality, "bytes": len(data), "fits": len(data) <= budget}
    return size | fidelity(original, chosen.decode(data))


def row_of(
    frame: Frame,
    codec: "Codec | None",
    *,
    file: str,
    number: int,
    original: Pixels | None = None,
    rivals: Sequence[str] = (),
    given: Mapping[str, Any] = NOTHING,
    look: bool = False,
) -> Row:
    """Find out all that can be known of a frame; it is decoded only where that tells more.

    Args:
        codec: decodes it; None where its model is not installed.
        file: where it was found,
        number: and where in there, from 1.
        original: the picture that it was made from, uint8 [H, W, 3].
        rivals: names of codecs to compare with where there is an original.
        given: by task, what came with the file, see `Task.expected`.
        look: whether to make what a page shows of it, for which all networks are asked.

    Raises:
        UnknownLevel: the model does not have the frame's level.
        Corrupt: no encoder writes this payload.
        DamagedModel: a file of the model is damaged.
        ImageError: the original, or what is expected, is of another picture.
        UnsupportedImage: another codec cannot hold the original.
        UnknownTask: something is expected of a network that the model does not have.
    """
    place = {"file": file, "frame": number}
    if codec is None:
        return Row(place | sizes(frame))
    symbols = codec.model.decode_symbols(frame)
    facts = place | sizes(frame, codec.model, symbols)
    from tactic_codec.picture import enlarged
    from tactic_codec.tasks import TASKS

    expected = {name: TASKS[name].expected(codec.model, given[name]) for name in given}
    expected = {name: value for name, value in expected.items() if value is not None}
    if original is None and not expected and not look:
        return Row(facts)
    decoded = codec.synthesise(symbols, frame)
    if original is not None:
        # First of all it is made sure that this is the original.
        facts |= fidelity(original, enlarged(decoded, frame.width, frame.height))
        facts |= {name: rival_facts(name, original, frame.size) for name in rivals}
    asked, by_part = codec.model.heads if look else expected, {1: decoded}
    answers = {
        name: task.in_picture(task.ask(codec, codec.look(frame, name, symbols, by_part)), frame)
        for name, task in TASKS.items()
        if name in asked
    }
    verdicts = {name: TASKS[name].verdict(answers[name], expected[name]) for name in expected}
    seen = None
    if look:
        from tactic_codec.report.spent import bits_of_blocks

        blocks = bits_of_blocks(symbols, codec.model.tables(frame.level))
        seen = _look(frame, codec.model, original, decoded, blocks, answers)
    return Row(facts, verdicts, seen)


def _look(
    frame: Frame,
    model: Model,
    original: Pixels | None,
    decoded: Pixels,
    blocks: NDArray[np.float64],
    answers: Mapping[str, Any],
) -> Look:
    from tactic_codec.picture import scaled
    from tactic_codec.report.spent import heat_map
    from tactic_codec.rivals import rival
    from tactic_codec.tasks import TASKS

    def small(pixels: Pixels) -> Pixels:
        return scaled(pixels, min(THUMBNAIL, max(pixels.shape)))

    drawn = small(decoded)
    told: list[tuple[str, float]] = []
    for name, answer in answers.items():
        certain = TASKS[name].certain(answer)
        told += TASKS[name].told(certain)[:TOLD]
        drawn = TASKS[name].drawn(certain, drawn)
    heat = heat_map(small(decoded), blocks, frame, model)
    pictures = {"original": small(original)} if original is not None else {}
    pictures |= {"decoded": drawn, "where the bits went": heat}
    jpeg = rival("jpeg")
    return Look({name: jpeg.encode(pixels, 80) for name, pixels in pictures.items()}, told)


def badness(row: Row) -> tuple[float, ...]:
    """Return what rows are sorted by, the worst first.

    First comes what the networks saw least of as expected, then the lowest PSNR, then that of which
    a network is least certain.
    """
    scores = [v.score for v in row.verdicts.values() if v.score is not None]
    certain = [share for _, share in row.look.told] if row.look else []
    worst = min(scores, default=math.inf), row.facts.get("psnr", math.inf)
    return (*worst, max(certain, default=0.0))


def totals(rows: Sequence[Row]) -> Totals | None:
    """Add rows up; None if there are none."""
    if not rows:
        return None
    found = [row.facts for row in rows]
    size, pixels = sum(f["bytes"] for f in found), sum(f["width"] * f["height"] for f in found)
    facts = {"frames": len(rows), "bytes": size, "pixels": pixels}
    facts |= _means(found, "bytes", "bpp", "payload_bpp", "ideal_bpp")
    facts["total_bpp"] = 8 * size / pixels
    compared = [f for f in found if "psnr" in f]
    facts |= _means(compared, "psnr", "ms_ssim") if compared else {}
    for name in dict.fromkeys(n for f in found for n, part in f.items() if isinstance(part, dict)):
        own = [f[name] for f in compared if name in f]
        over = {"over": sum(not f["fits"] for f in own)}
        facts[name] = _means(own, "bytes") | over | _means(own, "psnr", "ms_ssim")
    return Totals(facts, _summaries(rows))


def _means(found: Sequence[Facts], *names: str) -> Facts:
    """Return the means of what is known, and of what is finite where anything is."""
    means: Facts = {}
    for name in names:
        known = [facts[name] for facts in found if facts[name] is not None]
        # The PSNR of equal pictures is infinite, and one of them would be all that a mean shows.
        counted = [value for value in known if math.isfinite(value)] or known
        means[f"mean_{name}"] = float(np.mean(counted)) if known else None
    return means


def _summaries(rows: Sequence[Row]) -> dict[str, "Summary"]:
    if not any(row.verdicts for row in rows):
        return {}
    from tactic_codec.tasks import TASKS

    verdicts = {name: [r.verdicts[name] for r in rows if name in r.verdicts] for name in TASKS}
    found = {name: TASKS[name].summary(own) for name, own in verdicts.items() if own}
    return {name: summary for name, summary in found.items() if summary}


# --- JSON and CSV ---------------------------------------------------------------------------------


def row_as_json(row: Row) -> Facts:
    """Return what is known of a frame; null stands for the PSNR of equal pictures."""
    return _rounded(row.facts) | dict(chain(*(v.facts.items() for v in row.verdicts.values())))


def totals_as_json(sums: Totals) -> Facts:
    """Return what is known of all frames together."""
    return _rounded(sums.facts) | {s.name: s.facts for s in sums.summaries.values()}


def _rounded(facts: Facts) -> Facts:
    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return _rounded(value)
        if isinstance(value, float):  # JSON knows no infinity
            return round(value, 6) if math.isfinite(value) else None
        return value

    return {name: rounded(value) for name, value in facts.items()}


def as_csv(rows: Sequence[Row], sums: Totals) -> bytes:
    """Return a line a frame, then their means and their sums under the names of the columns."""
    facts = _flat(_rounded(sums.facts))
    mean = {name.replace("mean_", ""): v for name, v in facts.items() if "mean_" in name}
    total = {"bytes": facts["bytes"], "bpp": facts["total_bpp"]}
    for summary in sums.summaries.values():
        mean |= summary.means
        total |= summary.sums
    lines = [_flat(row_as_json(row)) for row in rows]
    lines += [{"file": "MEAN", **mean}, {"file": "SUM", **total}]
    return csv_of(lines).encode("utf-8", "surrogateescape")


def csv_of(lines: Iterable[Mapping[str, Any]]) -> str:
    """Return lines below a header with the names of all that any of them has."""
    lines = list(lines)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, dict.fromkeys(chain(*lines)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _flat(facts: Mapping[str, Any]) -> Facts:
    """Turn ``{"jpeg": {"bytes": 1}}`` into ``{"jpeg_bytes": 1}``."""
    cells: Facts = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            cells |= {f"{name}_{part}": inner for part, inner in _flat(value).items()}
        else:
            cells[name] = int(value) if isinstance(value, bool) else value
    return cells


# --- A table --------------------------------------------------------------------------------------


def as_table(rows: Sequence[Row], sums: Totals) -> list[list[str]]:
    """Return a row of cells for each frame, one of means and one of sums, below a heading."""
    lines = [*map(_row_cells, rows), _mean_cells(sums), _sum_cells(sums)]
    named = dict.fromkeys(name for line in lines for name in line if name != "file")
    columns = [name for name in (*named, "file") if any(line.get(name) for line in lines)]
    return [columns, *([line.get(name, "") for name in columns] for line in lines)]


def notes(sums: Totals) -> list[str]:
    """Return what stands below the table."""
    found = [
        f"{name}: for {facts['over']} of {sums.facts['frames']} pictures even the lowest quality "
        "has more bytes than the .tac file (>)"
        for name, facts in sums.facts.items()
        if isinstance(facts, dict) and facts["over"]
    ]
    return found + [note for summary in sums.summaries.values() for note in summary.notes]


def _row_cells(row: Row) -> dict[str, str]:
    facts = row.facts
    size = {"bytes": "", "size": f"{facts['width']}x{facts['height']}"}
    cells = size | _cells(facts) | dict(chain(*(v.cells.items() for v in row.verdicts.values())))
    number = f" frame {facts['frame']}" if facts["frame"] > 1 else ""
    return cells | {"file": facts["file"] + number}


def _mean_cells(sums: Totals) -> dict[str, str]:
    cells = _cells(sums.facts, "mean_", {**FORMATS, "bytes": ".1f"})
    for summary in sums.summaries.values():
        cells |= summary.mean_cells
    return cells | {"file": "mean"}


def _sum_cells(sums: Totals) -> dict[str, str]:
    cells = {"bytes": f"{sums.facts['bytes']}", "bpp": f"{sums.facts['total_bpp']:.4f}"}
    for summary in sums.summaries.values():
        cells |= summary.sum_cells
    return cells | {"file": f"sum of {sums.facts['frames']}"}


def _cells(
    facts: Facts, begin: str = "", formats: Mapping[str, str] = FORMATS, codec: str = ""
) -> dict[str, str]:
    """Return the facts whose names begin so, as they are shown, by the names of columns."""
    cells: dict[str, str] = {}
    for name, value in facts.items():
        column = name.removeprefix(begin)
        if isinstance(value, dict):
            cells |= _cells(value, begin, formats, f"{name} ")
        elif name.startswith(begin) and column in formats:
            over = ">" if column == "bytes" and not facts.get("fits", True) else ""
            shown = "-" if value is None else format(value, formats[column])
            cells[codec + column] = over + shown
    return cells
