"""The formats of pictures, a row for each, and what else some bytes may begin."""

import importlib.util
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tactic_codec.errors import NotATacFile, UnsupportedImage
from tactic_codec.picture import isobmff, jpeg, png, rasters, tiff, webp
from tactic_codec.picture.window import Window


class Format(NamedTuple):
    """One picture format.

    Attributes:
        name: for messages.
        signature: how files begin, a regular expression that is matched at the first byte.
        module: of the class, made as Pillow's are, that reads them.
        class_name: of that class.
        suffixes: of the files that are taken for pictures in folders, in lower case.
        end: finds where a file ends, given a window that begins with it; None where only the next
            file, or the end of the stream, tells.
        again: from a file's first 32 bytes, the pattern of what begins the next one for certain.
        examine: from a file, what is to be known before it is decoded.
        mended: from a file that cannot be read, files to read in its place, the least changed
            first; where one is several, all of these must show the same pixels.
        package: what brings the module, where Pillow does not.
    """

    name: str
    signature: bytes
    module: str
    class_name: str
    suffixes: str = ""
    end: Callable[[Window], int] | None = None
    again: Callable[[bytes], bytes] | None = None
    examine: Callable[[bytes], dict[Any, Any]] | None = None
    mended: Callable[[bytes], Iterator[tuple[bytes, ...]]] | None = None
    package: str = ""


_FORMATS = (
    # JPEG's own class, not Pillow's factory: of a phone's multi-picture file (MPO) it reads the
    # picture and leaves the depth and gain maps behind it alone.
    Format("JPEG", rb"\xff\xd8\xff", "PIL.JpegImagePlugin", "JpegImageFile",
           ".jpg .jpeg .jpe .jfif", jpeg.end, mended=jpeg.mended),
    Format("PNG", rb"\x89PNG\r\n\x1a\n", "PIL.PngImagePlugin", "PngImageFile",
           ".png", png.end, lambda head: re.escape(head[:8]), png.examine, png.mended),
    Format("WebP", rb"RIFF....WEBP", "PIL.WebPImagePlugin", "WebPImageFile",
           ".webp", webp.end, lambda head: rb"RIFF....WEBPVP8", mended=webp.mended),
    Format("AVIF", rb"....ftyp(?:avi[fs]|m(?:if1|sf1|iaf).{4,44}?avi[fs])",
           "PIL.AvifImagePlugin", "AvifImageFile", ".avif", None,
           lambda head: rb"\0\0.{2}ftyp(?=avi[fs])", isobmff.of_avif, isobmff.mended_avif),
    Format("GIF", rb"GIF8[79]a", "PIL.GifImagePlugin", "GifImageFile",
           ".gif", None, lambda head: rb"GIF8[79]a"),
    Format("TIFF", rb"II[*+]\0|MM\0[*+]", "PIL.TiffImagePlugin", "TiffImageFile",
           ".tif .tiff", tiff.end),
    Format("BMP", rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
           "PIL.BmpImagePlugin", "BmpImageFile",
           ".bmp", rasters.end_of_bmp, lambda head: rb"BM.{4}" + re.escape(head[6:26])),
    Format("PNM", rb"P[1-4f][\s#]", "PIL.PpmImagePlugin", "PpmImageFile",
           ".ppm .pgm .pbm .pnm .pam .pfm", rasters.end, lambda head: re.escape(head[:8])),
    Format("PNM", rb"P[56][\s#]|P7\n", "tactic_codec.picture.rasters", "NetpbmFile",
           "", rasters.end, lambda head: re.escape(head[:8])),
    Format("JPEG 2000", rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n",
           "PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile", ".jp2 .j2k .jpx", None,
           lambda head: rb"\0\0\0\x0cjP  \r\n\x87\n", isobmff.of_jpeg_2000),
    Format("QOI", rb"qoif", "PIL.QoiImagePlugin", "QoiImageFile",
           ".qoi", None, lambda head: rb"qoif.{8}[\3\4][\0\1]"),
    Format("HEIF", rb"....ftyp(?:hei|hev|mif|msf)", "pillow_heif", "HeifImageFile",
           ".heic .heif .hif", package="pillow-heif"),
    Format("JPEG XL", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
           "pillow_jxl.JpegXLImagePlugin", "JXLImageFile", ".jxl",
           examine=isobmff.of_jpeg_xl, package="pillow-jxl-plugin"),
)  # fmt: skip

SUFFIXES = tuple(
    suffix
    for row in _FORMATS
    if importlib.util.find_spec(row.module.partition(".")[0])
    for suffix in row.suffixes.split()
)
"""Of the files that are taken for pictures in folders, in lower case; a file that is named may have
any suffix."""

