"""Malicious and broken inputs, and the message that each must produce.

`LINES`: lines of an edits file. `JOBS`: job files. `PICKLES`: `meta_data.pkl` of a sample. Each
value is the input, and a part of the one line of the message.
"""

import io
import json
import os
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

DRAG = {"handle": [10, 12], "target": [30, 12]}
SIZE = (64, 48)


def line(name: str = "bad", **more: Any) -> dict[str, Any]:
    return {"id": name, "image": "cat.png", "drags": [DRAG], **more}


def raw(text: str) -> bytes:
    """Return a whole edit with something put before its last brace."""
    return json.dumps(line())[:-1].encode() + b", " + text.encode() + b"}"


def of_image(name: str) -> dict[str, Any]:
    return line(image=name)


def with_settings(**settings: Any) -> dict[str, Any]:
    return line(settings=settings)


def nested(opening: bytes, closing: bytes, depth: int) -> bytes:
    return raw('"settings": ')[:-1] + opening * depth + b"1" + closing * depth + b"}"


IMAGES: dict[str, tuple[str, str]] = {
    # name: (file, part of the message)
    "a folder": ("folder.png", "is not a regular file"),
    "a pipe": ("pipe.png", "is not a regular file"),
    "a link to a device": ("device.png", "lies outside"),
    "a link out of the folder": ("link.png", "lies outside"),
    "a link to a folder outside": ("away/secret.png", "lies outside"),
    "a link to nothing": ("dangling.png", "does not exist"),
    "a link to itself": ("loop.png", "cannot be opened"),
    "a name with ..": ("../secret.png", "lies outside"),
    "a name with .. in the middle": ("folder.png/../../secret.png", "lies outside"),
    "the parent folder": ("..", "lies outside"),
    "an absolute name": ("/etc/passwd", "lies outside"),
    "a drive": ("C:\\windows\\win.ini", "does not exist"),
    "a share": ("\\\\server\\share\\cat.png", "does not exist"),
    "backslashes": ("..\\..\\secret.png", "does not exist"),
    "an address": ("https://example.org/cat.png", "does not exist"),
    "a file address": ("file:///etc/passwd", "does not exist"),
    "a home folder": ("~root/cat.png", "does not exist"),
    "percent signs": ("%2e%2e/secret.png", "does not exist"),
    "a twin by case": ("CAT.PNG", "does not exist"),
    "a long name": ("x" * 900, "cannot be opened"),
    "a name of 4 KB": ("x/" * 2000 + "cat.png", "at most 1000 characters"),
    "no name": ("", "at least 1 character"),
    "NUL in a name": ("cat.png\0.txt", "control character"),
    "a line break in a name": ("cat\n.png", "control character"),
    "a truncated PNG": ("truncated.png", "cannot be decoded"),
    "a PNG with a wrong checksum": ("checksum.png", "damaged or not an image"),
    "a PNG with wrong pixels": ("pixels.png", "cannot be decoded"),
    "a truncated JPEG": ("truncated.jpg", "cannot be decoded"),
    "an empty file": ("empty.png", "damaged or not an image"),
    "a text": ("text.png", "damaged or not an image"),
    "a program for a printer": ("program.png", "PostScript, which is not read"),
    "an archive behind a PNG's first bytes": ("archive.png", "damaged or not an image"),
    "a picture of 900 million pixels": ("bomb900.png", "900.0 million pixels"),
    "a picture just below Pillow's limit": ("bomb178.png", "178.8 million pixels"),
    "a WebP of 16383 by 16383": ("bomb.webp", "cannot be decoded"),
    "a PPM of astronomical size": ("bomb.ppm", "million pixels"),
    "a BMP of astronomical size": ("bomb.bmp", "million pixels"),
    "a GIF without frames": ("empty.gif", "damaged or not an image"),
    "a TIFF whose directory is its own next": ("loop.tiff", "cannot be decoded"),
    "a PNG with a text that unfolds": ("text_bomb.png", "cannot be decoded"),
}

