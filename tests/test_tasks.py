"""What a picture shows, asked of its decoded frame."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import PHOTOGRAPHS, TINY, Spoilt
from PIL import Image

import tactic_codec
from tactic_codec import container, image
from tactic_codec.codec import Codec, load_model
from tactic_codec.errors import DamagedModel, Truncated, UnknownModel, UnknownTask
from tactic_codec.tasks import Prediction, classify, classify_pixels

LABELS = ["cat", "cup", "flower", "person", "rocket"]


class FixedLogits:
    """A runtime whose classifier always says the same, and that remembers what it was shown."""

    def __init__(self, codec: Codec, *logits: float) -> None:
        self.codec = codec
        self.logits = logits
        self.shown: list[npt.NDArray[np.float32]] = []

    def run(self, network: str, array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if network != "classify":
            return self.codec.runtime.run(network, array)
        self.shown.append(array)
        return np.array([self.logits], np.float32)


def saying(tiny: Codec, *logits: float) -> Codec:
    return Codec(tiny.model, FixedLogits(tiny, *logits))


def grey(height: int = 64, width: int = 64) -> image.Pixels:
    return np.full((height, width, 3), 128, np.uint8)


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda p: p.stem)
def test_predictions_are_a_distribution_most_likely_first(tiny: Codec, path: Any) -> None:
    found = classify(tiny.compress(path), codec=tiny)
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
    data = tiny.compress(grey())
    every = classify(data, codec=tiny)
    assert classify(data, top_k, codec=tiny) == every[:count]


@pytest.mark.parametrize("top_k", [0, -1])
def test_fewer_than_one_class_is_refused(tiny: Codec, top_k: int) -> None:
    with pytest.raises(ValueError, match=f"top_k must be at least 1, not {top_k}"):
        classify(tiny.compress(grey()), top_k, codec=tiny)


def test_the_network_sees_the_decoded_picture_s_middle_square(tiny: Codec) -> None:
    pixels = grey(100, 200)
    pixels[:, :40], pixels[:, 160:] = (255, 0, 0), (0, 0, 255)
    codec = saying(tiny, 1, 2, 3, 4, 5)
    data = tiny.compress(pixels, 3)
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
    assert len(classify(tiny.compress(grey(height, width)), codec=tiny)) == 5


def test_a_model_without_a_classifier_says_so(spoilt: Spoilt, tiny: Codec) -> None:
    spoilt.set("heads", to={})
    codec = load_model(spoilt.path, threads=1)
    with pytest.raises(UnknownTask, match="tiny cannot classify; it has: no task networks"):
        classify(tiny.compress(grey()), codec=codec)


@pytest.mark.parametrize("labels", [LABELS[:4], [*LABELS, "dog"], []])
def test_labels_that_do_not_match_the_network_are_damage(
    spoilt: Spoilt, tiny: Codec, labels: list[str]
) -> None:
    spoilt.set("heads", "classify", "labels", to=labels)
    codec = load_model(spoilt.path, threads=1)
    with pytest.raises(DamagedModel, match=f"names {len(labels)} classes"):
        classify(tiny.compress(grey()), codec=codec)


def test_another_model_s_frame_is_refused(spoilt: Spoilt, tiny: Codec) -> None:
    spoilt.set("normative", "levels", 0, "minimum", to=-1)
    with pytest.raises(UnknownModel, match="made with the model of fingerprint a292e80f"):
        classify(tiny.compress(grey()), codec=load_model(spoilt.path, threads=1))


def test_damaged_bytes_are_refused(tiny: Codec) -> None:
    with pytest.raises(Truncated):
        classify(tiny.compress(grey())[:-1], codec=tiny)


def test_a_frame_finds_its_model_by_itself(tiny: Codec, tiny_installed: None) -> None:
    data = tiny.compress(PHOTOGRAPHS[0])
    expected = classify(data, 3, codec=tiny)
    for frame in (data, container.parse(data)):
        found = tactic_codec.classify(frame, 3)
        assert [(p.index, p.label) for p in found] == [(p.index, p.label) for p in expected]


def test_a_frame_whose_model_is_not_installed_says_so(tiny: Codec, nothing_installed: Any) -> None:
    with pytest.raises(UnknownModel, match=r"fingerprint a292e80f.*installed: none"):
        classify(tiny.compress(grey()))


def test_the_tiny_model_lies_where_it_is_looked_for() -> None:
    assert load_model(TINY, threads=1).model.head("classify").labels == tuple(LABELS)
