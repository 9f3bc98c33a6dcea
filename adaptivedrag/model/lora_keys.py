"""What the keys of a LoRA's tensors mean: which layer of a model they adapt, and as which factor.

kohya, OneTrainer, ComfyUI, LyCORIS, peft, diffusers and DragDiffusion each have names of their own
for the same layers. They are looked up among the names of the model's layers. No torch is loaded.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.model.layer_names import flat, layers_by_alias, original_names

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
Layers: TypeAlias = Mapping[str, Shapes]
"""Shapes of the weights of a model's layers, by its part ("unet", "text_encoder", …) and name."""

PEFT = "base_model.model."

_PARTS = {
    "lora_unet_": "unet",
    "lycoris_": "unet",
    "unet.": "unet",
    "model.diffusion_model.": "unet",
    "diffusion_model.": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "text_encoder.": "text_encoder",
    "text_model.": "text_encoder",
    "text_encoders.clip_l.transformer.": "text_encoder",
    "text_encoders.clip_h.transformer.": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "text_encoder_2.": "text_encoder_2",
    "text_encoders.clip_g.transformer.": "text_encoder_2",
}
_KEY = re.compile(
    r"(?P<stem>.+?)(?:\.lora_(?P<new>A|B|down|up|mid)(?:\.\w+)?\.weight"
    r"|[._]lora(?:_linear_layer)?\.(?P<old>down|up)\.weight|\.(?P<alpha>alpha))"
)
_OF_TEXT = re.compile(r"(encoder\.layers|embeddings)\.")
_ROLES = {"A": "down", "B": "up"}
_OTHER_KINDS = {
    "DoRA": r"dora_scale|lora_magnitude_vector",
    "LoHa": r"\.hada_",
    "LoKr": r"\.lokr_",
    "OFT": r"\.b?oft_",
    "IA3": r"ia3_l|\.on_input",
    "GLoRA": r"\.[ab][12]\.weight$",
    "VeRA": r"vera_lambda",
    "ControlNet's LoRA": r"^lora_controlnet$",
    "whole weights": r"\.(diff|diff_b|set_weight|w_norm|b_norm)$",
    "embeddings": r"lora_embedding_|bundle_emb|emb_params|^clip_[lg]$",
    "biases": r"lora.*\.bias$",
}
_CONTEXT_WIDTHS = {
    768: "Stable Diffusion 1.x",
    1024: "Stable Diffusion 2.x",
    2048: "Stable Diffusion XL",
}
_NO_UNET = re.compile(
    r"^(lora_)?transformer[._]|(double|single|joint)_blocks|^lora_prior_"
    r"|^(lora_unet_|diffusion_model\.|)blocks[._]\d"
)


@dataclass(frozen=True)
class Factors:
    """The tensors of one layer's update.

    Attributes:
        stem: what their keys have in common.
        keys: by role: "down" and "up", and perhaps "mid" and "alpha".
        part: the part of a model that the layer is in.
        layer: the name of the layer in that part, as the tool writes it.
        shape: rows and columns of the update, as of a flattened weight.
    """

    stem: str
    keys: Mapping[str, str]
    part: str
    layer: str
    rank: int
    shape: tuple[int, int]


def factors_in(shapes: Shapes) -> list[Factors]:
    """Sort the tensors of a LoRA by the layers that they adapt.

    Raises:
        InvalidEdit: if one has no place in an update, or an update is not whole.
    """
    stems: dict[str, dict[str, str]] = {}
    for key in shapes:
        stem, role = _stem_and_role(key)
        keys = stems.setdefault(stem, {})
        if role in keys:
            raise InvalidEdit(f"holds two LoRAs, {keys[role]!r:.200} and {key!r:.200}: split it")
        keys[role] = key
    if not stems:
        raise InvalidEdit("holds no tensors: name another file")
    return [_factors(stem, keys, shapes) for stem, keys in stems.items()]


def _stem_and_role(key: str) -> tuple[str, str]:
    kind = next((kind for kind, words in _OTHER_KINDS.items() if re.search(words, key)), None)
    if kind is not None:
        raise InvalidEdit(
            f"holds {kind} ({key!r:.200}), and only LoRA is taken: export it as LoRA, or merge it "
            "into the model with the tool that made it"
        )
    found = _KEY.fullmatch(key)
    if found is None:
        raise InvalidEdit(
            f"holds {key!r:.200}, which no known tool gives a LoRA: remove it from the file, or "
            "name another"
        )
    role = found["new"] or found["old"] or found["alpha"]
    return found["stem"], _ROLES.get(role, role)


