"""LoRA files of other tools: taken with their strength, or refused in one line."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.lora_forms import (
    ALPHA,
    KOHYA,
    RANK,
    Written,
    attentions,
    diffusers,
    draw_pairs,
    everywhere,
    header,
    kohya,
    named,
    old_diffusers,
    original,
    peft_settings,
)
from support.tiny_models import write_model

from adaptivedrag.errors import InvalidEdit
from adaptivedrag.model.lora import lora_applied, model_layers
from adaptivedrag.model.lora_files import check_fit, encode_for_others, find_lora, read_lora
from stages.planning.models import adaptable_layers

SCALE = ALPHA / RANK


@pytest.fixture(scope="module")
def layers(tiny):
    return model_layers(tiny)


def taken(path, layers):
    """Read a LoRA as an edit would."""
    file = find_lora(path)
    check_fit(file, layers)
    return read_lora(file)


def parts(model):
    return {"unet": model.unet, "text_encoder": model.prompts.modules[0]}


def merged(model, weights):
    """Return all weights of a model while a LoRA is merged into it, by part and name."""
    with lora_applied(model, weights):
        return {
            (part, name): value.data
            for part, module in parts(model).items()
            for name, value in module.named_parameters()
        }


def check_merged(model, weights, pairs, scales):
    """Compare merged weights with W + scale · B·A, in float64; all others stay what they are."""
    found, before = merged(model, weights), merged(model, None)
    changed = {p for p, value in found.items() if value.data_ptr() != before[p].data_ptr()}
    assert changed == {(part, f"{layer}.weight") for part, layer in pairs}
    for (part, layer), (down, up) in pairs.items():
        place = part, f"{layer}.weight"
        a, b = (torch.from_numpy(each).double() for each in (down, up))
        update = scales[part, layer] * torch.einsum("or,ri...->oi...", b.flatten(1), a)
        expected = before[place].double() + update
        torch.testing.assert_close(found[place].double(), expected, rtol=1e-6, atol=1e-6)


FORMS = {
    "diffusers": (1, attentions, lambda p, _: Written(named(p, diffusers))),
    "diffusers, alpha in tensors": (
        SCALE,
        attentions,
        lambda p, _: Written(named(p, diffusers, alpha=ALPHA)),
    ),
    "diffusers, alpha in the header": (
        SCALE,
        attentions,
        lambda p, _: Written(
            named(p, diffusers), header(**{"unet.r": RANK, "unet.lora_alpha": ALPHA})
        ),
    ),
    "diffusers, a UNet's own": (
        SCALE,
        attentions,
        lambda p, _: Written(
            named(p, lambda _part, layer: layer), header(r=RANK, lora_alpha=ALPHA)
        ),
    ),
    "diffusers, rank-stabilized": (
        ALPHA / math.sqrt(RANK),
        attentions,
        lambda p, _: Written(
            named(p, diffusers),
            header(**{"unet.r": RANK, "unet.lora_alpha": ALPHA, "unet.use_rslora": True}),
        ),
    ),
    "diffusers, before peft": (
        1,
        lambda layers: attentions(layers, text=True),
        lambda p, _: Written(named(p, old_diffusers, "_lora.down.weight", "_lora.up.weight")),
    ),
    "DragDiffusion": (
        1,
        attentions,
        lambda p, _: Written(
            named(
                p,
                lambda part, layer: old_diffusers(part, layer).removeprefix("unet."),
                "_lora.down.weight",
                "_lora.up.weight",
            )
        ),
    ),
    "diffusers, lora layers": (
        1,
        everywhere,
        lambda p, _: Written(
            named(p, diffusers, ".lora.down.weight", ".lora.up.weight")
        ),
    ),
    "diffusers, text encoder before peft": (
        1,
        lambda layers: attentions(layers, text=True),
        lambda p, _: Written(
            named(
                p, diffusers, ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"
            )
        ),
    ),
    "kohya": (SCALE, everywhere, lambda p, _: Written(named(p, kohya, *KOHYA, alpha=ALPHA))),
    "kohya without alpha": (1, everywhere, lambda p, _: Written(named(p, kohya, *KOHYA))),
    "OneTrainer": (
        SCALE,
        everywhere,
        lambda p, _: Written(
            named(p, lambda *n: kohya(*n, text="lora_te1"), *KOHYA, alpha=ALPHA),
            {"modelspec.architecture": "stable-diffusion-v1/lora"},
        ),
    ),
    "LyCORIS": (
        SCALE,
        lambda layers: [place for place in everywhere(layers) if place[0] == "unet"],
        lambda p, _: Written(
            named(p, lambda _, n: "lycoris_" + n.replace(".", "_"), *KOHYA, alpha=ALPHA)
        ),
    ),
    "kohya, original names": (
        SCALE,
        lambda layers: [place for place in everywhere(layers) if place[0] == "unet"],
        lambda p, known: Written(
            named(p, original(known, "lora_unet_", "_"), *KOHYA, alpha=ALPHA)
        ),
    ),
    "ComfyUI": (
        1,
        lambda layers: [place for place in everywhere(layers) if place[0] == "unet"],
        lambda p, known: Written(named(p, original(known, "diffusion_model.", "."))),
    ),
    "ComfyUI with text": (
        1,
        lambda layers: attentions(layers, text=True),
        lambda p, known: Written(
            named(
                p,
                lambda part, layer: f"diffusion_model.{layer}"
                if part == "unet"
                else f"text_encoders.clip_l.transformer.text_model.{layer}",
                *KOHYA,
            )
        ),
    ),
    "peft": (
        SCALE,
        attentions,
        lambda p, _: Written(
            named(p, lambda _, n: f"base_model.model.{n}"), config=peft_settings()
        ),
    ),
    "peft, rank-stabilized": (
        ALPHA / math.sqrt(RANK),
        attentions,
        lambda p, _: Written(
            named(p, lambda _, n: f"base_model.model.{n}", ".lora_A.default.weight",
                  ".lora_B.default.weight"),
            config=peft_settings(use_rslora=True),
        ),
    ),
    "peft of a text encoder": (
        SCALE,
        lambda layers: [p for p in attentions(layers, text=True) if p[0] == "text_encoder"],
        lambda p, _: Written(
            named(p, lambda _, n: f"base_model.model.text_model.{n}"), config=peft_settings()
        ),
    ),
    "peft of a text encoder, by transformers 5": (
        SCALE,
        lambda layers: [p for p in attentions(layers, text=True) if p[0] == "text_encoder"],
        lambda p, _: Written(
            named(p, lambda _, n: f"base_model.model.{n}"), config=peft_settings()
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("scale", "wanted", "form"), FORMS.values(), ids=FORMS)
def test_a_file_of_each_tool_is_merged_at_its_own_strength(
    tiny, layers, tmp_path, scale, wanted, form
):
    pairs = draw_pairs(layers, wanted(layers))
    path = form(pairs, layers).save(tmp_path)
    check_merged(tiny, taken(path, layers), pairs, dict.fromkeys(pairs, scale))


def test_patterns_of_peft_give_each_layer_its_rank_and_alpha(tiny, layers, tmp_path):
    pairs = dict(draw_pairs(layers, attentions(layers)))
    wide = ("unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_v")
    pairs |= draw_pairs(layers, [wide], rank=5)
    config = peft_settings(
        rank_pattern={"mid_block.*to_v": 5}, alpha_pattern={"attn2.to_k": 1.0, r"^down.*to_q": 10.0}
    )
    path = Written(named(pairs, lambda _, n: f"base_model.model.{n}"), config=config).save(tmp_path)
    scales = {place: ALPHA / len(pairs[place][0]) for place in pairs}
    scales |= {place: 1.0 / RANK for place in pairs if place[1].endswith("attn2.to_k")}
    scales |= {place: 10.0 / RANK for place in pairs if place[1].endswith("to_q")}
    check_merged(tiny, taken(path, layers), pairs, scales)


def test_the_middle_of_a_locon_is_between_its_factors(tiny, layers, tmp_path):
    """LyCORIS splits a 3×3 convolution into 1×1, 3×3 and 1×1."""
    place = ("unet", "down_blocks.2.resnets.1.conv1")
    draw = np.random.default_rng(0)
    rows, columns, *window = layers["unet"][place[1]]
    down, mid, up = (
        draw.normal(size=size).astype(np.float32)
        for size in ((RANK, columns, 1, 1), (RANK, RANK, *window), (rows, RANK, 1, 1))
    )
    tensors = named({place: (down, up)}, kohya, *KOHYA, alpha=ALPHA)
    tensors[kohya(*place) + ".lora_mid.weight"] = mid
    product = np.einsum("pqkl,qi->pikl", mid, down[..., 0, 0])
    path = Written(tensors).save(tmp_path)
    check_merged(tiny, taken(path, layers), {place: (product, up)}, {place: SCALE})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_file_of_another_precision_is_read(tiny, layers, tmp_path, dtype):
    from safetensors.torch import save_file

    pairs = draw_pairs(layers, attentions(layers))
    save_file(
        {
            name: torch.from_numpy(value).to(dtype)
            for name, value in named(pairs, diffusers).items()
        },
        tmp_path / "lora.safetensors",
    )
    rounded = {
        place: tuple(torch.from_numpy(each).to(dtype).float().numpy() for each in pair)
        for place, pair in pairs.items()
    }
    check_merged(
        tiny, taken(tmp_path / "lora.safetensors", layers), rounded, dict.fromkeys(pairs, 1)
    )


def test_what_peft_saves_is_merged_as_peft_merges_it(tiny, tiny_model_directory, layers, tmp_path):
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig, get_peft_model

    unet = UNet2DConditionModel.from_pretrained(tiny_model_directory, subfolder="unet")
    config = LoraConfig(
        r=2,
        lora_alpha=7,
        use_rslora=True,
        init_lora_weights=False,
        target_modules=["to_q", "ff.net.2", "conv2", "proj_in"],
        rank_pattern={"mid_block.*": 3},
        alpha_pattern={"up_blocks.1.*conv2": 11},
    )
    theirs = get_peft_model(unet, config)
    theirs.save_pretrained(tmp_path)
    weights = taken(tmp_path, layers)
    found = merged(tiny, weights)
    expected = theirs.merge_and_unload().state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(found["unet", name], value, rtol=1e-5, atol=1e-6)


def test_what_diffusers_saves_is_merged_as_diffusers_merges_it(
    tiny, tiny_model_directory, layers, tmp_path
):
    """A pipeline saves UNet and text encoder in one file, with the settings in its header."""
    from diffusers import StableDiffusionPipeline
    from diffusers.training_utils import _collate_lora_metadata
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipeline = StableDiffusionPipeline.from_pretrained(
        tiny_model_directory, safety_checker=None, feature_extractor=None
    )
    settings = {"r": 2, "init_lora_weights": False}
    modules = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}
    for (part, module), alpha in zip(modules.items(), (5, 3), strict=True):
        targets = ["to_k", "conv1"] if part == "unet" else ["q_proj", "fc1"]
        module.add_adapter(LoraConfig(lora_alpha=alpha, target_modules=targets, **settings))
    states = {
        part: convert_state_dict_to_diffusers(get_peft_model_state_dict(module))
        for part, module in modules.items()
    }
    StableDiffusionPipeline.save_lora_weights(
        tmp_path, states["unet"], states["text_encoder"], **_collate_lora_metadata(modules)
    )
    found = merged(tiny, taken(tmp_path, layers))
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    for part, module in modules.items():
        for name, value in module.state_dict().items():
            torch.testing.assert_close(found[part, name], value, rtol=1e-5, atol=1e-6)
    with lora_applied(tiny, taken(tmp_path, layers)):
        tokens = tiny.encode_prompt("a face").tokens
    assert (tokens - tiny.encode_prompt("a face").tokens).abs().max() > 1e-3


def of_one(layers, **more):
    """Return the tensors of a LoRA of one layer, in diffusers' layout, and others."""
    return named(draw_pairs(layers, attentions(layers)[:1]), diffusers) | more


