"""Learned contexts: by definition, at their limits, learned from symbols, in a model folder."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from plain_tables import latent, learned_contexts

from tactic_codec import entropy
from tactic_codec.entropy import TOTAL, ContextModel, FrequencyTables, LearnedContexts, Prices
from tactic_codec.entropy.learned import EXACT, KINDS, SCALE
from tactic_codec.entropy.order import PART_SYMBOLS, Seen, merged, parts
from tactic_codec.entropy.symbols import known_parts
from tactic_codec.errors import DamagedModel

Symbols = npt.NDArray[np.int32]


def tables(contexts: LearnedContexts, symbols: int = 8) -> FrequencyTables:
    """Two sets of tables for the values -3 to 3 that differ in every context."""
    random = np.random.default_rng(1)
    frequencies = random.integers(1, TOTAL // symbols, (2, contexts.count, symbols))
    frequencies[..., 3] += TOTAL - frequencies.sum(axis=-1)
    sets = np.arange(contexts.channels) % 2
    return FrequencyTables(-3, frequencies, contexts, sets)


STEP = {(0, 0): 0, (1, 1): 1, (0, 1): 2, (1, 0): 3}
SIDES = ((0, -1), (0, 1), (-1, 0), (1, 0))
CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))


def by_definition(v: Symbols, model: LearnedContexts) -> npt.NDArray[np.int64]:
    """The contexts of a latent, term by term in integers of any size."""
    channels, rows, columns = v.shape
    capped = np.clip(v, -15, 15).astype(int).tolist()
    groups = list(itertools.pairwise((0, *model.starts, channels)))
    found = np.empty(v.shape, np.int64)
    for y, x, c in itertools.product(range(rows), range(columns), range(channels)):
        number = sum(start <= c for start in model.starts)
        group, step = range(*groups[number]), STEP[y % 2, x % 2] if number else 0

        def known(j: int, down: int, right: int, group: range = group, step: int = step) -> int:
            there = y + down, x + right  # noqa: B023
            if j >= group.stop or not (0 <= there[0] < rows and 0 <= there[1] < columns):
                return 0
            if j in group:
                if group.start == 0:  # in wavefronts
                    if right + 2 * down >= 0:
                        return 0
                elif STEP[there[0] % 2, there[1] % 2] >= step:
                    return 0
            return int(capped[j][there[0]][there[1]])

        sums = []
        for kind, layers, divisor in zip(KINDS, model.layers, (1024, 64), strict=True):
            numbers = []
            for j in range(channels):
                here = known(j, 0, 0)
                west, east, north, south = (known(j, *place) for place in SIDES)
                corners = [known(j, *place) for place in CORNERS]
                if kind.name == "sign":
                    pair = (west + east, north + south)
                    numbers.append(pair if j in group else (here, sum(pair)))
                else:
                    near, far = (
                        sum(map(abs, places)) for places in ((west, east, north, south), corners)
                    )
                    pair = (near, far) if j in group else (abs(here), near)
                    numbers.append((int(SCALE[pair[0]]), int(SCALE[pair[1]])))
            weights, total = layers.weights[c].tolist(), int(layers.bias[c])
            for u, unit in enumerate(layers.units[number].tolist()):
                terms = (unit[k][j] * numbers[j][k] for k in range(2) for j in range(channels))
                at = int(layers.unit_bias[number, step, u]) + sum(terms)
                total += weights[u] * min(127, max(kind.least, (at + divisor // 2) // divisor))
            sums.append(total + weights[-2] * numbers[c][0] + weights[-1] * numbers[c][1])
        rank_a, rank_s = (
            sum(threshold <= at for threshold in thresholds)
            for thresholds, at in zip((model.magnitude, model.sign), sums, strict=True)
        )
        found[c, y, x] = rank_a * (len(model.sign) + 1) + rank_s
    return found


def found_by(v: Symbols, model: LearnedContexts) -> npt.NDArray[np.int64]:
    found, seen = np.full(v.shape, -1), Seen(v.shape)
    for part, values in known_parts(v, model, seen):
        y, x = np.divmod(part.where, v.shape[2] + 2)
        assert (found[part.group, y - 1, x - 1] == -1).all()
        found[part.group, y - 1, x - 1] = model.of(seen, part).T
        np.testing.assert_array_equal(values, v[part.group, y - 1, x - 1].T)
    return found


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("spread", [1.0, 12.0])
@pytest.mark.parametrize("size", [(4, 5), (1, 3), (3, 1), (2, 2)])
def test_contexts_by_definition(channels: int, spread: float, size: tuple[int, int]) -> None:
    model = learned_contexts(channels, channels)
    v = latent(3, (channels, *size), spread)
    found = found_by(v, model)
    np.testing.assert_array_equal(found, by_definition(v, model))
    assert found.max() < model.count


@pytest.mark.parametrize("rows", [1, 2, 1000])
def test_a_decoder_that_knows_less_finds_the_same(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not decoded yet plays no part, however few rows a part has."""
    monkeypatch.setattr("tactic_codec.entropy.order.PART_SYMBOLS", 4 * rows)
    model = learned_contexts(4, 6)
    v = latent(5, (6, 7, 5), 3.0)
    expected, seen, coded = found_by(v, model), Seen(v.shape), 0
    for number, group in enumerate(model.groups(6)):
        for part in parts(7, 5, number, group):
            y, x = np.divmod(part.where, 5 + 2)
            values = v[group, y - 1, x - 1].T
            found = model.of(seen, part)
            np.testing.assert_array_equal(found, expected[group, y - 1, x - 1].T)
            positions, channels = values.nonzero()
            seen.put(part, positions, channels, values[positions, channels])
            coded += values.size
        seen.settle(group)
    assert coded == v.size


