"""Configurations as numbers: each parameter on [0, 1] for drawing, and as columns for a model.

A discrete parameter of m values has them at the middles of m equal parts of [0, 1], so that a uniform
number draws each equally often. A space that depends on choices is the union of all parameters ever asked
for; in each configuration some are active and the others have no meaning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Parameter:
    """One parameter's values as numbers in [0, 1], and back."""

    def __init__(self, distribution: BaseDistribution) -> None:
        assert isinstance(distribution, FloatDistribution | IntDistribution | CategoricalDistribution)
        self.distribution = distribution
        self.categories = 0
        """Number of choices without an order; 0 where there is an order."""
        self._levels = 0  # number of equally spaced values; 0 for a continuous or logarithmic range
        low, high = 0.0, 1.0
        if isinstance(distribution, CategoricalDistribution):
            self.categories = self._levels = len(distribution.choices)
        else:
            low, high = float(distribution.low), float(distribution.high)
            if distribution.step is not None and not distribution.log:
                self._levels = math.floor((high - low) / distribution.step + 1e-8) + 1
            elif isinstance(distribution, IntDistribution):
                low, high = low - 0.5, high + 0.5  # the outermost integers too get their full share
        self._log = not self.categories and bool(getattr(distribution, "log", False))
        self._low, self._high = (math.log(low), math.log(high)) if self._log else (low, high)

    @property
    def finest(self) -> float:
        """Distance on [0, 1] from one value to the next; 0 for a continuous or logarithmic range."""
        return 1.0 / self._levels if self._levels else 0.0

    def to_unit(self, value: Any) -> float:
        """A value's place in [0, 1]."""
        number = self.distribution.to_internal_repr(value)
        distribution = self.distribution
        if self._levels:
            step = 1.0 if self.categories else float(getattr(distribution, "step", 1.0))
            base = 0.0 if self.categories else self._low
            return (min(max(round((number - base) / step), 0), self._levels - 1) + 0.5) / self._levels
        if self._log:
            number = math.log(number)
        if self._low == self._high:
            return 0.5
        # halves: the width of a huge range would overflow
        unit = (number / 2 - self._low / 2) / (self._high / 2 - self._low / 2)
        return min(max(unit, 0.0), 1.0)

    def to_value(self, unit: float) -> Any:
        """The value at a place in [0, 1]: a member of the distribution."""
        distribution = self.distribution
        if self._levels:
            index = min(int(unit * self._levels), self._levels - 1)
            if isinstance(distribution, CategoricalDistribution):
                return distribution.choices[index]
            value = distribution.low + index * (distribution.step or 1)
            return int(value) if isinstance(distribution, IntDistribution) else min(value, distribution.high)
        number = self._low * (1.0 - unit) + self._high * unit
        if self._log:
            number = math.exp(number)
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        if isinstance(distribution, IntDistribution):
            number = round(number)
        return min(max(number, distribution.low), distribution.high)

    def snap(self, units: Floats) -> Floats:
        """Numbers in [0, 1] moved to the places of values that exist: shape (n,)."""
        if self._levels:
            return (np.minimum(np.floor(units * self._levels), self._levels - 1) + 0.5) / self._levels
        if isinstance(self.distribution, IntDistribution):  # logarithmic
            numbers = np.exp(self._low + units * (self._high - self._low))
            numbers = np.clip(np.round(numbers), self.distribution.low, self.distribution.high)
            return (np.log(numbers) - self._low) / (self._high - self._low)
        return units


class UnionSpace:
    """All parameters that trials of a study asked for."""

    def __init__(self, distributions: Mapping[str, BaseDistribution], conditional: frozenset[str]) -> None:
        self.names = list(distributions)
        self.parameters = [Parameter(distribution) for distribution in distributions.values()]
        self.conditional = np.array([name in conditional for name in self.names], dtype=bool)
        widths = np.array([max(parameter.categories, 1) for parameter in self.parameters], dtype=int)
        self.groups: NDArray[np.intp] = np.repeat(np.arange(len(widths)), widths + self.conditional)
        """Which parameter each column of `encode` belongs to."""
        self.unordered = np.array([parameter.categories > 0 for parameter in self.parameters], dtype=bool)
        self.finest = np.array([parameter.finest for parameter in self.parameters], dtype=float)
        """Least step on [0, 1] from one value to the next; 0 where there is none."""

    def row(self, params: Mapping[str, Any]) -> tuple[Floats, Bools]:
        """Places in [0, 1] and which are active, of one configuration: shape (parameters,) each."""
        active = np.array([name in params for name in self.names], dtype=bool)
        units = [
            parameter.to_unit(params[name]) if name in params else 0.5
            for name, parameter in zip(self.names, self.parameters, strict=True)
        ]
        return np.array(units, dtype=float), active

    def values(self, units: Floats) -> dict[str, Any]:
        """One configuration of all parameters: shape (parameters,)."""
        return {
            name: parameter.to_value(float(unit))
            for name, parameter, unit in zip(self.names, self.parameters, units, strict=True)
        }

    def snap(self, units: Floats) -> Floats:
        """Places in [0, 1] moved to values that exist: (n, parameters)."""
        columns = [parameter.snap(units[:, i]) for i, parameter in enumerate(self.parameters)]
        return np.stack(columns, axis=1) if columns else units

    def encode(self, units: Floats, active: Bools) -> Floats:
        """Columns for a model, from places and activity (n, parameters) each.

        A parameter in order is its place, one of categories a column each at distance 1 of one another;
        an inactive one stands in the middle of all its values, and one that is not always active has a
        column more that says whether it is.
        """
        columns: list[Floats] = []
        for i, parameter in enumerate(self.parameters):
            on = active[:, i]
            if parameter.categories:
                index = np.floor(units[:, i] * parameter.categories)
                for category in range(parameter.categories):
                    hot = np.where(on, index == category, 1.0 / parameter.categories)
                    columns.append(hot / math.sqrt(2.0))
            else:
                columns.append(np.where(on, units[:, i], 0.5))
            if self.conditional[i]:
                columns.append(on.astype(float))
        return np.stack(columns, axis=1) if columns else np.zeros((len(units), 0))


def widened(old: BaseDistribution, new: BaseDistribution) -> BaseDistribution:
    """The distribution that covers two of the same parameter, whose range may change from trial to trial.

    Optuna itself refuses a change of kind, of choices, and between linear and logarithmic.
    """
    if old == new or isinstance(old, CategoricalDistribution):
        return old
    assert isinstance(old, FloatDistribution | IntDistribution)
    assert isinstance(new, FloatDistribution | IntDistribution)
    low, high = min(old.low, new.low), max(old.high, new.high)
    same_grid = old.step == new.step and (old.step is None or (old.low - new.low) % old.step == 0)
    if isinstance(old, IntDistribution):
        assert isinstance(new, IntDistribution)
        return IntDistribution(int(low), int(high), log=old.log, step=old.step if same_grid else 1)
    return FloatDistribution(low, high, log=old.log, step=old.step if same_grid else None)
