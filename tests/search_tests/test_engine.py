"""The engine where nothing runs: on a cluster without nodes Tune asks for work and calls nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from test_controller import make

from search.engine import Engine
from search.settings import UsageError
from search.slots import Slots


def engine(**hooks: Any) -> Engine:
    """One that has no room."""
    slots = Slots(count=1, cpus=1, gpus=0.0)
    return Engine(make(), slots, None, lambda work: pytest.fail("no room"), lambda row: 0.0, **hooks)


def test_the_cluster_is_followed_while_it_has_no_room() -> None:
    followed: list[int] = []
    waiting = engine(room=lambda: 0, on_step=lambda: followed.append(1))
    assert waiting.next_stint("ray-1") == "none"
    assert waiting.next_stint("ray-1") == "none"
    assert followed == [1, 1]


def test_a_search_that_waits_for_its_first_node_can_be_stopped() -> None:
    waiting = engine(room=lambda: 0)
    waiting.stop_requested.set()
    assert waiting.next_stint("ray-1") == "finished"


def test_a_failure_while_nothing_runs_is_kept_and_ends_the_search() -> None:
    def follow() -> None:
        raise UsageError("node one does not fit")

    waiting = engine(room=lambda: 0, on_step=follow)
    with waiting.guarded():
        waiting.next_stint("ray-1")
    assert isinstance(waiting.failure, UsageError)
    assert waiting.next_stint("ray-1") == "finished"
