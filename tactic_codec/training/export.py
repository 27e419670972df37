"""From trained networks to a model folder.

    networks ─ symbols of calibration images ─ tables ─┐
             ─ ONNX, checked against torch ────────────┼─▶ folder with its manifest
             ─ safetensors ────────────────────────────┘

Nothing in it names the machine it was made on.
"""

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from tactic_codec import codec
from tactic_codec.entropy import ContextModel, FrequencyTables
from tactic_codec.model import (
    EIGHT_BITS,
    MANIFEST,
    MANIFEST_VERSION,
    PLAIN_OFFSET,
    SYNTHESIS,
    TABLES,
    Model,
    Objective,
)
from tactic_codec.networks.codec import TacticNetwork
from tactic_codec.networks.folder import WEIGHTS, describe
from tactic_codec.networks.heads import Task
from tactic_codec.networks.transforms import macs_per_pixel
from tactic_codec.picture import Pixels
from tactic_codec.refinement import Networks
from tactic_codec.tasks import TASKS
from tactic_codec.training.contexts import fit_contexts
from tactic_codec.training.offsets import tune_offset
from tactic_codec.training.onnx_files import HeadExport, head_files, network_files, round_to_half
from tactic_codec.training.placing import check_place, write
from tactic_codec.training.tables import LevelExport, fit_shared_tables, fit_tables, tables_file

WIDTH_UNIT = 16
"""Convolutions of widths that are no multiple of it take much longer: to train on from a latent of
255 channels took 2.6 s a step, from 256 1.1."""


class About(NamedTuple):
    """What a model folder says for people.

    Attributes:
        name: of the model.
        description: one sentence.
        training: what the model, or its task network, was made from, for the manifest.
        documents: further files, such as the log.
    """

    name: str
    description: str
    training: Mapping[str, Any]
    documents: Mapping[str, bytes] = {}


def export(
    network: TacticNetwork,
    out: Path,
    about: About,
    *,
    levels: Sequence[LevelExport],
    calibration: Sequence[Pixels],
    contexts: ContextModel,
    learning: Sequence[Pixels] = (),
    head: HeadExport | None,
    overwrite: bool = False,
) -> Model:
    """Write a model folder.

    Args:
        network: the trained networks, on any device; they stay as they are.
        out: the folder to make.
        about: what it says for people.
        levels: quality levels, the smallest files first; rounding offsets are tuned to what they
            were trained for, where they tell, and else stay as they were trained.
        calibration: pictures uint8 [H, W, 3] that tables are counted on.
        contexts: how neighbours choose a table.
        learning: other pictures that contexts are learned from, which then take the place of
            ``contexts``; offsets are still tuned by those.
        head: the task network, if the model has one.
        overwrite: replace a folder that is there.

    Returns:
        The model, read back from its folder and verified.

    Raises:
        OutputExists: see `check_place`.
        TacError: ONNX Runtime does not compute what torch does, or a weight is beyond what half
            precision holds.
    """
    check_place(out, overwrite=overwrite)
    # A copy: the run that this is an evaluation of goes on with its networks as they are.
    network = copy.deepcopy(network).cpu().float().eval()
    for part in (network.analysis, network.synthesis):
        round_to_half(part)
    latents = [latent_of(network, pixels) for pixels in calibration]
    judges = _judging(network, head)
    levels = [tune_offset(judges, calibration, latents, level, contexts) for level in levels]
    keep = kept_channels(_symbols(latents, levels), by_magnitude=bool(learning))
    network = network.pruned(keep).eval()
    kept = [level.kept(keep) for level in levels]
    coded = _symbols(latents, levels)
    if learning:
        seen = [latent_of(network, pixels) for pixels in learning]
        # Contexts of each level's kept channels, learned from other symbols.
        tables = [
            fit_shared_tables([y[keep] for y in symbols], of_level)
            for symbols, of_level in zip(coded, fit_contexts(_symbols(seen, kept)), strict=True)
        ]
    else:
        # Neither the density nor thresholds on sums over channels know of those that are left out.
        fitted = (
            fit_tables(symbols, contexts, level.likelihood)
            for symbols, level in zip(coded, levels, strict=True)
        )
        tables = [FrequencyTables(t.minimum, t.frequencies[keep], contexts) for t in fitted]
    files, weights = network_files(network, head)
    files[TABLES] = tables_file(tables)
    files[WEIGHTS] = safetensors.torch.save(weights)
    files |= about.documents
    files[MANIFEST] = as_file(_manifest(network, about, kept, tables, head, files))
    return write(out, files, calibration[0])


