"""A VAE of one's own in the place of a model's: a folder of diffusers, or a file."""

from dataclasses import dataclass
from pathlib import Path

from adaptivedrag.errors import UnsupportedModel
from adaptivedrag.model.conversion import ConvertedTensors, as_they_are, vae
from adaptivedrag.model.file_kinds import LDM_VAE, kind_of_file
from adaptivedrag.model.parts import VAE, Part
from adaptivedrag.model.source import PartFiles, Source
from adaptivedrag.model.stored_tensors import StoredTensors

_PREFIXES = (LDM_VAE, "vae.")
"""What programs put before the names of a VAE."""


@dataclass(frozen=True)
class WithVae:
    """A model with the VAE of another source."""

    model: Source
    vae: PartFiles

    @property
    def path(self) -> Path:
        """Path of the model; see `Source`."""
        return self.model.path

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the model; see `Source`."""
        return self.model.notes

    def settings(self, name: str) -> Path:
        """Return the folder of a part's settings; see `Source`."""
        return self.vae.folder if name == "vae" else self.model.settings(name)

    def part(self, name: str, part: Part) -> PartFiles:
        """Find the files of a part; see `Source`."""
        return self.vae if name == "vae" else self.model.part(name, part)


def vae_at(path: Path, model: Source) -> PartFiles:
    """Find the files of a VAE at a path.

    A file has no settings: it has those of a config.json beside it if it holds a VAE alone, and
    otherwise those of the model's own VAE.

    Raises:
        ModelUnavailable: if it cannot be read.
        UnsupportedModel: if it is something else; the message says what.
    """
    if path.is_file():
        return _vae_in_file(path, model)
    folder = path / "vae" if (path / "vae").is_dir() else path
    files = {f"vae/{file.name}": file for file in VAE.files(folder)}
    return PartFiles(folder, VAE.tensors(folder), files)


def _vae_in_file(path: Path, model: Source) -> PartFiles:
    header = StoredTensors.read(path)
    prefix = next((p for p in _PREFIXES if header.under(p).forms), "")
    own = header.under(prefix).renamed(prefix).without([r"loss\..*", r"model_ema\..*"])
    names = [name for name in own.forms if name.startswith(("encoder.", "decoder."))]
    if not names or any(name.startswith("encoder.layers.") for name in names):
        raise UnsupportedModel(f"vae {path} is {kind_of_file(header.forms)}")
    is_diffusers = any(name.startswith("encoder.down_blocks.") for name in names)
    is_alone = all(name.startswith(prefix) for name in header.forms)
    beside = path.parent if is_alone and (path.parent / "config.json").is_file() else None
    folder = beside or model.settings("vae")
    convert = as_they_are if is_diffusers else vae
    files = {"vae/config.json": folder / "config.json", "vae/weights.safetensors": path}
    return PartFiles(folder, ConvertedTensors(own, str(path), convert, folder), files)
