import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.pictures.files import read_picture
from artifacts import StatCache, digest_pixels
from stages.images import read_image, read_mask
from stages.jobs.image_files import inspect_image, inspect_mask
from stages.jobs.image_folder import ImageFolder, locate


@pytest.fixture
def gradient():
    rows, cols = np.mgrid[0:48, 0:64]
    return np.stack([rows * 4, cols * 3, rows + cols], axis=-1).astype(np.uint8)


def png_with_size(width: int, height: int, pixels: bytes = b"") -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def sixteen_bit_color_png(values: np.ndarray) -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    plain = png_with_size(values.shape[1], values.shape[0], rows)
    header = plain[12:29]
    deep = header[:12] + b"\x10" + header[13:]
    return plain[:12] + deep + struct.pack(">I", zlib.crc32(deep)) + plain[33:]


def test_an_rgb_image_is_read_as_it_is_without_a_note(tmp_path, gradient):
    Image.fromarray(gradient).save(tmp_path / "a.png")
    decoded = read_picture(tmp_path / "a.png")
    assert np.array_equal(decoded.pixels, gradient)
    assert decoded.notes == ()


@pytest.mark.parametrize(
    ("mode", "note"),
    [
        ("L", "gray: converted to RGB"),
        ("1", "black and white: converted to RGB"),
        ("P", "palette: converted to RGB"),
        ("CMYK", "CMYK: converted to RGB"),
        ("RGBA", "RGBA: laid over white"),
        ("LA", "gray with transparency: laid over white"),
    ],
)
def test_another_mode_is_converted_and_said_so(tmp_path, gradient, mode, note):
    path = tmp_path / "a.tiff"
    Image.fromarray(gradient).convert(mode).save(path)
    decoded = read_picture(path)
    assert decoded.pixels.shape == (48, 64, 3)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.notes == (note,)


def test_transparent_pixels_become_white(tmp_path):
    Image.new("RGBA", (40, 40), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == 255).all()


def test_sixteen_bit_gray_keeps_its_high_byte(tmp_path, gradient):
    deep = gradient[:, :, 0].astype(np.uint16) * 256 + 77
    Image.fromarray(deep).save(tmp_path / "a.png")
    decoded = read_picture(tmp_path / "a.png")
    assert np.array_equal(decoded.pixels[:, :, 0], gradient[:, :, 0])
    assert decoded.notes == ("16-bit gray: converted to 8-bit RGB",)


def test_sixteen_bit_color_is_said_to_be_reduced(tmp_path, gradient):
    (tmp_path / "a.png").write_bytes(sixteen_bit_color_png(gradient.astype(np.uint16) * 256 + 9))
    decoded = read_picture(tmp_path / "a.png")
    assert np.array_equal(decoded.pixels, gradient)
    assert decoded.notes == ("16-bit RGB: converted to 8-bit RGB",)


