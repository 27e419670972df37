"""What coders give back, as files for other tools: ``tactic eval --keep-decoded``."""

import re
from pathlib import Path

from tactic_codec import atomic
from tactic_codec import picture as image
from tactic_codec.evaluation.coders import Coder
from tactic_codec.evaluation.pictures import Picture
from tactic_codec.picture import Pixels
from tactic_codec.rivals import Setting


class Keeper:
    """A folder that gets CODER/SETTING/NAME.png of every picture."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def lacks(self, coder: Coder, setting: Setting, picture: Picture) -> bool:
        """Tell whether a picture is yet to be kept."""
        return not self._path(coder, setting, picture).exists()

    def keep(self, coder: Coder, setting: Setting, picture: Picture, decoded: Pixels) -> None:
        """Write a decoded picture, uint8 [H, W, 3], without loss.

        Raises:
            OSError: it cannot be written.
        """
        path = self._path(coder, setting, picture)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, image.save(decoded, "png"))

    def _path(self, coder: Coder, setting: Setting, picture: Picture) -> Path:
        # Names of coders may hold a model's path; those of pictures may differ by suffix alone.
        name = re.sub(r"[^\w.@ -]+", "_", coder.name)
        scale = f" at {coder.scale:g}" * (coder.scale != 1)
        return self._folder / name / f"{setting:g}{scale}" / f"{picture.name}.png"