@pytest.mark.parametrize("number", [0, 3])
def test_parts_have_every_position_once_and_few_symbols(number: int) -> None:
    group = slice(10, 74)
    for height, width in ((1, 1), (1, 9), (9, 1), (70, 131)):
        for found in (list(parts(height, width, number, group)),
                      list(merged(parts(height, width, number, group)))):  # fmt: skip
            where = np.concatenate([part.where for part in found])
            y, x = np.divmod(where, width + 2)
            expected = sorted(itertools.product(range(1, height + 1), range(1, width + 1)))
            assert sorted(zip(y.tolist(), x.tolist(), strict=True)) == expected
            for part in found:
                assert part.ends[-1] == part.where.size <= PART_SYMBOLS // 64 or height == 1


@pytest.mark.parametrize("awake", [[], [2], [0, 5]])
def test_channels_that_are_zero_everywhere_tell_nothing(awake: list[int]) -> None:
    """They are left out of what is seen; both sides find the same contexts."""
    known = tables(learned_contexts(4, 6))
    v = np.zeros((6, 4, 5), np.int32)
    v[awake] = latent(5, (6, 4, 5), 3.0)[awake]
    np.testing.assert_array_equal(entropy.decode(entropy.encode(v, known), v.shape, known), v)
    assert Prices(known).symbols(v).sum() == pytest.approx(entropy.ideal_bits(v, known))


def test_sums_are_exact_up_to_their_limit() -> None:
    """Of units as large as they may be, and of what is made of them."""
    channels = 64
    made = learned_contexts(1, channels)
    layers = made.layers[0]
    random = np.random.default_rng(1)
    units = random.integers(-2, 3, layers.units.shape) * (layers.units != 0)
    units[:, :, 1, 0] += (EXACT - 10**4) // 95 - np.abs(units).sum(axis=(2, 3))
    weights = random.integers(-2, 3, layers.weights.shape)
    weights[:, 0] += (EXACT - 10**4) // 127 - 127 * 8
    largest = layers._replace(units=units, weights=weights, unit_bias=0 * layers.unit_bias)
    model = dataclasses.replace(made, layers=(largest, made.layers[1]))
    v = latent(2, (channels, 5, 5), 40.0)
    np.testing.assert_array_equal(found_by(v, model), by_definition(v, model))


def test_the_scale_is_a_logarithm() -> None:
    assert SCALE.tolist() == [round(16 * float(np.log2(1 + n))) for n in range(61)]


