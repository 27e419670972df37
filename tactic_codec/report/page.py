"""A page to look at in a browser: one file, that asks for nothing else.

Row…, Totals ─ of_rows ─┐
evaluation's curves ────┴─ Section… ─ page.html ─▶ bytes

Whatever comes from outside is escaped. The page's policy lets only its own style and script
run, by their hashes, and shows only pictures that are in it.
"""

import base64
import hashlib
import math
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from string import Template
from typing import NamedTuple

import numpy as np

from tactic_codec.errors import display
from tactic_codec.report import Row, Totals, as_table, badness, notes, totals

SHOWN = 200
"""So many of the worst rows have pictures; a few tens of kilobytes each."""

_WIDTH, _HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 24, 8, 34
"""Of a drawing and of the room around its axes, in units of its own."""

_BARS = 24
_RATES = [m * 10.0**e for e in range(-4, 3) for m in (1, 2, 5)]
_COLOURS = 8
"""The template has so many, for curves."""


class Point(NamedTuple):
    """A rate in bits a pixel, and a figure with the ends of its interval."""

    rate: float
    value: float
    low: float
    high: float


class Plot(NamedTuple):
    """Curves over the rate: what is shown, and points by the names of curves."""

    title: str
    curves: Mapping[str, Sequence[Point]]


