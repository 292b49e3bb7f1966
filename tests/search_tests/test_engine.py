"""The engine where nothing runs: on a cluster without nodes Tune asks for work and calls nothing else."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.air.execution._internal.actor_manager import RayActorManager
from test_controller import make, row

from search.engine import Engine
from search.local_ray import ray, tune
from search.settings import UsageError
from search.slots import Slots
from trainables.storage import StorageError
from trainables.trainable import CompiledError


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


class Stints:
    """An engine on a cluster of which a test says what its workers report."""

    def __init__(self, trials: int = 1) -> None:
        self.told: list[str] = []
        self.controller = make("none", trials=trials)
        slots = Slots(count=trials, cpus=1, gpus=0.0)
        self.engine = Engine(
            self.controller,
            slots,
            None,
            lambda work: work,
            lambda row: 0.5,
            storage_faults=2,
            say=self.told.append,
        )

    def begin(self, ray_id: str = "one") -> None:
        assert self.engine.next_stint(ray_id) not in ("none", "finished")

    def refused(self, ray_id: str = "one", node: str = "n1") -> None:
        assert not self.engine.result(ray_id, {"storage": "Access Denied", "node": node})

    def trained(self, epoch: int, *, saved: bool, compiled: str = "") -> None:
        report = row(epoch) | {"validation_seconds": 0.0}
        facts = {"precision": "fp32", "device": "cpu", "node": "n1", "saved": saved, "compiled": compiled}
        seconds = {"checkpoint_seconds": 0.0, "setup_seconds": 0.0}
        assert self.engine.result("one", {"reports": [report], **seconds, **facts})


def test_a_node_that_cannot_use_the_storage_ends_the_search_only_when_it_goes_on_so() -> None:
    stints = Stints()
    for _ in range(2):
        stints.begin()
        stints.refused()
    stints.begin()
    stints.trained(1, saved=True)  # so they were not three in a row
    stints.refused()
    stints.begin()
    stints.refused()
    stints.begin()
    with pytest.raises(StorageError, match="Access Denied"):
        stints.refused()
    assert (
        stints.told[0] == "trial 0: node n1 could not use the storage (Access Denied); another worker tries"
    )
    trial = stints.controller.live[0]
    assert (trial.failures, trial.lost, trial.nodes_lost) == (0, 0, 0)


def test_a_training_that_fails_once_compiled_is_tried_again_without_using_up_a_retry(tmp_path: Path) -> None:
    error = tmp_path / "error.pkl"
    raised = CompiledError("OutOfMemoryError: tried to allocate more\nand what else torch says")
    as_tune_keeps_it = ray.exceptions.RayTaskError(
        "step", "a traceback\nof many lines", raised
    ).as_instanceof_cause()
    error.write_bytes(ray.cloudpickle.dumps(as_tune_keeps_it))
    stints = Stints()
    stints.begin()
    stints.engine.lost(SimpleNamespace(trial_id="one", pickled_error_file=str(error)))
    trial = stints.controller.live[0]
    assert (trial.failures, trial.lost, trial.state) == (0, 1, "interrupted")
    assert stints.told == [
        "trial 0 failed after compiling; it goes on without: OutOfMemoryError: tried to allocate more"
    ]


def test_what_came_of_compiling_is_said_once_a_stint() -> None:
    stints = Stints()
    stints.begin()
    stints.trained(1, saved=False)
    for epoch in (2, 3):
        stints.trained(epoch, saved=False, compiled="failed: RuntimeError: no C compiler")
    assert stints.told == ["trial 0: torch.compile: failed: RuntimeError: no C compiler"]
    trial = stints.controller.record.trial(0)
    assert trial.user_attrs["compiled"] == "failed: RuntimeError: no C compiler"


def test_epochs_without_a_checkpoint_do_not_prove_that_the_storage_works() -> None:
    stints = Stints()
    for epoch in (1, 2):
        stints.begin()
        stints.trained(epoch, saved=False)
        stints.refused()
    stints.begin()
    stints.trained(3, saved=False)
    with pytest.raises(StorageError):
        stints.refused()


def test_a_trial_that_no_node_can_save_ends_the_search() -> None:
    stints = Stints()
    for node in ("n1", "n2"):
        stints.begin()
        stints.refused(node=node)
    stints.begin()
    with pytest.raises(StorageError):
        stints.refused(node="n3")


def test_one_hiccup_that_many_trials_of_a_node_meet_is_one() -> None:
    stints = Stints(trials=4)
    for ray_id in "abcd":
        stints.begin(ray_id)
    for ray_id in "abcd":
        stints.refused(ray_id)
    assert len(stints.told) == 4


def test_a_tune_of_the_users_own_has_its_settings_again(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    class Tuner:
        def __init__(self, *_: Any, **__: Any) -> None:
            seen.append(os.environ.get("TUNE_MAX_PENDING_TRIALS_PG"))

        def fit(self) -> None:
            raise RuntimeError("as it may")

    monkeypatch.setattr(tune, "Tuner", Tuner)
    for before in (None, "3"):
        if before is not None:
            monkeypatch.setenv("TUNE_MAX_PENDING_TRIALS_PG", before)
        with pytest.raises(RuntimeError):
            engine().run()
        assert os.environ.get("TUNE_MAX_PENDING_TRIALS_PG") == before
    assert seen == ["100000", "100000"]
    assert logging.getLogger("ray.tune.tune").level != logging.CRITICAL


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
