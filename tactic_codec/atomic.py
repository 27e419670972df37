"""Files that are written whole or not at all. Standard library only."""

import contextlib
import os
import secrets
from pathlib import Path


def write(path: str | Path, data: bytes) -> None:
    """Write a file beside its place, then rename it there; what is there is replaced.

    Devices and pipes are written to: a rename would put a file in their place.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.isfile(target):
        with open(target, "wb") as stream:
            stream.write(data)
        return
    sibling = f"{target}.{secrets.token_hex(4)}.tmp"
    try:
        with open(sibling, "xb") as stream:
            stream.write(data)
        os.replace(sibling, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(sibling)
        raise
