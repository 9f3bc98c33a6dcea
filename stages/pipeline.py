"""The pipeline, readable in one place: every stage with what it reads and needs, in order."""

from pydantic import create_model

from adaptivedrag.config import EditConfig
from stages import (
    build_mask,
    extract_superpixels,
    invert_image,
    locate_handles,
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
    locate_handles.STAGE,
)

STAGE_NAMES = tuple(stage.name for stage in STAGES)
BY_NAME = {stage.name: stage for stage in STAGES}

RESULT = next(stage for stage in reversed(STAGES) if stage.result)
"""The stage whose result is the edited image of a job."""

REGION = next(stage for stage in reversed(STAGES) if stage.region)
"""The stage that says where the image may change."""

WITNESS, TRACKER = locate_handles.STAGE, optimize_latent.STAGE
"""The stages that say where handles are: by the first verdicts speak, by the second the drag's own
tracker."""

WANTED = STAGES[STAGES.index(RESULT) :]
"""The stages that every edit is to have in the end: its result, and what is said of it."""


def settings_class() -> type[EditConfig]:
    """Return the class of a job's settings: those of the method, and of stages that are not its."""
    own = {
        stage.name: (stage.section, stage.section())
        for stage in STAGES
        if stage.name not in EditConfig.model_fields
    }
    if not own:
        return EditConfig
    return create_model("JobConfig", __base__=EditConfig, **own)  # type: ignore[call-overload, no-any-return]


JobConfig = settings_class()
