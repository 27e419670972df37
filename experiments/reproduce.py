"""The tables of the TACTIC paper: train every row, measure it on real files, print the table.

    python experiments/reproduce.py --data imagenette/train --masks camvid/train camvid/val
    python experiments/reproduce.py table1 table2 --size paper --data imagenet/train --classes 50 \
        --device cuda --workers 8
    python experiments/reproduce.py table3 --size paper --masks cityscapes --device cuda --workers 8

``experiments/tables/<table>.toml`` describes a table: a configuration that all rows share, and the
stages and the paper's figures of each row. ``desk`` is for one core and some hours, ``paper`` for a
GPU; the code is the same. Every row is one run of training for each seed of the split, and its
result is a file below ``--results``. All rows of all tables have a seed before the next one begins.
Existing results are not made again, and an interrupted training continues, so the same command
resumes. Without ``--data`` and ``--masks`` nothing is trained, and the existing results are shown.
Results that were made from another description of the table are named, left out, and made anew.

    <results>/<table>-<size>/<row>-seed<n>.json     a result, with its configuration and commit
                             README.md              the table, as it is printed
                             figure2.png, .svg      table 2: accuracy over bits a pixel
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import paper_networks  # noqa: F401  the tables name its networks
import torch
from paper_tables import (
    HERE,
    SIZES,
    Recode,
    Row,
    Table,
    as_markdown,
    described,
    draw_figure,
    load_table,
    missing,
    read_results,
    result_path,
)
from PIL import Image

from tactic_codec import metrics
from tactic_codec import picture as image
from tactic_codec.errors import BackendUnavailable, DataError, ImageError, LimitExceeded, TacError
from tactic_codec.model import Model
from tactic_codec.rivals import rival
from tactic_codec.training.checkpoint import LOG
from tactic_codec.training.command import train_command
from tactic_codec.training.config import parse_config
from tactic_codec.training.loop import Step

SUFFIX_OF = {"jpeg": ".jpg", "webp": ".webp", "avif": ".avif"}

CITYSCAPES = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The values in ``labelIds`` of the 19 classes of Cityscapes; others are void."""
VOID = 255

TIMED = 100
"""Steps after which the hours that are left are told."""

OLDER = "> These results were made from an earlier description of the table, and do not count.\n\n"


class Setup(NamedTuple):
    """Where data lie, and where work and results go.

    Attributes:
        data: the folder of class folders, and where there is one that to test on; empty for none.
        masks: likewise of pictures with label maps.
        classes: how many of the class folders count, by name; None for all.
        work: of prepared pictures and of runs.
        results: of all tables.
        device: of torch.
        threads: likewise; None for its own choice.
        workers: processes that read pictures.
    """

    data: tuple[Path, ...]
    masks: tuple[Path, ...]
    classes: int | None
    work: Path
    results: Path
    device: str = "cpu"
    threads: int | None = None
    workers: int = 0

    def folders(self, table: Table) -> tuple[Path, ...]:
        """Return the folders of a table, as they were given."""
        return self.data if table.layout == "classes" else self.masks


Left = list[tuple[Table, Row, int]]
"""Rows and seeds without results, in the order in which they are made."""


# --- A row ----------------------------------------------------------------------------------------


def run_row(table: Table, row: Row, seed: int, setup: Setup, later: float = 0.0) -> dict[str, Any]:
    """Train a row for a seed, unless that was done, and return its result.

    ``later`` is the estimate of all that comes after it, in seconds.
    """
    folders = setup.folders(table)
    squares: Sequence[Path] = ()
    if table.layout == "cityscapes":
        folders = tuple(
            cityscapes(folder, table.base["data"]["size"], setup.work) for folder in folders
        )
    if setup.classes and table.layout == "classes":
        folders = tuple(first_classes(folder, setup.classes, setup.work) for folder in folders)
    if table.squares:
        squares, folders = (
            tuple(recoded(folder, recode, table.squares, setup.work) for folder in folders)
            for recode in (None, row.recode)
        )
    origin = described(table, row, seed)
    model, seconds = _trained(row, origin["config"], folders, setup, later)
    return {
        "row": row.name,
        "seed": seed,
        **_figures(model, row, folders, squares),
        "seconds": round(seconds),
        "threads": setup.threads or torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, {setup.device}",
        "torch": torch.__version__,
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
        **origin,
        "data": model.manifest["training"]["data"],
    }


