"""A space of small networks that train an epoch of digits in well under a second, for `benchmarks.faults`."""

from __future__ import annotations

from dataclasses import dataclass

import optuna
from torch import nn

from trainables.config import ModelConfig, OptimizerConfig, Task, TrialConfig


@dataclass(frozen=True, kw_only=True)
class SmallNetwork(ModelConfig):
    """Two convolutions and a linear layer."""

    width: int
    """Channels of both convolutions."""

    def build(self, task: Task) -> nn.Module:
        """The network for `task`."""
        return nn.Sequential(
            nn.Conv2d(task.channels, self.width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(self.width, self.width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(16 * self.width, task.classes),
        )


def suggest(trial: optuna.Trial, task: Task) -> TrialConfig:
    """Width and learning rate, which decides how good a network becomes."""
    return TrialConfig(
        model=SmallNetwork(width=trial.suggest_int("width", 8, 48, log=True)),
        optimizer=OptimizerConfig(
            name="adam", learning_rate=trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True)
        ),
        batch_size=64,
    )
