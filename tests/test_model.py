"""A model folder is found by every name it has, and refused for every rule it breaks."""

import io
import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, TINY_FINGERPRINT, Spoilt

from tactic_codec import model as models
from tactic_codec.codec import load_model, load_model_of
from tactic_codec.errors import (
    BackendUnavailable,
    DamagedModel,
    UnknownLevel,
    UnknownModel,
    UnknownTask,
)
from tactic_codec.model import (
    DEFAULT_MODEL,
    Damaged,
    Model,
    Objective,
    find,
    find_fingerprint,
    installed,
)

TOTAL = 2**24


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def frequencies(level: int = 1) -> Any:
    with np.load(TINY / "tables.npz") as tables:
        return tables[f"level_{level}"].astype(np.int64)


def with_tables(**changed: Any) -> bytes:
    return npz(**{f"level_{n}": frequencies(n) for n in (1, 2, 3)} | changed)


def changed(change: Callable[[Any], None]) -> Any:
    tables = frequencies()
    change(tables)
    return tables


def set_at(place: Any, value: int, other: Any = None, add: int = 0) -> Callable[[Any], None]:
    def change(tables: Any) -> None:
        tables[place] = value
        if other is not None:
            tables[other] += add

    return change


# --- What a good folder says ----------------------------------------------------------------------


def test_a_model_is_described_by_its_manifest() -> None:
    model = Model(TINY)
    assert (model.name, model.stride, model.channels, model.halo) == ("tiny", 8, 8, 4)
    assert len(model.levels) == 3
    assert model.default_level == 2
    assert model.level(1).contexts.count == 8
    for level, gain in zip(model.levels, (0.5, 1, 2), strict=True):
        assert level.gain.dtype == level.inverse_gain.dtype == np.float32
        np.testing.assert_array_equal(level.gain, np.full(8, gain))
        np.testing.assert_array_equal(level.inverse_gain, np.full(8, 1 / gain))
    head = model.head("classify")
    assert (head.network, head.input_size, len(head.labels)) == ("tiny", 64, 5)
    assert head.classes == head.labels
    assert model.tables(3).frequencies.sum(axis=2).tolist() == [[TOTAL] * 8] * 8
    model.verify()


def test_tables_are_read_once() -> None:
    model = Model(TINY)
    assert model.tables(1) is model.tables(1)


def test_a_segmentation_network_has_a_colour_for_each_class(segmenter: Spoilt) -> None:
    head = segmenter.model.head("segment")
    assert head.colours == ((0xC0, 0, 0), (0, 0xC0, 0), (0, 0, 0xC1))
    assert len(head.labels) == 3 and head.input_size == 64
    assert segmenter.model.head("classify").colours == ()
    segmenter.model.verify()


NOT_COLOURS = [
    "#c0000",
    "c00000",
    "#C00000",
    "#c000000",
    "#c0000g",
    "red",
    "",
    5,
    None,
    [192, 0, 0],
]


@pytest.mark.parametrize("bad", NOT_COLOURS, ids=repr)
def test_what_is_no_colour_is_refused(segmenter: Spoilt, bad: Any) -> None:
    segmenter.set("heads", "segment", "colours", 1, to=bad)
    with pytest.raises(DamagedModel):
        Model(segmenter.path)


@pytest.mark.parametrize("count", [0, 2, 4])
def test_colours_are_as_many_as_classes(segmenter: Spoilt, count: int) -> None:
    segmenter.set("heads", "segment", "colours", to=["#000000"] * count)
    with pytest.raises(DamagedModel, match="a colour for each class"):
        Model(segmenter.path)
    segmenter.set("heads", "segment", "colours", to=...)
    with pytest.raises(DamagedModel, match="a colour for each class"):
        Model(segmenter.path)


@pytest.mark.parametrize("count", [0, 256])
def test_classes_of_a_label_map_fit_into_8_bits(segmenter: Spoilt, count: int) -> None:
    segmenter.set("heads", "segment", "labels", to=["a"] * count)
    segmenter.set("heads", "segment", "colours", to=["#000000"] * count)
    with pytest.raises(DamagedModel, match="1 to 255 classes of a label map"):
        Model(segmenter.path)


def test_a_segmentation_network_leaves_the_fingerprint(segmenter: Spoilt) -> None:
    assert segmenter.model.fingerprint == Model(TINY).fingerprint


