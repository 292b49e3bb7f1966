"""Choices that several spaces ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from trainables.config import AugmentConfig, Task

if TYPE_CHECKING:
    import optuna

Choice = TypeVar("Choice")


def choice(trial: optuna.Trial, name: str, *choices: Choice) -> Choice:
    """One of `choices`. Optuna's own signature forgets which strings they are."""
    return cast("Choice", trial.suggest_categorical(name, cast("list[Any]", choices)))


def batch_size(trial: optuna.Trial, task: Task, *sizes: int) -> int:
    """One of `sizes` that the training part fills; the smallest in any case."""
    return choice(trial, "batch_size", *(size for size in sizes if size <= max(sizes[0], task.train_images)))


def augmentation(trial: optuna.Trial, image_size: int) -> AugmentConfig:
    """What batches go through, in strengths that suit images of this many pixels."""
    quarter = max(1, image_size // 4)
    return AugmentConfig(
        flip=choice(trial, "flip", False, True),
        crop=trial.suggest_int("crop", 0, max(1, image_size // 8)),
        cutout=trial.suggest_int("cutout", 0, 2 * quarter, step=quarter),
        mixup=trial.suggest_float("mixup", 0.0, 0.4, step=0.2),
    )
