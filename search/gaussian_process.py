"""A Gaussian process with a Matérn-5/2 kernel and one lengthscale a parameter, in numpy.

Rasmussen & Williams (2006), "Gaussian Processes for Machine Learning", algorithm 2.1; expected improvement
as Jones, Schonlau & Welch (1998), "Efficient Global Optimization of Expensive Black-Box Functions". Here
larger values are better. Hyperparameters maximize the posterior, with a lognormal prior on each lengthscale
whose median grows with the square root of the number of parameters: Hvarfner, Hellsten & Nardi (2024),
"Vanilla Bayesian Optimization Performs Great in High Dimensions".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs
from scipy.optimize import minimize
from scipy.special import ndtr

Floats = NDArray[np.float64]

LENGTHSCALE = 0.35
"""Median lengthscale before data, in units of the square root of the number of parameters."""
LENGTHSCALE_SPREAD = 1.0
"""Standard deviation of the logarithm of a lengthscale, before data."""
NOISE = 0.02
"""Median variance of the noise before data, where values have variance 1."""
NOISE_SPREAD = 1.5
LEAST_NOISE = 1e-4
LEAST_VARIANCE = 1e-12
"""Of what is predicted, where rounding would leave none."""
STEPS = 30
"""Most steps in the search for the hyperparameters: more change proposals no longer."""
_ROOT5 = math.sqrt(5.0)


def matern52(squared_distance: Floats) -> Floats:
    """Correlation at a squared distance in lengthscales, any shape."""
    scaled = np.sqrt(5.0 * squared_distance)
    factor: Floats = (scaled / 3.0 + 1.0) * scaled + 1.0
    np.exp(np.negative(scaled, out=scaled), out=scaled)
    factor *= scaled
    return factor


def squared_distances(left: Floats, right: Floats) -> Floats:
    """Squared distance of each row of `left` (n, columns) to each of `right` (m, columns): (n, m)."""
    squares: Floats = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :]
    squares -= 2.0 * (left @ right.T)
    np.maximum(squares, 0.0, out=squares)
    return squares


def expected_improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """E[max(0, f - best)] of normal values with this mean and standard deviation, each shape (n,)."""
    z = (mean - best) / deviation
    density = np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi)
    gain: Floats = deviation * (z * ndtr(z) + density)
    return gain


@dataclass(frozen=True)
class Hyperparameters:
    """What the kernel is."""

    lengthscales: Floats
    """One a parameter, in units of its scaled range: shape (parameters,)."""
    noise: float
    """Variance of the noise; that of the signal is 1."""
    evidence: float = 0.0
    """How much more probable they make the values than noise alone would, as a logarithm; prior included."""


class GaussianProcess:
    """A posterior over functions, given points (n, columns) and values (n,) of about mean 0 and variance 1.

    `groups` (columns,) says which parameter each column belongs to; a parameter's columns share a
    lengthscale. Values after the first `noisy` are taken as exact; None: all are noisy.
    """

    def __init__(
        self,
        points: Floats,
        values: Floats,
        groups: NDArray[np.intp],
        kernel: Hyperparameters,
        noisy: int | None = None,
    ) -> None:
        self.groups, self.kernel = groups, kernel
        self._points = self._scaled(points)
        covariance = matern52(squared_distances(self._points, self._points))
        noise = np.full(len(values), kernel.noise)
        noise[len(values) if noisy is None else noisy :] = LEAST_NOISE
        covariance[np.diag_indices_from(covariance)] = 1.0 + noise
        self._factor = np.linalg.cholesky(covariance)
        self._weights: Floats = cho_solve((self._factor, True), values)
        self._inverse_factor: Floats | None = None

    def mean(self, points: Floats) -> Floats:
        """Posterior mean at points (m, columns): (m,)."""
        mean: Floats = matern52(squared_distances(self._scaled(points), self._points)) @ self._weights
        return mean

    def predict(self, points: Floats) -> tuple[Floats, Floats]:
        """Posterior mean and standard deviation, without noise, at points (m, columns): (m,) each."""
        mean, explained = self.project(points)
        return mean, np.sqrt(np.maximum(1.0 - (explained**2).sum(axis=1), LEAST_VARIANCE))

    def project(self, points: Floats) -> tuple[Floats, Floats]:
        """Posterior mean at points (m, columns), and rows (m, n) whose products the values explain of the
        correlation of any two of them.
        """
        if self._inverse_factor is None:
            # asked for thousands of points, one inverse and products are quicker than solving for each
            self._inverse_factor = solve_triangular(self._factor, np.eye(len(self._factor)), lower=True)
        cross = matern52(squared_distances(self._scaled(points), self._points))
        return cross @ self._weights, cross @ self._inverse_factor.T

    def correlation(self, left: Floats, right: Floats) -> Floats:
        """Prior correlation of points (n, columns) with others (m, columns): (n, m)."""
        return matern52(squared_distances(self._scaled(left), self._scaled(right)))

    def _scaled(self, points: Floats) -> Floats:
        return points / self.kernel.lengthscales[self.groups]


def fit(points: Floats, values: Floats, groups: NDArray[np.intp]) -> Hyperparameters:
    """The most probable hyperparameters for points (n, columns) and values (n,), from a fixed start."""
    medians, spreads = _prior(groups)
    # five standard deviations: beyond them nothing is found, and exponents stay far from overflow
    bounds = [(m - 5 * s, m + 5 * s) for m, s in zip(medians[:-1], spreads[:-1], strict=True)]
    bounds.append((math.log(LEAST_NOISE), math.log(1.0)))
    loss = negative_log_posterior(points, values, groups)
    found = minimize(loss, medians, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": STEPS})
    noise_alone = 0.5 * float(values @ values)  # minus the log likelihood without any signal, variance 1
    evidence = noise_alone - float(found.fun)
    return Hyperparameters(np.exp(found.x[:-1]), float(np.exp(found.x[-1])), evidence)


def negative_log_posterior(
    points: Floats, values: Floats, groups: NDArray[np.intp]
) -> Callable[[Floats], tuple[float, Floats]]:
    """A function of the logarithms of the lengthscales and, last, of the noise: minus the log posterior
    up to a constant, and its gradient.
    """
    medians, spreads = _prior(groups)
    count = len(points)
    above, left = np.tril_indices(count, -1)
    below_diagonal = above + count * left  # of each pair of points, in the column order of LAPACK
    apart = np.zeros((len(medians) - 1, len(above)))
    for column, group in enumerate(groups):
        apart[group] += (points[above, column] - points[left, column]) ** 2

    def loss(logs: Floats) -> tuple[float, Floats]:
        precisions, noise = np.exp(-2.0 * logs[:-1]), math.exp(logs[-1])
        scaled = _ROOT5 * np.sqrt(precisions @ apart)
        decay = np.exp(-scaled)
        covariance = np.zeros(count * count)
        covariance[below_diagonal] = (1.0 + scaled + scaled**2 / 3.0) * decay
        covariance[:: count + 1] = 1.0 + noise
        # the plain calls of LAPACK: at this size their wrappers would cost as much as they do
        factor, failed = dpotrf(covariance.reshape(count, count, order="F"), lower=1, overwrite_a=1)
        assert failed == 0  # LEAST_NOISE on the diagonal keeps it positive definite
        log_determinant = 2.0 * np.log(np.diag(factor)).sum()
        weights, _ = dpotrs(factor, values, lower=1)
        inverse = dpotri(factor, lower=1, overwrite_c=1)[0].ravel(order="F")  # its lower triangle
        away = (logs - medians) / spreads
        total = 0.5 * (values @ weights + log_determinant + away @ away)
        slope = inverse[below_diagonal] - weights[above] * weights[left]  # of the loss, by a covariance
        # d matern / d log lengthscale = 5/3 (1 + s) exp(-s) times that parameter's squared distance
        by_length = precisions * (apart @ (slope * (5.0 / 3.0) * (1.0 + scaled) * decay))
        by_noise = 0.5 * noise * (inverse[:: count + 1].sum() - weights @ weights)
        return float(total), np.append(by_length, by_noise) + away / spreads

    return loss


def _prior(groups: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Means and standard deviations of the logarithms of the lengthscales and of the noise."""
    count = int(groups.max()) + 1
    medians = np.log(np.append(np.full(count, LENGTHSCALE * math.sqrt(count)), NOISE))
    return medians, np.append(np.full(count, LENGTHSCALE_SPREAD), NOISE_SPREAD)
