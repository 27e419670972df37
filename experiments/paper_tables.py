"""A table of the paper: its description, its existing results, and how they are shown.

tables/<table>-<size>.toml ─▶ Table
results/<table>-<size>/<row>-seed<n>.json ─▶ as_markdown, draw_figure

Nothing here trains. Results are shown also while rows or seeds are missing.
"""

import json
import statistics
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import row_plot as plot

from tactic_codec.errors import ConfigError

HERE = Path(__file__).resolve().parent
BASELINE = "uncompressed"
"""Row that the others are compared with."""
OURS = "TACTIC"
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
    """A line of a table.

    Attributes:
        name: unique in the table.
        paper: the paper's figures, by metric; empty where it has no such row.
        stage: of the task network, or of codec and network together.
        codec: stages before the others, which rows share: of the codec by itself, and where it goes
            on, of the task network on what it decodes; empty where there are none.
        frozen: whether that codec then stays as it is.
        recode: what the pictures were coded with; None where they were not.
    """

    name: str
    paper: Mapping[str, float]
    stage: Sequence[Mapping[str, Any]]
    codec: Sequence[Mapping[str, Any]] = ()
    frozen: bool = True
    recode: Recode | None = None


@dataclass(frozen=True)
class Table:
    """A table of the paper, at one size.

    Attributes:
        title: for people.
        metrics: fields of results that are shares, the first of them the one that counts.
        base: what the configurations of all rows share.
        rows: in the order of the paper.
        figure: name of the picture of the first metric over the rate; None where there is none.
    """

    title: str
    metrics: tuple[str, ...]
    base: Mapping[str, Any]
    rows: tuple[Row, ...]
    figure: str | None = None


def load_table(name: str, size: str) -> Table:
    """Read the description of a table.

    Raises:
        ConfigError: there is none.
    """
    path = HERE / "tables" / f"{name}-{size}.toml"
    if not path.exists():
        known = sorted(p.stem for p in path.parent.glob("*.toml"))
        raise ConfigError(f"there is no table {name}-{size}; there are: {', '.join(known)}")
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    rows = tuple(
        Row(
            name=row["name"],
            paper=row.get("paper", {}),
            stage=[{**raw["steps"][kind], **changes} for kind, changes in _stages(row["stage"])],
            codec=[
                {**raw["steps"][kind], **changes} for kind, changes in _stages(row.get("codec", []))
            ],
            frozen=row.get("frozen", True),
            recode=Recode(**row["recode"]) if "recode" in row else None,
        )
        for row in raw["row"]
    )
    return Table(raw["title"], tuple(raw["metrics"]), raw["base"], rows, raw.get("figure"))


