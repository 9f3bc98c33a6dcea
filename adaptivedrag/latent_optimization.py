"""Semantic-driven optimization of the latents (paper, Sec. 3.4).

One step: a pass of the UNet gives the noise and the features; the handles are tracked in them;
the motion and background losses move the latents. The loop reads the stop flag from the device only
every `POLL` steps: once it is set, later steps change nothing. Several edits take their steps side
by side, until each has its own end.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from adaptivedrag.backtracking import accept_forward_steps
from adaptivedrag.drag import DragResult, DragState, DragTask, known_losses, looks
from adaptivedrag.errors import NotFinite, Stopped, stop_of
from adaptivedrag.handle_motion import HandleMotion
from adaptivedrag.methods.optimization import Optimization
from adaptivedrag.model.conditioning import Conditioning
from adaptivedrag.model.diffusion import DiffusionModel

POLL = 8
"""Steps between two reads of the stop flag on a GPU, where each read waits for the device."""


def optimize(model: DiffusionModel, tasks: Sequence[DragTask[Optimization]]) -> list[DragResult]:
    """Optimize inverted latents until every handle has arrived or the budget is spent.

    Each task has its own losses, its own Adam and its own end: in a batch, a step differs from that
    of the task alone by the rounding of float32 only. All have latents of one size and the same
    settings of the inversion.

    Raises:
        NotFinite: if latents stop being finite; the message names the step, and `state` is the last
            good one of that task.
        Stopped: if a callback asks for an end; every task has handed over its state by then.
    """
    going = every = [_Loop(model, task) for task in tasks]
    while going:
        noise, features = model.predict_with_features(
            torch.cat([loop.latents for loop in going]),
            going[0].start,
            Conditioning.concatenate([loop.problem.conditioning for loop in going]),
        )
        passed = zip(going, noise.split(1), features, strict=True)
        moving = [each for each in passed if each[0].goes_on(*each[1:])]
        if stopped := [loop.stopped for loop in going if loop.stopped]:
            raise stopped[0]
        _move(model, moving)
        going = [loop for loop, *_ in moving if loop.step <= loop.settings.max_steps]
    return [loop.result() for loop in every]


def _move(
    model: DiffusionModel,
    moving: "Sequence[tuple[_Loop, Float[Tensor, '1 c h w'], Float[Tensor, 'd h w']]]",
) -> None:
    """Take the step of each loop down the gradient of its own loss, all in one pass back."""
    if not moving:
        return
    losses = [loop.loss(*passed) for loop, *passed in moving]
    gradients = torch.autograd.grad(sum(losses), [loop.latents for loop, *_ in moving])
    model.passes.unet_backwards += len(moving)
    for (loop, *_), loss, gradient in zip(moving, losses, gradients, strict=True):
        loop.take_step(loss.detach(), gradient)


class _Loop:
    """The state of one edit's optimization, on the device."""

    def __init__(self, model: DiffusionModel, task: DragTask[Optimization]) -> None:
        problem, settings, device = task.problem, task.method, model.device
        inversion = problem.inversion
        self.model, self.problem, self.settings = model, problem, settings
        self.hooks = task.hooks
        self.poll = 1 if device.type == "cpu" else POLL
        self.start = model.schedule.start(inversion.num_steps, problem.level)
        self.below = model.schedule.previous(self.start, inversion.num_steps)
        self.motion = HandleMotion.of(problem, settings, device)
        self.handles, self.holds = self.motion.handles, self.motion.holds
        self.latents = problem.inverted.detach().clone().float().requires_grad_(True)
        self.optimizer = torch.optim.Adam([self.latents], lr=settings.learning_rate)
        self.way = self.handles.targets - self.handles.first
        self.ideal = self.way.norm(dim=-1) / settings.steps
        self.cells = self.handles.first
        self.budget = torch.tensor(settings.steps, device=device)
        self.idle = torch.tensor(0, device=device)
        self.running = torch.tensor(True, device=device)
        self.steps = torch.tensor(0, device=device)
        self.matches = torch.zeros(len(problem.drags), device=device)
        self.tracks = [self.cells]
        self.losses = torch.full((settings.max_steps + 1,), torch.nan, device=device)
        self.step = self.begun = 0
        self.good: DragState = {}
        self.stopped: Stopped | None = None
        if task.hooks.resume_from is not None:
            self.restore(task.hooks.resume_from)

    def goes_on(self, noise: Float[Tensor, "1 c h w"], features: Float[Tensor, "d h w"]) -> bool:
        """Take in a pass of the latents; return whether they are to move."""
        step = self.step
        if step == 0:
            self._remember_start(noise, features)
            self._decide(step)
        elif step > self.begun:
            self._track(features)
            self.tracks.append(self.cells)
            self._decide(step)
        if step % self.poll:
            return True
        self._check(step)
        if not self.running:
            return False
        self.stopped = stop_of(self.hooks.on_step, step, int(self.budget))
        every = self.hooks.state_every
        if every and step > self.begun and (self.stopped or step % every < self.poll):
            self.hooks.on_state(step, self.good)
        return True

    def state(self, step: int) -> DragState:
        """Copy everything that changes from step to step, as it is before the step's update."""
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
            "losses": self.losses.clone(),
            "matches": self.matches,
            "budget": self.budget,
            "idle": self.idle,
        }

    @torch.no_grad()
    def restore(self, state: DragState) -> None:
        """Go back to a state: the next pass repeats its last one, without tracking again."""
        state = {name: value.to(self.model.device) for name, value in state.items()}
        self.step = self.begun = int(state["step"])
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
        self.losses = state.get("losses", self.losses).clone()  # older states have none
        self.cells = self.tracks[-1]
        self.steps = torch.tensor(self.begun + 1, device=self.model.device)

    @torch.no_grad()
    def _remember_start(
        self, noise: Float[Tensor, "1 c h w"], features: Float[Tensor, "d h w"]
    ) -> None:
        """Keep the first features and lower latents, with which later steps are compared."""
        self.initial_lower = self.model.schedule.move(self.latents, noise, self.start, self.below)
        self.initial, self.chance = looks(features, self.handles.first)

    @torch.no_grad()
    def _track(self, features: Float[Tensor, "c h w"]) -> None:
        """Find the handles in the features of this step; keep what backtracking accepts."""
        settings = self.settings
        found = self.motion.track(features, self.initial, self.cells)
        cells, budget, idle = found.cells, self.budget, self.idle
        if settings.backtracking:
            progress = accept_forward_steps(
                found.cells,
                self.cells,
                self.handles.targets,
                self.way,
                self.handles.pending(self.cells),
                self.ideal,
                self.budget,
                settings.max_steps,
                returns=settings.overshoot_returns,
            )
            cells, budget = progress.handles, progress.budget
            idle = torch.where(progress.advanced, 0, self.idle + 1)
        self.cells = torch.where(self.running, cells, self.cells)
        self.budget = torch.where(self.running, budget, self.budget)
        self.idle = torch.where(self.running, idle, self.idle)
        self.matches = torch.where(self.running, found.distances, self.matches)

    def _decide(self, step: int) -> None:
        """Stop when all have arrived, the budget is spent, or nothing has advanced for long."""
        is_open = (step < self.budget) & (self.idle < self.settings.patience)
        self.running = self.running & self.handles.pending(self.cells).any() & is_open
        self.steps = torch.where(self.running, step + 1, self.steps)

    def loss(
        self, noise: Float[Tensor, "1 c h w"], features: Float[Tensor, "d h w"]
    ) -> Float[Tensor, ""]:
        """Return the loss of the latents by what their pass gave."""
        loss = self.motion.pull(features, self.cells)
        if not self.holds:
            return loss
        lower = self.model.schedule.move(self.latents, noise, self.start, self.below)
        return loss + self.motion.hold(lower, self.initial_lower)

    @torch.no_grad()
    def take_step(self, loss: Float[Tensor, ""], gradient: Float[Tensor, "1 c h w"]) -> None:
        """Move the latents down the gradient of the loss, unless stopped."""
        before = self.latents.detach().clone()
        self.latents.grad, self.losses[self.step] = gradient, loss
        self.optimizer.step()
        self.latents.copy_(torch.where(self.running, self.latents, before))
        self.step += 1

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

    def result(self) -> DragResult:
        """Return how it ended."""
        steps = int(self.steps)
        self._check(steps)
        return DragResult(
            latents=self.latents.detach(),
            level=self.problem.level,
            tracks=torch.stack(self.tracks[: steps + 1]).float().cpu().numpy(),
            points=self.handles.reports(self.cells, self.matches >= self.chance),
            steps=steps,
            budget=int(self.budget),
            details={"losses": known_losses(self.losses[:steps])},
        )
