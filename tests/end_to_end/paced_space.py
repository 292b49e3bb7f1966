"""A space of small networks that take their time while a file says so: a fault needs a search that lasts."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import optuna
import torch
from torch import nn

from trainables.config import ModelConfig, OptimizerConfig, Task, TrialConfig

SLOW = Path(os.environ.get("PACED_SLOW", "/srv/slow"))
"""While this is there, an epoch of digits takes a second, on any machine."""


class Pace(nn.Module):
    """Hands images on, in training perhaps a little later."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The same images."""
        if self.training and SLOW.exists():
            time.sleep(0.05)
        return images


@dataclass(frozen=True, kw_only=True)
class PacedNetwork(ModelConfig):
    """Two linear layers."""

    width: int

    def build(self, task: Task) -> nn.Module:
        """The network for `task`."""
        pixels = task.channels * task.image_size**2
        layers = (nn.Linear(pixels, self.width), nn.ReLU(), nn.Linear(self.width, task.classes))
        return nn.Sequential(Pace(), nn.Flatten(), *layers)


def suggest(trial: optuna.Trial, task: Task) -> TrialConfig:
    """Width and learning rate."""
    rate = trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
    return TrialConfig(
        model=PacedNetwork(width=trial.suggest_int("width", 16, 64, log=True)),
        optimizer=OptimizerConfig(name="adam", learning_rate=rate),
        batch_size=64,
    )
