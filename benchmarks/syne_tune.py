"""Syne Tune's HyperTune and MOBSTER on the tasks of `benchmarks.search_quality`, recorded in syne_tune.csv.

They need an environment of their own, because of the versions they ask for:

    uv venv --python 3.11 /tmp/syne
    uv pip install --python /tmp/syne "syne-tune[gpsearchers]==0.13" "optuna>=5,<6" "pyarrow<19" scikit-learn
    OMP_NUM_THREADS=1 /tmp/syne/bin/python -m benchmarks.syne_tune --seeds 5

Their space is flat: every parameter that a task may ask for is always there, and one that a configuration
does not ask for has no effect. A case that the file has already is not run again.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import logging
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from benchmarks import virtual_time
from benchmarks.cases import Case, judged
from benchmarks.curve_families import MAX_EPOCHS
from benchmarks.tasks import TASKS, Task
from spaces import fixed_trial

FILE = Path(__file__).parent / "syne_tune.csv"
DRAWS = 300
"""Random configurations in which every parameter of a task is sure to turn up."""


class SyneTune:
    """A scheduler of Syne Tune, called as its Tuner calls it; see `benchmarks.virtual_time.OutsideSearch`."""

    def __init__(self, name: str, task: Task, seed: int) -> None:
        from syne_tune.optimizer.baselines import MOBSTER, HyperTune

        self._task = task
        # every rung may be the first one of a trial: without it HyperTune has nothing to choose from
        more = {"hypertune": (HyperTune, {"brackets": 4}), "mobster": (MOBSTER, {})}
        make, settings = more[name]
        self._scheduler = make(
            _flat_space(task),
            metric="score",
            mode="max",
            resource_attr="epoch",
            max_t=MAX_EPOCHS,
            grace_period=1,
            reduction_factor=3,
            type="promotion",
            random_seed=seed,
            search_options={"debug_log": False},
            **settings,
        )
        self._trials: list[Any] = []

    def next_work(self) -> tuple[int, dict[str, Any]]:
        """See `OutsideSearch`."""
        from syne_tune.backend.trial_status import Trial

        suggestion = self._scheduler.suggest(len(self._trials))
        if suggestion.spawn_new_trial_id:
            number = len(self._trials)
            self._trials.append(Trial(number, suggestion.config, datetime.datetime.now(datetime.UTC)))
            self._scheduler.on_trial_add(self._trials[number])
        else:
            number = suggestion.checkpoint_trial_id
        return number, self._params(self._trials[number].config)

    def report(self, number: int, epoch: int, value: float) -> bool:
        """See `OutsideSearch`."""
        from syne_tune.optimizer.scheduler import SchedulerDecision

        trial = self._trials[number]
        decision = self._scheduler.on_trial_result(trial, {"score": value, "epoch": epoch})
        if decision == SchedulerDecision.CONTINUE:
            return True
        self._scheduler.on_trial_remove(trial)
        return False

    def diverged(self, number: int) -> None:
        """See `OutsideSearch`."""
        self._scheduler.on_trial_error(self._trials[number])

    def _params(self, config: dict[str, Any]) -> dict[str, Any]:
        """What the task asks for, of a flat configuration."""
        trial = fixed_trial({name: _plain(value) for name, value in config.items()})
        self._task.suggest(trial)
        return trial.params


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _flat_space(task: Task) -> dict[str, Any]:
    """Every parameter that random configurations have, as Syne Tune's domains."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = {}
    for _ in range(DRAWS):
        trial = study.ask()
        task.suggest(trial)
        space.update(trial.distributions)
    return {name: _domain(distribution) for name, distribution in space.items() if not distribution.single()}


def _domain(distribution: Any) -> Any:
    from syne_tune import config_space as domains

    match distribution:
        case CategoricalDistribution(choices=choices):
            return domains.choice(list(choices))
        case FloatDistribution(step=None, low=low, high=high, log=log):
            return (domains.loguniform if log else domains.uniform)(low, high)
        case IntDistribution(step=1, low=low, high=high, log=log):
            return (domains.lograndint if log else domains.randint)(low, high)
        case IntDistribution(step=step, low=low, high=high):  # Syne Tune has none that is logarithmic too
            return domains.finrange(low, high, 1 + (high - low) // step, cast_int=True)
        case FloatDistribution(step=float(step), low=low, high=high):
            return domains.finrange(low, high, 1 + round((high - low) / step))
    raise AssertionError(distribution)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--families", default=",".join(TASKS), help="of: " + ", ".join(TASKS))
    parser.add_argument("--searches", default="hypertune,mobster")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    done = set()
    if FILE.exists():
        recorded = pd.read_csv(FILE)[["workers", "task", "search", "seed"]]
        done = {Case(*row) for row in recorded.itertuples(index=False)}
    wanted = product(options.families.split(","), range(options.seeds), options.searches.split(","))
    for task_name, seed, search in wanted:
        case = Case(options.workers, task_name, search, seed)
        if case in done:
            continue
        task, began = case.make_task(), time.process_time()
        rows = virtual_time.run(
            SyneTune(search, task, seed),
            task.curve,
            workers=case.workers,
            max_epochs=MAX_EPOCHS,
            seconds=case.budget(),
        )
        row = judged(case, rows, time.process_time() - began)
        new = not FILE.exists()
        with FILE.open("a", newline="") as file:
            writer = csv.DictWriter(file, row.keys())
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(case, row["trials"], row["ms"], row["at 1.00000"], flush=True)


if __name__ == "__main__":
    main()
