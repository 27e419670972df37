"""Facts about frames: what they cost, what they keep, and how it adds up."""

import math
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Spoilt
from numpy.typing import NDArray

from tactic_codec import container, entropy, report
from tactic_codec import picture as image
from tactic_codec.codec import Codec, load_model
from tactic_codec.container import Frame
from tactic_codec.errors import ImageError
from tactic_codec.metrics import wilson_interval
from tactic_codec.model import Model
from tactic_codec.report import Row, page
from tactic_codec.rivals import USUAL, rival
from tactic_codec.tasks import CLASSIFY, SEGMENT, Verdict


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    y, x = np.mgrid[:120, :160]
    noise = np.random.default_rng(1).normal(0, 20, (120, 160))
    channels = [120 + 80 * np.sin(x / 9), 120 + 80 * np.cos(y / 7), 120 + noise]
    return np.stack(channels, axis=-1).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def frame(tiny: Codec, pixels: NDArray[np.uint8]) -> Frame:
    return container.parse(tiny.compress(pixels).data)


def test_sizes(tiny: Codec, frame: Frame) -> None:
    symbols = tiny.model.decode_symbols(frame)
    facts = report.sizes(frame, tiny.model, symbols)
    assert facts["bytes"] == len(container.pack(frame))
    assert facts["bpp"] == 8 * facts["bytes"] / (160 * 120)
    assert facts["payload_bpp"] == 8 * len(frame.payload) / (160 * 120)
    tables = tiny.model.tables(frame.level)
    ideal = entropy.ideal_bits(symbols, tables)
    assert facts["ideal_bpp"] == ideal / (160 * 120) < facts["bpp"]
    assert (facts["width"], facts["height"], facts["model"]) == (160, 120, "tiny")
    unknown = report.sizes(frame)
    assert (unknown["ideal_bpp"], unknown["model"]) == (None, frame.fingerprint.hex())


def test_fidelity(pixels: NDArray[np.uint8]) -> None:
    assert report.fidelity(pixels, pixels) == {"psnr": math.inf, "ms_ssim": 1.0}
    with pytest.raises(ImageError, match="160 x 120 pixels, the frame 160 x 119"):
        report.fidelity(pixels, pixels[1:])


# --- Others at the same bytes ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", USUAL)
def test_rivals_fill_their_budget(name: str, pixels: NDArray[np.uint8]) -> None:
    found = report.rival_facts(name, pixels, 3000)
    assert found["fits"] and 2000 < found["bytes"] <= 3000
    assert 20 < found["psnr"] < 60
    richer = report.rival_facts(name, pixels, 6000)
    assert richer["quality"] > found["quality"] and richer["psnr"] > found["psnr"]


@pytest.mark.parametrize("name", USUAL)
def test_rivals_have_a_floor(name: str, pixels: NDArray[np.uint8]) -> None:
    found = report.rival_facts(name, pixels, 50)
    assert not found["fits"] and found["bytes"] > 50
    assert found["quality"] == rival(name).bounds[0]


# --- Accuracy -------------------------------------------------------------------------------------


def expected(model: Model, folder: str) -> frozenset[int]:
    found = CLASSIFY.expected(model, folder)
    return found[1] if found else frozenset()


def test_classes_are_meant_by_label_or_folder(tiny: Codec) -> None:
    assert expected(tiny.model, "cat") == {0}
    assert expected(tiny.model, "Rocket") == {4}
    assert expected(tiny.model, "photographs") == frozenset()


def test_classes_by_the_names_of_training_folders() -> None:
    model = Model(TINY)
    numbers = ("n01", "n02", "n03", "n04", "n05")
    model.heads["classify"] = model.heads["classify"]._replace(classes=numbers)
    assert expected(model, "n03") == {2}
    assert expected(model, "flower") == {2}
    model.heads = {}
    assert expected(model, "flower") == frozenset()


def test_verdict(tiny: Codec, frame: Frame) -> None:
    answer = CLASSIFY.ask_frame(tiny, frame)
    given = [CLASSIFY.expected(tiny.model, n) for n in tiny.model.heads["classify"].labels]
    verdicts = [CLASSIFY.verdict(answer, one) for one in given if one]
    assert [verdict.facts["correct"] for verdict in verdicts].count(True) == 1


