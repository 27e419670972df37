"""The evaluation room: curves from real bytes, what is kept of them, and how they are compared."""

import csv
import importlib
import io
import json
import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import PHOTOGRAPHS, ROOT, TINY, Spoilt, evaluate
from conftest import tactic as run_tactic
from numpy.typing import NDArray
from PIL import Image

from tactic_codec import entropy, metrics, tasks
from tactic_codec import picture as image
from tactic_codec.cli import main
from tactic_codec.cli.console import table
from tactic_codec.codec import Codec, load_model
from tactic_codec.errors import (
    BackendUnavailable,
    ConfigError,
    DamagedModel,
    DataError,
    UnknownLevel,
    UnsupportedImage,
)
from tactic_codec.evaluation import coders, equal, formats, pictures, plot
from tactic_codec.evaluation.bdrate import RatePoint, bd_rate, envelope, paired
from tactic_codec.evaluation.cache import Cache, picture_hash
from tactic_codec.evaluation.coders import ModelCoder, RivalCoder
from tactic_codec.evaluation.evaluate import Evaluation
from tactic_codec.evaluation.pictures import (
    Folder,
    Picture,
    held_out,
    keep_held_out,
    spread,
)
from tactic_codec.evaluation.results import (
    BEST_CODEC,
    Comparison,
    Curve,
    FolderResult,
    Point,
    Report,
    comparisons,
)
from tactic_codec.rivals import RIVALS, rival
from tactic_codec.tasks import CLASSIFY, Scores, Share, Witness
from tactic_codec.tasks.classify import share
from tactic_codec.training.config import DataConfig
from tactic_codec.training.data import scan

Pixels = NDArray[np.uint8]
SIZE = 64


CLASSES = ("cat", "cup", "flower", "person", "rocket")


def picture(name: str, pixels: Pixels, classes: tuple[str, ...] = CLASSES) -> Picture:
    """A square of a picture, whose first folder is its class."""
    square = pictures.cut(CLASSIFY, pixels, SIZE)
    truth = CLASSIFY.reader(Path(), classes)(name, square)
    return pictures.picture(CLASSIFY, name, square, truth)


def folder(name: str, found: list[Picture]) -> Folder:
    return pictures.folder(CLASSIFY, name, found, CLASSES)


def photographs() -> list[Picture]:
    return [picture(f"cat/{path.name}", image.load(path)) for path in PHOTOGRAPHS]


def a_share(scores: Scores | None, name: str) -> Share:
    """A score that is known, with its interval."""
    assert scores is not None
    found = scores[name]
    assert isinstance(found, Share)
    return found


@pytest.fixture(scope="module")
def cats(tiny: Codec) -> Folder:
    assert tiny.model.head("classify").classes == CLASSES
    return folder("cats", photographs())


# --- BD-rate --------------------------------------------------------------------------------------

CURVE: list[RatePoint] = [(0.05, 0.3), (0.1, 0.45), (0.2, 0.6), (0.4, 0.8), (0.9, 0.9)]


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.25, 4.0])
def test_bd_rate_of_a_curve_at_a_multiple_of_the_rate(factor: float) -> None:
    found = bd_rate(CURVE, [(rate * factor, quality) for rate, quality in CURVE])
    assert found is not None
    assert found.change == pytest.approx(factor - 1, abs=1e-12)
    assert (found.low, found.high) == (0.3, 0.9)


def test_bd_rate_by_hand_of_two_straight_lines() -> None:
    # ln rate = q against ln rate = 2q: their difference is q, its mean over 0 to 1 is a half.
    anchor = [(math.exp(q), q) for q in (0, 0.25, 0.5, 1)]
    test = [(math.exp(2 * q), q) for q in (0, 0.4, 1)]
    found = bd_rate(anchor, test)
    assert found is not None
    assert found.change == pytest.approx(math.exp(0.5) - 1)
    # Over 0.5 to 1 the mean is three quarters.
    found = bd_rate(anchor, test, (0.5, 3))
    assert found == pytest.approx((math.exp(0.75) - 1, 0.5, 1, None, 0))


def test_bd_rate_against_swapped_curves_is_the_inverse() -> None:
    other = [(0.07, 0.4), (0.15, 0.5), (0.3, 0.85)]
    there, back = bd_rate(CURVE, other), bd_rate(other, CURVE)
    assert there is not None
    assert back is not None
    assert (1 + there.change) * (1 + back.change) == pytest.approx(1)


def test_bd_rate_never_extrapolates() -> None:
    above = [(0.1, 0.9), (0.2, 0.95)]
    assert bd_rate(CURVE, above) is None  # they touch in one quality
    assert bd_rate(CURVE, CURVE, (0.91, 1)) is None
    assert bd_rate(CURVE, [(0.1, 0.5)]) is None
    assert bd_rate(CURVE, [(0.1, 0.5), (0.2, 0.5)]) is None
    assert bd_rate([], CURVE) is None


def test_envelope_keeps_what_nothing_cheaper_reaches() -> None:
    noisy = [(0.3, 0.55), (0.1, 0.5), (0.1, 0.4), (0.2, 0.6), (0.4, 0.7), (0.05, 0.2)]
    assert envelope(noisy) == [(0.05, 0.2), (0.1, 0.5), (0.2, 0.6), (0.4, 0.7)]
    with pytest.raises(ValueError, match="above 0"):
        envelope([(0, 0.5)])
    with pytest.raises(ValueError, match="above 0"):
        envelope([(math.nan, 0.5)])


def test_bd_rate_interpolates_as_scipy_does() -> None:
    from scipy.interpolate import PchipInterpolator

    random = np.random.default_rng(0)

    def mean(curve: list[RatePoint], low: float, high: float) -> float:
        rates, qualities = zip(*envelope(curve), strict=True)
        area = PchipInterpolator(qualities, np.log(rates)).integrate(low, high)
        return float(area) / (high - low)

    compared = 0
    for points in (2, 3, 4, 9) * 10:
        rates = np.sort(random.uniform(0.05, 1, (2, points)))
        noise = random.normal(0, 0.2, (2, points))
        anchor, test = (
            list(zip(r, q, strict=True)) for r, q in zip(rates, np.log(rates) + noise, strict=True)
        )
        found = bd_rate(anchor, test)
        if found:
            ends = found.low, found.high
            expected = math.exp(mean(test, *ends) - mean(anchor, *ends)) - 1
            assert found.change == pytest.approx(expected, rel=1e-9, abs=1e-9)
            compared += 1
    assert compared > 30


