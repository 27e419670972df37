"""Objects in pictures: the bundled detector, its boxes, the command, and files that mark boxes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from conftest import ROOT, Spoilt, teach_to_detect
from detector import DETECT_LABELS, PLACES
from PIL import Image

import tactic_codec
from tactic_codec import boxes, metrics
from tactic_codec import picture as image
from tactic_codec.boxes import Box, meant, shared
from tactic_codec.cli import main
from tactic_codec.codec import Codec, load_model
from tactic_codec.errors import DamagedModel, DataError, UnknownTask
from tactic_codec.picture.drawing import Outline, draw_outlines
from tactic_codec.rivals import rival
from tactic_codec.tasks import DETECT, Detection, Detections, detect, detect_pixels
from tactic_codec.tasks.annotations import Thing, found_in
from tactic_codec.tasks.precision import mean_precisions

RED, GREEN, BLUE = range(3)
ROCKET = ROOT / "examples" / "rocket.jpg"
COFFEE = ROOT / "examples" / "coffee.jpg"


# --- Boxes ----------------------------------------------------------------------------------------


def said(*rows: Sequence[float]) -> npt.NDArray[np.float32]:
    """What a network of two classes says: left, top, right, bottom, and two scores a row."""
    return np.array(rows, np.float32).reshape(-1, 6)


def test_boxes_are_in_the_picture_and_the_most_certain_comes_first() -> None:
    found = meant(said((-10, 2, 8, 9, 0.3, 0), (4, 4, 50, 60, 0, 0.9)), (2, 3), (80, 90))
    assert [box.kind for box in found] == [1, 0]
    assert found[0][2:] == (8, 12, 80, 90)
    assert found[1][2:] == (0, 6, 16, 27)
    assert found[1].score == pytest.approx(0.3)


def test_of_boxes_of_one_class_that_overlap_the_most_certain_stays() -> None:
    near = said((0, 0, 10, 10, 0.5, 0), (1, 0, 11, 10, 0.8, 0), (1, 0, 11, 10, 0, 0.6))
    assert [(b.kind, b.left) for b in meant(near, (1, 1), (20, 20))] == [(0, 1), (1, 1)]
    apart = said((0, 0, 10, 10, 0.5, 0), (5, 0, 15, 10, 0.8, 0))  # 50 of 150
    assert len(meant(apart, (1, 1), (20, 20))) == 2


def test_boxes_without_area_or_certainty_are_none() -> None:
    assert meant(said((30, 0, 40, 10, 1, 0), (5, 5, 5, 9, 1, 0)), (1, 1), (20, 20)) == []
    assert meant(said((0, 0, 10, 10, 0.04, 0)), (1, 1), (20, 20)) == []
    assert meant(said(), (1, 1), (20, 20)) == []


def test_boxes_are_no_more_than_a_hundred() -> None:
    grid = [(10 * i, 0, 10 * i + 9, 9, 0.5, 0.6) for i in range(2000)]
    assert len(meant(said(*grid), (1, 1), (10**6, 10))) == boxes.MOST


def test_shared_boxes_are_counted_once() -> None:
    a = Box(0, 0.9, 0, 0, 10, 10)
    assert shared([a], [a, a]) == (1, 2, 1)
    assert shared([a], [a._replace(kind=1)]).same == 0
    assert shared([a], [a._replace(left=5)]).same == 1  # 50 of 100
    assert shared([a], [a._replace(left=5.1)]).same == 0
    assert shared([], []).f1 == 1 and shared([a], []).f1 == 0 and shared([a], [a, a]).f1 == 2 / 3


# --- A picture ------------------------------------------------------------------------------------


@pytest.fixture
def detecting(spoilt: Spoilt) -> Codec:
    teach_to_detect(spoilt)
    return load_model(spoilt.path, device="cpu", threads=1)


def plain(height: int, width: int, colour: image.Colour = (255, 128, 10)) -> image.Pixels:
    return np.full((height, width, 3), colour, np.uint8)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 64), (120, 200), (300, 90), (1, 1)])
def test_boxes_are_mapped_to_the_picture(detecting: Codec, height: int, width: int) -> None:
    found = detect_pixels(detecting, plain(height, width))
    assert (found.width, found.height) == (width, height)
    assert [one.label for one in found] == DETECT_LABELS[:2]
    assert [round(one.score, 2) for one in found] == [1, 0.5]
    rows, columns = image.scaled_size(height, width, 64)
    across, down = width / columns, height / rows
    for one, place in zip(found, PLACES, strict=False):
        left, top, right, bottom = place
        expected = (left * across, top * down, right * across, bottom * down)
        limits = (width, height, width, height)
        assert one.box == pytest.approx(np.minimum(expected, limits))


def test_a_least_score_is_asked_for(detecting: Codec) -> None:
    data = detecting.compress(plain(40, 60)).data
    every = detect(data, 0, codec=detecting)
    scores = [one.score for one in every]
    assert scores == sorted(scores, reverse=True)
    assert [len(detect(data, least, codec=detecting)) for least in (1, 0.3)] == [
        sum(score >= least for score in scores) for least in (1, 0.3)
    ]
    for least in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="min_score must be 0 to 1"):
            detect(data, least, codec=detecting)
    for wrong in (True, "0.5"):
        with pytest.raises(TypeError, match="min_score must be a number"):
            detect(data, wrong, codec=detecting)  # type: ignore[arg-type]


def test_another_size_of_the_picture_is_a_matter_of_scale() -> None:
    found = Detections(20, 10, (Detection("cat", 3, 0.7, (2, 4, 10, 8)),))
    assert found.at(40, 30) == Detections(40, 30, (Detection("cat", 3, 0.7, (4, 12, 20, 24)),))
    assert found.at(20, 10) is found
    with pytest.raises(ValueError, match="width must be at least 1"):
        found.at(0, -4)


def test_boxes_are_drawn_into_pictures_only() -> None:
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3))):
        with pytest.raises(ValueError, match=r"pixels must be uint8 \[height, width, 3\]"):
            Detections(4, 4, ()).overlay(wrong)  # type: ignore[arg-type]


def test_boxes_of_a_scaled_frame_are_in_the_picture_s_coordinates(detecting: Codec) -> None:
    coded = detecting.compress(plain(80, 128), 3, scale=0.5)
    found = detect(coded, 0, codec=detecting)
    assert (found.width, found.height) == (128, 80)
    assert found[0].box == pytest.approx((16, 8, 80, 48))


def test_models_without_or_with_a_damaged_detector_say_so(spoilt: Spoilt, tiny: Codec) -> None:
    with pytest.raises(UnknownTask, match="tiny cannot detect; it has: classify"):
        detect(tiny.compress(plain(8, 8)), codec=tiny)
    teach_to_detect(spoilt)
    spoilt.set("heads", "detect", "labels", to=["red", "green"])
    with pytest.raises(DamagedModel, match="expected a label and a class"):
        _ = spoilt.model
    spoilt.set("heads", "detect", "classes", to=["red", "green"])
    with pytest.raises(DamagedModel, match="names 2 kinds of objects"):
        detect_pixels(load_model(spoilt.path, threads=1), plain(8, 8))


def test_a_detector_that_says_nothing_finite_is_damage(detecting: Codec) -> None:
    class Infinite:
        def run(self, network: str, array: Any) -> Any:
            return np.full((1, 3, 7), np.nan, np.float32)

    with pytest.raises(DamagedModel, match="returns infinities"):
        detect_pixels(Codec(detecting.model, Infinite()), plain(8, 8))  # type: ignore[arg-type]


def test_titles_do_not_cover_each_other() -> None:
    black = np.zeros((200, 300, 3), np.uint8)
    table = Outline((20, 40, 200, 180), "dining table 0.42", 0)
    cups = [Outline((22 + n, 44, 180, 170), "cup 0.67", n) for n in (1, 2)]
    alone = draw_outlines(black, [table])
    found = draw_outlines(black, [table, *cups])
    np.testing.assert_array_equal(found[:39], alone[:39])
    first = draw_outlines(black, [table, cups[0]])
    height = 40 - int(alone.any(axis=(1, 2)).argmax())
    title = slice(40, 40 + height), slice(23, 60)
    np.testing.assert_array_equal(found[title], first[title])
    # Where there is no room below, one is over the other, within the picture.
    assert draw_outlines(black[:20], [Outline((0, 0, 9, 9), "cup", n) for n in range(9)]).any()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (60, 400), (300, 200)])
def test_overlays_have_the_picture_s_size_and_leave_it_alone(
    detecting: Codec, height: int, width: int
) -> None:
    pixels = plain(height, width)
    drawn = detect_pixels(detecting, pixels).overlay(pixels)
    assert drawn.shape == pixels.shape and drawn.dtype == np.uint8
    assert (drawn != pixels).any() and (pixels == plain(height, width)).all()


# --- The bundled network --------------------------------------------------------------------------


def test_the_bundled_detector_is_its_source_s(one_torch_thread: None) -> None:
    """Beside another conversion of the same weights; experiments/heads.py wrote its output.

    The planes of all 3,549 positions differ by at most 1.2e-5; every 37th is here.
    """
    import torch

    from tactic_codec.networks.folder import load_network

    network = load_network(load_model().model, "detect")
    pixels = image.square(image.load(ROCKET), 416)
    kept = np.load(ROOT / "tests" / "data" / "nanodet.npz")
    with torch.inference_mode():
        planes = network.planes(torch.from_numpy(image.network_input(pixels)))  # type: ignore[operator]
    for number, plane in enumerate(planes):
        mine = plane.flatten(2)[0].T[::37]
        np.testing.assert_allclose(mine[:, :80].sigmoid(), kept[f"scores_{number}"], atol=5e-5)
        np.testing.assert_allclose(mine[:, 80:], kept[f"sides_{number}"], atol=5e-5)


def test_both_runtimes_find_the_same_in_pictures_of_any_sides() -> None:
    exported, torch = (load_model(device=device, threads=1) for device in ("cpu", "torch-cpu"))
    for height, width in ((480, 320), (70, 333)):
        pixels = image.load(COFFEE)[:height, :width]
        x = DETECT.prepare(pixels, 480)
        expected, found = torch.runtime.run("detect", x), exported.runtime.run("detect", x)
        assert found.shape[2] == 84
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3)


@pytest.mark.slow
def test_the_default_model_finds_the_cup() -> None:
    found = tactic_codec.detect(tactic_codec.compress(COFFEE).data)
    assert found[0].label == "cup" and found[0].score > 0.5
    left, top, right, bottom = found[0].box
    assert (right - left) * (bottom - top) > found.width * found.height / 8


def test_the_default_model_classifies_and_detects() -> None:
    assert list(load_model().model.heads) == ["classify", "detect"]


# --- Files that mark boxes ------------------------------------------------------------------------

NAMES = ["red thing", "airplane", "blue thing"]


def put(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def voc(*objects: str, size: str = "") -> str:
    return f"<annotation>{size}{''.join(objects)}</annotation>"


def voc_object(name: str, edges: str = "1 2 30 40", more: str = "") -> str:
    tags = zip(("xmin", "ymin", "xmax", "ymax"), edges.split(), strict=True)
    inner = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
    return f"<object><name>{name}</name>{more}<bndbox>{inner}</bndbox></object>"


def coco(**changes: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "x.jpg", "width": 100, "height": 50}],
        "categories": [{"id": 4, "name": "Red_thing"}, {"id": 9, "name": "spoon"}],
        "annotations": [
            {"image_id": 7, "category_id": 4, "bbox": [1, 2, 30, 40], "iscrowd": 0},
            {"image_id": 7, "category_id": 9, "bbox": [1, 2, 30, 40]},
            {"image_id": 7, "category_id": 4, "bbox": [90, 40, 30, 40], "iscrowd": 1},
        ],
    } | changes


def things(folder: Path, name: str, width: int = 100, height: int = 50) -> list[Thing]:
    maker = found_in(folder)
    assert maker
    return maker(NAMES)(name, width, height)


def test_yolo_files_are_read(tmp_path: Path) -> None:
    put(tmp_path / "labels/a/x.txt", "2 0.5 0.5 0.2 0.4\n\n0 1 1 0.2 0.2\n")
    assert things(tmp_path, "images/a/x.jpg") == [
        Thing(Box(2, 1, 40, 15, 60, 35)),
        Thing(Box(0, 1, 90, 45, 100, 50)),
    ]
    assert things(tmp_path, "images/a/empty.jpg") == []
    put(tmp_path / "labels/classes.txt", "spoon\naeroplane\nred_thing\n")
    assert things(tmp_path, "images/a/x.jpg") == [Thing(Box(0, 1, 40, 15, 60, 35))]


def test_voc_files_are_read(tmp_path: Path) -> None:
    size = "<size><width>100</width><height>50</height></size>"
    text = voc(
        voc_object("aeroplane"),
        voc_object("spoon"),
        voc_object("red thing", more="<difficult>1</difficult>"),
        size=size,
    )
    put(tmp_path / "Annotations/x.xml", text)
    box = Box(1, 1, 1, 2, 30, 40)
    assert things(tmp_path, "JPEGImages/x.jpg") == [
        Thing(box),
        Thing(box._replace(kind=0), counts=False),
    ]


def test_coco_files_are_read(tmp_path: Path) -> None:
    put(tmp_path / "annotations/boxes.json", json.dumps(coco()))
    for name in ("x.jpg", "images/a/x.png"):
        assert things(tmp_path, name) == [
            Thing(Box(0, 1, 1, 2, 31, 42)),
            Thing(Box(0, 1, 90, 40, 100, 50), counts=False),
        ]


def test_folders_without_boxes_have_none(tmp_path: Path) -> None:
    put(tmp_path / "labels/x.png", b"")
    put(tmp_path / "labels/classes.txt", "road")  # of label maps
    put(tmp_path / "notes.txt", "0 0.5 0.5 1 1")
    assert found_in(tmp_path) is None and not DETECT.claims(tmp_path)
    assert found_in(tmp_path, loose=True) is not None


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "'
    + "x" * 1000
    + '"><!ENTITY c "&b;&b;&b;&b;">]><annotation>&c;</annotation>'
)
STRANGE = '<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]><annotation>&f;</annotation>'


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("labels/x.txt", "80 0.5 0.5 0.1 0.1", "there is no class 80, but 0 to 2"),
        ("labels/x.txt", "-1 0.5 0.5 0.1 0.1", "there is no class -1"),
        ("labels/x.txt", "0 0.5 0.5 0.1", "line 1: expected a class and four numbers"),
        ("labels/x.txt", "0 0.1 0.1 0.2 0.1 0.2 0.2", "expected a class and four numbers"),
        ("labels/x.txt", "red 0.5 0.5 0.1 0.1", "expected a class and four numbers"),
        ("labels/x.txt", "0 nan 0.5 0.1 0.1", "expected shares of the picture"),
        ("labels/x.txt", "0 0.5 inf 0.1 0.1", "expected shares of the picture"),
        ("labels/x.txt", "0 30 20 10 10", "expected shares of the picture"),
        ("labels/x.txt", "0 0.5 0.5 0 0.1", "is empty"),
        ("labels/x.txt", b"\xff\xfe0", "is not UTF-8"),
        ("labels/x.txt", "0 0.5 0.5 1 1\n" * 80000, "more than 1048576 bytes"),
        ("Annotations/x.xml", BOMB, "document type"),
        ("Annotations/x.xml", STRANGE, "document type"),
        ("Annotations/x.xml", BOMB.encode("utf-16"), "is not UTF-8"),
        ("Annotations/x.xml", "<annotation>", "is not XML"),
        ("Annotations/x.xml", "", "is not XML"),
        ("Annotations/x.xml", voc(voc_object("red thing", "1 2 nan 4")), "no finite number"),
        ("Annotations/x.xml", voc(voc_object("red thing", "1 2 b 4")), "a number as bndbox/xmax"),
        ("Annotations/x.xml", voc(voc_object("red thing", "200 2 300 4")), "lies outside"),
        ("Annotations/x.xml", voc("<object><name>red thing</name></object>"), "found None"),
        (
            "Annotations/x.xml",
            voc(size="<size><width>50</width><height>100</height></size>"),
            "of 50 x 100 pixels, the upright picture has 100 x 50",
        ),
        ("Annotations/y.xml", voc(), "there are no boxes of it"),
        ("annotations/x.json", "[", "is no file of COCO's boxes"),
        ("annotations/x.json", "[" * 100_000, "is no file of COCO's boxes"),
        ("annotations/x.json", "{}", "it has no 'categories'"),
        ("annotations/x.json", json.dumps(coco(images=[], annotations=[])), "lists no picture"),
        ("annotations/x.json", json.dumps(coco(images=[{"id": []}])), "no file of COCO's boxes"),
        ("annotations/x.json", json.dumps(coco(images=coco()["images"] * 2)), "one twice"),
        (
            "annotations/x.json",
            json.dumps(coco()).replace("[1, 2, 30, 40]", "[1, 2, NaN, 40]"),
            "no finite number",
        ),
        (
            "annotations/x.json",
            json.dumps(coco(annotations=[{"image_id": 7, "category_id": 5, "bbox": [1, 2, 3, 4]}])),
            r"annotations\[0\] is of category 5, which is not listed",
        ),
        (
            "annotations/x.json",
            json.dumps(coco(annotations=[{"image_id": 7, "category_id": 4, "bbox": [1, 2, 3]}])),
            r"bbox of annotations\[0\] must be four numbers, not \[1, 2, 3\]",
        ),
        (
            "annotations/x.json",
            json.dumps(coco(annotations=[{"image_id": 8, "category_id": 4, "bbox": [1, 2, 3, 4]}])),
            r"annotations\[0\] is of image 8, which is not listed",
        ),
        (
            "annotations/x.json",
            json.dumps(coco(categories=[{"id": 4}])),
            r"ries\[0\] has no 'name'",
        ),
        (
            "annotations/x.json",
            json.dumps(coco(images=[{"id": 7, "file_name": "x.jpg", "width": 10**400}])),
            r"images\[0\] holds .* too many digits",
        ),
        ("annotations/x.json", "9" * 5000, "too many digits"),
        (
            "annotations/x.json",
            json.dumps(coco(images=[{"id": 7, "file_name": "x.jpg", "width": 5, "height": 9}])),
            "of 5 x 9 pixels",
        ),
        (
            "annotations/x.json",
            json.dumps(coco(images=[{"id": 7, "file_name": "y.jpg"}])),
            "lists no picture of this name",
        ),
    ],
)
def test_files_that_cannot_be_believed_are_refused(
    tmp_path: Path, file: str, text: str | bytes, message: str
) -> None:
    put(tmp_path / file, text)
    with pytest.raises(DataError, match=message):
        things(tmp_path, "x.jpg")


def test_several_files_of_coco_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        put(tmp_path / "annotations" / f"{name}.json", json.dumps(coco()))
    with pytest.raises(DataError, match="holds 2 files of boxes"):
        things(tmp_path, "x.jpg")


def test_a_huge_coco_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tactic_codec.tasks.annotations.MAX_BYTES", 100)
    put(tmp_path / "annotations/x.json", json.dumps(coco()))
    with pytest.raises(DataError, match="more than 100 bytes"):
        things(tmp_path, "x.jpg")


# --- Mean average precision -----------------------------------------------------------------------


def scene(seed: int) -> tuple[list[list[Thing]], list[list[Box]]]:
    """Things in twelve pictures, and what a poor network finds of them."""
    random = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(12):
        own, seen = [], []
        for _ in range(random.integers(0, 8)):
            left, top = random.uniform(0, 80, 2)
            width, height = random.uniform(5, 20, 2)
            box = Box(int(random.integers(3)), 1.0, left, top, left + width, top + height)
            own.append(Thing(box, bool(random.random() < 0.9)))
            for _ in range(random.integers(0, 3)):
                shift = random.normal(0, 2, 4)
                edges = [a + b for a, b in zip(box[2:], shift, strict=True)]
                index = box.kind if random.random() < 0.8 else int(random.integers(4))
                seen.append(Box(index, round(float(random.random()), 2), *edges))
        truth.append(own)
        found.append(seen)
    return truth, found


def reference(truth: Sequence[Sequence[Thing]], found: Sequence[Sequence[Box]]) -> Any:
    """Mean average precision at each overlap, as pycocotools sums it up itself."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def record(number: int, picture: int, box: Box, crowd: bool) -> dict[str, Any]:
        width, height = box.right - box.left, box.bottom - box.top
        return {
            "id": number,
            "image_id": picture,
            "category_id": box.kind,
            "bbox": [box.left, box.top, width, height],
            "area": width * height,
            "iscrowd": int(crowd),
            "score": box.score,
        }

    pair = []
    for lists in (
        [[(t.box, not t.counts) for t in own] for own in truth],
        [[(b, False) for b in own] for own in found],
    ):
        flat = [(p, *one) for p, own in enumerate(lists) for one in own]
        coco_ = COCO()
        coco_.dataset = {
            "images": [{"id": p} for p in range(len(truth))],
            "categories": [{"id": k} for k in range(4)],
            "annotations": [record(n, *one) for n, one in enumerate(flat, 1)],
        }
        coco_.createIndex()
        pair.append(coco_)
    judge = COCOeval(*pair, "bbox")
    judge.evaluate()
    judge.accumulate()
    precision = judge.eval["precision"][:, :, :, 0, 2]  # [overlaps, recalls, classes]
    return np.array([p[p > -1].mean() for p in precision])


