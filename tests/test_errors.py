"""Every error can be met: from bytes or from a command line, with a message that helps."""

import hashlib
import io
import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tactic_codec import codec as codecs
from tactic_codec import container, errors
from tactic_codec import picture as image
from tactic_codec.cli import main
from tactic_codec.codec import Codec, load_model
from tactic_codec.container import Frame
from tactic_codec.errors import TacError

MODELS = Path(__file__).parent / "models"
TINY = MODELS / "tiny"
AUTO = ("compress", "-m", "tiny", "--scale", "auto", "--max-bytes", "900")
NEWER = container.pack(Frame(bytes.fromhex("a292e80f"), 2, 9, 9, b"\x12", None, ((5, b"?"),)))
FRAME = Frame(bytes.fromhex("a292e80f"), 2, 9, 9, b"\x12\x34")
DATA = container.pack(FRAME)
WIDE = container.pack(Frame(FRAME.fingerprint, 1, 17_000, 8, b""))


def tree(root: type[TacError]) -> list[type[TacError]]:
    """A class and all below it."""
    return [root, *(error for below in root.__subclasses__() for error in tree(below))]


def sealed(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


def picture(side: int = 9) -> bytes:
    return image.save(np.zeros((side, side, 3), np.uint8), "png")


# --- From bytes -----------------------------------------------------------------------------------

FROM_BYTES: dict[type[TacError], Callable[[Codec], object]] = {
    errors.NotATacFile: lambda codec: codec.decompress(b"GIF89a"),
    errors.UnsupportedVersion: lambda codec: codec.decompress(DATA[:3] + b"\x20" + DATA[4:]),
    errors.ReservedFlags: lambda codec: codec.decompress(DATA[:3] + b"\x14" + DATA[4:]),
    errors.UnknownSection: lambda codec: codec.decompress(NEWER),
    errors.Truncated: lambda codec: codec.decompress(DATA[:-5]),
    errors.Corrupt: lambda codec: codec.decompress(DATA[:8] + b"\0" + DATA[9:]),
    errors.ChecksumMismatch: lambda codec: codec.decompress(DATA[:-1] + bytes([DATA[-1] ^ 1])),
    errors.UnknownModel: lambda codec: codec.decompress(sealed(DATA[:4] + b"none" + DATA[8:-4])),
    errors.UnknownLevel: lambda codec: codec.decompress(sealed(DATA[:8] + b"\x09" + DATA[9:-4])),
    errors.LimitExceeded: lambda codec: codec.decompress(
        sealed(DATA[:9] + b"\xf9\xf7\x0f\xf9\xf7\x0f\0")
    ),
    errors.UnsupportedImage: lambda codec: codec.compress(b"%PDF-1.7").data,
    errors.DamagedImage: lambda codec: codec.compress(picture(50)[:60]).data,
}


@pytest.mark.parametrize("error", FROM_BYTES, ids=lambda error: error.__name__)
def test_an_error_from_bytes(error: type[TacError], tiny: Codec) -> None:
    with pytest.raises(error) as caught:
        FROM_BYTES[error](tiny)
    assert type(caught.value) is error
    check_message(str(caught.value))


# --- From a command line --------------------------------------------------------------------------


def write(name: str, data: bytes = b"") -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(data)
    return name


def forged_model() -> str:
    shutil.copytree(TINY, "forged")
    Path("forged/synthesis.onnx").write_bytes(b"forged")
    return "forged"


def model_without_heads() -> str:
    shutil.copytree(TINY, "headless")
    manifest = json.loads(Path("headless/model.json").read_text())
    manifest["heads"] = {}
    Path("headless/model.json").write_text(json.dumps(manifest))
    return "headless"


def wrong_table() -> str:
    """A model folder whose tables sum to too little, with hashes that match."""
    shutil.copytree(TINY, "wrong")
    stream = io.BytesIO()
    table = np.ones((8, 8, 7), np.int32)
    np.savez(stream, level_1=table, level_2=table, level_3=table)
    digest = hashlib.sha256(stream.getvalue()).hexdigest()
    Path("wrong/tables.npz").write_bytes(stream.getvalue())
    manifest = json.loads(Path("wrong/model.json").read_text())
    manifest["files"]["tables.npz"] = {"bytes": len(stream.getvalue()), "sha256": digest}
    manifest["normative"]["files"]["tables.npz"] = digest
    Path("wrong/model.json").write_text(json.dumps(manifest))
    return "wrong"


def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


TAC = "a.tac"
COMMANDS: dict[str, tuple[type[TacError], Callable[[], list[str]]]] = {
    "not a frame": (errors.NotATacFile, lambda: ["info", write(TAC, picture())]),
    "newer": (errors.UnsupportedVersion, lambda: ["info", write(TAC, b"\x89TA\x20")]),
    "flags": (errors.ReservedFlags, lambda: ["test", write(TAC, b"\x89TA\x14")]),
    "section": (errors.UnknownSection, lambda: ["test", write(TAC, NEWER)]),
    "cut": (errors.Truncated, lambda: ["test", write(TAC, DATA[:-1])]),
    "empty": (errors.Truncated, lambda: ["test", write(TAC)]),
    "level 0": (errors.Corrupt, lambda: ["info", write(TAC, DATA[:8] + b"\0" + DATA[9:])]),
    "damage": (errors.ChecksumMismatch, lambda: ["decompress", write(TAC, DATA[:-1] + b"x"), "o/"]),
    "too large": (
        errors.LimitExceeded,
        lambda: ["decompress", "--max-pixels", "80", write(TAC, DATA), "o/"],
    ),
    "too large a picture": (
        errors.LimitExceeded,
        lambda: ["compress", "-m", "tiny", "--max-pixels", "80", write("a.png", picture()), "o/"],
    ),
    "no picture": (
        errors.UnsupportedImage,
        lambda: ["compress", "-m", "tiny", write("a.png", b"%PDF-1.7"), TAC],
    ),
    "half a picture": (
        errors.DamagedImage,
        lambda: ["compress", "-m", "tiny", write("a.png", picture(50)[:60]), TAC],
    ),
    "not small enough": (
        errors.TargetMissed,
        lambda: ["compress", "-m", "tiny", "--max-bytes", "9", write("a.png", picture()), TAC],
    ),
    "model not here": (
        errors.UnknownModel,
        lambda: ["decompress", write(TAC, sealed(DATA[:4] + b"none" + DATA[8:-4])), "o/"],
    ),
    "model that never was": (
        errors.UnknownModel,
        lambda: ["compress", "-m", "nothing", write("a.png", picture()), TAC],
    ),
    "other model": (
        errors.UnknownModel,
        lambda: [
            *("decompress", "-m", "tiny"),
            *(write(TAC, sealed(DATA[:4] + b"none" + DATA[8:-4])), "o/"),
        ],
    ),
    "level not there": (
        errors.UnknownLevel,
        lambda: ["decompress", write(TAC, sealed(DATA[:8] + b"\x09" + DATA[9:-4])), "o/"],
    ),
    "forged network": (
        errors.DamagedModel,
        lambda: ["decompress", "-m", forged_model(), write(TAC, DATA), "o/"],
    ),
    "too wide for a format": (
        errors.UnsupportedImage,
        lambda: ["decompress", "--format", "webp", write(TAC, WIDE), "o/"],
    ),
    "wrong tables": (
        errors.DamagedModel,
        lambda: ["models", "verify", wrong_table()],
    ),
    "no task": (
        errors.UnknownTask,
        lambda: ["classify", "-m", model_without_heads(), write(TAC, DATA)],
    ),
    "no eyes": (
        errors.UnknownTask,
        lambda: ["segment", "-m", "tiny", write(TAC, DATA), "o/"],
    ),
    "unmeasured": (
        errors.UnmeasuredModel,
        lambda: [*AUTO, write("a.png", picture()), TAC],
    ),
    "no CUDA": (
        errors.BackendUnavailable,
        lambda: ["decompress", "--device", "cuda", write(TAC, DATA), "o/"],
    ),
    "output there": (
        errors.OutputExists,
        lambda: ["decompress", write(TAC, DATA), write("a.png")],
    ),
    "configuration": (
        errors.ConfigError,
        lambda: ["train", write("a.toml", b"[network\n"), "--data", ".", "--out", "new"],
    ),
    "no training folder": (
        errors.DataError,
        lambda: ["train", configuration(), "--data", "nowhere", "--out", "new"],
    ),
    "no network": (
        errors.UnsupportedNetwork,
        lambda: [
            *("train", configuration(), "--teacher", write("net.onnx", b"net")),
            *("--data", ".", "--out", "new"),
        ],
    ),
}


def configuration() -> str:
    return write("b.toml", b'name = "a"\n[[stage]]\nsteps = 1\nbeta = 1.0\n')


@pytest.mark.parametrize(("error", "command"), COMMANDS.values(), ids=COMMANDS.keys())
def test_an_error_from_a_command_line(
    error: type[TacError],
    command: Callable[[], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TACTIC_MODELS", str(MODELS))
    no_cuda(monkeypatch)
    raised: list[type[BaseException]] = []
    made = error.__init__

    def remember(self: TacError, *args: object) -> None:
        raised.append(type(self))
        made(self, *args)

    monkeypatch.setattr(error, "__init__", remember, raising=False)
    result = CliRunner().invoke(main, command())
    assert result.exit_code == 1, result.output
    assert error in raised, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("tactic: "), result.stderr
    check_message(lines[0])
    assert not Path("new").exists() and not Path("o").exists()


# --- All of them ----------------------------------------------------------------------------------


def test_every_class_of_the_tree_has_a_case() -> None:
    """A class that only groups others needs none."""
    cases = {*FROM_BYTES, *(error for error, _ in COMMANDS.values())}
    # These take a process of their own, with a limit: tests/test_loading.py.
    cases |= {errors.OutOfMemory, errors.OutOfThreads}
    leaves = {error for error in tree(TacError) if not error.__subclasses__()} | {errors.Corrupt}
    assert leaves - cases == set()


def test_the_tree_is_drawn_as_it_is() -> None:
    def drawn(error: type[TacError], depth: int) -> list[tuple[int, str]]:
        below = [line for child in error.__subclasses__() for line in drawn(child, depth + 1)]
        return [(depth, error.__name__), *below]

    assert errors.__doc__ is not None
    lines = [line for line in errors.__doc__.splitlines() if line.startswith("    ")]
    found = []
    for line in lines:
        name = line.lstrip(" │├└─").split()[0]
        found.append(((line.index(name) - 4) // 4, name))
    assert found == drawn(TacError, 0)


def check_message(message: str) -> None:
    """A message is one line, says something, and leaves out how the program is built."""
    assert message == message.strip() and "\n" not in message
    assert len(message.split()) >= 4
    for word in ("Traceback", "object at 0x", "None", "errno", "<class", "!r"):
        assert word not in message, message


@pytest.mark.parametrize("error", tree(TacError), ids=lambda error: error.__name__)
def test_every_class_says_what_it_is_for(error: type[TacError]) -> None:
    assert error.__doc__ and error.__doc__.endswith(".")
    assert error.__module__ == "tactic_codec.errors"


def test_errors_that_enter_from_elsewhere_keep_their_cause(tmp_path: Path) -> None:
    for call in (
        lambda: image.load(picture(50)[:60]),
        lambda: load_model(tmp_path / "nothing" / "there"),
    ):
        with pytest.raises(TacError) as caught:
            call()
        if isinstance(caught.value, errors.DamagedImage):
            assert caught.value.__cause__ is not None


def test_a_frame_of_no_model_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TACTIC_MODELS", str(tmp_path))
    with pytest.raises(errors.UnknownModel, match="--model"):
        codecs.decompress(sealed(DATA[:4] + b"none" + DATA[8:-4]))