@pytest.mark.parametrize("number", [-1, 0, 4, 255, 256])
def test_a_level_that_is_not_there_is_named_with_those_that_are(number: int) -> None:
    for ask in (Model(TINY).level, Model(TINY).tables):
        with pytest.raises(UnknownLevel, match=rf"tiny has quality levels 1 to 3, not {number}$"):
            ask(number)


def test_a_task_that_is_not_there_is_named_with_those_that_are(spoilt: Spoilt) -> None:
    with pytest.raises(UnknownTask, match="tiny cannot segment; it has: classify"):
        spoilt.model.head("segment")
    spoilt.set("heads", to={})
    with pytest.raises(UnknownTask, match="tiny cannot classify; it has: no task networks"):
        spoilt.model.head("classify")


def test_the_fingerprint_of_tiny_stays() -> None:
    assert Model(TINY).fingerprint == TINY_FINGERPRINT


def test_the_fingerprint_is_that_of_the_canonical_json() -> None:
    digest = models.fingerprint({"b": [1, 2.5], "a": "é"})
    assert digest == models.fingerprint({"a": "é", "b": [1, 2.5]})
    # printf '{"a":"\\u00e9","b":[1,2.5]}' | sha256sum
    assert digest.hex() == "1d5aa48e"


OBJECTIVE = {"pixel_scale": 10.0, "alpha": 1, "features": 2.0, "beta": 0.5}


def test_models_may_tell_how_they_round_and_what_for(spoilt: Spoilt) -> None:
    assert [(level.offset, level.objective) for level in spoilt.model.levels] == [(0.5, None)] * 3
    spoilt.set("encoder", "offset", to=[0.5, 0.4, 1e-3])
    spoilt.set("encoder", "objective", to=[OBJECTIVE | {"beta": beta} for beta in (2, 1.0, 0)])
    levels = spoilt.model.levels
    assert [level.offset for level in levels] == [0.5, 0.4, 1e-3]
    assert [level.objective for level in levels] == [
        Objective(pixel_scale=10, alpha=1, features=2, beta=beta) for beta in (2, 1, 0)
    ]


ENCODER_SIDE: dict[str, Callable[[Spoilt], None]] = {
    "analysis": lambda s: s.put("analysis.onnx", b"another"),
    "head": lambda s: s.put("classify.onnx", b"another"),
    "weights": lambda s: s.put("weights.safetensors", b"another"),
    "gains of the encoder": lambda s: s.set("encoder", "gain", 0, to=[0.25] * 8),
    "default level": lambda s: s.set("encoder", "default_level", to=1),
    "rounding offsets": lambda s: s.set("encoder", "offset", to=[0.5, 0.4, 0.3]),
    "objective": lambda s: s.set("encoder", "objective", to=[OBJECTIVE] * 3),
    "name": lambda s: s.set("name", to="other"),
    "no heads": lambda s: s.set("heads", to={}),
    "metrics": lambda s: s.set("metrics", to={"bpp": 1.0}),
}
DECODER_SIDE: dict[str, Callable[[Spoilt], None]] = {
    "synthesis": lambda s: s.put("synthesis.onnx", b"another"),
    "tables": lambda s: s.put("tables.npz", b"another"),
    "inverse gains": lambda s: s.set("normative", "levels", 0, "inverse_gain", to=[4.0] * 8),
    "minimum": lambda s: s.set("normative", "levels", 2, "minimum", to=-1),
    "contexts": lambda s: s.set("normative", "levels", 1, "own", to=[1, 3, 7]),
    "stride": lambda s: s.set("normative", "stride", to=16),
}


@pytest.mark.parametrize("change", ENCODER_SIDE.values(), ids=ENCODER_SIDE)
def test_the_fingerprint_leaves_the_encoder_free(
    spoilt: Spoilt, change: Callable[[Spoilt], None]
) -> None:
    change(spoilt)
    assert spoilt.model.fingerprint == TINY_FINGERPRINT


@pytest.mark.parametrize("change", DECODER_SIDE.values(), ids=DECODER_SIDE)
def test_the_fingerprint_covers_what_fixes_the_picture(
    spoilt: Spoilt, change: Callable[[Spoilt], None]
) -> None:
    change(spoilt)
    assert spoilt.model.fingerprint != TINY_FINGERPRINT