LAYER = "unet.down_blocks.1.attentions.1.transformer_blocks.0.attn1.to_q"
OTHER_KINDS = {
    "DoRA": f"{LAYER}.lora_magnitude_vector",
    "DoRA, of kohya": "lora_unet_mid_block_attentions_0_proj_in.dora_scale",
    "LoHa": "lora_unet_mid_block_attentions_0_proj_in.hada_w1_a",
    "LoKr": "lora_unet_mid_block_attentions_0_proj_in.lokr_w1",
    "IA3": "lora_unet_mid_block_attentions_0_proj_in.on_input",
    "IA3, of peft": "base_model.model.mid_block.attentions.0.proj_in.ia3_l",
    "OFT": "lora_unet_mid_block_attentions_0_proj_in.oft_blocks",
    "GLoRA": "lora_unet_mid_block_attentions_0_proj_in.a1.weight",
    "whole weights": "diffusion_model.out.2.diff",
    "whole weights, of norms": "diffusion_model.out.0.w_norm",
    "embeddings": "bundle_emb.token.clip_l",
    "biases": f"{LAYER}.lora_B.bias",
}


@pytest.mark.parametrize(("kind", "key"), OTHER_KINDS.items(), ids=OTHER_KINDS)
def test_what_is_no_plain_lora_is_refused_by_its_name(layers, tmp_path, kind, key):
    tensors = of_one(layers, **{key: np.ones((2, 2), np.float32)})
    said = refusal(find_lora, Written(tensors).save(tmp_path))
    assert f"holds {kind.partition(',')[0]} ({key!r})" in said


