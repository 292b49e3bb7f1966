import optuna
import pytest

from benchmarks.competitors import OUTSIDE, OptunaAlone, StockRay


def suggest(trial):
    trial.suggest_float("x", 0.0, 1.0)


@pytest.mark.parametrize("name", OUTSIDE)
def test_weak_trial_is_stopped_at_the_first_rung_and_a_good_one_goes_on(name):
    search = OUTSIDE[name](suggest, 9, 0)
    numbers = [search.next_work()[0] for _ in range(4)]
    assert search.report(numbers[0], 1, 0.5)
    assert not search.report(numbers[1], 1, 0.1)
    assert search.report(numbers[2], 1, 0.9)


@pytest.mark.parametrize("name", OUTSIDE)
def test_proposals_follow_from_the_seed(name):
    first, again, other = (OUTSIDE[name](suggest, 9, seed).next_work()[1] for seed in (1, 1, 2))
    assert first == again != other


def finished(search, value):
    number, _ = search.next_work()
    for epoch in range(1, 9):
        assert search.report(number, epoch, value)
    search.report(number, 9, value)
    return number


def test_optuna_is_told_how_each_trial_ended():
    search = OptunaAlone(suggest, 9, 0)
    finished(search, 0.5)
    search.report(search.next_work()[0], 1, 0.1)
    search.diverged(search.next_work()[0])
    states = [trial.state.name for trial in search._study.get_trials()]
    assert states == ["COMPLETE", "PRUNED", "FAIL"]


def test_stock_tells_a_stopped_trial_complete_with_its_last_value():
    search = StockRay(suggest, 9, 0)
    finished(search, 0.5)
    search.report(search.next_work()[0], 1, 0.1)
    search.diverged(search.next_work()[0])
    trials = search._searcher._ot_study.get_trials()
    assert [trial.state for trial in trials] == [
        optuna.trial.TrialState.COMPLETE,
        optuna.trial.TrialState.COMPLETE,
        optuna.trial.TrialState.FAIL,
    ]
    assert [trial.value for trial in trials] == [0.5, 0.1, None]
