"""For tests: random symbols and learned contexts, and levels as the reference decoder has them."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tactic_codec.entropy import (
    TOTAL,
    ContextModel,
    Contexts,
    FrequencyTables,
    Layers,
    LearnedContexts,
)
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
    layers = {
        f"{kind}_{name}": array.tolist()
        for kind, of_kind in zip(("magnitude", "sign"), contexts.layers, strict=True)
        for name, array in of_kind._asdict().items()
    }
    thresholds = {name: list(getattr(contexts, name)) for name in ("starts", "magnitude", "sign")}
    sets = np.asarray(tables.sets).tolist()
    return plain | layers | thresholds | {"sure": contexts.sure, "sets": sets}


def tables_of(level: dict[str, Any]) -> FrequencyTables:
    """Return the tables of a plain level."""
    contexts: Contexts
    if "starts" in level:
        magnitude, sign = (
            Layers(*(np.array(level[f"{kind}_{name}"]) for name in Layers._fields))
            for kind in ("magnitude", "sign")
        )
        thresholds = (tuple(level[name]) for name in ("starts", "magnitude", "sign"))
        contexts = LearnedContexts(*thresholds, level["sure"], (magnitude, sign))
    else:
        contexts = ContextModel(tuple(level["own"]), tuple(level["shared"]))
    sets = np.array(level["sets"]) if "sets" in level else None
    return FrequencyTables(level["minimum"], np.array(level["frequencies"]), contexts, sets)


def latent(seed: int, shape: tuple[int, ...], spread: float) -> npt.NDArray[np.int32]:
    """Return symbols by Laplace's distribution."""
    random = np.random.default_rng(seed)
    return np.rint(random.laplace(0, spread, shape)).astype(np.int32)


def learned_contexts(
    seed: int, channels: int, largest: int = 200, sure: int = TOTAL
) -> LearnedContexts:
    """Return contexts of up to three groups whose units' weights reach ``largest``."""
    random = np.random.default_rng(seed)
    starts = random.permutation(np.arange(1, channels))[:2] if channels > 1 else np.array([], int)
    starts.sort()
    stops = np.array([*starts, channels])

    def layers(units: int, largest: int) -> Layers:
        shape = stops.size, units, 2, channels
        weights = random.integers(-largest, largest + 1, shape).astype(np.int16)
        weights *= (np.arange(channels) < stops[:, np.newaxis])[:, np.newaxis, np.newaxis]
        return Layers(
            weights,
            random.integers(-9000, 9000, (stops.size, 4, units)).astype(np.int32),
            random.integers(-60, 61, (channels, units + 2)).astype(np.int16),
            random.integers(-900, 900, channels).astype(np.int32),
        )

    return LearnedContexts(
        tuple(starts.tolist()),
        tuple(np.unique(random.integers(-9000, 9000, 5)).tolist()),
        tuple(np.unique(random.integers(-2000, 2000, 3)).tolist()),
        sure,
        (layers(5, largest), layers(3, largest // 8)),
    )
