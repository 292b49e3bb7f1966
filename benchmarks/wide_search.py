"""What more slots are worth, and what proposing in batches costs: searches of made-up curves, simulated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from benchmarks.cases import Case, Row, judged
from benchmarks.curve_families import MAX_EPOCHS
from benchmarks.regret import leads
from benchmarks.tasks import scale
from search.ahead import MOST, MOST_OF_RUNNING, WIDE
from search.multifidelity import MultifidelitySampler
from search.simulate import simulate

WIDTHS = (1, 8, 64, 512)
TRAININGS = {1: 48.0, 8: 12.0}
"""Full trainings of the median configuration, one after another, for which so many slots may search ..."""
LEAST_TRAININGS = 4.0
"""... and more slots."""


class InBatches(MultifidelitySampler):
    """Every proposal is one of `count` from one model: what a search does at worst that falls behind."""

    def __init__(self, seed: int, count: int) -> None:
        super().__init__(seed)
        self._count, self._kept = count, list[dict[str, Any]]()

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next one kept, or the first of a new batch."""
        if not self._kept:
            self._kept = self.sample_several(study, trial.number, search_space, self._count)
        return self._kept.pop(0)


def at_once(slots: int) -> int:
    """Proposals that a search on so many slots makes at once where it falls behind."""
    return min(MOST, int(MOST_OF_RUNNING * slots)) if slots >= WIDE else 1


def searched(case: Case, seconds: float, count: int) -> pd.DataFrame:
    """The epochs of a search that proposes `count` trials at once."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    task = case.make_task()
    sampler = InBatches(case.seed, count) if count > 1 else MultifidelitySampler(case.seed)
    return simulate(
        task.suggest,
        task.curve,
        workers=case.workers,
        max_epochs=MAX_EPOCHS,
        seconds=seconds,
        sampler=sampler,
        seed=case.seed,
    )


def seconds_to(target: float, case: Case) -> float:
    """When a search first has that regret, in full trainings of the median configuration; infinity if never.

    Wide searches propose in batches throughout.
    """
    unit = scale(case.task, case.seed)
    limit = TRAININGS.get(case.workers, LEAST_TRAININGS)
    share = 1 / 8
    while True:  # what comes later changes nothing before: most need not be simulated to the end
        rows = searched(case, share * limit * unit.seconds, at_once(case.workers))
        if not rows.empty:
            times, regrets = leads(rows, case.make_task(), unit)
            there = np.flatnonzero(regrets <= target)
            if there.size:
                return float(times[there[0]] / unit.seconds)
        if share >= 1:
            return math.inf
        share *= 2


def speedups(
    families: Iterable[str], seeds: int, target: float, *, widths: Iterable[int] = WIDTHS, processes: int = 1
) -> pd.DataFrame:
    """By slots: trainings until the regret is reached, how many times sooner than on the fewest slots, and
    how many times as many slots they are. Medians over the cases that the fewest slots got to; one that more
    slots did not get to in their time counts as never.
    """
    widths = list(widths)
    cases = [Case(w, task, "", seed) for w, task, seed in product(widths, families, range(seeds))]
    with ProcessPoolExecutor(processes) as pool:
        took = list(pool.map(seconds_to, [target] * len(cases), cases))
    frame = pd.DataFrame([{"slots": c.workers, "case": f"{c.task} {c.seed}"} for c in cases]).assign(
        took=took
    )
    table = frame.pivot_table(index="case", columns="slots", values="took", aggfunc="first")
    reached = np.isfinite(table)
    known = table[np.isfinite(table[widths[0]])]
    sooner = known.rdiv(known[widths[0]], axis=0)  # 0 where it was not reached
    return pd.DataFrame(
        {
            "trainings": known.median(),
            "times sooner": sooner.median(),
            "straight line": pd.Series({width: width / widths[0] for width in widths}),
            "reached": pd.Series({width: f"{reached[width].sum()} of {len(reached)}" for width in widths}),
        }
    )


def _judged(case: Case, count: int) -> Row:
    return judged(case, searched(case, case.budget(), count), 0.0)


def batches(
    families: Iterable[str],
    seeds: int,
    *,
    counts: Iterable[int] = (1, 8, 16),
    workers: int = 64,
    processes: int = 1,
) -> pd.DataFrame:
    """Regret of searches that propose so many trials at once, a row each, of all cases."""
    jobs = [
        (Case(workers, task, str(count), seed), count)
        for task, seed, count in product(families, range(seeds), counts)
    ]
    with ProcessPoolExecutor(processes) as pool:
        return pd.DataFrame(list(pool.map(_judged, *zip(*jobs, strict=True))))


def batches_table(results: pd.DataFrame, shown: Mapping[str, str]) -> str:
    """Mean regret by share of the budget, and how much more than one by one at the end: mean and interval."""
    means = results.groupby("search", sort=False)[list(shown)].mean().rename(columns=shown).round(3)
    last = results.pivot_table(index=["task", "seed"], columns="search", values=list(shown)[-1], sort=False)
    more = last.sub(last["1"], axis=0)
    means["less one by one"] = [f"{more[n].mean():+.3f} ±{1.96 * more[n].sem():.3f}" for n in means.index]
    return means.rename_axis("at once").to_string()
