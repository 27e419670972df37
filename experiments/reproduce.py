"""The tables of the TACTIC paper: train every row, measure it on real files, print it beside them.

    python experiments/reproduce.py table1 --size desk --data imagenette/train
    python experiments/reproduce.py table3 --size paper --data camvid/train --test camvid/val \
        --device cuda

``experiments/tables/<table>-<size>.toml`` describes a table: a configuration that all rows share,
and of each row its stages and the paper's figures. ``desk`` is for two cores and some hours,
``paper`` for a GPU; the code is the same. Every row is trained for each seed of the split, and its
result is a file of ``--results``. What is there already is not made again, and a training that was
interrupted goes on, so the same command resumes a table.

A row is one of three kinds:

    stage              the task network alone (quantisation "none"), or codec and network together
    codec, stage       the codec by itself; then it is frozen, and the network learns on its output
    recode, stage      the network alone, on pictures that another codec has coded, at their bytes
"""

import argparse
import hashlib
import json
import os
import platform
import statistics
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from tactic_codec import image
from tactic_codec.errors import ConfigError
from tactic_codec.evaluation.coders import CONVENTIONAL, conventional
from tactic_codec.model import Model
from tactic_codec.training.checkpoint import LOG
from tactic_codec.training.command import train_command
from tactic_codec.training.config import parse_config
from tactic_codec.training.data import SUFFIXES as PICTURES

HERE = Path(__file__).resolve().parent
SUFFIXES = {"jpeg": ".jpg", "webp": ".webp", "avif": ".avif"}
BASELINE = "uncompressed"
"""Row that the others are compared with."""

STANDARD_JPEG = replace(CONVENTIONAL["jpeg"], options=lambda quality: ({"quality": quality},))
"""The paper's JPEG, as Pillow writes it unasked: the pixels of ours, in more bytes, since its
Huffman tables are those of the standard."""


class Recode(NamedTuple):
    """Another codec in place of ours.

    Attributes:
        codec: as `tactic eval` names it: its smallest honest files.
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
        codec: stages of the codec by itself; empty where there are none.
        recode: what the pictures were coded with; None where they were not.
    """

    name: str
    paper: Mapping[str, float]
    stage: Sequence[Mapping[str, Any]]
    codec: Sequence[Mapping[str, Any]] = ()
    recode: Recode | None = None


@dataclass(frozen=True)
class Table:
    """A table of the paper, at one size.

    Attributes:
        title: for people.
        metrics: fields of results that are shares, the first of them the one that counts.
        base: what the configurations of all rows share.
        rows: in the order of the paper.
    """

    title: str
    metrics: tuple[str, ...]
    base: Mapping[str, Any]
    rows: tuple[Row, ...]


class Data(NamedTuple):
    """The folders of a table, and where its work and its results go."""

    folders: tuple[Path, ...]
    tests: tuple[Path, ...]
    work: Path
    results: Path
    device: str
    threads: int | None


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
            recode=Recode(**row["recode"]) if "recode" in row else None,
        )
        for row in raw["row"]
    )
    return Table(raw["title"], tuple(raw["metrics"]), raw["base"], rows)


