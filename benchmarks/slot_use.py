"""How much of a slot's time is training? The same trials by this project and by Ray Tune as it comes.

    python -m benchmarks.slot_use                     30 trials of about 10 s on 2 slots: some 8 minutes

Both train the same network on the same images with the same optimizer, every trial to its end. Stock is what
Ray's documentation shows: a function that reports and checkpoints each epoch, OptunaSearch, ASHAScheduler,
workers that are not reused; its loop is `benchmarks.bare_loop`.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import optuna
import pandas as pd

from benchmarks import stock_tune
from benchmarks.apart import apart
from benchmarks.events import epochs_of
from benchmarks.stock_tune import Epoch
from trainables.config import OptimizerConfig, Task, TrialConfig

SLOTS = 2
BATCH = 128
SEED = 0


def suggest(trial: optuna.Trial, task: Task) -> TrialConfig:
    """A plain CNN; only the learning rate is searched."""
    from trainables.models.cnn import CnnConfig

    rate = trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
    return TrialConfig(
        model=CnnConfig(widths=((32,), (64, 128))),
        optimizer=OptimizerConfig(name="adam", learning_rate=rate),
        batch_size=BATCH,
    )


Found = tuple[list[Epoch], dict[str, float]]
"""The epochs, and what else is known."""
OVERHEAD = "checkpoints and set-up, share of training"
BETWEEN = "seconds between two trials"
SETTINGS = {
    "ours": "search.run with a fixed number of epochs, 2 slots of one core",
    "stock": "a function that reports and checkpoints each epoch, OptunaSearch,"
    " ASHAScheduler that stops nothing, 2 trials of one core, workers not reused",
}


def ours(trials: int, epochs: int, folder: Path) -> Found:
    """This project's search, and what its record says of the time beside training."""
    from rich.console import Console

    from search.run import run
    from search.settings import Settings

    settings = Settings(
        space="benchmarks.slot_use",
        dataset="digits",
        trials=trials,
        max_epochs=epochs,
        asha="none",
        confirm=False,
        max_concurrent=SLOTS,
        device="cpu",
        precision="fp32",
        storage=folder,
        name="ours",
        seed=SEED,
    )
    results = run(settings, console=Console(file=io.StringIO()))
    spent = [stint["seconds"] for trial in results.study.trials for stint in trial.user_attrs["stints"]]
    training = sum(seconds["training"] + seconds["validation"] for seconds in spent)
    beside = sum(seconds["checkpoint"] + seconds["setup"] for seconds in spent)
    return epochs_of(results.folder.path), {OVERHEAD: beside / training}


def stock(trials: int, epochs: int, folder: Path) -> Found:
    """Ray Tune as it comes."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    from trainables.data import load_dataset

    found = stock_tune.search(
        stock_tune.train_configured,
        folder / "stock.jsonl",
        cpus=1,
        epochs=epochs,
        settings={
            "num_samples": trials,
            "search_alg": OptunaSearch(seed=SEED),
            # it stops nothing, so that both train the same
            "scheduler": ASHAScheduler(max_t=epochs, grace_period=epochs),
        },
        space={"learning_rate": tune.loguniform(1e-4, 1e-1)},
        suggest=suggest,
        data=load_dataset("digits"),
    )
    return found, {}


def between(epochs: list[Epoch]) -> float:
    """Median seconds from the last step of a trial to the first of the next: the slot that was free first
    begins first.
    """
    by_trial: dict[str, list[Epoch]] = {}
    for epoch in epochs:
        by_trial.setdefault(epoch.trial, []).append(epoch)
    ends = sorted(max(epoch.ended for epoch in of_one) for of_one in by_trial.values())
    begins = sorted(min(epoch.began for epoch in of_one) for of_one in by_trial.values())
    return median(begin - end for begin, end in zip(begins[SLOTS:], ends, strict=False))


def row(epochs: list[Epoch], began: float, ended: float, trials: int) -> dict[str, float]:
    """Shares of slot time that were training and evaluation."""
    busy = sum(epoch.ended - epoch.began for epoch in epochs)
    first, last = min(epoch.began for epoch in epochs), max(epoch.ended for epoch in epochs)
    return {
        "busy, first step to last": busy / SLOTS / (last - first),
        "busy, whole command": busy / SLOTS / (ended - began),
        BETWEEN: between(epochs),
        "seconds to first step": first - began,
        "seconds a trial trains": busy / trials,
        "trials an hour": 3600 * trials / (ended - began),
        "seconds in all": ended - began,
    }


def compared(trials: int, epochs: int) -> pd.DataFrame:
    """What of the slots was training: a column each."""
    columns: dict[str, dict[str, float]] = {}
    searches: dict[str, Callable[[int, int, Path], Found]] = {
        "ours": ours,
        "stock": stock,
    }
    with tempfile.TemporaryDirectory(prefix="slots-") as folder:
        for name, search in searches.items():
            began = time.time()
            found, more = apart(search, trials, epochs, Path(folder))
            columns[name] = row(found, began, time.time(), trials) | more
    table = pd.DataFrame(columns)
    table["ours / stock"] = table["ours"] / table["stock"]
    return table


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    table = compared(options.trials, options.epochs)
    print(f"{options.trials} trials of {options.epochs} epochs of digits, {SLOTS} slots of one core")
    print(table.to_string(float_format=lambda value: f"{value:.3f}" if value < 10 else f"{value:.0f}"))


if __name__ == "__main__":
    from benchmarks.slot_use import (
        main as importable,
    )  # functions of `__main__` no other process could import

    importable()
