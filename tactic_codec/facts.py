"""What a frame says of itself: its header, and the model that it names. No network runs."""

from typing import TYPE_CHECKING, NamedTuple

from tactic_codec import container
from tactic_codec.container import VERSION, Frame
from tactic_codec.errors import UnknownModel
from tactic_codec.model import find_fingerprint

if TYPE_CHECKING:
    from tactic_codec.codec import Coded


class Info(NamedTuple):
    """The facts of a frame, as ``tactic info`` prints them.

    Attributes:
        version: of the format.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        coded_width: of what was coded; smaller where the picture was scaled.
        coded_height: likewise.
        level: quality level, 1 for the smallest files.
        fingerprint: of the model that decodes it, 8 hexadecimal digits.
        model: that model's name; None where it is not installed.
        bytes: of the whole frame.
        payload_bytes: of the coded symbols alone.
        metadata: bytes of EXIF, XMP and colour profile, by "exif", "xmp" and "icc".
        bpp: 8 × ``bytes`` ÷ (``width`` × ``height``).
    """

    version: int
    width: int
    height: int
    coded_width: int
    coded_height: int
    level: int
    fingerprint: str
    model: str | None
    bytes: int
    payload_bytes: int
    metadata: dict[str, int]
    bpp: float


def info_of(frame: Frame, model: str | None) -> Info:
    """Return the facts of a frame whose model has this name."""
    return Info(
        version=VERSION,
        width=frame.width,
        height=frame.height,
        coded_width=frame.coded_width,
        coded_height=frame.coded_height,
        level=frame.level,
        fingerprint=frame.fingerprint.hex(),
        model=model,
        bytes=frame.size,
        payload_bytes=len(frame.payload),
        metadata={kind: len(data) for kind, data in frame.metadata.items()},
        bpp=round(frame.bpp, 6),
    )


def info(data: "Coded", *, max_pixels: int = container.DEFAULT_MAX_PIXELS) -> Info:
    """Return the facts of one frame; nothing is decoded.

    Args:
        data: one frame, in any form that `Codec.decompress` takes.
        max_pixels: the largest picture that is told of.

    Raises:
        FormatError: the bytes are not one frame.
        LimitExceeded: the picture is larger than that.
        OSError: the file cannot be read.
        TypeError: ``data`` is none of these.
    """
    from tactic_codec.codec import as_frame  # the command line asks for `info_of` alone

    frame = as_frame(data, max_pixels=max_pixels)
    try:
        model = find_fingerprint(frame.fingerprint).name
    except UnknownModel:
        model = None
    return info_of(frame, model)