def commit() -> str:
    """Return the commit of this code, and whether it was changed since."""
    asked = ["git", "-C", str(HERE), "describe", "--always", "--dirty=-changed", "--exclude=*"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _trained(
    row: Row, config: Mapping[str, Any], folders: Sequence[Path], setup: Setup, later: float
) -> tuple[Model, float]:
    """Train a row, or find what it was trained to; and the seconds of its steps."""
    key = json.dumps([config, [str(folder.resolve()) for folder in folders]], sort_keys=True)
    place = setup.work / hashlib.sha256(key.encode()).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "model").exists():
        (place / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        given = {**config, "data": {**config["data"], "workers": setup.workers}}
        train_command(
            parse_config(given, str(place / "config.json")),
            folders[:1],
            place / "model",
            tests=folders[1:],
            run=place / "run",
            device=setup.device,
            threads=setup.threads,
            command=f"python experiments/reproduce.py, seed {config['seed']}",
            progress=Clock(row, later),
            say=lambda line: print(f"  {line}", flush=True),
        )
    lines = [json.loads(line) for line in (place / "run" / LOG).read_text().splitlines()]
    return Model(place / "model"), sum(line.get("seconds", 0.0) for line in lines)


class Clock:
    """Tells the hours that are left when 100 steps of a row have been timed."""

    def __init__(self, row: Row, later: float) -> None:
        self.row, self.later = row, later
        self.first = 0
        self.began = 0.0

    def __call__(self, step: Step, steps: int) -> None:
        """Take note of a step."""
        if not self.first:
            self.first, self.began = step.step, time.perf_counter()
        if step.step == self.first + TIMED:
            took = time.perf_counter() - self.began
            expected = self.row.estimate(self.first) - self.row.estimate(step.step)
            row, later = (
                seconds * took / expected / 3600
                for seconds in (self.row.estimate(step.step), self.later)
            )
            print(
                f"  {took / TIMED:.2f} s a step: about {row:.1f} hours left of this row, "
                f"{row + later:.1f} of all",
                flush=True,
            )


def _figures(
    model: Model, row: Row, folders: Sequence[Path], squares: Sequence[Path]
) -> dict[str, Any]:
    """Return what a row reaches on its test images, from real files.

    ``squares`` are what the folders were coded from, where that was so.
    """
    (name,) = model.manifest["metrics"]
    figures = dict(model.manifest["metrics"][name])
    if any(stage.get("quantisation") != "none" for stage in row.stage):
        return figures
    # The network alone: what it says of the pictures themselves, whoever coded them.
    shares = {
        key.removeprefix("uncompressed_"): value
        for key, value in figures.items()
        if key.startswith("uncompressed_")
    }
    files = {}
    if row.recode:
        held_out = None if folders[1:] else (model.held_out() or frozenset())
        files = _file_figures(row.recode, folders[-1], squares[-1], held_out)
    return {"images": figures["images"], **files, **shares}


def _file_figures(
    recode: Recode, folder: Path, origin: Path, names: frozenset[str] | None
) -> dict[str, float]:
    """Return means of PSNR, bytes and bpp of coded pictures.

    Args:
        recode: by which they were coded.
        folder: that holds them,
        origin: and that which they were coded from.
        names: of those that count, below their folder; None for all.
    """
    found = []
    for path in sorted(folder.glob(f"*/**/*{SUFFIX_OF[recode.codec]}")):
        name = path.relative_to(folder)
        if names is None or name.as_posix() in names:
            square = image.load((origin / name).with_suffix(".png"))
            pixels = square.shape[0] * square.shape[1]
            size, psnr = path.stat().st_size, metrics.finite_psnr(square, image.load(path))
            found.append((psnr, size, 8 * size / pixels))
    return dict(zip(("psnr", "bytes", "bpp"), np.mean(found, axis=0).tolist(), strict=True))


# --- Its pictures ---------------------------------------------------------------------------------


def prepared(
    folder: Path, made: Mapping[str, Callable[[], Mapping[str, bytes]]], work: Path, how: str
) -> Path:
    """Return a folder of what is made of a folder's pictures; made where it is missing.

    What cannot be read is left out, as training does, and named on standard error.

    Args:
        folder: that was given.
        made: by the name of a picture, what makes its files, which have their names.
        work: where the new folder goes.
        how: it is made.

    Raises:
        DataError: the folder holds no picture that can be read.
    """
    key = json.dumps([str(folder.resolve()), *made])
    out = work / f"{folder.name}-{how}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    if (out / "complete").exists():
        return out

    def make(name: str) -> str:
        try:
            files = made[name]()
        except (ImageError, LimitExceeded, OSError) as exc:
            return f"skipped {folder / name}: {exc}"
        for target, data in files.items():
            (out / target).parent.mkdir(parents=True, exist_ok=True)
            (out / target).write_bytes(data)
        return ""

    with ThreadPoolExecutor() as pool:
        skipped = [said for said in pool.map(make, made) if said]
    print(*skipped, sep="\n", end="\n" * bool(skipped), file=sys.stderr)
    if len(skipped) == len(made):
        raise DataError(f"{folder} holds no picture that can be read")
    (out / "complete").touch()
    return out


def recoded(folder: Path, recode: Recode | None, side: int, work: Path) -> Path:
    """Return a folder with the squares of another's pictures, coded, see `prepared`.

    Args:
        folder: of class folders.
        recode: by which codec; None keeps every pixel.
        side: of the squares, in pixels.
        work: where the folder goes.

    Raises:
        DataError: the folder is missing, holds no class folders, no picture that can be read, or
            two whose names differ in their suffix alone.
    """
    _check_folder(folder)
    paths = sorted(p for p in folder.glob("*/**/*") if p.suffix.lower() in image.SUFFIXES)
    if not paths:
        raise DataError(
            f"{folder} holds no pictures in class folders; expected <class>/<picture>.jpg inside it"
        )
    suffix = SUFFIX_OF[recode.codec] if recode else ".png"
    made: dict[str, Callable[[], Mapping[str, bytes]]] = {}
    origins: dict[str, str] = {}  # by the name of what is coded

    def make(name: str, target: str) -> dict[str, bytes]:
        square = image.square(image.load(folder / name), side)
        if recode:
            return {target: rival(recode.codec).encode(square, recode.quality)}
        return {target: image.save(square, "png")}

    for path in paths:
        name = path.relative_to(folder).as_posix()
        target = Path(name).with_suffix(suffix).as_posix()
        if target in origins:
            # A name of its own might sort otherwise for each codec, and the split goes by order.
            raise DataError(
                f"{folder}: {origins[target]} and {name} would both be coded as {target}; "
                "rename one of them"
            )
        origins[target] = name
        made[name] = partial(make, name, target)
    how = f"{recode.codec}-{recode.quality}" if recode else "lossless"
    return prepared(folder, made, work, f"{how}-{side}")


def first_classes(folder: Path, count: int, work: Path) -> Path:
    """Return a folder with links to the first class folders of another, by name.

    Raises:
        DataError: it has fewer.
    """
    _check_folder(folder)
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if len(names) < count:
        raise DataError(f"{folder} holds {len(names)} class folders, and {count} are to be used")
    key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    out = work / f"{folder.name}-first-{count}-{key}"
    out.mkdir(parents=True, exist_ok=True)
    for name in names[:count]:
        if not (out / name).is_symlink():
            (out / name).symlink_to((folder / name).resolve(), target_is_directory=True)
    return out


def cityscapes(folder: Path, side: int, work: Path) -> Path:
    """Return a folder with images and label maps of Cityscapes' training part, see `prepared`.

    The shorter side is scaled to ``side`` pixels, and the square in the middle is kept.

    Raises:
        DataError: the folder is not laid out as Cityscapes is downloaded.
    """
    end = "_leftImg8bit.png"
    paths = sorted(folder.glob(f"leftImg8bit/train/*/*{end}"))
    if not paths:
        raise DataError(
            f"{folder} holds no leftImg8bit/train/<city>/*{end}; give the folder that the archives "
            "of Cityscapes were unpacked in"
        )
    to_class = np.full(256, VOID, np.uint8)
    to_class[list(CITYSCAPES)] = range(len(CITYSCAPES))

    def make(path: Path) -> dict[str, bytes]:
        name = f"{path.parent.name}/{path.name.removesuffix(end)}.png"
        place = folder / "gtFine/train" / f"{name.removesuffix('.png')}_gtFine_labelIds.png"
        pixels, labels = image.load(path), image.load_labels(place)
        if labels.shape != pixels.shape[:2]:
            raise ImageError(f"{place} has another size than its picture")
        height, width = labels.shape
        cut = min(height, width)
        left, top = (width - cut) // 2, (height - cut) // 2
        box = (left, top, left + cut, top + cut)
        small = Image.fromarray(to_class[labels]).resize(
            (side, side), Image.Resampling.NEAREST, box=box
        )
        square = image.save(image.square(pixels, side), "png")
        grey = [(value, value, value) for value in range(256)]
        return {
            f"images/{name}": square,
            f"labels/{name}": image.save_labels(np.asarray(small), grey),
        }

    made = {path.relative_to(folder).as_posix(): partial(make, path) for path in paths}
    return prepared(folder, made, work, f"cityscapes-{side}")


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder; expected one that holds a folder for each class"
        )


