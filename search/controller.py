"""The decisions of a search: what to train next, whether a trial goes on, and how each one ended.

No Ray, no clock, no files: an engine asks `next_work()`, passes on what it hears with `report()` and
`ended()`, and the study is the only memory. The same controller runs under Ray Tune and in simulation.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast, runtime_checkable

import optuna

from search.rungs import Rung, promotable, rung_levels, survives
from search.settings import UsageError
from search.study import UNSCORED, Outcome, StudyRecord

Rule = Literal["stop", "promote", "none"]
State = Literal["running", "waiting", "interrupted"]

INFEASIBLE_IN_A_ROW = 100
LOST_WORKERS = 3


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What bounds a search and moves it."""

    min_epochs: int
    max_epochs: int
    reduction_factor: int
    rule: Rule
    trials: int | None
    """Configurations to train; None where only time ends the search."""
    retries: int = 0
    """How often a trial that raised an exception is given out again."""


@dataclass(frozen=True)
class Work:
    """A stint to be done: train this trial on, until `report` says stop."""

    trial: int
    stint: int
    config: Any
    known_epochs: int
    """Epochs already on record; training goes on from the checkpoint that has them, if there is one."""


@dataclass
class LiveTrial:
    """A trial without an outcome."""

    config: Any
    state: State
    epochs: int = 0
    stints: int = 0
    failures: int = 0
    lost: int = 0
    seconds: float = 0.0
    start: int = 0
    """Level of the first rung that decides about it; it trains on past those below."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    arrivals: dict[str, int] = field(default_factory=dict)
    """The place of each arrival among all of the search, by the rung's level."""
    gone_on: list[int] = field(default_factory=list)
    """Levels of the rungs it went on past."""


@runtime_checkable
class ChoosesStart(Protocol):
    """A sampler that knows of rungs whose scores say too little to stop a trial there."""

    def starting_rung(self, study: optuna.Study, number: int, levels: Sequence[int]) -> int:
        """The level, one of `levels` (epochs, rising), up to which trial `number` trains undecided."""
        ...


