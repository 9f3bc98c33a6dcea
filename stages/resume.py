"""Checkpoints of a long stage in the store, so that a killed run loses at most a few steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from artifacts import ArtifactStore, Key, TensorFile

if TYPE_CHECKING:
    from torch import Tensor

_PART = "state"


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one action.

    Attributes:
        every: steps between two of them; 0 keeps none.
    """

    store: ArtifactStore
    stage: str
    key: Key
    every: int

    def latest(self) -> "dict[str, Tensor] | None":
        """Return the state of the last whole checkpoint."""
        import torch

        found = self.store.latest_progress(self.stage, self.key)
        if found is None:
            return None
        state = found.parts[_PART]
        return {name: torch.from_numpy(value.copy()) for name, value in state.items()}

    def keep(self, step: int, state: "Mapping[str, Tensor]") -> None:
        """Keep the state after a step; the one before it stays too."""
        arrays = {name: value.detach().cpu().numpy() for name, value in state.items()}
        self.store.put_progress(self.stage, self.key, step, {_PART: TensorFile(arrays)})

    def drop(self) -> None:
        """Delete them all."""
        self.store.drop_progress(self.stage, self.key)