# --- Label maps -----------------------------------------------------------------------------------


def test_label_maps_are_compared(segmenter: Spoilt) -> None:
    codec = load_model(segmenter.path, threads=1)
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:32, :, 0] = pixels[32:, :, 1] = 200
    label_map = np.full((64, 64), 1, np.uint8)
    label_map[:16], label_map[:, :4] = 0, 255
    answer = SEGMENT.ask(codec, pixels)
    found = SEGMENT.verdict(answer, label_map)
    _, counts = found.counted
    assert counts.tolist() == [[16 * 60, 0, 0], [16 * 60, 32 * 60, 0], [0, 0, 0]]
    assert found.facts == {"pixel_accuracy": 0.75, "mean_iou": round((1 / 2 + 2 / 3) / 2, 6)}
    summary = SEGMENT.summary([found])
    assert summary is not None
    assert summary.facts["pixels"] == 64 * 60
    assert [c["iou"] for c in summary.facts["classes"]] == [1 / 2, round(2 / 3, 6), None]
    void = SEGMENT.verdict(answer, np.full((64, 64), 3, np.uint8))
    assert void.facts == {"pixel_accuracy": None, "mean_iou": None}
    with pytest.raises(ImageError, match="label map has 64 x 63 pixels, the frame 64 x 64"):
        SEGMENT.verdict(answer, label_map[1:])


def bare(size: int = 20, side: int = 8) -> dict[str, Any]:
    own: dict[str, Any] = {"file": "x.tac", "frame": 1, "bytes": size, "width": side}
    bpp, payload = 8 * size / side**2, 8 * (size - 16) / side**2
    own |= {"height": side, "bpp": bpp, "payload_bpp": payload, "ideal_bpp": None}
    return own | {"model": "tiny", "level": 1}


def with_pixels(names: str, *counts: list[int]) -> Row:
    return Row(bare(), {"segment": Verdict({}, {}, (tuple(names), np.array(counts)))})


def test_pixels_of_all_pictures_count_alike() -> None:
    rows = [with_pixels("ab", [90, 10], [0, 0]), with_pixels("ab", [0, 0], [5, 5])]
    sums = report.totals([*rows, rows[0]._replace(verdicts={})])
    assert sums is not None
    facts = sums.summaries["segment"].facts
    assert facts["pixel_accuracy"] == round(95 / 110, 6)
    assert [c["iou"] for c in facts["classes"]] == [round(90 / 105, 6), 5 / 20]


def test_pixels_of_different_classes_do_not_add_up() -> None:
    sums = report.totals([with_pixels("ab", [1, 0], [0, 1]), with_pixels("ac", [1, 0], [0, 1])])
    assert sums is not None and sums.summaries == {}


# --- Rows -----------------------------------------------------------------------------------------


def test_a_row_has_what_there_is_to_compare_with(
    tiny: Codec, frame: Frame, pixels: NDArray[np.uint8]
) -> None:
    plain = report.row_of(frame, tiny, file="a.tac", number=2, given={"classify": "photographs"})
    sizes = report.sizes(frame, tiny.model, tiny.model.decode_symbols(frame))
    assert plain == Row({"file": "a.tac", "frame": 2} | sizes)
    row = report.row_of(
        frame,
        tiny,
        file="a.tac",
        number=1,
        original=pixels,
        rivals=USUAL,
        given={"classify": "cat"},
    )
    assert row.facts.items() >= report.fidelity(pixels, tiny.decode(frame)).items()
    assert list(row.facts)[-len(USUAL) :] == list(USUAL)
    assert row.verdicts["classify"].facts["expected"] == "cat"
    unknown = report.row_of(
        frame, None, file="a.tac", number=1, original=pixels, given={"classify": "cat"}
    )
    assert unknown == Row({"file": "a.tac", "frame": 1} | report.sizes(frame))


