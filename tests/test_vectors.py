"""What a reader must read and what it must refuse: the files of ``vectors/``, by two decoders."""

import functools
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import plain_tables
import pytest
import reference_decoder
from numpy.typing import NDArray

from tactic_codec import container, entropy, errors
from tactic_codec.codec import Codec, load_model
from tactic_codec.container import Frame
from tactic_codec.entropy import CONSTRICTION, PURE, Coder, FrequencyTables
from tactic_codec.errors import (
    ChecksumMismatch,
    FormatError,
    LimitExceeded,
    TacError,
    UnknownSection,
)
from tactic_codec.model import Model

ROOT = Path(__file__).parents[1]
VECTORS = ROOT / "tests" / "vectors"
VALID: dict[str, Any] = json.loads((VECTORS / "valid" / "expected.json").read_text())
UNUSUAL: dict[str, Any] = json.loads((VECTORS / "unusual" / "expected.json").read_text())
TABLES: dict[str, Any] = json.loads((VECTORS / "unusual" / "tables.json").read_text())
FAULTY = sorted((VECTORS / "faulty").iterdir())
BUNDLED = sorted(path.parent for path in (ROOT / "models").glob("*/model.json"))

Symbols = NDArray[np.int32]


def model_of(name: str) -> Model:
    bundled = ROOT / "models" / name
    return Model(bundled if bundled.is_dir() else ROOT / "tests" / "models" / name)


@functools.cache
def plain(name: str) -> dict[str, Any]:
    """The model as the reference decoder takes it."""
    if name in TABLES:
        return dict(TABLES[name])
    model = model_of(name)
    return {
        "fingerprint": model.fingerprint.hex(),
        "stride": model.stride,
        "levels": plain_tables.plain_levels(model),
    }


def tables_of(name: str, number: int) -> FrequencyTables:
    return plain_tables.tables_of(plain(name)["levels"][str(number)])


