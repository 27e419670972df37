"""Lets MkDocs find the repository's pages, and what they show and link to, at their own places."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the navigation, and whatever can be reached from them."""
    pages = [page for entry in config.nav for page in entry.values()]
    waiting = [ROOT / page for page in pages if files.get_file_from_path(page) is None]
    while waiting:
        path = waiting.pop()
        place = path.relative_to(ROOT).as_posix()
        if files.get_file_from_path(place) or not path.is_file():
            continue  # MkDocs says what is missing
        files.append(File.generated(config, place, abs_src_path=str(path)))
        if path.suffix == ".md":
            links = _LINK.findall(path.read_text(encoding="utf-8"))
            local = [unquote(link) for link in links if "://" not in link]
            found = [(path.parent / link).resolve() for link in local]
            waiting += [target for target in found if target.is_relative_to(ROOT)]
    return files
