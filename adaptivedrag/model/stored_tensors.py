"""The tensors that a .safetensors file holds, by the names that they have here."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from adaptivedrag.errors import ModelUnavailable
from adaptivedrag.model.tensors import Form, read_header

if TYPE_CHECKING:
    import torch

_WRAPPED = re.compile(r"^(state_dict\.|module\.)+")
"""What programs put before every name of a checkpoint that they had wrapped."""


@dataclass(frozen=True)
class StoredTensors:
    """Some tensors of a file."""

    file: Path
    stored: Mapping[str, str]
    """Their names in the file, by those that they have here."""
    forms: Mapping[str, Form]
    words: Mapping[str, str]

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read the header of a file.

        Raises:
            ModelUnavailable: if it is no safetensors file, cut short, or holds a tensor twice.
        """
        forms, words = read_header(file)
        stored: dict[str, str] = {}
        for name in forms:
            other = stored.setdefault(_WRAPPED.sub("", name), name)
            if other != name:
                raise ModelUnavailable(
                    f"{file} holds one tensor twice, as {other:.100} and {name:.100}: use a file "
                    "with one of them"
                )
        return cls(file, stored, {name: forms[of] for name, of in stored.items()}, words)

    def under(self, prefix: str) -> Self:
        """Return the tensors whose names begin so."""
        return self._only([name for name in self.forms if name.startswith(prefix)])

    def renamed(self, prefix: str) -> Self:
        """Return the tensors under names without their prefix."""
        return replace(
            self,
            stored={name.removeprefix(prefix): of for name, of in self.stored.items()},
            forms={name.removeprefix(prefix): of for name, of in self.forms.items()},
        )

    def without(self, patterns: Collection[str]) -> Self:
        """Return the tensors whose names match no pattern."""
        aside = re.compile("|".join(patterns))
        return self._only([name for name in self.forms if not aside.fullmatch(name)])

    def tensors(self) -> "dict[str, torch.Tensor]":
        """Read the tensors."""
        from safetensors import safe_open

        with safe_open(self.file, "pt") as opened:
            return {name: opened.get_tensor(of) for name, of in self.stored.items()}

    def _only(self, names: Collection[str]) -> Self:
        return replace(
            self,
            stored={name: self.stored[name] for name in names},
            forms={name: self.forms[name] for name in names},
        )
