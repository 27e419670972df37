"""Pictures in files and in Pillow's hands, and the one array form that the codec knows.

Every picture becomes an array ``uint8 [height, width, 3]`` of sRGB values, upright and opaque:

    bytes or path ─ kind by its first bytes ─ one Pillow plugin ─ size against the limit ─ decode
        ─ 8 bits: colours (grey, RGB, CMYK or Lab) and alpha ─ embedded profile to sRGB
        ─ alpha over the background ─ EXIF orientation ─ array

The plugin is called directly instead of through ``Image.open``. That imports one plugin instead of
all, keeps formats off the path that nobody asked for (EPS would start Ghostscript), and puts the
limit on pixels into the caller's hands: Pillow's own is one global number.

Refused, with a `TacError` that says why: files that are no picture, named by what they are when
their first bytes tell; pictures above the limit, before they are decoded; cut or damaged files;
pictures without pixels; directories and devices; integers outside 16 bits and floats outside both
of their usual scales, because no one scale fits them.

Changed silently, because the array cannot hold it: more than 8 bits per channel, metadata.
Changed with an `ImageWarning`: frames and pages behind the first, colour profiles and EXIF data
that cannot be used.
"""

import importlib
import io
import re
import stat
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from tactic_codec.errors import DamagedImage, LimitExceeded, TacError, UnsupportedImage

Pixels = npt.NDArray[np.uint8]
"""A picture as the codec sees it: uint8 [height, width, 3], sRGB."""

LabelMap = npt.NDArray[np.uint8]
"""The class of each pixel of a picture: uint8 [height, width]."""

Plane = npt.NDArray[np.float32]
"""What a network says of each place of a picture: float32 [height, width]."""

Colour = tuple[int, int, int]
"""One sRGB colour, three values of 0 to 255."""

DEFAULT_MAX_PIXELS = 1 << 28
"""268 megapixels: room for any camera, and under a gigabyte per decoded copy."""

_BYTES_A_PIXEL = 16
"""Of four channels of 32 bits, uncompressed: the most that a picture read here has."""

_BYTES_BESIDE = 1 << 26
"""Room for metadata and previews."""

_PIECE_BYTES = 1 << 20
"""Read at once of a stream whose length nobody knows."""

WHITE: Colour = (255, 255, 255)

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif", ".tif", ".tiff", ".bmp"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pfm", ".jp2", ".j2k", ".jpx", ".qoi"),
)
"""Of the files that are taken for pictures in folders, in lower case; a file that is named may have
any suffix."""


class ImageWarning(UserWarning):
    """The picture is read, but not everything that its file holds."""


# --- Which files are pictures ---------------------------------------------------------------------


class _Reader(NamedTuple):
    """One picture format: how its files begin and which Pillow class reads them."""

    name: str
    signature: bytes  # a regular expression, matched at the first byte
    module: str
    class_name: str


_READERS = (
    # JPEG's own class, not Pillow's factory: of a phone's multi-picture file (MPO) it reads the
    # picture and leaves the depth and gain maps behind it alone.
    _Reader("JPEG", rb"\xff\xd8\xff", "JpegImagePlugin", "JpegImageFile"),
    _Reader("PNG", rb"\x89PNG\r\n\x1a\n", "PngImagePlugin", "PngImageFile"),
    _Reader("WebP", rb"RIFF....WEBP", "WebPImagePlugin", "WebPImageFile"),
    _Reader(
        "AVIF",
        rb"....ftyp(?:avi[fs]|m(?:if1|sf1|iaf).{4,44}?avi[fs])",
        "AvifImagePlugin",
        "AvifImageFile",
    ),
    _Reader("GIF", rb"GIF8[79]a", "GifImagePlugin", "GifImageFile"),
    _Reader("TIFF", rb"II[*+]\0|MM\0[*+]", "TiffImagePlugin", "TiffImageFile"),
    _Reader(
        "BMP", rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "BmpImagePlugin", "BmpImageFile"
    ),
    _Reader("PNM", rb"P[1-6f][\s#]", "PpmImagePlugin", "PpmImageFile"),
    _Reader(
        "JPEG 2000",
        rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n",
        "Jpeg2KImagePlugin",
        "Jpeg2KImageFile",
    ),
    _Reader("QOI", rb"qoif", "QoiImagePlugin", "QoiImageFile"),
)