def refusal(refuse, *arguments):
    with pytest.raises(InvalidEdit) as refused:
        refuse(*arguments)
    said = str(refused.value)
    assert said.startswith("lora ")
    assert said.isprintable()
    return said


def without(tensors, ending):
    return {name: value for name, value in tensors.items() if not name.endswith(ending)}


def peft_of_one(layers, **changes):
    pairs = draw_pairs(layers, attentions(layers)[:1])
    tensors = named(pairs, lambda _, name: f"base_model.model.{name}")
    return Written(tensors, config=peft_settings(**changes))


ONES = np.ones((2, 2), np.float32)
BY_HEADER = {
    "without tensors": (lambda _: Written({}), "holds no tensors"),
    "of one half": (lambda k: Written(without(of_one(k), "B.weight")), "only one half of"),
    "with a tensor of something else": (
        lambda k: Written(of_one(k, **{"unet.conv_in.weight": ONES})),
        "holds 'unet.conv_in.weight', which no known tool gives a LoRA",
    ),
    "that is a whole model": (
        lambda k: Written(dict.fromkeys(("conv_in.bias", "conv_in.weight"), ONES)),
        "holds 'conv_in.bias', which no known tool gives a LoRA",
    ),
    "of two adapters": (
        lambda k: Written(of_one(k, **{f"{LAYER}.lora_A.second.weight": ONES})),
        "holds two LoRAs",
    ),
    "of integers": (
        lambda k: Written({name: value.astype(np.int8) for name, value in of_one(k).items()}),
        "as I8, and only F64, F32, F16, BF16 are taken",
    ),
    "of peft without its settings": (
        lambda k: Written(peft_of_one(k).tensors),
        "whose strength is in adapter_config.json, and there is none beside it",
    ),
    "of peft with DoRA": (lambda k: peft_of_one(k, use_dora=True), "has use_dora = True"),
    "of peft, another method": (lambda k: peft_of_one(k, peft_type="LOHA"), "peft_type = 'LOHA'"),
    "of peft, from changed weights": (
        lambda k: peft_of_one(k, init_lora_weights="pissa"),
        "init_lora_weights = 'pissa'",
    ),
    "of peft, transposed": (lambda k: peft_of_one(k, fan_in_fan_out=True), "fan_in_fan_out = True"),
    "of peft, unreadable settings": (
        lambda k: peft_of_one(k, lora_alpha="strong"),
        "settings in adapter_config.json that cannot be read (lora_alpha: ",
    ),
    "of peft, with a pattern that is none": (
        lambda k: peft_of_one(k, alpha_pattern={"(": 3}),
        "'(' is no pattern",
    ),
    "of peft, with something that is not known": (
        lambda k: peft_of_one(k, of_tomorrow=5),
        "has of_tomorrow = 5",
    ),
    "with a broken header": (
        lambda k: Written(of_one(k), {"lora_adapter_metadata": "{"}),
        "cannot be read (Expecting property name",
    ),
    "with a header of a list": (
        lambda k: Written(of_one(k), {"lora_adapter_metadata": "[]"}),
        "header whose lora_adapter_metadata is no object",
    ),
}


