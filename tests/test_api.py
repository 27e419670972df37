"""The public names: what `tactic_codec` itself offers, and the facts that come with bytes."""

import inspect
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import PHOTOGRAPHS, TINY
from PIL import Image

import tactic_codec
from tactic_codec import Codec, Compressed, errors
from tactic_codec.cli import main


def picture() -> Image.Image:
    return Image.open(PHOTOGRAPHS[0]).convert("RGB").crop((0, 0, 72, 64))


def test_every_name_is_there_and_every_error_is_a_name() -> None:
    for name in tactic_codec.__all__:
        assert getattr(tactic_codec, name) is not None
    tree = {n for n, kind in inspect.getmembers(errors, inspect.isclass)}
    assert tree <= set(tactic_codec.__all__)
    with pytest.raises(AttributeError, match="compress_to"):
        _ = tactic_codec.compress_to  # type: ignore[attr-defined]


def test_compress_takes_all_that_a_codec_takes() -> None:
    whole, own = (inspect.signature(f).parameters for f in (tactic_codec.compress, Codec.compress))
    assert [*own][1:] == [*whole][:-2]
    for name in [*whole][:-2]:
        assert whole[name].default == own[name].default


def test_the_facts_are_those_of_the_file(tiny: Codec, tmp_path: Path) -> None:
    coded = tactic_codec.compress(picture(), 2, model=TINY)
    assert coded.data == bytes(coded) == tiny.compress(picture(), 2).data
    assert coded.data is coded.data
    assert (coded.level, coded.width, coded.height) == (2, 72, 64)
    assert (coded.model, coded.label_kept) == ("tiny", None)
    assert coded.bpp == 8 * len(coded.data) / (72 * 64)
    path = tmp_path / "a.tac"
    path.write_bytes(b"old")
    coded.save(path)
    assert path.read_bytes() == coded.data and [*tmp_path.iterdir()] == [path]


