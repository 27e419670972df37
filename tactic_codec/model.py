"""A model folder on disk: find it, read it, verify it, describe it.

    <name>/model.json          the manifest: everything below, and how the model was made
    <name>/tables.npz          integer frequency tables, one array a level: level_1, level_2 …
    <name>/analysis.onnx       image to latent; only compressing needs it
    <name>/synthesis.onnx      latent to image
    <name>/classify.onnx       a task network a file, where the model has any: TASK.onnx
    <name>/weights.safetensors weights for torch, but for those of task networks as they are in ONNX

The manifest names every file with its size and SHA-256, and no file is used before its hash was
compared. The fingerprint is the hash of the manifest's ``normative`` part, which holds what fixes
the decoded image: geometry, gains, contexts, and the hashes of tables and synthesis network. The
analysis network and the task networks are not in it, so that both can improve under old streams.

Models are looked for in ``$TACTIC_MODELS`` (folders of model folders, separated as in ``$PATH``),
then in the user's data folder, where there is one, then among those bundled with the package. Only
NumPy is needed.

What was found is kept: a manifest is read once a process, and again only where it has changed.
"""

import errno
import hashlib
import io
import json
import os
import re
import stat
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tactic_codec import entropy
from tactic_codec.container import FINGERPRINT_BYTES, MAX_LEVEL, Frame
from tactic_codec.entropy import (
    ContextModel,
    FrequencyTables,
    Layers,
    LearnedContexts,
    LearnedThresholds,
)
from tactic_codec.errors import (
    BackendUnavailable,
    DamagedModel,
    UnknownLevel,
    UnknownModel,
    UnknownTask,
    UnmeasuredModel,
)

DEFAULT_MODEL = "general"
HELD_OUT = "held-out.txt"
"""File of a model folder: the images that its training kept out, a path below the data folder a
line; lines that begin with # are comments."""

MANIFEST = "model.json"
TABLES = "tables.npz"
SYNTHESIS = "synthesis.onnx"
EIGHT_BITS = ".8bit.onnx"
"""How files of networks end that compute with 8-bit integers."""
MANIFEST_VERSION = 1
MAX_MANIFEST_BYTES = 1 << 22
MAX_STRIDE = 256  # pixels; the codec cuts pictures into tiles of 384
WHOLE_SIDES = 32
"""Networks that look at whole pictures read such whose sides are multiples of this."""
MAX_INPUT_SIZE = 1 << 13  # pixels; a task network holds a whole picture, which is scaled to that
MAX_SEGMENT_CLASSES = 255  # a label map has 8 bits a pixel, and one value stands for no class
PLAIN_OFFSET = 0.5
"""What rounds latents to the nearest integer, see `Level`."""

FOR_TRAINING = re.compile(r"weights\.safetensors|.*\.jsonl")
"""Files that training, effort and torch need; a device's installation goes without."""

_BUNDLED = Path(__file__).parent / "models"
_CHECKOUT = Path(__file__).parent.parent / "models"

T = TypeVar("T")


class Objective(NamedTuple):
    """What a level was trained to make small of a picture (equation 9), for whoever codes to it.

    J = L_D + alpha · divergence + features · feature error + beta · bits a pixel.

    Attributes:
        pixel_scale: L_D is the mean squared error of pixels in [0, pixel_scale].
        alpha: weight of the divergence from what the task network says of the original, in nats.
        features: weight of the error of the task network's features.
        beta: weight of a bit a pixel.
    """

    pixel_scale: float
    alpha: float
    features: float
    beta: float


class Level(NamedTuple):
    """One quality level, apart from its tables.

    Attributes:
        minimum: value of the tables' first symbol.
        contexts: how what is decoded chooses a table, or the part of it that needs no tables.
        gain: float32 [C], what the encoder multiplies latents by before rounding.
        inverse_gain: float32 [C], what the decoder multiplies symbols by.
        offset: what the encoder adds to a magnitude before it rounds down; 0.5 rounds to nearest.
        objective: what the level was trained for; None where the model does not tell.
    """

    minimum: int
    contexts: ContextModel | LearnedThresholds
    gain: NDArray[np.float32]
    inverse_gain: NDArray[np.float32]
    offset: float
    objective: Objective | None


