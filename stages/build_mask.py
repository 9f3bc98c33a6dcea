"""Build the editable mask."""

import numpy as np

from adaptivedrag.errors import InvalidEdit
from artifacts import Picture, digest_pixels
from stages.stage import Made, Stage, Work

STAGE_VERSION = 1


def build_mask(work: Work) -> Made:
    """Superpixels + drags -> part `mask` on the feature grid, and `picture` at the image's size."""
    from adaptivedrag import masks
    from adaptivedrag.superpixels import Superpixels

    drags, frame = work.edit.drags, work.frame
    if work.config.build_mask.mode == "user":
        mask = masks.user_mask(_read_mask(work), frame)
    else:
        superpixels = Superpixels(work.upstream["extract_superpixels"]["labels"])
        mask = masks.superpixel_line_mask(superpixels, drags, frame)
    picture = masks.image_mask(mask, frame)
    summary = {
        "mode": work.config.build_mask.mode,
        "share": float(picture.mean()),
        "warnings": masks.mask_warnings(mask, drags, frame),
    }
    return Made({"mask": mask, "picture": Picture(np.uint8(255) * picture)}, summary)


def _read_mask(work: Work) -> np.ndarray:
    from stages.images import read_mask

    edit = work.edit
    if edit.mask_path is None:
        raise InvalidEdit(f'edit {edit.id}: build_mask.mode is "user", but the edit has no mask')
    mask = read_mask(edit.mask_path)
    if digest_pixels(mask.astype(np.uint8)[:, :, None]) != edit.mask_digest:
        raise InvalidEdit(
            f"edit {edit.id}: {edit.mask_path} was changed after it was planned: run again"
        )
    return mask


STAGE = Stage(
    name="build_mask",
    version=STAGE_VERSION,
    reads=("drags", "user_mask"),
    needs=("extract_superpixels",),
    models=(),
    run=build_mask,
)