class Table(NamedTuple):
    """A title; names of columns, rows of cells, and the rows that stay below."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    foot: Sequence[Sequence[str]] = ()


class Seen(NamedTuple):
    """A picture: its title, what is told of it, and what of it is shown, JPEG by captions."""

    title: str
    told: str
    pictures: Mapping[str, bytes]


class Page(NamedTuple):
    """What a page shows, in this order; ``rates`` are the bpp of all files."""

    title: str
    facts: Mapping[str, str]
    rates: Sequence[float]
    plots: Sequence[Plot]
    notes: Sequence[str]
    seen: Sequence[Seen]
    tables: Sequence[Table]


def of_rows(
    title: str, rows: Sequence[Row], sums: Totals | None, failures: Sequence[tuple[str, str]]
) -> Page:
    """Return the page of a report: of its rows and of their sums, None where there is no row.

    ``failures`` are names of what has no row, each with the reason.
    """
    found = {"pictures": f"{len(rows)}"}
    made = {"made": time.strftime("%Y-%m-%d %H:%M")}
    found |= {"failed": f"{len(failures)}"} if failures else {}
    tables = [Table("What failed", ["file", "reason"], failures)] if failures else []
    if sums is None:
        return Page(title, found | made, [], [], [], [], tables)
    facts = sums.facts
    found["bytes"] = f"{facts['bytes']:,}"
    for name, key, form in (
        ("mean bpp", "mean_bpp", ".4f"),
        ("bpp of all pixels", "total_bpp", ".4f"),
        ("mean PSNR, dB", "mean_psnr", ".2f"),
        ("mean MS-SSIM", "mean_ms_ssim", ".4f"),
    ):
        if key in facts:
            found[name] = format(facts[key], form)
    for summary in sums.summaries.values():
        if summary.headline:
            name, share = summary.headline
            low, high = (f"{100 * end:.1f}" for end in share[1:])
            found[name] = f"{100 * share.share:.1f} % ({low}–{high})"
    head, *lines, mean, total = ([row[-1], *row[:-1]] for row in as_table(rows, sums))
    tables.append(Table("All files", head, lines, [mean, total]))
    seen = seen_of(rows, [line[0] for line in lines])
    rates = [row.facts["bpp"] for row in rows]
    return Page(title, found | made, rates, list(_plots(rows)), notes(sums), seen, tables)


def seen_of(rows: Sequence[Row], titles: Sequence[str]) -> list[Seen]:
    """Return what is shown of rows that were looked at, the worst first."""
    order = sorted(zip(rows, titles, strict=True), key=lambda pair: badness(pair[0]))
    shown = [(row, title) for row, title in order if row.look][:SHOWN]
    return [Seen(title, _told(row), row.look.pictures) for row, title in shown if row.look]


def forget(rows: list[Row]) -> None:
    """Drop the pictures of all but the `SHOWN` worst rows, whenever as many again have come."""
    if len(rows) % SHOWN:
        return
    seen = sorted((badness(row), place) for place, row in enumerate(rows) if row.look)
    for _, place in seen[SHOWN:]:
        rows[place] = rows[place]._replace(look=None)


def _told(row: Row) -> str:
    assert row.look
    parts = [f"{row.facts['bpp']:.4f} bpp"]
    parts += [f"PSNR {row.facts['psnr']:.2f} dB"] if "psnr" in row.facts else []
    for verdict in row.verdicts.values():
        words = {True: "yes", False: "no"}
        parts += [
            f"{name}: {words[value] if isinstance(value, bool) else value}"
            for name, value in verdict.facts.items()
        ]
    parts += [f"{name} {share:.2f}" for name, share in row.look.told]
    return " · ".join(parts)


def _plots(rows: Sequence[Row]) -> Iterator[Plot]:
    """Yield what networks see over the rate, and the PSNR; a curve a model, a point a level."""

    def of_model(row: Row) -> tuple[str, int]:
        return row.facts["model"], row.facts["level"]

    others = {name for row in rows for name, fact in row.facts.items() if isinstance(fact, dict)}
    known = defaultdict[str, dict[str, list[Point]]](lambda: defaultdict(list))
    for (model, _), group in groupby(sorted(rows, key=of_model), of_model):
        own = list(group)
        sums = totals(own)
        assert sums
        rate = sums.facts["mean_bpp"]
        for summary in sums.summaries.values():
            if summary.headline:
                title, share = summary.headline
                point = Point(rate, *(100 * value for value in share))
                known[f"{title}, %"][model].append(point)
        compared = [row.facts for row in own if math.isfinite(row.facts.get("psnr", math.inf))]
        # A model may be named like a codec.
        own_name = f"{model} (model)" if model in others else model
        coders = {own_name: [(facts["bpp"], facts["psnr"]) for facts in compared]}
        for facts in compared:
            for name, other in facts.items():
                if isinstance(other, dict) and math.isfinite(other["psnr"]):
                    bpp = 8 * other["bytes"] / (facts["width"] * facts["height"])
                    coders.setdefault(name, []).append((bpp, other["psnr"]))
        for name, found in coders.items():
            if found:
                rates, psnr = np.array(found).T
                half = 1.96 * psnr.std(ddof=1) / math.sqrt(len(psnr)) if len(psnr) > 1 else 0
                mean = float(psnr.mean())
                point = Point(float(rates.mean()), mean, mean - half, mean + half)
                known["mean PSNR, dB"][name].append(point)
    yield from (Plot(title, curves) for title, curves in known.items())


# --- HTML -----------------------------------------------------------------------------------------


def render(page: Page) -> bytes:
    """Return the page as a file, UTF-8."""
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    hashes = {}
    for part in ("style", "script"):
        found = re.search(rf"<{part}>(.*?)</{part}>", template, re.DOTALL)
        assert found
        digest = hashlib.sha256(found[1].encode()).digest()
        hashes[part] = f"'sha256-{base64.b64encode(digest).decode()}'"
    facts = "".join(
        f"<div><dt>{_text(k)}</dt><dd>{_text(v)}</dd></div>" for k, v in page.facts.items()
    )
    drawings = []
    if page.rates:
        drawings.append(_figure("files by their bits a pixel", _histogram(page.rates)))
    drawings += [_figure(plot.title, _plot(plot), list(plot.curves)) for plot in page.plots]
    seen = "".join(map(_article, page.seen))
    filled = Template(template).substitute(
        hashes,
        title=_text(page.title),
        facts=facts,
        drawings="".join(drawings),
        notes="".join(f"<p>{_text(note)}</p>" for note in page.notes),
        seen=seen and f"<h2>Worst first</h2><div class=seen>{seen}</div>",
        tables="".join(map(_table, page.tables)),
    )
    return filled.encode()


def _text(text: str) -> str:
    """Return text as it stands in HTML; what cannot be printed becomes an escape."""
    return escape(display(text))


def _article(seen: Seen) -> str:
    shown = "".join(
        f"<figure><button class=zoom><img alt='{_text(name)}: {_text(seen.title)}' loading=lazy "
        f"src='data:image/jpeg;base64,{base64.b64encode(data).decode()}'></button>"
        f"<figcaption>{_text(name)}</figcaption></figure>"
        for name, data in seen.pictures.items()
    )
    return (
        f"<article data-find><h3>{_text(seen.title)}</h3><div class=row>{shown}</div>"
        f"<p>{_text(seen.told)}</p></article>"
    )


def _table(table: Table) -> str:
    def line(row: Iterable[str]) -> str:
        return "<tr data-find>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>"

    head = "".join(f"<th scope=col><button>{_text(name)}</button></th>" for name in table.columns)
    foot = "".join(line(row).replace(" data-find", "") for row in table.foot)
    return (
        f"<h2>{_text(table.title)}</h2><div class=wide tabindex=0 role=region "
        f"aria-label='{_text(table.title)}'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(map(line, table.rows))}</tbody><tfoot>{foot}</tfoot></table></div>"
    )


# --- Drawings -------------------------------------------------------------------------------------


def _figure(title: str, drawing: str, curves: Sequence[str] = ()) -> str:
    legend = "".join(
        f"<li class=c{number % _COLOURS}>{_text(name)}</li>" for number, name in enumerate(curves)
    )
    title = _text(title)
    return (
        f"<figure><figcaption>{title}</figcaption><svg role=img aria-label='{title}' "
        f"viewBox='0 0 {_WIDTH} {_HEIGHT}'>{drawing}</svg><ul>{legend}</ul></figure>"
    )


def _histogram(rates: Sequence[float]) -> str:
    counts, edges = np.histogram(rates, min(_BARS, max(1, len(rates))))
    axes = _Axes((float(edges[0]), float(edges[-1])), (0.0, float(counts.max())), log=False)
    bars = "".join(
        f"<rect class=c0 x='{axes.x(low) + 0.5:.1f}' y='{axes.y(count):.1f}' "
        f"width='{max(1, axes.x(high) - axes.x(low) - 1):.1f}' "
        f"height='{axes.y(0) - axes.y(count):.1f}'>"
        f"<title>{low:.4f} to {high:.4f} bpp: {count}</title></rect>"
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    )
    return axes.drawn("bits a pixel") + bars


def _plot(plot: Plot) -> str:
    points = [point for curve in plot.curves.values() for point in curve]
    rates = [point.rate for point in points]
    ends = [end for point in points for end in (point.value, point.low, point.high)]
    axes = _Axes((min(rates) / 1.1, max(rates) * 1.1), (min(ends), max(ends)), log=True)
    drawn = [axes.drawn("bits a pixel, of whole files")]
    for number, (name, curve) in enumerate(plot.curves.items()):
        curve = sorted(curve)
        places = [(axes.x(p.rate), axes.y(p.value), p) for p in curve]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _p in places)
        marks = "".join(
            f"<path d='M{x:.1f} {axes.y(p.low):.1f}V{axes.y(p.high):.1f}'/>"
            f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3'><title>{_text(name)}: {p.rate:.4f} bpp, "
            f"{p.value:.2f} ({p.low:.2f} to {p.high:.2f})</title></circle>"
            for x, y, p in places
        )
        drawn.append(f"<g class=c{number % _COLOURS}><polyline points='{line}'/>{marks}</g>")
    return "".join(drawn)


class _Axes:
    """Where numbers lie in a drawing."""

    def __init__(self, across: tuple[float, float], up: tuple[float, float], *, log: bool) -> None:
        self._scale: Callable[[float], float] = math.log if log else float
        self._across = across if across[0] < across[1] else (across[0] - 0.5, across[1] + 0.5)
        low, high = up
        step = 10.0 ** math.floor(math.log10(max(high - low, 1e-3) / 2))
        step *= next(m for m in (1, 2, 5, 10) if (high - low) / (m * step) <= 5)
        self._rows = [step * n for n in range(math.floor(low / step), math.ceil(high / step) + 1)]
        if len(self._rows) == 1:
            self._rows.append(self._rows[0] + step)
        found = [r for r in _RATES if across[0] <= r <= across[1]] if log else []
        self._columns = found if len(found) > 1 else list(np.linspace(*self._across, 5))

    def x(self, value: float) -> float:
        low, high, at = map(self._scale, (*self._across, value))
        return _LEFT + (at - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self._rows[0], self._rows[-1]
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    def drawn(self, title: str) -> str:
        end, floor = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        rows = "".join(
            f"<path class=grid d='M{_LEFT} {self.y(value):.1f}H{end}'/>"
            f"<text class=end x='{_LEFT - 4}' y='{self.y(value) + 4:.1f}'>{value:.6g}</text>"
            for value in self._rows
        )
        columns = "".join(
            f"<path class=grid d='M{self.x(value):.1f} {floor}v3'/>"
            f"<text class=mid x='{self.x(value):.1f}' y='{floor + 14}'>{value:.3g}</text>"
            for value in self._columns
        )
        middle = (_LEFT + end) / 2
        return f"{rows}{columns}<text class=mid x='{middle}' y='{_HEIGHT - 4}'>{title}</text>"
