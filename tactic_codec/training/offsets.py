"""Which dead zone a quality level rounds with.

    latents of calibration images ─ offset ─▶ symbols ─┬─ tables ─▶ bits ─────────────┐
                                                       └─ Judge ─▶ L_D, features ─────┴─▶ mean J

Rounding to nearest is best for the picture alone. Latents are distributed around zero like a
Laplace density, so that the lower neighbour is likelier and cheaper: a dead zone loses a little of
the picture and saves more bits (Sullivan, IEEE Trans. IT 1996). How much the one is worth in the
other is what the level was trained with: beta and the weights of its last stage.

The divergence from the task network's prediction is left out: a few pictures near a decision move
its mean by more than any dead zone does (with `paper` on 12 pictures by 0.13, and the rest of J by
0.004), so that the offset would be chosen by chance. Features of the network take no such leaps.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tactic_codec import codec, entropy
from tactic_codec.entropy import ContextModel
from tactic_codec.picture import Pixels
from tactic_codec.refinement import Judge, Networks
from tactic_codec.training.tables import LevelExport, fit_tables

CANDIDATES = (0.5, 0.45, 0.4, 0.35, 0.3)
"""Below the last a symbol's reconstruction would no longer stand near the middle of what is rounded
to it. Of equal ones the first is taken."""

IMAGES = 16
"""Calibration images that are decoded for every candidate; tables are fitted on all of them."""


def tune_offset(
    networks: Networks,
    calibration: Sequence[Pixels],
    latents: Sequence[NDArray[np.float32]],
    level: LevelExport,
    contexts: ContextModel,
) -> LevelExport:
    """Return a level with the offset that has the least mean J but for the divergence.

    Where the divergence is all that the task weighs by, what is left of J knows nothing of it, and
    the offset stays what it was in training; so it does where a level does not tell its objective.

    Args:
        networks: decode and classify.
        calibration: pictures uint8 [H, W, 3].
        latents: of the same pictures, before gains, [C, h, w].
        level: with the offset that the last stage of training rounded with.
        contexts: chooses among the tables.
    """
    objective = level.objective
    if objective is None or (objective.alpha > 0 and objective.features == 0):
        return level
    judged = objective._replace(alpha=0.0)
    # Evenly over all images, which may come from several folders.
    chosen = range(0, len(calibration), max(1, -(-len(calibration) // IMAGES)))
    judges = {i: Judge(networks, calibration[i], level.inverse_gain, judged) for i in chosen}

    def mean_objective(offset: float) -> float:
        symbols = [codec.quantise(y, level.gain, offset) for y in latents]
        tables = fit_tables(symbols, contexts, level.likelihood)
        total = 0.0
        for i, judge in judges.items():
            loss = judge.loss(torch.from_numpy(symbols[i].astype(np.float32)))
            bpp = entropy.ideal_bits(symbols[i], tables) / (judge.height * judge.width)
            total += loss.total + judged.beta * bpp
        return total / len(judges)

    return level._replace(offset=min(CANDIDATES, key=mean_objective))
