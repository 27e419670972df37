"""Symbols: lossless for any integers, the same bytes from both coders, near the ideal length."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from plain_tables import learned_contexts

from tactic_codec.entropy import (
    CONSTRICTION,
    PURE,
    SYMBOL_LIMIT,
    TOTAL,
    Coder,
    ContextModel,
    Contexts,
    FrequencyTables,
    coders,
    decode,
    default_coder,
    encode,
    ideal_bits,
    order,
    symbols,
)
from tactic_codec.entropy.order import Seen, merged, parts
from tactic_codec.entropy.pure import RangeDecoder, RangeEncoder
from tactic_codec.entropy.symbols import code_bits, fold, known_parts, read_code, unfold
from tactic_codec.errors import Corrupt, DamagedModel

constriction = pytest.importorskip("constriction")

CODERS = [CONSTRICTION, PURE]
MODELS = [
    ContextModel(),
    ContextModel(own=(1, 2, 3, 5, 8, 13)),
    ContextModel(shared=(1, 6)),
    ContextModel(own=(1, 2, 3, 5, 8, 13), shared=(2, 4, 8, 16, 32)),
]


def random_tables(
    rng: np.random.Generator, channels: int, count: int, model: Contexts
) -> FrequencyTables:
    """Return tables of any shape, frequencies of 1 and of nearly 2^24 among them."""
    weights = rng.gamma(rng.choice([0.01, 0.1, 1]), size=(channels, model.count, count)) + 1e-300
    share = weights / weights.sum(axis=2, keepdims=True)
    frequencies = np.floor(share * (TOTAL - count)).astype(np.int64) + 1
    largest = frequencies.argmax(axis=2, keepdims=True)
    rest = TOTAL - frequencies.sum(axis=2, keepdims=True)
    np.put_along_axis(
        frequencies, largest, np.take_along_axis(frequencies, largest, axis=2) + rest, axis=2
    )
    return FrequencyTables(int(rng.integers(-count, 2)), frequencies, model)


def peaked_tables(channels: int, model: ContextModel, count: int = 33) -> FrequencyTables:
    """Return tables that expect mostly zeros."""
    frequencies = np.ones((channels, model.count, count), np.int64)
    values = np.abs(np.arange(count - 1) - count // 2)
    frequencies[:, :, :-1] += np.floor(0.8 * TOTAL * 4.0**-values / 2).astype(np.int64)
    frequencies[:, :, count // 2] += TOTAL - frequencies.sum(axis=2)
    return FrequencyTables(-(count // 2), frequencies, model)


def round_trip(y_hat: NDArray[np.int32], tables: FrequencyTables) -> bytes:
    """Check a latent with both coders in both directions; return the payload."""
    payload = encode(y_hat, tables, CONSTRICTION)
    assert encode(y_hat, tables, PURE) == payload
    assert not payload.endswith(b"\0")
    assert 8 * len(payload) <= ideal_bits(y_hat, tables) + 64
    for coder in CODERS:
        decoded = decode(payload, y_hat.shape, tables, coder)
        assert decoded.dtype == np.int32
        np.testing.assert_array_equal(decoded, y_hat)
        narrow = decode(payload, y_hat.shape, tables, coder, narrow=True)
        np.testing.assert_array_equal(narrow, y_hat)
        if tables.minimum >= -128 and tables.maximum <= 127:
            fits = y_hat.min() >= -128 and y_hat.max() <= 127
            assert narrow.dtype == (np.int8 if fits else np.int32)
    return payload


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32),
    st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from(MODELS),
    st.integers(3, 40),
    st.sampled_from([0.3, 3, 100, 1e5]),
)
def test_round_trip(
    seed: int, shape: tuple[int, int, int], model: ContextModel, count: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    tables = random_tables(rng, shape[0], count, model)
    y_hat = np.rint(rng.laplace(0, scale, shape)).clip(-SYMBOL_LIMIT, SYMBOL_LIMIT)
    round_trip(y_hat.astype(np.int32), tables)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1), (3, 1, 50), (3, 50, 1), (16, 14, 13)])
def test_sparse_latents(shape: tuple[int, int, int], model: ContextModel) -> None:
    rng = np.random.default_rng(1)
    y_hat = np.rint(rng.laplace(0, 0.4, shape)).astype(np.int32)
    round_trip(y_hat, peaked_tables(shape[0], model))


def test_more_symbols_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    y_hat = np.rint(np.random.default_rng(2).laplace(0, 8, (3, 9, 11))).astype(np.int32)
    tables = peaked_tables(3, MODELS[3])
    payload = round_trip(y_hat, tables)
    monkeypatch.setattr(order, "PART_SYMBOLS", 7)
    monkeypatch.setattr(symbols, "_CHUNK_ESCAPES", 2)
    monkeypatch.setattr(coders, "_MATRIX_ELEMENTS", 100)
    assert round_trip(y_hat, tables) == payload


def test_zeros_that_the_tables_expect_cost_nothing() -> None:
    frequencies = np.ones((64, 1, 5), np.int64)
    frequencies[:, :, 0] = TOTAL - 4
    assert round_trip(np.zeros((64, 9, 9), np.int32), FrequencyTables(0, frequencies)) == b""
    # In the middle of the table a point inside the interval is still short.
    middle = np.roll(frequencies, 2, axis=2)
    payload = round_trip(np.zeros((64, 9, 9), np.int32), FrequencyTables(-2, middle))
    assert len(payload) <= 4


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32),
    st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from([0.1, 0.5, 3]),
)
def test_round_trip_where_tables_are_sure(
    seed: int, shape: tuple[int, int, int], spread: float
) -> None:
    """Of zero, whatever the symbols are; zero may lie at either end of the tables or outside."""
    rng = np.random.default_rng(seed)
    contexts = learned_contexts(seed, shape[0], sure=int(rng.integers(1, TOTAL)))
    tables = random_tables(rng, shape[0], 9, contexts)
    round_trip(np.rint(rng.laplace(0, spread, shape)).astype(np.int32), tables)


@pytest.mark.parametrize("coder", CODERS)
def test_zeros_that_tables_are_sure_of_are_not_coded(
    coder: Coder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three channels are coded in four parts each; then two of these have a 1."""
    contexts = learned_contexts(1, 3, sure=TOTAL - 9)
    assert contexts.starts == (1, 2)
    frequencies = np.ones((1, contexts.count, 9), np.int64)
    frequencies[..., 4] = TOTAL - 8
    tables = FrequencyTables(-4, frequencies, contexts, np.zeros(3, np.int64))
    symbols = np.zeros((3, 6, 6), np.int32)
    expected = 8 * np.log2(8 / 7)
    assert ideal_bits(symbols, tables) == pytest.approx(expected, abs=1e-4)
    assert len(round_trip(symbols, tables)) <= 1
    symbols[2, 3, 5] = symbols[2, 2, 1] = 1
    with_both = 6 * np.log2(8 / 7) + 2 * 3 + 2 * 24
    assert ideal_bits(symbols, tables) == pytest.approx(with_both, abs=1e-4)
    payload = round_trip(symbols, tables)
    decoder = type(coder.decoder(b"", tables))
    take, taken = decoder.take, list[int]()
    monkeypatch.setattr(decoder, "take", lambda d, rows: taken.append(rows.size) or take(d, rows))
    decode(payload, symbols.shape, tables, coder)
    assert sum(taken) == 36 + 9 + 9


