"""Pictures in files and in other hands, and the one array form that the codec knows.

Every picture becomes an array ``uint8 [height, width, 3]`` of sRGB values, upright and opaque:

    bytes or path ─ kind by its first bytes ─ one plugin ─ size against the limit ─ decode
        ─ 8 bits: colours (grey, RGB, CMYK or Lab) and alpha ─ what the file says of its colours
        ─ alpha over the background ─ EXIF orientation ─ array

    sources    `as_pixels`, the door: files, Pillow images and arrays alike
    kinds      which format some bytes begin
    reading    one file to a Pillow image, within bounds
    mending    files whose damage does not touch their pixels
    plugins    Pillow's plugins, its warnings and exceptions; netpbm is one of ours
    boxes      the parts of a file that Pillow keeps to itself
    modes      Pillow's modes, depths, alpha and orientation
    colour     to sRGB; profiles are made of colours that are told in numbers
    scaling    for the networks that read pictures
    labels     label maps
    drawing    outlines with titles
    writing    files

A plugin is called directly instead of through ``Image.open``. That imports one plugin instead of
all, keeps formats off the path that nobody asked for (EPS would start Ghostscript), and puts the
limit on pixels into the caller's hands: Pillow's own is one global number.

Refused, with a `TacError` that says why: files that are no picture, named by what they are when
their first bytes tell; pictures above the limit, before they are decoded; files that are cut or
damaged in what their pixels come from; pictures without pixels; directories and devices; negative
integers, those above 16 bits, and floats outside both of their usual scales, because no one scale
fits them.

Changed silently, because the array cannot hold it: more than 8 bits per channel, metadata.
Changed with an `ImageWarning`: frames and pages behind the first; colour profiles, EXIF data and
clean apertures that cannot be used; damage beside the pixels; 16 bits so dark that nothing shows.
"""

from tactic_codec.picture.forms import (
    DEFAULT_MAX_PIXELS,
    WHITE,
    Colour,
    ImageWarning,
    LabelMap,
    Pixels,
    Plane,
    Scaled,
    colour_of,
)
from tactic_codec.picture.kinds import SUFFIXES, kind_of, not_a_tac
from tactic_codec.picture.labels import load_labels, save_labels
from tactic_codec.picture.reading import at_end, load, read
from tactic_codec.picture.scaling import (
    WHOLE,
    Shrink,
    enlarged,
    nearest,
    network_input,
    resize_plane,
    scaled,
    scaled_size,
    square,
)
from tactic_codec.picture.sources import Picture, as_pixels, as_scaled, path_of
from tactic_codec.picture.writing import format_of, save, to_pillow

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "SUFFIXES",
    "WHITE",
    "WHOLE",
    "Colour",
    "ImageWarning",
    "LabelMap",
    "Picture",
    "Pixels",
    "Plane",
    "Scaled",
    "Shrink",
    "as_pixels",
    "as_scaled",
    "at_end",
    "colour_of",
    "enlarged",
    "format_of",
    "kind_of",
    "load",
    "load_labels",
    "nearest",
    "network_input",
    "not_a_tac",
    "path_of",
    "read",
    "resize_plane",
    "save",
    "save_labels",
    "scaled",
    "scaled_size",
    "square",
    "to_pillow",
]
