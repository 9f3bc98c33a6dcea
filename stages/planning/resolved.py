"""An edit with what it names: model files, the sizes of its image, settings fitted to them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Protocol

from adaptivedrag.config import EditConfig
from adaptivedrag.model.lora_files import LoraFile, check_fit
from adaptivedrag.points import Frame
from artifacts import (
    JSON,
    Action,
    Digest,
    SharedConfig,
    StatCache,
    digest_bytes,
    digest_file,
    digest_json,
)
from stages.jobs.edit import Edit, Lora
from stages.pipeline import STAGES
from stages.planning.models import (
    DiffusionFiles,
    SegmenterFiles,
    adaptable_layers,
    diffusion_files,
    segmenter_files,
)
from stages.stage import Stage


class HasValues(Protocol):
    """A result that a later stage needs, known by the digest of its values."""

    @property
    def logical(self) -> Digest:
        """Digest of the values."""
        ...


@dataclass(frozen=True)
class Setting:
    """What edits with the same settings, models and image size have in common.

    Attributes:
        config: fitted to the latents.
        segmenter: None where neither superpixels nor mask need it.
        keys: settings and weights as they enter the key of each stage, by its name.
    """

    config: EditConfig
    frame: Frame
    diffusion: DiffusionFiles
    segmenter: SegmenterFiles | None
    keys: Mapping[str, tuple[Mapping[str, JSON], Mapping[str, Digest]]]

    @classmethod
    def of(
        cls,
        config: EditConfig,
        model: str,
        vae: str | None,
        segmenter: str,
        height: int,
        width: int,
    ) -> "Setting":
        """Find the models, and fit settings to the latents of an image's size.

        Raises:
            ModelUnavailable: if a model's files are not there.
            InvalidEdit: if the image is too small, or a setting does not suit the model.
        """
        diffusion = diffusion_files(model, vae)
        config = config.suited_to(diffusion.architecture)
        size = config.working_size or diffusion.architecture.working_size
        frame = Frame.of_image(height, width, factor=diffusion.factor, working_size=size)
        reference = diffusion.architecture.reference_latents
        fitted = config.scaled_to(diffusion.channels, *frame.latent_size, reference)
        segmenting = segmenter_files(segmenter) if config.needs_segmenter else None
        files: dict[str, DiffusionFiles | SegmenterFiles | None] = {
            "diffusion": diffusion,
            "segmenter": segmenting,
        }
        keys = {
            stage.name: (
                SharedConfig({**stage.key_config(fitted), "frame": asdict(frame)}),
                {str(name): found.digest for name in stage.models if (found := files[name])},
            )
            for stage in STAGES
        }
        return cls(fitted, frame, diffusion, segmenting, keys)


@dataclass(frozen=True)
class Resolved:
    """An edit with its setting, and the digests of the files that take the place of stages."""

    edit: Edit
    setting: Setting
    files: Mapping[str, Mapping[str, Digest]]
    """By stage and input."""

    @classmethod
    def of(cls, edit: Edit) -> "Resolved":
        """Resolve one edit without loading a model; see `resolver` for many."""
        return resolver()(edit)

    @property
    def config(self) -> EditConfig:
        """The edit's settings, fitted to its latents."""
        return self.setting.config

    @property
    def frame(self) -> Frame:
        """The sizes of its image."""
        return self.setting.frame

    def action(self, stage: Stage, upstream: Mapping[str, HasValues]) -> Action:
        """Return the piece of work that `stage` is for this edit, given what went before."""
        if files := self.files.get(stage.name):
            return Action(stage.name, stage.version, {"source": "file"}, files, {})
        config, models = self.setting.keys[stage.name]
        own = self.inputs
        inputs: dict[str, Digest] = {
            name: digest for name in stage.reads(self.config) if (digest := own[name])
        }
        inputs |= {name: upstream[name].logical for name in stage.needs if name in upstream}
        return Action(stage.name, stage.version, config, inputs, models)

    @cached_property
    def inputs(self) -> Mapping[str, Digest | None]:
        """Digests of what is the edit's own; None for what it has not."""
        edit = self.edit
        return {
            "image": edit.image.digest,
            "relocated_image": edit.image.digest,
            "prompt": digest_bytes("prompt", edit.prompt.encode()),
            "drags": digest_json("drags", edit.points),
            "user_mask": edit.mask_digest,
        }


def resolver() -> Callable[[Edit], Resolved]:
    """Return a function that resolves edits; what many of them share, it finds once.

    The function raises:
        ModelUnavailable: if a model's files are not there.
        InvalidEdit: if the image is too small, a setting does not suit the model, or a LoRA is for
            another model.
    """
    setting, digest = cache(Setting.of), cache(_file_digest)
    check_lora = cache(_check_lora)

    def resolve(edit: Edit) -> Resolved:
        size = edit.image.height, edit.image.width
        check_lora(edit.lora, edit.model, edit.vae)
        files = {stage.name: stage.files(edit) for stage in STAGES}
        return Resolved(
            edit,
            setting(edit.config, edit.model, edit.vae, edit.segmenter, *size),
            {
                stage: {name: digest(path) for name, path in named.items()}
                for stage, named in files.items()
                if named
            },
        )

    return resolve


def _check_lora(lora: Lora, model: str, vae: str | None) -> None:
    """Compare a LoRA with a model by the headers of their files."""
    if isinstance(lora, LoraFile):
        check_fit(lora, adaptable_layers(model, vae))


def _file_digest(path: Path) -> Digest:
    return Digest(StatCache().value(path, "file", digest_file))