PACKAGES = {
    suffix: row.package for row in _FORMATS if row.package for suffix in row.suffixes.split()
}
"""What reads pictures of some suffixes, and may not be installed."""

_TAC = "a .tac file"
_Y4M = "YUV4MPEG2"

# UTF-8, of which the last character may be cut.
_TEXT = (
    rb"(?:[\t\n\f\r\x20-\x7e]|[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|"
    rb"[\xf0-\xf4][\x80-\xbf]{3})+(?:[\xc2-\xf4][\x80-\xbf]{0,2})?\Z"
)

# What people hand over in place of a picture. The order matters where one pattern holds another.
_STRANGERS = (
    (_TAC, rb"\x89TA"),
    ("an MP4 or QuickTime film", rb"....(?:ftyp|moov|mdat)"),
    ("a Matroska or WebM film", rb"\x1a\x45\xdf\xa3"),
    ("an AVI film", rb"RIFF....AVI "),
    ("a WAV recording", rb"RIFF....WAVE"),
    # Annex B of H.264 and H.265: a start code, then parameters, a delimiter or information.
    ("H.264 video", rb"\0\0\0?\x01[\x06\x09\x27\x47\x67]"),
    ("H.265 video", rb"\0\0\0?\x01[\x40\x42\x44\x46\x4e]\x01"),
    ("MPEG video", rb"\0\0\x01[\xb3\xba]"),
    ("a Photoshop document", rb"8BPS"),
    ("a PostScript document", rb"%!PS"),
    ("a PDF document", rb"%PDF-"),
    (_Y4M, rb"YUV4MPEG2 "),
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
    ("text", _TEXT),
    ("MPEG-TS video", rb"(?:.{4})?G.{187}(?:.{4})?G"),  # behind text, which may have a G there, too
    ("nothing but zero bytes", rb"\0+\Z"),
)

# Each kind is a group of its own, so that its number tells which one matched.
_PICTURE, _STRANGER = (
    re.compile(b"|".join(b"(%b)" % form for form in forms), re.DOTALL)
    for forms in ([row.signature for row in _FORMATS], [form for _, form in _STRANGERS])
)

HEAD_BYTES = 256  # enough for every pattern above


def format_at(head: bytes) -> Format | None:
    """The format that ``head``, the first bytes of a file, belongs to, or None."""
    picture = _PICTURE.match(head)
    return _FORMATS[picture.lastindex - 1] if picture and picture.lastindex else None


def find_format(head: bytes) -> Format:
    """Return what `format_at` does; UnsupportedImage says what it is instead."""
    if not head:
        raise UnsupportedImage("the file is empty (0 bytes): a picture was expected")
    if form := format_at(head):
        return form
    found = kind_of(head) or f"an unknown kind of file (it begins with {head[:8].hex(' ')})"
    if found == _TAC:
        raise UnsupportedImage(
            f"this is {found}, compressed already: a picture was expected; to see it, decompress it"
            " (tactic decompress FILE.tac FILE.png)"
        )
    if found.endswith((" film", " video")):
        raise UnsupportedImage(
            f"this is {found}: a picture was expected; ask its maker for JPEG pictures, as "
            '"ffmpeg -i FILM -c:v mjpeg -f image2pipe -" or "rpicam-vid --codec mjpeg" write them'
        )
    if found == _Y4M:
        raise UnsupportedImage(f"this is {found}, a stream: pipe it in, or name it with --stream")
    known = ", ".join(dict.fromkeys(row.name for row in _FORMATS))
    raise UnsupportedImage(f"this is {found}: a picture was expected, one of {known}")


def kind_of(head: bytes) -> str | None:
    """What kind of file begins with these bytes, with its article, or None if they do not tell.

    A kind that can be compressed ends in "picture": "a JPEG picture", "an AVIF picture", but "a PDF
    document". The first 256 bytes are enough; fewer may be all that there are.
    """
    if form := format_at(head):
        return f"{'an' if form.name == 'AVIF' else 'a'} {form.name} picture"
    stranger = _STRANGER.match(head)
    return _STRANGERS[stranger.lastindex - 1][0] if stranger and stranger.lastindex else None


def not_a_tac(head: bytes, error: NotATacFile) -> NotATacFile:
    """Return what says which kind of file stands in place of a .tac file.

    Args:
        head: its first 256 bytes, or fewer if there are no more.
        error: returned where they do not tell.
    """
    kind = kind_of(head)
    found = f"this is {kind}, and a .tac file was expected"
    return error if kind in (None, _TAC) else NotATacFile(found)
