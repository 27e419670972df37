"""Data, objective, loop: what training promises, on pictures of 48 pixels."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tactic_codec import container, metrics
from tactic_codec import picture as image
from tactic_codec.codec import Codec
from tactic_codec.errors import ConfigError, DataError
from tactic_codec.networks import heads, measures
from tactic_codec.networks.codec import TacticNetwork
from tactic_codec.networks.heads import LAST_LAYER, Logits
from tactic_codec.networks.residual import ResidualConfig
from tactic_codec.training import loss
from tactic_codec.training.checkpoint import CHECKPOINT, LOG, load_trained
from tactic_codec.training.config import (
    DataConfig,
    EvaluationConfig,
    NetworkConfig,
    StageConfig,
    TaskConfig,
    TrainingConfig,
)
from tactic_codec.training.data import Crops, Example, ImageFolders, Part, batches, scan
from tactic_codec.training.evaluate import Figures, evaluate
from tactic_codec.training.loop import (
    Step,
    build_network,
    draw_levels,
    train,
)
from tactic_codec.training.objective import LEVEL_BALANCE, TrainingLoss
from tactic_codec.training.tasks import CLASSES

pytestmark = pytest.mark.usefixtures("one_torch_thread")

State = dict[str, Tensor]

COLOURS = {"blue": (60, 60, 220), "green": (60, 220, 60), "red": (220, 60, 60)}


def write_pictures(folder: Path, classes: dict[str, int], *, seed: int = 1) -> Path:
    """Write noisy pictures whose colour tells their class."""
    random = np.random.default_rng(seed)
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        colour = np.array(COLOURS.get(name, (200, 200, 200)))
        for i in range(count):
            noise = random.normal(0, 20, (40, 48, 3)).cumsum(axis=1) / 4
            pixels = np.clip(colour + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures of two classes."""
    return write_pictures(tmp_path_factory.mktemp("pictures"), {"blue": 4, "red": 4})


@pytest.fixture(scope="module")
def data(pictures: Path) -> ImageFolders:
    return scan([pictures], DataConfig(), seed=1)


# --- Folders --------------------------------------------------------------------------------------


def names(examples: tuple[Example, ...]) -> list[str]:
    return ["/".join(example.path.parts[-2:]) for example in examples]


def test_a_folder_is_split_without_overlap(pictures: Path) -> None:
    found = scan([pictures], DataConfig(test=0.25, calibration=0.2), seed=1)
    assert found.classes == ("blue", "red")
    assert found.skipped == ()
    (part,) = found.parts
    assert (len(part.train), len(part.calibration), len(part.test)) == (4, 2, 2)
    every = names(part.train) + names(part.calibration) + names(part.test)
    assert sorted(every) == [f"{c}/{i:02}.png" for c in ("blue", "red") for i in range(4)]
    for example in part.train + part.calibration + part.test:
        assert found.classes[example.kept] == example.path.parent.name


def test_the_split_follows_from_the_seed(pictures: Path) -> None:
    config = DataConfig()
    once, again, other = (scan([pictures], config, seed=seed) for seed in (3, 3, 4))
    assert once == again
    assert set(names(once.parts[0].test)) != set(names(other.parts[0].test))


def test_what_a_start_kept_out_is_tested_on_first(pictures: Path) -> None:
    config = DataConfig(test=0.5, calibration=0.2)
    before = scan([pictures], config, seed=3)
    kept_out = names(before.parts[0].test)
    after = scan([pictures], config, seed=4, kept_out=kept_out)
    assert set(names(after.parts[0].test)) == set(kept_out)
    # Of more than the share, all are tested on nevertheless.
    few = scan([pictures], replace(config, test=0.25), seed=4, kept_out=kept_out)
    assert set(names(few.parts[0].test)) == set(kept_out)


def test_what_a_start_was_trained_on_is_not_tested_on(pictures: Path, tmp_path: Path) -> None:
    config = DataConfig(test=0.5, calibration=0.2)
    (labelled,) = scan([pictures], config, seed=4, kept_out=["red/01.png"]).parts
    assert names(labelled.test) == ["red/01.png"]
    assert len(labelled.train) + len(labelled.calibration) == 7
    # Nor are images of a kind of which nothing was kept out.
    (apart,) = scan([], config, seed=4, unlabelled=[pictures], kept_out=["red/01.png"]).parts
    assert names(apart.test) == ["red/01.png"]
    # Of a folder that the start does not know, the share is.
    unknown = write_pictures(tmp_path / "unknown", {"green": 4})
    parts = scan([pictures, unknown], config, seed=4, kept_out=["red/01.png"]).parts
    assert [len(part.test) for part in parts] == [1, 2]


def test_the_first_few_of_a_folder_to_test_on_are_of_all_classes(
    pictures: Path, tmp_path: Path
) -> None:
    val = write_pictures(tmp_path / "val", {"blue": 12, "red": 12})
    once, again, other = (
        scan([pictures], DataConfig(), seed, tests=[val]).parts[1].test for seed in (3, 3, 4)
    )
    assert {example.path.parent.name for example in once[:8]} == {"blue", "red"}
    assert len(set(once)) == 24
    assert once == again
    assert once != other


def test_the_first_few_to_test_on_are_of_all_folders(pictures: Path, tmp_path: Path) -> None:
    val = write_pictures(tmp_path / "val", {"blue": 2, "red": 2})
    other = write_pictures(tmp_path / "other", {"blue": 5, "red": 5})
    first, small, large = (found := scan([pictures], DataConfig(), 3, tests=[val, other])).parts
    assert (len(first.test), len(small.test), len(large.test)) == (0, 4, 10)
    expected = [small.test[0], large.test[0], small.test[1], large.test[1]]
    assert found.tested(4) == expected
    assert set(found.tested(99)) == {*small.test, *large.test}