@pytest.mark.parametrize(("written", "said"), BY_HEADER.values(), ids=BY_HEADER)
def test_a_file_is_refused_by_its_header(layers, tmp_path, written, said):
    assert said in refusal(find_lora, written(layers).save(tmp_path))


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 100, b"version https://git-lfs.github.com/spec/v1"]
)
def test_a_file_that_is_no_safetensors_is_refused(tmp_path, data):
    (tmp_path / "lora.safetensors").write_bytes(data)
    refusal(find_lora, tmp_path / "lora.safetensors")


def factors_of(rows, columns):
    return np.ones((RANK, columns), np.float32), np.ones((rows, RANK), np.float32)


TO_K = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
FOREIGN = {
    "of SD 1.x by its width": ({TO_K: factors_of(320, 768)}, {}, "Stable Diffusion 1.x"),
    "of SD 2.x by its width": ({TO_K: factors_of(320, 1024)}, {}, "Stable Diffusion 2.x"),
    "of SDXL by its names": (
        {"lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k": factors_of(640, 2048)},
        {},
        "Stable Diffusion XL",
    ),
    "of SDXL by its second text encoder": (
        {"lora_te2_text_model_encoder_layers_0_self_attn_q_proj": factors_of(8, 8)},
        {},
        "Stable Diffusion XL",
    ),
    "of FLUX": (
        {"transformer.single_transformer_blocks.0.attn.to_q": factors_of(8, 8)},
        {},
        "a model without a UNet, such as FLUX",
    ),
    "of FLUX, by kohya": (
        {"lora_unet_double_blocks_0_img_attn_proj": factors_of(8, 8)},
        {},
        "a model without a UNet, such as FLUX",
    ),
    "of a video model": (
        {"diffusion_model.blocks.0.self_attn.q": factors_of(8, 8)},
        {},
        "a model without a UNet, such as FLUX",
    ),
    "that says what it is for": (
        {TO_K: factors_of(3, 3)},
        {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"},
        "'stable-diffusion-xl-v1-base/lora'",
    ),
    "of a layer that nobody has": ({"unet.down_blocks.9.to_q": factors_of(8, 8)}, {}, "another"),
}


@pytest.mark.parametrize(("pairs", "words", "model"), FOREIGN.values(), ids=FOREIGN)
def test_a_lora_for_another_base_is_refused_by_what_it_is_for(
    layers, tmp_path, pairs, words, model
):
    tensors = {
        f"{stem}.lora_{end}.weight": value
        for stem, pair in pairs.items()
        for end, value in zip(("down", "up"), pair, strict=True)
    }
    file = find_lora(Written(tensors, words).save(tmp_path))
    assert f"it is for {model}" in refusal(check_fit, file, layers)


def test_two_updates_of_one_layer_are_refused(layers, tmp_path):
    pairs = draw_pairs(layers, attentions(layers)[:1])
    file = find_lora(Written(named(pairs, diffusers) | named(pairs, kohya)).save(tmp_path))
    assert "adapts one layer twice" in refusal(check_fit, file, layers)


BY_VALUES = {
    "not a number": (lambda k: Written(of_one(k, **{f"{LAYER}.alpha": np.float32([np.nan])})),
                     "that are not finite"),
    "zero": (lambda k: Written(of_one(k, **{f"{LAYER}.lora_B.weight": np.zeros((16, 2), "f4")})),
             "changes nothing"),
    "of no strength": (lambda k: Written(of_one(k, **{f"{LAYER}.alpha": np.float32([0])})),
                       "changes nothing"),
    "of no strength, by peft": (lambda k: peft_of_one(k, lora_alpha=0), "changes nothing"),
    "with two alphas": (
        lambda k: Written(
            of_one(k, **{f"{LAYER}.alpha": np.float32([1])}),
            header(**{"unet.r": RANK, "unet.lora_alpha": ALPHA}),
        ),
        "has alpha 1 for",
    ),
    "of another rank than peft says": (lambda k: peft_of_one(k, r=7), "and peft's settings for it "
                                       "say 7: they are of another file"),
}  # fmt: skip


@pytest.mark.parametrize(("written", "said"), BY_VALUES.values(), ids=BY_VALUES)
def test_a_file_is_refused_by_its_values(layers, tmp_path, written, said):
    file = find_lora(written(layers).save(tmp_path))
    assert said in refusal(read_lora, file)


def test_a_pickle_is_refused_with_a_command_that_converts_it(layers, tmp_path):
    import shlex

    pickled = {name: torch.from_numpy(value).T for name, value in of_one(layers).items()}
    torch.save(pickled, tmp_path / "pytorch_lora_weights.bin")
    said = refusal(find_lora, tmp_path)
    command = shlex.split(said.partition("convert it with ")[2])
    assert command[:2] == ["python", "-c"]
    exec(command[2], {})
    assert find_lora(tmp_path).path == tmp_path / "pytorch_lora_weights.safetensors"


PEFT_NAMES, BARE_NAMES = "base_model.model.", ""


@pytest.mark.parametrize("start", [PEFT_NAMES, "unet.", BARE_NAMES])
@pytest.mark.parametrize("in_header", [True, False])
def test_settings_that_contradict_each_other_are_refused(layers, tmp_path, start, in_header):
    """peft's names alone have their strength in the config beside; others are the rank."""
    pairs = draw_pairs(layers, attentions(layers)[:1])
    words = header(r=RANK, lora_alpha=3) if in_header else {}
    written = Written(named(pairs, lambda _, n: start + n), words, peft_settings())
    if start == PEFT_NAMES and not in_header:
        assert find_lora(written.save(tmp_path)).config
    else:
        assert "beside it: remove the wrong one" in refusal(find_lora, written.save(tmp_path))


def test_settings_that_agree_are_taken(layers, tmp_path):
    words = header(r=RANK, lora_alpha=ALPHA)
    path = Written(of_one(layers), words, peft_settings()).save(tmp_path)
    assert find_lora(path).header_scales


def test_a_folder_of_peft_and_diffusers_at_once_is_refused(layers, tmp_path):
    for name in ("adapter_model.safetensors", "pytorch_lora_weights.safetensors"):
        Written(of_one(layers)).save(tmp_path, name)
    assert "holds both adapter_model" in refusal(find_lora, tmp_path)


def test_a_folder_with_several_files_is_refused(layers, tmp_path):
    for name in ("one.safetensors", "two.safetensors"):
        Written(of_one(layers)).save(tmp_path, name)
    assert "holds 2 .safetensors files" in refusal(find_lora, tmp_path)


def test_only_what_changes_the_strength_is_another_input(layers, tmp_path):
    """A header that says what is understood anyway leaves the keys of earlier stores."""
    said = {"unet.r": RANK, "unet.lora_alpha": RANK}
    as_ever = Written(of_one(layers), header(**said)).save(tmp_path / "as-ever")
    assert set(find_lora(as_ever).inputs) == {"lora_file"}
    stronger = Written(of_one(layers), header(**said | {"unet.lora_alpha": 3})).save(tmp_path / "b")
    assert set(find_lora(stronger).inputs) == {"lora_file", "lora_header"}
    of_peft = find_lora(peft_of_one(layers).save(tmp_path / "peft"))
    assert of_peft.inputs["lora_config"] == tmp_path / "peft" / "adapter_config.json"


@pytest.fixture(scope="module")
def xl_layers(tmp_path_factory):
    return adaptable_layers(str(write_model(tmp_path_factory.mktemp("xl") / "model", "sdxl")))


XL_PLACES = [
    ("unet", "down_blocks.2.attentions.1.transformer_blocks.1.attn2.to_k"),
    ("unet", "mid_block.attentions.0.transformer_blocks.0.ff.net.2"),
    ("unet", "up_blocks.0.attentions.2.proj_in"),
    ("unet", "up_blocks.1.resnets.2.conv_shortcut"),
    ("unet", "down_blocks.0.downsamplers.0.conv"),
    ("unet", "add_embedding.linear_2"),
]
XL_TEXTS = [
    ("text_encoder", "encoder.layers.0.self_attn.q_proj"),
    ("text_encoder_2", "text_model.encoder.layers.1.mlp.fc1"),
    ("text_encoder_2", "text_projection"),
]


def test_a_lora_of_sdxl_for_others_has_the_names_that_diffusers_takes_from_kohya(
    xl_layers, tmp_path
):
    """The names of the original code, and those of both text encoders."""
    from diffusers import StableDiffusionXLPipeline
    from diffusers.utils import convert_unet_state_dict_to_peft
    from safetensors.torch import load_file

    pairs = draw_pairs(xl_layers, XL_PLACES + XL_TEXTS)
    names = {"text_encoder": "text_encoder.text_model.", "text_encoder_2": "text_encoder_2."}
    weights = named(pairs, lambda part, layer: names.get(part, "unet.") + layer, alpha=ALPHA)
    path = tmp_path / "lora.safetensors"
    path.write_bytes(encode_for_others(weights, xl_layers))
    assert "lora_unet_input_blocks_8_1_transformer_blocks_1_attn2_to_k.alpha" in load_file(path)
    config = SimpleNamespace(layers_per_block=2)
    state, alphas = StableDiffusionXLPipeline.lora_state_dict(path, unet_config=config)
    theirs = convert_unet_state_dict_to_peft(
        {name: value for name, value in state.items() if name.startswith("unet.")}
    )
    assert set(alphas.values()) == {ALPHA}
    assert theirs.keys() == {
        f"unet.{layer}.lora_{half}.weight" for _, layer in XL_PLACES for half in "AB"
    }
    for part, layer in XL_PLACES:
        assert np.array_equal(theirs[f"unet.{layer}.lora_A.weight"], pairs[part, layer][0])
    assert sum(name.startswith("text_encoder_2.text_model.encoder") for name in state) == 2
    assert sum(name.startswith("text_encoder_2.text_projection") for name in state) == 2
    again = find_lora(path)
    check_fit(again, xl_layers)


def test_a_lora_for_others_is_taken_by_diffusers_at_full_strength(
    tiny, tiny_model_directory, layers, scenario, tmp_path
):
    """Ours has no alpha, which kohya's form says as the rank."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_kohya
    from safetensors.torch import load_file

    places = [place for place in attentions(layers) if place[0] == "unet"]
    weights = named(draw_pairs(layers, places), diffusers)
    path = tmp_path / "lora.safetensors"
    path.write_bytes(encode_for_others(weights, layers))
    written = load_file(path)
    theirs = convert_state_dict_to_kohya(
        {name: torch.from_numpy(value) for name, value in weights.items()}
    )
    assert written.keys() == theirs.keys()
    assert all(torch.equal(value.float(), theirs[name].float()) for name, value in written.items())
    pipeline = StableDiffusionPipeline.from_pretrained(
        tiny_model_directory, safety_checker=None, feature_extractor=None
    )
    pipeline.load_lora_weights(path)
    with torch.no_grad():
        expected = pipeline.unet(scenario.latents, 681, scenario.conditioning.tokens).sample
        plain = tiny.predict_noise(scenario.latents, 681, scenario.conditioning)
        with lora_applied(tiny, weights):
            ours = tiny.predict_noise(scenario.latents, 681, scenario.conditioning)
        with lora_applied(tiny, taken(path, layers)):
            again = tiny.predict_noise(scenario.latents, 681, scenario.conditioning)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    assert torch.equal(ours, again)
    assert (ours - plain).abs().max() > 1e-2
