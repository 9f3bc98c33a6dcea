"""Named settings: the paper's method, what its authors released, the baseline of both, the best
published optimization, and ours.

`plus` does what the paper does not: it finds the content under the handles, moves it in the
picture, and lets the model paint what it leaves; all other pixels stay. Optimizing the latents
after that brought nothing nearer to its target and tore the moved content. `paste` is `plus`
without a model: what content leaves is filled smoothly.
"""

from adaptivedrag.config import Dtype, EditConfig
from adaptivedrag.errors import InvalidEdit

PRESETS: dict[str, EditConfig] = {
    "paper": EditConfig(),
    # What the authors' code does as far as it has an effect, with its index errors corrected: its
    # loop cannot grow, its correspondence loss reaches no latent, its superpixel mask is unused.
    "released": EditConfig().merged(
        {
            "invert_image": {"inverted_steps": 40},
            "extract_superpixels": {"source": "segments"},
            "build_mask": {"mode": "segment"},
            "optimize_latent": {
                "steps": 160,
                "max_steps": 160,
                "skip_distance": 1.0,
                "backtracking": False,
            },
            "sample_image": {"correspondence": "off"},
        }
    ),
    "dragdiffusion": EditConfig().merged(
        {
            "build_mask": {"mode": "user"},
            "optimize_latent": {
                "max_steps": 80,
                "supervision_radius": 1,
                "tracking_radius": 3,
                "regions_in_supervision": False,
                "regions_in_tracking": False,
                "backtracking": False,
            },
            "sample_image": {"correspondence": "off"},
        }
    ),
}

# The best that is published of the optimizations of Stable Diffusion 1.5, with the paper's masks,
# regions and sampling.
PRESETS["alternating"] = PRESETS["paper"].merged({"optimize_latent": {"method": "alternation"}})

PRESETS["paste"] = PRESETS["paper"].merged(
    {
        "build_mask": {"mode": "content"},
        "optimize_latent": {"method": "warp"},
    }
)

PRESETS["plus"] = PRESETS["paste"].merged(
    {"sample_image": {"composite": True, "keep_texture": True, "holes": "paint"}}
)

DEFAULT_PRESET = "plus"
"""What the command line and `adaptivedrag.edit` take where no preset is named."""

POCKET = "pocket"


def preset(name: str, model: str = POCKET) -> EditConfig:
    """Return the settings of preset `name` with the precision that `model` is run in.

    The pocket model runs in float32, full-size Stable Diffusion in bfloat16, on every device.

    Raises:
        InvalidEdit: if there is no such preset.
    """
    if name not in PRESETS:
        raise InvalidEdit(f"unknown preset {name!r}; there are: {', '.join(PRESETS)}")
    dtype: Dtype = "float32" if model == POCKET else "bfloat16"
    return PRESETS[name].merged({"dtype": dtype})
