"""For tests: random symbols and linear contexts, and levels as the reference decoder has them."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tactic_codec.entropy import ContextModel, Contexts, FrequencyTables, LinearContexts
from tactic_codec.model import Model


def plain_levels(model: Model) -> dict[str, dict[str, Any]]:
    """Return the levels of a model as plain numbers, by their own."""
    numbers = range(1, len(model.levels) + 1)
    return {str(number): plain_level(model.tables(number)) for number in numbers}


def plain_level(tables: FrequencyTables) -> dict[str, Any]:
    """Return the tables of a level, and what chooses among them, as plain numbers."""
    plain = {"minimum": tables.minimum, "frequencies": tables.frequencies.tolist()}
    contexts = tables.contexts
    if isinstance(contexts, ContextModel):
        return plain | {"own": list(contexts.own), "shared": list(contexts.shared)}
    arrays = ("magnitude_weights", "sign_weights", "magnitude_bias", "sign_bias")
    lists = ("groups", "magnitude", "sign")
    return (
        plain
        | {name: getattr(contexts, name).tolist() for name in arrays}
        | {name: list(getattr(contexts, name)) for name in lists}
        | {"sets": np.asarray(tables.sets).tolist()}
    )


def tables_of(level: dict[str, Any]) -> FrequencyTables:
    """Return the tables of a plain level."""
    contexts: Contexts
    if "groups" in level:
        lists = (tuple(level[name]) for name in ("groups", "magnitude", "sign"))
        names = ("magnitude_weights", "sign_weights", "magnitude_bias", "sign_bias")
        contexts = LinearContexts(*lists, *(np.array(level[name]) for name in names))
    else:
        contexts = ContextModel(tuple(level["own"]), tuple(level["shared"]))
    sets = np.array(level["sets"]) if "sets" in level else None
    return FrequencyTables(level["minimum"], np.array(level["frequencies"]), contexts, sets)


def latent(seed: int, shape: tuple[int, ...], spread: float) -> npt.NDArray[np.int32]:
    """Return symbols by Laplace's distribution."""
    random = np.random.default_rng(seed)
    return np.rint(random.laplace(0, spread, shape)).astype(np.int32)


def linear_contexts(seed: int, channels: int, largest: int = 200) -> LinearContexts:
    """Return contexts of up to three groups whose weights reach ``largest``."""
    random = np.random.default_rng(seed)
    starts = random.permutation(np.arange(1, channels))[:2] if channels > 1 else np.array([], int)
    groups = tuple(sorted(starts.tolist()))
    group = np.searchsorted(groups, np.arange(channels), side="right")
    earlier = group[:, np.newaxis] > group
    known = np.concatenate([np.ones((channels, 2 * channels), bool), earlier], axis=1)
    return LinearContexts(
        groups,
        tuple(np.unique(random.integers(-9000, 9000, 5)).tolist()),
        tuple(np.unique(random.integers(-500, 500, 3)).tolist()),
        (random.integers(-largest, largest + 1, known.shape) * known).astype(np.int16),
        (random.integers(-largest, largest + 1, known.shape) * known).astype(np.int16),
        random.integers(-900, 900, channels).astype(np.int32),
        random.integers(-90, 90, channels).astype(np.int32),
    )