def _factors(stem: str, keys: Mapping[str, str], shapes: Shapes) -> Factors:
    if not {"up", "down"} <= keys.keys():
        raise InvalidEdit(f"holds only one half of {stem!r:.200}: the file is incomplete")
    up, down = shapes[keys["up"]], shapes[keys["down"]]
    rank = down[0] if down else 0
    mid = shapes[keys["mid"]] if "mid" in keys else (rank, rank)
    alpha = shapes[keys["alpha"]] if "alpha" in keys else ()
    is_whole = len(up) >= 2 <= len(down) and math.prod(up[1:]) == rank > 0
    has_middle = mid[:2] == (rank, rank) and (len(mid) == 2 or math.prod(down[2:]) == 1)
    if not (is_whole and has_middle and math.prod(alpha) == 1):
        raise InvalidEdit(
            f"has {up} and {down} for {stem!r:.200}, which are no factors of one update: the file "
            "is damaged"
        )
    name = stem.removeprefix(PEFT)
    prefix = next((prefix for prefix in _PARTS if name.startswith(prefix)), "")
    # transformers 5 writes the names of a text encoder without the text_model. before them.
    alone = "text_encoder" if _OF_TEXT.match(name) else "unet"
    part, layer = _PARTS.get(prefix, alone), name.removeprefix(prefix)
    columns = math.prod(down[1:]) * math.prod(mid[2:])
    return Factors(stem, keys, part, layer, rank, (up[0], columns))


def locate(
    found: Sequence[Factors], layers: Layers, words: Mapping[str, str] = MappingProxyType({})
) -> dict[tuple[str, str], Factors]:
    """Find the layers of a model that updates are for, by part and name.

    Args:
        words: what the file's header says.

    Raises:
        InvalidEdit: if one is for a layer that the model lacks, or does not fit it.
    """
    aliases = {part: layers_by_alias(shapes) for part, shapes in layers.items()}
    places: dict[tuple[str, str], Factors] = {}
    for each in found:
        layer = aliases.get(each.part, {}).get(flat(each.layer))
        if layer is None:
            raise InvalidEdit(
                f"adapts {each.stem!r:.200}, which this model lacks: it is for "
                f"{_made_for(found, layers, words)}; name one for this model"
            )
        rows, *columns = layers[each.part][layer]
        if each.shape != (wanted := (rows, math.prod(columns))):
            raise InvalidEdit(
                f"has an update of {each.shape} for {each.stem!r:.200}, and this model's layer has "
                f"{wanted}: it is for {_made_for(found, layers, words)}; name one for this model"
            )
        if (other := places.setdefault((each.part, layer), each)) is not each:
            raise InvalidEdit(
                f"adapts one layer twice, as {other.stem!r:.200} and {each.stem!r:.200}: split it"
            )
    return places


def _made_for(found: Sequence[Factors], layers: Layers, words: Mapping[str, str]) -> str:
    """Say which models a LoRA is for, as far as its header or its shapes tell."""
    for key in ("modelspec.architecture", "ss_base_model_version"):
        if key in words:
            return f"{words[key]!r:.100}"
    if any(_NO_UNET.search(each.stem.removeprefix(PEFT)) for each in found):
        return "a model without a UNet, such as FLUX or Stable Diffusion 3"
    widths = {each.shape[1] for each in found if flat(each.layer).endswith("attn2_to_k")}
    own = {columns[1] for name, columns in layers["unet"].items() if name.endswith("attn2.to_k")}
    names = [_CONTEXT_WIDTHS[width] for width in widths - own if width in _CONTEXT_WIDTHS]
    is_xl = "text_encoder_2" not in layers and any(each.part == "text_encoder_2" for each in found)
    return next(iter(names), "Stable Diffusion XL" if is_xl else "another model")


def kohya_names(found: Sequence[Factors], layers: Layers) -> dict[str, str]:
    """Return the stems by which kohya's loaders, ComfyUI and diffusers know the layers, by ours.

    For Stable Diffusion XL kohya has the names of the original code, for others those of diffusers.

    Raises:
        InvalidEdit: see `locate`.
    """
    is_xl = "text_encoder_2" in layers
    texts = {"text_encoder": "lora_te1_" if is_xl else "lora_te_", "text_encoder_2": "lora_te2_"}
    originals = original_names(layers["unet"]) if is_xl else {}
    names = {}
    for (part, layer), each in locate(found, layers).items():
        if part == "unet":
            names[each.stem] = f"lora_unet_{flat(originals.get(layer, layer))}"
        else:
            inside = "" if layer == "text_projection" else "text_model_"
            names[each.stem] = f"{texts[part]}{inside}{flat(layer)}"
    return names
