"""How much memory does a search take, is the data set there once, and does a worker grow?

    python -m benchmarks.memory --dataset cifar10          some 10 minutes on 2 cores

Proportional memory counts a page that several processes share in equal parts (`smaps_rollup` of Linux).

On a CPU a worker grows by two caches, of oneDNN and of torch's layer above it, that keep what they made for
the last 1,024 shapes of layer. Without these, at the cost of speed, what is left of the growth shows:

    LRU_CACHE_CAPACITY=1 ONEDNN_PRIMITIVE_CACHE_CAPACITY=1 python -m benchmarks.memory --parts growth
"""

from __future__ import annotations

import argparse
import io
import math
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import psutil

from trainables.data import Dataset, load_dataset

PARTS = ("search", "growth")
MEBIBYTE = 2**20
EVERY_SECONDS = 1.0
MACS = 20_000_000
"""Multiply-adds an image of the costliest network in the test of growth."""


@dataclass
class Peak:
    """The most that a process was seen to hold, in bytes."""

    resident: int = 0
    proportional: int = 0


class Watch:
    """Looks at this process and the trials' workers again and again, in a thread."""

    def __init__(self) -> None:
        self.driver, self.workers = Peak(), dict[int, Peak]()
        self.together = 0
        """The most that driver, workers and Ray's processes held at once, shared pages counted once."""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look_on)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look_on(self) -> None:
        while not self._end.wait(EVERY_SECONDS):
            seen = {pid: (name, self._bytes(pid)) for pid, name in _below()}
            here = self._bytes(psutil.Process().pid)
            _raise(self.driver, here)
            for pid, (name, found) in seen.items():
                if "ray::_Inner" in name:  # as Tune names a trainable's process
                    _raise(self.workers.setdefault(pid, Peak()), found)
            self.together = max(self.together, here[1] + sum(found[1] for _, found in seen.values()))

    @staticmethod
    def _bytes(pid: int) -> tuple[int, int]:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            return 0, 0  # it has ended
        found = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines}
        return found["Rss"], found["Pss"]


def _raise(peak: Peak, found: tuple[int, int]) -> None:
    peak.resident, peak.proportional = max(peak.resident, found[0]), max(peak.proportional, found[1])


def _below() -> Iterator[tuple[int, str]]:
    """Processes below this one, with their names."""
    for process in psutil.Process().children(recursive=True):
        try:
            yield process.pid, " ".join(process.cmdline())
        except psutil.Error:
            continue


def searched(dataset: str, trials: int) -> pd.Series[Any]:
    """Peaks of one search on 2 slots, in MiB."""
    from rich.console import Console

    from search.object_store import data_bytes
    from search.run import run
    from search.settings import Settings

    data = data_bytes(load_dataset(dataset))
    with tempfile.TemporaryDirectory(prefix="memory-") as folder, Watch() as watch:
        settings = Settings(
            space="cnn",
            dataset=dataset,
            trials=trials,
            max_epochs=1,
            max_concurrent=2,
            baselines=True,  # the first are the cheapest, and alike on every machine
            confirm=False,
            storage=Path(folder),
        )
        run(settings, console=Console(file=io.StringIO()))
    workers = watch.workers.values()
    return pd.Series(
        {
            "data set": data,
            "driver, resident": watch.driver.resident,
            "driver, proportional": watch.driver.proportional,
            "largest worker, resident": max(peak.resident for peak in workers),
            "largest worker, proportional": max(peak.proportional for peak in workers),
            "driver, workers and Ray at once": watch.together,
        }
    ).div(MEBIBYTE)


def grown(trials: int) -> pd.Series[Any]:
    """What one worker holds for itself after trials of random networks of the space `cnn`, in MiB."""
    from spaces import cnn
    from trainables import trainable
    from trainables.config import Task
    from trainables.memory import own_bytes
    from trainables.models.size import count_macs
    from trainables.stint import Stint

    data = load_dataset("digits")
    task = Task(image_size=32, classes=10, train_images=len(data.train), max_epochs=1)
    held: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="memory-") as folder:

        def order(number: int) -> Stint:
            return Stint(
                trial=number,
                stint=0,
                config=next(configs),
                task=task,
                seed=number,
                known_epochs=0,
                checkpoint_epochs=(1,),
                checkpoint_seconds=math.inf,
                folder=Path(folder) / str(number),
                identity="",
                precision="fp32",
            )

        # beforehand, for a study grows too
        configs = iter(list(islice(_cheap(cnn, task, count_macs), trials + 1)))
        worker = _in_this_process(trainable.Trainable, data, order(0))
        for number in range(1, trials + 1):
            worker.step()
            worker.reset_config({"stint": order(number)})
            if number in (1, 5, 10, 20, 50, 100, 200, 500) or number == trials:
                held[f"after {number} trials"] = own_bytes() / MEBIBYTE
        worker.cleanup()
    return pd.Series(held)


def _cheap(space: Any, task: Any, cost: Any) -> Iterator[Any]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    while True:
        config = space.suggest(study.ask(), task)
        if cost(config.model, task) < MACS:
            yield config


def _in_this_process(kind: Any, data: Dataset, stint: Any) -> Any:
    """A worker without Ray."""
    worker = kind.__new__(kind)
    worker.setup({"stint": stint}, data=data, device="cpu", threads=1, gpus=0.0)
    return worker


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset", default="auto", help="as for search.run")
    parser.add_argument("--trials", type=int, default=2, help="of the search: the first baselines")
    parser.add_argument("--growth-trials", type=int, default=200, help="of one worker, on digits")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if "search" in options.parts:
        _show(f"a search of {options.trials} trials on 2 slots", searched(options.dataset, options.trials))
    if "growth" in options.parts:
        _show("one worker holds for itself between trials", grown(options.growth_trials))


def _show(title: str, column: pd.Series[Any]) -> None:
    print(f"{title}, MiB\n{column.round().astype(int).to_string()}\n", flush=True)


if __name__ == "__main__":
    main()
