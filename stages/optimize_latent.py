"""Drag: optimise the inverted latents until the handles arrive."""

from dataclasses import replace
from typing import Any

from stages.stage import Made, Stage, Work, one_by_one

STAGE_VERSION = 2


def optimize_latent(work: Work) -> Made:
    """Everything before it + prompt + drags, and the image to move content in it -> parts `latent`
    and `tracks`.
    """
    import torch

    from adaptivedrag.drag import drag_latents
    from adaptivedrag.model.lora import lora_applied
    from adaptivedrag.superpixels import Superpixels
    from adaptivedrag.warp.content import find_contents
    from adaptivedrag.warp.relocation import relocated_latents

    model = work.load_diffusion()
    before = replace(model.passes)
    begun = work.checkpoints.latest()
    inverted = torch.from_numpy(work.upstream["invert_image"]["latents"][-1:].copy())
    conditioning = model.encode_prompt(work.edit.prompt)
    divided = work.upstream["extract_superpixels"]
    superpixels = Superpixels(divided["labels"])
    contents = (
        find_contents(divided["segments"], superpixels, work.edit.drags, work.frame)
        if work.config.optimize_latent.relocation
        else ()
    )
    with lora_applied(model.unet, work.upstream.get("train_lora", {}).get("lora")):
        relocated = (
            relocated_latents(
                model, work.working_image(), conditioning, contents, work.config.invert_image
            )
            if contents and not (begun and int(begun["step"]))  # else it has been moved to
            else None
        )
        result = drag_latents(
            model,
            inverted.to(model.device),
            conditioning,
            work.edit.drags,
            superpixels,
            work.upstream["build_mask"]["mask"],
            work.frame,
            work.config.optimize_latent,
            work.config.invert_image,
            relocated=relocated,
            on_step=work.on_step,
            resume_from=begun,
            on_state=work.checkpoints.keep,
            state_every=work.checkpoints.every,
        )
    points: list[dict[str, Any]] = [
        {
            "handle": list(point.handle),
            "end": list(point.end),
            "target": list(point.target),
            "verdict": point.verdict,
            "distance": point.distance,
        }
        for point in result.points
    ]
    summary = {
        "steps": result.steps,
        "resumed_after": int(begun["step"]) if begun else 0,
        "budget": result.budget,
        "verdict": result.verdict,
        "points": points,
        "contents": [
            {"share": float(content.region.mean()), "motion": content.motion.tolist()}
            for content in contents
        ],
        **model.passes.since(before),
    }
    return Made({"latent": result.latents.cpu().numpy(), "tracks": result.tracks}, summary)


STAGE = Stage(
    name="optimize_latent",
    version=STAGE_VERSION,
    reads=("relocated_image", "prompt", "drags"),
    needs=("train_lora", "invert_image", "extract_superpixels", "build_mask"),
    models=("diffusion",),
    run=one_by_one(optimize_latent),
    checkpoints=True,
    saves_memory_by=("gradient checkpointing",),
)
