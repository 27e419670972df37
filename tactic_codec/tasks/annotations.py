"""Boxes that people drew, in the three forms in which they are passed around.

    images/a/b.jpg      labels/a/b.txt          YOLO: a line a box, class and centre, width, height
    NAME.jpg            annotations/*.json      COCO: one file for all
    JPEGImages/b.jpg    Annotations/b.xml       Pascal VOC

Nothing of a file is believed: sizes, numbers, classes and document types are checked first.
"""

import json
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from xml.etree import ElementTree

from tactic_codec.boxes import Box
from tactic_codec.errors import DataError

MAX_BYTES = 1 << 27
"""Of a COCO file; that of the 5,000 pictures of COCO's val2017 has 20 MB."""

MAX_TEXT_BYTES = 1 << 20
"""Of a YOLO or VOC file, which are of one picture."""

CLASSES = "classes.txt"
"""File of a YOLO folder with the names of its classes, a line each."""

_SLACK = 1e-3
"""By how much shares of a picture may miss 0 and 1 for having been rounded."""

# Pascal VOC and COCO call some things differently.
_ALIASES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}

Edges = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels of a picture."""


class Thing(NamedTuple):
    """An object that somebody marked.

    Attributes:
        box: of it; the score is 1.
        counts: whether it has to be found; crowds and what is difficult need not.
    """

    box: Box
    counts: bool = True


Reader = Callable[[str, int, int], list[Thing]]
"""From a picture's path below its folder, with "/", and its width and height to what it shows."""

Maker = Callable[[Sequence[str]], Reader]
"""From the names of a network's classes to what reads boxes of them."""


def found_in(folder: Path, *, loose: bool = False) -> Maker | None:
    """Return what makes a reader, if a folder has boxes.

    The reader, or what makes it, raises DataError where a file is damaged or not of the picture.

    Args:
        folder: laid out as above, or COCO's file itself.
        loose: whether the files may lie in the folder itself.
    """
    if folder.is_file():
        return partial(coco, folder)
    for name, suffix, reader in (
        ("Annotations", "xml", _voc),
        ("annotations", "json", _coco_of_folder),
        ("labels", "txt", _yolo),
    ):
        for place in (folder / name, folder) if loose else (folder / name,):
            # Lists of classes also lie beside label maps.
            if any(path.name != CLASSES for path in place.rglob(f"*.{suffix}")):
                return partial(reader, place)
    return None


def _index(classes: Sequence[str]) -> dict[str, int]:
    return {_simple(name): index for index, name in enumerate(classes)}


def _simple(name: str) -> str:
    name = name.replace("_", " ").casefold().strip()
    return _ALIASES.get(name, name)


def _file_of(folder: Path, pictures: str, name: str, suffix: str) -> Path:
    """Return where a folder of boxes has those of a picture, perhaps of a folder of pictures."""
    path = PurePosixPath(name).with_suffix(suffix)
    return folder / (path.relative_to(pictures) if path.parts[0] == pictures else path)


