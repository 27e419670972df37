"""What lies around the package: scripts, documents, examples. Published examples are run."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from test_imports import GUARD
from test_quiet import HIDDEN

from tactic_codec.model import FOR_TRAINING

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    "README.md",
    *(f"docs/{page}.md" for page in ("cameras", "python", "results", "training", "tutorial")),
]
"""The pages for users, whose examples are run."""

SCRIPTS = ["bin/check", "bin/demo", "bin/setup", "bin/tactic", "bin/test", ".ci/run"]
DOCUMENTS = [
    *PAGES,
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/decisions.md",
    "docs/format.md",
    "experiments/LOG.md",
    "experiments/README.md",
    "models/README.md",
    "examples/README.md",
]


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language, except those marked ``<!-- not run: why -->``."""
    fence = rf"(<!-- not run: [^\n]+ -->\n)?^```{language}\n(.*?)^```$"
    found = re.findall(fence, text, flags=re.MULTILINE | re.DOTALL)
    return [code for skipped, code in found if not skipped]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tactic_on_path: None) -> Path:
    """A folder with the example photographs, from where the command ``tactic`` is found."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.delenv("TACTIC_MODELS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def home(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home in a world where nobody may ask for the network."""
    for name in ("home", "guard"):
        (elsewhere / name).mkdir()
    (elsewhere / "guard" / "sitecustomize.py").write_text(GUARD)
    for name in HIDDEN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(elsewhere / "home"))
    monkeypatch.setenv("PYTHONPATH", f"{elsewhere / 'guard'}{os.pathsep}{ROOT}")
    return elsewhere / "home"


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


# --- Scripts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_executable_and_parse(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/bin/sh\n")
    assert run("sh", "-n", path, cwd=ROOT).returncode == 0


def test_a_folder_as_standard_input_is_an_error_like_others() -> None:
    result = run("sh", "-c", f"'{ROOT}/bin/tactic' info - < /", cwd=ROOT)
    assert result.returncode == 1
    assert result.stderr.startswith("tactic: standard input is a folder; ")