def test_the_first_frame_of_an_animation_is_used(tmp_path, gradient):
    frames = [Image.fromarray(gradient), Image.fromarray(255 - gradient)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    decoded = read_picture(tmp_path / "a.webp")
    assert np.array_equal(decoded.pixels, gradient)
    assert decoded.notes == ("animated: first of 2 frames used",)


def test_a_photograph_is_turned_as_exif_says(tmp_path, gradient):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(gradient).save(tmp_path / "a.png", exif=exif)
    decoded = read_picture(tmp_path / "a.png")
    assert np.array_equal(decoded.pixels, np.rot90(gradient, -1))
    assert decoded.notes == ("EXIF orientation 6: turned upright",)


def test_a_bomb_is_refused_by_its_header(tmp_path):
    path = tmp_path / "bomb.png"
    for width, height in ((9000, 9000), (60_000, 60_000)):
        path.write_bytes(png_with_size(width, height))
        with pytest.raises(InvalidEdit, match=r"limit is 64 million: .*shrink it"):
            read_image(path)


def test_the_pixel_limit_can_be_set(tmp_path, gradient):
    Image.fromarray(gradient).save(tmp_path / "a.png")
    with pytest.raises(InvalidEdit, match=r"limit is 0\.003 million"):
        read_image(tmp_path / "a.png", pixel_limit=3000)


def test_a_picture_that_is_known_is_held_to_a_lower_limit_too(tmp_path, gradient):
    Image.fromarray(gradient).save(tmp_path / "a.png")
    os.utime(tmp_path / "a.png", (1, 1))
    cache = StatCache(tmp_path / "cache.sqlite")
    known = inspect_image(tmp_path / "a.png", cache)
    with pytest.raises(InvalidEdit, match="set pixel_limit = 3072"):
        inspect_image(tmp_path / "a.png", cache, 3071)
    assert inspect_image(tmp_path / "a.png", cache, known.pixels) == known


def test_damaged_bytes_give_one_line(tmp_path, gradient):
    path = tmp_path / "a.png"
    Image.fromarray(gradient).save(path)
    whole = path.read_bytes()
    jpeg = tmp_path / "a.jpg"
    Image.fromarray(gradient).save(jpeg)
    for number, data in enumerate(
        [
            whole[:60],
            whole[:-40],
            b"",
            b"no image",
            jpeg.read_bytes()[:300],
            whole[:20] + b"\xff" * 9,
        ]
    ):
        broken = tmp_path / f"{number}.png"
        broken.write_bytes(data)
        with pytest.raises(InvalidEdit) as refusal:
            read_image(broken)
        assert str(broken) in str(refusal.value)
        assert "\n" not in str(refusal.value)


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.zeros((40, 40), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(InvalidEdit, match="no known range"):
        read_image(tmp_path / "a.tiff")


def test_the_digest_is_that_of_the_pixels_not_of_the_file(tmp_path, gradient):
    cache = StatCache(tmp_path / "cache.sqlite")
    Image.fromarray(gradient).save(tmp_path / "a.png")
    Image.fromarray(gradient).save(tmp_path / "b.bmp")
    first, second = (inspect_image(tmp_path / name, cache) for name in ("a.png", "b.bmp"))
    assert first == second
    assert (first.width, first.height) == (64, 48)


def test_a_link_out_of_the_folder_is_refused(tmp_path, gradient):
    root = tmp_path / "root"
    root.mkdir()
    Image.fromarray(gradient).save(tmp_path / "secret.png")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    for name in ("link.png", "../secret.png", str(tmp_path / "secret.png")):
        with pytest.raises(InvalidEdit, match="lies outside"):
            locate(root, name)


def test_a_link_within_the_folder_is_followed(tmp_path, gradient):
    Image.fromarray(gradient).save(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to("a.png")
    assert locate(tmp_path, "link.png") == (tmp_path / "a.png").resolve()


NAMES = "a.png in/b.png in/../a.png ./a.png in//b.png in/link.png round/b.png . in in/ .."
NAMES += " ../outside.png out/outside.png out.png none.png /a.png //a.png in/none/b.png a.png/b.png"


@pytest.mark.parametrize("name", [*NAMES.split(), "", "a\0b", "x" * 5000])
def test_a_folder_finds_what_is_located_one_by_one(tmp_path, name):
    root, other = tmp_path / "root", tmp_path / "other"
    for file in (root / "a.png", root / "in" / "b.png", other / "outside.png"):
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_bytes(b"")
    (tmp_path / "outside.png").write_bytes(b"")
    links = {"in/link.png": root / "a.png", "out": other, "out.png": other / "outside.png"}
    for link, target in {**links, "round": root / "in"}.items():
        (root / link).symlink_to(target)

    def found(find):
        try:
            return find(name)
        except InvalidEdit as refusal:
            return str(refusal)

    folder = ImageFolder(root)
    assert found(folder.locate) == found(lambda name: locate(root, name))
    assert found(folder.locate) == found(folder.locate)


def test_a_special_file_is_refused_without_being_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for name in ("pipe.png", "folder.png", "."):
        with pytest.raises(InvalidEdit, match="not a regular file"):
            locate(tmp_path, name)


@pytest.mark.parametrize("name", ["absent.png", "a\0b", "x" * 5000, "loop"])
def test_a_name_that_leads_nowhere_gives_one_line(tmp_path, name):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InvalidEdit) as refusal:
        locate(tmp_path, name)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "I;16"])
def test_an_image_is_converted_as_pillow_converts_it_and_turned(tmp_path, mode):
    rows, cols = np.mgrid[0:700, 0:40]
    pixels = np.stack([rows, cols * 5, rows + cols, rows // 3], axis=-1).astype(np.uint8)
    picture = Image.fromarray(pixels).convert("RGBA" if mode in ("P", "LA") else "RGB")
    if mode == "I;16":
        picture = Image.fromarray((rows * 80).astype(np.uint16))
    elif mode != "RGB":
        picture = Image.fromarray(pixels).convert("RGBA").convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 5
    picture.save(tmp_path / "a.png", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "a.png"))
    assert upright.size == (700, 40)
    wide = read_picture(tmp_path / "a.png").pixels
    picture.save(tmp_path / "b.png")
    long = read_picture(tmp_path / "b.png").pixels
    assert long.shape == (700, 40, 3)
    assert np.array_equal(wide, long.transpose(1, 0, 2))
    if mode != "I;16":
        white = Image.new("RGBA", upright.size, "white")
        flat = Image.alpha_composite(white, upright.convert("RGBA")).convert("RGB")
        assert np.array_equal(wide, np.asarray(flat))
    cache = StatCache(tmp_path / "cache.sqlite")
    assert inspect_image(tmp_path / "b.png", cache).digest == digest_pixels(long)
    mask = read_mask(tmp_path / "b.png")
    assert mask.shape == (700, 40)
    values = mask.astype(np.uint8)[:, :, None]
    assert inspect_mask(tmp_path / "b.png", cache).digest == digest_pixels(values)


def test_the_frames_of_a_tiff_are_not_looked_for_one_by_one(tmp_path, gradient):
    frames = [Image.fromarray(gradient)] * 3
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    decoded = read_picture(tmp_path / "a.tiff")
    assert np.array_equal(decoded.pixels, gradient)
    assert decoded.notes == ("several pages: the first is used",)
    frames[0].save(tmp_path / "b.tiff")
    assert read_picture(tmp_path / "b.tiff").notes == ()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_large_image_is_digested_in_the_memory_of_five_copies(tmp_path, mode):
    """In a process of its own, since memory that was used once is not given back."""
    Image.new(mode, (4000, 4000), "white").save(tmp_path / "a.png")
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom artifacts import StatCache\n"
        "from stages.jobs.image_files import inspect_image\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = peak()\n"
        "inspect_image(Path(sys.argv[1]), StatCache(Path(sys.argv[2])))\n"
        "print(peak() - before)"
    )
    line = [sys.executable, "-c", code, tmp_path / "a.png", tmp_path / "cache.sqlite"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 5 * 4 * 4000 * 4000
