"""Checkpoints in one file: the same models, to the last bit, as the folders they were made of."""

import shlex
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.single_files import EPSILON, original_weights, settings_of, write_single_file
from support.tiny_models import write_model

from adaptivedrag.errors import AdaptiveDragError
from adaptivedrag.model.diffusion import DiffusionModel, check_model
from adaptivedrag.model.file_kinds import conversion, folder_conversion
from adaptivedrag.model.parts import UNET, VAE
from adaptivedrag.model.single_file import SingleFile
from adaptivedrag.model.source import Folder
from adaptivedrag.model.vae_source import WithVae, vae_at
from adaptivedrag.model.weights import find_model

FAMILIES = ("sd1", "sd2", "sd2-v", "sdxl")


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request, tmp_path_factory):
    """A tiny model of a family as a folder and as a single file."""
    folder = tmp_path_factory.mktemp("single")
    family = request.param
    model = write_model(folder / "model", family)
    metadata = {} if family == "sd2-v" else EPSILON
    file = folder / "one.safetensors"
    write_single_file(file, original_weights(model, family), metadata)
    return DiffusionModel.load(model), SingleFile.open(
        file, settings_of(model, folder / "configs", family)
    )


def states(model: DiffusionModel) -> dict[str, torch.Tensor]:
    modules = (model.unet, model.vae, *model.prompts.modules)
    return {
        f"{number}.{name}": value
        for number, module in enumerate(modules)
        for name, value in module.state_dict().items()
    }


def assert_equal(found: DiffusionModel, expected: DiffusionModel) -> None:
    ours, theirs = states(found), states(expected)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_single_file_is_the_model_that_its_folder_is(pair):
    expected, source = pair
    found = DiffusionModel.load(source)
    assert found.architecture == expected.architecture
    assert found.schedule == expected.schedule
    assert_equal(found, expected)
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    ours, theirs = (model.encode_prompt("a hill") for model in (found, expected))
    assert torch.equal(ours.tokens, theirs.tokens)
    assert all(torch.equal(value, theirs.added[name]) for name, value in ours.added.items())
    assert (found.decode(latents) == expected.decode(latents)).all()


@pytest.fixture(scope="module")
def weights(tiny_model_directory):
    """The tiny model's tensors by the names of the original layout."""
    return original_weights(tiny_model_directory)


@pytest.fixture(scope="module")
def configs(tiny_model_directory, tmp_path_factory):
    return settings_of(tiny_model_directory, tmp_path_factory.mktemp("configs"))


@pytest.fixture
def opened(tmp_path, configs):
    """Write tensors to a single file and open it."""

    def write(weights, **metadata) -> SingleFile:
        return SingleFile.open(
            write_single_file(tmp_path / "one.safetensors", weights, metadata), configs
        )

    return write


FIRST_BIAS = "model.diffusion_model.input_blocks.0.0.bias"
FIRST = "model.diffusion_model.input_blocks.0.0.weight"
EXTRA = {
    "model_ema.diffusion_modelinput_blocks00weight": torch.ones(2),
    "model_ema.decay": torch.ones(()),
    "alphas_cumprod": torch.ones(1000),
    "betas": torch.ones(1000),
    "first_stage_model.loss.logvar": torch.ones(()),
    "cond_stage_model.logit_scale": torch.ones(()),
    "global_step": torch.ones(()),
}


def test_averages_and_remains_of_training_are_left_aside(opened, weights, tiny_model_directory):
    source = opened(weights | EXTRA)
    assert any("EMA" in note for note in source.notes)
    assert_equal(DiffusionModel.load(source), DiffusionModel.load(tiny_model_directory))


def test_the_names_of_a_wrapped_checkpoint_are_those_inside(opened, weights):
    wrapped = {f"state_dict.{name}": value for name, value in weights.items()}
    check_model(opened(wrapped))


def test_a_file_in_16_bits_is_the_folder_in_16_bits(opened, weights, tiny_model_directory):
    half = {n: of.half() if of.is_floating_point() else of for n, of in weights.items()}
    found = DiffusionModel.load(opened(half), "float16")
    assert_equal(found, DiffusionModel.load(tiny_model_directory, "float16"))


PREDICTION = "modelspec.prediction_type"


@pytest.mark.parametrize("said", ["V", "v_prediction", " v", "epsilon", "EPSILON", ""])
def test_what_a_unet_predicts_is_read_from_the_header(opened, weights, said):
    is_v = said.strip().lower().startswith("v")
    assert (opened(weights, **{PREDICTION: said}).settings("scheduler").name == "epsilon") != is_v


def test_what_a_unet_predicts_is_read_from_a_tensor_where_the_header_is_silent(opened, weights):
    source = opened(weights | {"v_pred": torch.ones(0)}, **{PREDICTION: ""})
    assert source.settings("scheduler").name == "v_prediction"


@pytest.mark.parametrize(
    ("said", "tensors"), [("x0", {}), ("sample", {}), ("epsilon", {"v_pred": torch.ones(0)})]
)
def test_a_header_that_says_something_else_is_refused(opened, weights, said, tensors):
    with pytest.raises(AdaptiveDragError, match=f"prediction_type in its header is '{said}'"):
        opened(weights | tensors, **{PREDICTION: said})


