"""What a search may use up."""

from search.budgets import Budgets


def test_nothing_is_used_up_without_limits():
    budgets = Budgets()
    budgets.tick(0.0, 8)
    budgets.tick(1e9, 8)
    assert budgets.used_up(10**9) is None
    assert budgets.seconds_left(1, 1.0, 1) == []


def test_time_counts_from_the_first_tick_and_on_what_was_spent_before():
    budgets = Budgets(seconds=10.0, spent_seconds=6.0)
    budgets.tick(1000.0, 0)
    budgets.tick(1003.5, 0)
    assert budgets.spent_seconds == 9.5
    assert budgets.used_up(0) is None
    budgets.tick(1004.0, 0)
    assert budgets.used_up(0) == "time budget"


def test_gpu_time_counts_the_share_that_trials_hold():
    budgets = Budgets(gpu_seconds=3600.0)
    budgets.tick(0.0, 4)
    budgets.tick(600.0, 0.5)
    assert budgets.spent_gpu_seconds == 300.0
    budgets.tick(1200.0, 5.5)
    assert budgets.used_up(0) == "GPU-hours"


def test_epochs_are_those_of_all_trials():
    assert Budgets(epochs=9).used_up(8) is None
    assert Budgets(epochs=9).used_up(9) == "epoch budget"


def test_time_left_is_judged_by_each_limit():
    budgets = Budgets(seconds=100.0, epochs=30, gpu_seconds=50.0)
    budgets.tick(0.0, 0)
    budgets.tick(20.0, 1)
    assert budgets.seconds_left(done=10, elapsed=20.0, epochs=20) == [80.0, 20.0, 30.0]


def test_what_is_kept_for_later_is_not_spent_by_the_search():
    budgets = Budgets(seconds=100.0, gpu_seconds=50.0, spent_seconds=60.0, spent_gpu_seconds=10.0)
    assert budgets.used_up(1) is None
    budgets.kept_seconds = 40.0
    assert budgets.used_up(1) == "time budget"
    budgets.kept_seconds = 30.0
    assert budgets.seconds_left(0, 1.0, 1)[0] == 10.0
    budgets.kept_gpu_seconds = 40.0
    assert budgets.used_up(1) == "GPU-hours"