def test_the_digest_tells_which_images_are_in_which_set(pictures: Path, tmp_path: Path) -> None:
    def digest(folder: Path, **changes: Any) -> str:
        return scan([folder], DataConfig(), **{"seed": 1, **changes}).digest

    before = digest(pictures)
    assert len(before) == 64
    moved = write_pictures(tmp_path / "moved", {"blue": 4, "red": 4})
    assert digest(moved) == before
    assert digest(moved, seed=2) != before
    assert digest(moved, classes=["red", "blue"]) != before
    assert digest(moved, kept_out=["red/01.png"]) != before
    (moved / "red" / "03.png").rename(moved / "red" / "04.png")
    assert digest(moved) != before


def test_pictures_that_can_be_coded_can_be_trained_on(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path, {"blue": 4, "red": 4})
    path = next(pictures.rglob("*.png"))
    Image.open(path).save(path.with_suffix(".avif"))
    path.unlink()
    examples = scan([pictures], DataConfig(), seed=1).parts[0]
    found = {e.path for part in (examples.train, examples.calibration, examples.test) for e in part}
    assert found == {p for p in pictures.rglob("*") if p.is_file()}


def test_classes_are_the_union_over_folders(pictures: Path, tmp_path: Path) -> None:
    second = write_pictures(tmp_path / "more", {"amber": 3, "red": 3})
    found = scan([pictures, second], DataConfig(), seed=1)
    assert found.classes == ("amber", "blue", "red")
    assert [part.folder for part in found.parts] == [pictures, second]
    for part in found.parts:
        for example in part.train + part.calibration + part.test:
            assert found.classes[example.kept] == example.path.parent.name


def test_the_order_of_classes_can_be_given(pictures: Path) -> None:
    found = scan([pictures], DataConfig(), 1, classes=["red", "green", "blue"])
    assert found.classes == ("red", "green", "blue")
    assert {(e.path.parent.name, e.kept) for e in found.parts[0].train} <= {
        ("red", 0),
        ("blue", 2),
    }
    with pytest.raises(DataError, match="class folder 'blue' is not among the model's 1 classes"):
        scan([pictures], DataConfig(), 1, classes=["red"])


def test_pictures_lie_at_any_depth_and_in_any_common_format(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "deep", {"a": 4})
    (folder / "a" / "b" / "c").mkdir(parents=True)
    picture = Image.new("RGB", (9, 9))
    for name in ("1.JPG", "2.jpeg", "3.webp", "4.bmp", "5.ppm", "6.tif", "7.gif"):
        picture.save(folder / "a" / "b" / "c" / name)
    (folder / "a" / "notes.txt").write_text("no picture, and none was promised")
    picture.save(folder / "outside-any-class.png")
    found = scan([folder], DataConfig(), 1)
    (part,) = found.parts
    assert len(part.train + part.calibration + part.test) == 11
    assert found.classes == ("a",)
    assert found.skipped == ()


@pytest.mark.parametrize("name", ["#a/x.png", " a/x.png", "a/x\n.png", "a/caf\udce9.png"])
def test_a_name_that_no_list_can_hold_is_left_out(tmp_path: Path, name: str) -> None:
    """Or the list of what training kept out would not have it, and a test picture be trained on."""
    folder = write_pictures(tmp_path / "some", {"a": 4})
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes((folder / "a" / "00.png").read_bytes())
    found = scan([folder], DataConfig(), 1)
    assert [path for path, _ in found.skipped] == [folder / name]
    assert all("cannot stand in a list" in reason for _, reason in found.skipped)
    (part,) = found.parts
    assert len(part.train + part.calibration + part.test) == 4


def test_a_class_folder_that_is_no_text_is_refused_at_once(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "some", {"a": 2, "caf\udce9": 2})
    with pytest.raises(DataError, match="UTF-8: rename that folder"):
        scan([folder], DataConfig(), 1)


def test_a_pipe_among_pictures_is_not_waited_for(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "some", {"a": 4})
    os.mkfifo(folder / "a" / "pipe.png")
    found = scan([folder], DataConfig(), 1)
    assert [(path.name, reason) for path, reason in found.skipped] == [
        ("pipe.png", "this is no file")
    ]


