"""Picture files written by hand, and color spaces computed without LittleCMS."""

import struct
import zlib

import numpy as np

SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3 = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
BT2020 = ((0.708, 0.292), (0.17, 0.797), (0.131, 0.046))
D65 = (0.3127, 0.3290)


def shown_as_srgb(pixels, primaries=SRGB, gamma=None, top=255):
    """Return values of 0 to 255 in sRGB, computed in float64; `gamma` None is sRGB's curve."""
    light = np.asarray(pixels, np.float64) / top
    light = _light_of_srgb(light) if gamma is None else light**gamma
    change = np.linalg.inv(_to_xyz(SRGB)) @ _to_xyz(primaries)
    light = np.clip(light @ change.T, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _light_of_srgb(values):
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _to_xyz(primaries):
    def xyz(x, y):
        return np.array([x / y, 1, (1 - x - y) / y])

    columns = np.stack([xyz(*point) for point in primaries], axis=1)
    return columns * np.linalg.solve(columns, xyz(*D65))


def chunk(name: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(pixels: np.ndarray, *chunks: bytes, bits: int = 8, kind: int | None = None) -> bytes:
    """Write a PNG of gray, gray and alpha, RGB or RGBA; fewer than 8 bits take a packed row."""
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels] if kind is None else kind
    raw = pixels.astype(">u2" if bits == 16 else np.uint8)
    rows = b"".join(b"\0" + _packed(row, bits) for row in raw)
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def _packed(row: np.ndarray, bits: int) -> bytes:
    if bits >= 8:
        return row.tobytes()
    ones = np.unpackbits(row[:, None], axis=1)[:, 8 - bits :]
    return np.packbits(ones).tobytes()


def profile_chunk(profile: bytes) -> bytes:
    """Return the chunk of a PNG with an ICC profile."""
    return chunk(b"iCCP", b"profile\0\0" + zlib.compress(profile))


def tiff(
    samples: bytes, width: int, height: int, bits: int, photometric: int, *, big: bool = False
) -> bytes:
    """Write a TIFF of one sample per pixel, in either order of bytes."""
    order = ">" if big else "<"
    short, long = 3, 4
    tags = [(256, short, width), (257, short, height), (258, short, bits), (259, short, 1)]
    tags += [(262, short, photometric), (273, long, 0), (277, short, 1), (278, short, height)]
    tags.append((279, long, len(samples)))
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b""
    for tag, kind, value in tags:
        value = start if tag == 273 else value
        entries += struct.pack(order + "HHI", tag, kind, 1)
        entries += struct.pack(order + ("I" if kind == long else "Hxx"), value)
    head = (b"MM\0*" if big else b"II*\0") + struct.pack(order + "IH", 8, len(tags))
    return head + entries + bytes(4) + samples


def icc_profile(space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr") -> bytes:
    """Write an ICC profile of version 2."""
    place, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += name + struct.pack(">II", place + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    pcs = b"XYZ " if b"A2B0" not in tags else b"Lab "
    head = struct.pack(">I4xI4s4s4s", place + len(body), 0x02400000, kind, space, pcs)
    head += bytes(12) + b"acsp" + bytes(28) + _fixed(0.9642, 1, 0.8249)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def matrix_profile(columns, gamma: float | None, name: str = "") -> bytes:
    """Write the profile of an RGB space by its colorants, adapted to D50; None: sRGB's curve."""
    curve = b"curv\0\0\0\0\0\0\0\1" + struct.pack(">H", round((gamma or 0) * 256))
    if gamma is None:
        light = np.round(_light_of_srgb(np.linspace(0, 1, 1024)) * 65535).astype(">u2")
        curve = b"curv\0\0\0\0" + struct.pack(">I", 1024) + light.tobytes()
    tags = {b"desc": _text(name)} if name else {}
    tags |= {b"wtpt": _xyz(0.9642, 1, 0.8249)}
    tags |= {
        key: _xyz(*column) for key, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)
    }
    return icc_profile(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def gray_profile(gamma: float, name: str = "") -> bytes:
    """Write the profile of a gray space."""
    curve = b"curv\0\0\0\0\0\0\0\1" + struct.pack(">H", round(gamma * 256))
    tags = {b"desc": _text(name)} if name else {}
    return icc_profile(b"GRAY", tags | {b"wtpt": _xyz(0.9642, 1, 0.8249), b"kTRC": curve})


def ink_profile() -> bytes:
    """Write the profile of a CMYK space whose full inks have colors of their own."""
    corners = np.zeros((2, 2, 2, 2, 3))
    for c, m, y, k in np.ndindex(2, 2, 2, 2):
        lightness = 100 * (1 - k) * (1 - 0.3 * c) * (1 - 0.4 * m) * (1 - 0.1 * y)
        corners[c, m, y, k] = lightness, -40 * c + 60 * m, -40 * c + 70 * y
    corners[:, :, :, 1] = 0
    lut = np.clip(np.round(corners * [2.55, 1, 1] + [0, 128, 128]), 0, 255).astype(np.uint8)
    ramp = bytes(range(256))
    data = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    tags = {b"desc": _text("Inks"), b"wtpt": _xyz(0.9642, 1, 0.8249)}
    return icc_profile(
        b"CMYK", tags | {b"A2B0": data + ramp * 4 + lut.tobytes() + ramp * 3}, b"prtr"
    )


def _text(text: str) -> bytes:
    data = text.encode("latin-1") + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(data)) + data + bytes(78)


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*values)


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))
