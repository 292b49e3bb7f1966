from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from search.encoding import Parameter, UnionSpace, widened

KINDS: list[tuple[BaseDistribution, list[Any]]] = [
    (FloatDistribution(-2.0, 3.0), [-2.0, 0.0, 3.0]),
    (FloatDistribution(1e-5, 1.0, log=True), [1e-5, 1e-2, 1.0]),
    (FloatDistribution(0.0, 0.3, step=0.1), [0.0, 0.1, 0.2, 0.3]),
    (FloatDistribution(-1e308, 1e308), [-1e308, 0.0, 1e308]),
    (IntDistribution(3, 8), [3, 4, 5, 6, 7, 8]),
    (IntDistribution(16, 96, step=8), [16, 56, 96]),
    (IntDistribution(1, 1000, log=True), [1, 2, 30, 1000]),
    (IntDistribution(1, 2, log=True), [1, 2]),
    (CategoricalDistribution(["a", "b", "c"]), ["a", "b", "c"]),
    (CategoricalDistribution([None, True, 2.5]), [None, True, 2.5]),
]


@pytest.mark.parametrize(("distribution", "values"), KINDS)
def test_every_value_survives_its_place_on_the_unit_range(
    distribution: BaseDistribution, values: list[Any]
) -> None:
    parameter = Parameter(distribution)
    for value in values:
        unit = parameter.to_unit(value)
        assert 0 <= unit <= 1
        back = parameter.to_value(unit)
        assert back == value or back == pytest.approx(value, rel=1e-9)
        assert type(back) is type(value)


@pytest.mark.parametrize("distribution", [distribution for distribution, _ in KINDS])
def test_every_place_is_a_value_that_optuna_accepts_and_snapping_finds_it(
    distribution: BaseDistribution,
) -> None:
    parameter, units = Parameter(distribution), np.linspace(0, 1, 101)
    values = [parameter.to_value(float(unit)) for unit in units]
    assert all(distribution._contains(distribution.to_internal_repr(value)) for value in values)
    snapped = parameter.snap(units)
    places = [parameter.to_unit(value) for value in values]
    np.testing.assert_allclose(snapped, places, atol=1e-9)


def test_uniform_places_draw_every_integer_equally_often() -> None:
    four = (IntDistribution(0, 3), IntDistribution(0, 9, step=3), FloatDistribution(0, 3, step=1))
    for distribution in four:
        parameter = Parameter(distribution)
        drawn = [parameter.to_value(unit) for unit in (np.arange(400) + 0.5) / 400]
        assert sorted(drawn.count(value) for value in set(drawn)) == [100] * 4


def test_categories_are_all_at_distance_1_and_inactive_parameters_apart_from_all_values() -> None:
    space = UnionSpace(
        {"kind": CategoricalDistribution(["a", "b", "c"]), "rate": FloatDistribution(0, 1)},
        frozenset({"rate"}),
    )
    rows = [space.row({"kind": kind, "rate": 0.5}) for kind in "abc"] + [space.row({"kind": "a"})]
    columns = space.encode(np.array([units for units, _ in rows]), np.array([active for _, active in rows]))
    apart = ((columns[:, None] - columns[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(apart[:3, :3], 1 - np.eye(3), atol=1e-12)
    assert apart[0, 3] > 0.1  # active in the middle of its range is not inactive
    assert space.groups.tolist() == [0, 0, 0, 1, 1]


def test_the_value_drawn_for_an_inactive_parameter_changes_nothing() -> None:
    space = UnionSpace({"rate": FloatDistribution(0, 1)}, frozenset({"rate"}))
    off = np.array([[False]])
    np.testing.assert_array_equal(space.encode(np.array([[0.1]]), off), space.encode(np.array([[0.9]]), off))


def test_a_range_that_changes_is_covered_whole() -> None:
    assert widened(IntDistribution(1, 5), IntDistribution(3, 9)) == IntDistribution(1, 9)
    assert widened(IntDistribution(0, 4, step=2), IntDistribution(1, 5, step=2)) == IntDistribution(0, 5)
    assert widened(FloatDistribution(0, 1), FloatDistribution(-1, 0.5)) == FloatDistribution(-1, 1)
