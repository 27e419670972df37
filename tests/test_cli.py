"""The commands, called in this process: what they write, print, refuse and leave behind."""

import csv
import io
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from tactic_codec import container, image, runtime
from tactic_codec.cli import console, decoding, files, main, options, outputs, work
from tactic_codec.codec import Codec, load_model
from tactic_codec.container import Frame
from tactic_codec.errors import TacError

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
    def call(*args: str | Path, input: bytes | None = None, code: int = 0) -> Result:
        result = CliRunner().invoke(main, [str(arg) for arg in args], input=input)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    return call


@pytest.fixture(scope="module")
def codec() -> Codec:
    return load_model(MODELS / "tiny")


def picture(seed: int = 0, height: int = 24, width: int = 40) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    channels = [(x * 5 + seed * 31) % 256, (y * 7 + seed * 17) % 256, (x + y) * 2 % 256]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def save(path: str | Path, seed: int = 0, **options: Any) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path, **options)
    return path


def frame_bytes(codec: Codec, seed: int = 0, quality: int = 2) -> bytes:
    return codec.compress(picture(seed), quality)


def damaged(frame: bytes) -> bytes:
    """The frame with a wrong checksum."""
    return frame[:-1] + bytes([frame[-1] ^ 1])


def json_lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def all_files(folder: str | Path = ".") -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


# --- compress -------------------------------------------------------------------------------------


def test_one_picture_to_one_file(tactic: Tactic, codec: Codec) -> None:
    save("a.png")
    result = tactic("compress", "-m", "tiny", "a.png", "a.tac")
    assert result.output == ""
    assert Path("a.tac").read_bytes() == frame_bytes(codec)
    assert all_files() == {"a.png", "a.tac"}


@pytest.mark.parametrize("quality", [1, 2, 3])
def test_quality_is_the_level(tactic: Tactic, quality: int) -> None:
    save("a.png")
    tactic("compress", "-m", "tiny", "-q", quality, "a.png", "a.tac")
    assert container.parse(Path("a.tac").read_bytes()).level == quality


def test_level_that_the_model_lacks_is_wrong_usage(tactic: Tactic) -> None:
    save("a.png")
    result = tactic("compress", "-m", "tiny", "-q", 9, "a.png", "a.tac", code=2)
    assert "levels 1 to 3" in result.stderr
    assert all_files() == {"a.png"}


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


def test_two_inputs_never_share_an_output(tactic: Tactic, codec: Codec) -> None:
    save("a.png", 1)
    save("a.bmp", 2)
    result = tactic("compress", "-f", "-m", "tiny", "a.png", "a.bmp", "out", code=1)
    assert "a.bmp: its result would overwrite that of a.png, out/a.tac" in result.stderr
    assert Path("out/a.tac").read_bytes() == frame_bytes(codec, 1)


def test_stdin_to_stdout(tactic: Tactic, codec: Codec) -> None:
    result = tactic("compress", "-m", "tiny", "-", "-", input=save("a.png").read_bytes())
    assert result.stdout_bytes == frame_bytes(codec)
    assert result.stderr == ""


def test_several_pictures_to_stdout_are_a_stream(tactic: Tactic, codec: Codec) -> None:
    inputs = [save(f"{i}.png", i) for i in range(3)]
    result = tactic("compress", "-m", "tiny", *inputs, "-")
    assert result.stdout_bytes == b"".join(frame_bytes(codec, i) for i in range(3))


def test_stdin_to_a_folder(tactic: Tactic) -> None:
    tactic("compress", "-m", "tiny", "-", "out/", input=save("a.png").read_bytes())
    assert all_files("out") == {"stdin.tac"}


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


def test_files_are_not_overwritten_without_f(tactic: Tactic, codec: Codec) -> None:
    save("a.png")
    Path("a.tac").write_bytes(b"precious")
    result = tactic("compress", "-m", "tiny", "a.png", "a.tac", code=1)
    assert "tactic: a.png: a.tac exists" in result.stderr and "-f" in result.stderr
    assert Path("a.tac").read_bytes() == b"precious"
    tactic("compress", "-f", "-m", "tiny", "a.png", "a.tac")
    assert Path("a.tac").read_bytes() == frame_bytes(codec)