class Point(NamedTuple):
    """What coding at a scale and a level comes to, on photographs at the model's export.

    Attributes:
        scale: what width and height are multiplied by before coding, above 0 and at most 1.
        level: quality level.
        bpp: bits of a file a pixel of the picture itself.
        psnr: of the picture in its own size, in dB.
        agreement: by task, how far its network says of what was coded what it says of the picture.
    """

    scale: float
    level: int
    bpp: float = 0
    psnr: float = 0
    agreement: Mapping[str, float] = {}

    def result(self, task: str | None) -> float:
        """Agreement on a task, by default the mean of all; without any the PSNR."""
        told = [self.agreement[task]] if task else list(self.agreement.values())
        return sum(told) / len(told) if told else self.psnr


class Head(NamedTuple):
    """A task network of the model.

    Attributes:
        file: its ONNX file in the folder.
        network: its architecture's name.
        input_size: side of the square image that a classifier reads, or the longer side of the
            image that a segmentation network or a detector reads, in pixels.
        labels: a name for people of each class, in the order of its logits.
        classes: the folder of each class in the data it learned from; of a segmentation network
            the labels again.
        colours: red, green and blue of each class in label maps; empty for others.
    """

    file: str
    network: str
    input_size: int
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...] = ()


class _Number(NamedTuple):
    """A rule for a value of the manifest: a number within a range."""

    kinds: tuple[type, ...]
    least: float = -sys.float_info.max
    most: float = sys.float_info.max


_POSITIVE = _Number((int,), 1)
_NUMBER = _Number((int, float))
_ABOVE_0 = 1e-45  # what single precision can still hold
_GAIN = _Number((int, float), _ABOVE_0, 3.4e38)
_NO_WEIGHT_BELOW_0 = _Number((int, float), 0)
_COLOUR = re.compile("#[0-9a-f]{6}")
_RULES = {
    "manifest_version": int,
    "name": str,
    "halo": _POSITIVE,
    "normative": {
        "stride": _Number((int,), 1, MAX_STRIDE),
        "channels": _POSITIVE,
        "levels": [
            {
                "minimum": int,
                "own?": [_POSITIVE],
                "shared?": [_POSITIVE],
                "starts?": [_POSITIVE],
                "magnitude?": [int],
                "sign?": [int],
                "sure?": _POSITIVE,
                "inverse_gain": [_GAIN],
            }
        ],
        "files": {"*": str},
    },
    "encoder": {
        "gain": [[_GAIN]],
        "default_level": _POSITIVE,
        # The first models were written before there were offsets, objectives and points.
        "offset?": [_Number((int, float), _ABOVE_0, PLAIN_OFFSET)],
        "objective?": [dict.fromkeys(Objective._fields, _NO_WEIGHT_BELOW_0)],
        "points?": [
            {
                "scale": _Number((int, float), _ABOVE_0, 1),
                "level": _POSITIVE,
                "bpp": _Number((int, float), _ABOVE_0),
                "psnr": _NUMBER,
                "agreement": {"*": _NUMBER},
            }
        ],
    },
    "heads": {
        "*": {
            "file": str,
            "network": str,
            "input_size": _Number((int,), 1, MAX_INPUT_SIZE),
            "labels": [str],
            "classes": [str],
            "colours?": [_COLOUR],
        }
    },
    "files": {"*": {"bytes": int, "sha256": str}},
}
"""What the manifest must hold: a type, a range, a pattern, a list of such values, or an object.

A field whose name ends in a question mark may be left out; * is every field there is."""


