"""Where a trial trains, and the data set as it lies there."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch

from trainables.data import Dataset, Part


@dataclass(frozen=True)
class DevicePart:
    """One part of a data set on a device."""

    images: torch.Tensor
    """uint8 (N, H, W, C)."""
    labels: torch.Tensor
    """int64 (N,)."""


@dataclass(frozen=True)
class DeviceData:
    """A data set on a device, placed once a worker and read by every trial that runs there."""

    train: DevicePart
    val: DevicePart
    mean: torch.Tensor
    """float32 (C,), 0 to 255, of the training part."""
    std: torch.Tensor
    """float32 (C,), 0 to 255, of the training part; a constant channel has 1."""


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU that this process may use, else the CPU; other names are torch's."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def place(dataset: Dataset, device: torch.device) -> DeviceData:
    """Put a data set on `device`. On the CPU it stays where it is, shared with every other process."""
    mean = torch.tensor(dataset.mean, dtype=torch.float32) * 255
    std = torch.tensor(dataset.std, dtype=torch.float32) * 255
    return DeviceData(
        train=_place_part(dataset.train, device),
        val=_place_part(dataset.val, device),
        mean=mean.to(device),
        std=torch.where(std > 0, std, torch.ones_like(std)).to(device),
    )


def _place_part(part: Part, device: torch.device) -> DevicePart:
    return DevicePart(_tensor(part.images).to(device), _tensor(part.labels).to(device))


def _tensor(array: np.ndarray) -> torch.Tensor:
    with warnings.catch_warnings():
        # arrays from Ray's object store are read-only, and torch warns; nothing here writes to them
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
