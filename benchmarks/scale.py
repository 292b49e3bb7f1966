"""Does a search slow down as trials pile up? Its own time a trial, for each thousand of them.

Simulated searches are measured in CPU time, which other work on the machine hardly changes; Ray in wall time.

    python -m benchmarks.scale                                        all of it
    python -m benchmarks.scale --samplers random --ray-trials 0       the controller alone, random draws

Nothing is trained. Trials report 5 epochs on average: 3 to the first rung, and for one in three 6 more.
Proposals, decisions and the record are those of a real search; the record is kept in memory and on SQLite.
"""

from __future__ import annotations

import argparse
import cProfile
import math
import os
import pstats
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast
from unittest import mock

import optuna
import pandas as pd
from ray import tune

from search.controller import Controller, Plan, Work
from search.database import sqlite_url
from search.sampler import samplers
from search.study import StudyRecord
from trainables.config import Task, TrialConfig
from trainables.data import Dataset
from trainables.stint import Stint

MIN_EPOCHS, MAX_EPOCHS, REDUCTION_FACTOR = 3, 9, 3
SLOTS = 16
TPE_TRIALS = 2000
PENDING = 1000
PROPOSALS = 20
TASK = Task(image_size=8, classes=10, train_images=1000, max_epochs=MAX_EPOCHS)


def suggest(trial: optuna.Trial) -> None:
    """Six parameters of usual kinds; what is trained does not depend on them."""
    trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
    trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True)
    trial.suggest_float("dropout", 0.0, 0.5)
    trial.suggest_int("width", 16, 256, log=True)
    trial.suggest_int("depth", 1, 5)
    trial.suggest_categorical("optimizer", ["sgd", "adam", "adamw"])


def score(params: Mapping[str, Any], epoch: int) -> float:
    """A curve that rises with the epoch to a height that the parameters decide."""
    away = abs(math.log10(params["learning_rate"]) + 2.3) + params["dropout"] + abs(params["depth"] - 3) / 8
    return math.exp(-away) * (1 - 0.5 / epoch)


def report(epoch: int) -> dict[str, Any]:
    """What a worker reports of an epoch."""
    names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_macro_f1", "learning_rate")
    clock = {"images_per_second": 1e4, "seconds": 1.0, "validation_seconds": 0.1}
    return {"epoch": epoch, **dict.fromkeys(names, 0.123456789), **clock}


def make_controller(record: StudyRecord, sampler: str, trials: int) -> Controller:
    """A search of so many trials."""
    plan = Plan(
        min_epochs=MIN_EPOCHS,
        max_epochs=MAX_EPOCHS,
        reduction_factor=REDUCTION_FACTOR,
        rule="promote",
        trials=trials,
    )
    return Controller(record, plan, suggest=suggest, sampler=samplers(sampler, 0))


class Laps:
    """Time of every thousand trials by a clock, told by how many have been asked for."""

    def __init__(self, every: int, clock: Callable[[], float]) -> None:
        self.every, self.clock = every, clock
        self.times = [clock()]

    def look(self, asked: int) -> None:
        """Call often."""
        if asked >= self.every * len(self.times):
            self.times.append(self.clock())

    def milliseconds(self) -> list[float]:
        """Of a trial, for each lap."""
        return [1000 * (b - a) / self.every for a, b in zip(self.times, self.times[1:], strict=False)]


def simulated(sampler: str, trials: int, url: str | None, every: int) -> list[float]:
    """Milliseconds a trial for each lap; an epoch takes no time, and all slots take turns."""
    record = StudyRecord("scale", "maximize", url)
    controller, laps = make_controller(record, sampler, trials), Laps(every, time.process_time)
    running: deque[tuple[int, int]] = deque()  # trial and epoch
    while True:
        while len(running) < SLOTS and (work := controller.next_work()) is not None:
            running.append((work.trial, work.known_epochs + 1))
            laps.look(controller.asked)
        if not running:
            break
        number, epoch = running.popleft()
        if controller.report(number, report(epoch), score(record.trial(number).params, epoch)):
            running.append((number, epoch + 1))
        record.flush()
    record.close()
    return laps.milliseconds()