class Model:
    """A model folder whose manifest was read and checked; files are read when they are needed.

    Attributes:
        path: the folder, absolute, so that files are found after the process has changed its own.
        manifest: the whole manifest.
        name: of the model.
        fingerprint: 4 bytes that frames carry.
        stride: pixels a latent position, in each direction.
        halo: latent positions around a tile that its result depends on.
        channels: of the latent.
        levels: quality levels; level n is ``levels[n - 1]``.
        default_level: used where the caller names none.
        points: scales and levels that were measured; empty where none was.
        heads: task networks by task: ``classify``, ``segment``, ``detect``.
    """

    name: str
    halo: int
    stride: int
    channels: int
    default_level: int

    def __init__(self, path: Path) -> None:
        """Read the manifest.

        Raises:
            UnknownModel: the folder holds no manifest.
            DamagedModel: the manifest breaks a rule.
        """
        path = path.absolute()
        self.path = path
        self._kept: dict[str, Any] = {}
        self.manifest = _read_manifest(path / MANIFEST)
        if self.manifest.get("manifest_version", MANIFEST_VERSION) != MANIFEST_VERSION:
            raise DamagedModel(
                f"{path / MANIFEST} is of version {self.manifest['manifest_version']!r}; this "
                f"release reads version {MANIFEST_VERSION}: update tactic-codec"
            )
        try:
            _check(_RULES, [self.manifest], MANIFEST)
            self._interpret(self.manifest["normative"], self.manifest["encoder"])
        # DamagedModel: of the context thresholds, which do not know whose they are.
        except (KeyError, TypeError, ValueError, OverflowError, UnknownLevel, DamagedModel) as exc:
            raise DamagedModel(
                f"{path / MANIFEST}: {type(exc).__name__} {exc}; install the model again"
            ) from exc

    def _interpret(self, normative: dict[str, Any], encoder: dict[str, Any]) -> None:
        self.name, self.halo = self.manifest["name"], self.manifest["halo"]
        self.stride, self.channels = normative["stride"], normative["channels"]
        self.fingerprint = fingerprint(normative)
        levels, count = normative["levels"], len(normative["levels"])
        # Lists of different lengths are a ValueError, here and below.
        gains = np.array([encoder["gain"], [level["inverse_gain"] for level in levels]], np.float32)
        if not 1 <= count <= MAX_LEVEL or gains.shape != (2, count, self.channels):
            raise ValueError(
                f"expected 1 to {MAX_LEVEL} levels, each of {self.channels} gains and inverse "
                f"gains, found an array {gains.shape}"
            )
        offsets = encoder.get("offset", [PLAIN_OFFSET] * count)
        told = encoder.get("objective", [None] * count)
        self.levels = tuple(
            Level(level["minimum"], _contexts(level), gain, inverse, offset, _objective(objective))
            for level, gain, inverse, offset, objective in zip(
                levels, *gains, offsets, told, strict=True
            )
        )
        self.default_level = encoder["default_level"]
        self.points = tuple(
            Point(*(row[name] for name in Point._fields)) for row in encoder.get("points", ())
        )
        for number in (self.default_level, *(point.level for point in self.points)):
            self.level(number)
        self.heads = {task: _head(task, **head) for task, head in self.manifest["heads"].items()}
        self._files = self.manifest["files"]
        if set(normative["files"]) != {TABLES, SYNTHESIS}:
            raise ValueError(f"the fingerprint must cover {TABLES} and {SYNTHESIS}")
        for name, digest in normative["files"].items():
            if self._files[name]["sha256"] != digest:
                raise ValueError(f"two hashes are given for {name}")

    def front(self, task: str | None = None) -> list[Point]:
        """Return the points that none with fewer bits is better than, fewest bits first.

        The one of the highest PSNR is the last, if it costs most: a table of few pictures may find
        another as good for the task.

        Args:
            task: that the result is of, see `Point.result`.

        Raises:
            UnmeasuredModel: there are none.
        """
        front: list[Point] = []
        points = [point for point in self.points if not task or task in point.agreement]
        for point in sorted(points, key=lambda point: (point.bpp, -point.psnr)):
            if not front or point.result(task) > front[-1].result(task):
                front.append(point)
        if not front:
            raise UnmeasuredModel(
                f"model {self.name} does not say what its scales are worth"
                f"{f' to {task}' if task else ''}: give a number as the scale"
            )
        finest = max(points, key=lambda point: point.psnr)
        return front + [finest] * (finest.bpp > front[-1].bpp)

    def level(self, number: int) -> Level:
        """Return a quality level, counted from 1.

        Raises:
            UnknownLevel: the model does not have it.
        """
        if not 1 <= number <= len(self.levels):
            raise UnknownLevel(
                f"model {self.name} has quality levels 1 to {len(self.levels)}, not {number}"
            )
        return self.levels[number - 1]

    def tables(self, number: int) -> FrequencyTables:
        """Return the frequency tables of a quality level, counted from 1.

        Raises:
            UnknownLevel: the model does not have it.
            DamagedModel: the tables are not those the manifest names, or break their rules.
        """
        return self.keep(f"tables {number}", lambda: self._read_tables(number))

    def _read_tables(self, number: int) -> FrequencyTables:
        level, file = self.level(number), self._table_file
        sets = None
        try:
            frequencies = file[f"level_{number}"]
            contexts = level.contexts
            if isinstance(contexts, LearnedThresholds):
                names = ("{}_units", "{}_unit_bias_{}", "{}_weights", "{}_bias_{}")
                magnitude, sign = (
                    Layers(*(file[name.format(kind, number)] for name in names))
                    for kind in ("magnitude", "sign")
                )
                sets, layers = file["sets"], (magnitude, sign)
                contexts = LearnedContexts(
                    contexts.starts, contexts.magnitude, contexts.sign, contexts.sure, layers
                )
        except DamagedModel:
            raise
        # NumPy and zipfile let slip whatever they trip over: tokenize.TokenError, LZMAError,
        # RuntimeError of a password, MemoryError of a shape that was declared.
        except Exception as exc:
            raise DamagedModel(f"{self.path / TABLES} has no tables of level {number}") from exc
        tables = FrequencyTables(level.minimum, frequencies, contexts, sets)
        if tables.channels != self.channels:
            raise DamagedModel(
                f"{self.path / TABLES} has {tables.channels} channels at level {number}, "
                f"the manifest {self.channels}"
            )
        return tables

    def keep(self, key: str, make: Callable[[], T]) -> T:
        """Return what was made of this model under a key, made now if it is the first time.

        It lives as long as the model does. Of what several threads make at once, all get the same.
        """
        if key not in self._kept:
            self._kept.setdefault(key, make())
        kept: T = self._kept[key]
        return kept

    def decode_symbols(self, frame: Frame, *, narrow: bool = False) -> NDArray[Any]:
        """Decode a frame's symbols, int32 [C, h, w]; no network runs. See `entropy.decode`.

        Raises:
            UnknownModel: the frame names another model.
            UnknownLevel: the model does not have the frame's level.
            Corrupt: no encoder writes this payload.
            DamagedModel: the tables are damaged.
        """
        if frame.fingerprint != self.fingerprint:
            raise UnknownModel(
                f"the file was made with the model of fingerprint {frame.fingerprint.hex()}; "
                f"{self.name} is {self.fingerprint.hex()}"
            )
        shape = (self.channels, *latent_size(frame.coded_height, frame.coded_width, self.stride))
        return entropy.decode(frame.payload, shape, self.tables(frame.level), narrow=narrow)

    @cached_property
    def _table_file(self) -> Any:
        data = self.read_file(TABLES)
        try:
            tables = np.load(io.BytesIO(data), allow_pickle=False)
        except Exception as exc:  # whatever NumPy trips over, as in `tables`
            raise DamagedModel(f"{self.path / TABLES} is not a NumPy archive: {exc}") from exc
        if not isinstance(tables, np.lib.npyio.NpzFile):
            raise DamagedModel(f"{self.path / TABLES} is not a NumPy archive but a single array")
        return tables

    def head(self, task: str) -> Head:
        """Return the task network for a task.

        Raises:
            UnknownTask: the model has none.
        """
        if task not in self.heads:
            known = ", ".join(self.heads) or "no task networks"
            raise UnknownTask(f"model {self.name} cannot {task}; it has: {known}")
        return self.heads[task]

    def network_file(self, network: str) -> str:
        """Return the name of a network's ONNX file: of "analysis", "synthesis" or a task.

        Raises:
            UnknownTask: the model has no such network.
        """
        coding = network in ("analysis", "synthesis")
        return f"{network}.onnx" if coding else self.head(network).file

    def eight_bit_file(self, network: str) -> str | None:
        """Return likewise the file that computes with 8-bit integers; None where there is none."""
        name = self.network_file(network).removesuffix(".onnx") + EIGHT_BITS
        return name if name in self._files else None

    def held_out(self) -> frozenset[str] | None:
        """Return the images that training kept out, as paths; None where the model does not say.

        Raises:
            DamagedModel: the list differs from the manifest, or is not text.
        """
        # A head that was added later has a list of its own. Of the same data it may have kept out
        # what the codec was trained on.
        names = [HELD_OUT, *(f"{task}-{HELD_OUT}" for task in self.heads)]
        lists = [self._names_in(name) for name in names if name in self._files]
        if not lists:
            return None
        return frozenset.intersection(*lists) or frozenset().union(*lists)

    def _names_in(self, name: str) -> frozenset[str]:
        try:
            text = self.read_file(name).decode("utf-8")
        except UnicodeDecodeError as exc:
            raise DamagedModel(f"{self.path / name} is not UTF-8: {exc}") from exc
        lines = (line.strip() for line in text.splitlines())
        return frozenset(line for line in lines if line and not line.startswith("#"))

    def read_file(self, name: str) -> bytes:
        """Return a file of the folder, its hash compared with the manifest.

        Raises:
            DamagedModel: the file is missing, not named by the manifest, or differs from it.
            BackendUnavailable: it is one of those that only training needs, and is not installed.
        """
        if name not in self._files:
            raise DamagedModel(f"{self.path / MANIFEST} names no file {name}")
        if Path(name).name != name:
            raise DamagedModel(f"{self.path / MANIFEST} names the file {name!r} outside the folder")
        path = self.path / name
        if self._left_out(name):
            raise BackendUnavailable(
                f"{path} is not installed: training, effort and torch need it; "
                "a checkout has it, and so has the wheel tactic-codec-training, which bin/wheels "
                "makes there"
            )
        expected = self._files[name]
        try:
            # A pipe would be waited for, and a device may never end.
            if not stat.S_ISREG(path.stat().st_mode):
                raise OSError(errno.EINVAL, "this is no file")
            with path.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                if size != expected["bytes"]:
                    raise DamagedModel(
                        f"{path} differs from the manifest ({size} bytes, expected "
                        f"{expected['bytes']}); install the model again"
                    )
                data = stream.read(size)
        except OSError as exc:
            raise DamagedModel(f"{path} cannot be read: {exc}; install the model again") from exc
        found = hashlib.sha256(data).hexdigest()
        if found != expected["sha256"]:
            raise DamagedModel(
                f"{path} differs from the manifest (SHA-256 {found[:12]}…, expected "
                f"{expected['sha256'][:12]}…); install the model again"
            )
        return data

    def _left_out(self, name: str) -> bool:
        return bool(FOR_TRAINING.fullmatch(name)) and not (self.path / name).exists()

    def verify(self) -> None:
        """Read every file and every table once, but for `FOR_TRAINING` where that is left out.

        Raises:
            DamagedModel: something differs from the manifest or breaks a rule.
        """
        for name in self._files:
            if not self._left_out(name):
                self.read_file(name)
        for number in range(1, len(self.levels) + 1):
            self.tables(number)


