"""How wide a search one driver serves, measured in moments."""

from __future__ import annotations

import math

import pytest

from benchmarks import made_up_slots, wide_search
from benchmarks.cases import column
from benchmarks.cluster import SEARCHES, driven, table
from benchmarks.idle_worker import result
from benchmarks.made_up_slots import Measured


def test_a_workers_score_rises_to_what_its_parameters_promise() -> None:
    scores = [result(epoch, 0.8)["reports"][0]["val_accuracy"] for epoch in (1, 3, 27)]
    assert scores == sorted(scores)
    assert scores[-1] < 0.8


@pytest.mark.parametrize("name", SEARCHES)
def test_made_up_slots_are_filled_and_their_results_taken_in(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as if the driver took no time at all, so that no machine is too slow
    monkeypatch.setattr(made_up_slots.Clock, "__call__", lambda self: self._skipped)
    (measured,) = driven(made_up_slots.drive, [4], [name], epoch_seconds=0.05, seconds=0.5)
    assert (measured.search, measured.slots, measured.offered) == (name, 4, 80.0)
    assert 0 < measured.trials < measured.results < 100
    assert 0 <= measured.refill <= measured.refill_99 <= measured.refill_max
    assert measured.at_once == 1, "four slots are few"


def test_the_table_has_a_row_each() -> None:
    row = Measured("random", 10, math.inf, 200.0, 60.0, 0.01, 0.02, 0.03, 0.9, 1)
    assert len(table([row, row]).splitlines()) == 3


def test_more_slots_get_there_sooner_and_never_beyond_the_straight_line() -> None:
    frame = wide_search.speedups(["plain"], seeds=1, target=0.5, widths=[1, 8])
    assert frame.loc[1, "times sooner"] == 1.0
    assert frame.loc[8, "times sooner"] > 1.0
    assert frame["straight line"].tolist() == [1.0, 8.0]
    assert frame["reached"].tolist() == ["1 of 1", "1 of 1"]


def test_a_regret_that_is_never_reached_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wide_search, "TRAININGS", {1: 1.0})
    frame = wide_search.speedups(["plain"], seeds=1, target=-9.0, widths=[1])
    assert frame["reached"].tolist() == ["0 of 1"]


def test_searches_in_batches_are_compared_with_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.cases.TRAININGS", 4)
    monkeypatch.setattr("benchmarks.cases.TRAININGS_A_WORKER", 0)
    results = wide_search.batches(["plain"], seeds=1, counts=[1, 4], workers=4)
    line = wide_search.batches_table(results, {column(1.0): "1"}).splitlines()[-2]
    assert line.startswith("1 ")
    assert "+0.000" in line


def test_a_batch_is_an_eighth_of_the_slots_where_there_are_many() -> None:
    assert [wide_search.at_once(slots) for slots in (1, 8, 31, 64, 512, 4096)] == [1, 1, 1, 8, 64, 64]
