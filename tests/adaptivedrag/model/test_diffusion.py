"""A model whose numbers cannot be used says so, and never gives a black picture."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch._dynamo.utils import counters

from adaptivedrag.config import Runtime, TrainLoraConfig
from adaptivedrag.errors import NotFinite, UnsupportedModel
from adaptivedrag.model.diffusion import DiffusionModel, check_model
from adaptivedrag.model.lora import train_lora
from adaptivedrag.model.source import Folder


@pytest.fixture
def directory(tiny_model_directory, tmp_path):
    return shutil.copytree(tiny_model_directory, tmp_path / "model")


def encoded(model):
    return model.posterior(np.full((64, 64, 3), 90, np.uint8))


def decoded(model):
    return model.decode(torch.ones(1, 4, 8, 8))


def read(model):
    return model.encode_prompt("a")


@pytest.mark.parametrize(
    ("use", "tensor", "said"),
    [
        (encoded, "vae/diffusion_pytorch_model:encoder.conv_in.weight", "the VAE encodes"),
        (decoded, "vae/diffusion_pytorch_model:decoder.conv_in.weight", "the VAE decodes"),
        (read, "text_encoder/model:final_layer_norm.weight", "the text encoder reads"),
    ],
)
@pytest.mark.parametrize(("dtype", "value"), [("float16", 1e6), ("float32", float("nan"))])
def test_numbers_that_are_not_finite_are_never_used(directory, use, tensor, said, dtype, value):
    file, _, name = tensor.partition(":")
    file = directory / f"{file}.safetensors"
    weights = load_file(file)
    save_file(weights | {name: torch.full_like(weights[name], value)}, file, {"format": "pt"})
    model = DiffusionModel.load(directory, dtype)
    with pytest.raises(NotFinite, match=f"{said}.* in {dtype}: use a wider dtype"):
        use(model)


def test_a_unet_that_is_damaged_is_not_taken_for_a_high_learning_rate(tiny_model_directory):
    model = DiffusionModel.load(tiny_model_directory)
    torch.nn.init.constant_(model.unet.conv_in.weight, float("nan"))
    config = TrainLoraConfig(steps=1, batch_size=1, rank=1)
    with pytest.raises(NotFinite, match="at step 0: use a wider dtype"):
        train_lora(model, encoded(model), read(model), config, seed=0)


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("unet", {"addition_time_embed_dim": 8}, "they do not add up"),
        ("text_encoder", {"num_hidden_layers": 0}, "no prompt can be read"),
        ("text_encoder", {"return_dict": False}, "no prompt can be read"),
    ],
)
def test_settings_with_which_no_edit_would_work_are_refused(
    family_directory, tmp_path, part, change, said
):
    model = shutil.copytree(family_directory("sdxl"), tmp_path / "xl")
    file = model / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    if change == {"num_hidden_layers": 0}:
        weights = model / part / "model.safetensors"
        whole = load_file(weights)
        save_file({n: of for n, of in whole.items() if "layers." not in n}, weights)
    with pytest.raises(UnsupportedModel, match=said):
        check_model(Folder(model))


@pytest.mark.parametrize("scale", [0, -1, None, "0.18", True])
def test_a_scaling_factor_that_is_none_is_refused(directory, scale):
    file = directory / "vae" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"scaling_factor": scale}))
    with pytest.raises(UnsupportedModel, match=f"{file}: scaling_factor is {scale!r}, and not"):
        check_model(Folder(directory))


def test_a_model_that_is_compiled_with_channels_last_predicts_the_same(tiny_model_directory):
    """Traced and not made faster, which takes minutes. Shapes of ours are not checked in traces."""
    torch.set_num_threads(1)
    plain, quick = (DiffusionModel.load(tiny_model_directory) for _ in range(2))
    quick.quicken(Runtime(compile=True, channels_last=True), backend="eager")
    assert quick.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    before = counters["stats"]["unique_graphs"]
    with torch.no_grad():
        one, other = (model.predict_noise(latents, 501, read(model)) for model in (plain, quick))
    assert counters["stats"]["unique_graphs"] > before
    assert (one - other).abs().max() < 1e-5 * np.ptp(one.numpy())
