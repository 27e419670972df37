"""What fuzzers call: one function a target, each from any bytes to nothing, or to an exception.

    parser      bytes as a file and as a stream of frames; both parsers judge alike
    decoder     bytes as level, size and payload of a frame whose checksum is right
    picture     bytes as a picture file
    metadata    bytes as EXIF, XMP or colour profile of a frame
    stream      bytes as a stream of pictures, which come in large and in small pieces
    folder      bytes as a manifest or as tables, with the hashes that a forger would write
    network     bytes as the ONNX file of the synthesis network, likewise
    segment     bytes as what is segmented, or as the manifest or ONNX file of what segments it
    detect      bytes as the ONNX file of a detector, as its output, or as a file that marks boxes
    teacher     bytes as the ONNX file of a network that is to teach or judge

A target swallows nothing but the errors that its promise names. Everything else is a finding: an
exception of another class, a disagreement between two decoders, a result that breaks a rule.
Needs no fuzzer itself: the suite feeds it from Hypothesis, ``run.py`` from Atheris.
"""

import functools
import hashlib
import io
import json
import shutil
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tactic_codec import boxes, container, entropy, tasks
from tactic_codec import picture as image
from tactic_codec.codec import Codec, load_model
from tactic_codec.container import Frame
from tactic_codec.errors import (
    Corrupt,
    DataError,
    FormatError,
    ImageError,
    LimitExceeded,
    ModelError,
    UnsupportedNetwork,
)
from tactic_codec.picture import Shrink, profiles
from tactic_codec.picture.streams import pictures
from tactic_codec.tasks import annotations

TESTS = Path(__file__).parents[1]
TINY = TESTS / "models" / "tiny"
VECTORS = TESTS / "vectors"
sys.path.insert(0, str(TESTS))  # run.py lies beside this file, not beside the reference decoder

import reference_decoder  # noqa: E402
from detector import DETECT_FILE, DETECT_LABELS, colour_boxes, detect_head  # noqa: E402
from plain_tables import plain_levels  # noqa: E402
from segmenter import SEGMENT_FILE, brightest_channel, segment_head  # noqa: E402

_MAX_PIXELS = 1 << 16
_REFERENCE_SYMBOLS = 256  # the reference decoder is slow


class Finding(Exception):
    """A promise that does not hold."""


def check(holds: object, promise: str) -> None:
    """Raise `Finding` if a promise does not hold."""
    if not holds:
        raise Finding(promise)


@functools.cache
def tiny() -> Codec:
    """Return the tiny model on one thread."""
    return load_model(TINY, device="cpu", threads=1)


@functools.cache
def plain_tables() -> dict[int, dict[str, Any]]:
    """Return the tiny model's tables as the reference decoder takes them."""
    return {int(number): level for number, level in plain_levels(tiny().model).items()}


def sealed(body: bytes) -> bytes:
    """Return a frame's body with the checksum that belongs to it."""
    return body + zlib.crc32(body).to_bytes(4, "little")


# --- Frames ---------------------------------------------------------------------------------------


def parser(data: bytes) -> None:
    """Parse bytes as they are, and again with a right checksum behind them."""
    for file in (data, sealed(data)):
        _parse(file)
        _stream(file)


def _parse(data: bytes) -> None:
    verdict = "a frame"
    try:
        frame = container.parse(data, max_pixels=_MAX_PIXELS)
    except (FormatError, LimitExceeded) as error:
        verdict = type(error).__name__
    else:
        check(container.pack(frame) == data, "a frame has one spelling")
    try:
        reference_decoder.parse(data, _MAX_PIXELS)
    except reference_decoder.Refused as refused:
        check(str(refused) == verdict, f"both parsers say {verdict}, not {refused}")
    else:
        check(verdict == "a frame", f"both parsers say {verdict}")
        metadata = reference_decoder.parse(data, _MAX_PIXELS)["metadata"]
        check(metadata == frame.metadata, "both parsers find the same metadata")


def _stream(data: bytes) -> None:
    stream = io.BytesIO(data)
    end = 0
    try:
        while (frame := container.read_frame(stream, max_pixels=_MAX_PIXELS)) is not None:
            check(stream.tell() == end + frame.size, "no byte beyond the frame is taken")
            end = stream.tell()
    except (FormatError, LimitExceeded):
        pass
    else:
        check(end == len(data), "a stream ends between frames")


