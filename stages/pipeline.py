"""The pipeline, readable in one place: every stage with what it reads and needs."""

from stages import (
    STAGE_NAMES,
    build_mask,
    extract_superpixels,
    invert_image,
    optimize_latent,
    sample_image,
    train_lora,
)
from stages.stage import Stage

STAGES: tuple[Stage, ...] = (
    train_lora.STAGE,
    invert_image.STAGE,
    extract_superpixels.STAGE,
    build_mask.STAGE,
    optimize_latent.STAGE,
    sample_image.STAGE,
)

BY_NAME = dict(zip(STAGE_NAMES, STAGES, strict=True))
