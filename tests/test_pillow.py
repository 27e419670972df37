"""``.tac`` files in Pillow, and in what opens pictures by it."""

import io
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import PHOTOGRAPHS, TINY
from PIL import Image

import tactic_codec.pillow  # noqa: F401
from tactic_codec import container, errors
from tactic_codec.codec import Codec

pytestmark = pytest.mark.usefixtures("tiny_installed")
VECTORS = Path(__file__).parent / "vectors"


@pytest.fixture
def coded(tmp_path: Path, tiny: Codec) -> Path:
    path = tmp_path / "cat.tac"
    tiny.compress(PHOTOGRAPHS[0]).save(path)
    return path


# --- Opened ---------------------------------------------------------------------------------------


def test_size_and_mode_come_from_the_header_alone(coded: Path) -> None:
    frame = container.parse(coded.read_bytes())
    head = coded.read_bytes()[:15]  # cut behind the sizes
    with Image.open(io.BytesIO(head)) as picture:
        assert picture.size == (frame.width, frame.height)
        assert (picture.mode, picture.format) == ("RGB", "TAC")
        assert picture.get_format_mimetype() == Image.MIME["TAC"] == "image/x-tac"
        with pytest.raises(OSError, match="ends inside") as caught:
            picture.load()
    assert isinstance(caught.value.__cause__, errors.Truncated)


def test_the_pixels_are_those_of_decompress(coded: Path, tiny: Codec) -> None:
    expected = np.asarray(tiny.decompress(coded))
    with Image.open(coded) as picture:
        assert np.array_equal(np.asarray(picture), expected)
        assert picture.fp is None  # the file is closed once it was read
        picture.putpixel((0, 0), (1, 2, 3))  # and what is in memory belongs to the caller
        assert picture.getpixel((0, 0)) == (1, 2, 3)
    with Image.open(coded) as picture:
        assert picture.resize((9, 9)).size == (9, 9)
    with Image.open(coded) as picture:
        again = pickle.loads(pickle.dumps(picture))
    assert np.array_equal(np.asarray(again), expected)


def test_a_stream_stays_open_and_only_its_first_frame_is_read(coded: Path) -> None:
    data = coded.read_bytes()
    stream = io.BytesIO(data + data)
    Image.open(stream).load()
    assert stream.tell() == len(data)


@pytest.mark.parametrize("file", sorted((VECTORS / "faulty").iterdir()), ids=lambda file: file.stem)
def test_a_faulty_file_ends_as_pillow_s_own_do(file: Path) -> None:
    data = file.read_bytes()
    name = file.name.split("-")[0]
    behind = "behind-it" in file.name  # Pillow reads the first frame
    try:
        with Image.open(file) as picture:
            picture.load()
    except Image.DecompressionBombError:
        assert name == "LimitExceeded"
    except OSError as error:
        cause = type(error.__cause__)
        assert cause is getattr(errors, name) or not data.startswith(container.MAGIC)
    else:
        assert behind and file.name.startswith("Corrupt-")


def test_verify_compares_the_checksum_and_decodes_nothing(coded: Path) -> None:
    with Image.open(coded) as picture:
        picture.verify()
        with pytest.raises(OSError, match="cannot load"):
            picture.load()
    data = bytearray(coded.read_bytes())
    data[-9] ^= 1
    with Image.open(io.BytesIO(data)) as picture, pytest.raises(OSError, match="checksum"):
        picture.verify()


def test_limits_are_pillow_s(monkeypatch: pytest.MonkeyPatch, coded: Path) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(coded).close()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(coded)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1 << 28)
    frame = container.Frame(container.parse(coded.read_bytes()).fingerprint, 1, 2049, 2048, b"")
    plain = io.BytesIO(container.pack(frame))
    with Image.open(plain) as picture, pytest.raises(Image.DecompressionBombError, match="so few"):
        picture.load()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with Image.open(plain) as picture:
        assert np.asarray(picture).shape == (2048, 2049, 3)


def test_a_frame_of_an_unknown_model_says_so(monkeypatch: pytest.MonkeyPatch, coded: Path) -> None:
    monkeypatch.setenv("TACTIC_MODELS", "")
    with Image.open(coded) as picture, pytest.raises(OSError, match="a292e80f") as caught:
        picture.load()
    assert isinstance(caught.value.__cause__, errors.UnknownModel)


# --- Saved ----------------------------------------------------------------------------------------


def test_save_takes_what_compress_does(tmp_path: Path, tiny: Codec) -> None:
    path = tmp_path / "x.tac"
    with Image.open(PHOTOGRAPHS[0]) as picture:
        picture.save(path, level=3, model="tiny")
        assert path.read_bytes() == tiny.compress(picture, 3).data
        picture.save(path, max_bytes=1500, model=TINY)
        assert path.read_bytes() == tiny.compress(picture, max_bytes=1500).data
        stream = io.BytesIO()
        picture.save(stream, "TAC", model="tiny", optimize=True)  # what other formats know
        assert stream.getvalue() == tiny.compress(picture).data
    with Image.open(path) as picture:  # over itself
        picture.save(path, level=1, model="tiny")
    assert container.parse(path.read_bytes()).level == 1


