"""Compress, classify, detect and transcode many pictures on the computers of a Ray cluster.

    list ─ what OUT lacks ─▶ Ray Data ─ workers: read ─ work ─ write, through fsspec ─▶ Outcome

>>> import tactic_codec.ray
>>> tactic_codec.ray.compress("s3://bucket/photos", "s3://bucket/coded", level=2)  # doctest: +SKIP
Outcome(done=999998, skipped=0, failures=2)

Source and OUT are addresses as fsspec takes them: folders (``/srv/photos``, ``s3://bucket/photos``)
or, for a source that ends in ``.tar``, WebDataset shards (``s3://bucket/train-*.tar``). A picture
becomes a file of the same name and another suffix, a shard one of the same name. A result that OUT
has is not made again, so that the same call goes on after an interruption.

What fails does not stop the rest: it is in `Outcome.failures`, and in ``failures.csv`` in OUT. A
worker that dies is started again, and what it had begun is done again; an input by which three
have died is given up, as a failure. Pictures do not travel between computers: a worker has a
processor, reads, works and writes by itself, and loads a model once.

Without a cluster one is started on this computer. `RAY_ADDRESS` names another; its computers need
tactic-codec, the model at the same place, and a way to the files. Ray's usage statistics are off.
"""

import csv
import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tactic_codec import atomic
from tactic_codec.boxes import MIN_SCORE
from tactic_codec.codec import Codec, as_frame, load_model, load_model_of
from tactic_codec.container import MAGIC, Frame
from tactic_codec.errors import DataError, needed
from tactic_codec.picture import SUFFIXES, read, save
from tactic_codec.runtime import processors
from tactic_codec.tasks import CLASSIFY, DETECT
from tactic_codec.tasks import classify as ask_class
from tactic_codec.tasks import detect as ask_boxes

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read as Ray is imported, here and in workers

with needed("tactic_codec.ray needs {}; run: pip install fsspec 'ray[data]'"):
    import fsspec
    import ray
    from ray.data import ActorPoolStrategy, from_items

FAILURES = "failures.csv"
"""Name of the table of failures in OUT."""

TAC, _SHARD = ".tac", ".tar"
_AT_ONCE = 64  # inputs that a worker is given at most, and that are done again if it dies
_LIVES = 3  # workers that an input may cost
_STORE = 256 << 20  # bytes for what Ray passes on: names and messages

Work = Callable[[bytes], bytes]
"""What is done with each file's content."""


class Failure(NamedTuple):
    """An input without a result.

    Attributes:
        path: of the picture, or of its shard, below the source; of a shard's picture with its name.
        error: what went wrong.
    """

    path: str
    error: str


@dataclass(frozen=True)
class Outcome:
    """What became of all inputs.

    Attributes:
        done: pictures with a new result.
        skipped: files that had a result before, shards as one.
        failures: the others.
    """

    done: int
    skipped: int
    failures: list[Failure] = field(repr=False)


def compress(
    source: str, out: str, *, workers: int | None = None, model: str | None = None, **options: Any
) -> Outcome:
    """Code pictures as ``.tac`` files.

    Args:
        source: where the pictures are, see the module's text.
        out: where the results go.
        workers: processes at once; by default one for each processor of the cluster.
        model: name, or a folder that all computers have.
        options: as `Codec.compress`: a level or a target, scale, and so on.

    Raises:
        UnknownModel: the model is not installed here.
        DataError: the source has no such files.
        OSError: the source cannot be listed.
    """
    load_model(model, threads=1)
    work = partial(_compress, model=model, options=options)
    return _run(source, out, SUFFIXES, TAC, work, workers)


def classify(source: str, out: str, *, workers: int | None = None, top_k: int = 5) -> Outcome:
    """Classify ``.tac`` files with the models that they name; the answers are JSON as printed.

    The rest is as in `compress`.
    """
    return _run(source, out, (TAC,), ".json", partial(_classify, top_k=top_k), workers)


def detect(
    source: str, out: str, *, workers: int | None = None, min_score: float = MIN_SCORE
) -> Outcome:
    """Find objects in ``.tac`` files with the models that they name; answers as `classify`."""
    return _run(source, out, (TAC,), ".json", partial(_detect, min_score=min_score), workers)