def _judging(network: TacticNetwork, head: HeadExport | None) -> Networks:
    return Networks(
        synthesis=network.synthesis,
        head=copy.deepcopy(head.module).cpu().float().eval() if head else None,
        input_size=head.input_size if head else 0,
        stride=network.transforms.stride,
        halo=network.transforms.halo,
        segments=head is not None and head.task == "segment",
    )


def _manifest(
    network: TacticNetwork,
    about: About,
    levels: Sequence[LevelExport],
    tables: Sequence[FrequencyTables],
    head: HeadExport | None,
    files: Mapping[str, bytes],
) -> dict[str, Any]:
    described = describe_files(files)
    transforms = network.transforms
    stride, latent = transforms.stride, transforms.latent
    encoder: dict[str, Any] = {
        "default_level": (len(levels) + 1) // 2,
        "gain": [level.gain.tolist() for level in levels],
        "offset": [level.offset for level in levels],
    }
    objectives = [level.objective._asdict() for level in levels if level.objective]
    return {
        "manifest_version": MANIFEST_VERSION,
        "name": about.name,
        "description": about.description,
        "normative": {
            "stride": stride,
            "channels": latent,
            "levels": [
                describe_level(table, level.inverse_gain.tolist())
                for level, table in zip(levels, tables, strict=True)
            ],
            "files": {file: described[file]["sha256"] for file in (TABLES, SYNTHESIS)},
        },
        "halo": transforms.halo,
        "encoder": encoder | ({"objective": objectives} if objectives else {}),
        "network": describe(transforms),
        "complexity": {
            "analysis_macs_per_pixel": macs_per_pixel(network.analysis, stride=stride),
            "synthesis_macs_per_pixel": macs_per_pixel(
                network.synthesis, latent=latent, stride=stride
            ),
        },
        "heads": {head.task: _describe_head(head)} if head else {},
        "files": described,
        "training": dict(about.training),
    }


def _describe_head(head: HeadExport) -> dict[str, Any]:
    own = ("file", "network", "input_size")
    lists = ("labels", "classes", *(("colours",) if head.colours else ()))
    described: dict[str, Any] = {name: getattr(head, name) for name in own}
    return described | {name: list(getattr(head, name)) for name in lists}


