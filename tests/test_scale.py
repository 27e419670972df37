"""Pictures that are coded at a smaller size than their own."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference_decoder
from conftest import PHOTOGRAPHS, TINY, Spoilt, tactic
from PIL import Image

import tactic_codec
from tactic_codec import container, metrics, picture, report, tasks
from tactic_codec.codec import Codec, load_model
from tactic_codec.container import Frame
from tactic_codec.errors import DamagedModel, TargetMissed, UnmeasuredModel
from tactic_codec.model import Point
from tactic_codec.picture import Scaled, Shrink, Strips
from tactic_codec.tasks import SEGMENT, TASKS
from tactic_codec.training import points as points_of

PHOTO = PHOTOGRAPHS[0]
PIXELS = picture.load(PHOTO)
HEIGHT, WIDTH, _ = PIXELS.shape


def jpeg(size: tuple[int, int], **options: Any) -> bytes:
    """A smooth picture, so that every way to shrink it gives nearly the same."""
    y, x = np.mgrid[: size[1], : size[0]]
    planes = [120 + 90 * np.sin(x / size[0] * 9), 255 * y / size[1], 0 * x + 90]
    stream = io.BytesIO()
    pixels = np.stack(planes, 2).astype(np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG", quality=95, **options)
    return stream.getvalue()


def size_of(path: str) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


# --- Sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shrink", "size", "expected"),
    [
        (Shrink(), (4000, 3000), (4000, 3000)),
        (Shrink(640), (4000, 3000), (640, 480)),
        (Shrink(640), (3000, 4000), (480, 640)),
        (Shrink(640), (640, 480), (640, 480)),
        (Shrink(640), (300, 200), (300, 200)),
        (Shrink(1), (4000, 3), (1, 1)),
        (Shrink(scale=0.5), (451, 300), (226, 150)),
        (Shrink(scale=1e-9), (65_535, 7), (1, 1)),
        (Shrink(640, 0.1), (4000, 3000), (400, 300)),
        (Shrink(640, 0.5), (4000, 3000), (640, 480)),
    ],
)
def test_size(shrink: Shrink, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert shrink.size(*size) == expected


@pytest.mark.parametrize("scale", [0.75, 0.5, 0.1])
def test_a_picture_comes_back_in_its_own_size(tiny: Codec, scale: float) -> None:
    coded = tiny.compress(PIXELS, 3, scale=scale)
    frame = container.parse(coded.data)
    assert (frame.width, frame.height) == (coded.width, coded.height) == (WIDTH, HEIGHT)
    size = (coded.coded_width, coded.coded_height)
    assert size == frame.scaled_to == (round(WIDTH * scale), round(HEIGHT * scale))
    assert coded.bpp == frame.bpp == 8 * len(coded.data) / (WIDTH * HEIGHT)
    small = tiny.decompress(coded, coded_size=True)
    assert small.size == size
    assert tiny.decompress(coded).size == (WIDTH, HEIGHT)
    by_pillow = small.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(by_pillow, tiny.decompress(coded))
    expected = reference_decoder.enlarged(np.asarray(small)[..., 1].tolist(), WIDTH, HEIGHT)
    difference = np.asarray(by_pillow)[..., 1].astype(int) - expected
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("rows", [1, 7, 500])
def test_rows_are_enlarged_as_they_come_just_as_pillow_enlarges_all_of_them(rows: int) -> None:
    random = np.random.default_rng(rows)
    for height, width, more, wider in random.integers(1, 160, (40, 4)).tolist():
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        size = width + wider - 1, height + more - 1
        coming = [pixels[top : top + rows] for top in range(0, height, rows)]
        found = picture.enlarging(Strips(width, height, coming), *size).whole()
        expected = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(found, np.asarray(expected))


def test_what_is_not_larger_is_coded_as_it_is(tiny: Codec) -> None:
    plain = tiny.compress(PIXELS, 2).data
    assert tiny.compress(PIXELS, 2, max_side=WIDTH).data == plain
    assert tiny.compress(PIXELS, 2, scale=1).data == plain
    assert tiny.compress(PIXELS, 2, scale=1.0, max_side=100_000).data == plain
    assert tactic_codec.compress(PIXELS, 2, max_side=9, model=tiny.model.path).coded_width == 9


@pytest.mark.parametrize("wrong", [{"scale": 0}, {"scale": 1.5}, {"scale": float("nan")}])
def test_scales_that_are_none(tiny: Codec, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="scale must be above 0 and at most 1"):
        tiny.compress(PIXELS, **wrong)


@pytest.mark.parametrize("wrong", [{"scale": True}, {"scale": "0.5"}, {"max_side": "9"}])
def test_sizes_that_are_no_numbers(tiny: Codec, wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="must be a"):
        tiny.compress(PIXELS, **wrong)


def test_numbers_of_numpy_are_numbers(tiny: Codec) -> None:
    half = tiny.compress(PIXELS, 2, scale=0.5).data
    assert tiny.compress(PIXELS, 2, scale=np.float32(0.5)).data == half


@pytest.mark.parametrize("wrong", [0, -1])
def test_sides_that_are_none(tiny: Codec, wrong: int) -> None:
    with pytest.raises(ValueError, match="max_side must be at least 1"):
        tiny.compress(PIXELS, max_side=wrong)


# --- Reading --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1001, 700), (700, 1001), (1000, 1001)])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("side", [60, 125, 900])
def test_a_jpeg_is_shrunk_while_it_is_read(
    size: tuple[int, int], orientation: int, side: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(size, exif=exif)
    whole = picture.load(data)
    found = picture.read(data, shrink=Shrink(side))
    assert (found.height, found.width) == whole.shape[:2]
    expected = Shrink(side).of(Scaled(whole, found.width, found.height)).pixels
    assert max(found.pixels.shape[:2]) == side
    assert found.pixels.shape == expected.shape
    assert np.abs(found.pixels.astype(int) - expected).mean() < 2


@pytest.mark.slow
def test_less_of_a_jpeg_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    real = Image.Image.resize

    def resize(image: Image.Image, *args: Any, **more: Any) -> Image.Image:
        sizes.append(image.size)
        return real(image, *args, **more)

    monkeypatch.setattr(Image.Image, "resize", resize)
    data = jpeg((2000, 1500))
    for side in (1200, 480, 200, 20):
        picture.read(data, shrink=Shrink(side))
    assert sizes == [(2000, 1500), (1000, 750), (500, 375), (250, 188)]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_every_mode_is_shrunk(mode: str) -> None:
    image = Image.new(mode, (64, 48))
    found = picture.read(image, shrink=Shrink(16))
    assert found.pixels.shape == (12, 16, 3)
    assert (found.width, found.height) == (64, 48)
    assert np.unique(found.pixels).size == 1


def test_what_nobody_sees_does_not_shine_through() -> None:
    """Colours behind transparent pixels are gone before neighbours are averaged."""
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    image.paste((255, 255, 255, 255), (0, 0, 31, 64))
    assert picture.read(image, shrink=Shrink(8)).pixels.min() == 255


# --- Targets --------------------------------------------------------------------------------------


def test_targets_at_a_scale(tiny: Codec) -> None:
    sizes = [len(tiny.compress(PIXELS, level, scale=0.3).data) for level in (1, 2, 3)]
    found = tiny.compress(PIXELS, max_bytes=sizes[1], scale=0.3)
    assert (found.level, found.frame.size) == (2, sizes[1])
    kept = tiny.compress(PIXELS, keep_label=True, scale=0.3)
    wanted = tiny.most_likely(PIXELS)
    decoded = [
        tiny.decode(tiny.compress(PIXELS, level, scale=0.3).frame, coded_size=True)
        for level in (1, 2, 3)
    ]
    first = [tiny.most_likely(pixels) for pixels in decoded].index(wanted) + 1
    assert (kept.label_kept, kept.level) == (True, first)


POINTS = [
    {"scale": scale, "level": level, "bpp": bpp, "psnr": psnr, "agreement": {"classify": same}}
    for scale, level, bpp, psnr, same in [
        (1, 3, 0.6, 30, 1.0),
        (1, 1, 0.2, 24, 0.9),
        (0.5, 3, 0.15, 25, 0.95),  # better than the one above, with fewer bits
        (0.5, 1, 0.06, 21, 0.8),
        (0.25, 2, 0.03, 20, 0.85),  # likewise
        (0.25, 1, 0.02, 18, 0.2),
    ]
]


@pytest.fixture
def measured(tmp_path: Path) -> Codec:
    folder = tmp_path / "measured"
    shutil.copytree(TINY, folder)
    manifest = json.loads((folder / "model.json").read_text())
    manifest["encoder"]["points"] = POINTS
    (folder / "model.json").write_text(json.dumps(manifest))
    return load_model(folder, threads=1)


@pytest.mark.slow
def test_scale_and_level_are_chosen_together(measured: Codec, tiny: Codec) -> None:
    assert measured.model.fingerprint == tiny.model.fingerprint
    front = [(point.scale, point.level) for point in measured.model.front("classify")]
    assert front == [(0.25, 1), (0.25, 2), (0.5, 3), (1, 3)]
    files = [tiny.compress(PIXELS, level, scale=scale).data for scale, level in front]
    sizes = [len(data) for data in files]
    assert sizes == sorted(sizes)
    for limit in {size + more for size in sizes for more in (-1, 0, 1)} - {sizes[0] - 1}:
        best = max(place for place, size in enumerate(sizes) if size <= limit)
        assert measured.compress(PIXELS, max_bytes=limit, scale="auto").data == files[best]
    with pytest.raises(TargetMissed, match=f"has {sizes[0]} bytes at level 1"):
        measured.compress(PIXELS, max_bytes=sizes[0] - 1, scale="auto")
    wanted = tiny.most_likely(PIXELS)
    seen = [tiny.most_likely(tiny.decode(container.parse(data), coded_size=True)) for data in files]
    kept = measured.compress(PIXELS, keep_label=True, scale="auto")
    assert kept.label_kept == (wanted in seen)
    assert kept.data == files[seen.index(wanted) if wanted in seen else -1]


def test_the_finest_is_never_left_out(measured: Codec) -> None:
    """A level that few pictures found no better than the one below it still shows more."""
    manifest = json.loads((measured.model.path / "model.json").read_text())
    manifest["encoder"]["points"][0]["agreement"]["classify"] = 0.94
    (measured.model.path / "model.json").write_text(json.dumps(manifest))
    front = load_model(measured.model.path, threads=1).model.front("classify")
    assert [(point.scale, point.level) for point in front] == [
        *((0.25, 1), (0.25, 2), (0.5, 3), (1, 3)),
    ]


def test_models_without_a_classifier_are_chosen_by_psnr() -> None:
    one, other = Point(1, 1, 0.2, 30.0), Point(1, 2, 0.3, 31.0, {"segment": 0.5, "classify": 1})
    assert (one.result(None), other.result(None), other.result("segment")) == (30, 0.75, 0.5)


def test_scales_are_not_chosen_without_need_or_knowledge(measured: Codec, tiny: Codec) -> None:
    with pytest.raises(ValueError, match="'auto' goes with max_bytes, keep_label"):
        measured.compress(PIXELS, scale="auto")
    with pytest.raises(UnmeasuredModel, match="model tiny does not say what its scales are worth"):
        tiny.compress(PIXELS, scale="auto", max_bytes=1000)
    tactic("compress", "--scale", "auto", PHOTO, "-", code=2)
    told = tactic(
        "compress", "-m", TINY, "--scale", "auto", "--keep-label", PHOTO, "-", code=1
    ).stderr
    assert "does not say what its scales are worth" in told


@pytest.mark.parametrize(
    "wrong",
    [{"scale": 0}, {"scale": "1"}, {"level": 4}, {"level": 0}, {"bpp": 0}, {"agreement": []}],
)
def test_points_that_are_none(measured: Codec, wrong: dict[str, Any]) -> None:
    manifest = json.loads((measured.model.path / "model.json").read_text())
    manifest["encoder"]["points"][0] |= wrong
    (measured.model.path / "model.json").write_text(json.dumps(manifest))
    with pytest.raises(DamagedModel):
        load_model(measured.model.path)


def test_points_are_measured(tiny: Codec) -> None:
    pictures = [PIXELS[:64, :96], PIXELS[64:144, :64]]
    points = points_of.measured(tiny, pictures)
    assert {(p.scale, p.level) for p in points} == {
        (scale, level) for scale in points_of.SCALES for level in (1, 2, 3)
    }
    half = next(p for p in points if (p.scale, p.level) == (0.5, 2))
    frames = [tiny.compress(pixels, 2, scale=0.5).frame for pixels in pictures]
    assert half.bpp == round(np.mean([frame.bpp for frame in frames]), 5)
    decoded = [tiny.decode(frame) for frame in frames]
    psnr = np.mean([metrics.psnr(*pair) for pair in zip(pictures, decoded, strict=True)])
    assert half.psnr == round(psnr, 2)
    same = []
    for pixels, frame in zip(pictures, frames, strict=True):
        logits = [
            tiny.class_logits(shown) for shown in (pixels, tiny.decode(frame, coded_size=True))
        ]
        before, after = (np.exp(values) / np.exp(values).sum() for values in logits)
        same.append(np.minimum(before, after).sum())
    assert half.agreement == {"classify": round(np.mean(same), 4)}
    assert 0 < half.agreement["classify"] <= 1


# --- Tasks ----------------------------------------------------------------------------------------


def test_tasks_answer_in_the_pictures_coordinates(segmenter: Spoilt) -> None:
    codec = load_model(segmenter.path, threads=1)
    frame = codec.compress(PIXELS, 3, scale=0.25).frame
    coded = codec.decode(frame, coded_size=True)
    found = tasks.segment(frame, codec=codec)
    assert found.labels.shape == (HEIGHT, WIDTH)
    at_coded_size = SEGMENT.ask(codec, coded)
    assert found.shares == at_coded_size.shares
    own = np.asarray(
        Image.fromarray(at_coded_size.labels).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)
    )
    np.testing.assert_array_equal(found.labels, own)
    best = tasks.classify(frame, 1, codec=codec)[0].index
    assert best == codec.most_likely(coded)
    x, y = frame.scale
    assert (x * frame.coded_width, y * frame.coded_height) == (WIDTH, HEIGHT)


def test_a_report_counts_the_pictures_own_pixels(segmenter: Spoilt) -> None:
    codec = load_model(segmenter.path, threads=1)
    frame = codec.compress(PIXELS, 3, scale=0.5).frame
    label_map = np.zeros((HEIGHT, WIDTH), np.uint8)
    row = report.row_of(
        frame, codec, file="a", number=1, original=PIXELS, given={SEGMENT.name: label_map}
    )
    assert (row.facts["width"], row.facts["height"]) == (WIDTH, HEIGHT)
    assert row.facts["bpp"] == 8 * row.facts["bytes"] / (WIDTH * HEIGHT)
    assert row.facts["psnr"] == metrics.psnr(PIXELS, codec.decode(frame))
    _, counts = row.verdicts[SEGMENT.name].counted
    assert counts.sum() == WIDTH * HEIGHT
    assert set(TASKS) >= set(row.verdicts)


# --- Commands -------------------------------------------------------------------------------------


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, segmenter: Spoilt) -> None:
    monkeypatch.chdir(tmp_path)
    model = ("-m", segmenter.path)
    one = tactic("compress", *model, "--max-side", 96, "--json", PHOTO, "a.tac")
    size = (96, round(HEIGHT * 96 / WIDTH))
    told = json.loads(one.stdout)
    assert (told["width"], told["height"]) == (WIDTH, HEIGHT)
    assert (told["coded_width"], told["coded_height"]) == size
    assert told["bpp"] == round(8 * told["bytes"] / (WIDTH * HEIGHT), 6)
    tactic("decompress", *model, "a.tac", "own.png")
    tactic("decompress", *model, "--coded-size", "a.tac", "coded.png")
    assert size_of("own.png") == (WIDTH, HEIGHT)
    assert size_of("coded.png") == size
    fact = json.loads(tactic("info", "--json", "a.tac").stdout)
    assert (fact["width"], fact["height"], fact["coded_width"], fact["coded_height"]) == (
        *(WIDTH, HEIGHT),
        *size,
    )
    assert fact["bpp"] == told["bpp"]
    assert f"{size[0]}x{size[1]}" in tactic("info", "a.tac").stdout
    assert tactic("test", "--symbols", *model, "a.tac").stdout == "a.tac: OK\n"
    tactic("segment", *model, "a.tac", "map.png")
    tactic("segment", *model, "--overlay", "a.tac", "look.png")
    assert size_of("map.png") == size_of("look.png") == (WIDTH, HEIGHT)
    tactic("classify", *model, "a.tac")
    assert tactic_codec.info("a.tac").coded_width == 96


@pytest.mark.parametrize(
    "args", [("--scale", "0"), ("--scale", "1.1"), ("--scale", "nan"), ("--max-side", "0")]
)
def test_options_that_are_wrong(args: tuple[str, ...], tmp_path: Path) -> None:
    tactic("compress", *args, PHOTO, tmp_path / "a.tac", code=2)


def test_a_stream_is_scaled_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Codec
) -> None:
    monkeypatch.chdir(tmp_path)
    film = b"YUV4MPEG2 W64 H48 Cmono\n" + (b"FRAME\n" + bytes(64 * 48)) * 2
    model = ("-m", tiny.model.path)
    data = jpeg((640, 480)) * 2
    for stream, size in ((data, (640, 480)), (film, (64, 48))):
        result = tactic("compress", *model, "--scale", "0.25", "-", "-", input=stream)
        found = io.BytesIO(result.stdout_bytes)
        for _ in range(2):
            frame = container.read_frame(found)
            assert frame and frame.scaled_to == (size[0] // 4, size[1] // 4)
            assert (frame.width, frame.height) == size
        assert container.read_frame(found) is None


def test_a_section_that_nobody_knows_costs_one_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Codec
) -> None:
    monkeypatch.chdir(tmp_path)
    good = tiny.compress(PIXELS[:40, :40]).data
    frame = container.parse(good)
    newer = container.pack(Frame(*_fields(frame), None, ((3, b"new"),)))
    described = container.pack(Frame(*_fields(frame), None, ((203, b"text"),)))
    Path("a.tac").write_bytes(good + newer + described)
    result = tactic("decompress", "-m", tiny.model.path, "a.tac", "out/", code=1)
    assert "a.tac: frame 2: the frame has a section of type 3" in result.stderr
    assert sorted(path.name for path in Path("out").iterdir()) == ["a-0001.png", "a-0003.png"]
    one, three = (Path(f"out/a-000{n}.png").read_bytes() for n in (1, 3))
    assert one == three


def _fields(frame: Frame) -> tuple[bytes, int, int, int, bytes]:
    return frame.fingerprint, frame.level, frame.width, frame.height, frame.payload
