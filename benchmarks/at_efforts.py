"""A model at several efforts beside other codecs, on squares that its training kept out.

Benchmarks import this module; by itself it does nothing.
"""

import argparse
import math
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from judges import Judge, judge
from kept_out import kept_out, squares
from rows import Row, bd_rate, earlier, write

from tactic_codec.codec import load_model
from tactic_codec.evaluation.coders import Coder, ModelCoder, RivalCoder
from tactic_codec.picture import Pixels
from tactic_codec.rivals import rival

QUALITIES = ("agreement", "lite1_agreement")
"""By the model's own classifier, and by EfficientNet-Lite1, if it is installed."""


@dataclass
class Comparison:
    """What is compared, and what is known of it.

    Attributes:
        coders: the model at each effort, called NAME effort N, then other codecs.
        pictures: uint8 [224, 224, 3].
        judges: the networks of `QUALITIES`.
        labels: what they say of each picture before coding.
        within: the agreements over which BD-rates are taken.
        out: where the rows are kept.
        head: facts that stand above them.
        rows: with coder, bytes and agreements; at first those of an earlier run.
    """

    coders: list[Coder]
    pictures: list[Pixels]
    judges: list[Judge]
    labels: list[list[int]]
    within: tuple[float, float]
    out: Path
    head: Row
    rows: list[Row]

    def bd_rates(self) -> list[Row]:
        """Return the BD-rate of every effort against every other coder, by each network."""
        curves: dict[str, list[Row]] = {}
        for row in self.rows:
            curves.setdefault(row["coder"], []).append(row)
        return [
            {"quality": quality, "test": test, "anchor": anchor}
            | {"bd_rate": bd_rate(curves[test], curves[anchor], quality, self.within)}
            for test in curves
            if test.startswith(f"{self.head['model']} effort ")
            for anchor in curves
            if anchor != test
            for quality in QUALITIES[: len(self.judges)]
        ]

    def add(self, rows: list[Row]) -> None:
        """Keep and print rows."""
        self.rows += rows
        write(self.out, {**self.head, "rows": self.rows, "bd_rates": self.bd_rates()})
        print(*rows, sep="\n", flush=True)


def begun(
    doc: str | None,
    results: Path,
    *,
    efforts: str,
    codecs: str,
    limit: int,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Comparison:
    """Read the command line and load what it names.

    Args:
        doc: of the benchmark.
        results: where rows are kept by default.
        efforts: the default of what the command line may name, as are the next two.
        codecs: likewise.
        limit: likewise.
        within: see `Comparison`.
    """
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", help="a name or a model folder; the default model")
    parser.add_argument("--levels", help="such as 1,3,5; all of the model")
    parser.add_argument("--efforts", default=efforts, help="such as 0,2")
    parser.add_argument("--codecs", default=codecs, help="such as avif,webp")
    parser.add_argument("--limit", type=int, default=limit, help="how many pictures")
    parser.add_argument("--threads", type=int, help="of every network; all processors")
    parser.add_argument("--out", type=Path, default=results)
    args = parser.parse_args()

    codec = load_model(args.model, device="cpu", threads=args.threads)
    coders: list[Coder] = []
    for effort in map(int, args.efforts.split(",")):
        name = f"{codec.model.name} effort {effort}"
        own = ModelCoder(codec, "cpu", name=name, effort=effort)
        coders.append(own.at(tuple(map(int, args.levels.split(",")))) if args.levels else own)
    coders += [RivalCoder(rival(name)) for name in filter(None, args.codecs.split(","))]
    pictures = squares(args.folder, kept_out(codec.model, args.folder)[0], args.limit)
    judges = [codec.most_likely, *filter(None, [judge()])]
    head = {
        "model": codec.model.name,
        "fingerprint": codec.model.fingerprint.hex(),
        "folder": args.folder.resolve().name,
        "images": len(pictures),
        "judges": len(judges),
        "machine": platform.machine(),
        "onnxruntime": metadata.version("onnxruntime"),
        "torch": metadata.version("torch"),
    }
    labels = [[judge(pixels) for judge in judges] for pixels in pictures]
    rows = earlier(args.out, head)
    return Comparison(coders, pictures, judges, labels, within, args.out, head, rows)
