"""From trained networks to a model folder.

    networks ─ symbols of calibration images ─ tables ─┐
             ─ ONNX, checked against torch ────────────┼─▶ folder with its manifest
             ─ safetensors ────────────────────────────┘

Nothing in it names the machine it was made on.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from tactic_codec import codec
from tactic_codec.entropy import ContextModel, FrequencyTables
from tactic_codec.model import MANIFEST, PLAIN_OFFSET, TABLES, Model, Objective
from tactic_codec.networks.codec import TacticNetwork
from tactic_codec.networks.folder import WEIGHTS
from tactic_codec.picture import Pixels
from tactic_codec.refinement import Networks
from tactic_codec.training.contexts import fit_contexts
from tactic_codec.training.manifest import (
    as_file,
    describe_files,
    describe_head,
    manifest_of,
    npz,
    table_arrays,
    without_task,
)
from tactic_codec.training.offsets import tune_offset
from tactic_codec.training.onnx_files import head_files, network_files, round_to_half
from tactic_codec.training.parts import HeadExport, LevelExport
from tactic_codec.training.placing import check_place, write
from tactic_codec.training.tables import fit_shared_tables, fit_tables

WIDTH_UNIT = 16
"""Convolutions of widths that are no multiple of it take much longer: to train on from a latent of
255 channels took 2.6 s a step, from 256 1.1."""


def export(
    network: TacticNetwork,
    out: Path,
    *,
    name: str,
    description: str,
    levels: Sequence[LevelExport],
    calibration: Sequence[Pixels],
    contexts: ContextModel,
    learning: Sequence[Pixels] = (),
    head: HeadExport | None,
    training: Mapping[str, Any],
    objectives: Sequence[Objective] | None = None,
    offset: float = PLAIN_OFFSET,
    documents: Mapping[str, bytes] | None = None,
    overwrite: bool = False,
) -> Model:
    """Write a model folder.

    Args:
        network: the trained networks, on any device; they stay as they are.
        out: the folder to make.
        name: the model's name.
        description: one sentence for people.
        levels: quality levels, the smallest files first.
        calibration: pictures uint8 [H, W, 3] that tables are counted on.
        contexts: how neighbours choose a table.
        learning: other pictures that linear contexts are learned from, which then take the place of
            ``contexts``; offsets are still tuned by those.
        head: the task network, if the model has one.
        training: what the model was made from, for the manifest.
        objectives: of each level, what it was trained for; rounding offsets are tuned to it, and
            without it they stay as they were trained.
        offset: that the last stage of training rounded with.
        documents: further files for people, such as the configuration and the log.
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
    offsets = [offset] * len(levels)
    if objectives:
        offsets = _tune_offsets(
            network,
            head,
            levels,
            objectives,
            calibration,
            latents,
            contexts=contexts,
            trained=offset,
        )
    keep = kept_channels(_symbols(latents, levels, offsets), by_magnitude=bool(learning))
    network = network.pruned(keep).eval()
    kept = [
        level._replace(gain=level.gain[keep], inverse_gain=level.inverse_gain[keep])
        for level in levels
    ]
    coded = _symbols(latents, levels, offsets)
    if learning:
        seen = [latent_of(network, pixels) for pixels in learning]
        tables = _linear_tables(coded, keep, _symbols(seen, kept, offsets))
    else:
        tables = _plain_tables(coded, keep, contexts, levels)
    levels = kept
    files, weights = network_files(network, head)
    files[TABLES] = npz(table_arrays(tables))
    files[WEIGHTS] = safetensors.torch.save(weights)
    files |= documents or {}
    manifest = manifest_of(network, name, description, levels, tables, head, files, training)
    manifest["encoder"]["offset"] = offsets
    if objectives:
        manifest["encoder"]["objective"] = [objective._asdict() for objective in objectives]
    files[MANIFEST] = as_file(manifest)
    return write(out, files, calibration[0])


def _linear_tables(
    coded: Iterable[Sequence[NDArray[np.int32]]],
    keep: list[int],
    learning: Iterable[Sequence[NDArray[np.int32]]],
) -> list[FrequencyTables]:
    """Return tables of each level's kept channels, with contexts learned from other symbols."""
    return [
        fit_shared_tables([y[keep] for y in symbols], of_level)
        for symbols, of_level in zip(coded, fit_contexts(learning), strict=True)
    ]


