"""The pipeline, readable in one place: every stage with what it reads and needs."""

from dataclasses import dataclass

from artifacts import Digest
from stages import (
    STAGE_NAMES,
    build_mask,
    extract_superpixels,
    invert_image,
    optimize_latent,
    sample_image,
    train_lora,
)
from stages.jobs.edit import Edit
from stages.stage import Resolved, Settings, Stage

STAGES: tuple[Stage, ...] = (
    train_lora.STAGE,
    invert_image.STAGE,
    extract_superpixels.STAGE,
    build_mask.STAGE,
    optimize_latent.STAGE,
    sample_image.STAGE,
)

BY_NAME = dict(zip(STAGE_NAMES, STAGES, strict=True))


@dataclass(frozen=True)
class _Named:
    """A result that is known by what it is made of, before it is made."""

    logical: Digest


def recipe(edit: Edit, settings: Settings | None = None) -> Digest:
    """Return a digest of everything that an edit's result is made of; it tells results apart that
    were made with other settings, inputs, models or versions of stages, on any machine.

    Raises:
        InvalidEdit, ModelUnavailable: if what it is made of cannot be read.
    """
    resolved = Resolved.of(edit, settings)
    keys: dict[str, _Named] = {}
    for stage in STAGES:
        if not resolved.skips(stage):
            keys[stage.name] = _Named(Digest(resolved.action(stage, keys).key))
    return keys[STAGES[-1].name].logical
