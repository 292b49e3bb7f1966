"""The modules of a `CnnConfig`, put together from plain torch layers."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import nn

from trainables.config import Task
from trainables.models.cnn import FLATTEN_SIDE, CnnConfig
from trainables.models.whitening import PatchWhitening

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}
POOLINGS: dict[str, type[nn.Module]] = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}


class Residual(nn.Module):
    """Layers whose output is added to their input, of the same shape."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Any shape that the layers keep."""
        added: torch.Tensor = self.layers(maps)
        return maps + added


class Mirrored(nn.Sequential):
    """Layers whose logits are, outside training, the mean over an image and its mirror image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width) to (batch, classes)."""
        logits = self._through_all(images)
        return logits if self.training else (logits + self._through_all(images.flip(3))) / 2

    def _through_all(self, maps: torch.Tensor) -> torch.Tensor:
        for layer in self:
            maps = layer(maps)
        return maps


class Scale(nn.Module):
    """Multiplies by a number that is not trained."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        return logits * self.factor

    def extra_repr(self) -> str:
        """What `print(network)` shows of this layer."""
        return f"{self.factor}"


def build_cnn(config: CnnConfig, task: Task) -> nn.Sequential:
    """(batch, channels, size, size) images to (batch, classes) logits.

    Raises ValueError where the images of the task are too small.
    """
    side = config.map_size(task.image_size)
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    channels = task.channels
    if config.patch > 1:
        parts["stem"], channels = _stem(config, channels)
    for number, widths in enumerate(config.widths, start=1):
        parts[f"stage{number}"] = _stage(config, channels, widths)
        channels = widths[-1]
    parts["head"] = _head(config, channels, side, task.classes)
    network = Mirrored(parts) if config.mirror else nn.Sequential(parts)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            # torch's own start shrinks the signal at each layer, and without a norm nothing restores it;
            # uniform, for on the meta device normal_ makes torch load its compiler, for seconds
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
    return network


def _stem(config: CnnConfig, channels: int) -> tuple[nn.Sequential, int]:
    activation = ACTIVATIONS[config.activation]()
    if config.whitening:
        whitening = PatchWhitening(channels, config.patch, config.input_stride)
        return nn.Sequential(whitening, activation), len(whitening.weight)
    width = config.widths[0][0]
    patches = nn.Conv2d(channels, width, config.patch, config.input_stride, bias=config.norm == "none")
    return nn.Sequential(patches, *_norm(config, width), activation), width


def _stage(config: CnnConfig, channels: int, widths: tuple[int, ...]) -> nn.Sequential:
    pool_first = config.downsample != "stride" and config.downsample_at == "first"
    pool_last = config.downsample != "stride" and config.downsample_at == "last"
    layers = _convolution(
        config, channels, widths[0], stride=2 if config.downsample == "stride" else 1, pool=pool_first
    )
    rest: list[nn.Module] = []
    for before, after in pairwise(widths):
        rest += _convolution(config, before, after)
    layers += [Residual(*rest)] if config.residual and rest else rest
    if pool_last:
        layers.append(POOLINGS[config.downsample](2))
    if config.block_dropout > 0:
        layers.append(nn.Dropout(config.block_dropout))
    return nn.Sequential(*layers)


def _convolution(
    config: CnnConfig, channels: int, width: int, *, stride: int = 1, pool: bool = False
) -> list[nn.Module]:
    padding = config.kernel // 2 if config.padding == "same" else 0
    # the norm subtracts the mean, and a bias with it
    bias = config.norm == "none"
    return [
        nn.Conv2d(channels, width, config.kernel, stride, padding, bias=bias),
        *([POOLINGS[config.downsample](2)] if pool else []),
        *_norm(config, width),
        ACTIVATIONS[config.activation](),
    ]


def _norm(config: CnnConfig, width: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(width)] if config.norm == "batch" else []


def _head(config: CnnConfig, channels: int, side: int, classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    # windows of one fixed size: adaptive pooling's windows overlap, and its CUDA gradient is not reproducible
    window = side if config.head != "flatten" else -(-side // FLATTEN_SIDE)
    if window > 1:
        layers.append(POOLINGS["max" if config.head == "max" else "avg"](window))
    layers.append(nn.Flatten())
    features = channels * (side // window) ** 2
    if config.dense > 0:
        layers += [nn.Linear(features, config.dense), ACTIVATIONS[config.activation]()]
        features = config.dense
    if config.head_dropout > 0:
        layers.append(nn.Dropout(config.head_dropout))
    layers.append(nn.Linear(features, classes))
    if config.logit_scale != 1:
        layers.append(Scale(config.logit_scale))
    return nn.Sequential(*layers)
