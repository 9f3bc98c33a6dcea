"""Peak memory of one 512 px edit with Stable Diffusion 1.5 in bfloat16 and SAM 2.1 large.

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adaptivedrag.config import EditConfig, InvertImageConfig, SampleImageConfig
from adaptivedrag.features import window
from adaptivedrag.inversion import invert
from adaptivedrag.model.architectures.sd1 import STABLE_DIFFUSION_1, ClipPrompts
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

SIDE = 512
POINTS = 10
"""Drags of the edit, the most that the paper shows at once."""
PROMPTS = 64
"""Points that SAM 2's automatic mask generator decodes at a time."""
LIMIT = 8 * 2**30
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


@cache
def stable_diffusion() -> DiffusionModel:
    """Return Stable Diffusion 1.5 in bfloat16 on the meta device, without a tokenizer."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with META:
        unet = UNet2DConditionModel(
            sample_size=SIDE // 8, cross_attention_dim=768, attention_head_dim=8
        )
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            sample_size=SIDE,
        )
        text = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=768, intermediate_size=3072, num_attention_heads=12, projection_dim=768
            )
        )
    for part in (unet, vae, text):
        part.bfloat16().eval().requires_grad_(False)
    schedule = Schedule(tuple(np.linspace(0.999, 0.005, 1000).tolist()))
    prompts = ClipPrompts(text, None)
    return DiffusionModel(STABLE_DIFFUSION_1, unet, vae, prompts, schedule, META, torch.bfloat16)


@cache
def segmenter() -> torch.nn.Module:
    """Return SAM 2.1 large on the meta device, in float32 as `Sam2` holds it."""
    return build_official("large").eval().requires_grad_(False).to(META)


def weights() -> dict[str, int]:
    """Return the bytes of each model's weights and buffers; a worker keeps all of them."""
    model = stable_diffusion()
    modules = {
        "UNet, bf16": model.unet,
        "VAE, bf16": model.vae,
        "text encoder, bf16": model.prompts.modules[0],
        "SAM 2.1 large, fp32": segmenter(),
    }
    return {name: size_of(*_tensors(module)) for name, module in modules.items()}


