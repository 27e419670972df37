"""Linear contexts: by definition, at their limits, learned from symbols, in a model folder."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from plain_tables import latent, linear_contexts

from tactic_codec import entropy
from tactic_codec.entropy import TOTAL, ContextModel, FrequencyTables, LinearContexts, Prices
from tactic_codec.entropy.tables import CAP, EXACT, SCALE, capped, empty_board, scan, wavefronts
from tactic_codec.errors import DamagedModel

Symbols = npt.NDArray[np.int32]


def tables(contexts: LinearContexts, symbols: int = 8) -> FrequencyTables:
    """Two sets of tables for the values -3 to 3 that differ in every context."""
    random = np.random.default_rng(1)
    frequencies = random.integers(1, TOTAL // symbols, (2, contexts.count, symbols))
    frequencies[..., 3] += TOTAL - frequencies.sum(axis=-1)
    sets = np.arange(contexts.channels) % 2
    return FrequencyTables(-3, frequencies, contexts, sets)


def by_definition(v: Symbols, model: LinearContexts) -> npt.NDArray[np.int64]:
    """The contexts of a latent, term by term in integers of any size."""
    channels, rows, columns = v.shape
    padded = np.pad(np.clip(v, -15, 15), ((0, 0), (1, 0), (1, 1))).astype(int)
    starts = (0, *model.groups, channels)
    scale = [int(x) for x in SCALE]
    found = np.empty(v.shape, np.int64)
    for y, x, c in itertools.product(range(rows), range(columns), range(channels)):
        known = max(start for start in starts if start <= c)
        a, s = int(model.magnitude_bias[c]), int(model.sign_bias[c])
        w, u = model.magnitude_weights[c].tolist(), model.sign_weights[c].tolist()
        for j in range(channels):
            west, north = int(padded[j, y + 1, x]), int(padded[j, y, x + 1])
            corners = abs(int(padded[j, y, x])) + abs(int(padded[j, y, x + 2]))
            a += w[j] * scale[abs(west) + abs(north)] + w[channels + j] * scale[corners]
            s += u[j] * west + u[channels + j] * north
            if j < known:
                here = int(padded[j, y + 1, x + 1])
                a += w[2 * channels + j] * scale[abs(here)]
                s += u[2 * channels + j] * here
        rank_a = sum(threshold <= a for threshold in model.magnitude)
        found[c, y, x] = rank_a * (len(model.sign) + 1) + sum(t <= s for t in model.sign)
    return found


def seen_by(v: Symbols) -> npt.NDArray[np.int8]:
    board, inside = empty_board(v.shape, np.int8)
    inside[...] = capped(v)
    return board


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("spread", [1.0, 12.0])
def test_contexts_by_definition(channels: int, spread: float) -> None:
    model = linear_contexts(channels, channels)
    v = latent(3, (channels, 4, 5), spread)
    expected = by_definition(v, model)
    order, _, pitch = scan(4, 5)
    found = model.contexts(seen_by(v), order, pitch)
    for index, contexts in zip(order.tolist(), found, strict=True):
        y, x = divmod(index, pitch)
        np.testing.assert_array_equal(contexts, expected[:, y - 1, x - 1])
    assert found.max() < model.count


def test_a_decoder_that_knows_less_finds_the_same() -> None:
    """What is not decoded yet plays no part."""
    model = linear_contexts(4, 6)
    v = latent(5, (6, 4, 5), 3.0)
    order, _, pitch = scan(4, 5)
    expected = dict(zip(order.tolist(), model.contexts(seen_by(v), order, pitch), strict=True))
    board, inside = empty_board(v.shape, np.int32)
    inside[...] = v
    read_so_far = []

    def read(
        where: npt.NDArray[np.intp], group: slice, contexts: npt.NDArray[np.integer]
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.int32]]:
        for index, found in zip(where.tolist(), contexts, strict=True):
            np.testing.assert_array_equal(found, expected[index][group])
        values = board[where, group]
        read_so_far.append(values.size)
        positions, channels = values.nonzero()
        return positions, channels, values[positions, channels]

    model.decode(wavefronts(4, 5, len(v)), read)
    assert sum(read_so_far) == v.size


@pytest.mark.parametrize("awake", [[], [2], [0, 5]])
def test_channels_that_are_zero_everywhere_are_coded_unseen(awake: list[int]) -> None:
    """The encoder does not even put them on its board; the decoder finds the same contexts."""
    known = tables(linear_contexts(4, 6))
    v = np.zeros((6, 4, 5), np.int32)
    v[awake] = latent(5, (6, 4, 5), 3.0)[awake]
    np.testing.assert_array_equal(entropy.decode(entropy.encode(v, known), v.shape, known), v)
    assert Prices(known).symbols(v).sum() == pytest.approx(entropy.ideal_bits(v, known))


def test_sums_are_exact_up_to_their_limit() -> None:
    channels = 64
    random = np.random.default_rng(1)
    weights = random.integers(-2, 3, (channels, 3 * channels))
    weights[:, 2 * channels :] = 0
    weights[:, 0] += (EXACT - 10**5) // 79 - np.abs(weights).sum(axis=1)
    zeros = np.zeros(channels, np.int32)
    model = LinearContexts((), (0,), (0,), weights, weights, zeros, zeros)
    v = latent(2, (channels, 3, 3), 40.0)
    order, _, pitch = scan(3, 3)
    seen = seen_by(v)
    a, _ = model.sums(seen, order, pitch)
    west, north, north_west, north_east = (
        np.abs(seen[order - step].astype(np.int64)) for step in (1, pitch, pitch + 1, pitch - 1)
    )
    scale = SCALE.astype(np.int64)
    known = np.concatenate([scale[west + north], scale[north_west + north_east]], axis=1)
    np.testing.assert_array_equal(a, known @ weights[:, : 2 * channels].T)
    assert np.abs(a).max() > EXACT / 4


def test_the_scale_is_a_logarithm() -> None:
    np.testing.assert_array_equal(SCALE, np.rint(16 * np.log2(1 + np.arange(2 * CAP + 1))))


def with_weight(model: LinearContexts, place: tuple[int, int], weight: int) -> dict[str, Any]:
    weights = model.magnitude_weights.astype(np.int64)
    weights[place] = weight
    return {"magnitude_weights": weights}


BROKEN = {
    "groups that fall": (lambda m: {"groups": (3, 2)}, "groups begin"),
    "a group beyond the channels": (lambda m: {"groups": (6,)}, "groups begin"),
    "a group that begins at 0": (lambda m: {"groups": (0,)}, "groups begin"),
    "thresholds that fall": (lambda m: {"magnitude": (5, 5)}, "magnitude context thresholds"),
    "a threshold of 2^24": (lambda m: {"sign": (EXACT,)}, "sign context thresholds"),
    "weights of floats": (lambda m: {"sign_weights": m.sign_weights * 0.5}, "sign weights"),
    "too few weights": (lambda m: {"sign_weights": m.sign_weights[:, 1:]}, "sign weights"),
    "a bias too many": (lambda m: {"sign_bias": np.zeros(7, int)}, "sign weights"),
    "a sum of 2^24": (lambda m: with_weight(m, (0, 0), EXACT // 79 + 1), "sums may reach"),
    "a negative sum": (lambda m: with_weight(m, (0, 0), -(2**62)), "sums may reach"),
    "a look ahead": (lambda m: with_weight(m, (0, 12), 1), "not yet decoded"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), BROKEN.values(), ids=BROKEN)
def test_what_breaks_a_rule_is_refused(change: Any, reason: str) -> None:
    model = linear_contexts(1, 6)
    with pytest.raises(DamagedModel, match=reason):
        dataclasses.replace(model, **change(model))


@pytest.mark.parametrize(
    ("sets", "reason"),
    [
        (np.array([0, 1, 2]), "sets 0 to 2 of 2"),
        (np.array([-1, 0, 0]), "sets -1 to 0"),
        (np.array([0.0, 1.0]), "sets of tables float64"),
        (np.array([[0, 1]]), "sets of tables"),
        (np.array([], int), "sets of tables"),
    ],
)
def test_sets_of_tables_that_are_not_there(sets: npt.NDArray[Any], reason: str) -> None:
    with pytest.raises(DamagedModel, match=reason):
        FrequencyTables(0, np.full((2, 1, 4), TOTAL // 4), ContextModel(), sets)


def test_tables_for_other_channels_are_refused() -> None:
    contexts = linear_contexts(1, 6)
    frequencies = np.full((1, contexts.count, 4), TOTAL // 4)
    with pytest.raises(DamagedModel, match="contexts of 6 channels for tables of 5"):
        FrequencyTables(0, frequencies, contexts, np.zeros(5, int))


# --- Prices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("spread", [0.5, 2.0, 12.0])
def test_prices_add_up_to_the_ideal_bits(spread: float) -> None:
    level = tables(linear_contexts(2, 5))
    symbols = latent(2, (5, 4, 6), spread)
    total = float(Prices(level).symbols(symbols).sum())
    assert total == pytest.approx(entropy.ideal_bits(symbols, level), rel=1e-5)


@pytest.mark.parametrize("spread", [0.5, 2.0, 12.0])
def test_a_move_that_no_context_sees_is_exact(spread: float) -> None:
    model = linear_contexts(2, 4)
    blind = dataclasses.replace(
        model,
        magnitude_weights=np.zeros_like(model.magnitude_weights),
        sign_weights=np.zeros_like(model.sign_weights),
    )
    level = tables(blind)
    symbols = latent(3, (4, 3, 4), spread)
    now = entropy.ideal_bits(symbols, level)
    moves = Prices(level).moves(symbols)
    for place in np.ndindex(*symbols.shape):
        for step, found in ((-1, moves.down), (1, moves.up)):
            moved = symbols.copy()
            moved[place] += step
            expected = entropy.ideal_bits(moved, level) - now
            assert found[place] == pytest.approx(expected, abs=1e-3), (place, step)


def smooth_tables(contexts: LinearContexts) -> FrequencyTables:
    """Tables as a logistic regression would have them, for the values -3 to 3."""
    a, s = (np.linspace(-3, 3, len(t) + 1) for t in (contexts.magnitude, contexts.sign))
    there, positive = 1 / (1 + np.exp(-a)), 1 / (1 + np.exp(-s))
    size = np.array([0.6, 0.3, 0.1])
    shares = np.empty((len(a), len(s), 8))
    shares[..., 3], shares[..., 7] = 1 - there[:, np.newaxis], 1e-5
    shares[..., 4:7] = (there[:, np.newaxis] * positive)[..., np.newaxis] * size
    shares[..., 2::-1] = (there[:, np.newaxis] * (1 - positive))[..., np.newaxis] * size
    shares /= shares.sum(axis=-1, keepdims=True)
    frequencies = np.floor(shares * (TOTAL - 8)).astype(np.int64) + 1
    frequencies[..., 3] += TOTAL - frequencies.sum(axis=-1)
    sets = np.zeros(contexts.channels, int)
    return FrequencyTables(-3, frequencies.reshape(1, -1, 8), contexts, sets)


def test_what_others_will_cost_is_foretold() -> None:
    """A move's effect on other symbols is estimated by slopes."""
    model = dataclasses.replace(
        linear_contexts(2, 6, largest=20),
        magnitude=tuple(range(-3000, 3001, 200)),
        sign=tuple(range(-300, 301, 20)),
    )
    level = smooth_tables(model)
    symbols = latent(3, (6, 6, 6), 1.0)
    prices = Prices(level)
    now = prices.symbols(symbols)
    moves = prices.moves(symbols)
    (towards,) = prices._moved(symbols, [-np.sign(symbols)], [1, 2])
    expected = np.where(symbols > 0, moves.down, moves.up)[1:3]
    np.testing.assert_allclose(towards, np.where(symbols[1:3], expected, 0), atol=1e-5)
    of_others = []
    for place in np.ndindex(*symbols.shape):
        for step, found in ((-1, moves.down), (1, moves.up)):
            moved = symbols.copy()
            moved[place] += step
            then = prices.symbols(moved)
            own = float(then[place] - now[place])
            of_others.append((float(then.sum() - now.sum()) - own, float(found[place]) - own))
    expected, found = np.array(of_others).T
    slope, _ = np.polyfit(found, expected, 1)
    assert 0.8 < slope < 1.25
    assert np.corrcoef(expected, found)[0, 1] > 0.8


