"""LoRAs in the forms in which tools write them, all with updates that are known."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from adaptivedrag.model.layer_names import original_names
from adaptivedrag.model.lora_keys import Layers

RANK, ALPHA = 2, 6.0

Pairs = Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]]
"""A (rank × inputs…) and B (outputs × rank…) by part and layer."""


@dataclass
class Written:
    """What is written to disk for a LoRA.

    Attributes:
        words: of the header.
        config: of `adapter_config.json`, beside the file.
    """

    tensors: dict[str, np.ndarray]
    words: dict[str, str] = field(default_factory=dict)
    config: dict | None = None

    def save(self, folder: Path, name: str = "lora.safetensors") -> Path:
        """Write the files; return the LoRA's path."""
        folder.mkdir(exist_ok=True)
        save_file(self.tensors, folder / name, metadata={"format": "pt"} | self.words)
        if self.config is not None:
            (folder / "adapter_config.json").write_text(json.dumps(self.config))
        return folder / name


def draw_pairs(layers: Layers, wanted: Iterable[tuple[str, str]], rank: int = RANK) -> Pairs:
    """Draw the factors of updates for layers of a model."""
    draw = np.random.default_rng(0)
    pairs = {}
    for part, layer in wanted:
        rows, *columns = layers[part][layer]
        ends = (1,) * max(0, len(columns) - 1)
        pairs[part, layer] = (
            draw.normal(size=(rank, *columns)).astype(np.float32),
            draw.normal(size=(rows, rank, *ends)).astype(np.float32) * np.float32(0.1),
        )
    return pairs


def attentions(layers: Layers, *, text: bool = False) -> list[tuple[str, str]]:
    """Name a few attention layers of a model, those of its text encoder included if wanted."""
    block = "down_blocks.1.attentions.1.transformer_blocks.0"
    found = [("unet", f"{block}.{name}") for name in ("attn1.to_q", "attn2.to_k", "attn1.to_out.0")]
    found += [("unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_v")]
    texts = [name for name in layers["text_encoder"] if "self_attn" in name]
    return found + [("text_encoder", name) for name in texts if text]


def everywhere(layers: Layers) -> list[tuple[str, str]]:
    """Name one layer of every kind: attentions, feed-forwards, projections, convolutions."""
    return [
        *attentions(layers, text=True),
        ("text_encoder", "encoder.layers.0.mlp.fc1"),
        ("unet", "conv_in"),
        ("unet", "conv_out"),
        ("unet", "time_embedding.linear_1"),
        ("unet", "down_blocks.0.downsamplers.0.conv"),
        ("unet", "down_blocks.0.attentions.0.proj_in"),
        ("unet", "down_blocks.2.attentions.0.transformer_blocks.0.ff.net.0.proj"),
        ("unet", "down_blocks.2.resnets.1.conv1"),
        ("unet", "mid_block.resnets.1.time_emb_proj"),
        ("unet", "up_blocks.1.resnets.2.conv_shortcut"),
        ("unet", "up_blocks.2.upsamplers.0.conv"),
        ("unet", "up_blocks.3.attentions.2.proj_out"),
    ]


def named(
    pairs: Pairs,
    name: Callable[[str, str], str],
    down: str = ".lora_A.weight",
    up: str = ".lora_B.weight",
    alpha: float | None = None,
) -> dict[str, np.ndarray]:
    """Give factors the names of a tool: a stem of part and layer, and an ending each."""
    found = {}
    for (part, layer), (a, b) in pairs.items():
        stem = name(part, layer)
        found |= {stem + down: a, stem + up: b}
        if alpha is not None:
            found[f"{stem}.alpha"] = np.array(alpha, np.float32)
    return found


def diffusers(part: str, layer: str) -> str:
    """Name a layer as diffusers and transformers of before version 5 do."""
    return f"unet.{layer}" if part == "unet" else f"{part}.text_model.{layer}"


def old_diffusers(part: str, layer: str) -> str:
    """Name a layer as the processors of attention that diffusers once had."""
    if part == "unet":
        return "unet." + layer.replace(".to_", ".processor.to_").removesuffix(".0")
    for name in ("q", "k", "v", "out"):
        layer = layer.replace(f"{name}_proj", f"to_{name}")
    return f"{part}.text_model.{layer}"


def kohya(part: str, layer: str, text: str = "lora_te") -> str:
    """Name a layer as kohya does for Stable Diffusion 1.x and 2.x."""
    start = "lora_unet_" if part == "unet" else f"{text}_text_model_"
    return start + layer.replace(".", "_")


def original(layers: Layers, start: str, between: str) -> Callable[[str, str], str]:
    """Name layers as the original code does."""
    names = original_names(layers["unet"])
    return lambda _part, layer: start + names[layer].replace(".", between)


KOHYA = (".lora_down.weight", ".lora_up.weight")


def peft_settings(**changes: object) -> dict:
    """Return the settings that peft saves with a LoRA."""
    from peft import LoraConfig

    settings = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["to_q"]).to_dict()
    return {name: value for name, value in (settings | changes).items() if value is not None} | {
        "target_modules": ["to_q"]
    }


def header(**settings: object) -> dict[str, str]:
    """Return the words in which diffusers says the settings of peft."""
    return {"lora_adapter_metadata": json.dumps(settings)}


def write_lora(path: Path, model: str, factor: float = 1.0) -> Path:
    """Write a LoRA of one layer of a model, in diffusers' layout; return its path."""
    from stages.planning.models import adaptable_layers

    layers = adaptable_layers(model)
    pairs = draw_pairs(layers, attentions(layers)[:1])
    tensors = {name: value * np.float32(factor) for name, value in named(pairs, diffusers).items()}
    return Written(tensors).save(path.parent, path.name)
