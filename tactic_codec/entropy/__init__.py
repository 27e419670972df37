"""Integer symbols to bytes and back with fixed integer tables, the same on every machine.

    y_hat [C, h, w] ─ encode(…, tables) ─▶ payload ─ decode(…, shape, tables) ─▶ y_hat [C, h, w]

    symbols    encode, decode, ideal_bits, count_symbols: the order of the stages; escapes
    tables     coding order, contexts that choose a table, and tables of integers that sum to 2^24
    moves      what symbols cost, and what moving one would change
    coders     the range coder, by constriction where it is installed
    pure       the same range coder in plain Python, standard library only

This room knows nothing of images, networks or frames, and is the only one that imports
constriction. It refuses a payload that no encoder writes with `Corrupt`, and tables that break
their rules with `DamagedModel`.
"""

from tactic_codec.entropy.coders import CONSTRICTION, PURE, Coder, default_coder
from tactic_codec.entropy.moves import Moves, Prices
from tactic_codec.entropy.pure import TOTAL
from tactic_codec.entropy.symbols import count_symbols, decode, encode, ideal_bits
from tactic_codec.entropy.tables import (
    SYMBOL_LIMIT,
    ContextModel,
    Contexts,
    FrequencyTables,
    LinearContexts,
    LinearThresholds,
)

__all__ = [
    "CONSTRICTION",
    "PURE",
    "SYMBOL_LIMIT",
    "TOTAL",
    "Coder",
    "ContextModel",
    "Contexts",
    "FrequencyTables",
    "LinearContexts",
    "LinearThresholds",
    "Moves",
    "Prices",
    "count_symbols",
    "decode",
    "default_coder",
    "encode",
    "ideal_bits",
]
