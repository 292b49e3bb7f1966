"""How good is a search? Regret over time of this project's search and of what one would use instead.

    python -m benchmarks.search_quality --quick            3 minutes on one core
    python -m benchmarks.search_quality --workers 1,4,16,64 --seeds 20

Every competitor has the same space, curves, workers, budget and seeds. Normalized regret: 0 is the best
final score of 2,000 random configurations, 1 their median. Of what has been trained until then the best by
the score that the search saw is judged by its true score.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import optuna
import pandas as pd

from benchmarks.curve_families import FAMILIES, MAX_EPOCHS, Family
from search.controller import Rule
from search.simulate import simulate

SHARES = (1 / 16, 1 / 4, 1 / 2, 1.0)
TRAININGS = 24
"""Budget of a search in full trainings; at least TRAININGS_A_WORKER for each worker."""
TRAININGS_A_WORKER = 3
RANDOM_CONFIGURATIONS = 2000


@dataclass(frozen=True)
class Competitor:
    """A sampler and a rule, as `search.simulate` takes them."""

    sampler: str
    asha: Rule


COMPETITORS = {
    "random": Competitor("random", "none"),
    "random, stop": Competitor("random", "stop"),
    "random, promote": Competitor("random", "promote"),
    "tpe, stop": Competitor("tpe", "stop"),
    "multifidelity, promote": Competitor("multifidelity", "promote"),
}


@dataclass(frozen=True)
class Scale:
    """What normalized regret and the budget are measured by, of one family and seed."""

    best: float
    median: float
    seconds: float
    """Of a full training of the median configuration."""


@lru_cache
def scale(family: str, seed: int) -> Scale:
    """From 2,000 random configurations."""
    task = FAMILIES[family](seed)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    curves = []
    for _ in range(RANDOM_CONFIGURATIONS):
        trial = study.ask()
        task.suggest(trial)
        values, seconds = task.truth(trial.params)
        curves.append((values[-1] if np.isfinite(values).all() else -np.inf, seconds.sum()))
    finals, seconds = np.array(curves).T
    return Scale(float(finals.max()), float(np.median(finals)), float(np.median(seconds)))


def regrets(family: str, seed: int, competitor: Competitor, workers: int) -> dict[str, float]:
    """Normalized regret at each share of the budget, and the search's own seconds a trial."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    task, unit = FAMILIES[family](seed), scale(family, seed)
    budget = max(TRAININGS, TRAININGS_A_WORKER * workers) * unit.seconds / workers
    began = time.perf_counter()
    rows = simulate(
        task.suggest,
        task.curve,
        workers=workers,
        max_epochs=MAX_EPOCHS,
        seconds=budget,
        sampler=competitor.sampler,
        asha=competitor.asha,
        seed=seed,
    )
    took = time.perf_counter() - began
    return {
        **{f"{share:g}": regret_at(rows, task, unit, share * budget) for share in SHARES},
        "trials": float(rows["trial"].nunique()),
        "ms a trial": 1000 * took / rows["trial"].nunique(),
    }


def regret_at(rows: pd.DataFrame, task: Family, unit: Scale, seconds: float) -> float:
    """Normalized regret of the epoch that looked best until then; of nothing at all, that of the median."""
    done = rows[(rows["time"] <= seconds) & np.isfinite(rows["value"])]
    if done.empty:
        return 1.0
    best = done.loc[done["value"].idxmax()]
    true = task.truth(best["params"])[0][best["epoch"] - 1]
    return float((unit.best - true) / (unit.best - unit.median))


def _one(case: tuple[str, str, int, int]) -> dict[str, Any]:
    family, name, workers, seed = case
    return {
        "family": family,
        "search": name,
        "workers": workers,
        "seed": seed,
        **regrets(family, seed, COMPETITORS[name], workers),
    }


def run(
    families: list[str], names: list[str], workers: list[int], seeds: int, processes: int
) -> pd.DataFrame:
    """Every case, a row each."""
    cases = list(product(families, names, workers, range(seeds)))
    if processes == 1:
        return pd.DataFrame([_one(case) for case in cases])
    with ProcessPoolExecutor(processes) as pool:
        return pd.DataFrame(list(pool.map(_one, cases, chunksize=4)))


def table(results: pd.DataFrame) -> str:
    """Mean and standard error over seeds, of each cell, and the mean over all."""
    columns = [f"{share:g}" for share in SHARES]
    grouped = results.groupby(["workers", "family", "search"], sort=False)
    mean, error = grouped[columns].mean(), grouped[columns].sem()
    text = mean.map("{:.3f}".format) + " ±" + error.map("{:.3f}".format)
    text[["trials", "ms a trial"]] = grouped[["trials", "ms a trial"]].mean().round(1)
    overall = results.groupby(["workers", "search"], sort=False)[columns].mean().round(3)
    paired = results.pivot_table(
        index=["workers", "family", "seed"], columns="search", values=columns[-1], sort=False
    )
    lines = [text.to_string(), "", "mean over families", overall.to_string()]
    reference = "random, stop"
    if reference in paired:
        difference = paired.drop(columns=reference).sub(paired[reference], axis=0)
        grouped_difference = difference.groupby(["workers", "family"], sort=False)
        shown = grouped_difference.mean().map("{:+.3f}".format) + " ±"
        shown += (1.96 * grouped_difference.sem()).map("{:.3f}".format)
        lines += ["", f"at the end, less that of {reference} (95 % interval, paired)", shown.to_string()]
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", default="4", help="numbers of workers, such as 1,4,16,64")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--families", default=",".join(FAMILIES), help="of: " + ", ".join(FAMILIES))
    parser.add_argument("--searches", default=";".join(COMPETITORS), help="of: " + "; ".join(COMPETITORS))
    parser.add_argument("--processes", type=int, default=1, help="cases side by side")
    parser.add_argument("--quick", action="store_true", help="4 workers, 2 seeds")
    parser.add_argument("--out", help="also write every case to this CSV file")
    options = parser.parse_args()
    # a model of 150 points is slower on several threads than on one
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    workers = [int(word) for word in options.workers.split(",")]
    seeds = 2 if options.quick else options.seeds
    print("settings of every competitor: as search.simulate has them,", COMPETITORS)
    results = run(options.families.split(","), options.searches.split(";"), workers, seeds, options.processes)
    if options.out:
        results.to_csv(options.out, index=False)
    print(table(results))


if __name__ == "__main__":
    main()
