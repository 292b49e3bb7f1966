"""Which rungs are trusted, and what the sampler makes of it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from search.multifidelity import MultifidelitySampler
from search.simulate import simulate
from search.trust import rank_correlation, start_weights, trust

LEVELS = (1, 3, 9, 27)


def test_rank_correlation_counts_pairs_in_the_same_order() -> None:
    left, right = {0: 1.0, 1: 2.0, 2: 3.0, 7: 0.0}, {2: 20.0, 1: 30.0, 0: 10.0, 8: 0.0}
    assert rank_correlation(left, right) == pytest.approx((2 - 1) / 3)


def test_scores_that_are_all_equal_tell_nothing() -> None:
    assert rank_correlation({0: 0.1, 1: 0.1, 2: 0.1}, {0: 0.3, 1: 0.2, 2: 0.5}) == 0.0


@pytest.mark.parametrize("common", [0, 1])
def test_too_few_trials_have_no_rank_correlation(common: int) -> None:
    assert rank_correlation({0: 1.0, 1: 2.0}, dict.fromkeys(range(common), 1.0)) == 0.0


def test_a_rung_is_trusted_until_enough_of_its_trials_went_on() -> None:
    backwards = {1: {n: float(n) for n in range(12)}, 3: {n: -float(n) for n in range(5)}}
    assert trust(backwards, 1, enough=6) == 1.0
    backwards[3][5] = -5.0
    assert trust(backwards, 1, enough=6) == 0.0


def test_a_rung_is_judged_by_the_highest_one_that_enough_of_its_trials_reached() -> None:
    values = {
        1: {n: float(n) for n in range(12)},
        3: {n: float(n) for n in range(9)},
        9: {n: -float(n) for n in range(6)},
        27: {n: float(n) for n in range(3)},
    }
    assert trust(values, 1, enough=6) == 0.0


def test_trust_falls_with_every_pair_in_which_noise_is_all_there_is() -> None:
    rng = np.random.default_rng(0)
    mean = {}
    for pairs in (6, 20, 80):
        noise = [{i: dict(enumerate(rng.normal(size=pairs))) for i in (1, 3)} for _ in range(50)]
        mean[pairs] = np.mean([trust(values, 1, enough=6) for values in noise])
    assert mean[6] > mean[20] > mean[80]
    assert mean[80] < 0.3


def test_brackets_are_weighed_as_in_hyperband_where_all_rungs_are_trusted() -> None:
    weights = np.array(start_weights(LEVELS, [30, 10, 6, 6], [1, 1, 1, 1], enough=6))
    np.testing.assert_allclose(weights / weights[0], [1, 4 / 3 / 3, 2 / 9, 4 / 27])


def test_nothing_starts_at_a_rung_with_too_few_scores_to_compare_with() -> None:
    assert [w > 0 for w in start_weights(LEVELS, [0] * 4, [1] * 4, enough=6)] == [True, False, False, False]
    counts = [30, 10, 5, 0]
    assert [w > 0 for w in start_weights(LEVELS, counts, [1] * 4, enough=6)] == [True, True, False, False]


def test_trials_start_above_the_rungs_that_tell_nothing() -> None:
    weights = start_weights(LEVELS, [20, 6, 2, 0], [0.0, 0.0, 1.0, 1.0], enough=6)
    assert [w > 0 for w in weights] == [False, False, True, False]


def test_there_is_always_somewhere_to_start() -> None:
    assert sum(start_weights(LEVELS, [0] * 4, [0.0] * 4, enough=6)) > 0
    assert start_weights((5,), [0], [1.0], enough=6) == [0.2]


def ladder_study(informative: bool, trials: int = 40) -> optuna.Study:
    """Trials of two epochs, rungs 1 and 3; the first tells of the second, or nothing."""
    rng = np.random.default_rng(1)
    study = optuna.create_study(direction="maximize", sampler=MultifidelitySampler(0))
    ranges: dict[str, BaseDistribution] = {"x": FloatDistribution(0, 1)}
    for _ in range(trials):
        x = float(rng.random())
        first = x if informative else float(rng.normal())
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                params={"x": x},
                distributions=ranges,
                intermediate_values={1: first, 3: x},
            )
        )
    return study


def starts(study: optuna.Study) -> Counter[int]:
    assert isinstance(study.sampler, MultifidelitySampler)
    return Counter(study.sampler.starting_rung(study, number, LEVELS) for number in range(40, 240))


def test_most_trials_start_at_the_lowest_rung_that_tells_of_the_later_ones() -> None:
    assert starts(ladder_study(True)).most_common(1)[0][0] == 1
    assert starts(ladder_study(False)).most_common(1)[0][0] == 3


def test_where_a_trial_starts_follows_from_its_number_alone() -> None:
    study = ladder_study(True)
    assert starts(study) == starts(study)
    assert len(starts(study)) > 1


def test_a_search_whose_first_epochs_are_at_chance_learns_to_start_higher() -> None:
    def curve(params: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
        noise = np.random.default_rng(int(params["x"] * 2**30)).normal(scale=0.01, size=9)
        learnt = np.maximum(np.arange(1, 10) - 4, 0) / 5
        return 0.1 + learnt * (0.8 - (params["x"] - 0.3) ** 2) + noise, np.ones(9)

    rows = simulate(
        lambda trial: trial.suggest_float("x", 0, 1), curve, workers=1, max_epochs=9, trials=60, seed=0
    )
    longest = rows.groupby("trial")["epoch"].max()
    assert (longest.loc[40:] > 1).mean() > 0.6, "one in three, where a rung promotes"
