"""``tactic models``: list, show and verify what is installed."""

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from tactic_codec.cli import options
from tactic_codec.cli.console import Console, opened, table
from tactic_codec.errors import DamagedModel, TacError, display

if TYPE_CHECKING:
    from tactic_codec.model import Damaged, Head, Model


@click.group(
    short_help="List, show and verify installed models.",
    epilog=options.examples(
        "tactic models list", "tactic models show camvid", "tactic models verify"
    ),
)
def models() -> None:
    """List, show and verify installed models.

    A model is a folder. It is found by its name in $TACTIC_MODELS, then in the user's data folder,
    then among the models that came with the program. A path to a model folder works wherever a
    name does.
    """


@models.command("list", epilog=options.examples("tactic models list --json"))
@options.as_json
def list_models(as_json: bool) -> None:
    """List installed models. "*" marks the default."""
    from tactic_codec.model import installed

    with opened() as console:
        found = list(installed())
        if not found:
            console.warn("models", f"none is installed; looked in {_places()}")
        elif as_json:
            for entry in found:
                console.json(_entry(entry))
        else:
            _print_list(console, found)


def _entry(model: "Model | Damaged") -> dict[str, Any]:
    from tactic_codec.model import DEFAULT_MODEL, Damaged

    if isinstance(model, Damaged):
        return {"name": model.path.name, "damaged": model.reason, "path": str(model.path)}
    return {
        "name": model.name,
        "fingerprint": model.fingerprint.hex(),
        "levels": len(model.levels),
        "tasks": list(model.heads),
        "bytes": sum(_sizes(model)),
        "path": str(model.path),
        "default": model.path.name == DEFAULT_MODEL,
    }


def _print_list(console: Console, found: "list[Model | Damaged]") -> None:
    rows = [["", "name", "fingerprint", "levels", "tasks", "size", "path"]]
    for entry in map(_entry, found):
        name, path = display(entry["name"]), display(entry["path"])
        if "damaged" in entry:
            rows.append(["", name, "damaged", "", "", "", f"{path}: {display(entry['damaged'])}"])
            continue
        mark = "*" if entry["default"] else ""
        able = display(", ".join(entry["tasks"])) or "-"
        figures = [entry["fingerprint"], str(entry["levels"]), able, _human(entry["bytes"])]
        rows.append([mark, name, *figures, path])
    for line in table(rows, left=(0, 1, 2, 4, 6)):
        console.line(line)


@models.command(
    "show",
    epilog=options.examples("tactic models show", "tactic models show path/to/folder --json"),
)
@click.argument("name", required=False)
@options.as_json
def show_model(name: str | None, as_json: bool) -> None:
    """Show a model: its levels, tasks, training and figures. Without NAME, the default model.

    With --json the manifest is printed, without the lists of a classifier's classes.
    """
    from tactic_codec.model import DEFAULT_MODEL, find

    with opened() as console:
        model = find(name or DEFAULT_MODEL)
        if as_json:
            console.json(_without_long_lists(model.manifest))
        else:
            for line in _described(model):
                console.line(display(line))


def _without_long_lists(manifest: dict[str, Any]) -> dict[str, Any]:
    heads = dict(manifest["heads"])
    if "classify" in heads:
        lists = ("labels", "classes")
        heads["classify"] = {k: v for k, v in heads["classify"].items() if k not in lists}
    return {**manifest, "heads": heads}


def _described(model: "Model") -> Iterator[str]:
    """Yield what a model's manifest says, for people."""
    manifest = model.manifest
    sizes = _sizes(model)
    facts = [
        ["name", model.name],
        ["description", str(manifest.get("description", "-"))],
        ["path", str(model.path)],
        ["fingerprint", model.fingerprint.hex()],
        ["size", f"{_human(sum(sizes))} in {len(sizes)} files"],
        ["stride", f"{model.stride} pixels"],
        ["channels", str(model.channels)],
        ["levels", f"1 to {len(model.levels)}, by default {model.default_level}"],
    ]
    for key, value in _part(manifest, "complexity").items():
        facts.append([key.removesuffix("_macs_per_pixel"), f"{_brief(value)} MACs a pixel"])
    for task, head in model.heads.items():
        size = f"{head.input_size} x {head.input_size}"
        if task != "classify":
            size = f"longer side {head.input_size}"
        facts.append([task, f"{head.network}, {size} pixels, {len(head.labels)} classes"])
    yield from table(facts, left=(0, 1))
    yield from _section("levels", table(_levels(model), left=(3,)))
    if "segment" in model.heads:
        legend = table(_legend(model.heads["segment"]), left=(1, 2))
        yield from _section("classes of label maps", legend)
    parts = [(name, _part(manifest, name)) for name in ("training", "metrics")]
    for name, part in parts:
        if part:
            yield from _section(name, _lines(part))


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield ""
    yield title
    yield from (f"  {line}" for line in lines)


