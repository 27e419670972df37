"""Draw on pictures, for people."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tactic_codec.picture.forms import Colour, Pixels, Plane, to_pillow

_DARK = (16, 16, 16)
"""Around lines and in letters, so that both stand out from any picture."""

# Bright, so that dark letters are read on them, and told apart by most people.
_COLOURS: tuple[Colour, ...] = (
    (255, 200, 40), (90, 210, 255), (120, 230, 120), (255, 140, 110), (215, 160, 255),
    (255, 255, 130), (120, 245, 215), (255, 160, 210), (190, 215, 255), (240, 180, 120),
)  # fmt: skip


_HEAT = np.array(
    [(10, 10, 60), (95, 20, 125), (200, 60, 90), (250, 150, 40), (255, 245, 160)], np.float32
)
"""From nothing to the most, ever brighter, so that it is read without colours, too."""


_Place = tuple[int, int, int, int]
"""Left, top, right and bottom of a title."""


class Outline(NamedTuple):
    """What is drawn around a part of a picture.

    Attributes:
        edges: left, top, right, bottom, in pixels.
        title: what is written on it.
        kind: outlines of one kind have one colour.
    """

    edges: tuple[float, float, float, float]
    title: str
    kind: int


def draw_outlines(pixels: Pixels, outlines: Iterable[Outline]) -> Pixels:
    """Draw titled outlines into a copy of a picture, uint8 [H, W, 3]; the last one on top.

    Titles cover lines. One that would cover an earlier title is written below it, as far as the
    picture has room.
    """
    height, width, _ = pixels.shape
    canvas = to_pillow(np.array(pixels))
    draw = ImageDraw.Draw(canvas)
    line = max(1, round(min(height, width) / 240))
    font = ImageFont.load_default(max(10, round(min(height, width) / 32)))
    titles, taken = list[tuple[str, tuple[int, int], Colour]](), list[_Place]()
    for outline in outlines:
        colour = _COLOURS[outline.kind % len(_COLOURS)]
        left, top, right, bottom = (round(edge) for edge in outline.edges)
        right, bottom = max(left, right - 1), max(top, bottom - 1)
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_DARK, width=line + 2)
        draw.rectangle((left, top, right, bottom), outline=colour, width=line)
        titles.append((outline.title, (left, top), colour))
    for title in titles:
        _write(draw, canvas, *title, font, taken)
    return np.asarray(canvas)


_ROWS = 64
"""That are mixed at once, which bounds the memory for it."""


def draw_heat(pixels: Pixels, plane: Plane, most: float, unit: str) -> Pixels:
    """Lay colours over a picture in grey, uint8 [H, W, 3]; brighter for more.

    Args:
        pixels: the picture.
        plane: what is shown, not below 0, [H, W].
        most: from where on it has the brightest colour.
        unit: what the figures beside the scale are of; too small a picture has no scale.
    """
    height, width = plane.shape
    mixed = np.empty_like(pixels)
    for top in range(0, height, _ROWS):
        rows = slice(top, top + _ROWS)
        # Of the root, or all but the dearest places would look alike.
        heat = np.sqrt((plane[rows] / max(most, 1e-9)).clip(0, 1))
        grey = 0.75 * pixels[rows].mean(axis=2, dtype=np.float32)
        share = (0.35 + 0.4 * heat)[..., np.newaxis]
        mixed[rows] = ((1 - share) * grey[..., np.newaxis] + share * _colours_of(heat)).round()
    canvas = to_pillow(mixed)
    font = ImageFont.load_default(max(10, round(min(height, width) / 32)))
    draw = ImageDraw.Draw(canvas)
    low, high = "0", f"{most:.0f} {unit}"
    _, _, across, down = draw.textbbox((0, 0), f"{low} {high}", font=font)
    bar, line = round(width / 4), round(1.5 * down)
    if across + bar + 3 * line > width or 2 * line > height:
        return np.asarray(canvas)
    ramp = _colours_of(np.tile(np.linspace(0, 1, bar, dtype=np.float32), (round(down), 1)))
    draw.rectangle((0, height - line, across + bar + 3 * line, height), fill=_DARK)
    top = height - line + (line - round(down)) // 2
    left = line // 2
    draw.text((left, top), low, fill=_COLOURS[0], font=font)
    left += round(draw.textlength(f"{low} ", font=font))
    canvas.paste(to_pillow(ramp.round().astype(np.uint8)), (left, top))
    draw.text((left + bar + line // 2, top), high, fill=_COLOURS[0], font=font)
    return np.asarray(canvas)


def _colours_of(heat: Plane) -> Plane:
    """Return the colours of values of 0 to 1, float32 [H, W, 3]."""
    stops = np.linspace(0, 1, len(_HEAT))
    channels = [np.interp(heat, stops, channel) for channel in _HEAT.T]
    return np.stack(channels, axis=-1).astype(np.float32)


def _write(
    draw: ImageDraw.ImageDraw,
    canvas: Image.Image,
    title: str,
    corner: tuple[int, int],
    colour: Colour,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    taken: list[_Place],
) -> None:
    """Write a title on a ground of its colour, above a corner or where there is room, and note it.

    Places that are taken are left alone, unless there is none below them.
    """
    left, top = corner
    _, _, across, down = draw.textbbox((0, 0), title, font=font)
    # All titles of a size have one height, whether or not letters reach below the line.
    _, _, _, down = draw.textbbox((0, 0), "Ag", font=font)
    gap = max(2, round(down / 6))
    across, down = round(across) + 2 * gap, round(down) + 2 * gap
    left = max(0, min(left, canvas.width - across))
    top = free = max(0, top - down)
    for left_of, top_of, right_of, bottom_of in sorted(taken, key=lambda place: place[1]):
        if (
            left < right_of
            and left_of < left + across
            and free < bottom_of
            and top_of < free + down
        ):
            free = bottom_of
    top = free if free + down <= canvas.height else top
    taken.append((left, top, left + across, top + down))
    draw.rectangle((left, top, left + across - 1, top + down - 1), fill=colour, outline=_DARK)
    draw.text((left + gap, top + gap), title, fill=_DARK, font=font)
