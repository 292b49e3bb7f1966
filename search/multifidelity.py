"""An Optuna sampler for trials that report as they train: a Gaussian process on the highest step reached.

Bayesian optimization over comparable values only: those of the highest step that enough trials have
reached, as BOHB takes the largest budget with enough observations (Falkner, Klein & Hutter, 2018), with a
Gaussian process and expected improvement in place of its density ratio. Trials without a value there count
as if they had scored what the model expects of them (the "believer" of Ginsbourger, Le Riche & Carraro,
2010), so that parallel proposals spread out. Where values are noise, proposals stay random and trials start
at a higher rung: Hyper-Tune (Li et al., 2022), see `search.trust`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from threadpoolctl import ThreadpoolController

from search.believer import Believer, choose
from search.candidates import around, drawn, first_new
from search.encoding import Bools, Floats
from search.gaussian_process import GaussianProcess, expected_improvement, fit
from search.observations import Observations
from search.trust import TRUSTED, start_weights, trust
from trainables.seeding import derive_seed

ENOUGH = 6
"""Values at a step before a model is fitted to them; below, proposals are random."""
LOWER = 0.25
"""Share of proposals made from a lower step: what only a few trials reach may all be of one kind."""
EVIDENCE = 1.0
"""Least evidence of a signal in the values at a step, as a logarithm: a model of noise would gather
proposals by chance."""
TAIL = 3.0
"""Median deviations below the median at which values are cut off."""
BEST, OTHERS = 75, 75
"""Most values that a model is fitted to: the best, and some of the rest at random."""
MOST_PENDING = 100
"""Most trials without a value that count as pending, the latest."""
RANDOM_CANDIDATES = 1500
REFINEMENTS = 2
CENTRES = 10
"""Configurations around which local candidates are drawn."""
WIDTH = 0.15
"""Standard deviation of local candidates at first, of a range of 1; a third of it at each refinement."""


class MultifidelitySampler(optuna.samplers.BaseSampler):
    """Proposes from what `trial.report` told, for `study.optimize` with pruning as for a whole search.

    A proposal depends on the seed, the trial's number and the study alone. Raises ValueError for a study
    of several objectives.
    """

    proposes_ahead = True

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._lock = threading.RLock()
        self._study: weakref.ref[optuna.Study] | None = None
        self._seen = Observations()

    def __reduce__(self) -> tuple[Any, ...]:
        return (MultifidelitySampler, (self.seed,))  # all else is made anew from the study

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Every parameter of more than one value that an earlier trial was asked for."""
        self._raise_error_if_multi_objective(study)
        with self._lock:
            seen = self._observe(study)
            return {name: seen.distributions[name] for name in seen.space.names}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A value for every parameter of `search_space`, also for those that will not be asked for."""
        return self.sample_several(study, trial.number, search_space, 1)[0]

    def sample_several(
        self, study: optuna.Study, number: int, search_space: dict[str, BaseDistribution], count: int
    ) -> list[dict[str, Any]]:
        """Proposals for trial `number` and those after it from one model: up to `count`, at least one."""
        if not search_space:
            return [{}]
        rng = np.random.default_rng(derive_seed(self.seed, "proposal", number))
        with self._lock, _one_thread():
            seen = self._observe(study)
            sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
            proposed = [seen.space.values(units) for units in _propose(seen, sign, rng, count)]
        # in another thread, a trial may just have been asked for a parameter that was unknown until then
        return [
            {name: value for name, value in values.items() if name in search_space} for values in proposed
        ]

    def starting_rung(self, study: optuna.Study, number: int, levels: Sequence[int]) -> int:
        """The level, one of `levels` (epochs, rising), up to which trial `number` trains undecided.

        See `search.trust`.
        """
        return self.starting_rungs(study, [number], levels)[0]

    def starting_rungs(self, study: optuna.Study, numbers: Sequence[int], levels: Sequence[int]) -> list[int]:
        """The same of several trials, from what is known now."""
        with self._lock:
            values = self._observe(study).values
            counts = [len(values.get(level, {})) for level in levels]
            trusts = [trust(values, level, ENOUGH) for level in levels]
        weights = np.array(start_weights(levels, counts, trusts, ENOUGH))
        draws = [np.random.default_rng(derive_seed(self.seed, "start", number)) for number in numbers]
        return [levels[int(rng.choice(len(levels), p=weights / weights.sum()))] for rng in draws]

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A random value, for a parameter that no trial was asked for before."""
        draw = optuna.samplers.RandomSampler(seed=derive_seed(self.seed, trial.number, param_name))
        return draw.sample_independent(study, trial, param_name, param_distribution)

    def _observe(self, study: optuna.Study) -> Observations:
        if self._study is None or self._study() is not study:
            self._study, self._seen = weakref.ref(study), Observations()
        self._seen.update(study.get_trials(deepcopy=False))
        return self._seen


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()  # it looks through all loaded libraries: once is enough


