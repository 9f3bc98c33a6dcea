"""Sample the edited image from the optimised latents."""

from dataclasses import replace

from artifacts import Picture
from stages.stage import Made, Stage, Work

STAGE_VERSION = 1


def sample_image(work: Work) -> Made:
    """LoRA + inversion + optimised latents + prompt + drags -> part `image`, native size."""
    import torch

    from adaptivedrag.lora import lora_applied
    from adaptivedrag.model import native_image
    from adaptivedrag.sampling import sample

    model = work.load_diffusion()
    before = replace(model.passes)
    reference, edited = (
        torch.from_numpy(latents.copy()).to(model.device)
        for latents in (
            work.upstream["invert_image"]["latents"][-1:],
            work.upstream["optimize_latent"]["latent"],
        )
    )
    with lora_applied(model.unet, work.upstream.get("train_lora", {}).get("lora")):
        _, edited = sample(
            model,
            reference,
            edited,
            model.encode_prompt(work.edit.prompt),
            work.edit.drags,
            work.frame,
            work.config.sample_image,
            work.config.invert_image,
            on_step=work.on_step,
        )
    image = native_image(model.decode(edited), work.frame)
    return Made({"image": Picture(image)}, model.passes.since(before))


STAGE = Stage(
    name="sample_image",
    version=STAGE_VERSION,
    reads=("prompt", "drags"),
    needs=("train_lora", "invert_image", "optimize_latent"),
    models=("diffusion",),
    run=sample_image,
    saves_memory_by=("attention by heads",),
)