def test_unreadable_files_are_named_and_left_out(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "some", {"a": 6, "b": 4})
    whole = (folder / "a" / "00.png").read_bytes()
    (folder / "a" / "00.png").write_bytes(whole[: len(whole) // 2])
    (folder / "a" / "zz.jpg").write_bytes(b"%PDF-1.4")
    (folder / "b" / "empty.png").write_bytes(b"")
    found = scan([folder], DataConfig(), 1)
    (part,) = found.parts
    assert len(part.train + part.calibration + part.test) == 9
    assert [path.relative_to(folder).as_posix() for path, _ in found.skipped] == [
        *("a/00.png", "a/zz.jpg", "b/empty.png")
    ]
    for (_, reason), expected in zip(
        found.skipped, ("cannot be read", "PDF", "empty"), strict=True
    ):
        assert expected in reason


def test_folders_that_cannot_be_used_are_refused(tmp_path: Path, pictures: Path) -> None:
    empty = tmp_path / "empty"
    (empty / "a").mkdir(parents=True)
    flat = tmp_path / "flat"
    flat.mkdir()
    Image.new("RGB", (9, 9)).save(flat / "1.png")
    few = write_pictures(tmp_path / "few", {"a": 2})
    bad = tmp_path / "bad"
    (bad / "a").mkdir(parents=True)
    (bad / "a" / "1.png").write_bytes(b"")
    for folder, reason in [
        (tmp_path / "missing", "is not a folder; expected one that holds a folder for each class"),
        (flat / "1.png", "is not a folder"),
        (empty, "holds no images in class folders; expected <class>/<image>"),
        (flat, "holds no images in class folders"),
        (few, "2 readable images are too few to split"),
        (bad, "0 readable images are too few to split"),
    ]:
        with pytest.raises(DataError, match=reason) as caught:
            scan([pictures, folder], DataConfig(), 1)
        assert str(folder) in str(caught.value)


# --- Crops ----------------------------------------------------------------------------------------


def test_a_crop_is_a_function_of_seed_and_number(data: ImageFolders) -> None:
    crops, same = (Crops(data.parts, DataConfig(), 32, seed=5) for _ in range(2))
    other = Crops(data.parts, DataConfig(), 32, seed=6)
    for number in (0, 7, 10**6):
        picture, label = crops[number]
        assert picture.dtype == torch.uint8
        assert picture.shape == (3, 32, 32)
        for another in (crops[number], same[number]):
            assert torch.equal(another[0], picture)
            assert another[1] == label
        assert not torch.equal(other[number][0], picture)
        assert not torch.equal(crops[number + 1][0], picture)


def test_crops_carry_their_picture_s_label(data: ImageFolders) -> None:
    crops = Crops(data.parts, DataConfig(), 32, seed=1)
    for number in range(40):
        picture, label = crops[number]
        red, _, blue = picture.float().mean(dim=(1, 2))
        assert data.classes[label] == ("red" if red > blue else "blue")


def test_crops_come_from_the_training_set_alone(data: ImageFolders, monkeypatch: Any) -> None:
    read: list[Path] = []
    load = image.load
    monkeypatch.setattr(
        "tactic_codec.picture.load", lambda path: (read.append(path), load(path))[1]
    )
    crops = Crops(data.parts, DataConfig(), 32, seed=1)
    for number in range(100):
        crops[number]
    assert set(read) == {example.path for example in data.parts[0].train}


def test_a_full_crop_is_the_picture_or_its_mirror(tmp_path: Path) -> None:
    folder = tmp_path / "square"
    (folder / "a").mkdir(parents=True)
    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for i in range(4):
        Image.fromarray(pixels).save(folder / "a" / f"{i}.png")
    config = DataConfig(scale=(1.0, 1.0))
    crops = Crops(scan([folder], config, 1).parts, config, 32, seed=1)
    mirrored = sum(
        picture[0, 0, 0] != pixels[0, 0, 0] for picture, _ in map(crops.__getitem__, range(60))
    )
    assert mirrored > 10


def test_boxes_lie_within_the_picture() -> None:
    config = DataConfig(scale=(0.35, 1.0))
    random = np.random.default_rng(1)
    areas = []
    for width, height in [(48, 40), (1, 500), (500, 1), (224, 224)] * 100:
        left, top, right, bottom = CLASSES.box(random, width, height, 32, config)
        assert 0 <= left < right <= width + 1e-9
        assert 0 <= top < bottom <= height + 1e-9
        if width == height:
            areas.append((right - left) * (bottom - top) / (width * height))
    assert 0.3 < min(areas) < 0.45
    assert max(areas) > 0.85


@pytest.mark.slow
@pytest.mark.parametrize(("draw", "share"), [((), 5 / 17), ((1.0, 3.0), 1 / 4), ((0.9, 0.1), 0.9)])
def test_folders_are_drawn_by_weight(
    data: ImageFolders, tmp_path: Path, draw: tuple[float, ...], share: float
) -> None:
    more = write_pictures(tmp_path / "more", {"green": 16})
    config = DataConfig(draw=draw)
    parts = scan([data.parts[0].folder, more], config, 1).parts
    assert [len(part.train) for part in parts] == [5, 12]
    crops = Crops(parts, config, 8, seed=1)
    count = 400
    first = sum(crops[number][1] != 1 for number in range(count))  # 1 is green
    assert abs(first / count - share) < 4 * math.sqrt(share * (1 - share) / count)


def test_weights_for_another_number_of_folders_are_refused(data: ImageFolders) -> None:
    with pytest.raises(DataError, match="draws from 2 folders, 1 were given"):
        Crops(data.parts, DataConfig(draw=(0.5, 0.5)), 32, seed=1)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_come_in_order(data: ImageFolders, workers: int) -> None:
    crops = Crops(data.parts, DataConfig(), 16, seed=1)
    found = list(batches(crops, batch=3, first=4, last=10, workers=workers))
    assert [images.shape for images, _ in found] == [(3, 3, 16, 16)] * 2
    for offset, (images, labels) in enumerate(found):
        for i in range(3):
            picture, label = crops[4 + 3 * offset + i]
            assert torch.equal(images[i], picture)
            assert labels[i] == label


# --- The objective --------------------------------------------------------------------------------


def test_equation_1_is_the_mean_squared_error() -> None:
    x_BCHW = torch.zeros(2, 3, 4, 4)
    x_hat_BCHW = x_BCHW.clone()
    x_hat_BCHW[0, 0, 0, 0] = 0.6
    expected = 0.36 / 96
    found = measures.distortion(x_hat_BCHW, x_BCHW, 1.0)
    assert found.tolist() == pytest.approx([2 * expected, 0])
    assert measures.distortion(x_hat_BCHW, x_BCHW, 255.0).mean() == pytest.approx(expected * 65025)
    low = measures.distortion(x_hat_BCHW.bfloat16(), x_BCHW, 1.0)
    assert low.dtype == torch.float32


def test_equations_7_and_8_are_bits_over_pixels() -> None:
    assert loss.rate(torch.tensor([256.0, 64.0]), torch.zeros(2, 3, 16, 8)).tolist() == [2.0, 0.5]


def test_equation_3_is_the_cross_entropy() -> None:
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.25, 0.25]]))
    labels = torch.tensor([0, 2])
    expected = [-math.log(0.7), -math.log(0.25)]
    assert loss.cross_entropy(Logits(logits), labels).tolist() == pytest.approx(expected)
    both = loss.cross_entropy(Logits(logits, logits), labels).tolist()
    assert both == pytest.approx([1.4 * e for e in expected])


