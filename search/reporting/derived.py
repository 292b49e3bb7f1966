"""The search as Optuna's own figures can take it: scored trials only, and no name from outside.

Optuna counts a trial that was stopped early as one without a value, and in a search with rungs that is most
of them. Parameters are called p0, p1, ... here, for plotly draws HTML that it finds in a name.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.reporting.drawing import labels
from search.study import UNSCORED

ENOUGH = 100
"""Trials at a rung from which on it says more about parameters than a lower one does."""
FEW = 50
"""Trials below which importance is a rough guess."""
LEAST = 5
"""Trials without which nothing can be said of parameters."""
CHOICE = 14
"""Most characters of a choice in a figure."""


@dataclass(frozen=True)
class Derived:
    """A study in memory, and what its parameters are really called."""

    study: optuna.Study
    names: dict[str, str]
    """Real name by name in `study`."""


def derive(
    trials: list[FrozenTrial], value: Callable[[FrozenTrial], float | None], maximize: bool
) -> Derived:
    """A study of the trials to which `value` gives a finite number, complete with that number.

    Parameters of which all trials have the same value are left out.
    """
    scored = [(trial, number) for trial in trials if (number := value(trial)) is not None]
    scored = [(trial, number) for trial, number in scored if math.isfinite(number)]
    kinds: dict[str, BaseDistribution] = {}
    for trial, _ in scored:
        kinds |= trial.distributions
    seen = {name: {repr(trial.params.get(name)) for trial, _ in scored} for name in kinds}
    names = {f"p{i}": name for i, name in enumerate(name for name in kinds if len(seen[name]) > 1)}
    study = optuna.create_study(direction="maximize" if maximize else "minimize")
    parameters = {short: _Parameter.of(kinds[name]) for short, name in names.items()}
    study.add_trials(
        create_trial(
            state=TrialState.COMPLETE,
            value=number,
            params={
                short: parameters[short].value(trial.params[name])
                for short, name in names.items()
                if name in trial.params
            },
            distributions={
                short: parameters[short].distribution for short, name in names.items() if name in trial.params
            },
        )
        for trial, number in scored
    )
    return Derived(study, names)


@dataclass(frozen=True)
class _Parameter:
    distribution: BaseDistribution
    choices: dict[str, Any]
    """What a choice is called here, by how Python writes it; empty where it is a number."""

    @classmethod
    def of(cls, kind: BaseDistribution) -> _Parameter:
        if not isinstance(kind, CategoricalDistribution):
            return cls(kind, {})
        if all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in kind.choices):
            return cls(kind, {})  # numbers are drawn in their order
        shown = labels(kind.choices, CHOICE)
        return cls(CategoricalDistribution(shown), dict(zip(map(repr, kind.choices), shown, strict=True)))

    def value(self, value: Any) -> Any:
        return self.choices[repr(value)] if self.choices else value


def last_score(trial: FrozenTrial) -> float | None:
    """The score at the last epoch trained; None where the outcome is one without a score."""
    last = trial.last_step
    if last is None or trial.user_attrs.get("outcome") in UNSCORED:
        return None
    return trial.intermediate_values[last]


def thinned(trials: list[FrozenTrial], most: int, maximize: bool) -> list[FrozenTrial]:
    """At most so many trials: the best half, and of the others every so many-th. In order of number."""
    if len(trials) <= most:
        return trials
    worst = -math.inf if maximize else math.inf

    def goodness(trial: FrozenTrial) -> float:
        score = last_score(trial)
        value = score if score is not None and math.isfinite(score) else worst
        return value if maximize else -value

    ranked = sorted(trials, key=goodness, reverse=True)
    best, others = ranked[: most // 2], sorted(ranked[most // 2 :], key=lambda trial: trial.number)
    places = most - len(best)
    some = [others[i * len(others) // places] for i in range(places)]
    return sorted([*best, *some], key=lambda trial: trial.number)


def comparable_epoch(trials: list[FrozenTrial]) -> int | None:
    """After how many epochs trials are best compared: the last that `ENOUGH` of them have reached, or else
    the first that any has. None where nothing has trained."""
    reached: dict[int, int] = {}
    for trial in trials:
        for epoch in trial.intermediate_values:
            reached[epoch] = reached.get(epoch, 0) + 1
    enough = [epoch for epoch, count in reached.items() if count >= ENOUGH]
    return max(enough, default=min(reached, default=None))


def importances(trials: list[FrozenTrial], maximize: bool) -> tuple[Derived, dict[str, float], int] | None:
    """The study compared after the same number of epochs, what each parameter matters in it (largest first),
    and that number; None where there is too little to say.

    PED-ANOVA (Watanabe et al., 2023): takes moments for thousands of trials, and has no randomness.
    """
    epoch = comparable_epoch(trials)
    if epoch is None:
        return None
    derived = derive(trials, lambda trial: trial.intermediate_values.get(epoch), maximize)
    if len(derived.study.get_trials(deepcopy=False)) < LEAST or len(derived.names) < 2:
        return None
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    with quiet():
        found = optuna.importance.get_param_importances(derived.study, evaluator=evaluator)
    return derived, found, epoch


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from warning of few trials: the page says how many there are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
