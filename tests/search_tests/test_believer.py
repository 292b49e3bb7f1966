"""Several proposals from one model."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from search import gaussian_process as gp
from search import multifidelity
from search.believer import Believer
from search.multifidelity import MultifidelitySampler, standardized


def process() -> tuple[gp.GaussianProcess, Any, Any]:
    """A model of 20 points, those points and their values."""
    rng = np.random.default_rng(0)
    points = rng.random((20, 3))
    values = standardized(np.sin(6 * points[:, 0]) + points[:, 1])
    kernel = gp.Hyperparameters(np.array([0.3, 0.5, 1.0]), 0.05)
    return gp.GaussianProcess(points, values, np.arange(3), kernel), points, values


def test_what_was_chosen_counts_as_if_it_had_scored_what_is_expected() -> None:
    model, points, values = process()
    candidates = np.random.default_rng(1).random((50, 3))
    believer = Believer(model, candidates, float(values.max()), 5)
    for _ in range(5):
        place = believer.next()
        assert place is not None
        # a model made anew, which has what was chosen so far among its values
        slow = gp.GaussianProcess(points, values, np.arange(3), model.kernel, noisy=20)
        gain = gp.expected_improvement(*slow.predict(candidates), float(values.max()))
        assert place == int(np.argmax(gain))
        points = np.vstack([points, candidates[place]])
        values = np.append(values, model.mean(candidates[[place]]))
        believer.believe(place)


def test_candidates_are_chosen_once_and_discarded_ones_never() -> None:
    model, _, values = process()
    believer = Believer(model, np.random.default_rng(1).random((6, 3)), float(values.max()), 6)
    believer.discard(2)
    chosen = []
    while (place := believer.next()) is not None:
        believer.believe(place)
        chosen.append(place)
    assert sorted(chosen) == [0, 1, 3, 4, 5]


RANGES: dict[str, BaseDistribution] = {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}


def study_of(count: int, ranges: dict[str, BaseDistribution] = RANGES) -> optuna.Study:
    """Trials of rungs 1 and 3; the nearer x is to 0.3, the better."""
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study = optuna.create_study(direction="maximize", sampler=MultifidelitySampler(0))
    for _ in range(count):
        params = drawn.ask(ranges).params
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                params=params,
                distributions=ranges,
                intermediate_values=dict.fromkeys((1, 3), -((params["x"] - 0.3) ** 2)),
            )
        )
    return study


def several(study: optuna.Study, count: int, seed: int = 0) -> list[dict[str, Any]]:
    sampler, number = MultifidelitySampler(seed), len(study.trials)
    space = sampler.infer_relative_search_space(study, study.trials[0])
    return sampler.sample_several(study, number, space, count)


def test_a_batch_takes_one_fit_and_begins_with_what_would_be_proposed_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fits = []
    monkeypatch.setattr(multifidelity, "fit", lambda *a: fits.append(1) or gp.fit(*a))
    study = study_of(30)
    alone = several(study, 1)
    batch = several(study, 12)
    assert len(fits) == 2
    assert batch[:1] == alone
    assert len(batch) == 12


def test_a_batch_gathers_where_it_is_good_and_spreads_where_it_does_not_matter() -> None:
    points = np.array([list(params.values()) for params in several(study_of(40), 24)])
    apart = np.linalg.norm(points[:, None] - points[None], axis=2) + np.eye(24)
    assert apart.min() > 1e-5
    assert np.median(np.abs(points[:, 0] - 0.3)) < 0.15
    assert points[:, 1].std() > 0.1


def test_no_configuration_is_twice_in_a_batch_while_there_are_others() -> None:
    small: dict[str, BaseDistribution] = {"x": IntDistribution(0, 5), "b": CategoricalDistribution([0, 1, 2])}
    study = study_of(8, small)
    tried = {tuple(trial.params.values()) for trial in study.trials}
    batch = [tuple(params.values()) for params in several(study, 40)]
    assert len(set(batch)) == len(batch) == 18 - len(tried)
    assert not tried & set(batch)


def test_where_all_configurations_are_known_the_best_comes_again_and_soon() -> None:
    small: dict[str, BaseDistribution] = {"x": IntDistribution(0, 9)}
    study = optuna.create_study(direction="maximize", sampler=MultifidelitySampler(0))
    for x in range(10):
        value = {1: -((x - 3) ** 2), 3: -((x - 3) ** 2)}
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED, params={"x": x}, distributions=small, intermediate_values=value
            )
        )
    (params,) = several(study, 16)
    assert abs(params["x"] - 3) <= 1


@pytest.mark.parametrize("trials", [1, 5])
def test_without_enough_values_a_batch_is_drawn_at_random(trials: int) -> None:
    batch = several(study_of(trials), 10)
    assert len({tuple(params.values()) for params in batch}) == 10
    assert batch != several(study_of(trials), 10, seed=1)


def test_where_trials_of_a_batch_start_is_where_each_would_alone() -> None:
    study, levels = study_of(30), (1, 3, 9)
    sampler = MultifidelitySampler(0)
    alone = [sampler.starting_rung(study, number, levels) for number in range(30, 60)]
    assert sampler.starting_rungs(study, range(30, 60), levels) == alone
    assert len(set(alone)) > 1
