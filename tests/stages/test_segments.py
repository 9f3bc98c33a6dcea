"""Automatic segments as an artifact: kept, shared by the edits of an image, and none at all."""

import json
from importlib.resources import files
from pathlib import Path
from shutil import copy

import numpy as np
import pytest

from adaptivedrag.points import Drag, ImagePoint

SHIPPED = Path(str(files("adaptivedrag"))) / "pocket" / "segmenter"
BY_SEGMENTS = {"extract_superpixels": {"source": "segments"}, "build_mask": {"mode": "union"}}


@pytest.fixture(params=[0.0, 1.0], ids=["some segments", "no segment"])
def segmenter(request, tmp_path):
    """The pocket segmenter, asked at one point, that takes every mask or none."""
    config = json.loads((SHIPPED / "config.json").read_text("utf-8"))
    config["automatic"] = {
        "points_per_side": 1,
        "pred_iou_thresh": request.param,
        "stability_score_thresh": 0,
    }
    folder = tmp_path / "segmenter"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    copy(SHIPPED / "model.safetensors", folder)
    return folder


def test_two_edits_of_an_image_share_its_segments(bench, store, changed, segmenter):
    edits = [
        changed(
            config=BY_SEGMENTS,
            segmenter=str(segmenter),
            drags=(Drag(ImagePoint(40, 50), ImagePoint(66, 40 + index)),),
        )
        for index in range(2)
    ]
    records = [bench.perform("extract_superpixels", edit) for edit in edits]
    assert records[0] == records[1]
    parts = store.read(records[0])
    segments = parts["segments"]
    assert segments.dtype == bool
    assert segments.shape[1:] == parts["labels"].shape
    assert (np.diff(segments.sum(axis=(1, 2))) <= 0).all()
    assert records[0].summary["segments"] == len(segments)
    masks = [bench.perform("build_mask", edit) for edit in edits]
    assert masks[0].key != masks[1].key
    warnings = [*records[0].summary["warnings"], *masks[0].summary["warnings"]]
    if len(segments):
        assert "the segmenter found no segment in the image" not in warnings
    else:
        assert warnings == [
            "the segmenter found no segment in the image",
            "handle 1 at (40, 50) lies in no segment",
        ]


def test_where_no_setting_needs_segments_none_are_kept(bench, store, edit):
    assert set(store.read(bench.perform("extract_superpixels", edit))) == {"labels", "centroids"}
