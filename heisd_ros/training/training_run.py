"""A training run that is saved as it goes and resumed from its folder."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from heisd_ros.training.optimizer import make_optimizer
from heisd_ros.training.state import resume_state, save_state
from heisd_ros.training.training_settings import RunSettings

_STATE = "trainer.pt"
_Settings = TypeVar("_Settings", bound=RunSettings)


class TrainingRun(ABC, Generic[_Settings]):
    """One training run in one folder; `_resume` comes last in the constructor of what is trained.

    Attributes:
        step: Steps done.
        losses: Step and losses, every 10 steps and at the last.
    """

    def __init__(
        self,
        folder: Path,
        settings: _Settings,
        device: torch.device,
        parameters: Sequence[nn.Parameter],
    ) -> None:
        self.folder, self.settings, self.device = folder, settings, device
        self._parameters = parameters
        self.optimizer, self.schedule = make_optimizer(
            parameters,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            warmup_steps=settings.warmup_steps,
            steps=settings.steps,
        )
        self.step = 0
        self.losses: list[tuple[int, float, float, float]] = []

    def run(
        self, on_step: Callable[[int, float, float, float], None], save_every_sec: float = 60
    ) -> None:
        """Trains to the end, saving as it goes.

        Args:
            on_step: Called with each row of `losses` as it is added.
            save_every_sec: Seconds between two saved states.
        """
        saved = time.monotonic()
        while self.step < self.settings.steps:
            losses = self._train_step()
            self.step += 1
            if self.step % 10 == 0 or self.step == self.settings.steps:
                # Read here alone: reading them waits for the device.
                first, second, third = torch.stack(losses).tolist()
                self.losses.append((self.step, first, second, third))
                on_step(*self.losses[-1])
            if time.monotonic() - saved > save_every_sec:
                self.save()
                saved = time.monotonic()
        self.save()

    @abstractmethod
    def save(self) -> None:
        """Writes the state, and what was trained so far."""

    @abstractmethod
    def _train_step(self) -> tuple[Tensor, Tensor, Tensor]:
        """Does one step; returns its losses."""

    @abstractmethod
    def _layout(self) -> dict[str, Any]:
        """What must be the same when the run is resumed."""

    def _update(self) -> None:
        """Moves the parameters along their gradients."""
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self.optimizer.step()
        self.schedule.step()

    def _save_state(self, own: Mapping[str, Any]) -> None:
        """Writes the state of the run with that of what is trained."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            **own,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "step": self.step,
            "losses": self.losses,
        }
        save_state(self.folder / _STATE, self._layout(), state)

    def _resume(self) -> None:
        state = self.folder / _STATE
        resume_state(state, self._layout(), self.device, self._restore, self._remedies())

    def _remedies(self) -> dict[str, str]:
        """What to do where a run of this folder was another one, see `resume_state`."""
        return {}

    def _restore(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        # A run of an earlier version of the VLA's has no column for the loss of text.
        self.step, self.losses = state["step"], [(*row, 0.0)[:4] for row in state["losses"]]
        # A new seed for the rest of the run, so that the first part's draws are not repeated.
        torch.manual_seed(self.settings.seed + self.step)
