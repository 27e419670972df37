"""The commands, called in this process: what they write, print, refuse and leave behind."""

import csv
import io
import json
import multiprocessing
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import Spoilt, teach_to_detect
from conftest import tactic as run_tactic
from PIL import Image
from segmenter import SEGMENT_COLOURS, SEGMENT_LABELS

from tactic_codec import boxes, container, runtime, tasks
from tactic_codec import codec as codec_room
from tactic_codec import picture as image
from tactic_codec.cli import console, decoding, files, main, options
from tactic_codec.cli.detecting import detect
from tactic_codec.codec import Codec, load_model
from tactic_codec.container import Frame
from tactic_codec.errors import OutOfMemory, TacError, display

MODELS = Path(__file__).parent / "models"
Tactic = Callable[..., Result]


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TACTIC_MODELS", str(MODELS))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "none"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def tactic() -> Tactic:
    return run_tactic


def picture(seed: int = 0, height: int = 24, width: int = 40) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    channels = [(x * 5 + seed * 31) % 256, (y * 7 + seed * 17) % 256, (x + y) * 2 % 256]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def save(path: str | Path, seed: int = 0, **options: Any) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path, **options)
    return path


def frame_bytes(tiny: Codec, seed: int = 0, quality: int = 2) -> bytes:
    return tiny.compress(picture(seed), quality).data


def damaged(frame: bytes) -> bytes:
    """The frame with a wrong checksum."""
    return frame[:-1] + bytes([frame[-1] ^ 1])


def json_lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def all_files(folder: str | Path = ".") -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


# --- compress -------------------------------------------------------------------------------------


def test_one_picture_to_one_file(tactic: Tactic, tiny: Codec) -> None:
    save("a.png")
    result = tactic("compress", "-m", "tiny", "a.png", "a.tac")
    assert result.output == ""
    assert Path("a.tac").read_bytes() == frame_bytes(tiny)
    assert all_files() == {"a.png", "a.tac"}


@pytest.mark.parametrize("quality", [1, 2, 3])
def test_quality_is_the_level(tactic: Tactic, quality: int) -> None:
    save("a.png")
    tactic("compress", "-m", "tiny", "-q", quality, "a.png", "a.tac")
    assert container.parse(Path("a.tac").read_bytes()).level == quality


def test_level_that_the_model_lacks_is_wrong_usage(tactic: Tactic) -> None:
    save("a.png")
    for level in (9, 0, -1, 300):
        result = tactic("compress", "-m", "tiny", "-q", level, "a.png", "a.tac", code=2)
        assert f"model tiny has quality levels 1 to 3, not {level}" in result.stderr
    assert all_files() == {"a.png"}
    assert "tactic models show" in tactic("compress", "--help").stdout


def test_several_pictures_go_to_a_folder(tactic: Tactic) -> None:
    save("a.png", 1)
    save("b.JPG", 2)
    save("noted.v1", 3, format="PNG")
    tactic("compress", "-m", "tiny", "a.png", "b.JPG", "noted.v1", "out")
    assert all_files("out") == {"a.tac", "b.tac", "noted.v1.tac"}


@pytest.mark.parametrize("out", ["there", "new/"])
def test_one_picture_to_a_folder(tactic: Tactic, out: str) -> None:
    save("x/a.png")
    Path("there").mkdir()
    tactic("compress", "-m", "tiny", "x/a.png", out)
    assert all_files(out) == {"a.tac"}


def test_folders_are_mirrored(tactic: Tactic) -> None:
    save("in/a.png", 1)
    save("in/deep/er/b.jpeg", 2)
    save("in/.hidden.png", 3)
    save("in/.git/c.png", 4)
    Path("in/notes.txt").write_text("no picture")
    tactic("compress", "-r", "-m", "tiny", "in", "out")
    assert all_files("out") == {"a.tac", "deep/er/b.tac"}


def test_a_folder_needs_r(tactic: Tactic) -> None:
    save("in/a.png")
    save("b.png")
    result = tactic("compress", "-m", "tiny", "in", "b.png", "out", code=1)
    assert "tactic: in: this is a folder; with -r" in result.stderr
    assert all_files("out") == {"b.tac"}


def test_a_folder_without_pictures_fails(tactic: Tactic) -> None:
    Path("in").mkdir()
    result = tactic("compress", "-r", "-m", "tiny", "in", "out", code=1)
    assert "no file below this folder ends in .jpg" in result.stderr
    assert not Path("out").exists()


def test_two_inputs_never_share_an_output(tactic: Tactic, tiny: Codec) -> None:
    save("a.png", 1)
    save("a.bmp", 2)
    result = tactic("compress", "-f", "-m", "tiny", "a.png", "a.bmp", "out", code=1)
    assert "a.bmp: its result would overwrite that of a.png, out/a.tac" in result.stderr
    assert Path("out/a.tac").read_bytes() == frame_bytes(tiny, 1)


def test_stdin_to_stdout(tactic: Tactic, tiny: Codec) -> None:
    result = tactic("compress", "-m", "tiny", "-", "-", input=save("a.png").read_bytes())
    assert result.stdout_bytes == frame_bytes(tiny)
    assert result.stderr == ""


def test_several_pictures_to_stdout_are_a_stream(tactic: Tactic, tiny: Codec) -> None:
    inputs = [save(f"{i}.png", i) for i in range(3)]
    result = tactic("compress", "-m", "tiny", *inputs, "-")
    assert result.stdout_bytes == b"".join(frame_bytes(tiny, i) for i in range(3))


def test_stdin_to_a_folder(tactic: Tactic) -> None:
    tactic("compress", "-m", "tiny", "-", "out/", input=save("a.png").read_bytes())
    assert all_files("out") == {"stdin-000001.tac"}


