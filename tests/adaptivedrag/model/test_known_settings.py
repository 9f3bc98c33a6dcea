"""Every setting of a model's configuration is heeded, refused by name, or left aside on purpose."""

import inspect
from pathlib import Path

import diffusers
import pytest
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.schedulers import scheduling_utils

from adaptivedrag.errors import UnsupportedModel
from adaptivedrag.model import known_settings
from adaptivedrag.model.architectures import recognized
from adaptivedrag.model.known_settings import check_settings
from adaptivedrag.model.parts import CLIP_TEXT, SCHEDULER, UNET, VAE

FILE = Path("model") / "config.json"
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def refusal(part, settings) -> str:
    with pytest.raises(UnsupportedModel) as refused:
        check_settings(settings, part.known, FILE)
    text = str(refused.value)
    assert text.startswith(str(FILE))
    assert text.isprintable()
    return text


NOT_IMPLEMENTED = [
    (UNET, "addition_embed_type", "image"),
    (UNET, "attention_type", "gated"),
    (UNET, "class_embed_type", "timestep"),
    (UNET, "num_class_embeds", 1000),
    (UNET, "dual_cross_attention", True),
    (UNET, "encoder_hid_dim", 1024),
    (UNET, "encoder_hid_dim_type", "image_proj"),
    (UNET, "only_cross_attention", True),
    (UNET, "only_cross_attention", [True, True, True, False]),
    (UNET, "mid_block_only_cross_attention", True),
    (UNET, "time_cond_proj_dim", 256),
    (UNET, "a_key_of_tomorrow", 1),
    (VAE, "shift_factor", 0.1159),
    (VAE, "latents_mean", [0.1, 0.2, 0.3, 0.4]),
    (VAE, "latents_std", [1.0, 1.0, 1.0, 1.0]),
    (VAE, "in_channels", 4),
    (VAE, "a_key_of_tomorrow", "x"),
    (CLIP_TEXT, "model_type", "t5"),
    (CLIP_TEXT, "quantization_config", {"load_in_8bit": True}),
    (SCHEDULER, "trained_betas", [0.1, 0.2]),
    (SCHEDULER, "beta_schedule", "squaredcos_cap_v2"),
    (SCHEDULER, "rescale_betas_zero_snr", True),
    (SCHEDULER, "predict_epsilon", False),
    (SCHEDULER, "clip_sample", True),
    (SCHEDULER, "set_alpha_to_one", True),
    (SCHEDULER, "thresholding", True),
    (SCHEDULER, "timestep_spacing", "trailing"),
    (SCHEDULER, "use_flow_sigmas", True),
    (SCHEDULER, "a_key_of_tomorrow", 0.5),
]


@pytest.mark.parametrize(
    ("part", "key", "value"),
    NOT_IMPLEMENTED,
    ids=[f"{key}={value}" for _, key, value in NOT_IMPLEMENTED],
)
def test_a_setting_that_is_not_implemented_is_refused_by_its_name(part, key, value):
    assert f"{key} is {value!r}" in refusal(part, {key: value})


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (VAE, "AsymmetricAutoencoderKL"),
        (VAE, "AutoencoderTiny"),
        (UNET, "UNetMotionModel"),
        (SCHEDULER, "FlowMatchEulerDiscreteScheduler"),
        (SCHEDULER, "EDMEulerScheduler"),
        (SCHEDULER, ["DDIMScheduler"]),
    ],
)
def test_a_part_of_another_class_is_refused_by_its_name(part, name):
    assert f"is for {str(name)!r}" in refusal(part, {"_class_name": name})


@pytest.mark.parametrize(
    ("part", "made"), [(UNET, UNet2DConditionModel), (VAE, AutoencoderKL)], ids=["UNet", "VAE"]
)
def test_every_setting_that_diffusers_knows_is_decided_on(part, made):
    (known,) = part.known.values()
    decided = known.heeded | known.only.keys() | known.aside.keys()
    assert decided == set(inspect.signature(made.__init__).parameters) - {"self"}


OTHER_NOISE = "EDMEulerScheduler"
LACKS_A_PACKAGE = "DPMSolverSDEScheduler"
SAMPLERS = sorted(
    each.name
    for each in scheduling_utils.KarrasDiffusionSchedulers
    if each.name not in (OTHER_NOISE, LACKS_A_PACKAGE)
)


@pytest.mark.parametrize("name", SAMPLERS)
def test_whatever_sampler_a_pipeline_would_use_its_model_is_taken(name):
    """Their settings of sampling change nothing here: edits are inverted and sampled by DDIM."""
    made = getattr(diffusers.schedulers, name)
    off = {"clip_sample": False, "set_alpha_to_one": False} if made is DDIMScheduler else {}
    settings = inspect.signature(made.__init__).parameters
    defaults = {key: each.default for key, each in settings.items() if key != "self"}
    defaults.pop("kwargs", None)
    check_settings({**defaults, **NOISE, **off, "_class_name": name}, SCHEDULER.known, FILE)


