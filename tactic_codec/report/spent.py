"""Where the bits of a frame went: to which blocks of the picture, and how many into a region.

symbols ─ tables ─▶ bits of each block ─┬─ region of the picture ─▶ facts
                                                       └─ picture ─▶ heat map
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tactic_codec import picture as image
from tactic_codec.container import Frame
from tactic_codec.entropy import FrequencyTables, Prices
from tactic_codec.model import Model
from tactic_codec.picture import Pixels

_BAND = 1 << 22
"""Symbols that are priced at once, which bounds the memory for it."""

Blocks = NDArray[np.float64]
Facts = dict[str, Any]


def bits_of_blocks(symbols: NDArray[np.int32], tables: FrequencyTables) -> Blocks:
    """Return the bits of each block, [h, w], by the tables: the payload is a little longer.

    A block is one position of the latent, a model's stride in pixels a side of what was coded.

    Args:
        symbols: int32 [C, h, w], see `Model.decode_symbols`.
        tables: of the frame's level.
    """
    prices = Prices(tables)
    channels, height, width = symbols.shape
    rows = max(2, _BAND // (channels * width) // 2 * 2)
    # Contexts look one row up and down, so a band is priced together with the rows beside it; its
    # first row stays an even one, by which steps are told.
    bands = [
        prices.symbols(symbols[:, max(0, top - 2) : top + rows + 1])[:, min(top, 2) :][:, :rows]
        for top in range(0, height, rows)
    ]
    return np.concatenate([band.sum(axis=0, dtype=np.float64) for band in bands])


def facts_of(
    frame: Frame, model: Model, blocks: Blocks, inside: NDArray[np.bool_] | None = None
) -> Facts:
    """Return what went where, as ``tactic explain`` prints it.

    Args:
        blocks: see `bits_of_blocks`.
        inside: a region of the picture, [height, width].
    """
    payload, total = 8 * len(frame.payload), float(blocks.sum())
    across, down = frame.scale
    sides = (model.stride * across, model.stride * down)
    facts = {
        "bits": 8 * frame.size,
        "header_bits": 8 * frame.size - payload,
        "payload_bits": payload,
        "ideal_bits": round(total, 1),
        "block": [round(side, 3) for side in sides],
        "blocks": blocks.round(1).tolist(),
    }
    if inside is not None:
        bits = float((image.covered(inside, blocks.shape, sides) * blocks).sum())
        facts |= {
            "inside_bits": round(bits, 1),
            "inside_share": round(bits / total, 6) if total else 0.0,
            "inside_area": round(float(inside.mean()), 6),
        }
    return facts


def heat_map(pixels: Pixels, blocks: Blocks, frame: Frame, model: Model) -> Pixels:
    """Lay the bits of blocks over a decoded picture, uint8 [H, W, 3]; see `draw_heat`."""
    from tactic_codec.picture.drawing import draw_heat

    seen = frame.coded_height / model.stride, frame.coded_width / model.stride
    height, width, _ = pixels.shape
    plane = image.resize_plane(blocks.astype(np.float32), height, width, seen)
    return draw_heat(pixels, plane, float(blocks.max()), "bits a block")
