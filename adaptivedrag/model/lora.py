"""Per-image LoRA (paper, Sec. 4.1 and Eq. 1): training, and merging into a UNet for a while."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from adaptivedrag.config import TrainLoraConfig
from adaptivedrag.errors import InvalidEdit, NotFinite, stop_of
from adaptivedrag.model.conditioning import Conditioning
from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.model.lora_files import layers_in
from adaptivedrag.model.lora_keys import Factors, Layers, factors_in, locate
from adaptivedrag.points import UNET_STRIDE

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""Adapted linears of every attention, self and cross: 128 in Stable Diffusion 1.5."""

PREFIX = "unet."
"""Key prefix under which diffusers' `load_lora_weights` finds the UNet's part."""

LoraWeights = Mapping[str, np.ndarray]
"""Tensors of a LoRA, float32, by the names of the tool that made it; ours are
`unet.<linear>.lora_A.weight` and `.lora_B.weight`, the layout that diffusers loads."""

LoraState = Mapping[str, Tensor]
"""Everything that training needs to resume after a step, by name; see `train_lora`."""


def seed_of_draws(seed: int, data: np.ndarray, prompt: str) -> int:
    """Mix a seed with what is drawn for, such as an image, so that no two share their draws."""
    mixed = hashlib.sha256(f"{seed}\0{data.shape}\0{prompt}\0".encode() + data.tobytes())
    return int.from_bytes(mixed.digest()[:7], "big")


