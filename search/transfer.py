"""What a new search takes over from an earlier one over the same space (`--start-from`)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from search.settings import UsageError
from spaces import fixed_trial
from trainables.config import Task

if TYPE_CHECKING:
    from pathlib import Path

    from optuna.trial import FrozenTrial

    from search.results import RunFolder
    from spaces import Space

FIRST = 5
"""How many of the earlier search's best configurations are trained first."""


@dataclass(frozen=True)
class Transfer:
    """Configurations to train first, by name, and trials that the sampler learns from."""

    first: dict[str, dict[str, Any]] = field(default_factory=dict)
    trials: list[FrozenTrial] = field(default_factory=list)
    note: str = ""
    """What is taken over, in words."""


def transfer_from(
    run: Path | str, space: Space, task: Task, metric: str, hashes: Mapping[str, str]
) -> Transfer:
    """What the run in a folder, or at an address, has to give to a search over `space`; `hashes` are those of
    that search.

    Its best configurations are worth training anywhere. Its scores tell a sampler something only where they
    mean the same: same data, task, training code and metric. Raises UsageError where there is no run, or
    one over another space.
    """
    from search.copies import opened

    with opened(run) as folder:
        return _transfer_from(folder, space, task, metric, hashes)


def _transfer_from(
    folder: RunFolder, space: Space, task: Task, metric: str, hashes: Mapping[str, str]
) -> Transfer:
    from search.results import Results
    from search.resume import saved_document

    path = folder.location
    document = saved_document(folder, "--start-from")
    if document["hashes"]["space"] != hashes["space"]:
        raise UsageError(
            f"--start-from {path} searched space {document['settings']['space']}, which is not {space.name} "
            "as it is now: its configurations mean nothing here"
        )
    results = Results(folder)
    first: dict[str, dict[str, Any]] = {}
    study_trials = results.study.get_trials(deepcopy=False)
    for number in results.trials.dropna(subset="score")["trial"].tolist():
        params = study_trials[number].params
        if len(first) < FIRST and params not in first.values() and _fits(space, task, params):
            first[f"{folder.path.name}/{number}"] = params
    differs = [
        name
        for name, same in (
            ("data set", document["hashes"]["data"] == hashes["data"]),
            ("training code", document["hashes"]["code"] == hashes["code"]),
            ("task", Task(**document["task"]) == task),
            ("metric", document["settings"]["metric"] == metric),
        )
        if not same
    ]
    trials = (
        [] if differs else [_imported(folder.path.name, t) for t in study_trials if t.intermediate_values]
    )
    learns = f"the sampler learns from {len(trials)} trials"
    if differs:
        learns = f"nothing is learnt from its scores: another {' and '.join(differs)}"
    return Transfer(first, trials, f"the best {len(first)} of {path} are trained first; {learns}")


def _fits(space: Space, task: Task, params: dict[str, Any]) -> bool:
    """Whether the space makes a configuration for this task of these parameters."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            space.suggest(fixed_trial(params), task)
        except Exception:  # whatever a user's space raises for a task that it was not made for
            return False
    return True


def _imported(run: str, trial: FrozenTrial) -> FrozenTrial:
    """A trial of another study as a finished one of ours, with every score that it reported."""
    from optuna.trial import TrialState, create_trial

    from search.study import IMPORTED

    complete = trial.state == TrialState.COMPLETE
    broken = {name: value for name, value in trial.system_attrs.items() if name.startswith("constraints")}
    return create_trial(
        state=TrialState.COMPLETE if complete else TrialState.PRUNED,
        value=trial.value if complete else None,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values=trial.intermediate_values,
        user_attrs={IMPORTED: f"{run}/{trial.number}"},
        system_attrs=broken,
    )