def _stages(named: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of a kind of stage, and what a row changes of it."""
    for stage in named:
        yield stage["like"], {key: value for key, value in stage.items() if key != "like"}


# --- A row ----------------------------------------------------------------------------------------


def run_row(table: Table, row: Row, seed: int, data: Data) -> dict[str, Any]:
    """Train a row for a seed, unless that was done, and return its result."""
    folders, tests = data.folders, data.tests
    squares: tuple[Path, ...] = ()
    if any(other.recode for other in table.rows):
        # All rows start from the same squares, so that only the codec differs.
        side = int(table.base["data"]["size"])
        squares = tuple(recoded(folder, None, side, data.work) for folder in tests or folders)
        folders = tuple(recoded(folder, row.recode, side, data.work) for folder in folders)
        tests = tuple(recoded(folder, row.recode, side, data.work) for folder in tests)
    start = None
    codec_seconds = 0.0
    if row.codec:
        alone = {**table.base, "seed": seed, "stage": row.codec}
        start, codec_seconds = _trained(alone, folders, tests, data)
    config = {**table.base, "seed": seed, "stage": row.stage}
    model, took = _trained(config, folders, tests, data, start=start)
    figures = _figures(model, row, folders, tests, squares)
    return {
        "row": row.name,
        "seed": seed,
        **figures,
        "seconds": round(took),
        "codec_seconds": round(codec_seconds),
        "threads": data.threads or torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, {data.device}",
        "torch": torch.__version__,
        "config": config,
        "codec": list(row.codec),
        "recode": row.recode and row.recode._asdict(),
        "data": model.manifest["training"]["data"]
        if not row.codec
        else model.manifest["heads_training"][_task(model)]["data"],
    }


def _task(model: Model) -> str:
    return "segment" if "segment" in model.heads else "classify"


def _trained(
    config: Mapping[str, Any],
    folders: Sequence[Path],
    tests: Sequence[Path],
    data: Data,
    *,
    start: Model | None = None,
) -> tuple[Model, float]:
    """Train a configuration, or find what it was trained to; and the seconds of its steps.

    Work is kept by what it follows from, so that rows share what they have in common.
    """
    origin = start.fingerprint.hex() if start else None
    named = [str(folder) for folder in (*folders, *tests)]
    key = json.dumps([config, named, origin], sort_keys=True)
    place = data.work / hashlib.sha256(key.encode()).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "model").exists():
        (place / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        train_command(
            parse_config(dict(config), str(place / "config.json")),
            list(folders),
            place / "model",
            tests=list(tests),
            head_only=start is not None,
            start=start.path if start else None,
            run=place / "run",
            device=data.device,
            threads=data.threads,
            command=f"python experiments/reproduce.py, seed {config['seed']}",
            say=lambda line: print(f"  {line}", flush=True),
        )
    lines = [json.loads(line) for line in (place / "run" / LOG).read_text().splitlines()]
    return Model(place / "model"), sum(line.get("seconds", 0.0) for line in lines)


def _figures(
    model: Model,
    row: Row,
    folders: Sequence[Path],
    tests: Sequence[Path],
    squares: Sequence[Path],
) -> dict[str, Any]:
    """Return what a row reaches on its test images, from real files.

    ``squares`` are what the folders with the test images were coded from, where that was so.
    """
    (name,) = model.manifest["metrics"]
    figures = dict(model.manifest["metrics"][name])
    coded = any(stage.get("quantisation", "noise") != "none" for stage in row.stage)
    if coded:
        return figures
    # The network alone: what it says of the pictures themselves, whoever coded them.
    shares = {
        key.removeprefix("uncompressed_"): value
        for key, value in figures.items()
        if key.startswith("uncompressed_")
    }
    sizes = {}
    if row.recode:
        held_out = (model.held_out() or frozenset()) if not tests else None
        sizes = _file_sizes(row.recode, tests or folders, squares, held_out)
    return {"images": figures["images"], **sizes, **shares}


def _file_sizes(
    recode: Recode,
    folders: Sequence[Path],
    squares: Sequence[Path],
    names: frozenset[str] | None,
) -> dict[str, float]:
    """Return mean bytes and bpp of coded pictures on disk; of JPEG by its standard tables, too.

    Args:
        recode: by which they were coded.
        folders: that hold them,
        squares: and of each the folder that it was coded from.
        names: of those that count, below their folder; None for all.
    """
    sizes, standard, pixels = [], [], []
    for folder, origin in zip(folders, squares, strict=True):
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            known = names is None or name.as_posix() in names
            if path.suffix not in SUFFIXES.values() or not known:
                continue
            square = image.load((origin / name).with_suffix(".png"))
            pixels.append(square.shape[0] * square.shape[1])
            sizes.append(path.stat().st_size)
            if recode.codec == "jpeg":
                standard.append(len(STANDARD_JPEG.encode(square, recode.quality)))
    figures = _means("", sizes, pixels)
    return figures | _means("standard_", standard, pixels) if standard else figures


def _means(prefix: str, sizes: Sequence[int], pixels: Sequence[int]) -> dict[str, float]:
    bits = [8 * size / count for size, count in zip(sizes, pixels, strict=True)]
    return {f"{prefix}bytes": float(np.mean(sizes)), f"{prefix}bpp": float(np.mean(bits))}


def recoded(folder: Path, recode: Recode | None, side: int, work: Path) -> Path:
    """Return a folder with the squares of another's pictures, coded; made where it is missing.

    Args:
        folder: of class folders.
        recode: by which codec; None keeps every pixel.
        side: of the squares, in pixels.
        work: where the folder goes.
    """
    paths = sorted(p for p in folder.glob("*/**/*") if p.suffix.lower() in PICTURES)
    key = json.dumps([str(folder.resolve()), *(p.relative_to(folder).as_posix() for p in paths)])
    how = f"{recode.codec}-{recode.quality}" if recode else "lossless"
    out = work / f"{folder.name}-{how}-{side}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    if (out / "complete").exists():
        return out
    for path in paths:
        square = image.square(image.load(path), side)
        data = (
            conventional(recode.codec).encode(square, recode.quality)
            if recode
            else image.save(square, "png")
        )
        target = (out / path.relative_to(folder)).with_suffix(
            SUFFIXES[recode.codec] if recode else ".png"
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    (out / "complete").touch()
    return out


# --- The table ------------------------------------------------------------------------------------


def run_table(table: Table, seeds: Sequence[int], data: Data, *, only: str | None = None) -> None:
    """Make every result that is missing."""
    data.results.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for row in table.rows:
            if only and row.name != only:
                continue
            path = result_path(data.results, row.name, seed)
            if path.exists() and _is_current(json.loads(path.read_text()), table, row, seed):
                continue
            print(f"{row.name}, seed {seed}", flush=True)
            result = run_row(table, row, seed, data)
            path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _is_current(result: Mapping[str, Any], table: Table, row: Row, seed: int) -> bool:
    """Tell whether a result is of the row as it is described now."""
    recode = row.recode and row.recode._asdict()
    config = {**table.base, "seed": seed, "stage": row.stage}
    described = {"config": config, "codec": list(row.codec), "recode": recode}
    return all(result[key] == json.loads(json.dumps(value)) for key, value in described.items())


def result_path(results: Path, row: str, seed: int) -> Path:
    """Return the file of a row's result."""
    return results / f"{row.replace(' ', '-').replace('/', '-')}-seed{seed}.json"


def as_markdown(table: Table, results: Path) -> str:
    """Return a table of what there is: means over seeds, their spread, and the paper's figures."""
    found = {row.name: list(_results(results, row.name)) for row in table.rows}
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
    # Rows share the codec that they leave as it is.
    shared = {(r["seed"], r["codec_seconds"]) for r in every}
    hours = (sum(r["seconds"] for r in every) + sum(seconds for _, seconds in shared)) / 3600
    lines += [
        "",
        f"Means over seeds {', '.join(map(str, seeds))} of the split; ± half the range. Steps of "
        f"training add up to {hours:.1f} hours.",
    ]
    if standard:
        lines += [
            "",
            "bpp of JPEG: optimised Huffman tables, baseline or progressive, the smaller. Standard "
            "JPEG: the same pixels with the standard's own tables, of which the paper's rates are.",
        ]
    return "\n".join(lines) + "\n"


def _mean_bpp(results: Sequence[Mapping[str, Any]], field: str) -> str:
    bpp = [result[field] for result in results if field in result]
    return f"{statistics.mean(bpp):.4f}" if bpp else ""


def _cells(
    table: Table, row: Row, metric: str, found: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[str]:
    own = {result["seed"]: 100 * result[metric] for result in found[row.name]}
    least_of = {result["seed"]: 100 * result[metric] for result in found.get(BASELINE, [])}
    values = list(own.values())
    losses = [least_of[seed] - value for seed, value in own.items() if seed in least_of]
    theirs, least = row.paper.get(metric), _row(table, BASELINE).paper.get(metric)
    mean = statistics.mean(values)
    return [
        f"{mean:.1f} ± {(max(values) - min(values)) / 2:.1f} %",
        f"{statistics.mean(losses):.1f}" if losses else "",
        f"{theirs:.1f} %" if theirs is not None else "",
        f"{least - theirs:.1f}" if theirs is not None and least is not None else "",
    ]


def _row(table: Table, name: str) -> Row:
    return next(row for row in table.rows if row.name == name)


def _results(results: Path, row: str) -> Iterator[dict[str, Any]]:
    stem = result_path(results, row, 0).name.removesuffix("0.json")
    for path in sorted(results.glob(f"{stem}*.json")):
        yield json.loads(path.read_text(encoding="utf-8"))


def _pipe(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run a table from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=["table1", "table2", "table3"])
    parser.add_argument("--size", choices=["desk", "paper"], default="desk")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--test", type=Path, help="by default a fifth of --data is kept out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--row", help="only this row")
    parser.add_argument("--work", type=Path, default=Path("runs/tables"))
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    table = load_table(given.table, given.size)
    data = Data(
        (given.data,),
        (given.test,) if given.test else (),
        given.work,
        given.results / f"{given.table}-{given.size}",
        given.device,
        given.threads,
    )
    run_table(table, given.seeds, data, only=given.row)
    text = as_markdown(table, data.results)
    (data.results / "README.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
