"""Train random configurations of the `cnn` space in full, and keep their learning curves in a small file.

    python -m benchmarks.record_curves --dataset cifar10 --work /tmp/curves --processes 2

Every configuration is drawn as `--sampler random` draws it and trained by the project's own loop, to the last
epoch, on one thread of a CPU. `seconds` are the CPU seconds of its process, so that what else the machine
does meanwhile does not show. Each finished trial is a file in the work folder: the same command goes on where
it was. What takes longer than `--limit` seconds an epoch is left out, and counted.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import distribution_to_json, json_to_distribution

from search.curves import RecordedCurves, RecordedTrial
from search.sampler import make_sampler
from spaces.cnn import suggest
from trainables.config import Task
from trainables.seeding import derive_seed

if TYPE_CHECKING:
    from trainables.data import Part
    from trainables.device import DeviceData
    from trainables.training import Training

TASK = Task(image_size=12, classes=10, train_images=600, max_epochs=27)
"""What the curves in the repository were recorded for."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What is trained on what."""

    dataset: str
    data_dir: Path | None
    image_size: int
    train_images: int
    val_images: int
    epochs: int
    limit: float
    """CPU seconds of an epoch beyond which a configuration is left out."""
    seed: int
    work: Path


def record(recording: Recording, number: int) -> None:
    """Train one configuration and write its file, unless that is there already."""
    import torch

    from trainables.training import Training

    file = recording.work / f"{number:05d}.json"
    if file.exists():
        return
    torch.set_num_threads(1)
    data, task = _data(recording)
    # only the number decides what is drawn: any study will do
    study = optuna.create_study(sampler=make_sampler("random", recording.seed, number))
    trial = study.ask()
    config = suggest(trial, task)
    training = Training(config, task, data, seed=derive_seed(recording.seed, "trial", number))
    values, seconds = [], []
    for value, spent in _epochs(training):
        values.append(value)
        seconds.append(spent)
        # a process's very first steps are slower than any later ones
        if len(seconds) == 2 and min(seconds) > recording.limit:
            values = []
            break
    left = recording.epochs - len(values)
    document = {
        "params": trial.params,
        "distributions": {
            name: json.loads(distribution_to_json(d)) for name, d in trial.distributions.items()
        },
        "values": values + [math.nan] * left,
        "seconds": seconds[: len(values)] + [float(np.median(seconds))] * left,
        "left_out": not values,
    }
    partly = file.with_suffix(".part")
    partly.write_text(json.dumps(document))
    partly.rename(file)


def _epochs(training: Training) -> Iterator[tuple[float, float]]:
    """Validation accuracy and CPU seconds of each epoch; the last one is NaN where training diverges."""
    before = time.process_time()
    for report in training.epochs():
        now = time.process_time()
        assert report.val_accuracy is not None
        yield report.val_accuracy if report.finite() else math.nan, now - before
        if not report.finite():
            return
        before = now


@lru_cache(maxsize=1)
def _data(recording: Recording) -> tuple[DeviceData, Task]:
    """The images, once a process: of each part as many as asked for, every class with its share."""
    import torch

    from trainables.data import load_dataset
    from trainables.device import place

    full = load_dataset(recording.dataset, data_dir=recording.data_dir, image_size=recording.image_size)
    dataset = replace(
        full, train=_some(full.train, recording.train_images), val=_some(full.val, recording.val_images)
    )
    task = Task(
        image_size=recording.image_size,
        classes=len(dataset.class_names),
        train_images=len(dataset.train),
        max_epochs=recording.epochs,
    )
    return place(dataset, torch.device("cpu")), task


def _some(part: Part, count: int) -> Part:
    from trainables.data import Part
    from trainables.data.split import stratified_split

    if count >= len(part):
        return part
    _, index = stratified_split(part.labels, count / len(part), seed=0)
    return Part(images=part.images[index], labels=part.labels[index])


def collect(recording: Recording) -> tuple[RecordedCurves, int]:
    """The finished trials as curves, by number, and how many were left out."""
    documents: list[dict[str, Any]] = [
        json.loads(file.read_text()) for file in sorted(recording.work.glob("*.json"))
    ]
    trials = [
        RecordedTrial(
            document["params"],
            {name: json_to_distribution(json.dumps(d)) for name, d in document["distributions"].items()},
            np.array(document["values"], dtype=float),
            np.array(document["seconds"], dtype=float),
        )
        for document in documents
        if not document["left_out"]
    ]
    return RecordedCurves(trials, "maximize"), len(documents) - len(trials)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset", default="cifar10", help="cifar10, or a folder or archive of images")
    parser.add_argument("--data-dir", type=Path, help="where data sets are kept")
    parser.add_argument("--image-size", type=int, default=TASK.image_size)
    parser.add_argument("--train-images", type=int, default=TASK.train_images)
    parser.add_argument("--val-images", type=int, default=800)
    parser.add_argument("--epochs", type=int, default=TASK.max_epochs)
    parser.add_argument("--trials", type=int, default=240, help="configurations drawn, those left out too")
    parser.add_argument("--limit", type=float, default=0.8, help="CPU seconds of an epoch, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--work", type=Path, required=True, help="folder of a file a trial")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "cnn_curves.parquet")
    options = vars(parser.parse_args())
    trials, processes, out = options.pop("trials"), options.pop("processes"), options.pop("out")
    recording = Recording(**options)
    recording.work.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with ProcessPoolExecutor(processes) as pool:
        for number, _ in enumerate(pool.map(partial(record, recording), range(trials)), start=1):
            print(f"\r{number} of {trials} trials", end="", flush=True)
    curves, left_out = collect(recording)
    curves.write(out)
    print(f"\n{out}: {len(curves.trials)} curves of {curves.epochs} epochs, {left_out} trials left out")


if __name__ == "__main__":
    main()
