from __future__ import annotations

import numpy as np

from search.conditions import Conditions, asking_order


def test_names_come_in_the_order_they_are_asked_for_also_when_some_come_late() -> None:
    assert asking_order([["a", "c"], ["a", "b", "c"], ["a", "c", "d"]]) == ["a", "b", "c", "d"]


def test_conditions_of_a_tree_are_learnt() -> None:
    rng = np.random.default_rng(0)
    units = rng.random((200, 4))
    active = np.ones((200, 4), dtype=bool)
    active[:, 1] = units[:, 0] > 0.5
    active[:, 2] = active[:, 1] & (units[:, 1] < 0.5)
    learnt = Conditions(units[:150], active[:150])
    assert (learnt.active(units[150:]) == active[150:]).mean() > 0.97