def test_an_image_without_a_label_has_no_cross_entropy() -> None:
    logits = Logits(torch.randn(2, 3))
    found = loss.cross_entropy(logits, torch.tensor([loss.UNLABELLED, 1]))
    assert found[0] == 0
    assert found[1] > 0


def test_distillation_is_the_divergence_from_the_teacher() -> None:
    teacher, student = torch.tensor([[0.5, 0.5], [0.9, 0.1]]), torch.tensor([[0.25, 0.75]] * 2)
    expected = [
        sum(p * math.log(p / q) for p, q in zip(*rows, strict=True))
        for rows in zip(teacher.tolist(), student.tolist(), strict=True)
    ]
    found = measures.divergence(student.log(), teacher.log() + 3)
    assert found.tolist() == pytest.approx(expected)
    assert measures.divergence(teacher.log(), teacher.log()).tolist() == pytest.approx(
        [0, 0], abs=1e-6
    )


def test_the_feature_error_is_relative_to_the_teacher_s_energy() -> None:
    teacher = [torch.randn(2, 4, 6, 6), 100 * torch.randn(2, 8, 3, 3)]
    nothing = [torch.zeros_like(t) for t in teacher]
    half = [t / 2 for t in teacher]
    for found, expected in ((teacher, 0), (nothing, 1), (half, 0.25)):
        assert measures.feature_error(found, teacher).tolist() == pytest.approx([expected] * 2)


def test_equation_9_weighs_the_terms() -> None:
    terms = loss.Terms(*(torch.full((2,), value) for value in (2.0, 3.0, 5.0)))
    alpha_B, beta_B = torch.tensor([0.5, 2.0]), torch.tensor([0.25, 0.0])
    assert terms.total(alpha_B, beta_B).tolist() == [2 + 1.5 + 1.25, 2 + 6]
    assert terms.total(torch.zeros(2), torch.zeros(2)).tolist() == [2, 2]


# --- The loop -------------------------------------------------------------------------------------

SMALL_RESIDUAL = ResidualConfig(8, 6, 6, 4, analysis_blocks=(1, 1), synthesis_blocks=(1, 1, 1))
STAGE = StageConfig(
    steps=20, beta=0.1, alpha=0.0, batch=4, size=32, learning_rate=5e-3, pixel_scale=10.0
)
CONFIG = TrainingConfig(
    name="small",
    stage=(STAGE,),
    checkpoint_every=4,
    network=NetworkConfig(latent=4, analysis=6, synthesis=(6, 4)),
    task=TaskConfig(network="tiny", weights="random"),
    data=DataConfig(size=32),
    evaluation=EvaluationConfig(every=1000),
)


def staged(**changes: Any) -> TrainingConfig:
    return replace(CONFIG, stage=(replace(STAGE, **changes),))


def log_of(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / LOG).read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def state_of(network: nn.Module) -> State:
    return {name: value.clone() for name, value in network.state_dict().items()}


def assert_same(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("quantisation", ["noise", "mixed"])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_loss_falls(
    data: ImageFolders, tmp_path: Path, tiny_head: Any, alpha: float, quantisation: str
) -> None:
    config = staged(alpha=alpha, quantisation=quantisation)
    steps: list[Step] = []
    train(config, data, tmp_path / "run", on_step=steps.append)
    losses = [step.loss for step in steps]
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])
    assert [step.step for step in steps] == list(range(1, 21))
    for step in steps:
        task = 0.0 if step.task is None else step.task
        assert step.loss == pytest.approx(step.distortion + alpha * task + 0.1 * step.rate)
        assert (step.task is None) == (step.accuracy is None) == (alpha == 0)
        # The mean of the images' own, which the mean error's is a lower bound of.
        bound = -10 * math.log10(step.distortion / 100)
        assert bound - 1e-6 <= step.psnr < bound + 2
        assert step.rate > 0
        assert step.learning_rate == 5e-3
    if alpha:
        assert all(step.accuracy in (0, 0.25, 0.5, 0.75, 1) for step in steps)
    assert log_of(tmp_path / "run") == [
        {k: v for k, v in step._asdict().items() if k != "seconds"} for step in steps
    ]


def test_every_level_has_its_own_alpha_and_beta(tiny_head: Any) -> None:
    """Both follow their ratios, and higher levels, whose losses are smaller, weigh more."""
    torch.manual_seed(1)
    stage = replace(
        STAGE, alpha=2.0, alpha_ratio=0.25, beta=0.5, beta_ratio=0.5, quantisation="straight"
    )
    network = TacticNetwork(SMALL_RESIDUAL, heads.build_head("tiny", 2), gains=(1.0, 2.0, 4.0))
    objective = TrainingLoss(network.eval(), None, CONFIG.task)
    x_BCHW, labels = torch.rand(3, 3, 32, 32), torch.tensor([0, 1, 0])
    level_B = torch.tensor([0, 2, 1])
    with torch.no_grad():
        outcome = objective(x_BCHW, labels, level_B, stage)
    terms = outcome.terms
    alpha_B, beta_B = torch.tensor([2.0, 0.125, 0.5]), torch.tensor([0.5, 0.125, 0.25])
    cost_B = terms.distortion_B + alpha_B * terms.task_B + beta_B * terms.rate_B
    weight_B = torch.tensor([1.0, 4.0, 2.0]) ** LEVEL_BALANCE
    assert (terms.task_B > 0).all()
    assert outcome.total.item() == pytest.approx((weight_B * cost_B).mean().item())