# What people hand over in place of a picture. The order matters where one pattern holds another.
_STRANGERS = (
    ("a .tac file, which is compressed already", rb"\x89TA"),
    ("a HEIF picture", rb"....ftyp(?:hei|hev|mif|msf)"),
    ("a JPEG XL picture", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    ("an MP4 or QuickTime film", rb"....(?:ftyp|moov|mdat)"),
    ("a Matroska or WebM film", rb"\x1a\x45\xdf\xa3"),
    ("an AVI film", rb"RIFF....AVI "),
    ("a WAV recording", rb"RIFF....WAVE"),
    ("a Photoshop document", rb"8BPS"),
    ("a PostScript document", rb"%!PS"),
    ("a PDF document", rb"%PDF-"),
    ("a ZIP archive", rb"PK(?:\x03\x04|\x05\x06)"),
    ("a gzip archive", rb"\x1f\x8b\x08"),
    ("a bzip2 archive", rb"BZh[1-9]"),
    ("an xz archive", rb"\xfd7zXZ\0"),
    ("a zstd archive", rb"\x28\xb5\x2f\xfd"),
    ("a 7-Zip archive", rb"7z\xbc\xaf\x27\x1c"),
    ("a RAR archive", rb"Rar!\x1a\x07"),
    ("a NumPy array", rb"\x93NUMPY"),
    ("an HDF5 file", rb"\x89HDF\r\n\x1a\n"),
    ("a program", rb"\x7fELF|MZ.{58}"),
    ("an SVG drawing", rb"(?i:\s*(?:<\?xml[^>]*>\s*)?<svg\b)"),
    ("an HTML page", rb"(?i:\s*<(?:!doctype )?html\b)"),
    ("text", rb"(?:[\t\n\f\r\x20-\x7e]|[\xc2-\xf4][\x80-\xbf]{1,3})+[\xc2-\xf4]?\Z"),
    ("nothing but zero bytes", rb"\0+\Z"),
)

_HEAD_BYTES = 256  # enough for every pattern above


def _find_reader(head: bytes) -> _Reader:
    """The reader of the format that ``head``, the first bytes of a file, belongs to."""
    if not head:
        raise UnsupportedImage("the file is empty (0 bytes): a picture was expected")
    for reader in _READERS:
        if re.match(reader.signature, head, re.DOTALL):
            return reader
    found = next((name for name, form in _STRANGERS if re.match(form, head, re.DOTALL)), None)
    if found is None:
        found = f"an unknown kind of file (it begins with {head[:8].hex(' ')})"
    known = ", ".join(reader.name for reader in _READERS)
    raise UnsupportedImage(f"this is {found}: a picture was expected, one of {known}")


def _plugin(module: str) -> Any:
    """Pillow's module of this name, imported when its format is first met."""
    return importlib.import_module(f"PIL.{module}")


def _begin(reader: _Reader, stream: BinaryIO) -> Image.Image:
    """Read a picture's header and not yet its pixels."""
    try:
        plugin = _plugin(reader.module)
    except ImportError as error:
        raise UnsupportedImage(f"this Pillow cannot read {reader.name}: update Pillow") from error
    if not getattr(plugin, "SUPPORTED", True):
        raise UnsupportedImage(f"this Pillow was built without {reader.name}: install its wheel")
    with _translated(f"the {reader.name} picture"):
        image: Image.Image = getattr(plugin, reader.class_name)(stream)
    return image


# --- Pillow's manners, kept inside ----------------------------------------------------------------

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


@contextmanager
def _translated(what: str) -> Iterator[None]:
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
        raise DamagedImage(
            f"{what} cannot be read ({type(error).__name__}: {reason}): the file is cut, damaged or"
            " of a rare kind; fetch it again or convert it to PNG"
        ) from error


# --- Reading --------------------------------------------------------------------------------------


def load(
    source: bytes | Path | BinaryIO,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    background: Colour = WHITE,
) -> Pixels:
    """Read a picture as it is meant to be seen.

    Args:
        source: the bytes of a picture file, the path of a file or named pipe, or a stream. Of pipes
            and streams no more is read than a picture of ``max_pixels`` may have, and only the
            first bytes where those are no picture's.
        max_pixels: the largest width x height that is decoded.
        background: the colour behind transparent pixels.

    Returns:
        uint8 [height, width, 3], sRGB, upright, opaque, writable.

    Raises:
        UnsupportedImage: no picture, or one that has no pixels or no agreed scale.
        DamagedImage: the file is cut or damaged.
        LimitExceeded: more than ``max_pixels``, known from the header, before decoding; or a stream
            of more bytes than so many pixels have.
        OSError: the path cannot be opened.

    Warns:
        ImageWarning: something that the file holds is left out, see the module's text.
    """
    with _opened(source, max_pixels) as stream:
        reader = _find_reader(stream.read(_HEAD_BYTES))
        stream.seek(0)
        image = _begin(reader, stream)
        _refuse_empty(image)
        _refuse_above(max_pixels, image)
        with _translated(f"the {reader.name} picture"):
            _refuse_camera_raw(image)
            several = getattr(image, "is_animated", False)
            image.load()
        if several:
            warnings.warn(
                f"the {reader.name} picture has several frames or pages: only the first is read",
                ImageWarning,
                stacklevel=2,
            )
        return from_pillow(image, background=background)


@contextmanager
def _opened(source: bytes | Path | BinaryIO, max_pixels: int) -> Iterator[BinaryIO]:
    """The bytes of ``source`` as a stream that can seek."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    if not isinstance(source, Path):
        yield _bounded(source, max_pixels)
        return
    mode = source.stat().st_mode
    # A named pipe is a fair source, a shell makes them of `<(...)`; a device may never end.
    if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "a device or socket"
        raise UnsupportedImage(f"this is {kind}: a picture file was expected")
    with source.open("rb") as stream:
        yield stream if stream.seekable() else _bounded(stream, max_pixels)


def _bounded(stream: BinaryIO, max_pixels: int) -> BinaryIO:
    """Read a stream that may never end."""
    head = stream.read(_HEAD_BYTES)
    _find_reader(head)
    limit = max_pixels * _BYTES_A_PIXEL + _BYTES_BESIDE
    content = io.BytesIO()
    piece = head
    while piece:
        content.write(piece)
        if content.tell() > limit:
            raise LimitExceeded(
                f"the stream has more than {limit} bytes, the most that a picture of {max_pixels} "
                "pixels may have: send a smaller picture or raise the limit"
            )
        # Piece by piece: room for all that is asked for at once would be taken before it is there.
        piece = stream.read(_PIECE_BYTES)
    content.seek(0)
    return content


def _refuse_empty(image: Image.Image) -> None:
    if 0 in image.size:
        raise UnsupportedImage(
            f"the picture has {image.width} x {image.height} pixels: at least 1 x 1 was expected"
        )


def _refuse_above(max_pixels: int, image: Image.Image) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise LimitExceeded(
            f"the picture has {width} x {height} = {width * height} pixels, more than the limit of"
            f" {max_pixels}: scale it down or raise the limit"
        )


def _refuse_camera_raw(image: Image.Image) -> None:
    """Refuse a TIFF whose first page says that it is a thumbnail, as DNG, NEF and their kin do."""
    new_subfile_type, reduced_resolution = 254, 1
    if int(getattr(image, "tag_v2", {}).get(new_subfile_type, 0)) & reduced_resolution:
        raise UnsupportedImage(
            "the first page of this TIFF is only a thumbnail, as in a camera's raw file: develop it"
            " to PNG or JPEG first"
        )


# --- From any of Pillow's modes to sRGB -----------------------------------------------------------


def from_pillow(image: Image.Image, *, background: Colour = WHITE) -> Pixels:
    """Turn a Pillow image of any mode into the codec's array.

    Orientation, transparency and an embedded colour profile are applied, as in `load`. Modes of
    deeper grey: ``I;16`` and ``I`` are read on the scale 0 to 65535, rounded to 8 bits; ``F`` on
    the scale 0 to 1 if nothing exceeds 1, else on Pillow's own, 0 to 255.

    Args:
        image: its present frame is read; the limit on pixels is the caller's affair.
        background: the colour behind transparent pixels.

    Returns:
        uint8 [height, width, 3], sRGB, upright, opaque, writable, a copy.

    Raises:
        UnsupportedImage: no pixels, a mode that is not known, or values outside its scale.
        DamagedImage: the image was opened lazily and its file is cut or damaged.

    Warns:
        ImageWarning: the colour profile or the EXIF data cannot be used.
    """
    _refuse_empty(image)
    with _translated("the picture"):
        image.load()
        colours, alpha = _split(image)
        picture = _to_srgb(colours, image.info.get("icc_profile"))
        if alpha is not None:
            canvas = Image.new("RGB", picture.size, background)
            canvas.paste(picture, mask=alpha)
            picture = canvas
        turn = _TURNS.get(_orientation(image))
        return np.array(picture if turn is None else picture.transpose(turn))


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours, of mode L, RGB, CMYK or LAB, and the alpha, of mode L, where there is one."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _split_deep_grey(image)
    if image.has_transparency_data:
        if image.mode in ("1", "L", "LA", "La"):
            grey, alpha = image.convert("LA").split()
            return grey, alpha
        coloured = image.convert("RGBA")
        return coloured.convert("RGB"), coloured.getchannel("A")
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image, None
    if image.mode == "1":
        return image.convert("L"), None
    if image.mode in ("P", "RGBX", "YCbCr", "HSV"):
        return image.convert("RGB"), None
    raise UnsupportedImage(f"the picture is of mode {image.mode}: convert it to RGB first")


def _split_deep_grey(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """`_split` for grey of 16 or 32 bits, which Pillow itself would clip instead of scale."""
    values = np.asarray(image)
    lowest, highest = values.min(), values.max()
    top = 255 if image.mode == "F" else 65535
    if not (lowest >= 0 and highest <= top):  # so written, it catches NaN
        raise UnsupportedImage(
            f"the grey values run from {lowest} to {highest}: 0 to {top} was expected;"
            " scale them first"
        )
    if image.mode == "F":
        grey = np.rint(values * 255 if highest <= 1 else values).astype(np.uint8)
    else:
        # 65535 / 255 = 257 is odd: adding its half, rounded down, rounds to the nearest, no ties.
        grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    transparent = image.info.get("transparency")
    if transparent is None:
        return Image.fromarray(grey), None
    opaque = np.where(values == transparent, 0, 255).astype(np.uint8)
    return Image.fromarray(grey), Image.fromarray(opaque)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, or 1, upright, where there is none to be read."""
    try:
        orientation = image.getexif().get(0x0112)
    # Like the plugins, the EXIF parser raises anything; metadata must not cost us the picture.
    except Exception:
        warnings.warn(
            "the EXIF data is damaged: the picture is taken as upright", ImageWarning, stacklevel=3
        )
        return 1
    return orientation if isinstance(orientation, int) else 1


# --- Colour profiles ------------------------------------------------------------------------------

# The names under which plain sRGB is embedded. Whole names: "sRGB linear" and "scRGB" are others.
_SRGB_NAMES = frozenset(
    ("sRGB", "sRGB IEC61966-2.1", "sRGB built-in", "sRGB2014", "c2")  # c2: the one on Facebook
)

_MODE_OF_SPACE = {b"GRAY": "L", b"RGB ": "RGB", b"CMYK": "CMYK"}


def _to_srgb(colours: Image.Image, profile: bytes | None) -> Image.Image:
    """Colours of mode L, RGB, CMYK or LAB as sRGB, by their embedded profile if it can be used."""
    if colours.mode == "LAB":
        return _lab_to_srgb(colours)
    if not profile or _profile_name(profile) in _SRGB_NAMES:
        return colours.convert("RGB")

    from PIL import ImageCms  # few pictures need it

    mode = _MODE_OF_SPACE.get(profile[16:20], "no mode that is known here")
    # Grey pictures often carry the RGB profile of the program that saved them.
    fitting = colours.convert("RGB") if (colours.mode, mode) == ("L", "RGB") else colours
    try:
        if fitting.mode != mode:
            raise ValueError(f"it is for {mode}, the picture is {fitting.mode}")
        source, target = io.BytesIO(profile), ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(source, target, mode, "RGB").apply(fitting)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        warnings.warn(
            f"the embedded colour profile cannot be used ({error}): the colours are taken as sRGB",
            ImageWarning,
            stacklevel=3,
        )
        return colours.convert("RGB")


def _lab_to_srgb(colours: Image.Image) -> Image.Image:
    from PIL import ImageCms

    source, target = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(source, target, "LAB", "RGB").apply(colours)


def _profile_name(profile: bytes) -> str:
    """The description inside an ICC profile, or "" if there is none to be found.

    Reading it by hand (ICC.1:2022, 7.3 and 10.15; ICC.1:2001, 6.5.17) spares most pictures the
    import of ImageCms and a conversion from sRGB to sRGB.
    """
    count = int.from_bytes(profile[128:132], "big")
    for entry in range(132, min(132 + 12 * count, len(profile)), 12):
        if profile[entry : entry + 4] != b"desc":
            continue
        offset = int.from_bytes(profile[entry + 4 : entry + 8], "big")
        size = int.from_bytes(profile[entry + 8 : entry + 12], "big")
        tag = profile[offset : offset + size]
        if tag[:4] == b"desc":
            length = int.from_bytes(tag[8:12], "big")
            return tag[12 : 12 + length].decode("ascii", "replace").rstrip("\0")
        if tag[:4] == b"mluc":
            length = int.from_bytes(tag[20:24], "big")
            start = int.from_bytes(tag[24:28], "big")
            return tag[start : start + length].decode("utf-16-be", "replace").rstrip("\0")
    return ""


# --- What task networks read ----------------------------------------------------------------------


def square(pixels: Pixels, size: int) -> Pixels:
    """Scale a picture's short side to ``size`` and cut the square in its middle.

    Args:
        pixels: uint8 [height, width, 3].
        size: side of the result, in pixels.

    Returns:
        uint8 [size, size, 3]; the picture itself where it has this size already.
    """
    height, width, _ = pixels.shape
    if height == width == size:
        return pixels
    short = min(height, width)
    left, top = (width - short) / 2, (height - short) / 2
    box = (left, top, left + short, top + short)
    scaled = to_pillow(pixels).resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.asarray(scaled)


def scaled_size(height: int, width: int, longer: int) -> tuple[int, int]:
    """Height and width of what `scaled` makes, rounded, at least 1."""
    largest = max(height, width)
    return max(1, round(height * longer / largest)), max(1, round(width * longer / largest))


def scaled(pixels: Pixels, longer: int) -> Pixels:
    """Scale a picture up or down, as a whole, until its longer side has ``longer`` pixels.

    Args:
        pixels: uint8 [height, width, 3].
        longer: of the result's sides, in pixels.

    Returns:
        uint8 of the size that `scaled_size` names; the picture itself where it has this size.
    """
    height, width, _ = pixels.shape
    rows, columns = scaled_size(height, width, longer)
    if (rows, columns) == (height, width):
        return pixels
    return np.asarray(to_pillow(pixels).resize((columns, rows), Image.Resampling.BICUBIC))


def resize_plane(plane: Plane, height: int, width: int, box: tuple[float, float]) -> Plane:
    """Scale a network's plane to a picture's size, bilinearly.

    Args:
        plane: float32 [h, w].
        height: of the result.
        width: of the result.
        box: rows and columns of the plane, from its top left, that the picture covers; what lies
            beyond them is padding. Fractions count.

    Returns:
        float32 [height, width], not to be written to; the plane itself where it has this size.
    """
    if plane.shape == (height, width) == box:
        return plane
    rows, columns = box
    area = (0, 0, columns, rows)
    image = Image.fromarray(plane)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=area))


