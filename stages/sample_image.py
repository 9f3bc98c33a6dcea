"""Sample the edited image from the optimized latents."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from artifacts import Picture
from stages.stage import Made, Stage, Work

if TYPE_CHECKING:
    import numpy as np

    from adaptivedrag.model.diffusion import DiffusionModel
    from adaptivedrag.sampling import DraggedEdit, Reference

STAGE_VERSION = 1


def sample_image(works: Sequence[Work]) -> list[Made]:
    """Everything before it but superpixels + prompt + drags -> part `image`, native size.

    Works of a batch have the same diffusion model, dtype, LoRA (or none), latent size, number of
    inversion steps and settings `sample_image`. Those with equal inverted latents and prompts share
    the passes of their reference, which count in equal shares for all works of the batch.
    """
    from adaptivedrag.model.diffusion import native_image
    from adaptivedrag.model.lora import lora_applied
    from adaptivedrag.sampling import sample

    def on_step(step: int, steps: int) -> None:
        for work in works:
            work.on_step(step, steps)

    model, config = works[0].load_diffusion(), works[0].config
    before = replace(model.passes)
    images: dict[int, Picture] = {}
    with lora_applied(model.unet, works[0].upstream.get("train_lora", {}).get("lora")):
        for level, places in _by_level(works).items():
            references, edits = _references_and_edits([works[at] for at in places], level, model)
            _, sampled = sample(
                model,
                references,
                edits,
                config.sample_image,
                config.invert_image.num_steps,
                on_step=on_step,
            )
            for at, latents in zip(places, sampled, strict=True):
                images[at] = Picture(native_image(model.decode(latents[None]), works[at].frame))
    shares = model.passes.shares(before, len(works))
    return [Made({"image": images[at]}, passes) for at, passes in enumerate(shares)]


def _by_level(works: Sequence[Work]) -> dict[int, list[int]]:
    """Return the places of the works that begin at each level; that of the inversion as a rule."""
    found: dict[int, list[int]] = {}
    for place, work in enumerate(works):
        inverted_steps = work.config.invert_image.inverted_steps
        level = work.upstream["optimize_latent"].get("level", inverted_steps)
        found.setdefault(level, []).append(place)
    return found


def _references_and_edits(
    works: Sequence[Work], level: int, model: "DiffusionModel"
) -> "tuple[list[Reference], list[DraggedEdit]]":
    """Return the edits of a batch, and each reference that they have once, up to their level."""
    import torch

    from adaptivedrag.masks import latent_mask
    from adaptivedrag.sampling import DraggedEdit, Reference

    def on_device(values: "np.ndarray") -> torch.Tensor:
        return torch.from_numpy(values.copy()).to(model.device)

    places: dict[tuple[bytes, str], int] = {}
    references: list[Reference] = []
    edits: list[DraggedEdit] = []
    for work in works:
        inverted, prompt = work.upstream["invert_image"]["latents"], work.edit.prompt
        place = places.setdefault((inverted.tobytes(), prompt), len(references))
        if place == len(references):
            trajectory = on_device(inverted[: level + 1])
            references.append(Reference(trajectory, model.encode_prompt(prompt)))
        dragged = on_device(work.upstream["optimize_latent"]["latent"])
        editable = on_device(latent_mask(work.upstream["build_mask"]["mask"]))
        edits.append(DraggedEdit(dragged, place, work.edit.drags, work.frame, editable))
    return references, edits


STAGE = Stage(
    name="sample_image",
    version=STAGE_VERSION,
    reads=("prompt", "drags"),
    needs=("train_lora", "invert_image", "build_mask", "optimize_latent"),
    models=("diffusion",),
    run=sample_image,
)
