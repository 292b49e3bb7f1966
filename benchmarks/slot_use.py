"""How much of a slot's time is training? The same trials by this project and by Ray Tune as it comes.

    python -m benchmarks.slot_use                     30 trials of about 10 s on 2 slots: some 8 minutes

Both train the same network on the same images with the same optimizer, every trial to its end. Stock is what
Ray's documentation shows: a function that reports and checkpoints each epoch, OptunaSearch, ASHAScheduler,
workers that are not reused; its loop is `benchmarks.bare_loop`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from tensorboardX.proto.event_pb2 import Event

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


Epochs = list[tuple[float, float]]
"""When each epoch of any trial began and ended, in seconds since 1970."""


def ours(trials: int, epochs: int, folder: Path) -> Epochs:
    """This project's search."""
    from rich.console import Console

    from search.run import run
    from search.settings import Settings

    settings = Settings(
        space="benchmarks.slot_use",
        dataset="digits",
        trials=trials,
        max_epochs=epochs,
        asha="none",
        max_concurrent=SLOTS,
        device="cpu",
        precision="fp32",
        storage=folder,
        name="ours",
        seed=SEED,
    )
    results = run(settings, console=Console(file=io.StringIO()))
    spans: Epochs = []
    for file in results.folder.path.glob("trials/*/events*"):
        for event in events(file):
            seconds = [value.simple_value for value in event.summary.value if value.tag == "seconds"]
            spans += [(event.wall_time - s, event.wall_time) for s in seconds]
    return spans


def events(file: Path) -> Iterator[Event]:
    """What a TensorBoard file holds: records of a length (8 bytes), 4 of its sum, the event, 4 of its sum."""
    content = file.read_bytes()
    at = 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        yield Event.FromString(content[at + 12 : at + 12 + length])
        at += length + 16


def stock_trial(config: dict[str, Any], *, data: Any, epochs: int, log: str) -> None:
    """A function trainable as Ray's documentation writes it."""
    import torch
    from ray import tune

    from benchmarks.bare_loop import BareLoop
    from trainables.training import make_optimizer

    torch.set_num_threads(1)
    task = Task(image_size=32, classes=len(data.class_names), train_images=len(data.train), max_epochs=epochs)
    chosen = suggest(optuna.trial.FixedTrial(config), task)  # type: ignore[arg-type]  # it has suggest_*
    model = chosen.model.build(task).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(chosen.optimizer, model)
    loop = BareLoop(model, optimizer, data, BATCH, chosen.augment, device=torch.device("cpu"))
    for _ in range(epochs):
        began = time.time()
        accuracy = loop.epoch()
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(json.dumps([began, time.time()]) + "\n")
        with tempfile.TemporaryDirectory() as folder:
            torch.save((model.state_dict(), optimizer.state_dict()), Path(folder) / "checkpoint.pt")
            tune.report({"accuracy": accuracy}, checkpoint=tune.Checkpoint.from_directory(folder))


def stock(trials: int, epochs: int, folder: Path) -> Epochs:
    """Ray Tune as it comes."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    from search.local_ray import local_ray
    from search.slots import Slots
    from trainables.data import load_dataset

    log = folder / "stock.jsonl"
    function = tune.with_parameters(stock_trial, data=load_dataset("digits"), epochs=epochs, log=str(log))
    with local_ray(Slots(count=SLOTS, cpus=1, gpus=0), data_bytes=2**25):
        tune.Tuner(
            tune.with_resources(function, {"cpu": 1}),
            param_space={"learning_rate": tune.loguniform(1e-4, 1e-1)},
            tune_config=tune.TuneConfig(
                metric="accuracy",
                mode="max",
                num_samples=trials,
                search_alg=OptunaSearch(seed=SEED),
                # it stops nothing, so that both train the same
                scheduler=ASHAScheduler(max_t=epochs, grace_period=epochs),
            ),
            run_config=tune.RunConfig(storage_path=str(folder), name="stock", verbose=0),
        ).fit()
    return [(began, ended) for began, ended in map(json.loads, log.read_text(encoding="utf-8").splitlines())]


def row(spans: Epochs, began: float, ended: float, trials: int) -> dict[str, float]:
    """Shares of slot time that were training and evaluation."""
    busy = sum(b - a for a, b in spans)
    first, last = min(a for a, _ in spans), max(b for _, b in spans)
    return {
        "busy, first step to last": busy / SLOTS / (last - first),
        "busy, whole command": busy / SLOTS / (ended - began),
        "seconds to first step": first - began,
        "seconds a trial trains": busy / trials,
        "trials an hour": 3600 * trials / (ended - began),
        "seconds in all": ended - began,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    columns: dict[str, dict[str, float]] = {}
    searches: dict[str, Callable[[int, int, Path], Epochs]] = {"ours": ours, "stock": stock}
    with tempfile.TemporaryDirectory(prefix="slots-") as folder:
        for name, search in searches.items():
            began = time.time()
            spans = search(options.trials, options.epochs, Path(folder))
            columns[name] = row(spans, began, time.time(), options.trials)
    table = pd.DataFrame(columns)
    table["ours / stock"] = table["ours"] / table["stock"]
    print(f"{options.trials} trials of {options.epochs} epochs of digits, {SLOTS} slots of one core")
    print(table.to_string(float_format=lambda value: f"{value:.3f}" if value < 10 else f"{value:.0f}"))


if __name__ == "__main__":
    main()
