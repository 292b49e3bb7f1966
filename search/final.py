"""What comes after the search: runs that confirm the best configurations, and the models that are tested."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, Final

import optuna

from search.results import RunFolder

if TYPE_CHECKING:
    from search.results import Results
    from trainables.place import Folder

CONFIRM: Final = "confirm"
REFIT: Final = "refit"
"""What the two further studies are called after the run's name and a slash."""
PLAN = "confirm_plan"
"""The search's attribute: which trials are confirmed, with how many seeds. None while the search goes on."""


@dataclass(frozen=True)
class Confirmed:
    """One configuration of the search, trained anew with seeds of its own and scored on validation."""

    trial: int
    """Its number in the search."""
    baseline: str
    """Its name where it was known beforehand, else empty."""
    search_score: float
    scores: tuple[float, ...]
    """Of each new seed with which it was trained to the end, in the metric of the search; at least one."""
    failures: int = 0
    """New seeds with which it diverged or failed."""
    maximize: bool = True
    """Whether a higher score is better."""

    @property
    def mean(self) -> float:
        """Of the scores: what the configuration earns."""
        return mean(self.scores)

    @property
    def deviation(self) -> float | None:
        """Standard deviation over seeds; None where there is one."""
        return stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def gap(self) -> float:
        """How much better the search scored it: luck."""
        return (self.search_score - self.mean) * (1 if self.maximize else -1)


@dataclass(frozen=True)
class Confirmation:
    """How far the confirm runs of a search have come."""

    planned: int
    """Trainings; 0 where nothing is planned."""
    ended: int
    best: list[Confirmed]
    """Best mean first, those that failed with a seed last; empty until every training has ended."""
    failed: list[int]
    """Trials that could not be trained with any of the new seeds."""


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


def confirmation(results: Results) -> Confirmation:
    """The confirm runs of the trials that the search ended with; those of an earlier end do not count."""
    plan = results.study.user_attrs.get(PLAN)
    if not plan:
        return Confirmation(0, 0, [], [])
    planned = {(of, seed) for of in plan["trials"] for seed in range(plan["seeds"])}
    study = final_study(results, CONFIRM)
    scores: dict[int, list[float]] = {}
    failures: Counter[int] = Counter()
    ended = 0
    for trial in [] if study is None else study.get_trials(deepcopy=False):
        of, seed = int(trial.user_attrs.get("of") or 0), int(trial.user_attrs.get("seed", -1))
        if (of, seed) not in planned or not trial.state.is_finished():
            continue
        ended += 1
        if trial.state.name == "COMPLETE":
            scores.setdefault(of, []).append(float(trial.values[0]))
        else:
            failures[of] += 1
    if ended < len(planned):
        return Confirmation(len(planned), ended, [], [])
    searched = {trial.number: trial for trial in results.study.get_trials(deepcopy=False)}
    maximize = results.study.direction.name == "MAXIMIZE"
    found = [
        Confirmed(
            trial=number,
            baseline=str(searched[number].user_attrs.get("baseline", "")),
            search_score=_last_score(searched[number]),
            scores=tuple(values),
            failures=failures[number],
            maximize=maximize,
        )
        for number, values in scores.items()
    ]
    sign = -1.0 if maximize else 1.0
    found.sort(key=lambda one: (one.failures > 0, sign * one.mean, one.trial))
    return Confirmation(len(planned), ended, found, sorted(set(plan["trials"]) - set(scores)))


def confirmed(results: Results) -> list[Confirmed]:
    """What was confirmed, best mean first, those that failed with a seed last; empty until all is done."""
    return confirmation(results).best


def final_models(results: Results) -> list[FinalModel]:
    """The models to be tested, those of the winner first; where it was not refitted, `best/` is its model.

    Empty where the search found nothing.
    """
    study = final_study(results, REFIT)
    winners = {one.trial for one in confirmed(results)[:1]}
    models = [
        FinalModel(
            folder=stage_folder(results.folder, REFIT, trial.number),
            trial=int(trial.user_attrs["of"]),
            baseline=str(trial.user_attrs.get("name", "")),
            winner=int(trial.user_attrs["of"]) in winners,
        )
        for trial in ([] if study is None or not winners else study.get_trials(deepcopy=False))
        if trial.state.name == "COMPLETE"
    ]
    models = [
        model
        for model in models
        # an earlier winner, of a search that went on, is none any more
        if (model.winner or model.baseline) and (model.folder / "model.safetensors").is_file()
    ]
    winning = [model for model in models if model.winner] or _searched_model(results)
    return winning + [model for model in models if not model.winner] if winning else []


def _searched_model(results: Results) -> list[FinalModel]:
    """What the search itself left in `best/`; none where it found nothing."""
    file = results.folder.best / "config.json"
    if not file.is_file():
        return []
    try:  # the best may have had no checkpoint, and this be the next best
        number = int(json.loads(file.read_text(encoding="utf-8"))["about"]["trial"])
    except (OSError, ValueError, KeyError):  # it will be refused when it is loaded
        number = int(results.best["trial"])
    trial = results.study.get_trials(deepcopy=False)[number]
    baseline = str(trial.user_attrs.get("baseline", ""))
    return [FinalModel(results.folder.best, number, baseline, winner=True)]


def stage_folder(folder: RunFolder, kind: str, number: int) -> Path:
    """Where a training of the study `NAME/confirm` or `NAME/refit` leaves what it keeps."""
    return folder.path / kind / f"{number:05d}"


def stage_checkpoints(folder: RunFolder, kind: str, number: int) -> Folder:
    """Where such a training has its checkpoints and events: the same folder, unless in an object store."""
    return folder.checkpoints / kind / f"{number:05d}"


def final_study(results: Results, kind: str) -> optuna.Study | None:
    """The study `NAME/confirm` or `NAME/refit`, for reading; None where there is none."""
    name = f"{results.study.study_name}/{kind}"
    storage = results.study._storage  # the connection that is open already
    if name not in optuna.get_all_study_names(storage):
        return None
    return optuna.load_study(study_name=name, storage=storage)


def plan_of(trials: list[int], seeds: int) -> dict[str, Any]:
    """The value of the attribute PLAN."""
    return {"trials": trials, "seeds": seeds}


def _last_score(trial: optuna.trial.FrozenTrial) -> float:
    last = trial.last_step
    assert last is not None
    return float(trial.intermediate_values[last])
