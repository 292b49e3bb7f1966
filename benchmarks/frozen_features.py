"""What is gained by computing the features of a frozen backbone once? Epochs with and without, side by side.

python -m benchmarks.frozen_features --dataset digits --epochs 5

The network begins with random values: they take as long as pretrained ones.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from benchmarks.training_process import prepare_process, task_of
from trainables.config import OptimizerConfig, Task, TrialConfig
from trainables.data import Dataset, load_dataset
from trainables.device import DeviceData, place
from trainables.features import FeatureCache
from trainables.models.pretrained import ARCHITECTURES, Architecture, PretrainedConfig
from trainables.precision import choose_precision
from trainables.training import Training


def seconds(
    config: TrialConfig, task: Task, data: DeviceData, device: torch.device, cache: FeatureCache
) -> float:
    """Wall time of a whole trial, its set-up and validation included."""
    precision = choose_precision("auto", config.model, task, config.batch_size, device)  # timed once, kept
    began = time.perf_counter()
    training = Training(config, task, data, seed=0, precision=precision, features=cache)
    for _ in training.epochs():
        pass
    return time.perf_counter() - began


def row(
    architecture: Architecture, size: int, task: Task, data: DeviceData, device: torch.device
) -> dict[str, float]:
    """Seconds of a trial by what becomes of its features, and the gain over computing them each time."""
    model = PretrainedConfig(
        architecture=architecture,
        weights="none",
        unfrozen="head",
        input_size=size,
    )
    config = TrialConfig(model=model, optimizer=OptimizerConfig(name="adam", learning_rate=1e-3))
    cache = FeatureCache()
    warm = replace(task, max_epochs=1)
    seconds(config, warm, data, device, FeatureCache())  # libraries are loaded, memory is there
    each_time = seconds(config, task, data, device, FeatureCache(most_bytes=0))
    first = seconds(config, task, data, device, cache)
    next_one = seconds(config, task, data, device, cache)
    return {
        "each epoch": each_time,
        "first trial": first,
        "next trial": next_one,
        "first: times faster": each_time / first,
        "next: times faster": each_time / next_one,
    }


def shortened(dataset: Dataset, images: int | None) -> Dataset:
    """At most so many training and validation images, spread over all classes."""
    if images is None:
        return dataset
    parts = {}
    for name in ("train", "val"):
        part = getattr(dataset, name)
        step = max(1, -(-len(part) // images))
        parts[name] = replace(part, images=part.images[::step].copy(), labels=part.labels[::step].copy())
    return replace(dataset, **parts)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, help="at most so many training images")
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--architectures", nargs="+", default=ARCHITECTURES, choices=ARCHITECTURES)
    parser.add_argument("--device", default="auto")
    chosen = parser.parse_args()
    device = prepare_process(chosen.device, threads=torch.get_num_threads())
    dataset = shortened(load_dataset(chosen.dataset, data_dir=chosen.data_dir), chosen.images)
    task = task_of(dataset, chosen.epochs)
    data = place(dataset, device)
    table = pd.DataFrame(
        {
            f"{architecture} at {size} px": row(architecture, size, task, data, device)
            for architecture in chosen.architectures
            for size in chosen.sizes
        }
    ).T
    print(f"seconds of a trial of {chosen.epochs} epochs of {len(dataset.train)} images on {device}")
    print(table.to_string(float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
