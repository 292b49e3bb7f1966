import doctest
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import rungs
from search.rungs import Rung, expected_epochs, promotable, rung_levels, survives

FACTORS = st.integers(2, 5)
DISTINCT = st.lists(st.integers(-1000, 1000), min_size=1, max_size=40, unique=True)
FEW_VALUES = st.sampled_from([0.0, 0.1, 0.2, 0.3, math.nan, math.inf, -math.inf])  # so that many are equal
SCORES = st.lists(FEW_VALUES, min_size=1, max_size=40)


def filled(scores, level=1) -> Rung:
    rung = Rung(level)
    for trial, score in enumerate(scores):
        rung.arrive(trial, score)
    return rung


def test_documented_example_holds():
    assert doctest.testmod(rungs).attempted >= 1
    assert doctest.testmod(rungs).failed == 0


@pytest.mark.parametrize(
    ("bounds", "levels"),
    [
        ((1, 1, 3), (1,)),
        ((1, 2, 3), (1, 2)),
        ((1, 9, 3), (1, 3, 9)),
        ((1, 10, 3), (1, 3, 9, 10)),
        ((2, 20, 4), (2, 8, 20)),
        ((5, 5, 2), (5,)),
        ((3, 4, 2), (3, 4)),
    ],
)
def test_levels_are_powers_and_the_last_epoch(bounds, levels):
    assert rung_levels(*bounds) == levels


@given(st.integers(1, 20), st.integers(0, 200), FACTORS)
def test_levels_rise_from_the_least_to_the_most_epochs(least, more, factor):
    levels = rung_levels(least, least + more, factor)
    assert levels[0] == (least if more else least + more)
    assert levels[-1] == least + more
    assert list(levels) == sorted(set(levels))
    assert all(high == factor * low for low, high in pairwise(levels[:-1]))


def test_expected_epochs_are_those_of_successive_halving():
    assert expected_epochs((1, 3, 9), trials=9, reduction_factor=3) == 9 * 1 + 3 * 2 + 1 * 6
    assert expected_epochs((1, 3, 9), trials=2, reduction_factor=3) == 2 * 1 + 1 * 2 + 1 * 6, (
        "one goes all the way"
    )


@given(DISTINCT, FACTORS)
def test_stopping_without_ties_is_the_quantile(scores, factor):
    rung = Rung(1)
    for trial, score in enumerate(scores):
        rung.arrive(trial, score)
        reached = np.quantile(scores[: trial + 1], 1 - 1 / factor)
        expected = score >= reached or math.isclose(score, reached, rel_tol=1e-9, abs_tol=1e-9)
        assert survives(rung, trial, factor) == expected


@given(st.floats(allow_nan=False, allow_infinity=False), FACTORS)
def test_first_trial_of_a_rung_goes_on(score, factor):
    assert survives(filled([score]), 0, factor)


@given(SCORES, FACTORS)
def test_score_that_is_not_finite_never_goes_on_and_is_worst(scores, factor):
    rung = filled(scores)
    healthy = [t for t, s in enumerate(scores) if math.isfinite(s)]
    for trial, score in enumerate(scores):
        if not math.isfinite(score):
            assert not survives(rung, trial, factor)
            assert rung.rank(trial) > len(healthy)


def test_of_equal_scores_the_earlier_arrival_ranks_higher():
    rung = filled([0.5, 0.7, 0.5, 0.7, 0.5])
    assert [rung.rank(trial) for trial in range(5)] == [3, 1, 4, 2, 5]


def test_ties_do_not_all_go_on():
    rung = filled([0.5] * 9)
    assert [survives(rung, trial, 3) for trial in range(9)] == [True] * 3 + [False] * 6


@given(SCORES)
def test_ranks_are_a_permutation(scores):
    rung = filled(scores)
    assert sorted(rung.rank(trial) for trial in range(len(scores))) == list(range(1, len(scores) + 1))


def test_trial_that_arrives_again_keeps_its_first_score():
    rung = filled([0.1, 0.5])
    rung.arrive(0, 0.9)
    assert rung.scores == {0: 0.1, 1: 0.5}
    assert rung.rank(0) == 2


@given(SCORES, FACTORS, st.data())
def test_promotion_is_the_best_not_yet_promoted_of_the_top(scores, factor, data):
    rung = filled(scores)
    order = np.lexsort((np.arange(len(scores)), [-s if math.isfinite(s) else math.inf for s in scores]))
    top = [int(t) for t in order[: len(scores) // factor]]
    for trial in data.draw(st.sets(st.sampled_from(range(len(scores))))):
        rung.go_on(trial)
    allowed = [t for t in top if t not in rung.gone_on and math.isfinite(scores[t])]
    assert promotable(rung, factor) == (allowed[0] if allowed else None)


@given(SCORES, FACTORS)
def test_trials_are_promoted_once_and_only_from_the_top(scores, factor):
    rung, promoted = Rung(1), []
    for trial, score in enumerate(scores):
        rung.arrive(trial, score)
        while (chosen := promotable(rung, factor)) is not None:
            assert math.isfinite(scores[chosen])
            assert rung.rank(chosen) <= (trial + 1) // factor
            promoted.append(chosen)
            rung.go_on(chosen)
    assert len(set(promoted)) == len(promoted)


@given(SCORES, FACTORS, st.data())
def test_trial_that_ended_keeps_its_rank_and_is_not_promoted(scores, factor, data):
    rung = filled(scores)
    ranks = {trial: rung.rank(trial) for trial in rung.scores}
    ended = data.draw(st.sampled_from(range(len(scores))))
    rung.leave(ended)
    rung.leave(ended)
    assert promotable(rung, factor) != ended
    assert {trial: rung.rank(trial) for trial in rung.scores} == ranks


@given(st.floats(), FACTORS)
def test_rung_of_one_trial_promotes_none(score, factor):
    assert promotable(filled([score]), factor) is None
