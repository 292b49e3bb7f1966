"""What one would use instead: Optuna by itself, and Ray Tune with its own Optuna searcher and ASHA.

Each is the library's own objects behind `benchmarks.virtual_time.OutsideSearch`, with the settings that its
documentation recommends, and the same rungs as everybody: 1, 3, 9 and so on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import optuna

Suggest = Callable[[optuna.Trial], None]
REDUCTION_FACTOR = 3


class OptunaAlone:
    """TPE and Optuna's pruner, as in the ask-and-tell chapter of its documentation."""

    settings = (
        "optuna TPESampler(), its defaults; SuccessiveHalvingPruner(min_resource=1,"
        " reduction_factor=3); told PRUNED where pruned, FAIL where diverged"
    )

    def __init__(self, suggest: Suggest, max_epochs: int, seed: int) -> None:
        self._suggest, self._max_epochs = suggest, max_epochs
        self._study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION_FACTOR),
        )
        self._trials: dict[int, optuna.Trial] = {}

    def next_work(self) -> tuple[int, dict[str, Any]]:
        """See `OutsideSearch`."""
        trial = self._study.ask()
        self._suggest(trial)
        self._trials[trial.number] = trial
        return trial.number, trial.params

    def report(self, number: int, epoch: int, value: float) -> bool:
        """See `OutsideSearch`."""
        trial = self._trials[number]
        trial.report(value, epoch)
        if epoch >= self._max_epochs:
            self._study.tell(trial, value)
        elif trial.should_prune():
            self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            return True
        del self._trials[number]
        return False

    def diverged(self, number: int) -> None:
        """See `OutsideSearch`."""
        self._study.tell(self._trials.pop(number), state=optuna.trial.TrialState.FAIL)


class StockRay:
    """`OptunaSearch` and `ASHAScheduler`, called as Tune's own loop calls them, without a cluster."""

    settings = (
        "ray.tune OptunaSearch(), its defaults; ASHAScheduler(grace_period=1,"
        " reduction_factor=3, brackets=1); a diverged trial is one that failed"
    )

    def __init__(self, suggest: Suggest, max_epochs: int, seed: int) -> None:
        from ray.tune.schedulers import ASHAScheduler
        from ray.tune.schedulers.trial_scheduler import TrialScheduler
        from ray.tune.search.optuna import OptunaSearch

        logging.getLogger("ray.tune.search.optuna.optuna_search").setLevel(logging.ERROR)
        self._searcher = OptunaSearch(suggest, metric="score", mode="max", seed=seed)
        # any: its methods ask for Tune's loop, and do not use it
        self._scheduler: Any = ASHAScheduler(
            metric="score",
            mode="max",
            max_t=max_epochs,
            grace_period=1,
            reduction_factor=REDUCTION_FACTOR,
            brackets=1,
        )
        self._stop = TrialScheduler.STOP
        self._asked = 0

    def next_work(self) -> tuple[int, dict[str, Any]]:
        """See `OutsideSearch`."""
        number = self._asked
        self._asked += 1
        params = self._searcher.suggest(str(number))
        assert params is not None
        self._scheduler.on_trial_add(None, _tune_trial(number))
        return number, params

    def report(self, number: int, epoch: int, value: float) -> bool:
        """See `OutsideSearch`. Tune does not report to the searcher what stops a trial."""
        result = {"score": value, "training_iteration": epoch}
        if self._scheduler.on_trial_result(None, _tune_trial(number), result) == self._stop:
            self._scheduler.on_trial_complete(None, _tune_trial(number), result)
            self._searcher.on_trial_complete(str(number), result=result)
            return False
        self._searcher.on_trial_result(str(number), result)
        return True

    def diverged(self, number: int) -> None:
        """See `OutsideSearch`."""
        self._searcher.on_trial_complete(str(number), error=True)


def _tune_trial(number: int) -> Any:
    # of a Trial, the scheduler reads nothing else
    return SimpleNamespace(trial_id=str(number))


OUTSIDE: dict[str, type[OptunaAlone] | type[StockRay]] = {"optuna": OptunaAlone, "stock ray": StockRay}
"""By name: what makes a search of a space, the most epochs of a trial, and a seed."""

RECORDED = {
    "hypertune": "Syne Tune 0.13 HyperTune, type promotion, its defaults; recorded by benchmarks.syne_tune",
    "mobster": "Syne Tune 0.13 MOBSTER, type promotion, its defaults; recorded by benchmarks.syne_tune",
}
"""Settings of what ran in an environment of its own."""