def test_levels_are_drawn_alike_or_the_low_ones_more_often() -> None:
    torch.manual_seed(1)
    alike, lower = (draw_levels(8, power, 8000) for power in (1, 2))
    for levels in (alike, lower):
        assert levels.dtype == torch.int64
        assert set(levels.tolist()) == set(range(8))
    assert all(850 < count < 1150 for count in alike.bincount().tolist())
    assert (lower < 2).float().mean().item() == pytest.approx(1 / 2, abs=0.03)
    assert (lower < 1).float().mean().item() == pytest.approx(8**-0.5, abs=0.03)
    assert draw_levels(1, 1, 3).tolist() == [0, 0, 0]


def test_images_that_are_not_coded_have_no_level(tiny_head: Any) -> None:
    torch.manual_seed(1)
    stage = replace(STAGE, alpha=2.0, alpha_ratio=0.5, beta_ratio=0.5, quantisation="none")
    network = TacticNetwork(SMALL_RESIDUAL, heads.build_head("tiny", 2), gains=(1.0, 2.0))
    objective = TrainingLoss(network.eval(), None, CONFIG.task)
    x_BCHW, labels = torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
    with torch.no_grad():
        outcome = objective(x_BCHW, labels, torch.tensor([0, 1]), stage)
    assert outcome.total.item() == pytest.approx(2 * outcome.terms.task_B.mean().item())


def test_a_codec_that_stays_rounds_each_level_as_its_model_does(tiny_head: Any) -> None:
    torch.manual_seed(1)
    network = TacticNetwork(SMALL_RESIDUAL, heads.build_head("tiny", 2), gains=(9.0, 9.0)).eval()
    objective = TrainingLoss(network, None, CONFIG.task, offsets=(0.1, 0.4))
    x_BCHW, labels = torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
    stage = replace(STAGE, alpha=1.0, quantisation="rounded")
    with torch.no_grad():
        both = objective(x_BCHW, labels, torch.tensor([1, 0]), stage).terms
        for image, (level, offset) in enumerate([(1, 0.4), (0, 0.1)]):
            level_B = torch.tensor([level])
            coded = network(x_BCHW[image : image + 1], "rounded", level_B, offset)
            plain = network(x_BCHW[image : image + 1], "rounded", level_B)
            assert both.rate_B[image].item() == pytest.approx(coded.bits_B.item() / 32**2)
            assert coded.bits_B.item() != plain.bits_B.item()


@pytest.mark.slow
def test_the_task_network_learns(data: ImageFolders, tmp_path: Path, tiny_head: Any) -> None:
    steps: list[Step] = []
    train(staged(alpha=1.0, steps=60), data, tmp_path / "run", on_step=steps.append)
    accuracies = [step.accuracy for step in steps if step.accuracy is not None]
    assert np.mean(accuracies[-10:]) > 0.9


TWO_STAGES = replace(
    CONFIG,
    stage=(
        replace(STAGE, steps=6, final_learning_rate=1e-3, name="first"),
        replace(STAGE, steps=6, alpha=0.5, size=24, batch=2, quantisation="mixed", name="second"),
    ),
)


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def uninterrupted(
    data: ImageFolders, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], tuple[State, list[dict[str, Any]]]]:
    """The weights and the log of the run with two stages, made once and when asked for."""
    made: list[tuple[State, list[dict[str, Any]]]] = []

    def make() -> tuple[State, list[dict[str, Any]]]:
        if not made:
            run = tmp_path_factory.mktemp("uninterrupted")
            made.append((state_of(train(TWO_STAGES, data, run)), log_of(run)))
        return made[0]

    return make


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [(1,), (4,), (5,), (6,), (7,), (8,), (11, 9, 12), (3, 3)])
def test_a_run_that_was_killed_ends_as_if_it_had_not_been(
    data: ImageFolders,
    tmp_path: Path,
    tiny_head: Any,
    uninterrupted: Any,
    killed_at: tuple[int, ...],
) -> None:
    run = tmp_path / "run"
    for step_of_death in killed_at:

        def die(step: Step, at: int = step_of_death) -> None:
            if step.step == at:
                raise Killed

        with pytest.raises(Killed):
            train(TWO_STAGES, data, run, on_step=die)
    resumed: list[Step] = []
    torch.manual_seed(12345)  # whatever the process did before
    network = train(TWO_STAGES, data, run, on_step=resumed.append)
    weights, log = uninterrupted()
    assert_same(state_of(network), weights)
    assert log_of(run) == log
    assert [line["step"] for line in log] == list(range(1, 13))
    # Checkpoints are made every four steps, so no more than those since are taken again.
    assert resumed[0].step == (max(killed_at) - 1) // 4 * 4 + 1


@pytest.mark.slow
def test_half_a_line_in_the_log_is_forgotten(
    data: ImageFolders, tmp_path: Path, tiny_head: Any, uninterrupted: Any
) -> None:
    def die(step: Step) -> None:
        if step.step == 6:
            raise Killed

    with pytest.raises(Killed):
        train(TWO_STAGES, data, tmp_path, on_step=die)
    with (tmp_path / LOG).open("a") as log:
        log.write('{"step": 7, "sta')
    (tmp_path / f"{CHECKPOINT}.new").write_bytes(b"half a checkpoint")
    train(TWO_STAGES, data, tmp_path)
    assert log_of(tmp_path) == uninterrupted()[1]