def _latents(batch: int = 1) -> Tensor:
    return torch.empty(batch, 4, SIDE // 8, SIDE // 8, device=META)


def _conditioning() -> Conditioning:
    return Conditioning(torch.empty(1, 77, 768, device=META, dtype=torch.bfloat16))


def lora_step(batch: int) -> Usage:
    """Measure a step of `train_lora` on `batch` samples, with the state to resume from."""
    model, rank = stable_diffusion(), PRESETS["paper"].train_lora.rank
    with adapter(model.unet, rank, torch.Generator()) as parameters, fused_attention():
        optimizer = torch.optim.AdamW(parameters.values())
        live = LiveBytes(model.unet)
        with live:
            times = torch.zeros(batch, dtype=torch.long, device=META)
            for _ in range(2):  # the second step finds the moments of the first
                with saved_for_backward(model.unet) as saved:
                    loss = functional.mse_loss(
                        model.predict(_latents(batch), times, _conditioning()),
                        _latents(batch),
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
        return Usage(f"train_lora, batch {batch}", parts, live.peak + own)


def _measured(stage: str, work: Callable[[], object], module: torch.nn.Module) -> Usage:
    live = LiveBytes(module)
    with fused_attention(), live:
        held = work()
    del held
    return Usage(stage, {}, live.peak)


@contextmanager
def _merged_lora() -> Iterator[int]:
    """Merge a LoRA as every later stage does; yield the bytes of the kept weights."""
    model = stable_diffusion()
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


def encoding() -> Usage:
    """Measure the VAE's pass from the image to its posterior."""
    model, image = stable_diffusion(), np.zeros((SIDE, SIDE, 3), np.uint8)
    return _measured("VAE encoding", lambda: model.posterior(image), model.vae)


def decoding() -> Usage:
    """Measure the VAE's pass from clean latents to the image."""
    model = stable_diffusion()

    def decode() -> Tensor:
        with torch.no_grad():
            return model.vae.decode(_latents().to(model.dtype)).sample.float()

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


def inversion(batch: int) -> Usage:
    """Measure DDIM inversion of several images at once."""
    model = stable_diffusion()
    with _merged_lora() as originals, _all_finite():
        usage = _measured(
            f"invert_image, batch {batch}",
            lambda: invert(model, _latents(batch), _conditioning(), TWO_STEPS),
            model.unet,
        )
    trajectory = size_of(_latents(batch)) * (EditConfig().invert_image.inverted_steps + 1)
    return _with_lora(usage.stage, {"trajectory": trajectory}, originals, usage.peak + trajectory)


def image_features() -> Usage:
    """Measure SAM 2's image encoder at its own input size."""
    model = segmenter()

    def encode() -> object:
        with torch.no_grad():
            return model.forward_image(torch.empty(1, 3, INPUT_SIZE, INPUT_SIZE, device=META))

    return _measured("extract_superpixels, image features", encode, model)


def segment_masks() -> Usage:
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
            return functional.interpolate(small, (SIDE, SIDE), mode="bilinear")

    return _measured("extract_superpixels, automatic segments", decode, model)


def drag_step() -> Usage:
    """Measure a step of preset `paper`: pass, tracking, losses, gradient, Adam."""
    model = stable_diffusion()
    config = PRESETS["paper"].optimize_latent
    latents = _latents().requires_grad_(True)
    optimizer = torch.optim.Adam([latents])
    cell = 16
    rows, cols = np.indices((SIDE // 2, SIDE // 2)) // cell
    regions = RegionMap.of(Superpixels((rows * (SIDE // 2 // cell) + cols).astype(np.int32)), META)
    handles = torch.zeros(POINTS, 2, dtype=torch.long, device=META)
    targets = torch.zeros(POINTS, 2, device=META)
    everyone = torch.ones(POINTS, dtype=torch.bool, device=META)
    initial = torch.empty(POINTS, 640, device=META)
    editable = torch.ones(SIDE // 8, SIDE // 8, dtype=torch.bool, device=META)

    def region(reach: int) -> tuple[Tensor, Tensor]:
        radius = torch.full((POINTS,), reach, device=META)
        return regions.contains(window(handles, reach), handles, targets, radius, handles), radius

    live = LiveBytes(model.unet)
    with _merged_lora() as originals, fused_attention(), live:
        for _ in range(2):
            with saved_for_backward(model.unet) as saved:
                noise, features = model.predict_with_features(latents, 681, _conditioning())
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
                loss = loss + background_loss(lower, _latents(), editable)
            activations = sum(storage.nbytes() for storage in saved)
            saved.clear()
            map_size = size_of(features)
            (latents.grad,) = torch.autograd.grad(loss, latents)
            del noise, features, lower, loss, inside, radius
            optimizer.step()
    moments = 2 * size_of(latents)
    parts = {"saved activations": activations, "feature map": map_size, "Adam moments": moments}
    return _with_lora("optimize_latent, one step", parts, originals, live.peak)


def sampling(batch: int) -> Usage:
    """Measure sampling of several edits of one image, without the correspondence loss."""
    model = stable_diffusion()
    frame = Frame.of_image(SIDE, SIDE, factor=8, working_size=SIDE)
    drags = [Drag(ImagePoint(9, 9), ImagePoint(99, 99))]
    config = SampleImageConfig(correspondence="off")
    trajectory = _latents(TWO_STEPS.inverted_steps + 1)
    reference = Reference(trajectory, _conditioning())
    editable = torch.empty(trajectory.shape[-2:], dtype=torch.bool, device=META)
    edit = DraggedEdit(_latents(), 0, drags, frame, editable)
    with _merged_lora() as originals, _all_finite():
        usage = _measured(
            f"sample_image, batch {batch}",
            lambda: sample(model, [reference], [edit] * batch, config, TWO_STEPS.num_steps),
            model.unet,
        )
    parts = {"reference keys and values": _reference_memory(model)}
    return _with_lora(usage.stage, parts, originals, usage.peak)


def _reference_memory(model: DiffusionModel) -> int:
    """Return the bytes that the controlled self-attentions keep of one reference pass."""
    controlled = list(model.self_attentions().values())[model.architecture.first_controlled :]
    with (
        reference_control(model, model.architecture.first_controlled) as control,
        fused_attention(),
        torch.no_grad(),
    ):
        with control.writing():
            model.predict_noise(_latents(), 681, _conditioning())
        return sum(size_of(*attention.processor.memory) for attention in controlled)


@cache
def stages() -> tuple[Usage, ...]:
    """Return the usage of every stage of an edit that holds anything on the device."""
    batch = PRESETS["paper"].train_lora.batch_size
    return (
        encoding(),
        lora_step(batch),
        lora_step(1),
        inversion(1),
        inversion(8),
        image_features(),
        segment_masks(),
        drag_step(),
        sampling(1),
        sampling(8),
        decoding(),
    )


def table() -> str:
    """Return both tables as Markdown, in MiB, and the total peaks in GiB."""
    held = weights()
    lines = ["| weights of all models, kept by a worker | MiB |", "| --- | ---: |"]
    lines += [f"| {name} | {_mib(size)} |" for name, size in held.items()]
    total = sum(held.values())
    lines += [f"| **together** | **{_mib(total)}** |", ""]
    lines += [
        "| stage | beside the weights | peak beside them, MiB | peak of all, GiB |",
        "| --- | --- | ---: | ---: |",
    ]
    for usage in stages():
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

    sys.stdout.write(table() + "\n")
