"""Families of models: recognized by their UNet, loaded from named files, added by one file."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from adaptivedrag.config import InvertImageConfig, SampleImageConfig
from adaptivedrag.errors import ModelUnavailable
from adaptivedrag.inversion import invert
from adaptivedrag.model import architectures
from adaptivedrag.model.architectures import ARCHITECTURES, architecture_of
from adaptivedrag.model.architectures.sd1 import STABLE_DIFFUSION_1
from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.model.source import Folder
from adaptivedrag.model.weights import find_diffusion
from adaptivedrag.sampling import DraggedEdit, Reference, sample

BLOCKS = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
}
THREE_LEVELS = replace(
    STABLE_DIFFUSION_1,
    name="three levels",
    topology={**BLOCKS, "layers_per_block": 1},
    feature_block=1,
)
"""An architecture that the project does not have, with a feature map of its own."""


def names(directory: Path) -> list[str]:
    source = Folder(directory)
    return [*architecture_of(source).files(source)]


def test_the_files_of_the_pocket_model_are_all_that_its_parts_hold():
    directory = find_diffusion("pocket")
    every = {path for path in directory.glob("*/*") if path.is_file()}
    assert {*STABLE_DIFFUSION_1.files(Folder(directory)).values()} == every


def test_files_that_are_not_loaded_are_no_files_of_a_model(tiny_model_directory, tmp_path):
    model = shutil.copytree(tiny_model_directory, tmp_path / "model")
    before = names(model)
    assert before == [
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "scheduler/scheduler_config.json",
    ]
    for stray in ("unet/.DS_Store", "unet/diffusion_pytorch_model.fp16.safetensors", "README.md"):
        (model / stray).write_bytes(b"stray")
    (model / "safety_checker").mkdir()
    assert names(model) == before
    DiffusionModel.load(model)


def test_weights_in_shards_are_named_with_their_index(tiny_model_directory, tmp_path):
    model = shutil.copytree(tiny_model_directory, tmp_path / "model")
    unet = UNet2DConditionModel.from_pretrained(model / "unet")
    shutil.rmtree(model / "unet")
    unet.save_pretrained(model / "unet", max_shard_size="100KB")
    shards = sorted(path.name for path in (model / "unet").glob("*-of-*.safetensors"))
    assert len(shards) > 1
    found = [Path(name).name for name in names(model) if name.startswith("unet/")]
    index = "diffusion_pytorch_model.safetensors.index.json"
    assert found == sorted(["config.json", *shards, index])
    plain = DiffusionModel.load(tiny_model_directory).unet.state_dict()
    assert all(
        torch.equal(value, plain[name])
        for name, value in DiffusionModel.load(model).unet.state_dict().items()
    )


@pytest.mark.parametrize("text", ["", "[]", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}'])
def test_an_index_that_lists_no_files_is_refused(tiny_model_directory, tmp_path, text):
    model = shutil.copytree(tiny_model_directory, tmp_path / "model")
    (model / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelUnavailable, match="does not list the files of the weights"):
        names(model)


@pytest.mark.parametrize("text", [None, "", "[" * 100_000, "3"])
def test_a_unet_without_a_configuration_is_refused(tmp_path, text):
    (tmp_path / "unet").mkdir()
    if text is not None:
        (tmp_path / "unet" / "config.json").write_text(text)
    with pytest.raises(ModelUnavailable, match=r"unet.config\.json"):
        architecture_of(Folder(tmp_path))


def test_an_older_configuration_without_the_newer_keys_is_recognized(tmp_path):
    (tmp_path / "unet").mkdir()
    blocks = {key: STABLE_DIFFUSION_1.topology[key] for key in BLOCKS}
    (tmp_path / "unet" / "config.json").write_text(json.dumps({**blocks, "layers_per_block": 2}))
    assert architecture_of(Folder(tmp_path)) is STABLE_DIFFUSION_1


def test_an_architecture_is_added_by_one_declaration(
    tiny_model_directory, tmp_path, monkeypatch, scenario
):
    """A UNet of three levels is loaded, inverts a picture and samples it again."""
    monkeypatch.setattr(architectures, "ARCHITECTURES", (*ARCHITECTURES, THREE_LEVELS))
    model_directory = shutil.copytree(tiny_model_directory, tmp_path / "model")
    shutil.rmtree(model_directory / "unet")
    torch.manual_seed(0)
    UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16, 16),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
        **BLOCKS,
    ).save_pretrained(model_directory / "unet")
    model = DiffusionModel.load(model_directory)
    assert model.architecture is THREE_LEVELS
    assert len(model.self_attentions()) == 7
    conditioning = model.encode_prompt("a hill")
    inversion = InvertImageConfig(num_steps=8, inverted_steps=5)
    (trajectory,) = invert(model, scenario.latents, conditioning, inversion)
    with torch.no_grad():
        _, (features,) = model.predict_with_features(trajectory[-1:], 501, conditioning)
    assert features.shape[1:] == scenario.latents.shape[2:]
    editable = torch.ones(scenario.latents.shape[2:], dtype=torch.bool)
    edit = DraggedEdit(trajectory[-1:].flip(-1), 0, scenario.drags, scenario.frame, editable)
    settings = SampleImageConfig(reference_first_layer=4, correspondence="off")
    reference, edited = sample(
        model, [Reference(trajectory, conditioning)], [edit], settings, inversion.num_steps
    )
    assert reference.shape == edited.shape == scenario.latents.shape
    assert edited.isfinite().all()
    assert not torch.allclose(reference, edited)
