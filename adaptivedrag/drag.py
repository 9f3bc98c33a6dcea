"""Input and output of a drag method: the problem, the result, and the handles.

A method that moves latents gets a `DragProblem` and returns a `DragResult`; one that moves content
in the picture gets a `PictureProblem` and returns a `MovedPicture`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from adaptivedrag.config import InvertImageConfig
from adaptivedrag.features import sample_features
from adaptivedrag.model.conditioning import Conditioning
from adaptivedrag.model.lora import seed_of_draws
from adaptivedrag.points import Drag, FeaturePoint, Frame, ImagePoint
from adaptivedrag.superpixels import Segments, Superpixels

if TYPE_CHECKING:
    from adaptivedrag.warp.pasting import Pasted

CPU = torch.device("cpu")

Verdict = Literal["reached", "stalled", "lost", "no-op"]
"""How a drag ended, according to the method's tracker or to the witness."""

DragState = Mapping[str, Tensor]
"""Everything that a method needs to resume after a step, by name."""


@dataclass(frozen=True)
class DragProblem:
    """An edit whose handles have to be moved, before anything has moved.

    Attributes:
        trajectory: clean latents, then those after each inversion step; never changed in place.
        mask: True where the image may change, on the feature grid. An empty one holds nothing.
        inversion: the settings that `trajectory` was made with.
        seed: seed of the draws, for a method that draws noise.
    """

    trajectory: Float[Tensor, "levels c h w"]
    conditioning: Conditioning
    drags: Sequence[Drag]
    superpixels: Superpixels
    mask: Bool[np.ndarray, "hf wf"]
    frame: Frame
    inversion: InvertImageConfig
    seed: int = 0

    def generator(self) -> torch.Generator:
        """Begin the draws on the CPU, no two pictures or prompts with the same ones."""
        made_for = self.trajectory.cpu().numpy()
        return torch.Generator("cpu").manual_seed(seed_of_draws(self.seed, made_for, prompt=""))

    @property
    def inverted(self) -> Float[Tensor, "1 c h w"]:
        """The latents at the start timestep."""
        return self.trajectory[-1:]

    @property
    def level(self) -> int:
        """Number of inversion steps from clean latents to `inverted`."""
        return self.inversion.inverted_steps


@dataclass(frozen=True)
class PictureProblem:
    """An image whose content has to be moved.

    Attributes:
        image: at its own size.
        mask: True where the image may change, on the feature grid; None, and an empty one: wherever
            content, its glow and its shadow are and go.
    """

    image: UInt8[np.ndarray, "h w 3"]
    drags: Sequence[Drag]
    superpixels: Superpixels
    segments: Segments
    mask: Bool[np.ndarray, "hf wf"] | None
    frame: Frame


@dataclass(frozen=True)
class PointReport:
    """How one drag ended, in pixels of the user's image."""

    handle: ImagePoint
    end: ImagePoint
    target: ImagePoint
    verdict: Verdict
    distance: float
    """From where the handle ended to its target, in pixels of the image."""

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "handle": list(self.handle),
            "end": list(self.end),
            "target": list(self.target),
            "verdict": self.verdict,
            "distance": self.distance,
        }


def verdict_of(points: Sequence[PointReport]) -> str:
    """Return an edit's verdict: that of all its moving points; of mixed ones "partial" if some
    arrived, else "stalled".
    """
    verdicts = {point.verdict for point in points} - {"no-op"}
    if not verdicts:
        return "no-op"
    if len(verdicts) == 1:
        return verdicts.pop()
    return "partial" if "reached" in verdicts else "stalled"


@dataclass(frozen=True, kw_only=True)
class DragReport:
    """How the handles were moved.

    Attributes:
        tracks: (row, col) of every handle on the feature grid, the start included: where it was
            tracked, or where it was put.
        details: further results of the method, as JSON; of an optimization its `losses`, as
            `known_losses` returns them.
        warnings: what is odd about them, a line each.
    """

    tracks: Float[np.ndarray, "steps_1 p 2"]
    points: tuple[PointReport, ...]
    steps: int
    budget: int
    details: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """The edit's verdict, according to the method's own tracker."""
        return verdict_of(self.points)


@dataclass(frozen=True, kw_only=True)
class DragResult(DragReport):
    """Latents in which the handles are moved.

    Attributes:
        level: number of inversion steps from clean latents to `latents`; sampling takes as many.
    """

    latents: Float[Tensor, "1 c h w"]
    level: int


