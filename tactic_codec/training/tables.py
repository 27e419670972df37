"""From rounded latents to the integer tables that every reader of the format shares.

    symbols of calibration images ─ counts [C, K, N] ─ smoothing ─ integers that sum to 2²⁴

Counts of what will really be coded avoid the gap between the density that was learned under noise
and rounded latents. Where counts are few they lean on something broader: a channel's table on the
learned density, and a context's table on its channel's.
"""

import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tactic_codec.entropy import (
    TOTAL,
    ContextModel,
    Contexts,
    FrequencyTables,
    LearnedContexts,
    count_symbols,
)
from tactic_codec.model import PLAIN_OFFSET, Objective

Likelihood = Callable[[Tensor], Tensor]
"""From symbols [1, C, h, w] to their probabilities, of the same shape."""


class LevelExport(NamedTuple):
    """A quality level to be written into the folder.

    Attributes:
        gain: [C], what the encoder multiplies latents by before it rounds.
        inverse_gain: [C], what the decoder multiplies symbols by.
        likelihood: the density of the level's symbols.
        objective: what the level was trained for, where that is known.
        offset: that it rounds with.
    """

    gain: NDArray[np.float32]
    inverse_gain: NDArray[np.float32]
    likelihood: Likelihood
    objective: Objective | None = None
    offset: float = PLAIN_OFFSET

    def kept(self, channels: Sequence[int]) -> "LevelExport":
        """Return the level of a latent that has only these channels left."""
        gain, inverse = self.gain[channels], self.inverse_gain[channels]
        return self._replace(gain=gain, inverse_gain=inverse)


MAX_SYMBOLS = 256
"""Longest table; values beyond the calibration images' go by the escape anyway."""

DENSITY_WEIGHT = 8.0
"""Symbols that the learned density counts for beside a channel's own."""

CHANNEL_WEIGHT = 16.0
"""Symbols that a channel's distribution, or that of a context in all sets, counts for beside a
context's own."""

SETS = (1, 3, 8, 20, 48, 96, 160)
"""First channels of the sets that share tables, but for the first set's."""

ESCAPE_SHARE = 1e-6
"""Probability of an escape where none was seen: 20 bits when one comes, nothing until then."""


def fit_tables(
    latents: Sequence[NDArray[np.int32]], contexts: ContextModel, likelihood: Likelihood
) -> FrequencyTables:
    """Count symbols and freeze them as the tables of one quality level.

    Args:
        latents: symbols [C, h, w] of calibration images, of any sizes.
        contexts: chooses among the tables of a channel.
        likelihood: the learned density of the same latents, on the CPU.
    """
    minimum, escape, counts = _counted(latents, contexts)
    density = _density(likelihood, latents[0].shape[0], minimum, escape)
    return FrequencyTables(minimum, freeze(smooth(counts, density)), contexts)


def fit_shared_tables(
    latents: Sequence[NDArray[np.int32]], contexts: LearnedContexts
) -> FrequencyTables:
    """Count symbols and freeze them as tables that channels share.

    Learned contexts say of every channel alike how likely a symbol is zero, so that a table is much
    the same for all; what differs is how magnitudes go on, which is by their size. Few tables with
    many counts allow for many contexts.

    Args:
        latents: symbols [C, h, w] of calibration images, channels sorted by falling magnitude.
        contexts: chooses among the tables of a set.
    """
    minimum, _, counts = _counted(latents, contexts)
    sets = np.searchsorted(SETS, np.arange(contexts.channels), side="right")
    counts = np.stack([counts[sets == i].sum(axis=0) for i in range(sets[-1] + 1)])
    everything = counts.sum(axis=(0, 1)) + 1.0
    everything[-1] = ESCAPE_SHARE * everything.sum()
    context = _normalised(counts.sum(axis=0) + _normalised(everything))
    probabilities = _normalised(counts + CHANNEL_WEIGHT * context)
    return FrequencyTables(minimum, freeze(probabilities), contexts, sets)


def _counted(
    latents: Sequence[NDArray[np.int32]], contexts: Contexts
) -> tuple[int, int, NDArray[np.int64]]:
    """Return a table's first symbol, the index of its escape, and counts [C, K, N]."""
    minimum = max(min(int(y.min()) for y in latents), -MAX_SYMBOLS // 2)
    maximum = min(max(int(y.max()) for y in latents), minimum + MAX_SYMBOLS - 2)
    escape = max(maximum - minimum + 1, 2)
    counts = sum(count_symbols(y, contexts, minimum, escape) for y in latents)
    assert not isinstance(counts, int)
    return minimum, escape, counts


def smooth(counts: NDArray[np.int64], density: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities [C, K, N] from counts [C, K, N] and a density [C, N]."""
    channel = _normalised(counts.sum(axis=1) + DENSITY_WEIGHT * density)
    return _normalised(counts + CHANNEL_WEIGHT * channel[:, np.newaxis])


def _normalised(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make weights [..., N] sum to 1, in place."""
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights


def freeze(probabilities: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Round probabilities [..., N] to integers of at least 1 that sum to 2²⁴."""
    symbols = probabilities.shape[-1]
    frequencies: NDArray[np.int64] = (
        np.floor(probabilities * (TOTAL - symbols)).astype(np.int64) + 1
    )
    # What rounding down left over, a few parts in 2²⁴, goes where it changes the least.
    likeliest = frequencies.argmax(axis=-1)[..., np.newaxis]
    spare = TOTAL - frequencies.sum(axis=-1, keepdims=True)
    largest = np.take_along_axis(frequencies, likeliest, axis=-1)
    np.put_along_axis(frequencies, likeliest, largest + spare, axis=-1)
    return frequencies.astype(np.uint32)


def _density(
    likelihood: Likelihood, channels: int, minimum: int, escape: int
) -> NDArray[np.float64]:
    """Return the learned probability of each table index, [C, N]."""
    values = torch.arange(minimum, minimum + escape, dtype=torch.float32)
    grid = values.expand(1, channels, 1, -1)
    with torch.no_grad():
        inside = likelihood(grid)[0, :, 0].double().numpy()
    return np.pad(inside, ((0, 0), (0, 1)), constant_values=ESCAPE_SHARE)


def tables_file(tables: Sequence[FrequencyTables]) -> bytes:
    """Return the file of all levels' tables."""
    arrays: dict[str, NDArray[Any]] = {}
    for number, table in enumerate(tables, 1):
        arrays[f"level_{number}"] = table.frequencies
        contexts = table.contexts
        if isinstance(contexts, LearnedContexts):
            arrays["sets"] = np.asarray(table.sets, np.int32)
            for kind, layers in zip(("magnitude", "sign"), contexts.layers, strict=True):
                # The weights of all levels are the same.
                arrays[f"{kind}_units"] = layers.units
                arrays[f"{kind}_weights"] = layers.weights
                arrays[f"{kind}_unit_bias_{number}"] = layers.unit_bias
                arrays[f"{kind}_bias_{number}"] = layers.bias
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()