def _read(path: Path, limit: int) -> str:
    with path.open("rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise DataError(f"{path} has more than {limit} bytes, which no such file needs")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise DataError(f"{path} is not UTF-8: {exc}") from exc


def json_of(path: Path) -> Any:
    """Return a file of JSON, or a list of its lines where it has one on each; DataError else."""
    text = _read(path, MAX_BYTES)
    if not text.strip():
        raise DataError(f"{path} is empty: a list of no boxes is []")
    try:
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as exc:
        raise DataError(f"{path} is not JSON: {exc}") from exc


def _thing(
    where: str, index: int, edges: Edges, width: int, height: int, counts: bool = True
) -> Thing:
    return Thing(Box(index, 1.0, *within(where, edges, width, height)), counts)


def within(where: str, edges: Edges, width: int, height: int) -> Edges:
    """Return the edges of a box, cut at those of the picture.

    Raises:
        DataError: it is none, or nothing of it lies in the picture.
    """
    left, top, right, bottom = edges
    fault = f"lies outside of {width} x {height} pixels"
    if not all(map(math.isfinite, edges)):
        fault = "has an edge that is no finite number"
    elif left >= right or top >= bottom:
        fault = "is empty: left and top come first, then right and bottom"
    else:
        cut = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
        if cut[0] < cut[2] and cut[1] < cut[3]:
            return cut
    raise DataError(f"{where}: the box from ({left:g}, {top:g}) to ({right:g}, {bottom:g}) {fault}")


def check_size(where: str, found: tuple[float, float], width: int, height: int) -> None:
    """Raise DataError unless what a file says of a picture's size is true, or 0 for nothing."""
    if found not in ((width, height), (0, 0)):
        raise DataError(
            f"{where} is of {found[0]:g} x {found[1]:g} pixels, the upright picture has "
            f"{width} x {height}"
        )


# --- YOLO -----------------------------------------------------------------------------------------


def _yolo(folder: Path, classes: Sequence[str]) -> Reader:
    names = folder / CLASSES
    indices: list[int | None] = list(range(len(classes)))
    if names.is_file():
        known = _index(classes)
        indices = [known.get(_simple(name)) for name in _read(names, MAX_TEXT_BYTES).splitlines()]

    def read(name: str, width: int, height: int) -> list[Thing]:
        file = _file_of(folder, "images", name, ".txt")
        if not file.exists():  # of a picture that shows nothing
            return []
        lines = _read(file, MAX_TEXT_BYTES).splitlines()
        found = (
            _yolo_thing(f"{file}, line {number}", line.split(), indices, width, height)
            for number, line in enumerate(lines, start=1)
            if line.strip()
        )
        return [thing for thing in found if thing]

    return read


def _yolo_thing(
    where: str, words: list[str], indices: Sequence[int | None], width: int, height: int
) -> Thing | None:
    try:
        number = int(words[0])
        x, y, w, h = map(float, words[1:])
    except ValueError as exc:
        raise DataError(
            f"{where}: expected a class and four numbers, centre, width and height, found "
            f"{' '.join(words)[:80]!r}"
        ) from exc
    if not 0 <= number < len(indices):
        raise DataError(f"{where}: there is no class {number}, but 0 to {len(indices) - 1}")
    if not all(-_SLACK <= value <= 1 + _SLACK for value in (x, y, w, h)):
        raise DataError(f"{where}: expected shares of the picture, 0 to 1, found {words[1:]}")
    index = indices[number]
    if index is None:
        return None
    edges = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
    return _thing(where, index, edges, width, height)


# --- Pascal VOC -----------------------------------------------------------------------------------


def _voc(folder: Path, classes: Sequence[str]) -> Reader:
    known = _index(classes)

    def read(name: str, width: int, height: int) -> list[Thing]:
        file = _file_of(folder, "JPEGImages", name, ".xml")
        if not file.is_file():
            raise DataError(f"there are no boxes of it, {file}")
        root = _xml(file)
        sizes = [_number(str(file), root, f"size/{side}", 0) for side in ("width", "height")]
        check_size(str(file), (sizes[0], sizes[1]), width, height)
        return list(_voc_things(str(file), root, known, width, height))

    return read


def _xml(path: Path) -> ElementTree.Element:
    text = _read(path, MAX_TEXT_BYTES)
    # Entities are declared in one; small files become huge by them, or read others.
    if "<!" in text.replace("<!--", ""):
        raise DataError(f"{path} has a document type or marked section, which VOC files do not")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as exc:
        raise DataError(f"{path} is not XML: {exc}") from exc


def _number(
    where: str, element: ElementTree.Element, path: str, default: float | None = None
) -> float:
    text = element.findtext(path)
    try:
        if text is None and default is not None:
            return default
        return float(text or "")
    except ValueError as exc:
        raise DataError(f"{where}: expected a number as {path}, found {text!r}") from exc


def _voc_things(
    where: str, root: ElementTree.Element, known: dict[str, int], width: int, height: int
) -> Iterator[Thing]:
    for element in root.iter("object"):
        index = known.get(_simple(element.findtext("name") or ""))
        if index is None:
            continue
        left, top, right, bottom = (
            _number(where, element, f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")
        )
        counts = _number(where, element, "difficult", 0) == 0
        yield _thing(where, index, (left, top, right, bottom), width, height, counts)


# --- COCO -----------------------------------------------------------------------------------------


def _coco_of_folder(folder: Path, classes: Sequence[str]) -> Reader:
    files = sorted(folder.glob("*.json"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files)
        raise DataError(f"{folder} holds {len(files)} files of boxes ({names}); keep one of them")
    return coco(files[0], classes)


def coco(path: Path, classes: Sequence[str] | None) -> Reader:
    """Return what reads a file of COCO; without classes, the boxes of all kinds with index 0."""
    kept: dict[str, _CocoImage] = {}
    lock = threading.Lock()

    def read(name: str, width: int, height: int) -> list[Thing]:
        with lock:
            if not kept:
                kept.update(_coco_images(path, classes))
        parts = PurePosixPath(name).with_suffix("").parts
        tails = ("/".join(parts[start:]) for start in range(len(parts)))
        image = next((kept[tail] for tail in tails if tail in kept), None)
        if image is None:
            raise DataError(f"{path} lists no picture of this name")
        check_size(f"{path}: {name}", image.size, width, height)
        return [
            _thing(f"{path}: {name}", index, edges, width, height, counts)
            for index, edges, counts in image.boxes
        ]

    return read


class _CocoImage(NamedTuple):
    size: tuple[float, float]
    boxes: list[tuple[int, Edges, bool]]


def _coco_images(path: Path, classes: Sequence[str] | None) -> dict[str, _CocoImage]:
    """Return a file's pictures by their paths without suffixes."""
    known = None if classes is None else _index(classes)
    place = "it"

    def rows(name: str) -> Iterator[dict[str, Any]]:
        nonlocal place
        place = "it"
        for number, row in enumerate(data[name]):
            place = f"{name}[{number}]"
            yield row

    by_id: dict[Any, tuple[str, _CocoImage]] = {}
    try:
        data = json.loads(_read(path, MAX_BYTES))
        categories = {
            row["id"]: 0 if known is None else known.get(_simple(row["name"]))
            for row in rows("categories")
        }
        for row in rows("images"):
            size = float(row.get("width", 0)), float(row.get("height", 0))
            name = str(PurePosixPath(row["file_name"]).with_suffix(""))
            by_id[row["id"]] = name, _CocoImage(size, [])
        for row in rows("annotations"):
            kind, image, edges = row["category_id"], row["image_id"], row["bbox"]
            if kind not in categories:
                raise DataError(f"{path}: {place} is of category {kind}, which is not listed")
            if image not in by_id:
                raise DataError(f"{path}: {place} is of image {image}, which is not listed")
            if not isinstance(edges, list) or len(edges) != 4:
                shown = repr(edges)[:80]
                raise DataError(f"{path}: bbox of {place} must be four numbers, not {shown}")
            left, top, width, height = map(float, edges)
            if (index := categories[kind]) is not None:
                box = (left, top, left + width, top + height)
                by_id[image][1].boxes.append((index, box, not row.get("iscrowd")))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as exc:
        what = {
            KeyError: f"{place} has no {exc}",
            json.JSONDecodeError: f"it is not JSON: {exc}",
            RecursionError: "it is nested too deeply",
        }.get(type(exc), f"{place} holds what is no number, has too many digits or another form")
        raise DataError(
            f"{path} is no file of COCO's boxes, with categories, images and annotations: {what}"
        ) from exc
    found = dict(by_id.values())
    if len(found) != len(data["images"]) or not found:
        raise DataError(f"{path} lists no picture, or one twice")
    return found
