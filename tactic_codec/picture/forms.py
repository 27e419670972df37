"""The array forms of pictures, and the warning for what they cannot hold."""

import numpy as np
import numpy.typing as npt

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


WHITE: Colour = (255, 255, 255)


class ImageWarning(UserWarning):
    """The picture is read, but not everything that its file holds."""
