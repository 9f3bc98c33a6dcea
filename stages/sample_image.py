"""Sample the edited image from the optimized latents."""

from dataclasses import replace

from artifacts import Picture
from stages.stage import Made, Stage, Work, one_by_one

STAGE_VERSION = 1


def sample_image(work: Work) -> Made:
    """Everything before it but superpixels + prompt + drags -> part `image`, native size."""
    import torch

    from adaptivedrag.masks import latent_mask
    from adaptivedrag.model.diffusion import native_image
    from adaptivedrag.model.lora import lora_applied
    from adaptivedrag.sampling import Background, sample

    model = work.load_diffusion()
    before = replace(model.passes)
    trajectory, edited, editable = (
        torch.from_numpy(values.copy()).to(model.device)
        for values in (
            work.upstream["invert_image"]["latents"],
            work.upstream["optimize_latent"]["latent"],
            latent_mask(work.upstream["build_mask"]["mask"]),
        )
    )
    level = work.upstream["optimize_latent"].get("level", work.config.invert_image.inverted_steps)
    with lora_applied(model.unet, work.upstream.get("train_lora", {}).get("lora")):
        _, edited = sample(
            model,
            trajectory[level : level + 1],
            edited,
            model.encode_prompt(work.edit.prompt),
            work.edit.drags,
            work.frame,
            work.config.sample_image,
            work.config.invert_image.replaced(inverted_steps=level),
            background=Background(trajectory, editable),
            on_step=work.on_step,
        )
    image = native_image(model.decode(edited), work.frame)
    return Made({"image": Picture(image)}, model.passes.since(before))


STAGE = Stage(
    name="sample_image",
    version=STAGE_VERSION,
    reads=("prompt", "drags"),
    needs=("train_lora", "invert_image", "build_mask", "optimize_latent"),
    models=("diffusion",),
    run=one_by_one(sample_image),
)
