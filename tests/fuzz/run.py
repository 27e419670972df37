"""Fuzz one target with Atheris, see README.md.

python tests/fuzz/run.py parser runs/corpus-parser -max_total_time=1800
"""

import hashlib
import sys
import warnings
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

import atheris  # type: ignore[import-untyped]  # noqa: E402

with atheris.instrument_imports(include=["tactic_codec", "PIL", "reference_decoder"]):
    import targets


def main() -> None:
    """Write the target's seeds to the corpus and fuzz until the options of libFuzzer say stop."""
    name, folder, *options = sys.argv[1:]
    corpus = Path(folder)
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in targets.seeds(name):
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    warnings.simplefilter("error")  # as in the suite: nothing may be warned of unasked
    atheris.Setup([sys.argv[0], str(corpus), *options], targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