def test_a_pipe_is_written_to_and_stays(tiny: Codec, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    coded = tiny.compress(picture())
    coded.save(pipe)
    assert os.read(reading, 1 << 16) == coded.data
    os.close(reading)
    assert pipe.is_fifo() and [*tmp_path.iterdir()] == [pipe]


def test_what_cannot_be_written_leaves_nothing(tiny: Codec, tmp_path: Path) -> None:
    (tmp_path / "a.tac").mkdir()
    for path in (tmp_path / "a.tac", tmp_path / "none" / "a.tac"):
        with pytest.raises(OSError):
            tiny.compress(picture()).save(path)
    assert [*tmp_path.rglob("*")] == [tmp_path / "a.tac"]


def test_what_was_compressed_is_read_as_it_is(tiny: Codec) -> None:
    coded = tiny.compress(picture())
    assert tiny.decompress(coded) == tiny.decompress(coded.data)
    assert tactic_codec.classify(coded, codec=tiny) == tactic_codec.classify(coded.data, codec=tiny)


def test_they_tell_what_they_are(tiny: Codec) -> None:
    coded = tiny.compress(picture(), 2)
    size = len(coded.data)
    assert repr(coded) == (
        f"<Compressed 72 x 64: {size} bytes, {coded.bpp:.4f} bpp, level 2 of tiny>"
    )
    kept = repr(tiny.compress(picture(), keep_label=True))
    assert kept.endswith((" of tiny, label_kept=True>", " of tiny, label_kept=False>"))
    expected = f"<Codec tiny: fingerprint {tiny.model.fingerprint.hex()}, levels 1 to 3, classify>"
    assert repr(tiny) == expected
    assert len(repr(coded.frame)) < 200


def test_background_shows_through(tiny: Codec) -> None:
    clear = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
    for colour in ((255, 255, 255), (10, 200, 30)):
        expected = tiny.compress(Image.new("RGB", (40, 30), colour))
        assert tiny.compress(clear, background=colour) == expected
    assert tiny.compress(clear) == tiny.compress(clear, background=(255, 255, 255))


@pytest.mark.usefixtures("tiny_installed")
def test_a_model_stays_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    first = tactic_codec.compress(picture(), model="tiny")

    def again(*args: object) -> None:
        raise AssertionError("loaded again")

    monkeypatch.setattr("tactic_codec.codec.open_runtime", again)
    assert tactic_codec.compress(picture(), model="tiny") == first


@pytest.mark.usefixtures("tiny_installed")
def test_info_is_what_the_command_prints(tiny: Codec, tmp_path: Path) -> None:
    coded = tiny.compress(np.asarray(picture()), 3)
    path = tmp_path / "a.tac"
    coded.save(path)
    printed = json.loads(CliRunner().invoke(main, ["info", "--json", str(path)]).stdout)
    found = tactic_codec.info(path.read_bytes())
    assert printed == {"file": str(path), "frame": 1, **found._asdict()}
    forms = (coded, coded.frame, path, str(path), bytearray(coded.data), io.BytesIO(coded.data))
    for form in forms:
        assert found == tactic_codec.info(form)
    for stranger in (None, 5, io.StringIO()):
        with pytest.raises(TypeError, match="expected a frame, its bytes, the path"):
            tactic_codec.info(stranger)  # type: ignore[arg-type]
    assert (found.model, found.bytes, found.level) == ("tiny", len(coded.data), 3)
    with pytest.raises(tactic_codec.Truncated):
        tactic_codec.info(coded.data[:-1])
    with pytest.raises(tactic_codec.LimitExceeded):
        tactic_codec.info(coded.data, max_pixels=72 * 64 - 1)


@pytest.mark.usefixtures("nothing_installed")
def test_info_of_a_stranger(tiny: Codec) -> None:
    assert tactic_codec.info(tiny.compress(picture()).data).model is None


@pytest.mark.parametrize("value", [2.0, 2.5, "2", True, np.float32(2), np.True_, [2]])
@pytest.mark.parametrize("name", ["level", "max_bytes", "effort", "threads", "top_k"])
def test_whole_numbers_are_asked_for(tiny: Codec, name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a whole number, not"):
        if name == "threads":
            tactic_codec.load_model(TINY, threads=value)
        elif name == "top_k":
            tactic_codec.classify(tiny.compress(picture()), value, codec=tiny)
        else:
            tiny.compress(picture(), **{name: value})


@pytest.mark.parametrize("value", ["no", "", None, 0, 1, 2.0, [True]])
@pytest.mark.parametrize("name", ["keep_label", "keep_boxes", "coded_size"])
@pytest.mark.usefixtures("tiny_installed")
def test_true_or_false_is_asked_for(tiny: Codec, name: str, value: Any) -> None:
    call: Any = tiny.compress
    given: Any = picture()
    if name == "coded_size":
        call, given = tactic_codec.decompress, tiny.compress(given).data
    with pytest.raises(TypeError, match=f"{name} must be True or False, not"):
        call(given, **{name: value})


def test_truth_values_of_numpy_are_truth_values(tiny: Codec) -> None:
    coded = tiny.compress(picture(), keep_label=np.False_)  # type: ignore[arg-type]
    assert coded == tiny.compress(picture())
    assert tiny.decompress(coded, coded_size=np.True_).size == (72, 64)  # type: ignore[arg-type]


def test_whole_numbers_of_numpy_are_whole_numbers(tiny: Codec) -> None:
    coded = tiny.compress(picture(), np.int64(2))  # type: ignore[arg-type]
    assert coded == tiny.compress(picture(), 2) and type(coded.level) is int


@pytest.mark.parametrize("max_bytes", [0, -1])
def test_no_file_has_so_few_bytes(tiny: Codec, max_bytes: int) -> None:
    with pytest.raises(ValueError, match=f"max_bytes must be at least 1, not {max_bytes}"):
        tiny.compress(picture(), max_bytes=max_bytes)


def test_what_is_no_name_and_no_colour_is_told(tiny: Codec) -> None:
    with pytest.raises(TypeError, match="name or the path of its folder was expected, not 5"):
        tactic_codec.load_model(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="5 is no opaque colour"):
        tiny.compress(picture(), background=5)  # type: ignore[arg-type]


def test_two_are_equal_if_they_say_the_same(tiny: Codec) -> None:
    assert tiny.compress(picture(), 1) == tiny.compress(picture(), 1)
    assert tiny.compress(picture(), 1) != tiny.compress(picture(), 2)
    assert isinstance(tiny.compress(picture(), 1), Compressed)
