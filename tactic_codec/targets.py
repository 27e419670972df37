"""The quality level that a picture needs: by the size of its file, or by what is seen in it.

    picture ─ latent ─ level ─▶ frame ─ small enough?
                        ▲         └ decode ─ task network ─ the class of the picture itself?
                        └───────── another level, where not ┘

The analysis network runs once. Levels are those that every model has anyway, so that whoever
decodes knows nothing of this, and neither torch nor another network is needed.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

from tactic_codec import container
from tactic_codec.codec import Codec, as_pixels
from tactic_codec.errors import TargetMissed
from tactic_codec.picture import Pixels
from tactic_codec.tasks import classify_pixels


@dataclass(frozen=True, slots=True)
class Aimed:
    """A picture coded at the level that its target asked for.

    Attributes:
        data: the frame, the content of a ``.tac`` file.
        level: quality level of the frame.
        label_kept: whether the model's classifier sees in the frame what it sees in the picture;
            None where that was no target.
    """

    data: bytes
    level: int
    label_kept: bool | None


def compress_to(
    codec: Codec,
    picture: Image.Image | Pixels | Path | bytes,
    *,
    max_bytes: int | None = None,
    keep_label: bool = False,
    effort: int = 0,
) -> Aimed:
    """Code a picture at the level that reaches a target.

    With ``max_bytes`` alone that is the highest level whose file is small enough, by bisection:
    three files of eight levels are made. With ``keep_label`` it is the lowest level at which the
    model's own classifier finds the same class most likely as in the picture itself; from the first
    level on each is decoded and classified. Where none keeps it, the highest is taken.

    Args:
        codec: the model.
        picture: as `Codec.compress` takes it.
        max_bytes: of the whole file.
        keep_label: see above; with ``max_bytes`` of the levels that are small enough.
        effort: as for `Codec.compress`, spent on each level that is tried.

    Raises:
        TargetMissed: no level's file is small enough.
        UnknownTask: the model has no classifier, and ``keep_label`` needs one.
        ValueError: there is no target.
        ImageError, LimitExceeded, BackendUnavailable: as `Codec.compress`.
    """
    if max_bytes is None and not keep_label:
        raise ValueError("give max_bytes, keep_label or both")
    pixels = as_pixels(picture)
    wanted = classify_pixels(codec, pixels, top_k=1)[0].index if keep_label else None
    latent = codec.analyse(pixels)

    @cache
    def coded(level: int) -> bytes:
        return codec.code(pixels, latent, level, effort)

    def fits(level: int) -> bool:
        return max_bytes is None or len(coded(level)) <= max_bytes

    highest = len(codec.model.levels)
    if max_bytes is not None:
        low, high = 0, highest  # low fits, or is 0; what is above high does not
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(middle) else (low, middle - 1)
        if low == 0:
            raise TargetMissed(
                f"this picture has {len(coded(1))} bytes at level 1 of model {codec.model.name}, "
                f"expected at most {max_bytes}: allow more, or scale the picture down"
            )
        highest = low
    if wanted is None:
        return Aimed(coded(highest), highest, None)
    for level in range(1, highest + 1):
        if fits(level) and _label(codec, coded(level), pixels) == wanted:
            return Aimed(coded(level), level, True)
    return Aimed(coded(highest), highest, False)


def _label(codec: Codec, data: bytes, pixels: Pixels) -> int:
    """Return the index of the class that is seen in a frame, as its reader will see it."""
    frame = container.parse(data, max_pixels=pixels.size // 3)
    return classify_pixels(codec, codec.decode(frame), top_k=1)[0].index
