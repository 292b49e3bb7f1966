"""The controller under Ray Tune.

A stint is one Ray trial. Tune places it on a reused worker and carries its results; it decides nothing,
and nothing has to be recovered from its state.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from search.ahead import Lookahead
from search.budgets import Budgets, UsedUp
from search.controller import Controller, Work
from search.local_ray import RayTrial, ray, tune
from search.slots import Slots
from search.tune_adapter import Decisions, EngineStop, WorkSource
from trainables.data import Dataset
from trainables.stint import Stint
from trainables.storage import StorageError
from trainables.trainable import LEAVING, CompiledError, Trainable, WorkerUsedUpError
from trainables.weights import NO_WEIGHTS, Weights

StopReason = Literal["finished", "interrupted"] | UsedUp
MOST_PENDING = 100_000
COUNT_SECONDS = 0.5
"""Time between two counts of the trials that hold GPUs."""


class Engine:
    """Runs a controller's work on Ray until it is finished, stopped, or out of time."""

    def __init__(
        self,
        controller: Controller,
        slots: Slots,
        trainable: Any,
        make_stint: Callable[[Work], Stint],
        score: Callable[[Mapping[str, Any]], float],
        *,
        room: Callable[[], int] | None = None,
        storage_faults: int = 0,
        budgets: Budgets | None = None,
        say: Callable[[str], None] = lambda text: None,
        on_step: Callable[[], None] = lambda: None,
        on_end: Callable[[int], None] = lambda number: None,
    ) -> None:
        """`trainable` is what `make_trainable` gives; `score` reads the score from an epoch's report.

        `room` says how many trials may run side by side by now; without it that is `slots.count`.
        `storage_faults`: how often in a row one node may not reach the storage before that ends the search.
        `on_step` is called many times a second, `on_end` with the number of each trial that has ended,
        `say` with a line that the user should read: a stint that lost its worker or could not use the
        storage, what came of compiling.
        """
        self.controller, self.slots, self.trainable = controller, slots, trainable
        self.make_stint, self.score = make_stint, score
        self.room = room or (lambda: slots.count)
        self.storage_faults = storage_faults
        self._storage_faults: Counter[str | int] = Counter()  # in a row, by node and by trial
        self._last_fault: dict[str, float] = {}
        self.budgets = budgets or Budgets()
        self.say = say
        self.on_step, self.on_end = on_step, on_end
        self.stop_requested = threading.Event()
        self.ahead = Lookahead(controller)
        self._training, self._counted = 0, 0.0
        self.failure: BaseException | None = None
        self.work: dict[str, Work] = {}  # by Ray's trial id, while the stint lasts
        self.ray_trials: dict[str, RayTrial] = {}

    def run(self) -> StopReason:
        """Search until there is nothing more to do. Ray must have been started.

        Raises what the controller or a hook raised.
        """
        folder = tempfile.mkdtemp(prefix="search-tune-")
        try:
            with _tune_as_needed():
                tune.Tuner(
                    self.trainable,
                    tune_config=tune.TuneConfig(
                        search_alg=WorkSource(self),
                        scheduler=Decisions(self),
                        num_samples=-1,
                        reuse_actors=True,
                    ),
                    run_config=tune.RunConfig(
                        name="stints",
                        storage_path=folder,
                        stop=EngineStop(self),
                        # the worker writes its own checkpoints, to the run folder
                        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                        verbose=0,
                    ),
                ).fit()
        except Exception:
            if self.failure is None:
                raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if self.failure is not None:
            raise self.failure
        if self.controller.finished:
            for number in self.controller.finish():
                self.on_end(number)
            return "finished"
        return self.budgets.used_up(self.controller.epochs) or "interrupted"

    def should_stop(self) -> bool:
        """Whether to end now, whatever runs."""
        now = time.monotonic()
        self.budgets.tick(now, self.slots.gpus * self._training)
        if self.slots.gpus and now - self._counted > COUNT_SECONDS:
            # a stint that waits for a place holds no GPU
            running = (trial.status == RayTrial.RUNNING for trial in self.ray_trials.values())
            self._training, self._counted = sum(running), now
        used_up = self.budgets.used_up(self.controller.epochs) is not None
        return used_up or self.stop_requested.is_set() or self.failure is not None

    def step(self) -> None:
        """What is done again and again while trials train."""
        self.on_step()
        self.ahead.idle(len(self.work), self.room())

    def next_stint(self, ray_id: str) -> Stint | Literal["none", "finished"]:
        """What a free slot does next."""
        if self.should_stop():
            return "finished"
        if not self.work:
            self.step()  # where nothing runs, Tune waits for this to give it something and calls nothing else
        running, room = len(self.work), self.room()
        if running >= room:
            # nothing is given out, but what is over is over, also on a cluster that has lost its nodes
            return "finished" if self.controller.finished else "none"
        self.ahead.needed(running, room)
        work = self.controller.next_work()
        if work is None:
            return "finished" if self.controller.finished else "none"
        self.work[ray_id] = work
        self.controller.observe_time(work.trial, begin=time.time())
        return self.make_stint(work)

    def result(self, ray_id: str, result: Mapping[str, Any]) -> bool:
        """Pass a worker's result on; returns whether its stint goes on."""
        work = self.work.get(ray_id)
        if work is None:
            return False
        if "storage" in result:
            return self._without_storage(ray_id, result["node"], result["storage"])
        self.controller.observe_time(work.trial, end=time.time())
        if "infeasible" in result:
            self.controller.ended(work.trial, infeasible=result["infeasible"])
            return self._close(ray_id)
        rows = result["reports"]
        spent = {
            "training": sum(row["seconds"] - row["validation_seconds"] for row in rows),
            "validation": sum(row["validation_seconds"] for row in rows),
            "checkpoint": result["checkpoint_seconds"],
            "setup": result["setup_seconds"],
        }
        facts = {key: result[key] for key in ("precision", "device", "node")}
        compiled = result.get("compiled", "")
        if compiled and compiled != self.controller.live[work.trial].stints[-1].get("compiled"):
            self.say(f"trial {work.trial}: torch.compile: {compiled}")
        if compiled or any("compiled" in stint for stint in self.controller.live[work.trial].stints):
            facts["compiled"] = compiled
        self.controller.observe(work.trial, facts, spent)
        if result["saved"]:  # an epoch without a checkpoint proves nothing
            self._storage_faults.pop(result["node"], None)
            self._storage_faults.pop(work.trial, None)
        for row in rows:
            if not self.controller.report(work.trial, row, self.score(row)):
                return self._close(ray_id)
        return True

    def _without_storage(self, ray_id: str, node: str, why: str) -> bool:
        """Have another worker go on with the trial, on another node perhaps.

        Raises StorageError, which ends the search, where that was tried often enough; the trial stays
        unfinished.
        """
        trial = self.work[ray_id].trial
        self._storage_faults[trial] += 1
        # trials that one hiccup met side by side are one fault of their node
        if self.controller.live[trial].stints[-1]["begin"] >= self._last_fault.get(node, 0.0):
            self._storage_faults[node] += 1
            self._last_fault[node] = time.time()
        if max(self._storage_faults[node], self._storage_faults[trial]) > self.storage_faults:
            raise StorageError(why)
        self.say(f"trial {trial}: node {node} could not use the storage ({why}); another worker tries")
        self.controller.ended(trial)
        return self._close(ray_id)

    def lost(self, ray_trial: RayTrial) -> None:
        """Pass on that a stint ended with an exception, or with the death of its worker."""
        work = self.work.get(ray_trial.trial_id)
        if work is None:
            return
        self.controller.observe_time(work.trial, end=time.time())
        error = _error_of(ray_trial)
        text = _ANSI_COLOURS.sub("", str(error))
        if isinstance(error, WorkerUsedUpError):
            self.controller.ended(work.trial)  # no fault of the trial: a new worker takes it up
            if LEAVING in text:
                self.say(f"trial {work.trial}: its worker was {LEAVING}; it goes on elsewhere")
        elif isinstance(error, ray.exceptions.RayActorError):
            away = isinstance(error, ray.exceptions.ActorUnavailableError) or error.preempted
            node = away or NODE_DIED in text
            self.controller.ended(work.trial, lost=text, with_its_node=node)
            self.say(self._told(work, node))
        elif isinstance(error, CompiledError):
            # not one of its failures, and what lost a worker once is not compiled again
            self.controller.ended(work.trial, lost=text)
            why, _, _ = str(getattr(error, "cause", error)).partition("\n")  # Ray's own text is a traceback
            self.say(f"trial {work.trial} failed after compiling; it goes on without: {why}")
        else:
            self.controller.ended(work.trial, error=text)
        self._close(ray_trial.trial_id)

    def _told(self, work: Work, node: bool) -> str:
        trial = self.controller.live.get(work.trial)
        place = self.controller.record.trial(work.trial).user_attrs.get("node", "a node")
        whose = f"trial {work.trial} lost its {'node' if node else 'worker'} ({place})"
        if trial is None:
            return f"{whose} too often: it has failed"
        return f"{whose}: it goes on elsewhere from its last checkpoint, {trial.epochs} epochs are on record"

    def kill_workers(self) -> None:
        """End the workers that still train, without waiting for their epoch."""
        for ray_id in self.work:
            ray_trial = self.ray_trials.get(ray_id)
            actor = ray_trial.temporary_state.ray_actor if ray_trial is not None else None
            if actor is not None:
                ray.kill(actor)

    def _close(self, ray_id: str) -> bool:
        work = self.work.pop(ray_id)
        self.ray_trials.pop(ray_id, None)
        if work.trial not in self.controller.live:
            self.on_end(work.trial)
        return False

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Keep an exception for `run` to raise: inside Tune it would become text in another one."""
        try:
            yield
        except Exception as error:
            if self.failure is None:
                self.failure = error


NODE_DIED = "its node has died"
"""What Ray says of an actor whose node is gone."""
_ANSI_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def _tune_as_needed() -> Iterator[None]:
    """Tune's settings for a search; a Tune of the user's own in this process has its own again afterwards."""
    # `next_stint` sees to it that no more are pending than there is room for
    name = "TUNE_MAX_PENDING_TRIALS_PG"
    before = os.environ.get(name)
    os.environ[name] = str(MOST_PENDING)
    # it counts failed stints as trials that did not complete, and says so in an error of its own
    logger = logging.getLogger("ray.tune.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _error_of(ray_trial: RayTrial) -> Exception:
    """What ended a Ray trial; Tune has just written it down in this process's own temporary folder."""
    if ray_trial.pickled_error_file is not None:
        with contextlib.suppress(Exception):  # a class that exists on the worker only
            error: Exception = ray.cloudpickle.loads(Path(ray_trial.pickled_error_file).read_bytes())
            return error
    return RuntimeError(Path(ray_trial.error_file).read_text(encoding="utf-8"))


def placement(slots: Slots) -> dict[str, Any]:
    """What Ray's placement groups take for one slot."""
    bundle = {"CPU": slots.cpus, **({"GPU": slots.gpus} if slots.gpus else {})}
    selector = {"bundle_label_selector": [{"ray.io/node-id": f"!{slots.not_on}"}]} if slots.not_on else {}
    return {"bundles": [bundle], **selector}


def make_trainable(
    slots: Slots, dataset: Dataset, *, weights: Weights = NO_WEIGHTS, device: str = "auto"
) -> Any:
    """What trains on a slot. Puts data and weights into the object store, where they stay until Ray ends."""
    return tune.with_parameters(
        tune.with_resources(Trainable, tune.PlacementGroupFactory(**placement(slots))),
        data=dataset,
        weights=weights,
        device=device,
        threads=slots.cpus,
        gpus=slots.gpus,
    )


def ship(modules: list[ModuleType]) -> None:
    """Have workers get these modules, a user's own space, from this process instead of their own disk."""
    for module in modules:
        ray.cloudpickle.register_pickle_by_value(module)
