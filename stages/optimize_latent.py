"""Drag: move the handles in the inverted latents, by the method that the settings name."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adaptivedrag.config import EditConfig
from adaptivedrag.methods import DragMethod
from adaptivedrag.warp import CONTENT_VERSION
from artifacts import JSON, Document
from stages.stage import EditInput, Look, Made, Stage, Tile, Work, one_by_one

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from adaptivedrag.drag import DragProblem
    from adaptivedrag.model.diffusion import DiffusionModel

STAGE_VERSION = 2


def optimize_latent(work: Work) -> Made:
    """Everything before it + prompt + drags, and the image for a method that reads it -> parts
    `latent` and `tracks`, and `level` where that is not the level of the inversion.
    """
    from adaptivedrag.drag import Hooks
    from adaptivedrag.model.lora import lora_applied

    method: DragMethod = work.config.optimize_latent
    model = work.load_diffusion()
    before = replace(model.passes)
    begun = work.checkpoints.latest()
    hooks = Hooks(work.on_step, begun, work.checkpoints.keep, work.checkpoints.every)
    with lora_applied(model, work.upstream.get("train_lora", {}).get("lora")):
        result = method.drag(model, _problem(work, model), hooks)
    payload: dict[str, Any] = {"latent": result.latents.cpu().numpy(), "tracks": result.tracks}
    if result.level != work.config.invert_image.inverted_steps:
        payload["level"] = Document(result.level)
    summary = {
        "steps": result.steps,
        "resumed_after": int(begun["step"]) if begun else 0,
        "budget": result.budget,
        "verdict": result.verdict,
        "points": [point.document() for point in result.points],
        **result.details,
        **model.passes.since(before),
    }
    return Made(payload, summary)


def _problem(work: Work, model: "DiffusionModel") -> "DragProblem":
    import torch

    from adaptivedrag.drag import DragProblem
    from adaptivedrag.superpixels import Superpixels

    divided = work.upstream["extract_superpixels"]
    trajectory = torch.from_numpy(work.upstream["invert_image"]["latents"].copy())
    return DragProblem(
        trajectory=trajectory.to(model.device),
        conditioning=model.encode_prompt(work.edit.prompt),
        image=work.working_image() if work.config.optimize_latent.reads_image else None,
        drags=work.edit.drags,
        superpixels=Superpixels(divided["labels"]),
        segments=divided.get("segments"),
        mask=work.upstream["build_mask"]["mask"],
        frame=work.frame,
        inversion=work.config.invert_image,
        seed=work.config.seed,
    )


def _key_section(method: DragMethod) -> Mapping[str, JSON]:
    """Return what enters the key of a method's settings.

    The optimization is named as it was when it was the only method, so that what it made in any
    store is still found.
    """
    settings = method.model_dump(mode="json")
    if settings["method"] == "optimization":
        del settings["method"]
        settings["relocation"] = False
    return settings


def _also_in_key(config: EditConfig) -> Mapping[str, JSON]:
    content = {"content": CONTENT_VERSION} if config.optimize_latent.needs_segments else {}
    seed = {"seed": config.seed} if config.optimize_latent.draws else {}
    inversion = config.invert_image.model_dump(mode="json")
    return {"dtype": config.dtype, "inversion": inversion, **content, **seed}


def _steps(config: Mapping[str, Any]) -> int:
    if "updates" in config:
        return int(config["levels"] * config["trackings"] * config["updates"])
    return int(config.get("steps", config["inversion"]["inverted_steps"]))


def _reads(config: EditConfig) -> tuple[EditInput, ...]:
    of_the_edit: tuple[EditInput, ...] = ("prompt", "drags")
    return ("relocated_image", *of_the_edit) if config.optimize_latent.reads_image else of_the_edit


def _draw_paths(tracks: "np.ndarray", look: Look) -> "Image.Image":
    from stages.reports.tiles import path_tile

    return path_tile(look.pixels, tracks, look.edit.drags, look.frame, look.longest)


STAGE = Stage(
    name="optimize_latent",
    version=STAGE_VERSION,
    section=DragMethod,
    reads=_reads,
    needs=("train_lora", "invert_image", "extract_superpixels", "build_mask"),
    models=("diffusion",),
    run=one_by_one(optimize_latent),
    also_in_key=_also_in_key,
    key_section=_key_section,
    first_guess=30.0,
    steps=_steps,
    checkpoints=True,
    saves_memory_by=("gradient checkpointing",),
    tiles=(Tile("paths", "tracks", _draw_paths),),
)
