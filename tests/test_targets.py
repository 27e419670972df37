"""Levels chosen for a picture: by the size of its file, and by what is seen in it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import PHOTOGRAPHS, ROOT, Spoilt, teach_to_detect
from numpy.typing import NDArray
from PIL import Image

from tactic_codec import picture as image
from tactic_codec.boxes import Box
from tactic_codec.cli import main
from tactic_codec.codec import Codec, load_model
from tactic_codec.container import Frame
from tactic_codec.errors import TargetMissed, UnknownTask
from tactic_codec.picture import Pixels
from tactic_codec.tasks import classify, classify_pixels

LEVELS = (1, 2, 3)


def crops() -> list[Pixels]:
    """Sixteen squares of photographs."""
    found = []
    for path in PHOTOGRAPHS[:2]:
        pixels = image.load(path)
        found += [pixels[y : y + 64, x : x + 72] for y in (0, 60, 120, 180) for x in (10, 150)]
    return found


def brightness(codec: Codec, pixels: Pixels) -> NDArray[np.float64]:
    """Logits of a classifier that coding changes its mind about, which the tiny model's hardly is.

    The class is the mean of a picture's values.
    """
    return np.eye(256)[int(pixels.mean())]


@pytest.fixture
def keen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Codec, "class_logits", brightness)


def first_kept(codec: Codec, pixels: Pixels) -> int | None:
    """The lowest level at which the class is the picture's, by hand."""
    for level in LEVELS:
        decoded = np.asarray(codec.decompress(codec.compress(pixels, level).data))
        if int(decoded.mean()) == int(pixels.mean()):
            return level
    return None


def test_the_highest_level_that_is_small_enough(tiny: Codec) -> None:
    pixels = crops()[0]
    files = [tiny.compress(pixels, level).data for level in LEVELS]
    sizes = [len(data) for data in files]
    assert sizes == sorted(set(sizes))
    for limit in range(sizes[0], sizes[2] + 2):
        level = max(n for n, size in zip(LEVELS, sizes, strict=True) if size <= limit)
        aimed = tiny.compress(pixels, max_bytes=limit)
        assert (aimed.data, aimed.level, aimed.label_kept) == (files[level - 1], level, None)
    with pytest.raises(
        TargetMissed, match=f"has {sizes[0]} bytes at level 1 .* at most {sizes[0] - 1}: "
    ):
        tiny.compress(pixels, max_bytes=sizes[0] - 1)


@pytest.mark.parametrize("sizes", [(20, 60, 40), (60, 20, 40), (40, 40, 40)])
@pytest.mark.parametrize("limit", [19, 20, 40, 50, 60])
def test_no_file_is_larger_than_allowed_where_higher_levels_are_smaller(
    tiny: Codec, monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...], limit: int
) -> None:
    def code(codec: Codec, pixels: Pixels, latent: Any, level: int, *how: Any) -> Any:
        empty = Frame(codec.model.fingerprint, level, 64, 64, b"")
        return replace(empty, payload=bytes([1] * (sizes[level - 1] - empty.size))), None

    monkeypatch.setattr(Codec, "code", code)
    try:
        found = tiny.compress(crops()[0], max_bytes=limit)
    except TargetMissed:
        assert sizes[0] > limit
    else:
        assert len(found.data) == sizes[found.level - 1] <= limit


@pytest.mark.usefixtures("keen")
def test_the_lowest_level_that_keeps_the_label(tiny: Codec) -> None:
    seen = set()
    for pixels in crops():
        expected = first_kept(tiny, pixels)
        aimed = tiny.compress(pixels, keep_label=True)
        assert aimed.label_kept == (expected is not None)
        assert aimed.level == (expected or LEVELS[-1])
        assert aimed.data == tiny.compress(pixels, aimed.level).data
        seen.add(expected)
    # Otherwise the pictures would tell nothing.
    assert len(seen - {None}) > 1 and None in seen, seen


def test_the_label_is_that_of_the_model_s_classifier(tiny: Codec) -> None:
    pixels = crops()[0]
    aimed = tiny.compress(pixels, keep_label=True)
    same = classify(aimed.data, codec=tiny)[0].index == classify_pixels(tiny, pixels)[0].index
    assert aimed.label_kept == same


