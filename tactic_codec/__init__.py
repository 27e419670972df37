"""tactic-codec: a learned image codec whose bits go to what a machine needs to see.

>>> import tactic_codec
>>> from PIL import Image
>>> picture = Image.new("RGB", (40, 30), "orange")  # or a path, a file's bytes, uint8 [H, W, 3]

Compress, at a quality level or at the one that reaches a target:

>>> coded = tactic_codec.compress(picture)  # or level=3, effort=2, model="camvid", background=…
>>> small = tactic_codec.compress(picture, max_bytes=1000)  # the highest level that is small enough
>>> kept = tactic_codec.compress(picture, keep_label=True)  # the lowest that shows the same class
>>> facts = kept.label_kept, kept.level, kept.width, kept.height, kept.bpp, kept.model

``coded.save("picture.tac")`` writes the file, whole or not at all; its bytes are ``coded.data``.

Read it again, with the model that it names:

>>> tactic_codec.decompress(coded.data).size
(40, 30)
>>> best = tactic_codec.classify(coded.data, top_k=1)[0]
>>> 0 <= best.probability <= 1
True
>>> all(0.5 <= found.score <= 1 for found in tactic_codec.detect(coded.data, min_score=0.5))
True
>>> tactic_codec.segment(tactic_codec.compress(picture, model="camvid")).labels.shape
(30, 40)
>>> tactic_codec.info(coded.data).model
'general'

Keep a model of one's own, on a device, for several threads; it compresses and decompresses alike:

>>> codec = tactic_codec.load_model("general", device="cpu", threads=1)
>>> codec.decompress(codec.compress(picture, 2)).size
(40, 30)

Whatever goes wrong on purpose is a `TacError`, one subclass a cause:

>>> tactic_codec.decompress(b"GIF89a")
Traceback (most recent call last):
tactic_codec.errors.NotATacFile: this is a GIF picture, and a .tac file was expected

Names are loaded when they are first used, so that importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tactic_codec.codec import Codec, Compressed, compress, decompress, load_model
    from tactic_codec.container import Frame
    from tactic_codec.errors import *
    from tactic_codec.facts import Info, info
    from tactic_codec.picture import ImageWarning
    from tactic_codec.tasks.classify import Prediction, classify
    from tactic_codec.tasks.detect import Detection, Detections, detect
    from tactic_codec.tasks.segment import Segmentation, segment

__version__ = "0.1.0"

__all__ = [
    "BackendUnavailable",
    "ChecksumMismatch",
    "Codec",
    "Compressed",
    "ConfigError",
    "Corrupt",
    "DamagedImage",
    "DamagedModel",
    "DataError",
    "Detection",
    "Detections",
    "FormatError",
    "Frame",
    "ImageError",
    "ImageWarning",
    "Info",
    "LimitExceeded",
    "ModelError",
    "NotATacFile",
    "OutOfMemory",
    "OutOfThreads",
    "OutputExists",
    "Prediction",
    "ReservedFlags",
    "Segmentation",
    "TacError",
    "TargetMissed",
    "Truncated",
    "UnknownLevel",
    "UnknownModel",
    "UnknownSection",
    "UnknownTask",
    "UnmeasuredModel",
    "UnsupportedImage",
    "UnsupportedNetwork",
    "UnsupportedVersion",
    "__version__",
    "classify",
    "compress",
    "decompress",
    "detect",
    "info",
    "load_model",
    "segment",
]

_ROOMS = {
    "codec": ("Codec", "Compressed", "compress", "decompress", "load_model"),
    "container": ("Frame",),
    "facts": ("Info", "info"),
    "picture": ("ImageWarning",),
    "tasks": (
        "Detection",
        "Detections",
        "Prediction",
        "Segmentation",
        "classify",
        "detect",
        "segment",
    ),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # What is in none of the rooms above is an error.
    return getattr(importlib.import_module(f"{__name__}.{_ROOM_OF.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return __all__
