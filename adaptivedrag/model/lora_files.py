"""LoRA files as people have them: found, refused by their header, and read.

The tensors of a file are taken as they are. What a tool says of their strength outside of them
(`adapter_config.json` of peft, the header that diffusers writes) becomes an alpha tensor for each
layer. Importing this loads no torch, so that a file is refused while edits are planned.
"""

import json
import math
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptivedrag.errors import InvalidEdit, ModelUnavailable
from adaptivedrag.model.lora_keys import (
    PEFT,
    Factors,
    Layers,
    Shapes,
    factors_in,
    kohya_names,
    locate,
)
from adaptivedrag.model.lora_strength import Strength
from adaptivedrag.model.tensors import FLOATING, Header, read_header

if TYPE_CHECKING:
    import numpy as np

_CONFIG = "adapter_config.json"
_IN_HEADER = "lora_adapter_metadata"
_IN_FOLDER = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors")
_PICKLES = (".bin", ".ckpt", ".pt", ".pth")


@dataclass(frozen=True)
class LoraFile:
    """A LoRA file whose header was read and found whole.

    Attributes:
        config: peft's settings beside it, if they say its strength.
        header_scales: whether its header gives updates another strength than its tensors do.
    """

    path: Path
    config: Path | None = None
    header_scales: bool = False

    @property
    def inputs(self) -> dict[str, Path]:
        """The files that its updates follow from, by the names of inputs."""
        found = {"lora_file": self.path}
        if self.config is not None:
            found["lora_config"] = self.config
        if self.header_scales:
            found["lora_header"] = self.path
        return found


def find_lora(path: Path) -> LoraFile:
    """Check a LoRA by its header, and find what says its strength.

    Args:
        path: a safetensors file, or a folder as peft or diffusers save one.

    Raises:
        InvalidEdit: in one line: what is wrong, and what to do.
    """
    file = _in_folder(path) if path.is_dir() else path
    _refuse_others(file)
    with _refusing(file):
        header, found = _read(file)
        strengths = _strengths_in(header)
        is_peft = file.name == _IN_FOLDER[0] or any(key.startswith(PEFT) for key in header.forms)
        if is_peft and not strengths:
            return LoraFile(file, _config_beside(file, found))
        _refuse_contradiction(file, strengths, found)
        scaled = any(
            strength.scales(each) for each in found if (strength := _of_part(strengths, each))
        )
        return LoraFile(file, header_scales=scaled)


def check_fit(file: LoraFile, layers: Layers) -> None:
    """Compare a LoRA with the layers of a model, without reading its values.

    Raises:
        InvalidEdit: if it is for another model; the message names which.
    """
    with _refusing(file.path):
        header, found = _read(file.path)
        locate(found, layers, header.words)


def read_lora(file: LoraFile) -> "dict[str, np.ndarray]":
    """Read a LoRA, with an alpha for every update whose strength is said outside of the tensors.

    Raises:
        InvalidEdit: if values are not finite or change nothing, or strengths contradict each other.
    """
    from safetensors.torch import load_file

    with _refusing(file.path):
        header, found = _read(file.path)
        weights = {name: value.float().numpy() for name, value in load_file(file.path).items()}
        _refuse_infinite(weights)
        strengths = _strengths_beside(file.config) if file.config else _strengths_in(header)
        for each in found:
            if strength := _of_part(strengths, each):
                _set_alpha(weights, each, strength.alpha(each))
        _refuse_nothing(weights, found)
        return weights


def encode_for_others(weights: "Mapping[str, np.ndarray]", layers: Layers) -> bytes:
    """Return the file that kohya would write of a LoRA: others take it at full strength.

    Args:
        layers: of the model that it is for.

    Raises:
        InvalidEdit: if it is for another model.
    """
    import numpy as np
    from safetensors.numpy import save

    endings = {"down": "lora_down.weight", "mid": "lora_mid.weight", "up": "lora_up.weight"}
    found = factors_in({name: value.shape for name, value in weights.items()})
    names, tensors = kohya_names(found, layers), {}
    for each in found:
        tensors[f"{names[each.stem]}.alpha"] = np.array(each.rank, np.float32)
        for role, key in each.keys.items():
            tensors[f"{names[each.stem]}.{endings.get(role, role)}"] = weights[key]
    return save(tensors, metadata={"format": "pt"})


def layers_in(shapes: Shapes) -> Shapes:
    """Return those of a state's weights that a LoRA may adapt, by the names of their layers."""
    suffix = ".weight"
    return {
        name.removesuffix(suffix): shape
        for name, shape in shapes.items()
        if name.endswith(suffix) and len(shape) in (2, 4)
    }


