"""Fit a LoRA to the image, or take over one from a file."""

from dataclasses import replace
from typing import Any

from adaptivedrag.config import TrainLoraConfig
from adaptivedrag.errors import InvalidEdit
from adaptivedrag.model.lora_files import LoraFile, check_fit, find_lora, read_lora
from artifacts import TensorFile
from stages.stage import Made, Stage, Work, as_planned, one_by_one

STAGE_VERSION = 1


def train_lora(work: Work) -> Made:
    """Train on the edit's image and prompt; image + prompt -> part `lora`."""
    if isinstance(work.edit.lora, LoraFile):
        return _adopt(work, work.edit.lora)
    from adaptivedrag.model import lora

    model = work.load_diffusion()
    before = replace(model.passes)
    rows, cols = work.frame.image_latents
    image = work.working_image()
    begun = work.checkpoints.latest()
    mean, deviation = model.posterior(image)
    weights, losses = lora.train_lora(
        model,
        (mean[..., :rows, :cols], deviation[..., :rows, :cols]),
        model.encode_prompt(work.edit.prompt),
        work.config.train_lora,
        seed=lora.seed_of_draws(work.config.seed, image, work.edit.prompt),
        on_step=work.on_step,
        resume_from=begun,
        on_state=work.checkpoints.keep,
        state_every=work.checkpoints.every,
        at_once=work.rung.at_once,
    )
    summary: dict[str, Any] = {
        "steps": len(losses),
        "resumed_after": len(begun["losses"]) if begun else 0,
        "losses": [round(loss, 6) for loss in losses],
        "parameters": sum(value.size for value in weights.values()),
        **model.passes.since(before),
    }
    return Made({"lora": TensorFile(weights)}, summary)


def _adopt(work: Work, file: LoraFile) -> Made:
    """Take over a LoRA from a file that was found whole when the edit was planned."""
    from adaptivedrag.model.lora import model_layers

    with as_planned(work.edit, file.path) as check:
        check(find_lora(file.path) == file)
    try:
        check_fit(file, model_layers(work.load_diffusion()))
        weights = read_lora(file)
    except InvalidEdit as error:
        raise InvalidEdit(f"edit {work.edit.id}: {error}") from error
    return Made({"lora": TensorFile(weights)}, {"source": "file", "steps": 0})


STAGE = Stage(
    name="train_lora",
    version=STAGE_VERSION,
    section=TrainLoraConfig,
    reads=lambda _config: ("image", "prompt"),
    needs=(),
    models=("diffusion",),
    run=one_by_one(train_lora),
    also_in_key=lambda config: {"dtype": config.dtype, "seed": config.seed},
    off=lambda edit: edit.no_lora,
    files=lambda edit: edit.lora.inputs if isinstance(edit.lora, LoraFile) else {},
    per_image=True,
    first_guess=40.0,
    steps=lambda config: config["steps"] * config["batch_size"],
    checkpoints=True,
    saves_memory_by=("smaller batches", "gradient checkpointing"),
    at_once=lambda config: config.train_lora.batch_size,
)