def _one_thread() -> AbstractContextManager[object]:
    """Matrices of 150 rows are multiplied sooner by one thread than by many, which wait for one another
    beside trials that use every core: ten times as long was measured."""
    limit: AbstractContextManager[object] = _libraries().limit(limits=1, user_api="blas")
    return limit


def _propose(seen: Observations, sign: float, rng: np.random.Generator, count: int) -> list[Floats]:
    """Places in [0, 1] of the next configurations, (parameters,) each: up to `count`, at least one."""
    models = (_model(seen, step, sign, rng) for step in _steps(seen, rng))
    model = next((model for model in models if model is not None), None)
    if model is None:
        units, active = drawn(seen, rng.random((100 * count, len(seen.space.names))))
        return first_new(seen, units, active, count)
    process, best, centres = model

    def improvement(units: Floats, active: Bools) -> Floats:
        mean, deviation = process.predict(seen.space.encode(units, active))
        return expected_improvement(mean, deviation, best)

    random = rng.random((RANDOM_CANDIDATES, len(seen.space.names)))
    units, active = drawn(seen, np.vstack([random, around(seen, centres, WIDTH, rng)]))
    gain = improvement(units, active)
    for refinement in range(1, REFINEMENTS + 1):
        centres = units[np.argsort(-gain, kind="stable")[:CENTRES]]
        near, near_active = drawn(seen, around(seen, centres, WIDTH / 3**refinement, rng))
        gain = np.append(gain, improvement(near, near_active))
        units, active = np.vstack([units, near]), np.vstack([active, near_active])
    if count > 1:
        believer = Believer(process, seen.space.encode(units, active), best, count)
        return choose(believer, seen, units, active, count)
    order = np.argsort(-gain, kind="stable")
    return first_new(seen, units[order], active[order], count)


def _steps(seen: Observations, rng: np.random.Generator) -> list[float]:
    """The steps whose values may be compared, the one to try first in front.

    A ladder from the highest step that has enough values down, each with twice as many as the one above
    and trusted; for a share LOWER of all proposals one below the highest comes first.
    """
    ladder: list[float] = []
    needed = ENOUGH
    values = seen.values
    for step in sorted(values, reverse=True):
        if len(values[step]) >= needed and (not ladder or trust(values, step, ENOUGH) >= TRUSTED):
            ladder.append(step)
            needed = 2 * len(values[step])
    if len(ladder) > 1 and rng.random() < LOWER:
        return ladder[int(rng.integers(1, len(ladder))) :]
    return ladder


def _model(
    seen: Observations, step: float, sign: float, rng: np.random.Generator
) -> tuple[GaussianProcess, float, Floats] | None:
    """The model of the values at a step, the value to improve on, and the best configurations there.

    None where the values are all equal, or noise alone explains them as well.
    """
    told = seen.values[step]
    scores = sign * np.fromiter(told.values(), float)
    numbers = np.array([*told, *seen.bad])
    scores = np.append(scores, np.full(len(seen.bad), scores.min()))
    ranked = np.lexsort((numbers, -scores))
    others = ranked[BEST:]
    if len(others) > OTHERS:
        others = others[np.sort(rng.choice(len(others), OTHERS, replace=False))]
    chosen = np.concatenate([ranked[:BEST], others])
    values = standardized(scores[chosen])
    if not values.any():
        return None  # all equal: at chance
    points = seen.rows(numbers[chosen])
    kernel = fit(points, values, seen.space.groups)
    if kernel.evidence < EVIDENCE:
        return None
    process = GaussianProcess(points, values, seen.space.groups, kernel)
    pending = sorted(seen.running - told.keys() - seen.bad)[-MOST_PENDING:]
    if pending:
        waiting = seen.rows(pending)
        points, values = np.vstack([points, waiting]), np.append(values, process.mean(waiting))
        # as if exact: with noise there would be something to gain from proposing the same once more
        process = GaussianProcess(points, values, seen.space.groups, kernel, noisy=len(chosen))
    best = float(process.mean(points).max())
    return process, best, seen.units(numbers[ranked[:CENTRES]])


def standardized(values: Floats) -> Floats:
    """Values (n,) brought to mean 0 and variance 1; 0 throughout where all are equal.

    Those far below the median are raised first: beside a loss of 1e6 all good ones would look alike.
    """
    largest = float(np.abs(values).max())
    scaled = values / largest if largest > 0 else values  # the square of a huge value would overflow
    middle = np.median(scaled)
    if tail := TAIL * np.median(np.abs(scaled - middle)):
        scaled = np.maximum(scaled, middle - tail)
    spread = float(scaled.std())
    return (scaled - scaled.mean()) / spread if spread > 1e-12 else np.zeros_like(values)
