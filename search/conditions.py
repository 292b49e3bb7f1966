"""Which parameters a configuration has: learnt from the configurations that a space made before.

A define-by-run space asks for a parameter or not, depending on what it asked for earlier. One decision tree
a parameter learns that from past trials. A wrong guess costs little: a value proposed for a parameter that
is not asked for is not used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.encoding import Bools, Floats

INACTIVE = -1.0
"""Stands for the place in [0, 1] of a parameter that is not active."""


def asking_order(asked: Iterable[Sequence[str]]) -> list[str]:
    """All names in one order that agrees, as far as one can, with the orders they were asked for in."""
    order: list[str] = []
    known: set[str] = set()
    for names in asked:
        if known.issuperset(names):
            continue
        place = 0
        for name in names:
            if name in known:
                place = max(place, order.index(name) + 1)
            else:
                order.insert(place, name)
                known.add(name)
                place += 1
    return order


class Conditions:
    """Rules for which parameters are active, given places in [0, 1] and activity (n, parameters) each.

    Parameters must stand in asking order: a rule sees only the parameters before its own.
    """

    def __init__(self, units: Floats, active: Bools) -> None:
        from sklearn.tree import DecisionTreeClassifier

        self._always: Bools = np.all(active, axis=0).reshape(-1)
        self._rules: dict[int, Any] = {}
        seen = np.where(active, units, INACTIVE)
        for i in np.flatnonzero(~self._always & active.any(axis=0)):
            if i > 0:
                tree = DecisionTreeClassifier(random_state=0)
                self._rules[int(i)] = tree.fit(seen[:, :i], active[:, i]).tree_

    def active(self, units: Floats) -> Bools:
        """Which parameters are active where each had this place in [0, 1]: (n, parameters)."""
        active: Bools = np.zeros(units.shape, dtype=bool)
        active[:, : self._always.size] = self._always
        seen: NDArray[np.float32] = np.where(active, units, INACTIVE).astype(np.float32)
        for i in self._rules:
            active[:, i] = self.active_next(seen[:, :i])
            seen[:, i] = np.where(active[:, i], units[:, i], INACTIVE)
        return active

    def active_next(self, seen: NDArray[np.float32]) -> Bools:
        """Whether the next parameter is active: (n,), given the places of all before it (n, parameters
        before it), INACTIVE where they are not active."""
        count, i = seen.shape
        tree = self._rules.get(i)
        if tree is None:
            return np.full(count, self._always[i])
        votes = tree.predict(np.ascontiguousarray(seen))
        chosen: Bools = votes.reshape(count, 2).argmax(axis=1) == 1
        return chosen
