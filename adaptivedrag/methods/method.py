"""What a drag method is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self, TypeAlias

from adaptivedrag.section import LatentScale, Section

if TYPE_CHECKING:
    from adaptivedrag.drag import (
        DragProblem,
        DragResult,
        DragTask,
        Hooks,
        MovedPicture,
        PictureProblem,
    )
    from adaptivedrag.model.diffusion import DiffusionModel


LoraChoice: TypeAlias = Literal["auto", "train", "off"]
"""Whether a LoRA is fitted to the image; "auto" leaves it to the drag method."""


class DragMethod(Section, ABC):
    """The settings of a drag method, and the method: a `LatentMethod` or a `PictureMethod`."""

    needs_latents: ClassVar[bool] = True
    """Whether it moves inverted latents, and not the picture."""
    needs_segments: ClassVar[bool] = False
    """Whether it finds content, and so needs SAM 2's automatic segments."""
    gains_by_lora: ClassVar[bool] = True
    """Whether its results are better with a LoRA of the image."""

    method: str
    """Its name in `METHODS`."""

    @property
    def levels_down(self) -> int:
        """Sampling steps that it takes itself, at most."""
        return 0

    @property
    def draws(self) -> bool:
        """Whether it draws noise."""
        return False

    def no_lora(self, choice: LoraChoice) -> str:
        """Say why no LoRA is fitted to the image; "" if one is."""
        if choice == "auto" and not self.gains_by_lora:
            return f'the method "{self.method}" gains nothing by it'
        return 'lora = "off"' if choice == "off" else ""

    def fitted_to(self, scale: LatentScale) -> Self:
        """Fit settings given for 4×64×64 latents to another size."""
        return self


class LatentMethod(DragMethod):
    """A method that moves the handles in inverted latents."""

    shares_passes: ClassVar[bool] = False
    """Whether `drag_together` takes several edits through the model at once."""

    @abstractmethod
    def drag(self, model: "DiffusionModel", problem: "DragProblem", hooks: "Hooks") -> "DragResult":
        """Return latents in which the handles have moved toward their targets.

        Raises:
            NotFinite: if latents are not finite.
        """

    @classmethod
    def drag_together(
        cls, model: "DiffusionModel", tasks: "Sequence[DragTask[Self]]"
    ) -> "list[DragResult]":
        """Do the tasks of several edits of one size and with the same weights.

        Raises:
            NotFinite: if the latents of any are not finite.
        """
        return [task.method.drag(model, task.problem, task.hooks) for task in tasks]


class PictureMethod(DragMethod):
    """A method that moves content in the picture, without a model."""

    needs_latents = False

    @abstractmethod
    def move(self, problem: "PictureProblem") -> "MovedPicture":
        """Return the picture in which what is at the handles has moved."""