def in_draws(rates_PN: Any, qualities_PN: Any) -> NDArray[np.float64]:
    """A curve in draws of N pictures, of which rates and qualities are known at P points."""
    draws = metrics.resamples(np.shape(rates_PN)[1])
    means = [np.array(both) @ draws.T / draws.shape[1] for both in (rates_PN, qualities_PN)]
    return np.stack(means, axis=1)


def test_interval_by_hand() -> None:
    """Rates are a multiple of e^quality, so that a draw's BD-rate is a ratio of its mean rates."""
    random = np.random.default_rng(3)
    own, factors = np.exp(random.normal(0, 2, 30)), np.exp(random.normal(-0.3, 0.4, 30))
    qualities = np.array([[1.0], [2.0], [4.0]]) * np.ones(30)
    anchor = in_draws(np.exp(qualities) * own, qualities)
    found = paired(anchor, in_draws(np.exp(qualities) * own * factors, qualities))
    assert found is not None and found.interval is not None
    draws = metrics.resamples(30)
    changes = draws @ (own * factors) / (draws @ own) - 1
    assert found.change == pytest.approx(changes[0])
    assert found.interval == pytest.approx(tuple(np.percentile(changes[1:], (2.5, 97.5))))
    assert found.draws == metrics.RESAMPLES

    # Paired: pictures differ a hundredfold, but each needs half as much.
    halved = paired(anchor, in_draws(np.exp(qualities) * own / 2, qualities))
    assert halved is not None and halved.interval is not None
    assert halved.interval == pytest.approx((-0.5, -0.5))


def test_a_single_picture_has_no_interval() -> None:
    qualities = np.array([[1.0], [2.0]])
    anchor = in_draws(np.exp(qualities), qualities)
    found = paired(anchor, in_draws(np.exp(qualities) / 2, qualities))
    assert found is not None and found.interval is None
    assert found.change == pytest.approx(-0.5)


@pytest.mark.parametrize(("reaching", "missed"), [(4, 0.018), (2, 0.135)])
def test_draws_without_a_common_quality_are_left_out(reaching: int, missed: float) -> None:
    """Both curves meet only where a draw has one of the pictures that a codec does well on."""
    pictures = 100
    rates = np.array([[1.0], [2.0]]) * np.ones(pictures)
    better = np.zeros(pictures)
    better[:reaching] = 1
    anchor = in_draws(rates, [np.zeros(pictures), better])
    test = in_draws(rates / 2, [np.zeros(pictures), np.ones(pictures)])
    found = paired(anchor, test)
    assert found is not None
    assert 1 - found.draws / metrics.RESAMPLES == pytest.approx(missed, abs=0.03)
    assert (found.interval is None) == (missed > 0.1)
    told = formats._change(Comparison("ours", "theirs", "agreement", found))
    assert told.startswith(f"{100 * found.change:+.1f} % ")
    assert ("(" in told) == (found.interval is not None)
    never = in_draws(rates, np.array([[2.0], [3.0]]) * np.ones(pictures))
    assert paired(anchor, never) is None


# --- Cache ----------------------------------------------------------------------------------------

FACTS: dict[str, int | float] = {"bytes": 3, "psnr": 0.1 + 0.2}


def test_the_cache_gives_back_what_it_got_under_the_same_key_only(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.shelf({"coder": "a", "version": 1}).put("x", FACTS)
    again = cache.shelf({"version": 1, "coder": "a"})
    assert "x" in again
    assert again["x"] == FACTS
    assert "y" not in again
    assert "x" not in cache.shelf({"coder": "a", "version": 2})


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[: len(line) // 2],
        lambda line: line.replace('"bytes":3', '"bytes":4'),
        lambda line: line.replace('"check"', '"chick"'),
        lambda line: "[" * 100_000,
        lambda line: "[1, 2]",
        lambda line: "\udcff",
    ],
)
def test_damaged_lines_of_the_cache_count_as_absent(
    tmp_path: Path, damage: Callable[[str], str]
) -> None:
    cache = Cache(tmp_path)
    shelf = cache.shelf({})
    shelf.put("x", FACTS)
    (path,) = tmp_path.iterdir()
    spoilt = damage(path.read_text().rstrip("\n"))
    path.write_bytes(spoilt.encode("utf-8", "surrogateescape"))  # cut: no end of line either
    after = cache.shelf({})
    assert "x" not in after
    after.put("y", FACTS)
    assert "y" in cache.shelf({})


def test_the_cache_does_not_believe_the_file_of_another_key(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.shelf({"coder": "a"}).put("x", FACTS)
    (first,) = tmp_path.iterdir()
    cache.shelf({"coder": "b"}).put("y", FACTS)
    (second,) = set(tmp_path.iterdir()) - {first}
    first.replace(second)
    assert "x" not in cache.shelf({"coder": "b"})


def test_the_hash_of_a_picture_is_of_its_shape_and_values() -> None:
    flat = np.zeros((2, 8, 3), np.uint8)
    assert picture_hash(flat) == picture_hash(flat.copy())
    assert picture_hash(flat) != picture_hash(flat.reshape(4, 4, 3))
    assert picture_hash(flat) != picture_hash(flat + np.uint8(1))


# --- Which pictures -------------------------------------------------------------------------------


def test_folders_are_labelled_only_if_all_are_classes() -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)

    def labels(*names: str) -> tuple[int, ...] | None:
        found = folder("f", [picture(name, pixels, ("cat", "cup")) for name in names])
        assert [p.name for p in found.pictures] == sorted(names)
        return tuple(p.truth for p in found.pictures) if found.labelled else None

    assert labels("cup/b.jpg", "cat/a.jpg", "cat/deeper/a.jpg") == (0, 0, 1)
    assert labels("cup/b.jpg", "dog/a.jpg") is None
    assert labels("cup/b.jpg", "a.jpg") is None
    assert labels("cup.jpg") is None
    with pytest.raises(DataError, match="no picture is left"):
        labels()


