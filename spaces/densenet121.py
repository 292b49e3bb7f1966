"""DenseNet121 (Huang et al., 2017) of torchvision, fine-tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spaces.fine_tuning import NEW_HEAD, suggest_fine_tuned
from trainables.config import Task, TrialConfig

if TYPE_CHECKING:
    import optuna

ARCHITECTURES = ("densenet121",)


def suggest(trial: optuna.Trial, task: Task) -> TrialConfig:
    """One configuration, for images of any size."""
    return suggest_fine_tuned(trial, task, "densenet121")


BASELINES: dict[str, dict[str, Any]] = {
    # a new head with a hidden layer on frozen features, with Adam
    "new_head": NEW_HEAD | {"head": "hidden", "head.width": 256, "dropout": 0.5},
}
"""Points of the space where there are weights; `spaces.misfits` says so where there are none."""
