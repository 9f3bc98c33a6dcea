"""SAM 2 (Ravi et al. 2024): image features for superpixels, and automatic segments.

The only module that imports sam2. Official checkpoints are built from the configurations inside the
sam2 package, chosen by what the weights are; the pocket segmenter is the same classes at a
fraction of the size, described by its own ``config.json``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import load_file
from torch import Tensor, nn

from adaptivedrag.errors import UnsupportedModel
from adaptivedrag.model.memory_ladder import POINTS_AT_ONCE

INPUT_SIZE = 1024
EMBEDDING_STRIDE = 16

Size = Literal["tiny", "small", "base_plus", "large"]

_CONFIG_LETTERS: dict[Size, str] = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
_PATCHES = "image_encoder.trunk.patch_embed.proj.weight"
_BLOCKS = "image_encoder.trunk.blocks."


class AutomaticMasks(BaseModel):
    """Which of the masks at a grid of points are segments; the defaults are SAM 2's own.

    Attributes:
        points_per_side: points of the grid along each side of the image.
        pred_iou_thresh: a mask counts if the model expects more overlap with an object.
        stability_score_thresh: a mask counts if its area changes less when its threshold moves.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    points_per_side: int = Field(32, ge=1)
    pred_iou_thresh: float = Field(0.8, ge=0, le=1)
    stability_score_thresh: float = Field(0.95, ge=0, le=1)


SAM2_AUTOMATIC = AutomaticMasks()


class PocketArchitecture(BaseModel):
    """Sizes of a small SAM 2 without memory.

    Attributes:
        trunk_width: channels of the Hiera's first stage; each stage doubles them.
        stages: blocks per stage.
        windows: attention window of each stage, in its own cells. They do not share borders.
        global_blocks: last blocks of the third stage that attend globally: windows do not show
            there.
        width: channels of prompts, embeddings and the mask decoder; a multiple of 16.
        decoder_heads: attention heads of the mask decoder. SAM 2's eight at this width have four
            channels each, too few to tell places apart.
        decoder_hidden: hidden channels of the mask decoder's blocks.
        automatic: what these weights need to find segments; no part of the network.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trunk_width: int
    stages: tuple[int, int, int, int]
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    global_blocks: int = 1
    width: int
    decoder_heads: int = 8
    decoder_hidden: int = 2048
    automatic: AutomaticMasks = SAM2_AUTOMATIC


@dataclass(frozen=True)
class Sam2:
    """A SAM 2 that is ready to look at images."""

    model: nn.Module
    device: str = "cpu"
    automatic: AutomaticMasks = SAM2_AUTOMATIC

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> Self:
        """Load a pocket segmenter's directory or a checkpoint file.

        Raises:
            UnsupportedModel: if it is no SAM 2.
        """
        if path.is_dir():
            config, model = _load_pocket(path)
            automatic = config.automatic
        else:
            model, automatic = _load_checkpoint(path), SAM2_AUTOMATIC
        return cls(model.to(device).eval().requires_grad_(False), device, automatic)

    @torch.no_grad()
    def image_features(
        self, image: UInt8[np.ndarray, "h w 3"]
    ) -> tuple[
        Float[np.ndarray, "c 64 64"], Float[np.ndarray, "s 256 256"], Float[np.ndarray, "t 128 128"]
    ]:
        """Return the maps that SAM 2's predictor holds for an image, resized to 1024 × 1024.

        First the stride-16 embedding, then the maps of strides 4 and 8 as the mask decoder sees
        them.
        """
        from sam2.sam2_image_predictor import SAM2ImagePredictor

        predictor = SAM2ImagePredictor(self.model)
        predictor.set_image(np.ascontiguousarray(image))
        held = predictor._features  # the predictor has no public name for them
        fine, middle = held["high_res_feats"]
        return _map(held["image_embed"]), _map(fine), _map(middle)

    @torch.no_grad()
    def segments(
        self, image: UInt8[np.ndarray, "h w 3"], at_once: int | None = None
    ) -> Bool[np.ndarray, "n h w"]:
        """Return segments of the whole image, largest first; they may overlap and leave gaps.

        Args:
            at_once: points of the grid whose masks are decoded together.
        """
        from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

        generator = SAM2AutomaticMaskGenerator(
            self.model, points_per_batch=at_once or POINTS_AT_ONCE, **self.automatic.model_dump()
        )
        found = generator.generate(np.ascontiguousarray(image))
        masks = [np.asarray(entry["segmentation"], bool) for entry in found]
        largest_first = sorted(masks, key=lambda mask: -int(mask.sum()))
        return np.array(largest_first, dtype=bool).reshape(-1, *image.shape[:2])


def build_pocket(architecture: PocketArchitecture) -> nn.Module:
    """Return a random SAM2Base whose memory modules are as small as its classes allow."""
    from sam2.modeling.sam2_base import SAM2Base

    model = SAM2Base(
        image_encoder=_build_encoder(architecture),
        memory_attention=_build_memory_attention(architecture.width),
        memory_encoder=_build_memory_encoder(architecture.width),
        num_maskmem=1,
        image_size=INPUT_SIZE,
        backbone_stride=EMBEDDING_STRIDE,
        directly_add_no_mem_embed=True,
        use_high_res_features_in_sam=True,
        multimask_output_in_sam=True,
        multimask_min_pt_num=0,
        iou_prediction_use_sigmoid=True,
    )
    model.sam_mask_decoder.transformer = _build_decoder(architecture)
    return model


def build_official(size: Size, version: Literal["2", "2.1"] = "2.1") -> nn.Module:
    """Return an official architecture with random weights, by the sam2 package's settings."""
    from sam2.build_sam import build_sam2

    name = f"configs/sam{version}/sam{version}_hiera_{_CONFIG_LETTERS[size]}.yaml"
    return build_sam2(name, ckpt_path=None, device="cpu")