def test_what_cannot_be_saved_leaves_no_file(tmp_path: Path) -> None:
    picture = Image.new("RGB", (64, 64))
    for error, options in (
        (errors.TargetMissed, {"max_bytes": 1}),
        (errors.UnknownLevel, {"level": 99}),
        (errors.UnknownModel, {"model": "none"}),
        (TypeError, {"level": "3"}),
    ):
        with pytest.raises(error):
            picture.save(tmp_path / "x.tac", **{"model": "tiny", **options})
    assert not list(tmp_path.iterdir())


# --- In others' hands -----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, tiny: Codec) -> Path:
    """Two classes of two files each."""
    for number, colour in enumerate(("red", "navy", "white", "black")):
        path = tmp_path / "classes" / "ab"[number % 2] / f"{number}.tac"
        path.parent.mkdir(parents=True, exist_ok=True)
        tiny.compress(Image.new("RGB", (40, 24), colour)).save(path)
    return tmp_path / "classes"


def decoded(folder: Path, tiny: Codec) -> dict[str, np.ndarray]:
    files = sorted(folder.rglob("*.tac"))
    return {file.stem: np.asarray(tiny.decompress(file)) for file in files}


@pytest.mark.slow
def test_torchvision_reads_a_folder_of_classes(folder: Path, tiny: Codec) -> None:
    from tactic_codec.networks.torchvision_shim import torchvision

    found = torchvision.datasets.ImageFolder(folder, is_valid_file=lambda path: True)
    assert found.classes == ["a", "b"]
    assert [label for _, label in found] == [0, 0, 1, 1]
    expected = decoded(folder, tiny)
    for (picture, _), name in zip(found, "0213", strict=True):
        assert np.array_equal(np.asarray(picture), expected[name])


# A worker is a new process, which has imported what this file does and no more.
LOADER = """
import sys
from tactic_codec.networks.torchvision_shim import torchvision
from torchvision.transforms.functional import pil_to_tensor

if __name__ == "__main__":
    from torch.utils.data import DataLoader
    import tactic_codec.pillow

    found = torchvision.datasets.ImageFolder(
        sys.argv[1], transform=pil_to_tensor, is_valid_file=lambda path: True
    )
    init = tactic_codec.pillow.register if sys.argv[2:] else None
    loader = DataLoader(
        found, 2, num_workers=2, multiprocessing_context="spawn", worker_init_fn=init
    )
    for pixels, labels in loader:
        print(tuple(pixels.shape), pixels.sum().item(), labels.tolist())
"""


@pytest.mark.slow
def test_workers_of_torch_open_tac_files_too(folder: Path, tiny: Codec) -> None:
    script = folder.parent / "script.py"
    script.write_text(LOADER)
    command = [sys.executable, "-W", "ignore", str(script), str(folder)]
    made = subprocess.run([*command, "register"], capture_output=True, text=True)
    found = decoded(folder, tiny)
    sums = [int(found[first].sum() + found[second].sum()) for first, second in ("02", "13")]
    shape = (2, 3, 24, 40)
    assert made.stdout == f"{shape} {sums[0]} [0, 0]\n{shape} {sums[1]} [1, 1]\n", made.stderr
    without = subprocess.run(command, capture_output=True, text=True)
    assert "cannot identify image file" in without.stderr


@pytest.mark.slow
def test_hugging_face_datasets_reads_paths_and_bytes(folder: Path, tiny: Codec) -> None:
    from datasets import Dataset
    from datasets import Image as Picture

    expected = decoded(folder, tiny)
    files = {path.stem: path for path in sorted(folder.rglob("*.tac"))}
    paths = [str(path) for path in files.values()]
    raw = [{"bytes": path.read_bytes(), "path": None} for path in files.values()]
    for column in (paths, raw):
        rows = Dataset.from_dict({"image": column}).cast_column("image", Picture())
        for name, row in zip(files, rows, strict=True):
            assert np.array_equal(np.asarray(row["image"]), expected[name])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # left open by it
def test_webdataset_reads_a_shard(folder: Path, tmp_path: Path, tiny: Codec) -> None:
    import webdataset

    shard = tmp_path / "shard.tar"
    with tarfile.open(shard, "w") as tar:
        for path in sorted(folder.rglob("*.tac")):
            tar.add(path, path.name)
    handler = webdataset.handle_extension("tac", lambda data: Image.open(io.BytesIO(data)))
    rows = webdataset.WebDataset(str(shard), shardshuffle=False).decode(handler)
    expected = decoded(folder, tiny)
    found = {row["__key__"]: np.asarray(row["tac"]) for row in rows}
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
