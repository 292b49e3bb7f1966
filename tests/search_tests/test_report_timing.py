"""When slots were busy and scores known, on examples small enough to follow by hand."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.reporting.timing import Clock, epoch_ends, lanes, spent, stays


def trial(
    *stints: dict[str, Any], seconds: list[float] | None = None, outcome: str = "pruned"
) -> FrozenTrial:
    durations = seconds or []
    rows = [{"epoch": epoch, "seconds": took} for epoch, took in enumerate(durations, 1)]
    noted = {"stints": list(stints), "epochs": rows, "seconds": sum(durations), "outcome": outcome}
    return create_trial(
        state=TrialState.RUNNING,
        user_attrs=noted,
        intermediate_values=dict.fromkeys(range(1, len(durations) + 1), 0.5),
    )


def stint(begin: float, end: float, from_epoch: int = 0, **spent: float) -> dict[str, Any]:
    return {"from_epoch": from_epoch, "begin": begin, "end": end, "seconds": spent}


def test_epochs_end_where_counting_back_from_the_end_of_their_stint_says() -> None:
    two = trial(stint(100, 106), stint(200, 209, from_epoch=2), seconds=[2.0, 3.0, 4.0])
    assert epoch_ends(two) == {1: 103.0, 2: 106.0, 3: 209.0}


def test_a_stint_that_was_lost_before_an_epoch_has_none() -> None:
    again = trial(stint(100, 150), stint(200, 204), seconds=[2.0])
    assert epoch_ends(again) == {1: 204.0}


def test_epochs_known_from_a_checkpoint_are_not_older_than_their_stint() -> None:
    caught_up = trial(stint(100, 103), seconds=[5.0, 5.0])
    assert epoch_ends(caught_up) == {1: 100.0, 2: 103.0}


def test_a_stint_whose_times_are_not_on_record_is_left_out() -> None:
    old = trial({"from_epoch": 0}, stint(200, 204, from_epoch=1), seconds=[2.0, 2.0])
    assert epoch_ends(old) == {2: 204.0}
    assert len(stays("search", [old])) == 1


def test_a_slot_is_taken_again_as_soon_as_it_is_free() -> None:
    known = stays(
        "search", [trial(stint(0, 10)), trial(stint(1, 4)), trial(stint(4, 8)), trial(stint(9, 12))]
    )
    assert lanes(known) == [0, 1, 1, 1]


def test_as_many_slots_as_run_at_the_same_time() -> None:
    known = stays("search", [trial(stint(0, 10)) for _ in range(3)] + [trial(stint(10, 11))])
    assert sorted(lanes(known)[:3]) == [0, 1, 2]
    assert lanes(known)[3] == 0


def test_pauses_in_which_nothing_ran_do_not_count() -> None:
    known = stays("search", [trial(stint(1000, 1100)), trial(stint(1200, 1300)), trial(stint(9000, 9050))])
    clock = Clock(known)
    assert [pause.seconds for pause in clock.pauses] == [7700]
    assert clock.at(1250) == 250
    assert clock.at(9010) == 310
    assert clock.seconds == 350


def test_stopping_early_saves_the_epochs_that_were_not_trained() -> None:
    stopped = trial(stint(0, 10, training=6.0, validation=2.0), seconds=[4.0, 4.0])
    whole = trial(stint(0, 40, training=30.0), seconds=[4.0] * 9, outcome="complete")
    failed = trial(stint(10, 20), seconds=[4.0], outcome="failed")
    found = spent([stopped, whole, failed], max_epochs=9)
    assert found.saved == 7 * 4.0
    assert found.by_kind["training"] == 36.0
    assert found.by_kind["validation"] == 2.0
    assert found.busy == 60
    assert found.idle == 2 * 40 - 60


def test_nothing_is_known_of_a_search_without_a_stint() -> None:
    found = spent([], max_epochs=9)
    assert (found.busy, found.idle, found.saved) == (0, pytest.approx(0), 0)
