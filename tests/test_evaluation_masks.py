"""The evaluation of segmentation: confusions, mean IoU and its interval, heads trained alike."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from click.testing import Result
from conftest import PHOTOGRAPHS, TINY, Spoilt, evaluate, teach_to_segment
from conftest import tactic as run_tactic
from numpy.typing import NDArray
from PIL import Image
from segmenter import brightest_channel

from tactic_codec import metrics, runtime, tasks
from tactic_codec import picture as image
from tactic_codec.cli.console import table
from tactic_codec.codec import Codec, load_model
from tactic_codec.errors import DataError, UnsupportedImage
from tactic_codec.evaluation import coders, formats, pictures, plot
from tactic_codec.evaluation.cache import Cache
from tactic_codec.evaluation.coders import ModelCoder
from tactic_codec.evaluation.evaluate import Evaluation
from tactic_codec.evaluation.pictures import Folder, Picture
from tactic_codec.evaluation.results import Curve, FolderResult, Point, Report, comparisons
from tactic_codec.metrics import Confusion
from tactic_codec.tasks import CLASSIFY, SEGMENT, Scores, Share, Witness

Pixels = NDArray[np.uint8]
NAMES = ("red", "green", "blue")
RED, GREEN, BLUE = np.eye(3, dtype=np.uint8) * 255
VOID = 200


def teach(model: Spoilt, network: str = "brightest") -> Codec:
    """Give a copy of the tiny model a segmentation network: a pixel's class is its main colour."""
    teach_to_segment(model, labels=NAMES, network=network)
    return load_model(model.path, device="cpu", threads=1)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return teach(Spoilt(tmp_path_factory.mktemp("segmenter") / "model"))


def bench(codec: Codec, cache: Cache, **options: Any) -> Evaluation:
    return Evaluation(codec, cache, task=SEGMENT, **options)


def mask_picture(name: str, pixels: Pixels, labels: Pixels) -> Picture:
    return pictures.picture(SEGMENT, name, pixels, labels)


def mask_folder(name: str, found: list[Picture], labels: tuple[str, ...] = NAMES) -> Folder:
    return pictures.folder(SEGMENT, name, found, labels)


def scores_of(confusions: Sequence[Confusion]) -> Scores:
    facts = [{"confusion": counts.ravel().tolist()} for counts in confusions]
    return SEGMENT.scores(facts, facts, [None] * len(facts))


def mean_iou(scores: Scores | None) -> Share:
    assert scores is not None
    found = scores["mean_iou"]
    assert isinstance(found, Share)
    return found


def pixel_accuracy(scores: Scores | None) -> float:
    assert scores is not None
    found = scores["pixel_accuracy"]
    assert isinstance(found, float)
    return found


def two_halves() -> tuple[Pixels, Pixels]:
    """Red and green side by side, as the label map says, whose last 16 rows are void."""
    pixels = np.empty((64, 64, 3), np.uint8)
    pixels[:, :32], pixels[:, 32:] = RED, GREEN
    labels = np.zeros((64, 64), np.uint8)
    labels[:, 32:] = 1
    labels[48:] = VOID
    return pixels, labels


def all_blue() -> tuple[Pixels, Pixels]:
    return np.full((32, 64, 3), BLUE), np.full((32, 64), 2, np.uint8)


@pytest.fixture(scope="module")
def shapes() -> Folder:
    pictures = [
        mask_picture("images/b.png", *all_blue()),
        mask_picture("images/a.png", *two_halves()),
    ]
    return mask_folder("shapes", pictures, NAMES)


class Painting(coders.Coder):
    """A coder that gives pictures back as they are at setting 1, and all red at setting 2."""

    name = "painting"
    kind = "codec"
    settings = "for tests"
    open_ended = False

    def __init__(self, grid: tuple[int, ...] = (1, 2), fail_at: int | None = None) -> None:
        self.grid = grid
        self.coded: list[int | float] = []
        self.fail_at = fail_at

    def code(self, pixels: Pixels, setting: int | float) -> coders.Coded:
        if len(self.coded) == self.fail_at:
            raise UnsupportedImage("enough")
        self.coded.append(setting)
        painted = pixels if setting == 1 else np.full(pixels.shape, RED)
        return coders.Coded(int(100 * setting), painted)

    def identity(self, setting: int | float) -> dict[str, Any]:
        return {"coder": self.name, "setting": setting}


