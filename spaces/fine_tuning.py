"""What the spaces of pretrained networks have in common: how one is fine-tuned.

A parameter is asked for only where it changes something: nothing about frozen stages where a network is
trained from scratch, no learning rate of stages that are not trained. Bounds are inclusive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spaces.choices import augmentation, batch_size, choice
from trainables.config import (
    AugmentConfig,
    FineTuneConfig,
    OptimizerConfig,
    OptimizerName,
    ScheduleName,
    Task,
    TrialConfig,
)
from trainables.models.pretrained import Architecture, PretrainedConfig, Stem, Unfrozen

if TYPE_CHECKING:
    import optuna

SMALL = 64
"""Pixels up to which the stem for small images is a choice; above, it would only be expensive."""


def suggest_fine_tuned(trial: optuna.Trial, task: Task, *architectures: Architecture) -> TrialConfig:
    """One configuration of one of these networks; ValueError where there are no weights for any of them."""
    at_hand = [one for one in architectures if one in (task.architectures or architectures)]
    if not at_hand:
        raise ValueError(f"there are no weights for {', '.join(architectures)}")
    architecture = choice(trial, "architecture", *at_hand) if len(architectures) > 1 else at_hand[0]
    scratch = task.weights == "none"
    # a frozen network of random values would only waste time
    unfrozen: Unfrozen = "all" if scratch else choice(trial, "unfreeze", "head", "last", "last_two", "all")
    input_size = trial.suggest_int("input_size", 32, 224, step=32)
    stem: Stem = choice(trial, "stem", "imagenet", "small") if input_size <= SMALL else "imagenet"
    model = PretrainedConfig(
        architecture=architecture,
        weights=task.weights,
        unfrozen=unfrozen,
        freeze_norms=not scratch and unfrozen != "head" and choice(trial, "freeze_norms", False, True),
        input_size=input_size,
        stem=stem,
        dropout=trial.suggest_float("dropout", 0.0, 0.5, step=0.1),
        head_width=_head_width(trial),
    )
    # features of a frozen network are computed once, unless augmentation makes other images each time
    augmented = unfrozen != "head" or choice(trial, "augment", False, True)
    return TrialConfig(
        model=model,
        optimizer=_optimizer(trial),
        fine_tune=FineTuneConfig() if scratch else _fine_tune(trial, unfrozen),
        augment=augmentation(trial, task.image_size) if augmented else AugmentConfig(),
        batch_size=batch_size(trial, task, 32, 64, 128, 256),
        label_smoothing=trial.suggest_float("label_smoothing", 0.0, 0.2, step=0.1),
    )


def _head_width(trial: optuna.Trial) -> int:
    if choice(trial, "head", "linear", "hidden") == "linear":
        return 0
    return trial.suggest_int("head.width", 128, 1024, step=128)


def _fine_tune(trial: optuna.Trial, unfrozen: Unfrozen) -> FineTuneConfig:
    if unfrozen == "head":
        return FineTuneConfig()
    several = unfrozen != "last"
    return FineTuneConfig(
        backbone_rate=trial.suggest_float("backbone.rate", 0.01, 1.0, log=True),
        layer_decay=trial.suggest_float("backbone.layer_decay", 0.4, 1.0, step=0.2) if several else 1.0,
        unfreeze_over=trial.suggest_float("backbone.unfreeze_over", 0.0, 0.5, step=0.25),
    )


def _optimizer(trial: optuna.Trial) -> OptimizerConfig:
    name: OptimizerName = choice(trial, "optimizer", "sgd", "adam", "adamw")
    weight_decay = 0.0
    if name == "sgd":
        rate = trial.suggest_float("sgd.learning_rate", 1e-3, 0.3, log=True)
        weight_decay = trial.suggest_float("sgd.weight_decay", 1e-5, 5e-3, log=True)
    else:
        rate = trial.suggest_float("adam.learning_rate", 3e-5, 1e-2, log=True)
    if name == "adamw":
        weight_decay = trial.suggest_float("adamw.weight_decay", 5e-3, 0.5, log=True)
    schedule: ScheduleName = choice(trial, "schedule", "constant", "linear", "cosine")
    return OptimizerConfig(
        name=name,
        learning_rate=rate,
        weight_decay=weight_decay,
        schedule=schedule,
        warmup=0.0 if schedule == "constant" else trial.suggest_float("warmup", 0.0, 0.3, step=0.05),
    )


NEW_HEAD: dict[str, Any] = {
    "unfreeze": "head",
    "input_size": 64,
    "stem": "imagenet",
    "dropout": 0.2,
    "head": "linear",
    "augment": False,
    "optimizer": "adam",
    "adam.learning_rate": 1e-3,
    "schedule": "constant",
    "batch_size": 64,
    "label_smoothing": 0.0,
}
"""The simplest recipe: a new head on frozen features, Adam at its usual rate."""

LAST_LAYERS: dict[str, Any] = {name: value for name, value in NEW_HEAD.items() if name != "augment"} | {
    "unfreeze": "last",
    "freeze_norms": False,
    "backbone.rate": 0.1,
    "backbone.unfreeze_over": 0.0,
    "flip": True,
    "crop": 0,
    "cutout": 0,
    "mixup": 0.0,
}
"""The last stage is trained as well, ten times as slowly."""
