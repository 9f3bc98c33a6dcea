"""What callers of `edit` give, in the forms that they have, checked."""

import os
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, TypeAlias, cast, get_args

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from adaptivedrag.config import Runtime
from adaptivedrag.devices import device_fault
from adaptivedrag.errors import InvalidEdit
from adaptivedrag.methods.method import LoraChoice
from adaptivedrag.model.lora_files import LoraFile, find_lora
from adaptivedrag.model.prompts import LONGEST_PROMPT, is_plain
from adaptivedrag.pictures.decoding import DecodedImage, decode, range_note
from adaptivedrag.pictures.files import decoded, opened, read_picture
from adaptivedrag.pictures.masks import DecodedMask, decode_mask
from adaptivedrag.points import Drag, ImagePoint

GivenImage: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray
GivenDrag: TypeAlias = Sequence[Any] | Mapping[str, Any] | np.ndarray

_AGAIN = "open it again, or save it again"
GivenLora: TypeAlias = bool | str | os.PathLike[str]

_FARTHEST = 2**53
_MOST_THREADS = 1024
_FORMS = "give ((x, y), (x, y)), (x, y, x, y) or {'handle': (x, y), 'target': (x, y)}"


def given_image(image: GivenImage) -> DecodedImage:
    """Return an image as sRGB, upright and with what is transparent laid over white.

    Args:
        image: a path; a PIL image; or an array, taken to be sRGB: (height, width) or (height,
            width, 1) of gray or (height, width, 3 or 4) of RGB or RGBA, of uint8, of uint16 up to
            65535, or of floats from 0 to 1.

    Raises:
        InvalidEdit: if it cannot be read, or is an array of another shape, type or range.
    """
    if isinstance(image, np.ndarray):
        found = decode(Image.fromarray(_bytes(image)))
        note = range_note(int(image.max())) if image.dtype == np.uint16 else None
        return DecodedImage(found.pixels, (*found.notes, *([note] if note else [])))
    if isinstance(image, Image.Image):
        with decoded("image", _AGAIN):
            return decode(image)
    return read_picture(_path("image", image))


def given_mask(mask: GivenImage, size: tuple[int, int]) -> DecodedMask:
    """Return a mask as True where the image may change; files are read as `docs/masks.md` says.

    Args:
        mask: a path; a PIL image; or an array (height, width) of bool, or of uint8 like a file.
        size: height and width of the image.

    Raises:
        InvalidEdit: if it cannot be read, or is of another type or size.
    """
    found = _decoded_mask(mask)
    if found.values.shape != size:
        raise InvalidEdit(
            f"mask has the shape {found.values.shape} and the image {size}: give both the same size"
        )
    return found


def given_drags(drags: Sequence[GivenDrag] | np.ndarray) -> list[Drag]:
    """Return drags, each given as two points, as four numbers, or as in an edits file.

    Raises:
        InvalidEdit: if there are none, or for one of another form: its place and its value.
    """
    if isinstance(drags, np.ndarray):
        drags = drags.tolist()
    if isinstance(drags, str | Mapping) or not isinstance(drags, Sequence):
        raise InvalidEdit(f"drags is {_shown(drags)}: give a list of drags")
    if not drags:
        raise InvalidEdit("there are no drags: name at least one handle and target")
    return [_drag(place, drag) for place, drag in enumerate(drags)]


def given_prompt(prompt: str) -> str:
    """Return a prompt that can be used.

    Raises:
        InvalidEdit: if it is no text, is too long, or holds control characters.
    """
    if not isinstance(prompt, str):
        raise InvalidEdit(f"prompt is a {type(prompt).__name__}: give a text")
    if len(prompt) > LONGEST_PROMPT:
        raise InvalidEdit(
            f"prompt has {len(prompt)} characters, and {LONGEST_PROMPT} are taken: shorten it"
        )
    if not is_plain(prompt):
        raise InvalidEdit(f"prompt {_shown(prompt)} holds a control character: remove it")
    return prompt


def given_lora(lora: GivenLora) -> LoraChoice | LoraFile:
    """Return whether a LoRA is trained, or the file of one; True is "train" and False "off".

    Raises:
        InvalidEdit: if it is anything else, or a file that cannot be used.
    """
    if isinstance(lora, bool):
        return "train" if lora else "off"
    if isinstance(lora, str) and lora in get_args(LoraChoice):
        return cast(LoraChoice, lora)
    path = Path(lora).expanduser() if isinstance(lora, str | os.PathLike) else None
    if path is None or not path.exists():
        raise InvalidEdit(
            f'lora is {_shown(lora)}: give "auto", "train", "off", a .safetensors file or a folder '
            "with one"
        )
    return find_lora(path.absolute())


