"""Single files in the original layout, made of folders in diffusers' layout.

The names are the inverse of those that diffusers' converters make; written without them.
"""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from adaptivedrag.model.single_file import LAYOUTS

Weights = dict[str, torch.Tensor]

FAMILIES = {
    "sd1": "Stable Diffusion 1.x",
    "sd2": "Stable Diffusion 2.x",
    "sd2-v": "Stable Diffusion 2.x",
    "sdxl": "Stable Diffusion XL",
}
EPSILON = {"modelspec.prediction_type": "epsilon"}
"""What the header of a file says of a UNet that predicts the noise."""

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_AROUND = {
    "time_embedding.linear_": "time_embed.",
    "add_embedding.linear_": "label_emb.0.",
    "conv_in.": "input_blocks.0.0.",
    "conv_norm_out.": "out.0.",
    "conv_out.": "out.2.",
}
_VAE = {
    "mid_block.attentions.0": "mid.attn_1",
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
_OPEN_CLIP = {
    "layers.": "transformer.resblocks.",
    "encoder.": "",
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
}


def original_unet(weights: Weights) -> Weights:
    """Give a UNet's tensors the names of the original layout."""
    return {_of_unet(name, weights): value for name, value in weights.items()}


def _of_unet(name: str, every: Weights) -> str:
    for ours, theirs in _AROUND.items():
        if name.startswith(ours):
            number = {"1.": "0.", "2.": "2."} if ours.endswith("linear_") else {}
            rest = name.removeprefix(ours)
            return theirs + number.get(rest[:2], rest[:2]) + rest[2:]
    block, kind, place, rest = re.fullmatch(
        r"(?:down_blocks\.|up_blocks\.|mid_)(block|\d+)\.(\w+)\.(\d+)\.(.*)", name
    ).groups()
    index = int(place)
    if kind == "resnets":
        rest = re.sub(r"^\w+", lambda found: _RESNET[found[0]], rest)
    slot = 0 if kind == "resnets" else 1
    if name.startswith("mid_"):
        return f"middle_block.{2 * index if slot == 0 else 1}.{rest}"
    first = 3 * int(block)
    if name.startswith("down_"):
        if kind == "downsamplers":
            return f"input_blocks.{first + 3}.0.op.{rest.removeprefix('conv.')}"
        return f"input_blocks.{first + index + 1}.{slot}.{rest}"
    if kind == "upsamplers":
        attends = any(other.startswith(f"up_blocks.{block}.attentions.") for other in every)
        return f"output_blocks.{first + 2}.{1 + attends}.{rest}"
    return f"output_blocks.{first + index}.{slot}.{rest}"


def original_vae(weights: Weights) -> Weights:
    """Give a VAE's tensors the names of the original layout."""
    levels = 1 + max(int(found[1]) for name in weights if (found := _LEVEL.search(name)))
    return {_of_vae(name, levels): _as_convolution(name, of) for name, of in weights.items()}


_LEVEL = re.compile(r"encoder\.down_blocks\.(\d+)\.")


def _of_vae(name: str, levels: int) -> str:
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = re.sub(r"down_blocks\.(\d+)", r"down.\1", name)
    name = re.sub(r"up_blocks\.(\d+)", lambda m: f"up.{levels - 1 - int(m[1])}", name)
    name = re.sub(r"resnets\.(\d)", r"block.\1", name)
    name = re.sub(r"(down|up)samplers\.0", r"\1sample", name)
    for ours, theirs in _VAE.items():
        name = re.sub(rf"(?<![\w]){re.escape(ours)}(?=\.|$)", theirs, name)
    return name


def _as_convolution(name: str, value: torch.Tensor) -> torch.Tensor:
    """Attentions of the original VAE are convolutions of one pixel."""
    is_linear = "attentions" in name and name.endswith("weight") and value.ndim == 2
    return value[:, :, None, None] if is_linear else value


def original_clip(weights: Weights) -> Weights:
    """Give the tensors of OpenAI's text encoder the names of the original layout."""
    named = {f"text_model.{n.removeprefix('text_model.')}": value for n, value in weights.items()}
    positions = torch.arange(77)[None]
    return named | {"text_model.embeddings.position_ids": positions}


def original_open_clip(weights: Weights) -> Weights:
    """Give the tensors of OpenCLIP's text encoder the names of the original layout."""
    found = {}
    for name, value in weights.items():
        name = name.removeprefix("text_model.")
        if name == "text_projection.weight":
            found["text_projection"] = value.T.contiguous()
        elif ".q_proj." in name:
            rows = [weights[_key(weights, name, letter)] for letter in "qkv"]
            own = re.sub(r"\.self_attn\.q_proj\.(\w+)", r".attn.in_proj_\1", name)
            found[_renamed(own)] = torch.cat(rows)
        elif not re.search(r"\.[kv]_proj\.", name):
            found[_renamed(name)] = value
    return found | {"logit_scale": torch.ones(())}


def _key(weights: Weights, name: str, letter: str) -> str:
    ending = name.replace("q_proj", f"{letter}_proj")
    return next(key for key in weights if key.endswith(ending))


def _renamed(name: str) -> str:
    for ours, theirs in _OPEN_CLIP.items():
        name = name.replace(ours, theirs)
    return name


CONVERTERS = {"unet": original_unet, "vae": original_vae}


def original_weights(model: Path, family: str = "sd1") -> Weights:
    """Return the tensors of a folder as a single file of its family holds them."""
    found = {}
    for part, piece in LAYOUTS[FAMILIES[family]].items():
        if piece.convert is not None:
            (file,) = (model / part).glob("*.safetensors")
            is_open = piece.prefix.endswith(".model.")
            text = original_open_clip if is_open else original_clip
            named = CONVERTERS.get(part, text)(load_file(file))
            found |= {piece.prefix + name: value for name, value in named.items()}
    return found


def write_single_file(
    path: Path, weights: Weights, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a single file."""
    whole = {name: value.contiguous() for name, value in weights.items()}
    save_file(whole, path, metadata={"format": "pt", **(metadata or {})})
    return path


def settings_of(model: Path, folder: Path, family: str = "sd1") -> Path:
    """Lay the settings of a tiny model out as those that families were published with."""
    for part, piece in LAYOUTS[FAMILIES[family]].items():
        places = {piece.settings, piece.settings.replace("sd2/unet", "sd2_base/unet")}
        places |= {"noise/epsilon", "noise/v_prediction"} if part == "scheduler" else set()
        for place in sorted(places):
            for file in (model / part).iterdir():
                if file.suffix in (".json", ".txt"):
                    (folder / place).mkdir(parents=True, exist_ok=True)
                    shutil.copy(file, folder / place)
    return folder
