"""The settings and the vocabulary that single files need: those that were published."""

import json

import pytest
from diffusers import AutoencoderKL
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from adaptivedrag.model.architectures import recognized
from adaptivedrag.model.clip_vocabulary import CONFIGS
from adaptivedrag.model.parts import CLIP_TOKENIZER, UNET
from adaptivedrag.model.single_file import LAYOUTS

END = 49407


@pytest.fixture(scope="module")
def tokenizer():
    return CLIP_TOKENIZER.build(CONFIGS / "sd1" / "tokenizer")


@pytest.mark.parametrize(
    ("prompt", "ids"),
    [
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("A Photo  of a\tCAT", [320, 1125, 539, 320, 2368]),
        ("hello world!", [3306, 1002, 256]),
        ("", []),
    ],
)
def test_prompts_have_the_tokens_of_clip(tokenizer, prompt, ids):
    assert tokenizer(prompt).input_ids == [49406, *ids, END]


@pytest.mark.parametrize(("family", "pad"), [("sd1", END), ("sd2", 0)])
def test_prompts_are_padded_as_in_their_family(family, pad):
    tokenizer = CLIP_TOKENIZER.build(CONFIGS / family / "tokenizer")
    assert (len(tokenizer), tokenizer.model_max_length) == (49408, 77)
    padded = tokenizer("a cat", padding="max_length", truncation=True)
    assert padded.input_ids == [49406, 320, 2368, END, *[pad] * 73]


def settings(name: str) -> dict:
    return json.loads((CONFIGS / name / "config.json").read_text())


@pytest.mark.parametrize(
    ("name", "family", "parameters"),
    [
        ("sd1/unet", "Stable Diffusion 1.x", 859_520_964),
        ("sd2/unet", "Stable Diffusion 2.x", 865_910_724),
        ("sd2_base/unet", "Stable Diffusion 2.x", 865_910_724),
        ("sdxl/unet", "Stable Diffusion XL", 2_567_463_684),
    ],
)
def test_unets_are_those_of_their_family(name, family, parameters):
    assert recognized(settings(name), CONFIGS).name == family
    unet = UNET.build(CONFIGS / name)
    assert sum(value.numel() for value in unet.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "make", "parameters"),
    [
        ("sd1/vae", AutoencoderKL.from_config, 83_653_863),
        ("sdxl/vae", AutoencoderKL.from_config, 83_653_863),
        ("sd1/text_encoder", CLIPTextModel, 123_060_480),
        ("sd2/text_encoder", CLIPTextModel, 340_387_840),
        ("sdxl/text_encoder_2", CLIPTextModelWithProjection, 694_659_840),
    ],
)
def test_other_parts_have_the_published_sizes(name, make, parameters):
    import torch

    found = settings(name)
    with torch.device("meta"):
        model = make(found if "vae" in name else CLIPTextConfig(**found))
    assert sum(value.numel() for value in model.parameters()) == parameters


def test_every_folder_of_settings_is_used():
    used = {piece.settings for pieces in LAYOUTS.values() for piece in pieces.values()}
    there = {path.parent.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.json")}
    assert there - used == {"sd2_base/unet"}