@pytest.mark.parametrize("out", ["a.png", "./a.png", "link.png"])
def test_the_input_is_never_the_output(tactic: Tactic, out: str) -> None:
    before = save("a.png").read_bytes()
    Path("link.png").symlink_to("a.png")
    result = tactic("compress", "-f", "-m", "tiny", "a.png", out, code=1)
    assert "same file" in result.stderr
    assert Path("a.png").read_bytes() == before


def test_a_link_is_written_through(tactic: Tactic, codec: Codec) -> None:
    save("a.png")
    Path("real.tac").write_bytes(b"old")
    Path("link.tac").symlink_to("real.tac")
    tactic("compress", "-f", "-m", "tiny", "a.png", "link.tac")
    assert Path("link.tac").is_symlink()
    assert Path("real.tac").read_bytes() == frame_bytes(codec)


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
    "args", [("compress", "a.png"), ("compress",), ("compress", "-", "-", "-")]
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
        "bpp": round(8 * size / 960, 6),
        "level": 2,
        "model": "tiny",
    }
    assert f"a.png -> a.tac: {size} bytes, {8 * size / 960:.4f} bpp, " in result.stderr
    assert tactic("compress", "--json", "-m", "tiny", "a.png", "-", code=2).stdout_bytes == b""


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


def test_decompress_to_one_file(tactic: Tactic, codec: Codec) -> None:
    frame = frame_bytes(codec)
    Path("a.tac").write_bytes(frame)
    tactic("decompress", "a.tac", "a.png")
    with Image.open("a.png") as found:
        assert np.array_equal(np.asarray(found), codec.decode(container.parse(frame)))


@pytest.mark.parametrize("name", list(decoding.FORMATS))
def test_formats(tactic: Tactic, codec: Codec, name: str) -> None:
    Path("a.tac").write_bytes(frame_bytes(codec))
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


def test_unknown_suffix_is_wrong_usage(tactic: Tactic, codec: Codec) -> None:
    Path("a.tac").write_bytes(frame_bytes(codec))
    assert "--format" in tactic("decompress", "a.tac", "a.xyz", code=2).stderr
    tactic("decompress", "--format", "png", "a.tac", "a.xyz")


def test_decompress_a_folder(tactic: Tactic, codec: Codec) -> None:
    for name in ("in/a.tac", "in/deep/b.TAC", "in/c.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(frame_bytes(codec))
    tactic("decompress", "-r", "in", "out")
    assert all_files("out") == {"a.png", "deep/b.png"}


def test_frames_of_a_file_are_numbered_in_a_folder(tactic: Tactic, codec: Codec) -> None:
    Path("s.tac").write_bytes(b"".join(frame_bytes(codec, i) for i in range(3)))
    Path("one.tac").write_bytes(frame_bytes(codec))
    tactic("decompress", "s.tac", "one.tac", "out")
    assert all_files("out") == {"s-0001.png", "s-0002.png", "s-0003.png", "one.png"}


def test_a_stream_to_a_folder(tactic: Tactic, codec: Codec) -> None:
    tactic("decompress", "-", "out/", input=frame_bytes(codec) * 2)
    assert all_files("out") == {"stdin-0001.png", "stdin-0002.png"}


def test_a_stream_to_stdout(tactic: Tactic, codec: Codec) -> None:
    result = tactic("decompress", "-", "-", input=frame_bytes(codec, 1) + frame_bytes(codec, 2))
    assert result.stdout_bytes.count(b"\x89PNG") == 2


def test_several_frames_do_not_fit_into_a_file(tactic: Tactic, codec: Codec) -> None:
    Path("s.tac").write_bytes(frame_bytes(codec) * 2)
    result = tactic("decompress", "s.tac", "s.png", code=1)
    assert "several frames" in result.stderr and "'OUT/'" in result.stderr
    assert all_files() == {"s.tac"}


def test_damaged_frames_are_reported_by_number(tactic: Tactic, codec: Codec) -> None:
    good = frame_bytes(codec)
    Path("s.tac").write_bytes(good + damaged(good) + good)
    result = tactic("decompress", "s.tac", "out/", code=1)
    assert result.stderr.startswith("tactic: s.tac: frame 2: checksum ")
    assert all_files("out") == {"s-0001.png", "s-0003.png"}


def test_nothing_is_left_of_a_damaged_file(tactic: Tactic, codec: Codec) -> None:
    frame = frame_bytes(codec)
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


def test_classify_as_json(tactic: Tactic, codec: Codec) -> None:
    Path("a.tac").write_bytes(frame_bytes(codec, 1) + frame_bytes(codec, 2))
    Path("b.tac").write_bytes(frame_bytes(codec, 3))
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


def test_classify_for_people(tactic: Tactic, codec: Codec) -> None:
    Path("a.tac").write_bytes(frame_bytes(codec))
    lines = tactic("classify", "a.tac").stdout.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("a.tac: ") and line.endswith(" %") for line in lines)
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize("jobs", [1, 3])
def test_classify_a_stream_with_a_damaged_frame(tactic: Tactic, codec: Codec, jobs: int) -> None:
    good = frame_bytes(codec)
    stream = good + damaged(good) + good * 5
    result = tactic("classify", "--json", "-j", jobs, "-", input=stream, code=1)
    assert [line["frame"] for line in json_lines(result)] == [1, 3, 4, 5, 6, 7]
    assert result.stderr.startswith("tactic: standard input: frame 2: checksum ")


