import pandas as pd
import pytest

from benchmarks.cases import Case, column
from benchmarks.regret import SHARES
from benchmarks.search_quality import SEARCHES, measure, settings

REGRETS = [column(share) for share in SHARES]


@pytest.mark.parametrize("search", ["random, stop", "optuna"])
def test_measurement_repeats_but_for_the_time_it_takes(search):
    case = Case(workers=4, task="conditional", search=search, seed=3)
    first, again = (pd.Series(measure(case)).drop("ms") for _ in range(2))
    assert first.equals(again)
    assert first[REGRETS[0]] >= first[REGRETS[-1]]


def test_every_search_says_its_settings():
    lines = settings().split("\n")
    assert all(any(line.strip().startswith(search) for line in lines) for search in SEARCHES)
    assert max(map(len, lines)) <= 110


def test_more_workers_have_more_to_spend_but_less_each():
    budgets = {workers: Case(workers, "plain", "random", 0).budget() for workers in (1, 4, 64)}
    assert budgets[1] == 4 * budgets[4]
    assert budgets[64] * 64 > budgets[1]
