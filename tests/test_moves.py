"""What symbols cost, and what moving one changes: against the coder's own sum, move by move."""

import numpy as np
import numpy.typing as npt
import pytest
from plain_tables import latent

from tactic_codec import entropy
from tactic_codec.entropy import TOTAL, ContextModel, FrequencyTables, Prices

Symbols = npt.NDArray[np.int32]


def tables(contexts: ContextModel, channels: int = 3, symbols: int = 8) -> FrequencyTables:
    """Tables for the values -3 to 3 that differ in every channel and context."""
    random = np.random.default_rng(1)
    frequencies = random.integers(1, TOTAL // symbols, (channels, contexts.count, symbols))
    frequencies[..., 3] += TOTAL - frequencies.sum(axis=-1)
    return FrequencyTables(-3, frequencies, contexts)


CONTEXTS = [
    ContextModel(),
    ContextModel((1, 3, 6)),
    ContextModel((), (2, 4)),
    ContextModel((1, 4, 20), (2, 5, 40)),
]


@pytest.mark.parametrize("contexts", CONTEXTS)
@pytest.mark.parametrize("spread", [0.5, 2.0, 12.0])
def test_prices_add_up_to_the_ideal_bits(contexts: ContextModel, spread: float) -> None:
    level = tables(contexts)
    symbols = latent(2, (3, 4, 5), spread)
    total = float(Prices(level).symbols(symbols).sum())
    assert total == pytest.approx(entropy.ideal_bits(symbols, level), rel=1e-5)


@pytest.mark.parametrize("contexts", CONTEXTS)
# The last spread reaches beyond the tables and beyond the cap on magnitudes.
@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.5, 2.0, 12.0])
@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 1, 1), (3, 1, 4), (3, 4, 1)])
def test_a_move_changes_what_coding_it_would(
    contexts: ContextModel, spread: float, shape: tuple[int, int, int]
) -> None:
    level = tables(contexts)
    symbols = latent(3, shape, spread)
    now = entropy.ideal_bits(symbols, level)
    moves = Prices(level).moves(symbols)
    for place in np.ndindex(*shape):
        for step, found in ((-1, moves.down), (1, moves.up)):
            moved = symbols.copy()
            moved[place] += step
            expected = entropy.ideal_bits(moved, level) - now
            assert found[place] == pytest.approx(expected, abs=1e-3), (place, step)


def test_prices_of_a_certain_symbol_are_nearly_nothing() -> None:
    frequencies = np.array([[[1, TOTAL - 2, 1]]])
    prices = Prices(FrequencyTables(0, frequencies))
    found = prices.symbols(np.array([[[1, 0]]], np.int32))
    np.testing.assert_allclose(found, [[[2 * 2**-24 / np.log(2), 24]]], rtol=1e-3, atol=1e-7)
