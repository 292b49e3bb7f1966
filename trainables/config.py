"""What one trial trains: frozen settings, checked when they are made, to and from JSON.

A configuration that exists is a possible one: every class refuses impossible values in `__post_init__`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import math
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import nn

OptimizerName = Literal["sgd", "adam", "adamw"]
ScheduleName = Literal["constant", "linear", "cosine"]
Averaging = Literal["none", "ema", "lookahead"]


def require(condition: bool, message: str) -> None:
    """Raise ValueError with `message` unless `condition` holds."""
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be learnt: the facts of a data set, and from where, that a network or a space depends on."""

    image_size: int
    """Height and width of an image, in pixels."""
    channels: int = 3
    """Colour channels of an image."""
    classes: int
    """Number of classes, at least 2."""
    train_images: int
    """Images in the training part."""
    max_epochs: int
    """Epochs of a trial trained to the end; the schedule spans them."""
    weights: str = "imagenet"
    """What pretrained networks begin with: none (random values), imagenet, or the hash of a file."""
    architectures: tuple[str, ...] = ()
    """Pretrained networks that there are such weights for; empty: all."""

    def __post_init__(self) -> None:
        require(self.image_size >= 1, f"image_size must be at least 1 pixel, but is {self.image_size}")
        require(self.channels >= 1, f"channels must be at least 1, but is {self.channels}")
        require(self.classes >= 2, f"classes must be at least 2, but is {self.classes}")
        require(self.train_images >= 1, f"train_images must be at least 1, but is {self.train_images}")
        require(self.max_epochs >= 1, f"max_epochs must be at least 1, but is {self.max_epochs}")
        require(bool(self.weights), "weights must be none, imagenet or the hash of a file, but are ''")
        object.__setattr__(self, "architectures", tuple(self.architectures))  # JSON has lists only


@runtime_checkable
class InitializedFromData(Protocol):
    """A module that sets its weights from training images before the first step (a whitening layer)."""

    def initialize_from(self, images: torch.Tensor) -> None:
        """Take normalized training images, shape (images, channels, height, width), float32."""


@runtime_checkable
class InStages(Protocol):
    """A network with a head and, before it, stages that can be frozen (a pretrained one)."""

    trained: int
    """How many stages are not frozen, the last ones."""

    def stages(self) -> list[list[nn.Module]]:
        """The modules of each stage, from the image to the head; the head is in none of them."""

    def train_stages(self, count: int) -> None:
        """Train the head and the last `count` stages, and freeze the stages before them."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig(ABC):
    """What a network is. A subclass is a frozen dataclass of plain values beside the network it builds."""

    @property
    def evaluation_batch(self) -> int:
        """Images that are scored at once; fewer for a network whose maps take much memory."""
        return 500

    def in_training(self) -> ModelConfig:
        """The network of a training step, without what only scoring adds."""
        return self

    @abstractmethod
    def build(self, task: Task) -> nn.Module:
        """The network, freshly initialized: float images (batch, channels, size, size) to logits
        (batch, classes).

        Initialization draws from torch's global generator, which the training loop seeds.
        Raises ValueError where the network does not fit the task.
        """


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How weights are updated, and how the learning rate moves over `max_epochs`."""

    name: OptimizerName
    """sgd is SGD with Nesterov momentum; adamw decouples the weight decay (Loshchilov & Hutter, 2019)."""
    learning_rate: float
    """Peak learning rate, for a batch mean of the loss."""
    weight_decay: float = 0.0
    """L2 penalty (sgd, adam), or decay a step in units of the learning rate (adamw); never on biases
    and norms."""
    momentum: float = 0.9
    """Momentum of sgd, first beta of adam and adamw."""
    schedule: ScheduleName = "constant"
    """After the warm-up: constant, or falling to zero in a straight line or a half cosine."""
    warmup: float = 0.0
    """Share of all steps in which the learning rate climbs to its peak, 0 to below 1."""

    def __post_init__(self) -> None:
        require_choice("optimizer", self.name, OptimizerName)
        require_choice("schedule", self.schedule, ScheduleName)
        require(
            math.isfinite(self.learning_rate) and self.learning_rate > 0,
            f"learning_rate must be a positive number, but is {self.learning_rate}",
        )
        require(
            math.isfinite(self.weight_decay) and self.weight_decay >= 0,
            f"weight_decay must be at least 0, but is {self.weight_decay}",
        )
        require(0 <= self.momentum < 1, f"momentum must be in [0, 1), but is {self.momentum}")
        require(0 <= self.warmup < 1, f"warmup must be a share in [0, 1), but is {self.warmup}")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What is done to a training batch, drawn anew for each image (mixup: for each batch), but for flips."""

    flip: bool = False
    """Mirror an image left to right in every second epoch; in the first or the second is drawn for each."""
    crop: int = 0
    """Shift by up to this many pixels each way; what enters at the border is reflected."""
    cutout: int = 0
    """Side in pixels of a square set to the mean colour (DeVries & Taylor, 2017); 0: none."""
    mixup: float = 0.0
    """Alpha of the Beta distribution that two images are mixed by (Zhang et al., 2018); 0: none."""

    def __post_init__(self) -> None:
        require(self.crop >= 0, f"crop must be at least 0 pixels, but is {self.crop}")
        require(self.cutout >= 0, f"cutout must be at least 0 pixels, but is {self.cutout}")
        require(
            math.isfinite(self.mixup) and self.mixup >= 0, f"mixup must be at least 0, but is {self.mixup}"
        )


@dataclass(frozen=True, kw_only=True)
class FineTuneConfig:
    """How the pretrained stages of a network are trained beside its new head; by default, like the head."""

    backbone_rate: float = 1.0
    """Learning rate of the last stage before the head, as a share of the head's."""
    layer_decay: float = 1.0
    """Learning rate of each stage as a share of the next one's (Howard & Ruder, 2018): the first stages
    hold what all images have in common."""
    unfreeze_over: float = 0.0
    """Share of the training, from its beginning, in which stages start to train one after the other, those
    next to the head first (gradual unfreezing, Howard & Ruder, 2018); 0: all from the first epoch."""

    def __post_init__(self) -> None:
        for name in ("backbone_rate", "layer_decay"):
            share = getattr(self, name)
            require(0 < share <= 1, f"{name} must be a share above 0 and up to 1, but is {share}")
        require(
            0 <= self.unfreeze_over <= 1,
            f"unfreeze_over must be a share in [0, 1], but is {self.unfreeze_over}",
        )


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """Everything that decides how one trial trains, but for its seed and the data."""

    model: ModelConfig
    """The network."""
    optimizer: OptimizerConfig
    """The updates and their schedule."""
    augment: AugmentConfig = AugmentConfig()
    """What training batches go through."""
    batch_size: int = 128
    """Images a step."""
    label_smoothing: float = 0.0
    """Share of the target spread evenly over all classes, 0 to below 1 (Szegedy et al., 2016)."""
    averaging: Averaging = "none"
    """Weights that are scored: the last ones, or their exponential moving average; lookahead
    (Zhang et al., 2019) also puts the average back into training every five steps."""
    fine_tune: FineTuneConfig = FineTuneConfig()
    """How pretrained stages are trained; only a network that has stages takes another than the default."""

    def __post_init__(self) -> None:
        require(
            isinstance(self.model, ModelConfig),
            f"model must be a ModelConfig, but is {type(self.model).__name__}",
        )
        require(self.batch_size >= 1, f"batch_size must be at least 1, but is {self.batch_size}")
        require(
            0 <= self.label_smoothing < 1,
            f"label_smoothing must be a share in [0, 1), but is {self.label_smoothing}",
        )
        require_choice("averaging", self.averaging, Averaging)


