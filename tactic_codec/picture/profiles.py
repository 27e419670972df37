"""ICC profiles of colours that a file describes by numbers (ITU-T H.273, PNG's gAMA and cHRM)."""

import struct
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Curve = npt.NDArray[np.float64]
"""Light of each of 256 coded values, 0 to 1."""

Chromaticities = Sequence[float]
"""x and y of white, red, green and blue (CIE 1931), eight numbers."""

SRGB: Chromaticities = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
ADOBE_RGB: Chromaticities = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
ADOBE_GAMMA = 256 / 563

_PRIMARIES: dict[int, Chromaticities] = {
    1: SRGB,
    2: SRGB,  # unspecified
    4: (0.31, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (0.3127, 0.329, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06),
    6: (0.3127, 0.329, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    7: (0.3127, 0.329, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    8: (0.31, 0.316, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    22: (0.3127, 0.329, 0.63, 0.34, 0.295, 0.605, 0.155, 0.077),
}
"""By H.273's ColourPrimaries."""

_NEAR = 0.002
"""Chromaticities closer than this are the same: files round them."""

_NEAR_GAMMA = 0.05
"""A share: what libpng takes for no difference."""

_CODED = np.arange(256) / 255

_D50 = np.array([0.9642, 1, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def of_cicp(primaries: int, transfer: int) -> bytes | None:
    """The profile of H.273's ColourPrimaries and TransferCharacteristics, or None for sRGB.

    The transfer functions of television and unspecified ones are taken as sRGB's, as browsers do:
    cameras write them for pictures that are meant for an ordinary display. PQ and HLG are tone
    mapped, see `_tone_mapped`.

    Raises:
        ValueError: numbers that H.273 reserves, or that stand for no colours.
    """
    if primaries not in _PRIMARIES or transfer not in _CURVES:
        raise ValueError(f"colour primaries {primaries} with transfer {transfer} are not known")
    curve = _CURVES[transfer]
    return _profile(_PRIMARIES[primaries], None if curve is None else curve())


def of_gamma(gamma: float | None, chromaticities: Chromaticities | None) -> bytes | None:
    """The profile of PNG's gAMA and cHRM, or None for sRGB.

    Args:
        gamma: light to the power of this is what is coded; None or 0 for sRGB's curve, for which
            1 / 2.2 and what lies within 5 % of it stand in files.
        chromaticities: None for sRGB's.

    Raises:
        ValueError: no colours have such chromaticities.
    """
    curve = None if not gamma or abs(gamma * 2.2 - 1) < _NEAR_GAMMA else _CODED ** (1 / gamma)
    return _profile(chromaticities or SRGB, curve)


def _srgb() -> Curve:
    return np.where(_CODED <= 0.04045, _CODED / 12.92, ((_CODED + 0.055) / 1.055) ** 2.4)


# --- High dynamic range ---------------------------------------------------------------------------

_WHITE_NITS = 203
"""Diffuse white of PQ and HLG (ITU-R BT.2408), which becomes the display's white."""

_PEAK_NITS = 1000
"""Brightest light that is kept apart: what HLG's reference display shows, and most PQ masters."""


def _pq() -> Curve:
    """SMPTE ST 2084."""
    return _tone_mapped(_pq_decoded(_CODED))


def _hlg() -> Curve:
    """ITU-R BT.2100, on its reference display of 1000 nits."""
    scene = np.where(
        _CODED <= 0.5, _CODED**2 / 3, (np.exp((_CODED - 0.55991073) / 0.17883277) + 0.28466892) / 12
    )
    return _tone_mapped(_PEAK_NITS * scene**1.2)


def _tone_mapped(nits: Curve) -> Curve:
    """Fit light into what an ordinary display shows: ITU-R BT.2390's curve (5.4.1), each channel.

    Below about 90 nits nothing changes. Above, highlights of up to 1000 nits are bent into what is
    left below the display's white, instead of being cut off.
    """
    top, white = _pq_coded(np.array([_PEAK_NITS, _WHITE_NITS]))
    value = np.minimum(_pq_coded(nits) / top, 1)
    limit = white / top
    knee = 1.5 * limit - 0.5
    t = np.maximum(value - knee, 0) / (1 - knee)
    bent = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (3 * t**2 - 2 * t**3) * limit
    )
    coded = np.where(value < knee, value, bent) * top
    return np.minimum(_pq_decoded(coded) / _WHITE_NITS, 1)


_M1, _M2, _C1, _C2, _C3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875


def _pq_decoded(coded: Curve) -> Curve:
    root = coded ** (1 / _M2)
    nits: Curve = 10000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)
    return nits


def _pq_coded(nits: Curve) -> Curve:
    power = (nits / 10000) ** _M1
    coded: Curve = ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2
    return coded


_CURVES: dict[int, Callable[[], Curve] | None] = {
    **dict.fromkeys((1, 2, 6, 7, 11, 12, 13, 14, 15), None),
    4: lambda: _CODED**2.2,
    5: lambda: _CODED**2.8,
    8: lambda: _CODED,
    16: _pq,
    17: lambda: np.minimum(_CODED**2.6 * (52.37 / 48), 1),
    18: _hlg,
}
"""By H.273's TransferCharacteristics; None is sRGB's."""


# --- The profile ----------------------------------------------------------------------------------


def _profile(chromaticities: Chromaticities, curve: Curve | None) -> bytes | None:
    """A display profile of three primaries and one curve (ICC.1:2022, 8.3.3), or None for sRGB."""
    near = np.allclose(chromaticities, SRGB, rtol=0, atol=_NEAR)
    if curve is None and near:
        return None
    columns = _to_d50(SRGB if near else chromaticities)
    table = np.rint((_srgb() if curve is None else curve) * 65535).astype(">u2")
    bodies = {b"wtpt": _xyz(_D50)}
    bodies |= {name: _xyz(columns[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    trc = b"curv" + struct.pack(">II", 0, 256) + table.tobytes()
    bodies |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), trc)
    start = 132 + 12 * len(bodies)
    entries, data = b"", b""
    for name, body in bodies.items():
        entries += name + struct.pack(">II", start + len(data), len(body))
        data += body
    head = struct.pack(">I4xI", start + len(data), 0x02400000) + b"mntrRGB XYZ " + bytes(12)
    head += b"acsp" + bytes(28)
    head += _xyz(_D50)[8:] + bytes(48)
    return head + struct.pack(">I", len(bodies)) + entries + data


def _to_d50(chromaticities: Chromaticities) -> npt.NDArray[np.float64]:
    """The matrix from linear RGB to XYZ, its white adapted to D50 as ICC wants it."""
    x, y = np.reshape(np.asarray(chromaticities, np.float64), (4, 2)).T
    xyz = np.stack([x, y, 1 - x - y])
    try:
        with np.errstate(all="ignore"):
            white = xyz[:, 0] / y[0]
            primaries = xyz[:, 1:]
            matrix = primaries * np.linalg.solve(primaries, white)
            cones = np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white))
            adapted: npt.NDArray[np.float64] = np.linalg.solve(
                _BRADFORD, cones @ _BRADFORD @ matrix
            )
    except np.linalg.LinAlgError as error:
        raise ValueError("its primaries lie on one line") from error
    if not (np.abs(adapted) < 4).all():  # so written, it catches NaN
        raise ValueError("no colours have its primaries")
    return adapted


def _xyz(values: npt.NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + np.rint(values * 65536).astype(">i4").tobytes()
