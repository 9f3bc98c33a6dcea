"""Ask the independent witness where the handles are in the edited image."""

from dataclasses import replace

from adaptivedrag.config import LocateHandlesConfig
from artifacts import Document
from stages.stage import Made, Stage, Work, one_by_one

STAGE_VERSION = 1


def locate_handles(work: Work) -> Made:
    """The image and the edited one + prompt + drags -> part `handles`, where they were found.

    The model is the edit's own without its LoRA, which was trained for the edit.
    """
    from adaptivedrag.model.diffusion import working_image
    from adaptivedrag.witness import locate_handles

    model = work.load_diffusion()
    before = replace(model.passes)
    edited = working_image(work.upstream["sample_image"]["image"], work.frame)
    testimony = locate_handles(
        model,
        work.working_image(),
        edited,
        work.edit.prompt,
        work.edit.drags,
        work.frame,
        work.config.locate_handles,
    )
    points = [point.document() for point in testimony.points]
    summary = {"verdict": testimony.verdict, "points": points, **model.passes.since(before)}
    return Made({"handles": Document(points)}, summary)


STAGE = Stage(
    name="locate_handles",
    version=STAGE_VERSION,
    section=LocateHandlesConfig,
    reads=lambda _config: ("image", "prompt", "drags"),
    needs=("sample_image",),
    models=("diffusion",),
    run=one_by_one(locate_handles),
    also_in_key=lambda config: {"dtype": config.dtype},
    first_guess=1.0,
)
