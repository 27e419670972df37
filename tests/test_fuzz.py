"""The fuzz targets on inputs that Hypothesis draws, the same ones in every run; see fuzz/README.md.

Each target gets its seeds as they are, then seeds with bytes changed, cut out and put in, then
bytes from nowhere. Longer runs, guided by coverage, are made by hand.
"""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))

import targets

EXAMPLES = {
    "parser": 1200,
    "decoder": 250,
    "picture": 1500,
    "metadata": 600,
    "stream": 600,
    "folder": 600,
    "network": 150,
    "segment": 150,
    "detect": 300,
    "teacher": 300,
}

# A place as a share of the input, and what happens there.
changes = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["set", "flip", "insert", "delete", "cut"]),
        st.integers(0, 255),
    ),
    max_size=5,
)


def changed(seed: bytes, edits: list[tuple[float, str, int]]) -> bytes:
    data = bytearray(seed)
    for share, edit, value in edits:
        # Squared, so that headers are hit more often than what follows them.
        place = int(share**2 * len(data))
        if edit == "insert":
            data[place:place] = bytes([value]) * (1 + value % 5)
        elif edit == "delete":
            del data[place : place + 1 + value % 9]
        elif edit == "cut":
            del data[len(data) - value // 4 :]
        elif data:
            data[place] = value if edit == "set" else data[place] ^ 1 << value % 8
    return bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_no_input_breaks_a_promise(name: str) -> None:
    target = targets.TARGETS[name]
    seeds = list(targets.seeds(name))
    for seed in seeds:
        target(seed)

    @settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=EXAMPLES[name],
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.one_of(st.builds(changed, st.sampled_from(seeds), changes), st.binary(max_size=60)))
    def run(data: bytes) -> None:
        target(data)

    run()


# Of every two bytes one names a place of the manifest and one what is put there.
@pytest.mark.slow
@settings(derandomize=True, database=None, deadline=None, max_examples=400)
@given(st.binary(min_size=2, max_size=6))
def test_no_value_in_a_manifest_breaks_a_promise(choices: bytes) -> None:
    targets.folder(b"\x80" + choices)


def test_a_broken_promise_is_a_finding() -> None:
    """The targets can fail."""
    with pytest.raises(targets.Finding, match="a promise"):
        targets.check(False, "a promise")


def test_every_target_is_run() -> None:
    assert set(EXAMPLES) == set(targets.TARGETS)