def well_formed(data: bytes) -> Frame:
    """Return a frame of the tiny model: level, coded width and height are the first bytes.

    The upper bits of the first one say how much larger the picture is, and if there is a section.
    """
    head = data[:3].ljust(3, b"\0")
    level, width, height = 1 + head[0] % 3, 1 + head[1], 1 + head[2]
    payload = data[3:].rstrip(b"\0")
    factor = 1 + (head[0] >> 6)
    scaled_to = (width, height) if factor > 1 else None
    sections = ((200, payload),) if head[0] & 32 else ()
    whole = (width * factor, height * factor)
    fingerprint = tiny().model.fingerprint
    frame = Frame(fingerprint, level, *whole, payload, scaled_to, sections)
    check(container.parse(container.pack(frame)) == frame, "a frame comes back as it was")
    return frame


def decoder(data: bytes) -> None:
    """Decode a payload in a well-formed frame."""
    codec = tiny()
    frame = well_formed(data)
    level, width, height = frame.level, frame.coded_width, frame.coded_height
    payload = frame.payload
    shape = (codec.model.channels, -(-height // 8), -(-width // 8))
    tables = codec.model.tables(level)
    read = {
        coder.name: _outcome(functools.partial(entropy.decode, payload, shape, tables, coder))
        for coder in (entropy.CONSTRICTION, entropy.PURE)
    }
    check(read["constriction"] == read["pure"], "both coders read the same")
    if np.prod(shape) <= _REFERENCE_SYMBOLS:
        reference = _outcome(
            lambda: np.array(
                reference_decoder.decode_symbols(payload, *shape[1:], plain_tables()[level])
            )
        )
        check(reference == read["pure"], "the reference decoder reads the same")
    if read["pure"] == "Corrupt":
        return
    symbols = codec.model.decode_symbols(frame)
    check(symbols.tolist() == read["pure"], "the codec reads the same")
    limit = entropy.SYMBOL_LIMIT
    again = entropy.encode(symbols, tables)
    check(
        np.array_equal(entropy.decode(again, shape, tables), symbols.clip(-limit, limit)),
        "what was decoded can be coded",
    )
    coded = codec.decode(frame, coded_size=True)
    check(coded.shape == (height, width, 3), "what was coded has the size that the frame says")
    own = codec.decode(frame).shape
    check(own == (frame.height, frame.width, 3), "the picture has the frame's size")


def _outcome(decode: Callable[[], Any]) -> Any:
    try:
        return decode().tolist()
    except (Corrupt, reference_decoder.Refused):
        return "Corrupt"


# --- Pictures -------------------------------------------------------------------------------------


def picture(data: bytes) -> None:
    """Load bytes as a picture file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", image.ImageWarning)
        try:
            pixels = image.load(data, max_pixels=_MAX_PIXELS)
        except (ImageError, LimitExceeded):
            return
    check(
        pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size,
        "a picture is uint8 [height, width, 3]",
    )
    check(pixels.size <= 3 * _MAX_PIXELS, "the limit on pixels holds")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", image.ImageWarning)
        small = image.read(data, max_pixels=_MAX_PIXELS, shrink=Shrink(5))
    check((small.height, small.width) == pixels.shape[:2], "a shrunk picture keeps its size")
    size = Shrink(5).size(small.width, small.height)
    check(small.pixels.shape[1::-1] == size, "a picture is as small as it was asked to be")


def metadata(data: bytes) -> None:
    """Write bytes as EXIF, XMP or profile with a picture, by the first one, and read that again."""
    field = ("exif", "xmp", "icc")[(data[0] if data else 0) % 3]
    given = image.Metadata(**{field: data[1:]})
    pixels = np.arange(5 * 9 * 3, dtype=np.uint8).reshape(5, 9, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", image.ImageWarning)
        kept = image.mended(given)
        check(image.mended(kept) == kept, "what was mended stays as it is")
        for format in ("png", "jpeg", "webp"):
            again = image.read(image.save(pixels, format, given))
            check(again.pixels.shape == pixels.shape, "metadata turns no picture")
            told = again.metadata
            check((told.exif, told.xmp) == (kept.exif, kept.xmp), "what is kept is given back")
            check(told.icc in (kept.icc, b""), "a profile is given back, or cannot be used")


class _Pieces(io.RawIOBase):
    """A stream that hands over a few bytes at a time, or all at once."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data, self._step, self._at = data, step, 0

    def read(self, size: int = -1) -> bytes:
        self._at += self._step
        return self._data[self._at - self._step : self._at]


def stream(data: bytes) -> None:
    """Find the pictures of a stream, and decode them."""
    told = []
    for step in (len(data) + 1, 1, 7):
        items = list(pictures(_Pieces(data, step), max_bytes=_MAX_PIXELS))
        told.append([(i.number, i.data, i.header, repr(i.problem), i.warning) for i in items])
    check(told[0] == told[1] == told[2], "what is found does not depend on how the bytes come")
    check(items, "a stream is never without an answer")
    # What shows behind a picture that it is damaged has its number, too.
    numbers = list(dict.fromkeys(item.number for item in items if not item.warning))
    check(numbers in ([0], [*range(1, len(numbers) + 1)]), "pictures are counted one by one")
    files = [item.number for item in items if item.data]
    check(len(files) == len(set(files)), "no two pictures have one number")
    check(sum(len(item.data) for item in items) <= len(data), "no byte is in two pictures")
    for item in items:
        if item.warning:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", image.ImageWarning)
            try:
                pixels = item.read(_MAX_PIXELS).pixels
            except (ImageError, LimitExceeded):
                continue
        check(pixels.dtype == np.uint8 and pixels.ndim == 3, "a picture is uint8 [h, w, 3]")
        check(0 < pixels.size <= 3 * _MAX_PIXELS, "the limit on pixels holds")


# --- Model folders --------------------------------------------------------------------------------


@functools.cache
def _workshop() -> Path:
    path = Path(tempfile.mkdtemp(prefix="tactic-fuzz-")) / "tiny"
    shutil.copytree(TINY, path)
    return path


def forge(path: Path, name: str, data: bytes) -> None:
    """Put a file into a copy of the tiny model, with its size and hash in the manifest."""
    digest = hashlib.sha256(data).hexdigest()
    manifest = json.loads((TINY / "model.json").read_text(encoding="utf-8"))
    manifest["files"][name] = {"bytes": len(data), "sha256": digest}
    manifest["normative"]["files"][name] = digest
    (path / "model.json").write_text(json.dumps(manifest), encoding="utf-8")
    (path / name).write_bytes(data)


ODD_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 3, 255, 256, 1025, 2**20, 2**31, 2**63, 2**64, 10**400),
    *(0.0, -0.5, 1.5, 1e-50, 1e40, 1e300, float("nan"), float("inf"), -float("inf")),
    *("", "a", "../x", "/dev/zero", "tables.npz", "\0", "\ud800", "e" * 300, "0" * 64),
    *([], [1], [1, 1], [0], [2, 1], [[1]], [None], {}, {"a": 1}, {"": {}}, {"a": {"bytes": 0}}),
]


