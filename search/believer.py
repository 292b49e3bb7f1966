"""Several configurations from one model, for a search that is too wide for a fit before each.

The "believer" of Ginsbourger, Le Riche & Carraro (2010), with lengthscales that stay as they are: what was
chosen counts as if it had scored what the model expects of it. Expectations do not change by that, what lies
near becomes certain, and the next choice lies elsewhere.
"""

from __future__ import annotations

import numpy as np

from search.encoding import Bools, Floats
from search.gaussian_process import (
    LEAST_NOISE,
    LEAST_VARIANCE,
    GaussianProcess,
    expected_improvement,
)
from search.observations import Observations


class Believer:
    """Chooses up to `most` of the candidates `points` (m, columns), one after another.

    `best` is the value to improve on.
    """

    def __init__(self, process: GaussianProcess, points: Floats, best: float, most: int) -> None:
        self._process, self._points, self._best = process, points, best
        self._mean, explained = process.project(points)
        self._variance: Floats = np.maximum(1.0 - (explained**2).sum(axis=1), LEAST_VARIANCE)
        self._explained: Floats = np.hstack([explained, np.zeros((len(points), most))])
        self._known = explained.shape[1]
        self._left = np.ones(len(points), dtype=bool)
        self._gain: Floats | None = None

    def next(self) -> int | None:
        """The candidate of greatest expected improvement, by its place; None where none is left.

        Follow with `believe` or `discard`.
        """
        if not self._left.any():
            return None
        if self._gain is None:
            self._gain = expected_improvement(self._mean, np.sqrt(self._variance), self._best)
        return int(np.argmax(np.where(self._left, self._gain, -np.inf)))

    def discard(self, place: int) -> None:
        """Do not choose this candidate."""
        self._left[place] = False

    def believe(self, place: int) -> None:
        """Choose this candidate: the model knows its value from now on."""
        self.discard(place)
        covariance = self._process.correlation(self._points, self._points[place : place + 1])[:, 0]
        covariance -= self._explained[:, : self._known] @ self._explained[place, : self._known]
        covariance /= np.sqrt(self._variance[place] + LEAST_NOISE)
        self._explained[:, self._known] = covariance
        self._known += 1
        self._variance = np.maximum(self._variance - covariance**2, LEAST_VARIANCE)
        self._best = max(self._best, float(self._mean[place]))
        self._gain = None


def choose(believer: Believer, seen: Observations, units: Floats, active: Bools, count: int) -> list[Floats]:
    """Up to `count` of the believer's candidates that no trial has, given as places in [0, 1] and activity
    (m, parameters): (parameters,) each; where all are known, the best of them.
    """
    chosen: dict[bytes, Floats] = {}
    first = believer.next()
    while len(chosen) < count and (place := believer.next()) is not None:
        key = seen.key(units[place], active[place])
        if key in seen.known or key in chosen:
            believer.discard(place)
        else:
            believer.believe(place)
            chosen[key] = units[place]
    return [*chosen.values()] or [units[first or 0]]
