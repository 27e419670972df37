"""Pictures in files and in other hands, and the one array form that the codec knows.

Every picture becomes an array ``uint8 [height, width, 3]`` of sRGB values, upright and opaque:

    bytes or path ─ kind by its first bytes ─ one plugin ─ size against the limit ─ decode
        ─ 8 bits: colours (grey, RGB, CMYK or Lab) and alpha ─ what the file says of its colours
        ─ alpha over the background ─ EXIF orientation ─ array

    formats    a row for each format, and what else some bytes may begin
    reading    the door: files, Pillow images and arrays alike, within bounds; label maps
    jpeg, png, webp, tiff, isobmff, rasters
               where files end, damage, and what Pillow keeps to itself
    window     what is held while a format is followed to its end
    plugins    Pillow's plugins, its warnings and exceptions
    modes      Pillow's modes, depths, alpha and orientation; colours to sRGB
    profiles   of colours that are told in numbers
    metadata   EXIF, XMP and colour profiles that are kept
    scaling    for the networks that read pictures
    drawing    outlines with titles
    writing    files, label maps too

A plugin is called directly instead of through ``Image.open``. That imports one plugin instead of
all, keeps formats off the path that nobody asked for (EPS would start Ghostscript), and puts the
limit on pixels into the caller's hands: Pillow's own is one global number.

Refused, with a `TacError` that says why: files that are no picture, named by what they are when
their first bytes tell; pictures above the limit, before they are decoded; files that are cut or
damaged in what their pixels come from; pictures without pixels; directories and devices; negative
integers, those above 16 bits, and floats outside both of their usual scales, because no one scale
fits them.

Changed silently, because the array cannot hold it: more than 8 bits per channel.
Changed with an `ImageWarning`: frames and pages behind the first; colour profiles, EXIF data and
clean apertures that cannot be used; damage beside the pixels; 16 bits so dark that nothing shows.
"""

from tactic_codec.picture.formats import PACKAGES as PACKAGES
from tactic_codec.picture.formats import SUFFIXES as SUFFIXES
from tactic_codec.picture.formats import not_a_tac as not_a_tac
from tactic_codec.picture.forms import DEFAULT_MAX_PIXELS as DEFAULT_MAX_PIXELS
from tactic_codec.picture.forms import WHITE as WHITE
from tactic_codec.picture.forms import Colour as Colour
from tactic_codec.picture.forms import ImageWarning as ImageWarning
from tactic_codec.picture.forms import LabelMap as LabelMap
from tactic_codec.picture.forms import Metadata as Metadata
from tactic_codec.picture.forms import Pixels as Pixels
from tactic_codec.picture.forms import Scaled as Scaled
from tactic_codec.picture.forms import Strips as Strips
from tactic_codec.picture.forms import colour_of as colour_of
from tactic_codec.picture.forms import to_pillow as to_pillow
from tactic_codec.picture.metadata import mended as mended
from tactic_codec.picture.metadata import shown as shown
from tactic_codec.picture.reading import Picture as Picture
from tactic_codec.picture.reading import at_end as at_end
from tactic_codec.picture.reading import load as load
from tactic_codec.picture.reading import load_labels as load_labels
from tactic_codec.picture.reading import path_of as path_of
from tactic_codec.picture.reading import read as read
from tactic_codec.picture.scaling import SHRINKING_GAP as SHRINKING_GAP
from tactic_codec.picture.scaling import WHOLE as WHOLE
from tactic_codec.picture.scaling import Shrink as Shrink
from tactic_codec.picture.scaling import covered as covered
from tactic_codec.picture.scaling import enlarged as enlarged
from tactic_codec.picture.scaling import enlarging as enlarging
from tactic_codec.picture.scaling import nearest as nearest
from tactic_codec.picture.scaling import network_input as network_input
from tactic_codec.picture.scaling import resize_plane as resize_plane
from tactic_codec.picture.scaling import scaled as scaled
from tactic_codec.picture.scaling import scaled_size as scaled_size
from tactic_codec.picture.scaling import square as square
from tactic_codec.picture.writing import format_of as format_of
from tactic_codec.picture.writing import pieces as pieces
from tactic_codec.picture.writing import save as save
from tactic_codec.picture.writing import save_labels as save_labels
