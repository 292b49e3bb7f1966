"""The shared memory that holds the data set once for all workers of a machine: Ray's object store."""

from __future__ import annotations

import shutil
from pathlib import Path

from search.settings import UsageError
from trainables.data import Dataset

MEBIBYTE = 2**20
SHARED = Path("/dev/shm")  # noqa: S108  # only its size is looked at


def data_bytes(dataset: Dataset) -> int:
    """What the training and the validation part take."""
    return sum(part.images.nbytes + part.labels.nbytes for part in (dataset.train, dataset.val))


def store_bytes(data: int) -> int:
    """How large the object store must be for so many bytes of data, and what else Ray keeps there."""
    return int(1.2 * data) + 200 * MEBIBYTE


def check_room(dataset: Dataset, room: int | None = None) -> None:
    """Raise UsageError, with the figures and the way out, where the data set does not fit the object store.

    `room` in bytes; None is what this machine has free.
    """
    room = free_shared_bytes() if room is None else room
    needed = store_bytes(data_bytes(dataset))
    if room is not None and needed > room:
        size, count = dataset.train.images.shape[1], len(dataset.train) + len(dataset.val)
        fits = int(size * max(0.0, (room - 200 * MEBIBYTE) / (needed - 200 * MEBIBYTE)) ** 0.5)
        smaller = f"--image-size {fits} or less, or " if 4 <= fits < size else ""
        raise UsageError(
            f"the data set does not fit the memory that trials share: {count:,} images of {size} px need "
            f"{needed / 2**30:.1f} GiB, and {room / 2**30:.1f} GiB are free; give {smaller}fewer images"
        )


def free_shared_bytes() -> int | None:
    """Free shared memory that is in fact memory; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        return min(available, shutil.disk_usage(SHARED).free)
    except (OSError, StopIteration):
        return None