# --- Pictures -------------------------------------------------------------------------------------


def test_folders_with_label_maps_are_known_by_their_layout(tmp_path: Path) -> None:
    assert not SEGMENT.claims(tmp_path)
    (tmp_path / "images").mkdir()
    assert not SEGMENT.claims(tmp_path)
    (tmp_path / "labels").mkdir()
    assert SEGMENT.claims(tmp_path)


def test_a_folder_has_a_pixel_of_some_class(shapes: Folder) -> None:
    assert [p.name for p in shapes.pictures] == ["images/a.png", "images/b.png"]
    pixels, _ = two_halves()
    with pytest.raises(DataError, match=r"no label map has a value below 3.*red, green, blue"):
        mask_folder("f", [mask_picture("a", pixels, np.full((64, 64), 3, np.uint8))], NAMES)
    with pytest.raises(DataError, match="no picture is left"):
        mask_folder("f", [], NAMES)


def test_label_maps_have_the_size_of_their_pictures(tmp_path: Path) -> None:
    pixels, labels = two_halves()
    (tmp_path / "labels").mkdir()
    Image.fromarray(labels[1:]).save(tmp_path / "labels" / "a.png")
    read = SEGMENT.reader(tmp_path, NAMES)
    with pytest.raises(DataError, match="64 x 64 pixels, its label map 64 x 63"):
        read("images/a.jpg", pixels)
    found = read("images/a.jpg", pixels[1:])
    assert found is not None and np.array_equal(found, labels[1:])


def test_the_hash_of_a_picture_covers_its_label_map() -> None:
    pixels, labels = two_halves()
    one, other = mask_picture("a", pixels, labels), mask_picture("b", pixels, 1 - labels % 2)
    assert one.content == other.content
    assert one.hash != other.hash
    assert one.hash == mask_picture("c", pixels, labels).hash


# --- Measure --------------------------------------------------------------------------------------


def test_points_by_hand(segmenter: Codec, shapes: Folder, tmp_path: Path) -> None:
    coder = Painting()
    (result,) = evaluate([shapes], [coder], bench(segmenter, Cache(tmp_path)), compare=False)
    assert (result.folder, result.images, result.labelled) == ("shapes", 2, True)
    itself, (same, red) = result.uncompressed, result.curves[0].points
    assert (itself.bpp, itself.psnr, itself.scores["agreement"]) == (24, 100, 1)
    for point in (itself, same):
        assert point.scores["iou"] == (1, 1, 1)
        assert point.scores["mean_iou"] == (1, 1, 1)
        assert point.scores["pixel_accuracy"] == 1
    assert same.bytes == 100
    assert same.bpp == pytest.approx((800 / 4096 + 800 / 2048) / 2)

    # Red has its 48 × 32 pixels of all that are not void; the others are missed whole.
    assert red.scores["iou"] == (0.3, 0, 0)
    assert red.scores["pixel_accuracy"] == pytest.approx(0.3)
    assert mean_iou(red.scores).share == pytest.approx(0.1)
    # Of the first picture half, void or not, of the second nothing.
    assert red.scores["agreement"] == pytest.approx(2048 / (4096 + 2048))
    assert red.shares() == {"mean_iou": red.scores["mean_iou"]}
    pixels = [p.pixels for p in shapes.pictures]
    painted = [np.full(p.shape, RED) for p in pixels]
    assert red.psnr == pytest.approx(np.mean(list(map(metrics.psnr, pixels, painted))))
    assert red.ms_ssim == pytest.approx(np.mean(list(map(metrics.ms_ssim, pixels, painted))))


