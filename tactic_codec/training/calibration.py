"""The pictures that tables are counted on, and those that contexts are learned from."""

from tactic_codec import picture as image
from tactic_codec.training.config import TrainingConfig
from tactic_codec.training.data import Example, ImageFolders

CALIBRATION_IMAGES = 500
"""Images that tables are counted on, at most: 400,000 symbols a channel at 224×224. As many others
are what linear contexts are learned from."""


CALIBRATION_PIXELS = 1 << 26
"""Of these images together, at most: they are held in memory, 3 bytes a pixel, with latents and the
symbols of a level, about 4 bytes a pixel each."""


def calibration(config: TrainingConfig, data: ImageFolders) -> list[image.Pixels]:
    """Read pictures for the tables, see `_pictures`."""
    return pictures(config, [example for part in data.parts for example in part.calibration])


def learning(config: TrainingConfig, data: ImageFolders) -> list[image.Pixels]:
    """Read training pictures for linear contexts, from each folder as many as it is drawn from."""
    chosen: list[Example] = []
    shares = config.data.draw or [len(part.train) for part in data.parts]
    for part, share in zip(data.parts, shares, strict=True):
        count = max(1, round(CALIBRATION_IMAGES * share / sum(shares)))
        step = max(1, len(part.train) // count)
        chosen += part.train[::step][:count]
    return pictures(config, chosen)


def pictures(config: TrainingConfig, examples: list[Example]) -> list[image.Pixels]:
    """Read pictures as they are evaluated: whole where they are segmented, else as squares."""
    # Evenly over all folders, so that none of them is left out where there are more than enough.
    examples = examples[:: max(1, -(-len(examples) // CALIBRATION_IMAGES))]
    pictures: dict[int, image.Pixels] = {}
    pixels = 0
    # However many there is room for, multiples of the golden ratio spread them evenly.
    for i in sorted(range(len(examples)), key=lambda i: i * (5**0.5 - 1) / 2 % 1):
        picture = examples[i].pixels()
        pictures[i] = picture if config.segments else image.square(picture, config.data.size)
        pixels += pictures[i].size // 3
        if pixels > CALIBRATION_PIXELS:
            break
    return [pictures[i] for i in sorted(pictures)]
