"""Fit a LoRA to the image, or take over one from a file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from adaptivedrag.config import TrainLoraConfig
from adaptivedrag.errors import InvalidEdit
from artifacts import TensorFile
from stages.jobs.edit import Edit
from stages.stage import Made, Stage, Work, as_planned, one_by_one

STAGE_VERSION = 1


def train_lora(work: Work) -> Made:
    """Train on the edit's image and prompt; image + prompt -> part `lora`."""
    if isinstance(work.edit.lora, Path):
        return _adopt(work.edit, work.edit.lora)
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


def _adopt(edit: Edit, path: Path) -> Made:
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with as_planned(edit, path):
            weights = {name: value.float().numpy() for name, value in load_file(path).items()}
    except SafetensorError as error:
        reason = " ".join(str(error).split())
        raise InvalidEdit(
            f"edit {edit.id}: lora {path} cannot be read ({reason}): name another file"
        ) from error
    wrong = next((name for name, value in weights.items() if not np.isfinite(value).all()), None)
    if wrong is not None:
        raise InvalidEdit(
            f"edit {edit.id}: lora {path} holds values in {wrong!r:.80} that are not finite: "
            "name another file"
        )
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
    off=lambda edit: 'lora = "off"' if edit.lora == "off" else "",
    files=lambda edit: {"lora_file": edit.lora} if isinstance(edit.lora, Path) else {},
    per_image=True,
    first_guess=40.0,
    steps=lambda config: config["steps"] * config["batch_size"],
    checkpoints=True,
    saves_memory_by=("smaller batches", "gradient checkpointing"),
    at_once=lambda config: config.train_lora.batch_size,
)
