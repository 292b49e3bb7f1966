"""Where a trial trains, and the data set as it lies there."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from trainables.config import require
from trainables.data import Dataset, Part
from trainables.system import may_have_gpus

RESIDENT_SHARE = 0.4
"""Most of a trial's share of a GPU's memory that the data set may take; a larger one stays on the host."""
CONTEXT_BYTES = 700 * 2**20
"""What CUDA takes for itself in each process; torch's own limit does not count it."""


@dataclass(frozen=True)
class DevicePart:
    """One part of a data set, where it is kept: on the device, or on the host where it does not fit."""

    images: torch.Tensor
    """uint8 (N, H, W, C)."""
    labels: torch.Tensor
    """int64 (N,), always on the device."""
    resident: bool = True
    """Whether the images are on the device."""


@dataclass(frozen=True)
class DeviceData:
    """A data set for training on a device, placed once a worker and read by every trial that runs there."""

    train: DevicePart
    val: DevicePart
    mean: torch.Tensor
    """float32 (C,), 0 to 255, of the training part."""
    std: torch.Tensor
    """float32 (C,), 0 to 255, of the training part; a constant channel has 1."""

    @property
    def device(self) -> torch.device:
        """What trains; its statistics are there even where the images are not."""
        return self.mean.device


def pick_device(name: str, share: float | None = None) -> torch.device:
    """`auto` is the GPU where a trial has a `share` of one, or where none is shared out (None), else the CPU;
    other names are torch's.

    Raises ValueError for a GPU that torch cannot use.
    """
    usable = torch.cuda.is_available()
    if name == "auto" and share and not usable and may_have_gpus():
        raise ValueError(
            f"PyTorch {torch.__version__} cannot use the GPU of this machine: it was built without CUDA, or "
            "the driver is too old for it. Mend that, or search with --device cpu"
        )
    if name == "auto":
        name = "cuda" if usable and share != 0 else "cpu"
    require(name != "cuda" or usable, "--device cuda: there is no GPU here")
    return torch.device(name)


@contextmanager
def needs_room(device: torch.device) -> Iterator[None]:
    """Raises ValueError where the device has no memory left for what is done inside."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"{device} has not enough memory left, perhaps since a search trains on it: give --device cpu"
        ) from error


def prepare_device(device: torch.device, share: float) -> None:
    """Once a worker: take no more than this share of a GPU's memory, and let cuDNN look for fast kernels."""
    if device.type == "cuda":
        if 0 < share < 1:
            torch.cuda.set_per_process_memory_fraction(
                _own_bytes(device, share) / _total_bytes(device), device
            )
        torch.backends.cudnn.benchmark = True


def place(dataset: Dataset, device: torch.device, *, resident: bool = True) -> DeviceData:
    """Put a data set on `device`, or leave it on the host (see `fits`), as it is there.

    On the CPU it stays where it is, shared with every other process.
    """
    mean = torch.tensor(dataset.mean, dtype=torch.float32) * 255
    std = torch.tensor(dataset.std, dtype=torch.float32) * 255

    def placed(part: Part) -> DevicePart:
        images, labels = _tensor(part.images), _tensor(part.labels)
        return DevicePart(images.to(device) if resident else images, labels.to(device), resident)

    return DeviceData(
        train=placed(dataset.train),
        val=placed(dataset.val),
        mean=mean.to(device),
        std=torch.where(std > 0, std, torch.ones_like(std)).to(device),
    )


def fits(dataset: Dataset, device: torch.device, share: float) -> bool:
    """Whether a data set leaves enough of a GPU's memory, of which a trial has this share, to train in."""
    if device.type != "cuda":
        return True
    needed = dataset.train.images.nbytes + dataset.val.images.nbytes
    return needed <= RESIDENT_SHARE * _own_bytes(device, share)


def _own_bytes(device: torch.device, share: float) -> float:
    """What torch may allocate of a GPU's memory, of which a trial has this share."""
    total = _total_bytes(device)
    return total if share >= 1 else max(share * total - CONTEXT_BYTES, 0.5 * share * total)


def _total_bytes(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).total_memory)


def _tensor(array: np.ndarray) -> torch.Tensor:
    with warnings.catch_warnings():
        # arrays from Ray's object store are read-only, and torch warns; nothing here writes to them
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
