"""Another library's search in virtual time: the workers and curves of `search.simulate`, a driver of its own.

What is driven makes every decision; the driver only keeps the clock. A trial whose score is not finite ends
there, whatever the search thinks of it: a training that diverges raises an exception or returns.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Curve = Callable[[Mapping[str, Any]], tuple[Floats, Floats]]


class OutsideSearch(Protocol):
    """What a competitor must be able to do. Trials are numbers of its own choice; scores are maximized."""

    def next_work(self) -> tuple[int, dict[str, Any]]:
        """Trial and parameters for a free worker; a trial that was paused goes on where it was."""
        ...

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Take in the finite score after an epoch; whether the trial goes on. The last epoch is its end."""
        ...

    def diverged(self, number: int) -> None:
        """A trial ended without a finite score."""
        ...


@dataclass
class _Trial:
    params: dict[str, Any]
    values: Floats
    seconds: Floats
    epochs: int = 0


def run(
    search: OutsideSearch, curve: Curve, *, workers: int, max_epochs: int, seconds: float
) -> pd.DataFrame:
    """Every epoch that ends within `seconds`, a row each, in order of time.

    Columns: time, trial, epoch, value, params. What ends at the same time comes in order of
    trial number, as in `search.simulate`.
    """
    trials: dict[int, _Trial] = {}
    events: list[tuple[float, int]] = []  # a heap of the ends of epochs: time, trial
    rows: list[tuple[float, int, int, float, dict[str, Any]]] = []

    def begin_epoch(number: int, now: float) -> None:
        trial = trials[number]
        heapq.heappush(events, (now + float(trial.seconds[trial.epochs]), number))

    def employ(now: float) -> None:
        number, params = search.next_work()
        if number not in trials:
            trials[number] = _Trial(params, *curve(params))
        begin_epoch(number, now)

    for _ in range(workers):
        employ(0.0)
    while events[0][0] <= seconds:
        now, number = heapq.heappop(events)
        trial = trials[number]
        value = float(trial.values[trial.epochs])
        trial.epochs += 1
        rows.append((now, number, trial.epochs, value, trial.params))
        if not math.isfinite(value):
            search.diverged(number)
            employ(now)
        elif search.report(number, trial.epochs, value) and trial.epochs < max_epochs:
            begin_epoch(number, now)
        else:
            employ(now)
    return pd.DataFrame(rows, columns=["time", "trial", "epoch", "value", "params"])