def test_a_row_s_network_looks_at_what_its_command_looks_at(
    tiny: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above a size they look at a half, and the report looked at the whole."""
    ask, found = Codec.class_logits, list[NDArray[np.float64]]()

    def spy(self: Codec, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        found.append(ask(self, pixels))
        return found[-1]

    monkeypatch.setattr(Codec, "class_logits", spy)
    noise = np.random.default_rng(1).integers(0, 256, (301, 1001, 3), np.uint8)
    frame = tiny.compress(noise).frame
    report.row_of(frame, tiny, file="a.tac", number=1, given={"classify": "cat"})
    CLASSIFY.ask_frame(tiny, frame)
    assert (found[0] == found[1]).all()
    assert (found[0] != ask(tiny, tiny.decode(frame))).any()


def test_another_picture_is_refused_before_others_code_it(tiny: Codec, frame: Frame) -> None:
    wide = np.zeros((1, 20_000, 3), np.uint8)  # more than WebP can hold
    with pytest.raises(ImageError, match="it is another picture"):
        report.row_of(frame, tiny, file="a.tac", number=1, original=wide)


# --- Totals ---------------------------------------------------------------------------------------


def row(size: int, side: int, correct: bool | None, psnr: float, fits: bool) -> Row:
    facts = bare(size, side) | {"psnr": psnr, "ms_ssim": 0.5}
    for name, others, fit in (("jpeg", 600, fits), ("webp", 100, True)):
        other = {"quality": 1, "bytes": others, "fits": fit, "psnr": psnr, "ms_ssim": 0.5}
        facts[name] = other
    return Row(facts, {} if correct is None else {"classify": Verdict({}, {}, correct)})


def test_totals() -> None:
    rows = [row(100, 20, True, 30, True), row(300, 40, False, 40, False)]
    rows.append(row(200, 40, None, math.inf, False))
    sums = report.totals(rows)
    assert sums is not None
    facts = sums.facts
    assert (facts["frames"], facts["bytes"], facts["pixels"]) == (3, 600, 3600)
    assert facts["mean_bytes"] == 200
    assert facts["mean_bpp"] == pytest.approx((2 + 1.5 + 1) / 3)
    assert facts["total_bpp"] == pytest.approx(4800 / 3600)
    assert (facts["mean_psnr"], facts["mean_ms_ssim"]) == (35, 0.5)
    for name, size, over in (("jpeg", 600, 2), ("webp", 100, 0)):
        other = {"mean_bytes": size, "over": over, "mean_psnr": 35, "mean_ms_ssim": 0.5}
        assert facts[name] == other
    low, high = (round(end, 6) for end in wilson_interval(1, 2))
    expected = {"pictures": 2, "share": 0.5, "low": low, "high": high}
    assert sums.summaries["classify"].facts == expected
    assert report.notes(sums)[0].startswith("jpeg: for 2 of 3 pictures")


@pytest.mark.parametrize(("model", "curve"), [("tiny", "tiny"), ("jpeg", "jpeg (model)")])
def test_a_model_that_is_named_like_a_codec_has_a_curve_of_its_own(model: str, curve: str) -> None:
    one = row(100, 20, None, 30, True)
    rows = [Row(one.facts | {"model": model})]
    (plot,) = page.of_rows("a report", rows, report.totals(rows), []).plots
    assert {name: len(points) for name, points in plot.curves.items()} == {
        curve: 1,
        "jpeg": 1,
        "webp": 1,
    }


def test_totals_of_little() -> None:
    assert report.totals([]) is None
    sums = report.totals([Row(bare())])
    assert sums is not None and sums.summaries == {}
    assert sums.facts["mean_ideal_bpp"] is None
    assert not {"mean_psnr", "jpeg"} & sums.facts.keys()
    same = report.totals([row(100, 20, None, math.inf, True)])
    assert same is not None and same.facts["mean_psnr"] == math.inf
    assert report.totals_as_json(same)["mean_psnr"] is None
    assert report.row_as_json(row(100, 20, None, math.inf, True))["jpeg"]["psnr"] is None


def test_a_rival_that_cannot_hold_the_picture() -> None:
    wide = np.zeros((1, 20_000, 3), np.uint8)
    with pytest.raises(ImageError, match=r"webp at .* cannot hold"):
        report.rival_facts("webp", wide, 1000)
    assert image.to_pillow(wide).size == (20_000, 1)