# --- The tables -----------------------------------------------------------------------------------


def run_tables(left: Left, setup: Setup) -> None:
    """Make results that are missing."""
    estimates = [row.estimate() for _, row, _ in left]
    print(f"{len(left)} rows to make, estimated at {sum(estimates) / 3600:.1f} hours", flush=True)
    for number, (table, row, seed) in enumerate(left, start=1):
        print(f"{table.name}: {row.name}, seed {seed}", flush=True)
        result = run_row(table, row, seed, setup, sum(estimates[number:]))
        path = result_path(setup.results / table.name, row.name, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def show_table(table: Table, results: Path) -> None:
    """Print what there is, and write it and its figure beside the results.

    Results of another description are named on standard error, with what to do about them.
    A table that is made of results of another description alone is marked as such.
    """
    found, others = read_results(table, results)
    page = results / "README.md"
    if others:
        names = ", ".join(map(str, others))
        seeds = " ".join(sorted({path.stem.rpartition("-seed")[2] for path in others}))
        print(
            f"left out, as they were made from another description of the table: {names}; "
            f"make them anew with --data or --masks DIR and --seeds {seeds}, or delete them",
            file=sys.stderr,
        )
    if not any(found.values()):
        print(f"there is nothing in {results} to show", file=sys.stderr)
        if page.exists() and not (older := page.read_text(encoding="utf-8")).startswith(OLDER):
            page.write_text(OLDER + older, encoding="utf-8")
        return
    text = as_markdown(table, results)
    print(text)
    if table.figure:
        try:
            for form, drawn in draw_figure(table, results).items():
                (results / f"{table.figure}.{form}").write_bytes(drawn)
            text += f"\n![{table.title}]({table.figure}.png)\n"
        except BackendUnavailable as exc:
            print(f"{table.figure} is not drawn: {exc}", file=sys.stderr)
    page.write_text(text, encoding="utf-8")


def main() -> None:
    """Run tables from the command line."""
    known = ("table1", "table2", "table3")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="table1, table2, table3; or all")
    parser.add_argument("--size", choices=SIZES, default="desk")
    said = "by default a fifth of DIR is kept out to be tested on"
    for option, what in (("--data", "class folders"), ("--masks", "pictures with label maps")):
        parser.add_argument(
            option, type=Path, nargs="+", metavar="DIR", help=f"{what} [and a test part]; {said}"
        )
    parser.add_argument("--classes", type=int, help="so many first class folders, by name")
    parser.add_argument("--seeds", type=int, nargs="+", default=[4, 5, 6, 7, 8, 9])
    parser.add_argument("--row", help="only this row")
    parser.add_argument("--work", type=Path, default=Path("runs/tables"))
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--workers", type=int, default=0, help="processes that read pictures")
    given = parser.parse_args()
    if strangers := set(given.tables) - set(known):
        parser.error(f"there is no {', '.join(strangers)}; there are: {', '.join(known)}")
    for folders in (given.data, given.masks):
        if folders and len(folders) > 2:
            parser.error("give one folder to train on, and one to test on")
    setup = Setup(
        *(tuple(given.data or ()), tuple(given.masks or ()), given.classes, given.work),
        *(given.results, given.device, given.threads, given.workers),
    )
    tables = [load_table(name, given.size) for name in given.tables or known]
    rows = dict.fromkeys(row.name for table in tables for row in table.rows)
    if given.row is not None and given.row not in rows:
        parser.error(f"there is no row {given.row!r}; there are: {', '.join(rows)}")
    lacking = [
        (table, row, seed)
        for seed in given.seeds
        for table in tables
        for row, _ in missing(table, [seed], setup.results / table.name)
        if given.row in (None, row.name)
    ]
    try:
        if left := [item for item in lacking if setup.folders(item[0])]:
            run_tables(left, setup)
    except TacError as exc:
        sys.exit(f"{parser.prog}: {exc}")
    if lacking and (still := [item for item in lacking if not setup.folders(item[0])]):
        table, row, seed = still[0]
        print(
            f"{setup.results / table.name} lacks {row.name} with seed {seed}, and "
            f"{len(still) - 1} others; --data DIR, and --masks DIR for table3, make them",
            file=sys.stderr,
        )
    for table in tables:
        show_table(table, setup.results / table.name)


if __name__ == "__main__":
    main()
