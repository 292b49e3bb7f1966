"""The shared memory that holds the data set once for all workers of a machine: Ray's object store."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from search.settings import UsageError
from trainables.data import Dataset

MEBIBYTE = 2**20
SHARED = Path("/dev/shm")  # noqa: S108  only its size is looked at
USED_BY_RAY = 100 * MEBIBYTE
"""What Ray keeps in the object store besides the data set, at most."""
LEAST = 512 * MEBIBYTE
"""With less shared memory than this, such as the 64 MiB of a container by default, a file takes its place."""
LEAST_OF_RAY = 80 * MEBIBYTE
"""Ray refuses to start with much less."""
MOST_SHARE = 0.8
"""Of what is free; the rest is for the workers."""


def data_bytes(dataset: Dataset) -> int:
    """What the training and the validation part take."""
    return sum(part.images.nbytes + part.labels.nbytes for part in (dataset.train, dataset.val))


def store_bytes() -> int:
    """How large the object store may grow. Nothing of it is taken before something is put there.

    The same limits as Ray's own: it takes a file in its temporary folder where shared memory is too small.
    """
    free = shutil.disk_usage(SHARED).free if SHARED.is_dir() else 0
    if free < LEAST:
        free = shutil.disk_usage(tempfile.gettempdir()).free
    available = _available_bytes()
    return max(LEAST_OF_RAY, int(MOST_SHARE * (free if available is None else min(free, available))))


def check_room(dataset: Dataset, room: int | None = None, *, weights: int = 0, copies: int = 1) -> None:
    """Raise UsageError, with the figures and the way out, where the data set does not fit the object store.

    `room` in bytes, None is what this machine has; `weights` in bytes lie there too. `copies`: a refit takes
    a second one, with training and validation images together.
    """
    room = store_bytes() if room is None else room
    needed, room = copies * data_bytes(dataset), max(0, room - USED_BY_RAY - weights)
    if needed > room:
        size, count = dataset.train.images.shape[1], len(dataset.train) + len(dataset.val)
        fits = int(size * (room / needed) ** 0.5)
        smaller = f"--image-size {fits} or less, or " if 4 <= fits < size else ""
        raise UsageError(
            f"the data set does not fit the memory that trials share: {count:,} images of {size} px need "
            f"{needed / 2**30:.1f} GiB, and {room / 2**30:.1f} GiB are free; give {smaller}fewer images"
        )


def _available_bytes(
    system: Path = Path("/proc/meminfo"), container: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Memory that is not in use, of the machine or of the container's share of it; None where none tells."""
    limits = []
    try:
        lines = system.read_text(encoding="ascii").splitlines()
        limits += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except OSError:
        pass
    try:
        most, used = (int((container / f"memory.{name}").read_text()) for name in ("max", "current"))
        words = (container / "memory.stat").read_text(encoding="ascii").split()
        kinds = dict(zip(words[::2], map(int, words[1::2]), strict=False))
        # pages of files are given up when memory is short
        used -= kinds.get("inactive_file", 0) + kinds.get("active_file", 0)
        limits.append(max(0, most - used))
    except (OSError, ValueError):  # `max`: no limit
        pass
    return min(limits, default=None)
