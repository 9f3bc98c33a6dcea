"""Build the editable mask."""

from typing import TYPE_CHECKING

from adaptivedrag.config import BuildMaskConfig, EditConfig
from adaptivedrag.errors import InvalidEdit
from adaptivedrag.points import Frame
from adaptivedrag.warp import CONTENT_VERSION
from artifacts import Picture
from stages.stage import EditInput, Look, Made, Stage, Tile, Work, as_planned, one_by_one

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

STAGE_VERSION = 3


def build_mask(work: Work) -> Made:
    """Superpixels + drags -> part `mask` on the feature grid, and `picture` at the image's size."""
    from adaptivedrag import masks
    from adaptivedrag.superpixels import Superpixels

    config, divided = work.config.build_mask, work.upstream["extract_superpixels"]
    is_given = config.mode == "user"
    mask, warnings = masks.build_mask(
        config,
        Superpixels(divided["labels"]),
        divided.get("segments"),
        work.edit.drags,
        work.frame,
        _read_mask(work) if is_given else None,
    )
    picture = masks.image_mask(mask, work.frame)
    summary = {
        "mode": config.mode,
        "share": float(picture.mean()),
        "warnings": [] if is_given else warnings,  # the notes of the edit have them
    }
    return Made({"mask": mask, "picture": Picture(picture.astype("uint8") * 255)}, summary)


def _read_mask(work: Work) -> "np.ndarray":
    from stages.images import digest_mask, read_mask

    edit = work.edit
    if edit.mask_path is None:
        raise InvalidEdit(f'edit {edit.id}: build_mask.mode is "user", but the edit has no mask')
    with as_planned(edit, edit.mask_path) as check:
        mask = read_mask(edit.mask_path, edit.image.pixels)
        check(digest_mask(mask) == edit.mask_digest)
    return mask


def _reads(config: EditConfig) -> tuple[EditInput, ...]:
    return ("drags", "user_mask") if config.build_mask.mode == "user" else ("drags",)


def _draw_mask(picture: "np.ndarray", look: Look) -> "Image.Image":
    from stages.reports.tiles import mask_tile

    return mask_tile(look.pixels, picture > 0, look.edit.drags, look.longest)


def _overlay_mask(picture: "np.ndarray", _frame: Frame) -> "Image.Image":
    from stages.reports.tiles import mask_overlay

    return mask_overlay(picture > 0)


STAGE = Stage(
    name="build_mask",
    version=STAGE_VERSION,
    section=BuildMaskConfig,
    reads=_reads,
    needs=("extract_superpixels",),
    run=one_by_one(build_mask),
    also_in_key=lambda config: (
        {"content": CONTENT_VERSION} if config.build_mask.mode == "content" else {}
    ),
    first_guess=1.0,
    region="picture",
    tiles=(Tile("mask", "picture", _draw_mask, overlay=_overlay_mask),),
)
