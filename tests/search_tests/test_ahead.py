"""Proposals made before a slot is free for them."""

from typing import Any

import optuna
import pytest
from test_controller import make, quality, row, suggest

from search.ahead import MOST, Lookahead
from search.controller import Controller, Plan
from search.sampler import samplers
from search.study import StudyRecord


def controller(sampler: str, **options: Any) -> Controller:
    plan = Plan(min_epochs=1, max_epochs=3, reduction_factor=3, rule="promote", trials=30)
    record = StudyRecord("test", "maximize")
    return Controller(record, plan, suggest=suggest, sampler=samplers(sampler, 0), **options)


@pytest.mark.parametrize("sampler", ["multifidelity", "tpe"])
def test_what_is_proposed_ahead_is_what_would_be_proposed_at_need(sampler: str) -> None:
    proposed = []
    for ahead in (False, True):
        search = controller(sampler)
        for _ in range(20):
            if ahead:
                search.prepare()
                assert search.prepared_at == search.epochs
                assert len(search.record.trials()) == search.asked, "the study does not know of it yet"
            work = search.next_work()
            assert work is not None
            epoch = work.known_epochs + 1
            while search.report(work.trial, row(epoch), quality(work.trial, epoch)):
                epoch += 1
        proposed.append([trial.params for trial in search.record.trials()])
    assert proposed[0] == proposed[1]
    assert len({tuple(params.values()) for params in proposed[0]}) > 5


def test_a_proposal_is_for_the_next_new_trial_alone() -> None:
    search = controller("tpe")
    search.prepare()
    assert search.prepared_at == 0
    assert search.next_work() is not None
    assert search.prepared_at is None, "it has been used"


def test_baselines_need_no_proposal() -> None:
    search = make("promote", baselines={"plain": {"x": 0.5, "family": "a"}})
    search.prepare()
    assert search.prepared_at is None
    work = search.next_work()
    assert work is not None
    assert search.record.trial(work.trial).params == {"x": 0.5, "family": "a"}


def test_a_search_that_has_all_its_trials_proposes_none() -> None:
    search = make("stop", trials=1)
    assert search.next_work() is not None
    search.prepare()
    assert search.prepared_at is None


class Failing(optuna.samplers.RandomSampler):
    proposes_ahead = True

    def sample_relative(self, *arguments: Any) -> dict[str, Any]:
        raise RuntimeError("out of ideas")


def test_a_sampler_that_fails_ahead_of_need_fails_as_at_need() -> None:
    plan = Plan(min_epochs=1, max_epochs=3, reduction_factor=3, rule="promote", trials=3)
    search = Controller(StudyRecord("t", "maximize"), plan, suggest=suggest, sampler=lambda n: Failing())
    with pytest.raises(RuntimeError, match="out of ideas"):
        search.prepare()


def test_another_sampler_proposes_at_need() -> None:
    search = controller("random")
    search.prepare()
    assert search.prepared_at is None


def trained(sampler: str, trials: int) -> Controller:
    """A search that has trained so many of its trials."""
    search = controller(sampler)
    for _ in range(trials):
        work = search.next_work()
        assert work is not None
        epoch = work.known_epochs + 1
        while search.report(work.trial, row(epoch), quality(work.trial, epoch)):
            epoch += 1
    return search


def test_several_proposals_are_given_out_one_by_one() -> None:
    search = trained("multifidelity", 12)
    first = search.asked
    assert search.prepare(5) == 5
    assert len(search.record.trials()) == first, "the study does not know of them yet"
    while search.prepared_at is not None:
        assert search.next_work() is not None
    assert search.asked == first + 5
    proposed = [tuple(trial.params.values()) for trial in search.record.trials()]
    assert len(set(proposed)) == len(proposed)


def test_one_proposal_of_several_is_the_same_as_alone() -> None:
    given = []
    for count in (1, 4):
        search = trained("multifidelity", 12)
        first = search.asked
        search.prepare(count)
        while search.asked == first:
            assert search.next_work() is not None
        given.append(search.record.trial(first).params)
    assert given[0] == given[1]


def test_a_sampler_that_cannot_propose_several_proposes_one() -> None:
    search = trained("tpe", 12)
    assert search.prepare(5) == 1


class Slow:
    """A controller and a clock: each proposal takes `fit` seconds, and `each` for every trial."""

    def __init__(self, fit: float, each: float = 0.0) -> None:
        self.fit, self.each, self.now = fit, each, 100.0
        self.asked = self.epochs = 0
        self.made: list[int] = []
        self._upto = 0

    @property
    def prepared_at(self) -> int | None:
        return self.epochs if self.asked < self._upto else None

    def prepare(self, count: int) -> int:
        self.made.append(count)
        self.now += self.fit + self.each * count
        self._upto = self.asked + count
        return count

    def search(self, slots: int, trials: int, every: float) -> list[int]:
        """How many were proposed each time, while `trials` are asked for, `every` so many seconds."""
        ahead = Lookahead(self, lambda: self.now)
        due = self.now
        while self.asked < trials:
            ahead.idle(slots, slots)
            due += every
            self.now = max(self.now, due)
            self.asked += 1
        return self.made


def test_a_search_that_keeps_up_proposes_one_at_a_time() -> None:
    assert set(Slow(fit=0.05).search(slots=1000, trials=100, every=1.0)) == {1}


@pytest.mark.parametrize("slots", [2, 8, 31])
def test_a_narrow_search_proposes_one_at_a_time_however_slow_that_is(slots: int) -> None:
    made = Slow(fit=0.05).search(slots=slots, trials=100, every=0.001)
    assert set(made) == {1}
    assert len(made) == 100


@pytest.mark.parametrize(("slots", "most"), [(32, 4), (64, 8), (1000, MOST)])
def test_a_wide_search_that_falls_behind_proposes_more_at_once(slots: int, most: int) -> None:
    made = Slow(fit=0.05, each=0.002).search(slots=slots, trials=1000, every=0.01)
    assert max(made[20:]) <= most
    assert min(made[20:]) >= most / 4
    assert made[0] == 1


def test_a_search_that_has_caught_up_proposes_one_at_a_time_again() -> None:
    search = Slow(fit=0.05)
    assert search.search(slots=1000, trials=300, every=0.01)[-1] > 4
    ahead = Lookahead(search, lambda: search.now)
    ahead.count = 16
    for _ in range(100):
        search.now += 10.0
        search.asked += 1
        ahead.idle(1000, 1000)
    assert ahead.count == 1


@pytest.mark.parametrize(("free", "made"), [(1, []), (31, []), (40, [40]), (1000, [MOST])])
def test_many_slots_that_wait_at_once_get_proposals_of_one_model(free: int, made: list[int]) -> None:
    search = Slow(fit=0.05)
    ahead = Lookahead(search, lambda: search.now)
    ahead.needed(1000 - free, 1000)
    assert search.made == made