def test_held_out_reads_the_model_s_list(spoilt: Spoilt) -> None:
    with pytest.raises(DataError, match=r"has no held-out\.txt"):
        held_out(spoilt.model)
    spoilt.put("held-out.txt", b"# of cats\n\ncat/a.jpg\n#\ncup/b c.jpg\r\n")
    assert held_out(spoilt.model) == {"cat/a.jpg", "cup/b c.jpg"}
    spoilt.put("held-out.txt", b"\xff\n")
    with pytest.raises(DamagedModel, match="not UTF-8"):
        held_out(spoilt.model)
    (spoilt.path / "held-out.txt").write_bytes(b"x")
    with pytest.raises(DamagedModel):
        held_out(spoilt.model)


def test_keep_held_out_says_what_to_do_where_nothing_is_left() -> None:
    names = ["cat/a.jpg", "cat/b.jpg"]
    assert keep_held_out("d", names, {"cat/b.jpg", "cup/x.jpg"}) == ["cat/b.jpg"]
    with pytest.raises(
        DataError, match=r"none of its 2 .* \(found cat/a\.jpg, the list has b\.jpg"
    ):
        keep_held_out("d", names, {"b.jpg"})
    with pytest.raises(DataError, match=r"found no pictures, the list is empty"):
        keep_held_out("d", [], set())


def test_spread_takes_pictures_evenly() -> None:
    names = [str(i) for i in range(10)]
    assert spread(names, None) == names
    assert spread(names, 10) == spread(names, 11) == names
    assert spread(names, 4) == ["0", "2", "5", "7"]
    assert spread(names, 1) == ["0"]


# --- Coders ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", RIVALS)
def test_codecs_make_real_files_of_rising_size(name: str) -> None:
    codec = RivalCoder(rival(name))
    pixels = image.square(image.load(PHOTOGRAPHS[0]), 96)
    sizes, psnrs = [], []
    for setting in (codec.grid[0], codec.grid[-1]):
        data = codec.rival.encode(pixels, setting)
        coded = codec.code(pixels, setting)
        assert coded.bytes == len(data)
        assert coded.decoded.shape == pixels.shape
        with Image.open(io.BytesIO(data)) as opened:
            assert opened.format == codec.rival.pillow_name
            assert opened.size == (96, 96)
        sizes.append(len(data))
        psnrs.append(metrics.psnr(pixels, coded.decoded))
    assert sizes[0] < sizes[1]
    assert psnrs[0] < psnrs[1]
    assert psnrs[1] > 28
    assert len(set(codec.grid)) == len(codec.grid)
    assert json.loads(json.dumps(codec.identity(codec.grid[0])))
    assert codec.identity(codec.grid[0]) != codec.identity(codec.grid[1])
    assert codec.describe().startswith(codec.settings)


# What a file costs that shows nothing, and so can only hold headers.
FLOORS = {"jpeg": 575, "webp": 146, "avif": 306, "heic": 395, "jpeg2000": 133, "jpegxl": 85}


@pytest.mark.parametrize("name", RIVALS)
def test_codecs_write_no_metadata(name: str) -> None:
    data = rival(name).encode(np.full((224, 224, 3), 128, np.uint8), RIVALS[name].grid[0])
    assert len(data) <= FLOORS[name] + 10  # a later version may need some more
    for mark in (b"acsp", b"Exif", b"http:", b"Open", b"Lavc"):  # profile, EXIF, XMP, advertisement
        assert mark not in data


def test_jpeg_counts_the_smaller_of_two_files() -> None:
    pixels = image.square(image.load(PHOTOGRAPHS[0]), 224)
    for quality in (3, 90):
        sizes = []
        for options in RIVALS["jpeg"].options(quality):
            stream = io.BytesIO()
            image.to_pillow(pixels).save(stream, "JPEG", **options)
            sizes.append(stream.tell())
        assert len(sizes) == 2
        assert len(rival("jpeg").encode(pixels, quality)) == min(sizes)


def test_codecs_take_chosen_qualities_within_their_bounds() -> None:
    chosen = RivalCoder(rival("webp")).at((10, 50.0))
    assert chosen.grid == (10, 50)
    assert not chosen.open_ended
    assert RivalCoder(rival("jpeg2000")).at((12.5,)).grid == (12.5,)
    for grid in ((101,), (-1,), (10.5,), (math.nan,), (math.inf,)):
        with pytest.raises(ConfigError, match="webp takes whole numbers of 0 to 100"):
            RivalCoder(rival("webp")).at(grid)
    with pytest.raises(ConfigError, match="there are: jpeg, webp"):
        rival("gif")


def test_a_missing_plugin_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(BackendUnavailable, match="pip install pillow-jxl-plugin"):
        rival("jpegxl")
    monkeypatch.setattr("PIL.features.check", lambda feature: False)
    with pytest.raises(BackendUnavailable, match="this Pillow was built without avif"):
        rival("avif")


def test_what_a_codec_cannot_hold_is_refused_by_name() -> None:
    wide = np.zeros((1, 20_000, 3), np.uint8)
    with pytest.raises(UnsupportedImage, match="webp at 50 cannot hold a picture of 20000 x 1"):
        rival("webp").encode(wide, 50)


def test_models_are_coders_of_real_frames(tiny: Codec) -> None:
    coder = ModelCoder(tiny)
    assert coder.grid == (1, 2, 3)
    pixels = photographs()[0].pixels
    for level in coder.grid:
        data = tiny.compress(pixels, int(level)).data
        coded = coder.code(pixels, level)
        assert coded.bytes == len(data)
        assert np.array_equal(coded.decoded, np.asarray(tiny.decompress(data)))
    assert coder.at((3, 1)).grid == (3, 1)
    with pytest.raises(UnknownLevel):
        coder.at((4,))
    with pytest.raises(ConfigError, match="whole numbers"):
        coder.at((1.5,))


