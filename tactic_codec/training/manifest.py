"""What a model folder says of itself, and its tables as a file."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tactic_codec.entropy import ContextModel, Contexts, FrequencyTables, LinearContexts
from tactic_codec.model import MANIFEST, MANIFEST_VERSION, SYNTHESIS, TABLES
from tactic_codec.networks.codec import TacticNetwork
from tactic_codec.networks.folder import describe
from tactic_codec.networks.heads import Task
from tactic_codec.networks.transforms import macs_per_pixel
from tactic_codec.tasks import TASKS
from tactic_codec.training.parts import HeadExport, LevelExport


def manifest_of(
    network: TacticNetwork,
    name: str,
    description: str,
    levels: Sequence[LevelExport],
    tables: Sequence[FrequencyTables],
    head: HeadExport | None,
    files: Mapping[str, bytes],
    training: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the manifest of a model, but for its encoder's offsets and objectives."""
    described = describe_files(files)
    transforms = network.transforms
    return {
        "manifest_version": MANIFEST_VERSION,
        "name": name,
        "description": description,
        "normative": {
            "stride": transforms.stride,
            "channels": transforms.latent,
            "levels": [
                {
                    "minimum": table.minimum,
                    **_describe_contexts(table.contexts),
                    "inverse_gain": level.inverse_gain.tolist(),
                }
                for level, table in zip(levels, tables, strict=True)
            ],
            "files": {file: described[file]["sha256"] for file in (TABLES, SYNTHESIS)},
        },
        "halo": transforms.halo,
        "encoder": {
            "default_level": (len(levels) + 1) // 2,
            "gain": [level.gain.tolist() for level in levels],
        },
        "network": describe(transforms),
        "complexity": {
            "analysis_macs_per_pixel": macs_per_pixel(network.analysis, stride=transforms.stride),
            "synthesis_macs_per_pixel": macs_per_pixel(
                network.synthesis, latent=transforms.latent, stride=transforms.stride
            ),
        },
        "heads": {head.task: describe_head(head)} if head else {},
        "files": described,
        "training": dict(training),
    }


def describe_head(head: HeadExport) -> dict[str, Any]:
    """Return what a manifest says of a task network."""
    described = {
        "file": head.file,
        "network": head.network,
        "input_size": head.input_size,
        "labels": list(head.labels),
        "classes": list(head.classes),
    }
    return described | ({"colours": list(head.colours)} if head.colours else {})


def describe_files(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return size and hash of each file."""
    return {
        file: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for file, data in files.items()
    }


def _describe_contexts(contexts: Contexts) -> dict[str, list[int]]:
    names = (
        ("own", "shared") if isinstance(contexts, ContextModel) else ("groups", "magnitude", "sign")
    )
    return {name: list(getattr(contexts, name)) for name in names}


def table_arrays(tables: Sequence[FrequencyTables]) -> dict[str, NDArray[Any]]:
    """Return the arrays of the tables' file."""
    arrays: dict[str, NDArray[Any]] = {}
    for number, table in enumerate(tables, 1):
        arrays[f"level_{number}"] = table.frequencies
        contexts = table.contexts
        if isinstance(contexts, LinearContexts):
            arrays["sets"] = np.asarray(table.sets, np.int32)
            for kind in ("magnitude", "sign"):
                # The weights of all levels are the same.
                arrays[f"{kind}_weights"] = getattr(contexts, f"{kind}_weights")
                arrays[f"{kind}_bias_{number}"] = getattr(contexts, f"{kind}_bias")
    return arrays


def npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the file of some arrays."""
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def add_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write measured figures into the manifest of a model folder; its fingerprint stays.

    Those of other image folders stay, too: a head that was added has its own.
    """
    path = folder / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["metrics"] = {**manifest.get("metrics", {}), **metrics}
    path.write_bytes(as_file(manifest))


def as_file(manifest: Mapping[str, Any]) -> bytes:
    """Return the file of a manifest."""
    return json.dumps(manifest, indent=1, ensure_ascii=False).encode() + b"\n"


def without_task(metrics: Any, task: Task) -> Any:
    """Drop what a task network made of the images of each folder, at each level."""
    gone = TASKS[task].figures(None, None).keys()

    def kept(value: Any) -> Any:
        if isinstance(value, list):
            return [kept(part) for part in value]
        if isinstance(value, dict):
            return {name: part for name, part in value.items() if name not in gone}
        return value

    return {folder: kept(figures) for folder, figures in metrics.items()}