def without(prefix):
    return lambda weights: {n: of for n, of in weights.items() if not n.startswith(prefix)}


def with_inputs(count):
    return lambda weights: weights | {FIRST: torch.zeros(8, count, 3, 3)}


REFUSED = {
    "inpainting": (with_inputs(9), "takes 9 channels: it is an inpainting model"),
    "pix2pix": (with_inputs(8), "takes 8 channels: it is an InstructPix2Pix model"),
    "another size": (
        lambda weights: weights | {FIRST: torch.zeros(16, 4, 3, 3)},
        "the UNet is 16 channels wide, and that of Stable Diffusion 1.x 8",
    ),
    "no text encoder": (without("cond_stage_model"), "a UNet without its text encoder"),
    "refiner": (
        lambda weights: {
            **without("cond_stage_model")(weights),
            "conditioner.embedders.0.model.ln_final.weight": torch.ones(1),
        },
        "is the refiner of SDXL",
    ),
    "no VAE": (without("first_stage_model"), 'holds no vae: name one with vae = "…"'),
    "a ControlNet inside": (
        lambda weights: weights | {"control_model.zero.weight": torch.ones(1)},
        "1 tensors that are of no part of Stable Diffusion 1.x, such as control_model.zero",
    ),
    "zero terminal noise": (
        lambda weights: weights | {"ztsnr": torch.ones(())},
        "noise schedule that is not supported, as its tensor ztsnr",
    ),
    "noise of EDM": (
        lambda weights: weights | {"edm_vpred.sigma_max": torch.ones(())},
        "noise schedule that is not supported, as its tensor edm_vpred.sigma_max",
    ),
    "a first weight of one number": (
        lambda weights: weights | {FIRST: torch.ones(())},
        "input_blocks.0.0.weight is no convolution",
    ),
    "a last weight of no number": (
        lambda weights: weights | {"model.diffusion_model.out.2.weight": torch.ones(())},
        "out.2.weight is no convolution",
    ),
    "one tensor under two names": (
        lambda weights: weights | {f"module.{FIRST}": weights[FIRST] + 1},
        "holds one tensor twice, as .*input_blocks.0.0.weight",
    ),
    "truth values": (
        lambda weights: weights | {FIRST_BIAS: weights[FIRST_BIAS].bool()},
        "1 tensors are of a type that is not supported .*input_blocks.0.0.bias is BOOL",
    ),
    "one tensor missing": (
        lambda weights: {n: of for n, of in weights.items() if n != FIRST_BIAS},
        "one.safetensors: unet: .*1 missing .conv_in.bias",
    ),
    "one tensor too many": (
        lambda weights: weights | {"model.diffusion_model.label_emb.0.0.weight": torch.ones(1)},
        "1 tensors that it has no use for, such as .*label_emb",
    ),
    "8-bit numbers": (
        lambda weights: {n: of.to(torch.float8_e4m3fn) for n, of in weights.items()},
        "of a type that is not supported",
    ),
}


@pytest.mark.parametrize(("change", "said"), REFUSED.values(), ids=REFUSED)
def test_a_checkpoint_of_another_kind_is_refused_by_name(opened, weights, change, said):
    with pytest.raises(AdaptiveDragError, match=said) as refused:
        check_model(opened(change(weights)))
    assert "\n" not in str(refused.value)


OTHERS = {
    "kohya LoRA": ("lora_unet_down_blocks_0_attentions_0.lora_down.weight", "a LoRA: .*lora = "),
    "peft LoRA": ("unet.down_blocks.0.attn1.to_q.lora_A.weight", "a LoRA"),
    "ControlNet": ("control_model.input_blocks.0.0.weight", "a ControlNet"),
    "VAE": ("decoder.conv_in.weight", "a VAE: .*vae = "),
    "VAE of a checkpoint": ("first_stage_model.decoder.conv_in.weight", "a VAE"),
    "text encoder": ("text_model.encoder.layers.0.self_attn.k_proj.weight", "a text encoder"),
    "T5": ("encoder.block.0.layer.0.SelfAttention.k.weight", "a text encoder"),
    "UNet": ("down_blocks.0.resnets.0.conv1.weight", "a UNet in diffusers' layout"),
    "odd names": (
        "model.diffusion_model.down_blocks.0.resnets.0.conv1.weight",
        "a checkpoint with diffusers' names under the prefixes of the original layout",
    ),
    "FLUX": ("double_blocks.0.img_attn.qkv.weight", "a transformer"),
    "Stable Diffusion 3": ("model.diffusion_model.joint_blocks.0.x", "a transformer"),
    "textual inversion": ("emb_params", "a textual inversion"),
    "IP-Adapter": ("image_proj.proj.weight", "an IP-Adapter"),
    "unknown": ("classifier.weight", "no Stable Diffusion: its first tensor is classifier.weight"),
}


