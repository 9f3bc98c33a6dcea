"""Files that are not read are named as what they are, with what to do, in one line."""

import io
import struct
import threading

import numpy as np
import pytest
from PIL import Image
from support.pictures import chunk

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.pictures.files import opened, read_picture

FLAT = Image.new("RGB", (40, 40), (200, 60, 40))


def tiff(tags: dict) -> bytes:
    file = io.BytesIO()
    FLAT.save(file, "TIFF", tiffinfo=tags)
    return file.getvalue()


def boxed(*brands: bytes) -> bytes:
    head = b"ftyp" + brands[0] + b"\0\0\0\0" + b"".join(brands)
    return (len(head) + 4).to_bytes(4, "big") + head + bytes(500)


REFUSED = {
    # file: (its bytes, what is said)
    "a.heic": (boxed(b"heic", b"mif1"), "HEIC, which is not read: .*`heif-convert a.heic a.png`"),
    "b.heic": (boxed(b"mif1", b"heic"), "HEIC, which is not read"),
    "a.heif": (boxed(b"msf1", b"hevc"), "HEIC, which is not read"),
    "photo.jpg": (boxed(b"heix"), "HEIC, which is not read"),
    "a.avif": (boxed(b"avif", b"mif1"), "damaged or of a kind of AVIF"),
    "a.jxl": (b"\xff\x0a" + bytes(99), r"JPEG XL \(JXL\), which is not read: .*`djxl"),
    "b.jxl": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99), r"JPEG XL \(JXL\)"),
    "a.psd": (b"8BPS\0\1" + bytes(99), r"a Photoshop document \(PSD\), which is not read"),
    "a.svg": (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- -->\n<svg width='9'/>", "SVG, .*rsvg-conv"),
    "a.cr2": (b"II*\0\x10\0\0\0CR\2\0" + bytes(99), r"a camera's raw file \(CR2\), .*darktable"),
    "a.cr3": (boxed(b"crx "), r"a camera's raw file \(CR3\)"),
    "a.NEF": (tiff({}), r"a camera's raw file \(NEF\)"),
    "a.dng": (b"II*\0" + bytes(99), r"a camera's raw file \(DNG\)"),
    "dng.tif": (tiff({50706: b"\1\4\0\0"}), "a camera's raw file"),
    "nef.tif": (tiff({254: 1, 330: 8}), "a camera's raw file"),
    "a.mp4": (boxed(b"isom", b"mp42"), r"a video \(MP4 or MOV\), .*ffmpeg -i a.mp4"),
    "a.webm": (b"\x1aE\xdf\xa3" + bytes(99), r"a video \(Matroska or WebM\)"),
    "a.avi": (b"RIFF\0\0\0\0AVI LIST", r"a video \(AVI\)"),
    "a.exr": (b"\x76\x2f\x31\x01" + bytes(99), "OpenEXR, which is not read"),
    "a.hdr": (b"#?RADIANCE\n", "Radiance HDR, which is not read"),
    "a.pdf": (b"%PDF-1.7\n", "a PDF document, which is not read"),
    "a.eps": (b"%!PS-Adobe-3.0 EPSF\n", "PostScript, which is not read"),
    "a.ico": (b"\0\0\1\0\1\0" + bytes(99), r"an icon \(ICO\), which is not read"),
    "a.dcm": (bytes(128) + b"DICM" + bytes(99), "DICOM, which is not read"),
    "odd.tif": (b"II*\0" + bytes(99), "damaged or a TIFF of a rare layout"),
    "a.png": (b"no image", "damaged or not an image: PNG, JPEG.*are read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_not_read_is_named_as_what_it_is(tmp_path, name):
    data, said = REFUSED[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidEdit, match=rf"{name} is {said}") as refused:
        read_picture(tmp_path / name)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("form", ["AVIF", "JPEG2000"])
def test_newer_formats_are_read(tmp_path, form):
    FLAT.save(tmp_path / "a", form)
    found = read_picture(tmp_path / "a")
    assert np.abs(found.pixels.astype(int) - [200, 60, 40]).max() <= 3
    assert found.notes == ()


def test_more_pixels_than_the_limit_are_refused_and_fewer_than_a_raised_one_are_not(tmp_path):
    """Pillow's own limit, about 179 million pixels, is neither in the way nor changed."""
    path, usual = tmp_path / "a.png", Image.MAX_IMAGE_PIXELS
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 10_000, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(InvalidEdit, match=r"has 200\.0 million .* set pixel_limit = 200000000, or"):
        read_picture(path)
    with pytest.raises(InvalidEdit, match="limit is 199 million"):
        read_picture(path, 199_000_000)
    found = []
    threads = [threading.Thread(target=lambda: found.append(_size(path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(20_000, 10_000)] * 4
    assert usual == Image.MAX_IMAGE_PIXELS


def _size(path):
    with opened(path, 200_000_000) as image:
        return image.size
