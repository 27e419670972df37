"""A table of the paper: its description, its existing results, and how they are shown.

tables/<table>.toml ─▶ Table
results/<table>-<size>/<row>-seed<n>.json ─▶ as_markdown, draw_figure

Nothing here trains. Results are shown also while rows or seeds are missing.
"""

import json
import math
import statistics
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import row_plot as plot
from scipy import stats

from tactic_codec.errors import ConfigError

HERE = Path(__file__).resolve().parent
SIZES = ("desk", "paper")
BASELINE = "uncompressed"
"""Row that the others are compared with."""
OURS = "TACTIC"
STAGED = " in stages"
"""First word of the names of our rows; those of another codec share theirs, too."""

Result = Mapping[str, Any]
"""Figures of a row for one seed, with what they follow from, see `described`."""


class Recode(NamedTuple):
    """Another codec in place of ours.

    Attributes:
        codec: as `tactic eval` names it.
        quality: its setting.
    """

    codec: str
    quality: int


@dataclass(frozen=True)
class Row:
    """A line of a table, which is one run of training.

    Attributes:
        name: unique in the table.
        paper: the paper's figures, by metric; empty where it has no such row.
        stage: the stages, one after the other.
        seconds: what a step of each takes, as the table's description estimates it.
        overhead: likewise of all that is no step.
        recode: what the pictures were coded with; None where they were not.
    """

    name: str
    paper: Mapping[str, float]
    stage: Sequence[Mapping[str, Any]]
    seconds: Sequence[float] = ()
    overhead: float = 0.0
    recode: Recode | None = None

    def estimate(self, after: int = 0) -> float:
        """Return the seconds that are estimated for the row but for so many of its steps."""
        total = self.overhead
        for stage, seconds in zip(self.stage, self.seconds, strict=True):
            total += seconds * max(0, stage["steps"] - after)
            after = max(0, after - stage["steps"])
        return total