# --- Manifests that are refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 200_000, "is not JSON"),
        (b"9" * 10_000, "is not JSON"),
        (b"[]", "holds no JSON object"),
        (b'"tiny"', "holds no JSON object"),
        (b"null", "holds no JSON object"),
        (b"{}", "manifest_version"),
        (b" " * (1 << 22) + b"{}", "is larger than 4194304 bytes"),
    ],
    ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else value,
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(DamagedModel, match=reason) as caught:
        Model(tmp_path)
    assert str(tmp_path / "model.json") in str(caught.value)


def test_a_folder_without_a_manifest_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match=r"model\.json cannot be read"):
        Model(tmp_path)
    (tmp_path / "model.json").mkdir()
    with pytest.raises(UnknownModel, match=r"model\.json cannot be read"):
        Model(tmp_path)


LEVEL = ("normative", "levels", 0)
NOT_POSITIVE = [0, -1, 8.0, "8", True, None, [8], {}]
NOT_GAINS = [
    *([1.0] * 7, [1.0] * 9, [], 1.0, None, "11111111", {}),
    *([1.0] * 7 + [bad] for bad in (0.0, -1.0, float("nan"), float("inf"), 1e39, 1e-50)),
    *([1.0] * 7 + [bad] for bad in ("1", True, None, [1.0], 10**400)),
    [[1.0] * 8],
]
BROKEN: list[tuple[tuple[str | int, ...], list[Any]]] = [
    (("manifest_version",), [..., 0, 2, "1", True, 1.0, None]),
    (("name",), [..., 5, None, ["tiny"]]),
    (("halo",), [..., *NOT_POSITIVE]),
    (("normative",), [..., None, [], "text", 5, {}]),
    (("normative", "stride"), [..., *NOT_POSITIVE]),
    (("normative", "channels"), [..., *NOT_POSITIVE, 7, 9, 1 << 40]),
    (("normative", "levels"), [..., [], {}, None, 3, [{}] * 3, [[]] * 3, "abc"]),
    ((*LEVEL, "minimum"), [..., 0.5, "0", True, None]),
    ((*LEVEL, "own"), [..., 5, None, "12", [0], [-1, 2], [2, 1], [1, 1], [1.0], [True], [[1]]]),
    ((*LEVEL, "shared"), [..., 5, None, "12", [0], [3, 2], ["1"]]),
    ((*LEVEL, "inverse_gain"), [..., *NOT_GAINS]),
    (("normative", "files"), [..., None, [], "text", {"tables.npz": "0" * 64}, {"other": "0"}]),
    (("encoder",), [..., None, [], {}]),
    (("encoder", "gain"), [..., [], [[1.0] * 8] * 2, [[1.0] * 8] * 4, None]),
    (("encoder", "gain", 0), NOT_GAINS),
    (("encoder", "default_level"), [..., *NOT_POSITIVE, 4, 256]),
    (("encoder", "offset"), [None, 0.5, "555", {}, [], [0.5] * 2, [0.5] * 4]),
    *(
        (("encoder", "offset"), [[0.5, 0.5, bad]])
        for bad in (0, 0.0, -0.1, 0.51, 1, float("nan"), float("inf"), "0.5", True, None, [0.5])
    ),
    (("encoder", "objective"), [5, "abc", {}, [], [OBJECTIVE] * 2, [OBJECTIVE] * 4, [None] * 3]),
    *(
        (("encoder", "objective"), [[OBJECTIVE, OBJECTIVE, OBJECTIVE | {weight: bad}]])
        for weight in OBJECTIVE
        for bad in (-1, float("nan"), float("inf"), 10**400, "1", True, None)
    ),
    (("encoder", "objective"), [[{k: v for k, v in OBJECTIVE.items() if k != "beta"}] * 3]),
    (("heads",), [..., None, [], "text", {"classify": {}}, {"classify": None}]),
    (("heads", "classify", "file"), [..., 5, None]),
    (("heads", "classify", "input_size"), [..., *NOT_POSITIVE, 8193, 1 << 70]),
    (("heads", "classify", "labels"), [..., 5, None, [1, 2], [None]]),
    (("heads", "classify", "classes"), [..., 5, None, [1, 2], [None]]),
    (("files",), [..., None, [], {}, "text"]),
    (("files", "analysis.onnx"), [5, None, {}, "text", {"bytes": 10974}]),
    (("files", "analysis.onnx", "bytes"), [..., "10974", 1.5, True, None]),
    (("files", "analysis.onnx", "sha256"), [..., 5, None]),
]


