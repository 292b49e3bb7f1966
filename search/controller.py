"""The decisions of a search: what to train next, whether a trial goes on, and how each one ended.

No Ray, no clock, no files: an engine asks `next_work()`, passes on what it hears with `report()` and
`ended()`, and the study is the only memory. The same controller runs under Ray Tune and in simulation.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import optuna

from search import restore
from search.ladder import Ladder, Rule
from search.new_trials import NewTrials
from search.rungs import Rung
from search.settings import UsageError
from search.study import UNSCORED, Outcome, StudyRecord
from search.work import LiveTrial, Plan, State, Work

__all__ = ["Controller", "LiveTrial", "Plan", "Rule", "State", "Work"]

INFEASIBLE_IN_A_ROW = 100
LOST_WORKERS = 3
"""Workers that a trial may bring down by itself."""
LOST_NODES = 10
"""Nodes that may be lost under a trial in a row, without one epoch between: it may be what ends them."""


class Controller:
    """Gives out work and takes in results.

    `suggest` makes a configuration of an Optuna trial; `sampler` gives the sampler for a trial number;
    `limit` says why a configuration must not be trained, or None, with facts about it to note; `about` has
    facts to note of baselines, by name.
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
        about: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.record, self.plan = record, plan
        self.ladder = Ladder(plan.min_epochs, plan.max_epochs, plan.reduction_factor, plan.rule)
        self._sign = 1.0 if record.study.direction == optuna.study.StudyDirection.MAXIMIZE else -1.0
        saved = restore.read(record.trials(), self.ladder, self._sign)
        self._new_trials = NewTrials(
            record,
            plan,
            self.ladder,
            suggest=suggest,
            sampler=sampler,
            limit=limit or (lambda config: (None, {})),
            known={name: it for name, it in (baselines or {}).items() if name not in saved.baselines},
            about=about or {},
        )
        self.asked = saved.asked
        """The number of the next trial."""
        self.imported = saved.imported
        """Trials of another search that the study begins with; none of ours."""
        self.outcomes = saved.outcomes
        """How many trials ended in each way."""
        self.epochs = saved.epochs
        """Epochs trained by all trials together."""
        self.scores = saved.scores
        """Score of each trial at the last epoch trained, where it is a number."""
        self.baselines: list[int] = [
            trial.number for trial in record.trials() if trial.user_attrs.get("baseline") in (baselines or {})
        ]
        """Trials whose configuration was known beforehand."""
        self.recent: deque[Mapping[str, Any]] = deque(maxlen=1000)
        """The reports that came last, of whichever trial."""
        self.live: dict[int, LiveTrial] = {}
        self._interrupted: dict[int, None] = {}  # a set that keeps its order
        self._waiting = 0
        self._arrivals = saved.arrivals
        for trial in saved.unfinished:
            self._take_up(trial)

    def best(self) -> int | None:
        """The trial with the best score so far; of equal ones the earliest."""
        return max(self.scores, key=lambda n: (self._sign * self.scores[n], -n), default=None)

    def ranking(self, among: Iterable[int] | None = None) -> list[int]:
        """Trials with a score, best first; of equal ones the earlier first. `among` None is all of them."""
        scored = self.scores if among is None else [number for number in among if number in self.scores]
        return sorted(scored, key=self._place)

    def leading(self, count: int) -> list[int]:
        """The first `count` of that ranking."""
        return heapq.nsmallest(count, self.scores, key=self._place)

    def _place(self, number: int) -> tuple[float, int]:
        return -self._sign * self.scores[number], number

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing will ever be given out again."""
        return self._idle() and not self._more_trials() and self._promotion() is None

    @property
    def demand(self) -> int | None:
        """Slots that could be used at once, those that are among them; None where there is no end to it."""
        if self.plan.trials is None and not self.plan.known_only:
            return None
        new = (
            self._new_trials.known
            if self.plan.known_only
            else (self.plan.trials or 0) - (self.asked - self.imported - self.outcomes["infeasible"])
        )
        return len(self.live) - self._waiting + max(0, new) + (self._promotion() is not None)

    def next_work(self) -> Work | None:
        """The next stint for a free slot; None while there is none, or when the search is finished.

        First what was interrupted, then the best trial that may be promoted, then a new one.
        Raises UsageError where nothing can be proposed that is allowed to train.
        """
        if self._interrupted:
            return self._give_out(next(iter(self._interrupted)))
        promotion = self._promotion()
        if promotion is not None:
            rung, number = promotion
            self._go_on(number, rung)
            return self._give_out(number)
        new = self._new_trial() if self._more_trials() else None
        return None if new is None else self._give_out(new)

    def prepare(self, count: int = 1) -> int:
        """Propose the next new trial now, while nobody waits for it, from all that is known now; with `count`
        those after it too, where the sampler can. Returns how many that were.

        They enter the study only when `next_work` gives them out.
        """
        return self._new_trials.prepare(self.asked, self.epochs, count) if self._more_trials() else 0

    @property
    def prepared_at(self) -> int | None:
        """How many epochs were known when the next trial was proposed; None where none is."""
        return self._new_trials.prepared_at(self.asked)

    def observe(self, number: int, facts: Mapping[str, Any], seconds: Mapping[str, float]) -> None:
        """Take note of what an engine sees of a running stint: facts, and seconds by kind to be added."""
        stint = self.live[number].stints[-1]
        spent = stint.get("seconds", {})
        stint["seconds"] = {kind: spent.get(kind, 0.0) + more for kind, more in seconds.items()}
        new = {name: value for name, value in facts.items() if stint.get(name) != value}
        stint.update(new)
        self.record.note(number, {**new, "stints": self.live[number].stints})

    def observe_time(self, number: int, **moments: float) -> None:
        """Take note of when a running stint began (`begin`) or was last heard of (`end`), by the engine's
        clock: seconds since 1970.
        """
        self.live[number].stints[-1].update(moments)
        self.record.note(number, {"stints": self.live[number].stints})

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
        rung = self.ladder.at(epoch) if epoch >= trial.start else None
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

    def ended(
        self,
        number: int,
        *,
        infeasible: str = "",
        error: str = "",
        lost: str = "",
        with_its_node: bool = False,
    ) -> None:
        """Take in the end of a stint that no report decided.

        `infeasible`: why the configuration cannot be trained; `error`: the traceback of an exception;
        `lost`: what is known of a worker that died, `with_its_node` or alone, or of a failure after
        compiling. None of them: the stint was cut short.
        """
        trial = self.live[number]
        if infeasible:
            self.record.note(number, {"error": infeasible})
            self._end(number, "infeasible")
            return
        trial.failures += bool(error)
        if lost and with_its_node:  # no fault of the trial, unless no epoch ever comes between
            trial.nodes_lost = trial.nodes_lost + 1 if trial.epochs == trial.epochs_at_loss else 1
            trial.epochs_at_loss = trial.epochs
        else:
            trial.lost += bool(lost)
        if error or lost:
            told = {"error": error or lost, "failures": trial.failures, "lost": trial.lost}
            self.record.note(number, told)
        if trial.failures > self.plan.retries or trial.lost >= LOST_WORKERS or trial.nodes_lost >= LOST_NODES:
            self._end(number, "failed")
        else:
            self._become(number, "interrupted")

    def finish(self) -> list[int]:
        """End a finished search for good: what waits at a rung is pruned. Returns which those are."""
        assert self.finished
        waiting = list(self.live)
        for number in waiting:
            self._end(number, "pruned")
        return waiting

    def _decide(self, number: int, rung: Rung) -> bool:
        """Whether a trial goes on past a rung below the last."""
        match self.ladder.verdict(rung, number):
            case "go on":
                return self._go_on(number, rung)
            case "stop":
                return self._end(number, "pruned")
            case "wait":
                self._become(number, "waiting")
                promotion = self._promotion()
                if promotion is None or promotion[1] != number:
                    return False
                # it would get this very slot back: no need to give it up
                self._become(number, "running")
                return self._go_on(number, rung)

    def _arrive(self, number: int, rung: Rung, score: float) -> None:
        rung.arrive(number, score)
        self._arrivals += 1
        self.live[number].arrivals[str(rung.level)] = self._arrivals
        self.record.note(number, {"arrivals": self.live[number].arrivals})

    def _go_on(self, number: int, rung: Rung) -> bool:
        rung.go_on(number)
        self.live[number].gone_on.append(rung.level)
        self.record.note(number, {"gone_on": self.live[number].gone_on})
        return True

    def _promotion(self) -> tuple[Rung, int] | None:
        """The trial to promote and the rung it waits at.

        When all else is done and no trial has reached the end, the best of those that came furthest: a
        search of a few trials would otherwise end without one that is trained in full.
        """
        promotion = self.ladder.promotion()
        if promotion is None and self._idle() and not self._more_trials() and not self.outcomes["complete"]:
            promotion = self.ladder.furthest()
        return promotion

    def _idle(self) -> bool:
        """Whether every trial without an outcome waits at a rung."""
        return self._waiting == len(self.live)

    def _become(self, number: int, state: State) -> None:
        trial = self.live[number]
        self._waiting += (state == "waiting") - (trial.state == "waiting")
        trial.state = state
        if state == "interrupted":
            self._interrupted[number] = None
        else:
            self._interrupted.pop(number, None)

    def _more_trials(self) -> bool:
        if self.plan.known_only:
            return self._new_trials.known > 0
        if self.plan.trials is None:
            return True
        return self.asked - self.imported - self.outcomes["infeasible"] < self.plan.trials

    def _take_up(self, trial: optuna.trial.FrozenTrial) -> None:
        """A trial that an earlier search left without an outcome."""
        config = self._new_trials.config_of(trial.params)
        number, epochs = trial.number, trial.last_step or 0
        self.live[number] = restore.live_trial(trial, config)
        self._become(number, "interrupted")
        refused, _ = self._new_trials.judged(config) if not epochs else (None, {})
        if refused is not None:  # it was cut off before that was written down
            self.ended(number, infeasible=refused)
            return
        rung = self.ladder.at(epochs) if epochs >= self.live[number].start else None
        if restore.diverged(trial):  # it was cut off before that was written down
            if rung is not None and number not in rung.scores:
                self._arrive(number, rung, math.nan)
            self._end(number, "diverged")
            return
        if rung is None or number in rung.gone_on:
            return
        # it stands at a rung: it waits there, or was cut off before the decision was written down
        score = trial.intermediate_values[epochs]
        if number not in rung.scores:
            self._arrive(number, rung, self._sign * score)
        if epochs >= self.plan.max_epochs:
            self._end(number, "complete", score)
        elif self.plan.rule == "promote":
            self._become(number, "waiting")
        else:
            self._decide(number, rung)

    def _new_trial(self) -> int | None:
        refused: str | None = None
        for _ in range(INFEASIBLE_IN_A_ROW):
            if not self._more_trials():
                return None  # the last one that is known may not be trained
            number, new = self.asked, self._new_trials.ask(self.asked)
            self.asked += 1
            if new.known:
                self.baselines.append(number)
            self.live[number] = LiveTrial(new.config, start=new.start)
            self._become(number, "interrupted")
            refused = new.refused
            if refused is None:
                return number
            self.ended(number, infeasible=refused)
        raise UsageError(
            f"{INFEASIBLE_IN_A_ROW} proposals in a row may not be trained, the last one because {refused}: "
            "raise the limit or narrow the space"
        )

    def _give_out(self, number: int) -> Work:
        trial = self.live[number]
        self._become(number, "running")
        trial.stints.append({"from_epoch": trial.epochs})
        self.record.note(number, {"stints": trial.stints})
        return Work(number, len(trial.stints) - 1, trial.config, trial.epochs)

    def _end(self, number: int, outcome: Outcome, score: float | None = None) -> bool:
        self._become(number, "running")
        del self.live[number]
        self.ladder.leave(number)
        self.outcomes[outcome] += 1
        if outcome in UNSCORED:
            self.scores.pop(number, None)
        self.record.tell(number, outcome, score)
        return False


def _numbers(row: Mapping[str, Any]) -> list[float]:
    return [value for value in row.values() if isinstance(value, int | float)]
