"""The record of a search: one Optuna study, complete in memory and on disk.

Samplers and decisions read the study in memory, which costs no query; every change is also written to the
storage, by this process alone. What is on disk is always a study that Optuna's own tools can open.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.database import Database

Outcome = Literal["complete", "pruned", "diverged", "infeasible", "failed"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

_STATES: dict[Outcome, TrialState] = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "diverged": TrialState.PRUNED,
    "infeasible": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
# a broken constraint ranks a trial below every healthy one, whatever its last step
_CONSTRAINTS: dict[Outcome, str] = {"diverged": "finite", "infeasible": "feasible"}

UNSCORED: frozenset[str] = frozenset({"diverged", "infeasible", "failed"})
"""Outcomes whose trials have no place among the best, whatever they once scored."""

IMPORTED = "imported"
"""The fact that marks a trial of another search, which this one begins with: where it comes from."""


BEGUN = "begun"
"""The attribute of a study that is set last when it is made: one without it was cut off before."""


class StudyRecord:
    """One study. `url` None keeps it in memory only (a simulation)."""

    def __init__(self, name: str, direction: Literal["maximize", "minimize"], url: str | None = None) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._memory = optuna.storages.InMemoryStorage()
        self.study = optuna.create_study(study_name=name, direction=direction, storage=self._memory)
        self._told = optuna.samplers.RandomSampler()
        self._study_id = self._memory.get_study_id_from_name(name)
        self._disk = None if url is None else Database.create(url, name, direction)

    @classmethod
    def reopen(cls, url: str, name: str | None = None) -> StudyRecord:
        """The record of an earlier search, to go on with; without `name` that of the only one there.

        Raises ValueError where there is none.
        """
        disk, name = Database.open(url, name)
        saved = optuna.load_study(study_name=name, storage=disk.storage)
        minimize = saved.direction == StudyDirection.MINIMIZE
        record = cls(name, "minimize" if minimize else "maximize")
        for key, value in saved.user_attrs.items():
            record.study.set_user_attr(key, value)
        for trial in saved.get_trials(deepcopy=False):
            record.study.add_trial(trial)
            disk.ids[trial.number] = trial._trial_id
        record._disk = disk
        return record

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Note facts about the whole search, as JSON types."""
        for key, value in attributes.items():
            self.study.set_user_attr(key, value)
            if self._disk is not None:
                self._disk.storage.set_study_user_attr(self._disk.study_id, key, value)

    def name_metric(self, name: str) -> None:
        """Say what a trial's value is, where Optuna's own tools show it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.set_metric_names([name])
            if self._disk is not None:
                saved = optuna.load_study(study_name=self.study.study_name, storage=self._disk.storage)
                saved.set_metric_names([name])

    def ask(
        self,
        sampler: optuna.samplers.BaseSampler,
        suggest: Callable[[optuna.Trial], Any],
        baseline: tuple[str, Mapping[str, Any]] | None = None,
    ) -> tuple[int, Any]:
        """A new trial, RUNNING and not yet on disk; returns its number and what `suggest` made of it.

        `baseline` is a name and the parameters to use instead of the sampler's. Follow with `begin`.
        """
        self.study.sampler = sampler
        if baseline is not None:
            self.study.enqueue_trial(dict(baseline[1]), user_attrs={"baseline": baseline[0]})
        trial = self.study.ask()
        return trial.number, suggest(trial)

    def begin(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Note facts about a new trial and commit it to disk, before anything trains."""
        self.note(number, attributes)
        if self._disk is not None:
            self._disk.add(self.trial(number))

    def trial(self, number: int) -> FrozenTrial:
        """The trial as it stands; not to be changed."""
        return self._memory.get_trial(self._id(number))

    def trials(self) -> list[FrozenTrial]:
        """All trials as they stand, by number; not to be changed."""
        return self.study.get_trials(deepcopy=False)

    def note(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Note facts about a trial, as JSON types; on disk within a second if it is there already."""
        for key, value in attributes.items():
            self._memory.set_trial_user_attr(self._id(number), key, value)
            if self._disk is not None:
                self._disk.note(number, key, value)

    def report(self, number: int, epoch: int, score: float) -> None:
        """Note the score after an epoch; one already reported keeps its first value."""
        if epoch in self.trial(number).intermediate_values:
            return
        self._memory.set_trial_intermediate_value(self._id(number), epoch, score)
        if self._disk is not None:
            self._disk.report(number, epoch, score)

    def tell(self, number: int, outcome: Outcome, score: float | None = None) -> None:
        """End a trial, on disk when this returns. `score` goes with `complete` alone."""
        assert (score is not None) == (outcome == "complete")
        self.note(number, {"outcome": outcome})
        if outcome in _CONSTRAINTS:
            optuna.Trial(self.study, self._id(number)).set_constraint(_CONSTRAINTS[outcome], 1.0)
        # a sampler that ends studies itself, such as Optuna's GridSampler, would raise in its after_trial
        self.study.sampler = self._told
        self.study.tell(number, score, state=_STATES[outcome])
        if self._disk is not None:
            self._disk.finish(number, self.trial(number), _CONSTRAINTS.get(outcome))

    def flush(self, *, force: bool = False) -> bool:
        """Write what is noted; without `force` only if the last time was a second ago. Whether it did."""
        return self._disk is not None and self._disk.flush(force=force)

    def close(self) -> None:
        """Write everything and let the storage go."""
        if self._disk is not None:
            self._disk.close()
            self._disk = None

    def abandon(self) -> None:
        """Let the disk go as it is: it is another driver's by now."""
        if self._disk is not None:
            self._disk.storage.engine.dispose()
            self._disk = None

    def add_imported(self, trials: Iterable[FrozenTrial]) -> None:
        """Begin with trials of another search, finished and marked IMPORTED, on disk when this returns."""
        for trial in trials:
            self.study.add_trial(trial)
            if self._disk is not None:
                self._disk.add(self.trial(len(self.trials()) - 1))

    def _id(self, number: int) -> int:
        return self._memory.get_trial_id_from_study_id_trial_number(self._study_id, number)