def test_rare_symbols_only() -> None:
    frequencies = np.ones((2, 1, 4), np.int64)
    frequencies[:, :, 1] = TOTAL - 3
    round_trip(np.ones((2, 6, 6), np.int32), FrequencyTables(-1, frequencies))
    round_trip(np.full((2, 6, 6), -1, np.int32), FrequencyTables(-1, frequencies))


@pytest.mark.parametrize("value", [SYMBOL_LIMIT, -SYMBOL_LIMIT, 16, -17])
def test_every_symbol_escaped(value: int) -> None:
    round_trip(np.full((2, 5, 4), value, np.int32), peaked_tables(2, MODELS[1]))


@pytest.mark.parametrize("minimum", [-SYMBOL_LIMIT, SYMBOL_LIMIT - 3])
def test_tables_at_the_edge_of_the_range(minimum: int) -> None:
    rng = np.random.default_rng(3)
    tables = FrequencyTables(minimum, np.full((1, 1, 4), TOTAL // 4))
    edges = [-SYMBOL_LIMIT, SYMBOL_LIMIT, minimum, minimum + 2, 0]
    round_trip(rng.choice(edges, (1, 8, 8)).astype(np.int32), tables)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64, np.uint64])
def test_any_integers_are_clamped_and_coded(kind: type[np.integer]) -> None:
    info = np.iinfo(kind)
    given_symbols = np.array([[[info.min, 0, 1, info.max]]], kind)
    tables = peaked_tables(1, ContextModel())
    decoded = decode(encode(given_symbols, tables), (1, 1, 4), tables)
    expected = [max(info.min, -SYMBOL_LIMIT), 0, 1, min(info.max, SYMBOL_LIMIT)]
    assert decoded.reshape(-1).tolist() == expected


