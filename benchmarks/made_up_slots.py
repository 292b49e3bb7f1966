"""A thousand slots without a cluster: the engine's own calls in the order of Tune's loop, results made up.

Controller, proposals, the record on SQLite and orders for the workers are real. Ray is left out, and so are
the terminal, checkpoints and what is kept back for confirming, which get 2 % of a driver's time each. Time is
CPU time of the process, so waits for the disk are not in it.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.idle_worker import result
from search.ahead import Lookahead
from search.controller import Controller, Plan, Work
from search.engine import Engine
from search.sampler import samplers
from search.slots import Slots
from search.study import StudyRecord
from spaces import cnn
from trainables.config import Task, to_json
from trainables.models.size import count_parameters
from trainables.stint import Stint

TASK = Task(image_size=32, classes=10, train_images=50_000, max_epochs=27)
SPREAD = 0.3
"""Epochs take this much more or less than the mean, at most."""
WARM_UP = 3
"""Results for each slot before anything counts: all begin at once, and their first epochs end together."""


@dataclass(frozen=True)
class Measured:
    """What a driver did in some time."""

    search: str
    slots: int
    offered: float
    """Results a second that slots would report which never wait."""
    results: float
    """Results a second taken in."""
    trials: float
    """New configurations a second."""
    refill: float
    """Seconds from the end of a slot's work to its next, median ..."""
    refill_99: float
    """... and 99th percentile ..."""
    refill_max: float
    """... and longest."""
    busy: float
    """CPU seconds of the driver a second."""
    at_once: int
    """Proposals that were made at once in the end."""


def promise(params: Mapping[str, Any]) -> float:
    """The score that a made-up training rises to."""
    away = abs(params["growth"] - 1.5) + params["dropout.blocks"] + abs(params["width"] - 64) / 64
    return math.exp(-away - 0.5 * (params["norm"] == "none"))


def make_controller(record: StudyRecord, sampler: str) -> Controller:
    """A search of the space `cnn` that only time ends, with what a real one notes of each network."""

    def limit(config: Any) -> tuple[None, Mapping[str, Any]]:
        return None, {"network_parameters": count_parameters(config.model, TASK), "config": to_json(config)}

    plan = Plan(min_epochs=1, max_epochs=TASK.max_epochs, reduction_factor=3, rule="promote", trials=None)
    return Controller(
        record,
        plan,
        suggest=lambda trial: cnn.suggest(trial, TASK),
        sampler=samplers(sampler, 0),
        limit=limit,
    )


def order(record: StudyRecord, work: Work) -> Stint:
    """What a worker is told; of the parameters only what its score depends on."""
    return Stint(
        trial=work.trial,
        stint=work.stint,
        config=work.config,
        task=TASK,
        seed=0,
        known_epochs=work.known_epochs,
        checkpoint_epochs=(1, 3, 9, 27),
        checkpoint_seconds=math.inf,
        folder=Path("unused"),
        identity="",
        precision="fp32",
        params={"promise": promise(record.trial(work.trial).params)},
    )


class Clock:
    """CPU seconds of this process, and those that it would have waited: other work on the machine hardly
    changes them, and nothing has to be waited for.
    """

    def __init__(self) -> None:
        self._skipped = 0.0

    def __call__(self) -> float:
        """Seconds since some moment."""
        return time.process_time() + self._skipped

    def wait(self, seconds: float) -> None:
        """As if so much time had passed."""
        self._skipped += seconds


def drive(slots: int, sampler: str, url: str, *, epoch_seconds: float, seconds: float) -> Measured:
    """Keep slots busy for some seconds, counted from when their common start is forgotten."""
    clock = Clock()
    with mock.patch("search.database.time", SimpleNamespace(monotonic=clock)):
        return _drive(clock, slots, sampler, url, epoch_seconds=epoch_seconds, seconds=seconds)


def _drive(
    clock: Clock, slots: int, sampler: str, url: str, *, epoch_seconds: float, seconds: float
) -> Measured:
    record = StudyRecord("cluster", "maximize", url)
    controller = make_controller(record, sampler)

    def on_step() -> None:
        record.flush()

    engine = Engine(
        controller,
        Slots(count=slots, cpus=1, gpus=0),
        None,
        lambda work: order(record, work),
        lambda row: float(row["val_accuracy"]),
        on_step=on_step,
    )
    engine.ahead = Lookahead(controller, clock)
    rng = np.random.default_rng(0)
    ends: list[tuple[float, str, int, float]] = []  # a heap: when which Ray trial's epoch ends, its promise
    free = deque([clock()] * slots)  # since when each slot without work has none
    waits: list[float] = []
    names = map(str, count())
    taken = 0

    def begin(name: str, epoch: int, promised: float) -> None:
        lasts = epoch_seconds * rng.uniform(1 - SPREAD, 1 + SPREAD)
        heapq.heappush(ends, (clock() + lasts, name, epoch, promised))

    start: tuple[float, float, int, int] | None = None
    while True:
        while free and isinstance(stint := engine.next_stint(name := next(names)), Stint):
            waits.append(clock() - free.popleft())
            begin(name, stint.known_epochs + 1, stint.params["promise"])
        engine.step()
        assert not engine.should_stop()
        if start is None and taken >= WARM_UP * slots:
            start = clock(), time.process_time(), taken, controller.asked
            waits.clear()
        if start is not None and clock() - start[0] >= seconds:
            break
        if (left := ends[0][0] - clock()) > 0:
            clock.wait(min(left, 0.1))  # Tune waits for one event, and no longer than that
            continue
        due, name, epoch, promised = heapq.heappop(ends)
        taken += 1
        if engine.result(name, result(epoch, promised)):
            begin(name, epoch + 1, promised)
        else:
            free.append(due)
    passed, spent = clock() - start[0], time.process_time() - start[1]
    record.close()
    return Measured(
        search=sampler,
        slots=slots,
        offered=slots / epoch_seconds if epoch_seconds else math.inf,
        results=(taken - start[2]) / passed,
        trials=(controller.asked - start[3]) / passed,
        refill=float(np.median(waits)),
        refill_99=float(np.quantile(waits, 0.99)),
        refill_max=max(waits),
        busy=spent / passed,
        at_once=engine.ahead.count,
    )
