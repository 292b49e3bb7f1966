"""Trials that a search has not had yet: what they train, where they are first judged, whether they may."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from search.ahead import ProposedAhead
from search.ladder import Ladder
from search.study import StudyRecord
from search.work import ChoosesStart, Plan
from spaces import fixed_trial


@dataclass(frozen=True)
class NewTrial:
    """A trial that has just entered the record."""

    config: Any
    start: int
    """Level of the first rung that decides about it; 0 is the lowest."""
    known: bool
    """Whether its configuration was known beforehand."""
    refused: str | None
    """Why it must not be trained; None where it may."""


@dataclass(frozen=True)
class _Unusable:
    """In place of a configuration, why there is none."""

    reason: str


class NewTrials:
    """Configurations known beforehand, in their order, then what a sampler proposes.

    `suggest`, `sampler`, `limit` and `about` as a controller has them; `known` are the configurations.
    """

    def __init__(
        self,
        record: StudyRecord,
        plan: Plan,
        ladder: Ladder,
        *,
        suggest: Callable[[optuna.Trial], Any],
        sampler: Callable[[int], optuna.samplers.BaseSampler],
        limit: Callable[[Any], tuple[str | None, Mapping[str, Any]]],
        known: Mapping[str, Mapping[str, Any]],
        about: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._record, self._plan, self._ladder = record, plan, ladder
        self._suggest, self._sampler = suggest, sampler
        self._limit, self._about = limit, about
        self._known = list(known.items())
        self._ahead: ProposedAhead | None = None

    @property
    def known(self) -> int:
        """Configurations known beforehand that are still to come."""
        return len(self._known)

    def ask(self, number: int) -> NewTrial:
        """Trial `number`, the next one, which enters the record."""
        known = self._known.pop(0) if self._known else None
        ahead = self._ahead if self.prepared_at(number) is not None and known is None else None
        sampler = ahead or self._sampler(number)
        asked, config = self._record.ask(sampler, self._try_suggest, known)
        assert asked == number
        refused, facts = self.judged(config)
        start = self._start(sampler, number) if known is None else 0
        told = self._about.get(known[0], {}) if known is not None else {}
        self._record.begin(number, {**facts, **told, **({"start": start} if start else {})})
        return NewTrial(config, start, known is not None, refused)

    def prepare(self, number: int, epochs: int, count: int) -> int:
        """Propose trial `number` now, while nobody waits for it, and those after it where the sampler can, up
        to `count`; `epochs` says how many are on record. Returns how many were proposed.
        """
        sampler = self._sampler(number)
        if self._known or not getattr(sampler, "proposes_ahead", False):
            return 0
        self._ahead = ProposedAhead(sampler, self._record.study, number, epochs, count=count)
        return len(self._ahead.numbers)

    def prepared_at(self, number: int) -> int | None:
        """How many epochs were on record when trial `number` was proposed ahead; None where it was not."""
        return self._ahead.epochs if self._ahead is not None and number in self._ahead.numbers else None

    def config_of(self, params: Mapping[str, Any]) -> Any:
        """The configuration of a trial that has these parameters."""
        return self._try_suggest(fixed_trial(params))

    def judged(self, config: Any) -> tuple[str | None, Mapping[str, Any]]:
        """Why a configuration must not be trained, or None, and facts about it."""
        if isinstance(config, _Unusable):
            return config.reason, {}
        try:
            return self._limit(config)
        except Exception as error:  # a network of a user's own may raise anything
            return f"the network cannot be built: {error!r:.300}", {}

    def _try_suggest(self, trial: optuna.Trial) -> Any:
        try:
            return self._suggest(trial)
        except Exception as error:  # so may a space, for one configuration in many
            return _Unusable(f"the space raised {error!r:.300}")

    def _start(self, sampler: optuna.samplers.BaseSampler, number: int) -> int:
        if not isinstance(sampler, ChoosesStart) or self._plan.rule == "none":
            return 0
        start = sampler.starting_rung(self._record.study, number, self._ladder.levels)
        return 0 if start == self._plan.min_epochs else start
