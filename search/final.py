"""What comes after the search: runs that confirm the best configurations, and the models that are tested."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Final

import optuna

from search.results import RunFolder, open_study

if TYPE_CHECKING:
    from search.results import Results

CONFIRM: Final = "confirm"
REFIT: Final = "refit"
"""What the two further studies are called after the run's name and a slash."""


@dataclass(frozen=True)
class Confirmed:
    """One configuration of the search, trained anew with seeds of its own and scored on validation."""

    trial: int
    """Its number in the search."""
    baseline: str
    """Its name where it was known beforehand, else empty."""
    search_score: float
    scores: tuple[float, ...]
    """Of each new seed, in the metric of the search."""
    failures: int = 0
    """New seeds with which it diverged or failed."""

    @property
    def mean(self) -> float:
        """Of the scores: what the configuration earns."""
        return mean(self.scores)

    @property
    def deviation(self) -> float:
        """Standard deviation over seeds; 0 where there is one."""
        return stdev(self.scores) if len(self.scores) > 1 else 0.0

    @property
    def gap(self) -> float:
        """How much higher the search scored it: luck."""
        return self.search_score - self.mean


@dataclass(frozen=True)
class FinalModel:
    """A model to be tested, in a folder as `trainables.classifier` writes it."""

    folder: Path
    trial: int
    """The trial of the search whose configuration it has."""
    baseline: str
    """Its name where that was known beforehand, else empty."""
    winner: bool
    """Whether it has the configuration that the search found best; each of these has another seed."""


def confirmed(results: Results) -> list[Confirmed]:
    """What was confirmed, best mean first, those that failed with a seed last; empty where nothing was."""
    study = final_study(results.folder, CONFIRM)
    if study is None:
        return []
    scores: dict[int, list[float]] = {}
    failures: Counter[int] = Counter()
    for trial in study.get_trials(deepcopy=False):
        if trial.state.name == "COMPLETE":
            scores.setdefault(int(trial.user_attrs["of"]), []).append(float(trial.values[0]))
        elif trial.state.is_finished():
            failures[int(trial.user_attrs["of"])] += 1
    searched = {trial.number: trial for trial in results.study.get_trials(deepcopy=False)}
    found = [
        Confirmed(
            trial=number,
            baseline=str(searched[number].user_attrs.get("baseline", "")),
            search_score=_last_score(searched[number]),
            scores=tuple(values),
            failures=failures[number],
        )
        for number, values in scores.items()
    ]
    sign = -1.0 if results.study.direction.name == "MAXIMIZE" else 1.0
    return sorted(found, key=lambda one: (one.failures > 0, sign * one.mean, one.trial))


def final_models(results: Results) -> list[FinalModel]:
    """The models to be tested, those of the winner first; `best/` alone where nothing was refitted.

    Empty where the search found nothing.
    """
    study = final_study(results.folder, REFIT)
    trials = [] if study is None else study.get_trials(deepcopy=False)
    winners = {one.trial for one in confirmed(results)[:1]}
    models = [
        FinalModel(
            folder=stage_folder(results.folder, REFIT, trial.number),
            trial=int(trial.user_attrs["of"]),
            baseline=str(trial.user_attrs.get("name", "")),
            winner=int(trial.user_attrs["of"]) in winners,
        )
        for trial in trials
        if trial.state.name == "COMPLETE"
    ]
    # an earlier winner, of a search that went on, is none any more
    models = [model for model in models if model.winner or model.baseline]
    models.sort(key=lambda model: not model.winner)
    if models or not (results.folder.best / "config.json").is_file():
        return models
    best = results.best
    return [FinalModel(results.folder.best, best["trial"], best["baseline"], winner=True)]


def stage_folder(folder: RunFolder, kind: str, number: int) -> Path:
    """Where a training of the study `NAME/confirm` or `NAME/refit` leaves what it keeps."""
    return folder.path / kind / f"{number:05d}"


def final_study(folder: RunFolder, kind: str) -> optuna.Study | None:
    """The study `NAME/confirm` or `NAME/refit`, for reading; None where there is none."""
    search = open_study(folder)
    name = f"{search.study_name}/{kind}"
    storage = search._storage  # the connection that is open already
    if name not in optuna.get_all_study_names(storage):
        return None
    return optuna.load_study(study_name=name, storage=storage)


def _last_score(trial: optuna.trial.FrozenTrial) -> float:
    last = trial.last_step
    assert last is not None
    return float(trial.intermediate_values[last])
