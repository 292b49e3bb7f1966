"""Convolutional networks trained from scratch: stages of convolutions that each halve the map, then a head.

A parameter is asked for only where it changes something, and only with values that fit the task. Bounds are
inclusive.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from spaces.choices import augmentation, batch_size, choice
from trainables.config import OptimizerConfig, OptimizerName, ScheduleName, Task, TrialConfig
from trainables.models.cnn import CnnConfig, Downsample, DownsampleAt, Padding

if TYPE_CHECKING:
    import optuna

MAX_WIDTH = 512
"""Channels at which stages stop to grow, as in VGG (Simonyan & Zisserman, 2015)."""
LARGEST_MAP = 64
"""Pixels: a larger image is shrunk by the stem, or its first maps would take nearly all of the time."""


def suggest(trial: optuna.Trial, task: Task) -> TrialConfig:
    """One configuration for images of at least 5 pixels; ValueError for smaller ones."""
    model = _model(trial, task)
    augment = augmentation(trial, task.image_size)
    if augment.flip:
        model = dataclasses.replace(model, mirror=choice(trial, "mirror", False, True))
    return TrialConfig(
        model=model,
        optimizer=_optimizer(trial, normalized=model.norm == "batch"),
        augment=augment,
        batch_size=batch_size(trial, task, 64, 128, 256, 512),
        label_smoothing=trial.suggest_float("label_smoothing", 0.0, 0.2, step=0.1),
        averaging=choice(trial, "averaging", "none", "ema", "lookahead"),
    )


def _model(trial: optuna.Trial, task: Task) -> CnnConfig:
    convs = _convolutions(trial, task)
    small = sum(convs) <= 4
    widths = _widths(trial, convs, by_convolution=small and max(convs) > 1)
    downsample, at = _downsample(trial, convs)
    whitening = choice(trial, "whitening", False, True)
    # one 5x5 convolution sees what two of 3x3 do: more than one in a stage would only be expensive
    kernel = choice(trial, "kernel", 3, 5) if convs[-1] == 1 else 3
    model = CnnConfig(
        widths=widths,
        kernel=kernel,
        norm=choice(trial, "norm", "batch", "none"),
        activation=choice(trial, "activation", "relu", "gelu", "silu"),
        downsample=downsample,
        downsample_at=at,
        whitening=whitening,
        input_stride=_input_stride(task.image_size),
        block_dropout=trial.suggest_float("dropout.blocks", 0.0, 0.3, step=0.1),
        head_dropout=trial.suggest_float("dropout.head", 0.0, 0.5, step=0.25),
        **_head(trial),
    )
    # in deeper networks valid convolutions eat up the map
    if small and _fits(dataclasses.replace(model, padding="valid"), task):
        padding: Padding = choice(trial, "padding", "same", "valid")
        model = dataclasses.replace(model, padding=padding)
    one_width = all(len(set(stage)) == 1 for stage in widths)
    if convs[-1] > 1 and one_width and model.padding == "same":
        model = dataclasses.replace(model, residual=choice(trial, "residual", False, True))
    return model


def _convolutions(trial: optuna.Trial, task: Task) -> list[int]:
    """Convolutions of each stage."""
    side = task.image_size // _input_stride(task.image_size)
    # whitening takes a pixel from the map; one must be left after the last stage
    halvings = (side - 1).bit_length() - 1
    if halvings < 2:
        raise ValueError(f"space cnn is for images of at least 5 pixels, but these have {task.image_size}")
    stages = trial.suggest_int("stages", 2, min(5, halvings))
    first = trial.suggest_int("convs.first", 1, 2)
    rest = trial.suggest_int("convs.rest", 1, 3)
    return [first] + [rest] * (stages - 1)


def _input_stride(image_size: int) -> int:
    stride = 1
    while image_size // stride > LARGEST_MAP:
        stride *= 2
    return stride


def _widths(trial: optuna.Trial, convs: list[int], *, by_convolution: bool) -> tuple[tuple[int, ...], ...]:
    """Channels of each convolution, stage by stage; they grow from stage to stage or at every convolution."""
    width = trial.suggest_int("width", 16, 96, step=8)
    growth = trial.suggest_float("growth", 1.25, 2.0, step=0.25)
    widen = choice(trial, "widen", "stage", "convolution") if by_convolution else "stage"
    widths: list[tuple[int, ...]] = []
    for stage, count in enumerate(convs):
        done = sum(convs[:stage])
        steps = [done + index if widen == "convolution" else stage for index in range(count)]
        widths.append(tuple(min(MAX_WIDTH, 8 * round(width * growth**step / 8)) for step in steps))
    return tuple(widths)


def _downsample(trial: optuna.Trial, convs: list[int]) -> tuple[Downsample, DownsampleAt]:
    downsample: Downsample = choice(trial, "downsample", "max", "avg", "stride")
    if downsample == "stride" or max(convs) == 1:
        return downsample, "first"
    at: DownsampleAt = choice(trial, "downsample.at", "first", "last")
    return downsample, at


def _head(trial: optuna.Trial) -> dict[str, Any]:
    if choice(trial, "head", "flatten", "pool") == "flatten":
        return {"head": "flatten", "dense": trial.suggest_int("head.dense", 64, 512, step=64)}
    return {
        "head": choice(trial, "head.pool", "avg", "max"),
        "logit_scale": trial.suggest_float("head.scale", 0.1, 1.0, log=True),
    }


def _fits(model: CnnConfig, task: Task) -> bool:
    try:
        model.map_size(task.image_size)
    except ValueError:
        return False
    return True


def _optimizer(trial: optuna.Trial, *, normalized: bool) -> OptimizerConfig:
    name: OptimizerName = choice(trial, "optimizer", "sgd", "adam", "adamw")
    weight_decay = 0.0
    if name == "sgd":
        weight_decay = trial.suggest_float("sgd.weight_decay", 5e-5, 5e-3, log=True)
    elif name == "adamw":
        weight_decay = trial.suggest_float("adamw.weight_decay", 5e-3, 0.5, log=True)
    schedule: ScheduleName = choice(trial, "schedule", "constant", "linear", "cosine")
    return OptimizerConfig(
        name=name,
        learning_rate=_learning_rate(trial, name, normalized=normalized),
        weight_decay=weight_decay,
        schedule=schedule,
        warmup=0.0 if schedule == "constant" else trial.suggest_float("warmup", 0.0, 0.3, step=0.05),
    )


def _learning_rate(trial: optuna.Trial, name: OptimizerName, *, normalized: bool) -> float:
    if name != "sgd":
        return trial.suggest_float("adam.learning_rate", 3e-4, 5e-3, log=True)
    if normalized:
        return trial.suggest_float("sgd.learning_rate", 0.03, 1.0, log=True)
    return trial.suggest_float("unnormalized.sgd.learning_rate", 3e-3, 0.1, log=True)


_PLAIN: dict[str, Any] = {
    "stages": 2,
    "convs.first": 1,
    "convs.rest": 2,
    "width": 32,
    "growth": 2.0,
    "widen": "convolution",
    "downsample": "max",
    "downsample.at": "last",
    "whitening": False,
    "padding": "valid",
    "norm": "none",
    "activation": "relu",
    "head": "flatten",
    "head.dense": 128,
    "dropout.blocks": 0.0,
    "dropout.head": 0.25,
    "optimizer": "adam",
    "adam.learning_rate": 1e-3,
    "schedule": "constant",
    "batch_size": 128,
    "averaging": "none",
    "label_smoothing": 0.0,
    "flip": False,
    "crop": 0,
    "cutout": 0,
    "mixup": 0.0,
}

_DEEP: dict[str, Any] = {
    "stages": 3,
    "convs.first": 2,
    "convs.rest": 2,
    "width": 32,
    "growth": 2.0,
    "downsample": "max",
    "downsample.at": "last",
    "whitening": False,
    "residual": False,
    "norm": "batch",
    "activation": "relu",
    "head": "flatten",
    "head.dense": 128,
    "dropout.blocks": 0.3,
    "dropout.head": 0.25,
    "optimizer": "adamw",
    "adam.learning_rate": 1e-3,
    "adamw.weight_decay": 0.05,
    "schedule": "cosine",
    "warmup": 0.0,
    "batch_size": 64,
    "averaging": "none",
    "label_smoothing": 0.0,
    "flip": True,
    "mirror": False,
    "crop": 3,
    "cutout": 0,
    "mixup": 0.0,
}

_SPEEDRUN: dict[str, Any] = {
    "stages": 3,
    "convs.first": 2,
    "convs.rest": 2,
    "width": 64,
    "growth": 2.0,
    "downsample": "max",
    "downsample.at": "first",
    "whitening": True,
    "residual": False,
    "norm": "batch",
    "activation": "gelu",
    "head": "pool",
    "head.pool": "max",
    "head.scale": 0.125,
    "dropout.blocks": 0.0,
    "dropout.head": 0.0,
    "optimizer": "sgd",
    "sgd.learning_rate": 0.3,
    "sgd.weight_decay": 5e-4,
    "schedule": "linear",
    "warmup": 0.2,
    "batch_size": 128,
    "averaging": "lookahead",
    "label_smoothing": 0.2,
    "flip": True,
    "mirror": True,
    "crop": 2,
    "cutout": 0,
    "mixup": 0.0,
}

BASELINES: dict[str, dict[str, Any]] = {
    # conv 32, pool, conv 64, conv 128, pool, dense 128: a tutorial's network, about 68 % on CIFAR-10
    "plain": _PLAIN,
    # the same with batch normalization
    "plain_bn": _PLAIN | {"norm": "batch"},
    # and with dropout after each stage: 79 to 83 %
    "plain_dropout": _PLAIN | {"norm": "batch", "dropout.blocks": 0.2},
    # three times two convolutions, regularized: 87 %
    "deep": _DEEP,
    # after the CIFAR-10 speed records (Page, 2018; tysam-code/hlb-CIFAR10; KellerJordan/cifar10-airbench)
    "speedrun": _SPEEDRUN,
}
"""Points of the space for images of at least 28 pixels; `spaces.misfits` names what smaller ones rule out."""