def test_a_finished_run_is_not_trained_again(
    data: ImageFolders, tmp_path: Path, tiny_head: Any, uninterrupted: Any
) -> None:
    first = state_of(train(TWO_STAGES, data, tmp_path))
    before = (tmp_path / CHECKPOINT).read_bytes(), (tmp_path / LOG).read_bytes()
    again = train(TWO_STAGES, data, tmp_path, on_step=lambda step: pytest.fail("a step was taken"))
    assert_same(state_of(again), first)
    assert not again.training
    assert ((tmp_path / CHECKPOINT).read_bytes(), (tmp_path / LOG).read_bytes()) == before


def test_the_seed_fixes_the_weights(data: ImageFolders, tiny_head: Any) -> None:
    config = staged(alpha=1.0)
    assert_same(state_of(build_network(config, 2)), state_of(build_network(config, 2)))
    other = state_of(build_network(replace(config, seed=2), 2))
    assert not torch.equal(
        other["analysis.layers.0.weight"],
        build_network(config, 2).state_dict()["analysis.layers.0.weight"],
    )


def test_a_stage_with_a_frozen_codec_trains_the_task_network_alone(
    data: ImageFolders, tmp_path: Path, tiny_head: Any
) -> None:
    both, head = (replace(STAGE, steps=2, alpha=1.0, frozen=frozen) for frozen in (False, True))
    first = state_of(train(staged(steps=2, alpha=1.0), data, tmp_path / "first"))
    after = replace(CONFIG, stage=(both, replace(head, quantisation="rounded")))
    last = state_of(train(after, data, tmp_path / "last"))
    moved = {name.partition(".")[0] for name in first if not torch.equal(first[name], last[name])}
    assert moved == {"head"}
    # What it encodes for is what its codec was trained for.
    assert after.objectives == staged(steps=2, alpha=1.0).objectives


