"""Invert the image to the start timestep."""

from dataclasses import replace

from stages.stage import Made, Stage, Work, one_by_one

STAGE_VERSION = 1


def invert_image(work: Work) -> Made:
    """Encode and invert; image + prompt + LoRA -> part `latents`, (steps + 1, c, h, w)."""
    from adaptivedrag.inversion import invert
    from adaptivedrag.model.lora import lora_applied

    model = work.load_diffusion()
    before = replace(model.passes)
    mean, _ = model.posterior(work.working_image())
    with lora_applied(model.unet, work.upstream.get("train_lora", {}).get("lora")):
        trajectory = invert(
            model,
            mean,
            model.encode_prompt(work.edit.prompt),
            work.config.invert_image,
            on_step=work.on_step,
        )
    config = work.config.invert_image
    summary = {
        "start_timestep": model.schedule.start(config.num_steps, config.inverted_steps),
        **model.passes.since(before),
    }
    return Made({"latents": trajectory.cpu().numpy()}, summary)


STAGE = Stage(
    name="invert_image",
    version=STAGE_VERSION,
    reads=("image", "prompt"),
    needs=("train_lora",),
    models=("diffusion",),
    run=one_by_one(invert_image),
)
