"""Proposals made before slots are free for them, so that no slot waits for a sampler."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.work import ChoosesStart

if TYPE_CHECKING:
    from search.controller import Controller

AHEAD_SECONDS = 1.0
"""Least time between two proposals made ahead of need, the later from newer scores."""
WIDE = 32
"""Trials at once from which on several are ever proposed together."""
MOST, MOST_OF_RUNNING = 64, 1 / 8
"""Most proposals at once, and most for each trial that runs."""
BEHIND, AT_EASE = 0.25, 0.03
"""Share of the time that goes into proposals above which more are made at once, and below which fewer are."""


@runtime_checkable
class ProposesSeveral(ChoosesStart, Protocol):
    """A sampler that can propose several configurations for the price of little more than one."""

    def sample_several(
        self, study: optuna.Study, number: int, search_space: dict[str, BaseDistribution], count: int
    ) -> list[dict[str, Any]]:
        """Proposals for trial `number` and those after it: up to `count`, at least one."""
        ...

    def starting_rungs(self, study: optuna.Study, numbers: Sequence[int], levels: Sequence[int]) -> list[int]:
        """`starting_rung` of several trials."""
        ...


class ProposedAhead(optuna.samplers.BaseSampler):
    """What `sampler` proposes of the study as it is now, kept until it is asked for: for trial `number`, and
    for up to `count` from there on where it can propose several.

    The study does not know of them until then. `epochs` says how many epochs were known at that moment.
    For samplers that have `proposes_ahead`: any other may look for the trial in the study.
    """

    def __init__(
        self,
        sampler: optuna.samplers.BaseSampler,
        study: optuna.Study,
        number: int,
        epochs: int,
        *,
        count: int = 1,
    ) -> None:
        self.epochs = epochs
        self._sampler = sampler
        trial = create_trial(state=TrialState.RUNNING)
        trial.number = number
        self._space = sampler.infer_relative_search_space(study, trial)
        if count > 1 and isinstance(sampler, ProposesSeveral):
            proposed = sampler.sample_several(study, number, self._space, count)
        else:
            proposed = [sampler.sample_relative(study, trial, self._space)]
        self._params = dict(enumerate(proposed, number))
        self.numbers = range(number, number + len(proposed))
        """The trials that something is proposed for."""
        self._starts: dict[int, int] = {}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """As it was when the proposal was made."""
        return self._space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The proposal."""
        return self._params[trial.number]

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

    def starting_rung(self, study: optuna.Study, number: int, levels: Sequence[int]) -> int:
        """As the sampler says when the first of these trials is asked for; the lowest where it does not."""
        if len(self.numbers) > 1 and isinstance(self._sampler, ProposesSeveral):
            if not self._starts:
                drawn = self._sampler.starting_rungs(study, self.numbers, levels)
                self._starts = dict(zip(self.numbers, drawn, strict=True))
            return self._starts[number]
        if isinstance(self._sampler, ChoosesStart):
            return self._sampler.starting_rung(study, number, levels)
        return levels[0]


class Lookahead:
    """When a controller proposes before a slot is free, and how many trials at once.

    One at a time, so that each proposal knows of all scores; in a wide search more, as long as proposing
    takes too much of the time. `clock` tells seconds.
    """

    def __init__(self, controller: Controller, clock: Callable[[], float] = time.monotonic) -> None:
        self._controller, self._clock = controller, clock
        self._upto = -1  # the last trial for which a proposal was made or tried
        self._began, self._took = 0.0, 0.0
        self.count = 1
        """Proposals made at once by now."""

    def idle(self, running: int, room: int) -> None:
        """To be called again and again while `running` trials train and there is room for so many."""
        # with one slot a proposal waits for the score before it: nothing may depend on who was faster
        if room <= 1 or running < room:
            return
        known, now = self._controller.prepared_at, self._clock()
        stale = known is not None and known < self._controller.epochs and now - self._began > AHEAD_SECONDS
        if self._upto < self._controller.asked or stale:
            self._weigh(now, running)
            self._prepare(now)

    def needed(self, running: int, room: int) -> None:
        """To be called before work is asked for; proposes for many slots that wait, as after a resume."""
        free = room - running
        if free >= WIDE and self._upto < self._controller.asked:
            self.count = min(free, MOST)
            self._prepare(self._clock())

    def _weigh(self, now: float, running: int) -> None:
        share = self._took / max(now - self._began, 1e-9)
        most = min(MOST, int(MOST_OF_RUNNING * running)) if running >= WIDE else 1
        if share > BEHIND:
            self.count *= 2
        elif share < AT_EASE:
            self.count //= 2
        self.count = max(1, min(self.count, most))

    def _prepare(self, now: float) -> None:
        made = self._controller.prepare(self.count)
        self._upto = self._controller.asked + max(made, 1) - 1
        self._began, self._took = now, self._clock() - now
