"""What does a search find in a given time? This project's, Ray Tune over the same space, and its tutorial.

    python -m benchmarks.time_to_accuracy --dataset cifar10 --seconds 600       half an hour

All have two cores, the same images and the same wall time, which begins with the command.
"""

from __future__ import annotations

import argparse
import io
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import stock_tune
from benchmarks.apart import apart
from benchmarks.events import epochs_of
from benchmarks.stock_tune import Epoch
from trainables.config import Task

MAX_EPOCHS = 9
TUTORIAL_EPOCHS = 10
SETTINGS = {
    "ours": f"search.run --space cnn --max-epochs {MAX_EPOCHS} --baselines, 2 slots of one core; networks"
    " over the default of --max-macs are refused",
    "stock": f"the same space, of any cost, and the same baselines first, OptunaSearch,"
    f" ASHAScheduler(max_t={MAX_EPOCHS}, grace_period=1,"
    " reduction_factor=3), 2 trials of one core, a loop written by hand",
    "tutorial": "LeNet with l1 and l2 of 4 to 256, lr 1e-4 to 1e-1, batch 2, 4, 8 or 16; random search,"
    f" ASHAScheduler(max_t={TUTORIAL_EPOCHS}, grace_period=1, reduction_factor=2), one trial of 2 cores",
}
SEED = 0


def ours(dataset: str, seconds: float, folder: Path) -> list[Epoch]:
    """This project's search."""
    from rich.console import Console

    from search.run import run
    from search.settings import Settings

    settings = Settings(
        space="cnn",
        dataset=dataset,
        max_epochs=MAX_EPOCHS,
        baselines=True,
        confirm=False,
        time_budget=f"{seconds:.0f}s",
        max_concurrent=2,
        device="cpu",
        storage=folder,
        name="ours",
        seed=SEED,
    )
    return epochs_of(run(settings, console=Console(file=io.StringIO())).folder.path)


@dataclass(frozen=True)
class Asks:
    """The space `cnn` for a task. No function inside of another, which Tune's snapshots could not hold."""

    task: Task

    def __call__(self, trial: Any) -> None:
        """Ask for every parameter, which is all that OptunaSearch wants of it."""
        from spaces import cnn

        cnn.suggest(trial, self.task)


def stock(dataset: str, seconds: float, folder: Path) -> list[Epoch]:
    """The same space and networks the stock way."""
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    from benchmarks.training_process import task_of
    from spaces import cnn
    from trainables.data import load_dataset

    data = load_dataset(dataset)
    task = task_of(data, MAX_EPOCHS)
    return stock_tune.search(
        stock_tune.train_configured,
        folder / "stock.jsonl",
        cpus=1,
        epochs=MAX_EPOCHS,
        settings={
            "num_samples": -1,
            "time_budget_s": seconds,
            "search_alg": OptunaSearch(
                space=Asks(task),
                metric="accuracy",
                mode="max",
                points_to_evaluate=list(cnn.BASELINES.values()),
                seed=SEED,
            ),
            "scheduler": ASHAScheduler(max_t=MAX_EPOCHS, grace_period=1, reduction_factor=3),
        },
        suggest=cnn.suggest,
        data=data,
    )


def tutorial(dataset: str, seconds: float, folder: Path) -> list[Epoch]:
    """Ray Tune's tutorial on CIFAR-10."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    from trainables.data import load_dataset

    widths = [2**i for i in range(2, 9)]
    return stock_tune.search(
        stock_tune.train_tutorial,
        folder / "tutorial.jsonl",
        cpus=2,
        epochs=TUTORIAL_EPOCHS,
        settings={
            "num_samples": -1,
            "time_budget_s": seconds,
            "scheduler": ASHAScheduler(max_t=TUTORIAL_EPOCHS, grace_period=1, reduction_factor=2),
        },
        space={
            "l1": tune.choice(widths),
            "l2": tune.choice(widths),
            "lr": tune.loguniform(1e-4, 1e-1),
            "batch_size": tune.choice([2, 4, 8, 16]),
        },
        data=load_dataset(dataset),
    )


SEARCHES = {"ours": ours, "stock": stock, "tutorial": tutorial}


def reached(epochs: list[Epoch], accuracy: float, began: float) -> float:
    """Seconds until an accuracy was reached; infinite where it never was."""
    return min((epoch.ended - began for epoch in epochs if epoch.accuracy >= accuracy), default=math.inf)


def table(found: dict[str, list[Epoch]], began: dict[str, float], seconds: float) -> pd.DataFrame:
    """A column a search; what ended after the time is up does not count."""
    columns = {}
    within = {
        name: [epoch for epoch in epochs if epoch.ended - began[name] <= seconds]
        for name, epochs in found.items()
    }
    goal = max((epoch.accuracy for epoch in within["tutorial"]), default=math.inf)
    for name, epochs in within.items():
        columns[name] = {
            "trials with a score": len({epoch.trial for epoch in epochs}),
            "epochs": len(epochs),
            "best validation accuracy": max((epoch.accuracy for epoch in epochs), default=math.nan),
            "seconds to what the tutorial reached": reached(epochs, goal, began[name]),
        }
    return pd.DataFrame(columns)


def compared(dataset: str, seconds: float) -> pd.DataFrame:
    """What each search found in this time: a column each."""
    found: dict[str, list[Epoch]] = {}
    began: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="accuracy-") as folder:
        for name, search in SEARCHES.items():
            began[name] = time.time()
            found[name] = apart(search, dataset, seconds, Path(folder))
    return table(found, began, seconds)


def settings() -> str:
    """What each search is, a line each."""
    return "\n".join(f"  {name:10}{text}" for name, text in SETTINGS.items())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset", default="auto", help="as for search.run")
    parser.add_argument("--seconds", type=float, default=600.0)
    options = parser.parse_args()
    result = compared(options.dataset, options.seconds)
    print(f"{settings()}\n{options.seconds:.0f} s each")
    print(result.to_string(float_format=lambda value: f"{value:.3g}"))


if __name__ == "__main__":
    main()
