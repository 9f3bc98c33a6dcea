"""One training run that can stop after any step and go on as if it had not.

Every batch and every draw of noise follows from (seed, step), so weights, their running average,
the optimizer's moments and the number of steps taken are the whole state.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from adaptivedrag.pocket_training.settings import Schedule

Losses = dict[str, float]
StepCallback = Callable[[int, Losses], bool]


class Training(ABC):
    """A model, its optimizer and its running average (EMA), stepped one batch at a time."""

    def __init__(self, model: nn.Module, schedule: Schedule) -> None:
        self.model = model
        self.schedule = schedule
        self.steps_done = 0
        self.optimizer = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad],
            lr=schedule.lr,
            weight_decay=schedule.weight_decay,
        )
        self.average = {name: value.detach().clone() for name, value in self._values()}

    @abstractmethod
    def loss(self, step: int) -> tuple[Tensor, Losses]:
        """Return the loss of the batch of one step, and its parts for the log."""

    @abstractmethod
    def sample_sheet(self) -> np.ndarray:
        """Draw a picture (uint8 HWC) that shows what the averaged model can do now."""

    def step(self) -> Losses:
        """Take one step; raise FloatingPointError if the loss is not finite."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.lr_at(self.steps_done)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.schedule.bf16):
            loss, parts = self.loss(self.steps_done)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss {loss.item()} at step {self.steps_done}")
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.steps_done += 1
        self._update_average()
        return {"loss": loss.item(), "gradient": float(norm), **parts}

    def state(self) -> dict[str, Tensor]:
        """Return everything that `restore` needs, by name; tensors are shared, not copied."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": value for name, value in moments.items()}
        return tensors | {"steps_done": torch.tensor(self.steps_done)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.steps_done = int(state["steps_done"])
        self.model.load_state_dict(_under(state, "model."))
        self.average = {name: value.clone() for name, value in _under(state, "average.").items()}
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(state, "optimiser.").items():
            index, _, moment = name.partition(".")
            moments.setdefault(int(index), {})[moment] = value.clone()
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})

    @torch.no_grad()
    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Start at exported weights, with a fresh optimizer and at step 0.

        Raises:
            ValueError: a weight is missing or has another shape.
        """
        for name, value in self._values():
            if name not in weights or weights[name].shape != value.shape:
                raise ValueError(f"{name} of the weights to start from does not fit")
            value.copy_(weights[name].to(value.dtype))
        self.average = {name: value.detach().clone() for name, value in self._values()}

    def averaged_model(self) -> nn.Module:
        """Return a copy of the model with the averaged weights, for use, not for training."""
        model = deepcopy(self.model).eval().requires_grad_(False)
        model.load_state_dict(self.average, strict=False)
        return model

    def generator(self, step: int, purpose: int) -> torch.Generator:
        seed = np.random.SeedSequence((self.schedule.seed, purpose, step)).generate_state(1)[0]
        return torch.Generator().manual_seed(int(seed))

    def random(self, step: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng((self.schedule.seed, purpose, step))

    def _values(self) -> Iterator[tuple[str, Tensor]]:
        yield from ((n, p) for n, p in self.model.named_parameters() if p.requires_grad)

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(self.schedule.ema, (1 + self.steps_done) / (10 + self.steps_done))
        for name, value in self._values():
            self.average[name].lerp_(value.detach(), 1 - keep)


def train(training: Training, on_step: StepCallback) -> int:
    """Take steps until the schedule ends or ``on_step(steps done, losses)`` returns False."""
    while training.steps_done < training.schedule.steps:
        losses = training.step()
        if not on_step(training.steps_done, losses):
            break
    return training.steps_done


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
