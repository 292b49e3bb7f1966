"""A search in virtual time: the very same controller, over learning curves that are known or modelled.

    rows = simulate(suggest, curve, workers=4, max_epochs=27, trials=100)

How many workers, which settings, how long? Answered before anything is trained.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from search.controller import Controller, Plan, Rule
from search.sampler import samplers
from search.study import StudyRecord
from trainables.config import require_choice

if TYPE_CHECKING:
    import optuna
    import pandas as pd

Direction = Literal["maximize", "minimize"]
Curve = Callable[[dict[str, Any]], tuple[ArrayLike, ArrayLike]]


def simulate(
    suggest: Callable[[optuna.Trial], Any],
    curve: Curve,
    *,
    workers: int,
    max_epochs: int,
    min_epochs: int = 1,
    reduction_factor: int = 3,
    trials: int | None = None,
    seconds: float | None = None,
    sampler: str | optuna.samplers.BaseSampler = "multifidelity",
    asha: Rule = "promote",
    direction: Direction = "maximize",
    seed: int = 0,
) -> pd.DataFrame:
    """Every epoch of a simulated search, a row each, in order of time.

    `suggest` makes a configuration of a trial (a space with its task bound; what it returns is not used).
    `curve` gives, for a trial's parameters, the score after each epoch and the duration of each in seconds,
    both of shape (max_epochs,). `sampler` is a name (see `search.sampler`) or an Optuna sampler. The search
    ends after `trials` configurations, or with the last epoch that ends within `seconds`.

    Columns: time (the epoch's end, in seconds), trial, epoch, value, state (of the trial after it: running,
    waiting at a rung, pruned, diverged by a value that is not finite, complete), params. What ends at the
    same time comes in order of trial number. A waiting trial that is promoted goes on at no extra cost.
    Raises ValueError for settings that can never work, and for a curve of another shape or with durations
    that are not finite and positive (or zero, where `trials` ends the search).
    """
    import pandas as pd

    _check(workers, min_epochs, max_epochs, reduction_factor, trials, seconds)
    require_choice("asha", asha, Rule)
    require_choice("direction", direction, Direction)
    choose = samplers(sampler, seed) if isinstance(sampler, str) else lambda number: sampler
    record = StudyRecord("simulation", direction)
    plan = Plan(
        min_epochs=min_epochs,
        max_epochs=max_epochs,
        reduction_factor=reduction_factor,
        rule=asha,
        trials=trials,
    )
    controller = Controller(record, plan, suggest=suggest, sampler=choose)
    limit = math.inf if seconds is None else seconds
    simulation = _Simulation(controller, record, curve)
    idle = workers
    while True:
        while idle and simulation.start():
            idle -= 1
        if not simulation.events or simulation.events[0][0] > limit:
            break
        idle += simulation.step()
    if controller.finished:
        controller.finish()
    return pd.DataFrame(simulation.rows, columns=["time", "trial", "epoch", "value", "state", "params"])


def _check(
    workers: int,
    min_epochs: int,
    max_epochs: int,
    reduction_factor: int,
    trials: int | None,
    seconds: float | None,
) -> None:
    if trials is None and seconds is None:
        raise ValueError("a search must end somewhere: give trials, seconds or both")
    least = {
        "workers": (workers, 1),
        "min_epochs": (min_epochs, 1),
        "reduction_factor": (reduction_factor, 2),
    }
    if trials is not None:
        least["trials"] = (trials, 1)
    for name, (value, low) in least.items():
        if value < low:
            raise ValueError(f"{name} must be at least {low}, but is {value}")
    if min_epochs > max_epochs:
        raise ValueError(f"min_epochs must not exceed max_epochs, but {min_epochs} > {max_epochs}")
    if seconds is not None and not seconds > 0:
        raise ValueError(f"seconds must be positive, but is {seconds}")


@dataclass
class _Running:
    values: NDArray[np.float64]
    durations: NDArray[np.float64]
    params: dict[str, Any]


class _Simulation:
    """Virtual workers: the events are ends of epochs, by time and then by trial."""

    def __init__(self, controller: Controller, record: StudyRecord, curve: Curve) -> None:
        self.controller, self.record, self.curve = controller, record, curve
        self.now = 0.0
        self.events: list[tuple[float, int, int]] = []
        """A heap of time, trial and epoch."""
        self.rows: list[tuple[float, int, int, float, str, dict[str, Any]]] = []
        self._trials: dict[int, _Running] = {}

    def start(self) -> bool:
        """Give a free worker something to do; whether there was anything."""
        work = self.controller.next_work()
        if work is None:
            return False
        if work.trial not in self._trials:
            self._trials[work.trial] = self._curve_of(dict(self.record.trial(work.trial).params))
        self._begin(work.trial, work.known_epochs + 1)
        return True

    def step(self) -> int:
        """Take in the next end of an epoch; returns how many workers that frees."""
        self.now, number, epoch = heapq.heappop(self.events)
        trial = self._trials[number]
        value = float(trial.values[epoch - 1])
        row = {"epoch": epoch, "seconds": float(trial.durations[epoch - 1])}
        goes_on = self.controller.report(number, row, value)
        self.rows.append((self.now, number, epoch, value, self._state(number), trial.params))
        if goes_on:
            self._begin(number, epoch + 1)
        elif number not in self.controller.live:
            del self._trials[number]
        return 0 if goes_on else 1

    def _begin(self, number: int, epoch: int) -> None:
        duration = float(self._trials[number].durations[epoch - 1])
        heapq.heappush(self.events, (self.now + duration, number, epoch))

    def _state(self, number: int) -> str:
        live = self.controller.live.get(number)
        return live.state if live is not None else str(self.record.trial(number).user_attrs["outcome"])

    def _curve_of(self, params: Mapping[str, Any]) -> _Running:
        plan = self.controller.plan
        values, durations = (np.asarray(part, dtype=float) for part in self.curve(dict(params)))
        for name, part in (("scores", values), ("durations", durations)):
            if part.shape != (plan.max_epochs,):
                raise ValueError(f"a curve must have {plan.max_epochs} {name}, but has shape {part.shape}")
        least = durations.min()
        if not np.isfinite(durations).all() or least < 0 or (least == 0 and plan.trials is None):
            raise ValueError(f"durations must be finite and positive, but are {durations.tolist()}")
        return _Running(values, durations, dict(params))