def _plain_tables(
    coded: Iterable[Sequence[NDArray[np.int32]]],
    keep: list[int],
    contexts: ContextModel,
    levels: Sequence[LevelExport],
) -> list[FrequencyTables]:
    """Likewise, where neighbours' magnitudes choose the table."""
    # Neither the density nor thresholds on sums over channels know of those that are left out.
    fitted = [
        fit_tables(symbols, contexts, level.likelihood)
        for symbols, level in zip(coded, levels, strict=True)
    ]
    return [FrequencyTables(table.minimum, table.frequencies[keep], contexts) for table in fitted]


def add_head(
    model: Model,
    out: Path,
    *,
    name: str,
    head: HeadExport,
    training: Mapping[str, Any],
    example: Pixels,
    documents: Mapping[str, bytes] | None = None,
    overwrite: bool = False,
) -> Model:
    """Write a model folder with the codec of another and one more task network.

    Its fingerprint is that of ``model``: streams that were written before are served by the new
    network. A network for the same task is replaced, and its figures go; those of the codec stay.

    Args:
        model: what to take everything else from.
        out: the folder to make.
        name: of the new model.
        head: the task network.
        training: how it was trained, for the manifest.
        example: a picture uint8 [H, W, 3] on which both runtimes are compared.
        documents: further files for people, that replace those of the same name.
        overwrite: replace a folder that is there.

    Raises:
        OutputExists, TacError: as `export`.
        DamagedModel: a file of ``model`` differs from its manifest.
    """
    check_place(out, overwrite=overwrite)
    manifest = copy.deepcopy(model.manifest)
    files = {file: model.read_file(file) for file in manifest["files"]}
    data, own = head_files(head)
    weights = safetensors.torch.load(files[WEIGHTS])
    kept = {k: v for k, v in weights.items() if not k.startswith(f"{head.task}.")}
    files |= {head.file: data, WEIGHTS: safetensors.torch.save(kept | own), **(documents or {})}
    manifest["name"] = name
    manifest["heads"][head.task] = describe_head(head)
    manifest["heads_training"] = {**manifest.get("heads_training", {}), head.task: dict(training)}
    if "metrics" in manifest:
        manifest["metrics"] = without_task(manifest["metrics"], head.task)
    manifest["files"] = describe_files(files)
    files[MANIFEST] = as_file(manifest)
    return write(out, files, example)


def levels_of(network: TacticNetwork) -> list[LevelExport]:
    """Return the quality levels of a network, the smallest files first."""
    network = copy.deepcopy(network).cpu()
    ones = np.ones((1, network.transforms.latent), np.float32)
    gain = inverse = ones
    if network.gains:
        gain = network.gains.gain.detach().numpy()
        inverse = network.gains.inverse_gain.detach().numpy()
    return [
        LevelExport(gain[i], inverse[i], partial(network.likelihood, level=i))
        for i in range(network.levels)
    ]


def latent_of(network: TacticNetwork, pixels: Pixels) -> NDArray[np.float32]:
    """Return the latent [C, h, w] of a picture uint8 [H, W, 3], by torch."""
    x_HWC = codec.pad(pixels, network.transforms.stride)
    x_BCHW = torch.from_numpy(x_HWC).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        latent: NDArray[np.float32] = network.analysis(x_BCHW)[0].numpy()
    return latent


def _tune_offsets(
    network: TacticNetwork,
    head: HeadExport | None,
    levels: Sequence[LevelExport],
    objectives: Sequence[Objective],
    calibration: Sequence[Pixels],
    latents: Sequence[NDArray[np.float32]],
    *,
    contexts: ContextModel,
    trained: float,
) -> list[float]:
    networks = Networks(
        synthesis=network.synthesis,
        head=copy.deepcopy(head.module).cpu().float().eval() if head else None,
        input_size=head.input_size if head else 0,
        stride=network.transforms.stride,
        halo=network.transforms.halo,
        segments=head is not None and head.task == "segment",
    )
    return [
        tune_offset(
            networks,
            calibration,
            latents,
            gain=level.gain,
            inverse_gain=level.inverse_gain,
            likelihood=level.likelihood,
            contexts=contexts,
            objective=objective,
            trained=trained,
        )
        for level, objective in zip(levels, objectives, strict=True)
    ]


def _symbols(
    latents: Sequence[NDArray[np.float32]],
    levels: Sequence[LevelExport],
    offsets: Sequence[float],
) -> Iterator[list[NDArray[np.int32]]]:
    """Yield the symbols of latents at each level: one level's at a time are held in memory."""
    for level, offset in zip(levels, offsets, strict=True):
        yield [codec.quantise(y, level.gain, offset) for y in latents]


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
