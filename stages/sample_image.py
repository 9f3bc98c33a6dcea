"""Sample the edited image: from the optimized latents, or in the hole of the moved picture."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adaptivedrag.config import EditConfig, SampleImageConfig
from artifacts import JSON, Picture
from stages.stage import EditInput, Look, Made, Stage, Tile, Work, heard_by_all

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from adaptivedrag.model.diffusion import DiffusionModel
    from adaptivedrag.painting import Painted
    from adaptivedrag.sampling import DraggedEdit, Reference
    from adaptivedrag.warp.pasting import Pasted
    from stages.planning.work import WorkItem


STAGE_VERSION = 1


def sample_image(works: Sequence[Work]) -> list[Made]:
    """Everything before it but superpixels + prompt + drags -> part `image`, native size.

    Works of a batch have the same diffusion model, dtype, LoRA (or none), latent size, number of
    inversion steps and settings `sample_image`. Those that begin at one level are sampled together;
    those of them with equal inverted latents and prompts share the passes of their reference, which
    count in equal shares for all that are sampled together. Either all or none are moved pictures.
    """
    if "picture" in works[0].upstream["optimize_latent"]:
        return _finished(works)
    places: dict[int, list[int]] = {}
    for place, work in enumerate(works):
        places.setdefault(_level(work), []).append(place)
    mades: dict[int, Made] = {}
    for level, same in places.items():
        made = _sample([works[place] for place in same], level)
        mades.update(zip(same, made, strict=True))
    return [mades[place] for place in range(len(works))]


def _finished(works: Sequence[Work]) -> list[Made]:
    """Take over moved pictures, and let the model paint their holes if the settings ask for it."""
    from adaptivedrag.painting import unpainted
    from adaptivedrag.warp.pasting import PARTS, Pasted

    settings = works[0].config.sample_image
    every = []
    for work in works:
        moved = work.upstream["optimize_latent"]
        every.append(Pasted(**{name: moved[name] for name in PARTS}))
    left = [unpainted(pasted, settings) for pasted in every]
    each = zip(works, every, left, strict=True)
    painted = iter(_painted([(work, pasted) for work, pasted, kept in each if kept is None]))
    return [next(painted) if kept is None else _finish(kept, {}) for kept in left]


def _painted(holed: "Sequence[tuple[Work, Pasted]]") -> list[Made]:
    """Let the model paint the holes of moved pictures, all together."""
    if not holed:
        return []
    from adaptivedrag.masks import limits_content
    from adaptivedrag.model.lora import lora_applied, seed_of_draws
    from adaptivedrag.painting import HoledPicture, paint_holes

    works = [work for work, _ in holed]
    model, config = works[0].load_diffusion(), works[0].config
    before = replace(model.passes)

    def picture(work: Work, pasted: "Pasted") -> HoledPicture:
        prompt, mask = work.edit.prompt, work.upstream["build_mask"]["mask"]
        return HoledPicture(
            pasted,
            mask if limits_content(work.config.build_mask) else None,
            model.encode_prompt(prompt),
            work.frame,
            seed_of_draws(work.config.seed, pasted.picture, prompt),
        )

    with lora_applied(model, works[0].upstream.get("train_lora", {}).get("lora")):
        painted = paint_holes(
            model,
            [picture(*each) for each in holed],
            config.sample_image,
            config.invert_image,
            on_step=heard_by_all(works),
        )
    shares = model.passes.shares(before, len(holed))
    return [_finish(*each) for each in zip(painted, shares, strict=True)]


def _finish(painted: "Painted", passes: Mapping[str, int]) -> Made:
    summary = {**painted.details, "warnings": [*painted.warnings], **passes}
    return Made({"image": Picture(painted.picture)}, summary)


def _level(work: Work) -> int:
    """Return the inversion steps that the edited latents are away from clean ones."""
    return int(
        work.upstream["optimize_latent"].get("level", work.config.invert_image.inverted_steps)
    )


def _sample(works: Sequence[Work], level: int) -> list[Made]:
    from adaptivedrag.model.diffusion import native_image
    from adaptivedrag.model.lora import lora_applied
    from adaptivedrag.sampling import sample

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
            on_step=heard_by_all(works),
        )
    images = [
        _composited(work, native_image(model.decode(latents[None]), work.frame))
        for work, latents in zip(works, sampled, strict=True)
    ]
    shares = model.passes.shares(before, len(works))
    return [
        Made({"image": Picture(image)}, passes)
        for image, passes in zip(images, shares, strict=True)
    ]


def _composited(work: Work, sampled: "np.ndarray") -> "np.ndarray":
    """Return what was sampled, within the image itself if the settings ask for it."""
    from adaptivedrag.compositing import composite
    from adaptivedrag.masks import image_mask

    mask = work.upstream["build_mask"]["mask"]
    if not work.config.sample_image.composite or not mask.any():
        return sampled
    return composite(work.image(), sampled, image_mask(mask, work.frame), work.frame)


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


def _key_section(section: SampleImageConfig) -> Mapping[str, JSON]:
    """Return what enters the key: what is off does not, so that older results are still found."""
    settings = section.model_dump(mode="json")
    if section.holes == "smooth":
        del settings["holes"], settings["hole_rounds"]
    return {
        name: value
        for name, value in settings.items()
        if value or name not in ("composite", "keep_texture")
    }


def _also_in_key(config: EditConfig) -> Mapping[str, JSON]:
    seed = {"seed": config.seed} if config.sample_image.holes == "paint" else {}
    return {
        "dtype": config.dtype,
        "inversion": config.invert_image.model_dump(mode="json"),
        **seed,
    }


def _reads(config: EditConfig) -> tuple[EditInput, ...]:
    """Return what it reads of an edit; the image itself for what it composites into it."""
    if config.sample_image.composite and config.optimize_latent.needs_latents:
        return ("image", "prompt", "drags")
    return ("prompt", "drags")


def _steps(config: Mapping[str, Any]) -> int:
    """Count the levels, as often as each has a pass where a hole is painted."""
    levels = int(config["inversion"]["inverted_steps"])
    return levels * (2 + config["hole_rounds"]) if "hole_rounds" in config else levels


def _draw_result(image: "np.ndarray", look: Look) -> "Image.Image":
    from stages.reports.tiles import drag_tile

    return drag_tile(image, (), look.longest)


def _together(item: "WorkItem") -> Hashable:
    """Return what works of a batch have in common; without a model, nothing."""
    config = item.resolved.config
    if not config.samples:
        return item.key
    in_latents = config.optimize_latent.needs_latents
    return (*item.weights_and_size, config.invert_image, config.sample_image, in_latents)


STAGE = Stage(
    name="sample_image",
    version=STAGE_VERSION,
    section=SampleImageConfig,
    reads=_reads,
    needs=("train_lora", "invert_image", "build_mask", "optimize_latent"),
    models=("diffusion",),
    run=sample_image,
    also_in_key=_also_in_key,
    key_section=_key_section,
    together=_together,
    first_guess=10.0,
    steps=_steps,
    alike=lambda inputs: "invert_image" in inputs,
    result="image",
    tiles=(Tile("result", "image", _draw_result),),
)