@pytest.mark.parametrize(
    ("keys", "value"),
    [(keys, value) for keys, values in BROKEN for value in values],
    ids=lambda v: ".".join(map(str, v)) if isinstance(v, tuple) else repr(v)[:30],
)
def test_a_manifest_that_breaks_a_rule_is_refused(
    spoilt: Spoilt, keys: tuple[str | int, ...], value: Any
) -> None:
    spoilt.set(*keys, to=value)
    with pytest.raises(DamagedModel):
        Model(spoilt.path)


def test_more_levels_than_a_frame_can_name_are_refused(spoilt: Spoilt) -> None:
    def change(manifest: Any) -> None:
        manifest["normative"]["levels"] = manifest["normative"]["levels"][:1] * 256
        manifest["encoder"]["gain"] = manifest["encoder"]["gain"][:1] * 256

    spoilt.edit(change)
    with pytest.raises(DamagedModel, match="expected 1 to 255 levels"):
        Model(spoilt.path)


def test_a_newer_manifest_says_to_update(spoilt: Spoilt) -> None:
    spoilt.set("manifest_version", to=2)
    with pytest.raises(DamagedModel, match=r"is of version 2; .* reads version 1: update"):
        Model(spoilt.path)


def test_what_is_missing_is_named(spoilt: Spoilt) -> None:
    spoilt.set("normative", "stride", to=...)
    with pytest.raises(DamagedModel, match=r"model\.json: .*'stride'.*install the model again"):
        Model(spoilt.path)


# --- Files that are refused -----------------------------------------------------------------------


def test_verify_reads_every_file(spoilt: Spoilt) -> None:
    names = list(spoilt.manifest["files"])
    assert len(names) == 5
    for name in names:
        whole = (spoilt.path / name).read_bytes()
        for damaged in (whole[:-1], whole + b"\0", whole[:-1] + bytes([whole[-1] ^ 1]), b""):
            (spoilt.path / name).write_bytes(damaged)
            with pytest.raises(DamagedModel, match=f"{name} differs from the manifest"):
                spoilt.model.verify()
        (spoilt.path / name).unlink()
        if name == "weights.safetensors":
            continue
        with pytest.raises(DamagedModel, match=rf"{name} cannot be read: .*install the model"):
            spoilt.model.verify()
        (spoilt.path / name).write_bytes(whole)
    spoilt.model.verify()


def test_a_device_goes_without_what_training_needs(spoilt: Spoilt) -> None:
    (spoilt.path / "weights.safetensors").unlink()
    spoilt.model.verify()
    codec = load_model(spoilt.path)
    picture = np.zeros((16, 16, 3), np.uint8)
    assert codec.decompress(codec.compress(picture)).size == (16, 16)
    with pytest.raises(BackendUnavailable, match=r"weights.*the wheel tactic-codec-training"):
        spoilt.model.read_file("weights.safetensors")


def test_verify_checks_the_tables_of_every_level(spoilt: Spoilt) -> None:
    spoilt.put("tables.npz", with_tables(level_3=frequencies(3) + 1))
    with pytest.raises(DamagedModel, match="sums to"):
        spoilt.model.verify()


def test_a_file_that_the_manifest_does_not_name_is_not_read(spoilt: Spoilt) -> None:
    (spoilt.path / "extra.onnx").write_bytes(b"")
    with pytest.raises(DamagedModel, match=r"names no file extra\.onnx"):
        spoilt.model.read_file("extra.onnx")


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/b", "..", ".", "sub/../x"])
def test_a_file_outside_the_folder_is_not_read(spoilt: Spoilt, name: str) -> None:
    data = b"secret"
    (spoilt.path.parent / "outside").write_bytes(data)
    spoilt.set("files", name, to={"bytes": len(data), "sha256": sha256(data).hexdigest()})
    with pytest.raises(DamagedModel, match=r"outside the folder|cannot be read"):
        spoilt.model.read_file(name)
    with pytest.raises(DamagedModel):
        spoilt.model.verify()


@pytest.mark.parametrize("size", [-2, 1 << 62, 10**30])
def test_a_size_that_no_file_has_costs_no_memory(spoilt: Spoilt, size: int) -> None:
    spoilt.set("files", "analysis.onnx", "bytes", to=size)
    with pytest.raises(DamagedModel, match="differs from the manifest"):
        spoilt.model.read_file("analysis.onnx")


