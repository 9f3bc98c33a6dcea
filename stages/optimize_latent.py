"""Drag: move the handles, in the inverted latents or in the picture, as the method has it."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adaptivedrag.config import EditConfig
from adaptivedrag.methods import DragMethod, LatentMethod, PictureMethod
from adaptivedrag.points import Frame
from adaptivedrag.warp import CONTENT_VERSION
from artifacts import JSON, Document, Picture
from stages.stage import EditInput, Look, Made, Stage, Tile, Work

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from adaptivedrag.drag import DragProblem, DragReport, DragResult, DragTask
    from adaptivedrag.model.diffusion import DiffusionModel
    from stages.planning.work import WorkItem

STAGE_VERSION = 2


def optimize_latent(works: Sequence[Work]) -> list[Made]:
    """Everything before it + drags, and the prompt or the image -> parts `tracks` and, of a method
    that moves latents, `latent`, with `level` where that is not the level of the inversion; of one
    that moves content in the picture, `picture`, `cleared`, `hole`, `rim`, `arrived` and `changed`,
    native size (`adaptivedrag.warp.pasting.Pasted`).

    Works of a batch have the same method, diffusion model, dtype, LoRA (or none), latent size and
    settings `invert_image`; the method's own settings may differ.
    """
    if isinstance(works[0].config.optimize_latent, LatentMethod):
        return _dragged(works)
    return [*map(_moved, works)]


def _moved(work: Work) -> Made:
    from adaptivedrag.drag import PictureProblem
    from adaptivedrag.masks import limits_content
    from adaptivedrag.superpixels import Superpixels

    divided = work.upstream["extract_superpixels"]
    mask = work.upstream["build_mask"]["mask"]
    problem = PictureProblem(
        image=work.image(),
        drags=work.edit.drags,
        superpixels=Superpixels(divided["labels"]),
        segments=divided["segments"],
        mask=mask if limits_content(work.config.build_mask) else None,
        frame=work.frame,
    )
    method = work.config.optimize_latent
    assert isinstance(method, PictureMethod)
    moved = method.move(problem)
    pasted = moved.pasted
    payload: dict[str, Any] = {
        "picture": Picture(pasted.picture),
        "cleared": Picture(pasted.cleared),
        "hole": pasted.hole,
        "rim": pasted.rim,
        "arrived": pasted.arrived,
        "changed": pasted.changed,
        "tracks": moved.tracks,
    }
    summary = {"hole": float(pasted.hole.mean()), "changed": float(pasted.changed.mean())}
    return Made(payload, {**_summary(moved), **summary})


def _dragged(works: Sequence[Work]) -> list[Made]:
    from adaptivedrag.model.lora import lora_applied

    model = works[0].load_diffusion()
    before = replace(model.passes)
    with lora_applied(model, works[0].upstream.get("train_lora", {}).get("lora")):
        tasks = [_task(work, model) for work in works]
        results = type(tasks[0].method).drag_together(model, tasks)
    shares = model.passes.shares(before, len(works))
    return [_kept(*each) for each in zip(tasks, results, shares, strict=True)]


def _task(work: Work, model: "DiffusionModel") -> "DragTask[LatentMethod]":
    from adaptivedrag.drag import DragTask, Hooks

    kept = work.checkpoints
    hooks = Hooks(work.on_step, kept.latest(), kept.keep, kept.every)
    method = work.config.optimize_latent
    assert isinstance(method, LatentMethod)
    return DragTask(method, _problem(work, model), hooks)


def _kept(task: "DragTask[LatentMethod]", result: "DragResult", passes: Mapping[str, int]) -> Made:
    begun = task.hooks.resume_from
    payload: dict[str, Any] = {"latent": result.latents.cpu().numpy(), "tracks": result.tracks}
    if result.level != task.problem.level:
        payload["level"] = Document(result.level)
    resumed = {"resumed_after": int(begun["step"]) if begun else 0}
    return Made(payload, {**_summary(result), **resumed, **passes})


def _problem(work: Work, model: "DiffusionModel") -> "DragProblem":
    import torch

    from adaptivedrag.drag import DragProblem
    from adaptivedrag.superpixels import Superpixels

    trajectory = torch.from_numpy(work.upstream["invert_image"]["latents"].copy())
    return DragProblem(
        trajectory=trajectory.to(model.device),
        conditioning=model.encode_prompt(work.edit.prompt),
        drags=work.edit.drags,
        superpixels=Superpixels(work.upstream["extract_superpixels"]["labels"]),
        mask=work.upstream["build_mask"]["mask"],
        frame=work.frame,
        inversion=work.config.invert_image,
        seed=work.config.seed,
    )


def _summary(report: "DragReport") -> dict[str, Any]:
    return {
        "steps": report.steps,
        "budget": report.budget,
        "verdict": report.verdict,
        "points": [point.document() for point in report.points],
        "warnings": [*report.warnings],
        **report.details,
    }


def _together(item: "WorkItem") -> Hashable:
    """Return what works of a batch have in common."""
    config = item.resolved.config
    method = config.optimize_latent
    if not isinstance(method, LatentMethod) or not method.shares_passes:
        return item.key
    return (*item.weights_and_size, config.invert_image, method.method)


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
    method = config.optimize_latent
    if not isinstance(method, LatentMethod):
        return {"content": CONTENT_VERSION}
    seed = {"seed": config.seed} if method.draws else {}
    inversion = config.invert_image.model_dump(mode="json")
    return {"dtype": config.dtype, "inversion": inversion, **seed}


def _steps(config: Mapping[str, Any]) -> int:
    if "updates" in config:
        return int(config["levels"] * config["trackings"] * config["updates"])
    return int(config.get("steps", 1))


def _reads(config: EditConfig) -> tuple[EditInput, ...]:
    return ("prompt", "drags") if config.optimize_latent.needs_latents else ("image", "drags")


def _draw_paths(tracks: "np.ndarray", look: Look) -> "Image.Image":
    from stages.reports.tiles import path_tile

    return path_tile(look.pixels, tracks, look.edit.drags, look.frame, look.longest)


def _overlay_paths(tracks: "np.ndarray", frame: Frame) -> "Image.Image":
    from stages.reports.tiles import path_overlay

    return path_overlay(tracks, frame)


def _draw_moved(picture: "np.ndarray", look: Look) -> "Image.Image":
    from stages.reports.tiles import drag_tile

    return drag_tile(picture, (), look.longest)


STAGE = Stage(
    name="optimize_latent",
    version=STAGE_VERSION,
    section=DragMethod,
    reads=_reads,
    needs=("train_lora", "invert_image", "extract_superpixels", "build_mask"),
    models=("diffusion",),
    run=optimize_latent,
    also_in_key=_also_in_key,
    key_section=_key_section,
    together=_together,
    memory_of_item=1.25,
    first_guess=30.0,
    steps=_steps,
    checkpoints=True,
    saves_memory_by=("gradient checkpointing",),
    tiles=(
        Tile("paths", "tracks", _draw_paths, overlay=_overlay_paths),
        Tile("moved", "picture", _draw_moved, is_optional=True),
    ),
)
