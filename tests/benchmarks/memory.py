"""Peak memory of one edit in bfloat16: Stable Diffusion 1.5 at 512 px, SDXL at 1024, SAM 2.1 large.

`python tests/benchmarks/memory.py` prints the tables of `docs/memory.md`. It needs no GPU and
hardly any memory: the full-size models live on torch's meta device, which knows shapes and types
but holds no values, and the method's own modules run on them. Every storage that an operation makes
counts until it is freed, so the peaks are exact for tensors. The CUDA context, workspaces of
kernels and fragmentation come on top.

Attention is counted as a GPU computes it. The meta device would take torch's plain attention, which
holds a matrix of queries by keys; `fused_attention` puts the operators in its place that torch
takes on CUDA (flash attention for 16-bit heads of up to 256 channels, memory-efficient attention
otherwise), which save queries, keys, values, their result and one number per query.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adaptivedrag.config import EditConfig, InvertImageConfig, SampleImageConfig
from adaptivedrag.features import window
from adaptivedrag.inversion import invert
from adaptivedrag.model.architecture import Architecture
from adaptivedrag.model.architectures.sd1 import STABLE_DIFFUSION_1
from adaptivedrag.model.architectures.sdxl import STABLE_DIFFUSION_XL
from adaptivedrag.model.conditioning import Conditioning
from adaptivedrag.model.ddim import Schedule
from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.model.lora import PREFIX, adapter, lora_applied
from adaptivedrag.motion_supervision import background_loss, motion_loss
from adaptivedrag.point_tracking import track_points
from adaptivedrag.points import Drag, Frame, ImagePoint
from adaptivedrag.presets import PRESETS
from adaptivedrag.reference_control import reference_control
from adaptivedrag.sampling import DraggedEdit, Reference, sample
from adaptivedrag.segmenter.segmentation import INPUT_SIZE, build_official
from adaptivedrag.semantic_region import RegionMap
from adaptivedrag.superpixels import Superpixels

POINTS = 10
"""Drags of the edit, the most that the paper shows at once."""
PROMPTS = 64
"""Points that SAM 2's automatic mask generator decodes at a time."""
META = torch.device("meta")
TWO_STEPS = InvertImageConfig(num_steps=50, inverted_steps=2)
"""Steps to run: after more, inversion and sampling hold only a longer trajectory."""


class LiveBytes(TorchDispatchMode):
    """Bytes of the storages that were made while it is active and are still alive."""

    def __init__(self, weights: torch.nn.Module | None = None) -> None:
        super().__init__()
        self.now = self.peak = 0
        # Kept, so that no storage here is freed and its address reused.
        self._known = [value.untyped_storage() for value in _tensors(weights)]
        self._seen = {storage._cdata for storage in self._known}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for value in tree_leaves(made):
            if isinstance(value, Tensor) and value.device == META:
                self._add(value.untyped_storage())
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        address, size = storage._cdata, storage.nbytes()
        if address in self._seen:
            return
        self._seen.add(address)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove, address, size)

    def _remove(self, address: int, size: int) -> None:
        self._seen.discard(address)
        self.now -= size


@contextmanager
def fused_attention() -> Iterator[None]:
    """Compute attention by the operators that torch takes on CUDA."""

    def attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None):
        if query.dtype == torch.float32 or query.shape[-1] > 256 or attn_mask is not None:
            return torch.ops.aten._scaled_dot_product_efficient_attention(
                query, key, value, attn_mask, query.requires_grad, dropout_p, is_causal, scale=scale
            )[0]
        return torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, dropout_p, is_causal, scale=scale
        )[0]

    plain = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = plain


@contextmanager
def saved_for_backward(weights: torch.nn.Module) -> Iterator[list[torch.UntypedStorage]]:
    """Collect the storages that autograd keeps, each once and without the model's weights."""
    weight_storages = {value.untyped_storage()._cdata for value in _tensors(weights)}
    kept: dict[int, torch.UntypedStorage] = {}
    found: list[torch.UntypedStorage] = []

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage._cdata not in weight_storages:
            kept[storage._cdata] = storage
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        yield found
    found.extend(kept.values())