def require_choice(field: str, value: str, choices: Any) -> None:
    """Raise ValueError unless `value` is one of the strings of the Literal `choices`."""
    names = get_args(choices)
    require(value in names, f"{field} must be one of {', '.join(names)}, but is {value!r}")


def to_json(config: TrialConfig) -> dict[str, Any]:
    """A configuration as JSON types; the network's class goes under `model.type` as `module:Class`.

    `fine_tune` is left out where it is the default, as in documents from before there was any.
    """
    document = dataclasses.asdict(config)
    if config.fine_tune == FineTuneConfig():
        del document["fine_tune"]
    kind = type(config.model)
    document["model"] = {"type": f"{kind.__module__}:{kind.__qualname__}", **document["model"]}
    return document


def from_json(document: dict[str, Any], *, own: bool = False) -> TrialConfig:
    """The configuration that `to_json` wrote.

    `model.type` names a ModelConfig dataclass of this project or of a module that is imported already: a
    file from elsewhere does not say what code runs. `own`: it is that of a search over a space of the user's
    own, import any.
    Raises ValueError for a missing, unknown or impossible value.
    """
    try:
        parts = dict(document)
        model = dict(parts.pop("model"))
        module, _, name = str(model.pop("type")).partition(":")
        if not (own or module.startswith("trainables.models.") or module in sys.modules):
            raise ValueError(
                f"the network {module}:{name} is not of this project: if you trust that code, give "
                f"--networks {module}, or import {module} first in Python"
            )
        kind = getattr(importlib.import_module(module), name, None)
        if not (isinstance(kind, type) and issubclass(kind, ModelConfig)):
            raise ValueError(f"model.type must name a ModelConfig, but is {module}:{name}")
        return TrialConfig(
            model=kind(**{key: _tuples(value) for key, value in model.items()}),
            optimizer=OptimizerConfig(**parts.pop("optimizer")),
            augment=AugmentConfig(**parts.pop("augment")),
            fine_tune=FineTuneConfig(**parts.pop("fine_tune", {})),
            **{key: parts.pop(key) for key in ("batch_size", "label_smoothing", "averaging")},
            **parts,  # what is left is unknown, and refused
        )
    except (KeyError, TypeError, ImportError) as error:
        raise ValueError(f"not a trial configuration: {error}") from error


def _tuples(value: Any) -> Any:
    # JSON has lists only; a frozen, hashable configuration has tuples
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def config_hash(config: TrialConfig) -> str:
    """16 hex digits that two equal configurations share, on every machine."""
    text = json.dumps(to_json(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
