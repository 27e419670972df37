"""tactic-codec: a learned image codec whose bits go to what a machine needs to see.

>>> import tactic_codec
>>> from PIL import Image
>>> picture = Image.new("RGB", (40, 30), "orange")
>>> data = tactic_codec.load_model().compress(picture)
>>> tactic_codec.decompress(data).size
(40, 30)
>>> best = tactic_codec.classify(data, top_k=1)[0]
>>> 0 <= best.probability <= 1
True

Names are loaded when they are first used, so that importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tactic_codec.codec import Codec, decompress, load_model
    from tactic_codec.container import Frame
    from tactic_codec.errors import TacError
    from tactic_codec.picture import ImageWarning
    from tactic_codec.targets import Aimed, compress_to
    from tactic_codec.tasks.classify import Prediction, classify
    from tactic_codec.tasks.segment import Segmentation, segment

__version__ = "0.1.0"

_ROOMS = {
    "Aimed": "targets",
    "Codec": "codec",
    "Frame": "container",
    "ImageWarning": "picture",
    "Prediction": "tasks",
    "Segmentation": "tasks",
    "TacError": "errors",
    "classify": "tasks",
    "compress_to": "targets",
    "decompress": "codec",
    "load_model": "codec",
    "segment": "tasks",
}

__all__ = [
    "Aimed",
    "Codec",
    "Frame",
    "ImageWarning",
    "Prediction",
    "Segmentation",
    "TacError",
    "__version__",
    "classify",
    "compress_to",
    "decompress",
    "load_model",
    "segment",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
