"""What a benchmark needs to train as a worker does: process, device, and the task that a data set is."""

from __future__ import annotations

import torch

from trainables.compiler import without_compiler
from trainables.config import Task
from trainables.data import Dataset
from trainables.device import pick_device, prepare_device
from trainables.memory import keep_freed_memory


def prepare_process(device: str, *, threads: int = 1) -> torch.device:
    """Set this process up as `Trainable.setup` does a worker; returns the device of that name."""
    without_compiler()
    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high")
    chosen = pick_device(device)
    prepare_device(chosen, 1.0)
    return chosen


def task_of(data: Dataset, epochs: int, weights: str = "none") -> Task:
    """The task that a data set is."""
    return Task(
        image_size=data.train.images.shape[1],
        classes=len(data.class_names),
        train_images=len(data.train),
        max_epochs=epochs,
        weights=weights,
    )
