"""Learn the contexts and tables of a model folder anew; its networks stay as they are.

    python experiments/contexts.py MODEL OUT --data FOLDER --unlabelled FOLDER --test FOLDER

Each folder is given as the training had it: contexts are learned from the pictures of that
training, and tables are counted on those that were kept for it. The fingerprint changes, and the
figures of its rates are measured anew.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tactic_codec.codec import load_model
from tactic_codec.entropy import FrequencyTables
from tactic_codec.model import MANIFEST, TABLES, find
from tactic_codec.picture import Pixels
from tactic_codec.training import points
from tactic_codec.training.config import parse_config
from tactic_codec.training.contexts import fit_contexts
from tactic_codec.training.export import (
    add_metrics,
    changing_manifest,
    describe_files,
    describe_level,
)
from tactic_codec.training.run import Plan, Run
from tactic_codec.training.tables import fit_shared_tables, tables_file


def learned(model: Path, learning: list[Pixels], counted: list[Pixels]) -> list[FrequencyTables]:
    """Return tables of all levels, with contexts that were learned from other pictures."""
    codec = load_model(model, device="cpu")
    seen, latents = ([codec.analyse(pixels) for pixels in part] for part in (learning, counted))

    def symbols(of: list[NDArray[np.float32]], level: int) -> list[NDArray[np.int32]]:
        return [codec.quantise(latent, level) for latent in of]

    levels = range(1, len(codec.model.levels) + 1)
    contexts = fit_contexts(symbols(seen, level) for level in levels)
    return [
        fit_shared_tables(symbols(latents, level), of_level)
        for level, of_level in zip(levels, contexts, strict=True)
    ]


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("model", help="a model's name or folder")
    parser.add_argument("out", type=Path)
    for name in ("data", "unlabelled", "test"):
        parser.add_argument(f"--{name}", type=Path, action="append", default=[])
    args = parser.parse_args()
    model = find(args.model)
    shutil.copytree(model.path, args.out)
    config = parse_config(model.manifest["training"]["config"], str(args.out / MANIFEST))
    plan = Plan(config, *(tuple(folders) for folders in (args.data, args.unlabelled, args.test)))
    with tempfile.TemporaryDirectory() as folder:
        run = Run(plan, plan.scan(), Path(folder))
        tables = learned(model.path, run.learning(), run.calibration())
        data = tables_file(tables)
        (args.out / TABLES).write_bytes(data)
        described = describe_files({TABLES: data})
        with changing_manifest(args.out) as manifest:
            manifest["files"] |= described
            normative = manifest["normative"]
            normative["files"][TABLES] = described[TABLES]["sha256"]
            normative["levels"] = [
                describe_level(table, level["inverse_gain"])
                for level, table in zip(normative["levels"], tables, strict=True)
            ]
        made = load_model(args.out, device="cpu").model
        add_metrics(made.path, run.figures(made, config.evaluation.final))
        tested = run.data.tested(min(points.PICTURES, config.evaluation.images or points.PICTURES))
        points.add(made.path, [example.pixels() for example in tested])
    print(f"{args.out}: fingerprint {made.fingerprint.hex()}")


if __name__ == "__main__":
    main()
