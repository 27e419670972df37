"""The same symbols everywhere: threads, environments, optimised Python, other interpreters.

Other interpreters are those found on this machine, newer than the oldest that the package allows.
The reference decoder, and the parts of the package that need the standard library only, run under
every one of them; the whole package under those that have its dependencies.
"""

import functools
import glob
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plain_tables import plain_levels

from tactic_codec.model import Model

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
TINY = TESTS / "models" / "tiny"
VALID: dict[str, Any] = json.loads((TESTS / "vectors" / "valid" / "expected.json").read_text())
TINY_FILES = [name for name, facts in VALID.items() if facts["model"] == "tiny"]
EXPECTED = {name: VALID[name]["symbols_sha256"] for name in TINY_FILES}

# Prints {file: SHA-256 of its symbols} and, behind it, the coder that read them.
DECODE = """
import hashlib, json, sys
from pathlib import Path
from tactic_codec import container, entropy
from tactic_codec.codec import load_model
threads, folder, *names = sys.argv[2:]
codec = load_model(sys.argv[1], device="cpu", threads=int(threads) or None)
found = {}
for name in names:
    frame = container.parse((Path(folder) / name).read_bytes())
    symbols = codec.model.decode_symbols(frame)
    found[name] = hashlib.sha256(symbols.astype("<i4").tobytes()).hexdigest()
    again = entropy.encode(symbols, codec.model.tables(frame.level))
    if again != frame.payload:
        sys.exit(f"{name} is coded otherwise")
    if codec.decode(frame).shape != (frame.height, frame.width, 3):
        sys.exit(f"{name} has another size")
print(json.dumps(found), entropy.default_coder().name)
"""


def run(*command: str | Path, **environment: str) -> str:
    result = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def decoded(*options: str, python: str = sys.executable, threads: int = 1, **env: str) -> str:
    folder = TESTS / "vectors" / "valid"
    return run(python, *options, TINY, str(threads), folder, *TINY_FILES, **env)


# --- This interpreter -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("threads", "environment"),
    [
        (1, {}),
        (2, {}),
        (0, {"OMP_NUM_THREADS": "1"}),
        (0, {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}),
        (1, {"PYTHONHASHSEED": "7", "LC_ALL": "C"}),
        (1, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONOPTIMIZE": "2"}),
    ],
    ids=str,
)
def test_threads_and_environments_change_no_symbol(
    threads: int, environment: dict[str, str]
) -> None:
    printed = decoded("-W", "error", "-c", DECODE, threads=threads, **environment)
    found, coder = printed.rsplit(" ", 1)
    assert json.loads(found) == EXPECTED
    assert coder.strip() == "constriction"


@pytest.mark.slow
def test_the_pure_coder_changes_no_symbol() -> None:
    hidden = "import sys; sys.modules['constriction'] = None\n" + DECODE
    hidden = hidden.replace(
        "from tactic_codec import container, entropy",
        "import importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'constriction' else real(name, *a)\n"
        "from tactic_codec import container, entropy",
    )
    found, coder = decoded("-c", hidden).rsplit(" ", 1)
    assert json.loads(found) == EXPECTED
    assert coder.strip() == "pure"


# --- Other interpreters ---------------------------------------------------------------------------


def _interpreters() -> list[str]:
    """This interpreter and the others of this machine, one a version, from the oldest allowed."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    requires = re.search(r'requires-python = ">=3\.(\d+)"', project)
    assert requires is not None
    oldest = int(requires[1])
    found = {sys.version_info[:2]: sys.executable}
    candidates = [shutil.which(f"python3.{minor}") for minor in range(oldest, oldest + 10)]
    candidates += glob.glob(os.path.expanduser("~/.pyenv/versions/*/bin/python"))
    for candidate in filter(None, candidates):
        # pyenv leaves scripts, also for versions that are not chosen here.
        if Path(candidate).read_bytes()[:2] == b"#!":
            continue
        code = "import sys; print(*sys.version_info[:2])"
        result = subprocess.run([candidate, "-c", code], capture_output=True, text=True)
        if result.returncode == 0:
            major, minor = map(int, result.stdout.split())
            if (major, minor) >= (3, oldest):
                found.setdefault((major, minor), candidate)
    return [found[version] for version in sorted(found)]


INTERPRETERS = _interpreters()
ids = ["{}".format("-".join(Path(path).parts[-3:])) for path in INTERPRETERS]


@functools.cache
def described() -> str:
    """The tiny model as the reference decoder takes it."""
    model = Model(TINY)
    return json.dumps({"stride": model.stride, "levels": plain_levels(model)})


@pytest.mark.slow
@pytest.mark.parametrize("python", INTERPRETERS, ids=ids)
def test_the_reference_decoder_reads_the_same_under_every_interpreter(
    python: str, tmp_path: Path
) -> None:
    import hashlib

    import numpy as np

    (tmp_path / "model.json").write_text(described())
    for name in TINY_FILES:
        file = TESTS / "vectors" / "valid" / name
        program = TESTS / "reference_decoder.py"
        printed = run(python, "-I", "-W", "error", program, file, tmp_path / "model.json")
        symbols = np.array(json.loads(printed), "<i4")
        assert hashlib.sha256(symbols.tobytes()).hexdigest() == EXPECTED[name]


# The range coder and the container, which need no package: golden words, there and back.
STANDARD_LIBRARY = """
import sys, types
from pathlib import Path
root = Path(sys.argv[1])
import tactic_codec
package = types.ModuleType("tactic_codec.entropy")  # whose own start would import NumPy
package.__path__ = [str(root / "tactic_codec" / "entropy")]
sys.modules[package.__name__] = package
from tactic_codec import container
from tactic_codec.entropy import pure
encoder = pure.RangeEncoder()
table, state, indices = [0, 1, 9000000, 16777215, 16777216], 1, []
for _ in range(3000):
    state = (state * 1103515245 + 12345) % 2**31
    indices.append(state >> 16 & 3)
    encoder.encode([table[indices[-1]]], [table[indices[-1] + 1] - table[indices[-1]]])
payload = encoder.seal()
decoder = pure.RangeDecoder(payload)
if [decoder.decode(table) for _ in indices] != indices:
    sys.exit("other symbols come back")
data = container.pack(container.Frame(b"abcd", 1, 300, 20, payload))
if container.parse(data).payload != payload:
    sys.exit("another payload comes back")
print(data.hex())
"""


@pytest.mark.slow
@pytest.mark.parametrize("python", INTERPRETERS, ids=ids)
def test_the_pure_coder_writes_the_same_under_every_interpreter(python: str) -> None:
    command = ("-W", "error", "-c", STANDARD_LIBRARY, str(ROOT))
    assert run(python, *command) == run(sys.executable, *command)


@pytest.mark.slow
@pytest.mark.parametrize("python", INTERPRETERS, ids=ids)
def test_the_package_reads_the_same_under_every_interpreter_that_has_its_dependencies(
    python: str,
) -> None:
    imports = "import numpy, PIL, click, onnxruntime, constriction"
    result = subprocess.run([python, "-c", imports], capture_output=True, text=True)
    if result.returncode != 0:
        pytest.skip(f"{python} lacks the dependencies: {result.stderr.splitlines()[-1]}")
    found, _ = decoded("-c", DECODE, python=python).rsplit(" ", 1)
    assert json.loads(found) == EXPECTED