@pytest.mark.parametrize(("name", "said"), OTHERS.values(), ids=OTHERS)
def test_another_file_is_named_as_what_it_is(tmp_path, name, said):
    save_file({name: torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(AdaptiveDragError, match=f"other.safetensors is {said}"):
        find_model(str(tmp_path / "other.safetensors"))


@pytest.mark.parametrize("ending", ["ckpt", "pt", "pth", "bin", "CKPT"])
def test_a_pickle_is_refused_with_the_command_that_converts_it(
    tmp_path, weights, ending, monkeypatch
):
    few = dict(list(weights.items())[:3])
    torch.save({"state_dict": few, "epoch": 3}, tmp_path / f"my model.{ending}")
    with pytest.raises(AdaptiveDragError, match="is a pickle") as refused:
        find_model(str(tmp_path / f"my model.{ending}"))
    command = shlex.split(str(refused.value).partition("file of it with ")[2])
    assert command[:2] == [sys.executable, "-c"]
    monkeypatch.setattr(sys, "argv", ["-c", *command[3:]])
    exec(command[2], {})
    assert load_file(tmp_path / "my model.safetensors").keys() == few.keys()


def test_a_folder_of_pickles_is_refused_with_the_command_that_converts_it(tmp_path):
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        (tmp_path / part).mkdir()
    (tmp_path / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"")
    with pytest.raises(
        AdaptiveDragError, match=r"only diffusion_pytorch_model.bin, .*python\S* -c"
    ):
        find_model(str(tmp_path))


@pytest.fixture(scope="module")
def other_vae(tmp_path_factory):
    """Another model, whose VAE is taken."""
    return write_model(tmp_path_factory.mktemp("other") / "model", seed=1)


def vae_folder(model, _place):
    return model / "vae"


def vae_of_a_model(model, _place):
    return model


def vae_in_a_file(model, place):
    return write_single_file(place, load_file(next((model / "vae").glob("*.safetensors"))))


def original_vae(model, place):
    prefix, every = "first_stage_model.", original_weights(model)
    own = {n.removeprefix(prefix): of for n, of in every.items() if n.startswith(prefix)}
    return write_single_file(place, own)


def vae_of_a_checkpoint(model, place):
    return write_single_file(place, original_weights(model))


@pytest.mark.parametrize(
    "form", [vae_folder, vae_of_a_model, vae_in_a_file, original_vae, vae_of_a_checkpoint]
)
def test_a_vae_of_ones_own_takes_the_place_of_the_models(
    tiny_model_directory, other_vae, tmp_path, form
):
    model = Folder(tiny_model_directory)
    source = WithVae(model, vae_at(form(other_vae, tmp_path / "vae.safetensors"), model))
    own, parts = VAE.build(other_vae / "vae"), source.part("vae", VAE)
    found = VAE.load(parts.folder, "float32", parts.tensors).state_dict()
    expected = VAE.load(other_vae / "vae", "float32", VAE.tensors(other_vae / "vae"))
    assert found.keys() == own.state_dict().keys()
    assert all(torch.equal(of, found[name]) for name, of in expected.state_dict().items())
    assert source.part("unet", UNET) == model.part("unet", UNET)


@pytest.mark.parametrize(
    ("form", "heeded"), [(vae_in_a_file, True), (original_vae, True), (vae_of_a_checkpoint, False)]
)
def test_the_configuration_beside_a_vae_is_heeded(
    tiny_model_directory, other_vae, tmp_path, form, heeded
):
    (tmp_path / "config.json").write_text((other_vae / "vae" / "config.json").read_text())
    model = Folder(tiny_model_directory)
    found = vae_at(form(other_vae, tmp_path / "vae.safetensors"), model)
    assert (found.folder == tmp_path) == heeded


def test_a_checkpoint_without_a_vae_is_whole_with_one(opened, weights, other_vae):
    source = opened(without("first_stage_model")(weights))
    check_model(WithVae(source, vae_at(other_vae / "vae", source)))


def test_a_vae_that_is_a_pickle_is_refused_with_the_command_that_converts_it(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"")
    with pytest.raises(AdaptiveDragError, match=r"vae .* a pickle, .*diffusion_pytorch_model\.bin"):
        find_model("pocket", str(tmp_path))


def test_a_file_that_is_no_vae_is_named_as_what_it_is(tiny_model_directory, tmp_path):
    save_file({"lora_unet_x.lora_up.weight": torch.ones(1)}, tmp_path / "lora.safetensors")
    with pytest.raises(AdaptiveDragError, match=r"vae .*lora\.safetensors is a LoRA"):
        vae_at(tmp_path / "lora.safetensors", Folder(tiny_model_directory))


@pytest.mark.parametrize(
    "command",
    [conversion("model.ckpt"), folder_conversion(Path("model")).partition("files with ")[2]],
)
def test_the_commands_that_convert_are_in_the_docs_as_they_are_printed(command):
    docs = (Path(__file__).parents[3] / "docs" / "models.md").read_text("utf-8")
    assert command.replace(shlex.quote(sys.executable), "python") in docs.splitlines()
