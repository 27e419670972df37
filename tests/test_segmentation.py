"""Segmentation in training: losses, networks, folders with label maps, a model with two heads."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from tactic_codec import codec, tasks
from tactic_codec import picture as image
from tactic_codec.errors import ConfigError, DataError
from tactic_codec.model import Model
from tactic_codec.networks import efficientnet_lite, heads, measures
from tactic_codec.networks.measures import class_weights
from tactic_codec.networks.segmentation import PyramidSegmenter
from tactic_codec.training import run as run_room
from tactic_codec.training.checkpoint import LOG
from tactic_codec.training.command import export_command, train_command
from tactic_codec.training.config import DataConfig, MasksConfig, load_config, parse_config
from tactic_codec.training.data import Crops, ImageFolders, scan
from tactic_codec.training.loss import UNLABELLED
from tactic_codec.training.run import Plan, Run
from tactic_codec.training.tasks import TRAINING

pytestmark = pytest.mark.usefixtures("one_torch_thread", "quick_exports")

COLOURS = [(200, 40, 40), (40, 200, 40), (40, 40, 200)]
MASKS = MasksConfig(("red", "green", "blue"), ("#c82828", "#28c828", "#2828c8"))
VOID = 11


# --- Losses ---------------------------------------------------------------------------------------


def test_the_cross_entropy_of_pixels_is_a_weighted_mean_without_void() -> None:
    torch.manual_seed(1)
    logits, labels = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    labels[0, :2] = UNLABELLED
    weights = torch.tensor([0.5, 1.0, 4.0])
    found = measures.pixel_cross_entropy(logits, labels, weights)
    for i in range(2):
        expected = F.cross_entropy(
            logits[i : i + 1], labels[i : i + 1], weights, ignore_index=UNLABELLED
        )
        torch.testing.assert_close(found[i], expected)


def test_an_image_that_is_void_has_no_loss() -> None:
    logits, labels = torch.randn(1, 3, 4, 4), torch.full((1, 4, 4), UNLABELLED)
    assert measures.pixel_cross_entropy(logits, labels, torch.ones(3)).item() == 0
    assert measures.dice(logits, labels).item() == 0


def test_dice_is_0_for_what_is_right_and_1_for_what_is_wrong() -> None:
    labels = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, UNLABELLED]]])
    certain = 100.0 * F.one_hot(labels.clamp_min(0), 3).permute(0, 3, 1, 2).float()
    assert measures.dice(certain, labels).item() == pytest.approx(0, abs=1e-6)
    assert measures.dice(certain.roll(1, dims=1), labels).item() == pytest.approx(1, abs=1e-6)


def test_dice_of_half_a_class_is_as_computed_by_hand() -> None:
    labels = torch.tensor([[[0, 0, 1, 1]]])
    said = torch.tensor([[[0, 1, 1, 1]]])
    logits = 100.0 * F.one_hot(said, 2).permute(0, 3, 1, 2).float()
    # Class 0: 2 · 1 / (1 + 2); class 1: 2 · 2 / (3 + 2).
    assert measures.dice(logits, labels).item() == pytest.approx(1 - (2 / 3 + 4 / 5) / 2, abs=1e-6)


def test_rare_classes_weigh_more_and_the_mean_pixel_weighs_1() -> None:
    pixels = np.array([10_000, 100, 0, 400])
    weights = class_weights(pixels).numpy()
    assert weights[1] / weights[0] == pytest.approx(10, rel=1e-5)
    assert weights[2] == weights[1], "a class that never occurs weighs as the rarest"
    assert (weights * pixels).sum() / pixels.sum() == pytest.approx(1, rel=1e-5)


# --- Networks -------------------------------------------------------------------------------------


def test_the_pyramid_stands_on_the_published_trunk() -> None:
    head = heads.build_head("efficientnet_lite0_pyramid", 11, published=True).eval()
    assert isinstance(head, PyramidSegmenter)
    x = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        logits, taps = head.with_features(x)
        expected = efficientnet(x)
    assert logits.shape == (1, 11, 16, 24)
    assert [tap.shape[2:] for tap in taps] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    for tap, wanted in zip(taps, expected, strict=True):
        torch.testing.assert_close(tap, wanted)


def efficientnet(x_BCHW: Tensor) -> list[Tensor]:
    network = efficientnet_lite.EfficientNetLite0()
    network.load_state_dict(efficientnet_lite.published_weights())
    return network.with_features(x_BCHW)[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["efficientnet_lite0_pyramid", "lraspp_mobilenet_v3_large", "fcn_resnet101"],
)
def test_a_segmentation_network_learns_eight_images(name: str) -> None:
    torch.manual_seed(1)
    head = heads.build_head(name, 3, published=name.startswith("efficientnet"))
    random = np.random.default_rng(1)
    pixels, labels = zip(*(scene(random, 32, 32) for _ in range(8)), strict=True)
    x_BCHW = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    labels_BHW = torch.from_numpy(np.stack(labels)).long()
    optimizer = torch.optim.Adam(head.parameters(), 1e-3)
    losses = []
    for _ in range(20):
        logits = heads.classify(head, x_BCHW).main
        assert logits.shape[:2] == (8, 3)
        if logits.shape[-2:] != (32, 32):
            logits = F.interpolate(logits, size=(32, 32), mode="bilinear")
        value = (
            measures.pixel_cross_entropy(logits, labels_BHW, torch.ones(3))
            + measures.dice(logits, labels_BHW)
        ).mean()
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(value.item())
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < 0.8 * losses[0]


# --- Folders with label maps ----------------------------------------------------------------------


def scene(
    random: np.random.Generator, height: int, width: int
) -> tuple[image.Pixels, image.Pixels]:
    """Three coloured fields and what they are."""
    labels = np.zeros((height, width), np.uint8)
    labels[:, random.integers(width // 4, width // 2) :] = 1
    labels[random.integers(height // 3, 2 * height // 3) :] = 2
    pixels = np.array(COLOURS)[labels] + random.integers(-20, 21, (height, width, 3))
    return pixels.clip(0, 255).astype(np.uint8), labels


def scenes(folder: Path, count: int, *, height: int = 48, width: int = 64) -> Path:
    random = np.random.default_rng(count)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        pixels, labels = scene(random, height, width)
        labels[:10] = VOID
        Image.fromarray(pixels).save(folder / "images" / f"{folder.name}{i}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{folder.name}{i}.png")
    return folder


def scan_masks(
    folders: list[Path], masks: MasksConfig, config: DataConfig, seed: int, **options: Any
) -> ImageFolders:
    task = TRAINING["segment"]
    return scan(folders, config, seed, task=task, classes=masks.labels, **options)


def test_a_folder_is_split_and_its_classes_are_weighed(tmp_path: Path) -> None:
    folder = scenes(tmp_path / "road", 10)
    data = scan_masks([folder], MASKS, DataConfig(test=0.2, calibration=0.1, size=64), 1)
    (part,) = data.parts
    assert [len(part.train), len(part.calibration), len(part.test)] == [7, 1, 2]
    assert all(e.kept == folder / "labels" / e.path.name for e in part.train)
    assert data.classes == ("red", "green", "blue")
    assert data.class_weights is not None
    assert data.class_weights.shape == (3,)


def test_what_cannot_be_used_is_left_out_with_its_reason(tmp_path: Path) -> None:
    folder = scenes(tmp_path / "road", 10)
    (folder / "labels" / "road0.png").unlink()
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(folder / "labels" / "road1.png")
    (folder / "images" / "road2.png").write_bytes(b"not a picture")
    data = scan_masks([folder], MASKS, DataConfig(size=64), 1)
    reasons = {skipped.path.name: skipped.reason for skipped in data.skipped}
    assert set(reasons) == {"road0.png", "road1.png", "road2.png"}
    assert "64 x 48" in reasons["road1.png"] and "6 x 5" in reasons["road1.png"]


def test_label_maps_are_of_images_as_they_are_shown(tmp_path: Path) -> None:
    folder = scenes(tmp_path / "road", 10)
    on_its_side = Image.Exif()
    on_its_side[0x0112] = 6
    for name in ("road0.png", "road1.png"):
        with Image.open(folder / "images" / name) as picture:
            stored = picture.transpose(Image.Transpose.ROTATE_90)
        stored.save(folder / "images" / name, exif=on_its_side)
    with Image.open(folder / "labels" / "road1.png") as labels:
        stored = labels.transpose(Image.Transpose.ROTATE_90)
    stored.save(folder / "labels" / "road1.png")
    data = scan_masks([folder], MASKS, DataConfig(size=64), 1)
    (skipped,) = data.skipped
    assert skipped.path.name == "road1.png"
    assert skipped.reason == "the upright picture has 64 x 48 pixels, its label map 48 x 64"


def test_a_folder_without_label_maps_says_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(DataError, match=r"images/NAME\.jpg and labels/NAME\.png"):
        scan_masks([tmp_path / "plain"], MASKS, DataConfig(), 1)
    with pytest.raises(DataError, match="below 3"):
        folder = scenes(tmp_path / "void", 5)
        for path in (folder / "labels").iterdir():
            Image.fromarray(np.full((48, 64), VOID, np.uint8)).save(path)
        scan_masks([folder], MASKS, DataConfig(), 1)


def test_crops_and_their_labels_stay_together(tmp_path: Path) -> None:
    data = scan_masks([scenes(tmp_path / "road", 10)], MASKS, DataConfig(size=64), 1)
    crops = Crops(data.parts, DataConfig(size=64), 32, seed=1, task=TRAINING["segment"], classes=3)
    seen = set()
    for number in range(12):
        pixels, labels = crops[number]
        assert isinstance(labels, Tensor)
        assert labels.shape == (32, 32) and labels.dtype == torch.int64
        seen |= set(labels.unique().tolist())
        looks = pixels.permute(1, 2, 0).float()[..., None, :] - torch.tensor(COLOURS).float()
        nearest = looks.square().sum(-1).argmin(-1)
        known = labels != UNLABELLED
        # But for a pixel's width along the borders of the fields.
        assert (nearest == labels)[known].float().mean() > 0.9
    assert seen == {UNLABELLED, 0, 1, 2}


def test_a_folder_to_test_on_leaves_the_others_to_training(tmp_path: Path) -> None:
    folders = [scenes(tmp_path / name, count) for name, count in (("train", 10), ("val", 4))]
    config = DataConfig(size=64, calibration=0.1)
    data = scan_masks(folders[:1], MASKS, config, 1, tests=folders[1:])
    assert [len(part.train) for part in data.parts] == [9, 0]
    assert [len(part.test) for part in data.parts] == [0, 4]
    assert len(Crops(data.parts, config, 32, 1, classes=3).parts) == 1


def test_the_first_few_of_a_folder_to_test_on_are_not_neighbours(tmp_path: Path) -> None:
    folders = [scenes(tmp_path / name, count) for name, count in (("train", 5), ("val", 9))]
    tests = [
        scan_masks(folders[:1], MASKS, DataConfig(size=64), seed, tests=folders[1:]).parts[1].test
        for seed in (1, 1, 2)
    ]
    assert tests[0] == tests[1] != tests[2]
    assert list(tests[0]) != sorted(tests[0])
    assert sorted(tests[0]) == sorted(tests[2])


def test_classes_can_be_tested_on_a_folder_of_their_own_too(tmp_path: Path) -> None:
    for part, count in (("train", 6), ("val", 3)):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                picture = np.full((8, 8, 3), 40 * i, np.uint8)
                Image.fromarray(picture).save(tmp_path / part / name / f"{i}.png")
    data = scan(
        [tmp_path / "train"], DataConfig(), 1, tests=[tmp_path / "val"], kept_out=["a/0.png"]
    )
    train, val = data.parts
    # What the start never saw is kept out all the same.
    assert [e.path.name for e in train.test] == ["0.png"]
    assert len(train.train) + len(train.calibration) == 11
    assert (len(val.train), len(val.test)) == (0, 6)
    assert {e.kept for e in val.test} == {0, 1}


# --- Models ---------------------------------------------------------------------------------------

CODEC = """
name = "road"
seed = 3
[residual]
latent = 12
sixteenth = 8
eighth = 6
quarter = 4
analysis_blocks = [1, 1]
synthesis_blocks = [1, 1, 1]
[levels]
count = 2
first_gain = 1
last_gain = 4
"""

TASK = """
[task]
network = "small-segmenter"
[masks]
labels = ["red", "green", "blue"]
colours = ["#c82828", "#28c828", "#2828c8"]
[data]
size = 64
calibration = 0.2
"""

JOINT = """
[[stage]]
steps = 3
beta = 2
beta_ratio = 0.5
batch = 4
size = 32
pixel_scale = 10
dice = 0.5
distill = 1
quantisation = "straight"
"""

HEAD = """
[[stage]]
steps = 150
beta = 2
batch = 8
size = 32
dice = 0.5
learning_rate = 3e-2
quantisation = "rounded"
"""


@pytest.fixture(scope="module", autouse=True)
def _small_segmenter_is_known() -> Iterator[None]:
    def build(classes: int) -> nn.Module:
        return nn.Conv2d(3, classes, 4, stride=4)

    heads.KINDS["small-segmenter"] = heads.HeadKind(build, None, "segment")
    yield
    del heads.KINDS["small-segmenter"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("world")
    scenes(folder / "train", 10)
    scenes(folder / "val", 3)
    (folder / "road.toml").write_text(CODEC + TASK + JOINT)
    return folder


@pytest.fixture(scope="module")
def road(world: Path) -> Model:
    made = train_command(
        world / "road.toml",
        [world / "train"],
        world / "road",
        tests=[world / "val"],
        run=world / "run",
        say=lambda _: None,
    )
    assert made is not None
    return made


@pytest.mark.slow
def test_a_model_segments_what_it_codes(road: Model, world: Path) -> None:
    road.verify()
    head = road.heads["segment"]
    assert (head.network, head.input_size, head.file) == ("small-segmenter", 64, "segment.onnx")
    assert head.labels == head.classes == ("red", "green", "blue")
    assert head.colours == ((200, 40, 40), (40, 200, 40), (40, 40, 200))
    loaded = codec.load_model(road.path, device="cpu")
    pixels = image.load(world / "val" / "images" / "val0.png")
    found = tasks.segment(loaded.compress(pixels, 2).data, codec=loaded)
    assert found.labels.shape == pixels.shape[:2]
    # Any other size is segmented as well.
    odd = np.random.default_rng(1).integers(0, 256, (45, 131, 3), np.uint8)
    assert tasks.segment_pixels(loaded, odd).labels.shape == (45, 131)


@pytest.mark.slow
def test_figures_are_of_the_folder_that_was_given_to_test_on(road: Model) -> None:
    ((name, rows),) = road.manifest["metrics"].items()
    assert name.endswith("/val")
    assert [row["level"] for row in rows] == [1, 2]
    for row in rows:
        assert row["images"] == 3
        assert 0 <= row["mean_iou"] <= row["pixel_accuracy"] <= 1
        assert len(row["iou"]) == 3
        assert 0 <= row["uncompressed_mean_iou"] <= 1


@pytest.mark.slow
def test_both_runtimes_segment_alike(road: Model) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (64, 96, 3), np.uint8)
    maps = [
        tasks.segment_pixels(codec.load_model(road.path, device=device), pixels).labels
        for device in ("cpu", "torch-cpu")
    ]
    assert (maps[0] == maps[1]).mean() > 0.999


@pytest.mark.slow
def test_effort_asks_the_segmentation_network(road: Model, world: Path) -> None:
    loaded = codec.load_model(road.path, device="cpu")
    pixels = image.load(world / "val" / "images" / "val1.png")
    judged = loaded.refiner.networks
    assert judged.segments and judged.head is not None
    plain, sought = (loaded.compress(pixels, 1, effort=effort).data for effort in (0, 2))
    assert np.asarray(loaded.decompress(sought)).shape == pixels.shape
    assert plain != sought


@pytest.mark.slow
def test_a_head_is_added_and_old_streams_are_served_by_it(road: Model, world: Path) -> None:
    pixels = image.load(world / "val" / "images" / "val2.png")
    stream = codec.load_model(road.path, device="cpu").compress(pixels, 2).data
    (world / "more.toml").write_text('name = "more"\nseed = 4\n' + TASK + HEAD)
    more = train_command(
        world / "more.toml",
        [world / "train"],
        world / "more",
        tests=[world / "val"],
        head_only=True,
        start=road.path,
        run=world / "run-more",
        say=lambda _: None,
    )
    assert more is not None
    more.verify()
    assert more.fingerprint == road.fingerprint and more.name == "more"
    for name in ("analysis.onnx", "synthesis.onnx", "tables.npz"):
        assert more.read_file(name) == road.read_file(name)
    assert more.read_file("segment.onnx") != road.read_file("segment.onnx")
    assert more.read_file("held-out.txt") == road.read_file("held-out.txt")
    # What the head never saw is kept out as well as what the codec never saw.
    assert {f"images/val{i}.png" for i in range(3)} <= (more.held_out() or set())
    assert more.manifest["heads_training"]["segment"]["start"]["name"] == "road"
    loaded = codec.load_model(more.path, device="cpu")
    assert loaded.compress(pixels, 2).data == stream
    # 150 steps on what the codec gives back have taught it the three colours.
    (rows,) = more.manifest["metrics"].values()
    assert rows[1]["mean_iou"] > 0.7
    expected = image.load_labels(world / "val" / "labels" / "val2.png")
    found = tasks.segment(stream, codec=loaded).labels
    assert (found == expected)[expected != VOID].mean() > 0.8
    record = json.loads((world / "run-more" / "run.json").read_text())
    assert record["config"]["offsets"] == [level.offset for level in road.levels]
    lines = [json.loads(line) for line in (world / "run-more" / LOG).read_text().splitlines()]
    bpp = {round(line["rate"], 3) for line in lines if "loss" in line}
    assert len(bpp) > 1 and 0 not in bpp

    again = export_command(world / "run-more", world / "again", say=lambda _: None)
    assert again.read_file("segment.onnx") == more.read_file("segment.onnx")
    assert again.fingerprint == road.fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("head_only", [False, True])
def test_a_run_that_was_killed_over_its_last_figures_goes_on(
    road: Model, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head_only: bool
) -> None:
    """A model is in its place when nothing of it is missing."""
    head = 'name = "more"\n' + TASK + HEAD.replace("150", "2")
    (tmp_path / "x.toml").write_text(head if head_only else CODEC + TASK + JOINT)
    val = world / "val"
    if not head_only:
        val = scenes(tmp_path / "train", 3)  # its images are called as three of those to train on
        for path in val.glob("*/train0.png"):
            path.rename(path.with_name("other.png"))

    def run() -> Model | None:
        return train_command(
            tmp_path / "x.toml",
            [world / "train"],
            tmp_path / "out",
            tests=[val],
            head_only=head_only,
            start=road.path if head_only else None,
            run=tmp_path / "run",
            say=lambda _: None,
        )

    def die(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_room, "evaluate", die)
        with pytest.raises(KeyboardInterrupt):
            run()
    assert not (tmp_path / "out").exists()
    made = run()
    assert made is not None
    (rows,) = made.manifest["metrics"].values()
    assert {row["images"] for row in rows} == {3}
    assert all("mean_iou" in row for row in rows)
    # Names that two folders share are not held out.
    assert head_only or made.held_out() == {"images/other.png"}


def test_calibration_takes_what_there_is_room_for_from_everywhere(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world / "all.toml").write_text(CODEC + TASK.replace("0.2", "0.6") + JOINT)
    config = load_config(world / "all.toml")
    assert config.masks
    data = scan_masks([world / "train"], config.masks, config.data, 1, tests=[world / "val"])
    (everything,) = [[e.path for e in p.calibration] for p in data.parts if p.calibration]
    whole = [image.load(path) for path in everything]
    monkeypatch.setattr(run_room, "CALIBRATION_PIXELS", 3 * whole[0].size // 3 - 1)
    chosen = Run(Plan(config), data, Path("unused")).calibration()
    places = [i for i, p in enumerate(whole) if any(np.array_equal(p, c) for c in chosen)]
    assert len(chosen) == len(places) == 3
    assert places[0] < len(whole) / 3 and places[-1] >= 2 * len(whole) / 3 - 1


def test_what_is_trained_on_is_not_tested_on(world: Path) -> None:
    with pytest.raises(ConfigError, match="two folders"):
        train_command(
            world / "road.toml", [world / "train"], world / "twice", tests=[world / "train"]
        )


@pytest.mark.slow
def test_a_run_does_not_go_on_from_another_model(road: Model, world: Path) -> None:
    with pytest.raises(ConfigError, match="started from no model"):
        train_command(
            world / "road.toml",
            [world / "train"],
            world / "other",
            tests=[world / "val"],
            start=road.path,
            run=world / "run",
            say=lambda _: None,
        )


def test_what_a_start_kept_out_is_never_trained_on(tmp_path: Path) -> None:
    folder = scenes(tmp_path / "road", 10)
    kept_out = {f"images/road{i}.png" for i in range(5)}
    config = DataConfig(test=0.1, calibration=0.1, size=64)
    (part,) = scan_masks([folder], MASKS, config, 1, kept_out=kept_out).parts
    assert {f"images/{e.path.name}" for e in part.test} == kept_out


def test_label_maps_to_test_on_that_are_all_void_are_refused(tmp_path: Path) -> None:
    folders = [scenes(tmp_path / name, 5) for name in ("train", "val")]
    for path in (folders[1] / "labels").iterdir():
        Image.fromarray(np.full((48, 64), VOID, np.uint8)).save(path)
    with pytest.raises(DataError, match="tested on has a value below 3"):
        scan_masks(folders[:1], MASKS, DataConfig(size=64), 1, tests=folders[1:])


def test_a_head_needs_a_model_to_be_added_to(world: Path) -> None:
    (world / "alone.toml").write_text('name = "alone"\n' + TASK + HEAD)
    with pytest.raises(ConfigError, match="--from"):
        train_command(
            world / "alone.toml",
            [world / "train"],
            world / "alone",
            head_only=True,
            run=world / "x",
        )


# --- Configurations -------------------------------------------------------------------------------

GOOD = {
    "name": "road",
    "task": {"network": "efficientnet_lite0_pyramid"},
    "masks": {"labels": ["a", "b"], "colours": ["#000000", "#ffffff"]},
    "data": {"size": 96},
    "stage": [{"steps": 1, "beta": 1.0, "size": 64, "dice": 0.5}],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": {"labels": ["a", "b"], "colours": ["#000000"]}}, "2 colours"),
        ({"masks": {"labels": ["a", "a"], "colours": ["#000000"] * 2}}, "differ"),
        ({"masks": {"labels": ["a", "b"], "colours": ["red", "#000000"]}}, "#804080"),
        ({"masks": {"labels": [], "colours": []}}, "1 to 255"),
        ({"data": {"size": 104}}, "multiples of 32"),
        ({"stage": [{"steps": 1, "beta": 1.0, "size": 48}]}, "multiples of 32"),
        ({"task": {"network": "efficientnet_lite0_pyramid", "learn": False}}, "learn = true"),
        ({"head_only": True}, "rounded"),
        ({"stage": [{"steps": 1, "beta": 1.0, "size": 64, "dice": -1.0}]}, "dice"),
    ],
)
def test_a_configuration_that_would_fail_later_is_refused(
    change: dict[str, object], message: str
) -> None:
    parse_config(GOOD)
    with pytest.raises(ConfigError, match=message):
        parse_config({**GOOD, **change})


def test_dice_without_masks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[masks\]"):
        parse_config({"name": "x", "stage": [{"steps": 1, "beta": 1.0, "dice": 1.0}]})


@pytest.mark.parametrize(
    ("task", "masks", "message"),
    [
        ('network = "efficientnet_lite0"', True, "does not segment"),
        ('network = "efficientnet_lite0_pyramid"', False, "describe the classes"),
    ],
)
def test_network_and_label_maps_go_together(
    world: Path, tmp_path: Path, task: str, masks: bool, message: str
) -> None:
    text = f'name = "x"\n[task]\n{task}\n[data]\nsize = 64\n'
    text += '[masks]\nlabels = ["a"]\ncolours = ["#000000"]\n' if masks else ""
    (tmp_path / "x.toml").write_text(text + "[[stage]]\nsteps = 1\nbeta = 1\nsize = 32\n")
    with pytest.raises(ConfigError, match=message):
        train_command(
            tmp_path / "x.toml", [world / "train"], tmp_path / "out", run=tmp_path / "run"
        )
