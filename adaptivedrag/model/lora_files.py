"""LoRA files as people have them: found, refused by their header, and read.

The tensors of a file are taken as they are. What a tool says of their strength outside of them
(`adapter_config.json` of peft, the header that diffusers writes) becomes an alpha tensor for each
layer. Importing this loads no torch, so that a file is refused while edits are planned.
"""

import json
import math
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

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
from adaptivedrag.model.tensors import FLOATING, Header, read_header

if TYPE_CHECKING:
    import numpy as np

_CONFIG = "adapter_config.json"
_IN_HEADER = "lora_adapter_metadata"
_IN_FOLDER = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors")
_PICKLES = (".bin", ".ckpt", ".pt", ".pth")

_TRAINING_ONLY = {
    "auto_mapping",
    "base_model_name_or_path",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
}
"""Settings of peft that change no number of a trained adapter."""

_PLAIN_VALUES: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    # With others, training begins by changing the weights of the model itself.
    "init_lora_weights": (True, "gaussian", "eva", "orthogonal"),
}


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


def _can_match(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r:.100} is no pattern: {error}") from None
    return pattern


_Number = Annotated[float, Field(allow_inf_nan=False)]
_Pattern = Annotated[str, AfterValidator(_can_match)]


class _Strength(BaseModel):
    """The settings of peft that scale updates."""

    model_config = ConfigDict(extra="ignore", strict=True)

    r: Annotated[int, Field(ge=1)]
    lora_alpha: _Number
    use_rslora: bool = False
    rank_pattern: dict[_Pattern, int] = {}
    alpha_pattern: dict[_Pattern, _Number] = {}

    def scales(self, found: Factors) -> bool:
        """Tell whether an update may have another strength than without these settings."""
        return self.use_rslora or bool(self.alpha_pattern) or found.rank != self.lora_alpha

    def alpha(self, found: Factors) -> float:
        """Return alpha, where an update is alpha / rank · B·A.

        Raises:
            InvalidEdit: if the rank is not that of the tensors.
        """
        from peft.utils.other import get_pattern_key

        name = found.stem.removeprefix(PEFT).removeprefix(f"{found.part}.")
        rank = self.rank_pattern.get(get_pattern_key(list(self.rank_pattern), name), self.r)
        if rank != found.rank:
            raise InvalidEdit(
                f"has rank {found.rank} for {found.stem!r:.200}, and peft's settings for it say "
                f"{rank}: they are of another file"
            )
        alpha = self.alpha_pattern.get(
            get_pattern_key(list(self.alpha_pattern), name), self.lora_alpha
        )
        return alpha * math.sqrt(rank) if self.use_rslora else alpha


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
        files = usual or sorted(folder.glob("*.safetensors"))
        pickles = sorted(path for path in folder.iterdir() if path.suffix in _PICKLES)
        if files and (usual or len(files) == 1):
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


def _strengths_beside(config: Path) -> dict[str, _Strength]:
    return {"": _strength(json.loads(config.read_bytes()), _CONFIG)}


def _strengths_in(header: Header) -> dict[str, _Strength]:
    """Return the settings of peft that diffusers keeps in a header, by part; "" is for all."""
    raw = json.loads(header.words.get(_IN_HEADER, "{}"))
    if not isinstance(raw, dict):
        raise InvalidEdit(f"has a header whose {_IN_HEADER} is no object: name another file")
    by_part: dict[str, dict[str, Any]] = {}
    for name, value in raw.items():
        part, _, setting = name.rpartition(".")
        by_part.setdefault(part, {})[setting] = value
    return {part: _strength(settings, _IN_HEADER) for part, settings in by_part.items()}


def _strength(settings: Any, source: str) -> _Strength:
    """Check settings of peft.

    Raises:
        InvalidEdit: if there is one that changes the updates in a way that is not implemented.
    """
    if not isinstance(settings, dict):
        raise InvalidEdit(f"has settings in {source} that are no object: name another file")
    try:
        given = {name: value for name, value in settings.items() if value is not None}
        strength = _Strength.model_validate(given)
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False)
        place = ".".join(map(str, first["loc"]))
        raise InvalidEdit(
            f"has settings in {source} that cannot be read ({place}: {first['msg']})"
        ) from None
    for name, value in settings.items():
        known = name in _TRAINING_ONLY or name in _Strength.model_fields
        if value and not known and value not in _PLAIN_VALUES.get(name, ()):
            raise InvalidEdit(
                f"has {name} = {value!r:.100} in {source}, and only plain LoRA is taken: export it "
                "as LoRA, or merge it into the model with the tool that made it"
            )
    return strength


def _of_part(strengths: Mapping[str, _Strength], found: Factors) -> _Strength | None:
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