class Controller:
    """Gives out work and takes in results.

    `suggest` makes a configuration of an Optuna trial; `sampler` gives the sampler for a trial number;
    `limit` says why a configuration must not be trained, or None, with facts about it to note.
    """

    def __init__(
        self,
        record: StudyRecord,
        plan: Plan,
        *,
        suggest: Callable[[optuna.Trial], Any],
        sampler: Callable[[int], optuna.samplers.BaseSampler],
        limit: Callable[[Any], tuple[str | None, Mapping[str, Any]]] | None = None,
        baselines: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.record, self.plan = record, plan
        self._suggest, self._sampler = suggest, sampler
        self._limit = limit or (lambda config: (None, {}))
        self._baselines = list((baselines or {}).items())
        levels = rung_levels(plan.min_epochs, plan.max_epochs, plan.reduction_factor)
        self.rungs = [Rung(level) for level in levels]
        self._rung_at = {rung.level: rung for rung in self.rungs}
        self.live: dict[int, LiveTrial] = {}
        self.outcomes: dict[Outcome, int] = dict.fromkeys(
            ("complete", "pruned", "diverged", "infeasible", "failed"), 0
        )
        self.asked = 0
        self.epochs = 0
        """Epochs trained by all trials together."""
        self.recent: deque[Mapping[str, Any]] = deque(maxlen=1000)
        """The reports that came last, of whichever trial."""
        self.scores: dict[int, float] = {}
        """Score of each trial at the last epoch trained, where it is a number."""
        self._sign = 1.0 if record.study.direction == optuna.study.StudyDirection.MAXIMIZE else -1.0
        self._arrivals = 0
        self._restore()

    def best(self) -> int | None:
        """The trial with the best score so far; of equal ones the earliest."""
        return max(self.scores, key=lambda n: (self._sign * self.scores[n], -n), default=None)

    def ranking(self, among: Iterable[int] | None = None) -> list[int]:
        """Trials with a score, best first; of equal ones the earlier first. `among` None is all of them."""
        scored = self.scores if among is None else [number for number in among if number in self.scores]
        return sorted(scored, key=lambda number: (-self._sign * self.scores[number], number))

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing will ever be given out again."""
        return (
            not any(trial.state != "waiting" for trial in self.live.values())
            and not self._more_trials()
            and self._promotion() is None
        )

    def next_work(self) -> Work | None:
        """The next stint for a free slot; None while there is none, or when the search is finished.

        First what was interrupted, then the best trial that may be promoted, then a new one.
        Raises UsageError where nothing can be proposed that is allowed to train.
        """
        for number, trial in self.live.items():
            if trial.state == "interrupted":
                return self._give_out(number)
        promotion = self._promotion()
        if promotion is not None:
            rung, number = promotion
            self._go_on(number, rung)
            return self._give_out(number)
        return self._give_out(self._new_trial()) if self._more_trials() else None

    def report(self, number: int, row: Mapping[str, Any], score: float) -> bool:
        """Take in one epoch of a trial: its report as numbers, and its score; returns whether to go on.

        An epoch reported before changes nothing.
        """
        trial = self.live[number]
        epoch = int(row["epoch"])
        if epoch <= trial.epochs:
            return True  # repeated after a crash: what it decided then still holds
        trial.epochs = epoch
        self.epochs += 1
        self.recent.append(row)
        trial.rows.append(dict(row))
        trial.seconds += float(row.get("seconds", 0.0))
        self.record.report(number, epoch, score)
        self.record.note(number, {"epochs": trial.rows, "seconds": trial.seconds})
        rung = self._rung_at.get(epoch) if epoch >= trial.start else None
        if not all(math.isfinite(value) for value in (score, *_numbers(row))):
            if rung is not None:
                self._arrive(number, rung, math.nan)
            return self._end(number, "diverged")
        self.scores[number] = score
        if rung is None:
            return True
        self._arrive(number, rung, self._sign * score)
        if epoch >= self.plan.max_epochs:
            return self._end(number, "complete", score)
        return self._decide(number, rung)

    def ended(self, number: int, *, infeasible: str = "", error: str = "", lost: str = "") -> None:
        """Take in the end of a stint that no report decided.

        `infeasible`: why the configuration cannot be trained; `error`: the traceback of an exception;
        `lost`: what is known of a worker or node that died. None of them: the stint was cut short.
        """
        trial = self.live[number]
        if infeasible:
            self.record.note(number, {"error": infeasible})
            self._end(number, "infeasible")
            return
        trial.failures += bool(error)
        trial.lost += bool(lost)
        if error or lost:
            self.record.note(number, {"error": error or lost, "failures": trial.failures})
        if trial.failures > self.plan.retries or trial.lost >= LOST_WORKERS:
            self._end(number, "failed")
        else:
            trial.state = "interrupted"

    def finish(self) -> None:
        """End a finished search for good: what waits at a rung is pruned."""
        assert self.finished
        for number in list(self.live):
            self._end(number, "pruned")

    def _decide(self, number: int, rung: Rung) -> bool:
        """Whether a trial goes on past a rung below the last."""
        factor = self.plan.reduction_factor
        match self.plan.rule:
            case "none":
                return self._go_on(number, rung)
            case "stop":
                if survives(rung, number, factor):
                    return self._go_on(number, rung)
                return self._end(number, "pruned")
            case "promote":
                self.live[number].state = "waiting"
                if self._promotion() == (rung, number):
                    # it would get this very slot back: no need to give it up
                    self.live[number].state = "running"
                    return self._go_on(number, rung)
                return False

    def _arrive(self, number: int, rung: Rung, score: float) -> None:
        rung.arrive(number, score)
        self._arrivals += 1
        self.live[number].arrivals[str(rung.level)] = self._arrivals
        self.record.note(number, {"arrivals": self.live[number].arrivals})

    def _go_on(self, number: int, rung: Rung) -> bool:
        rung.gone_on.add(number)
        self.live[number].gone_on.append(rung.level)
        self.record.note(number, {"gone_on": self.live[number].gone_on})
        return True

    def _promotion(self) -> tuple[Rung, int] | None:
        """The best trial to promote from the highest rung that has one."""
        if self.plan.rule != "promote":
            return None
        for rung in reversed(self.rungs[:-1]):
            number = promotable(rung, self.plan.reduction_factor)
            if number is not None:
                return rung, number
        return self._last_promotion()

    def _last_promotion(self) -> tuple[Rung, int] | None:
        """When all else is done and no trial has reached the end: the best of those that came furthest.

        A search of a few trials would otherwise end without one that is trained in full.
        """
        busy = any(trial.state != "waiting" for trial in self.live.values())
        if busy or self._more_trials() or self.outcomes["complete"]:
            return None
        for rung in reversed(self.rungs[:-1]):
            waiting = [n for n in rung.scores if n in self.live and n not in rung.gone_on]
            if waiting:
                return rung, max(waiting, key=lambda n: (rung.scores[n], -rung.rank(n)))
        return None

    def _more_trials(self) -> bool:
        return self.plan.trials is None or self.asked - self.outcomes["infeasible"] < self.plan.trials

    def _restore(self) -> None:
        """Take up an earlier search from its record: rungs, outcomes, and trials without one."""
        trials = self.record.trials()
        self.asked = len(trials)
        given = {trial.user_attrs.get("baseline") for trial in trials}
        self._baselines = [item for item in self._baselines if item[0] not in given]
        arrivals = []
        for trial in trials:
            facts = trial.user_attrs
            self.epochs += len(trial.intermediate_values)
            last = trial.last_step
            # an outcome whose state was not written any more is decided again
            if trial.state.is_finished():
                self.outcomes[facts["outcome"]] += 1
            if last is not None and facts.get("outcome") not in UNSCORED:
                self.scores[trial.number] = trial.intermediate_values[last]
            for level, place in facts.get("arrivals", {}).items():
                arrivals.append((place, trial.number, int(level), trial.intermediate_values[int(level)]))
            for level in facts.get("gone_on", ()):
                self._rung_at[level].gone_on.add(trial.number)
        for place, number, level, score in sorted(arrivals):
            self._rung_at[level].arrive(number, self._sign * score)
            self._arrivals = place
        for trial in trials:
            if not trial.state.is_finished():
                self._take_up(trial)

    def _take_up(self, trial: optuna.trial.FrozenTrial) -> None:
        """A trial that an earlier search left without an outcome."""
        facts = trial.user_attrs
        config = self._suggest(cast("optuna.Trial", optuna.trial.FixedTrial(trial.params)))
        number, epochs = trial.number, trial.last_step or 0
        self.live[number] = LiveTrial(
            config,
            "interrupted",
            epochs=epochs,
            stints=facts.get("stints", 0),
            failures=facts.get("failures", 0),
            seconds=facts.get("seconds", 0.0),
            rows=list(facts.get("epochs", ())),
            arrivals=dict(facts.get("arrivals", {})),
            start=facts.get("start", 0),
            gone_on=list(facts.get("gone_on", ())),
        )
        rung = self._rung_at.get(epochs) if epochs >= self.live[number].start else None
        if rung is None or number in rung.gone_on:
            return
        # it stands at a rung: it waits there, or was cut off before the decision was written down
        score = trial.intermediate_values[epochs]
        if number not in rung.scores:
            self._arrive(number, rung, self._sign * score)
        if epochs >= self.plan.max_epochs:
            self._end(number, "complete", score)
        elif self.plan.rule == "promote":
            self.live[number].state = "waiting"
        else:
            self._decide(number, rung)

    def _new_trial(self) -> int:
        reason: str | None = None
        for _ in range(INFEASIBLE_IN_A_ROW):
            number = self.asked
            baseline = self._baselines.pop(0) if self._baselines else None
            sampler = self._sampler(number)
            asked, config = self.record.ask(sampler, self._suggest, baseline)
            assert asked == number
            self.asked += 1
            reason, facts = self._limit(config)
            start = self._start(sampler, number) if baseline is None else 0
            self.record.begin(number, {**facts, **({"start": start} if start else {})})
            self.live[number] = LiveTrial(config, "interrupted", start=start)
            if reason is None:
                return number
            self.ended(number, infeasible=reason)
        raise UsageError(
            f"{INFEASIBLE_IN_A_ROW} proposals in a row may not be trained, the last one because {reason}: "
            "raise the limit or narrow the space"
        )

    def _start(self, sampler: optuna.samplers.BaseSampler, number: int) -> int:
        """Level of the first rung that decides about a new trial: the lowest, or what its sampler says."""
        if not isinstance(sampler, ChoosesStart) or self.plan.rule == "none":
            return 0
        levels = [rung.level for rung in self.rungs]
        start = sampler.starting_rung(self.record.study, number, levels)
        return 0 if start == levels[0] else start

    def _give_out(self, number: int) -> Work:
        trial = self.live[number]
        trial.state = "running"
        trial.stints += 1
        self.record.note(number, {"stints": trial.stints})
        return Work(number, trial.stints - 1, trial.config, trial.epochs)

    def _end(self, number: int, outcome: Outcome, score: float | None = None) -> bool:
        del self.live[number]
        self.outcomes[outcome] += 1
        if outcome in UNSCORED:
            self.scores.pop(number, None)
        self.record.tell(number, outcome, score)
        return False


def _numbers(row: Mapping[str, Any]) -> list[float]:
    return [value for value in row.values() if isinstance(value, int | float)]
