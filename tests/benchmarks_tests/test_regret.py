import numpy as np
import pandas as pd
import pytest

from benchmarks.regret import SHARES, SHOWN, regret_over_time, speedup
from benchmarks.tasks import Scale

UNIT = Scale(best=0.9, median=0.5, seconds=10.0)


class Noisy:
    """What is seen is 0.1 above the truth at the first epoch, and the truth at the second."""

    def truth(self, params):
        return np.array([params["x"] - 0.1, params["x"]]), np.ones(2)


def rows(*epochs):
    columns = ["time", "trial", "epoch", "value", "params"]
    return pd.DataFrame([(t, 0, epoch, value, {"x": x}) for t, epoch, value, x in epochs], columns=columns)


def test_shown_shares_are_on_the_grid():
    assert set(SHOWN) <= set(SHARES)


def test_nothing_finished_is_as_good_as_the_median():
    regrets = regret_over_time(rows((64.0, 1, 0.8, 0.8)), Noisy(), UNIT, 64.0)
    assert (regrets[:-1] == 1.0).all()
    assert regrets[-1] == pytest.approx(0.5)


def test_what_looked_best_is_judged_by_the_truth():
    regrets = regret_over_time(rows((1.0, 1, 0.8, 0.8), (2.0, 2, 0.8, 0.8)), Noisy(), UNIT, 64.0)
    # the second epoch is truly better, but looked no better
    assert regrets == pytest.approx(np.full(len(SHARES), 0.5))


def test_value_that_is_no_number_is_never_the_best():
    regrets = regret_over_time(rows((1.0, 2, 0.5, 0.5), (2.0, 2, np.nan, 0.9)), Noisy(), UNIT, 64.0)
    assert regrets == pytest.approx(np.full(len(SHARES), 1.0))


def falling(to, at):
    return np.where(at <= SHARES, to, 1.0)


def test_speedup_is_the_ratio_of_times_to_the_same_regret():
    assert speedup(falling(0.1, at=1 / 8), falling(0.2, at=1 / 2)) == 4.0


def test_speedup_of_a_search_that_never_gets_there_is_bounded_by_the_budget():
    assert speedup(falling(0.2, at=1 / 2), falling(0.1, at=1 / 8)) == 1 / 8


def test_search_that_ends_worse_is_not_praised_for_getting_there_early():
    assert speedup(falling(0.9, at=1 / 64), falling(0.1, at=1 / 2)) == 1 / 2


def test_search_that_ends_worse_and_is_late_is_compared_where_it_ends():
    late, two_steps = falling(0.5, at=1.0), np.where(SHARES >= 1 / 2, 0.1, falling(0.5, at=1 / 16))
    assert speedup(late, two_steps) == 1 / 16


def test_speedup_over_itself_is_one():
    assert speedup(falling(0.2, at=1 / 4), falling(0.2, at=1 / 4)) == 1.0