def _tensors(module: torch.nn.Module | None) -> list[Tensor]:
    return [] if module is None else [*module.parameters(), *module.buffers()]


def size_of(*tensors: Tensor) -> int:
    """Return the bytes of tensors that share no storage."""
    return sum(value.numel() * value.element_size() for value in tensors)


@dataclass(frozen=True)
class Usage:
    """What one stage holds beside the weights of all models, in bytes."""

    stage: str
    parts: dict[str, int]
    peak: int

    @property
    def transient(self) -> int:
        """The peak beyond the named parts."""
        return self.peak - sum(self.parts.values())


@dataclass(frozen=True, eq=False)
class Subject:
    """A full-size model in bfloat16, and the edit that it does."""

    architecture: Architecture
    side: int
    """Of the picture, in pixels."""
    limit: int
    """Bytes that the edit should fit into, with all that is not counted."""
    unet: Mapping[str, Any]
    texts: tuple[Mapping[str, Any], ...]
    """Configurations of the text encoders; the last of several has a projection."""
    checkpointing: bool = False
    """Whether gradient checkpointing is counted too."""

    @cached_property
    def model(self) -> DiffusionModel:
        """The model on the meta device, without tokenizers."""
        from diffusers import AutoencoderKL, UNet2DConditionModel

        with META:
            unet = UNet2DConditionModel(**self.unet)
            vae = AutoencoderKL(
                block_out_channels=(128, 256, 512, 512),
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                layers_per_block=2,
                sample_size=self.side,
            )
            prompts = NoPrompts(tuple(self._text_encoders()))
        for part in (unet, vae, *prompts.modules):
            part.bfloat16().eval().requires_grad_(False)
        schedule = Schedule(tuple(np.linspace(0.999, 0.005, 1000).tolist()))
        return DiffusionModel(self.architecture, unet, vae, prompts, schedule, META, torch.bfloat16)

    def _text_encoders(self) -> Iterator[torch.nn.Module]:
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

        for number, config in enumerate(self.texts):
            kind = CLIPTextModelWithProjection if number else CLIPTextModel
            yield kind(CLIPTextConfig(**config))

    def latents(self, batch: int = 1) -> Tensor:
        """Return latents of the picture's size."""
        return torch.empty(batch, 4, self.side // 8, self.side // 8, device=META)

    def conditioning(self) -> Conditioning:
        """Return what the text encoders make of a prompt."""
        width = self.model.unet.config.cross_attention_dim
        tokens = torch.empty(1, 77, width, device=META, dtype=torch.bfloat16)
        if not self.architecture.window_condition:
            return Conditioning(tokens)
        pooled = torch.empty(1, self.texts[-1]["projection_dim"], device=META)
        return Conditioning(tokens, {"text_embeds": pooled})

    def weights(self) -> dict[str, int]:
        """Return the bytes of each model's weights and buffers; a worker keeps all of them."""
        texts = [tensor for module in self.model.prompts.modules for tensor in _tensors(module)]
        return {
            "UNet, bf16": size_of(*_tensors(self.model.unet)),
            "VAE, bf16": size_of(*_tensors(self.model.vae)),
            "text encoders, bf16" if len(self.texts) > 1 else "text encoder, bf16": size_of(*texts),
            "SAM 2.1 large, fp32": size_of(*_tensors(segmenter())),
        }


@dataclass(frozen=True)
class NoPrompts:
    """Text encoders that encode nothing."""

    modules: tuple[torch.nn.Module, ...]

    def encode(self, prompt: str, device: torch.device) -> Conditioning:
        raise AssertionError(prompt)


_CLIP_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
SD_15 = Subject(
    STABLE_DIFFUSION_1,
    side=512,
    limit=8 * 2**30,
    unet={"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    texts=(_CLIP_L,),
)
SDXL = Subject(
    STABLE_DIFFUSION_XL,
    side=1024,
    limit=16 * 2**30,
    unet={
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": STABLE_DIFFUSION_XL.topology["down_block_types"],
        "up_block_types": STABLE_DIFFUSION_XL.topology["up_block_types"],
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    texts=(
        _CLIP_L,
        {
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 20,
            "projection_dim": 1280,
        },
    ),
    checkpointing=True,
)


@cache
def segmenter() -> torch.nn.Module:
    """Return SAM 2.1 large on the meta device, in float32 as `Sam2` holds it."""
    return build_official("large").eval().requires_grad_(False).to(META)


@contextmanager
def _checkpointing(model: DiffusionModel, *, on: bool) -> Iterator[str]:
    """Compute activations again for the backward pass, if `on`; yield how that is said."""
    if not on:
        yield ""
        return
    model.unet.enable_gradient_checkpointing()
    try:
        yield ", gradient checkpointing"
    finally:
        model.unet.disable_gradient_checkpointing()


def lora_step(subject: Subject, batch: int, *, checkpointing: bool = False) -> Usage:
    """Measure a step of `train_lora` on `batch` samples, with the state to resume from."""
    model, rank = subject.model, PRESETS["paper"].train_lora.rank
    with (
        adapter(model.unet, rank, torch.Generator()) as parameters,
        fused_attention(),
        _checkpointing(model, on=checkpointing) as measure,
    ):
        optimizer = torch.optim.AdamW(parameters.values())
        live = LiveBytes(model.unet)
        with live:
            times = torch.zeros(batch, dtype=torch.long, device=META)
            for _ in range(2):  # the second step finds the moments of the first
                with saved_for_backward(model.unet) as saved:
                    loss = functional.mse_loss(
                        model.predict(subject.latents(batch), times, subject.conditioning()),
                        subject.latents(batch),
                    )
                activations = sum(storage.nbytes() for storage in saved)
                saved.clear()
                loss.backward()
                gradients = size_of(*(value.grad for value in parameters.values()))
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                moments = [
                    moment
                    for state in optimizer.state.values()
                    for name, moment in state.items()
                    if name != "step"
                ]
                good = [value.clone() for value in (*parameters.values(), *moments)]
        own = size_of(*parameters.values())
        parts = {
            "saved activations": activations,
            "LoRA parameters": own,
            "their gradients": gradients,
            "AdamW moments": size_of(*moments),
            "state to resume from": size_of(*good),
        }
        # Parameters existed before counting; gradients arrive while activations go.
        return Usage(f"train_lora, batch {batch}{measure}", parts, live.peak + own)


def _measured(stage: str, work: Callable[[], object], module: torch.nn.Module) -> Usage:
    live = LiveBytes(module)
    with fused_attention(), live:
        held = work()
    del held
    return Usage(stage, {}, live.peak)


@contextmanager
def _merged_lora(model: DiffusionModel) -> Iterator[int]:
    """Merge a LoRA as every later stage does; yield the bytes of the kept weights."""
    with adapter(model.unet, PRESETS["paper"].train_lora.rank, torch.Generator()) as parameters:
        lora = {
            PREFIX + name: np.zeros(value.shape, np.float32) for name, value in parameters.items()
        }
    names = {name.removesuffix(".lora_A.weight") for name in lora if "lora_A" in name}
    linears = [model.unet.get_submodule(name.removeprefix(PREFIX)).weight for name in names]
    with lora_applied(model, lora):
        yield size_of(*linears)


def _with_lora(stage: str, parts: dict[str, int], originals: int, peak: int) -> Usage:
    return Usage(stage, {"weights under the merged LoRA": originals, **parts}, peak + originals)


def encoding(subject: Subject) -> Usage:
    """Measure the VAE's pass from the image to its posterior."""
    model, side = subject.model, subject.side
    image = np.zeros((side, side, 3), np.uint8)
    return _measured("VAE encoding", lambda: model.posterior(image), model.vae)


def decoding(subject: Subject) -> Usage:
    """Measure the VAE's pass from clean latents to the image."""
    model = subject.model

    def decode() -> Tensor:
        with torch.no_grad():
            return model.vae.decode(subject.latents().to(model.dtype)).sample.float()

    return _measured("VAE decoding", decode, model.vae)


@contextmanager
def _all_finite() -> Iterator[None]:
    """Take all values for finite, since meta tensors have none."""
    plain = torch.Tensor.__bool__
    torch.Tensor.__bool__ = lambda tensor: tensor.is_meta or plain(tensor)
    try:
        yield
    finally:
        torch.Tensor.__bool__ = plain


def inversion(subject: Subject, batch: int) -> Usage:
    """Measure DDIM inversion of several images at once."""
    model = subject.model
    with _merged_lora(model) as originals, _all_finite():
        usage = _measured(
            f"invert_image, batch {batch}",
            lambda: invert(model, subject.latents(batch), subject.conditioning(), TWO_STEPS),
            model.unet,
        )
    trajectory = size_of(subject.latents(batch)) * (EditConfig().invert_image.inverted_steps + 1)
    return _with_lora(usage.stage, {"trajectory": trajectory}, originals, usage.peak + trajectory)


def image_features() -> Usage:
    """Measure SAM 2's image encoder at its own input size."""
    model = segmenter()

    def encode() -> object:
        with torch.no_grad():
            return model.forward_image(torch.empty(1, 3, INPUT_SIZE, INPUT_SIZE, device=META))

    return _measured("extract_superpixels, image features", encode, model)


def segment_masks(image_side: int) -> Usage:
    """Measure SAM 2's mask decoder on one batch of the automatic generator's points."""
    model = segmenter()
    side = INPUT_SIZE // 16

    def decode() -> object:
        points = torch.empty(PROMPTS, 1, 2, device=META)
        labels = torch.ones(PROMPTS, 1, dtype=torch.int, device=META)
        with torch.no_grad():
            sparse, dense = model.sam_prompt_encoder(
                points=(points, labels), boxes=None, masks=None
            )
            small, *_ = model.sam_mask_decoder(
                image_embeddings=torch.empty(1, 256, side, side, device=META),
                image_pe=model.sam_prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=True,
                repeat_image=True,
                high_res_features=[
                    torch.empty(1, 32, 4 * side, 4 * side, device=META),
                    torch.empty(1, 64, 2 * side, 2 * side, device=META),
                ],
            )
            return functional.interpolate(small, (image_side, image_side), mode="bilinear")

    return _measured("extract_superpixels, automatic segments", decode, model)


def drag_step(subject: Subject, *, checkpointing: bool = False) -> Usage:
    """Measure a step of preset `paper`: pass, tracking, losses, gradient, Adam."""
    model = subject.model
    config = PRESETS["paper"].optimize_latent
    latents = subject.latents().requires_grad_(True)
    optimizer = torch.optim.Adam([latents])
    cell, side = 16, subject.side // 2
    rows, cols = np.indices((side, side)) // cell
    regions = RegionMap.of(Superpixels((rows * (side // cell) + cols).astype(np.int32)), META)
    handles = torch.zeros(POINTS, 2, dtype=torch.long, device=META)
    targets = torch.zeros(POINTS, 2, device=META)
    everyone = torch.ones(POINTS, dtype=torch.bool, device=META)
    initial = torch.empty(POINTS, 640, device=META)
    editable = torch.ones(latents.shape[-2:], dtype=torch.bool, device=META)

    def region(reach: int) -> tuple[Tensor, Tensor]:
        radius = torch.full((POINTS,), reach, device=META)
        return regions.contains(window(handles, reach), handles, targets, radius, handles), radius

    live = LiveBytes(model.unet)
    with (
        _merged_lora(model) as originals,
        fused_attention(),
        live,
        _checkpointing(model, on=checkpointing) as measure,
    ):
        for _ in range(2):
            with saved_for_backward(model.unet) as saved:
                noise, (features,) = model.predict_with_features(
                    latents, 681, subject.conditioning()
                )
                with torch.no_grad():
                    reach = config.tracking_radius_range[1]
                    inside, radius = region(reach)
                    track_points(features, initial, handles, inside, radius, reach, regions.size)
                reach = config.supervision_radius_range[1]
                inside, radius = region(reach)
                loss = motion_loss(
                    features, handles, targets, inside, radius, reach, regions.size, everyone
                )
                lower = model.schedule.move(latents, noise, 681, 661)
                loss = loss + background_loss(lower, subject.latents(), editable)
            activations = sum(storage.nbytes() for storage in saved)
            saved.clear()
            map_size = size_of(features)
            (latents.grad,) = torch.autograd.grad(loss, latents)
            del noise, features, lower, loss, inside, radius
            optimizer.step()
    moments = 2 * size_of(latents)
    parts = {"saved activations": activations, "feature map": map_size, "Adam moments": moments}
    return _with_lora(f"optimize_latent, one step{measure}", parts, originals, live.peak)


def sampling(subject: Subject, batch: int) -> Usage:
    """Measure sampling of several edits of one image, without the correspondence loss."""
    model = subject.model
    side = subject.side
    frame = Frame.of_image(side, side, factor=8, working_size=side)
    drags = [Drag(ImagePoint(9, 9), ImagePoint(99, 99))]
    config = SampleImageConfig(correspondence="off")
    trajectory = subject.latents(TWO_STEPS.inverted_steps + 1)
    reference = Reference(trajectory, subject.conditioning())
    editable = torch.empty(trajectory.shape[-2:], dtype=torch.bool, device=META)
    edit = DraggedEdit(subject.latents(), 0, drags, frame, editable)
    with _merged_lora(model) as originals, _all_finite():
        usage = _measured(
            f"sample_image, batch {batch}",
            lambda: sample(model, [reference], [edit] * batch, config, TWO_STEPS.num_steps),
            model.unet,
        )
    parts = {"reference keys and values": _reference_memory(subject)}
    return _with_lora(usage.stage, parts, originals, usage.peak)


def _reference_memory(subject: Subject) -> int:
    """Return the bytes that the controlled self-attentions keep of one reference pass."""
    model = subject.model
    controlled = list(model.self_attentions().values())[model.architecture.first_controlled :]
    with (
        reference_control(model, model.architecture.first_controlled) as control,
        fused_attention(),
        torch.no_grad(),
    ):
        with control.writing():
            model.predict_noise(subject.latents(), 681, subject.conditioning())
        return sum(size_of(*attention.processor.memory) for attention in controlled)


@cache
def stages(subject: Subject) -> tuple[Usage, ...]:
    """Return the usage of every stage of an edit that holds anything on the device."""
    batch = PRESETS["paper"].train_lora.batch_size
    return (
        encoding(subject),
        lora_step(subject, batch),
        lora_step(subject, 1),
        *([lora_step(subject, 1, checkpointing=True)] if subject.checkpointing else []),
        inversion(subject, 1),
        inversion(subject, 8),
        image_features(),
        segment_masks(subject.side),
        drag_step(subject),
        *([drag_step(subject, checkpointing=True)] if subject.checkpointing else []),
        sampling(subject, 1),
        sampling(subject, 8),
        decoding(subject),
    )


def table(subject: Subject) -> str:
    """Return both tables as Markdown, in MiB, and the total peaks in GiB."""
    held = subject.weights()
    lines = ["| weights of all models, kept by a worker | MiB |", "| --- | ---: |"]
    lines += [f"| {name} | {_mib(size)} |" for name, size in held.items()]
    total = sum(held.values())
    lines += [f"| **together** | **{_mib(total)}** |", ""]
    lines += [
        "| stage | beside the weights | peak beside them, MiB | peak of all, GiB |",
        "| --- | --- | ---: | ---: |",
    ]
    for usage in stages(subject):
        parts = [f"{name} {_mib(size)}" for name, size in usage.parts.items()]
        if usage.transient > 0:
            parts.append(f"working memory {_mib(usage.transient)}")
        lines.append(
            f"| {usage.stage} | {'; '.join(parts)} | {_mib(usage.peak)} "
            f"| {(usage.peak + total) / 2**30:.2f} |"
        )
    return "\n".join(lines)


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f}" if size >= 10 * 2**20 else f"{size / 2**20:.1f}"


if __name__ == "__main__":
    import sys

    for subject in (SD_15, SDXL):
        sys.stdout.write(table(subject) + "\n\n")
