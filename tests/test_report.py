"""Facts about frames: what they cost, what they keep, and how it adds up."""

import math
from pathlib import Path

import numpy as np
import pytest
from conftest import Spoilt
from numpy.typing import NDArray

from tactic_codec import container, entropy, report
from tactic_codec import picture as image
from tactic_codec.codec import Codec, load_model
from tactic_codec.container import Frame
from tactic_codec.errors import ImageError
from tactic_codec.metrics import wilson_interval
from tactic_codec.report import Fidelity, Rival, Row, Segmented, SizeFacts, Verdict

MODELS = Path(__file__).parent / "models"


@pytest.fixture(scope="module")
def codec() -> Codec:
    return load_model(MODELS / "tiny")


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    y, x = np.mgrid[:120, :160]
    noise = np.random.default_rng(1).normal(0, 20, (120, 160))
    channels = [120 + 80 * np.sin(x / 9), 120 + 80 * np.cos(y / 7), 120 + noise]
    return np.stack(channels, axis=-1).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def frame(codec: Codec, pixels: NDArray[np.uint8]) -> Frame:
    return container.parse(codec.compress(pixels).data)


def test_sizes(codec: Codec, frame: Frame) -> None:
    facts = report.size_facts(frame, codec.model)
    assert facts.bytes == len(container.pack(frame))
    assert facts.bpp == 8 * facts.bytes / (160 * 120)
    assert facts.payload_bpp == 8 * len(frame.payload) / (160 * 120)
    tables = codec.model.tables(frame.level)
    assert facts.ideal_bits == entropy.ideal_bits(codec.symbols(frame), tables)
    assert facts.ideal_bpp is not None and facts.ideal_bpp < facts.bpp
    assert report.size_facts(frame, None).ideal_bpp is None


def test_fidelity(pixels: NDArray[np.uint8]) -> None:
    assert report.fidelity(pixels, pixels) == (math.inf, 1.0)
    with pytest.raises(ImageError, match="160 x 120 pixels, the frame 160 x 119"):
        report.fidelity(pixels, pixels[1:])


# --- Others at the same bytes ---------------------------------------------------------------------


@pytest.mark.parametrize("budget", [0, 9, 10, 11, 505, 1000, 5000])
@pytest.mark.parametrize("lowest", [0, 1])
def test_bisection_finds_the_highest_quality_that_fits(budget: int, lowest: int) -> None:
    calls = []

    def encode(quality: int) -> bytes:
        calls.append(quality)
        return bytes(10 * (quality - lowest) + 10)

    quality, data = report.largest_within(encode, lowest, 100, budget)
    fitting = [q for q in range(lowest, 101) if 10 * (q - lowest) + 10 <= budget]
    assert quality == (max(fitting) if fitting else lowest)
    assert len(data) == 10 * (quality - lowest) + 10
    assert len(calls) <= 9


@pytest.mark.parametrize("name", list(report.RIVALS))
def test_rivals_fill_their_budget(name: str, pixels: NDArray[np.uint8]) -> None:
    found = report.rival(name, pixels, 3000)
    assert found.fits and 2000 < found.bytes <= 3000
    assert 20 < found.fidelity.psnr < 60
    richer = report.rival(name, pixels, 6000)
    assert richer.quality > found.quality and richer.fidelity.psnr > found.fidelity.psnr


@pytest.mark.parametrize("name", list(report.RIVALS))
def test_rivals_have_a_floor(name: str, pixels: NDArray[np.uint8]) -> None:
    found = report.rival(name, pixels, 50)
    assert not found.fits and found.bytes > 50
    assert found.quality == report.RIVALS[name].lowest


# --- Accuracy -------------------------------------------------------------------------------------


def test_classes_are_meant_by_label_or_folder(codec: Codec) -> None:
    assert report.expected_classes(codec.model, "cat") == {0}
    assert report.expected_classes(codec.model, "Rocket") == {4}
    assert report.expected_classes(codec.model, "photographs") == frozenset()


def test_classes_by_the_names_of_training_folders(codec: Codec) -> None:
    model = load_model(MODELS / "tiny").model
    numbers = ("n01", "n02", "n03", "n04", "n05")
    model.heads["classify"] = model.heads["classify"]._replace(classes=numbers)
    assert report.expected_classes(model, "n03") == {2}
    assert report.expected_classes(model, "flower") == {2}
    model.heads = {}
    assert report.expected_classes(model, "flower") == frozenset()


def test_verdict(codec: Codec, frame: Frame) -> None:
    decoded = codec.decode(frame)
    verdicts = [
        report.verdict(codec, decoded, name) for name in codec.model.heads["classify"].labels
    ]
    assert [v.correct for v in verdicts if v].count(True) == 1
    assert report.verdict(codec, decoded, "photographs") is None


# --- Label maps -----------------------------------------------------------------------------------


