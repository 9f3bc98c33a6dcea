"""Sample the edited image from the optimized latents."""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from adaptivedrag.config import SampleImageConfig
from artifacts import Picture
from stages.stage import Look, Made, Stage, Tile, Work

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from adaptivedrag.model.diffusion import DiffusionModel
    from adaptivedrag.sampling import DraggedEdit, Reference
    from stages.planning.work import WorkItem


STAGE_VERSION = 1


def sample_image(works: Sequence[Work]) -> list[Made]:
    """Everything before it but superpixels + prompt + drags -> part `image`, native size.

    Works of a batch have the same diffusion model, dtype, LoRA (or none), latent size, number of
    inversion steps and settings `sample_image`. Those that begin at one level are sampled together;
    those of them with equal inverted latents and prompts share the passes of their reference, which
    count in equal shares for all that are sampled together.
    """
    places: dict[int, list[int]] = {}
    for place, work in enumerate(works):
        places.setdefault(_level(work), []).append(place)
    mades: dict[int, Made] = {}
    for level, same in places.items():
        mades.update(zip(same, _sample([works[place] for place in same], level), strict=True))
    return [mades[place] for place in range(len(works))]


def _level(work: Work) -> int:
    """Return the inversion steps that the edited latents are away from clean ones."""
    return int(
        work.upstream["optimize_latent"].get("level", work.config.invert_image.inverted_steps)
    )


def _sample(works: Sequence[Work], level: int) -> list[Made]:
    from adaptivedrag.model.diffusion import native_image
    from adaptivedrag.model.lora import lora_applied
    from adaptivedrag.sampling import sample

    def on_step(step: int, steps: int) -> None:
        for work in works:
            work.on_step(step, steps)

    model, config = works[0].load_diffusion(), works[0].config
    before = replace(model.passes)
    with lora_applied(model, works[0].upstream.get("train_lora", {}).get("lora")):
        references, edits = _references_and_edits(works, level, model)
        _, sampled = sample(
            model,
            references,
            edits,
            config.sample_image,
            config.invert_image.num_steps,
            on_step=on_step,
        )
    images = [
        Picture(native_image(model.decode(latents[None]), work.frame))
        for work, latents in zip(works, sampled, strict=True)
    ]
    shares = model.passes.shares(before, len(works))
    return [Made({"image": image}, passes) for image, passes in zip(images, shares, strict=True)]


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


def _draw_result(image: "np.ndarray", look: Look) -> "Image.Image":
    from stages.reports.tiles import drag_tile

    return drag_tile(image, (), look.longest)


def _together(item: "WorkItem") -> Hashable:
    """Return what works of a batch have in common."""
    resolved, config, lora = item.resolved, item.resolved.config, item.inputs.get("train_lora")
    return (
        *(resolved.setting.diffusion.digest, config.dtype, config.invert_image),
        *(config.sample_image, resolved.frame.latent_size, lora and lora.logical),
    )


STAGE = Stage(
    name="sample_image",
    version=STAGE_VERSION,
    section=SampleImageConfig,
    reads=lambda _config: ("prompt", "drags"),
    needs=("train_lora", "invert_image", "build_mask", "optimize_latent"),
    models=("diffusion",),
    run=sample_image,
    also_in_key=lambda config: {
        "dtype": config.dtype,
        "inversion": config.invert_image.model_dump(mode="json"),
    },
    together=_together,
    first_guess=10.0,
    steps=lambda config: config["inversion"]["inverted_steps"],
    result="image",
    tiles=(Tile("result", "image", _draw_result),),
)
