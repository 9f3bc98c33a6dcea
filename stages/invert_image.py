"""Invert the image to the start timestep."""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from adaptivedrag.config import InvertImageConfig
from stages.stage import Made, Stage, Work, heard_by_all

if TYPE_CHECKING:
    from stages.jobs.edit import Edit
    from stages.planning.work import WorkItem

STAGE_VERSION = 1


def invert_image(works: Sequence[Work]) -> list[Made]:
    """Encode and invert; image + prompt + LoRA -> part `latents`, (steps + 1, c, h, w).

    Works of a batch have the same diffusion model, dtype, LoRA (or none), latent size and settings
    `invert_image`; images and prompts may differ.
    """
    import torch

    from adaptivedrag.inversion import invert
    from adaptivedrag.model.conditioning import Conditioning
    from adaptivedrag.model.lora import lora_applied

    model, config = works[0].load_diffusion(), works[0].config.invert_image
    before = replace(model.passes)
    clean = torch.cat([model.posterior(work.working_image())[0] for work in works])
    with lora_applied(model, works[0].upstream.get("train_lora", {}).get("lora")):
        encoded = [model.encode_prompt(work.edit.prompt) for work in works]
        prompts = Conditioning.concatenate(encoded)
        trajectories = invert(model, clean, prompts, config, on_step=heard_by_all(works))
    start = {"start_timestep": model.schedule.start(config.num_steps, config.inverted_steps)}
    return [
        Made({"latents": trajectory.cpu().numpy()}, start | passes)
        for trajectory, passes in zip(
            trajectories, model.passes.shares(before, len(works)), strict=True
        )
    ]


def _off(edit: "Edit") -> str:
    method = edit.config.optimize_latent
    return "" if method.needs_latents else f'the method "{method.method}" moves the picture'


def _together(item: "WorkItem") -> Hashable:
    """Return what works of a batch have in common."""
    return (*item.weights_and_size, item.resolved.config.invert_image)


STAGE = Stage(
    name="invert_image",
    version=STAGE_VERSION,
    section=InvertImageConfig,
    reads=lambda _config: ("image", "prompt"),
    needs=("train_lora",),
    models=("diffusion",),
    run=invert_image,
    also_in_key=lambda config: {"dtype": config.dtype},
    together=_together,
    off=_off,
    per_image=True,
    first_guess=5.0,
    steps=lambda config: config["inverted_steps"],
)
