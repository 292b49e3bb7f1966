"""A space whose configurations end in each of the outcomes, on purpose. Used as a user's own module."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import optuna
import torch
from torch import nn

from trainables.config import ModelConfig, OptimizerConfig, Task, TrialConfig

BEHAVIOURS = (
    "healthy",
    "better",
    "weak",
    "nan",
    "large",
    "raises",
    "out_of_memory",
    "dies_once",
    "slow",
)
BASELINES = {name: {"behaviour": name} for name in BEHAVIOURS}
MARKER = "unset"
"""A file that tells a worker whether it has died before; tests set it."""


class Net(nn.Module):
    def __init__(self, behaviour: str, marker: str, task: Task) -> None:
        super().__init__()
        pixels = task.channels * task.image_size**2
        width = 1000 if behaviour == "large" else 1
        self.pad = nn.Linear(width, 100, bias=False)
        self.linear = nn.Linear(pixels, task.classes)
        self.behaviour, self.marker = behaviour, Path(marker)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.linear(images.flatten(1))
        if not self.training or images.is_meta:
            return logits * 0 if self.behaviour == "weak" else logits
        match self.behaviour:
            case "weak":
                return logits * 0
            case "nan":
                return logits * float("nan")
            case "raises":
                raise RuntimeError("this network raises on purpose")
            case "out_of_memory":
                raise torch.OutOfMemoryError("tried to allocate more than there is")
            case "dies_once" if not self.marker.exists():
                self.marker.touch()
                os._exit(1)
            case "slow":
                time.sleep(0.2)
        return logits


@dataclass(frozen=True, kw_only=True)
class BehavingConfig(ModelConfig):
    behaviour: str
    marker: str

    def build(self, task: Task) -> nn.Module:
        return Net(self.behaviour, self.marker, task)


def suggest(trial: optuna.Trial, task: Task) -> TrialConfig:
    behaviour = trial.suggest_categorical("behaviour", BEHAVIOURS)
    return TrialConfig(
        model=BehavingConfig(behaviour=behaviour, marker=MARKER),
        optimizer=OptimizerConfig(name="adam", learning_rate=0.01 if behaviour == "better" else 0.001),
        batch_size=64,
    )