def test_overhead_on_a_large_latent() -> None:
    y_hat = np.rint(np.random.default_rng(4).laplace(0, 0.4, (64, 40, 40))).astype(np.int32)
    tables = peaked_tables(64, MODELS[3])
    assert 8 * len(encode(y_hat, tables)) <= 1.005 * ideal_bits(y_hat, tables) + 64


def test_ideal_bits_counts_by_hand() -> None:
    tables = FrequencyTables(0, np.array([[[TOTAL // 2, TOTAL // 4, TOTAL // 4]]]))
    assert ideal_bits(np.array([[[0, 1]]]), tables) == pytest.approx(1 + 2)
    # 4 lies 2 above the table: e = 4, coded 00101.
    assert ideal_bits(np.array([[[4]]]), tables) == pytest.approx(2 + 5)


def words_of_constriction(frequencies: list[int], indices: list[int]) -> bytes:
    encoder = constriction.stream.queue.RangeEncoder()
    model = constriction.stream.model.Categorical(
        np.array(frequencies, np.float64) - 1, perfect=False
    )
    encoder.encode(np.array(indices, np.int32), model)
    data: bytes = encoder.get_compressed().astype(">u4").tobytes()
    return data


GOLDEN_FREQUENCIES = [1_048_576, 15_728_637, 1, 1, 1]
GOLDEN_INDICES = [1, 1, 0, 1, 4, 1, 2, 1, 1, 3, 0]
# constriction prints 4b ff 0f 2d  da 65 b0 cd  0e 48 da fd, its words little-endian.
GOLDEN_WORDS = bytes.fromhex("2d 0f ff 4b cd b0 65 da fd da 48 0e")


@pytest.mark.slow
@pytest.mark.parametrize("minimum", [-90, -3, 0, 4, -179])
def test_long_tables_are_read_by_what_is_near_zero_first(
    minimum: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far values, escapes among them, are few or many, or none of a pass is near."""
    lengths: set[int] = set()
    real = coders._ConstrictionDecoder._read

    def read(
        self: coders._ConstrictionDecoder,
        rows: NDArray[np.intp],
        tables: NDArray[np.float32],
        usual: int,
    ) -> object:
        lengths.add(tables.shape[1])
        return real(self, rows, tables, usual)

    monkeypatch.setattr(coders._ConstrictionDecoder, "_read", read)
    rng = np.random.default_rng(minimum + 200)
    model = MODELS[1]
    for share in (0.0, 0.002, 0.5, 1.0):
        for tables in (random_tables(rng, 6, 180, model), peaked_tables(6, model, 180)):
            tables = FrequencyTables(minimum, tables.frequencies, model)
            y_hat = rng.integers(-8, 9, (6, 12, 15)) // rng.choice([1, 4])
            far = rng.random(y_hat.shape) < share
            y_hat[far] = rng.integers(-300, 300, far.sum())
            round_trip(y_hat.astype(np.int32), tables)
    if minimum == -90:
        assert lengths == {8, 19, 180}
    lengths.clear()
    monkeypatch.setattr(coders, "_COPIED_BYTES", 0.01)
    round_trip(y_hat.astype(np.int32), tables)
    assert lengths == {180}


def put_all(encoder: coders.Encoder, indices: NDArray[np.intp]) -> None:
    """Code symbols of a single table, none of them as the usual one."""
    encoder.put(np.zeros(indices.size, np.intp), np.arange(indices.size), indices)


def test_golden_words() -> None:
    assert words_of_constriction(GOLDEN_FREQUENCIES, GOLDEN_INDICES) == GOLDEN_WORDS
    cumulative = np.concatenate(([0], np.cumsum(GOLDEN_FREQUENCIES))).tolist()
    decoder = RangeDecoder(GOLDEN_WORDS)
    assert [decoder.decode(cumulative) for _ in GOLDEN_INDICES] == GOLDEN_INDICES

    pure = RangeEncoder()
    ours = CONSTRICTION.encoder(FrequencyTables(0, np.array([[GOLDEN_FREQUENCIES]])))
    put_all(ours, np.array(GOLDEN_INDICES))
    pure.encode(
        [cumulative[i] for i in GOLDEN_INDICES], [GOLDEN_FREQUENCIES[i] for i in GOLDEN_INDICES]
    )
    # The same words, but the last is any that lies in the interval and ends soonest.
    sealed = GOLDEN_WORDS[:8] + bytes.fromhex("fd da 49")
    assert pure.seal() == ours.seal() == sealed
    decoder = RangeDecoder(sealed)
    assert [decoder.decode(cumulative) for _ in GOLDEN_INDICES] == GOLDEN_INDICES


def test_a_carry_runs_through_full_words() -> None:
    # The top of the interval over and over keeps the upper words full until a carry comes.
    rng = np.random.default_rng(5)
    for _ in range(300):
        size = rng.choice([1, 2, 3, 200])
        tables = FrequencyTables(0, np.array([[[TOTAL - 3 * size, size, size, size]]]))
        indices = np.where(rng.random(rng.integers(1, 30)) < 0.2, 3, 1)
        pure, ours = PURE.encoder(tables), CONSTRICTION.encoder(tables)
        put_all(pure, indices)
        put_all(ours, indices)
        assert pure.seal() == ours.seal()


@pytest.mark.parametrize("coder", CODERS, ids=lambda coder: coder.name)
def test_impossible_data_is_corrupt(coder: Coder) -> None:
    with pytest.raises(Corrupt, match="outside"):
        decode(b"\xff" * 8, (1, 1, 1), peaked_tables(1, ContextModel()), coder)


@pytest.mark.parametrize("coder", CODERS, ids=lambda coder: coder.name)
def test_impossible_escape_bits_are_corrupt(coder: Coder) -> None:
    tables = FrequencyTables(0, np.array([[[1, 1, TOTAL - 2]]]))

    def payload(zeros: int) -> bytes:
        encoder = RangeEncoder()
        encoder.encode([2], [TOTAL - 2])
        half = TOTAL // 2
        encoder.encode([0] * zeros + [half] * (zeros + 1), [half] * (2 * zeros + 1))
        return encoder.seal()

    # e + 1 is 2^25 - 1, so e is even and its value e / 2 above the table, which ends at 1.
    assert decode(payload(24), (1, 1, 1), tables, coder).item() == 2**24 - 1 + 2
    with pytest.raises(Corrupt, match="24 zero bits"):
        decode(payload(25), (1, 1, 1), tables, coder)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32),
    st.binary(max_size=200),
    st.sampled_from(MODELS),
    st.sampled_from([9, 60]),
)
def test_random_payloads_decode_alike_or_are_corrupt(
    seed: int, payload: bytes, model: ContextModel, count: int
) -> None:
    tables = random_tables(np.random.default_rng(seed), 2, count, model)
    results = []
    for coder in CODERS:
        try:
            results.append(decode(payload, (2, 6, 5), tables, coder).tolist())
        except Corrupt:
            results.append("corrupt")
    assert results[0] == results[1]


@pytest.mark.parametrize("width", range(1, 7))
@pytest.mark.parametrize("height", range(1, 7))
def test_coding_order(height: int, width: int) -> None:
    group = slice(0, 2)
    fronts = list(parts(height, width, 0, group))
    (together,) = merged(fronts)
    order = np.concatenate([part.where for part in fronts])
    np.testing.assert_array_equal(together.where, order)
    positions = [divmod(int(index), width + 2) for index in order]
    expected = sorted(
        ((y, x) for y in range(height) for x in range(width)), key=lambda p: (p[1] + 2 * p[0], p)
    )
    assert [(y - 1, x - 1) for y, x in positions] == expected
    wavefronts = [x + 2 * y for y, x in expected]
    assert together.ends == [
        i + 1 for i in range(len(order)) if wavefronts[i : i + 2] != [wavefronts[i]] * 2
    ]


@pytest.mark.parametrize("model", MODELS)
def test_contexts_by_definition(model: ContextModel) -> None:
    y_hat = np.rint(np.random.default_rng(6).laplace(0, 6, (3, 5, 4))).astype(np.int32)
    seen = Seen((3, 5, 4))
    ((part, _),) = known_parts(y_hat, model, seen)
    found = model.of(seen, part)

    padded = np.pad(np.minimum(np.abs(y_hat), 15), ((0, 0), (1, 0), (1, 1)))
    for index, contexts in zip(part.where.tolist(), found.tolist(), strict=True):
        y, x = divmod(index, 4 + 2)
        west, north = padded[:, y, x - 1], padded[:, y - 1, x]
        own = 2 * west + 2 * north + padded[:, y - 1, x - 1] + padded[:, y - 1, x + 1]
        b = sum(threshold <= int((west + north).sum()) for threshold in model.shared)
        for o, context in zip(own.tolist(), contexts, strict=True):
            a = sum(threshold <= o for threshold in model.own)
            assert context == a * (len(model.shared) + 1) + b
            assert context < model.count


def test_exp_golomb_codes() -> None:
    written = ["1", "010", "011", "00100", "00101", "00110", "00111", "0001000"]
    for number, code in enumerate(written):
        assert "".join(map(str, code_bits(np.array([number])))) == code
    assert "".join(map(str, code_bits(np.arange(8)))) == "".join(written)


def test_exp_golomb_round_trip_at_powers_of_two() -> None:
    numbers = [(1 << n) + d for n in range(2, 24) for d in (-2, -1, 0, 1)]
    bits = iter(code_bits(np.array(numbers)).tolist())
    assert [read_code(lambda: int(next(bits))) for _ in numbers] == numbers


def test_folding_leaves_no_gap() -> None:
    tables = FrequencyTables(-2, np.full((1, 1, 4), TOTAL // 4))  # holds -2, -1, 0
    values = np.array([1, -3, 2, -4, 3])
    assert fold(values.astype(np.int32), tables).tolist() == [0, 1, 2, 3, 4]
    assert [unfold(number, tables) for number in range(5)] == values.tolist()


def edited(change: Callable[[NDArray[np.int64]], None]) -> NDArray[np.int64]:
    frequencies = np.full((2, 1, 4), TOTAL // 4)
    change(frequencies)
    return frequencies


@pytest.mark.parametrize(
    ("frequencies", "text"),
    [
        (np.full((4, 4), TOTAL // 4), "shape"),
        (np.full((1, 1, 4), TOTAL / 4), "float64"),
        (np.empty((0, 1, 4), np.uint32), "shape"),
        (np.full((1, 2, 4), TOTAL // 4), "2 tables per channel for 1"),
        (np.full((1, 1, 2), TOTAL // 2), "at least 3"),
        (edited(lambda q: q.__setitem__((0, 0), [0, 1, 1, TOTAL - 2])), "from 0"),
        (edited(lambda q: q.__setitem__((0, 0), [-1, 1, 1, TOTAL - 1])), "from -1"),
        (edited(lambda q: q.__setitem__((1, 0, 2), 5)), "set 1, context 0 sums"),
    ],
)
def test_tables_that_break_the_rules(frequencies: NDArray[np.int64], text: str) -> None:
    with pytest.raises(DamagedModel, match=text):
        FrequencyTables(0, frequencies)


@pytest.mark.parametrize("minimum", [-SYMBOL_LIMIT - 1, SYMBOL_LIMIT - 1])
def test_tables_beyond_the_symbol_limit(minimum: int) -> None:
    with pytest.raises(DamagedModel, match="table values"):
        FrequencyTables(minimum, np.full((1, 1, 4), TOTAL // 4))


def test_tables_are_a_read_only_copy() -> None:
    frequencies = np.full((1, 1, 4), TOTAL // 4)
    tables = FrequencyTables(-1, frequencies)
    frequencies[0, 0, 0] = 1
    assert tables.frequencies.sum() == TOTAL
    assert tables.frequencies.dtype == np.uint32
    with pytest.raises(ValueError, match="read-only"):
        tables.frequencies[0, 0, 0] = 1


@pytest.mark.parametrize("thresholds", [(0,), (2, 2), (3, 1), (-1, 4)])
def test_context_thresholds_that_break_the_rules(thresholds: tuple[int, ...]) -> None:
    with pytest.raises(DamagedModel, match="own"):
        ContextModel(own=thresholds)
    with pytest.raises(DamagedModel, match="shared"):
        ContextModel(shared=thresholds)


def test_misuse_is_a_value_error() -> None:
    tables = peaked_tables(2, ContextModel())
    for array in (np.zeros((2, 3)), np.zeros((2, 3, 3)), np.zeros((3, 3, 3), int)):
        with pytest.raises(ValueError, match=r"expected integers|channels"):
            encode(array, tables)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape"):
        decode(b"", (2, 0, 3), tables)


def test_the_pure_coder_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_coder() is CONSTRICTION
    default_coder.cache_clear()
    monkeypatch.setattr(coders, "find_spec", lambda name: None)
    try:
        assert default_coder() is PURE
    finally:
        default_coder.cache_clear()


def test_quiet_and_lazy() -> None:
    code = (
        "import sys, numpy as np; from tactic_codec import entropy as e; "
        "assert 'constriction' not in sys.modules; "
        "t = e.FrequencyTables(0, np.full((1, 1, 4), 2**22)); "
        "e.decode(e.encode(np.array([[[1, 9]]]), t), (1, 1, 2), t)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == run.stderr == ""
