"""The package and the decoder written from the specification agree, and its examples are true."""

import json
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference_decoder
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_tables import learned_contexts, plain_level

from tactic_codec import picture
from tactic_codec.container import Frame, pack, parse
from tactic_codec.entropy import (
    CONSTRICTION,
    PURE,
    ContextModel,
    FrequencyTables,
    decode,
    encode,
)
from tactic_codec.errors import TacError

PAGE = (Path(__file__).parents[1] / "docs" / "format.md").read_text()
EXAMPLES = PAGE[PAGE.index("## Appendix: examples") :]
SMALLEST = bytes.fromhex("".join(re.findall(r"^    ([0-9a-f ]+?)  +[a-z]", EXAMPLES, re.M)))
SECOND = bytes.fromhex(re.findall(r"^    ([0-9a-f ]{20,})$", EXAMPLES, re.M)[0])
SCALED = bytes.fromhex(re.findall(r"^    ([0-9a-f ]{20,})$", EXAMPLES, re.M)[1])
MODEL: dict[str, Any] = json.loads(EXAMPLES[EXAMPLES.index("{") : EXAMPLES.index("}]}") + 3])
MODEL["levels"] = {str(n): level for n, level in enumerate(MODEL["levels"], 1)}
SYMBOLS = json.loads(re.findall(r"^    (\[\[\[.*\]\]\])$", EXAMPLES, re.M)[-1])


def tables_of(level: dict[str, Any]) -> FrequencyTables:
    model = ContextModel(tuple(level["own"]), tuple(level["shared"]))
    return FrequencyTables(level["minimum"], np.array(level["frequencies"]), model)


def random_frequencies(
    rng: np.random.Generator, shape: tuple[int, int, int]
) -> np.typing.NDArray[np.int64]:
    count = shape[2]
    cuts = rng.integers(0, 2**24 - count, (*shape[:2], count - 1))
    return np.diff(np.sort(cuts, axis=2), axis=2, prepend=0, append=2**24 - count) + 1


def test_the_smallest_frame_of_the_page() -> None:
    frame = Frame(b"\x0a\x0b\x0c\x0d", 1, 1, 1, b"")
    assert parse(SMALLEST) == frame
    assert pack(frame) == SMALLEST
    assert reference_decoder.parse(SMALLEST)["payload"] == b""


def test_the_second_example_of_the_page() -> None:
    assert reference_decoder.decode(SECOND, MODEL) == SYMBOLS
    tables = tables_of(MODEL["levels"]["1"])
    payload = encode(np.array(SYMBOLS), tables)
    assert pack(Frame(b"\x0a\x0b\x0c\x0d", 1, 40, 20, payload)) == SECOND


def test_the_scaled_example_of_the_page() -> None:
    frame = Frame(b"\x0a\x0b\x0c\x0d", 1, 300, 150, SECOND[12:-4], (40, 20), ((200, b"hi"),))
    assert pack(frame) == SCALED
    assert parse(SCALED) == frame
    assert reference_decoder.decode(SCALED, MODEL) == SYMBOLS
    assert reference_decoder.interpolated([0, 100], 6) == [0, 0, 33, 67, 100, 100]


@pytest.mark.parametrize(
    ("size", "own"),
    [((7, 5), (9, 5)), ((1, 1), (4, 3)), ((9, 6), (10, 7)), ((12, 9), (101, 40)), ((6, 2), (6, 9))],
)
def test_both_bring_a_picture_to_its_own_size(size: tuple[int, int], own: tuple[int, int]) -> None:
    random = np.random.default_rng(sum(own))
    pixels = random.integers(0, 256, (size[1], size[0], 3), np.uint8)
    found = picture.enlarged(pixels, *own).astype(int)
    assert found.shape == (own[1], own[0], 3)
    for channel in range(3):
        expected = reference_decoder.enlarged(pixels[..., channel].tolist(), *own)
        assert np.abs(found[..., channel] - expected).max() <= 1
        assert np.mean(found[..., channel] != expected) < 0.1  # exact halves


