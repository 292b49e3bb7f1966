"""The model against slow oracles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import check_grad
from scipy.stats import norm

from search import gaussian_process as gp
from search.multifidelity import standardized


def data(count: int = 25, dimensions: int = 3) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    points = rng.random((count, dimensions))
    values = standardized(np.sin(6 * points[:, 0]) + points[:, 1] ** 2 + 0.1 * rng.normal(size=count))
    return points, values, np.arange(dimensions)


def test_posterior_is_that_of_scikit_learn() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Matern

    points, values, groups = data()
    lengths, new = np.array([0.3, 0.8, 2.0]), np.random.default_rng(1).random((40, 3))
    oracle = GaussianProcessRegressor(Matern(lengths, nu=2.5), alpha=0.05, optimizer=None)
    mean, deviation = oracle.fit(points, values).predict(new, return_std=True)
    ours = gp.GaussianProcess(points, values, groups, gp.Hyperparameters(lengths, 0.05))
    np.testing.assert_allclose(ours.predict(new)[0], mean, atol=1e-8)
    np.testing.assert_allclose(ours.predict(new)[1], deviation, atol=1e-6)
    np.testing.assert_allclose(ours.mean(new), mean, atol=1e-8)


def test_columns_of_one_parameter_share_its_lengthscale() -> None:
    points, values, _ = data()
    apart = gp.GaussianProcess(
        points, values, np.array([0, 1, 2]), gp.Hyperparameters(np.array([0.5, 0.5, 2.0]), 0.1)
    )
    shared = gp.GaussianProcess(
        points, values, np.array([0, 0, 1]), gp.Hyperparameters(np.array([0.5, 2.0]), 0.1)
    )
    np.testing.assert_array_equal(apart.mean(points), shared.mean(points))


def slow_posterior(logs: Any, points: Any, values: Any) -> float:
    """Log posterior of the hyperparameters, by scikit-learn and scipy."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Matern, WhiteKernel

    kernel = Matern(np.exp(logs[:-1]), nu=2.5) + WhiteKernel(math.exp(logs[-1]))
    model = GaussianProcessRegressor(kernel, alpha=0.0, optimizer=None).fit(points, values)
    median = math.log(gp.LENGTHSCALE * math.sqrt(points.shape[1]))
    prior = norm.logpdf(logs[:-1], median, gp.LENGTHSCALE_SPREAD).sum()
    noise = norm.logpdf(logs[-1], math.log(gp.NOISE), gp.NOISE_SPREAD)
    return float(model.log_marginal_likelihood_value_ + prior + noise)


def test_loss_is_minus_the_log_posterior_and_its_gradient_is_right() -> None:
    points, values, groups = data()
    loss = gp.negative_log_posterior(points, values, groups)
    starts = np.random.default_rng(2).normal(-1.0, 0.7, size=(5, 4))
    slow = [slow_posterior(logs, points, values) for logs in starts]
    fast = [-loss(logs)[0] for logs in starts]
    np.testing.assert_allclose(np.diff(fast), np.diff(slow), rtol=1e-6)  # equal up to a constant
    for logs in starts:
        error = check_grad(lambda x: loss(x)[0], lambda x: loss(x)[1], logs)
        assert error < 1e-4 * (1 + np.abs(loss(logs)[1]).max())


def test_no_other_hyperparameters_are_much_more_probable_than_those_found() -> None:
    points, values, groups = data()
    found = gp.fit(points, values, groups)
    at = np.append(np.log(found.lengthscales), math.log(found.noise))
    reached = slow_posterior(at, points, values)
    rng = np.random.default_rng(3)
    others = [slow_posterior(at + rng.normal(scale=0.5, size=4), points, values) for _ in range(100)]
    assert max(others) < reached + 0.01


def test_a_parameter_that_does_nothing_gets_a_long_lengthscale() -> None:
    points, values, groups = data(60)
    lengths = gp.fit(points, values, groups).lengthscales
    assert lengths[2] > 2 * lengths[0]


@pytest.mark.parametrize(("mean", "deviation", "best"), [(0.0, 1.0, 0.5), (2.0, 0.3, 1.0), (-1.0, 0.2, 0.0)])
def test_expected_improvement_is_the_integral_that_defines_it(
    mean: float, deviation: float, best: float
) -> None:
    slow, _ = quad(lambda f: (f - best) * norm.pdf(f, mean, deviation), best, mean + 12 * deviation)
    fast = gp.expected_improvement(np.array([mean]), np.array([deviation]), best)
    assert fast[0] == pytest.approx(slow, abs=1e-7)


@pytest.mark.parametrize(
    "values", [[1.0, 2.0, 4.0], [5.0, 5.0, 5.0], [0.0, 0.0], [3.0], [1e300, -1e300, 0.0], [1e-300, 2e-300]]
)
def test_standardized_values_are_finite_with_mean_0(values: list[float]) -> None:
    result = standardized(np.array(values))
    assert np.isfinite(result).all()
    assert abs(result.mean()) < 1e-9
    assert result.std() == pytest.approx(0.0 if len(set(values)) == 1 else 1.0)


def test_there_is_evidence_of_a_signal_and_none_in_noise() -> None:
    rng = np.random.default_rng(0)
    signal, noise = [], []
    for _ in range(10):
        points = rng.random((15, 4))
        noise.append(gp.fit(points, standardized(rng.normal(size=15)), np.arange(4)).evidence)
        signal.append(gp.fit(points, standardized(points[:, 0] - points[:, 1] ** 2), np.arange(4)).evidence)
    assert np.median(noise) < 0 < min(signal)


def test_a_few_terrible_values_do_not_hide_which_of_the_good_are_better() -> None:
    values = np.append(np.linspace(0, 1, 20), [-1e6, -1e9])
    assert np.ptp(standardized(values)[:20]) > 1
    np.testing.assert_allclose(standardized(values), standardized(1e3 * values - 5), atol=1e-6)
