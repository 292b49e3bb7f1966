"""A proposal made before a slot is free for it, so that no slot waits for a sampler."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial


class ProposedAhead(optuna.samplers.BaseSampler):
    """What `sampler` proposes for trial `number` of the study as it is now, kept until it is asked for.

    The study does not know of it until then. `epochs` says how many epochs were known at that moment.
    For samplers that have `proposes_ahead`: any other may look for the trial in the study.
    """

    def __init__(
        self, sampler: optuna.samplers.BaseSampler, study: optuna.Study, number: int, epochs: int
    ) -> None:
        self.number, self.epochs = number, epochs
        self._sampler = sampler
        trial = create_trial(state=TrialState.RUNNING)
        trial.number = number
        self._space = sampler.infer_relative_search_space(study, trial)
        self._params = sampler.sample_relative(study, trial, self._space)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """As it was when the proposal was made."""
        return self._space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The proposal."""
        assert trial.number == self.number
        return self._params

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """As the sampler draws it, for what the proposal does not hold."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Passed on."""
        self._sampler.before_trial(study, trial)
