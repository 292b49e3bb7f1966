"""Real workers of a Ray on this machine, more of them than it has cores: they sleep for each epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from unittest import mock

import numpy as np

import search.engine
from benchmarks.idle_worker import IdleWorker
from benchmarks.made_up_slots import Measured, make_controller, order
from search.engine import Engine
from search.local_ray import local_ray, ray
from search.slots import Slots
from search.study import StudyRecord
from trainables.data import Dataset


class Watched(Engine):
    """Notes how long its workers wait, from when each has reported once, and ends after `seconds` of that."""

    seconds: float

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.taken, self.refills = 0, list[float]()
        self.began = self.ended = Moment.never()
        self._reported: set[str] = set()

    def result(self, ray_id: str, result: Mapping[str, Any]) -> bool:
        """As the engine does, and what the worker says of its waiting is noted."""
        now = Moment(time.perf_counter(), time.process_time(), self.controller.asked)
        if len(self._reported) < self.slots.count:
            self._reported.add(result["node"])
            self.began = now
        elif not self.stop_requested.is_set():
            self.taken += 1
            self.refills += [result["refill"]] if "refill" in result else []
            self.ended = now
            if now.wall - self.began.wall >= self.seconds:
                self.stop_requested.set()
        return super().result(ray_id, result)


@dataclass(frozen=True)
class Moment:
    """A moment of a search: wall time, CPU time of the driver, trials asked for."""

    wall: float
    cpu: float
    asked: int

    @staticmethod
    def never() -> Moment:
        """One that was not reached."""
        return Moment(math.nan, math.nan, 0)


def drive(count: int, sampler: str, url: str, *, epoch_seconds: float, seconds: float) -> Measured:
    """Search on `count` workers for some seconds, counted from when all have reported once."""
    slots = Slots(count=count, cpus=1, gpus=0)
    record = StudyRecord("cluster", "maximize", url)
    controller = make_controller(record, sampler)

    def on_step() -> None:
        record.flush()

    idle = mock.patch.object(search.engine, "Trainable", IdleWorker)
    with idle, local_ray(slots):
        engine = Watched(
            controller,
            slots,
            # in place of the data set: how long an epoch takes
            search.engine.make_trainable(slots, cast("Dataset", epoch_seconds)),
            lambda work: order(record, work),
            lambda row: float(row["val_accuracy"]),
            on_step=on_step,
        )
        engine.seconds = seconds
        engine.run()
    record.close()
    passed = engine.ended.wall - engine.began.wall
    return Measured(
        search=sampler,
        slots=count,
        offered=count / epoch_seconds if epoch_seconds else math.inf,
        results=engine.taken / passed,
        trials=(engine.ended.asked - engine.began.asked) / passed,
        refill=float(np.median(engine.refills)),
        refill_99=float(np.quantile(engine.refills, 0.99)),
        refill_max=max(engine.refills),
        busy=(engine.ended.cpu - engine.began.cpu) / passed,
        at_once=engine.ahead.count,
    )


def event_milliseconds(workers: int, events: int = 200) -> float:
    """What it costs Tune's loop to find the next event while so many workers train: it looks at each of them.

    Tune's own manager of events, with that many tasks that never start. Ray must not have been started.
    """
    from ray.air.execution import FixedResourceManager
    from ray.air.execution._internal.actor_manager import RayActorManager

    with local_ray(Slots(count=1, cpus=1, gpus=0)):
        manager = RayActorManager(FixedResourceManager())
        never: Any = ray.remote(num_cpus=0, resources={"absent": 1})(lambda: None)
        waiting = [never.remote() for _ in range(workers)]
        manager._actor_task_events.track_futures(waiting)
        took = []
        for _ in range(events):
            manager._actor_task_events.track_future(ray.put(None))
            began = time.perf_counter()
            assert manager.next(timeout=1.0)
            took.append(time.perf_counter() - began)
    return 1000 * float(np.median(took))