LINES: dict[str, tuple[dict[str, Any] | bytes, str]] = {
    # name: (line, part of the message)
    **{name: (of_image(file), said) for name, (file, said) in IMAGES.items()},
    "a mask that is a pipe": (line(mask="pipe.png"), "not a regular file"),
    "a mask out of the folder": (line(mask="link.png"), "lies outside"),
    "a mask of another size": (line(mask="small_mask.png"), "give both the same size"),
    "a mask that is truncated": (line(mask="truncated.png"), "cannot be decoded"),
    "NaN": (raw('"x": NaN'), "NaN is not JSON"),
    "infinity by its exponent": (
        json.dumps(line()).replace("[10, 12]", "[1e400, 12]").encode(),
        "finite",
    ),
    "a coordinate of 400 digits": (
        json.dumps(line()).replace("[10, 12]", f"[{'9' * 400}, 12]").encode(),
        "a number of 1329 bits",
    ),
    "a number of 5,000 digits": (raw(f'"x": {"9" * 5000}'), "broken JSON"),
    "objects in objects": (nested(b'{"a":', b"}", 900), "unknown key 'settings.a'"),
    "lists in lists": (nested(b"[", b"]", 900), "settings = list"),
    "200,000 open brackets": (b"[" * 200_000, "nested too deeply"),
    "10 million points": (
        json.dumps(line())[:-2].encode() + b', {"handle":[1,2],"target":[3,4]}' * 80_000 + b"]}",
        "longer than 1 MiB",
    ),
    "101 drags": (line(drags=[DRAG] * 101), "at most 100"),
    "an id that is taken": (line("cat"), "already used in line 1"),
    "an id that is taken, by case": (line("CAT"), "case alone"),
    "a key that is there twice": (raw('"id": "other"'), "there twice"),
    "a key that is there twice, escaped": (raw('"\\u0069d": "other"'), "there twice"),
    "100,000 keys and one of them twice": (
        b"{" + b",".join(b'"%x":1' % n for n in range(100_000)) + b',"z":1,"z":1}',
        "key 'z' is there twice",
    ),
    "an id that is a formula": (line("=cmd|' /C calc'!A1"), "an id names files"),
    "an id that is a sum": (line("+1-1"), "an id names files"),
    "an id that is a page's script": (line("<script>alert(1)</script>"), "an id names files"),
    "an id that leaves the folder": (line("../../bad"), "an id names files"),
    "an id that is absolute": (line("/tmp/bad"), "an id names files"),
    "an id with a right-to-left mark": (line("bad\u202e"), "an id names files"),
    "a prompt of 1 MB": (line(prompt="a" * 1_000_000), "at most 2000 characters"),
    "a prompt that moves the cursor": (line(prompt="\x1b[2J"), "control character"),
    "a prompt with NUL": (line(prompt="cat\0"), "control character"),
    "half a character in a prompt": (raw('"prompt": "\\ud800"'), "cannot be used"),
    "half a character in a tag": (raw('"tags": ["\\ud800"]'), "cannot be used"),
    "half a character in a key": (raw('"\\ud800": 1'), "cannot be used"),
    "a script in a tag of a bad edit": (
        line(image="none.png", tags=["<script>alert(1)</script>"]),
        "does not exist",
    ),
    "a key that moves the cursor": (raw('"\\u001b[2J\\n": 1'), "unknown key '\\x1b[2J\\n'"),
    "a key of 900 KB": (raw(f'"{"k" * 900_000}": 1'), "unknown key 'kkkk"),
    "UTF-16": (json.dumps(line()).encode("utf-16"), "not UTF-8 at byte 0"),
    "Latin-1": (
        json.dumps(line(prompt="café"), ensure_ascii=False).encode("latin-1"),
        "not UTF-8 at byte",
    ),
    "settings that are a list": (with_settings(train_lora=[1]), "settings.train_lora = list"),
    "settings that are a text": (line(settings="fast"), "settings = 'fast'"),
    "a setting that is a text": (with_settings(train_lora={"steps": "80"}), "valid integer"),
    "a setting that is true": (with_settings(train_lora={"steps": True}), "valid integer"),
    "a seed that is a fraction": (with_settings(seed=1.5), "valid integer"),
    "a setting of 400 digits": (
        with_settings(extract_superpixels={"count": int("9" * 400)}),
        "give a whole number up to 1000000000",
    ),
    "a setting near infinity": (
        with_settings(optimize_latent={"stop_distance": 1e308}),
        "give a whole number up to 1000000000",
    ),
    "a setting near zero": (
        with_settings(optimize_latent={"stop_distance": 5e-324}),
        "give a whole number up to 1000000000",
    ),
    "no object": (b'"bad"', "is not an edit"),
    "a whole file of NUL": (b"\0" * 1000, "broken JSON"),
}