def test_classify_with_a_model_of_no_such_frame(tactic: Tactic) -> None:
    Path("a.tac").write_bytes(container.pack(Frame(b"\1\2\3\4", 1, 8, 8, b"")))
    for more in ((), ("-m", "tiny")):
        assert "01020304" in tactic("classify", *more, "a.tac", code=1).stderr


# --- info and test --------------------------------------------------------------------------------


def test_info(tactic: Tactic, codec: Codec) -> None:
    frame = container.parse(frame_bytes(codec))
    stranger = Frame(b"\1\2\3\4", 7, 300, 20, b"abc")
    Path("s.tac").write_bytes(container.pack(frame) + container.pack(stranger))
    first, second = json_lines(tactic("info", "--json", "s.tac"))
    assert first == {
        "file": "s.tac",
        "frame": 1,
        "version": 1,
        "width": 40,
        "height": 24,
        "level": 2,
        "fingerprint": codec.model.fingerprint.hex(),
        "model": "tiny",
        "bytes": frame.size,
        "payload_bytes": len(frame.payload),
        "bpp": round(8 * frame.size / 960, 6),
    }
    assert (second["frame"], second["model"], second["level"]) == (2, None, 7)
    heading, *rows = tactic("info", "s.tac").stdout.splitlines()
    assert heading.split()[-1] == "file" and len(rows) == 2
    assert "tiny" in rows[0] and "01020304" in rows[1]


def test_info_goes_on_behind_damage(tactic: Tactic, codec: Codec) -> None:
    good = frame_bytes(codec)
    Path("bad.tac").write_bytes(b"no frame")
    Path("s.tac").write_bytes(damaged(good) + good)
    result = tactic("info", "--json", "bad.tac", "s.tac", code=1)
    assert [(line["file"], line["frame"]) for line in json_lines(result)] == [("s.tac", 2)]
    assert len(result.stderr.splitlines()) == 2


def test_test(tactic: Tactic, codec: Codec) -> None:
    good = frame_bytes(codec)
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


def test_test_symbols(tactic: Tactic, codec: Codec) -> None:
    # All ones: no encoder writes this payload, though its checksum is right.
    frame = Frame(codec.model.fingerprint, 2, 64, 64, b"\xff" * 40)
    Path("a.tac").write_bytes(container.pack(frame))
    tactic("test", "a.tac")
    assert "outside" in tactic("test", "--symbols", "a.tac", code=1).stderr
    Path("b.tac").write_bytes(frame_bytes(codec))
    tactic("test", "--symbols", "b.tac")
    tactic("test", "--symbols", "-m", "tiny", "b.tac")
    assert "--symbols" in tactic("test", "-m", "tiny", "b.tac", code=2).stderr


@pytest.mark.parametrize("command", ["info", "test", "classify", "bpp-report"])
def test_empty_stdin_is_no_success(tactic: Tactic, command: str) -> None:
    assert "standard input: empty" in tactic(command, "-", input=b"", code=1).stderr


# --- bpp-report -----------------------------------------------------------------------------------


