"""From the epochs of a search to its regret over time, and from regrets to speed-ups."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.tasks import Scale, Task

Floats = NDArray[np.float64]

SHARES: Floats = 2.0 ** (np.arange(-48, 1) / 8)
"""Shares of the budget at which regret is read off: eight a doubling, from 1/64 to all of it."""
SHOWN = (1 / 16, 1 / 4, 1 / 2, 1.0)
"""Those that the table shows."""
NOTHING_YET = 1.0
"""Regret of a search that has no score: that of the median configuration."""


def leads(rows: pd.DataFrame, task: Task, unit: Scale) -> tuple[Floats, Floats]:
    """When each new best was seen, and its normalized regret; `rows` as `search.simulate` gives them.

    The epoch that looked best is judged by its true score.
    """
    finite = rows[np.isfinite(rows["value"])]
    best: Floats = finite["value"].cummax().to_numpy(float)
    places = np.flatnonzero(np.diff(best, prepend=-np.inf) > 0)
    regrets = [
        unit.regret(float(task.truth(params)[0][epoch - 1]))
        for params, epoch in zip(finite["params"].iloc[places], finite["epoch"].iloc[places], strict=True)
    ]
    return finite["time"].to_numpy(float)[places], np.array(regrets)


def regret_over_time(rows: pd.DataFrame, task: Task, unit: Scale, budget: float) -> Floats:
    """Normalized regret at each of SHARES of `budget` seconds, of what has been trained until then."""
    times, regrets = leads(rows, task, unit)
    place = np.searchsorted(times, SHARES * budget * (1 + 1e-9), side="right")
    return np.array([NOTHING_YET, *regrets])[place]


def speedup(one: Floats, other: Floats) -> float:
    """How many times sooner `one` is where `other` is in the end; both (shares,), means over seeds.

    Where `one` never gets there, it would have taken more than the whole budget; or it is compared where it
    ended itself, if that is worse for it.
    """
    sooner = _first(other, other[-1]) / _first(one, other[-1])
    if one[-1] <= other[-1]:
        return sooner
    return min(sooner, _first(other, one[-1]) / _first(one, one[-1]))


def _first(regrets: Floats, target: float) -> float:
    """Share of the budget at which the regret is first reached; all of it if never."""
    # noise may make regret rise again; what counts is when it first was there
    reached = np.flatnonzero(regrets <= target)
    return float(SHARES[reached[0]]) if reached.size else 1.0
