"""Which dead zone a quality level rounds with.

    latents of calibration images ─ offset ─▶ symbols ─┬─ tables ─▶ bits ───────┐
                                                       └─ Judge ─▶ L_D + L_T ───┴─▶ mean J

Rounding to nearest is best for the picture alone. Latents are distributed around zero like a
Laplace density, so that the lower neighbour is likelier and cheaper: a dead zone loses a little of
the picture and saves more bits (Sullivan, IEEE Trans. IT 1996). How much the one is worth in the
other is what the level was trained with: beta and the weights of its last stage.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tactic_codec import codec, entropy
from tactic_codec.entropy import ContextModel
from tactic_codec.image import Pixels
from tactic_codec.model import PLAIN_OFFSET, Objective
from tactic_codec.refinement import Judge, Networks
from tactic_codec.training.tables import Likelihood, fit_tables

STEP = 0.025
"""What neighbouring candidates differ by."""

LEAST = 0.3
"""The smallest candidate: below it a symbol's reconstruction would no longer stand near the middle
of what is rounded to it."""

IMAGES = 16
"""Calibration images that are decoded and classified for every candidate; their mean J is smooth
enough to find its least by, and tables are fitted on all images anyway."""


def tune_offset(
    networks: Networks,
    calibration: Sequence[Pixels],
    latents: Sequence[NDArray[np.float32]],
    *,
    gain: NDArray[np.float32],
    inverse_gain: NDArray[np.float32],
    likelihood: Likelihood,
    contexts: ContextModel,
    objective: Objective,
) -> float:
    """Return the offset with the least mean J, going down from 0.5 for as long as J falls.

    Args:
        networks: decode and classify.
        calibration: pictures uint8 [H, W, 3].
        latents: of the same pictures, before gains, [C, h, w].
        gain: [C], of the level.
        inverse_gain: likewise.
        likelihood: the learned density of the level's symbols.
        contexts: chooses among the tables.
        objective: of the level.
    """
    # Evenly over all images, which may come from several folders.
    chosen = range(0, len(calibration), max(1, -(-len(calibration) // IMAGES)))
    judges = {i: Judge(networks, calibration[i], inverse_gain, objective) for i in chosen}

    def mean_objective(offset: float) -> float:
        symbols = [codec.quantise(y, gain, offset) for y in latents]
        tables = fit_tables(symbols, contexts, likelihood)
        total = 0.0
        for i, judge in judges.items():
            loss = judge.loss(torch.from_numpy(symbols[i].astype(np.float32)))
            bpp = entropy.ideal_bits(symbols[i], tables) / (judge.height * judge.width)
            total += loss.total + objective.beta * bpp
        return total / len(judges)

    best, least = PLAIN_OFFSET, mean_objective(PLAIN_OFFSET)
    for i in range(1, round((PLAIN_OFFSET - LEAST) / STEP) + 1):
        offset = round(PLAIN_OFFSET - i * STEP, 3)
        found = mean_objective(offset)
        if not found < least:
            break
        best, least = offset, found
    return best