class IdleTrainable(tune.Trainable):
    """Reports an epoch after the other without training."""

    def setup(self, config: dict[str, Any], **shared: Any) -> None:
        """Once a worker."""
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next order."""
        self.params: dict[str, Any] = new_config["stint"].config
        self.epoch = new_config["stint"].known_epochs
        return True

    def step(self) -> dict[str, Any]:
        """One epoch."""
        self.epoch += 1
        row = report(self.epoch) | {"val_accuracy": score(self.params, self.epoch)}
        facts = {"precision": "fp32", "device": "cpu", "node": "here"}
        return {"reports": [row], "setup_seconds": 0.0, "checkpoint_seconds": 0.0, "saved": True, **facts}


def on_ray(sampler: str, trials: int, url: str, every: int) -> list[float]:
    """Milliseconds a trial for each lap, on two real workers."""
    import search.engine
    from search.local_ray import local_ray
    from search.slots import Slots

    slots = Slots(count=2, cpus=1, gpus=0)
    record = StudyRecord("scale", "maximize", url)
    controller, laps = make_controller(record, sampler, trials), Laps(every, time.perf_counter)

    def make_stint(work: Work) -> Stint:
        return Stint(
            trial=work.trial,
            stint=work.stint,
            config=cast("TrialConfig", record.trial(work.trial).params),
            task=TASK,
            seed=0,
            known_epochs=work.known_epochs,
            checkpoint_epochs=(),
            checkpoint_seconds=math.inf,
            folder=Path("unused"),
            identity="",
            precision="fp32",
        )

    def on_step() -> None:
        laps.look(controller.asked)
        record.flush()

    idle = mock.patch.object(search.engine, "Trainable", IdleTrainable)
    with idle, local_ray(slots):
        trainable = search.engine.make_trainable(slots, cast("Dataset", None))
        engine = search.engine.Engine(
            controller, slots, trainable, make_stint, lambda row: float(row["val_accuracy"]), on_step=on_step
        )
        laps.times = [laps.clock()]
        engine.run()
    laps.look(controller.asked)
    record.close()
    return laps.milliseconds()


def proposal(sampler: str) -> float:
    """Milliseconds of a proposal where every earlier trial waits at a rung or still trains."""
    record = StudyRecord("scale", "maximize")
    drawn = samplers("random", 0)
    for number in range(PENDING):
        record.begin(*_asked(record, drawn(number)))
        for epoch in range(1, MIN_EPOCHS + 1 if number < PENDING - SLOTS else 1):
            record.report(number, epoch, score(record.trial(number).params, epoch))
    proposing = samplers(sampler, 0)
    took = []
    for number in range(PENDING, PENDING + PROPOSALS):
        began = time.perf_counter()
        record.begin(*_asked(record, proposing(number)))
        took.append(time.perf_counter() - began)
    return 1000 * sorted(took)[len(took) // 2]


def _asked(record: StudyRecord, sampler: optuna.samplers.BaseSampler) -> tuple[int, dict[str, Any]]:
    return record.ask(sampler, suggest)[0], {}


def table(columns: Mapping[str, list[float]], every: int) -> str:
    """Milliseconds a trial, a row a lap, and how the last compares with the first."""
    frame = pd.DataFrame({name: pd.Series(laps) for name, laps in columns.items()})
    frame.index = pd.Index([f"{every * lap:,} to {every * (lap + 1):,}" for lap in frame.index])
    ratios = {name: laps[-1] / laps[0] for name, laps in columns.items() if laps}
    frame.loc["last / first"] = pd.Series(ratios)
    return frame.to_string(float_format=lambda value: f"{value:.2f}", na_rep="")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000, help=f"simulated; tpe at most {TPE_TRIALS:,}")
    parser.add_argument("--ray-trials", type=int, default=3_000, help="with real workers; 0 for none")
    parser.add_argument("--samplers", default="multifidelity,random,tpe", help="the first one also on Ray")
    parser.add_argument("--every", type=int, default=1000, help="trials a row of the table")
    parser.add_argument("--profile", action="store_true", help="say which functions took the time")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    names, every = options.samplers.split(","), options.every
    columns: dict[str, list[float]] = {}
    profiler = cProfile.Profile()
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        for name in names:
            trials = min(options.trials, TPE_TRIALS) if name == "tpe" else options.trials
            if options.profile:
                profiler.enable()
            columns[f"{name}, memory"] = simulated(name, trials, None, every)
            columns[f"{name}, SQLite"] = simulated(
                name, trials, sqlite_url(Path(folder) / f"{name}.db"), every
            )
            profiler.disable()
        if options.ray_trials:
            url = sqlite_url(Path(folder) / "ray.db")
            columns[f"{names[0]}, Ray"] = on_ray(names[0], options.ray_trials, url, every)
    print(f"milliseconds a trial, {SLOTS} slots simulated, 2 on Ray\n{table(columns, every)}\n")
    for name in names:
        print(f"a proposal of {name} with {PENDING:,} trials pending: {proposal(name):.0f} ms")
    if options.profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(20)


if __name__ == "__main__":
    main()
