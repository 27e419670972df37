"""Pages of reports: as a file, and in a real browser (``bin/test -m browser``)."""

import html
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser, browser
from conftest import Spoilt, tactic, teach_to_detect, teach_to_segment
from PIL import Image

from tactic_codec.container import Frame
from tactic_codec.model import Model
from tactic_codec.report import Look, Row, page

MODELS = Path(__file__).parent / "models"
HOSTILE = "<script>alert(1)<!--&amp;'\".tac"


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Twelve files of three levels below the names of classes, one with a hostile name."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TACTIC_MODELS", str(MODELS))
        patch.setenv("XDG_DATA_HOME", str(folder / "none"))
        patch.chdir(folder)
        for number in range(12):
            y, x = np.mgrid[:96, :128]
            channels = [(x * (1 + number)) % 256, (y * 3) % 256, (x + y + 20 * number) % 256]
            path = folder / f"photos/{('cat', 'rocket')[number % 2]}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.stack(channels, -1).astype(np.uint8)).save(path)
        for level in (1, 2, 3):
            tactic("compress", "-m", "tiny", "-q", str(level), "-r", "photos", "-o", f"l{level}/")
            shutil.copytree(f"l{level}", "coded", dirs_exist_ok=True) if level == 2 else None
        shutil.copy("l1/cat/0.tac", "coded/cat/0.tac")
        shutil.copy("l3/rocket/1.tac", "coded/rocket/1.tac")
        name = Path("coded/cat", HOSTILE)
        shutil.copy("l1/cat/2.tac", name)
        shutil.copy("photos/cat/2.png", Path("photos/cat", name.stem + ".png"))
        tactic("bpp-report", "coded", "--originals", "photos", "--html", "report.html")
        yield folder


@pytest.mark.slow
def test_a_page_is_one_file_that_asks_for_nothing(coded: Path) -> None:
    text = (coded / "report.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy and policy[1].startswith("default-src 'none';") and "unsafe" not in policy[1]
    assert not re.search(r"(?:src|href)=['\"](?!data:)", text)
    assert "http" not in re.sub(r"http-equiv", "", text) and "url(" not in text
    assert text.count("<script>") == 1 and "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;!--&amp;amp;&#x27;&quot;.tac" in text
    assert text.count("<article") == 13 == len(re.findall("<tr data-find", text))
    assert "top-1 accuracy" in text and "mean PSNR, dB" in text
    assert tactic("bpp-report", coded, "--html", coded / "report.html", code=1).stderr.endswith(
        "report.html exists; choose another name, or overwrite it with -f\n"
    )


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("none/page.html", 1, "there is no such folder: none"),
        ("coded", 1, "a folder stands where the output goes"),
        ("-", 2, "--html writes to a file"),
    ],
)
def test_a_page_that_cannot_be_written_is_refused_before_the_work(
    coded: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int, message: str
) -> None:
    monkeypatch.chdir(coded)
    refused = tactic("bpp-report", "coded", "--html", name, code=code)
    assert message in refused.stderr and not refused.stdout
    args = ["eval", "-m", "tiny", "--data", "photos", "--out", "eval", "--html", name]
    refused = tactic(*args, code=code)
    assert message in refused.stderr and not Path("eval").exists()


def test_a_page_never_replaces_what_it_reports_on(coded: Path, tmp_path: Path) -> None:
    frame = (coded / "l1/cat/0.tac").read_bytes()
    (tmp_path / "a.tac").write_bytes(frame)
    (tmp_path / "page.html").symlink_to("a.tac")
    for name in ("a.tac", "page.html"):
        args = ["bpp-report", tmp_path / "a.tac", "--html", tmp_path / name, "-f"]
        assert "input and output are the same file" in tactic(*args, code=1).stderr
    assert (tmp_path / "a.tac").read_bytes() == frame


def test_a_full_disk_costs_the_page_and_not_the_table(coded: Path) -> None:
    failed = tactic("bpp-report", coded / "coded", "--html", "/dev/full", code=1)
    assert "No space left" in failed.stderr and "sum of 13" in failed.stdout


def test_the_worst_come_first_and_only_their_pictures_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(page, "SHOWN", 3)
    look = Look({"decoded": b""}, [("cat", 0.5)])
    rows: list[Row] = []
    for number in (5, 1, 7, 3, 2, 9, 8, 4, 6):
        rows.append(Row({"file": f"{number}", "psnr": float(number), "bpp": 1.0}, look=look))
        page.forget(rows)
    assert [row.facts["file"] for row in rows if row.look] == ["1", "3", "2"]
    assert [seen.title for seen in page.seen_of(rows, [r.facts["file"] for r in rows])] == [
        *("1", "2", "3")
    ]