def broken_member() -> bytes:
    data = bytearray(with_tables())
    data[100:140] = bytes(40)
    return bytes(data)


TABLES = {
    "empty file": (b"", "not a NumPy archive"),
    "no archive": (b"not an archive", "not a NumPy archive"),
    "cut archive": (with_tables()[:-30], "not a NumPy archive"),
    "single array": (npy(np.ones((8, 8, 5), np.int64)), "not a NumPy archive"),
    "damaged member": (broken_member(), "level 1"),
    "no levels": (npz(other=np.ones(3)), "no tables of level 1"),
    "object array": (npz(level_1=np.array([{}, 1], dtype=object)), "no tables of level 1"),
    "floats": (with_tables(level_1=frequencies() * 1.0), "expected integers"),
    "bools": (with_tables(level_1=frequencies() > 0), "expected integers"),
    "text": (with_tables(level_1=np.array("text")), "expected integers"),
    "two axes": (with_tables(level_1=frequencies()[0]), "expected integers"),
    "empty": (with_tables(level_1=frequencies()[:, :, :0]), "expected integers"),
    "sum below": (with_tables(level_1=changed(set_at((3, 2, 0), 5))), "set 3, context 2 sums"),
    "zero frequency": (
        with_tables(level_1=changed(set_at((0, 0, 1), 0))),
        "frequencies from 0 to",
    ),
    "negative frequency": (
        with_tables(level_1=changed(set_at((0, 0, 1), -7))),
        "frequencies from -7 to",
    ),
    "too few channels": (with_tables(level_1=frequencies()[:7]), "has 7 channels at level 1"),
    "too few contexts": (with_tables(level_1=frequencies()[:, :7]), "7 tables per channel for 8"),
}


@pytest.mark.parametrize(("data", "reason"), TABLES.values(), ids=TABLES)
def test_tables_that_break_a_rule_are_refused(spoilt: Spoilt, data: bytes, reason: str) -> None:
    spoilt.put("tables.npz", data)
    with pytest.raises(DamagedModel, match=reason):
        spoilt.model.tables(1)


def test_tables_that_the_manifest_does_not_name_are_refused(spoilt: Spoilt) -> None:
    (spoilt.path / "tables.npz").write_bytes(with_tables())
    with pytest.raises(DamagedModel, match="differs from the manifest"):
        spoilt.model.tables(1)


# --- Finding models -------------------------------------------------------------------------------


def install(folder: Path, name: str = "tiny", **changes: Any) -> Path:
    """Put a copy of the tiny model into a folder of models."""
    target = Spoilt(folder / name)
    for key, value in changes.items():
        target.set(key, to=value)
    return target.path


def test_models_are_looked_for_in_order(nothing_installed: Path, monkeypatch: Any) -> None:
    bundled = install(nothing_installed.parent / "checkout")
    assert find("tiny").path == bundled
    user = install(nothing_installed / "tactic-codec" / "models")
    assert find("tiny").path == user
    second = install(nothing_installed.parent / "second")
    first = install(nothing_installed.parent / "first")
    missing = nothing_installed.parent / "missing"
    # An empty entry, as a colon at the end makes, is not the current folder.
    monkeypatch.chdir(first.parent)
    for folders, expected in [
        (f"{second.parent}", second),
        (f"{missing}:{first.parent}:{second.parent}", first),
        (f"{second.parent}:{first.parent}", second),
        (f":{second.parent}:", second),
        ("", user),
    ]:
        monkeypatch.setenv("TACTIC_MODELS", folders)
        assert find("tiny").path == expected
    assert [m.path for m in installed() if isinstance(m, Model)] == [user]


def test_the_wheel_s_models_hide_the_checkout_s(nothing_installed: Path) -> None:
    install(nothing_installed.parent / "checkout")
    bundled = install(nothing_installed.parent / "bundled")
    assert find("tiny").path == bundled


@pytest.mark.parametrize("value", [None, ""])
def test_without_xdg_the_data_folder_is_that_of_the_home(
    nothing_installed: Path, monkeypatch: Any, value: str | None
) -> None:
    home = nothing_installed.parent / "home"
    monkeypatch.setattr(Path, "home", lambda: home)
    if value is None:
        monkeypatch.delenv("XDG_DATA_HOME")
    else:
        monkeypatch.setenv("XDG_DATA_HOME", value)
    path = install(home / ".local" / "share" / "tactic-codec" / "models")
    assert find("tiny").path == path