@pytest.mark.parametrize("key", ["clip_sample", "set_alpha_to_one", "steps_offset"])
def test_what_ddim_takes_otherwise_where_it_is_left_out_has_to_be_said(key):
    said = {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
    settings = {"_class_name": "DDIMScheduler", **NOISE, **said}
    check_settings(settings, SCHEDULER.known, FILE)
    del settings[key]
    with pytest.raises(UnsupportedModel, match=f"leaves out {key}"):
        check_settings(settings, SCHEDULER.known, FILE)


PUBLISHED = {
    "the scheduler of Stable Diffusion 1.5": (
        SCHEDULER,
        {
            "_class_name": "PNDMScheduler",
            "_diffusers_version": "0.6.0",
            **NOISE,
            "num_train_timesteps": 1000,
            "set_alpha_to_one": False,
            "skip_prk_steps": True,
            "steps_offset": 1,
            "trained_betas": None,
            "clip_sample": False,
        },
    ),
    "the scheduler of Stable Diffusion 2.1": (
        SCHEDULER,
        {
            "_class_name": "DDIMScheduler",
            "_diffusers_version": "0.8.0",
            **NOISE,
            "clip_sample": False,
            "num_train_timesteps": 1000,
            "prediction_type": "v_prediction",
            "set_alpha_to_one": False,
            "skip_prk_steps": True,
            "steps_offset": 1,
            "trained_betas": None,
        },
    ),
    "the scheduler of Stable Diffusion XL": (
        SCHEDULER,
        {
            "_class_name": "EulerDiscreteScheduler",
            **NOISE,
            "clip_sample": False,
            "interpolation_type": "linear",
            "num_train_timesteps": 1000,
            "prediction_type": "epsilon",
            "sample_max_value": 1.0,
            "set_alpha_to_one": False,
            "skip_prk_steps": True,
            "steps_offset": 1,
            "timestep_spacing": "leading",
            "trained_betas": None,
            "use_karras_sigmas": False,
        },
    ),
    "a scheduler of the first diffusers": (
        SCHEDULER,
        {"_class_name": "PNDMScheduler", **NOISE, "tensor_format": "np", "predict_epsilon": True},
    ),
    "the UNet of Stable Diffusion 1.5": (
        UNET,
        {
            "_class_name": "UNet2DConditionModel",
            "_diffusers_version": "0.6.0",
            "_name_or_path": "somewhere",
            "act_fn": "silu",
            "attention_head_dim": 8,
            "block_out_channels": [320, 640, 1280, 1280],
            "center_input_sample": False,
            "cross_attention_dim": 768,
            "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
            "downsample_padding": 1,
            "flip_sin_to_cos": True,
            "freq_shift": 0,
            "in_channels": 4,
            "layers_per_block": 2,
            "mid_block_scale_factor": 1,
            "norm_eps": 1e-05,
            "norm_num_groups": 32,
            "out_channels": 4,
            "sample_size": 64,
            "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
            "only_cross_attention": [False, False, False, False],
            "a_key_of_tomorrow": None,
        },
    ),
    "attention in more digits": (UNET, {"upcast_attention": True}),
    "a text encoder of older libraries": (
        CLIP_TEXT,
        {"model_type": "clip_text_model", "top_k": 50, "torch_dtype": "float32", "bad_words": 3},
    ),
}


@pytest.mark.parametrize(("part", "settings"), PUBLISHED.values(), ids=PUBLISHED)
def test_what_published_models_say_is_taken(part, settings):
    check_settings(settings, part.known, FILE)


@pytest.mark.parametrize(
    ("channels", "kind"),
    [
        ((9, 4), "an inpainting model"),
        ((8, 4), "an InstructPix2Pix model"),
        ((7, 4), "an upscaler"),
        ((5, 4), "a depth-to-image model"),
        ((9, 8), "an inpainting model"),
        ((17, 8), "an inpainting model"),
        ((16, 8), "an InstructPix2Pix model"),
        ((4, 8), "a model with inputs of its own"),
    ],
)
def test_a_unet_that_takes_more_than_latents_is_named_as_what_it_is(channels, kind):
    taken, given = channels
    with pytest.raises(UnsupportedModel) as refused:
        recognized({"in_channels": taken, "out_channels": given}, Path("model"))
    assert f"takes {taken} channels: it is {kind}" in str(refused.value)
    assert "Edits need a text-to-image model" in str(refused.value)


def test_every_reason_for_leaving_a_setting_aside_is_given():
    tables = (known_settings.UNET, known_settings.VAE, *known_settings.SCHEDULERS.values())
    assert all(len(reason) > 15 for known in tables for reason in known.aside.values())
