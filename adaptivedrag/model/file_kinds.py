"""What a .safetensors file is that is no checkpoint of a Stable Diffusion, by the names in it."""

import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

LDM_UNET = "model.diffusion_model."
LDM_VAE = "first_stage_model."
"""Prefixes of UNet and VAE in the original layout."""

_DIFFUSERS_UNET = r"(down_blocks|up_blocks|mid_block)\."
_KINDS: tuple[tuple[str, str], ...] = (
    (
        r".*(\.lora_(up|down|A|B)\b|_lora\.(up|down)\b|\.hada_w|\.lokr_w|^lora_(unet|te)).*",
        'a LoRA: give it as lora = "…", beside the model that it was trained on',
    ),
    (
        r"(control_model\.|controlnet_|input_hint_block\.).*",
        "a ControlNet: edits need a text-to-image model",
    ),
    (r"(image_proj|ip_adapter)\b.*", "an IP-Adapter: edits need a text-to-image model"),
    (r"(emb_params|clip_[lg]|string_to_param.*)", "a textual inversion, which is not supported"),
    (
        rf"{re.escape(LDM_UNET)}{_DIFFUSERS_UNET}.*",
        "a checkpoint with diffusers' names under the prefixes of the original layout, which no "
        "loader takes: save it as a folder with diffusers' save_pretrained, and name that",
    ),
    (
        rf"(unet\.)?{_DIFFUSERS_UNET}.*",
        "a UNet in diffusers' layout: name the folder of the whole model, with unet, vae, "
        "text_encoder, tokenizer and scheduler in it",
    ),
    (
        r"(model\.diffusion_model\.)?(joint_blocks|double_blocks|double_layers|transformer_blocks"
        r"|single_transformer_blocks|blocks|layers)\..*",
        "a transformer, as Stable Diffusion 3 and FLUX are: use a Stable Diffusion with a UNet",
    ),
    (
        r"(first_stage_model\.|vae\.)?(encoder|decoder)\.(conv_in|down|up|mid).*",
        'a VAE: give it as vae = "…", beside a model',
    ),
    (
        r"(.*\.)?(encoder\.layers\.\d+\.self_attn|transformer\.resblocks|encoder\.block)\..*",
        "a text encoder: name a checkpoint of a whole model",
    ),
)
"""Patterns of names with what they show, the first one counts."""


def kind_of_file(names: Iterable[str]) -> str:
    """Say what a file with tensors of these names is, and what to do with it."""
    every = sorted(names)
    if not every:
        return "empty: fetch it again"
    for pattern, kind in _KINDS:
        if any(re.fullmatch(pattern, name) for name in every):
            return kind
    return f"no Stable Diffusion: its first tensor is {every[0]:.80}"


def is_pickle(name: str) -> bool:
    """Tell whether a file's name says that it is a pickle with tensors in it."""
    return re.fullmatch(r"(?i).+\.(ckpt|bin|pt|pth)", name) is not None


def conversion(name: str) -> str:
    """Return the command that makes a .safetensors file of a pickle with tensors in it."""
    target = name.rpartition(".")[0] + ".safetensors"
    return (
        f"{shlex.quote(sys.executable)} -c "
        '"import sys, torch; from safetensors.torch import save_file; '
        "d = torch.load(sys.argv[1], map_location='cpu', weights_only=True); "
        "d = d.get('state_dict', d); "
        "save_file({k: v.clone().contiguous() for k, v in d.items() if torch.is_tensor(v)}, "
        f'sys.argv[2])" {shlex.quote(name)} {shlex.quote(target)}'
    )


def folder_conversion(folder: Path) -> str:
    """Return what to do for .safetensors files in place of the pickles of a folder."""
    target = f"{folder}-safetensors"
    return (
        "make a copy with .safetensors files with "
        f"{shlex.quote(sys.executable)} -c "
        '"import sys; from diffusers import DiffusionPipeline as P; '
        'P.from_pretrained(sys.argv[1], use_safetensors=False).save_pretrained(sys.argv[2])" '
        f"{shlex.quote(str(folder))} {shlex.quote(target)}"
    )