@contextmanager
def _refusing(file: Path) -> Iterator[None]:
    """Put the file's name before what is wrong with it."""
    try:
        yield
    except InvalidEdit as error:
        raise InvalidEdit(f"lora {file} {error}") from None
    except ModelUnavailable as error:
        raise InvalidEdit(f"lora {error}") from error
    except (ValueError, OSError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InvalidEdit(
            f"lora {file} cannot be read ({reason:.300}): name another file"
        ) from error


def _in_folder(folder: Path) -> Path:
    with _refusing(folder):
        usual = [folder / name for name in _IN_FOLDER if (folder / name).is_file()]
        if len(usual) > 1:
            raise InvalidEdit(f"holds both {' and '.join(_IN_FOLDER)}: name one of them")
        files = usual or sorted(folder.glob("*.safetensors"))
        pickles = sorted(path for path in folder.iterdir() if path.suffix in _PICKLES)
        if len(files) == 1:
            return files[0]
        if pickles and not files:
            return pickles[0]
        raise InvalidEdit(f"holds {len(files) or 'no'} .safetensors files: name one file")


def _refuse_others(file: Path) -> None:
    """Refuse what is no safetensors file by its name; a pickle, with what converts it."""
    if file.suffix.lower() in _PICKLES:
        code = (
            f"import torch, safetensors.torch as s; w = torch.load({str(file)!r}, "
            "weights_only=True); s.save_file({k: v.contiguous() for k, v in w.items()}, "
            f"{str(file.with_suffix('.safetensors'))!r})"
        )
        raise InvalidEdit(
            f"lora {file} is a pickle, which could run any code: convert it with "
            f"{shlex.join(('python', '-c', code))}"
        )
    if file.suffix.lower() != ".safetensors":
        raise InvalidEdit(f"lora {file} is not a .safetensors file: name one")


def _read(file: Path) -> tuple[Header, list[Factors]]:
    header = read_header(file)
    found = factors_in({name: form.shape for name, form in header.forms.items()})
    for each in found:
        for role, key in each.keys.items():
            if role != "alpha" and (kind := header.forms[key].dtype) not in FLOATING:
                raise InvalidEdit(
                    f"holds {key!r:.200} as {kind}, and only {', '.join(FLOATING)} are taken: "
                    "export it with one of them"
                )
    return header, found


def _config_beside(file: Path, found: Iterable[Factors]) -> Path | None:
    """Return peft's settings beside a file of peft; None if all its tensors say alpha."""
    config = file.with_name(_CONFIG)
    if config.is_file():
        _strengths_beside(config)
        return config
    if all("alpha" in each.keys for each in found):
        return None
    raise InvalidEdit(
        f"is peft's, whose strength is in {_CONFIG}, and there is none beside it: put it there"
    )


def _refuse_contradiction(
    file: Path, strengths: Mapping[str, Strength], found: Iterable[Factors]
) -> None:
    """Refuse a file in the names of peft or diffusers to which a config beside gives another alpha.

    Where neither header nor tensors say an alpha, it is the rank.
    """
    config = file.with_name(_CONFIG)
    if not config.is_file():
        return
    beside = _strengths_beside(config)[""]
    for each in found:
        own = _of_part(strengths, each)
        alpha = own.alpha(each) if own else each.rank
        of_peft = ".lora_A." in each.keys["down"] and "alpha" not in each.keys
        if of_peft and not math.isclose(alpha, beside.alpha(each)):
            raise InvalidEdit(
                f"has alpha {alpha:g} for {each.stem!r:.200} by itself, and {beside.alpha(each):g} "
                f"by the {_CONFIG} beside it: remove the wrong one"
            )


def _strengths_beside(config: Path) -> dict[str, Strength]:
    return {"": Strength.of(json.loads(config.read_bytes()), _CONFIG)}


def _strengths_in(header: Header) -> dict[str, Strength]:
    """Return the settings of peft that diffusers keeps in a header, by part; "" is for all."""
    raw = json.loads(header.words.get(_IN_HEADER, "{}"))
    if not isinstance(raw, dict):
        raise InvalidEdit(f"has a header whose {_IN_HEADER} is no object: name another file")
    by_part: dict[str, dict[str, Any]] = {}
    for name, value in raw.items():
        part, _, setting = name.rpartition(".")
        by_part.setdefault(part, {})[setting] = value
    return {part: Strength.of(settings, _IN_HEADER) for part, settings in by_part.items()}


def _of_part(strengths: Mapping[str, Strength], found: Factors) -> Strength | None:
    return strengths.get(found.part, strengths.get(""))


def _refuse_infinite(weights: "Mapping[str, np.ndarray]") -> None:
    import numpy as np

    wrong = next((name for name, value in weights.items() if not np.isfinite(value).all()), None)
    if wrong is not None:
        raise InvalidEdit(f"holds values in {wrong!r:.200} that are not finite: name another file")


def _refuse_nothing(weights: "Mapping[str, np.ndarray]", found: Iterable[Factors]) -> None:
    """Refuse a LoRA whose updates are all zero."""
    for each in found:
        keys = {*each.keys.values(), f"{each.stem}.alpha"} & weights.keys()
        if all(weights[key].any() for key in keys):
            return
    raise InvalidEdit('changes nothing: all its updates are zero: name another, or "off"')


def _set_alpha(weights: "dict[str, np.ndarray]", found: Factors, alpha: float) -> None:
    """Add the alpha of an update to its tensors, unless it is the rank, which is understood."""
    import numpy as np

    if key := found.keys.get("alpha"):
        if not np.isclose(weights[key].item(), alpha):
            raise InvalidEdit(
                f"has alpha {weights[key].item():g} for {found.stem!r:.200} in its tensors and "
                f"{alpha:g} in peft's settings: remove one"
            )
    elif alpha != found.rank:
        weights[f"{found.stem}.alpha"] = np.array(alpha, np.float32)