# --- Label maps -----------------------------------------------------------------------------------


def save_labels(labels: LabelMap, colours: Sequence[Colour]) -> bytes:
    """Encode a label map as a palette PNG of 8 bits, whose values are classes.

    Args:
        labels: uint8 [height, width].
        colours: of each class, 1 to 256.

    Raises:
        ValueError: ``labels`` is not such an array.
    """
    if labels.dtype != np.uint8 or labels.ndim != 2 or 0 in labels.shape:
        raise ValueError(
            f"{labels.dtype} {list(labels.shape)} is no label map: uint8 [height, width] expected"
        )
    image = Image.fromarray(labels)
    # A palette of more than 16 colours needs 8 bits; not every reader of label maps unpacks fewer.
    filled = [*colours, *[(0, 0, 0)] * (17 - len(colours))]
    image.putpalette([value for colour in filled for value in colour])
    _plugin("PngImagePlugin")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def load_labels(path: Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> LabelMap:
    """Read a label map: a PNG of 8-bit grey or with a palette, whose values are classes.

    Args:
        path: of the file.
        max_pixels: the largest width x height that is decoded.

    Returns:
        uint8 [height, width], the values as they are stored, whatever colours they stand for.

    Raises:
        UnsupportedImage: another kind of picture, or none.
        DamagedImage: the file is cut or damaged.
        LimitExceeded: more than ``max_pixels``.
        OSError: the path cannot be opened.
    """
    with _opened(path, max_pixels) as stream:
        head = stream.read(_HEAD_BYTES)
        reader = _find_reader(head)
        if reader.name != "PNG":
            raise UnsupportedImage(f"this is {reader.name}: {_LABELS_EXPECTED}")
        stream.seek(0)
        image = _begin(reader, stream)
        _refuse_empty(image)
        _refuse_above(max_pixels, image)
        # Pillow spreads grey of 2 and 4 bits over 0 to 255, which would make other classes of it.
        spread_grey = image.mode == "L" and head[_PNG_DEPTH] != 8
        if image.mode not in ("L", "P") or spread_grey:
            raise UnsupportedImage(
                f"this PNG has mode {image.mode} and {head[_PNG_DEPTH]} bits: {_LABELS_EXPECTED}"
            )
        with _translated("the label map"):
            image.load()
        return np.array(image)


_LABELS_EXPECTED = (
    "a label map was expected, a PNG of 8-bit grey or with a palette whose values are classes"
)
_PNG_DEPTH = 24  # where the bits a channel stand, in the header that begins every PNG


# --- Writing --------------------------------------------------------------------------------------


class _Writer(NamedTuple):
    """One format to save in: Pillow's names for it and the options that keep the pixels."""

    pillow_name: str
    module: str
    suffixes: tuple[str, ...]
    options: dict[str, Any]


_WRITERS = {
    "png": _Writer("PNG", "PngImagePlugin", (".png",), {}),
    "jpeg": _Writer(
        "JPEG", "JpegImagePlugin", (".jpg", ".jpeg"), {"quality": 95, "subsampling": 0}
    ),
    "webp": _Writer("WEBP", "WebPImagePlugin", (".webp",), {"lossless": True}),
    "ppm": _Writer("PPM", "PpmImagePlugin", (".ppm", ".pnm"), {}),
    "bmp": _Writer("BMP", "BmpImagePlugin", (".bmp",), {}),
    "tiff": _Writer(
        "TIFF", "TiffImagePlugin", (".tif", ".tiff"), {"compression": "tiff_adobe_deflate"}
    ),
}


def to_pillow(pixels: Pixels) -> Image.Image:
    """The array uint8 [height, width, 3] as a Pillow image of mode RGB; ValueError for others."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(
            f"{pixels.dtype} {list(pixels.shape)} is no picture: uint8 [height, width, 3] expected"
        )
    return Image.fromarray(pixels)


def save(pixels: Pixels, format: str) -> bytes:
    """Encode a picture: "jpeg" at quality 95 without chroma subsampling, all others losslessly.

    Args:
        pixels: uint8 [height, width, 3], sRGB.
        format: "png", "jpeg", "webp", "ppm", "bmp" or "tiff", see `format_of`.

    Returns:
        The bytes of the picture file.

    Raises:
        UnsupportedImage: another format, or a picture with too many pixels for this one.
        ValueError: ``pixels`` is not such an array.
    """
    if format not in _WRITERS:
        raise UnsupportedImage(
            f"pictures are not written as {format!r}: choose one of {', '.join(_WRITERS)}"
        )
    image = to_pillow(pixels)
    writer = _WRITERS[format]
    _plugin(writer.module)  # else Pillow imports every plugin to find this one
    buffer = io.BytesIO()
    try:
        image.save(buffer, writer.pillow_name, **writer.options)
    except (OSError, ValueError, OverflowError) as error:
        raise UnsupportedImage(
            f"{writer.pillow_name} cannot hold this picture of {image.width} x {image.height}"
            f" pixels ({error}): choose png"
        ) from error
    return buffer.getvalue()


def format_of(path: Path) -> str:
    """The format for `save` that the suffix of ``path`` stands for, in either case of letters.

    Raises:
        UnsupportedImage: the suffix is missing or stands for no format; the text lists those known.
    """
    suffix = path.suffix.lower()
    for name, writer in _WRITERS.items():
        if suffix in writer.suffixes:
            return name
    known = ", ".join(suffix for writer in _WRITERS.values() for suffix in writer.suffixes)
    raise UnsupportedImage(
        f"the suffix {path.suffix!r} names no picture format: choose one of {known}"
    )
