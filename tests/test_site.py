"""The documentation site: built strictly, without network, and every link leads somewhere."""

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from browser import browser
from conftest import ROOT

import tactic_codec

# Ends when anything asks for the network, by Python's own account of it.
BUILD = """
import os, sys
def listen(event, arguments):
    if event.startswith(("socket.connect", "socket.getaddrinfo", "urllib.", "http.")):
        print(event, arguments, file=sys.stderr, flush=True)
        os._exit(99)
sys.addaudithook(listen)
from mkdocs.__main__ import cli
cli(["build", "--strict", "--quiet", "--config-file", "mkdocs.yml", "--site-dir", sys.argv[1]])
"""


class Page(HTMLParser):
    """What a page links to, what a browser would load with it, and what can be linked to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors = {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if "href" in given and (tag == "a" or given.get("rel") in ("prev", "next")):
            self.links.append(given["href"])
        elif tag in ("link", "script", "img", "iframe", "source"):
            self.loaded += [given[name] for name in ("href", "src") if name in given]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-c", BUILD, str(site)]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return site


@pytest.mark.slow
def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(pages) >= 15
    for path, page in pages.items():
        for target in page.loaded + page.links:
            foreign = target.startswith(("http:", "https:", "mailto:", "//"))
            assert not (foreign and target in page.loaded), f"{path} loads {target}"
            if not foreign:
                file, anchor = urldefrag(unquote(target))
                found = (path.parent / file).resolve() if file else path
                assert found.exists(), f"{path} links to {target}"
                if found in pages:
                    assert anchor in pages[found].anchors, f"{path} links to {target}"
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert "fonts.googleapis" not in styles and "url(http" not in styles


@pytest.mark.slow
def test_the_reference_has_all_that_the_package_offers(site: Path) -> None:
    text = (site / "reference.html").read_text(encoding="utf-8")
    offered = set(tactic_codec.__all__) - {"__version__", "ImageWarning"}
    assert [name for name in sorted(offered) if f">{name}<" not in text] == []
    assert "keep_label" in text and "bisection" in text


def test_pages_say_what_the_repository_s_do(site: Path) -> None:
    for place, words in (
        ("index.html", "and not on what pleases the eye"),
        ("docs/tutorial.html", "Put it on the camera"),
        ("docs/cameras.html", "ReadWritePaths"),
        ("CONTRIBUTING.html", "Adding a task"),
        ("models/index.html", "fingerprint"),
    ):
        assert words in (site / place).read_text(encoding="utf-8"), place
    assert (site / "benchmarks/results/streams.json").is_file()


@pytest.mark.browser
def test_pages_follow_the_system_from_one_to_the_next(site: Path, tmp_path: Path) -> None:
    """The scheme of the first visit does not stay for ever."""
    with browser(tmp_path) as tab:
        for scheme, name in (("light", "default"), ("dark", "slate"), ("light", "default")):
            tab.open(site / "index.html", 1280, scheme)
            assert tab.run("document.body.getAttribute('data-md-color-scheme')") == name