def test_bad_files_are_reported_and_the_rest_goes_on(tactic: Tactic) -> None:
    save("good.png")
    Path("empty.png").touch()
    Path("page.jpg").write_bytes(b"%PDF-1.7\n")
    cut = save("cut.jpg").read_bytes()
    Path("cut.jpg").write_bytes(cut[: len(cut) // 2])
    names = ["empty.png", "page.jpg", "missing.png", "cut.jpg", "good.png"]
    result = tactic("compress", "-m", "tiny", *names, "out", code=1)
    lines = result.stderr.splitlines()
    assert [line.split(": ")[1] for line in lines] == names[:4]
    assert (
        "empty" in lines[0] and "PDF" in lines[1] and lines[2].endswith("No such file or directory")
    )
    assert all_files("out") == {"good.tac"}


def test_files_are_not_overwritten_without_f(tactic: Tactic, tiny: Codec) -> None:
    save("a.png")
    Path("a.tac").write_bytes(b"precious")
    result = tactic("compress", "-m", "tiny", "a.png", "a.tac", code=1)
    assert "tactic: a.png: a.tac exists" in result.stderr and "-f" in result.stderr
    assert Path("a.tac").read_bytes() == b"precious"
    tactic("compress", "-f", "-m", "tiny", "a.png", "a.tac")
    assert Path("a.tac").read_bytes() == frame_bytes(tiny)


@pytest.mark.parametrize("out", ["a.tac", "./a.tac", "link.tac"])
def test_the_input_is_never_the_output(tactic: Tactic, out: str) -> None:
    before = save("a.tac", format="PNG").read_bytes()
    Path("link.tac").symlink_to("a.tac")
    result = tactic("compress", "-f", "-m", "tiny", "a.tac", out, code=1)
    assert "same file" in result.stderr
    assert Path("a.tac").read_bytes() == before


def test_a_link_is_written_through(tactic: Tactic, tiny: Codec) -> None:
    save("a.png")
    Path("real.tac").write_bytes(b"old")
    Path("link.tac").symlink_to("real.tac")
    tactic("compress", "-f", "-m", "tiny", "a.png", "link.tac")
    assert Path("link.tac").is_symlink()
    assert Path("real.tac").read_bytes() == frame_bytes(tiny)


def test_devices_are_written_to_and_stay(tactic: Tactic) -> None:
    save("a.png")
    tactic("compress", "-m", "tiny", "a.png", os.devnull)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_output_folder_that_is_missing(tactic: Tactic) -> None:
    save("a.png")
    result = tactic("compress", "-m", "tiny", "a.png", "no/where.tac", code=1)
    assert result.stderr == "tactic: a.png: there is no such folder: no\n"


def test_several_pictures_do_not_fit_into_a_file(tactic: Tactic) -> None:
    save("a.png")
    save("b.png")
    Path("out.tac").touch()
    result = tactic("compress", "-m", "tiny", "a.png", "b.png", "out.tac", code=2)
    assert "'out.tac' is a file; a folder is needed" in result.stderr
    result = tactic("compress", "-m", "tiny", "a.png", "b.png", "both.tac", code=2)
    assert "a folder 'both.tac', which is a file's name" in result.stderr
    assert not Path("both.tac").exists()


def test_limit_on_pixels(tactic: Tactic) -> None:
    save("a.png")
    result = tactic("compress", "-m", "tiny", "--max-pixels", 959, "a.png", "a.tac", code=1)
    assert "limit of 959" in result.stderr
    tactic("compress", "-m", "tiny", "--max-pixels", 960, "a.png", "a.tac")
    assert "960" in tactic("info", "--max-pixels", 959, "a.tac", code=1).stderr


def test_what_decoding_refuses_by_default_says_how_it_is_read(
    tactic: Tactic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "SMALL_MAX_PIXELS", 959)
    save("a.png")
    written = tactic("compress", "-m", "tiny", "a.png", "a.tac")
    assert "tactic: a.png: warning: 960 pixels in so few bytes" in written.stderr
    assert "--max-pixels 960" in written.stderr
    for command in (("decompress", "a.tac", "b.png"), ("classify", "a.tac")):
        assert "raise it with --max-pixels 960" in tactic(*command, code=1).stderr
        tactic(*command, "--max-pixels", 960)
    # What decodes no picture has no reason to refuse it.
    for command in (("info", "a.tac"), ("test", "a.tac")):
        assert tactic(*command).stderr == ""
    assert "--max-pixels 960" in tactic("test", "--symbols", "a.tac", code=1).stderr
    tactic("test", "--symbols", "--max-pixels", 960, "a.tac")


def test_a_stream_that_costs_more_than_its_bytes_is_decoded_to_there(
    tactic: Tactic, tiny: Codec, eyes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three frames of 960 pixels are too many here; two are decoded, and the next input is."""
    monkeypatch.setattr(container, "STREAM_MAX_PIXELS", 2 * 960)
    monkeypatch.setattr(container, "STREAM_PIXELS_PER_BYTE", 0)
    frame = frame_bytes(tiny)
    Path("s.tac").write_bytes(damaged(frame) + frame * 5)
    Path("t.tac").write_bytes(frame)
    refused = "tactic: s.tac: frame 4: with it the stream has 2880 pixels"
    pictures = {"s-0002.png", "s-0003.png", "t.png"}
    for command in ("decompress", "segment"):
        result = tactic(command, "-m", eyes, "s.tac", "t.tac", f"{command}/", code=1)
        assert refused in result.stderr and len(result.stderr.splitlines()) == 2
        assert all_files(command) == pictures
    for command in ("classify", "bpp-report", "test --symbols"):
        result = tactic(*command.split(), "s.tac", "t.tac", code=1)
        assert refused in result.stderr and "--max-pixels 960" in result.stderr
    # Whoever asks for a limit on frames trusts the source to end, and headers cost nothing.
    for args in (("info",), ("test",), ("classify", "--max-pixels", "960")):
        assert len(tactic(*args, "s.tac", "t.tac", code=1).stderr.splitlines()) == 1
    tactic("decompress", "--max-pixels", 960, "-", "all/", input=frame * 5)
    assert len(all_files("all")) == 5


def test_unknown_model(tactic: Tactic) -> None:
    save("a.png")
    result = tactic("compress", "-m", "nobody", "a.png", "a.tac", code=1)
    assert "no model 'nobody'" in result.stderr and "tiny" in result.stderr


def test_a_model_by_its_folder(tactic: Tactic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TACTIC_MODELS")
    save("a.png")
    tactic("compress", "-m", MODELS / "tiny", "a.png", "a.tac")
    tactic("decompress", "-m", MODELS / "tiny", "a.tac", "back.png")
    missing = tactic("decompress", "a.tac", "again.png", code=1).stderr
    assert "not installed" in missing and "--model" in missing


@pytest.mark.parametrize(
    "args", [("compress", "a.png", "b.png"), ("compress",), ("compress", "-", "-", "-")]
)
def test_wrong_usage(tactic: Tactic, args: tuple[str, ...]) -> None:
    save("a.png")
    assert "Error: " in tactic(*args, code=2).stderr


def test_facts_of_compressing(tactic: Tactic) -> None:
    save("a.png")
    result = tactic("compress", "--json", "-v", "-m", "tiny", "a.png", "a.tac")
    (facts,) = json_lines(result)
    size = Path("a.tac").stat().st_size
    assert facts.pop("ms") > 0
    assert facts == {
        "file": "a.png",
        "output": "a.tac",
        "bytes": size,
        "width": 40,
        "height": 24,
        "coded_width": 40,
        "coded_height": 24,
        "bpp": round(8 * size / 960, 6),
        "level": 2,
        "model": "tiny",
    }
    assert f"a.png -> a.tac: {size} bytes, {8 * size / 960:.4f} bpp, level 2, " in result.stderr
    assert tactic("compress", "--json", "-m", "tiny", "a.png", "-", code=2).stdout_bytes == b""
    half = tactic("compress", "-v", "-m", "tiny", "--scale", "0.5", "a.png", "half.tac")
    assert ", level 2 at 20x12, " in half.stderr


@pytest.mark.parametrize("jobs", [0, 3])
def test_threads_change_no_byte_and_no_order(tactic: Tactic, jobs: int) -> None:
    names = [save(f"{i:02}.png", i).name for i in range(12)]
    Path("05.png").write_bytes(b"broken")
    one = tactic("compress", "--json", "-m", "tiny", *names, "one", code=1)
    many = tactic("compress", "--json", "-j", jobs, "-m", "tiny", *names, "many", code=1)
    assert one.stderr == many.stderr
    assert [f["file"] for f in json_lines(many)] == [n for n in names if n != "05.png"]
    assert all_files("one") == all_files("many")
    for name in all_files("one"):
        assert Path("one", name).read_bytes() == Path("many", name).read_bytes()


@pytest.mark.parametrize("jobs", [1, 4])
def test_each_warning_names_its_picture(tactic: Tactic, jobs: int) -> None:
    names = []
    for i in range(6):
        names.append(f"{i}.gif")
        more = [picture(9)] if i % 2 else []
        picture(i).save(names[-1], save_all=True, append_images=more)
    result = tactic("compress", "-j", jobs, "-m", "tiny", *names, "out")
    lines = result.stderr.splitlines()
    assert [line.split(": ")[1:3] for line in lines] == [[f"{i}.gif", "warning"] for i in (1, 3, 5)]
    assert tactic("compress", "-f", "--quiet", "-m", "tiny", *names, "out").stderr == ""


# --- decompress -----------------------------------------------------------------------------------


def test_decompress_to_one_file(tactic: Tactic, tiny: Codec) -> None:
    frame = frame_bytes(tiny)
    Path("a.tac").write_bytes(frame)
    tactic("decompress", "a.tac", "a.png")
    with Image.open("a.png") as found:
        assert np.array_equal(np.asarray(found), tiny.decode(container.parse(frame)))


@pytest.mark.parametrize("name", list(decoding.FORMATS))
def test_formats(tactic: Tactic, tiny: Codec, name: str) -> None:
    Path("a.tac").write_bytes(frame_bytes(tiny))
    tactic("decompress", "--format", name, "a.tac", "out/")
    path = Path("out", "a" + decoding.FORMATS[name])
    assert image.format_of(path) == name
    assert image.load(path).shape == (24, 40, 3)
    tactic("decompress", "a.tac", f"by-suffix{path.suffix}")
    assert Path(f"by-suffix{path.suffix}").read_bytes() == path.read_bytes()


def test_formats_are_those_of_the_image_room() -> None:
    for name in decoding.FORMATS:
        assert image.save(np.zeros((1, 1, 3), np.uint8), name)
    with pytest.raises(TacError, match=", ".join(decoding.FORMATS)):
        image.save(np.zeros((1, 1, 3), np.uint8), "none")


def test_unknown_suffix_is_wrong_usage(tactic: Tactic, tiny: Codec) -> None:
    Path("a.tac").write_bytes(frame_bytes(tiny))
    assert "--format" in tactic("decompress", "a.tac", "a.xyz", code=2).stderr
    tactic("decompress", "--format", "png", "a.tac", "a.xyz")


def test_decompress_a_folder(tactic: Tactic, tiny: Codec) -> None:
    for name in ("in/a.tac", "in/deep/b.TAC", "in/c.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(frame_bytes(tiny))
    tactic("decompress", "-r", "in", "out")
    assert all_files("out") == {"a.png", "deep/b.png"}


def test_frames_of_a_file_are_numbered_in_a_folder(tactic: Tactic, tiny: Codec) -> None:
    Path("s.tac").write_bytes(b"".join(frame_bytes(tiny, i) for i in range(3)))
    Path("one.tac").write_bytes(frame_bytes(tiny))
    tactic("decompress", "s.tac", "one.tac", "out")
    assert all_files("out") == {"s-0001.png", "s-0002.png", "s-0003.png", "one.png"}


def test_a_stream_to_a_folder(tactic: Tactic, tiny: Codec) -> None:
    tactic("decompress", "-", "out/", input=frame_bytes(tiny) * 2)
    assert all_files("out") == {"stdin-0001.png", "stdin-0002.png"}


def test_a_stream_to_stdout(tactic: Tactic, tiny: Codec) -> None:
    result = tactic("decompress", "-", "-", input=frame_bytes(tiny, 1) + frame_bytes(tiny, 2))
    assert result.stdout_bytes.count(b"\x89PNG") == 2


def test_several_frames_do_not_fit_into_a_file(tactic: Tactic, tiny: Codec) -> None:
    Path("s.tac").write_bytes(frame_bytes(tiny) * 2)
    result = tactic("decompress", "s.tac", "s.png", code=1)
    assert "several frames" in result.stderr and "'OUT/'" in result.stderr
    assert all_files() == {"s.tac"}


def test_damaged_frames_are_reported_by_number(tactic: Tactic, tiny: Codec) -> None:
    good = frame_bytes(tiny)
    Path("s.tac").write_bytes(good + damaged(good) + good)
    result = tactic("decompress", "s.tac", "out/", code=1)
    assert result.stderr.startswith("tactic: s.tac: frame 2: checksum ")
    assert all_files("out") == {"s-0001.png", "s-0003.png"}


def test_nothing_is_left_of_a_damaged_file(tactic: Tactic, tiny: Codec) -> None:
    frame = frame_bytes(tiny)
    spoiled = [frame[:n] for n in range(0, len(frame), 5)]
    spoiled += [
        frame[:n] + bytes([frame[n] ^ 1 << n % 8]) + frame[n + 1 :] for n in range(0, len(frame), 3)
    ]
    for data in [*spoiled, frame + b"\0", frame + frame[:9]]:
        Path("a.tac").write_bytes(data)
        result = tactic("decompress", "a.tac", "a.png", code=1)
        assert result.stderr.startswith("tactic: a.tac: ")
        assert all_files() == {"a.tac"}


# --- classify -------------------------------------------------------------------------------------


def test_classify_as_json(tactic: Tactic, tiny: Codec) -> None:
    Path("a.tac").write_bytes(frame_bytes(tiny, 1) + frame_bytes(tiny, 2))
    Path("b.tac").write_bytes(frame_bytes(tiny, 3))
    lines = json_lines(tactic("classify", "--json", "-k", 3, "a.tac", "b.tac"))
    assert [(line["file"], line["frame"]) for line in lines] == [
        ("a.tac", 1),
        ("a.tac", 2),
        ("b.tac", 1),
    ]
    for line in lines:
        assert list(line) == ["file", "frame", "model", "predictions"]
        assert line["model"] == "tiny"
        assert len(line["predictions"]) == 3
        assert list(line["predictions"][0]) == ["index", "label", "probability"]
        chances = [p["probability"] for p in line["predictions"]]
        assert chances == sorted(chances, reverse=True) and 0 < sum(chances) <= 1


def test_classify_for_people(tactic: Tactic, tiny: Codec) -> None:
    Path("a.tac").write_bytes(frame_bytes(tiny))
    lines = tactic("classify", "a.tac").stdout.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("a.tac: ") and line.endswith(" %") for line in lines)
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize("jobs", [1, 3])
def test_classify_a_stream_with_a_damaged_frame(tactic: Tactic, tiny: Codec, jobs: int) -> None:
    good = frame_bytes(tiny)
    stream = good + damaged(good) + good * 5
    result = tactic("classify", "--json", "-j", jobs, "-", input=stream, code=1)
    assert [line["frame"] for line in json_lines(result)] == [1, 3, 4, 5, 6, 7]
    assert result.stderr.startswith("tactic: standard input: frame 2: checksum ")


def test_classify_with_a_model_of_no_such_frame(tactic: Tactic) -> None:
    Path("a.tac").write_bytes(container.pack(Frame(b"\1\2\3\4", 1, 8, 8, b"")))
    for more in ((), ("-m", "tiny")):
        assert "01020304" in tactic("classify", *more, "a.tac", code=1).stderr


# --- detect ---------------------------------------------------------------------------------------


@pytest.fixture
def looker(spoilt: Spoilt) -> Path:
    """The folder of a newer tiny model, which has a detector."""
    teach_to_detect(spoilt)
    return spoilt.path


def test_detect_as_json(tactic: Tactic, tiny: Codec, looker: Path) -> None:
    Path("a.tac").write_bytes(frame_bytes(tiny, 1) + frame_bytes(tiny, 2))
    lines = json_lines(tactic("detect", "--json", "--min-score", 0, "-m", looker, "a.tac"))
    assert [(line["file"], line["frame"]) for line in lines] == [("a.tac", 1), ("a.tac", 2)]
    for number, line in enumerate(lines, start=1):
        expected = tasks.detect(frame_bytes(tiny, number), 0, codec=load_model(looker, threads=1))
        assert list(line) == ["file", "frame", "model", "width", "height", "detections"]
        assert (line["width"], line["height"]) == (expected.width, expected.height)
        assert len(line["detections"]) == len(expected) > 0
        for found, one in zip(line["detections"], expected, strict=True):
            assert found == {
                "label": one.label,
                "index": one.index,
                "score": round(one.score, 4),
                "box": [round(edge, 1) for edge in one.box],
            }


def test_detect_for_people(tactic: Tactic, tiny: Codec, looker: Path) -> None:
    Path("a.tac").write_bytes(frame_bytes(tiny))
    lines = tactic("detect", "--min-score", 0, "-m", looker, "a.tac").stdout.splitlines()
    found = tasks.detect(frame_bytes(tiny), 0, codec=load_model(looker, threads=1))
    assert len(lines) == len(found) > 0
    edges = " ".join(f"{edge:.0f}" for edge in found[0].box)
    assert lines[0] == f"a.tac: {found[0].label} {edges} {found[0].score:.2f}"
    assert tactic("detect", "--min-score", 1, "-m", looker, "a.tac").stdout == ""
    assert "--min-score" in tactic("detect", "--min-score", 2, "a.tac", code=2).stderr
    assert "'nan' is not a number" in tactic("detect", "--min-score", "nan", "a.tac", code=2).stderr
    assert "standard output" in tactic("detect", "--overlay", "-", "a.tac", code=2).stderr


@pytest.mark.parametrize("name", ["look.png", "look.jpg"])
def test_detect_draws(tactic: Tactic, tiny: Codec, looker: Path, name: str) -> None:
    frame = frame_bytes(tiny)
    Path("a.tac").write_bytes(frame)
    args = ("detect", "--json", "-m", looker, "--overlay", name, "a.tac")
    (line,) = json_lines(tactic(*args))
    assert line["output"] == name
    pixels = tiny.decode(container.parse(frame))
    found = tasks.detect(frame, codec=load_model(looker, threads=1)).overlay(pixels)
    assert Path(name).read_bytes() == image.save(found, image.format_of(Path(name)))
    assert f"{name} exists" in tactic(*args, code=1).stderr
    tactic(*args, "-f")


def test_detect_draws_a_folder_and_a_stream(tactic: Tactic, tiny: Codec, looker: Path) -> None:
    Path("in").mkdir()
    Path("in/a.tac").write_bytes(frame_bytes(tiny))
    tactic("detect", "-r", "-j", 2, "-m", looker, "--overlay", "out", "in")
    assert all_files("out") == {"a.png"}
    stream = frame_bytes(tiny) + damaged(frame_bytes(tiny)) + frame_bytes(tiny)
    result = tactic("detect", "-m", looker, "--overlay", "out/", "-", input=stream, code=1)
    assert result.stderr.startswith("tactic: standard input: frame 2: checksum ")
    assert all_files("out") == {"a.png", "stdin-0001.png", "stdin-0003.png"}
    refused = tactic("detect", "-m", looker, "--overlay", "-", "in/a.tac", code=2)
    assert "standard output" in refused.stderr
    refused = tactic("detect", "-m", looker, "--overlay", "a.xyz", "in/a.tac", code=2)
    assert "name a .png file" in refused.stderr


def test_a_model_that_cannot_detect_says_so(tactic: Tactic, tiny: Codec) -> None:
    Path("a.tac").write_bytes(frame_bytes(tiny))
    result = tactic("detect", "a.tac", code=1)
    assert result.stderr == "tactic: a.tac: model tiny cannot detect; it has: classify\n"


# --- segment --------------------------------------------------------------------------------------


def label_map(eyes: Path, frame: bytes) -> image.LabelMap:
    return tasks.segment(frame, codec=load_model(eyes, threads=1)).labels


def test_segment_to_one_file(tactic: Tactic, tiny: Codec, eyes: Path) -> None:
    frame = frame_bytes(tiny)
    Path("a.tac").write_bytes(frame)
    result = tactic("segment", "-m", eyes, "a.tac", "a.png")
    assert result.output == ""
    expected = label_map(eyes, frame)
    assert len(np.unique(expected)) > 1
    with Image.open("a.png") as found:
        assert (found.format, found.mode) == ("PNG", "P")
        np.testing.assert_array_equal(np.asarray(found), expected)
        palette = found.getpalette() or []
    assert palette[:9] == list(bytes.fromhex("".join(c[1:] for c in SEGMENT_COLOURS)))
    np.testing.assert_array_equal(image.load_labels(Path("a.png")), expected)


@pytest.mark.parametrize("name", ["look.png", "look.jpg", "look.webp"])
def test_an_overlay_has_the_format_of_its_suffix(
    tactic: Tactic, tiny: Codec, eyes: Path, name: str
) -> None:
    frame = frame_bytes(tiny)
    Path("a.tac").write_bytes(frame)
    tactic("segment", "--overlay", "-m", eyes, "a.tac", name)
    pixels = tiny.decode(container.parse(frame))
    found = tasks.segment(frame, codec=load_model(eyes, threads=1)).overlay(pixels)
    assert Path(name).read_bytes() == image.save(found, image.format_of(Path(name)))


def test_label_maps_are_png_only(tactic: Tactic, tiny: Codec, eyes: Path) -> None:
    Path("a.tac").write_bytes(frame_bytes(tiny))
    for name in ("a.jpg", "a.xyz", "a"):
        result = tactic("segment", "-m", eyes, "a.tac", name, code=2)
        assert "ask for --overlay" in result.stderr
    assert "get a .png" in tactic("segment", "--overlay", "a.tac", "a.xyz", code=2).stderr
    assert all_files() == {"a.tac"}
    tactic("segment", "-m", eyes, "a.tac", os.devnull)


def test_segment_a_folder_and_a_stream(tactic: Tactic, tiny: Codec, eyes: Path) -> None:
    for name, count in (("in/a.tac", 1), ("in/deep/b.tac", 3)):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"".join(frame_bytes(tiny, i) for i in range(count)))
    tactic("segment", "-r", "-j", 2, "-m", eyes, "in", "out")
    names = {"a.png", "deep/b-0001.png", "deep/b-0002.png", "deep/b-0003.png"}
    assert all_files("out") == names
    expected = label_map(eyes, frame_bytes(tiny, 1))
    np.testing.assert_array_equal(image.load_labels(Path("out/deep/b-0002.png")), expected)
    tactic("segment", "-m", eyes, "-", "more/", input=frame_bytes(tiny) * 2)
    assert all_files("more") == {"stdin-0001.png", "stdin-0002.png"}
    several = tactic("segment", "-m", eyes, "in/deep/b.tac", "b.png", code=1)
    assert "several frames" in several.stderr


def test_segment_from_stdin_to_stdout(tactic: Tactic, tiny: Codec, eyes: Path) -> None:
    result = tactic("segment", "-m", eyes, "-", "-", input=frame_bytes(tiny))
    with Image.open(io.BytesIO(result.stdout_bytes)) as found:
        np.testing.assert_array_equal(np.asarray(found), label_map(eyes, frame_bytes(tiny)))


def test_label_maps_are_not_overwritten_without_f(tactic: Tactic, tiny: Codec, eyes: Path) -> None:
    Path("a.tac").write_bytes(frame_bytes(tiny))
    Path("a.png").write_bytes(b"precious")
    assert "a.png exists" in tactic("segment", "-m", eyes, "a.tac", "a.png", code=1).stderr
    assert Path("a.png").read_bytes() == b"precious"
    tactic("segment", "-f", "-m", eyes, "a.tac", "a.png")
    assert image.load_labels(Path("a.png")).shape == (24, 40)


def test_facts_of_segmenting(tactic: Tactic, tiny: Codec, eyes: Path) -> None:
    good = frame_bytes(tiny)
    Path("s.tac").write_bytes(good + damaged(good) + frame_bytes(tiny, 2))
    result = tactic("segment", "--json", "-v", "-m", eyes, "s.tac", "out/", code=1)
    assert "tactic: s.tac: frame 2: checksum " in result.stderr
    assert "s.tac: frame 1 -> out/s-0001.png: " in result.stderr
    assert all_files("out") == {"s-0001.png", "s-0003.png"}
    first, last = json_lines(result)
    assert list(first) == ["file", "frame", "output", "model", "classes"]
    assert (first["file"], first["frame"], first["output"]) == ("s.tac", 1, "out/s-0001.png")
    assert (first["model"], last["frame"]) == ("tiny", 3)
    counts = np.bincount(label_map(eyes, good).ravel(), minlength=3)
    found = {c["index"]: (c["label"], c["share"]) for c in first["classes"]}
    assert found == {
        i: (SEGMENT_LABELS[i], round(int(n) / 960, 6)) for i, n in enumerate(counts) if n
    }
    shares = [c["share"] for c in first["classes"]]
    assert shares == sorted(shares, reverse=True)
    refused = tactic("segment", "--json", "-m", eyes, "s.tac", "-", code=2)
    assert "--json and the output '-'" in refused.stderr


def test_a_model_that_cannot_segment_says_so(tactic: Tactic, tiny: Codec) -> None:
    Path("a.tac").write_bytes(frame_bytes(tiny))
    result = tactic("segment", "a.tac", "a.png", code=1)
    assert result.stderr == "tactic: a.tac: model tiny cannot segment; it has: classify\n"
    assert all_files() == {"a.tac"}


def test_models_show_the_legend_of_label_maps(tactic: Tactic, eyes: Path) -> None:
    lines = tactic("models", "show", eyes).stdout.splitlines()
    assert "segment      brightest, longer side 64 pixels, 3 classes" in lines
    assert "      2  #0000c1  blue thing" in lines
    assert "classify     tiny, 64 x 64 pixels, 5 classes" in lines
    (manifest,) = json_lines(tactic("models", "show", eyes, "--json"))
    assert manifest["heads"]["segment"]["labels"] == SEGMENT_LABELS
    assert manifest["heads"]["segment"]["colours"] == SEGMENT_COLOURS


def test_models_list_all_tasks(tactic: Tactic, eyes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TACTIC_MODELS", f"{MODELS}{os.pathsep}{eyes.parent}")
    heading, *rows = tactic("models", "list").stdout.splitlines()
    assert any("classify, segment" in row for row in rows)
    assert {row.index("kB") + 4 for row in rows if "kB" in row} == {heading.index("path")}


# --- info and test --------------------------------------------------------------------------------


def test_info(tactic: Tactic, tiny: Codec) -> None:
    frame = container.parse(frame_bytes(tiny))
    stranger = Frame(b"\1\2\3\4", 7, 300, 20, b"abc")
    Path("s.tac").write_bytes(container.pack(frame) + container.pack(stranger))
    first, second = json_lines(tactic("info", "--json", "s.tac"))
    assert first == {
        "file": "s.tac",
        "frame": 1,
        "version": 1,
        "width": 40,
        "height": 24,
        "coded_width": 40,
        "coded_height": 24,
        "level": 2,
        "fingerprint": tiny.model.fingerprint.hex(),
        "model": "tiny",
        "bytes": frame.size,
        "payload_bytes": len(frame.payload),
        "metadata": {},
        "bpp": round(8 * frame.size / 960, 6),
    }
    assert (second["frame"], second["model"], second["level"]) == (2, None, 7)
    heading, *rows = tactic("info", "s.tac").stdout.splitlines()
    assert heading.split()[-1] == "file" and len(rows) == 2
    assert "tiny" in rows[0] and "01020304" in rows[1]


def test_info_goes_on_behind_damage(tactic: Tactic, tiny: Codec) -> None:
    good = frame_bytes(tiny)
    Path("bad.tac").write_bytes(b"no frame")
    Path("s.tac").write_bytes(damaged(good) + good)
    result = tactic("info", "--json", "bad.tac", "s.tac", code=1)
    assert [(line["file"], line["frame"]) for line in json_lines(result)] == [("s.tac", 2)]
    assert len(result.stderr.splitlines()) == 2


def test_test(tactic: Tactic, tiny: Codec) -> None:
    good = frame_bytes(tiny)
    Path("a.tac").write_bytes(good)
    Path("b.tac").write_bytes(good + damaged(good))
    Path("c.tac").write_bytes(good * 2)
    result = tactic("test", "a.tac", "b.tac", "c.tac", code=1)
    assert result.stdout == "a.tac: OK\nb.tac: FAILED\nc.tac: OK (2 frames)\n"
    assert result.stderr.startswith("tactic: b.tac: frame 2: checksum")
    assert tactic("test", "--quiet", "a.tac", "b.tac", code=1).stdout == "b.tac: FAILED\n"
    lines = json_lines(tactic("test", "--json", "a.tac", "b.tac", code=1))
    assert lines[0] == {"file": "a.tac", "ok": True, "frames": 1, "errors": []}
    assert lines[1]["ok"] is False and lines[1]["errors"][0].startswith("frame 2: checksum")


def test_test_takes_a_file_that_is_named_twice_for_two(tactic: Tactic, tiny: Codec) -> None:
    Path("a.tac").write_bytes(frame_bytes(tiny))
    assert tactic("test", "a.tac", "a.tac").stdout == "a.tac: OK\na.tac: OK\n"
    assert [o["frames"] for o in json_lines(tactic("test", "--json", "a.tac", "a.tac"))] == [1, 1]


def test_test_symbols(tactic: Tactic, tiny: Codec) -> None:
    # All ones: no encoder writes this payload, though its checksum is right.
    frame = Frame(tiny.model.fingerprint, 2, 64, 64, b"\xff" * 40)
    Path("a.tac").write_bytes(container.pack(frame))
    tactic("test", "a.tac")
    assert "outside" in tactic("test", "--symbols", "a.tac", code=1).stderr
    Path("b.tac").write_bytes(frame_bytes(tiny))
    tactic("test", "--symbols", "b.tac")
    tactic("test", "--symbols", "-m", "tiny", "b.tac")
    assert "--symbols" in tactic("test", "-m", "tiny", "b.tac", code=2).stderr


@pytest.mark.parametrize("command", ["info", "test", "classify", "bpp-report"])
def test_empty_stdin_is_no_success(tactic: Tactic, command: str) -> None:
    assert "standard input: empty" in tactic(command, "-", input=b"", code=1).stderr


# --- bpp-report -----------------------------------------------------------------------------------


@pytest.fixture
def coded(tiny: Codec) -> Path:
    """Two classes and a file outside them, with their originals."""
    for i, name in enumerate(["cat/a", "cat/b", "rocket/a", "c"]):
        save(f"originals/{name}.png", i)
        path = Path(f"coded/{name}.tac")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(frame_bytes(tiny, i))
    return Path("coded")


def test_report_as_json(tactic: Tactic, coded: Path) -> None:
    *rows, last = json_lines(tactic("bpp-report", coded, "--json"))
    assert [row["file"] for row in rows] == [
        "coded/c.tac",
        "coded/cat/a.tac",
        "coded/cat/b.tac",
        "coded/rocket/a.tac",
    ]
    for row in rows:
        size = Path(row["file"]).stat().st_size
        assert row["bytes"] == size
        assert row["bpp"] == round(8 * size / 960, 6)
        assert row["payload_bpp"] < row["bpp"]
        # In so short a payload the zero bytes that are left out may be worth a few bits.
        assert abs(row["ideal_bpp"] - row["payload_bpp"]) * 960 < 16
        assert (row["model"], row["level"]) == ("tiny", 2)
    totals = last["totals"]
    assert totals["frames"] == 4 and totals["pixels"] == 4 * 960
    assert totals["bytes"] == sum(row["bytes"] for row in rows)
    assert totals["accuracy"]["pictures"] == 3
    assert "correct" not in rows[0] and rows[1]["expected"] == "cat"


def test_report_with_originals(tactic: Tactic, coded: Path) -> None:
    result = tactic("bpp-report", coded, "--originals", "originals", "--json", "-j", 2)
    *rows, last = json_lines(result)
    for row in rows:
        assert row["psnr"] > 5 and 0 <= row["ms_ssim"] <= 1
        for rival in (row["jpeg"], row["webp"]):
            assert rival["fits"] == (rival["bytes"] <= row["bytes"])
    # So small a picture leaves JPEG no room for more than its header.
    assert last["totals"]["jpeg"]["over"] == 4
    assert result.stdout == tactic("bpp-report", coded, "--originals", "originals", "--json").stdout


def test_report_beside_chosen_codecs(tactic: Tactic, tiny: Codec) -> None:
    save("originals/a.png")
    Path("a.tac").write_bytes(frame_bytes(tiny))
    command = ("bpp-report", "a.tac", "--originals", "originals", "--format", "json", "--with")
    row, sums = json_lines(tactic(*command, "avif,jpeg"))
    assert {"avif", "jpeg"} <= row.keys() and "webp" not in row
    assert [name for name in sums["totals"] if name in ("avif", "jpeg", "webp")] == ["avif", "jpeg"]
    assert not {"avif", "jpeg", "webp"} & json_lines(tactic(*command, ""))[0].keys()
    found = tactic(*command, "jpeg,gif", code=2)
    assert "--with" in found.stderr and "no codec is called 'gif'" in found.stderr


def test_report_as_csv(tactic: Tactic, coded: Path) -> None:
    text = tactic("bpp-report", coded, "--originals", "originals", "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["file"] for row in rows[-2:]] == ["MEAN", "SUM"]
    sizes = [int(row["bytes"]) for row in rows[:-2]]
    assert float(rows[-2]["bytes"]) == sum(sizes) / 4 and int(rows[-1]["bytes"]) == sum(sizes)
    assert float(rows[-2]["correct_low"]) <= float(rows[-2]["correct"])
    assert {"psnr", "jpeg_bytes", "webp_ms_ssim", "ideal_bpp"} <= set(rows[0])


def test_report_as_table(tactic: Tactic, coded: Path) -> None:
    lines = tactic("bpp-report", coded, "--originals", "originals").stdout.splitlines()
    assert lines[0].split()[:2] == ["bytes", "size"]
    assert lines[1].endswith("coded/c.tac") and ">" in lines[1]
    assert lines[5].endswith("mean") and lines[6].endswith("sum of 4")
    assert lines[-1].startswith("top-1 accuracy: ") and "95 % interval" in lines[-1]
    assert any(line.startswith("jpeg: for 4 of 4 pictures") for line in lines)


def test_report_without_or_with_wrong_originals(tactic: Tactic, coded: Path) -> None:
    Path("originals/c.png").unlink()
    save("originals/cat/a.jpg")
    picture(0, 5, 5).save("originals/rocket/a.png")
    args = ("bpp-report", coded, "--originals", "originals", "--json")
    result = tactic(*args, code=1)
    first, second, third = result.stderr.splitlines()
    assert "coded/c.tac: there is no original originals/c" in first
    assert "coded/cat/a.tac: there are several originals" in second
    assert "the original has 5 x 5 pixels, the frame 40 x 24" in third
    assert [row.get("file") for row in json_lines(result)] == ["coded/cat/b.tac", None]


def test_report_without_the_model(
    tactic: Tactic, coded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TACTIC_MODELS", "")
    result = tactic("bpp-report", coded / "c.tac", "--json")
    assert json_lines(result)[0]["ideal_bpp"] is None
    assert "warning: no ideal_bpp" in result.stderr


def test_report_of_a_stream_and_of_nothing(tactic: Tactic, coded: Path) -> None:
    data = (coded / "c.tac").read_bytes()
    lines = json_lines(tactic("bpp-report", "--json", "-", input=data * 2))
    assert [line.get("frame") for line in lines] == [1, 2, None]
    Path("empty").mkdir()
    assert "ends in .tac" in tactic("bpp-report", "empty", code=1).stderr


@pytest.fixture
def masks(tiny: Codec, coded: Path, eyes: Path) -> Path:
    """Label maps of the coded pictures: what the model finds, but for a row and a void column."""
    for path in coded.rglob("*.tac"):
        labels = label_map(eyes, path.read_bytes())
        labels[0] = (labels[0] + 1) % 3
        labels[:, 0] = 255
        target = Path("masks", path.relative_to(coded)).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(target)
    return Path("masks")


RIGHT = 23 / 24  # one row of 24 is wrong, and the void column does not count


def test_report_with_masks_as_json(tactic: Tactic, coded: Path, masks: Path, eyes: Path) -> None:
    result = tactic("bpp-report", coded, "--masks", masks, "-m", eyes, "--json", "-j", 2)
    *rows, last = json_lines(result)
    assert result.stderr == "" and len(rows) == 4
    for row in rows:
        assert row["pixel_accuracy"] == round(RIGHT, 6) and 0 < row["mean_iou"] < 1
    found = last["totals"]["segmentation"]
    assert found["pixels"] == 4 * 24 * 39
    assert found["pixel_accuracy"] == round(RIGHT, 6)
    assert [(c["index"], c["label"]) for c in found["classes"]] == [*enumerate(SEGMENT_LABELS)]
    known = [c["iou"] for c in found["classes"] if c["iou"] is not None]
    assert found["mean_iou"] == pytest.approx(sum(known) / len(known), abs=1e-5)


def test_report_with_masks_as_csv(tactic: Tactic, coded: Path, masks: Path, eyes: Path) -> None:
    args = ("bpp-report", coded, "--masks", masks, "-m", eyes, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(tactic(*args).stdout)))
    mean, total = rows[-2:]
    assert {row["pixel_accuracy"] for row in rows[:-2]} == {str(round(RIGHT, 6))}
    assert mean["pixel_accuracy"] == mean["mean_iou"] == ""
    assert total["pixel_accuracy"] == str(round(RIGHT, 6)) and 0 < float(total["mean_iou"]) < 1
    assert set(rows[0]) >= {f"iou_{i}_{label}" for i, label in enumerate(SEGMENT_LABELS)}
    assert "iou" not in rows[0] and "segmentation_iou" not in rows[0]


def test_report_with_masks_as_table(tactic: Tactic, coded: Path, masks: Path, eyes: Path) -> None:
    lines = tactic("bpp-report", coded, "--masks", masks, "-m", eyes).stdout.splitlines()
    assert "pixel acc." in lines[0] and "mIoU" in lines[0]
    assert all("95.8 %" in line for line in (*lines[1:5], lines[6])) and "sum of 4" in lines[6]
    assert any(
        line.startswith("pixel accuracy: 95.8 %, mIoU: ") and line.endswith("of 3744 pixels")
        for line in lines
    )
    assert any(line.startswith(f"IoU of {SEGMENT_LABELS[0]} (0): ") for line in lines)


def test_report_with_masks_that_are_missing_or_wrong(
    tactic: Tactic, coded: Path, masks: Path, eyes: Path
) -> None:
    (masks / "c.png").unlink()
    picture(0).save(masks / "cat/a.png")
    Image.new("L", (5, 6)).save(masks / "cat/b.png")
    args = ("bpp-report", coded, "--masks", masks, "-m", eyes, "--json")
    result = tactic(*args, code=1)
    first, second, third = result.stderr.splitlines()
    assert "coded/c.tac: there is no label map masks/c.png" in first
    assert "coded/cat/a.tac: this PNG has mode RGB" in second
    assert "the label map has 5 x 6 pixels, the frame 40 x 24" in third
    assert [row.get("file") for row in json_lines(result)] == ["coded/rocket/a.tac", None]


def test_report_with_masks_that_are_void(
    tactic: Tactic, coded: Path, masks: Path, eyes: Path
) -> None:
    Image.new("L", (40, 24), 255).save(masks / "c.png")
    args = ("bpp-report", coded / "c.tac", "--masks", masks, "-m", eyes)
    row, last = json_lines(tactic(*args, "--json"))
    assert (row["pixel_accuracy"], row["mean_iou"]) == (None, None)
    assert last["totals"]["segmentation"]["pixels"] == 0
    assert "no pixel of the label maps has a class" in tactic(*args).stdout
    assert "iou_0_red thing" in tactic(*args, "--format", "csv").stdout


def test_report_with_masks_and_a_model_that_cannot_segment(
    tactic: Tactic, coded: Path, masks: Path
) -> None:
    result = tactic("bpp-report", coded, "--masks", masks, "--json")
    assert "masks: warning: label maps are of no use here" in result.stderr
    *rows, last = json_lines(result)
    assert len(rows) == 4 and "segmentation" not in last["totals"]
    assert not any("pixel_accuracy" in row for row in rows)


# --- models ---------------------------------------------------------------------------------------


def broken_models(tmp_path: Path) -> Path:
    """A folder with a model whose table is damaged and one whose manifest is."""
    for name in ("spoiled", "unreadable"):
        copy = tmp_path / "models" / name
        copy.mkdir(parents=True)
        for file in (MODELS / "tiny").iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
    (tmp_path / "models" / "unreadable" / "model.json").write_text("{")
    (tmp_path / "models" / "spoiled" / "tables.npz").write_bytes(b"PK")
    return tmp_path / "models"


def test_models_list(tactic: Tactic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TACTIC_MODELS", f"{MODELS}{os.pathsep}{broken_models(tmp_path)}")
    text = tactic("models", "list").stdout
    assert "tiny" in text and re.search("unreadable +damaged .*not JSON", text)
    found = {line["name"]: line for line in json_lines(tactic("models", "list", "--json"))}
    assert found["tiny"]["levels"] == 3 and found["tiny"]["tasks"] == ["classify"]
    assert found["tiny"]["default"] is False
    assert "not JSON" in found["unreadable"]["damaged"]


def test_models_show(tactic: Tactic, tiny: Codec) -> None:
    text = tactic("models", "show", "tiny").stdout
    for expected in (tiny.model.fingerprint.hex(), "8 pixels", "1 to 3", "MACs", "5 classes"):
        assert expected in text
    (manifest,) = json_lines(tactic("models", "show", str(MODELS / "tiny"), "--json"))
    assert manifest["name"] == "tiny" and "labels" not in manifest["heads"]["classify"]
    assert "no model 'nobody'" in tactic("models", "show", "nobody", code=1).stderr


def test_models_show_is_read_by_people(tactic: Tactic, spoilt: Spoilt) -> None:
    points = [
        {"level": 1, "bytes": 986.8713, "iou": [0.9048, 0.5], "accuracy": None},
        {"level": 2, "bytes": 8141.3267, "iou": [0.95], "interval": [0.25, 0.75]},
    ]
    spoilt.set("metrics", to={"photos": points, "seed": 1})
    spoilt.set("training", to={"config": {"stage": [{"steps": 9, "name": "joint"}], "masks": None}})
    text = tactic("models", "show", spoilt.path).stdout
    assert text.endswith(
        """
training
  config
    stage
      steps      9
      name   joint

metrics
  seed  1
  photos
    level            1       2
    bytes       986.87  8141.3
    iou 0       0.9048    0.95
    iou 1          0.5       -
    interval 0       -    0.25
    interval 1       -    0.75
"""
    )
    for wild in ({"a": [[]]}, {"a": [{}]}, {"a": [{"b": [{"c": [1, None]}]}]}, {"a": {"b": "\n"}}):
        spoilt.set("metrics", to=wild)
        assert "metrics" in tactic("models", "show", spoilt.path).stdout
    deep: Any = 1
    for _ in range(400):
        deep = {"a": deep}
    spoilt.set("metrics", to=deep)
    assert "metrics" in tactic("models", "show", spoilt.path).stdout


def test_tables() -> None:
    rows = [["name", "n", "path"], ["a", "10", "/x"], ["long name", "9", ""]]
    assert console.table(rows, left=(0, -1)) == [
        "name        n  path",
        "a          10  /x",
        "long name   9",
    ]
    assert console.table([["n"], ["1"]], left=(), least=(4,)) == ["   n", "   1"]


def test_bench(tactic: Tactic, tiny: Codec) -> None:
    save("a.png")
    lines = tactic("bench", "-m", "tiny", "-q", "2", "--repeat", "2", "a.png").stdout.splitlines()
    assert re.fullmatch(r"a\.png: \d+x\d+, tiny -q 2, networks all in single precision", lines[0])
    assert [line.split()[:2] for line in lines[2:]] == [
        *(["tiny", step] for step in ("compress", "decompress", "classify")),
        *([name, s] for name in ("jpeg", "webp", "avif") for s in ("compress", "decompress")),
    ]
    assert {line.split()[2] for line in lines[2:5]} == {str(len(frame_bytes(tiny)))}


def test_bench_as_json(tactic: Tactic, eyes: Path) -> None:
    save("a.png")
    with Image.open("a.png") as picture:
        pixels = picture.width * picture.height
    found = json_lines(
        tactic("bench", "-m", eyes, "--repeat", "1", "--threads", "1", "--json", "a.png")
    )
    steps = {(line["coder"], line["step"]): line for line in found}
    assert {step for _, step in steps} == {"compress", "decompress", "classify", "segment"}
    for line in found:
        assert 0 < line["ms"] <= line["slowest_ms"] and line["bytes"] > 0
        peer = steps.get(("avif", line["step"]))
        assert line["of_avif"] == (peer and round(line["ms"] / peer["ms"], 6))
        assert line["megapixels_per_second"] == round(pixels / line["ms"] / 1000, 6)


def test_bench_refuses_what_is_no_picture(tactic: Tactic) -> None:
    save("a.png")
    Path("text").write_text("text")
    assert "tactic: text: this is text" in tactic("bench", "-m", "tiny", "text", code=1).stderr
    said = tactic("bench", "-m", "tiny", "nothing", code=1).stderr
    assert said == "tactic: nothing: No such file or directory\n"
    assert "quality levels 1 to" in tactic("bench", "-m", "tiny", "-q", "9", "a.png", code=2).stderr


@pytest.mark.parametrize("part", ["complexity", "training", "metrics"])
def test_models_show_refuses_what_is_no_object(tactic: Tactic, spoilt: Spoilt, part: str) -> None:
    spoilt.set(part, to="by hand")
    shown = tactic("models", "show", spoilt.path, code=1).stderr
    assert f"the manifest's '{part}' is no object, but by hand" in shown and "bug" not in shown


def test_models_verify(tactic: Tactic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tactic("models", "verify", "tiny").stdout == "tiny: OK\n"
    monkeypatch.setenv("TACTIC_MODELS", f"{MODELS}{os.pathsep}{broken_models(tmp_path)}")
    result = tactic("models", "verify", code=1)
    for line in ("tiny: OK", "spoiled: FAILED", "unreadable: FAILED"):
        assert line in result.stdout.splitlines()
    assert "tables.npz differs" in result.stderr
    (verdict,) = json_lines(tactic("models", "verify", "--json", "spoiled", code=1))
    assert verdict["ok"] is False and "tables.npz" in verdict["error"]


# --- train and export -----------------------------------------------------------------------------


def test_training_refuses_early(tactic: Tactic) -> None:
    Path("bad.toml").write_text("nonsense = 1")
    Path("data").mkdir()
    args = ("train", "bad.toml", "--data", "data", "--out", "model")
    assert tactic(*args, code=1).stderr.startswith("tactic: ")
    assert tactic("export", "nothing", "--out", "model", code=1).stderr.startswith("tactic: ")
    assert tactic("train", "bad.toml", "--out", "model", code=2).stderr.count("--data")


# --- Inputs ---------------------------------------------------------------------------------------


def test_lists_whose_names_end_otherwise_are_refused(tactic: Tactic) -> None:
    save("a.png")
    compress = ("compress", "-m", "tiny", "--files-from", "-", "-o", "out/")
    assert "use -0" in tactic(*compress, code=2, input=b"./a.png\0").stderr
    assert "leave out -0" in tactic(*compress, "-0", code=2, input=b"a.png\nb.png\n").stderr
    tactic(*compress, "-0", input=b"a.png\0")
    tactic(*compress, "-f", input=b"a.png\n")
    tactic(*compress, "-f", input=b"\xef\xbb\xbfa.png\r\n")  # as Windows writes it
    said = tactic(*compress, code=2, input=b"./a.png\0").stderr
    assert "the list on standard input holds zero bytes" in said


def test_a_broken_link_is_an_error_and_no_folder(tactic: Tactic) -> None:
    save("in/a.png")
    Path("in/broken.jpg").symlink_to("/gone/b.jpg")
    result = tactic("compress", "-r", "-m", "tiny", "in", "-o", "out/", code=1)
    assert result.stderr == "tactic: in/broken.jpg: No such file or directory\n"
    assert Path("out/a.tac").exists()


@pytest.mark.parametrize("command", ["compress", "decompress", "info"])
def test_addresses_are_not_opened(tactic: Tactic, command: str) -> None:
    out = [] if command == "info" else ["-o", "out/"]
    result = tactic(command, "http://example.org/a.jpg", *out, code=1)
    assert result.stderr.startswith("tactic: http://example.org/a.jpg: addresses are not opened")


def test_an_output_with_a_suffix_of_inputs_says_what_outputs_end_in(tactic: Tactic) -> None:
    save("a.png")
    assert "ends in .tac" in tactic("compress", "a.png", "b.jpg", code=2).stderr
    assert "ends in .png" in tactic("decompress", "a.tac", "b.tac", code=2).stderr


def test_what_folders_hold_and_is_not_taken_is_counted(tactic: Tactic, tmp_path: Path) -> None:
    for name in ("in/a.png", "in/deep/.b.png", "in/.git/c.png"):
        save(name)
    for name in ("1.MOV", "deep/2.MOV", "3.CR2", "Makefile", ".DS_Store"):
        Path("in", name).touch()
    Path("in/link").symlink_to(tmp_path)
    result = tactic("compress", "-r", "-m", "tiny", "in", "-o", "out/")
    assert result.stderr == (
        "passed over: 2 .MOV, 1 .CR2, 1 hidden folder, 1 link to a folder, "
        "1 hidden file, 1 file without a suffix\n"
    )
    assert tactic("compress", "-rf", "--quiet", "-m", "tiny", "in", "-o", "out/").stderr == ""
    assert tactic("classify", "-r", "out").stderr == ""
    Path("out/shown.png").touch()
    for command in ("classify", "info", "test", "decompress -o back/"):
        assert "passed over: 1 .png\n" in tactic(*command.split(), "-r", "out").stderr


def test_a_pipe_among_the_remains_is_not_waited_for(tactic: Tactic) -> None:
    save("a.png")
    Path("out").mkdir()
    os.mkfifo("out/.tactic-x.tmp")
    tactic("compress", "-m", "tiny", "a.png", "out/a.tac")
    assert Path("out/a.tac").exists()


def test_a_folder_of_what_lacks_a_package_says_which(
    tactic: Tactic, monkeypatch: pytest.MonkeyPatch
) -> None:
    save("in/a.png")
    Path("in/b.HEIC").touch()
    below = files.below
    monkeypatch.setattr(files, "below", lambda path, _, passed: below(path, (".png",), passed))
    result = tactic("compress", "-r", "-m", "tiny", "in", "-o", "out/")
    assert result.stderr == (
        "passed over: 1 .HEIC\nsome of these are read with a package: pip install pillow-heif\n"
    )
    assert "pip" not in tactic("info", "-r", "out", code=1).stderr


def test_many_kinds_of_files_are_counted_on_one_short_line(tactic: Tactic) -> None:
    save("in/a.png")
    for number in range(100):
        Path(f"in/{number}.{number}\n").touch()
    (line,) = tactic("compress", "-r", "-m", "tiny", "in", "out").stderr.splitlines()
    assert line.endswith(", 88 others") and "\\n" in line


def test_lists_of_names(tactic: Tactic) -> None:
    for name in ("a.png", "b c.png", "d\ne.png"):
        save(name)
    Path("list").write_bytes(b"a.png\r\n\nb c.png\n")
    tactic("compress", "-m", "tiny", "--files-from", "list", "out")
    assert all_files("out") == {"a.tac", "b c.tac"}
    names = b"d\ne.png\0a.png\0"
    tactic("compress", "-m", "tiny", "-0", "--files-from", "-", "-o", "new", input=names)
    assert all_files("new") == {"a.tac", "d\ne.tac"}
    Path("frames").write_text("out/a.tac\nmissing.tac")
    for command in ("info", "test", "classify"):
        result = tactic(command, "--files-from", "frames", "out/b c.tac", code=1)
        assert "out/a.tac" in result.stdout and "out/b c.tac" in result.stdout
        assert result.stderr == "tactic: missing.tac: No such file or directory\n"
    result = tactic("decompress", "--files-from", "frames", "back", code=1)
    assert all_files("back") == {"a.png"}


def test_lists_that_are_empty_or_missing(tactic: Tactic) -> None:
    assert (
        tactic("compress", "-m", "tiny", "--files-from", "-", "-o", "out", input=b"").output == ""
    )
    assert not Path("out").exists()
    assert (
        "'none' cannot be read: No such file"
        in tactic("compress", "--files-from", "none", "-o", "out", code=2).stderr
    )
    assert "name a folder" in tactic("compress", "--files-from", "-", code=2, input=b"a\n").stderr
    assert "--files-from" in tactic("info", "-0", "a.tac", code=2).stderr


@pytest.mark.parametrize("command", ["classify", "decompress", "info", "test", "bpp-report"])
def test_a_picture_in_place_of_a_frame_is_named(tactic: Tactic, command: str) -> None:
    save("my photo.jpg")
    out = ["-o", "out/"] if command == "decompress" else []
    result = tactic(command, "my photo.jpg", *out, code=1)
    assert "this is a JPEG picture, and a .tac file was expected" in result.stderr
    assert "\"tactic compress 'my photo.jpg'\"" in result.stderr
    assert not Path("out").exists()


def test_other_files_in_place_of_a_frame_are_named(tactic: Tactic, tiny: Codec) -> None:
    for content, kind in ((b"%PDF-1.7\n", "a PDF document"), (b"hello", "text")):
        Path("a.tac").write_bytes(content)
        for command in ("info", "decompress"):
            stderr = tactic(command, "a.tac", code=1).stderr
            assert stderr == f"tactic: a.tac: this is {kind}, and a .tac file was expected\n"
    Path("a.tac").write_bytes(b"\xde\xad\xbe\xef\1")
    assert "begins with de ad be" in tactic("info", "a.tac", code=1).stderr
    # Behind a frame nobody takes what follows for a picture's file.
    Path("b.tac").write_bytes(frame_bytes(tiny) + save("b.png").read_bytes())
    assert "a .tac frame begins with 89 54 41" in tactic("info", "b.tac", code=1).stderr


def test_what_shows_behind_transparent_parts(tactic: Tactic, tiny: Codec) -> None:
    Image.new("RGBA", (40, 24), (255, 255, 255, 0)).save("logo.png")
    for colour in ("black", "#ff8000"):
        tactic("compress", "-f", "-m", "tiny", "--background", colour, "logo.png")
        plain = Image.new("RGB", (40, 24), colour)
        assert Path("logo.tac").read_bytes() == tiny.compress(plain).data
    for colour in ("nothing", "#ff800080"):
        refused = tactic("compress", "--background", colour, "logo.png", code=2)
        assert "is no opaque colour, such as black" in refused.stderr


# --- Outputs --------------------------------------------------------------------------------------


def test_a_result_goes_beside_its_input(tactic: Tactic, tiny: Codec) -> None:
    save("in/a.png")
    tactic("compress", "-m", "tiny", "in/a.png")
    assert Path("in/a.tac").read_bytes() == frame_bytes(tiny)
    assert "in/a.tac exists" in tactic("compress", "-m", "tiny", "in/a.png", code=1).stderr
    Path("in/a.png").unlink()
    tactic("decompress", "in/a.tac")
    tactic("decompress", "--format", "jpeg", "in/a.tac")
    assert all_files() == {"in/a.tac", "in/a.png", "in/a.jpg"}
    assert "there is no output" in tactic("segment", "in/a.tac", code=2).stderr


def test_standard_input_goes_to_standard_output(tactic: Tactic, tiny: Codec) -> None:
    result = tactic("compress", "-m", "tiny", "-", input=save("a.png").read_bytes())
    assert result.stdout_bytes == frame_bytes(tiny)
    assert tactic("decompress", "-", input=frame_bytes(tiny)).stdout_bytes.startswith(b"\x89PNG")


def test_the_output_may_be_an_option(tactic: Tactic, tiny: Codec) -> None:
    save("a.png")
    save("b.png", 1)
    tactic("compress", "-m", "tiny", "-o", "x.tac", "a.png")
    tactic("compress", "-m", "tiny", "--output", "out", "a.png", "b.png")
    assert all_files("out") == {"a.tac", "b.tac"}
    tactic("decompress", "-o", "x.png", "x.tac")
    assert tactic("compress", "-m", "tiny", "a.png", "-o", "-").stdout_bytes == frame_bytes(tiny)
    assert "name a folder" in tactic("compress", "-r", "-m", "tiny", ".", code=2).stderr


def test_the_last_input_is_never_taken_for_the_output(tactic: Tactic, tiny: Codec) -> None:
    """As a shell makes of ``compress -f *.jpg``, ``IMG_1.*`` and ``decompress -f *.tac``."""
    pictures = [save("a.jpg"), save("b.jpg", 1), save("c.jpg", 2)]
    before = [path.read_bytes() for path in pictures]
    Path("film.mov").write_bytes(b"\0\0\0\x14ftypqt  ")
    for names in (pictures[:2], pictures, ["a.jpg", "new.jpg"], ["a.jpg", "film.mov"]):
        refused = tactic("compress", "-f", "-m", "tiny", *names, code=2)
        assert (
            f"the output would be '{names[-1]}'" in refused.stderr and "-o OUT/" in refused.stderr
        )
    assert [path.read_bytes() for path in pictures] == before
    for name in ("a.tac", "b.tac"):
        Path(name).write_bytes(frame_bytes(tiny))
    for more in ((), ("--format", "png")):
        refused = tactic("decompress", "-f", *more, "a.tac", "b.tac", code=2)
        assert "the output would be 'b.tac'" in refused.stderr
    assert Path("b.tac").read_bytes() == frame_bytes(tiny)
    # What compress itself wrote may have any name.
    tactic("compress", "-m", "tiny", "a.jpg", "frame.bin")
    tactic("compress", "-f", "-m", "tiny", "a.jpg", "frame.bin")


def test_results_have_the_time_and_the_permissions_of_their_input(tactic: Tactic) -> None:
    save("a.png")
    os.chmod("a.png", 0o4640)
    os.utime("a.png", ns=(1_500_000_000_000_000_123, 1_400_000_000_123_456_789))
    tactic("compress", "-m", "tiny", "a.png")
    tactic("decompress", "a.tac", "b.png")
    for name in ("a.tac", "b.png"):
        found = os.stat(name)
        assert stat.S_IMODE(found.st_mode) == 0o640
        assert found.st_mtime_ns == 1_400_000_000_123_456_789
    tactic("compress", "-m", "tiny", "-", "c.tac", input=Path("a.png").read_bytes())
    assert os.stat("c.tac").st_mtime > 1_500_000_000


def test_a_private_picture_is_never_readable_by_others(
    tactic: Tactic, monkeypatch: pytest.MonkeyPatch
) -> None:
    save("a.png")
    os.chmod("a.png", 0o600)
    modes = []
    real = os.utime

    def watched(path: str, **named: Any) -> None:
        modes.append(stat.S_IMODE(os.stat(path).st_mode))
        real(path, **named)

    monkeypatch.setattr(os, "utime", watched)
    tactic("compress", "-m", "tiny", "a.png")
    assert modes == [0o600]


def test_a_disk_that_keeps_no_times_is_written_to(
    tactic: Tactic, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **named: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    save("a.png")
    assert tactic("compress", "-m", "tiny", "a.png").output == ""
    assert all_files() == {"a.png", "a.tac"}


def test_skip_existing(tactic: Tactic, tiny: Codec) -> None:
    args = ("compress", "-r", "--skip-existing", "-m", "tiny", "in", "out")
    for number in range(3):
        save(f"in/{number}.png", number)
    tactic(*args)
    Path("out/0.tac").write_bytes(b"as it was")
    Path("out/1.tac").unlink()
    assert tactic(*args).stderr == "skipped, because they are up to date: 2\n"
    assert Path("out/0.tac").read_bytes() == b"as it was"
    assert Path("out/1.tac").read_bytes() == frame_bytes(tiny, 1)
    # What is older than its picture is no success, and is not overwritten without leave.
    os.utime("out/0.tac", (1_000_000_000, 1_000_000_000))
    result = tactic(*args, code=1)
    assert "0.png: out/0.tac exists and is older than its input" in result.stderr
    assert "up to date: 2" in result.stderr
    tactic(*args, "-f")
    assert Path("out/0.tac").read_bytes() == frame_bytes(tiny, 0)
    back = ("decompress", "-r", "--skip-existing", "out", "back")
    tactic(*back)
    Path("back/2.png").unlink()
    assert tactic(*back).stderr == "skipped, because they are up to date: 2\n"
    assert all_files("back") == {"0.png", "1.png", "2.png"}


def test_a_disk_that_rounds_times_down_is_up_to_date(tactic: Tactic) -> None:
    save("a.png")
    os.utime("a.png", ns=(0, 1_400_000_003_500_000_000))
    tactic("compress", "-m", "tiny", "a.png")
    again = ("compress", "--skip-existing", "-m", "tiny", "a.png")
    for seconds, code in ((1_400_000_003, 0), (1_400_000_002, 0), (1_400_000_001, 1)):
        os.utime("a.tac", (0, seconds))
        tactic(*again, code=code)


# --- The whole ------------------------------------------------------------------------------------

COMMANDS = ("compress", "decompress", "classify", "detect", "segment", "info", "test")
COMMANDS += (
    "explain",
    "bpp-report",
    "models",
    "models list",
    "models show",
    "models verify",
    "train",
    "export",
    "bench",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(tactic: Tactic, command: str) -> None:
    text = tactic(*command.split(), "--help").stdout
    assert "Examples:\n" in text and f"tactic {command.split()[0]}" in text.split("Examples:")[1]


def test_help_lists_all_commands(tactic: Tactic) -> None:
    text = tactic("--help").stdout
    assert all(f"\n  {command} " in text for command in COMMANDS if " " not in command)
    assert tactic("--version").stdout.startswith("tactic, version ")
    assert tactic("-V").stdout == tactic("--version").stdout
    assert "No such command" in tactic("nothing", code=2).stderr


def test_options_know_what_the_rooms_behind_them_know() -> None:
    assert tuple(name for name in runtime.DEVICES if name != "fast") == options.DEVICES
    assert options.MAX_EFFORT == codec_room.MAX_EFFORT
    assert detect.make_context("detect", ["a.tac"]).params["min_score"] == boxes.MIN_SCORE


def test_a_bug_asks_to_be_reported(tactic: Tactic, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise KeyError("oops")

    monkeypatch.setattr("tactic_codec.picture.read", broken)
    save("a.png")
    result = tactic("compress", "-m", "tiny", "a.png", "a.tac", code=1)
    assert "KeyError: 'oops'" in result.stderr and "please report it" in result.stderr
    result = CliRunner().invoke(main, ["--debug", "compress", "-m", "tiny", "a.png", "a.tac"])
    assert isinstance(result.exception, KeyError)


def test_debug_shows_the_traceback_of_a_failed_input(tiny: Codec) -> None:
    result = CliRunner().invoke(main, ["--debug", "info", "missing.tac"])
    assert result.exit_code == 1
    assert "Traceback" in result.stderr and "FileNotFoundError" in result.stderr


# --- Parts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_no_temporary_file_is_left(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*args: Any) -> None:
        raise error

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(type(error)) as caught:
        files.write("a.tac", b"data", force=True)
    assert all_files() == set()
    if isinstance(caught.value, OSError):
        assert console.reason(caught.value) == "No space left on device: a.tac"


def test_new_files_have_the_mode_that_the_umask_leaves() -> None:
    before = os.umask(0o027)
    try:
        files.write("a.tac", b"data", force=False)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat("a.tac").st_mode) == 0o640


def test_display() -> None:
    assert display("naïve name.tac") == "naïve name.tac"
    assert display("a\nb\x1b[2J") == "a\\nb\\x1b[2J"
    assert display(os.fsdecode(b"\xff.tac")) == "\\xff.tac"


@pytest.mark.parametrize(("jobs", "prepare"), [(1, None), (3, None), (3, abs)])
def test_bugs_end_the_work_and_errors_do_not(
    jobs: int, prepare: Callable[[int], object] | None
) -> None:
    def check(n: int) -> int:
        if n == 3:
            raise TacError("three")
        if n == 9:
            raise ZeroDivisionError
        return n

    found = []
    with pytest.raises(ZeroDivisionError):
        for outcome in console.in_order(check, range(100), jobs, prepare=prepare):
            found.append(outcome.result)
    assert [r for r in found if isinstance(r, int)] == [0, 1, 2, 4, 5, 6, 7, 8]
    assert isinstance(found[3], console.Failure)


def test_a_worker_that_missed_a_signal_gets_it_again() -> None:
    """As one does that is about to wait in C: its handler runs when the next signal wakes it."""
    ready, told = multiprocessing.Pipe()

    def stay() -> None:
        seen: list[int] = []
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0) if seen else seen.append(1))
        told.send(None)
        while True:
            signal.pause()

    worker = multiprocessing.get_context("fork").Process(target=stay)
    worker.start()
    ready.recv()
    console._end_workers()
    worker.join(10)
    assert worker.exitcode == 0


forking = pytest.mark.skipif(sys.platform != "linux", reason="workers are threads there")


@forking
def test_workers_are_processes_that_know_what_was_opened_before() -> None:
    opened = list[int]()

    def work(n: int) -> tuple[int, int]:
        time.sleep(0.05)
        return os.getpid(), opened[0]

    found = [o.result for o in console.in_order(work, range(5, 15), 2, prepare=opened.append)]
    pids, firsts = zip(*found, strict=True)
    assert len(set(pids)) == 2 and os.getpid() not in pids
    assert set(firsts) == {5}


@forking
def test_a_worker_that_the_system_ends_is_told() -> None:
    def work(n: int) -> int:
        if n == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return n

    with pytest.raises(OutOfMemory, match="-j"):
        list(console.in_order(work, range(10), 2, prepare=abs))


ORPHANS = """
import os, time
from tactic_codec.cli.console import in_order

def work(n):
    os.write(1, f"{os.getpid()}\\n".encode())  # at once: print may write a line in two parts
    time.sleep(600)

list(in_order(work, range(2), 2, prepare=abs))
"""


@forking
def test_workers_end_with_their_parent() -> None:
    command = [sys.executable, "-c", ORPHANS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pids = [int(parent.stdout.readline()) for _ in range(2)]
        parent.kill()
        assert parent.stdout.read() == ""  # ends when nobody is left to write to it
    for pid in pids:
        assert not Path(f"/proc/{pid}/fd/1").exists()


SLEEPERS = """
import os, signal, time
from tactic_codec.cli.console import in_order

def work(n):
    try:
        os.write(1, b"begun\\n")
        time.sleep(600)
    finally:
        os.write(1, b"left\\n")

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
list(in_order(work, range(8), 2, prepare=abs))
"""


@forking
@pytest.mark.parametrize("times", [1, 2, 3])
def test_an_interrupt_ends_workers_at_once(times: int) -> None:
    command = [sys.executable, "-c", SLEEPERS]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True) as parent:
        assert parent.stdout
        assert [parent.stdout.readline() for _ in range(2)] == ["begun\n"] * 2
        for _ in range(times):
            parent.send_signal(signal.SIGINT)
            time.sleep(0.05)
        said, _ = parent.communicate(timeout=30)
    assert said.splitlines() == ["left", "left"]  # nothing half done, and no third is begun


@forking
def test_a_worker_s_error_has_its_traceback() -> None:
    def work(n: int) -> int:
        raise TacError("no")

    (found,) = console.in_order(work, [1], 2, prepare=abs)
    assert isinstance(found.result, console.Failure)
    assert "in work" in "".join(traceback.format_exception(found.result.error))


def test_what_is_ready_does_not_wait_for_a_full_window() -> None:
    """A camera's frame is shown when the next one comes, not when the window is full."""
    done = threading.Event()

    def note(n: int) -> int:
        done.set()
        return n

    def camera() -> Iterator[int]:
        for n in range(3):
            yield n
            done.wait(10)
            time.sleep(0.2)  # until the future is done, too
            asked.append(n)

    asked: list[int] = []
    outcomes = console.in_order(note, camera(), 4)
    assert next(outcomes).result == 0
    assert len(asked) < 2  # the second may have been taken, the third was not
    assert [outcome.result for outcome in outcomes] == [1, 2]


def test_streams_are_not_read_ahead(tiny: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = frame_bytes(tiny)
    stream = io.BytesIO(frame * 2)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(stream))
    items = decoding.frames_of(files.Source("-", "stdin"), max_pixels=1000)
    assert next(items).title == "standard input: frame 1"
    assert stream.tell() == len(frame)