def train_lora(
    model: DiffusionModel,
    posterior: tuple[Float[Tensor, "1 c h w"], Float[Tensor, "1 c h w"]],
    conditioning: Conditioning,
    config: TrainLoraConfig,
    *,
    seed: int,
    on_step: Callable[[int, int], None] = lambda _step, _steps: None,
    resume_from: LoraState | None = None,
    on_state: Callable[[int, LoraState], None] = lambda _step, _state: None,
    state_every: int = 0,
    at_once: int | None = None,
) -> tuple[dict[str, np.ndarray], list[float]]:
    """Fit a LoRA to one image; the model comes back as it was.

    The image is encoded once: every sample draws its latents from the posterior, a square crop of
    them when the image is not square, a timestep and noise, all from one generator on the CPU.

    Args:
        posterior: mean and standard deviation of the unpadded image's scaled latents.
        seed: seed of every draw, the adapter's initial values included.
        resume_from: what `on_state` was given by an earlier call with the same arguments; on the
            CPU the result has the bytes of a run that was never interrupted.
        on_state: called with the state after every `state_every` steps, if that is not 0, and
            before an end that `on_step` asks for with `Stopped`.
        at_once: pass a batch in parts of this size, whose gradients add up to the batch's:
            the same draws and steps in less memory, equal but for the order of sums.

    Returns:
        The weights, and the loss of every step.

    Raises:
        NotFinite: if a loss is not finite.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    with adapter(model.unet, config.rank, generator) as parameters:
        optimizer = torch.optim.AdamW(
            parameters.values(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        losses = torch.zeros(0)
        if resume_from is not None:
            losses = _restore(resume_from, parameters, optimizer, generator)
        fresh: list[Tensor] = []
        good = _state(parameters, optimizer, generator, losses) if state_every else {}
        for step in range(len(losses), config.steps):
            batch = training_batch(posterior, model, config.batch_size, generator)
            loss = torch.zeros((), device=model.device)
            for some in batch.split(at_once or config.batch_size):
                predicted = model.predict(some.latents, some.timesteps, conditioning, some.windows)
                share = len(some.latents) / config.batch_size
                part = share * torch.nn.functional.mse_loss(predicted, some.target)
                part.backward()
                loss += part.detach()
            model.passes.unet_backwards += config.batch_size
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            fresh.append(loss)
            last = step + 1 == config.steps
            stopped = stop_of(on_step, step + 1, config.steps)
            due = state_every and (stopped or (step + 1) % state_every == 0)
            if last or due:
                losses, fresh = torch.cat([losses, torch.stack(fresh).cpu()]), []
                _check(losses, good)
                if not last:
                    good = _state(parameters, optimizer, generator, losses)
                    on_state(step + 1, good)
            if stopped and not last:
                raise stopped
        weights = {
            f"{PREFIX}{name}": value.detach().float().cpu().numpy()
            for name, value in parameters.items()
        }
    return weights, losses.tolist()


def _state(
    parameters: Mapping[str, Tensor],
    optimizer: torch.optim.AdamW,
    generator: torch.Generator,
    losses: Float[Tensor, "steps"],
) -> LoraState:
    """Copy the parameters, the moments of their gradients, the generator and the losses so far."""
    state = {"losses": losses, "generator": generator.get_state()}
    for name, parameter in parameters.items():
        state[f"{name}.value"] = parameter.detach().clone()
        for moment in ("exp_avg", "exp_avg_sq"):
            held = optimizer.state[parameter].get(moment, torch.zeros_like(parameter))
            state[f"{name}.{moment}"] = held.detach().clone()
    return state


@torch.no_grad()
def _restore(
    state: LoraState,
    parameters: Mapping[str, Tensor],
    optimizer: torch.optim.AdamW,
    generator: torch.Generator,
) -> Float[Tensor, "steps"]:
    """Put everything back where it was; return the losses so far."""
    generator.set_state(state["generator"])
    for name, parameter in parameters.items():
        parameter.copy_(state[f"{name}.value"])
        optimizer.state[parameter] = {
            "step": torch.tensor(float(len(state["losses"]))),
            "exp_avg": state[f"{name}.exp_avg"].to(parameter.device),
            "exp_avg_sq": state[f"{name}.exp_avg_sq"].to(parameter.device),
        }
    return state["losses"].clone()


def _check(losses: Float[Tensor, "steps"], good: LoraState) -> None:
    wrong = (~losses.isfinite()).nonzero()
    if len(wrong):
        step = int(wrong[0])
        # The first loss is that of the model as it came.
        damaged = "use a wider dtype; if it is float32, the weights of the UNet are damaged"
        raise NotFinite(
            f"LoRA loss is not finite at step {step}: "
            f"{'lower train_lora.learning_rate' if step else damaged}",
            step=len(good.get("losses", ())),
            state=good,
        )


@contextmanager
def adapter(
    unet: torch.nn.Module, rank: int, generator: torch.Generator
) -> Iterator[dict[str, torch.nn.Parameter]]:
    """Attach a fresh float32 adapter through peft; yield its parameters by name; detach it."""
    from peft import LoraConfig

    name = "image"
    unet.add_adapter(
        LoraConfig(
            r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(TARGETS)
        ),
        adapter_name=name,
    )
    try:
        parameters = {}
        for full_name, parameter in unet.named_parameters():
            if f".{name}." not in full_name:
                continue
            parameter.data = parameter.data.float()
            if "lora_A" in full_name:  # peft draws from global state; ours is in the key
                draw = torch.randn(parameter.shape, generator=generator) / rank
                parameter.data.copy_(draw)
            parameter.requires_grad_(True)
            parameters[full_name.replace(f".{name}.", ".")] = parameter
        yield parameters
    finally:
        unet.unload_lora()
        unet.requires_grad_(False)


class TrainingBatch(NamedTuple):
    """What one step of training sees, and should predict; on the model's device."""

    latents: Float[Tensor, "b c side side"]
    """Noised."""
    target: Float[Tensor, "b c side side"]
    timesteps: Int[Tensor, "b"]
    windows: Float[Tensor, "b 6"]
    """Which part of the image each item is; see `DiffusionModel.predict`."""

    def split(self, size: int) -> "Iterator[TrainingBatch]":
        """Cut the batch into parts of at most `size` items."""
        return (
            TrainingBatch(*parts)
            for parts in zip(*(each.split(size) for each in self), strict=True)
        )


