"""The learning rate over a whole training, whatever rung a trial stops at."""

from __future__ import annotations

import math

from trainables.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """The rate for `step` (0 to steps - 1) of `steps`: a straight climb, then the schedule.

    The climb ends and the fall begins at the peak; the fall would reach zero one step after the last.
    """
    # at least the last step is at the peak
    warm = min(round(config.warmup * steps), steps - 1)
    if step < warm:
        return config.learning_rate * (step + 1) / (warm + 1)
    progress = (step - warm) / (steps - warm)
    match config.schedule:
        case "constant":
            factor = 1.0
        case "linear":
            factor = 1.0 - progress
        case "cosine":
            factor = 0.5 * (1.0 + math.cos(math.pi * progress))
    return config.learning_rate * factor