def test_the_installed_command_runs_what_the_installer_made_beside_it(tmp_path: Path) -> None:
    place = tmp_path / "an environment" / "bin"
    place.mkdir(parents=True)
    shutil.copy(ROOT / "bin" / "tactic", place)
    made = place / "tactic-codec"
    made.write_text('#!/bin/sh\nprintf "<%s>" "$@"\nexit 7\n')
    made.chmod(0o755)
    link = tmp_path / "a link"
    link.symlink_to(place / "tactic")
    for command in (place / "tactic", link):
        result = run(command, "compress", "a b", "", cwd=tmp_path)
        assert (result.returncode, result.stdout) == (7, "<compress><a b><>"), result.stderr
    result = run("sh", "-c", f"'{link}' info - < /", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("tactic: standard input is a folder; ")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert list(project["project"]["scripts"]) == ["tactic-codec"]
    scripts = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-scripts"]
    assert scripts["bin/tactic"] == "tactic"


def test_the_checkout_s_command_runs_from_anywhere_and_through_a_link(tmp_path: Path) -> None:
    link = tmp_path / "a link"
    link.symlink_to(ROOT / "bin" / "tactic")
    # What lies in the caller's folder must not be imported.
    (tmp_path / "click.py").write_text("raise SystemExit('the wrong click')")
    result = run(link, "--version", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(r"tactic,? (version )?\d+\.\d+\.\d+\S*\n", result.stdout)


@pytest.mark.parametrize(
    ("script", "argument"), [("bin/check", "--fixx"), ("bin/setup", "runtimes")]
)
def test_scripts_refuse_what_they_do_not_know(script: str, argument: str) -> None:
    result = run(ROOT / script, argument, cwd=ROOT)
    assert result.returncode == 2
    assert result.stderr.startswith("usage: ")


def test_the_demo_names_an_image_that_is_missing(tmp_path: Path) -> None:
    result = run(ROOT / "bin/demo", "not there.jpg", cwd=tmp_path)
    assert result.returncode == 1
    assert "not there.jpg" in result.stderr


def test_setup_asks_for_a_python_that_is_new_enough(tmp_path: Path) -> None:
    for name in ("bin/setup", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("cat", "cksum", "dirname", "sh"):
        (tools / name).symlink_to(str(shutil.which(name)))
    command = ["/usr/bin/env", "-i", f"PATH={tools}", tmp_path / "bin/setup"]

    result = run(*command, cwd=tmp_path)
    assert result.returncode == 1
    assert "Python 3.11 or newer is needed" in result.stderr

    (tools / "python3").write_text("#!/bin/sh\ncase $2 in *ensurepip*) exit 1 ;; esac\nexit 0\n")
    (tools / "python3").chmod(0o755)
    result = run(*command, cwd=tmp_path)
    assert result.returncode == 1
    assert "python3-venv" in result.stderr
    assert not (tmp_path / ".venv").exists()


# --- The README's examples ------------------------------------------------------------------------


def test_blocks_leaves_out_what_is_marked() -> None:
    text = "```sh\na\n```\n\n<!-- not run: slow -->\n```sh\nb\n```\n\n```python\nc\n```\n"
    assert blocks(text, "sh") == ["a\n"]
    assert blocks(text, "python") == ["c\n"]


def pages_with(language: str) -> list[str]:
    """Return the pages behind the README that have examples in a language."""
    return [p for p in PAGES[1:] if blocks((ROOT / p).read_text(encoding="utf-8"), language)]


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("python"))
def test_python_examples_run(page: str, elsewhere: Path) -> None:
    for example in blocks((ROOT / page).read_text(encoding="utf-8"), "python"):
        result = run(sys.executable, "-W", "error", "-c", example, cwd=elsewhere)
        assert result.returncode == 0, f"{example}\n{result.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("sh"))
def test_commands_run(page: str, elsewhere: Path, home: Path) -> None:
    """And leave the home empty, training among them, whose exporters import much."""
    for example in blocks((ROOT / page).read_text(encoding="utf-8"), "sh"):
        result = run("sh", "-e", "-c", example, cwd=elsewhere)
        assert result.returncode == 0, f"{example}\n{result.stdout}\n{result.stderr}"
    asked = run(sys.executable, "-c", "import socket; socket.socket()", cwd=elsewhere)
    assert asked.returncode == 99, "nobody listens"
    assert not list(home.iterdir())


@pytest.mark.parametrize("page", pages_with("toml"))
def test_configurations_are_valid(page: str, tmp_path: Path) -> None:
    from tactic_codec.training.config import load_config

    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    for configuration in blocks((ROOT / page).read_text(encoding="utf-8"), "toml"):
        path = tmp_path / "mine.toml"
        path.write_text(configuration, encoding="utf-8")
        load_config(path)


def test_advice_to_install_names_packages_that_are_there() -> None:
    # tactic-codec itself is not on PyPI, so that its name could be a stranger's there.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needs = [*project["dependencies"], *(need for extra in extras.values() for need in extra)]
    wanted = {re.split("[<>=]", need)[0] for need in needs}
    files = (ROOT / "tactic_codec").rglob("*.py")
    text = re.sub(r'"\n *"', "", "".join(path.read_text(encoding="utf-8") for path in files))
    advised = re.findall(r"pip install (?:--upgrade )?([\w -]+)", text)
    assert len(advised) > 5
    for advice in advised:
        for package in advice.split():
            assert package in wanted, advice


@pytest.mark.slow
def test_the_readme_is_short_and_shows_what_it_promises(elsewhere: Path) -> None:
    assert len(README.splitlines()) <= 130
    (commands,), (python,) = blocks(README, "sh"), blocks(README, "python")
    said = run("sh", "-e", "-c", commands, cwd=elsewhere)
    assert said.returncode == 0, f"{said.stdout}\n{said.stderr}"
    assert '"predictions"' in said.stdout.splitlines()[0]
    with Image.open(elsewhere / "street.png") as labels:
        assert labels.mode == "P"
    assert run("sh", "-c", "tactic classify coded/*.tac", cwd=elsewhere).returncode == 0
    (elsewhere / "cat.png").unlink()
    seen = run(sys.executable, "-W", "error", "-c", python, cwd=elsewhere)
    assert seen.returncode == 0, seen.stderr
    assert len(re.findall(r"^.+ \d+%$", seen.stdout, re.MULTILINE)) == 3
    with Image.open(elsewhere / "cat.png") as decoded, Image.open(ROOT / "examples/cat.jpg") as cat:
        assert decoded.size == cat.size


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments").glob("*.toml")), ids=lambda p: p.stem
)
def test_experiments_are_valid(path: Path) -> None:
    from tactic_codec.training.config import load_config

    load_config(path)


def test_experiments_name_each_other_s_outputs() -> None:
    made = {path.parent.name for path in (ROOT / "models").glob("*/model.json")}
    starts = []
    for path in (ROOT / "experiments").glob("*.toml"):
        head = path.read_text(encoding="utf-8").split("\n\n")[0]
        command = " ".join(line.strip("#\\ ") for line in head.split("\n"))
        assert f"tactic train experiments/{path.name} " in head.replace("\\\n#", ""), path.name
        made |= set(re.findall(r"--out (\S+)", command))
        starts += re.findall(r"--from (\S+)", command)
    assert len(starts) >= 4
    assert set(starts) <= made


SHARED = {"at_efforts", "judges", "kept_out", "rows"}
"""The modules that benchmarks share."""

BENCHMARKS = [p for p in sorted((ROOT / "benchmarks").glob("*.py")) if p.stem not in SHARED]


BEGIN = """
import runpy, sys
sys.path[0] = sys.argv.pop(1)
for path in sys.argv[1:]:
    sys.argv = [path, "--help"]
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        assert not end.code, (path, end.code)
"""


@pytest.mark.slow
def test_benchmarks_begin() -> None:
    command = [sys.executable, "-c", BEGIN, str(ROOT / "benchmarks"), *map(str, BENCHMARKS)]
    result = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert result.returncode == 0, result.stderr
    begun = re.findall(r"^usage: (\S+)", result.stdout, re.MULTILINE)
    assert begun == [path.name for path in BENCHMARKS]


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks/results").glob("*.json")), ids=str)
def test_results_name_no_folder_of_one_machine(path: Path) -> None:
    assert '"/' not in path.read_text(encoding="utf-8")


def test_readme_names_every_command() -> None:
    from tactic_codec.cli import main

    table = README[README.index("| command | does |") :]
    table = table[: table.index("\n\n")]
    first_column = [row.split("|")[1] for row in table.splitlines()[2:]]
    documented = {
        name.split()[0] for cell in first_column for name in re.findall("`([^`]+)`", cell)
    }
    assert documented == set(main.list_commands(None))  # type: ignore[arg-type]


# --- Documents ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files(name: str) -> None:
    path = ROOT / name
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("name", [*DOCUMENTS, "NOTICE"])
def test_every_figure_is_filled_in(name: str) -> None:
    assert re.findall(r"@@\w+@@", (ROOT / name).read_text(encoding="utf-8")) == []


def test_every_decision_has_its_lines() -> None:
    text = (ROOT / "docs/decisions.md").read_text(encoding="utf-8")
    _, *decisions = re.split(r"^## ", text, flags=re.MULTILINE)
    assert 11 <= len(decisions) <= 25
    for number, decision in enumerate(decisions, 1):
        title, *lines = [line for line in decision.splitlines() if line.strip()]
        assert re.fullmatch(rf"{number}\. .+ \(\d{{4}}-\d\d-\d\d\)", title)
        starts = [re.match(r"- \*\*(\w+):\*\* \S", line) for line in lines]
        names = [start and start[1] for start in starts]
        assert names == ["Context", "Choice", "Price", "Status"], title
        assert re.search(r":\*\* (Stands\.|Superseded by \d+)", lines[-1]), title


def test_changelog_follows_keep_a_changelog() -> None:
    from tactic_codec import __version__

    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert text.startswith("# Changelog\n")
    releases = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert releases[0] == "[Unreleased]"
    dated = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", r) for r in releases[1:]]
    assert all(dated), releases
    if dated:
        assert dated[0] is not None
        assert dated[0][1] == __version__
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Format", "Models"}
    assert set(re.findall(r"^### (.+)$", text, flags=re.MULTILINE)) <= kinds


def test_every_example_has_its_origin() -> None:
    origin = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    photographs = [p.name for p in (ROOT / "examples").iterdir() if p.name != "README.md"]
    assert len(photographs) >= 4
    rows = [line for line in origin.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"^\| `(.+?)`", "\n".join(rows), re.MULTILINE)) == sorted(photographs)
    for row in rows:
        name, size = (cell.strip(" `") for cell in row.split("|")[1:3])
        with Image.open(ROOT / "examples" / name) as photograph:
            assert size == "{} × {}".format(*photograph.size)


