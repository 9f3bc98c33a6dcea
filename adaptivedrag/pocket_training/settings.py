"""Settings of the pocket models' training; `flows/pocket/pocket.toml` holds the values in use."""

from math import cos, pi

from pydantic import BaseModel, ConfigDict, Field


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Schedule(_Settings):
    """One training run: AdamW with linear warm-up and cosine decay to ``final_lr`` at ``steps``."""

    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    lr: float = Field(gt=0)
    final_lr: float = Field(gt=0)
    warmup: int = Field(ge=0)
    weight_decay: float = Field(ge=0)
    ema: float = Field(ge=0, lt=1)
    bf16: bool
    seed: int

    def lr_at(self, step: int) -> float:
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        share = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.final_lr + (self.lr - self.final_lr) * 0.5 * (1 + cos(pi * share))


class VaeSettings(_Settings):
    schedule: Schedule
    latent_channels: int = Field(ge=4, le=16)
    widths: tuple[int, int, int, int]
    groups: int
    picture: int
    crop: int
    photo_share: float = Field(ge=0, le=1)
    gradient_weight: float = Field(ge=0)
    whitening: float = Field(ge=0, le=1)
    latent_noise: float = Field(ge=0)


class TextSettings(_Settings):
    width: int
    layers: int
    heads: int


class DiffusionSettings(_Settings):
    """Settings of the UNet; the first ``small_steps`` steps see more and smaller pictures.

    Attributes:
        edited_times: the time below which edits invert and sample (they start at 681).
        edited_share: share of each batch below that time.
    """

    schedule: Schedule
    text: TextSettings
    widths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    groups: int
    picture: int
    small_picture: int
    small_batch: int = Field(ge=1)
    small_steps: int = Field(ge=0)
    empty_captions: float = Field(ge=0, le=1)
    snr_limit: float = Field(gt=0)
    edited_times: int = Field(gt=0, lt=1000)
    edited_share: float = Field(gt=0, lt=1)


class AutomaticSettings(_Settings):
    """Thresholds of automatic segments for these weights; see `segmentation.AutomaticMasks`."""

    points_per_side: int
    pred_iou_thresh: float
    stability_score_thresh: float


class SegmenterSettings(_Settings):
    """Settings of the segmenter; from step ``whole_from`` it sees one whole picture per step."""

    automatic: AutomaticSettings

    schedule: Schedule
    trunk_width: int
    stages: tuple[int, int, int, int]
    global_blocks: int
    width: int
    decoder_heads: int
    decoder_hidden: int
    crop: int
    points: int
    whole_from: int


class PocketSettings(_Settings):
    """Everything that determines the pocket models' weights."""

    vae: VaeSettings
    diffusion: DiffusionSettings
    segmenter: SegmenterSettings