JOBS: dict[str, tuple[bytes, str]] = {
    # name: (job file, part of the message)
    "a number of 5,000 digits": (b"seed = " + b"9" * 5000, "is not valid TOML"),
    "a number of 10,000 hexadecimal digits": (
        b"seed = 0x" + b"f" * 10_000,
        "a number of 40000 bits",
    ),
    "a date that does not exist": (b"seed = 2026-02-31", "is not valid TOML"),
    "a date": (b"seed = 2026-02-28", "valid integer"),
    "tables in tables": (b"[train_lora" + b".a" * 5000 + b"]", "unknown key 'train_lora.a'"),
    "lists in lists": (b"seed = " + b"[" * 5000, "nested too deeply"),
    "a megabyte": (b"#" * (1 << 20), "at most 16 KiB"),
    "UTF-16": ("seed = 1".encode("utf-16"), "is not valid TOML"),
    "NUL": (b"seed = 1\0", "is not valid TOML"),
    "not a number": (b"[optimize_latent]\nlearning_rate = nan", "optimize_latent.learning_rate"),
    "a seed that is a text": (b'seed = "1"', "valid integer"),
    "a setting that is a text": (b'[train_lora]\nsteps = "80"', "valid integer"),
    "a setting that is true": (b"[train_lora]\nsteps = true", "valid integer"),
    "a switch that is a text": (b'[sample_image]\nhold_background = "no"', "valid boolean"),
    "a setting of astronomical size": (
        b"[extract_superpixels]\ncount = 99999999999999999999",
        "give a whole number up to 1000000000",
    ),
    "a stage that is a list": (b"train_lora = [1]", "train_lora = list"),
    "edits that never end": (b'edits = "/dev/zero"', "is not a regular file"),
    "edits that are a pipe": (b'edits = "pipe.png"', "is not a regular file"),
    "edits that are a folder": (b'edits = "."', "is not a regular file"),
    "edits with a long name": (b'edits = "' + b"x" * 900 + b'"', "File name too long"),
    "edits of a user who is none": (b'edits = "~nobody-of-that-name/x"', "home directory"),
    "edits with NUL": (b'edits = "a\\u0000"', "control character"),
    "a folder with a long name": (b'image_root = "' + b"x" * 900 + b'"', "File name too long"),
    "a folder that moves the cursor": (b'image_root = "\\u001b[2J"', "control character"),
    "a folder that is a file": (b'image_root = "cat.png"', "is not a folder"),
    "a model with a long name": (b'model = "' + b"x" * 900 + b'"', "File name too long"),
    "a segmenter of a user who is none": (b'segmenter = "~nobody-of-that-name/x"', "home"),
    "a LoRA that is a pickle": (b'lora = "lora.pt"', "is a pickle"),
    "a LoRA that is a pipe": (b'lora = "pipe.safetensors"', ".safetensors file"),
    "a LoRA with NUL": (b'lora = "a\\u0000.safetensors"', "control character"),
}


class Calling:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def text(word: bytes) -> bytes:
    return b"\x8c" + bytes([len(word)]) + word


def named(module: bytes, name: bytes) -> bytes:
    return b"\x80\x04" + text(module) + text(name) + b"\x93"


def meta(points: Any, mask: Any = None, prompt: Any = "a cat") -> bytes:
    return pickle.dumps({"prompt": prompt, "points": points, "mask": mask})


POINTS = [[1, 2], [3, 4]]
DEEP = b"]" * 5000 + b"a" * 4999

PICKLES: dict[str, tuple[bytes, str]] = {
    # name: (pickle, part of the message)
    "a command": (pickle.dumps(Calling(os.system, "touch hacked")), "names posix.system"),
    "an evaluation": (pickle.dumps(Calling(eval, "1")), "names builtins.eval"),
    "an import": (pickle.dumps(Calling(__import__, "os")), "names builtins.__import__"),
    "an attribute": (pickle.dumps(Calling(getattr, 1, "real")), "names builtins.getattr"),
    "numpy reading another pickle": (pickle.dumps(Calling(np.load, "x.npy")), "names numpy.load"),
    "numpy reading text": (pickle.dumps(Calling(np.fromfile, "x")), "names numpy.fromfile"),
    "numpy's test runner": (named(b"numpy", b"testing.main") + b".", "names numpy.testing.main"),
    "an attribute set on a function": (
        named(b"_codecs", b"encode") + b"N}" + text(b"hacked") + b"K\x01s\x86b.",
        "names _codecs.encode",
    ),
    "an attribute set on a type": (
        named(b"numpy._core.multiarray", b"_reconstruct")
        + b"N}"
        + text(b"hacked")
        + b"K\x01s\x86b.",
        "is skipped",
    ),
    "a list that holds one long list many times": (
        b"\x80\x04}"
        + text(b"prompt")
        + text(b"a")
        + b"s"
        + text(b"points")
        + b"]("
        + b"K\x01" * 40_000
        + b"e\x940]("
        + b"h\x00" * 40_000
        + b"es.",
        "points are not pairs",
    ),
    "a list in a list in a list": (
        b"\x80\x04}"
        + text(b"prompt")
        + text(b"a")
        + b"s"
        + text(b"points")
        + b"](]"
        + DEEP
        + b"aK\x01ae"
        + b"s.",
        "points are not pairs",
    ),
    "a coordinate of 5,000 digits": (meta([[10**5000, 2], [3, 4]]), "is not a coordinate"),
    "a coordinate that is a truth value": (meta([[True, 2], [3, 4]]), "is not a coordinate"),
    "a mask without pixels": (meta(POINTS, np.zeros((0, 5))), "0 rows and 5 columns"),
    "a mask of objects": (meta(POINTS, np.array([[{}]], object)), "array of type"),
    "points that are texts": (meta(["ab", "cd"]), "points is not a list of points"),
    "a prompt that is bytes": (meta(POINTS, prompt=b"cat"), "prompt is not a text"),
    "bytes beyond the file": (b"\x80\x04\x8e\xff\xff\xff\xff\x0f\0\0\0.", "is skipped"),
    "nothing on the stack": (b"\x80\x04R.", "is skipped"),
    "a mark that is not there": (b"\x80\x04e.", "is skipped"),
    "an object by its class": (b"\x80\x04)\x81.", "is skipped"),
    "an extension": (b"\x80\x04\x82\x01.", "is skipped"),
    "a persistent id": (b"\x80\x04K\x01Q.", "persistent"),
}