@pytest.mark.parametrize(
    "other",
    [
        replace(CONFIG, seed=2),
        replace(CONFIG, name="other"),
        staged(batch=5),
        replace(CONFIG, network=NetworkConfig(5, 6, (6, 4))),
    ],
    ids=["seed", "name", "batch", "widths"],
)
def test_a_run_folder_of_another_configuration_is_refused(
    data: ImageFolders, tmp_path: Path, other: TrainingConfig
) -> None:
    train(staged(steps=2), data, tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes(), (tmp_path / LOG).read_bytes()
    with pytest.raises(ConfigError, match="holds a run of another configuration; give another"):
        train(other, data, tmp_path, on_start=lambda: pytest.fail("began"))
    assert ((tmp_path / CHECKPOINT).read_bytes(), (tmp_path / LOG).read_bytes()) == before


@pytest.mark.slow
def test_what_lies_ahead_of_a_run_may_be_changed(data: ImageFolders, tmp_path: Path) -> None:
    """A longer constant stage, and further ones, end as if they had been planned from the start."""
    train(staged(steps=2), data, tmp_path / "run")
    longer = staged(steps=3)
    longer = replace(longer, stage=(*longer.stage, replace(STAGE, steps=2, beta=0.5)))
    longer = replace(longer, data=replace(longer.data, workers=1))
    went_on = train(longer, data, tmp_path / "run")
    assert_same(state_of(went_on), state_of(train(longer, data, tmp_path / "whole")))
    # What was trained already may not.
    with pytest.raises(ConfigError, match="only what lies ahead of it may be changed"):
        train(staged(steps=2), data, tmp_path / "run")


def test_a_codec_whose_density_is_of_another_kind_is_a_start_and_one_of_other_widths_is_not(
    data: ImageFolders, tmp_path: Path
) -> None:
    start = {name: weight + 1 for name, weight in state_of(build_network(CONFIG, 2)).items()}
    older = {name: weight for name, weight in start.items() if not name.startswith("prior.")}
    older["prior.own"] = torch.ones(8, 4)
    begun = train(staged(steps=1, learning_rate=1e-9), data, tmp_path / "run", start=older)
    for name, weight in begun.synthesis.named_parameters(prefix="synthesis"):
        torch.testing.assert_close(weight.detach(), start[name])
    other = build_network(replace(CONFIG, network=NetworkConfig(5, 6, (6, 4))), 2)
    with pytest.raises(ConfigError, match="other networks than the configuration describes"):
        train(staged(steps=1), data, tmp_path / "other", start=other.state_dict())


def test_trained_networks_are_loaded_from_the_run(
    data: ImageFolders, tmp_path: Path, tiny_head: Any
) -> None:
    config = staged(steps=3, alpha=1.0)
    with pytest.raises(ConfigError, match="has no checkpoint yet"):
        load_trained(build_network(config, 2), tmp_path)
    trained = train(config, data, tmp_path)
    loaded = load_trained(build_network(config, 2), tmp_path)
    assert_same(state_of(loaded), state_of(trained))
    assert not loaded.training
    with pytest.raises(ConfigError, match="other networks than the configuration"):
        load_trained(build_network(staged(steps=3, alpha=0.0), 2), tmp_path)


def test_the_checkpoint_needs_no_pickle(data: ImageFolders, tmp_path: Path) -> None:
    train(staged(steps=1), data, tmp_path)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert state["step"] == 1
    assert json.loads(state["config"])["name"] == "small"


@pytest.mark.parametrize("damage", ["cut", "foreign", "other", "empty"])
def test_a_damaged_checkpoint_is_named_with_the_remedy(
    data: ImageFolders, tmp_path: Path, damage: str
) -> None:
    config = staged(steps=2)
    train(config, data, tmp_path)
    path = tmp_path / CHECKPOINT
    if damage == "other":
        torch.save({"step": 1}, path)
    else:
        whole = path.read_bytes()
        path.write_bytes(
            {"cut": whole[: len(whole) // 2], "foreign": b"%PDF-1.4", "empty": b""}[damage]
        )
    log = (tmp_path / LOG).read_bytes()
    for attempt in (
        lambda: train(config, data, tmp_path),
        lambda: load_trained(build_network(config, 2), tmp_path),
    ):
        with pytest.raises(ConfigError, match=r"checkpoint\.pt is damaged: .*; delete it"):
            attempt()
    assert (tmp_path / LOG).read_bytes() == log


def test_rounding_leaves_the_analysis_as_it_is(
    data: ImageFolders, tmp_path: Path, tiny_head: Any
) -> None:
    stages = (
        replace(STAGE, steps=4, alpha=1.0),  # momentum that must not push on
        replace(STAGE, steps=4, alpha=1.0, quantisation="rounded"),
    )
    at_the_end_of_stage: list[State] = []
    config = replace(CONFIG, stage=stages, evaluation=EvaluationConfig(every=4))

    def keep(network: TacticNetwork) -> dict[str, Any]:
        at_the_end_of_stage.append(state_of(network))
        return {}

    trained = train(config, data, tmp_path, evaluate=keep)
    (before,), after = at_the_end_of_stage, state_of(trained)
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"prior", "synthesis", "head"}


class NormalisedHead(nn.Module):
    """A head with everything that training could change: weights, statistics, dropout."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.normalisation = nn.BatchNorm2d(3)
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Linear(3, classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits: Tensor = self.last(self.dropout(self.normalisation(x_BCHW).mean(dim=(2, 3))))
        return logits


@pytest.mark.parametrize("learn", [False, True])
def test_a_head_learns_only_where_it_may(
    data: ImageFolders, tmp_path: Path, monkeypatch: Any, learn: bool
) -> None:
    monkeypatch.setitem(heads.KINDS, "normalised", heads.HeadKind(NormalisedHead, 32))
    config = replace(staged(steps=3, alpha=1.0), task=TaskConfig(network="normalised", learn=learn))
    start = state_of(build_network(config, 2))
    end = state_of(train(config, data, tmp_path))
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    head = {name for name in start if name.startswith("head.")}
    assert (head <= moved) if learn else not (head & moved)
    assert {name for name in start if name.startswith("analysis.")} <= moved
    # What is kept as it starts is made again, not stored.
    stored = torch.load(tmp_path / CHECKPOINT, weights_only=True)["network"]
    assert (head <= set(stored)) is learn
    assert_same(state_of(load_trained(build_network(config, 2), tmp_path)), end)


def test_a_frozen_head_passes_the_task_s_gradient_to_the_codec(
    data: ImageFolders, tmp_path: Path, tiny_head: Any
) -> None:
    """The same run with another alpha ends with another analysis: alpha · L_T reached it."""
    ends = []
    for alpha in (1e-6, 100.0):
        config = replace(
            staged(steps=2, alpha=alpha, beta=0.0, pixel_scale=1e-6),
            task=TaskConfig(network="tiny", learn=False),
        )
        ends.append(state_of(train(config, data, tmp_path / str(alpha))))
    weight = "analysis.layers.0.weight"
    assert not torch.allclose(ends[0][weight], ends[1][weight], atol=1e-4)

    network = build_network(config, 2)
    assert network.head is not None
    coded = network(torch.rand(2, 3, 64, 64), "noise")
    logits = heads.classify(network.head, coded.x_hat_BCHW)
    loss.cross_entropy(logits, torch.tensor([0, 1])).mean().backward()
    for module in (network.analysis, network.synthesis):
        for parameter in module.parameters():
            assert parameter.grad is not None
            assert (parameter.grad != 0).any()
    assert all(parameter.grad is None for parameter in network.head.parameters())


@pytest.mark.slow
def test_bfloat16_trains_and_keeps_weights_in_single(
    data: ImageFolders, tmp_path: Path, tiny_head: Any
) -> None:
    steps: list[Step] = []
    config = staged(alpha=1.0, precision="bfloat16")
    network = train(config, data, tmp_path, on_step=steps.append)
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    losses = [step.loss for step in steps]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])


@pytest.mark.parametrize("able", [False, True])
def test_auto_is_bfloat16_where_the_processor_multiplies_it(
    able: bool, tiny_head: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": able}, raising=False)
    network = TacticNetwork(SMALL_RESIDUAL, heads.build_head("tiny", 2))
    seen: list[bool] = []
    network.register_forward_pre_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    objective = TrainingLoss(network, None, CONFIG.task)
    for precision in ("auto", "float32", "bfloat16"):
        stage = replace(STAGE, precision=precision)
        objective(torch.rand(1, 3, 32, 32), torch.tensor([0]), torch.tensor([0]), stage)
    assert seen == [able, False, True]


def test_the_learning_rate_falls_along_a_half_cosine(data: ImageFolders, tmp_path: Path) -> None:
    stages = (
        replace(STAGE, steps=4, learning_rate=8e-3, final_learning_rate=0.0),
        replace(STAGE, steps=2, learning_rate=1e-3),
    )
    steps: list[Step] = []
    train(replace(CONFIG, stage=stages), data, tmp_path, on_step=steps.append)
    cosine = [8e-3 * (1 + math.cos(math.pi * n / 4)) / 2 for n in range(4)]
    assert [step.learning_rate for step in steps] == pytest.approx([*cosine, 1e-3, 1e-3])


def test_evaluations_come_when_they_should(data: ImageFolders, tmp_path: Path) -> None:
    config = replace(staged(steps=7), evaluation=EvaluationConfig(every=3))
    modes: list[bool] = []

    def look(network: TacticNetwork) -> dict[str, Any]:
        modes.append(network.training)
        return {"number": len(modes)}

    plain = train(staged(steps=7), data, tmp_path / "plain")
    looked_at = train(config, data, tmp_path / "run", evaluate=look)
    assert modes == [False] * 2
    found = [
        (line["step"], line["evaluation"])
        for line in log_of(tmp_path / "run")
        if "evaluation" in line
    ]
    assert found == [(3, {"number": 1}), (6, {"number": 2})]
    assert_same(state_of(looked_at), state_of(plain))


# --- Evaluation -----------------------------------------------------------------------------------


def test_evaluation_measures_real_files(tiny: Codec, data: ImageFolders) -> None:
    examples = data.parts[0].train
    squares = [image.square(image.load(example.path), 32) for example in examples]
    at_levels = evaluate(tiny, examples, 32)
    assert len(at_levels) == len(tiny.model.levels)
    for quality, found in enumerate(at_levels, start=1):
        check_real_files(tiny, squares, quality, found)


def check_real_files(
    tiny: Codec, squares: list[image.Pixels], quality: int, found: Figures
) -> None:
    files = [tiny.compress(pixels, quality).data for pixels in squares]
    decoded = [np.asarray(tiny.decompress(file)) for file in files]
    payloads = [len(container.parse(file).payload) for file in files]
    psnrs = [metrics.psnr(*pair) for pair in zip(squares, decoded, strict=True)]
    assert found.images == len(squares)
    assert found.bytes == pytest.approx(np.mean([len(file) for file in files]))
    assert found.bpp == pytest.approx(8 * np.mean([len(file) for file in files]) / 1024)
    assert found.payload_bpp == pytest.approx(8 * np.mean(payloads) / 1024)
    assert found.ideal_bpp <= found.payload_bpp <= 1.005 * found.ideal_bpp + 64 / 1024
    assert found.psnr == pytest.approx(np.mean(psnrs))


@pytest.mark.slow
def test_a_picture_too_plain_for_readers_limits_is_measured(tiny: Codec, tmp_path: Path) -> None:
    """Of strangers' files so few bytes would not be decoded to so many pixels."""
    Image.new("RGB", (2100, 2100), "grey").save(tmp_path / "plain.png")
    measured = evaluate(tiny, [Example(tmp_path / "plain.png", 0)], 2100)
    assert len(measured) == len(tiny.model.levels)
    payload = round(measured[0].payload_bpp * 2100 * 2100 / 8)
    assert container.default_max_pixels(payload) < 2100 * 2100


def test_evaluation_counts_right_answers(tiny: Codec, data: ImageFolders) -> None:
    from tactic_codec.tasks import classify

    paths = [example.path for example in data.parts[0].train]
    pixels = [image.square(image.load(path), 32) for path in paths]
    said = [classify(tiny.compress(p, 2).data, 1, codec=tiny)[0].index for p in pixels]
    right = evaluate(tiny, [Example(p, i) for p, i in zip(paths, said, strict=True)], 32)[1]
    wrong = evaluate(tiny, [Example(p, i + 1) for p, i in zip(paths, said, strict=True)], 32)[1]
    assert (right.seen["accuracy"], wrong.seen["accuracy"]) == (1.0, 0.0)
    assert wrong.seen["accuracy_interval"] == metrics.wilson_interval(0, len(paths))
    assert right.as_json()["accuracy"] == 1.0


def test_evaluation_without_a_task_network_has_no_accuracy(
    spoilt: Any, tiny: Codec, data: ImageFolders
) -> None:
    spoilt.set("heads", to={})
    found = evaluate(Codec(spoilt.model, tiny.runtime), data.parts[0].test, 32)[0]
    assert set(found.seen.values()) == {None} and "accuracy" in found.as_json()
    assert found.bpp > 0


def test_pictures_that_come_back_exactly_count_as_100_db(
    tiny: Codec, data: ImageFolders, monkeypatch: Any
) -> None:
    monkeypatch.setattr(metrics, "psnr", lambda *_: math.inf)
    assert [found.psnr for found in evaluate(tiny, data.parts[0].test, 32)] == [100] * 3


def test_a_part_is_named_by_its_folder(data: ImageFolders, pictures: Path) -> None:
    (part,) = data.parts
    assert isinstance(part, Part)
    assert part.folder == pictures


@pytest.mark.slow
def test_parts_learn_at_speeds_of_their_own(data: ImageFolders, tmp_path: Path) -> None:
    """Adam's first step moves a weight by the learning rate, whatever its gradient is."""
    task = TaskConfig("efficientnet_lite0", "published", speed=0.1, last_speed=25.0)
    config = replace(staged(steps=1, alpha=1.0, learning_rate=1e-4), task=task)
    before = state_of(build_network(config, 2))
    after = state_of(train(config, data, tmp_path))

    weights = [name for name, _ in build_network(config, 2).named_parameters()]

    def moved(*begins: str, but: str = "nothing") -> float:
        chosen = [n for n in weights if n.startswith(begins) and not n.startswith(but)]
        return max((after[name] - before[name]).abs().max().item() for name in chosen)

    assert moved("analysis.", "synthesis.") == pytest.approx(1e-4, rel=1e-2)
    assert moved("prior.") == pytest.approx(1e-3, rel=1e-2)
    assert moved("head.", but=LAST_LAYER) == pytest.approx(1e-5, rel=0.2)  # as far as float32 goes
    assert moved(LAST_LAYER) == pytest.approx(2.5e-3, rel=1e-2)
