"""SAM 2 through the pocket segmenter, an official checkpoint of random weights, and bad paths."""

import json
from dataclasses import replace
from importlib.resources import files
from inspect import signature
from pathlib import Path
from shutil import copy

import numpy as np
import pytest
import torch
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

from adaptivedrag.config import ExtractSuperpixelsConfig
from adaptivedrag.errors import ModelUnavailable, UnsupportedModel
from adaptivedrag.scenes import benchmark_scene, render
from adaptivedrag.segmenter.kinds import load_segmenter
from adaptivedrag.segmenter.segmentation import (
    SAM2_AUTOMATIC,
    AutomaticMasks,
    build_official,
)
from adaptivedrag.superpixels import extract_superpixels, segment_superpixels, segments_on_grid

PICTURE = render(benchmark_scene(0), 128).image


@pytest.fixture(scope="module")
def pocket():
    torch.set_num_threads(1)
    return load_segmenter("pocket")


def test_pocket_features_have_the_sizes_of_sam2(pocket):
    embedding, fine, middle = pocket.image_features(PICTURE[:, :96])
    width = len(embedding)
    assert embedding.shape == (width, 64, 64)
    assert fine.shape == (width // 8, 256, 256)
    assert middle.shape == (width // 4, 128, 128)
    assert all(part.dtype == np.float32 and np.isfinite(part).all() for part in (embedding, fine))


def test_segments_and_labels_are_the_same_every_time_and_with_any_threads(pocket):
    every_mask = AutomaticMasks(points_per_side=2, pred_iou_thresh=0, stability_score_thresh=0)
    segmenter = replace(pocket, automatic=every_mask)
    found = []
    for threads in (2, 1):
        torch.set_num_threads(threads)
        segments = segments_on_grid(segmenter.segments(PICTURE), (64, 64))
        maps = segmenter.image_features(PICTURE)
        settings = ExtractSuperpixelsConfig(count=40)
        by_features = extract_superpixels(maps, (64, 64), settings)
        by_segments = segment_superpixels(segments, settings)
        found.append((segments, by_features.labels, by_segments.labels))
    assert found[0][0].dtype == bool
    assert len(found[0][0]) > 0
    areas = found[0][0].sum(axis=(1, 2))
    assert (np.diff(areas) <= 0).all()
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_segment_at_all_is_an_empty_stack(pocket):
    nothing = AutomaticMasks(points_per_side=1, pred_iou_thresh=1)
    assert replace(pocket, automatic=nothing).segments(PICTURE).shape == (0, *PICTURE.shape[:2])


def test_thresholds_are_those_of_sam2_unless_a_pocket_directory_names_its_own(pocket, tmp_path):
    generator = signature(SAM2AutomaticMaskGenerator).parameters
    for name, value in SAM2_AUTOMATIC.model_dump().items():
        assert value == generator[name].default
    shipped = Path(str(files("adaptivedrag"))) / "pocket" / "segmenter"
    config = json.loads((shipped / "config.json").read_text("utf-8"))
    own = {"points_per_side": 7, "pred_iou_thresh": 0.25, "stability_score_thresh": 0.5}
    (tmp_path / "config.json").write_text(json.dumps({**config, "automatic": own}), "utf-8")
    copy(shipped / "model.safetensors", tmp_path)
    assert load_segmenter(tmp_path).automatic == AutomaticMasks(**own)


def test_an_official_checkpoint_is_recognized_by_its_weights(tmp_path):
    torch.manual_seed(0)
    model = build_official("tiny")
    path = tmp_path / "some name.pt"
    torch.save({"model": model.state_dict()}, path)
    embedding, fine, middle = load_segmenter(path).image_features(PICTURE)
    assert [part.shape for part in (embedding, fine, middle)] == [
        (256, 64, 64),
        (32, 256, 256),
        (64, 128, 128),
    ]


@pytest.mark.parametrize("source", ["nowhere/at/all.pt", "/nowhere/sam2.1_hiera_tiny.pt"])
def test_a_missing_path_is_named_in_one_line(source):
    with pytest.raises(ModelUnavailable) as caught:
        load_segmenter(source)
    assert source in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hub_id_that_cannot_be_had_is_named_with_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelUnavailable, match=r"facebook/sam2\.1-hiera-tiny.*hf download"):
        load_segmenter("facebook/sam2.1-hiera-tiny")


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "broken.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(UnsupportedModel, match="cannot be read as a SAM 2 checkpoint"):
        load_segmenter(path)


def test_weights_of_another_model_are_refused(tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"model": {"conv.weight": torch.zeros(3)}}, path)
    with pytest.raises(UnsupportedModel, match="holds no SAM 2 weights"):
        load_segmenter(path)