def symbols_of(name: str, frame: Frame, coder: Coder) -> Symbols:
    tables = tables_of(name, frame.level)
    stride = plain(name)["stride"]
    rows, columns = -(-frame.coded_height // stride), -(-frame.coded_width // stride)
    shape = (tables.channels, rows, columns)
    return entropy.decode(frame.payload, shape, tables, coder)


def sha256(symbols: Symbols) -> str:
    return hashlib.sha256(symbols.astype("<i4").tobytes()).hexdigest()


def frames_of(data: bytes) -> list[Frame | FormatError]:
    """The frames of a stream; in place of a refused one, what was said of it."""
    stream = io.BytesIO(data)
    found: list[Frame | FormatError] = []
    while True:
        try:
            frame = container.read_frame(stream, max_pixels=container.DEFAULT_MAX_PIXELS)
        except (ChecksumMismatch, UnknownSection) as error:
            found.append(error)
            continue
        if frame is None:
            return found
        found.append(frame)


# --- Read -----------------------------------------------------------------------------------------

# A file of valid/ is one frame, and what is expected of it stands beside its model.
EXPECTED = {
    **{f"valid/{file}": (facts["model"], [facts]) for file, facts in VALID.items()},
    **{f"unusual/{file}": (facts["model"], facts["frames"]) for file, facts in UNUSUAL.items()},
}


@pytest.mark.parametrize("coder", [CONSTRICTION, PURE], ids=lambda coder: coder.name)
@pytest.mark.parametrize("file", EXPECTED)
def test_the_package_reads_the_symbols_that_were_recorded(file: str, coder: Coder) -> None:
    model, expected = EXPECTED[file]
    found = frames_of((VECTORS / file).read_bytes())
    assert len(found) == len(expected)
    for frame, facts in zip(found, expected, strict=True):
        if not isinstance(frame, Frame):
            assert facts == {"error": type(frame).__name__}
            continue
        coded = facts.get("coded", [facts["width"], facts["height"]])
        assert [frame.coded_width, frame.coded_height] == coded
        lengths = {str(kind): len(data) for kind, data in frame.sections}
        assert lengths == facts.get("sections", {})
        fields = {"level": frame.level, "width": frame.width, "height": frame.height}
        assert fields == {key: facts[key] for key in fields}
        assert frame.fingerprint.hex() == facts["fingerprint"] == plain(model)["fingerprint"]
        assert len(frame.payload) == facts.get("payload", len(frame.payload))
        symbols = symbols_of(model, frame, coder)
        assert list(symbols.shape) == facts["symbols"]
        assert sha256(symbols) == facts["symbols_sha256"]


@pytest.mark.parametrize(
    "file",
    [
        # Written to be read, not to be fast: of large models it takes seconds.
        pytest.param(file, marks=pytest.mark.slow) if "-level" in file else file
        for file in EXPECTED
    ],
)
def test_the_reference_decoder_reads_the_same_symbols(file: str) -> None:
    model, expected = EXPECTED[file]
    data = (VECTORS / file).read_bytes()
    for frame, facts in zip(frames_of(data), expected, strict=True):
        if isinstance(frame, Frame):
            read = reference_decoder.parse(container.pack(frame), 2**28)
            assert read["metadata"] == frame.metadata
            symbols = reference_decoder.decode(container.pack(frame), plain(model), 2**28)
            assert sha256(np.array(symbols, np.int32)) == facts["symbols_sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("file", [file for file, (model, _) in EXPECTED.items() if model == "tiny"])
@pytest.mark.filterwarnings("ignore::tactic_codec.ImageWarning")  # of metadata that is unusable
def test_the_codec_shows_pictures_of_the_stated_sizes(file: str, tiny: Codec) -> None:
    _, expected = EXPECTED[file]
    for frame, facts in zip(frames_of((VECTORS / file).read_bytes()), expected, strict=True):
        if isinstance(frame, Frame):
            assert tiny.decompress(frame).size == (facts["width"], facts["height"])
            coded = tuple(facts.get("coded", (facts["width"], facts["height"])))
            assert tiny.decompress(frame, coded_size=True).size == coded


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", *(folder.name for folder in BUNDLED)])
def test_pictures_differ_by_what_the_page_allows(name: str) -> None:
    """Between two runtimes, and between one tile and many."""
    page = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{name}`[^|]*\| (\d+) \| ([\d.]+) \|", page, re.M)
    assert row, f"docs/format.md states no tolerance for {name}"
    folder = model_of(name).path
    codecs = [load_model(folder, device=device, threads=1) for device in ("cpu", "torch-cpu")]
    for file in (file for file, facts in VALID.items() if facts["model"] == name):
        frame = container.parse((VECTORS / "valid" / file).read_bytes())
        first, second = (codec.decode(frame).astype(np.int32) for codec in codecs)
        assert first.shape == (frame.height, frame.width, 3)
        difference = first - second
        assert np.abs(difference).max() <= int(row[1])
        assert np.sqrt(np.square(difference).mean()) <= float(row[2])


def test_what_unusual_files_are_for() -> None:
    """The files hold what their names say, or they would prove nothing."""

    def read(name: str, number: int = 0) -> tuple[Frame, Symbols]:
        frame = frames_of((VECTORS / "unusual" / f"{name}.tac").read_bytes())[number]
        assert isinstance(frame, Frame)
        return frame, symbols_of(UNUSUAL[f"{name}.tac"]["model"], frame, CONSTRICTION)

    frame, symbols = read("all-zero")
    assert frame.payload == b"" and not symbols.any()
    frame, symbols = read("zeros-before-the-last-symbol")
    assert np.argwhere(symbols).tolist() == [[7, 5, 5]]
    assert len(read("payload-of-one-byte")[0].payload) == 1
    assert len(read("payload-of-one-word")[0].payload) == 4
    limit = entropy.SYMBOL_LIMIT
    assert set(read("symbols-at-the-limits")[1].ravel().tolist()) == {limit, -limit}
    assert np.abs(read("escape-of-24-zeros")[1]).max() > 2**23 > limit
    tables = tables_of("tiny", 1)
    _, symbols = read("all-escaped")
    assert ((symbols < tables.minimum) | (symbols > tables.maximum)).all()
    assert read("widest")[0].width == read("tallest")[0].height == container.MAX_SIDE
    assert read("largest")[0].pixels == container.DEFAULT_MAX_PIXELS
    levels = TABLES["contexts"]["levels"]
    contexts = [read(f"contexts-{kind}") for kind in ("none", "own", "shared", "both")]
    assert all(np.array_equal(symbols, contexts[0][1]) for _, symbols in contexts)
    assert [len(levels[str(frame.level)]["frequencies"][0]) for frame, _ in contexts] == [
        1, 4, 3, 12,
    ]  # fmt: skip
    for name in ("payload-longer-than-needed", "payload-length-in-three-bytes"):
        frame, symbols = read(name)
        assert len(entropy.encode(symbols, tables_of("tiny", frame.level))) < len(frame.payload) - 9


def test_every_level_of_every_bundled_model_has_a_vector() -> None:
    found = {(facts["model"], facts["level"]) for facts in VALID.values()}
    bundled = [Model(path) for path in BUNDLED]
    wanted = {(m.name, number) for m in bundled for number in range(1, len(m.levels) + 1)}
    assert wanted - found == set()


# --- Refused --------------------------------------------------------------------------------------


def error_of(file: Path) -> type[TacError]:
    """The class that a file of ``faulty/`` is named by."""
    error: type[TacError] = getattr(errors, file.name.split("-")[0])
    return error


@pytest.mark.parametrize("file", FAULTY, ids=lambda file: file.stem)
def test_a_faulty_file_ends_in_the_error_that_names_it(file: Path, tiny: Codec) -> None:
    with pytest.raises(error_of(file)) as caught:
        tiny.decompress(file.read_bytes())
    assert type(caught.value) is error_of(file)
    assert len(str(caught.value)) > 20


@pytest.mark.parametrize("file", FAULTY, ids=lambda file: file.stem)
def test_the_reference_decoder_names_the_same_error(file: Path) -> None:
    name = error_of(file).__name__
    if name == "UnknownModel":  # it is handed a model and does not look at the fingerprint
        return
    with pytest.raises(reference_decoder.Refused, match=f"^{name}$"):
        reference_decoder.decode(file.read_bytes(), plain("tiny"))


def test_every_error_that_bytes_can_cause_has_a_file() -> None:
    def leaves(error: type[TacError]) -> set[str]:
        below = error.__subclasses__()
        return {error.__name__}.union(*map(leaves, below))

    wanted = leaves(FormatError) - {"FormatError"}
    wanted |= {LimitExceeded.__name__, "UnknownModel", "UnknownLevel"}
    assert {error_of(file).__name__ for file in FAULTY} == wanted


def test_a_wrong_expectation_is_noticed(tiny: Codec) -> None:
    """The checks above can fail."""
    frame = container.parse((VECTORS / "valid" / "tiny-1x1.tac").read_bytes())
    symbols = symbols_of("tiny", frame, CONSTRICTION)
    symbols[0, 0, 0] += 1
    assert sha256(symbols) != VALID["tiny-1x1.tac"]["symbols_sha256"]


@pytest.mark.parametrize("folder", ["unusual", "faulty"])
def test_every_file_is_explained(folder: str) -> None:
    readme = (VECTORS / "README.md").read_text(encoding="utf-8")
    for file in (VECTORS / folder).iterdir():
        name = file.relative_to(VECTORS).as_posix()
        assert f"| `{name}` | {file.stat().st_size} |" in readme or file.suffix == ".json"


def test_the_page_counts_the_frames_that_were_read_under_emulation() -> None:
    """A vector that is added has to be read on aarch64, too, before the page may say so."""
    frames = sum("error" not in facts for _, expected in EXPECTED.values() for facts in expected)
    page = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    assert f"both read all {frames} frames" in page