def given_runtime(runtime: Runtime | str) -> Runtime:
    """Return where work is done; the name of a device stands for it alone.

    Raises:
        InvalidEdit: if there is no such device, or threads is no count of them.
    """
    found = Runtime(runtime) if isinstance(runtime, str) else runtime
    if not isinstance(found, Runtime):
        raise InvalidEdit(f"runtime is a {type(runtime).__name__}: give a Runtime, or a device")
    threads = found.threads
    is_count = isinstance(threads, int) and 1 <= threads <= _MOST_THREADS
    if threads is not None and not is_count:
        raise InvalidEdit(
            f"threads = {_shown(threads)} cannot be used: give 1 to {_MOST_THREADS}, or None"
        )
    if fault := device_fault(found.device):
        raise InvalidEdit(f"device {_shown(found.device)} cannot be used: {fault}")
    return found


def given_name(kind: str, name: str | os.PathLike[str]) -> str:
    """Return the name of a model, which may be a path.

    Raises:
        InvalidEdit: if it is no text and no path.
    """
    if not isinstance(name, str | os.PathLike) or not os.fspath(name):
        raise InvalidEdit(f"{kind} is {_shown(name)}: give its name, a path or a hub id")
    return os.fspath(name)


def _bytes(array: np.ndarray) -> UInt8[np.ndarray, "h w *channels"]:
    """Return an array as uint8, (height, width) or (height, width, 3 or 4)."""
    if array.shape[2:] == (1,):
        array = array[..., 0]
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,), (4,)) or not array.size:
        raise InvalidEdit(
            f"image is an array of shape {array.shape}: give (height, width) or "
            "(height, width, 3 or 4), channels last"
        )
    _refuse_masked("image", array)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind not in "biuf":
        raise InvalidEdit(
            f"image is an array of {array.dtype}: give floats from 0 to 1, uint8, or uint16"
        )
    low, high = float(array.min()), float(array.max())
    if array.dtype == np.uint16 and not 0 < high <= 255:
        return (array >> 8).astype(np.uint8)
    if np.issubdtype(array.dtype, np.floating) and low >= 0 and high <= 1:  # NaN compares false
        return (array * 255).round().astype(np.uint8)
    raise InvalidEdit(
        f"image is an array of {array.dtype} with values from {low:g} to {high:g}: "
        "give floats from 0 to 1, uint8, or uint16 up to 65535"
    )


def _refuse_masked(name: str, array: np.ndarray) -> None:
    if isinstance(array, np.ma.MaskedArray):
        raise InvalidEdit(f"{name} is a masked array: give an array, such as {name}.filled(0)")


def _decoded_mask(mask: GivenImage) -> DecodedMask:
    if isinstance(mask, np.ndarray):
        _refuse_masked("mask", mask)
        if mask.dtype not in (bool, np.uint8) or mask.ndim != 2:
            raise InvalidEdit(
                f"mask is an array of {mask.dtype} of shape {mask.shape}: give bool or uint8 of "
                "shape (height, width)"
            )
        is_bool = mask.dtype == bool
        return DecodedMask(mask, ()) if is_bool else decode_mask(Image.fromarray(mask))
    if isinstance(mask, Image.Image):
        with decoded("mask", _AGAIN):
            return decode_mask(mask)
    with opened(_path("mask", mask)) as image:
        return decode_mask(image)


def _path(name: str, value: object) -> Path:
    if not isinstance(value, str | os.PathLike):
        raise InvalidEdit(
            f"{name} is a {type(value).__name__}: give a path, a PIL image or a NumPy array"
        )
    path = Path(value)
    if not os.fspath(value) or path.is_dir():
        raise InvalidEdit(f"{name} {str(value)!r} is not a file: name one")
    return path


def _drag(place: int, given: Any) -> Drag:
    found = given.tolist() if isinstance(given, np.ndarray) else given
    if isinstance(found, Mapping) and found.keys() == {"handle", "target"}:
        found = [found["handle"], found["target"]]
    if isinstance(found, Sequence) and len(found) == 4:
        found = [found[:2], found[2:]]
    if not isinstance(found, Sequence) or len(found) != 2 or not all(map(_is_point, found)):
        raise InvalidEdit(f"drags[{place}] is {_shown(given)}: {_FORMS}")
    handle, target = found
    return Drag(ImagePoint(*map(float, handle)), ImagePoint(*map(float, target)))


def _is_point(value: Any) -> bool:
    if not isinstance(value, Sequence | np.ndarray) or len(value) != 2:
        return False
    return all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    """Tell whether a value is a number in reach of a float; NaN and infinity are not."""
    is_real = isinstance(value, Real) and not isinstance(value, bool)
    return is_real and -_FARTHEST < value < _FARTHEST


def _shown(value: object) -> str:
    try:
        return " ".join(repr(value).split())[:80]
    except ValueError:  # Python refuses to write out a giant number
        return f"a {type(value).__name__}"
