"""Configurations among which a model chooses, as places in [0, 1] and activity (n, parameters)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search.encoding import Bools, Floats
from search.observations import Observations

LOCAL_CANDIDATES = 600
MOVED = 8
"""Parameters that a local candidate changes, on average."""


def drawn(seen: Observations, units: Floats) -> tuple[Floats, Bools]:
    """Numbers in [0, 1] (n, parameters) as configurations: places of values that exist, and activity."""
    units = seen.space.snap(units)
    return units, seen.conditions().active(units)


def around(seen: Observations, centres: Floats, width: float, rng: np.random.Generator) -> Floats:
    """Local candidates: each moves some parameters of one centre (n, parameters) by a normal step, or to
    any choice where there is no order."""
    space, count = seen.space, centres.shape[1]
    base = centres[rng.integers(len(centres), size=LOCAL_CANDIDATES)]
    moved: NDArray[np.bool_] = rng.random(base.shape) < min(1.0, MOVED / count)
    moved[np.arange(len(base)), rng.integers(count, size=len(base))] = True
    stepped = base + rng.normal(size=base.shape) * np.maximum(width, space.finest)
    stepped = 1.0 - np.abs(1.0 - np.abs(stepped))  # reflected, or candidates would pile up at the borders
    fresh = np.where(space.unordered, rng.random(base.shape), stepped)
    candidates: Floats = np.where(moved, fresh, base).clip(0.0, 1.0)
    return candidates


def first_new(seen: Observations, units: Floats, active: Bools, count: int) -> list[Floats]:
    """The first `count` configurations that no trial has; the very first where all are known."""
    chosen: dict[bytes, Floats] = {}
    for place, is_active in zip(units, active, strict=True):
        key = seen.key(place, is_active)
        if key not in seen.known:
            chosen.setdefault(key, place)
        if len(chosen) == count:
            break
    return [*chosen.values()] or [units[0]]
