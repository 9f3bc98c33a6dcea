"""Checkpoints in one .safetensors file, in the original layout of Stable Diffusion.

Such a file holds tensors and nothing else. Settings and tokenizers are those that the families were
published with, which are part of this package; tensors get diffusers' names by diffusers' own
converters, in memory. Nobody is asked for anything.

Importing this module loads no torch: what a file is, its header says.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from adaptivedrag.errors import ModelUnavailable, UnsupportedModel
from adaptivedrag.model.architectures.other_inputs import other_inputs
from adaptivedrag.model.clip_vocabulary import CONFIGS, MERGES, is_packed
from adaptivedrag.model.conversion import ConvertedTensors, Converter, clip, open_clip, unet, vae
from adaptivedrag.model.file_kinds import LDM_UNET, LDM_VAE, kind_of_file
from adaptivedrag.model.parts import Part, read_settings
from adaptivedrag.model.source import Folder, PartFiles, Source
from adaptivedrag.model.stored_tensors import StoredTensors

_FIRST, _LAST = f"{LDM_UNET}input_blocks.0.0.weight", f"{LDM_UNET}out.2.weight"
_CLIP, _OPEN_CLIP = "cond_stage_model.transformer.", "cond_stage_model.model."
_CLIP_XL, _OPEN_CLIP_XL = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
_REFINER = "conditioner.embedders.0.model."

_PREDICTION, _V_NAMES = "modelspec.prediction_type", ("v", "v_prediction")

_OWN_KEYS = (
    "a single file is known by its bytes, so what was made with the same weights in a folder of "
    "diffusers, or in another file, is made again"
)
_ASSUMED_V = (
    "nothing in the file says what its UNet predicts: it is taken for v, as in Stable Diffusion "
    "2.1 at 768 pixels; if results are noise, name a folder of diffusers, whose scheduler says it"
)
_AVERAGES = "its averaged (EMA) weights are left aside: the plain ones are loaded, as by diffusers"

_OTHER_NOISE = frozenset(
    f"edm_{kind}.sigma_{bound}" for kind in ("vpred", "eps") for bound in ("min", "max")
) | {"ztsnr", "edm_mean", "edm_std"}
"""Tensors by which programs know a model of another noise schedule."""

_ASIDE = {
    r"model_ema\..*": "averages of the weights, which diffusers leaves aside too",
    r"(alphas|betas|sqrt_|log_one_minus_|posterior_|denoiser\.sigmas).*": "the noise levels",
    r"(lvlb_weights|logvar|scale_factor|global_step|epoch|v_pred)": "of the training",
    r"first_stage_model\.loss\..*": "of the VAE's training",
    r".*\.(position_ids|logit_scale|attn_mask)": "of CLIP's training, or numbers from 0 upward",
    r"(cond_stage_model|conditioner\.embedders\.0)\..*text_projection(\.weight)?": "not used",
    r"cond_stage_model\.model\.transformer\.resblocks\.23\..*": "a layer that is not used",
}
"""Patterns of tensors that are no weights of a model, with the reason."""


@dataclass(frozen=True)
class Piece:
    """One part of a model in a single file."""

    settings: str
    """Folder of its settings in `CONFIGS`."""
    prefix: str = ""
    """Of the names of its tensors."""
    convert: Converter | None = None
    """None for a part without tensors."""


_EPSILON, _V = Piece("noise/epsilon"), Piece("noise/v_prediction")

LAYOUTS: Mapping[str, Mapping[str, Piece]] = {
    "Stable Diffusion XL": {
        "unet": Piece("sdxl/unet", LDM_UNET, unet),
        "vae": Piece("sdxl/vae", LDM_VAE, vae),
        "text_encoder": Piece("sd1/text_encoder", _CLIP_XL, clip),
        "text_encoder_2": Piece("sdxl/text_encoder_2", _OPEN_CLIP_XL, open_clip(_OPEN_CLIP_XL)),
        "tokenizer": Piece("sd1/tokenizer"),
        "tokenizer_2": Piece("sd2/tokenizer"),
        "scheduler": _EPSILON,
    },
    "Stable Diffusion 2.x": {
        "unet": Piece("sd2/unet", LDM_UNET, unet),
        "vae": Piece("sd1/vae", LDM_VAE, vae),
        "text_encoder": Piece("sd2/text_encoder", _OPEN_CLIP, open_clip(_OPEN_CLIP)),
        "tokenizer": Piece("sd2/tokenizer"),
        "scheduler": _V,
    },
    "Stable Diffusion 1.x": {
        "unet": Piece("sd1/unet", LDM_UNET, unet),
        "vae": Piece("sd1/vae", LDM_VAE, vae),
        "text_encoder": Piece("sd1/text_encoder", _CLIP, clip),
        "tokenizer": Piece("sd1/tokenizer"),
        "scheduler": _EPSILON,
    },
}
"""By family, which the text encoders of a file tell."""


@dataclass(frozen=True)
class SingleFile:
    """A checkpoint in one file."""

    path: Path
    family: str
    pieces: Mapping[str, Piece] = field(repr=False, hash=False)
    header: StoredTensors = field(repr=False, hash=False)
    notes: tuple[str, ...] = ()
    configs: Path = CONFIGS

    @classmethod
    def open(cls, path: Path, configs: Path = CONFIGS) -> Self:
        """Read the header of a checkpoint.

        Raises:
            ModelUnavailable: if it cannot be read.
            UnsupportedModel: if it is something else; the message says what.
        """
        header = StoredTensors.read(path)
        family = _family(path, header.forms)
        pieces, notes = _with_prediction(family, header)
        if any(name.startswith("model_ema.") for name in header.forms):
            notes = (*notes, _AVERAGES)
        found = cls(path, family, pieces, header, (_OWN_KEYS, *notes), configs)
        found._refuse_others()
        return found

    def settings(self, name: str) -> Path:
        """Return the folder of a part's settings; see `Source`."""
        return self.configs / self.pieces[name].settings

    def part(self, name: str, part: Part) -> PartFiles:
        """Find the files of a part; see `Source`."""
        folder, convert = self.settings(name), self.pieces[name].convert
        used = {f"{name}/{path.name}": path for path in part.settings_in(folder)}
        if convert is not None:
            used["checkpoint.safetensors"] = self.path
            return PartFiles(folder, self._tensors(name, convert), used)
        if name.startswith("tokenizer") and is_packed(folder):
            used[f"{name}/{MERGES.name}"] = MERGES
        return PartFiles(folder, None, used)

    def _tensors(self, name: str, convert: Converter) -> ConvertedTensors:
        header = self.header.under(self.pieces[name].prefix).without(_ASIDE)
        if not header.forms:
            remedy = f': name one with {name} = "…"' if name == "vae" else ""
            raise ModelUnavailable(f"{self.path} holds no {name}{remedy}")
        return ConvertedTensors(header, f"{self.path}: {name}", convert, self.settings(name))

    def _refuse_others(self) -> None:
        """Refuse tensors that are of no part, and a UNet of another kind or size."""
        forms = self.header.without(_ASIDE).forms
        if noise := sorted(_OTHER_NOISE & forms.keys()):
            raise UnsupportedModel(
                f"{self.path} was trained on a noise schedule that is not supported, as its tensor "
                f"{noise[0]} says (zero terminal SNR, or EDM): use another checkpoint"
            )
        prefixes = tuple(piece.prefix for piece in self.pieces.values() if piece.prefix)
        if others := [name for name in forms if not name.startswith(prefixes)]:
            raise UnsupportedModel(
                f"{self.path} holds {len(others)} tensors that are of no part of "
                f"{self.family}, such as {min(others):.100}: use a checkpoint without them"
            )
        for name in {_FIRST, _LAST} & forms.keys():
            if len(forms[name].shape) != 4:
                raise UnsupportedModel(f"{self.path}: {name} is no convolution: fetch it again")
        width, taken = forms[_FIRST].shape[:2]
        given = forms[_LAST].shape[0] if _LAST in forms else taken
        if kind := other_inputs({"in_channels": taken, "out_channels": given}):
            raise UnsupportedModel(
                f"{self.path}: the UNet takes {taken} channels: it is {kind}. Edits need a "
                "text-to-image model, whose UNet takes latents alone"
            )
        known = read_settings(self.settings("unet") / "config.json")["block_out_channels"][0]
        if width != known:
            raise UnsupportedModel(
                f"{self.path}: the UNet is {width} channels wide, and that of {self.family} "
                f"{known}: name a folder in diffusers' layout, which says its sizes"
            )