def _stages(named: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of a kind of stage, and what a row changes of it."""
    for stage in named:
        yield stage["like"], {key: value for key, value in stage.items() if key != "like"}


# --- Results --------------------------------------------------------------------------------------


def result_path(results: Path, row: str, seed: int) -> Path:
    """Return the file of a row's result."""
    return results / f"{row.replace(' ', '-').replace('/', '-')}-seed{seed}.json"


def missing(
    table: Table, seeds: Sequence[int], results: Path, *, only: str | None = None
) -> Iterator[tuple[Row, int]]:
    """Yield rows and seeds of which there is no result, or one of another description.

    Args:
        table: whose rows,
        seeds: with each of these.
        results: the folder of results; each is looked for when its turn comes.
        only: name of the one row to look for; None for all.
    """
    for seed in seeds:
        for row in table.rows:
            if only and row.name != only:
                continue
            path = result_path(results, row.name, seed)
            if not (path.exists() and _is_current(_read(path), table, row, seed)):
                yield row, seed


def described(table: Table, row: Row, seed: int) -> dict[str, Any]:
    """Return what a row's result follows from beside its data, as JSON; the result repeats it."""
    parts = {
        "config": {**table.base, "seed": seed, "stage": row.stage},
        "codec": list(row.codec),
        "frozen": row.frozen,
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


def of_other_data(found: Mapping[str, Sequence[Result]]) -> list[Result]:
    """Return the results of other data than most, as their numbers of pictures tell.

    The numbers of a split follow from its folders and shares, whatever the row and the seed. Names
    of folders tell nothing: pictures that were recoded lie in one for each codec.

    Args:
        found: results by row; those that do not say what they were made from are passed over.
    """

    def numbers(result: Result) -> tuple[tuple[int, int, int], ...]:
        return tuple((part["train"], part["calibration"], part["test"]) for part in result["data"])

    every = [result for own in found.values() for result in own if "data" in result]
    usual = Counter(map(numbers, every)).most_common(1)
    return [result for result in every if numbers(result) != usual[0][0]]


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
    standard = any("standard_bpp" in result for result in every)
    published = any("bpp" in row.paper for row in table.rows)
    header = ["", "bpp"]
    header += ["bpp, standard JPEG"] if standard else []
    header += ["paper's bpp"] if published else []
    for metric in table.metrics:
        name = metric.replace("_", " ")
        header += [name, f"less than {BASELINE}", f"paper's {name}", "less"]
    lines = [f"## {table.title}", "", _pipe(header), _pipe(["---", *["---:"] * (len(header) - 1)])]
    for row in table.rows:
        own = found[row.name]
        if not own:
            continue
        cells = [row.name, _mean_bpp(own, "bpp")]
        cells += [_mean_bpp(own, "standard_bpp")] if standard else []
        if published:
            cells.append(f"{row.paper['bpp']:.4f}" if "bpp" in row.paper else "")
        for metric in table.metrics:
            cells += _cells(table, row, metric, found)
        lines.append(_pipe(cells))
    seeds = sorted({result["seed"] for result in every})
    # Rows share the codec that they start from.
    shared = {(r["seed"], r["codec_seconds"]) for r in every}
    hours = (sum(r["seconds"] for r in every) + sum(seconds for _, seconds in shared)) / 3600
    lines += [
        "",
        f"Means over seeds {', '.join(map(str, seeds))} of the split; ± half the range. Steps of "
        f"training add up to {hours:.1f} hours.",
    ]
    own_seeds = {name: sorted(result["seed"] for result in own) for name, own in found.items()}
    fewer = [
        f"{name} ({', '.join(map(str, own))})"
        for name, own in own_seeds.items()
        if own and own != seeds
    ]
    if fewer:
        lines += ["", f"Rows with fewer seeds: {'; '.join(fewer)}."]
    if standard:
        lines += [
            "",
            "bpp of JPEG: optimised Huffman tables, baseline or progressive, the smaller. Standard "
            "JPEG: the same pixels with the standard's own tables, of which the paper's rates are.",
        ]
    return "\n".join(lines) + "\n"


def _mean_bpp(results: Sequence[Result], field: str) -> str:
    bpp = [result[field] for result in results if field in result]
    return f"{statistics.mean(bpp):.4f}" if bpp else ""


def _cells(table: Table, row: Row, metric: str, found: Mapping[str, Sequence[Result]]) -> list[str]:
    own = {result["seed"]: 100 * result[metric] for result in found[row.name]}
    least_of = {result["seed"]: 100 * result[metric] for result in found.get(BASELINE, [])}
    values = list(own.values())
    losses = [least_of[seed] - value for seed, value in own.items() if seed in least_of]
    theirs, least = row.paper.get(metric), _row(table, BASELINE).paper.get(metric)
    mean = f"{statistics.mean(values):.1f}"
    spread = f" ± {(max(values) - min(values)) / 2:.1f}" if len(values) > 1 else ""
    return [
        f"{mean}{spread} %",
        f"{statistics.mean(losses):.1f}" if losses else "",
        f"{theirs:.1f} %" if theirs is not None else "",
        f"{least - theirs:.1f}" if theirs is not None and least is not None else "",
    ]


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
        found = [results_of[row.name] for row in rows]
        published = [
            (row.paper["bpp"], _spread([row.paper[metric]]))
            for row in rows
            if row.paper.keys() >= {"bpp", metric}
        ]
        lines += [
            plot.Line(name, name, "own", _points(found, "bpp", metric)),
            plot.Line(
                *(f"{name}, standard tables", name, "variant"),
                _points(found, "standard_bpp", metric),
            ),
            plot.Line(name, name, "paper", sorted(published)),
        ]
    itself = [100 * result[metric] for result in results_of[BASELINE]]
    return plot.draw_rows(
        lines,
        _spread(itself) if itself else None,
        _row(table, BASELINE).paper.get(metric),
        label=f"{metric.replace('_', ' ')}, %",
    )


def _points(
    rows: Sequence[Sequence[Result]], rate: str, metric: str
) -> list[tuple[float, plot.Spread]]:
    """Return a point a row that has results with this rate, by the rate."""
    known = [[result for result in results if rate in result] for results in rows]
    return sorted(
        (statistics.mean(r[rate] for r in results), _spread([100 * r[metric] for r in results]))
        for results in known
        if results
    )


def _spread(values: Sequence[float]) -> plot.Spread:
    return plot.Spread(statistics.mean(values), min(values), max(values))