@pytest.fixture
def coded(codec: Codec) -> Path:
    """Two classes and a file outside them, with their originals."""
    for i, name in enumerate(["cat/a", "cat/b", "rocket/a", "c"]):
        save(f"originals/{name}.png", i)
        path = Path(f"coded/{name}.tac")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(frame_bytes(codec, i))
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
    assert "tiny" in text and "unreadable damaged: " in text
    found = {line["name"]: line for line in json_lines(tactic("models", "list", "--json"))}
    assert found["tiny"]["levels"] == 3 and found["tiny"]["tasks"] == ["classify"]
    assert found["tiny"]["default"] is False
    assert "not JSON" in found["unreadable"]["damaged"]


def test_models_show(tactic: Tactic, codec: Codec) -> None:
    text = tactic("models", "show", "tiny").stdout
    for expected in (codec.model.fingerprint.hex(), "8 pixels", "1 to 3", "MACs", "5 classes"):
        assert expected in text
    (manifest,) = json_lines(tactic("models", "show", str(MODELS / "tiny"), "--json"))
    assert manifest["name"] == "tiny" and "labels" not in manifest["heads"]["classify"]
    assert "no model 'nobody'" in tactic("models", "show", "nobody", code=1).stderr


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


# --- The whole ------------------------------------------------------------------------------------

COMMANDS = ("compress", "decompress", "classify", "info", "test", "bpp-report")
COMMANDS += ("models", "models list", "models show", "models verify", "train", "export")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(tactic: Tactic, command: str) -> None:
    text = tactic(*command.split(), "--help").stdout
    assert "Examples:\n" in text and f"tactic {command.split()[0]}" in text.split("Examples:")[1]


def test_help_lists_all_commands(tactic: Tactic) -> None:
    text = tactic("--help").stdout
    assert all(f"\n  {command} " in text for command in COMMANDS if " " not in command)
    assert tactic("--version").stdout.startswith("tactic, version ")
    assert "No such command" in tactic("nothing", code=2).stderr


def test_devices_are_those_of_the_runtime_room() -> None:
    assert options.DEVICES == runtime.DEVICES


def test_a_bug_asks_to_be_reported(tactic: Tactic, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise KeyError("oops")

    monkeypatch.setattr("tactic_codec.image.load", broken)
    save("a.png")
    result = tactic("compress", "-m", "tiny", "a.png", "a.tac", code=1)
    assert "KeyError: 'oops'" in result.stderr and "please report it" in result.stderr
    result = CliRunner().invoke(main, ["--debug", "compress", "-m", "tiny", "a.png", "a.tac"])
    assert isinstance(result.exception, KeyError)


def test_debug_shows_the_traceback_of_a_failed_input(codec: Codec) -> None:
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
        outputs.write("a.tac", b"data", force=True)
    assert all_files() == set()
    if isinstance(caught.value, OSError):
        assert console.reason(caught.value) == "No space left on device: a.tac"


def test_new_files_have_the_mode_that_the_umask_leaves() -> None:
    before = os.umask(0o027)
    try:
        outputs.write("a.tac", b"data", force=False)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat("a.tac").st_mode) == 0o640


def test_display() -> None:
    assert console.display("naïve name.tac") == "naïve name.tac"
    assert console.display("a\nb\x1b[2J") == "a\\nb\\x1b[2J"
    assert console.display(os.fsdecode(b"\xff.tac")) == "\\xff.tac"


@pytest.mark.parametrize("jobs", [1, 3])
def test_bugs_end_the_work_and_errors_do_not(jobs: int) -> None:
    def check(n: int) -> int:
        if n == 3:
            raise TacError("three")
        if n == 9:
            raise ZeroDivisionError
        return n

    found = []
    with pytest.raises(ZeroDivisionError):
        for outcome in work.in_order(check, range(100), jobs):
            found.append(outcome.result)
    assert [r for r in found if isinstance(r, int)] == [0, 1, 2, 4, 5, 6, 7, 8]
    assert isinstance(found[3], work.Failure)


def test_streams_are_not_read_ahead(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = frame_bytes(codec)
    stream = io.BytesIO(frame * 2)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(stream))
    items = files.frames_of(files.Source("-", "stdin"), max_pixels=1000)
    assert next(items).title == "standard input: frame 1"
    assert stream.tell() == len(frame)
