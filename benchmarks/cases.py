"""One search on one task: what it may spend, and how what it did is judged."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from benchmarks.regret import SHARES, regret_over_time
from benchmarks.tasks import TASKS, Task, scale

TRAININGS = 24
"""Budget of a search in full trainings of the median configuration, of all workers together ..."""
TRAININGS_A_WORKER = 1.5
"""... and at least this many for each worker."""

Row = dict[str, float | int | str]


@dataclass(frozen=True)
class Case:
    """One search to be simulated."""

    workers: int
    task: str
    search: str
    seed: int

    def make_task(self) -> Task:
        """The task of this seed."""
        return TASKS[self.task](self.seed)

    def budget(self) -> float:
        """Seconds that the search may take."""
        trainings = max(TRAININGS, TRAININGS_A_WORKER * self.workers)
        return trainings * scale(self.task, self.seed).seconds / self.workers


def judged(case: Case, rows: pd.DataFrame, spent: float) -> Row:
    """Regret at each share of the budget; `rows` as `search.simulate` gives them, `spent` the CPU seconds."""
    trials = max(1, rows["trial"].nunique())
    unit = scale(case.task, case.seed)
    regrets = regret_over_time(rows, case.make_task(), unit, case.budget())
    return {
        "workers": case.workers,
        "task": case.task,
        "search": case.search,
        "seed": case.seed,
        "trials": trials,
        "ms": round(1000 * spent / trials, 2),
        **{column(share): round(float(regret), 5) for share, regret in zip(SHARES, regrets, strict=True)},
    }


def column(share: float) -> str:
    """Name of the column of regrets at a share of the budget."""
    return f"at {share:.5f}"
