"""Build the editable mask."""

from typing import TYPE_CHECKING

from adaptivedrag.errors import InvalidEdit
from artifacts import Picture
from stages.stage import Made, Stage, Work, as_planned, one_by_one

if TYPE_CHECKING:
    import numpy as np

STAGE_VERSION = 3


def build_mask(work: Work) -> Made:
    """Superpixels + drags -> part `mask` on the feature grid, and `picture` at the image's size."""
    from adaptivedrag import masks
    from adaptivedrag.superpixels import Superpixels

    config, divided = work.config.build_mask, work.upstream["extract_superpixels"]
    mask, warnings = masks.build_mask(
        config,
        Superpixels(divided["labels"]),
        divided.get("segments"),
        work.edit.drags,
        work.frame,
        _read_mask(work) if config.mode == "user" else None,
    )
    picture = masks.image_mask(mask, work.frame)
    summary = {"mode": config.mode, "share": float(picture.mean()), "warnings": warnings}
    return Made({"mask": mask, "picture": Picture(picture.astype("uint8") * 255)}, summary)


def _read_mask(work: Work) -> "np.ndarray":
    from stages.jobs.images import digest_mask, read_mask

    edit = work.edit
    if edit.mask_path is None:
        raise InvalidEdit(f'edit {edit.id}: build_mask.mode is "user", but the edit has no mask')
    with as_planned(edit, edit.mask_path) as check:
        mask = read_mask(edit.mask_path)
        check(digest_mask(mask) == edit.mask_digest)
    return mask


STAGE = Stage(
    name="build_mask",
    version=STAGE_VERSION,
    reads=("drags", "user_mask"),
    needs=("extract_superpixels",),
    models=(),
    run=one_by_one(build_mask),
)