def _contexts(level: Mapping[str, Any]) -> ContextModel | LearnedThresholds:
    if "starts" not in level:
        return ContextModel(tuple(level["own"]), tuple(level["shared"]))
    starts, magnitude, sign = (tuple(level[name]) for name in ("starts", "magnitude", "sign"))
    return LearnedThresholds(starts, magnitude, sign, level["sure"])


def _objective(told: Mapping[str, float] | None) -> Objective | None:
    return None if told is None else Objective(*(told[name] for name in Objective._fields))


def latent_size(height: int, width: int, stride: int) -> tuple[int, int]:
    """Return rows and columns of the latent of a picture."""
    return -(-height // stride), -(-width // stride)


def fingerprint(normative: Mapping[str, Any]) -> bytes:
    """Return the 4 bytes that name what fixes the decoded image.

    They are the first of the SHA-256 of the part as JSON with sorted keys and no spaces.
    """
    canonical = json.dumps(normative, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).digest()[:FINGERPRINT_BYTES]


def search_path() -> list[Path]:
    """Return the folders in which models are looked for, in order; some may not exist."""
    named = [Path(p) for p in os.environ.get("TACTIC_MODELS", "").split(os.pathsep) if p]
    bundled = _BUNDLED if _BUNDLED.is_dir() else _CHECKOUT
    return [*named, *_data_folders(), bundled]


def _data_folders() -> list[Path]:
    """Return the user's folder of models; none for a user without a home, as in containers."""
    home = os.environ.get("XDG_DATA_HOME")
    try:
        data = Path(home) if home else Path.home() / ".local" / "share"
    except RuntimeError:
        return []
    return [data / "tactic-codec" / "models"]


_models: dict[Path, tuple[Hashable, Model]] = {}
_found: dict[Hashable, Model] = {}
"""By fingerprint and search path: a stream asks for the same one again and again."""
_lock = threading.RLock()

if hasattr(os, "register_at_fork"):  # Windows does not fork
    # A child in which some other thread of the parent had the lock would wait for ever.
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )


