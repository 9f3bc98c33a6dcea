"""Masks of every kind that people bring, read as where the image may change."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, TiffImagePlugin
from support import pictures as made

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.pictures import masks
from adaptivedrag.points import ImagePoint
from artifacts import StatCache
from stages.images import digest_mask, read_mask
from stages.jobs.image_files import inspect_mask

HEIGHT, WIDTH = SIZE = 48, 64
BOX = 12, 8, 35, 29
"""Left, top, right and bottom of what may change, all within."""
REGION = np.zeros(SIZE, bool)
REGION[BOX[1] : BOX[3] + 1, BOX[0] : BOX[2] + 1] = True
NOISE = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)

Draw = Callable[[Path], None]


def saved(mode: str, inside: Any, outside: Any = 0, **options: Any) -> Draw:
    """Save a flat region in a Pillow mode."""

    def draw(path: Path) -> None:
        picture = Image.new(mode, (WIDTH, HEIGHT), outside)
        picture.paste(inside, (BOX[0], BOX[1], BOX[2] + 1, BOX[3] + 1))
        picture.save(path, **options)

    return draw


def array(inside: float, outside: float, kind: str, **options: Any) -> Draw:
    values = np.where(REGION, inside, outside).astype(kind)
    return lambda path: Image.fromarray(values).save(path, **options)


def labels(*levels: int, kind: str = "uint8", scale: int = 1) -> Draw:
    """Save labels side by side in the region."""
    values = np.zeros(SIZE, kind)
    values[REGION] = np.resize(np.repeat(levels, 4), REGION.sum()) * scale
    return lambda path: Image.fromarray(values).save(path)


def palette(colors: list[tuple[int, int, int]], *, inside: int, outside: int = 0) -> Draw:
    def draw(path: Path) -> None:
        picture = Image.new("P", (WIDTH, HEIGHT), outside)
        picture.putpalette([value for color in colors for value in color])
        picture.paste(inside, (BOX[0], BOX[1], BOX[2] + 1, BOX[3] + 1))
        picture.save(path)

    return draw


def with_alpha(picture: np.ndarray, visible: np.ndarray, *, alpha: int = 255) -> Draw:
    """Save a picture of which only a part is visible."""
    layers = np.dstack([picture, np.where(visible, alpha, 0).astype(np.uint8)])
    return lambda path: Image.fromarray(layers).save(path)


def flat(*color: int) -> np.ndarray:
    return np.broadcast_to(np.uint8(color), (*SIZE, 3))


def white_at_zero(path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    values = np.where(REGION, 65535 - 300, 65535).astype(np.uint16)
    Image.fromarray(values).save(path, tiffinfo=tags)


def unsigned(path: Path) -> None:
    """32 bits whose white is the largest number, which Pillow reads as -1."""
    array(-1, 0, "int32")(path)
    signed, format_ = path.read_bytes(), b"\x53\x01\x03\x00\x01\x00\x00\x00"
    assert format_ + b"\x02" in signed
    path.write_bytes(signed.replace(format_ + b"\x02", format_ + b"\x01"))


def unsigned_by_default(path: Path) -> None:
    """Values above 2**31 in a TIFF that does not say how its samples are coded."""
    samples = np.where(REGION, 4_000_000_000, 0).astype("<u4").tobytes()
    path.write_bytes(made.tiff(samples, WIDTH, HEIGHT, 32, 1))


def one_clear(bits: int) -> Draw:
    """Save a gray picture of which one value is transparent."""
    top = (1 << bits) - 1
    values = np.where(REGION, 3, 4 + NOISE[..., 0].astype(int) * (top - 4) // 255)
    clear = made.chunk(b"tRNS", struct.pack(">H", 3))
    return lambda path: path.write_bytes(made.png(values, clear, bits=bits)) and None


def black_at_one(path: Path) -> None:
    """One bit that counts from white, as `tifffile` writes arrays of bool."""
    path.write_bytes(made.tiff(np.packbits(~REGION).tobytes(), WIDTH, HEIGHT, 1, 0))


def half_erased(alpha: int) -> Draw:
    layers = np.dstack([NOISE, np.where(REGION, alpha, 255).astype(np.uint8)])
    return lambda path: Image.fromarray(layers).save(path)


def two_flat(first: tuple[int, int, int], second: tuple[int, int, int]) -> np.ndarray:
    """Colors of strokes, half of the region each."""
    return np.where(np.arange(WIDTH)[:, None] < 24, first, second)[None].repeat(HEIGHT, 0)


def colors_16(value: int, channels: int = 3) -> Draw:
    values = np.where(REGION, value, 0)[..., None].repeat(channels, 2)
    if channels == 2:
        values[..., 1] = 65535
    return lambda path: path.write_bytes(made.png(values, bits=16)) and None


def transparent_color(path: Path) -> None:
    """A palette whose entry 0 is transparent, as GIFs and small PNGs have it."""
    picture = Image.new("P", (WIDTH, HEIGHT), 0)
    picture.putpalette([7, 7, 7, 255, 255, 255])
    picture.paste(1, (BOX[0], BOX[1], BOX[2] + 1, BOX[3] + 1))
    picture.save(path, transparency=0)


def two_tones(path: Path) -> None:
    """A black and white mask whose lower border is transparent."""
    picture = np.where(REGION, 255, 0).astype(np.uint8)
    visible = np.ones(SIZE, bool)
    visible[-8:] = False
    with_alpha(np.dstack([picture] * 3), visible)(path)


VOC = [(0, 0, 0), (128, 0, 0), (0, 64, 0), (224, 224, 192)]

EXACT: dict[str, Draw] = {
    "1.png": saved("1", 1),
    "1.tiff": saved("1", 1),
    "l-255.png": saved("L", 255),
    "l-1.png": saved("L", 1),
    "l-near-black.png": saved("L", 254, 1),
    "l-dim.png": saved("L", 100),
    "l-video-range.png": saved("L", 235, 16),
    "l-255.bmp": saved("L", 255),
    "l-255.pgm": saved("L", 255),
    "l-labels.png": labels(1, 2, 3),
    "l-many-labels.png": labels(*range(1, 40)),
    "l-labels-apart.png": labels(60, 90, 120, 255),
    "l-labels-void.png": labels(15, 15, 255),
    "l-labels-low-void.png": labels(1, 2, 255),
    "l-labels-spread.png": labels(85, 170, 255),
    "rgb-255.png": saved("RGB", (255, 255, 255)),
    "rgb-near-black.png": saved("RGB", (254, 254, 254), (1, 1, 1)),
    "rgb-label.png": saved("RGB", (3, 0, 0)),
    "rgb-red.png": saved("RGB", (255, 0, 0)),
    "rgb-navy.png": saved("RGB", (0, 0, 96)),
    "rgb-red-on-white.png": saved("RGB", (255, 0, 0), (255, 255, 255)),
    "rgb-lossless.webp": saved("RGB", (1, 1, 1), lossless=True),
    "cmyk.tiff": saved("CMYK", (0, 0, 0, 0), (0, 0, 0, 255)),
    "16-300.png": array(300, 0, "uint16"),
    "16-1.png": array(1, 0, "uint16"),
    "16-full.png": array(65535, 0, "uint16"),
    "16-near-black.png": array(65000, 257, "uint16"),
    "16-1.tiff": array(1, 0, "uint16"),
    "16-labels.png": labels(*range(1, 30), kind="uint16", scale=1000),
    "16-white-at-zero.tiff": white_at_zero,
    "i-1.tiff": array(1, 0, "int32"),
    "i-unsigned.tiff": unsigned,
    "i-unsigned-by-default.tiff": unsigned_by_default,
    "i-ids.tiff": labels(70_000, 90_000, 5, kind="int32"),
    "f-1.tiff": array(1, 0, "float32"),
    "f-quarter.tiff": array(0.25, 0, "float32"),
    "f-signs.tiff": array(3.5, -2.0, "float32"),
    "f-nan.tiff": array(1, np.nan, "float32"),
    "p-voc.png": palette(VOC, inside=1),
    "p-dark-label.png": palette(VOC, inside=2),
    "p-gray.png": palette([(n, n, n) for n in range(4)], inside=1),
    "p-white-first.png": palette([(255, 255, 255), (0, 0, 0)], inside=0, outside=1),
    "p-without-black.png": palette([(128, 64, 128), (244, 35, 232)], inside=1),
    "p-all-black.png": palette([(0, 0, 0), (0, 0, 0)], inside=1),
    "p-255.gif": palette([(0, 0, 0), (255, 255, 255)], inside=1),
    "p-region-first.png": palette([(255, 0, 0), (255, 255, 255)], inside=0, outside=1),
    "p-background-first.png": palette([(255, 0, 0), (255, 255, 255)], inside=1),
    "p-all-white.png": palette([(255, 255, 255), (255, 255, 255)], inside=1),
    "p-transparent.png": transparent_color,
    "rgba-hole.png": with_alpha(NOISE, ~REGION),
    "rgba-hole-in-gray.png": with_alpha(flat(120, 90, 60), ~REGION),
    "rgba-hole-in-white.png": with_alpha(flat(255, 255, 255), ~REGION),
    "rgba-hole-in-black.png": with_alpha(flat(0, 0, 0), ~REGION),
    "rgba-white-strokes.png": with_alpha(flat(255, 255, 255), REGION),
    "rgba-black-strokes.png": with_alpha(flat(0, 0, 0), REGION),
    "rgba-half-transparent-strokes.png": with_alpha(flat(255, 0, 0), REGION, alpha=100),
    "rgba-two-tones.png": two_tones,
    "rgba-opaque.png": saved("RGBA", (255, 255, 255, 255), (0, 0, 0, 255)),
    "rgba-same-alpha.png": saved("RGBA", (255, 255, 255, 0), (0, 0, 0, 0)),
    "la-opaque.png": saved("LA", (254, 255), (1, 255)),
    "la-strokes.png": saved("LA", (255, 255), (0, 0)),
    "rgba-half-erased-128.png": half_erased(128),
    "rgba-half-erased-254.png": half_erased(254),
    "rgba-red-and-green-strokes.png": with_alpha(
        np.uint8(two_flat((255, 0, 0), (0, 255, 0))), REGION
    ),
    "rgba-gray-strokes.png": with_alpha(np.uint8(two_flat((180,) * 3, (250,) * 3)), REGION),
    "l-one-clear-4.png": one_clear(4),
    "l-one-clear-8.png": one_clear(8),
    "l-one-clear-16.png": one_clear(16),
    "rgb-16.png": colors_16(3000),
    "la-16.png": colors_16(65535, channels=2),
    "1-from-white.tiff": black_at_one,
    "rgba-hole.tiff": with_alpha(NOISE, ~REGION),
    "rgba-hole.webp": with_alpha(NOISE, ~REGION),
}
"""Files whose region is known to the last pixel."""


@pytest.mark.parametrize("name", EXACT)
def test_a_mask_is_read_to_the_last_pixel(tmp_path, name):
    EXACT[name](tmp_path / name)
    assert np.array_equal(read_mask(tmp_path / name), REGION)


def disc() -> Image.Image:
    """A white disc of a fifth of the picture, drawn large and shrunk: its edge is soft."""
    large = Image.new("L", (WIDTH * 8, HEIGHT * 8))
    ImageDraw.Draw(large).ellipse((128, 96, 350, 318), fill=255)
    return large.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


DISC = np.asarray(disc()) >= 128


def of_disc(change: Callable[[np.ndarray], np.ndarray], **options: Any) -> Draw:
    return lambda path: Image.fromarray(change(np.asarray(disc()))).save(path, **options)


def grainy(values: np.ndarray) -> np.ndarray:
    """Add noise that white does not show."""
    noise = np.random.default_rng(1).integers(0, 6, values.shape)
    return np.minimum(np.where(values > 127, 255, 0) + noise, 255).astype(np.uint8)


def dim(values: np.ndarray) -> np.ndarray:
    return np.where(values > 127, np.uint8(200), np.uint8(0))


def tinted(values: np.ndarray) -> np.ndarray:
    return np.dstack([values, values // 4, values // 4])


def again(values: np.ndarray) -> np.ndarray:
    """What is left of a JPEG, kept as PNG."""
    encoded = io.BytesIO()
    Image.fromarray(values).save(encoded, "JPEG", quality=60)
    return np.asarray(Image.open(encoded))


SOFT: dict[str, Draw] = {
    "soft.png": of_disc(lambda v: v),
    "soft-rgb.png": of_disc(lambda v: np.dstack([v] * 3)),
    "blurred.png": lambda path: disc().filter(ImageFilter.GaussianBlur(2)).save(path),
    "near-black.png": of_disc(lambda v: np.clip(v, 1, 254)),
    "near-black-levels.png": of_disc(lambda v: np.where(v > 127, np.uint8(253), 1) + v % 2),
    "grainy.png": of_disc(grainy),
    "dim.png": of_disc(lambda v: np.uint8(v * 0.6)),
    "again.png": of_disc(again),
    "jpeg.jpg": of_disc(lambda v: v, quality=60),
    "jpeg-rgb.jpg": of_disc(lambda v: np.dstack([v] * 3), quality=60),
    "jpeg-dim.jpg": of_disc(lambda v: v // 3, quality=60),
    "jpeg-red.jpg": of_disc(tinted, quality=90),
    "webp.webp": of_disc(lambda v: v, quality=60),
    "webp-dim.webp": of_disc(dim, quality=60),
    "webp-animated.webp": of_disc(
        dim, quality=60, save_all=True, append_images=[Image.new("L", (WIDTH, HEIGHT))]
    ),
    "red.png": of_disc(tinted),
    "16.png": of_disc(lambda v: v.astype(np.uint16) * 256 + 1),
    "32.tiff": of_disc(lambda v: v.astype(np.int32) * 257),
    "probability.tiff": of_disc(lambda v: np.float32(0.01 + v / 260)),
    "logits.tiff": of_disc(lambda v: np.float32(v) - 127.5),
}
"""Files with soft edges, or a background that is nearly black."""


@pytest.mark.parametrize("name", SOFT)
def test_a_mask_with_soft_edges_ends_half_way(tmp_path, name):
    SOFT[name](tmp_path / name)
    wrong = read_mask(tmp_path / name) != DISC
    assert wrong.sum() <= 0.05 * DISC.sum()


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("l-255.png", ""),
        ("l-labels.png", "read as labels, everything but 0 may change"),
        ("rgba-hole.png", "its transparent part, 17.2% of it, may change"),
        ("rgba-black-strokes.png", "its opaque part, 17.2% of it, may change"),
        ("rgba-gray-strokes.png", "its opaque part, 17.2% of it, may change"),
        ("1-from-white.tiff", "it counts from white: turned round"),
        ("rgb-16.png", "16-bit colors: read by their high byte"),
        ("rgba-two-tones.png", "what is transparent counts as black"),
        ("rgba-same-alpha.png", "its transparency is the same everywhere, and is left aside"),
    ],
)
def test_what_is_not_plain_of_a_mask_is_noted(tmp_path, name, note):
    EXACT[name](tmp_path / name)
    assert masks.read_mask(tmp_path / name).notes == ((note,) if note else ())


def test_jpeg_2000_holds_no_labels(tmp_path):
    large = np.zeros((256, 256), np.uint8)
    large[80:180, 60:200] = 128
    path = tmp_path / "a.jp2"
    Image.fromarray(large).save(path, irreversible=True, quality_mode="rates", quality_layers=[100])
    assert (read_mask(path) != (large > 0)).mean() < 0.01


def test_a_photograph_for_a_mask_is_noted(tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "photo.png")
    (note,) = masks.read_mask(tmp_path / "photo.png").notes
    assert note == "it has many colors, what is at least half bright may change"


def test_a_mask_is_turned_upright_like_its_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    EXACT["l-255.png"](tmp_path / "plain.png")
    Image.open(tmp_path / "plain.png").save(tmp_path / "turned.png", exif=exif)
    found = masks.read_mask(tmp_path / "turned.png")
    assert np.array_equal(found.values, np.rot90(REGION, 3))
    assert found.notes == ("EXIF orientation 6: turned upright",)


def test_masks_of_equal_meaning_have_equal_digests(tmp_path):
    cache, found = StatCache(tmp_path / "cache.sqlite"), []
    for name in ("1.png", "l-1.png", "l-near-black.png", "16-300.png", "rgba-hole.png"):
        EXACT[name](tmp_path / name)
        found.append(inspect_mask(tmp_path / name, cache).digest)
    assert found == [digest_mask(REGION)] * 5


def test_where_a_mask_lies_is_known_without_reading_it_again(tmp_path):
    cache = StatCache(tmp_path / "cache.sqlite")
    EXACT["l-255.png"](tmp_path / "mask.png")
    for found in (inspect_mask(tmp_path / "mask.png", cache) for _ in range(2)):
        assert found.share == pytest.approx(REGION.mean())
        points = [(12, 8), (35.4, 29), (20, 20), (10, 8), (38, 29), (63.5, 47.5)]
        assert [found.holds(ImagePoint(*point)) for point in points] == [True] * 3 + [False] * 3


@pytest.mark.parametrize("channels", [2, 3])
def test_16_bit_colors_below_256_are_refused(tmp_path, channels):
    colors_16(255, channels)(tmp_path / "mask.png")
    with pytest.raises(InvalidEdit, match=r"high byte.*nothing of this mask: save it as"):
        read_mask(tmp_path / "mask.png")


@pytest.mark.parametrize("colors", [[(255, 0, 0), (255,) * 3], [(255,) * 3, (0, 0, 255)]])
def test_a_palette_is_read_as_its_colors(tmp_path, colors):
    for inside in (0, 1):
        palette(colors, inside=inside, outside=1 - inside)(tmp_path / "p.png")
        Image.open(tmp_path / "p.png").convert("RGB").save(tmp_path / "rgb.png")
        assert np.array_equal(read_mask(tmp_path / "p.png"), read_mask(tmp_path / "rgb.png"))


def test_a_file_that_is_no_mask_is_refused_in_one_line(tmp_path):
    (tmp_path / "mask.png").write_bytes(b"no picture")
    with pytest.raises(InvalidEdit, match=r"mask\.png is damaged or not an image"):
        read_mask(tmp_path / "mask.png")
