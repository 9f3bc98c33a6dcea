"""SAM 2 through the pocket segmenter, an official checkpoint of random weights, and bad paths."""

import numpy as np
import pytest
import torch

from adaptivedrag.errors import ModelUnavailable, UnsupportedModel
from adaptivedrag.scenes import benchmark_scene, render
from adaptivedrag.segmentation import Segmenter, build_official

PICTURE = render(benchmark_scene(0), 128).image


@pytest.fixture(scope="module")
def pocket():
    torch.set_num_threads(1)
    return Segmenter.load("pocket")


def test_pocket_features_have_the_sizes_of_sam2(pocket):
    embedding, fine, middle = pocket.image_features(PICTURE[:, :96])
    width = len(embedding)
    assert embedding.shape == (width, 64, 64)
    assert fine.shape == (width // 8, 256, 256)
    assert middle.shape == (width // 4, 128, 128)
    assert all(part.dtype == np.float32 and np.isfinite(part).all() for part in (embedding, fine))


def test_segments_are_masks_of_the_image_and_the_same_every_time(pocket):
    first, second = (pocket.segments(PICTURE, points_per_side=4) for _ in range(2))
    assert len(first) == len(second)
    for mask, again in zip(first, second, strict=True):
        assert mask.shape == PICTURE.shape[:2]
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, again)


def test_an_official_checkpoint_is_recognised_by_its_weights(tmp_path):
    torch.manual_seed(0)
    model = build_official("tiny")
    path = tmp_path / "some name.pt"
    torch.save({"model": model.state_dict()}, path)
    embedding, fine, middle = Segmenter.load(path).image_features(PICTURE)
    assert [part.shape for part in (embedding, fine, middle)] == [
        (256, 64, 64),
        (32, 256, 256),
        (64, 128, 128),
    ]


@pytest.mark.parametrize("source", ["nowhere/at/all.pt", "/nowhere/sam2.1_hiera_tiny.pt"])
def test_a_missing_path_is_named_in_one_line(source):
    with pytest.raises(ModelUnavailable) as caught:
        Segmenter.load(source)
    assert source in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hub_id_that_cannot_be_had_is_named_with_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelUnavailable, match=r"facebook/sam2\.1-hiera-tiny.*hf download"):
        Segmenter.load("facebook/sam2.1-hiera-tiny")


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "broken.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(UnsupportedModel, match="cannot be read as a SAM 2 checkpoint"):
        Segmenter.load(path)


def test_weights_of_another_model_are_refused(tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"model": {"conv.weight": torch.zeros(3)}}, path)
    with pytest.raises(UnsupportedModel, match="holds no SAM 2 weights"):
        Segmenter.load(path)