def with_unit(model: LearnedContexts, place: tuple[int, ...], weight: int) -> dict[str, Any]:
    units = model.layers[0].units.astype(np.int64)
    units[place] = weight
    return with_layers(model, units=units)


def with_layers(model: LearnedContexts, **changed: Any) -> dict[str, Any]:
    return {"layers": (model.layers[0]._replace(**changed), model.layers[1])}


BROKEN = {
    "groups that fall": (lambda m: {"starts": (3, 2)}, "groups begin"),
    "a group beyond the channels": (lambda m: {"starts": (6,)}, "groups begin"),
    "a group that begins at 0": (lambda m: {"starts": (0,)}, "groups begin"),
    "a group less": (lambda m: {"starts": m.starts[1:]}, "magnitude weights"),
    "thresholds that fall": (lambda m: {"magnitude": (5, 5)}, "magnitude context thresholds"),
    "a threshold of 2^24": (lambda m: {"sign": (EXACT,)}, "sign context thresholds"),
    "units of floats": (lambda m: with_layers(m, units=m.layers[0].units * 0.5), "magnitude w"),
    "one axis too few": (lambda m: with_layers(m, units=m.layers[0].units[0]), "magnitude w"),
    "no step": (lambda m: with_layers(m, unit_bias=m.layers[0].unit_bias[:, 0]), "magnitude w"),
    "too few weights": (lambda m: with_layers(m, weights=m.layers[0].weights[1:]), "magnitude w"),
    "a bias too many": (lambda m: with_layers(m, bias=np.zeros(7, int)), "magnitude w"),
    "a unit of 2^24": (lambda m: with_unit(m, (0, 0, 1, 0), EXACT // 95 + 1), "sums may reach"),
    "a negative unit": (lambda m: with_unit(m, (0, 0, 1, 0), -(2**62)), "sums may reach"),
    "a sum of 2^24": (lambda m: with_layers(m, bias=m.layers[0].bias + EXACT), "sums may reach"),
    "a look ahead": (lambda m: with_unit(m, (0, 0, 1, 5), 1), "not yet decoded"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), BROKEN.values(), ids=BROKEN)
def test_what_breaks_a_rule_is_refused(change: Any, reason: str) -> None:
    model = learned_contexts(1, 6)
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
    contexts = learned_contexts(1, 6)
    frequencies = np.full((1, contexts.count, 4), TOTAL // 4)
    with pytest.raises(DamagedModel, match="contexts of 6 channels for tables of 5"):
        FrequencyTables(0, frequencies, contexts, np.zeros(5, int))


# --- Prices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("spread", [0.5, 2.0, 12.0])
def test_prices_add_up_to_the_ideal_bits(spread: float) -> None:
    level = tables(learned_contexts(2, 5))
    symbols = latent(2, (5, 4, 6), spread)
    total = float(Prices(level).symbols(symbols).sum())
    assert total == pytest.approx(entropy.ideal_bits(symbols, level), rel=1e-5)


@pytest.mark.parametrize("spread", [0.5, 2.0, 12.0])
def test_a_move_that_no_context_sees_is_exact(spread: float) -> None:
    model = learned_contexts(2, 4)
    zeros = (
        layers._replace(units=0 * layers.units, weights=0 * layers.weights)
        for layers in model.layers
    )
    blind = dataclasses.replace(model, layers=tuple(zeros))
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


def smooth_tables(contexts: LearnedContexts) -> FrequencyTables:
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
        learned_contexts(2, 6),
        magnitude=tuple(range(-3000, 3001, 200)),
        sign=tuple(range(-3000, 3001, 200)),
    )
    level = smooth_tables(model)
    symbols = latent(3, (6, 6, 7), 1.0)
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
    assert contexts.starts == (8,)
    for array, other in zip(contexts.layers[0], same.layers[0], strict=True):
        assert array.shape == other.shape
    np.testing.assert_array_equal(contexts.layers[0].units, same.layers[0].units)
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
    assert contexts.starts == ()
    assert contexts.layers[0].units.shape[0] == 1