@pytest.mark.parametrize("seed", range(5))
def test_mean_precision_is_that_of_pycocotools(
    seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, found = scene(seed)
    ones = np.ones((1, 12), np.int64)
    mine = mean_precisions(truth, found, ones)[:, 0]
    assert capsys.readouterr().out == ""
    np.testing.assert_allclose(mine, reference(truth, found), atol=1e-12)


def test_draws_are_pictures_that_occur_several_times() -> None:
    truth, found = scene(7)
    draw = np.array([2, 0, 1, 1, 3, 0, 0, 1, 1, 1, 2, 0])
    drawn = [number for number, times in enumerate(draw) for _ in range(times)]
    expected = reference([truth[n] for n in drawn], [found[n] for n in drawn])
    mine = mean_precisions(truth, found, draw[None])[:, 0]
    # Pictures that occur twice have equal scores, which are in another order here.
    np.testing.assert_allclose(mine, expected, atol=0.02)


def test_what_is_found_exactly_has_precision_1_and_nothing_has_none() -> None:
    box = Box(2, 1.0, 0, 0, 5, 5)
    ones = np.ones((1, 2), np.int64)
    assert (mean_precisions([[Thing(box)], []], [[box], []], ones) == 1).all()
    assert (mean_precisions([[Thing(box)], []], [[], [box]], ones) == 0).all()
    assert np.isnan(mean_precisions([[], []], [[box], []], ones)).all()


def test_scores_have_intervals(detecting: Codec) -> None:
    truth, found = scene(3)
    facts = [{"boxes": [list(box) for box in own]} for own in found]
    scores = DETECT.scores(facts, facts, truth)
    assert list(scores) == ["mean_ap50", "mean_ap", "f1"]
    assert scores["f1"] == (1, 1, 1)
    half: Any = scores["mean_ap50"]
    assert 0 < half.low < half.share < half.high < 1
    assert half.share == pytest.approx(float(reference(truth, found)[0]), abs=1e-9)
    assert next(iter(DETECT.scores(facts, facts, [None, *truth[1:]]))) == "f1"


def test_resamples_are_the_same_for_all() -> None:
    draws = metrics.resamples(5)
    assert draws.shape == (1 + metrics.RESAMPLES, 5) and (draws.sum(axis=1) == 5).all()
    np.testing.assert_array_equal(draws, metrics.resamples(5))


# --- Evaluations ----------------------------------------------------------------------------------


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    """Three pictures and their boxes."""
    folder = tmp_path / "marked"
    for number, colour in enumerate(((250, 120, 0), (0, 250, 120), (120, 0, 250))):
        pixels = image.save(plain(48, 64, colour), "png")
        put(folder / f"images/{number}.png", pixels)
        box = PLACES[number]
        x, y = (box[0] + box[2]) / 128, (box[1] + box[3]) / 96
        w, h = (box[2] - box[0]) / 64, min(box[3] - box[1], 48) / 48
        put(folder / f"labels/{number}.txt", f"{number} {x} {min(y, 0.5) if h == 1 else y} {w} {h}")
    return folder


def evaluated(folder: Path, out: Path, model: Path, *more: str) -> dict[str, Any]:
    args = ["eval", "-m", str(model), "--data", str(folder), "--out", str(out), "--json"]
    args += ["--codec", "jpeg", "--qualities", "jpeg=5,60", *more]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["folders"][0]


@pytest.mark.slow
def test_eval_of_pictures_with_boxes(marked: Path, tmp_path: Path, spoilt: Spoilt) -> None:
    teach_to_detect(spoilt)
    found = evaluated(marked, tmp_path / "out", spoilt.path, "--html", str(tmp_path / "page.html"))
    assert found["labelled"] is True
    page = (tmp_path / "page.html").read_text()
    assert page.count("<article") == 3 == page.count("boxes: 1 · found: ")
    assert "mAP50, %" in page and "0.png" in page
    whole = found["uncompressed"]
    assert list(whole)[-3:] == ["mean_ap50", "mean_ap", "f1"]
    assert whole["mean_ap50"]["share"] == 1 and whole["f1"]["share"] == 1
    rows = (tmp_path / "out/results.md").read_text()
    assert "mAP50 | mAP50:95 | F1" in rows and "colours of tiny" in rows
    assert (tmp_path / "out/curves.png").exists()


@pytest.mark.slow
def test_eval_of_objects_without_boxes(marked: Path, tmp_path: Path, spoilt: Spoilt) -> None:
    teach_to_detect(spoilt)
    found = evaluated(marked / "images", tmp_path / "out", spoilt.path, "--task", "detect")
    assert found["labelled"] is False
    assert found["uncompressed"]["f1"]["share"] == 1
    assert found["uncompressed"]["mean_ap50"] is None
    curves = (tmp_path / "out/curves.svg").read_text()
    assert "<!-- F1, % -->" in curves and "mAP50" not in curves
    refused = CliRunner().invoke(
        main,
        [
            *("eval", "-m", str(spoilt.path), "--data", str(marked), "--out", str(tmp_path / "o")),
            *("--task", "detect", "--retrain-head", "1", "--train-data", str(marked)),
        ],
    )
    assert refused.exit_code == 2 and "detectors are not trained here" in refused.stderr


@pytest.mark.slow
def test_eval_at_scales(marked: Path, tmp_path: Path, spoilt: Spoilt) -> None:
    """Every coder at every setting and scale, in real bytes, and cached by the scale."""
    teach_to_detect(spoilt)
    scales = ("--scales", "1,0.5", "--keep-decoded", str(tmp_path / "kept"))
    found = evaluated(marked, tmp_path / "out", spoilt.path, *scales)
    codec = load_model(spoilt.path, threads=1)
    assert "small numbers: scale" in (tmp_path / "out/curves.svg").read_text()
    for curve in found["curves"]:
        points = {(p["setting"], p["scale"]): p for p in curve["points"]}
        settings = (1, 2, 3) if curve["coder"] == "tiny" else (5, 60)
        assert set(points) == {(setting, scale) for setting in settings for scale in (1, 0.5)}
        for (setting, scale), point in points.items():
            sizes = []
            for path in sorted((marked / "images").iterdir()):
                pixels = image.load(path)
                if curve["coder"] == "tiny":
                    coded = codec.compress(pixels, setting, scale=scale)
                    size, decoded = len(coded.data), codec.decode(coded.frame)
                else:
                    small = np.asarray(
                        Image.fromarray(pixels).resize((64, 48), Image.Resampling.LANCZOS)
                    )
                    if scale != 1:
                        small = np.asarray(
                            Image.fromarray(pixels).resize((32, 24), Image.Resampling.LANCZOS)
                        )
                    data = rival("jpeg").encode(small, setting)
                    size = len(data)
                    decoded = image.enlarged(rival("jpeg").decode(data), 64, 48)
                sizes.append(size)
                folder = f"{setting}" if scale == 1 else f"{setting} at {scale:g}"
                kept = tmp_path / "kept" / curve["coder"] / folder / f"images/{path.name}.png"
                np.testing.assert_array_equal(image.load(kept), decoded)
            assert point["bytes"] == round(sum(sizes) / len(sizes), 2)
    assert "| 5 at 0.5 |" in (tmp_path / "out/results.md").read_text()
    assert evaluated(marked, tmp_path / "out", spoilt.path, *scales) == found
    for scale in ("0", "1.5", "a", "nan"):
        args = ["eval", "-m", "tiny", "--data", ".", "--out", "o", "--scales", scale]
        assert CliRunner().invoke(main, args).exit_code == 2


# --- Reports of coded files -----------------------------------------------------------------------


@pytest.mark.parametrize("where", ["labels", "."])
def test_report_with_boxes(marked: Path, tmp_path: Path, spoilt: Spoilt, where: str) -> None:
    teach_to_detect(spoilt)
    codec = load_model(spoilt.path, threads=1)
    maker = found_in(marked)
    assert maker
    truth, found = [], []
    for path in sorted((marked / "images").iterdir()):
        coded = codec.compress(path, 3, scale=0.5)
        put(tmp_path / f"coded/{path.stem}.tac", coded.data)
        truth.append(maker(DETECT_LABELS)(f"images/{path.name}", 64, 48))
        found.append(DETECT.ask_frame(codec, coded.frame).boxes())
    args = ["bpp-report", "-m", str(spoilt.path), str(tmp_path / "coded")]
    args += ["--boxes", str(marked / where)]
    result = CliRunner().invoke(main, [*args, "--json"])
    assert result.exit_code == 0, result.output
    *rows, last = map(json.loads, result.stdout.splitlines())
    for row, things_, boxes_ in zip(rows, truth, found, strict=True):
        certain = boxes.certain(boxes_)
        counts = shared([thing.box for thing in things_], certain)
        assert (row["boxes"], row["found"], row["right"]) == counts
    totals = last["totals"]["detection"]
    expected = mean_precisions(truth, found, np.ones((1, 3), np.int64))
    assert totals["pictures"] == 3
    assert totals["mean_ap50"] == pytest.approx(expected[0, 0], abs=1e-6)
    assert totals["mean_ap"] == pytest.approx(expected.mean(), abs=1e-6)
    assert totals["mean_ap50_low"] <= totals["mean_ap50"] <= totals["mean_ap50_high"]
    table = CliRunner().invoke(main, args).stdout
    assert "mAP50: " in table and "of 3 pictures" in table


def test_report_with_boxes_that_are_of_no_use(
    marked: Path, tmp_path: Path, spoilt: Spoilt, tiny: Codec
) -> None:
    put(tmp_path / "coded/0.tac", tiny.compress(marked / "images/0.png").data)
    args = ["bpp-report", "-m", str(spoilt.path), str(tmp_path / "coded"), "--boxes"]
    result = CliRunner().invoke(main, [*args, str(marked)])
    assert "boxes are of no use here: no model of these files can detect" in result.stderr
    (tmp_path / "empty").mkdir()
    assert "holds no .txt" in CliRunner().invoke(main, [*args, str(tmp_path / "empty")]).stderr
    teach_to_detect(spoilt)
    put(marked / "labels/0.txt", "0 nan 0 1 1")
    result = CliRunner().invoke(main, [*args, str(marked)])
    assert result.exit_code == 1 and "expected shares of the picture" in result.stderr