def test_a_class_that_nobody_knows_does_not_count(segmenter: Codec, tmp_path: Path) -> None:
    folder = mask_folder("f", [mask_picture("a", *two_halves())], NAMES)
    (result,) = evaluate([folder], [Painting()], bench(segmenter, Cache(tmp_path)), compare=False)
    red = result.curves[0].points[1]
    assert red.scores["iou"] == (0.5, 0, None)
    # One picture is all that can be drawn.
    assert red.scores["mean_iou"] == (0.25, 0.25, 0.25)


def test_models_are_measured_by_their_frames(segmenter: Codec, tmp_path: Path) -> None:
    pixels = image.load(PHOTOGRAPHS[0])[:64, :56]
    labels = tasks.segment_pixels(segmenter, pixels).labels
    labels[:5] = VOID
    folder = mask_folder("f", [mask_picture("a", pixels, labels)], NAMES)
    coder = ModelCoder(segmenter)
    (result,) = evaluate([folder], [coder], bench(segmenter, Cache(tmp_path)), compare=False)
    assert result.uncompressed.scores["pixel_accuracy"] == 1
    for point in result.curves[0].points:
        data = segmenter.compress(pixels, int(point.setting)).data
        after = tasks.segment_pixels(segmenter, np.asarray(segmenter.decompress(data))).labels
        before = tasks.segment_pixels(segmenter, pixels).labels
        assert point.bpp == 8 * len(data) / (64 * 56)
        assert point.scores["agreement"] == pytest.approx((after == before).mean())
        expected = scores_of([metrics.confusion(labels, after, 3)])
        assert {name: point.scores[name] for name in expected} == expected


# --- Intervals ------------------------------------------------------------------------------------


def test_intervals_are_of_draws_of_the_pictures() -> None:
    random = np.random.default_rng(3)
    confusions = list(random.integers(0, 50, (12, 4, 4)))
    confusions[0][:] = 0  # a picture of void
    confusions[1][3, :] = confusions[1][:, 3] = 0
    found = scores_of(confusions)
    assert mean_iou(found).low < mean_iou(found).share < mean_iou(found).high
    assert scores_of(confusions) == found

    means = []
    for _ in range(1000):
        drawn = sum(confusions[i] for i in random.integers(12, size=12))
        means.append(metrics.segmentation_scores(drawn).mean_iou)
    # Other draws from the same pictures.
    assert mean_iou(found)[1:] == pytest.approx(np.percentile(means, (2.5, 97.5)), abs=0.01)


def test_more_pictures_make_intervals_narrower() -> None:
    right, wrong = np.diag([10, 10]), np.array([[0, 10], [10, 0]])
    few, many = scores_of([right, wrong] * 5), scores_of([right, wrong] * 50)
    assert mean_iou(few).share == mean_iou(many).share == pytest.approx(1 / 3)
    assert mean_iou(many).high - mean_iou(many).low < (mean_iou(few).high - mean_iou(few).low) / 2
    assert mean_iou(scores_of([right] * 5)) == (1, 1, 1)


def test_draws_of_void_alone_say_nothing() -> None:
    seen, void = np.diag([3, 3]), np.zeros((2, 2), np.int64)
    assert mean_iou(scores_of([seen, void, void])) == (1, 1, 1)
    with pytest.raises(ValueError, match="void"):
        scores_of([void])


# --- Cache ----------------------------------------------------------------------------------------