def _family(path: Path, names: Collection[str]) -> str:
    if _FIRST not in names:
        raise UnsupportedModel(f"{path} is {kind_of_file(names)}")
    for family, pieces in LAYOUTS.items():
        encoders = [piece.prefix for name, piece in pieces.items() if "encoder" in name]
        if all(any(name.startswith(prefix) for name in names) for prefix in encoders):
            return family
    if any(name.startswith(_REFINER) for name in names):
        raise UnsupportedModel(f"{path} is the refiner of SDXL: use the base model")
    raise UnsupportedModel(
        f"{path} holds a UNet without its text encoder: use a checkpoint that has both"
    )


def _with_prediction(
    family: str, header: StoredTensors
) -> tuple[Mapping[str, Piece], tuple[str, ...]]:
    """Return a family's pieces for what the UNet predicts, and a note where that is a guess.

    Raises:
        UnsupportedModel: if it is something else, or the file contradicts itself.
    """
    pieces = LAYOUTS[family]
    said = header.words.get(_PREDICTION, "").strip().lower()
    is_v = "v_pred" in header.forms
    if said not in ("", *_V_NAMES, "epsilon") or (said == "epsilon" and is_v):
        other = ", and a tensor is named v_pred" if is_v else ""
        raise UnsupportedModel(
            f"{header.file}: {_PREDICTION} in its header is {said!r:.40}{other}; supported are "
            "'epsilon' and 'v': correct it, or name a folder of diffusers"
        )
    if not said and not is_v:
        return pieces, (_ASSUMED_V,) if pieces["scheduler"] is _V else ()
    if is_v or said in _V_NAMES:
        return {**pieces, "scheduler": _V}, ()
    unets = {"sd2/unet": "sd2_base/unet"}
    own = pieces["unet"]
    base = replace(own, settings=unets.get(own.settings, own.settings))
    return {**pieces, "unet": base, "scheduler": _EPSILON}, ()


def source_at(path: Path) -> Source:
    """Return the model at a path: a folder in diffusers' layout, or a single file.

    Raises:
        ModelUnavailable, UnsupportedModel: as `SingleFile.open`.
    """
    return Folder(path) if path.is_dir() else SingleFile.open(path)
