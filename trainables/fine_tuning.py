"""How pretrained stages take part in a training: which of them, from when on, and how fast."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from trainables.config import FineTuneConfig, InStages


def rate_factors(model: nn.Module, config: FineTuneConfig) -> list[tuple[float, list[nn.Parameter]]]:
    """Factors of the learning rate, and whose they are: the head, then stage by stage towards the image.

    Parameters of one factor are together, so that an optimizer updates them at once. Raises ValueError where
    the network has no stages, and is not trained all alike.
    """
    # stages that join later need groups of their own, whose optimizer state begins with them
    if config.backbone_rate == config.layer_decay == 1.0 and config.unfreeze_over == 0:
        return [(1.0, list(model.parameters()))]
    stages = [_parameters(modules) for modules in _in_stages(model).stages()]
    in_stages = {id(parameter) for stage in stages for parameter in stage}
    factors = [(1.0, [p for p in model.parameters() if id(p) not in in_stages])]
    for distance, stage in enumerate(reversed(stages)):
        factors.append((config.backbone_rate * config.layer_decay**distance, stage))
    return factors


class GradualUnfreezing:
    """Lets the stages of a network take part one after the other.

    Which ones follows from the epoch alone, so that a training that goes on freezes the same.
    """

    def __init__(self, model: nn.Module, config: FineTuneConfig, epochs: int) -> None:
        """Raises ValueError where the network has no stages."""
        self.network = _in_stages(model)
        self.config, self.epochs = config, epochs
        self.stages = self.network.trained
        """That take part in the end."""

    def begin(self, epoch: int) -> None:
        """Freeze what does not take part in `epoch`, counted from 0."""
        self.network.train_stages(stages_in_epoch(self.stages, self.config, epoch, self.epochs))


def stages_in_epoch(trained: int, config: FineTuneConfig, epoch: int, epochs: int) -> int:
    """How many of `trained` stages take part in `epoch`, 0 to epochs - 1: none at first, in the end all."""
    last = config.unfreeze_over * epochs
    return trained if epoch >= last else int(trained * epoch / last)


def _in_stages(model: nn.Module) -> InStages:
    if not isinstance(model, InStages):
        raise ValueError(
            "fine_tune needs a network that has stages, such as that of a PretrainedConfig, "
            f"not {type(model).__name__}"
        )
    return model


def _parameters(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    return [parameter for module in modules for parameter in module.parameters()]