def test_every_bundled_model_is_described() -> None:
    text = (ROOT / "models/README.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^## (.+)$", text, flags=re.MULTILINE))
    assert {p.parent.name for p in (ROOT / "models").glob("*/model.json")} <= described


MOST_BYTES = 45_000_000
"""Of the wheel that a device installs."""


def wheel_of(project: Path, out: Path) -> set[str]:
    """Build a wheel, and return the names of its files."""
    result = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out, cwd=project)
    assert result.returncode == 0, result.stderr
    (wheel,) = out.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.slow
def test_two_wheels_carry_models_and_the_work_of_others(tmp_path: Path) -> None:
    device = wheel_of(ROOT, tmp_path / "device")
    assert sum(path.stat().st_size for path in (tmp_path / "device").iterdir()) <= MOST_BYTES
    training = wheel_of(ROOT / "packaging" / "training", tmp_path / "training")
    models = [p.relative_to(ROOT) for p in (ROOT / "models").rglob("*") if p.is_file()]
    for path in models:
        name = f"tactic_codec/{path.as_posix()}"
        needed = path.parts[1] != "paper" and not FOR_TRAINING.fullmatch(path.name)
        assert (name in device, name in training) == (needed, not needed), name
    assert not device & training
    assert "tactic_codec/py.typed" in device
    for names in (device, training):
        assert {name.rpartition("/")[2] for name in names} >= {"LICENSE", "NOTICE"}
        tops = {name.split("/")[0].rpartition(".")[2] for name in names}
        assert tops == {"tactic_codec", "dist-info"} | ({"data"} if names is device else set())
    scripts = {name.partition(".data/")[2] for name in device if ".data/" in name}
    shared = {name for name in scripts if name.startswith("data/share/")}
    assert scripts - shared == {"scripts/tactic", "scripts/tactic.cmd"}
    manual = {f"man/man1/tactic{name}.1" for name in ("", "-compress", "-models-list")}
    assert {f"data/share/{name}" for name in (*manual, "misc/tactic.magic")} <= shared


def test_the_wheels_share_out_the_models() -> None:
    """What the slow test finds in wheels, as their projects say it."""
    project = tomllib.loads((ROOT / "packaging/training/pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    found = {p.removeprefix("../../models/") for p in included if "/models/" in p}
    names = {p.relative_to(ROOT / "models") for p in (ROOT / "models").glob("*/*")}
    kept = {n.as_posix() for n in names if FOR_TRAINING.fullmatch(n.name)}
    assert found == {"paper"} | {name for name in kept if not name.startswith("paper/")}
    device = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    parts = {p for p in device["targets"]["wheel"]["only-include"] if p.startswith("models")}
    # A model of one's own in models/ stays at home, and so do the names of its photographs.
    assert parts == {"models/README.md", "models/general", "models/camvid"}


def test_the_licence_is_whole() -> None:
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    assert all((ROOT / name).is_file() for name in project["license-files"])


@pytest.mark.slow
def test_the_package_s_own_example_runs() -> None:
    import doctest

    import tactic_codec

    results = doctest.testmod(tactic_codec)
    assert results.attempted >= 12
    assert results.failed == 0
