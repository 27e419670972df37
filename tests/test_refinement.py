"""Effort: symbols that cost and lose less together, in streams that every decoder reads."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from click.testing import CliRunner
from conftest import PHOTOGRAPHS, TINY, Spoilt

from tactic_codec import codec as codec_room
from tactic_codec import container, refinement
from tactic_codec import picture as image
from tactic_codec.cli import main, options
from tactic_codec.codec import MAX_EFFORT, Codec, load_model
from tactic_codec.entropy import Prices
from tactic_codec.errors import LimitExceeded
from tactic_codec.model import Objective
from tactic_codec.refinement import STEPS, Judge, rate_weight

pytestmark = pytest.mark.usefixtures("one_torch_thread", "tiny_head")

OBJECTIVE = {"pixel_scale": 10.0, "alpha": 1.0, "features": 0.0, "beta": 2.0}
EFFORTS = range(1, MAX_EFFORT + 1)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refinement, "STEPS", {1: 4, 2: 6, 3: 12})


@pytest.fixture
def knowing(spoilt: Spoilt) -> Codec:
    """The tiny model, as it would be if it told what it was trained for."""
    spoilt.set("encoder", "objective", to=[OBJECTIVE] * 3)
    return load_model(spoilt.path, device="cpu", threads=1)


def picture(height: int = 72, width: int = 88, *, index: int = 0) -> npt.NDArray[np.uint8]:
    return image.load(PHOTOGRAPHS[index])[40 : 40 + height, 30 : 30 + width]


def judge_of(codec: Codec, pixels: npt.NDArray[np.uint8], level: int) -> Judge:
    coded = codec.model.level(level)
    return Judge(
        codec.refiner.networks,
        pixels,
        coded.inverse_gain,
        coded.objective or refinement.UNKNOWN_OBJECTIVE,
    )


def objective_of(codec: Codec, data: bytes, pixels: npt.NDArray[np.uint8]) -> float:
    """J of a file, with the objective of the level it was coded at."""
    frame = container.parse(data)
    symbols = codec.model.decode_symbols(frame)
    objective = codec.model.level(frame.level).objective
    assert objective is not None
    loss = judge_of(codec, pixels, frame.level).loss(torch.from_numpy(symbols).float())
    bits = float(Prices(codec.model.tables(frame.level)).symbols(symbols).sum())
    return loss.total + objective.beta * bits / (pixels.shape[0] * pixels.shape[1])


# --- What it gains --------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [1, 3])
@pytest.mark.parametrize("effort", EFFORTS)
def test_effort_lowers_the_objective(knowing: Codec, level: int, effort: int) -> None:
    pixels = picture()
    plain = objective_of(knowing, knowing.compress(pixels, level).data, pixels)
    refined = objective_of(knowing, knowing.compress(pixels, level, effort=effort).data, pixels)
    assert refined < plain


@pytest.mark.slow
@pytest.mark.parametrize("effort", EFFORTS)
def test_effort_is_never_worse_than_the_plain_result(knowing: Codec, effort: int) -> None:
    random = np.random.default_rng(effort)
    for pixels in (
        np.zeros((16, 16, 3), np.uint8),
        np.full((9, 31, 3), 255, np.uint8),
        random.integers(0, 256, (24, 40, 3), np.uint8),
        picture(1, 1),
    ):
        plain = objective_of(knowing, knowing.compress(pixels, 2).data, pixels)
        assert (
            objective_of(knowing, knowing.compress(pixels, 2, effort=effort).data, pixels) <= plain
        )


def test_where_every_step_makes_it_worse_the_plain_result_stays(
    knowing: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refinement, "LEARNING_RATE", 1000.0)
    monkeypatch.setattr(refinement, "FINAL_LEARNING_RATE", 1000.0)
    assert knowing.compress(picture(), 2, effort=2).data == knowing.compress(picture(), 2).data


@pytest.mark.parametrize("effort", EFFORTS)
def test_a_dear_bit_saves_bytes(spoilt: Spoilt, tiny: Codec, effort: int) -> None:
    spoilt.set("encoder", "objective", to=[OBJECTIVE | {"beta": 20.0}] * 3)
    codec = load_model(spoilt.path, device="cpu", threads=1)
    pixels = picture()
    assert len(codec.compress(pixels, 2, effort=effort).data) < len(tiny.compress(pixels, 2).data)


def test_a_model_that_does_not_tell_gets_the_slope_of_the_picture(tiny: Codec) -> None:
    assert rate_weight(0.6, 0.25) == pytest.approx(1.6)
    assert rate_weight(0.6, 0.0) == 0
    assert tiny.model.level(2).objective is None
    assert tiny.compress(picture(), 2, effort=2).data != tiny.compress(picture(), 2).data


def test_a_model_without_a_classifier_is_refined_too(spoilt: Spoilt) -> None:
    spoilt.set("heads", to={})
    codec = load_model(spoilt.path, device="cpu", threads=1)
    data = codec.compress(picture(), 2, effort=2).data
    assert codec.decompress(data).size == (88, 72)


# --- What J is ------------------------------------------------------------------------------------


def test_the_judge_sees_what_the_decoder_makes(knowing: Codec) -> None:
    pixels = picture(70, 83)  # sides that the stride does not divide
    frame = container.parse(knowing.compress(pixels, 3).data)
    symbols = knowing.model.decode_symbols(frame)
    loss = judge_of(knowing, pixels, 3).loss(torch.from_numpy(symbols).float())
    difference = (knowing.decode(frame).astype(float) - pixels) / 255 * 10
    # A value that lies on a half may be rounded another way by another runtime.
    assert loss.distortion == pytest.approx((difference**2).mean(), rel=1e-4)
    assert loss.task > 0
    assert loss.gradient is None


def test_the_gradient_is_the_slope_of_the_loss(knowing: Codec) -> None:
    pixels = picture(32, 32)
    judge = judge_of(knowing, pixels, 2)
    symbols = torch.from_numpy(knowing.quantise(knowing.analyse(pixels), 2)).float()
    gradient = judge.loss(symbols, gradient=True).gradient
    assert gradient is not None
    assert gradient.shape == symbols.shape
    # Along the gradient the loss falls by what it says, but for the 8 bits of the picture.
    step = 0.5 * gradient / gradient.norm()
    fell = judge.loss(symbols + step).total - judge.loss(symbols - step).total
    assert fell == pytest.approx(float(gradient.norm()), rel=0.2)


def test_large_pictures_are_judged_in_tiles_without_the_task(
    knowing: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = picture(200, 264)
    symbols = torch.from_numpy(knowing.quantise(knowing.analyse(pixels), 2)).float()
    whole = judge_of(knowing, pixels, 2).loss(symbols, gradient=True)
    monkeypatch.setattr(refinement, "SEARCH_TILE", 96)
    tiled = judge_of(knowing, pixels, 2).loss(symbols, gradient=True)
    assert (whole.task > 0, tiled.task) == (True, 0)
    assert tiled.distortion == pytest.approx(whole.distortion, rel=1e-5)

    monkeypatch.setattr(refinement, "SEARCH_TILE", 1024)
    blind = knowing.model.level(2)._replace(objective=Objective(10.0, 0.0, 0.0, 2.0))
    assert blind.objective is not None
    judge = Judge(knowing.refiner.networks, pixels, blind.inverse_gain, blind.objective)
    expected = judge.loss(symbols, gradient=True)
    assert expected.gradient is not None
    assert tiled.gradient is not None
    np.testing.assert_allclose(tiled.gradient, expected.gradient, atol=1e-6)
    data = knowing.compress(pixels, 2, effort=2).data
    assert knowing.decompress(data).size == (264, 200)


# --- Streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize("effort", EFFORTS)
def test_the_decoder_gives_the_symbols_that_were_chosen(tiny: Codec, effort: int) -> None:
    pixels = picture()
    latent = tiny.analyse(pixels)
    chosen = tiny.refiner.refine(pixels, latent, tiny.quantise(latent, 3), 3, effort)
    assert chosen.dtype == np.int32
    frame = container.parse(tiny.compress(pixels, 3, effort=effort).data)
    np.testing.assert_array_equal(tiny.model.decode_symbols(frame), chosen)


@pytest.mark.parametrize("effort", EFFORTS)
def test_effort_gives_the_same_file_every_time(tiny: Codec, effort: int) -> None:
    first = tiny.compress(picture(), 2, effort=effort).data
    torch.rand(3)  # the state of torch's own generator plays no part
    assert tiny.compress(picture(), 2, effort=effort).data == first


def test_no_effort_is_the_plain_result(tiny: Codec) -> None:
    assert tiny.compress(picture(), 2, effort=0).data == tiny.compress(picture(), 2).data


def test_a_latent_that_overflowed_is_refined_to_something(tiny: Codec) -> None:
    pixels = picture(16, 16)
    wild = np.array([np.nan, np.inf, -np.inf, 3e38, 0, 1, 2, 3], np.float32)
    latent = wild[:, None, None] * np.ones((8, 2, 2), np.float32)
    plain = tiny.quantise(latent, 2)
    for effort in EFFORTS:
        found = tiny.refiner.refine(pixels, latent, plain, 2, effort)
        assert found.shape == plain.shape


# --- Refusals and the command ---------------------------------------------------------------------


@pytest.mark.parametrize("effort", [-1, 4, 100])
def test_other_efforts_are_refused(tiny: Codec, effort: int) -> None:
    with pytest.raises(ValueError, match=f"effort must be 0 to 3, not {effort}"):
        tiny.compress(picture(), 2, effort=effort)


def test_a_picture_too_wide_is_refused_before_any_effort(tiny: Codec) -> None:
    with pytest.raises(LimitExceeded):
        tiny.compress(np.zeros((1, container.MAX_SIDE + 1, 3), np.uint8), 2, effort=1)


def test_the_command_and_the_codec_know_the_same_efforts() -> None:
    assert options.MAX_EFFORT == codec_room.MAX_EFFORT == max(STEPS)


@pytest.mark.slow
def test_the_command_makes_an_effort(tmp_path: Path) -> None:
    original = str(PHOTOGRAPHS[0])
    sizes = []
    for effort in ("0", "2"):
        out = str(tmp_path / f"{effort}.tac")
        arguments = ["compress", "-m", str(TINY), "--effort", effort, "--json", original, out]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        sizes.append(json.loads(result.stdout)["bytes"])
    assert sizes[0] != sizes[1]


@pytest.mark.parametrize("value", ["4", "-1", "best"])
def test_the_command_refuses_other_efforts(value: str, tmp_path: Path) -> None:
    arguments = ["compress", "--effort", value, "a.jpg", str(tmp_path / "a.tac")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "--effort" in result.stderr


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it then fails as where it is not installed
from tactic_codec.cli import main
main(sys.argv[1:], prog_name="tactic")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("effort", "status"), [("0", 0), ("1", 1)])
def test_effort_without_torch_says_what_to_install(
    effort: str, status: int, tmp_path: Path, checkout_on_path: dict[str, str]
) -> None:
    out = tmp_path / "a.tac"
    arguments = ["compress", "-m", str(TINY), "--effort", effort, str(PHOTOGRAPHS[0]), str(out)]
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments],
        capture_output=True,
        text=True,
        env=checkout_on_path,
        check=False,
    )
    assert result.returncode == status, result.stderr
    assert out.exists() == (status == 0)
    if status:
        assert "pip install torch torchvision safetensors" in result.stderr
        assert "Traceback" not in result.stderr
