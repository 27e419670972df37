"""Networks in 8-bit integers: who makes them, who runs them, and what they may not change."""

from pathlib import Path

import numpy as np
import pytest
from conftest import PHOTOGRAPHS, Spoilt, tactic

from tactic_codec import picture as image
from tactic_codec import runtime
from tactic_codec.codec import Codec, load_model
from tactic_codec.errors import DamagedModel
from tactic_codec.picture import Pixels
from tactic_codec.training import eight_bits

FLAGS = "processor : 0\nmodel name : any\n{name} : fpu {flag} sse\nprocessor : 1\n"


@pytest.fixture
def pictures() -> list[Pixels]:
    return [image.square(image.load(path), 96) for path in PHOTOGRAPHS[:3]]


@pytest.fixture
def rounded(spoilt: Spoilt, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with networks in 8 bits, on a processor that gains by them."""
    eight_bits.add(spoilt.path, pictures)
    monkeypatch.setattr(runtime, "multiplies_eight_bits", lambda: True)
    return spoilt.path


def test_a_folder_gets_them_and_keeps_its_fingerprint(
    spoilt: Spoilt, pictures: list[Pixels]
) -> None:
    before = spoilt.model
    eight_bits.add(spoilt.path, pictures)
    after = spoilt.model
    after.verify()
    assert after.fingerprint == before.fingerprint
    names = {f"{name}.8bit.onnx" for name in ("analysis", "synthesis", "classify")}
    assert after.manifest["files"].keys() - before.manifest["files"].keys() == names


def test_each_device_runs_what_it_says(rounded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of(device: str) -> set[str]:
        return set(load_model(rounded, device=device, threads=2).runtime.eight_bits)

    assert of("auto") == {"analysis", "classify"}
    assert of("fast") == {"analysis", "classify", "synthesis"}
    assert of("cpu") == of("torch-cpu") == set()
    monkeypatch.setattr(runtime, "multiplies_eight_bits", lambda: False)
    load = runtime.open_runtime(load_model(rounded, device="cpu").model, "auto")
    assert load.eight_bits == {}


def test_files_decode_to_the_same_pixels_but_for_fast(
    rounded: Path, pictures: list[Pixels]
) -> None:
    codecs = {name: load_model(rounded, device=name) for name in ("auto", "fast", "cpu")}
    for pixels in pictures:
        frame = codecs["auto"].compress(pixels, 2).frame
        shown = {name: codec.decode(frame).astype(int) for name, codec in codecs.items()}
        assert np.array_equal(shown["auto"], shown["cpu"])
        error = np.square(shown["fast"] - shown["cpu"]).mean() ** 0.5
        assert 0 < error < 2


def test_they_are_near_to_the_others(rounded: Path, pictures: list[Pixels]) -> None:
    quick, exact = (load_model(rounded, device=name) for name in ("auto", "cpu"))
    for pixels in pictures:
        error = quick.analyse(pixels) - exact.analyse(pixels)
        assert 0 < np.square(error).mean() ** 0.5 < eight_bits.MOVED
        logits = exact.class_logits(pixels)
        assert np.abs(quick.class_logits(pixels) - logits).max() < 0.1 * np.abs(logits).max()


def test_an_analysis_that_moves_symbols_too_far_is_not_kept(
    rounded: Path, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eight_bits, "MOVED", 0)
    eight_bits.add(rounded, pictures)
    codec = load_model(rounded)
    codec.model.verify()
    assert set(codec.runtime.eight_bits) == {"classify"}
    assert not (rounded / "analysis.8bit.onnx").exists()


def test_a_label_is_kept_for_readers_of_both_kinds(
    rounded: Path, pictures: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = load_model(rounded)
    asked: list[Codec] = []

    def most_likely(self: Codec, pixels: Pixels) -> int:
        asked.append(self)
        # In 8 bits every decoded picture shows something else than the picture itself.
        return 0 if self is not codec else int(not np.array_equal(pixels, pictures[0]))

    monkeypatch.setattr(Codec, "most_likely", most_likely)
    coded = codec.compress(pictures[0], keep_label=True)
    assert {c.runtime.device for c in asked} == {"auto", "cpu"}
    assert coded.label_kept is False


@pytest.mark.parametrize(
    ("name", "flag", "gains"),
    [
        ("flags\t", "avx512_vnni", True),
        ("flags\t", "avx_vnni", True),
        ("Features\t", "asimddp", True),
        ("flags\t", "avx2", False),
        ("Features\t", "asimd", False),
        ("model name\t", "avx_vnni", False),
    ],
)
def test_a_processor_is_asked(
    name: str, flag: str, gains: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "cpuinfo"
    said.write_text(FLAGS.format(name=name, flag=flag))
    monkeypatch.setattr(runtime, "_PROCESSOR", said)
    monkeypatch.setattr(runtime.sys, "platform", "linux")
    assert runtime.multiplies_eight_bits() is gains


def test_a_machine_that_tells_nothing_runs_single_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_PROCESSOR", tmp_path / "none")
    monkeypatch.setattr(runtime.sys, "platform", "linux")
    assert not runtime.multiplies_eight_bits()


def test_a_damaged_one_is_named(rounded: Path, pictures: list[Pixels]) -> None:
    (rounded / "analysis.8bit.onnx").write_bytes(b"")
    with pytest.raises(DamagedModel, match=r"analysis\.8bit\.onnx differs"):
        load_model(rounded).compress(pictures[0])


@pytest.mark.slow
def test_commands_say_what_they_compute_with(
    rounded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    picture, model = PHOTOGRAPHS[0], ("-m", rounded)
    said = tactic("compress", *model, "-v", picture, "a.tac").output
    assert "networks in 8-bit integers: analysis, classify" in said
    said = tactic("decompress", "--fast", "-v", *model, "a.tac", "fast.png").output
    assert "networks in 8-bit integers: analysis, classify, synthesis" in said
    tactic("decompress", *model, "a.tac", "exact.png")
    fast, exact = (image.load(tmp_path / name).astype(int) for name in ("fast.png", "exact.png"))
    assert 0 < np.abs(fast - exact).max() < 32
    said = tactic("bench", *model, "--device", "cpu", "--repeat", "1", picture).output
    assert "networks all in single precision" in said
    refused = tactic("decompress", "--fast", "--device", "cpu", "a.tac", "b.png", code=2).output
    assert "--device or TACTIC_DEVICE says cpu" in refused
