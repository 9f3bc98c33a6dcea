"""Weights with fp16 in their names, whole and in shards; which of several variants is loaded."""

import json
import shutil

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel

from adaptivedrag.errors import ModelUnavailable
from adaptivedrag.model.architectures.sd1 import STABLE_DIFFUSION_1
from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.model.source import Folder
from adaptivedrag.model.tensors import FolderTensors
from adaptivedrag.model.weight_names import chosen_among

STEM = "diffusion_pytorch_model"
WHOLE, INDEX = f"{STEM}.safetensors", f"{STEM}.safetensors.index.json"
HALF, HALF_INDEX = f"{STEM}.fp16.safetensors", f"{STEM}.safetensors.index.fp16.json"
SHARDS = [f"{STEM}-0000{n}-of-00002.safetensors" for n in (1, 2)]
NEWER = [f"{STEM}.fp16-0000{n}-of-00002.safetensors" for n in (1, 2)]
OLDER = [f"{STEM}-0000{n}-of-00002.fp16.safetensors" for n in (1, 2)]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([WHOLE, HALF, f"{STEM}.non_ema.safetensors"], [WHOLE]),
        ([HALF, f"{STEM}.bin"], [HALF]),
        ([INDEX, *SHARDS, WHOLE], [INDEX, *SHARDS]),
        ([HALF_INDEX, *NEWER], [HALF_INDEX, *NEWER]),
        ([HALF_INDEX, *OLDER], [HALF_INDEX, *OLDER]),
        ([INDEX, *SHARDS, HALF_INDEX, *NEWER, *OLDER], [INDEX, *SHARDS]),
        ([f"{STEM}.bf16.safetensors"], [f"{STEM}.bf16.safetensors"]),
    ],
)
def test_the_plain_weights_are_chosen_before_those_of_a_variant(names, chosen):
    assert chosen_among(STEM, names) == {*chosen}


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_of_shards_and_a_whole_file_those_are_read_that_the_library_reads(part, tmp_path):
    stem = STABLE_DIFFUSION_1.parts[part].weights
    index, whole = f"{stem}.safetensors.index.json", f"{stem}.safetensors"
    shard = f"{stem}-00001-of-00001.safetensors"
    (tmp_path / index).write_text(json.dumps({"weight_map": {"a": shard}}))
    (tmp_path / whole).touch()
    wanted = {whole} if part == "text_encoder" else {index, shard}
    assert {file.name for file in FolderTensors(tmp_path, stem).files} == wanted
    assert chosen_among(stem, [index, shard, whole]) == wanted


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    for shard in SHARDS:
        save_file({"a": torch.ones(1)}, tmp_path / shard)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": dict(zip("ab", SHARDS, strict=True))}))
    with pytest.raises(ModelUnavailable, match="holds a, which another shard holds too"):
        FolderTensors(tmp_path, STEM).inspect()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], f"no {WHOLE}"),
        ([f"{STEM}.bin"], f"no {WHOLE}, only {STEM}.bin"),
        ([INDEX, SHARDS[1]], f"only 1 of the 2 shards of {INDEX}"),
        ([INDEX], f"only 0 of the 1 shards of {INDEX}"),
        ([HALF_INDEX, NEWER[0], *SHARDS], f"only 1 of the 2 shards of {HALF_INDEX}"),
    ],
)
def test_lacking_weights_are_named(names, said):
    with pytest.raises(ValueError, match=said):
        chosen_among(STEM, names)


@pytest.mark.parametrize("shard", ["1GB", "8KB"])
def test_a_folder_of_fp16_names_is_loaded_as_by_diffusers(tiny_model_directory, tmp_path, shard):
    model = shutil.copytree(tiny_model_directory, tmp_path / "model")
    kinds = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
    expected = {}
    for name, kind in kinds.items():
        half = kind.from_pretrained(model / name).half()
        shutil.rmtree(model / name)
        half.save_pretrained(model / name, variant="fp16", max_shard_size=shard)
        expected |= {f"{name}.{key}": value for key, value in half.state_dict().items()}
    names = {path.name for path in STABLE_DIFFUSION_1.files(Folder(model)).values()}
    assert {"model.fp16.safetensors" in names, HALF in names} == {shard == "1GB"}
    loaded = DiffusionModel.load(model, "float16")
    parts = {"unet": loaded.unet, "vae": loaded.vae, "text_encoder": loaded.prompts.text_encoder}
    found = {f"{n}.{key}": value for n, m in parts.items() for key, value in m.state_dict().items()}
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in found.items())
