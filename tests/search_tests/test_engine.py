"""The engine where nothing runs: on a cluster without nodes Tune asks for work and calls nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.air.execution._internal.actor_manager import RayActorManager
from test_controller import make

from search.engine import Engine
from search.local_ray import ray
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


def test_a_stint_that_waits_for_a_place_uses_up_no_gpu_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("search.engine.time", SimpleNamespace(monotonic=lambda: now))
    slots = Slots(count=2, cpus=1, gpus=0.5)
    search = Engine(make(), slots, None, lambda work: pytest.fail("no room"), lambda row: 0.0)
    for status in ("RUNNING", "PENDING"):
        search.ray_trials[status] = SimpleNamespace(status=status)
    for _ in range(11):
        search.should_stop()
        now += 1.0
    assert search.budgets.spent_gpu_seconds == pytest.approx(0.5 * 9, abs=0.6)


@pytest.mark.parametrize("handler", ["_actor_task_failed", "_actor_start_failed"])
def test_a_worker_that_rays_memory_monitor_ended_is_a_lost_worker(handler: str) -> None:
    heard: list[BaseException] = []
    actor = SimpleNamespace(actor_id=1, _on_error=lambda actor, error: heard.append(error))
    manager = SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda **_: None)
    task = SimpleNamespace(_tracked_actor=actor, _on_error=None)
    about = {"tracked_actor_task": task} if "task" in handler else {"tracked_actor": actor}
    ended = ray.exceptions.OutOfMemoryError("Task was killed due to the node running low on memory.")
    getattr(RayActorManager, handler)(manager, exception=ended, **about)
    (error,) = heard
    assert isinstance(error, ray.exceptions.RayActorError)
    assert "low on memory" in str(error)
