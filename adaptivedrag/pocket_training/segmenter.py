"""The pocket SAM 2, taught on crops of scenes at its own 1024-pixel scale.

A point lies in a part; the right answers are the part and every group that holds it. As in SAM, the
best of three masks is trained, and the single mask learns the smallest answer. A head learns how
well each mask fits its nearest answer, by which automatic segments are chosen: both a part and its
whole are right.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from adaptivedrag.pocket_training.pictures import Picture, grid
from adaptivedrag.pocket_training.settings import SegmenterSettings
from adaptivedrag.pocket_training.training import Losses, Training
from adaptivedrag.scenes import Scene, render, training_scene
from adaptivedrag.scenes.canvas import Canvas
from adaptivedrag.segmenter.segmentation import (
    INPUT_SIZE,
    AutomaticMasks,
    PocketArchitecture,
    build_pocket,
)

ANSWERS = 3
"""Number of answers kept per point: a part, and at most two groups around it."""

_STRIDE = 16
_MASK_STRIDE = 4
_MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
_DEVIATION = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


@dataclass(frozen=True)
class PointBatch:
    """Crops of pictures, points in them, and their answers.

    Attributes:
        images: normalized crops, N × 3 × crop × crop.
        corners: (x, y) of each crop in the full input, multiples of 16.
        points: (x, y) in the full input, N × K × 2.
        answers: all of its answers, the smallest first and the last one repeated,
            N × K × ANSWERS × h × w.
        drawn: index of the answer that the masks learn, N × K.
    """

    images: Tensor
    corners: list[tuple[int, int]]
    points: Tensor
    answers: Tensor
    drawn: Tensor


def architecture(settings: SegmenterSettings) -> PocketArchitecture:
    return PocketArchitecture(
        trunk_width=settings.trunk_width,
        stages=settings.stages,
        global_blocks=settings.global_blocks,
        width=settings.width,
        decoder_heads=settings.decoder_heads,
        decoder_hidden=settings.decoder_hidden,
        automatic=AutomaticMasks(**settings.automatic.model_dump()),
    )


class SegmenterTraining(Training):
    """Training on cross entropy, dice, error of the predicted overlap, and embedding size."""

    def __init__(self, settings: SegmenterSettings) -> None:
        torch.manual_seed(settings.schedule.seed)
        model = build_pocket(architecture(settings))
        _silence_branches(model.image_encoder.trunk)
        _attend_to_places(model.sam_mask_decoder.transformer)
        for name, part in model.named_parameters():
            part.requires_grad_(not name.startswith(("memory_", "maskmem", "obj_ptr")))
        super().__init__(model, settings.schedule)
        self.settings = settings

    def batch(self, step: int) -> PointBatch:
        random = self.random(step, 1)
        whole = step >= self.settings.whole_from
        crop = INPUT_SIZE if whole else self.settings.crop
        count = 1 if whole else self.settings.schedule.batch
        crops = [self._crop(random, crop) for _ in range(count)]
        images, corners, points, answers, drawn = zip(*crops, strict=True)
        return PointBatch(
            torch.stack(images),
            list(corners),
            torch.stack(points),
            torch.stack(answers),
            torch.stack(drawn),
        )

    def loss(self, step: int) -> tuple[Tensor, Losses]:
        batch = self.batch(step)
        features = self._features(batch.images)
        masks, overlaps = zip(
            *(
                self._decode([part[i : i + 1] for part in features], corner, batch.points[i])
                for i, corner in enumerate(batch.corners)
            ),
            strict=True,
        )
        logits, predicted = torch.cat(masks).float(), torch.cat(overlaps).float()
        answers, drawn = batch.answers.flatten(0, 1), batch.drawn.flatten()
        smallest, wanted = answers[:, :1], answers[torch.arange(len(answers)), drawn][:, None]
        several = _mask_loss(logits[:, 1:], wanted.expand_as(logits[:, 1:]))
        single = _mask_loss(logits[:, :1], smallest)[:, 0]
        best = several.min(1).values
        truth = torch.cat([_overlap(logits[:, :1], smallest), _nearest(logits[:, 1:], answers)], 1)
        quality = (predicted - truth).square().mean()
        size = _excess_size(features[2].float())
        total = best.mean() + 0.5 * single.mean() + 0.05 * several.mean() + quality + size
        parts = {
            "best": best.mean().item(),
            "single": single.mean().item(),
            "iou": _overlap(logits[:, 1:], wanted).max(1).values.mean().item(),
            "single_iou": truth[:, 0].mean().item(),
            "quality": quality.item(),
            "size": size.item(),
        }
        return total, parts

    @torch.no_grad()
    def sample_sheet(self) -> Picture:
        """Show pictures, their embedding's principal components, and masks of a few points."""
        model = self.averaged_model()
        return grid([_sheet_column(model, training_scene(2**41 + i)) for i in range(6)])

    def _crop(self, random: np.random.Generator, crop: int) -> tuple[Tensor, ...]:
        size = int(random.integers(192, 513))
        scene = training_scene(int(random.integers(2**40)))
        canvas = Canvas(size)
        scene.paint(canvas)
        mirrored = -1 if random.random() < 0.5 else 1
        image, owners = canvas.image()[:, ::mirrored], canvas.owners[:, ::mirrored]
        cells = (INPUT_SIZE - crop) // _STRIDE
        corner = tuple(int(c) * _STRIDE for c in random.integers(0, cells + 1, 2))
        pixels = _cut(torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float(), corner, crop)
        seen = _cut(torch.from_numpy(owners.copy())[None, None].float(), corner, crop, "nearest")
        places, answers, drawn = self._points(random, canvas, scene, seen[0, 0].byte().numpy())
        normal = (pixels[0] / 255 - _MEAN) / _DEVIATION
        return normal, corner, places + torch.tensor(corner), answers, drawn

    def _points(
        self, random: np.random.Generator, canvas: Canvas, scene: Scene, owners: np.ndarray
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw points in parts, regardless of size, with their answers and one index each."""
        coarse = owners[_MASK_STRIDE // 2 :: _MASK_STRIDE, _MASK_STRIDE // 2 :: _MASK_STRIDE]
        present = np.unique(coarse)
        places, answers, drawn = [], [], []
        for _ in range(self.settings.points):
            number = int(random.choice(present))
            rows, columns = np.nonzero(coarse == number)
            pick = int(random.integers(len(rows)))
            places.append([columns[pick] * _MASK_STRIDE + 1.5, rows[pick] * _MASK_STRIDE + 1.5])
            options = _groups(canvas.parts, number, scene)[:ANSWERS]
            drawn.append(int(random.integers(len(options))))
            options += options[-1:] * (ANSWERS - len(options))
            answers.append(np.stack([np.isin(coarse, option) for option in options]))
        return (
            torch.tensor(places, dtype=torch.float32),
            torch.from_numpy(np.stack(answers)).float(),
            torch.tensor(drawn),
        )

    def _features(self, images: Tensor) -> list[Tensor]:
        fine, middle, embedding = self.model.forward_image(images)["backbone_fpn"]
        extra = self.model.no_mem_embed.reshape(1, -1, 1, 1)
        return [fine, middle, embedding + extra]

    def _decode(
        self, features: list[Tensor], corner: tuple[int, int], points: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return four masks per point at stride 4, and their predicted overlaps."""
        prompts, decoder = self.model.sam_prompt_encoder, self.model.sam_mask_decoder
        labels = torch.ones(len(points), 1, dtype=torch.int32)
        sparse, dense = prompts((points[:, None], labels), None, None)
        fine, middle, embedding = features
        rows, columns = embedding.shape[2:]
        x, y = (value // _STRIDE for value in corner)
        window = (..., slice(y, y + rows), slice(x, x + columns))
        masks, overlaps, _, _ = decoder.predict_masks(
            image_embeddings=embedding,
            image_pe=prompts.get_dense_pe()[window],
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense[..., :rows, :columns],
            repeat_image=True,
            high_res_features=[fine, middle],
        )
        return masks, overlaps


def _silence_branches(trunk: nn.Module) -> None:
    """Start every block as the identity: features begin as colors, without the windows' borders."""
    for block in trunk.blocks:
        for last in (block.attn.proj, block.mlp.layers[-1]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)


def _attend_to_places(decoder: nn.Module) -> None:
    """Start cross-attention with one code for queries and keys: a point looks where it lies."""
    pairs = [block.cross_attn_token_to_image for block in decoder.layers]
    pairs += [block.cross_attn_image_to_token for block in decoder.layers]
    for attention in (*pairs, decoder.final_attn_token_to_image):
        with torch.no_grad():
            attention.k_proj.weight.mul_(2)
            attention.q_proj.weight.copy_(attention.k_proj.weight)


def _groups(parts: list[str], number: int, scene: Scene) -> list[list[int]]:
    """Return the pixels of the part, then of every group that holds it, smallest first."""
    name = parts[number]
    holders = [group for group in scene.groups if name.startswith(group + "/")]
    nested = sorted(holders, key=len, reverse=True)
    return [[number]] + [
        [i for i, part in enumerate(parts) if part.startswith(group + "/")] for group in nested
    ]


def _cut(picture: Tensor, corner: tuple[int, int], crop: int, mode: str = "bilinear") -> Tensor:
    """Cut a window out of the picture resized to the model's input."""
    smooth = {"align_corners": False} if mode == "bilinear" else {}
    full = interpolate(picture, size=(INPUT_SIZE, INPUT_SIZE), mode=mode, **smooth)
    x, y = corner
    return full[..., y : y + crop, x : x + crop]


def _mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return cross entropy (inside and outside weigh the same) plus dice of each mask, N × M."""
    area = target.mean((2, 3), keepdim=True).clamp(1e-3, 1 - 1e-3)
    weight = target / area + (1 - target) / (1 - area)
    entropy = binary_cross_entropy_with_logits(logits, target, weight, reduction="none")
    share = logits.sigmoid()
    both = (share * target).sum((2, 3))
    dice = 1 - (2 * both + 1) / (share.sum((2, 3)) + target.sum((2, 3)) + 1)
    return entropy.mean((2, 3)) / 2 + dice


@torch.no_grad()
def _overlap(logits: Tensor, target: Tensor) -> Tensor:
    """Return the intersection over union of each mask with its target."""
    inside, wanted = logits > 0, target > 0.5
    both = (inside & wanted).sum((2, 3)).float()
    return both / (inside | wanted).sum((2, 3)).clamp(min=1)


def _nearest(logits: Tensor, answers: Tensor) -> Tensor:
    """Return the intersection over union of each mask with the answer it fits best, N × M."""
    overlaps = [_overlap(logits, answers[:, i : i + 1]) for i in range(answers.shape[1])]
    return torch.stack(overlaps).max(0).values


def _excess_size(embedding: Tensor) -> Tensor:
    """Return how much larger the embedding is than the code of positions the decoder adds to it.

    Without this loss its channels grow to constants above a hundred within a few hundred steps,
    positions and prompts drown, and every point gets the same masks.
    """
    return (embedding.square().mean() - 1).relu()


def _sheet_column(model: nn.Module, scene: Scene) -> list[Picture]:
    from adaptivedrag.segmenter.segmentation import Sam2

    picture = render(scene, 256).image
    segmenter = Sam2(model, automatic=AutomaticMasks(points_per_side=8))
    embedding = segmenter.image_features(picture)[0]
    return [picture, _components(embedding), _colored(segmenter.segments(picture), 256)]


def _components(embedding: np.ndarray) -> Picture:
    """Return the first three principal components as colors, 256 × 256."""
    flat = embedding.reshape(len(embedding), -1)
    flat = flat - flat.mean(1, keepdims=True)
    _, vectors = np.linalg.eigh(flat @ flat.T)
    shown = vectors[:, :-4:-1].T @ flat
    shown = np.clip(shown / shown.std(1, keepdims=True) * 50 + 128, 0, 255).astype(np.uint8)
    return shown.reshape(3, 64, 64).transpose(1, 2, 0).repeat(4, 0).repeat(4, 1)


def _colored(masks: np.ndarray, size: int) -> Picture:
    random, out = np.random.default_rng(0), np.zeros((size, size, 3), np.uint8)
    for mask in masks:
        out[mask] = random.integers(60, 256, 3)
    return out
