"""The decisions of a search, with workers made of a few lines: no Ray, no clock."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search.controller import Controller, Plan, Rule, Work
from search.database import sqlite_url
from search.settings import UsageError
from search.study import StudyRecord

Score = Callable[[int, int], float]
RULES: tuple[Rule, ...] = ("stop", "promote", "none")


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    return {"x": trial.suggest_float("x", 0, 1), "family": trial.suggest_categorical("family", ["a", "b"])}


def make(
    rule: Rule = "stop",
    *,
    trials: int | None = 9,
    max_epochs: int = 9,
    record: StudyRecord | None = None,
    **options: Any,
) -> Controller:
    plan = Plan(
        min_epochs=1,
        max_epochs=max_epochs,
        reduction_factor=3,
        rule=rule,
        trials=trials,
        retries=options.pop("retries", 0),
    )
    return Controller(
        record or StudyRecord("test", "maximize"),
        plan,
        suggest=options.pop("suggest", suggest),
        sampler=lambda number: optuna.samplers.RandomSampler(seed=number),
        **options,
    )


def quality(number: int, epoch: int) -> float:
    """A score that tells trials apart from the first epoch on."""
    return (number * 7 % 11) / 11 + epoch / 1000


def row(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "seconds": 1.0}


class Workers:
    """A few slots that train one epoch of a random one of them at a time."""

    def __init__(self, controller: Controller, slots: int, seed: int = 0, score: Score = quality) -> None:
        self.controller, self.slots, self.score = controller, slots, score
        self.random = random.Random(seed)
        self.running: list[tuple[Work, int]] = []
        self.trained: list[tuple[int, int]] = []

    def step(self) -> bool:
        """Fill the slots and train one epoch; False when there is nothing left to do."""
        while len(self.running) < self.slots:
            work = self.controller.next_work()
            if work is None:
                break
            self.running.append((work, work.known_epochs))
        if not self.running:
            return False
        work, epochs = self.running.pop(self.random.randrange(len(self.running)))
        self.trained.append((work.trial, epochs + 1))
        if self.controller.report(work.trial, row(epochs + 1), self.score(work.trial, epochs + 1)):
            self.running.append((work, epochs + 1))
        return True

    def run(self) -> None:
        while self.step():
            pass


def outcomes(controller: Controller) -> dict[int, str]:
    return {trial.number: trial.user_attrs.get("outcome", "live") for trial in controller.record.trials()}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("slots", [1, 4])
def test_every_search_ends_with_an_outcome_for_each_trial(rule: Rule, slots: int) -> None:
    controller = make(rule)
    Workers(controller, slots).run()
    assert controller.finished
    controller.finish()
    assert len(controller.record.trials()) == 9
    assert set(outcomes(controller).values()) <= {"complete", "pruned"}
    assert "complete" in outcomes(controller).values()
    assert all(trial.state.is_finished() for trial in controller.record.trials())


def test_without_a_rule_every_trial_is_trained_to_the_end() -> None:
    controller = make("none", trials=3)
    workers = Workers(controller, 2)
    workers.run()
    assert sorted(workers.trained) == [(trial, epoch) for trial in range(3) for epoch in range(1, 10)]


def test_promotion_gives_a_slot_to_the_best_waiting_trial_before_a_new_one() -> None:
    controller = make("promote", trials=9)
    scores = {0: 0.1, 1: 0.9, 2: 0.5}
    for number, score in scores.items():
        work = controller.next_work()
        assert work is not None
        assert work.trial == number
        goes_on = controller.report(number, row(1), score)
        assert not goes_on
    promoted = controller.next_work()
    assert promoted is not None
    assert (promoted.trial, promoted.known_epochs, promoted.stint) == (1, 1, 1)


def test_a_trial_that_would_get_its_slot_back_keeps_it() -> None:
    controller = make("promote", trials=9)
    for number in range(2):
        assert controller.next_work() is not None
        assert not controller.report(number, row(1), 0.1)
    assert controller.next_work() is not None
    assert controller.report(2, row(1), 0.9)
    assert controller.live[2].state == "running"


def test_a_search_of_few_trials_still_trains_its_best_one_to_the_end() -> None:
    controller = make("promote", trials=2)
    Workers(controller, 1).run()
    controller.finish()
    best = max(range(2), key=lambda n: quality(n, 1))
    assert outcomes(controller)[best] == "complete"


def test_what_waits_when_a_search_ends_is_pruned_with_its_last_value() -> None:
    controller = make("promote")
    Workers(controller, 2).run()
    controller.finish()
    pruned = [t for t in controller.record.trials() if t.user_attrs["outcome"] == "pruned"]
    assert pruned
    assert all(t.state == TrialState.PRUNED and t.value == t.intermediate_values[t.last_step] for t in pruned)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_ends_the_trial_at_once(bad: float) -> None:
    controller = make()
    assert controller.next_work() is not None
    assert not controller.report(0, row(1), bad)
    trial = controller.record.trial(0)
    assert trial.user_attrs["outcome"] == "diverged"
    assert trial.constraints == {"finite": 1.0}
    assert 1 in trial.intermediate_values


def test_a_loss_that_is_no_number_ends_the_trial_even_with_a_good_score() -> None:
    controller = make()
    assert controller.next_work() is not None
    assert not controller.report(0, {**row(1), "train_loss": math.nan}, 0.9)
    assert outcomes(controller)[0] == "diverged"
    assert controller.best() is None


def test_minimizing_keeps_the_lowest() -> None:
    controller = make("stop", record=StudyRecord("test", "minimize"), trials=2)
    for number, score in ((0, 0.5), (1, 0.9)):
        assert controller.next_work() is not None
        controller.report(number, row(1), score)
    assert controller.best() == 0
    assert outcomes(controller)[1] == "pruned"


def test_an_exception_is_retried_and_then_fails_with_its_text() -> None:
    controller = make(retries=1)
    work = controller.next_work()
    assert work is not None
    controller.ended(0, error="first traceback")
    again = controller.next_work()
    assert again is not None
    assert (again.trial, again.stint) == (0, 1)
    controller.ended(0, error="second traceback")
    assert outcomes(controller)[0] == "failed"
    assert controller.record.trial(0).user_attrs["error"] == "second traceback"
    assert controller.record.trial(0).state == TrialState.FAIL


def test_lost_workers_do_not_use_up_retries_but_three_of_them_fail_a_trial() -> None:
    controller = make(retries=0)
    for stint in range(3):
        work = controller.next_work()
        assert work is not None
        assert (work.trial, work.stint) == (0, stint)
        controller.ended(0, lost="the worker died")
    assert outcomes(controller)[0] == "failed"


def test_an_epoch_repeated_after_a_crash_keeps_its_first_value() -> None:
    controller = make(max_epochs=3, trials=1)
    assert controller.next_work() is not None
    controller.report(0, row(1), 0.5)
    controller.report(0, row(2), 0.6)
    controller.ended(0, lost="the worker died")
    assert controller.next_work() is not None
    assert controller.report(0, row(2), 0.1)
    assert controller.record.trial(0).intermediate_values == {1: 0.5, 2: 0.6}
    assert controller.epochs == 2


def test_times_that_an_engine_observes_stay_with_the_stint() -> None:
    controller = make()
    work = controller.next_work()
    assert work is not None
    controller.observe_time(work.trial, begin=100.0)
    controller.observe(work.trial, {"node": "one"}, {"training": 2.0})
    controller.observe_time(work.trial, end=103.0)
    controller.ended(work.trial)
    again = controller.next_work()
    assert again is not None
    controller.observe_time(again.trial, begin=200.0)
    assert controller.record.trial(work.trial).user_attrs["stints"] == [
        {"from_epoch": 0, "begin": 100.0, "seconds": {"training": 2.0}, "node": "one", "end": 103.0},
        {"from_epoch": 0, "begin": 200.0},
    ]


def test_infeasible_proposals_do_not_count_and_too_many_end_the_search() -> None:
    controller = make(
        trials=3, limit=lambda config: ("too large" if config["x"] < 0.5 else None, {"parameters": 1})
    )
    Workers(controller, 1).run()
    assert controller.outcomes["infeasible"] > 0
    assert sum(controller.outcomes.values()) - controller.outcomes["infeasible"] == 3
    with pytest.raises(UsageError, match=r"100 proposals in a row.*too large"):
        make(limit=lambda config: ("too large", {})).next_work()


def test_baselines_are_the_first_trials() -> None:
    controller = make(baselines={"known": {"x": 0.25, "family": "b"}}, trials=2)
    first, second = controller.next_work(), controller.next_work()
    assert first is not None
    assert second is not None
    assert first.config == {"x": 0.25, "family": "b"}
    assert controller.record.trial(0).user_attrs["baseline"] == "known"
    assert "baseline" not in controller.record.trial(1).user_attrs


class StartsAt(optuna.samplers.RandomSampler):
    def __init__(self, level: int, seed: int) -> None:
        super().__init__(seed=seed)
        self.level = level

    def starting_rung(self, study: optuna.Study, number: int, levels: Any) -> int:
        assert list(levels) == [1, 3, 9]
        return self.level if number % 2 else 1


@pytest.mark.parametrize("rule", ["stop", "promote"])
def test_a_sampler_may_let_a_trial_train_past_the_lower_rungs_undecided(rule: Rule, tmp_path: Path) -> None:
    plan = Plan(min_epochs=1, max_epochs=9, reduction_factor=3, rule=rule, trials=6)
    record = StudyRecord("test", "maximize", sqlite_url(tmp_path / "study.db"))

    def build(record: StudyRecord) -> Controller:
        return Controller(record, plan, suggest=suggest, sampler=lambda n: StartsAt(3, n))

    controller = build(record)
    first, second = controller.next_work(), controller.next_work()
    assert first is not None
    assert second is not None
    controller.report(first.trial, row(1), 0.9)
    assert controller.report(second.trial, row(1), 0.1), "the worst so far, but nobody asks yet"
    assert list(controller.ladder.rungs[0].scores) == [first.trial]
    assert controller.report(second.trial, row(2), 0.1)
    record.close()
    again = build(StudyRecord.reopen(sqlite_url(tmp_path / "study.db")))
    assert list(again.ladder.rungs[0].scores) == [first.trial]
    assert again.live[second.trial].start == 3
    assert again.next_work() is not None
    again.report(second.trial, row(3), 0.2)
    assert list(again.ladder.rungs[1].scores) == [second.trial]
    again.record.close()
