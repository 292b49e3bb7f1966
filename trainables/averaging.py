"""Averages of weights along a training: what is scored, or what training returns to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from trainables.config import Averaging

LOOKAHEAD_STEPS = 5


class WeightAverage:
    """A moving average of every floating-point weight and buffer of a network.

    `ema` follows each step with a decay that grows to 0.999, so that a short training is not
    dominated by its first weights; the average is scored, training never sees it.
    `lookahead` (Zhang et al., 2019, "Lookahead Optimizer"; the growing decay follows the CIFAR-10
    speed-run recipes) moves every five steps and is put back into the network.
    """

    def __init__(self, kind: Averaging, model: nn.Module, steps: int) -> None:
        assert kind != "none"
        self.kind = kind
        self.steps = steps
        self.live = [t for t in model.state_dict().values() if t.is_floating_point()]
        self.mean = [t.detach().clone() for t in self.live]

    @torch.no_grad()
    def update(self, step: int, *, epoch_ends: bool) -> None:
        """Follow the network after `step` (1 to steps); lookahead also moves at the end of an epoch."""
        if self.kind == "ema":
            self._follow(min(0.999, (1 + step) / (10 + step)))
        elif step % LOOKAHEAD_STEPS == 0 or epoch_ends:
            # slow weights forget fast at first and slowly at the end
            self._follow(0.95**LOOKAHEAD_STEPS * (step / self.steps) ** 3)
            torch._foreach_copy_(self.live, self.mean)

    def _follow(self, decay: float) -> None:
        torch._foreach_lerp_(self.mean, self.live, 1.0 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the network's weights and the average; a second call undoes the first."""
        kept = [t.clone() for t in self.live]
        torch._foreach_copy_(self.live, self.mean)
        torch._foreach_copy_(self.mean, kept)

    def state(self) -> list[torch.Tensor]:
        """The averages, in the order of the network's state."""
        return self.mean

    def load(self, state: list[torch.Tensor]) -> None:
        """Take averages that `state` gave."""
        torch._foreach_copy_(self.mean, [t.to(self.mean[0].device) for t in state])


def scored_weights(
    state: Mapping[str, torch.Tensor], kind: Averaging, mean: Sequence[torch.Tensor] | None
) -> Mapping[str, torch.Tensor]:
    """The weights that validation scores, of a network's state and its averages."""
    if kind != "ema":
        return state
    assert mean is not None
    floating = [name for name, tensor in state.items() if tensor.is_floating_point()]
    return {**state, **dict(zip(floating, mean, strict=True))}
