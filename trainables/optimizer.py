"""What updates the weights, and how fast which of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from trainables.config import FineTuneConfig, OptimizerConfig
from trainables.fine_tuning import rate_factors


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the head, and that of each stage in proportion."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def make_optimizer(
    config: OptimizerConfig, model: nn.Module, fine_tune: FineTuneConfig | None = None
) -> torch.optim.Optimizer:
    """The optimizer over the trainable parameters; biases and norms (one dimension) are not decayed.

    Each group has a `factor`, by which `set_rate` multiplies its learning rate: 1 without stages.
    """
    groups: list[dict[str, Any]] = []
    for factor, parameters in rate_factors(model, fine_tune or FineTuneConfig()):
        trainable = [p for p in parameters if p.requires_grad]
        weights, others = [p for p in trainable if p.ndim > 1], [p for p in trainable if p.ndim <= 1]
        groups.append({"params": weights, "weight_decay": config.weight_decay, "factor": factor})
        groups.append({"params": others, "weight_decay": 0.0, "factor": factor})
    groups = [group for group in groups if group["params"]]
    match config.name:
        case "sgd":
            return torch.optim.SGD(
                groups,
                lr=config.learning_rate,
                momentum=config.momentum,
                nesterov=config.momentum > 0,
                fused=True,
            )
        case "adam":
            return torch.optim.Adam(
                groups, lr=config.learning_rate, betas=(config.momentum, 0.999), fused=True
            )
        case "adamw":
            return torch.optim.AdamW(
                groups, lr=config.learning_rate, betas=(config.momentum, 0.999), fused=True
            )
