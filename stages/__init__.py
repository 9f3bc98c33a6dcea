"""The stages of an edit, in order; each has a file, a section of settings and a cached artifact."""

STAGE_NAMES = (
    "train_lora",
    "invert_image",
    "extract_superpixels",
    "build_mask",
    "optimize_latent",
    "sample_image",
)