def chunk(name: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def png(width: int, height: int, pixels: bytes = b"", *more: bytes) -> bytes:
    """Return a gray PNG with these dimensions in its header."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(pixels, 9))]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IEND", b"")])


def encoded(picture: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, form)
    return file.getvalue()


def tiff_that_never_ends() -> bytes:
    """Return a TIFF without pixels whose only directory names itself as the next one."""
    entries = [(256, 3, 64), (257, 3, 48), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 1 << 30)]
    packed = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + struct.pack("<I", 8)


def write_images(folder: Path) -> None:
    """Write a good image, and the files of `IMAGES`; `folder` and its parent are the test's."""
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE[::-1], 3), np.uint8)
    picture = Image.fromarray(noise)
    whole, photo = encoded(picture, "PNG"), encoded(picture, "JPEG")
    outside = folder.parent / "outside"
    outside.mkdir()
    (folder / "folder.png").mkdir()
    (folder / "away").symlink_to(outside)
    for name, target in {
        "device.png": "/dev/zero",
        "link.png": outside / "secret.png",
        "dangling.png": "nothing.png",
        "loop.png": "loop.png",
    }.items():
        (folder / name).symlink_to(target)
    for name in ("pipe.png", "pipe.safetensors"):
        os.mkfifo(folder / name)
    header, checksum = whole[:16], whole[29:33]
    for path, data in {
        "cat.png": whole,
        "../secret.png": whole,
        "../outside/secret.png": whole,
        "small_mask.png": png(32, 32, b"\0" * 33 * 32),
        "truncated.png": whole[:-400],
        "checksum.png": whole.replace(checksum, b"\0\0\0\0", 1),
        "pixels.png": header + struct.pack(">IIBBBBB", *SIZE, 8, 2, 0, 0, 0)
        + whole[29:41] + b"\xff" * 40 + whole[81:],
        "truncated.jpg": photo[: len(photo) // 2],
        "empty.png": b"",
        "text.png": b"no image\n" * 100,
        "program.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n(x) run\n",
        "archive.png": whole[:8] + b"PK\x03\x04" + bytes(200),
        "bomb900.png": png(30_000, 30_000),
        "bomb178.png": png(13_370, 13_370),
        "bomb.webp": b"RIFF" + struct.pack("<I", 26) + b"WEBPVP8X" + struct.pack("<I", 10)
        + b"\x10\0\0\0" + (16382).to_bytes(3, "little") * 2 + b"VP8 \0\0\0\0",
        "bomb.ppm": b"P6 99999999 99999999 255\n",
        "bomb.bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 1 << 30, 1 << 30, 1, 24,
                                        0, 0, 0, 0, 0, 0),
        "empty.gif": b"GIF89a" + struct.pack("<HHBBB", *SIZE, 0x80, 0, 0) + bytes(6) + b";",
        "loop.tiff": tiff_that_never_ends(),
        "text_bomb.png": png(*SIZE, bytes(65 * 48),
                             chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80 << 20), 9))),
        "lora.pt": pickle.dumps(Calling(os.system, "touch hacked")),
    }.items():  # fmt: skip
        (folder / path).write_bytes(data)


def write_job(folder: Path) -> Path:
    """Write a job of a good edit, all bad ones, and another good one."""
    folder.mkdir(parents=True)
    write_images(folder)
    bad = []
    for number, (written, _) in enumerate(LINES.values()):
        if isinstance(written, dict) and written["id"] == "bad":
            written = {**written, "id": f"bad-{number}"}
        bad.append(written if isinstance(written, bytes) else json.dumps(written).encode())
    # Lines that are whole edits share an id; give each its own.
    bad = [data.replace(b'"id": "bad"', b'"id": "bad-%d"' % n, 1) for n, data in enumerate(bad)]
    good = [json.dumps(line(name)).encode() for name in ("cat", "dog")]
    (folder / "edits.jsonl").write_bytes(b"\n".join([good[0], *bad, good[1]]) + b"\n")
    (folder / "job.toml").write_text("")
    return folder / "job.toml"
