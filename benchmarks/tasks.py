"""What a search is tried on: recorded curves of real networks, and families of made-up ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import numpy as np
import optuna
from numpy.typing import NDArray

from benchmarks.curve_families import FAMILIES, MAX_EPOCHS
from benchmarks.record_curves import TASK
from search.curves import RecordedCurves
from spaces import cnn

Floats = NDArray[np.float64]

CNN_CURVES = Path(__file__).parent / "cnn_curves.parquet"
RANDOM_CONFIGURATIONS = 2000


class Task(Protocol):
    """A space and its learning curves, of MAX_EPOCHS epochs each; scores are maximized."""

    def suggest(self, trial: optuna.Trial) -> None:
        """Ask for one configuration."""
        ...

    def curve(self, params: Mapping[str, Any]) -> tuple[Floats, Floats]:
        """Score that a search sees after, and seconds of, each epoch; NaN where it diverged."""
        ...

    def truth(self, params: Mapping[str, Any]) -> tuple[Floats, Floats]:
        """The same without noise, by which a search is judged."""
        ...


class _AsRecorded:
    """A trial of the space as it was when its curves were recorded: what came later is not asked for."""

    LATER: ClassVar[dict[str, Any]] = {"mirror": False}

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """As Optuna's."""
        return self.LATER[name] if name in self.LATER else self._trial.suggest_categorical(name, choices)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trial, name)


class CnnCurves:
    """Recorded curves of the `cnn` space, the same for every seed; what was recorded is the truth."""

    def __init__(self, seed: int) -> None:
        self._recorded = _cnn_curves()

    def suggest(self, trial: optuna.Trial) -> None:
        """See `Task`."""
        cnn.suggest(cast("optuna.Trial", _AsRecorded(trial)), TASK)

    def curve(self, params: Mapping[str, Any]) -> tuple[Floats, Floats]:
        """See `Task`: the curve of the nearest recorded configuration."""
        return self._recorded.curve(params)

    def truth(self, params: Mapping[str, Any]) -> tuple[Floats, Floats]:
        """See `Task`."""
        return self._recorded.curve(params)


@lru_cache
def _cnn_curves() -> RecordedCurves:
    recorded = RecordedCurves.read(CNN_CURVES)
    assert recorded.epochs == MAX_EPOCHS, f"{CNN_CURVES} has curves of {recorded.epochs} epochs"
    return recorded


TASKS: dict[str, Callable[[int], Task]] = {"cnn curves": CnnCurves, **FAMILIES}
"""By name: what makes a task of a seed."""


@dataclass(frozen=True)
class Scale:
    """What normalized regret and the budget are measured by, of one task and seed."""

    best: float
    """True final score of the best random configuration."""
    median: float
    """Of the median one; one that diverges is worse than any."""
    seconds: float
    """Of a full training of the median configuration."""

    def regret(self, score: float) -> float:
        """0 at the best, 1 at the median; below 0 is better than the best."""
        return (self.best - score) / (self.best - self.median)


@cache
def scale(name: str, seed: int) -> Scale:
    """From 2,000 random configurations, or all that were recorded."""
    if name == "cnn curves":
        recorded = _cnn_curves().trials
        return _scale([(trial.values, trial.seconds) for trial in recorded])
    task = TASKS[name](seed)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    curves = []
    for _ in range(RANDOM_CONFIGURATIONS):
        trial = study.ask()
        task.suggest(trial)
        curves.append(task.truth(trial.params))
    return _scale(curves)


def _scale(curves: list[tuple[Floats, Floats]]) -> Scale:
    finals = [values[-1] if np.isfinite(values).all() else -np.inf for values, _ in curves]
    seconds = [durations.sum() for _, durations in curves]
    return Scale(float(np.max(finals)), float(np.median(finals)), float(np.median(seconds)))
