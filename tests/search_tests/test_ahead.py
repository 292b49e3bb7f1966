"""Proposals made before a slot is free for them."""

from typing import Any

import optuna
import pytest
from test_controller import make, quality, row, suggest

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
