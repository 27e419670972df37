"""A file of rows that an interrupted benchmark goes on with: what the longer ones here write to.

A benchmark imports this, so it stands beside them; by itself it does nothing.
"""

import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def earlier(path: Path, result: Row) -> list[Row]:
    """Return the rows of an earlier run of the same model on the same pictures."""
    if not path.exists():
        return []
    known = json.loads(path.read_text(encoding="utf-8"))
    same = all(known.get(key) == value for key, value in result.items())
    rows: list[Row] = known["rows"]
    return rows if same else []


def write(path: Path, result: Row) -> None:
    """Write a result with its rows, as JSON."""
    path.parent.mkdir(exist_ok=True)
    # Whole or not at all: hours of rows are in it when somebody ends the run.
    sibling = path.with_suffix(".new")
    sibling.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    sibling.replace(path)