def test_one_file_has_a_page_too(coded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bar, one point, no interval, no truth; and a model that is not installed."""
    monkeypatch.chdir(coded)
    tactic("bpp-report", "l1/cat/0.tac", "--html", "one.html", "-f")
    monkeypatch.setenv("TACTIC_MODELS", "none")
    tactic("bpp-report", "l1/cat/0.tac", "--html", "bare.html", "-f")
    assert "<article" in Path("one.html").read_text()
    assert "<article" not in Path("bare.html").read_text()


def test_a_page_tells_what_failed_and_why(coded: Path, tmp_path: Path) -> None:
    """All of a stream's frames, too, though standard error repeats itself only a few times."""
    good = (coded / "l1/cat/0.tac").read_bytes()
    (tmp_path / "good.tac").write_bytes(good)
    (tmp_path / HOSTILE).write_bytes(b"no frame")
    (tmp_path / "stream.tac").write_bytes((good[:-1] + bytes([good[-1] ^ 1])) * 5)
    out = tmp_path / "page.html"
    said = tactic("bpp-report", tmp_path, "--html", out, code=1).stderr
    text = out.read_text()
    failed, files = text.split("<h2>What failed</h2>")[1].split("<h2>All files</h2>")
    rows = re.findall(r"<tr data-find><td>(.*?)</td><td>(.*?)</td>", failed)
    names, reasons = (
        [html.unescape(cell) for cell in column] for column in zip(*rows, strict=True)
    )
    titles = [HOSTILE, *(f"stream.tac: frame {number}" for number in range(1, 6))]
    assert names == [f"{tmp_path}/{title}" for title in titles]
    assert "<dt>failed</dt><dd>6</dd>" in text and files.count("<tr data-find>") == 1
    assert "<script>" not in failed
    for name, reason in [*zip(names, reasons, strict=True)][:4]:
        assert f"tactic: {name}: {reason}\n" in said


def test_a_page_is_written_though_every_file_failed(tmp_path: Path) -> None:
    """Or that of an earlier report would look like this one's."""
    out, bad = tmp_path / "page.html", tmp_path / os.fsdecode(b"b\xffd.tac")
    out.write_text("an earlier report")
    bad.write_bytes(b"no frame")
    said = tactic("bpp-report", tmp_path, "--html", out, "-f", code=1)
    text = out.read_text()
    assert said.stdout == "" and "<dd>0</dd>" in text and "<dt>failed</dt><dd>1</dd>" in text
    assert re.findall(r"<tr data-find><td>(.*?)</td>", text) == [f"{tmp_path}/b\\xffd.tac"]
    assert "<svg" not in text and "an earlier report" not in text


def test_symbols_are_decoded_once(coded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which takes longest of all that is done with a large frame, beside its networks."""
    monkeypatch.chdir(coded)
    decoded = []
    decode = Model.decode_symbols

    def counted(model: Model, frame: Frame) -> Any:
        decoded.append(frame)
        return decode(model, frame)

    monkeypatch.setattr(Model, "decode_symbols", counted)
    photos = ("--originals", "photos")
    tactic("bpp-report", "coded", *photos, "--html", "once.html", "-f")
    assert len(decoded) == 13
    tactic("explain", "l1/cat/0.tac", "map.png")
    assert len(decoded) == 14


@pytest.mark.parametrize("teach", [teach_to_detect, teach_to_segment])
def test_answers_are_drawn_into_what_is_shown(
    coded: Path, spoilt: Spoilt, teach: Callable[[Spoilt], None]
) -> None:
    teach(spoilt)
    out = spoilt.path / "page.html"
    tactic("bpp-report", "-m", spoilt.path, coded / "l3/cat", "--html", out)
    found = {text.split()[0] for text in re.findall(r" · (\w+ ?\w*)", out.read_text())}
    assert found & {"red", "green", "blue", "reddish", "greenish", "bluish"}, found


@pytest.mark.slow
def test_eval_has_a_page(coded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(coded)
    monkeypatch.setenv("TACTIC_MODELS", str(MODELS))
    args = ["eval", "-m", "tiny", "--data", "photos", "--out", "out", "--size", "64"]
    args += ["--codec", "jpeg", "--qualities", "jpeg=5,50", "--html", "out/eval.html"]
    tactic(*args)
    Path("photos/broken.png").write_bytes(b"no picture")
    tactic(*args, "-f", code=1)
    Path("photos/broken.png").unlink()
    text = Path("out/eval.html").read_text()
    assert re.search(r"<h2>What failed</h2>.*photos/broken.png</td><td>this is text", text)
    results = json.loads(Path("out/results.json").read_text())["folders"][0]
    assert text.count("<article") == 13 == results["images"]
    assert "photos: agreement, %" in text and "All pictures at level 2 of tiny" in text
    assert "<h2>photos: each coder at each setting</h2>" in text
    for curve in results["curves"]:
        for point in curve["points"]:
            assert f"<td>{point['bpp']:.4f}</td>" in text
    assert "exists; choose another name" in tactic(*args, code=1).stderr


# --- In a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    # Its children may still write as it ends. pytest deletes the folder later.
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_loads_fits_and_is_quiet(
    coded: Path, chromium: Browser, width: int, scheme: str
) -> None:
    chromium.console.clear()
    chromium.requests.clear()
    chromium.open(coded / "report.html", width, scheme)
    assert chromium.console == []
    assert [url for url in chromium.requests if not url.startswith("data:image/jpeg")] == [
        (coded / "report.html").as_uri()
    ]
    assert chromium.run("document.documentElement.scrollWidth") == width
    ground, ink = chromium.run(
        "['backgroundColor', 'color'].map(name => getComputedStyle(document.body)[name])"
    )
    bright = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ground, ink)]
    assert (bright[0] > 600 > 200 > bright[1]) == (scheme == "light")
    assert abs(bright[0] - bright[1]) > 450
    chromium.run("document.querySelectorAll('img').forEach(image => { image.loading = 'eager'; })")
    broken = (
        "[...document.querySelectorAll('article img')].filter(i => i.complete && !i.naturalWidth)"
    )
    assert chromium.run(f"{broken}.length") == 0


@pytest.mark.browser
def test_drawings_show_all_of_their_labels(coded: Path, chromium: Browser) -> None:
    rates = [0.04531, 0.07046]
    drawn = coded / "labels.html"
    drawn.write_bytes(page.render(page.Page("Report", {}, rates, [], [], [], [])))
    chromium.open(drawn, 1280, "light")
    assert not chromium.run(
        "[...document.querySelectorAll('svg')].flatMap(svg => [...svg.querySelectorAll('text')]"
        ".map(text => text.getBBox()).filter(box => box.x < 0"
        " || box.x + box.width > svg.viewBox.baseVal.width).map(box => box.x))"
    )


@pytest.mark.browser
def test_it_sorts_filters_and_enlarges_by_keyboard(coded: Path, chromium: Browser) -> None:
    chromium.open(coded / "report.html", 1280, "light")
    column = "[...document.querySelector('tbody').rows].map(row => row.cells[1].textContent)"
    focus = "document.querySelectorAll('th button')[1].focus()"
    sort = "document.querySelectorAll('th')[1].getAttribute('aria-sort')"
    before = chromium.run(column)
    chromium.run(focus)
    chromium.press("Enter")
    assert chromium.run(column) == sorted(before, key=int) and chromium.run(sort) == "ascending"
    chromium.press("Enter")
    assert chromium.run(column) == sorted(before, key=int, reverse=True)
    assert chromium.run(sort) == "descending"

    shown = "[...document.querySelectorAll('[data-find]')].filter(e => e.offsetParent)"
    assert chromium.run(f"{shown}.length") == 26
    chromium.run("document.querySelector('input').focus()")
    chromium.call("Input.insertText", text="<SCRIPT>")
    assert chromium.run(f"{shown}.map(e => e.tagName).join()") == "ARTICLE,TR"
    assert chromium.run("document.querySelector('output').textContent") == "1 of 13 rows"

    chromium.run("document.querySelector('article:not([hidden]) .zoom').focus()")
    chromium.press("Enter")
    assert chromium.run("document.querySelector('dialog').open") is True
    assert chromium.run("document.querySelector('dialog img').naturalWidth") == 128
    chromium.press("Escape")
    assert chromium.run("document.querySelector('dialog').open") is False
    assert chromium.console == []


@pytest.mark.browser
def test_the_policy_stops_what_is_not_the_page_s_own(coded: Path, chromium: Browser) -> None:
    """A script that got in all the same would not run: it is the proof that the hash is one."""
    page = (coded / "report.html").read_text()
    (coded / "evil.html").write_text(page.replace("<main>", "<main><script>window.evil=1</script>"))
    chromium.console.clear()
    chromium.open(coded / "evil.html", 390, "dark")
    assert chromium.run("window.evil") is None
    assert chromium.run("document.querySelectorAll('th')[0].getAttribute('aria-sort')") is None
    assert any("Content Security Policy" in said for said in chromium.console)
    chromium.console.clear()