def describe_files(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return what a manifest says of files, by their names."""
    return {
        file: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for file, data in files.items()
    }


def describe_level(tables: FrequencyTables, inverse_gain: Sequence[float]) -> dict[str, Any]:
    """Return what a manifest says of a level that its decoder needs."""
    contexts = tables.contexts
    if isinstance(contexts, ContextModel):
        described: dict[str, Any] = {"own": list(contexts.own), "shared": list(contexts.shared)}
    else:
        lists = ("starts", "magnitude", "sign")
        described = {name: list(getattr(contexts, name)) for name in lists}
        described["sure"] = contexts.sure
    return {"minimum": tables.minimum, **described, "inverse_gain": inverse_gain}


def as_file(manifest: Mapping[str, Any]) -> bytes:
    """Return the file of a manifest."""
    return json.dumps(manifest, indent=1, ensure_ascii=False).encode() + b"\n"


# --- Later ----------------------------------------------------------------------------------------


@contextmanager
def changing_manifest(folder: Path) -> Iterator[dict[str, Any]]:
    """Give out the manifest of a model folder, and write what was made of it."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    yield manifest
    path.write_bytes(as_file(manifest))


def add_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write measured figures into the manifest of a model folder; its fingerprint stays.

    Those of other image folders stay, too: a head that was added has its own.
    """
    with changing_manifest(folder) as manifest:
        manifest["metrics"] = {**manifest.get("metrics", {}), **metrics}


def add_head(
    model: Model,
    out: Path,
    about: About,
    *,
    head: HeadExport,
    example: Pixels,
    overwrite: bool = False,
) -> Model:
    """Write a model folder with the codec of another and one more task network.

    Its fingerprint is that of ``model``: streams that were written before are served by the new
    network. A network for the same task is replaced, and its figures go; those of the codec stay.

    Args:
        model: what to take everything else from, its description among it.
        out: the folder to make.
        about: of the new model; documents replace those of the same name.
        head: the task network.
        example: a picture uint8 [H, W, 3] on which both runtimes are compared.
        overwrite: replace a folder that is there.

    Raises:
        OutputExists, TacError: as `export`.
        DamagedModel: a file of ``model`` differs from its manifest.
    """
    check_place(out, overwrite=overwrite)
    manifest = copy.deepcopy(model.manifest)
    old = head.file.removesuffix(".onnx") + EIGHT_BITS  # made anew when the model is finished
    files = {file: model.read_file(file) for file in manifest["files"] if file != old}
    data, own = head_files(head)
    weights = safetensors.torch.load(files[WEIGHTS])
    kept = {k: v for k, v in weights.items() if not k.startswith(f"{head.task}.")}
    files |= {head.file: data, WEIGHTS: safetensors.torch.save(kept | own), **about.documents}
    manifest["name"] = about.name
    manifest["heads"][head.task] = _describe_head(head)
    manifest.setdefault("heads_training", {})[head.task] = dict(about.training)
    if "metrics" in manifest:
        manifest["metrics"] = _without_task(manifest["metrics"], head.task)
    manifest["files"] = describe_files(files)
    files[MANIFEST] = as_file(manifest)
    return write(out, files, example)


def _without_task(metrics: Any, task: Task) -> Any:
    """Drop what a task network made of the images of each folder, at each level."""
    gone = TASKS[task].figures(None, None).keys()

    def kept(value: Any) -> Any:
        if isinstance(value, list):
            return [kept(part) for part in value]
        if isinstance(value, dict):
            return {name: part for name, part in value.items() if name not in gone}
        return value

    return {folder: kept(figures) for folder, figures in metrics.items()}


# --- Levels and channels --------------------------------------------------------------------------


def levels_of(
    network: TacticNetwork,
    objectives: Sequence[Objective] | None = None,
    offset: float = PLAIN_OFFSET,
) -> list[LevelExport]:
    """Return the quality levels of a network, the smallest files first.

    Args:
        network: with gains where it has several.
        objectives: of each level, what it was trained for.
        offset: that the last stage of training rounded with.
    """
    network = copy.deepcopy(network).cpu()
    gain = inverse = torch.ones(1, network.transforms.latent)
    if network.gains:
        gain, inverse = network.gains.gain.detach(), network.gains.inverse_gain.detach()
    return [
        LevelExport(
            gain[i].numpy(),
            inverse[i].numpy(),
            partial(network.likelihood, level=i),
            objectives[i] if objectives else None,
            offset,
        )
        for i in range(network.levels)
    ]


def latent_of(network: TacticNetwork, pixels: Pixels) -> NDArray[np.float32]:
    """Return the latent [C, h, w] of a picture uint8 [H, W, 3], by torch."""
    x_HWC = codec.pad(pixels, network.transforms.stride)
    x_BCHW = torch.tensor(x_HWC).permute(2, 0, 1)[None].float() / 255  # a copy: some are read-only
    with torch.inference_mode():
        latent: NDArray[np.float32] = network.analysis(x_BCHW)[0].numpy()
    return latent


def _symbols(
    latents: Sequence[NDArray[np.float32]], levels: Sequence[LevelExport]
) -> Iterator[list[NDArray[np.int32]]]:
    """Yield the symbols of latents at each level: one level's at a time are held in memory."""
    for level in levels:
        yield [codec.quantise(y, level.gain, level.offset) for y in latents]


def kept_channels(
    symbols: Iterable[Sequence[NDArray[np.int32]]], *, by_magnitude: bool
) -> list[int]:
    """Return the channels that are not zero in all symbols [C, h, w] of all levels.

    Rate pressure early in training leaves some channels without a use. They cost no bits, but the
    time of coding their zeros and of computing them, which is most of it where few are used. Where
    many are, some of the others stay, so that the width is a multiple of `WIDTH_UNIT`.

    Args:
        symbols: of each level and calibration image.
        by_magnitude: sort channels by falling sum of magnitudes.
    """
    magnitudes = np.sum(
        [np.abs(y).sum(axis=(1, 2), dtype=np.int64) for level in symbols for y in level], axis=0
    )
    count = max(1, int(np.count_nonzero(magnitudes)))  # networks have one channel at least
    if count > WIDTH_UNIT:
        count = min(-(-count // WIDTH_UNIT) * WIDTH_UNIT, len(magnitudes))
    largest_first = np.argsort(-magnitudes, kind="stable")[:count]
    kept: list[int] = (largest_first if by_magnitude else np.sort(largest_first)).tolist()
    return kept
