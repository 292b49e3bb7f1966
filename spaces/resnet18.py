"""ResNet18 (He et al., 2016) of torchvision, fine-tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spaces.fine_tuning import LAST_LAYERS, suggest_fine_tuned
from trainables.config import Task, TrialConfig

if TYPE_CHECKING:
    import optuna

ARCHITECTURES = ("resnet18",)


def suggest(trial: optuna.Trial, task: Task) -> TrialConfig:
    """One configuration, for images of any size."""
    return suggest_fine_tuned(trial, task, "resnet18")


BASELINES: dict[str, dict[str, Any]] = {
    # the final layers fine-tuned with Adam: published at 81.06 % validation accuracy on CIFAR-10
    "final_layers": LAST_LAYERS | {"dropout": 0.0},
    # all of it
    "full": LAST_LAYERS
    | {
        "unfreeze": "all",
        "dropout": 0.0,
        "backbone.layer_decay": 1.0,
        "backbone.rate": 1.0,
        "adam.learning_rate": 3e-4,
        "schedule": "cosine",
        "warmup": 0.1,
        "crop": 1,
    },
}
"""Points of the space where there are weights; `spaces.misfits` says so where there are none."""