def transcode(source: str, out: str, *, workers: int | None = None, format: str = "png") -> Outcome:
    """Turn ``.tac`` files and pictures into pictures of a format: png, jpeg, webp, bmp or tiff."""
    save(np.zeros((1, 1, 3), np.uint8), format)  # raises what is wrong with it
    suffix = {"jpeg": ".jpg"}.get(format, f".{format}")
    ends = tuple(end for end in (TAC, *SUFFIXES) if end != suffix)
    return _run(source, out, ends, suffix, partial(_transcode, format=format), workers)


# --- What a worker does ---


def _compress(data: bytes, model: str | None, options: dict[str, Any]) -> bytes:
    return load_model(model, threads=1).compress(data, **options).data


def _opened(data: bytes) -> tuple[Frame, Codec]:
    frame = as_frame(data)
    return frame, load_model_of(frame.fingerprint, threads=1)


def _classify(data: bytes, top_k: int) -> bytes:
    frame, codec = _opened(data)
    return _answer(CLASSIFY.as_json(ask_class(frame, top_k, codec=codec)))


def _detect(data: bytes, min_score: float) -> bytes:
    frame, codec = _opened(data)
    return _answer(DETECT.as_json(ask_boxes(frame, min_score, codec=codec)))


def _answer(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts, allow_nan=False).encode() + b"\n"


def _transcode(data: bytes, format: str) -> bytes:
    if data.startswith(MAGIC):
        frame, codec = _opened(data)
        return save(codec.decode(frame), format)
    return save(read(data).pixels, format)


class _Begun:
    """What workers have begun and not ended; there is one of it, apart from them."""

    def __init__(self) -> None:
        self._open = set[str]()
        self._alone = Counter[str]()

    def begin(self, paths: list[str]) -> bool:
        """Tell whether a worker has died of one of them before."""
        died = not self._open.isdisjoint(paths)
        self._open.update(paths)
        return died

    def alone(self, path: str) -> int:
        """Count that a path is begun by itself, so that one knows what a worker dies of."""
        self._alone[path] += 1
        return self._alone[path]

    def end(self, paths: list[str]) -> None:
        self._open.difference_update(paths)
        for path in paths:
            self._alone.pop(path, None)


