"""What the configuration of a part may say: every key is decided on.

A setting is heeded, or it is refused by name where its value is not implemented, or it changes
nothing of what is computed here and is left aside on purpose. A key that nobody decided on is
refused unless it is off (null or false).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from adaptivedrag.errors import UnsupportedModel


@dataclass(frozen=True)
class KnownSettings:
    """The keys of one configuration."""

    heeded: frozenset[str] = frozenset()
    """Read here, or by the library that builds the module."""
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Keys with the values that are implemented; a list may hold several of them."""
    aside: Mapping[str, str] = field(default_factory=dict)
    """Keys that change nothing here, with the reason."""
    said: frozenset[str] = frozenset()
    """Keys that may not be left out, since the default of diffusers is not what is heeded here."""
    others: str = ""
    """Why keys that are not named are left aside too; "" if they are not."""

    def check(self, settings: Mapping[str, Any], file: Path) -> None:
        """Check each entry of a configuration that was read from `file`.

        Raises:
            UnsupportedModel: naming the first setting that is not implemented.
        """
        for key, value in settings.items():
            if key in self.only and not _is_among(value, self.only[key]):
                allowed = " or ".join(map(repr, self.only[key]))
                raise UnsupportedModel(
                    f"{file}: {key} is {value!r:.80}, and only {allowed} is implemented: "
                    "use another model"
                )
            is_known = key in self.heeded or key in self.only or key in self.aside
            if not is_known and not self.others and value and not key.startswith("_"):
                raise UnsupportedModel(
                    f"{file}: {key:.80} is {value!r:.80}, a setting that is not implemented: "
                    "use another model"
                )
        for key in sorted(self.said - settings.keys()):
            raise UnsupportedModel(
                f"{file} leaves out {key}, for which the class that it names takes a value that is "
                "not implemented: write down the one that the model was made for"
            )


def check_settings(
    settings: Mapping[str, Any], known: Mapping[str, KnownSettings], file: Path
) -> None:
    """Check a configuration by the class that it is for, which by default is the first known one.

    Raises:
        UnsupportedModel: if class or a setting is not implemented.
    """
    first = next(iter(known))
    # transformers names its classes under another key.
    others = first if known[first].others else settings.get("architectures", first)
    name = str(settings.get("_class_name", others))
    if name not in known:
        few = "" if len(known) > 1 else f": use a model with {first}"
        raise UnsupportedModel(f"{file} is for {name!r:.80}, which is not supported{few}")
    known[name].check(settings, file)


def _is_among(value: Any, allowed: tuple[Any, ...]) -> bool:
    if isinstance(value, list) and value:
        return all(_is_among(each, allowed) for each in value)
    return any(value is each or value == each for each in allowed)


UNET = KnownSettings(
    heeded=frozenset(
        {
            "act_fn",
            "attention_head_dim",
            "block_out_channels",
            "center_input_sample",
            "conv_in_kernel",
            "conv_out_kernel",
            "cross_attention_dim",
            "cross_attention_norm",
            "down_block_types",
            "downsample_padding",
            "flip_sin_to_cos",
            "freq_shift",
            "in_channels",
            "layers_per_block",
            "mid_block_scale_factor",
            "mid_block_type",
            "norm_eps",
            "norm_num_groups",
            "out_channels",
            "resnet_out_scale_factor",
            "resnet_skip_time_act",
            "resnet_time_scale_shift",
            "reverse_transformer_layers_per_block",
            "time_embedding_act_fn",
            "time_embedding_dim",
            "time_embedding_type",
            "timestep_post_act",
            "transformer_layers_per_block",
            "up_block_types",
            "use_linear_projection",
        }
    ),
    only={
        # Inputs beside latents, timestep and prompt.
        "addition_embed_type": (None,),
        "addition_time_embed_dim": (None,),
        "class_embed_type": (None,),
        "class_embeddings_concat": (False,),
        "encoder_hid_dim": (None,),
        "encoder_hid_dim_type": (None,),
        "num_class_embeds": (None,),
        "projection_class_embeddings_input_dim": (None,),
        "time_cond_proj_dim": (None,),
        # Attentions of another kind than reference control and LoRA know.
        "attention_type": ("default",),
        "dual_cross_attention": (False,),
        "mid_block_only_cross_attention": (None, False),
        "num_attention_heads": (None,),
        "only_cross_attention": (False,),
    },
    aside={
        "addition_embed_type_num_heads": "of an input that there is not",
        "dropout": "weights are never trained, and dropout is off",
        "sample_size": "the size of pictures that a pipeline makes by default",
        "upcast_attention": "torch's fused attention adds up in float32, and diffusers uses it too",
    },
)

_OF_SIZES = frozenset(
    {
        "addition_embed_type",
        "addition_time_embed_dim",
        "projection_class_embeddings_input_dim",
    }
)
SIZED_UNET = replace(
    UNET,
    heeded=UNET.heeded | _OF_SIZES,
    only={key: values for key, values in UNET.only.items() if key not in _OF_SIZES},
)
"""A UNet that is also told sizes of pictures, and what a text encoder pools."""