# --- Learning -------------------------------------------------------------------------------------


def related(seed: int, images: int) -> list[Symbols]:
    """Symbols whose later channels follow the first one, and whose first follows its neighbour."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(images):
        v = np.zeros((12, 8, 8), np.int32)
        v[0] = np.rint(np.cumsum(random.normal(0, 1, (8, 8)), axis=1))
        spread = np.abs(v[0]) + 0.2
        v[1:] = np.rint(random.laplace(0, 0.5 * spread, (11, 8, 8)))
        v[9] = np.where(random.random((8, 8)) < 0.9, np.sign(v[0]), 0)
        found.append(v)
    return found


@pytest.mark.slow
def test_contexts_are_learned_from_symbols(one_torch_thread: None) -> None:
    from tactic_codec.networks.prior import FactorizedPrior
    from tactic_codec.training.contexts import fit_contexts
    from tactic_codec.training.tables import fit_shared_tables, fit_tables

    learning, calibration, fresh = related(1, 60), related(2, 60), related(3, 10)
    contexts, same = fit_contexts([learning, learning])
    assert contexts.groups == (8,)
    np.testing.assert_array_equal(contexts.magnitude_weights, same.magnitude_weights)
    learned = fit_shared_tables(calibration, contexts)
    plain = ContextModel((1, 3, 8), (4, 16))
    counted = fit_tables(calibration, plain, FactorizedPrior(12).likelihood)
    costs = [sum(entropy.ideal_bits(v, t) for v in fresh) for t in (learned, counted)]
    assert costs[0] < 0.95 * costs[1]
    for v in fresh:
        payload = entropy.encode(v, learned)
        assert len(payload) * 8 < entropy.ideal_bits(v, learned) + 64
        np.testing.assert_array_equal(entropy.decode(payload, v.shape, learned), v)


@pytest.mark.slow
def test_few_channels_are_one_group(one_torch_thread: None) -> None:
    from tactic_codec.training.contexts import fit_contexts

    (contexts,) = fit_contexts([[v[:3] for v in related(1, 4)]])
    assert contexts.groups == ()
    assert not contexts.magnitude_weights[:, 6:].any()