class _Worker:
    """Works on one input after the other; a process has one, and `load_model` keeps its models."""

    def __init__(
        self, begun: Any, source: str, out: str, ends: tuple[str, ...], suffix: str, work: Work
    ) -> None:
        self._begun = begun
        self._files, self._source = fsspec.core.url_to_fs(source)
        self._results, self._out = fsspec.core.url_to_fs(out)
        self._ends, self._suffix, self._work = ends, suffix, work

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Return a row for each input, and of shards one more for each picture that failed."""
        paths = [str(path) for path in batch["path"]]
        carefully = ray.get(self._begun.begin.remote(paths))
        rows: list[dict[str, str]] = []
        for path, result in zip(paths, batch["result"], strict=True):
            if carefully and ray.get(self._begun.alone.remote(path)) >= _LIVES:
                rows.append(_row(path, DataError(f"{_LIVES} workers died of it; is memory short?")))
                continue
            rows += self._done(path, str(result))
            if carefully:
                self._begun.end.remote([path])
        self._begun.end.remote(paths)
        return {name: [row[name] for row in rows] for name in ("path", "part", "error", "done")}

    def _done(self, path: str, result: str) -> list[dict[str, str]]:
        found: list[dict[str, str]] = []
        count = 1
        try:
            if path.endswith(_SHARD):
                data, count = self._shard(path, found)
            else:
                data = self._work(self._files.cat_file(_join(self._source, path)))
            _write(self._results, _join(self._out, result), data)
        except Exception as exc:  # told in the table, whatever it is: millions of others wait
            return [_row(path, exc)]
        return [{"path": path, "part": "", "error": "", "done": str(count)}, *found]

    def _shard(self, path: str, failures: list[dict[str, str]]) -> tuple[bytes, int]:
        made, count = io.BytesIO(), 0
        with (
            self._files.open(_join(self._source, path), "rb") as stream,
            tarfile.open(fileobj=stream, mode="r|*") as shard,
            tarfile.open(fileobj=made, mode="w") as results,
        ):
            for member in shard:
                content = shard.extractfile(member)
                if content is None:  # a folder or a link
                    continue
                data = content.read()
                if member.name.lower().endswith(self._ends):
                    try:
                        data = self._work(data)
                    except Exception as exc:
                        failures.append(_row(path, exc, member.name))
                        continue
                    member.name = os.path.splitext(member.name)[0] + self._suffix
                    count += 1
                member.size = len(data)
                # What these say would count in place of the name and the size.
                kept = {k: v for k, v in member.pax_headers.items() if k not in ("path", "size")}
                member.pax_headers = kept
                results.addfile(member, io.BytesIO(data))
        return made.getvalue(), count


def _row(path: str, exc: Exception, part: str = "") -> dict[str, str]:
    return {"path": path, "part": part, "error": f"{type(exc).__name__}: {exc}", "done": "0"}


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def _write(files: Any, path: str, data: bytes) -> None:
    """Write a file whole or not at all, as object stores do by themselves."""
    if isinstance(files, fsspec.implementations.local.LocalFileSystem):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, data)
    else:
        files.pipe_file(path, data)


# --- What the caller does ---


def _run(
    source: str, out: str, ends: tuple[str, ...], suffix: str, work: Work, workers: int | None
) -> Outcome:
    files, place = fsspec.core.url_to_fs(source)
    shards = place.endswith(_SHARD)
    base = place.rpartition("/")[0] if shards else place
    names = _names(files, base, (_SHARD,) if shards else ends, place if shards else None)
    if not names:
        wanted = _SHARD if shards else ", ".join(ends)
        raise DataError(f"no file of {source} ends in {wanted}; name a folder or shards")
    results, target = fsspec.core.url_to_fs(out)
    there = set(_names(results, target, (_SHARD if shards else suffix,)))
    made = {name: name if shards else os.path.splitext(name)[0] + suffix for name in names}
    failures = list(_twins(made))
    twins = {failure.path for failure in failures}
    todo = [name for name in names if made[name] not in there and name not in twins]
    skipped, done = len(names) - len(todo) - len(twins), 0
    arguments = (source.rpartition("/")[0] if shards else source, out, ends, suffix, work)
    for row in _rows([{"path": p, "result": made[p]} for p in todo], arguments, workers):
        done += int(row["done"])
        if row["error"]:
            failures.append(Failure(_join(row["path"], row["part"]).rstrip("/"), row["error"]))
    if failures or FAILURES in _names(results, target, (FAILURES,)):
        table = io.StringIO()
        csv.writer(table).writerows([Failure._fields, *failures])
        _write(results, _join(target, FAILURES), table.getvalue().encode())
    return Outcome(done, skipped, failures)


def _names(files: Any, place: str, ends: tuple[str, ...], pattern: str | None = None) -> list[str]:
    """Return the names below a place that end so, or match a pattern; hidden ones are left out."""
    try:
        found = files.glob(pattern) if pattern else files.find(place)
    except FileNotFoundError:  # OUT, where nothing was written yet
        return []
    names = [path.removeprefix(place).lstrip("/") for path in found]
    return sorted(name for name in names if name.lower().endswith(ends) and "/." not in f"/{name}")


def _twins(made: dict[str, str]) -> Iterator[Failure]:
    """Yield those whose result another input has made before, and why they are left out."""
    first: dict[str, str] = {}
    for name, result in made.items():
        if (other := first.setdefault(result, name)) != name:
            yield Failure(name, f"its result would overwrite that of {other}; use two folders")


def _rows(
    todo: list[dict[str, str]], arguments: tuple[Any, ...], workers: int | None
) -> Iterator[dict[str, Any]]:
    """Have workers do it, and yield what they tell."""
    if not todo:
        return
    if not ray.is_initialized():
        if "RAY_ADDRESS" in os.environ:
            ray.init()
        else:
            processes = max(workers or 0, processors())
            ray.init(num_cpus=processes, include_dashboard=False, object_store_memory=_STORE)
    workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    size = max(1, min(_AT_ONCE, len(todo) // (4 * workers)))
    begun = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Begun).remote()
    yield from (
        from_items(todo, override_num_blocks=-(-len(todo) // size))
        .map_batches(
            _Worker,
            batch_size=None,  # a block
            fn_constructor_args=(begun, *arguments),
            compute=ActorPoolStrategy(size=workers),
            num_cpus=1,
        )
        .iter_rows()
    )
