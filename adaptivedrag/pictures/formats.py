"""What a file is that is not read as a picture, and what makes a picture of it."""

import re
from collections.abc import Mapping
from pathlib import Path

READ = "PNG, JPEG, WebP, TIFF, BMP, GIF, PPM, AVIF and JPEG 2000"
HEAD = 4096
"""First bytes of a file that say what it is."""

_SAVE = "save it as PNG"
_CONVERT = "convert it, such as with `{} {{file}} {{stem}}.png`"
_LAYERS = "save it as PNG from the program that made it"
_DEVELOP = "develop it first, such as with `darktable-cli {file} {stem}.png`"
_FRAME = "take one frame, such as with `ffmpeg -i {file} -frames:v 1 {stem}.png`"
_LIGHT = "map its light to 8 bits and save it as PNG"
_DRAW = "draw it with pixels, such as with `rsvg-convert -o {stem}.png {file}`"
_PAGE = "draw it with pixels, such as with `pdftoppm -png -singlefile {file} {stem}`"

_SIGNATURES = (
    # place of the bytes, the bytes, what it is, what to do
    (0, b"\xff\x0a", "JPEG XL (JXL)", _CONVERT.format("djxl")),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL (JXL)", _CONVERT.format("djxl")),
    (0, b"8BPS", "a Photoshop document (PSD)", _LAYERS),
    (0, b"gimp xcf", "a GIMP document (XCF)", _LAYERS),
    (8, b"CR\2", "a camera's raw file (CR2)", _DEVELOP),
    (0, b"FUJIFILMCCD-RAW", "a camera's raw file (RAF)", _DEVELOP),
    (0, b"IIRO", "a camera's raw file (ORF)", _DEVELOP),
    (0, b"IIRS", "a camera's raw file (ORF)", _DEVELOP),
    (0, b"MMOR", "a camera's raw file (ORF)", _DEVELOP),
    (0, b"IIU\0", "a camera's raw file (RW2)", _DEVELOP),
    (0, b"FOVb", "a camera's raw file (X3F)", _DEVELOP),
    (0, b"\x1aE\xdf\xa3", "a video (Matroska or WebM)", _FRAME),
    (8, b"AVI LIST", "a video (AVI)", _FRAME),
    (0, b"\0\0\1\xba", "a video (MPEG)", _FRAME),
    (0, b"FLV\1", "a video (FLV)", _FRAME),
    (0, b"\x76\x2f\x31\x01", "OpenEXR", _LIGHT),
    (0, b"#?RADIANCE", "Radiance HDR", _LIGHT),
    (0, b"%PDF", "a PDF document", _PAGE),
    (0, b"%!PS", "PostScript", _SAVE),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript", _SAVE),
    (0, b"II\xbc\1", "JPEG XR", _SAVE),
    (0, b"qoif", "QOI", _SAVE),
    (0, b"DDS ", "DDS", _SAVE),
    (0, b"\0\0\1\0", "an icon (ICO)", _SAVE),
    (0, b"icns", "an icon (ICNS)", _SAVE),
    (0, b"SIMPLE  =", "FITS", _SAVE),
    (128, b"DICM", "DICOM", _SAVE),
    (0, b"\x93NUMPY", "a NumPy array", _SAVE),
    (0, b"\x89HDF\r\n", "HDF5", _SAVE),
    (0, b"PK\3\4", "a ZIP archive", "unpack it"),
    (0, b"\x1f\x8b", "compressed by gzip", "unpack it"),
)
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_SVG = re.compile(rb"<svg[\s>]", re.IGNORECASE)
_RAW = "a camera's raw file{}"
RAW_SUFFIXES = (
    *(".3fr", ".arw", ".cr2", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos"),
    *(".nef", ".nrw", ".orf", ".pef", ".rwl", ".sr2", ".srf", ".srw"),
)
_DNG_VERSION, _SUBFILE, _SUB_IFDS = 50706, 254, 330
_REDUCED = 1


def refusal(path: Path, head: bytes) -> str:
    """Say in one line what a file is that Pillow does not open, and what to do.

    Args:
        head: the file's first bytes.
    """
    name, remedy = _boxed(head) if head[4:8] == b"ftyp" else _unread(path, head)
    if name:
        return _line(path, f"{name}, which is not read", remedy)
    if head.startswith((b"II*\0", b"MM\0*")):
        return _line(path, "damaged or a TIFF of a rare layout", "save it again with 8 bits")
    return f"{path} is damaged or not an image: {READ} are read"


def raw_refusal(path: Path, head: bytes, tags: Mapping[int, object]) -> str | None:
    """Say of a TIFF that is a camera's raw file, of which Pillow opens the preview; None if not.

    Args:
        tags: of its first directory.
    """
    is_preview = _SUB_IFDS in tags and tags.get(_SUBFILE) == _REDUCED
    if _DNG_VERSION in tags or is_preview or head.startswith(b"CR\2", 8) or _is_raw_name(path):
        return _line(path, f"{_raw_name(path)}, which is not read", _DEVELOP)
    return None


def _line(path: Path, what: str, remedy: str) -> str:
    return f"{path} is {what}: {remedy.format(file=path.name, stem=path.stem)}"


def _unread(path: Path, head: bytes) -> tuple[str, str]:
    """Name a format and its remedy; ("", "") for one that is read or unknown."""
    for place, signature, name, remedy in _SIGNATURES:
        if head.startswith(signature, place):
            return name, remedy
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<") and _SVG.search(head):
        return "SVG, a drawing without pixels", _DRAW
    return (_raw_name(path), _DEVELOP) if _is_raw_name(path) else ("", "")


def _boxed(head: bytes) -> tuple[str, str]:
    """Name a file in boxes (ISO/IEC 14496-12) by its brands, the major one first."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[place : place + 4] for place in range(16, end - 3, 4))]
    if b"crx " in brands:
        return _RAW.format(" (CR3)"), _DEVELOP
    if any(brand in _AVIF_BRANDS for brand in brands):
        return "damaged or of a kind of AVIF", _CONVERT.format("avifdec")
    if any(brand in _HEIC_BRANDS for brand in brands):
        return "HEIC", _CONVERT.format("heif-convert")
    return "a video (MP4 or MOV)", _FRAME


def _is_raw_name(path: Path) -> bool:
    return path.suffix.lower() in RAW_SUFFIXES


def _raw_name(path: Path) -> str:
    return _RAW.format(f" ({path.suffix[1:].upper()})" if _is_raw_name(path) else "")
