"""Every way in which tactic-codec refuses, one class per cause.

    TacError
    ├── FormatError            the bytes are not a frame that version 1 describes
    │   ├── NotATacFile        they do not begin with the magic
    │   ├── UnsupportedVersion they were written by a newer format
    │   ├── ReservedFlags      a flag is set that version 1 reserves
    │   ├── UnknownSection     a critical section is of an unknown type; their end is known
    │   ├── Truncated          they end before the frame does
    │   └── Corrupt            they contradict themselves
    │       └── ChecksumMismatch   the CRC-32 differs; the frame's end is known
    ├── LimitExceeded          an image, or a stream's together, larger than the limit in force
    ├── ImageError             a picture that cannot be coded
    │   ├── UnsupportedImage   not a picture, or of a kind that is not read
    │   └── DamagedImage       a picture whose file is cut or damaged
    ├── ModelError             a model folder that cannot serve
    │   ├── UnknownModel       no installed model has this name or fingerprint
    │   ├── DamagedModel       its files contradict its manifest or the rules
    │   ├── UnknownLevel       it has no such quality level
    │   ├── UnknownTask        it has no head for this task
    │   └── UnmeasuredModel    it does not say what its scales are worth
    ├── TargetMissed           no quality level makes a file as small as was asked for
    ├── BackendUnavailable     the runtime or device asked for is not installed
    ├── OutOfThreads           the system allows no further thread
    ├── OutOfMemory            memory does not suffice; a MemoryError, too
    ├── OutputExists           an output that would be overwritten
    ├── ConfigError            a training configuration that cannot be run
    ├── DataError              a training folder that cannot be used
    └── UnsupportedNetwork     an ONNX file that cannot teach or judge

A message says what was found, what was expected and what to do.
Errors of other libraries are translated where they enter, with ``raise ... from``.
"""

import collections.abc
import contextlib
import numbers
import operator
import typing


def display(text: str) -> str:
    """Return a name on one line: control characters and undecodable bytes become escapes."""
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":  # a byte that is not UTF-8, as os.fsdecode hands it over
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def whole_number(name: str, value: object, least: int | None = None) -> int:
    """Return an argument that must be a whole number, NumPy's included, as Python's own.

    Raises:
        TypeError: it is none, or a truth value.
        ValueError: it is below ``least``.
    """
    # True is 1 to Python; as a size or a level it is a mistake.
    if isinstance(value, bool) or not isinstance(value, typing.SupportsIndex):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    number = operator.index(value)
    if least is not None and number < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return number


def real_number(name: str, value: object) -> float:
    """Return an argument that must be a number, NumPy's included, as Python's own.

    Raises:
        TypeError: it is none, or a truth value.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, not {value!r}")
    return float(value)


@contextlib.contextmanager
def needed(advice: str) -> collections.abc.Iterator[None]:
    """Import within it what may not be installed.

    Args:
        advice: what needs it and how to get it; "{}" stands for the name of what is missing.

    Raises:
        BackendUnavailable: it says so; none of our own modules is missing.
    """
    try:
        yield
    except ImportError as exc:
        if (exc.name or "").startswith("tactic_codec"):
            raise
        raise BackendUnavailable(advice.format(exc.name or exc)) from exc


class TacError(Exception):
    """Base of every error that tactic-codec raises on purpose."""


class FormatError(TacError):
    """The bytes are not a frame that version 1 of the format describes."""


class NotATacFile(FormatError):
    """The bytes do not begin with the magic of a ``.tac`` frame."""


class UnsupportedVersion(FormatError):
    """The frame was written by a version of the format that this reader does not know."""


class ReservedFlags(FormatError):
    """The frame sets a flag that version 1 reserves."""


class UnknownSection(FormatError):
    """The frame has a critical section of a type that this reader does not know."""


class Truncated(FormatError):
    """The bytes end before the frame does."""


class Corrupt(FormatError):
    """The frame contradicts itself."""


class ChecksumMismatch(Corrupt):
    """The CRC-32 of the frame differs; its end is known, so a stream can go on behind it."""


class LimitExceeded(TacError):
    """The image, or those of a stream together, are larger than the limit in force."""


class ImageError(TacError):
    """The picture cannot be coded."""


class UnsupportedImage(ImageError):
    """The bytes are not a picture, or one of a kind that is not read."""


class DamagedImage(ImageError):
    """The picture's file is cut or damaged."""


class ModelError(TacError):
    """The model folder cannot serve."""


class UnknownModel(ModelError):
    """No installed model has this name or fingerprint."""


class DamagedModel(ModelError):
    """The model's files contradict its manifest or the rules of the format."""


class UnknownLevel(ModelError):
    """The model has no such quality level."""


class UnknownTask(ModelError):
    """The model has no head for this task."""


class UnmeasuredModel(ModelError):
    """The model does not say what coding at its scales comes to, so that none can be chosen."""


class TargetMissed(TacError):
    """No quality level makes of the picture a file as small as was asked for."""


class BackendUnavailable(TacError):
    """The runtime or the device that was asked for is not installed."""


class OutOfThreads(TacError):
    """The system allows no further thread; the model and the picture are not to blame."""


class OutOfMemory(TacError, MemoryError):
    """Memory does not suffice; the model and the picture are not to blame."""


class OutputExists(TacError):
    """The output is there already and overwriting was not asked for."""


class ConfigError(TacError):
    """The training configuration cannot be run."""


class DataError(TacError):
    """The training folder cannot be used."""


class UnsupportedNetwork(TacError):
    """An ONNX file that cannot teach a codec, or judge one."""
