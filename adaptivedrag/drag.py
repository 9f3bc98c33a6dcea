"""Semantic-driven optimisation of the latents (paper, Sec. 3.4): the drag itself.

One step: a pass of the UNet gives the noise and the features; the handles are tracked in them;
the motion and background losses move the latents. The loop asks the device for an answer only
every `POLL` steps: its state knows when it has stopped, and later steps change nothing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from adaptivedrag.backtracking import accept_forward_steps
from adaptivedrag.config import InvertImageConfig, OptimizeLatentConfig
from adaptivedrag.errors import NotFinite, stop_of
from adaptivedrag.features import sample_features, window
from adaptivedrag.masks import latent_mask
from adaptivedrag.model.conditioning import Conditioning
from adaptivedrag.model.diffusion import DiffusionModel
from adaptivedrag.motion_supervision import background_loss, motion_loss
from adaptivedrag.point_tracking import track_points
from adaptivedrag.points import Drag, FeaturePoint, Frame, ImagePoint
from adaptivedrag.semantic_region import RegionMap
from adaptivedrag.superpixels import Superpixels

POLL = 8
"""Steps between two looks at the stop flag on a GPU, where each look waits for the device."""

SUPERVISION_SHARE = 2 / 7
"""Supervision radius per superpixel spacing, on the feature grid (a seventh of it in pixels)."""

TRACKING_SHARE = 4 / 5
"""Tracking radius per superpixel spacing, on the feature grid (two fifths of it in pixels)."""

Verdict = Literal["reached", "moved", "stalled", "lost", "no-op"]
"""How a drag ended, by the tracker. "moved": its content was moved in the picture and nothing was
optimised after that; the tracker does not find the handle at its target, as it often does not where
the picture agrees with the truth.
"""

DragState = Mapping[str, Tensor]
"""Everything that a run needs to go on after some step, by name; see `drag_latents`."""


@dataclass(frozen=True)
class PointReport:
    """How one drag ended, in pixels of the user's image."""

    handle: ImagePoint
    end: ImagePoint
    target: ImagePoint
    verdict: Verdict
    distance: float
    """From where the handle was last tracked to its target, in pixels of the image."""


@dataclass(frozen=True)
class DragResult:
    """Optimised latents and how they came about."""

    latents: Float[Tensor, "1 c h w"]
    tracks: Float[np.ndarray, "steps_1 p 2"]
    """Tracked (row, col) of every handle on the feature grid, the start included."""
    points: tuple[PointReport, ...]
    steps: int
    budget: int

    @property
    def verdict(self) -> str:
        """The edit's verdict: that of all its moving points.

        Of mixed ones "moved" if all others arrived, "partial" if some did, else "stalled".
        """
        verdicts = {point.verdict for point in self.points} - {"no-op"}
        if not verdicts:
            return "no-op"
        if verdicts == {"reached", "moved"}:
            return "moved"
        if len(verdicts) == 1:
            return verdicts.pop()
        return "partial" if "reached" in verdicts else "stalled"


def drag_latents(
    model: DiffusionModel,
    latents: Float[Tensor, "1 c h w"],
    conditioning: Conditioning,
    drags: Sequence[Drag],
    superpixels: Superpixels,
    mask: Bool[np.ndarray, "hf wf"],
    frame: Frame,
    config: OptimizeLatentConfig,
    inversion: InvertImageConfig,
    *,
    relocated: Float[Tensor, "1 c h w"] | None = None,
    on_step: Callable[[int, int], None] = lambda _step, _budget: None,
    resume_from: DragState | None = None,
    on_state: Callable[[int, DragState], None] = lambda _step, _state: None,
    state_every: int = 0,
) -> DragResult:
    """Optimise inverted latents until every handle has arrived or the budget is spent.

    Args:
        latents: those at the start timestep; never changed in place.
        mask: True where the image may change, on the feature grid. An empty one holds nothing.
        relocated: latents in which the content has been moved (`adaptivedrag.warp.relocation`). The
            loop goes on from them: handles are looked for around their targets, wherever that
            is on their way, and pulled if they are not there.
        resume_from: what `on_state` was given by an earlier call with the same arguments; on the
            CPU the result has the bytes of a run that was never interrupted.
        on_state: called with the state after every `state_every` steps, if that is not 0, and
            before an end that `on_step` asks for with `Stopped`.

    Raises:
        NotFinite: if the latents stop being finite; the message names the step, and `state` is
            the last good one.
    """
    start = model.schedule.start(inversion.num_steps, inversion.inverted_steps)
    below = model.schedule.previous(start, inversion.num_steps)
    levels = (start, below)
    loop = _DragLoop(model, latents, conditioning, drags, superpixels, mask, frame, config, levels)
    loop.relocated = relocated
    if resume_from is not None:
        loop.restore(resume_from)
    return loop.run(on_step, on_state, state_every)