def _at(path: Path) -> Model:
    """Return the model of a folder, whose manifest is read if it is new or has changed."""
    path = path.absolute()
    with _lock:
        try:
            now = (path / MANIFEST).stat()
        except OSError as exc:
            raise UnknownModel(f"{path / MANIFEST} cannot be read: {exc}") from exc
        stamp = (now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        known = _models.get(path)
        if known is None or known[0] != stamp:
            known = _models[path] = (stamp, Model(path))
        return known[1]


@dataclass(frozen=True)
class Damaged:
    """A model folder that is installed but cannot be read."""

    path: Path
    reason: str


def installed() -> Iterator[Model | Damaged]:
    """Yield every installed model in the order of the search; of equal names the first."""
    seen: set[str] = set()
    for model in _everything():
        if model.path.name not in seen:
            seen.add(model.path.name)
            yield model


def _everything() -> Iterator[Model | Damaged]:
    """Yield every model on the search path, those too whose name another one takes."""
    for folder in search_path():
        try:
            paths = sorted(folder.iterdir())
        except OSError:  # it is not there, no folder, or not ours to read
            continue
        for path in paths:
            # What is hidden is a model that is being written, or what a killed process left of one.
            if path.name.startswith(".") or not _holds_model(path):
                continue
            try:
                yield _at(path)
            except (DamagedModel, UnknownModel) as exc:
                yield Damaged(path, str(exc))


def find(name: str | Path) -> Model:
    """Return a model by its name, or by the path of its folder.

    Raises:
        UnknownModel: neither an installed model nor a model folder.
        DamagedModel: its manifest breaks a rule.
        TypeError: ``name`` is neither a name nor a path.
    """
    if not isinstance(name, str | os.PathLike):
        raise TypeError(f"a model's name or the path of its folder was expected, not {name!r}")
    path = Path(name)
    is_name = path.name == str(name) and path.name not in (".", "..")
    if is_name:
        for folder in search_path():
            if _holds_model(folder / path):
                return _at(folder / path)
    if _holds_model(path):
        return _at(path)
    is_folder = not is_name and os.path.isdir(path)
    said = f"no {MANIFEST} in the folder" if is_folder else "there is no model"
    raise UnknownModel(f"{said} {str(name)!r}; {_installed_list()}")


def find_fingerprint(wanted: bytes) -> Model:
    """Return the installed model that a frame names, whatever its folder is called.

    Raises:
        UnknownModel: none is installed.
    """
    key = (wanted, *search_path())
    if key in _found:
        return _found[key]
    for model in _everything():
        if isinstance(model, Model) and model.fingerprint == wanted:
            return _found.setdefault(key, model)
    place = next(iter(_data_folders()), "a folder that TACTIC_MODELS names")
    raise UnknownModel(
        f"the file needs the model with fingerprint {wanted.hex()}, which is not installed; "
        f"{_installed_list()}. Get that model's folder from whoever made the file and put it into "
        f"{place}, or name the folder with --model"
    )


def _holds_model(path: Path) -> bool:
    try:
        return (path / MANIFEST).is_file()
    except OSError:  # a name longer than the system's names, a folder that may not be read
        return False


def _installed_list() -> str:
    entries = [
        f"{m.path} (damaged)" if isinstance(m, Damaged) else f"{m.name} ({m.fingerprint.hex()})"
        for m in installed()
    ]
    return f"installed: {', '.join(entries) or 'none'}"


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_MANIFEST_BYTES + 1)
    except OSError as exc:
        raise UnknownModel(f"{path} cannot be read: {exc}") from exc
    if len(data) > MAX_MANIFEST_BYTES:
        raise DamagedModel(f"{path} is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        manifest = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise DamagedModel(f"{path} is not JSON: {exc}; install the model again") from exc
    if not isinstance(manifest, dict):
        raise DamagedModel(f"{path} holds no JSON object; install the model again")
    return manifest


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def _check(rule: Any, values: list[Any], name: str) -> None:
    """Raise KeyError, TypeError or ValueError where one of some values breaks their rule."""
    if isinstance(rule, _Number):
        kinds = rule.kinds
    else:
        kinds = (str,) if rule is _COLOUR else (rule if isinstance(rule, type) else type(rule),)
    # All at once: a manifest has thousands of gains and labels. A truth value is an int to
    # isinstance; as a size it is a mistake.
    if not set(map(type, values)).issubset(kinds):
        wrong = next(value for value in values if type(value) not in kinds)
        raise TypeError(f"{name} cannot be {wrong!r}")
    if isinstance(rule, _Number) and values:
        if min(values) < rule.least or max(values) > rule.most:
            raise ValueError(
                f"expected {name} from {rule.least} to {rule.most}, found {min(values)!r} to "
                f"{max(values)!r}"
            )
    elif rule is _COLOUR and not all(map(_COLOUR.fullmatch, values)):
        raise ValueError(f"expected {name} such as #804080, found {values}")
    elif isinstance(rule, list):
        _check(rule[0], [item for value in values for item in value], name)
    elif isinstance(rule, dict):
        for key, inner in rule.items():
            field = key.removesuffix("?")
            if key == "*":
                found = [item for value in values for item in value.values()]
            else:
                found = [value[field] for value in values if field in value or field == key]
            _check(inner, found, field)
    elif rule is str:
        "".join(values).encode()  # half a surrogate pair, which JSON can hold, is a ValueError


def _head(
    task: str,
    file: str,
    network: str,
    input_size: int,
    labels: list[str],
    classes: list[str],
    colours: Sequence[str] = (),
    **_: Any,
) -> Head:
    if task == "detect" and not 0 < len(labels) == len(classes):
        raise ValueError("expected a label and a class of each kind of object")
    if task == "segment":
        if not 0 < len(labels) <= MAX_SEGMENT_CLASSES:
            raise ValueError(f"expected 1 to {MAX_SEGMENT_CLASSES} classes of a label map")
        if len(colours) != len(labels):
            raise ValueError("expected a colour for each class of a label map")
    rgb = [bytes.fromhex(colour[1:]) for colour in colours]
    triples = tuple((red, green, blue) for red, green, blue in rgb)
    return Head(file, network, input_size, tuple(labels), tuple(classes), triples)
