"""Color spaces that are given by numbers (primaries, white, a curve), as ICC profiles."""

import struct
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

XY: TypeAlias = tuple[float, float]
"""A chromaticity."""

D65: XY = (0.3127, 0.3290)
_D50_XYZ = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


@dataclass(frozen=True)
class Primaries:
    """The chromaticities of red, green, blue and white."""

    red: XY
    green: XY
    blue: XY
    white: XY = D65


BT709 = Primaries((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
"""Those of sRGB, too."""
ADOBE_RGB = Primaries((0.640, 0.330), (0.210, 0.710), (0.150, 0.060))
DISPLAY_P3 = Primaries((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))


def icc_profile(primaries: Primaries, gamma: float | None) -> bytes:
    """Write the ICC profile of an RGB space.

    Args:
        gamma: the exponent from stored values to light; None: the curve of sRGB.

    Raises:
        ValueError: if the primaries span no space, or the exponent is none.
    """
    curve = _curve_of(gamma)
    try:
        red, green, blue = (_xyz(*column) for column in _adapted(primaries).T)
        tags = {b"wtpt": _xyz(*_D50_XYZ), b"rXYZ": red, b"gXYZ": green, b"bXYZ": blue}
    except (ZeroDivisionError, np.linalg.LinAlgError, struct.error) as error:
        raise ValueError(f"no color space has {primaries}") from error
    return _file(b"RGB ", tags | {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve})


def gray_profile(gamma: float | None) -> bytes:
    """Write the ICC profile of grays with such a curve; see `icc_profile`.

    Raises:
        ValueError: if the exponent is none.
    """
    return _file(b"GRAY", {b"wtpt": _xyz(*_D50_XYZ), b"kTRC": _curve_of(gamma)})


def _adapted(primaries: Primaries) -> np.ndarray:
    """Return the XYZ of red, green and blue as columns, adapted to D50."""
    columns = np.array([_xyz_of(primaries.red), _xyz_of(primaries.green), _xyz_of(primaries.blue)])
    white = np.array(_xyz_of(primaries.white))
    light = columns.T * np.linalg.solve(columns.T, white)
    scale = (_BRADFORD @ _D50_XYZ) / (_BRADFORD @ white)
    return np.asarray(np.linalg.solve(_BRADFORD, np.diag(scale) @ _BRADFORD) @ light)


def _xyz_of(point: XY) -> tuple[float, float, float]:
    x, y = point
    return x / y, 1.0, (1 - x - y) / y


def _file(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Lay out a profile of version 4 (ICC.1:2022, 7.2 and 7.3)."""
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    header = struct.pack(">I4xI4s4s4s", start + len(body), 0x04300000, b"mntr", space, b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + _fixed(*_D50_XYZ)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*values)


def _curve_of(gamma: float | None) -> bytes:
    if gamma is None:
        return _curve(3, *_SRGB_CURVE)
    if not 0.1 <= gamma <= 10:
        raise ValueError(f"{gamma} is no exponent of a picture")
    return _curve(0, gamma)


def _curve(kind: int, *parameters: float) -> bytes:
    return b"para\0\0\0\0" + struct.pack(">Hxx", kind) + _fixed(*parameters)


def _fixed(*values: float) -> bytes:
    """Write numbers with 16 bits before and 16 after the point."""
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))
