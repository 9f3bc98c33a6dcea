"""Stable Diffusion 2.x: the UNet of 1.x with linear projections, and OpenCLIP's text encoder.

Its text encoder is saved without the last layer, so that its last hidden states are the penultimate
ones that the UNet was trained with.
"""

from dataclasses import replace

from adaptivedrag.model.architectures.sd1 import STABLE_DIFFUSION_1

STABLE_DIFFUSION_2 = replace(
    STABLE_DIFFUSION_1,
    name="Stable Diffusion 2.x",
    topology={**STABLE_DIFFUSION_1.topology, "use_linear_projection": True},
)

STABLE_DIFFUSION_2_AT_768 = replace(
    STABLE_DIFFUSION_2,
    topology={**STABLE_DIFFUSION_2.topology, "sample_size": 96},
    reference_latents=(4, 96, 96),
)
"""Those that were trained on after 512 pixels; they predict v."""
