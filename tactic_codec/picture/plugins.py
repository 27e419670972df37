"""Pillow's plugins, called directly, and Pillow's manners kept inside."""

import ctypes
import importlib
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from typing import BinaryIO

from PIL import Image

from tactic_codec.errors import DamagedImage, LimitExceeded, TacError, UnsupportedImage
from tactic_codec.picture.formats import Format
from tactic_codec.picture.forms import ImageWarning


@cache
def _quiet_libtiff() -> None:
    """Keep libtiff from printing lines of its own, here and in the rest of the program.

    What it finds wrong with pixels Pillow raises as an error anyway.
    """
    library = ctypes.CDLL(importlib.import_module("PIL._imaging").__file__)
    for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        with suppress(AttributeError):  # where Pillow was built with it inside
            getattr(library, name)(None)


def begin(form: Format, stream: BinaryIO) -> Image.Image:
    """Read a picture's header and not yet its pixels."""
    try:
        module = importlib.import_module(form.module)
    except ImportError as error:
        remedy = "update Pillow"
        if form.package:
            remedy = f"install what reads them: pip install {form.package}"
        raise UnsupportedImage(f"{form.name} pictures cannot be read here: {remedy}") from error
    if not getattr(module, "SUPPORTED", True):
        raise UnsupportedImage(f"this Pillow was built without {form.name}: install its wheel")
    if form.name == "TIFF":
        _quiet_libtiff()
    image: Image.Image = getattr(module, form.class_name)(stream)
    return image


# Or Python would print on standard error what Pillow logs where nobody asked for a log.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_filters = ExitStack()


@contextmanager
def _quiet() -> Iterator[None]:
    """Ignore the warnings that Pillow's modules give, in however many threads at once.

    They speak of metadata that is not used here and of a limit that is not ours. Python's warning
    filters belong to the process, so the first thread in sets them and the last one out restores.
    """
    global _quiet_depth
    with _quiet_lock:
        if _quiet_depth == 0:
            _quiet_filters.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module=r"PIL\.")
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                _quiet_filters.close()


_RARE = ("unknown pixel mode", "unknown data organization")
"""What Pillow says of a TIFF whose samples it does not read, such as halves and doubles."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn whatever Pillow raises while it reads ``what`` into one of our errors."""
    try:
        with _quiet():
            yield
    except (TacError, ImageWarning):  # the warning, where the caller made it an error
        raise
    except Image.DecompressionBombError as error:
        raise LimitExceeded(f"{what} is larger than Pillow reads: {error}") from error
    except MemoryError as error:
        raise LimitExceeded(f"{what} does not fit into memory: free some or scale it") from error
    # The plugins let slip whatever their parsing trips over: OSError and SyntaxError on purpose,
    # and also struct.error, IndexError, KeyError, OverflowError, zlib.error, AssertionError.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or "no reason given"
        if reason in _RARE:
            raise UnsupportedImage(
                f"{what} is of a kind that is not read: convert it to 8 or 16 bits, as PNG"
            ) from error
        raise DamagedImage(
            f"{what} cannot be read ({type(error).__name__}: {reason}): the file is cut, damaged or"
            " of a rare kind; fetch it again or convert it to PNG"
        ) from error