def _build_encoder(architecture: PocketArchitecture) -> nn.Module:
    from sam2.modeling.backbones.hieradet import Hiera
    from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder

    third_ends = sum(architecture.stages[:3])
    trunk = Hiera(
        embed_dim=architecture.trunk_width,
        num_heads=1,
        stages=architecture.stages,
        global_att_blocks=tuple(range(third_ends - architecture.global_blocks, third_ends)),
        window_spec=architecture.windows,
        window_pos_embed_bkg_spatial_size=(1, 1),  # no absolute position: any size will do
    )
    neck = FpnNeck(
        position_encoding=_sine(architecture.width),
        d_model=architecture.width,
        backbone_channel_list=trunk.channel_list,
        fpn_top_down_levels=[2, 3],
        fpn_interp_model="bilinear",
    )
    return ImageEncoder(trunk, neck, scalp=1)


def _build_decoder(architecture: PocketArchitecture) -> nn.Module:
    from sam2.modeling.sam.transformer import TwoWayTransformer

    return TwoWayTransformer(
        depth=2,
        embedding_dim=architecture.width,
        num_heads=architecture.decoder_heads,
        mlp_dim=architecture.decoder_hidden,
    )


def _build_memory_attention(width: int) -> nn.Module:
    from sam2.modeling.memory_attention import MemoryAttention

    return MemoryAttention(d_model=width, pos_enc_at_input=True, layer=nn.Identity(), num_layers=0)


def _build_memory_encoder(width: int) -> nn.Module:
    from sam2.modeling.memory_encoder import Fuser, MaskDownSampler, MemoryEncoder

    return MemoryEncoder(
        out_dim=16,
        in_dim=width,
        mask_downsampler=MaskDownSampler(
            embed_dim=width, kernel_size=EMBEDDING_STRIDE, stride=EMBEDDING_STRIDE, padding=0
        ),
        fuser=Fuser(nn.Identity(), num_layers=0),
        position_encoding=_sine(16),
    )


def _sine(width: int) -> nn.Module:
    from sam2.modeling.position_encoding import PositionEmbeddingSine

    return PositionEmbeddingSine(num_pos_feats=width)


def _load_pocket(directory: Path) -> tuple[PocketArchitecture, nn.Module]:
    try:
        text = (directory / "config.json").read_text("utf-8")
        architecture = PocketArchitecture.model_validate(json.loads(text))
    except (OSError, ValueError, ValidationError, RecursionError) as error:
        raise UnsupportedModel(
            f"segmenter {directory}: its config.json does not describe a pocket segmenter; "
            "name a SAM 2 checkpoint file instead of a directory"
        ) from error
    weights = _read_weights(directory / "model.safetensors")
    return architecture, _filled(build_pocket(architecture), weights, directory)


def _load_checkpoint(path: Path) -> nn.Module:
    weights = _read_weights(path)
    return _filled(build_official(*_guess(weights, path)), weights, path)


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
            weights = weights.get("model", weights)
        return {name: value.float() for name, value in weights.items()}
    # Readers of other projects raise what they like when fed what they did not write.
    except Exception as error:
        raise UnsupportedModel(
            f"segmenter {path} cannot be read as a SAM 2 checkpoint ({type(error).__name__}): "
            "fetch it again, or name another"
        ) from error


def _guess(weights: Mapping[str, Tensor], path: Path) -> tuple[Size, Literal["2", "2.1"]]:
    """Return size and version of an official checkpoint, by what only that one has."""
    if _PATCHES not in weights:
        raise UnsupportedModel(f"segmenter {path} holds no SAM 2 weights ({_PATCHES} is missing)")
    blocks = {
        name.removeprefix(_BLOCKS).split(".")[0] for name in weights if name.startswith(_BLOCKS)
    }
    by_shape: dict[tuple[int, ...], Size] = {
        (96, 12): "tiny",
        (96, 16): "small",
        (112, 24): "base_plus",
        (144, 48): "large",
    }
    shape = (*weights[_PATCHES].shape[:1], len(blocks))
    if shape not in by_shape:
        raise UnsupportedModel(
            f"segmenter {path} is no official SAM 2: a trunk of {shape[-1]} blocks, {shape[0]} wide"
        )
    return by_shape[shape], "2.1" if "no_obj_embed_spatial" in weights else "2"


def _filled(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> nn.Module:
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UnsupportedModel(f"segmenter {path}: weights do not fit: {reason}") from error
    return model


def _map(features: Tensor) -> Float[np.ndarray, "c h w"]:
    return features[0].float().cpu().numpy()