def test_the_reference_decoder_as_a_program(tmp_path: Path) -> None:
    (tmp_path / "image.tac").write_bytes(SECOND)
    (tmp_path / "model.json").write_text(json.dumps(MODEL))
    command = [sys.executable, reference_decoder.__file__, "image.tac", "model.json"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert json.loads(run.stdout) == SYMBOLS


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    st.sampled_from([((), ()), ((1,), ()), ((), (1, 4)), ((2, 5, 90), (1, 3, 30))]),
)
def test_both_decoders_read_the_same_symbols(
    seed: int, shape: tuple[int, int, int], thresholds: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    rng = np.random.default_rng(seed)
    context_model = ContextModel(*thresholds)
    count = int(rng.integers(3, 12))
    frequencies = random_frequencies(rng, (shape[0], context_model.count, count))
    tables = FrequencyTables(int(rng.integers(-count, 3)), frequencies, context_model)
    symbols = np.rint(rng.laplace(0, 4, shape)).astype(np.int32)
    level = plain_level(tables)
    model = {"stride": 8, "levels": {"7": level}}
    payload = encode(symbols, tables)
    frame = Frame(b"abcd", 7, 8 * shape[2] - seed % 8, 8 * shape[1] - seed % 7, payload)
    assert reference_decoder.decode(pack(frame), model) == symbols.tolist()

    hostile = bytes(rng.integers(0, 256, 24, np.uint8))
    try:
        ours = decode(hostile, shape, tables).tolist()
    except TacError as error:
        ours = type(error).__name__
    try:
        theirs: Any = reference_decoder.decode_symbols(hostile, shape[1], shape[2], level)
    except reference_decoder.Refused as error:
        theirs = str(error)
    assert ours == theirs


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6)),
)
def test_both_decoders_know_learned_contexts(seed: int, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    sure = int(rng.integers(1, 2**24))
    contexts = learned_contexts(seed, shape[0], sure=sure)
    sets = rng.integers(0, 2, shape[0])
    count = int(rng.integers(3, 12))
    frequencies = random_frequencies(rng, (2, contexts.count, count))
    tables = FrequencyTables(int(rng.integers(-count, 3)), frequencies, contexts, sets)
    symbols = np.rint(rng.laplace(0, 4, shape)).astype(np.int32)
    level = plain_level(tables)
    payload = encode(symbols, tables)
    for coder in (CONSTRICTION, PURE):
        assert encode(symbols, tables, coder) == payload
        assert decode(payload, shape, tables, coder).tolist() == symbols.tolist()
    found = reference_decoder.decode_symbols(payload, shape[1], shape[2], level)
    assert found == symbols.tolist()


def refusal_of_package(data: bytes) -> str | None:
    try:
        parse(data)
    except TacError as error:
        return type(error).__name__
    return None


def refusal_of_reference(data: bytes) -> str | None:
    try:
        reference_decoder.parse(data)
    except reference_decoder.Refused as error:
        return str(error)
    return None


def test_both_parsers_name_the_same_cause_for_every_cut_and_flip() -> None:
    damaged = []
    for whole in (SECOND, SCALED):
        damaged += [whole[:length] for length in range(len(whole))]
        for bit in range(8 * len(whole)):
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            damaged.append(bytes(flipped))
    for data in damaged:
        cause = refusal_of_package(data)
        assert cause is not None
        assert cause == refusal_of_reference(data)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.binary(max_size=30))
def test_both_parsers_judge_alike(tail: bytes) -> None:
    body = SECOND[:9] + tail
    data = body + zlib.crc32(body).to_bytes(4, "little")
    assert refusal_of_package(data) == refusal_of_reference(data)


@settings(derandomize=True, max_examples=500, deadline=None)
@given(st.integers(0, 3), st.lists(st.integers(1, 12), max_size=6), st.binary(max_size=20))
def test_both_parsers_judge_flagged_frames_alike(
    flags: int, numbers: list[int], tail: bytes
) -> None:
    body = SECOND[:3] + bytes([0x10 | flags]) + SECOND[4:9] + bytes(numbers) + tail
    data = body + zlib.crc32(body).to_bytes(4, "little")
    assert refusal_of_package(data) == refusal_of_reference(data)


def test_crc_of_the_reference_decoder() -> None:
    assert reference_decoder.crc32(b"123456789") == 0xCBF43926


def test_a_level_that_the_model_lacks() -> None:
    with pytest.raises(reference_decoder.Refused, match="UnknownLevel"):
        reference_decoder.decode(SECOND, {"stride": 16, "levels": {}})