VAE = KnownSettings(
    heeded=frozenset(
        {
            "act_fn",
            "block_out_channels",
            "down_block_types",
            "latent_channels",
            "layers_per_block",
            "mid_block_add_attention",
            "norm_num_groups",
            "scaling_factor",
            "up_block_types",
            "use_post_quant_conv",
            "use_quant_conv",
        }
    ),
    only={
        "in_channels": (3,),
        "latents_mean": (None,),
        "latents_std": (None,),
        "out_channels": (3,),
        "shift_factor": (None, 0),
    },
    aside={
        "force_upcast": "the settings of an edit say in which precision its model computes",
        "sample_size": "the size of tiles, and nothing is decoded in tiles",
    },
)

UPCAST_VAE = replace(
    VAE,
    heeded=VAE.heeded | {"force_upcast"},
    aside={key: reason for key, reason in VAE.aside.items() if key != "force_upcast"},
)
"""A VAE that heeds whether float16 is too narrow for it."""

CLIP_TEXT = KnownSettings(
    only={"model_type": ("clip_text_model", "clip"), "quantization_config": (None,)},
    others="transformers builds the text encoder of them",
)

_NOISE = KnownSettings(
    heeded=frozenset(
        {"beta_end", "beta_start", "num_train_timesteps", "prediction_type", "steps_offset"}
    ),
    only={
        "beta_schedule": ("linear", "scaled_linear"),
        "predict_epsilon": (True,),  # what older configurations say for prediction_type
        "rescale_betas_zero_snr": (False,),
        "trained_betas": (None,),
        "use_flow_sigmas": (False,),
    },
)
"""The noise that a UNet was trained on."""

_DDIM_STEPS: Mapping[str, tuple[Any, ...]] = {
    "clip_sample": (False,),
    "set_alpha_to_one": (False,),
    "thresholding": (False,),
    "timestep_spacing": ("leading",),
}
"""How diffusers' DDIM goes from level to level: it is the sampler that ours equals."""

_SAMPLING = (
    "algorithm_type",
    "corrector_order",
    "disable_corrector",
    "euler_at_final",
    "final_sigmas_type",
    "flow_shift",
    "interpolation_type",
    "invert_sigmas",
    "lambda_min_clipped",
    "lower_order_final",
    "noise_sampler_seed",
    "original_inference_steps",
    "predict_x0",
    "predictor_order",
    "shift_terminal",
    "sigma_max",
    "sigma_min",
    "skip_prk_steps",
    "solver_order",
    "solver_p",
    "solver_type",
    "stochastic_sampling",
    "tau_func",
    "tensor_format",
    "time_shift_type",
    "timestep_scaling",
    "timestep_type",
    "use_beta_sigmas",
    "use_dynamic_shifting",
    "use_exponential_sigmas",
    "use_karras_sigmas",
    "use_lu_lambdas",
    "variance_type",
)
_OF_OTHERS = dict.fromkeys(
    _SAMPLING, "of a sampler that a pipeline would use: edits are inverted and sampled by DDIM"
)
_OF_WHAT_IS_OFF = {
    "clip_sample_range": "nothing is clipped",
    "dynamic_thresholding_ratio": "no thresholds are used",
    "sample_max_value": "no thresholds are used",
}
DDIM = replace(
    _NOISE,
    only={**_NOISE.only, **_DDIM_STEPS},
    aside={**_OF_OTHERS, **_OF_WHAT_IS_OFF},
    said=frozenset({"clip_sample", "set_alpha_to_one", "steps_offset"}),
)
OTHER_SAMPLER = replace(
    _NOISE,
    aside={
        **_OF_OTHERS,
        **_OF_WHAT_IS_OFF,
        **dict.fromkeys(_DDIM_STEPS, "of a sampler that is not DDIM"),
    },
)

SCHEDULERS: Mapping[str, KnownSettings] = {
    "DDIMScheduler": DDIM,
    "DDIMParallelScheduler": DDIM,
    **dict.fromkeys(
        (
            "DDPMParallelScheduler",
            "DDPMScheduler",
            "DEISMultistepScheduler",
            "DPMSolverMultistepScheduler",
            "DPMSolverSDEScheduler",
            "DPMSolverSinglestepScheduler",
            "EulerAncestralDiscreteScheduler",
            "EulerDiscreteScheduler",
            "HeunDiscreteScheduler",
            "KDPM2AncestralDiscreteScheduler",
            "KDPM2DiscreteScheduler",
            "LCMScheduler",
            "LMSDiscreteScheduler",
            "PNDMScheduler",
            "SASolverScheduler",
            "TCDScheduler",
            "UniPCMultistepScheduler",
        ),
        OTHER_SAMPLER,
    ),
}