def test_the_identity_of_a_model_covers_encoder_head_and_level(tiny: Codec, spoilt: Spoilt) -> None:
    before = ModelCoder(tiny).identity(1)
    head = coders.answers_identity(CLASSIFY, tiny, "cpu")
    assert before != ModelCoder(tiny).identity(2)
    assert before != ModelCoder(tiny, "torch-cpu").identity(1)

    spoilt.set("encoder", "gain", 0, 0, to=0.75)
    changed = load_model(spoilt.path, device="cpu", threads=1)
    assert changed.model.fingerprint == tiny.model.fingerprint
    assert ModelCoder(changed).identity(1) != before
    assert coders.answers_identity(CLASSIFY, changed, "cpu") == head

    spoilt.put("classify.onnx", (TINY / "classify.onnx").read_bytes() + b"\0")
    changed = load_model(spoilt.path, device="cpu")
    assert coders.answers_identity(CLASSIFY, changed, "cpu") != head


@pytest.mark.usefixtures("tiny_head", "one_torch_thread")
def test_versions_of_a_model_and_efforts_are_told_apart(tiny: Codec) -> None:
    one = coders.models_at({"models/tiny": tiny}, "auto", (0, 1, 0))
    assert [(coder.name, coder.effort) for coder in one] == [("tiny", 0), ("tiny effort 1", 1)]
    two = coders.models_at({"tiny": tiny, "older/tiny": tiny}, "auto", (0,))
    assert [coder.name for coder in two] == ["tiny (tiny)", "tiny (older/tiny)"]


def test_heads_learn_from_some_two_thousand_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "TRAINING_PICTURES", 3)
    assert pictures.thinned([]) == []
    assert pictures.thinned([1, 2, 3]) == [1, 2, 3]
    assert pictures.thinned([1, 2, 3, 4]) == [1, 3]


@pytest.mark.slow
@pytest.mark.usefixtures("one_torch_thread", "tiny_head")
def test_effort_is_a_coder_of_its_own(tiny: Codec) -> None:
    plain, searching = ModelCoder(tiny), ModelCoder(tiny, effort=1)
    assert searching.identity(2) != plain.identity(2)
    pixels = photographs()[0].pixels
    assert searching.code(pixels, 2).bytes == len(tiny.compress(pixels, 2, effort=1).data)
    assert searching.at((2,)).effort == 1


# --- Evaluate -------------------------------------------------------------------------------------


