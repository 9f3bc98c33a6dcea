"""Weights agree with the configuration to the last tensor, or the model is refused by name."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from adaptivedrag.errors import ModelUnavailable
from adaptivedrag.model.architectures.sd1 import STABLE_DIFFUSION_1
from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.model.source import Folder

STEMS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}


@pytest.fixture
def model(tiny_model_directory, tmp_path):
    """A model whose files are links, to be replaced and never written to."""
    return shutil.copytree(tiny_model_directory, tmp_path / "model", copy_function=_link)


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def replaced(model: Path, part: str, data: bytes) -> Path:
    file = model / part / f"{STEMS[part]}.safetensors"
    file.unlink()
    file.write_bytes(data)
    return file


def reweighed(model: Path, part: str, change) -> None:
    file = model / part / f"{STEMS[part]}.safetensors"
    weights = load_file(file)
    change(weights)
    file.unlink()
    save_file(weights, file, metadata={"format": "pt"})


def refusal(model: Path, name: str) -> str:
    """Return why a part is refused before a value is read."""
    part, folder = STABLE_DIFFUSION_1.parts[name], model / name
    with pytest.raises(ModelUnavailable) as refused:
        part.checked(folder, part.tensors(folder))
    text = str(refused.value)
    assert str(model) in text
    assert text.isprintable()
    assert len(text) < 700
    return text


QUERY = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"


def drop(name):
    return lambda weights: weights.pop(name)


def rename(name, to):
    return lambda weights: weights.update({to: weights.pop(name)})


def put(name, value):
    return lambda weights: weights.update({name: value})


def retype(name, dtype):
    return lambda weights: weights.update({name: weights[name].to(dtype)})


WRONG = {
    "one is missing": ("unet", drop(QUERY), f"1 missing ({QUERY})"),
    "the text encoder lacks one": (
        "text_encoder",
        drop("encoder.layers.0.mlp.fc1.weight"),
        "1 missing (encoder.layers.0.mlp.fc1.weight)",
    ),
    "the VAE lacks one": ("vae", drop("decoder.conv_in.bias"), "1 missing (decoder.conv_in.bias)"),
    "one is renamed": (
        "unet",
        rename(QUERY, "mid_block.q.weight"),
        f"1 missing ({QUERY}); 1 not of this model (mid_block.q.weight)",
    ),
    "one is too many": (
        "vae",
        put("ema.decay", torch.zeros(1)),
        "1 not of this model (ema.decay)",
    ),
    "a LoRA is among them": (
        "unet",
        put("mid_block.lora_A.weight", torch.zeros(2, 2)),
        "1 not of this model (mid_block.lora_A.weight)",
    ),
    "the projection of another class": (
        "text_encoder",
        put("text_projection.weight", torch.zeros(16, 16)),
        "1 not of this model (text_projection.weight)",
    ),
    "another shape": (
        "unet",
        put(QUERY, torch.zeros(16, 8)),
        f"1 of another shape ({QUERY} is 16×8 and not 16×16)",
    ),
    "integers": (
        "unet",
        retype(QUERY, torch.int8),
        f"1 of a type that is not supported ({QUERY} is I8)",
    ),
    "eight bits": (
        "text_encoder",
        retype("final_layer_norm.bias", torch.float8_e4m3fn),
        "1 of a type that is not supported (final_layer_norm.bias is F8_E4M3)",
    ),
    "no tensors": ("vae", lambda weights: weights.clear(), "missing (decoder.conv_in.bias, "),
    "two names of one": (
        "text_encoder",
        put("text_model.final_layer_norm.bias", torch.zeros(16)),
        "1 there under two names (final_layer_norm.bias)",
    ),
}


@pytest.mark.parametrize(("part", "change", "said"), WRONG.values(), ids=WRONG)
def test_weights_that_do_not_fit_are_refused_by_the_names_of_tensors(model, part, change, said):
    reweighed(model, part, change)
    text = refusal(model, part)
    assert f"{model / part}: the weights do not fit config.json" in text
    assert said in text


def test_a_model_that_is_refused_is_not_loaded(model):
    reweighed(model, "text_encoder", drop("final_layer_norm.weight"))
    with pytest.raises(ModelUnavailable) as refused:
        DiffusionModel.load(model)
    assert str(refused.value) == refusal(model, "text_encoder")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"\x02\0\0\0\0\0\0\0{}", "missing (conv_in.bias, conv_in.weight, "),
        (b"\xff" * 64, "is cut short, damaged or no safetensors file"),
        (b"\x02\0\0\0\0\0\0\0[]", "is cut short, damaged"),
        (b"\x08\0\0\0\0\0\0\0" + b'{"a": 3}', "is cut short, damaged"),
        (b"\x00\x00\x10\0\0\0\0\0" + b"[" * 2**20, "is cut short, damaged"),
        (b"PK\x03\x04 and so on", "is cut short, damaged or no safetensors file"),
    ],
    ids=["empty", "pointer", "no tensors", "noise", "a list", "a number", "nested", "archive"],
)
def test_a_file_that_holds_no_weights_is_refused_by_what_it_is(model, data, said):
    replaced(model, "unet", data)
    assert said in refusal(model, "unet")


def test_weights_that_are_cut_short_are_refused(model):
    whole = (model / "vae" / "diffusion_pytorch_model.safetensors").read_bytes()
    file = replaced(model, "vae", whole[:-1])
    assert f"{file} is cut short, damaged or no" in refusal(model, "vae")


def test_a_shard_that_is_missing_is_named(model):
    unet = UNet2DConditionModel.from_pretrained(model / "unet")
    (model / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    unet.save_pretrained(model / "unet", max_shard_size="100KB")
    STABLE_DIFFUSION_1.checked(Folder(model))
    shard = next((model / "unet").glob("*-00002-of-*.safetensors"))
    shard.unlink()
    assert f"{shard} is missing" in refusal(model, "unet")


def test_names_and_lists_of_older_checkpoints_are_taken_as_the_libraries_take_them(model):
    """As the files of Stable Diffusion 1.5 on the hub have them."""

    def older_vae(weights):
        newer = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        for name in [name for name in weights if ".attentions.0.to_" in name]:
            new = next(each for each in newer if f".{each}." in name)
            weights[name.replace(f".{new}.", f".{newer[new]}.")] = weights.pop(name)

    def older_text(weights):
        for name in list(weights):
            weights[f"text_model.{name}"] = weights.pop(name)
        weights["text_model.embeddings.position_ids"] = torch.arange(77)[None]

    before = DiffusionModel.load(model)
    reweighed(model, "vae", older_vae)
    reweighed(model, "text_encoder", older_text)
    after = DiffusionModel.load(model)
    assert_equal(after.vae, before.vae)
    assert_equal(after.prompts.text_encoder, before.prompts.text_encoder)
    assert_equal(after.vae, AutoencoderKL.from_pretrained(model / "vae"))
    assert_equal(after.prompts.text_encoder, CLIPTextModel.from_pretrained(model / "text_encoder"))


def assert_equal(one: torch.nn.Module, other: torch.nn.Module) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert {name: value.shape for name, value in one.named_buffers()} == {
        name: value.shape for name, value in other.named_buffers()
    }


@torch.no_grad()
def test_parts_are_those_of_the_libraries_loaders_bit_for_bit(model):
    """Weights in float16, as most are published; then a pass of each part."""
    for part in ("unet", "vae"):
        reweighed(model, part, lambda weights: weights.update(
            {name: value.half() for name, value in weights.items()}
        ))  # fmt: skip
    narrow = UNet2DConditionModel.from_pretrained(model / "unet", torch_dtype=torch.bfloat16)
    assert_equal(DiffusionModel.load(model, "bfloat16").unet, narrow)
    ours = DiffusionModel.load(model)
    unet = UNet2DConditionModel.from_pretrained(model / "unet", torch_dtype=torch.float32)
    vae = AutoencoderKL.from_pretrained(model / "vae", torch_dtype=torch.float32)
    text = CLIPTextModel.from_pretrained(model / "text_encoder")
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 50, (1, 77), generator=draw)
    seen = text(tokens)[0]
    assert torch.equal(ours.prompts.text_encoder(tokens)[0], seen)
    latents = torch.randn(1, 4, 8, 8, generator=draw)
    noise = unet(latents, 501, seen)[0]
    assert noise.isfinite().all()
    assert torch.equal(ours.unet(latents, 501, seen)[0], noise)
    picture = torch.rand(1, 3, 64, 64, generator=draw)
    assert torch.equal(
        ours.vae.encode(picture).latent_dist.parameters, vae.encode(picture).latent_dist.parameters
    )
    assert torch.equal(ours.vae.decode(latents).sample, vae.decode(latents).sample)


def test_what_a_model_is_checked_for_takes_no_values(model, monkeypatch):
    monkeypatch.setattr("safetensors.torch.load_file", None)
    parts = STABLE_DIFFUSION_1.checked(Folder(model))
    assert {value.device.type for value in parts["unet"].parameters()} == {"meta"}


def test_a_whole_file_beside_an_index_is_none_of_the_files(model):
    unet = UNet2DConditionModel.from_pretrained(model / "unet")
    unet.save_pretrained(model / "unet", max_shard_size="100KB")
    whole = replaced(model, "unet", b"")
    assert whole not in STABLE_DIFFUSION_1.files(Folder(model)).values()
    index = json.loads((model / "unet" / f"{whole.name}.index.json").read_text())
    assert set(index["weight_map"].values()) <= {
        file.name for file in STABLE_DIFFUSION_1.files(Folder(model)).values()
    }
    DiffusionModel.load(model)
