"""MobileNetV2 (Sandler et al., 2018) and V3-Large (Howard et al., 2019) of torchvision, fine-tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spaces.fine_tuning import LAST_LAYERS, suggest_fine_tuned
from trainables.config import Task, TrialConfig

if TYPE_CHECKING:
    import optuna

ARCHITECTURES = ("mobilenet_v2", "mobilenet_v3_large")


def suggest(trial: optuna.Trial, task: Task) -> TrialConfig:
    """One configuration, for images of any size."""
    return suggest_fine_tuned(trial, task, "mobilenet_v2", "mobilenet_v3_large")


BASELINES: dict[str, dict[str, Any]] = {
    # the last few layers fine-tuned with Adam
    "last_layers": LAST_LAYERS | {"architecture": "mobilenet_v2"},
    "last_layers_v3": LAST_LAYERS | {"architecture": "mobilenet_v3_large"},
}
"""Points of the space where there are weights; `spaces.misfits` says so where there are none."""
