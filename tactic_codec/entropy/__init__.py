"""Integer symbols to bytes and back with fixed integer tables, the same on every machine.

    y_hat [C, h, w] ─ encode(…, tables) ─▶ payload ─ decode(…, shape, tables) ─▶ y_hat [C, h, w]

    symbols    encode, decode, ideal_bits, count_symbols: the order of the stages; escapes
    order      the coding order, and the neighbours of what is coded
    tables     tables of integers that sum to 2^24, and contexts that count neighbours
    learned    contexts by a small network of whole numbers
    moves      what symbols cost, and what moving one would change
    coders     the range coder, by constriction where it is installed
    pure       the same range coder in plain Python, standard library only

This room knows nothing of images, networks or frames, and is the only one that imports
constriction. It refuses a payload that no encoder writes with `Corrupt`, and tables that break
their rules with `DamagedModel`.
"""

from tactic_codec.entropy.coders import CONSTRICTION as CONSTRICTION
from tactic_codec.entropy.coders import PURE as PURE
from tactic_codec.entropy.coders import Coder as Coder
from tactic_codec.entropy.coders import default_coder as default_coder
from tactic_codec.entropy.learned import Layers as Layers
from tactic_codec.entropy.learned import LearnedContexts as LearnedContexts
from tactic_codec.entropy.learned import LearnedThresholds as LearnedThresholds
from tactic_codec.entropy.moves import Prices as Prices
from tactic_codec.entropy.order import Symbols as Symbols
from tactic_codec.entropy.pure import TOTAL as TOTAL
from tactic_codec.entropy.symbols import count_symbols as count_symbols
from tactic_codec.entropy.symbols import decode as decode
from tactic_codec.entropy.symbols import encode as encode
from tactic_codec.entropy.symbols import ideal_bits as ideal_bits
from tactic_codec.entropy.tables import SYMBOL_LIMIT as SYMBOL_LIMIT
from tactic_codec.entropy.tables import ContextModel as ContextModel
from tactic_codec.entropy.tables import Contexts as Contexts
from tactic_codec.entropy.tables import FrequencyTables as FrequencyTables