@dataclass(frozen=True)
class Table:
    """A table of the paper, at one size.

    Attributes:
        name: of its folder of results.
        title: for people.
        metrics: fields of results that are shares, the first of them the one that counts.
        base: what the configurations of all rows share.
        rows: in the order of the paper.
        pairs: of rows whose differences by seed are shown, the second one subtracted.
        figure: name of the picture of the first metric over the rate; None where there is none.
        squares: side of the squares that all rows start from, in pixels; None for whole pictures.
        layout: of the data folder: ``classes``, ``masks``, or ``cityscapes`` as it is downloaded.
    """

    name: str
    title: str
    metrics: tuple[str, ...]
    base: Mapping[str, Any]
    rows: tuple[Row, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    figure: str | None = None
    squares: int | None = None
    layout: str = "classes"


def load_table(name: str, size: str) -> Table:
    """Read the description of a table; what it says of a size is laid over what both share.

    Raises:
        ConfigError: there is none.
    """
    path = HERE / "tables" / f"{name}.toml"
    if not path.exists() or size not in SIZES:
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.toml")))
        raise ConfigError(f"there is no table {name}-{size}; there are: {known}, as desk and paper")
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    raw = _laid_over({k: v for k, v in raw.items() if k not in SIZES}, raw[size])

    def row(described: Mapping[str, Any]) -> Row:
        kinds = [{**raw["stage"], **raw["steps"][kind]} for kind in described["stage"]]
        seconds = [kind.pop("seconds") for kind in kinds]
        stages = [{**kind, **described.get("change", {})} for kind in kinds]
        recode = Recode(**described["recode"]) if "recode" in described else None
        paper = described.get("paper", {})
        return Row(described["name"], paper, stages, seconds, raw["overhead"], recode)

    return Table(
        name=f"{name}-{size}",
        title=raw["title"],
        metrics=tuple(raw["metrics"]),
        base=raw["base"],
        rows=tuple(row(d) for d in raw["row"] if d["name"] not in raw.get("without", ())),
        pairs=tuple((a, b) for a, b in raw["pairs"]),
        **{key: raw[key] for key in ("figure", "squares", "layout") if key in raw},
    )


def _laid_over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return two nested tables as one; where both have a value, it is that of ``over``."""
    deep = {k: _laid_over(under[k], v) for k, v in over.items() if isinstance(under.get(k), dict)}
    return {**under, **over, **deep}


# --- Results --------------------------------------------------------------------------------------


def result_path(results: Path, row: str, seed: int) -> Path:
    """Return the file of a row's result."""
    return results / f"{row.replace(' ', '-').replace('/', '-')}-seed{seed}.json"


def missing(table: Table, seeds: Sequence[int], results: Path) -> Iterator[tuple[Row, int]]:
    """Yield rows and seeds of which there is no result, or one of another description.

    Args:
        table: whose rows,
        seeds: with each of these.
        results: the folder of results.
    """
    for seed in seeds:
        for row in table.rows:
            path = result_path(results, row.name, seed)
            if not (path.exists() and _is_current(_read(path), table, row, seed)):
                yield row, seed


def described(table: Table, row: Row, seed: int) -> dict[str, Any]:
    """Return what a row's result follows from beside its data, as JSON; the result repeats it."""
    parts = {
        "config": {**table.base, "seed": seed, "stage": row.stage},
        "squares": table.squares,
        "recode": row.recode and row.recode._asdict(),
    }
    as_json: dict[str, Any] = json.loads(json.dumps(parts))
    return as_json


def read_results(table: Table, results: Path) -> tuple[dict[str, list[Result]], list[Path]]:
    """Return the results of a table as it is described now, and what does not belong to it.

    Returns:
        By row, in its order, the results that there are; and the files that were made from another
        description, which would be means of two experiments if they counted.
    """
    rows = {row.name: row for row in table.rows}
    found: dict[str, list[Result]] = {name: [] for name in rows}
    others = []
    for path in sorted(results.glob("*-seed*.json")):
        result = _read(path)
        name, seed = result.get("row", ""), result.get("seed", 0)
        own = name in rows and path == result_path(results, name, seed)
        if own and _is_current(result, table, rows[name], seed):
            found[name].append(result)
        else:
            others.append(path)
    return found, others


def _read(path: Path) -> Result:
    """Return a result; an empty one, which no description fits, where its writing was cut off."""
    try:
        result: Result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return result


def _is_current(result: Result, table: Table, row: Row, seed: int) -> bool:
    """Tell whether a result is of the row as it is described now."""
    return all(result.get(key) == value for key, value in described(table, row, seed).items())


# --- As text --------------------------------------------------------------------------------------


def as_markdown(table: Table, results: Path) -> str:
    """Return a table of what there is: means over seeds, their spread, and the paper's figures."""
    found, _ = read_results(table, results)
    every = [result for own in found.values() for result in own]
    header = ["", "bpp", "paper's bpp", "PSNR, dB"]
    for metric in table.metrics:
        name = metric.replace("_", " ")
        header += [name, f"less than {BASELINE}", f"paper's {name}", "less"]
    lines = [f"## {table.title}", "", _pipe(header), _pipe(["---", *["---:"] * (len(header) - 1)])]
    baseline = _row(table, BASELINE).paper
    for row in table.rows:
        own = found[row.name]
        if not own:
            continue
        cells = [
            row.name,
            _mean([r["bpp"] for r in own if "bpp" in r], ".4f"),
            f"{row.paper['bpp']:.4f}" if "bpp" in row.paper else "",
            _mean([r["psnr"] for r in own if "psnr" in r], ".1f"),
        ]
        for metric in table.metrics:
            values = [100 * result[metric] for result in own]
            lost = [100 * d for d in _differences(found, BASELINE, row.name, metric)]
            theirs, least = row.paper.get(metric), baseline.get(metric)
            spread = f" ± {(max(values) - min(values)) / 2:.1f}" if len(values) > 1 else ""
            cells += [
                f"{statistics.mean(values):.1f}{spread} %",
                _mean(lost, ".1f"),
                f"{theirs:.1f} %" if theirs is not None else "",
                f"{least - theirs:.1f}" if theirs is not None and least is not None else "",
            ]
        lines.append(_pipe(cells))
    paired = [cells for pair in table.pairs if (cells := _pair(table, pair, found))]
    lines += map(_pipe, paired)
    seeds = sorted({result["seed"] for result in every})
    hours = sum(result["seconds"] for result in every) / 3600
    made = sorted({(r["date"], r["commit"]) for r in every if "commit" in r})
    lines += [
        "",
        f"Means over seeds {', '.join(map(str, seeds))} of the split; ± half the range. Steps of "
        f"training add up to {hours:.1f} hours."
        + (f" Made from {made[0][0]} to {made[-1][0]}, at " if made else "")
        + (", ".join(dict.fromkeys(commit for _, commit in made)) + "." if made else ""),
    ]
    if paired:
        lines += [
            "",
            "Rows with − are means of the differences by seed, in points; ± half of their 95 % "
            "interval by Student's t, which supposes that so few differences are normal.",
        ]
    fewer = [
        f"{name} ({', '.join(map(str, own))})"
        for name, results_of in found.items()
        if (own := sorted(result["seed"] for result in results_of)) and own != seeds
    ]
    if fewer:
        lines += ["", f"Rows with fewer seeds: {'; '.join(fewer)}."]
    return "\n".join(lines) + "\n"


def _mean(values: Sequence[float], form: str) -> str:
    return format(statistics.mean(values), form) if values else ""


def _differences(
    found: Mapping[str, Sequence[Result]], first: str, second: str, field: str
) -> list[float]:
    """Return what the first row has more than the second, by the seeds that both have."""
    ours, theirs = (
        {result["seed"]: result[field] for result in found.get(name, []) if field in result}
        for name in (first, second)
    )
    return [ours[seed] - theirs[seed] for seed in ours if seed in theirs]


def _pair(
    table: Table, pair: tuple[str, str], found: Mapping[str, Sequence[Result]]
) -> list[str] | None:
    """Return the cells of a pair's differences; None where no seed has both."""
    if not _differences(found, *pair, table.metrics[0]):
        return None
    papers = [_row(table, name).paper for name in pair]
    bpp, psnr = (_differences(found, *pair, field) for field in ("bpp", "psnr"))
    cells = [f"{pair[0]} − {pair[1]}", _mean(bpp, "+.4f"), "", _mean(psnr, "+.1f")]
    for metric in table.metrics:
        points = [100 * d for d in _differences(found, *pair, metric)]
        known = all(metric in paper for paper in papers)
        theirs = f"{papers[0][metric] - papers[1][metric]:+.1f}" if known else ""
        half = f" ± {half_interval(points):.1f}" if len(points) > 1 else ""
        cells += [f"{statistics.mean(points):+.1f}{half}", "", theirs, ""]
    return cells


def half_interval(values: Sequence[float]) -> float:
    """Return half of the 95 % interval of the mean of at least two values, by Student's t."""
    quantile = float(stats.t.ppf(0.975, len(values) - 1))
    return quantile * statistics.stdev(values) / math.sqrt(len(values))


def _row(table: Table, name: str) -> Row:
    return next(row for row in table.rows if row.name == name)


def _pipe(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


# --- The figure -----------------------------------------------------------------------------------


def draw_figure(table: Table, results: Path) -> dict[str, bytes]:
    """Return the first metric of what there is over bits a pixel, as PNG and SVG.

    Raises:
        BackendUnavailable: matplotlib is missing.
    """
    metric = table.metrics[0]
    results_of, _ = read_results(table, results)
    families: dict[str, list[Row]] = {OURS: []}
    for row in table.rows:
        if row.name != BASELINE:
            families.setdefault(row.name.partition(" ")[0], []).append(row)
    lines = []
    for name, rows in families.items():
        # Trained in another way, a row is no point of the curve that the others are.
        found, staged = (
            [results_of[row.name] for row in rows if row.name.endswith(STAGED) == other]
            for other in (False, True)
        )
        published = [
            (row.paper["bpp"], _spread([row.paper[metric]]))
            for row in rows
            if row.paper.keys() >= {"bpp", metric}
        ]
        lines += [
            plot.Line(name, name, "own", _points(found, metric)),
            plot.Line(name + STAGED, name, "variant", _points(staged, metric)),
            plot.Line(name, name, "paper", sorted(published)),
        ]
    itself = [100 * result[metric] for result in results_of[BASELINE]]
    return plot.draw_rows(
        lines,
        _spread(itself) if itself else None,
        _row(table, BASELINE).paper.get(metric),
        label=f"{metric.replace('_', ' ')}, %",
    )


def _points(rows: Sequence[Sequence[Result]], metric: str) -> list[tuple[float, plot.Spread]]:
    """Return a point a row that has results, by the rate."""
    return sorted(
        (statistics.mean(r["bpp"] for r in results), _spread([100 * r[metric] for r in results]))
        for results in rows
        if results
    )


def _spread(values: Sequence[float]) -> plot.Spread:
    return plot.Spread(statistics.mean(values), min(values), max(values))
