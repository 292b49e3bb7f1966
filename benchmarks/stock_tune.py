"""Ray Tune as its documentation shows it: functions that report and checkpoint each epoch, and its tutorial.

Workers are not reused, and Ray's own searcher and scheduler decide.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import optuna

from spaces import fixed_trial
from trainables.config import Task, TrialConfig

if TYPE_CHECKING:
    import torch

    from trainables.data import Dataset

Suggest = Callable[[optuna.Trial, Task], TrialConfig]


@dataclass(frozen=True)
class Epoch:
    """One epoch of any trial."""

    trial: str
    began: float
    """Seconds since 1970."""
    ended: float
    accuracy: float
    """On validation."""


class Loop(Protocol):
    """What trains."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer

    def epoch(self) -> float:
        """Train and validate once; returns the validation accuracy."""
        ...


def read(log: Path) -> list[Epoch]:
    """What trials wrote down."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [Epoch(*json.loads(line)) for line in lines]


def report_epochs(loop: Loop, epochs: int, log: str) -> None:
    """Train as a function trainable does: each epoch a report and a checkpoint."""
    import torch
    from ray import tune

    for _ in range(epochs):
        began = time.time()
        accuracy = loop.epoch()
        with Path(log).open("a", encoding="utf-8") as file:
            name = tune.get_context().get_trial_id()
            file.write(json.dumps([name, began, time.time(), accuracy]) + "\n")
        with tempfile.TemporaryDirectory() as folder:
            state = (loop.model.state_dict(), loop.optimizer.state_dict())
            torch.save(state, Path(folder) / "checkpoint.pt")
            tune.report({"accuracy": accuracy}, checkpoint=tune.Checkpoint.from_directory(folder))


def train_configured(
    config: Mapping[str, Any], *, suggest: Suggest, data: Dataset, epochs: int, log: str
) -> None:
    """A configuration of one of our spaces, in a loop written by hand."""
    import torch

    from benchmarks.bare_loop import BareLoop
    from benchmarks.training_process import task_of
    from trainables.optimizer import make_optimizer

    torch.set_num_threads(1)
    task = task_of(data, epochs)
    chosen = suggest(fixed_trial(config), task)
    model = chosen.model.build(task).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(chosen.optimizer, model)
    device = torch.device("cpu")
    loop = BareLoop(model, optimizer, data, chosen.batch_size, chosen.augment, device=device)
    report_epochs(loop, epochs, log)


def train_tutorial(config: Mapping[str, Any], *, data: Dataset, epochs: int, log: str) -> None:
    """The network and the loop of Ray Tune's tutorial on CIFAR-10, written anew."""
    import torch
    from torch import nn

    from benchmarks.bare_loop import ImageByImage

    side = ((data.train.images.shape[1] - 4) // 2 - 4) // 2
    model = nn.Sequential(
        nn.Conv2d(3, 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * side**2, config["l1"]),
        nn.ReLU(),
        nn.Linear(config["l1"], config["l2"]),
        nn.ReLU(),
        nn.Linear(config["l2"], len(data.class_names)),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
    device = torch.device("cpu")
    loop = ImageByImage(model, optimizer, data, config["batch_size"], device=device, workers=8, augment=False)
    report_epochs(loop, epochs, log)


def search(
    function: Callable[..., None],
    log: Path,
    *,
    cpus: int,
    epochs: int,
    settings: Mapping[str, Any],
    space: Mapping[str, Any] | None = None,
    **shared: Any,
) -> list[Epoch]:
    """Run a function trainable on a Ray of our own; `settings` are TuneConfig's."""
    from ray import tune

    from search.local_ray import local_ray
    from search.slots import Slots

    bound = tune.with_parameters(function, epochs=epochs, log=str(log), **shared)
    with local_ray(Slots(count=2, cpus=1, gpus=0)):
        tune.Tuner(
            tune.with_resources(bound, {"cpu": cpus}),
            param_space=dict(space or {}),
            tune_config=tune.TuneConfig(metric="accuracy", mode="max", **settings),
            run_config=tune.RunConfig(storage_path=str(log.parent), name=log.stem, verbose=0),
        ).fit()
    return read(log)
