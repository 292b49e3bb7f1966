"""What the trials of a study show, as arrays, kept up to date at a cost that hardly grows with the study."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterable, Sequence
from itertools import compress
from operator import is_not

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from search.conditions import Conditions, asking_order
from search.encoding import Bools, Floats, UnionSpace, widened

GROWTH = 1.2
"""Conditions are learnt anew each time that trials have become this many times as many."""


class Observations:
    """Configurations and values of a study's trials; row i is trial number i."""

    def __init__(self) -> None:
        self.space = UnionSpace({}, frozenset())
        self.distributions: dict[str, BaseDistribution] = {}
        self.values: dict[float, dict[int, float]] = {}
        """By step, then by trial number: the values reported of trials that are not bad. The value of a
        trial that completed without a report stands at step infinity."""
        self.bad: set[int] = set()
        """Trials with a value that is not finite or a constraint that is broken."""
        self.running: set[int] = set()
        self._trials: list[FrozenTrial] = []
        self._asked: list[int] = []  # parameters of each trial
        self._with_params: list[int] = []  # trials that have any; one that is only now asked for has none
        self._units: Floats = np.zeros((0, 0))
        self._active: Bools = np.zeros((0, 0), dtype=bool)
        self._order: list[str] = []
        self.known: set[bytes] = set()
        """The `key` of each configuration that a trial has."""
        self._conditions: tuple[int, UnionSpace, Conditions] | None = None

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        """Take in what changed since the last time, in trials by number."""
        old = self._trials
        # a storage in memory hands out the same object until the trial changes
        changed = [*compress(trials, map(is_not, old, trials)), *trials[len(old) :]]
        # counted, not compared: a Trial writes its parameters into the object that it was made with
        fresh = [t for t in changed if t.number >= len(old) or self._asked[t.number] != len(t.params)]
        for trial in changed:
            if trial.number < len(old):
                self._forget(old[trial.number])
            self._note(trial)
        self._trials = list(trials)
        self._asked += [0] * (len(trials) - len(old))
        for trial in fresh:
            if trial.params and not self._asked[trial.number]:
                insort(self._with_params, trial.number)
            self._asked[trial.number] = len(trial.params)
        if any(self._changes_space(trial) for trial in fresh):
            self._learn_space(fresh)
            fresh = self._trials
        self._write_rows(fresh)

    def rows(self, numbers: Iterable[int]) -> Floats:
        """Configurations of these trials as columns for a model: (trials, columns)."""
        index = list(numbers)
        return self.space.encode(self._units[index], self._active[index])

    def units(self, numbers: Iterable[int]) -> Floats:
        """Configurations of these trials as places in [0, 1]: (trials, parameters)."""
        return self._units[list(numbers)]

    @staticmethod
    def key(units: Floats, active: Bools) -> bytes:
        """What tells this configuration from others, shape (parameters,) each."""
        return np.where(active, np.round(units, 9), -1.0).tobytes()

    def conditions(self) -> Conditions:
        """Which parameters a configuration has, learnt from the first trials, most of them.

        They depend on the trials alone, not on when this was called before: a search that goes on in
        another process proposes the same.
        """
        count = 1
        while (more := max(count + 1, int(count * GROWTH))) <= len(self._with_params):
            count = more
        if self._conditions is None or self._conditions[:2] != (count, self.space):
            asked = self._with_params[:count]
            learnt = Conditions(self._units[asked], self._active[asked])
            self._conditions = (count, self.space, learnt)
        return self._conditions[2]

    def _note(self, trial: FrozenTrial) -> None:
        number = trial.number
        reported: dict[float, float] = dict(trial.intermediate_values.items())
        if trial.state == TrialState.COMPLETE and not reported and trial.values is not None:
            reported[math.inf] = trial.values[0]
        broken = any(value > 0 for value in trial.constraints.values())
        if broken or not all(math.isfinite(value) for value in reported.values()):
            self.bad.add(number)
        else:
            for step, value in reported.items():
                self.values.setdefault(step, {})[number] = value
        if trial.state == TrialState.RUNNING and trial.params:
            self.running.add(number)

    def _forget(self, trial: FrozenTrial) -> None:
        for step in (*trial.intermediate_values, math.inf):
            self.values.get(step, {}).pop(trial.number, None)
        self.bad.discard(trial.number)
        self.running.discard(trial.number)

    def _changes_space(self, trial: FrozenTrial) -> bool:
        if any(self.distributions.get(name) != new for name, new in trial.distributions.items()):
            return True
        # a parameter that was always asked for, until now
        needed = zip(self.space.names, self.space.conditional, strict=True)
        return bool(trial.params) and any(not free and name not in trial.params for name, free in needed)

    def _learn_space(self, fresh: Sequence[FrozenTrial]) -> None:
        self._order = asking_order([self._order, *(list(trial.params) for trial in fresh)])
        known = self.distributions
        for trial in fresh:
            for name, new in trial.distributions.items():
                known[name] = widened(known[name], new) if name in known else new
        kept = {name: known[name] for name in self._order if not known[name].single()}
        asked = [trial.params for trial in self._trials if trial.params]
        conditional = frozenset(name for name in kept if not all(name in params for params in asked))
        self.space = UnionSpace(kept, conditional)
        self._units = np.zeros((0, len(kept)))
        self._active = np.zeros((0, len(kept)), dtype=bool)
        self.known = set()

    def _write_rows(self, trials: Sequence[FrozenTrial]) -> None:
        short = len(self._trials) - len(self._units)
        if short > 0:
            spare = short + len(self._trials) // 4  # so that copying is rare
            width = len(self.space.names)
            self._units = np.vstack([self._units, np.full((spare, width), 0.5)])
            self._active = np.vstack([self._active, np.zeros((spare, width), dtype=bool)])
        for trial in trials:
            units, active = self.space.row(trial.params)
            self._units[trial.number], self._active[trial.number] = units, active
            if trial.params:
                self.known.add(self.key(units, active))
