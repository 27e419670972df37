"""What a picture and each of its pixels show, asked of its decoded frame."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import PHOTOGRAPHS, TINY, Spoilt, teach_to_segment
from PIL import Image
from segmenter import SEGMENT_COLOURS, SEGMENT_LABELS, SEGMENT_SIZE

import tactic_codec
from tactic_codec import container
from tactic_codec import picture as image
from tactic_codec.codec import Codec, load_model
from tactic_codec.errors import DamagedModel, Truncated, UnknownModel, UnknownTask
from tactic_codec.model import Model
from tactic_codec.tasks import (
    SEGMENT,
    Prediction,
    Segmentation,
    classify,
    classify_pixels,
    segment,
    segment_pixels,
)
from tactic_codec.tasks.segment import MAX_SEGMENT_STRIDE

LABELS = ["cat", "cup", "flower", "person", "rocket"]


class FixedLogits:
    """A runtime whose classifier always says the same, and that remembers what it was shown."""

    def __init__(self, codec: Codec, *logits: float) -> None:
        self.codec = codec
        self.logits = logits
        self.shown: list[npt.NDArray[np.float32]] = []

    def open_ahead(self, network: str) -> None:
        pass

    def run(
        self, network: str, array: npt.NDArray[np.float32], **how: Any
    ) -> npt.NDArray[np.float32]:
        if network != "classify":
            return self.codec.runtime.run(network, array, **how)
        self.shown.append(array)
        return np.array([self.logits], np.float32)


def saying(tiny: Codec, *logits: float) -> Codec:
    return Codec(tiny.model, FixedLogits(tiny, *logits))


def grey(height: int = 64, width: int = 64) -> image.Pixels:
    return np.full((height, width, 3), 128, np.uint8)


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda p: p.stem)
def test_predictions_are_a_distribution_most_likely_first(tiny: Codec, path: Any) -> None:
    found = classify(tiny.compress(path).data, codec=tiny)
    assert sorted(p.label for p in found) == LABELS
    assert [LABELS[p.index] for p in found] == [p.label for p in found]
    probabilities = [p.probability for p in found]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-12)
    assert all(type(p.index) is int and type(p.probability) is float for p in found)


def test_probabilities_are_the_softmax_of_the_logits(tiny: Codec) -> None:
    codec = saying(tiny, *np.log([0.1, 0.4, 0.05, 0.25, 0.2]))
    found = classify_pixels(codec, grey())
    assert found[0] == Prediction(1, "cup", pytest.approx(0.4))
    assert [p.index for p in found] == [1, 3, 4, 0, 2]


def test_logits_too_large_for_exp_are_no_trouble(tiny: Codec) -> None:
    best, *others = classify_pixels(saying(tiny, 1e4, -1e4, 3e38, 0, 0), grey())
    assert (best.index, best.probability) == (2, 1)
    assert [p.probability for p in others] == [0, 0, 0, 0]


def test_ties_go_to_the_first_class(tiny: Codec) -> None:
    assert [p.index for p in classify_pixels(saying(tiny, 1, 2, 2, 1, 2), grey())] == [
        1,
        2,
        4,
        0,
        3,
    ]


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (2, 2), (5, 5), (6, 5), (1000, 5)])
def test_top_k_is_at_most_all_classes(tiny: Codec, top_k: int, count: int) -> None:
    data = tiny.compress(grey()).data
    every = classify(data, codec=tiny)
    assert classify(data, top_k, codec=tiny) == every[:count]


@pytest.mark.parametrize("top_k", [0, -1])
def test_fewer_than_one_class_is_refused(tiny: Codec, top_k: int) -> None:
    with pytest.raises(ValueError, match=f"top_k must be at least 1, not {top_k}"):
        classify(tiny.compress(grey()).data, top_k, codec=tiny)


def test_the_network_sees_the_decoded_picture_s_middle_square(tiny: Codec) -> None:
    pixels = grey(100, 200)
    pixels[:, :40], pixels[:, 160:] = (255, 0, 0), (0, 0, 255)
    codec = saying(tiny, 1, 2, 3, 4, 5)
    data = tiny.compress(pixels, 3).data
    classify(data, codec=codec)
    (shown,) = codec.runtime.shown  # type: ignore[attr-defined]
    assert shown.shape == (1, 3, 64, 64)
    assert shown.dtype == np.float32
    decoded = codec.decode(container.parse(data))
    np.testing.assert_array_equal(
        shown[0], image.square(decoded, 64).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    )
    # Red and blue lie outside the middle square of 100 × 100.
    assert np.abs(shown - 128 / 255).max() < 0.2


def test_a_square_picture_of_the_right_size_is_shown_as_it_is(tiny: Codec) -> None:
    codec = saying(tiny, 1, 2, 3, 4, 5)
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    classify_pixels(codec, pixels)
    (shown,) = codec.runtime.shown  # type: ignore[attr-defined]
    np.testing.assert_array_equal(np.rint(shown[0] * 255), pixels.transpose(2, 0, 1))


def probabilities(codec: Codec, pixels: image.Pixels) -> list[float]:
    """In the order of the classes."""
    return [p.probability for p in sorted(classify_pixels(codec, pixels), key=lambda p: p.index)]


def test_what_surrounds_the_middle_square_does_not_count(tiny: Codec) -> None:
    pixels = image.load(PHOTOGRAPHS[0])
    side = min(pixels.shape[:2]) // 2 * 2
    middle = pixels[:side, :side]
    wide = np.pad(middle, ((0, 0), (80, 80), (0, 0)))
    high = np.pad(middle, ((80, 80), (0, 0), (0, 0)), constant_values=255)
    # But for the outermost pixels, into which the scaling filter mixes their neighbours.
    expected = pytest.approx(probabilities(tiny, middle), abs=5e-4)
    assert probabilities(tiny, wide) == expected
    assert probabilities(tiny, high) == expected
    for surrounded in (wide, high):
        squeezed = np.asarray(Image.fromarray(surrounded).resize((64, 64)))
        assert probabilities(tiny, squeezed) != expected


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1)])
def test_thin_pictures_are_classified(tiny: Codec, height: int, width: int) -> None:
    assert len(classify(tiny.compress(grey(height, width)).data, codec=tiny)) == 5


def test_a_model_without_a_classifier_says_so(spoilt: Spoilt, tiny: Codec) -> None:
    spoilt.set("heads", to={})
    codec = load_model(spoilt.path, threads=1)
    with pytest.raises(UnknownTask, match="tiny cannot classify; it has: no task networks"):
        classify(tiny.compress(grey()).data, codec=codec)


@pytest.mark.parametrize("labels", [LABELS[:4], [*LABELS, "dog"], []])
def test_labels_that_do_not_match_the_network_are_damage(
    spoilt: Spoilt, tiny: Codec, labels: list[str]
) -> None:
    spoilt.set("heads", "classify", "labels", to=labels)
    codec = load_model(spoilt.path, threads=1)
    with pytest.raises(DamagedModel, match=f"names {len(labels)} classes"):
        classify(tiny.compress(grey()).data, codec=codec)


def test_another_model_s_frame_is_refused(spoilt: Spoilt, tiny: Codec) -> None:
    spoilt.set("normative", "levels", 0, "minimum", to=-1)
    with pytest.raises(UnknownModel, match="made with the model of fingerprint a292e80f"):
        classify(tiny.compress(grey()).data, codec=load_model(spoilt.path, threads=1))


def test_damaged_bytes_are_refused(tiny: Codec) -> None:
    with pytest.raises(Truncated):
        classify(tiny.compress(grey()).data[:-1], codec=tiny)


def test_a_frame_finds_its_model_by_itself(tiny: Codec, tiny_installed: None) -> None:
    data = tiny.compress(PHOTOGRAPHS[0]).data
    expected = classify(data, 3, codec=tiny)
    for frame in (data, container.parse(data)):
        found = tactic_codec.classify(frame, 3)
        assert [(p.index, p.label) for p in found] == [(p.index, p.label) for p in expected]


def test_a_frame_whose_model_is_not_installed_says_so(tiny: Codec, nothing_installed: Any) -> None:
    with pytest.raises(UnknownModel, match=r"fingerprint a292e80f.*installed: none"):
        classify(tiny.compress(grey()).data)


def test_the_tiny_model_lies_where_it_is_looked_for() -> None:
    assert load_model(TINY, threads=1).model.head("classify").labels == tuple(LABELS)


def test_a_model_that_only_segments_cannot_classify(segmenter: Spoilt, tiny: Codec) -> None:
    segmenter.set("heads", "classify", to=...)
    codec = load_model(segmenter.path, threads=1)
    with pytest.raises(UnknownTask, match="tiny cannot classify; it has: segment"):
        classify(tiny.compress(grey()).data, codec=codec)


# --- Segmentation ---------------------------------------------------------------------------------

RED, GREEN, BLUE = 0, 1, 2


def areas(height: int, width: int, row: int, column: int) -> image.LabelMap:
    """Red above ``row``; below it green, and blue from ``column`` on."""
    labels = np.full((height, width), RED, np.uint8)
    labels[row:, :column] = GREEN
    labels[row:, column:] = BLUE
    return labels


def painted(labels: image.LabelMap) -> image.Pixels:
    """A picture of those areas."""
    colours = np.array([(200, 20, 20), (20, 200, 20), (20, 20, 200)], np.uint8)
    return colours[labels]


class FixedPlanes:
    """A runtime whose segmentation network always says the same."""

    def __init__(self, logits: npt.NDArray[np.float32]) -> None:
        self.logits = logits
        self.shown: list[npt.NDArray[np.float32]] = []

    def open_ahead(self, network: str) -> None:
        pass

    def run(
        self, network: str, array: npt.NDArray[np.float32], **how: Any
    ) -> npt.NDArray[np.float32]:
        self.shown.append(array)
        return self.logits


def drawing(model: Model, logits: Any) -> Codec:
    return Codec(model, FixedPlanes(np.asarray(logits, np.float32)))


@pytest.fixture
def segmenting(segmenter: Spoilt) -> Codec:
    return load_model(segmenter.path, device="cpu", threads=1)


def test_areas_of_known_classes_are_found(segmenting: Codec) -> None:
    expected = areas(64, 64, 24, 40)
    found = segment_pixels(segmenting, painted(expected))
    assert found.labels.dtype == np.uint8
    np.testing.assert_array_equal(found.labels, expected)
    assert found.names == tuple(SEGMENT_LABELS)
    assert found.shares == (24 / 64, 40 * 40 / 64**2, 40 * 24 / 64**2)
    assert all(type(share) is float for share in found.shares)


@pytest.mark.parametrize(
    ("height", "width"),
    [(64, 64), (64, 37), (50, 64), (200, 301), (33, 20), (128, 128), (300, 200)],
)
def test_any_size_is_scaled_and_back(segmenting: Codec, height: int, width: int) -> None:
    expected = areas(height, width, height // 3, width // 2)
    found = segment_pixels(segmenting, painted(expected)).labels
    assert found.shape == (height, width)
    # An output position, and the filter's reach, on both sides of a border.
    reach = 8 * max(1, round(max(height, width) / SEGMENT_SIZE))
    inner = np.ones((height, width), bool)
    inner[height // 3 - reach : height // 3 + reach] = False
    inner[:, width // 2 - reach : width // 2 + reach] = False
    assert inner.sum() > 40
    np.testing.assert_array_equal(found[inner], expected[inner])
    assert (found != expected).mean() < 0.15


@pytest.mark.parametrize("stride", [1, 2, 8, 32])
def test_every_stride_of_a_network_is_mapped_back(spoilt: Spoilt, stride: int) -> None:
    teach_to_segment(spoilt, stride)
    expected = areas(64, 64, 32, 64)
    found = segment_pixels(load_model(spoilt.path, threads=1), painted(expected))
    np.testing.assert_array_equal(found.labels, expected)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (2, 65)])
def test_thin_pictures_are_segmented(segmenting: Codec, height: int, width: int) -> None:
    found = segment(segmenting.compress(grey(height, width)).data, codec=segmenting)
    assert found.labels.shape == (height, width)
    assert sum(found.shares) == pytest.approx(1)


def test_the_network_sees_the_whole_picture_scaled_and_padded(segmenting: Codec) -> None:
    pixels = painted(areas(100, 160, 50, 80))
    codec = drawing(segmenting.model, np.zeros((1, 3, 16, 16)))
    segment_pixels(codec, pixels)
    (shown,) = codec.runtime.shown  # type: ignore[attr-defined]
    np.testing.assert_array_equal(shown, SEGMENT.prepare(pixels, SEGMENT_SIZE))
    assert shown.shape == (1, 3, 64, 64) and shown.dtype == np.float32
    scaled = Image.fromarray(pixels).resize((64, 40), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(
        np.rint(shown[0, :, :40] * 255), np.asarray(scaled).transpose(2, 0, 1)
    )
    # The last row goes on.
    np.testing.assert_array_equal(shown[0, :, 40:], shown[0, :, 39:40].repeat(24, axis=1))


@pytest.mark.parametrize(
    ("height", "width", "size", "expected"),
    [
        (64, 64, 64, (64, 64)),
        (32, 64, 64, (32, 64)),
        (10, 20, 64, (32, 64)),
        (640, 100, 64, (64, 32)),
        (1, 1000, 64, (32, 64)),
        (333, 500, 480, (320, 480)),
        (375, 500, 480, (384, 480)),  # 360 rows, padded
    ],
)
def test_pictures_are_prepared(
    height: int, width: int, size: int, expected: tuple[int, int]
) -> None:
    x = SEGMENT.prepare(grey(height, width), size)
    assert x.shape == (1, 3, *expected)
    assert x.dtype == np.float32 and np.allclose(x, 128 / 255)


def test_a_picture_of_the_right_size_is_not_scaled(segmenting: Codec) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    x = SEGMENT.prepare(pixels, SEGMENT_SIZE)
    np.testing.assert_array_equal(np.rint(x[0] * 255), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("stride", [1, 4, 16, 32])
def test_what_the_network_says_of_the_padding_does_not_count(
    segmenting: Codec, stride: int
) -> None:
    # 40 of 64 rows are the picture's.
    rows = -(-40 // stride)
    logits = np.zeros((1, 3, 64 // stride, 64 // stride))
    logits[:, GREEN, :rows] = 1
    logits[:, BLUE, rows:] = 1e9
    for height, width in ((40, 64), (100, 160), (20, 32)):
        found = segment_pixels(drawing(segmenting.model, logits), grey(height, width))
        assert found.shares == (0, 1, 0)


def test_planes_are_interpolated_before_the_classes_are_compared(segmenting: Codec) -> None:
    logits = np.zeros((1, 3, 2, 2))
    logits[:, GREEN] = (3.0, -1.0)
    labels = segment_pixels(drawing(segmenting.model, logits), grey()).labels
    # 3 - 4 t = 0 at t = 3/4 of the way between the positions' middles, pixels 16 and 48.
    np.testing.assert_array_equal(labels, [[GREEN] * 40 + [RED] * 24] * 64)


def test_of_equal_classes_the_first_is_taken(segmenting: Codec) -> None:
    logits = np.zeros((1, 3, 16, 16))
    assert segment_pixels(drawing(segmenting.model, logits), grey()).shares == (1, 0, 0)
    logits[:, GREEN:] = 5
    assert segment_pixels(drawing(segmenting.model, logits), grey()).shares == (0, 1, 0)


WRONG_SHAPES = [
    (1, 3, 2, 4),  # strides that differ
    (1, 3, 64, 1),
    (1, 3, 1, 1),  # a stride of 64
    (1, 3, 20, 20),  # none at all
    (1, 3, 128, 128),
    (1, 3, 0, 0),
    (1, 2, 16, 16),
    (1, 4, 16, 16),
    (2, 3, 16, 16),
    (3, 16, 16),
    (1, 3),
    (1, 3, 16, 16, 1),
    (),
]


@pytest.mark.parametrize("shape", WRONG_SHAPES, ids=str)
def test_planes_of_another_shape_are_damage(segmenting: Codec, shape: tuple[int, ...]) -> None:
    codec = drawing(segmenting.model, np.zeros(shape))
    with pytest.raises(DamagedModel, match="names 3 classes of a label map"):
        segment_pixels(codec, grey())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_planes_that_are_not_finite_are_damage(segmenting: Codec, value: float) -> None:
    logits = np.zeros((1, 3, 16, 16))
    logits[0, 2, 3, 4] = value
    with pytest.raises(DamagedModel, match="returns infinities"):
        segment_pixels(drawing(segmenting.model, logits), grey())


def test_the_largest_stride_is_allowed(segmenting: Codec) -> None:
    side = SEGMENT_SIZE // MAX_SEGMENT_STRIDE
    assert segment_pixels(drawing(segmenting.model, np.zeros((1, 3, side, side))), grey())


def test_classes_of_the_manifest_that_the_network_lacks_are_damage(
    segmenter: Spoilt, tiny: Codec
) -> None:
    segmenter.set("heads", "segment", "labels", to=[*SEGMENT_LABELS, "more"])
    segmenter.set("heads", "segment", "colours", to=[*SEGMENT_COLOURS, "#000000"])
    with pytest.raises(DamagedModel, match="names 4 classes of a label map"):
        segment(tiny.compress(grey()).data, codec=load_model(segmenter.path, threads=1))


def test_a_model_without_a_segmentation_network_says_so(tiny: Codec) -> None:
    with pytest.raises(UnknownTask, match="tiny cannot segment; it has: classify"):
        segment(tiny.compress(grey()).data, codec=tiny)


def test_a_frame_is_segmented_by_the_model_that_it_names(
    segmenting: Codec, nothing_installed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TACTIC_MODELS", str(segmenting.model.path.parent))
    data = segmenting.compress(painted(areas(64, 64, 32, 32)), 3).data
    expected = segment_pixels(segmenting, segmenting.decode(container.parse(data)))
    found = tactic_codec.segment(data)
    assert isinstance(found, tactic_codec.Segmentation)
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_a_newer_folder_segments_the_frames_of_an_older_one(tiny: Codec, segmenting: Codec) -> None:
    frame = container.parse(tiny.compress(painted(areas(64, 64, 32, 32)), 3).data)
    expected = segment_pixels(segmenting, tiny.decode(frame))
    np.testing.assert_array_equal(segment(frame, codec=segmenting).labels, expected.labels)


def segmentation(labels: image.LabelMap) -> Segmentation:
    colours = tuple((*bytes.fromhex(colour[1:]),) for colour in SEGMENT_COLOURS)
    return Segmentation(labels, tuple(SEGMENT_LABELS), colours, (0.0,) * 3)


def test_label_maps_become_png_with_a_palette() -> None:
    labels = areas(20, 31, 7, 9)
    with Image.open(io.BytesIO(segmentation(labels).to_png())) as found:
        assert (found.format, found.mode, found.size) == ("PNG", "P", (31, 20))
        np.testing.assert_array_equal(np.asarray(found), labels)
        shown = np.asarray(found.convert("RGB"))
    for index, colour in enumerate(SEGMENT_COLOURS):
        assert (shown[labels == index] == tuple(bytes.fromhex(colour[1:]))).all()


def test_an_overlay_is_half_picture_and_half_colours() -> None:
    labels = areas(20, 31, 7, 9)
    pixels = np.random.default_rng(1).integers(0, 256, (20, 31, 3), dtype=np.uint8)
    found = segmentation(labels).overlay(pixels)
    assert found.dtype == np.uint8
    for index, colour in enumerate(SEGMENT_COLOURS):
        expected = (pixels[labels == index].astype(float) + tuple(bytes.fromhex(colour[1:]))) / 2
        np.testing.assert_array_equal(found[labels == index], np.floor(expected))
    with pytest.raises(ValueError, match=r"\[20, 31\] pixels expected, not \[31, 20\]"):
        segmentation(labels).overlay(pixels.transpose(1, 0, 2))