class _DragLoop:
    """The state of one edit's optimisation, on the device."""

    def __init__(
        self,
        model: DiffusionModel,
        latents: Float[Tensor, "1 c h w"],
        conditioning: Conditioning,
        drags: Sequence[Drag],
        superpixels: Superpixels,
        mask: Bool[np.ndarray, "hf wf"],
        frame: Frame,
        config: OptimizeLatentConfig,
        levels: tuple[int, int],
    ) -> None:
        self.start, self.below = levels
        device = model.device
        self.model, self.frame, self.config = model, frame, config
        self.conditioning = conditioning
        self.drags = drags
        self.regions = RegionMap.of(superpixels, device)
        self.editable = torch.from_numpy(latent_mask(mask)).to(device)
        self.holds_background = bool(mask.any()) and config.background_weight > 0
        self.latents = latents.detach().clone().float().requires_grad_(True)
        self.optimizer = torch.optim.Adam([self.latents], lr=config.learning_rate)
        cells = [frame.to_cell(drag.handle) for drag in drags]
        self.first = torch.tensor(cells, device=device)
        self.targets = torch.tensor([frame.to_feature(drag.target) for drag in drags]).to(device)
        self.way = self.targets - self.first
        starts = torch.tensor([frame.to_feature(drag.handle) for drag in drags]).to(device)
        self.still = (self.targets - starts).norm(dim=-1) < config.stop_distance
        self.ideal = self.way.norm(dim=-1) / config.steps
        self.handles = self.first
        self.budget = torch.tensor(config.steps, device=device)
        self.idle = torch.tensor(0, device=device)
        self.running = torch.tensor(True, device=device)
        self.steps = torch.tensor(0, device=device)
        self.matches = torch.zeros(len(drags), device=device)
        self.tracks = [self.handles]
        self.begun = 0
        self.relocated: Float[Tensor, "1 c h w"] | None = None
        self.good: DragState = {}

    @property
    def pulled(self) -> Bool[Tensor, "p"]:
        """Points that motion supervision still moves."""
        far = (self.targets - self.handles).norm(dim=-1) >= self.config.skip_distance
        return far & ~self.still

    @property
    def pending(self) -> Bool[Tensor, "p"]:
        """Points that have not arrived."""
        far = (self.targets - self.handles).norm(dim=-1) >= self.config.stop_distance
        return far & ~self.still

    def run(
        self,
        on_step: Callable[[int, int], None],
        on_state: Callable[[int, DragState], None],
        state_every: int,
    ) -> DragResult:
        poll = 1 if self.model.device.type == "cpu" else POLL
        for step in range(self.begun, self.config.max_steps + 1):
            noise, features = self.model.predict_with_features(
                self.latents, self.start, self.conditioning
            )
            if step == 0:
                self._remember_start(noise, features)
                self._decide(step)
            elif step > self.begun:
                self._track(features, moved=step == 1 and self.relocated is not None)
                self.tracks.append(self.handles)
                self._decide(step)
            if step % poll == 0:
                self._check(step)
                if not self.running:
                    break
                stopped = stop_of(on_step, step, int(self.budget))
                if state_every and step > self.begun and (stopped or step % state_every < poll):
                    on_state(step, self.good)
                if stopped:
                    raise stopped
            if step == 0 and self.relocated is not None:
                self._relocate(self.relocated)
            else:
                self._step(noise, features)
        return self._result()

    def state(self, step: int) -> DragState:
        """Copy what changes from step to step, as it is before the step's update."""
        moments = self.optimizer.state[self.latents]
        nothing = torch.zeros_like(self.latents, requires_grad=False)
        return {
            "step": torch.tensor(step),
            "latents": self.latents.detach().clone(),
            "first_moment": moments.get("exp_avg", nothing).clone(),
            "second_moment": moments.get("exp_avg_sq", nothing).clone(),
            "initial_lower": self.initial_lower,
            "initial": self.initial,
            "chance": self.chance,
            "tracks": torch.stack(self.tracks),
            "matches": self.matches,
            "budget": self.budget,
            "idle": self.idle,
        }

    @torch.no_grad()
    def restore(self, state: DragState) -> None:
        """Go back to a state: the next pass repeats its last one, without tracking again."""
        state = {name: value.to(self.model.device) for name, value in state.items()}
        self.begun = int(state["step"])
        self.latents.copy_(state["latents"])
        self.optimizer.state[self.latents] = {
            "step": torch.tensor(float(self.begun)),
            "exp_avg": state["first_moment"].clone(),
            "exp_avg_sq": state["second_moment"].clone(),
        }
        self.initial_lower, self.initial = state["initial_lower"], state["initial"]
        self.chance, self.matches = state["chance"], state["matches"]
        self.budget, self.idle = state["budget"], state["idle"]
        self.tracks = list(state["tracks"])
        self.handles = self.tracks[-1]
        self.steps = torch.tensor(self.begun + 1, device=self.model.device)

    @torch.no_grad()
    def _remember_start(
        self, noise: Float[Tensor, "1 c h w"], features: Float[Tensor, "c h w"]
    ) -> None:
        """Keep the first features and lower latents: what later steps are compared with."""
        self.initial_lower = self.model.schedule.move(self.latents, noise, self.start, self.below)
        self.initial = sample_features(features, self.first.float())
        everywhere = features.flatten(1).T.float()
        self.chance = torch.stack(
            [(everywhere - feature).abs().sum(dim=1).mean() for feature in self.initial]
        )

    def _radius(
        self, fixed: int | None, share: float, bounds: tuple[int, int]
    ) -> tuple[Int[Tensor, "p"], int]:
        """Return the radius of each point and the largest that any may have."""
        if fixed is not None:
            return torch.full_like(self.handles[:, 0], fixed), fixed
        return self.regions.radius(self.handles, share, bounds), bounds[1]

    def _region(
        self, radius: Int[Tensor, "p"], reach: int, *, semantic: bool
    ) -> Bool[Tensor, "p n"]:
        cells = window(self.handles, reach)
        if not semantic:
            return torch.ones(cells.shape[:2], dtype=torch.bool, device=cells.device)
        anchors = self.handles if self.config.region_anchor == "current" else self.first
        return self.regions.contains(cells, self.handles, self.targets, radius, anchors)

    @torch.no_grad()
    def _relocate(self, relocated: Float[Tensor, "1 c h w"]) -> None:
        """Take latents whose content has been moved, and suppose the handles at their targets."""
        self.latents.copy_(torch.where(self.running, relocated, self.latents))
        cells = [self.frame.to_cell(drag.target) for drag in self.drags]
        targets = torch.tensor(cells, device=self.model.device)
        moves = self.running & ~self.still[:, None]
        self.handles = torch.where(moves, targets, self.handles)

    @torch.no_grad()
    def _track(self, features: Float[Tensor, "c h w"], *, moved: bool = False) -> None:
        """Find the handles in the features of this step; keep what backtracking accepts.

        Handles that were moved are where they are found: there is no step to judge yet.
        """
        config = self.config
        radius, reach = self._radius(
            config.tracking_radius, TRACKING_SHARE, config.tracking_radius_range
        )
        region = self._region(radius, reach, semantic=config.regions_in_tracking and not moved)
        found = track_points(
            features, self.initial, self.handles, region, radius, reach, self.frame.image_cells
        )
        if config.backtracking and not moved:
            progress = accept_forward_steps(
                found.cells,
                self.handles,
                self.targets,
                self.way,
                self.pending,
                self.ideal,
                self.budget,
                config.max_steps,
                returns=config.overshoot_returns,
            )
            handles, budget = progress.handles, progress.budget
            idle = torch.where(progress.advanced, 0, self.idle + 1)
        else:
            handles, budget, idle = found.cells, self.budget, self.idle
        self.handles = torch.where(self.running, handles, self.handles)
        self.budget = torch.where(self.running, budget, self.budget)
        self.idle = torch.where(self.running, idle, self.idle)
        self.matches = torch.where(self.running, found.distances, self.matches)

    def _decide(self, step: int) -> None:
        """Stop when all have arrived, the budget is spent, or nothing has advanced for long."""
        going_on = self.pending.any() & (step < self.budget) & (self.idle < self.config.patience)
        self.running = self.running & going_on
        self.steps = torch.where(self.running, step + 1, self.steps)

    def _step(self, noise: Float[Tensor, "1 c h w"], features: Float[Tensor, "c h w"]) -> None:
        """Move the latents down the gradient of the losses; not at all once stopped."""
        config = self.config
        radius, reach = self._radius(
            config.supervision_radius, SUPERVISION_SHARE, config.supervision_radius_range
        )
        region = self._region(radius, reach, semantic=config.regions_in_supervision)
        loss = motion_loss(
            features,
            self.handles,
            self.targets,
            region,
            radius,
            reach,
            self.regions.size,
            self.pulled,
        )
        if self.holds_background:
            lower = self.model.schedule.move(self.latents, noise, self.start, self.below)
            loss = loss + config.background_weight * background_loss(
                lower, self.initial_lower, self.editable
            )
        before = self.latents.detach().clone()
        (self.latents.grad,) = torch.autograd.grad(loss, self.latents)
        self.model.passes.unet_backwards += 1
        self.optimizer.step()
        with torch.no_grad():
            self.latents.copy_(torch.where(self.running, self.latents, before))

    def _check(self, step: int) -> None:
        """Keep a copy of the state if it is finite.

        Raises:
            NotFinite: with the last copy, if it is not.
        """
        if not torch.isfinite(self.latents).all():
            raise NotFinite(
                f"latents are not finite after {step} drag steps: lower "
                "optimize_latent.learning_rate or use a wider dtype",
                step=int(self.good["step"]) if self.good else 0,
                state=self.good,
            )
        self.good = self.state(step)

    def _result(self) -> DragResult:
        steps = int(self.steps)
        self._check(steps)
        return DragResult(
            latents=self.latents.detach(),
            tracks=torch.stack(self.tracks[: steps + 1]).float().cpu().numpy(),
            points=self._reports(),
            steps=steps,
            budget=int(self.budget),
        )

    def _reports(self) -> tuple[PointReport, ...]:
        arrived, lost = ~self.pending, self.matches >= self.chance
        only_moved = self.relocated is not None and int(self.steps) == 1
        reports = []
        for index, drag in enumerate(self.drags):
            end = self.frame.to_image(FeaturePoint(*self.handles[index].tolist()))
            verdict: Verdict = "stalled"
            if self.still[index]:
                verdict, end = "no-op", drag.handle
            elif arrived[index]:
                verdict = "reached"
            elif only_moved:
                verdict = "moved"
            elif lost[index]:
                verdict = "lost"
            distance = math.dist(end, drag.target)
            reports.append(PointReport(drag.handle, end, drag.target, verdict, distance))
        return tuple(reports)