def test_label_maps_are_compared(segmenter: Spoilt) -> None:
    codec = load_model(segmenter.path, threads=1)
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:32, :, 0] = pixels[32:, :, 1] = 200
    expected = np.full((64, 64), 1, np.uint8)
    expected[:16], expected[:, :4] = 0, 255
    found = report.segmented(codec, pixels, expected)
    assert found.counts.tolist() == [[16 * 60, 0, 0], [16 * 60, 32 * 60, 0], [0, 0, 0]]
    assert found.pixels == 64 * 60
    assert found.scores == (0.75, (1 / 2 + 2 / 3) / 2, (1 / 2, 2 / 3, None))
    void = report.segmented(codec, pixels, np.full((64, 64), 3, np.uint8))
    assert (void.pixels, void.scores) == (0, None)
    with pytest.raises(ImageError, match="label map has 64 x 63 pixels, the frame 64 x 64"):
        report.segmented(codec, pixels, expected[1:])


def with_pixels(names: str, *counts: list[int]) -> Row:
    bare = Row("x.tac", 1, "tiny", SizeFacts(20, 4, 8, 8, 1, None))
    return bare._replace(segmented=Segmented(tuple(names), np.array(counts)))


def test_pixels_of_all_pictures_count_alike() -> None:
    rows = [with_pixels("ab", [90, 10], [0, 0]), with_pixels("ab", [0, 0], [5, 5])]
    sums = report.totals([*rows, rows[0]._replace(segmented=None)])
    assert sums is not None and sums.segmented is not None
    assert sums.segmented.counts.tolist() == [[90, 10], [5, 5]]
    scores = sums.segmented.scores
    assert scores is not None and scores.pixel_accuracy == 95 / 110
    assert scores.iou == (90 / 105, 5 / 20)


def test_pixels_of_different_classes_do_not_add_up() -> None:
    sums = report.totals([with_pixels("ab", [1, 0], [0, 1]), with_pixels("ac", [1, 0], [0, 1])])
    assert sums is not None and sums.segmented is None


# --- Rows -----------------------------------------------------------------------------------------


def test_a_row_has_what_there_is_to_compare_with(
    codec: Codec, frame: Frame, pixels: NDArray[np.uint8]
) -> None:
    bare = report.row_of(frame, codec, file="a.tac", number=2, folder="photographs")
    assert bare == Row("a.tac", 2, "tiny", report.size_facts(frame, codec.model))
    row = report.row_of(frame, codec, file="a.tac", number=1, folder="cat", original=pixels)
    assert row.fidelity == report.fidelity(pixels, codec.decode(frame))
    assert [rival.codec for rival in row.rivals] == list(report.RIVALS)
    assert row.verdict is not None and row.verdict.expected == "cat"
    unknown = report.row_of(frame, None, file="a.tac", number=1, folder="cat", original=pixels)
    assert unknown == Row("a.tac", 1, frame.fingerprint.hex(), report.size_facts(frame, None))


def test_another_picture_is_refused_before_others_code_it(codec: Codec, frame: Frame) -> None:
    wide = np.zeros((1, 20_000, 3), np.uint8)  # more than WebP can hold
    with pytest.raises(ImageError, match="it is another picture"):
        report.row_of(frame, codec, file="a.tac", number=1, original=wide)


# --- Totals ---------------------------------------------------------------------------------------


def row(size: int, side: int, correct: bool | None, psnr: float, fits: bool) -> Row:
    fidelity = Fidelity(psnr, 0.5)
    return Row(
        "x.tac",
        1,
        "tiny",
        SizeFacts(size, size - 16, side, side, 1, 8.0 * (size - 17)),
        fidelity,
        (Rival("jpeg", 1, 600, fits, fidelity), Rival("webp", 0, 100, True, fidelity)),
        None if correct is None else Verdict("cat", "cat" if correct else "cup", correct),
    )


def test_totals() -> None:
    rows = [row(100, 20, True, 30, True), row(300, 40, False, 40, False)]
    rows.append(row(200, 40, None, math.inf, False))
    sums = report.totals(rows)
    assert sums is not None
    assert (sums.frames, sums.bytes, sums.pixels) == (3, 600, 3600)
    assert sums.mean_bytes == 200
    assert sums.mean_bpp == pytest.approx((2 + 1.5 + 1) / 3)
    assert sums.total_bpp == pytest.approx(4800 / 3600)
    assert sums.fidelity == (35, 0.5)
    assert [(r.codec, r.bytes, r.over) for r in sums.rivals] == [("jpeg", 600, 2), ("webp", 100, 0)]
    assert sums.accuracy == (2, 0.5, *wilson_interval(1, 2))


def test_totals_of_little() -> None:
    assert report.totals([]) is None
    bare = Row("x.tac", 1, "01020304", SizeFacts(20, 4, 8, 8, 1, None))
    sums = report.totals([bare])
    assert sums is not None
    assert (sums.mean_ideal_bpp, sums.fidelity, sums.rivals, sums.accuracy) == (
        None,
        None,
        (),
        None,
    )
    same = report.totals([row(100, 20, None, math.inf, True)])
    assert same is not None and same.fidelity == (math.inf, 0.5)


def test_a_rival_that_cannot_hold_the_picture() -> None:
    wide = np.zeros((1, 20_000, 3), np.uint8)
    with pytest.raises(ImageError, match="webp cannot hold"):
        report.rival("webp", wide, 1000)
    assert image.to_pillow(wide).size == (20_000, 1)
