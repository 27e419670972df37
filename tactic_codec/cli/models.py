"""``tactic models``: list, show and verify what is installed."""

import json
from typing import TYPE_CHECKING, Any

import click

from tactic_codec.cli import options
from tactic_codec.cli.console import Console, display, opened
from tactic_codec.errors import DamagedModel, TacError

if TYPE_CHECKING:
    from tactic_codec.model import Damaged, Head, Model


@click.group(
    short_help="List, show and verify installed models.",
    epilog=options.examples(
        "tactic models list", "tactic models show paper", "tactic models verify"
    ),
)
def models() -> None:
    """List, show and verify installed models.

    Models are folders. They are looked for in $TACTIC_MODELS, then in the user's data folder, then
    among those that came with the program. Wherever a name is asked for, a folder does as well.
    """


@models.command("list", epilog=options.examples("tactic models list --json"))
@options.as_json
def list_models(as_json: bool) -> None:
    """List installed models; the default is marked with "*"."""
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
        "bytes": _size(model),
        "path": str(model.path),
        "default": model.path.name == DEFAULT_MODEL,
    }


def _print_list(console: Console, found: "list[Model | Damaged]") -> None:
    entries = [_entry(model) for model in found]
    width = max(len("name"), *(len(display(entry["name"])) for entry in entries))
    tasks = [display(", ".join(entry.get("tasks", []))) or "-" for entry in entries]
    widest = max(len("tasks"), *map(len, tasks))
    console.line(f"  {'name':{width}} fingerprint levels {'tasks':<{widest}} {'size':>8}  path")
    for entry, able in zip(entries, tasks, strict=True):
        name = f"{display(entry['name']):{width}}"
        if "damaged" in entry:
            console.line(f"  {name} damaged: {display(entry['damaged'])}")
            continue
        mark = "*" if entry["default"] else " "
        console.line(
            f"{mark} {name} {entry['fingerprint']:<11} {entry['levels']:>6} {able:<{widest}} "
            f"{_human(entry['bytes']):>8}  {display(entry['path'])}"
        )


@models.command(
    "show",
    epilog=options.examples("tactic models show", "tactic models show path/to/folder --json"),
)
@click.argument("name", required=False)
@options.as_json
def show_model(name: str | None, as_json: bool) -> None:
    """Show what a model's manifest says; of the default model without NAME.

    With --json the manifest is printed, less the lists of a classifier's classes.
    """
    from tactic_codec.model import DEFAULT_MODEL, find

    with opened() as console:
        model = find(name or DEFAULT_MODEL)
        if as_json:
            console.json(_without_long_lists(model.manifest))
        else:
            for key, value in _described(model):
                console.line(f"{key:<14} {display(value)}".rstrip())


def _without_long_lists(manifest: dict[str, Any]) -> dict[str, Any]:
    heads = dict(manifest["heads"])
    if "classify" in heads:
        lists = ("labels", "classes")
        heads["classify"] = {k: v for k, v in heads["classify"].items() if k not in lists}
    return {**manifest, "heads": heads}


def _described(model: "Model") -> list[tuple[str, str]]:
    """Return the facts of a model as pairs of a heading and a text."""
    from tactic_codec.entropy import LinearThresholds

    manifest = model.manifest
    facts = [
        ("name", model.name),
        ("description", str(manifest.get("description", "-"))),
        ("path", str(model.path)),
        ("fingerprint", model.fingerprint.hex()),
        ("size", f"{_human(_size(model))} in {len(manifest['files'])} files"),
        ("stride", f"{model.stride} pixels"),
        ("channels", str(model.channels)),
        ("levels", f"1 to {len(model.levels)}, by default {model.default_level}"),
    ]
    for number, level in enumerate(model.levels, start=1):
        contexts = level.contexts
        if isinstance(contexts, LinearThresholds):
            thresholds = f"linear, groups from {list(contexts.groups)}"
        else:
            thresholds = f"own {list(contexts.own)}, shared {list(contexts.shared)}"
        text = f"smallest symbol {level.minimum}; {contexts.count} contexts ({thresholds})"
        facts.append((f"  level {number}", text))
    for key, value in _part(manifest, "complexity").items():
        facts.append((key.removesuffix("_macs_per_pixel"), f"{_brief(value)} MACs a pixel"))
    for task, head in model.heads.items():
        facts += _described_head(task, head)
    for name in ("training", "metrics"):
        if part := _part(manifest, name):
            facts.append((name, ""))
            facts += [(f"  {key}", _brief(value)) for key, value in part.items()]
    return facts


def _part(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a part of the manifest that is for people, and that nothing else has checked.

    Raises:
        DamagedModel: it is no object.
    """
    part = manifest.get(name, {})
    if not isinstance(part, dict):
        raise DamagedModel(f"the manifest's {name!r} is no object, but {_brief(part)}")
    return part


def _described_head(task: str, head: "Head") -> list[tuple[str, str]]:
    """Return the facts of a task network; those of a label map's classes are its legend."""
    classes = f"{len(head.labels)} classes"
    if task != "segment":
        size = f"{head.input_size} x {head.input_size} pixels"
        return [(task, f"{head.network}, {size}, {classes}")]
    facts = [(task, f"{head.network}, longer side {head.input_size} pixels, {classes}")]
    for index, (label, colour) in enumerate(zip(head.labels, head.colours, strict=True)):
        facts.append((f"  class {index}", f"#{bytes(colour).hex()} {label}"))
    return facts


def _brief(value: Any) -> str:
    """Return a value of the manifest on one line, with little of JSON's punctuation."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_brief(part)}" for key, part in value.items())
    if isinstance(value, list):
        return "; ".join(map(_brief, value))
    return value if isinstance(value, str) else json.dumps(value)


@models.command(
    "verify", epilog=options.examples("tactic models verify", "tactic models verify paper")
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@options.as_json
def verify_models(names: tuple[str, ...], as_json: bool) -> None:
    """Check every file and table of models against their manifests; of all without NAME.

    Exit status 1 means that a model is damaged.
    """
    from tactic_codec.model import Damaged, find, installed

    with opened() as console:
        chosen: list[str | Model | Damaged] = list(names) or list(installed())
        advance = console.progress(len(chosen))
        for entry in chosen:
            name = entry if isinstance(entry, str) else entry.path.name
            error = None
            try:
                model = find(entry) if isinstance(entry, str) else entry
                if isinstance(model, Damaged):
                    raise DamagedModel(model.reason)
                model.verify()
            except TacError as exc:
                error = exc
            _print_verdict(console, name, error, as_json)
            advance(1)


def _print_verdict(console: Console, name: str, error: TacError | None, as_json: bool) -> None:
    if error:
        console.fail(display(name), error)
    if as_json:
        console.json({"name": name, "ok": not error, "error": str(error) if error else None})
    else:
        console.line(f"{display(name)}: {'FAILED' if error else 'OK'}")


def _size(model: "Model") -> int:
    return sum(int(file["bytes"]) for file in model.manifest["files"].values())


def _human(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def _places() -> str:
    from tactic_codec.model import search_path

    return ", ".join(display(str(path)) for path in search_path())
