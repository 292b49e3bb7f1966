"""The modules of a `PretrainedConfig`: torchvision's network, taken apart into stages, and a new head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trainables.config import Task
from trainables.models.pretrained import TRAINED_STAGES, PretrainedConfig

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def _features(*numbers: int) -> tuple[str, ...]:
    return tuple(f"features.{number}" for number in numbers)


STAGES: dict[str, tuple[tuple[str, ...], ...]] = {
    "resnet18": (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)),
    # each begins where the map is halved
    "mobilenet_v2": (
        _features(0, 1),
        _features(2, 3),
        _features(4, 5, 6),
        _features(*range(7, 14)),
        _features(*range(14, 19)),
    ),
    "mobilenet_v3_large": (
        _features(0, 1),
        _features(2, 3),
        _features(4, 5, 6),
        _features(*range(7, 13)),
        (*_features(*range(13, 17)), "classifier"),
    ),
    "densenet121": (
        ("features.conv0", "features.norm0"),
        ("features.denseblock1", "features.transition1"),
        ("features.denseblock2", "features.transition2"),
        ("features.denseblock3", "features.transition3"),
        ("features.denseblock4", "features.norm5"),
    ),
}
"""By architecture, from the image to the head: the modules of torchvision's network that make up a stage."""

HEADS: dict[str, str] = {
    "resnet18": "fc.",
    "mobilenet_v2": "classifier.",
    # the hidden layer before its last one was pretrained as well, and stays
    "mobilenet_v3_large": "classifier.3.",
    "densenet121": "classifier.",
}
"""How the names of weights begin that only fit the classes of the pretraining."""


class PretrainedNetwork(nn.Module):
    """(batch, 3, size, size) images to (batch, classes) logits: resized, then `backbone`, then `head`.

    A frozen stage is frozen whole: its weights, and the running statistics of its norms.
    """

    def __init__(self, config: PretrainedConfig, task: Task) -> None:
        super().__init__()
        self.config = config
        self.backbone, self.width = build_backbone(config.architecture)
        if config.stem == "small":
            _leave_out_halvings(self.backbone, 2)
        self.head = _head(config, self.width, task.classes)
        self.train_stages(TRAINED_STAGES[config.unfrozen])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.head(self.features(images))
        return logits

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """What the head sees of images: (batch, width)."""
        features: torch.Tensor = self.backbone(resized(images, self.config.input_size))
        return features

    def stages(self) -> list[list[nn.Module]]:
        """Modules of the backbone, stage by stage, from the image to the head."""
        parts = STAGES[self.config.architecture]
        return [[self.backbone.get_submodule(name) for name in names] for names in parts]

    def train_stages(self, count: int) -> None:
        """Train the head and the last `count` stages, and freeze the stages before them."""
        self.trained = count
        stages = self.stages()
        for number, modules in enumerate(stages):
            for module in modules:
                module.requires_grad_(number >= len(stages) - count)
        self.train(self.training)

    def train(self, mode: bool = True) -> PretrainedNetwork:
        """As `nn.Module.train`, but what is frozen stays in evaluation mode."""
        super().train(mode)
        stages = self.stages()
        for module in _flat(stages[: len(stages) - self.trained]):
            module.eval()
        if self.config.freeze_norms:
            for module in self.backbone.modules():
                if isinstance(module, _NORMS):
                    module.eval()
        return self

    def load_backbone(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take weights by torchvision's names; the head has none of them."""
        self.backbone.load_state_dict(state)


def build_backbone(architecture: str) -> tuple[nn.Module, int]:
    """torchvision's network without its head, images to (batch, features), and how many features."""
    from torchvision.models import get_model

    network: Any = get_model(architecture, weights=None)
    match architecture:
        case "resnet18":
            last, network.fc = network.fc, nn.Identity()
        case "mobilenet_v3_large":
            # without its dropout: the new head has one of its own
            last, network.classifier = network.classifier[3], network.classifier[:2]
        case "mobilenet_v2":
            last, network.classifier = network.classifier[1], nn.Identity()
        case _:
            last, network.classifier = network.classifier, nn.Identity()
    return network, last.in_features


def resized(images: torch.Tensor, size: int) -> torch.Tensor:
    """Float images (batch, channels, height, width) at `size` pixels; smaller without false patterns."""
    if images.shape[-1] == size:
        return images
    return functional.interpolate(
        images, (size, size), mode="bilinear", antialias=images.shape[-1] > size, align_corners=False
    )


def _head(config: PretrainedConfig, width: int, classes: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Dropout(config.dropout)] if config.dropout > 0 else []
    if config.head_width > 0:
        layers += [nn.Linear(width, config.head_width), nn.ReLU()]
        width = config.head_width
    return nn.Sequential(*layers, nn.Linear(width, classes))


def _leave_out_halvings(network: nn.Module, count: int) -> None:
    """Have the first layers that halve the map keep its size; their weights are the same."""
    halving = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.MaxPool2d) and module.stride in (2, (2, 2))
    ]
    for name, module in halving[:count]:
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
        else:
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, nn.Identity())


def _flat(stages: list[list[nn.Module]]) -> Iterator[nn.Module]:
    return (module for stage in stages for module in stage)