def _spoil(manifest: Any, choices: bytes) -> None:
    """Change values of a manifest; of every two bytes one says where and one says what."""
    for where, what in zip(choices[::2], choices[1::2], strict=False):
        places: list[tuple[Any, Any]] = []
        _list_places(manifest, places)
        if not places:
            return
        holder, key = places[where * len(places) // 256]
        if what == 255:
            del holder[key]
        else:
            holder[key] = json.loads(json.dumps(ODD_VALUES[what % len(ODD_VALUES)]))


def _list_places(value: Any, places: list[tuple[Any, Any]]) -> None:
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(min(len(value), 3)):
            places.append((value, key))
            _list_places(value[key], places)


def folder(data: bytes) -> None:
    """Use a folder whose manifest or tables are the bytes behind the first, or spoilt by them."""
    path = _workshop()
    shutil.copy(TINY / "tables.npz", path)
    shutil.copy(TINY / "synthesis.onnx", path)
    kind, rest = data[:1], data[1:]
    if kind < b"\x40":
        (path / "model.json").write_bytes(rest)
    elif kind < b"\xa0":
        manifest = json.loads((TINY / "model.json").read_text(encoding="utf-8"))
        _spoil(manifest, rest[:16])
        (path / "model.json").write_text(json.dumps(manifest), encoding="utf-8")
    else:
        forge(path, "tables.npz", rest)
    try:
        codec = load_model(path, device="cpu", threads=1)
        codec.model.verify()
        for level in range(1, len(codec.model.levels) + 1):
            frame = Frame(codec.model.fingerprint, level, 9, 5, b"")
            check(codec.decode(frame).shape == (5, 9, 3), "a model that was verified decodes")
    except (ModelError, Corrupt):
        pass


def network(data: bytes) -> None:
    """Decode a frame with a synthesis network that is these bytes."""
    path = _workshop()
    shutil.copy(TINY / "tables.npz", path)
    forge(path, "synthesis.onnx", data)
    try:
        codec = load_model(path, device="cpu", threads=1)
        pixels = codec.decode(Frame(codec.model.fingerprint, 1, 9, 9, b""))
    except ModelError:
        return
    check(pixels.shape == (9, 9, 3), "the picture has the frame's size")


# --- Segmentation ---------------------------------------------------------------------------------


def segment(data: bytes) -> None:
    """Segment a frame; the first byte says which part of that is foreign.

    It is the frame's payload, the head's JSON, a few of its values, or its network.
    """
    kind, rest = data[:1], data[1:]
    frame = well_formed(rest if kind < b"\x40" else b"\x01\x20\x0c")
    network, head = brightest_channel(), segment_head()
    if kind >= b"\xc0":
        network = rest
    manifest = json.loads((TINY / "model.json").read_text(encoding="utf-8"))
    if b"\x40" <= kind < b"\x80":
        try:
            head = json.loads(rest)
        except (ValueError, RecursionError):  # no JSON; `folder` does the same to whole manifests
            return
    elif b"\x80" <= kind < b"\xc0":
        _spoil(head, rest[:16])
    manifest["heads"]["segment"] = head
    entry = {"bytes": len(network), "sha256": hashlib.sha256(network).hexdigest()}
    manifest["files"][SEGMENT_FILE] = entry
    path = _copied("segmenter")
    (path / "model.json").write_text(json.dumps(manifest), encoding="utf-8")
    (path / SEGMENT_FILE).write_bytes(network)
    try:
        codec = load_model(path, device="cpu", threads=1)
        codec.model.verify()
        found = tasks.segment(frame, codec=codec)
    except (ModelError, Corrupt):
        check(kind >= b"\x40" or _outcome_of(frame) == "Corrupt", "a whole frame is segmented")
        return
    check(found.labels.shape == (frame.height, frame.width), "the label map has the frame's size")
    check(found.labels.dtype == np.uint8, "a label is a byte")
    check(found.labels.max() < len(found.names), "every label has a name")
    check(len(found.names) == len(found.colours) == len(found.shares), "every class has a colour")
    check(abs(sum(found.shares) - 1) < 1e-9, "the shares are of the whole picture")
    with Image.open(io.BytesIO(found.to_png())) as again:
        check(np.array_equal(np.asarray(again), found.labels), "the PNG keeps the classes")


@functools.cache
def _copied(purpose: str) -> Path:
    """Return a copy of the tiny model for one purpose."""
    path = Path(tempfile.mkdtemp(prefix=f"tactic-fuzz-{purpose}-")) / "tiny"
    shutil.copytree(TINY, path)
    return path


def _outcome_of(frame: Frame) -> Any:
    return _outcome(lambda: tiny().model.decode_symbols(frame))


# --- Detection ------------------------------------------------------------------------------------

MARKING = {b"\x00": "labels/x.txt", b"\x20": "Annotations/x.xml", b"\x40": "annotations/x.json"}


def detect(data: bytes) -> None:
    """Detect objects; the first byte says what of that is foreign.

    It is a file that marks boxes, what the network says, or the network.
    """
    kind, rest = data[:1], data[1:]
    if kind < b"\x60":
        file = MARKING[max(first for first in MARKING if first <= max(kind, b"\x00"))]
        _read_boxes(file, rest)
    elif kind < b"\xc0":
        said = np.frombuffer(rest[: len(rest) // 28 * 28], np.float32).reshape(-1, 7)
        if np.isfinite(said).all():
            _check_boxes(boxes.meant(said, (2.0, 0.5), (90, 40)))
    else:
        path = _copied("detector")
        manifest = json.loads((TINY / "model.json").read_text(encoding="utf-8"))
        manifest["heads"]["detect"] = detect_head()
        entry = {"bytes": len(rest), "sha256": hashlib.sha256(rest).hexdigest()}
        manifest["files"][DETECT_FILE] = entry
        (path / "model.json").write_text(json.dumps(manifest), encoding="utf-8")
        (path / DETECT_FILE).write_bytes(rest)
        try:
            codec = load_model(path, device="cpu", threads=1)
            found = tasks.detect(well_formed(b"\x01\x20\x0c"), 0, codec=codec)
        except (ModelError, Corrupt):
            return
        pixels = np.zeros((found.height, found.width, 3), np.uint8)
        check(found.overlay(pixels).shape == pixels.shape, "what is drawn has the picture's size")


def _check_boxes(found: list[boxes.Box]) -> None:
    for box in found:
        check(0 <= box.left < box.right <= 90, "a box lies in the picture")
        check(0 <= box.top < box.bottom <= 40, "a box lies in the picture")
    check(len(found) <= boxes.MOST, "boxes are few")
    alike = boxes.shared(found, found)
    check(alike.same == len(found), "boxes are their own")


def _read_boxes(file: str, data: bytes) -> None:
    folder = Path(tempfile.mkdtemp(prefix="tactic-fuzz-boxes-"))
    try:
        (folder / file).parent.mkdir()
        (folder / file).write_bytes(data)
        maker = annotations.found_in(folder)
        assert maker
        found = [thing.box for thing in maker(DETECT_LABELS)("x.jpg", 90, 40)]
    except DataError:
        return
    finally:
        shutil.rmtree(folder)
    for box in found:
        check(0 <= box.left < box.right <= 90, "a box lies in the picture")
        check(0 <= box.top < box.bottom <= 40, "a box lies in the picture")


def teacher(data: bytes) -> None:
    """Read a network that somebody brings: it is described, or refused by name."""
    from tactic_codec.training import foreign
    from tactic_codec.training.config import TeacherConfig

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.onnx")
        path.write_bytes(data)
        try:
            network = foreign.read(TeacherConfig(str(path)))
        except UnsupportedNetwork:
            return
        check(foreign.read(network.reading).guessed == "", "nothing is left open")
        pixels = np.zeros((40, 50, 3), np.uint8)
        height, width = foreign.sides(network.reading, 40, 50)
        if height * width <= _MAX_PIXELS:
            check(network.array(pixels).size == 3 * height * width, "pictures get their sides")
        try:
            foreign.shaped(network.at(height, width), path)
        except UnsupportedNetwork:
            return


TARGETS: dict[str, Callable[[bytes], None]] = {
    "parser": parser,
    "decoder": decoder,
    "picture": picture,
    "metadata": metadata,
    "stream": stream,
    "folder": folder,
    "network": network,
    "segment": segment,
    "detect": detect,
    "teacher": teacher,
}


# --- Seeds ----------------------------------------------------------------------------------------


def seeds(target: str) -> Iterator[bytes]:
    """Yield inputs from which a fuzzer of a target starts."""
    frames = [path.read_bytes() for path in sorted(VECTORS.glob("*/*.tac"))]
    if target == "parser":
        yield from frames
        yield from (data[:-4] for data in frames)
    elif target == "decoder":
        yield bytes(3)
        yield b"\xe1\x20\x0c\x01"
        yield from _payloads(frames)
    elif target == "picture":
        random = np.random.default_rng(1)
        pixels = random.integers(0, 256, (9, 13, 3), np.uint8)
        kinds = ["PNG", "JPEG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "QOI"]
        for kind in kinds + _extra_kinds():
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, kind)
            yield stream.getvalue()
        yield b"P7\nWIDTH 13\nHEIGHT 9\nDEPTH 3\nMAXVAL 255\nENDHDR\n" + pixels.tobytes()
    elif target == "metadata":
        exif = Image.Exif()
        exif[0x010F], exif[0x0112] = "a maker", 6
        exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
        yield b"\0" + exif.tobytes()[6:]
        yield b'\1<d tiff:Orientation="6"/><tiff:Orientation>8</tiff:Orientation>'
        yield b"\2" + (profiles.of_cicp(12, 13) or b"")
    elif target == "stream":
        yield from _streams()
    elif target == "folder":
        yield b"\0" + (TINY / "model.json").read_bytes()
        yield b"\xff" + (TINY / "tables.npz").read_bytes()
        stream = io.BytesIO()
        np.savez(stream, level_1=tiny().model.tables(1).frequencies)  # not compressed
        yield b"\xff" + stream.getvalue()
        yield b"\x80" + bytes(4)
    elif target == "segment":
        yield from (b"\0" + data for data in _payloads(frames))
        yield b"\0\xc1\x20\x0c\x01"
        yield b"\x40" + json.dumps(segment_head()).encode()
        yield b"\x80" + bytes(4)
        yield from (b"\xff" + brightest_channel(stride) for stride in (1, 4, 32))
    elif target == "detect":
        yield b"\x00" + b"0 0.5 0.5 0.25 0.5\n2 1 1 1 1\n"
        edges = (
            "".join(f"<{e}>9</{e}>" for e in ("xmin", "ymin")) + "<xmax>20</xmax><ymax>20</ymax>"
        )
        thing = f"<object><name>red thing</name><bndbox>{edges}</bndbox></object>"
        yield b"\x20" + f"<annotation>{thing}</annotation>".encode()
        one = {"image_id": 1, "category_id": 2, "bbox": [1, 2, 30, 20]}
        coco = {
            "images": [{"id": 1, "file_name": "x.jpg", "width": 90, "height": 40}],
            "categories": [{"id": 2, "name": "red thing"}],
            "annotations": [one],
        }
        yield b"\x40" + json.dumps(coco).encode()
        random = np.random.default_rng(1)
        yield b"\x60" + random.uniform(0, 40, (9, 7)).astype(np.float32).tobytes()
        yield b"\xff" + colour_boxes()
    else:
        yield (TINY / "synthesis.onnx").read_bytes()


def _extra_kinds() -> list[str]:
    """What the extra "formats" adds, where it is installed."""
    try:
        import pillow_heif
        import pillow_jxl  # noqa: F401 (it registers itself)
    except ImportError:
        return []
    pillow_heif.register_heif_opener()
    return ["HEIF", "JXL"]


def _payloads(frames: list[bytes]) -> Iterator[bytes]:
    """Yield those of whole frames, as `well_formed` takes them."""
    for data in frames:
        try:
            frame = container.parse(data)
        except (FormatError, LimitExceeded):
            continue
        sizes = ((frame.level - 1) % 3, min(frame.width, 256) - 1, min(frame.height, 256) - 1)
        yield bytes(sizes) + frame.payload


def _streams() -> Iterator[bytes]:
    """Yield a stream of each format, and of what lies between pictures."""
    small = Image.fromarray(np.arange(5 * 3 * 3, dtype=np.uint8).reshape(3, 5, 3))
    files = {}
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "PPM", "QOI"):
        buffer = io.BytesIO()
        small.save(buffer, kind)
        files[kind] = buffer.getvalue()
        yield files[kind] * 2
    buffer = io.BytesIO()
    small.save(buffer, "MPO", save_all=True, append_images=[small])
    yield buffer.getvalue() + files["JPEG"]
    yield b"P4 9 2 \1\2\3\4P3 1 1 255\n1 2 3\nP5 1 1 999\n\1\2"
    part = b"--b\r\nContent-Length: %d\r\n\r\n" % len(files["GIF"])
    yield b"HTTP/1.0 200 OK\r\n\r\n" + (part + files["GIF"] + b"\r\n") * 2 + b"--b--\r\n"
    film = b"\0\0\0\x10ftypmp42\0\0\0\0" + b"\0\0\0\x0amdat\1\2"
    yield files["JPEG"] + film + b"junk" + files["JPEG"] + b"%PDF-1.4 " + files["PNG"]
    yield b"YUV4MPEG2 W3 H2 C420jpeg XCOLORRANGE=FULL\n" + (b"FRAME\n" + bytes(range(10))) * 2
    yield b"YUV4MPEG2 W2 H1 Cmono16 Ib\n" + (b"FRAME Ib\n" + bytes(4)) * 2
