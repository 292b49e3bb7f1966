"""For samplers that learn from finished trials only: those that wait or still train, shown as pruned."""

from __future__ import annotations

import math
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial


class UnfinishedAsPruned(optuna.samplers.BaseSampler):
    """Lets `sampler` see every trial that has a score as pruned at its last epoch.

    Where trials wait at rungs for their promotion, hardly any is finished before the search ends, and a
    sampler such as TPE would have nothing to learn from. Made for one proposal: what it shows is the study
    at that moment. Costs time in proportion to the trials of the study.
    """

    proposes_ahead = True

    def __init__(self, sampler: optuna.samplers.BaseSampler) -> None:
        self._sampler = sampler
        self._shown: optuna.Study | None = None

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """As the sampler infers it from what it is shown."""
        return self._sampler.infer_relative_search_space(self._show(study), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the sampler draws it from what it is shown."""
        shown = self._show(study)
        if trial.number == len(shown.get_trials(deepcopy=False)):
            # proposed ahead of need, for a trial that is in no study yet: TPE notes things about it
            shown.add_trial(create_trial(state=TrialState.RUNNING))
        return self._sampler.sample_relative(shown, shown.trials[trial.number], search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """As the sampler draws it from what it is shown."""
        return self._sampler.sample_independent(self._show(study), trial, param_name, param_distribution)

    def _show(self, study: optuna.Study) -> optuna.Study:
        if self._shown is None:
            self._shown = optuna.create_study(direction=study.direction)
            self._shown.add_trials(_as_pruned(trial) for trial in study.get_trials(deepcopy=False))
        return self._shown


def _as_pruned(trial: FrozenTrial) -> FrozenTrial:
    last = trial.last_step
    if trial.state != TrialState.RUNNING or last is None:
        return trial
    value = trial.intermediate_values[last]
    return create_trial(
        state=TrialState.PRUNED,
        value=value if math.isfinite(value) else None,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values=trial.intermediate_values,
        system_attrs=trial.system_attrs,
    )