def training_batch(
    posterior: tuple[Tensor, Tensor],
    model: DiffusionModel,
    size: int,
    generator: torch.Generator,
) -> TrainingBatch:
    """Draw what one step sees: crops, noise and timesteps."""
    mean, deviation = (part.cpu() for part in posterior)
    rows, cols = mean.shape[-2:]
    side = max(UNET_STRIDE, min(rows, cols) // UNET_STRIDE * UNET_STRIDE)
    crops, corners = [], []
    for _ in range(size):
        top = int(torch.randint(rows - side + 1, (), generator=generator))
        left = int(torch.randint(cols - side + 1, (), generator=generator))
        window = (..., slice(top, top + side), slice(left, left + side))
        draw = torch.randn(mean[window].shape, generator=generator)
        crops.append(mean[window] + deviation[window] * draw)
        corners.append((top, left))
    clean = torch.cat(crops)
    noise = torch.randn(clean.shape, generator=generator)
    steps = len(model.schedule.alphas_cumprod)
    timesteps = torch.randint(steps, (size,), generator=generator)
    alphas = torch.tensor([model.schedule.alpha(int(step)) for step in timesteps])[
        :, None, None, None
    ]
    noised = alphas.sqrt() * clean + (1 - alphas).sqrt() * noise
    windows = [(rows, cols, *corner, side, side) for corner in corners]
    drawn = TrainingBatch(
        noised,
        model.schedule.target(clean, noise, alphas),
        timesteps,
        torch.tensor(windows).float() * model.factor,
    )
    return TrainingBatch(*(each.to(model.device) for each in drawn))


@contextmanager
def lora_applied(model: DiffusionModel, weights: LoraWeights | None) -> Iterator[None]:
    """Merge a LoRA into a model's weights; put the very same weights back on leaving.

    Merging saves 128 pairs of small products in every pass. The originals are kept, since
    subtracting the update again would leave rounding errors and make results depend on order.

    Args:
        weights: by the names of the tool that made them; those of text encoders count too.

    Raises:
        InvalidEdit: if the weights are for a layer that the model lacks, or do not fit it.
    """
    originals: dict[torch.nn.Module, Tensor] = {}
    try:
        for layer, update in _updates(model, weights or {}):
            originals[layer] = layer.weight.data
            merged = layer.weight.data.float() + update.to(layer.weight.device)
            layer.weight.data = merged.to(layer.weight.dtype)
        yield
    finally:
        for layer, weight in originals.items():
            layer.weight.data = weight.to(layer.weight.device)


def model_layers(model: DiffusionModel) -> Layers:
    """Return the layers of a model that a LoRA may adapt, by part."""
    return {
        part: layers_in({name: tuple(value.shape) for name, value in module.named_parameters()})
        for part, module in _parts(model).items()
    }


def _parts(model: DiffusionModel) -> dict[str, torch.nn.Module]:
    texts = zip(("text_encoder", "text_encoder_2"), model.prompts.modules, strict=False)
    return {"unet": model.unet, **dict(texts)}


def _updates(
    model: DiffusionModel, weights: LoraWeights
) -> Iterator[tuple[torch.nn.Module, Tensor]]:
    """Yield the layers that a LoRA adapts, each with the update of its weight; none if empty."""
    if not weights:
        return
    try:
        found = factors_in({name: np.shape(value) for name, value in weights.items()})
        places = locate(found, model_layers(model))
    except InvalidEdit as error:
        raise InvalidEdit(f"LoRA {error}") from None
    parts = _parts(model)
    for (part, name), factors in places.items():
        layer = parts[part].get_submodule(name)
        yield layer, _update(weights, factors).view(layer.weight.shape)


def _update(weights: LoraWeights, found: Factors) -> Float[Tensor, "rows columns"]:
    """Return alpha / rank · B·A, in float32, for a flattened weight."""
    tensors = {
        role: torch.from_numpy(np.asarray(weights[key], np.float32))
        for role, key in found.keys.items()
    }
    up, down = tensors["up"].flatten(1), tensors["down"]
    if "mid" in tensors:  # the middle of a LoCon mixes the outputs of A over its window
        down = torch.einsum("pq...,qi->pi...", tensors["mid"], down.flatten(1))
    alpha = tensors["alpha"].item() if "alpha" in tensors else found.rank
    return alpha / found.rank * (up @ down.flatten(1))
