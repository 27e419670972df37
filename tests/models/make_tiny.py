"""Make the folder ``tiny`` beside this file: a model of a few kilobytes for tests.

It was made once and is committed, because vectors and tests depend on its fingerprint. No test runs
this file. Its networks are trained for a minute on scikit-image's photographs, its classifier is
not trained at all, and its three levels are one network at three gains.

    python tests/models/make_tiny.py
"""

from pathlib import Path

import numpy as np
import skimage.data
import torch
from torch import nn

from tactic_codec.entropy import ContextModel
from tactic_codec.networks import heads, measures
from tactic_codec.networks.codec import TacticNetwork
from tactic_codec.networks.transforms import TransformConfig
from tactic_codec.training import loss
from tactic_codec.training.export import About, export
from tactic_codec.training.onnx_files import HeadExport
from tactic_codec.training.tables import LevelExport

FOLDER = Path(__file__).parent
LABELS = ("cat", "cup", "flower", "person", "rocket")
GAINS = (0.5, 1.0, 2.0)
SIZE = 64
STEPS = 600


def tiny_head(classes: int) -> nn.Module:
    """A classifier of a few hundred weights."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=4, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, classes),
    )


def main() -> None:
    """Train, export, say what was made."""
    torch.manual_seed(1)
    torch.set_num_threads(1)
    heads.KINDS["tiny"] = heads.HeadKind(tiny_head, SIZE)
    photographs = [
        np.ascontiguousarray(picture[:, :, :3])
        for picture in (
            skimage.data.chelsea(),
            skimage.data.coffee(),
            skimage.data.astronaut(),
            skimage.data.rocket(),
        )
    ]
    network = TacticNetwork(TransformConfig(latent=8, analysis=8, synthesis=(8, 8)))
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    random = np.random.default_rng(1)
    for _ in range(STEPS):
        crops = []
        for _ in range(16):
            photograph = photographs[random.integers(len(photographs))]
            top = random.integers(photograph.shape[0] - SIZE)
            left = random.integers(photograph.shape[1] - SIZE)
            crops.append(photograph[top : top + SIZE, left : left + SIZE])
        x_BCHW = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255
        coded = network(x_BCHW, "mixed")
        terms = loss.Terms(
            distortion_B=measures.distortion(coded.x_hat_BCHW, x_BCHW, 10.0),
            task_B=torch.zeros(16),
            rate_B=loss.rate(coded.bits_B, x_BCHW),
        )
        optimizer.zero_grad()
        terms.total(torch.zeros(16), torch.ones(16)).mean().backward()
        optimizer.step()
    print({name: round(value.mean().item(), 3) for name, value in terms._asdict().items()})

    ones = np.ones(8, np.float32)
    model = export(
        network,
        FOLDER / "tiny",
        About(
            "tiny",
            "A model for tests; of no use for pictures.",
            {"command": "python tests/models/make_tiny.py", "seed": 1},
        ),
        levels=[LevelExport(ones * gain, ones / gain, network.prior.likelihood) for gain in GAINS],
        calibration=photographs,
        contexts=ContextModel(own=(1, 3, 6), shared=(4,)),
        head=HeadExport("tiny", tiny_head(len(LABELS)), SIZE, LABELS, LABELS),
        overwrite=True,
    )
    size = sum(path.stat().st_size for path in model.path.iterdir())
    print(f"{model.path.name}: fingerprint {model.fingerprint.hex()}, {size} bytes")


if __name__ == "__main__":
    main()