def _levels(model: "Model") -> list[list[str]]:
    from tactic_codec.entropy import LearnedThresholds

    rows = [["level", "smallest symbol", "contexts", "thresholds"]]
    for number, level in enumerate(model.levels, start=1):
        contexts = level.contexts
        if isinstance(contexts, LearnedThresholds):
            thresholds = f"learned, groups from {_brief(list(contexts.starts))}"
        else:
            own, shared = list(contexts.own), list(contexts.shared)
            thresholds = f"own {_brief(own)}; shared {_brief(shared)}"
        rows.append([str(number), str(level.minimum), str(contexts.count), thresholds])
    return rows


def _legend(head: "Head") -> list[list[str]]:
    classes = enumerate(zip(head.labels, head.colours, strict=True))
    rows = [[str(index), f"#{bytes(colour).hex()}", label] for index, (label, colour) in classes]
    return [["class", "colour", "label"], *rows]


def _part(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a part of the manifest that is for people, and that nothing else has checked.

    Raises:
        DamagedModel: it is no object.
    """
    part = manifest.get(name, {})
    if not isinstance(part, dict):
        raise DamagedModel(f"the manifest's {name!r} is no object, but {_brief(part)}")
    return part


_DEEPEST = 4  # where what is nested still deeper goes on one line


def _lines(part: dict[str, Any], depth: int = 0) -> Iterator[str]:
    """Yield lines for an object: its plain values, then its objects and lists of objects."""
    plain, nested = [], []
    for key, value in part.items():
        records = value if isinstance(value, list) else [value]
        deep = bool(records) and all(isinstance(record, dict) and record for record in records)
        if deep and depth < _DEEPEST:
            nested.append((key, value))
        elif value not in (None, [], {}):
            plain.append([key, _brief(value)])
    yield from table(plain, left=(0, 1))
    for key, value in nested:
        yield key
        lines = _lines(value, depth + 1) if isinstance(value, dict) else table(_across(value))
        yield from (f"  {line}" for line in lines)


def _across(records: list[dict[str, Any]]) -> list[list[str]]:
    """Return objects of one kind as a table: a row for each field, a column for each object."""
    rows = []
    for key in dict.fromkeys(key for record in records for key in record):
        values = [record.get(key) for record in records]
        longest = max((len(value) for value in values if isinstance(value, list)), default=0)
        names = ("low", "high") if key.endswith("_interval") and longest == 2 else range(longest)
        for index, name in enumerate(names):
            rows.append([f"{key} {name}", *(_element(value, index) for value in values)])
        if not longest and any(value not in (None, {}) for value in values):
            rows.append([key, *map(_brief, values)])
    return rows or [["-"]]


def _element(values: Any, index: int) -> str:
    return _brief(values[index]) if isinstance(values, list) and index < len(values) else "-"


def _brief(value: Any) -> str:
    """Return a value of the manifest on one line, with little of JSON's punctuation."""
    if isinstance(value, list) and not any(isinstance(part, dict | list) for part in value):
        return ", ".join(map(_brief, value)) or "-"
    if isinstance(value, float):
        return f"{value:.5g}"
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value)


@models.command(
    "verify", epilog=options.examples("tactic models verify", "tactic models verify camvid")
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@options.as_json
def verify_models(names: tuple[str, ...], as_json: bool) -> None:
    """Check each file and table of models against the manifest. Without NAME, all models.

    The exit status is 1 if a model is damaged.
    """
    from tactic_codec.model import Damaged, find, installed

    with opened() as console:
        chosen: list[str | Model | Damaged] = list(names) or list(installed())
        console.progress(len(chosen))
        for entry in chosen:
            name = entry if isinstance(entry, str) else entry.path.name
            error = None
            try:
                model = find(entry) if isinstance(entry, str) else entry
                if isinstance(model, Damaged):
                    raise DamagedModel(model.reason)
                model.verify()
            except TacError as exc:
                error = str(exc)
                console.fail(display(name), exc)
            if as_json:
                console.json({"name": name, "ok": error is None, "error": error})
            else:
                console.line(f"{display(name)}: {'OK' if error is None else 'FAILED'}")
            console.advance(1)


def _sizes(model: "Model") -> list[int]:
    """Return the bytes of the files that are there: a wheel leaves out what only training needs."""
    files = model.manifest["files"]
    return [int(files[name]["bytes"]) for name in files if (model.path / name).exists()]


def _human(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def _places() -> str:
    from tactic_codec.model import search_path

    return ", ".join(display(str(path)) for path in search_path())