def test_a_user_without_a_home(nothing_installed: Path, monkeypatch: Any) -> None:
    def unknown(uid: int) -> Any:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name)
    with pytest.raises(UnknownModel, match="there is no model 'tiny'"):
        find("tiny")
    with pytest.raises(UnknownModel, match="put it into a folder that TACTIC_MODELS names"):
        find_fingerprint(bytes(4))
    install(nothing_installed.parent / "bundled")
    assert find_fingerprint(TINY_FINGERPRINT).name == "tiny"


def test_a_path_works_where_a_name_does(
    nothing_installed: Path, monkeypatch: Any, tmp_path: Path
) -> None:
    path = install(tmp_path / "here")
    monkeypatch.chdir(path.parent)
    for name in (path, str(path), "tiny", Path("tiny"), "./tiny", "../here/tiny", f"{path}/"):
        assert find(name).fingerprint == TINY_FINGERPRINT
        assert load_model(name, threads=1).model.name == "tiny"
    monkeypatch.chdir(path)
    assert find(".").name == "tiny"
    (path / "inside").mkdir()
    monkeypatch.chdir(path / "inside")
    assert find("..").name == "tiny"


def test_an_installed_name_is_found_before_a_folder_of_that_name(
    tiny_installed: None, tmp_path: Path, monkeypatch: Any
) -> None:
    install(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    assert find("tiny").path == TINY
    assert find("./tiny").path == tmp_path / "here" / "tiny"


@pytest.mark.parametrize("name", ["nothing", "", ".", "..", "../tiny", "tiny/", "a\0b", "x" * 300])
def test_a_model_that_is_not_there_is_named_with_those_that_are(
    tiny_installed: None, tmp_path: Path, monkeypatch: Any, name: str
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    if name == "tiny/":  # as a shell completes it; the name of what is installed all the same
        assert find(Path(name)).path == TINY
        return
    with pytest.raises(UnknownModel) as caught:
        find(name)
    said = "no model.json in the folder" if name in (".", "..") else "there is no model"
    assert str(caught.value) == f"{said} {name!r}; installed: tiny (a292e80f)"


def test_a_folder_that_holds_no_model_is_named_so(tiny_installed: None, tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match=r"^no model\.json in the folder '.*'; installed: tiny"):
        find(tmp_path)


def test_the_default_model_is_asked_for_by_name(tiny_installed: None) -> None:
    with pytest.raises(UnknownModel, match=f"there is no model '{DEFAULT_MODEL}'; installed: tiny"):
        load_model()


def test_nothing_installed_is_said(nothing_installed: Path) -> None:
    assert list(installed()) == []
    with pytest.raises(UnknownModel, match=f"there is no model '{DEFAULT_MODEL}'; installed: none"):
        find(DEFAULT_MODEL)


def test_a_fingerprint_finds_its_model_under_any_name(
    nothing_installed: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    folder = tmp_path / "models"
    install(folder, "a damaged one", normative=None)
    other = Spoilt(folder / "b")
    other.set("normative", "levels", 0, "minimum", to=-1)
    install(folder, "c")
    monkeypatch.setenv("TACTIC_MODELS", str(folder))
    assert find_fingerprint(TINY_FINGERPRINT).path == folder / "c"
    assert find_fingerprint(other.model.fingerprint).path == folder / "b"
    codec = load_model_of(TINY_FINGERPRINT)
    assert codec.model.path == folder / "c"
    assert load_model_of(TINY_FINGERPRINT) is codec


def test_a_hidden_model_of_the_same_name_is_not_installed(
    tiny_installed: None, nothing_installed: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    hidden = Spoilt(tmp_path / "late" / "tiny")
    hidden.set("normative", "levels", 0, "minimum", to=-1)
    monkeypatch.setenv("TACTIC_MODELS", f"{TINY.parent}:{tmp_path / 'late'}")
    assert [m.path for m in installed() if isinstance(m, Model)] == [TINY]


def test_a_fingerprint_finds_its_model_behind_others_of_its_name(
    nothing_installed: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """What shadows a name must not make files unreadable."""
    other = Spoilt(tmp_path / "one" / "tiny")
    other.set("normative", "levels", 0, "minimum", to=-1)
    install(tmp_path / "two", normative=None)
    own = install(tmp_path / "three")
    folders = ":".join(str(tmp_path / name) for name in ("one", "two", "three"))
    monkeypatch.setenv("TACTIC_MODELS", folders)
    assert find("tiny").path == other.path
    assert find_fingerprint(TINY_FINGERPRINT).path == own


def test_a_model_that_is_being_written_is_not_installed(
    nothing_installed: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    install(tmp_path, ".tiny.0123.new")
    monkeypatch.setenv("TACTIC_MODELS", str(tmp_path))
    assert list(installed()) == []
    with pytest.raises(UnknownModel):
        find_fingerprint(TINY_FINGERPRINT)


def test_a_manifest_that_may_not_be_read_spoils_its_own_model_alone(
    nothing_installed: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    locked, own = install(tmp_path, "a"), install(tmp_path, "b")
    monkeypatch.setenv("TACTIC_MODELS", str(tmp_path))
    open_ = Path.open

    def refuse(self: Path, *args: Any, **named: Any) -> Any:
        if self == locked / "model.json":
            raise PermissionError(13, "Permission denied", str(self))
        return open_(self, *args, **named)

    monkeypatch.setattr(Path, "open", refuse)
    assert find_fingerprint(TINY_FINGERPRINT).path == own
    damaged, _ = installed()
    assert isinstance(damaged, Damaged) and "Permission denied" in damaged.reason
    with pytest.raises(UnknownModel, match="Permission denied"):
        find("a")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_manifest_with_what_is_no_number_is_damaged(spoilt: Spoilt, number: str) -> None:
    spoilt.set("metrics", to={"photos": {"bpp": float(number)}})
    assert number in (spoilt.path / "model.json").read_text()
    with pytest.raises(DamagedModel, match=f"{number} is no number"):
        _ = spoilt.model


def test_labels_are_text(spoilt: Spoilt) -> None:
    spoilt.set("heads", "classify", "labels", 0, to="\ud800")
    with pytest.raises(DamagedModel, match="surrogates not allowed"):
        _ = spoilt.model


def test_a_fingerprint_that_is_not_there_says_what_to_do(
    tiny_installed: None, nothing_installed: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    install(tmp_path / "more", "broken", normative=None)
    monkeypatch.setenv("TACTIC_MODELS", f"{TINY.parent}:{tmp_path / 'more'}")
    for ask in (find_fingerprint, load_model_of):
        with pytest.raises(UnknownModel) as caught:
            ask(b"\xde\xad\xbe\xef")
        message = str(caught.value)
        assert "needs the model with fingerprint deadbeef, which is not installed" in message
        assert "tiny (a292e80f)" in message
        assert f"{tmp_path / 'more' / 'broken'} (damaged)" in message
        assert f"put it into {nothing_installed / 'tactic-codec' / 'models'}" in message
        assert "--model" in message


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.clear(),
        lambda m: m["encoder"].update(default_level=9),
        lambda m: m.update(heads=[]),
        lambda m: m["normative"]["levels"][0].update(own=[3, 1]),
    ],
    ids=["empty", "default level", "heads", "contexts"],
)
def test_a_damaged_model_hides_no_other(
    nothing_installed: Path, tmp_path: Path, monkeypatch: Any, change: Any
) -> None:
    folder = tmp_path / "models"
    Spoilt(folder / "a").edit(change)
    (folder / "a file").write_bytes(b"")
    (folder / "a folder").mkdir()
    shutil.copytree(TINY, folder / "tiny")
    monkeypatch.setenv("TACTIC_MODELS", str(folder))
    damaged, good = installed()
    assert isinstance(damaged, Damaged)
    assert damaged.path == folder / "a"
    assert str(folder / "a") in damaged.reason
    assert isinstance(good, Model)
    assert good.path == folder / "tiny"


def test_the_manifest_is_kept_whole(spoilt: Spoilt) -> None:
    spoilt.set("metrics", to={"imagenette": {"bpp": 0.25}})
    assert spoilt.model.manifest == json.loads((spoilt.path / "model.json").read_text())


@pytest.mark.parametrize("name", ["tables.npz", "synthesis.onnx"])
def test_the_fingerprint_covers_tables_and_synthesis(spoilt: Spoilt, name: str) -> None:
    spoilt.set("normative", "files", name, to=...)
    with pytest.raises(DamagedModel, match=r"must cover tables\.npz and synthesis\.onnx"):
        Model(spoilt.path)