class Counting(coders.Coder):
    """A coder that notes what it codes: each setting halves the contrast less."""

    name = "counting"
    kind = "codec"
    settings = "for tests"
    open_ended = True

    def __init__(self, grid: tuple[int, ...] = (1, 2, 3), fail_at: int | None = None) -> None:
        self.grid = grid
        self.coded: list[int | float] = []
        self.fail_at = fail_at

    def code(self, pixels: Pixels, setting: int | float) -> coders.Coded:
        if len(self.coded) == self.fail_at:
            raise UnsupportedImage("enough")
        self.coded.append(setting)
        return coders.Coded(int(100 * setting), (pixels // 16 * 16).astype(np.uint8))

    def identity(self, setting: int | float) -> dict[str, Any]:
        return {"coder": self.name, "setting": setting}


def test_a_point_is_what_its_pictures_say(tiny: Codec, cats: Folder, tmp_path: Path) -> None:
    coder = ModelCoder(tiny)
    (result,) = evaluate([cats], [coder], Evaluation(tiny, Cache(tmp_path)), compare=False)
    (curve,) = result.curves
    assert (result.images, result.labelled, curve.kind) == (len(PHOTOGRAPHS), True, "model")
    assert result.uncompressed.bpp == 24
    assert a_share(result.uncompressed.scores, "agreement").share == 1

    pixels = [p.pixels for p in cats.pictures]
    before = [tasks.classify_pixels(tiny, p, 1)[0].index for p in pixels]
    for point in curve.points:
        coded = [coder.code(p, point.setting) for p in pixels]
        answers = [tasks.classify_pixels(tiny, c.decoded, 1)[0].index for c in coded]
        assert point.bytes == np.mean([c.bytes for c in coded])
        assert point.bpp == 8 * point.bytes / SIZE**2
        decoded = [c.decoded for c in coded]
        assert point.psnr == pytest.approx(np.mean(list(map(metrics.psnr, pixels, decoded))))
        assert point.ms_ssim == pytest.approx(np.mean(list(map(metrics.ms_ssim, pixels, decoded))))
        agreed = sum(a == b for a, b in zip(answers, before, strict=True))
        assert point.scores["agreement"] == (agreed / 4, *metrics.wilson_interval(agreed, 4))
        assert point.scores["accuracy"] == share(answers, [0] * 4)
    rates = [point.bpp for point in curve.points]
    assert rates == sorted(rates)


def test_an_interrupted_evaluation_goes_on(tiny: Codec, cats: Folder, tmp_path: Path) -> None:
    first = Counting(fail_at=6)
    with pytest.raises(UnsupportedImage):
        evaluate([cats], [first], Evaluation(tiny, Cache(tmp_path)), compare=False)
    second = Counting()
    results = evaluate([cats], [second], Evaluation(tiny, Cache(tmp_path)), compare=False)
    assert second.coded == [2, 2, 3, 3, 3, 3]
    third = Counting()
    assert (
        evaluate([cats], [third], Evaluation(tiny, Cache(tmp_path), jobs=2), compare=False)
        == results
    )
    assert third.coded == []
    fresh = Counting()
    with_threads = evaluate(
        [cats], [fresh], Evaluation(tiny, Cache(tmp_path / "2"), jobs=2), compare=False
    )
    assert with_threads == results
    assert sorted(fresh.coded) == [1] * 4 + [2] * 4 + [3] * 4


def test_a_codec_s_own_grid_ends_where_files_are_too_large(
    tiny: Codec, cats: Folder, tmp_path: Path
) -> None:
    coder = Counting((1, 6, 7, 8, 9))  # 100 bytes of 64×64 pixels are 0.195 bpp
    done = 0

    def advance(work: int) -> None:
        nonlocal done
        done += work

    (result,) = evaluate(
        [cats], [coder], Evaluation(tiny, Cache(tmp_path), advance=advance), compare=False
    )
    assert [point.setting for point in result.curves[0].points] == [1, 6, 7]
    assert done == Evaluation(tiny, Cache(None)).work_of([cats], [coder])


def test_models_are_compared_with_every_other_curve(
    tiny: Codec, cats: Folder, tmp_path: Path
) -> None:
    rivals = [RivalCoder(rival(name)).at((1, 60)) for name in ("jpeg", "webp")]
    twin = ModelCoder(tiny, name="twin")
    (result,) = evaluate(
        [cats], [ModelCoder(tiny), twin, *rivals], Evaluation(tiny, Cache(tmp_path))
    )
    found = {(c.test, c.anchor, c.quality): c.bd_rate for c in result.comparisons}
    assert {anchor for test, anchor, _ in found if test == "tiny"} == {
        *("twin", "jpeg", "webp"),
        BEST_CODEC,
    }
    assert {test for test, _, _ in found} == {"tiny", "twin"}
    same = found["tiny", "twin", "psnr"]
    assert same is not None
    assert same.change == pytest.approx(0)
    assert same.interval == pytest.approx((0, 0))

    # An interval is of the pictures: computed from each by hand it is the same.
    def by_hand(coder: Any) -> NDArray[np.float64]:
        rows = []
        for setting in coder.grid:
            coded = [(p.pixels, coder.code(p.pixels, setting)) for p in cats.pictures]
            bits = [8 * c.bytes / SIZE**2 for _, c in coded]
            rows.append((bits, [metrics.psnr(pixels, c.decoded) for pixels, c in coded]))
        return in_draws(*zip(*rows, strict=True))

    expected = paired(by_hand(rivals[0]), by_hand(ModelCoder(tiny)))
    assert found["tiny", "jpeg", "psnr"] == expected and expected is not None


# --- At equal bytes -------------------------------------------------------------------------------


def test_the_quality_at_equal_bytes_is_the_lowest_that_reaches_them() -> None:
    webp = rival("webp")
    pixels = [p.pixels for p in photographs()]

    def mean(quality: int) -> float:
        return float(np.mean([len(webp.encode(p, quality)) for p in pixels]))

    search = equal.quality_search(webp, pixels)
    found = search(700)
    assert mean(found) >= 700 > mean(found - 1)
    assert search(1) == 0
    assert search(10**6) == 100


def test_a_table_at_equal_bytes(tiny: Codec) -> None:
    how = Evaluation(tiny, Cache(None), compare=False)
    others = [rival("webp"), rival("jpeg")]
    result = equal.beside(how, folder("f", photographs()), ModelCoder(tiny).at((3, 1)), others)
    assert [curve.name for curve in result.curves] == ["tiny", "webp", "jpeg"]
    assert a_share(result.uncompressed.scores, "agreement").share == 1
    own, *rivals = result.curves
    assert [point.setting for point in own.points] == [1, 3]
    for curve in rivals:
        # Where several levels meet the same point, that one stands there once.
        assert 1 <= len(curve.points) <= 2
        assert curve.points[-1].bytes >= own.points[-1].bytes
    assert all(point.scores["accuracy"] is not None for _, _, point in result.points())


def test_originals_are_measured_once_at_equal_bytes(
    tiny: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    originals = photographs()
    compared = []

    def ms_ssim(original: Pixels, decoded: Pixels) -> float:
        compared.append(np.array_equal(original, decoded))
        return 1.0

    monkeypatch.setattr(metrics, "ms_ssim", ms_ssim)
    how = Evaluation(tiny, Cache(None), compare=False)
    equal.beside(how, folder("f", originals), ModelCoder(tiny).at((3,)), [])
    assert (compared.count(True), compared.count(False)) == (len(originals), len(originals))


@pytest.mark.slow
def test_a_comparison_takes_some_of_what_training_kept_out(
    spoilt: Spoilt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"cat/{path.name}" for path in PHOTOGRAPHS]
    for name, path in zip(names, PHOTOGRAPHS, strict=True):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "photos" / name)
    spoilt.put("held-out.txt", "\n".join([*names[:3], "cat/gone.jpg"]).encode())
    spoilt.set("training", to={"config": {"data": {"size": SIZE}}})
    monkeypatch.setattr(equal, "COMPARED", 2)
    codec = load_model(spoilt.path, threads=1)
    chosen = equal.kept_out(codec.model, tmp_path / "photos")
    assert chosen == sorted(names[:3])[:2]
    found = [picture(name, image.load(tmp_path / "photos" / name)) for name in chosen]
    report = equal.compare(codec, [folder("photos", found)])
    assert (report.size, report.limit, report.held_out) == (SIZE, 2, True)
    (result,) = report.folders
    assert (result.folder, result.images) == ("photos", 2)
    assert [curve.name for curve in result.curves] == ["tiny", "jpeg", "webp", "avif"]
    with pytest.raises(DataError, match="none of its"):
        equal.kept_out(codec.model, tmp_path / "photos" / "cat")


# --- Retrained heads ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_head", "one_torch_thread")
@pytest.mark.parametrize("labelled", [True, False])
def test_heads_are_retrained_on_what_a_coder_gives_back(
    tiny: Codec, cats: Folder, tmp_path: Path, labelled: bool
) -> None:
    from tactic_codec.evaluation.retrain import Retrainer

    # Four plain colours, each of its own class, as training sees them and slightly changed.
    def plain(shade: int) -> list[Picture]:
        squares = [np.full((SIZE, SIZE, 3), 60 * i + shade, np.uint8) for i in range(4)]
        names = ("cat", "cup", "flower", "person")
        return [picture(f"{n}/a.png", s) for n, s in zip(names, squares, strict=True)]

    test, training = folder("test", plain(20)), folder("training", plain(25))
    if not labelled:
        unknown = [p._replace(truth=None) for p in training.pictures]
        training = folder("training", unknown)
    cache = Cache(tmp_path)
    heads = Retrainer(CLASSIFY, tiny, {"test": training}, cache, steps=30)
    coder = Counting((2,))
    (result,) = evaluate(
        [test], [coder], Evaluation(tiny, Cache(tmp_path)), heads=heads, compare=False
    )
    (point,) = result.curves[0].points
    assert a_share(point.retrained, "accuracy")
    assert result.uncompressed.retrained is not None
    # 4 to measure, at most 4 to learn from, 4 to ask about.
    assert 8 < len(coder.coded) <= 12

    again = Counting((2,))
    later = Retrainer(CLASSIFY, tiny, {"test": training}, cache, steps=30)
    assert evaluate([test], [again], Evaluation(tiny, cache), heads=later, compare=False) == [
        result
    ]
    assert again.coded == []
    with pytest.raises(DataError, match="keep the two apart"):
        Retrainer(CLASSIFY, tiny, {"test": test}, cache, steps=1).scores(test, again, 2, [])


@pytest.mark.slow
@pytest.mark.usefixtures("one_torch_thread")
def test_a_last_layer_that_starts_anew_learns_in_a_few_steps(
    spoilt: Spoilt, tmp_path: Path
) -> None:
    """At the rate at which the published layers are tuned it would stay where it began."""
    from tactic_codec.evaluation.retrain import Retrainer

    spoilt.set("heads", "classify", "network", to="efficientnet_lite0")
    codec = load_model(spoilt.path, device="cpu", threads=1)
    classes = codec.model.head("classify").classes
    colours = np.random.default_rng(1).integers(0, 240, (len(classes), 3), np.uint8)

    def plain(shade: int) -> Folder:
        squares = [np.full((SIZE, SIZE, 3), colour, np.uint8) + shade for colour in colours]
        named = zip(classes, squares, strict=True)
        return folder("plain", [picture(f"{n}/a.png", s) for n, s in named])

    test, training = plain(10), plain(0)
    heads = Retrainer(CLASSIFY, codec, {"plain": training}, Cache(tmp_path), steps=10)
    (result,) = evaluate([test], [], Evaluation(codec, Cache(tmp_path)), heads=heads, compare=False)
    assert a_share(result.uncompressed.retrained, "accuracy").share == 1


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_head", "one_torch_thread")
def test_retraining_learns(tiny: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tactic_codec.evaluation.retrain import Retrainer

    random = np.random.default_rng(0)
    names = ("cat", "cup", "flower")
    shades = {"cat": 20, "cup": 120, "flower": 220}

    def some(count: int) -> Folder:
        squares = [
            picture(
                f"{name}/{count}{i}.png",
                np.clip(random.normal(shades[name], 15, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8),
            )
            for name in names
            for i in range(count)
        ]
        return folder("shades", squares)

    monkeypatch.setattr("tactic_codec.training.tasks.classify.LEARNING_RATE", 3e-2)
    training, test = some(6), some(3)
    heads = Retrainer(CLASSIFY, tiny, {"shades": training}, Cache(tmp_path), steps=150)
    (result,) = evaluate([test], [], Evaluation(tiny, Cache(tmp_path)), heads=heads, compare=False)
    before = a_share(result.uncompressed.scores, "accuracy")
    after = a_share(result.uncompressed.retrained, "accuracy")
    assert after.share > max(before.share, 0.6)


# --- Tables and plots -----------------------------------------------------------------------------


def made_up_report() -> Report:
    def a_point(setting: int, bpp: float, psnr: float, agreement: float) -> Point:
        known = Share(agreement, agreement - 0.05, min(agreement + 0.05, 1))
        known.drawn = lambda: agreement + np.array([0, 0.01, -0.01])
        scores = {"agreement": known, "accuracy": known}
        drawn = np.outer((bpp, psnr), (1, 1.1, 0.9))
        return Point(setting, 100, bpp * 50176 / 8, bpp, psnr, 0.9, scores, drawn=drawn)

    ours = Curve(
        "ours", "model", "s", tuple(a_point(i, 0.05 * i, 20 + i, 0.4 + 0.1 * i) for i in (1, 2, 3))
    )
    theirs = Curve(
        "webp",
        "codec",
        "method 6",
        tuple(a_point(i, 0.1 * i, 20 + i, 0.4 + 0.1 * i) for i in (1, 2, 3)),
    )

    result = FolderResult(
        "some | where/a",
        100,
        True,
        a_point(0, 24, 100, 1),
        (ours, theirs),
        tuple(comparisons((ours, theirs), (0.55, 0.65))),
    )
    itself = result.uncompressed
    unknown = {**itself.scores, "accuracy": None}
    return Report(
        CLASSIFY,
        224,
        ("ours", "01020304"),
        Witness("tiny of ours (01020304)", "tiny", ("cat", "cup"), (), {}),
        True,
        None,
        (0.55, 0.65),
        None,
        ("A note.",),
        (
            result,
            replace(
                result, folder="b", labelled=False, uncompressed=replace(itself, scores=unknown)
            ),
        ),
    )


def test_tables_hold_the_same_figures() -> None:
    report = made_up_report()
    facts = formats.as_json(report)
    json.dumps(facts, allow_nan=False)
    rates = facts["folders"][0]["bd_rates"]
    assert [r["bd_rate"] for r in rates] == [-0.5, -0.5]
    assert rates[0]["range"] == [0.55, 0.65]
    assert [(r["interval"], r["draws"]) for r in rates] == [([-0.5, -0.5], 2)] * 2

    rows = list(csv.DictReader(io.StringIO(formats.as_csv(report))))
    assert len(rows) == 2 * (1 + 3 + 3)
    assert rows[1]["coder"] == "ours"
    assert float(rows[1]["bpp"]) == 0.05
    assert (rows[1]["agreement"], rows[1]["agreement_low"]) == ("0.5", "0.45")

    text = formats.as_text(report, table)
    assert "-50.0 % (-50.0 to -50.0) over 55.0–65.0 %" in text
    assert "1000 draws of the pictures, the same for both coders" in text
    assert "50.0 % (45.0–55.0)" in text
    assert text.rstrip().endswith("A note.")
    markdown = formats.as_markdown(report)
    assert "## some | where/a: 100 pictures of 224 × 224" in markdown
    widths = {
        line.replace("\\|", "").count("|") for line in markdown.splitlines() if line[:1] == "|"
    }
    assert widths == {9, 8, 4}  # with top-1, without, and the comparison


@pytest.mark.slow
def test_plots_are_pictures_and_the_same_every_time() -> None:
    report = made_up_report()
    with Image.open(io.BytesIO(plot.draw(report, ["png"])["png"])) as drawn:
        assert drawn.format == "PNG"
        assert drawn.width > 1000
    drawing = plot.draw(report, ["svg"])["svg"]
    assert b"<svg" in drawing
    assert plot.draw(report, ["svg"])["svg"] == drawing


def test_plots_name_the_package_that_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BackendUnavailable, match="pip install matplotlib"):
        plot.draw(made_up_report())


# --- The command ----------------------------------------------------------------------------------

Tactic = Callable[..., Result]


@pytest.fixture
def tactic(evaluating: None) -> Tactic:
    """The command, in a folder with photographs in ``photos`` by class, and ``loose``."""
    for number, path in enumerate(PHOTOGRAPHS):
        for name in (f"photos/{('cat', 'cup')[number % 2]}/{path.name}", f"loose/{path.name}"):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, name)

    def call(*args: str | Path, code: int = 0) -> Result:
        options = ("--codec", "jpeg", "--qualities", "jpeg=10,40", "--size", str(SIZE))
        return run_tactic("eval", *args, *options, code=code)

    return call


@pytest.mark.slow
@pytest.mark.usefixtures("drawing")
def test_eval_writes_results_and_prints_tables(tactic: Tactic) -> None:
    folders = ("--data", "photos", "--data", "loose")
    result = tactic("-m", "tiny", *folders, "--out", "report")
    written = {path.name for path in Path("report").iterdir()}
    assert written == {
        *("cache", "curves.png", "curves.svg", "results.csv", "results.json", "results.md"),
    }
    facts = json.loads(Path("report/results.json").read_text())
    labelled, loose = facts["folders"]
    assert (labelled["labelled"], loose["labelled"]) == (True, False)
    assert labelled["images"] == loose["images"] == len(PHOTOGRAPHS)
    assert [curve["coder"] for curve in loose["curves"]] == ["tiny", "jpeg"]
    assert [point["setting"] for point in loose["curves"][1]["points"]] == [10, 40]
    assert [point["bytes"] for point in loose["curves"][0]["points"]] == [
        point["bytes"] for point in labelled["curves"][0]["points"]
    ]
    assert "photos: 4 pictures of 64 × 64" in result.stdout
    assert "BD-rate of tiny against" in result.stdout
    assert result.stderr == ""

    before = Path("report/results.json").read_bytes()
    as_json = tactic("-m", "tiny", *folders, "--out", "report", "--json", "-j", "2")
    assert json.loads(as_json.stdout) == facts
    assert Path("report/results.json").read_bytes() == before


def test_eval_takes_held_out_pictures(tactic: Tactic, spoilt: Spoilt) -> None:
    name = PHOTOGRAPHS[0].name
    spoilt.put("held-out.txt", f"cat/{name}\ncup/elsewhere.jpg\n".encode())
    options = ("-m", spoilt.path, "--held-out", "--out", "report", "--json")
    facts = json.loads(tactic("--data", "photos", *options).stdout)
    assert facts["held_out"]
    assert facts["folders"][0]["images"] == 1
    result = tactic("--data", "loose", *options, code=1)
    assert "loose: none of its 4 pictures" in result.stderr
    result = tactic("-m", "tiny", "--data", "photos", "--held-out", "--out", "r", code=1)
    assert "model tiny has no held-out.txt" in result.stderr


@pytest.mark.slow
def test_eval_retrains_heads_on_the_others(
    tactic: Tactic, spoilt: Spoilt, tiny_head: Any, one_torch_thread: None
) -> None:
    spoilt.put("held-out.txt", f"cat/{PHOTOGRAPHS[0].name}\n".encode())
    options = ("-m", spoilt.path, "--held-out", "--out", "report", "--retrain-head", "2")
    result = tactic("--data", "photos", *options)
    assert "agreement, retrained" in result.stdout
    assert "after 2 steps" in result.stdout
    facts = json.loads(Path("report/results.json").read_text())
    assert facts["retrained_steps"] == 2
    assert {rate["quality"] for rate in facts["folders"][0]["bd_rates"]} == {
        *("agreement", "psnr", "retrained agreement"),
    }
    # Other pictures, given by hand; those that are evaluated are refused.
    tactic("--data", "photos", *options, "--train-data", "loose", code=1)
    plain = ("-m", "tiny", "--data", "photos", "--out", "r", "--retrain-head", "2")
    assert "--train-data DIR" in tactic(*plain, code=2).stderr


def test_eval_goes_on_without_a_picture_that_cannot_be_read(tactic: Tactic) -> None:
    Path("loose/broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    result = tactic("-m", "tiny", "--data", "loose", "--out", "report", code=1)
    assert "loose/broken.jpg: " in result.stderr
    assert json.loads(Path("report/results.json").read_text())["folders"][0]["images"] == 4
    Path("empty").mkdir()
    result = tactic("-m", "tiny", "--data", "empty", "--out", "report", code=1)
    assert "empty: no picture is left to evaluate" in result.stderr


def test_eval_takes_some_of_the_pictures(tactic: Tactic) -> None:
    result = tactic("-m", "tiny", "--data", "photos", "--limit", "2", "--out", "r", "--json")
    assert json.loads(result.stdout)["folders"][0]["images"] == 2


def test_eval_leaves_other_folders_alone(tactic: Tactic) -> None:
    command = ("-m", "tiny", "--data", "photos", "--out", "loose")
    assert "holds other files" in tactic(*command, code=1).stderr
    assert "cache" not in {path.name for path in Path("loose").iterdir()}
    tactic(*command, "-f")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--codec", "gif"), "no codec is called 'gif'"),
        (("--qualities", "webp=1"), "there is no coder 'webp' here"),
        (("--qualities", "tiny=4"), "quality levels 1 to 3, not 4"),
        (("--qualities", "jpeg=x"), "not of the form avif=10,20,35"),
        (("--qualities", "jpeg=nan"), "not of the form avif=10,20,35"),
        (("--qualities", "jpeg="), "not of the form"),
        (("--range", "0.9:0.5"), "LOW < HIGH"),
        (("--range", "half"), "not of the form 0.5:0.85"),
        (("--effort", "4"), "4 is not in the range"),
    ],
)
def test_eval_refuses_wrong_options(
    tactic: Tactic, arguments: tuple[str, ...], complaint: str
) -> None:
    result = tactic("-m", "tiny", "--data", "photos", "--out", "report", *arguments, code=2)
    assert complaint in result.stderr
    assert not Path("report").exists()


def test_eval_leaves_out_codecs_without_their_plugin(
    tactic: Tactic, monkeypatch: pytest.MonkeyPatch
) -> None:
    for plugin in ("pillow_jxl", "pillow_heif", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, plugin, None)
    chosen = [
        f"--qualities={coder}={setting}"
        for coder, setting in {"jpeg": 20, "webp": 20, "avif": 20, "jpeg2000": 50}.items()
    ]
    options = ["--data", "loose", "--limit", "1", "--out", "r", "--size", str(SIZE), *chosen]
    result = CliRunner().invoke(main, ["eval", "-m", "tiny", *options])
    assert result.exit_code == 0, result.output
    for package in ("pillow-jxl-plugin", "pillow-heif"):
        assert f"left out: heic needs {package}" in result.stderr or package in result.stdout
    assert "curves.png: warning: not drawn" in result.stderr
    assert not Path("r/curves.png").exists()
    result = CliRunner().invoke(main, ["eval", "-m", "tiny", "--codec", "heic", *options[:6]])
    assert result.exit_code == 1
    assert "heic needs pillow-heif; run: pip install pillow-heif" in result.stderr


# --- Benchmarks -----------------------------------------------------------------------------------


@pytest.fixture
def photograph_folder(spoilt: Spoilt, tmp_path: Path) -> Path:
    """A folder of photographs in a class, of which the model's training kept the first two out."""
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    for path in PHOTOGRAPHS:
        shutil.copy(path, tmp_path / "photos" / "cat" / path.name)
    kept_out = [f"cat/{path.name}" for path in PHOTOGRAPHS[:2]]
    spoilt.put("held-out.txt", "\n".join([*kept_out, "cat/gone.jpg"]).encode())
    return tmp_path / "photos"


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")  # as where it is run
    return importlib.import_module(name)


def test_benchmarks_know_what_training_kept_out(
    spoilt: Spoilt, photograph_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = benchmark("kept_out", monkeypatch)
    names = sorted(f"cat/{path.name}" for path in PHOTOGRAPHS)
    assert shared.kept_out(spoilt.model, photograph_folder) == (names[:2], names[2:])
    assert [p.shape for p in shared.squares(photograph_folder, names, 3)] == [(224, 224, 3)] * 3
    with pytest.raises(SystemExit, match="kept out"):
        shared.kept_out(spoilt.model, photograph_folder / "cat")


@pytest.mark.parametrize("name", ["teacher", "objects"])
def test_benchmarks_say_that_a_folder_has_no_pictures(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {
        "teacher": ["net.onnx", tmp_path],
        "objects": [tmp_path, "--model", "general"],
    }
    monkeypatch.setattr(sys, "argv", [name, *map(str, words[name])])
    with pytest.raises(SystemExit, match=f"{tmp_path} has no pictures"):
        benchmark(name, monkeypatch).main()


def test_benchmarks_draw_again_what_training_kept_out_without_a_list(
    spoilt: Spoilt, photograph_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = benchmark("kept_out", monkeypatch)
    spoilt.set("files", "held-out.txt", to=...)
    config = {"data": {"test": 0.5, "calibration": 0.25}}
    spoilt.set("training", to={"seed": 7, "config": config})
    split = DataConfig(test=0.5, calibration=0.25)
    classes = spoilt.model.head("classify").classes
    (part,) = scan([photograph_folder], split, 7, classes=classes).parts
    test, seen = shared.kept_out(spoilt.model, photograph_folder)
    assert test == sorted(f"cat/{example.path.name}" for example in part.test)
    assert len(test) == 2
    assert sorted(test + seen) == sorted(f"cat/{path.name}" for path in PHOTOGRAPHS)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_head", "one_torch_thread")
def test_seconds_of_savings_are_of_coding_and_not_of_decoding(
    tiny: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    savings = benchmark("savings", monkeypatch)
    squares = [image.square(image.load(path), 224) for path in PHOTOGRAPHS[:2]]
    clock = 0.0

    def slow(seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            nonlocal clock
            clock += seconds
            return function(*args)

        return call

    monkeypatch.setattr(Codec, "analyse", slow(1, Codec.analyse))
    monkeypatch.setattr(Codec, "synthesise", slow(10, Codec.synthesise))
    monkeypatch.setattr(entropy, "decode", slow(100, entropy.decode))
    monkeypatch.setattr(savings.time, "perf_counter", lambda: clock)
    latents = [tiny.analyse(pixels) for pixels in squares]
    labels = [tiny.most_likely(pixels) for pixels in squares]
    for name, way in savings.ways(tiny, 2, latents).items():
        row = savings.measure(tiny, way, squares, labels)
        assert row["seconds"] == 1, name
        assert row["bytes"] > 18, name
        assert row["psnr"] > 10, name
