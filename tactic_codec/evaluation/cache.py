"""What was measured, on disk, so that an interrupted evaluation goes on and a second one is quick.

    DIR/<key's hash>.jsonl     a shelf: of one coder at one setting, a line a picture

A key holds all that the facts depend on beside the picture: coder, options, versions, model,
reference network. A line holds the hash of the picture's pixels, the facts, and a hash over both
and the key. Lines are appended as they come; one that was cut or changed counts as not there.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tactic_codec.picture import Pixels
from tactic_codec.tasks import Facts

_HASH_DIGITS = 32  # 128 bits: against accidents and collisions, not against forgers


class Cache:
    """A folder of shelves, made when something is first put into it; without one, in memory."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._shelves: dict[str, Shelf] = {}

    def shelf(self, key: Mapping[str, Any]) -> "Shelf":
        """Return what is known under a key, which is anything that JSON holds.

        Raises:
            OSError: the folder cannot be read.
        """
        name = _canonical(key)
        if self._folder is not None:
            return Shelf(self._folder / f"{digest(name.encode())}.jsonl", name)
        return self._shelves.setdefault(name, Shelf(None, name))


class Shelf:
    """Facts of pictures, by the hash of their pixels; for one thread."""

    def __init__(self, path: Path | None, key: str) -> None:
        self._key = key
        self._path = path
        self._known: dict[str, Facts] = {}
        self._ends_whole = True
        if path and path.exists():
            text = path.read_text(encoding="utf-8", errors="replace")
            self._ends_whole = text.endswith("\n") or not text
            for line in text.splitlines():
                self._take(line)

    def __contains__(self, picture: str) -> bool:
        return picture in self._known

    def __getitem__(self, picture: str) -> Facts:
        return self._known[picture]

    def put(self, picture: str, facts: Facts) -> None:
        """Keep the facts of a picture.

        Raises:
            OSError: they cannot be written.
        """
        self._known[picture] = facts
        if self._path is None:
            return
        named = {"picture": picture, **facts}
        line = _canonical({**named, "check": self._check(named)})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as stream:
            # A run that was killed may have left half a line behind.
            stream.write(("" if self._ends_whole else "\n") + line + "\n")
        self._ends_whole = True

    def _take(self, line: str) -> None:
        """Believe a line if it is whole."""
        try:
            facts = json.loads(line)
        except (ValueError, RecursionError):
            return
        if not isinstance(facts, dict) or facts.pop("check", None) != self._check(facts):
            return
        self._known[facts.pop("picture")] = facts

    def _check(self, facts: Mapping[str, Any]) -> str:
        return digest((self._key + _canonical(facts)).encode())


def picture_hash(pixels: Pixels) -> str:
    """Return the name of a picture's content: shape and values, whatever file they came from."""
    return digest(f"{pixels.shape}".encode() + pixels.tobytes())


def digest(data: bytes) -> str:
    """Return the name of some content."""
    return hashlib.sha256(data).hexdigest()[:_HASH_DIGITS]


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
