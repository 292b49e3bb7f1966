"""Which trainings follow a search, what they will take, and how many of them a budget allows."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.trial import FrozenTrial

START_SECONDS = 15.0
"""Until the workers of a further study train."""
MARGIN = 1.15
"""By how much trainings at full length may take longer than the search's epochs say."""


@dataclass(frozen=True)
class Rerun:
    """One training at full length of a configuration that the search has trained."""

    of: int
    """The trial of the search."""
    seed: int
    """Which of its new seeds, from 0."""
    params: dict[str, Any]
    name: str
    """The baseline's name, or empty."""
    seconds: float
    """What it will take, judged by the search."""

    @property
    def key(self) -> str:
        """What the training is called in its study."""
        return f"trial {self.of}, seed {self.seed}"


def unlike(trials: Sequence[FrozenTrial], count: int) -> list[FrozenTrial]:
    """The first `count` trials of which no two have the same parameters."""
    found: dict[str, FrozenTrial] = {}
    for trial in trials:
        if len(found) == count:
            break
        found.setdefault(repr(sorted(trial.params.items())), trial)
    return list(found.values())


def reruns(trials: Sequence[FrozenTrial], seeds: int, max_epochs: int, besides: float = 0.0) -> list[Rerun]:
    """Each trial with each seed; all of them with the first seed come first.

    A training takes its epochs' seconds, judged by the search, and those `besides`.
    """
    return [
        Rerun(
            of=trial.number,
            seed=seed,
            params=dict(trial.params),
            name=str(trial.user_attrs.get("baseline", "")),
            seconds=_full_seconds(trial, max_epochs) + besides,
        )
        for seed in range(seeds)
        for trial in trials
    ]


def _full_seconds(trial: FrozenTrial, max_epochs: int) -> float:
    """What training this configuration to the end takes, judged by the epochs it has had."""
    epochs = trial.last_step or 0
    return float(trial.user_attrs.get("seconds", 0.0)) / epochs * max_epochs if epochs else 0.0


def wall_seconds(trainings: Sequence[Rerun], slots: int) -> float:
    """Until all are done, each given to the slot that is free first, with a margin; 0 for none."""
    if not trainings:
        return 0.0
    free = [0.0] * min(slots, len(trainings))
    for training in trainings:
        heapq.heapreplace(free, free[0] + training.seconds)
    return MARGIN * max(free) + START_SECONDS


def busy_seconds(trainings: Sequence[Rerun]) -> float:
    """Of all slots together, with a margin."""
    return MARGIN * sum(training.seconds for training in trainings)


@dataclass(frozen=True)
class Finish:
    """How thoroughly a search is to be finished."""

    top: int
    """Configurations to confirm; 0: none, and nothing is refitted."""
    seeds: int
    """New seeds of each, and of the winner's final models."""
    refit: bool = True
    """Whether there are any final models."""

    def less(self) -> Finish:
        """The next smaller one: fewer seeds, or fewer configurations where there are more of those."""
        if self.seeds > 1 and self.seeds >= self.top:
            return replace(self, seeds=self.seeds - 1)
        return replace(self, top=self.top - 1)

    def largest(self, fits: Callable[[Finish], bool]) -> Finish:
        """This one, or the largest of the smaller ones that fits; with 0 configurations where none does."""
        finish = self
        while finish.top and not fits(finish):
            finish = finish.less()
        return finish
