"""Regions of pictures that matter: boxes or a mask, out of files that people or detectors made.

mask.png      not 0: inside                                     for every picture of its size
boxes.json    [[left, top, right, bottom], …]                   for every picture
              lines of ``tactic detect --json``, or COCO's      for the pictures that it lists
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tactic_codec import picture as image
from tactic_codec.errors import DataError, UnsupportedImage
from tactic_codec.tasks import annotations
from tactic_codec.tasks.annotations import Edges

STDIN = "stdin.tac"
"""What commands call a frame of standard input."""

Region: TypeAlias = NDArray[np.bool_]
"""bool [height, width] of a picture, true inside."""

Regions = Callable[[str, int, int], Region]
"""From a picture's path, with "/" and a suffix, and its width and height to its region; DataError
where the file says nothing of it, or is of another picture."""


def regions_in(path: Path, *, max_pixels: int = image.DEFAULT_MAX_PIXELS) -> Regions:
    """Return what finds the region of a picture.

    Args:
        path: a mask, or ``.json`` for boxes; see above.
        max_pixels: of a mask.

    Raises:
        DataError: a file of boxes is none of these, or damaged.
        ImageError: a mask cannot be read.
        OSError: likewise.
    """
    if path.suffix.lower() != ".json":
        mask = _mask(path, max_pixels)

        def shown(name: str, width: int, height: int) -> Region:
            if mask.shape != (height, width):
                has = f"{mask.shape[1]} x {mask.shape[0]}"
                raise DataError(f"{path} has {has} pixels, the upright picture {width} x {height}")
            return mask

        return shown
    find = _boxes(path)

    def drawn(name: str, width: int, height: int) -> Region:
        region = np.zeros((height, width), np.bool_)
        for edges in find(name, width, height):
            cut = annotations.within(f"{path}: {name}", edges, width, height)
            left, top = (int(edge) for edge in cut[:2])
            right, bottom = (int(np.ceil(edge)) for edge in cut[2:])
            region[top:bottom, left:right] = True
        return region

    return drawn


def _mask(path: Path, max_pixels: int) -> Region:
    try:
        mask: Region = image.load_labels(path, max_pixels=max_pixels) != 0
    except UnsupportedImage:  # whoever draws one saves it as any picture
        pixels = image.load(path, max_pixels=max_pixels, background=(0, 0, 0))
        mask = np.any(pixels, axis=2)
    return mask


def _boxes(path: Path) -> Callable[[str, int, int], Iterable[Edges]]:
    data = annotations.json_of(path)
    try:
        if isinstance(data, dict) and "annotations" in data:
            read = annotations.coco(path, None)
            return lambda *asked: [thing.box[2:] for thing in read(*asked)]
        if isinstance(data, list) and not any(isinstance(row, dict) for row in data):
            everywhere = [_edges(row) for row in data]
            return lambda *asked: everywhere
        return _detected(path, data if isinstance(data, list) else [data])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
        detail = f" ({exc})" if type(exc) is ValueError else ""  # others speak of Python
        raise DataError(
            f"{path} holds something else than boxes{detail}: expected "
            "[[left, top, right, bottom], ...], the lines of 'tactic detect --json', or a file of "
            "COCO"
        ) from exc


def _edges(row: Any) -> Edges:
    if len(row) != 4:
        raise ValueError(f"a box has 4 numbers, not {len(row)}")
    left, top, right, bottom = map(float, row)
    return left, top, right, bottom


def _detected(path: Path, lines: list[Any]) -> Callable[[str, int, int], Iterable[Edges]]:
    kept: dict[str, list[tuple[tuple[str, ...], tuple[float, float], list[Edges]]]]
    kept = defaultdict(list)
    for line in lines:
        name = PurePosixPath(STDIN if line["file"] == "-" else line["file"]).with_suffix("")
        edges = [_edges(found["box"]) for found in line["detections"]]
        size = float(line["width"]), float(line["height"])
        for stem in (name.name, f"{name.name}-{line.get('frame', 1):04}"):  # one of several frames
            kept[stem].append(((*name.parts[:-1], stem), size, edges))

    def find(name: str, width: int, height: int) -> Iterable[Edges]:
        asked = PurePosixPath(name).with_suffix("").parts
        same = [
            (size, edges)
            for parts, size, edges in kept.get(asked[-1], ())
            if all(a == b for a, b in zip(asked[::-1], parts[::-1], strict=False))
        ]
        if not same:
            piped = PurePosixPath(STDIN).stem in kept
            remedy = "; give detect the file, not standard input" if piped else ""
            raise DataError(f"{path} lists no picture of this name{remedy}")
        for size, _ in same:
            annotations.check_size(f"{path}: {name}", size, width, height)
        return [edge for _, edges in same for edge in edges]

    return find