@pytest.mark.usefixtures("keen")
def test_both_targets_at_once(tiny: Codec) -> None:
    late = next(p for p in crops() if (first_kept(tiny, p) or 0) > 1)
    level = first_kept(tiny, late)
    assert level is not None
    size = len(tiny.compress(late, level).data)
    aimed = tiny.compress(late, keep_label=True, max_bytes=size)
    assert (aimed.level, aimed.label_kept) == (level, True)
    aimed = tiny.compress(late, keep_label=True, max_bytes=size - 1)
    assert (aimed.level, aimed.label_kept) == (level - 1, False)


@pytest.mark.slow
def test_of_a_large_picture_the_label_is_kept_that_classify_finds(
    tiny: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def coarse(codec: Codec, pixels: Pixels) -> NDArray[np.float64]:
        return np.eye(256)[int(pixels.mean() / 5)]

    monkeypatch.setattr(Codec, "class_logits", coarse)
    kept = []
    for left in range(0, 120, 20):
        pixels = image.load(PHOTOGRAPHS[0])[:280, left : left + 270]
        label = tiny.most_likely(pixels)
        found = [tiny.compress(pixels, level).frame for level in LEVELS]
        seen = [tiny.most_likely(tiny.look(frame, "classify")) == label for frame in found]
        aimed = tiny.compress(pixels, keep_label=True)
        assert aimed.label_kept is any(seen)
        assert aimed.level == (1 + seen.index(True) if any(seen) else LEVELS[-1])
        kept.append(any(seen))
    assert any(kept)


@pytest.mark.usefixtures("keen")
def test_a_picture_is_analysed_once_and_a_level_coded_once(
    tiny: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def counted(name: str) -> Callable[..., Any]:
        real = getattr(Codec, name)

        def call(self: Codec, *args: Any, **named: Any) -> Any:
            calls.append((name, *args[2:]))
            return real(self, *args, **named)

        return call

    for name in ("analyse", "code"):
        monkeypatch.setattr(Codec, name, counted(name))
    pixels = next(p for p in crops() if first_kept(tiny, p) is None)
    calls.clear()
    tiny.compress(pixels, keep_label=True, max_bytes=10**6)
    assert calls.count(("analyse",)) == 1
    assert len(calls) == 1 + len(LEVELS)


def test_what_cannot_be_aimed_at(tiny: Codec, spoilt: Spoilt) -> None:
    for target in ({"max_bytes": 900}, {"keep_label": True}):
        with pytest.raises(ValueError, match="a level, or let max_bytes, keep_label"):
            tiny.compress(crops()[0], 1, **target)
    spoilt.set("heads", to={})
    with pytest.raises(UnknownTask):
        load_model(spoilt.path).compress(crops()[0], keep_label=True)


@pytest.mark.usefixtures("one_torch_thread", "tiny_head")
def test_effort_is_spent_on_each_level(tiny: Codec) -> None:
    pixels = crops()[0]
    aimed = tiny.compress(pixels, max_bytes=10**6, effort=1)
    assert aimed.data == tiny.compress(pixels, LEVELS[-1], effort=1).data


# --- From a command line --------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("TACTIC_MODELS", str(ROOT / "tests" / "models"))
    monkeypatch.chdir(tmp_path)
    names = [f"{i:02}.png" for i in range(len(crops()))]
    for name, pixels in zip(names, crops(), strict=True):
        Image.fromarray(np.ascontiguousarray(pixels)).save(name)
    return names


@pytest.mark.usefixtures("keen")
def test_the_command_chooses_a_level_for_each_picture(tiny: Codec, pictures: list[str]) -> None:
    result = CliRunner().invoke(
        main, ["compress", "--json", "--keep-label", "-m", "tiny", *pictures, "out"]
    )
    assert result.exit_code == 0, result.output
    facts = [json.loads(line) for line in result.stdout.splitlines()]
    for name, pixels, fact in zip(pictures, crops(), facts, strict=True):
        expected = first_kept(tiny, pixels)
        assert (fact["level"], fact["label_kept"]) == (expected or LEVELS[-1], bool(expected))
        data = (Path("out") / name).with_suffix(".tac").read_bytes()
        assert data == tiny.compress(pixels, fact["level"]).data
        assert fact["bytes"] == len(data)
        assert (f"{name}: warning: at every level" in result.stderr) != bool(expected)


def test_pictures_that_no_level_makes_small_enough_are_named(
    tiny: Codec, pictures: list[str]
) -> None:
    sizes = [len(tiny.compress(pixels, 1).data) for pixels in crops()]
    limit = sorted(sizes)[len(sizes) // 2]
    result = CliRunner().invoke(
        main, ["compress", "--max-bytes", str(limit), "-m", "tiny", *pictures, "out"]
    )
    assert result.exit_code == 1
    written = {path.with_suffix(".png").name for path in Path("out").iterdir()}
    assert written == {n for n, size in zip(pictures, sizes, strict=True) if size <= limit}
    assert all(path.stat().st_size <= limit for path in Path("out").iterdir())
    assert len(result.stderr.splitlines()) == len(pictures) - len(written)


@pytest.mark.parametrize("target", [("--max-bytes", "900"), ("--keep-label",)])
def test_a_level_and_a_target_are_wrong_usage(pictures: list[str], target: tuple[str]) -> None:
    result = CliRunner().invoke(
        main, ["compress", "-q", "1", *target, "-m", "tiny", pictures[0], "a.tac"]
    )
    assert result.exit_code == 2 and "-q" in result.stderr
    assert not Path("a.tac").exists()


def test_a_model_without_a_classifier_keeps_no_labels(pictures: list[str], spoilt: Spoilt) -> None:
    spoilt.set("heads", to={})
    result = CliRunner().invoke(
        main, ["compress", "--keep-label", "-m", str(spoilt.path), *pictures, "out"]
    )
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1, result.stderr
    assert not Path("out").exists()


# --- Boxes ----------------------------------------------------------------------------------------


@pytest.fixture
def detecting(spoilt: Spoilt, monkeypatch: pytest.MonkeyPatch) -> Codec:
    """A model whose detector finds one box, of the class of the mean of a picture's values."""

    def boxes(codec: Codec, pixels: Pixels) -> list[Box]:
        height, width, _ = pixels.shape
        return [Box(int(pixels.mean()), 0.9, 0, 0, width, height)]

    teach_to_detect(spoilt)
    monkeypatch.setattr(Codec, "boxes", boxes)
    return load_model(spoilt.path, device="cpu", threads=1)


def test_the_lowest_level_that_keeps_the_boxes(detecting: Codec) -> None:
    seen = set()
    for pixels in crops():
        expected = first_kept(detecting, pixels)
        aimed = detecting.compress(pixels, keep_boxes=True)
        assert (aimed.boxes_kept, aimed.label_kept) == (expected is not None, None)
        assert aimed.level == (expected or LEVELS[-1])
        assert aimed.data == detecting.compress(pixels, aimed.level).data
        seen.add(expected)
    assert len(seen - {None}) > 1 and None in seen, seen


def test_label_and_boxes_are_both_kept(
    detecting: Codec, keen: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = next(p for p in crops() if first_kept(detecting, p))
    synthesise, levels = Codec.synthesise, list[int]()

    def spy(self: Codec, symbols: Any, frame: Frame, *rest: Any) -> Any:
        levels.append(frame.level)
        return synthesise(self, symbols, frame, *rest)

    monkeypatch.setattr(Codec, "synthesise", spy)
    aimed = detecting.compress(pixels, keep_boxes=True, keep_label=True)
    assert (aimed.label_kept, aimed.boxes_kept) == (True, True)
    assert "label_kept=True, boxes_kept=True" in repr(aimed)
    assert levels == list(range(1, aimed.level + 1))  # each once for both


def test_boxes_are_compared_in_the_picture_s_coordinates(detecting: Codec) -> None:
    flat = np.full((40, 60, 3), 102, np.uint8)
    aimed = detecting.compress(flat, keep_boxes=True, scale=0.5)
    decoded = detecting.decode(aimed.frame, coded_size=True)
    assert decoded.shape == (20, 30, 3)
    assert aimed.boxes_kept == (int(decoded.mean()) == 102)


def test_the_command_keeps_boxes(detecting: Codec, pictures: list[str]) -> None:
    folder = str(detecting.model.path)
    result = CliRunner().invoke(
        main, ["compress", "--json", "--keep-boxes", "-m", folder, *pictures, "out"]
    )
    assert result.exit_code == 0, result.output
    facts = [json.loads(line) for line in result.stdout.splitlines()]
    for name, pixels, fact in zip(pictures, crops(), facts, strict=True):
        expected = first_kept(detecting, pixels)
        assert (fact["level"], fact["boxes_kept"]) == (expected or LEVELS[-1], bool(expected))
        assert "label_kept" not in fact
        assert (f"{name}: warning: at every level" in result.stderr) != bool(expected)
    refused = CliRunner().invoke(main, ["compress", "--keep-boxes", "-m", "tiny", *pictures, "o"])
    assert refused.exit_code == 1 and "tiny cannot detect" in refused.stderr
