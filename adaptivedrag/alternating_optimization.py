"""Drags and denoising in turn (GoodDrag, Zhang et al., 2024; settings: `methods.alternation`).

At every level some steps, each of a few updates of the latents and a tracking of the handles; then
the latents are denoised to the level below. An update goes down the gradient of

    Σᵢ (2r + 1)² · mean |sg F⁰ₜ(pᵢ⁰ + Δ) − Fₜ(pᵢ + dᵢ + Δ)| + λ ‖(z_{t−1} − z⁰_{t−1})(1 − M)‖₁

where dᵢ leads toward the target, by the length of a step or the distance that is left. F⁰ₜ and
z⁰_{t−1} are of the inversion's own latents at that level. Each level begins with a fresh Adam.

GoodDrag's program tracks in the features from before the last update. Here each tracking sees what
the updates made, in the very pass that the next update needs. Nor is there a counterpart of the
flag that its program overwrites inside a step.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from adaptivedrag.drag import DragProblem, DragResult, DragState, Hooks, known_losses, looks
from adaptivedrag.errors import NotFinite, stop_of
from adaptivedrag.handle_motion import HandleMotion
from adaptivedrag.methods.alternation import Alternation
from adaptivedrag.model.diffusion import DiffusionModel


def alternate(
    model: DiffusionModel, problem: DragProblem, settings: Alternation, hooks: Hooks
) -> DragResult:
    """Drag at level after level until every handle has arrived or the levels are used up.

    States are handed over at the beginning of each level too.

    Raises:
        NotFinite: if the latents stop being finite; the message names the step, and `state` is
            the last good one.
    """
    loop = _Loop(model, problem, settings)
    if hooks.resume_from is not None:
        loop.restore(hooks.resume_from)
    return loop.run(hooks)


class _Loop:
    """The state of one edit's alternation, on the device."""

    def __init__(self, model: DiffusionModel, problem: DragProblem, settings: Alternation) -> None:
        device = model.device
        self.model, self.problem, self.settings = model, problem, settings
        self.rounds = settings.levels if settings.alternation else 1
        self.steps_each = settings.trackings * settings.levels // self.rounds
        self.motion = HandleMotion.of(problem, settings, device)
        self.handles = self.motion.handles
        self.generator = problem.generator()
        self.latents = problem.inverted.detach().clone().float().requires_grad_(True)
        self.optimizer = self._fresh_optimizer()
        self.cells = self.handles.first
        self.tracks = [self.cells]
        most = self.rounds * self.steps_each * settings.updates
        self.losses = torch.full((most,), torch.nan, device=device)
        self.updates = 0
        self.matches = torch.zeros(len(problem.drags), device=device)
        self.chance = torch.full_like(self.matches, torch.inf)
        self.round = self.taken = self.idle = 0
        self.begun = 0
        self.good: DragState = {}

    def run(self, hooks: Hooks) -> DragResult:
        """Drag and denoise in turn."""
        while self.round < self.rounds and self._is_pending():
            self._remember_level()
            noise = self._drag(hooks)
            if self._is_pending():
                self._end_level(noise)
        self._check()
        return DragResult(
            latents=self.latents.detach(),
            level=self.level,
            tracks=torch.stack(self.tracks).float().cpu().numpy(),
            points=self.handles.reports(self.cells, self.matches >= self.chance),
            steps=self.step,
            budget=self.rounds * self.steps_each,
            details={"losses": known_losses(self.losses[: self.updates])},
        )

    @property
    def level(self) -> int:
        """Inversion steps that the latents are away from clean ones."""
        return self.problem.level - (self.round if self.settings.alternation else 0)

    @property
    def step(self) -> int:
        """Steps that were taken, at all levels together."""
        return len(self.tracks) - 1

    @property
    def timesteps(self) -> tuple[int, int]:
        """The timestep of the level, and of that below."""
        schedule, num_steps = self.model.schedule, self.problem.inversion.num_steps
        timestep = schedule.start(num_steps, self.level)
        return timestep, schedule.previous(timestep, num_steps)

    def state(self) -> DragState:
        """Copy everything that changes, as it is after a step."""
        moments = self.optimizer.state[self.latents]
        nothing = torch.zeros_like(self.latents, requires_grad=False)
        return {
            "step": torch.tensor(self.step),
            "round": torch.tensor(self.round),
            "taken": torch.tensor(self.taken),
            "idle": torch.tensor(self.idle),
            "latents": self.latents.detach().clone(),
            "first_moment": moments.get("exp_avg", nothing).clone(),
            "second_moment": moments.get("exp_avg_sq", nothing).clone(),
            "tracks": torch.stack(self.tracks),
            "losses": self.losses.clone(),
            "matches": self.matches,
            "generator": self.generator.get_state(),
        }

    @torch.no_grad()
    def restore(self, state: DragState) -> None:
        """Go back to a state: the next pass repeats its last one, without tracking again."""
        device = self.model.device
        self.begun = int(state["step"])
        self.round, self.taken = int(state["round"]), int(state["taken"])
        self.idle = int(state["idle"])
        self.latents.copy_(state["latents"])
        self.optimizer.state[self.latents] = {
            "step": torch.tensor(float(self.taken * self.settings.updates)),
            "exp_avg": state["first_moment"].to(device, copy=True),
            "exp_avg_sq": state["second_moment"].to(device, copy=True),
        }
        self.tracks = list(state["tracks"].to(device))
        self.cells = self.tracks[-1]
        losses = state.get("losses", self.losses)  # older states have none
        self.losses = losses.to(device, copy=True)
        self.updates = self.step * self.settings.updates
        self.matches = state["matches"].to(device)
        self.generator.set_state(state["generator"].cpu())

    def _drag(self, hooks: Hooks) -> Float[Tensor, "1 c h w"]:
        """Take the steps of a level; return the noise in the latents after them.

        Only one pass is kept for the way back at a time.
        """
        noise, features = self._pass()
        while self._goes_on():
            self._check()
            self._report(hooks)
            for _ in range(self.settings.updates - 1):
                self._update(noise, features)
                noise, features = self._pass()
            self._update(noise, features)
            if self.settings.renoising:
                self._renoise()
            noise, features = self._pass()
            self._track(features)
        return noise.detach()

    def _goes_on(self) -> bool:
        is_open = self.taken < self.steps_each and self.idle < self.settings.patience
        return is_open and self._is_pending()

    def _is_pending(self) -> bool:
        return bool(self.handles.pending(self.cells).any())

    def _pass(self) -> tuple[Float[Tensor, "1 c h w"], Float[Tensor, "d h w"]]:
        noise, (features,) = self.model.predict_with_features(
            self.latents, self.timesteps[0], self.problem.conditioning
        )
        return noise, features

    @torch.no_grad()
    def _remember_level(self) -> None:
        """Keep how the unchanged picture looks at this level."""
        timestep, below = self.timesteps
        latents = self.problem.trajectory[self.level, None].float()
        noise, (features,) = self.model.predict_with_features(
            latents, timestep, self.problem.conditioning
        )
        self.initial_lower = self.model.schedule.move(latents, noise, timestep, below)
        self.initial, self.chance = looks(features, self.handles.first)
        self.wanted = None
        if self.settings.first_patch:
            self.wanted = self.motion.patches(features, self.handles.first)

    def _update(self, noise: Float[Tensor, "1 c h w"], features: Float[Tensor, "d h w"]) -> None:
        """Move the latents down the gradient of the losses."""
        loss = self.motion.pull(features, self.cells, self.wanted, self.settings.step_length)
        if self.motion.holds:
            lower = self.model.schedule.move(self.latents, noise, *self.timesteps)
            loss = loss + self.motion.hold(lower, self.initial_lower)
        (self.latents.grad,) = torch.autograd.grad(loss, self.latents)
        self.losses[self.updates] = loss.detach()
        self.updates += 1
        self.model.passes.unet_backwards += 1
        self.optimizer.step()

    @torch.no_grad()
    def _renoise(self) -> None:
        """Denoise the latents to the level below and noise them afresh (DragLoRA).

        √a z_{t−1} + √(1 − a) ε with a = ᾱₜ / ᾱ_{t−1} inside the mask, the inversion outside it.
        """
        timestep, below = self.timesteps
        noise, _ = self._pass()
        lower = self.model.schedule.move(self.latents, noise, timestep, below)
        share = self.model.schedule.alpha(timestep) / self.model.schedule.alpha(below)
        draw = torch.randn(lower.shape, generator=self.generator).to(lower.device)
        fresh = share**0.5 * lower + (1 - share) ** 0.5 * draw
        may_change = self.motion.editable | ~self.motion.editable.any()
        self.latents.copy_(torch.where(may_change, fresh, self.problem.trajectory[self.level]))

    @torch.no_grad()
    def _track(self, features: Float[Tensor, "c h w"]) -> None:
        """Find the handles in the features of this step."""
        found = self.motion.track(features, self.initial, self.cells)
        has_moved = ((found.cells != self.cells).any(dim=1) & ~self.handles.still).any()
        self.idle = 0 if has_moved else self.idle + 1
        self.taken += 1
        self.cells, self.matches = found.cells, found.distances
        self.tracks.append(self.cells)

    @torch.no_grad()
    def _end_level(self, noise: Float[Tensor, "1 c h w"]) -> None:
        """Denoise the latents to the level below, if levels alternate."""
        if self.settings.alternation:
            self.latents.copy_(self.model.schedule.move(self.latents, noise, *self.timesteps))
        self.round += 1
        self.taken = self.idle = 0
        self.optimizer = self._fresh_optimizer()

    def _fresh_optimizer(self) -> torch.optim.Adam:
        return torch.optim.Adam([self.latents], lr=self.settings.learning_rate)

    def _report(self, hooks: Hooks) -> None:
        """Report progress; hand over the state where it is time to.

        Raises:
            Stopped: as `on_step` does, once the state is handed over.
        """
        stopped = stop_of(hooks.on_step, self.step, self.rounds * self.steps_each)
        every = hooks.state_every
        is_due = self.taken == 0 or (every and self.step % every == 0)
        if every and self.step > self.begun and (stopped or is_due):
            hooks.on_state(self.step, self.good)
        if stopped:
            raise stopped

    def _check(self) -> None:
        """Keep a copy of the state if it is finite.

        Raises:
            NotFinite: with the last copy, if it is not.
        """
        if not torch.isfinite(self.latents).all():
            raise NotFinite(
                f"latents are not finite after {self.step} drag steps: lower "
                "optimize_latent.learning_rate or use a wider dtype",
                step=int(self.good["step"]) if self.good else 0,
                state=self.good,
            )
        self.good = self.state()
