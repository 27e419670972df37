"""``.tac`` files for Pillow, and so for whatever opens pictures by it.

>>> import tactic_codec.pillow
>>> from PIL import Image
>>> Image.new("RGB", (40, 30), "orange").save("photo.tac", level=3)
>>> Image.open("photo.tac").size
(40, 30)

The import is all that it takes, once in each process. ``Image.open`` reads the header alone; the
picture is decoded when its pixels are first asked for. ``save`` takes what `tactic_codec.compress`
does: ``level``, ``max_bytes``, ``model`` and so on.

Limits are Pillow's: `DecompressionBombError` by ``Image.MAX_IMAGE_PIXELS``, and while that is not
None also for more pixels than so few bytes may have by default. Else what is wrong with a file or
its model is an OSError that says so, as with Pillow's own formats; its cause is the `TacError`.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, cast

from PIL import Image, ImageFile

from tactic_codec import container
from tactic_codec.errors import LimitExceeded, OutOfMemory, TacError, Truncated

FORMAT, SUFFIX, MIME = "TAC", ".tac", "image/x-tac"


@contextmanager
def _as_pillow() -> Iterator[None]:
    """Raise what callers of Pillow expect."""
    try:
        yield
    except LimitExceeded as exc:
        raise Image.DecompressionBombError(
            "the .tac file has more pixels than so few bytes may have: if you trust it, set "
            "PIL.Image.MAX_IMAGE_PIXELS = None"
        ) from exc
    except OutOfMemory:
        raise
    except TacError as exc:
        raise OSError(str(exc)) from exc


class TacImageFile(ImageFile.ImageFile):
    """The first frame of a ``.tac`` file, of mode RGB."""

    format = FORMAT
    format_description = "TACTIC, a codec for machines that look at pictures"

    def _open(self) -> None:
        with _as_pillow():
            head = container.read_head(self._stream)
        self._size, self._mode = (head.width, head.height), "RGB"

    @property
    def _stream(self) -> BinaryIO:
        return cast(BinaryIO, self.fp)

    def _frame(self) -> container.Frame:
        self._stream.seek(0)
        limit = container.MAX_SIDE**2 if Image.MAX_IMAGE_PIXELS is None else None
        frame = container.read_frame(self._stream, max_pixels=limit)
        if frame is None:
            raise Truncated("the file has become empty since it was opened")
        return frame

    def verify(self) -> None:
        """Compare the checksum; nothing is decoded. Afterwards the file is to be opened again."""
        with _as_pillow():
            self._frame()
        super().verify()

    def load(self) -> Any:
        """Decode the picture, unless that was done."""
        if getattr(self, "fp", None):  # what was unpickled has none
            with _as_pillow():
                from tactic_codec.codec import decompress

                decoded = decompress(self._frame())
                self.im, self.info = decoded.im, decoded.info
            if self._exclusive_fp:
                self._stream.close()
            self.fp, self.readonly = None, 0
        return super().load()

    def getexif(self) -> Image.Exif:
        """Return the EXIF data that the file keeps; its checksum is compared first."""
        self.load()
        return super().getexif()


def _save(image: Image.Image, stream: IO[bytes], name: str | bytes) -> None:
    from tactic_codec.codec import compress

    known = inspect.signature(compress).parameters
    # Pillow hands any format whatever was asked of any other.
    options = {key: value for key, value in image.encoderinfo.items() if key in known}
    stream.write(compress(image, **options).data)


def register(worker: int = 0) -> None:
    """Do nothing: to name it imports this module, as a DataLoader's ``worker_init_fn`` has to."""


Image.register_open(FORMAT, TacImageFile, lambda prefix: prefix.startswith(container.MAGIC))
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, SUFFIX)
Image.register_mime(FORMAT, MIME)
