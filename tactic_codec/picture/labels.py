"""Read and write label maps, whose values are classes."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tactic_codec.errors import UnsupportedImage
from tactic_codec.picture.formats import HEAD_BYTES, find_format
from tactic_codec.picture.forms import DEFAULT_MAX_PIXELS, Colour, LabelMap
from tactic_codec.picture.plugins import plugin
from tactic_codec.picture.png import DEPTH
from tactic_codec.picture.reading import decoded, opened


def save_labels(labels: LabelMap, colours: Sequence[Colour]) -> bytes:
    """Encode a label map as a palette PNG of 8 bits, whose values are classes.

    Args:
        labels: uint8 [height, width].
        colours: of each class, 1 to 256.

    Raises:
        ValueError: ``labels`` is not such an array.
    """
    if labels.dtype != np.uint8 or labels.ndim != 2 or 0 in labels.shape:
        raise ValueError(
            f"{labels.dtype} {list(labels.shape)} is no label map: uint8 [height, width] expected"
        )
    image = Image.fromarray(labels)
    # A palette of more than 16 colours needs 8 bits; not every reader of label maps unpacks fewer.
    filled = [*colours, *[(0, 0, 0)] * (17 - len(colours))]
    image.putpalette([value for colour in filled for value in colour])
    plugin("PIL.PngImagePlugin")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def load_labels(path: Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> LabelMap:
    """Read a label map: a PNG of 8-bit grey or with a palette, whose values are classes.

    Args:
        path: of the file.
        max_pixels: the largest width x height that is decoded.

    Returns:
        uint8 [height, width], the values as they are stored, whatever colours they stand for.

    Raises:
        UnsupportedImage: another kind of picture, or none.
        DamagedImage: the file is cut or damaged.
        LimitExceeded: more than ``max_pixels``.
        OSError: the path cannot be opened.
    """
    with opened(path, max_pixels) as stream:
        head = stream.read(HEAD_BYTES)
        form = find_format(head)
        if form.name != "PNG":
            raise UnsupportedImage(f"this is {form.name}: {_LABELS_EXPECTED}")
        image = decoded(form, stream, max_pixels)
        # Pillow spreads grey of 2 and 4 bits over 0 to 255, which would make other classes of it.
        spread_grey = image.mode == "L" and head[DEPTH] != 8
        if image.mode not in ("L", "P") or spread_grey:
            raise UnsupportedImage(
                f"this PNG has mode {image.mode} and {head[DEPTH]} bits: {_LABELS_EXPECTED}"
            )
        return np.array(image)


_LABELS_EXPECTED = (
    "a label map was expected, a PNG of 8-bit grey or with a palette whose values are classes"
)