def test_an_interrupted_evaluation_goes_on(
    segmenter: Codec, shapes: Folder, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedImage):
        evaluate([shapes], [Painting(fail_at=3)], bench(segmenter, Cache(tmp_path)), compare=False)
    second = Painting()
    done = []
    results = evaluate(
        [shapes], [second], bench(segmenter, Cache(tmp_path), advance=done.append), compare=False
    )
    assert second.coded == [2]
    assert sum(done) == Evaluation(segmenter, Cache(None)).work_of([shapes], [second])
    third = Painting()
    again = evaluate([shapes], [third], bench(segmenter, Cache(tmp_path), jobs=2), compare=False)
    assert again == results
    assert third.coded == []
    fresh = Painting()
    cache = Cache(tmp_path / "fresh")
    assert evaluate([shapes], [fresh], bench(segmenter, cache, jobs=2), compare=False) == results
    assert sorted(fresh.coded) == [1, 1, 2, 2]

    pixels, labels = two_halves()
    other = mask_folder(
        "shapes", [mask_picture("a", pixels, labels // 2), shapes.pictures[1]], NAMES
    )
    changed = Painting()
    evaluate([other], [changed], bench(segmenter, Cache(tmp_path)), compare=False)
    assert changed.coded == [1, 2]


def test_classes_and_label_maps_do_not_share_shelves(segmenter: Codec) -> None:
    classify, segment = (coders.answers_identity(t, segmenter, "cpu") for t in (CLASSIFY, SEGMENT))
    assert classify["head"] != segment["head"]


def test_answers_in_8_bits_are_not_taken_for_others(
    spoilt: Spoilt, shapes: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one folder serves --device auto first, and then --device cpu."""
    monkeypatch.setattr(runtime, "multiplies_eight_bits", lambda: True)
    colours = np.eye(3, dtype=np.float32)
    swapped = brightest_channel().replace(colours.tobytes(), colours[::-1].tobytes())
    spoilt.put("segment.8bit.onnx", swapped)
    exact = teach(spoilt)

    def evaluated(codec: Codec, folder: str) -> list[FolderResult]:
        how = bench(codec, Cache(tmp_path / folder), device=codec.runtime.device)
        return evaluate([shapes], [Painting()], how, compare=False)

    quick = evaluated(load_model(spoilt.path, device="auto", threads=1), "both")
    assert quick != evaluated(exact, "alone")
    assert evaluated(exact, "both") == evaluated(exact, "alone")


# --- Trained heads --------------------------------------------------------------------------------


@pytest.fixture
def small_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training that takes no time: crops of 32, and no warming up."""
    from tactic_codec.evaluation import retrain
    from tactic_codec.training.tasks import segment

    monkeypatch.setattr(segment, "CROP", 32)
    monkeypatch.setattr(segment, "BATCH", 4)
    monkeypatch.setattr(retrain, "WARMUP", 1)
    monkeypatch.setattr(segment, "LEARNING_RATE", 0.3)


@pytest.fixture
def trainable(spoilt: Spoilt, monkeypatch: pytest.MonkeyPatch) -> Codec:
    """A model whose segmentation network torch knows, and which says red whatever it sees."""
    from torch import nn

    from tactic_codec.networks import heads

    def build(classes: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, classes, 1), nn.AvgPool2d(4))

    monkeypatch.setitem(heads.KINDS, "brightest", heads.HeadKind(build, None, "segment"))
    weights = safetensors.numpy.load((TINY / "weights.safetensors").read_bytes())
    weights["segment.0.weight"] = np.zeros((3, 3, 1, 1), np.float32)
    weights["segment.0.bias"] = np.zeros(3, np.float32)
    spoilt.put("weights.safetensors", safetensors.numpy.save(weights))
    return teach(spoilt)


def darker(shapes: Folder) -> Folder:
    """Like the other pictures, and not the same."""
    pictures = [mask_picture(p.name, p.pixels // 2, p.truth) for p in shapes.pictures]
    return mask_folder("darker", pictures, NAMES)


@pytest.mark.usefixtures("small_crops", "one_torch_thread")
def test_heads_are_trained_on_what_a_coder_gives_back(
    trainable: Codec, shapes: Folder, tmp_path: Path
) -> None:
    from tactic_codec.evaluation.retrain import Retrainer

    training = {"shapes": darker(shapes)}
    cache = Cache(tmp_path)
    coder = Painting()
    done: list[int] = []
    heads = Retrainer(SEGMENT, trainable, training, cache, steps=40)
    (result,) = evaluate(
        [shapes],
        [coder],
        bench(trainable, cache, advance=done.append),
        heads=heads,
        compare=False,
    )
    assert sum(done) == Evaluation(trainable, Cache(None), heads=heads).work_of([shapes], [coder])
    itself, (same, red) = result.uncompressed.retrained, result.curves[0].points
    assert itself is not None
    assert pixel_accuracy(itself) > 0.9
    assert same.retrained == itself  # the same pictures, and the same budget
    assert red.retrained is not None
    assert pixel_accuracy(red.retrained) <= 0.4  # where all is red, one answer is all there is
    assert list(red.shares()) == ["mean_iou", "retrained_mean_iou"]

    again = Painting()
    later = Retrainer(SEGMENT, trainable, training, cache, steps=40)
    assert evaluate([shapes], [again], bench(trainable, cache), heads=later, compare=False) == [
        result
    ]
    assert again.coded == []
    with pytest.raises(DataError, match="keep the two apart"):
        Retrainer(SEGMENT, trainable, {"shapes": shapes}, cache, steps=1).scores(
            shapes, again, 2, []
        )


@pytest.mark.usefixtures("small_crops", "one_torch_thread")
def test_every_row_sees_the_same_crops(
    trainable: Codec, shapes: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tactic_codec.evaluation.retrain import Retrainer
    from tactic_codec.training.tasks import segment

    drawn: list[Any] = []
    draw = segment.draw_crops

    def noted(*args: Any) -> Any:
        drawn.append(draw(*args))
        return drawn[-1]

    monkeypatch.setattr(segment, "draw_crops", noted)
    training = {"shapes": darker(shapes)}
    heads = Retrainer(SEGMENT, trainable, training, Cache(tmp_path), steps=3)
    for setting in (1, 2):
        heads.scores(shapes, Painting(), setting, [])
    assert len(drawn) == 6
    assert drawn[:3] == drawn[3:]
    assert drawn[0] != drawn[1]


def test_crops_show_things_at_the_size_that_the_network_knows() -> None:
    from tactic_codec.training.tasks import segment

    def drawn(height: int, width: int, input_size: int) -> list[Any]:
        blank = np.zeros((height, width), np.uint8)
        random = np.random.default_rng(1)
        return [c for _ in range(10) for c in segment.draw_crops(random, [blank], input_size)]

    for height, width, input_size, side in [
        (360, 480, 480, 256),
        (720, 960, 480, 512),
        (360, 480, 960, 128),
        (100, 480, 480, 100),
    ]:
        crops = drawn(height, width, input_size)
        assert {(c.box[2] - c.box[0], c.box[3] - c.box[1]) for c in crops} == {(side, side)}
        assert all(c.box[0] >= 0 and c.box[1] >= 0 for c in crops)
        assert all(c.box[2] <= width and c.box[3] <= height for c in crops)
        assert {c.flip for c in crops} == {True, False}


def test_pictures_and_label_maps_are_cut_alike() -> None:
    from tactic_codec.training.tasks.segment import Crop, cut

    labels = np.random.default_rng(1).integers(0, 200, (300, 400)).astype(np.uint8)
    picture = np.stack([labels] * 3, axis=-1)
    for flip in (False, True):
        crop = Crop(0, (7, 11, 7 + 256, 11 + 256), flip)
        pixels = cut(image.to_pillow(picture), crop, Image.Resampling.BICUBIC)
        found = cut(Image.fromarray(labels), crop, Image.Resampling.NEAREST)
        expected = labels[11 : 11 + 256, 7 : 7 + 256]
        assert np.array_equal(found, expected[:, ::-1] if flip else expected)
        assert np.array_equal(pixels[..., 0], found)


def test_the_usual_network_starts_from_imagenet(
    spoilt: Spoilt, shapes: Folder, tmp_path: Path
) -> None:
    import torch

    from tactic_codec.evaluation.retrain import Retrainer
    from tactic_codec.networks.efficientnet_lite import published_weights

    codec = teach(spoilt, "efficientnet_lite0_pyramid")
    heads = Retrainer(SEGMENT, codec, {"shapes": shapes}, Cache(tmp_path), steps=1)
    first, second = (heads.start().state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(first["stem.weight"], published_weights()["stem.weight"])
    assert first["classifier.weight"].shape[0] == len(NAMES)


# --- Tables and plots -----------------------------------------------------------------------------


def made_up_report(retrained: bool = False) -> Report:
    def scores(share: float) -> dict[str, Any]:
        interval = Share(share, share - 0.02, share + 0.02)
        interval.drawn = lambda: share + np.array([0, 0.01, -0.01])
        return {"mean_iou": interval, "pixel_accuracy": share + 0.2, "iou": (share, None)}

    def a_point(setting: int, bpp: float, psnr: float, share: float) -> Point:
        known = {**scores(share), "agreement": 0.8}
        trained = scores(share + 0.05) if retrained else None
        drawn = np.outer((bpp, psnr), (1, 1.1, 0.9))
        return Point(setting, 9, bpp * 21600, bpp, psnr, 0.9, known, trained, drawn=drawn)

    def a_curve(name: str, kind: str, step: float) -> Curve:
        points = tuple(a_point(i, step * i, 20 + i, 0.4 + 0.1 * i) for i in (1, 2, 3))
        return Curve(name, kind, "s", points)

    curves = a_curve("ours", "model", 0.05), a_curve("webp", "codec", 0.1)
    result = FolderResult(
        *("some | where/val", 9, True, a_point(0, 24, 100, 0.75), curves),
        tuple(comparisons(curves, (0.55, 0.65))),
    )
    reference = ("ours", "01020304")
    steps = 30 if retrained else None
    witness = Witness("tiny of ours (01020304)", "tiny", ("road", "sky, grey"), (), {})
    return Report(
        *(SEGMENT, None, reference, witness, False, None, (0.55, 0.65)),
        *(steps, ("A note.",), (result,)),
    )


def test_tables_hold_the_same_figures() -> None:
    report = made_up_report()
    facts = formats.as_json(report)
    json.dumps(facts, allow_nan=False)
    assert facts["size"] is None
    assert facts["mean_iou_range"] == [0.55, 0.65]
    assert "agreement_range" not in facts
    (found,) = facts["folders"]
    assert found["classes"] == ["road", "sky, grey"]
    assert found["curves"][0]["points"][0]["iou"] == [0.5, None]
    rates = {rate["quality"]: rate for rate in found["bd_rates"]}
    assert list(rates) == ["mean IoU", "psnr"]
    assert rates["mean IoU"]["bd_rate"] == rates["psnr"]["bd_rate"] == -0.5
    assert rates["mean IoU"]["range"] == [0.55, 0.65]

    rows = list(csv.DictReader(io.StringIO(formats.as_csv(report))))
    assert [row["coder"] for row in rows] == ["uncompressed", *["ours"] * 3, *["webp"] * 3]
    assert (rows[1]["mean_iou"], rows[1]["mean_iou_low"]) == ("0.5", "0.48")
    assert (rows[1]["iou_0_road"], rows[1]["iou_1_sky, grey"]) == ("0.5", "")
    assert (rows[1]["pixel_accuracy"], rows[1]["agreement"]) == ("0.7", "0.8")

    text = formats.as_text(report, table)
    assert "some | where/val: 9 whole pictures" in text
    assert "50.0 % (48.0–52.0)" in text
    assert "-50.0 % (-50.0 to -50.0) over 55.0–65.0 %" in text
    assert "by the tiny of ours (01020304)" in text
    assert "retrained" not in text
    header = formats.point_table(report, report.folders[0])[0]
    assert header[6:] == ["mean IoU", "pixel accuracy", "agreement"]
    assert formats.class_table(report, report.folders[0])[1][2:] == ["75.0", "-"]
    lines = formats.as_markdown(report).splitlines()
    assert {line.replace("\\|", "").count("|") for line in lines if line[:1] == "|"} == {10, 5, 4}


def test_classes_of_one_name_have_columns_of_their_own() -> None:
    report = made_up_report()
    alike = replace(report, witness=report.witness._replace(labels=("road", "road")))
    rows = list(csv.DictReader(io.StringIO(formats.as_csv(alike))))
    assert (rows[1]["iou_0_road"], rows[1]["iou_1_road"]) == ("0.5", "")


def test_tables_have_columns_for_retrained_heads() -> None:
    report = made_up_report(retrained=True)
    header, _, row, *_ = formats.point_table(report, report.folders[0])
    assert header[-2:] == ["mean IoU, retrained", "pixel accuracy, retrained"]
    assert row[-2:] == ["55.0 % (53.0–57.0)", "75.0 %"]
    (line, *_) = csv.DictReader(io.StringIO(formats.as_csv(report)))
    assert float(line["retrained_mean_iou"]) == 0.8
    assert float(line["retrained_iou_0_road"]) == 0.8
    qualities = {c.quality for c in report.folders[0].comparisons}
    assert qualities == {"mean_iou", "psnr", "retrained_mean_iou"}
    assert "at equal retrained mean IoU" in formats.as_text(report, table)
    assert "after 30 steps" in formats.as_text(report, table)


@pytest.mark.slow
def test_plots_are_pictures_and_the_same_every_time() -> None:
    report = made_up_report(retrained=True)
    with Image.open(io.BytesIO(plot.draw(report, ["png"])["png"])) as drawn:
        assert drawn.format == "PNG"
        assert drawn.height > drawn.width  # three panels
    drawing = plot.draw(report, ["svg"])["svg"]
    assert b"uncompressed" in drawing
    assert plot.draw(report, ["svg"])["svg"] == drawing
    plain = replace(report.folders[0].uncompressed, retrained=None)
    assert list(plain.shares()) == ["mean_iou"]


# --- The command ----------------------------------------------------------------------------------

Tactic = Callable[..., Result]


@pytest.fixture
def tactic(evaluating: None) -> Tactic:
    """The command, in a folder with label maps in ``val`` and ``train``, and photographs."""
    for folder, shade in (("val", 1), ("train", 2)):
        for name, (pixels, labels) in {"a": two_halves(), "b": all_blue()}.items():
            for kind, array in (("images", pixels // shade), ("labels", labels)):
                path = Path(folder, kind, f"{name}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    for path in PHOTOGRAPHS:
        Path("photos").mkdir(exist_ok=True)
        Path("photos", path.name).write_bytes(path.read_bytes())

    def call(*args: str | Path, code: int = 0) -> Result:
        options = ("--codec", "jpeg", "--qualities", "jpeg=10,40")
        return run_tactic("eval", *args, *options, code=code)

    return call


@pytest.fixture
def model(spoilt: Spoilt) -> Path:
    """The folder of a model that classifies and segments."""
    teach(spoilt)
    return spoilt.path


@pytest.mark.slow
@pytest.mark.usefixtures("drawing")
def test_eval_segments_folders_with_label_maps(tactic: Tactic, model: Path) -> None:
    result = tactic("-m", model, "--data", "val", "--out", "report", "--html", "page.html")
    page = Path("page.html").read_text()
    assert page.count("<article") > 1 and "mean IoU, %" in page and "mean_iou: " in page
    written = {path.name for path in Path("report").iterdir()}
    assert written == {
        *("cache", "curves.png", "curves.svg", "results.csv", "results.json", "results.md"),
    }
    facts = json.loads(Path("report/results.json").read_text())
    assert facts["reference"]["network"] == "brightest"
    (found,) = facts["folders"]
    assert found["images"] == 2
    assert found["uncompressed"]["mean_iou"] == {"share": 1, "low": 1, "high": 1}
    assert [curve["coder"] for curve in found["curves"]] == ["tiny", "jpeg"]
    assert {rate["quality"] for rate in found["bd_rates"]} == {"mean IoU", "psnr"}
    assert "val: 2 whole pictures" in result.stdout
    assert "BD-rate of tiny against" in result.stdout
    assert result.stderr == ""

    before = Path("report/results.json").read_bytes()
    as_json = tactic("-m", model, "--data", "val", "--out", "report", "--json", "-j", "2")
    assert json.loads(as_json.stdout) == facts
    assert Path("report/results.json").read_bytes() == before


@pytest.mark.slow
def test_eval_without_label_maps_is_as_before(tactic: Tactic, model: Path) -> None:
    facts = json.loads(tactic("-m", model, "--data", "photos", "--out", "r", "--json").stdout)
    assert facts["agreement_range"] == [0, 1]
    # A model that cannot segment would take label maps for photographs.
    result = tactic("-m", "tiny", "--data", "val", "--out", "q", code=2)
    assert "val holds label maps, and model tiny does not segment" in result.stderr
    facts = json.loads(tactic("-m", "tiny", "--data", "val/images", "--out", "q", "--json").stdout)
    assert facts["folders"][0]["images"] == 2


@pytest.mark.parametrize("folders", [("val", "photos"), ("photos", "val")])
def test_eval_is_of_one_kind(tactic: Tactic, model: Path, folders: tuple[str, str]) -> None:
    data = [f"--data={folder}" for folder in folders]
    result = tactic("-m", model, *data, "--out", "r", code=2)
    assert "photos does not hold images/ and labels/" in result.stderr
    assert "by two commands" in result.stderr
    options = (f"--data={folders[0]}", f"--train-data={folders[1]}", "--retrain-head=2")
    assert "by two commands" in tactic("-m", model, *options, "--out", "r", code=2).stderr
    assert not Path("r").exists()


def test_eval_of_a_model_that_only_segments_needs_label_maps(
    tactic: Tactic, model: Path, spoilt: Spoilt
) -> None:
    spoilt.set("heads", "classify", to=...)
    result = tactic("-m", model, "--data", "photos", "--out", "r", code=2)
    assert "tiny has no classifier for pictures without label maps" in result.stderr
    tactic("-m", model, "--data", "val", "--out", "r")


def test_eval_takes_held_out_pictures(tactic: Tactic, model: Path, spoilt: Spoilt) -> None:
    spoilt.put("held-out.txt", b"images/a.png\n")
    options = ("-m", model, "--data", "val", "--held-out", "--out", "r", "--json")
    assert json.loads(tactic(*options).stdout)["folders"][0]["images"] == 1


def test_eval_goes_on_without_a_label_map(tactic: Tactic, model: Path) -> None:
    Path("val/labels/a.png").unlink()
    result = tactic("-m", model, "--data", "val", "--out", "r", code=1)
    assert "val/images/a.png: " in result.stderr
    (found,) = json.loads(Path("r/results.json").read_text())["folders"]
    assert found["images"] == 1
    assert found["uncompressed"]["iou"] == [None, None, 1]
    Image.fromarray(np.zeros((3, 3), np.uint8)).save("val/labels/a.png")
    result = tactic("-m", model, "--data", "val", "--out", "r", code=1)
    assert "its label map 3 x 3" in result.stderr


def test_eval_expects_label_maps_of_pictures_as_they_are_shown(tactic: Tactic, model: Path) -> None:
    on_its_side = Image.Exif()
    on_its_side[0x0112] = 6
    with Image.open("val/images/b.png") as picture:  # 64 × 32
        stored = picture.transpose(Image.Transpose.ROTATE_90)
    stored.save("val/images/b.png", exif=on_its_side)
    options = ("-m", model, "--data", "val", "--out", "r", "--json")
    assert json.loads(tactic(*options).stdout)["folders"][0]["images"] == 2
    Image.fromarray(np.full((64, 32), 2, np.uint8)).save("val/labels/b.png")
    result = tactic(*options, code=1)
    assert "the upright picture has 64 x 32 pixels, its label map 32 x 64" in result.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("small_crops", "one_torch_thread")
def test_eval_trains_heads_for_label_maps(tactic: Tactic, trainable: Codec) -> None:
    options = ("-m", trainable.model.path, "--data", "val", "--out", "r", "--retrain-head", "2")
    result = tactic(*options, "--train-data", "train")
    assert "mean IoU, retrained" in result.stdout
    (found,) = json.loads(Path("r/results.json").read_text())["folders"]
    assert "retrained mean IoU" in {rate["quality"] for rate in found["bd_rates"]}
    assert "keep the two apart" in tactic(*options, "--train-data", "val", code=1).stderr