@dataclass(frozen=True, kw_only=True)
class MovedPicture(DragReport):
    """A picture in which content is moved."""

    pasted: "Pasted"


@dataclass(frozen=True)
class Hooks:
    """Callbacks of a drag, and the state to resume from.

    Attributes:
        on_step: called with the number of steps done and the number allowed.
        resume_from: what `on_state` got from an earlier drag of the same problem; on the CPU the
            result has the bytes of a drag that was never interrupted.
        on_state: called with the state after every `state_every` steps, if that is not 0, and
            before an end that `on_step` asks for with `Stopped`.
    """

    on_step: Callable[[int, int], None] = lambda _step, _budget: None
    resume_from: DragState | None = None
    on_state: Callable[[int, DragState], None] = lambda _step, _state: None
    state_every: int = 0


Method = TypeVar("Method", covariant=True)


@dataclass(frozen=True, eq=False)
class DragTask(Generic[Method]):
    """A problem, the method with its settings, and what to call meanwhile."""

    method: Method
    problem: DragProblem
    hooks: Hooks


@dataclass(frozen=True)
class Handles:
    """The handles of an edit, (row, col) on the feature grid.

    Attributes:
        first: the cells where they are.
        targets: the points where they should go.
        still: those that are at their targets from the start.
        stop_distance: within this distance of its target a handle has arrived.
    """

    drags: Sequence[Drag]
    frame: Frame
    first: Int[Tensor, "p 2"]
    targets: Float[Tensor, "p 2"]
    still: Bool[Tensor, "p"]
    stop_distance: float

    @classmethod
    def of(
        cls,
        problem: DragProblem | PictureProblem,
        stop_distance: float,
        device: torch.device = CPU,
    ) -> Self:
        """Put the handles of a problem on `device`."""
        drags, frame = problem.drags, problem.frame
        first = torch.tensor([frame.to_cell(drag.handle) for drag in drags], device=device)
        starts = torch.tensor([frame.to_feature(drag.handle) for drag in drags]).to(device)
        targets = torch.tensor([frame.to_feature(drag.target) for drag in drags]).to(device)
        still = (targets - starts).norm(dim=-1) < stop_distance
        return cls(drags, frame, first, targets, still, stop_distance)

    def away(self, cells: Int[Tensor, "p 2"], distance: float) -> Bool[Tensor, "p"]:
        """Return which moving handles would be this far from their targets at `cells`."""
        return ((self.targets - cells).norm(dim=-1) >= distance) & ~self.still

    def pending(self, cells: Int[Tensor, "p 2"]) -> Bool[Tensor, "p"]:
        """Return which handles would not have arrived at `cells`."""
        return self.away(cells, self.stop_distance)

    def reports(
        self, cells: Int[Tensor, "p 2"], lost: Bool[Tensor, "p"]
    ) -> tuple[PointReport, ...]:
        """Return how each drag ended whose handle was last tracked at its cell.

        Args:
            lost: whether what was found there is no more like the handle than the picture is.
        """
        pending = self.pending(cells)
        reports = []
        for index, drag in enumerate(self.drags):
            end = self.frame.to_image(FeaturePoint(*cells[index].tolist()))
            verdict: Verdict = "lost" if lost[index] else "stalled"
            if self.still[index]:
                verdict, end = "no-op", drag.handle
            elif not pending[index]:
                verdict = "reached"
            distance = math.dist(end, drag.target)
            reports.append(PointReport(drag.handle, end, drag.target, verdict, distance))
        return tuple(reports)


def known_losses(losses: Float[Tensor, "updates"]) -> list[float | None]:
    """Return the losses of an optimization as JSON, one per update of the latents.

    None where a loss is not finite: one from before a checkpoint that kept no losses.
    """
    return [round(loss, 6) if math.isfinite(loss) else None for loss in losses.tolist()]


def looks(
    features: Float[Tensor, "c h w"], cells: Int[Tensor, "p 2"]
) -> tuple[Float[Tensor, "p c"], Float[Tensor, "p"]]:
    """Return the features of handles, and how far those of the whole map are from each on average.

    What is found at such a distance or beyond is no more like the handle than anything else.
    """
    own = sample_features(features, cells.float())
    everywhere = features.flatten(1).T.float()
    chance = torch.stack([(everywhere - feature).abs().sum(dim=1).mean() for feature in own])
    return own, chance
